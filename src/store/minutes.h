/* SPDX-License-Identifier: MIT */
/* minutes.c: what workers did, by minute, queue and type. */
#ifndef NQ_STORE_MINUTES_H
#define NQ_STORE_MINUTES_H

#include "store.h"

/* Bucket b of a histogram counts durations from 2^b up to 2^(b+1) microseconds; the first one 0 too, the last
 * one, from 6.4 days on, all that are longer. */
#define NQ_BUCKETS 40

typedef struct nq_counts {
    uint64_t done, retried, dead, cancelled, snoozed;
    uint64_t wait_us, run_us; /* sums, of those that are in the histograms */
    uint32_t wait[NQ_BUCKETS], run[NQ_BUCKETS];
    uint64_t crashed; /* of them all, those whose process died; for metrics, and not written */
} nq_counts;

typedef struct nq_minute {
    char queue[NQ_MAX_QUEUE + 1], type[256];
    nq_counts counts;
} nq_minute;

static inline unsigned nq_log2_bucket(int64_t us)
{
    const unsigned b = us < 2 ? 0 : 63 - (unsigned)__builtin_clzll((unsigned long long)us);
    return b < NQ_BUCKETS ? b : NQ_BUCKETS - 1;
}
NQ_PRIVATE void nq_counts_add(nq_counts *to, const nq_counts *from);

/* Add to this worker's rows of the database's current minute. *now_us: its clock, whatever the answer;
 * NQ_EUNKNOWN: perhaps it did. */
NQ_PRIVATE int nq_store_minutes_add(nq_store *s, uint64_t worker, const nq_minute *const rows[], size_t n,
                                    int64_t *now_us, nq_err *err);
/* Merge what is older than two days into rows of an hour, each once whoever else does the same; delete what
 * is older than 30 days. Some at a time; *n: as limit where there is more to do. */
NQ_PRIVATE int nq_store_minutes_sweep(nq_store *s, size_t limit, size_t *n, nq_err *err);
/* Sums by queue, by type, by both or by neither, of the rows from since_us up to until_us; *out is to be
 * freed. */
NQ_PRIVATE int nq_store_minutes_read(nq_store *s, int64_t since_us, int64_t until_us, bool by_queue,
                                     bool by_type, nq_minute **out, size_t *n, nq_err *err);

#endif
