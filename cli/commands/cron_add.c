/* SPDX-License-Identifier: MIT */
/* nanoq cron add: create a schedule, or replace it. */
#include "add.h"
#include "cron.h"

const char *const cron_misfires[4] = {"once", "skip", "all", NULL};
const char *const cron_overlaps[4] = {"skip", "allow", "queue", NULL};

int cron_word(const char *const *words, const char *word)
{
    for (int i = 0; words[i]; i++)
        if (strcmp(words[i], word) == 0)
            return i;
    return -1;
}

void cron_allowed(const char *const *words, char out[64])
{
    size_t n = 0;
    out[0] = '\0';
    for (int i = 0; words[i]; i++)
        n += (size_t)snprintf(out + n, 64 - n, "%s%s", i == 0 ? "" : words[i + 1] ? ", " : " or ", words[i]);
}

enum { CRON_ZONE = 512, CRON_MISFIRE, CRON_OVERLAP, CRON_JITTER, CRON_START, CRON_END };

static bool cron_take_word(const char *option, const char *const *words, const char *value, int *out)
{
    char allowed[64];
    *out = cron_word(words, value);
    if (*out >= 0)
        return true;
    cron_allowed(words, allowed);
    cli_complain("%s: must be %s, not '%s'", option, allowed, value);
    return false;
}

static bool cron_take_time(const char *option, const char *value, int64_t *out)
{
    nq_err err = {0};
    if (cli_parse_time(value, out, &err) == NQ_OK)
        return true;
    cli_complain("%s: %s", option, err.message);
    return false;
}

static bool cron_add_option(nq_schedule *s, struct add_request *r, int key, const char *value)
{
    switch (key) {
    case CRON_ZONE:
        s->zone = value;
        return true;
    case CRON_MISFIRE:
        return cron_take_word("--misfire", cron_misfires, value, &s->misfire);
    case CRON_OVERLAP:
        return cron_take_word("--overlap", cron_overlaps, value, &s->overlap);
    case CRON_JITTER:
        return cli_take_duration("--jitter", value, 0, &s->jitter_us);
    case CRON_START:
        return cron_take_time("--start", value, &s->starts_at_us);
    case CRON_END:
        return cron_take_time("--end", value, &s->ends_at_us);
    default:
        return add_option(r, key, value);
    }
}

static int cron_add_run(int argc, char **argv)
{
    struct add_request r = {.spec = {.size = sizeof r.spec}};
    nq_schedule s = {.size = sizeof s, .task = &r.spec};
    struct cli_parse parse;
    const char *value;
    nq_err err = {0};
    nq *q = NULL;
    int key;
    cli_parse_start(&parse, &cron_add);
    while ((key = cli_parse_next(&parse, argc, argv, &value)) != CLI_PARSE_END)
        if (key < 0 || !cron_add_option(&s, &r, key, value))
            return key == CLI_PARSE_HELP ? CLI_OK : CLI_USAGE;
    if (!r.spec.queue)
        r.spec.queue = cli_configured(CLI_CONFIG_QUEUE, NULL);
    if (argc - optind < 3)
        return cli_usage("needs a name, a spec in quotes and a task type: nightly '30 2 * * *' report");
    s.name = argv[optind];
    s.spec = argv[optind + 1];
    optind += 2;
    int exit_code = add_payload(&r, argc, argv);
    if (exit_code == CLI_OK)
        exit_code = cli_open(&q);
    if (exit_code == CLI_OK && nq_schedule_set(q, NQ_OWN_TX, &s, &err) != NQ_OK)
        exit_code = cli_fail(&err);
    nq_close(q);
    text_free(&r.input);
    return exit_code;
}

static const struct cli_option cron_add_options[] = {
    {CRON_ZONE, "zone", "ZONE", "the time zone of the spec: Europe/Berlin; default UTC"},
    {CRON_MISFIRE, "misfire", "once|skip|all",
     "of times that were missed, because no worker ran; once: the last; default once"},
    {CRON_OVERLAP, "overlap", "skip|allow|queue", "while the task before has not ended; default skip"},
    {CRON_JITTER, "jitter", "DURATION", "run up to so much later, at random; at most 1d"},
    {CRON_START, "start", "TIME", "no time before this one comes: 2026-01-31T12:00:00Z"},
    {CRON_END, "end", "TIME", "nor one behind this"},
    {'q', "queue", "QUEUE", "default: default"},
    {'g', "group", "GROUP", "within the queue"},
    {'p', "priority", "N", "-100 to 100, lower runs first; default 0"},
    {ADD_TIMEOUT, "timeout", "DURATION", "of one attempt; default 60s, at least 1s"},
    {'r', "max-retries", "N", "0 to 1000; default 10"},
    {'H', "header", "NAME=VALUE", "text beside the payload; may be repeated"},
    {'T', "tag", "TAG", "a word to find its tasks by; may be repeated"},
    {ADD_RAW, "raw", NULL, "take the payload as it is; without, it must be JSON"},
    CLI_OPTION_DB,
    CLI_OPTION_END};
const struct cli_command cron_add = {
    .name = "cron add",
    .args = "[OPTION...] NAME SPEC TYPE [PAYLOAD|-]",
    .summary = "Create a schedule, or replace the one of this name",
    .options = cron_add_options,
    .notes =
        "SPEC: minute hour day month weekday, as cron has them; @hourly and its like; or @every 90s. Any "
        "worker of\n"
        "this database fires it, each time once. A spec that stays the same goes on as it was. "
        "docs/schedules.md\n",
    .run = cron_add_run,
};
