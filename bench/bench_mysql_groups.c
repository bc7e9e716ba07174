/* SPDX-License-Identifier: MIT */
/* Bare SQL on MariaDB: groups of which each may run one task, claimed by a loop written by hand on nanoq's
 * tables. It promises less: it never learns of a new group, holds its locks while the server waits for it,
 * and knows no other limit than one. */
#include <mysql.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"
#include "bench_mysql.h"

enum { GROUPS_MOST = 1000, GROUPS_NAME = 72 };

struct groups_claimer {
    const bench *b;
    bench_meter *meter;
    unsigned batch;
    size_t at, begin, end; /* whose turn is next, among these groups */
    const char (*groups)[GROUPS_NAME];
    MYSQL *my;
    unsigned long long lease;
    char *sql, *locked, *ids, *done; /* done: the DELETE of the batch in hand, or "" */
    size_t size;
    pthread_t thread;
};

/* The first column of a result as "a,b"; the rest is copied as a handler would need it. */
static size_t groups_list(struct groups_claimer *c, char *out, const char *quote)
{
    MYSQL_RES *r = mysql_store_result(c->my);
    size_t n = 0, at = 0;
    if (!r)
        bench_mysql_die(c->my, "groups by hand");
    out[0] = '\0';
    for (MYSQL_ROW row; (row = mysql_fetch_row(r)); n++) {
        at += (size_t)snprintf(out + at, c->size - at, "%s%s%s%s", n ? "," : "", quote, row[0], quote);
        for (unsigned i = 1; i < mysql_num_fields(r); i++)
            free(row[i] ? strdup(row[i]) : NULL);
    }
    mysql_free_result(r);
    return n;
}

static void groups_send(struct groups_claimer *c)
{
    if (mysql_real_query(c->my, c->sql, (unsigned long)strlen(c->sql)))
        bench_mysql_die(c->my, "groups by hand");
}

static void groups_next(struct groups_claimer *c)
{
    if (mysql_next_result(c->my) != 0)
        bench_mysql_die(c->my, "groups by hand");
}

/* Complete the batch before, and lock the gates of the next groups. */
static size_t groups_lock(struct groups_claimer *c)
{
    const bool done = c->done[0] != '\0';
    size_t at = (size_t)snprintf(
        c->sql, c->size,
        "START TRANSACTION;%s%sSELECT queue FROM nanoq_gates FORCE INDEX (PRIMARY) WHERE queue IN (", c->done,
        done ? ";" : "");
    for (unsigned i = 0; i < c->batch; i++, c->at = c->at + 1 < c->end ? c->at + 1 : c->begin)
        at += (size_t)snprintf(c->sql + at, c->size - at, "%s'%s'", i ? "," : "", c->groups[c->at]);
    snprintf(c->sql + at, c->size - at, ") FOR UPDATE SKIP LOCKED");
    groups_send(c);
    for (int i = 0; i < 1 + done; i++)
        groups_next(c);
    return groups_list(c, c->locked, "'");
}

/* The first task of each that runs none: a statement of its own behind the locks sees what was committed. */
static size_t groups_first(struct groups_claimer *c)
{
    snprintf(
        c->sql, c->size,
        "SELECT t.id,t.type,t.payload,t.attempts,t.crashes,t.generation,t.max_retries,t.timeout_ms,"
        "t.created_at,t.error FROM (SELECT (SELECT id FROM nanoq_tasks FORCE INDEX (claim) WHERE "
        "queue=g.queue AND state=0 AND priority=0 AND run_at<=UTC_TIMESTAMP(6) ORDER BY run_at,id LIMIT 1) "
        "AS id,(SELECT COUNT(*) FROM nanoq_tasks FORCE INDEX (claim) WHERE queue=g.queue AND state=1) AS n "
        "FROM nanoq_gates g FORCE INDEX (PRIMARY) WHERE g.queue IN (%s) LIMIT 1000) f STRAIGHT_JOIN "
        "nanoq_tasks t ON t.id=f.id WHERE f.n=0",
        c->locked);
    groups_send(c);
    return groups_list(c, c->ids, "");
}

