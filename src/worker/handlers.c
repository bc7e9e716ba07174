/* SPDX-License-Identifier: MIT */
/* The handler threads and the watch over their deadlines. */
#include "isolate/isolate.h"

/* With the lock held: the next attempt, or NULL when there will be none. */
static nq_ctx *threads_take(struct nq_slot *slot)
{
    nq_worker *w = slot->worker;
    while (!w->ready.head && w->phase == NQ_PHASE_RUN) {
        w->idle++;
        pthread_cond_wait(&w->ready_cond, &w->lock);
        w->idle--;
        w->rousing = false;
    }
    nq_ctx *ctx = nq_jobs_pop(&w->ready);
    if (!ctx)
        return NULL;
    nq_ready_rouse(w);
    nq_slot_begin(slot, ctx);
    return ctx;
}

NQ_PRIVATE void *nq_handler_main(void *arg)
{
    struct nq_slot *slot = arg;
    nq_worker *w = slot->worker;
    nq_ctx *ctx;

    pthread_mutex_lock(&w->lock);
    while ((ctx = threads_take(slot))) {
        nq_outcome out;
        pthread_mutex_unlock(&w->lock);
        nq_event_started(ctx);
        if (ctx->route && ctx->route->isolated) {
            nq_drive(slot);
            pthread_mutex_lock(&w->lock);
            continue;
        }
        int64_t start = nq_mono_us();
        nq_dispatch(ctx, &out);
        int64_t took = nq_mono_us() - start;
        pthread_mutex_lock(&w->lock);
        nq_ctx_close_fd(ctx);
        nq_slot_end(slot, &out);
        nq_slots_ended(w, 1, took);
    }
    pthread_mutex_unlock(&w->lock);
    nq_worker_unref(w);
    return NULL;
}

NQ_PRIVATE void *nq_watch_main(void *arg)
{
    nq_worker *w = arg;
    pthread_mutex_lock(&w->lock);
    while (w->phase < NQ_PHASE_RECORD) {
        int64_t now = nq_mono_us(), until = INT64_MAX;
        for (unsigned i = 0; i < w->opts.concurrency; i++) {
            nq_ctx *ctx = w->slots[i].ctx;
            if (!ctx || atomic_load(&ctx->cause) != NQ_CAUSE_NONE)
                continue;
            if (ctx->deadline_us <= now)
                nq_ctx_cancel(ctx, NQ_CAUSE_TIMEOUT);
            else if (ctx->deadline_us < until)
                until = ctx->deadline_us;
        }
        w->watch_until = until;
        if (until == INT64_MAX)
            pthread_cond_wait(&w->watch_cond, &w->lock);
        else
            nq_cond_wait_until(&w->watch_cond, &w->lock, until);
    }
    pthread_mutex_unlock(&w->lock);
    return NULL;
}
