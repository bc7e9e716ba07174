/* SPDX-License-Identifier: MIT */
/* How many tasks a filter means. */
#include "store.h"

/* Of an exact count: tasks of each table between two calls of the progress function. */
#define COUNT_STEP 20000

static int count_row(const nq_val cols[], size_t ncols, void *arg)
{
    (void)ncols;
    *(uint64_t *)arg += (uint64_t)cols[0].i;
    return 0;
}

static int count_one(const nq_val cols[], size_t ncols, void *arg)
{
    (void)cols;
    (void)ncols;
    (void)arg;
    return 0;
}

struct count {
    const nq_where *where;
    uint64_t most, look;
    nq_counted *out;
    nq_id last;
    bool end;
};

/* One table's part, which its index has whole. */
static void count_part(const struct count *k, const nq_plan *p, bool live, nq_query *q)
{
    nq_buf_str(&q->sql, "SELECT COUNT(*) FROM (SELECT 1 AS x FROM ");
    nq_plan_from(p, live, p->by[live], q);
    nq_buf_str(&q->sql, live ? " LIMIT ?) a" : " LIMIT ?) b");
    nq_query_arg(q, nq_int((int64_t)k->most + 1));
}

/* Of what indexes have: that many entries are read at most. *did: so it is. */
static int count_covered(nq_conn *c, struct count *k, bool *did, nq_err *err)
{
    nq_plan p = {.where = k->where};
    nq_query q = {0};
    const bool live = (k->where->states & NQ_LIVE_STATES) != 0,
               ended = (k->where->states & NQ_ENDED_STATES) != 0;
    int rc = nq_plan_cover(c, &p, err);
    *did = rc == NQ_OK && nq_plan_good(&p);
    if (*did) {
        k->out->n = 0;
        if (live)
            count_part(k, &p, true, &q);
        nq_buf_str(&q.sql, live && ended ? " UNION ALL " : "");
        if (ended)
            count_part(k, &p, false, &q);
        if (live || ended)
            rc = nq_query_run(c, &q, count_row, &k->out->n, err);
    }
    nq_query_free(&q);
    nq_plan_free(&p);
    return rc;
}

/* Repeatable. */
static int count_run(nq_conn *c, void *arg, nq_err *err)
{
    struct count *k = arg;
    nq_find f = {
        .where = k->where, .falling = true, .limit = (size_t)k->most + 1, .look = k->look, .row = count_one};
    bool did = false;
    int rc = nq_where_needs_rows(k->where) ? NQ_OK : count_covered(c, k, &did, err);
    if (rc != NQ_OK)
        return rc;
    if (!did) {
        if ((rc = nq_find_page(c, &f, err)) != NQ_OK)
            return rc;
        k->out->n = f.n;
    }
    k->out->bounded = f.bounded;
    k->out->reached = f.bounded ? f.reached : 0;
    k->out->more = f.bounded || k->out->n > k->most;
    k->out->n = k->out->n > k->most ? k->most : k->out->n;
    return NQ_OK;
}

NQ_PRIVATE int nq_store_count(nq_store *s, const nq_where *w, uint64_t most, uint64_t look, nq_counted *out,
                              nq_err *err)
{
    struct count k = {.where = w, .most = most, .look = look, .out = out};
    return nq_store_do(s, count_run, &k, err);
}

static int count_on_run(nq_conn *c, void *arg, nq_err *err)
{
    struct count *k = arg;
    nq_find f = {.where = k->where, .above = k->out->reached};
    uint64_t n = 0;
    nq_id end = 0;
    const int rc = nq_find_count(c, &f, COUNT_STEP, &n, &end, err);
    if (rc != NQ_OK)
        return rc;
    k->end = end == 0;
    k->out->n += n;
    k->out->reached = end ? end : k->out->last;
    return NQ_OK;
}

NQ_PRIVATE int nq_store_count_on(nq_store *s, const nq_where *w, nq_counted *out, bool *end, nq_err *err)
{
    struct count k = {.where = w, .out = out};
    const int rc = nq_store_do(s, count_on_run, &k, err);
    if (rc == NQ_OK)
        *end = k.end;
    return rc;
}

static int count_last_run(nq_conn *c, void *arg, nq_err *err)
{
    struct count *k = arg;
    uint64_t last = 0;
    const int rc =
        nq_sql(c,
               "SELECT COALESCE(MAX(id), 0) FROM (SELECT MAX(id) AS id FROM {tasks} WHERE id > 0 AND id <= "
               "9223372036854775807 UNION ALL SELECT MAX(id) FROM {finished} WHERE id > 0 AND id <= "
               "9223372036854775807) a",
               NULL, 0, count_row, &last, NULL, err);
    k->last = (nq_id)last;
    return rc;
}

NQ_PRIVATE int nq_store_last_id(nq_store *s, nq_id *id, nq_err *err)
{
    struct count k = {.last = 0};
    const int rc = nq_store_do(s, count_last_run, &k, err);
    if (rc == NQ_OK)
        *id = k.last;
    return rc;
}
