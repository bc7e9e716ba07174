/* SPDX-License-Identifier: MIT */
/* Which index leads to the tasks that a filter asks for. */
#include "store.h"

/*
 * Pages go by id, and no index but the primary key has that order. An index whose first columns the filter
 * names leads to all tasks that match, in another order: they are read whole and sorted. That is worth it
 * while they are few, which is measured and not estimated: a look at the index so many entries on. Of an
 * index that has all that the filter asks for more entries can be read in the same time than where each leads
 * to a row.
 */
#define PLAN_MOST_ENTRIES 150000
#define PLAN_MOST_ROWS    20000
#define PLAN_MOST_NAMES   1000

/* ---- Names ---- */

static int plan_names_row(const nq_val cols[], size_t ncols, void *arg)
{
    nq_names *names = arg;
    (void)ncols;
    names->rows++;
    nq_buf_clear(&names->last);
    nq_buf_add(&names->last, cols[0].p, cols[0].n);
    if (names->last.failed)
        return NQ_ENOMEM;
    if (cols[0].n > NQ_MAX_QUEUE) /* of a vandal's */
        return 0;
    char(*more)[NQ_MAX_QUEUE + 1] = nq_grow(names->all, names->n, &names->cap, sizeof *more);
    if (!more)
        return NQ_ENOMEM;
    names->all = more;
    char *name = names->all[names->n++];
    if (cols[0].n > 0)
        memcpy(name, cols[0].p, cols[0].n);
    name[cols[0].n] = '\0';
    return 0;
}

NQ_PRIVATE int nq_names_read(nq_conn *c, nq_names *names, bool live, nq_val from, const char *to, size_t most,
                             nq_err *err)
{
    const nq_val args[] = {from, nq_text(to), nq_int((int64_t)most)};
    names->rows = 0;
    return nq_sql_once(c, live ? "{live_queues}" : "{ended_queues}", args, 3, plan_names_row, names, err);
}

NQ_PRIVATE void nq_names_free(nq_names *names)
{
    free(names->all);
    nq_buf_free(&names->last);
}

/* Those of one table that the filter means, or all. */
static int plan_names(nq_conn *c, nq_plan *p, bool live, nq_err *err)
{
    const nq_where *w = p->where;
    nq_names *names = &p->names[live];
    int rc = NQ_OK;
    if (names->read)
        return NQ_OK;
    names->n = 0;
    if (w->nqueues == 0)
        rc = nq_names_read(c, names, live, nq_text(""), "\x7f", PLAN_MOST_NAMES + 1, err);
    for (size_t i = 0; i < w->nqueues && rc == NQ_OK && names->n <= PLAN_MOST_NAMES; i++) {
        const nq_where_queue *q = &w->queues[i];
        const nq_val name = {NQ_VAL_TEXT, 0, q->name, strlen(q->name)};
        rc = plan_names_row(&name, 1, names);
        if (rc == NQ_OK && q->from[0])
            rc = nq_names_read(c, names, live, nq_text(q->from), q->to, PLAN_MOST_NAMES + 1, err);
    }
    names->read = true;
    names->many = names->n > PLAN_MOST_NAMES;
    return rc == NQ_ENOMEM ? nq_err_nomem(err) : rc;
}

/* ---- Conditions ---- */

static void plan_add_names(const nq_names *names, nq_query *q)
{
    for (size_t i = 0; i < names->n; i++) {
        nq_buf_str(&q->sql, i ? ", ?" : " AND i.queue IN (?");
        nq_query_arg(q, nq_text(names->all[i]));
    }
    nq_buf_str(&q->sql, names->n ? ")" : " AND 1 = 0");
}

