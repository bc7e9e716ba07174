/* SPDX-License-Identifier: MIT */
/* Is this a transaction of the caller's that the store can work with? */
#include "store.h"

NQ_PRIVATE int nq_tx_check(const nq_store *s, nq_tx tx, nq_err *err)
{
    static const char *const names[] = {"no known database", "MySQL", "SQLite"};
    const int ours = (int)s->driver->tx_kind;

    if (!tx.ops && !tx.conn)
        return NQ_OK;
    if (!tx.ops || !tx.conn)
        return nq_err_set(err, NQ_EINVAL,
                          "the transaction handle is not from nq_tx_mysql or nq_tx_sqlite, or its "
                          "connection is NULL");
    if (tx.ops->size < sizeof *tx.ops || !tx.ops->exec || !tx.ops->in_tx)
        return nq_err_set(err, NQ_EINVAL, "the transaction handle is from an incompatible version of nanoq");
    const int theirs = (int)tx.ops->kind;
    if (theirs != ours)
        return nq_err_set(err, NQ_EINVAL, "the transaction handle is of %s, this queue is on %s",
                          names[theirs == NQ_TX_MYSQL || theirs == NQ_TX_SQLITE ? theirs : 0], names[ours]);
    return NQ_OK;
}
