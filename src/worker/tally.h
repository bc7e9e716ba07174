/* SPDX-License-Identifier: MIT */
/* tally.c: what this worker did, for {minutes}. */
#ifndef NQ_WORKER_TALLY_H
#define NQ_WORKER_TALLY_H

#include "worker.h"

typedef struct nq_tally nq_tally;
NQ_PRIVATE int nq_tally_new(nq_tally **out, nq_err *err);
NQ_PRIVATE void nq_tally_free(nq_tally *t); /* accepts NULL */
/* These outcomes are recorded; committed as for nq_recorded. Any thread, without the worker's lock. */
NQ_PRIVATE void nq_tally_count(nq_tally *t, nq_ctx *const batch[], size_t n, bool committed);
/* Write what is new, as that worker; by one thread. What fails is written the next time. */
NQ_PRIVATE int nq_tally_write(nq_worker *w, uint64_t worker, nq_err *err);

#endif
