/* SPDX-License-Identifier: MIT */
/* Showing tasks: one, or a list. */
#include <stdio.h>

#include "api.h"

#define LIST_PREVIEW   "256" /* bytes of a payload in a list */
#define LIST_LIMIT     100
#define LIST_MAX_LIMIT 10000

/* ---- Rows ---- */

/* The columns of nq_info: those that every task shows, the payload and the state; then, of a live one from
 * the joins and of an ended one, what they have besides. Their places are LIST_AT_... */
#define LIST_COMMON(payload)                                                                                 \
    "t.state AS state, " payload " AS payload, LENGTH({bytes:t.payload}) AS size" NQ_COLUMNS(LIST_COLUMN) ", "
#define LIST_COLUMN(column, kind, ...) NQ_IF_READ_##kind(", " NQ_SQL_##kind(column) " AS " #column)
#define LIST_AT(column, kind, ...)     NQ_IF_READ_##kind(LIST_AT_##column, )
enum list_at {
    LIST_AT_STATE,
    LIST_AT_PAYLOAD,
    LIST_AT_SIZE,
    NQ_COLUMNS(LIST_AT) /* and of the joins: */
    LIST_AT_WORKER,
    LIST_AT_CLAIMED,
    LIST_AT_ENDED,
    LIST_AT_CANCELLING,
    LIST_AT_DONE,
    LIST_AT_TOTAL,
    LIST_AT_NOTE,
    LIST_AT_TOLD
};
#define LIST_LIVE                                                                                            \
    "{bytes:p.name} AS worker, CASE t.state WHEN 1 THEN {us:t.claimed_at} ELSE 0 END AS claimed, "           \
    "0 AS ended, CASE WHEN x.task_id IS NULL THEN 0 ELSE 1 END AS cancelling, "                              \
    "o.done AS done, o.total AS total, {bytes:o.note} AS note, {us:o.told_at} AS told "
#define LIST_LIVE_JOINS                                                                                      \
    "LEFT JOIN {workers} p ON p.id = (t.lease >> 36) AND t.state = 1 "                                       \
    "LEFT JOIN {cancels} x ON x.task_id = t.id AND x.lease = t.lease AND t.state = 1 "                       \
    "LEFT JOIN {progress} o ON o.task_id = t.id AND o.lease = t.lease AND t.state = 1 "
#define LIST_ENDED                                                                                           \
    "NULL AS worker, 0 AS claimed, {us:t.finished_at} AS ended, 0 AS cancelling, 0 AS done, 0 AS total, "    \
    "NULL AS note, 0 AS told "
#define LIST_CUT "SUBSTR({bytes:t.payload}, 1, " LIST_PREVIEW ")"

/* A task as its row was read, with the texts behind it: callbacks come when the connection is free again. */
struct list_row {
    nq_info info;
    _Alignas(max_align_t) char text[];
};

struct list_rows {
    struct list_row **all;
    size_t n, cap;
    bool whole; /* payloads are kept whole, not their beginnings */
};

static void list_rows_clear(struct list_rows *rows)
{
    for (size_t i = 0; i < rows->n; i++)
        free(rows->all[i]);
    rows->n = 0;
}

static void list_rows_free(struct list_rows *rows)
{
    list_rows_clear(rows);
    free(rows->all);
}

static bool list_grow(struct list_rows *rows)
{
    if (rows->n < rows->cap)
        return true;
    const size_t cap = rows->cap ? 2 * rows->cap : 16;
    struct list_row **more = realloc(rows->all, cap * sizeof *more);
    if (!more)
        return false;
    rows->all = more;
    rows->cap = cap;
    return true;
}

static const char *list_text(char **at, const nq_val *v)
{
    char *start = *at;
    if (v->type == NQ_VAL_TEXT || v->type == NQ_VAL_BLOB) {
        if (v->n)
            memcpy(start, v->p, v->n);
        *at += v->n;
    }
    *(*at)++ = '\0';
    return start;
}

#define LIST_ID(v)                   (v).i
#define LIST_INT(v)                  (int)(v).i
#define LIST_COUNT(v)                (unsigned)(v).i
#define LIST_ATTEMPTS(v)             (unsigned)(v).i
#define LIST_MS(v)                   nq_us_of_ms((v).i)
#define LIST_TIME(v)                 (v).i
#define LIST_NAME(v)                 list_text(&at, &(v))
#define LIST_TEXT(v)                 list_text(&at, &(v))
#define LIST_HEADERS(v)              NULL /* in their own way */
#define LIST_SIZE(column, kind, ...) NQ_IF_BYTES_##kind(+cols[LIST_AT_##column].n + 1)
#define LIST_SET(column, kind, goes, unsaid, of_task, field)                                                 \
    NQ_IF_READ_##kind(row->info.field = LIST_##kind(cols[LIST_AT_##column]);)

