/* SPDX-License-Identifier: MIT */
/* nanoq: the logs of tasks: what handlers write while they run, kept with the task. A part of nanoq_admin.h,
 * which includes it. docs/logs.md */
#ifndef NANOQ_LOGS_H
#define NANOQ_LOGS_H

#include "nanoq.h"

#ifdef __cplusplus
extern "C" {
#endif

#define NQ_MAX_LOG_LINE  4000  /* bytes of a line; what is longer is cut, and says so */
#define NQ_MAX_LOG_LINES 1000  /* of one attempt, and */
#define NQ_MAX_LOG_BYTES 65536 /* bytes of all of them; a last line says that more was left out */
#define NQ_MAX_LOG_RUNS  20    /* of a task, the newest whose lines are kept */

/*
 * Write to the log of the task: a line, or several with line feeds between them. Cheap: it is kept in memory,
 * and the worker writes what is new about once a second, and when it ends; so the last second is lost when
 * its process dies, and what comes while the database is away is kept up to some megabytes. No attempt waits
 * for its log, or fails because of it. Kept as long as the task is, of which each run (claim) has lines of
 * its own; the log of a task that is done and not kept is gone with it. Not for secrets. Callable from any
 * thread until the handler returns, in isolated handlers too.
 */
NQ_API void nq_ctx_log(nq_ctx *ctx, enum nq_log_level level, const char *fmt, ...) NQ_PRINTF(3, 4);
/* The same of n bytes that need not be text. */
NQ_API void nq_ctx_log_bytes(nq_ctx *ctx, enum nq_log_level level, const void *text, size_t n);

/* The library's, like nq_info. */
typedef struct nq_log_row {
    nq_id task_id;
    unsigned generation; /* the claim: nq_task.generation */
    unsigned seq;        /* 1 for the first line of it */
    int level;           /* enum nq_log_level */
    int64_t at_us;       /* when it was written, by the database's clock */
    const char *text;    /* NOT safe for a terminal as it is; may have NUL in it, and has one behind it */
    size_t n;
} nq_log_row;
/* Called per line; the pointers are valid until it returns; non-zero stops, which is no failure. It may call
 * into the same nq. */
typedef int (*nq_log_row_fn)(const nq_log_row *row, void *udata);

typedef struct nq_logs_options {
    size_t size;
    unsigned after_generation, after_seq; /* only what comes behind this line */
    size_t limit;                         /* lines; default 1000, at most 10000 */
} nq_logs_options;

/* The lines of a task that lives or is kept, the oldest first. None is no error. opts may be NULL.
 * Thread-safe. Errors, all before fn is called: NQ_ENOTFOUND (there is no such task), NQ_EINVAL (fn is NULL,
 * or an option), and as for nq_list. */
NQ_API int nq_logs(nq *q, nq_id id, const nq_logs_options *opts, nq_log_row_fn fn, void *udata, nq_err *err);
/* How many there are. Written on success. Thread-safe. Errors: NQ_EINVAL (n is NULL), else as for nq_logs. */
NQ_API int nq_logs_count(nq *q, nq_id id, uint64_t *n, nq_err *err);

#ifdef __cplusplus
}
#endif
#endif
