-- Version 11: schedules, and what came of each of their times.

-- One row a schedule. next_at NULL: whoever sees it computes it, so plain SQL writes NULL there when it changes spec or
-- zone. error: spec or zone is wrong, or a task could not be made; nothing comes until it is NULL again. misfire: 0 once,
-- 1 skip, 2 all. overlap: 0 skip, 1 allow, 2 queue. zone_at: when the zone's file by which next_at was computed was
-- written, in microseconds. task_id: the last task that came of it.
CREATE TABLE IF NOT EXISTS {schedules} (
  name         TEXT    NOT NULL CHECK (typeof(name) = 'text' AND length(name) BETWEEN 1 AND 100
               AND name NOT GLOB '*[^A-Za-z0-9_.:/-]*' AND instr(CAST(name AS BLOB), x'00') = 0),
  spec         TEXT    NOT NULL CHECK (typeof(spec) = 'text' AND length(CAST(spec AS BLOB)) <= 255),
  zone         TEXT    NOT NULL DEFAULT 'UTC' CHECK (typeof(zone) = 'text' AND length(CAST(zone AS BLOB)) <= 64),
  next_at      INTEGER NULL CHECK (next_at IS NULL OR typeof(next_at) = 'integer'),
  zone_at      INTEGER NULL CHECK (zone_at IS NULL OR typeof(zone_at) = 'integer'),
  last_at      INTEGER NULL CHECK (last_at IS NULL OR typeof(last_at) = 'integer'),
  task_id      INTEGER NULL CHECK (task_id IS NULL OR typeof(task_id) = 'integer'),
  starts_at    INTEGER NULL CHECK (starts_at IS NULL OR typeof(starts_at) = 'integer'),
  ends_at      INTEGER NULL CHECK (ends_at IS NULL OR typeof(ends_at) = 'integer'),
  paused_at    INTEGER NULL CHECK (paused_at IS NULL OR typeof(paused_at) = 'integer'),
  paused_why   TEXT    NULL,
  misfire      INTEGER NOT NULL DEFAULT 0 CHECK (misfire IN (0, 1, 2)),
  overlap      INTEGER NOT NULL DEFAULT 0 CHECK (overlap IN (0, 1, 2)),
  jitter_us    INTEGER NOT NULL DEFAULT 0 CHECK (typeof(jitter_us) = 'integer' AND jitter_us BETWEEN 0 AND 86400000000),
  queue        TEXT    NOT NULL DEFAULT 'default' CHECK (typeof(queue) = 'text' AND length(queue) BETWEEN 1 AND 64
               AND queue NOT GLOB '*[^A-Za-z0-9_.:/-]*' AND instr(CAST(queue AS BLOB), x'00') = 0),
  priority     INTEGER NOT NULL DEFAULT 0 CHECK (typeof(priority) = 'integer' AND priority BETWEEN -100 AND 100),
  max_retries  INTEGER NOT NULL DEFAULT 10 CHECK (typeof(max_retries) = 'integer' AND max_retries BETWEEN 0 AND 1000),
  timeout_ms   INTEGER NOT NULL DEFAULT 60000 CHECK (typeof(timeout_ms) = 'integer'
               AND timeout_ms BETWEEN 1000 AND 315360000000),
  type         TEXT    NOT NULL CHECK (typeof(type) = 'text' AND length(CAST(type AS BLOB)) BETWEEN 1 AND 255
               AND instr(CAST(type AS BLOB), x'00') = 0),
  payload      BLOB    NOT NULL DEFAULT x'',
  headers      TEXT    NULL,
  source       TEXT    NULL,
  error        TEXT    NULL,
  changed_at   INTEGER NOT NULL
               DEFAULT (CAST(strftime('%s','now') AS INTEGER)*1000000 + CAST(substr(strftime('%f','now'),4) AS INTEGER)*1000),
  PRIMARY KEY (name)
);

CREATE INDEX IF NOT EXISTS {prefix}schedules_due ON {schedules} (next_at);

-- The key is why no time comes twice. task_id NULL: nothing was added, as the task before was still there.
CREATE TABLE IF NOT EXISTS {firings} (
  name         TEXT    NOT NULL,
  due_at       INTEGER NOT NULL,
  task_id      INTEGER NULL,
  made_at      INTEGER NOT NULL
               DEFAULT (CAST(strftime('%s','now') AS INTEGER)*1000000 + CAST(substr(strftime('%f','now'),4) AS INTEGER)*1000),
  PRIMARY KEY (name, due_at)
) WITHOUT ROWID;

INSERT OR IGNORE INTO {schema} (version, compatible_from) VALUES (11, 4);
