/* SPDX-License-Identifier: MIT */
/* MySQL and MariaDB: which of the tasks to be enqueued are live already? */
#include "mysql_driver.h"

/* A look at what is committed; at what is not yet too; or, waiting until it is decided, at what comes of it.
 */
enum mysql_lookup_how { MYSQL_LOOKUP_COMMITTED, MYSQL_LOOKUP_DIRTY, MYSQL_LOOKUP_WAIT };

struct mysql_lookup {
    const nq_mysql_call *call;
    nq_mysql_part part;
    enum mysql_lookup_how how;
};

bool nq_mysql_pending(const nq_mysql_row *r)
{
    return r->uncommitted || (r->result == NQ_OK && r->id == 0);
}

static void mysql_lookup_found(const struct mysql_lookup *l, const char *key, nq_id id, bool follow)
{
    const bool committed = l->how != MYSQL_LOOKUP_DIRTY;
    for (size_t i = 0; i < l->part.n; i++) {
        nq_mysql_row *r = l->part.rows[i];
        if (r->task->unique == NQ_UNIQUE_NONE || memcmp(r->key, key, sizeof r->key) != 0)
            continue;
        r->id = id;
        r->result = NQ_DUPLICATE;
        r->uncommitted = !committed;
        r->follow = committed && follow;
        return;
    }
}

/* The question for the keys that have no answer yet. False: there are none. */
static bool mysql_lookup_text(const struct mysql_lookup *l, nq_buf *b)
{
    const nq_mysql_data *d = nq_mysql_data_of(l->call->store);
    size_t asked = 0;
    if (l->how == MYSQL_LOOKUP_DIRTY)
        nq_buf_str(b, "SET TRANSACTION ISOLATION LEVEL READ UNCOMMITTED;");
    nq_buf_str(b, "SELECT id,unique_key,");
    /* Our own call begins and commits now: a task that still waits, or a follow-up that does, begins later.
     */
    if (l->call->tx.ops)
        nq_buf_str(b, "1");
    else
        nq_buf_fmt(b, "state=1 AND NOT EXISTS (SELECT 1 FROM %s f WHERE f.unique_key=t.unique_key)",
                   d->followups);
    nq_buf_fmt(b, " FROM %s t WHERE unique_key IN (", d->tasks);
    for (size_t i = 0; i < l->part.n; i++) {
        nq_mysql_row *r = l->part.rows[i];
        if (r->task->unique == NQ_UNIQUE_NONE || !nq_mysql_pending(r))
            continue;
        nq_buf_str(b, asked++ ? "," : "");
        nq_mysql_hex(b, "", r->key, sizeof r->key);
        r->uncommitted = r->follow = false;
        r->result = NQ_OK;
        r->id = 0;
    }
    nq_buf_str(b, l->how == MYSQL_LOOKUP_WAIT ? ") LOCK IN SHARE MODE" : ")");
    return asked > 0;
}

/* nq_tx_fn, and repeatable. */
static int mysql_lookup_run(nq_conn *conn, void *arg, nq_err *err)
{
    const struct mysql_lookup *l = arg;
    nq_mysql_conn *c = nq_mysql_of(conn);
    nq_buf b = {0};
    MYSQL_RES *r = NULL;
    MYSQL_ROW row;
    int rc = NQ_OK;
    if (!mysql_lookup_text(l, &b))
        goto out;
    rc = nq_mysql_query_buf(c, &b, err);
    if (rc == NQ_OK && l->how == MYSQL_LOOKUP_DIRTY)
        rc = nq_mysql_next(c, err);
    if (rc == NQ_OK)
        rc = nq_mysql_result(c, &r, err);
    while (r && (row = mysql_fetch_row(r)))
        if (mysql_fetch_lengths(r)[1] == 32)
            mysql_lookup_found(l, row[1], (nq_id)strtoll(row[0], NULL, 10), row[2] && row[2][0] == '1');
    if (r)
        mysql_free_result(r);
out:
    nq_buf_free(&b);
    return rc;
}

static int mysql_lookup(const nq_mysql_call *call, nq_mysql_part part, enum mysql_lookup_how how, nq_err *err)
{
    struct mysql_lookup l = {call, part, how};
    return nq_store_do(call->store, mysql_lookup_run, &l, err);
}

int nq_mysql_lookup(const nq_mysql_call *call, nq_mysql_part part, nq_conn *c, nq_err *err)
{
    struct mysql_lookup l = {call, part, MYSQL_LOOKUP_COMMITTED};
    return c ? mysql_lookup_run(c, &l, err) : nq_store_do(call->store, mysql_lookup_run, &l, err);
}

int nq_mysql_call_failed(nq_mysql_call *call, nq_exec_result *res, nq_err *err)
{
    call->caller_failed = true;
    return nq_mysql_caller_failed(call->store, res, err);
}

/* ---- Before an INSERT on the caller's connection --------------------------------------------- */

static int mysql_lookup_held(nq_err *err)
{
    return nq_err_set(err, NQ_ECONFLICT,
                      "another open transaction has added a task with the same unique key");
}

