/* SPDX-License-Identifier: MIT */
/* Burying a task whose own values keep the database from claiming it, or from ending it as it should end. */
#include <stdio.h>

#include "groups.h"

/*
 * Whoever may write to the tables may write what no nanoq would: a counter at its column's end, a time that
 * is none, values that the CHECKs refuse (they can be switched off for an INSERT, but the UPDATE of a claim
 * meets them). One such row must not stop the others, so it leaves the queue: its record is written from
 * values within bounds, with its payload wherever that can be.
 */

#define BURY_MAX_COUNT      32767
#define BURY_MAX_GENERATION INT32_MAX
#define BURY_MAX_TIME       INT64_C(253402300799999999) /* the last microsecond of the year 9999 */

/* What was read of the row, within bounds. */
struct bury_row {
    bool found;
    int64_t state, lease, priority, generation, attempts, crashes, max_retries, timeout_ms, created, run_at;
    char queue[NQ_MAX_QUEUE + 1], type[NQ_MAX_TYPE + 1];
};

static int64_t bury_within(int64_t v, int64_t least, int64_t most)
{
    return v < least ? least : v > most ? most : v;
}

/* A name with a byte in the place of each that is not allowed. */
static void bury_queue(char out[NQ_MAX_QUEUE + 1], const nq_val *v)
{
    const size_t n = v->n < NQ_MAX_QUEUE ? v->n : NQ_MAX_QUEUE;
    for (size_t i = 0; i < n; i++) {
        const char one[2] = {((const char *)v->p)[i], '\0'};
        out[i] = one[0] && nq_check_queue(one, NULL) == NQ_OK ? one[0] : '_';
    }
    out[n] = '\0';
    if (n == 0)
        snprintf(out, NQ_MAX_QUEUE + 1, "default");
}

static void bury_type(char out[NQ_MAX_TYPE + 1], const nq_val *v)
{
    size_t at = 0;
    for (size_t i = 0, len; i < v->n; i += len) {
        const char *p = (const char *)v->p + i;
        uint32_t cp = 0;
        len = nq_utf8(p, v->n - i, &cp);
        const bool good = len > 0 && cp >= 0x20 && !(cp >= 0x7f && cp < 0xa0);
        len = len ? len : 1;
        if (at + (good ? len : 1) > NQ_MAX_TYPE)
            break;
        memcpy(out + at, good ? p : "?", good ? len : 1);
        at += good ? len : 1;
    }
    out[at] = '\0';
    if (at == 0)
        snprintf(out, NQ_MAX_TYPE + 1, "?");
}

#define BURY_FREE                                 NQ_COLUMNS(BURY_FREE_COLUMN)
#define BURY_FREE_COLUMN(column, kind, goes, ...) NQ_IF_FREE_##goes(#column ", ")
#define BURY_COLUMNS                                                                                         \
    "{bytes:t.queue}, {bytes:t.type}, t.priority, t.max_retries, t.timeout_ms, {us:t.created_at}, "          \
    "{us:t.run_at}"

static int bury_read_row(const nq_val cols[], size_t ncols, void *arg)
{
    struct bury_row *r = arg;
    r->found = true;
    bury_queue(r->queue, &cols[0]);
    bury_type(r->type, &cols[1]);
    r->priority = bury_within(cols[2].i, NQ_MIN_PRIORITY, NQ_MAX_PRIORITY);
    r->max_retries = bury_within(cols[3].i, 0, NQ_MAX_RETRIES);
    r->timeout_ms = bury_within(cols[4].i, 1000, NQ_MAX_DURATION / 1000);
    r->created = bury_within(cols[5].i, 0, BURY_MAX_TIME);
    r->run_at = bury_within(cols[6].i, 0, BURY_MAX_TIME);
    if (ncols < 12) /* of a follow-up */
        return 0;
    r->generation = bury_within(cols[7].i, 0, BURY_MAX_GENERATION);
    r->attempts = bury_within(cols[8].i, 0, BURY_MAX_COUNT - 1);
    r->crashes = bury_within(cols[9].i, 0, BURY_MAX_COUNT - 1);
    r->state = cols[10].i;
    r->lease = cols[11].i;
    return 0;
}

/* Run head, the id, tail. */
static int bury_by_id(nq_conn *c, const char *head, nq_id id, const char *tail, const nq_val args[],
                      size_t nargs, nq_row_fn row, void *arg, nq_exec_result *res, nq_err *err)
{
    nq_buf sql = {0};
    nq_buf_str(&sql, head);
    nq_sql_id(c->store, &sql, id);
    nq_buf_str(&sql, tail);
    const int rc = sql.failed ? nq_err_nomem(err) : nq_sql(c, sql.p, args, nargs, row, arg, res, err);
    nq_buf_free(&sql);
    return rc;
}

