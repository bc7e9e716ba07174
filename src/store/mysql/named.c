/* SPDX-License-Identifier: MIT */
/* MySQL and MariaDB: claiming one task whose id is known. */
#include <inttypes.h>

#include "mysql_driver.h"

/* "UPDATE; SELECT" in one round trip; the UPDATE commits itself. Not where a rival holds the row: waiting for
 * it would be waiting for a client that may have been stopped. */
static int mysql_named_claim(nq_mysql_conn *c, const nq_claim_args *a, nq_mysql_batch *batch, nq_err *err)
{
    const char *tasks = nq_mysql_data_of(c->base.store)->tasks;
    const uint64_t id = (uint64_t)a->from_id;
    MYSQL_RES *r = NULL;
    nq_buf b = {0};
    nq_err why = {0};
    nq_buf_fmt(
        &b,
        "SET STATEMENT innodb_lock_wait_timeout=0 FOR UPDATE %s FORCE INDEX (PRIMARY) SET state=1,"
        "generation=LEAST(generation+1," NQ_MAX_GENERATION "),claimed_at=UTC_TIMESTAMP(6),lease=%" PRIu64
        " WHERE id=%" PRIu64
        " AND state=0 AND run_at<=UTC_TIMESTAMP(6) AND (headers IS NULL OR LOCATE('nq-unique',headers)=0)"
        " AND queue=", /* one whose key the claim frees is left to the others */
        tasks, a->lease, id);
    nq_mysql_hex(&b, "_ascii", a->queue, strlen(a->queue));
    if (nq_store_followed(c->base.store))
        nq_mysql_followed(nq_mysql_data_of(c->base.store), " AND NOT ", tasks, &b);
    nq_buf_fmt(&b, ";SELECT %s FROM %s t WHERE id=%" PRIu64 " AND lease=%" PRIu64,
               nq_mysql_data_of(c->base.store)->claimed, tasks, id, a->lease);
    int rc = nq_mysql_query_buf(c, &b, &why);
    const bool taken = rc == NQ_OK;
    nq_buf_free(&b);
    if (rc == NQ_ECONFLICT)
        return NQ_OK; /* it is somebody else's */
    if (rc == NQ_OK)
        rc = nq_mysql_next(c, &why);
    if (rc == NQ_OK)
        rc = nq_mysql_result(c, &r, &why);
    if (rc == NQ_OK && r && nq_mysql_batch_read(batch, a, c->base.store->max_payload, true, r) != NQ_OK)
        rc = nq_err_nomem(&why);
    if (r)
        mysql_free_result(r);
    if (rc != NQ_OK && (taken || nq_mysql_unanswered((unsigned)why.db_code))) {
        /* It may be ours: the next claim gives it back. No second try, it would have the same lease. */
        nq_doubts_add(c->base.store, a->lease, &id, 1);
        rc = rc == NQ_ENOMEM ? rc : nq_mysql_unknown(&why);
    }
    if (rc != NQ_OK && err)
        *err = why;
    return rc;
}

int nq_mysql_claim_id(nq_conn *conn, const nq_claim_args *a, nq_claimed **out, size_t *n, nq_err *err)
{
    nq_mysql_conn *c = nq_mysql_of(conn);
    nq_mysql_batch batch = {0};
    if (!c->mariadb) /* MySQL cannot say for one statement how long it may wait */
        return NQ_OK;
    const int rc = mysql_named_claim(c, a, &batch, err);
    if (rc == NQ_OK) {
        *out = batch.list.head;
        *n = batch.list.n;
        batch.list.head = NULL;
    }
    nq_mysql_batch_free(&batch);
    return rc;
}
