-- Version 10: windows of unique keys.

-- A key, SHA-256 of the type, a zero and the data, that stays taken until then (microseconds since 1970), whatever becomes
-- of the task that took it.
CREATE TABLE IF NOT EXISTS {windows} (
  unique_key  BLOB    NOT NULL PRIMARY KEY CHECK (typeof(unique_key) = 'blob' AND length(unique_key) = 32),
  until_at    INTEGER NOT NULL CHECK (typeof(until_at) = 'integer'),
  task_id     INTEGER NOT NULL CHECK (typeof(task_id) = 'integer')
) WITHOUT ROWID;

CREATE INDEX IF NOT EXISTS "{prefix}windows_until" ON {windows} (until_at);

INSERT OR IGNORE INTO {schema} (version, compatible_from) VALUES (10, 4);
