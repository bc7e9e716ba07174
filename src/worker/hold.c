/* SPDX-License-Identifier: MIT */
/* nq_ctx_hold: from a handler, nothing of its queue or group starts for a while. */
#include <stdio.h>
#include <unistd.h>

#include "isolate/isolate.h"

NQ_PRIVATE int nq_attempt_hold(const nq_ctx *ctx, int scope, int64_t us, nq_err *err)
{
    const nq_task *task = &ctx->claim->task;
    const char *group = scope == NQ_SCOPE_GROUP ? ctx->claim->group : NULL;
    char name[NQ_MAX_QUEUE + 1];
    if (snprintf(name, sizeof name, "%s%s%s", task->queue, group ? "//" : "", group ? group : "") >
        NQ_MAX_QUEUE)
        return nq_err_set(err, NQ_EINVAL, "the task's queue has a name that none may have");
    const int rc = nq_store_hold(ctx->worker->store, name, task->id, ctx->claim->lease, us, err);
    if (rc != NQ_OK)
        return rc;
    nq_worker_held_by(ctx->worker, name, nq_mono_us() + us);
    nq_wake_settings(ctx->worker->q);
    return NQ_OK;
}

int nq_ctx_hold(nq_ctx *ctx, int scope, int64_t us, nq_err *err)
{
    if (scope != NQ_SCOPE_GROUP && scope != NQ_SCOPE_QUEUE)
        return nq_err_set(err, NQ_EINVAL, "scope is %d; see enum nq_scope", scope);
    if (us < 0 || us > NQ_MAX_DURATION)
        return nq_err_set(err, NQ_EINVAL, "us is %lld; allowed are 0 to ten years", (long long)us);
    if (ctx->page)
        return nq_child_hold(ctx, scope, us, err);
    if (ctx->worker->pid != getpid())
        return nq_err_set(err, NQ_EFORK, "a handler's own child cannot hold its queue");
    return nq_attempt_hold(ctx, scope, us, err);
}
