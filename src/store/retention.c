/* SPDX-License-Identifier: MIT */
/* Deleting tasks that have ended when their retention is over. */
#include <stdio.h>

#include "retention.h"

/* ---- How long ---- */

static int64_t retention_of(const nq_setting *row, int state)
{
    return !row ? 0 : state == NQ_STATE_DONE ? row->keep_done_us : row->keep_dead_us;
}

NQ_PRIVATE int64_t nq_settings_keeps(const nq_settings *s, const char *name, int state, int64_t otherwise)
{
    const size_t base = nq_queue_base(name);
    char queue[NQ_MAX_QUEUE + 1];
    int64_t keep = 0;
    if (!s->keeps || base > NQ_MAX_QUEUE)
        return otherwise;
    memcpy(queue, name, base);
    queue[base] = '\0';
    keep = retention_of(nq_settings_find(s, name), state);
    if (keep == 0 && name[base])
        keep = retention_of(nq_settings_group_each(s, name), state);
    if (keep == 0 && name[base])
        keep = retention_of(nq_settings_find(s, queue), state);
    return keep == 0 ? otherwise : keep == NQ_ZERO ? 0 : keep == NQ_FOREVER ? NQ_KEEP_FOREVER : keep;
}

/* ---- By state, where no queue says how long ---- */

struct retention_purge {
    const nq_store *store;
    int64_t keep_done_us, keep_dead_us;
    size_t limit;
    nq_buf ids;
    size_t nids;
    int64_t newest_us; /* when the newest of them ended */
    uint64_t gone;
    bool halts; /* some dead tasks may halt their groups: those stay */
    bool keeps; /* and some done ones are kept for a time of their own */
};

/* What ended in this time may be the first one that stays, and have come after the look for such ones. */
#define RETENTION_LOOKED NQ_HOURS(1)

static int retention_purge_row(const nq_val cols[], size_t ncols, void *arg)
{
    struct retention_purge *p = arg;
    (void)ncols;
    nq_sql_list_id(p->store, &p->ids, cols[0].i);
    p->nids++;
    if (cols[1].type == NQ_VAL_INT && cols[1].i > p->newest_us)
        p->newest_us = cols[1].i;
    return 0;
}

/* A dead task that may halt its group stays. */
#define RETENTION_LOOSE                                                                                      \
    "AND id NOT IN (SELECT g.head FROM {gates} g JOIN {queues} q ON q.name = g.queue OR q.name = "           \
    "{each:{base:g.queue}} WHERE q.ordered = 2 AND g.head IS NOT NULL)"

/* Delete those that this statement selects: id, when it ended. One that was retried meanwhile and has ended
 * again is another record. One whose time is none goes too: it would be first for ever. */
static int retention_delete(nq_conn *c, struct retention_purge *p, const char *select, const nq_val args[],
                            size_t nargs, nq_err *err)
{
    nq_exec_result res = {0};
    nq_buf_clear(&p->ids);
    p->nids = 0;
    p->newest_us = 0;
    nq_buf_str(&p->ids, "{delete_by_key} {finished} WHERE id IN (");
    int rc = nq_sql(c, select, args, nargs, retention_purge_row, p, NULL, err);
    if (rc != NQ_OK || p->nids == 0)
        return rc;
    nq_buf_fmt(&p->ids, ") AND (finished_at <= {at} OR {no_moment:finished_at}) {at_most:%zu}", p->nids);
    const nq_val newest = nq_int(p->newest_us);
    rc = p->ids.failed ? nq_err_nomem(err) : nq_sql(c, p->ids.p, &newest, 1, NULL, NULL, &res, err);
    p->gone += res.affected;
    return rc;
}

/* A condition that leaves out what stays, for a SELECT of tasks of this state that are kept keep_us. */
static const char *retention_unless(const struct retention_purge *p, int state, int64_t keep_us)
{
    const bool late = keep_us < RETENTION_LOOKED;
    if (state == NQ_STATE_DEAD && (p->halts || late))
        return RETENTION_LOOSE;
    return state == NQ_STATE_DONE && (p->keeps || late) ? "AND NOT " NQ_RESULT_KEEPS : "";
}

/* The oldest ones of a state that ended longer than keep_us ago. */
static int retention_purge_state(nq_conn *c, struct retention_purge *p, int state, int64_t keep_us,
                                 nq_err *err)
{
    const nq_val args[] = {nq_int(state), nq_int(-keep_us), nq_int((int64_t)(p->limit - p->gone))};
    nq_buf sql = {0};
    if (keep_us < 0 || p->gone >= p->limit)
        return NQ_OK;
    nq_buf_fmt(&sql,
               "SELECT id, {us:finished_at} FROM {finished} WHERE state = ? AND finished_at < {after} %s "
               "ORDER BY finished_at "
               "LIMIT ?",
               retention_unless(p, state, keep_us));
    const int rc = sql.failed ? nq_err_nomem(err) : retention_delete(c, p, sql.p, args, 3, err);
    nq_buf_free(&sql);
    return rc;
}

