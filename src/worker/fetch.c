/* SPDX-License-Identifier: MIT */
/* Claims tasks in batches for the free handler threads. */
#include "worker.h"

#define FETCH_GATHER_MAX_US NQ_MS(20) /* a claim waits no longer until more handlers are free */

/*
 * There may be two of them. The first looks at the queues as they say when, hears hints, sees the end of a
 * drain, and gives back what waits too long. The second only claims beside it, while one claim after the
 * other is full: then the queue is long and the claims are what is waited for. When one comes back short it
 * sleeps.
 */
struct fetch {
    nq_worker *worker;
    size_t at;     /* 0: the first, 1: the second */
    nq_ctx *spare; /* made before a claim, so that nothing can fail after it */
    size_t nspare;
    int64_t retry_us; /* after trouble: no claim before */
    bool limited;     /* a queue that may be asked is at its limit */
    int64_t began_us; /* the last claim */
    struct nq_outage outage;
    nq_piggybacks piggybacks;
};

/* One claim that is about to be made. */
struct fetch_claim {
    struct nq_worker_queue *queue;
    size_t limit;
    size_t reserved;  /* limit, before memory was lacking for it */
    unsigned counted; /* as being claimed, of the queue's own limit */
    uint64_t lease;
    nq_id id;              /* try this one first; 0: none */
    nq_settings *settings; /* a reference; NULL: nothing is set */
    uint64_t recorded;     /* outcomes, when it began; and those that it does not know of */
    bool alone;            /* nothing was held when it began */
    bool hinted;           /* there may well be something */
};

static void fetch_poll_now(nq_worker *w, int64_t now)
{
    for (size_t i = 0; i < w->nqueues; i++) {
        w->queues[i].next_us = now;
        w->queues[i].pause_us = NQ_PAUSE_MIN_US;
    }
}

/* With the lock held: nothing is held. What ended here may have follow-ups, which are tasks from now on. */
static void fetch_sweep(nq_worker *w)
{
    if (w->swept != w->taken)
        nq_worker_want(w, NQ_WANTED_PROMOTE);
}

/* With the lock held: is everything done that a drain waits for? The follow-ups of what ended here, and then
 * two empty looks in a row at each queue, with nothing held from before the first of them: the first may have
 * started behind the head of the queue. */
static bool fetch_drained(nq_worker *w, int64_t now)
{
    bool quiet = true, drained = true;
    if (w->opts.drain == NQ_DRAIN_NEVER)
        return false;
    bool held = nq_worker_held(w) > 0 || !w->reclaimed;
    if (!held)
        fetch_sweep(w);
    held = held || w->swept != w->taken;
    for (size_t i = 0; i < w->nqueues; i++) {
        struct nq_worker_queue *f = &w->queues[i];
        if (held)
            f->quiet = 0;
        if (f->paused || (f->held_until_us > now && w->opts.drain == NQ_DRAIN_DUE))
            continue; /* what waits there is not run, so it is not waited for */
        quiet = quiet && f->quiet >= 2;
        drained = drained && (w->opts.drain == NQ_DRAIN_DUE ? f->wait_us != 0 : f->wait_us < 0);
    }
    if (!held && !quiet)
        fetch_poll_now(w, now);
    return quiet && drained;
}

/* With the lock held: give back what waits too long for a handler; when to look again. */
static int64_t fetch_release_old(nq_worker *w, int64_t now)
{
    bool any = false;
    while (w->ready.head && w->ready.head->held_us + NQ_HOLD_MAX_US <= now) {
        nq_done_release(w, nq_task_list_pop(&w->ready));
        any = true;
    }
    if (any)
        nq_prefetch_less(w);
    return w->ready.head ? w->ready.head->held_us + NQ_HOLD_MAX_US : INT64_MAX;
}

/* With the lock held: the queue of the task that a hint named, if nothing more urgent was due there at the
 * last look; NULL: look as ever. */
