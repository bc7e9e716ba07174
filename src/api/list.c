/* SPDX-License-Identifier: MIT */
/* Showing tasks: one, or a list. */
#include "api.h"

#define ADMIN_PREVIEW   "256" /* bytes of a payload in a list */
#define ADMIN_LIMIT     100
#define ADMIN_MAX_LIMIT 10000

/* ---- Rows ---- */

/* The columns of nq_info, in the order of admin_info_row; a live task's worker comes from the join. */
#define ADMIN_COMMON(payload)                                                                                \
    "t.id AS id, t.state AS state, {bytes:t.queue} AS queue, {bytes:t.type} AS type, " payload               \
    " AS payload, LENGTH({bytes:t.payload}) AS size, {bytes:t.error} AS error, t.priority AS priority, "     \
    "t.attempts AS attempts, "                                                                               \
    "t.crashes AS crashes, t.max_retries AS max_retries, t.generation AS generation, "                       \
    "t.timeout_ms AS timeout_ms, {us:t.created_at} AS created, {us:t.run_at} AS due, "
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

static int admin_info_row(const nq_val cols[], size_t ncols, void *arg)
{
    struct admin_show *show = arg;
    char *text = malloc(cols[2].n + cols[3].n + cols[4].n + cols[6].n + cols[15].n + cols[21].n + 6);
    char *at = text;
    (void)ncols;
    if (!text)
        return NQ_ENOMEM;
    const nq_info info = {
        .id = cols[0].i,
        .state = (int)cols[1].i,
        .queue = admin_text(&at, &cols[2]),
        .type = admin_text(&at, &cols[3]),
        .payload = admin_text(&at, &cols[4]),
        .payload_size = show->whole || cols[5].i < (int64_t)cols[4].n ? cols[4].n : (size_t)cols[5].i,
        .error = admin_text(&at, &cols[6]),
        .worker = admin_text(&at, &cols[15]),
        .priority = (int)cols[7].i,
        .attempts = (unsigned)cols[8].i,
        .crashes = (unsigned)cols[9].i,
        .max_retries = (unsigned)cols[10].i,
        .generation = (unsigned)cols[11].i,
        .timeout_us = nq_us_of_ms(cols[12].i),
        .created_at_us = cols[13].i,
        .run_at_us = cols[14].i,
        .claimed_at_us = cols[16].i,
        .finished_at_us = cols[17].i,
        .cancelling = cols[18].i != 0,
        .progress_done = cols[19].i,
        .progress_total = cols[20].i,
        .progress_note = admin_text(&at, &cols[21]),
        .progress_at_us = cols[22].i,
    };
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
