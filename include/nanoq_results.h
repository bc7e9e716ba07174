/* SPDX-License-Identifier: MIT */
/* nanoq: waiting for tasks, and what is remembered of them: results, failed attempts. A part of
 * nanoq_admin.h, which includes it. */
#ifndef NANOQ_RESULTS_H
#define NANOQ_RESULTS_H

#include "nanoq_admin.h"

#ifdef __cplusplus
extern "C" {
#endif

/*
 * ATTEMPTS that did not end well: the newest NQ_MAX_ATTEMPTS_KEPT of each task, written in the transaction of
 * their outcome. A success writes nothing, nor does an attempt that was snoozed or given back. They go some
 * time after the task has gone. docs/results.md
 */
#define NQ_MAX_ATTEMPTS_KEPT 20

/* How an attempt ended. The numbers are those of the column. */
enum nq_attempt_outcome {
    NQ_ATTEMPT_FAILED = 1,    /* and the task was to run again */
    NQ_ATTEMPT_DEAD = 2,      /* it failed for the last time; or the database refused the task as it is */
    NQ_ATTEMPT_CRASHED = 3,   /* its process died */
    NQ_ATTEMPT_CANCELLED = 4, /* by nq_cancel */
    NQ_ATTEMPT_EXPIRED = 5    /* it was too late to begin */
};
/* "failed", "dead", ...; NULL for an unknown number. */
NQ_API const char *nq_attempt_outcome_name(int outcome);

/* The library's, like nq_info. Strings are never NULL; a time that is not known is 0. */
typedef struct nq_attempt_row {
    nq_id task_id;
    unsigned generation;   /* the claim that it began with: nq_task.generation */
    unsigned attempt;      /* 1 for the first; 0: nothing was attempted yet */
    int outcome;           /* enum nq_attempt_outcome */
    int64_t started_at_us; /* when it was claimed */
    int64_t ended_at_us;   /* when its end was recorded; of a crash, when it was found */
    const char *worker; /* host:pid, or "": its worker was gone before anybody saw it. NOT safe for a terminal
                           as it is, */
    const char *error;  /* no more than this: at most NQ_MAX_ERROR bytes; or "" */
} nq_attempt_row;
/* Called per attempt; the pointers are valid until it returns; non-zero stops, which is no failure. It may
 * call into the same nq. */
typedef int (*nq_attempt_fn)(const nq_attempt_row *row, void *udata);
/* The failed attempts of a task that lives or is kept, the newest first. None is no error. Thread-safe.
 * Errors, all before fn is called: NQ_ENOTFOUND (there is no such task), NQ_EINVAL (fn is NULL), and as for
 * nq_list. */
NQ_API int nq_attempts(nq *q, nq_id id, nq_attempt_fn fn, void *udata, nq_err *err);

/*
 * WAIT until tasks have ended. fn (may be NULL) is called for each that has, once, as soon as it is seen, in
 * the thread that waits, with what nq_get shows of it, its result too (nq_ctx_result); non-zero stops the
 * waiting, which is no failure. It may call into the same nq.
 */
enum nq_wait_for {
    NQ_WAIT_ALL = 0, /* until none of them is live */
    NQ_WAIT_ANY      /* until one has ended, or is not here, as what is done and not kept */
};
/*
 * Wait for tasks. ids: n of them, at most NQ_MAX_WAIT; a repetition counts once. timeout_us: at most so long;
 * 0 is NQ_FOREVER, NQ_ZERO looks once. Between processes of one host whoever ends a task tells who waits;
 * elsewhere it is seen by looks after 2, 4, ... 250 ms. A database that goes away meanwhile is waited for.
 * Tasks that are retried by hand before they are seen to have ended are waited for again.
 *
 * NQ_OK: they have ended, in whatever state. NQ_ENOTFOUND: so it is with those that are here, but one or more
 * are not: done and not kept (keep_us of their spec keeps them), deleted, never enqueued, or not committed;
 * the message names the first. NQ_ETIMEOUT: the time is up, the message says how many had not ended.
 * Thread-safe. Others: NQ_EINVAL, NQ_ENOMEM, and as for nq_get.
 */
#define NQ_MAX_WAIT 100000
NQ_API int nq_wait(nq *q, const nq_id ids[], size_t n, int wait_for, int64_t timeout_us, nq_info_fn fn,
                   void *udata, nq_err *err);

#ifdef __cplusplus
}
#endif
#endif
