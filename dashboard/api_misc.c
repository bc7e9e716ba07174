/* SPDX-License-Identifier: MIT */
/* Workers, checks, sessions, the action log. */
#include "dash.h"
#include "nanoq_metrics.h"

static int misc_worker(const nq_worker_row *row, void *udata)
{
    struct out *j = udata;
    out_open(j, '{');
    out_int(out_key(j, "id"), (int64_t)row->id);
    out_str(out_key(j, "name"), row->name);
    out_int(out_key(j, "running"), row->running);
    out_int(out_key(j, "concurrency"), row->concurrency);
    out_duration(out_key(j, "beat_ago"), row->beat_ago_us);
    out_time(out_key(j, "started_at"), row->started_at_us);
    out_time(out_key(j, "beat_at"), row->beat_at_us);
    out_optional(out_key(j, "version"), row->version);
    out_bool(out_key(j, "knows"), row->knows);
    out_optional(out_key(j, "types"), row->types);
    out_optional(out_key(j, "queues"), row->queues);
    out_close(j, '}');
    return 0;
}

int api_workers(struct dash_request *r, nq_err *err)
{
    out_open(out_key(&r->out, "workers"), '[');
    const int rc = nq_workers(dash.q, misc_worker, &r->out, err);
    out_close(&r->out, ']');
    return rc;
}

static int misc_check(const nq_check *c, void *udata)
{
    struct out *j = udata;
    out_open(j, '{');
    out_int(out_key(j, "check"), c->number);
    out_optional(out_key(j, "level"), nq_check_level_name(c->level));
    out_str(out_key(j, "name"), c->name);
    out_str(out_key(j, "found"), c->found);
    out_optional(out_key(j, "todo"), c->todo);
    out_close(j, '}');
    return 0;
}

int api_doctor(struct dash_request *r, nq_err *err)
{
    out_open(out_key(&r->out, "checks"), '[');
    const int rc = nq_doctor(dash.q, misc_check, &r->out, err);
    out_close(&r->out, ']');
    return rc;
}

int api_session(struct dash_request *r, nq_err *err)
{
    struct out *j = &r->out;
    (void)err;
    out_str(out_key(j, "role"), r->who.role == DASH_ADMIN ? "admin" : "viewer");
    out_str(out_key(j, "who"), r->who.name);
    out_bool(out_key(j, "token"), r->who.token);
    out_bool(out_key(j, "read_only"), dash.read_only);
    mask_names(out_key(j, "mask"));
    out_str(out_key(j, "version"), nq_version());
    out_str(out_key(j, "database"), dash.database);
    out_str(out_key(j, "request_header"), "X-Nanoq-Request");
    return NQ_OK;
}

int api_login(struct dash_request *r, nq_err *err)
{
    const char *token = NULL;
    if (!api_body_str(r, "token", &token, err))
        return NQ_EINVAL;
    if (!token)
        return api_invalid(err, "token is missing");
    if (access_open())
        return api_fail(r, 400, "EINVAL", "there are no tokens here: nobody need sign in");
    if (access_login(r, token))
        out_str(out_key(&r->out, "role"), r->who.role == DASH_ADMIN ? "admin" : "viewer");
    return NQ_OK;
}

int api_logout(struct dash_request *r, nq_err *err)
{
    (void)err;
    access_logout(r);
    return NQ_OK;
}

int api_log(struct dash_request *r, nq_err *err)
{
    int64_t limit = 200;
    if (!api_param_int(r, "limit", 1, 500, &limit, err))
        return NQ_EINVAL;
    actions_write(out_key(&r->out, "log"), (size_t)limit);
    return NQ_OK;
}

/* Streams are answered by stream.c: they have no answer that could be run for. */
int api_events(struct dash_request *r, nq_err *err)
{
    (void)r;
    return api_invalid(err, "a stream has no answer");
}

static int misc_metrics(const char *text, size_t n, void *udata)
{
    text_add(udata, text, n);
    return 0;
}

int api_metrics(struct dash_request *r, nq_err *err)
{
    const nq_metrics_options options = {.size = sizeof options, .parts = NQ_METRICS_DATABASE};
    out_free(&r->out);
    const int rc = nq_metrics(dash.q, &options, misc_metrics, &r->out.text, err);
    /* What is written of a database that is away says so: nanoq_database_up 0. */
    if (r->out.text.n == 0)
        return rc;
    r->type = NQ_METRICS_CONTENT_TYPE;
    return NQ_OK;
}
