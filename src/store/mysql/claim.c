/* SPDX-License-Identifier: MIT */
/* MySQL and MariaDB: claiming tasks, and settling claims whose COMMIT was not answered. */
#include <inttypes.h>

#include "../groups.h"
#include "mysql_driver.h"

/* ---- Claim: when COMMIT's answer was lost ---------------------------------------------------- */

/* On c where it still works, on a connection of its own where it does not: what of the batch is ours? */
static int mysql_claim_verify(nq_mysql_conn *c, uint64_t lease, nq_mysql_batch *batch, nq_err *err)
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
        nq_mysql_doubt_remember(nq_mysql_data_of(c->base.store), lease, batch->ids, batch->list.n);
    if (other)
        nq_mysql_disconnect(other);
    free(have);
    return rc;
}

/* ---- Claim ---------------------------------------------------------------------------------- */

/* What piggybacks shares the claim's COMMIT. */
static void mysql_claim_piggybacked(const nq_claim_args *a, enum nq_piggybacked piggybacked)
{
    if (a->piggyback)
        a->piggyback->piggybacked = piggybacked;
}

/* After a COMMIT without an answer: what of the batch is ours says whether it took effect. */
static int mysql_claim_doubt(nq_mysql_conn *c, const nq_claim_args *a, nq_mysql_batch *batch, nq_err *err)
{
    c->base.broken = true;
    const int rc = mysql_claim_verify(c, a->lease, batch, err);
    const enum nq_piggybacked taken = batch->list.n ? NQ_PIGGYBACKED : NQ_PIGGYBACKED_NO;
    mysql_claim_piggybacked(a, rc == NQ_OK ? taken : NQ_PIGGYBACKED_UNKNOWN);
    return rc;
}

static void mysql_claim_refused(const nq_claim_args *a, const nq_mysql_batch *batch, int rc)
{
    if (a->refused && batch->list.n == 1)
        *a->refused = (nq_refused){nq_row_refused(rc), false, batch->list.head->task.id};
}

/* An id of plain SQL's may be above what nq_id holds; sorted, it is the last one. */
static bool mysql_claim_ids(const nq_mysql_batch *batch)
{
    return batch->list.n == 0 || batch->ids[batch->list.n - 1] <= INT64_MAX;
}

/* Those whose unique key is free from now on. */
static void mysql_claim_unkey(const nq_mysql_batch *batch, nq_buf *b)
{
    size_t n = 0;
    for (const nq_claimed *c = batch->list.head; c; c = c->next)
        if (c->unkey)
            nq_buf_fmt(b, "%s%" PRId64, n++ ? "," : ",unique_key=IF(id IN (", c->task.id);
    nq_buf_str(b, n ? "),NULL,unique_key)" : "");
}

/* The second round trip: the gates of what is limited, and take. How many statements are between the UPDATE
 * and what ends it. */
static int mysql_claim_take_text(const nq_mysql_conn *c, const nq_claim_args *a, const nq_mysql_batch *batch,
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
    mysql_claim_unkey(batch, b);
    nq_buf_str(b, " WHERE (");
    nq_mysql_where_ids(b, batch->ids, batch->list.n);
    nq_buf_fmt(b, ")%s%s", a->gate ? " AND FIND_IN_SET(id,@nanoq_take)" : "", c->nodes ? " AND state=0" : "");
    const int written = a->gate ? nq_mysql_gates_write(c, a, batch, b) : 0;
    nq_buf_fmt(b, "%s;COMMIT", gone->n ? gone->p : "");
    return (gone->n > 0) + written;
}

/* What became of it; *ended: an answer came to all of it. Else the client library has the error, and *doubt:
 * it may have come to the COMMIT. */
