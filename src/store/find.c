/* SPDX-License-Identifier: MIT */
/* A page of the tasks that a filter means, in the order of their ids, of both tables. */
#include "store.h"

/*
 * What is frequent is found soon by going through the ids: in windows, each of which is one statement over
 * both tables, so that each task is seen once, whatever moves from one to the other meanwhile. A window has
 * at most so many tasks of each table, for which a look at the primary key says where it ends. After the
 * first windows an index may lead to the rest, see plan.c. Otherwise it stops after `look` tasks, or when
 * these have taken too long: 80 ms for 100,000, so that a page of them takes less than 100.
 *
 * With a tag the windows are of its rows, whose order is that of ids: that is an index for all of it. With
 * ids these are looked up, some in a statement.
 */
#define FIND_FIRST    1000
#define FIND_TRY      5000 /* tasks after which an index is looked for */
#define FIND_GROWTH   4
#define FIND_LEAST_US 20000
#define FIND_IDS      500 /* of a statement; of a longer list MariaDB makes a table, and reads that */
#define FIND_TASK_US  0.8 /* in the mean; payloads of any size are searched */

struct find {
    nq_find *f;
    bool unsigned_ids;
    nq_plan plan;
    nq_query q;
    nq_id at, end;    /* of the window: what was looked at before, and its last id; 0: to the end */
    bool tag;         /* the windows are of the first tag */
    bool planned;     /* by the plan's indexes */
    const nq_id *ids; /* nids of them, where the window is of these */
    size_t nids;
    nq_id last;
};

/* Ids in the order of the page between the place that was reached and the end of the window. */
static void find_bounds(struct find *s, const char *id, bool end)
{
    const nq_find *f = s->f;
    const nq_id above = f->falling ? f->above : s->at, below = f->falling ? s->at : f->below;
    if (above) {
        nq_buf_fmt(&s->q.sql, " AND %s > ?", id);
        nq_query_arg(&s->q, nq_int(above));
    }
    if (below) {
        nq_buf_fmt(&s->q.sql, " AND %s < ?", id);
        nq_query_arg(&s->q, nq_int(below));
    }
    /* Beyond these a server has ids that no nq_id holds: they would come as negative ones, out of order. */
    if (s->unsigned_ids && !below && (f->falling || !(end && s->end)))
        nq_buf_fmt(&s->q.sql, " AND %s <= 9223372036854775807", id);
    if (end && s->end) {
        nq_buf_fmt(&s->q.sql, f->falling ? " AND %s >= ?" : " AND %s <= ?", id);
        nq_query_arg(&s->q, nq_int(s->end));
    }
}

static void find_ids(struct find *s)
{
    for (size_t i = 0; i < s->nids; i++) {
        nq_buf_str(&s->q.sql, i ? ", ?" : " AND i.id IN (?");
        nq_query_arg(&s->q, nq_int(s->ids[i]));
    }
    nq_buf_str(&s->q.sql, s->nids ? ")" : "");
}

static void find_order(struct find *s, const char *id, const char *limit, size_t n)
{
    nq_buf_fmt(&s->q.sql, " ORDER BY %s%s LIMIT %s", id, s->f->falling ? " DESC" : "", limit);
    nq_query_arg(&s->q, nq_int((int64_t)n));
}

/* ---- A window ---- */

static int find_end_row(const nq_val cols[], size_t ncols, void *arg)
{
    (void)ncols;
    if (cols[0].type == NQ_VAL_INT)
        *(nq_id *)arg = cols[0].i;
    return 0;
}

/* The id so many tasks of a table on, if that is nearer than the end that is known. */
static int find_end_of(nq_conn *c, struct find *s, const char *table, const char *id, uint64_t n, nq_err *err)
{
    nq_query_clear(&s->q);
    nq_buf_fmt(&s->q.sql, "SELECT %s FROM %s WHERE 1 = 1", id, table);
    if (s->tag) {
        nq_buf_str(&s->q.sql, " AND i.tag = ?");
        nq_query_arg(&s->q, nq_blob(s->f->where->f.tags[0], strlen(s->f->where->f.tags[0])));
    }
    find_bounds(s, id, true);
    find_order(s, id, "1 OFFSET ?", (size_t)n - 1);
    return nq_query_run(c, &s->q, find_end_row, &s->end, err);
}

