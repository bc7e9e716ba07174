/* SPDX-License-Identifier: MIT */
/* nanoq cron apply: declare all schedules of a source, from lines of JSON. */
#include <errno.h>

#include "add.h"
#include "cron.h"

#define APPLY_MOST 10000

struct apply_one {
    char *text;
    json_t *root;
    nq_task_spec task;
};

struct apply {
    struct apply_one *own; /* as many as all */
    nq_schedule *all;
    size_t n, cap;
};

static const char *const apply_members[] = {"name",   "spec",  "zone", "misfire", "overlap",
                                            "jitter", "start", "end",  NULL};

static bool apply_word(const char *const *words, const json_t *v, int *out, char *why, size_t size)
{
    char allowed[64];
    *out = json_is_string(v) ? cron_word(words, json_string_value(v)) : -1;
    if (*out >= 0)
        return true;
    cron_allowed(words, allowed);
    snprintf(why, size, "%s", allowed);
    return false;
}

static bool apply_text(const json_t *v, const char **out, char *why, size_t size)
{
    *out = json_string_value(v);
    snprintf(why, size, "a string");
    return *out && strlen(*out) == json_string_length(v);
}

static bool apply_member(nq_schedule *s, const char *key, const json_t *v, char *why, size_t size)
{
    if (strcmp(key, "name") == 0)
        return apply_text(v, &s->name, why, size);
    if (strcmp(key, "spec") == 0)
        return apply_text(v, &s->spec, why, size);
    if (strcmp(key, "zone") == 0)
        return apply_text(v, &s->zone, why, size);
    if (strcmp(key, "misfire") == 0)
        return apply_word(cron_misfires, v, &s->misfire, why, size);
    if (strcmp(key, "overlap") == 0)
        return apply_word(cron_overlaps, v, &s->overlap, why, size);
    if (strcmp(key, "jitter") == 0)
        return json_input_duration(v, 0, &s->jitter_us, why, size);
    return line_time(v, strcmp(key, "start") == 0 ? &s->starts_at_us : &s->ends_at_us, why, size);
}

static bool apply_read(struct apply_one *one, nq_schedule *s, struct line_fault *f)
{
    char why[220];
    if (!line_task(&one->task, one->text, one->root, apply_members, f))
        return false;
    for (size_t i = 0; apply_members[i]; i++) {
        const json_t *v = json_object_get(one->root, apply_members[i]);
        if (v && !apply_member(s, apply_members[i], v, why, sizeof why))
            return line_bad(f, one->text, apply_members[i], "%s: must be %s", apply_members[i], why);
    }
    if (!s->name || !s->spec)
        return line_bad(f, one->text, NULL, "the member \"%s\" is missing", s->name ? "spec" : "name");
    return true;
}

static bool apply_line(struct apply *a, char *text, size_t n, unsigned long line)
{
    struct line_fault fault = {.column = 1};
    int at;
    if (a->n == a->cap) {
        a->cap = 2 * a->cap + 16;
        a->own = cli_realloc(a->own, a->cap * sizeof *a->own);
        a->all = cli_realloc(a->all, a->cap * sizeof *a->all);
    }
    struct apply_one *one = &a->own[a->n];
    nq_schedule *s = &a->all[a->n++];
    *one = (struct apply_one){.text = text, .task = {.size = sizeof one->task}};
    *s = (nq_schedule){.size = sizeof *s};
    one->root = json_input(text, n, fault.message, &at, &fault.column);
    if (one->root && apply_read(one, s, &fault))
        return true;
    cli_complain("line %lu, column %d: %s; nothing was changed", line, fault.column, fault.message);
    return false;
}

static int apply_file(struct apply *a, const char *name)
{
    struct text room = {0};
    FILE *in = cli_open_input(name, &room);
    char *text = NULL;
    size_t size = 0;
    ssize_t n;
    bool good = true;
    if (!in) {
        text_free(&room);
        return CLI_FAILURE;
    }
    for (unsigned long line = 1; good && (n = getline(&text, &size, in)) >= 0; line++) {
        if (strspn(text, " \t\r\n") >= (size_t)n)
            continue;
        if (a->n == APPLY_MOST) {
            cli_complain("line %lu: more than %d schedules; nothing was changed", line, APPLY_MOST);
            good = false;
            break;
        }
        good = apply_line(a, text, (size_t)n, line);
        text = NULL;
        size = 0;
    }
    const bool failed = ferror(in);
    free(text);
    fclose(in);
    text_free(&room);
    if (failed)
        cli_complain("cannot read %s", name);
    return failed ? CLI_FAILURE : good ? CLI_OK : CLI_USAGE;
}

static int apply_all(const struct apply *a, const char *source)
{
    nq_err err = {0};
    nq *q = NULL;
    int exit_code = cli_open(&q);
    if (exit_code == CLI_OK && nq_schedule_apply(q, a->all, a->n, source, &err) != NQ_OK)
        exit_code = cli_fail(&err);
    nq_close(q);
    return exit_code;
}

enum { APPLY_SOURCE = 256 };

static int apply_run(int argc, char **argv)
{
    struct apply a = {0};
    struct cli_parse parse;
    const char *value, *source = NULL;
    int key;
    cli_parse_start(&parse, &cron_apply);
    while ((key = cli_parse_next(&parse, argc, argv, &value)) == APPLY_SOURCE)
        source = value;
    if (key != CLI_PARSE_END)
        return key == CLI_PARSE_HELP ? CLI_OK : CLI_USAGE;
    if (!source)
        return cli_usage("needs --source NAME: those of this source that are not in the file are removed");
    if (argc - optind != 1)
        return cli_usage("needs one file, or - for stdin; %d are given", argc - optind);
    int exit_code = apply_file(&a, argv[optind]);
    for (size_t i = 0; i < a.n; i++)
        a.all[i].task = &a.own[i].task; /* they do not move any more */
    if (exit_code == CLI_OK)
        exit_code = apply_all(&a, source);
    for (size_t i = 0; i < a.n; i++) {
        line_forget(&a.own[i].task, NULL);
        json_decref(a.own[i].root);
        free(a.own[i].text);
    }
    free(a.own);
    free(a.all);
    return exit_code;
}

static const struct cli_option apply_options[] = {
    {APPLY_SOURCE, "source", "NAME", "whose schedules these are: an application, a repository"},
    CLI_OPTION_DB,
    CLI_OPTION_END};
const struct cli_command cron_apply = {
    .name = "cron apply",
    .args = "--source NAME FILE|-",
    .summary = "Declare all schedules of a source: those that are not in the file go",
    .options = apply_options,
    .notes = "A line each: {\"name\": \"nightly\", \"spec\": \"30 2 * * *\", \"zone\": \"Europe/Berlin\", "
             "\"misfire\": "
             "\"once\",\n"
             "\"overlap\": \"skip\", \"jitter\": \"30s\", \"start\": \"2026-01-31\", \"end\": "
             "\"2027-01-31\", \"type\": "
             "\"report\",\n"
             "\"payload\": {}}, and of the task what add --stdin takes: queue, group, priority, timeout, "
             "max_retries, headers, tags.\n"
             "All of it happens, or nothing. An empty file removes those of the source.\n",
    .run = apply_run,
};
