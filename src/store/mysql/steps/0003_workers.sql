-- Version 3: a processor is called a worker; libraries that are older than the tables.

-- 1146: there is no such table any more, 1050: there is the new one.
-- done-before: 1146 1050
RENAME TABLE {processors} TO {workers};

-- A library of version V works with these tables while V is not below this, of the last step; NULL: with
-- the step's own version and later ones only.
-- done-before: 1060
ALTER TABLE {schema} ADD COLUMN compatible_from INT UNSIGNED NULL;

INSERT IGNORE INTO {schema} (version, compatible_from) VALUES (3, 3);
