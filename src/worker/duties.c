/* SPDX-License-Identifier: MIT */
/* The liveness thread: keeps the membership, and does each duty when it is due. */
#include <stdio.h>
#include <unistd.h>

#include "worker.h"

#define LIVENESS_ORPHANS  100 /* reclaimed at a time */
#define LIVENESS_PURGE    500 /* finished tasks deleted at a time */
#define LIVENESS_AGAIN_US NQ_MS(100)
#define LIVENESS_DOUBT_US NQ_SECONDS(3)
#define LIVENESS_PROMOTE  500 /* follow-ups looked at at a time */
#define LIVENESS_LOOK_US                                                                                     \
    NQ_MS(5) /* least time between two looks for requests to cancel: hints are anybody's */
#define LIVENESS_TELL_US NQ_SECONDS(1) /* and between two writings of progress */

/* So long a drain waits for follow-ups that another promoter has locked: it may be stopped. */
#define LIVENESS_OTHERS_US NQ_SECONDS(5)

/* When each duty is due next; all of them at once after joining. */
struct liveness {
    nq_worker *worker;
    nq_member *member;
    struct nq_outage outage;
    int64_t joined_us; /* when we did */
    int64_t join_us, beat_us, cancels_us, watch_us, orphans_us, promote_us, progress_us, purge_us;
    int64_t looked_us;   /* for requests to cancel, last */
    nq_reports *reports; /* NULL: no memory for them yet */
    int64_t again_us;    /* how soon to look for orphans again after some were found */
    bool sweep;          /* asked for, not done yet */
    int64_t others_us;   /* others have been at some follow-ups since then; 0: they are not */
};

static void liveness_name(char *name, size_t size)
{
    char host[256];
    if (gethostname(host, sizeof host) != 0)
        snprintf(host, sizeof host, "localhost");
    host[sizeof host - 1] = '\0';
    snprintf(name, size, "%.200s:%ld", host, (long)getpid());
}

/* Tell the other threads who we are now; 0: nobody. */
static void liveness_announce(nq_worker *w, uint64_t id)
{
    pthread_mutex_lock(&w->lock);
    w->member = id;
    if (id) {
        w->seq = 0;
        w->rejoin = false;
    }
    pthread_cond_signal(&w->fetch_cond);
    pthread_mutex_unlock(&w->lock);
}

static int64_t liveness_every(const nq_worker *w)
{
    int64_t every = w->opts.lease_us / 3;
    return every < NQ_SECONDS(5) ? every : NQ_SECONDS(5);
}

static void liveness_join(struct liveness *l)
{
    nq_worker *w = l->worker;
    nq_err err = {0};
    char name[240];
    liveness_name(name, sizeof name);
    if (nq_member_join(&l->member, w->store, name, &err) != NQ_OK) {
        l->join_us = nq_mono_us() + nq_outage_failed(w, &l->outage, "joining", &err);
        return;
    }
    nq_outage_ended(w, &l->outage, "joining");
    int64_t now = l->joined_us = nq_mono_us();
    l->beat_us = now + liveness_every(w);
    l->watch_us = l->orphans_us = l->promote_us = l->progress_us = now;
    l->cancels_us = INT64_MAX;
    liveness_announce(w, nq_member_id(l->member));
}

/* Others take our tasks for a dead worker's: what runs is told so, what is recorded from now on has an
 * effect only where nobody was faster. */
static void liveness_lost(struct liveness *l)
{
    nq_worker *w = l->worker;
    nq_worker_log(w, NQ_LOG_ERROR, "this worker was declared dead; its running tasks are cancelled");
    pthread_mutex_lock(&w->lock);
    w->member = 0;
    nq_cancel_running(w, NQ_CAUSE_LEASE_LOST);
    nq_ready_release(w);
    pthread_mutex_unlock(&w->lock);
    nq_member_free(l->member);
    l->member = NULL;
    l->join_us = nq_mono_us();
}

/* After each call about the membership: false when it ended the turn. */
static bool liveness_went(struct liveness *l, int rc, const char *what, const nq_err *err, int64_t *again_us)
{
    if (rc == NQ_OK) {
        nq_outage_ended(l->worker, &l->outage, what);
        return true;
    }
    if (rc == NQ_ELEASE) {
        liveness_lost(l);
        return false;
    }
    *again_us = nq_mono_us() + nq_outage_failed(l->worker, &l->outage, what, err);
    return false;
}

/* A drain waits for the verdict over workers that may have just died, but not for ever: one without its
 * lock that goes on beating stays a suspect. */
static bool liveness_doubts(const struct liveness *l)
{
    return nq_member_suspects(l->member) > 0 && nq_mono_us() - l->joined_us < LIVENESS_DOUBT_US;
}

