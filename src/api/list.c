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
    "g.done AS done, g.total AS total, {bytes:g.note} AS note, {us:g.told_at} AS told "
#define LIST_LIVE_JOINS                                                                                      \
    "LEFT JOIN {workers} p ON p.id = (t.lease >> 36) AND t.state = 1 "                                       \
    "LEFT JOIN {cancels} x ON x.task_id = t.id AND x.lease = t.lease AND t.state = 1 "                       \
    "LEFT JOIN {progress} g ON g.task_id = t.id AND g.lease = t.lease AND t.state = 1 "
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

/* Between which names the groups of a queue are. */
struct list_range {
    char from[NQ_MAX_QUEUE + 4], to[NQ_MAX_QUEUE + 4];
    char name[NQ_MAX_QUEUE + 1]; /* of the queue, or of its group of that text */
    char header[2 * NQ_MAX_TYPE];
};

struct list {
    struct list_rows rows;
    nq_list_options opts;
    bool falling;   /* read from the highest id down */
    bool backwards; /* and so against the order that was asked for */
    nq_buf sql;
    struct list_range *ranges; /* one for each queue */
    nq_val *args;
    size_t nargs;
};

static void list_arg(struct list *l, nq_val v)
{
    l->args[l->nargs++] = v;
}

/* " AND COLUMN IN (?, ?)"; nothing for no names. */
static void list_among(struct list *l, const char *column, const char *const names[], size_t n)
{
    for (size_t i = 0; i < n; i++) {
        nq_buf_str(&l->sql, i ? ", ?" : " AND ");
        nq_buf_str(&l->sql, i ? "" : column);
        nq_buf_str(&l->sql, i ? "" : " IN (?");
        list_arg(l, nq_text(names[i]));
    }
    nq_buf_str(&l->sql, n ? ")" : "");
}

/* Of a group: those too that were set apart by their type, and whose header tells the group. */
static void list_group(struct list *l, struct list_range *range)
{
    const char *const name = range->name, *const text = l->opts.group;
    const int base = (int)nq_group_base(name);
    snprintf(range->from, sizeof range->from, "%.*s//:", base, name);
    snprintf(range->to, sizeof range->to, "%.*s//;", base, name);
    snprintf(range->header, sizeof range->header, "\nnq-group: %s\n", text ? text : name + base + 2);
    nq_buf_str(&l->sql, " OR (i.queue > ? AND i.queue < ? AND INSTR({lines:i.headers}, ?) > 0)");
    list_arg(l, nq_text(range->from));
    list_arg(l, nq_text(range->to));
    list_arg(l, nq_text(range->header));
}

/* Of these queues with their groups: the range from "mail//" to "mail/0", the next byte after '/'. */
static void list_queues(struct list *l, const char *const names[], size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct list_range *range = &l->ranges[i];
        /* what list_check found to be good */
        if (!l->opts.group || nq_group_name(range->name, names[i], l->opts.group, NULL) != NQ_OK)
            snprintf(range->name, sizeof range->name, "%s", names[i]);
        const bool grouped = range->name[nq_group_base(range->name)] != '\0';
        nq_buf_str(&l->sql, i ? " OR i.queue = ?" : " AND (i.queue = ?");
        list_arg(l, nq_text(range->name));
        if (grouped && !nq_group_is_type(range->name))
            list_group(l, range);
        if (!nq_group_may_have(range->name))
            continue;
        nq_buf_str(&l->sql, " OR (i.queue > ? AND i.queue < ?)");
        snprintf(range->from, sizeof range->from, "%s//", names[i]);
        snprintf(range->to, sizeof range->to, "%s/0", names[i]);
        list_arg(l, nq_text(range->from));
        list_arg(l, nq_text(range->to));
    }
    nq_buf_str(&l->sql, n ? ")" : "");
}

/* A bound of the ids: the option `after` goes with the order, `before` against it. */
static void list_bound(struct list *l, nq_id id, bool above)
{
    if (!id)
        return;
    nq_buf_str(&l->sql, above ? " AND i.id > ?" : " AND i.id < ?");
    list_arg(l, nq_int(id));
}

