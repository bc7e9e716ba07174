/* SPDX-License-Identifier: MIT */
/* Rows: does the drain stay as fast with a large backlog, beside other tasks, with more threads and
 * processes? */

#include "bench.h"

static bench_result growth_run(const bench *b, const bench_db *db, bool nanoq, const bench_drain *d)
{
    return nanoq       ? bench_nanoq_drain(b, db, d)
           : db->mysql ? bench_mysql_drain(b, d)
                       : bench_sqlite_drain(b, db, d);
}

static const char *growth_side(bool nanoq)
{
    return nanoq ? "nanoq" : "bare SQL";
}

/* The rate of the first 20,000 tasks, or of all when there are fewer. */
static void growth_backlog(bench *b, const bench_db *db)
{
    static const size_t sizes[] = {1000, 10000, 100000, 1000000, 5000000};
    const size_t n = b->huge ? 5 : b->quick ? 3 : 4;
    char row[80];
    snprintf(row, sizeof row, "drain %s, by backlog", db->name);
    for (size_t i = 0; i < n; i++) {
        /* A small one is over in a moment: more runs instead. */
        const int rounds = sizes[i] < 10000    ? 3 * b->rounds
                           : sizes[i] > 100000 ? (b->rounds + 1) / 2
                                               : b->rounds;
        const bench_drain d = {
            .concurrency = 10, .batch = 100, .claimers = 2, .limit = sizes[i] < 20000 ? sizes[i] : 20000};
        for (int run = 0; run < 2 * rounds && run < 2 * BENCH_MAX_RUNS; run++) {
            bench_fresh(b, db);
            bench_preload(db, sizes[i], "backlog", 0);
            bench_add(b, row, growth_side(run % 2 == 0), "tasks/s", (double)sizes[i],
                      growth_run(b, db, run % 2 == 0, &d).rate);
        }
    }
}

static void growth_backlog_mysql(bench *b)
{
    growth_backlog(b, &b->mysql);
}

static void growth_backlog_sqlite(bench *b)
{
    growth_backlog(b, &b->sqlite_full);
}

enum growth_beside { GROWTH_NOTHING, GROWTH_DELAYED, GROWTH_RUNNING, GROWTH_SNAPSHOT };

static void growth_beside(bench *b, const char *row, enum growth_beside what, size_t others)
{
    const bench_drain d = {.concurrency = 10, .batch = 100, .claimers = 2};
    const size_t n = bench_amount(b, 100e3);
    for (int run = 0; run < 2 * b->rounds; run++) {
        void *beside = NULL;
        bench_fresh(b, &b->mysql);
        if (what == GROWTH_DELAYED)
            bench_preload(&b->mysql, others, "delayed", NQ_HOURS(5));
        if (what == GROWTH_RUNNING)
            beside = bench_mysql_running(b, others);
        bench_preload(&b->mysql, n, "beside", 0);
        if (what == GROWTH_SNAPSHOT)
            beside = bench_mysql_snapshot(b);
        const bench_result r = growth_run(b, &b->mysql, run % 2 == 0, &d);
        if (r.n != n)
            bench_die("%s: %zu of %zu tasks were handled", row, r.n, n);
        bench_add(b, row, growth_side(run % 2 == 0), "tasks/s", 0, r.rate);
        if (what == GROWTH_RUNNING)
            bench_mysql_running_end(b, beside, others);
        if (what == GROWTH_SNAPSHOT)
            bench_mysql_release(beside);
    }
}

static void growth_beside_mysql(bench *b)
{
    growth_beside(b, "drain MariaDB, nothing beside", GROWTH_NOTHING, 0);
    if (!b->quick)
        growth_beside(b, "drain MariaDB, 1M delayed tasks beside", GROWTH_DELAYED, 1000000);
    growth_beside(b, "drain MariaDB, 10k running tasks beside", GROWTH_RUNNING, 10000);
    growth_beside(b, "drain MariaDB, a snapshot held open", GROWTH_SNAPSHOT, 0);
}

/* ---- Threads and processes */

static void growth_threads(bench *b)
{
    static const unsigned threads[] = {1, 8, 64, 512};
    const bench_db *dbs[] = {&b->mysql, &b->sqlite_full};
    const size_t n = bench_amount(b, 100e3);
    for (size_t k = b->mysql_socket[0] ? 0 : 1; k < 2; k++) {
        char row[80];
        snprintf(row, sizeof row, "drain %s, by handler threads", dbs[k]->name);
        for (int round = 0; round < b->rounds; round++) {
            for (size_t i = 0; i < 4; i++) {
                const bench_drain d = {.concurrency = threads[i], .batch = 100};
                bench_fresh(b, dbs[k]);
                bench_preload(dbs[k], n, "threads", 0);
                bench_add(b, row, "nanoq", "tasks/s", threads[i], bench_nanoq_drain(b, dbs[k], &d).rate);
            }
        }
    }
}

static void growth_processes(bench *b)
{
    const bench_db *dbs[] = {&b->mysql, &b->sqlite_full};
    const size_t n = bench_amount(b, 100e3);
    for (size_t k = b->mysql_socket[0] ? 0 : 1; k < 2; k++) {
        char row[80];
        snprintf(row, sizeof row, "drain %s, by processes", dbs[k]->name);
        for (int round = 0; round < b->rounds; round++) {
            for (unsigned processes = 1; processes <= 8; processes *= 2) {
                const bench_drain d = {.batch = 100, .claimers = processes};
                bench_fresh(b, dbs[k]);
                bench_preload(dbs[k], n, "processes", 0);
                bench_add(b, row, "nanoq", "tasks/s", processes,
                          bench_children(dbs[k], (int)processes,
                                         &(const bench_drain){.concurrency = 10, .batch = 100}, n));
                if (!dbs[k]->mysql)
                    continue;
                bench_fresh(b, dbs[k]);
                bench_preload(dbs[k], n, "processes", 0);
                bench_add(b, row, "bare SQL", "tasks/s", processes, bench_mysql_drain(b, &d).rate);
            }
        }
    }
}

const bench_row bench_growth_rows[] = {
    {"backlog-mariadb", growth_backlog_mysql, true}, {"backlog-sqlite", growth_backlog_sqlite, false},
    {"beside-mariadb", growth_beside_mysql, true},   {"threads", growth_threads, false},
    {"processes", growth_processes, false},          {NULL, NULL, false}};