static struct nq_worker_queue *fetch_hinted(nq_worker *w, bool hint, nq_id *id)
{
    *id = hint ? w->hint_id : 0;
    w->hint_id = 0;
    for (size_t i = 0; *id && i < w->nqueues; i++)
        if (w->queues[i].hint == w->hint_queue && w->queues[i].wait_us != 0 && !w->queues[i].paused &&
            w->queues[i].held_until_us <= nq_mono_us() && nq_queue_room(&w->queues[i]) > 0)
            return &w->queues[i];
    *id = 0;
    return NULL;
}

/* With the lock held: this queue is to be claimed from. Until the claim has landed, what it may bring counts
 * as if it were here, so that two of them do not bring too much. */
static void fetch_begin(struct fetch *f, struct fetch_claim *c, struct nq_worker_queue *queue)
{
    nq_worker *w = f->worker;
    c->queue = queue;
    if (c->limit > nq_queue_room(queue))
        c->limit = nq_queue_room(queue);
    c->hinted = queue->hinted;
    queue->hinted = false;
    c->lease = NQ_LEASE(w->member, ++w->seq);
    w->heeding[f->at] = w->settings->hash;
    c->settings = nq_settings_some(w->settings) ? w->settings : NULL;
    if (c->settings)
        nq_settings_ref(c->settings);
    c->recorded = w->recorded;
    c->alone = f->at == 0 && nq_worker_held(w) == 0;
    c->reserved = w->claiming[f->at] = c->limit;
    c->counted = queue->concurrency > 0 ? (unsigned)c->reserved : 0;
    queue->claiming += c->counted;
    if (f->at == 0)
        nq_second_wake(w);
}

/* With the lock held: the claim is over, and brought n tasks. */
static void fetch_landed(struct fetch *f, const struct fetch_claim *c, size_t n)
{
    nq_worker *w = f->worker;
    c->queue->claiming -= c->counted;
    w->claiming[f->at] = 0;
    if (w->heeding[f->at] != w->settings->hash)
        nq_worker_want(w, NQ_WANTED_SETTINGS); /* they are known only now */
    w->full = n < c->limit || n == 0 || c->queue->hands_on ? 0 : w->full + (w->full < NQ_FULL_CLAIMS);
    if (f->at == 0 || n == c->reserved)
        return;
    /* There is room where the first one saw none, or nothing is held any more. */
    pthread_cond_signal(&w->fetch_cond);
    if (w->rejoin && nq_worker_held(w) == 0)
        pthread_cond_signal(&w->duties_cond);
}

/* With the lock held: is the second one to claim, and what? */
static bool fetch_next_second(struct fetch *f, struct fetch_claim *c)
{
    nq_worker *w = f->worker;
    const int64_t now = nq_mono_us();
    int64_t until = INT64_MAX;
    if (w->full < NQ_FULL_CLAIMS || w->drained || !w->member || !w->settings || w->seq >= w->seq_max ||
        w->rejoin || f->retry_us > now)
        return false;
    c->id = 0;
    c->limit = nq_fetch_wanted(w);
    struct nq_worker_queue *const queue = c->limit > 0 ? nq_queue_turn(w, now, &until, &f->limited) : NULL;
    if (queue)
        fetch_begin(f, c, queue);
    return queue;
}

/* With the lock held: what to claim next, if anything; else *until is when to look again. */
static bool fetch_next(struct fetch *f, struct fetch_claim *c, int64_t *until)
{
    nq_worker *w = f->worker;
    int64_t now = nq_mono_us();
    const bool hint = atomic_exchange(&w->hint, false);
    struct nq_worker_queue *const hinted = fetch_hinted(w, hint, &c->id);
    if (hint || w->due_us <= now) {
        w->due_us = INT64_MAX;
        fetch_poll_now(w, now);
    }
    for (size_t i = 0; hint && i < w->nqueues && w->nqueues <= NQ_HINTED_QUEUES; i++)
        w->queues[i].hinted = true;
    *until = fetch_release_old(w, now);
    w->fetcher = NQ_FETCHER_BUSY;
    f->limited = false;
    if (!w->drained && fetch_drained(w, now)) {
        w->drained = true;
        nq_worker_wake(w);
    }
    if (w->drained || !w->member || !w->settings)
        return false;
    if (w->seq >= w->seq_max || w->rejoin) {
        w->rejoin = true;
        pthread_cond_signal(&w->duties_cond);
        return false;
    }
    if (f->retry_us > now) {
        *until = f->retry_us < *until ? f->retry_us : *until;
        return false;
    }
    c->limit = nq_fetch_wanted(w);
    if (c->limit == 0) {
        w->fetcher = NQ_FETCHER_FULL;
        return false;
    }
    if (w->due_us < *until)
        *until = w->due_us;
    struct nq_worker_queue *const queue = hinted ? hinted : nq_queue_turn(w, now, until, &f->limited);
    if (queue)
        fetch_begin(f, c, queue);
    return queue;
}

