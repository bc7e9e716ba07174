/* SPDX-License-Identifier: MIT */
/* Groups of a queue: what is looked at, and the turns that a claim gives them. */
#ifndef NQ_STORE_GROUPS_H
#define NQ_STORE_GROUPS_H

#include "settings.h"

/* ---- What a driver finds and is given ---- */

/* The year 1. What is before it (0000-00-00 reads as NULL, and of MIN() as a time before) cannot be told to a
 * server: a claim or a look goes from the head then. */
#define NQ_TIME_FIRST INT64_C(-62135596800000000)

/* A group with waiting tasks, or the queue itself: at its first priority with a due one, else where the next
 * one is due. */
typedef struct nq_group {
    char queue[NQ_MAX_QUEUE + 1];
    int priority;
    int64_t first_run_at;
    bool strange; /* as of nq_look */
    bool running; /* some of it does; where the look sees that without asking */
} nq_group;

/* Groups of a queue in order of their names: those behind `after`, up to `most`, and before `to`. */
typedef struct nq_groups_look {
    const char *to;
    nq_buf after; /* in and out */
    size_t most;
    nq_group *groups; /* room for most */
    bool dirty;       /* what others have not committed yet may be seen, where that is cheaper */
    size_t n;
    bool some; /* out: there are groups, with tasks that wait or run */
    bool end;  /* out: none are behind these */
    int64_t now_us;
} nq_groups_look;

/* The database's clock, for a claimer. */
typedef struct nq_gate_clock {
    int64_t offset_us; /* ours shows so much more */
    bool known;
    int64_t ahead_us; /* a claim is made so long after it looked at the gates */
    int64_t now_us;   /* when it did so last, */
    int64_t from_us;  /* and by our clock */
    bool raced;       /* others took what it was to take */
    size_t room;      /* what the gates left to the last claim */
    bool shut;        /* that of the whole queue left nothing to it */
    bool nodes;       /* the server is one of several: a transaction may lose its beginning unnoticed */
} nq_gate_clock;

/* What a gate leaves to one claim. */
typedef struct nq_bucket {
    nq_rate rate;
    nq_tokens tokens;
    size_t taken;
    int64_t tat_ns;   /* as the row said */
    bool there;       /* the row was, for drivers that need one */
    int64_t at_us;    /* no start before */
    int64_t opens_us; /* nothing before, by our clock; 0: that is not known */
    nq_id next;       /* of an ordered group: the only task that may be claimed; 0: none */
    int64_t shut_us;  /* of one: until when its head waits, by our clock; INT64_MAX: it is halted; 0 */
} nq_bucket;

/* A group that is to have a turn in a claim. */
typedef struct nq_turn {
    const char *queue;
    int priority;
    int64_t from_run_at;
    nq_id from_id; /* as of nq_claim_args */
    size_t most;
    int64_t max_running; /* of the group, those that run included; 0: no limit */
    int weight;
    int ordered;       /* of the group: enum nq_ordered; where it is, max_running is 1 */
    nq_rate rate;      /* of the group */
    nq_bucket *bucket; /* where it is limited */
} nq_turn;
/* turns.c: their shares, by weight, of what is wanted; the first ones have what is left over. Each has one at
 * least: there are no more turns than are wanted. */
NQ_PRIVATE void nq_turns_share(nq_turn turns[], size_t n, size_t wanted);
/* Is it the task's queue and group? */
NQ_PRIVATE bool nq_turn_is_of(const nq_turn *t, const nq_claimed *k);
static inline bool nq_turn_is_gated(const nq_turn *t)
{
    return t->max_running > 0 || t->rate.every_ns > 0;
}

/* A limit of a queue with its groups, which are between two names. */
typedef struct nq_gate {
    const char *queue, *from, *to;
    int64_t max_running; /* 0: only turns are limited, or it has a rate */
    nq_rate rate;
    nq_bucket *bucket;
    nq_gate_clock *clock;
} nq_gate;
static inline bool nq_gate_is_needed(const nq_gate *g)
{
    return g->max_running > 0 || g->rate.every_ns > 0;
}

/* Of what the limit of the whole queue leaves to a claim of so many, the share of a turn. */
static inline size_t nq_turn_share(const nq_turn *t, size_t all, size_t limit)
{
    return all >= limit ? t->most : (t->most * all + limit - 1) / limit;
}

/* Of a turn's types, the i-th; "": that one counts for nothing in it. */
static inline const char *nq_claim_type(const nq_claim_args *a, const char *queue, size_t i)
{
    const char *group = a->groups ? a->groups[i] : NULL;
    return group && (strcmp(group, queue) == 0) == a->others ? "" : a->types[i];
}

/* ---- exchange.c: claims that take the places of what their piggybacks end */

/* Once the piggyback is done: did as many end as the claim is to take? True where it does not exchange. */
NQ_PLUG_IN bool nq_claim_may(const nq_claim_args *a);
/* What a claimer keeps of its last claim that counted, under which settings; and how many it may exchange. */
typedef struct nq_exchange {
    uint64_t settings;
    int64_t until_us;
    bool full; /* it left less than was wanted */
} nq_exchange;
NQ_PRIVATE void nq_exchange_counted(nq_exchange *e, const nq_settings *settings, size_t room, size_t wanted);
NQ_PRIVATE size_t nq_exchange_most(const nq_exchange *e, const nq_settings *settings, const nq_piggyback *p,
                                   const char *queue);

