/* SPDX-License-Identifier: MIT */
/* Running a processor: start, wait for a stop, shut down phase by phase. */
#include <limits.h>
#include <poll.h>
#include <unistd.h>

#include "child.h"

#define RUN_KILL_US NQ_SECONDS(2)

struct run {
    nq_proc *proc;
    pthread_t fetcher, completer, watch, liveness;
    bool has_fetcher, has_completer, has_watch, has_liveness;
    unsigned handlers; /* threads started */
    unsigned stuck;
};

/* Sleep until poked or until a point in time. */
static void run_poll(nq_proc *p, int64_t until)
{
    struct pollfd fd = {.fd = p->poke_fd, .events = POLLIN};
    uint64_t count;
    int64_t left = until - nq_mono_us();
    int ms = left <= 0 ? 0 : left > NQ_SECONDS(60) ? 60000 : (int)((left + 999) / 1000);
    if (poll(&fd, 1, ms) > 0) {
        ssize_t n = read(p->poke_fd, &count, sizeof count);
        (void)n;
    }
}

/* ---- Starting ---- */

/* The tables are there, or the error that says why not; a database that is away is waited for. */
static int run_check(nq_proc *p, nq_err *err)
{
    struct nq_away away = {0};
    nq_err e = {0};
    while (atomic_load(&p->stops) == 0) {
        int rc = nq_store_check(p->store, &e);
        if (rc == NQ_OK) {
            nq_away_ended(p, &away, "connecting");
            return NQ_OK;
        }
        if (rc != NQ_EUNAVAILABLE && rc != NQ_ECONFLICT && rc != NQ_EUNKNOWN) {
            if (err)
                *err = e;
            return rc;
        }
        int64_t until = nq_mono_us() + nq_away_failed(p, &away, "connecting", &e);
        while (atomic_load(&p->stops) == 0 && nq_mono_us() < until)
            run_poll(p, until);
    }
    return NQ_OK;
}

static int run_claimers(nq_proc *p, nq_err *err)
{
    size_t ntypes = 0;
    int rc = NQ_OK;
    if (p->opts.known_types_only && !nq_route_find(p, NULL)) {
        if (p->nroutes == 0)
            return nq_err_set(err, NQ_EINVAL, "known_types_only, but no handler is registered");
        p->types = calloc(p->nroutes, sizeof *p->types);
        if (!p->types)
            return nq_err_nomem(err);
        for (; ntypes < p->nroutes; ntypes++)
            p->types[ntypes] = p->routes[ntypes].type;
    }
    for (size_t i = 0; i < p->nfeeds && rc == NQ_OK; i++)
        rc = nq_claimer_new(&p->feeds[i].claimer, p->store, p->feeds[i].name, p->types, ntypes, err);
    return rc;
}

static int run_handlers(struct run *r, nq_err *err)
{
    nq_proc *p = r->proc;
    for (; r->handlers < p->opts.concurrency; r->handlers++) {
        struct nq_slot *slot = &p->slots[r->handlers];
        slot->proc = p;
        atomic_fetch_add(&p->refs, 1);
        int rc = nq_thread_start(&slot->thread, nq_handler_main, slot, err);
        if (rc != NQ_OK) {
            atomic_fetch_sub(&p->refs, 1);
            return rc;
        }
    }
    return NQ_OK;
}

static int run_thread(pthread_t *thread, bool *has, void *(*fn)(void *), nq_proc *p, nq_err *err)
{
    int rc = nq_thread_start(thread, fn, p, err);
    *has = rc == NQ_OK;
    return rc;
}

/* The fetcher last: nothing is claimed unless all the others are there. */
static int run_start(struct run *r, nq_err *err)
{
    nq_proc *p = r->proc;
    int rc;
    if ((rc = run_thread(&r->completer, &r->has_completer, nq_completer_main, p, err)) ||
        (rc = run_thread(&r->watch, &r->has_watch, nq_watch_main, p, err)) || (rc = run_handlers(r, err)) ||
        (rc = run_thread(&r->liveness, &r->has_liveness, nq_liveness_main, p, err)))
        return rc;
    return run_thread(&r->fetcher, &r->has_fetcher, nq_fetch_main, p, err);
}

/* ---- Shutting down ---- */

static void run_phase(nq_proc *p, enum nq_phase phase)
{
    pthread_mutex_lock(&p->lock);
    p->phase = phase;
    if (phase == NQ_PHASE_STOP) {
        nq_carry_end(p);
        nq_ready_release(p);
    }
    if (phase == NQ_PHASE_RECORD)
        p->give_up_us = nq_mono_us() + p->opts.cancel_grace_us;
    pthread_cond_broadcast(&p->fetch_cond);
    pthread_cond_broadcast(&p->ready_cond);
    pthread_cond_broadcast(&p->done_cond);
    pthread_cond_broadcast(&p->watch_cond);
    pthread_cond_broadcast(&p->live_cond);
    pthread_cond_broadcast(&p->bell_cond);
    nq_children_wake(p);
    pthread_mutex_unlock(&p->lock);
}

/* Wait for the running handlers, for so long or until nq_proc_stop was called so often. */
static bool run_wait_handlers(nq_proc *p, int64_t timeout_us, unsigned stops)
{
    int64_t until = nq_mono_us() + timeout_us;
    while (atomic_load(&p->running) > 0) {
        if (nq_mono_us() >= until || atomic_load(&p->stops) >= stops)
            return false;
        run_poll(p, until);
    }
    return true;
}

