/* SPDX-License-Identifier: MIT */
/* nanoq: steering many tasks at once: those that a filter means. A part of nanoq_admin.h, which includes it.
 * docs/bulk.md */
#ifndef NANOQ_BULK_H
#define NANOQ_BULK_H

#include "nanoq_search.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What is done with each task that matches, and in which states that can be. Where the filter names neither
 * states nor ids those in brackets are meant; of ids without states all are found, and those in which it
 * cannot be done are counted. */
enum nq_bulk_action {
    NQ_BULK_RETRY = 0, /* as nq_retry does; any that does not run [dead] */
    NQ_BULK_CANCEL,    /* as nq_cancel does; waiting, running [both] */
    NQ_BULK_DELETE,    /* as nq_delete does; any that does not run [done, dead, cancelled] */
    NQ_BULK_MOVE,      /* to another queue; waiting [waiting] */
    NQ_BULK_PRIORITY   /* give it this priority; waiting [waiting] */
};

/* How far it has come. Of those found each is in one of the numbers behind it. */
typedef struct nq_bulk_counts {
    size_t size;
    uint64_t found;      /* tasks that match */
    uint64_t done;       /* of these: done; of a dry run: would be tried */
    uint64_t asked;      /* and of these done: they run, and will be cancelled */
    uint64_t changed;    /* did not match any more when it was their turn, or were gone */
    uint64_t state;      /* are in a state in which that cannot be done */
    uint64_t duplicates; /* a live task, or an earlier one of these, has their unique key */
    uint64_t locked;     /* a worker, or another transaction, was just at them */
    uint64_t refused;    /* the database does not take what would become of them */
    nq_id reached;       /* all up to this id were looked at, */
    nq_id last;          /* of this one, the highest that there was at the start */
    bool stopped;        /* by the limit, or by progress */
} nq_bulk_counts;
/* After each batch, in the thread of the call; non-zero stops it, which is no failure. It may call into the
 * same nq: no connection is held. */
typedef int (*nq_bulk_fn)(const nq_bulk_counts *so_far, void *udata);

typedef struct nq_bulk_options {
    size_t size;
    bool dry_run;        /* change nothing: how many are found, and how many would be tried */
    bool all;            /* a filter that means every task is meant so */
    uint64_t limit;      /* stop when so many are done; default: when all are */
    unsigned per_second; /* do no more in a second; default: a fifth of the time is for it, the
                            rest for others; a high one: as fast as goes */
    const char *queue;   /* NQ_BULK_MOVE: where to. A task of a group comes to the group of that name there,
                            unless this names one itself ("slow//7"): then all come into that */
    int priority;        /* NQ_BULK_PRIORITY */
    nq_bulk_fn progress;
    void *udata;
} nq_bulk_options;
#define NQ_BULK_BATCH 200 /* most tasks of one transaction */

/*
 * Do it with the tasks that match, in order of their ids, up to the highest id that there is at the start:
 * tasks that are added meanwhile are left alone. In batches of at most NQ_BULK_BATCH, each in a transaction
 * of its own: whatever is killed meanwhile, whole batches are done, and to call it again does the rest. Rows
 * that somebody else has locked are passed by and counted, and nobody waits long: a batch takes milliseconds,
 * and waits for nothing itself. A task is done with only if it matches still.
 *
 * A filter that says nothing, or only that tasks may be in any state, is NQ_EINVAL unless opts->all; so are
 * states none of which the action can be done in. opts may be NULL. counts->size is set, or counts is NULL;
 * the rest is written also where it fails: what had been done until then.
 *
 * Workers are woken after each batch. Thread-safe. Other errors as for nq_list, NQ_EREADONLY; NQ_EUNKNOWN:
 * the last batch may have been done, without being counted.
 */
NQ_API int nq_bulk(nq *q, const nq_filter *filter, enum nq_bulk_action action, const nq_bulk_options *opts,
                   nq_bulk_counts *counts, nq_err *err);

#ifdef __cplusplus
}
#endif
#endif
