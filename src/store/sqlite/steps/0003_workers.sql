-- Version 3: a processor is called a worker; libraries that are older than the tables.

-- Views of other people's that name a table which is not there, or not yet, must not stop the renaming.
PRAGMA legacy_alter_table = ON;

ALTER TABLE {processors} RENAME TO {workers};

PRAGMA legacy_alter_table = OFF;

-- A library of version V works with these tables while V is not below this, of the last step; NULL: with
-- the step's own version and later ones only.
ALTER TABLE {schema} ADD COLUMN compatible_from INTEGER;

INSERT OR IGNORE INTO {schema} (version, compatible_from) VALUES (3, 3);
