/* SPDX-License-Identifier: MIT */
/* bell.c: hints between processes, through the database server. */
#ifndef NQ_STORE_BELL_H
#define NQ_STORE_BELL_H

#include "store.h"

/* bell.c: a bell of a worker, which others ring through the server. One thread at a time but for
 * interrupt. */
typedef struct nq_bell nq_bell;
/* NQ_EUNSUPPORTED where there is none, or it is not wanted. Connects to nothing yet. */
NQ_PRIVATE int nq_bell_new(nq_bell **out, nq_store *s, const uint64_t queues[], size_t n, bool told,
                           nq_err *err); /* told: by local hints too, so that nobody on this host need ring */
NQ_PRIVATE void nq_bell_free(nq_bell *b); /* accepts NULL */
/* Hang it out, on a connection of its own; then wait until it was rung, or (*rung false) some seconds went
 * by. */
NQ_PRIVATE int nq_bell_hang(nq_bell *b, nq_err *err);
NQ_PRIVATE int nq_bell_wait(nq_bell *b, bool *rung, nq_err *err);
/* Make both fail, now and from now on. Any thread. */
NQ_PRIVATE void nq_bell_interrupt(nq_bell *b);

/* Rings the bells of others, from a thread of its own that is started at the first ring. */
typedef struct nq_ringer nq_ringer;
NQ_PRIVATE int nq_ringer_new(nq_ringer **out, nq_store *s, nq_err *err);
NQ_PRIVATE void nq_ringer_free(nq_ringer *r); /* what was asked for is rung, if the server answers at once */
/* Does not wait. told: somebody got a local hint; what is left to do is not urgent. */
NQ_PRIVATE void nq_ringer_ring(nq_ringer *r, const uint64_t queues[], size_t n, bool told);
/* The absolute name of a file that is written to when anything is committed, to be freed, or NULL. */
NQ_PRIVATE char *nq_store_watched(const nq_store *s);

#endif
