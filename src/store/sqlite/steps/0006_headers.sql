-- Version 6: headers of tasks, "name: value" lines. NULL for all that have none; no index and no check, which each
-- claim and each completion would pay for.

ALTER TABLE {tasks} ADD COLUMN headers TEXT;

ALTER TABLE {finished} ADD COLUMN headers TEXT;

ALTER TABLE {followups} ADD COLUMN headers TEXT;

INSERT OR IGNORE INTO {schema} (version, compatible_from) VALUES (6, 4);