/*
 * Where a window of so many tasks of each table ends; 0: these are all. The second table is looked at up to
 * where the first one's ends: first that which has more of the ids that come, for these looks cost as many
 * rows as they pass over.
 */
static int find_end(nq_conn *c, struct find *s, uint64_t n, nq_err *err)
{
    static const char *const tables[] = {"{finished} i {by_rowid}", "{tasks} i {by_rowid}"};
    const bool has[] = {(s->f->where->states & NQ_ENDED_STATES) != 0,
                        (s->f->where->states & NQ_LIVE_STATES) != 0};
    const int first = s->f->falling ? 1 : 0;
    int rc = NQ_OK;
    s->end = 0;
    if (s->tag)
        return find_end_of(c, s, "{tags} i", "i.task_id", n, err);
    if (has[first])
        rc = find_end_of(c, s, tables[first], "i.id", n, err);
    if (rc == NQ_OK && has[!first])
        rc = find_end_of(c, s, tables[!first], "i.id", n, err);
    return rc;
}

/* One table's part. The ids are chosen first, for which an index may be enough; only their rows are read
 * whole. */
static void find_part(struct find *s, bool live)
{
    const nq_find_columns *columns = s->f->columns;
    const char *id = s->tag ? "g.task_id" : "i.id";
    nq_query *q = &s->q;
    nq_buf_str(&q->sql, "SELECT * FROM (SELECT ");
    if (columns)
        nq_buf_fmt(&q->sql, "%s FROM (SELECT i.id AS id FROM ", live ? columns->live : columns->ended);
    else
        nq_buf_str(&q->sql, "i.id AS id, i.state AS state FROM ");
    if (s->tag) {
        nq_buf_fmt(&q->sql, "{tags} g {then_join} {%s} i ON i.id = g.task_id WHERE g.tag = ?",
                   live ? "tasks" : "finished");
        nq_query_arg(q, nq_blob(s->f->where->f.tags[0], strlen(s->f->where->f.tags[0])));
    } else {
        nq_plan_from(&s->plan, live, s->planned ? s->plan.by[live] : NQ_ACCESS_ID, q);
    }
    find_bounds(s, id, true);
    find_ids(s);
    nq_where_add(s->f->where, live, s->tag, q);
    find_order(s, id, "?", s->f->limit - s->f->n);
    if (columns)
        nq_buf_fmt(&q->sql, ") page JOIN {%s} t ON t.id = page.id %s", live ? "tasks" : "finished",
                   live ? columns->live_joins : "");
    nq_buf_str(&q->sql, live ? ") a" : ") b");
}

static int find_row(const nq_val cols[], size_t ncols, void *arg)
{
    struct find *s = arg;
    const nq_find_columns *columns = s->f->columns;
    s->last = cols[columns ? columns->id_at : 0].i;
    s->f->n++;
    return s->f->row(cols, ncols, s->f->arg);
}

static int find_window(nq_conn *c, struct find *s, nq_err *err)
{
    const unsigned states = s->f->where->states;
    const bool live = (states & NQ_LIVE_STATES) != 0, ended = (states & NQ_ENDED_STATES) != 0;
    const size_t left = s->f->limit - s->f->n;
    nq_query_clear(&s->q);
    if (live)
        find_part(s, true);
    if (live && ended)
        nq_buf_str(&s->q.sql, " UNION ALL ");
    if (ended)
        find_part(s, false);
    find_order(s, "id", "?", left);
    return nq_query_run(c, &s->q, find_row, s, err);
}

/* ---- A page ---- */

