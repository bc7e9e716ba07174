/* SPDX-License-Identifier: MIT */
/* Tasks of a paused or limited type are set apart: moved, once in their life, from their queue to a group. */
#include <stdio.h>

#include "apart.h"

/*
 * A type of the queue "mail" that is paused or limited has a row in {queues} whose name is a group,
 * "mail//:pdf". Tasks of that type are moved into it by the claimers that meet them at the head of the queue
 * or of one of its groups, and are a group like any other from then on. A group that they had goes into their
 * header nq-group.
 *
 * A pause or a limit rests on something else: claims are told which types a turn must not take. Moving only
 * makes it cheap, so it is a transaction of its own before the claim's, and has no part in its locks.
 *
 * While most of what is met is to be moved, claims look further ahead for other tasks, with a cursor for each
 * priority: a task behind a million of paused ones starts while they are still being moved.
 */
#define APART_SCAN     ((size_t)2000)
#define APART_MIN_SCAN ((size_t)64)
#define APART_AHEAD    20000       /* tasks that one statement of a look ahead passes by, */
#define APART_AHEAD_US NQ_MS(100)  /* and there are more of them for so long */
#define APART_LEVELS   8           /* priorities with a cursor */
#define APART_FRESH_US NQ_MS(1000) /* what came in behind a look is met after this */

/* A place in the order of a queue's tasks of one priority: behind this one. */
struct apart_at {
    int priority;
    int64_t run_at;
    nq_id id;
};

/* A task that is to be moved. */
struct apart_found {
    nq_id id;
    size_t turn, row; /* from where, and by which row */
    int64_t run_at;
};

struct nq_apart {
    nq_store *store;
    char queue[NQ_MAX_QUEUE + 1];
    bool alone; /* it is a group itself: nothing is moved out of it, or its workers would never get it back */
    const char *const *own; /* what the claimer takes; NULL: any */
    size_t nown;
    const nq_setting *rows[NQ_SETTINGS_TYPES];
    size_t nrows;
    const char **types, **groups; /* of nq_claim_args, */
    size_t ntypes;                /* so many */
    size_t scan;                  /* to look at in one go */
    bool did;
    struct apart_at at; /* the last look at the queue itself ended here */
    int64_t at_us;      /* then; 0: it has no end */
    struct apart_at ahead[APART_LEVELS];
    size_t nahead;
    struct apart_found *found;
    size_t nfound, cap;
    nq_buf sql, ids;
};

NQ_PRIVATE int nq_apart_new(nq_apart **out, nq_store *s, const char *queue, const char *const types[],
                            size_t ntypes, nq_err *err)
{
    const size_t most = types && ntypes > NQ_SETTINGS_TYPES ? ntypes : NQ_SETTINGS_TYPES;
    nq_apart *a = calloc(1, sizeof *a);
    if (!a)
        return nq_err_nomem(err);
    a->store = s;
    a->own = types;
    a->nown = types ? ntypes : 0;
    a->alone = !nq_group_may_have(queue);
    memcpy(a->queue, queue, strlen(queue) + 1);
    a->types = calloc(most, sizeof *a->types);
    a->groups = calloc(most, sizeof *a->groups);
    if (!a->types || !a->groups) {
        nq_apart_free(a);
        return nq_err_nomem(err);
    }
    *out = a;
    return NQ_OK;
}

NQ_PRIVATE void nq_apart_free(nq_apart *a)
{
    if (!a)
        return;
    nq_buf_free(&a->sql);
    nq_buf_free(&a->ids);
    free(a->found);
    free(a->types);
    free(a->groups);
    free(a);
}

/* ---- What is set ---- */

/* The place of a type's row; nrows: it has none. */
static size_t apart_row(const nq_apart *a, const char *type, size_t n)
{
    size_t i = 0;
    while (i < a->nrows && (strlen(a->rows[i]->type) != n || memcmp(a->rows[i]->type, type, n) != 0))
        i++;
    return i;
}

