/* SPDX-License-Identifier: MIT */
/* nanoq priority: give waiting tasks another priority. */
#include "bulk.h"

static int priority_run(int argc, char **argv)
{
    struct bulk b = {.action = NQ_BULK_PRIORITY};
    struct cli_parse parse;
    const char *value;
    int64_t n = 0;
    int key;
    cli_parse_start(&parse, &cli_priority);
    while ((key = cli_parse_next(&parse, argc, argv, &value)) >= 0)
        if (!bulk_take(&b, key, optarg))
            return CLI_USAGE;
    if (key != CLI_PARSE_END)
        return key == CLI_PARSE_HELP ? CLI_OK : CLI_USAGE;
    if (argc - optind != 1)
        return cli_usage("needs one priority, %d are given", argc - optind);
    if (!cli_take_int("the priority", argv[optind], -100, 100, &n))
        return CLI_USAGE;
    b.options.priority = (int)n;
    return bulk_run(&b);
}

static const struct cli_option priority_options[] = {FILTER_OPTIONS, BULK_OPTIONS, CLI_OPTION_FORMAT,
                                                     CLI_OPTION_DB, CLI_OPTION_END};
const struct cli_command cli_priority = {
    .name = "priority",
    .args = "OPTION... [--] N",
    .summary = "Give waiting tasks another priority, -100 to 100; the lowest runs first",
    .options = priority_options,
    .notes = FILTER_NOTES "Before a negative one stands --: nanoq priority --queue mail -- -10\n" BULK_NOTES,
    .run = priority_run,
};
