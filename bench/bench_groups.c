/* SPDX-License-Identifier: MIT */
/* Rows: groups beside a plain queue, small groups behind a big one, a paused type that is set apart, a rate.
 */
#include <stdlib.h>
#include <string.h>

#include "bench.h"
#include "nanoq_admin.h"

enum { GROUPS_CHUNK = 10000 };

/* n tasks in `groups` groups in turn, "PREFIX7"; of one type. */
static void groups_preload(const bench_db *db, size_t n, const char *prefix, size_t groups, const char *type)
{
    nq_err err = {0};
    nq_task_spec *specs = calloc(GROUPS_CHUNK, sizeof *specs);
    char(*payloads)[160] = calloc(GROUPS_CHUNK, sizeof *payloads);
    char(*names)[40] = calloc(GROUPS_CHUNK, sizeof *names);
    nq *q = bench_open(db);
    if (!specs || !payloads || !names)
        bench_die("out of memory");
    for (size_t at = 0; at < n;) {
        const size_t k = n - at < GROUPS_CHUNK ? n - at : GROUPS_CHUNK;
        for (size_t i = 0; i < k; i++) {
            bench_spec(&specs[i], payloads[i], prefix, at + i);
            specs[i].type = type ? type : specs[i].type;
            snprintf(names[i], sizeof names[i], "%s%zu", prefix, groups ? (at + i) % groups : 0);
            specs[i].group = groups ? names[i] : NULL;
        }
        if (nq_enqueue_many(q, NQ_OWN_TX, specs, k, NULL, NULL, &err) != NQ_OK)
            bench_die("filling %s: %s", db->name, err.message);
        at += k;
    }
    nq_close(q);
    free(names);
    free(payloads);
    free(specs);
}

/* ---- Drain */

static void groups_limit_each(const bench_db *db)
{
    nq_err err = {0};
    nq *q = bench_open(db);
    const nq_queue_settings set = {.size = sizeof set, .group = "*", .max_running = 1};
    if (nq_queue_set(q, "default", &set, &err) != NQ_OK)
        bench_die("%s: %s", db->name, err.message);
    nq_close(q);
}

static void groups_drain(bench *b, const bench_db *db)
{
    /* What is limited is not claimed ahead, so it is beside a claim that takes no more than there are
     * threads. */
    static const struct {
        const char *name;
        size_t groups;
        bool limited;
        bench_drain drain;
    } sides[] = {{"no groups", 0, false, {.concurrency = 10, .batch = 500}},
                 {"100 groups", 100, false, {.concurrency = 10, .batch = 500}},
                 {"no groups", 0, false, {.concurrency = 64, .batch = 64}},
                 {"1,000 groups, limit 1", 1000, true, {.concurrency = 64, .batch = 64}}};
    const size_t n = bench_amount(b, 60e3);
    char row[80];
    for (int round = 0; round < b->rounds; round++)
        for (size_t side = 0; side < sizeof sides / sizeof *sides; side++) {
            const bench_drain *d = &sides[side].drain;
            bench_fresh(b, db);
            groups_preload(db, n, "g", sides[side].groups, NULL);
            if (sides[side].limited)
                groups_limit_each(db);
            const bench_result r = bench_nanoq_drain(b, db, d);
            if (r.n != n)
                bench_die("%s: %zu of %zu tasks were handled", db->name, r.n, n);
            snprintf(row, sizeof row, "drain of groups %s, batch %u", db->name, d->batch);
            bench_add(b, row, sides[side].name, "tasks/s", 0, r.rate);
            snprintf(row, sizeof row, "client CPU, drain of groups %s, batch %u", db->name, d->batch);
            bench_add(b, row, sides[side].name, "us/task", 0, r.client_us);
        }
}

/* Limited groups are claimed by gates, which workers share: eight processes at once. On MariaDB beside eight
 * loops by hand. */
