/* SPDX-License-Identifier: MIT */
/* What is kept about attempts that run, beside their rows: requests to cancel them, and their progress. */
#include "store.h"

/*
 * Both tables name an attempt by (task_id, lease), and no lease is ever used twice: so a row counts while the
 * task runs under that lease, and when that is over it never counts again, whoever has not yet deleted it.
 * Neither table is read or written when a task is claimed or completed.
 */

#define ATTEMPTS_CHUNK 100 /* rows of one statement */

struct attempts_list {
    nq_attempt *all;
    size_t n, cap;
};

static int attempts_add(struct attempts_list *l, const nq_val cols[])
{
    nq_attempt *more = nq_grow(l->all, l->n, &l->cap, sizeof *more);
    if (!more)
        return NQ_ENOMEM;
    l->all = more;
    l->all[l->n++] = (nq_attempt){cols[0].i, (uint64_t)cols[1].i};
    return 0;
}

static int attempts_row(const nq_val cols[], size_t ncols, void *arg)
{
    (void)ncols;
    return attempts_add(arg, cols);
}

/* head, then the attempts as a condition. */
static int attempts_delete(nq_conn *c, const char *head, const nq_attempt list[], size_t n, nq_err *err)
{
    nq_buf sql = {0};
    int rc = NQ_OK;
    for (size_t i = 0; i < n && rc == NQ_OK; i += ATTEMPTS_CHUNK) {
        const size_t end = n - i < ATTEMPTS_CHUNK ? n : i + ATTEMPTS_CHUNK;
        nq_buf_clear(&sql);
        nq_buf_str(&sql, head);
        for (size_t k = i; k < end; k++) {
            nq_buf_str(&sql, k > i ? " OR (task_id = " : " WHERE (task_id = ");
            nq_sql_id(c->store, &sql, list[k].id);
            nq_buf_str(&sql, " AND lease = ");
            nq_sql_id(c->store, &sql, (nq_id)list[k].lease);
            nq_buf_str(&sql, ")");
        }
        nq_buf_fmt(&sql, " {at_most:%zu}", end - i);
        rc = sql.failed ? nq_err_nomem(err) : nq_sql(c, sql.p, NULL, 0, NULL, NULL, NULL, err);
    }
    nq_buf_free(&sql);
    return rc;
}

/* ---- Requests to cancel ---- */

struct attempts_cancels {
    uint64_t worker;
    struct attempts_list ours, over;
};

static int attempts_cancel_row(const nq_val cols[], size_t ncols, void *arg)
{
    struct attempts_cancels *a = arg;
    (void)ncols;
    return attempts_add(cols[2].type == NQ_VAL_NULL ? &a->over : &a->ours, cols);
}

/* nq_tx_fn for nq_store_do */
static int attempts_cancels(nq_conn *c, void *arg, nq_err *err)
{
    struct attempts_cancels *a = arg;
    const nq_val args[] = {nq_int((int64_t)NQ_LEASE(a->worker, 0)),
                           nq_int((int64_t)NQ_LEASE(a->worker, NQ_LEASE_SEQ_MAX))};
    a->ours.n = a->over.n = 0;
    int rc = nq_sql(c,
                    "SELECT x.task_id, x.lease, t.id FROM {cancels} x LEFT JOIN {tasks} t "
                    "ON t.id = x.task_id AND t.lease = x.lease AND t.state = 1 "
                    "WHERE t.id IS NULL OR x.lease BETWEEN ? AND ?",
                    args, 2, attempts_cancel_row, a, NULL, err);
    return rc != NQ_OK ? rc : attempts_delete(c, "{delete_by_key} {cancels}", a->over.all, a->over.n, err);
}

NQ_PRIVATE int nq_store_cancels(nq_store *s, uint64_t worker, nq_attempt **out, size_t *n, nq_err *err)
{
    struct attempts_cancels a = {.worker = worker};
    int rc = nq_store_do(s, attempts_cancels, &a, err);
    free(a.over.all);
    if (rc != NQ_OK) {
        free(a.ours.all);
        return rc;
    }
    *out = a.ours.all;
    *n = a.ours.n;
    return NQ_OK;
}

/* ---- Progress ---- */

struct attempts_progress {
    const nq_progress *const *told;
    const nq_attempt *ended;
    size_t n, nended;
};

#define ATTEMPTS_COLUMNS 5

static int attempts_write(nq_conn *c, const nq_progress *const told[], size_t n, nq_err *err)
{
    nq_val args[ATTEMPTS_CHUNK * ATTEMPTS_COLUMNS];
    nq_buf sql = {0};
    nq_buf_str(&sql, "REPLACE INTO {progress} (task_id, lease, done, total, note, told_at) VALUES ");
    for (size_t i = 0; i < n; i++) {
        nq_val *v = args + i * ATTEMPTS_COLUMNS;
        nq_buf_str(&sql, i ? ", (?, ?, ?, ?, ?, {now})" : "(?, ?, ?, ?, ?, {now})");
        v[0] = nq_int(told[i]->of.id);
        v[1] = nq_int((int64_t)told[i]->of.lease);
        v[2] = nq_int(told[i]->done);
        v[3] = nq_int(told[i]->total);
        v[4] = nq_blob(told[i]->note, told[i]->note_size);
    }
    int rc =
        sql.failed ? nq_err_nomem(err) : nq_sql(c, sql.p, args, n * ATTEMPTS_COLUMNS, NULL, NULL, NULL, err);
    nq_buf_free(&sql);
    return rc;
}

/* nq_tx_fn */
static int attempts_progress(nq_conn *c, void *arg, nq_err *err)
{
    const struct attempts_progress *a = arg;
    int rc = attempts_delete(c, "{delete_by_key} {progress}", a->ended, a->nended, err);
    for (size_t i = 0; i < a->n && rc == NQ_OK; i += ATTEMPTS_CHUNK)
        rc = attempts_write(c, a->told + i, a->n - i < ATTEMPTS_CHUNK ? a->n - i : ATTEMPTS_CHUNK, err);
    return rc;
}

NQ_PRIVATE int nq_store_progress(nq_store *s, const nq_progress *const told[], size_t n,
                                 const nq_attempt ended[], size_t nended, nq_err *err)
{
    struct attempts_progress a = {.told = told, .ended = ended, .n = n, .nended = nended};
    return n + nended ? nq_store_tx(s, attempts_progress, &a, err) : NQ_OK;
}

struct attempts_sweep {
    struct attempts_list over;
    size_t limit;
};

static int attempts_sweep(nq_conn *c, void *arg, nq_err *err)
{
    struct attempts_sweep *a = arg;
    const nq_val limit = nq_int((int64_t)a->limit);
    a->over.n = 0;
    int rc = nq_sql(c,
                    "SELECT g.task_id, g.lease FROM {progress} g LEFT JOIN {tasks} t "
                    "ON t.id = g.task_id AND t.lease = g.lease AND t.state = 1 WHERE t.id IS NULL LIMIT ?",
                    &limit, 1, attempts_row, &a->over, NULL, err);
    return rc != NQ_OK ? rc : attempts_delete(c, "{delete_by_key} {progress}", a->over.all, a->over.n, err);
}

NQ_PRIVATE int nq_store_progress_sweep(nq_store *s, size_t limit, size_t *n, nq_err *err)
{
    struct attempts_sweep a = {.limit = limit};
    int rc = nq_store_do(s, attempts_sweep, &a, err);
    if (rc == NQ_OK)
        *n = a.over.n;
    free(a.over.all);
    return rc;
}
