-- Version 10: windows of unique keys.

-- A key that stays taken until then, whatever becomes of the task that took it.
CREATE TABLE IF NOT EXISTS {windows} (
  unique_key  BINARY(32)        NOT NULL,
  until_at    DATETIME(6)       NOT NULL,
  task_id     BIGINT UNSIGNED   NOT NULL,
  PRIMARY KEY (unique_key),
  KEY until_at (until_at)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC;

INSERT IGNORE INTO {schema} (version, compatible_from) VALUES (10, 4);
