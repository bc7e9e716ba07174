/* SPDX-License-Identifier: MIT */
/* Rows: 100,000 dead tasks are retried by nq_bulk while 8 handlers run: how fast the others drain meanwhile,
 * whether each runs exactly once, and how long who enqueues has to wait. */
#include <pthread.h>
#include <sqlite3.h>
#include <stdlib.h>

#include "bench.h"
#include "bench_mysql.h"
#include "nanoq_admin.h"

enum { BULK_HANDLERS = 8, BULK_WORK_US = 2000, BULK_ENQUEUE_US = 5000 };

static struct {
    atomic_size_t done;
    atomic_uchar *ran; /* by id */
    size_t ids;
    atomic_size_t twice;
    atomic_bool stop;
    double longest_ms; /* of one enqueue */
    size_t added;
    nq_worker *worker;
    const bench_db *db;
} bulk_state;

static nq_verdict bulk_handler(nq_ctx *ctx, const nq_task *task, void *udata)
{
    (void)ctx, (void)udata;
    bench_sleep(BULK_WORK_US / 1e6);
    if ((size_t)task->id >= bulk_state.ids || atomic_fetch_add(&bulk_state.ran[task->id], 1) > 0)
        atomic_fetch_add(&bulk_state.twice, 1);
    atomic_fetch_add(&bulk_state.done, 1);
    return NQ_DONE;
}

static void *bulk_work(void *arg)
{
    nq_err err = {0};
    (void)arg;
    if (nq_worker_run(bulk_state.worker, &err) != NQ_OK)
        bench_die("the worker: %s", err.message);
    return NULL;
}

/* Somebody who enqueues now and then. */
static void *bulk_enqueue(void *arg)
{
    nq *q = bench_open(bulk_state.db);
    nq_err err = {0};
    (void)arg;
    while (!atomic_load(&bulk_state.stop)) {
        nq_task_spec spec;
        char payload[160];
        bench_spec(&spec, payload, "beside", bulk_state.added);
        const double start = bench_seconds();
        if (nq_enqueue(q, NQ_OWN_TX, &spec, NULL, &err) != NQ_OK)
            bench_die("enqueueing: %s", err.message);
        const double ms = (bench_seconds() - start) * 1e3;
        bulk_state.longest_ms = ms > bulk_state.longest_ms ? ms : bulk_state.longest_ms;
        bulk_state.added++;
        bench_sleep(BULK_ENQUEUE_US / 1e6);
    }
    nq_close(q);
    return NULL;
}

/* n dead ones, by cancelling them: the same rows but for the number of the state. */
static void bulk_dead(const bench *b, const bench_db *db, size_t n)
{
    static const char sql[] = "UPDATE nanoq_finished SET state = 3, error = 'HTTP 502'";
    nq_err err = {0};
    sqlite3 *file = NULL;
    bench_preload(db, n, "dead", 0);
    nq *q = bench_open(db);
    nq_bulk_options all = {.size = sizeof all, .all = true};
    nq_bulk_counts counts = {.size = sizeof counts};
    const double start = bench_seconds();
    if (nq_bulk(q, NULL, NQ_BULK_CANCEL, &all, &counts, &err) != NQ_OK || counts.done != n)
        bench_die("cancelling: %s", err.message);
    bench_progress(b, "cancelled %.0f tasks/s", (double)n / (bench_seconds() - start));
    nq_close(q);
    if (db->mysql) {
        MYSQL *my = bench_mysql_connect(b, "nanoq_bench");
        bench_mysql_do(my, sql);
        mysql_close(my);
    } else if (sqlite3_open(db->file, &file) != SQLITE_OK ||
               sqlite3_exec(file, sql, NULL, NULL, NULL) != SQLITE_OK) {
        bench_die("%s: %s", db->file, sqlite3_errmsg(file));
    }
    sqlite3_close(file);
}

/* Tasks a second from now on, until so many more are done. */
static double bulk_rate(size_t n)
{
    const size_t from = atomic_load(&bulk_state.done);
    const double start = bench_seconds();
    while (atomic_load(&bulk_state.done) < from + n)
        bench_sleep(0.001);
    return (double)(atomic_load(&bulk_state.done) - from) / (bench_seconds() - start);
}

