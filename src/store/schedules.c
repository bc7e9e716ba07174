/* SPDX-License-Identifier: MIT */
/* Schedules: whoever sees that one is due fires it, each of its times once. */
#include <stdio.h>

#include "firing.h"

/*
 * The row of a schedule is locked from the reading to the commit, and passed by where another worker has it.
 * Task, firing and the next time are one commit: whoever dies before it has done nothing, and the next one
 * does it. The key of {firings} holds whatever else goes wrong, a next_at that plain SQL has put back, for
 * instance.
 *
 * Whether the task before still lives is asked of its row, by the id that the schedule keeps: it has no
 * unique key, so that whoever enqueues by hand is not in the way. A schedule that waits for that task
 * (overlap "queue") is not looked at until it has ended; so it is due for as long, and misfire says what
 * becomes of the times that pass.
 *
 * A row that cannot be fired, whatever stands in it, gets an error and is left alone until somebody mends it.
 */

struct schedules_fire {
    nq_scheduler *state;
    nq_due due[NQ_SCHEDULES_DUE];
    size_t ndue;
    size_t tasks, changed; /* of this transaction */
    int64_t *times;
};

/* ---- Reading ---- */

/* False: it is no text of that size. */
static bool schedules_copy(char *out, size_t size, const nq_val *v)
{
    const bool good = v->type == NQ_VAL_TEXT && v->n < size && !memchr(v->n ? v->p : "", '\0', v->n);
    memcpy(out, good && v->n ? v->p : "", good ? v->n : 0);
    out[good ? v->n : 0] = '\0';
    return good;
}

static int64_t schedules_int(const nq_val *v, int64_t fallback)
{
    return v->type == NQ_VAL_INT ? v->i : fallback;
}

NQ_PRIVATE bool nq_schedule_named(const char *name)
{
    static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.:/-";
    const size_t n = strnlen(name, NQ_MAX_SCHEDULE + 1);
    return n > 0 && n <= NQ_MAX_SCHEDULE && strspn(name, allowed) == n;
}

#define SCHEDULES_COLUMNS                                                                                    \
    "s.name, s.spec, s.zone, s.queue, {us:s.next_at}, {us:s.changed_at}, {us:s.last_at}, {us:s.starts_at}, " \
    "{us:s.ends_at}, s.jitter_us, s.misfire, s.overlap, s.task_id, {us:now}, " NQ_TAGGED("s") ", s.zone_at"

/* A time that can be computed with, whatever stands there: from 1970 to the end of 9999. */
static int64_t schedules_time(const nq_val *v)
{
    const int64_t us = schedules_int(v, 0);
    return us < 0 ? 0 : us < NQ_SCHEDULES_NEVER ? us : NQ_SCHEDULES_NEVER;
}

static void schedules_fill(nq_due *r, const nq_val cols[])
{
    *r = (nq_due){0};
    r->named = schedules_copy(r->name, sizeof r->name, &cols[0]) && r->name[0];
    const bool spec = schedules_copy(r->spec, sizeof r->spec, &cols[1]);
    const bool zone = schedules_copy(r->zone, sizeof r->zone, &cols[2]);
    const bool queue = schedules_copy(r->queue, sizeof r->queue, &cols[3]);
    r->readable = spec && zone && queue && nq_schedule_named(r->name);
    r->has_next = cols[4].type == NQ_VAL_INT;
    r->next_us = schedules_time(&cols[4]);
    r->changed_us = schedules_time(&cols[5]);
    r->last_us = schedules_int(&cols[6], 0);
    r->starts_us = schedules_time(&cols[7]);
    r->ends_us = schedules_int(&cols[8], INT64_MAX);
    r->jitter_us = schedules_time(&cols[9]) % (NQ_DAYS(1) + 1);
    r->misfire = (int)schedules_int(&cols[10], NQ_MISFIRE_ONCE);
    r->overlap = (int)schedules_int(&cols[11], NQ_OVERLAP_SKIP);
    r->task_id = schedules_int(&cols[12], 0);
    r->now_us = schedules_int(&cols[13], 0);
    r->tagged = schedules_int(&cols[14], 0) != 0;
    r->zoned = r->has_next && schedules_int(&cols[15], 0) > 0;
}

static int schedules_due_row(const nq_val cols[], size_t ncols, void *arg)
{
    struct schedules_fire *f = arg;
    (void)ncols;
    if (f->ndue < NQ_SCHEDULES_DUE)
        schedules_fill(&f->due[f->ndue++], cols);
    return 0;
}

