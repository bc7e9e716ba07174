/* SPDX-License-Identifier: MIT */
/* Runs middleware and handler, turns the verdict into an outcome. */
#include "worker.h"

#define DISPATCH_PART_US NQ_SECONDS(1)

nq_verdict nq_next_run(nq_next *next, nq_ctx *ctx, const nq_task *task)
{
    const nq_worker *w = next->worker;
    const struct nq_handler_entry *r = next->handler;
    size_t i = next->depth;
    if (i >= w->nmiddleware + r->nmiddleware)
        return r->fn(ctx, task, r->udata);
    const nq_middleware *middleware =
        i < w->nmiddleware ? &w->middleware[i] : &r->middleware[i - w->nmiddleware];
    nq_next inner = {w, r, i + 1};
    return middleware->fn(ctx, task, &inner, middleware->udata);
}

/* Every failure has a text. */
static void dispatch_default_message(nq_ctx *ctx, nq_verdict verdict)
{
    if (nq_ctx_has_message(ctx))
        return;
    int64_t timeout = ctx->claim->task.timeout_us;
    if (nq_ctx_cause(ctx) == NQ_CAUSE_TIMEOUT && timeout % NQ_SECONDS(1) == 0)
        nq_fail(ctx, verdict, "timed out after %lld s", (long long)(timeout / NQ_SECONDS(1)));
    else if (nq_ctx_cause(ctx) == NQ_CAUSE_TIMEOUT)
        nq_fail(ctx, verdict, "timed out after %lld ms", (long long)(timeout / NQ_MS(1)));
    else
        nq_fail(ctx, verdict, "%s",
                verdict == NQ_DISCARD ? "handler discarded the task" : "handler asked for a retry");
}

/* A failed attempt: again after a while, or dead. */
static void dispatch_failed(nq_ctx *ctx, nq_outcome *out, bool final)
{
    const struct nq_handler_entry *r = ctx->handler;
    const nq_worker_options *o = &ctx->worker->opts;
    const nq_retry_fn policy = r ? r->retry_policy : o->retry_policy;
    void *const udata = r ? r->retry_udata : o->retry_udata;
    const nq_task *task = &ctx->claim->task;
    int64_t delay = ctx->delay_us;

    out->kind = NQ_OUT_DEAD;
    out->error = ctx->message ? ctx->message : "out of memory";
    out->error_size = strlen(out->error);
    if (final || task->attempt > task->max_retries)
        return;
    if (delay < 0)
        delay = policy ? policy(task->attempt, task, udata) : nq_default_retry_delay(task->attempt);
    if (delay < 0)
        return;
    out->kind = NQ_OUT_RETRY;
    out->delay_us = delay > NQ_MAX_DURATION ? NQ_MAX_DURATION : delay;
}

NQ_PRIVATE nq_verdict nq_dispatch_run(nq_ctx *ctx)
{
    const nq_task *task = &ctx->claim->task;
    if (!ctx->handler) {
        char type[NQ_MAX_TYPE + 1];
        nq_printable(type, sizeof type, task->type, strlen(task->type));
        return nq_fail(ctx, NQ_RETRY, "no handler for type '%s'", type);
    }
    nq_next first = {ctx->worker, ctx->handler, 0};
    return nq_dispatch_checked(ctx, nq_next_run(&first, ctx, task));
}

NQ_PRIVATE nq_verdict nq_dispatch_checked(nq_ctx *ctx, nq_verdict verdict)
{
    if ((int)verdict < NQ_DONE || (int)verdict > NQ_SNOOZE)
        return nq_fail(ctx, NQ_RETRY, "handler answered with the unknown verdict %d", (int)verdict);
    return verdict;
}

static nq_outcome dispatch_outcome(const nq_ctx *ctx)
{
    nq_outcome out;
    memset(&out, 0, sizeof out);
    out.id = ctx->claim->task.id;
    out.lease = ctx->claim->lease;
    return out;
}

/* What becomes of the task by the handler's verdict. */
static void dispatch_verdict(nq_ctx *ctx, nq_verdict verdict, nq_outcome *out)
{
    const enum nq_cause cause = nq_ctx_cause(ctx);
    if (cause == NQ_CAUSE_CANCEL && verdict != NQ_DONE) {
        /* It was told to stop: no failure, and only what it says itself is kept. */
        out->kind = NQ_OUT_CANCELLED;
        out->error = nq_ctx_has_message(ctx) ? ctx->message : NULL;
        out->error_size = out->error ? strlen(out->error) : 0;
        return;
    }
    switch (verdict) {
    case NQ_DONE:
        out->kind = NQ_OUT_DONE;
        nq_ctx_keep(ctx, out);
        break;
    case NQ_SNOOZE:
        out->kind = NQ_OUT_SNOOZE;
        out->delay_us = ctx->delay_us >= 0 ? ctx->delay_us : NQ_SECONDS(60);
        break;
    case NQ_RETRY:
        /* What was cut short by us did not fail. */
        if (cause == NQ_CAUSE_SHUTDOWN || cause == NQ_CAUSE_LEASE_LOST) {
            out->kind = NQ_OUT_RELEASE;
            break;
        }
        dispatch_default_message(ctx, verdict);
        dispatch_failed(ctx, out, false);
        break;
    case NQ_DISCARD:
        dispatch_default_message(ctx, verdict);
        dispatch_failed(ctx, out, true);
        break;
    }
}

