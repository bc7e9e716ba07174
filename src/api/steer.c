/* SPDX-License-Identifier: MIT */
/* Moving one task by hand: retry, cancel, delete. */
#include "api.h"

struct move_task {
    nq_id id;
    enum nq_move move;
    int state;  /* found; -1: nowhere */
    bool asked; /* its worker is to see to it */
};

static int move_state_row(const nq_val cols[], size_t ncols, void *arg)
{
    (void)ncols;
    *(int *)arg = (int)cols[0].i;
    return 0;
}

/* Lock the task's row, in whichever table it is. */
static int move_find(nq_conn *c, nq_id id, int *state, nq_err *err)
{
    const nq_val arg = nq_int(id);
    int rc = NQ_OK;
    *state = -1;
    for (int i = 0; i < 2 && rc == NQ_OK && *state < 0; i++) {
        rc = nq_sql(c, "SELECT state FROM {tasks} WHERE id = ? {lock}", &arg, 1, move_state_row, state, NULL,
                    err);
        if (rc == NQ_OK && *state < 0)
            rc = nq_sql(c, "SELECT state FROM {finished} WHERE id = ? {lock}", &arg, 1, move_state_row, state,
                        NULL, err);
    }
    return rc;
}

static int move_by_id(nq_conn *c, const char *sql, nq_id id, nq_err *err)
{
    const nq_val arg = nq_int(id);
    return nq_sql(c, sql, &arg, 1, NULL, NULL, NULL, err);
}

struct move_headers {
    nq_buf text;  /* without the time of expiry, */
    bool expires; /* if there is one */
};

static int move_headers_row(const nq_val cols[], size_t ncols, void *arg)
{
    struct move_headers *h = arg;
    (void)ncols;
    h->expires =
        cols[0].n <= NQ_MAX_HEADERS_SIZE && nq_headers_without_expiry(&h->text, cols[0].p, cols[0].n);
    return 0;
}

/* Whoever retries by hand wants it run: it does not expire any more. */
static int move_unexpire(nq_conn *c, nq_id id, nq_err *err)
{
    struct move_headers h = {0};
    nq_val args[] = {nq_int(id), nq_int(id)};
    int rc = nq_sql(c, "SELECT {short:t.headers} FROM {tasks} t WHERE t.id = ? AND t.headers IS NOT NULL",
                    args, 1, move_headers_row, &h, NULL, err);
    if (rc == NQ_OK && h.text.failed)
        rc = nq_err_nomem(err);
    if (h.text.n)
        args[0] = (nq_val){NQ_VAL_TEXT, 0, h.text.p, h.text.n};
    else
        args[0] = nq_null();
    if (rc == NQ_OK && h.expires)
        rc = nq_sql(c, "UPDATE {tasks} SET headers = ? WHERE id = ?", args, 2, NULL, NULL, NULL, err);
    nq_buf_free(&h.text);
    return rc;
}

static int move_retry(nq_conn *c, const struct move_task *m, nq_err *err)
{
    int rc;
    if (m->state == NQ_STATE_WAITING) {
        rc = move_by_id(c, "UPDATE {tasks} SET run_at = {now} WHERE id = ? AND run_at > {now}", m->id, err);
        return rc != NQ_OK ? rc : move_unexpire(c, m->id, err);
    }
    rc = move_by_id(c,
                    "INSERT INTO {tasks} (" NQ_MOVED_COLUMNS "error, run_at) SELECT " NQ_MOVED_COLUMNS
                    "error, {now} FROM {finished} WHERE id = ?",
                    m->id, err);
    if (rc == NQ_EDUPLICATE)
        return nq_err_set(err, rc, "a live task has the unique key of task %lld", (long long)m->id);
    if (rc == NQ_OK)
        rc = move_by_id(c, "DELETE FROM {finished} WHERE id = ?", m->id, err);
    if (rc == NQ_OK && m->state == NQ_STATE_DONE)
        rc = nq_result_forget(c, m->id, err);
    return rc != NQ_OK ? rc : move_unexpire(c, m->id, err);
}

