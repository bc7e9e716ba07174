/* SPDX-License-Identifier: MIT */
/* What becomes of claimed tasks: finished, retried, released. */
#include <inttypes.h>

#include "store.h"

#define TASKS_CHUNK 200 /* ids of one statement */

/* The outcomes of one call, sorted by id so that two finishers take rows in the same order. There may be two
 * of one task: a dead worker's claim that we are about to end when somebody else does, and our own after it.
 * Of a claim there is one. */
struct tasks_batch {
    nq_outcome **all;  /* n of them */
    nq_outcome **some; /* room for n: the ones of one statement */
    size_t n;
    bool tried; /* a conflict undid the first try */
    bool wary;  /* wait for no row */
};

static int tasks_by_id(const void *a, const void *b)
{
    const nq_outcome *x = *(nq_outcome *const *)a, *y = *(nq_outcome *const *)b;
    return x->id != y->id ? (x->id < y->id ? -1 : 1) : (x->lease > y->lease) - (x->lease < y->lease);
}

/* Leave one of each claim, and return how many. There are two where this worker was taken for dead, joined
 * anew and found the task under its old id, before its handler's answer was recorded: that counts, and not
 * the crash. */
static size_t tasks_once(nq_outcome **all, size_t n)
{
    size_t kept = 0;
    for (size_t i = 0; i < n; i++) {
        nq_outcome **last = kept ? &all[kept - 1] : NULL, *o = all[i];
        if (!last || tasks_by_id(last, &o) != 0) {
            all[kept++] = o;
        } else if ((*last)->crashed) {
            (*last)->result = NQ_ELEASE;
            *last = o;
        } else {
            o->result = NQ_ELEASE;
        }
    }
    return kept;
}

static void tasks_ids(const nq_store *s, nq_buf *sql, nq_outcome *const outcomes[], size_t n)
{
    nq_buf_str(sql, "(");
    for (size_t i = 0; i < n; i++)
        nq_sql_list_id(s, sql, outcomes[i]->id);
    nq_buf_str(sql, ")");
}

/* Run head, the ids, tail for some[0..n) in chunks. */
static int tasks_in(nq_conn *c, const char *head, const char *tail, nq_outcome *const some[], size_t n,
                    const nq_val args[], size_t nargs, nq_row_fn row, void *arg, nq_err *err)
{
    nq_buf sql = {0};
    int rc = NQ_OK;
    for (size_t i = 0; i < n && rc == NQ_OK; i += TASKS_CHUNK) {
        nq_buf_clear(&sql);
        nq_buf_str(&sql, head);
        tasks_ids(c->store, &sql, some + i, n - i < TASKS_CHUNK ? n - i : TASKS_CHUNK);
        nq_buf_str(&sql, tail);
        rc = sql.failed ? nq_err_nomem(err) : nq_sql(c, sql.p, args, nargs, row, arg, NULL, err);
    }
    nq_buf_free(&sql);
    return rc;
}

/* The outcome with the id and the lease of a row, or NULL. */
static nq_outcome *tasks_of(const struct tasks_batch *b, const nq_val cols[])
{
    nq_outcome key = {.id = cols[0].i, .lease = (uint64_t)cols[1].i}, *keyp = &key;
    nq_outcome **at = bsearch(&keyp, b->all, b->n, sizeof *b->all, tasks_by_id);
    return at ? *at : NULL;
}

/* (id, lease) of a row that still runs: the outcome with both is current. Behind them, where not all of
 * the batch succeeded, what the history tells of one. */
static int tasks_current_row(const nq_val cols[], size_t ncols, void *arg)
{
    nq_outcome *o = tasks_of(arg, cols);
    if (o)
        o->result = NQ_OK;
    if (o && ncols > 2) {
        o->generation = cols[2].i;
        o->attempts = cols[3].i;
        o->claimed_us = cols[4].i;
    }
    return 0;
}

#ifdef NQ_FAULT_NO_FENCE
/* Of tests/fault only: every outcome takes the lease that its task has now, as if tasks were completed by id
 * alone. There the checker of the fault runs has to find something. */
static int tasks_forge_row(const nq_val cols[], size_t ncols, void *arg)
{
    struct tasks_batch *b = arg;
    (void)ncols;
    for (size_t i = 0; i < b->n; i++)
        if (b->all[i]->id == cols[0].i)
            b->all[i]->lease = (uint64_t)cols[1].i;
    return 0;
}

