/* SPDX-License-Identifier: MIT */
/* Rows: handlers in child processes beside the same handlers in threads. */
#include <stdlib.h>
#include <sys/mman.h>

#include "bench.h"

/* What the children tell: kB of memory that is theirs alone, the most of any. */
static atomic_long *isolated_private_kb;

static nq_verdict isolated_handle(nq_ctx *ctx, const nq_task *task, void *arg)
{
    (void)ctx, (void)task, (void)arg;
    return NQ_DONE;
}

static nq_verdict isolated_weigh(nq_ctx *ctx, const nq_task *task, void *arg)
{
    char line[256];
    long kb, sum = 0;
    FILE *f = fopen("/proc/self/smaps_rollup", "re");
    (void)ctx, (void)task, (void)arg;
    while (f && fgets(line, sizeof line, f))
        if (sscanf(line, "Private_Clean: %ld", &kb) == 1 || sscanf(line, "Private_Dirty: %ld", &kb) == 1)
            sum += kb;
    if (f)
        fclose(f);
    long most = atomic_load(isolated_private_kb);
    while (sum > most && !atomic_compare_exchange_weak(isolated_private_kb, &most, sum))
        ;
    return NQ_DONE;
}

/* Drain what is there; seconds. */
static double isolated_drain(const bench_db *db, unsigned concurrency, nq_handler_fn handler,
                             enum nq_isolation isolation, unsigned tasks_per_child, size_t n)
{
    const nq_worker_options opts = {
        .size = sizeof opts, .concurrency = concurrency, .drain = NQ_DRAIN_DUE, .batch = 500};
    const nq_handle_options how = {
        .size = sizeof how,
        .isolation = NQ_ISOLATION(.kind = (int)isolation, .tasks_per_child = tasks_per_child)};
    nq_worker *p = NULL;
    nq_err err = {0};
    nq_worker_totals counts;
    nq *q = bench_open(db);
    if (nq_worker_new(&p, q, &opts, &err) || nq_worker_handle(p, NULL, handler, NULL, &how, &err) ||
        (isolation == NQ_PROCESS && nq_worker_fork(p, &err)))
        bench_die("%s: %s", db->name, err.message);
    const double start = bench_seconds();
    if (nq_worker_run(p, &err) != NQ_OK)
        bench_die("draining %s: %s", db->name, err.message);
    const double took = bench_seconds() - start;
    nq_worker_stats(p, &counts, sizeof counts);
    if (counts.done != n)
        bench_die("%s: %llu of %zu tasks are done", db->name, (unsigned long long)counts.done, n);
    nq_worker_free(p);
    nq_close(q);
    return took;
}

static void isolated_rows(bench *b, const bench_db *db, double full)
{
    static const char *const sides[] = {"threads", "child processes"};
    const size_t n = bench_amount(b, full);
    char row[80];
    snprintf(row, sizeof row, "drain %s, batch 500, by isolation", db->name);
    for (int round = 0; round < b->rounds; round++)
        for (int side = 0; side < 2; side++) {
            bench_fresh(b, db);
            bench_preload(db, n, "isolated", 0);
            bench_add(b, row, sides[side], "tasks/s", 0,
                      (double)n /
                          isolated_drain(db, 10, isolated_handle, side ? NQ_PROCESS : NQ_THREAD, 0, n));
        }
}

static void isolated_mysql(bench *b)
{
    isolated_rows(b, &b->mysql, 200e3);
}

static void isolated_sqlite(bench *b)
{
    isolated_rows(b, &b->sqlite_full, 200e3);
    isolated_rows(b, &b->sqlite_normal, 200e3);
}

/* One child after the other, each for one task, beside one for all; and what one weighs. */
static void isolated_start(bench *b)
{
    const size_t n = bench_amount(b, 2000);
    isolated_private_kb =
        mmap(NULL, sizeof *isolated_private_kb, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (isolated_private_kb == MAP_FAILED)
        bench_die("out of memory");
    for (int round = 0; round < b->rounds; round++) {
        double took[2];
        for (int side = 0; side < 2; side++) {
            bench_fresh(b, &b->sqlite_normal);
            bench_preload(&b->sqlite_normal, n, "isolated", 0);
            took[side] = isolated_drain(&b->sqlite_normal, 1, isolated_handle, NQ_PROCESS, side ? 1 : ~0u, n);
        }
        bench_add(b, "start and end of a child", "child processes", "us", 0,
                  (took[1] - took[0]) / (double)n * 1e6);
        bench_fresh(b, &b->sqlite_normal);
        bench_preload(&b->sqlite_normal, 10, "isolated", 0);
        atomic_store(isolated_private_kb, 0);
        isolated_drain(&b->sqlite_normal, 1, isolated_weigh, NQ_PROCESS, 0, 10);
        bench_add(b, "memory of a child's own", "child processes", "MB", 0,
                  (double)atomic_load(isolated_private_kb) / 1024);
    }
    munmap((void *)isolated_private_kb, sizeof *isolated_private_kb);
}

const bench_row bench_isolated_rows[] = {{"isolated-mariadb", isolated_mysql, true},
                                         {"isolated-sqlite", isolated_sqlite, false},
                                         {"isolated-start", isolated_start, false},
                                         {NULL, NULL, false}};
