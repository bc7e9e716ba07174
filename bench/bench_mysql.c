/* SPDX-License-Identifier: MIT */
/* Talking to MariaDB by hand. */
#include <mysql.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"
#include "bench_mysql.h"

void bench_mysql_die(MYSQL *my, const char *what)
{
    bench_die("bare SQL: %s: %s", what, mysql_error(my));
}

MYSQL *bench_mysql_connect(const bench *b, const char *database)
{
    MYSQL *my = mysql_init(NULL);
    if (!my ||
        !mysql_real_connect(my, NULL, "root", "", database, 0, b->mysql_socket, CLIENT_MULTI_STATEMENTS))
        bench_die("cannot connect to %s: %s", b->mysql_socket, my ? mysql_error(my) : "out of memory");
    return my;
}

/* One or several statements whose rows are of no interest. */
void bench_mysql_do(MYSQL *my, const char *sql)
{
    int more;
    if (mysql_query(my, sql))
        bench_mysql_die(my, sql);
    do {
        mysql_free_result(mysql_store_result(my));
        more = mysql_next_result(my);
        if (more > 0)
            bench_mysql_die(my, sql);
    } while (more == 0);
}

/* The last column of the first row; "" when there is none. */
void bench_mysql_ask(MYSQL *my, const char *sql, char *out, size_t size)
{
    MYSQL_ROW row;
    MYSQL_RES *r = NULL;
    if (mysql_query(my, sql) || !(r = mysql_store_result(my)))
        bench_mysql_die(my, sql);
    row = mysql_fetch_row(r);
    snprintf(out, size, "%s", row && row[mysql_num_fields(r) - 1] ? row[mysql_num_fields(r) - 1] : "");
    mysql_free_result(r);
}

double bench_mysql_status(const bench *b, const char *name)
{
    char sql[128], value[64];
    MYSQL *my = bench_mysql_connect(b, NULL);
    snprintf(sql, sizeof sql, "SHOW GLOBAL STATUS LIKE '%s'", name);
    bench_mysql_ask(my, sql, value, sizeof value);
    mysql_close(my);
    return strtod(value, NULL);
}

void bench_mysql_reset(const bench *b)
{
    MYSQL *my = bench_mysql_connect(b, NULL);
    bench_mysql_do(my, "DROP DATABASE IF EXISTS nanoq_bench; CREATE DATABASE nanoq_bench");
    mysql_close(my);
    bench_mysql_settle(b);
}

/* Wait until there is no undo log of what was before that the server still works off. */
void bench_mysql_settle(const bench *b)
{
    char value[64];
    MYSQL *my = bench_mysql_connect(b, NULL);
    for (int i = 0; i < 200; i++) {
        bench_mysql_ask(my, "SHOW GLOBAL STATUS LIKE 'Innodb_history_list_length'", value, sizeof value);
        if (strtol(value, NULL, 10) < 100)
            break;
        bench_sleep(0.05);
    }
    mysql_close(my);
}

void bench_mysql_run(const bench *b, const char *sql)
{
    MYSQL *my = bench_mysql_connect(b, "nanoq_bench");
    bench_mysql_do(my, sql);
    mysql_close(my);
}