static void bulk_figures(bench *b, const bench_db *db, size_t n, double alone, double during, double took,
                         double deadlocks)
{
    char row[80];
    snprintf(row, sizeof row, "drain %s, 8 handlers of 2 ms", db->name);
    bench_add(b, row, "alone", "tasks/s", 0, alone);
    bench_add(b, row, "while dead ones are retried", "tasks/s", 0, during);
    snprintf(row, sizeof row, "nq_bulk %s, retried meanwhile", db->name);
    bench_add(b, row, "nanoq", "tasks/s", 0, (double)n / took);
    snprintf(row, sizeof row, "enqueue %s meanwhile, the longest", db->name);
    bench_add(b, row, "nanoq", "ms", 0, bulk_state.longest_ms);
    snprintf(row, sizeof row, "deadlocks %s meanwhile", db->name);
    if (db->mysql)
        bench_add(b, row, "nanoq", "", 0, deadlocks);
}

static void bulk_measure(bench *b, const bench_db *db, size_t n)
{
    nq_err err = {0};
    nq *q = bench_open(db);
    pthread_t work, beside;
    nq_bulk_counts counts = {.size = sizeof counts};
    const nq_filter dead = {.size = sizeof dead, .states = NQ_STATE_BIT(NQ_STATE_DEAD), .error = "HTTP 502"};
    if (pthread_create(&work, NULL, bulk_work, NULL) || pthread_create(&beside, NULL, bulk_enqueue, NULL))
        bench_die("cannot start a thread");
    (void)bulk_rate(n / 50 + 1);
    double alone = bulk_rate(n / 10 + 1);
    const double deadlocks = db->mysql ? bench_mysql_status(b, "Innodb_deadlocks") : 0,
                 start = bench_seconds();
    const size_t before = atomic_load(&bulk_state.done);
    bulk_state.longest_ms = 0;
    if (nq_bulk(q, &dead, NQ_BULK_RETRY, NULL, &counts, &err) != NQ_OK)
        bench_die("retrying: %s", err.message);
    const double took = bench_seconds() - start,
                 during = (double)(atomic_load(&bulk_state.done) - before) / took;
    alone = (alone + bulk_rate(n / 10 + 1)) / 2; /* A B A */
    atomic_store(&bulk_state.stop, true);
    pthread_join(beside, NULL);
    if (counts.done != n || counts.found != n)
        bench_die("%llu of %zu dead tasks were retried, %llu found", (unsigned long long)counts.done, n,
                  (unsigned long long)counts.found);
    while (atomic_load(&bulk_state.done) < 2 * n + bulk_state.added)
        bench_sleep(0.01);
    nq_worker_stop(bulk_state.worker);
    pthread_join(work, NULL);
    if (atomic_load(&bulk_state.twice) > 0 || atomic_load(&bulk_state.done) != 2 * n + bulk_state.added)
        bench_die("%zu tasks ran, %zu of them again; should be %zu once", atomic_load(&bulk_state.done),
                  atomic_load(&bulk_state.twice), 2 * n + bulk_state.added);
    bulk_figures(b, db, n, alone, during, took,
                 db->mysql ? bench_mysql_status(b, "Innodb_deadlocks") - deadlocks : 0);
    nq_close(q);
}

static void bulk_row(bench *b, const bench_db *db)
{
    const size_t n = bench_amount(b, 100000);
    nq_err err = {0};
    nq_worker_options opts = {.size = sizeof opts, .concurrency = BULK_HANDLERS};
    bulk_state.db = db;
    bulk_state.ids = 4 * n + 1000000;
    bulk_state.ran = calloc(bulk_state.ids, 1);
    atomic_store(&bulk_state.done, 0);
    atomic_store(&bulk_state.stop, false);
    bulk_state.longest_ms = 0;
    bulk_state.added = 0;
    if (!bulk_state.ran)
        bench_die("out of memory");
    bench_fresh(b, db);
    bulk_dead(b, db, n);
    bench_preload(db, n, "live", 0);
    nq *theirs = bench_open(db);
    if (nq_worker_new(&bulk_state.worker, theirs, &opts, &err) != NQ_OK ||
        nq_worker_handle(bulk_state.worker, NULL, bulk_handler, NULL, NULL, &err) != NQ_OK)
        bench_die("%s", err.message);
    bulk_measure(b, db, n);
    nq_worker_free(bulk_state.worker);
    nq_close(theirs);
    free((void *)bulk_state.ran);
}

static void bulk_mysql(bench *b)
{
    bulk_row(b, &b->mysql);
}

static void bulk_sqlite(bench *b)
{
    bulk_row(b, &b->sqlite_full);
}

const bench_row bench_bulk_rows[] = {
    {"bulk-mariadb", bulk_mysql, true}, {"bulk-sqlite", bulk_sqlite, false}, {NULL, NULL, false}};
