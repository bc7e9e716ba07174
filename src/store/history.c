/* SPDX-License-Identifier: MIT */
/* The attempts of a task that did not end well: written with their outcome, bounded, swept. */
#include "history.h"

/*
 * A row is written in the transaction of the outcome that it tells of, after the task's row was locked and
 * found to be still ours: so it is there if and only if the outcome took effect. A success writes nothing. A
 * task's end leaves its rows where they are; who sweeps finds those whose task is gone. Ids may begin again,
 * so a row counts for a task only if it ended after that task was created.
 */

#define HISTORY_CHUNK    50 /* rows of one statement: with errors of 4 KiB no packet is too small */
#define HISTORY_COLUMNS  6
#define HISTORY_MAX_TIME INT64_C(253402300799999999) /* the last microsecond of the year 9999 */
#define HISTORY_LOOK     10 /* times as many tasks are looked at in a sweep as it may delete */

static int64_t history_within(int64_t v, int64_t most)
{
    return v < 0 ? 0 : v > most ? most : v;
}

static int history_insert(nq_conn *c, const nq_tried tried[], size_t n, nq_err *err)
{
    nq_val args[HISTORY_CHUNK * HISTORY_COLUMNS], *v = args;
    nq_buf sql = {0};
    nq_buf_str(&sql, "REPLACE INTO {attempts} (task_id, generation, outcome, attempt, started_at, worker, "
                     "error, ended_at) VALUES ");
    for (size_t i = 0; i < n; i++, v += HISTORY_COLUMNS) {
        const nq_tried *t = &tried[i];
        const size_t size = t->error_size > NQ_MAX_ERROR ? NQ_MAX_ERROR : t->error_size;
        const bool began = t->started_us > 0 && t->started_us <= HISTORY_MAX_TIME;
        nq_buf_str(&sql, i ? ", (" : "(");
        nq_sql_id(c->store, &sql, t->id); /* it may be above what can be bound */
        nq_buf_str(&sql, began ? ", ?, ?, ?, {at}, " : ", ?, ?, ?, ?, ");
        nq_buf_str(&sql, t->worker ? "?" : "(SELECT name FROM {workers} WHERE id = ?)");
        nq_buf_str(&sql, ", ?, {now})");
        v[0] = nq_int(history_within(t->generation, INT32_MAX));
        v[1] = nq_int(t->outcome);
        v[2] = nq_int(history_within(t->attempt, INT16_MAX));
        v[3] = began ? nq_int(t->started_us) : nq_null();
        v[4] = t->worker ? nq_text(t->worker) : nq_int((int64_t)NQ_LEASE_WORKER(t->lease));
        v[5] = t->error ? nq_blob(t->error + (t->error_size - size), size) : nq_null();
    }
    const int rc =
        sql.failed ? nq_err_nomem(err) : nq_sql(c, sql.p, args, n * HISTORY_COLUMNS, NULL, NULL, NULL, err);
    nq_buf_free(&sql);
    return rc;
}

/* Leave the newest. Only a task that was claimed as often may have more. */
static int history_trim(nq_conn *c, const nq_tried *t, nq_err *err)
{
    nq_buf sql = {0};
    if (t->generation <= NQ_MAX_ATTEMPTS_KEPT)
        return NQ_OK;
    nq_buf_str(&sql, "DELETE FROM {attempts} WHERE task_id = ");
    nq_sql_id(c->store, &sql, t->id);
    nq_buf_str(&sql, " AND generation < (SELECT MIN(k.generation) FROM (SELECT generation FROM {attempts} "
                     "WHERE task_id = ");
    nq_sql_id(c->store, &sql, t->id);
    nq_buf_fmt(&sql, " ORDER BY generation DESC LIMIT %d) k)", NQ_MAX_ATTEMPTS_KEPT);
    const int rc = sql.failed ? nq_err_nomem(err) : nq_sql(c, sql.p, NULL, 0, NULL, NULL, NULL, err);
    nq_buf_free(&sql);
    return rc;
}

NQ_PRIVATE int nq_history_add(nq_conn *c, const nq_tried tried[], size_t n, nq_err *err)
{
    int rc = NQ_OK;
    for (size_t i = 0; i < n && rc == NQ_OK; i += HISTORY_CHUNK)
        rc = history_insert(c, tried + i, n - i < HISTORY_CHUNK ? n - i : HISTORY_CHUNK, err);
    for (size_t i = 0; i < n && rc == NQ_OK; i++)
        rc = history_trim(c, &tried[i], err);
    return rc;
}

NQ_PRIVATE int nq_history_forget(nq_conn *c, nq_id id, nq_err *err)
{
    nq_buf sql = {0};
    nq_buf_str(&sql, "DELETE FROM {attempts} WHERE task_id = ");
    nq_sql_id(c->store, &sql, id);
    nq_buf_str(&sql, " AND ended_at < (SELECT t.created_at FROM {tasks} t WHERE t.id = ");
    nq_sql_id(c->store, &sql, id);
    nq_buf_str(&sql, ")");
    const int rc = sql.failed ? nq_err_nomem(err) : nq_sql(c, sql.p, NULL, 0, NULL, NULL, NULL, err);
    nq_buf_free(&sql);
    return rc;
}

