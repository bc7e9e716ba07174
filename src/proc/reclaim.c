/* SPDX-License-Identifier: MIT */
/* Reclaiming: a dead processor's running tasks get the outcome of a crash. */
#include "proc.h"

/* Hand one to the completer, or free it; false: no memory. */
static bool reclaim_one(nq_proc *p, nq_claimed *claim)
{
    nq_ctx *ctx = nq_ctx_new(p);
    if (!ctx) {
        free(claim);
        return false;
    }
    nq_ctx_hold(ctx, claim, nq_mono_us());
    ctx->orphan = true;
    nq_outcome out;
    nq_dispatch_crash(ctx, &out);
    ctx->out = out;

    pthread_mutex_lock(&p->lock);
    bool run = p->phase == NQ_PHASE_RUN;
    if (run) {
        p->orphans++;
        p->taken++;
        for (size_t i = 0; i < p->nfeeds; i++)
            p->feeds[i].quiet = 0;
        nq_done_push(p, ctx);
    }
    pthread_mutex_unlock(&p->lock);
    if (!run)
        nq_ctx_unref(ctx); /* somebody else finds it */
    return true;
}

NQ_PRIVATE int nq_reclaim(nq_proc *p, size_t max, size_t *found, bool *all, nq_err *err)
{
    nq_claimed *list = NULL;
    int rc = nq_store_orphans(p->store, max, &list, found, err);
    if (rc != NQ_OK)
        return rc;
    if (*found > 0)
        nq_proc_log(p, NQ_LOG_WARN, "%zu task(s) of a dead processor found", *found);
    *all = true;
    while (list) {
        nq_claimed *claim = list;
        list = claim->next;
        if (!reclaim_one(p, claim))
            *all = false;
    }
    return NQ_OK;
}
