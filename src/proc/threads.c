/* SPDX-License-Identifier: MIT */
/* The handler threads and the watch over their deadlines. */
#include "child.h"

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

NQ_PRIVATE void nq_done_push(nq_proc *p, nq_ctx *ctx)
{
    p->unrecorded++;
    if (p->carrying && ctx->out.kind == NQ_OUT_DONE && !ctx->out.keep && !ctx->orphan) {
        nq_jobs_push(&p->along, ctx);
        return;
    }
    nq_jobs_push(&p->ended, ctx);
    if (p->completer_idle)
        pthread_cond_signal(&p->done_cond);
}

NQ_PRIVATE void nq_done_release(nq_proc *p, nq_ctx *ctx)
{
    ctx->out.kind = NQ_OUT_RELEASE;
    nq_done_push(p, ctx);
}

NQ_PRIVATE void nq_ready_rouse(nq_proc *p)
{
    if (!p->ready.head || p->idle == 0 || p->rousing)
        return;
    p->rousing = true;
    pthread_cond_signal(&p->ready_cond);
}

NQ_PRIVATE void nq_ready_release(nq_proc *p)
{
    nq_ctx *ctx;
    while ((ctx = nq_jobs_pop(&p->ready)))
        nq_done_release(p, ctx);
}

NQ_PRIVATE size_t nq_proc_held(const nq_proc *p)
{
    return p->ready.n + p->ahead + atomic_load(&p->running) + p->unrecorded;
}

NQ_PRIVATE void nq_cancel_running(nq_proc *p, enum nq_cause cause)
{
    for (unsigned i = 0; i < p->opts.concurrency; i++) {
        if (p->slots[i].ctx)
            nq_ctx_cancel(p->slots[i].ctx, cause);
        for (nq_ctx *ctx = p->slots[i].ahead.head; ctx; ctx = ctx->next)
            nq_ctx_cancel(ctx, cause);
    }
}

NQ_PRIVATE void nq_slots_ended(nq_proc *p, size_t n, int64_t took_us)
{
    for (size_t i = 0; i < n; i++)
        p->avg16_us += took_us / (int64_t)n - p->avg16_us / 16;
    if (p->hungry && nq_fetch_wanted(p) > 0)
        pthread_cond_signal(&p->fetch_cond);
    if (p->phase != NQ_PHASE_RUN && atomic_load(&p->running) == 0)
        nq_proc_poke(p);
}

NQ_PRIVATE void nq_slot_end(struct nq_slot *slot, const nq_outcome *out)
{
    nq_ctx *ctx = slot->ctx;
    slot->ctx = NULL;
    atomic_fetch_sub(&slot->proc->running, 1);
    if (!out)
        return;
    if (atomic_load(&ctx->abandoned)) {
        nq_ctx_unref(ctx);
    } else {
        ctx->out = *out;
        nq_done_push(slot->proc, ctx);
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
    nq_proc *p = slot->proc;
    ctx->deadline_us = nq_mono_us() + nq_timeout_of(&ctx->claim->task);
    slot->ctx = ctx;
    atomic_fetch_add(&p->running, 1);
    if (ctx->deadline_us < p->watch_until)
        pthread_cond_signal(&p->watch_cond);
}

/* With the lock held: the next attempt, or NULL when there will be none. */
static nq_ctx *threads_take(struct nq_slot *slot)
{
    nq_proc *p = slot->proc;
    while (!p->ready.head && p->phase == NQ_PHASE_RUN) {
        p->idle++;
        pthread_cond_wait(&p->ready_cond, &p->lock);
        p->idle--;
        p->rousing = false;
    }
    nq_ctx *ctx = nq_jobs_pop(&p->ready);
    if (!ctx)
        return NULL;
    nq_ready_rouse(p);
    nq_slot_begin(slot, ctx);
    return ctx;
}

NQ_PRIVATE void *nq_handler_main(void *arg)
{
    struct nq_slot *slot = arg;
    nq_proc *p = slot->proc;
    nq_ctx *ctx;

    pthread_mutex_lock(&p->lock);
    while ((ctx = threads_take(slot))) {
        nq_outcome out;
        pthread_mutex_unlock(&p->lock);
        if (ctx->route && ctx->route->isolated) {
            nq_drive(slot);
            pthread_mutex_lock(&p->lock);
            continue;
        }
        int64_t start = nq_mono_us();
        nq_dispatch(ctx, &out);
        int64_t took = nq_mono_us() - start;
        pthread_mutex_lock(&p->lock);
        nq_ctx_close_fd(ctx);
        nq_slot_end(slot, &out);
        nq_slots_ended(p, 1, took);
    }
    pthread_mutex_unlock(&p->lock);
    nq_proc_unref(p);
    return NULL;
}

NQ_PRIVATE void *nq_watch_main(void *arg)
{
    nq_proc *p = arg;
    pthread_mutex_lock(&p->lock);
    while (p->phase < NQ_PHASE_RECORD) {
        int64_t now = nq_mono_us(), until = INT64_MAX;
        for (unsigned i = 0; i < p->opts.concurrency; i++) {
            nq_ctx *ctx = p->slots[i].ctx;
            if (!ctx || atomic_load(&ctx->cause) != NQ_CAUSE_NONE)
                continue;
            if (ctx->deadline_us <= now)
                nq_ctx_cancel(ctx, NQ_CAUSE_TIMEOUT);
            else if (ctx->deadline_us < until)
                until = ctx->deadline_us;
        }
        p->watch_until = until;
        if (until == INT64_MAX)
            pthread_cond_wait(&p->watch_cond, &p->lock);
        else
            nq_cond_wait_until(&p->watch_cond, &p->lock, until);
    }
    pthread_mutex_unlock(&p->lock);
    return NULL;
}