#define LIST_LIVE_STATES (NQ_STATE_BIT(NQ_STATE_WAITING) | NQ_STATE_BIT(NQ_STATE_RUNNING))
#define LIST_ENDED_STATES                                                                                    \
    (NQ_STATE_BIT(NQ_STATE_DONE) | NQ_STATE_BIT(NQ_STATE_DEAD) | NQ_STATE_BIT(NQ_STATE_CANCELLED))

/* The states of one table that are wanted; no condition where that is all of them. */
static void list_states(struct list *l, unsigned of_table)
{
    const unsigned wanted = l->opts.states & of_table;
    const char *before = " AND i.state IN (?";
    if (wanted == of_table)
        return;
    for (int state = NQ_STATE_WAITING; state <= NQ_STATE_CANCELLED; state++) {
        if (!(wanted & NQ_STATE_BIT(state)))
            continue;
        nq_buf_str(&l->sql, before);
        before = ", ?";
        list_arg(l, nq_int(state));
    }
    nq_buf_str(&l->sql, ")");
}

static void list_end(struct list *l, const char *id)
{
    nq_buf_str(&l->sql, " ORDER BY ");
    nq_buf_str(&l->sql, id);
    nq_buf_str(&l->sql, l->falling ? " DESC LIMIT ?" : " LIMIT ?");
    list_arg(l, nq_int(l->opts.limit));
}

/* One table's page. Its ids are chosen first, for which an index may be enough; only their rows are read
 * whole. */
static void list_part(struct list *l, unsigned of_table)
{
    const nq_list_options *o = &l->opts;
    const bool live = of_table == LIST_LIVE_STATES;
    nq_buf_str(&l->sql, "SELECT * FROM (SELECT ");
    nq_buf_str(&l->sql, live ? LIST_COMMON(LIST_CUT) LIST_LIVE
                            "FROM (SELECT i.id AS id FROM {tasks} i WHERE 1 = 1"
                             : LIST_COMMON(LIST_CUT) LIST_ENDED
                            "FROM (SELECT i.id AS id FROM {finished} i WHERE 1 = 1");
    list_bound(l, o->after, o->order == NQ_OLDEST_FIRST);
    list_bound(l, o->before, o->order != NQ_OLDEST_FIRST);
    list_states(l, of_table);
    list_queues(l, o->queues, o->nqueues);
    list_among(l, "{exact:i.type}", o->types, o->ntypes);
    list_end(l, "i.id");
    nq_buf_str(&l->sql, live ? ") page JOIN {tasks} t ON t.id = page.id " LIST_LIVE_JOINS ") a"
                             : ") page JOIN {finished} t ON t.id = page.id) b");
}

/* Repeatable. */
static int list_run(nq_conn *c, void *arg, nq_err *err)
{
    struct list *l = arg;
    const bool live = (l->opts.states & LIST_LIVE_STATES) != 0;
    const bool ended = (l->opts.states & LIST_ENDED_STATES) != 0;
    list_rows_clear(&l->rows);
    nq_buf_clear(&l->sql);
    l->nargs = 0;
    if (live)
        list_part(l, LIST_LIVE_STATES);
    if (live && ended)
        nq_buf_str(&l->sql, " UNION ALL ");
    if (ended)
        list_part(l, LIST_ENDED_STATES);
    list_end(l, "id");
    if (l->sql.failed)
        return nq_err_nomem(err);
    return nq_sql(c, l->sql.p, l->args, l->nargs, list_take, &l->rows, NULL, err);
}

