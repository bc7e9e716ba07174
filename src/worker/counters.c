/* SPDX-License-Identifier: MIT */
/* nq_worker_metrics: what a worker did, from memory. */
#include <stdio.h>

#include "series.h"
#include "worker.h"

static const char *const counters_verdicts[NQ_SERIES_VERDICTS] = {
    [NQ_SERIES_DONE] = "done",           [NQ_SERIES_RETRY] = "retry",   [NQ_SERIES_DEAD] = "dead",
    [NQ_SERIES_CANCELLED] = "cancelled", [NQ_SERIES_SNOOZE] = "snooze",
};

static void counters_attempts(nq_buf *b, const nq_series_set *set)
{
    nq_family(b, "nanoq_attempts_total", "counter",
              "Attempts that this worker recorded, by what became of the task.");
    for (size_t i = 0; i < set->n; i++)
        for (size_t v = 0; v < NQ_SERIES_VERDICTS; v++) {
            const nq_series *s = &set->all[i];
            const nq_label labels[] = {
                {"queue", s->queue}, {"type", s->type}, {"verdict", counters_verdicts[v]}};
            if (s->verdicts[v] > 0 || v == NQ_SERIES_DONE)
                nq_sample_u64(b, "nanoq_attempts_total", labels, 3, s->verdicts[v]);
        }
}

/* The last of nlabels + 1 labels is made here. */
static void counters_histogram(nq_buf *b, const char *name, nq_label labels[], size_t nlabels,
                               const nq_series_times *t)
{
    char with[64];
    nq_buf bound = {0};
    uint64_t n = 0;
    snprintf(with, sizeof with, "%s_bucket", name);
    for (size_t i = 0; i < NQ_SERIES_BUCKETS; i++) {
        n += t->counts[i];
        nq_buf_clear(&bound);
        if (i < NQ_SERIES_BUCKETS - 1)
            nq_exposed_us(&bound, nq_series_bound_us(i));
        else
            nq_buf_str(&bound, "+Inf");
        b->failed = b->failed || bound.failed;
        labels[nlabels] = (nq_label){"le", bound.failed ? "" : bound.p};
        nq_sample_u64(b, with, labels, nlabels + 1, n);
    }
    nq_buf_free(&bound);
    snprintf(with, sizeof with, "%s_sum", name);
    nq_sample_us(b, with, labels, nlabels, t->sum_us);
    snprintf(with, sizeof with, "%s_count", name);
    nq_sample_u64(b, with, labels, nlabels, n);
}

static void counters_durations(nq_buf *b, const nq_series_set *set)
{
    static const char name[] = "nanoq_attempt_duration_seconds";
    nq_family(b, name, "histogram", "How long handlers ran.");
    for (size_t i = 0; i < set->n; i++) {
        nq_label labels[] = {{"queue", set->all[i].queue}, {"type", set->all[i].type}, {NULL, NULL}};
        counters_histogram(b, name, labels, 2, &set->all[i].run);
    }
}

/* Is there one before i with the same text at that place in it? */
static bool counters_seen(const nq_series_set *set, size_t i, size_t offset)
{
    const char *text = (const char *)&set->all[i] + offset;
    for (size_t k = 0; k < i; k++)
        if (strcmp((const char *)&set->all[k] + offset, text) == 0)
            return true;
    return false;
}

static void counters_waits(nq_buf *b, const nq_series_set *set)
{
    static const char name[] = "nanoq_queue_wait_seconds";
    nq_family(b, name, "histogram", "How long tasks had been due when their attempts began.");
    for (size_t i = 0; i < set->n; i++) {
        nq_series_times sum = {0};
        nq_label labels[] = {{"queue", set->all[i].queue}, {NULL, NULL}};
        if (counters_seen(set, i, offsetof(nq_series, queue)))
            continue;
        for (size_t k = i; k < set->n; k++) {
            const nq_series_times *t = &set->all[k].wait;
            if (strcmp(set->all[k].queue, set->all[i].queue) != 0)
                continue;
            sum.sum_us += t->sum_us;
            for (size_t at = 0; at < NQ_SERIES_BUCKETS; at++)
                sum.counts[at] += t->counts[at];
        }
        counters_histogram(b, name, labels, 1, &sum);
    }
}

static void counters_crashes(nq_buf *b, const nq_series_set *set)
{
    nq_family(b, "nanoq_crashes_total", "counter",
              "Attempts whose process died, of this worker's children or of a worker whose tasks this one "
              "took over.");
    for (size_t i = 0; i < set->n; i++) {
        const nq_label label = {"type", set->all[i].type};
        uint64_t n = 0;
        if (counters_seen(set, i, offsetof(nq_series, type)))
            continue;
        for (size_t k = i; k < set->n; k++)
            n += strcmp(set->all[k].type, set->all[i].type) == 0 ? set->all[k].crashes : 0;
        nq_sample_u64(b, "nanoq_crashes_total", &label, 1, n);
    }
}

int nq_worker_metrics(const nq_worker *w, nq_metrics_fn fn, void *udata, nq_err *err)
{
    nq_series_set set = {0};
    nq_buf b = {0};
    int rc = w ? nq_usable(w->q, err) : nq_err_set(err, NQ_EINVAL, "the worker is NULL");
    if (rc != NQ_OK)
        return rc;
    if (!fn)
        return nq_err_set(err, NQ_EINVAL, "no function to write metrics with was given");
    if (!nq_tally_series(w->tally, &set))
        return nq_err_nomem(err);
    counters_attempts(&b, &set);
    counters_durations(&b, &set);
    counters_waits(&b, &set);
    counters_crashes(&b, &set);
    nq_family(&b, "nanoq_lease_lost_total", "counter",
              "Outcomes without effect: the task was another claim's by then, or gone.");
    nq_sample_u64(&b, "nanoq_lease_lost_total", NULL, 0, atomic_load(&w->lease_lost));
    nq_family(&b, "nanoq_handlers_running", "gauge", "Tasks that this worker runs just now.");
    nq_sample_u64(&b, "nanoq_handlers_running", NULL, 0, atomic_load(&w->running));
    free(set.all);
    if (b.failed) {
        nq_buf_free(&b);
        return nq_err_nomem(err);
    }
    fn(b.p, b.n, udata);
    nq_buf_free(&b);
    return NQ_OK;
}
