/* SPDX-License-Identifier: MIT */
/* MySQL and MariaDB: claiming tasks, and settling claims whose COMMIT was not answered. */
#include <inttypes.h>

#include "../groups.h"
#include "mysql_driver.h"

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
    nq_mysql_claim_piggybacked(a, nq_piggybacked_of(rc));
    return rc;
}

static bool mysql_claim_before(const nq_task *a, const nq_task *b)
{
    return a->run_at_us < b->run_at_us || (a->run_at_us == b->run_at_us && a->id < b->id);
}

/* By (run_at, id): a merge sort, in place. The server would copy all rows, payloads too, to sort them. */
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
        nq_claimed **first = mysql_claim_before(&b->task, &a->task) ? &b : &a;
        *tail = *first;
        tail = &(*first)->next;
        *first = *tail;
    }
    *tail = a ? a : b;
    return head;
}

static void mysql_claim_sorted(nq_claimed_list *list)
{
    nq_claimed *last = list->head = mysql_claim_sort(list->head);
    while (last && last->next)
        last = last->next;
    list->tail = last;
}

/* The rows of so many SELECTs; of one that gives them in any order 0. */
static int mysql_claim_rows(nq_mysql_conn *c, const nq_claim_args *a, size_t selects, nq_mysql_batch *batch,
                            nq_err *err)
{
    int rc = NQ_OK;
    for (size_t i = 0; i < (selects ? selects : 1) && rc == NQ_OK; i++) {
        MYSQL_RES *r = NULL;
        if ((rc = nq_mysql_next(c, err)) == NQ_OK)
            rc = nq_mysql_result(c, &r, err);
        if (rc == NQ_OK && r && nq_mysql_batch_read(batch, a, c->base.store->max_payload, false, r) != NQ_OK)
            rc = nq_err_nomem(err);
        if (r)
            mysql_free_result(r);
    }
    if (selects == 0)
        mysql_claim_sorted(&batch->list);
    nq_mysql_batch_sort(batch);
    return rc;
}

/* An id of plain SQL's may be above what nq_id holds; sorted, it is the last one. */
static bool mysql_claim_ids(const nq_mysql_batch *batch)
{
    return batch->list.n == 0 || batch->ids[batch->list.n - 1] <= INT64_MAX;
}

/* "START TRANSACTION; DELETE ...; SELECT ... FOR UPDATE SKIP LOCKED" in b, and perhaps the levels: read its
 * rows, then take them. */
static int mysql_claim_select(nq_mysql_conn *c, const nq_buf *b, size_t selects, const nq_claim_args *a,
                              const nq_mysql_done *done, nq_mysql_batch *batch, nq_err *err)
{
    int rc = nq_mysql_query_buf(c, b, err);
    if (rc == NQ_OK)
        rc = done->begun ? NQ_OK : nq_mysql_done_read(done, c, false, err);
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
        nq_mysql_claim_refused(a, batch, rc);
    }
    if (rc != NQ_OK || batch->list.n == 0)
        return mysql_claim_nothing(c, a, done, rc, err);
    return nq_mysql_claim_take(c, a, batch, err);
}

/* ";SELECT ... FROM". The tasks are to be t. */
static void mysql_claim_columns(const nq_mysql_conn *c, nq_buf *b)
{
    const nq_mysql_data *d = nq_mysql_data_of(c->base.store);
    nq_buf_fmt(b, ";SELECT %s", d->claimed);
    if (nq_store_followed(c->base.store))
        nq_mysql_followed(d, ",", "t", b);
    nq_buf_str(b, " FROM ");
}

static void mysql_claim_begin(const nq_mysql_conn *c, const nq_mysql_done *done, nq_buf *b)
{
    nq_buf_str(b, done->begun ? "DO 0" : "START TRANSACTION");
    if (!done->begun)
        nq_mysql_done_text(done, c->base.store, b);
}