static int tasks_forge(nq_conn *c, struct tasks_batch *b, nq_err *err)
{
    return tasks_in(c, "SELECT id, lease FROM {tasks} {by_id} WHERE state = 1 AND id IN ", " {lock}", b->all,
                    b->n, NULL, 0, tasks_forge_row, b, err);
}
#endif

/* (id, lease) of a row that is still ours, and that somebody else has locked; or of one that we have locked,
 * if an older claim of it stands in the batch too. */
static int tasks_held_row(const nq_val cols[], size_t ncols, void *arg)
{
    nq_outcome *o = tasks_of(arg, cols);
    (void)ncols;
    if (o && o->result == NQ_ELEASE)
        o->result = NQ_ECONFLICT;
    return 0;
}

/* Lock the rows of all but plain completions, which are one fenced DELETE, and see which claims are current.
 * A transaction that stays open with a lock on one of them (a producer's, after a refused INSERT) would keep
 * all the others of the batch waiting: so when it must be, lock the free ones of all and leave the rest. */
static int tasks_lock(nq_conn *c, struct tasks_batch *b, nq_err *err)
{
#define TASKS_SELECT(more)                                                                                   \
    "SELECT t.id, t.lease" more " FROM {tasks} t {by_id} WHERE t.state = 1 AND t.id IN "
#define TASKS_TOLD ", t.generation, t.attempts, {us:t.claimed_at}"
    static const char select[] = TASKS_SELECT(""), select_told[] = TASKS_SELECT(TASKS_TOLD);
    /* A refused INSERT has its lock in the index of the keys. */
    static const char select_free[] =
        "SELECT t.id, t.lease" TASKS_TOLD " FROM {tasks} t {by_id} LEFT JOIN {tasks} k {by_key} ON "
        "k.unique_key = t.unique_key "
        "WHERE t.state = 1 AND (t.unique_key IS NULL OR k.id IS NOT NULL) AND t.id IN ";
    bool told = false;
    size_t n = 0;
    for (size_t i = 0; i < b->n; i++) {
        b->all[i]->result = NQ_ELEASE;
        b->all[i]->letter = NQ_HINT_ANY;
        told = told || b->all[i]->kind != NQ_OUT_DONE; /* it may become a cancelled one */
        if (b->wary || b->all[i]->kind != NQ_OUT_DONE || b->all[i]->keep)
            b->some[n++] = b->all[i];
    }
    int rc = tasks_in(c,
                      b->wary ? select_free
                      : told  ? select_told
                              : select,
                      b->wary ? " {lock_free}" : " {lock}", b->some, n, NULL, 0, tasks_current_row, b, err);
    if (rc != NQ_OK || !b->wary)
        return rc;
    n = 0;
    for (size_t i = 0; i < b->n; i++)
        if (b->all[i]->result == NQ_ELEASE)
            b->some[n++] = b->all[i];
    return tasks_in(c, select, "", b->some, n, NULL, 0, tasks_held_row, b, err);
}

/* (task_id, lease) of a request: what was answered counts no more. */
static int tasks_asked_row(const nq_val cols[], size_t ncols, void *arg)
{
    nq_outcome *o = tasks_of(arg, cols);
    (void)ncols;
    if (o && o->result == NQ_OK && o->kind != NQ_OUT_DONE)
        o->kind = NQ_OUT_CANCELLED;
    return 0;
}

/* Are some of those that did not succeed to be cancelled? Whoever asks for that locks the task's row, which
 * is ours now, so that each request there will ever be for this claim is committed. Plain completions need
 * not know. */
static int tasks_asked(nq_conn *c, struct tasks_batch *b, nq_err *err)
{
    size_t n = 0;
    for (size_t i = 0; i < b->n; i++)
        if (b->all[i]->result == NQ_OK && b->all[i]->kind != NQ_OUT_DONE)
            b->some[n++] = b->all[i];
    return tasks_in(c, "SELECT task_id, lease FROM {cancels} WHERE task_id IN ", "", b->some, n, NULL, 0,
                    tasks_asked_row, b, err);
}

