# SPDX-License-Identifier: MIT
"""What the database itself saw: triggers that write each committed change of a task into a table beside it.

The tables' owner asks for no triggers on them (docs/schema.md); a test may. The rows commit and roll back with
the change they tell of, so they are what took effect, while the history tells what the processes believed.
"""

# name of a trigger: (event, table, what, expressions for the columns below)
COLUMNS = "what, id, gen, lease, attempts, crashes, run_at, was_state, was_lease, was_run_at, ukey, name"
TASK = "{r}.id, {r}.generation, {r}.lease, {r}.attempts, {r}.crashes, {r_run}"
NONE = "NULL, NULL, NULL"
TRIGGERS = {
    "ti": ("INSERT", "nanoq_tasks", "'insert'", TASK, NONE, "{ukey_new}", "NULL"),
    "tu": ("UPDATE", "nanoq_tasks",
           "CASE WHEN NEW.state = 0 THEN 'back' WHEN NEW.lease <> OLD.lease THEN 'claim' ELSE 'touch' END",
           TASK, "OLD.state, OLD.lease, {was_run}", "NULL", "NULL"),
    "td": ("DELETE", "nanoq_tasks", "'delete'", TASK, "OLD.state, OLD.lease, {was_run}", "{ukey_old}", "NULL"),
    "fi": ("INSERT", "nanoq_finished", "CASE NEW.state WHEN 2 THEN 'done' WHEN 3 THEN 'dead' ELSE 'cancelled' END",
           "{r}.id, {r}.generation, 0, {r}.attempts, {r}.crashes, {r_run}", NONE, "NULL", "NULL"),
    "ri": ("INSERT", "nanoq_results", "'result'", "{r}.task_id, 0, 0, 0, 0, NULL", NONE, "NULL",
           "CASE WHEN NEW.result IS NULL THEN NULL ELSE HEX(SUBSTR(NEW.result, 1, 100)) END"),
    "pi": ("INSERT", "nanoq_workers", "'join'", "{r}.id, 0, 0, 0, 0, NULL", NONE, "NULL", "NEW.name"),
    "pd": ("DELETE", "nanoq_workers", "'gone'", "{r}.id, 0, 0, 0, 0, NULL", NONE, "NULL", "OLD.name"),
}

# seq grows with time, over restarts too; an AUTO_INCREMENT would bring locks of its own into play.
MYSQL = {
    "table": "CREATE TABLE fault_audit (seq BIGINT UNSIGNED PRIMARY KEY, at BIGINT, what VARCHAR(12), id BIGINT, "
             "gen BIGINT, lease BIGINT UNSIGNED, attempts INT, crashes INT, run_at BIGINT, was_state INT, "
             "was_lease BIGINT UNSIGNED, was_run_at BIGINT, ukey VARCHAR(64), name VARCHAR(255)) ENGINE=InnoDB;"
             "CREATE TABLE fault_orders (k VARCHAR(100) PRIMARY KEY) ENGINE=InnoDB;",
    "seq": ("seq, ", "UUID_SHORT(), "),
    "now": "TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6))",
    "us": "TIMESTAMPDIFF(MICROSECOND, '1970-01-01', %s)",
    "ukey": "HEX(%s.unique_key)",
    "trigger": "CREATE TRIGGER fault_{name} AFTER {event} ON {table} FOR EACH ROW {insert};",
}
SQLITE = {
    "table": "CREATE TABLE fault_audit (seq INTEGER PRIMARY KEY AUTOINCREMENT, at, what, id, gen, lease, attempts, "
             "crashes, run_at, was_state, was_lease, was_run_at, ukey, name);"
             "CREATE TABLE fault_orders (k TEXT PRIMARY KEY);",
    "seq": ("", ""),
    "now": "CAST(strftime('%s','now') AS INTEGER)*1000000 + CAST(substr(strftime('%f','now'),4) AS INTEGER)*1000",
    "us": "%s",
    "ukey": "CASE WHEN {r}.unique_key IS NULL THEN NULL ELSE {r}.type || ':' || hex({r}.payload) END",
    "trigger": "CREATE TRIGGER fault_{name} AFTER {event} ON {table} BEGIN {insert}; END;",
}


def sql(mysql, triggers=True):
    """The statements that make the tables and triggers."""
    d = MYSQL if mysql else SQLITE
    out = [d["table"]]
    for name, (event, table, what, task, was, ukey, label) in TRIGGERS.items() if triggers else ():
        r = "OLD" if event == "DELETE" else "NEW"
        key = {"{ukey_new}": "NEW", "{ukey_old}": "OLD"}.get(ukey)
        if key:
            ukey = d["ukey"] % key if mysql else d["ukey"].format(r=key)
        task = task.format(r=r, r_run=d["us"] % (r + ".run_at")) if "{r_run}" in task else task.format(r=r)
        was = was.format(was_run=d["us"] % "OLD.run_at")
        insert = (f"INSERT INTO fault_audit ({d['seq'][0]}at, {COLUMNS}) "
                  f"VALUES ({d['seq'][1]}{d['now']}, {what}, {task}, {was}, {ukey}, {label})")
        out.append(d["trigger"].format(name=name, event=event, table=table, insert=insert))
    return "\n".join(out)


FIELDS = ["seq", "at"] + COLUMNS.split(", ")
SELECT = "SELECT " + ", ".join(FIELDS) + " FROM fault_audit ORDER BY seq"
LIVE = "SELECT id, state, generation, attempts, crashes, lease FROM nanoq_tasks ORDER BY id"
FINISHED = "SELECT id, state, generation, attempts, crashes, 0 FROM nanoq_finished ORDER BY id"
RESULTS = "SELECT task_id, HEX(result) FROM nanoq_results WHERE result IS NOT NULL"
ROW = ["id", "state", "gen", "attempts", "crashes", "lease"]


def rows(result, fields):
    """Rows of text or numbers as dictionaries; names and keys stay text."""
    out = []
    for row in result:
        entry = {}
        for field, value in zip(fields, row):
            if value is None or value == "NULL":
                entry[field] = None
            elif field in ("what", "ukey", "name"):
                entry[field] = value
            else:
                entry[field] = int(value)
        out.append(entry)
    return out
