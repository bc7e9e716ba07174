/* SPDX-License-Identifier: MIT */
/* MySQL and MariaDB: the gates of limited queues and groups. */
#include <inttypes.h>

#include "../groups.h"
#include "gates.h"

/*
 * A limited queue or group is claimed under the lock of its gate, a row that is locked until the claim's
 * COMMIT: what runs is counted behind the lock, at READ COMMITTED, so that each earlier claim is seen, and
 * nothing but claims under this lock makes it more. No counter is kept, so none can be wrong, whatever dies.
 *
 * A client may be stopped at any moment, and the server would keep its locks until it drops the session: 30 s
 * on MariaDB, a minute on MySQL. So no gate is ever held while the server waits for a client. What could be
 * claimed is looked at and locked first, as without a limit. Then locking the gates, counting, claiming and
 * COMMIT are sent together, and how many of the candidates are taken the server works out by itself, in
 * variables of the session; it goes on to the end whatever became of the client. The candidates of a client
 * that was stopped before that are passed by, like those of any claim.
 *
 * On Galera a lock is of one node, and what two nodes write to one row is noticed at COMMIT: one of them
 * fails. A node has been seen to end a transaction between two statements and run the next one as one of its
 * own. So there the gate of the queue, which stands for those of its groups too, is written by the very
 * statement that claims, and only where nobody has written it since it was read, before the count.
 *
 * What a rate leaves is worked out here, from what the look said; the claim takes it only where the gate
 * still says the same. Where it does not, somebody else took what there was.
 *
 * The gate of a whole queue is waited for, since whoever holds it is about to commit. Those of groups, which
 * come after it, are passed by where another has them: so nobody who holds a lock of a gate waits for one.
 */

#define MYSQL_GATES_US(column) "TIMESTAMPDIFF(MICROSECOND,'1970-01-01'," column ")"

NQ_PRIVATE void nq_mysql_gates_table(const nq_mysql_conn *c, nq_buf *b)
{
    nq_buf_fmt(b, "`%sgates`", c->base.store->prefix);
}

NQ_PRIVATE void nq_mysql_gates_name(nq_buf *b, const char *name)
{
    nq_mysql_hex(b, "_ascii", name, strlen(name));
}

NQ_PRIVATE bool nq_mysql_gates_queue(const nq_mysql_conn *c, const nq_claim_args *a)
{
    return c->nodes || nq_gate_is_needed(a->gate);
}

NQ_PRIVATE bool nq_mysql_gates_turn(const nq_mysql_conn *c, const nq_turn *t)
{
    return c->nodes ? t->rate.every_ns > 0 || t->ordered : nq_turn_is_gated(t);
}

NQ_PRIVATE bool nq_mysql_gates_counts(const nq_mysql_conn *c, const nq_turn *t)
{
    (void)c;
    return t->max_running > 0;
}

/* "A,B" of such turns; NULL where there are none. */
static void mysql_gates_list(const nq_mysql_conn *c, nq_buf *b, const nq_claim_args *a,
                             bool such(const nq_mysql_conn *, const nq_turn *))
{
    const size_t before = b->n;
    for (size_t i = 0; i < a->nturns; i++) {
        if (!such(c, &a->turns[i]))
            continue;
        nq_buf_str(b, b->n > before ? "," : "");
        nq_mysql_gates_name(b, a->turns[i].queue);
    }
    if (b->n == before)
        nq_buf_str(b, "NULL");
}

NQ_PRIVATE void nq_mysql_gates_names(const nq_mysql_conn *c, nq_buf *b, const nq_claim_args *a)
{
    mysql_gates_list(c, b, a, nq_mysql_gates_turn);
}

NQ_PRIVATE void nq_mysql_gates_counts_of(const nq_mysql_conn *c, nq_buf *b, const nq_claim_args *a)
{
    nq_buf_fmt(b, "SELECT queue,COUNT(*) AS n FROM %s FORCE INDEX (claim) WHERE state=1 AND queue IN (",
               nq_mysql_data_of(c->base.store)->tasks);
    mysql_gates_list(c, b, a, nq_mysql_gates_counts);
    nq_buf_str(b, ") GROUP BY queue");
}

/* How many run in one of them. */
static void mysql_gates_count(const nq_mysql_conn *c, const char *queue, nq_buf *b)
{
    nq_buf_fmt(b, "(SELECT COUNT(*) FROM %s FORCE INDEX (claim) WHERE state=1 AND queue=",
               nq_mysql_data_of(c->base.store)->tasks);
    nq_mysql_gates_name(b, queue);
    nq_buf_str(b, ")");
}

