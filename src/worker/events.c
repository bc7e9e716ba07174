/* SPDX-License-Identifier: MIT */
/* Tells the application what became of its tasks: on_event and on_error. */
#include "worker.h"

static int events_kind(const nq_outcome *out)
{
    switch (out->kind) {
    case NQ_OUT_DONE:
    case NQ_OUT_CONFIRM:
        break;
    case NQ_OUT_RETRY:
        return NQ_EVENT_RETRIED;
    case NQ_OUT_SNOOZE:
        return NQ_EVENT_SNOOZED;
    case NQ_OUT_RELEASE:
        return NQ_EVENT_RELEASED;
    case NQ_OUT_DEAD:
        return NQ_EVENT_DEAD;
    case NQ_OUT_CANCELLED:
        return NQ_EVENT_CANCELLED;
    }
    return NQ_EVENT_DONE;
}

static void events_tell(const nq_ctx *ctx, nq_event *e)
{
    const nq_worker_options *o = &ctx->worker->opts;
    e->size = sizeof *e;
    e->task = &ctx->claim->task;
    e->waited_us = ctx->waited_us;
    if (!e->error)
        e->error = "";
    o->on_event(e, o->event_udata);
}

NQ_PRIVATE void nq_event_started(nq_ctx *ctx)
{
    nq_event e = {.kind = NQ_EVENT_STARTED};
    if (!ctx->worker->opts.on_event || ctx->announced)
        return;
    const int64_t waited = nq_us_since(nq_real_us(), ctx->claim->task.run_at_us);
    ctx->waited_us = waited > 0 ? waited : 0;
    ctx->announced = true;
    events_tell(ctx, &e);
}

NQ_PRIVATE void nq_event_ended(nq_ctx *ctx, bool ours)
{
    const nq_worker_options *o = &ctx->worker->opts;
    const nq_outcome *out = &ctx->out;
    const bool failed = out->kind == NQ_OUT_RETRY || out->kind == NQ_OUT_DEAD;
    if (o->on_event && (ours || !ctx->orphan)) {
        nq_event e = {.kind = ours ? events_kind(out) : NQ_EVENT_LEASE_LOST,
                      .cause = (int)nq_ctx_cause(ctx),
                      .error = failed || ours ? out->error : NULL,
                      .crashed = failed && out->crashed};
        const int64_t begun = atomic_load(&ctx->begun_us), ended = atomic_load(&ctx->ended_us);
        if (begun)
            nq_event_started(ctx); /* in a child, one of several that ended together */
        e.ran_us = begun ? (ended ? ended : nq_mono_us()) - begun : 0;
        if (ours && (out->kind == NQ_OUT_RETRY || out->kind == NQ_OUT_SNOOZE))
            e.delay_us = out->delay_us;
        events_tell(ctx, &e);
    }
    if (ours && failed && o->on_error)
        o->on_error(&ctx->claim->task, out->error, out->kind == NQ_OUT_DEAD, o->error_udata);
}
