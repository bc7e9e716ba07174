/* SPDX-License-Identifier: MIT */
/* Which tasks a child has: taking more of them, taking back those that did not begin, handing over those that
 * ended. */
#include "drive.h"

/* So many tasks are given to a child at once as it does in this time, if they are small. */
#define DRIVE_TASKS_WINDOW_US 500
#define DRIVE_TASKS_BYTES     65536

NQ_PRIVATE nq_outcome nq_drive_released(const nq_ctx *ctx)
{
    nq_outcome out;
    memset(&out, 0, sizeof out);
    out.id = ctx->claim->task.id;
    out.lease = ctx->claim->lease;
    out.kind = NQ_OUT_RELEASE;
    return out;
}

NQ_PRIVATE void nq_drive_begin(struct nq_drive *d, nq_ctx *ctx)
{
    if (d->slot->ctx != ctx)
        nq_slot_begin(d->slot, ctx);
    atomic_store(&ctx->fd, d->slot->wake_fd);
    d->since_us = nq_mono_us();
    d->recalled = false;
    d->term_us = d->kill_us = INT64_MAX;
}

NQ_PRIVATE void nq_drive_number(const struct nq_drive *d, nq_ctx *ctx)
{
    nq_page *page = d->child->page;
    ctx->seq = ++d->child->seq;
    atomic_store(&page->begun[ctx->seq % NQ_AHEAD_MAX], nq_page_word(ctx->seq, NQ_BEGUN_NOT));
}

/* How many tasks the child should have. */
static size_t drive_tasks_depth(const nq_worker *w)
{
    const int64_t each = w->avg16_us / 16 + 1, n = DRIVE_TASKS_WINDOW_US / each;
    return n < 1 ? 1 : n > NQ_AHEAD_MAX ? NQ_AHEAD_MAX : (size_t)n;
}

NQ_PRIVATE void nq_drive_fill(struct nq_drive *d)
{
    nq_worker *w = d->worker;
    nq_child *c = d->child;
    struct nq_slot *slot = d->slot;
    const size_t depth = drive_tasks_depth(w), has = slot->ahead.n + (slot->ctx != NULL);
    size_t more = w->ready.n / (w->idle + 1) + 1, bytes = c->out.n - c->out_at;
    if (w->phase != NQ_PHASE_RUN || c->retire || c->fault || c->ended || (slot->ctx && has > depth / 2))
        return;
    if (slot->ctx && nq_ctx_cause(slot->ctx) != NQ_CAUSE_NONE)
        return;
    more = has + more > depth ? depth - has : more;
    for (nq_ctx *ctx; more > 0 && (ctx = w->ready.head); more--) {
        if (!ctx->route || !ctx->route->isolated || ctx->route->kind != c->kind)
            return;
        bytes += nq_frame_task_size(ctx);
        if (slot->ctx &&
            (d->recalled || bytes > DRIVE_TASKS_BYTES || c->seq + 1 - slot->ctx->seq >= NQ_AHEAD_MAX))
            return;
        if (c->begun + slot->ahead.n + (slot->ctx != NULL) >= c->limits->tasks)
            return;
        nq_drive_number(d, nq_jobs_pop(&w->ready));
        if (slot->ctx) {
            nq_jobs_push(&slot->ahead, ctx);
            w->ahead++;
        } else {
            nq_drive_begin(d, ctx);
        }
    }
}

NQ_PRIVATE void nq_drive_back(nq_worker *w, nq_ctx *ctx)
{
    const enum nq_cause cause = nq_ctx_cause(ctx);
    if (cause == NQ_CAUSE_CANCEL) {
        ctx->out.kind = NQ_OUT_CANCELLED;
        nq_done_push(w, ctx);
    } else if (cause == NQ_CAUSE_NONE && w->phase == NQ_PHASE_RUN &&
               w->member == NQ_LEASE_WORKER(ctx->claim->lease)) {
        nq_jobs_unpop(&w->ready, ctx);
        nq_ready_rouse(w);
    } else {
        nq_done_release(w, ctx);
    }
}

NQ_PRIVATE void nq_drive_recall(struct nq_drive *d)
{
    nq_worker *w = d->worker;
    nq_ctx *ctx, *back = NULL;
    nq_jobs stay;
    nq_jobs_init(&stay);
    while ((ctx = nq_jobs_pop(&d->slot->ahead))) {
        if (!nq_page_move(d->child->page, ctx->seq, NQ_BEGUN_NEVER) && !d->child->ended) {
            nq_jobs_push(&stay, ctx);
            continue;
        }
        w->ahead--;
        ctx->next = back;
        back = ctx;
    }
    d->slot->ahead = stay;
    if (!stay.head)
        nq_jobs_init(&d->slot->ahead);
    while ((ctx = back)) { /* the last first, so that the first comes first */
        back = ctx->next;
        nq_drive_back(w, ctx);
    }
    d->recalled = true;
}

NQ_PRIVATE void nq_drive_settle(struct nq_drive *d)
{
    nq_worker *w = d->worker;
    const int64_t took = nq_mono_us() - d->since_us;
    atomic_fetch_add(&w->running, 1); /* between two tasks it does not look as if none ran */
    for (size_t i = 0; i < d->nends; i++) {
        atomic_store(&d->ends[i].ctx->fd, -1);
        nq_slot_end(d->slot, &d->ends[i].out);
        nq_ctx *next = nq_jobs_pop(&d->slot->ahead);
        if (next) {
            w->ahead--;
            nq_drive_begin(d, next);
        }
    }
    atomic_fetch_sub(&w->running, 1);
    nq_slots_ended(w, d->nends, took);
    d->nends = 0;
}
