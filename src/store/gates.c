/* SPDX-License-Identifier: MIT */
/* The gates of limited queues and groups: those that nobody needs any more go. */
#include "store.h"

struct gates_idle {
    nq_buf names; /* each with its zero, behind how often it was used */
    size_t n, limit;
};

static int gates_idle_row(const nq_val cols[], size_t ncols, void *arg)
{
    struct gates_idle *idle = arg;
    (void)ncols;
    if (cols[0].type != NQ_VAL_TEXT || memchr(cols[0].p, '\0', cols[0].n))
        return 0;
    nq_buf_add(&idle->names, &cols[1].i, sizeof cols[1].i);
    nq_buf_add(&idle->names, cols[0].p, cols[0].n);
    nq_buf_add(&idle->names, "", 1);
    idle->n++;
    return idle->names.failed ? NQ_ENOMEM : 0;
}

/* Groups come and go, queues stay. A row holds no count: should a task come just now, it is made anew. But
 * the time before which nothing is claimed, or starts, has to have come. And of an ordered group it names the
 * task that began last, which may halt it when it is dead; claims of those count, so that none is made
 * between the look and the DELETE. */
static int gates_sweep(nq_conn *c, void *arg, nq_err *err)
{
    struct gates_idle *idle = arg;
    const nq_val limit = nq_int((int64_t)idle->limit);
    nq_buf_clear(&idle->names);
    idle->n = 0;
    int rc =
        nq_sql(c,
               "SELECT g.queue, g.grants FROM {gates} g WHERE g.queue LIKE '%//%' AND "
               "(g.not_before IS NULL OR g.not_before < {now}) AND g.tat < {us:now} * 1000 AND NOT EXISTS "
               "(SELECT 1 FROM {tasks} t WHERE t.queue = g.queue) AND NOT EXISTS "
               "(SELECT 1 FROM {finished} f WHERE f.id = g.head AND f.state = 3) LIMIT ?",
               &limit, 1, gates_idle_row, idle, NULL, err);
    const char *name = idle->names.p;
    for (size_t i = 0; i < idle->n && rc == NQ_OK; i++, name += strlen(name) + 1) {
        int64_t grants;
        memcpy(&grants, name, sizeof grants);
        name += sizeof grants;
        const nq_val args[] = {nq_text(name), nq_int(grants)};
        rc = nq_sql(
            c,
            "DELETE FROM {gates} WHERE queue = ? AND grants = ? AND (not_before IS NULL OR not_before < "
            "{now}) AND tat < {us:now} * 1000",
            args, 2, NULL, NULL, NULL, err);
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
