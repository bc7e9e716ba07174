/* SPDX-License-Identifier: MIT */
/* MySQL and MariaDB: completing tasks, fenced by their leases. */
#include <inttypes.h>

#include "mysql_driver.h"

/* With more tasks two transactions side by side, on two connections, are faster than one. */
#define MYSQL_COMPLETE_PIGGYBACK 32

static int mysql_complete_cmp_outcome(const void *a, const void *b)
{
    const nq_outcome *x = *(nq_outcome *const *)a, *y = *(nq_outcome *const *)b;
    if (x->lease != y->lease)
        return x->lease < y->lease ? -1 : 1;
    return x->id < y->id ? -1 : x->id > y->id;
}

bool nq_mysql_done_new(nq_mysql_done *d, nq_outcome *const outcomes[], size_t n)
{
    *d = (nq_mysql_done){.list = calloc(n, sizeof *d->list), .ids = calloc(n, sizeof *d->ids), .n = n};
    if (!d->list || !d->ids) {
        nq_mysql_done_free(d);
        return false;
    }
    memcpy(d->list, outcomes, n * sizeof(nq_outcome *));
    qsort(d->list, n, sizeof(nq_outcome *), mysql_complete_cmp_outcome);
    for (size_t i = 0; i < n; i++)
        d->ids[i] = (uint64_t)d->list[i]->id;
    return true;
}

void nq_mysql_done_free(nq_mysql_done *d)
{
    free(d->list);
    free(d->ids);
    *d = (nq_mysql_done){0};
}

/* Those rows that are still ours: each by its id and the lease that it was claimed under. */
static void mysql_complete_where(const nq_mysql_done *d, nq_buf *b)
{
    nq_buf_str(b, " WHERE (");
    for (size_t i = 0, end; i < d->n; i = end) {
        for (end = i + 1; end < d->n && d->list[end]->lease == d->list[i]->lease;)
            end++;
        nq_buf_str(b, i ? " OR (" : "(");
        nq_mysql_where_ids(b, d->ids + i, end - i);
        nq_buf_fmt(b, ") AND lease=%" PRIu64, d->list[i]->lease);
    }
    nq_buf_str(b, ") AND state=1");
}

/* One DELETE, of all leases: a busy worker's tasks end under many, and each statement has its price. */
static void mysql_complete_text(const nq_mysql_done *d, const nq_store *s, nq_buf *b)
{
    const nq_mysql_data *data = nq_mysql_data_of(s);
    nq_buf_fmt(b, NQ_MYSQL_SAFELY "DELETE /*+ INDEX(%s `PRIMARY`) */ FROM %s", data->tasks,
               data->tasks); /* as NQ_MYSQL_DELETE_BY_KEY; the hint is for MySQL, from 8.0.20 on */
    mysql_complete_where(d, b);
    nq_buf_fmt(b, " LIMIT %zu%s", d->n, data->returns ? " RETURNING id,lease" : "");
}

void nq_mysql_done_text(const nq_mysql_done *d, const nq_store *s, nq_buf *b)
{
    if (d->n == 0)
        return;
    nq_buf_str(b, ";");
    mysql_complete_text(d, s, b);
}

/* Which are among these rows, id and lease? How many. */
static size_t mysql_complete_mark(const nq_mysql_done *d, MYSQL_RES *r)
{
    MYSQL_ROW row;
    size_t n = 0;
    for (size_t i = 0; i < d->n; i++)
        d->list[i]->result = NQ_ELEASE;
    while (r && (row = mysql_fetch_row(r))) {
        nq_outcome had = {.id = (nq_id)strtoull(row[0], NULL, 10), .lease = strtoull(row[1], NULL, 10)};
        nq_outcome *key = &had;
        nq_outcome **at = bsearch(&key, d->list, d->n, sizeof *d->list, mysql_complete_cmp_outcome);
        if (at) {
            (*at)->result = NQ_OK;
            n++;
        }
    }
    return n;
}

/* Where none went it is not known that they were another's: see nq_mysql_found_none_. A DELETE that was
 * killed has no rows at all, not even an empty result. */