/* Does the filter say nothing but which tables? Then every task of a window matches. */
static bool find_takes_all(const nq_where *w)
{
    const unsigned live = w->states & NQ_LIVE_STATES, ended = w->states & NQ_ENDED_STATES;
    return !nq_where_needs_rows(w) && w->nqueues == 0 && (live == 0 || live == NQ_LIVE_STATES) &&
           (ended == 0 || ended == NQ_ENDED_STATES) &&
           (w->f.time != NQ_BY_FINISHED || !(w->f.since_us || w->f.until_us));
}

/* By an index, if there is one that leads to little; *did then. */
static int find_planned(nq_conn *c, struct find *s, bool *did, nq_err *err)
{
    s->plan.look = s->f->look ? s->f->look : NQ_DEFAULT_LOOK;
    int rc = nq_plan_make(c, &s->plan, err);
    if (rc != NQ_OK || !nq_plan_good(&s->plan))
        return rc;
    *did = true;
    s->planned = true;
    s->end = 0;
    return find_window(c, s, err);
}

/* Of the next window, after so many tasks in so long; 0: enough. */
static uint64_t find_next(uint64_t n, uint64_t looked, uint64_t look, int64_t us)
{
    const double most = look < FIND_LEAST_US ? FIND_LEAST_US : (double)look * FIND_TASK_US;
    const double room = (most - (double)us) / ((double)us + 1) * (double)looked; /* tasks in the time left */
    const uint64_t more = n * FIND_GROWTH < look - looked ? n * FIND_GROWTH : look - looked;
    if (room >= (double)more)
        return more;
    return room < FIND_FIRST / 4.0 ? 0 : (uint64_t)room;
}

static int find_windows(nq_conn *c, struct find *s, nq_err *err)
{
    nq_find *f = s->f;
    const uint64_t look = f->look ? f->look : NQ_DEFAULT_LOOK;
    const int64_t start = nq_mono_us();
    uint64_t looked = 0, n = look < FIND_FIRST ? look : FIND_FIRST;
    /* Those that run are few among all: an index first. */
    bool tried = s->tag, did = false;
    int rc = NQ_OK;
    if (!tried && f->where->states == NQ_STATE_BIT(NQ_STATE_RUNNING)) {
        tried = true;
        rc = find_planned(c, s, &did, err);
    }
    while (rc == NQ_OK && !did) {
        if ((rc = find_end(c, s, n, err)) != NQ_OK || (rc = find_window(c, s, err)) != NQ_OK)
            break;
        if (f->n == f->limit || !s->end)
            return NQ_OK;
        s->at = s->end;
        looked += n;
        n = find_next(n, looked, look, nq_mono_us() - start);
        if ((looked >= FIND_TRY || n == 0) && !tried) {
            tried = true;
            rc = find_planned(c, s, &did, err);
        }
        if (!did && n == 0) {
            f->bounded = true;
            f->reached = s->at;
            return rc;
        }
    }
    return rc;
}

/* Those whose ids are named. */
static int find_named(nq_conn *c, struct find *s, nq_err *err)
{
    const nq_where *w = s->f->where;
    size_t left = w->nids;
    int rc = NQ_OK;
    while (rc == NQ_OK && left > 0 && s->f->n < s->f->limit) {
        s->nids = left < FIND_IDS ? left : FIND_IDS;
        s->ids = s->f->falling ? w->ids + left - s->nids : w->ids + w->nids - left;
        left -= s->nids;
        rc = find_window(c, s, err);
    }
    return rc;
}