/* ---- When ---- */

/* The spec and the zone of one schedule. */
struct schedules_when {
    nq_cron cron;
    nq_zone zone;
};

static int schedules_parse(struct schedules_when *w, const char *spec, const char *zone, nq_err *err)
{
    *w = (struct schedules_when){0};
    const int rc = nq_cron_parse(&w->cron, spec, err);
    return rc != NQ_OK ? rc : nq_zone_load(&w->zone, zone, err);
}

static int64_t schedules_bound(int64_t next, int64_t ends_us)
{
    return next > ends_us || next > NQ_SCHEDULES_NEVER ? NQ_SCHEDULES_NEVER : next;
}

NQ_PRIVATE int nq_schedule_first(const char *spec, const char *zone, int64_t since_us, int64_t starts_us,
                                 int64_t ends_us, int64_t *next_us, int64_t *zone_at, nq_err *err)
{
    struct schedules_when w;
    const int rc = schedules_parse(&w, spec, zone, err);
    if (rc != NQ_OK)
        return rc;
    *next_us = schedules_bound(nq_cron_first(&w.cron, &w.zone, since_us, starts_us), ends_us);
    *zone_at = nq_zone_changed(zone);
    nq_zone_free(&w.zone);
    return NQ_OK;
}

/* ---- One schedule ---- */

static int schedules_write(nq_conn *c, const nq_due *r, int64_t next_us, nq_err *err)
{
    const nq_val args[] = {nq_int(next_us), nq_int(r->zone_at), r->last_us ? nq_int(r->last_us) : nq_null(),
                           r->task_id ? nq_int(r->task_id) : nq_null(), nq_text(r->name)};
    return nq_sql(
        c, "UPDATE {schedules} SET next_at = {at}, zone_at = ?, last_at = {at}, task_id = ? WHERE name = ?",
        args, sizeof args / sizeof *args, NULL, NULL, NULL, err);
}

/* Which of its past times come, by its rule for misfires: the first of times that does, of n. */
static size_t schedules_from(const nq_due *r, const int64_t times[], size_t n)
{
    if (r->misfire == NQ_MISFIRE_ALL)
        return 0;
    if (r->misfire == NQ_MISFIRE_SKIP && r->now_us - times[n - 1] > NQ_SCHEDULES_LATE)
        return n;
    return n - 1;
}

static int schedules_times(nq_conn *c, struct schedules_fire *f, nq_due *r, const struct schedules_when *w,
                           nq_err *err)
{
    int64_t next = 0;
    if (!r->has_next) { /* new, or changed by plain SQL: it counts from then, if that was just now */
        const int64_t since = r->now_us - r->changed_us < NQ_SCHEDULES_LATE / 6 ? r->changed_us : r->now_us;
        next = nq_cron_first(&w->cron, &w->zone, since < r->now_us ? since : r->now_us, r->starts_us);
        return schedules_write(c, r, schedules_bound(next, r->ends_us), err);
    }
    const size_t max = r->misfire == NQ_MISFIRE_ALL ? NQ_SCHEDULES_MISSED : 1;
    const size_t n = nq_cron_past(&w->cron, &w->zone, r->next_us, r->now_us, f->times, max, &next);
    size_t i = schedules_from(r, f->times, n);
    const bool waits = r->overlap == NQ_OVERLAP_QUEUE;
    nq_id id = 0;
    for (int rc; i < n; i++) {
        if (f->times[i] > r->ends_us)
            break;
        if ((rc = nq_fire_time(c, r, f->times[i], false, &id, err)) != NQ_OK)
            return rc;
        f->tasks += id != 0;
        r->last_us = f->times[i];
        if (waits && i + 1 < n) { /* the others come when this one has ended */
            next = f->times[i + 1];
            break;
        }
    }
    return schedules_write(c, r, schedules_bound(next, r->ends_us), err);
}

/* Zones that this host cannot read are left to others for a minute. */
static void schedules_lack(nq_conn *c, nq_scheduler *state, const nq_due *r, const nq_err *why)
{
    const int64_t now = nq_mono_us();
    if (state->lacked_us <= now) {
        state->nlacked = 0;
        state->lacked_us = now + NQ_MINUTES(1);
    }
    for (size_t i = 0; i < state->nlacked; i++)
        if (i == NQ_SCHEDULES_LACKED || strcmp(state->lacked[i], r->zone) == 0)
            return;
    if (state->nlacked < NQ_SCHEDULES_LACKED)
        memcpy(state->lacked[state->nlacked], r->zone, sizeof r->zone);
    state->nlacked++;
    nq_conn_log(c, NQ_LOG_WARN, "schedule '%s' is left to other hosts: %s", r->name, why->message);
}

