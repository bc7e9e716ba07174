/* SPDX-License-Identifier: MIT */
/* Follow-ups that replace or append: the newest one counts, and what is appended comes behind it. */
#include <stdio.h>

#include "store.h"

/*
 * All follow-ups of the key that are committed are locked, or, where somebody else has one of them, the key
 * is left for the next time: so two who see different ones of them never both decide. Then of these
 *
 *   the newest that replaces is the base: what came before it is done with, whatever its kind;
 *   what is appended behind it, in their order, as long as it fits; what does not fit stays;
 *   the others behind it want no more than a run that begins later, which this one does.
 *
 * A waiting task is changed, not preferred, where it is the one that ran when the base was left: what is
 * committed after it was claimed is newer than it. A producer that replaces it deletes the follow-ups that
 * its version comes after, and what is appended to a task that has run is a follow-up too (keys.c). Another
 * task was added meanwhile, perhaps by one who saw the follow-up, perhaps not: it runs first, and the base
 * after it. Nothing waits for another transaction here.
 */

#define LATEST_MOST 500 /* of a key in one transaction */

enum latest_kind { LATEST_PLAIN, LATEST_REPLACES, LATEST_APPENDS };

struct latest_one {
    nq_id id, task; /* task: which one ran when it was left */
    enum latest_kind kind;
    bool goes, tagged;
};

struct latest {
    nq_id first;
    struct latest_one all[LATEST_MOST + 1];
    size_t n, locked;
    size_t base; /* n: there is none */
    nq_id live;  /* 0: none */
    int state;   /* of it */
    bool taken;  /* some task has the key, committed or not */
    bool waits;  /* and is locked */
    bool tagged; /* it has tags */
    nq_buf sql, payload;
    size_t size; /* of the payload, which was read if payload.n is it */
    size_t made;
    bool more;
};

static int latest_add(const nq_val cols[], size_t ncols, void *arg)
{
    struct latest *l = arg;
    (void)ncols;
    if (l->n <= LATEST_MOST)
        l->all[l->n++] = (struct latest_one){.id = cols[0].i,
                                             .task = cols[3].i,
                                             .kind = (enum latest_kind)cols[1].i,
                                             .tagged = cols[2].i != 0};
    return 0;
}

#define LATEST_KIND                                                                                          \
    "CASE WHEN " NQ_FOLLOWUP_REPLACES("t") " THEN 1 WHEN " NQ_FOLLOWUP_APPENDS("t") " THEN 2 ELSE 0 END"
#define LATEST_OF_KEY "FROM {followups} f CROSS JOIN {followups} t {by_followed} ON {same_key} WHERE f.id = ?"

/* Of more than one transaction decides about, the oldest ones, and the newest that replaces. */
static int latest_list(nq_conn *c, struct latest *l, nq_err *err)
{
    const nq_val args[] = {nq_int(l->first), nq_int(LATEST_MOST + 1)};
    l->n = 0;
    int rc = nq_sql(c,
                    "SELECT t.id, " LATEST_KIND ", " NQ_TAGGED("t") ", t.task_id " LATEST_OF_KEY
                                                                    " ORDER BY t.id LIMIT ?",
                    args, 2, latest_add, l, NULL, err);
    if (rc != NQ_OK || l->n <= LATEST_MOST)
        return rc;
    l->n = LATEST_MOST;
    rc = nq_sql(c,
                "SELECT t.id, 1, " NQ_TAGGED("t") ", t.task_id " LATEST_OF_KEY " AND " NQ_FOLLOWUP_REPLACES(
                    "t") " ORDER BY t.id DESC LIMIT 1",
                args, 1, latest_add, l, NULL, err);
    if (l->n > LATEST_MOST && l->all[LATEST_MOST].id <= l->all[LATEST_MOST - 1].id)
        l->n = LATEST_MOST; /* it is one of them */
    return rc;
}

/* An INSERT would wait for a producer that has added a task of the key and not committed it. See
 * followups.c. */
static int latest_look_taken(nq_conn *c, void *arg, nq_err *err)
{
    struct latest *l = arg;
    const nq_val first = nq_int(l->first);
    return nq_sql(c, "SELECT 1 FROM {followups} f CROSS JOIN {tasks} t ON {same_key} WHERE f.id = ?", &first,
                  1, nq_row_any, &l->taken, NULL, err);
}

static int latest_count(const nq_val cols[], size_t ncols, void *arg)
{
    struct latest *l = arg;
    (void)cols;
    (void)ncols;
    l->locked++;
    return 0;
}

static int latest_live(const nq_val cols[], size_t ncols, void *arg)
{
    struct latest *l = arg;
    (void)ncols;
    l->live = cols[0].i;
    l->state = (int)cols[1].i;
    return 0;
}