NQ_PRIVATE int nq_find_page(nq_conn *c, nq_find *f, nq_err *err)
{
    const bool named = f->where->nids > 0;
    struct find s = {.f = f,
                     .unsigned_ids = c->store->driver->unsigned_ids,
                     .plan = {.where = f->where},
                     .tag = f->where->f.ntags > 0 && !named};
    int rc = NQ_OK;
    f->n = 0;
    f->bounded = false;
    f->reached = 0;
    s.at = f->falling ? f->below : f->above;
    if (!f->where->states || f->limit == 0)
        return NQ_OK;
    if (named)
        rc = find_named(c, &s, err);
    else
        rc = find_takes_all(f->where) ? find_window(c, &s, err) : find_windows(c, &s, err);
    if (rc == NQ_OK && f->n == f->limit)
        f->reached = s.last;
    nq_query_free(&s.q);
    nq_plan_free(&s.plan);
    return rc;
}

/* ---- Counting ---- */

static int find_sum_row(const nq_val cols[], size_t ncols, void *arg)
{
    (void)ncols;
    *(uint64_t *)arg += (uint64_t)cols[0].i;
    return 0;
}

static void find_count_part(struct find *s, bool live)
{
    nq_query *q = &s->q;
    nq_buf_str(&q->sql, "SELECT COUNT(*) FROM ");
    if (s->tag) {
        nq_buf_fmt(&q->sql, "{tags} g {then_join} {%s} i ON i.id = g.task_id WHERE g.tag = ?",
                   live ? "tasks" : "finished");
        nq_query_arg(q, nq_blob(s->f->where->f.tags[0], strlen(s->f->where->f.tags[0])));
    } else {
        nq_plan_from(&s->plan, live, NQ_ACCESS_ID, q);
    }
    find_bounds(s, s->tag ? "g.task_id" : "i.id", true);
    nq_where_add(s->f->where, live, s->tag, q);
}

NQ_PRIVATE int nq_find_count(nq_conn *c, nq_find *f, uint64_t window, uint64_t *n, nq_id *end, nq_err *err)
{
    struct find s = {.f = f,
                     .unsigned_ids = c->store->driver->unsigned_ids,
                     .plan = {.where = f->where},
                     .tag = f->where->f.ntags > 0,
                     .at = f->above};
    const bool live = (f->where->states & NQ_LIVE_STATES) != 0,
               ended = (f->where->states & NQ_ENDED_STATES) != 0;
    *n = 0;
    *end = 0;
    if (!live && !ended)
        return NQ_OK;
    int rc = find_end(c, &s, window, err);
    if (rc == NQ_OK) {
        nq_query_clear(&s.q);
        if (live)
            find_count_part(&s, true);
        nq_buf_str(&s.q.sql, live && ended ? " UNION ALL " : "");
        if (ended)
            find_count_part(&s, false);
        rc = nq_query_run(c, &s.q, find_sum_row, n, err);
        *end = s.end;
    }
    nq_query_free(&s.q);
    return rc;
}

/* ---- Ids ---- */

struct find_hits {
    nq_find f;
    nq_hit *hits;
    size_t n;
};

static int find_hit(const nq_val cols[], size_t ncols, void *arg)
{
    struct find_hits *h = arg;
    (void)ncols;
    h->hits[h->n++] = (nq_hit){cols[0].i, (int)cols[1].i};
    return 0;
}

/* Repeatable. */
static int find_hits_run(nq_conn *c, void *arg, nq_err *err)
{
    struct find_hits *h = arg;
    h->n = 0;
    return nq_find_page(c, &h->f, err);
}

NQ_PRIVATE int nq_store_find(nq_store *s, const nq_where *w, bool falling, nq_id after, nq_hit hits[],
                             size_t limit, size_t *n, nq_id *reached, bool *end, nq_err *err)
{
    struct find_hits h = {.f = {.where = w, .falling = falling, .limit = limit, .row = find_hit},
                          .hits = hits};
    h.f.arg = &h;
    if (falling)
        h.f.below = after;
    else
        h.f.above = after;
    const int rc = nq_store_do(s, find_hits_run, &h, err);
    if (rc != NQ_OK)
        return rc;
    *n = h.n;
    *end = h.n < limit && !h.f.bounded;
    *reached = *end ? after : h.f.reached;
    return NQ_OK;
}
