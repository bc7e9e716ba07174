-- Version 7: the locks under which limited queues and groups are claimed.

-- SQLite has one writer, who needs no such lock: a row is here only where something is not to be claimed before a time.
CREATE TABLE IF NOT EXISTS {gates} (
  queue        TEXT    NOT NULL PRIMARY KEY,
  not_before   INTEGER,
  grants       INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;

INSERT OR IGNORE INTO {schema} (version, compatible_from) VALUES (7, 4);
