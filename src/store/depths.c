/* SPDX-License-Identifier: MIT */
/* How many tasks each queue has of each state, counted up to a bound. */
#include <stdio.h>

#include "store.h"

/*
 * The names of the queues come from the indexes by jumps from one to the next, over all groups of a queue at
 * once. Each number is a bounded reading of the index in which its tasks stand side by side: waiting ones by
 * their priorities, so that what is due does not have to be looked for among what is not.
 */
#define DEPTHS_NAMES  64 /* of one look for names */
#define DEPTHS_LEVELS 16 /* more priorities are counted together */
#define DEPTHS_MOST   201

struct depths {
    nq_depth *all;
    size_t n, cap;
    nq_names names;
    nq_query q;
};

/* What a row counts: a number of the queue. */
enum depths_what {
    DEPTHS_DUE,
    DEPTHS_DELAYED,
    DEPTHS_RUNNING,
    DEPTHS_DONE,
    DEPTHS_DEAD,
    DEPTHS_CANCELLED,
    DEPTHS_GROUPS
};

static void depths_add(nq_depth *d, enum depths_what what, uint64_t n)
{
    uint64_t *const all[] = {&d->s.due,  &d->s.delayed,   &d->s.running, &d->s.done,
                             &d->s.dead, &d->s.cancelled, &d->s.groups};
    *all[what] += n;
    if (*all[what] > d->most) {
        *all[what] = d->most;
        d->s.capped |= 1u << what; /* as NQ_CAPPED_DUE and its like */
    }
}

/* ---- Names ---- */

static nq_depth *depths_of(struct depths *t, const char *name, size_t n)
{
    size_t i = 0;
    while (i < t->n && (strncmp(t->all[i].queue, name, n) != 0 || t->all[i].queue[n] != '\0'))
        i++;
    if (i < t->n)
        return &t->all[i];
    nq_depth *more = nq_grow(t->all, t->n, &t->cap, sizeof *more);
    if (!more)
        return NULL;
    t->all = more;
    more = &t->all[t->n++];
    memset(more, 0, sizeof *more);
    memcpy(more->queue, name, n);
    return more;
}

/* Whoever may INSERT gives the names. So the next look is from the last one that came, whatever it is, in the
 * server's own order; or behind all groups of its queue, where it is a group and that is further. */
static void depths_from(const nq_names *names, nq_buf *from)
{
    char jump[NQ_MAX_QUEUE + 4] = "";
    const char *name = names->n > 0 ? names->all[names->n - 1] : "";
    const size_t base = nq_group_base(name), n = strlen(name);
    nq_buf_clear(from);
    if (name[base] && n == names->last.n && memcmp(name, names->last.p, n) == 0)
        snprintf(jump, sizeof jump, "%.*s//\x7f", (int)base, name);
    if (strcmp(jump, name) > 0)
        nq_buf_str(from, jump);
    else
        nq_buf_add(from, names->last.p, names->last.n);
}

static int depths_read_names(nq_conn *c, struct depths *t, bool live, nq_buf *from, nq_err *err)
{
    int rc = NQ_OK;
    do {
        t->names.n = 0;
        const nq_val at = {NQ_VAL_TEXT, 0, from->n ? from->p : "", from->n};
        rc = from->failed ? nq_err_nomem(err)
                          : nq_names_read(c, &t->names, live, at, "\x7f", DEPTHS_NAMES, err);
        for (size_t i = 0; i < t->names.n && rc == NQ_OK; i++) {
            const char *name = t->names.all[i];
            const size_t base = nq_group_base(name);
            nq_depth *d = depths_of(t, name, base);
            if (!d)
                return nq_err_nomem(err);
            *(name[base] ? &d->grouped[live] : &d->self[live]) = true;
        }
        if (rc == NQ_OK)
            depths_from(&t->names, from);
    } while (rc == NQ_OK && t->names.rows == DEPTHS_NAMES);
    return rc;
}

static int depths_names(nq_conn *c, struct depths *t, bool live, nq_err *err)
{
    nq_buf from = {0};
    const int rc = depths_read_names(c, t, live, &from, err);
    nq_buf_free(&from);
    return rc;
}

/* ---- Numbers ---- */

struct depths_row {
    nq_depth *d;
    int64_t now_us;
};

static int depths_row(const nq_val cols[], size_t ncols, void *arg)
{
    (void)ncols;
    depths_add(arg, (enum depths_what)cols[0].i, (uint64_t)cols[1].i);
    return 0;
}

/* One more bounded count of index entries. */
static void depths_count(struct depths *t, enum depths_what what, const char *table, const char *queue,
                         int state)
{
    nq_buf_fmt(&t->q.sql,
               "%sSELECT %d, COUNT(*) FROM (SELECT 1 AS x FROM %s WHERE i.queue = ? AND i.state = %d",
               t->q.sql.n ? " UNION ALL " : "", (int)what, table, state);
    nq_query_arg(&t->q, nq_text(queue));
}

