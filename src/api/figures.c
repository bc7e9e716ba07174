/* SPDX-License-Identifier: MIT */
/* nq_minutes: what workers did lately, with percentiles. */
#include "api.h"

/* The duration below which the given part of these lies; within a bucket they are taken to lie evenly. */
static int64_t figures_percentile(const uint32_t buckets[NQ_BUCKETS], double part)
{
    uint64_t n = 0, before = 0;
    for (size_t i = 0; i < NQ_BUCKETS; i++)
        n += buckets[i];
    const double rank = part * (double)n;
    for (size_t i = 0; i < NQ_BUCKETS && n > 0; i++) {
        const double from = i ? (double)((int64_t)1 << i) : 0, to = (double)((int64_t)2 << i);
        if (buckets[i] && (double)(before + buckets[i]) >= rank)
            return (int64_t)(from + (to - from) * ((rank - (double)before) / (double)buckets[i]));
        before += buckets[i];
    }
    return 0;
}

static nq_spread figures_spread(const uint32_t buckets[NQ_BUCKETS], uint64_t sum)
{
    nq_spread s = {0};
    for (size_t i = 0; i < NQ_BUCKETS; i++)
        s.n += buckets[i];
    s.mean_us = s.n ? (int64_t)(sum / s.n) : 0;
    s.p50_us = figures_percentile(buckets, 0.5);
    s.p95_us = figures_percentile(buckets, 0.95);
    s.p99_us = figures_percentile(buckets, 0.99);
    return s;
}

static int figures_order(const void *a, const void *b)
{
    const nq_minute *x = a, *y = b;
    const int order = strcmp(x->queue, y->queue);
    return order ? order : strcmp(x->type, y->type);
}

static int figures_now(nq_conn *c, void *arg, nq_err *err)
{
    return nq_sql(c, "SELECT {us:now}", NULL, 0, nq_checks_int_row, arg, NULL, err);
}

static int figures_range(nq_store *s, const nq_minutes_options *o, int64_t *since, int64_t *until,
                         nq_err *err)
{
    int64_t now = 0;
    if (o->by < NQ_BY_BOTH || o->by > NQ_BY_NONE)
        return nq_err_set(err, NQ_EINVAL,
                          "by is %d, allowed are NQ_BY_BOTH, NQ_BY_QUEUE, NQ_BY_TYPE and NQ_BY_NONE", o->by);
    if (o->until_us < 0)
        return nq_err_set(err, NQ_EINVAL, "until_us is microseconds since 1970, and not negative");
    const int rc = nq_store_do(s, figures_now, &now, err);
    if (rc != NQ_OK)
        return rc;
    *until = o->until_us ? o->until_us : now;
    *since = o->since_us > 0               ? o->since_us
             : o->since_us == 0            ? *until - NQ_HOURS(1)
             : *until > -(o->since_us + 1) ? *until + o->since_us
                                           : 0;
    if (*since >= *until || *until > INT64_C(253402300799999999))
        return nq_err_set(err, NQ_EINVAL, "since_us is not before until_us, or that is behind the year 9999");
    *since -= *since % NQ_MINUTES(1);
    return NQ_OK;
}

static int figures_told(const nq_minute *m, int64_t since, int64_t until, nq_minutes_fn fn, void *udata)
{
    const nq_counts *c = &m->counts;
    const nq_figures f = {.queue = m->queue,
                          .type = m->type,
                          .done = c->done,
                          .retried = c->retried,
                          .dead = c->dead,
                          .cancelled = c->cancelled,
                          .snoozed = c->snoozed,
                          .since_us = since,
                          .until_us = until,
                          .wait = figures_spread(c->wait, c->wait_us),
                          .run = figures_spread(c->run, c->run_us)};
    return fn(&f, udata);
}

NQ_API int nq_minutes(nq *q, const nq_minutes_options *opts, nq_minutes_fn fn, void *udata, nq_err *err)
{
    nq_minutes_options o = {.size = sizeof o};
    nq_minute *all = NULL;
    size_t n = 0;
    int64_t since = 0, until = 0;
    int rc = nq_usable(q, err);
    if (rc == NQ_OK)
        rc = nq_options_copy(&o, sizeof o, opts, "nq_minutes_options", err);
    if (rc == NQ_OK && !fn)
        rc = nq_err_set(err, NQ_EINVAL, "no function to tell the figures to was given");
    if (rc == NQ_OK)
        rc = nq_ready(q, err);
    if (rc == NQ_OK)
        rc = figures_range(nq_store_of(q), &o, &since, &until, err);
    if (rc == NQ_OK)
        rc = nq_store_minutes_read(nq_store_of(q), since, until, o.by == NQ_BY_BOTH || o.by == NQ_BY_QUEUE,
                                   o.by == NQ_BY_BOTH || o.by == NQ_BY_TYPE, &all, &n, err);
    if (n > 1)
        qsort(all, n, sizeof *all, figures_order);
    for (size_t i = 0; rc == NQ_OK && i < n; i++)
        if (figures_told(&all[i], since, until, fn, udata))
            break;
    free(all);
    return rc;
}