static int latest_lock(nq_conn *c, struct latest *l, nq_err *err)
{
    const nq_val first = nq_int(l->first);
    nq_buf_clear(&l->sql);
    nq_buf_str(&l->sql, "SELECT f.id FROM {followups} f {by_id} WHERE f.id IN (");
    for (size_t i = 0; i < l->n; i++)
        nq_sql_list_id(c->store, &l->sql, l->all[i].id);
    nq_buf_str(&l->sql, ") {lock_free}");
    l->locked = 0;
    l->live = 0;
    int rc = l->sql.failed ? nq_err_nomem(err) : nq_sql(c, l->sql.p, NULL, 0, latest_count, l, NULL, err);
    if (rc == NQ_OK && l->locked == l->n)
        rc = nq_sql(
            c, "SELECT t.id, t.state FROM {followups} f CROSS JOIN {tasks} t ON {same_key} WHERE f.id = ?",
            &first, 1, latest_live, l, NULL, err);
    return rc;
}

/* ---- Payloads ---- */

static int latest_payload_row(const nq_val cols[], size_t ncols, void *arg)
{
    struct latest *l = arg;
    (void)ncols;
    l->waits = true;
    l->tagged = cols[2].i != 0;
    l->size = (size_t)cols[0].i;
    nq_buf_clear(&l->payload);
    if (cols[1].type != NQ_VAL_NULL)
        nq_buf_add(&l->payload, cols[1].n ? cols[1].p : "", cols[1].n);
    return l->payload.failed ? NQ_ENOMEM : 0;
}

#define LATEST_PAYLOAD                                                                                       \
    "SELECT {size:t.payload}, CASE WHEN {size:t.payload} <= ? THEN {bytes:t.payload} END, " NQ_TAGGED(       \
        "t") " FROM "

/* Lock the waiting task; its payload is read as far as something may come behind it. */
static int latest_wait(nq_conn *c, struct latest *l, nq_err *err)
{
    const nq_val args[] = {nq_int((int64_t)nq_store_max_payload(c->store)), nq_int(l->live)};
    l->waits = false;
    return nq_sql(c, LATEST_PAYLOAD "{tasks} t {by_id} WHERE t.id = ? AND t.state = 0 {lock_free}", args, 2,
                  latest_payload_row, l, NULL, err);
}

static int latest_more_row(const nq_val cols[], size_t ncols, void *arg)
{
    struct latest *l = arg;
    (void)ncols;
    l->waits = cols[1].type != NQ_VAL_NULL && nq_payload_append(&l->payload, cols[1].p, cols[1].n, l->size);
    return l->payload.failed ? NQ_ENOMEM : 0;
}

/* What is appended behind `from` goes into the payload. *key: one of these, whose column has the key in full;
 * 0: none fits. */
static int latest_append(nq_conn *c, struct latest *l, size_t from, nq_id *key, nq_err *err)
{
    const size_t most = nq_store_max_payload(c->store);
    bool fits = l->payload.n == l->size;
    int rc = NQ_OK;
    l->size = most;
    *key = 0;
    for (size_t i = from; i < l->n && rc == NQ_OK; i++) {
        const nq_val args[] = {nq_int((int64_t)most), nq_int(l->all[i].id)};
        if (l->all[i].kind != LATEST_APPENDS) {
            l->all[i].goes = true;
            continue;
        }
        if (!fits)
            continue;
        l->waits = false;
        rc = nq_sql(c, LATEST_PAYLOAD "{followups} t {by_id} WHERE t.id = ?", args, 2, latest_more_row, l,
                    NULL, err);
        fits = l->all[i].goes = l->waits;
        *key = fits ? l->all[i].id : *key;
    }
    return rc;
}

/* ---- Changes ---- */

#define LATEST_COLUMN(column, kind, goes, ...) NQ_IF_GIVEN_##goes(#column, )

/* INSERT ... SELECT would be shorter. But while that waits for a producer which has inserted the same key,
 * InnoDB lets nobody else insert: it holds the lock on the table's AUTO_INCREMENT then. */
NQ_PRIVATE void nq_followup_insert(const nq_store *s, nq_buf *sql, nq_id id)
{
    static const char *const columns[] = {
        NQ_COLUMNS(LATEST_COLUMN) "CASE WHEN run_at > {now} THEN run_at ELSE {now} END"};
    nq_buf_str(sql, "INSERT INTO {tasks} (" NQ_FOLLOWUP_COLUMNS "run_at) VALUES (");
    for (size_t i = 0; i < sizeof columns / sizeof *columns; i++) {
        nq_buf_fmt(sql, "%s(SELECT %s FROM {followups} WHERE id = ", i ? ", " : "", columns[i]);
        nq_sql_id(s, sql, id);
        nq_buf_str(sql, ")");
    }
    nq_buf_str(sql, ")");
}

