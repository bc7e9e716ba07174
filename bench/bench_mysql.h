/* SPDX-License-Identifier: MIT */
/* What the parts that talk to MariaDB by hand share. */
#ifndef NQ_BENCH_MYSQL_H
#define NQ_BENCH_MYSQL_H

#include <mysql.h>

#include "bench.h"

void bench_mysql_die(MYSQL *my, const char *what);
MYSQL *bench_mysql_connect(const bench *b, const char *database);
void bench_mysql_do(MYSQL *my, const char *sql);
void bench_mysql_settle(const bench *b);
void bench_mysql_ask(MYSQL *my, const char *sql, char *out, size_t size);

#endif
