/* SPDX-License-Identifier: MIT */
/* Moving tasks by hand: one as many. */
#include "moves.h"

/*
 * The rows are locked by their ids, in whichever table they are; then each statement takes those of a state,
 * all at once. What one row's values do not let pass (a key that a live task has, a value that a CHECK
 * refuses) is found by halves, and left out.
 *
 * Many at a time must not stand in the way of others. Rows that somebody has are passed by, and so are, by a
 * look that sees what is not committed, tasks whose key somebody is just adding: for such a row an INSERT
 * would wait, with all the others locked. Where it would have to all the same, it fails at once (on MariaDB;
 * MySQL cannot say so for one statement): who does not wait is in no deadlock. Then it is tried again, and
 * after a while in halves.
 */

#define MOVES_INSERT   50 /* rows of one INSERT ... SELECT, which keeps other INSERTs waiting meanwhile */
#define MOVES_AGAIN_US NQ_MS(100)
#define MOVES_PAUSE_US NQ_MS(4)

#define MOVES_LIVE     (NQ_STATE_BIT(NQ_STATE_WAITING) | NQ_STATE_BIT(NQ_STATE_RUNNING))
#define MOVES_ENDED                                                                                          \
    (NQ_STATE_BIT(NQ_STATE_DONE) | NQ_STATE_BIT(NQ_STATE_DEAD) | NQ_STATE_BIT(NQ_STATE_CANCELLED))

struct moves_run {
    nq_moves m; /* of these: a part of the caller's */
    nq_buf sql;
    nq_query find;
    size_t in;     /* ids in the statement */
    bool conflict; /* somebody stood in the way; nothing was done */
    nq_buf headers;
    nq_id *expires; /* n of them: tasks that have a time of expiry */
    size_t nexpires;
};

static int moves_by_id(const void *a, const void *b)
{
    const nq_moved *x = a, *y = b;
    return (x->id > y->id) - (x->id < y->id);
}

static nq_moved *moves_of(const struct moves_run *r, nq_id id)
{
    const nq_moved key = {.id = id};
    return r->m.n ? bsearch(&key, r->m.all, r->m.n, sizeof key, moves_by_id) : NULL;
}

/* ---- Statements ---- */

/* Those of these states, or (states 0) found nowhere, whose result is this one, from `from` to before `to`.
 */
static bool moves_is(const nq_moved *t, unsigned states, int result)
{
    return t->result == result &&
           (states ? t->state >= 0 && (states & NQ_STATE_BIT(t->state)) : t->state < 0);
}

/* Begin a statement: head, their ids. */
static void moves_ids(struct moves_run *r, const char *head, size_t from, size_t to, unsigned states,
                      int result, const nq_store *s)
{
    r->in = 0;
    nq_buf_clear(&r->sql);
    nq_buf_fmt(&r->sql, "%s(", head);
    for (size_t i = from; i < to; i++) {
        if (!moves_is(&r->m.all[i], states, result))
            continue;
        nq_sql_list_id(s, &r->sql, r->m.all[i].id);
        r->in++;
    }
    nq_buf_str(&r->sql, ")");
}

static int moves_exec(nq_conn *c, struct moves_run *r, const char *tail, const nq_val args[], size_t nargs,
                      nq_row_fn row, nq_err *err)
{
    nq_buf_str(&r->sql, tail);
    if (r->in == 0)
        return NQ_OK;
    return r->sql.failed ? nq_err_nomem(err) : nq_sql(c, r->sql.p, args, nargs, row, r, NULL, err);
}

/* For all that were found in these states and are to be moved. */
static int moves_all(nq_conn *c, struct moves_run *r, const char *head, unsigned states, const char *tail,
                     const nq_val args[], size_t nargs, nq_err *err)
{
    moves_ids(r, head, 0, r->m.n, states, NQ_OK, c->store);
    return moves_exec(c, r, tail, args, nargs, NULL, err);
}

