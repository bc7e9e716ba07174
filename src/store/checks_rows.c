/* SPDX-License-Identifier: MIT */
/* Checks of what stands in the other tables: follow-ups, settings, gates, schedules, what has ended. */
#include <stdio.h>

#include "../core/zone.h"
#include "checks.h"
#include "results.h"

#define CHECKS_ROWS_DAY  NQ_DAYS(1)
#define CHECKS_ROWS_MOST "10000" /* rows of a table that are read */

/* ---- Follow-ups ---- */

NQ_PRIVATE int nq_check_followups(nq_conn *c, nq_checks *k, nq_found *f, nq_err *err)
{
    int64_t n = 0, first = 0;
    char ago[32];
    int rc = nq_sql(c, "SELECT COUNT(*) FROM (SELECT id FROM {followups} {by_id} ORDER BY id LIMIT 10001) x",
                    NULL, 0, nq_checks_int_row, &n, NULL, err);
    if (rc == NQ_OK && n > 0)
        rc = nq_sql(c, "SELECT {us:created_at} FROM {followups} {by_id} ORDER BY id LIMIT 1", NULL, 0,
                    nq_checks_int_row, &first, NULL, err);
    if (rc != NQ_OK)
        return rc;
    const int64_t old = n > 0 ? nq_us_since(k->now_us, first) : 0;
    if (old > NQ_HOURS(1))
        nq_found_say(
            f, NQ_CHECK_WARNING,
            "each waits for a task that runs: see nanoq list --running; a worker must run for them to follow",
            "%lld%s follow-up%s, the first since %s", (long long)(n > 10000 ? 10000 : n),
            n > 10000 ? " or more" : "", n == 1 ? "" : "s", nq_checks_ago(old, ago));
    else
        nq_found_say(f, NQ_CHECK_OK, NULL, "%lld%s follow-ups, none older than an hour",
                     (long long)(n > 10000 ? 10000 : n), n > 10000 ? " or more" : "");
    return NQ_OK;
}

/* ---- Paused, held, halted ---- */

NQ_PRIVATE int nq_check_paused(nq_conn *c, nq_checks *k, nq_found *f, nq_err *err)
{
    const nq_setting *first = NULL;
    size_t all = 0, old = 0;
    char ago[32];
    (void)c;
    if (!k->settings)
        return nq_err_set(err, NQ_EDB, "the settings of queues cannot be read");
    for (size_t i = 0; i < k->settings->n; i++) {
        const nq_setting *s = &k->settings->rows[i];
        all += s->paused;
        if (!s->paused || nq_us_since(k->now_us, s->paused_at_us) <= CHECKS_ROWS_DAY)
            continue;
        old++;
        first = !first || s->paused_at_us < first->paused_at_us ? s : first;
    }
    if (first)
        nq_found_say(f, NQ_CHECK_WARNING, "nanoq resume, or nanoq queues to see why they are paused",
                     "%zu queue%s or groups paused for more than a day: %s for %s", old, old == 1 ? "" : "s",
                     first->name, nq_checks_ago(nq_us_since(k->now_us, first->paused_at_us), ago));
    else
        nq_found_say(f, NQ_CHECK_OK, NULL, "%zu queue%s or groups paused, none for more than a day", all,
                     all == 1 ? "" : "s");
    return NQ_OK;
}

/* The first name, and how many rows there are. */
struct checks_rows_named {
    const nq_checks *k;
    char name[130], text[300];
    int64_t us;
    size_t n;
    bool halts; /* count only groups that a dead task halts */
};

static int checks_rows_named_row(const nq_val cols[], size_t ncols, void *arg)
{
    struct checks_rows_named *r = arg;
    char name[130];
    nq_setting set;
    nq_checks_text(name, sizeof name, &cols[0]);
    if (r->halts && (!nq_settings_group(r->k->settings, name, &set) || set.ordered != NQ_ORDERED_HALT))
        return 0;
    if (r->n++ > 0)
        return 0;
    memcpy(r->name, name, sizeof name);
    r->us = ncols > 1 && cols[1].type == NQ_VAL_INT ? cols[1].i : 0;
    if (ncols > 2)
        nq_checks_text(r->text, sizeof r->text, &cols[2]);
    return 0;
}

