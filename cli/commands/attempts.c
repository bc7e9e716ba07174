/* SPDX-License-Identifier: MIT */
/* nanoq attempts: which attempts of a task did not end well, and why. */
#include "attempts.h"
#include "../text/table.h"

enum { ATTEMPTS_JSON = 256 };

static const struct table_column attempts_columns[] = {
    {.name = "attempt", .right = true},
    {.name = "generation", .right = true, .machine = true},
    {.name = "outcome"},
    {.name = "started_at"},
    {.name = "ended_at"},
    {.name = "worker"},
    {.name = "error", .wide = true},
};

struct attempts_show {
    struct table table;
    bool quiet;
};

static int attempts_row(const nq_attempt_row *row, void *udata)
{
    struct attempts_show *show = udata;
    struct table *t = &show->table;
    const char *outcome = nq_attempt_outcome_name(row->outcome);
    if (show->quiet && t->rows == 0)
        putchar('\n');
    if (row->attempt)
        table_int(t, row->attempt);
    else
        table_none(t);
    table_int(t, row->generation);
    table_text(t, outcome ? outcome : "?");
    table_time(t, row->started_at_us);
    table_time(t, row->ended_at_us);
    table_optional(t, row->worker);
    table_optional(t, row->error);
    table_row(t);
    return 0;
}

int attempts_print(nq *q, nq_id id, bool quiet, nq_err *err)
{
    struct attempts_show show = {.quiet = quiet};
    table_start(&show.table, attempts_columns, sizeof attempts_columns / sizeof attempts_columns[0], false);
    show.table.of = "failed attempts";
    const int rc = nq_attempts(q, id, attempts_row, &show, err);
    table_finish(&show.table, rc == NQ_OK && !quiet);
    return rc;
}

static int attempts_run(int argc, char **argv)
{
    struct cli_parse parse;
    const char *value;
    nq_err err = {0};
    nq *q = NULL;
    nq_id id;
    int key;
    cli_parse_start(&parse, &cli_attempts);
    while ((key = cli_parse_next(&parse, argc, argv, &value)) == ATTEMPTS_JSON)
        cli.format = CLI_JSON;
    if (key != CLI_PARSE_END)
        return key == CLI_PARSE_HELP ? CLI_OK : CLI_USAGE;
    if (argc - optind != 1)
        return cli_usage("needs one task id");
    if (!cli_take_id(argv[optind], &id))
        return CLI_USAGE;
    int exit_code = cli_open(&q);
    if (exit_code != CLI_OK)
        return exit_code;
    exit_code = attempts_print(q, id, false, &err) == NQ_OK ? CLI_OK : cli_fail(&err);
    nq_close(q);
    return exit_code;
}

static const struct cli_option attempts_options[] = {
    {ATTEMPTS_JSON, "json", NULL, "the same as --format json"},
    CLI_OPTION_FORMAT,
    CLI_OPTION_DB,
    CLI_OPTION_END};
const struct cli_command cli_attempts = {
    .name = "attempts",
    .args = "[OPTION...] ID",
    .summary = "List the attempts of a task that failed, with their errors",
    .options = attempts_options,
    .notes = "The newest first, at most 20. A success, a snooze and what was given back are not listed.\n"
             "Exit code 3: there is no such task, it is done and was not kept, or was deleted.\n",
    .run = attempts_run,
};
