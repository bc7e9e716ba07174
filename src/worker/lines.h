/* SPDX-License-Identifier: MIT */
/* lines.c: what attempts write to the logs of their tasks, until it is in the database. */
#ifndef NQ_LINES_H
#define NQ_LINES_H

#include "../store/store.h"

/* What an attempt has written so far; guarded by the list's lock. */
typedef struct nq_lines_of {
    unsigned n;
    size_t bytes;
    bool full; /* what comes now is left out, and a line says so */
} nq_lines_of;

/* A run whose task is gone. */
typedef struct nq_lines_gone {
    nq_id task;
    unsigned generation;
} nq_lines_gone;

/* A worker's lines, in the order in which they came. They outlive their attempts. */
typedef struct nq_lines {
    pthread_mutex_t lock;
    nq_log_line *first, *last;
    size_t bytes;
    nq_lines_gone *gone; /* those whose lines need not be written, since the last writing */
    size_t ngone, capgone;
    uint64_t lost;   /* there was no room for them, and nobody was told yet */
    atomic_bool any; /* there is something to write, or to tell */
} nq_lines;
NQ_PRIVATE void nq_lines_init(nq_lines *l);
NQ_PRIVATE void nq_lines_free(nq_lines *l);
/* Write what is there. What fails is kept for the next time. */
NQ_PRIVATE int nq_lines_write(nq_worker *w, nq_err *err);
/* The worker ends: write what is there, or say how much is lost. may_write false: do not try. */
NQ_PRIVATE void nq_lines_end(nq_worker *w, bool may_write);
/* The attempt is done and its task is not kept: what it has written and nobody can read is not worth a
 * statement. */
NQ_PRIVATE void nq_lines_forget(nq_worker *w, const nq_ctx *ctx);
/* nq_ctx_log_bytes in the worker's process: one line of at most NQ_MAX_LOG_LINE bytes. */
NQ_PRIVATE void nq_lines_add(nq_ctx *ctx, enum nq_log_level level, const char *text, size_t n);

#endif
