/* SPDX-License-Identifier: MIT */
/* The processor: options, registration, counts, and the end of its memory. */
#include <errno.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "child.h"

#define PROCESSOR_MAX_CONCURRENCY 1024
#define PROCESSOR_MAX_BATCH       1000
#define PROCESSOR_BATCH           500 /* a commit costs as much as 50 to 100 tasks: docs/performance.md */

NQ_PRIVATE void nq_proc_log(const nq_proc *p, enum nq_log_level level, const char *fmt, ...)
{
    char text[768];
    va_list ap;
    if (!p->log)
        return;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    p->log(p->log_udata, level, text);
}

NQ_PRIVATE int64_t nq_away_failed(const nq_proc *p, struct nq_away *a, const char *what, const nq_err *err)
{
    int64_t now = nq_mono_us();
    bool first = a->pause_us == 0;
    if (first)
        a->since_us = now;
    if (first || now - a->logged_us >= NQ_SECONDS(30)) {
        nq_proc_log(p, NQ_LOG_WARN, "%s: %s", what, err->message);
        a->logged_us = now;
    }
    a->pause_us = first ? NQ_MS(100) : a->pause_us * 2;
    if (a->pause_us > NQ_SECONDS(5))
        a->pause_us = NQ_SECONDS(5);
    return a->pause_us;
}

NQ_PRIVATE void nq_away_ended(const nq_proc *p, struct nq_away *a, const char *what)
{
    if (a->pause_us == 0)
        return;
    nq_proc_log(p, NQ_LOG_INFO, "%s: works again after %.1f s", what,
                (double)(nq_mono_us() - a->since_us) / 1e6);
    a->pause_us = 0;
}

/* ---- Options ---- */

static int processor_duration(int64_t *value, int64_t fallback, int64_t least, const char *name, nq_err *err)
{
    if (*value == 0)
        *value = fallback;
    if (*value < least || *value > NQ_MAX_DURATION)
        return nq_err_set(err, NQ_EINVAL, "%s is %lld us; allowed are %lld us to ten years", name,
                          (long long)*value, (long long)least);
    return NQ_OK;
}

static int processor_retention(int64_t *value, int64_t fallback, const char *name, nq_err *err)
{
    if (*value == 0)
        *value = fallback;
    if (*value < -1 || *value > NQ_MAX_DURATION)
        return nq_err_set(err, NQ_EINVAL, "%s is %lld us; allowed are -1 (for ever) to ten years", name,
                          (long long)*value);
    return NQ_OK;
}

static int processor_options(nq_proc_options *o, nq_err *err)
{
    int rc;
    if (o->concurrency == 0)
        o->concurrency = 10;
    if (o->concurrency > PROCESSOR_MAX_CONCURRENCY)
        return nq_err_set(err, NQ_EINVAL, "concurrency is %u; allowed are 1 to %d", o->concurrency,
                          PROCESSOR_MAX_CONCURRENCY);
    if (o->batch == 0)
        o->batch = PROCESSOR_BATCH;
    if (o->batch > PROCESSOR_MAX_BATCH)
        return nq_err_set(err, NQ_EINVAL, "batch is %u; allowed are 1 to %d", o->batch, PROCESSOR_MAX_BATCH);
    if (o->max_crashes == 0)
        o->max_crashes = 3;
    if ((int)o->drain < NQ_DRAIN_NEVER || (int)o->drain > NQ_DRAIN_ALL)
        return nq_err_set(err, NQ_EINVAL, "drain is %d; see enum nq_drain", (int)o->drain);
    if ((rc = processor_duration(&o->shutdown_timeout_us, NQ_SECONDS(30), 0, "shutdown_timeout_us", err)) ||
        (rc = processor_duration(&o->cancel_grace_us, NQ_SECONDS(5), 0, "cancel_grace_us", err)) ||
        (rc = processor_duration(&o->lease_us, NQ_SECONDS(30), NQ_SECONDS(3), "lease_us", err)) ||
        (rc = processor_duration(&o->poll_us, NQ_SECONDS(1), NQ_MS(1), "poll_us", err)) ||
        (rc = processor_retention(&o->keep_done_us, 0, "keep_done_us", err)) ||
        (rc = processor_retention(&o->keep_dead_us, NQ_DAYS(7), "keep_dead_us", err)))
        return rc;
    return NQ_OK;
}

