/* SPDX-License-Identifier: MIT */
/* Results: what done tasks leave for whoever waits for them, and how long done tasks are kept for that. */
#include "results.h"

/*
 * A row is written with the record of its task, in the transaction of the completion, after that was found to
 * take effect: so a result is there if and only if the attempt ended done. It counts while its task's record
 * is there and is not younger. Completions without a result or a time of their own do not come here.
 */

#define RESULTS_FOREVER NQ_DAYS(365000) /* a thousand years: DATETIME has no more than 9999 */

static int64_t results_keep(const nq_outcome *o)
{
    return o->keep_us > RESULTS_FOREVER ? RESULTS_FOREVER : o->keep_us;
}

/* A session with EMPTY_STRING_IS_NULL takes an empty value that is bound for NULL. */
#define RESULTS_WRITE(table, value, now, until)                                                              \
    "REPLACE INTO " table " (task_id, result, made_at, keep_until) VALUES (?, " value ", " now ", " until ")"
#define RESULTS_EMPTY(o) ((o)->output && (o)->output_size == 0)

static size_t results_args(const nq_outcome *o, nq_val args[2])
{
    args[0] = nq_int(o->id);
    if (RESULTS_EMPTY(o))
        return 1;
    args[1] = o->output ? nq_blob(o->output, o->output_size) : nq_null();
    return 2;
}

NQ_PRIVATE int nq_results_add(nq_conn *c, nq_outcome *const outcomes[], size_t n, nq_err *err)
{
    int rc = NQ_OK;
    for (size_t i = 0; i < n && rc == NQ_OK; i++) {
        const nq_outcome *o = outcomes[i];
        nq_val args[3];
        if (o->kind != NQ_OUT_DONE || o->result != NQ_OK || o->keep_us <= 0)
            continue;
        size_t at = results_args(o, args);
        args[at++] = nq_int(results_keep(o));
        rc = nq_sql(c,
                    RESULTS_EMPTY(o) ? RESULTS_WRITE("{results}", "X''", "{now}", "{after}")
                                     : RESULTS_WRITE("{results}", "?", "{now}", "{after}"),
                    args, at, NULL, NULL, NULL, err);
    }
    return rc;
}

/* SQLite's own clock is not to be had on the caller's connection; but there it is this host's. */
NQ_PRIVATE int nq_result_in(const nq_store *s, nq_tx tx, const nq_outcome *o, nq_err *err)
{
    const nq_place p = {(nq_store *)(uintptr_t)s, NULL, tx};
    const bool ours = s->driver->hosts_clock;
    const int64_t now = nq_real_us();
    nq_val args[4];
    size_t at = results_args(o, args);
    if (ours)
        args[at++] = nq_int(now);
    args[at++] = nq_int(ours ? now + results_keep(o) : results_keep(o));
    if (ours)
        return nq_place_sql(&p,
                            RESULTS_EMPTY(o) ? RESULTS_WRITE("{full:results}", "X''", "?", "?")
                                             : RESULTS_WRITE("{full:results}", "?", "?", "?"),
                            args, at, NULL, NULL, err);
    return nq_place_sql(&p,
                        RESULTS_EMPTY(o) ? RESULTS_WRITE("{full:results}", "X''", "{now}", "{after}")
                                         : RESULTS_WRITE("{full:results}", "?", "{now}", "{after}"),
                        args, at, NULL, NULL, err);
}

static int results_row(const nq_val cols[], size_t ncols, void *arg)
{
    nq_result *r = arg;
    (void)ncols;
    r->kept = true;
    r->there = cols[0].type != NQ_VAL_NULL;
    r->until_us = cols[1].i;
    if (r->there)
        nq_buf_add(&r->bytes, cols[0].n ? cols[0].p : "", cols[0].n);
    return r->bytes.failed ? NQ_ENOMEM : 0;
}

NQ_PRIVATE int nq_result_read(nq_conn *c, nq_id id, nq_result *out, nq_err *err)
{
    const nq_val arg = nq_int(id);
    out->kept = out->there = false;
    nq_buf_clear(&out->bytes);
    return nq_sql(c,
                  "SELECT {bytes:r.result}, {us:r.keep_until} FROM {finished} t JOIN {results} r "
                  "ON " NQ_RESULT_OF("t") " WHERE t.id = ? AND t.state = 2",
                  &arg, 1, results_row, out, NULL, err);
}

NQ_PRIVATE int nq_result_forget(nq_conn *c, nq_id id, nq_err *err)
{
    const nq_val arg = nq_int(id);
    return nq_sql(c, "DELETE FROM {results} WHERE task_id = ?", &arg, 1, NULL, NULL, NULL, err);
}

NQ_PRIVATE int nq_results_any(nq_conn *c, bool *any, nq_err *err)
{
    *any = false;
    return nq_sql(c, "SELECT 1 FROM {results} LIMIT 1", NULL, 0, nq_row_any, any, NULL, err);
}

/* ---- Those whose time is over ---- */

struct results_sweep {
    const nq_store *store;
    size_t limit, n;
    nq_buf ids;
};

static int results_sweep_row(const nq_val cols[], size_t ncols, void *arg)
{
    struct results_sweep *w = arg;
    (void)ncols;
    nq_sql_list_id(w->store, &w->ids, cols[0].i);
    w->n++;
    return w->ids.failed ? NQ_ENOMEM : 0;
}

static int results_sweep_delete(nq_conn *c, const struct results_sweep *w, const char *head, const char *tail,
                                nq_err *err)
{
    nq_buf sql = {0};
    nq_buf_str(&sql, head);
    nq_buf_add(&sql, w->ids.p, w->ids.n);
    nq_buf_fmt(&sql, ") %s {at_most:%zu}", tail, w->n);
    const int rc = sql.failed ? nq_err_nomem(err) : nq_sql(c, sql.p, NULL, 0, NULL, NULL, NULL, err);
    nq_buf_free(&sql);
    return rc;
}

/* First the record, then the row, as a completion writes them. */
static int results_sweep(nq_conn *c, void *arg, nq_err *err)
{
    struct results_sweep *w = arg;
    const nq_val limit = nq_int((int64_t)w->limit);
    w->n = 0;
    nq_buf_clear(&w->ids);
    nq_buf_str(&w->ids, "(");
    int rc = nq_sql(c, "SELECT task_id FROM {results} WHERE keep_until < {now} ORDER BY keep_until LIMIT ?",
                    &limit, 1, results_sweep_row, w, NULL, err);
    if (rc != NQ_OK || w->n == 0)
        return rc;
    rc = results_sweep_delete(c, w, "{delete_by_key} {finished} WHERE state = 2 AND id IN ",
                              "AND EXISTS (SELECT 1 FROM {results} r WHERE " NQ_RESULT_OF(
                                  "{finished}") " AND r.keep_until < {now})",
                              err);
    if (rc == NQ_OK)
        rc = results_sweep_delete(c, w, "{delete_by_key} {results} WHERE task_id IN ",
                                  "AND keep_until < {now}", err);
    return rc;
}

NQ_PRIVATE int nq_store_results_sweep(nq_store *s, size_t limit, size_t *n, nq_err *err)
{
    struct results_sweep w = {.store = s, .limit = limit};
    const int rc = nq_store_tx(s, results_sweep, &w, err);
    nq_buf_free(&w.ids);
    if (rc != NQ_OK)
        return rc;
    *n = w.n;
    size_t gone = 0; /* and of tasks that were deleted by who does not know of results */
    return nq_store_sweep_gone(s, "results", &s->swept_results, limit, &gone, err);
}
