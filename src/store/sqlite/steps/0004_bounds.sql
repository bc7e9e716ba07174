-- Version 4: what claims and ends compute with has bounds. SQLite changes no CHECK: the tables are made anew.

PRAGMA legacy_alter_table = ON;

-- run_at below 10^13 (April 1970) is one in seconds or milliseconds. An id may be the last there is: then no row
-- can be added any more.
CREATE TABLE "{prefix}tasks_4" (
  id          INTEGER PRIMARY KEY AUTOINCREMENT CHECK (id BETWEEN 1 AND 4611686018427387903),
  queue       TEXT    NOT NULL DEFAULT 'default'
              CHECK (typeof(queue) = 'text' AND length(queue) BETWEEN 1 AND 64
              AND queue NOT GLOB '*[^A-Za-z0-9_.:/-]*' AND instr(queue, char(0)) = 0),
  state       INTEGER NOT NULL DEFAULT 0 CHECK (typeof(state) = 'integer' AND state IN (0, 1)),
  priority    INTEGER NOT NULL DEFAULT 0 CHECK (typeof(priority) = 'integer' AND priority BETWEEN -100 AND 100),
  run_at      INTEGER NOT NULL
              DEFAULT (CAST(strftime('%s','now') AS INTEGER)*1000000 + CAST(substr(strftime('%f','now'),4) AS INTEGER)*1000)
              CHECK (typeof(run_at) = 'integer' AND run_at BETWEEN 10000000000000 AND 253402300799999999),
  lease       INTEGER NOT NULL DEFAULT 0 CHECK (typeof(lease) = 'integer' AND lease >= 0),
  generation  INTEGER NOT NULL DEFAULT 0 CHECK (typeof(generation) = 'integer' AND generation BETWEEN 0 AND 2000000000),
  attempts    INTEGER NOT NULL DEFAULT 0 CHECK (typeof(attempts) = 'integer' AND attempts BETWEEN 0 AND 30000),
  crashes     INTEGER NOT NULL DEFAULT 0 CHECK (typeof(crashes) = 'integer' AND crashes BETWEEN 0 AND 30000),
  max_retries INTEGER NOT NULL DEFAULT 10 CHECK (typeof(max_retries) = 'integer' AND max_retries BETWEEN 0 AND 1000),
  timeout_ms  INTEGER NOT NULL DEFAULT 60000 CHECK (typeof(timeout_ms) = 'integer' AND timeout_ms BETWEEN 1000 AND 315360000000),
  created_at  INTEGER NOT NULL
              DEFAULT (CAST(strftime('%s','now') AS INTEGER)*1000000 + CAST(substr(strftime('%f','now'),4) AS INTEGER)*1000)
              CHECK (typeof(created_at) = 'integer' AND created_at BETWEEN 0 AND 253402300799999999),
  claimed_at  INTEGER NOT NULL DEFAULT 0 CHECK (typeof(claimed_at) = 'integer' AND claimed_at BETWEEN 0 AND 253402300799999999),
  type        TEXT    NOT NULL CHECK (typeof(type) = 'text'
              AND length(CAST(type AS BLOB)) BETWEEN 1 AND 255 AND instr(type, char(0)) = 0),
  unique_key  BLOB    DEFAULT 1 CHECK (CASE typeof(unique_key) WHEN 'integer' THEN unique_key = 1
              WHEN 'real' THEN 0 ELSE 1 END),
  payload     BLOB    NOT NULL DEFAULT x'',
  error       BLOB
);

-- Numbers and times are brought within bounds, what has no name that is allowed is buried.
INSERT OR REPLACE INTO {finished} (id, queue, state, priority, run_at, generation, attempts, crashes, max_retries,
  timeout_ms, created_at, finished_at, type, unique_key, payload, error)
  SELECT id, CAST(queue AS TEXT), 3, 0, 10000000000000, 0, 0, 0, 10, 60000, 0, CAST(strftime('%s','now') AS INTEGER) * 1000000,
  CAST(type AS TEXT), unique_key, payload, CAST('its queue or type was none that is allowed' AS BLOB) FROM {tasks}
  WHERE NOT (typeof(queue) = 'text' AND length(queue) BETWEEN 1 AND 64 AND queue NOT GLOB '*[^A-Za-z0-9_.:/-]*'
  AND instr(CAST(queue AS BLOB), x'00') = 0 AND typeof(type) = 'text' AND length(CAST(type AS BLOB)) BETWEEN 1 AND 255
  AND instr(CAST(type AS BLOB), x'00') = 0);

INSERT INTO "{prefix}tasks_4" (id, queue, state, priority, run_at, lease, generation, attempts, crashes, max_retries,
  timeout_ms, created_at, claimed_at, type, unique_key, payload, error)
  SELECT id, queue, CASE state WHEN 1 THEN 1 ELSE 0 END, MAX(-100, MIN(100, CAST(priority AS INTEGER))),
  MAX(10000000000000, MIN(253402300799999999, CAST(run_at AS INTEGER))), MAX(0, MIN(9223372036854775807, CAST(lease AS INTEGER))),
  MAX(0, MIN(2000000000, CAST(generation AS INTEGER))), MAX(0, MIN(30000, CAST(attempts AS INTEGER))), MAX(0, MIN(30000, CAST(crashes AS INTEGER))),
  MAX(0, MIN(1000, CAST(max_retries AS INTEGER))), MAX(1000, MIN(315360000000, CAST(timeout_ms AS INTEGER))), MAX(0, MIN(253402300799999999, CAST(created_at AS INTEGER))),
  MAX(0, MIN(253402300799999999, CAST(COALESCE(claimed_at, 0) AS INTEGER))), type, unique_key, payload, error FROM {tasks}
  WHERE id BETWEEN 1 AND 4611686018427387903 AND typeof(queue) = 'text' AND length(queue) BETWEEN 1 AND 64 AND queue NOT GLOB '*[^A-Za-z0-9_.:/-]*'
  AND instr(CAST(queue AS BLOB), x'00') = 0 AND typeof(type) = 'text' AND length(CAST(type AS BLOB)) BETWEEN 1 AND 255
  AND instr(CAST(type AS BLOB), x'00') = 0;

