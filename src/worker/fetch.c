/* SPDX-License-Identifier: MIT */
/* Claims tasks in batches for the free handler threads. */
#include "worker.h"

struct fetch {
    nq_worker *worker;
    size_t turn;   /* the feed to look at first */
    nq_ctx *spare; /* made before a claim, so that nothing can fail after it */
    size_t nspare;
    int64_t retry_us; /* after trouble: no claim before */
    struct nq_away away;
    nq_along along;
};

/* One claim that is about to be made. */
struct fetch_claim {
    struct nq_feed *feed;
    size_t limit;
    uint64_t lease;
    nq_id id;    /* try this one first; 0: none */
    bool alone;  /* nothing was held when it began */
    bool hinted; /* there may well be something */
};

static void fetch_look_now(nq_worker *w, int64_t now)
{
    for (size_t i = 0; i < w->nfeeds; i++) {
        w->feeds[i].look_us = now;
        w->feeds[i].pause_us = NQ_PAUSE_MIN_US;
    }
}

/* With the lock held: nothing is held. What ended here may have follow-ups, which are tasks from now on. */
static void fetch_sweep(nq_worker *w)
{
    if (w->sweep || w->swept == w->taken)
        return;
    w->sweep = true;
    pthread_cond_signal(&w->live_cond);
}

/* With the lock held: is everything done that a drain waits for? The follow-ups of what ended here, and then
 * two empty looks in a row at each queue, with nothing held from before the first of them: the first may have
 * started behind the head of the queue. */
static bool fetch_drained(nq_worker *w, int64_t now)
{
    bool quiet = true, drained = true;
    if (w->opts.drain == NQ_DRAIN_NEVER)
        return false;
    bool held = nq_worker_held(w) > 0 || !w->looked;
    if (!held)
        fetch_sweep(w);
    held = held || w->swept != w->taken;
    for (size_t i = 0; i < w->nfeeds; i++) {
        struct nq_feed *f = &w->feeds[i];
        if (held)
            f->quiet = 0;
        quiet = quiet && f->quiet >= 2;
        drained = drained && (w->opts.drain == NQ_DRAIN_DUE ? f->wait_us != 0 : f->wait_us < 0);
    }
    if (!held && !quiet)
        fetch_look_now(w, now);
    return quiet && drained;
}

/* With the lock held: give back what waits too long for a handler; when to look again. */
static int64_t fetch_give_back(nq_worker *w, int64_t now)
{
    bool any = false;
    while (w->ready.head && w->ready.head->held_us + NQ_HOLD_MAX_US <= now) {
        nq_done_release(w, nq_jobs_pop(&w->ready));
        any = true;
    }
    if (any) /* the average was wrong: no prefetch until it is known better */
        w->avg16_us = NQ_PREFETCH_WINDOW_US * 16 * 2 * (int64_t)w->opts.concurrency;
    return w->ready.head ? w->ready.head->held_us + NQ_HOLD_MAX_US : INT64_MAX;
}

/* With the lock held: the next feed in turn that may be looked at, or NULL and when one may. */
static struct nq_feed *fetch_feed(struct fetch *f, int64_t now, int64_t *until)
{
    nq_worker *w = f->worker;
    for (size_t i = 0; i < w->nfeeds; i++) {
        struct nq_feed *feed = &w->feeds[(f->turn + i) % w->nfeeds];
        if (feed->look_us <= now) {
            f->turn = (f->turn + i + 1) % w->nfeeds;
            return feed;
        }
        if (feed->look_us < *until)
            *until = feed->look_us;
    }
    return NULL;
}

/* With the lock held: the feed of the task that a hint named, if nothing more urgent was due there at the
 * last look; NULL: look as ever. */
static struct nq_feed *fetch_told(nq_worker *w, bool hint, nq_id *id)
{
    *id = hint ? w->hint_id : 0;
    w->hint_id = 0;
    for (size_t i = 0; *id && i < w->nfeeds; i++)
        if (w->feeds[i].hint == w->hint_queue && w->feeds[i].wait_us != 0)
            return &w->feeds[i];
    *id = 0;
    return NULL;
}

