/* SPDX-License-Identifier: MIT */
/* Finding the tasks of dead workers. */
#include "retention.h"

/* ---- Orphans ---- */

struct upkeep_orphans {
    nq_claimed_list list;
    size_t limit;
    nq_scan *scan;
    bool more;
};

/* The next queues, and their orphans; o->more false: there are none. A server is asked for many queues at
 * once: each may be a group's. */
static int upkeep_next_queues(nq_conn *c, struct upkeep_orphans *o, nq_err *err)
{
    nq_scan *at = o->scan;
    nq_buf from = {0};
    nq_val behind = nq_scan_queue(at);
    nq_buf_add(&from, behind.p, behind.n);
    behind.p = from.p;
    int rc = from.failed ? nq_err_nomem(err) : nq_scan_next(c, at, "{next_queues}", true, &o->more, err);
    if (rc == NQ_OK && o->more) {
        const nq_val args[] = {behind, nq_scan_queue(at), nq_int((int64_t)at->stray_from),
                               nq_int((int64_t)at->stray_before), nq_int((int64_t)(o->limit - o->list.n))};
        rc = nq_sql(c,
                    "SELECT " NQ_CLAIMED_COLUMNS ", t.lease FROM {running_in} LEFT JOIN {workers} p "
                    "ON p.id = (t.lease >> 36) WHERE p.id IS NULL OR (t.lease >= ? AND t.lease < ?) LIMIT ?",
                    args, 5, nq_claimed_add, &o->list, NULL, err);
        if (rc == NQ_OK && o->list.n >= o->limit) { /* they may have others */
            nq_buf_clear(&at->queue);
            nq_buf_add(&at->queue, from.p, from.n);
            at->type = behind.type;
            rc = at->queue.failed ? nq_err_nomem(err) : NQ_OK;
        }
    }
    nq_buf_free(&from);
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
        nq_scan_start(o->scan);
    o->scan->more = false;
    do
        rc = upkeep_next_queues(c, o, err);
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