static void *groups_claim(void *arg)
{
    struct groups_claimer *c = arg;
    c->size = 1000 + 100 * (size_t)c->batch;
    c->sql = malloc(3 * c->size);
    c->locked = malloc(c->size);
    c->ids = malloc(c->size);
    c->done = calloc(1, c->size);
    if (!c->sql || !c->locked || !c->ids || !c->done)
        bench_die("out of memory");
    c->my = bench_mysql_connect(c->b, "nanoq_bench");
    bench_mysql_do(c->my, "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED");
    while (atomic_load(&c->meter->n) < c->meter->last) {
        const size_t n = groups_lock(c) ? groups_first(c) : 0;
        if (n > 0) {
            snprintf(c->sql, c->size,
                     "UPDATE nanoq_tasks SET state=1,generation=generation+1,claimed_at=UTC_TIMESTAMP(6),"
                     "lease=%llu WHERE id IN (%s);COMMIT",
                     ++c->lease, c->ids);
            groups_send(c);
            if (mysql_affected_rows(c->my) != n)
                bench_die("groups by hand: a claim took %llu of %zu",
                          (unsigned long long)mysql_affected_rows(c->my), n);
            groups_next(c);
            snprintf(c->done, c->size, "DELETE FROM nanoq_tasks WHERE id IN (%s) AND lease=%llu", c->ids,
                     c->lease);
        } else {
            bench_mysql_do(c->my, "COMMIT");
            c->done[0] = '\0';
        }
        bench_meter_add(c->meter, n);
    }
    if (c->done[0])
        bench_mysql_do(c->my, c->done);
    mysql_close(c->my);
    free(c->sql);
    free(c->locked);
    free(c->ids);
    free(c->done);
    return NULL;
}

double bench_mysql_groups(const bench *b, unsigned claimers, unsigned batch, bool apart, size_t n)
{
    static char groups[GROUPS_MOST][GROUPS_NAME];
    bench_meter m = {.first = n / 20, .last = n};
    struct groups_claimer *c = calloc(claimers, sizeof *c);
    MYSQL *my = bench_mysql_connect(b, "nanoq_bench");
    size_t ngroups = 0;
    if (!c)
        bench_die("out of memory");
    bench_mysql_do(my, "INSERT IGNORE INTO nanoq_gates (queue) SELECT DISTINCT queue FROM nanoq_tasks");
    if (mysql_query(my, "SELECT queue FROM nanoq_gates ORDER BY queue"))
        bench_mysql_die(my, "the groups");
    MYSQL_RES *r = mysql_store_result(my);
    for (MYSQL_ROW row; r && ngroups < GROUPS_MOST && (row = mysql_fetch_row(r)); ngroups++)
        snprintf(groups[ngroups], sizeof groups[0], "%s", row[0]);
    mysql_free_result(r);
    mysql_close(my);
    const bench_counters before = bench_count(b, &b->mysql);
    for (unsigned i = 0; i < claimers; i++) {
        const size_t from = i * ngroups / claimers, to = (i + 1) * ngroups / claimers;
        c[i] = (struct groups_claimer){.b = b, .meter = &m, .batch = batch, .at = from};
        c[i].groups = (const char(*)[GROUPS_NAME])groups;
        c[i].begin = apart ? from : 0;
        c[i].end = apart ? to : ngroups;
        c[i].lease = (unsigned long long)(i + 1) << 36;
        if (pthread_create(&c[i].thread, NULL, groups_claim, &c[i]))
            bench_die("cannot start a thread");
    }
    for (unsigned i = 0; i < claimers; i++)
        pthread_join(c[i].thread, NULL);
    free(c);
    return bench_result_since(b, &b->mysql, &before, atomic_load(&m.n), &m).rate;
}
