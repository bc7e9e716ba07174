/* SPDX-License-Identifier: MIT */
/* Follow-ups: duplicates refused while the live task may have begun become tasks when it has ended. */
#include <stdio.h>

#include "store.h"

/*
 * What must hold: after the commit that made a follow-up, a task of its key begins. So it may be dropped
 * where a live task waits: that one was not claimed when we read it, which is after that commit. A claim may
 * drop it too, in its own transaction, if it is committed by then. It stays where one runs. Where none lives,
 * a task is made of it, in the transaction that deletes it.
 *
 * Of several of a key the first stands for all: the run that comes of it begins after those that are
 * committed now, if nobody decides about it meanwhile; so it is locked while the others are dropped, and they
 * are before it is decided about. A task that is followed by very many (each is a duplicate in a caller's
 * transaction) costs no more than by one.
 *
 * Nothing here waits for a producer's open transaction: follow-ups that are locked are somebody else's, or
 * not committed, and a key that a READ UNCOMMITTED look finds taken is left alone until that is decided.
 */

struct followups_one {
    int64_t id;
    bool locked; /* by us, in this transaction */
    bool taken;  /* some task has its key, committed or not */
    bool buried; /* it could not become a task */
    bool tagged;
    int state; /* of the live task; -1: there is none */
};

/* One that has an earlier one of its key. */
struct followups_later {
    int64_t id, first;
    bool locked, first_locked; /* by us */
};

struct followups {
    struct followups_one *all; /* in order of id */
    size_t n, limit, made;
    struct followups_later *later; /* those of a key follow each other */
    size_t nlater;
    nq_id *latest; /* first ones of keys that latest.c decides about */
    size_t nlatest;
    size_t nfirsts; /* of both kinds, whose key no running task has */
    bool more;
    nq_buf sql, gone;
};

static int followups_add(const nq_val cols[], size_t ncols, void *arg)
{
    struct followups *f = arg;
    (void)ncols;
    f->nfirsts += cols[1].i == 0 && cols[2].i != 2; /* FOLLOWUPS_ENDED */
    if (cols[2].i != 0 && f->nlatest < f->limit)
        f->latest[f->nlatest++] = cols[0].i;
    else if (cols[2].i == 0 && cols[1].i == 0 && f->n < f->limit)
        f->all[f->n++] = (struct followups_one){.id = cols[0].i, .state = -1, .tagged = cols[3].i != 0};
    else if (cols[2].i == 0 && cols[1].i != 0 && f->nlater < f->limit)
        f->later[f->nlater++] = (struct followups_later){.id = cols[0].i, .first = cols[1].i};
    return 0;
}

static struct followups_one *followups_of(struct followups *f, int64_t id)
{
    size_t low = 0, high = f->n;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if (f->all[middle].id == id)
            return &f->all[middle];
        if (f->all[middle].id < id)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}

static int followups_locked(const nq_val cols[], size_t ncols, void *arg)
{
    struct followups_one *one = followups_of(arg, cols[0].i);
    (void)ncols;
    if (one)
        one->locked = true;
    return 0;
}

static int followups_taken(const nq_val cols[], size_t ncols, void *arg)
{
    struct followups_one *one = followups_of(arg, cols[0].i);
    (void)ncols;
    if (one)
        one->taken = true;
    return 0;
}

static int followups_state(const nq_val cols[], size_t ncols, void *arg)
{
    struct followups_one *one = followups_of(arg, cols[0].i);
    (void)ncols;
    if (one)
        one->state = cols[1].type == NQ_VAL_NULL ? -1 : (int)cols[1].i;
    return 0;
}

/* head, the ids of all, tail. */
static int followups_in(nq_conn *c, struct followups *f, const char *head, const char *tail, nq_row_fn row,
                        nq_err *err)
{
    nq_buf_clear(&f->sql);
    nq_buf_str(&f->sql, head);
    nq_buf_str(&f->sql, "(");
    for (size_t i = 0; i < f->n; i++)
        nq_sql_list_id(c->store, &f->sql, f->all[i].id);
    nq_buf_str(&f->sql, ")");
    nq_buf_str(&f->sql, tail);
    return f->sql.failed ? nq_err_nomem(err) : nq_sql(c, f->sql.p, NULL, 0, row, f, NULL, err);
}

#define FOLLOWUPS_STATE "(SELECT t.state FROM {tasks} t WHERE {same_key})"

