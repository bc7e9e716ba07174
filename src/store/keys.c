/* SPDX-License-Identifier: MIT */
/* Enqueueing tasks whose keys are looked after: replace, debounce, append, windows. */
#include "store.h"

/*
 * One task after the other: look for the live one of its key, without a lock, and do what its state asks for.
 *
 *   it runs: leave a follow-up, which says what is to be done with it (latest.c)
 *   it waits again, and we append: the same, for there may be follow-ups that ours comes behind
 *   it waits: delete the follow-ups of the key that are committed, which ours comes after, then lock the task
 *     by its id and change it; where it was claimed meanwhile, look again
 *   there is none: the same DELETE, then INSERT; where another one was quicker, look again
 *
 * Follow-ups are locked before tasks, as by whoever makes tasks of them, and both by their ids: by the key, a
 * lock would be held on places where others insert, and completions, which delete by id, would meet it in
 * another order. (A look that came after the lock on the task lost the last update of 15 of 50 keys.)
 *
 * What another transaction has not committed yet is not seen: a follow-up of one comes after ours if it is
 * committed after ours.
 */

#define KEYS_TRIES 8 /* looks at a task that comes and goes */

struct keys_job {
    nq_store *store;
    nq_tx tx;
    const nq_new *tasks;
    size_t n;
    nq_id *ids;
    int *results;
};

/* One task of a call. */
struct keys_one {
    const nq_place *p;
    nq_new task;
    nq_buf headers; /* with the time of expiry, where the database has the clock */
    uint8_t hash[32];
    nq_val match[2], column; /* of its key */
    size_t nmatch;
    nq_id live; /* 0: none */
    int state;
    bool ran; /* it was claimed once */
    bool own; /* of the caller's transaction */
    nq_id id; /* out */
    int result;
};

/* Of an error on a connection of ours: the caller's transaction is as it was. */
static int keys_ours(int rc, nq_err *err)
{
    if (rc != NQ_OK && err)
        err->transaction_lost = false;
    return rc;
}

/* ---- The live task ---- */

static int keys_live_row(const nq_val cols[], size_t ncols, void *arg)
{
    struct keys_one *k = arg;
    (void)ncols;
    k->live = cols[0].i;
    k->state = (int)cols[1].i;
    k->ran = cols[2].i != 0;
    return 0;
}

/* nq_tx_fn: what is committed of the task that was seen. */
static int keys_live_state(nq_conn *c, void *arg, nq_err *err)
{
    struct keys_one *k = arg;
    const nq_val id = nq_int(k->live);
    k->live = 0;
    const int rc = nq_sql(c, "SELECT t.id, t.state, t.generation FROM {tasks} t {by_id} WHERE t.id = ?", &id,
                          1, keys_live_row, k, NULL, err);
    if (rc != NQ_OK)
        k->live = id.i; /* it may be asked again */
    return rc;
}

static int keys_find(struct keys_one *k, nq_err *err)
{
    const nq_driver *d = k->p->store->driver;
    k->live = 0;
    k->state = NQ_STATE_WAITING;
    k->own = k->ran = false;
    if (k->p->c || !d->precheck)
        return nq_place_sql(k->p, "SELECT t.id, t.state, t.generation FROM {full:tasks} t WHERE {keyed:t}",
                            k->match, k->nmatch, keys_live_row, k, err);
    const int rc = d->precheck(k->p, &k->task, &k->live, &k->own, err);
    if (rc != NQ_OK || k->live == 0 || k->own)
        return rc;
    return keys_ours(nq_store_do(k->p->store, keys_live_state, k, err), err);
}

/* ---- Follow-ups ---- */

#define KEYS_FOLLOWUPS "SELECT f.id FROM {full:followups} f {by_followed} WHERE {keyed:f}"

struct keys_list {
    const struct keys_one *k;
    nq_buf sql;
    size_t n;
};

static int keys_list_row(const nq_val cols[], size_t ncols, void *arg)
{
    struct keys_list *l = arg;
    (void)ncols;
    if (l->n++ == 0)
        nq_buf_str(&l->sql, "{delete_by_key} {full:followups} WHERE id IN (");
    nq_sql_list_id(l->k->p->store, &l->sql, cols[0].i);
    return l->sql.failed ? NQ_ENOMEM : 0;
}

