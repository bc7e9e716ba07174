/* SPDX-License-Identifier: MIT */
/* Running a worker: start, wait for a stop, shut down phase by phase. */
#include <limits.h>
#include <poll.h>
#include <unistd.h>

#include "isolate/isolate.h"

#define RUN_KILL_US NQ_SECONDS(2)

struct run {
    nq_worker *worker;
    pthread_t fetcher, second, completer, watch, duties, heart;
    bool has_fetcher, has_second, has_completer, has_watch, has_duties, has_heart;
    unsigned handlers; /* threads started */
    unsigned stuck;
};

/* Sleep until poked or until a point in time. */
static void run_poll(nq_worker *w, int64_t until)
{
    struct pollfd fd = {.fd = w->wake_fd, .events = POLLIN};
    uint64_t count;
    int64_t left = until - nq_mono_us();
    int ms = left <= 0 ? 0 : left > NQ_SECONDS(60) ? 60000 : (int)((left + 999) / 1000);
    if (poll(&fd, 1, ms) > 0) {
        ssize_t n = read(w->wake_fd, &count, sizeof count);
        (void)n;
    }
}

/* ---- Starting ---- */

/* The tables are there, or the error that says why not; a database that is away is waited for. */
static int run_check(nq_worker *w, nq_err *err)
{
    struct nq_outage outage = {0};
    nq_err e = {0};
    while (atomic_load(&w->stops) == 0) {
        int rc = nq_store_check(w->store, &e);
        if (rc == NQ_OK) {
            nq_outage_ended(w, &outage, "connecting");
            return NQ_OK;
        }
        if (rc != NQ_EUNAVAILABLE && rc != NQ_ECONFLICT && rc != NQ_EUNKNOWN) {
            if (err)
                *err = e;
            return rc;
        }
        int64_t until = nq_mono_us() + nq_outage_failed(w, &outage, "connecting", &e);
        while (atomic_load(&w->stops) == 0 && nq_mono_us() < until)
            run_poll(w, until);
    }
    return NQ_OK;
}

/* Where batches are small, claims side by side are faster than one after the other; not for one thread. */
static bool run_two_fetchers(const nq_worker *w)
{
    return w->opts.concurrency > 1 && nq_store_claims_apart(w->store, w->opts.batch);
}

static int run_claimer(nq_worker *w, nq_claimer **out, const char *queue, size_t ntypes, nq_err *err)
{
    int rc = nq_claimer_new(out, w->store, queue, w->types, ntypes, err);
    if (rc != NQ_OK)
        return rc;
    nq_claimer_bytes(*out, w->opts.claim_bytes);
    if (w->opts.drain != NQ_DRAIN_NEVER)
        nq_claimer_thorough(*out);
    return NQ_OK;
}

static int run_claimers(nq_worker *w, nq_err *err)
{
    size_t ntypes = 0;
    int rc = NQ_OK;
    if (w->opts.known_types_only && !nq_handler_find(w, NULL)) {
        if (w->nhandlers == 0)
            return nq_err_set(err, NQ_EINVAL, "known_types_only, but no handler is registered");
        w->types = calloc(w->nhandlers, sizeof *w->types);
        if (!w->types)
            return nq_err_nomem(err);
        for (; ntypes < w->nhandlers; ntypes++)
            w->types[ntypes] = w->handlers[ntypes].type;
    }
    for (size_t k = 0; k < (run_two_fetchers(w) ? NQ_FETCHERS : 1); k++)
        for (size_t i = 0; i < w->nqueues && rc == NQ_OK; i++)
            rc = run_claimer(w, &w->queues[i].claimers[k], w->queues[i].name, ntypes, err);
    return rc;
}

static int run_handlers(struct run *r, nq_err *err)
{
    nq_worker *w = r->worker;
    for (; r->handlers < w->opts.concurrency; r->handlers++) {
        struct nq_handler_thread *thread = &w->threads[r->handlers];
        thread->worker = w;
        atomic_fetch_add(&w->refs, 1);
        int rc = nq_thread_start(&thread->id, nq_handler_main, thread, err);
        if (rc != NQ_OK) {
            atomic_fetch_sub(&w->refs, 1);
            return rc;
        }
    }
    return NQ_OK;
}

static int run_thread(pthread_t *thread, bool *has, void *(*fn)(void *), nq_worker *w, nq_err *err)
{
    int rc = nq_thread_start(thread, fn, w, err);
    *has = rc == NQ_OK;
    return rc;
}

