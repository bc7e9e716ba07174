/* SPDX-License-Identifier: MIT */
/* nq_bulk: many tasks at once, by a filter. */
#include "api.h"

/*
 * Ids are looked for without locks, a page at a time; then batches of them are moved, each in a transaction
 * of its own (store/moves.c), which looks again whether they match. The cursor goes up by ids, of which none
 * that is new counts: so it ends.
 *
 * Without a rate it pauses after each batch for four times as long as that took: so it has no more than a
 * fifth of what the database can do, and the workers the rest.
 */

#define BULK_PAGE      1000
#define BULK_PER_RATE  5 /* batches a second, of a rate */
#define BULK_PAUSES    4
#define BULK_PAUSE_MAX NQ_MS(500)

struct bulk {
    nq *q;
    enum nq_bulk_action action;
    nq_bulk_options opts;
    nq_filter filter;
    nq_where where;
    nq_bulk_counts counts;
    nq_hit hits[BULK_PAGE];
    size_t nhits, at;
    nq_moved batch[NQ_BULK_BATCH];
    nq_id ids[NQ_BULK_BATCH];
    int64_t start_us;
};

/* ---- What is asked for ---- */

static const struct bulk_action {
    const char *verb;
    unsigned may, usual; /* states in which it can be done, and where none is named */
} bulk_actions[] = {
#define BULK_BIT(state) NQ_STATE_BIT(NQ_STATE_##state)
#define BULK_ENDED      (BULK_BIT(DONE) | BULK_BIT(DEAD) | BULK_BIT(CANCELLED))
    [NQ_BULK_RETRY] = {"retried", BULK_BIT(WAITING) | BULK_ENDED, BULK_BIT(DEAD)},
    [NQ_BULK_CANCEL] = {"cancelled", BULK_BIT(WAITING) | BULK_BIT(RUNNING),
                        BULK_BIT(WAITING) | BULK_BIT(RUNNING)},
    [NQ_BULK_DELETE] = {"deleted", BULK_BIT(WAITING) | BULK_ENDED, BULK_ENDED},
    [NQ_BULK_MOVE] = {"moved to another queue", BULK_BIT(WAITING), BULK_BIT(WAITING)},
    [NQ_BULK_PRIORITY] = {"given another priority", BULK_BIT(WAITING), BULK_BIT(WAITING)}};
#define BULK_ANY (BULK_BIT(WAITING) | BULK_BIT(RUNNING) | BULK_ENDED)

/* Does it say nothing but, perhaps, that tasks may be in any state? */
static bool bulk_means_all(const nq_filter *f)
{
    return f->nids == 0 && f->nqueues == 0 && f->ntypes == 0 && f->ntags == 0 && !f->error && !f->text &&
           !f->worker && f->since_us == 0 && f->until_us == 0 && (f->states & BULK_ANY) % BULK_ANY == 0;
}

static int bulk_check(struct bulk *b, nq_err *err)
{
    nq_bulk_options *o = &b->opts;
    o->priority = (int)nq_option(o->priority, 0);
    if ((int)b->action < NQ_BULK_RETRY || (int)b->action > NQ_BULK_PRIORITY)
        return nq_err_set(err, NQ_EINVAL, "action is %d; see enum nq_bulk_action", (int)b->action);
    if (bulk_means_all(&b->filter) && !o->all)
        return nq_err_set(
            err, NQ_EINVAL,
            "the filter means every task: set a field of it, or the option all if that is meant");
    if (b->action == NQ_BULK_MOVE && !o->queue)
        return nq_err_set(err, NQ_EINVAL, "no queue is given to move tasks to");
    if (b->action == NQ_BULK_PRIORITY && (o->priority < NQ_MIN_PRIORITY || o->priority > NQ_MAX_PRIORITY))
        return nq_err_set(err, NQ_EINVAL, "priority is %d, allowed are %d to %d", o->priority,
                          NQ_MIN_PRIORITY, NQ_MAX_PRIORITY);
    return o->queue ? nq_check_queue(o->queue, err) : NQ_OK;
}

static int bulk_where(struct bulk *b, nq_err *err)
{
    const struct bulk_action *a = &bulk_actions[b->action];
    if (b->filter.states == 0 && b->filter.nids == 0)
        b->filter.states = a->usual;
    const int rc = nq_where_init(&b->where, &b->filter, true, err);
    if (rc != NQ_OK || (b->where.states & a->may))
        return rc;
    return nq_err_set(err, NQ_EINVAL, "tasks in the states that the filter means cannot be %s", a->verb);
}

