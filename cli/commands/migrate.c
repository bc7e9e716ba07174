/* SPDX-License-Identifier: MIT */
/* nanoq migrate: make or upgrade the tables, or print how. */
#include "../cli.h"

enum { MIGRATE_PRINT = 256, MIGRATE_FROM };

static int migrate_sql(char **sql, const char *url, int64_t from, nq_err *err)
{
    return nq_migration_sql(sql, url, (unsigned)from, err);
}

static int migrate_run(int argc, char **argv)
{
    struct cli_parse parse;
    const char *value;
    nq_err err = {0};
    bool print = false;
    int64_t from = -1;
    int key;
    cli_parse_start(&parse, &cli_migrate);
    while ((key = cli_parse_next(&parse, argc, argv, &value)) >= 0)
        if (key == MIGRATE_PRINT)
            print = true;
        else if (!cli_take_int("--from", value, 0, INT32_MAX, &from))
            return CLI_USAGE;
    if (key != CLI_PARSE_END)
        return key == CLI_PARSE_HELP ? CLI_OK : CLI_USAGE;
    if (optind < argc)
        return cli_usage("takes no argument '%s'", argv[optind]);
    if (from >= 0 && !print)
        return cli_usage("--from goes with --print: migrating finds out by itself what is there");
    if (print)
        return cli_print_sql(migrate_sql, from < 0 ? 0 : from);
    nq *q = NULL;
    cli.makes_database = true;
    int exit_code = cli_open(&q);
    if (exit_code == CLI_OK) {
        exit_code = nq_migrate(q, &err) == NQ_OK ? CLI_OK : cli_fail(&err);
        nq_close(q);
    }
    if (exit_code == CLI_OK)
        puts("the tables are up to date");
    return exit_code;
}

static const struct cli_option migrate_options[] = {
    {MIGRATE_PRINT, "print", NULL, "print the SQL instead, for people who keep their own migrations"},
    {MIGRATE_FROM, "from", "N", "print what comes after schema version N only (default 0: all)"},
    CLI_OPTION_DB,
    CLI_OPTION_END,
};
const struct cli_command cli_migrate = {
    .name = "migrate",
    .args = "[--print [--from N]] [--db URL]",
    .summary = "Create or upgrade the tables; safe to repeat, and from several processes at once",
    .options = migrate_options,
    .run = migrate_run,
};
