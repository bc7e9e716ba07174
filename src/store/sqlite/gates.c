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

struct sqlite_gates_row {
    int64_t tat_ns, not_before_us;
};

static int sqlite_gates_row(const nq_val cols[], size_t ncols, void *arg)
{
    (void)ncols;
    *(struct sqlite_gates_row *)arg = (struct sqlite_gates_row){cols[0].type == NQ_VAL_INT ? cols[0].i : 0,
                                                                cols[1].type == NQ_VAL_INT ? cols[1].i : 0};
    return 0;
}

/* What the rate and a hold leave. */
static int sqlite_gates_bucket(nq_sqlite_conn *c, const nq_gate *gate, const char *name, const nq_rate *rate,
                               nq_bucket *bucket, size_t *room, nq_err *err)
{
    struct sqlite_gates_row row = {0};
    const nq_val arg = nq_text(name);
    const int rc = nq_sql(&c->base, "SELECT tat, not_before FROM {gates} WHERE queue = ?", &arg, 1,
                          sqlite_gates_row, &row, NULL, err);
    if (rc == NQ_OK)
        nq_bucket_open(bucket, rate, gate->clock, row.tat_ns, row.not_before_us, room);
    return rc;
}

/* How many more may run. Of the queue and its groups: from one name to the next, each by one look into the
 * index. */
static int sqlite_gates_room(nq_sqlite_conn *c, const nq_gate *gate, const nq_turn *turn, size_t *room,
                             nq_err *err)
{
    const bool all = !turn;
    const int64_t most = all ? gate->max_running : turn->max_running;
    const nq_val args[] = {nq_text(all ? gate->queue : turn->queue), nq_text(gate->from), nq_text(gate->to),
                           nq_text(gate->to)};
    int64_t n = 0;
    if (most == 0 || *room == 0)
        return NQ_OK;
    const int rc =
        nq_sql(&c->base,
               all ? "SELECT (SELECT COUNT(*) FROM {tasks} WHERE queue = ? AND state = 1) + (WITH RECURSIVE "
                     "g (q) AS "
                     "(SELECT (SELECT MIN(queue) FROM {tasks} WHERE queue > ? AND queue < ?) UNION ALL "
                     "SELECT (SELECT MIN(queue) FROM {tasks} t WHERE t.queue > g.q AND t.queue < ?) FROM g "
                     "WHERE g.q IS NOT NULL) SELECT COALESCE(SUM((SELECT COUNT(*) FROM {tasks} r WHERE "
                     "r.queue = g.q AND r.state = 1)), 0) FROM g WHERE g.q IS NOT NULL)"
                   : "SELECT COUNT(*) FROM {tasks} WHERE queue = ? AND state = 1",
               args, all ? 4 : 1, sqlite_gates_count, &n, NULL, err);
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
