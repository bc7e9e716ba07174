/* SPDX-License-Identifier: MIT */
/* One task: all that is known of it. */
#include <ctype.h>

#include "dash.h"

/* ---- The same task as a command ---- */

/* A word for the shell: as it is where nothing of it means anything to one, else in quotes. */
static void task_word(struct text *out, const char *p, size_t n)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./:,=@%+-";
    size_t good = 0;
    while (good < n && p[good] && strchr(plain, p[good]))
        good++;
    text_str(out, " ");
    if (n > 0 && good == n) {
        text_add(out, p, n);
        return;
    }
    text_str(out, "'");
    for (size_t i = 0; i < n; i++) {
        if (p[i] == '\'')
            text_str(out, "'\\''");
        else
            text_add(out, p + i, 1);
    }
    text_str(out, "'");
}

static void task_option(struct text *out, const char *option, const char *value)
{
    text_str(out, " ");
    text_str(out, option);
    task_word(out, value, strlen(value));
}

static bool task_is_json(const char *p, size_t n)
{
    json_error_t error;
    json_t *v = json_loadb(p, n, JSON_DECODE_ANY | JSON_ALLOW_NUL, &error);
    json_decref(v);
    return v;
}

/* What no command line can hold, or a terminal would take for something else, is left to the API. */
static bool task_command(struct text *out, const nq_info *info)
{
    char number[32];
    bool good =
        text_is_plain(info->payload, info->payload_size) && text_is_plain(info->type, strlen(info->type)) &&
        text_is_plain(info->queue, strlen(info->queue)) && text_is_plain(info->group, strlen(info->group));
    text_str(out, "nanoq add");
    if (strcmp(info->queue, "default") != 0)
        task_option(out, "--queue", info->queue);
    if (info->group[0])
        task_option(out, "--group", info->group);
    snprintf(number, sizeof number, "%d", info->priority);
    if (info->priority != 0)
        task_option(out, "--priority", number);
    snprintf(number, sizeof number, "%lldms", (long long)(info->timeout_us / 1000));
    if (info->timeout_us != NQ_SECONDS(60))
        task_option(out, "--timeout", number);
    snprintf(number, sizeof number, "%u", info->max_retries);
    if (info->max_retries != 10)
        task_option(out, "--max-retries", number);
    for (size_t i = 0; i < info->nheaders; i++) {
        char *header = cli_format("%s=%s", info->headers[i].name, info->headers[i].value);
        good = good && text_is_plain(header, strlen(header));
        if (strncmp(header, "nq-", 3) != 0) /* the library's come by themselves */
            task_option(out, "--header", header);
        free(header);
    }
    for (size_t i = 0; i < info->ntags; i++) {
        good = good && text_is_plain(info->tags[i], strlen(info->tags[i]));
        task_option(out, "--tag", info->tags[i]);
    }
    if (info->payload_size > 0 && !task_is_json(info->payload, info->payload_size))
        text_str(out, " --raw");
    text_str(out, " --");
    task_word(out, info->type, strlen(info->type));
    if (info->payload_size > 0)
        task_word(out, info->payload, info->payload_size);
    return good;
}

static int task_row(const nq_info *info, void *udata)
{
    struct out *j = udata;
    struct text command = {0};
    const bool masked = api_task_fields(j, info, info->payload_size);
    if (info->result)
        out_int(out_key(j, "result_size"), (int64_t)info->result_size);
    else
        out_null(out_key(j, "result_size"));
    out_bool(out_key(j, "masked"), masked);
    if (!masked && task_command(&command, info))
        out_text(out_key(j, "command"), command.p, command.n);
    else
        out_null(out_key(j, "command"));
    text_free(&command);
    return 0;
}

/* ---- Itself, attempts, reasons, lines ---- */

static int task_attempt(const nq_attempt_row *row, void *udata)
{
    struct out *j = udata;
    const char *outcome = nq_attempt_outcome_name(row->outcome);
    out_open(j, '{');
    out_positive(out_key(j, "attempt"), row->attempt);
    out_int(out_key(j, "generation"), row->generation);
    out_str(out_key(j, "outcome"), outcome ? outcome : "?");
    out_time(out_key(j, "started_at"), row->started_at_us);
    out_time(out_key(j, "ended_at"), row->ended_at_us);
    out_optional(out_key(j, "worker"), row->worker);
    api_text(out_key(j, "error"), row->error);
    out_close(j, '}');
    return 0;
}

