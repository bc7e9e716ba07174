/* SPDX-License-Identifier: MIT */
/* history.c: the attempts of a task that did not end well. */
#ifndef NQ_STORE_HISTORY_H
#define NQ_STORE_HISTORY_H

#include "store.h"

/* An attempt as it is written; times and numbers out of bounds are left out, or cut. */
typedef struct nq_tried {
    nq_id id;
    int64_t generation, attempt;
    int outcome;        /* enum nq_attempt_outcome */
    uint64_t lease;     /* tells the worker's name, while the worker lives; 0: nobody's */
    const char *worker; /* its name, where it is known to be gone; NULL: look */
    int64_t started_us; /* 0: it did not start, or that is not known */
    const char *error;  /* may be NULL */
    size_t error_size;
} nq_tried;

/* In the open transaction that has these outcomes take effect: write them, in few statements; of each task
 * the newest NQ_MAX_ATTEMPTS_KEPT stay. */
NQ_PRIVATE int nq_history_add(nq_conn *c, const nq_tried tried[], size_t n, nq_err *err);
/* Is an outcome of this kind told of? */
static inline bool nq_outcome_told(enum nq_outcome_kind kind)
{
    return kind == NQ_OUT_RETRY || kind == NQ_OUT_DEAD || kind == NQ_OUT_CANCELLED;
}
/* Those of these outcomes that took effect and are to be told of, with what was read of their rows. */
NQ_PRIVATE int nq_history_failed(nq_conn *c, nq_outcome *const outcomes[], size_t n, nq_err *err);
/* Ids may have begun again: what is told of an earlier task with the id of this one goes. */
NQ_PRIVATE int nq_history_forget(nq_conn *c, nq_id id, nq_err *err);
/* A nq_duty's sweep: delete the rows of up to limit tasks that are gone. */
NQ_PRIVATE int nq_store_history_sweep(nq_store *s, size_t limit, size_t *n, nq_err *err);

/* Of a table with a column task_id: the tasks of up to `limit` of its rows' that are neither live nor ended,
 * behind *cursor, which moves on, and returns to the start at the end. Their rows are deleted. *n: tasks. */
NQ_PRIVATE int nq_store_sweep_gone(nq_store *s, const char *table, _Atomic int64_t *cursor, size_t limit,
                                   size_t *n, nq_err *err);

#endif