/* With the lock held. The bell is hung out while the fetcher waits for tasks; not in trouble with the
 * database. */
static void fetch_sleep(struct fetch *f, int64_t until)
{
    nq_worker *w = f->worker;
    const int64_t now = nq_mono_us(), piggyback_until = now + NQ_PIGGYBACK_WAIT_US;
    if (!w->piggybacking || (w->fetcher != NQ_FETCHER_FULL && !f->limited))
        nq_piggyback_end(w);
    if (w->piggybacking && until > piggyback_until) {
        if (!nq_cond_wait_until(&w->fetch_cond, &w->lock, piggyback_until))
            nq_piggyback_end(w);
        return;
    }
    if (w->fetcher != NQ_FETCHER_FULL && !w->drained && w->member && f->outage.pause_us == 0) {
        w->fetcher = NQ_FETCHER_IDLE;
        if (w->nborrowers > 0)
            nq_loans_offer(w);
        if (w->bell_waits)
            pthread_cond_signal(&w->bell_cond);
    }
    /* What comes meanwhile, from the second one or back from a child, may wait too long for a handler. */
    if ((w->fetcher == NQ_FETCHER_FULL || f->limited) && until > now + NQ_HOLD_MAX_US)
        until = now + NQ_HOLD_MAX_US;
    if (until == INT64_MAX)
        pthread_cond_wait(&w->fetch_cond, &w->lock);
    else
        nq_cond_wait_until(&w->fetch_cond, &w->lock, until);
}

/* With the lock held: the second one. Completions that wait for a claim are the first one's to see to. */
static void fetch_sleep_second(nq_worker *w)
{
    if (w->piggybacking)
        pthread_cond_signal(&w->fetch_cond);
    w->second_waits = true;
    pthread_cond_wait(&w->second_cond, &w->lock);
    w->second_waits = false;
}

/* Sleep until there is something to claim; false when there never will be. */
static bool fetch_wait(struct fetch *f, struct fetch_claim *c)
{
    nq_worker *w = f->worker;
    int64_t until = INT64_MAX;
    bool on;
    pthread_mutex_lock(&w->lock);
    while ((on = w->phase == NQ_PHASE_RUN && atomic_load(&w->stops) == 0) &&
           !(f->at == 0 ? fetch_next(f, c, &until) : fetch_next_second(f, c)))
        if (f->at == 0)
            fetch_sleep(f, until);
        else
            fetch_sleep_second(w);
    if (f->at == 0)
        w->fetcher = NQ_FETCHER_BUSY;
    if (on)
        nq_piggybacks_take(w, &f->piggybacks);
    else
        nq_piggyback_end(w);
    pthread_mutex_unlock(&w->lock);
    return on;
}

/* Room for n tasks, or as many as memory allows. */
static size_t fetch_prepare(struct fetch *f, size_t n)
{
    while (f->nspare < n) {
        nq_ctx *ctx = nq_ctx_new(f->worker);
        if (!ctx)
            break;
        ctx->next = f->spare;
        f->spare = ctx;
        f->nspare++;
    }
    return f->nspare < n ? f->nspare : n;
}

