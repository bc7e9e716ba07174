-- Version 1, MySQL 8.0.13+ and MariaDB 10.6+: the tables. What may be relied upon says docs/schema.md.
-- A step that was released is not changed any more. {prefix} is the table prefix.

-- Live tasks: waiting (state 0) and running (1). All times UTC. The claim index is the only one that a
-- claim changes. A plain INSERT of (type, payload) gets every default, the unique key included.
CREATE TABLE IF NOT EXISTS {tasks} (
  id          BIGINT UNSIGNED   NOT NULL AUTO_INCREMENT,
  queue       VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL DEFAULT 'default',
  state       TINYINT UNSIGNED  NOT NULL DEFAULT 0,
  priority    TINYINT           NOT NULL DEFAULT 0,
  run_at      DATETIME(6)       NOT NULL DEFAULT (UTC_TIMESTAMP(6)),
  lease       BIGINT UNSIGNED   NOT NULL DEFAULT 0,
  generation  INT UNSIGNED      NOT NULL DEFAULT 0,
  attempts    SMALLINT UNSIGNED NOT NULL DEFAULT 0,
  crashes     SMALLINT UNSIGNED NOT NULL DEFAULT 0,
  max_retries SMALLINT UNSIGNED NOT NULL DEFAULT 10,
  timeout_ms  BIGINT UNSIGNED   NOT NULL DEFAULT 60000,
  created_at  DATETIME(6)       NOT NULL DEFAULT (UTC_TIMESTAMP(6)),
  claimed_at  DATETIME(6)       NULL,
  type        VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  payload     LONGBLOB          NOT NULL DEFAULT (''),
  unique_key  BINARY(32)        NULL DEFAULT (UNHEX(SHA2(CONCAT(type, CHAR(0), payload), 256))),
  error       BLOB              NULL,
  PRIMARY KEY (id),
  UNIQUE KEY unique_key (unique_key),
  KEY claim (queue, state, priority, run_at, id),
  CHECK (queue = 'default' OR (LENGTH(queue) > 0 AND queue NOT REGEXP '[^A-Za-z0-9_.:/-]')),
  CHECK (state <= 1),
  CHECK (priority BETWEEN -100 AND 100),
  CHECK (max_retries <= 1000),
  CHECK (timeout_ms BETWEEN 1000 AND 315360000000),
  CHECK (LENGTH(type) BETWEEN 1 AND 255 AND INSTR(type, CHAR(0)) = 0)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC;

-- Ended tasks under the id they had: done (2), dead (3), cancelled (4). History never slows a claim.
CREATE TABLE IF NOT EXISTS {finished} (
  id          BIGINT UNSIGNED   NOT NULL,
  queue       VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  state       TINYINT UNSIGNED  NOT NULL,
  priority    TINYINT           NOT NULL,
  run_at      DATETIME(6)       NOT NULL,
  generation  INT UNSIGNED      NOT NULL,
  attempts    SMALLINT UNSIGNED NOT NULL,
  crashes     SMALLINT UNSIGNED NOT NULL,
  max_retries SMALLINT UNSIGNED NOT NULL,
  timeout_ms  BIGINT UNSIGNED   NOT NULL,
  created_at  DATETIME(6)       NOT NULL,
  finished_at DATETIME(6)       NOT NULL DEFAULT (UTC_TIMESTAMP(6)),
  type        VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  payload     LONGBLOB          NOT NULL,
  unique_key  BINARY(32)        NULL,
  error       BLOB              NULL,
  PRIMARY KEY (id),
  KEY retention (state, finished_at),
  CHECK (state BETWEEN 2 AND 4)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC;

-- Duplicates that were refused while the live task (task_id) may have begun: when it has ended, each becomes
-- a task of its own, but one task for a key. No unique key, so an INSERT here waits for nobody.
CREATE TABLE IF NOT EXISTS {followups} (
  id          BIGINT UNSIGNED   NOT NULL AUTO_INCREMENT,
  task_id     BIGINT UNSIGNED   NOT NULL,
  queue       VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  priority    TINYINT           NOT NULL,
  run_at      DATETIME(6)       NOT NULL,
  max_retries SMALLINT UNSIGNED NOT NULL,
  timeout_ms  BIGINT UNSIGNED   NOT NULL,
  created_at  DATETIME(6)       NOT NULL DEFAULT (UTC_TIMESTAMP(6)),
  type        VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  payload     LONGBLOB          NOT NULL,
  unique_key  BINARY(32)        NOT NULL,
  PRIMARY KEY (id),
  KEY followed (unique_key)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC;

-- Workers that are alive. beat counts heartbeats; only its changing matters, no clock is compared.
CREATE TABLE IF NOT EXISTS {processors} (
  id          BIGINT UNSIGNED   NOT NULL AUTO_INCREMENT,
  name        VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  beat        BIGINT UNSIGNED   NOT NULL DEFAULT 0,
  started_at  DATETIME(6)       NOT NULL DEFAULT (UTC_TIMESTAMP(6)),
  beat_at     DATETIME(6)       NOT NULL DEFAULT (UTC_TIMESTAMP(6)),
  PRIMARY KEY (id)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC;

-- One row for each step that was taken.
CREATE TABLE IF NOT EXISTS {schema} (
  version     INT UNSIGNED      NOT NULL,
  applied_at  DATETIME(6)       NOT NULL DEFAULT (UTC_TIMESTAMP(6)),
  PRIMARY KEY (version)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC;

-- Last: whoever sees this row sees all the tables.
INSERT IGNORE INTO {schema} (version) VALUES (1);
