/* SPDX-License-Identifier: MIT */
/* nanoq cron list, show. */
#include "../text/table.h"
#include "cron.h"

static const struct table_column list_columns[] = {
    {.name = "name"},
    {.name = "spec"},
    {.name = "zone"},
    {.name = "next_at"},
    {.name = "last_at"},
    {.name = "state"},
    {.name = "task_id", .right = true, .machine = true},
    {.name = "misfire", .machine = true},
    {.name = "overlap", .machine = true},
    {.name = "jitter", .right = true, .machine = true},
    {.name = "start", .machine = true},
    {.name = "end", .machine = true},
    {.name = "queue", .machine = true},
    {.name = "group", .machine = true},
    {.name = "type"},
    {.name = "priority", .right = true, .machine = true},
    {.name = "timeout", .right = true, .machine = true},
    {.name = "max_retries", .right = true, .machine = true},
    {.name = "paused_at", .machine = true},
    {.name = "paused_why", .machine = true},
    {.name = "source", .machine = true},
    {.name = "error", .machine = true},
    {.name = "headers", .machine = true},
    {.name = "payload_size", .right = true, .machine = true},
    {.name = "payload", .wide = true},
};
enum { LIST_COLUMNS = sizeof list_columns / sizeof list_columns[0] };

static const char *list_word(const char *const *words, int i)
{
    return i >= 0 && i <= 2 ? words[i] : NULL;
}

static int cron_list_row(const nq_schedule_row *row, void *udata)
{
    struct table *t = udata;
    table_text(t, row->name);
    table_text(t, row->spec);
    table_text(t, row->zone);
    table_time(t, row->next_at_us);
    table_time(t, row->last_at_us);
    table_text(t, row->error[0] ? "error" : row->paused ? "paused" : row->over ? "over" : "active");
    if (row->task_id)
        table_int(t, row->task_id);
    else
        table_none(t);
    table_optional(t, list_word(cron_misfires, row->misfire));
    table_optional(t, list_word(cron_overlaps, row->overlap));
    table_duration(t, row->jitter_us);
    table_time(t, row->starts_at_us);
    table_time(t, row->ends_at_us);
    table_text(t, row->queue);
    table_optional(t, row->group);
    table_text(t, row->type);
    table_int(t, row->priority);
    table_duration(t, row->timeout_us);
    table_int(t, row->max_retries);
    table_time(t, row->paused_at_us);
    table_optional(t, row->paused_why);
    table_optional(t, row->source);
    table_optional(t, row->error);
    table_headers(t, row->headers, row->nheaders);
    table_int(t, (int64_t)row->payload_size);
    table_payload(t, row->payload, row->payload_size < 256 ? row->payload_size : 256, row->payload_size);
    table_row(t);
    return 0;
}

static int cron_list_run(int argc, char **argv)
{
    struct cli_parse parse;
    struct table table;
    const char *value;
    nq_err err = {0};
    nq *q = NULL;
    int key;
    cli_parse_start(&parse, &cron_list);
    while ((key = cli_parse_next(&parse, argc, argv, &value)) != CLI_PARSE_END)
        return key == CLI_PARSE_HELP ? CLI_OK : CLI_USAGE;
    if (optind < argc)
        return cli_usage("takes no argument '%s'", argv[optind]);
    int exit_code = cli_open(&q);
    if (exit_code != CLI_OK)
        return exit_code;
    table_start(&table, list_columns, LIST_COLUMNS, false);
    table.of = "schedules";
    const bool ok = nq_schedule_list(q, NULL, cron_list_row, &table, &err) == NQ_OK;
    table_finish(&table, ok);
    exit_code = ok ? CLI_OK : cli_fail(&err);
    nq_close(q);
    return exit_code;
}

static const struct cli_option cron_list_options[] = {CLI_OPTION_FORMAT, CLI_OPTION_DB, CLI_OPTION_END};
const struct cli_command cron_list = {
    .name = "cron list",
    .args = "[OPTION...]",
    .summary = "List schedules: when each comes next, and whether it is paused, over or in error",
    .options = cron_list_options,
    .run = cron_list_run,
};

/* ---- show ---- */

static int list_firing(const nq_firing *f, void *udata)
{
    struct table *t = udata;
    table_time(t, f->due_at_us);
    table_time(t, f->made_at_us);
    if (f->task_id)
        table_int(t, f->task_id);
    else
        table_none(t);
    table_row(t);
    return 0;
}

static int list_show_firings(nq *q, const char *name, int64_t count)
{
    static const struct table_column firings[] = {
        {.name = "due_at"}, {.name = "made_at"}, {.name = "task_id", .right = true}};
    struct table table;
    nq_err err = {0};
    table_start(&table, firings, 3, false);
    table.of = "firings";
    const bool ok = nq_schedule_firings(q, name, (unsigned)count, list_firing, &table, &err) == NQ_OK;
    table_finish(&table, ok);
    return ok ? CLI_OK : cli_fail(&err);
}

static int list_show_one(nq *q, const char *name, int64_t count)
{
    struct table_column all[LIST_COLUMNS];
    struct table table;
    nq_err err = {0};
    for (size_t i = 0; i < LIST_COLUMNS; i++) {
        all[i] = list_columns[i];
        all[i].machine = false;
    }
    table_start(&table, all, LIST_COLUMNS, true);
    bool ok = nq_schedule_list(q, name, cron_list_row, &table, &err) == NQ_OK;
    table_finish(&table, ok);
    if (!ok || count == 0 || cli.format != CLI_TABLE)
        return ok ? CLI_OK : cli_fail(&err);
    puts("");
    return list_show_firings(q, name, count);
}

enum { SHOW_FIRINGS = 256 };

static int show_run(int argc, char **argv)
{
    struct cli_parse parse;
    const char *value;
    int64_t firings = -1;
    nq *q = NULL;
    int key;
    cli_parse_start(&parse, &cron_show);
    while ((key = cli_parse_next(&parse, argc, argv, &value)) != CLI_PARSE_END) {
        if (key == SHOW_FIRINGS && cli_take_int("--firings", value, 1, 1000, &firings))
            continue;
        return key == CLI_PARSE_HELP ? CLI_OK : CLI_USAGE;
    }
    if (argc - optind != 1)
        return cli_usage("needs the name of one schedule; %d are given", argc - optind);
    int exit_code = cli_open(&q);
    if (exit_code != CLI_OK)
        return exit_code;
    exit_code = firings > 0 ? list_show_firings(q, argv[optind], firings) : list_show_one(q, argv[optind], 5);
    nq_close(q);
    return exit_code;
}

static const struct cli_option show_options[] = {
    {SHOW_FIRINGS, "firings", "N", "only its last N times that came, and the task of each; at most 1000"},
    CLI_OPTION_FORMAT,
    CLI_OPTION_DB,
    CLI_OPTION_END};
const struct cli_command cron_show = {
    .name = "cron show",
    .args = "[OPTION...] NAME",
    .summary = "Show a schedule, and the last of its times that came",
    .options = show_options,
    .notes = "A time without a task: the one before had not ended, and they are not to overlap.\n",
    .run = show_run,
};