/* Release the tasks of handlers that would not end; from here on their threads only touch what they own. */
static void run_abandon(struct run *r, nq_err *stuck)
{
    nq_proc *p = r->proc;
    pthread_mutex_lock(&p->lock);
    for (unsigned i = 0; i < r->handlers; i++) {
        nq_ctx *ctx = p->slots[i].ctx;
        if (!ctx)
            continue;
        if (r->stuck++ == 0) {
            char type[NQ_MAX_TYPE + 1];
            nq_printable(type, sizeof type, ctx->claim->task.type, strlen(ctx->claim->task.type));
            nq_err_set(
                stuck, NQ_ESTUCK,
                "handlers ignored their cancellation and still run, first that of task %lld, type '%s'",
                (long long)ctx->claim->task.id, type);
        }
        p->slots[i].stuck = true;
        atomic_fetch_add(&ctx->refs, 1);
        atomic_store(&ctx->abandoned, true);
        nq_done_release(p, ctx);
    }
    pthread_mutex_unlock(&p->lock);
}

static void run_join_handlers(struct run *r)
{
    for (unsigned i = 0; i < r->handlers; i++) {
        struct nq_slot *slot = &r->proc->slots[i];
        if (slot->stuck)
            pthread_detach(slot->thread);
        else
            pthread_join(slot->thread, NULL);
    }
}

static void run_shutdown(struct run *r, nq_err *stuck)
{
    nq_proc *p = r->proc;
    nq_ctx *ctx;

    run_phase(p, NQ_PHASE_STOP);
    nq_wake_stop(p);
    if (!run_wait_handlers(p, p->opts.shutdown_timeout_us, 2)) {
        pthread_mutex_lock(&p->lock);
        nq_cancel_running(p, NQ_CAUSE_SHUTDOWN);
        pthread_mutex_unlock(&p->lock);
        /* Children are killed when the grace is over, which takes a moment. */
        const int64_t moment = p->zygote ? RUN_KILL_US : 0;
        if (!run_wait_handlers(p, p->opts.cancel_grace_us + moment, UINT_MAX))
            run_abandon(r, stuck);
    }
    if (r->has_fetcher)
        pthread_join(r->fetcher, NULL); /* a claim in flight is given back by it */
    run_phase(p, NQ_PHASE_RECORD);
    run_join_handlers(r);
    if (r->has_watch)
        pthread_join(r->watch, NULL);
    if (r->has_completer)
        pthread_join(r->completer, NULL);
    run_phase(p, NQ_PHASE_END);
    if (r->has_liveness)
        pthread_join(r->liveness, NULL);
    nq_wake_free(p);
    while ((ctx = nq_jobs_pop(&p->ended))) /* only after a failed start */
        nq_ctx_unref(ctx);
}

/* With everything started: until stopped or drained. */
static void run_until_stop(nq_proc *p)
{
    for (;;) {
        pthread_mutex_lock(&p->lock);
        bool drained = p->drained;
        pthread_mutex_unlock(&p->lock);
        if (drained || atomic_load(&p->stops) > 0)
            return;
        run_poll(p, INT64_MAX);
    }
}

static int run_result(const struct run *r, const nq_err *stuck, nq_err *err)
{
    const nq_proc *p = r->proc;
    if (r->stuck > 0) {
        if (err)
            *err = *stuck;
        return NQ_ESTUCK;
    }
    if (p->zygote && atomic_load(&p->zygote->lost))
        return nq_err_set(
            err, NQ_ESYSTEM,
            "the parent of the child processes died, and cannot be forked anew in a process with "
            "threads; the tasks were released: start again");
    if (p->lost > 0)
        return nq_err_set(err, p->lost_err.code,
                          "%zu outcome(s) could not be recorded, their tasks will run again: %.300s", p->lost,
                          p->lost_err.message);
    return NQ_OK;
}

/* Is a zygote wanted, and not there? */
static bool run_isolates(const nq_proc *p)
{
    bool isolated = false;
    for (size_t i = 0; i < p->nroutes; i++)
        isolated = isolated || p->routes[i].isolated;
    return isolated && !p->zygote && !atomic_load(&p->started);
}

int nq_proc_run(nq_proc *p, nq_err *err)
{
    struct run r = {.proc = p};
    nq_err stuck = {0};
    if (!p)
        return nq_err_set(err, NQ_EINVAL, "the processor is NULL");
    int rc = nq_usable(p->q, err);
    if (rc != NQ_OK)
        return rc;
    if (run_isolates(p) && (rc = nq_zygote_start(p, err)) != NQ_OK)
        return rc;
    if (atomic_exchange(&p->started, true))
        return nq_err_set(err, NQ_EINVAL, "nq_proc_run may be called once for a processor");
    p->avg16_us = NQ_PREFETCH_WINDOW_US * 16 * 2 * (int64_t)p->opts.concurrency;
    p->watch_until = p->due_us = INT64_MAX;
    p->taken = 1;
    if ((rc = run_claimers(p, err)) != NQ_OK || (rc = nq_signals_take(p, err)) != NQ_OK)
        goto out;
    if ((rc = run_check(p, err)) != NQ_OK || atomic_load(&p->stops) > 0)
        goto out;
    nq_listen(p->q, &p->listener);
    rc = run_start(&r, err);
    if (rc == NQ_OK) {
        nq_wake_start(p);
        run_until_stop(p);
    }
    nq_unlisten(p->q, &p->listener);
    run_shutdown(&r, &stuck);
    if (rc == NQ_OK)
        rc = run_result(&r, &stuck, err);
out:
    nq_zygote_stop(p);
    nq_signals_give_back(p);
    for (size_t i = 0; i < p->nfeeds; i++) {
        nq_claimer_free(p->feeds[i].claimer);
        p->feeds[i].claimer = NULL;
    }
    return rc;
}
