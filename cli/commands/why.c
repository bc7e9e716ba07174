/* SPDX-License-Identifier: MIT */
/* nanoq why: why a task does not run, or where it does, or how it ended. */
#include "../cli.h"
#include "../text/table.h"

enum { WHY_JSON = 256, WHY_PRINT };

static const struct table_column why_columns[] = {
    {.name = "reason"},
    {.name = "name", .machine = true},
    {.name = "n", .right = true, .machine = true},
    {.name = "most", .right = true, .machine = true},
    {.name = "at", .machine = true},
    {.name = "note", .machine = true},
    {.name = "detail"},
};

static int why_row(const nq_reason *r, void *udata)
{
    struct table *t = udata;
    table_text(t, r->reason);
    table_optional(t, r->name);
    table_int(t, r->n);
    table_int(t, r->most);
    table_time(t, r->at_us);
    table_optional(t, r->note);
    table_text(t, r->detail);
    table_row(t);
    return 0;
}

static int why_run(int argc, char **argv)
{
    struct cli_parse parse;
    const char *value;
    nq_err err = {0};
    nq *q = NULL;
    nq_id id;
    bool print = false;
    int key;
    cli_parse_start(&parse, &cli_why);
    while ((key = cli_parse_next(&parse, argc, argv, &value)) >= 0)
        if (key == WHY_PRINT)
            print = true;
        else
            cli.format = CLI_JSON;
    if (key != CLI_PARSE_END)
        return key == CLI_PARSE_HELP ? CLI_OK : CLI_USAGE;
    if (argc - optind != 1)
        return cli_usage("needs one task id");
    if (!cli_take_id(argv[optind], &id))
        return CLI_USAGE;
    if (print)
        return cli_print_sql(nq_why_sql, id);
    int exit_code = cli_open(&q);
    if (exit_code != CLI_OK)
        return exit_code;
    struct table table;
    table_start(&table, why_columns, sizeof why_columns / sizeof why_columns[0], false);
    table.of = "reasons";
    const int rc = nq_why(q, id, why_row, &table, &err);
    table_finish(&table, rc == NQ_OK);
    exit_code = rc == NQ_OK ? CLI_OK : cli_fail(&err);
    nq_close(q);
    return exit_code;
}

static const struct cli_option why_options[] = {
    {WHY_JSON, "json", NULL, "the same as --format json"},
    {WHY_PRINT, "print-sql", NULL, "print the statement instead, for the database's own shell"},
    CLI_OPTION_FORMAT,
    CLI_OPTION_DB,
    CLI_OPTION_END};
const struct cli_command cli_why = {
    .name = "why",
    .args = "[OPTION...] ID",
    .summary = "Say why a task does not run, or where it does, or how it ended",
    .options = why_options,
    .notes =
        "Every reason that holds, the weightiest first. It asks the database alone, so no worker need "
        "run; docs/why.md\n"
        "says what each reason is and what to do. Exit code 3: there is no such task, it is done and was "
        "not kept, or\n"
        "was deleted.\n",
    .run = why_run,
};
