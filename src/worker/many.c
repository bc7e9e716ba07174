/* SPDX-License-Identifier: MIT */
/* Handlers that take several tasks a call. */
#include "worker.h"

/*
 * A thread takes one ready task as ever, then those like it that are ready too, up to the handler's most.
 * With a wait_us it waits for more: what is claimed meanwhile joins it at once (board.c), and the
 * fetcher claims for it. All of them have begun when they join, as far as others see: they can be cancelled,
 * and count as running. Their time starts anew when the handler is called.
 */

NQ_PRIVATE int nq_many_room(nq_worker *w, nq_err *err)
{
    size_t most = 0;
    for (size_t i = 0; i < w->nhandlers; i++)
        most = w->handlers[i].many && w->handlers[i].most > most ? w->handlers[i].most : most;
    for (unsigned i = 0; most > 0 && i < w->opts.concurrency; i++) {
        struct nq_many *m = &w->threads[i].many;
        m->ctx = calloc(most, sizeof *m->ctx);
        m->tasks = calloc(most, sizeof *m->tasks);
        m->verdicts = calloc(most, sizeof *m->verdicts);
        m->outs = calloc(most, sizeof *m->outs);
        if (!m->ctx || !m->tasks || !m->verdicts || !m->outs)
            return nq_err_nomem(err);
    }
    return NQ_OK;
}

NQ_PRIVATE void nq_many_free(nq_worker *w)
{
    for (unsigned i = 0; w->threads && i < w->opts.concurrency; i++) {
        struct nq_many *m = &w->threads[i].many;
        free(m->ctx);
        free(m->tasks);
        free(m->verdicts);
        free(m->outs);
    }
}

/* With the lock held: all that are ready and fit. */
static void many_collect(struct nq_handler_thread *thread)
{
    nq_worker *w = thread->worker;
    nq_task_list all = w->ready;
    if (!all.head)
        return;
    nq_task_list_init(&w->ready);
    for (nq_ctx *ctx = all.head, *next; ctx; ctx = next) {
        next = ctx->next;
        if (nq_call_fits(thread, ctx))
            nq_call_join(thread, ctx);
        else
            nq_task_list_push(&w->ready, ctx);
    }
}

/* With the lock held: wait for more, until the call is full, its time is over or the worker stops. */
static void many_wait(struct nq_handler_thread *thread)
{
    nq_worker *w = thread->worker;
    struct nq_many *m = &thread->many;
    const struct nq_handler_entry *h = thread->ctx->handler;
    const int64_t until = nq_mono_us() + h->wait_us;
    m->gathers = true;
    w->gatherers++;
    w->gathering += h->most - m->n;
    nq_fetch_more(w);
    while (m->n < h->most && w->phase == NQ_PHASE_RUN && nq_mono_us() < until)
        nq_cond_wait_until(&w->many_cond, &w->lock, until);
    w->gathering -= h->most - m->n;
    w->gatherers--;
    m->gathers = false;
}

/* With the lock held: claim for the next calls by what this one found. */
static void many_learn(nq_worker *w, size_t n, size_t most)
{
    w->per_call = 2 * n < most ? 2 * n : most;
    nq_fetch_more(w);
}

/* Those that are too late are left out of the call: they go behind the others. Answers how many are in it. */
static size_t many_sort(struct nq_many *m)
{
    size_t n = 0;
    for (size_t i = 0; i < m->n; i++) {
        nq_ctx *ctx = m->ctx[i];
        if (nq_ctx_expired(ctx))
            continue;
        m->ctx[i] = m->ctx[n];
        m->ctx[n++] = ctx;
    }
    return n;
}

static nq_verdict many_verdict(nq_ctx *ctx, nq_verdict verdict)
{
    if ((int)verdict == -1)
        return nq_fail(ctx, NQ_RETRY, "the handler left it without a verdict");
    return nq_dispatch_checked(ctx, verdict);
}

/* Without the lock. */
static void many_call(const struct nq_handler_entry *h, struct nq_many *m, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        m->tasks[i] = &m->ctx[i]->claim->task;
        m->verdicts[i] = (nq_verdict)-1;
        nq_event_started(m->ctx[i]);
    }
    if (n > 0)
        h->many(m->ctx, m->tasks, n, m->verdicts, h->udata);
}

NQ_PRIVATE void nq_many_run(struct nq_handler_thread *thread)
{
    nq_worker *w = thread->worker;
    struct nq_many *m = &thread->many;
    const struct nq_handler_entry *h = thread->ctx->handler;
    m->ctx[0] = thread->ctx;
    m->n = 1;
    many_collect(thread);
    nq_ready_wake(w);
    if (h->wait_us > 0 && m->n < h->most)
        many_wait(thread);
    many_learn(w, m->n, h->most);
    const size_t n = many_sort(m), all = m->n;
    thread->ctx = m->ctx[0];
    for (size_t i = 0; i < n; i++)
        nq_attempt_begun(w, m->ctx[i]);
    pthread_mutex_unlock(&w->lock);

    const int64_t start = nq_mono_us();
    many_call(h, m, n);
    for (size_t i = 0; i < all; i++) {
        nq_ctx *ctx = m->ctx[i];
        if (i < n)
            nq_dispatch_verdict(ctx, many_verdict(ctx, m->verdicts[i]), &m->outs[i]);
        else
            nq_dispatch_expired(ctx, &m->outs[i]);
    }
    const int64_t took = nq_mono_us() - start;
    pthread_mutex_lock(&w->lock);
    for (size_t i = 0; i < all; i++) {
        thread->ctx = m->ctx[i];
        if (i >= n)
            atomic_store(&thread->ctx->begun_us, 0);
        nq_ctx_close_fd(thread->ctx);
        nq_attempt_end(thread, &m->outs[i]);
    }
    w->joined -= all - 1;
    m->n = 0;
    nq_attempts_ended(w, n > 0, took);
}
