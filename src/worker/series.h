/* SPDX-License-Identifier: MIT */
/* series.c: what a worker did since it was made, by queue and type; for metrics. */
#ifndef NQ_WORKER_SERIES_H
#define NQ_WORKER_SERIES_H

#include "../core/core.h"
#include "../store/store.h"
#include "tally.h"

#define NQ_SERIES_MAX     1000 /* pairs of queue and type; what is more is of "other" queue and type */
#define NQ_SERIES_BUCKETS 20

enum nq_series_verdict {
    NQ_SERIES_DONE,
    NQ_SERIES_RETRY,
    NQ_SERIES_DEAD,
    NQ_SERIES_CANCELLED,
    NQ_SERIES_SNOOZE,
    NQ_SERIES_VERDICTS
};

/* counts: not cumulative; the last one is above all bounds */
typedef struct nq_series_times {
    uint64_t counts[NQ_SERIES_BUCKETS], sum_us;
} nq_series_times;

typedef struct nq_series {
    char queue[NQ_MAX_QUEUE + 1], type[NQ_MAX_TYPE + 1];
    uint64_t verdicts[NQ_SERIES_VERDICTS], crashes;
    nq_series_times wait, run;
} nq_series;

/* Nobody's lock: the caller has one. */
typedef struct nq_series_set {
    nq_series *all;
    size_t n, cap;
    size_t nqueues, ntypes; /* distinct ones */
} nq_series_set;

/* tally.c: what that worker did so far; all is to be freed. False: no memory. Any thread. */
NQ_PRIVATE bool nq_tally_series(nq_tally *t, nq_series_set *out);
/* Add a row of counts. Without memory for a new pair it is not counted. */
NQ_PRIVATE void nq_series_add(nq_series_set *set, const char *queue, const char *type,
                              const nq_counts *counts);
/* The upper bound of bucket i, which is not the last. */
NQ_PRIVATE uint64_t nq_series_bound_us(size_t i);

#endif
