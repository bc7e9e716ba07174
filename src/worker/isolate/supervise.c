/* SPDX-License-Identifier: MIT */
/* A handler thread that has its tasks run in a child. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "supervise.h"

/* A task that runs so long is no quick one: those behind it go to others. */
#define SUPERVISE_SLOW_US NQ_MS(5)
/* Between tries when there is no child to be had. */
#define SUPERVISE_PAUSE_MIN_US   NQ_MS(200)
#define SUPERVISE_PAUSE_MAX_US   NQ_SECONDS(30)
#define SUPERVISE_PAUSE_BLIND_US NQ_MS(200)
/* A child that ends closes its channel a moment before its end is reported. */
#define SUPERVISE_CLOSED_US NQ_MS(500)
#define SUPERVISE_ROUNDS    16 /* of reading, before something else has its turn */

/* No child was to be had, and another try would end as this one did. A thread that pauses counts as busy, so
 * that its tasks stay in the database for other workers. */
static void supervise_pause(struct nq_handler_thread *thread)
{
    nq_worker *w = thread->worker;
    struct pollfd fd = {thread->wake_fd, POLLIN, 0};
    uint64_t count;
    thread->pause_us = thread->pause_us ? thread->pause_us * 2 : SUPERVISE_PAUSE_MIN_US;
    if (thread->pause_us > SUPERVISE_PAUSE_MAX_US)
        thread->pause_us = SUPERVISE_PAUSE_MAX_US;
    const int64_t until = nq_mono_us() + thread->pause_us;
    pthread_mutex_lock(&w->lock);
    w->paused++;
    while (w->phase == NQ_PHASE_RUN && nq_mono_us() < until) {
        pthread_mutex_unlock(&w->lock);
        int64_t left = until - nq_mono_us();
        if (fd.fd < 0 && left > SUPERVISE_PAUSE_BLIND_US)
            left = SUPERVISE_PAUSE_BLIND_US; /* without one it hears of no stop */
        if (poll(&fd, 1, left > 0 ? (int)(left / 1000) + 1 : 0) == 1 &&
            read(thread->wake_fd, &count, sizeof count) < 0)
            count = 0; /* somebody else's wake was read already */
        pthread_mutex_lock(&w->lock);
    }
    w->paused--;
    nq_attempts_ended(w, 0, 0);
    pthread_mutex_unlock(&w->lock);
}

/* The task is not given to a child: it is released, which costs it no attempt. */
static void supervise_release(struct nq_handler_thread *thread)
{
    nq_worker *w = thread->worker;
    pthread_mutex_lock(&w->lock);
    const nq_outcome out = nq_supervise_released(thread->ctx);
    atomic_store(&thread->ctx->fd, -1);
    nq_attempt_end(thread, &out);
    nq_attempts_ended(w, 0, 0);
    pthread_mutex_unlock(&w->lock);
}

/* It cannot be. */
static void supervise_without(struct nq_handler_thread *thread)
{
    supervise_release(thread);
    supervise_pause(thread);
}

/* ---- Sending ---- */

/* Into the channel's buffer, whole or not at all; false: no memory. */
static bool supervise_write(nq_buf *out, const nq_ctx *ctx)
{
    const size_t before = out->n;
    nq_frame_task(out, ctx);
    if (!out->failed)
        return true;
    out->n = before;
    out->failed = false;
    return false;
}

/* Send those from seq on. What there is no memory for goes back, with all behind it: the child never hears of
 * it. False: the channel is closed. */
static bool supervise_give(struct nq_supervisor *d, uint64_t seq)
{
    nq_buf *out = &d->child->out;
    const bool first = d->thread->ctx->seq < seq || supervise_write(out, d->thread->ctx);
    bool all = first;
    for (const nq_ctx *ctx = d->thread->pipelined.head; all && ctx; ctx = ctx->next)
        all = ctx->seq < seq || supervise_write(out, ctx);
    if (!all) {
        pthread_mutex_lock(&d->worker->lock);
        nq_supervise_recall(d);
        pthread_mutex_unlock(&d->worker->lock);
    }
    if (!first) {
        nq_worker_log(d->worker, NQ_LOG_WARN, "a task is released: no memory to send it to a child process");
        supervise_without(d->thread);
    }
    return nq_child_send(d->child);
}

