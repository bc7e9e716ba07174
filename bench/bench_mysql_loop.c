/* SPDX-License-Identifier: MIT */
/* Bare SQL on MariaDB: what a loop written by hand on the same tables can do. */
#include <mysql.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"
#include "bench_mysql.h"

/* ---- Drain: claim and complete in batches */

struct mysql_claimer {
    const bench *b;
    const bench_drain *d;
    bench_meter *meter;
    MYSQL *my;
    unsigned long long lease;
    char cursor[40]; /* run_at of the last one claimed, or "" */
    unsigned long long cursor_id;
    char *done; /* the DELETE of the batch in hand, or "" */
    size_t done_size, n;
    unsigned long long *ids;
    pthread_t thread;
};

void bench_mysql_narrow(const bench *b)
{
    MYSQL *my = bench_mysql_connect(b, "nanoq_bench");
    bench_mysql_do(my,
                   "CREATE TABLE narrow_tasks (id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,"
                   " queue VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL, state TINYINT UNSIGNED"
                   " NOT NULL, priority SMALLINT NOT NULL, run_at DATETIME(6) NOT NULL, lease BIGINT UNSIGNED"
                   " NOT NULL, type VARCHAR(255) CHARACTER SET utf8mb4 NOT NULL, payload LONGBLOB NOT NULL,"
                   " KEY claim (queue, state, priority, run_at, id)) ENGINE=InnoDB");
    bench_mysql_do(my,
                   "INSERT INTO narrow_tasks SELECT id, queue, state, priority, run_at, lease, type, payload"
                   " FROM nanoq_tasks ORDER BY id");
    mysql_close(my);
    bench_mysql_settle(b);
}

static const char *mysql_table(const bench_drain *d)
{
    return d->narrow ? "narrow_tasks" : "nanoq_tasks";
}

static int mysql_compare(const void *a, const void *b)
{
    const unsigned long long x = *(const unsigned long long *)a, y = *(const unsigned long long *)b;
    return (x > y) - (x < y);
}

/* "id BETWEEN a AND b OR id BETWEEN ..." */
static size_t mysql_ranges(char *out, size_t size, unsigned long long *ids, size_t n)
{
    size_t at = 0;
    qsort(ids, n, sizeof *ids, mysql_compare);
    for (size_t i = 0, end; i < n; i = end) {
        for (end = i + 1; end < n && ids[end] == ids[end - 1] + 1;)
            end++;
        at += (size_t)snprintf(out + at, size - at, "%sid BETWEEN %llu AND %llu", i ? " OR " : "", ids[i],
                               ids[end - 1]);
    }
    return at;
}

/* A deadlock with the other claimer costs a claim; anything else is the end. */
static bool mysql_again(struct mysql_claimer *c, const char *what)
{
    const unsigned number = mysql_errno(c->my);
    if (number != 1213 && number != 1205)
        bench_mysql_die(c->my, what);
    bench_mysql_do(c->my, "ROLLBACK");
    c->cursor[0] = '\0';
    c->n = 0;
    return false;
}

/* Read the claimed rows; copies what a handler would need. */
static bool mysql_claimed(struct mysql_claimer *c)
{
    MYSQL_ROW row;
    MYSQL_RES *r = mysql_store_result(c->my);
    if (!r)
        return mysql_again(c, "claim");
    for (c->n = 0; (row = mysql_fetch_row(r));) {
        c->ids[c->n++] = strtoull(row[0], NULL, 10);
        snprintf(c->cursor, sizeof c->cursor, "%s", row[1]);
        c->cursor_id = c->ids[c->n - 1];
        free(strdup(row[3]));
    }
    mysql_free_result(r);
    return true;
}

