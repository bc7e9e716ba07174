/* SPDX-License-Identifier: MIT */
/* Rows: how soon a task starts, idle and under a steady load; what a worker process costs. */
#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"

static void latency_worker(bench_slot *w, const char *url)
{
    w->role = BENCH_WORK;
    w->concurrency = 10;
    w->batch = 100;
    w->drain = NQ_DRAIN_NEVER;
    snprintf(w->url, sizeof w->url, "%s", url);
}

/* Wait until `n` of slot 0's tasks were handled. */
static void latency_wait_handled(bench_shared *s, size_t n, double limit)
{
    const double until = bench_seconds() + limit;
    while (atomic_load(&s->slot[0].done) < n) {
        if (bench_seconds() > until)
            bench_die("only %zu of %zu tasks were handled in %.0f s", atomic_load(&s->slot[0].done), n,
                      limit);
        bench_sleep(0.002);
    }
}

/* Percentiles of commit to start, in ms; from the commit's return, so 0 when the handler was even sooner. */
static void latency_add(bench *b, const bench_shared *s, size_t from, size_t to, const char *row,
                        const char *side, double x)
{
    static const struct {
        const char *name;
        double p;
    } percents[] = {{"p50", 0.5}, {"p99", 0.99}, {"p99.9", 0.999}};
    double *after = calloc(to - from + 1, sizeof *after), *whole = calloc(to - from + 1, sizeof *whole);
    char text[80];
    size_t n = 0;
    if (!after || !whole)
        bench_die("out of memory");
    for (size_t i = from; i < to; i++) {
        const int64_t call = atomic_load(&s->cell[i].call), commit = atomic_load(&s->cell[i].commit);
        const int64_t start = atomic_load(&s->cell[i].start);
        if (!start || !commit)
            bench_die("%s: task %zu was not handled", row, i);
        after[n] = start > commit ? (double)(start - commit) / 1e6 : 0;
        whole[n++] = (double)(start - call) / 1e6;
    }
    for (size_t i = 0; i < (n < 2000 ? 2u : 3u); i++) {
        snprintf(text, sizeof text, "%s, %s", row, percents[i].name);
        bench_add(b, text, side, "ms", x, bench_percentile(after, n, percents[i].p));
    }
    snprintf(text, sizeof text, "%s, p50 with the call", row);
    bench_add(b, text, side, "ms", x, bench_percentile(whole, n, 0.5));
    free(after);
    free(whole);
}

/* ---- Idle pick-up */

struct latency_thread {
    bench_shared *shared;
    nq *q;
};

static void *latency_work(void *arg)
{
    struct latency_thread *t = arg;
    bench_work(t->shared, 0, t->q);
    return NULL;
}

/* Worker in slot 0, producer in slot 1; in processes of their own, or both here on one handle. */
static void latency_pickup(bench *b, const bench_db *db, const char *url, bool processes, const char *side)
{
    const size_t warm = 5, n = warm + bench_amount(b, 1000);
    bench_shared *s = bench_shared_new(n);
    bench_slot *worker = &s->slot[0], *producer = &s->slot[1];
    char row[80];
    bench_fresh(b, db);
    latency_worker(worker, url);
    producer->role = BENCH_PRODUCE;
    producer->seed = b->seed;
    producer->gap_min_us = 5000;
    producer->gap_max_us = 50000;
    producer->count = n;
    memcpy(producer->url, worker->url, sizeof producer->url);
    if (processes) {
        bench_child_start(s, 0);
        bench_child_start(s, 1);
        atomic_store(&s->go, true);
        bench_child_wait(s, 1);
        latency_wait_handled(s, n, 20);
        bench_child_stop(s, 0);
    } else {
        struct latency_thread t = {s, bench_open(db)};
        pthread_t thread;
        atomic_store(&s->go, true);
        if (pthread_create(&thread, NULL, latency_work, &t))
            bench_die("cannot start a thread");
        bench_produce(s, 1, t.q);
        latency_wait_handled(s, n, 20);
        raise(SIGTERM); /* the worker handles it */
        pthread_join(thread, NULL);
        nq_close(t.q);
    }
    for (int i = 0; i < 2; i++)
        if (atomic_load(&s->slot[i].failed))
            bench_die("%s: %s", db->name, s->slot[i].error);
    snprintf(row, sizeof row, "idle pick-up %s", db->name);
    latency_add(b, s, warm, n, row, side, 0);
    bench_shared_free(s);
}

static void latency_pickup_mysql(bench *b)
{
    char url[560]; /* the server alone carries the hint */
    snprintf(url, sizeof url, "%s&hints=server", b->mysql.url);
    for (int round = 0; round < (b->quick ? 1 : b->rounds); round++) {
        latency_pickup(b, &b->mysql, b->mysql.url, false, "nanoq, same process");
        latency_pickup(b, &b->mysql, b->mysql.url, true, "nanoq, two processes");
        latency_pickup(b, &b->mysql, url, true, "nanoq, between hosts");
    }
}

static void latency_pickup_sqlite(bench *b)
{
    for (int round = 0; round < (b->quick ? 1 : b->rounds); round++) {
        latency_pickup(b, &b->sqlite_full, b->sqlite_full.url, false, "nanoq, same process");
        latency_pickup(b, &b->sqlite_full, b->sqlite_full.url, true, "nanoq, two processes");
    }
}

/* ---- A worker process: memory, and CPU while idle */

