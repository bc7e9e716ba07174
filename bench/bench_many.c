/* SPDX-License-Identifier: MIT */
/* Rows: a handler whose work is an INSERT of its own, one task a call beside up to a hundred a call. */
#include <mysql.h>
#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"
#include "bench_mysql.h"

#define MANY_CALL 100

/* Where the handler writes: on SQLite a file of its own beside the queue's. */
static struct {
    MYSQL *my;
    sqlite3 *lite;
} many_app;

static const char many_table[] =
    "DROP TABLE IF EXISTS app_rows; CREATE TABLE app_rows (id BIGINT PRIMARY KEY, size BIGINT)";

static void many_do(const char *sql)
{
    if (many_app.my)
        bench_mysql_do(many_app.my, sql);
    else if (sqlite3_exec(many_app.lite, sql, NULL, NULL, NULL))
        bench_die("%s: %s", sql, sqlite3_errmsg(many_app.lite));
}

/* One statement, which commits itself. */
static void many_insert(const nq_task *const tasks[], size_t n)
{
    char sql[64 + MANY_CALL * 48];
    int at = snprintf(sql, sizeof sql, "INSERT INTO app_rows VALUES ");
    for (size_t i = 0; i < n; i++)
        at += snprintf(sql + at, sizeof sql - (size_t)at, "%s(%lld,%zu)", i ? "," : "",
                       (long long)tasks[i]->id, tasks[i]->payload_size);
    many_do(sql);
}

static nq_verdict many_one(nq_ctx *ctx, const nq_task *task, void *udata)
{
    (void)ctx, (void)udata;
    many_insert(&task, 1);
    return NQ_DONE;
}

static void many_hundred(nq_ctx *const ctx[], const nq_task *const tasks[], size_t n, nq_verdict verdicts[],
                         void *udata)
{
    (void)ctx, (void)udata;
    many_insert(tasks, n);
    for (size_t i = 0; i < n; i++)
        verdicts[i] = NQ_DONE;
}

static double many_drain(const bench *b, const bench_db *db, size_t n, bool many)
{
    nq_err err = {0};
    nq_worker *w = NULL;
    const nq_worker_options opts = {.size = sizeof opts, .concurrency = 1, .drain = NQ_DRAIN_DUE};
    const nq_many_options most = {.size = sizeof most, .max = MANY_CALL};
    bench_fresh(b, db);
    bench_preload(db, n, "m", 0);
    if (many_app.my)
        many_do("USE nanoq_bench"); /* which was made anew */
    many_do(many_table);
    nq *q = bench_open(db);
    if (nq_worker_new(&w, q, &opts, &err) != NQ_OK ||
        (many ? nq_worker_handle_many(w, NULL, many_hundred, NULL, &most, &err)
              : nq_worker_handle(w, NULL, many_one, NULL, NULL, &err)) != NQ_OK)
        bench_die("%s", err.message);
    const double start = bench_seconds();
    if (nq_worker_run(w, &err) != NQ_OK)
        bench_die("the worker: %s", err.message);
    const double took = bench_seconds() - start;
    nq_worker_free(w);
    nq_close(q);
    return (double)n / took;
}

static void many_row(bench *b, const bench_db *db)
{
    const size_t n = bench_amount(b, 10000);
    char row[80];
    snprintf(row, sizeof row, "a handler that INSERTs, %s", db->name);
    for (int i = 0; i < b->rounds; i++) {
        bench_add(b, row, "one a call", "tasks/s", 0, many_drain(b, db, n, false));
        bench_add(b, row, "100 a call", "tasks/s", 0, many_drain(b, db, n, true));
    }
}

static void many_mysql(bench *b)
{
    many_app.my = bench_mysql_connect(b, NULL);
    many_row(b, &b->mysql);
    mysql_close(many_app.my);
    many_app.my = NULL;
}

static void many_sqlite(bench *b)
{
    char file[300];
    snprintf(file, sizeof file, "%s/app.db", b->directory);
    if (sqlite3_open(file, &many_app.lite))
        bench_die("cannot open %s", file);
    many_do("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL");
    many_row(b, &b->sqlite_full);
    sqlite3_close(many_app.lite);
    many_app.lite = NULL;
}

const bench_row bench_many_rows[] = {
    {"many-mariadb", many_mysql, true}, {"many-sqlite", many_sqlite, false}, {NULL, NULL, false}};
