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
    for (unsigned i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        char text[32];
        snprintf(text, sizeof text, "%llu+", (unsigned long long)counts[i]);
        /* in the order of NQ_CAPPED_DUE and its like */
        if (cli.format == CLI_TABLE && (stats->capped & 1u << i))
            table_text(t, text);
        else
            table_int(t, (int64_t)counts[i]);
    }
    if (stats->due > 0)
        table_duration(t, stats->oldest_due_us);
    else
        table_none(t);
    table_int(t, (int64_t)stats->groups);
    table_bool(t, stats->capped != 0);
    table_row(t);
    return 0;
}

enum { STATS_SINCE = 256, STATS_BY, STATS_JSON, STATS_WATCH, STATS_EXACT };

static const struct table_column stats_columns[] = {
    {.name = "queue"},
    {.name = "due", .right = true},
    {.name = "delayed", .right = true},
    {.name = "running", .right = true},
    {.name = "done", .right = true},
    {.name = "dead", .right = true},
    {.name = "cancelled", .right = true},
    {.name = "oldest_due", .right = true},
    {.name = "groups", .right = true, .machine = true},
    {.name = "capped", .machine = true},
};

struct stats_wish {
    int64_t since_us, watch_us; /* 0: not wanted */
    int by;
    bool exact;
};

static int stats_now(nq *q, bool exact)
{
    nq_err err = {0};
    struct table table;
    table_start(&table, stats_columns, sizeof stats_columns / sizeof stats_columns[0], false);
    const int rc = (exact ? nq_stats_exact : nq_stats)(q, stats_row, &table, &err);
    table_finish(&table, rc == NQ_OK);
    return rc == NQ_OK ? CLI_OK : cli_fail(&err);
}

/* Again and again, until a signal, or nobody reads it any more. A database that is away is said and waited
 * for. */
static int stats_print(nq *q, const struct stats_wish *wish)
{
    for (bool first = true;; first = false) {
        char time[28];
        if (wish->watch_us > 0 && cli.format == CLI_TABLE) {
            nq_format_time(cli_now_us(CLOCK_REALTIME), time);
            printf("%s%.19sZ\n", first ? "" : "\n", time);
        }
        const int exit_code =
            wish->since_us > 0 ? stats_since(q, wish->since_us, wish->by) : stats_now(q, wish->exact);
        if (wish->watch_us == 0)
            return exit_code;
        if (fflush(stdout) != 0 || ferror(stdout))
            return CLI_FAILURE;
        const struct timespec pause = {wish->watch_us / 1000000, wish->watch_us % 1000000 * 1000};
        nanosleep(&pause, NULL);
    }
}

static bool stats_option(struct stats_wish *wish, int key, const char *value)
{
    switch (key) {
    case STATS_SINCE:
        return cli_take_duration("--since", value, 1, &wish->since_us);
    case STATS_BY:
        return (wish->by = stats_since_by(value)) >= 0;
    case STATS_WATCH:
        wish->watch_us = NQ_SECONDS(2);
        return !value || cli_take_duration("--watch", value, NQ_SECONDS(1), &wish->watch_us);
    case STATS_EXACT:
        wish->exact = true;
        return true;
    default:
        cli.format = CLI_JSON;
        return true;
    }
}

static int stats_run(int argc, char **argv)
{
    struct cli_parse parse;
    struct stats_wish wish = {.by = NQ_BY_BOTH};
    const char *value;
    nq *q = NULL;
    int key;
    cli_parse_start(&parse, &cli_stats);
    while ((key = cli_parse_next(&parse, argc, argv, &value)) >= 0)
        if (!stats_option(&wish, key, value))
            return CLI_USAGE;
    if (key != CLI_PARSE_END)
        return key == CLI_PARSE_HELP ? CLI_OK : CLI_USAGE;
    if (optind < argc)
        return cli_usage("takes no argument '%s'", argv[optind]);
    if (wish.by != NQ_BY_BOTH && wish.since_us == 0)
        return cli_usage("--by needs --since");
    if (wish.exact && wish.since_us > 0)
        return cli_usage("--exact is of the tasks that are there now: not with --since");
    int exit_code = cli_open(&q);
    if (exit_code == CLI_OK) {
        exit_code = stats_print(q, &wish);
        nq_close(q);
    }
    return exit_code;
}

static const struct cli_option stats_options[] = {
    {STATS_EXACT, "exact", NULL, "count every task, however many; takes longer as there are more"},
    {STATS_SINCE, "since", "DURATION", "what workers did in so long, instead; docs/stats.md"},
    {STATS_BY, "by", "queue|type|none",
     "of --since: a row for each; none: one row; default: of queue and type"},
    {STATS_WATCH, "watch", "[=DURATION]", "print it again so often; default: 2s, at least 1s"},
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
        "due. A queue without tasks is not listed; groups are counted with their queue. Counting stops at "
        "10000 (of\n"
        "many queues earlier, at 1000 at the least), and then 10000+ is shown; JSON and TSV have a member "
        "capped.\n"
        "With --since: how many tasks ended how, how many were done per second, and how long they waited "
        "from when\n"
        "they were due, and ran (JSON, TSV: seconds): half of them, 95 and 99 of a hundred. Workers write it "
        "every\n"
        "10 s.\n",
    .run = stats_run,
};
