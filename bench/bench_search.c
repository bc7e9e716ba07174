/* SPDX-License-Identifier: MIT */
/* Rows: pages of tasks found by filters, counts and statistics, with many tasks in the tables. */
#include <stdlib.h>

#include "bench.h"
#include "nanoq_admin.h"

enum { SEARCH_RUNS = 15 };

/* ---- What is asked */

struct search_kind {
    const char *name;
    nq_filter f;
    nq_id after; /* in tenths of the ids; 0: the newest first, from the top */
};

#define SEARCH_NAMES(...) ((const char *const[]){__VA_ARGS__})

static const struct search_kind search_kinds[] = {
    {"any", {.states = 0}, 0},
    {"any, from the middle", {.states = 0}, 5},
    {"waiting of a queue",
     {.queues = SEARCH_NAMES("q3"), .nqueues = 1, .states = NQ_STATE_BIT(NQ_STATE_WAITING)},
     0},
    {"done of a queue, from the middle",
     {.queues = SEARCH_NAMES("q3"), .nqueues = 1, .states = NQ_STATE_BIT(NQ_STATE_DONE)},
     5},
    {"dead", {.states = NQ_STATE_BIT(NQ_STATE_DEAD)}, 0},
    {"running", {.states = NQ_STATE_BIT(NQ_STATE_RUNNING)}, 0},
    {"running of a worker", {.worker = "bench:*"}, 0},
    {"rare type, ended",
     {.types = SEARCH_NAMES("rare"), .ntypes = 1, .states = NQ_STATE_BIT(NQ_STATE_DONE)},
     0},
    {"rare type, any state", {.types = SEARCH_NAMES("ra*"), .ntypes = 1}, 0},
    {"tag", {.tags = SEARCH_NAMES("customer:42"), .ntags = 1}, 0},
    {"tag of dead",
     {.tags = SEARCH_NAMES("customer:41"), .ntags = 1, .states = NQ_STATE_BIT(NQ_STATE_DEAD)},
     0},
    {"ended within an hour",
     {.time = NQ_BY_FINISHED,
      .since_us = 1767225600000000 + 1000 * INT64_C(1000000),
      .until_us = 1767225600000000 + 4600 * INT64_C(1000000)},
     0},
    {"error of dead", {.error = "502", .states = NQ_STATE_BIT(NQ_STATE_DEAD)}, 0},
    {"text", {.text = "needle"}, 0},
};

static int search_see(const nq_info *info, void *udata)
{
    (void)info;
    ++*(size_t *)udata;
    return 0;
}

static int search_see_stats(const nq_queue_stats *stats, void *udata)
{
    (void)stats;
    (void)udata;
    return 0;
}

static void search_time(bench *b, const bench_db *db, const char *what, double *ms)
{
    char row[80];
    snprintf(row, sizeof row, "search %s, %s", db->name, what);
    for (int i = 1; i < SEARCH_RUNS; i++) /* the first one reads what is not in memory yet */
        bench_add(b, row, "nanoq", "ms", 0, ms[i]);
}

static void search_page(bench *b, const bench_db *db, nq *q, const struct search_kind *kind, size_t n)
{
    double ms[SEARCH_RUNS];
    nq_filter f = kind->f;
    nq_bounds bounds = {.size = sizeof bounds};
    nq_list_options o = {.size = sizeof o,
                         .filter = &f,
                         .bounds = &bounds,
                         .order = NQ_NEWEST_FIRST,
                         .after = (nq_id)n * kind->after / 10};
    nq_err err = {0};
    size_t seen = 0;
    char what[60];
    f.size = sizeof f;
    for (int i = 0; i < SEARCH_RUNS; i++) {
        const double start = bench_seconds();
        seen = 0;
        if (nq_list(q, &o, search_see, &seen, &err) != NQ_OK)
            bench_die("%s: %s", kind->name, err.message);
        ms[i] = (bench_seconds() - start) * 1e3;
    }
    snprintf(what, sizeof what, "%s: %zu%s", kind->name, seen, bounds.bounded ? ", bounded" : "");
    search_time(b, db, what, ms);
}

static void search_count(bench *b, const bench_db *db, nq *q, const char *name, nq_filter f)
{
    double ms[SEARCH_RUNS];
    nq_counted k = {.size = sizeof k};
    nq_err err = {0};
    char what[60];
    f.size = sizeof f;
    for (int i = 0; i < SEARCH_RUNS; i++) {
        const double start = bench_seconds();
        if (nq_count(q, &f, NULL, &k, &err) != NQ_OK)
            bench_die("%s: %s", name, err.message);
        ms[i] = (bench_seconds() - start) * 1e3;
    }
    snprintf(what, sizeof what, "count %s: %llu%s", name, (unsigned long long)k.n, k.more ? "+" : "");
    search_time(b, db, what, ms);
}

static void search_stats(bench *b, const bench_db *db, nq *q)
{
    double ms[SEARCH_RUNS];
    nq_err err = {0};
    for (int i = 0; i < SEARCH_RUNS; i++) {
        const double start = bench_seconds();
        if (nq_stats(q, search_see_stats, NULL, &err) != NQ_OK)
            bench_die("stats: %s", err.message);
        ms[i] = (bench_seconds() - start) * 1e3;
    }
    search_time(b, db, "stats", ms);
    const double start = bench_seconds();
    if (nq_stats_exact(q, search_see_stats, NULL, &err) != NQ_OK)
        bench_die("stats: %s", err.message);
    char row[80];
    snprintf(row, sizeof row, "search %s, stats, exact", db->name);
    bench_add(b, row, "nanoq", "ms", 0, (bench_seconds() - start) * 1e3);
    nq_counted k = {.size = sizeof k};
    const nq_count_options o = {.size = sizeof o, .exact = true};
    const double from = bench_seconds();
    if (nq_count(q, NULL, &o, &k, &err) != NQ_OK)
        bench_die("count: %s", err.message);
    snprintf(row, sizeof row, "search %s, count, exact: %llu", db->name, (unsigned long long)k.n);
    bench_add(b, row, "nanoq", "ms", 0, (bench_seconds() - from) * 1e3);
}

static void search_row(bench *b, const bench_db *db)
{
    const size_t n = bench_amount(b, b->huge ? 10e6 : 5e6);
    bench_history(b, db, n);
    nq *q = bench_open(db);
    for (size_t i = 0; i < sizeof search_kinds / sizeof search_kinds[0]; i++)
        search_page(b, db, q, &search_kinds[i], n);
    search_count(b, db, q, "all", (nq_filter){.states = 0});
    search_count(
        b, db, q, "dead of a queue",
        (nq_filter){.queues = SEARCH_NAMES("q1"), .nqueues = 1, .states = NQ_STATE_BIT(NQ_STATE_DEAD)});
    search_count(b, db, q, "running", (nq_filter){.states = NQ_STATE_BIT(NQ_STATE_RUNNING)});
    search_count(b, db, q, "tag", (nq_filter){.tags = SEARCH_NAMES("customer:42"), .ntags = 1});
    search_count(b, db, q, "text", (nq_filter){.text = "needle"});
    search_stats(b, db, q);
    nq_close(q);
}

static void search_mysql(bench *b)
{
    search_row(b, &b->mysql);
}

static void search_sqlite(bench *b)
{
    search_row(b, &b->sqlite_normal);
}

const bench_row bench_search_rows[] = {
    {"search-mariadb", search_mysql, true}, {"search-sqlite", search_sqlite, false}, {NULL, NULL, false}};
