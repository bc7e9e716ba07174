/* SPDX-License-Identifier: MIT */
/* Queues: what they have, their settings, pausing and limiting them. */
#include "../cli/queue_list.h"
#include "dash.h"

static void queues_counts(struct out *j, const struct queue_line *one)
{
    const char *const names[] = {"due", "delayed", "running", "done", "dead", "cancelled"};
    const uint64_t counts[] = {one->due, one->delayed, one->running, one->done, one->dead, one->cancelled};
    out_int(out_key(j, "waiting"), (int64_t)(one->due + one->delayed));
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        out_int(out_key(j, names[i]), (int64_t)counts[i]);
    if (one->due > 0)
        out_duration(out_key(j, "oldest_due"), one->oldest_due_us);
    else
        out_null(out_key(j, "oldest_due"));
    out_bool(out_key(j, "capped"), one->capped != 0);
    out_int(out_key(j, "workers"), one->workers);
    out_int(out_key(j, "handlers"), one->handlers);
}

/* Seconds, or "forever". */
static void queues_kept(struct out *j, int64_t us)
{
    if (us == 0)
        out_null(j);
    else if (us == NQ_FOREVER)
        out_str(j, "forever");
    else
        out_duration(j, us == NQ_ZERO ? 0 : us);
}

static void queues_write(struct out *j, const struct queue_line *one)
{
    const nq_queue_row *row = &one->row;
    out_open(j, '{');
    out_str(out_key(j, "queue"), one->name);
    queues_counts(j, one);
    out_positive(out_key(j, "limit"), row->max_running);
    out_positive(out_key(j, "rate_starts"), row->rate);
    if (row->rate > 0)
        out_duration(out_key(j, "rate_time"), row->rate_us);
    else
        out_null(out_key(j, "rate_time"));
    if (row->rate_left >= 0)
        out_int(out_key(j, "rate_left"), row->rate_left);
    else
        out_null(out_key(j, "rate_left"));
    out_positive(out_key(j, "burst"), row->burst);
    out_positive(out_key(j, "weight"), row->weight);
    out_optional(out_key(j, "ordered"), queue_ordered(row));
    out_positive(out_key(j, "halted_by"), row->halted_by);
    out_time(out_key(j, "held_until"), row->held_until_us);
    out_optional(out_key(j, "dead_to"), one->dead_to);
    out_bool(out_key(j, "paused"), row->paused);
    out_time(out_key(j, "paused_at"), row->paused ? row->paused_at_us : 0);
    out_optional(out_key(j, "paused_why"), one->why);
    out_optional(out_key(j, "type"), one->type);
    queues_kept(out_key(j, "keep_done"), row->keep_done_us);
    queues_kept(out_key(j, "keep_dead"), row->keep_dead_us);
    out_close(j, '}');
}

int api_queues(struct dash_request *r, nq_err *err)
{
    struct queue_list list = {0};
    const int rc = queue_list_read(dash.q, &list, err);
    out_open(out_key(&r->out, "queues"), '[');
    for (size_t i = 0; rc == NQ_OK && i < list.n; i++)
        queues_write(&r->out, &list.all[i]);
    out_close(&r->out, ']');
    queue_list_free(&list);
    return rc;
}

/* ---- Changes ---- */

struct queues_target {
    const char *queue, *group, *type, *why;
};

static bool queues_target(struct dash_request *r, struct queues_target *t, nq_err *err)
{
    if (!api_body_str(r, "queue", &t->queue, err) || !api_body_str(r, "group", &t->group, err) ||
        !api_body_str(r, "type", &t->type, err) || !api_body_str(r, "why", &t->why, err))
        return false;
    if (!t->queue) {
        api_invalid(err, "queue is missing: the name of one queue");
        return false;
    }
    snprintf(r->what, sizeof r->what, "%s%s%s%s%s%s%s", t->queue, t->group ? "//" : "",
             t->group ? t->group : "", t->type ? " type " : "", t->type ? t->type : "", t->why ? ": " : "",
             t->why ? t->why : "");
    return true;
}

