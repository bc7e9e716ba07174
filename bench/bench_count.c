/* SPDX-License-Identifier: MIT */
/* What was done, and how fast. */
#include <math.h>
#include <unistd.h>

#include "bench.h"

bool bench_meter_add(bench_meter *m, size_t n)
{
    const size_t before = atomic_fetch_add(&m->n, n), after = before + n;
    if (before < m->first && after >= m->first)
        atomic_store(&m->first_at, bench_seconds());
    if (before < m->last && after >= m->last)
        atomic_store(&m->last_at, bench_seconds());
    return m->last && after >= m->last;
}

bench_counters bench_count(const bench *b, const bench_db *db)
{
    bench_counters c = {.statements = NAN, .fsyncs = NAN, .server = NAN};
    if (db->mysql) {
        c.statements = bench_mysql_status(b, "Questions");
        c.fsyncs = bench_mysql_status(b, "Innodb_data_fsyncs");
        c.server = bench_cpu_of(b->server_pid);
    }
    c.client = bench_cpu_of(getpid());
    c.at = bench_seconds();
    return c;
}

bench_result bench_result_since(const bench *b, const bench_db *db, const bench_counters *before, size_t n,
                                const bench_meter *m)
{
    const bench_counters now = bench_count(b, db);
    const double tasks = (double)n;
    bench_result r = {
        .n = n,
        .rate = tasks / (now.at - before->at),
        .client_us = (now.client - before->client) * 1e6 / tasks,
        .server_us = (now.server - before->server) * 1e6 / tasks,
        .statements = (now.statements - before->statements) / tasks,
        .fsyncs = (now.fsyncs - before->fsyncs) / tasks,
    };
    if (m && m->last) {
        if (atomic_load(&m->n) < m->last)
            bench_die("%s: %zu tasks of %zu came", db->name, atomic_load(&m->n), m->last);
        r.rate = (double)(m->last - m->first) / (atomic_load(&m->last_at) - atomic_load(&m->first_at));
    }
    return r;
}
