/* SPDX-License-Identifier: MIT */
/* List, show, retry, cancel, delete. */
#include "queue.h"

#define ADMIN_PREVIEW   "256" /* bytes of a payload in a list */
#define ADMIN_LIMIT     100
#define ADMIN_MAX_LIMIT 10000

/* ---- Rows ---- */

/* The columns of nq_info, in the order of admin_info_row; a live task's worker comes from the join. */
#define ADMIN_COMMON(payload)                                                                                \
    "t.id AS id, t.state AS state, t.queue AS queue, t.type AS type, " payload " AS payload, "               \
    "LENGTH({bytes:t.payload}) AS size, t.error AS error, t.priority AS priority, t.attempts AS attempts, "  \
    "t.crashes AS crashes, t.max_retries AS max_retries, t.generation AS generation, "                       \
    "t.timeout_ms AS timeout_ms, {us:t.created_at} AS created, {us:t.run_at} AS due, "
#define ADMIN_LIVE                                                                                           \
    "p.name AS worker, {us:t.claimed_at} AS claimed, 0 AS ended, CASE WHEN x.task_id IS NULL THEN 0 "        \
    "ELSE 1 END AS cancelling, g.done AS done, g.total AS total, g.note AS note, {us:g.told_at} AS told "    \
    "FROM {tasks} t LEFT JOIN {processors} p ON p.id = (t.lease >> 36) AND t.state = 1 "                     \
    "LEFT JOIN {cancels} x ON x.task_id = t.id AND x.lease = t.lease AND t.state = 1 "                       \
    "LEFT JOIN {progress} g ON g.task_id = t.id AND g.lease = t.lease AND t.state = 1 "
#define ADMIN_ENDED                                                                                          \
    "NULL AS worker, NULL AS claimed, {us:t.finished_at} AS ended, 0 AS cancelling, 0 AS done, 0 AS total, " \
    "NULL AS note, 0 AS told FROM {finished} t "
#define ADMIN_CUT "SUBSTR({bytes:t.payload}, 1, " ADMIN_PREVIEW ")"

struct admin_show {
    nq_info_fn fn;
    void *udata;
    nq_id last;
    unsigned shown;
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
        .state = (enum nq_state)cols[1].i,
        .queue = admin_text(&at, &cols[2]),
        .type = admin_text(&at, &cols[3]),
        .payload = admin_text(&at, &cols[4]),
        .payload_size = (size_t)cols[5].i,
        .error = admin_text(&at, &cols[6]),
        .worker = admin_text(&at, &cols[15]),
        .priority = (int)cols[7].i,
        .attempts = (unsigned)cols[8].i,
        .crashes = (unsigned)cols[9].i,
        .max_retries = (unsigned)cols[10].i,
        .generation = (unsigned)cols[11].i,
        .timeout_us = cols[12].i * 1000,
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
        nq_buf_str(&l->sql, " AND t.type = ?");
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
        code = nq_sql(c, "SELECT " ADMIN_COMMON("t.payload") ADMIN_LIVE "WHERE t.id = ?", &id, 1,
                      admin_info_row, &g->show, NULL, err);
        if (!code && !g->show.shown)
            code = nq_sql(c, "SELECT " ADMIN_COMMON("t.payload") ADMIN_ENDED "WHERE t.id = ?", &id, 1,
                          admin_info_row, &g->show, NULL, err);
    }
    return code;
}

static int admin_absent(nq_id id, nq_err *err)
{
    return nq_err_set(err, NQ_ENOTFOUND, "there is no task %lld", (long long)id);
}

NQ_API int nq_get(nq *q, nq_id id, nq_info_fn fn, void *udata, nq_err *err)
{
    struct admin_get g = {.show = {.fn = fn, .udata = udata}, .id = id};
    int code;
    if ((code = nq_usable(q, err)))
        return code;
    if (!fn)
        return nq_err_set(err, NQ_EINVAL, "no function to show with was given");
    code = admin_row_code(nq_store_do(nq_store_of(q), admin_get_run, &g, err), g.show.stopped, err);
    return code || g.show.shown ? code : admin_absent(id, err);
}

/* ---- Retry, cancel, delete ---- */

struct admin_move {
    nq_id id;
    enum nq_move move;
    int state;  /* found; -1: nowhere */
    bool asked; /* its processor is to see to it */
};

static int admin_state_row(const nq_val cols[], size_t ncols, void *arg)
{
    (void)ncols;
    *(int *)arg = (int)cols[0].i;
    return 0;
}

/* Lock the task's row, in whichever table it is. */
static int admin_find(nq_conn *c, nq_id id, int *state, nq_err *err)
{
    const nq_val arg = nq_int(id);
    int code = NQ_OK;
    *state = -1;
    for (int i = 0; i < 2 && !code && *state < 0; i++) {
        code = nq_sql(c, "SELECT state FROM {tasks} WHERE id = ? {lock}", &arg, 1, admin_state_row, state,
                      NULL, err);
        if (!code && *state < 0)
            code = nq_sql(c, "SELECT state FROM {finished} WHERE id = ? {lock}", &arg, 1, admin_state_row,
                          state, NULL, err);
    }
    return code;
}