NQ_PRIVATE void nq_dispatch_verdict(nq_ctx *ctx, nq_verdict verdict, nq_outcome *out)
{
    *out = dispatch_outcome(ctx);
    if (atomic_load(&ctx->abandoned))
        return; /* nobody asks any more; the policy may be gone */
    ctx->verdict = verdict;
    if (ctx->completed)
        out->kind = NQ_OUT_CONFIRM;
    else
        dispatch_verdict(ctx, verdict, out);
}

NQ_PRIVATE void nq_dispatch(nq_ctx *ctx, nq_outcome *out)
{
    nq_dispatch_verdict(ctx, nq_dispatch_run(ctx), out);
}

NQ_PRIVATE void nq_dispatch_uncommitted(nq_ctx *ctx, nq_outcome *out)
{
    nq_verdict verdict = ctx->verdict;
    /* Its effects and its completion are one, and they are not there: to take it for done would lose them. */
    if (verdict == NQ_DONE)
        verdict =
            nq_fail(ctx, NQ_RETRY, "the handler completed the task in a transaction that was not committed");
    *out = dispatch_outcome(ctx);
    dispatch_verdict(ctx, verdict, out);
}

static bool dispatch_crashed_too_often(const nq_ctx *ctx)
{
    const unsigned allowed =
        ctx->handler ? ctx->handler->max_crashes : (unsigned)ctx->worker->opts.max_crashes;
    return ctx->claim->task.crashes >= allowed;
}

NQ_PRIVATE void nq_dispatch_died(nq_ctx *ctx, nq_outcome *out)
{
    *out = dispatch_outcome(ctx);
    if (atomic_load(&ctx->abandoned))
        return;
    out->crashed = true;
    dispatch_failed(ctx, out, dispatch_crashed_too_often(ctx));
}

NQ_PRIVATE void nq_dispatch_unread(nq_ctx *ctx, nq_outcome *out)
{
    const unsigned long long bytes = (unsigned long long)ctx->claim->bytes;
    *out = dispatch_outcome(ctx);
    out->kind = NQ_OUT_RELEASE;
    if (ctx->claim->unread == NQ_TOO_BIG) {
        nq_fail(ctx, NQ_DISCARD, "its payload has %llu bytes, at most %zu are allowed here", bytes,
                ctx->worker->store->max_payload);
        dispatch_failed(ctx, out, true);
    } else if (ctx->claim->unread == NQ_NO_MEMORY) {
        nq_fail(ctx, NQ_RETRY, "no memory for its payload of %llu bytes", bytes);
        nq_dispatch_died(ctx, out);
    }
}

NQ_PRIVATE void nq_dispatch_expired(nq_ctx *ctx, nq_outcome *out)
{
    const char *before = ctx->claim->task.last_error;
    if (before)
        nq_fail(ctx, NQ_DISCARD, "expired; the attempt before: %.2000s", before);
    else
        nq_fail(ctx, NQ_DISCARD, "expired");
    *out = dispatch_outcome(ctx);
    dispatch_failed(ctx, out, true);
    out->expired = true;
}

NQ_PRIVATE void nq_dispatch_crash(nq_ctx *ctx, nq_outcome *out)
{
    unsigned crash = ctx->claim->task.crashes + 1;
    *out = dispatch_outcome(ctx);
    out->crashed = true;
    out->wary = true; /* what is held is found again soon */
    nq_fail(ctx, NQ_RETRY, "worker died (crash %u)", crash);
    /* The first time at once: mostly the worker was killed for reasons of its own. Later with the policy's
     * delay, and up to a second more: so that the innocent ones get apart from a task that kills its worker,
     * also where the policy has the same delay for all. */
    if (crash == 1)
        ctx->delay_us = 0;
    dispatch_failed(ctx, out, dispatch_crashed_too_often(ctx));
    if (crash > 1 && out->kind == NQ_OUT_RETRY && out->delay_us < NQ_MAX_DURATION - DISPATCH_PART_US)
        out->delay_us += (int64_t)nq_random((uint64_t)DISPATCH_PART_US);
}