static int moves_delete(nq_conn *c, struct moves_run *r, const char *head, unsigned states, nq_err *err)
{
    moves_ids(r, head, 0, r->m.n, states, NQ_OK, c->store);
    nq_buf_fmt(&r->sql, " {at_most:%zu}", r->in);
    return moves_exec(c, r, "", NULL, 0, NULL, err);
}

/* ---- Finding and locking ---- */

static int moves_found(const nq_val cols[], size_t ncols, void *arg)
{
    struct moves_run *r = arg;
    nq_moved *t = moves_of(r, cols[0].i);
    (void)ncols;
    if (!t)
        return 0;
    t->state = (int)cols[1].i;
    t->result = NQ_OK;
    if (r->m.what == NQ_MOVES_QUEUE && (size_t)cols[2].i + nq_queue_base(r->m.queue) > NQ_MAX_QUEUE &&
        !r->m.queue[nq_queue_base(r->m.queue)])
        t->result = NQ_ETOOBIG;
    return 0;
}

static int moves_held(const nq_val cols[], size_t ncols, void *arg)
{
    nq_moved *t = moves_of(arg, cols[0].i);
    (void)ncols;
    if (t)
        t->result = NQ_ECONFLICT;
    return 0;
}

/* The bytes of the group of a row, with its slashes. */
#define MOVES_GROUP "{size:i.queue} - {size:{base:i.queue}}"

/* Those that are not found yet. */
static int moves_read(nq_conn *c, struct moves_run *r, const char *lock, nq_row_fn row, nq_err *err)
{
    static const char *const heads[] = {"SELECT i.id, i.state, 0 FROM {finished} i {by_id} WHERE i.id IN ",
                                        "SELECT i.id, i.state, " MOVES_GROUP
                                        " FROM {tasks} i {by_id} WHERE i.id IN "};
    int rc = NQ_OK;
    for (int live = 1; live >= 0 && rc == NQ_OK; live--) {
        moves_ids(r, heads[live], 0, r->m.n, 0, NQ_ENOTFOUND, c->store);
        nq_query_clear(&r->find);
        nq_buf_add(&r->find.sql, r->sql.p, r->sql.n);
        if (r->m.where)
            nq_where_add(r->m.where, live, 0, &r->find);
        nq_buf_str(&r->find.sql, lock);
        if (r->in > 0)
            rc = r->sql.failed ? nq_err_nomem(err) : nq_query_run(c, &r->find, row, r, err);
    }
    return rc;
}

/* A row that goes from one table to the other meanwhile is found the second time. */
static int moves_lock(nq_conn *c, struct moves_run *r, nq_err *err)
{
    const bool patient = r->m.patient || !c->store->driver->row_locks;
    int rc = moves_read(c, r, patient ? " {lock}" : " {lock_free}", moves_found, err);
    if (rc == NQ_OK && c->store->driver->row_locks)
        rc = patient ? moves_read(c, r, " {lock}", moves_found, err) : moves_read(c, r, "", moves_held, err);
    return rc;
}

/* ---- Which of them ---- */

static bool moves_may(const nq_moves *m, int state)
{
    static const enum nq_move moves[] = {[NQ_MOVES_RETRY] = NQ_MOVE_RETRY,
                                         [NQ_MOVES_CANCEL] = NQ_MOVE_CANCEL,
                                         [NQ_MOVES_DELETE] = NQ_MOVE_DELETE};
    return m->what >= NQ_MOVES_QUEUE ? state == NQ_STATE_WAITING
                                     : nq_state_move((enum nq_state)state, moves[m->what]) != -1;
}

static int moves_taken(const nq_val cols[], size_t ncols, void *arg)
{
    nq_moved *t = moves_of(arg, cols[0].i);
    (void)ncols;
    if (t && (t->result == NQ_OK || t->result == NQ_ENOTFOUND))
        t->result = NQ_EDUPLICATE;
    return 0;
}

