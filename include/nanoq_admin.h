/* SPDX-License-Identifier: MIT */
/* nanoq: look at tasks and steer them: list, show, retry, cancel, delete, count. */
#ifndef NANOQ_ADMIN_H
#define NANOQ_ADMIN_H

#include "nanoq.h"

#ifdef __cplusplus
extern "C" {
#endif

/* docs/states.md has the diagram. The numbers are those of the state columns. */
enum nq_state {
    NQ_STATE_WAITING = 0,  /* due now or later, or to be retried */
    NQ_STATE_RUNNING = 1,  /* claimed by a worker */
    NQ_STATE_DONE = 2,     /* kept only where keep_done says so */
    NQ_STATE_DEAD = 3,     /* out of attempts, discarded, or crashed too often */
    NQ_STATE_CANCELLED = 4 /* by nq_cancel */
};

/* "waiting", "running", ...; NULL for an unknown number. */
NQ_API const char *nq_state_name(int state);
/* The state of a name, or NQ_EINVAL. */
NQ_API int nq_state_from_name(const char *name);

/* One task as stored. Strings are never NULL; a time that is not set is 0. */
typedef struct nq_info {
    nq_id id;
    int state; /* enum nq_state */
    const char *queue;
    const char *type;
    const void *payload; /* followed by a NUL that is not counted; nq_list: its first 256 bytes */
    size_t payload_size; /* the whole size, also in nq_list */
    const char *error;   /* the last attempt's, or "" */
    const char *worker;  /* of a running task: the worker's name, host:pid; else "" */
    int priority;
    unsigned attempts; /* failed ones so far */
    unsigned crashes;
    unsigned max_retries;
    unsigned generation;
    int64_t timeout_us, created_at_us, run_at_us, claimed_at_us, finished_at_us;
    bool cancelling; /* it runs, and nq_cancel was called */
    /* What the running attempt told by nq_ctx_progress, a second ago perhaps; progress_at_us 0: nothing. */
    int64_t progress_done, progress_total, progress_at_us;
    const char *progress_note; /* bytes of the handler's: NOT safe for a terminal as it is */
} nq_info;

/* Called per task; the pointers are valid until it returns; non-zero stops the listing. It must not call
 * into the same nq. */
typedef int (*nq_info_fn)(const nq_info *info, void *udata);

typedef struct nq_list_options {
    size_t size;
    const char *queue; /* default any */
    const char *type;  /* default any */
    int state;         /* enum nq_state; only looked at with state_set */
    bool state_set;    /* list only `state`; default: every state */
    nq_id after;       /* only ids above it: the last id of the page before */
    unsigned limit;    /* default 100, at most 10000 */
} nq_list_options;

/* List tasks by id. A reading outside any transaction: rows may change while it goes on. */
NQ_API int nq_list(nq *q, const nq_list_options *opts, nq_info_fn fn, void *udata, nq_err *err);
/* Show one task. NQ_ENOTFOUND. */
NQ_API int nq_get(nq *q, nq_id id, nq_info_fn fn, void *udata, nq_err *err);

/* Run it now: a dead, cancelled or done task goes back to waiting, attempts and crashes from zero; one that
 * waits becomes due. NQ_ENOTFOUND; NQ_ESTATE when running; NQ_EDUPLICATE when a live task has its key. */
NQ_API int nq_retry(nq *q, nq_id id, nq_err *err);
/*
 * Cancel a task. One that waits is taken out of the queue and kept as cancelled. For one that runs the
 * request is recorded, and its handler told (NQ_CAUSE_CANCEL): at once on this host where hints work, else at
 * the next heartbeat of its worker, which is at most 5 s away. It never runs again: when the attempt ends,
 * in whatever way (failed, snoozed, released, its worker died), the task is kept as cancelled; unless the
 * handler answers NQ_DONE, then it is done. A cancelled attempt counts as no failure. Asking again is no
 * error. NQ_ENOTFOUND; NQ_ESTATE when it has ended. A task that was to follow it (see nq_enqueue) still
 * comes.
 */
NQ_API int nq_cancel(nq *q, nq_id id, nq_err *err);
/* Delete a task that does not run. NQ_ENOTFOUND; NQ_ESTATE when it runs. Follows as for nq_cancel. */
NQ_API int nq_delete(nq *q, nq_id id, nq_err *err);

typedef struct nq_queue_stats {
    const char *queue;
    uint64_t due, delayed, running, done, dead, cancelled; /* due + delayed = waiting */
    int64_t oldest_due_us; /* how long the longest due task has been due; 0 when none is */
} nq_queue_stats;
/* Counts per queue, in order of name; the pointers are valid until fn returns; non-zero stops. It counts
 * rows, so its cost grows with the backlog. */
NQ_API int nq_stats(nq *q, int (*fn)(const nq_queue_stats *stats, void *udata), void *udata, nq_err *err);

/* The SQL that nq_migrate would run on tables of schema version `from`, 0: on an empty database, of this
 * URL's kind and prefix. *sql is freed with nq_free. Needs no connection. NQ_EINVAL: there is no such
 * version. */
NQ_API int nq_migration_sql(char **sql, const char *url, unsigned from, nq_err *err);
NQ_API void nq_free(void *memory);

/*
 * DESTRUCTIVE: drop this handle's tables (those of its URL's prefix, no others) with every task in them, done
 * ones and dead ones too. Nothing is asked and nothing is refused: not when tasks wait, not when workers
 * run, which from then on fail with NQ_ENOTMIGRATED. On MySQL and MariaDB it commits by itself, table by
 * table, and needs the privilege DROP; after a failure call it again. Tables that are not there are no error.
 */
NQ_API int nq_drop_tables(nq *q, nq_err *err);

/* "250ms", "5s", "5m", "2h", "7d", "1h30m", "1.5s"; a bare number is seconds. 0..NQ_MAX_DURATION.
 * NQ_EINVAL says what was wrong and what is allowed. Thread-safe. */
NQ_API int nq_parse_duration(const char *text, int64_t *us, nq_err *err);
/* "2026-01-31T12:00:00.000000Z" into out. */
NQ_API void nq_format_time(int64_t us, char out[28]);

#ifdef __cplusplus
}
#endif
#endif