/* When to look at this queue again. */
static void fetch_schedule(struct nq_worker_queue *queue, const struct fetch_claim *c, size_t n,
                           int64_t wait_us, int64_t longest_us)
{
    int64_t now = nq_mono_us(), pause;
    queue->wait_us = n < c->limit ? wait_us : 0;
    queue->quiet = n == 0 && c->alone ? queue->quiet + 1 : 0;
    if (n == c->limit || (n > 0 && wait_us == 0)) {
        queue->next_us = now;
        queue->pause_us = NQ_PAUSE_MIN_US;
        return;
    }
    queue->pause_us = n > 0 ? NQ_PAUSE_MIN_US : queue->pause_us * 2;
    if (queue->pause_us > longest_us)
        queue->pause_us = longest_us;
    /* Jitter keeps many workers from asking in step. */
    pause = queue->pause_us - (int64_t)nq_random((uint64_t)queue->pause_us / 4);
    /* A wait of 0 with nothing claimed: others hold those rows just now. */
    if (wait_us > 0 && wait_us < pause)
        pause = wait_us;
    queue->next_us = now + pause;
}

/* A rate lets nothing start before (0: none does). Who else waits for it should not ask at the same moment.
 */
static void fetch_schedule_opening(struct nq_worker_queue *queue, int64_t opens_us, int64_t longest_us)
{
    const int64_t now = nq_mono_us();
    if (opens_us == 0)
        return;
    opens_us += (int64_t)nq_random(NQ_RATE_HORIZON_US / 8);
    queue->next_us = opens_us < now + longest_us ? opens_us : now + longest_us;
    queue->pause_us = NQ_PAUSE_MIN_US;
}

/* What has its outcome already: its payload could not be read, or it expired. */
static bool fetch_ended(nq_ctx *ctx)
{
    nq_outcome out;
    if (ctx->claim->unread != NQ_READ)
        nq_dispatch_unread(ctx, &out);
    else if (nq_ctx_expired(ctx))
        nq_dispatch_expired(ctx, &out);
    else
        return false;
    ctx->out = out;
    return true;
}

/* With the lock held: when to look at the queue again after a claim of n tasks. paused: all of them are. */
static void fetch_look_again(const struct fetch *f, const struct fetch_claim *c, size_t n, bool paused,
                             int64_t wait_us)
{
    const nq_claimer_left *const left = nq_claimer_last(c->queue->claimers[f->at]);
    const nq_worker *w = f->worker;
    const int64_t now = nq_mono_us();
    /* What others end, nobody tells of. */
    c->queue->throttled = n < c->limit && left->throttled;
    c->queue->hands_on = left->counted && (n > 0 || c->queue->throttled) && nq_store_piggybacks(w->store, 1);
    const int64_t longest =
        c->queue->throttled && w->opts.poll_us > NQ_THROTTLED_US ? NQ_THROTTLED_US : w->opts.poll_us;
    /* A claim of nothing but tasks of paused groups is as one that found none, or they would come again at
     * once. */
    fetch_schedule(c->queue, c, paused ? 0 : n, paused ? -1 : wait_us, longest);
    if (n > 0 && c->queue->throttled) /* no more for now, until one of ours has ended */
        c->queue->next_us = now + NQ_PAUSE_MIN_US;
    if (c->queue->throttled && w->recorded != c->recorded) { /* which was while the claim was under way */
        c->queue->throttled = false;
        c->queue->next_us = now;
    }
    if (c->queue->hands_on && w->piggybacks.n > 0)
        c->queue->next_us = now;
    /* Under a limit nothing is claimed ahead. While handlers end sooner than a claim does, one claim for half
     * of them costs less than many, each for the few that have ended meanwhile. A claim that hung says
     * nothing of the next one. */
    const int64_t took_us = now - f->began_us < FETCH_GATHER_MAX_US ? now - f->began_us : FETCH_GATHER_MAX_US;
    c->queue->gather_us = c->queue->hands_on && n > 0 && w->avg16_us / 16 < took_us ? now + took_us : 0;
    if (n == 0)
        fetch_schedule_opening(c->queue, left->opens_us, longest);
    if (n == 0 && left->again) {
        c->queue->next_us = now;
        c->queue->pause_us = NQ_PAUSE_MIN_US;
    }
}

