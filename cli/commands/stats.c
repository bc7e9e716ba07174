/* SPDX-License-Identifier: MIT */
/* Counting: nanoq stats. */
#include "../cli.h"
#include "../text/table.h"
#include "stats_since.h"

static int stats_row(const nq_queue_stats *stats, void *udata)
{
    struct table *t = udata;
    const uint64_t counts[] = {stats->due,  stats->delayed, stats->running,
                               stats->done, stats->dead,    stats->cancelled};
    table_text(t, stats->queue);
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++)
        table_int(t, (int64_t)counts[i]);
    if (stats->due > 0)
        table_duration(t, stats->oldest_due_us);
    else
        table_none(t);
    table_int(t, (int64_t)stats->groups);
    table_row(t);
    return 0;
}

enum { STATS_SINCE = 256, STATS_BY, STATS_JSON };

static int stats_run(int argc, char **argv)
{
    static const struct table_column columns[] = {
        {.name = "queue"},
        {.name = "due", .right = true},
        {.name = "delayed", .right = true},
        {.name = "running", .right = true},
        {.name = "done", .right = true},
        {.name = "dead", .right = true},
        {.name = "cancelled", .right = true},
        {.name = "oldest_due", .right = true},
        {.name = "groups", .right = true, .machine = true},
    };
    struct cli_parse parse;
    const char *value;
    nq_err err = {0};
    int64_t since = 0;
    int key, by = NQ_BY_BOTH;
    cli_parse_start(&parse, &cli_stats);
    while ((key = cli_parse_next(&parse, argc, argv, &value)) >= 0)
        if (key == STATS_JSON)
            cli.format = CLI_JSON;
        else if (key == STATS_SINCE ? !cli_take_duration("--since", value, 1, &since)
                                    : (by = stats_since_by(value)) < 0)
            return CLI_USAGE;
    if (key != CLI_PARSE_END)
        return key == CLI_PARSE_HELP ? CLI_OK : CLI_USAGE;
    if (optind < argc)
        return cli_usage("takes no argument '%s'", argv[optind]);
    if (by != NQ_BY_BOTH && since == 0)
        return cli_usage("--by needs --since");
    nq *q = NULL;
    int exit_code = cli_open(&q);
    if (exit_code == CLI_OK && since > 0) {
        exit_code = stats_since(q, since, by);
        nq_close(q);
    } else if (exit_code == CLI_OK) {
        struct table table;
        table_start(&table, columns, sizeof columns / sizeof columns[0], false);
        int rc = nq_stats(q, stats_row, &table, &err);
        table_finish(&table, rc == NQ_OK);
        exit_code = rc == NQ_OK ? CLI_OK : cli_fail(&err);
        nq_close(q);
    }
    return exit_code;
}

static const struct cli_option stats_options[] = {
    {STATS_SINCE, "since", "DURATION", "what workers did in so long, instead; docs/stats.md"},
    {STATS_BY, "by", "WHAT", "of --since: a row for each queue, or each type; default: of both"},
    {STATS_JSON, "json", NULL, "the same as --format json"},
    CLI_OPTION_FORMAT,
    CLI_OPTION_DB,
    CLI_OPTION_END};
const struct cli_command cli_stats = {
    .name = "stats",
    .args = "[OPTION...]",
    .summary = "Count the tasks of each queue by state, or what workers did lately",
    .options = stats_options,
    .notes =
        "oldest_due: how long the longest due task has been due (JSON, TSV: seconds); nothing (JSON: "
        "null) when "
        "none is\n"
        "due. A queue without tasks is not listed; groups are counted with their queue. It counts rows, "
        "so it takes\n"
        "longer as the backlog grows.\n"
        "With --since: how many tasks ended how, how many were done per second, and how long they waited "
        "from when\n"
        "they were due, and ran (JSON, TSV: seconds): half of them, 95 and 99 of a hundred. Workers write it "
        "every\n"
        "10 s.\n",
    .run = stats_run,
};
