/* SPDX-License-Identifier: MIT */
/* SQLite: claiming, completing, the driver's table. */
#include <limits.h>
#include <stdio.h>

#include "../groups.h"
#include "sqlite_driver.h"
#include "steps.h"

/* ---- Completion ---- */

/* A run of consecutive ids from this length on goes in one statement, which costs a fifth less a row. */
#define NQ_SQLITE_RUN_MIN 4

static int sqlite_done_compare(const void *a, const void *b)
{
    const nq_outcome *x = *(nq_outcome *const *)a, *y = *(nq_outcome *const *)b;
    return (x->id > y->id) - (x->id < y->id);
}

static int sqlite_done_each(nq_sqlite_conn *c, nq_outcome *const outcomes[], size_t n, nq_err *err)
{
    sqlite3_stmt *stmt;
    int rc =
        nq_sqlite_hot_get(c, NQ_SQLITE_DELETE, "DELETE FROM {tasks} WHERE id = ? AND lease = ?", &stmt, err);
    for (size_t i = 0; i < n && rc == NQ_OK; i++) {
        if (sqlite3_bind_int64(stmt, 1, outcomes[i]->id) ||
            sqlite3_bind_int64(stmt, 2, (sqlite3_int64)outcomes[i]->lease) ||
            sqlite3_step(stmt) != SQLITE_DONE)
            rc = nq_sqlite_conn_error(c, err);
        else
            outcomes[i]->result = sqlite3_changes(c->db) ? NQ_OK : NQ_ELEASE;
        sqlite3_reset(stmt);
    }
    return rc;
}

/* Consecutive ids under one lease: all in one statement when all are still ours, else each by itself. */
static int sqlite_done_run(nq_sqlite_conn *c, nq_outcome *const outcomes[], size_t n, nq_err *err)
{
    sqlite3_stmt *stmt;
    bool all = false;
    int rc = nq_sqlite_hot_get(c, NQ_SQLITE_DELETE_RUN,
                               "DELETE FROM {tasks} WHERE id BETWEEN ?1 AND ?2 AND lease = ?3 AND ?4 ="
                               " (SELECT COUNT(*) FROM {tasks} WHERE id BETWEEN ?1 AND ?2 AND lease = ?3)",
                               &stmt, err);
    if (rc != NQ_OK)
        return rc;
    if (sqlite3_bind_int64(stmt, 1, outcomes[0]->id) || sqlite3_bind_int64(stmt, 2, outcomes[n - 1]->id) ||
        sqlite3_bind_int64(stmt, 3, (sqlite3_int64)outcomes[0]->lease) ||
        sqlite3_bind_int64(stmt, 4, (sqlite3_int64)n) || sqlite3_step(stmt) != SQLITE_DONE)
        rc = nq_sqlite_conn_error(c, err);
    else
        all = (size_t)sqlite3_changes(c->db) == n;
    sqlite3_reset(stmt);
    if (rc != NQ_OK)
        return rc;
    for (size_t i = 0; i < n && all; i++)
        outcomes[i]->result = NQ_OK;
    return all ? NQ_OK : sqlite_done_each(c, outcomes, n, err);
}

static int sqlite_delete_done(nq_conn *conn, nq_outcome *const outcomes[], size_t n, bool locked, nq_err *err)
{
    nq_sqlite_conn *c = (nq_sqlite_conn *)conn;
    nq_outcome **sorted;
    size_t first = 0;
    int rc = NQ_OK;
    (void)locked;

    if (n < NQ_SQLITE_RUN_MIN)
        return sqlite_done_each(c, outcomes, n, err);
    if (!(sorted = malloc(n * sizeof *sorted)))
        return nq_err_nomem(err);
    memcpy(sorted, outcomes, n * sizeof *sorted);
    qsort(sorted, n, sizeof *sorted, sqlite_done_compare);
    for (size_t end = 1; end <= n && rc == NQ_OK; end++) {
        if (end < n && sorted[end]->id == sorted[end - 1]->id + 1 &&
            sorted[end]->lease == sorted[first]->lease)
            continue;
        rc = end - first < NQ_SQLITE_RUN_MIN ? sqlite_done_each(c, sorted + first, end - first, err)
                                             : sqlite_done_run(c, sorted + first, end - first, err);
        first = end;
    }
    free(sorted);
    return rc;
}