/* Which keys has some task, committed or not? */
static int followups_look_taken(nq_conn *c, void *arg, nq_err *err)
{
    return followups_in(c, arg, "SELECT f.id FROM {followups} f WHERE f.id IN ",
                        " AND EXISTS (SELECT 1 FROM {tasks} t WHERE {same_key})", followups_taken, err);
}

static int followups_exist(nq_conn *c, bool *any, nq_err *err)
{
    *any = false;
    return nq_sql(c, "SELECT 1 FROM {followups} LIMIT 1", NULL, 0, nq_row_any, any, NULL, err);
}

/* Is a version behind it? It is done with what came before it. */
#define FOLLOWUPS_VERSION                                                                                    \
    "EXISTS (SELECT 1 FROM {followups} t {by_followed} WHERE {same_key} AND t.id > f.id "                    \
    "AND " NQ_FOLLOWUP_REPLACES("t") ")"

/* Has another task its key, which waits, than the one that the newest version is to follow? See latest.c.
 * Such a key would come with each look, and 500 of them instead of all others. */
#define FOLLOWUPS_STAYS                                                                                      \
    "EXISTS (SELECT 1 FROM {tasks} t WHERE {same_key} AND t.state = 0 AND t.id <> (SELECT t.task_id FROM "   \
    "{followups} t {by_followed} WHERE {same_key} AND " NQ_FOLLOWUP_REPLACES(                                \
        "t") " ORDER BY t.id DESC LIMIT 1))"

/* Of each key the first one; the others are never walked over, be they 200,000. */
#define FOLLOWUPS_FIRSTS    "{followed_firsts} g CROSS JOIN {followups} f ON f.id = g.id"

#define FOLLOWUPS_RENEWS    NQ_RENEWS("f")
#define FOLLOWUPS_PLAIN_ONE "NOT " NQ_RENEWS("t")
#define FOLLOWUPS_TAGGED    NQ_TAGGED("f")
#define FOLLOWUPS_ENDED                                                                                      \
    "SELECT f.id, 0 AS first_id, CASE WHEN " FOLLOWUPS_RENEWS " OR " FOLLOWUPS_VERSION                       \
    " THEN 1 ELSE 0 END AS latest, " FOLLOWUPS_TAGGED " AS tagged FROM " FOLLOWUPS_FIRSTS                    \
    " WHERE COALESCE(" FOLLOWUPS_STATE ", 0) = 0 AND NOT " FOLLOWUPS_STAYS " ORDER BY f.id LIMIT ?"
#define FOLLOWUPS_BEHIND                                                                                     \
    "SELECT t.id, f.id AS first_id, 0 AS latest, 0 AS tagged FROM " FOLLOWUPS_FIRSTS                         \
    " CROSS JOIN {followups} t {by_followed} ON {same_key} AND t.id > f.id WHERE " FOLLOWUPS_PLAIN_ONE       \
    " LIMIT ?"
#define FOLLOWUPS_VERSIONS                                                                                   \
    "SELECT f.id, 0 AS first_id, 2 AS latest, 0 AS tagged FROM " FOLLOWUPS_FIRSTS " WHERE " FOLLOWUPS_RENEWS \
    " AND " FOLLOWUPS_STATE " = 1 AND " FOLLOWUPS_VERSION " LIMIT ?"

/* The first ones whose key no running task has, and some that have an earlier one of their key; all of them
 * committed. Locks nothing; one cheap statement when there are none. Those that replace or append are not
 * dropped for an earlier one; where one is the first, or a version is behind it, the key is latest.c's, of a
 * running task only if something is done with. */
static int followups_look(nq_conn *c, struct followups *f, nq_err *err)
{
    const nq_val n = nq_int((int64_t)f->limit);
    const nq_val args[] = {n, n, n};
    bool any;
    f->n = f->nlater = f->nlatest = f->nfirsts = f->made = 0;
    f->more = false;
    int rc = followups_exist(c, &any, err);
    if (rc == NQ_OK)
        nq_store_followed_saw(c->store, any);
    if (rc == NQ_OK && any)
        rc = nq_sql_once(c,
                         "SELECT * FROM (" FOLLOWUPS_ENDED ") a UNION ALL SELECT * FROM (" FOLLOWUPS_BEHIND
                         ") b UNION ALL SELECT * FROM (" FOLLOWUPS_VERSIONS ") c",
                         args, 3, followups_add, f, err);
    f->more = f->n == f->limit;
    if (rc != NQ_OK || f->n == 0 || !c->store->driver->row_locks)
        return rc;
    return nq_look_dirty(c, followups_look_taken, f, err);
}