static int processor_feeds(nq_proc *p, nq_err *err)
{
    static const char *const fallback[] = {"default"};
    const char *const *names = p->opts.queues;
    size_t n = p->opts.nqueues;
    int rc;

    if (n == 0) {
        names = fallback;
        n = 1;
    }
    if (!names)
        return nq_err_set(err, NQ_EINVAL, "queues is NULL, but nqueues is not 0");
    p->feeds = calloc(n, sizeof *p->feeds);
    if (!p->feeds)
        return nq_err_nomem(err);
    for (size_t i = 0; i < n; i++) {
        struct nq_feed *feed = &p->feeds[i];
        if (!names[i])
            return nq_err_set(err, NQ_EINVAL, "queues[%zu] is NULL", i);
        if ((rc = nq_check_queue(names[i], err)) != NQ_OK)
            return rc;
        for (size_t k = 0; k < i; k++)
            if (strcmp(p->feeds[k].name, names[i]) == 0)
                return nq_err_set(err, NQ_EINVAL, "queue '%s' is named twice", names[i]);
        feed->name = strdup(names[i]);
        if (!feed->name)
            return nq_err_nomem(err);
        feed->hint = nq_hint_queue(feed->name);
        feed->pause_us = NQ_PAUSE_MIN_US;
        p->nfeeds = i + 1;
    }
    p->opts.queues = NULL; /* the caller's; ours are the feeds */
    return NQ_OK;
}

/* ---- Making and freeing ---- */

static int processor_sync(nq_proc *p, nq_err *err)
{
    pthread_cond_t *conds[] = {&p->fetch_cond, &p->ready_cond, &p->done_cond,
                               &p->watch_cond, &p->live_cond,  &p->bell_cond};
    size_t made = 0, n = sizeof conds / sizeof *conds;
    int rc = pthread_mutex_init(&p->lock, NULL);
    if (rc)
        return nq_err_sys(err, NQ_ESYSTEM, rc, "cannot make a mutex");
    while (made < n && (rc = nq_cond_init(conds[made])) == 0)
        made++;
    if (made == n && (p->poke_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) >= 0)
        return NQ_OK;
    rc = made == n ? errno : rc;
    while (made > 0)
        pthread_cond_destroy(conds[--made]);
    pthread_mutex_destroy(&p->lock);
    return nq_err_sys(err, NQ_ESYSTEM, rc, "cannot make a processor");
}

static void processor_free_memory(nq_proc *p)
{
    for (size_t i = 0; i < p->nfeeds; i++) {
        nq_claimer_free(p->feeds[i].claimer);
        free(p->feeds[i].name);
    }
    for (size_t i = 0; i < p->nroutes; i++) {
        free(p->routes[i].type);
        free(p->routes[i].layers);
        nq_limits_free(&p->routes[i].limits);
    }
    for (unsigned i = 0; p->slots && i < p->opts.concurrency; i++)
        if (p->slots[i].wake_fd >= 0)
            close(p->slots[i].wake_fd);
    free(p->feeds);
    free(p->routes);
    free(p->layers);
    free(p->slots);
    free(p->types);
    free(p);
}

NQ_PRIVATE void nq_proc_unref(nq_proc *p)
{
    if (atomic_fetch_sub(&p->refs, 1) > 1)
        return;
    pthread_cond_t *conds[] = {&p->fetch_cond, &p->ready_cond, &p->done_cond,
                               &p->watch_cond, &p->live_cond,  &p->bell_cond};
    for (size_t i = 0; i < sizeof conds / sizeof *conds; i++)
        pthread_cond_destroy(conds[i]);
    pthread_mutex_destroy(&p->lock);
    close(p->poke_fd);
    nq_zygote_stop(p);
    nq_zygote_free(p);
    processor_free_memory(p);
}

int nq_proc_new(nq_proc **out, nq *q, const nq_proc_options *opts, nq_err *err)
{
    int rc = nq_usable(q, err);
    if (rc != NQ_OK)
        return rc;
    if (!out)
        return nq_err_set(err, NQ_EINVAL, "out is NULL");
    nq_proc *p = calloc(1, sizeof *p);
    if (!p)
        return nq_err_nomem(err);
    if ((rc = nq_options_copy(&p->opts, sizeof p->opts, opts, "nq_proc_options", err)) != NQ_OK ||
        (rc = processor_options(&p->opts, err)) != NQ_OK || (rc = processor_feeds(p, err)) != NQ_OK)
        goto out;
    p->q = q;
    p->store = nq_store_of(q);
    p->log = p->store->log;
    p->log_udata = p->store->log_udata;
    p->pid = getpid();
    p->seq_max = NQ_LEASE_SEQ_MAX;
    p->listener.wake = nq_fetch_wake;
    p->listener.look = nq_steer_look;
    p->listener.arg = p;
    atomic_init(&p->refs, 1);
    nq_jobs_init(&p->ready);
    nq_jobs_init(&p->ended);
    nq_jobs_init(&p->along);
    p->slots = calloc(p->opts.concurrency, sizeof *p->slots);
    for (unsigned i = 0; p->slots && i < p->opts.concurrency; i++) {
        p->slots[i].wake_fd = -1;
        nq_jobs_init(&p->slots[i].ahead);
    }
    rc = p->slots ? processor_sync(p, err) : nq_err_nomem(err);
out:
    if (rc != NQ_OK)
        processor_free_memory(p);
    else
        *out = p;
    return rc;
}