-- Ids go on where they were; but for one that was near the last there is.
INSERT INTO sqlite_sequence (name, seq) SELECT '{prefix}tasks_4', 0
  WHERE NOT EXISTS (SELECT 1 FROM sqlite_sequence WHERE name = '{prefix}tasks_4');

UPDATE sqlite_sequence SET seq = MAX(seq, COALESCE((SELECT MAX(seq) FROM sqlite_sequence WHERE name = '{prefix}tasks'
  AND seq <= 4611686018427387903), 0)) WHERE name = '{prefix}tasks_4';

DROP TABLE {tasks};

ALTER TABLE "{prefix}tasks_4" RENAME TO {tasks};

CREATE INDEX "{prefix}tasks_claim" ON {tasks} (queue, state, priority, run_at, id);

-- unique_key 1: unique by payload; NULL: not unique; text or bytes: unique by these.
CREATE UNIQUE INDEX "{prefix}tasks_unique" ON {tasks} (type,
  CASE typeof(unique_key) WHEN 'integer' THEN CAST(payload AS BLOB) ELSE CAST(unique_key AS BLOB) END)
  WHERE unique_key IS NOT NULL;

CREATE TABLE "{prefix}followups_4" (
  id          INTEGER PRIMARY KEY AUTOINCREMENT CHECK (id BETWEEN 1 AND 4611686018427387903),
  task_id     INTEGER NOT NULL CHECK (typeof(task_id) = 'integer'),
  queue       TEXT    NOT NULL CHECK (typeof(queue) = 'text' AND length(queue) BETWEEN 1 AND 64
              AND queue NOT GLOB '*[^A-Za-z0-9_.:/-]*' AND instr(queue, char(0)) = 0),
  priority    INTEGER NOT NULL CHECK (typeof(priority) = 'integer' AND priority BETWEEN -100 AND 100),
  run_at      INTEGER NOT NULL CHECK (typeof(run_at) = 'integer' AND run_at BETWEEN 10000000000000 AND 253402300799999999),
  max_retries INTEGER NOT NULL CHECK (typeof(max_retries) = 'integer' AND max_retries BETWEEN 0 AND 1000),
  timeout_ms  INTEGER NOT NULL CHECK (typeof(timeout_ms) = 'integer' AND timeout_ms BETWEEN 1000 AND 315360000000),
  created_at  INTEGER NOT NULL CHECK (typeof(created_at) = 'integer' AND created_at BETWEEN 0 AND 253402300799999999),
  type        TEXT    NOT NULL CHECK (typeof(type) = 'text'
              AND length(CAST(type AS BLOB)) BETWEEN 1 AND 255 AND instr(type, char(0)) = 0),
  unique_key  BLOB    NOT NULL CHECK (CASE typeof(unique_key) WHEN 'integer' THEN unique_key = 1
              WHEN 'real' THEN 0 ELSE 1 END),
  payload     BLOB    NOT NULL
);

-- Of what has no name that is allowed no task could ever be made.
INSERT INTO "{prefix}followups_4" (id, task_id, queue, priority, run_at, max_retries, timeout_ms, created_at, type,
  unique_key, payload)
  SELECT id, CAST(task_id AS INTEGER), queue, MAX(-100, MIN(100, CAST(priority AS INTEGER))), MAX(10000000000000, MIN(253402300799999999, CAST(run_at AS INTEGER))),
  MAX(0, MIN(1000, CAST(max_retries AS INTEGER))), MAX(1000, MIN(315360000000, CAST(timeout_ms AS INTEGER))), MAX(0, MIN(253402300799999999, CAST(created_at AS INTEGER))), type,
  unique_key, payload FROM {followups}
  WHERE id BETWEEN 1 AND 4611686018427387903 AND typeof(queue) = 'text' AND length(queue) BETWEEN 1 AND 64 AND queue NOT GLOB '*[^A-Za-z0-9_.:/-]*'
  AND instr(CAST(queue AS BLOB), x'00') = 0 AND typeof(type) = 'text' AND length(CAST(type AS BLOB)) BETWEEN 1 AND 255
  AND instr(CAST(type AS BLOB), x'00') = 0
  AND CASE typeof(unique_key) WHEN 'integer' THEN unique_key = 1 WHEN 'real' THEN 0 ELSE 1 END;

DROP TABLE {followups};

ALTER TABLE "{prefix}followups_4" RENAME TO {followups};

CREATE INDEX "{prefix}followups_key" ON {followups} (type,
  CASE typeof(unique_key) WHEN 'integer' THEN CAST(payload AS BLOB) ELSE CAST(unique_key AS BLOB) END);

PRAGMA legacy_alter_table = OFF;

INSERT OR IGNORE INTO {schema} (version, compatible_from) VALUES (4, 4);