int nq_mysql_done_read(const nq_mysql_done *d, nq_mysql_conn *c, bool first, nq_err *err)
{
    MYSQL_RES *r = NULL;
    if (d->n == 0)
        return NQ_OK;
    int rc = first ? NQ_OK : nq_mysql_next(c, err);
    rc = rc == NQ_OK ? nq_mysql_result(c, &r, err) : rc;
    const bool none = rc == NQ_OK && mysql_complete_mark(d, r) == 0;
    if (r)
        mysql_free_result(r);
    if (none) {
        nq_mysql_drain(c);
        rc = nq_err_set(err, NQ_ECONFLICT, "of %zu tasks that ended none was there to delete", d->n);
    }
    return rc;
}

/* ---- Without RETURNING ---------------------------------------------------------------------- */

/*
 * How many rows went is compared with how many should; where it is less, the savepoint before the DELETE
 * takes it back. It is set only where the transaction has written nothing: behind a write it goes to the
 * binary log, and one that a KILL QUERY meets there goes with that error, at which each replica stops for
 * good ("partially completed on the source", seen on MySQL 9.7, though the transaction is committed).
 */
#define MYSQL_COMPLETE_SAVEPOINT "SAVEPOINT nanoq"

/* Each command by itself: on Galera another node's write may end the transaction between two statements, and
 * only the next command is sure to hear of it. */
static int mysql_complete_apart(const nq_mysql_done *d, nq_mysql_conn *c, bool begin, bool savepoint,
                                uint64_t *deleted, nq_err *err)
{
    nq_buf b = {0};
    int rc = begin ? nq_mysql_query(c, "START TRANSACTION", 17, err) : NQ_OK;
    if (rc == NQ_OK && savepoint)
        rc = nq_mysql_query(c, MYSQL_COMPLETE_SAVEPOINT, sizeof MYSQL_COMPLETE_SAVEPOINT - 1, err);
    mysql_complete_text(d, c->base.store, &b);
    if (rc == NQ_OK)
        rc = nq_mysql_query_buf(c, &b, err);
    if (rc == NQ_OK)
        *deleted = (uint64_t)mysql_affected_rows(c->my);
    nq_buf_free(&b);
    return rc;
}

/* In one round trip. */
static int mysql_complete_together(const nq_mysql_done *d, nq_mysql_conn *c, bool begin, bool savepoint,
                                   uint64_t *deleted, nq_err *err)
{
    nq_buf b = {0};
    nq_buf_str(&b, begin ? "START TRANSACTION;" : "");
    nq_buf_str(&b, savepoint ? MYSQL_COMPLETE_SAVEPOINT ";" : "");
    mysql_complete_text(d, c->base.store, &b);
    int rc = nq_mysql_query_buf(c, &b, err);
    nq_buf_free(&b);
    while (rc == NQ_OK) {
        *deleted += (uint64_t)mysql_affected_rows(c->my); /* none but of the DELETE */
        if (!nq_mysql_more(c))
            break;
        rc = nq_mysql_next(c, err);
    }
    return rc;
}

/* *deleted counts what went. */
static int mysql_complete_delete(const nq_mysql_done *d, nq_mysql_conn *c, bool begin, bool savepoint,
                                 uint64_t *deleted, nq_err *err)
{
    *deleted = 0;
    return c->nodes ? mysql_complete_apart(d, c, begin, savepoint, deleted, err)
                    : mysql_complete_together(d, c, begin, savepoint, deleted, err);
}

/* Some were not ours any more: lock what still is, and mark the others. */
static int mysql_complete_lock(const nq_mysql_done *d, nq_mysql_conn *c, nq_err *err)
{
    MYSQL_RES *r = NULL;
    nq_buf b = {0};
    nq_buf_fmt(&b, "SELECT id,lease FROM %s FORCE INDEX (PRIMARY)", nq_mysql_data_of(c->base.store)->tasks);
    mysql_complete_where(d, &b);
    nq_buf_str(&b, " ORDER BY id FOR UPDATE");
    int rc = nq_mysql_query_buf(c, &b, err);
    if (rc == NQ_OK)
        rc = nq_mysql_result(c, &r, err);
    if (rc == NQ_OK)
        mysql_complete_mark(d, r);
    if (r)
        mysql_free_result(r);
    nq_buf_free(&b);
    return rc;
}