/* Does any row of settings have groups halted by a dead task? */
static bool checks_rows_halts(const nq_settings *s)
{
    for (size_t i = 0; s && i < s->n; i++)
        if (s->rows[i].ordered == NQ_ORDERED_HALT)
            return true;
    return false;
}

NQ_PRIVATE int nq_check_stopped(nq_conn *c, nq_checks *k, nq_found *f, nq_err *err)
{
    struct checks_rows_named held = {.k = k}, halted = {.k = k, .halts = true};
    const nq_val in_a_day = nq_int(CHECKS_ROWS_DAY), a_day_ago = nq_int(-CHECKS_ROWS_DAY);
    char time[32];
    int rc =
        nq_sql(c,
               "SELECT queue, {us:not_before} FROM {gates} WHERE not_before > {after} ORDER BY not_before "
               "DESC LIMIT " CHECKS_ROWS_MOST,
               &in_a_day, 1, checks_rows_named_row, &held, NULL, err);
    if (rc == NQ_OK && checks_rows_halts(k->settings))
        rc = nq_sql(c,
                    "SELECT g.queue, {us:h.finished_at} FROM (SELECT queue, head FROM {gates} ORDER BY queue "
                    "LIMIT " CHECKS_ROWS_MOST
                    ") g JOIN {finished} h ON h.id = g.head AND h.queue = g.queue WHERE "
                    "h.state = 3 AND h.finished_at < {after} ORDER BY h.finished_at",
                    &a_day_ago, 1, checks_rows_named_row, &halted, NULL, err);
    if (rc != NQ_OK)
        return rc;
    if (held.n > 0)
        nq_found_more(
            f, NQ_CHECK_WARNING, "UPDATE nanoq_gates SET not_before = NULL for those that should go on",
            "%zu queue%s or groups held for more than a day from now: %s for %s", held.n,
            held.n == 1 ? "" : "s", held.name, nq_checks_ago(nq_us_since(held.us, k->now_us), time));
    if (halted.n > 0)
        nq_found_more(f, NQ_CHECK_WARNING, "nanoq retry or nanoq delete the dead task: nanoq queues names it",
                      "%zu group%s halted by a dead task for more than a day: %s for %s", halted.n,
                      halted.n == 1 ? "" : "s", halted.name,
                      nq_checks_ago(nq_us_since(k->now_us, halted.us), time));
    if (f->text[0] == '\0')
        nq_found_say(f, NQ_CHECK_OK, NULL, "no queue and no group is held or halted for more than a day");
    return NQ_OK;
}

/* ---- Schedules ---- */

NQ_PRIVATE int nq_check_schedules(nq_conn *c, nq_checks *k, nq_found *f, nq_err *err)
{
    struct checks_rows_named bad = {.k = k}, late = {.k = k};
    const nq_val before = nq_int(-NQ_MINUTES(5));
    char ago[32];
    int rc =
        nq_sql(c,
               "SELECT s.name, NULL, {words:s.error} FROM (SELECT name, error FROM {schedules} ORDER BY name "
               "LIMIT " CHECKS_ROWS_MOST ") s WHERE s.error IS NOT NULL",
               NULL, 0, checks_rows_named_row, &bad, NULL, err);
    /* One that waits for its task of before is not late. */
    if (rc == NQ_OK)
        rc = nq_sql(
            c,
            "SELECT s.name, {us:s.next_at} FROM (SELECT name, next_at, overlap, task_id, paused_at, error "
            "FROM {schedules} WHERE next_at < {after} ORDER BY next_at LIMIT " CHECKS_ROWS_MOST ") s WHERE "
            "s.paused_at IS NULL AND s.error IS NULL AND (s.overlap <> 2 OR NOT EXISTS (SELECT 1 FROM "
            "{tasks} t WHERE t.id = s.task_id)) ORDER BY s.next_at",
            &before, 1, checks_rows_named_row, &late, NULL, err);
    if (rc != NQ_OK)
        return rc;
    if (bad.n > 0)
        nq_found_more(f, NQ_CHECK_ERROR, "nanoq cron show NAME, and nanoq cron add it anew",
                      "%zu schedule%s stopped by an error: %s: %.200s", bad.n, bad.n == 1 ? "" : "s",
                      bad.name, bad.text);
    if (late.n > 0)
        nq_found_more(f, NQ_CHECK_WARNING, "a worker must run, on a host with time zone files",
                      "%zu schedule%s late: %s was due %s ago", late.n, late.n == 1 ? "" : "s", late.name,
                      nq_checks_ago(nq_us_since(k->now_us, late.us), ago));
    if (f->text[0] == '\0')
        nq_found_say(f, NQ_CHECK_OK, NULL, "no schedule is stopped by an error, or late");
    return NQ_OK;
}

