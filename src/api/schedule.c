/* SPDX-License-Identifier: MIT */
/* Schedules: set, declared, removed, paused, fired by hand. */
#include <stdio.h>

#include "api.h"

#define SCHEDULE_MAX_JITTER NQ_DAYS(1)
#define SCHEDULE_MAX_SOURCE 100

/* ---- Checks ---- */

/* One that is valid, with its defaults. */
struct schedule_new {
    nq_schedule s;
    nq_new task; /* its headers are to be freed */
};

static int schedule_check_name(const char *name, nq_err *err)
{
    char shown[128];
    if (!name)
        return nq_err_set(err, NQ_EINVAL, "the name of the schedule is NULL");
    if (nq_schedule_named(name))
        return NQ_OK;
    nq_printable(shown, sizeof shown, name, strnlen(name, NQ_MAX_SCHEDULE + 1));
    return nq_err_set(err, NQ_EINVAL,
                      "schedule name '%s': allowed are 1 to %d bytes of A-Z a-z 0-9 _ . : / -", shown,
                      NQ_MAX_SCHEDULE);
}

static int schedule_check_source(const char *source, nq_err *err)
{
    const int rc = nq_check_words("source", source, SCHEDULE_MAX_SOURCE, err);
    if (rc == NQ_OK && !source[0])
        return nq_err_set(err, NQ_EINVAL, "source is empty: 1 to %d bytes are allowed", SCHEDULE_MAX_SOURCE);
    return rc;
}

static int schedule_check_times(nq_schedule *s, nq_err *err)
{
    char from[28], to[28];
    if (s->misfire < NQ_MISFIRE_ONCE || s->misfire > NQ_MISFIRE_ALL)
        return nq_err_set(err, NQ_EINVAL, "misfire is %d; see enum nq_misfire", s->misfire);
    if (s->overlap < NQ_OVERLAP_SKIP || s->overlap > NQ_OVERLAP_QUEUE)
        return nq_err_set(err, NQ_EINVAL, "overlap is %d; see enum nq_overlap", s->overlap);
    s->jitter_us = nq_option(s->jitter_us, 0);
    if (s->jitter_us < 0 || s->jitter_us > SCHEDULE_MAX_JITTER)
        return nq_err_set(err, NQ_EINVAL, "jitter_us is %lld; allowed are 0 to a day",
                          (long long)s->jitter_us);
    if (s->starts_at_us < 0 || s->starts_at_us >= NQ_SCHEDULES_NEVER || s->ends_at_us < 0 ||
        s->ends_at_us >= NQ_SCHEDULES_NEVER)
        return nq_err_set(err, NQ_EINVAL, "starts_at_us or ends_at_us is no time of the years 1970 to 9999");
    if (s->ends_at_us && s->ends_at_us < s->starts_at_us) {
        nq_format_time(s->starts_at_us, from);
        nq_format_time(s->ends_at_us, to);
        return nq_err_set(err, NQ_EINVAL, "it ends at %s, before it starts at %s", to, from);
    }
    return NQ_OK;
}

/* What a task of a schedule cannot have: its time is the schedule's, and it has no key. */
static int schedule_check_task(const nq_task_spec *t, nq_err *err)
{
    nq_task_spec s;
    if (!t)
        return nq_err_set(err, NQ_EINVAL, "task is NULL: what is to come?");
    const int rc = nq_options_copy(&s, sizeof s, t, "nq_task_spec", err);
    if (rc != NQ_OK)
        return rc;
    if (s.delay_us || s.run_at_us || s.expires_us)
        return nq_err_set(err, NQ_EINVAL,
                          "the task has delay_us, run_at_us or expires_us: its time is the schedule's");
    if ((s.unique != NQ_UNIQUE_PAYLOAD && s.unique != NQ_UNIQUE_NONE) || s.until != NQ_UNTIL_DONE ||
        s.duplicate != NQ_REFUSE)
        return nq_err_set(
            err, NQ_EINVAL,
            "the task has unique data, until or duplicate: tasks of a schedule have no unique key, see "
            "overlap");
    return NQ_OK;
}

/* Each of its tasks says of which schedule and time it is. */
static int schedule_check_room(const struct schedule_new *n, nq_err *err)
{
    const size_t size = n->task.headers ? strlen(n->task.headers) : 0;
    const size_t most = NQ_MAX_HEADERS_SIZE - NQ_SCHEDULE_HEADER - strlen(n->s.name);
    return size <= most ? NQ_OK
                        : nq_err_set(err, NQ_ETOOBIG,
                                     "the headers and tags are %zu bytes long, at most %zu are allowed of a "
                                     "schedule with this name",
                                     size, most);
}

