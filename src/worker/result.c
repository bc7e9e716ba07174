/* SPDX-License-Identifier: MIT */
/* nq_ctx_result: what a handler leaves for whoever waits for its task. */
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

NQ_PRIVATE void nq_ctx_keep(const nq_ctx *ctx, nq_outcome *out)
{
    const int64_t worker_us = ctx->worker->opts.keep_done_us;
    out->keep_us = ctx->claim->keep_us;
    if (ctx->has_result) {
        out->output = ctx->result.p;
        out->output_size = ctx->result.n;
        if (out->keep_us == 0)
            out->keep_us = worker_us > NQ_RESULT_KEEP ? worker_us : NQ_RESULT_KEEP;
    }
    out->keep = worker_us != 0 || out->keep_us != 0;
}
