/* SPDX-License-Identifier: MIT */
/* Series of metrics: counts by queue and type, of a bounded number of both. */
#include "series.h"

#define SERIES_OTHER "other"
#define SERIES_FIRST 10 /* the first bound is 2^10 us, 1.024 ms; */
#define SERIES_FINE  15 /* so many double, up to 16.8 s; the rest are four times the one before */

static unsigned series_log2(size_t i)
{
    return SERIES_FIRST + (unsigned)(i < SERIES_FINE ? i : 2 * i - SERIES_FINE + 1);
}

NQ_PRIVATE uint64_t nq_series_bound_us(size_t i)
{
    return UINT64_C(1) << series_log2(i);
}

static nq_series *series_find(nq_series_set *set, const char *queue, const char *type)
{
    for (size_t i = 0; i < set->n; i++)
        if (strcmp(set->all[i].type, type) == 0 && strcmp(set->all[i].queue, queue) == 0)
            return &set->all[i];
    return NULL;
}

static void series_known(const nq_series_set *set, const char *queue, const char *type, bool *queue_known,
                         bool *type_known)
{
    for (size_t i = 0; i < set->n; i++) {
        *queue_known = *queue_known || strcmp(set->all[i].queue, queue) == 0;
        *type_known = *type_known || strcmp(set->all[i].type, type) == 0;
    }
}

static nq_series *series_new(nq_series_set *set, const char *queue, const char *type)
{
    nq_series *all = nq_grow(set->all, set->n, &set->cap, sizeof *all);
    bool queue_known = false, type_known = false;
    if (!all)
        return NULL;
    set->all = all;
    series_known(set, queue, type, &queue_known, &type_known);
    set->nqueues += !queue_known;
    set->ntypes += !type_known;
    nq_series *s = &all[set->n++];
    memset(s, 0, sizeof *s);
    memcpy(s->queue, queue, strnlen(queue, sizeof s->queue - 1));
    memcpy(s->type, type, strnlen(type, sizeof s->type - 1));
    return s;
}

static nq_series *series_of(nq_series_set *set, const char *queue, const char *type)
{
    bool queue_known = false, type_known = false;
    nq_series *s = series_find(set, queue, type);
    if (s)
        return s;
    series_known(set, queue, type, &queue_known, &type_known);
    const bool full = set->n >= NQ_SERIES_MAX;
    if (full || (!queue_known && set->nqueues >= NQ_METRICS_VALUES))
        queue = SERIES_OTHER;
    if (full || (!type_known && set->ntypes >= NQ_METRICS_VALUES))
        type = SERIES_OTHER;
    s = series_find(set, queue, type);
    return s ? s : series_new(set, queue, type);
}

static void series_times(nq_series_times *to, const uint32_t buckets[NQ_BUCKETS], uint64_t sum_us)
{
    size_t at = 0;
    for (unsigned b = 0; b < NQ_BUCKETS; b++) {
        while (at < NQ_SERIES_BUCKETS - 1 && b >= series_log2(at))
            at++;
        to->counts[at] += buckets[b];
    }
    to->sum_us += sum_us;
}

NQ_PRIVATE void nq_series_add(nq_series_set *set, const char *queue, const char *type,
                              const nq_counts *counts)
{
    nq_series *s = series_of(set, queue, type);
    if (!s)
        return;
    s->verdicts[NQ_SERIES_DONE] += counts->done;
    s->verdicts[NQ_SERIES_RETRY] += counts->retried;
    s->verdicts[NQ_SERIES_DEAD] += counts->dead;
    s->verdicts[NQ_SERIES_CANCELLED] += counts->cancelled;
    s->verdicts[NQ_SERIES_SNOOZE] += counts->snoozed;
    s->crashes += counts->crashed;
    series_times(&s->wait, counts->wait, counts->wait_us);
    series_times(&s->run, counts->run, counts->run_us);
}