/* Where less went than should: nothing went yet, and each is asked for. */
static int mysql_complete_counted(const nq_mysql_done *d, nq_mysql_conn *c, bool begin, bool locked,
                                  nq_err *err)
{
    uint64_t deleted = 0;
    int rc = mysql_complete_delete(d, c, begin, !locked, &deleted, err);
    for (size_t i = 0; rc == NQ_OK && i < d->n; i++)
        d->list[i]->result = NQ_OK;
    if (rc != NQ_OK || deleted == d->n)
        return rc;
    if (locked) /* see nq_mysql_found_none_ */
        return nq_err_set(err, NQ_ECONFLICT,
                          "%zu tasks that ended were there, and %" PRIu64 " could be deleted", d->n, deleted);
    rc = nq_mysql_query(c, "ROLLBACK TO " MYSQL_COMPLETE_SAVEPOINT,
                        sizeof "ROLLBACK TO " MYSQL_COMPLETE_SAVEPOINT - 1, err);
    if (rc == NQ_OK)
        rc = mysql_complete_lock(d, c, err);
    return rc == NQ_OK ? mysql_complete_delete(d, c, false, false, &deleted, err) : rc;
}

/* ---- The driver's calls --------------------------------------------------------------------- */

size_t nq_mysql_piggyback_limit(const nq_store *s)
{
    return nq_mysql_data_of(s)->returns ? MYSQL_COMPLETE_PIGGYBACK : 0;
}

/* With RETURNING, in the transaction that is open or due. */
static int mysql_complete_returned(const nq_mysql_done *d, nq_mysql_conn *c, bool begin, nq_err *err)
{
    nq_buf b = {0};
    nq_buf_str(&b, begin ? "START TRANSACTION" : "");
    nq_mysql_done_text(d, c->base.store, &b);
    const size_t skip = begin ? 0 : 1; /* the semicolon before the first */
    int rc = b.failed ? nq_err_nomem(err) : nq_mysql_query(c, b.p + skip, b.n - skip, err);
    nq_buf_free(&b);
    return rc == NQ_OK ? nq_mysql_done_read(d, c, !begin, err) : rc;
}

int nq_mysql_delete_done(nq_conn *conn, nq_outcome *const outcomes[], size_t n, bool locked, nq_err *err)
{
    nq_mysql_conn *c = nq_mysql_of(conn);
    const bool begin = c->begin_due;
    nq_mysql_done d;
    if (n == 0)
        return NQ_OK;
    if (!nq_mysql_done_new(&d, outcomes, n))
        return nq_err_nomem(err);
    c->begin_due = false;
    const int rc = nq_mysql_data_of(conn->store)->returns ? mysql_complete_returned(&d, c, begin, err)
                                                          : mysql_complete_counted(&d, c, begin, locked, err);
    nq_mysql_done_free(&d);
    return rc;
}

/* "START TRANSACTION; DELETE ...; COMMIT" in one round trip. Whatever answer is lost, COMMIT's is. */
static int mysql_complete_at_once(const nq_mysql_done *d, nq_mysql_conn *c, nq_err *err)
{
    nq_buf b = {0};
    nq_err why = {0};
    nq_buf_str(&b, "START TRANSACTION");
    nq_mysql_done_text(d, c->base.store, &b);
    nq_buf_str(&b, ";COMMIT");
    int rc = nq_mysql_query_buf(c, &b, &why);
    const bool sent = rc == NQ_OK || nq_mysql_unanswered((unsigned)why.db_code);
    nq_buf_free(&b);
    if (rc == NQ_OK)
        rc = nq_mysql_done_read(d, c, false, &why);
    if (rc == NQ_OK)
        rc = nq_mysql_next(c, &why);
    /* Not the server's error but one on our side, of the connection or for want of memory: it says nothing of
     * what the server did. */
    const bool ours = why.db_code == 0 && rc != NQ_ECONFLICT;
    if (rc != NQ_OK && sent && (ours || nq_mysql_client_error((unsigned)why.db_code))) {
        c->base.broken = true;
        rc = nq_mysql_unknown(&why);
    }
    if (rc != NQ_OK)
        nq_mysql_rollback(&c->base);
    if (rc != NQ_OK && err)
        *err = why;
    return rc;
}

int nq_mysql_complete(nq_conn *conn, nq_outcome *const outcomes[], size_t n, bool *did, nq_err *err)
{
    nq_mysql_done d;
    *did = nq_mysql_data_of(conn->store)->returns;
    if (!*did)
        return NQ_OK;
    if (!nq_mysql_done_new(&d, outcomes, n))
        return nq_err_nomem(err);
    int rc = nq_mysql_guard(nq_mysql_of(conn), err);
    if (rc == NQ_OK)
        rc = mysql_complete_at_once(&d, nq_mysql_of(conn), err);
    nq_mysql_done_free(&d);
    return rc;
}
