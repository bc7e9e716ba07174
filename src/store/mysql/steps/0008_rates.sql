-- Version 8: rates of queues and groups.

-- tat: the time of the next start that a rate allows, in nanoseconds since 1970. not_before is rarely set: the index has
-- few entries that anybody asks for.
-- done-before: 1060 1061
ALTER TABLE {gates} ADD COLUMN tat BIGINT NOT NULL DEFAULT 0, ADD INDEX held (not_before);

INSERT IGNORE INTO {schema} (version, compatible_from) VALUES (8, 4);
