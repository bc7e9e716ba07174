-- Version 6: headers of tasks, "name: value" lines. NULL for all that have none; no index, no check and no default of
-- another kind, so that the column is added without a copy of the table.

-- done-before: 1060
ALTER TABLE {tasks} ADD COLUMN headers VARBINARY(4096) NULL;

-- done-before: 1060
ALTER TABLE {finished} ADD COLUMN headers VARBINARY(4096) NULL;

-- done-before: 1060
ALTER TABLE {followups} ADD COLUMN headers VARBINARY(4096) NULL;

INSERT IGNORE INTO {schema} (version, compatible_from) VALUES (6, 4);