static int queues_pause(struct dash_request *r,
                        int (*call)(nq *, const char *, const nq_pause_options *, nq_err *), nq_err *err)
{
    struct queues_target t = {0};
    if (!queues_target(r, &t, err))
        return NQ_EINVAL;
    const nq_pause_options options = {.size = sizeof options, .group = t.group, .type = t.type, .why = t.why};
    return call(dash.q, t.queue, &options, err);
}

int api_queue_pause(struct dash_request *r, nq_err *err)
{
    return queues_pause(r, nq_pause, err);
}

int api_queue_resume(struct dash_request *r, nq_err *err)
{
    return queues_pause(r, nq_resume, err);
}

/* Seconds, or text: "1m"; least: in seconds. */
static bool queues_time(const struct dash_request *r, const char *member, double least, int64_t *us,
                        nq_err *err)
{
    const json_t *v = json_object_get(r->body, member);
    if (!v || json_is_null(v))
        return true;
    if (json_is_string(v))
        return nq_parse_duration(json_string_value(v), us, err) == NQ_OK;
    const double seconds = json_number_value(v);
    if (!json_is_number(v) || !(seconds >= least) || seconds > (double)NQ_MAX_DURATION / 1e6) {
        api_invalid(err, "%s must be seconds, or text such as \"1m\"", member);
        return false;
    }
    *us = (int64_t)(seconds * 1e6 + 0.5);
    return true;
}

static bool queues_rate_time(struct dash_request *r, int64_t *us, nq_err *err)
{
    const char *text = json_string_value(json_object_get(r->body, "rate_time"));
    return text ? cli_parse_rate_time(text, us, err) == NQ_OK : queues_time(r, "rate_time", 1e-6, us, err);
}

/* Or "none", "forever". */
static bool queues_keep(const struct dash_request *r, const char *member, int64_t *us, nq_err *err)
{
    const json_t *v = json_object_get(r->body, member);
    const char *text = json_string_value(v);
    if (text && strcmp(text, "forever") == 0)
        *us = NQ_FOREVER;
    else if (!(text && strcmp(text, "none") == 0) && !queues_time(r, member, 0, us, err))
        return false;
    if (v && !json_is_null(v) && *us == 0)
        *us = NQ_ZERO;
    return true;
}

static bool queues_ordered(const struct dash_request *r, int *ordered, nq_err *err)
{
    const char *text = NULL;
    if (!api_body_str(r, "ordered", &text, err) || !text)
        return err->code == NQ_OK;
    for (int i = 0; i < QUEUE_ORDERED; i++) {
        if (strcmp(queue_ordered_words[i], text) == 0) {
            *ordered = i;
            return true;
        }
    }
    api_invalid(err, "ordered: '%.40s' is none of no, strict, halt", text);
    return false;
}

int api_queue_limit(struct dash_request *r, nq_err *err)
{
    struct queues_target t = {0};
    int64_t burst = 0, weight = 0;
    if (!queues_target(r, &t, err))
        return NQ_EINVAL;
    nq_queue_settings s = {.size = sizeof s, .group = t.group, .type = t.type};
    if (!api_body_int(r, "max_running", 1, INT32_MAX, &s.max_running, err) ||
        !api_body_int(r, "rate_starts", 1, INT32_MAX, &s.rate, err) ||
        !queues_rate_time(r, &s.rate_us, err) || !api_body_int(r, "burst", 1, 1000000, &burst, err) ||
        !api_body_int(r, "weight", 1, 1000, &weight, err) || !queues_ordered(r, &s.ordered, err) ||
        !api_body_str(r, "dead_to", &s.dead_to, err) || !queues_keep(r, "keep_done", &s.keep_done_us, err) ||
        !queues_keep(r, "keep_dead", &s.keep_dead_us, err))
        return NQ_EINVAL;
    s.burst = (unsigned)burst;
    s.weight = (unsigned)weight;
    return nq_queue_set(dash.q, t.queue, &s, err);
}
