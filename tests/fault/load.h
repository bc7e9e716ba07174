/* SPDX-License-Identifier: MIT */
/* The workload of the fault runs: producers and workers that write down what they did. Public API only. */
#ifndef NQ_FAULT_LOAD_H
#define NQ_FAULT_LOAD_H

#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "nanoq.h"
#include "nanoq_admin.h"

/* name=value arguments; the value, or the fallback. */
const char *load_text(const char *name, const char *fallback);
int64_t load_number(const char *name, int64_t fallback);

/*
 * One record of the history, in one write to a file opened with O_APPEND, so that records of all processes
 * stand whole and in order of time: "KIND pid monotonic_us realtime_us name=value ...\n". What is noted
 * before a call stands before whatever the call did.
 */
void load_note(const char *kind, const char *fmt, ...) NQ_PRINTF(2, 3);

int64_t load_mono(void);
void load_sleep(int64_t us);
uint64_t load_random(uint64_t below); /* 0 to below - 1, by the seed */

nq *load_open(void); /* notes and exits where it fails */

/* SIGTERM: the role ends after what it is at. */
extern volatile sig_atomic_t load_stop;
void load_on_term(int number);

/*
 * A task's payload: a line "KEY MODE WORK_MS DELAY_MS FILL" and FILL bytes that follow from the key.
 *   MODE   d: done   r: fails once   s: snoozes once   x: is discarded   k: kills its worker
 */
struct load_task {
    char key[80];
    char mode;
    int work_ms, delay_ms;
    size_t fill;
};
/* The payload, to be freed, and its size. */
void *load_payload(const struct load_task *t, size_t *size);
/* Read it back; false when any byte differs from what was enqueued. */
int load_parse(const void *payload, size_t size, struct load_task *t);
/* The result that the run gen of the task with this key leaves, in the form of a payload: to be freed. NULL:
 * that key's tasks leave none. */
void *load_result(const char *key, unsigned gen, size_t *size);

/* The producer's own connection: its transactions, with a row of its own beside the task. */
struct load_tx;
struct load_tx *load_tx_open(void); /* NULL when the database does not answer */
void load_tx_close(struct load_tx *tx);
int load_tx_run(struct load_tx *tx, const char *sql); /* 0, or the database's number */
int load_tx_lost(const struct load_tx *tx);           /* did the last failure end the connection? */
nq_tx load_tx_handle(struct load_tx *tx);

int load_produce(void);
int load_hold(void);
int load_work(void);
int load_wait(void);
int load_steer(void);
int load_fork(void);
int load_effect(void);

#endif