static int keys_list_ours(nq_conn *c, void *arg, nq_err *err)
{
    struct keys_list *l = arg;
    nq_buf_clear(&l->sql);
    l->n = 0;
    return nq_sql(c, KEYS_FOLLOWUPS, l->k->match, l->k->nmatch, keys_list_row, l, NULL, err);
}

/* Delete those of the key that are committed, and the caller's own. */
static int keys_clear(const struct keys_one *k, nq_err *err)
{
    struct keys_list l = {.k = k};
    int rc = NQ_OK;
    if (!k->p->c && k->p->store->driver->row_locks)
        rc = keys_ours(nq_store_do(k->p->store, keys_list_ours, &l, err), err);
    if (rc == NQ_OK)
        rc = nq_place_sql(k->p, KEYS_FOLLOWUPS, k->match, k->nmatch, keys_list_row, &l, err);
    if (rc == NQ_OK && l.n > 0) {
        nq_buf_fmt(&l.sql, ") {at_most:%zu}", l.n);
        rc = l.sql.failed ? nq_err_nomem(err) : nq_place_sql(k->p, l.sql.p, NULL, 0, NULL, NULL, err);
    }
    nq_buf_free(&l.sql);
    return rc;
}

/* Leave one, with the word of what is to be done with it first in its headers; how NULL: none. */
static int keys_follow(struct keys_one *k, const char *how, nq_err *err)
{
    nq_buf headers = {0};
    nq_new task = k->task;
    nq_id id;
    int rc = NQ_OK;
    if (how) {
        nq_buf_str(&headers, task.headers ? task.headers : "");
        rc = headers.failed ? nq_err_nomem(err) : nq_headers_unique(&headers, how, err);
        task.headers = headers.p;
    }
    if (rc == NQ_OK)
        rc = k->p->store->driver->put(k->p, &task, k->live, &id, err);
    nq_store_followed_saw(k->p->store, true);
    nq_buf_free(&headers);
    return rc;
}

/* ---- A task that waits ---- */

/* What was read when it was locked. */
struct keys_waiting {
    bool there, ran;
    int64_t created_us, now_us;
    size_t size;
    nq_buf payload; /* for one that is appended to */
    bool tagged;
};

static int keys_waiting_row(const nq_val cols[], size_t ncols, void *arg)
{
    struct keys_waiting *w = arg;
    (void)ncols;
    w->there = true;
    w->created_us = cols[0].i;
    w->size = (size_t)cols[1].i;
    w->now_us = cols[2].i;
    w->tagged = nq_tags_in(cols[4].p, cols[4].n);
    w->ran = cols[5].i != 0;
    if (cols[3].type != NQ_VAL_NULL)
        nq_buf_add(&w->payload, cols[3].n ? cols[3].p : "", cols[3].n);
    return w->payload.failed ? NQ_ENOMEM : 0;
}

#define KEYS_LOCK(now)                                                                                       \
    "SELECT {us:t.created_at}, {size:t.payload}, " now                                                       \
    ", CASE WHEN {size:t.payload} <= ? THEN {bytes:t.payload} END, {short:t.headers}, t.generation "         \
    "FROM {full:tasks} t {by_id} "                                                                           \
    "WHERE t.id = ? AND t.state = 0 {lock}"

/* Lock it: nobody claims it until our transaction ends. most: of a payload that is to be read. */
static int keys_lock(const struct keys_one *k, int64_t most, struct keys_waiting *w, nq_err *err)
{
    const nq_val args[] = {nq_int(most), nq_int(k->live)};
    const bool ours = k->p->store->driver->hosts_clock; /* a caller's connection may have no other */
    const int rc =
        nq_place_sql(k->p, ours ? KEYS_LOCK("0") : KEYS_LOCK("{us:now}"), args, 2, keys_waiting_row, w, err);
    w->now_us = ours ? nq_store_clock(k->p->store) : w->now_us;
    return rc;
}

/* When it is to run: between what the tables take as a time. */
static int64_t keys_run_at(const nq_new *t, const struct keys_waiting *w)
{
    const int64_t first = NQ_SECONDS(10000000), last = 253402300799999999;
    int64_t at = t->run_at_us ? t->run_at_us : w->now_us + t->delay_us;
    if (t->duplicate == NQ_DEBOUNCE && w->created_us < last - t->max_wait_us &&
        at > w->created_us + t->max_wait_us)
        at = w->created_us + t->max_wait_us;
    return at < first ? first : at > last ? last : at;
}

