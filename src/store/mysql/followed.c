/* SPDX-License-Identifier: MIT */
/* MySQL and MariaDB: a claim takes along the follow-ups of its tasks that are committed by then. */
#include <inttypes.h>

#include "mysql_driver.h"

/*
 * A duplicate in the caller's transaction leaves a follow-up of a task that waits too. If it is committed
 * before that task is claimed, the run begins after it and sees what it is about: the follow-up has to go
 * with the claim, or the task runs twice. What is committed later is not seen here and stays.
 *
 * Where a follow-up was seen lately the claim's SELECT asks of each task whether it has some. Those are
 * locked by a round trip of their own, since a DELETE cannot pass by what is locked: the follow-ups of
 * transactions that are still open, and those that a promoter decides about just now. Then they are deleted
 * behind the claim's UPDATE, in its transaction, and only where the tasks do have the claim's lease: a Galera
 * node can end a transaction between two statements and run the next one as one of its own.
 */

#define MYSQL_FOLLOWED_MAX 1000 /* of one claim; what is left makes its task run once more */

void nq_mysql_followed(const nq_mysql_data *d, const char *head, const char *of, nq_buf *b)
{
    nq_buf_fmt(b, "%sEXISTS(SELECT 1 FROM %s f FORCE INDEX (followed) WHERE f.unique_key=%s.unique_key)",
               head, d->followups, of);
}

int nq_mysql_followed_lock(nq_mysql_conn *c, const nq_claim_args *a, const nq_buf *tasks, size_t n,
                           nq_buf *gone, nq_err *err)
{
    const nq_mysql_data *d = nq_mysql_data_of(c->base.store);
    MYSQL_RES *r = NULL;
    MYSQL_ROW row;
    nq_buf b = {0}, of = {0}; /* of: which task each one follows */
    size_t found = 0;
    if (n == 0)
        return NQ_OK;
    if (tasks->failed)
        return nq_err_nomem(err);
    nq_buf_fmt(
        &b,
        "SELECT f.id,t.id FROM %s t FORCE INDEX (PRIMARY) STRAIGHT_JOIN %s f FORCE INDEX (followed) ON "
        "f.unique_key=t.unique_key WHERE t.id IN (%s) AND NOT " NQ_RENEWS(
            "f") " LIMIT %d FOR UPDATE SKIP LOCKED",
        d->tasks, d->followups, tasks->p, MYSQL_FOLLOWED_MAX);
    int rc = nq_mysql_query_buf(c, &b, err);
    nq_buf_free(&b);
    if (rc == NQ_OK)
        rc = nq_mysql_result(c, &r, err);
    while (r && (row = mysql_fetch_row(r))) {
        if (found++ == 0)
            nq_buf_fmt(gone, ";" NQ_MYSQL_DELETE_BY_KEY " %s WHERE id IN (", d->followups);
        nq_buf_fmt(gone, "%s%s", found > 1 ? "," : "", row[0]);
        nq_buf_fmt(&of, " WHEN %s THEN %s", row[0], row[1]);
    }
    if (r)
        mysql_free_result(r);
    gone->failed = gone->failed || of.failed;
    if (found > 0 && a->gate &&
        !of.failed) /* not all of the tasks may be taken, and a key may go at the start */
        nq_buf_fmt(
            gone,
            ") AND (SELECT x.lease FROM %s x FORCE INDEX (PRIMARY) WHERE x.id=CASE %s.id%s END)=%" PRIu64
            " LIMIT %zu",
            d->tasks, d->followups, of.p, a->lease, found);
    else if (found > 0)
        nq_buf_fmt(gone,
                   ") AND (SELECT COUNT(*) FROM %s FORCE INDEX (PRIMARY) WHERE id IN (%s) AND lease=%" PRIu64
                   ")=%zu LIMIT %zu",
                   d->tasks, tasks->p, a->lease, n, found);
    nq_buf_free(&of);
    return rc == NQ_OK && gone->failed ? nq_err_nomem(err) : rc;
}