/* Each by its number, also where it is all of the table's: so the columns behind it are of use. */
static void plan_add_states(unsigned states, nq_query *q)
{
    const char *before = " AND i.state IN (";
    for (int state = NQ_STATE_WAITING; state <= NQ_STATE_CANCELLED; state++) {
        if (!(states & NQ_STATE_BIT(state)))
            continue;
        nq_buf_fmt(&q->sql, "%s%d", before, state);
        before = ", ";
    }
    nq_buf_str(&q->sql, states ? ")" : " AND 1 = 0");
}

static void plan_add_types(const nq_where *w, nq_query *q)
{
    if (w->types[0].star) {
        nq_buf_str(&q->sql, " AND {begins:i.type}");
        nq_query_arg(q, nq_text(w->types[0].from));
        nq_query_arg(q, nq_text(w->types[0].to));
        return;
    }
    for (size_t i = 0; i < w->ntypes; i++) {
        nq_buf_str(&q->sql, i ? ", ?" : " AND i.type IN (?");
        nq_query_arg(q, nq_text(w->types[i].from));
    }
    nq_buf_str(&q->sql, ")");
}

static void plan_add_finished(const nq_where *w, nq_query *q)
{
    if (w->f.time != NQ_BY_FINISHED)
        return;
    if (w->f.since_us) {
        nq_buf_str(&q->sql, " AND i.finished_at >= {at}");
        nq_query_arg(q, nq_int(w->f.since_us));
    }
    if (w->f.until_us) {
        nq_buf_str(&q->sql, " AND i.finished_at < {at}");
        nq_query_arg(q, nq_int(w->f.until_us));
    }
}

NQ_PRIVATE void nq_plan_from(const nq_plan *p, bool live, enum nq_access by, nq_query *q)
{
    static const char *const index[] = {
        "", "{by_rowid}", "{by_claim}", "{by_history}", "{by_retention}", "{by_type}"};
    nq_buf_fmt(&q->sql, "{%s} i %s WHERE 1 = 1", live ? "tasks" : "finished", index[by]);
    if (by == NQ_ACCESS_CLAIM || by == NQ_ACCESS_HISTORY)
        plan_add_names(&p->names[live], q);
    if (by == NQ_ACCESS_CLAIM)
        plan_add_states(p->where->states & NQ_LIVE_STATES, q);
    if (by == NQ_ACCESS_HISTORY || by == NQ_ACCESS_RETENTION)
        plan_add_states(p->where->states & NQ_ENDED_STATES, q);
    if (by == NQ_ACCESS_TYPE)
        plan_add_types(p->where, q);
    if (by == NQ_ACCESS_TYPE || by == NQ_ACCESS_HISTORY || by == NQ_ACCESS_RETENTION)
        plan_add_finished(p->where, q);
}

/* ---- Which ---- */

/* Does this access lead to few enough? */
static int plan_try(nq_conn *c, nq_plan *p, bool live, enum nq_access by, nq_err *err)
{
    uint64_t most = nq_where_needs_rows(p->where) ? PLAN_MOST_ROWS : PLAN_MOST_ENTRIES;
    nq_query q = {0};
    bool more = false;
    if (by == NQ_ACCESS_ID)
        most = p->look < PLAN_MOST_ROWS ? p->look : PLAN_MOST_ROWS;
    nq_buf_str(&q.sql, "SELECT 1 FROM ");
    nq_plan_from(p, live, by, &q);
    nq_buf_str(&q.sql, " LIMIT 1 OFFSET ?");
    nq_query_arg(&q, nq_int((int64_t)most));
    const int rc = nq_query_run(c, &q, nq_row_any, &more, err);
    nq_query_free(&q);
    if (rc == NQ_OK && !more)
        p->by[live] = by;
    return rc;
}

/* One star alone, or none: a range, or a list. */
static bool plan_has_types(const nq_where *w)
{
    bool stars = false;
    for (size_t i = 0; i < w->ntypes; i++)
        stars = stars || w->types[i].star;
    return w->ntypes > 0 && (!stars || (w->ntypes == 1 && w->types[0].to[0]));
}