static int latest_set_payload(nq_conn *c, const struct latest *l, nq_id task, nq_id key, nq_err *err)
{
    const nq_val args[] = {nq_blob(l->payload.p, l->payload.n), nq_int(key), nq_int(task)};
    return nq_sql(c,
                  "UPDATE {tasks} SET payload = ?, unique_key = (SELECT f.unique_key FROM {followups} f "
                  "WHERE f.id = ?) WHERE id = ?",
                  args, 3, NULL, NULL, NULL, err);
}

/* The waiting task takes all that whoever enqueues says, from the base. */
static int latest_overwrite(nq_conn *c, struct latest *l, nq_err *err)
{
    static const char *const columns[] = {
#define LATEST_NAME(column, kind, goes, ...) NQ_IF_SAID_##goes(#column, )
        NQ_COLUMNS(LATEST_NAME) "payload", "unique_key"};
    nq_buf_clear(&l->sql);
    nq_buf_str(&l->sql, "UPDATE {tasks} SET attempts = 0, crashes = 0");
    for (size_t i = 0; i <= sizeof columns / sizeof *columns; i++) {
        const bool last = i == sizeof columns / sizeof *columns;
        nq_buf_fmt(
            &l->sql, ", %s = (SELECT %s%s FROM {followups} f WHERE f.id = ", last ? "run_at" : columns[i],
            last ? "CASE WHEN f.run_at > {now} THEN f.run_at ELSE {now} END" : "f.", last ? "" : columns[i]);
        nq_sql_id(c->store, &l->sql, l->all[l->base].id);
        nq_buf_str(&l->sql, ")");
    }
    nq_buf_str(&l->sql, " WHERE id = ");
    nq_sql_id(c->store, &l->sql, l->live);
    return l->sql.failed ? nq_err_nomem(err) : nq_sql(c, l->sql.p, NULL, 0, NULL, NULL, NULL, err);
}

static int latest_read(nq_conn *c, struct latest *l, nq_id followup, nq_err *err)
{
    const nq_val args[] = {nq_int((int64_t)nq_store_max_payload(c->store)), nq_int(followup)};
    return nq_sql(c, LATEST_PAYLOAD "{followups} t {by_id} WHERE t.id = ?", args, 2, latest_payload_row, l,
                  NULL, err);
}

/* The live task waits, and is locked. */
static int latest_change(nq_conn *c, struct latest *l, nq_err *err)
{
    nq_id key = 0;
    int rc = NQ_OK;
    if (l->base < l->n) {
        const nq_place place = {c->store, c, NQ_OWN_TX};
        const bool had = l->tagged;
        rc = latest_overwrite(c, l, err);
        if (rc == NQ_OK)
            rc = nq_tags_renew(&place, l->live, had, l->all[l->base].tagged, err);
        if (rc == NQ_OK)
            rc = latest_read(c, l, l->all[l->base].id, err);
        l->all[l->base].goes = true;
    }
    if (rc == NQ_OK)
        rc = latest_append(c, l, l->base < l->n ? l->base + 1 : 0, &key, err);
    if (rc == NQ_OK && key)
        rc = latest_set_payload(c, l, l->live, key, err);
    l->made += rc == NQ_OK && (key || l->base < l->n);
    return nq_row_refused(rc) ? NQ_ESTATE : rc; /* it is the task's fault, and will be found at its claim */
}

/* None lives: the base, or else the first that is appended, becomes a task. NQ_EDUPLICATE: one does. */
static int latest_make(nq_conn *c, struct latest *l, nq_err *err)
{
    size_t at = l->base;
    nq_exec_result res = {0};
    nq_id key = 0;
    for (size_t i = 0; i < l->n && at == l->n; i++)
        at = l->all[i].kind == LATEST_APPENDS ? i : at;
    if (at == l->n) /* only plain ones are left, which have their own way */
        return NQ_OK;
    l->base = at;
    nq_buf_clear(&l->sql);
    nq_followup_insert(c->store, &l->sql, l->all[at].id);
    const nq_place place = {c->store, c, NQ_OWN_TX};
    int rc = l->sql.failed ? nq_err_nomem(err) : nq_sql(c, l->sql.p, NULL, 0, NULL, NULL, &res, err);
    if (rc == NQ_OK)
        rc = nq_tags_renew(&place, res.insert_id, false, l->all[at].tagged, err);
    if (rc == NQ_OK)
        rc = latest_read(c, l, l->all[at].id, err);
    for (size_t i = 0; i <= at; i++)
        l->all[i].goes = true;
    if (rc == NQ_OK)
        rc = latest_append(c, l, at + 1, &key, err);
    if (rc == NQ_OK && key)
        rc = latest_set_payload(c, l, res.insert_id, key, err);
    l->made += rc == NQ_OK;
    return rc;
}