NQ_PRIVATE void nq_apart_heed(nq_apart *a, const nq_settings *settings)
{
    size_t used = 0;
    a->ntypes = 0;
    a->nrows = settings ? nq_settings_types(settings, a->queue, a->rows, NQ_SETTINGS_TYPES) : 0;
    for (size_t i = 0; a->nrows > 0 && i < (a->own ? a->nown : a->nrows); i++) {
        const char *type = a->own ? a->own[i] : a->rows[i]->type;
        const size_t at = a->own ? apart_row(a, type, strlen(type)) : i;
        a->types[a->ntypes] = type;
        a->groups[a->ntypes++] = at < a->nrows ? a->rows[at]->name : NULL;
        used += at < a->nrows;
    }
    a->nrows = used ? a->nrows : 0;
}

NQ_PRIVATE bool nq_apart_some(const nq_apart *a)
{
    return a->nrows > 0;
}

NQ_PRIVATE bool nq_apart_did(const nq_apart *a)
{
    return a->did;
}

NQ_PRIVATE void nq_apart_begin(nq_apart *a, nq_claim_args *args)
{
    a->did = false;
    if (a->nrows == 0)
        return;
    args->types = a->types;
    args->ntypes = a->ntypes;
    args->groups = a->groups;
    args->others = !a->own;
    args->scan = a->alone ? 0 : APART_SCAN;
}

/* ---- Looking ---- */

/* " FROM {tasks} WHERE ... LIMIT ?" of what is due at one priority behind a place. */
static void apart_due(nq_buf *sql, nq_val args[], size_t *n, const char *queue, const struct apart_at *at,
                      size_t limit)
{
    nq_buf_str(sql,
               " FROM {tasks} {claim} WHERE queue = ? AND state = 0 AND priority = ? AND run_at <= {now}");
    args[(*n)++] = nq_text(queue);
    args[(*n)++] = nq_int(at->priority);
    if (at->run_at >= NQ_TIME_FIRST && at->id > 0) {
        nq_buf_str(sql, " AND {later_than}");
        args[(*n)++] = nq_int(at->run_at);
        args[(*n)++] = nq_int(at->run_at);
        args[(*n)++] = nq_int(at->id);
    } else if (at->run_at >= NQ_TIME_FIRST) {
        nq_buf_str(sql, " AND run_at >= {at}");
        args[(*n)++] = nq_int(at->run_at);
    }
    nq_buf_str(sql, " ORDER BY run_at, id LIMIT ?");
    args[(*n)++] = nq_int((int64_t)limit);
}
#define APART_DUE_ARGS 7

/* " {exact:type} IN (?, ?)" */
static void apart_types(const nq_apart *a, nq_buf *sql, nq_val args[], size_t *n, bool in)
{
    nq_buf_str(sql, in ? " {exact:type} IN (" : " {exact:type} NOT IN (");
    for (size_t i = 0; i < a->nrows; i++) {
        nq_buf_str(sql, i ? ", ?" : "?");
        args[(*n)++] = nq_text(a->rows[i]->type);
    }
    nq_buf_str(sql, ")");
}

static int apart_found_row(const nq_val cols[], size_t ncols, void *arg)
{
    nq_apart *a = arg;
    struct apart_found *more = nq_grow(a->found, a->nfound, &a->cap, sizeof *more);
    (void)ncols;
    if (!more)
        return NQ_ENOMEM;
    a->found = more;
    const size_t row = apart_row(a, cols[2].p, cols[2].n);
    if (row < a->nrows)
        a->found[a->nfound++] = (struct apart_found){cols[1].i, (size_t)cols[0].i, row,
                                                     cols[3].type == NQ_VAL_INT ? cols[3].i : 0};
    return 0;
}

struct apart_look {
    nq_apart *apart;
    nq_turn *turns;
    size_t n, each; /* so many of each turn are looked at */
    nq_val *args;
};

/* Where a look at a turn begins: of the queue itself where the last one ended, so that it need not step over
 * what was moved and is still in the index. */
static struct apart_at apart_begin(const nq_apart *a, const nq_turn *turn)
{
    const struct apart_at head = {turn->priority, turn->from_run_at, 0};
    const bool on = strcmp(turn->queue, a->queue) == 0 && a->at_us &&
                    nq_mono_us() - a->at_us < APART_FRESH_US && a->at.priority == turn->priority &&
                    a->at.run_at >= turn->from_run_at;
    return on ? a->at : head;
}

