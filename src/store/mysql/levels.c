/* SPDX-License-Identifier: MIT */
/* MySQL and MariaDB: which priorities of a queue have waiting tasks. */
#include "mysql_driver.h"

/* 0000-00-00 and its like are before all times, and no number of microseconds. */
static void mysql_levels_rows(MYSQL_RES *r, bool first, nq_look *l)
{
    MYSQL_ROW row;
    while ((row = mysql_fetch_row(r))) {
        const int64_t at = row[first ? 0 : 1] ? strtoll(row[first ? 0 : 1], NULL, 10) : INT64_MIN;
        const long priority = first || !row[0] ? 0 : strtol(row[0], NULL, 10);
        if (first)
            l->now_us = at;
        else if (priority < NQ_MIN_PRIORITY || priority > NQ_MAX_PRIORITY)
            l->strange = true;
        else if (l->n < l->max)
            l->levels[l->n++] = (nq_level){(int)priority, at};
    }
}

void nq_mysql_levels_text(const nq_store *s, const char *queue, nq_buf *b)
{
    /* Grouping by the index's own first columns makes it jump from one priority to the next. Without the
     * column's own collation the server takes queue for a variable: a temporary table and a filesort. */
    nq_buf_str(b, "SELECT TIMESTAMPDIFF(MICROSECOND,'1970-01-01',UTC_TIMESTAMP(6));"
                  "SELECT priority, TIMESTAMPDIFF(MICROSECOND,'1970-01-01',MIN(run_at)) FROM ");
    nq_buf_str(b, nq_mysql_data_of(s)->tasks);
    nq_buf_str(b, " FORCE INDEX (claim) WHERE queue=");
    nq_mysql_hex(b, "_ascii", queue, strlen(queue));
    nq_buf_str(b, " COLLATE ascii_bin AND state=0 GROUP BY queue,state,priority"
                  " ORDER BY queue,state,priority");
}

int nq_mysql_levels_read(nq_mysql_conn *c, nq_look *look, nq_err *err)
{
    look->n = 0;
    look->strange = false;
    for (bool first = true;; first = false) {
        MYSQL_RES *r = NULL;
        int rc = nq_mysql_result(c, &r, err);
        if (rc != NQ_OK)
            return rc;
        if (r) {
            mysql_levels_rows(r, first, look);
            mysql_free_result(r);
        }
        if (!nq_mysql_more(c))
            return NQ_OK;
        if ((rc = nq_mysql_next(c, err)) != NQ_OK)
            return rc;
    }
}

NQ_PRIVATE int nq_mysql_levels(nq_conn *conn, const char *queue, nq_look *look, nq_err *err)
{
    nq_mysql_conn *c = nq_mysql_of(conn);
    nq_buf b = {0};
    int rc = nq_doubts_settle(&c->base, err);
    if (rc != NQ_OK)
        return rc;
    nq_mysql_levels_text(conn->store, queue, &b);
    rc = nq_mysql_query_buf(c, &b, err);
    if (rc == NQ_OK)
        rc = nq_mysql_levels_read(c, look, err);
    nq_buf_free(&b);
    return rc;
}
