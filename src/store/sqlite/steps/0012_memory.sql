-- Version 12: what is remembered of tasks: attempts, results, logs, tags, statistics; and indexes for searching the history.
-- A row of the first four whose task is neither in {tasks} nor in {finished} is rubbish, which workers delete.

-- The newest attempts of a task that did not end well. outcome: 1 retry, 2 dead, 3 crash, 4 cancelled, 5 expired.
CREATE TABLE IF NOT EXISTS {attempts} (
  task_id     INTEGER NOT NULL,
  generation  INTEGER NOT NULL,
  outcome     INTEGER NOT NULL,
  attempt     INTEGER NOT NULL,
  started_at  INTEGER NULL,
  ended_at    INTEGER NOT NULL
              DEFAULT (CAST(strftime('%s','now') AS INTEGER)*1000000 + CAST(substr(strftime('%f','now'),4) AS INTEGER)*1000),
  worker      TEXT    NULL,
  error       BLOB    NULL,
  PRIMARY KEY (task_id, generation)
) WITHOUT ROWID;

-- A done task that is kept until then, whoever purges, and its result; NULL: it left none.
CREATE TABLE IF NOT EXISTS {results} (
  task_id     INTEGER PRIMARY KEY,
  result      BLOB    NULL,
  made_at     INTEGER NOT NULL
              DEFAULT (CAST(strftime('%s','now') AS INTEGER)*1000000 + CAST(substr(strftime('%f','now'),4) AS INTEGER)*1000),
  keep_until  INTEGER NOT NULL
);

CREATE INDEX IF NOT EXISTS "{prefix}results_keep" ON {results} (keep_until);

CREATE TABLE IF NOT EXISTS {tags} (
  tag         BLOB    NOT NULL CHECK (typeof(tag) = 'blob' AND length(tag) BETWEEN 1 AND 64),
  task_id     INTEGER NOT NULL CHECK (typeof(task_id) = 'integer'),
  PRIMARY KEY (tag, task_id)
) WITHOUT ROWID;

CREATE INDEX IF NOT EXISTS "{prefix}tags_task" ON {tags} (task_id);

-- level: as of nq_log_level.
CREATE TABLE IF NOT EXISTS {logs} (
  task_id     INTEGER NOT NULL,
  generation  INTEGER NOT NULL,
  seq         INTEGER NOT NULL,
  at          INTEGER NOT NULL,
  level       INTEGER NOT NULL,
  line        BLOB    NOT NULL,
  PRIMARY KEY (task_id, generation, seq)
) WITHOUT ROWID;

-- What workers did, by minute (later by hour), queue and type. Each worker has rows of its own, so that none waits for
-- another. The histograms have a 4-byte count for each power of two of microseconds, the lowest byte first.
CREATE TABLE IF NOT EXISTS {minutes} (
  at          INTEGER NOT NULL,
  worker      INTEGER NOT NULL,
  queue       TEXT    NOT NULL,
  type        TEXT    NOT NULL,
  done        INTEGER NOT NULL DEFAULT 0,
  retried     INTEGER NOT NULL DEFAULT 0,
  dead        INTEGER NOT NULL DEFAULT 0,
  cancelled   INTEGER NOT NULL DEFAULT 0,
  snoozed     INTEGER NOT NULL DEFAULT 0,
  wait_us     INTEGER NOT NULL DEFAULT 0,
  run_us      INTEGER NOT NULL DEFAULT 0,
  wait_hist   BLOB    NOT NULL DEFAULT x'',
  run_hist    BLOB    NOT NULL DEFAULT x'',
  PRIMARY KEY (at, worker, queue, type)
) WITHOUT ROWID;

CREATE INDEX IF NOT EXISTS "{prefix}finished_history" ON {finished} (queue, state, finished_at);

CREATE INDEX IF NOT EXISTS "{prefix}finished_by_type" ON {finished} (type, finished_at);

INSERT OR IGNORE INTO {schema} (version, compatible_from) VALUES (12, 4);
