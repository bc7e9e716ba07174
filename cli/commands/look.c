/* SPDX-License-Identifier: MIT */
/* Looking at tasks: what both nanoq list and show print of one, and show. */
#include "look.h"
#include "attempts.h"

const struct table_column look_columns[LOOK_COLUMNS] = {
    {.name = "id", .right = true},
    {.name = "state"},
    {.name = "queue"},
    {.name = "group", .machine = true},
    {.name = "type"},
    {.name = "priority", .right = true, .machine = true},
    {.name = "attempts", .right = true},
    {.name = "crashes", .right = true, .machine = true},
    {.name = "max_retries", .right = true, .machine = true},
    {.name = "generation", .right = true, .machine = true},
    {.name = "timeout", .right = true, .machine = true},
    {.name = "created_at", .machine = true},
    {.name = "run_at"},
    {.name = "expires_at", .machine = true},
    {.name = "dead_id", .right = true, .machine = true},
    {.name = "schedule", .machine = true},
    {.name = "due_at", .machine = true},
    {.name = "claimed_at", .machine = true},
    {.name = "finished_at", .machine = true},
    {.name = "worker", .machine = true},
    {.name = "cancelling", .machine = true},
    {.name = "progress", .machine = true, .people = true},
    {.name = "progress_done", .right = true, .machine = true},
    {.name = "progress_total", .right = true, .machine = true},
    {.name = "progress_note", .machine = true},
    {.name = "progress_at", .machine = true},
    {.name = "error"},
    {.name = "result", .machine = true},
    {.name = "keep_until", .machine = true},
    {.name = "headers", .machine = true},
    {.name = "tags", .machine = true},
    {.name = "payload_size", .right = true, .machine = true},
    {.name = "payload", .wide = true},
};

/* A list shows the first line of an error, and not all of that. */
static void look_error(struct table *t, const char *error)
{
    if (cli.format != CLI_TABLE || t->single) {
        table_optional(t, error);
        return;
    }
    char head[44];
    size_t n = strcspn(error, "\n");
    bool cut = n > 40;
    n = cut ? text_whole(error, 37) : n;
    snprintf(head, sizeof head, "%.*s%s", (int)n, error, cut ? "..." : "");
    table_text(t, head);
}

/* "40/100 (40%) note", for people; in a list not all of a long note. */
static void look_progress(struct table *t, const nq_info *info)
{
    char text[NQ_MAX_NOTE + 80] = "";
    const size_t note =
        t->single ? NQ_MAX_NOTE : text_whole(info->progress_note, strnlen(info->progress_note, 40));
    if (info->progress_at_us != 0 && info->progress_total > 0) {
        snprintf(text, sizeof text, "%lld/%lld (%.0f%%) %.*s", (long long)info->progress_done,
                 (long long)info->progress_total,
                 (double)info->progress_done * 100 / (double)info->progress_total, (int)note,
                 info->progress_note);
    } else if (info->progress_at_us != 0) {
        snprintf(text, sizeof text, "%lld %.*s", (long long)info->progress_done, (int)note,
                 info->progress_note);
    }
    table_text(t, text);
}

/* Of progress that was told. */
static void look_count(struct table *t, bool told, int64_t count)
{
    if (told)
        table_int(t, count);
    else
        table_none(t);
}

void look_task(struct table *t, const nq_info *info, size_t here)
{
    const char *state = nq_state_name((int)info->state);
    const bool words = cli.format == CLI_TABLE && info->cancelling;
    table_int(t, info->id);
    table_text(t, words ? "running, cancelling" : state ? state : "?");
    if (cli.format == CLI_TABLE && *info->group) { /* people see both by one name */
        char *name = cli_format("%s//%s", info->queue, info->group);
        table_text(t, name);
        free(name);
    } else {
        table_text(t, info->queue);
    }
    table_optional(t, info->group);
    table_text(t, info->type);
    table_int(t, info->priority);
    table_int(t, info->attempts);
    table_int(t, info->crashes);
    table_int(t, info->max_retries);
    table_int(t, info->generation);
    table_duration(t, info->timeout_us);
    table_time(t, info->created_at_us);
    table_time(t, info->run_at_us);
    table_time(t, info->expires_at_us);
    look_count(t, info->dead_id != 0, info->dead_id);
    table_optional(t, info->schedule);
    table_time(t, info->due_at_us);
    table_time(t, info->claimed_at_us);
    table_time(t, info->finished_at_us);
    table_optional(t, info->worker);
    table_bool(t, info->cancelling);
    look_progress(t, info);
    look_count(t, info->progress_at_us != 0, info->progress_done);
    look_count(t, info->progress_at_us != 0 && info->progress_total > 0, info->progress_total);
    table_optional(t, info->progress_note);
    table_time(t, info->progress_at_us);
    look_error(t, info->error);
    table_result(t, info->result, info->result_size);
    table_time(t, info->keep_until_us);
    table_headers(t, info->headers, info->nheaders);
    table_words(t, info->tags, info->ntags);
    table_int(t, (int64_t)info->payload_size);
    table_payload(t, info->payload, here, info->payload_size);
    table_row(t);
}

