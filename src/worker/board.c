/* SPDX-License-Identifier: MIT */
/* What happens under the worker's lock: lists, threads, waking. The ground that its threads stand on. */
#include "worker.h"

/* ---- Lists of tasks ---- */

NQ_PRIVATE void nq_task_list_init(nq_task_list *l)
{
    l->head = NULL;
    l->tail = &l->head;
    l->n = 0;
    l->bytes = 0;
}

NQ_PRIVATE void nq_task_list_push(nq_task_list *l, nq_ctx *ctx)
{
    ctx->next = NULL;
    *l->tail = ctx;
    l->tail = &ctx->next;
    l->n++;
    l->bytes += ctx->claim->bytes;
}

NQ_PRIVATE nq_ctx *nq_task_list_pop(nq_task_list *l)
{
    nq_ctx *ctx = l->head;
    if (!ctx)
        return NULL;
    l->head = ctx->next;
    if (!l->head)
        l->tail = &l->head;
    l->n--;
    l->bytes -= ctx->claim->bytes;
    ctx->next = NULL;
    return ctx;
}

NQ_PRIVATE void nq_task_list_push_front(nq_task_list *l, nq_ctx *ctx)
{
    ctx->next = l->head;
    l->head = ctx;
    if (l->n++ == 0)
        l->tail = &ctx->next;
    l->bytes += ctx->claim->bytes;
}

/* ---- Ended attempts, on their way to be recorded ---- */

NQ_PRIVATE void nq_piggyback_end(nq_worker *w)
{
    nq_ctx *ctx;
    w->piggybacking = false;
    while ((ctx = nq_task_list_pop(&w->piggybacks)))
        nq_task_list_push(&w->ended, ctx);
    if (w->ended.head && w->completer_idle)
        pthread_cond_signal(&w->done_cond);
}

NQ_PRIVATE void nq_piggybacks_take(nq_worker *w, nq_piggybacks *a)
{
    a->n = 0;
    while (a->n < NQ_FINISH_MAX && w->piggybacks.head) {
        nq_ctx *ctx = nq_task_list_pop(&w->piggybacks);
        ctx->out.queue = ctx->claim->task.queue;
        a->outs[a->n] = &ctx->out;
        a->ctx[a->n++] = ctx;
    }
}

/* It needs no thread any more: there is room in its queue's limit. True where there is enough for a claim. */
static bool board_make_room(nq_worker *w, struct nq_worker_queue *queue)
{
    const size_t least = nq_queue_least(queue, queue->gather_us ? nq_mono_us() : 0);
    queue->in_hand--;
    if (nq_queue_room(queue) == least &&
        w->fetcher != NQ_FETCHER_FULL) /* else the fetcher looks when a thread is free */
        pthread_cond_signal(&w->fetch_cond);
    return nq_queue_room(queue) >= least;
}

NQ_PRIVATE void nq_done_push(nq_worker *w, nq_ctx *ctx)
{
    struct nq_worker_queue *const limited = ctx->limited;
    const bool plain = ctx->out.kind == NQ_OUT_DONE && !ctx->out.keep && !ctx->orphan;
    w->unrecorded++;
    ctx->limited = NULL;
    const bool room = limited && board_make_room(w, limited);
    if (plain && limited && limited->hands_on && w->phase == NQ_PHASE_RUN) {
        nq_task_list_push(&w->piggybacks, ctx);
        limited->next_us = 0;                      /* the next claim, which has its place, is now */
        if (room && w->fetcher != NQ_FETCHER_FULL) /* else it is woken when the thread is free */
            pthread_cond_signal(&w->fetch_cond);
        return;
    }
    if (w->piggybacking && plain) {
        nq_task_list_push(&w->piggybacks, ctx);
        return;
    }
    nq_task_list_push(&w->ended, ctx);
    if (w->completer_idle)
        pthread_cond_signal(&w->done_cond);
}

NQ_PRIVATE void nq_done_release(nq_worker *w, nq_ctx *ctx)
{
    ctx->out.kind = NQ_OUT_RELEASE;
    nq_done_push(w, ctx);
}

