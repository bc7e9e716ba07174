/* SPDX-License-Identifier: MIT */
/* Finding the tasks of dead workers; deleting finished tasks past their retention. */
#include "settings.h"

/* ---- Orphans ---- */

struct upkeep_orphans {
    nq_claimed_list list;
    size_t limit;
    nq_scan *scan;
    bool more;
};

/* In order of the index, so that a look at them all has an end: a name that is not behind the one before ends
 * it, whatever was stored as one. */
static int upkeep_queue_row(const nq_val cols[], size_t ncols, void *arg)
{
    struct upkeep_orphans *o = arg;
    nq_scan *at = o->scan;
    const size_t both = cols[0].n < at->queue.n ? cols[0].n : at->queue.n;
    (void)ncols;
    if (cols[0].type != NQ_VAL_TEXT && cols[0].type != NQ_VAL_BLOB)
        return 0;
    const int order = both ? memcmp(cols[0].p, at->queue.p, both) : 0;
    o->more = cols[0].type != at->type ? cols[0].type == NQ_VAL_BLOB
                                       : order > 0 || (order == 0 && cols[0].n > at->queue.n);
    if (!o->more)
        return 0;
    at->type = cols[0].type;
    nq_buf_clear(&at->queue);
    nq_buf_add(&at->queue, cols[0].p, cols[0].n);
    return at->queue.failed ? NQ_ENOMEM : 0;
}

static nq_val upkeep_queue(const nq_scan *at)
{
    return (nq_val){at->type, 0, at->queue.n ? at->queue.p : "", at->queue.n};
}

static void upkeep_from_the_start(nq_scan *at)
{
    nq_buf_clear(&at->queue);
    at->type = NQ_VAL_TEXT;
    at->more = at->same = false;
}

/* The next queue, and its orphans; o->more false: there is none. */
static int upkeep_next_queue(nq_conn *c, struct upkeep_orphans *o, nq_err *err)
{
    nq_val args[2] = {upkeep_queue(o->scan), nq_int((int64_t)(o->limit - o->list.n))};
    int rc = NQ_OK;
    o->more = o->scan->same;
    if (!o->more)
        rc = nq_sql(c, "SELECT MIN(queue) FROM {tasks} WHERE queue > ?", args, 1, upkeep_queue_row, o, NULL,
                    err);
    if (rc != NQ_OK || !o->more)
        return rc;
    args[0] = upkeep_queue(o->scan);
    rc = nq_sql(c,
                "SELECT " NQ_CLAIMED_COLUMNS ", t.lease FROM {tasks} t LEFT JOIN {workers} p "
                "ON p.id = (t.lease >> 36) WHERE t.queue = ? AND t.state = 1 AND p.id IS NULL LIMIT ?",
                args, 2, nq_claimed_add, &o->list, NULL, err);
    o->scan->same = o->list.n >= o->limit; /* it may have others */
    return rc;
}

static int upkeep_find_orphans(nq_conn *c, void *arg, nq_err *err)
{
    struct upkeep_orphans *o = arg;
    const int64_t until = nq_mono_us() + o->scan->most_us;
    int rc;
    nq_claimed_free(o->list.head);
    o->list = (nq_claimed_list){0};
    if (!o->scan->more) /* after a failure too: what was found before it is lost */
        upkeep_from_the_start(o->scan);
    o->scan->more = false;
    do
        rc = upkeep_next_queue(c, o, err);
    while (rc == NQ_OK && o->more && o->list.n < o->limit && nq_mono_us() < until);
    o->scan->more = rc == NQ_OK && o->more;
    return rc;
}

/* On a server an id may be above what nq_id holds: such a task cannot run again. */
static int upkeep_bury_beyond(nq_store *s, struct upkeep_orphans *o, nq_err *err)
{
    static const char reason[] = "worker died, and the id is above the largest one, 9223372036854775807";
    int rc = NQ_OK;
    for (nq_claimed **p = &o->list.head; *p && rc == NQ_OK;) {
        nq_claimed *claim = *p;
        if (claim->task.id >= 0) {
            p = &claim->next;
            continue;
        }
        nq_grave g = {.id = claim->task.id,
                      .lease = claim->lease,
                      .from = NQ_STATE_RUNNING,
                      .state = NQ_STATE_DEAD,
                      .failed = true,
                      .crashed = true,
                      .error = reason,
                      .error_size = sizeof reason - 1};
        rc = nq_store_bury(s, &g, err);
        *p = claim->next;
        o->list.n--;
        free(claim);
    }
    return rc;
}