/* ---- Claim ---- */

/* No cursor gets as far back as a time may be that is no integer. */
#define SQLITE_FIRST_TIME (-9223372036854775808.0)

/* The level that stmt stands at; false: no task may have such a priority or such a time, and nothing behind
 * it in the index is one of ours. */
static bool sqlite_level_read(sqlite3_stmt *stmt, sqlite3_int64 *last, nq_look *look)
{
    const int type = sqlite3_column_type(stmt, 0), time = sqlite3_column_type(stmt, 1);
    *last = sqlite3_column_int64(stmt, 0);
    if (type != SQLITE_INTEGER || *last > NQ_MAX_PRIORITY)
        return false;
    if (*last < NQ_MIN_PRIORITY || (time != SQLITE_INTEGER && time != SQLITE_FLOAT) ||
        (time == SQLITE_FLOAT && sqlite3_column_double(stmt, 1) < SQLITE_FIRST_TIME)) {
        look->strange = true;
        *last = *last < NQ_MIN_PRIORITY ? NQ_MIN_PRIORITY - 1 : *last;
        return true;
    }
    int64_t at = sqlite3_column_int64(stmt, 1);
    if (time == SQLITE_FLOAT && at > INT64_MIN)
        at--; /* a fraction: the cursor must not be behind it */
    if (look->n < look->max)
        look->levels[look->n++] = (nq_level){(int)*last, at};
    return true;
}

/* One seek in the claim index for each priority in use, and one that finds no more. */
static int sqlite_levels(nq_conn *conn, const char *queue, nq_look *look, nq_err *err)
{
    nq_sqlite_conn *c = (nq_sqlite_conn *)conn;
    sqlite3_stmt *stmt;
    sqlite3_int64 last = INT64_MIN;
    int step = SQLITE_ROW, rc = nq_doubts_settle(&c->base, err);
    look->n = 0;
    look->strange = false;
    if (rc != NQ_OK)
        return rc;
    rc = nq_sqlite_hot_get(c, NQ_SQLITE_LEVEL,
                           "SELECT priority, run_at FROM {tasks} WHERE queue = ? AND state = 0"
                           " AND priority > ? ORDER BY priority, run_at LIMIT 1",
                           &stmt, err);
    if (rc != NQ_OK)
        return rc;
    while (rc == NQ_OK && step == SQLITE_ROW) {
        if (sqlite3_bind_text(stmt, 1, queue, -1, SQLITE_STATIC) || sqlite3_bind_int64(stmt, 2, last))
            step = SQLITE_ERROR;
        else if ((step = sqlite3_step(stmt)) == SQLITE_ROW && !sqlite_level_read(stmt, &last, look)) {
            look->strange = true;
            step = SQLITE_DONE;
        }
        if (step != SQLITE_ROW && step != SQLITE_DONE)
            rc = nq_sqlite_conn_error(c, err);
        sqlite3_reset(stmt);
    }
    sqlite3_clear_bindings(stmt);
    look->now_us = nq_store_clock(conn->store);
    return rc;
}

static const char sqlite_due_head[] =
    "SELECT " NQ_CLAIMED_COLUMNS " FROM {tasks} t WHERE queue = ? AND state = 0 AND priority = ?"
    " AND run_at >= ? AND run_at <= ?";
static const char sqlite_due_tail[] = " ORDER BY run_at, id LIMIT ?";

#define NQ_SQLITE_MARK_SQL                                                                                   \
    "UPDATE {tasks} SET state = 1, lease = ?, generation = MIN(generation + 1, " NQ_MAX_GENERATION           \
    "), claimed_at = ? WHERE "

