/* SPDX-License-Identifier: MIT */
/* nanoq bench: what its files share. */
#ifndef BENCH_H
#define BENCH_H

#include "../cli.h"

struct bench {
    nq *q;
    int64_t limit_us; /* of each row */
    int64_t tasks;    /* of each row, at most; 0: as many as there is time for */
    char *payload;
    size_t payload_size;
    char database[64]; /* what kind it is, for people; no part of it is secret */
};

/* ---- bench_rows.c */
/* From here on INT, TERM and HUP only ask to stop. */
void bench_stop_on_signals(void);
/* A signal said so: bring what runs to an end, then clean up. */
bool bench_stopped(void);
/* Each measures one row, prints what fails, and answers an exit code. Stopped ones are
 * CLI_OK and not to be believed. */
/* Tasks a second, of so many threads that add so many at a time. */
int bench_enqueue(struct bench *b, const char *what, unsigned threads, unsigned at_a_time, int64_t *rate);
/* Tasks a second, of those that the enqueueing rows left. */
int bench_drain(struct bench *b, const char *what, int64_t *rate);
/* Microseconds from the commit of a task to the start of its handler. */
int bench_pick_up(struct bench *b, const char *what, int64_t *p50, int64_t *p99);

#endif