/* Where an outcome leads. */
static int tasks_state(enum nq_outcome_kind kind)
{
    static const enum nq_move moves[] = {
        [NQ_OUT_DONE] = NQ_MOVE_COMPLETE, [NQ_OUT_RETRY] = NQ_MOVE_FAIL,
        [NQ_OUT_SNOOZE] = NQ_MOVE_SNOOZE, [NQ_OUT_RELEASE] = NQ_MOVE_RELEASE,
        [NQ_OUT_DEAD] = NQ_MOVE_BURY,     [NQ_OUT_CANCELLED] = NQ_MOVE_CANCEL};
    return nq_state_move(NQ_STATE_RUNNING, moves[kind]);
}

static int tasks_keep_done(nq_conn *c, struct tasks_batch *b, nq_err *err)
{
    const nq_val state = nq_int(tasks_state(NQ_OUT_DONE));
    size_t n = 0;
    for (size_t i = 0; i < b->n; i++)
        if (b->all[i]->kind == NQ_OUT_DONE && b->all[i]->keep && b->all[i]->result == NQ_OK)
            b->some[n++] = b->all[i];
    static const char insert[] =
        "INSERT INTO {finished} (" NQ_MOVED_COLUMNS "run_at, state, attempts, crashes, error, finished_at) "
        "SELECT " NQ_MOVED_COLUMNS "run_at, ?, attempts, crashes, error, {now} FROM {tasks} WHERE id IN ";
    /* One by one after a refusal: some may be in the table already. */
    for (size_t at = 0, chunk = TASKS_CHUNK, k; at < n; at += k) {
        k = n - at < chunk ? n - at : chunk;
        int rc = tasks_in(c, insert, "", b->some + at, k, &state, 1, NULL, NULL, err);
        if (rc == NQ_EDUPLICATE && k > 1) {
            chunk = 1;
            k = 0;
            continue;
        }
        if (rc == NQ_EDUPLICATE && (rc = nq_replace_record(c, b->some[at]->id, err)) == NQ_OK)
            rc = tasks_in(c, insert, "", b->some + at, k, &state, 1, NULL, NULL, err);
        if (rc != NQ_OK)
            return rc;
    }
    return nq_results_add(c, b->some, n, err);
}

/* Plain completions, whose DELETE is fenced by itself: before anything else is written, see
 * mysql/complete.c. Or those that are locked: they were kept, or must not be waited for. */
static int tasks_delete_done(nq_conn *c, struct tasks_batch *b, bool locked, nq_err *err)
{
    size_t n = 0;
    for (size_t i = 0; i < b->n; i++) {
        const bool is_locked = b->wary || b->all[i]->keep;
        if (b->all[i]->kind == NQ_OUT_DONE && is_locked == locked && (!locked || b->all[i]->result == NQ_OK))
            b->some[n++] = b->all[i];
    }
    return n ? c->store->driver->delete_done(c, b->some, n, locked, err) : NQ_OK;
}

static int tasks_release(nq_conn *c, struct tasks_batch *b, nq_err *err)
{
    const nq_val state = nq_int(tasks_state(NQ_OUT_RELEASE));
    size_t n = 0;
    for (size_t i = 0; i < b->n; i++)
        if (b->all[i]->kind == NQ_OUT_RELEASE && b->all[i]->result == NQ_OK)
            b->some[n++] = b->all[i];
    return tasks_in(c, "UPDATE {tasks} {by_id} SET state = ?, lease = 0 WHERE id IN ", " AND state = 1",
                    b->some, n, &state, 1, NULL, NULL, err);
}

/* The end of a long error says most; NULL keeps the one before. */
static nq_val tasks_error(const nq_outcome *o)
{
    const size_t n = o->error_size > NQ_MAX_ERROR ? NQ_MAX_ERROR : o->error_size;
    return o->error ? nq_blob(o->error + (o->error_size - n), n) : nq_null();
}

