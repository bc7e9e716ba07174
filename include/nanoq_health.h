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

#ifdef __cplusplus
}
#endif
#endif
