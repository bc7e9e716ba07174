/* SPDX-License-Identifier: MIT */
/* Which tasks a child has: taking more of them, taking back those that did not begin, handing over those that
 * ended. */
#include "supervise.h"

/* So many tasks are given to a child at once as it does in this time, if they are small. */
#define SUPERVISE_TASKS_WINDOW_US 500
#define SUPERVISE_TASKS_BYTES     65536

NQ_PRIVATE nq_outcome nq_supervise_released(const nq_ctx *ctx)
{
    nq_outcome out;
    memset(&out, 0, sizeof out);
    out.id = ctx->claim->task.id;
    out.lease = ctx->claim->lease;
    out.kind = NQ_OUT_RELEASE;
    return out;
}

NQ_PRIVATE void nq_supervise_begin(struct nq_supervisor *d, nq_ctx *ctx)
{
    if (d->thread->ctx != ctx)
        nq_attempt_begin(d->thread, ctx);
    atomic_store(&ctx->fd, d->thread->wake_fd);
    d->since_us = nq_mono_us();
    d->recalled = false;
    d->ladder = (nq_ladder){0};
}

NQ_PRIVATE void nq_supervise_number(const struct nq_supervisor *d, nq_ctx *ctx)
{
    nq_page *page = d->child->page;
    ctx->seq = ++d->child->seq;
    atomic_store(&page->begun[ctx->seq % NQ_PIPELINE_MAX], nq_page_word(ctx->seq, NQ_BEGUN_NOT));
}

/* How many tasks the child should have. */
static size_t supervise_tasks_depth(const nq_worker *w)
{
    const int64_t each = w->avg16_us / 16 + 1, n = SUPERVISE_TASKS_WINDOW_US / each;
    return n < 1 ? 1 : n > NQ_PIPELINE_MAX ? NQ_PIPELINE_MAX : (size_t)n;
}

NQ_PRIVATE void nq_supervise_fill(struct nq_supervisor *d)
{
    nq_worker *w = d->worker;
    nq_child *c = d->child;
    struct nq_handler_thread *thread = d->thread;
    const size_t depth = supervise_tasks_depth(w), has = thread->pipelined.n + (thread->ctx ? 1 : 0);
    size_t more = w->ready.n / (w->idle + 1) + 1, bytes = c->out.n - c->out_at;
    if (w->phase != NQ_PHASE_RUN || c->retire || c->fault || c->ended || (thread->ctx && has > depth / 2))
        return;
    if (thread->ctx && nq_ctx_cause(thread->ctx) != NQ_CAUSE_NONE)
        return;
    /* What is to start now needs a thread, and is never one of several that a child has. */
    if (nq_paced_due(w))
        return;
    more = has + more > depth ? depth - has : more;
    for (nq_ctx *ctx; more > 0 && (ctx = w->ready.head); more--) {
        if (!ctx->handler || !ctx->handler->isolated || ctx->handler->kind != c->kind)
            return;
        bytes += nq_frame_task_size(ctx);
        if (thread->ctx && (d->recalled || bytes > SUPERVISE_TASKS_BYTES ||
                            c->seq + 1 - thread->ctx->seq >= NQ_PIPELINE_MAX))
            return;
        if (c->begun + thread->pipelined.n + (thread->ctx ? 1 : 0) >= c->limits->tasks)
            return;
        nq_task_list_pop(&w->ready);
        if (nq_ctx_late(ctx, nq_mono_us())) {
            nq_done_release(w, ctx);
            continue;
        }
        if (nq_ctx_expired(ctx)) {
            nq_outcome out;
            nq_dispatch_expired(ctx, &out);
            ctx->out = out;
            nq_done_push(w, ctx);
            continue;
        }
        nq_supervise_number(d, ctx);
        if (thread->ctx)
            nq_task_list_push(&thread->pipelined, ctx);
        else
            nq_supervise_begin(d, ctx);
    }
}

NQ_PRIVATE void nq_supervise_return(nq_worker *w, nq_ctx *ctx)
{
    const enum nq_cause cause = nq_ctx_cause(ctx);
    if (cause == NQ_CAUSE_CANCEL) {
        ctx->out.kind = NQ_OUT_CANCELLED;
        nq_done_push(w, ctx);
    } else if (cause == NQ_CAUSE_NONE && w->phase == NQ_PHASE_RUN && !nq_ctx_late(ctx, nq_mono_us()) &&
               !nq_task_paused(w, ctx) && w->member == NQ_LEASE_WORKER(ctx->claim->lease)) {
        nq_task_list_push_front(&w->ready, ctx);
        nq_ready_wake(w);
    } else {
        nq_done_release(w, ctx);
    }
}

NQ_PRIVATE void nq_supervise_recall(struct nq_supervisor *d)
{
    nq_worker *w = d->worker;
    nq_ctx *ctx, *back = NULL;
    nq_task_list stay;
    nq_task_list_init(&stay);
    while ((ctx = nq_task_list_pop(&d->thread->pipelined))) {
        if (!nq_page_move(d->child->page, ctx->seq, NQ_BEGUN_NEVER) && !d->child->ended) {
            nq_task_list_push(&stay, ctx);
            continue;
        }
        ctx->next = back;
        back = ctx;
    }
    d->thread->pipelined = stay;
    if (!stay.head)
        nq_task_list_init(&d->thread->pipelined);
    while ((ctx = back)) { /* the last first, so that the first comes first */
        back = ctx->next;
        nq_supervise_return(w, ctx);
    }
    d->recalled = true;
}

NQ_PRIVATE void nq_supervise_deliver(struct nq_supervisor *d)
{
    nq_worker *w = d->worker;
    const int64_t took = nq_mono_us() - d->since_us;
    atomic_fetch_add(&w->running, 1); /* between two tasks it does not look as if none ran */
    for (size_t i = 0; i < d->nends; i++) {
        atomic_store(&d->ends[i].ctx->fd, -1);
        nq_attempt_end(d->thread, &d->ends[i].out);
        nq_ctx *next = nq_task_list_pop(&d->thread->pipelined);
        if (next)
            nq_supervise_begin(d, next);
    }
    atomic_fetch_sub(&w->running, 1);
    nq_attempts_ended(w, d->nends, took);
    d->nends = 0;
}
