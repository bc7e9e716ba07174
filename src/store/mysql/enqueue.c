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
 * (nq_mysql_precheck). What remains: two producers that insert the same new key in the same instant. The
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

/* ---- INSERT --------------------------------------------------------------------------------- */

/* Insert rows, as tasks or follow-ups, with one statement: all or none. c NULL: on the caller's connection.
 */
static int mysql_enqueue_insert(nq_mysql_call *j, nq_conn *c, bool follow, nq_mysql_row **rows, size_t n,
                                nq_err *err)
{
    const nq_mysql_data *d = nq_mysql_data_of(j->store);
    nq_birth *const birth = !follow && nq_mysql_born(rows[0]) ? rows[0]->task->birth : NULL;
    nq_exec_result res = {0};
    nq_buf b = {0};
    size_t nv = 0;
    int rc;
    nq_val *const v = nq_mysql_insert(&b, d, !c, follow, rows, n, &nv);
    if (!v) {
        rc = nq_err_nomem(err);
        goto out;
    }
    if (c)
        rc = nq_mysql_exec(c, b.p, v, nv, NULL, NULL, &res, err);
    else if (j->tx.ops->exec(j->tx.conn, b.p, v, nv, NULL, NULL, &res))
        rc = nq_mysql_call_failed(j, &res, err);
    else
        rc = NQ_OK;
    if (birth && rc == NQ_OK)
        birth->did = true;
    if ((rc == NQ_OK && (res.insert_id <= 0 || res.insert_id > INT64_MAX - (int64_t)n * j->increment)) ||
        (c && res.db_code == NQ_MYSQL_ER_AUTOINC_READ_FAILED && nq_mysql_ids_used_up(c)))
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
static size_t mysql_enqueue_piece(const nq_mysql_call *j, nq_mysql_row **rows, size_t n)
{
    /* The step between ids changes on Galera with the number of nodes, in open sessions too. */
    if (nq_mysql_data_of(j->store)->nodes)
        return n ? 1 : 0;
    const size_t packet = nq_mysql_data_of(j->store)->packet / 2;
    const size_t most = packet < MYSQL_ENQUEUE_BYTES ? packet : MYSQL_ENQUEUE_BYTES;
    size_t bytes = 0, fit = 0;
    while (fit < n && fit < MYSQL_ENQUEUE_CHUNK && bytes <= most) {
        const char *headers = rows[fit]->task->headers;
        bytes += rows[fit]->task->payload_size + (headers ? strlen(headers) : 0) + 512;
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
static void mysql_enqueue_order(const nq_mysql_call *j, nq_mysql_row **rows, size_t n)
{
    if (j->conflicts > 1)
        qsort(rows, n, sizeof(nq_mysql_row *), mysql_enqueue_by_key);
}

/* The next of the part's pending rows, for one statement; how many. */
static size_t mysql_enqueue_next(const nq_mysql_call *j, nq_mysql_part part,
                                 nq_mysql_row *todo[MYSQL_ENQUEUE_CHUNK])
{
    size_t n = 0;
    for (size_t i = 0; i < part.n && n < MYSQL_ENQUEUE_CHUNK; i++)
        if (nq_mysql_pending(part.rows[i]))
            todo[n++] = part.rows[i];
    mysql_enqueue_order(j, todo, n);
    return mysql_enqueue_piece(j, todo, n);
}

static int mysql_enqueue_comes_and_goes(nq_err *err)
{
    return nq_err_set(err, NQ_ECONFLICT, "a task with the same unique key comes and goes");
}

/* Rows of which some were refused as duplicates: which are live? *answered: some are. */
static int mysql_enqueue_refused(nq_mysql_call *j, nq_conn *c, nq_mysql_part part, bool *answered,
                                 nq_err *err)
{
    if (j->own_tx) {
        j->conflicts += j->look_first;
        j->look_first = true;
        return mysql_enqueue_comes_and_goes(err);
    }
    const int rc = nq_mysql_lookup(j, part, c, err);
    for (size_t i = 0; i < part.n; i++)
        *answered = *answered || !nq_mysql_pending(part.rows[i]);
    if (rc != NQ_OK && err && !c)
        err->transaction_lost = false;
    return rc;
}

/* Insert the pending rows of the part; duplicates are answered. c NULL: on the caller's connection. */
static int mysql_enqueue_part(nq_mysql_call *j, nq_conn *c, nq_mysql_part part, nq_err *err)
{
    nq_mysql_row *todo[MYSQL_ENQUEUE_CHUNK];
    unsigned gone = 0;
    for (size_t n; (n = mysql_enqueue_next(j, part, todo)) > 0;) {
        nq_err why = {0};
        bool answered = false;
        int rc = mysql_enqueue_insert(j, c, false, todo, n, &why);
        if (rc == NQ_OK)
            continue;
        if (why.db_code == NQ_MYSQL_ER_BAD_NULL && nq_mysql_born(todo[0])) {
            todo[0]->task->birth->lease = 0; /* the worker is gone: it waits for another one */
            continue;
        }
        if (rc != NQ_EDUPLICATE) {
            if (err)
                *err = why;
            return rc;
        }
        rc = mysql_enqueue_refused(j, c, (nq_mysql_part){todo, n}, &answered, err);
        if (rc != NQ_OK)
            return rc;
        if (!answered && ++gone == MYSQL_ENQUEUE_TRIES)
            return mysql_enqueue_comes_and_goes(err);
    }
    return NQ_OK;
}

/* The part has its answers: add the follow-ups of the duplicates that need one. */
static int mysql_enqueue_followups(nq_mysql_call *j, nq_conn *c, nq_mysql_part part, nq_err *err)
{
    nq_mysql_row *todo[MYSQL_ENQUEUE_CHUNK];
    size_t n = 0;
    int rc = NQ_OK;
    for (size_t i = 0; i < part.n; i++)
        if (part.rows[i]->follow)
            todo[n++] = part.rows[i];
    for (size_t at = 0, piece; rc == NQ_OK && at < n; at += piece) {
        piece = mysql_enqueue_piece(j, todo + at, n - at);
        rc = mysql_enqueue_insert(j, c, true, todo + at, piece, err);
        nq_store_followed_saw(j->store, true);
    }
    return rc;
}

/* ---- The whole call ------------------------------------------------------------------------- */

/* c NULL: in the caller's transaction. */
static int mysql_enqueue_all(nq_mysql_call *j, nq_conn *c, nq_err *err)
{
    nq_mysql_row *rows[MYSQL_ENQUEUE_CHUNK];
    int rc = NQ_OK;
    for (size_t at = 0; rc == NQ_OK && at < j->n;) {
        nq_mysql_part part = {rows, 0};
        for (; at < j->n && part.n < MYSQL_ENQUEUE_CHUNK; at++)
            if (j->rows[at].first == at)
                rows[part.n++] = &j->rows[at];
        if (!c)
            rc = nq_mysql_precheck(j, part, err);
        else if (j->look_first)
            rc = nq_mysql_lookup(j, part, c, err);
        if (rc == NQ_OK)
            rc = mysql_enqueue_part(j, c, part, err);
        if (rc == NQ_OK)
            rc = mysql_enqueue_followups(j, c, part, err);
    }
    return rc;
}

/* The same, and the tags of the tasks that were added, in the same transaction. */
static int mysql_enqueue_tagged(nq_mysql_call *j, nq_conn *c, nq_err *err)
{
    int rc = mysql_enqueue_all(j, c, err);
    if (rc != NQ_OK || !j->tagged)
        return rc;
    const nq_place place = {j->store, c, j->tx};
    nq_tags tags = {.place = &place};
    for (size_t i = 0; i < j->n && rc == NQ_OK; i++)
        if (j->rows[i].first == i && j->rows[i].result == NQ_OK)
            rc = nq_tags_put(&tags, j->rows[i].task, j->rows[i].id, err);
    return rc == NQ_OK ? nq_tags_end(&tags, err) : rc;
}

static void mysql_enqueue_restart(nq_mysql_call *j, nq_conn *c)
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
    nq_mysql_call *j = arg;
    mysql_enqueue_restart(j, c);
    j->own_tx = true;
    return mysql_enqueue_tagged(j, c, err);
}

/* Tasks that fit one statement are one INSERT that commits itself. NQ_EDUPLICATE: nothing was inserted, and
 * finding out which ones are live takes a transaction. */
static int mysql_enqueue_own_at_once(nq_conn *conn, void *arg, nq_err *err)
{
    nq_mysql_call *j = arg;
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
    if (n && mysql_enqueue_piece(j, todo, n) == n)
        rc = mysql_enqueue_insert(j, conn, false, todo, n, &why);
    if (rc != NQ_OK && j->unanswered)
        rc = nq_mysql_unknown(&why);
    j->look_first = rc == NQ_EDUPLICATE && j->n <= MYSQL_ENQUEUE_CHUNK;
    if (rc != NQ_OK && rc != NQ_EDUPLICATE && err)
        *err = why;
    return rc;
}

static int mysql_enqueue_born_row(const nq_val cols[], size_t ncols, void *arg)
{
    (void)ncols;
    *(int64_t *)arg = cols[0].i;
    return 0;
}

/* When it was born. Not by INSERT ... RETURNING: libmariadb waits for ever for the answer to a prepared one
 * that met a deadlock. What cannot be read is left to the worker. */
static void mysql_enqueue_born_at(const nq_mysql_call *j, nq_conn *c)
{
    nq_birth *const birth = j->rows->task->birth;
    const nq_val id = nq_int(j->rows->id);
    if (birth->did && nq_sql(c, "SELECT {us:created_at} FROM {tasks} WHERE id = ?", &id, 1,
                             mysql_enqueue_born_row, &birth->at_us, NULL, NULL) != NQ_OK)
        birth->at_us = 0;
}

/* A single task is its own transaction: one INSERT that commits itself. */
static int mysql_enqueue_own_one(nq_conn *conn, void *arg, nq_err *err)
{
    nq_mysql_call *j = arg;
    nq_err why = {0};
    mysql_enqueue_restart(j, conn);
    int rc = mysql_enqueue_all(j, conn, &why);
    if (rc == NQ_OK && nq_mysql_born(j->rows))
        mysql_enqueue_born_at(j, conn);
    if (rc != NQ_OK && j->unanswered)
        rc = nq_mysql_unknown(&why);
    if (rc != NQ_OK && err)
        *err = why;
    return rc;
}

static int mysql_enqueue_increment(const nq_val cols[], size_t ncols, void *arg)
{
    (void)ncols;
    *(int64_t *)arg = cols[0].i;
    return 0;
}

static int mysql_enqueue_caller(nq_mysql_call *j, nq_err *err)
{
    nq_exec_result res;
    j->increment = 1;
    if (j->n > 1 && j->tx.ops->exec(j->tx.conn, "SELECT @@auto_increment_increment", NULL, 0,
                                    mysql_enqueue_increment, &j->increment, &res))
        return nq_mysql_call_failed(j, &res, err);
    return mysql_enqueue_tagged(j, NULL, err);
}

/* Find repetitions within the call, by an open hash of the keys. */
static int mysql_enqueue_repeats(nq_mysql_call *j)
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
        for (size_t at = (size_t)hash & (size - 1);; at = (at + 1) & (size - 1)) {
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

static void mysql_enqueue_answer(const nq_mysql_call *j, nq_id ids[], int results[])
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
    nq_mysql_call j = {.store = s, .tx = tx, .n = n};
    int rc = NQ_OK;
    if (n == 0)
        return NQ_OK;
    j.rows = calloc(n, sizeof *j.rows);
    if (!j.rows)
        return nq_err_nomem(err);
    for (size_t i = 0; i < n; i++) {
        j.rows[i].task = &tasks[i];
        j.rows[i].first = i;
        j.tagged = j.tagged || tasks[i].ntags > 0;
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
    else if (n == 1 && !j.tagged)
        rc = nq_store_do(s, mysql_enqueue_own_one, &j, err);
    else if (j.tagged || (rc = nq_store_do(s, mysql_enqueue_own_at_once, &j, err)) == NQ_EDUPLICATE)
        rc = nq_store_tx(s, mysql_enqueue_own_many, &j, err);
    if (rc == NQ_OK)
        mysql_enqueue_answer(&j, ids, results);
out:
    free(j.rows);
    return rc;
}

/* ---- One task whose key is looked after ------------------------------------------------------ */

size_t nq_mysql_key(const nq_new *task, uint8_t room[32], nq_val match[2], nq_val *column)
{
    nq_unique_hash(room, task->type, task->data, task->data_size);
    *column = match[0] = nq_blob(room, 32);
    return 1;
}

static nq_mysql_row mysql_enqueue_row(const nq_new *task)
{
    nq_mysql_row row = {.task = task};
    if (task->unique != NQ_UNIQUE_NONE)
        nq_unique_hash(row.key, task->type, task->data, task->data_size);
    return row;
}

int nq_mysql_put(const nq_place *p, const nq_new *task, nq_id follows, nq_id *id, nq_err *err)
{
    nq_mysql_row row = mysql_enqueue_row(task), *rows = &row;
    nq_mysql_call j = {.store = p->store, .tx = p->tx, .rows = &row, .n = 1, .increment = 1};
    row.id = follows;
    const int rc = mysql_enqueue_insert(&j, p->c, follows != 0, &rows, 1, err);
    *id = row.id;
    return rc;
}

int nq_mysql_precheck_one(const nq_place *p, const nq_new *task, nq_id *id, bool *own, nq_err *err)
{
    nq_mysql_row row = mysql_enqueue_row(task), *rows = &row;
    nq_mysql_call j = {.store = p->store, .tx = p->tx, .rows = &row, .n = 1, .increment = 1};
    const int rc = nq_mysql_precheck(&j, (nq_mysql_part){&rows, 1}, err);
    *id = rc == NQ_OK && row.result == NQ_DUPLICATE ? row.id : 0;
    *own = !row.follow;
    return rc;
}
