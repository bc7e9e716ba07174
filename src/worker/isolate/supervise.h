/* SPDX-License-Identifier: MIT */
/* A handler thread that supervises a child: what supervise.c and supervise_tasks.c share. */
#ifndef NQ_SUPERVISE_H
#define NQ_SUPERVISE_H

#include "isolate.h"

struct nq_supervised {
    nq_ctx *ctx;
    nq_outcome out;
};

struct nq_supervisor {
    struct nq_handler_thread *thread;
    nq_worker *worker;
    nq_child *child;
    int64_t since_us;    /* the running task runs since then, as far as is known */
    bool recalled;       /* what was behind it was taken back */
    uint64_t cause_sent; /* what the child was sent of its cause */
    nq_ladder ladder;    /* of the running task's cancellation */
    int64_t closed_us;   /* INT64_MAX: it has not closed its channel */
    size_t nends;        /* answered, not settled */
    struct nq_supervised ends[NQ_PIPELINE_MAX];
};

/* ---- supervise_tasks.c */
/* What becomes of a task that never began. */
NQ_PRIVATE nq_outcome nq_supervise_released(const nq_ctx *ctx);
/* The number of a task in this child, which has not begun it. */
NQ_PRIVATE void nq_supervise_number(const struct nq_supervisor *d, nq_ctx *ctx);
/* The rest with the lock held. */
/* ctx is what runs from now on. Whoever cancels it wakes us. */
NQ_PRIVATE void nq_supervise_begin(struct nq_supervisor *d, nq_ctx *ctx);
/* Take more of the same kind, leaving to other idle threads their share. */
NQ_PRIVATE void nq_supervise_fill(struct nq_supervisor *d);
/* A task that never began goes to where it came from, or back to the database. */
NQ_PRIVATE void nq_supervise_return(nq_worker *w, nq_ctx *ctx);
/* So do all that did not begin; all there is when the child is dead. */
NQ_PRIVATE void nq_supervise_recall(struct nq_supervisor *d);
/* Hand over what was answered; the next ones run by now. */
NQ_PRIVATE void nq_supervise_deliver(struct nq_supervisor *d);

#endif
