/* SPDX-License-Identifier: MIT */
/* tries.c: transactions, and what is tried again. */
#ifndef NQ_STORE_TRIES_H
#define NQ_STORE_TRIES_H

#include "store.h"

/*
 * Run fn in a transaction on a pooled connection and commit; roll back when it fails. A conflict
 * (NQ_ECONFLICT) or a connection lost before COMMIT (NQ_EUNAVAILABLE) runs it again, at most
 * NQ_TX_TRIES times with growing pauses; so fn must be repeatable. NQ_EUNKNOWN is never retried here.
 */
#define NQ_TX_TRIES 60
typedef int (*nq_tx_fn)(nq_conn *c, void *arg, nq_err *err);
NQ_PLUG_IN int nq_store_tx(nq_store *s, nq_tx_fn fn, void *arg, nq_err *err);
/* The same without BEGIN and COMMIT: for readings and single statements that may be repeated. */
NQ_PLUG_IN int nq_store_do(nq_store *s, nq_tx_fn fn, void *arg, nq_err *err);

/* End the transaction that is open on c: COMMIT where rc is NQ_OK, or else ROLLBACK. Answers rc, or what
 * COMMIT said. */
NQ_PRIVATE int nq_conn_end(nq_conn *c, int rc, nq_err *err);
/* Take back the transaction that is open on c, and what was to be logged of it. */
NQ_PRIVATE void nq_conn_undo(nq_conn *c);
/* Run fn, which only reads, at READ UNCOMMITTED, between transactions: what others have written and not yet
 * committed shows, which an INSERT would wait for. */
NQ_PRIVATE int nq_look_dirty(nq_conn *c, nq_tx_fn fn, void *arg, nq_err *err);

#endif