static int schedule_check(nq *q, const nq_schedule *theirs, struct schedule_new *out, nq_err *err)
{
    int64_t next, zone_at;
    *out = (struct schedule_new){0};
    if (!theirs)
        return nq_err_set(err, NQ_EINVAL, "the schedule is NULL");
    int rc = nq_options_copy(&out->s, sizeof out->s, theirs, "nq_schedule", err);
    if (rc != NQ_OK || (rc = schedule_check_name(out->s.name, err)) != NQ_OK ||
        (rc = schedule_check_times(&out->s, err)) != NQ_OK ||
        (rc = schedule_check_task(out->s.task, err)) != NQ_OK ||
        (out->s.source && (rc = schedule_check_source(out->s.source, err)) != NQ_OK))
        return rc;
    if (!out->s.zone || !out->s.zone[0])
        out->s.zone = "UTC";
    rc = nq_schedule_first(out->s.spec, out->s.zone, 0, 0, INT64_MAX, &next, &zone_at, err);
    if (rc == NQ_OK && next == NQ_SCHEDULES_NEVER)
        rc = nq_err_set(err, NQ_EINVAL, "schedule '%s' never comes", out->s.spec);
    if (rc == NQ_OK)
        rc = nq_spec_of(q, out->s.task, &out->task, err);
    if (rc == NQ_OK && (rc = schedule_check_room(out, err)) != NQ_OK) {
        nq_spec_free(&out->task, 1);
        out->task = (nq_new){0};
    }
    return rc;
}

/* ---- Writing, on our connection or on the caller's ---- */

/* What the row says already. */
struct schedule_old {
    const nq_schedule *s;
    bool found, same; /* same: it need not be computed anew when it comes next */
    int64_t next_us, zone_at;
    char source[SCHEDULE_MAX_SOURCE + 1];
};

static bool schedule_equal(const nq_val *v, const char *text)
{
    /* as bytes: a caller's connection may have another character set for results, or none */
    return (v->type == NQ_VAL_TEXT || v->type == NQ_VAL_BLOB) && v->n == strlen(text) &&
           memcmp(v->n ? v->p : "", text, v->n) == 0;
}

static int schedule_old_row(const nq_val cols[], size_t ncols, void *arg)
{
    struct schedule_old *o = arg;
    (void)ncols;
    o->found = true;
    o->next_us = cols[2].type == NQ_VAL_INT ? cols[2].i : 0;
    o->zone_at = cols[7].type == NQ_VAL_INT ? cols[7].i : 0;
    o->same = o->next_us != 0 && cols[7].type == NQ_VAL_INT && schedule_equal(&cols[0], o->s->spec) &&
              schedule_equal(&cols[1], o->s->zone) &&
              (cols[3].type == NQ_VAL_INT ? cols[3].i : 0) == o->s->starts_at_us &&
              (cols[4].type == NQ_VAL_INT ? cols[4].i : 0) == o->s->ends_at_us && cols[6].type == NQ_VAL_NULL;
    if (cols[5].type != NQ_VAL_NULL && cols[5].n < sizeof o->source)
        snprintf(o->source, sizeof o->source, "%.*s", (int)cols[5].n,
                 cols[5].n ? (const char *)cols[5].p : "");
    return 0;
}

static int schedule_now_row(const nq_val cols[], size_t ncols, void *arg)
{
    (void)ncols;
    *(int64_t *)arg = cols[0].i;
    return 0;
}

/* The database's time. SQLite's nanoq_now() is not to be had on the caller's connection. */
static int schedule_time(const nq_place *p, int64_t *us, nq_err *err)
{
    *us = nq_store_clock(p->store);
    return *us ? NQ_OK : nq_place_sql(p, "SELECT {us:now}", NULL, 0, schedule_now_row, us, err);
}

static nq_val schedule_time_or_null(int64_t us)
{
    return us ? nq_int(us) : nq_null();
}

#define SCHEDULE_UPDATE(payload)                                                                             \
    "UPDATE {full:schedules} SET spec = ?, zone = ?, next_at = {at}, zone_at = ?, starts_at = {at}, "        \
    "ends_at = {at}, misfire = ?, overlap = ?, jitter_us = ?, queue = ?, priority = ?, max_retries = ?, "    \
    "timeout_ms = ?, type = ?, payload = " payload                                                           \
    ", headers = ?, source = ?, changed_at = {at}, error = NULL WHERE name = ?"
