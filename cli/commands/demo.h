/* SPDX-License-Identifier: MIT */
/* nanoq demo: a plan of tasks, workers that are processes of their own, a picture, and accounts that add up.
 */
#ifndef DEMO_H
#define DEMO_H

#include "../cli.h"

enum demo_fate {
    DEMO_GOOD,     /* succeeds */
    DEMO_FLAKY,    /* fails once or twice, then succeeds */
    DEMO_INVALID,  /* discarded at once */
    DEMO_HOPELESS, /* fails until it is out of attempts */
    DEMO_SLOW,     /* times out once */
    DEMO_CRASH,    /* takes its process with it, once */
    DEMO_POISON,   /* every time */
    DEMO_RECALLED  /* delayed, and cancelled before it runs */
};

struct demo_kind {
    const char *type;
    enum demo_fate fate;
    unsigned fresh, repeats;    /* tasks, and how many of them are asked for once more */
    int64_t work_ms, spread_ms; /* how long one takes; delays are spread over this */
    const char *what;
};
#define DEMO_KINDS  10
#define DEMO_QUEUES 3
extern const struct demo_kind demo_kinds[DEMO_KINDS];

struct demo_tally {
    uint64_t asked, refused;              /* by the enqueue calls */
    uint64_t live, done, dead, cancelled; /* by the database */
    uint64_t failed, crashed;             /* attempts */
};

struct demo {
    nq *q;
    bool fast;
    /* The last two are for tasks that crash their process: what their worker holds beside one crashes too. */
    char queues[DEMO_QUEUES][64];
    struct demo_tally tally[DEMO_KINDS];
    nq_queue_stats now; /* all its queues */
    unsigned crashes;   /* of workers, as seen by waitpid */
    int64_t started;
    bool fancy;
    bool drawn;
};

/* ---- demo_plan.c: each prints what fails and answers an exit code. */
int demo_enqueue(struct demo *d);
int demo_look(struct demo *d);   /* into d->now */
int demo_count(struct demo *d);  /* the database's part of the tallies */
int demo_delete(struct demo *d); /* the demo's own finished tasks, from a database that is not its own */
bool demo_adds_up(const struct demo *d);

/* ---- demo_view.c */
void demo_draw(struct demo *d);
void demo_summary(const struct demo *d);

#endif
