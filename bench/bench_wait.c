/* SPDX-License-Identifier: MIT */
/* Rows: how soon nq_wait returns after the commit of the completion that it waits for. */
#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#include "bench.h"
#include "nanoq_admin.h"

static struct {
    nq_worker *worker;
    _Atomic int64_t ended; /* when the last end was recorded, CLOCK_MONOTONIC nanoseconds */
} wait_state;

static int64_t wait_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static nq_verdict wait_handler(nq_ctx *ctx, const nq_task *task, void *udata)
{
    nq_err err;
    (void)task, (void)udata;
    return nq_ctx_result(ctx, "1", 1, &err) == NQ_OK ? NQ_DONE : NQ_DISCARD;
}

static void wait_event(const nq_event *event, void *udata)
{
    (void)udata;
    if (event->kind == NQ_EVENT_DONE)
        atomic_store(&wait_state.ended, wait_now());
}

static void *wait_work(void *arg)
{
    nq_err err = {0};
    (void)arg;
    if (nq_worker_run(wait_state.worker, &err) != NQ_OK)
        bench_die("the worker: %s", err.message);
    return NULL;
}

/* One task at a time, on another handle than the worker's: as between processes. From when the worker tells
 * of the end, which is right behind its commit. */
static void wait_one(nq *q, unsigned *seed, double *ms)
{
    nq_err err = {0};
    nq_id id;
    *seed = *seed * 1103515245u + 12345u;
    const nq_task_spec task = {.size = sizeof task,
                               .type = "w",
                               .unique = NQ_UNIQUE_NONE,
                               .delay_us = 5000 + (int64_t)(*seed >> 16) % 100000};
    atomic_store(&wait_state.ended, 0);
    if (nq_enqueue(q, NQ_OWN_TX, &task, &id, &err) != NQ_OK ||
        nq_wait(q, &id, 1, NQ_WAIT_ALL, NQ_SECONDS(20), NULL, NULL, &err) != NQ_OK)
        bench_die("waiting: %s", err.message);
    const int64_t now = wait_now(), ended = atomic_load(&wait_state.ended);
    *ms = ended && now > ended ? (double)(now - ended) / 1e6 : 0; /* it may return before that is told */
}

static void wait_row(bench *b, const bench_db *db)
{
    const size_t n = bench_amount(b, 200);
    double *ms = calloc(n, sizeof *ms);
    char row[80];
    nq_err err = {0};
    nq_worker_options opts = {.size = sizeof opts, .concurrency = 2, .on_event = wait_event};
    pthread_t thread;
    unsigned seed = b->seed;
    if (!ms)
        bench_die("out of memory");
    bench_fresh(b, db);
    nq *q = bench_open(db), *theirs = bench_open(db);
    if (nq_worker_new(&wait_state.worker, theirs, &opts, &err) != NQ_OK ||
        nq_worker_handle(wait_state.worker, NULL, wait_handler, NULL, NULL, &err) != NQ_OK)
        bench_die("%s", err.message);
    if (pthread_create(&thread, NULL, wait_work, NULL))
        bench_die("cannot start a thread");
    for (size_t i = 0; i < n; i++)
        wait_one(q, &seed, &ms[i]);
    nq_worker_stop(wait_state.worker);
    pthread_join(thread, NULL);
    nq_worker_free(wait_state.worker);
    nq_close(theirs);
    nq_close(q);
    snprintf(row, sizeof row, "waiting for a task %s, after its commit, p50", db->name);
    bench_add(b, row, "nanoq", "ms", 0, bench_percentile(ms, n, 0.5));
    snprintf(row, sizeof row, "waiting for a task %s, after its commit, p99", db->name);
    bench_add(b, row, "nanoq", "ms", 0, bench_percentile(ms, n, 0.99));
    free(ms);
}

static void wait_mysql(bench *b)
{
    wait_row(b, &b->mysql);
}

static void wait_sqlite(bench *b)
{
    wait_row(b, &b->sqlite_full);
}

const bench_row bench_wait_rows[] = {
    {"wait-mariadb", wait_mysql, true}, {"wait-sqlite", wait_sqlite, false}, {NULL, NULL, false}};
