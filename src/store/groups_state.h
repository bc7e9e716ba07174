/* SPDX-License-Identifier: MIT */
/* What a claimer knows of the groups of its queue: groups.c and groups_closed.c. */
#ifndef NQ_STORE_GROUPS_STATE_H
#define NQ_STORE_GROUPS_STATE_H

#include "groups.h"

#define GROUPS_MAX_WINDOW 256
/* Places where a claimer may go on. */
#define GROUPS_MARKS 16
/* Of so many groups at most it is kept until when their rates let nothing start. */
#define GROUPS_CLOSED 1024

/* Only where something is limited. */
struct nq_groups_rates {
    nq_gate_clock clock;
    nq_bucket all, each[GROUPS_MAX_WINDOW];
    struct nq_group_closed {
        uint64_t name; /* its hash */
        int64_t opens_us, shut_us;
    } closed[GROUPS_CLOSED];
};

struct nq_groups {
    nq_store *store;
    char *queue;
    char base[NQ_MAX_QUEUE + 1]; /* the queue, or that whose group it is */
    char from[NQ_MAX_QUEUE + 3]; /* all groups are between these names */
    char to[NQ_MAX_QUEUE + 3];
    bool some;
    int64_t probed_us; /* our clock at the last probe; 0: none yet */
    size_t window;
    bool at_queue;                /* the next turn is the queue's own; else of the groups behind */
    nq_groups_look look;          /* .after */
    char start[NQ_MAX_QUEUE + 3]; /* the pass ends with this group, */
    bool from_queue;              /* or before the queue, with which it began, */
    bool wrapped;                 /* when it has come round */
    bool over;
    bool shut;                     /* or before that: the limit of the whole queue leaves nothing */
    bool queue_first;              /* the window that was given last began with the queue, */
    char behind[NQ_MAX_QUEUE + 3]; /* or behind this name */
    bool seen;                     /* by the pass: a group */
    int64_t wait_us;               /* by the pass: until a task is due; -1: none waits */
    nq_group groups[GROUPS_MAX_WINDOW];
    nq_turn turns[GROUPS_MAX_WINDOW];
    size_t nturns;
    size_t looked;                  /* at groups, for these turns */
    bool lean;                      /* many of them gave none: the next window will have to look at more */
    bool alone;                     /* its name is a group's: it has no groups itself */
    const nq_settings *settings;    /* NULL: nothing is set */
    nq_gate gate;                   /* of the queue with all groups */
    bool gated;                     /* a turn, or the queue, is limited, */
    bool counted;                   /* in what may run */
    bool full;                      /* by the pass: a group that is due is at its limit */
    struct nq_groups_rates *rates;  /* NULL: nothing was limited yet */
    uint64_t heeded;                /* the hash of the settings that these are of */
    int64_t closed_us, opens_us;    /* see nq_groups_closed, and nq_groups_opens of this pass */
    char strange[NQ_MAX_QUEUE + 1]; /* a group with tasks that nothing would ever claim */
    char marks[GROUPS_MARKS][NQ_MAX_QUEUE + 3]; /* other places in the ring, */
    size_t nmarks;
    bool crowded; /* because others claim at this one */
};

/* ---- groups_closed.c: does it keep the group from a turn? Then when it may be asked again is kept. */
NQ_PRIVATE bool nq_groups_is_closed(nq_groups *g, const char *queue);
NQ_PRIVATE bool nq_groups_is_held(nq_groups *g, const char *queue);
/* Places for what the gates will say, and what they said. */
NQ_PRIVATE int nq_groups_buckets(nq_groups *g, nq_err *err);
NQ_PRIVATE void nq_groups_heard(nq_groups *g);

#endif
