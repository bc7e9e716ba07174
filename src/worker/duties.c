/* SPDX-License-Identifier: MIT */
/* The duties thread: keeps the membership, and does what a worker does from time to time. */
#include <stdio.h>
#include <unistd.h>

#include "worker.h"

#define DUTIES_PROMOTE  500 /* follow-ups looked at at a time */
#define DUTIES_SWEEP    500 /* rows that nobody needs deleted at a time */
#define DUTIES_DOUBT_US NQ_SECONDS(3)
/* Least time between two runs of a duty that others ask for: hints are anybody's. */
#define DUTIES_WANTED_US NQ_MS(5)
/* So long a drain waits for follow-ups that another promoter has locked: it may be stopped. */
#define DUTIES_OTHERS_US NQ_SECONDS(5)

struct duties;

/* What a worker does from time to time. A new duty is a row of duties_table and its function. */
struct duty {
    const char *name; /* for the log */
    /* *next_us comes as `every`: how soon to run again, if that is not it. NQ_ELEASE: we were declared dead.
     */
    int (*run)(struct duties *d, int64_t *next_us, nq_err *err);
    int64_t first_us;  /* after joining; -1: as every_us */
    int64_t every_us;  /* 0: as often as the lease asks for */
    unsigned wakeable; /* the enum nq_wanted by which other threads ask for it; 0: they do not */
    /* run NULL: delete up to so many rows that nobody needs. */
    int (*sweep)(nq_store *s, size_t limit, size_t *n, nq_err *err);
};

/* One row as the thread sees it. Each bears its failures by itself: one that fails for ever is logged now and
 * then, and slows no other. */
struct duty_state {
    int64_t due_us, ran_us;
    struct nq_outage outage;
    bool asked; /* due_us heeds what w->wanted says */
};

static int duties_beat(struct duties *d, int64_t *next_us, nq_err *err);
static int duties_check_cancels(struct duties *d, int64_t *next_us, nq_err *err);
static int duties_settings(struct duties *d, int64_t *next_us, nq_err *err);
static int duties_watch(struct duties *d, int64_t *next_us, nq_err *err);
static int duties_reclaim(struct duties *d, int64_t *next_us, nq_err *err);
static int duties_promote(struct duties *d, int64_t *next_us, nq_err *err);
static int duties_schedules(struct duties *d, int64_t *next_us, nq_err *err);
static int duties_doubts_look(struct duties *d, int64_t *next_us, nq_err *err);
static int duties_report(struct duties *d, int64_t *next_us, nq_err *err);
static int duties_purge(struct duties *d, int64_t *next_us, nq_err *err);
static int duties_tally(struct duties *d, int64_t *next_us, nq_err *err);

/* Of several that are due the first goes first: the beat before all else, it keeps the leases. */
static const struct duty duties_table[] = {
    {"the heartbeat", duties_beat, -1, 0, 0, NULL},
    {"reading the settings of queues", duties_settings, -1, NQ_MS(500), NQ_WANTED_SETTINGS, NULL},
    {"checking for requests to cancel", duties_check_cancels, -1, 0, NQ_WANTED_CANCELS, NULL},
    {"watching other workers", duties_watch, 0, NQ_MS(300), 0, NULL},
    {"looking for tasks of dead workers", duties_reclaim, 0, NQ_SECONDS(1), 0, NULL},
    {"promoting follow-ups", duties_promote, 0, NQ_MS(500), NQ_WANTED_PROMOTE, NULL},
    {"firing schedules", duties_schedules, 0, NQ_SECONDS(1), 0, NULL},
    {"looking for tasks that were handed over", duties_doubts_look, -1, 0, NQ_WANTED_DOUBTS, NULL},
    {"writing progress and logs", duties_report, 0, NQ_SECONDS(1), 0, NULL},
    {"deleting logs of tasks that are gone", NULL, 0, NQ_SECONDS(60), 0, nq_store_logs_sweep},
    {"deleting progress of dead workers", NULL, 0, NQ_SECONDS(60), 0, nq_store_progress_sweep},
    {"deleting gates of groups without tasks", NULL, 0, NQ_SECONDS(60), 0, nq_store_gates_sweep},
    {"deleting windows of keys that have ended", NULL, 0, NQ_SECONDS(60), 0, nq_store_windows_sweep},
    {"deleting attempts of tasks that are gone", NULL, 0, NQ_SECONDS(60), 0, nq_store_history_sweep},
    {"deleting results whose time is over", NULL, 0, NQ_SECONDS(60), 0, nq_store_results_sweep},
    {"deleting tags of tasks that are gone", NULL, 0, NQ_SECONDS(60), 0, nq_store_tags_sweep},
    {"deleting old finished tasks", duties_purge, 0, NQ_SECONDS(60), 0, NULL},
    {"writing what was done", duties_tally, -1, NQ_SECONDS(10), 0, NULL},
    {"merging what was done", NULL, NQ_SECONDS(60), NQ_MINUTES(10), 0, nq_store_minutes_sweep},
};
#define DUTIES_COUNT (sizeof duties_table / sizeof *duties_table)

