-- Version 1, SQLite 3.35+: the tables. What may be relied upon says docs/schema.md.
-- A step that was released is not changed any more. {prefix} is the table prefix.

-- Live tasks: waiting (state 0) and running (1). Times are microseconds since 1970, UTC. A plain INSERT of
-- (type, payload) gets every default. The CHECKs stand in for column types, which SQLite does not enforce.
CREATE TABLE IF NOT EXISTS {tasks} (
  id          INTEGER PRIMARY KEY AUTOINCREMENT,
  queue       TEXT    NOT NULL DEFAULT 'default'
              CHECK (typeof(queue) = 'text' AND length(queue) BETWEEN 1 AND 64
              AND queue NOT GLOB '*[^A-Za-z0-9_.:/-]*'),
  state       INTEGER NOT NULL DEFAULT 0 CHECK (state IN (0, 1)),
  priority    INTEGER NOT NULL DEFAULT 0
              CHECK (typeof(priority) = 'integer' AND priority BETWEEN -100 AND 100),
  run_at      INTEGER NOT NULL
              DEFAULT (CAST(strftime('%s','now') AS INTEGER)*1000000 + CAST(substr(strftime('%f','now'),4) AS INTEGER)*1000)
              CHECK (typeof(run_at) = 'integer'),
  lease       INTEGER NOT NULL DEFAULT 0 CHECK (typeof(lease) = 'integer'),
  generation  INTEGER NOT NULL DEFAULT 0,
  attempts    INTEGER NOT NULL DEFAULT 0 CHECK (typeof(attempts) = 'integer' AND attempts >= 0),
  crashes     INTEGER NOT NULL DEFAULT 0 CHECK (typeof(crashes) = 'integer' AND crashes >= 0),
  max_retries INTEGER NOT NULL DEFAULT 10
              CHECK (typeof(max_retries) = 'integer' AND max_retries BETWEEN 0 AND 1000),
  timeout_ms  INTEGER NOT NULL DEFAULT 60000
              CHECK (typeof(timeout_ms) = 'integer' AND timeout_ms BETWEEN 1000 AND 315360000000),
  created_at  INTEGER NOT NULL
              DEFAULT (CAST(strftime('%s','now') AS INTEGER)*1000000 + CAST(substr(strftime('%f','now'),4) AS INTEGER)*1000)
              CHECK (typeof(created_at) = 'integer'),
  claimed_at  INTEGER CHECK (typeof(claimed_at) IN ('integer', 'null')),
  type        TEXT    NOT NULL CHECK (typeof(type) = 'text'
              AND length(CAST(type AS BLOB)) BETWEEN 1 AND 255 AND instr(type, char(0)) = 0),
  unique_key  BLOB    DEFAULT 1 CHECK (CASE typeof(unique_key) WHEN 'integer' THEN unique_key = 1
              WHEN 'real' THEN 0 ELSE 1 END),
  payload     BLOB    NOT NULL DEFAULT x'',
  error       BLOB
);
CREATE INDEX IF NOT EXISTS "{prefix}tasks_claim" ON {tasks} (queue, state, priority, run_at, id);

-- unique_key 1: unique by payload; NULL: not unique; text or bytes: unique by these.
CREATE UNIQUE INDEX IF NOT EXISTS "{prefix}tasks_unique" ON {tasks} (type,
  CASE typeof(unique_key) WHEN 'integer' THEN CAST(payload AS BLOB) ELSE CAST(unique_key AS BLOB) END)
  WHERE unique_key IS NOT NULL;

-- Ended tasks under the id they had: done (2), dead (3), cancelled (4). History never slows a claim.
CREATE TABLE IF NOT EXISTS {finished} (
  id          INTEGER PRIMARY KEY,
  queue       TEXT    NOT NULL,
  state       INTEGER NOT NULL CHECK (state IN (2, 3, 4)),
  priority    INTEGER NOT NULL,
  run_at      INTEGER NOT NULL,
  generation  INTEGER NOT NULL,
  attempts    INTEGER NOT NULL,
  crashes     INTEGER NOT NULL,
  max_retries INTEGER NOT NULL,
  timeout_ms  INTEGER NOT NULL,
  created_at  INTEGER NOT NULL,
  finished_at INTEGER NOT NULL,
  type        TEXT    NOT NULL,
  unique_key  BLOB,
  payload     BLOB    NOT NULL,
  error       BLOB
);
CREATE INDEX IF NOT EXISTS "{prefix}finished_retention" ON {finished} (state, finished_at);

-- Duplicates that were refused while the live task (task_id) ran: when it has ended, each becomes a task of
-- its own, but one task for a key. unique_key as in the tasks.
CREATE TABLE IF NOT EXISTS {followups} (
  id          INTEGER PRIMARY KEY AUTOINCREMENT,
  task_id     INTEGER NOT NULL,
  queue       TEXT    NOT NULL,
  priority    INTEGER NOT NULL,
  run_at      INTEGER NOT NULL,
  max_retries INTEGER NOT NULL,
  timeout_ms  INTEGER NOT NULL,
  created_at  INTEGER NOT NULL,
  type        TEXT    NOT NULL,
  unique_key  BLOB    NOT NULL,
  payload     BLOB    NOT NULL
);
CREATE INDEX IF NOT EXISTS "{prefix}followups_key" ON {followups} (type,
  CASE typeof(unique_key) WHEN 'integer' THEN CAST(payload AS BLOB) ELSE CAST(unique_key AS BLOB) END);

-- Workers that are alive. beat counts heartbeats; only its changing matters, no clock is compared.
CREATE TABLE IF NOT EXISTS {processors} (
  id          INTEGER PRIMARY KEY AUTOINCREMENT,
  name        TEXT    NOT NULL,
  beat        INTEGER NOT NULL DEFAULT 0,
  started_at  INTEGER NOT NULL,
  beat_at     INTEGER NOT NULL
);

-- One row for each step that was taken.
CREATE TABLE IF NOT EXISTS {schema} (
  version     INTEGER PRIMARY KEY,
  applied_at  INTEGER NOT NULL
              DEFAULT (CAST(strftime('%s','now') AS INTEGER)*1000000 + CAST(substr(strftime('%f','now'),4) AS INTEGER)*1000)
);

-- Last: whoever sees this row sees all the tables.
INSERT OR IGNORE INTO {schema} (version) VALUES (1);
