/* SPDX-License-Identifier: MIT */
/* MySQL and MariaDB: enqueue and the handling of duplicates. */
#include <inttypes.h>
#include <stdio.h>

#include "mysql_driver.h"

/*
 * Own transaction: insert, and look only when a duplicate is reported. A refused INSERT keeps its lock here
 * too; so a transaction of several tasks ends then and begins anew with a look, which locks nothing. (To go
 * on in it with those locks deadlocks with the next one that meets the same keys in another order.)
 *
 * Caller's transaction: a refused INSERT would keep a lock on the live task, and on the gap beside it, until
 * the caller commits. So look before, on a connection of ours, where a look leaves nothing behind
 * (mysql_enqueue_precheck). What remains: two producers that insert the same new key in the same instant. The
 * second one's INSERT then waits for the first one's commit, is refused, and does hold that lock.
 *
 * A duplicate whose live task may have begun before the duplicate's commit leaves a follow-up, in the same
 * transaction: of a running task, and in the caller's transaction of a waiting one too, which may be claimed
 * and read old data before the caller commits. Nothing is unique there, so that INSERT waits for nobody.
 */

#define MYSQL_ENQUEUE_CHUNK 256 /* most rows of one statement */
#define MYSQL_ENQUEUE_BYTES                                                                                  \
    ((size_t)4 << 20)         /* of payload in one statement, unless one row alone has more                  \
                               */
#define MYSQL_ENQUEUE_TRIES 8 /* duplicates that are gone when looked up */

struct mysql_enqueue_job {
    nq_store *store;
    nq_tx tx;
    nq_mysql_row *rows;
    size_t n;
    int64_t increment;  /* auto_increment_increment of the connection that inserts */
    bool caller_failed; /* the error is of the caller's connection */
    bool unanswered;    /* an INSERT was sent and the connection lost before its answer */
    unsigned conflicts; /* so often begun anew because of others */
    bool own_tx;        /* in a transaction of ours that has other statements too */
    bool look_first;    /* there are duplicates: look before inserting */
    /* what is being done now */
    nq_mysql_row **part;
    size_t npart;
    const char *isolation, *lock; /* of mysql_enqueue_look */
};

/* ---- Looking up live tasks by key ----------------------------------------------------------- */

static void mysql_enqueue_found(const struct mysql_enqueue_job *j, const char *key, nq_id id, bool committed,
                                bool follow)
{
    for (size_t i = 0; i < j->npart; i++) {
        nq_mysql_row *r = j->part[i];
        if (r->task->unique == NQ_UNIQUE_NONE || memcmp(r->key, key, sizeof r->key) != 0)
            continue;
        r->id = id;
        r->result = NQ_DUPLICATE;
        r->uncommitted = !committed;
        r->follow = committed && follow;
        return;
    }
}

static bool mysql_enqueue_pending(const nq_mysql_row *r)
{
    return r->uncommitted || (r->result == NQ_OK && r->id == 0);
}