static void depths_count_end(struct depths *t, const nq_depth *d)
{
    nq_buf_fmt(&t->q.sql, " LIMIT %llu) c%zu", (unsigned long long)d->most + 1, t->q.n);
}

static void depths_level(struct depths *t, const nq_depth *d, int priority, int64_t now_us)
{
    for (int delayed = 0; delayed < 2; delayed++) {
        depths_count(t, delayed ? DEPTHS_DELAYED : DEPTHS_DUE, "{tasks} i {by_claim}", d->queue,
                     NQ_STATE_WAITING);
        nq_buf_fmt(&t->q.sql, " AND i.priority = %d AND i.run_at %s {at}", priority, delayed ? ">" : "<=");
        nq_query_arg(&t->q, nq_int(now_us));
        depths_count_end(t, d);
    }
}

/* Of all priorities together: some of them, where there are many. */
static void depths_mixed(struct depths *t, const nq_depth *d, int64_t now_us)
{
    nq_buf_fmt(
        &t->q.sql,
        "SELECT m.w, COUNT(*) FROM (SELECT CASE WHEN i.run_at <= {at} THEN 0 ELSE 1 END AS w FROM {tasks} i "
        "{by_claim} WHERE i.queue = ? AND i.state = 0 LIMIT %llu) m GROUP BY m.w",
        4 * (unsigned long long)d->most);
    nq_query_arg(&t->q, nq_int(now_us));
    nq_query_arg(&t->q, nq_text(d->queue));
}

static int depths_live(nq_conn *c, struct depths *t, nq_depth *d, nq_err *err)
{
    nq_level levels[DEPTHS_MOST];
    nq_look look = {.levels = levels, .max = DEPTHS_MOST};
    int rc = c->store->driver->levels(c, d->queue, &look, err);
    if (rc != NQ_OK)
        return rc;
    nq_query_clear(&t->q);
    const bool mixed = look.strange || look.n > DEPTHS_LEVELS;
    for (size_t i = 0; i < look.n && !mixed; i++)
        depths_level(t, d, levels[i].priority, look.now_us);
    for (size_t i = 0; i < look.n; i++) {
        const int64_t due = nq_us_since(look.now_us, levels[i].first_run_at);
        d->s.oldest_due_us = due > d->s.oldest_due_us ? due : d->s.oldest_due_us;
    }
    if (mixed)
        depths_mixed(t, d, look.now_us);
    depths_count(t, DEPTHS_RUNNING, "{tasks} i {by_claim}", d->queue, NQ_STATE_RUNNING);
    depths_count_end(t, d);
    rc = nq_query_run(c, &t->q, depths_row, d, err);
    if (mixed && d->s.due + d->s.delayed >= d->most)
        d->s.capped |= NQ_CAPPED_DUE | NQ_CAPPED_DELAYED;
    return rc;
}

static int depths_ended(nq_conn *c, struct depths *t, nq_depth *d, nq_err *err)
{
    static const enum depths_what whats[] = {DEPTHS_DONE, DEPTHS_DEAD, DEPTHS_CANCELLED};
    nq_query_clear(&t->q);
    for (int state = NQ_STATE_DONE; state <= NQ_STATE_CANCELLED; state++) {
        depths_count(t, whats[state - NQ_STATE_DONE], "{finished} i {by_history}", d->queue, state);
        depths_count_end(t, d);
    }
    return nq_query_run(c, &t->q, depths_row, d, err);
}

/* ---- Groups ---- */

/* Columns: of three states, the earliest run_at that is due, now; how many rows these are. */
static int depths_groups_row(const nq_val cols[], bool live, nq_depth *d)
{
    const int first = live ? DEPTHS_DUE : DEPTHS_DONE;
    for (int i = 0; i < 3; i++)
        depths_add(d, (enum depths_what)(first + i), (uint64_t)cols[i].i);
    if (live && cols[3].type == NQ_VAL_INT) {
        const int64_t due = nq_us_since(cols[4].i, cols[3].i);
        d->s.oldest_due_us = due > d->s.oldest_due_us ? due : d->s.oldest_due_us;
    }
    if ((uint64_t)cols[5].i > d->most)
        d->s.capped |= NQ_CAPPED_GROUPS | (live ? NQ_CAPPED_DUE | NQ_CAPPED_DELAYED | NQ_CAPPED_RUNNING
                                                : NQ_CAPPED_DONE | NQ_CAPPED_DEAD | NQ_CAPPED_CANCELLED);
    return 0;
}

static int depths_groups_live(const nq_val cols[], size_t ncols, void *arg)
{
    (void)ncols;
    return depths_groups_row(cols, true, arg);
}