/* Get the due query: from its own place, or with a type filter from the cache (to be given back). */
static int sqlite_due_get(nq_sqlite_conn *c, const nq_claim_args *args, sqlite3_stmt **out, nq_err *err)
{
    nq_buf text = {0}, sql = {0};
    int rc;
    if (!args->types && c->hot[NQ_SQLITE_DUE]) {
        *out = c->hot[NQ_SQLITE_DUE];
        return NQ_OK;
    }
    nq_buf_str(&text, args->scan ? NQ_SQLITE_SCAN_HEAD : sqlite_due_head);
    if (args->types) { /* +: no index of the user's on type, it would need a sort */
        nq_buf_str(&text, args->scan ? "" : " AND +type");
        nq_buf_str(&text, args->others ? " NOT IN (" : " IN (");
        for (size_t i = 0; i < args->ntypes; i++)
            nq_buf_str(&text, i ? ", ?" : "?");
        nq_buf_str(&text, ")");
    }
    nq_buf_str(&text, args->scan ? NQ_SQLITE_SCAN_TAIL : sqlite_due_tail);
    if (text.failed || nq_sql_expand(c->base.store, text.p, &sql) || sql.failed)
        rc = nq_err_nomem(err);
    else if (args->types)
        rc = nq_sqlite_take(c, sql.p, out, err);
    else
        rc = nq_sqlite_hot_get(c, NQ_SQLITE_DUE, text.p, out, err);
    nq_buf_free(&text);
    nq_buf_free(&sql);
    return rc;
}

/* True on a failure. */
static bool sqlite_due_bind(sqlite3_stmt *stmt, const nq_claim_args *args, int64_t now)
{
    const int limit = args->limit > INT_MAX ? INT_MAX : (int)args->limit;
    int at = 1;
    bool bad = sqlite3_bind_text(stmt, at++, args->queue, -1, SQLITE_STATIC) ||
               sqlite3_bind_int(stmt, at++, args->priority) ||
               sqlite3_bind_int64(stmt, at++, args->from_run_at);
    if (args->scan && !bad) /* no id is before the first one */
        bad = sqlite3_bind_int64(stmt, at++, args->from_id > 0 ? args->from_id : INT64_MIN);
    bad = bad || sqlite3_bind_int64(stmt, at++, now) ||
          (args->scan && sqlite3_bind_int64(stmt, at++, (sqlite3_int64)args->scan));
    for (size_t i = 0; !bad && args->types && i < args->ntypes; i++)
        bad = sqlite3_bind_text(stmt, at++, nq_claim_type(args, args->queue, i), -1, SQLITE_STATIC);
    return bad || sqlite3_bind_int(stmt, at, limit);
}

/* Read the due tasks in order; on a failure what was read is in the list too. */
static int sqlite_claim_collect(nq_sqlite_conn *c, sqlite3_stmt *due, nq_claimed_list *list, bool *cut,
                                nq_err *err)
{
    nq_val cols[NQ_SQLITE_MAX_COLUMNS];
    int step;
    while ((step = sqlite3_step(due)) == SQLITE_ROW) {
        const int rc = nq_claimed_add(cols, nq_sqlite_row(due, cols), list);
        if (rc == NQ_ETOOBIG) {
            *cut = true;
            return NQ_OK;
        }
        if (rc != NQ_OK)
            return nq_err_nomem(err);
    }
    return step == SQLITE_DONE ? NQ_OK : nq_sqlite_conn_error(c, err);
}

/* Mark the ids first..last, all of them just read. Nobody else writes meanwhile: ids say enough. */
static int sqlite_claim_mark_run(nq_sqlite_conn *c, nq_id first, nq_id last, uint64_t lease, int64_t now,
                                 nq_err *err)
{
    sqlite3_stmt *mark;
    int rc = last == first ? nq_sqlite_hot_get(c, NQ_SQLITE_MARK, NQ_SQLITE_MARK_SQL "id = ?", &mark, err)
                           : nq_sqlite_hot_get(c, NQ_SQLITE_MARK_RUN, NQ_SQLITE_MARK_SQL "id BETWEEN ? AND ?",
                                               &mark, err);
    if (rc != NQ_OK)
        return rc;
    if (sqlite3_bind_int64(mark, 1, (sqlite3_int64)lease) || sqlite3_bind_int64(mark, 2, now) ||
        sqlite3_bind_int64(mark, 3, first) || (last != first && sqlite3_bind_int64(mark, 4, last)) ||
        sqlite3_step(mark) != SQLITE_DONE)
        rc = nq_sqlite_conn_error(c, err);
    sqlite3_reset(mark);
    return rc;
}

static int sqlite_claim_mark(nq_sqlite_conn *c, nq_claimed *list, uint64_t lease, int64_t now, nq_err *err)
{
    int rc = NQ_OK;
    while (list && rc == NQ_OK) {
        const nq_id first = list->task.id;
        nq_id next = first;
        nq_claimed *end;
        for (end = list; end && end->task.id == next; end = end->next)
            next++;
        if (next - first >= NQ_SQLITE_RUN_MIN)
            rc = sqlite_claim_mark_run(c, first, next - 1, lease, now, err);
        for (; list != end && rc == NQ_OK; list = list->next) {
            list->lease = lease;
            list->task.generation++;
            if (next - first < NQ_SQLITE_RUN_MIN)
                rc = sqlite_claim_mark_run(c, list->task.id, list->task.id, lease, now, err);
        }
    }
    return rc;
}