/* First round trip: complete the batch before, select the next and lock it. */
static bool mysql_select(struct mysql_claimer *c, char *sql, size_t size)
{
    char from[160] = "";
    const bool done = c->done[0] != '\0';
    /* The id too: many tasks enqueued by one statement have the same run_at. */
    if (c->cursor[0])
        snprintf(from, sizeof from, " AND ((run_at=TIMESTAMP'%s' AND id>%llu) OR run_at>TIMESTAMP'%s')",
                 c->cursor, c->cursor_id, c->cursor);
    int n = snprintf(
        sql, size,
        "%s%s%s%sSELECT id,run_at,type,payload%s FROM %s FORCE INDEX (claim) WHERE queue='default' AND "
        "state=0 AND"
        " priority=0 AND run_at<=UTC_TIMESTAMP(6)%s ORDER BY run_at,id LIMIT %u FOR UPDATE SKIP LOCKED",
        c->d->merged ? "START TRANSACTION;" : "", c->done, done ? ";" : "",
        c->d->merged ? "" : "START TRANSACTION;",
        c->d->narrow ? "" : ",attempts,crashes,generation,max_retries,timeout_ms,created_at,error",
        mysql_table(c->d), from, c->d->batch);
    if (mysql_real_query(c->my, sql, (unsigned long)n))
        return mysql_again(c, "complete or begin");
    for (int i = 0; i < 1 + done; i++)
        if (mysql_next_result(c->my) != 0)
            return mysql_again(c, "claim");
    if (!mysql_claimed(c))
        return false;
    if (!c->d->merged || c->n == 0) /* merged: it may yet be rolled back with the claim */
        c->done[0] = '\0';
    return true;
}

/* Second round trip: take them. */
static bool mysql_take(struct mysql_claimer *c, char *sql, size_t size)
{
    size_t at = (size_t)snprintf(sql, size, "UPDATE %s SET state=1,%slease=%llu WHERE ", mysql_table(c->d),
                                 c->d->narrow ? "" : "generation=generation+1,claimed_at=UTC_TIMESTAMP(6),",
                                 ++c->lease);
    at += mysql_ranges(sql + at, size - at, c->ids, c->n);
    at += (size_t)snprintf(sql + at, size - at, ";COMMIT");
    if (mysql_real_query(c->my, sql, at))
        return mysql_again(c, "take");
    if (mysql_affected_rows(c->my) != c->n)
        bench_die("bare SQL: a claim took %llu of %zu", (unsigned long long)mysql_affected_rows(c->my), c->n);
    if (mysql_next_result(c->my) != 0)
        return mysql_again(c, "commit");
    at = (size_t)snprintf(c->done, c->done_size, "DELETE FROM %s WHERE (", mysql_table(c->d));
    at += mysql_ranges(c->done + at, c->done_size - at, c->ids, c->n);
    snprintf(c->done + at, c->done_size - at, ") AND lease=%llu", c->lease);
    return true;
}

static void *mysql_claim(void *arg)
{
    struct mysql_claimer *c = arg;
    const size_t size = 1000 + 50 * (size_t)c->d->batch;
    char *sql = malloc(2 * size);
    c->done = calloc(1, size);
    c->done_size = size;
    c->ids = calloc(c->d->batch, sizeof *c->ids);
    if (!sql || !c->done || !c->ids)
        bench_die("out of memory");
    c->my = bench_mysql_connect(c->b, "nanoq_bench");
    bench_mysql_do(c->my, "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED");
    for (bool stop = false; !stop;) {
        if (!mysql_select(c, sql, 2 * size))
            continue;
        if (c->n == 0) {
            bench_mysql_do(c->my, "COMMIT");
            stop = c->cursor[0] == '\0';
            c->cursor[0] = '\0'; /* once more from the head */
            continue;
        }
        if (!mysql_take(c, sql, 2 * size))
            continue;
        stop = bench_meter_add(c->meter, c->n);
    }
    if (c->done[0])
        bench_mysql_do(c->my, c->done);
    mysql_close(c->my);
    free(sql);
    free(c->done);
    free(c->ids);
    return NULL;
}

bench_result bench_mysql_drain(const bench *b, const bench_drain *d)
{
    bench_meter m = {.first = d->limit > 2000 ? d->limit / 20 : d->limit / 10, .last = d->limit};
    struct mysql_claimer *c = calloc(d->claimers, sizeof *c);
    if (!c)
        bench_die("out of memory");
    const bench_counters before = bench_count(b, &b->mysql);
    for (unsigned i = 0; i < d->claimers; i++) {
        c[i] = (struct mysql_claimer){.b = b, .d = d, .meter = &m};
        c[i].lease = (unsigned long long)(i + 1) << 36;
        if (pthread_create(&c[i].thread, NULL, mysql_claim, &c[i]))
            bench_die("cannot start a thread");
    }
    for (unsigned i = 0; i < d->claimers; i++)
        pthread_join(c[i].thread, NULL);
    free(c);
    return bench_result_since(b, &b->mysql, &before, atomic_load(&m.n), d->limit ? &m : NULL);
}

