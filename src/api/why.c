/* SPDX-License-Identifier: MIT */
/* Why a task does not run: the reasons of the database as sentences. */
#include <inttypes.h>
#include <stdio.h>

#include "api.h"

#define WHY_MAX_WORDS 300 /* characters that the statement tells of a text */
#define WHY_MAX_NAME  (4 * WHY_MAX_WORDS)

/* ---- Sentences ---- */

struct why_one {
    nq_reason r;
    char reason[32], at[28];
    char name[WHY_MAX_NAME + 1], note[WHY_MAX_NAME + 1], detail[2 * WHY_MAX_NAME + 256];
};

struct why_phrase {
    const char *reason;
    void (*say)(const struct why_one *w, char *out, size_t size);
};

static const char *why_s(int64_t n)
{
    return n == 1 ? "" : "s";
}

/* ": note", where there is one. */
static void why_note(const struct why_one *w, char *out, size_t size)
{
    const size_t n = strlen(out);
    if (w->note[0] && n < size)
        snprintf(out + n, size - n, ": %s", w->note);
}

static void why_running(const struct why_one *w, char *out, size_t size)
{
    snprintf(out, size, "on %s since %s, attempt %" PRId64 " of %" PRId64, w->name, w->at, w->r.n, w->r.most);
}

static void why_orphaned(const struct why_one *w, char *out, size_t size)
{
    if (w->name[0])
        snprintf(out, size,
                 "its worker %s was last heard of at %s: once another worker has found it dead, the task "
                 "comes back",
                 w->name, w->at);
    else
        snprintf(out, size,
                 "its worker, number %" PRId64 ", is gone: another worker takes it back within seconds",
                 w->r.n);
}

static void why_cancelling(const struct why_one *w, char *out, size_t size)
{
    (void)w;
    snprintf(out, size, "it was asked to end, and its handler has not answered yet");
}

static void why_followed(const struct why_one *w, char *out, size_t size)
{
    snprintf(out, size, "%" PRId64 " follow-up%s with its key wait%s until it has ended", w->r.n,
             why_s(w->r.n), w->r.n == 1 ? "s" : "");
}

static void why_expired(const struct why_one *w, char *out, size_t size)
{
    snprintf(out, size, "at %s: it does not begin any more, and is dead as soon as its turn comes", w->at);
}

static void why_later(const struct why_one *w, char *out, size_t size)
{
    snprintf(out, size, "not due until %s", w->at);
}

static void why_retry(const struct why_one *w, char *out, size_t size)
{
    snprintf(out, size, "not due until %s, after %" PRId64 " failed attempt%s", w->at, w->r.n, why_s(w->r.n));
    why_note(w, out, size);
}

static void why_paused(const struct why_one *w, char *out, size_t size)
{
    snprintf(out, size, "%s since %s", w->name, w->at);
    why_note(w, out, size);
}

/* A list that was cut ends with a whole id. */
static void why_limited(const struct why_one *w, char *out, size_t size)
{
    size_t n = strlen(w->note);
    while (strlen(w->note) >= WHY_MAX_WORDS && n > 0 && w->note[n - 1] != ',')
        n--;
    snprintf(out, size, "%" PRId64 " of at most %" PRId64 " run in %s: tasks %.*s%s", w->r.n, w->r.most,
             w->name, (int)n, w->note, n < strlen(w->note) ? "..." : "");
}

static void why_held(const struct why_one *w, char *out, size_t size)
{
    snprintf(out, size, "a handler has %s held: nothing of it starts until %s", w->name, w->at);
}

static void why_halted(const struct why_one *w, char *out, size_t size)
{
    snprintf(out, size,
             "task %" PRId64 " of %s died at %s and stops its group until it is retried or deleted", w->r.n,
             w->name, w->at);
    why_note(w, out, size);
}

static void why_order(const struct why_one *w, char *out, size_t size)
{
    const bool runs = strcmp(w->note, "running") == 0;
    snprintf(out, size, "%s is in order, and task %" PRId64 " has begun before it and %s%s", w->name, w->r.n,
             runs ? "runs" : "is due again at ", runs ? "" : w->at);
}

static void why_rate(const struct why_one *w, char *out, size_t size)
{
    snprintf(out, size, "%" PRId64 " of %s may start in %.6g s, and the next one may at %s", w->r.n, w->name,
             (double)w->r.most / 1e6, w->at);
}

static void why_no_worker(const struct why_one *w, char *out, size_t size)
{
    if (w->r.n == 0)
        snprintf(out, size, "no worker runs");
    else
        snprintf(out, size, "no worker runs: %" PRId64 " silent, last heard of at %s", w->r.n, w->at);
}

static void why_not_served(const struct why_one *w, char *out, size_t size)
{
    snprintf(out, size, "%" PRId64 " worker%s live%s, and none serves queue %s", w->r.n, why_s(w->r.n),
             w->r.n == 1 ? "s" : "", w->name);
}

static void why_no_handler(const struct why_one *w, char *out, size_t size)
{
    snprintf(out, size, "%" PRId64 " worker%s serve%s its queue, and none takes type %s", w->r.n,
             why_s(w->r.n), w->r.n == 1 ? "s" : "", w->name);
}

static void why_in_line(const struct why_one *w, char *out, size_t size)
{
    const bool many = w->r.n > 10000;
    snprintf(out, size, "%" PRId64 "%s task%s of %s before it, %" PRId64 " handler%s free", w->r.n,
             many ? " or more" : "", why_s(w->r.n), w->name, w->r.most, why_s(w->r.most));
}

