/* SPDX-License-Identifier: MIT */
/* The gates of limited queues and groups: those that nobody needs any more go; what they say. */
#include "settings.h"

struct gates_idle {
    nq_buf names; /* each with its zero, behind what was seen of it: grants and tat */
    size_t n, limit;
};

static int gates_idle_row(const nq_val cols[], size_t ncols, void *arg)
{
    struct gates_idle *idle = arg;
    (void)ncols;
    if (cols[0].type != NQ_VAL_TEXT || memchr(cols[0].p, '\0', cols[0].n) || cols[2].type != NQ_VAL_INT)
        return 0;
    nq_buf_add(&idle->names, &cols[1].i, sizeof cols[1].i);
    nq_buf_add(&idle->names, &cols[2].i, sizeof cols[2].i);
    nq_buf_add(&idle->names, cols[0].p, cols[0].n);
    nq_buf_add(&idle->names, "", 1);
    idle->n++;
    return idle->names.failed ? NQ_ENOMEM : 0;
}

/* So long, in ns, a quiet time takes to save up the burst of a group's rate, to which its own row and that of
 * each group may both give a part; and a second for what the default burst is. */
#define GATES_BURST                                                                                          \
    "COALESCE((SELECT MAX(CASE WHEN q.burst > 1 THEN q.burst ELSE 1 END) * "                                 \
    "MAX(CASE WHEN q.rate > 0 THEN q.rate_us * 1000.0 / q.rate ELSE 0 END) + 1000000000.0 "                  \
    "FROM {queues} q WHERE (q.name = g.queue OR q.name = {each:{base:g.queue}})), 0)"

/* As NOT EXISTS, of which MariaDB may make one reading of all tasks. */
#define GATES_NO_TASK    "COALESCE((SELECT 1 FROM {tasks} t WHERE t.queue = g.queue LIMIT 1), 0) = 0"
#define GATES_HALTS_NONE "COALESCE((SELECT 1 FROM {finished} f WHERE f.id = g.head AND f.state = 3), 0) = 0"

/* Groups come and go, queues stay. A row holds no count: should a task come just now, it is made anew. But
 * the time before which nothing is claimed has to have come, and the rate's tokens have to be all there
 * again, or the next tasks would have a second burst. And of an ordered group it names the task that began
 * last, which may halt it when it is dead. Claims write grants or tat, so that none is made between the look
 * and the DELETE. */
static int gates_sweep(nq_conn *c, void *arg, nq_err *err)
{
    struct gates_idle *idle = arg;
    const nq_val limit = nq_int((int64_t)idle->limit);
    nq_buf_clear(&idle->names);
    idle->n = 0;
    int rc = nq_sql(c,
                    "SELECT g.queue, g.grants, g.tat FROM {gates} g WHERE g.queue LIKE '%//%' AND "
                    "(g.not_before IS NULL OR g.not_before < {now}) AND g.tat < {us:now} * 1000 "
                    "AND " GATES_NO_TASK " AND " GATES_HALTS_NONE
                    " AND g.tat < {us:now} * 1000.0 - " GATES_BURST " LIMIT ?",
                    &limit, 1, gates_idle_row, idle, NULL, err);
    const char *name = idle->names.p;
    for (size_t i = 0; i < idle->n && rc == NQ_OK; i++, name += strlen(name) + 1) {
        int64_t seen[2];
        memcpy(seen, name, sizeof seen);
        name += sizeof seen;
        const nq_val args[] = {nq_text(name), nq_int(seen[0]), nq_int(seen[1])};
        rc = nq_sql(c,
                    "DELETE FROM {gates} WHERE queue = ? AND grants = ? AND tat = ? AND (not_before IS NULL "
                    "OR not_before < {now})",
                    args, 3, NULL, NULL, NULL, err);
    }
    return rc;
}

NQ_PRIVATE int nq_store_gates_sweep(nq_store *s, size_t limit, size_t *n, nq_err *err)
{
    struct gates_idle idle = {.limit = limit};
    const int rc = nq_store_do(s, gates_sweep, &idle, err);
    if (rc == NQ_OK)
        *n = idle.n;
    nq_buf_free(&idle.names);
    return rc;
}

/* ---- What they say ---- */

static int gates_row(const nq_val cols[], size_t ncols, void *arg)
{
    nq_gate_rows *rows = arg;
    (void)ncols;
    if (cols[0].type != NQ_VAL_TEXT || cols[0].n > NQ_MAX_QUEUE || memchr(cols[0].p, '\0', cols[0].n))
        return 0;
    nq_gate_row *more = nq_grow(rows->all, rows->n, &rows->cap, sizeof *more);
    if (!more)
        return NQ_ENOMEM;
    rows->all = more;
    nq_gate_row *to = &rows->all[rows->n++];
    *to = (nq_gate_row){.tat_ns = cols[1].type == NQ_VAL_INT ? cols[1].i : 0,
                        .held_until_us = cols[2].type == NQ_VAL_INT && cols[2].i > cols[3].i ? cols[2].i : 0,
                        .now_us = cols[3].i,
                        .dead = cols[4].type == NQ_VAL_INT ? cols[4].i : 0};
    memcpy(to->name, cols[0].p, cols[0].n);
    return 0;
}

static int gates_read(nq_conn *c, void *arg, nq_err *err)
{
    nq_gate_rows *rows = arg;
    rows->n = 0; /* it may be the second try */
    return nq_sql(
        c,
        "SELECT g.queue, g.tat, {us:g.not_before}, {us:now}, f.id FROM {gates} g LEFT JOIN {finished} "
        "f ON f.id = g.head AND f.queue = g.queue AND f.state = 3 WHERE g.not_before > {now} OR f.id "
        "IS NOT NULL OR EXISTS (SELECT 1 FROM {queues} q WHERE q.name = g.queue) LIMIT 10000",
        NULL, 0, gates_row, rows, NULL, err);
}

static int gates_compare(const void *a, const void *b)
{
    return strcmp(((const nq_gate_row *)a)->name, ((const nq_gate_row *)b)->name);
}

NQ_PRIVATE int nq_store_gates(nq_gate_rows *out, nq_store *s, nq_err *err)
{
    *out = (nq_gate_rows){.n = 0};
    const int rc = nq_store_do(s, gates_read, out, err);
    if (rc == NQ_OK && out->n > 1)
        qsort(out->all, out->n, sizeof *out->all, gates_compare);
    if (rc != NQ_OK) {
        free(out->all);
        *out = (nq_gate_rows){.n = 0};
    }
    return rc;
}
