/* SPDX-License-Identifier: MIT */
/* logs.c: the lines that attempts have written. */
#ifndef NQ_STORE_LOGS_H
#define NQ_STORE_LOGS_H

#include "store.h"

enum { NQ_LOGS_CHUNK = 50 }; /* lines of one transaction */

typedef struct nq_log_line {
    struct nq_log_line *next;
    nq_id task;
    int64_t at_us; /* CLOCK_MONOTONIC */
    unsigned generation, seq;
    int level;
    size_t n;
    char text[];
} nq_log_line;

/* Write so many, at most NQ_LOGS_CHUNK. Again is as once. */
NQ_PRIVATE int nq_store_logs_add(nq_store *s, const nq_log_line *const lines[], size_t n, nq_err *err);
/* A duty's sweep: delete the lines of up to limit tasks that are gone. */
NQ_PRIVATE int nq_store_logs_sweep(nq_store *s, size_t limit, size_t *n, nq_err *err);

#endif