static void groups_processes(bench *b, const bench_db *db)
{
    enum { LIMITED = 1, BY_HAND = 2, MERGED = 4, APART = 8 };
    static const struct {
        const char *name;
        unsigned how;
    } sides[] = {{"no groups", 0},
                 {"1,000 groups, limit 1", LIMITED},
                 {"by hand, no groups", BY_HAND},
                 {"by hand, no groups, merged", BY_HAND | MERGED},
                 {"by hand, 1,000 groups, limit 1", BY_HAND | LIMITED},
                 {"by hand, limit 1, groups of its own", BY_HAND | LIMITED | APART}};
    const size_t nsides = db == &b->mysql ? sizeof sides / sizeof *sides : 2;
    const bench_drain d = {.concurrency = 64, .batch = 64};
    const size_t n = bench_amount(b, 60e3);
    char row[80];
    snprintf(row, sizeof row, "drain of groups %s, batch %u, 8 processes", db->name, d.batch);
    for (int round = 0; round < b->rounds; round++)
        for (size_t side = 0; side < nsides; side++) {
            const unsigned how = sides[side].how;
            const bench_drain hand = {.batch = d.batch, .claimers = 8, .merged = how & MERGED, .limit = n};
            bench_fresh(b, db);
            groups_preload(db, n, "g", how & LIMITED ? 1000 : 0, NULL);
            if (how == LIMITED)
                groups_limit_each(db);
            const double rate = !(how & BY_HAND) ? bench_children(db, 8, &d, n)
                                : how & LIMITED  ? bench_mysql_groups(b, 8, d.batch, how & APART, n)
                                                 : bench_mysql_drain(b, &hand).rate;
            bench_add(b, row, sides[side].name, "tasks/s", 0, rate);
        }
}

/* ---- Behind a big one */

struct groups_behind {
    atomic_size_t small;
    size_t wanted;
    _Atomic double done_at;
};

static nq_verdict groups_handle(nq_ctx *ctx, const nq_task *task, void *arg)
{
    struct groups_behind *g = arg;
    (void)ctx;
    if (((task->group && task->group[0] == 's') || strcmp(task->type, "other") == 0) &&
        atomic_fetch_add(&g->small, 1) + 1 == g->wanted)
        atomic_store(&g->done_at, bench_seconds());
    return NQ_DONE;
}

/* Run a worker until nothing is due; how long it took. */
static double groups_work(const bench_db *db, nq_handler_fn fn, void *arg)
{
    nq_err err = {0};
    nq_worker *w = NULL;
    nq *q = bench_open(db);
    const nq_worker_options opts = {.size = sizeof opts, .concurrency = 10, .drain = NQ_DRAIN_DUE};
    const double begun = bench_seconds();
    if (nq_worker_new(&w, q, &opts, &err) || nq_worker_handle(w, NULL, fn, arg, NULL, &err) ||
        nq_worker_run(w, &err))
        bench_die("%s: %s", db->name, err.message);
    const double took = bench_seconds() - begun;
    nq_worker_free(w);
    nq_close(q);
    return took;
}

static void groups_behind(bench *b, const bench_db *db)
{
    char row[80];
    for (int round = 0; round < b->rounds; round++) {
        struct groups_behind g = {.wanted = bench_amount(b, 2000)};
        bench_fresh(b, db);
        groups_preload(db, bench_amount(b, 28e3), "big", 1, NULL);
        groups_preload(db, g.wanted, "small", 100, NULL);
        const double begun = bench_seconds(), took = groups_work(db, groups_handle, &g);
        snprintf(row, sizeof row, "100 groups of 20 behind one of 28,000, %s", db->name);
        bench_add(b, row, "the small ones done", "ms", 0, (atomic_load(&g.done_at) - begun) * 1e3);
        bench_add(b, row, "all done", "ms", 0, took * 1e3);
    }
}

/* ---- A paused type */

