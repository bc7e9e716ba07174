/* SPDX-License-Identifier: MIT */
/* Claims tasks in batches for the free handler threads. */
#include "proc.h"

struct fetch {
    nq_proc *proc;
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

/* How many tasks beyond the free handlers are worth holding: what the handlers finish in a moment. None when
 * they are slow, so that tasks stay where another processor can take them, and none at batch 1. */
static size_t fetch_prefetch(const nq_proc *p)
{
    int64_t avg = p->avg16_us / 16 + 1;
    int64_t n = NQ_PREFETCH_WINDOW_US * (int64_t)p->opts.concurrency / avg;
    return n < (int64_t)p->opts.batch ? (size_t)n : p->opts.batch - 1;
}

NQ_PRIVATE size_t nq_fetch_wanted(const nq_proc *p)
{
    size_t busy = atomic_load(&p->running) + p->ahead + p->ready.n, slots = p->opts.concurrency;
    size_t prefetch = fetch_prefetch(p), want;
    if (p->unrecorded - p->along.n >= NQ_UNRECORDED_MAX)
        return 0;
    /* Below half of the prefetch, so that one claim fetches many. */
    if (busy >= slots && (busy - slots >= prefetch || busy - slots > prefetch / 2))
        return 0;
    want = slots + prefetch - busy;
    return want < p->opts.batch ? want : p->opts.batch;
}

NQ_PRIVATE void nq_fetch_wake(void *arg, uint64_t queue, nq_id id)
{
    nq_proc *p = arg;
    if (atomic_exchange(&p->hint, true))
        return; /* the fetcher has not looked since the last one */
    pthread_mutex_lock(&p->lock);
    p->hint_queue = queue;
    p->hint_id = id;
    if (!p->hungry) /* else it looks when a handler ends */
        pthread_cond_signal(&p->fetch_cond);
    pthread_mutex_unlock(&p->lock);
}

static void fetch_look_now(nq_proc *p, int64_t now)
{
    for (size_t i = 0; i < p->nfeeds; i++) {
        p->feeds[i].look_us = now;
        p->feeds[i].pause_us = NQ_PAUSE_MIN_US;
    }
}

/* With the lock held: nothing is held. What ended here may have follow-ups, which are tasks from now on. */
static void fetch_sweep(nq_proc *p)
{
    if (p->sweep || p->swept == p->taken)
        return;
    p->sweep = true;
    pthread_cond_signal(&p->live_cond);
}

/* With the lock held: is everything done that a drain waits for? The follow-ups of what ended here, and then
 * two empty looks in a row at each queue, with nothing held from before the first of them: the first may have
 * started behind the head of the queue. */
static bool fetch_drained(nq_proc *p, int64_t now)
{
    bool quiet = true, drained = true;
    if (p->opts.drain == NQ_DRAIN_NEVER)
        return false;
    bool held = nq_proc_held(p) > 0 || !p->looked;
    if (!held)
        fetch_sweep(p);
    held = held || p->swept != p->taken;
    for (size_t i = 0; i < p->nfeeds; i++) {
        struct nq_feed *f = &p->feeds[i];
        if (held)
            f->quiet = 0;
        quiet = quiet && f->quiet >= 2;
        drained = drained && (p->opts.drain == NQ_DRAIN_DUE ? f->wait_us != 0 : f->wait_us < 0);
    }
    if (!held && !quiet)
        fetch_look_now(p, now);
    return quiet && drained;
}

/* With the lock held: give back what waits too long for a handler; when to look again. */
static int64_t fetch_give_back(nq_proc *p, int64_t now)
{
    bool any = false;
    while (p->ready.head && p->ready.head->held_us + NQ_HOLD_MAX_US <= now) {
        nq_done_release(p, nq_jobs_pop(&p->ready));
        any = true;
    }
    if (any) /* the average was wrong: no prefetch until it is known better */
        p->avg16_us = NQ_PREFETCH_WINDOW_US * 16 * 2 * (int64_t)p->opts.concurrency;
    return p->ready.head ? p->ready.head->held_us + NQ_HOLD_MAX_US : INT64_MAX;
}

/* With the lock held: the next feed in turn that may be looked at, or NULL and when one may. */
static struct nq_feed *fetch_feed(struct fetch *f, int64_t now, int64_t *until)
{
    nq_proc *p = f->proc;
    for (size_t i = 0; i < p->nfeeds; i++) {
        struct nq_feed *feed = &p->feeds[(f->turn + i) % p->nfeeds];
        if (feed->look_us <= now) {
            f->turn = (f->turn + i + 1) % p->nfeeds;
            return feed;
        }
        if (feed->look_us < *until)
            *until = feed->look_us;
    }
    return NULL;
}

/* With the lock held: the feed of the task that a hint named, if nothing more urgent was due there at the
 * last look; NULL: look as ever. */
static struct nq_feed *fetch_told(nq_proc *p, bool hint, nq_id *id)
{
    *id = hint ? p->hint_id : 0;
    p->hint_id = 0;
    for (size_t i = 0; *id && i < p->nfeeds; i++)
        if (p->feeds[i].hint == p->hint_queue && p->feeds[i].wait_us != 0)
            return &p->feeds[i];
    *id = 0;
    return NULL;
}

/* With the lock held: what to claim next, if anything; else *until is when to look again. */
static bool fetch_next(struct fetch *f, struct fetch_claim *c, int64_t *until)
{
    nq_proc *p = f->proc;
    int64_t now = nq_mono_us();
    const bool hint = atomic_exchange(&p->hint, false);
    struct nq_feed *const told = fetch_told(p, hint, &c->id);
    if (hint || p->due_us <= now) {
        p->due_us = INT64_MAX;
        fetch_look_now(p, now);
    }
    for (size_t i = 0; hint && i < p->nfeeds && p->nfeeds <= NQ_HINTED_FEEDS; i++)
        p->feeds[i].hinted = true;
    *until = fetch_give_back(p, now);
    p->hungry = false;
    if (!p->drained && fetch_drained(p, now)) {
        p->drained = true;
        nq_proc_poke(p);
    }
    if (p->drained || !p->member)
        return false;
    if (p->seq >= p->seq_max) {
        p->rejoin = true;
        pthread_cond_signal(&p->live_cond);
        return false;
    }
    if (f->retry_us > now) {
        *until = f->retry_us < *until ? f->retry_us : *until;
        return false;
    }
    c->limit = nq_fetch_wanted(p);
    if (c->limit == 0) {
        p->hungry = true;
        return false;
    }
    if (p->due_us < *until)
        *until = p->due_us;
    c->feed = told ? told : fetch_feed(f, now, until);
    if (!c->feed)
        return false;
    c->hinted = c->feed->hinted;
    c->feed->hinted = false;
    c->lease = NQ_LEASE(p->member, ++p->seq);
    c->alone = nq_proc_held(p) == 0;
    return true;
}

/* With the lock held. The bell is hung out while the fetcher waits for tasks; not in trouble with the
 * database. */
static void fetch_sleep(struct fetch *f, int64_t until)
{
    nq_proc *p = f->proc;
    const int64_t carry_until = nq_mono_us() + NQ_CARRY_WAIT_US;
    if (!p->hungry)
        nq_carry_end(p);
    if (p->carrying && until > carry_until) {
        if (!nq_cond_wait_until(&p->fetch_cond, &p->lock, carry_until))
            nq_carry_end(p);
        return;
    }
    p->asleep = !p->hungry && !p->drained && p->member && f->away.pause_us == 0;
    if (p->asleep && p->bell_waits)
        pthread_cond_signal(&p->bell_cond);
    if (until == INT64_MAX)
        pthread_cond_wait(&p->fetch_cond, &p->lock);
    else
        nq_cond_wait_until(&p->fetch_cond, &p->lock, until);
    p->asleep = false;
}

/* Sleep until there is something to claim; false when there never will be. */
static bool fetch_wait(struct fetch *f, struct fetch_claim *c)
{
    nq_proc *p = f->proc;
    int64_t until;
    bool on;
    pthread_mutex_lock(&p->lock);
    while ((on = p->phase == NQ_PHASE_RUN && atomic_load(&p->stops) == 0) && !fetch_next(f, c, &until))
        fetch_sleep(f, until);
    p->hungry = false;
    if (on)
        nq_along_take(p, &f->along);
    else
        nq_carry_end(p);
    pthread_mutex_unlock(&p->lock);
    return on;
}

/* Room for n tasks, or as many as memory allows. */
static size_t fetch_prepare(struct fetch *f, size_t n)
{
    while (f->nspare < n) {
        nq_ctx *ctx = nq_ctx_new(f->proc);
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
    /* Jitter keeps many processors from asking in step. */
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
    nq_proc *p = f->proc;
    int64_t now = nq_mono_us();
    nq_jobs got;
    nq_ctx *ctx;
    nq_jobs_init(&got);
    atomic_fetch_add(&p->claimed, n);
    while (list) {
        nq_claimed *claim = list;
        ctx = f->spare;
        list = claim->next;
        f->spare = ctx->next;
        f->nspare--;
        nq_ctx_hold(ctx, claim, now);
        nq_jobs_push(&got, ctx);
    }
    pthread_mutex_lock(&p->lock);
    p->taken += n > 0;
    if (n == 0 && nq_proc_held(p) == 0)
        fetch_sweep(p);
    bool run =
        p->phase == NQ_PHASE_RUN && atomic_load(&p->stops) == 0 && p->member == NQ_LEASE_PROCESSOR(c->lease);
    while ((ctx = nq_jobs_pop(&got))) {
        if (run)
            nq_jobs_push(&p->ready, ctx);
        else
            nq_done_release(p, ctx);
    }
    nq_ready_rouse(p);
    if (n > 0)
        p->wrote_us = now;
    p->carrying = run && n == c->limit && nq_store_carries(p->store, n);
    if (!p->carrying)
        nq_carry_end(p);
    fetch_schedule(c->feed, c, n, wait_us, p->opts.poll_us);
    pthread_mutex_unlock(&p->lock);
}

static void fetch_claim(struct fetch *f, struct fetch_claim *c)
{
    nq_proc *p = f->proc;
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
    nq_along_settle(p, &f->along, carry.carried);
    if (rc != NQ_OK) {
        f->retry_us = nq_mono_us() + nq_away_failed(p, &f->away, "claiming", &err);
        return;
    }
    nq_away_ended(p, &f->away, "claiming");
    fetch_deliver(f, c, list, n, wait_us);
}

NQ_PRIVATE void *nq_fetch_main(void *arg)
{
    struct fetch f = {.proc = arg};
    struct fetch_claim c;
    while (fetch_wait(&f, &c)) {
        atomic_store(&f.proc->claiming_us, nq_mono_us());
        fetch_claim(&f, &c);
        atomic_store(&f.proc->claiming_us, 0);
    }
    while (f.spare) {
        nq_ctx *ctx = f.spare;
        f.spare = ctx->next;
        nq_ctx_unref(ctx);
    }
    return NULL;
}
