/* SPDX-License-Identifier: MIT */
/* nanoq queues: the settings, depth and workers of each queue. */
#include "../cli.h"
#include "../text/table.h"

/* What is known of a queue, or of a group, which has a row of its own where it has settings or tasks. */
struct queues_one {
    char name[NQ_MAX_QUEUE + 1];
    uint64_t due, delayed, running;
    unsigned capped; /* NQ_CAPPED_... */
    unsigned workers, handlers;
    nq_queue_row row; /* its strings are unset */
    char why[256], dead_to[NQ_MAX_QUEUE + 1], type[256];
};

struct queues_all {
    struct queues_one *all;
    size_t n, cap;
};

static struct queues_one *queues_find(struct queues_all *a, const char *name, size_t size)
{
    if (size > NQ_MAX_QUEUE)
        return NULL;
    for (size_t i = 0; i < a->n; i++)
        if (strlen(a->all[i].name) == size && memcmp(a->all[i].name, name, size) == 0)
            return &a->all[i];
    if (a->n == a->cap) {
        a->cap = 2 * a->cap + 16;
        a->all = cli_realloc(a->all, a->cap * sizeof *a->all);
    }
    struct queues_one *one = &a->all[a->n++];
    *one = (struct queues_one){.row = {.ordered = -1, .rate_left = -1}};
    memcpy(one->name, name, size);
    return one;
}

static int queues_stats(const nq_queue_stats *stats, void *udata)
{
    struct queues_one *one = queues_find(udata, stats->queue, strlen(stats->queue));
    if (!one)
        return 0;
    one->due = stats->due;
    one->delayed = stats->delayed;
    one->running = stats->running;
    one->capped = stats->capped & (NQ_CAPPED_DUE | NQ_CAPPED_DELAYED | NQ_CAPPED_RUNNING);
    return 0;
}

static int queues_settings(const nq_queue_row *row, void *udata)
{
    struct queues_one *one = queues_find(udata, row->name, strlen(row->name));
    if (!one)
        return 0;
    one->row = *row;
    snprintf(one->why, sizeof one->why, "%.*s",
             (int)text_whole(row->paused_why, strnlen(row->paused_why, 255)), row->paused_why);
    snprintf(one->dead_to, sizeof one->dead_to, "%s", row->dead_to);
    snprintf(one->type, sizeof one->type, "%s", row->type);
    return 0;
}

static int queues_worker(const nq_worker_row *row, void *udata)
{
    for (const char *at = row->queues; *at;) {
        const size_t n = strcspn(at, ",");
        struct queues_one *one = n > 0 ? queues_find(udata, at, n) : NULL;
        if (one) {
            one->workers++;
            one->handlers += row->concurrency;
        }
        at += n + (at[n] == ',');
    }
    return 0;
}

static int queues_compare(const void *a, const void *b)
{
    return strcmp(((const struct queues_one *)a)->name, ((const struct queues_one *)b)->name);
}

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

static const char *queues_ordered(const nq_queue_row *row)
{
    static const char *const words[] = {"no", "strict", "halt"};
    return row->ordered >= 0 ? words[row->ordered] : NULL;
}

/* "halt", "halted by 7", for people. */
static void queues_order(struct table *t, const nq_queue_row *row)
{
    char text[48];
    snprintf(text, sizeof text, "halted by %lld", (long long)row->halted_by);
    table_optional(t, row->halted_by ? text : queues_ordered(row));
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

static void queues_show(struct table *t, const struct queues_one *one)
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
    table_optional(t, queues_ordered(row));
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
    struct queues_all all = {0};
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
    const bool ok = nq_stats(q, queues_stats, &all, &err) == NQ_OK &&
                    nq_queue_get(q, NULL, queues_settings, &all, &err) == NQ_OK &&
                    nq_workers(q, queues_worker, &all, &err) == NQ_OK;
    struct table table;
    table_start(&table, queues_columns, sizeof queues_columns / sizeof queues_columns[0], false);
    table.of = "queues";
    if (all.n > 0)
        qsort(all.all, all.n, sizeof *all.all, queues_compare);
    for (size_t i = 0; ok && i < all.n; i++)
        queues_show(&table, &all.all[i]);
    table_finish(&table, ok);
    exit_code = ok ? CLI_OK : cli_fail(&err);
    free(all.all);
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