/* One reading of the heads of all turns, without locks: the tasks in them that are to be moved. */
static int apart_look(nq_conn *c, void *arg, nq_err *err)
{
    struct apart_look *l = arg;
    nq_apart *a = l->apart;
    size_t nargs = 0, parts = 0;
    a->nfound = 0;
    nq_buf_clear(&a->sql);
    nq_buf_str(&a->sql, "SELECT n, id, {bytes:type}, {us:run_at} FROM (");
    for (size_t i = 0; i < l->n; i++) {
        const struct apart_at at = apart_begin(a, &l->turns[i]);
        if (nq_group_is_type(l->turns[i].queue)) /* one that tasks were moved to */
            continue;
        nq_buf_fmt(&a->sql, "%sSELECT * FROM (SELECT %zu AS n, id, type, run_at",
                   parts++ ? " UNION ALL " : "", i);
        apart_due(&a->sql, l->args, &nargs, l->turns[i].queue, &at, l->each);
        nq_buf_fmt(&a->sql, ") t%zu", i);
        if (l->turns[i].ordered) { /* its next task may be behind all that is looked at */
            nq_buf_fmt(&a->sql,
                       " UNION ALL SELECT %zu AS n, t.id, t.type, t.run_at FROM {gates} g CROSS JOIN {tasks} "
                       "t ON t.id = g.head AND t.queue = g.queue AND t.state = 0 WHERE g.queue = ?",
                       i);
            l->args[nargs++] = nq_text(l->turns[i].queue);
        }
    }
    nq_buf_str(&a->sql, ") heads WHERE");
    apart_types(a, &a->sql, l->args, &nargs, true);
    if (a->sql.failed)
        return nq_err_nomem(err);
    return parts ? nq_sql(c, a->sql.p, l->args, nargs, apart_found_row, a, NULL, err) : NQ_OK;
}

/* ---- Moving ---- */

static int apart_compare(const void *x, const void *y)
{
    const struct apart_found *a = x, *b = y;
    const size_t of = a->turn * NQ_SETTINGS_TYPES + a->row, other = b->turn * NQ_SETTINGS_TYPES + b->row;
    return of != other ? (of > other ? 1 : -1) : (a->id > b->id) - (a->id < b->id);
}

struct apart_ids {
    const nq_store *store;
    nq_buf *out;
    nq_id first, last;
    size_t n;
};

/* " OR id BETWEEN 3 AND 7", of the run that ends here. */
static void apart_ids_end(struct apart_ids *ids)
{
    if (ids->n == 0)
        return;
    nq_buf_str(ids->out, ids->out->n ? " OR id " : "id ");
    nq_buf_str(ids->out, ids->first == ids->last ? "= " : "BETWEEN ");
    nq_sql_id(ids->store, ids->out, ids->first);
    if (ids->first != ids->last) {
        nq_buf_str(ids->out, " AND ");
        nq_sql_id(ids->store, ids->out, ids->last);
    }
    ids->n = 0;
}

static void apart_ids_add(struct apart_ids *ids, nq_id id)
{
    if (ids->n > 0 && id != ids->last + 1)
        apart_ids_end(ids);
    if (ids->n++ == 0)
        ids->first = id;
    ids->last = id;
}

static int apart_ids_row(const nq_val cols[], size_t ncols, void *arg)
{
    (void)ncols;
    apart_ids_add(arg, cols[0].i);
    return 0;
}

/* The group of a name becomes a header, unless it has a text already. Where there is no room for one the
 * group is not known any more. */
#define APART_HEADERS                                                                                        \
    ", headers = CASE WHEN COALESCE({size:headers}, 0) > ? OR (? AND COALESCE({bytes:headers}, '') LIKE "    \
    "'%nq-group: %') THEN headers ELSE {with_header} END"

