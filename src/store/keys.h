/* SPDX-License-Identifier: MIT */
/* Tasks whose unique keys are looked after: those that replace, append, or keep their key for a time. */
#ifndef NQ_STORE_KEYS_H
#define NQ_STORE_KEYS_H

#include "store.h"

/* ---- keys.c: nq_store_enqueue, */

/* For a driver, in the transaction of a claim: the tasks that have their keys until they start. */
NQ_PRIVATE int nq_keys_free(nq_conn *c, const nq_claimed *list, nq_err *err);

/* ---- place.c */

/* One statement, of a template with {full:...} names, where the enqueue takes place. Rows answer 0. */
NQ_PRIVATE int nq_place_sql(const nq_place *p, const char *template_sql, const nq_val args[], size_t nargs,
                            nq_row_fn row, void *arg, nq_err *err);
/* In our transaction: begin it anew. In the caller's: NQ_ECONFLICT. */
NQ_PRIVATE int nq_place_again(nq_err *err);

/* Append a line feed and n more bytes to the payload; false: it would have more than `most`, and stays. */
NQ_PRIVATE bool nq_payload_append(nq_buf *payload, const void *more, size_t n, size_t most);

/* ---- windows.c */

/* Has a window that goes on this key? *id: the task that took it; 0: none has. */
NQ_PRIVATE int nq_window_look(const nq_place *p, const uint8_t key[32], nq_id *id, nq_err *err);
/* Open one for this task. *taker: the task that has it, perhaps another. */
NQ_PRIVATE int nq_window_open(const nq_place *p, const uint8_t key[32], nq_id id, int64_t window_us,
                              nq_id *taker, nq_err *err);
/* Delete up to limit that have ended. */
NQ_PRIVATE int nq_store_windows_sweep(nq_store *s, size_t limit, size_t *n, nq_err *err);

/* ---- latest.c */

/*
 * The follow-ups that replace or append, of the key of follow-up `first`: the newest one that
 * replaces becomes the task, or its waiting task; what is appended after it goes to the end of that. Those of
 * a running one wait; of those that replace only the newest does. *made: a task was made, or changed.
 */
NQ_PRIVATE int nq_store_promote_latest(nq_store *s, nq_id first, size_t *made, bool *more, nq_err *err);
/* Append the INSERT that makes a task of a follow-up. */
NQ_PRIVATE void nq_followup_insert(const nq_store *s, nq_buf *sql, nq_id id);

#endif
