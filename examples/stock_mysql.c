/* SPDX-License-Identifier: MIT */
/* Stock recalculation, MySQL and MariaDB: a movement of goods and the task it calls for commit together. */
#include <stdio.h>
#include <stdlib.h>

#include "nanoq.h"
#include "nanoq_mysql.h"

static void need(bool ok, const char *what)
{
    if (!ok) {
        fprintf(stderr, "stock_mysql: %s\n", what);
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
    if (mysql_query(db, sql) != 0)
        return nq_fail(ctx, NQ_RETRY, "%s", mysql_error(db));
    printf("product %lld: recalculated\n", product);
    return NQ_DONE;
}

int main(int argc, char **argv)
{
    char url[600];
    MYSQL *db = mysql_init(NULL);
    nq *q = NULL;
    nq_worker *w = NULL;
    nq_err err = {0};
    need(argc == 5, "usage: stock_mysql HOST PORT USER DATABASE   (password in NANOQ_PASSWORD)");
    snprintf(url, sizeof url, "mysql://%s@%s:%s/%s", argv[3], argv[1], argv[2], argv[4]);
    need(nq_open(&q, url, NULL, &err) == 0 && nq_migrate(q, &err) >= 0, err.message);
    need(mysql_real_connect(db, argv[1], argv[3], getenv("NANOQ_PASSWORD"), argv[4],
                            (unsigned)strtoul(argv[2], NULL, 10), NULL, 0),
         mysql_error(db));
    const char *steps[] = {
        "CREATE TABLE IF NOT EXISTS product (id BIGINT PRIMARY KEY, stock BIGINT NOT NULL DEFAULT 0)",
        "CREATE TABLE IF NOT EXISTS movement (product BIGINT NOT NULL, quantity BIGINT NOT NULL)",
        "INSERT IGNORE INTO product (id) VALUES (7)",
        "BEGIN",
        "INSERT INTO movement VALUES (7, 12)",
    };
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++)
        need(mysql_query(db, steps[i]) == 0, mysql_error(db));
    /* Not unique: a recalculation that runs just now may have read the sum before this movement. */
    const nq_task_spec *task = NQ_TASK(.type = "recalculate", NQ_BYTES("7"), .unique = NQ_UNIQUE_NONE);
    need(nq_enqueue(q, nq_tx_mysql(db), task, NULL, &err) >= 0, err.message);
    need(mysql_query(db, "COMMIT") == 0, mysql_error(db));

    /* One handler thread, because the handlers share `db`; it returns when nothing is due. */
    nq_worker_options opts = {.size = sizeof opts, .concurrency = 1, .drain = NQ_DRAIN_DUE};
    need(nq_worker_new(&w, q, &opts, &err) >= 0, err.message);
    need(nq_worker_handle(w, "recalculate", recalculate, db, NULL, &err) >= 0, err.message);
    need(nq_worker_run(w, &err) >= 0, err.message);
    nq_worker_free(w);
    nq_close(q);
    mysql_close(db);
    return 0;
}
