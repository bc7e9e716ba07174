/* SPDX-License-Identifier: MIT */
/* nanoq queues: the settings, depth and workers of each queue. */
#include "../queue_list.h"
#include "../text/table.h"

/* "100/1m00s, 3 left", for people. */
static void queues_rate(struct table *t, const nq_queue_row *row)
{
    char per[32], text[96], left[32] = "";
    table_short_duration(row->rate_us, per);
    if (row->rate_left >= 0)
        snprintf(left, sizeof left, ", %lld left", (long long)row->rate_left);
    snprintf(text, sizeof text, "%lld/%s%s", (long long)row->rate, per, left);
    table_optional(t, row->rate ? text : NULL);
}

/* "halt", "halted by 7", for people. */
static void queues_order(struct table *t, const nq_queue_row *row)
{
    char text[48];
    snprintf(text, sizeof text, "halted by %lld", (long long)row->halted_by);
    table_optional(t, row->halted_by ? text : queue_ordered(row));
}

static void queues_number(struct table *t, int64_t v)
{
    if (v > 0)
        table_int(t, v);
    else
        table_none(t);
}

/* Microseconds, or "forever". */
static void queues_kept(struct table *t, int64_t us)
{
    if (us == 0)
        table_none(t);
    else if (us == NQ_FOREVER)
        table_text(t, "forever");
    else
        table_duration(t, us == NQ_ZERO ? 0 : us);
}

/* Counting may have stopped there: "10000+", for people. */
static void queues_count(struct table *t, uint64_t n, bool capped)
{
    char text[32];
    snprintf(text, sizeof text, "%llu+", (unsigned long long)n);
    if (capped && cli.format == CLI_TABLE)
        table_text(t, text);
    else
        table_int(t, (int64_t)n);
}

static void queues_show(struct table *t, const struct queue_line *one)
{
    const nq_queue_row *row = &one->row;
    table_text(t, one->name);
    queues_count(t, one->due + one->delayed, (one->capped & (NQ_CAPPED_DUE | NQ_CAPPED_DELAYED)) != 0);
    table_int(t, (int64_t)one->due);
    queues_count(t, one->running, (one->capped & NQ_CAPPED_RUNNING) != 0);
    table_int(t, one->workers);
    table_int(t, one->handlers);
    queues_number(t, row->max_running);
    queues_rate(t, row);
    queues_number(t, row->rate);
    if (row->rate)
        table_duration(t, row->rate_us);
    else
        table_none(t);
    if (row->rate_left >= 0)
        table_int(t, row->rate_left);
    else
        table_none(t);
    queues_number(t, row->burst);
    queues_number(t, row->weight);
    queues_order(t, row);
    table_optional(t, queue_ordered(row));
    queues_number(t, row->halted_by);
    table_time(t, row->held_until_us);
    table_optional(t, one->dead_to);
    table_bool(t, row->paused);
    table_time(t, row->paused ? row->paused_at_us : 0);
    table_optional(t, one->why);
    table_optional(t, one->type);
    queues_kept(t, row->keep_done_us);
    queues_kept(t, row->keep_dead_us);
    table_bool(t, one->capped != 0);
    table_row(t);
}

static const struct table_column queues_columns[] = {
    {.name = "queue"},
    {.name = "waiting", .right = true},
    {.name = "due", .right = true, .machine = true},
    {.name = "running", .right = true},
    {.name = "workers", .right = true},
    {.name = "handlers", .right = true, .machine = true},
    {.name = "limit", .right = true},
    {.name = "rate", .people = true},
    {.name = "rate_starts", .right = true, .machine = true},
    {.name = "rate_time", .right = true, .machine = true},
    {.name = "rate_left", .right = true, .machine = true},
    {.name = "burst", .right = true, .machine = true},
    {.name = "weight", .right = true, .machine = true},
    {.name = "order", .people = true},
    {.name = "ordered", .machine = true},
    {.name = "halted_by", .right = true, .machine = true},
    {.name = "held_until"},
    {.name = "dead_to", .machine = true},
    {.name = "paused", .machine = true},
    {.name = "paused_at"},
    {.name = "paused_why", .wide = true},
    {.name = "type", .machine = true},
    {.name = "keep_done", .machine = true},
    {.name = "keep_dead", .machine = true},
    {.name = "capped", .machine = true},
};

enum { QUEUES_JSON = 256 };

static int queues_run(int argc, char **argv)
{
    struct queue_list list = {0};
    struct cli_parse parse;
    const char *value;
    nq_err err = {0};
    nq *q = NULL;
    int key;
    cli_parse_start(&parse, &cli_queues);
    while ((key = cli_parse_next(&parse, argc, argv, &value)) == QUEUES_JSON)
        cli.format = CLI_JSON;
    if (key != CLI_PARSE_END)
        return key == CLI_PARSE_HELP ? CLI_OK : CLI_USAGE;
    if (optind < argc)
        return cli_usage("takes no argument '%s'", argv[optind]);
    int exit_code = cli_open(&q);
    if (exit_code != CLI_OK)
        return exit_code;
    const bool ok = queue_list_read(q, &list, &err) == NQ_OK;
    struct table table;
    table_start(&table, queues_columns, sizeof queues_columns / sizeof queues_columns[0], false);
    table.of = "queues";
    for (size_t i = 0; ok && i < list.n; i++)
        queues_show(&table, &list.all[i]);
    table_finish(&table, ok);
    exit_code = ok ? CLI_OK : cli_fail(&err);
    queue_list_free(&list);
    nq_close(q);
    return exit_code;
}

static const struct cli_option queues_options[] = {{QUEUES_JSON, "json", NULL, "the same as --format json"},
                                                   CLI_OPTION_FORMAT,
                                                   CLI_OPTION_DB,
                                                   CLI_OPTION_END};
const struct cli_command cli_queues = {
    .name = "queues",
    .args = "[OPTION...]",
    .summary = "List queues and groups: settings, tasks, workers",
    .options = queues_options,
    .notes = "workers: how many serve it, by their last beats. It counts rows, so it takes longer as the "
             "backlog grows.\n",
    .run = queues_run,
};
