# SPDX-License-Identifier: MIT
"""What tests/fault/audit.py asks of triggers, read from a member's binary log: each committed change of a task, in order.

In a group with several primaries a session waits, before each statement, for what was committed before
(group_replication_consistency). In a statement that commits itself MySQL 9.7 does so before a trigger's INSERT too, with rows locked
that the statement has changed by then. When what it waits for needs one of those rows neither ends, and the whole member stands still,
for as long as a client waits for an answer. So there are no triggers in a group.
"""
import calendar
import glob
import re
import subprocess
import time

WHAT = {("INSERT", "nanoq_results"): "result", ("INSERT", "nanoq_workers"): "join", ("DELETE", "nanoq_workers"): "gone",
        ("INSERT", "nanoq_tasks"): "insert", ("DELETE", "nanoq_tasks"): "delete"}
ENDED = {2: "done", 3: "dead"}


def microseconds(text):
    """Of '2026-11-28 00:25:19.665629'."""
    whole, _, part = text.strip("'").partition(".")
    return calendar.timegm(time.strptime(whole, "%Y-%m-%d %H:%M:%S")) * 1_000_000 + int(part.ljust(6, "0"))


def changes(node):
    """(committed here at, INSERT or UPDATE or DELETE, table, row before, row after) of its database; values are text, or None. (Where it
    came from it was committed a little earlier; but what MySQL says of that may be before the statement's own time.)"""
    columns = {}
    for table, name in node.sql("SELECT TABLE_NAME, COLUMN_NAME FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = DATABASE() "
                                "ORDER BY TABLE_NAME, ORDINAL_POSITION"):
        columns.setdefault(table, []).append(name)
    argv = [node.cluster.program("bin/mysqlbinlog"), "--no-defaults", "--base64-output=DECODE-ROWS", "-v",
            *sorted(glob.glob(f"{node.dir}/data/binlog.0*"))]
    done = subprocess.run(argv, stdout=subprocess.PIPE, env=node.cluster.env, check=True)
    at, change, row = 0, None, {}
    for line in done.stdout.decode("latin-1").split("\n"):
        value = change and re.match(r"###   @(\d+)=(.*)$", line)
        if value:
            row[columns[change[2]][int(value[1]) - 1]] = None if value[2] == "NULL" else value[2]
        elif change and line in ("### WHERE", "### SET"):
            row = change[3 if line == "### WHERE" else 4]
        else:
            begun = re.match(r"### (INSERT|UPDATE|DELETE)(?: INTO| FROM)? `([^`]*)`\.`([^`]*)`", line)
            if change and (begun or not line.startswith("###")):
                yield change
                change = None
            if begun and begun[2] == node.cluster.name:
                change = (at, begun[1], begun[3], {}, {})
            stamp = re.search(r"immediate_commit_timestamp=(\d+)", line)
            at = int(stamp[1]) if stamp and not line.startswith("###") else at


def read(node):
    """As audit.rows() answers."""
    rows = []
    for at, kind, table, before, after in changes(node):
        row = after or before
        entry = dict.fromkeys(("was_state", "was_lease", "was_run_at", "ukey", "name"))
        entry.update(seq=len(rows), at=at, id=int(row.get("id") or row.get("task_id") or 0), lease=0, gen=0, attempts=0, crashes=0,
                     run_at=None, what=WHAT.get((kind, table)))
        if table in ("nanoq_tasks", "nanoq_finished"):
            entry.update(gen=int(row["generation"]), attempts=int(row["attempts"]), crashes=int(row["crashes"]),
                         run_at=microseconds(row["run_at"]))
        if table == "nanoq_tasks":
            entry["lease"] = int(row["lease"].split()[0])
            if before:
                entry.update(was_state=int(before["state"]), was_lease=int(before["lease"].split()[0]),
                             was_run_at=microseconds(before["run_at"]))
            if kind == "UPDATE":
                claimed = entry["lease"] != entry["was_lease"]
                entry["what"] = "back" if row["state"] == "0" else "claim" if claimed else "touch"
            else:
                entry["ukey"] = row["unique_key"]
        elif table == "nanoq_finished" and kind == "INSERT":
            entry["what"] = ENDED.get(int(row["state"]), "cancelled")
        elif table == "nanoq_workers":
            entry["name"] = row["name"].strip("'")
        if entry["what"]:
            rows.append(entry)
    return rows