static int mysql_lookup_id(const nq_val cols[], size_t ncols, void *arg)
{
    (void)ncols;
    *(int64_t *)arg = cols[0].i;
    return 0;
}

/* A reading of what is there now, that passes by what others have locked: of what is not committed it sees
 * the transaction's own alone, at any isolation level. It needs no privilege but SELECT. */
#define MYSQL_LOOKUP_NOW "/*M! LOCK IN SHARE MODE SKIP LOCKED *//*!80001 FOR SHARE SKIP LOCKED */"

/* Does a reading on the caller's connection see the task? how: "", a plain one. */
static int mysql_lookup_sees(nq_mysql_call *call, const nq_mysql_row *r, const char *how, nq_id *seen,
                             nq_err *err)
{
    nq_buf b = {0};
    nq_exec_result res;
    const nq_val key = nq_blob(r->key, sizeof r->key);
    *seen = 0;
    nq_buf_fmt(&b, "SELECT id FROM %s WHERE unique_key=? %s", nq_mysql_data_of(call->store)->full_tasks, how);
    if (b.failed) {
        nq_buf_free(&b);
        return nq_err_nomem(err);
    }
    const int rc = call->tx.ops->exec(call->tx.conn, b.p, &key, 1, mysql_lookup_id, seen, &res);
    nq_buf_free(&b);
    return rc != NQ_OK ? nq_mysql_call_failed(call, &res, err) : NQ_OK;
}

/*
 * Is a task that was seen uncommitted the caller's own? A plain reading on the caller's connection sees it
 * then, and one on ours does not. Neither does that say so: a rival's may have been committed in between; one
 * that has ended meanwhile still is in a snapshot that is older, and ours, dirty, sees it no more; and at
 * READ UNCOMMITTED a plain reading sees a rival's too.
 */
static int mysql_lookup_own(nq_mysql_call *call, nq_mysql_row *r, nq_err *err)
{
    const nq_id id = r->id;
    nq_id seen = 0;
    int rc = mysql_lookup_sees(call, r, "", &seen, err);
    if (rc != NQ_OK || seen != id)
        return rc;
    rc = nq_mysql_lookup(call, (nq_mysql_part){&r, 1}, NULL, err);
    if (rc != NQ_OK || r->result != NQ_OK)
        return rc;
    rc = mysql_lookup(call, (nq_mysql_part){&r, 1}, MYSQL_LOOKUP_DIRTY, err);
    if (rc != NQ_OK || r->id != id)
        return rc;
    rc = mysql_lookup_sees(call, r, MYSQL_LOOKUP_NOW, &seen, err);
    r->uncommitted = rc == NQ_OK && seen != id;
    return rc;
}

/* Wait, on our connection, until the transaction that added the task has ended; then look. */
static int mysql_lookup_wait(const nq_mysql_call *call, nq_mysql_row *r, nq_err *err)
{
    const int rc = mysql_lookup(call, (nq_mysql_part){&r, 1}, MYSQL_LOOKUP_WAIT, err);
    return rc == NQ_ECONFLICT ? mysql_lookup_held(err) : rc;
}

/* A row that was seen only uncommitted: whose is it? Afterwards it has its answer or is pending. */
static int mysql_lookup_doubtful(nq_mysql_call *call, nq_mysql_row *r, bool wait, nq_err *err)
{
    const nq_id id = r->id;
    int rc = nq_mysql_lookup(call, (nq_mysql_part){&r, 1}, NULL, err);
    if (rc != NQ_OK || r->result != NQ_OK)
        return rc;
    r->id = id;
    r->result = NQ_DUPLICATE;
    r->uncommitted = true;
    rc = mysql_lookup_own(call, r, err);
    return rc == NQ_OK && r->uncommitted && wait ? mysql_lookup_wait(call, r, err) : rc;
}

/* READ UNCOMMITTED sees what an INSERT would meet, and locks nothing. Common case: nothing there, one round
 * trip. */
int nq_mysql_precheck(nq_mysql_call *call, nq_mysql_part part, nq_err *err)
{
    bool waiting = false;
    call->caller_failed = false; /* it may be of a part before this one, and was dealt with */
    for (size_t i = 0; i < part.n; i++)
        waiting = waiting || part.rows[i]->task->unique != NQ_UNIQUE_NONE;
    for (int tries = 0; waiting; tries++) {
        int rc = mysql_lookup(call, part, MYSQL_LOOKUP_DIRTY, err);
        waiting = false;
        for (size_t i = 0; rc == NQ_OK && i < part.n; i++) {
            if (!part.rows[i]->uncommitted)
                continue;
            rc = mysql_lookup_doubtful(call, part.rows[i], tries < 2, err);
            waiting = waiting || nq_mysql_pending(part.rows[i]);
        }
        if (rc != NQ_OK) {
            if (err && !call->caller_failed)
                err->transaction_lost = false; /* that was a transaction of ours */
            return rc;
        }
        if (waiting && tries == 2)
            return mysql_lookup_held(err);
    }
    return NQ_OK;
}