static int list_check_names(const nq_list_options *o, nq_err *err)
{
    int rc;
    if (o->nqueues > NQ_MAX_LIST_NAMES || o->ntypes > NQ_MAX_LIST_NAMES)
        return nq_err_set(err, NQ_EINVAL, "%zu queues and %zu types: of each at most %d are allowed",
                          o->nqueues, o->ntypes, NQ_MAX_LIST_NAMES);
    if ((o->nqueues && !o->queues) || (o->ntypes && !o->types))
        return nq_err_set(err, NQ_EINVAL, "%s is NULL, but its number is not 0",
                          o->nqueues && !o->queues ? "queues" : "types");
    for (size_t i = 0; i < o->nqueues; i++)
        if ((rc = nq_check_queue(o->queues[i], err)) < 0)
            return rc;
    if (o->group && o->nqueues == 0)
        return nq_err_set(err, NQ_EINVAL, "group is given without a queue: it is of one");
    for (size_t i = 0; o->group && i < o->nqueues; i++) {
        char name[NQ_MAX_QUEUE + 1];
        if ((rc = nq_group_name(name, o->queues[i], o->group, err)) < 0)
            return rc;
    }
    for (size_t i = 0; i < o->ntypes; i++)
        if ((rc = nq_check_type(o->types[i], err)) < 0)
            return rc;
    return NQ_OK;
}

static int list_check(nq_list_options *o, nq_info_fn fn, nq_err *err)
{
    if (!fn)
        return nq_err_set(err, NQ_EINVAL, "no function to list with was given");
    if (o->states & ~(LIST_LIVE_STATES | LIST_ENDED_STATES))
        return nq_err_set(err, NQ_EINVAL,
                          "states is 0x%x: made of NQ_STATE_BIT(NQ_STATE_WAITING) and its like", o->states);
    if (o->order != NQ_OLDEST_FIRST && o->order != NQ_NEWEST_FIRST)
        return nq_err_set(err, NQ_EINVAL, "order is %d, must be NQ_OLDEST_FIRST or NQ_NEWEST_FIRST",
                          o->order);
    if (o->after < 0 || o->before < 0)
        return nq_err_set(err, NQ_EINVAL, "%s is %lld: ids are positive, 0 is none",
                          o->after < 0 ? "after" : "before",
                          (long long)(o->after < 0 ? o->after : o->before));
    if (o->limit > LIST_MAX_LIMIT)
        return nq_err_set(err, NQ_EINVAL, "limit is %u, must be at most %d", o->limit, LIST_MAX_LIMIT);
    if (!o->limit)
        o->limit = LIST_LIMIT;
    if (!o->states)
        o->states = LIST_LIVE_STATES | LIST_ENDED_STATES;
    return list_check_names(o, err);
}

NQ_API int nq_list(nq *q, const nq_list_options *opts, nq_info_fn fn, void *udata, nq_err *err)
{
    struct list l = {0};
    int rc;
    if ((rc = nq_usable(q, err)) < 0 ||
        (rc = nq_options_copy(&l.opts, sizeof l.opts, opts, "nq_list_options", err)) < 0 ||
        (rc = list_check(&l.opts, fn, err)) < 0 || (rc = nq_ready(q, err)) < 0)
        return rc;
    /* Before an id alone: those nearest to it, so from there on backwards. */
    l.backwards = l.opts.before && !l.opts.after;
    l.falling = (l.opts.order == NQ_NEWEST_FIRST) != l.backwards;
    /* For each table two bounds, all states, the names, those of queues with their groups', and a limit; and
     * the limit of both together. */
    l.args =
        calloc(2 * (2 + NQ_STATE_CANCELLED + 1 + 5 * l.opts.nqueues + l.opts.ntypes + 1) + 1, sizeof *l.args);
    l.ranges = calloc(l.opts.nqueues + 1, sizeof *l.ranges);
    rc = l.args && l.ranges ? nq_store_do(nq_store_of(q), list_run, &l, err) : nq_err_nomem(err);
    if (rc == NQ_ENOMEM)
        nq_err_nomem(err); /* a row's own answer has no text yet */
    if (rc == NQ_OK)
        list_show(&l.rows, l.backwards, fn, udata);
    list_rows_free(&l.rows);
    nq_buf_free(&l.sql);
    free(l.ranges);
    free(l.args);
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
