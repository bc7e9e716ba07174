/* SPDX-License-Identifier: MIT */
/* Tasks: lists, one of them, its attempts, why it does not run. */
#include "dash.h"

/* ---- One task ---- */

/* Text in which values may be masked. */
bool api_text(struct out *j, const char *s)
{
    struct text shown = {0};
    if (!s || !*s) {
        out_null(j);
        return false;
    }
    const bool masked = mask_text(&shown, s, strlen(s));
    out_text(j, shown.p, shown.n);
    text_free(&shown);
    return masked;
}

/* Bytes, as text or base64. NAME, NAME_encoding. */
static bool tasks_bytes(struct out *j, const char *name, const void *p, size_t n, bool cut)
{
    char encoding[32];
    struct text shown = {0}, base64 = {0};
    snprintf(encoding, sizeof encoding, "%s_encoding", name);
    if (!p) {
        out_null(out_key(j, name));
        out_null(out_key(j, encoding));
        return false;
    }
    const bool masked = mask_text(&shown, p, cut && text_is_utf8(p, text_whole(p, n)) ? text_whole(p, n) : n);
    const bool utf8 = text_is_utf8(shown.p, shown.n);
    if (!utf8)
        text_base64(&base64, shown.p, shown.n);
    const struct text *of = utf8 ? &shown : &base64;
    out_text(out_key(j, name), of->p ? of->p : "", of->n);
    out_str(out_key(j, encoding), utf8 ? "utf-8" : "base64");
    text_free(&shown);
    text_free(&base64);
    return masked;
}

bool api_headers(struct out *j, const nq_header *all, size_t n)
{
    bool masked = false;
    if (n == 0) {
        out_null(j);
        return false;
    }
    out_open(j, '{');
    for (size_t i = 0; i < n; i++) {
        const bool hide = mask_key(all[i].name, strlen(all[i].name));
        out_key(j, all[i].name);
        if (hide)
            out_str(j, "***");
        else
            masked = api_text(j, all[i].value) || masked;
        masked = masked || hide;
    }
    out_close(j, '}');
    return masked;
}

static bool tasks_progress(struct out *j, const nq_info *info)
{
    const bool told = info->progress_at_us != 0;
    if (told)
        out_int(out_key(j, "progress_done"), info->progress_done);
    else
        out_null(out_key(j, "progress_done"));
    out_positive(out_key(j, "progress_total"), told ? info->progress_total : 0);
    const bool masked = api_text(out_key(j, "progress_note"), info->progress_note);
    out_time(out_key(j, "progress_at"), info->progress_at_us);
    return masked;
}

bool api_task_fields(struct out *j, const nq_info *info, size_t here)
{
    const char *state = nq_state_name(info->state);
    out_int(out_key(j, "id"), info->id);
    out_str(out_key(j, "state"), state ? state : "?");
    out_str(out_key(j, "queue"), info->queue);
    out_optional(out_key(j, "group"), info->group);
    out_str(out_key(j, "type"), info->type);
    out_int(out_key(j, "priority"), info->priority);
    out_int(out_key(j, "attempts"), info->attempts);
    out_int(out_key(j, "crashes"), info->crashes);
    out_int(out_key(j, "max_retries"), info->max_retries);
    out_int(out_key(j, "generation"), info->generation);
    out_duration(out_key(j, "timeout"), info->timeout_us);
    out_time(out_key(j, "created_at"), info->created_at_us);
    out_time(out_key(j, "run_at"), info->run_at_us);
    out_time(out_key(j, "expires_at"), info->expires_at_us);
    out_positive(out_key(j, "dead_id"), info->dead_id);
    out_optional(out_key(j, "schedule"), info->schedule);
    out_time(out_key(j, "due_at"), info->due_at_us);
    out_time(out_key(j, "claimed_at"), info->claimed_at_us);
    out_time(out_key(j, "finished_at"), info->finished_at_us);
    out_optional(out_key(j, "worker"), info->worker);
    out_bool(out_key(j, "cancelling"), info->cancelling);
    bool masked = tasks_progress(j, info);
    masked = api_text(out_key(j, "error"), info->error) || masked;
    masked = tasks_bytes(j, "result", info->result, info->result_size, false) || masked;
    out_time(out_key(j, "keep_until"), info->keep_until_us);
    masked = api_headers(out_key(j, "headers"), info->headers, info->nheaders) || masked;
    out_words(out_key(j, "tags"), info->tags, info->ntags);
    out_int(out_key(j, "payload_size"), (int64_t)info->payload_size);
    masked = tasks_bytes(j, "payload", info->payload, here, here < info->payload_size) || masked;
    out_bool(out_key(j, "payload_truncated"), here < info->payload_size);
    return masked;
}

/* ---- A list ---- */

