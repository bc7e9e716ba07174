-- Version 4: what claims and ends compute with has bounds, and a row does not grow when it is claimed.

-- Rows that get past a check (MariaDB lets a session turn them off) are mended first, or the new ones could not be
-- added: numbers and times are brought within bounds, what has no name that is allowed is buried.
SET /*M!100600 check_constraint_checks = 0, */ @nanoq = 0;

UPDATE {tasks} SET lease = LEAST(lease, 9223372036854775807), generation = LEAST(generation, 2000000000),
  attempts = LEAST(attempts, 30000), crashes = LEAST(crashes, 30000), max_retries = LEAST(max_retries, 1000),
  timeout_ms = LEAST(GREATEST(timeout_ms, 1000), 315360000000), priority = LEAST(GREATEST(priority, -100), 100),
  run_at = GREATEST(run_at, '1970-01-01 00:00:00'), created_at = GREATEST(created_at, '1970-01-01 00:00:00')
  WHERE lease > 9223372036854775807 OR generation > 2000000000 OR attempts > 30000 OR crashes > 30000
  OR max_retries > 1000 OR timeout_ms NOT BETWEEN 1000 AND 315360000000 OR priority NOT BETWEEN -100 AND 100
  OR run_at < '1970-01-01' OR created_at < '1970-01-01';

REPLACE INTO {finished} (id, queue, state, priority, run_at, generation, attempts, crashes, max_retries, timeout_ms,
  created_at, type, payload, unique_key, error)
  SELECT id, queue, 3, priority, run_at, generation, attempts, crashes, max_retries, timeout_ms,
  created_at, type, payload, unique_key, 'its state, queue or type was none that is allowed' FROM {tasks}
  WHERE state > 1 OR LENGTH(queue) = 0 OR queue REGEXP '[^A-Za-z0-9_.:/-]'
  OR LENGTH(type) NOT BETWEEN 1 AND 255 OR INSTR(type, CHAR(0)) > 0;

DELETE FROM {tasks} WHERE state > 1 OR LENGTH(queue) = 0 OR queue REGEXP '[^A-Za-z0-9_.:/-]'
  OR LENGTH(type) NOT BETWEEN 1 AND 255 OR INSTR(type, CHAR(0)) > 0;

UPDATE {followups} SET max_retries = LEAST(max_retries, 1000),
  timeout_ms = LEAST(GREATEST(timeout_ms, 1000), 315360000000), priority = LEAST(GREATEST(priority, -100), 100),
  run_at = GREATEST(run_at, '1970-01-01 00:00:00'), created_at = GREATEST(created_at, '1970-01-01 00:00:00')
  WHERE max_retries > 1000 OR timeout_ms NOT BETWEEN 1000 AND 315360000000 OR priority NOT BETWEEN -100 AND 100
  OR run_at < '1970-01-01' OR created_at < '1970-01-01';

-- No task could ever be made of these.
DELETE FROM {followups} WHERE LENGTH(queue) = 0 OR queue REGEXP '[^A-Za-z0-9_.:/-]'
  OR LENGTH(type) NOT BETWEEN 1 AND 255 OR INSTR(type, CHAR(0)) > 0;

SET /*M!100600 check_constraint_checks = 1, */ @nanoq = 0;

-- claimed_at NULL grew by 8 bytes with each claim: a third of the drain. The times of tasks that run are carried over.
-- No check can name an AUTO_INCREMENT column: who may give ids is a matter of privileges. 1826, 3822: there is a
-- constraint of that name; 1060: a column; 1054: claimed_4 is claimed_at by now.
-- done-before: 1826 3822 1060
ALTER TABLE {tasks} ADD COLUMN claimed_4 DATETIME(6) NOT NULL DEFAULT '1970-01-01 00:00:00' AFTER created_at,
  ADD CONSTRAINT `{prefix}tasks_ranges` CHECK (lease <= 9223372036854775807 AND generation <= 2000000000
  AND attempts <= 30000 AND crashes <= 30000 AND run_at >= '1970-01-01' AND created_at >= '1970-01-01');

-- done-before: 1054
UPDATE {tasks} SET claimed_4 = claimed_at WHERE state = 1 AND claimed_at >= '1970-01-01';

-- done-before: 1054 1826 3822
ALTER TABLE {tasks} DROP COLUMN claimed_at,
  CHANGE COLUMN claimed_4 claimed_at DATETIME(6) NOT NULL DEFAULT '1970-01-01 00:00:00' AFTER created_at,
  ADD CONSTRAINT `{prefix}tasks_claimed` CHECK (claimed_at >= '1970-01-01');

-- done-before: 1826 3822
ALTER TABLE {followups} ADD CONSTRAINT `{prefix}followups_ranges` CHECK (max_retries <= 1000
  AND timeout_ms BETWEEN 1000 AND 315360000000 AND priority BETWEEN -100 AND 100
  AND run_at >= '1970-01-01' AND created_at >= '1970-01-01'
  AND LENGTH(queue) > 0 AND queue NOT REGEXP '[^A-Za-z0-9_.:/-]'
  AND LENGTH(type) BETWEEN 1 AND 255 AND INSTR(type, CHAR(0)) = 0);

-- Named locks are the server's: any account may take any of them. Those of workers have this in their names, so that
-- only accounts that may read this table know them.
-- done-before: 1060
ALTER TABLE {schema} ADD COLUMN secret CHAR(64) CHARACTER SET ascii COLLATE ascii_bin NULL;

INSERT IGNORE INTO {schema} (version, compatible_from, secret) VALUES (4, 4, SHA2(CONCAT(UUID(), RAND(), RAND(), NOW(6)
  /*!80013 , HEX(RANDOM_BYTES(32)) */ /*M!101000 , HEX(RANDOM_BYTES(32)) */
  /*M!100600 , (SELECT GROUP_CONCAT(VARIABLE_VALUE) FROM information_schema.GLOBAL_STATUS) */), 256));