NQ_PRIVATE int nq_store_orphans(nq_store *s, nq_scan *scan, size_t limit, nq_claimed **out, size_t *n,
                                nq_err *err)
{
    nq_scan whole = {.most_us = NQ_MAX_DURATION};
    struct upkeep_orphans o = {.limit = limit, .scan = scan ? scan : &whole};
    int rc = nq_store_do(s, upkeep_find_orphans, &o, err);
    if (rc == NQ_OK && s->driver->unsigned_ids)
        rc = upkeep_bury_beyond(s, &o, err);
    nq_buf_free(&whole.queue);
    if (rc != NQ_OK) {
        o.scan->more = false;
        nq_claimed_free(o.list.head);
        return rc;
    }
    *out = o.list.head;
    *n = o.list.n;
    return NQ_OK;
}

/* ---- Retention ---- */

struct upkeep_purge {
    const nq_store *store;
    int64_t keep_done_us, keep_dead_us;
    size_t limit;
    nq_buf ids;
    size_t nids;
    uint64_t gone;
    bool halts; /* some dead tasks may halt their groups: those stay */
    bool keeps; /* and some done ones are kept for a time of their own */
};

static int upkeep_purge_row(const nq_val cols[], size_t ncols, void *arg)
{
    struct upkeep_purge *p = arg;
    (void)ncols;
    nq_sql_list_id(p->store, &p->ids, cols[0].i);
    p->nids++;
    return 0;
}

/* The oldest ones of a state that ended longer than keep_us ago. */
static int upkeep_purge_state(nq_conn *c, struct upkeep_purge *p, int state, int64_t keep_us, nq_err *err)
{
    const nq_val args[] = {nq_int(state), nq_int(-keep_us), nq_int((int64_t)(p->limit - p->gone))};
    nq_exec_result res = {0};
    int rc;
    if (keep_us < 0 || p->gone >= p->limit)
        return NQ_OK;
    nq_buf_clear(&p->ids);
    p->nids = 0;
    nq_buf_str(&p->ids, "DELETE FROM {finished} WHERE id IN (");
    static const char old[] = "SELECT id FROM {finished} WHERE state = ? AND finished_at < {after} "
                              "ORDER BY finished_at LIMIT ?";
    static const char loose[] = "SELECT id FROM {finished} WHERE state = ? AND finished_at < {after} AND id "
                                "NOT IN (SELECT g.head FROM "
                                "{gates} g JOIN {queues} q ON q.name = g.queue OR q.name = "
                                "{each:{base:g.queue}} WHERE q.ordered = 2 AND "
                                "g.head IS NOT NULL) ORDER BY finished_at LIMIT ?";
    static const char free[] =
        "SELECT id FROM {finished} WHERE state = ? AND finished_at < {after} AND NOT " NQ_RESULT_KEEPS
        " ORDER BY finished_at LIMIT ?";
    rc = nq_sql(c,
                p->halts && state == NQ_STATE_DEAD   ? loose
                : p->keeps && state == NQ_STATE_DONE ? free
                                                     : old,
                args, 3, upkeep_purge_row, p, NULL, err);
    if (rc != NQ_OK || p->nids == 0)
        return rc;
    nq_buf_fmt(&p->ids, ") {at_most:%zu}", p->nids);
    rc = p->ids.failed ? nq_err_nomem(err) : nq_sql(c, p->ids.p, NULL, 0, NULL, NULL, &res, err);
    p->gone += res.affected;
    return rc;
}

static int upkeep_purge(nq_conn *c, void *arg, nq_err *err)
{
    struct upkeep_purge *p = arg;
    int rc;
    if ((rc = nq_order_halts(c, &p->halts, err)) != NQ_OK ||
        (rc = nq_results_any(c, &p->keeps, err)) != NQ_OK ||
        (rc = upkeep_purge_state(c, p, NQ_STATE_DONE, p->keep_done_us, err)) != NQ_OK ||
        (rc = upkeep_purge_state(c, p, NQ_STATE_DEAD, p->keep_dead_us, err)) != NQ_OK)
        return rc;
    return upkeep_purge_state(c, p, NQ_STATE_CANCELLED, p->keep_dead_us, err);
}

NQ_PRIVATE int nq_store_purge(nq_store *s, int64_t keep_done_us, int64_t keep_dead_us, size_t limit,
                              uint64_t *n, nq_err *err)
{
    struct upkeep_purge p = {
        .store = s, .keep_done_us = keep_done_us, .keep_dead_us = keep_dead_us, .limit = limit};
    /* No transaction: each DELETE stands for itself. */
    int rc = nq_store_do(s, upkeep_purge, &p, err);
    nq_buf_free(&p.ids);
    if (rc == NQ_OK)
        *n = p.gone;
    return rc;
}