static int mysql_claim_taken(nq_mysql_conn *c, const nq_claim_args *a, nq_mysql_batch *batch, int more,
                             bool *ended, bool *doubt, nq_err *err)
{
    size_t n = batch->list.n;
    uint64_t *taken = NULL;
    int rc = NQ_OK;
    if (a->gate && !nq_mysql_gates_read(c, &taken, &n)) {
        *doubt = nq_mysql_client_error(mysql_errno(c->my));
        return NQ_OK;
    }
    const uint64_t matched = (uint64_t)mysql_affected_rows(c->my);
    *ended = mysql_next_result(c->my) == 0;
    for (; *ended && more > 0; more--)
        *ended = mysql_next_result(c->my) == 0;
    *doubt = !*ended; /* an answer to UPDATE but none to COMMIT */
    if (*ended) {
        mysql_claim_piggybacked(a, NQ_PIGGYBACKED);
        if (a->gate)
            a->gate->clock->raced = n == 0;
        if (a->gate && n < batch->list.n)
            a->gate->clock->room = n;
        /* A Galera node has been seen to answer OK here although a write of another node had ended the
         * transaction: the claim was not there. */
        if (matched != n || c->nodes)
            rc = mysql_claim_verify(c, a->lease, batch, err);
        else if (a->gate)
            nq_mysql_batch_keep(batch, taken, n);
    }
    free(taken);
    return rc;
}

