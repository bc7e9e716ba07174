/* SPDX-License-Identifier: MIT */
/* Claims in doubt: the connection broke while COMMIT was under way. */
#include "mysql_driver.h"

int nq_mysql_doubt_look_up(nq_mysql_conn *c, uint64_t lease, const uint64_t *ids, size_t n, uint64_t *have,
                           size_t *found, nq_err *err)
{
    nq_buf b = {0};
    MYSQL_RES *r = NULL;
    MYSQL_ROW row;
    *found = 0;
    nq_buf_fmt(&b, "SELECT id, lease FROM %s FORCE INDEX (PRIMARY) WHERE ",
               nq_mysql_data_of(c->base.store)->tasks);
    nq_mysql_where_ids(&b, ids, n);
    nq_buf_str(&b, " ORDER BY id LOCK IN SHARE MODE");
    int rc = nq_mysql_query_buf(c, &b, err);
    if (rc == NQ_OK)
        rc = nq_mysql_result(c, &r, err);
    while (r && (row = mysql_fetch_row(r)))
        if (*found < n && strtoull(row[1], NULL, 10) == lease)
            have[(*found)++] = strtoull(row[0], NULL, 10);
    if (r)
        mysql_free_result(r);
    nq_buf_free(&b);
    return rc;
}