#define SCHEDULE_INSERT(payload)                                                                             \
    "INSERT INTO {full:schedules} (spec, zone, next_at, zone_at, starts_at, ends_at, misfire, overlap, "     \
    "jitter_us, queue, priority, max_retries, timeout_ms, type, payload, headers, source, changed_at, "      \
    "name) "                                                                                                 \
    "VALUES (?, ?, {at}, ?, {at}, {at}, ?, ?, ?, ?, ?, ?, ?, ?, " payload ", ?, ?, {at}, ?)"

/* source: whose it has to be, if it is there and anybody's; NULL: whoever's. */
static int schedule_put(const nq_place *p, const struct schedule_new *n, const char *source, nq_err *err)
{
    const nq_schedule *s = &n->s;
    const nq_new *t = &n->task;
    struct schedule_old old = {.s = s};
    const nq_val name = nq_text(s->name);
    int64_t now = 0, next = 0, zone_at = 0;
    int rc = nq_place_sql(p,
                          "SELECT {exact:spec}, {exact:zone}, {us:next_at}, {us:starts_at}, {us:ends_at}, "
                          "{exact:source}, error, zone_at FROM "
                          "{full:schedules} WHERE name = ? {lock}",
                          &name, 1, schedule_old_row, &old, err);
    if (rc == NQ_OK && source && old.found && old.source[0] && strcmp(old.source, source) != 0) {
        char shown[SCHEDULE_MAX_SOURCE * 4];
        nq_printable(shown, sizeof shown, old.source, strlen(old.source));
        rc = nq_err_set(err, NQ_EINVAL,
                        "schedule '%s' is of source '%s': remove it there first, or name it otherwise",
                        s->name, shown);
    }
    if (rc == NQ_OK)
        rc = schedule_time(p, &now, err);
    if (rc == NQ_OK)
        rc = nq_schedule_first(s->spec, s->zone, now, s->starts_at_us,
                               s->ends_at_us ? s->ends_at_us : INT64_MAX, &next, &zone_at, err);
    if (rc != NQ_OK)
        return rc;
    nq_val args[19];
    size_t nargs = 0;
    args[nargs++] = nq_text(s->spec);
    args[nargs++] = nq_text(s->zone);
    args[nargs++] = nq_int(old.same ? old.next_us : next);
    args[nargs++] = nq_int(old.same ? old.zone_at : zone_at); /* the file by which next_at was computed */
    args[nargs++] = schedule_time_or_null(s->starts_at_us);
    args[nargs++] = schedule_time_or_null(s->ends_at_us);
    args[nargs++] = nq_int(s->misfire);
    args[nargs++] = nq_int(s->overlap);
    args[nargs++] = nq_int(s->jitter_us);
    args[nargs++] = nq_text(t->queue);
    args[nargs++] = nq_int(t->priority);
    args[nargs++] = nq_int(t->max_retries);
    args[nargs++] = nq_int(t->timeout_ms);
    args[nargs++] = nq_text(t->type);
    if (t->payload_size > 0)
        args[nargs++] = nq_blob(t->payload, t->payload_size);
    args[nargs++] = t->headers ? nq_text(t->headers) : nq_null();
    args[nargs++] = s->source ? nq_text(s->source) : nq_null();
    args[nargs++] = nq_int(now);
    args[nargs++] = name;
    /* To a caller's session with EMPTY_STRING_IS_NULL an empty value that is bound is NULL. */
    rc = nq_place_sql(p,
                      old.found ? t->payload_size > 0 ? SCHEDULE_UPDATE("?") : SCHEDULE_UPDATE("X''")
                      : t->payload_size > 0 ? SCHEDULE_INSERT("?")
                                            : SCHEDULE_INSERT("X''"),
                      args, nargs, NULL, NULL, err);
    return rc == NQ_EDUPLICATE
               ? nq_err_set(err, NQ_ECONFLICT, "schedule '%s' was made by another meanwhile", s->name)
               : rc;
}

/* ---- The calls ---- */

struct schedule_call {
    nq_store *store;
    const struct schedule_new *all;
    size_t n;
    const char *source;
};