/* A running task is its worker's alone. What is asked of this claim counts when it ends, in whatever way:
 * we hold the row's lock, so it has not ended, and whoever ends it looks here after taking that lock. */
static int move_ask(nq_conn *c, struct move_task *m, nq_err *err)
{
    m->asked = true;
    return move_by_id(c,
                      "REPLACE INTO {cancels} (task_id, lease) SELECT id, lease FROM {tasks} "
                      "WHERE id = ? AND state = 1",
                      m->id, err);
}

static int move_cancel(nq_conn *c, struct move_task *m, nq_err *err)
{
    if (m->state == NQ_STATE_RUNNING)
        return move_ask(c, m, err);
    const nq_val args[] = {nq_int(nq_state_move(NQ_STATE_WAITING, NQ_MOVE_CANCEL)), nq_int(m->id)};
    static const char insert[] =
        "INSERT INTO {finished} (" NQ_MOVED_COLUMNS "error, run_at, state, attempts, crashes, finished_at) "
        "SELECT " NQ_MOVED_COLUMNS "error, run_at, ?, attempts, crashes, {now} FROM {tasks} WHERE id = ?";
    int rc = nq_sql(c, insert, args, 2, NULL, NULL, NULL, err);
    if (rc == NQ_EDUPLICATE && (rc = nq_replace_record(c, m->id, err)) == NQ_OK)
        rc = nq_sql(c, insert, args, 2, NULL, NULL, NULL, err);
    return rc != NQ_OK ? rc : move_by_id(c, "DELETE FROM {tasks} WHERE id = ?", m->id, err);
}

static const char *move_verb(enum nq_move move)
{
    return move == NQ_MOVE_RETRY ? "retried" : move == NQ_MOVE_CANCEL ? "cancelled" : "deleted";
}

static int move_task(nq_conn *c, void *arg, nq_err *err)
{
    struct move_task *m = arg;
    int rc = move_find(c, m->id, &m->state, err);
    m->asked = false; /* it may be the second try */
    if (rc != NQ_OK)
        return rc;
    if (m->state < 0)
        return nq_absent(m->id, err);
    if (nq_state_move((enum nq_state)m->state, m->move) == -1)
        return nq_err_set(err, NQ_ESTATE, "task %lld is %s and cannot be %s", (long long)m->id,
                          nq_state_name(m->state), move_verb(m->move));
    if (m->move == NQ_MOVE_RETRY)
        return move_retry(c, m, err);
    if (m->move == NQ_MOVE_CANCEL)
        return move_cancel(c, m, err);
    rc = move_by_id(c,
                    m->state <= NQ_STATE_RUNNING ? "DELETE FROM {tasks} WHERE id = ?"
                                                 : "DELETE FROM {finished} WHERE id = ?",
                    m->id, err);
    return rc == NQ_OK && m->state == NQ_STATE_DONE ? nq_result_forget(c, m->id, err) : rc;
}

static int move_run(nq *q, nq_id id, enum nq_move move, nq_err *err)
{
    struct move_task m = {.id = id, .move = move};
    int rc = nq_ready(q, err);
    if (rc == NQ_OK)
        rc = nq_store_tx(nq_store_of(q), move_task, &m, err);
    if (rc == NQ_OK && m.asked)
        nq_wake_look(q);
    else if (rc == NQ_OK && move != NQ_MOVE_RETRY)
        nq_hints_ended(nq_hints_of(q), &id, 1);
    return rc;
}

NQ_API int nq_retry(nq *q, nq_id id, nq_err *err)
{
    const uint64_t any = NQ_HINT_ANY;
    int rc = move_run(q, id, NQ_MOVE_RETRY, err);
    if (rc == NQ_OK)
        nq_wake(q, &any, 1, 0);
    return rc;
}

NQ_API int nq_cancel(nq *q, nq_id id, nq_err *err)
{
    return move_run(q, id, NQ_MOVE_CANCEL, err);
}

NQ_API int nq_delete(nq *q, nq_id id, nq_err *err)
{
    return move_run(q, id, NQ_MOVE_DELETE, err);
}
