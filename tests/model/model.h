/* SPDX-License-Identifier: MIT */
/* A queue in memory, as docs/states.md says it is, and random steps taken in it and in a store at once. */
#ifndef MODEL_H
#define MODEL_H

#include "../harness.h"

#define MODEL_TASKS     220 /* known at once, ended ones included */
#define MODEL_FULL      110 /* from here on more is ended and deleted than added */
#define MODEL_FOLLOWUPS 64
#define MODEL_MEMBERS   3
#define MODEL_STALE     8 /* leases that were lost, tried again now and then */
#define MODEL_WORDS     6 /* payloads and keys */
#define MODEL_QUEUES    3 /* the second has settings; the third has groups, and settings */
#define MODEL_LIMITED   (MODEL_QUEUES - 2)
#define MODEL_SHARED    (MODEL_QUEUES - 1)
#define MODEL_GROUPS    4
#define MODEL_TYPES     3
#define MODEL_GONE      (-1)
#define MODEL_HOUR      NQ_HOURS(1)

/* What an enqueue says, by index into the fixed names. */
struct model_spec {
    int queue, group, type, payload, priority, hours, max_retries; /* group 0: none */
    int expires;                                                   /* in so many hours; 0: never */
    enum nq_unique unique;
    int data; /* NQ_UNIQUE_DATA */
};

struct model_task {
    int number; /* 1, 2, ... in order of creation: the trace's name for it */
    nq_id id;
    int state; /* enum nq_state, or MODEL_GONE */
    struct model_spec spec;
    unsigned attempts, crashes, generation;
    const char *error; /* one of a few constants, or "" */
    bool cancelling;
    bool apart;           /* it was set apart by its type */
    int64_t expires_hour; /* 0: it does not expire */
    bool late;            /* it had expired when it was claimed */
    nq_id dead_id;        /* it is the dead letter of that task; 0 */
    bool new;             /* a letter whose id is not known yet */
    int64_t due_hour;     /* by the model's clock, */
    uint64_t due_seq;     /* and within that hour in order of what set it */
    int64_t run_at_us;    /* as the store has it; 0: not seen yet */
    int64_t ended_hour;
    uint64_t lease;
    int member; /* that holds it; it may be dead: -1 */
};

struct model_followup {
    struct model_spec spec;
    int64_t due_hour, expires_hour;
    uint64_t due_seq;
};

/*
 * Where tasks are that have settings: in the queue with groups those without one (0), those of each group,
 * and of each type those that were set apart; and the other queue that has settings. Each place has a row of
 * settings, that of place 0 is of the queue with all its groups, and one row is of each group.
 */
#define MODEL_PLACES (MODEL_GROUPS + MODEL_TYPES)
#define MODEL_MAIL   MODEL_PLACES
#define MODEL_EACH   (MODEL_PLACES + 1)
#define MODEL_ROWS   (MODEL_PLACES + 2)

/* A rate is one start in so many hours (0: none), of which a quiet time saves up a burst. */
struct model_row {
    bool paused;
    int limit, hours, burst, ordered; /* limit 0: none; enum nq_ordered */
    int dead_to;                      /* of model_letters; 0: none */
};

/* What the store keeps of a place beside its tasks. */
struct model_gate {
    int64_t held_hour; /* nothing starts before */
    int64_t next_hour; /* of a rate: GCRA's theoretical time of the next start; MODEL_NEVER: it has none */
    int head;          /* of an order: the number of the task that began last; 0 */
};
#define MODEL_NEVER (-1000000)

struct model_lost {
    nq_id id;
    uint64_t lease;
    int number;
};

struct model {
    struct model_task tasks[MODEL_TASKS];
    size_t n;
    struct model_followup followups[MODEL_FOLLOWUPS];
    size_t nfollowups;
    struct model_lost lost[MODEL_STALE];
    size_t nlost;
    struct model_row rows[MODEL_ROWS];
    struct model_gate gates[MODEL_PLACES + 1];
    bool eager; /* a duplicate in a caller's transaction leaves a follow-up whatever the live task's state is
                 */
    int64_t hour;
    uint64_t seq;
    int numbers;
};

/* -- model.c: what each operation does to it. Codes are enum nq_code. */
struct model_task *model_find(struct model *m, nq_id id);
/* The live task with the key of a spec, or NULL. */
struct model_task *model_live(struct model *m, const struct model_spec *spec);
/* NQ_OK with the new task, or NQ_DUPLICATE with the live one. seq is the caller's to count: what one call
 * adds is due at the same time. repeated: the call had that key before. There must be room. */
int model_enqueue(struct model *m, const struct model_spec *spec, bool caller, bool repeated,
                  struct model_task **out);
bool model_same_key(const struct model_spec *a, const struct model_spec *b);
/* The due tasks of a queue in the order in which they are claimed; how many. */
size_t model_due(struct model *m, int queue, struct model_task *out[]);
void model_claim(struct model *m, struct model_task *t, uint64_t lease, int member);
/* An outcome under the task's own lease. */
void model_finish(struct model *m, struct model_task *t, const nq_outcome *o, const char *error);
int model_retry(struct model *m, struct model_task *t);
int model_cancel(struct model *m, struct model_task *t);
int model_delete(struct model *m, struct model_task *t);
/* A row that no claim would take: dead. */
void model_bury(struct model *m, struct model_task *t, const char *error);
size_t model_promote(struct model *m, struct model_task *made[]);
size_t model_purge(struct model *m, int64_t done_hours, int64_t dead_hours);
void model_sweep(struct model *m); /* forget what is gone */
size_t model_count(const struct model *m, int state);
void model_due_in(struct model *m, struct model_task *t, int64_t hours);
struct model_task *model_add(struct model *m, const struct model_spec *spec);

