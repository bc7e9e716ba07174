/* SPDX-License-Identifier: MIT */
/* Schedules: what comes again and again, when next, what came; running and pausing them. */
#include <time.h>

#include "dash.h"

static const char *schedules_word(const char *const words[3], int i)
{
    return i >= 0 && i <= 2 ? words[i] : NULL;
}

static const char *schedules_state(const nq_schedule_row *row)
{
    if (row->error[0])
        return "error";
    if (row->paused)
        return "paused";
    return row->over ? "over" : "active";
}

static void schedules_payload(struct out *j, const nq_schedule_row *row)
{
    struct text shown = {0}, base64 = {0};
    const size_t here = row->payload_size < 256 ? row->payload_size : 256;
    const size_t whole = here < row->payload_size ? text_whole(row->payload, here) : here;
    mask_text(&shown, row->payload, text_is_utf8(row->payload, whole) ? whole : here);
    const bool utf8 = text_is_utf8(shown.p, shown.n);
    if (!utf8)
        text_base64(&base64, shown.p, shown.n);
    out_int(out_key(j, "payload_size"), (int64_t)row->payload_size);
    out_text(out_key(j, "payload"), utf8 ? shown.p : base64.p, utf8 ? shown.n : base64.n);
    out_str(out_key(j, "payload_encoding"), utf8 ? "utf-8" : "base64");
    out_bool(out_key(j, "payload_truncated"), here < row->payload_size);
    text_free(&shown);
    text_free(&base64);
}

static int schedules_row(const nq_schedule_row *row, void *udata)
{
    static const char *const misfires[] = {"once", "skip", "all"}, *const overlaps[] = {"skip", "allow",
                                                                                        "queue"};
    struct out *j = udata;
    out_open(j, '{');
    out_str(out_key(j, "name"), row->name);
    out_str(out_key(j, "spec"), row->spec);
    out_str(out_key(j, "zone"), row->zone);
    out_time(out_key(j, "next_at"), row->next_at_us);
    out_time(out_key(j, "last_at"), row->last_at_us);
    out_str(out_key(j, "state"), schedules_state(row));
    out_positive(out_key(j, "task_id"), row->task_id);
    out_optional(out_key(j, "misfire"), schedules_word(misfires, row->misfire));
    out_optional(out_key(j, "overlap"), schedules_word(overlaps, row->overlap));
    out_duration(out_key(j, "jitter"), row->jitter_us);
    out_time(out_key(j, "start"), row->starts_at_us);
    out_time(out_key(j, "end"), row->ends_at_us);
    out_str(out_key(j, "queue"), row->queue);
    out_optional(out_key(j, "group"), row->group);
    out_str(out_key(j, "type"), row->type);
    out_int(out_key(j, "priority"), row->priority);
    out_duration(out_key(j, "timeout"), row->timeout_us);
    out_int(out_key(j, "max_retries"), row->max_retries);
    out_time(out_key(j, "paused_at"), row->paused_at_us);
    api_text(out_key(j, "paused_why"), row->paused_why);
    out_optional(out_key(j, "source"), row->source);
    api_text(out_key(j, "error"), row->error);
    api_headers(out_key(j, "headers"), row->headers, row->nheaders);
    schedules_payload(j, row);
    out_close(j, '}');
    return 0;
}

int api_schedules(struct dash_request *r, nq_err *err)
{
    out_open(out_key(&r->out, "schedules"), '[');
    const int rc = nq_schedule_list(dash.q, api_param(r, "name"), schedules_row, &r->out, err);
    out_close(&r->out, ']');
    return rc;
}

static int schedules_missing(nq_err *err)
{
    return api_invalid(err, "name is missing: the name of one schedule");
}

/* ---- Next ---- */

struct schedules_times {
    struct out *out;
    int64_t n;
    int rc;
    nq_err *err;
};

/* What is paused, over or in error has no next time. */
static int schedules_times(const nq_schedule_row *row, void *udata)
{
    struct schedules_times *t = udata;
    int64_t at = row->next_at_us;
    for (int64_t i = 0; i < t->n && at > 0 && strcmp(schedules_state(row), "active") == 0; i++) {
        if (row->ends_at_us > 0 && at > row->ends_at_us)
            break;
        out_time(t->out, at);
        nq_err none = {0};
        if (nq_cron_next(row->spec, row->zone[0] ? row->zone : NULL, at, &at, &none) != NQ_OK)
            break;
    }
    return 0;
}

int api_schedules_next(struct dash_request *r, nq_err *err)
{
    struct schedules_times t = {.out = &r->out, .n = 5};
    const char *name = api_param(r, "name");
    if (!name)
        return schedules_missing(err);
    if (!api_param_int(r, "n", 1, 50, &t.n, err))
        return NQ_EINVAL;
    out_open(out_key(&r->out, "next"), '[');
    const int rc = nq_schedule_list(dash.q, name, schedules_times, &t, err);
    out_close(&r->out, ']');
    return rc;
}

static int schedules_firing(const nq_firing *f, void *udata)
{
    struct out *j = udata;
    out_open(j, '{');
    out_time(out_key(j, "due_at"), f->due_at_us);
    out_time(out_key(j, "made_at"), f->made_at_us);
    out_positive(out_key(j, "task_id"), f->task_id);
    out_close(j, '}');
    return 0;
}

int api_schedules_firings(struct dash_request *r, nq_err *err)
{
    const char *name = api_param(r, "name");
    int64_t limit = 20;
    if (!name)
        return schedules_missing(err);
    if (!api_param_int(r, "limit", 1, 1000, &limit, err))
        return NQ_EINVAL;
    out_open(out_key(&r->out, "firings"), '[');
    const int rc = nq_schedule_firings(dash.q, name, (unsigned)limit, schedules_firing, &r->out, err);
    out_close(&r->out, ']');
    return rc;
}

/* ---- Changes ---- */

static const char *schedules_named(struct dash_request *r, const char **why, nq_err *err)
{
    const char *name = NULL;
    *why = NULL;
    if (!api_body_str(r, "name", &name, err) || !api_body_str(r, "why", why, err))
        return NULL;
    if (!name)
        schedules_missing(err);
    else
        snprintf(r->what, sizeof r->what, "%s%s%s", name, *why ? ": " : "", *why ? *why : "");
    return name;
}

int api_schedule_run(struct dash_request *r, nq_err *err)
{
    const char *why, *name = schedules_named(r, &why, err);
    nq_id id = 0;
    const int rc = name ? nq_schedule_run(dash.q, name, &id, err) : NQ_EINVAL;
    if (rc == NQ_OK)
        out_int(out_key(&r->out, "id"), id);
    return rc;
}

int api_schedule_pause(struct dash_request *r, nq_err *err)
{
    const char *why, *name = schedules_named(r, &why, err);
    return name ? nq_schedule_pause(dash.q, name, why, err) : NQ_EINVAL;
}

int api_schedule_resume(struct dash_request *r, nq_err *err)
{
    const char *why, *name = schedules_named(r, &why, err);
    return name ? nq_schedule_resume(dash.q, name, err) : NQ_EINVAL;
}
