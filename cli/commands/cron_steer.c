/* SPDX-License-Identifier: MIT */
/* nanoq cron pause, resume, run, remove: one call of the library for each name. */
#include "cron.h"

enum { STEER_WHY = 256 };

static int steer_pause(nq *q, const char *name, const char *why, nq_err *err)
{
    return nq_schedule_pause(q, name, why, err);
}

static int steer_resume(nq *q, const char *name, const char *why, nq_err *err)
{
    (void)why;
    return nq_schedule_resume(q, name, err);
}

static int steer_remove(nq *q, const char *name, const char *why, nq_err *err)
{
    (void)why;
    return nq_schedule_remove(q, name, err);
}

static int steer_now(nq *q, const char *name, const char *why, nq_err *err)
{
    nq_id id = 0;
    const int rc = nq_schedule_run(q, name, &id, err);
    (void)why;
    if (rc == NQ_OK)
        printf("%lld\n", (long long)id);
    return rc;
}

static int cron_steer_each(int argc, char **argv, const struct cli_command *command,
                           int (*call)(nq *q, const char *name, const char *why, nq_err *err))
{
    struct cli_parse parse;
    const char *value, *why = NULL;
    nq *q = NULL;
    int key;
    cli_parse_start(&parse, command);
    while ((key = cli_parse_next(&parse, argc, argv, &value)) == STEER_WHY)
        why = value;
    if (key != CLI_PARSE_END)
        return key == CLI_PARSE_HELP ? CLI_OK : CLI_USAGE;
    if (optind >= argc)
        return cli_usage("needs the name of a schedule");
    int exit_code = cli_open(&q);
    for (int i = optind; exit_code != CLI_UNAVAILABLE && q && i < argc; i++) {
        nq_err err = {0};
        if (call(q, argv[i], why, &err) != NQ_OK)
            exit_code = cli_worse(exit_code, cli_fail(&err));
    }
    nq_close(q);
    return exit_code;
}

static int steer_run_pause(int argc, char **argv)
{
    return cron_steer_each(argc, argv, &cron_pause, steer_pause);
}

static int steer_run_resume(int argc, char **argv)
{
    return cron_steer_each(argc, argv, &cron_resume, steer_resume);
}

static int steer_run_run(int argc, char **argv)
{
    return cron_steer_each(argc, argv, &cron_run, steer_now);
}

static int steer_run_remove(int argc, char **argv)
{
    return cron_steer_each(argc, argv, &cron_remove, steer_remove);
}

static const struct cli_option cron_pause_options[] = {
    {STEER_WHY, "why", "TEXT", "for people: shown by list and show"}, CLI_OPTION_DB, CLI_OPTION_END};
static const struct cli_option cron_steer_options[] = {CLI_OPTION_DB, CLI_OPTION_END};

const struct cli_command cron_pause = {
    .name = "cron pause",
    .args = "[OPTION...] NAME...",
    .summary = "Let no time of a schedule come until it is resumed",
    .options = cron_pause_options,
    .run = steer_run_pause,
};
const struct cli_command cron_resume = {
    .name = "cron resume",
    .args = "[OPTION...] NAME...",
    .summary = "Go on with its first time after now",
    .options = cron_steer_options,
    .run = steer_run_resume,
};
const struct cli_command cron_run = {
    .name = "cron run",
    .args = "[OPTION...] NAME...",
    .summary = "Let it come now, out of its turn; prints the id of the task",
    .options = cron_steer_options,
    .notes = "Exit code 4: the task before has not ended, and they are not to overlap.\n",
    .run = steer_run_run,
};
const struct cli_command cron_remove = {
    .name = "cron remove",
    .args = "[OPTION...] NAME...",
    .summary = "Remove a schedule; its tasks stay",
    .options = cron_steer_options,
    .run = steer_run_remove,
};