/* One look at the keys of the part that have no answer yet; nq_tx_fn, and repeatable. */
static int mysql_enqueue_look(nq_conn *conn, void *arg, nq_err *err)
{
    struct mysql_enqueue_job *j = arg;
    nq_mysql_conn *c = nq_mysql_of(conn);
    const bool committed = *j->isolation == '\0';
    nq_buf b = {0};
    MYSQL_RES *r = NULL;
    MYSQL_ROW row;
    size_t asked = 0;
    int rc = NQ_OK;
    nq_buf_fmt(&b, "%sSELECT id,unique_key,", j->isolation);
    /* Our own call begins and commits now: a task that still waits, or a follow-up that does, begins later.
     */
    if (j->tx.ops)
        nq_buf_str(&b, "1");
    else
        nq_buf_fmt(&b, "state=1 AND NOT EXISTS (SELECT 1 FROM %s f WHERE f.unique_key=t.unique_key)",
                   nq_mysql_data_of(j->store)->followups);
    nq_buf_fmt(&b, " FROM %s t WHERE unique_key IN (", nq_mysql_data_of(j->store)->tasks);
    for (size_t i = 0; i < j->npart; i++) {
        if (j->part[i]->task->unique == NQ_UNIQUE_NONE || !mysql_enqueue_pending(j->part[i]))
            continue;
        nq_buf_str(&b, asked++ ? "," : "");
        nq_mysql_hex(&b, "", j->part[i]->key, sizeof j->part[i]->key);
        j->part[i]->uncommitted = false;
        j->part[i]->follow = false;
        j->part[i]->result = NQ_OK;
        j->part[i]->id = 0;
    }
    nq_buf_fmt(&b, ")%s", j->lock);
    if (asked)
        rc = nq_mysql_query_buf(c, &b, err);
    if (asked && rc == NQ_OK && !committed) {
        rc = nq_mysql_next(c, err);
        rc = rc > 0 ? NQ_OK : rc;
    }
    if (asked && rc == NQ_OK)
        rc = nq_mysql_result(c, &r, err);
    while (r && (row = mysql_fetch_row(r)) != NULL)
        if (mysql_fetch_lengths(r)[1] == 32)
            mysql_enqueue_found(j, row[1], (nq_id)strtoll(row[0], NULL, 10), committed,
                                row[2] && row[2][0] == '1');
    if (r)
        mysql_free_result(r);
    nq_buf_free(&b);
    return rc;
}

static int mysql_enqueue_look_at(struct mysql_enqueue_job *j, nq_conn *c, const char *isolation,
                                 const char *lock, nq_err *err)
{
    j->isolation = isolation;
    j->lock = lock;
    return c ? mysql_enqueue_look(c, j, err) : nq_store_do(j->store, mysql_enqueue_look, j, err);
}

static int mysql_enqueue_id(const nq_val cols[], size_t ncols, void *arg)
{
    (void)ncols;
    *(int64_t *)arg = cols[0].i;
    return 0;
}

static int mysql_enqueue_caller_failed(struct mysql_enqueue_job *j, nq_exec_result *res, nq_err *err)
{
    j->caller_failed = true;
    return nq_mysql_caller_failed(j->store, res, err);
}

static int mysql_enqueue_held(nq_err *err)
{
    return nq_err_set(err, NQ_ECONFLICT,
                      "another open transaction has added a task with the same unique key");
}

/* Does a plain reading on the caller's connection see the task? */
static int mysql_enqueue_sees(struct mysql_enqueue_job *j, const nq_mysql_row *r, nq_id *seen, nq_err *err)
{
    nq_buf b = {0};
    nq_exec_result res;
    const nq_val key = nq_blob(r->key, sizeof r->key);
    *seen = 0;
    nq_buf_fmt(&b, "SELECT id FROM %s WHERE unique_key=?", nq_mysql_data_of(j->store)->full_tasks);
    if (b.failed) {
        nq_buf_free(&b);
        return nq_err_nomem(err);
    }
    const int rc = j->tx.ops->exec(j->tx.conn, b.p, &key, 1, mysql_enqueue_id, seen, &res);
    nq_buf_free(&b);
    return rc ? mysql_enqueue_caller_failed(j, &res, err) : NQ_OK;
}

/*
 * Is the part's only task, which was seen uncommitted, the caller's own? Then a plain reading on the caller's
 * connection sees it, and one on ours still does not: a rival's could have been committed in between.
 */
static int mysql_enqueue_own(struct mysql_enqueue_job *j, nq_mysql_row *r, nq_err *err)
{
    const nq_id id = r->id;
    nq_id seen = 0;
    int rc = mysql_enqueue_sees(j, r, &seen, err);
    if (rc != NQ_OK || seen != id)
        return rc;
    rc = mysql_enqueue_look_at(j, NULL, "", "", err);
    if (rc != NQ_OK || r->result != NQ_OK)
        return rc;
    r->id = id;
    r->result = NQ_DUPLICATE;
    return NQ_OK;
}

