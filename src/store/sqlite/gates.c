/* SPDX-License-Identifier: MIT */
/* SQLite: limits of queues and groups, in the transaction of a claim, the only one that writes. */
#include "../groups.h"
#include "sqlite_driver.h"

static int sqlite_gates_count(const nq_val cols[], size_t ncols, void *arg)
{
    (void)ncols;
    *(int64_t *)arg = cols[0].i;
    return 0;
}

/* A claim asks for each limited group: by statements that stay prepared. The row is to be read, and the
 * statement reset. */
static int sqlite_gates_ask(nq_sqlite_conn *c, enum nq_sqlite_hot which, const char *sql, const char *name,
                            sqlite3_stmt **stmt, bool *there, nq_err *err)
{
    int step = SQLITE_ERROR;
    const int rc = nq_sqlite_hot_get(c, which, sql, stmt, err);
    if (rc != NQ_OK)
        return rc;
    if (sqlite3_bind_text(*stmt, 1, name, -1, SQLITE_STATIC) == SQLITE_OK)
        step = sqlite3_step(*stmt);
    *there = step == SQLITE_ROW;
    return step == SQLITE_ROW || step == SQLITE_DONE ? NQ_OK : nq_sqlite_conn_error(c, err);
}

/* What is no integer says nothing. */
static int64_t sqlite_gates_integer(sqlite3_stmt *stmt, int column)
{
    return sqlite3_column_type(stmt, column) == SQLITE_INTEGER ? sqlite3_column_int64(stmt, column) : 0;
}

/* What the rate and a hold leave. */
static int sqlite_gates_bucket(nq_sqlite_conn *c, const nq_gate *gate, const char *name, const nq_rate *rate,
                               nq_bucket *bucket, size_t *room, nq_err *err)
{
    sqlite3_stmt *stmt = NULL;
    bool there = false;
    const int rc = sqlite_gates_ask(c, NQ_SQLITE_GATE, "SELECT tat, not_before FROM {gates} WHERE queue = ?",
                                    name, &stmt, &there, err);
    if (rc == NQ_OK)
        nq_bucket_open(bucket, rate, gate->clock, there ? sqlite_gates_integer(stmt, 0) : 0,
                       there ? sqlite_gates_integer(stmt, 1) : 0, room);
    sqlite3_reset(stmt);
    return rc;
}

/* How many of a group run: one look into the index. */
static int sqlite_gates_running(nq_sqlite_conn *c, const char *name, int64_t *n, nq_err *err)
{
    sqlite3_stmt *stmt = NULL;
    bool there = false;
    const int rc =
        sqlite_gates_ask(c, NQ_SQLITE_RUNNING, "SELECT COUNT(*) FROM {tasks} WHERE queue = ? AND state = 1",
                         name, &stmt, &there, err);
    *n = there ? sqlite3_column_int64(stmt, 0) : 0;
    sqlite3_reset(stmt);
    return rc;
}

/* And of a queue and its groups: from one name to the next, each by such a look. */
static int sqlite_gates_running_all(nq_sqlite_conn *c, const nq_gate *gate, int64_t *n, nq_err *err)
{
    const nq_val args[] = {nq_text(gate->queue), nq_text(gate->from), nq_text(gate->to), nq_text(gate->to)};
    return nq_sql(&c->base,
                  "SELECT (SELECT COUNT(*) FROM {tasks} WHERE queue = ? AND state = 1) + (WITH RECURSIVE g "
                  "(q) AS (SELECT (SELECT MIN(queue) FROM {tasks} WHERE queue > ? AND queue < ?) UNION ALL "
                  "SELECT (SELECT MIN(queue) FROM {tasks} t WHERE t.queue > g.q AND t.queue < ?) FROM g "
                  "WHERE g.q IS NOT NULL) SELECT COALESCE(SUM((SELECT COUNT(*) FROM {tasks} r WHERE "
                  "r.queue = g.q AND r.state = 1)), 0) FROM g WHERE g.q IS NOT NULL)",
                  args, 4, sqlite_gates_count, n, NULL, err);
}

/* How many more may run: of a turn's group, or of the queue. */
static int sqlite_gates_room(nq_sqlite_conn *c, const nq_gate *gate, const nq_turn *turn, size_t *room,
                             nq_err *err)
{
    const int64_t most = turn ? turn->max_running : gate->max_running;
    int64_t n = 0;
    if (most == 0 || *room == 0)
        return NQ_OK;
    const int rc =
        turn ? sqlite_gates_running(c, turn->queue, &n, err) : sqlite_gates_running_all(c, gate, &n, err);
    const int64_t left = most - n;
    *room = left <= 0 ? 0 : (uint64_t)left < *room ? (size_t)left : *room;
    return rc;
}

NQ_PRIVATE int nq_sqlite_gate(nq_sqlite_conn *c, const nq_claim_args *a, size_t *room, nq_err *err)
{
    const nq_gate *gate = a->gate;
    const int64_t before = nq_mono_us(), now = nq_store_clock(c->base.store);
    nq_gate_clock_read(gate->clock, before, now, nq_mono_us());
    for (size_t i = 0; i < a->nturns; i++) /* of a claim that failed and is made again */
        a->turns[i].bucket->next = 0;
    gate->clock->room = 0;
    gate->clock->shut = false;
    if (!nq_gate_is_needed(gate))
        return NQ_OK;
    int rc = sqlite_gates_bucket(c, gate, gate->queue, &gate->rate, gate->bucket, room, err);
    rc = rc == NQ_OK ? sqlite_gates_room(c, gate, NULL, room, err) : rc;
    gate->clock->shut = *room == 0;
    return rc;
}

NQ_PRIVATE int nq_sqlite_room(nq_sqlite_conn *c, const nq_gate *gate, const nq_turn *turn, size_t *room,
                              nq_err *err)
{
    int rc = NQ_OK;
    if (nq_turn_is_gated(turn))
        rc = sqlite_gates_bucket(c, gate, turn->queue, &turn->rate, turn->bucket, room, err);
    if (rc == NQ_OK && nq_turn_is_gated(turn))
        rc = sqlite_gates_room(c, gate, turn, room, err);
    gate->clock->room += *room;
    return rc;
}

static int sqlite_gates_write(nq_sqlite_conn *c, const char *name, const nq_bucket *b, nq_err *err)
{
    if (!b || b->taken == 0)
        return NQ_OK;
    const nq_val args[] = {nq_text(name), nq_int(nq_bucket_tat(b))};
    return nq_sql(&c->base,
                  "INSERT INTO {gates} (queue, tat) VALUES (?, ?) ON CONFLICT (queue) DO UPDATE SET tat = "
                  "excluded.tat",
                  args, 2, NULL, NULL, NULL, err);
}

NQ_PRIVATE int nq_sqlite_gates_write(nq_sqlite_conn *c, const nq_claim_args *a, nq_claimed *list, nq_err *err)
{
    nq_gate_assign(a->gate, a->turns, a->nturns, list);
    int rc = sqlite_gates_write(c, a->gate->queue, a->gate->bucket, err);
    for (size_t i = 0; i < a->nturns && rc == NQ_OK; i++)
        if ((rc = sqlite_gates_write(c, a->turns[i].queue, a->turns[i].bucket, err)) == NQ_OK)
            rc = nq_sqlite_order_write(c, &a->turns[i], err);
    return rc;
}
