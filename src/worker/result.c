/* SPDX-License-Identifier: MIT */
/* nq_ctx_result: what a handler leaves for whoever waits for its task. */
#include <stdio.h>
#include <unistd.h>

#include "isolate/isolate.h"

int nq_ctx_result(nq_ctx *ctx, const void *bytes, size_t n, nq_err *err)
{
    const size_t most = nq_store_max_payload(ctx->worker->store);
    if (!bytes && n > 0)
        return nq_err_set(err, NQ_EINVAL, "bytes is NULL but n is %zu", n);
    if (n > most)
        return nq_err_set(err, NQ_ETOOBIG,
                          "the result is %zu bytes long, at most %zu are allowed (max_payload)", n, most);
    nq_buf copy = {0};
    nq_buf_add(&copy, n > 0 ? bytes : "", n);
    if (copy.failed)
        return nq_err_nomem(err);
    nq_buf_free(&ctx->result);
    ctx->result = copy;
    ctx->has_result = true;
    return NQ_OK;
}

static nq_settings *result_settings(nq_worker *w)
{
    pthread_mutex_lock(&w->lock);
    nq_settings *s = w->settings;
    nq_settings_ref(s);
    pthread_mutex_unlock(&w->lock);
    return s;
}

/* As the settings say, which were read before anything was claimed. */
static int64_t result_kept(const nq_ctx *ctx)
{
    const nq_claimed *claim = ctx->claim;
    char name[2 * NQ_MAX_QUEUE + 4];
    snprintf(name, sizeof name, "%s%s%s", claim->task.queue, claim->group ? "//" : "",
             claim->group ? claim->group : "");
    nq_settings *const settings = result_settings(ctx->worker);
    const int64_t keep = nq_settings_keeps(settings, name, NQ_STATE_DONE, ctx->worker->opts.keep_done_us);
    nq_settings_unref(settings);
    return keep;
}

NQ_PRIVATE int64_t nq_ctx_keep_done(const nq_ctx *ctx)
{
    const nq_worker *w = ctx->worker;
    if (ctx->page)
        return ctx->claim->keep_done_us;
    return atomic_load(&w->keeps) ? result_kept(ctx) : w->opts.keep_done_us;
}

NQ_PRIVATE void nq_ctx_keep(const nq_ctx *ctx, nq_outcome *out)
{
    const int64_t done_us = nq_ctx_keep_done(ctx);
    out->keep_us = ctx->claim->keep_us;
    if (ctx->has_result) {
        out->output = ctx->result.p;
        out->output_size = ctx->result.n;
        if (out->keep_us == 0)
            out->keep_us = done_us > NQ_RESULT_KEEP ? done_us : NQ_RESULT_KEEP;
    }
    out->keep = done_us != 0 || out->keep_us != 0;
}
