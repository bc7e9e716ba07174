/* SPDX-License-Identifier: MIT */
/* MySQL and MariaDB: the text of an INSERT. */
#include "mysql_driver.h"

#define MYSQL_INSERT_MOST 10 /* values of one row */

/*
 * Columns that hold the schema's default in each row are left out: the server takes up to a tenth longer for
 * all of them.
 */
struct mysql_insert_shape {
    bool queue, priority, retries, timeout;
    bool delay, at; /* run_at by a delay; by a point in time in some rows */
    bool follow;
};

/* What the steps say; a test enqueues both ways and compares. */
#define MYSQL_INSERT_QUEUE      "default"
#define MYSQL_INSERT_RETRIES    10
#define MYSQL_INSERT_TIMEOUT_MS 60000

static struct mysql_insert_shape mysql_insert_shape(bool follow, nq_mysql_row *const rows[], size_t n)
{
    /* A follow-up's columns have no defaults. */
    struct mysql_insert_shape s = {follow, follow, follow, follow, follow, false, follow};
    for (size_t i = 0; i < n; i++) {
        const nq_new *t = rows[i]->task;
        s.queue = s.queue || strcmp(t->queue, MYSQL_INSERT_QUEUE) != 0;
        s.priority = s.priority || t->priority != 0;
        s.retries = s.retries || t->max_retries != MYSQL_INSERT_RETRIES;
        s.timeout = s.timeout || t->timeout_ms != MYSQL_INSERT_TIMEOUT_MS;
        s.delay = s.delay || t->delay_us != 0;
        s.at = s.at || t->run_at_us != 0;
    }
    return s;
}

static void mysql_insert_row(nq_buf *b, const struct mysql_insert_shape *s)
{
    nq_buf_str(b, "(?,?,?");
    nq_buf_str(b, s->queue ? ",?" : "");
    nq_buf_str(b, s->priority ? ",?" : "");
    nq_buf_str(b, s->retries ? ",?" : "");
    nq_buf_str(b, s->timeout ? ",?" : "");
    if (s->at)
        nq_buf_str(b, ",COALESCE(TIMESTAMP'1970-01-01 00:00:00' + INTERVAL ? MICROSECOND,"
                      "UTC_TIMESTAMP(6) + INTERVAL ? MICROSECOND)");
    else
        nq_buf_str(b, s->delay ? ",UTC_TIMESTAMP(6) + INTERVAL ? MICROSECOND" : "");
    nq_buf_str(b, s->follow ? ",?)" : ")");
}

static size_t mysql_insert_bind(nq_val *v, const struct mysql_insert_shape *s, const nq_mysql_row *r)
{
    const nq_new *t = r->task;
    size_t n = 0;
    v[n++] = nq_text(t->type);
    v[n++] = nq_blob(t->payload, t->payload_size);
    v[n++] = t->unique == NQ_UNIQUE_NONE ? nq_null() : nq_blob(r->key, sizeof r->key);
    if (s->queue)
        v[n++] = nq_text(t->queue);
    if (s->priority)
        v[n++] = nq_int(t->priority);
    if (s->retries)
        v[n++] = nq_int(t->max_retries);
    if (s->timeout)
        v[n++] = nq_int(t->timeout_ms);
    if (s->at)
        v[n++] = t->run_at_us ? nq_int(t->run_at_us) : nq_null();
    if (s->at || s->delay)
        v[n++] = nq_int(t->run_at_us ? 0 : t->delay_us);
    if (s->follow)
        v[n++] = nq_int(r->id);
    return n;
}

nq_val *nq_mysql_insert(nq_buf *sql, const char *table, bool follow, nq_mysql_row *const rows[], size_t nrows,
                        size_t *n)
{
    const struct mysql_insert_shape s = mysql_insert_shape(follow, rows, nrows);
    nq_val *v = malloc(nrows * MYSQL_INSERT_MOST * sizeof *v);
    size_t k = 0;
    nq_buf_fmt(sql, "INSERT INTO %s (type,payload,unique_key%s%s%s%s%s%s) VALUES ", table,
               s.queue ? ",queue" : "", s.priority ? ",priority" : "", s.retries ? ",max_retries" : "",
               s.timeout ? ",timeout_ms" : "", s.at || s.delay ? ",run_at" : "", s.follow ? ",task_id" : "");
    for (size_t i = 0; v && i < nrows; i++) {
        nq_buf_str(sql, i ? "," : "");
        mysql_insert_row(sql, &s);
        k += mysql_insert_bind(v + k, &s, rows[i]);
    }
    if (sql->failed) {
        free(v);
        return NULL;
    }
    *n = k;
    return v;
}