/* Tasks whose key somebody has, or is just adding. */
static int moves_look(nq_conn *c, void *arg, nq_err *err)
{
    struct moves_run *r = arg;
    nq_buf_clear(&r->sql);
    nq_buf_str(&r->sql, "SELECT f.id FROM {finished} f {by_id} CROSS JOIN {tasks} t {by_key} ON {same_key} "
                        "AND t.id <> f.id WHERE f.id IN (");
    for (size_t i = 0; i < r->m.n; i++)
        nq_sql_list_id(c->store, &r->sql, r->m.all[i].id);
    r->in = r->m.n;
    return moves_exec(c, r, ")", NULL, 0, moves_taken, err);
}

/* ---- What is done ---- */

struct moves_insert {
    const char *head;
    unsigned states;
    const nq_val *args;
    size_t nargs;
    bool replaces; /* a record of the same id gives way */
};

/* A row that is refused by itself. */
static int moves_refused(nq_conn *c, struct moves_run *r, const struct moves_insert *i, size_t at, int rc,
                         nq_err *err)
{
    nq_moved *t = &r->m.all[at];
    if (i->replaces && rc == NQ_EDUPLICATE) {
        rc = nq_replace_record(c, t->id, err);
        if (rc != NQ_OK)
            return rc;
        moves_ids(r, i->head, at, at + 1, i->states, NQ_OK, c->store);
        rc = moves_exec(c, r, "", i->args, i->nargs, NULL, err);
    }
    if (r->m.patient || (rc != NQ_EDUPLICATE && !nq_row_refused(rc)))
        return rc;
    t->result = rc == NQ_EDUPLICATE ? rc : NQ_EINVAL;
    return NQ_OK;
}

/* INSERT ... SELECT of those from `from` to before `to`. */
static int moves_insert(nq_conn *c, struct moves_run *r, const struct moves_insert *i, size_t from, size_t to,
                        nq_err *err)
{
    const size_t half = from + (to - from) / 2;
    moves_ids(r, i->head, from, to, i->states, NQ_OK, c->store);
    int rc = NQ_OK;
    if (r->in <= MOVES_INSERT) {
        rc = moves_exec(c, r, "", i->args, i->nargs, NULL, err);
        if (c->broken || (rc != NQ_EDUPLICATE && !nq_row_refused(rc)))
            return rc;
    }
    if (to - from == 1)
        return moves_refused(c, r, i, from, rc, err);
    rc = moves_insert(c, r, i, from, half, err);
    return rc == NQ_OK ? moves_insert(c, r, i, half, to, err) : rc;
}

static int moves_expires_row(const nq_val cols[], size_t ncols, void *arg)
{
    struct moves_run *r = arg;
    (void)ncols;
    nq_buf_clear(&r->headers);
    if (cols[1].n <= NQ_MAX_HEADERS_SIZE && nq_headers_without_expiry(&r->headers, cols[1].p, cols[1].n) &&
        r->nexpires < r->m.n)
        r->expires[r->nexpires++] = cols[0].i;
    return r->headers.failed ? NQ_ENOMEM : 0;
}

static int moves_headers_row(const nq_val cols[], size_t ncols, void *arg)
{
    struct moves_run *r = arg;
    (void)ncols;
    nq_buf_clear(&r->headers);
    (void)nq_headers_without_expiry(&r->headers, cols[1].p, cols[1].n);
    return r->headers.failed ? NQ_ENOMEM : 0;
}

#define MOVES_HEADERS                                                                                        \
    "SELECT t.id, {short:t.headers} FROM {tasks} t {by_id} WHERE t.headers IS NOT NULL AND t.id IN "

/* Whoever retries by hand wants it run: it does not expire any more. */
static int moves_unexpire(nq_conn *c, struct moves_run *r, nq_err *err)
{
    r->nexpires = 0;
    moves_ids(r, MOVES_HEADERS, 0, r->m.n, MOVES_ENDED | NQ_STATE_BIT(NQ_STATE_WAITING), NQ_OK, c->store);
    int rc = moves_exec(c, r, "", NULL, 0, moves_expires_row, err);
    for (size_t i = 0; i < r->nexpires && rc == NQ_OK; i++) {
        const nq_val id = nq_int(r->expires[i]);
        rc = nq_sql(c, MOVES_HEADERS "(?)", &id, 1, moves_headers_row, r, NULL, err);
        const nq_val args[] = {
            r->headers.n ? (nq_val){NQ_VAL_TEXT, 0, r->headers.p, r->headers.n} : nq_null(), id};
        if (rc == NQ_OK)
            rc = nq_sql(c, "UPDATE {tasks} SET headers = ? WHERE id = ?", args, 2, NULL, NULL, NULL, err);
    }
    return rc;
}

