/* SPDX-License-Identifier: MIT */
/* Showing tasks: one, or a list. */
#include "api.h"

#define ADMIN_PREVIEW   "256" /* bytes of a payload in a list */
#define ADMIN_LIMIT     100
#define ADMIN_MAX_LIMIT 10000

/* ---- Rows ---- */

/* The columns of nq_info: those that every task shows, the payload and the state; then, of a live one from
 * the joins and of an ended one, what they have besides. Their places are ADMIN_AT_... */
#define ADMIN_COMMON(payload)                                                                                \
    "t.state AS state, " payload                                                                             \
    " AS payload, LENGTH({bytes:t.payload}) AS size" NQ_COLUMNS(ADMIN_COLUMN) ", "
#define ADMIN_COLUMN(column, kind, ...) NQ_IF_READ_##kind(", " NQ_SQL_##kind(column) " AS " #column)
#define ADMIN_AT(column, kind, ...)     NQ_IF_READ_##kind(ADMIN_AT_##column, )
enum admin_at {
    ADMIN_AT_STATE,
    ADMIN_AT_PAYLOAD,
    ADMIN_AT_SIZE,
    NQ_COLUMNS(ADMIN_AT) /* and of the joins: */
    ADMIN_AT_WORKER,
    ADMIN_AT_CLAIMED,
    ADMIN_AT_ENDED,
    ADMIN_AT_CANCELLING,
    ADMIN_AT_DONE,
    ADMIN_AT_TOTAL,
    ADMIN_AT_NOTE,
    ADMIN_AT_TOLD
};
#define ADMIN_LIVE                                                                                           \
    "{bytes:p.name} AS worker, CASE t.state WHEN 1 THEN {us:t.claimed_at} ELSE 0 END AS claimed, "           \
    "0 AS ended, CASE WHEN x.task_id IS NULL THEN 0 ELSE 1 END AS cancelling, "                              \
    "g.done AS done, g.total AS total, {bytes:g.note} AS note, {us:g.told_at} AS told "                      \
    "FROM {tasks} t LEFT JOIN {workers} p ON p.id = (t.lease >> 36) AND t.state = 1 "                        \
    "LEFT JOIN {cancels} x ON x.task_id = t.id AND x.lease = t.lease AND t.state = 1 "                       \
    "LEFT JOIN {progress} g ON g.task_id = t.id AND g.lease = t.lease AND t.state = 1 "
#define ADMIN_ENDED                                                                                          \
    "NULL AS worker, 0 AS claimed, {us:t.finished_at} AS ended, 0 AS cancelling, 0 AS done, 0 AS total, "    \
    "NULL AS note, 0 AS told FROM {finished} t "
#define ADMIN_CUT "SUBSTR({bytes:t.payload}, 1, " ADMIN_PREVIEW ")"

struct admin_show {
    nq_info_fn fn;
    void *udata;
    nq_id last;
    unsigned shown;
    bool whole; /* payloads are shown whole, not their beginnings */
    bool stopped;
};

static const char *admin_text(char **at, const nq_val *v)
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

#define ADMIN_ID(v)                   (v).i
#define ADMIN_INT(v)                  (int)(v).i
#define ADMIN_COUNT(v)                (unsigned)(v).i
#define ADMIN_ATTEMPTS(v)             (unsigned)(v).i
#define ADMIN_MS(v)                   nq_us_of_ms((v).i)
#define ADMIN_TIME(v)                 (v).i
#define ADMIN_NAME(v)                 admin_text(&at, &(v))
#define ADMIN_TEXT(v)                 admin_text(&at, &(v))
#define ADMIN_SIZE(column, kind, ...) NQ_IF_BYTES_##kind(+cols[ADMIN_AT_##column].n + 1)
#define ADMIN_SET(column, kind, goes, unsaid, of_task, field)                                                \
    NQ_IF_READ_##kind(info.field = ADMIN_##kind(cols[ADMIN_AT_##column]);)