static void why_ended(const struct why_one *w, char *out, size_t size)
{
    snprintf(out, size, "since %s, after %" PRId64 " failed attempt%s", w->at, w->r.n, why_s(w->r.n));
    why_note(w, out, size);
}

static const struct why_phrase why_phrases[] = {
    {"limited", why_limited},
    {"held", why_held},
    {"halted", why_halted},
    {"order", why_order},
    {"rate", why_rate},
    {"running", why_running},
    {"orphaned", why_orphaned},
    {"cancelling", why_cancelling},
    {"followed", why_followed},
    {"expired", why_expired},
    {"later", why_later},
    {"retry", why_retry},
    {"paused", why_paused},
    {"no-worker", why_no_worker},
    {"not-served", why_not_served},
    {"no-handler", why_no_handler},
    {"in-line", why_in_line},
    {"done", why_ended},
    {"dead", why_ended},
    {"cancelled", why_ended},
};

/* ---- Reading ---- */

struct why_all {
    struct why_one *all;
    size_t n, cap;
    nq_buf sql;
    bool absent;
};

/* Up to a NUL, if somebody wrote one. */
static void why_text(char *out, size_t size, const nq_val *v)
{
    size_t n = v->type == NQ_VAL_TEXT || v->type == NQ_VAL_BLOB ? v->n : 0;
    n = n < size ? n : size - 1;
    if (n > 0)
        memcpy(out, v->p, n);
    out[n] = '\0';
}

static int64_t why_number(const nq_val *v)
{
    if (v->type == NQ_VAL_INT)
        return v->i;
    char text[24]; /* a sum of MySQL's is a decimal number */
    why_text(text, sizeof text, v);
    return strtoll(text, NULL, 10);
}

static int why_row(const nq_val cols[], size_t ncols, void *arg)
{
    struct why_all *a = arg;
    struct why_one *more = nq_grow(a->all, a->n, &a->cap, sizeof *more);
    (void)ncols;
    if (!more)
        return NQ_ENOMEM;
    a->all = more;
    struct why_one *w = &a->all[a->n];
    memset(w, 0, sizeof *w);
    why_text(w->reason, sizeof w->reason, &cols[NQ_WHY_REASON]);
    why_text(w->name, sizeof w->name, &cols[NQ_WHY_NAME]);
    why_text(w->note, sizeof w->note, &cols[NQ_WHY_NOTE]);
    w->r.n = why_number(&cols[NQ_WHY_N]);
    w->r.most = why_number(&cols[NQ_WHY_MOST]);
    w->r.at_us = why_number(&cols[NQ_WHY_AT_US]);
    nq_format_time(w->r.at_us, w->at);
    if (strcmp(w->reason, "not-here") == 0)
        a->absent = true;
    else
        a->n++;
    return 0;
}

static int why_run(nq_conn *c, void *arg, nq_err *err)
{
    struct why_all *a = arg;
    a->n = 0; /* it may be the second try */
    a->absent = false;
    return nq_sql(c, a->sql.p, NULL, 0, why_row, a, NULL, err);
}

static bool why_show(struct why_one *w, nq_reason_fn fn, void *udata)
{
    for (size_t i = 0; i < sizeof why_phrases / sizeof *why_phrases; i++)
        if (strcmp(w->reason, why_phrases[i].reason) == 0)
            why_phrases[i].say(w, w->detail, sizeof w->detail);
    w->r.reason = w->reason;
    w->r.name = w->name;
    w->r.note = w->note;
    w->r.detail = w->detail;
    return fn(&w->r, udata) == 0;
}

NQ_API int nq_why(nq *q, nq_id id, nq_reason_fn fn, void *udata, nq_err *err)
{
    struct why_all a = {0};
    int rc = nq_usable(q, err);
    if (rc != NQ_OK)
        return rc;
    if (!fn)
        return nq_err_set(err, NQ_EINVAL, "no function to tell the reasons to was given");
    if ((rc = nq_ready(q, err)) != NQ_OK)
        return rc;
    nq_why_template(&a.sql, id);
    rc = a.sql.failed ? nq_err_nomem(err) : nq_store_do(nq_store_of(q), why_run, &a, err);
    if (rc == NQ_OK && a.n == 0)
        rc = nq_absent(id, err);
    for (size_t i = 0; rc == NQ_OK && i < a.n; i++)
        if (!why_show(&a.all[i], fn, udata))
            break;
    free(a.all);
    nq_buf_free(&a.sql);
    return rc;
}

NQ_API int nq_why_sql(char **sql, const char *url, nq_id id, nq_err *err)
{
    nq_store *s = calloc(1, sizeof *s); /* never opened: it only holds the driver and the prefix */
    nq_buf text = {0}, out = {0};
    int rc = NQ_OK;
    if (!s)
        return nq_err_nomem(err);
    if (!sql)
        rc = nq_err_set(err, NQ_EINVAL, "sql is NULL");
    if (rc == NQ_OK)
        rc = nq_store_configure(s, url, err);
    if (rc == NQ_OK) {
        nq_why_template(&text, id);
        if (text.failed || nq_sql_expand(s, text.p, &out) != NQ_OK) {
            rc = nq_err_nomem(err);
        } else {
            nq_buf_str(&out, ";\n");
            rc = out.failed ? nq_err_nomem(err) : NQ_OK;
        }
    }
    if (rc == NQ_OK)
        *sql = out.p;
    else
        nq_buf_free(&out);
    nq_buf_free(&text);
    nq_store_close(s);
    return rc;
}