static void groups_apart(bench *b, const bench_db *db)
{
    const size_t n = b->huge ? 1000000 : bench_amount(b, 100e3);
    char row[80];
    for (int round = 0; round < b->rounds; round++) {
        struct groups_behind g = {.wanted = 1};
        nq_err err = {0};
        bench_fresh(b, db);
        groups_preload(db, n, "t", 0, "pdf");
        groups_preload(db, 1, "s", 0, "other");
        nq *q = bench_open(db);
        const nq_pause_options pause = {.size = sizeof pause, .type = "pdf"};
        if (nq_pause(q, "default", &pause, &err) != NQ_OK)
            bench_die("%s: %s", db->name, err.message);
        nq_close(q);
        const double begun = bench_seconds(), took = groups_work(db, groups_handle, &g);
        snprintf(row, sizeof row, "set apart, %zu tasks of a paused type, %s", n, db->name);
        bench_add(b, row, "nanoq", "tasks/s", 0, (double)n / took);
        snprintf(row, sizeof row, "a task behind them ends, %s", db->name);
        bench_add(b, row, "nanoq", "ms", 0, (atomic_load(&g.done_at) - begun) * 1e3);
    }
}

/* ---- A rate */

static void groups_rate(bench *b, const bench_db *db)
{
    enum { GROUPS_RATE = 1000 };
    const size_t n = bench_amount(b, 3000);
    char row[80];
    for (int round = 0; round < b->rounds; round++) {
        struct groups_behind g = {.wanted = 1};
        nq_err err = {0};
        bench_fresh(b, db);
        groups_preload(db, n, "r", 0, NULL);
        nq *q = bench_open(db);
        const nq_queue_settings set = {
            .size = sizeof set, .rate = GROUPS_RATE, .rate_us = 1000000, .burst = 1};
        if (nq_queue_set(q, "default", &set, &err) != NQ_OK)
            bench_die("%s: %s", db->name, err.message);
        nq_close(q);
        const bench_counters before = bench_count(b, db);
        const double took = groups_work(db, groups_handle, &g);
        const bench_result r = bench_result_since(b, db, &before, n, NULL);
        snprintf(row, sizeof row, "a rate of %d/s, %s", GROUPS_RATE, db->name);
        bench_add(b, row, "nanoq", "tasks/s", 0, (double)n / took);
        snprintf(row, sizeof row, "client CPU, a rate of %d/s, %s", GROUPS_RATE, db->name);
        bench_add(b, row, "nanoq", "us/task", 0, r.client_us);
    }
}

/* ---- The rows */

static void groups_mysql_rate(bench *b)
{
    groups_rate(b, &b->mysql);
}

static void groups_sqlite_rate(bench *b)
{
    groups_rate(b, &b->sqlite_full);
}

static void groups_mysql_drain(bench *b)
{
    groups_drain(b, &b->mysql);
}

static void groups_sqlite_drain(bench *b)
{
    groups_drain(b, &b->sqlite_full);
}

static void groups_mysql_processes(bench *b)
{
    groups_processes(b, &b->mysql);
}

static void groups_sqlite_processes(bench *b)
{
    groups_processes(b, &b->sqlite_full);
}

static void groups_mysql_behind(bench *b)
{
    groups_behind(b, &b->mysql);
}

static void groups_sqlite_behind(bench *b)
{
    groups_behind(b, &b->sqlite_full);
}

static void groups_mysql_apart(bench *b)
{
    groups_apart(b, &b->mysql);
}

static void groups_sqlite_apart(bench *b)
{
    groups_apart(b, &b->sqlite_full);
}

const bench_row bench_groups_rows[] = {{"groups-mariadb", groups_mysql_drain, true},
                                       {"groups-sqlite", groups_sqlite_drain, false},
                                       {"groups-8-mariadb", groups_mysql_processes, true},
                                       {"groups-8-sqlite", groups_sqlite_processes, false},
                                       {"groups-behind-mariadb", groups_mysql_behind, true},
                                       {"groups-behind-sqlite", groups_sqlite_behind, false},
                                       {"apart-mariadb", groups_mysql_apart, true},
                                       {"apart-sqlite", groups_sqlite_apart, false},
                                       {"rate-mariadb", groups_mysql_rate, true},
                                       {"rate-sqlite", groups_sqlite_rate, false},
                                       {NULL, NULL, false}};