/* -- model_shared.c: settings, and what is behind the gates */
void model_begin(struct model *m);
int model_place(const struct model_task *t);                  /* -1: it has no settings */
struct model_row model_row(const struct model *m, int place); /* what holds there, of each group's too */
bool model_shut(const struct model *m, int place);            /* paused, or held */
/* So many of the first due tasks of the queue with settings and no groups may start; the gate is as if they
 * did. */
size_t model_limited(struct model *m, size_t due);
/* Those that the queue with groups has for workers that take all they can get: of each place the first ones,
 * place by place; tasks of types that have settings are set apart. */
size_t model_shared(struct model *m, struct model_task *out[]);
/* So many of n may start by what is set of the queue with all its groups. */
size_t model_shared_room(const struct model *m, size_t n);
/* One of them starts: the gates are as after that. */
void model_shared_began(struct model *m, const struct model_task *t);
void model_hold(struct model *m, int place, int hours);
void model_gates_sweep(struct model *m);
bool model_keeps(const struct model *m, const struct model_task *t); /* it may halt its group */
/* It has died: its letter, and (begun false: nothing claimed it) what it does to its group. */
void model_died(struct model *m, const struct model_task *t, bool begun);

/* -- steps.c: one random step, in the model and, where there is one, in the store. */
struct steps {
    struct model model;
    nq *q; /* NULL: the model alone, which takes the steps that were taken with a store */
    t_conn *caller;
    nq_member *members[MODEL_MEMBERS];
    uint64_t ids[MODEL_MEMBERS], leases; /* claims so far: each has a lease of its own */
    nq_id newest;
    uint64_t seed, random, digest, step;
    char trace[40][200]; /* the last ones */
    uint64_t counts[32]; /* by kind of step */
    nq_buf *chosen;   /* what the store chose where the choice was its own: a byte a task, if it was taken */
    size_t chosen_at; /* how much of it the model alone has taken */
    nq_claimer *claimer; /* of the queue with groups */
    bool changed;        /* by others: what it keeps in mind for a second may be wrong */
};
#define STEPS_KINDS 19
extern const char *const steps_names[STEPS_KINDS];
void steps_begin(struct steps *s, nq *q, uint64_t seed, nq_buf *chosen);
void steps_one(struct steps *s);
void steps_end(struct steps *s);
uint64_t steps_random(struct steps *s, uint64_t below);
/* A line of the trace. */
void steps_say(struct steps *s, const char *fmt, ...) NQ_PRINTF(2, 3);
int64_t steps_now(const struct steps *s); /* the database's clock */
/* One of the tasks in a state (MODEL_GONE: in whatever), or NULL. */
struct model_task *steps_task(struct steps *s, int state);
/* Was its run_at set by that outcome? */
bool steps_moves(const struct model_task *t, const nq_outcome *o);
/* The ids of letters that were just added, and whether they are as they should be. */
void steps_letters(struct steps *s, int64_t from_us);
/* -- steps_tasks.c */
void steps_enqueue(struct steps *s, bool caller);
void steps_finish(struct steps *s);
void steps_stale(struct steps *s);
void steps_complete_in(struct steps *s);
/* -- steps_settings.c */
void steps_settings(struct steps *s);
void steps_pause_type(struct steps *s, int type, bool pause);
void steps_hold(struct steps *s);
void steps_gates(struct steps *s);
/* -- steps_claim.c: the queues without groups; steps_shared.c: the one with */
void steps_claim(struct steps *s);
void steps_shared(struct steps *s);
/* Does a worker with these settings ask the queue? Not where it knows that all of it is paused or held. */
bool steps_asks(struct steps *s, int queue, const nq_settings *settings);
/* One claim; true: it brought nothing, but the claimer said to come again soon, and that time has passed. */
bool steps_claimed(nq_claimer *c, uint64_t lease, size_t limit, nq_piggyback *piggyback, nq_claimed **out,
                   size_t *n);
/* -- steps_others.c */
void steps_join(struct steps *s, int member);
void steps_crash(struct steps *s);
void steps_orphans(struct steps *s);
void steps_cancels(struct steps *s);
void steps_admin(struct steps *s);
void steps_bury(struct steps *s);
void steps_promote(struct steps *s);
void steps_clock(struct steps *s);
void steps_purge(struct steps *s);
/* Fail with the trace of what led here. */
#define STEPS_CHECK(s, cond, ...)                                                                            \
    do {                                                                                                     \
        if (!(cond))                                                                                         \
            steps_fail(s, __FILE__, __LINE__, #cond, __VA_ARGS__);                                           \
    } while (0)
_Noreturn void steps_fail(struct steps *s, const char *file, int line, const char *cond, const char *fmt, ...)
    NQ_PRINTF(5, 6);

/* -- look.c: is the store as the model says? */
extern const char *const model_queues[MODEL_QUEUES], *const model_types[MODEL_TYPES],
                                                         *const model_groups[MODEL_GROUPS];
/* Where letters go: a queue, and a group of it. */
#define MODEL_LETTERS 5
extern const struct model_letters {
    const char *name;
    int queue, group;
} model_letters[MODEL_LETTERS];
/* Payloads and keys: NULs, no UTF-8 and nothing at all among them. */
extern const struct model_word {
    const char *p;
    size_t n;
} model_words[MODEL_WORDS];
/* One task; from..to: when the step that set its run_at ran, by the database's clock; 0, 0: it did not. */
void look_task(struct steps *s, struct model_task *t, int64_t from_us, int64_t to_us);
void look_claimed(struct steps *s, const struct model_task *t, const nq_claimed *c);
/* What a claim says of its time of expiry. */
void look_expiry(struct steps *s, const struct model_task *t, const nq_claimed *c);
void look_all(struct steps *s); /* every task, the counts, the follow-ups */

#endif