/* With the lock held: what to claim next, if anything; else *until is when to look again. */
static bool fetch_next(struct fetch *f, struct fetch_claim *c, int64_t *until)
{
    nq_worker *w = f->worker;
    int64_t now = nq_mono_us();
    const bool hint = atomic_exchange(&w->hint, false);
    struct nq_feed *const told = fetch_told(w, hint, &c->id);
    if (hint || w->due_us <= now) {
        w->due_us = INT64_MAX;
        fetch_look_now(w, now);
    }
    for (size_t i = 0; hint && i < w->nfeeds && w->nfeeds <= NQ_HINTED_FEEDS; i++)
        w->feeds[i].hinted = true;
    *until = fetch_give_back(w, now);
    w->hungry = false;
    if (!w->drained && fetch_drained(w, now)) {
        w->drained = true;
        nq_worker_poke(w);
    }
    if (w->drained || !w->member)
        return false;
    if (w->seq >= w->seq_max) {
        w->rejoin = true;
        pthread_cond_signal(&w->live_cond);
        return false;
    }
    if (f->retry_us > now) {
        *until = f->retry_us < *until ? f->retry_us : *until;
        return false;
    }
    c->limit = nq_fetch_wanted(w);
    if (c->limit == 0) {
        w->hungry = true;
        return false;
    }
    if (w->due_us < *until)
        *until = w->due_us;
    c->feed = told ? told : fetch_feed(f, now, until);
    if (!c->feed)
        return false;
    c->hinted = c->feed->hinted;
    c->feed->hinted = false;
    c->lease = NQ_LEASE(w->member, ++w->seq);
    c->alone = nq_worker_held(w) == 0;
    return true;
}

/* With the lock held. The bell is hung out while the fetcher waits for tasks; not in trouble with the
 * database. */
static void fetch_sleep(struct fetch *f, int64_t until)
{
    nq_worker *w = f->worker;
    const int64_t carry_until = nq_mono_us() + NQ_CARRY_WAIT_US;
    if (!w->hungry)
        nq_carry_end(w);
    if (w->carrying && until > carry_until) {
        if (!nq_cond_wait_until(&w->fetch_cond, &w->lock, carry_until))
            nq_carry_end(w);
        return;
    }
    w->asleep = !w->hungry && !w->drained && w->member && f->away.pause_us == 0;
    if (w->asleep && w->bell_waits)
        pthread_cond_signal(&w->bell_cond);
    if (until == INT64_MAX)
        pthread_cond_wait(&w->fetch_cond, &w->lock);
    else
        nq_cond_wait_until(&w->fetch_cond, &w->lock, until);
    w->asleep = false;
}