struct look_show {
    bool payload_only;
    struct text more; /* JSON: its failed attempts, and how long its log is */
};

static int look_show_row(const nq_info *info, void *udata)
{
    const struct look_show *show = udata;
    if (show->payload_only) {
        fwrite(info->payload, 1, info->payload_size, stdout);
        return 0;
    }
    /* In the table the state and the progress say it all in words. */
    static const char *const not_shown[] = {"group", "cancelling", "progress_done", "progress_total",
                                            "progress_note"};
    struct table_column all[LOOK_COLUMNS];
    struct table table;
    memcpy(all, look_columns, sizeof all);
    for (size_t i = 0; i < LOOK_COLUMNS; i++) {
        all[i].machine = false;
        for (size_t k = 0; k < sizeof not_shown / sizeof not_shown[0]; k++)
            all[i].machine = all[i].machine || strcmp(all[i].name, not_shown[k]) == 0;
    }
    table_start(&table, all, LOOK_COLUMNS, true);
    table.more = show->more.p;
    look_task(&table, info, info->payload_size);
    table_finish(&table, true);
    return 0;
}

/* With the task's object; the log itself is told by nanoq logs. */
static int look_show_more(nq *q, nq_id id, struct text *out, nq_err *err)
{
    uint64_t lines = 0;
    int rc = attempts_member(q, id, out, err);
    if (rc == NQ_OK)
        rc = nq_logs_count(q, id, &lines, err);
    text_str(out, ", \"log_lines\": ");
    text_int(out, (int64_t)lines);
    return rc;
}

/* Below the table. */
static int look_show_rest(nq *q, nq_id id, nq_err *err)
{
    uint64_t lines = 0;
    int rc = attempts_print(q, id, true, err);
    if (rc == NQ_OK)
        rc = nq_logs_count(q, id, &lines, err);
    if (lines > 0)
        printf("\n%llu line%s of its log: nanoq logs %lld\n", (unsigned long long)lines,
               lines == 1 ? "" : "s", (long long)id);
    return rc == NQ_ENOTFOUND ? NQ_OK : rc; /* it went meanwhile */
}

static int look_show(int argc, char **argv)
{
    struct look_show show = {0};
    struct cli_parse parse;
    const char *value;
    nq_err err = {0};
    nq_id id;
    int key;
    cli_parse_start(&parse, &cli_show);
    while ((key = cli_parse_next(&parse, argc, argv, &value)) >= 0)
        show.payload_only = true;
    if (key != CLI_PARSE_END)
        return key == CLI_PARSE_HELP ? CLI_OK : CLI_USAGE;
    if (argc - optind != 1)
        return cli_usage("needs one task id");
    if (!cli_take_id(argv[optind], &id))
        return CLI_USAGE;
    nq *q = NULL;
    int exit_code = cli_open(&q);
    if (exit_code == CLI_OK) {
        int rc = NQ_OK;
        if (cli.format == CLI_JSON && !show.payload_only)
            rc = look_show_more(q, id, &show.more, &err);
        if (rc == NQ_OK)
            rc = nq_get(q, id, look_show_row, &show, &err);
        if (rc == NQ_OK && !show.payload_only && cli.format == CLI_TABLE)
            rc = look_show_rest(q, id, &err);
        if (rc != NQ_OK)
            exit_code = cli_fail(&err);
        nq_close(q);
        text_free(&show.more);
    }
    return exit_code;
}

static const struct cli_option look_show_options[] = {
    {256, "payload", NULL, "only the payload, byte for byte: careful with terminals"},
    CLI_OPTION_FORMAT,
    CLI_OPTION_DB,
    CLI_OPTION_END,
};
const struct cli_command cli_show = {
    .name = "show",
    .args = "[OPTION...] ID",
    .summary = "Show one task with its payload, its last error and its failed attempts",
    .options = look_show_options,
    .notes =
        "JSON has the failed attempts as \"failures\", the newest first, each as nanoq attempts tells it,\n"
        "and how many lines nanoq logs has as \"log_lines\"; TSV has neither.\n",
    .run = look_show,
};