/* ---- Calls of handlers of several tasks: many.c ---- */

static bool board_same_group(const nq_task *a, const nq_task *b)
{
    return strcmp(a->queue, b->queue) == 0 && strcmp(a->group ? a->group : "", b->group ? b->group : "") == 0;
}

NQ_PRIVATE bool nq_call_fits(const struct nq_handler_thread *thread, const nq_ctx *ctx)
{
    const struct nq_handler_entry *h = thread->ctx->handler;
    return ctx->handler == h && thread->many.n < h->most && !nq_ctx_late(ctx, nq_mono_us()) &&
           (!h->by_group || board_same_group(&thread->ctx->claim->task, &ctx->claim->task));
}

NQ_PRIVATE void nq_call_join(struct nq_handler_thread *thread, nq_ctx *ctx)
{
    nq_worker *w = thread->worker;
    thread->many.ctx[thread->many.n++] = ctx;
    w->joined++;
    atomic_fetch_add(&w->running, 1);
    nq_attempt_begun(w, ctx);
}

/* Take it into a call that waits for more. False: none takes it. */
static bool board_offer(nq_worker *w, nq_ctx *ctx)
{
    for (unsigned i = 0; i < w->opts.concurrency; i++) {
        struct nq_handler_thread *thread = &w->threads[i];
        if (!thread->many.gathers || !nq_call_fits(thread, ctx))
            continue;
        nq_call_join(thread, ctx);
        w->gathering--;
        if (thread->many.n == thread->ctx->handler->most)
            pthread_cond_broadcast(&w->many_cond);
        return true;
    }
    return false;
}

/* ---- Ready tasks ---- */

NQ_PRIVATE void nq_ready_wake(nq_worker *w)
{
    if (w->idle == 0 || w->waking || !(w->ready.head || nq_paced_due(w)))
        return;
    w->waking = true;
    pthread_cond_signal(&w->ready_cond);
}

/* In order of their times. */
static void board_paced_push(nq_worker *w, nq_ctx *ctx)
{
    nq_ctx **at = &w->paced.head;
    while (*at && (*at)->claim->start_us <= ctx->claim->start_us)
        at = &(*at)->next;
    ctx->next = *at;
    *at = ctx;
    if (!ctx->next)
        w->paced.tail = &ctx->next;
    w->paced.n++;
    w->paced.bytes += ctx->claim->bytes;
    if (ctx->claim->start_us < w->watch_until)
        pthread_cond_signal(&w->watch_cond);
}

NQ_PRIVATE void nq_ready_push(nq_worker *w, nq_ctx *ctx, struct nq_worker_queue *queue)
{
    if (queue->concurrency > 0) {
        ctx->limited = queue;
        queue->in_hand++;
    }
    if (ctx->claim->start_us)
        board_paced_push(w, ctx);
    else if (w->gatherers == 0 || !board_offer(w, ctx))
        nq_task_list_push(&w->ready, ctx);
}

NQ_PRIVATE nq_ctx *nq_ready_take(nq_worker *w)
{
    nq_ctx *ctx;
    do
        ctx = nq_task_list_pop(nq_paced_due(w) ? &w->paced : &w->ready);
    while (ctx && nq_ctx_late(ctx, nq_mono_us()) && (nq_done_release(w, ctx), true));
    return ctx;
}

NQ_PRIVATE void nq_ready_release(nq_worker *w)
{
    nq_ctx *ctx;
    while ((ctx = nq_task_list_pop(&w->ready)) || (ctx = nq_task_list_pop(&w->paced)))
        nq_done_release(w, ctx);
}

/* ---- How much is held, and how much to claim ---- */

/* Sent to a child, and not begun as far as is known. */
static size_t board_pipelined(const nq_worker *w)
{
    size_t n = 0;
    for (unsigned i = 0; w->zygote && i < w->opts.concurrency; i++)
        n += w->threads[i].pipelined.n;
    return n;
}

NQ_PRIVATE size_t nq_worker_busy(const nq_worker *w)
{
    return atomic_load(&w->running) + board_pipelined(w) + atomic_load(&w->lent);
}

