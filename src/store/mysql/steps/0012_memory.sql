-- Version 12: what is remembered of tasks: attempts, results, logs, tags, statistics; and indexes for searching the history.
-- A row of the first four whose task is neither in {tasks} nor in {finished} is rubbish, which workers delete.

-- The newest attempts of a task that did not end well. outcome: 1 retry, 2 dead, 3 crash, 4 cancelled, 5 expired.
CREATE TABLE IF NOT EXISTS {attempts} (
  task_id     BIGINT UNSIGNED   NOT NULL,
  generation  INT UNSIGNED      NOT NULL,
  outcome     TINYINT UNSIGNED  NOT NULL,
  attempt     SMALLINT UNSIGNED NOT NULL,
  started_at  DATETIME(6)       NULL,
  ended_at    DATETIME(6)       NOT NULL DEFAULT (UTC_TIMESTAMP(6)),
  worker      VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL,
  error       BLOB              NULL,
  PRIMARY KEY (task_id, generation)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC;

-- A done task that is kept until then, whoever purges, and its result; NULL: it left none.
CREATE TABLE IF NOT EXISTS {results} (
  task_id     BIGINT UNSIGNED   NOT NULL,
  result      LONGBLOB          NULL,
  made_at     DATETIME(6)       NOT NULL DEFAULT (UTC_TIMESTAMP(6)),
  keep_until  DATETIME(6)       NOT NULL,
  PRIMARY KEY (task_id),
  KEY keep_until (keep_until)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC;

CREATE TABLE IF NOT EXISTS {tags} (
  tag         VARBINARY(64)     NOT NULL,
  task_id     BIGINT UNSIGNED   NOT NULL,
  PRIMARY KEY (tag, task_id),
  KEY task_id (task_id)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC;

-- level: as of nq_log_level.
CREATE TABLE IF NOT EXISTS {logs} (
  task_id     BIGINT UNSIGNED   NOT NULL,
  generation  INT UNSIGNED      NOT NULL,
  seq         INT UNSIGNED      NOT NULL,
  at          DATETIME(6)       NOT NULL,
  level       TINYINT UNSIGNED  NOT NULL,
  line        VARBINARY(4096)   NOT NULL,
  PRIMARY KEY (task_id, generation, seq)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC;

-- What workers did, by minute (later by hour), queue and type. Each worker has rows of its own, so that none waits for
-- another. The histograms have a 4-byte count for each power of two of microseconds, the lowest byte first.
CREATE TABLE IF NOT EXISTS {minutes} (
  at          DATETIME          NOT NULL,
  worker      BIGINT UNSIGNED   NOT NULL,
  queue       VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  type        VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  done        BIGINT UNSIGNED   NOT NULL DEFAULT 0,
  retried     BIGINT UNSIGNED   NOT NULL DEFAULT 0,
  dead        BIGINT UNSIGNED   NOT NULL DEFAULT 0,
  cancelled   BIGINT UNSIGNED   NOT NULL DEFAULT 0,
  snoozed     BIGINT UNSIGNED   NOT NULL DEFAULT 0,
  wait_us     BIGINT UNSIGNED   NOT NULL DEFAULT 0,
  run_us      BIGINT UNSIGNED   NOT NULL DEFAULT 0,
  wait_hist   VARBINARY(256)    NOT NULL DEFAULT '',
  run_hist    VARBINARY(256)    NOT NULL DEFAULT '',
  PRIMARY KEY (at, worker, queue, type)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC;

-- done-before: 1061
ALTER TABLE {finished} ADD INDEX history (queue, state, finished_at), ADD INDEX by_type (type, finished_at);

INSERT IGNORE INTO {schema} (version, compatible_from) VALUES (12, 4);
