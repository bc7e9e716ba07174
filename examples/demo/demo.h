/* SPDX-License-Identifier: MIT */
/* demo: a plan of tasks, workers that are processes of their own, a picture, and accounts that add up.
 */
#ifndef DEMO_H
#define DEMO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "nanoq.h"
#include "nanoq_admin.h"

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
    bool live;   /* stdout is a terminal: one picture, drawn again and again */
    bool colour; /* and NO_COLOR does not forbid it */
    bool drawn;
};

/* ---- demo_base.c: messages on stderr, memory, the clock. */
void demo_complain(const char *fmt, ...) NQ_PRINTF(1, 2);
bool demo_fail(const nq_err *err); /* prints it; false */
void *demo_alloc(size_t n);        /* zeroed; exits when there is no memory */
int64_t demo_now_us(void);         /* monotonic */
/* Give up, clean up and end: a signal said so, or nobody reads the output any more. */
void demo_stop(int signal);
bool demo_stopped(void);
bool demo_open(nq **q, const char *url);

/* ---- demo_plan.c: each prints what fails; false then. */
bool demo_enqueue(struct demo *d);
bool demo_look(struct demo *d);  /* into d->now */
bool demo_count(struct demo *d); /* the database's part of the tallies */
/* Delete the demo's own tasks from a database that is not its own; *left: those that a dead worker holds. */
bool demo_delete(struct demo *d, size_t *left);
bool demo_adds_up(const struct demo *d);

/* ---- demo_worker.c */
/* A worker process. argv: the parent's pid, queue, "risky" or "plain", "fast" or "slow". The database comes
 * in NANOQ_DB. Answers the exit status. */
int demo_worker(int argc, char **argv);
/* Take what dead workers left in these queues and discard it, for so long at most. */
bool demo_sweep(struct demo *d, int64_t limit_us);

/* ---- demo_view.c */
void demo_draw(struct demo *d);
void demo_summary(const struct demo *d);

#endif
