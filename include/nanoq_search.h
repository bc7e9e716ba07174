/* SPDX-License-Identifier: MIT */
/* nanoq: which tasks are meant: the filter that listing, counting and steering many tasks share. A part of
 * nanoq_admin.h, which includes it. docs/search.md */
#ifndef NANOQ_SEARCH_H
#define NANOQ_SEARCH_H

#include "nanoq.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The time that since_us and until_us of a filter are about. */
enum nq_filter_time {
    NQ_BY_CREATED = 0,
    NQ_BY_RUN_AT,
    NQ_BY_FINISHED /* of ended tasks only: the others have none */
};

/*
 * A task matches if it matches every field that is set: for queues, groups and types one of the names, for
 * tags all of them. {.size = sizeof(nq_filter)} matches every task. Texts are compared byte for byte; no
 * character but the star that is named here has a meaning.
 */
typedef struct nq_filter {
    size_t size;
    const char *const
        *queues;    /* "mail": with its groups; "mail//42": that group; "ma*": whatever begins so */
    size_t nqueues; /* at most NQ_MAX_LIST_NAMES, as of the others */
    const char *const *groups; /* of each of the queues, none of which ends in a star then: any text */
    size_t ngroups;
    const char *const *types; /* "mail.*": whatever begins so */
    size_t ntypes;
    const char *const *tags; /* at most NQ_MAX_TAGS; those that have all of them */
    size_t ntags;
    unsigned states;    /* a NQ_STATE_BIT for each; default: any */
    const char *error;  /* the last error has this in it */
    const void *text;   /* the payload or the headers have this in them, */
    size_t text_size;   /* so many bytes; 0: up to its NUL */
    int time;           /* enum nq_filter_time */
    int64_t since_us;   /* at this time or later, microseconds since 1970; 0: at any */
    int64_t until_us;   /* and before this one; 0: at any */
    const char *worker; /* running tasks of the worker of this name, host:pid; "web-1:*" */
    const nq_id *ids;   /* one of these, whether there is such a task or not; in any order */
    size_t nids;        /* at most NQ_MAX_FILTER_IDS */
} nq_filter;
#define NQ_MAX_FILTER_IDS  1000
#define NQ_MAX_FILTER_TEXT 4096 /* most bytes of error and text */

/*
 * How far an answer reaches. What an index leads to is answered whole: ids, queues, states, types of ended
 * tasks, tags, times of ending, where these are few; and what is frequent is found soon. For the rest a call
 * looks at some number of tasks only (`look`, default NQ_DEFAULT_LOOK), in the order that was asked for, and
 * then says how far it came; the next call may go on there.
 */
typedef struct nq_bounds {
    size_t size;
    bool bounded;  /* out: there may be more that match, beyond reached */
    nq_id reached; /* out: what comes up to this id in that order was looked at; where bounded */
} nq_bounds;
#define NQ_DEFAULT_LOOK 100000

/* How many there are. */
typedef struct nq_counted {
    size_t size;
    uint64_t n;
    bool more;     /* at least so many: it stopped at `most`, or was stopped; or it is bounded */
    bool bounded;  /* so many among those that were looked at, as nq_bounds says, */
    nq_id reached; /* the newest first, down to this id; of an exact count: up to this id so far, */
    nq_id last;    /* of this one */
} nq_counted;
/* How far an exact count has come, every 20,000 tasks; non-zero stops it, which is no failure. It may call
 * into the same nq. */
typedef int (*nq_counted_fn)(const nq_counted *so_far, void *udata);

typedef struct nq_count_options {
    size_t size;
    bool exact;    /* go through all ids where need be: seconds for millions of tasks */
    uint64_t most; /* without that: stop at so many; default NQ_DEFAULT_COUNT, at most 1,000,000 */
    uint64_t look; /* as nq_list_options.look */
    nq_counted_fn progress;
    void *udata;
} nq_count_options;
#define NQ_DEFAULT_COUNT 10000

/* Count the tasks that match; filter NULL: all. opts may be NULL. out->size is set; the rest is written on
 * success only. An exact count takes many readings: each task counts once, as it was at one moment of the
 * call. Thread-safe. Errors as for nq_list. */
NQ_API int nq_count(nq *q, const nq_filter *filter, const nq_count_options *opts, nq_counted *out,
                    nq_err *err);

#ifdef __cplusplus
}
#endif
#endif