struct duties {
    nq_worker *worker;
    nq_member *member;         /* NULL: not joined */
    nq_buf queues, types;      /* as the others are told */
    struct nq_outage joining;  /* trouble with that */
    struct nq_outage database; /* it cannot be reached: one line for all duties */
    int64_t join_us;           /* the next try */
    uint64_t told;             /* the hash of the settings that the last beat said */
    int64_t joined_us;
    struct duty_state state[DUTIES_COUNT];
    nq_scheduler schedules;
    nq_reports *reports; /* NULL: no memory for them yet */
    nq_purge purge;
    nq_reclaimer reclaimer;
    int64_t others_us; /* others have been at some follow-ups since then; 0: they are not */
};

static struct duty_state *duties_state(struct duties *d, int (*run)(struct duties *, int64_t *, nq_err *))
{
    size_t i = 0;
    while (duties_table[i].run != run)
        i++;
    return &d->state[i];
}

/* With the lock held: what others asked for is being done. */
static void duties_heed(struct duties *d, unsigned wanted)
{
    d->worker->wanted &= ~wanted;
    for (size_t i = 0; i < DUTIES_COUNT; i++)
        if (duties_table[i].wakeable & wanted)
            d->state[i].asked = false;
}

/* ---- Membership ---- */

/* Let the other threads know who we are; NULL: nobody. */
static void duties_announce(nq_worker *w, const nq_member *m)
{
    pthread_mutex_lock(&w->lock);
    w->member = m ? nq_member_id(m) : 0;
    if (m) {
        w->member_us = nq_member_since_us(m);
        /* Ids of workers and tasks begin anew after a restore. Leases that begin anywhere meet no old ones.
         */
        w->seq = w->seq_max == NQ_LEASE_SEQ_MAX ? nq_random(NQ_LEASE_SEQ_MAX / 2) : 0;
        w->rejoin = false;
        w->beat_us = nq_mono_us();
    }
    pthread_cond_signal(&w->heart_cond);
    pthread_cond_signal(&w->fetch_cond);
    pthread_mutex_unlock(&w->lock);
}

static int64_t duties_every(const nq_worker *w, const struct duty *duty)
{
    return duty->every_us ? duty->every_us : nq_beat_every_us(w);
}

/* What this worker serves; once. */
static void duties_describe(struct duties *d)
{
    const nq_worker *w = d->worker;
    for (size_t i = 0; i < w->nqueues && (i > 0 || d->queues.n == 0); i++)
        nq_buf_fmt(&d->queues, "%s%s", i > 0 ? "," : "", w->queues[i].name);
    for (size_t i = 0; w->types && i < w->nhandlers && (i > 0 || d->types.n == 0); i++)
        nq_buf_fmt(&d->types, "%s%s", i > 0 ? "\n" : "", w->types[i]);
}

static void duties_join_later(struct duties *d, const char *failed, const nq_err *err)
{
    d->join_us = nq_mono_us() + nq_outage_failed(d->worker, &d->joining, failed, err);
}

