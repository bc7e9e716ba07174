/* SPDX-License-Identifier: MIT */
/* The lines that attempts have written. */
#include "logs.h"

#include "nanoq_logs.h"

/* ---- Writing ---- */

struct logs_add {
    const nq_log_line *const *lines;
    size_t n;
};

static int logs_insert(nq_conn *c, const struct logs_add *a, nq_err *err)
{
    nq_val args[6 * NQ_LOGS_CHUNK];
    nq_buf sql = {0};
    size_t n = 0;
    const int64_t now = nq_mono_us();
    /* Again is as once: whether a transaction took effect may be unknown. */
    nq_buf_str(&sql, "REPLACE INTO {logs} (task_id, generation, seq, at, level, line) VALUES ");
    for (size_t i = 0; i < a->n; i++) {
        const nq_log_line *line = a->lines[i];
        nq_buf_str(&sql, i ? ", (?, ?, ?, {after}, ?, ?)" : "(?, ?, ?, {after}, ?, ?)");
        args[n++] = nq_int(line->task);
        args[n++] = nq_int(line->generation);
        args[n++] = nq_int(line->seq);
        args[n++] = nq_int(line->at_us - now); /* by the database's clock, so long ago */
        args[n++] = nq_int(line->level);
        args[n++] = nq_blob(line->text, line->n);
    }
    const int rc = sql.failed ? nq_err_nomem(err) : nq_sql_once(c, sql.p, args, n, NULL, NULL, err);
    nq_buf_free(&sql);
    return rc;
}

static int logs_add(nq_conn *c, void *arg, nq_err *err)
{
    const struct logs_add *a = arg;
    int rc = NQ_OK;
    for (size_t i = 0; i < a->n && rc == NQ_OK; i++) {
        const nq_log_line *line = a->lines[i];
        const nq_val old[] = {nq_int(line->task), nq_int((int64_t)line->generation - NQ_MAX_LOG_RUNS)};
        if (line->seq == 1 && line->generation > NQ_MAX_LOG_RUNS)
            rc = nq_sql(c, "DELETE FROM {logs} WHERE task_id = ? AND generation <= ?", old, 2, NULL, NULL,
                        NULL, err);
    }
    return rc == NQ_OK ? logs_insert(c, a, err) : rc;
}

NQ_PRIVATE int nq_store_logs_add(nq_store *s, const nq_log_line *const lines[], size_t n, nq_err *err)
{
    struct logs_add a = {.lines = lines, .n = n};
    return nq_store_tx(s, logs_add, &a, err);
}

/* ---- Sweeping ---- */

NQ_PRIVATE int nq_store_logs_sweep(nq_store *s, size_t limit, size_t *n, nq_err *err)
{
    return nq_store_sweep_gone(s, "logs", &s->swept_logs, limit, n, err);
}