/* The state of the key's live task as it is now, of all or of one. */
static int followups_states(nq_conn *c, struct followups *f, const struct followups_one *only, nq_err *err)
{
    const nq_val id = nq_int(only ? only->id : 0);
    if (only)
        return nq_sql(c, "SELECT f.id, " FOLLOWUPS_STATE " FROM {followups} f WHERE f.id = ?", &id, 1,
                      followups_state, f, NULL, err);
    return followups_in(c, f, "SELECT f.id, " FOLLOWUPS_STATE " FROM {followups} f WHERE f.id IN ", "",
                        followups_state, err);
}

/* Make a task; where another one with the key is there meanwhile, one of ours included, read its state. */
static int followups_make(nq_conn *c, struct followups *f, struct followups_one *one, bool *made, nq_err *err)
{
    nq_buf sql = {0};
    nq_err why = {0};
    nq_followup_insert(c->store, &sql, one->id);
    nq_exec_result res = {0};
    const nq_place place = {c->store, c, NQ_OWN_TX};
    int rc = sql.failed ? nq_err_nomem(&why) : nq_sql(c, sql.p, NULL, 0, NULL, NULL, &res, &why);
    if (rc == NQ_OK)
        rc = nq_tags_renew(&place, res.insert_id, false, one->tagged, &why);
    nq_buf_free(&sql);
    *made = rc == NQ_OK;
    if (rc == NQ_EDUPLICATE) {
        f->more = true;
        return followups_states(c, f, one, err);
    }
    if (nq_row_refused(rc)) { /* it must not stop the others */
        char text[sizeof why.message + 32];
        snprintf(text, sizeof text, "cannot become a task: %s", why.message);
        rc = nq_bury_followup(c, one->id, text, &why);
        one->buried = rc == NQ_OK;
    }
    if (rc != NQ_OK && err)
        *err = why;
    return rc;
}

/* The *n-th of those that followups_delete is to delete. */
static void followups_goes(const nq_conn *c, struct followups *f, size_t *n, nq_id id)
{
    nq_buf_str(&f->gone, (*n)++ ? "" : "{delete_by_key} {followups} WHERE id IN (");
    nq_sql_list_id(c->store, &f->gone, id);
}

static int followups_delete(nq_conn *c, struct followups *f, size_t n, nq_err *err)
{
    if (n == 0)
        return NQ_OK;
    nq_buf_fmt(&f->gone, ") {at_most:%zu}", n);
    return f->gone.failed ? nq_err_nomem(err) : nq_sql(c, f->gone.p, NULL, 0, NULL, NULL, NULL, err);
}

static int followups_decide(nq_conn *c, struct followups *f, nq_err *err)
{
    size_t ngone = 0;
    nq_buf_clear(&f->gone);
    int rc = followups_in(c, f, "SELECT f.id FROM {followups} f WHERE f.id IN ", " {lock_free}",
                          followups_locked, err);
    if (rc == NQ_OK)
        rc = followups_states(c, f, NULL, err);
    for (size_t i = 0; i < f->n && rc == NQ_OK; i++) {
        struct followups_one *one = &f->all[i];
        bool made = false;
        if (!one->locked) { /* gone, or another promoter is at it */
            f->more = true;
            continue;
        }
        if (one->state < 0 && !one->taken)
            rc = followups_make(c, f, one, &made, err);
        f->made += made;
        if (!made && !one->buried && one->state != 0)
            continue;
        followups_goes(c, f, &ngone, one->id);
    }
    return rc != NQ_OK ? rc : followups_delete(c, f, ngone, err);
}

/* ---- Those that an earlier one stands for ---- */

static int followups_later_locked(const nq_val cols[], size_t ncols, void *arg)
{
    struct followups *f = arg;
    (void)ncols;
    for (size_t i = 0; i < f->nlater; i++) {
        f->later[i].locked = f->later[i].locked || f->later[i].id == cols[0].i;
        f->later[i].first_locked = f->later[i].first_locked || f->later[i].first == cols[0].i;
    }
    return 0;
}