/* ---- Hearing ---- */

static void supervise_fault(struct nq_supervisor *d, const char *fault)
{
    nq_child *c = d->child;
    if (!c->fault && !c->ended)
        c->fault = fault;
    c->retire = true;
    nq_child_signal(c, SIGKILL);
}

/* Nothing comes from it any more: it ends, or it is made to. */
static void supervise_closed(struct nq_supervisor *d)
{
    nq_child *c = d->child;
    c->retire = true;
    if (c->channel >= 0 && !c->ended)
        d->closed_us = nq_mono_us() + SUPERVISE_CLOSED_US;
    if (c->channel >= 0)
        close(c->channel);
    c->channel = -1;
}

static void supervise_answered(struct nq_supervisor *d, nq_ctx *ctx, const nq_answer *a)
{
    struct nq_supervised *end = &d->ends[d->nends++];
    free(ctx->message);
    ctx->message = a->message_size ? strndup(a->message, a->message_size) : NULL;
    ctx->delay_us = a->delay_us;
    ctx->completed = a->completed;
    end->ctx = ctx;
    const bool room = !ctx->result.failed;
    nq_dispatch_verdict(ctx, room ? a->verdict : nq_fail(ctx, NQ_RETRY, "no memory for its result"),
                        &end->out);
    d->child->begun++;
}

/* The child waits for the answer, so what is behind its task cannot have begun: it comes back first. */
static void supervise_hold(struct nq_supervisor *d, const nq_ctx *ctx, int scope, int64_t us)
{
    nq_err err = {0};
    if (d->child->ended)
        return; /* nobody waits for it, and what it had begun is not to go back as if it had not */
    pthread_mutex_lock(&d->worker->lock);
    nq_supervise_recall(d);
    pthread_mutex_unlock(&d->worker->lock);
    const int rc = nq_attempt_hold(ctx, scope, us, &err);
    if (rc != NQ_OK)
        nq_worker_log(d->worker, NQ_LOG_WARN, "holding a queue: %s", err.message);
    atomic_store(&d->child->page->held, ctx->seq << 8 | (uint64_t)-rc);
}

/* A piece of its result, of no more than is allowed. */
static bool supervise_result(const struct nq_supervisor *d, nq_ctx *ctx, const char *body, size_t n)
{
    ctx->has_result = true;
    nq_buf_add(&ctx->result, body, n);
    return ctx->result.n <= nq_store_max_payload(d->worker->store);
}

/* One frame about ctx, the first that is not answered; false: it breaks the rules. */
static bool supervise_frame(struct nq_supervisor *d, nq_ctx *ctx, const nq_frame *head, const char *body)
{
    nq_answer answer;
    nq_reported reported;
    int64_t us;
    const char *text;
    size_t n;
    int scope, level;
    if (!ctx || head->seq != ctx->seq || !nq_page_began(d->child->page, ctx->seq))
        return false;
    if (nq_frame_read_answer(head, body, &answer)) {
        supervise_answered(d, ctx, &answer);
        return true;
    }
    if (nq_frame_read_hold(head, body, &scope, &us)) {
        supervise_hold(d, ctx, scope, us);
        return true;
    }
    if (nq_frame_is_result(head))
        return supervise_result(d, ctx, body, head->size);
    if (nq_frame_read_log(head, body, &level, &text, &n)) {
        nq_lines_add(ctx, (enum nq_log_level)level, text, n);
        return true;
    }
    if (!nq_frame_read_progress(head, body, &reported))
        return false;
    nq_ctx_set_progress(ctx, reported.done, reported.total, reported.note, reported.note_size);
    return true;
}