/* Wait, on our connection, until the transaction that added the part's only task has ended; then look. */
static int mysql_enqueue_wait(struct mysql_enqueue_job *j, nq_err *err)
{
    const int rc = mysql_enqueue_look_at(j, NULL, "", " LOCK IN SHARE MODE", err);
    return rc == NQ_ECONFLICT ? mysql_enqueue_held(err) : rc;
}

/* The part is one row, seen only uncommitted: whose is it? Afterwards it has its answer or is pending. */
static int mysql_enqueue_doubtful(struct mysql_enqueue_job *j, nq_mysql_row *r, bool wait, nq_err *err)
{
    const nq_id id = r->id;
    int rc = mysql_enqueue_look_at(j, NULL, "", "", err);
    if (rc != NQ_OK || r->result != NQ_OK)
        return rc;
    r->id = id;
    r->result = NQ_DUPLICATE;
    r->uncommitted = true;
    rc = mysql_enqueue_own(j, r, err);
    return rc == NQ_OK && r->uncommitted && wait ? mysql_enqueue_wait(j, err) : rc;
}

/*
 * Before an INSERT on the caller's connection: answer the rows whose key is live already. READ UNCOMMITTED
 * sees what an INSERT would meet, and locks nothing. Common case: nothing there, one round trip.
 */
static int mysql_enqueue_precheck(struct mysql_enqueue_job *j, nq_err *err)
{
    static const char dirty[] = "SET TRANSACTION ISOLATION LEVEL READ UNCOMMITTED;";
    nq_mysql_row **const all = j->part;
    const size_t nall = j->npart;
    bool waiting = false;
    for (size_t i = 0; i < nall; i++)
        waiting = waiting || all[i]->task->unique != NQ_UNIQUE_NONE;
    for (int tries = 0; waiting; tries++) {
        int rc = mysql_enqueue_look_at(j, NULL, dirty, "", err);
        waiting = false;
        for (size_t i = 0; rc == NQ_OK && i < nall; i++) {
            nq_mysql_row *one = all[i];
            if (!one->uncommitted)
                continue;
            j->part = &one;
            j->npart = 1;
            rc = mysql_enqueue_doubtful(j, one, tries < 2, err);
            waiting = waiting || mysql_enqueue_pending(one);
        }
        j->part = all;
        j->npart = nall;
        if (rc != NQ_OK) {
            if (err && !j->caller_failed)
                err->transaction_lost = false; /* that was a transaction of ours */
            return rc;
        }
        if (waiting && tries == 2)
            return mysql_enqueue_held(err);
    }
    return NQ_OK;
}

/* ---- INSERT --------------------------------------------------------------------------------- */

/* Insert rows, as tasks or follow-ups, with one statement: all or none. c NULL: on the caller's connection.
 */
static int mysql_enqueue_insert(struct mysql_enqueue_job *j, nq_conn *c, bool follow, nq_mysql_row **rows,
                                size_t n, nq_err *err)
{
    const nq_mysql_data *d = nq_mysql_data_of(j->store);
    nq_exec_result res = {0};
    nq_buf b = {0};
    nq_val *v = NULL;
    size_t nv = 0;
    int rc;
    if (follow)
        v = nq_mysql_insert(&b, c ? d->followups : d->full_followups, true, rows, n, &nv);
    else
        v = nq_mysql_insert(&b, c ? d->tasks : d->full_tasks, false, rows, n, &nv);
    if (!v) {
        rc = nq_err_nomem(err);
        goto out;
    }
    if (c)
        rc = nq_mysql_exec(c, b.p, v, nv, NULL, NULL, &res, err);
    else if (j->tx.ops->exec(j->tx.conn, b.p, v, nv, NULL, NULL, &res))
        rc = mysql_enqueue_caller_failed(j, &res, err);
    else
        rc = NQ_OK;
    if ((rc == NQ_OK && (res.insert_id <= 0 || res.insert_id > INT64_MAX - (int64_t)n * j->increment)) ||
        (c && res.db_code == 1467 && nq_mysql_ids_used_up(c)))
        rc = nq_err_set(
            err, NQ_EFULL,
            "the ids of %s are used up: somebody gave one near the last there is; see docs/schema.md",
            follow ? d->followups : d->tasks);
    j->conflicts += c && rc == NQ_ECONFLICT;
    j->unanswered = c && rc != NQ_OK && nq_mysql_of(c)->sent && nq_mysql_unanswered((unsigned)res.db_code);
    /* A "simple insert" gets consecutive ids whatever innodb_autoinc_lock_mode says. */
    for (size_t i = 0; rc == NQ_OK && !follow && i < n; i++) {
        rows[i]->id = res.insert_id + (int64_t)i * j->increment;
        rows[i]->result = NQ_OK;
    }
out:
    nq_buf_free(&b);
    free(v);
    return rc;
}

