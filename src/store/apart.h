/* SPDX-License-Identifier: MIT */
/* Setting tasks of a type apart from their queue. */
#ifndef NQ_STORE_APART_H
#define NQ_STORE_APART_H

#include "groups.h"

/* What one claimer knows of the types that are set apart from its queue; apart.c says how it goes. */
typedef struct nq_apart nq_apart;
/* types NULL: the claimer takes tasks of any type. */
NQ_PRIVATE int nq_apart_new(nq_apart **out, nq_store *s, const char *queue, const char *const types[],
                            size_t ntypes, nq_err *err);
NQ_PRIVATE void nq_apart_free(nq_apart *a); /* accepts NULL */
/* What is set, until the next call; NULL: nothing. */
NQ_PRIVATE void nq_apart_heed(nq_apart *a, const nq_settings *settings);
/* Is there a type that is set apart from the queue, among those that the claimer takes? */
NQ_PRIVATE bool nq_apart_some(const nq_apart *a);
/* A claim begins, which is to pass by those types, save in their own groups. */
NQ_PRIVATE void nq_apart_begin(nq_apart *a, nq_claim_args *args);
/* Set apart what is met at the heads of these turns, of a claim of so many tasks. The turn of the queue
 * itself may be moved to where there are others. */
NQ_PRIVATE int nq_apart_turns(nq_apart *a, nq_turn turns[], size_t n, size_t wanted, nq_err *err);
/* Were some set apart by this claim? Then there may be more: look again at once. */
NQ_PRIVATE bool nq_apart_did(const nq_apart *a);

#endif
