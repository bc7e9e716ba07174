/* SPDX-License-Identifier: MIT */
/* nq_metrics: what stands in the database, and what was enqueued by this handle. */
#include <stdio.h>

#include "api.h"

#define GAUGES_OTHER     "other"
#define GAUGES_FOLLOWUPS 100000 /* no more are counted */

struct gauges_queue {
    char name[NQ_MAX_QUEUE + 1];
    uint64_t due, delayed, running, done, dead, cancelled;
    uint64_t oldest_us, workers;
    unsigned capped; /* NQ_CAPPED_... */
    bool paused;
};

struct gauges {
    struct gauges_queue *all;
    size_t n, cap;
    bool failed; /* no memory */
    int64_t followups;
};

/* The queue of that name; beyond so many all others together. NULL: no memory. */
static struct gauges_queue *gauges_of(struct gauges *g, const char *name, size_t length)
{
    length = length > NQ_MAX_QUEUE ? NQ_MAX_QUEUE : length;
    for (size_t i = 0; i < g->n; i++)
        if (strncmp(g->all[i].name, name, length) == 0 && !g->all[i].name[length])
            return &g->all[i];
    if (g->n >= NQ_METRICS_VALUES &&
        (length != strlen(GAUGES_OTHER) || memcmp(name, GAUGES_OTHER, length) != 0))
        return gauges_of(g, GAUGES_OTHER, strlen(GAUGES_OTHER));
    struct gauges_queue *more = nq_grow(g->all, g->n, &g->cap, sizeof *more);
    if (!more) {
        g->failed = true;
        return NULL;
    }
    g->all = more;
    struct gauges_queue *q = &g->all[g->n++];
    *q = (struct gauges_queue){0};
    memcpy(q->name, name, length);
    return q;
}

static int gauges_stats(const nq_queue_stats *s, void *udata)
{
    struct gauges *g = udata;
    struct gauges_queue *q = gauges_of(g, s->queue, strlen(s->queue));
    if (!q)
        return 1;
    q->due += s->due;
    q->capped |= s->capped;
    q->delayed += s->delayed;
    q->running += s->running;
    q->done += s->done;
    q->dead += s->dead;
    q->cancelled += s->cancelled;
    if (s->oldest_due_us > 0 && (uint64_t)s->oldest_due_us > q->oldest_us)
        q->oldest_us = (uint64_t)s->oldest_due_us;
    return 0;
}

/* Of a queue as a whole: its groups and types are not told apart here. */
static int gauges_settings(const nq_queue_row *row, void *udata)
{
    struct gauges *g = udata;
    struct gauges_queue *q;
    if (*row->group || *row->type)
        return 0;
    q = gauges_of(g, row->queue, strlen(row->queue));
    if (q)
        q->paused = q->paused || row->paused;
    return !q;
}

static int gauges_worker(const nq_worker_row *row, void *udata)
{
    struct gauges *g = udata;
    if (row->beat_ago_us > NQ_WORKER_SILENT_US)
        return 0;
    for (const char *at = row->queues; *at; at += *at == ',') {
        const size_t n = strcspn(at, ",");
        struct gauges_queue *q = n > 0 ? gauges_of(g, at, n) : NULL;
        if (q)
            q->workers++;
        at += n;
    }
    return g->failed;
}

static int gauges_followups(nq_conn *c, void *arg, nq_err *err)
{
    const nq_val most = nq_int(GAUGES_FOLLOWUPS + 1);
    return nq_sql(c, "SELECT COUNT(*) FROM (SELECT id FROM {followups} {by_id} ORDER BY id LIMIT ?) x", &most,
                  1, nq_checks_int_row, arg, NULL, err);
}

static int gauges_read(nq *q, struct gauges *g, nq_err *err)
{
    int rc = nq_stats(q, gauges_stats, g, err);
    if (rc == NQ_OK)
        rc = nq_queue_get(q, NULL, gauges_settings, g, err);
    if (rc == NQ_OK)
        rc = nq_workers(q, gauges_worker, g, err);
    if (rc == NQ_OK)
        rc = nq_store_do(nq_store_of(q), gauges_followups, &g->followups, err);
    return rc == NQ_OK && g->failed ? nq_err_nomem(err) : rc;
}

static void gauges_tasks(nq_buf *b, const struct gauges *g, const char *name, bool capped)
{
    static const char *const states[] = {"due", "delayed", "running", "done", "dead", "cancelled"};
    for (size_t i = 0; i < g->n; i++) {
        const struct gauges_queue *q = &g->all[i];
        const uint64_t counts[] = {q->due, q->delayed, q->running, q->done, q->dead, q->cancelled};
        for (size_t k = 0; k < sizeof counts / sizeof counts[0]; k++) {
            const nq_label labels[] = {{"queue", q->name}, {"state", states[k]}};
            nq_sample_u64(b, name, labels, 2,
                          capped ? q->capped >> k & 1 : counts[k]); /* in the order of NQ_CAPPED_DUE */
        }
    }
}