static int mysql_claim_any(nq_mysql_conn *c, const nq_claim_args *a, const nq_mysql_done *done,
                           nq_mysql_batch *batch, nq_err *err)
{
    nq_buf b = {0};
    size_t left = a->limit;
    const size_t selects = a->nturns ? a->nturns : 1;
    mysql_claim_begin(c, done, &b);
    for (size_t i = 0; i < selects; i++) {
        const nq_claim_args turn = nq_mysql_turn(a, i, &left);
        mysql_claim_columns(c, &b);
        nq_buf_fmt(&b, "%s t", nq_mysql_data_of(c->base.store)->tasks);
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
        return done->begun ? mysql_claim_nothing(c, a, done, NQ_OK, err) : NQ_OK;
    mysql_claim_begin(c, done, &b);
    mysql_claim_columns(c, &b);
    nq_buf_fmt(&b, "%s t FORCE INDEX (PRIMARY) WHERE (", nq_mysql_data_of(c->base.store)->tasks);
    nq_mysql_where_ids(&b, ids, n);
    nq_buf_str(&b, ") AND state=0 AND run_at<=UTC_TIMESTAMP(6) AND queue IN (");
    for (size_t i = 0; i < (a->nturns ? a->nturns : 1); i++) {
        const char *queue = a->nturns ? a->turns[i].queue : a->queue;
        nq_buf_str(&b, i ? "," : "");
        nq_mysql_hex(&b, "_ascii", queue, strlen(queue));
    }
    nq_buf_str(&b, ") FOR UPDATE SKIP LOCKED");
    const int rc = mysql_claim_select(c, &b, 0, a, done, batch, err);
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
        else if (done->begun)
            nq_mysql_rollback(&c->base);
        free(ids);
        if (rc != NQ_OK || batch->list.n || n < a->limit || a->nturns)
            return rc;
        done = &none;
        nq_mysql_batch_free(batch);
    }
    return NQ_OK;
}

/* One task of each turn: a SELECT for each costs the server several times as much. A first one that somebody
 * holds is passed by with its turn. */
static int mysql_claim_firsts(nq_mysql_conn *c, const nq_claim_args *a, const nq_mysql_done *done,
                              nq_mysql_batch *batch, nq_err *err)
{
    nq_buf b = {0};
    mysql_claim_begin(c, done, &b);
    mysql_claim_columns(c, &b);
    nq_mysql_firsts(c, a, &b);
    nq_buf_fmt(&b,
               " f STRAIGHT_JOIN %s t FORCE INDEX (PRIMARY) ON t.id=f.id WHERE t.state=0 AND "
               "t.run_at<=UTC_TIMESTAMP(6) AND t.queue=f.q FOR UPDATE SKIP LOCKED",
               nq_mysql_data_of(c->base.store)->tasks);
    const int rc = mysql_claim_select(c, &b, 0, a, done, batch, err);
    nq_buf_free(&b);
    return rc;
}

static int mysql_claim_some(nq_mysql_conn *c, const nq_claim_args *a, const nq_mysql_done *done,
                            nq_mysql_batch *batch, nq_err *err)
{
    return a->types                   ? mysql_claim_typed(c, a, done, batch, err)
           : nq_mysql_takes_firsts(a) ? mysql_claim_firsts(c, a, done, batch, err)
                                      : mysql_claim_any(c, a, done, batch, err);
}

/* ---- Under limits ---- */

/* Gates without a row are made for the next claim. claimed: an error is none to this one. */
static int mysql_claim_missing(nq_mysql_conn *c, const nq_claim_args *a, const nq_mysql_rooms *rooms,
                               bool claimed, nq_err *err)
{
    if (rooms->missing.n == 0)
        return NQ_OK;
    const int rc = nq_mysql_gates_make(c, rooms, claimed ? NULL : err);
    a->gate->clock->raced = !claimed || a->gate->clock->raced; /* to be asked again soon */
    return claimed ? NQ_OK : rc;
}

/* Of groups of which one may run each, those that have none are found already: nothing else is to be asked
 * before the claim. */
static bool mysql_claim_knows(const nq_mysql_conn *c, const nq_claim_args *a)
{
    bool knows = !c->nodes && !nq_gate_is_needed(a->gate) && nq_mysql_takes_firsts(a);
    for (size_t i = 0; knows && i < a->nturns; i++)
        knows = a->turns[i].max_running <= 1 && !a->turns[i].ordered && a->turns[i].rate.every_ns == 0;
    return knows;
}

