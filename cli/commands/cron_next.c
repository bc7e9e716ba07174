/* SPDX-License-Identifier: MIT */
/* nanoq cron next: the times of a spec. */
#include <time.h>

#include "../text/table.h"
#include "cron.h"

enum { NEXT_ZONE = 256, NEXT_AFTER };

struct next_args {
    const char *zone;
    int64_t count, after_us;
    bool json;
};

static bool next_take(int key, const char *value, struct next_args *a)
{
    nq_err err = {0};
    switch (key) {
    case NEXT_ZONE:
        a->zone = value;
        return true;
    case 'n':
        return cli_take_int("--count", value, 1, 1000, &a->count);
    default:
        if (cli_parse_time(value, &a->after_us, &err) == NQ_OK)
            return true;
        cli_complain("--after: %s", err.message);
        return false;
    }
}

static int next_run(int argc, char **argv)
{
    static const struct table_column columns[] = {{.name = "time"}};
    struct next_args a = {.count = 5, .after_us = cli_now_us(CLOCK_REALTIME)};
    struct cli_parse parse;
    struct table table;
    const char *value;
    nq_err err = {0};
    int key, rc = NQ_OK;
    cli_parse_start(&parse, &cron_next);
    while ((key = cli_parse_next(&parse, argc, argv, &value)) != CLI_PARSE_END)
        if (key < 0 || !next_take(key, value, &a))
            return key == CLI_PARSE_HELP ? CLI_OK : CLI_USAGE;
    if (argc - optind != 1)
        return cli_usage("needs one spec, in quotes: '30 2 * * *'; %d arguments are given", argc - optind);
    table_start(&table, columns, 1, false);
    table.of = "times";
    for (int64_t i = 0; i < a.count && rc == NQ_OK; i++) {
        rc = nq_cron_next(argv[optind], a.zone, a.after_us, &a.after_us, &err);
        if (rc == NQ_OK) {
            table_time(&table, a.after_us);
            table_row(&table);
        }
    }
    table_finish(&table, rc == NQ_OK);
    return rc == NQ_OK ? CLI_OK : cli_fail(&err);
}

static const struct cli_option next_options[] = {
    {NEXT_ZONE, "zone", "ZONE", "the time zone of the spec: Europe/Berlin; default UTC"},
    {'n', "count", "N", "so many times, 1 to 1000; default 5"},
    {NEXT_AFTER, "after", "TIME", "after this time: 2026-03-28T12:00:00Z; default now"},
    CLI_OPTION_FORMAT,
    CLI_OPTION_END};
const struct cli_command cron_next = {
    .name = "cron next",
    .args = "[OPTION...] SPEC",
    .summary = "Show when a spec comes next, in UTC; needs no database",
    .options = next_options,
    .notes = "SPEC: minute hour day month weekday, as cron has them; @hourly, @daily, @weekly, @monthly, "
             "@yearly; or\n@every 90s. docs/schedules.md says what holds when the clocks change.\n",
    .run = next_run,
};