NQ_PRIVATE size_t nq_worker_held(const nq_worker *w)
{
    return w->ready.n + w->paced.n + nq_worker_busy(w) + w->unrecorded + w->claiming[1];
}

static uint64_t board_oldest(const nq_ctx *ctx, uint64_t least)
{
    for (; ctx; ctx = ctx->next)
        if (!ctx->orphan && ctx->claim->lease < least)
            least = ctx->claim->lease;
    return least;
}

NQ_PRIVATE uint64_t nq_worker_oldest(const nq_worker *w)
{
    uint64_t least = NQ_LEASE(w->member, w->seq + 1);
    const nq_ctx *ctx;
    const nq_task_list *const lists[] = {&w->ready, &w->paced, &w->ended, &w->piggybacks};
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++)
        least = board_oldest(lists[i]->head, least);
    for (unsigned i = 0; i < w->opts.concurrency; i++) {
        for (size_t k = 0; (ctx = nq_thread_attempt(&w->threads[i], k)); k++)
            least = ctx->claim->lease < least ? ctx->claim->lease : least;
        least = board_oldest(w->threads[i].pipelined.head, least);
    }
    return least;
}

/* How many tasks beyond the free handlers are worth holding: what the handlers finish in a moment. None when
 * they are slow, so that tasks stay where another worker can take them, and none at batch 1. At most two
 * batches, so that one is claimed while the other is run; but one where the claim waits for completions,
 * which piggyback on it: it would have few of them so early. */
static size_t board_prefetch(const nq_worker *w)
{
    const int64_t batch = w->opts.batch, avg = w->avg16_us / 16 + 1;
    const int64_t most = nq_store_piggybacks(w->store, w->opts.batch) ? batch - 1 : 2 * (batch - 1);
    const int64_t n = NQ_PREFETCH_WINDOW_US * (int64_t)w->opts.concurrency / avg;
    return (size_t)(n < most ? n : most);
}

/* Tasks that run in one call count as one thread's. */
static size_t board_threads(const nq_worker *w)
{
    return nq_worker_busy(w) - w->joined;
}

/* How many tasks more the next calls take than one each: those for which a thread is free, or will be in a
 * moment (but two batches), and those that wait for more. */
static size_t board_joining(const nq_worker *w, size_t prefetch)
{
    const size_t busy = board_threads(w), threads = w->opts.concurrency;
    const size_t more = w->per_call > 1 ? w->per_call - 1 : 0, batches = 2 * (size_t)w->opts.batch;
    const size_t free_ones = busy < threads ? threads - busy : 0;
    return w->gathering + free_ones * more + (prefetch * more < batches ? prefetch * more : batches);
}

NQ_PRIVATE void nq_prefetch_less(nq_worker *w)
{
    w->per_call = 0;
    w->avg16_us = NQ_PREFETCH_WINDOW_US * 16 * 2 * (int64_t)w->opts.concurrency;
}

NQ_PRIVATE size_t nq_fetch_wanted(const nq_worker *w)
{
    const size_t claiming = w->claiming[0] + w->claiming[1], threads = w->opts.concurrency;
    size_t busy = board_threads(w) + w->ready.n + w->paced.n + w->paused + claiming;
    size_t prefetch = board_prefetch(w), want;
    if (w->per_call > 1 || w->gathering > 0)
        prefetch += board_joining(w, prefetch);
    if (w->unrecorded - w->piggybacks.n >= NQ_UNRECORDED_MAX)
        return 0;
    /* Below half of the prefetch, so that one claim fetches many. */
    if (busy >= threads && (busy - threads >= prefetch || busy - threads > prefetch / 2))
        return 0;
    /* Nor for large payloads, of which a claim brings few. */
    if (busy >= threads && w->ready.bytes + w->paced.bytes > w->opts.claim_bytes / 2)
        return 0;
    want = threads + prefetch - busy;
    return want < w->opts.batch ? want : w->opts.batch;
}

NQ_PRIVATE void nq_fetch_more(nq_worker *w)
{
    if (w->fetcher == NQ_FETCHER_FULL && nq_fetch_wanted(w) > 0)
        pthread_cond_signal(&w->fetch_cond);
}