/* Out of the queue and kept: dead, an attempt more, or cancelled, as it was. */
static int tasks_bury(nq_conn *c, nq_outcome *o, nq_err *err)
{
    const bool dead = o->kind == NQ_OUT_DEAD;
    const nq_val id = nq_int(o->id);
    nq_exec_result res = {0};
    const nq_val args[] = {nq_int(tasks_state(o->kind)), nq_int(dead && !o->expired),
                           nq_int(dead && o->crashed), tasks_error(o), id};
    static const char insert[] =
        "INSERT INTO {finished} (" NQ_MOVED_COLUMNS "run_at, state, attempts, crashes, error, finished_at) "
        "SELECT " NQ_MOVED_COLUMNS "run_at, ?, {least}(attempts + ?, " NQ_MAX_ATTEMPTS
        "), {least}(crashes + ?, " NQ_MAX_ATTEMPTS "), COALESCE(?, error), {now} "
        "FROM {tasks} WHERE id = ?";
    int rc = nq_sql(c, insert, args, 5, NULL, NULL, NULL, err);
    if (rc == NQ_EDUPLICATE && (rc = nq_replace_record(c, o->id, err)) == NQ_OK)
        rc = nq_sql(c, insert, args, 5, NULL, NULL, NULL, err);
    if (rc == NQ_OK)
        rc = nq_sql(c, "DELETE FROM {tasks} WHERE id = ?", &id, 1, NULL, NULL, &res, err);
    if (rc == NQ_OK && res.affected == 0) /* its row is locked: see nq_mysql_found_none_ */
        rc = nq_err_set(err, NQ_ECONFLICT, "task %" PRId64 " was there and could not be deleted", o->id);
    if (rc == NQ_OK && !dead)
        rc = nq_sql(c, "DELETE FROM {cancels} WHERE task_id = ?", &id, 1, NULL, NULL, NULL, err);
    if (rc == NQ_OK && dead)
        rc = nq_letter_send(c, o->id, o->queue, &o->letter, err);
    return rc;
}

static int tasks_again(nq_conn *c, nq_outcome *o, nq_err *err)
{
    const bool failed = o->kind == NQ_OUT_RETRY;
    const int64_t delay = o->delay_us < 0 ? 0 : o->delay_us > NQ_MAX_DURATION ? NQ_MAX_DURATION : o->delay_us;
    const nq_val args[] = {nq_int(tasks_state(o->kind)),        nq_int(failed), nq_int(failed && o->crashed),
                           failed ? tasks_error(o) : nq_null(), nq_int(delay),  nq_int(o->id)};
    nq_exec_result res = {0};
    int rc =
        nq_sql(c,
               "UPDATE {tasks} SET state = ?, lease = 0, attempts = {least}(attempts + ?, " NQ_MAX_ATTEMPTS
               "), crashes = {least}(crashes + ?, " NQ_MAX_ATTEMPTS
               "), error = COALESCE(?, error), run_at = {after} WHERE id = ?",
               args, 6, NULL, NULL, &res, err);
    if (rc == NQ_OK && res.affected == 0) /* its row is locked: see nq_mysql_found_none_ */
        rc = nq_err_set(err, NQ_ECONFLICT, "task %" PRId64 " was there and could not be put back", o->id);
    return rc;
}

static int tasks_one(nq_conn *c, nq_outcome *o, nq_err *err)
{
    switch (o->kind) {
    case NQ_OUT_RETRY:
    case NQ_OUT_SNOOZE:
        return tasks_again(c, o, err);
    case NQ_OUT_DEAD:
    case NQ_OUT_CANCELLED:
        return tasks_bury(c, o, err);
    default:
        return NQ_OK; /* done in batches */
    }
}

static int tasks_finish(nq_conn *c, void *arg, nq_err *err)
{
    struct tasks_batch *b = arg;
    int rc;
    b->wary = (b->wary || b->tried) && c->store->driver->row_locks;
    b->tried = true;
#ifdef NQ_FAULT_NO_FENCE
    if ((rc = tasks_forge(c, b, err)) != NQ_OK)
        return rc;
#endif
    if ((rc = tasks_lock(c, b, err)) != NQ_OK || (rc = tasks_asked(c, b, err)) != NQ_OK ||
        (rc = tasks_delete_done(c, b, false, err)) != NQ_OK ||
        (rc = nq_history_failed(c, b->all, b->n, err)) != NQ_OK ||
        (rc = tasks_keep_done(c, b, err)) != NQ_OK || (rc = tasks_delete_done(c, b, true, err)) != NQ_OK ||
        (rc = tasks_release(c, b, err)) != NQ_OK)
        return rc;
    for (size_t i = 0; i < b->n && rc == NQ_OK; i++)
        if (b->all[i]->result == NQ_OK)
            rc = tasks_one(c, b->all[i], err);
    return rc;
}

struct tasks_complete {
    nq_outcome *const *outcomes;
    size_t n;
    bool did, conflict;
};