static int depths_groups_ended(const nq_val cols[], size_t ncols, void *arg)
{
    (void)ncols;
    return depths_groups_row(cols, false, arg);
}

/* Columns: how many names, those of tasks set apart by their type are none of groups. */
static int depths_groups_named(const nq_val cols[], size_t ncols, void *arg)
{
    (void)ncols;
    depths_add(arg, DEPTHS_GROUPS, (uint64_t)cols[0].i);
    return 0;
}

#define DEPTHS_RANGE(columns, table, index)                                                                  \
    "(SELECT " columns " FROM {" table "} i {" index "} WHERE i.queue > ? AND i.queue < ? LIMIT ?)"

static int depths_groups(nq_conn *c, nq_depth *d, nq_err *err)
{
    char from[NQ_MAX_QUEUE + 4], to[NQ_MAX_QUEUE + 4];
    snprintf(from, sizeof from, "%s//", d->queue);
    snprintf(to, sizeof to, "%s/0", d->queue);
    const nq_val most = nq_int((int64_t)d->most + 1);
    const nq_val args[] = {nq_text(from),
                           nq_text(to),
                           most,
                           nq_text(from),
                           nq_text(to),
                           most,
                           nq_int((int64_t)strlen(from) + 1)};
    int rc = NQ_OK;
    if (d->grouped[1])
        rc = nq_sql_once(
            c,
            "SELECT COUNT(CASE WHEN g.state = 0 AND g.run_at <= {now} THEN 1 END), "
            "COUNT(CASE WHEN g.state = 0 AND g.run_at > {now} THEN 1 END), "
            "COUNT(CASE WHEN g.state = 1 THEN 1 END), "
            "{us:MIN(CASE WHEN g.state = 0 AND g.run_at <= {now} THEN g.run_at END)}, {us:now}, COUNT(*) "
            "FROM " DEPTHS_RANGE("i.state, i.run_at", "tasks", "by_claim") " g",
            args, 3, depths_groups_live, d, err);
    if (rc == NQ_OK && d->grouped[0])
        rc = nq_sql_once(
            c,
            "SELECT COUNT(CASE WHEN g.state = 2 THEN 1 END), COUNT(CASE WHEN g.state = 3 THEN 1 END), "
            "COUNT(CASE WHEN g.state = 4 THEN 1 END), NULL, 0, COUNT(*) FROM " DEPTHS_RANGE(
                "i.state", "finished", "by_history") " g",
            args, 3, depths_groups_ended, d, err);
    if (rc == NQ_OK)
        rc = nq_sql_once(
            c,
            "SELECT COUNT(DISTINCT g.queue) FROM (SELECT a.queue FROM " DEPTHS_RANGE(
                "i.queue", "tasks",
                "by_claim") " a UNION ALL SELECT b.queue FROM " DEPTHS_RANGE("i.queue", "finished",
                                                                             "by_history") " b) g WHERE "
                                                                                           "SUBSTR(g.queue, "
                                                                                           "?, 1) <> ':'",
            args, 7, depths_groups_named, d, err);
    return rc;
}

/* ---- All ---- */

static int depths_order(const void *a, const void *b)
{
    return strcmp(((const nq_depth *)a)->queue, ((const nq_depth *)b)->queue);
}

/* Repeatable. */
static int depths_run(nq_conn *c, void *arg, nq_err *err)
{
    struct depths *t = arg;
    t->n = 0;
    int rc = depths_names(c, t, true, err);
    if (rc == NQ_OK)
        rc = depths_names(c, t, false, err);
    const uint64_t share = NQ_DEPTH_ALL / (t->n > 0 ? t->n : 1);
    const uint64_t least = share > NQ_DEPTH_LEAST ? share : NQ_DEPTH_LEAST;
    const uint64_t most = least < NQ_DEPTH_MOST ? least : NQ_DEPTH_MOST;
    for (size_t i = 0; i < t->n && rc == NQ_OK; i++) {
        nq_depth *d = &t->all[i];
        d->most = most;
        if (d->self[1])
            rc = depths_live(c, t, d, err);
        if (rc == NQ_OK && d->self[0])
            rc = depths_ended(c, t, d, err);
        if (rc == NQ_OK && (d->grouped[0] || d->grouped[1]))
            rc = depths_groups(c, d, err);
    }
    return rc;
}

NQ_PRIVATE int nq_store_depths(nq_store *s, nq_depth **out, size_t *n, nq_err *err)
{
    struct depths t = {.n = 0};
    const int rc = nq_store_do(s, depths_run, &t, err);
    if (t.n > 1)
        qsort(t.all, t.n, sizeof *t.all, depths_order);
    nq_names_free(&t.names);
    nq_query_free(&t.q);
    if (rc != NQ_OK) {
        free(t.all);
        return rc;
    }
    *out = t.all;
    *n = t.n;
    return NQ_OK;
}