static int admin_by_id(nq_conn *c, const char *sql, nq_id id, nq_err *err)
{
    const nq_val arg = nq_int(id);
    return nq_sql(c, sql, &arg, 1, NULL, NULL, NULL, err);
}

#define ADMIN_MOVED                                                                                          \
    "id, queue, priority, generation, max_retries, timeout_ms, created_at, type, payload, unique_key, error"

static int admin_retry(nq_conn *c, const struct admin_move *m, nq_err *err)
{
    int code;
    if (m->state == NQ_STATE_WAITING)
        return admin_by_id(c, "UPDATE {tasks} SET run_at = {now} WHERE id = ? AND run_at > {now}", m->id,
                           err);
    code = admin_by_id(c,
                       "INSERT INTO {tasks} (" ADMIN_MOVED ", run_at) SELECT " ADMIN_MOVED
                       ", {now} FROM {finished} WHERE id = ?",
                       m->id, err);
    if (code == NQ_EDUPLICATE)
        return nq_err_set(err, code, "a live task has the unique key of task %lld", (long long)m->id);
    return code ? code : admin_by_id(c, "DELETE FROM {finished} WHERE id = ?", m->id, err);
}

/* A running task is its processor's alone. What is asked of this claim counts when it ends, in whatever way:
 * we hold the row's lock, so it has not ended, and whoever ends it looks here after taking that lock. */
static int admin_ask(nq_conn *c, struct admin_move *m, nq_err *err)
{
    m->asked = true;
    return admin_by_id(c,
                       "REPLACE INTO {cancels} (task_id, lease) SELECT id, lease FROM {tasks} "
                       "WHERE id = ? AND state = 1",
                       m->id, err);
}

static int admin_cancel(nq_conn *c, struct admin_move *m, nq_err *err)
{
    if (m->state == NQ_STATE_RUNNING)
        return admin_ask(c, m, err);
    const nq_val args[] = {nq_int(nq_state_move(NQ_STATE_WAITING, NQ_MOVE_CANCEL)), nq_int(m->id)};
    int code =
        nq_sql(c,
               "INSERT INTO {finished} (" ADMIN_MOVED ", run_at, state, attempts, crashes, finished_at) "
               "SELECT " ADMIN_MOVED ", run_at, ?, attempts, crashes, {now} FROM {tasks} WHERE id = ?",
               args, 2, NULL, NULL, NULL, err);
    return code ? code : admin_by_id(c, "DELETE FROM {tasks} WHERE id = ?", m->id, err);
}

static int admin_move(nq_conn *c, void *arg, nq_err *err)
{
    static const char *const verbs[] = {
        [NQ_MOVE_RETRY] = "retried", [NQ_MOVE_CANCEL] = "cancelled", [NQ_MOVE_DELETE] = "deleted"};
    struct admin_move *m = arg;
    int code = admin_find(c, m->id, &m->state, err);
    m->asked = false; /* it may be the second try */
    if (code)
        return code;
    if (m->state < 0)
        return admin_absent(m->id, err);
    if (nq_state_move((enum nq_state)m->state, m->move) == -1)
        return nq_err_set(err, NQ_ESTATE, "task %lld is %s and cannot be %s", (long long)m->id,
                          nq_state_name(m->state), verbs[m->move]);
    if (m->move == NQ_MOVE_RETRY)
        return admin_retry(c, m, err);
    if (m->move == NQ_MOVE_CANCEL)
        return admin_cancel(c, m, err);
    return admin_by_id(c,
                       m->state <= NQ_STATE_RUNNING ? "DELETE FROM {tasks} WHERE id = ?"
                                                    : "DELETE FROM {finished} WHERE id = ?",
                       m->id, err);
}

static int admin_moving(nq *q, nq_id id, enum nq_move move, nq_err *err)
{
    struct admin_move m = {.id = id, .move = move};
    int code = nq_usable(q, err);
    if (!code)
        code = nq_store_tx(nq_store_of(q), admin_move, &m, err);
    if (!code && m.asked)
        nq_wake_look(q);
    return code;
}

NQ_API int nq_retry(nq *q, nq_id id, nq_err *err)
{
    const uint64_t any = NQ_HINT_ANY;
    int code = admin_moving(q, id, NQ_MOVE_RETRY, err);
    if (!code)
        nq_wake(q, &any, 1, 0);
    return code;
}

NQ_API int nq_cancel(nq *q, nq_id id, nq_err *err)
{
    return admin_moving(q, id, NQ_MOVE_CANCEL, err);
}

NQ_API int nq_delete(nq *q, nq_id id, nq_err *err)
{
    return admin_moving(q, id, NQ_MOVE_DELETE, err);
}