NQ_PRIVATE void nq_mysql_gates_count_all(const nq_mysql_conn *c, const nq_gate *gate, nq_buf *b)
{
    const char *tasks = nq_mysql_data_of(c->base.store)->tasks;
    nq_buf_str(b, "(");
    mysql_gates_count(c, gate->queue, b);
    nq_buf_fmt(b,
               "+(SELECT COUNT(*) FROM (SELECT queue,state,priority FROM %s FORCE INDEX (claim) WHERE queue>",
               tasks);
    nq_mysql_gates_name(b, gate->from);
    nq_buf_str(b, " COLLATE ascii_bin AND queue<");
    nq_mysql_gates_name(b, gate->to);
    nq_buf_fmt(b,
               " COLLATE ascii_bin GROUP BY queue,state,priority HAVING state=1) g JOIN %s t FORCE INDEX "
               "(claim) ON t.queue=g.queue AND t.state=1 AND t.priority=g.priority))",
               tasks);
}

/* ---- The look before the claim ---- */

static int64_t mysql_gates_number(const char *text)
{
    return text ? strtoll(text, NULL, 10) : 0;
}

/* What a row leaves: queue, tat, not_before. */
static void mysql_gates_bucket(const nq_claim_args *a, nq_bucket *bucket, const nq_rate *rate, MYSQL_ROW row,
                               size_t *room)
{
    nq_bucket_open(bucket, rate, a->gate->clock, mysql_gates_number(row[1]), mysql_gates_number(row[2]),
                   room);
}

/* The gates that are there; of the others a row is to be made. */
static int mysql_gates_there(nq_mysql_conn *c, const nq_claim_args *a, int64_t before_us,
                             nq_mysql_rooms *rooms, nq_err *err)
{
    MYSQL_RES *r = NULL;
    bool clock = false;
    const int rc = nq_mysql_result(c, &r, err);
    rooms->all = a->limit;
    for (MYSQL_ROW row; r && (row = mysql_fetch_row(r)); clock = true) {
        if (!clock)
            nq_gate_clock_read(a->gate->clock, before_us, mysql_gates_number(row[3]), nq_mono_us());
        if (nq_mysql_gates_queue(c, a) && strcmp(row[0], a->gate->queue) == 0)
            mysql_gates_bucket(a, a->gate->bucket, &a->gate->rate, row, &rooms->all);
        for (size_t i = 0; i < a->nturns; i++)
            if (nq_mysql_gates_turn(c, &a->turns[i]) && strcmp(row[0], a->turns[i].queue) == 0) {
                rooms->room[i] = a->turns[i].most;
                mysql_gates_bucket(a, a->turns[i].bucket, &a->turns[i].rate, row, &rooms->room[i]);
            }
    }
    if (r)
        mysql_free_result(r);
    const bool queue = !nq_mysql_gates_queue(c, a) || a->gate->bucket->there;
    for (size_t i = 0; i <= a->nturns; i++) {
        if (i < a->nturns && queue && !nq_mysql_gates_turn(c, &a->turns[i]))
            rooms->room[i] = a->turns[i].most;
        const bool there =
            i == a->nturns ? queue : !nq_mysql_gates_turn(c, &a->turns[i]) || a->turns[i].bucket->there;
        if (there)
            continue;
        nq_buf_str(&rooms->missing, rooms->missing.n ? ",(" : "(");
        nq_mysql_gates_name(&rooms->missing, i == a->nturns ? a->gate->queue : a->turns[i].queue);
        nq_buf_str(&rooms->missing, ")");
    }
    rooms->all = queue ? rooms->all : 0;
    return rc;
}

static size_t mysql_gates_left(const char *running, int64_t most, size_t room)
{
    const int64_t left = running ? most - strtoll(running, NULL, 10) : 0;
    return left <= 0 ? 0 : (uint64_t)left < room ? (size_t)left : room;
}

/* A group of which none runs has no row. */
static int mysql_gates_counted(nq_mysql_conn *c, const nq_claim_args *a, nq_mysql_rooms *rooms, nq_err *err)
{
    MYSQL_RES *r = NULL;
    int rc = nq_mysql_next(c, err);
    if (rc == NQ_OK)
        rc = nq_mysql_result(c, &r, err);
    for (size_t i = 0; rc == NQ_OK && i < a->nturns; i++)
        if (nq_mysql_gates_counts(c, &a->turns[i]))
            rooms->room[i] = mysql_gates_left("0", a->turns[i].max_running, rooms->room[i]);
    for (MYSQL_ROW row; r && (row = mysql_fetch_row(r));)
        for (size_t i = 0; i < a->nturns; i++)
            if (nq_mysql_gates_counts(c, &a->turns[i]) && strcmp(row[0], a->turns[i].queue) == 0)
                rooms->room[i] = mysql_gates_left(row[1], a->turns[i].max_running, rooms->room[i]);
    if (r)
        mysql_free_result(r);
    return rc;
}

