/* SPDX-License-Identifier: MIT */
/* The handler threads and the watch over their deadlines. */
#include "isolate/isolate.h"

/* With the lock held: the next attempt, or NULL when there will be none. */
static nq_ctx *handlers_take(struct nq_handler_thread *thread)
{
    nq_worker *w = thread->worker;
    if (w->nborrowers > 0)
        nq_loans_offer(w);
    nq_ctx *ctx;
    while (!(ctx = nq_ready_take(w)) && w->phase == NQ_PHASE_RUN) {
        w->idle++;
        pthread_cond_wait(&w->ready_cond, &w->lock);
        w->idle--;
        w->waking = false;
    }
    if (!ctx)
        return NULL;
    nq_attempt_begin(thread, ctx);
    if (!ctx->handler || !ctx->handler->many)
        nq_ready_wake(w);
    return ctx;
}

NQ_PRIVATE void *nq_handler_main(void *arg)
{
    struct nq_handler_thread *thread = arg;
    nq_worker *w = thread->worker;
    nq_ctx *ctx;

    pthread_mutex_lock(&w->lock);
    while ((ctx = handlers_take(thread))) {
        nq_outcome out;
        if (ctx->handler && ctx->handler->many) {
            nq_many_run(thread);
            continue;
        }
        w->per_call /= 2;
        pthread_mutex_unlock(&w->lock);
        if (nq_ctx_expired(ctx)) { /* while it waited for us */
            nq_dispatch_expired(ctx, &out);
            atomic_store(&ctx->begun_us, 0);
            pthread_mutex_lock(&w->lock);
            nq_attempt_end(thread, &out);
            nq_attempts_ended(w, 0, 0);
            continue;
        }
        nq_event_started(ctx);
        if (ctx->handler && ctx->handler->isolated) {
            nq_supervise(thread);
            pthread_mutex_lock(&w->lock);
            continue;
        }
        int64_t start = nq_mono_us();
        nq_dispatch(ctx, &out);
        int64_t took = nq_mono_us() - start;
        pthread_mutex_lock(&w->lock);
        nq_ctx_close_fd(ctx);
        nq_attempt_end(thread, &out);
        nq_attempts_ended(w, 1, took);
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
            nq_ctx *ctx;
            if (w->threads[i].many.gathers)
                continue; /* their time starts anew when the handler is called */
            for (size_t k = 0; (ctx = nq_thread_attempt(&w->threads[i], k)); k++) {
                if (atomic_load(&ctx->cause) != NQ_CAUSE_NONE)
                    continue;
                if (ctx->deadline_us <= now)
                    nq_ctx_cancel(ctx, NQ_CAUSE_TIMEOUT);
                else if (ctx->deadline_us < until)
                    until = ctx->deadline_us;
            }
        }
        if (w->paced.head) {
            const int64_t paced = nq_paced_watch(w, now);
            until = paced < until ? paced : until;
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