static void duties_join(struct duties *d)
{
    nq_worker *w = d->worker;
    nq_err err = {0};
    char name[NQ_PROCESS_NAME];
    nq_process_name(name);
    /* Before the first claim, and so that joining says it: a paused queue stays so. */
    if (!w->settings && nq_worker_read_settings(w, &err) != NQ_OK) {
        duties_join_later(d, "reading the settings of queues", &err);
        return;
    }
    duties_describe(d);
    const nq_member_about about = {.queues = d->queues.failed ? "" : d->queues.p,
                                   .types = d->types.failed ? NULL : d->types.p,
                                   .concurrency = w->opts.concurrency,
                                   .settings = w->settings->hash};
    if (nq_member_join(&d->member, w->store, name, &about, &err) != NQ_OK) {
        duties_join_later(d, "joining", &err);
        return;
    }
    nq_outage_ended(w, &d->joining, "joining");
    /* Who pauses and waits for all to know looked, perhaps, just before this one was there. */
    if (nq_worker_read_settings(w, &err) != NQ_OK) {
        duties_join_later(d, "reading the settings of queues", &err);
        nq_member_leave(d->member, &err);
        d->member = NULL;
        return;
    }
    d->joined_us = nq_mono_us();
    d->told = about.settings;
    d->reclaimer.stray = d->reclaimer.before = (struct nq_stray){0}; /* of leases that are ours no more */
    for (size_t i = 0; i < DUTIES_COUNT; i++) {
        const struct duty *duty = &duties_table[i];
        d->state[i].due_us = d->joined_us + (duty->first_us < 0 ? duties_every(w, duty) : duty->first_us);
    }
    duties_announce(w, d->member);
}

NQ_PRIVATE void nq_duties_lost(nq_worker *w, uint64_t id)
{
    pthread_mutex_lock(&w->lock);
    const bool ours = w->member == id && w->phase != NQ_PHASE_END; /* then it is leaving */
    if (ours) {
        w->member = 0;
        nq_cancel_running(w, NQ_CAUSE_LEASE_LOST);
        nq_ready_release(w);
    }
    pthread_mutex_unlock(&w->lock);
    if (ours)
        nq_worker_log(w, NQ_LOG_ERROR, "this worker was declared dead; its running tasks are cancelled");
}

static void duties_lost(struct duties *d)
{
    nq_duties_lost(d->worker, nq_member_id(d->member));
    nq_member_free(d->member);
    d->member = NULL;
    d->join_us = nq_mono_us();
}

/* Leases are used up and nothing is held: a new membership counts from the start. */
static void duties_rejoin(struct duties *d)
{
    nq_err err = {0};
    duties_announce(d->worker, NULL);
    if (nq_member_leave(d->member, &err) != NQ_OK)
        nq_worker_log(d->worker, NQ_LOG_WARN, "leaving: %s", err.message);
    d->member = NULL;
    d->join_us = nq_mono_us();
}

/* The hash of the settings that all we do goes by; 0: a claim that is under way goes by older ones. */
static uint64_t duties_known(nq_worker *w)
{
    pthread_mutex_lock(&w->lock);
    uint64_t known = w->settings ? w->settings->hash : 0;
    for (size_t i = 0; i < NQ_FETCHERS; i++)
        if (w->claiming[i] > 0 && w->heeding[i] != known)
            known = 0;
    pthread_mutex_unlock(&w->lock);
    return known;
}

static int duties_beat(struct duties *d, int64_t *next_us, nq_err *err)
{
    nq_worker *w = d->worker;
    const uint64_t known = duties_known(w);
    (void)next_us;
    nq_member_says(d->member, atomic_load(&w->running), known);
    const int rc = nq_member_beat(d->member, err);
    if (rc == NQ_OK) {
        pthread_mutex_lock(&w->lock);
        w->beat_us = nq_mono_us();
        pthread_mutex_unlock(&w->lock);
    }
    d->told = rc == NQ_OK ? known : 0;
    return rc;
}

/* ---- Settings ---- */

static int duties_settings(struct duties *d, int64_t *next_us, nq_err *err)
{
    (void)next_us;
    pthread_mutex_lock(&d->worker->lock);
    duties_heed(d, NQ_WANTED_SETTINGS);
    pthread_mutex_unlock(&d->worker->lock);
    const int rc = nq_worker_read_settings(d->worker, err);
    /* Somebody may wait for every worker to know. */
    return rc == NQ_OK && d->told != duties_known(d->worker) ? duties_beat(d, next_us, err) : rc;
}

/* ---- Requests to cancel, progress ---- */

static int duties_check_cancels(struct duties *d, int64_t *next_us, nq_err *err)
{
    (void)next_us; /* without a hint too: who asked may not have reached us */
    pthread_mutex_lock(&d->worker->lock);
    duties_heed(d, NQ_WANTED_CANCELS);
    pthread_mutex_unlock(&d->worker->lock);
    return nq_cancels_check(d->worker, err);
}