/* Sleep until there is something to claim; false when there never will be. */
static bool fetch_wait(struct fetch *f, struct fetch_claim *c)
{
    nq_worker *w = f->worker;
    int64_t until;
    bool on;
    pthread_mutex_lock(&w->lock);
    while ((on = w->phase == NQ_PHASE_RUN && atomic_load(&w->stops) == 0) && !fetch_next(f, c, &until))
        fetch_sleep(f, until);
    w->hungry = false;
    if (on)
        nq_along_take(w, &f->along);
    else
        nq_carry_end(w);
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
static void fetch_schedule(struct nq_feed *feed, const struct fetch_claim *c, size_t n, int64_t wait_us,
                           int64_t longest_us)
{
    int64_t now = nq_mono_us(), pause;
    feed->wait_us = n < c->limit ? wait_us : 0;
    feed->quiet = n == 0 && c->alone ? feed->quiet + 1 : 0;
    if (n == c->limit || (n > 0 && wait_us == 0)) {
        feed->look_us = now;
        feed->pause_us = NQ_PAUSE_MIN_US;
        return;
    }
    feed->pause_us = n > 0 ? NQ_PAUSE_MIN_US : feed->pause_us * 2;
    if (feed->pause_us > longest_us)
        feed->pause_us = longest_us;
    /* Jitter keeps many workers from asking in step. */
    pause = feed->pause_us - (int64_t)nq_random((uint64_t)feed->pause_us / 4);
    /* A wait of 0 with nothing claimed: others hold those rows just now. */
    if (wait_us > 0 && wait_us < pause)
        pause = wait_us;
    feed->look_us = now + pause;
}

/* Take in what was claimed; unless it came too late, when it goes straight back. */
static void fetch_deliver(struct fetch *f, const struct fetch_claim *c, nq_claimed *list, size_t n,
                          int64_t wait_us)
{
    nq_worker *w = f->worker;
    int64_t now = nq_mono_us();
    nq_jobs got;
    nq_ctx *ctx;
    nq_jobs_init(&got);
    atomic_fetch_add(&w->claimed, n);
    while (list) {
        nq_claimed *claim = list;
        ctx = f->spare;
        list = claim->next;
        f->spare = ctx->next;
        f->nspare--;
        nq_ctx_hold(ctx, claim, now);
        if (claim->unread != NQ_READ) {
            nq_outcome out;
            nq_dispatch_unread(ctx, &out);
            ctx->out = out;
        }
        nq_jobs_push(&got, ctx);
    }
    pthread_mutex_lock(&w->lock);
    w->taken += n > 0;
    if (n == 0 && nq_worker_held(w) == 0)
        fetch_sweep(w);
    bool run =
        w->phase == NQ_PHASE_RUN && atomic_load(&w->stops) == 0 && w->member == NQ_LEASE_WORKER(c->lease);
    while ((ctx = nq_jobs_pop(&got))) {
        if (run && ctx->claim->unread != NQ_READ)
            nq_done_push(w, ctx);
        else if (run)
            nq_jobs_push(&w->ready, ctx);
        else
            nq_done_release(w, ctx);
    }
    nq_ready_rouse(w);
    if (n > 0)
        w->wrote_us = now;
    w->carrying = run && n == c->limit && nq_store_carries(w->store, n);
    if (!w->carrying)
        nq_carry_end(w);
    fetch_schedule(c->feed, c, n, wait_us, w->opts.poll_us);
    pthread_mutex_unlock(&w->lock);
}

static void fetch_claim(struct fetch *f, struct fetch_claim *c)
{
    nq_worker *w = f->worker;
    nq_carry carry = {.outcomes = f->along.outs, .n = f->along.n};
    nq_claimed *list = NULL;
    size_t n = 0;
    int64_t wait_us = -1;
    nq_err err = {0};

    c->limit = fetch_prepare(f, c->limit);
    if (c->hinted || c->id)
        nq_claimer_hint(c->feed->claimer, c->id);
    int rc = c->limit
                 ? nq_claimer_claim(c->feed->claimer, c->lease, c->limit, &carry, &list, &n, &wait_us, &err)
                 : nq_err_nomem(&err);
    nq_along_settle(w, &f->along, carry.carried);
    if (rc != NQ_OK) {
        f->retry_us = nq_mono_us() + nq_away_failed(w, &f->away, "claiming", &err);
        return;
    }
    nq_away_ended(w, &f->away, "claiming");
    fetch_deliver(f, c, list, n, wait_us);
}

NQ_PRIVATE void *nq_fetch_main(void *arg)
{
    struct fetch f = {.worker = arg};
    struct fetch_claim c;
    while (fetch_wait(&f, &c)) {
        atomic_store(&f.worker->claiming_us, nq_mono_us());
        fetch_claim(&f, &c);
        atomic_store(&f.worker->claiming_us, 0);
    }
    while (f.spare) {
        nq_ctx *ctx = f.spare;
        f.spare = ctx->next;
        nq_ctx_unref(ctx);
    }
    return NULL;
}