static int moves_retry(nq_conn *c, struct moves_run *r, nq_err *err)
{
#define MOVES_BACK                                                                                           \
    "INSERT INTO {tasks} (" NQ_MOVED_COLUMNS "error, run_at) SELECT " NQ_MOVED_COLUMNS                       \
    "error, {now} FROM {finished} WHERE id IN "
    const struct moves_insert back = {.head = r->m.patient ? MOVES_BACK : "{at_once} " MOVES_BACK,
                                      .states = MOVES_ENDED};
    int rc = moves_all(c, r, "UPDATE {tasks} {by_id} SET run_at = {now} WHERE id IN ",
                       NQ_STATE_BIT(NQ_STATE_WAITING), " AND run_at > {now}", NULL, 0, err);
    if (rc == NQ_OK)
        rc = moves_insert(c, r, &back, 0, r->m.n, err);
    if (rc == NQ_OK)
        rc = moves_delete(c, r, "{delete_by_key} {finished} WHERE id IN ", MOVES_ENDED, err);
    if (rc == NQ_OK)
        rc = moves_delete(c, r, "{delete_by_key} {results} WHERE task_id IN ", NQ_STATE_BIT(NQ_STATE_DONE),
                          err);
    return rc == NQ_OK ? moves_unexpire(c, r, err) : rc;
}

/* A running task is its worker's alone. What is asked of this claim counts when it ends, in whatever way: we
 * hold the row's lock, so it has not ended, and whoever ends it looks here after taking that lock. */
static int moves_cancel(nq_conn *c, struct moves_run *r, nq_err *err)
{
    const nq_val state = nq_int(nq_state_move(NQ_STATE_WAITING, NQ_MOVE_CANCEL));
    const struct moves_insert away = {
        .head = "INSERT INTO {finished} (" NQ_MOVED_COLUMNS "error, run_at, state, attempts, crashes, "
                "finished_at) SELECT " NQ_MOVED_COLUMNS
                "error, run_at, ?, attempts, crashes, {now} FROM {tasks} WHERE id IN ",
        .states = NQ_STATE_BIT(NQ_STATE_WAITING),
        .args = &state,
        .nargs = 1,
        .replaces = true};
    int rc =
        moves_all(c, r, "REPLACE INTO {cancels} (task_id, lease) SELECT id, lease FROM {tasks} WHERE id IN ",
                  NQ_STATE_BIT(NQ_STATE_RUNNING), " AND state = 1", NULL, 0, err);
    if (rc == NQ_OK)
        rc = moves_insert(c, r, &away, 0, r->m.n, err);
    return rc == NQ_OK ? moves_delete(c, r, "{delete_by_key} {tasks} WHERE id IN ", away.states, err) : rc;
}

static int moves_gone(nq_conn *c, struct moves_run *r, nq_err *err)
{
    int rc = moves_delete(c, r, "{delete_by_key} {tasks} WHERE id IN ", MOVES_LIVE, err);
    if (rc == NQ_OK)
        rc = moves_delete(c, r, "{delete_by_key} {finished} WHERE id IN ", MOVES_ENDED, err);
    return rc == NQ_OK ? moves_delete(c, r, "{delete_by_key} {results} WHERE task_id IN ",
                                      NQ_STATE_BIT(NQ_STATE_DONE), err)
                       : rc;
}

