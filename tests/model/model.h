/* SPDX-License-Identifier: MIT */
/* A queue in memory, as docs/states.md says it is, and random steps taken in it and in a store at once. */
#ifndef MODEL_H
#define MODEL_H

#include "../harness.h"

#define MODEL_TASKS     160 /* known at once, ended ones included */
#define MODEL_FULL      110 /* from here on more is ended and deleted than added */
#define MODEL_FOLLOWUPS 64
#define MODEL_MEMBERS   3
#define MODEL_STALE     8 /* leases that were lost, tried again now and then */
#define MODEL_WORDS     6 /* payloads and keys */
#define MODEL_QUEUES    3 /* the last one has groups, and settings */
#define MODEL_SHARED    (MODEL_QUEUES - 1)
#define MODEL_GROUPS    4
#define MODEL_TYPES     3
#define MODEL_GONE      (-1)
#define MODEL_HOUR      NQ_HOURS(1)

/* What an enqueue says, by index into the fixed names. */
struct model_spec {
    int queue, group, type, payload, priority, hours, max_retries; /* group 0: none */
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
    bool apart;        /* it was set apart by its type */
    int64_t due_hour;  /* by the model's clock, */
    uint64_t due_seq;  /* and within that hour in order of what set it */
    int64_t run_at_us; /* as the store has it; 0: not seen yet */
    int64_t ended_hour;
    uint64_t lease;
    int member; /* that holds it; it may be dead: -1 */
};

struct model_followup {
    struct model_spec spec;
    int64_t due_hour;
    uint64_t due_seq;
};

/* What is set for the queue with groups. Of limits and pauses of types one at a time, or which tasks of a
 * group that is at its limit are met would be the store's choice. */
struct model_settings {
    bool queue_paused, each_paused, group_paused[MODEL_GROUPS], type_paused[MODEL_TYPES];
    int limit_each, limit_group[MODEL_GROUPS]; /* 0: none */
};

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
    struct model_settings settings;
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
/* Those that the queue with groups has for workers that take all they can get, in order of their ids; what is
 * paused by its type is set apart. */
size_t model_shared(struct model *m, struct model_task *out[]);
void model_claim(struct model *m, struct model_task *t, uint64_t lease, int member);
/* An outcome under the task's own lease. */
void model_finish(struct model *m, struct model_task *t, const nq_outcome *o, const char *error);
int model_retry(struct model *m, struct model_task *t);
int model_cancel(struct model *m, struct model_task *t);
int model_delete(struct model *m, struct model_task *t);
size_t model_promote(struct model *m, struct model_task *made[]);
size_t model_purge(struct model *m, int64_t done_hours, int64_t dead_hours);
void model_sweep(struct model *m); /* forget what is gone */
size_t model_count(const struct model *m, int state);

/* -- steps.c: one random step, in the model and, where there is one, in the store. */
struct steps {
    struct model model;
    nq *q; /* NULL: the model alone */
    t_conn *caller;
    nq_member *members[MODEL_MEMBERS];
    uint64_t ids[MODEL_MEMBERS], leases; /* claims so far: each has a lease of its own */
    nq_id newest;
    uint64_t seed, random, digest, step;
    char trace[40][200]; /* the last ones */
    uint64_t counts[32]; /* by kind of step */
    nq_claimer *claimer; /* of the queue with groups */
};
extern const char *const steps_names[];
void steps_begin(struct steps *s, nq *q, uint64_t seed);
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
/* -- steps_tasks.c */
void steps_enqueue(struct steps *s, bool caller);
void steps_claim(struct steps *s);
void steps_finish(struct steps *s);
void steps_stale(struct steps *s);
void steps_complete_in(struct steps *s);
/* -- steps_shared.c: the queue with groups */
void steps_settings(struct steps *s);
void steps_shared(struct steps *s);
/* -- steps_others.c */
void steps_join(struct steps *s, int member);
void steps_crash(struct steps *s);
void steps_orphans(struct steps *s);
void steps_cancels(struct steps *s);
void steps_admin(struct steps *s);
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
/* Payloads and keys: NULs, no UTF-8 and nothing at all among them. */
extern const struct model_word {
    const char *p;
    size_t n;
} model_words[MODEL_WORDS];
/* One task; from..to: when the step that set its run_at ran, by the database's clock; 0, 0: it did not. */
void look_task(struct steps *s, struct model_task *t, int64_t from_us, int64_t to_us);
void look_claimed(struct steps *s, const struct model_task *t, const nq_claimed *c);
void look_all(struct steps *s); /* every task, the counts, the follow-ups */

#endif
