/* SPDX-License-Identifier: MIT */
/* Requests to cancel attempts that run. */
#include "worker.h"

static bool cancel_asked(const nq_ctx *ctx, const nq_attempt list[], size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (nq_ctx_is(ctx, &list[i]))
            return true;
    return false;
}

/* With the lock held: those that have not begun never will. */
static void cancel_ready(nq_worker *w, nq_task_list *ready, const nq_attempt list[], size_t n)
{
    nq_task_list all = *ready;
    if (!all.head)
        return;
    nq_task_list_init(ready);
    for (nq_ctx *ctx = all.head, *next; ctx; ctx = next) {
        next = ctx->next;
        if (cancel_asked(ctx, list, n)) {
            ctx->out.kind = NQ_OUT_CANCELLED;
            nq_done_push(w, ctx);
        } else {
            nq_task_list_push(ready, ctx);
        }
    }
}

NQ_PRIVATE int nq_cancels_check(nq_worker *w, nq_err *err)
{
    nq_attempt *list = NULL;
    size_t n = 0;
    pthread_mutex_lock(&w->lock);
    const uint64_t member = w->member;
    pthread_mutex_unlock(&w->lock);
    int rc = nq_store_cancels(w->store, member, &list, &n, err);
    if (rc != NQ_OK || n == 0)
        return rc;
    pthread_mutex_lock(&w->lock);
    cancel_ready(w, &w->ready, list, n);
    cancel_ready(w, &w->paced, list, n);
    for (unsigned i = 0; i < w->opts.concurrency; i++) {
        nq_ctx *ctx;
        for (size_t k = 0; (ctx = nq_thread_attempt(&w->threads[i], k)); k++)
            if (cancel_asked(ctx, list, n))
                nq_ctx_cancel(ctx, NQ_CAUSE_CANCEL);
        for (ctx = w->threads[i].pipelined.head; ctx; ctx = ctx->next)
            if (cancel_asked(ctx, list, n))
                nq_ctx_cancel(ctx, NQ_CAUSE_CANCEL);
    }
    pthread_mutex_unlock(&w->lock);
    free(list);
    return NQ_OK;
}
