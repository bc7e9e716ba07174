-- Version 5: settings of queues, and what workers say of themselves.

-- One row a name: 'mail' is the queue with all its groups together, 'mail//*' each group by itself, 'mail//7' that
-- group. What is NULL is not set. Workers read the table twice a second; plain SQL may write it.
CREATE TABLE IF NOT EXISTS {queues} (
  name         VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  type         VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL,
  paused_at    DATETIME(6)       NULL,
  paused_why   VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL,
  max_running  INT UNSIGNED      NULL,
  rate         INT UNSIGNED      NULL,
  rate_us      BIGINT UNSIGNED   NULL,
  burst        INT UNSIGNED      NULL,
  weight       SMALLINT UNSIGNED NULL,
  ordered      TINYINT UNSIGNED  NULL,
  dead_to      VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NULL,
  keep_done_us BIGINT            NULL,
  keep_dead_us BIGINT            NULL,
  changed_at   DATETIME(6)       NOT NULL DEFAULT (UTC_TIMESTAMP(6)),
  PRIMARY KEY (name),
  CHECK (LENGTH(name) > 0 AND name NOT REGEXP '[^A-Za-z0-9_.:/*-]'),
  CHECK (type IS NULL OR (LENGTH(type) BETWEEN 1 AND 255 AND INSTR(type, CHAR(0)) = 0)),
  CHECK (max_running >= 1),
  CHECK ((rate IS NULL) = (rate_us IS NULL) AND COALESCE(rate, 1) >= 1
    AND COALESCE(rate_us, 1) BETWEEN 1 AND 315360000000000),
  CHECK (burst BETWEEN 1 AND 1000000),
  CHECK (weight BETWEEN 1 AND 1000),
  CHECK (ordered <= 2),
  CHECK (dead_to IS NULL OR (LENGTH(dead_to) > 0 AND dead_to NOT REGEXP '[^A-Za-z0-9_.:/-]')),
  CHECK (keep_done_us >= -1 AND keep_dead_us >= -1)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC;

-- done-before: 1060
ALTER TABLE {workers} ADD COLUMN queues BLOB NULL, ADD COLUMN types BLOB NULL,
  ADD COLUMN concurrency INT UNSIGNED NULL, ADD COLUMN running INT UNSIGNED NULL,
  ADD COLUMN settings BIGINT UNSIGNED NULL, ADD COLUMN version VARCHAR(32) CHARACTER SET ascii COLLATE ascii_bin NULL;

INSERT IGNORE INTO {schema} (version, compatible_from) VALUES (5, 4);