static int task_attempts(struct dash_request *r, const char *name, nq_err *err)
{
    out_open(out_key(&r->out, name), '[');
    const int rc = nq_attempts(dash.q, r->id, task_attempt, &r->out, err);
    out_close(&r->out, ']');
    return rc;
}

static int task_more(struct dash_request *r, nq_err *err)
{
    uint64_t lines = 0;
    int rc = task_attempts(r, "failures", err);
    if (rc == NQ_OK)
        rc = nq_logs_count(dash.q, r->id, &lines, err);
    out_int(out_key(&r->out, "log_lines"), (int64_t)lines);
    return rc;
}

int api_task(struct dash_request *r, nq_err *err)
{
    const int rc = nq_get(dash.q, r->id, task_row, &r->out, err);
    return rc == NQ_OK ? task_more(r, err) : rc;
}

int api_task_attempts(struct dash_request *r, nq_err *err)
{
    return task_attempts(r, "attempts", err);
}

static int task_reason(const nq_reason *reason, void *udata)
{
    struct out *j = udata;
    out_open(j, '{');
    out_str(out_key(j, "reason"), reason->reason);
    out_optional(out_key(j, "name"), reason->name);
    out_int(out_key(j, "n"), reason->n);
    out_int(out_key(j, "most"), reason->most);
    out_time(out_key(j, "at"), reason->at_us);
    api_text(out_key(j, "note"), reason->note);
    api_text(out_key(j, "detail"), reason->detail);
    out_close(j, '}');
    return 0;
}

int api_task_why(struct dash_request *r, nq_err *err)
{
    out_open(out_key(&r->out, "reasons"), '[');
    const int rc = nq_why(dash.q, r->id, task_reason, &r->out, err);
    out_close(&r->out, ']');
    return rc;
}

static int task_line(const nq_log_row *row, void *udata)
{
    struct out *j = udata;
    struct text shown = {0};
    char seq[32];
    snprintf(seq, sizeof seq, "%u.%u", row->generation, row->seq);
    out_open(j, '{');
    out_str(out_key(j, "seq"), seq);
    out_time(out_key(j, "at"), row->at_us);
    out_str(out_key(j, "level"), cli_log_level(row->level));
    mask_text(&shown, row->text, row->n);
    out_text(out_key(j, "text"), shown.p, shown.n);
    text_free(&shown);
    out_close(j, '}');
    return 0;
}

static bool task_after(const char *seq, nq_logs_options *o)
{
    char *end = NULL;
    if (!seq || !*seq)
        return true;
    const unsigned long long generation = isdigit((unsigned char)*seq) ? strtoull(seq, &end, 10) : 0;
    if (!end || end[0] != '.' || !isdigit((unsigned char)end[1]))
        return false;
    const unsigned long long line = strtoull(end + 1, &end, 10);
    o->after_generation = (unsigned)generation;
    o->after_seq = (unsigned)line;
    return *end == '\0' && generation <= UINT32_MAX && line <= UINT32_MAX;
}

int api_task_logs(struct dash_request *r, nq_err *err)
{
    nq_logs_options o = {.size = sizeof o, .limit = 1000};
    if (!task_after(api_param(r, "after"), &o))
        return api_invalid(err, "after must be the seq of a line, such as 3.17");
    out_open(out_key(&r->out, "lines"), '[');
    const int rc = nq_logs(dash.q, r->id, &o, task_line, &r->out, err);
    out_close(&r->out, ']');
    return rc;
}

/* ---- Steering one ---- */

static int task_steer(struct dash_request *r, int (*steer)(nq *q, nq_id id, nq_err *err), nq_err *err)
{
    snprintf(r->what, sizeof r->what, "%lld", (long long)r->id);
    return steer(dash.q, r->id, err);
}

int api_task_retry(struct dash_request *r, nq_err *err)
{
    return task_steer(r, nq_retry, err);
}

int api_task_cancel(struct dash_request *r, nq_err *err)
{
    return task_steer(r, nq_cancel, err);
}

int api_task_delete(struct dash_request *r, nq_err *err)
{
    return task_steer(r, nq_delete, err);
}