/* The fetchers last: nothing is claimed unless all the others are there. */
static int run_start(struct run *r, nq_err *err)
{
    nq_worker *w = r->worker;
    int rc;
    if ((rc = run_thread(&r->completer, &r->has_completer, nq_completer_main, w, err)) != NQ_OK ||
        (rc = run_thread(&r->watch, &r->has_watch, nq_watch_main, w, err)) != NQ_OK ||
        (rc = nq_many_room(w, err)) != NQ_OK || (rc = run_handlers(r, err)) != NQ_OK ||
        (rc = run_thread(&r->heart, &r->has_heart, nq_heart_main, w, err)) != NQ_OK ||
        (rc = run_thread(&r->duties, &r->has_duties, nq_duties_main, w, err)) != NQ_OK)
        return rc;
    if (run_two_fetchers(w) &&
        (rc = run_thread(&r->second, &r->has_second, nq_fetch_second_main, w, err)) != NQ_OK)
        return rc;
    return run_thread(&r->fetcher, &r->has_fetcher, nq_fetch_main, w, err);
}

/* ---- Shutting down ---- */

static void run_phase(nq_worker *w, enum nq_phase phase)
{
    pthread_mutex_lock(&w->lock);
    w->phase = phase;
    if (phase == NQ_PHASE_STOP) {
        nq_piggyback_end(w);
        nq_ready_release(w);
    }
    if (phase == NQ_PHASE_RECORD)
        w->give_up_us = nq_mono_us() + w->opts.cancel_grace_us;
    pthread_cond_broadcast(&w->fetch_cond);
    pthread_cond_broadcast(&w->second_cond);
    pthread_cond_broadcast(&w->ready_cond);
    pthread_cond_broadcast(&w->done_cond);
    pthread_cond_broadcast(&w->watch_cond);
    pthread_cond_broadcast(&w->duties_cond);
    pthread_cond_broadcast(&w->heart_cond);
    pthread_cond_broadcast(&w->bell_cond);
    pthread_cond_broadcast(&w->many_cond);
    nq_children_wake(w);
    pthread_mutex_unlock(&w->lock);
}

/* Wait for the running handlers, and for producers that have a loan, for so long or until nq_worker_stop was
 * called so often. */
static bool run_wait_handlers(nq_worker *w, int64_t timeout_us, unsigned stops)
{
    int64_t until = nq_mono_us() + timeout_us;
    while (atomic_load(&w->running) + atomic_load(&w->lent) > 0) {
        if (nq_mono_us() >= until || atomic_load(&w->stops) >= stops)
            return false;
        run_poll(w, until);
    }
    return true;
}

/* With the lock held: what this thread's handler runs is no more its own. */
static void run_abandon_thread(struct run *r, struct nq_handler_thread *thread, nq_err *stuck)
{
    nq_ctx *ctx;
    for (size_t k = 0; (ctx = nq_thread_attempt(thread, k)); k++) {
        if (r->stuck++ == 0) {
            char type[NQ_MAX_TYPE + 1];
            nq_printable(type, sizeof type, ctx->claim->task.type, strlen(ctx->claim->task.type));
            nq_err_set(
                stuck, NQ_ESTUCK,
                "handlers ignored their cancellation and still run, first that of task %lld, type '%s'",
                (long long)ctx->claim->task.id, type);
        }
        thread->stuck = true;
        atomic_fetch_add(&ctx->refs, 1);
        atomic_store(&ctx->abandoned, true);
        nq_done_release(r->worker, ctx);
    }
}

/* Release the tasks of handlers that would not end; from here on their threads only touch what they own. */
static void run_abandon(struct run *r, nq_err *stuck)
{
    nq_worker *w = r->worker;
    pthread_mutex_lock(&w->lock);
    for (unsigned i = 0; i < r->handlers; i++)
        run_abandon_thread(r, &w->threads[i], stuck);
    pthread_mutex_unlock(&w->lock);
}

static void run_join_handlers(struct run *r)
{
    for (unsigned i = 0; i < r->handlers; i++) {
        struct nq_handler_thread *thread = &r->worker->threads[i];
        if (thread->stuck)
            pthread_detach(thread->id);
        else
            pthread_join(thread->id, NULL);
    }
}

