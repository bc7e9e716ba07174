/* SPDX-License-Identifier: MIT */
/* nanoq limit. */
#include "../cli.h"

enum {
    LIMIT_GROUP = 256,
    LIMIT_EACH,
    LIMIT_RUNNING,
    LIMIT_RATE,
    LIMIT_BURST,
    LIMIT_WEIGHT,
    LIMIT_ORDERED,
    LIMIT_OFF
};

struct limit_args {
    nq_queue_settings s;
    bool any, off;
};

/* "100/m", "5/s", "1/90s" */
static bool limit_rate(const char *text, nq_queue_settings *s)
{
    char number[24], unit[32];
    const char *slash = strchr(text, '/');
    const size_t n = slash ? (size_t)(slash - text) : 0;
    if (n == 0 || n >= sizeof number || slash[1] == '\0' || strlen(slash + 1) + 2 > sizeof unit) {
        cli_complain("--rate: '%s' is no rate: a number of starts and a time, 100/m or 1/90s", text);
        return false;
    }
    memcpy(number, text, n);
    number[n] = '\0';
    snprintf(unit, sizeof unit, "%s%s", strspn(slash + 1, "0123456789") > 0 ? "" : "1", slash + 1);
    return cli_take_int("--rate", number, 1, 2147483647, &s->rate) &&
           cli_take_duration("--rate", unit, 1, &s->rate_us);
}

static bool limit_ordered(const char *value, nq_queue_settings *s)
{
    s->ordered = value && strcmp(value, "halt") == 0 ? NQ_ORDERED_HALT : NQ_ORDERED_STRICT;
    if (!value || s->ordered == NQ_ORDERED_HALT)
        return true;
    cli_complain("--ordered: '%s' is not halt", value);
    return false;
}

static bool limit_take(int key, const char *value, struct limit_args *a)
{
    int64_t n = 0;
    a->any = a->any || (key != LIMIT_GROUP && key != LIMIT_EACH && key != LIMIT_OFF);
    switch (key) {
    case LIMIT_GROUP:
        a->s.group = value;
        return true;
    case LIMIT_EACH:
        a->s.group = "*";
        return true;
    case LIMIT_RUNNING:
        return cli_take_int("--running", value, 1, 2147483647, &a->s.max_running);
    case LIMIT_RATE:
        return limit_rate(value, &a->s);
    case LIMIT_BURST:
        if (!cli_take_int("--burst", value, 1, 1000000, &n))
            return false;
        a->s.burst = (unsigned)n;
        return true;
    case LIMIT_WEIGHT:
        if (!cli_take_int("--weight", value, 1, 1000, &n))
            return false;
        a->s.weight = (unsigned)n;
        return true;
    case LIMIT_ORDERED:
        return limit_ordered(value, &a->s);
    default:
        a->off = true;
        return true;
    }
}

static int limit_run(int argc, char **argv)
{
    struct limit_args a = {.s = {.size = sizeof a.s}};
    struct cli_parse parse;
    const char *value;
    nq_err err = {0};
    nq *q = NULL;
    int key;
    cli_parse_start(&parse, &cli_limit);
    while ((key = cli_parse_next(&parse, argc, argv, &value)) != CLI_PARSE_END)
        if (key < 0 || !limit_take(key, value, &a))
            return key == CLI_PARSE_HELP ? CLI_OK : CLI_USAGE;
    if (argc - optind != 1)
        return cli_usage("needs one queue, %d are given", argc - optind);
    if (a.any == a.off)
        return cli_usage(a.off ? "--off takes all settings away: give no other"
                               : "needs a setting, or --off");
    int exit_code = cli_open(&q);
    if (exit_code != CLI_OK)
        return exit_code;
    if (nq_queue_set(q, argv[optind], &a.s, &err) != NQ_OK)
        exit_code = cli_fail(&err);
    else
        cli_warn_of_old_workers(q);
    nq_close(q);
    return exit_code;
}

static const struct cli_option limit_options[] = {
    {LIMIT_GROUP, "group", "G", "of this group of the queue"},
    {LIMIT_EACH, "each", NULL, "of each group of the queue by itself"},
    {LIMIT_RUNNING, "running", "N", "so many tasks run at once at most, over all hosts"},
    {LIMIT_RATE, "rate", "N/TIME", "so many tasks start in this time at most: 100/m, 1/90s"},
    {LIMIT_BURST, "burst", "N", "with a rate: how many may start at once"},
    {LIMIT_WEIGHT, "weight", "N", "of a group: tasks in its turn"},
    {LIMIT_ORDERED, "ordered", "[=halt]",
     "of groups: one task at a time, in order; halt: stop at a dead one"},
    {LIMIT_OFF, "off", NULL, "take all settings away"},
    CLI_OPTION_DB,
    CLI_OPTION_END};
const struct cli_command cli_limit = {
    .name = "limit",
    .args = "[OPTION...] QUEUE",
    .summary = "Set the limits of a queue, or of its groups, for all workers",
    .options = limit_options,
    .notes = "It replaces all settings of that queue or group; whether it is paused stays as it is.\n",
    .run = limit_run,
};
