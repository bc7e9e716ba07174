/* SPDX-License-Identifier: MIT */
/* A scenario run for every n, each time in a process of its own in which the n-th call fails. */
#ifndef NQ_TEST_NTH_H
#define NQ_TEST_NTH_H

#include "inject.h"

/* What a run of a scenario works on: a database that is migrated and empty. */
typedef struct nth_run {
    inject_plan plan;
    char prefix[32];
    char url[800];   /* of the database, with options */
    char about[128]; /* the plan in words */
} nth_run;

typedef struct nth_case {
    const char *name;
    enum inject_kind kind;
    enum inject_how how;
    bool persistent;
    const char *options; /* of the URL */
    void (*scenario)(nth_run *run);
} nth_case;

/*
 * Run the scenario for each n from 1 until it ends without a failure: all of them when NANOQ_FAULT_LONG is
 * set, else about `few`, spread evenly. A run fails the test when it crashes, calls nth_fail, leaks, or takes
 * too long.
 */
#define NTH_NOTES 64
/* What the run without a failure left for the others at its step k. */
char *nth_note(size_t k);
#define NTH_NOTE_SIZE 8192
void nth_all(const nth_case *c, long few);
bool nth_long(void);

/* In the run's process: say what is wrong and end it. */
void nth_fail(const nth_run *run, const char *fmt, ...) NQ_PRINTF(2, 3) __attribute__((noreturn));
#define NTH_CHECK(run, cond, ...)                                                                            \
    do {                                                                                                     \
        if (!(cond))                                                                                         \
            nth_fail(run, __VA_ARGS__);                                                                      \
    } while (0)

Suite *suite_store(void);
Suite *suite_memory(void);
Suite *suite_proc(void);

#endif