static int schedule_remove_others(const nq_place *p, const struct schedule_call *k, nq_err *err)
{
    /* Locked first, so that none of them fires meanwhile. */
    static const struct {
        const char *head, *tail;
    } steps[] = {{"SELECT 1 FROM {full:schedules} WHERE ", " {lock}"},
                 {"DELETE FROM {full:firings} WHERE name IN (SELECT name FROM {full:schedules} WHERE ", ")"},
                 {"DELETE FROM {full:schedules} WHERE ", ""}};
    nq_val *const args = calloc(k->n + 1, sizeof *args);
    nq_buf others = {0}, sql = {0};
    bool any = false;
    int rc = args ? NQ_OK : nq_err_nomem(err);
    if (!args)
        return rc;
    args[0] = nq_text(k->source);
    /* a server takes one with spaces behind it for the same */
    nq_buf_fmt(&others, "source = ? AND {size:source} = %zu", strlen(k->source));
    for (size_t i = 0; i < k->n; i++) {
        nq_buf_str(&others, i ? ", ?" : " AND name NOT IN (?");
        args[i + 1] = nq_text(k->all[i].s.name);
    }
    nq_buf_str(&others, k->n ? ")" : "");
    for (size_t i = 0; i < sizeof steps / sizeof *steps && rc == NQ_OK && (any || i == 0); i++) {
        nq_buf_clear(&sql);
        nq_buf_fmt(&sql, "%s%s%s", steps[i].head, others.failed ? "" : others.p, steps[i].tail);
        rc = sql.failed || others.failed
                 ? nq_err_nomem(err)
                 : nq_place_sql(p, sql.p, args, k->n + 1, i == 0 ? nq_row_any : NULL, &any, err);
    }
    nq_buf_free(&others);
    nq_buf_free(&sql);
    free(args);
    return rc;
}

static int schedule_put_all(nq_conn *c, void *arg, nq_err *err)
{
    const struct schedule_call *k = arg;
    const nq_place p = {.store = k->store, .c = c};
    int rc = NQ_OK;
    for (size_t i = 0; i < k->n && rc == NQ_OK; i++)
        rc = schedule_put(&p, &k->all[i], k->source, err);
    return rc == NQ_OK && k->source ? schedule_remove_others(&p, k, err) : rc;
}

NQ_API int nq_schedule_set(nq *q, nq_tx tx, const nq_schedule *schedule, nq_err *err)
{
    struct schedule_new n;
    int rc = nq_usable(q, err);
    if (rc != NQ_OK || (rc = nq_tx_check(nq_store_of(q), tx, err)) != NQ_OK ||
        (rc = schedule_check(q, schedule, &n, err)) != NQ_OK)
        return rc;
    const nq_place theirs = {.store = nq_store_of(q), .tx = tx};
    struct schedule_call call = {.store = nq_store_of(q), .all = &n, .n = 1};
    rc = nq_ready(q, err);
    if (rc == NQ_OK && tx.ops && !tx.ops->in_tx(tx.conn))
        rc = nq_err_set(err, NQ_EINVAL, "no transaction is open on this connection: begin one first");
    if (rc == NQ_OK)
        rc = tx.ops ? schedule_put(&theirs, &n, NULL, err)
                    : nq_store_tx(nq_store_of(q), schedule_put_all, &call, err);
    nq_spec_free(&n.task, 1);
    return rc;
}

static int schedule_check_all(nq *q, const nq_schedule all[], size_t n, const char *source,
                              struct schedule_new *out, nq_err *err)
{
    const char *at =
        (const char *)all; /* of an older or a newer header: the first one's size is their stride */
    for (size_t i = 0; i < n; i++, at += all->size) {
        nq_err why = {0};
        const int rc = schedule_check(q, (const nq_schedule *)(const void *)at, &out[i], &why);
        if (rc != NQ_OK)
            return nq_err_set(err, rc, "schedule %zu of %zu: %.400s", i + 1, n, why.message);
        out[i].s.source = source;
        for (size_t k = 0; k < i; k++)
            if (strcmp(out[k].s.name, out[i].s.name) == 0)
                return nq_err_set(err, NQ_EINVAL, "schedule '%s' is declared twice", out[i].s.name);
    }
    return NQ_OK;
}

