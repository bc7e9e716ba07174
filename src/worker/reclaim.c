/* SPDX-License-Identifier: MIT */
/* Reclaiming: a dead worker's running tasks get the outcome of a crash. */
#include "worker.h"

#define RECLAIM_MOST     100        /* orphans at a time */
#define RECLAIM_LOOK_US  NQ_MS(100) /* of a look for them: with very many queues a pass is made in several */
#define RECLAIM_SOON_US  NQ_MS(20)
#define RECLAIM_AGAIN_US NQ_MS(100)

/* Hand one to the completer, or free it; false: no memory. */
static bool reclaim_one(nq_worker *w, const char *victim, nq_claimed *claim)
{
    nq_ctx *ctx = nq_ctx_new(w);
    if (!ctx) {
        free(claim);
        return false;
    }
    nq_ctx_claimed(ctx, claim, nq_mono_us());
    ctx->orphan = true;
    ctx->victim = victim ? strdup(victim) : NULL;
    nq_outcome out;
    nq_dispatch_crash(ctx, &out);
    out.worker = ctx->victim;
    ctx->out = out;

    pthread_mutex_lock(&w->lock);
    bool run = w->phase == NQ_PHASE_RUN;
    if (run) {
        w->orphans++;
        w->taken++;
        for (size_t i = 0; i < w->nqueues; i++)
            w->queues[i].quiet = 0;
        nq_done_push(w, ctx);
    }
    pthread_mutex_unlock(&w->lock);
    if (!run)
        nq_ctx_unref(ctx); /* somebody else finds it */
    return true;
}

/* ---- Strays ---- */

/*
 * Running under a lease of this worker that it does not hold: the database went back in time, by a restore or
 * by a failover that lost the outcome. Nobody would ever take such a task, for its worker lives. So this one
 * joins anew as soon as it holds nothing: under its old id they are orphans. One that is being claimed,
 * recorded or lent looks the same for a moment, so the first that is found has to be so for some beats. No
 * others are asked for in its pass: there may be more than come at a time, and orphans behind them.
 */
static void reclaim_stray(nq_reclaimer *r, const nq_claimed *claim)
{
    if (r->stray.id == 0)
        r->stray = (struct nq_stray){claim->task.id, claim->lease, nq_mono_us()};
}

/* May something of ours hold them? A call that hangs, on a connection that died without a word, or a claim in
 * doubt that has not been given back. And once is enough. */
static bool reclaim_unclear(nq_worker *w)
{
    const int64_t before = nq_mono_us() - nq_beat_every_us(w);
    pthread_mutex_lock(&w->lock);
    bool unclear = w->rejoin || atomic_load(&w->store->doubts);
    for (size_t i = 0; i <= NQ_FETCHERS; i++) {
        const int64_t since = i < NQ_FETCHERS ? atomic_load(&w->claiming_us[i]) : w->batch_us;
        unclear = unclear || (since != 0 && since < before);
    }
    pthread_mutex_unlock(&w->lock);
    return unclear;
}

static void reclaim_judge_strays(nq_worker *w, nq_reclaimer *r)
{
    if (reclaim_unclear(w))
        r->stray = r->before = (struct nq_stray){0};
    const struct nq_stray s = r->stray;
    const bool same = s.id != 0 && s.id == r->before.id && s.lease == r->before.lease;
    const bool lost = same && s.seen_us - r->before.seen_us >= 2 * nq_beat_every_us(w);
    r->before = same ? r->before : s;
    r->stray = (struct nq_stray){0};
    if (!lost)
        return;
    nq_worker_log(
        w, NQ_LOG_WARN,
        "task %lld runs under a lease of this worker that it does not hold, as after a restore, or a "
        "failover that lost its outcome: no claims until nothing is held, then this worker joins anew",
        (long long)s.id);
    pthread_mutex_lock(&w->lock);
    w->rejoin = true;
    pthread_cond_signal(&w->duties_cond);
    pthread_mutex_unlock(&w->lock);
}

/* ---- A pass ---- */

/* Hand those of the next part of the pass to the completer. *all: none was left for want of memory. */
static int reclaim_some(nq_worker *w, const nq_member *m, nq_reclaimer *r, size_t *found, bool *all,
                        nq_err *err)
{
    nq_claimed *list = NULL;
    pthread_mutex_lock(&w->lock);
    r->scan.stray_from = NQ_LEASE(w->member, 0);
    r->scan.stray_before = w->member && r->stray.id == 0 ? nq_worker_oldest(w) : 0;
    pthread_mutex_unlock(&w->lock);
    int rc = nq_store_orphans(w->store, &r->scan, RECLAIM_MOST, &list, found, err);
    *all = true;
    while (list) {
        nq_claimed *claim = list;
        list = claim->next;
        if (claim->lease >= r->scan.stray_from && claim->lease < r->scan.stray_before) {
            reclaim_stray(r, claim);
            free(claim);
            (*found)--;
        } else if (!reclaim_one(w, nq_member_named(m, NQ_LEASE_WORKER(claim->lease)), claim))
            *all = false;
    }
    return rc;
}

/* A pass has ended: how soon the next one begins. A row that somebody holds just now was left out, and is
 * found again. */
static int64_t reclaim_pause(const nq_worker *w, nq_reclaimer *r)
{
    const bool found = r->found;
    const int64_t pause = r->again_us ? r->again_us : RECLAIM_AGAIN_US;
    r->found = false;
    r->again_us = !found ? 0 : pause < w->opts.lease_us ? pause * 2 : pause;
    return found ? pause : w->opts.lease_us;
}

NQ_PRIVATE int nq_reclaim(nq_worker *w, const nq_member *m, nq_reclaimer *r, bool sure, int64_t *next_us,
                          nq_err *err)
{
    size_t n = 0;
    bool all = true;
    pthread_mutex_lock(&w->lock);
    /* Recorded first, by us or by those who outran us, or we would find the same ones again. */
    const bool busy = w->orphans > 0, outrun = w->outrun;
    w->outrun = false;
    pthread_mutex_unlock(&w->lock);
    *next_us = outrun ? RECLAIM_AGAIN_US : RECLAIM_SOON_US;
    if (busy || outrun)
        return NQ_OK;
    r->scan.most_us = RECLAIM_LOOK_US;
    r->late = r->late && r->scan.more;
    const int rc = reclaim_some(w, m, r, &n, &all, err);
    if (rc != NQ_OK)
        return rc;
    const bool whole = !r->scan.more && !r->late;
    r->found = r->found || n > 0;
    if (whole) {
        *next_us = reclaim_pause(w, r);
        reclaim_judge_strays(w, r);
    }
    if (!all)
        *next_us = NQ_SECONDS(1);
    pthread_mutex_lock(&w->lock);
    w->reclaimed = w->reclaimed || (whole && sure);
    pthread_cond_signal(&w->fetch_cond);
    pthread_mutex_unlock(&w->lock);
    return NQ_OK;
}
