/* SPDX-License-Identifier: MIT */
/* Stock recalculation, SQLite: a movement of goods and the task it calls for commit together. */
#include <stdio.h>
#include <stdlib.h>

#include "nanoq.h"
#include "nanoq_sqlite.h"

static void need(bool ok, const char *what)
{
    if (!ok) {
        fprintf(stderr, "stock_sqlite: %s\n", what);
        exit(1);
    }
}

/* The sum is taken anew, so running it twice does no harm: a handler may be run more than once. */
static nq_verdict recalculate(nq_ctx *ctx, const nq_task *task, void *db)
{
    char sql[200];
    long long product = strtoll(task->payload, NULL, 10);
    snprintf(
        sql, sizeof sql,
        "UPDATE product SET stock = (SELECT sum(quantity) FROM movement WHERE product = id) WHERE id = %lld",
        product);
    if (sqlite3_exec(db, sql, NULL, NULL, NULL) != SQLITE_OK)
        return nq_fail(ctx, NQ_RETRY, "%s", sqlite3_errmsg(db));
    printf("product %lld: recalculated\n", product);
    return NQ_DONE;
}

int main(int argc, char **argv)
{
    char url[600];
    sqlite3 *db = NULL;
    nq *q = NULL;
    nq_worker *w = NULL;
    nq_err err = {0};
    need(argc == 2, "usage: stock_sqlite FILE");
    snprintf(url, sizeof url, "sqlite:%s", argv[1]);
    need(nq_open(&q, url, NULL, &err) == 0 && nq_migrate(q, &err) >= 0, err.message);
    need(sqlite3_open(argv[1], &db) == SQLITE_OK && sqlite3_busy_timeout(db, 5000) == SQLITE_OK,
         "cannot open");
    const char *steps[] = {
        "CREATE TABLE IF NOT EXISTS product (id INTEGER PRIMARY KEY, stock INTEGER NOT NULL DEFAULT 0)",
        "CREATE TABLE IF NOT EXISTS movement (product INTEGER NOT NULL, quantity INTEGER NOT NULL)",
        "INSERT OR IGNORE INTO product (id) VALUES (7)",
        "BEGIN IMMEDIATE",
        "INSERT INTO movement VALUES (7, 12)",
    };
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++)
        need(sqlite3_exec(db, steps[i], NULL, NULL, NULL) == SQLITE_OK, sqlite3_errmsg(db));
    /* Not unique: a recalculation that runs just now may have read the sum before this movement. */
    const nq_task_spec *task = NQ_TASK(.type = "recalculate", NQ_BYTES("7"), .unique = NQ_UNIQUE_NONE);
    need(nq_enqueue(q, nq_tx_sqlite(db), task, NULL, &err) >= 0, err.message);
    need(sqlite3_exec(db, "COMMIT", NULL, NULL, NULL) == SQLITE_OK, sqlite3_errmsg(db));

    /* One handler thread, because the handlers share `db`; it returns when nothing is due. */
    nq_worker_options opts = {.size = sizeof opts, .concurrency = 1, .drain = NQ_DRAIN_DUE};
    need(nq_worker_new(&w, q, &opts, &err) >= 0, err.message);
    need(nq_worker_handle(w, "recalculate", recalculate, db, NULL, &err) >= 0, err.message);
    need(nq_worker_run(w, &err) >= 0, err.message);
    nq_worker_free(w);
    nq_close(q);
    return sqlite3_close(db);
}