static int bury_insert(nq_conn *c, const nq_grave *g, const struct bury_row *r, bool whole, nq_err *err)
{
    const size_t n = g->error_size > NQ_MAX_ERROR ? NQ_MAX_ERROR : g->error_size;
    const nq_val args[] = {nq_text(r->queue),
                           nq_int(g->state),
                           nq_int(r->priority),
                           nq_int(r->run_at),
                           nq_int(r->generation),
                           nq_int(r->attempts + g->failed),
                           nq_int(r->crashes + g->crashed),
                           nq_int(r->max_retries),
                           nq_int(r->timeout_ms),
                           nq_int(r->created),
                           nq_text(r->type),
                           g->error ? nq_blob(g->error + (g->error_size - n), n) : nq_null(),
                           nq_blob("", 0)};
#define BURY_INSERT(free)                                                                                    \
    "INSERT INTO {finished} (" free "queue, state, priority, run_at, generation, attempts, crashes, "        \
    "max_retries, timeout_ms, created_at, finished_at, type, error, payload, unique_key, id) "               \
    "SELECT " free "?, ?, ?, {at}, ?, ?, ?, ?, ?, {at}, {now}, ?, ?, "
    static const char all[] =
        BURY_INSERT(BURY_FREE) "{bytes:t.payload}, t.unique_key, t.id FROM {tasks} t WHERE t.id = ";
    static const char least[] = BURY_INSERT("") "?, NULL, t.id FROM {tasks} t WHERE t.id = ";
    return bury_by_id(c, whole ? all : least, g->id, "", args, whole ? 12 : 13, NULL, NULL, NULL, err);
}

NQ_PRIVATE int nq_replace_record(nq_conn *c, nq_id id, nq_err *err)
{
    nq_exec_result res = {0};
    int rc = bury_by_id(c, "DELETE FROM {finished} WHERE id = ", id, "", NULL, 0, NULL, NULL, &res, err);
    if (rc == NQ_OK)
        rc = nq_history_forget(c, id, err);
    if (rc == NQ_OK && res.affected)
        nq_conn_log(c, NQ_LOG_WARN,
                    "the history had a task %lld already: its record gives way to that of the task which "
                    "just ended under the same id",
                    (long long)id);
    return rc;
}

/* What the history tells of it. */
static int bury_tell(nq_conn *c, const nq_grave *g, const struct bury_row *r, nq_err *err)
{
    const nq_tried t = {.id = g->id,
                        .generation = r->generation,
                        .attempt = r->attempts + g->failed,
                        .outcome = g->state == NQ_STATE_CANCELLED ? NQ_ATTEMPT_CANCELLED
                                   : g->crashed                   ? NQ_ATTEMPT_CRASHED
                                                                  : NQ_ATTEMPT_DEAD,
                        .lease = g->lease,
                        .error = g->error,
                        .error_size = g->error_size};
    return g->state == NQ_STATE_DONE ? NQ_OK : nq_history_add(c, &t, 1, err);
}

NQ_PRIVATE int nq_bury(nq_conn *c, nq_grave *g, nq_err *err)
{
    struct bury_row r = {0};
    int rc = bury_by_id(c,
                        "SELECT " BURY_COLUMNS ", t.generation, t.attempts, t.crashes, t.state, t.lease "
                        "FROM {tasks} t {by_id} WHERE t.id = ",
                        g->id, " {lock}", NULL, 0, bury_read_row, &r, NULL, err);
    g->did = false;
    if (rc != NQ_OK || !r.found || r.state != g->from ||
        (g->from == NQ_STATE_RUNNING && (uint64_t)r.lease != g->lease))
        return rc;
    rc = bury_insert(c, g, &r, true, err);
    if (rc == NQ_EDUPLICATE && (rc = nq_replace_record(c, g->id, err)) == NQ_OK)
        rc = bury_insert(c, g, &r, true, err);
    if (nq_row_refused(rc))
        rc = bury_insert(c, g, &r, false, err);
    if (rc == NQ_OK)
        rc = bury_tell(c, g, &r, err);
    if (rc == NQ_OK)
        rc = bury_by_id(c, "DELETE FROM {tasks} WHERE id = ", g->id, "", NULL, 0, NULL, NULL, NULL, err);
    if (rc == NQ_OK)
        rc = bury_by_id(c, "DELETE FROM {cancels} WHERE task_id = ", g->id, "", NULL, 0, NULL, NULL, NULL,
                        err);
    uint64_t hint;
    if (rc == NQ_OK && g->state == NQ_STATE_DEAD)
        rc = nq_letter_send(c, g->id, r.queue, &hint, err);
    if (rc == NQ_OK && g->state == NQ_STATE_DEAD)
        rc = nq_order_buried(c, r.queue, g->id, err);
    g->did = rc == NQ_OK;
    return rc;
}

