/* SPDX-License-Identifier: MIT */
/* nanoq workers. */
#include "../cli.h"
#include "../text/table.h"

static const struct table_column workers_columns[] = {
    {.name = "id", .right = true},        {.name = "name"},
    {.name = "running", .right = true},   {.name = "concurrency", .right = true},
    {.name = "beat_ago", .right = true},  {.name = "started_at"},
    {.name = "beat_at", .machine = true}, {.name = "version"},
    {.name = "knows", .machine = true},   {.name = "types", .machine = true},
    {.name = "queues", .wide = true},
};

static int workers_row(const nq_worker_row *row, void *udata)
{
    struct table *t = udata;
    table_int(t, (int64_t)row->id);
    table_text(t, row->name);
    table_int(t, row->running);
    table_int(t, row->concurrency);
    table_duration(t, row->beat_ago_us);
    table_time(t, row->started_at_us);
    table_time(t, row->beat_at_us);
    table_optional(t, row->version);
    table_bool(t, row->knows);
    table_optional(t, row->types);
    table_optional(t, row->queues);
    table_row(t);
    return 0;
}

enum { WORKERS_JSON = 256 };

static int workers_run(int argc, char **argv)
{
    struct cli_parse parse;
    const char *value;
    nq_err err = {0};
    nq *q = NULL;
    int key;
    cli_parse_start(&parse, &cli_workers);
    while ((key = cli_parse_next(&parse, argc, argv, &value)) == WORKERS_JSON)
        cli.format = CLI_JSON;
    if (key != CLI_PARSE_END)
        return key == CLI_PARSE_HELP ? CLI_OK : CLI_USAGE;
    if (optind < argc)
        return cli_usage("takes no argument '%s'", argv[optind]);
    int exit_code = cli_open(&q);
    if (exit_code != CLI_OK)
        return exit_code;
    struct table table;
    table_start(&table, workers_columns, sizeof workers_columns / sizeof workers_columns[0], false);
    table.of = "workers";
    const int rc = nq_workers(q, workers_row, &table, &err);
    table_finish(&table, rc == NQ_OK);
    exit_code = rc == NQ_OK ? CLI_OK : cli_fail(&err);
    nq_close(q);
    return exit_code;
}

static const struct cli_option workers_options[] = {{WORKERS_JSON, "json", NULL, "the same as --format json"},
                                                    CLI_OPTION_FORMAT,
                                                    CLI_OPTION_DB,
                                                    CLI_OPTION_END};
const struct cli_command cli_workers = {
    .name = "workers",
    .args = "[OPTION...]",
    .summary = "List the workers that are alive",
    .options = workers_options,
    .notes = "running: as of its last beat, which was beat_ago ago (JSON, TSV: seconds). A version that is "
             "missing is one\n"
             "that heeds no pause and no limit; knows (JSON, TSV): it has read the settings of queues as "
             "they are.\n",
    .run = workers_run,
};
