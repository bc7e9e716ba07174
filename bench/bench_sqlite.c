/* SPDX-License-Identifier: MIT */
/* Bare SQL on SQLite: what a loop written by hand on the same tables can do. */
#include <sqlite3.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "bench.h"

static sqlite3 *sqlite_open(const bench_db *db)
{
    sqlite3 *c = NULL;
    if (sqlite3_open(db->file, &c) || sqlite3_exec(c, "PRAGMA journal_mode=WAL", NULL, NULL, NULL) ||
        sqlite3_exec(c, db->full ? "PRAGMA synchronous=FULL" : "PRAGMA synchronous=NORMAL", NULL, NULL, NULL))
        bench_die("%s: %s", db->file, sqlite3_errmsg(c));
    return c;
}

static sqlite3_stmt *sqlite_prepare(sqlite3 *c, const char *sql)
{
    sqlite3_stmt *s = NULL;
    if (sqlite3_prepare_v2(c, sql, -1, &s, NULL))
        bench_die("sqlite: %s: %s", sql, sqlite3_errmsg(c));
    return s;
}

static void sqlite_run(sqlite3 *c, sqlite3_stmt *s)
{
    if (sqlite3_step(s) != SQLITE_DONE)
        bench_die("sqlite: %s", sqlite3_errmsg(c));
    sqlite3_reset(s);
}

void bench_sqlite_reset(const bench_db *db)
{
    static const char *const ends[] = {"", "-wal", "-shm", "-journal", "-nanoq-lock"};
    char path[300];
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        snprintf(path, sizeof path, "%s%s", db->file, ends[i]);
        unlink(path);
    }
}

static sqlite3_int64 sqlite_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (sqlite3_int64)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

#define SQLITE_DUE                                                                                           \
    " WHERE queue = 'default' AND state = 0 AND priority = 0 AND run_at >= ?3 AND run_at <= ?2"              \
    " ORDER BY run_at, id LIMIT ?4)"

/* Claimed ids as runs of consecutive ones. */
struct sqlite_run {
    sqlite3_int64 from, to;
};

static int sqlite_compare(const void *a, const void *b)
{
    const sqlite3_int64 x = *(const sqlite3_int64 *)a, y = *(const sqlite3_int64 *)b;
    return (x > y) - (x < y);
}

static size_t sqlite_runs(struct sqlite_run *runs, sqlite3_int64 *ids, size_t n)
{
    size_t k = 0;
    qsort(ids, n, sizeof *ids, sqlite_compare);
    for (size_t i = 0; i < n; i++)
        if (k && runs[k - 1].to + 1 == ids[i])
            runs[k - 1].to = ids[i];
        else
            runs[k++] = (struct sqlite_run){ids[i], ids[i]};
    return k;
}

void bench_sqlite_narrow(const bench_db *db)
{
    sqlite3 *c = sqlite_open(db);
    if (sqlite3_exec(
            c,
            "CREATE TABLE narrow_tasks (id INTEGER PRIMARY KEY, queue TEXT NOT NULL, state INTEGER NOT NULL,"
            " priority INTEGER NOT NULL, run_at INTEGER NOT NULL, lease INTEGER NOT NULL, type TEXT NOT"
            " NULL, payload BLOB NOT NULL);"
            "CREATE INDEX narrow_claim ON narrow_tasks (queue, state, priority, run_at);"
            "INSERT INTO narrow_tasks SELECT id, queue, state, priority, run_at, lease, type, payload FROM"
            " nanoq_tasks ORDER BY id; PRAGMA wal_checkpoint(TRUNCATE)",
            NULL, NULL, NULL))
        bench_die("%s: %s", db->file, sqlite3_errmsg(c));
    sqlite3_close(c);
}

