/* SPDX-License-Identifier: MIT */
/* Finding the tasks of dead workers; deleting finished tasks past their retention. */
#include "store.h"

/* ---- Orphans ---- */

struct upkeep_orphans {
    nq_claimed_list list;
    size_t limit;
    char queue[NQ_MAX_QUEUE + 1]; /* the one being looked at */
    bool more;
};

static int upkeep_queue_row(const nq_val cols[], size_t ncols, void *arg)
{
    struct upkeep_orphans *o = arg;
    (void)ncols;
    if (cols[0].type == NQ_VAL_NULL || cols[0].n >= sizeof(o->queue))
        return 0;
    memcpy(o->queue, cols[0].p, cols[0].n);
    o->queue[cols[0].n] = '\0';
    o->more = true;
    return 0;
}

static int upkeep_find_orphans(nq_conn *c, void *arg, nq_err *err)
{
    struct upkeep_orphans *o = arg;
    int code = NQ_OK;
    nq_claimed_free(o->list.head);
    o->list = (nq_claimed_list){0};
    o->queue[0] = '\0';
    while (!code && o->list.n < o->limit) {
        nq_val args[2] = {nq_text(o->queue), nq_int((int64_t)(o->limit - o->list.n))};
        o->more = false;
        code = nq_sql(c, "SELECT MIN(queue) FROM {tasks} WHERE queue > ?", args, 1, upkeep_queue_row, o, NULL,
                      err);
        if (code || !o->more)
            break;
        args[0] = nq_text(o->queue);
        code = nq_sql(c,
                      "SELECT " NQ_CLAIMED_COLUMNS " FROM {tasks} t LEFT JOIN {processors} p "
                      "ON p.id = (t.lease >> 36) WHERE t.queue = ? AND t.state = 1 AND p.id IS NULL LIMIT ?",
                      args, 2, nq_claimed_add, &o->list, NULL, err);
    }
    return code == NQ_ENOMEM ? nq_err_nomem(err) : code;
}

NQ_PRIVATE int nq_store_orphans(nq_store *s, size_t limit, nq_claimed **out, size_t *n, nq_err *err)
{
    struct upkeep_orphans o = {.limit = limit};
    int code = nq_store_do(s, upkeep_find_orphans, &o, err);
    if (code) {
        nq_claimed_free(o.list.head);
        return code;
    }
    *out = o.list.head;
    *n = o.list.n;
    return NQ_OK;
}

/* ---- Retention ---- */

struct upkeep_purge {
    int64_t keep_done_us, keep_dead_us;
    size_t limit;
    nq_buf ids;
    size_t nids;
    uint64_t gone;
};

static int upkeep_purge_row(const nq_val cols[], size_t ncols, void *arg)
{
    struct upkeep_purge *p = arg;
    (void)ncols;
    nq_buf_str(&p->ids, p->nids++ ? "," : "");
    nq_buf_u64(&p->ids, (uint64_t)cols[0].i);
    return 0;
}

/* The oldest ones of a state that ended longer than keep_us ago. */
static int upkeep_purge_state(nq_conn *c, struct upkeep_purge *p, int state, int64_t keep_us, nq_err *err)
{
    const nq_val args[] = {nq_int(state), nq_int(-keep_us), nq_int((int64_t)(p->limit - p->gone))};
    nq_exec_result res = {0};
    int code;
    if (keep_us < 0 || p->gone >= p->limit)
        return NQ_OK;
    nq_buf_clear(&p->ids);
    p->nids = 0;
    nq_buf_str(&p->ids, "DELETE FROM {finished} WHERE id IN (");
    code = nq_sql(c,
                  "SELECT id FROM {finished} WHERE state = ? AND finished_at < {after} "
                  "ORDER BY finished_at LIMIT ?",
                  args, 3, upkeep_purge_row, p, NULL, err);
    if (code || p->nids == 0)
        return code;
    nq_buf_fmt(&p->ids, ") {at_most:%zu}", p->nids);
    code = p->ids.failed ? nq_err_nomem(err) : nq_sql(c, p->ids.p, NULL, 0, NULL, NULL, &res, err);
    p->gone += res.affected;
    return code;
}

static int upkeep_purge(nq_conn *c, void *arg, nq_err *err)
{
    struct upkeep_purge *p = arg;
    int code;
    if ((code = upkeep_purge_state(c, p, NQ_STATE_DONE, p->keep_done_us, err)) ||
        (code = upkeep_purge_state(c, p, NQ_STATE_DEAD, p->keep_dead_us, err)))
        return code;
    return upkeep_purge_state(c, p, NQ_STATE_CANCELLED, p->keep_dead_us, err);
}

NQ_PRIVATE int nq_store_purge(nq_store *s, int64_t keep_done_us, int64_t keep_dead_us, size_t limit,
                              uint64_t *n, nq_err *err)
{
    struct upkeep_purge p = {.keep_done_us = keep_done_us, .keep_dead_us = keep_dead_us, .limit = limit};
    /* No transaction: each DELETE stands for itself. */
    int code = nq_store_do(s, upkeep_purge, &p, err);
    nq_buf_free(&p.ids);
    if (!code)
        *n = p.gone;
    return code;
}
