/* SPDX-License-Identifier: MIT */
/* Counting: count.c the tasks that a filter means, depths.c those of each queue. */
#ifndef NQ_STORE_COUNT_H
#define NQ_STORE_COUNT_H

#include "store.h"

/* A count that stops at `most`. *more: there are more, or may be: bounded, where it looked up to reached
 * only. */
NQ_PRIVATE int nq_store_count(nq_store *s, const nq_where *w, uint64_t most, uint64_t look, nq_counted *out,
                              nq_err *err);
/* The count of the next tasks by id, in the range behind out->reached, added to out; *end: that was the last.
 */
NQ_PRIVATE int nq_store_count_on(nq_store *s, const nq_where *w, nq_counted *out, bool *end, nq_err *err);
/* The highest id of a task; 0: there is none. */
NQ_PRIVATE int nq_store_last_id(nq_store *s, nq_id *id, nq_err *err);

/* Of each number of a queue, where there are few queues; all together so many. Beyond that it is capped. */
#define NQ_DEPTH_MOST  10000
#define NQ_DEPTH_ALL   20000
#define NQ_DEPTH_LEAST 1000
typedef struct nq_depth {
    nq_queue_stats s; /* but its name, */
    char queue[NQ_MAX_QUEUE + 1];
    uint64_t most;
    bool self[2], grouped[2]; /* in {finished}, in {tasks}: there are rows of it, of its groups */
} nq_depth;
/* Of each queue, in order of their names; to be freed. */
NQ_PRIVATE int nq_store_depths(nq_store *s, nq_depth **out, size_t *n, nq_err *err);

#endif