/* bury.c: bury waiting tasks of this queue that nothing would ever claim, though they look as if they were
 * due.
 */
NQ_PRIVATE int nq_bury_strange(nq_store *store, const char *queue, nq_err *err);

/* ---- rates.c: for a driver. Behind the locks of the gates: the database's clock, read between these two of
 * ours; then each bucket, of what its row says, which brings the room down. */
NQ_PLUG_IN void nq_gate_clock_read(nq_gate_clock *c, int64_t before_us, int64_t now_us, int64_t after_us);
NQ_PLUG_IN void nq_bucket_open(nq_bucket *b, const nq_rate *rate, const nq_gate_clock *c, int64_t tat_ns,
                               int64_t not_before_us, size_t *room);
/* And of an ordered group: nothing before this time of the database; INT64_MAX: it is halted. */
NQ_PLUG_IN void nq_bucket_shut(nq_bucket *b, const nq_gate_clock *c, int64_t until_us);
/* Give each task its time, and take the tokens. What is to be written into the row where some were taken. */
NQ_PLUG_IN void nq_gate_assign(const nq_gate *g, const nq_turn turns[], size_t n, nq_claimed *list);
NQ_PRIVATE int64_t nq_bucket_tat(const nq_bucket *b);
/* For the claimer, when it is made: how long that took; and when there will be tokens, by our clock; 0: now.
 */
NQ_PRIVATE void nq_gate_clock_made(nq_gate_clock *c);
NQ_PRIVATE int64_t nq_bucket_opens(const nq_bucket *b, const nq_gate_clock *c);

/* ---- upcoming.c: when is the next one due? ---- */

/* Waiting tasks of some types: of a queue at the priorities where it has some, and of its groups too. */
typedef struct nq_upcoming {
    const char *queue;
    const char *const *types;
    size_t ntypes;
    int priorities[NQ_MAX_PRIORITY - NQ_MIN_PRIORITY + 1];
    size_t npriorities;
    bool groups;
    const nq_settings *settings; /* NULL: nothing is set; of groups that are paused nothing is due */
    int64_t run_at, now_us;      /* out: of the first; run_at INT64_MAX: there is none */
} nq_upcoming;
NQ_PRIVATE int nq_upcoming_look(nq_store *s, nq_upcoming *u, nq_err *err);

/* ---- groups.c: the groups of a queue and the queue itself take turns ---- */

typedef struct nq_groups nq_groups;
NQ_PRIVATE int nq_groups_new(nq_groups **out, nq_store *s, const char *queue, nq_err *err);
NQ_PRIVATE void nq_groups_free(nq_groups *g); /* accepts NULL */
/* Are there any, by the last look? And look, if the last one is not of just now, or in any case. */
NQ_PRIVATE bool nq_groups_some(const nq_groups *g);
NQ_PRIVATE int nq_groups_probe(nq_groups *g, bool surely, nq_err *err);
/* A pass begins: each group has at most one turn in it, so that none comes round twice in one claim. */
NQ_PRIVATE void nq_groups_begin(nq_groups *g);
/* The next turns, of `wanted` tasks together: until the next call. *n 0: the pass is over. */
NQ_PRIVATE int nq_groups_next(nq_groups *g, size_t wanted, nq_turn **turns, size_t *n, nq_err *err);
/* The same of the queue itself alone, where it has no groups, at a place of its tasks that is known; the rest
 * of the turn, .from_id and .most, is the caller's. After nq_groups_begin. *n 0: it is paused or held, or its
 * rate lets nothing start. */
NQ_PRIVATE int nq_groups_none(nq_groups *g, int priority, int64_t at, nq_turn **turns, size_t *n,
                              nq_err *err);
/* What the claim for these turns brought; also where that is nothing. */
NQ_PRIVATE void nq_groups_claimed(nq_groups *g, const nq_claimed *list);
/* Bury what it has come by that nothing would ever claim. */
NQ_PRIVATE int nq_groups_tidy(nq_groups *g, nq_err *err);
/* Is the queue limited, so that it has turns even where there are no groups? */
NQ_PRIVATE bool nq_groups_limited(const nq_groups *g);
/* Did the pass come by a group that is at its limit? */
NQ_PRIVATE bool nq_groups_full(const nq_groups *g);
/* What a claim for the turns must know of limits; NULL: there are none. Do they count what runs? */
NQ_PRIVATE const nq_gate *nq_groups_gate(const nq_groups *g);
NQ_PRIVATE bool nq_groups_counted(const nq_groups *g);
/* After nq_groups_none and its claim: how many tasks it could have had, as far as limits go; *exchange: how
 * many run is all that is limited. */
NQ_PRIVATE size_t nq_groups_room(const nq_groups *g, bool *exchange);
/* Until when, by our clock, nothing at all may be claimed, because of a rate or a hold; a time that is past:
 * something may. And after a pass that brought nothing: when something that is due may be claimed; 0: not
 * known. */
NQ_PRIVATE int64_t nq_groups_closed(const nq_groups *g);
NQ_PRIVATE int64_t nq_groups_opens(const nq_groups *g);
/* After a pass that brought nothing: how long until the next task is due, as of a claim. */
NQ_PRIVATE int64_t nq_groups_wait(const nq_groups *g);
/* Paused groups have no turns. They must stay until they are replaced; NULL: nothing is set. */
NQ_PRIVATE void nq_groups_heed(nq_groups *g, const nq_settings *settings);

#endif
