/* SPDX-License-Identifier: MIT */
/* MySQL and MariaDB: the text of an INSERT, and whether there are ids for it. */
#include "mysql_driver.h"

#define MYSQL_INSERT_MOST (NQ_SAID_COUNT + 7) /* values of one row */

/*
 * Columns that hold the schema's default in each row are left out: the server takes up to a tenth longer for
 * all of them. A test enqueues both ways and compares.
 */
struct mysql_insert_shape {
    bool said[NQ_SAID_COUNT];
    bool delay, at; /* run_at by a delay; by a point in time in some rows */
    bool expires;   /* some do: headers are made here */
    bool follow;
    bool theirs; /* on the caller's connection */
    bool born;   /* claimed as it is inserted */
};

#define MYSQL_INSERT_NAMED(column, kind, goes, ...) NQ_IF_SAID_##goes("," #column, )
static const char *const mysql_insert_names[] = {NQ_COLUMNS(MYSQL_INSERT_NAMED)};

static bool mysql_insert_differs(const char *v, const char *unsaid)
{
    return v != unsaid && (!v || !unsaid || strcmp(v, unsaid) != 0);
}

#define MYSQL_INSERT_INT(v, unsaid)     (v) != (unsaid)
#define MYSQL_INSERT_COUNT(v, unsaid)   (v) != (unsaid)
#define MYSQL_INSERT_MS(v, unsaid)      (v) != (unsaid)
#define MYSQL_INSERT_NAME(v, unsaid)    mysql_insert_differs(v, unsaid)
#define MYSQL_INSERT_TEXT(v, unsaid)    mysql_insert_differs(v, unsaid)
#define MYSQL_INSERT_HEADERS(v, unsaid) (v) != (unsaid)
#define MYSQL_INSERT_LOOK(column, kind, goes, unsaid, ...)                                                   \
    NQ_IF_SAID_##goes(s.said[NQ_SAID_##column] =                                                             \
                          s.said[NQ_SAID_##column] || MYSQL_INSERT_##kind(t->column, unsaid);)
#define MYSQL_INSERT_BIND(column, kind, goes, ...)                                                           \
    NQ_IF_SAID_##goes(if (s->said[NQ_SAID_##column]) v[n++] = NQ_VALUE_##kind(t->column);)

static struct mysql_insert_shape mysql_insert_shape(bool theirs, bool follow, nq_mysql_row *const rows[],
                                                    size_t n)
{
    struct mysql_insert_shape s = {.delay = follow, .follow = follow, .theirs = theirs};
    for (size_t i = 0; i < NQ_SAID_COUNT; i++)
        s.said[i] = follow; /* a follow-up's columns have no defaults */
    for (size_t i = 0; i < n; i++) {
        const nq_new *t = rows[i]->task;
        NQ_COLUMNS(MYSQL_INSERT_LOOK)
        s.delay = s.delay || t->delay_us != 0;
        s.at = s.at || t->run_at_us != 0;
        s.expires = s.expires || t->expires_us != 0;
        s.born = nq_mysql_born(rows[i]) && !follow;
    }
    s.said[NQ_SAID_headers] = s.said[NQ_SAID_headers] && !s.expires;
    return s;
}

/* Where the caller's sql_mode has EMPTY_STRING_IS_NULL, an empty value that is bound is NULL, and one that is
 * written in hexadecimal is not. Our own sessions have it not, and each text of theirs is a statement to
 * prepare. */
static bool mysql_insert_empty(const struct mysql_insert_shape *s, const nq_mysql_row *r)
{
    return s->theirs && r->task->payload_size == 0;
}

static void mysql_insert_row(nq_buf *b, const struct mysql_insert_shape *s, const char *workers,
                             const nq_mysql_row *r)
{
    nq_buf_str(b, mysql_insert_empty(s, r) ? "(X'',?" : "(?,?");
    for (size_t i = 0; i < NQ_SAID_COUNT; i++)
        if (s->said[i])
            nq_buf_add(b, ",?", 2);
    if (s->expires)
        nq_buf_str(b,
                   ",COALESCE(CONCAT(COALESCE(?,X''),'nq-expires: ',TIMESTAMPDIFF(MICROSECOND,'1970-01-01',"
                   "UTC_TIMESTAMP(6) + INTERVAL ? MICROSECOND)),?)");
    if (s->at)
        nq_buf_str(b, ",COALESCE(TIMESTAMP'1970-01-01 00:00:00' + INTERVAL ? MICROSECOND,"
                      "UTC_TIMESTAMP(6) + INTERVAL ? MICROSECOND)");
    else
        nq_buf_str(b, s->delay ? ",UTC_TIMESTAMP(6) + INTERVAL ? MICROSECOND" : "");
    /* Of a worker that is none any more the lease is NULL, and the row refused. */
    if (s->born)
        nq_buf_fmt(b, ",1,1,UTC_TIMESTAMP(6),(SELECT ? FROM %s WHERE id=?)", workers);
    nq_buf_str(b, s->follow ? ",?)" : ")");
}

static size_t mysql_insert_bind(nq_val *v, const struct mysql_insert_shape *s, const nq_mysql_row *r)
{
    const nq_new *t = r->task;
    size_t n = 0;
    if (!mysql_insert_empty(s, r))
        v[n++] = nq_blob(t->payload, t->payload_size);
    v[n++] = t->unique == NQ_UNIQUE_NONE ? nq_null() : nq_blob(r->key, sizeof r->key);
    NQ_COLUMNS(MYSQL_INSERT_BIND)
    if (s->expires) {
        v[n++] = NQ_VALUE_HEADERS(t->headers);
        v[n++] = t->expires_us ? nq_int(t->expires_us) : nq_null();
        v[n++] = NQ_VALUE_HEADERS(t->headers);
    }
    if (s->at)
        v[n++] = t->run_at_us ? nq_int(t->run_at_us) : nq_null();
    if (s->at || s->delay)
        v[n++] = nq_int(t->run_at_us ? 0 : t->delay_us);
    if (s->born) {
        v[n++] = nq_int((int64_t)t->birth->lease);
        v[n++] = nq_int((int64_t)NQ_LEASE_WORKER(t->birth->lease));
    }
    if (s->follow)
        v[n++] = nq_int(r->id);
    return n;
}

nq_val *nq_mysql_insert(nq_buf *sql, const nq_mysql_data *d, bool theirs, bool follow,
                        nq_mysql_row *const rows[], size_t nrows, size_t *n)
{
    const struct mysql_insert_shape s = mysql_insert_shape(theirs, follow, rows, nrows);
    const char *const table = follow   ? theirs ? d->full_followups : d->followups
                              : theirs ? d->full_tasks
                                       : d->tasks;
    nq_val *v = malloc(nrows * MYSQL_INSERT_MOST * sizeof *v);
    size_t k = 0;
    nq_buf_fmt(sql, "INSERT INTO %s (payload,unique_key", table);
    for (size_t i = 0; i < NQ_SAID_COUNT; i++)
        if (s.said[i])
            nq_buf_str(sql, mysql_insert_names[i]);
    nq_buf_fmt(sql, "%s%s%s%s) VALUES ", s.expires ? ",headers" : "", s.at || s.delay ? ",run_at" : "",
               s.born ? ",state,generation,claimed_at,lease" : "", s.follow ? ",task_id" : "");
    for (size_t i = 0; v && i < nrows; i++) {
        nq_buf_str(sql, i ? "," : "");
        mysql_insert_row(sql, &s, d->workers, rows[i]);
        k += mysql_insert_bind(v + k, &s, rows[i]);
    }
    if (sql->failed) {
        free(v);
        return NULL;
    }
    *n = k;
    return v;
}

static int mysql_insert_yes(const nq_val cols[], size_t ncols, void *arg)
{
    (void)ncols;
    *(bool *)arg = cols[0].i != 0;
    return 0;
}

bool nq_mysql_ids_used_up(nq_conn *c)
{
    bool yes = false;
    nq_sql(c,
           "SELECT GREATEST(COALESCE(MAX(AUTO_INCREMENT), 0), (SELECT COALESCE(MAX(id), 0) FROM {tasks}), "
           "(SELECT COALESCE(MAX(id), 0) FROM {followups})) > 9223372036854775807 FROM "
           "information_schema.TABLES /* whose figures MySQL keeps for a while */ "
           "WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME IN ('{prefix}tasks', '{prefix}followups')",
           NULL, 0, mysql_insert_yes, &yes, NULL, NULL);
    return yes;
}