static int list_take(const nq_val cols[], size_t ncols, void *arg)
{
    struct list_rows *rows = arg;
    const nq_val *payload = &cols[LIST_AT_PAYLOAD], *size = &cols[LIST_AT_SIZE];
    const nq_val *text = &cols[LIST_AT_headers];
    const size_t headers = text->n ? nq_headers_room(text->p, text->n) : 0;
    const size_t n =
        headers + payload->n + cols[LIST_AT_WORKER].n + cols[LIST_AT_NOTE].n + 3 NQ_COLUMNS(LIST_SIZE);
    struct list_row *row = list_grow(rows) ? malloc(sizeof *row + n) : NULL;
    (void)ncols;
    if (!row)
        return NQ_ENOMEM;
    nq_headers read = {0};
    char *at = row->text;
    if (headers) /* first: there it is aligned */
        at = nq_headers_read(&read, at, text->p, text->n);
    row->info = (nq_info){
        .state = (int)cols[LIST_AT_STATE].i,
        .payload = list_text(&at, payload),
        .payload_size = rows->whole || size->i < (int64_t)payload->n ? payload->n : (size_t)size->i,
        .worker = list_text(&at, &cols[LIST_AT_WORKER]),
        .claimed_at_us = cols[LIST_AT_CLAIMED].i,
        .finished_at_us = cols[LIST_AT_ENDED].i,
        .cancelling = cols[LIST_AT_CANCELLING].i != 0,
        .progress_done = cols[LIST_AT_DONE].i,
        .progress_total = cols[LIST_AT_TOTAL].i,
        .progress_note = list_text(&at, &cols[LIST_AT_NOTE]),
        .progress_at_us = cols[LIST_AT_TOLD].i,
    };
    NQ_COLUMNS(LIST_SET)
    const char *group = nq_group_shown(nq_group_split((char *)(uintptr_t)row->info.queue), read.group);
    row->info.group = group ? group : "";
    row->info.headers = read.all;
    row->info.nheaders = read.n;
    row->info.expires_at_us = read.expires_at_us;
    row->info.dead_id = read.dead_id;
    row->info.schedule = read.schedule ? read.schedule : "";
    row->info.due_at_us = read.due_at_us;
    row->info.tags = read.tags;
    row->info.ntags = read.ntags;
    rows->all[rows->n++] = row;
    return 0;
}

/* Hand them out, from the last one on when they were read backwards. */
static void list_show(const struct list_rows *rows, bool backwards, nq_info_fn fn, void *udata)
{
    for (size_t i = 0; i < rows->n; i++)
        if (fn(&rows->all[backwards ? rows->n - 1 - i : i]->info, udata))
            return;
}

/* ---- List ---- */

struct list {
    struct list_rows rows;
    nq_list_options opts;
    nq_where where;
    nq_find find;
};

/* Repeatable. */
static int list_run(nq_conn *c, void *arg, nq_err *err)
{
    struct list *l = arg;
    list_rows_clear(&l->rows);
    return nq_find_page(c, &l->find, err);
}

static int list_check(nq_list_options *o, nq_info_fn fn, nq_err *err)
{
    if (!fn)
        return nq_err_set(err, NQ_EINVAL, "no function to list with was given");
    if (o->order != NQ_OLDEST_FIRST && o->order != NQ_NEWEST_FIRST)
        return nq_err_set(err, NQ_EINVAL, "order is %d, must be NQ_OLDEST_FIRST or NQ_NEWEST_FIRST",
                          o->order);
    if (o->after < 0 || o->before < 0)
        return nq_err_set(err, NQ_EINVAL, "%s is %lld: ids are positive, 0 is none",
                          o->after < 0 ? "after" : "before",
                          (long long)(o->after < 0 ? o->after : o->before));
    if (o->limit > LIST_MAX_LIMIT)
        return nq_err_set(err, NQ_EINVAL, "limit is %u, must be at most %d", o->limit, LIST_MAX_LIMIT);
    if (o->filter && (o->nqueues || o->ntypes || o->states || o->group))
        return nq_err_set(err, NQ_EINVAL, "a filter is given, and %s apart from it: give it in the filter",
                          o->nqueues  ? "queues"
                          : o->ntypes ? "types"
                          : o->states ? "states"
                                      : "group");
    if (o->bounds && o->bounds->size < sizeof *o->bounds)
        return nq_err_set(err, NQ_EINVAL, "bounds.size is %zu: set it to sizeof(nq_bounds)", o->bounds->size);
    if (!o->limit)
        o->limit = LIST_LIMIT;
    return NQ_OK;
}

/* The filter, or what the other options say as one. */
static int list_where(struct list *l, nq_err *err)
{
    const nq_list_options *o = &l->opts;
    const nq_filter f = {.size = sizeof f,
                         .queues = o->queues,
                         .nqueues = o->nqueues,
                         .groups = &o->group,
                         .ngroups = o->group ? 1 : 0,
                         .types = o->types,
                         .ntypes = o->ntypes,
                         .states = o->states};
    const int rc = nq_where_init(&l->where, o->filter ? o->filter : &f, !!o->filter, err);
    l->where.f.groups = NULL; /* it is in the names of the queues */
    return rc;
}

