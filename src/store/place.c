/* SPDX-License-Identifier: MIT */
/* Statements of an enqueue where it takes place: in our transaction, or in the caller's. */
#include "store.h"

NQ_PRIVATE int nq_place_sql(const nq_place *p, const char *template_sql, const nq_val args[], size_t nargs,
                            nq_row_fn row, void *arg, nq_err *err)
{
    nq_buf sql = {0};
    nq_exec_result res = {0};
    if (p->c)
        return nq_sql(p->c, template_sql, args, nargs, row, arg, NULL, err);
    int rc = nq_sql_expand(p->store, template_sql, &sql);
    if (rc != NQ_OK)
        rc = rc == NQ_ENOMEM ? nq_err_nomem(err)
                             : nq_err_set(err, rc, "bad SQL template: %.100s", template_sql);
    else if (p->tx.ops->exec(p->tx.conn, sql.p, args, nargs, row, arg, &res))
        rc = res.db_code ? p->store->driver->caller_failed(p->store, &res, err) : nq_err_nomem(err);
    nq_buf_free(&sql);
    return rc;
}

NQ_PRIVATE int nq_place_again(nq_err *err)
{
    return nq_err_set(err, NQ_ECONFLICT, "a task with the same unique key comes and goes");
}

NQ_PRIVATE bool nq_payload_append(nq_buf *payload, const void *more, size_t n, size_t most)
{
    if (payload->n >= most || n > most - payload->n - 1)
        return false;
    nq_buf_add(payload, "\n", 1);
    nq_buf_add(payload, n ? more : "", n);
    return true;
}
