/* SPDX-License-Identifier: MIT */
/* MySQL and MariaDB: taking the rows that a claim has locked, and settling a COMMIT that was not answered. */
#include <inttypes.h>

#include "../groups.h"
#include "mysql_driver.h"

/* ---- Claim: when COMMIT's answer was lost ---------------------------------------------------- */

/* On c where it still works, on a connection of its own where it does not: what of the batch is ours? */
static int mysql_take_verify(nq_mysql_conn *c, uint64_t lease, nq_mysql_batch *batch, nq_err *err)
{
    nq_conn *other = NULL;
    size_t found = 0;
    int rc = NQ_OK;
    uint64_t *have = calloc(batch->list.n > 0 ? batch->list.n : 1, sizeof *have);
    if (!have)
        rc = nq_err_nomem(err);
    else if (c->base.broken)
        rc = nq_mysql_connect(c->base.store, &other, err);
    for (int tries = 0; rc == NQ_OK && tries < 3; tries++) {
        rc = nq_mysql_doubt_look_up(other ? nq_mysql_of(other) : c, lease, batch->ids, batch->list.n, have,
                                    &found, err);
        if (rc != NQ_ECONFLICT)
            break;
        rc = tries < 2 ? NQ_OK : rc;
    }
    if (rc == NQ_OK)
        nq_mysql_batch_keep(batch, have, found);
    else
        nq_doubts_add(c->base.store, lease, batch->ids, batch->list.n);
    if (other)
        nq_mysql_disconnect(other);
    free(have);
    return rc;
}

/* ---- Claim ---------------------------------------------------------------------------------- */

/* What piggybacks shares the claim's COMMIT. */
NQ_PRIVATE void nq_mysql_claim_piggybacked(const nq_claim_args *a, enum nq_piggybacked piggybacked)
{
    if (a->piggyback)
        a->piggyback->piggybacked = piggybacked;
}

/* After a COMMIT without an answer: what of the batch is ours says whether it took effect. */
static int mysql_take_doubt(nq_mysql_conn *c, const nq_claim_args *a, nq_mysql_batch *batch, nq_err *err)
{
    c->base.broken = true;
    const int rc = mysql_take_verify(c, a->lease, batch, err);
    const enum nq_piggybacked taken = batch->list.n ? NQ_PIGGYBACKED : NQ_PIGGYBACKED_NO;
    nq_mysql_claim_piggybacked(a, rc == NQ_OK ? taken : NQ_PIGGYBACKED_UNKNOWN);
    return rc;
}

NQ_PRIVATE void nq_mysql_claim_refused(const nq_claim_args *a, const nq_mysql_batch *batch, int rc)
{
    if (a->refused && batch->list.n == 1)
        *a->refused = (nq_refused){nq_row_refused(rc), false, batch->list.head->task.id};
}

/* Those whose unique key is free from now on. */
static void mysql_take_unkey(const nq_mysql_batch *batch, nq_buf *b)
{
    size_t n = 0;
    for (const nq_claimed *c = batch->list.head; c; c = c->next)
        if (c->unkey)
            nq_buf_fmt(b, "%s%" PRId64, n++ ? "," : ",unique_key=IF(id IN (", c->task.id);
    nq_buf_str(b, n ? "),NULL,unique_key)" : "");
}

/* The second round trip: the gates of what is limited, and take. How many statements are between the UPDATE
 * and what ends it. */
static int mysql_take_text(const nq_mysql_conn *c, const nq_claim_args *a, const nq_mysql_batch *batch,
                           const nq_buf *gone, nq_buf *b)
{
    if (a->gate)
        nq_mysql_gates_text(c, a, batch, b);
    nq_buf_fmt(b, "UPDATE %s FORCE INDEX (PRIMARY)", nq_mysql_data_of(c->base.store)->tasks);
    nq_mysql_gates_grant(c, a, b);
    nq_buf_fmt(b,
               " SET %sstate=1,generation=LEAST(generation+1," NQ_MAX_GENERATION
               "),claimed_at=UTC_TIMESTAMP(6),lease=%" PRIu64,
               a->gate && c->nodes ? "grants=grants+1," : "", a->lease);
    mysql_take_unkey(batch, b);
    nq_buf_str(b, " WHERE (");
    nq_mysql_where_ids(b, batch->ids, batch->list.n);
    nq_buf_fmt(b, ")%s%s", a->gate ? " AND FIND_IN_SET(id,@nanoq_take)" : "", c->nodes ? " AND state=0" : "");
    const int written = a->gate ? nq_mysql_gates_write(c, a, batch, b) : 0;
    nq_buf_fmt(b, "%s;COMMIT", gone->n ? gone->p : "");
    return (gone->n > 0) + written;
}

