/* SPDX-License-Identifier: MIT */
/* Paced starts: tasks of queues with a rate wait for their time, here and not in the database. */
#include "worker.h"

/*
 * The claim gave each a time, up to a moment ahead, so that one claim brings what starts one by one. Until
 * then it is in a list in order of time; the watch wakes a handler for it. What finds no thread by
 * late_us (store/rates.c) is given back, and its start is lost: a worker that was stopped, or has too much to
 * do, would otherwise start at once what was to start one by one.
 */

NQ_PRIVATE int64_t nq_paced_watch(nq_worker *w, int64_t now)
{
    nq_ctx *ctx;
    bool any = false;
    while ((ctx = w->paced.head) && ctx->claim->start_us <= now && nq_ctx_late(ctx, now)) {
        nq_done_release(w, nq_task_list_pop(&w->paced));
        any = true;
    }
    if (any)
        nq_prefetch_less(w);
    if (!ctx)
        return INT64_MAX;
    if (ctx->claim->start_us > now)
        return ctx->claim->start_us;
    nq_ready_wake(w);
    /* Whoever takes it wakes the next one; the watch is for those that nobody takes, and for the next time.
     */
    int64_t until = ctx->claim->late_us;
    for (; ctx && ctx->claim->start_us <= now; ctx = ctx->next)
        until = ctx->claim->late_us < until ? ctx->claim->late_us : until;
    return ctx && ctx->claim->start_us < until ? ctx->claim->start_us : until;
}
