-- Version 2: what is kept about attempts that run.

-- Requests to cancel a running task. Each counts for the one claim (task_id, lease) that ran
-- when it was made; what is asked of a claim that has ended is swept away.
CREATE TABLE IF NOT EXISTS {cancels} (
  task_id     BIGINT UNSIGNED   NOT NULL,
  lease       BIGINT UNSIGNED   NOT NULL,
  PRIMARY KEY (task_id, lease)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC;

-- What running attempts told of their progress; counts while the task has this lease.
CREATE TABLE IF NOT EXISTS {progress} (
  task_id     BIGINT UNSIGNED   NOT NULL,
  lease       BIGINT UNSIGNED   NOT NULL,
  done        BIGINT            NOT NULL,
  total       BIGINT            NOT NULL,
  note        VARBINARY(255)    NOT NULL,
  told_at     DATETIME(6)       NOT NULL,
  PRIMARY KEY (task_id, lease)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC;

INSERT IGNORE INTO {schema} (version) VALUES (2);
