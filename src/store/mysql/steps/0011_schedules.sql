-- Version 11: schedules, and what came of each of their times.

-- One row a schedule. next_at NULL: whoever sees it computes it, so plain SQL writes NULL there when it changes spec or
-- zone. error: spec or zone is wrong, or a task could not be made; nothing comes until it is NULL again. misfire: 0 once,
-- 1 skip, 2 all. overlap: 0 skip, 1 allow, 2 queue. zone_at: when the zone's file by which next_at was computed was
-- written, in microseconds. task_id: the last task that came of it.
CREATE TABLE IF NOT EXISTS {schedules} (
  name        VARCHAR(100) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  spec        VARCHAR(255) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  zone        VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL DEFAULT 'UTC',
  next_at     DATETIME(6)       NULL,
  zone_at     BIGINT            NULL,
  last_at     DATETIME(6)       NULL,
  task_id     BIGINT UNSIGNED   NULL,
  starts_at   DATETIME(6)       NULL,
  ends_at     DATETIME(6)       NULL,
  paused_at   DATETIME(6)       NULL,
  paused_why  VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL,
  misfire     TINYINT UNSIGNED  NOT NULL DEFAULT 0,
  overlap     TINYINT UNSIGNED  NOT NULL DEFAULT 0,
  jitter_us   BIGINT UNSIGNED   NOT NULL DEFAULT 0,
  queue       VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL DEFAULT 'default',
  priority    TINYINT           NOT NULL DEFAULT 0,
  max_retries SMALLINT UNSIGNED NOT NULL DEFAULT 10,
  timeout_ms  BIGINT UNSIGNED   NOT NULL DEFAULT 60000,
  type        VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  payload     LONGBLOB          NOT NULL DEFAULT (''),
  headers     VARBINARY(4096)   NULL,
  source      VARCHAR(100) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL,
  error       VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL,
  changed_at  DATETIME(6)       NOT NULL DEFAULT (UTC_TIMESTAMP(6)),
  PRIMARY KEY (name),
  KEY due (next_at),
  CHECK (LENGTH(name) > 0 AND name NOT REGEXP '[^A-Za-z0-9_.:/-]'),
  CHECK (misfire <= 2 AND overlap <= 2 AND jitter_us <= 86400000000),
  CHECK (LENGTH(queue) > 0 AND queue NOT REGEXP '[^A-Za-z0-9_.:/-]'),
  CHECK (priority BETWEEN -100 AND 100 AND max_retries <= 1000 AND timeout_ms BETWEEN 1000 AND 315360000000),
  CHECK (LENGTH(type) BETWEEN 1 AND 255 AND INSTR(type, CHAR(0)) = 0)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC;

-- The key is why no time comes twice. task_id NULL: nothing was added, as the task before was still there.
CREATE TABLE IF NOT EXISTS {firings} (
  name        VARCHAR(100) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  due_at      DATETIME(6)       NOT NULL,
  task_id     BIGINT UNSIGNED   NULL,
  made_at     DATETIME(6)       NOT NULL DEFAULT (UTC_TIMESTAMP(6)),
  PRIMARY KEY (name, due_at)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC;

INSERT IGNORE INTO {schema} (version, compatible_from) VALUES (11, 4);