/* ---- Which tasks ---- */

static int bulk_last_row(const nq_val cols[], size_t ncols, void *arg)
{
    nq_id *last = arg;
    (void)ncols;
    if (cols[0].type == NQ_VAL_INT && cols[0].i > *last)
        *last = cols[0].i;
    return 0;
}

static int bulk_last(nq_conn *c, void *arg, nq_err *err)
{
    return nq_sql(c,
                  "SELECT MAX(id) FROM {tasks} WHERE id <= 9223372036854775807 UNION ALL "
                  "SELECT MAX(id) FROM {finished} WHERE id <= 9223372036854775807",
                  NULL, 0, bulk_last_row, arg, NULL, err);
}

/* The next page; *end: there is no other behind it. */
static int bulk_find(struct bulk *b, bool *end, nq_err *err)
{
    nq_id reached = 0;
    b->at = 0;
    const int rc = nq_store_find(nq_store_of(b->q), &b->where, false, b->counts.reached, b->hits, BULK_PAGE,
                                 &b->nhits, &reached, end, err);
    if (rc != NQ_OK)
        return rc;
    while (b->nhits > 0 && b->hits[b->nhits - 1].id > b->counts.last) {
        b->nhits--;
        *end = true;
    }
    if (*end || reached >= b->counts.last) {
        *end = true;
        reached = b->counts.last;
    }
    if (b->nhits == 0)
        b->counts.reached = reached;
    return NQ_OK;
}

/* ---- A batch ---- */

/* What became of it is told to who waits for that. */
static void bulk_tell(struct bulk *b, size_t n)
{
    const uint64_t any = NQ_HINT_ANY, queue = b->opts.queue ? nq_hint_queue(b->opts.queue) : NQ_HINT_ANY;
    size_t done = 0, asked = 0;
    for (size_t i = 0; i < n; i++) {
        if (b->batch[i].result != NQ_OK)
            continue;
        if (b->batch[i].state == NQ_STATE_RUNNING)
            asked++;
        else
            b->ids[done++] = b->batch[i].id;
    }
    if (asked > 0)
        nq_wake_look(b->q);
    if (done > 0 && (b->action == NQ_BULK_CANCEL || b->action == NQ_BULK_DELETE))
        nq_hints_ended(nq_hints_of(b->q), b->ids, done);
    else if (done > 0)
        nq_wake(b->q, b->action == NQ_BULK_MOVE ? &queue : &any, 1, 0);
}

static void bulk_count(nq_bulk_counts *c, const nq_moved *t)
{
    uint64_t *const of = t->result == NQ_OK           ? &c->done
                         : t->result == NQ_ENOTFOUND  ? &c->changed
                         : t->result == NQ_ESTATE     ? &c->state
                         : t->result == NQ_EDUPLICATE ? &c->duplicates
                         : t->result == NQ_ECONFLICT  ? &c->locked
                                                      : &c->refused;
    ++*of;
    c->found++;
    c->asked += t->result == NQ_OK && t->state == NQ_STATE_RUNNING;
}

/* Those of the page that come next, as many as the limit and the rate leave. */
static size_t bulk_take(struct bulk *b)
{
    size_t n = b->nhits - b->at, most = NQ_BULK_BATCH;
    if (b->opts.per_second > 0 && b->opts.per_second / BULK_PER_RATE < most)
        most = b->opts.per_second / BULK_PER_RATE;
    most = most > 0 ? most : 1;
    if (b->opts.limit > 0 && b->opts.limit - b->counts.done < most)
        most = (size_t)(b->opts.limit - b->counts.done);
    n = n < most ? n : most;
    for (size_t i = 0; i < n; i++)
        b->batch[i] = (nq_moved){.id = b->hits[b->at + i].id};
    return n;
}

/* So long after the start no more than these may have been done. */
static int64_t bulk_due(uint64_t done, unsigned per_second)
{
    return (int64_t)(done / per_second * (uint64_t)NQ_SECONDS(1) +
                     done % per_second * (uint64_t)NQ_SECONDS(1) / per_second);
}

static void bulk_pace(const struct bulk *b, int64_t began_us)
{
    const int64_t now = nq_mono_us(), took = now - began_us;
    const int64_t pause = b->opts.per_second > 0
                              ? b->start_us + bulk_due(b->counts.done, b->opts.per_second) - now
                              : (took < BULK_PAUSE_MAX / BULK_PAUSES ? BULK_PAUSES * took : BULK_PAUSE_MAX);
    if (pause > 0)
        nq_sleep_us(pause);
}

