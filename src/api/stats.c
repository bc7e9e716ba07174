/* SPDX-License-Identifier: MIT */
/* Counts of tasks per queue: each row of both tables, or up to a bound. */
#include "api.h"

struct stats_one {
    nq_queue_stats s;
    char queue[NQ_MAX_QUEUE + 1]; /* cut behind the base */
    size_t group;                 /* where in it the name of the row's group is; 0: it has none */
};

/* Both tables' rows, a row for each queue and each group. */
struct stats_all {
    struct stats_one *all;
    size_t n, cap;
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
    const char *group = nq_group_split(at->queue);
    at->group = group ? (size_t)(group - at->queue) : 0;
    return 0;
}

/* By the names of the queues; the groups of one by theirs, both tables' of a group beside each other. */
static int stats_order(const void *a, const void *b)
{
    const struct stats_one *x = a, *y = b;
    const int order = strcmp(x->queue, y->queue);
    if (order || !x->group != !y->group)
        return order ? order : x->group ? 1 : -1;
    return x->group ? strcmp(x->queue + x->group, y->queue + y->group) : 0;
}

/* Count all rows of a queue and its groups in the first; where the next queue begins. */
static size_t stats_sum(struct stats_one *all, size_t i, size_t n)
{
    nq_queue_stats *s = &all[i].s;
    size_t k = i;
    for (; k < n && strcmp(all[k].queue, all[i].queue) == 0; k++) {
        const nq_queue_stats *t = &all[k].s;
        s->groups += all[k].group > 0 &&
                     all[k].queue[all[k].group] != ':' && /* of tasks set apart: no group */
                     (k == i || stats_order(&all[k], &all[k - 1]) != 0);
        if (k == i)
            continue;
        s->due += t->due;
        s->delayed += t->delayed;
        s->running += t->running;
        s->done += t->done;
        s->dead += t->dead;
        s->cancelled += t->cancelled;
        s->oldest_due_us = t->oldest_due_us > s->oldest_due_us ? t->oldest_due_us : s->oldest_due_us;
    }
    s->queue = all[i].queue;
    return k;
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
    if (rc == NQ_OK)
        rc = nq_sql(c,
                    "SELECT queue, COUNT(CASE WHEN state = 2 THEN 1 END), "
                    "COUNT(CASE WHEN state = 3 THEN 1 END), COUNT(CASE WHEN state = 4 THEN 1 END) "
                    "FROM {finished} GROUP BY queue ORDER BY queue",
                    NULL, 0, stats_ended_row, t, NULL, err);
    return rc;
}

NQ_API int nq_stats_exact(nq *q, nq_stats_fn fn, void *udata, nq_err *err)
{
    struct stats_all t = {0};
    size_t next = 0;
    int rc = nq_usable(q, err);
    if (rc != NQ_OK)
        return rc;
    if (!fn)
        return nq_err_set(err, NQ_EINVAL, "no function to count with was given");
    if ((rc = nq_ready(q, err)) != NQ_OK)
        return rc;
    rc = nq_store_do(nq_store_of(q), stats_all_run, &t, err);
    if (rc == NQ_OK && t.n > 0)
        qsort(t.all, t.n, sizeof *t.all, stats_order);
    for (size_t i = 0; rc == NQ_OK && i < t.n; i = next) {
        next = stats_sum(t.all, i, t.n);
        if (fn(&t.all[i].s, udata))
            break;
    }
    free(t.all);
    return rc;
}

NQ_API int nq_stats(nq *q, nq_stats_fn fn, void *udata, nq_err *err)
{
    nq_depth *all = NULL;
    size_t n = 0;
    int rc = nq_usable(q, err);
    if (rc != NQ_OK)
        return rc;
    if (!fn)
        return nq_err_set(err, NQ_EINVAL, "no function to count with was given");
    if ((rc = nq_ready(q, err)) != NQ_OK || (rc = nq_store_depths(nq_store_of(q), &all, &n, err)) != NQ_OK)
        return rc;
    for (size_t i = 0; i < n; i++) {
        all[i].s.queue = all[i].queue;
        if (fn(&all[i].s, udata))
            break;
    }
    free(all);
    return NQ_OK;
}