/* How many of the next rows go into one statement. A size not met before costs one round trip to prepare it,
 * fewer than the pieces of a few fixed sizes would. */
static size_t mysql_enqueue_piece(const struct mysql_enqueue_job *j, nq_mysql_row **rows, size_t n)
{
    /* The step between ids changes on Galera with the number of nodes, in open sessions too. */
    if (nq_mysql_data_of(j->store)->galera)
        return n ? 1 : 0;
    const size_t packet = nq_mysql_data_of(j->store)->packet / 2;
    const size_t most = packet < MYSQL_ENQUEUE_BYTES ? packet : MYSQL_ENQUEUE_BYTES;
    size_t bytes = 0, fit = 0;
    while (fit < n && fit < MYSQL_ENQUEUE_CHUNK && bytes <= most) {
        bytes += rows[fit]->task->payload_size + 512;
        if (bytes <= most || fit == 0)
            fit++;
    }
    return fit;
}

static int mysql_enqueue_by_key(const void *a, const void *b)
{
    const nq_mysql_row *x = *(nq_mysql_row *const *)a, *y = *(nq_mysql_row *const *)b;
    return memcmp(x->key, y->key, sizeof x->key);
}

/* After a second conflict in the order of the keys, as everybody else who had them: so the keys that all want
 * are taken in one order, and who is first goes on. Till then in the order of the call, which ids follow. */
static void mysql_enqueue_order(const struct mysql_enqueue_job *j, nq_mysql_row **rows, size_t n)
{
    if (j->conflicts > 1)
        qsort(rows, n, sizeof(nq_mysql_row *), mysql_enqueue_by_key);
}

/* Insert the pending rows of the part; duplicates are answered. c NULL: on the caller's connection. */
static int mysql_enqueue_part(struct mysql_enqueue_job *j, nq_conn *c, nq_err *err)
{
    nq_mysql_row **part = j->part, *todo[MYSQL_ENQUEUE_CHUNK];
    const size_t npart = j->npart;
    int rc = NQ_OK;
    unsigned gone = 0;
    for (;;) {
        size_t n = 0;
        nq_err why = {0};
        for (size_t i = 0; i < npart && n < MYSQL_ENQUEUE_CHUNK; i++)
            if (mysql_enqueue_pending(part[i]))
                todo[n++] = part[i];
        if (n == 0)
            break;
        mysql_enqueue_order(j, todo, n);
        n = mysql_enqueue_piece(j, todo, n);
        rc = mysql_enqueue_insert(j, c, false, todo, n, &why);
        if (rc == NQ_OK)
            continue;
        if (rc == NQ_EDUPLICATE && j->own_tx) {
            j->conflicts += j->look_first;
            j->look_first = true;
            rc = nq_err_set(err, NQ_ECONFLICT, "a task with the same unique key comes and goes");
            break;
        }
        if (rc != NQ_EDUPLICATE) {
            if (err)
                *err = why;
            break;
        }
        j->part = todo;
        j->npart = n;
        rc = mysql_enqueue_look_at(j, c, "", "", err);
        bool answered = false;
        for (size_t i = 0; i < n; i++)
            answered = answered || !mysql_enqueue_pending(todo[i]);
        if (rc != NQ_OK) {
            if (err && !c)
                err->transaction_lost = false;
            break;
        }
        if (!answered && ++gone == MYSQL_ENQUEUE_TRIES) {
            rc = nq_err_set(err, NQ_ECONFLICT, "a task with the same unique key comes and goes");
            break;
        }
    }
    j->part = part;
    j->npart = npart;
    return rc;
}