static int admin_info_row(const nq_val cols[], size_t ncols, void *arg)
{
    struct admin_show *show = arg;
    const nq_val *payload = &cols[ADMIN_AT_PAYLOAD], *size = &cols[ADMIN_AT_SIZE];
    char *text =
        malloc(payload->n + cols[ADMIN_AT_WORKER].n + cols[ADMIN_AT_NOTE].n + 3 NQ_COLUMNS(ADMIN_SIZE));
    char *at = text;
    (void)ncols;
    if (!text)
        return NQ_ENOMEM;
    nq_info info = {
        .state = (int)cols[ADMIN_AT_STATE].i,
        .payload = admin_text(&at, payload),
        .payload_size = show->whole || size->i < (int64_t)payload->n ? payload->n : (size_t)size->i,
        .worker = admin_text(&at, &cols[ADMIN_AT_WORKER]),
        .claimed_at_us = cols[ADMIN_AT_CLAIMED].i,
        .finished_at_us = cols[ADMIN_AT_ENDED].i,
        .cancelling = cols[ADMIN_AT_CANCELLING].i != 0,
        .progress_done = cols[ADMIN_AT_DONE].i,
        .progress_total = cols[ADMIN_AT_TOTAL].i,
        .progress_note = admin_text(&at, &cols[ADMIN_AT_NOTE]),
        .progress_at_us = cols[ADMIN_AT_TOLD].i,
    };
    NQ_COLUMNS(ADMIN_SET)
    show->last = info.id;
    show->shown++;
    show->stopped = show->fn(&info, show->udata) != 0;
    free(text);
    return show->stopped;
}

/* A row function's own answers: a stop is success, no memory has no text yet. */
static int admin_row_code(int code, bool stopped, nq_err *err)
{
    if (stopped)
        return NQ_OK;
    return code == NQ_ENOMEM ? nq_err_nomem(err) : code;
}

/* ---- List and get ---- */

struct admin_list {
    struct admin_show show;
    nq_list_options opts;
    nq_buf sql;
    nq_val args[8];
    size_t nargs;
};

/* One table's part: its own ORDER BY and LIMIT keep it from being read to its end. */
static void admin_list_part(struct admin_list *l, const char *columns, nq_val limit, const char *alias)
{
    nq_buf_str(&l->sql, "SELECT * FROM (SELECT ");
    nq_buf_str(&l->sql, columns);
    nq_buf_str(&l->sql, "WHERE t.id > ?");
    l->args[l->nargs++] = nq_int(l->show.last);
    if (l->opts.state_set) {
        nq_buf_str(&l->sql, " AND t.state = ?");
        l->args[l->nargs++] = nq_int(l->opts.state);
    }
    if (l->opts.queue) {
        nq_buf_str(&l->sql, " AND t.queue = ?");
        l->args[l->nargs++] = nq_text(l->opts.queue);
    }
    if (l->opts.type) {
        nq_buf_str(&l->sql, " AND {exact:t.type} = ?");
        l->args[l->nargs++] = nq_text(l->opts.type);
    }
    nq_buf_fmt(&l->sql, " ORDER BY t.id LIMIT %lld) %s", (long long)limit.i, alias);
}

/* Repeatable: what was shown already is not shown again. */
static int admin_list_run(nq_conn *c, void *arg, nq_err *err)
{
    struct admin_list *l = arg;
    const bool live = !l->opts.state_set || l->opts.state <= NQ_STATE_RUNNING;
    const bool ended = !l->opts.state_set || l->opts.state > NQ_STATE_RUNNING;
    const nq_val limit = nq_int(l->opts.limit - l->show.shown);
    if (limit.i <= 0)
        return NQ_OK;
    nq_buf_clear(&l->sql);
    l->nargs = 0;
    if (live)
        admin_list_part(l, ADMIN_COMMON(ADMIN_CUT) ADMIN_LIVE, limit, "a");
    if (live && ended)
        nq_buf_str(&l->sql, " UNION ALL ");
    if (ended)
        admin_list_part(l, ADMIN_COMMON(ADMIN_CUT) ADMIN_ENDED, limit, "b");
    nq_buf_fmt(&l->sql, " ORDER BY id LIMIT %lld", (long long)limit.i);
    if (l->sql.failed)
        return nq_err_nomem(err);
    return nq_sql(c, l->sql.p, l->args, l->nargs, admin_info_row, &l->show, NULL, err);
}