/* Claim first, and look afterwards at the gates of those of which nothing could be taken: one may have no row
 * yet, or be shut for a while. */
static int mysql_claim_known(nq_mysql_conn *c, const nq_claim_args *a, const nq_mysql_done *done,
                             nq_mysql_batch *batch, nq_err *err)
{
    nq_gate_clock *clock = a->gate->clock;
    clock->raced = clock->shut = clock->nodes = false;
    clock->room = a->limit;
    clock->from_us = 0;
    int rc = mysql_claim_firsts(c, a, done, batch, err);
    if (rc != NQ_OK || clock->room == a->limit)
        return rc;
    bool open = false;
    const bool raced = clock->raced, claimed = batch->list.n > 0;
    rc = nq_mysql_gates_open(c, a, &open, claimed ? NULL : err);
    if (rc != NQ_OK || open)
        return claimed ? NQ_OK : rc;
    nq_mysql_rooms rooms = {.room = calloc(a->nturns, sizeof *rooms.room)};
    nq_turn *turns = calloc(a->nturns, sizeof *turns);
    nq_mysql_done none = {0};
    nq_claim_args left = *a;
    left.turns = turns;
    left.nturns = 0;
    for (size_t i = 0; turns && i < a->nturns; i++) {
        const nq_claimed *k = batch->list.head;
        while (k && k->turn != i)
            k = k->next;
        if (!k)
            turns[left.nturns++] = a->turns[i];
    }
    if (!rooms.room || !turns)
        rc = nq_err_nomem(claimed ? NULL : err);
    else
        rc = nq_mysql_gates_look(c, &left, &none, &rooms, claimed ? NULL : err);
    clock->raced = raced;
    if (rc == NQ_OK)
        rc = mysql_claim_missing(c, a, &rooms, claimed, err);
    free(rooms.room);
    nq_buf_free(&rooms.missing);
    free(turns);
    return claimed ? NQ_OK : rc;
}

/* Of each turn only what its limit seems to leave. */
static int mysql_claim_looked(nq_mysql_conn *c, const nq_claim_args *a, nq_mysql_done *done,
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
    else if (done->begun)
        rc = mysql_claim_nothing(c, a, done, rc, err);
    if (rc == NQ_OK && batch->list.n > 0)
        nq_gate_assign(a->gate, turns, left.nturns, batch->list.head);
    if (rc == NQ_OK) /* at once: others may bring something each time */
        rc = mysql_claim_missing(c, a, &rooms, batch->list.n > 0, err);
    free(rooms.room);
    nq_buf_free(&rooms.missing);
    free(turns);
    return rc;
}

static int mysql_claim_limited(nq_mysql_conn *c, const nq_claim_args *a, nq_mysql_done *done,
                               nq_mysql_batch *batch, nq_err *err)
{
    return mysql_claim_knows(c, a) ? mysql_claim_known(c, a, done, batch, err)
                                   : mysql_claim_looked(c, a, done, batch, err);
}

int nq_mysql_claim(nq_conn *conn, const nq_claim_args *a, nq_claimed **out, size_t *n, nq_err *err)
{
    nq_mysql_conn *c = nq_mysql_of(conn);
    nq_mysql_batch batch = {0};
    nq_mysql_done done = {0};
    int rc = nq_doubts_settle(&c->base, err);
    if (rc == NQ_OK)
        rc = nq_mysql_guard(c, err);
    if (rc == NQ_OK && a->piggyback && !nq_mysql_done_new(&done, a->piggyback->outcomes, a->piggyback->n))
        rc = nq_err_nomem(err);
    if (rc == NQ_OK && a->limit && a->gate)
        rc = mysql_claim_limited(c, a, &done, &batch, err);
    else if (rc == NQ_OK && a->limit && (!a->types || a->ntypes))
        rc = mysql_claim_some(c, a, &done, &batch, err);
    if (rc == NQ_OK) {
        if (a->refused)
            a->refused->cut = batch.cut;
        *out = batch.list.head;
        *n = batch.list.n;
        batch.list.head = NULL;
    }
    nq_mysql_done_free(&done);
    nq_mysql_batch_free(&batch);
    return rc;
}
