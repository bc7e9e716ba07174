/* SPDX-License-Identifier: MIT */
/* The context of one attempt: deadline, cancellation, message. */
#include <errno.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "isolate/isolate.h"

NQ_PRIVATE nq_ctx *nq_ctx_new(nq_worker *w)
{
    nq_ctx *ctx = calloc(1, sizeof *ctx);
    if (!ctx)
        return NULL;
    ctx->worker = w;
    ctx->delay_us = -1;
    atomic_init(&ctx->refs, 1);
    atomic_init(&ctx->progress, NULL);
    atomic_init(&ctx->cause, NQ_CAUSE_NONE);
    atomic_init(&ctx->fd, -1);
    atomic_init(&ctx->abandoned, false);
    return ctx;
}

NQ_PRIVATE void nq_ctx_claimed(nq_ctx *ctx, nq_claimed *claim, int64_t now_us)
{
    claim->next = NULL;
    ctx->claim = claim;
    ctx->handler = nq_handler_find(ctx->worker, claim->task.type);
    if (!ctx->handler)
        ctx->handler = nq_handler_find(ctx->worker, NULL);
    ctx->held_us = now_us;
    ctx->out.id = claim->task.id;
    ctx->out.lease = claim->lease;
}

NQ_PRIVATE void nq_ctx_unref(nq_ctx *ctx)
{
    if (!ctx || atomic_fetch_sub(&ctx->refs, 1) > 1)
        return;
    nq_ctx_close_fd(ctx);
    free(atomic_load(&ctx->progress));
    free(ctx->message);
    free(ctx->victim);
    nq_buf_free(&ctx->result);
    free(ctx->claim);
    free(ctx);
}

static void context_signal(int fd)
{
    const uint64_t one = 1;
    ssize_t n = write(fd, &one, sizeof one);
    (void)n; /* it can only fail when the descriptor is readable already */
}

NQ_PRIVATE void nq_ctx_cancel(nq_ctx *ctx, enum nq_cause cause)
{
    enum nq_cause old = nq_ctx_cause(ctx);
    /* The first cause stands, but a lost lease outweighs the others: nothing has an effect any more. */
    if (old != NQ_CAUSE_NONE && (cause != NQ_CAUSE_LEASE_LOST || old == cause))
        return;
    atomic_store(&ctx->cause, (int)cause);
    int fd = atomic_load(&ctx->fd);
    if (fd >= 0)
        context_signal(fd);
}

/* Only by the thread that ran the attempt, once no other can reach the context. */
NQ_PRIVATE void nq_ctx_close_fd(nq_ctx *ctx)
{
    int fd = atomic_exchange(&ctx->fd, -1);
    if (fd >= 0)
        close(fd);
}

NQ_PRIVATE bool nq_ctx_has_message(const nq_ctx *ctx)
{
    return ctx->message && ctx->message[0];
}

enum nq_cause nq_ctx_cause(const nq_ctx *ctx)
{
    if (ctx->page) {
        const uint64_t word = atomic_load(&ctx->page->cause);
        return word >> 8 == ctx->seq ? (enum nq_cause)(word & 0xff) : NQ_CAUSE_NONE;
    }
    return (enum nq_cause)atomic_load(&ctx->cause);
}

int nq_ctx_fd(nq_ctx *ctx)
{
    int fd = atomic_load(&ctx->fd);
    if (fd >= 0)
        return fd;
    int made = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (made < 0)
        return -1;
    if (!atomic_compare_exchange_strong(&ctx->fd, &fd, made)) {
        close(made);
        return fd;
    }
    /* A cancellation stores the cause, then looks for the descriptor; we do it the other way round, so one
     * of the two sees the other. */
    if (atomic_load(&ctx->cause) != NQ_CAUSE_NONE)
        context_signal(made);
    return made;
}

nq *nq_ctx_queue(const nq_ctx *ctx)
{
    /* In a child, of ours or of the handler's own forking, the handle is of no use. */
    return ctx->page || ctx->worker->pid != getpid() ? NULL : ctx->worker->q;
}

int64_t nq_ctx_deadline_us(const nq_ctx *ctx)
{
    return ctx->deadline_us;
}

int64_t nq_ctx_remaining_us(const nq_ctx *ctx)
{
    int64_t left = ctx->deadline_us - nq_mono_us();
    return left > 0 ? left : 0;
}

void nq_ctx_set_delay(nq_ctx *ctx, int64_t delay_us)
{
    if (delay_us < 0)
        delay_us = 0;
    ctx->delay_us = delay_us > NQ_MAX_DURATION ? NQ_MAX_DURATION : delay_us;
}

const char *nq_ctx_message(const nq_ctx *ctx)
{
    return ctx->message ? ctx->message : "";
}

/* Keep the last NQ_MAX_ERROR bytes, from the start of a character. */
static void context_cut(char *text, size_t n)
{
    size_t from = n > NQ_MAX_ERROR ? n - NQ_MAX_ERROR : 0;
    if (from > 0)
        while (from < n && ((unsigned char)text[from] & 0xc0) == 0x80)
            from++;
    memmove(text, text + from, n - from + 1);
}

nq_verdict nq_fail(nq_ctx *ctx, nq_verdict verdict, const char *fmt, ...)
{
    char *text = NULL;
    va_list ap;
    va_start(ap, fmt);
    int n = vasprintf(&text, fmt, ap);
    va_end(ap);
    if (n < 0)
        text = NULL; /* the default text then stands */
    else
        context_cut(text, (size_t)n);
    free(ctx->message); /* only now: it may be among the arguments */
    ctx->message = text;
    return verdict;
}

/* ---- Completion in the handler's own transaction ---- */

int nq_ctx_complete_in(nq_ctx *ctx, nq_tx tx, nq_err *err)
{
    nq_outcome out = {.id = ctx->claim->task.id, .lease = ctx->claim->lease};
    nq_ctx_keep(ctx, &out);
    const int rc = nq_complete_kept(ctx->worker->store, tx, &out, err);
    ctx->completed = ctx->completed || rc == NQ_OK;
    return rc;
}