#define KEYS_SET(column, kind, goes, ...)   NQ_IF_SAID_##goes(#column " = ?, ")
#define KEYS_VALUE(column, kind, goes, ...) NQ_IF_SAID_##goes(v[n++] = NQ_VALUE_##kind(t->column);)
#define KEYS_RENEW(payload)                                                                                  \
    "UPDATE {full:tasks} SET " NQ_COLUMNS(                                                                   \
        KEYS_SET) "unique_key = ?, run_at = {at}, attempts = 0, crashes = 0, payload"                        \
                  " = " payload " WHERE id = ? AND state = 0"

static int keys_replace(const struct keys_one *k, const struct keys_waiting *w, nq_err *err)
{
    const nq_new *t = &k->task;
    nq_val v[NQ_SAID_COUNT + 4];
    size_t n = 0;
    NQ_COLUMNS(KEYS_VALUE)
    v[n++] = k->column;
    v[n++] = nq_int(keys_run_at(t, w));
    if (t->payload_size > 0)
        v[n++] = nq_blob(t->payload, t->payload_size);
    v[n++] = nq_int(k->live);
    /* To a caller's session with EMPTY_STRING_IS_NULL an empty value that is bound is NULL. */
    const int rc =
        nq_place_sql(k->p, t->payload_size > 0 ? KEYS_RENEW("?") : KEYS_RENEW("X''"), v, n, NULL, NULL, err);
    return rc == NQ_OK ? nq_tags_renew(k->p, k->live, w->tagged, t->ntags > 0, err) : rc;
}

/* No place behind it: refused. */
static int keys_append(struct keys_one *k, struct keys_waiting *w, nq_err *err)
{
    const size_t most = nq_store_max_payload(k->p->store);
    if (w->size != w->payload.n ||
        !nq_payload_append(&w->payload, k->task.payload, k->task.payload_size, most)) {
        k->result = NQ_DUPLICATE;
        return NQ_OK;
    }
    const nq_val v[] = {nq_blob(w->payload.p, w->payload.n), k->column, nq_int(k->live)};
    return w->payload.failed
               ? nq_err_nomem(err)
               : nq_place_sql(
                     k->p, "UPDATE {full:tasks} SET payload = ?, unique_key = ? WHERE id = ? AND state = 0",
                     v, 3, NULL, NULL, err);
}

/* *did false: it does not wait any more. */
static int keys_change(struct keys_one *k, bool *did, nq_err *err)
{
    struct keys_waiting w = {0};
    const bool append = k->task.duplicate == NQ_APPEND;
    const int64_t most = append ? (int64_t)nq_store_max_payload(k->p->store) : -1;
    int rc = append ? NQ_OK : keys_clear(k, err);
    if (rc == NQ_OK)
        rc = keys_lock(k, most, &w, err);
    if (append && w.ran) /* claimed and given back since it was looked at */
        w.there = false;
    if (rc == NQ_OK && w.there)
        rc = append ? keys_append(k, &w, err) : keys_replace(k, &w, err);
    *did = rc == NQ_OK && w.there;
    nq_buf_free(&w.payload);
    return rc;
}

/* ---- One task ---- */

/* No task of the key lives. *did false: one does. */
static int keys_insert(struct keys_one *k, bool *did, nq_err *err)
{
    nq_err why = {0};
    const bool renews = k->task.duplicate == NQ_REPLACE || k->task.duplicate == NQ_DEBOUNCE;
    int rc = renews ? keys_clear(k, &why) : NQ_OK;
    if (rc == NQ_OK)
        rc = k->p->store->driver->put(k->p, &k->task, 0, &k->id, &why);
    if (rc == NQ_OK)
        rc = nq_tags_add(k->p, &k->task, k->id, &why);
    *did = rc == NQ_OK;
    if (rc == NQ_EDUPLICATE && !k->p->c)
        return NQ_OK;
    if (rc == NQ_EDUPLICATE) /* the refused INSERT has left a lock, that others wait for */
        return nq_place_again(err);
    if (rc != NQ_OK && err)
        *err = why;
    return rc;
}

