/* SPDX-License-Identifier: MIT */
/* schedules.c: firing the schedules that are due. */
#ifndef NQ_STORE_SCHEDULES_H
#define NQ_STORE_SCHEDULES_H

#include "store.h"

/* At most so many bytes has "nq-schedule: NAME 1790000000000000\n" beside the name. */
#define NQ_SCHEDULE_HEADER  36
#define NQ_MAX_SCHEDULE     100 /* bytes of a schedule's name */
#define NQ_MAX_ZONE         64
#define NQ_SCHEDULES_DUE    50            /* schedules of one transaction */
#define NQ_SCHEDULES_LACKED 4             /* zones that this host lacks, by name */
#define NQ_SCHEDULES_MISSED 1000          /* times of one schedule that "all" makes up for, the last ones */
#define NQ_SCHEDULES_LATE   NQ_MINUTES(1) /* a time that is later than this was missed */
#define NQ_SCHEDULES_NEVER  INT64_C(253402300799999999) /* next_at of one that is over: the end of 9999 */

/* What a worker knows of schedules from one look to the next; {0} at first. */
typedef struct nq_scheduler {
    int64_t zones_us;  /* when the files of zones were looked at last, by our clock */
    int64_t lacked_us; /* until then those zones are left to other hosts: */
    char lacked[NQ_SCHEDULES_LACKED][NQ_MAX_ZONE + 1];
    size_t nlacked;                    /* more than there is room for: all but UTC */
    uint64_t queues[NQ_SCHEDULES_DUE]; /* out: the hints for the tasks that were made */
    size_t n;                          /* of these; out */
    int64_t wait_us;                   /* out: how soon to look again */
} nq_scheduler;

/* Fire what is due, each time once whoever else does the same. Cheap where there is nothing: one statement.
 */
NQ_PRIVATE int nq_store_fire(nq_store *s, nq_scheduler *state, nq_err *err);
/* Fire this one now, out of its turn. *id: the task. NQ_ENOTFOUND; NQ_EDUPLICATE: one task of it lives, and
 * it is not to overlap: *id; NQ_EINVAL: its row is not usable. *queue: the hint. */
NQ_PRIVATE int nq_store_fire_now(nq_store *s, const char *name, nq_id *id, uint64_t *queue, nq_err *err);
/* May a schedule have this name? */
NQ_PRIVATE bool nq_schedule_named(const char *name);

/* The first time of a schedule that was set, or resumed, at since_us; NQ_SCHEDULES_NEVER: none. *zone_at:
 * when the zone's file was written, 0: there is none. NQ_EINVAL: spec or zone; NQ_ESYSTEM: this host has no
 * zones. */
NQ_PRIVATE int nq_schedule_first(const char *spec, const char *zone, int64_t since_us, int64_t starts_us,
                                 int64_t ends_us, int64_t *next_us, int64_t *zone_at, nq_err *err);

#endif