static int tasks_complete(nq_conn *c, void *arg, nq_err *err)
{
    struct tasks_complete *t = arg;
    const int rc = c->store->driver->complete(c, t->outcomes, t->n, &t->did, err);
    if (rc != NQ_ECONFLICT)
        return rc;
    t->conflict = true; /* a row is held, perhaps for long: no second try this way */
    t->did = false;
    return NQ_OK;
}

/* All plain completions? */
static bool tasks_plain(nq_outcome *const outcomes[], size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (outcomes[i]->kind != NQ_OUT_DONE || outcomes[i]->keep)
            return false;
    return true;
}

/* The database refuses what one outcome makes of its row: it ends here all the same. What could not go back
 * to waiting is dead. */
static int tasks_refused(nq_store *s, nq_outcome *o, const nq_err *why, nq_err *err)
{
    const bool failed = (o->kind == NQ_OUT_RETRY || o->kind == NQ_OUT_DEAD) && !o->expired;
    const bool again = o->kind == NQ_OUT_RETRY || o->kind == NQ_OUT_SNOOZE || o->kind == NQ_OUT_RELEASE;
    nq_buf text = {0};
    if (o->error)
        nq_buf_add(&text, o->error, o->error_size);
    if (again)
        nq_buf_fmt(&text, "%scannot wait again: %.300s", o->error ? "; " : "", why->message);
    nq_grave g = {.id = o->id,
                  .lease = o->lease,
                  .from = NQ_STATE_RUNNING,
                  .state = tasks_state(again ? NQ_OUT_DEAD : o->kind),
                  .failed = failed,
                  .crashed = failed && o->crashed,
                  .error = text.p,
                  .error_size = text.n};
    const int rc = text.failed ? nq_err_nomem(err) : nq_store_bury(s, &g, err);
    nq_buf_free(&text);
    if (rc != NQ_OK)
        return rc;
    o->result = g.did ? NQ_OK : NQ_ELEASE;
    if (again) {
        static const char reason[] = "the database refuses to let it wait again";
        o->kind = NQ_OUT_DEAD;
        if (!o->error) {
            o->error = reason;
            o->error_size = sizeof reason - 1;
        }
    }
    return NQ_OK;
}

NQ_PRIVATE int nq_store_finish(nq_store *s, nq_outcome *const outcomes[], size_t n, nq_err *err)
{
    struct tasks_batch b = {.n = n};
    struct tasks_complete t = {outcomes, n, false, false};
    int rc;
    if (n == 0)
        return NQ_OK;
    for (size_t i = 0; i < n; i++)
        b.wary = b.wary || outcomes[i]->wary;
    if (s->driver->complete && !b.wary && tasks_plain(outcomes, n) &&
        ((rc = nq_store_do(s, tasks_complete, &t, err)) != NQ_OK || t.did))
        return rc;
    b.wary = b.wary || t.conflict;
    if (!(b.all = malloc(2 * n * sizeof *b.all)))
        return nq_err_nomem(err);
    b.some = b.all + n;
    memcpy(b.all, outcomes, n * sizeof *b.all);
    qsort(b.all, n, sizeof *b.all, tasks_by_id);
    b.n = tasks_once(b.all, n);
    nq_outcome *const first = b.all[0];
    nq_err why = {0};
    rc = nq_store_tx(s, tasks_finish, &b, &why);
    free(b.all);
    if (b.n == 1 && nq_row_refused(rc))
        return tasks_refused(s, first, &why, err);
    if (rc != NQ_OK && err)
        *err = why;
    return rc;
}

NQ_PLUG_IN int nq_tasks_release(nq_conn *c, uint64_t lease, const uint64_t ids[], size_t n, nq_err *err)
{
    nq_outcome *outcomes = calloc(n + 1, sizeof *outcomes);
    struct tasks_batch b = {.all = malloc((2 * n + 1) * sizeof *b.all), .n = n};
    int rc = outcomes && b.all ? c->store->driver->begin(c, err) : nq_err_nomem(err);
    for (size_t i = 0; i < n && rc == NQ_OK; i++) {
        outcomes[i] = (nq_outcome){.id = (nq_id)ids[i], .lease = lease, .kind = NQ_OUT_RELEASE};
        b.all[i] = &outcomes[i];
    }
    if (rc == NQ_OK) {
        b.some = b.all + n;
        qsort(b.all, n, sizeof *b.all, tasks_by_id);
        rc = nq_conn_end(c, tasks_finish(c, &b, err), err);
    }
    free(b.all);
    free(outcomes);
    return rc;
}