/* Each task by itself, as it is known only at the end which of them are of this page. */
struct tasks_page {
    struct out rows[501];
    nq_id ids[501];
    size_t n;
};

static int tasks_row(const nq_info *info, void *udata)
{
    struct tasks_page *p = udata;
    struct out *j = &p->rows[p->n];
    out_open(j, '{');
    api_task_fields(j, info, info->payload_size < 256 ? info->payload_size : 256);
    out_close(j, '}');
    p->ids[p->n++] = info->id;
    return 0;
}

static int tasks_any(const nq_info *info, void *udata)
{
    (void)info;
    *(bool *)udata = true;
    return 0;
}

static bool tasks_place(struct dash_request *r, nq_list_options *o, int64_t *limit, nq_err *err)
{
    const char *order = api_param(r, "order");
    if (order && strcmp(order, "oldest") != 0 && strcmp(order, "newest") != 0) {
        api_invalid(err, "order: '%.40s' is neither newest nor oldest", order);
        return false;
    }
    o->order = order && strcmp(order, "oldest") == 0 ? NQ_OLDEST_FIRST : NQ_NEWEST_FIRST;
    return api_param_int(r, "after", 0, INT64_MAX, &o->after, err) &&
           api_param_int(r, "before", 0, INT64_MAX, &o->before, err) &&
           api_param_int(r, "limit", 1, 500, limit, err);
}

/* Is there one more, beyond this page on the side that was not asked for? */
static int tasks_beyond(nq_list_options o, nq_id after, nq_id before, bool *any, nq_err *err)
{
    o.after = after;
    o.before = before;
    o.limit = 1;
    o.bounds = NULL;
    return nq_list(dash.q, &o, tasks_any, any, err);
}

static void tasks_page_write(struct out *j, struct tasks_page *p, size_t first, size_t n)
{
    out_open(out_key(j, "tasks"), '[');
    for (size_t i = first; i < first + n; i++)
        out_raw(j, p->rows[i].text.p, p->rows[i].text.n);
    out_close(j, ']');
    out_positive(out_key(j, "first"), n > 0 ? p->ids[first] : 0);
    out_positive(out_key(j, "last"), n > 0 ? p->ids[first + n - 1] : 0);
}

static void tasks_bounds(struct out *j, const nq_bounds *b)
{
    char text[160];
    snprintf(text, sizeof text, "No index leads to such tasks: %d were looked at, up to id %lld.",
             NQ_DEFAULT_LOOK, (long long)b->reached);
    out_optional(out_key(j, "bounded"), b->bounded ? text : NULL);
    out_positive(out_key(j, "reached"), b->bounded ? b->reached : 0);
}

int api_tasks(struct dash_request *r, nq_err *err)
{
    static const char *const others[] = {"order", "after", "before", "limit", NULL};
    struct pick f = {0};
    nq_bounds bounds = {.size = sizeof bounds};
    nq_list_options options = {.size = sizeof options, .filter = &f.filter, .bounds = &bounds}, *o = &options;
    int64_t limit = 50;
    if (!pick_params(&f, r, others, err) || !tasks_place(r, o, &limit, err))
        return NQ_EINVAL;
    const bool back = o->before != 0 && o->after == 0;
    struct tasks_page *p = cli_alloc(sizeof *p);
    bool other = false;
    o->limit = (unsigned)limit + 1;
    int rc = nq_list(dash.q, o, tasks_row, p, err);
    const bool more = p->n > (size_t)limit;
    const size_t n = more ? (size_t)limit : p->n, first = back && more ? 1 : 0;
    if (rc == NQ_OK && n > 0 && (back || o->after != 0))
        rc = tasks_beyond(*o, back ? p->ids[first + n - 1] : 0, back ? 0 : p->ids[first], &other, err);
    if (rc == NQ_OK) {
        tasks_page_write(&r->out, p, first, n);
        out_bool(out_key(&r->out, "more_before"), back ? more : other);
        out_bool(out_key(&r->out, "more_after"), back ? other : more);
        tasks_bounds(&r->out, &bounds);
    }
    for (size_t i = 0; i < p->n; i++)
        out_free(&p->rows[i]);
    free(p);
    return rc;
}

/* ---- Counting ---- */

int api_tasks_count(struct dash_request *r, nq_err *err)
{
    static const char *const others[] = {"order", "after", "before", "limit", NULL};
    struct pick f = {0};
    nq_counted counted = {.size = sizeof counted};
    if (!pick_params(&f, r, others, err))
        return NQ_EINVAL;
    const int rc = nq_count(dash.q, &f.filter, NULL, &counted, err);
    if (rc != NQ_OK)
        return rc;
    out_int(out_key(&r->out, "n"), (int64_t)counted.n);
    out_bool(out_key(&r->out, "capped"), counted.more);
    out_bool(out_key(&r->out, "bounded"), counted.bounded);
    return NQ_OK;
}