/* Which task an ordered group waits for; and how many run of the queue with all its groups. */
static int mysql_gates_ordered(nq_mysql_conn *c, const nq_claim_args *a, nq_mysql_rooms *rooms, nq_err *err)
{
    MYSQL_RES *r = NULL;
    int rc = nq_mysql_next(c, err);
    if (rc == NQ_OK)
        rc = nq_mysql_result(c, &r, err);
    const MYSQL_ROW row = r ? mysql_fetch_row(r) : NULL;
    unsigned at = 0;
    for (size_t i = 0; i < a->nturns && row; i++) {
        nq_bucket *bucket = a->turns[i].bucket;
        if (!a->turns[i].ordered)
            continue;
        const int64_t until = mysql_gates_number(row[at + 1]);
        bucket->next = mysql_gates_number(row[at]);
        at += 2;
        if (bucket->next == 0)
            rooms->room[i] = 0;
        if (bucket->next == 0 && until > 0)
            nq_bucket_shut(bucket, a->gate->clock, until);
    }
    if (row && a->gate->max_running)
        rooms->all = mysql_gates_left(row[at], a->gate->max_running, rooms->all);
    if (r)
        mysql_free_result(r);
    return rc;
}

NQ_PRIVATE int nq_mysql_gates_look(nq_mysql_conn *c, const nq_claim_args *a, nq_mysql_done *done,
                                   nq_mysql_rooms *rooms, nq_err *err)
{
    nq_buf b = {0};
    a->gate->bucket->there = a->gate->clock->raced = false;
    for (size_t i = 0; i < a->nturns; i++) {
        rooms->room[i] = nq_turn_is_gated(&a->turns[i]) ? 0 : a->turns[i].most;
        a->turns[i].bucket->there = false;
        a->turns[i].bucket->next = 0;
    }
    if (done->n) {
        nq_buf_str(&b, "START TRANSACTION");
        nq_mysql_done_text(done, c->base.store, &b);
        nq_buf_str(&b, ";");
    }
    nq_buf_str(
        &b, "SELECT queue,tat," MYSQL_GATES_US("not_before") "," MYSQL_GATES_US("UTC_TIMESTAMP(6)") " FROM ");
    nq_mysql_gates_table(c, &b);
    nq_buf_str(&b, " FORCE INDEX (PRIMARY) WHERE queue IN (");
    nq_mysql_gates_name(&b, a->gate->queue);
    nq_buf_str(&b, ",");
    nq_mysql_gates_names(c, &b, a);
    nq_buf_str(&b, ");");
    nq_mysql_gates_counts_of(c, &b, a);
    nq_buf_str(&b, ";SELECT ");
    for (size_t i = 0; i < a->nturns; i++)
        if (a->turns[i].ordered) {
            nq_mysql_order_next(c, &a->turns[i], &b);
            nq_buf_str(&b, ",");
            nq_mysql_order_until(c, &a->turns[i], &b);
            nq_buf_str(&b, ",");
        }
    if (a->gate->max_running)
        nq_mysql_gates_count_all(c, a->gate, &b);
    else
        nq_buf_str(&b, "0");
    const int64_t before_us = nq_mono_us();
    int rc = nq_mysql_query_buf(c, &b, err);
    nq_buf_free(&b);
    if (rc == NQ_OK && done->n) {
        done->begun = true;
        rc = nq_mysql_done_read(done, c, false, err);
        rc = rc == NQ_OK ? nq_mysql_next(c, err) : rc;
    }
    if (rc == NQ_OK)
        rc = mysql_gates_there(c, a, before_us, rooms, err);
    if (rc == NQ_OK)
        rc = mysql_gates_counted(c, a, rooms, err);
    return rc == NQ_OK ? mysql_gates_ordered(c, a, rooms, err) : rc;
}

NQ_PRIVATE int nq_mysql_gates_open(nq_mysql_conn *c, const nq_claim_args *a, bool *all, nq_err *err)
{
    nq_buf b = {0};
    MYSQL_RES *r = NULL;
    size_t gated = 0;
    for (size_t i = 0; i < a->nturns; i++)
        gated += nq_mysql_gates_turn(c, &a->turns[i]);
    nq_buf_fmt(&b, "SELECT COUNT(*)=%zu FROM ", gated);
    nq_mysql_gates_table(c, &b);
    nq_buf_str(&b, " FORCE INDEX (PRIMARY) WHERE queue IN (");
    nq_mysql_gates_names(c, &b, a);
    nq_buf_str(&b, ") AND " NQ_MYSQL_GATES_OPEN);
    int rc = nq_mysql_query_buf(c, &b, err);
    if (rc == NQ_OK)
        rc = nq_mysql_result(c, &r, err);
    const MYSQL_ROW row = r ? mysql_fetch_row(r) : NULL;
    *all = row && row[0] && row[0][0] == '1';
    if (r)
        mysql_free_result(r);
    nq_buf_free(&b);
    return rc;
}

NQ_PRIVATE int nq_mysql_gates_make(nq_mysql_conn *c, const nq_mysql_rooms *rooms, nq_err *err)
{
    nq_buf b = {0};
    nq_buf_str(&b, "INSERT IGNORE INTO ");
    nq_mysql_gates_table(c, &b);
    nq_buf_str(&b, " (queue) VALUES ");
    nq_buf_add(&b, rooms->missing.p, rooms->missing.n);
    const int rc = rooms->missing.failed ? nq_err_nomem(err) : nq_mysql_run(c, &b, err);
    nq_buf_free(&b);
    return rc;
}
