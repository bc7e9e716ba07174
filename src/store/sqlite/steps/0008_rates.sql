-- Version 8: rates of queues and groups.

-- tat: the time of the next start that a rate allows, in nanoseconds since 1970.
ALTER TABLE {gates} ADD COLUMN tat INTEGER NOT NULL DEFAULT 0;

-- rarely set, so that the index has few entries
CREATE INDEX IF NOT EXISTS "{prefix}gates_held" ON {gates} (not_before) WHERE not_before IS NOT NULL;

INSERT OR IGNORE INTO {schema} (version, compatible_from) VALUES (8, 4);
