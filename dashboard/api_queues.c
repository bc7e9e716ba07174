/* SPDX-License-Identifier: MIT */
/* Queues: what they have, their settings, pausing and limiting them. */
#include "dash.h"

/* What is known of a queue or group, or of a type in one, which has settings of its own. */
struct queues_one {
    char name[NQ_MAX_QUEUE + 1], why[256], dead_to[NQ_MAX_QUEUE + 1], type[NQ_MAX_TYPE + 1];
    bool counted; /* it is a queue with tasks */
    uint64_t due, delayed, running, done, dead, cancelled;
    int64_t oldest_due_us;
    bool capped; /* of due, delayed and running at least one is a lower bound */
    unsigned workers, handlers;
    nq_queue_row row; /* its strings are unset */
};

struct queues_all {
    struct queues_one *all;
    size_t n, cap;
};

static struct queues_one *queues_find(struct queues_all *a, const char *name, size_t size, const char *type)
{
    if (size > NQ_MAX_QUEUE)
        return NULL;
    for (size_t i = 0; i < a->n; i++)
        if (strlen(a->all[i].name) == size && memcmp(a->all[i].name, name, size) == 0 &&
            strcmp(a->all[i].type, type) == 0)
            return &a->all[i];
    if (a->n == a->cap) {
        a->cap = 2 * a->cap + 16;
        a->all = cli_realloc(a->all, a->cap * sizeof *a->all);
    }
    struct queues_one *one = &a->all[a->n++];
    *one = (struct queues_one){.row = {.ordered = -1, .rate_left = -1}};
    memcpy(one->name, name, size);
    snprintf(one->type, sizeof one->type, "%s", type);
    return one;
}

static int queues_stats(const nq_queue_stats *stats, void *udata)
{
    struct queues_one *one = queues_find(udata, stats->queue, strlen(stats->queue), "");
    if (!one)
        return 0;
    one->counted = true;
    one->due = stats->due;
    one->delayed = stats->delayed;
    one->running = stats->running;
    one->done = stats->done;
    one->dead = stats->dead;
    one->cancelled = stats->cancelled;
    one->capped = (stats->capped & (NQ_CAPPED_DUE | NQ_CAPPED_DELAYED | NQ_CAPPED_RUNNING)) != 0;
    one->oldest_due_us = stats->due ? stats->oldest_due_us : 0;
    return 0;
}

static int queues_settings(const nq_queue_row *row, void *udata)
{
    struct queues_one *one = queues_find(udata, row->name, strlen(row->name), row->type);
    if (!one)
        return 0;
    one->row = *row;
    snprintf(one->why, sizeof one->why, "%.*s",
             (int)text_whole(row->paused_why, strnlen(row->paused_why, 255)), row->paused_why);
    snprintf(one->dead_to, sizeof one->dead_to, "%s", row->dead_to);
    return 0;
}

static int queues_worker(const nq_worker_row *row, void *udata)
{
    for (const char *at = row->queues; *at;) {
        const size_t n = strcspn(at, ",");
        struct queues_one *one = n > 0 ? queues_find(udata, at, n, "") : NULL;
        if (one) {
            one->workers++;
            one->handlers += row->concurrency;
        }
        at += n + (at[n] == ',');
    }
    return 0;
}

static int queues_compare(const void *a, const void *b)
{
    const struct queues_one *x = a, *y = b;
    const int order = strcmp(x->name, y->name);
    return order ? order : strcmp(x->type, y->type);
}

static void queues_counts(struct out *j, const struct queues_one *one)
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
    out_bool(out_key(j, "capped"), one->capped);
    out_int(out_key(j, "workers"), one->workers);
    out_int(out_key(j, "handlers"), one->handlers);
}

static void queues_write(struct out *j, const struct queues_one *one)
{
    static const char *const ordered[] = {"no", "strict", "halt"};
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
    out_optional(out_key(j, "ordered"),
                 row->ordered >= 0 && row->ordered <= 2 ? ordered[row->ordered] : NULL);
    out_positive(out_key(j, "halted_by"), row->halted_by);
    out_time(out_key(j, "held_until"), row->held_until_us);
    out_optional(out_key(j, "dead_to"), one->dead_to);
    out_bool(out_key(j, "paused"), row->paused);
    out_time(out_key(j, "paused_at"), row->paused ? row->paused_at_us : 0);
    out_optional(out_key(j, "paused_why"), one->why);
    out_optional(out_key(j, "type"), one->type);
    out_close(j, '}');
}

