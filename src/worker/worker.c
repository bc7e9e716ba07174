/* SPDX-License-Identifier: MIT */
/* The worker: options, registration, counts, and the end of its memory. */
#include <errno.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "isolate/isolate.h"

#define WORKER_MAX_BATCH   1000
#define WORKER_MAX_CRASHES 3
#define WORKER_BATCH       500 /* a commit costs as much as 50 to 100 tasks: docs/performance.md */

/* ---- Options ---- */

static int worker_duration(int64_t *value, int64_t fallback, int64_t least, const char *name, nq_err *err)
{
    *value = nq_option(*value, fallback);
    if (*value < least || *value > NQ_MAX_DURATION)
        return nq_err_set(err, NQ_EINVAL, "%s is %lld us; allowed are %lld us to ten years", name,
                          (long long)*value, (long long)least);
    return NQ_OK;
}

/* Afterwards -1 is for ever. */
static int worker_retention(int64_t *value, int64_t fallback, const char *name, nq_err *err)
{
    *value = nq_option(*value, fallback);
    if (*value != NQ_FOREVER && (*value < 0 || *value > NQ_MAX_DURATION))
        return nq_err_set(err, NQ_EINVAL, "%s is %lld us; allowed are NQ_ZERO to ten years, and NQ_FOREVER",
                          name, (long long)*value);
    if (*value == NQ_FOREVER)
        *value = -1;
    return NQ_OK;
}

static int worker_options(nq_worker_options *o, nq_err *err)
{
    int rc;
    if (o->concurrency == 0)
        o->concurrency = 10;
    if (o->concurrency > NQ_MAX_CONCURRENCY)
        return nq_err_set(err, NQ_EINVAL, "concurrency is %u; allowed are 1 to %d", o->concurrency,
                          NQ_MAX_CONCURRENCY);
    if (o->batch == 0)
        o->batch = WORKER_BATCH;
    if (o->claim_bytes == 0)
        o->claim_bytes = NQ_DEFAULT_CLAIM_BYTES;
    if (o->batch > WORKER_MAX_BATCH)
        return nq_err_set(err, NQ_EINVAL, "batch is %u; allowed are 1 to %d", o->batch, WORKER_MAX_BATCH);
    o->max_crashes = (int)nq_option(o->max_crashes, WORKER_MAX_CRASHES);
    if (o->max_crashes < 0)
        return nq_err_set(err, NQ_EINVAL, "max_crashes is %d; allowed are NQ_ZERO (none) and 1 and more",
                          o->max_crashes);
    if (o->drain < NQ_DRAIN_NEVER || o->drain > NQ_DRAIN_ALL)
        return nq_err_set(err, NQ_EINVAL, "drain is %d; see enum nq_drain", o->drain);
    if ((rc = worker_duration(&o->shutdown_timeout_us, NQ_SECONDS(30), 0, "shutdown_timeout_us", err)) !=
            NQ_OK ||
        (rc = worker_duration(&o->cancel_grace_us, NQ_SECONDS(5), 0, "cancel_grace_us", err)) != NQ_OK ||
        (rc = worker_duration(&o->lease_us, NQ_SECONDS(30), NQ_SECONDS(3), "lease_us", err)) != NQ_OK ||
        (rc = worker_duration(&o->poll_us, NQ_SECONDS(1), NQ_MS(1), "poll_us", err)) != NQ_OK ||
        (rc = worker_retention(&o->keep_done_us, 0, "keep_done_us", err)) != NQ_OK ||
        (rc = worker_retention(&o->keep_dead_us, NQ_DAYS(7), "keep_dead_us", err)) != NQ_OK)
        return rc;
    return NQ_OK;
}

/* ---- Making and freeing ---- */

#define WORKER_CONDS 9

static void worker_conds(nq_worker *w, pthread_cond_t *out[WORKER_CONDS])
{
    pthread_cond_t *const all[WORKER_CONDS] = {&w->fetch_cond, &w->second_cond, &w->ready_cond,
                                               &w->done_cond,  &w->watch_cond,  &w->duties_cond,
                                               &w->heart_cond, &w->bell_cond,   &w->many_cond};
    memcpy(out, all, sizeof all);
}

static int worker_sync(nq_worker *w, nq_err *err)
{
    pthread_cond_t *conds[WORKER_CONDS];
    worker_conds(w, conds);
    size_t made = 0, n = WORKER_CONDS;
    int rc = pthread_mutex_init(&w->lock, NULL);
    if (rc != NQ_OK)
        return nq_err_sys(err, NQ_ESYSTEM, rc, "cannot make a mutex");
    while (made < n && (rc = nq_cond_init(conds[made])) == 0)
        made++;
    if (made == n && (w->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) >= 0)
        return NQ_OK;
    rc = made == n ? errno : rc;
    while (made > 0)
        pthread_cond_destroy(conds[--made]);
    pthread_mutex_destroy(&w->lock);
    return nq_err_sys(err, NQ_ESYSTEM, rc, "cannot make a worker");
}