void nq_proc_free(nq_proc *p)
{
    /* In a child of fork nothing is ours to free. */
    if (p && p->pid == getpid())
        nq_proc_unref(p);
}

/* ---- Registration ---- */

NQ_PRIVATE int nq_proc_may_register(const nq_proc *p, nq_err *err)
{
    if (!p)
        return nq_err_set(err, NQ_EINVAL, "the processor is NULL");
    if (p->zygote)
        return nq_err_set(err, NQ_EINVAL,
                          "nq_proc_fork was called: what is registered now would be unknown to the children");
    if (atomic_load(&p->started))
        return nq_err_set(err, NQ_EINVAL, "handlers and middleware are registered before nq_proc_run");
    return nq_usable(p->q, err);
}

static int processor_layers(struct nq_route *r, const nq_handle_options *o, nq_err *err)
{
    if (o->nmiddleware == 0)
        return NQ_OK;
    for (size_t i = 0; i < o->nmiddleware; i++)
        if (!o->middleware || !o->middleware[i].fn)
            return nq_err_set(err, NQ_EINVAL, "middleware[%zu] is NULL", i);
    r->layers = calloc(o->nmiddleware, sizeof *r->layers);
    if (!r->layers)
        return nq_err_nomem(err);
    memcpy(r->layers, o->middleware, o->nmiddleware * sizeof *r->layers);
    r->nlayers = o->nmiddleware;
    return NQ_OK;
}

int nq_proc_handle(nq_proc *p, const char *type, nq_handler handler, void *udata,
                   const nq_handle_options *opts, nq_err *err)
{
    nq_handle_options o;
    struct nq_route r = {.fn = handler, .udata = udata}, *grown;
    int rc = nq_proc_may_register(p, err);
    if (rc != NQ_OK)
        return rc;
    if (!handler)
        return nq_err_set(err, NQ_EINVAL, "the handler is NULL");
    if (type && (rc = nq_check_type(type, err)) != NQ_OK)
        return rc;
    if (nq_route_find(p, type))
        return type ? nq_err_set(err, NQ_EINVAL, "type '%s' has a handler already", type)
                    : nq_err_set(err, NQ_EINVAL, "there is a handler of every other type already");
    if ((rc = nq_options_copy(&o, sizeof o, opts, "nq_handle_options", err)) != NQ_OK)
        return rc;
    r.max_crashes = o.max_crashes ? o.max_crashes : p->opts.max_crashes;
    r.isolated = o.isolation == NQ_PROCESS;
    if ((rc = nq_limits_read(&r.limits, &o, err)) != NQ_OK || (rc = processor_layers(&r, &o, err)) != NQ_OK)
        goto out;
    if (type && !(r.type = strdup(type)))
        goto nomem;
    grown = realloc(p->routes, (p->nroutes + 1) * sizeof *grown);
    if (!grown)
        goto nomem;
    p->routes = grown;
    p->routes[p->nroutes++] = r;
    return NQ_OK;
nomem:
    rc = nq_err_nomem(err);
out:
    free(r.type);
    free(r.layers);
    nq_limits_free(&r.limits);
    return rc;
}

int nq_proc_use(nq_proc *p, nq_middleware middleware, void *udata, nq_err *err)
{
    int rc = nq_proc_may_register(p, err);
    if (rc != NQ_OK)
        return rc;
    if (!middleware)
        return nq_err_set(err, NQ_EINVAL, "the middleware is NULL");
    nq_layer *grown = realloc(p->layers, (p->nlayers + 1) * sizeof *grown);
    if (!grown)
        return nq_err_nomem(err);
    p->layers = grown;
    p->layers[p->nlayers].fn = middleware;
    p->layers[p->nlayers++].udata = udata;
    return NQ_OK;
}

void nq_proc_count(const nq_proc *p, nq_proc_counts *out)
{
    out->claimed = atomic_load(&p->claimed);
    out->done = atomic_load(&p->done);
    out->retried = atomic_load(&p->retried);
    out->dead = atomic_load(&p->dead);
    out->snoozed = atomic_load(&p->snoozed);
    out->released = atomic_load(&p->released);
    out->lease_lost = atomic_load(&p->lease_lost);
    out->cancelled = atomic_load(&p->cancelled);
    out->running = atomic_load(&p->running);
}

int64_t nq_proc_silence_us(const nq_proc *p)
{
    int64_t since = atomic_load(&p->live_us);
    const int64_t calls[] = {atomic_load(&p->claiming_us), atomic_load(&p->recording_us)};
    if (since == 0)
        return -1;
    for (size_t i = 0; i < sizeof calls / sizeof calls[0]; i++) {
        if (calls[i] != 0 && calls[i] < since)
            since = calls[i];
    }
    int64_t silence = nq_mono_us() - since;
    return silence > 0 ? silence : 0;
}
