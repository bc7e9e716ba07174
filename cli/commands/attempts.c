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

static void attempts_name(struct text *out, const char *before, const char *name)
{
    text_str(out, before);
    text_json(out, name, strlen(name));
    text_str(out, ": ");
}

static void attempts_string(struct text *out, const char *name, const char *value)
{
    attempts_name(out, ", ", name);
    if (*value)
        text_json(out, value, strlen(value));
    else
        text_str(out, "null");
}

static void attempts_time(struct text *out, const char *name, int64_t us)
{
    char when[28] = "";
    if (us != 0)
        nq_format_time(us, when);
    attempts_string(out, name, when);
}

static int attempts_object(const nq_attempt_row *row, void *udata)
{
    struct text *out = udata;
    const char *outcome = nq_attempt_outcome_name(row->outcome);
    attempts_name(out, out->p[out->n - 1] == '[' ? "{" : ", {", "attempt");
    if (row->attempt)
        text_int(out, row->attempt);
    else
        text_str(out, "null");
    attempts_name(out, ", ", "generation");
    text_int(out, row->generation);
    attempts_string(out, "outcome", outcome ? outcome : "?");
    attempts_time(out, "started_at", row->started_at_us);
    attempts_time(out, "ended_at", row->ended_at_us);
    attempts_string(out, "worker", row->worker);
    attempts_string(out, "error", row->error);
    text_str(out, "}");
    return 0;
}

int attempts_member(nq *q, nq_id id, struct text *out, nq_err *err)
{
    text_str(out, "\"failures\": [");
    const int rc = nq_attempts(q, id, attempts_object, out, err);
    text_str(out, "]");
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
