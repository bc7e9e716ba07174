/* SPDX-License-Identifier: MIT */
/* retention.c: how long tasks that have ended are kept, and deleting those whose time is over. */
#ifndef NQ_STORE_RETENTION_H
#define NQ_STORE_RETENTION_H

#include "settings.h"

#define NQ_KEEP_FOREVER (-1)

/* How long a task of this queue or group that ended in a state is kept: as its group's row says, that of
 * group "*", that of the queue; else so long (in microseconds, or NQ_KEEP_FOREVER, as is the answer). */
NQ_PRIVATE int64_t nq_settings_keeps(const nq_settings *s, const char *name, int state, int64_t otherwise);

/* Delete up to limit finished tasks past their retention. *n: how many went. Where no queue says how long. */
NQ_PRIVATE int nq_store_purge(nq_store *s, int64_t keep_done_us, int64_t keep_dead_us, size_t limit,
                              uint64_t *n, nq_err *err);
/* Deleting what is over, where some queue says how long that is: queue by queue, so that one that keeps much
 * for long is never read through for the others. A call goes on where the one before stopped; {0} with the
 * numbers begins. After it free scan.queue. */
typedef struct nq_purge {
    const nq_settings *settings;
    int64_t keep_done_us, keep_dead_us; /* of the queues that do not say; NQ_KEEP_FOREVER */
    size_t limit;                       /* of a call, at most 1000 */
    nq_scan scan;                       /* most_us: of a call; more: the pass is not at its end */
    bool left;                          /* some queue had more than this pass took */
    uint64_t gone;                      /* out: how many went */
} nq_purge;
NQ_PRIVATE int nq_store_purge_queues(nq_store *s, nq_purge *p, nq_err *err);

/* scan.c: a pass begins; it goes on to the next queue that the statement finds behind the one bound, *more
 * false: there is none, once: by nq_sql_once; the queue at which it is, as a value. */
NQ_PRIVATE void nq_scan_start(nq_scan *at);
NQ_PRIVATE int nq_scan_next(nq_conn *c, nq_scan *at, const char *sql, bool once, bool *more, nq_err *err);
NQ_PRIVATE nq_val nq_scan_queue(const nq_scan *at);

#endif