static int bury_one(nq_conn *c, void *arg, nq_err *err)
{
    return nq_bury(c, arg, err);
}

NQ_PRIVATE int nq_store_bury(nq_store *s, nq_grave *g, nq_err *err)
{
    int rc = nq_store_tx(s, bury_one, g, err);
    if (rc == NQ_OK && g->did)
        nq_store_log(s, NQ_LOG_ERROR, "task %lld is %s: %.*s", (long long)g->id, nq_state_name(g->state),
                     (int)(g->error_size < 300 ? g->error_size : 300), g->error ? g->error : "");
    return rc;
}

NQ_PRIVATE int nq_bury_waiting(nq_store *s, nq_id id, const char *what, const char *why, nq_err *err)
{
    char text[sizeof err->message + 64];
    nq_grave g = {.id = id, .from = NQ_STATE_WAITING, .state = NQ_STATE_DEAD, .error = text};
    g.error_size = (size_t)snprintf(text, sizeof text, "%s: %s", what, why);
    if (g.error_size >= sizeof text)
        g.error_size = sizeof text - 1;
    return nq_store_bury(s, &g, err);
}

/* It has no id among the tasks: it gets one, and the record is that task's. */
NQ_PRIVATE int nq_bury_followup(nq_conn *c, nq_id id, const char *error, nq_err *err)
{
    struct bury_row r = {0};
    nq_exec_result res = {0};
    nq_grave g = {
        .from = NQ_STATE_WAITING, .state = NQ_STATE_DEAD, .error = error, .error_size = strlen(error)};
    int rc = bury_by_id(c, "SELECT " BURY_COLUMNS " FROM {followups} t WHERE t.id = ", id, "", NULL, 0,
                        bury_read_row, &r, NULL, err);
    if (rc != NQ_OK || !r.found)
        return rc;
    const nq_val args[] = {nq_text(r.queue),     nq_int(r.priority), nq_int(r.max_retries),
                           nq_int(r.timeout_ms), nq_int(r.created),  nq_text(r.type)};
    rc = bury_by_id(c,
                    "INSERT INTO {tasks} (" BURY_FREE "queue, priority, run_at, max_retries, timeout_ms, "
                    "created_at, type, unique_key, payload) SELECT " BURY_FREE
                    "?, ?, {now}, ?, ?, {at}, ?, NULL, {bytes:payload} FROM {followups} WHERE id = ",
                    id, "", args, 6, NULL, NULL, &res, err);
    if (rc != NQ_OK)
        return rc;
    g.id = res.insert_id;
    if ((rc = nq_bury(c, &g, err)) == NQ_OK)
        nq_conn_log(c, NQ_LOG_ERROR, "follow-up %lld is dead, as task %lld: %.300s", (long long)id,
                    (long long)g.id, error);
    return rc;
}

/* ---- Tasks that no claim looks at ---- */

struct bury_strange {
    const char *queue;
    nq_id ids[100];
    size_t n;
};

static int bury_strange_row(const nq_val cols[], size_t ncols, void *arg)
{
    struct bury_strange *s = arg;
    (void)ncols;
    if (s->n < sizeof s->ids / sizeof *s->ids)
        s->ids[s->n++] = cols[0].i;
    return 0;
}

static int bury_find_strange(nq_conn *conn, void *arg, nq_err *err)
{
    struct bury_strange *s = arg;
    const nq_val queue = nq_text(s->queue);
    s->n = 0;
    return nq_sql(conn,
                  "SELECT id FROM {tasks} {claim} WHERE queue = ? AND state = 0 AND {strange} LIMIT 100",
                  &queue, 1, bury_strange_row, s, NULL, err);
}

NQ_PRIVATE int nq_bury_strange(nq_store *store, const char *queue, nq_err *err)
{
    struct bury_strange s = {.queue = queue};
    int rc = nq_store_do(store, bury_find_strange, &s, err);
    for (size_t i = 0; i < s.n && rc == NQ_OK; i++)
        rc = nq_bury_waiting(store, s.ids[i], "cannot be claimed",
                             "its priority is not one of -100 to 100, or its run_at is no time", err);
    return rc;
}
