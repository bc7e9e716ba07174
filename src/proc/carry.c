/* SPDX-License-Identifier: MIT */
/* Completions that the next claim takes along into its transaction. */
#include "proc.h"

NQ_PRIVATE void nq_carry_end(nq_proc *p)
{
    nq_ctx *ctx;
    p->carrying = false;
    while ((ctx = nq_jobs_pop(&p->along)))
        nq_jobs_push(&p->ended, ctx);
    if (p->ended.head && p->completer_idle)
        pthread_cond_signal(&p->done_cond);
}

NQ_PRIVATE void nq_along_take(nq_proc *p, nq_along *a)
{
    a->n = 0;
    while (a->n < NQ_FINISH_MAX && p->along.head) {
        nq_ctx *ctx = nq_jobs_pop(&p->along);
        a->outs[a->n] = &ctx->out;
        a->ctx[a->n++] = ctx;
    }
}

NQ_PRIVATE void nq_along_settle(nq_proc *p, nq_along *a, enum nq_carried carried)
{
    if (a->n == 0)
        return;
    if (carried == NQ_CARRIED) {
        nq_settle(p, a->ctx, a->n, false);
        return;
    }
    pthread_mutex_lock(&p->lock);
    for (size_t i = 0; i < a->n; i++) {
        a->ctx[i]->unknown = carried == NQ_CARRIED_UNKNOWN;
        nq_jobs_push(&p->ended, a->ctx[i]);
    }
    nq_carry_end(p);
    pthread_mutex_unlock(&p->lock);
}
