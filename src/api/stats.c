/* SPDX-License-Identifier: MIT */
/* Counts of tasks per queue. */
#include "api.h"

struct stats_one {
    nq_queue_stats s;
    char queue[NQ_MAX_QUEUE + 1];
};

/* Both tables' rows; each table's come in order of name. */
struct stats_all {
    struct stats_one *all;
    size_t n, cap, live; /* the first `live` are of the tasks */
};

static int stats_all_add(struct stats_all *t, const nq_val *queue, const nq_queue_stats *s)
{
    struct stats_one *more = nq_grow(t->all, t->n, &t->cap, sizeof *more);
    if (!more)
        return NQ_ENOMEM;
    t->all = more;
    struct stats_one *at = &t->all[t->n++];
    const size_t n = queue->n > NQ_MAX_QUEUE ? NQ_MAX_QUEUE : queue->n;
    at->s = *s;
    if (n > 0)
        memcpy(at->queue, queue->p, n);
    at->queue[n] = '\0';
    return 0;
}

static int stats_live_row(const nq_val cols[], size_t ncols, void *arg)
{
    const nq_queue_stats s = {.due = (uint64_t)cols[1].i,
                              .delayed = (uint64_t)cols[2].i,
                              .running = (uint64_t)cols[3].i,
                              .oldest_due_us =
                                  cols[4].type == NQ_VAL_NULL ? 0 : nq_us_since(cols[5].i, cols[4].i)};
    (void)ncols;
    return stats_all_add(arg, &cols[0], &s);
}

static int stats_ended_row(const nq_val cols[], size_t ncols, void *arg)
{
    const nq_queue_stats s = {
        .done = (uint64_t)cols[1].i, .dead = (uint64_t)cols[2].i, .cancelled = (uint64_t)cols[3].i};
    (void)ncols;
    return stats_all_add(arg, &cols[0], &s);
}

static int stats_all_run(nq_conn *c, void *arg, nq_err *err)
{
    struct stats_all *t = arg;
    int rc;
    t->n = 0;
    rc = nq_sql(c,
                "SELECT queue, COUNT(CASE WHEN state = 0 AND run_at <= {now} THEN 1 END), "
                "COUNT(CASE WHEN state = 0 AND run_at > {now} THEN 1 END), "
                "COUNT(CASE WHEN state = 1 THEN 1 END), "
                "{us:MIN(CASE WHEN state = 0 AND run_at <= {now} THEN run_at END)}, {us:now} "
                "FROM {tasks} GROUP BY queue ORDER BY queue",
                NULL, 0, stats_live_row, t, NULL, err);
    t->live = t->n;
    if (rc == NQ_OK)
        rc = nq_sql(c,
                    "SELECT queue, COUNT(CASE WHEN state = 2 THEN 1 END), "
                    "COUNT(CASE WHEN state = 3 THEN 1 END), COUNT(CASE WHEN state = 4 THEN 1 END) "
                    "FROM {finished} GROUP BY queue ORDER BY queue",
                    NULL, 0, stats_ended_row, t, NULL, err);
    return rc;
}

NQ_API int nq_stats(nq *q, nq_stats_fn fn, void *udata, nq_err *err)
{
    struct stats_all t = {0};
    size_t i = 0, j;
    int rc = nq_usable(q, err);
    if (rc != NQ_OK)
        return rc;
    if (!fn)
        return nq_err_set(err, NQ_EINVAL, "no function to count with was given");
    if ((rc = nq_ready(q, err)) != NQ_OK)
        return rc;
    rc = nq_store_do(nq_store_of(q), stats_all_run, &t, err);
    for (j = t.live; rc == NQ_OK && (i < t.live || j < t.n);) {
        const int order = i == t.live ? 1 : j == t.n ? -1 : strcmp(t.all[i].queue, t.all[j].queue);
        struct stats_one *at = order <= 0 ? &t.all[i++] : &t.all[j];
        if (order == 0) {
            at->s.done = t.all[j].s.done;
            at->s.dead = t.all[j].s.dead;
            at->s.cancelled = t.all[j].s.cancelled;
        }
        j += order >= 0;
        at->s.queue = at->queue;
        if (fn(&at->s, udata))
            break;
    }
    free(t.all);
    return rc;
}