static int latest_delete(nq_conn *c, struct latest *l, nq_err *err)
{
    size_t n = 0;
    nq_buf_clear(&l->sql);
    for (size_t i = 0; i < l->n; i++) {
        if (!l->all[i].goes)
            continue;
        nq_buf_str(&l->sql, n++ ? "" : "{delete_by_key} {followups} WHERE id IN (");
        nq_sql_list_id(c->store, &l->sql, l->all[i].id);
    }
    nq_buf_fmt(&l->sql, ") {at_most:%zu}", n);
    return n == 0          ? NQ_OK
           : l->sql.failed ? nq_err_nomem(err)
                           : nq_sql(c, l->sql.p, NULL, 0, NULL, NULL, NULL, err);
}

/* One that the database does not take as a task must not stop the others: it is kept as a dead one. */
static int latest_bury(nq_conn *c, struct latest *l, nq_err *err)
{
    char text[sizeof err->message + 32];
    snprintf(text, sizeof text, "cannot become a task: %s", err->message);
    for (size_t i = 0; i < l->n; i++)
        l->all[i].goes = i == l->base;
    return nq_bury_followup(c, l->all[l->base].id, text, err);
}

/* All are locked. *leave: nothing is to be changed now. */
static int latest_decide(nq_conn *c, struct latest *l, bool *leave, nq_err *err)
{
    int rc = NQ_OK;
    l->base = l->n;
    for (size_t i = 0; i < l->n; i++)
        if (l->all[i].kind == LATEST_REPLACES)
            l->base = i;
    for (size_t i = 0; i < l->base && l->base < l->n; i++)
        l->all[i].goes = true;
    *leave = false;
    if (l->n > LATEST_MOST || (l->live && l->state == NQ_STATE_RUNNING)) { /* those that are done with go */
        l->more = l->more || l->n > LATEST_MOST;
        return NQ_OK;
    }
    if (!l->live) {
        *leave = l->taken;
        return l->taken ? NQ_OK : latest_make(c, l, err);
    }
    if (l->base < l->n && l->all[l->base].task != l->live) {
        *leave = true;
        return NQ_OK;
    }
    rc = latest_wait(c, l, err);
    *leave = !l->waits;
    return rc == NQ_OK && l->waits ? latest_change(c, l, err) : rc;
}

/* nq_tx_fn for nq_store_do: the looks are no part of the transaction, but have to be repeated with it. */
static int latest_promote(nq_conn *c, void *arg, nq_err *err)
{
    struct latest *l = arg;
    nq_err why = {0};
    bool leave = false;
    l->made = 0;
    l->more = false;
    int rc = latest_list(c, l, err);
    if (rc != NQ_OK || l->n == 0)
        return rc;
    l->taken = false;
    if (c->store->driver->row_locks)
        rc = nq_look_dirty(c, latest_look_taken, l, err);
    if (rc == NQ_OK)
        rc = c->store->driver->begin(c, err);
    if (rc != NQ_OK)
        return rc;
    rc = latest_lock(c, l, &why);
    if (rc == NQ_OK && l->locked < l->n)
        leave = l->more = true;
    else if (rc == NQ_OK)
        rc = latest_decide(c, l, &leave, &why);
    if (nq_row_refused(rc)) {
        rc = latest_bury(c, l, &why);
        l->more = true;
    }
    if (rc == NQ_EDUPLICATE || rc == NQ_ESTATE) {
        l->more = rc == NQ_EDUPLICATE;
        leave = true;
        rc = NQ_OK;
    }
    if (rc == NQ_OK && !leave)
        rc = latest_delete(c, l, &why);
    if (rc == NQ_OK && !leave)
        return nq_conn_end(c, NQ_OK, err);
    nq_conn_undo(c);
    l->made = 0;
    if (rc != NQ_OK && err)
        *err = why;
    return rc;
}

NQ_PRIVATE int nq_store_promote_latest(nq_store *s, nq_id first, size_t *made, bool *more, nq_err *err)
{
    struct latest *l = calloc(1, sizeof *l);
    if (!l)
        return nq_err_nomem(err);
    l->first = first;
    const int rc = nq_store_do(s, latest_promote, l, err);
    if (rc == NQ_OK) {
        *made += l->made;
        *more = *more || l->more;
    }
    nq_buf_free(&l->sql);
    nq_buf_free(&l->payload);
    free(l);
    return rc;
}
