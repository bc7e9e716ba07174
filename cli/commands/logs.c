/* SPDX-License-Identifier: MIT */
/* nanoq logs: what the attempts of a task have written. */
#include <stdio.h>
#include <time.h>

#include "../cli.h"
#include "../text/table.h"
#include "nanoq_logs.h"

enum { LOGS_JSON = 256, LOGS_ATTEMPT, LOGS_SINCE, LOGS_PAGE = 500, LOGS_LOOK_MS = 300 };

/* A worker writes what is new once a second, so for a task that has ended it may still come. */
#define LOGS_LATE NQ_MS(1500)

static const struct table_column logs_columns[] = {
    {.name = "generation", .right = true}, {.name = "seq", .right = true}, {.name = "at"}, {.name = "level"},
    {.name = "text", .wide = true},
};

struct logs {
    struct table *table;      /* JSON, TSV: all at once; NULL: line by line */
    unsigned generation, seq; /* the last line that was read */
    size_t rows;              /* of the last page */
    unsigned to;              /* the last run that is wanted; 0: any */
    int64_t since_us;         /* no line that is older */
};

static void logs_line(const nq_log_row *row)
{
    struct text line = {0};
    char at[28] = "?";
    if (row->at_us > 0)
        nq_format_time(row->at_us, at);
    if (cli.format == CLI_JSON) {
        printf("{\"generation\": %u, \"seq\": %u, \"at\": \"%s\", \"level\": \"%s\", \"text\": ",
               row->generation, row->seq, at, cli_log_level(row->level));
        text_json(&line, row->text, row->n);
        text_str(&line, "}");
    } else {
        printf("%s  %u  %-7s  ", at, row->generation, cli_log_level(row->level));
        text_safe(&line, row->text, row->n);
    }
    puts(line.p ? line.p : "");
    text_free(&line);
}

static int logs_row(const nq_log_row *row, void *udata)
{
    struct logs *l = udata;
    if (l->to && row->generation > l->to)
        return 1;
    l->generation = row->generation;
    l->seq = row->seq;
    l->rows++;
    if (row->at_us < l->since_us)
        return 0;
    if (!l->table) {
        logs_line(row);
        return 0;
    }
    table_int(l->table, row->generation);
    table_int(l->table, row->seq);
    table_time(l->table, row->at_us);
    table_text(l->table, cli_log_level(row->level));
    table_chars(l->table, row->text, row->n);
    table_row(l->table);
    return 0;
}

/* All there is now. */
static int logs_read(nq *q, nq_id id, struct logs *l, nq_err *err)
{
    int rc;
    do {
        l->rows = 0;
        rc = nq_logs(q, id,
                     &(nq_logs_options){.size = sizeof(nq_logs_options),
                                        .after_generation = l->generation,
                                        .after_seq = l->seq,
                                        .limit = LOGS_PAGE},
                     logs_row, l, err);
    } while (rc == NQ_OK && l->rows == LOGS_PAGE);
    return rc;
}

/* ---- The runs of one attempt: it may have been snoozed or given back between them ---- */

struct logs_attempt {
    unsigned wanted, from, to; /* 0: not found yet */
    unsigned newest, n;        /* the newest run that failed; so many are remembered */
    unsigned attempts, generation;
    bool more; /* one may come, or has */
};

static int logs_attempt_now(const nq_info *info, void *udata)
{
    struct logs_attempt *a = udata;
    a->attempts = info->attempts;
    a->generation = info->generation;
    a->more = info->state != NQ_STATE_DEAD && info->state != NQ_STATE_CANCELLED;
    return 0;
}

/* The newest first. */
static int logs_attempt_row(const nq_attempt_row *row, void *udata)
{
    struct logs_attempt *a = udata;
    if (a->n++ == 0)
        a->newest = row->generation;
    if (a->n == 1 && a->more && a->wanted == a->attempts + 1 && a->generation > a->newest)
        a->to = a->generation;
    if (a->to && row->generation < a->to) {
        a->from = row->generation + 1;
        return 1;
    }
    if (!a->to && row->attempt == a->wanted)
        a->to = row->generation;
    return 0;
}

static int logs_attempt(nq *q, nq_id id, unsigned wanted, struct logs *l)
{
    struct logs_attempt a = {.wanted = wanted};
    nq_err err = {0};
    int rc = nq_get(q, id, logs_attempt_now, &a, &err);
    if (rc == NQ_OK)
        rc = nq_attempts(q, id, logs_attempt_row, &a, &err);
    if (rc != NQ_OK)
        return cli_fail(&err);
    if (a.n == 0 && a.more && wanted == a.attempts + 1 && a.generation > 0)
        a.to = a.generation;
    if (a.to == 0) {
        cli_complain("of task %lld no attempt %u is remembered: nanoq attempts %lld", (long long)id, wanted,
                     (long long)id);
        return cli_exit_of(NQ_ENOTFOUND);
    }
    /* What was before the oldest that is remembered may have been another one. */
    l->generation = a.from ? a.from : a.n < NQ_MAX_ATTEMPTS_KEPT ? 1 : a.to;
    l->to = a.to;
    return CLI_OK;
}

