-- Version 5: settings of queues, and what workers say of themselves.

-- One row a name: 'mail' is the queue with all its groups together, 'mail//*' each group by itself, 'mail//7' that
-- group. What is NULL is not set. Workers read the table twice a second; plain SQL may write it.
CREATE TABLE IF NOT EXISTS {queues} (
  name         TEXT    NOT NULL CHECK (typeof(name) = 'text' AND length(name) BETWEEN 1 AND 64
               AND name NOT GLOB '*[^A-Za-z0-9_.:/*-]*' AND instr(CAST(name AS BLOB), x'00') = 0),
  type         TEXT    NULL CHECK (type IS NULL OR (typeof(type) = 'text'
               AND length(CAST(type AS BLOB)) BETWEEN 1 AND 255 AND instr(CAST(type AS BLOB), x'00') = 0)),
  paused_at    INTEGER NULL CHECK (paused_at IS NULL OR typeof(paused_at) = 'integer'),
  paused_why   TEXT    NULL,
  max_running  INTEGER NULL CHECK (max_running IS NULL OR (typeof(max_running) = 'integer' AND max_running >= 1)),
  rate         INTEGER NULL CHECK (rate IS NULL OR (typeof(rate) = 'integer' AND rate >= 1)),
  rate_us      INTEGER NULL CHECK (rate_us IS NULL OR (typeof(rate_us) = 'integer'
               AND rate_us BETWEEN 1 AND 315360000000000)),
  burst        INTEGER NULL CHECK (burst IS NULL OR (typeof(burst) = 'integer' AND burst BETWEEN 1 AND 1000000)),
  weight       INTEGER NULL CHECK (weight IS NULL OR (typeof(weight) = 'integer' AND weight BETWEEN 1 AND 1000)),
  ordered      INTEGER NULL CHECK (ordered IS NULL OR ordered IN (0, 1, 2)),
  dead_to      TEXT    NULL CHECK (dead_to IS NULL OR (typeof(dead_to) = 'text' AND length(dead_to) BETWEEN 1 AND 64
               AND dead_to NOT GLOB '*[^A-Za-z0-9_.:/-]*' AND instr(CAST(dead_to AS BLOB), x'00') = 0)),
  keep_done_us INTEGER NULL CHECK (keep_done_us IS NULL OR (typeof(keep_done_us) = 'integer' AND keep_done_us >= -1)),
  keep_dead_us INTEGER NULL CHECK (keep_dead_us IS NULL OR (typeof(keep_dead_us) = 'integer' AND keep_dead_us >= -1)),
  changed_at   INTEGER NOT NULL
               DEFAULT (CAST(strftime('%s','now') AS INTEGER)*1000000 + CAST(substr(strftime('%f','now'),4) AS INTEGER)*1000),
  PRIMARY KEY (name),
  CHECK ((rate IS NULL) = (rate_us IS NULL))
);

ALTER TABLE {workers} ADD COLUMN queues BLOB;

ALTER TABLE {workers} ADD COLUMN types BLOB;

ALTER TABLE {workers} ADD COLUMN concurrency INTEGER;

ALTER TABLE {workers} ADD COLUMN running INTEGER;

ALTER TABLE {workers} ADD COLUMN settings INTEGER;

ALTER TABLE {workers} ADD COLUMN version TEXT;

INSERT OR IGNORE INTO {schema} (version, compatible_from) VALUES (5, 4);