int api_queues(struct dash_request *r, nq_err *err)
{
    struct queues_all all = {0};
    int rc = nq_stats(dash.q, queues_stats, &all, err);
    if (rc == NQ_OK)
        rc = nq_queue_get(dash.q, NULL, queues_settings, &all, err);
    if (rc == NQ_OK)
        rc = nq_workers(dash.q, queues_worker, &all, err);
    if (rc == NQ_OK && all.n > 0)
        qsort(all.all, all.n, sizeof *all.all, queues_compare);
    out_open(out_key(&r->out, "queues"), '[');
    for (size_t i = 0; rc == NQ_OK && i < all.n; i++)
        queues_write(&r->out, &all.all[i]);
    out_close(&r->out, ']');
    free(all.all);
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

/* Seconds, or "1m". */
static bool queues_rate_time(const struct dash_request *r, int64_t *us, nq_err *err)
{
    const json_t *v = json_object_get(r->body, "rate_time");
    if (!v || json_is_null(v))
        return true;
    if (json_is_string(v)) {
        const bool unit = strchr("smhd", json_string_value(v)[0]); /* "m" is one of it */
        char *text = cli_format("%s%s", unit ? "1" : "", json_string_value(v));
        const int rc = nq_parse_duration(text, us, err);
        free(text);
        return rc == NQ_OK;
    }
    const double seconds = json_number_value(v);
    if (!json_is_number(v) || !(seconds > 0) || seconds > (double)NQ_MAX_DURATION / 1e6) {
        api_invalid(err, "rate_time must be seconds, or text such as \"1m\"");
        return false;
    }
    *us = (int64_t)(seconds * 1e6 + 0.5);
    return true;
}

static bool queues_ordered(const struct dash_request *r, int *ordered, nq_err *err)
{
    static const char *const words[] = {"no", "strict", "halt"};
    const char *text = NULL;
    if (!api_body_str(r, "ordered", &text, err) || !text)
        return err->code == NQ_OK;
    for (int i = 0; i < 3; i++) {
        if (strcmp(words[i], text) == 0) {
            *ordered = i;
            return true;
        }
    }
    api_invalid(err, "ordered: '%.40s' is none of no, strict, halt", text);
    return false;
}

int api_queue_limit(struct dash_request *r, nq_err *err)
{
    static const char *const known[] = {"queue",       "group",       "type",      "why",
                                        "max_running", "rate_starts", "rate_time", "burst",
                                        "weight",      "ordered",     "dead_to",   NULL};
    struct queues_target t = {0};
    int64_t burst = 0, weight = 0;
    const char *name;
    json_t *value;
    if (!queues_target(r, &t, err))
        return NQ_EINVAL;
    json_object_foreach(r->body, name, value)
    {
        size_t i = 0;
        while (known[i] && strcmp(known[i], name) != 0)
            i++;
        if (!known[i])
            return api_invalid(err, "'%.40s' is no setting: docs/api.md", name);
    }
    nq_queue_settings s = {.size = sizeof s, .group = t.group, .type = t.type};
    if (!api_body_int(r, "max_running", 1, INT32_MAX, &s.max_running, err) ||
        !api_body_int(r, "rate_starts", 1, INT32_MAX, &s.rate, err) ||
        !queues_rate_time(r, &s.rate_us, err) || !api_body_int(r, "burst", 1, 1000000, &burst, err) ||
        !api_body_int(r, "weight", 1, 1000, &weight, err) || !queues_ordered(r, &s.ordered, err) ||
        !api_body_str(r, "dead_to", &s.dead_to, err))
        return NQ_EINVAL;
    s.burst = (unsigned)burst;
    s.weight = (unsigned)weight;
    return nq_queue_set(dash.q, t.queue, &s, err);
}
