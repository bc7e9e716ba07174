/* SPDX-License-Identifier: MIT */
/* Transactions and statements that are tried again after what is transient. */
#include "store.h"

#define TRIES_LOST         3              /* with a connection that broke */
#define TRIES_US           NQ_SECONDS(10) /* no new try when this much time went by */
#define TRIES_LOST_US      NQ_MS(500)     /* or this much, and the connection broke: that was a time-out */
#define TRIES_PAUSE_US     NQ_MS(1)       /* before the second try; doubles */
#define TRIES_MAX_PAUSE_US NQ_MS(50)      /* on hot keys many tries help, long pauses do not */

NQ_PRIVATE void nq_conn_undo(nq_conn *c)
{
    if (!c->broken)
        c->store->driver->rollback(c);
    nq_conn_unsay(c);
}

NQ_PRIVATE int nq_conn_end(nq_conn *c, int rc, nq_err *err)
{
    if (rc != NQ_OK) {
        nq_conn_undo(c);
        return rc;
    }
    rc = c->store->driver->commit(c, err);
    if (rc != NQ_OK && rc != NQ_EUNKNOWN)
        nq_conn_unsay(c);
    return rc;
}

/* The level holds for one transaction, so that there has to be one: preparing the statement could otherwise
 * use it up. */
NQ_PRIVATE int nq_look_dirty(nq_conn *c, nq_tx_fn fn, void *arg, nq_err *err)
{
    int rc = nq_sql(c, "SET TRANSACTION ISOLATION LEVEL READ UNCOMMITTED", NULL, 0, NULL, NULL, NULL, err);
    if (rc != NQ_OK || (rc = c->store->driver->begin(c, err)) != NQ_OK)
        return rc;
    rc = fn(c, arg, err);
    if (rc != NQ_OK)
        c->broken = true; /* it may not have begun: then the level waits for what this session does next */
    else if (!c->broken)
        c->store->driver->rollback(c);
    return rc;
}

/* One try on a pooled connection. *again: may it be tried again? */
static int tries_one(nq_store *s, nq_tx_fn fn, void *arg, bool tx, bool *again, nq_err *err)
{
    nq_conn *c;
    int rc = nq_pool_get(s, &c, err);
    *again = false; /* a database that cannot be reached is the caller's to wait for */
    if (rc != NQ_OK)
        return rc;
    if (tx && (rc = s->driver->begin(c, err)) != NQ_OK)
        goto out;
    rc = fn(c, arg, err);
    if (tx)
        rc = nq_conn_end(c, rc, err);
out:
    *again = rc == NQ_ECONFLICT || rc == NQ_EUNAVAILABLE;
    nq_pool_put(c);
    return rc;
}

static int tries_run(nq_store *s, nq_tx_fn fn, void *arg, bool tx, nq_err *err)
{
    const int64_t start = nq_mono_us();
    int64_t pause = TRIES_PAUSE_US;
    unsigned lost = 0;
    nq_err why = {0};
    int rc = NQ_OK;
    for (unsigned i = 0; i < NQ_TX_TRIES; i++) {
        bool again;
        rc = tries_one(s, fn, arg, tx, &again, &why);
        const int64_t took = nq_mono_us() - start;
        if (!again || took > TRIES_US)
            break;
        if (rc == NQ_EUNAVAILABLE && (++lost >= TRIES_LOST || took > TRIES_LOST_US))
            break;
        if (i + 1 < NQ_TX_TRIES)
            nq_sleep_us(pause / 2 + (int64_t)nq_random((uint64_t)pause));
        pause = pause * 2 < TRIES_MAX_PAUSE_US ? pause * 2 : TRIES_MAX_PAUSE_US;
    }
    if (rc != NQ_OK && err)
        *err = why;
    return rc;
}

NQ_PLUG_IN int nq_store_tx(nq_store *s, nq_tx_fn fn, void *arg, nq_err *err)
{
    return tries_run(s, fn, arg, true, err);
}

NQ_PLUG_IN int nq_store_do(nq_store *s, nq_tx_fn fn, void *arg, nq_err *err)
{
    return tries_run(s, fn, arg, false, err);
}