static void latency_process(bench *b, const bench_db *db)
{
    const double idle = b->quick ? 3 : 10;
    const size_t n = bench_amount(b, 100e3);
    char row[80];
    bench_shared *s = bench_shared_new(0);
    bench_fresh(b, db);
    bench_preload(db, n, "memory", 0);
    latency_worker(&s->slot[0], db->url);
    bench_child_start(s, 0);
    atomic_store(&s->go, true);
    latency_wait_handled(s, n, 120);
    bench_sleep(b->quick ? 2 : 5); /* the server still purges what the drain deleted */
    const double worker = bench_cpu_of(s->slot[0].pid), server = bench_cpu_of(b->server_pid);
    bench_sleep(idle);
    snprintf(row, sizeof row, "idle worker %s, its CPU", db->name);
    bench_add(b, row, "nanoq", "% of a core", 0, 100 * (bench_cpu_of(s->slot[0].pid) - worker) / idle);
    snprintf(row, sizeof row, "idle worker %s, the server's CPU", db->name);
    if (db->mysql && !isnan(server))
        bench_add(b, row, "nanoq", "% of a core", 0, 100 * (bench_cpu_of(b->server_pid) - server) / idle);
    bench_child_stop(s, 0);
    snprintf(row, sizeof row, "worker process %s, VmRSS after a drain", db->name);
    bench_add(b, row, "nanoq", "MB", 0, s->slot[0].rss_mb);
    snprintf(row, sizeof row, "worker process %s, VmHWM of a drain", db->name);
    bench_add(b, row, "nanoq", "MB", 0, s->slot[0].hwm_mb);
    bench_shared_free(s);
    if (!db->mysql || isnan(server))
        return;
    const double alone = bench_cpu_of(b->server_pid);
    bench_sleep(idle);
    bench_add(b, "idle server with no worker, its CPU", "MariaDB", "% of a core", 0,
              100 * (bench_cpu_of(b->server_pid) - alone) / idle);
}

static void latency_process_mysql(bench *b)
{
    latency_process(b, &b->mysql);
}

static void latency_process_sqlite(bench *b)
{
    latency_process(b, &b->sqlite_full);
}

/* ---- Steady load: a producer process that keeps to its clock, a worker process */

/* As a curve: the percentiles of each tenth of a run, where the load's own course would hide in one figure.
 */
static void latency_course(bench *b, const bench_shared *s, size_t n, double seconds, const char *row)
{
    const size_t parts = 10;
    for (size_t part = 0; part < parts; part++)
        latency_add(b, s, n * part / parts, n * (part + 1) / parts, row, "nanoq",
                    seconds * (double)(part + 1) / (double)parts);
}

/* Rate of handled tasks. At rate 0 the producer sends what the worker keeps up with. */
static double latency_flow(bench *b, const bench_db *db, double rate, double seconds, size_t most,
                           const char *row)
{
    const size_t n = rate > 0 ? (size_t)(rate * seconds) : most;
    bench_shared *s = bench_shared_new(n);
    bench_slot *worker = &s->slot[0], *producer = &s->slot[1];
    bench_fresh(b, db);
    latency_worker(worker, db->url);
    producer->role = BENCH_PRODUCE;
    producer->rate = rate;
    producer->count = n;
    memcpy(producer->url, worker->url, sizeof producer->url);
    bench_child_start(s, 0);
    bench_child_start(s, 1);
    atomic_store(&s->go, true);
    const double start = bench_seconds();
    if (rate <= 0) {
        bench_sleep(seconds);
        atomic_store(&s->stop, true);
    }
    bench_child_wait(s, 1);
    const size_t sent = atomic_load(&producer->done);
    latency_wait_handled(s, sent, 60 + seconds);
    const double took = bench_seconds() - start;
    bench_child_stop(s, 0);
    if (rate > 0) {
        latency_add(b, s, sent / 10, sent, row, "nanoq", 0); /* the first tenth warms up */
        latency_course(b, s, sent, seconds, row);
    }
    bench_shared_free(s);
    return (double)sent / took;
}

static void latency_steady(bench *b, const bench_db *db, int percent)
{
    char row[80], figure[80];
    const double probe = b->quick ? 1.5 : 10;
    const double limit = latency_flow(b, db, 0, probe, (size_t)(probe * 400e3), "");
    snprintf(row, sizeof row, "steady load %s, the limit", db->name);
    bench_add(b, row, "nanoq", "tasks/s", 0, limit);
    snprintf(row, sizeof row, "steady load %s, rate kept at %d %%", db->name, percent);
    snprintf(figure, sizeof figure, "steady load %s, %d %%", db->name, percent);
    const double kept = latency_flow(b, db, limit * percent / 100, b->steady_seconds, 0, figure);
    bench_add(b, row, "nanoq", "tasks/s", 0, kept);
}

static void latency_steady_mysql_50(bench *b)
{
    latency_steady(b, &b->mysql, 50);
}

static void latency_steady_mysql_80(bench *b)
{
    latency_steady(b, &b->mysql, 80);
}

static void latency_steady_sqlite_50(bench *b)
{
    latency_steady(b, &b->sqlite_full, 50);
}

static void latency_steady_sqlite_80(bench *b)
{
    latency_steady(b, &b->sqlite_full, 80);
}

const bench_row bench_latency_rows[] = {{"pickup-mariadb", latency_pickup_mysql, true},
                                        {"pickup-sqlite", latency_pickup_sqlite, false},
                                        {"process-mariadb", latency_process_mysql, true},
                                        {"process-sqlite", latency_process_sqlite, false},
                                        {"steady-mariadb-50", latency_steady_mysql_50, true},
                                        {"steady-mariadb-80", latency_steady_mysql_80, true},
                                        {"steady-sqlite-50", latency_steady_sqlite_50, false},
                                        {"steady-sqlite-80", latency_steady_sqlite_80, false},
                                        {NULL, NULL, false}};
