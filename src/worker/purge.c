/* SPDX-License-Identifier: MIT */
/* Deleting tasks that have ended when their time is over: as their queue's settings say, else the worker's.
 */
#include "worker.h"

#define PURGE_LIMIT   500        /* tasks deleted at a time */
#define PURGE_LOOK_US NQ_MS(100) /* of a look: with very many queues a pass is made in several */
#define PURGE_AGAIN   NQ_MS(100)

NQ_PRIVATE int nq_purge_run(nq_worker *w, nq_purge *p, int64_t *next_us, nq_err *err)
{
    const nq_settings *const settings = w->settings; /* which only this thread changes */
    /* Records that this worker would not keep belong to one that does. */
    const int64_t keep_done = w->opts.keep_done_us ? w->opts.keep_done_us : NQ_KEEP_FOREVER;
    uint64_t n = 0;
    if (settings && settings->keeps) {
        p->settings = settings;
        p->keep_done_us = keep_done;
        p->keep_dead_us = w->opts.keep_dead_us;
        p->limit = PURGE_LIMIT;
        p->scan.most_us = PURGE_LOOK_US;
        const int rc = nq_store_purge_queues(w->store, p, err);
        if (rc == NQ_OK && (p->scan.more || p->left))
            *next_us = PURGE_AGAIN;
        return rc;
    }
    if (keep_done < 0 && w->opts.keep_dead_us < 0)
        return NQ_OK;
    const int rc = nq_store_purge(w->store, keep_done, w->opts.keep_dead_us, PURGE_LIMIT, &n, err);
    if (rc == NQ_OK && n >= PURGE_LIMIT)
        *next_us = PURGE_AGAIN;
    return rc;
}
