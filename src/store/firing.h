/* SPDX-License-Identifier: MIT */
/* What schedules.c and firing.c share: a schedule that is being fired. */
#ifndef NQ_STORE_FIRING_H
#define NQ_STORE_FIRING_H

#include "../core/zone.h"
#include "store.h"

/* A row of {schedules} that is locked. */
typedef struct nq_due {
    char name[NQ_MAX_SCHEDULE + 1], spec[NQ_MAX_SPEC + 1], zone[NQ_MAX_ZONE + 1], queue[NQ_MAX_QUEUE + 1];
    bool named, readable; /* named: its name can be bound again; readable: the others are what they may be */
    bool has_next, tagged;
    bool zoned; /* next_at was computed by a file of its zone, if not here */
    int64_t next_us, changed_us, last_us, starts_us, ends_us, jitter_us, now_us;
    nq_id task_id; /* the last one; 0: none */
    int misfire, overlap;
    int64_t zone_at; /* to be written */
} nq_due;

/* In the open transaction: this time comes, unless it has come before. *id: the task, 0: none was made, as
 * the one before lives and they are not to overlap; by_hand: that is NQ_EDUPLICATE. */
NQ_PRIVATE int nq_fire_time(nq_conn *c, nq_due *r, int64_t due_us, bool by_hand, nq_id *id, nq_err *err);
/* It is stopped from now on, for this reason. */
NQ_PRIVATE int nq_fire_stop(nq_conn *c, const nq_due *r, const nq_err *why, nq_err *err);

#endif