/* Take in what was claimed; unless it came too late, when it goes straight back. */
static void fetch_hold(struct fetch *f, const struct fetch_claim *c, nq_claimed *list, size_t n,
                       int64_t wait_us)
{
    nq_worker *w = f->worker;
    int64_t now = nq_mono_us();
    nq_task_list got, ended;
    nq_ctx *ctx;
    size_t paused = 0;
    nq_task_list_init(&got);
    nq_task_list_init(&ended);
    atomic_fetch_add(&w->claimed, n);
    while (list) {
        nq_claimed *claim = list;
        ctx = f->spare;
        list = claim->next;
        f->spare = ctx->next;
        f->nspare--;
        nq_ctx_claimed(ctx, claim, now);
        nq_task_list_push(fetch_ended(ctx) ? &ended : &got, ctx);
    }
    pthread_mutex_lock(&w->lock);
    fetch_landed(f, c, n);
    w->taken += n > 0;
    if (n == 0 && nq_worker_held(w) == 0)
        fetch_sweep(w);
    bool run =
        w->phase == NQ_PHASE_RUN && atomic_load(&w->stops) == 0 && w->member == NQ_LEASE_WORKER(c->lease);
    while ((ctx = nq_task_list_pop(&ended)))
        if (run)
            nq_done_push(w, ctx);
        else
            nq_done_release(w, ctx);
    while ((ctx = nq_task_list_pop(&got)))
        if (run && nq_ctx_late(ctx, now))
            nq_done_release(w, ctx);
        else if (run && !nq_task_paused(w, ctx))
            nq_ready_push(w, ctx, c->queue);
        else {
            paused += run;
            nq_done_release(w, ctx);
        }
    nq_ready_wake(w);
    if (n > 0)
        w->wrote_us = now;
    if (n > 0 && w->nborrowers > 0)
        nq_loans_recall(w);
    w->piggybacking = run && n == c->limit && nq_store_piggybacks(w->store, n);
    fetch_look_again(f, c, n, n > 0 && paused == n, wait_us);
    if (!w->piggybacking && !(run && c->queue->hands_on))
        nq_piggyback_end(w);
    pthread_mutex_unlock(&w->lock);
}

static void fetch_claim(struct fetch *f, struct fetch_claim *c)
{
    nq_worker *w = f->worker;
    nq_piggyback piggyback = {.outcomes = f->piggybacks.outs, .n = f->piggybacks.n};
    nq_claimer *const claimer = c->queue->claimers[f->at];
    nq_claimed *list = NULL;
    size_t n = 0;
    int64_t wait_us = -1;
    nq_err err = {0};

    f->began_us = nq_mono_us();
    c->limit = fetch_prepare(f, c->limit);
    if (c->hinted || c->id)
        nq_claimer_hint(claimer, c->id);
    nq_claimer_heed(claimer, c->settings);
    int rc = c->limit ? nq_claimer_claim(claimer, c->lease, c->limit, &piggyback, &list, &n, &wait_us, &err)
                      : nq_err_nomem(&err);
    nq_claimer_heed(claimer, NULL);
    nq_settings_unref(c->settings);
    nq_piggybacks_claimed(w, &f->piggybacks, piggyback.piggybacked);
    c->recorded += piggyback.piggybacked == NQ_PIGGYBACKED ? f->piggybacks.n : 0;
    if (rc != NQ_OK) {
        pthread_mutex_lock(&w->lock);
        fetch_landed(f, c, 0);
        pthread_mutex_unlock(&w->lock);
        f->retry_us = nq_mono_us() + nq_outage_failed(w, &f->outage, "claiming", &err);
        return;
    }
    nq_outage_ended(w, &f->outage, "claiming");
    fetch_hold(f, c, list, n, wait_us);
}

static void fetch_run(struct fetch *f)
{
    atomic_int_least64_t *const claiming_us = &f->worker->claiming_us[f->at];
    struct fetch_claim c;
    while (fetch_wait(f, &c)) {
        atomic_store(claiming_us, nq_mono_us());
        fetch_claim(f, &c);
        atomic_store(claiming_us, 0);
    }
    while (f->spare) {
        nq_ctx *ctx = f->spare;
        f->spare = ctx->next;
        nq_ctx_unref(ctx);
    }
}

NQ_PRIVATE void *nq_fetch_main(void *arg)
{
    struct fetch f = {.worker = arg};
    fetch_run(&f);
    return NULL;
}

NQ_PRIVATE void *nq_fetch_second_main(void *arg)
{
    struct fetch f = {.worker = arg, .at = 1};
    fetch_run(&f);
    return NULL;
}
