/* SPDX-License-Identifier: MIT */
/* nanoq complete: names from the database for the completions of a shell. Whatever goes wrong, it is silent
 * and soon over: somebody is typing. */
#include <sys/time.h>
#include <unistd.h>

#include <signal.h>

#include "../cli.h"
#include "../text/text.h"

#define COMPLETE_LIMIT_US 2000000 /* then nothing is completed */
#define COMPLETE_TASKS    1000    /* newest tasks whose types are known */
#define COMPLETE_IDS      100

struct complete_seen {
    struct text out; /* lines, written at the end: all or nothing */
    bool ids;
};

/* A name that a terminal would not show as it is, or a shell not take as one line, is left out. */
static bool complete_plain(const char *name)
{
    struct text safe = {0};
    text_safe(&safe, name, strlen(name));
    const bool plain = *name != '\0' && safe.p && strcmp(safe.p, name) == 0;
    text_free(&safe);
    return plain;
}

static void complete_name(struct complete_seen *seen, const char *name)
{
    if (!complete_plain(name))
        return;
    char *line = cli_format("\n%s\n", name);
    if (!seen->out.p)
        text_str(&seen->out, "\n");
    if (!strstr(seen->out.p, line))
        text_str(&seen->out, line + 1);
    free(line);
}

static int complete_task(const nq_info *info, void *udata)
{
    struct complete_seen *seen = udata;
    const char *state = nq_state_name(info->state);
    if (!seen->ids) {
        complete_name(seen, info->type);
        return 0;
    }
    char *line = cli_format("%lld\t%s, %s", (long long)info->id,
                            complete_plain(info->type) ? info->type : "a task", state ? state : "?");
    text_str(&seen->out, seen->out.p ? "" : "\n");
    text_str(&seen->out, line);
    text_str(&seen->out, "\n");
    free(line);
    return 0;
}

static int complete_stats(const nq_queue_stats *stats, void *udata)
{
    complete_name(udata, stats->queue);
    return 0;
}

static int complete_settings(const nq_queue_row *row, void *udata)
{
    complete_name(udata, row->queue);
    return 0;
}

static int complete_schedule(const nq_schedule_row *row, void *udata)
{
    complete_name(udata, row->name);
    return 0;
}

static int complete_worker(const nq_worker_row *row, void *udata)
{
    complete_name(udata, row->name);
    return 0;
}

static void complete_tasks(nq *q, struct complete_seen *seen, unsigned limit)
{
    const nq_list_options options = {.size = sizeof options, .order = NQ_NEWEST_FIRST, .limit = limit};
    nq_list(q, &options, complete_task, seen, NULL);
}

static void complete_queues(nq *q, struct complete_seen *seen)
{
    nq_stats(q, complete_stats, seen, NULL);
    nq_queue_get(q, NULL, complete_settings, seen, NULL);
}

static void complete_types(nq *q, struct complete_seen *seen)
{
    complete_tasks(q, seen, COMPLETE_TASKS);
}

static void complete_ids(nq *q, struct complete_seen *seen)
{
    seen->ids = true;
    complete_tasks(q, seen, COMPLETE_IDS);
}

static void complete_schedules(nq *q, struct complete_seen *seen)
{
    nq_schedule_list(q, NULL, complete_schedule, seen, NULL);
}

static void complete_workers(nq *q, struct complete_seen *seen)
{
    nq_workers(q, complete_worker, seen, NULL);
}

static const struct {
    const char *name;
    void (*call)(nq *q, struct complete_seen *seen);
} complete_kinds[] = {{"queues", complete_queues},
                      {"types", complete_types},
                      {"ids", complete_ids},
                      {"schedules", complete_schedules},
                      {"workers", complete_workers}};

/* What cli_open does, but nothing is made: no directory, no file, no table. */
static nq *complete_open(void)
{
    const nq_options options = {.size = sizeof options};
    nq *q = NULL;
    const char *given = cli.db ? cli.db : cli_configured(CLI_CONFIG_DB, NULL);
    char *url = given ? cli_format("%s", given) : cli_own_url();
    char *file = url ? cli_sqlite_file(url) : NULL;
    if (file && access(file, R_OK) != 0) {
        free(url);
        url = NULL;
    }
    free(file);
    if (url && nq_open(&q, url, &options, NULL) != NQ_OK)
        q = NULL;
    free(url);
    return q;
}

static void complete_alarm(int number)
{
    (void)number;
    _exit(CLI_OK);
}

static void complete_silent(const char *message)
{
    (void)message;
}

static int complete_run(int argc, char **argv)
{
    const struct itimerval limit = {.it_value = {.tv_sec = COMPLETE_LIMIT_US / 1000000}};
    struct complete_seen seen = {0};
    struct cli_parse parse;
    const char *value;
    int key;
    cli.complain = complete_silent;
    cli_parse_start(&parse, &cli_complete);
    while ((key = cli_parse_next(&parse, argc, argv, &value)) >= 0)
        ;
    if (key != CLI_PARSE_END || optind >= argc)
        return CLI_OK;
    signal(SIGALRM, complete_alarm);
    setitimer(ITIMER_REAL, &limit, NULL);
    nq *q = complete_open();
    for (size_t i = 0; q && i < sizeof complete_kinds / sizeof complete_kinds[0]; i++)
        if (strcmp(argv[optind], complete_kinds[i].name) == 0)
            complete_kinds[i].call(q, &seen);
    nq_close(q);
    if (seen.out.n > 1)
        fwrite(seen.out.p + 1, 1, seen.out.n - 1, stdout);
    text_free(&seen.out);
    return CLI_OK;
}

static const struct cli_option complete_options[] = {CLI_OPTION_DB, CLI_OPTION_END};
const struct cli_command cli_complete = {
    .name = "complete",
    .args = "[OPTION...] queues|types|ids|schedules|workers",
    .summary = "Print names from the database, for the completions of a shell",
    .options = complete_options,
    .notes =
        "A name a line; behind an id a tab and what it is. Types are those of the 1000 newest tasks, ids "
        "the 100\n"
        "newest. It makes nothing, says nothing of errors, and gives up after 2 seconds: exit code 0.\n",
    .run = complete_run,
};
