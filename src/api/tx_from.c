/* SPDX-License-Identifier: MIT */
/* The caller's transaction for bindings, which cannot compile nanoq_mysql.h or nanoq_sqlite.h. */
#include "api.h"

NQ_API int nq_tx_from_mysql(nq_tx *out, void *conn, const char *client, nq_err *err)
{
    return nq_store_tx_from("mysql", conn, client, out, err);
}

NQ_API int nq_tx_from_sqlite(nq_tx *out, void *db, const char *client, nq_err *err)
{
    return nq_store_tx_from("sqlite", db, client, out, err);
}
