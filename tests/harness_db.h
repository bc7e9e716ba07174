/* SPDX-License-Identifier: MIT */
/* The harness's own way to the databases, without the library under test. */
#ifndef NQ_TEST_HARNESS_DB_H
#define NQ_TEST_HARNESS_DB_H

#include "harness.h"

/* The server to make databases on: mysql://user[:password]@host:port/. False (and printed) when it does not
 * answer. */
bool harness_db_server(const char *url);
/* A fresh database for this process; name and url filled in. */
void harness_db_create(pid_t owner, char *name, size_t name_size, char *url, size_t url_size);
void harness_db_drop(const char *name);
/* Drop what tests that were killed left behind. */
void harness_db_sweep(pid_t owner);
/* Can the test's database be written within a second: does nobody hold the write lock of SQLite, or on a
 * server any row of a task or worker? */
bool harness_db_writable(void);

#endif