/* One transaction a batch: delete what is finished, claim the next. */
bench_result bench_sqlite_drain(const bench *b, const bench_db *db, const bench_drain *d)
{
    bench_meter m = {.first = d->limit > 2000 ? d->limit / 20 : d->limit / 10, .last = d->limit};
    sqlite3_int64 *ids = calloc(d->batch, sizeof *ids), lease = 0, cursor = 0;
    struct sqlite_run *runs = calloc(d->batch, sizeof *runs);
    size_t nruns = 0;
    bool more = true;
    if (!ids || !runs)
        bench_die("out of memory");
    const bench_counters before = bench_count(b, db);
    sqlite3 *c = sqlite_open(db);
    sqlite3_stmt *begin = sqlite_prepare(c, "BEGIN IMMEDIATE"), *commit = sqlite_prepare(c, "COMMIT");
    sqlite3_stmt *done =
        sqlite_prepare(c, d->narrow ? "DELETE FROM narrow_tasks WHERE id BETWEEN ? AND ? AND lease = ?"
                                    : "DELETE FROM nanoq_tasks WHERE id BETWEEN ? AND ? AND lease = ?");
    sqlite3_stmt *claim = sqlite_prepare(
        c, d->narrow
               ? "UPDATE narrow_tasks SET state = 1, lease = ?1"
                 " WHERE id IN (SELECT id FROM narrow_tasks" SQLITE_DUE
                 " RETURNING id, type, payload, 0, run_at"
               : "UPDATE nanoq_tasks SET state = 1, lease = ?1, generation = generation + 1, claimed_at = ?2"
                 " WHERE id IN (SELECT id FROM nanoq_tasks" SQLITE_DUE
                 " RETURNING id, type, payload, attempts, run_at");
    while (more || nruns) {
        size_t n = 0;
        sqlite_run(c, begin);
        for (size_t i = 0; i < nruns; i++) {
            sqlite3_bind_int64(done, 1, runs[i].from);
            sqlite3_bind_int64(done, 2, runs[i].to);
            sqlite3_bind_int64(done, 3, lease);
            sqlite_run(c, done);
        }
        if (more) {
            sqlite3_bind_int64(claim, 1, ++lease);
            sqlite3_bind_int64(claim, 2, sqlite_now());
            sqlite3_bind_int64(claim, 3, cursor);
            sqlite3_bind_int64(claim, 4, d->batch);
            while (sqlite3_step(claim) == SQLITE_ROW) {
                ids[n++] = sqlite3_column_int64(claim, 0);
                cursor = sqlite3_column_int64(claim, 4) > cursor ? sqlite3_column_int64(claim, 4) : cursor;
            }
            if (sqlite3_reset(claim))
                bench_die("sqlite: %s", sqlite3_errmsg(c));
        }
        sqlite_run(c, commit);
        nruns = sqlite_runs(runs, ids, n);
        more = more && n > 0 && !bench_meter_add(&m, n);
    }
    const bench_result r = bench_result_since(b, db, &before, atomic_load(&m.n), d->limit ? &m : NULL);
    sqlite3_finalize(begin);
    sqlite3_finalize(commit);
    sqlite3_finalize(done);
    sqlite3_finalize(claim);
    sqlite3_close(c);
    free(ids);
    free(runs);
    return r;
}

double bench_sqlite_enqueue(const bench *b, const bench_db *db, unsigned chunk)
{
    sqlite3 *c = sqlite_open(db);
    sqlite3_stmt *begin = sqlite_prepare(c, "BEGIN IMMEDIATE"), *commit = sqlite_prepare(c, "COMMIT");
    sqlite3_stmt *insert = sqlite_prepare(c, "INSERT INTO nanoq_tasks (type, payload) VALUES (?, ?)");
    const double start = bench_seconds();
    size_t n = 0;
    while (bench_seconds() < start + b->seconds) {
        if (chunk > 1)
            sqlite_run(c, begin);
        for (unsigned i = 0; i < chunk; i++, n++) {
            char payload[160];
            const int size = bench_payload(payload, sizeof payload, "bare", n);
            sqlite3_bind_text(insert, 1, "bench", -1, SQLITE_STATIC);
            sqlite3_bind_blob(insert, 2, payload, size, SQLITE_TRANSIENT);
            sqlite_run(c, insert);
        }
        if (chunk > 1)
            sqlite_run(c, commit);
    }
    const double rate = (double)n / (bench_seconds() - start);
    sqlite3_finalize(begin);
    sqlite3_finalize(commit);
    sqlite3_finalize(insert);
    sqlite3_close(c);
    return rate;
}

void bench_sqlite_run(const bench_db *db, const char *sql)
{
    sqlite3 *c = sqlite_open(db);
    if (sqlite3_exec(c, sql, NULL, NULL, NULL))
        bench_die("%s: %s", sql, sqlite3_errmsg(c));
    sqlite3_close(c);
}