/* What became of it; *ended: an answer came to all of it. Else the client library has the error, and *doubt:
 * it may have come to the COMMIT. */
static int mysql_take_taken(nq_mysql_conn *c, const nq_claim_args *a, nq_mysql_batch *batch, int more,
                            bool *ended, bool *doubt, nq_err *err)
{
    size_t n = batch->list.n;
    uint64_t *taken = NULL;
    int rc = NQ_OK;
    if (a->gate && !nq_mysql_gates_read(c, a, &taken, &n)) {
        *doubt = nq_mysql_client_error(mysql_errno(c->my));
        return NQ_OK;
    }
    const uint64_t matched = (uint64_t)mysql_affected_rows(c->my);
    *ended = mysql_next_result(c->my) == 0;
    for (; *ended && more > 0; more--)
        *ended = mysql_next_result(c->my) == 0;
    *doubt = !*ended; /* an answer to UPDATE but none to COMMIT */
    if (*ended) {
        nq_mysql_claim_piggybacked(a, NQ_PIGGYBACKED);
        if (a->gate)
            a->gate->clock->raced = n == 0;
        if (a->gate && n < batch->list.n)
            a->gate->clock->room = n;
        /* A Galera node has been seen to answer OK here although a write of another node had ended the
         * transaction: the claim was not there. */
        if (matched != n || c->nodes)
            rc = mysql_take_verify(c, a->lease, batch, err);
        else if (a->gate)
            nq_mysql_batch_keep(batch, taken, n);
    }
    free(taken);
    return rc;
}

/* On an error nothing is held, or what may be is remembered. */
NQ_PRIVATE int nq_mysql_claim_take(nq_mysql_conn *c, const nq_claim_args *a, nq_mysql_batch *batch,
                                   nq_err *err)
{
    nq_buf b = {0}, gone = {0};
    nq_exec_result res;
    bool ended = false, doubt = false;
    int more = 0, rc = nq_mysql_followed_lock(c, a, &batch->followed, batch->nfollowed, &gone, err);
    if (rc == NQ_OK) {
        more = mysql_take_text(c, a, batch, &gone, &b);
        rc = b.failed ? nq_err_nomem(err) : NQ_OK;
    }
    if (rc != NQ_OK) {
        nq_mysql_rollback(&c->base);
        goto out;
    }
    if (mysql_real_query(c->my, b.p, (unsigned long)b.n) == 0)
        rc = mysql_take_taken(c, a, batch, more, &ended, &doubt, err);
    if (ended)
        goto out;
    const unsigned number = mysql_errno(c->my);
    if (nq_mysql_unanswered(number) || (doubt && nq_mysql_client_error(number)) ||
        (doubt && nq_mysql_lost_(number) && number != NQ_MYSQL_ER_LOCK_DEADLOCK &&
         number != NQ_MYSQL_ER_CHECKREAD)) {
        rc = mysql_take_doubt(c, a, batch, err);
        goto out;
    }
    nq_mysql_failed_(&res, number, mysql_sqlstate(c->my), mysql_error(c->my));
    rc = nq_mysql_own_failed(c, &res, err);
    nq_mysql_rollback(&c->base);
    nq_mysql_claim_refused(a, batch, rc);
    if (rc == NQ_ECONFLICT && number == NQ_MYSQL_ER_LOCK_WAIT_TIMEOUT && a->gate) {
        nq_mysql_batch_free(
            batch); /* others were at the gate all the time: it is no trouble, only their turn */
        a->gate->clock->raced = true;
        rc = NQ_OK;
    }
out:
    nq_buf_free(&b);
    nq_buf_free(&gone);
    return rc;
}
