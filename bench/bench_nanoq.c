/* SPDX-License-Identifier: MIT */
/* nanoq's side of the rows: fill, drain, enqueue. */
#include <pthread.h>
#include <stdlib.h>

#include "bench.h"

nq *bench_open(const bench_db *db)
{
    nq *q = NULL;
    nq_err err = {0};
    nq_options opts = {.size = sizeof opts, .connections = 32};
    if (nq_open(&q, db->url, &opts, &err) != NQ_OK)
        bench_die("%s: %s", db->name, err.message);
    return q;
}

void bench_fresh(const bench *b, const bench_db *db)
{
    nq_err err = {0};
    if (db->mysql)
        bench_mysql_reset(b);
    else
        bench_sqlite_reset(db);
    nq *q = bench_open(db);
    if (nq_migrate(q, &err) != NQ_OK)
        bench_die("migrating %s: %s", db->name, err.message);
    nq_close(q);
}

enum { PRELOAD_CHUNK = 10000 };

void bench_preload(const bench_db *db, size_t n, const char *tag, int64_t delay_us)
{
    nq_err err = {0};
    nq_task_spec *specs = calloc(PRELOAD_CHUNK, sizeof *specs);
    char(*payloads)[160] = calloc(PRELOAD_CHUNK, sizeof *payloads);
    nq *q = bench_open(db);
    if (!specs || !payloads)
        bench_die("out of memory");
    for (size_t at = 0; at < n;) {
        const size_t k = n - at < PRELOAD_CHUNK ? n - at : PRELOAD_CHUNK;
        for (size_t i = 0; i < k; i++) {
            bench_spec(&specs[i], payloads[i], tag, at + i);
            specs[i].delay_us = delay_us;
        }
        if (nq_enqueue_many(q, NQ_OWN_TX, specs, k, NULL, NULL, &err) != NQ_OK)
            bench_die("filling %s: %s", db->name, err.message);
        at += k;
    }
    nq_close(q);
    free(payloads);
    free(specs);
}

/* ---- Drain */

struct nanoq_drain {
    bench_meter meter;
    nq_worker *proc;
};

static nq_verdict nanoq_handle(nq_ctx *ctx, const nq_task *task, void *arg)
{
    struct nanoq_drain *d = arg;
    (void)ctx;
    (void)task;
    if (bench_meter_add(&d->meter, 1))
        nq_worker_stop(d->proc);
    return NQ_DONE;
}

bench_result bench_nanoq_drain(const bench *b, const bench_db *db, const bench_drain *d)
{
    struct nanoq_drain n = {0};
    nq_err err = {0};
    nq_worker_totals counts;
    nq *q = bench_open(db);
    nq_worker_options opts = {
        .size = sizeof opts, .concurrency = d->concurrency, .batch = d->batch, .drain = NQ_DRAIN_DUE};
    n.meter.first = d->limit > 2000 ? d->limit / 20 : d->limit / 10;
    n.meter.last = d->limit;
    if (nq_worker_new(&n.proc, q, &opts, &err) ||
        nq_worker_handle(n.proc, NULL, nanoq_handle, &n, NULL, &err))
        bench_die("%s: %s", db->name, err.message);
    const bench_counters before = bench_count(b, db);
    if (nq_worker_run(n.proc, &err) != NQ_OK)
        bench_die("draining %s: %s", db->name, err.message);
    const bench_result r =
        bench_result_since(b, db, &before, atomic_load(&n.meter.n), d->limit ? &n.meter : NULL);
    nq_worker_stats(n.proc, &counts, sizeof counts);
    if (counts.done != r.n)
        bench_die("%s: %zu handler calls, %llu recorded", db->name, r.n, (unsigned long long)counts.done);
    nq_worker_free(n.proc);
    nq_close(q);
    return r;
}

/* ---- Enqueue */

struct nanoq_producer {
    nq *q;
    unsigned number, chunk;
    const atomic_bool *go;
    double until, ended;
    size_t n;
    pthread_t thread;
};

static void *nanoq_produce(void *arg)
{
    struct nanoq_producer *p = arg;
    char tag[24];
    nq_err err = {0};
    nq_task_spec *specs = calloc(p->chunk, sizeof *specs);
    char(*payloads)[160] = calloc(p->chunk, sizeof *payloads);
    int *results = calloc(p->chunk, sizeof *results);
    nq_id *ids = calloc(p->chunk, sizeof *ids);
    if (!specs || !payloads || !results || !ids)
        bench_die("out of memory");
    snprintf(tag, sizeof tag, "p%u", p->number);
    while (!atomic_load(p->go))
        bench_sleep(0.0001);
    while (bench_seconds() < p->until) {
        for (unsigned i = 0; i < p->chunk; i++)
            bench_spec(&specs[i], payloads[i], tag, p->n + i);
        if ((p->chunk == 1 ? nq_enqueue(p->q, NQ_OWN_TX, specs, ids, &err)
                           : nq_enqueue_many(p->q, NQ_OWN_TX, specs, p->chunk, ids, results, &err)) != NQ_OK)
            bench_die("enqueue: %s", err.message);
        p->n += p->chunk;
    }
    p->ended = bench_seconds();
    free(specs);
    free(payloads);
    free(results);
    free(ids);
    return NULL;
}

double bench_nanoq_enqueue(const bench *b, const bench_db *db, unsigned producers, unsigned chunk)
{
    struct nanoq_producer *p = calloc(producers, sizeof *p);
    atomic_bool go = false;
    size_t n = 0;
    nq *q = bench_open(db);
    double start, end = 0;
    if (!p)
        bench_die("out of memory");
    for (unsigned i = 0; i < producers; i++) {
        p[i] = (struct nanoq_producer){.q = q, .number = i, .chunk = chunk, .go = &go};
        if (pthread_create(&p[i].thread, NULL, nanoq_produce, &p[i]))
            bench_die("cannot start a thread");
    }
    start = bench_seconds();
    for (unsigned i = 0; i < producers; i++)
        p[i].until = start + b->seconds;
    atomic_store(&go, true);
    for (unsigned i = 0; i < producers; i++) {
        pthread_join(p[i].thread, NULL);
        n += p[i].n;
        end = p[i].ended > end ? p[i].ended : end;
    }
    nq_close(q);
    free(p);
    return (double)n / (end - start);
}
