/* SPDX-License-Identifier: MIT */
/* Reclaiming: a dead worker's running tasks get the outcome of a crash. */
#include "worker.h"

/* Hand one to the completer, or free it; false: no memory. */
static bool reclaim_one(nq_worker *w, const char *victim, nq_claimed *claim)
{
    nq_ctx *ctx = nq_ctx_new(w);
    if (!ctx) {
        free(claim);
        return false;
    }
    nq_ctx_claimed(ctx, claim, nq_mono_us());
    ctx->orphan = true;
    ctx->victim = victim ? strdup(victim) : NULL;
    nq_outcome out;
    nq_dispatch_crash(ctx, &out);
    out.worker = ctx->victim;
    ctx->out = out;

    pthread_mutex_lock(&w->lock);
    bool run = w->phase == NQ_PHASE_RUN;
    if (run) {
        w->orphans++;
        w->taken++;
        for (size_t i = 0; i < w->nqueues; i++)
            w->queues[i].quiet = 0;
        nq_done_push(w, ctx);
    }
    pthread_mutex_unlock(&w->lock);
    if (!run)
        nq_ctx_unref(ctx); /* somebody else finds it */
    return true;
}

NQ_PRIVATE int nq_reclaim(nq_worker *w, const nq_member *m, nq_scan *scan, size_t max, size_t *found,
                          bool *all, nq_err *err)
{
    nq_claimed *list = NULL;
    int rc = nq_store_orphans(w->store, scan, max, &list, found, err);
    if (rc != NQ_OK)
        return rc;
    *all = true;
    while (list) {
        nq_claimed *claim = list;
        list = claim->next;
        if (!reclaim_one(w, nq_member_named(m, NQ_LEASE_WORKER(claim->lease)), claim))
            *all = false;
    }
    return NQ_OK;
}