static void supervise_hear(struct nq_supervisor *d)
{
    nq_child *c = d->child;
    nq_ctx *ctx = d->thread->ctx;
    for (size_t i = 0; i < d->nends; i++)
        ctx = i == 0 ? d->thread->pipelined.head : ctx->next;
    for (;;) {
        nq_frame head;
        bool more;
        const size_t before = d->nends;
        if (c->fault || c->nin == c->in_at)
            return;
        const char *p = c->in + c->in_at;
        if (!nq_frame_heard(p, c->nin - c->in_at, &head, &more)) {
            supervise_fault(d, "wrote something else than answers to its channel");
            return;
        }
        if (more)
            return;
        if (!supervise_frame(d, ctx, &head, p + sizeof head)) {
            supervise_fault(d, "answered what it was not asked");
            return;
        }
        c->in_at += sizeof head + head.size;
        if (d->nends > before)
            ctx = ctx == d->thread->ctx ? d->thread->pipelined.head : ctx->next;
    }
}

/* Write and read; false: the channel is closed. What a child has answered before it died counts. */
static bool supervise_talk(struct nq_supervisor *d)
{
    nq_child *c = d->child;
    const bool sent = nq_child_send(c);
    bool open = true, full = true;
    for (int i = 0; i < SUPERVISE_ROUNDS && open && full && !c->fault; i++) {
        open = nq_child_receive(c);
        full = c->nin == NQ_HEAR_SIZE;
        supervise_hear(d);
    }
    return sent && open;
}

/* ---- Stopping ---- */

/* Tell the child why it should stop, and see that it does. */
static void supervise_cancel(struct nq_supervisor *d, int64_t now)
{
    const nq_ctx *ctx = d->thread->ctx;
    const enum nq_cause cause = nq_ctx_cause(ctx);
    const uint64_t word = ctx->seq << 8 | (uint64_t)cause, one = 1;
    const int64_t grace = d->worker->opts.cancel_grace_us;
    if (cause != NQ_CAUSE_NONE && d->cause_sent != word) {
        d->cause_sent = word;
        d->child->retire = true;
        atomic_store(&d->child->page->cause, word);
        const bool told = write(d->child->cancel, &one, sizeof one) >= 0; /* it cannot fail */
        nq_ladder_begin(&d->ladder, told ? now + grace / 4 : now, now + grace, NQ_SECONDS(1));
    }
    if (d->closed_us <= now) {
        supervise_fault(d, "closed its channel");
        d->closed_us = INT64_MAX;
    }
    const int number = nq_ladder_step(&d->ladder, now);
    if (number != 0)
        nq_child_signal(d->child, number);
}

/* With the lock held: is one of them not to start any more? */
static bool supervise_is_paused(const struct nq_supervisor *d)
{
    const nq_ctx *ctx = d->thread->pipelined.head;
    while (ctx && !nq_task_paused(d->worker, ctx))
        ctx = ctx->next;
    return ctx;
}

/* With the lock held: is it time to take back what is behind the running task? */
static bool supervise_is_slow(const struct nq_supervisor *d, int64_t now)
{
    const nq_worker *w = d->worker;
    return d->thread->pipelined.n > 0 && !d->recalled &&
           (now - d->since_us >= SUPERVISE_SLOW_US || w->phase != NQ_PHASE_RUN || supervise_is_paused(d) ||
            nq_ctx_cause(d->thread->ctx) != NQ_CAUSE_NONE);
}

static int supervise_timeout(const struct nq_supervisor *d, int64_t now)
{
    int64_t until = nq_ladder_next(&d->ladder);
    until = d->closed_us < until ? d->closed_us : until;
    if (d->thread->pipelined.n > 0 && !d->recalled && d->since_us + SUPERVISE_SLOW_US < until)
        until = d->since_us + SUPERVISE_SLOW_US;
    if (until == INT64_MAX)
        return -1;
    return until <= now ? 0 : (int)((until - now + 999) / 1000);
}

/* Wait until something happens, and hear what it is. */
static void supervise_wait(struct nq_supervisor *d)
{
    nq_child *c = d->child;
    const short wanted = (short)(c->out_at < c->out.n ? POLLIN | POLLOUT : POLLIN);
    struct pollfd fds[4] = {{c->fault ? -1 : c->channel, wanted, 0},
                            {c->errors, POLLIN, 0},
                            {c->report, POLLIN, 0},
                            {d->thread->wake_fd, POLLIN, 0}};
    uint64_t count;
    if (poll(fds, 4, supervise_timeout(d, nq_mono_us())) < 0)
        return;
    if (fds[3].revents && read(d->thread->wake_fd, &count, sizeof count) < 0)
        return;
    if (fds[1].revents || fds[2].revents)
        nq_child_listen(d->worker, c);
    if (fds[0].revents || c->ended) {
        if (!supervise_talk(d))
            supervise_closed(d);
    }
}

