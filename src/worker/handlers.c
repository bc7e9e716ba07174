/* SPDX-License-Identifier: MIT */
/* The handler threads and the watch over their deadlines. */
#include "isolate/isolate.h"

NQ_PRIVATE void nq_jobs_init(nq_jobs *l)
{
    l->head = NULL;
    l->tail = &l->head;
    l->n = 0;
}

NQ_PRIVATE void nq_jobs_push(nq_jobs *l, nq_ctx *ctx)
{
    ctx->next = NULL;
    *l->tail = ctx;
    l->tail = &ctx->next;
    l->n++;
}

NQ_PRIVATE nq_ctx *nq_jobs_pop(nq_jobs *l)
{
    nq_ctx *ctx = l->head;
    if (!ctx)
        return NULL;
    l->head = ctx->next;
    if (!l->head)
        l->tail = &l->head;
    l->n--;
    ctx->next = NULL;
    return ctx;
}

NQ_PRIVATE void nq_jobs_unpop(nq_jobs *l, nq_ctx *ctx)
{
    ctx->next = l->head;
    l->head = ctx;
    if (l->n++ == 0)
        l->tail = &ctx->next;
}

NQ_PRIVATE void nq_done_push(nq_worker *w, nq_ctx *ctx)
{
    w->unrecorded++;
    if (w->carrying && ctx->out.kind == NQ_OUT_DONE && !ctx->out.keep && !ctx->orphan) {
        nq_jobs_push(&w->along, ctx);
        return;
    }
    nq_jobs_push(&w->ended, ctx);
    if (w->completer_idle)
        pthread_cond_signal(&w->done_cond);
}

NQ_PRIVATE void nq_done_release(nq_worker *w, nq_ctx *ctx)
{
    ctx->out.kind = NQ_OUT_RELEASE;
    nq_done_push(w, ctx);
}

NQ_PRIVATE void nq_ready_rouse(nq_worker *w)
{
    if (!w->ready.head || w->idle == 0 || w->rousing)
        return;
    w->rousing = true;
    pthread_cond_signal(&w->ready_cond);
}

NQ_PRIVATE void nq_ready_release(nq_worker *w)
{
    nq_ctx *ctx;
    while ((ctx = nq_jobs_pop(&w->ready)))
        nq_done_release(w, ctx);
}

NQ_PRIVATE size_t nq_worker_held(const nq_worker *w)
{
    return w->ready.n + w->ahead + atomic_load(&w->running) + w->unrecorded;
}

NQ_PRIVATE void nq_cancel_running(nq_worker *w, enum nq_cause cause)
{
    for (unsigned i = 0; i < w->opts.concurrency; i++) {
        if (w->slots[i].ctx)
            nq_ctx_cancel(w->slots[i].ctx, cause);
        for (nq_ctx *ctx = w->slots[i].ahead.head; ctx; ctx = ctx->next)
            nq_ctx_cancel(ctx, cause);
    }
}

NQ_PRIVATE void nq_slots_ended(nq_worker *w, size_t n, int64_t took_us)
{
    for (size_t i = 0; i < n; i++)
        w->avg16_us += took_us / (int64_t)n - w->avg16_us / 16;
    if (w->hungry && nq_fetch_wanted(w) > 0)
        pthread_cond_signal(&w->fetch_cond);
    if (w->phase != NQ_PHASE_RUN && atomic_load(&w->running) == 0)
        nq_worker_poke(w);
}

NQ_PRIVATE void nq_slot_end(struct nq_slot *slot, const nq_outcome *out)
{
    nq_ctx *ctx = slot->ctx;
    slot->ctx = NULL;
    atomic_fetch_sub(&slot->worker->running, 1);
    if (!out)
        return;
    if (atomic_load(&ctx->abandoned)) {
        nq_ctx_unref(ctx);
    } else {
        ctx->out = *out;
        nq_done_push(slot->worker, ctx);
    }
}

NQ_PRIVATE int64_t nq_timeout_of(const nq_task *task)
{
    if (task->timeout_us < NQ_SECONDS(1))
        return NQ_SECONDS(1);
    return task->timeout_us < NQ_MAX_DURATION ? task->timeout_us : NQ_MAX_DURATION;
}

NQ_PRIVATE void nq_slot_begin(struct nq_slot *slot, nq_ctx *ctx)
{
    nq_worker *w = slot->worker;
    ctx->deadline_us = nq_mono_us() + nq_timeout_of(&ctx->claim->task);
    slot->ctx = ctx;
    atomic_fetch_add(&w->running, 1);
    if (ctx->deadline_us < w->watch_until)
        pthread_cond_signal(&w->watch_cond);
}

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