/* Those of one turn and one row. Rows that somebody else has locked are his to move. */
static int apart_move_some(nq_conn *c, nq_apart *a, const struct apart_found *found, size_t n,
                           const char *from, nq_err *err)
{
    const nq_val of = nq_text(from);
    const size_t base = nq_queue_base(from);
    struct apart_ids ids = {.store = a->store, .out = &a->ids};
    nq_exec_result res = {0};
    nq_val args[5];
    char header[NQ_MAX_QUEUE + 16];
    size_t nargs = 0;
    nq_buf_clear(&a->ids);
    for (size_t i = 0; i < n; i++)
        apart_ids_add(&ids, found[i].id);
    apart_ids_end(&ids);
    if (a->store->driver->row_locks) {
        nq_buf_clear(&a->sql);
        nq_buf_fmt(&a->sql,
                   "SELECT id FROM {tasks} {by_id} WHERE (%s) AND queue = ? AND state = 0 ORDER BY id "
                   "{lock_free}",
                   a->ids.failed ? "" : a->ids.p);
        nq_buf_clear(&a->ids);
        if (a->sql.failed || a->ids.failed)
            return nq_err_nomem(err);
        const int rc = nq_sql(c, a->sql.p, &of, 1, apart_ids_row, &ids, NULL, err);
        apart_ids_end(&ids);
        if (rc != NQ_OK || a->ids.n == 0)
            return rc;
    }
    args[nargs++] = nq_text(a->rows[found->row]->name);
    if (from[base]) {
        snprintf(header, sizeof header, "nq-group: %s\n", from + base + 2);
        args[nargs++] = nq_int((int64_t)(NQ_MAX_HEADERS_SIZE - strlen(header)));
        args[nargs++] = nq_int(from[base + 2] == '.');
        args[nargs++] = nq_text(header);
    }
    args[nargs++] = of;
    nq_buf_clear(&a->sql);
    nq_buf_fmt(&a->sql, "UPDATE {tasks} {by_id} SET queue = ?%s WHERE (%s) AND queue = ? AND state = 0",
               from[base] ? APART_HEADERS : "", a->ids.failed ? "" : a->ids.p);
    if (a->sql.failed || a->ids.failed)
        return nq_err_nomem(err);
    const int rc = nq_sql(c, a->sql.p, args, nargs, NULL, NULL, &res, err);
    a->did = a->did || res.affected > 0;
    return rc;
}

static int apart_move(nq_conn *c, void *arg, nq_err *err)
{
    const struct apart_look *l = arg;
    nq_apart *a = l->apart;
    int rc = NQ_OK;
    for (size_t i = 0, end; i < a->nfound && rc == NQ_OK; i = end) {
        const struct apart_found *first = &a->found[i];
        for (end = i + 1; end < a->nfound; end++)
            if (a->found[end].turn != first->turn || a->found[end].row != first->row)
                break;
        rc = apart_move_some(c, a, first, end - i, l->turns[first->turn].queue, err);
    }
    return rc;
}

/* ---- Ahead ---- */

struct apart_ahead {
    nq_apart *apart;
    nq_turn *turn;
    bool found, more; /* more: none was found, but there are tasks behind those */
    struct apart_at at;
    nq_val *args;
};

static int apart_ahead_row(const nq_val cols[], size_t ncols, void *arg)
{
    struct apart_ahead *l = arg;
    (void)ncols;
    l->found = true;
    l->at.run_at = cols[0].i;
    l->at.id = cols[1].i;
    return 0;
}

static int apart_ask(nq_conn *c, struct apart_ahead *l, size_t n, nq_err *err)
{
    const nq_buf *sql = &l->apart->sql;
    return sql->failed ? nq_err_nomem(err) : nq_sql(c, sql->p, l->args, n, apart_ahead_row, l, NULL, err);
}

static struct apart_at *apart_cursor(nq_apart *a, const nq_level *level)
{
    size_t i = 0;
    while (i < a->nahead && a->ahead[i].priority != level->priority)
        i++;
    if (i == APART_LEVELS)
        return NULL;
    if (i == a->nahead)
        a->ahead[a->nahead++] = (struct apart_at){level->priority, level->first_run_at, 0};
    return &a->ahead[i];
}

/* Move the cursor of one priority on to the first task that may be claimed, or over many that may not. */
static int apart_ahead_level(nq_conn *c, struct apart_ahead *l, struct apart_at *cursor, nq_err *err)
{
    nq_apart *a = l->apart;
    size_t n = 0;
    nq_buf_clear(&a->sql);
    nq_buf_str(&a->sql, "SELECT {us:run_at}, id FROM (SELECT id, type, run_at");
    apart_due(&a->sql, l->args, &n, a->queue, cursor, APART_AHEAD);
    nq_buf_str(&a->sql, ") t WHERE");
    apart_types(a, &a->sql, l->args, &n, false);
    nq_buf_str(&a->sql, " ORDER BY run_at, id LIMIT 1");
    l->found = l->more = false;
    l->at = *cursor;
    int rc = apart_ask(c, l, n, err);
    if (rc != NQ_OK)
        return rc;
    if (l->found) {
        *cursor = l->at;
        cursor->id -= cursor->id > 0; /* it is the first one behind */
        return NQ_OK;
    }
    n = 0;
    nq_buf_clear(&a->sql);
    nq_buf_str(&a->sql, "SELECT {us:run_at}, id FROM (SELECT id, run_at");
    apart_due(&a->sql, l->args, &n, a->queue, cursor, APART_AHEAD);
    nq_buf_str(&a->sql, ") t ORDER BY run_at DESC, id DESC LIMIT 1");
    rc = apart_ask(c, l, n, err);
    *cursor = l->at;
    l->more = l->found;
    l->found = false;
    return rc;
}

