/* SPDX-License-Identifier: MIT */
/* nanoq doctor: is everything as it should be? */
#include "../cli.h"
#include "../text/table.h"

enum { DOCTOR_JSON = 256, DOCTOR_ALL, DOCTOR_SKIP };

static const struct table_column doctor_columns[] = {
    {.name = "check", .right = true},  {.name = "level"}, {.name = "name"}, {.name = "found"},
    {.name = "todo", .machine = true},
};

struct doctor {
    struct table table;
    bool all, skip[NQ_CHECKS + 1];
    int worst;
    unsigned fine, absent;
    struct text todo;
};

static int doctor_row(const nq_check *c, void *udata)
{
    struct doctor *d = udata;
    const bool listed = cli.format != CLI_TABLE || d->all || c->level == NQ_CHECK_WARNING ||
                        c->level == NQ_CHECK_ERROR || c->level == NQ_CHECK_UNKNOWN;
    if (c->number <= NQ_CHECKS && d->skip[c->number])
        return 0;
    d->fine += c->level == NQ_CHECK_OK;
    d->absent += c->level == NQ_CHECK_NOT_APPLICABLE;
    if ((c->level == NQ_CHECK_WARNING || c->level == NQ_CHECK_ERROR) && c->level > d->worst)
        d->worst = c->level;
    if (!listed)
        return 0;
    table_int(&d->table, c->number);
    table_text(&d->table, nq_check_level_name(c->level));
    table_text(&d->table, c->name);
    table_text(&d->table, c->found);
    table_optional(&d->table, c->todo);
    table_row(&d->table);
    if (c->todo[0]) {
        char number[16];
        snprintf(number, sizeof number, "%2u  ", c->number);
        text_str(&d->todo, number);
        text_safe(&d->todo, c->todo, strlen(c->todo));
        text_str(&d->todo, "\n");
    }
    return 0;
}

/* 1 is for warnings: a database with which nothing works is an error. */
static int doctor_failed(int exit_code)
{
    return exit_code == CLI_FAILURE ? CLI_USAGE : exit_code;
}

/* "3" or "3,24" */
static bool doctor_skip(struct doctor *d, const char *list)
{
    for (const char *at = list; *at;) {
        char *end;
        const unsigned long n = strtoul(at, &end, 10);
        if (end == at || n < 1 || n > NQ_CHECKS || (*end && *end != ',') || (*end == ',' && !end[1])) {
            cli_usage("--skip takes numbers of checks, 1 to %d, with commas between, not '%s'", NQ_CHECKS,
                      list);
            return false;
        }
        d->skip[n] = true;
        at = *end ? end + 1 : end;
    }
    return *list || cli_usage("--skip takes numbers of checks, 1 to %d", NQ_CHECKS) == CLI_OK;
}

static void doctor_summary(const struct doctor *d)
{
    if (cli.format != CLI_TABLE)
        return;
    if (d->todo.p)
        printf("\nWhat to do:\n%s", d->todo.p);
    printf("%s%u of %d checks ok, %u not applicable\n", d->todo.p ? "\n" : "", d->fine, NQ_CHECKS, d->absent);
}

static int doctor_run(int argc, char **argv)
{
    struct cli_parse parse;
    const char *value;
    nq_err err = {0};
    struct doctor d = {.worst = NQ_CHECK_OK};
    nq *q = NULL;
    int key;
    cli.unwritten = CLI_USAGE;
    cli_parse_start(&parse, &cli_doctor);
    while ((key = cli_parse_next(&parse, argc, argv, &value)) >= 0) {
        if (key == DOCTOR_JSON)
            cli.format = CLI_JSON;
        else if (key == DOCTOR_ALL)
            d.all = true;
        else if (!doctor_skip(&d, value))
            return CLI_USAGE;
    }
    if (key != CLI_PARSE_END)
        return key == CLI_PARSE_HELP ? CLI_OK : CLI_USAGE;
    if (optind < argc)
        return cli_usage("takes no argument '%s'", argv[optind]);
    int exit_code = cli_open(&q);
    if (exit_code != CLI_OK)
        return doctor_failed(exit_code);
    table_start(&d.table, doctor_columns, sizeof doctor_columns / sizeof doctor_columns[0], false);
    d.table.of = "faults";
    const int rc = nq_doctor(q, doctor_row, &d, &err);
    table_finish(&d.table, rc == NQ_OK);
    if (rc == NQ_OK)
        doctor_summary(&d);
    text_free(&d.todo);
    nq_close(q);
    return rc == NQ_OK ? d.worst : doctor_failed(cli_fail(&err));
}

static const struct cli_option doctor_options[] = {
    {DOCTOR_ALL, "all", NULL, "list the checks that are ok too"},
    {DOCTOR_SKIP, "skip", "N,...", "leave these checks out, also of the exit code"},
    {DOCTOR_JSON, "json", NULL, "the same as --format json; all checks"},
    CLI_OPTION_FORMAT,
    CLI_OPTION_DB,
    CLI_OPTION_END};
const struct cli_command cli_doctor = {
    .name = "doctor",
    .args = "[OPTION...]",
    .summary = "Check the database, its settings, workers and queues; say what to do",
    .options = doctor_options,
    .notes =
        "24 checks, each with a number that never changes: docs/doctor.md. Less than a second, whatever the "
        "number "
        "of tasks;\n"
        "nothing is changed. Exit code 0: all is well, 1: warnings, 2: errors; 69 and 77 as ever, where the "
        "database cannot\n"
        "be reached. What it may not see is told as \"unknown\" and is no fault.\n",
    .run = doctor_run,
};
