/* SPDX-License-Identifier: MIT */
/* nq_logs: what the attempts of a task have written. */
#include "api.h"

#include "nanoq_logs.h"

#define LOGS_LIST_LIMIT 1000
#define LOGS_LIST_MOST  10000

struct logs_list {
    nq_id id;
    nq_logs_options o;
    nq_log_row *rows; /* .text is set when texts does not move any more */
    size_t n, cap;
    nq_buf texts;
    int64_t created_us; /* of the task; 0: it is not there */
    uint64_t count;     /* instead of the rows, where there is no limit */
};

static int logs_list_task(const nq_val cols[], size_t ncols, void *arg)
{
    struct logs_list *l = arg;
    (void)ncols;
    l->created_us = cols[0].type == NQ_VAL_INT && cols[0].i > 1 ? cols[0].i : 1;
    return 0;
}

static unsigned logs_list_number(const nq_val *v)
{
    return v->type == NQ_VAL_INT && v->i > 0 ? v->i < UINT32_MAX ? (unsigned)v->i : UINT32_MAX : 0;
}

/* A row may be a vandal's. */
static int logs_list_row(const nq_val cols[], size_t ncols, void *arg)
{
    struct logs_list *l = arg;
    (void)ncols;
    nq_log_row *more = nq_grow(l->rows, l->n, &l->cap, sizeof *more);
    if (!more)
        return NQ_ENOMEM;
    l->rows = more;
    const unsigned level = logs_list_number(&cols[3]);
    more[l->n++] =
        (nq_log_row){.task_id = l->id,
                     .generation = logs_list_number(&cols[0]),
                     .seq = logs_list_number(&cols[1]),
                     .level = level > NQ_LOG_ERROR ? NQ_LOG_ERROR : (int)level,
                     .at_us = cols[2].type == NQ_VAL_INT && cols[2].i > 0 ? cols[2].i : 0,
                     .n = cols[4].type == NQ_VAL_TEXT || cols[4].type == NQ_VAL_BLOB ? cols[4].n : 0};
    if (more[l->n - 1].n > 0)
        nq_buf_add(&l->texts, cols[4].p, cols[4].n);
    nq_buf_add(&l->texts, "", 1);
    return l->texts.failed ? NQ_ENOMEM : 0;
}

static int logs_list_count(const nq_val cols[], size_t ncols, void *arg)
{
    struct logs_list *l = arg;
    (void)ncols;
    l->count = (uint64_t)cols[0].i;
    return 0;
}

/* Repeatable. Lines of an earlier task with the same id were written before this one was created. */
static int logs_list_run(nq_conn *c, void *arg, nq_err *err)
{
    static const char *const tables[] = {"SELECT {us:created_at} FROM {tasks} WHERE id = ?",
                                         "SELECT {us:created_at} FROM {finished} WHERE id = ?"};
    struct logs_list *l = arg;
    const nq_val id = nq_int(l->id);
    int rc = NQ_OK;
    l->n = 0;
    l->created_us = 0;
    nq_buf_clear(&l->texts);
    /* Twice: a task may move from one table to the other between two looks. */
    for (int i = 0; i < 4 && rc == NQ_OK && !l->created_us; i++)
        rc = nq_sql(c, tables[i % 2], &id, 1, logs_list_task, l, NULL, err);
    if (rc != NQ_OK || !l->created_us)
        return rc;
    if (l->o.limit == 0) {
        const nq_val args[] = {id, nq_int(l->created_us)};
        return nq_sql(c, "SELECT COUNT(*) FROM {logs} l WHERE l.task_id = ? AND l.at >= {at}", args, 2,
                      logs_list_count, l, NULL, err);
    }
    const nq_val args[] = {id,
                           nq_int(l->o.after_generation),
                           nq_int(l->o.after_generation),
                           nq_int(l->o.after_seq),
                           nq_int(l->created_us),
                           nq_int((int64_t)l->o.limit)};
    return nq_sql_once(c,
                       "SELECT l.generation, l.seq, {us:l.at}, l.level, SUBSTR({bytes:l.line}, 1, 4096) FROM "
                       "{logs} l WHERE l.task_id = ? AND l.generation >= ? AND (l.generation > ? OR l.seq > "
                       "?) AND l.at >= {at} ORDER BY l.generation, l.seq LIMIT ?",
                       args, 6, logs_list_row, l, err);
}

int nq_logs(nq *q, nq_id id, const nq_logs_options *opts, nq_log_row_fn fn, void *udata, nq_err *err)
{
    struct logs_list l = {.id = id, .o = {.size = sizeof l.o}};
    int rc = nq_usable(q, err);
    if (rc == NQ_OK && opts)
        rc = nq_options_copy(&l.o, sizeof l.o, opts, "nq_logs_options", err);
    if (rc == NQ_OK && !fn)
        rc = nq_err_set(err, NQ_EINVAL, "no function to show lines with was given");
    if (rc == NQ_OK && l.o.limit > LOGS_LIST_MOST)
        rc = nq_err_set(err, NQ_EINVAL, "limit is %zu, at most %d are allowed", l.o.limit, LOGS_LIST_MOST);
    if (rc == NQ_OK)
        rc = nq_ready(q, err);
    if (rc != NQ_OK)
        return rc;
    l.o.limit = l.o.limit ? l.o.limit : LOGS_LIST_LIMIT;
    rc = nq_store_do(nq_store_of(q), logs_list_run, &l, err);
    if (rc == NQ_ENOMEM)
        nq_err_nomem(err);
    else if (rc == NQ_OK && !l.created_us)
        rc = nq_absent(id, err);
    const char *text = l.texts.p;
    for (size_t i = 0; rc == NQ_OK && i < l.n; i++) {
        l.rows[i].text = text;
        text += l.rows[i].n + 1;
        if (fn(&l.rows[i], udata))
            break;
    }
    free(l.rows);
    nq_buf_free(&l.texts);
    return rc;
}

int nq_logs_count(nq *q, nq_id id, uint64_t *n, nq_err *err)
{
    struct logs_list l = {.id = id};
    int rc = nq_usable(q, err);
    if (rc == NQ_OK && !n)
        rc = nq_err_set(err, NQ_EINVAL, "no place for the number was given");
    if (rc == NQ_OK)
        rc = nq_ready(q, err);
    if (rc == NQ_OK)
        rc = nq_store_do(nq_store_of(q), logs_list_run, &l, err);
    if (rc == NQ_OK && !l.created_us)
        rc = nq_absent(id, err);
    if (rc == NQ_OK)
        *n = l.count;
    return rc;
}
