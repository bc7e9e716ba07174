-- Version 7: the locks under which limited queues and groups are claimed.

-- One row for each queue or group that has been claimed under a limit: who has it locked counts what runs, and claims.
-- It holds no count of what runs, so nothing is wrong when it is deleted. not_before: nothing is claimed before then.
-- grants is written on Galera, where a lock is of one node only and two writers of a row are what is noticed.
CREATE TABLE IF NOT EXISTS {gates} (
  queue        VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  not_before   DATETIME(6) NULL,
  grants       BIGINT UNSIGNED NOT NULL DEFAULT 0,
  PRIMARY KEY (queue)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC;

INSERT IGNORE INTO {schema} (version, compatible_from) VALUES (7, 4);