static int history_outcome(const nq_outcome *o)
{
    if (o->kind == NQ_OUT_CANCELLED)
        return NQ_ATTEMPT_CANCELLED;
    if (o->crashed)
        return NQ_ATTEMPT_CRASHED;
    return o->kind == NQ_OUT_RETRY ? NQ_ATTEMPT_FAILED : o->expired ? NQ_ATTEMPT_EXPIRED : NQ_ATTEMPT_DEAD;
}

NQ_PRIVATE int nq_history_failed(nq_conn *c, nq_outcome *const outcomes[], size_t n, nq_err *err)
{
    nq_tried *all = NULL;
    size_t some = 0, cap = 0;
    for (size_t i = 0; i < n; i++) {
        const nq_outcome *o = outcomes[i];
        if (o->result != NQ_OK || !nq_outcome_told(o->kind))
            continue;
        nq_tried *more = nq_grow(all, some, &cap, sizeof *more);
        if (!more) {
            free(all);
            return nq_err_nomem(err);
        }
        all = more;
        all[some++] = (nq_tried){.id = o->id,
                                 .generation = o->generation,
                                 .attempt = history_within(o->attempts, INT16_MAX) + !o->expired,
                                 .outcome = history_outcome(o),
                                 .lease = o->lease,
                                 .worker = o->worker,
                                 .started_us = o->expired ? 0 : o->claimed_us,
                                 .error = o->error,
                                 .error_size = o->error_size};
    }
    const int rc = nq_history_add(c, all, some, err);
    free(all);
    return rc;
}

/* ---- Sweeping ---- */

struct history_sweep {
    const char *table;
    int64_t from, last;
    size_t limit, seen, gone;
    nq_buf ids;
    const nq_store *store;
};

static int history_sweep_row(const nq_val cols[], size_t ncols, void *arg)
{
    struct history_sweep *w = arg;
    (void)ncols;
    if (w->gone == w->limit)
        return 0; /* the next pass begins with it */
    w->last = cols[0].i;
    w->seen++;
    if (cols[1].i == 0)
        return 0;
    nq_sql_list_id(w->store, &w->ids, cols[0].i);
    w->gone++;
    return w->ids.failed ? NQ_ENOMEM : 0;
}

/* A task that moves from one table to the other is seen in one of them: it is one statement. No row is there
 * before its task is. */
static int history_sweep(nq_conn *c, void *arg, nq_err *err)
{
    struct history_sweep *w = arg;
    const nq_val args[] = {nq_int(w->from), nq_int((int64_t)(HISTORY_LOOK * w->limit))};
    nq_buf sql = {0};
    nq_buf_clear(&w->ids);
    w->seen = w->gone = 0;
    nq_buf_fmt(&w->ids, "{delete_by_key} {%s} WHERE task_id IN (", w->table);
    nq_buf_fmt(&sql,
               "SELECT a.task_id, CASE WHEN t.id IS NULL AND f.id IS NULL THEN 1 ELSE 0 END FROM "
               "(SELECT DISTINCT task_id FROM {%s} WHERE task_id > ? ORDER BY task_id LIMIT ?) a LEFT JOIN "
               "{tasks} t ON t.id = a.task_id LEFT JOIN {finished} f ON f.id = a.task_id ORDER BY a.task_id",
               w->table);
    int rc = sql.failed ? nq_err_nomem(err) : nq_sql(c, sql.p, args, 2, history_sweep_row, w, NULL, err);
    nq_buf_free(&sql);
    if (rc != NQ_OK || w->gone == 0)
        return rc;
    nq_buf_str(&w->ids, ") {at_most:9223372036854775807}");
    return w->ids.failed ? nq_err_nomem(err) : nq_sql(c, w->ids.p, NULL, 0, NULL, NULL, NULL, err);
}

NQ_PRIVATE int nq_store_sweep_gone(nq_store *s, const char *table, _Atomic int64_t *cursor, size_t limit,
                                   size_t *n, nq_err *err)
{
    struct history_sweep w = {.table = table, .from = atomic_load(cursor), .limit = limit, .store = s};
    const int rc = nq_store_do(s, history_sweep, &w, err);
    nq_buf_free(&w.ids);
    if (rc != NQ_OK)
        return rc;
    const bool more = w.gone == limit || w.seen == HISTORY_LOOK * limit;
    atomic_store(cursor, more ? w.last : 0);
    *n = w.gone;
    return NQ_OK;
}

NQ_PRIVATE int nq_store_history_sweep(nq_store *s, size_t limit, size_t *n, nq_err *err)
{
    return nq_store_sweep_gone(s, "attempts", &s->swept_attempts, limit, n, err);
}