static int schedules_handle(nq_conn *c, struct schedules_fire *f, nq_due *r, nq_err *err)
{
    struct schedules_when w = {0};
    const size_t before = f->tasks;
    nq_err why = {0};
    int rc = r->readable ? nq_cron_parse(&w.cron, r->spec, &why)
                         : nq_err_set(&why, NQ_EINVAL,
                                      "its name, spec, zone or queue is no text of a kind that is allowed");
    if (rc == NQ_OK) {
        rc = nq_zone_load(&w.zone, r->zone, &why);
        /* Some host has this zone, and its time has come: older files here are no fault of the schedule's. */
        if (rc == NQ_ESYSTEM || (rc == NQ_EINVAL && r->zoned)) {
            schedules_lack(c, f->state, r, &why);
            return NQ_OK;
        }
    }
    if (rc == NQ_OK) {
        r->zone_at = nq_zone_changed(r->zone);
        rc = schedules_times(c, f, r, &w, &why);
        nq_zone_free(&w.zone);
    }
    if (f->tasks > before && f->state->n < NQ_SCHEDULES_DUE)
        f->state->queues[f->state->n++] = nq_hint_queue(r->queue);
    f->changed++;
    const nq_err reason = why;
    if (nq_row_refused(rc))
        rc = nq_fire_stop(c, r, &reason, &why);
    if (rc != NQ_OK && err)
        *err = why;
    return rc;
}

/* ---- A look ---- */

#define SCHEDULES_LIVE                                                                                       \
    " s.paused_at IS NULL AND s.error IS NULL AND (s.overlap <> 2 OR COALESCE((SELECT 1 FROM {tasks} t "     \
    "WHERE t.id = s.task_id), 0) = 0)"
#define SCHEDULES_DUE                                                                                        \
    "SELECT " SCHEDULES_COLUMNS                                                                              \
    " FROM {schedules} s WHERE (s.next_at IS NULL OR s.next_at <= {now}) AND" SCHEDULES_LIVE
#define SCHEDULES_DUE_ORDER " ORDER BY s.next_at LIMIT 50 OFFSET ? {lock_free}"

struct schedules_look {
    bool some, due;
    int64_t wait_us;
};

static int schedules_look_row(const nq_val cols[], size_t ncols, void *arg)
{
    struct schedules_look *l = arg;
    (void)ncols;
    l->some = true;
    const int64_t left = cols[0].type == NQ_VAL_INT ? nq_us_since(cols[0].i, cols[1].i) : 0;
    l->due = left <= 0;
    l->wait_us = left;
    return 0;
}

/* Rows whose names are none stay where they are, since by its name a row is told what is wrong with it: they
 * must not stand before all others. */
#define SCHEDULES_UNNAMED 5000

static int schedules_find(nq_conn *c, struct schedules_fire *f, nq_err *err)
{
    const nq_scheduler *state = f->state;
    const size_t lacks = state->lacked_us > nq_mono_us() ? state->nlacked : 0;
    const bool utc = lacks > NQ_SCHEDULES_LACKED;
    nq_val args[NQ_SCHEDULES_LACKED + 1];
    size_t nargs = 0;
    nq_buf sql = {0};
    bool some;
    int rc = NQ_OK;
    nq_buf_str(&sql, utc ? SCHEDULES_DUE " AND s.zone IN ('UTC', '')" : SCHEDULES_DUE);
    for (; nargs < lacks && !utc; nargs++) {
        nq_buf_str(&sql, " AND s.zone <> ?");
        args[nargs] = nq_text(state->lacked[nargs]);
    }
    nq_buf_str(&sql, SCHEDULES_DUE_ORDER);
    nq_val *const behind = &args[nargs++];
    *behind = nq_int(0);
    do {
        f->ndue = 0;
        rc = sql.failed ? nq_err_nomem(err) : nq_sql(c, sql.p, args, nargs, schedules_due_row, f, NULL, err);
        some = f->ndue < NQ_SCHEDULES_DUE;
        for (size_t i = 0; i < f->ndue; i++)
            some = some || f->due[i].named;
        behind->i += NQ_SCHEDULES_DUE;
    } while (rc == NQ_OK && !some && behind->i < SCHEDULES_UNNAMED);
    nq_buf_free(&sql);
    return rc;
}

