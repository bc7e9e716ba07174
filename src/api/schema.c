/* SPDX-License-Identifier: MIT */
/* The tables: made or upgraded, printed, dropped. */
#include "api.h"

NQ_PRIVATE int nq_ready(nq *q, nq_err *err)
{
    const int rc = nq_usable(q, err);
    return rc != NQ_OK ? rc : nq_store_ready(nq_store_of(q), err);
}

int nq_migrate(nq *q, nq_err *err)
{
    int rc = nq_usable(q, err);

    return rc != NQ_OK ? rc : nq_store_migrate(nq_store_of(q), err);
}

NQ_API int nq_migration_sql(char **sql, const char *url, unsigned from, nq_err *err)
{
    nq_store *s = calloc(1, sizeof *s); /* never opened: it only holds the driver and the prefix */
    nq_buf text = {0};
    int rc;
    if (!s)
        return nq_err_nomem(err);
    if (!sql) {
        rc = nq_err_set(err, NQ_EINVAL, "sql is NULL");
        goto out;
    }
    if (from > NQ_SCHEMA_VERSION) {
        rc = nq_err_set(err, NQ_EINVAL, "from is %u, allowed are 0 to %d, the last version", from,
                        NQ_SCHEMA_VERSION);
        goto out;
    }
    if ((rc = nq_store_configure(s, url, err)) != NQ_OK)
        goto out;
    if (nq_store_migration_sql(s, from, &text)) {
        rc = nq_err_nomem(err);
        goto out;
    }
    *sql = text.p;
    text = (nq_buf){0};
out:
    nq_buf_free(&text);
    nq_store_close(s);
    return rc;
}

NQ_API int nq_drop_tables(nq *q, nq_err *err)
{
    int rc = nq_usable(q, err);
    return rc != NQ_OK ? rc : nq_store_drop(nq_store_of(q), err);
}