static void liveness_orphans(struct liveness *l)
{
    nq_worker *w = l->worker;
    nq_err err = {0};
    size_t n = 0;
    bool all = true;

    pthread_mutex_lock(&w->lock);
    bool busy = w->orphans > 0; /* recorded first, or we would find the same ones again */
    pthread_mutex_unlock(&w->lock);
    l->orphans_us = nq_mono_us() + NQ_MS(20);
    if (busy)
        return;
    int rc = nq_reclaim(w, LIVENESS_ORPHANS, &n, &all, &err);
    if (!liveness_went(l, rc, "looking for tasks of dead workers", &err, &l->orphans_us))
        return;
    if (n < LIVENESS_ORPHANS) /* a row that somebody holds just now is left out, and found again */
        l->orphans_us = nq_mono_us() + (n > 0 ? l->again_us : w->opts.lease_us);
    if (n == 0)
        l->again_us = LIVENESS_AGAIN_US;
    else if (l->again_us < w->opts.lease_us)
        l->again_us *= 2;
    if (!all)
        l->orphans_us = nq_mono_us() + NQ_SECONDS(1);
    pthread_mutex_lock(&w->lock);
    w->reclaimed = w->reclaimed || (n < LIVENESS_ORPHANS && !liveness_doubts(l));
    pthread_cond_signal(&w->fetch_cond);
    pthread_mutex_unlock(&w->lock);
}

static void liveness_beat(struct liveness *l)
{
    nq_err err = {0};
    int64_t start = nq_mono_us();
    if (!liveness_went(l, nq_member_beat(l->member, &err), "the heartbeat", &err, &l->beat_us))
        return;
    l->beat_us = start + liveness_every(l->worker);
    l->cancels_us = 0; /* who asked may not have reached us */
}

static void liveness_cancels(struct liveness *l)
{
    nq_err err = {0};
    l->looked_us = nq_mono_us();
    l->cancels_us = INT64_MAX;
    liveness_went(l, nq_cancels_check(l->worker, &err), "looking for tasks to cancel", &err, &l->cancels_us);
}

static void liveness_progress(struct liveness *l)
{
    nq_err err = {0};
    int rc = l->reports ? NQ_OK : nq_reports_new(&l->reports, l->worker, &err);
    l->progress_us = nq_mono_us() + LIVENESS_TELL_US;
    if (rc == NQ_OK)
        rc = nq_reports_write(l->reports, &err);
    liveness_went(l, rc, "writing progress", &err, &l->progress_us);
}

static void liveness_watch(struct liveness *l)
{
    nq_err err = {0};
    unsigned died = 0;
    int rc = nq_member_watch(l->member, l->worker->opts.lease_us, &died, &err);
    if (!liveness_went(l, rc, "watching other workers", &err, &l->watch_us))
        return;
    /* Their tasks should run again within a second, so a doubt is settled quickly. */
    l->watch_us = nq_mono_us() + (nq_member_suspects(l->member) ? NQ_MS(100) : NQ_MS(300));
    if (died > 0 || (!l->worker->reclaimed && !liveness_doubts(l)))
        l->orphans_us = 0;
}

/* With the lock held: a look found nothing more to do. `taken` as it was when the look began, if nothing was
 * held then; else 0, and the fetcher asks again. A drain has to look at its queues after this one. */
static void liveness_swept(struct liveness *l, uint64_t taken)
{
    nq_worker *w = l->worker;
    l->sweep = w->sweep = false;
    if (taken && w->swept != taken) {
        w->swept = taken;
        for (size_t i = 0; i < w->nqueues; i++)
            w->queues[i].quiet = 0;
    }
    if (w->opts.drain != NQ_DRAIN_NEVER)
        pthread_cond_signal(&w->fetch_cond);
}

static void liveness_promote(struct liveness *l)
{
    nq_worker *w = l->worker;
    nq_err err = {0};
    size_t n = 0;
    bool more = false;

    pthread_mutex_lock(&w->lock);
    const uint64_t taken = nq_worker_held(w) == 0 ? w->taken : 0;
    pthread_mutex_unlock(&w->lock);
    int rc = nq_store_promote(w->store, LIVENESS_PROMOTE, &n, &more, &err);
    if (!liveness_went(l, rc, "looking for follow-ups", &err, &l->promote_us))
        return;
    const int64_t now = nq_mono_us();
    if (!more || n > 0)
        l->others_us = 0;
    else if (l->others_us == 0)
        l->others_us = now;
    const bool clean = n == 0 && (!more || now - l->others_us >= LIVENESS_OTHERS_US);
    l->promote_us = now + (clean ? NQ_MS(500) : more && n == 0 ? NQ_MS(20) : 0);
    if (n > 0)
        nq_fetch_wake(w, NQ_HINT_ANY, 0);
    pthread_mutex_lock(&w->lock);
    if (clean)
        liveness_swept(l, taken);
    pthread_mutex_unlock(&w->lock);
}