static int plan_live(nq_conn *c, nq_plan *p, nq_err *err)
{
    const nq_where *w = p->where;
    int rc = NQ_OK;
    if (w->nqueues > 0 || !(w->states & NQ_STATE_BIT(NQ_STATE_WAITING))) {
        rc = plan_names(c, p, true, err);
        if (rc == NQ_OK && !p->names[1].many)
            rc = plan_try(c, p, true, NQ_ACCESS_CLAIM, err);
    }
    return rc == NQ_OK && !p->by[1] ? plan_try(c, p, true, NQ_ACCESS_ID, err) : rc;
}

static int plan_ended(nq_conn *c, nq_plan *p, nq_err *err)
{
    const nq_where *w = p->where;
    int rc = NQ_OK;
    if (plan_has_types(w))
        rc = plan_try(c, p, false, NQ_ACCESS_TYPE, err);
    if (rc == NQ_OK && !p->by[0] && w->nqueues > 0) {
        rc = plan_names(c, p, false, err);
        if (rc == NQ_OK && !p->names[0].many)
            rc = plan_try(c, p, false, NQ_ACCESS_HISTORY, err);
    }
    if (rc == NQ_OK && !p->by[0] &&
        ((w->states & NQ_ENDED_STATES) != NQ_ENDED_STATES || w->f.time == NQ_BY_FINISHED))
        rc = plan_try(c, p, false, NQ_ACCESS_RETENTION, err);
    return rc == NQ_OK && !p->by[0] ? plan_try(c, p, false, NQ_ACCESS_ID, err) : rc;
}

NQ_PRIVATE int nq_plan_make(nq_conn *c, nq_plan *p, nq_err *err)
{
    const bool live = (p->where->states & NQ_LIVE_STATES) != 0;
    int rc = NQ_OK;
    p->by[0] = p->by[1] = NQ_ACCESS_NONE;
    p->names[0].read = p->names[1].read = false;
    if (live)
        rc = plan_live(c, p, err);
    if (rc == NQ_OK && (p->where->states & NQ_ENDED_STATES) && (!live || p->by[1]))
        rc = plan_ended(c, p, err);
    return rc;
}

NQ_PRIVATE int nq_plan_cover(nq_conn *c, nq_plan *p, nq_err *err)
{
    const nq_where *w = p->where;
    const unsigned live = w->states & NQ_LIVE_STATES, ended = w->states & NQ_ENDED_STATES;
    const bool times = w->f.time == NQ_BY_FINISHED && (w->f.since_us || w->f.until_us);
    int rc = NQ_OK;
    p->by[0] = p->by[1] = NQ_ACCESS_NONE;
    if (live && (w->nqueues > 0 || live != NQ_LIVE_STATES)) {
        rc = plan_names(c, p, true, err);
        p->by[1] = p->names[1].many ? NQ_ACCESS_NONE : NQ_ACCESS_CLAIM;
    } else if (live) {
        p->by[1] = NQ_ACCESS_ID;
    }
    if (rc == NQ_OK && ended && w->nqueues > 0) {
        rc = plan_names(c, p, false, err);
        p->by[0] = p->names[0].many ? NQ_ACCESS_NONE : NQ_ACCESS_HISTORY;
    } else if (ended) {
        p->by[0] = times || ended != NQ_ENDED_STATES ? NQ_ACCESS_RETENTION : NQ_ACCESS_ID;
    }
    return rc;
}

NQ_PRIVATE bool nq_plan_good(const nq_plan *p)
{
    return (!(p->where->states & NQ_LIVE_STATES) || p->by[1]) &&
           (!(p->where->states & NQ_ENDED_STATES) || p->by[0]);
}

NQ_PRIVATE void nq_plan_free(nq_plan *p)
{
    nq_names_free(&p->names[0]);
    nq_names_free(&p->names[1]);
    memset(p, 0, sizeof *p);
}