static int bulk_batch(struct bulk *b, nq_err *err)
{
    static const enum nq_moves_what what[] = {[NQ_BULK_RETRY] = NQ_MOVES_RETRY,
                                              [NQ_BULK_CANCEL] = NQ_MOVES_CANCEL,
                                              [NQ_BULK_DELETE] = NQ_MOVES_DELETE,
                                              [NQ_BULK_MOVE] = NQ_MOVES_QUEUE,
                                              [NQ_BULK_PRIORITY] = NQ_MOVES_PRIORITY};
    const size_t n = bulk_take(b);
    nq_moves m = {.what = what[b->action],
                  .all = b->batch,
                  .n = n,
                  .where = &b->where,
                  .queue = b->opts.queue,
                  .priority = b->opts.priority};
    const int rc = nq_store_move(nq_store_of(b->q), &m, err);
    if (rc != NQ_OK)
        return rc;
    for (size_t i = 0; i < n; i++)
        bulk_count(&b->counts, &b->batch[i]);
    b->at += n;
    b->counts.reached = b->batch[n - 1].id;
    bulk_tell(b, n);
    return NQ_OK;
}

/* The whole page, of which nothing is changed. */
static void bulk_dry(struct bulk *b)
{
    for (; b->at < b->nhits && (b->opts.limit == 0 || b->counts.done < b->opts.limit); b->at++) {
        const nq_hit *h = &b->hits[b->at];
        const bool may = bulk_actions[b->action].may & NQ_STATE_BIT(h->state);
        bulk_count(&b->counts, &(nq_moved){h->id, h->state, may ? NQ_OK : NQ_ESTATE});
        b->counts.reached = h->id;
    }
}

/* ---- All of them ---- */

static bool bulk_stops(struct bulk *b, bool more)
{
    const nq_bulk_options *o = &b->opts;
    const bool full = o->limit > 0 && b->counts.done >= o->limit;
    const bool told = o->progress && o->progress(&b->counts, o->udata);
    b->counts.stopped = more && (full || told);
    return full || told;
}

static int bulk_run(struct bulk *b, nq_err *err)
{
    bool end = false;
    int rc = nq_store_do(nq_store_of(b->q), bulk_last, &b->counts.last, err);
    b->start_us = nq_mono_us();
    while (rc == NQ_OK) {
        const int64_t began = nq_mono_us();
        if (b->at == b->nhits && !end)
            rc = bulk_find(b, &end, err);
        if (rc != NQ_OK || (b->at == b->nhits && end))
            break;
        if (b->opts.dry_run)
            bulk_dry(b);
        else if (b->at < b->nhits)
            rc = bulk_batch(b, err);
        if (rc != NQ_OK || bulk_stops(b, b->at < b->nhits || !end))
            break;
        if (!b->opts.dry_run)
            bulk_pace(b, began);
    }
    if (rc == NQ_OK && !b->counts.stopped && end && b->at == b->nhits)
        b->counts.reached = b->counts.last;
    return rc;
}

NQ_API int nq_bulk(nq *q, const nq_filter *filter, enum nq_bulk_action action, const nq_bulk_options *opts,
                   nq_bulk_counts *counts, nq_err *err)
{
    struct bulk *b = calloc(1, sizeof *b);
    int rc = b ? nq_usable(q, err) : nq_err_nomem(err);
    if (!b)
        return rc;
    b->q = q;
    b->action = action;
    if (rc == NQ_OK &&
        (rc = nq_options_copy(&b->opts, sizeof b->opts, opts, "nq_bulk_options", err)) == NQ_OK &&
        (rc = nq_options_copy(&b->filter, sizeof b->filter, filter, "nq_filter", err)) == NQ_OK &&
        (rc = bulk_check(b, err)) == NQ_OK && (rc = bulk_where(b, err)) == NQ_OK &&
        (rc = nq_ready(q, err)) == NQ_OK)
        rc = bulk_run(b, err);
    if (counts && counts->size >= sizeof counts->size) {
        const size_t size = counts->size;
        b->counts.size = size;
        memcpy(counts, &b->counts, size < sizeof b->counts ? size : sizeof b->counts);
    }
    nq_where_free(&b->where);
    free(b);
    return rc;
}
