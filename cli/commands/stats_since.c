/* SPDX-License-Identifier: MIT */
/* nanoq stats --since: what workers did lately. */
#include "stats_since.h"

#include "../text/table.h"

static const struct table_column stats_since_columns[] = {
    {.name = "queue"},
    {.name = "type"},
    {.name = "done", .right = true},
    {.name = "per_s", .right = true, .people = true},
    {.name = "retried", .right = true},
    {.name = "dead", .right = true},
    {.name = "cancelled", .right = true},
    {.name = "snoozed", .right = true},
    {.name = "wait_p50", .right = true},
    {.name = "wait_p95", .right = true},
    {.name = "wait_p99", .right = true},
    {.name = "wait_mean", .right = true, .machine = true},
    {.name = "run_p50", .right = true},
    {.name = "run_p95", .right = true},
    {.name = "run_p99", .right = true},
    {.name = "run_mean", .right = true, .machine = true},
};

static void stats_since_spread(struct table *t, const nq_spread *s)
{
    const int64_t all[] = {s->p50_us, s->p95_us, s->p99_us, s->mean_us};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        if (s->n > 0)
            table_duration(t, all[i]);
        else
            table_none(t);
}

static int stats_since_row(const nq_figures *f, void *udata)
{
    struct table *t = udata;
    char rate[32];
    snprintf(rate, sizeof rate, "%.3g", (double)f->done / ((double)(f->until_us - f->since_us) / 1e6));
    table_optional(t, f->queue);
    table_optional(t, f->type);
    table_int(t, (int64_t)f->done);
    table_text(t, rate);
    table_int(t, (int64_t)f->retried);
    table_int(t, (int64_t)f->dead);
    table_int(t, (int64_t)f->cancelled);
    table_int(t, (int64_t)f->snoozed);
    stats_since_spread(t, &f->wait);
    stats_since_spread(t, &f->run);
    table_row(t);
    return 0;
}

int stats_since(nq *q, int64_t ago_us, int by)
{
    nq_err err = {0};
    struct table table;
    table_start(&table, stats_since_columns, sizeof stats_since_columns / sizeof stats_since_columns[0],
                false);
    table.of = "outcomes";
    const int rc = nq_minutes(
        q, &(nq_minutes_options){.size = sizeof(nq_minutes_options), .since_us = -ago_us, .by = by},
        stats_since_row, &table, &err);
    table_finish(&table, rc == NQ_OK);
    return rc == NQ_OK ? CLI_OK : cli_fail(&err);
}

int stats_since_by(const char *text)
{
    if (strcmp(text, "queue") == 0)
        return NQ_BY_QUEUE;
    if (strcmp(text, "type") == 0)
        return NQ_BY_TYPE;
    if (strcmp(text, "none") == 0)
        return NQ_BY_NONE;
    cli_usage("--by must be queue, type or none, not '%s'", text);
    return -1;
}