static int admin_list_check(nq_list_options *o, nq_info_fn fn, nq_err *err)
{
    int code;
    if (!fn)
        return nq_err_set(err, NQ_EINVAL, "no function to list with was given");
    if (o->queue && (code = nq_check_queue(o->queue, err)))
        return code;
    if (o->type && (code = nq_check_type(o->type, err)))
        return code;
    if (o->state_set && !nq_state_name(o->state))
        return nq_err_set(err, NQ_EINVAL, "there is no state %d", o->state);
    if (o->limit > ADMIN_MAX_LIMIT)
        return nq_err_set(err, NQ_EINVAL, "limit is %u, must be at most %d", o->limit, ADMIN_MAX_LIMIT);
    if (!o->limit)
        o->limit = ADMIN_LIMIT;
    return NQ_OK;
}

NQ_API int nq_list(nq *q, const nq_list_options *opts, nq_info_fn fn, void *udata, nq_err *err)
{
    struct admin_list l = {.show = {.fn = fn, .udata = udata}};
    int code;
    if ((code = nq_usable(q, err)))
        return code;
    if ((code = nq_options_copy(&l.opts, sizeof(l.opts), opts, "nq_list_options", err)))
        return code;
    if ((code = admin_list_check(&l.opts, fn, err)))
        return code;
    if ((code = nq_ready(q, err)))
        return code;
    l.show.last = l.opts.after;
    code = nq_store_do(nq_store_of(q), admin_list_run, &l, err);
    nq_buf_free(&l.sql);
    return admin_row_code(code, l.show.stopped, err);
}

struct admin_get {
    struct admin_show show;
    nq_id id;
};

static int admin_get_run(nq_conn *c, void *arg, nq_err *err)
{
    struct admin_get *g = arg;
    const nq_val id = nq_int(g->id);
    int code = NQ_OK;
    /* Twice: a task may move from one table to the other between two looks. */
    for (int i = 0; i < 2 && !code && !g->show.shown; i++) {
        code = nq_sql(c, "SELECT " ADMIN_COMMON("{bytes:t.payload}") ADMIN_LIVE "WHERE t.id = ?", &id, 1,
                      admin_info_row, &g->show, NULL, err);
        if (!code && !g->show.shown)
            code = nq_sql(c, "SELECT " ADMIN_COMMON("{bytes:t.payload}") ADMIN_ENDED "WHERE t.id = ?", &id, 1,
                          admin_info_row, &g->show, NULL, err);
    }
    return code;
}

NQ_PRIVATE int nq_absent(nq_id id, nq_err *err)
{
    return nq_err_set(err, NQ_ENOTFOUND, "there is no task %lld", (long long)id);
}

NQ_API int nq_get(nq *q, nq_id id, nq_info_fn fn, void *udata, nq_err *err)
{
    struct admin_get g = {.show = {.fn = fn, .udata = udata, .whole = true}, .id = id};
    int code;
    if ((code = nq_usable(q, err)))
        return code;
    if (!fn)
        return nq_err_set(err, NQ_EINVAL, "no function to show with was given");
    if ((code = nq_ready(q, err)))
        return code;
    code = admin_row_code(nq_store_do(nq_store_of(q), admin_get_run, &g, err), g.show.stopped, err);
    return code || g.show.shown ? code : nq_absent(id, err);
}
