/* SPDX-License-Identifier: MIT */
/* results.c: what done tasks leave for whoever waits for them. */
#ifndef NQ_STORE_RESULTS_H
#define NQ_STORE_RESULTS_H

#include "store.h"

#define NQ_RESULT_KEEP NQ_HOURS(1) /* a result, where its task does not say how long */

/* In the open transaction that has just kept the records of these outcomes: write what is kept with those
 * that have a keep_us and took effect. */
NQ_PRIVATE int nq_results_add(nq_conn *c, nq_outcome *const outcomes[], size_t n, nq_err *err);
/* The same of one in the caller's transaction. */
NQ_PRIVATE int nq_result_in(const nq_store *s, nq_tx tx, const nq_outcome *o, nq_err *err);
/* The result of a task that is done. */
typedef struct nq_result {
    bool kept; /* there is one, or (bytes are none) the task is kept for a time of its own, */
    bool there;
    int64_t until_us; /* until then */
    nq_buf bytes;
} nq_result;
NQ_PRIVATE int nq_result_read(nq_conn *c, nq_id id, nq_result *out, nq_err *err);
/* In the open transaction that has the task run again, or go. */
NQ_PRIVATE int nq_result_forget(nq_conn *c, nq_id id, nq_err *err);
/* Is there any? Then a purge has to pass by those that are kept for a time of their own. */
NQ_PRIVATE int nq_results_any(nq_conn *c, bool *any, nq_err *err);
/* A condition on a row of {finished}: it is such a one. Of what was made in the run that its record is of: an
 * earlier run's, or an earlier task's of the same id, was made before that ended. */
#define NQ_RESULT_OF(table) "r.task_id = " table ".id AND r.made_at >= " table ".finished_at"
#define NQ_RESULT_KEEPS                                                                                      \
    "EXISTS (SELECT 1 FROM {results} r WHERE " NQ_RESULT_OF("{finished}") " AND r.keep_until >= {now})"
/* A duty's sweep: delete up to limit results whose time is over, each with the record of its task. */
NQ_PRIVATE int nq_store_results_sweep(nq_store *s, size_t limit, size_t *n, nq_err *err);

#endif