static int duties_report(struct duties *d, int64_t *next_us, nq_err *err)
{
    (void)next_us;
    int rc = d->reports ? NQ_OK : nq_reports_new(&d->reports, d->worker, err);
    rc = rc == NQ_OK ? nq_reports_write(d->reports, err) : rc;
    return rc == NQ_OK ? nq_lines_write(d->worker, err) : rc;
}

static int duties_tally(struct duties *d, int64_t *next_us, nq_err *err)
{
    (void)next_us;
    return nq_tally_write(d->worker, nq_member_id(d->member), err);
}

static int duties_sweep(const struct duty *duty, const struct duties *d, int64_t *next_us, nq_err *err)
{
    size_t n = 0;
    const int rc = duty->sweep(d->worker->store, DUTIES_SWEEP, &n, err);
    *next_us = rc == NQ_OK && n >= DUTIES_SWEEP ? NQ_MS(100) : *next_us;
    return rc;
}

/* ---- Dead workers ---- */

/* A drain waits for the verdict over workers that may have just died, but not for ever: one without its
 * lock that goes on beating stays a suspect. */
static bool duties_doubts(const struct duties *d)
{
    return nq_member_suspects(d->member) > 0 && nq_mono_us() - d->joined_us < DUTIES_DOUBT_US;
}

static int duties_watch(struct duties *d, int64_t *next_us, nq_err *err)
{
    unsigned died = 0;
    const int rc = nq_member_watch(d->member, d->worker->opts.lease_us, &died, err);
    if (rc != NQ_OK)
        return rc;
    /* Their tasks should run again within a second, so a doubt is settled quickly. */
    if (nq_member_suspects(d->member) > 0)
        *next_us = NQ_MS(100);
    d->reclaimer.late = d->reclaimer.late || died > 0;
    if (died > 0 || (!d->worker->reclaimed && !duties_doubts(d)))
        duties_state(d, duties_reclaim)->due_us = 0;
    return NQ_OK;
}

static int duties_reclaim(struct duties *d, int64_t *next_us, nq_err *err)
{
    return nq_reclaim(d->worker, d->member, &d->reclaimer, !duties_doubts(d), next_us, err);
}

/* ---- Follow-ups, retention ---- */

/* With the lock held: nothing more is to be promoted. `taken` as it was when that began, if nothing was
 * held then; else 0, and the fetcher asks again. A drain has to poll its queues after this one. */
static void duties_promoted(struct duties *d, uint64_t taken)
{
    nq_worker *w = d->worker;
    duties_heed(d, NQ_WANTED_PROMOTE);
    if (taken && w->swept != taken) {
        w->swept = taken;
        for (size_t i = 0; i < w->nqueues; i++)
            w->queues[i].quiet = 0;
    }
    if (w->opts.drain != NQ_DRAIN_NEVER)
        pthread_cond_signal(&w->fetch_cond);
}

static int duties_promote(struct duties *d, int64_t *next_us, nq_err *err)
{
    nq_worker *w = d->worker;
    size_t n = 0;
    bool more = false;
    pthread_mutex_lock(&w->lock);
    const uint64_t taken = nq_worker_held(w) == 0 ? w->taken : 0;
    pthread_mutex_unlock(&w->lock);
    const int rc = nq_store_promote(w->store, DUTIES_PROMOTE, &n, &more, err);
    if (rc != NQ_OK)
        return rc;
    const int64_t now = nq_mono_us();
    if (!more || n > 0)
        d->others_us = 0;
    else if (d->others_us == 0)
        d->others_us = now;
    const bool clean = n == 0 && (!more || now - d->others_us >= DUTIES_OTHERS_US);
    if (!clean)
        *next_us = n == 0 ? NQ_MS(20) : 0;
    if (n > 0)
        nq_fetch_wake(w, NQ_HINT_ANY, 0);
    pthread_mutex_lock(&w->lock);
    if (clean)
        duties_promoted(d, taken);
    pthread_mutex_unlock(&w->lock);
    return NQ_OK;
}

static int duties_schedules(struct duties *d, int64_t *next_us, nq_err *err)
{
    return nq_schedules_fire(d->worker, &d->schedules, next_us, err);
}

static int duties_doubts_look(struct duties *d, int64_t *next_us, nq_err *err)
{
    pthread_mutex_lock(&d->worker->lock);
    duties_heed(d, NQ_WANTED_DOUBTS);
    pthread_mutex_unlock(&d->worker->lock);
    return nq_loans_look(d->worker, next_us, err);
}