/* The part has its answers: add the follow-ups of the duplicates that need one. */
static int mysql_enqueue_followups(struct mysql_enqueue_job *j, nq_conn *c, nq_err *err)
{
    nq_mysql_row *todo[MYSQL_ENQUEUE_CHUNK];
    size_t n = 0;
    int rc = NQ_OK;
    for (size_t i = 0; i < j->npart; i++)
        if (j->part[i]->follow)
            todo[n++] = j->part[i];
    for (size_t at = 0, piece; rc == NQ_OK && at < n; at += piece) {
        piece = mysql_enqueue_piece(j, todo + at, n - at);
        rc = mysql_enqueue_insert(j, c, true, todo + at, piece, err);
    }
    return rc;
}

/* ---- The whole call ------------------------------------------------------------------------- */

/* c NULL: in the caller's transaction. */
static int mysql_enqueue_all(struct mysql_enqueue_job *j, nq_conn *c, nq_err *err)
{
    nq_mysql_row *part[MYSQL_ENQUEUE_CHUNK];
    int rc = NQ_OK;
    for (size_t at = 0; rc == NQ_OK && at < j->n;) {
        j->npart = 0;
        for (; at < j->n && j->npart < MYSQL_ENQUEUE_CHUNK; at++)
            if (j->rows[at].first == at)
                part[j->npart++] = &j->rows[at];
        j->part = part;
        if (!c)
            rc = mysql_enqueue_precheck(j, err);
        else if (j->look_first)
            rc = mysql_enqueue_look_at(j, c, "", "", err);
        if (rc == NQ_OK)
            rc = mysql_enqueue_part(j, c, err);
        if (rc == NQ_OK)
            rc = mysql_enqueue_followups(j, c, err);
    }
    j->part = NULL;
    return rc;
}

static void mysql_enqueue_restart(struct mysql_enqueue_job *j, nq_conn *c)
{
    j->increment = nq_mysql_of(c)->increment;
    j->unanswered = false;
    for (size_t i = 0; i < j->n; i++) {
        j->rows[i].id = 0;
        j->rows[i].result = NQ_OK;
        j->rows[i].uncommitted = false;
        j->rows[i].follow = false;
    }
}

static int mysql_enqueue_own_many(nq_conn *c, void *arg, nq_err *err)
{
    struct mysql_enqueue_job *j = arg;
    mysql_enqueue_restart(j, c);
    j->own_tx = true;
    return mysql_enqueue_all(j, c, err);
}

/* Tasks that fit one statement are one INSERT that commits itself. NQ_EDUPLICATE: nothing was inserted, and
 * finding out which ones are live takes a transaction. */
static int mysql_enqueue_own_at_once(nq_conn *conn, void *arg, nq_err *err)
{
    struct mysql_enqueue_job *j = arg;
    nq_mysql_row *todo[MYSQL_ENQUEUE_CHUNK];
    nq_err why = {0};
    size_t n = 0;
    int rc = NQ_EDUPLICATE;
    mysql_enqueue_restart(j, conn);
    if (j->n > MYSQL_ENQUEUE_CHUNK)
        return rc;
    for (size_t i = 0; i < j->n; i++)
        if (j->rows[i].first == i)
            todo[n++] = &j->rows[i];
    mysql_enqueue_order(j, todo, n);
    if (mysql_enqueue_piece(j, todo, n) == n)
        rc = mysql_enqueue_insert(j, conn, false, todo, n, &why);
    if (rc != NQ_OK && j->unanswered)
        rc = nq_mysql_unknown(&why);
    j->look_first = rc == NQ_EDUPLICATE && j->n <= MYSQL_ENQUEUE_CHUNK;
    if (rc != NQ_OK && rc != NQ_EDUPLICATE && err)
        *err = why;
    return rc;
}