/* ---- The end of a child ---- */

/* The attempt that the child took with it. */
static void supervise_victim(struct nq_supervisor *d, nq_outcome *out)
{
    nq_ctx *ctx = d->thread->ctx;
    const enum nq_cause cause = nq_ctx_cause(ctx);
    if (atomic_load(&d->worker->zygote->lost) || d->child->end.kind != NQ_REPORT_ENDED) {
        *out = nq_supervise_released(ctx);
        return;
    }
    if (cause == NQ_CAUSE_NONE || cause == NQ_CAUSE_TIMEOUT)
        nq_child_describe(d->child, ctx);
    if (cause == NQ_CAUSE_NONE)
        nq_dispatch_died(ctx, out);
    else
        nq_dispatch_verdict(ctx, NQ_RETRY, out);
}

static void supervise_died(struct nq_supervisor *d)
{
    nq_worker *w = d->worker;
    nq_outcome out;
    nq_ctx *ctx;
    pthread_mutex_lock(&w->lock);
    nq_supervise_deliver(d);
    nq_supervise_recall(d);
    ctx = d->thread->ctx;
    pthread_mutex_unlock(&w->lock);
    if (!ctx)
        return;
    /* One that died before its first task would do so again, for ever. */
    const bool began = nq_page_began(d->child->page, ctx->seq) || d->child->begun == 0;
    if (began)
        supervise_victim(d, &out);
    pthread_mutex_lock(&w->lock);
    atomic_store(&ctx->fd, -1);
    nq_attempt_end(d->thread, began ? &out : NULL);
    if (!began)
        nq_supervise_return(w, ctx);
    nq_attempts_ended(w, began, nq_mono_us() - d->since_us);
    pthread_mutex_unlock(&w->lock);
}

/* ---- The loop ---- */

static void supervise_run(struct nq_supervisor *d)
{
    nq_worker *w = d->worker;
    for (;;) {
        const uint64_t from = d->child->seq + 1;
        pthread_mutex_lock(&w->lock);
        if (d->nends > 0)
            nq_supervise_deliver(d);
        nq_supervise_fill(d);
        if (d->thread->ctx && supervise_is_slow(d, nq_mono_us()))
            nq_supervise_recall(d);
        const bool more = d->thread->ctx;
        pthread_mutex_unlock(&w->lock);
        if (!more)
            return;
        nq_event_started(d->thread->ctx);
        if (d->child->ended) {
            supervise_died(d);
            return;
        }
        if (!supervise_give(d, from)) {
            (void)supervise_talk(d);
            supervise_closed(d);
        }
        if (!d->thread->ctx)
            continue;
        supervise_cancel(d, nq_mono_us());
        supervise_wait(d);
    }
}

NQ_PRIVATE void nq_supervise(struct nq_handler_thread *thread)
{
    struct nq_supervisor d = {.thread = thread, .worker = thread->worker, .closed_us = INT64_MAX};
    nq_err err = {0};
    int rc = NQ_OK;
    pthread_mutex_lock(&d.worker->lock);
    if (thread->wake_fd < 0 && (thread->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) < 0)
        rc = nq_err_sys(&err, NQ_ESYSTEM, errno, "cannot make an eventfd");
    nq_supervise_begin(&d, thread->ctx);
    pthread_mutex_unlock(&d.worker->lock);
    if (rc == NQ_OK)
        rc = nq_child_get(d.worker, thread->ctx->handler, &d.child, &err);
    if (rc != NQ_OK) {
        supervise_without(thread);
        return;
    }
    thread->pause_us = 0;
    if (nq_ctx_late(thread->ctx, nq_mono_us())) { /* the child took too long to be made */
        supervise_release(thread);
        nq_child_put(d.worker, d.child);
        return;
    }
    nq_supervise_number(&d, thread->ctx);
    if (!supervise_give(&d, thread->ctx->seq))
        supervise_closed(&d);
    supervise_run(&d);
    nq_child_put(d.worker, d.child);
}
