-- Version 2: what is kept about attempts that run.

-- Requests to cancel a running task. Each counts for the one claim (task_id, lease) that ran
-- when it was made; what is asked of a claim that has ended is swept away.
CREATE TABLE IF NOT EXISTS {cancels} (
  task_id     INTEGER NOT NULL,
  lease       INTEGER NOT NULL,
  PRIMARY KEY (task_id, lease)
) WITHOUT ROWID;

-- What running attempts told of their progress; counts while the task has this lease.
CREATE TABLE IF NOT EXISTS {progress} (
  task_id     INTEGER NOT NULL,
  lease       INTEGER NOT NULL,
  done        INTEGER NOT NULL,
  total       INTEGER NOT NULL,
  note        BLOB    NOT NULL,
  told_at     INTEGER NOT NULL,
  PRIMARY KEY (task_id, lease)
) WITHOUT ROWID;

INSERT OR IGNORE INTO {schema} (version) VALUES (2);