struct checks_rows_zones {
    size_t n, bad;
    char name[70];
    char why[200];
    bool none; /* this host has no zone files at all */
};

static int checks_rows_zone_row(const nq_val cols[], size_t ncols, void *arg)
{
    struct checks_rows_zones *z = arg;
    nq_zone zone = {0};
    nq_err why = {0};
    char name[70];
    (void)ncols;
    nq_checks_text(name, sizeof name, &cols[0]);
    z->n++;
    const int rc = nq_zone_load(&zone, name, &why);
    nq_zone_free(&zone);
    if (rc == NQ_OK)
        return 0;
    if (z->bad++ == 0) {
        memcpy(z->name, name, sizeof name);
        snprintf(z->why, sizeof z->why, "%.190s", why.message);
    }
    z->none = z->none || rc == NQ_ESYSTEM;
    return 0;
}

NQ_PRIVATE int nq_check_zones(nq_conn *c, nq_checks *k, nq_found *f, nq_err *err)
{
    struct checks_rows_zones z = {0};
    (void)k;
    const int rc = nq_sql(
        c,
        "SELECT DISTINCT s.zone FROM (SELECT zone FROM {schedules} ORDER BY name LIMIT " CHECKS_ROWS_MOST
        ") s WHERE s.zone NOT IN ('UTC', '') LIMIT 600",
        NULL, 0, checks_rows_zone_row, &z, NULL, err);
    if (rc != NQ_OK)
        return rc;
    if (z.bad > 0)
        nq_found_say(f, NQ_CHECK_ERROR,
                     z.none
                         ? "install tzdata on this host, or set TZDIR: without it only schedules in UTC come"
                         : "nanoq cron add the schedule with a zone that there is, or update tzdata",
                     "%zu of %zu time zones of schedules cannot be read on this host: %s", z.bad, z.n, z.why);
    else if (z.n > 0)
        nq_found_say(f, NQ_CHECK_OK, NULL, "%zu time zone%s of schedules, each with its file on this host",
                     z.n, z.n == 1 ? "" : "s");
    else
        nq_found_say(f, NQ_CHECK_OK, NULL, "no schedule has a time zone but UTC");
    return NQ_OK;
}

/* ---- What has ended ---- */

/* Tables with rows that end with a task, which each has an index by task_id. */
static const char *const checks_rows_helpers[] = {"progress", "cancels", "attempts",
                                                  "results",  "tags",    "logs"};
#define CHECKS_ROWS_ORPHANS 500  /* more than a sweep deletes at a time, */
#define CHECKS_ROWS_SAMPLE  1000 /* of the oldest rows of a table */

/* Of the oldest rows of each: how many have no task any more? */
static int checks_rows_orphans(nq_conn *c, nq_found *f, nq_err *err)
{
    int rc = NQ_OK;
    for (size_t i = 0; i < sizeof checks_rows_helpers / sizeof *checks_rows_helpers && rc == NQ_OK; i++) {
        const char *table = checks_rows_helpers[i];
        int64_t n = 0;
        nq_buf sql = {0};
        nq_buf_fmt(
            &sql,
            "SELECT COUNT(*) FROM (SELECT task_id FROM {%s} ORDER BY task_id LIMIT %d) h LEFT JOIN {tasks} "
            "t ON t.id = h.task_id LEFT JOIN {finished} e ON e.id = h.task_id WHERE t.id IS NULL AND e.id IS "
            "NULL",
            table, CHECKS_ROWS_SAMPLE);
        rc = sql.failed ? nq_err_nomem(err) : nq_sql(c, sql.p, NULL, 0, nq_checks_int_row, &n, NULL, err);
        nq_buf_free(&sql);
        if (rc == NQ_OK && n > CHECKS_ROWS_ORPHANS)
            nq_found_more(f, NQ_CHECK_WARNING, "run a worker: it deletes such rows once a minute",
                          "%lld of the first %d rows of %s%s are of tasks that are gone", (long long)n,
                          CHECKS_ROWS_SAMPLE, c->store->prefix, table);
    }
    return rc;
}

