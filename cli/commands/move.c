/* SPDX-License-Identifier: MIT */
/* nanoq move: waiting tasks to another queue. */
#include "bulk.h"

static int move_run(int argc, char **argv)
{
    struct bulk b = {.action = NQ_BULK_MOVE};
    struct cli_parse parse;
    const char *value;
    int key;
    cli_parse_start(&parse, &cli_move);
    while ((key = cli_parse_next(&parse, argc, argv, &value)) >= 0)
        if (!bulk_take(&b, key, optarg))
            return CLI_USAGE;
    if (key != CLI_PARSE_END)
        return key == CLI_PARSE_HELP ? CLI_OK : CLI_USAGE;
    if (optind < argc)
        return cli_usage("takes no argument '%s'", argv[optind]);
    if (!b.options.queue)
        return cli_usage("needs --to QUEUE");
    return bulk_run(&b);
}

static const struct cli_option move_options[] = {
    {BULK_FROM, "from", "QUEUE", "out of this queue; the same as --queue"},
    {BULK_TO, "to", "QUEUE", "to this one; a task of a group comes to the group of that name there"},
    FILTER_OPTIONS,
    BULK_OPTIONS,
    CLI_OPTION_FORMAT,
    CLI_OPTION_DB,
    CLI_OPTION_END};
const struct cli_command cli_move = {
    .name = "move",
    .args = "--to QUEUE OPTION...",
    .summary = "Move waiting tasks to another queue",
    .options = move_options,
    .notes = FILTER_NOTES BULK_NOTES,
    .run = move_run,
};
