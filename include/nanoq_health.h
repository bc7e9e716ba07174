/* SPDX-License-Identifier: MIT */
/* nanoq: is everything as it should be? Included by nanoq_admin.h. */
#ifndef NANOQ_HEALTH_H
#define NANOQ_HEALTH_H

#include "nanoq.h"

#ifdef __cplusplus
extern "C" {
#endif

/*
 * CHECKS of the database, of its settings and of what stands in the tables: docs/doctor.md has the list, with
 * what each says and what to do. A number is never given to another check.
 */
#define NQ_CHECKS 24

enum nq_check_level {
    NQ_CHECK_OK = 0,
    NQ_CHECK_WARNING = 1,       /* it works, and somebody should look */
    NQ_CHECK_ERROR = 2,         /* something does not work, or may lose tasks */
    NQ_CHECK_UNKNOWN = 3,       /* it could not be seen: `found` says why, a privilege for instance */
    NQ_CHECK_NOT_APPLICABLE = 4 /* there is no such thing in this database */
};
/* "ok", "warning", "error", "unknown", "not applicable"; NULL for an unknown number. */
NQ_API const char *nq_check_level_name(int level);

/* The library's, like nq_info: later versions append. Strings are never NULL. */
typedef struct nq_check {
    unsigned number;   /* 1 to NQ_CHECKS */
    const char *name;  /* "clock": a word that stays */
    int level;         /* enum nq_check_level */
    const char *found; /* what was seen, a sentence with the figure. Names that stand in the database are in
                          it, as one line, but NOT safe for a terminal as they are */
    const char *todo;  /* what to do about it; "": nothing */
} nq_check;
/* Called per check; the pointers are valid until it returns; non-zero stops, which is no failure. It may call
 * into the same nq. */
typedef int (*nq_check_fn)(const nq_check *check, void *udata);

/*
 * Make all checks, in order of number. It needs no worker and no tables of this version (check 1 says so),
 * and changes nothing. It reads a bounded number of rows, each by an index, so it takes less than a second
 * however many tasks there are; what it could not read for that reason it says. Thread-safe. Errors, all
 * before fn is called: NQ_EINVAL (fn is NULL), NQ_ENOMEM, NQ_EFORK, those of a connection. What one check
 * cannot see is no error: NQ_CHECK_UNKNOWN.
 */
NQ_API int nq_doctor(nq *q, nq_check_fn fn, void *udata, nq_err *err);

/*
 * WHAT WORKERS DID. Each adds to rows of its own (nanoq_minutes) every 10 s, and when it ends: how many tasks
 * of which queue and type ended how, how long they had been due when they began, and how long they ran. A row
 * is of a minute, after two days of an hour, and gone after 30 days. A worker tells 64 pairs of queue and
 * type apart between two writings; what is more is "(other)". Groups count with their queue.
 */
enum nq_by { NQ_BY_BOTH = 0, NQ_BY_QUEUE, NQ_BY_TYPE, NQ_BY_NONE };

typedef struct nq_minutes_options {
    size_t size;
    int64_t since_us; /* from the minute of this time on, microseconds since 1970; below 0: so long before
                         until_us, by the database's clock; default: an hour */
    int64_t until_us; /* up to this time; default: now */
    int by;           /* enum nq_by: a row for each queue and type, each queue, each type, or one of all */
} nq_minutes_options;

/* Of a number of durations. Percentiles come of a histogram whose buckets double: they are right within a
 * factor of 2, and mostly much closer. */
typedef struct nq_spread {
    uint64_t n;
    int64_t mean_us, p50_us, p95_us, p99_us;
} nq_spread;

/* The library's, like nq_info. Strings are never NULL, and NOT safe for a terminal as they are. */
typedef struct nq_figures {
    const char *queue, *type; /* "" where rows are not by it */
    uint64_t done, retried, dead, cancelled, snoozed;
    int64_t since_us, until_us; /* what was asked for, and the defaults */
    nq_spread wait; /* from when a task was due until it began, by its worker's clock and the database's */
    nq_spread run;  /* of the handler; tasks that did not begin have neither */
} nq_figures;
typedef int (*nq_minutes_fn)(const nq_figures *figures, void *udata);

/* What they did, in order of queue and type; what happened in the last 10 s is not there yet. fn as for
 * nq_doctor, no connection is held. opts may be NULL. Thread-safe. Errors, all before fn is called: NQ_EINVAL
 * (fn is NULL, or an option), NQ_ENOTMIGRATED, NQ_ESCHEMA, NQ_ENOMEM, NQ_EFORK, those of a connection. */
NQ_API int nq_minutes(nq *q, const nq_minutes_options *opts, nq_minutes_fn fn, void *udata, nq_err *err);

#ifdef __cplusplus
}
#endif
#endif