static void worker_free_memory(nq_worker *w)
{
    for (size_t i = 0; i < w->nqueues; i++)
        for (size_t k = 0; k < NQ_FETCHERS; k++)
            nq_claimer_free(w->queues[i].claimers[k]);
    for (size_t i = 0; i < w->nhandlers; i++) {
        free(w->handlers[i].type);
        free(w->handlers[i].middleware);
        nq_limits_free(&w->handlers[i].limits);
    }
    for (unsigned i = 0; w->threads && i < w->opts.concurrency; i++)
        if (w->threads[i].wake_fd >= 0)
            close(w->threads[i].wake_fd);
    nq_many_free(w);
    free(w->queues);
    free(w->handlers);
    free(w->middleware);
    free(w->threads);
    free(w->types);
    nq_settings_unref(w->settings);
    nq_tally_free(w->tally);
    nq_lines_free(&w->lines);
    free(w);
}

NQ_PRIVATE void nq_worker_unref(nq_worker *w)
{
    if (atomic_fetch_sub(&w->refs, 1) > 1)
        return;
    pthread_cond_t *conds[WORKER_CONDS];
    worker_conds(w, conds);
    for (size_t i = 0; i < WORKER_CONDS; i++)
        pthread_cond_destroy(conds[i]);
    pthread_mutex_destroy(&w->lock);
    close(w->wake_fd);
    nq_zygote_stop(w);
    nq_zygote_free(w);
    worker_free_memory(w);
}

int nq_worker_new(nq_worker **out, nq *q, const nq_worker_options *opts, nq_err *err)
{
    int rc = nq_usable(q, err);
    if (rc != NQ_OK)
        return rc;
    if (!out)
        return nq_err_set(err, NQ_EINVAL, "out is NULL");
    nq_worker *w = calloc(1, sizeof *w);
    if (!w)
        return nq_err_nomem(err);
    nq_lines_init(&w->lines);
    if ((rc = nq_options_copy(&w->opts, sizeof w->opts, opts, "nq_worker_options", err)) != NQ_OK ||
        (rc = worker_options(&w->opts, err)) != NQ_OK || (rc = nq_queues_read(w, err)) != NQ_OK)
        goto out;
    w->q = q;
    w->store = nq_store_of(q);
    w->pid = getpid();
    w->seq_max = NQ_LEASE_SEQ_MAX;
    w->loan_fd = -1;
    w->listener.wake = nq_fetch_wake;
    w->listener.look = nq_cancels_wake;
    w->listener.arg = w;
    atomic_init(&w->refs, 1);
    nq_task_list_init(&w->ready);
    nq_task_list_init(&w->paced);
    nq_task_list_init(&w->ended);
    nq_task_list_init(&w->piggybacks);
    w->threads = calloc(w->opts.concurrency, sizeof *w->threads);
    for (unsigned i = 0; w->threads && i < w->opts.concurrency; i++) {
        w->threads[i].wake_fd = -1;
        nq_task_list_init(&w->threads[i].pipelined);
    }
    rc = w->threads ? nq_tally_new(&w->tally, err) : nq_err_nomem(err);
    rc = rc == NQ_OK ? worker_sync(w, err) : rc;
out:
    if (rc != NQ_OK)
        worker_free_memory(w);
    else
        *out = w;
    return rc;
}

void nq_worker_free(nq_worker *w)
{
    /* In a child of fork nothing is ours to free. */
    if (w && w->pid == getpid())
        nq_worker_unref(w);
}

/* ---- Looking on ---- */

void nq_worker_stats(const nq_worker *w, nq_worker_totals *out, size_t size)
{
    const nq_worker_totals t = {.claimed = atomic_load(&w->claimed),
                                .done = atomic_load(&w->done),
                                .retried = atomic_load(&w->retried),
                                .dead = atomic_load(&w->dead),
                                .snoozed = atomic_load(&w->snoozed),
                                .released = atomic_load(&w->released),
                                .lease_lost = atomic_load(&w->lease_lost),
                                .cancelled = atomic_load(&w->cancelled),
                                .running = atomic_load(&w->running)};
    memset(out, 0, size);
    memcpy(out, &t, size < sizeof t ? size : sizeof t);
}

int64_t nq_worker_silence_us(const nq_worker *w)
{
    int64_t since = atomic_load(&w->live_us);
    const int64_t calls[] = {atomic_load(&w->claiming_us[0]), atomic_load(&w->claiming_us[1]),
                             atomic_load(&w->recording_us)};
    if (since == 0)
        return -1;
    for (size_t i = 0; i < sizeof calls / sizeof calls[0]; i++)
        if (calls[i] != 0 && calls[i] < since)
            since = calls[i];
    int64_t silence = nq_mono_us() - since;
    return silence > 0 ? silence : 0;
}