NQ_PRIVATE void nq_second_wake(nq_worker *w)
{
    if (w->second_waits && w->full >= NQ_FULL_CLAIMS && nq_fetch_wanted(w) > 0)
        pthread_cond_signal(&w->second_cond);
}

NQ_PRIVATE void nq_fetch_wake(void *arg, uint64_t queue, nq_id id)
{
    nq_worker *w = arg;
    if (atomic_exchange(&w->hint, true))
        return; /* the fetcher has not looked since the last one */
    pthread_mutex_lock(&w->lock);
    w->hint_queue = queue;
    w->hint_id = id;
    if (w->fetcher != NQ_FETCHER_FULL) /* else it looks when a handler ends */
        pthread_cond_signal(&w->fetch_cond);
    pthread_mutex_unlock(&w->lock);
}

NQ_PRIVATE void nq_worker_want(nq_worker *w, enum nq_wanted duty)
{
    if (w->wanted & duty)
        return;
    w->wanted |= duty;
    pthread_cond_signal(&w->duties_cond);
}

NQ_PRIVATE void nq_cancels_wake(void *arg)
{
    nq_worker *w = arg;
    pthread_mutex_lock(&w->lock);
    if (nq_worker_held(w) > 0)
        nq_worker_want(w, NQ_WANTED_CANCELS);
    pthread_mutex_unlock(&w->lock);
}

/* ---- Attempts that run ---- */

NQ_PRIVATE int64_t nq_timeout_of(const nq_task *task)
{
    if (task->timeout_us < NQ_SECONDS(1))
        return NQ_SECONDS(1);
    return task->timeout_us < NQ_MAX_DURATION ? task->timeout_us : NQ_MAX_DURATION;
}

NQ_PRIVATE void nq_attempt_begun(nq_worker *w, nq_ctx *ctx)
{
    const int64_t now = nq_mono_us();
    ctx->deadline_us = now + nq_timeout_of(&ctx->claim->task);
    atomic_store(&ctx->begun_us, now);
    if (ctx->deadline_us < w->watch_until)
        pthread_cond_signal(&w->watch_cond);
}

NQ_PRIVATE void nq_attempt_begin(struct nq_handler_thread *thread, nq_ctx *ctx)
{
    thread->ctx = ctx;
    atomic_fetch_add(&thread->worker->running, 1);
    nq_attempt_begun(thread->worker, ctx);
}

NQ_PRIVATE void nq_attempt_end(struct nq_handler_thread *thread, const nq_outcome *out)
{
    nq_ctx *ctx = thread->ctx;
    thread->ctx = NULL;
    atomic_fetch_sub(&thread->worker->running, 1);
    if (!out) {
        atomic_store(&ctx->begun_us, 0);
        return;
    }
    atomic_store(&ctx->ended_us, nq_mono_us());
    if (atomic_load(&ctx->abandoned)) {
        nq_ctx_unref(ctx);
    } else {
        ctx->out = *out;
        nq_done_push(thread->worker, ctx);
    }
}

NQ_PRIVATE void nq_attempts_ended(nq_worker *w, size_t n, int64_t took_us)
{
    for (size_t i = 0; i < n; i++)
        w->avg16_us += took_us / (int64_t)n - w->avg16_us / 16;
    nq_fetch_more(w);
    if (w->fetcher == NQ_FETCHER_BUSY)
        nq_second_wake(w);
    if (w->phase != NQ_PHASE_RUN && atomic_load(&w->running) == 0)
        nq_worker_wake(w);
}

NQ_PRIVATE void nq_cancel_running(nq_worker *w, enum nq_cause cause)
{
    for (unsigned i = 0; i < w->opts.concurrency; i++) {
        nq_ctx *ctx;
        for (size_t k = 0; (ctx = nq_thread_attempt(&w->threads[i], k)); k++)
            nq_ctx_cancel(ctx, cause);
        for (ctx = w->threads[i].pipelined.head; ctx; ctx = ctx->next)
            nq_ctx_cancel(ctx, cause);
    }
}
