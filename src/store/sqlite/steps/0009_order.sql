-- Version 9: order in groups.

-- head: the task of an ordered group that was claimed last. While it lives, nothing else of the group starts.
ALTER TABLE {gates} ADD COLUMN head INTEGER;

INSERT OR IGNORE INTO {schema} (version, compatible_from) VALUES (9, 4);