/* A live task refuses this one; it follows as any duplicate does, unless it has a window. */
static int keys_refuse(struct keys_one *k, nq_err *err)
{
    bool any = false;
    k->id = k->live;
    k->result = NQ_DUPLICATE;
    if (k->task.until == NQ_UNTIL_WINDOW || k->state != NQ_STATE_RUNNING)
        return NQ_OK;
    const int rc = nq_place_sql(k->p, KEYS_FOLLOWUPS " LIMIT 1", k->match, k->nmatch, nq_row_any, &any, err);
    return rc != NQ_OK || any ? rc : keys_follow(k, NULL, err);
}

/* The task is in: its window with it, or it goes again. */
static int keys_window(struct keys_one *k, bool *did, nq_err *err)
{
    const nq_val id = nq_int(k->id);
    nq_id taker = 0;
    int rc = nq_window_open(k->p, k->hash, k->id, k->task.window_us, &taker, err);
    if (rc != NQ_OK || taker == k->id)
        return rc;
    if (k->p->c)
        return nq_place_again(err);
    k->id = taker;
    k->result = NQ_DUPLICATE;
    *did = taker != 0;
    return nq_place_sql(k->p, "DELETE FROM {full:tasks} WHERE id = ?", &id, 1, NULL, NULL, err);
}

static int keys_new(struct keys_one *k, bool *did, nq_err *err)
{
    nq_id taker = 0;
    int rc = NQ_OK;
    k->result = NQ_OK;
    if (k->task.until == NQ_UNTIL_WINDOW)
        rc = nq_window_look(k->p, k->hash, &taker, err);
    if (taker) {
        k->id = taker;
        k->result = NQ_DUPLICATE;
        *did = true;
    }
    if (rc != NQ_OK || taker)
        return rc;
    rc = keys_insert(k, did, err);
    return rc == NQ_OK && *did && k->task.until == NQ_UNTIL_WINDOW ? keys_window(k, did, err) : rc;
}

static int keys_one(struct keys_one *k, nq_err *err)
{
    static const char *const how[] = {NULL, "replace", "replace", "append"};
    bool did = false;
    int rc = NQ_OK;
    for (int tries = 0; tries < KEYS_TRIES && rc == NQ_OK && !did; tries++) {
        k->result = NQ_OK;
        rc = k->task.unique == NQ_UNIQUE_NONE ? NQ_OK : keys_find(k, err);
        if (rc != NQ_OK)
            break;
        if (k->live == 0) {
            rc = keys_new(k, &did, err);
            continue;
        }
        k->id = k->live;
        if (k->task.duplicate == NQ_REFUSE) {
            rc = keys_refuse(k, err);
            did = true;
        } else if (k->state != NQ_STATE_WAITING || (k->task.duplicate == NQ_APPEND && k->ran)) {
            rc = keys_follow(k, how[k->task.duplicate], err);
            did = true;
        } else {
            rc = keys_change(k, &did, err);
        }
    }
    return rc != NQ_OK || did ? rc : nq_place_again(err);
}

static int keys_clock_row(const nq_val cols[], size_t ncols, void *arg)
{
    (void)ncols;
    *(int64_t *)arg = cols[0].i;
    return 0;
}

/* The time of expiry as a header, so that each statement below has all of the task. */
static int keys_expires(struct keys_one *k, nq_err *err)
{
    int64_t now = 0;
    const int rc = nq_place_sql(k->p, "SELECT {us:now}", NULL, 0, keys_clock_row, &now, err);
    const int64_t at = now + k->task.expires_us;
    nq_buf_fmt(&k->headers, "%snq-expires: %lld\n", k->task.headers ? k->task.headers : "", (long long)at);
    k->task.headers = k->headers.p;
    k->task.expires_us = 0;
    return rc == NQ_OK && k->headers.failed ? nq_err_nomem(err) : rc;
}

static bool keys_is(const nq_new *t)
{
    return t->until == NQ_UNTIL_WINDOW || t->duplicate != NQ_REFUSE;
}