/* Lock what is free of them, and of the first ones. */
static int followups_later_lock(nq_conn *c, struct followups *f, nq_err *err)
{
    nq_buf_clear(&f->sql);
    nq_buf_str(&f->sql, "SELECT f.id FROM {followups} f WHERE f.id IN (");
    for (size_t i = 0; i < f->nlater; i++) {
        nq_sql_list_id(c->store, &f->sql, f->later[i].id);
        if (i == 0 || f->later[i].first != f->later[i - 1].first)
            nq_sql_list_id(c->store, &f->sql, f->later[i].first);
    }
    nq_buf_str(&f->sql, ") {lock_free}");
    return f->sql.failed ? nq_err_nomem(err)
                         : nq_sql(c, f->sql.p, NULL, 0, followups_later_locked, f, NULL, err);
}

static int followups_later_drop(nq_conn *c, struct followups *f, nq_err *err)
{
    size_t n = 0;
    int rc = followups_later_lock(c, f, err);
    nq_buf_clear(&f->gone);
    for (size_t i = 0; i < f->nlater && rc == NQ_OK; i++)
        if (f->later[i].locked && f->later[i].first_locked)
            followups_goes(c, f, &n, f->later[i].id);
    f->more = f->more || (rc == NQ_OK && n > 0 && f->nlater == f->limit);
    return rc != NQ_OK ? rc : followups_delete(c, f, n, err);
}

/* ---- One transaction ---- */

/* A call that fails has changed nothing. First those that others stand for, while these are there. */
static int followups_change(nq_conn *c, struct followups *f, nq_err *err)
{
    int rc = f->nlater ? followups_later_drop(c, f, err) : NQ_OK;
    return rc != NQ_OK || f->n == 0 ? rc : followups_decide(c, f, err);
}

/* nq_tx_fn for nq_store_do: the look is no part of the transaction, but has to be repeated with it. */
static int followups_promote(nq_conn *c, void *arg, nq_err *err)
{
    struct followups *f = arg;
    int rc = followups_look(c, f, err);
    if (rc != NQ_OK || f->n + f->nlater == 0)
        return rc;
    if ((rc = c->store->driver->begin(c, err)) != NQ_OK)
        return rc;
    return nq_conn_end(c, followups_change(c, f, err), err);
}

/* ---- For claims ---- */

/* Who has seen some has more of them soon; who has none pays nothing. */
#define FOLLOWUPS_KNOWN_US NQ_SECONDS(60)

NQ_PLUG_IN bool nq_store_followed(const nq_store *s)
{
    const int64_t until = atomic_load(&s->followed_us);
    return until == 0 || until > nq_mono_us();
}

NQ_PLUG_IN void nq_store_followed_saw(nq_store *s, bool some)
{
    int64_t unknown = 0;
    if (some)
        atomic_store(&s->followed_us, nq_mono_us() + FOLLOWUPS_KNOWN_US);
    else
        atomic_compare_exchange_strong(&s->followed_us, &unknown, 1);
}

NQ_PRIVATE int nq_followups_claimed(nq_conn *c, const nq_claimed *list, nq_err *err)
{
    bool any;
    int rc = followups_exist(c, &any, err);
    for (; list && any && rc == NQ_OK; list = list->next) {
        const nq_val id = nq_int(list->task.id);
        rc = nq_sql(c,
                    "DELETE FROM {followups} WHERE id IN (SELECT f.id FROM {tasks} t CROSS JOIN "
                    "{followups} f ON {same_key} WHERE t.id = ? AND NOT " NQ_RENEWS("f") ")",
                    &id, 1, NULL, NULL, NULL, err);
    }
    return rc;
}

/* ---- The whole call ---- */

NQ_PRIVATE int nq_store_promote(nq_store *s, size_t limit, size_t *n, bool *more, nq_err *err)
{
    struct followups f = {.limit = limit ? limit : 1};
    int rc;
    f.all = calloc(f.limit, sizeof *f.all);
    f.later = calloc(f.limit, sizeof *f.later);
    f.latest = calloc(f.limit, sizeof *f.latest);
    rc = f.all && f.later && f.latest ? nq_store_do(s, followups_promote, &f, err) : nq_err_nomem(err);
    for (size_t i = 0; i < f.nlatest && rc == NQ_OK; i++)
        rc = nq_store_promote_latest(s, f.latest[i], &f.made, &f.more, err);
    if (rc == NQ_OK) {
        *n = f.made;
        *more = f.more || (f.nfirsts >= f.limit && f.made > 0);
    }
    free(f.all);
    free(f.later);
    free(f.latest);
    nq_buf_free(&f.sql);
    nq_buf_free(&f.gone);
    return rc;
}
