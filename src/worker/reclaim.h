/* SPDX-License-Identifier: MIT */
/* reclaim.c: tasks of dead workers. */
#ifndef NQ_WORKER_RECLAIM_H
#define NQ_WORKER_RECLAIM_H

#include "worker.h"

typedef struct nq_reclaimer {
    nq_scan scan;     /* the pass over the queues, */
    bool late;        /* which came too late for a worker that died since it began */
    bool found;       /* and which found some */
    int64_t again_us; /* how soon after some were found to look again; 0: as at first */
    struct nq_stray { /* the first one of this pass, and of the one before; id 0: none */
        nq_id id;
        uint64_t lease;
        int64_t seen_us;
    } stray, before;
} nq_reclaimer;
/* Look for some, and hand them to the completer. sure: no worker is suspected, so that a pass which finds
 * none may tell a drain that there are none. Without the lock. */
NQ_PRIVATE int nq_reclaim(nq_worker *w, const nq_member *m, nq_reclaimer *r, bool sure, int64_t *next_us,
                          nq_err *err);

#endif