/* The due tasks of each turn. */
static int sqlite_claim_turns(nq_sqlite_conn *c, sqlite3_stmt *due, const nq_claim_args *a, int64_t now,
                              nq_claimed_list *list, bool *cut, nq_err *err)
{
    size_t left = a->limit;
    int rc = a->gate ? nq_sqlite_gate(c, a, &left, err) : NQ_OK;
    const size_t all = left;
    for (size_t i = 0; i < a->nturns && left > 0 && rc == NQ_OK; i++) {
        nq_claim_args turn = *a;
        const size_t before = list->n;
        turn.queue = a->turns[i].queue;
        turn.priority = a->turns[i].priority;
        turn.from_run_at = a->turns[i].from_run_at;
        turn.from_id = a->turns[i].from_id;
        turn.limit = nq_turn_share(&a->turns[i], all, a->limit);
        turn.limit = turn.limit < left ? turn.limit : left;
        if (a->gate && (rc = nq_sqlite_room(c, a->gate, &a->turns[i], &turn.limit, err)) != NQ_OK)
            break;
        if (a->turns[i].ordered)
            rc = turn.limit ? nq_sqlite_order(c, a, &a->turns[i], now, list, cut, err) : NQ_OK;
        else
            rc = sqlite_due_bind(due, &turn, now) ? nq_sqlite_conn_error(c, err)
                                                  : sqlite_claim_collect(c, due, list, cut, err);
        sqlite3_reset(due);
        left -= list->n - before;
    }
    return rc;
}

/* Begin, complete what piggybacks, read, mark, commit. `due` is bound, but where there are turns. */
static int sqlite_claim_tx(nq_sqlite_conn *c, sqlite3_stmt *due, const nq_claim_args *a, int64_t now,
                           nq_claimed_list *list, nq_err *err)
{
    bool cut = false;
    int rc = nq_sqlite_begin(&c->base, err);
    if (rc != NQ_OK)
        return rc;
    if (a->piggyback)
        rc = sqlite_delete_done(&c->base, a->piggyback->outcomes, a->piggyback->n, false, err);
    if (rc == NQ_OK && nq_claim_may(a))
        rc = a->nturns ? sqlite_claim_turns(c, due, a, now, list, &cut, err)
                       : sqlite_claim_collect(c, due, list, &cut, err);
    sqlite3_reset(due);
    if (rc == NQ_OK && a->gate && list->head)
        rc = nq_sqlite_gates_write(c, a, list->head, err);
    if (rc == NQ_OK && (rc = sqlite_claim_mark(c, list->head, a->lease, now, err)) != NQ_OK && a->refused &&
        list->head && list->n == 1)
        *a->refused = (nq_refused){nq_row_refused(rc), false, list->head->task.id};
    else if (a->refused)
        a->refused->cut = cut;
    if (rc == NQ_OK && nq_store_followed(c->base.store))
        rc = nq_followups_claimed(&c->base, list->head, err);
    rc = rc == NQ_OK ? nq_keys_free(&c->base, list->head, err) : rc;
    if (rc != NQ_OK) {
        nq_sqlite_rollback(&c->base);
        return rc;
    }
    rc = nq_sqlite_commit(&c->base, err);
    if (a->piggyback)
        a->piggyback->piggybacked = nq_piggybacked_of(rc);
    return rc;
}