static int logs_state(const nq_info *info, void *udata)
{
    *(bool *)udata = info->state != NQ_STATE_WAITING && info->state != NQ_STATE_RUNNING;
    return 0;
}

static int logs_follow(nq *q, nq_id id, struct logs *l, nq_err *err)
{
    const struct timespec pause = {.tv_nsec = LOGS_LOOK_MS * 1000000L};
    int64_t ended_us = 0;
    bool seen = false;
    for (;;) {
        bool ended = false;
        int rc = nq_get(q, id, logs_state, &ended, err);
        if (rc == NQ_OK)
            rc = logs_read(q, id, l, err);
        fflush(stdout);
        if (rc == NQ_ENOTFOUND && seen) /* done and not kept, or deleted */
            return NQ_OK;
        const int64_t now = cli_now_us(CLOCK_MONOTONIC);
        ended_us = !ended ? 0 : ended_us ? ended_us : now;
        if (rc != NQ_OK || (ended && now - ended_us > LOGS_LATE))
            return rc;
        seen = true;
        nanosleep(&pause, NULL);
    }
}

static int logs_print(nq *q, nq_id id, bool follow, int64_t attempt, int64_t since_us)
{
    struct table table;
    struct logs l = {.table = follow || cli.format == CLI_TABLE ? NULL : &table, .since_us = since_us};
    nq_err err = {0};
    const int found = attempt ? logs_attempt(q, id, (unsigned)attempt, &l) : CLI_OK;
    if (found != CLI_OK)
        return found;
    if (l.table) {
        table_start(l.table, logs_columns, sizeof logs_columns / sizeof logs_columns[0], false);
        l.table->of = "lines";
    }
    const int rc = follow ? logs_follow(q, id, &l, &err) : logs_read(q, id, &l, &err);
    if (l.table)
        table_finish(l.table, rc == NQ_OK);
    return rc == NQ_OK ? CLI_OK : cli_fail(&err);
}

static int logs_run(int argc, char **argv)
{
    struct cli_parse parse;
    const char *value;
    nq *q = NULL;
    nq_id id;
    int64_t attempt = 0, since_us = 0;
    bool follow = false;
    int key;
    cli_parse_start(&parse, &cli_logs);
    while ((key = cli_parse_next(&parse, argc, argv, &value)) >= 0) {
        if (key == LOGS_ATTEMPT && !cli_take_int("--attempt", value, 1, INT32_MAX, &attempt))
            return CLI_USAGE;
        if (key == LOGS_SINCE && !cli_take_moment("--since", value, &since_us))
            return CLI_USAGE;
        follow = follow || key == 'f';
        cli.format = key == LOGS_JSON ? CLI_JSON : cli.format;
    }
    if (key != CLI_PARSE_END)
        return key == CLI_PARSE_HELP ? CLI_OK : CLI_USAGE;
    if (argc - optind != 1)
        return cli_usage("needs one task id");
    if (follow && attempt)
        return cli_usage("--attempt is of what was: not with --follow");
    if (follow && cli.format == CLI_TSV)
        return cli_usage("--follow prints lines for people, or with --json objects: there is no tsv of it");
    if (!cli_take_id(argv[optind], &id))
        return CLI_USAGE;
    int exit_code = cli_open(&q);
    if (exit_code == CLI_OK) {
        exit_code = logs_print(q, id, follow, attempt, since_us);
        nq_close(q);
    }
    return exit_code;
}

static const struct cli_option logs_options[] = {
    {'f', "follow", NULL, "go on until the task has ended; with --json an object a line"},
    {LOGS_ATTEMPT, "attempt", "N", "only of the newest attempt with this number, as nanoq attempts has it"},
    {LOGS_SINCE, "since", "WHEN", "only lines from then on: a time, or a duration before now"},
    {LOGS_JSON, "json", NULL, "the same as --format json"},
    CLI_OPTION_FORMAT,
    CLI_OPTION_DB,
    CLI_OPTION_END};
const struct cli_command cli_logs = {
    .name = "logs",
    .args = "[OPTION...] ID",
    .summary = "Print what a task's attempts have written to its log",
    .options = logs_options,
    .notes = "Time, run (the number of the claim), level and text. A line is there a second after it was "
             "written.\n"
             "An attempt that was snoozed or given back has several runs.\n"
             "Handlers write by nq_ctx_log, commands to their stderr where the worker has --keep-logs.\n"
             "Exit code 3: there is no such task, it is done and was not kept, or was deleted.\n",
    .run = logs_run,
};