static int schedules_change(nq_conn *c, void *arg, nq_err *err)
{
    struct schedules_fire *f = arg;
    f->tasks = f->changed = f->state->n = 0;
    int rc = schedules_find(c, f, err);
    for (size_t i = 0; i < f->ndue && rc == NQ_OK && f->tasks < NQ_SCHEDULES_MISSED; i++)
        if (f->due[i].named)
            rc = schedules_handle(c, f, &f->due[i], err);
    return rc;
}

static int schedules_look(nq_conn *c, void *arg, nq_err *err)
{
    struct schedules_look *const l = arg;
    *l = (struct schedules_look){0};
    return nq_sql(c,
                  "SELECT {us:s.next_at}, {us:now} FROM {schedules} s WHERE" SCHEDULES_LIVE
                  " ORDER BY s.next_at LIMIT 1",
                  NULL, 0, schedules_look_row, l, NULL, err);
}

/* ---- Zone files that were changed ---- */

#define SCHEDULES_ZONES 64 /* of one look */

struct schedules_zones {
    struct schedules_zone {
        char name[NQ_MAX_ZONE + 1];
        int64_t at;
    } all[SCHEDULES_ZONES];
    size_t n;
    struct schedules_fire f; /* its rows */
};

static int schedules_zone_row(const nq_val cols[], size_t ncols, void *arg)
{
    struct schedules_zones *z = arg;
    (void)ncols;
    if (z->n < SCHEDULES_ZONES && schedules_copy(z->all[z->n].name, sizeof z->all[0].name, &cols[0]))
        z->all[z->n++].at = schedules_int(&cols[1], 0);
    return 0;
}

/* Where nobody has fired or changed it meanwhile. What counts from its last time does not ask the zone. */
static int schedules_rezone_one(nq_conn *c, const nq_due *r, int64_t zone_at, nq_err *err)
{
    struct schedules_when w;
    if (!r->readable || schedules_parse(&w, r->spec, r->zone, NULL) != NQ_OK)
        return NQ_OK; /* when it is due it is told what is wrong with it */
    const int64_t next =
        w.cron.every_us ? r->next_us : nq_cron_first(&w.cron, &w.zone, r->now_us, r->starts_us);
    nq_zone_free(&w.zone);
    const nq_val args[] = {nq_int(schedules_bound(next, r->ends_us)), nq_int(zone_at), nq_text(r->name),
                           nq_text(r->spec), nq_int(r->next_us)};
    return nq_sql(
        c,
        "UPDATE {schedules} SET next_at = {at}, zone_at = ? WHERE name = ? AND spec = ? AND next_at = {at} "
        "AND next_at > {now}",
        args, sizeof args / sizeof *args, NULL, NULL, NULL, err);
}

/* All of a zone whose file has this time now. */
static int schedules_rezone_all(nq_conn *c, struct schedules_fire *f, const char *zone, int64_t zone_at,
                                nq_err *err)
{
    char behind[NQ_MAX_SCHEDULE + 1] = "";
    int rc;
    do {
        const nq_val args[] = {nq_text(zone), nq_int(zone_at), nq_text(behind)};
        f->ndue = 0;
        rc = nq_sql(c,
                    "SELECT " SCHEDULES_COLUMNS " FROM {schedules} s WHERE s.zone = ? AND s.zone_at < ? AND "
                    "s.next_at > {now} AND s.name > ? ORDER BY s.name LIMIT 50",
                    args, 3, schedules_due_row, f, NULL, err);
        for (size_t i = 0; i < f->ndue && rc == NQ_OK; i++)
            rc = schedules_rezone_one(c, &f->due[i], zone_at, err);
        if (f->ndue > 0)
            snprintf(behind, sizeof behind, "%s", f->due[f->ndue - 1].name);
    } while (rc == NQ_OK && f->ndue == NQ_SCHEDULES_DUE && *behind);
    return rc;
}

/* What was computed by an older file than this host's is computed anew. Never by an older one: hosts whose
 * files differ would go on for ever. */