/* A single task is its own transaction: one INSERT that commits itself. */
static int mysql_enqueue_own_one(nq_conn *conn, void *arg, nq_err *err)
{
    struct mysql_enqueue_job *j = arg;
    nq_err why = {0};
    mysql_enqueue_restart(j, conn);
    int rc = mysql_enqueue_all(j, conn, &why);
    if (rc != NQ_OK && j->unanswered)
        rc = nq_mysql_unknown(&why);
    if (rc != NQ_OK && err)
        *err = why;
    return rc;
}

static int mysql_enqueue_caller(struct mysql_enqueue_job *j, nq_err *err)
{
    nq_exec_result res;
    j->increment = 1;
    if (j->n > 1 && j->tx.ops->exec(j->tx.conn, "SELECT @@auto_increment_increment", NULL, 0,
                                    mysql_enqueue_id, &j->increment, &res))
        return mysql_enqueue_caller_failed(j, &res, err);
    return mysql_enqueue_all(j, NULL, err);
}

/* Find repetitions within the call, by an open hash of the keys. */
static int mysql_enqueue_repeats(struct mysql_enqueue_job *j)
{
    size_t size = 4;
    while (size < j->n * 2)
        size *= 2;
    size_t *table = calloc(size, sizeof *table); /* row + 1 */
    if (!table)
        return NQ_ENOMEM;
    for (size_t i = 0; i < j->n; i++) {
        uint64_t hash;
        if (j->rows[i].task->unique == NQ_UNIQUE_NONE)
            continue;
        memcpy(&hash, j->rows[i].key, sizeof hash);
        for (size_t at = hash & (size - 1);; at = (at + 1) & (size - 1)) {
            if (!table[at]) {
                table[at] = i + 1;
                break;
            }
            if (memcmp(j->rows[table[at] - 1].key, j->rows[i].key, sizeof j->rows[i].key) == 0) {
                j->rows[i].first = table[at] - 1;
                break;
            }
        }
    }
    free(table);
    return NQ_OK;
}

static void mysql_enqueue_answer(const struct mysql_enqueue_job *j, nq_id ids[], int results[])
{
    for (size_t i = 0; i < j->n; i++) {
        const nq_mysql_row *first = &j->rows[j->rows[i].first];
        if (ids)
            ids[i] = first->id;
        if (results)
            results[i] = j->rows[i].first == i ? first->result : NQ_DUPLICATE;
    }
}

int nq_mysql_enqueue(nq_store *s, nq_tx tx, const nq_new tasks[], size_t n, nq_id ids[], int results[],
                     nq_err *err)
{
    struct mysql_enqueue_job j = {.store = s, .tx = tx, .n = n};
    int rc = NQ_OK;
    if (n == 0)
        return NQ_OK;
    j.rows = calloc(n, sizeof *j.rows);
    if (!j.rows)
        return nq_err_nomem(err);
    for (size_t i = 0; i < n; i++) {
        j.rows[i].task = &tasks[i];
        j.rows[i].first = i;
        if (tasks[i].payload_size > s->max_payload) {
            rc = nq_err_set(err, NQ_ETOOBIG, "the payload has %zu bytes; this server takes at most %zu",
                            tasks[i].payload_size, s->max_payload);
            goto out;
        }
        if (tasks[i].unique != NQ_UNIQUE_NONE)
            nq_unique_hash(j.rows[i].key, tasks[i].type, tasks[i].data, tasks[i].data_size);
    }
    if (n > 1 && mysql_enqueue_repeats(&j) != NQ_OK) {
        rc = nq_err_nomem(err);
        goto out;
    }
    if (tx.ops)
        rc = mysql_enqueue_caller(&j, err);
    else if (n == 1)
        rc = nq_store_do(s, mysql_enqueue_own_one, &j, err);
    else if ((rc = nq_store_do(s, mysql_enqueue_own_at_once, &j, err)) == NQ_EDUPLICATE)
        rc = nq_store_tx(s, mysql_enqueue_own_many, &j, err);
    if (rc == NQ_OK)
        mysql_enqueue_answer(&j, ids, results);
out:
    free(j.rows);
    return rc;
}