static int moves_do(nq_conn *c, struct moves_run *r, nq_err *err)
{
    const unsigned waiting = NQ_STATE_BIT(NQ_STATE_WAITING);
    const nq_val queue[] = {nq_text(r->m.queue), nq_text(r->m.queue)}, priority = nq_int(r->m.priority);
    switch (r->m.what) {
    case NQ_MOVES_RETRY:
        return moves_retry(c, r, err);
    case NQ_MOVES_CANCEL:
        return moves_cancel(c, r, err);
    case NQ_MOVES_DELETE:
        return moves_gone(c, r, err);
    case NQ_MOVES_QUEUE:
        return r->m.queue[nq_queue_base(r->m.queue)]
                   ? moves_all(c, r, "UPDATE {tasks} {by_id} SET queue = ? WHERE id IN ", waiting, "", queue,
                               1, err)
                   : moves_all(c, r, "UPDATE {tasks} {by_id} SET queue = {regrouped:queue} WHERE id IN ",
                               waiting, "", queue, 2, err);
    case NQ_MOVES_PRIORITY:
        return moves_all(c, r, "UPDATE {tasks} {by_id} SET priority = ? WHERE id IN ", waiting, "", &priority,
                         1, err);
    }
    return NQ_OK;
}

/* ---- The transaction ---- */

/* In the open one. */
static int moves_run(nq_conn *c, struct moves_run *r, nq_err *err)
{
    int rc = moves_lock(c, r, err);
    for (size_t i = 0; i < r->m.n; i++) {
        nq_moved *t = &r->m.all[i];
        if (t->result == NQ_OK && !moves_may(&r->m, t->state))
            t->result = NQ_ESTATE;
    }
    if (rc == NQ_OK && r->m.what == NQ_MOVES_RETRY && !r->m.patient && !c->store->driver->row_locks)
        rc = moves_look(c, r, err);
    return rc == NQ_OK ? moves_do(c, r, err) : rc;
}

/* nq_tx_fn for nq_store_do: the look is no part of the transaction, but has to be repeated with it. */
static int moves_try(nq_conn *c, void *arg, nq_err *err)
{
    const nq_driver *d = c->store->driver;
    struct moves_run *r = arg;
    nq_err why = {0};
    int rc = NQ_OK;
    for (size_t i = 0; i < r->m.n; i++) {
        r->m.all[i].state = -1;
        r->m.all[i].result = NQ_ENOTFOUND;
    }
    if (r->m.what == NQ_MOVES_RETRY && !r->m.patient && d->row_locks)
        rc = nq_look_dirty(c, moves_look, r, err);
    if (rc == NQ_OK)
        rc = d->begin(c, err);
    if (rc != NQ_OK)
        return rc;
    rc = nq_conn_end(c, moves_run(c, r, &why), &why);
    r->conflict = rc == NQ_ECONFLICT && !r->m.patient && d->row_locks;
    if (r->conflict)
        return NQ_OK;
    if (rc != NQ_OK && err)
        *err = why;
    return rc;
}

/* Those from `from` on, n of them. */
static int moves_part(nq_store *s, struct moves_run *r, nq_moved *from, size_t n, nq_err *err)
{
    const int64_t until = nq_mono_us() + MOVES_AGAIN_US;
    const size_t half = n / 2;
    do {
        r->m.all = from;
        r->m.n = n;
        r->conflict = false;
        const int rc = nq_store_do(s, moves_try, r, err);
        if (rc != NQ_OK || !r->conflict)
            return rc;
        nq_sleep_us((int64_t)nq_random((uint64_t)MOVES_PAUSE_US));
    } while (nq_mono_us() < until);
    if (n == 1) {
        from->result = NQ_ECONFLICT;
        return NQ_OK;
    }
    const int rc = moves_part(s, r, from, half, err);
    return rc == NQ_OK ? moves_part(s, r, from + half, n - half, err) : rc;
}

NQ_PRIVATE int nq_store_move(nq_store *s, nq_moves *m, nq_err *err)
{
    struct moves_run r = {.m = *m};
    if (m->n == 0)
        return NQ_OK;
    r.expires = malloc(m->n * sizeof *r.expires);
    const int rc = r.expires ? moves_part(s, &r, m->all, m->n, err) : nq_err_nomem(err);
    nq_buf_free(&r.sql);
    nq_query_free(&r.find);
    nq_buf_free(&r.headers);
    free(r.expires);
    return rc;
}
