/* SPDX-License-Identifier: MIT */
/* nanoq limit. */
#include "../cli.h"

enum {
    LIMIT_GROUP = 256,
    LIMIT_EACH,
    LIMIT_TYPE,
    LIMIT_RUNNING,
    LIMIT_RATE,
    LIMIT_BURST,
    LIMIT_WEIGHT,
    LIMIT_ORDERED,
    LIMIT_DEAD_TO,
    LIMIT_KEEP_DONE,
    LIMIT_KEEP_DEAD,
    LIMIT_OFF
};

struct limit_args {
    nq_queue_settings s;
    bool any, off;
};

/* "100/m", "100/1m30s": so many in that time. */
static bool limit_take_rate(const char *value, nq_queue_settings *s)
{
    const char *slash = strchr(value, '/');
    nq_err err = {0};
    char number[24];
    const size_t n = slash ? (size_t)(slash - value) : 0;
    if (n == 0 || n >= sizeof number || slash[1] == '\0') {
        cli_usage("--rate must be a number and a time, such as 100/m, 5/s or 1000/1h30m, not '%s'", value);
        return false;
    }
    snprintf(number, sizeof number, "%.*s", (int)n, value);
    if (!cli_take_int("--rate", number, 1, 2147483647, &s->rate))
        return false;
    if (cli_parse_rate_time(slash + 1, &s->rate_us, &err) == NQ_OK && s->rate_us > 0)
        return true;
    cli_complain("--rate: %s", err.code != NQ_OK ? err.message : "the time must be more than 0");
    return false;
}

/* A time, "forever", or "none", which is 0 as well: a task that is done leaves nothing, one that is dead goes
 * at the next look. */
static bool limit_take_keep(const char *what, const char *value, int64_t *out)
{
    int64_t us = 0;
    if (strcmp(value, "none") != 0 && !cli_take_keep(what, value, &us))
        return false;
    *out = us != 0 ? us : NQ_ZERO;
    return true;
}

static bool limit_take(int key, const char *value, struct limit_args *a)
{
    int64_t n = 0;
    a->any = a->any || (key != LIMIT_GROUP && key != LIMIT_EACH && key != LIMIT_TYPE && key != LIMIT_OFF);
    switch (key) {
    case LIMIT_GROUP:
        a->s.group = value;
        return true;
    case LIMIT_EACH:
        a->s.group = "*";
        return true;
    case LIMIT_TYPE:
        a->s.type = value;
        return true;
    case LIMIT_RUNNING:
        return cli_take_int("--running", value, 1, 2147483647, &a->s.max_running);
    case LIMIT_RATE:
        return limit_take_rate(value, &a->s);
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
        a->s.ordered = value && strcmp(value, "halt") == 0 ? NQ_ORDERED_HALT : NQ_ORDERED_STRICT;
        if (value && a->s.ordered == NQ_ORDERED_STRICT && strcmp(value, "strict") != 0) {
            cli_usage("--ordered takes =strict, which is the default, or =halt, not '%s'", value);
            return false;
        }
        return true;
    case LIMIT_DEAD_TO:
        a->s.dead_to = value;
        return true;
    case LIMIT_KEEP_DONE:
        return limit_take_keep("--keep-done", value, &a->s.keep_done_us);
    case LIMIT_KEEP_DEAD:
        return limit_take_keep("--keep-dead", value, &a->s.keep_dead_us);
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
    if (a.s.ordered && !a.s.group && !a.s.type && !strstr(argv[optind], "//"))
        return cli_usage("--ordered is of groups: give --each, --group or --type too");
    if (a.s.ordered && a.s.max_running > 1)
        return cli_usage("--ordered runs one task of a group at a time: leave out --running");
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
    {LIMIT_TYPE, "type", "T", "of the tasks of this type, of the queue and all its groups"},
    {LIMIT_RUNNING, "running", "N", "so many tasks run at once at most, over all hosts"},
    {LIMIT_RATE, "rate", "N/TIME", "so many start in that time at most, over all hosts: 100/m, 5/s"},
    {LIMIT_BURST, "burst", "N",
     "so many of them may start at once after a quiet time; default: those of 50 ms"},
    {LIMIT_WEIGHT, "weight", "N", "of a group: tasks in its turn"},
    {LIMIT_ORDERED, "ordered", "[=halt]",
     "of a group: one task at a time, in order; halt: a dead one stops its group"},
    {LIMIT_DEAD_TO, "dead-to", "QUEUE", "where a task that ends dead leaves a copy"},
    {LIMIT_KEEP_DONE, "keep-done", "TIME",
     "how long done tasks are kept: 7d, none, forever; default: as their worker says"},
    {LIMIT_KEEP_DEAD, "keep-dead", "TIME", "the same of dead and cancelled ones"},
    {LIMIT_OFF, "off", NULL, "take all settings away"},
    CLI_OPTION_DB,
    CLI_OPTION_END};
const struct cli_command cli_limit = {
    .name = "limit",
    .args = "[OPTION...] QUEUE",
    .summary = "Set the limits of a queue, or of its groups, for all workers",
    .options = limit_options,
    .notes = "It replaces all settings of that queue or group; whether it is paused stays as it is. "
             "docs/limits.md says what holds.\n",
    .run = limit_run,
};