static void liveness_purge(struct liveness *l)
{
    nq_worker *w = l->worker;
    nq_err err = {0};
    uint64_t n = 0;
    size_t over = 0;
    l->purge_us = nq_mono_us() + NQ_SECONDS(60);
    if (!liveness_went(l, nq_store_progress_sweep(w->store, LIVENESS_PURGE, &over, &err),
                       "deleting progress of dead workers", &err, &l->purge_us))
        return;
    /* Records that this worker would not keep belong to one that does. */
    if (w->opts.keep_done_us <= 0 && w->opts.keep_dead_us < 0)
        return;
    int64_t keep_done = w->opts.keep_done_us ? w->opts.keep_done_us : -1;
    int rc = nq_store_purge(w->store, keep_done, w->opts.keep_dead_us, LIVENESS_PURGE, &n, &err);
    if (liveness_went(l, rc, "deleting old finished tasks", &err, &l->purge_us))
        l->purge_us = nq_mono_us() + (n < LIVENESS_PURGE ? NQ_SECONDS(60) : NQ_MS(100));
}

/* Leases are used up and nothing is held: a new membership counts from the start. */
static void liveness_rejoin(struct liveness *l)
{
    nq_err err = {0};
    liveness_announce(l->worker, 0);
    if (nq_member_leave(l->member, &err) != NQ_OK)
        nq_worker_log(l->worker, NQ_LOG_WARN, "leaving: %s", err.message);
    l->member = NULL;
    l->join_us = nq_mono_us();
}

static int64_t liveness_next(const struct liveness *l)
{
    if (!l->member)
        return l->join_us;
    const int64_t due[] = {l->beat_us,    l->cancels_us,  l->watch_us, l->orphans_us,
                           l->promote_us, l->progress_us, l->purge_us};
    int64_t next = INT64_MAX;
    for (size_t i = 0; i < sizeof due / sizeof *due; i++)
        next = due[i] < next ? due[i] : next;
    return next;
}

/* Sleep until a duty is due; false at the end. */
static bool liveness_sleep(struct liveness *l, bool *rejoin)
{
    nq_worker *w = l->worker;
    int64_t until = liveness_next(l);
    pthread_mutex_lock(&w->lock);
    for (;;) {
        if (w->sweep && !l->sweep && l->member) {
            l->sweep = true;
            l->promote_us = until = 0;
        }
        if (w->check_cancels && l->member) {
            w->check_cancels = false;
            const int64_t at = l->looked_us + LIVENESS_LOOK_US;
            l->cancels_us = at < l->cancels_us ? at : l->cancels_us;
            until = at < until ? at : until;
        }
        *rejoin = w->rejoin && l->member && nq_worker_held(w) == 0;
        if (w->phase == NQ_PHASE_END || *rejoin || !nq_cond_wait_until(&w->live_cond, &w->lock, until))
            break;
    }
    bool on = w->phase != NQ_PHASE_END;
    pthread_mutex_unlock(&w->lock);
    return on;
}

NQ_PRIVATE void *nq_liveness_main(void *arg)
{
    struct liveness l = {.worker = arg, .again_us = LIVENESS_AGAIN_US};
    bool rejoin = false;
    nq_err err = {0};
    while (liveness_sleep(&l, &rejoin)) {
        int64_t now = nq_mono_us();
        if (!l.member)
            liveness_join(&l);
        else if (rejoin)
            liveness_rejoin(&l);
        else if (l.beat_us <= now) /* the beat before all else: it keeps the leases */
            liveness_beat(&l);
        else if (l.cancels_us <= now)
            liveness_cancels(&l);
        else if (l.watch_us <= now)
            liveness_watch(&l);
        else if (l.orphans_us <= now)
            liveness_orphans(&l);
        else if (l.promote_us <= now)
            liveness_promote(&l);
        else if (l.progress_us <= now)
            liveness_progress(&l);
        else if (l.purge_us <= now)
            liveness_purge(&l);
        if (l.member || atomic_load(&l.worker->live_us) != 0)
            atomic_store(&l.worker->live_us, nq_mono_us());
    }
    if (l.member && l.reports && nq_reports_write(l.reports, &err) != NQ_OK)
        nq_worker_log(l.worker, NQ_LOG_DEBUG, "taking outage progress: %s", err.message);
    nq_reports_free(l.reports);
    if (l.member && nq_member_leave(l.member, &err) != NQ_OK)
        nq_worker_log(l.worker, NQ_LOG_WARN, "leaving: %s", err.message);
    return NULL;
}