struct checks_rows_keep {
    int64_t done_us, dead_us; /* the longest that a queue's settings say; -1: for ever; 0: they say nothing */
};

static int checks_rows_keep_row(const nq_val cols[], size_t ncols, void *arg)
{
    struct checks_rows_keep *keep = arg;
    (void)ncols;
    for (size_t i = 0; i < 2; i++) {
        const int64_t most = cols[i].type == NQ_VAL_NULL ? 0 : nq_checks_int(&cols[i]);
        const bool for_ever = cols[i + 2].type != NQ_VAL_NULL && nq_checks_int(&cols[i + 2]) < 0;
        *(i ? &keep->dead_us : &keep->done_us) = for_ever ? -1 : most;
    }
    return 0;
}

#define CHECKS_ROWS_OLDEST "1000" /* of the done tasks that ended first: one not kept for its result? */
#define CHECKS_ROWS_RESULT NQ_RESULT_OF("e")

/* The oldest of a state, which ended so long ago; 0: there is none, or of done ones: its first are all kept
 * for their results. */
static int checks_rows_oldest(nq_conn *c, const nq_checks *k, int state, int64_t *ago, nq_err *err)
{
    int64_t at = INT64_MIN;
    const nq_val arg = nq_int(state);
    const int rc = nq_sql(
        c,
        state == NQ_STATE_DONE
            ? "SELECT {us:e.finished_at} FROM (SELECT i.id, i.finished_at FROM {finished} i {by_retention} "
              "WHERE i.state = ? ORDER BY i.finished_at LIMIT " CHECKS_ROWS_OLDEST ") e WHERE NOT EXISTS "
              "(SELECT 1 FROM {results} r WHERE " CHECKS_ROWS_RESULT " AND r.keep_until >= {now}) "
              "ORDER BY e.finished_at LIMIT 1"
            : "SELECT {us:finished_at} FROM {finished} WHERE state = ? ORDER BY finished_at LIMIT 1",
        &arg, 1, nq_checks_int_row, &at, NULL, err);
    *ago = at == INT64_MIN ? 0 : nq_us_since(k->now_us, at);
    return rc;
}

/* A worker's own keep_done_us and keep_dead_us are nowhere in the database: of done tasks only the settings
 * of queues can tell, and dead ones are taken to be kept for the default of a week. */
NQ_PRIVATE int nq_check_retention(nq_conn *c, nq_checks *k, nq_found *f, nq_err *err)
{
    struct checks_rows_keep keep = {0, 0};
    int64_t oldest = 0;
    char ago[32], limit[32];
    int rc = nq_sql(
        c,
        "SELECT MAX(q.keep_done_us), MAX(q.keep_dead_us), MIN(q.keep_done_us), MIN(q.keep_dead_us) FROM "
        "(SELECT keep_done_us, keep_dead_us FROM {queues} ORDER BY name LIMIT " CHECKS_ROWS_MOST ") q",
        NULL, 0, checks_rows_keep_row, &keep, NULL, err);
    if (keep.dead_us >= 0 && keep.dead_us < NQ_DAYS(7))
        keep.dead_us = NQ_DAYS(7);
    for (int state = NQ_STATE_DONE; state <= NQ_STATE_CANCELLED && rc == NQ_OK; state++) {
        const int64_t most = state == NQ_STATE_DONE ? keep.done_us : keep.dead_us;
        int64_t at = 0;
        rc = checks_rows_oldest(c, k, state, &at, err);
        oldest = at > oldest ? at : oldest;
        if (rc == NQ_OK && most > 0 && at > most + NQ_DAYS(1))
            nq_found_more(
                f, NQ_CHECK_WARNING,
                "run a worker, which deletes them; where one is told to keep them for longer, nothing is "
                "wrong",
                "the oldest %s task ended %s ago, and is to be kept for %s", nq_state_name(state),
                nq_checks_ago(at, ago), nq_checks_ago(most, limit));
    }
    if (rc == NQ_OK)
        rc = checks_rows_orphans(c, f, err);
    if (rc == NQ_OK && f->text[0] == '\0')
        nq_found_say(f, NQ_CHECK_OK, NULL, "the oldest task that has ended and is kept ended %s ago",
                     nq_checks_ago(oldest, ago));
    return rc;
}