static int schedules_rezone(nq_conn *c, void *arg, nq_err *err)
{
    struct schedules_zones *z = arg;
    z->n = 0;
    int rc = nq_sql(
        c,
        "SELECT zone, MIN(zone_at) FROM {schedules} WHERE zone NOT IN ('UTC', '') AND zone_at IS NOT NULL "
        "AND next_at > {now} GROUP BY zone",
        NULL, 0, schedules_zone_row, z, NULL, err);
    for (size_t i = 0; i < z->n && rc == NQ_OK; i++) {
        const int64_t now = nq_zone_changed(z->all[i].name);
        if (now > z->all[i].at)
            rc = schedules_rezone_all(c, &z->f, z->all[i].name, now, err);
    }
    return rc;
}

/* ---- The calls ---- */

#define SCHEDULES_EVERY_US NQ_SECONDS(1)
#define SCHEDULES_SOON_US  NQ_MS(20) /* there was more than one transaction takes */

NQ_PRIVATE int nq_store_fire(nq_store *s, nq_scheduler *state, nq_err *err)
{
    struct schedules_look look;
    int rc = nq_store_do(s, schedules_look, &look, err);
    state->n = 0;
    state->wait_us = SCHEDULES_EVERY_US;
    if (rc == NQ_OK && look.due) {
        struct schedules_fire *const f = malloc(sizeof *f + NQ_SCHEDULES_MISSED * sizeof *f->times);
        if (!f)
            return nq_err_nomem(err);
        f->state = state;
        f->times = (int64_t *)(void *)(f + 1);
        rc = nq_store_tx(s, schedules_change, f, err);
        const bool changed = f->changed > 0;
        free(f);
        if (rc == NQ_OK && changed)
            rc = nq_store_do(s, schedules_look, &look, err);
        if (!changed) /* another worker is at it, or nobody here can be */
            look = (struct schedules_look){.some = true, .wait_us = SCHEDULES_EVERY_US};
    }
    if (rc == NQ_OK && look.some)
        state->wait_us = look.due                            ? SCHEDULES_SOON_US
                         : look.wait_us < SCHEDULES_EVERY_US ? look.wait_us
                                                             : SCHEDULES_EVERY_US;
    const int64_t now = nq_mono_us();
    if (rc == NQ_OK && look.some && now - state->zones_us >= NQ_MINUTES(1)) {
        struct schedules_zones *const zones = malloc(sizeof *zones);
        state->zones_us = now;
        rc = zones ? nq_store_do(s, schedules_rezone, zones, err) : nq_err_nomem(err);
        free(zones);
    }
    return rc;
}

struct schedules_now {
    const char *name;
    struct schedules_fire *f;
    nq_id id;
};

static int schedules_now(nq_conn *c, void *arg, nq_err *err)
{
    struct schedules_now *n = arg;
    struct schedules_fire *f = n->f;
    const nq_val name = nq_text(n->name);
    f->ndue = f->tasks = 0;
    n->id = 0;
    int rc = nq_sql(c, "SELECT " SCHEDULES_COLUMNS " FROM {schedules} s WHERE s.name = ? {lock}", &name, 1,
                    schedules_due_row, f, NULL, err);
    if (rc != NQ_OK)
        return rc;
    nq_due *const r = &f->due[0];
    if (f->ndue == 0)
        return nq_err_set(err, NQ_ENOTFOUND, "there is no schedule '%s'", n->name);
    if (!r->readable)
        return nq_err_set(err, NQ_EINVAL, "schedule '%s': its spec, zone or queue is no text", n->name);
    /* Where this very time has come already, by nq_test_clock for instance: the next one. */
    for (int64_t due = r->now_us; rc == NQ_OK && n->id == 0; due++)
        rc = nq_fire_time(c, r, due, true, &n->id, err);
    if (rc == NQ_EDUPLICATE)
        n->id = r->task_id;
    const nq_val args[] = {nq_int(n->id), name};
    if (rc == NQ_OK)
        rc = nq_sql(c, "UPDATE {schedules} SET task_id = ? WHERE name = ?", args, 2, NULL, NULL, NULL, err);
    return rc;
}

NQ_PRIVATE int nq_store_fire_now(nq_store *s, const char *name, nq_id *id, uint64_t *queue, nq_err *err)
{
    struct schedules_fire *const f = calloc(1, sizeof *f);
    struct schedules_now n = {.name = name, .f = f};
    if (!f)
        return nq_err_nomem(err);
    const int rc = nq_store_tx(s, schedules_now, &n, err);
    *id = n.id;
    *queue = rc == NQ_OK ? nq_hint_queue(f->due[0].queue) : NQ_HINT_ANY;
    free(f);
    return rc;
}