NQ_API int nq_schedule_apply(nq *q, const nq_schedule all[], size_t n, const char *source, nq_err *err)
{
    int rc = nq_usable(q, err);
    if (rc != NQ_OK)
        return rc;
    if (!source)
        return nq_err_set(err, NQ_EINVAL, "source is NULL: whose schedules are these?");
    if (n > 0 && !all)
        return nq_err_set(err, NQ_EINVAL, "all is NULL but n is %zu", n);
    if ((rc = schedule_check_source(source, err)) != NQ_OK)
        return rc;
    struct schedule_new *const news = calloc(n + 1, sizeof *news);
    if (!news)
        return nq_err_nomem(err);
    struct schedule_call call = {.store = nq_store_of(q), .all = news, .n = n, .source = source};
    rc = schedule_check_all(q, all, n, source, news, err);
    if (rc == NQ_OK)
        rc = nq_ready(q, err);
    if (rc == NQ_OK)
        rc = nq_store_tx(nq_store_of(q), schedule_put_all, &call, err);
    for (size_t i = 0; i < n; i++)
        nq_spec_free(&news[i].task, 1);
    free(news);
    return rc;
}

/* ---- One by its name ---- */

enum schedule_what { SCHEDULE_REMOVE, SCHEDULE_PAUSE, SCHEDULE_RESUME };

struct schedule_alter {
    const char *name, *why;
    enum schedule_what what;
};

static int schedule_alter(nq_conn *c, void *arg, nq_err *err)
{
    const struct schedule_alter *k = arg;
    const nq_val args[] = {k->why ? nq_text(k->why) : nq_null(), nq_text(k->name)};
    bool found = false;
    int rc = nq_sql(c, "SELECT 1 FROM {schedules} WHERE name = ? {lock}", &args[1], 1, nq_row_any, &found,
                    NULL, err);
    if (rc == NQ_OK && !found)
        return nq_err_set(err, NQ_ENOTFOUND, "there is no schedule '%s'", k->name);
    if (rc != NQ_OK)
        return rc;
    if (k->what == SCHEDULE_PAUSE)
        return nq_sql(
            c,
            "UPDATE {schedules} SET paused_why = COALESCE(?, paused_why), paused_at = COALESCE(paused_at, "
            "{now}) WHERE name = ?",
            args, 2, NULL, NULL, NULL, err);
    if (k->what == SCHEDULE_RESUME) /* it counts from now */
        return nq_sql(
            c,
            "UPDATE {schedules} SET next_at = NULL, changed_at = {now}, paused_at = NULL, paused_why = NULL "
            "WHERE name = ? AND paused_at IS NOT NULL",
            &args[1], 1, NULL, NULL, NULL, err);
    rc = nq_sql(c, "DELETE FROM {firings} WHERE name = ?", &args[1], 1, NULL, NULL, NULL, err);
    return rc == NQ_OK
               ? nq_sql(c, "DELETE FROM {schedules} WHERE name = ?", &args[1], 1, NULL, NULL, NULL, err)
               : rc;
}

static int schedule_by_name(nq *q, const char *name, const char *why, enum schedule_what what, nq_err *err)
{
    struct schedule_alter k = {name, why, what};
    int rc = nq_usable(q, err);
    if (rc != NQ_OK || (rc = schedule_check_name(name, err)) != NQ_OK ||
        (why && (rc = nq_check_words("why", why, NQ_MAX_WHY, err)) != NQ_OK) ||
        (rc = nq_ready(q, err)) != NQ_OK)
        return rc;
    return nq_store_tx(nq_store_of(q), schedule_alter, &k, err);
}

NQ_API int nq_schedule_remove(nq *q, const char *name, nq_err *err)
{
    return schedule_by_name(q, name, NULL, SCHEDULE_REMOVE, err);
}

NQ_API int nq_schedule_pause(nq *q, const char *name, const char *why, nq_err *err)
{
    return schedule_by_name(q, name, why, SCHEDULE_PAUSE, err);
}

NQ_API int nq_schedule_resume(nq *q, const char *name, nq_err *err)
{
    return schedule_by_name(q, name, NULL, SCHEDULE_RESUME, err);
}

NQ_API int nq_schedule_run(nq *q, const char *name, nq_id *id, nq_err *err)
{
    uint64_t hint = NQ_HINT_ANY;
    nq_id made = 0;
    int rc = nq_usable(q, err);
    if (rc != NQ_OK || (rc = schedule_check_name(name, err)) != NQ_OK || (rc = nq_ready(q, err)) != NQ_OK)
        return rc;
    rc = nq_store_fire_now(nq_store_of(q), name, &made, &hint, err);
    if (id && (rc == NQ_OK || rc == NQ_EDUPLICATE))
        *id = made;
    if (rc == NQ_OK)
        nq_wake(q, &hint, 1, made);
    return rc;
}
