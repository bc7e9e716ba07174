/* SPDX-License-Identifier: MIT */
/* Rows: how fast is a backlog drained, how fast are tasks enqueued. */
#include <math.h>

#include "bench.h"

/* ---- Drain */

static void rows_add_drain(bench *b, const bench_db *db, unsigned batch, const char *side, bench_result r)
{
    char row[80];
    snprintf(row, sizeof row, "drain %s, batch %u", db->name, batch);
    bench_add(b, row, side, "tasks/s", 0, r.rate);
    snprintf(row, sizeof row, "client CPU, drain %s, batch %u", db->name, batch);
    bench_add(b, row, side, "us/task", 0, r.client_us);
    if (!db->mysql)
        return;
    if (!isnan(r.server_us)) {
        snprintf(row, sizeof row, "server CPU, drain %s, batch %u", db->name, batch);
        bench_add(b, row, side, "us/task", 0, r.server_us);
    }
    snprintf(row, sizeof row, "statements, drain %s, batch %u", db->name, batch);
    bench_add(b, row, side, "per 1000", 0, r.statements * 1000);
    snprintf(row, sizeof row, "fsyncs, drain %s, batch %u", db->name, batch);
    bench_add(b, row, side, "per 1000", 0, r.fsyncs * 1000);
}

/* Bare SQL completes on MariaDB in two ways: in a transaction of its own, and together with the next claim.
 * The last side does the same on a table with no column but those that it needs: the distance is what nanoq's
 * table costs. */
static void rows_drain(bench *b, const bench_db *db, unsigned batch, double full)
{
    static const struct {
        const char *name;
        bool merged, narrow;
    } sides[] = {{"nanoq", false, false},
                 {"bare SQL", false, false},
                 {"bare SQL, merged", true, false},
                 {"bare SQL, narrow table", true, true}};
    const size_t n = bench_amount(b, full);
    for (int round = 0; round < b->rounds; round++) {
        for (size_t side = 0; side < sizeof sides / sizeof *sides; side++) {
            const bench_drain d = {.concurrency = 10,
                                   .batch = batch,
                                   .claimers = 2,
                                   .merged = sides[side].merged,
                                   .narrow = sides[side].narrow};
            if (!db->mysql && d.merged && !d.narrow)
                continue; /* on SQLite that is the one way there is */
            bench_fresh(b, db);
            bench_preload(db, n, "drain", 0);
            if (d.narrow && db->mysql)
                bench_mysql_narrow(b);
            else if (d.narrow)
                bench_sqlite_narrow(db);
            const bench_result r = side == 0   ? bench_nanoq_drain(b, db, &d)
                                   : db->mysql ? bench_mysql_drain(b, &d)
                                               : bench_sqlite_drain(b, db, &d);
            if (r.n != n)
                bench_die("%s, %s: %zu of %zu tasks were handled", db->name, sides[side].name, r.n, n);
            rows_add_drain(b, db, batch, sides[side].name, r);
        }
    }
}

/* The worker's default batch. */
static void rows_drain_mysql_500(bench *b)
{
    rows_drain(b, &b->mysql, 500, 200e3);
}

static void rows_drain_mysql_100(bench *b)
{
    rows_drain(b, &b->mysql, 100, 200e3);
}

static void rows_drain_mysql_10(bench *b)
{
    rows_drain(b, &b->mysql, 10, 50e3);
}

static void rows_drain_mysql_1(bench *b)
{
    rows_drain(b, &b->mysql, 1, 10e3);
}

static void rows_drain_full(bench *b)
{
    rows_drain(b, &b->sqlite_full, 500, 200e3);
    rows_drain(b, &b->sqlite_full, 100, 200e3);
    rows_drain(b, &b->sqlite_full, 10, 50e3);
    rows_drain(b, &b->sqlite_full, 1, 10e3);
}

static void rows_drain_normal(bench *b)
{
    rows_drain(b, &b->sqlite_normal, 500, 200e3);
    rows_drain(b, &b->sqlite_normal, 100, 200e3);
    rows_drain(b, &b->sqlite_normal, 1, 20e3);
}

/* ---- Enqueue */

static void rows_enqueue(bench *b, const bench_db *db, unsigned producers, unsigned chunk)
{
    char row[80];
    snprintf(row, sizeof row,
             chunk == 1 ? "enqueue %s, one commit each, by producers" : "enqueue %s, %u in a call", db->name,
             chunk);
    for (int round = 0; round < b->rounds; round++) {
        bench_fresh(b, db);
        bench_add(b, row, "nanoq", "tasks/s", chunk == 1 ? producers : 0,
                  bench_nanoq_enqueue(b, db, producers, chunk));
        bench_fresh(b, db);
        bench_add(b, row, "bare SQL", "tasks/s", chunk == 1 ? producers : 0,
                  db->mysql ? bench_mysql_enqueue(b, producers, chunk) : bench_sqlite_enqueue(b, db, chunk));
    }
}

static void rows_enqueue_mysql(bench *b)
{
    for (unsigned producers = 1; producers <= 16; producers *= 2)
        if (!b->quick || producers == 1 || producers == 8)
            rows_enqueue(b, &b->mysql, producers, 1);
}

static void rows_enqueue_mysql_100(bench *b)
{
    rows_enqueue(b, &b->mysql, 1, 100);
}

static void rows_enqueue_sqlite(bench *b)
{
    rows_enqueue(b, &b->sqlite_full, 1, 1);
    rows_enqueue(b, &b->sqlite_full, 1, 100);
    rows_enqueue(b, &b->sqlite_normal, 1, 1);
    rows_enqueue(b, &b->sqlite_normal, 1, 100);
}

const bench_row bench_rows[] = {
    {"drain-mariadb-500", rows_drain_mysql_500, true}, {"drain-mariadb-100", rows_drain_mysql_100, true},
    {"drain-mariadb-10", rows_drain_mysql_10, true},   {"drain-mariadb-1", rows_drain_mysql_1, true},
    {"drain-sqlite-full", rows_drain_full, false},     {"drain-sqlite-normal", rows_drain_normal, false},
    {"enqueue-mariadb", rows_enqueue_mysql, true},     {"enqueue-mariadb-100", rows_enqueue_mysql_100, true},
    {"enqueue-sqlite", rows_enqueue_sqlite, false},    {NULL, NULL, false}};