static void list_tell_bounds(const struct list *l)
{
    nq_bounds *b = l->opts.bounds;
    if (!b)
        return;
    b->bounded = l->find.bounded;
    b->reached = l->find.bounded ? l->find.reached : 0;
}

NQ_API int nq_list(nq *q, const nq_list_options *opts, nq_info_fn fn, void *udata, nq_err *err)
{
    static const nq_find_columns columns = {LIST_COMMON(LIST_CUT) LIST_LIVE, LIST_LIVE_JOINS,
                                            LIST_COMMON(LIST_CUT) LIST_ENDED, LIST_AT_id};
    struct list l = {0};
    int rc;
    if ((rc = nq_usable(q, err)) < 0 ||
        (rc = nq_options_copy(&l.opts, sizeof l.opts, opts, "nq_list_options", err)) < 0 ||
        (rc = list_check(&l.opts, fn, err)) < 0 || (rc = list_where(&l, err)) < 0)
        return rc;
    const nq_list_options *o = &l.opts;
    const bool newest = o->order == NQ_NEWEST_FIRST;
    /* Before an id alone: those nearest to it, so from there on backwards. */
    const bool backwards = o->before && !o->after;
    l.find = (nq_find){.where = &l.where,
                       .above = newest ? o->before : o->after,
                       .below = newest ? o->after : o->before,
                       .falling = newest != backwards,
                       .limit = o->limit,
                       .look = o->look,
                       .columns = &columns,
                       .row = list_take,
                       .arg = &l.rows};
    rc = nq_ready(q, err);
    if (rc == NQ_OK)
        rc = nq_store_do(nq_store_of(q), list_run, &l, err);
    if (rc == NQ_ENOMEM)
        nq_err_nomem(err); /* a row's own answer has no text yet */
    if (rc == NQ_OK) {
        list_tell_bounds(&l);
        list_show(&l.rows, backwards, fn, udata);
    }
    list_rows_free(&l.rows);
    nq_where_free(&l.where);
    return rc;
}

/* ---- Get ---- */

struct list_get {
    struct list_rows rows;
    nq_id id;
    nq_result result;
};

static int list_get_run(nq_conn *c, void *arg, nq_err *err)
{
    struct list_get *g = arg;
    const nq_val id = nq_int(g->id);
    int rc = NQ_OK;
    list_rows_clear(&g->rows);
    /* Twice: a task may move from one table to the other between two looks. */
    for (int i = 0; i < 2 && rc == NQ_OK && !g->rows.n; i++) {
        rc = nq_sql(c,
                    "SELECT " LIST_COMMON("{bytes:t.payload}") LIST_LIVE "FROM {tasks} t " LIST_LIVE_JOINS
                                                                         "WHERE t.id = ?",
                    &id, 1, list_take, &g->rows, NULL, err);
        if (rc == NQ_OK && !g->rows.n)
            rc = nq_sql(
                c, "SELECT " LIST_COMMON("{bytes:t.payload}") LIST_ENDED "FROM {finished} t WHERE t.id = ?",
                &id, 1, list_take, &g->rows, NULL, err);
    }
    if (rc != NQ_OK || !g->rows.n || g->rows.all[0]->info.state != NQ_STATE_DONE)
        return rc;
    if ((rc = nq_result_read(c, g->id, &g->result, err)) != NQ_OK)
        return rc;
    nq_info *info = &g->rows.all[0]->info;
    info->result = g->result.there ? g->result.bytes.p : NULL;
    info->result_size = g->result.there ? g->result.bytes.n : 0;
    info->keep_until_us = g->result.kept ? g->result.until_us : 0;
    return NQ_OK;
}

NQ_PRIVATE int nq_absent(nq_id id, nq_err *err)
{
    return nq_err_set(err, NQ_ENOTFOUND, "there is no task %lld", (long long)id);
}

NQ_API int nq_get(nq *q, nq_id id, nq_info_fn fn, void *udata, nq_err *err)
{
    struct list_get g = {.rows = {.whole = true}, .id = id};
    int rc;
    if ((rc = nq_usable(q, err)) < 0)
        return rc;
    if (!fn)
        return nq_err_set(err, NQ_EINVAL, "no function to show with was given");
    if ((rc = nq_ready(q, err)) < 0)
        return rc;
    rc = nq_store_do(nq_store_of(q), list_get_run, &g, err);
    if (rc == NQ_ENOMEM)
        nq_err_nomem(err);
    else if (rc == NQ_OK && !g.rows.n)
        rc = nq_absent(id, err);
    else if (rc == NQ_OK)
        list_show(&g.rows, false, fn, udata);
    list_rows_free(&g.rows);
    nq_buf_free(&g.result.bytes);
    return rc;
}