static void gauges_queues(nq_buf *b, const struct gauges *g)
{
    nq_family(b, "nanoq_queue_oldest_due_seconds", "gauge",
              "How long the longest due task has been due; 0 when none is.");
    for (size_t i = 0; i < g->n; i++)
        nq_sample_us(b, "nanoq_queue_oldest_due_seconds", &(nq_label){"queue", g->all[i].name}, 1,
                     g->all[i].oldest_us);
    nq_family(b, "nanoq_queue_paused", "gauge", "1 for a queue that is paused as a whole.");
    for (size_t i = 0; i < g->n; i++)
        nq_sample_u64(b, "nanoq_queue_paused", &(nq_label){"queue", g->all[i].name}, 1, g->all[i].paused);
    nq_family(b, "nanoq_workers", "gauge", "Workers that live and serve the queue.");
    for (size_t i = 0; i < g->n; i++)
        nq_sample_u64(b, "nanoq_workers", &(nq_label){"queue", g->all[i].name}, 1, g->all[i].workers);
}

/* The answer of the reading; the text says so too. */
static int gauges_database(nq *q, nq_buf *b, nq_err *err)
{
    struct gauges g = {0};
    const int64_t start = nq_mono_us();
    char schema[24];
    const int rc = gauges_read(q, &g, err);
    if (rc == NQ_ENOMEM || rc == NQ_EFORK)
        goto out;
    snprintf(schema, sizeof schema, "%d", NQ_SCHEMA_VERSION);
    nq_family(b, "nanoq_build_info", "gauge",
              "1; the library's version, and that of the tables it is made for.");
    nq_sample_u64(b, "nanoq_build_info", (nq_label[]){{"version", nq_version()}, {"schema", schema}}, 2, 1);
    nq_family(b, "nanoq_database_up", "gauge", "1 when the database could be read just now.");
    nq_sample_u64(b, "nanoq_database_up", NULL, 0, rc == NQ_OK);
    if (rc == NQ_OK) {
        nq_family(b, "nanoq_tasks", "gauge", "Tasks by queue and state; due and delayed ones wait.");
        gauges_tasks(b, &g, "nanoq_tasks", false);
        nq_family(b, "nanoq_tasks_capped", "gauge", "1 where nanoq_tasks is a lower bound.");
        gauges_tasks(b, &g, "nanoq_tasks_capped", true);
        gauges_queues(b, &g);
        nq_family(b, "nanoq_followups", "gauge",
                  "Duplicates of running tasks that follow them; 100001 stands for more than 100000.");
        nq_sample_u64(b, "nanoq_followups", NULL, 0, (uint64_t)g.followups);
    }
    nq_family(b, "nanoq_scrape_duration_seconds", "gauge", "How long the reading of these took.");
    nq_sample_us(b, "nanoq_scrape_duration_seconds", NULL, 0, (uint64_t)(nq_mono_us() - start));
out:
    free(g.all);
    return rc;
}

static void gauges_handle(const nq *q, nq_buf *b)
{
    uint64_t enqueued, duplicates;
    nq_queue_counts(q, &enqueued, &duplicates);
    nq_family(b, "nanoq_enqueued_total", "counter", "Tasks that calls of this process's handle added.");
    nq_sample_u64(b, "nanoq_enqueued_total", NULL, 0, enqueued);
    nq_family(b, "nanoq_duplicates_total", "counter",
              "Tasks that such calls did not add, because a live one has their key.");
    nq_sample_u64(b, "nanoq_duplicates_total", NULL, 0, duplicates);
}

NQ_API int nq_metrics(nq *q, const nq_metrics_options *opts, nq_metrics_fn fn, void *udata, nq_err *err)
{
    const unsigned all = NQ_METRICS_DATABASE | NQ_METRICS_HANDLE;
    nq_metrics_options o = {.size = sizeof o};
    nq_buf b = {0};
    int rc = nq_usable(q, err);
    if (rc == NQ_OK)
        rc = nq_options_copy(&o, sizeof o, opts, "nq_metrics_options", err);
    if (rc != NQ_OK)
        return rc;
    if (!fn)
        return nq_err_set(err, NQ_EINVAL, "no function to write metrics with was given");
    if ((o.parts & ~all) != 0)
        return nq_err_set(err, NQ_EINVAL,
                          "parts is 0x%x: made of NQ_METRICS_DATABASE and NQ_METRICS_HANDLE, or 0 for all",
                          o.parts);
    o.parts = o.parts ? o.parts : all;
    if (o.parts & NQ_METRICS_DATABASE)
        rc = gauges_database(q, &b, err);
    if (o.parts & NQ_METRICS_HANDLE)
        gauges_handle(q, &b);
    if (b.failed)
        rc = nq_err_nomem(err);
    if (rc != NQ_ENOMEM && rc != NQ_EFORK)
        fn(b.p, b.n, udata);
    nq_buf_free(&b);
    return rc;
}
