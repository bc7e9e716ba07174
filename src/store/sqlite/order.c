/* SPDX-License-Identifier: MIT */
/* SQLite: which task of an ordered group may be claimed, in the transaction of the claim. */
#include "../claimed.h"
#include "../groups.h"
#include "sqlite_driver.h"

/* As in MySQL's order.c, but that nobody else writes meanwhile. */

struct sqlite_order {
    bool there;
    nq_id id;
    int64_t state, run_at;
};

static int sqlite_order_row(const nq_val cols[], size_t ncols, void *arg)
{
    (void)ncols;
    *(struct sqlite_order *)arg = (struct sqlite_order){true, cols[0].i, cols[1].i, cols[2].i};
    return 0;
}

static int sqlite_order_ask(nq_sqlite_conn *c, const char *sql, const nq_val args[], size_t n,
                            struct sqlite_order *o, nq_err *err)
{
    *o = (struct sqlite_order){.there = false};
    return nq_sql(&c->base, sql, args, n, sqlite_order_row, o, NULL, err);
}

static int sqlite_order_next(nq_sqlite_conn *c, const nq_claim_args *a, const nq_turn *t, int64_t now,
                             nq_err *err)
{
    const nq_val args[] = {nq_text(t->queue), nq_int(now)};
    struct sqlite_order o;
    nq_bucket *b = t->bucket;
    int rc = sqlite_order_ask(c,
                              "SELECT t.id, t.state, t.run_at FROM {gates} g CROSS JOIN {tasks} t ON t.id = "
                              "g.head AND t.queue = g.queue WHERE g.queue = ?",
                              args, 1, &o, err);
    if (rc == NQ_OK && o.there) {
        if (o.state == NQ_STATE_WAITING && o.run_at <= now)
            b->next = o.id;
        else if (o.state == NQ_STATE_WAITING)
            nq_bucket_shut(b, a->gate->clock, o.run_at);
        return NQ_OK;
    }
    if (rc == NQ_OK && t->ordered == NQ_ORDERED_HALT)
        rc = sqlite_order_ask(c,
                              "SELECT t.id, t.state, 0 FROM {gates} g CROSS JOIN {finished} t ON t.id = "
                              "g.head AND t.queue = g.queue WHERE g.queue = ? AND t.state = 3",
                              args, 1, &o, err);
    if (rc == NQ_OK && o.there) {
        nq_bucket_shut(b, a->gate->clock, INT64_MAX);
        return NQ_OK;
    }
    if (rc == NQ_OK)
        rc =
            sqlite_order_ask(c,
                             "SELECT id, state, 0 FROM {tasks} WHERE queue = ? AND state = 0 AND run_at <= ? "
                             "ORDER BY priority, run_at, id LIMIT 1",
                             args, 2, &o, err);
    if (rc == NQ_OK && o.there)
        b->next = o.id;
    return rc;
}

struct sqlite_order_read {
    nq_claimed_list *list;
    int rc;
};

static int sqlite_order_read_row(const nq_val cols[], size_t ncols, void *arg)
{
    struct sqlite_order_read *r = arg;
    r->rc = nq_claimed_add(cols, ncols, r->list);
    return 0;
}

/* Read that task, if its type is wanted. */
static int sqlite_order_read(nq_sqlite_conn *c, const nq_claim_args *a, const nq_turn *t,
                             nq_claimed_list *list, bool *cut, nq_err *err)
{
    struct sqlite_order_read read = {list, NQ_OK};
    nq_buf sql = {0};
    const size_t ntypes = a->types ? a->ntypes : 0;
    nq_val *args = calloc(ntypes + 1, sizeof *args);
    int rc = args ? NQ_OK : nq_err_nomem(err);
    nq_buf_str(&sql, "SELECT " NQ_CLAIMED_COLUMNS " FROM {tasks} t WHERE id = ?");
    if (rc == NQ_OK)
        args[0] = nq_int(t->bucket->next);
    if (a->types)
        nq_buf_str(&sql, a->others ? " AND type NOT IN (" : " AND type IN (");
    for (size_t i = 0; i < ntypes && rc == NQ_OK; i++) {
        nq_buf_str(&sql, i ? ", ?" : "?");
        args[1 + i] = nq_text(nq_claim_type(a, t->queue, i));
    }
    nq_buf_str(&sql, a->types ? ")" : "");
    if (rc == NQ_OK && sql.failed)
        rc = nq_err_nomem(err);
    if (rc == NQ_OK)
        rc = nq_sql(&c->base, sql.p, args, ntypes + 1, sqlite_order_read_row, &read, NULL, err);
    *cut = *cut || read.rc == NQ_ETOOBIG;
    if (rc == NQ_OK && read.rc == NQ_ENOMEM)
        rc = nq_err_nomem(err);
    nq_buf_free(&sql);
    free(args);
    return rc;
}

NQ_PRIVATE int nq_sqlite_order(nq_sqlite_conn *c, const nq_claim_args *a, const nq_turn *t, int64_t now,
                               nq_claimed_list *list, bool *cut, nq_err *err)
{
    const size_t before = list->n;
    int rc = sqlite_order_next(c, a, t, now, err);
    if (rc != NQ_OK || t->bucket->next == 0)
        return rc;
    rc = sqlite_order_read(c, a, t, list, cut, err);
    if (list->n == before)
        t->bucket->next = 0;
    return rc;
}

NQ_PRIVATE int nq_sqlite_order_write(nq_sqlite_conn *c, const nq_turn *t, nq_err *err)
{
    const nq_val args[] = {nq_text(t->queue), nq_int(t->bucket->next)};
    if (!t->ordered || t->bucket->next == 0)
        return NQ_OK;
    /* grants tells who deletes gates that it was used meanwhile */
    return nq_sql(&c->base,
                  "INSERT INTO {gates} (queue, head) VALUES (?, ?) ON CONFLICT (queue) DO UPDATE SET head = "
                  "excluded.head, grants = grants + 1",
                  args, 2, NULL, NULL, NULL, err);
}
