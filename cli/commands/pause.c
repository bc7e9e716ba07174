/* SPDX-License-Identifier: MIT */
/* nanoq pause, resume. */
#include "../cli.h"

enum { PAUSE_WHY = 256, PAUSE_GROUP, PAUSE_TYPE, PAUSE_WAIT };
#define PAUSE_WAIT_US NQ_SECONDS(30)

/* A worker of an older library, which goes on as if nothing were paused. */
static int pause_old(const nq_worker_row *row, void *udata)
{
    if (row->version[0] == '\0')
        ++*(unsigned *)udata;
    return 0;
}

void cli_warn_of_old_workers(nq *q)
{
    unsigned old = 0;
    nq_err err = {0};
    if (nq_workers(q, pause_old, &old, &err) == NQ_OK && old > 0)
        cli_complain("warning: %u worker%s of an older version %s no pause and no limit: restart %s", old,
                     old > 1 ? "s" : "", old > 1 ? "heed" : "heeds", old > 1 ? "them" : "it");
}

static int pause_run(int argc, char **argv, const struct cli_command *command,
                     int (*call)(nq *, const char *, const nq_pause_options *, nq_err *))
{
    struct cli_parse parse;
    nq_pause_options o = {.size = sizeof o};
    const char *value;
    nq_err err = {0};
    nq *q = NULL;
    int key;
    cli_parse_start(&parse, command);
    while ((key = cli_parse_next(&parse, argc, argv, &value)) != CLI_PARSE_END) {
        if (key == PAUSE_WHY)
            o.why = value;
        else if (key == PAUSE_GROUP)
            o.group = value;
        else if (key == PAUSE_TYPE)
            o.type = value;
        else if (key == PAUSE_WAIT) {
            o.wait_us = PAUSE_WAIT_US;
            if (value && !cli_take_duration("--wait", value, 1, &o.wait_us))
                return CLI_USAGE;
        } else
            return key == CLI_PARSE_HELP ? CLI_OK : CLI_USAGE;
    }
    if (argc - optind != 1)
        return cli_usage("needs one queue, %d are given", argc - optind);
    int exit_code = cli_open(&q);
    if (exit_code != CLI_OK)
        return exit_code;
    const int rc = call(q, argv[optind], &o, &err);
    if (rc != NQ_OK)
        exit_code = cli_fail(&err);
    if (rc == NQ_OK || rc == NQ_ETIMEOUT)
        cli_warn_of_old_workers(q);
    nq_close(q);
    return exit_code;
}

static int pause_pause(int argc, char **argv)
{
    return pause_run(argc, argv, &cli_pause, nq_pause);
}

static int pause_resume(int argc, char **argv)
{
    return pause_run(argc, argv, &cli_resume, nq_resume);
}

#define PAUSE_OPTION_GROUP                                                                                   \
    {                                                                                                        \
        PAUSE_GROUP, "group", "G", "only this group of the queue; *: each group by itself"                   \
    }

#define PAUSE_OPTION_TYPE                                                                                    \
    {                                                                                                        \
        PAUSE_TYPE, "type", "T", "only tasks of this type, of the queue and all its groups"                  \
    }

static const struct cli_option pause_options[] = {
    {PAUSE_WHY, "why", "TEXT", "for people: shown by queues and why"},
    PAUSE_OPTION_GROUP,
    PAUSE_OPTION_TYPE,
    {PAUSE_WAIT, "wait", "[=TIME]", "until every worker knows and no task of it runs; at most 30s"},
    CLI_OPTION_DB,
    CLI_OPTION_END};
const struct cli_command cli_pause = {
    .name = "pause",
    .args = "[OPTION...] QUEUE",
    .summary = "Start no more tasks of a queue, on any host, until it is resumed",
    .options = pause_options,
    .notes = "What runs goes on, and tasks can be added. Workers know within a second. Exit code 7: --wait, "
             "and the\n"
             "time is up; it is paused all the same.\n",
    .run = pause_pause,
};

static const struct cli_option resume_options[] = {
    PAUSE_OPTION_GROUP,
    PAUSE_OPTION_TYPE,
    {PAUSE_WAIT, "wait", "[=TIME]", "until every worker knows; at most 30s"},
    CLI_OPTION_DB,
    CLI_OPTION_END};
const struct cli_command cli_resume = {
    .name = "resume",
    .args = "[OPTION...] QUEUE",
    .summary = "Start tasks of a paused queue again",
    .options = resume_options,
    .run = pause_resume,
};