static int duties_purge(struct duties *d, int64_t *next_us, nq_err *err)
{
    return nq_purge_run(d->worker, &d->purge, next_us, err);
}

/* ---- The thread ---- */

static void duties_run(struct duties *d, size_t i)
{
    const struct duty *duty = &duties_table[i];
    struct duty_state *state = &d->state[i];
    nq_err err = {0};
    int64_t next = duties_every(d->worker, duty), pause;
    state->ran_us = nq_mono_us();
    const int rc = duty->run ? duty->run(d, &next, &err) : duties_sweep(duty, d, &next, &err);
    if (rc == NQ_ELEASE) {
        duties_lost(d);
        return;
    }
    const int64_t from = duty->every_us ? nq_mono_us() : state->ran_us;
    if (rc == NQ_OK) {
        nq_outage_ended(d->worker, &d->database, "reaching the database");
        nq_outage_ended(d->worker, &state->outage, duty->name);
        state->due_us = from + next;
        return;
    }
    if (rc == NQ_EUNAVAILABLE)
        pause = nq_outage_failed(d->worker, &d->database, duty->name, &err);
    else
        pause = nq_outage_failed(d->worker, &state->outage, duty->name, &err);
    state->due_us = nq_mono_us() + pause;
    state->asked = true; /* what others ask for waits for the pause too */
}

/* With the lock held: duties that others ask for are due soon. */
static void duties_ask(struct duties *d)
{
    for (size_t i = 0; i < DUTIES_COUNT && d->worker->wanted; i++) {
        struct duty_state *state = &d->state[i];
        const int64_t at = state->ran_us + DUTIES_WANTED_US;
        if (!(duties_table[i].wakeable & d->worker->wanted) || state->asked)
            continue;
        state->asked = true;
        state->due_us = at < state->due_us ? at : state->due_us;
    }
}

static int64_t duties_next(const struct duties *d)
{
    int64_t next = d->member ? INT64_MAX : d->join_us;
    for (size_t i = 0; i < DUTIES_COUNT && d->member; i++)
        next = d->state[i].due_us < next ? d->state[i].due_us : next;
    return next;
}

/* Sleep until a duty is due; false at the end. */
static bool duties_sleep(struct duties *d, bool *rejoin)
{
    nq_worker *w = d->worker;
    pthread_mutex_lock(&w->lock);
    for (;;) {
        if (d->member)
            duties_ask(d);
        *rejoin = w->rejoin && d->member && nq_worker_held(w) + w->claiming[0] == 0;
        if (w->phase == NQ_PHASE_END || *rejoin ||
            !nq_cond_wait_until(&w->duties_cond, &w->lock, duties_next(d)))
            break;
    }
    const bool on = w->phase != NQ_PHASE_END;
    pthread_mutex_unlock(&w->lock);
    return on;
}

static void duties_leave(struct duties *d)
{
    nq_err err = {0};
    if (d->member && d->reports && nq_reports_write(d->reports, &err) != NQ_OK)
        nq_worker_log(d->worker, NQ_LOG_DEBUG, "taking away progress: %s", err.message);
    nq_lines_end(d->worker, d->member);
    if (d->member)
        nq_tally_write(d->worker, nq_member_id(d->member), NULL);
    nq_reports_free(d->reports);
    nq_buf_free(&d->reclaimer.scan.queue);
    nq_buf_free(&d->purge.scan.queue);
    nq_buf_free(&d->queues);
    nq_buf_free(&d->types);
    if (d->member && nq_member_leave(d->member, &err) != NQ_OK)
        nq_worker_log(d->worker, NQ_LOG_WARN, "leaving: %s", err.message);
}

NQ_PRIVATE void *nq_duties_main(void *arg)
{
    struct duties d = {.worker = arg};
    bool rejoin = false;
    while (duties_sleep(&d, &rejoin)) {
        size_t i = 0;
        for (const int64_t now = nq_mono_us(); i < DUTIES_COUNT && d.state[i].due_us > now;)
            i++;
        if (!d.member)
            duties_join(&d);
        else if (rejoin)
            duties_rejoin(&d);
        else if (i < DUTIES_COUNT)
            duties_run(&d, i);
        if (d.member || atomic_load(&d.worker->live_us) != 0)
            atomic_store(&d.worker->live_us, nq_mono_us());
    }
    duties_leave(&d);
    return NULL;
}