static int sqlite_claim(nq_conn *conn, const nq_claim_args *args, nq_claimed **out, size_t *n, nq_err *err)
{
    nq_sqlite_conn *c = (nq_sqlite_conn *)conn;
    const int64_t now = nq_store_clock(conn->store);
    sqlite3_stmt *due;
    nq_claimed_list list = {.room = c->base.store->max_payload, .most = args->bytes, .some = args->some};
    int step, rc;

    if ((rc = nq_doubts_settle(&c->base, err)) != NQ_OK || (rc = sqlite_due_get(c, args, &due, err)) != NQ_OK)
        return rc;
    if (args->nturns) {
        rc = sqlite_claim_tx(c, due, args, now, &list, err); /* of groups that were looked at just now */
    } else if (sqlite_due_bind(due, args, now)) {
        rc = nq_sqlite_conn_error(c, err);
    } else {
        /* Look before taking the one write lock of the file. */
        step = sqlite3_step(due);
        if (step != SQLITE_ROW && step != SQLITE_DONE)
            rc = nq_sqlite_conn_error(c, err);
        sqlite3_reset(due);
        if (step == SQLITE_ROW)
            rc = sqlite_claim_tx(c, due, args, now, &list, err);
    }
    sqlite3_clear_bindings(due);
    if (args->types)
        nq_sqlite_give(c, due);
    if (rc == NQ_EUNKNOWN)
        nq_doubts_add_claimed(c->base.store, args->lease, &list);
    if (rc != NQ_OK) {
        nq_claimed_free(list.head);
        return rc;
    }
    *out = list.head;
    *n = list.n;
    return NQ_OK;
}

/* ---- The table ---- */

static bool sqlite_option(const char *name)
{
    return strcmp(name, "busy_timeout") == 0 || strcmp(name, "synchronous") == 0;
}

/* One writer at a time is SQLite's rule: our threads wait for the connection instead of polling the file's
 * lock against each other. */
static unsigned sqlite_max_connections(const nq_store *s, unsigned wanted)
{
    (void)s;
    (void)wanted;
    return 1;
}

/* A migration is one transaction, and there is one writer at a time: no lock of its own is needed. */
static int sqlite_migrate_lock(nq_conn *conn, nq_err *err)
{
    (void)conn;
    (void)err;
    return NQ_OK;
}

/* One commit in the place of two: at any size. */
static size_t sqlite_piggyback_limit(const nq_store *s)
{
    (void)s;
    return SIZE_MAX;
}

static void sqlite_migrate_unlock(nq_conn *conn)
{
    (void)conn;
}

/* Ids that nobody but a vandal gives are left out. */
static const char *const sqlite_ids_behind[] = {
    "SELECT 1 FROM {finished} f, sqlite_sequence s WHERE s.name = '{prefix}tasks' AND f.id > s.seq "
    "AND f.id <= 4611686018427387903 LIMIT 1",
    "UPDATE sqlite_sequence SET seq = (SELECT MAX(id) FROM {finished} WHERE id <= 4611686018427387903) "
    "WHERE name = '{prefix}tasks'",
    NULL};

NQ_PRIVATE const nq_driver nq_driver_sqlite = {
    .scheme = "sqlite",
    .tx_kind = NQ_TX_SQLITE,
    .fragments = nq_sqlite_fragments,
    .quote = '"',
    .hosts_clock = true,
    .steps = nq_steps_sqlite,
    .ddl_in_tx = true,
    .ids_behind = sqlite_ids_behind,
    .option = sqlite_option,
    .open = nq_sqlite_open,
    .close = nq_sqlite_close,
    .forked = nq_sqlite_forked,
    .max_connections = sqlite_max_connections,
    .connect = nq_sqlite_connect,
    .disconnect = nq_sqlite_disconnect,
    .usable = nq_sqlite_usable,
    .exec = nq_sqlite_exec,
    .caller_failed = nq_sqlite_caller_failed,
    .tx_from = nq_sqlite_tx_from,
    .begin = nq_sqlite_begin,
    .commit = nq_sqlite_commit,
    .rollback = nq_sqlite_rollback,
    .enqueue = nq_sqlite_enqueue,
    .key = nq_sqlite_key,
    .put = nq_sqlite_put,
    .levels = sqlite_levels,
    .groups = nq_sqlite_groups,
    .claim = sqlite_claim,
    .piggyback_limit = sqlite_piggyback_limit,
    .delete_done = sqlite_delete_done,
    .lock_hold = nq_sqlite_lock_hold,
    .lock_drop = nq_sqlite_lock_drop,
    .lock_probe = nq_sqlite_lock_probe,
    .uptime = nq_sqlite_uptime,
    .checks = nq_sqlite_checks,
    .migrate_lock = sqlite_migrate_lock,
    .migrate_unlock = sqlite_migrate_unlock,
    .identity = nq_sqlite_identity,
    .watched = nq_sqlite_watched,
};