static int keys_task(const struct keys_job *job, const nq_place *p, size_t i, nq_err *err)
{
    struct keys_one k = {.p = p, .task = job->tasks[i]};
    int rc = NQ_OK;
    if (!p->c && !keys_is(&k.task))
        return p->store->driver->enqueue(p->store, p->tx, &job->tasks[i], 1, &job->ids[i], &job->results[i],
                                         err);
    if (k.task.expires_us)
        rc = keys_expires(&k, err);
    if (k.task.unique != NQ_UNIQUE_NONE) {
        nq_unique_hash(k.hash, k.task.type, k.task.data, k.task.data_size);
        k.nmatch = p->store->driver->key(&k.task, k.hash, k.match, &k.column);
    }
    if (rc == NQ_OK)
        rc = keys_one(&k, err);
    job->ids[i] = k.id;
    job->results[i] = k.result;
    nq_buf_free(&k.headers);
    return rc;
}

/* ---- The whole call ---- */

static int keys_own(nq_conn *c, void *arg, nq_err *err)
{
    const struct keys_job *job = arg;
    const nq_place p = {c->store, c, NQ_OWN_TX};
    int rc = NQ_OK;
    for (size_t i = 0; i < job->n && rc == NQ_OK; i++)
        rc = keys_task(job, &p, i, err);
    return rc;
}

/* Where the database has savepoints of one kind for all, nothing of it is left when it fails; and a statement
 * that writes comes first, so that what is read then is what is written to. */
static int keys_caller(struct keys_job *job, nq_err *err)
{
    const nq_place p = {job->store, NULL, job->tx};
    const bool savepoint = !job->store->driver->row_locks;
    nq_err why = {0};
    int rc = NQ_OK;
    if (!savepoint && !job->tx.ops->in_tx(job->tx.conn))
        return nq_err_set(err, NQ_EINVAL,
                          "no transaction is open on this connection: begin one first, or use NQ_OWN_TX");
    if (savepoint && (rc = nq_place_sql(&p, "SAVEPOINT nanoq_keys", NULL, 0, NULL, NULL, err)) != NQ_OK)
        return rc;
    if (savepoint)
        rc = nq_place_sql(&p, "DELETE FROM {full:followups} WHERE id IS NULL", NULL, 0, NULL, NULL, &why);
    for (size_t i = 0; i < job->n && rc == NQ_OK; i++)
        rc = keys_task(job, &p, i, &why);
    if (savepoint && rc == NQ_OK)
        rc = nq_place_sql(&p, "RELEASE nanoq_keys", NULL, 0, NULL, NULL, &why);
    if (savepoint && rc != NQ_OK && !why.transaction_lost &&
        nq_place_sql(&p, "ROLLBACK TO nanoq_keys", NULL, 0, NULL, NULL, NULL) == NQ_OK)
        nq_place_sql(&p, "RELEASE nanoq_keys", NULL, 0, NULL, NULL, NULL);
    if (rc != NQ_OK && err)
        *err = why;
    return rc;
}

/* One with a key to look after: all of the call, each by itself. */
static bool keys_any_is(const nq_new tasks[], size_t n)
{
    bool any = false;
    for (size_t i = 0; i < n && !any; i++)
        any = keys_is(&tasks[i]);
    return any;
}

NQ_PRIVATE int nq_store_enqueue(nq_store *s, nq_tx tx, const nq_new tasks[], size_t n, nq_id ids[],
                                int results[], nq_err *err)
{
    struct keys_job job = {s, tx, tasks, n, ids, results};
    const int rc = n ? nq_store_ready(s, err) : NQ_OK;
    if (rc != NQ_OK || n == 0)
        return rc;
    if (!keys_any_is(tasks, n))
        return s->driver->enqueue(s, tx, tasks, n, ids, results, err);
    return tx.ops ? keys_caller(&job, err) : nq_store_tx(s, keys_own, &job, err);
}

/* ---- Keys that go with the claim ---- */

NQ_PRIVATE int nq_keys_free(nq_conn *c, const nq_claimed *list, nq_err *err)
{
    int rc = NQ_OK;
    for (; list && rc == NQ_OK; list = list->next) {
        const nq_val id = nq_int(list->task.id);
        if (list->unkey)
            rc =
                nq_sql(c, "UPDATE {tasks} SET unique_key = NULL WHERE id = ?", &id, 1, NULL, NULL, NULL, err);
    }
    return rc;
}