static int retention_purge(nq_conn *c, void *arg, nq_err *err)
{
    struct retention_purge *p = arg;
    int rc;
    if ((rc = nq_order_halts(c, &p->halts, err)) != NQ_OK ||
        (rc = nq_results_any(c, &p->keeps, err)) != NQ_OK ||
        (rc = retention_purge_state(c, p, NQ_STATE_DONE, p->keep_done_us, err)) != NQ_OK ||
        (rc = retention_purge_state(c, p, NQ_STATE_DEAD, p->keep_dead_us, err)) != NQ_OK)
        return rc;
    return retention_purge_state(c, p, NQ_STATE_CANCELLED, p->keep_dead_us, err);
}

NQ_PRIVATE int nq_store_purge(nq_store *s, int64_t keep_done_us, int64_t keep_dead_us, size_t limit,
                              uint64_t *n, nq_err *err)
{
    struct retention_purge p = {
        .store = s, .keep_done_us = keep_done_us, .keep_dead_us = keep_dead_us, .limit = limit};
    /* No transaction: each DELETE stands for itself. */
    int rc = nq_store_do(s, retention_purge, &p, err);
    nq_buf_free(&p.ids);
    if (rc == NQ_OK)
        *n = p.gone;
    return rc;
}

/* ---- Queue by queue ---- */

struct retention_queues {
    nq_purge *p;
    struct retention_purge one;
};

/* Those of a state of the queue at which the pass is; nothing where they are kept for ever. */
static void retention_add(struct retention_queues *q, nq_buf *sql, nq_val args[], size_t *nargs,
                          const char *name, int state)
{
    const nq_purge *p = q->p;
    const int64_t keep_us = nq_settings_keeps(p->settings, name, state,
                                              state == NQ_STATE_DONE ? p->keep_done_us : p->keep_dead_us);
    if (keep_us < 0)
        return;
    nq_buf_fmt(sql,
               "%sSELECT id, {us:finished_at} FROM (SELECT id, finished_at FROM {finished} {by_history} "
               "WHERE queue = ? AND state = ? AND "
               "finished_at < {after} %s ORDER BY finished_at LIMIT ?) a%d",
               sql->n ? " UNION ALL " : "", retention_unless(&q->one, state, keep_us), state);
    args[(*nargs)++] = nq_scan_queue(&p->scan);
    args[(*nargs)++] = nq_int(state);
    args[(*nargs)++] = nq_int(-keep_us);
    args[(*nargs)++] = nq_int((int64_t)q->one.limit);
}

static int retention_queue(nq_conn *c, struct retention_queues *q, nq_err *err)
{
    nq_buf sql = {0};
    nq_val args[13];
    size_t nargs = 0;
    char name[2 * NQ_MAX_QUEUE];
    const nq_buf *queue = &q->p->scan.queue;
    int rc = NQ_OK;
    snprintf(name, sizeof name, "%.*s", (int)(queue->n < sizeof name ? queue->n : sizeof name - 1),
             queue->n ? queue->p : "");
    for (int state = NQ_STATE_DONE; state <= NQ_STATE_CANCELLED; state++)
        retention_add(q, &sql, args, &nargs, name, state);
    if (nargs > 0) {
        const uint64_t before = q->one.gone;
        nq_buf_str(&sql, " LIMIT ?");
        args[nargs++] = nq_int((int64_t)(q->one.limit - q->one.gone));
        rc = sql.failed ? nq_err_nomem(err) : retention_delete(c, &q->one, sql.p, args, nargs, err);
        q->p->left = q->p->left || (q->one.nids > 0 && q->one.nids >= q->one.limit - before);
    }
    nq_buf_free(&sql);
    return rc;
}

static int retention_queues(nq_conn *c, void *arg, nq_err *err)
{
    struct retention_queues *q = arg;
    nq_scan *at = &q->p->scan;
    const int64_t until = nq_mono_us() + at->most_us;
    bool more = false;
    int rc;
    if ((rc = nq_order_halts(c, &q->one.halts, err)) != NQ_OK ||
        (rc = nq_results_any(c, &q->one.keeps, err)) != NQ_OK)
        return rc;
    if (!at->more) {
        nq_scan_start(at);
        q->p->left = false;
    }
    at->more = false; /* after a failure the next call begins anew */
    do {
        rc = nq_scan_next(c, at, "SELECT MIN(queue) FROM {finished} WHERE queue > ?", false, &more, err);
        if (rc == NQ_OK && more)
            rc = retention_queue(c, q, err);
    } while (rc == NQ_OK && more && q->one.gone < q->one.limit && nq_mono_us() < until);
    at->more = rc == NQ_OK && more;
    return rc;
}

NQ_PRIVATE int nq_store_purge_queues(nq_store *s, nq_purge *p, nq_err *err)
{
    struct retention_queues q = {.p = p, .one = {.store = s, .limit = p->limit}};
    const int rc = nq_store_do(s, retention_queues, &q, err);
    nq_buf_free(&q.one.ids);
    p->gone = q.one.gone;
    return rc;
}