static void run_shutdown(struct run *r, nq_err *stuck)
{
    nq_worker *w = r->worker;
    nq_ctx *ctx;

    run_phase(w, NQ_PHASE_STOP);
    nq_listening_stop(w);
    if (!run_wait_handlers(w, w->opts.shutdown_timeout_us, 2)) {
        pthread_mutex_lock(&w->lock);
        nq_cancel_running(w, NQ_CAUSE_SHUTDOWN);
        pthread_mutex_unlock(&w->lock);
        /* Children are killed when the grace is over, which takes a moment. */
        const int64_t moment = w->zygote ? RUN_KILL_US : 0;
        if (!run_wait_handlers(w, w->opts.cancel_grace_us + moment, UINT_MAX))
            run_abandon(r, stuck);
    }
    if (r->has_fetcher)
        pthread_join(r->fetcher, NULL); /* a claim in flight is given back by it */
    if (r->has_second)
        pthread_join(r->second, NULL);
    run_phase(w, NQ_PHASE_RECORD);
    run_join_handlers(r);
    if (r->has_watch)
        pthread_join(r->watch, NULL);
    if (r->has_completer)
        pthread_join(r->completer, NULL);
    run_phase(w, NQ_PHASE_END);
    if (r->has_duties)
        pthread_join(r->duties, NULL);
    if (r->has_heart)
        pthread_join(r->heart, NULL);
    nq_listening_free(w);
    while ((ctx = nq_task_list_pop(&w->ended))) /* only after a failed start */
        nq_ctx_unref(ctx);
}

/* With everything started: until stopped or drained. */
static void run_until_stop(nq_worker *w)
{
    for (;;) {
        pthread_mutex_lock(&w->lock);
        bool drained = w->drained;
        pthread_mutex_unlock(&w->lock);
        if (drained || atomic_load(&w->stops) > 0)
            return;
        run_poll(w, INT64_MAX);
    }
}

static int run_result(const struct run *r, const nq_err *stuck, nq_err *err)
{
    const nq_worker *w = r->worker;
    if (r->stuck > 0) {
        if (err)
            *err = *stuck;
        return NQ_ESTUCK;
    }
    if (w->zygote && atomic_load(&w->zygote->lost)) {
        char how[NQ_ENDING_WORDS] = "nothing tells how";
        if (w->zygote->ended)
            nq_ending_words(&w->zygote->ending, true, how);
        return nq_err_set(
            err, NQ_ESYSTEM,
            "the parent of the child processes died (%s), and cannot be forked anew in a process with "
            "threads; the tasks were released: start again",
            how);
    }
    if (w->lost > 0)
        return nq_err_set(err, w->lost_err.code,
                          "%zu outcome(s) could not be recorded, their tasks will run again: %.300s", w->lost,
                          w->lost_err.message);
    return NQ_OK;
}

/* Is a zygote wanted, and not there? */
static bool run_isolates(const nq_worker *w)
{
    bool isolated = false;
    for (size_t i = 0; i < w->nhandlers; i++)
        isolated = isolated || w->handlers[i].isolated;
    return isolated && !w->zygote && !atomic_load(&w->started);
}

int nq_worker_run(nq_worker *w, nq_err *err)
{
    struct run r = {.worker = w};
    nq_err stuck = {0};
    if (!w)
        return nq_err_set(err, NQ_EINVAL, "the worker is NULL");
    int rc = nq_usable(w->q, err);
    if (rc != NQ_OK)
        return rc;
    if (run_isolates(w) && (rc = nq_zygote_start(w, err)) != NQ_OK)
        return rc;
    if (atomic_exchange(&w->started, true))
        return nq_err_set(err, NQ_EINVAL, "nq_worker_run may be called once for a worker");
    nq_prefetch_less(w);
    w->watch_until = w->due_us = INT64_MAX;
    w->taken = 1;
    if ((rc = run_claimers(w, err)) != NQ_OK || (rc = nq_signals_take(w, err)) != NQ_OK)
        goto out;
    if ((rc = run_check(w, err)) != NQ_OK || atomic_load(&w->stops) > 0)
        goto out;
    w->listener.lend = nq_worker_lend;
    w->listener.settings = nq_settings_wake;
    nq_listen(w->q, &w->listener);
    rc = run_start(&r, err);
    if (rc == NQ_OK) {
        nq_listening_start(w);
        run_until_stop(w);
    }
    nq_unlisten(w->q, &w->listener);
    run_shutdown(&r, &stuck);
    nq_zygote_stop(w); /* which tells how it ended */
    if (rc == NQ_OK)
        rc = run_result(&r, &stuck, err);
out:
    nq_zygote_stop(w);
    nq_signals_give_back(w);
    for (size_t i = 0; i < w->nqueues; i++) {
        for (size_t k = 0; k < NQ_FETCHERS; k++) {
            nq_claimer_free(w->queues[i].claimers[k]);
            w->queues[i].claimers[k] = NULL;
        }
    }
    return rc;
}