/* ---- Enqueue: a prepared INSERT, of many rows when chunk is more than one */

struct mysql_producer {
    const bench *b;
    unsigned number, chunk;
    const atomic_bool *go;
    double until, ended;
    size_t n;
    pthread_t thread;
};

static MYSQL_STMT *mysql_prepare_insert(MYSQL *my, unsigned rows)
{
    static const char head[] = "INSERT INTO nanoq_tasks (type,payload) VALUES ";
    MYSQL_STMT *stmt = mysql_stmt_init(my);
    char *sql = malloc(sizeof head + 6 * (size_t)rows), *at = sql;
    if (!sql || !stmt)
        bench_die("out of memory");
    at += sprintf(at, "%s", head);
    for (unsigned i = 0; i < rows; i++)
        at += sprintf(at, i ? ",(?,?)" : "(?,?)");
    if (mysql_stmt_prepare(stmt, sql, (unsigned long)(at - sql)))
        bench_mysql_die(my, "prepare");
    free(sql);
    return stmt;
}

static void *mysql_produce(void *arg)
{
    struct mysql_producer *p = arg;
    char tag[24], (*payloads)[160] = calloc(p->chunk, sizeof *payloads);
    MYSQL_BIND *bind = calloc(2 * (size_t)p->chunk, sizeof *bind);
    MYSQL *my = bench_mysql_connect(p->b, "nanoq_bench");
    MYSQL_STMT *stmt = mysql_prepare_insert(my, p->chunk);
    if (!payloads || !bind)
        bench_die("out of memory");
    snprintf(tag, sizeof tag, "p%u", p->number);
    while (!atomic_load(p->go))
        bench_sleep(0.0001);
    while (bench_seconds() < p->until) {
        for (unsigned i = 0; i < p->chunk; i++) {
            MYSQL_BIND *v = &bind[(size_t)2 * i];
            v[0].buffer_type = v[1].buffer_type = MYSQL_TYPE_STRING;
            v[0].buffer = (char *)(uintptr_t) "bench";
            v[0].buffer_length = 5;
            v[1].buffer = payloads[i];
            v[1].buffer_length = (unsigned long)bench_payload(payloads[i], sizeof payloads[i], tag, p->n + i);
        }
        if (mysql_stmt_bind_param(stmt, bind) || mysql_stmt_execute(stmt))
            bench_die("bare SQL: insert: %s", mysql_stmt_error(stmt));
        p->n += p->chunk;
    }
    p->ended = bench_seconds();
    mysql_stmt_close(stmt);
    mysql_close(my);
    free(payloads);
    free(bind);
    return NULL;
}

double bench_mysql_enqueue(const bench *b, unsigned producers, unsigned chunk)
{
    struct mysql_producer *p = calloc(producers, sizeof *p);
    atomic_bool go = false;
    size_t n = 0;
    double start, end = 0;
    if (!p)
        bench_die("out of memory");
    for (unsigned i = 0; i < producers; i++) {
        p[i] = (struct mysql_producer){.b = b, .number = i, .chunk = chunk, .go = &go};
        if (pthread_create(&p[i].thread, NULL, mysql_produce, &p[i]))
            bench_die("cannot start a thread");
    }
    bench_sleep(0.05); /* until all are connected; their clock is read after `go` */
    start = bench_seconds();
    for (unsigned i = 0; i < producers; i++)
        p[i].until = start + b->seconds;
    atomic_store(&go, true);
    for (unsigned i = 0; i < producers; i++) {
        pthread_join(p[i].thread, NULL);
        n += p[i].n;
        end = p[i].ended > end ? p[i].ended : end;
    }
    free(p);
    return (double)n / (end - start);
}