/* The priorities in their order: the turn is of the first where there is something. */
static int apart_ahead(nq_conn *c, void *arg, nq_err *err)
{
    struct apart_ahead *l = arg;
    nq_apart *a = l->apart;
    nq_level levels[NQ_MAX_PRIORITY - NQ_MIN_PRIORITY + 1];
    nq_look look = {.levels = levels, .max = sizeof levels / sizeof *levels};
    const int64_t until = nq_mono_us() + APART_AHEAD_US;
    int rc = c->store->driver->levels(c, a->queue, &look, err);
    for (size_t i = 0; i < look.n && rc == NQ_OK && !l->found; i++) {
        struct apart_at *cursor = levels[i].first_run_at <= look.now_us ? apart_cursor(a, &levels[i]) : NULL;
        if (!cursor)
            continue;
        do
            rc = apart_ahead_level(c, l, cursor, err);
        while (rc == NQ_OK && l->more && nq_mono_us() < until);
        if (rc == NQ_OK && (l->found || levels[i].priority == l->turn->priority)) {
            l->turn->priority = cursor->priority;
            l->turn->from_run_at = cursor->run_at;
            l->turn->from_id = cursor->id;
        }
    }
    return rc;
}

/* ---- Before a claim ---- */

/* Of the queue itself: how many were found, and where the look ended. */
static size_t apart_ended(nq_apart *a, const nq_turn turns[])
{
    size_t n = 0;
    for (size_t i = 0; i < a->nfound; i++) {
        const struct apart_found *f = &a->found[i];
        if (strcmp(turns[f->turn].queue, a->queue) != 0)
            continue;
        if (n++ == 0 || f->run_at > a->at.run_at || (f->run_at == a->at.run_at && f->id > a->at.id))
            a->at = (struct apart_at){turns[f->turn].priority, f->run_at, f->id};
    }
    a->at_us = n ? nq_mono_us() : 0;
    return n;
}

NQ_PRIVATE int nq_apart_turns(nq_apart *a, nq_turn turns[], size_t n, size_t wanted, nq_err *err)
{
    const size_t least = wanted > APART_MIN_SCAN ? wanted < APART_SCAN ? wanted : APART_SCAN : APART_MIN_SCAN;
    struct apart_look look = {.apart = a, .turns = turns, .n = n};
    if (a->nrows == 0 || a->alone || n == 0)
        return NQ_OK;
    a->scan = a->scan > least ? a->scan : least;
    look.each = a->scan / n > 8 ? a->scan / n : 8;
    look.args = calloc(APART_DUE_ARGS * (n + 2) + a->nrows, sizeof *look.args);
    if (!look.args)
        return nq_err_nomem(err);
    int rc = nq_store_do(a->store, apart_look, &look, err);
    if (rc == NQ_OK && a->nfound > 0) {
        qsort(a->found, a->nfound, sizeof *a->found, apart_compare);
        rc = nq_store_tx(a->store, apart_move, &look, err);
    }
    if (rc == NQ_OK) {
        const bool most = 2 * a->nfound > look.each * n, own = 2 * apart_ended(a, turns) > look.each;
        a->scan = !most && !own ? 0 : a->scan < APART_SCAN / 4 ? 4 * a->scan : APART_SCAN;
        a->nahead = own ? a->nahead : 0;
        for (size_t i = 0; i < n && own && rc == NQ_OK; i++) {
            struct apart_ahead ahead = {.apart = a, .turn = &turns[i], .args = look.args};
            if (strcmp(turns[i].queue, a->queue) == 0)
                rc = nq_store_do(a->store, apart_ahead, &ahead, err);
        }
    }
    free(look.args);
    return rc;
}
