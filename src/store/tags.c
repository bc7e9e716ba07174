/* SPDX-License-Identifier: MIT */
/* The rows of {tags}: made with their tasks, swept when these exist no more. */
#include "store.h"

/*
 * What a task's tags are say its headers (nq-tag), which go wherever it goes. The rows are how it is found by
 * them. They are written in the transaction that adds the task; they stay while it waits, runs, is kept or is
 * retried; and nothing that ends a task looks at them: a sweep deletes those whose task is nowhere any more.
 */

#define TAGS_LOOK 5000 /* ids that one sweep looks at */

/* ---- Making ---- */

NQ_PLUG_IN int nq_tags_end(nq_tags *t, nq_err *err)
{
    nq_buf sql = {0};
    if (t->n == 0)
        return NQ_OK;
    /* REPLACE: ids may have begun again, and the rows of an earlier task be there. */
    nq_buf_str(&sql, "REPLACE INTO {full:tags} (tag, task_id) VALUES ");
    for (size_t i = 0; i < t->n; i++)
        nq_buf_str(&sql, i ? ", (?, ?)" : "(?, ?)");
    const int rc =
        sql.failed ? nq_err_nomem(err) : nq_place_sql(t->place, sql.p, t->args, 2 * t->n, NULL, NULL, err);
    nq_buf_free(&sql);
    t->n = 0;
    return rc;
}

static int tags_put(nq_tags *t, nq_val tag, nq_id id, nq_err *err)
{
    const int rc = t->n == NQ_TAGS_CHUNK ? nq_tags_end(t, err) : NQ_OK;
    t->args[2 * t->n] = tag;
    t->args[2 * t->n++ + 1] = nq_int(id);
    return rc;
}

NQ_PLUG_IN int nq_tags_put(nq_tags *t, const nq_new *task, nq_id id, nq_err *err)
{
    int rc = NQ_OK;
    for (size_t i = 0; i < task->ntags && rc == NQ_OK; i++)
        rc = tags_put(t, nq_blob(task->tags[i], strlen(task->tags[i])), id, err);
    return rc;
}

NQ_PRIVATE int nq_tags_add(const nq_place *p, const nq_new *task, nq_id id, nq_err *err)
{
    if (task->ntags == 0)
        return NQ_OK;
    nq_tags t = {.place = p};
    const int rc = nq_tags_put(&t, task, id, err);
    return rc == NQ_OK ? nq_tags_end(&t, err) : rc;
}

NQ_PRIVATE bool nq_tags_in(const void *headers, size_t n)
{
    size_t at = 0, size;
    return n > 0 && n <= NQ_MAX_HEADERS_SIZE && nq_headers_next_tag(headers, n, &at, &size);
}

static int tags_headers_row(const nq_val cols[], size_t ncols, void *arg)
{
    nq_buf *headers = arg;
    (void)ncols;
    if (cols[0].n > 0 && cols[0].n <= NQ_MAX_HEADERS_SIZE)
        nq_buf_add(headers, cols[0].p, cols[0].n);
    return headers->failed ? NQ_ENOMEM : 0;
}

static int tags_of_headers(const nq_place *p, nq_id id, nq_err *err)
{
    const nq_val arg = nq_int(id);
    nq_buf headers = {0};
    nq_tags t = {.place = p};
    size_t at = 0, size = 0, most = NQ_MAX_TAGS;
    int rc = nq_place_sql(p, "SELECT {short:t.headers} FROM {full:tasks} t WHERE t.id = ?", &arg, 1,
                          tags_headers_row, &headers, err);
    for (const char *tag; rc == NQ_OK && headers.n && most-- > 0 &&
                          (tag = nq_headers_next_tag(headers.p, headers.n, &at, &size));)
        rc = tags_put(&t, nq_blob(tag, size), id, err);
    rc = rc == NQ_OK ? nq_tags_end(&t, err) : rc;
    nq_buf_free(&headers);
    return rc;
}

NQ_PRIVATE int nq_tags_renew(const nq_place *p, nq_id id, bool had, bool has, nq_err *err)
{
    const nq_val arg = nq_int(id);
    int rc = NQ_OK;
    if (id <= 0) /* one that plain SQL gave, and that never runs */
        return NQ_OK;
    if (had)
        rc = nq_place_sql(p, "DELETE FROM {full:tags} WHERE task_id = ?", &arg, 1, NULL, NULL, err);
    return rc == NQ_OK && has ? tags_of_headers(p, id, err) : rc;
}

/* ---- Sweeping ---- */

struct tags_sweep {
    size_t limit, n;
    int64_t from, to; /* ids above from, up to to; to 0: there are none */
    nq_buf sql;
    const nq_store *store;
};

static int tags_sweep_to(const nq_val cols[], size_t ncols, void *arg)
{
    struct tags_sweep *w = arg;
    (void)ncols;
    w->to = cols[0].type == NQ_VAL_INT ? cols[0].i : 0;
    return 0;
}

static int tags_sweep_row(const nq_val cols[], size_t ncols, void *arg)
{
    struct tags_sweep *w = arg;
    (void)ncols;
    nq_sql_list_id(w->store, &w->sql, cols[0].i);
    w->n++;
    return w->sql.failed ? NQ_ENOMEM : 0;
}

/* No transaction: a row that is not committed is not seen, and once its task is gone no other one comes under
 * its id. */
static int tags_sweep(nq_conn *c, void *arg, nq_err *err)
{
    struct tags_sweep *w = arg;
    const nq_val look[] = {nq_int(w->from), nq_int(TAGS_LOOK)};
    w->n = 0;
    w->to = 0;
    int rc = nq_sql(c,
                    "SELECT MAX(task_id) FROM (SELECT task_id FROM {tags} WHERE task_id > ? AND task_id <= "
                    "9223372036854775807 ORDER BY task_id LIMIT ?) g",
                    look, 2, tags_sweep_to, w, NULL, err);
    if (rc != NQ_OK || w->to <= w->from)
        return rc;
    const nq_val range[] = {nq_int(w->from), nq_int(w->to), nq_int((int64_t)w->limit)};
    nq_buf_clear(&w->sql);
    nq_buf_str(&w->sql, "{delete_by_key} {tags} WHERE task_id IN (");
    rc = nq_sql(c,
                "SELECT DISTINCT g.task_id FROM {tags} g LEFT JOIN {tasks} t ON t.id = g.task_id LEFT JOIN "
                "{finished} f ON f.id = g.task_id WHERE g.task_id > ? AND g.task_id <= ? AND t.id IS NULL "
                "AND f.id IS NULL LIMIT ?",
                range, 3, tags_sweep_row, w, NULL, err);
    if (rc != NQ_OK || w->n == 0)
        return rc;
    nq_buf_str(&w->sql, ") {at_most:9223372036854775807}");
    return w->sql.failed ? nq_err_nomem(err) : nq_sql(c, w->sql.p, NULL, 0, NULL, NULL, NULL, err);
}

NQ_PRIVATE int nq_store_tags_sweep(nq_store *s, size_t limit, size_t *n, nq_err *err)
{
    struct tags_sweep w = {.limit = limit, .from = atomic_load(&s->tags_swept), .store = s};
    const int rc = nq_store_do(s, tags_sweep, &w, err);
    if (rc == NQ_OK && w.n < limit)
        atomic_store(&s->tags_swept, w.to); /* 0: from the start */
    if (rc == NQ_OK)
        *n = w.n > 0 ? limit : 0;
    nq_buf_free(&w.sql);
    return rc;
}