/* On an error nothing is held, or what may be is remembered. */
static int mysql_claim_take(nq_mysql_conn *c, const nq_claim_args *a, nq_mysql_batch *batch, nq_err *err)
{
    nq_buf b = {0}, gone = {0};
    nq_exec_result res;
    bool ended = false, doubt = false;
    int more = 0, rc = nq_mysql_followed_lock(c, a, &batch->followed, batch->nfollowed, &gone, err);
    if (rc == NQ_OK) {
        more = mysql_claim_take_text(c, a, batch, &gone, &b);
        rc = b.failed ? nq_err_nomem(err) : NQ_OK;
    }
    if (rc != NQ_OK) {
        nq_mysql_rollback(&c->base);
        goto out;
    }
    if (mysql_real_query(c->my, b.p, (unsigned long)b.n) == 0)
        rc = mysql_claim_taken(c, a, batch, more, &ended, &doubt, err);
    if (ended)
        goto out;
    const unsigned number = mysql_errno(c->my);
    if (nq_mysql_unanswered(number) || (doubt && nq_mysql_client_error(number)) ||
        (doubt && nq_mysql_lost_(number) && number != NQ_MYSQL_ER_LOCK_DEADLOCK &&
         number != NQ_MYSQL_ER_CHECKREAD)) {
        rc = mysql_claim_doubt(c, a, batch, err);
        goto out;
    }
    nq_mysql_failed_(&res, number, mysql_sqlstate(c->my), mysql_error(c->my));
    rc = nq_mysql_own_failed(c, &res, err);
    nq_mysql_rollback(&c->base);
    mysql_claim_refused(a, batch, rc);
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

/* Would a look have led to this claim? */
static bool mysql_claim_first(const nq_claim_args *a, const nq_look *look)
{
    for (size_t i = 0; i < look->n; i++) {
        const nq_level *l = &look->levels[i];
        if ((l->priority < a->priority && l->first_run_at <= look->now_us) ||
            (l->priority == a->priority && l->first_run_at < a->from_run_at))
            return false;
    }
    return true;
}

/* Nothing to take: commit what piggybacks, or end the transaction. */
static int mysql_claim_nothing(nq_mysql_conn *c, const nq_claim_args *a, const nq_mysql_done *done, int rc,
                               nq_err *err)
{
    if (rc != NQ_OK || !done->n) {
        nq_mysql_rollback(&c->base);
        return rc;
    }
    rc = c->base.store->driver->commit(&c->base, err);
    mysql_claim_piggybacked(a, nq_piggybacked_of(rc));
    return rc;
}

/* The rows of so many SELECTs. */
static int mysql_claim_rows(nq_mysql_conn *c, const nq_claim_args *a, size_t selects, nq_mysql_batch *batch,
                            nq_err *err)
{
    int rc = NQ_OK;
    for (size_t i = 0; i < selects && rc == NQ_OK; i++) {
        MYSQL_RES *r = NULL;
        if ((rc = nq_mysql_next(c, err)) == NQ_OK)
            rc = nq_mysql_result(c, &r, err);
        if (rc == NQ_OK && r && nq_mysql_batch_read(batch, a, c->base.store->max_payload, false, r) != NQ_OK)
            rc = nq_err_nomem(err);
        if (r)
            mysql_free_result(r);
    }
    nq_mysql_batch_sort(batch);
    return rc;
}

/* What is limited was looked at before, with what piggybacks. */
static bool mysql_claim_begun(const nq_claim_args *a, const nq_mysql_done *done)
{
    return a->gate && done->n;
}

/* "START TRANSACTION; DELETE ...; SELECT ... FOR UPDATE SKIP LOCKED" in b, and perhaps the levels: read its
 * rows, then take them. */
static int mysql_claim_select(nq_mysql_conn *c, const nq_buf *b, size_t selects, const nq_claim_args *a,
                              const nq_mysql_done *done, nq_mysql_batch *batch, nq_err *err)
{
    int rc = nq_mysql_query_buf(c, b, err);
    if (rc == NQ_OK)
        rc = mysql_claim_begun(a, done) ? NQ_OK : nq_mysql_done_read(done, c, false, err);
    if (rc == NQ_OK)
        rc = mysql_claim_rows(c, a, selects, batch, err);
    if (rc == NQ_OK && a->look) {
        rc = nq_mysql_next(c, err);
        rc = rc == NQ_OK ? nq_mysql_levels_read(c, a->look, err) : rc;
        if (rc == NQ_OK && !mysql_claim_first(a, a->look))
            nq_mysql_batch_free(batch);
    }
    if (rc == NQ_OK && !nq_claim_may(a))
        nq_mysql_batch_free(batch);
    if (rc == NQ_OK && !mysql_claim_ids(batch)) {
        rc = nq_err_set(err, NQ_EINVAL, "an id is above the largest one, %" PRId64, INT64_MAX);
        mysql_claim_refused(a, batch, rc);
    }
    if (rc != NQ_OK || batch->list.n == 0)
        return mysql_claim_nothing(c, a, done, rc, err);
    return mysql_claim_take(c, a, batch, err);
}

static void mysql_claim_columns(const nq_mysql_conn *c, nq_buf *b)
{
    const nq_mysql_data *d = nq_mysql_data_of(c->base.store);
    nq_buf_fmt(b, ";SELECT %s", d->claimed);
    if (nq_store_followed(c->base.store))
        nq_mysql_followed(d, ",", "t", b);
    nq_buf_fmt(b, " FROM %s t", d->tasks);
}

static void mysql_claim_begin(const nq_mysql_conn *c, const nq_claim_args *a, const nq_mysql_done *done,
                              nq_buf *b)
{
    nq_buf_str(b, mysql_claim_begun(a, done) ? "DO 0" : "START TRANSACTION");
    if (!mysql_claim_begun(a, done))
        nq_mysql_done_text(done, c->base.store, b);
}

static int mysql_claim_any(nq_mysql_conn *c, const nq_claim_args *a, const nq_mysql_done *done,
                           nq_mysql_batch *batch, nq_err *err)
{
    nq_buf b = {0};
    size_t left = a->limit;
    const size_t selects = a->nturns ? a->nturns : 1;
    mysql_claim_begin(c, a, done, &b);
    for (size_t i = 0; i < selects; i++) {
        const nq_claim_args turn = nq_mysql_turn(a, i, &left);
        mysql_claim_columns(c, &b);
        nq_mysql_turn_where(&b, a, i, &turn);
        nq_buf_fmt(&b, " ORDER BY run_at,id LIMIT %zu FOR UPDATE SKIP LOCKED", turn.limit);
    }
    if (a->look) {
        nq_buf_str(&b, ";");
        nq_mysql_levels_text(c->base.store, a->queue, &b);
    }
    const int rc = mysql_claim_select(c, &b, selects, a, done, batch, err);
    nq_buf_free(&b);
    return rc;
}

/* Of these, which were read without locks, those that may still be claimed: each may have been claimed, put
 * off or moved in between. */
static int mysql_claim_by_ids(nq_mysql_conn *c, const nq_claim_args *a, const uint64_t *ids, size_t n,
                              const nq_mysql_done *done, nq_mysql_batch *batch, nq_err *err)
{
    nq_buf b = {0};
    if (n == 0)
        return mysql_claim_begun(a, done) ? mysql_claim_nothing(c, a, done, NQ_OK, err) : NQ_OK;
    mysql_claim_begin(c, a, done, &b);
    mysql_claim_columns(c, &b);
    nq_buf_str(&b, " FORCE INDEX (PRIMARY) WHERE (");
    nq_mysql_where_ids(&b, ids, n);
    nq_buf_str(&b, ") AND state=0 AND run_at<=UTC_TIMESTAMP(6) AND queue IN (");
    for (size_t i = 0; i < (a->nturns ? a->nturns : 1); i++) {
        const char *queue = a->nturns ? a->turns[i].queue : a->queue;
        nq_buf_str(&b, i ? "," : "");
        nq_mysql_hex(&b, "_ascii", queue, strlen(queue));
    }
    nq_buf_fmt(&b, ")%s FOR UPDATE SKIP LOCKED",
               a->gate ? " ORDER BY run_at,id" : ""); /* the first ones are taken */
    const int rc = mysql_claim_select(c, &b, 1, a, done, batch, err);
    nq_buf_free(&b);
    return rc;
}

/*
 * With a filter by type: MariaDB keeps the locks of rows that the scan of a secondary index filtered out, so
 * look without locks, then lock by primary key. Another claimer may have locked all that was seen: look
 * further then.
 */
static int mysql_claim_typed(nq_mysql_conn *c, const nq_claim_args *a, const nq_mysql_done *done,
                             nq_mysql_batch *batch, nq_err *err)
{
    const nq_mysql_done none = {0};
    for (size_t round = 0; round < 4; round++) {
        uint64_t *ids = NULL;
        size_t n = 0;
        int rc = nq_mysql_candidates(c, a, round * a->limit, &ids, &n, err);
        if (rc == NQ_OK)
            rc = mysql_claim_by_ids(c, a, ids, n, done, batch, err);
        else if (mysql_claim_begun(a, done))
            nq_mysql_rollback(&c->base);
        free(ids);
        if (rc != NQ_OK || batch->list.n || n < a->limit || a->nturns)
            return rc;
        done = &none;
        nq_mysql_batch_free(batch);
    }
    return NQ_OK;
}

/* One task of each of many turns: a SELECT for each costs the server several times as much. */
static int mysql_claim_firsts(nq_mysql_conn *c, const nq_claim_args *a, const nq_mysql_done *done,
                              nq_mysql_batch *batch, nq_err *err)
{
    uint64_t *ids = NULL;
    size_t n = 0;
    int rc = nq_mysql_firsts(c, a, &ids, &n, err);
    if (rc == NQ_OK)
        rc = mysql_claim_by_ids(c, a, ids, n, done, batch, err);
    else if (mysql_claim_begun(a, done))
        nq_mysql_rollback(&c->base);
    free(ids);
    return rc;
}

static int mysql_claim_some(nq_mysql_conn *c, const nq_claim_args *a, const nq_mysql_done *done,
                            nq_mysql_batch *batch, nq_err *err)
{
    return a->types                   ? mysql_claim_typed(c, a, done, batch, err)
           : nq_mysql_takes_firsts(a) ? mysql_claim_firsts(c, a, done, batch, err)
                                      : mysql_claim_any(c, a, done, batch, err);
}

/* Put a list that was read in id order into (run_at, id) order: a merge sort, stable, in place. */
static nq_claimed *mysql_claim_sort(nq_claimed *list)
{
    nq_claimed *half = list, *end = list, *head = NULL, **tail = &head;
    if (!list || !list->next)
        return list;
    while ((end = end->next) && (end = end->next))
        half = half->next;
    nq_claimed *b = half->next;
    half->next = NULL;
    nq_claimed *a = mysql_claim_sort(list);
    b = mysql_claim_sort(b);
    while (a && b) {
        nq_claimed **first = a->task.run_at_us <= b->task.run_at_us ? &a : &b;
        *tail = *first;
        tail = &(*first)->next;
        *first = *tail;
    }
    *tail = a ? a : b;
    return head;
}

/* Of each turn only what its limit seems to leave. */
static int mysql_claim_gated(nq_mysql_conn *c, const nq_claim_args *a, const nq_mysql_done *done,
                             nq_mysql_batch *batch, nq_err *err)
{
    nq_mysql_rooms rooms = {.room = calloc(a->nturns, sizeof *rooms.room)};
    nq_turn *turns = calloc(a->nturns, sizeof *turns);
    nq_claim_args left = *a;
    size_t room = 0;
    int rc = rooms.room && turns ? nq_mysql_gates_look(c, a, done, &rooms, err) : nq_err_nomem(err);
    left.turns = turns;
    left.nturns = 0;
    left.limit = rooms.all;
    for (size_t i = 0; rc == NQ_OK && i < a->nturns; i++) {
        const size_t share = nq_turn_share(&a->turns[i], rooms.all, a->limit);
        turns[left.nturns] = a->turns[i];
        turns[left.nturns].most = rooms.room[i] < share ? rooms.room[i] : share;
        room += turns[left.nturns].most;
        left.nturns += rooms.room[i] > 0;
    }
    a->gate->clock->room = room < rooms.all ? room : rooms.all;
    a->gate->clock->shut = rooms.all == 0;
    a->gate->clock->nodes = c->nodes;
    if (rc == NQ_OK && left.nturns > 0 && left.limit > 0)
        rc = mysql_claim_some(c, &left, done, batch, err);
    else if (mysql_claim_begun(a, done))
        rc = mysql_claim_nothing(c, a, done, rc, err);
    if (rc == NQ_OK && batch->list.n > 0)
        nq_gate_assign(a->gate, turns, left.nturns, batch->list.head);
    if (rc == NQ_OK && rooms.missing.n > 0) { /* at once: others may bring something each time */
        const bool none = batch->list.n == 0;
        const int made = nq_mysql_gates_make(c, &rooms, none ? err : NULL);
        rc = none ? made : NQ_OK;                              /* what was claimed is */
        a->gate->clock->raced = none || a->gate->clock->raced; /* to be asked again soon */
    }
    free(rooms.room);
    nq_buf_free(&rooms.missing);
    free(turns);
    return rc;
}

int nq_mysql_claim(nq_conn *conn, const nq_claim_args *a, nq_claimed **out, size_t *n, nq_err *err)
{
    nq_mysql_conn *c = nq_mysql_of(conn);
    nq_mysql_batch batch = {0};
    nq_mysql_done done = {0};
    int rc = nq_mysql_settle(c, err);
    if (rc == NQ_OK)
        rc = nq_mysql_guard(c, err);
    if (rc == NQ_OK && a->piggyback && !nq_mysql_done_new(&done, a->piggyback->outcomes, a->piggyback->n))
        rc = nq_err_nomem(err);
    if (rc == NQ_OK && a->limit && a->gate)
        rc = mysql_claim_gated(c, a, &done, &batch, err);
    else if (rc == NQ_OK && a->limit && (!a->types || a->ntypes))
        rc = mysql_claim_some(c, a, &done, &batch, err);
    if (rc == NQ_OK) {
        if (a->refused)
            a->refused->cut = batch.cut;
        *out = a->types ? mysql_claim_sort(batch.list.head) : batch.list.head;
        *n = batch.list.n;
        batch.list.head = NULL;
    }
    nq_mysql_done_free(&done);
    nq_mysql_batch_free(&batch);
    return rc;
}
