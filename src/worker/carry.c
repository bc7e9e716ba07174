/* SPDX-License-Identifier: MIT */
/* Completions that the next claim takes along into its transaction. */
#include "worker.h"

NQ_PRIVATE void nq_carry_end(nq_worker *w)
{
    nq_ctx *ctx;
    w->carrying = false;
    while ((ctx = nq_jobs_pop(&w->along)))
        nq_jobs_push(&w->ended, ctx);
    if (w->ended.head && w->completer_idle)
        pthread_cond_signal(&w->done_cond);
}

NQ_PRIVATE void nq_along_take(nq_worker *w, nq_along *a)
{
    a->n = 0;
    while (a->n < NQ_FINISH_MAX && w->along.head) {
        nq_ctx *ctx = nq_jobs_pop(&w->along);
        a->outs[a->n] = &ctx->out;
        a->ctx[a->n++] = ctx;
    }
}

NQ_PRIVATE void nq_along_settle(nq_worker *w, nq_along *a, enum nq_carried carried)
{
    if (a->n == 0)
        return;
    if (carried == NQ_CARRIED) {
        nq_settle(w, a->ctx, a->n, false);
        return;
    }
    pthread_mutex_lock(&w->lock);
    for (size_t i = 0; i < a->n; i++) {
        a->ctx[i]->unknown = carried == NQ_CARRIED_UNKNOWN;
        nq_jobs_push(&w->ended, a->ctx[i]);
    }
    nq_carry_end(w);
    pthread_mutex_unlock(&w->lock);
}
