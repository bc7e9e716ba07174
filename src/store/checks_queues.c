/* SPDX-License-Identifier: MIT */
/* Checks of what waits in the queues, and of the workers that serve them. */
#include "checks.h"

#include <stdio.h>

#define CHECKS_WALK_US    NQ_MS(250) /* of a look at the queues */
#define CHECKS_GROUPS     500        /* of one queue that are looked at */
#define CHECKS_WORKERS    1000
#define CHECKS_OVERDUE_US NQ_HOURS(1)
#define CHECKS_FAR_US     NQ_DAYS(366)
#define CHECKS_LEVELS     (NQ_MAX_PRIORITY - NQ_MIN_PRIORITY + 1)

/* ---- The walk: from one queue to the next by the claim index, whatever the number of tasks ---- */

/* The one of this base, or a new one. "mail-x" comes between "mail" and its groups. NULL: no memory. */
static nq_checks_queue *checks_queues_of(nq_checks *k, const char *name)
{
    const size_t n = nq_queue_base(name);
    nq_checks_queue *last;
    for (size_t i = k->nqueues; k->queues && i > 0 && k->nqueues - i < 64; i--) {
        last = &k->queues[i - 1];
        if (strlen(last->name) == n && memcmp(last->name, name, n) == 0)
            return last;
    }
    nq_checks_queue *more = nq_grow(k->queues, k->nqueues, &k->cap_queues, sizeof *more);
    if (!more)
        return NULL;
    k->queues = more;
    last = &k->queues[k->nqueues++];
    *last = (nq_checks_queue){.due_us = INT64_MAX, .last_us = INT64_MIN};
    memcpy(last->name, name, n);
    last->name[n] = '\0';
    last->paused = k->settings && nq_settings_paused(k->settings, last->name);
    return last;
}

static int checks_queues_look(nq_conn *c, nq_checks *k, const char *name, nq_look *look, nq_err *err)
{
    const int rc = c->store->driver->levels(c, name, look, err);
    if (rc != NQ_OK || look->n == 0)
        return rc;
    nq_checks_queue *q = checks_queues_of(k, name);
    if (!q)
        return nq_err_nomem(err);
    const bool paused = k->settings && nq_settings_paused(k->settings, name);
    for (size_t i = 0; i < look->n; i++) {
        int64_t last = INT64_MIN;
        const nq_val args[] = {nq_text(name), nq_int(look->levels[i].priority)};
        const int found = nq_sql(
            c, "SELECT {us:MAX(run_at)} FROM {tasks} {claim} WHERE queue = ? AND state = 0 AND priority = ?",
            args, 2, nq_checks_int_row, &last, NULL, err);
        if (found != NQ_OK)
            return found;
        q->last_us = last > q->last_us ? last : q->last_us;
        if (!paused && look->levels[i].first_run_at < q->due_us)
            q->due_us = look->levels[i].first_run_at;
    }
    return NQ_OK;
}

static int checks_queues_workers(nq_conn *c, nq_checks *k, nq_err *err);

/* Where the walk is. */
struct checks_walk {
    nq_scan at;
    nq_look look;
    char before[NQ_MAX_QUEUE + 1]; /* the queue of the name before this one */
    size_t groups;                 /* names of it, beyond the first */
};

/* One name. Beyond so many of a queue the rest of them is jumped over. */
static int checks_queues_one(nq_conn *c, nq_checks *k, struct checks_walk *w, nq_err *err)
{
    char name[NQ_MAX_QUEUE + 1], jump[NQ_MAX_QUEUE + 4];
    nq_buf *const at = &w->at.queue;
    if (w->at.type != NQ_VAL_TEXT || at->n == 0 || at->n > NQ_MAX_QUEUE || memchr(at->p, '\0', at->n))
        return NQ_OK; /* whoever may INSERT gives the names: this one is no queue's */
    memcpy(name, at->p, at->n);
    name[at->n] = '\0';
    const int rc = checks_queues_look(c, k, name, &w->look, err);
    k->names++;
    const size_t base = nq_queue_base(name);
    w->groups = strlen(w->before) == base && memcmp(w->before, name, base) == 0 ? w->groups + 1 : 0;
    snprintf(w->before, sizeof w->before, "%.*s", (int)base, name);
    snprintf(jump, sizeof jump, "%.*s//\x7f", (int)base, name);
    /* Forwards: in a file there may be letters behind that one. */
    if (rc != NQ_OK || w->groups < CHECKS_GROUPS || strcmp(jump, name) <= 0)
        return rc;
    nq_buf_clear(at);
    nq_buf_str(at, jump);
    return at->failed ? nq_err_nomem(err) : NQ_OK;
}

NQ_PRIVATE int nq_checks_walk(nq_conn *c, nq_checks *k, nq_err *err)
{
    static const char behind[] = "SELECT MIN(queue) FROM {tasks} WHERE queue > ?";
    nq_level levels[CHECKS_LEVELS];
    struct checks_walk w = {.at = {.type = NQ_VAL_TEXT}, .look = {.levels = levels, .max = CHECKS_LEVELS}};
    const int64_t until = nq_mono_us() + nq_checks_number(k, "nanoq walk", CHECKS_WALK_US);
    bool more = false;
    int rc = checks_queues_workers(c, k, err);
    if (rc == NQ_OK)
        rc = nq_scan_next(c, &w.at, behind, false, &more, err);
    while (rc == NQ_OK && more) {
        k->cut = nq_mono_us() >= until;
        if (k->cut)
            break;
        if ((rc = checks_queues_one(c, k, &w, err)) == NQ_OK)
            rc = nq_scan_next(c, &w.at, behind, false, &more, err);
    }
    nq_buf_free(&w.at.queue);
    return rc;
}

/* Whoever may INSERT gives the names. */
static const char *checks_queues_shown(const nq_checks_queue *q, char out[4 * NQ_MAX_QUEUE + 1])
{
    nq_printable(out, 4 * NQ_MAX_QUEUE + 1, q->name, strlen(q->name));
    return out;
}

/* "; of the first 1200 queues and groups" */
static void checks_queues_cut(const nq_checks *k, nq_found *f)
{
    if (k->cut)
        nq_found_more(f, NQ_CHECK_OK, NULL, "only the first %zu queues and groups were looked at", k->names);
}

/* ---- Workers ---- */

static int checks_queues_worker_row(const nq_val cols[], size_t ncols, void *arg)
{
    nq_checks *k = arg;
    nq_checks_worker *more = nq_grow(k->workers, k->nworkers, &k->cap_workers, sizeof *more);
    (void)ncols;
    if (!more)
        return NQ_ENOMEM;
    k->workers = more;
    nq_checks_worker *w = &k->workers[k->nworkers];
    *w = (nq_checks_worker){0};
    nq_checks_text(w->name, sizeof w->name, &cols[0]);
    nq_checks_text(w->version, sizeof w->version, &cols[2]);
    w->beat_ago_us = nq_us_since(cols[4].i, cols[3].type == NQ_VAL_INT ? cols[3].i : 0);
    if (cols[1].type == NQ_VAL_TEXT || cols[1].type == NQ_VAL_BLOB) {
        nq_buf b = {0};
        nq_buf_str(&b, ",");
        nq_buf_add(&b, cols[1].p, cols[1].n);
        nq_buf_str(&b, ",");
        if (b.failed) {
            nq_buf_free(&b);
            return NQ_ENOMEM;
        }
        w->queues = b.p;
    }
    k->nworkers++;
    return 0;
}

static int checks_queues_workers(nq_conn *c, nq_checks *k, nq_err *err)
{
    const nq_val most = nq_int(CHECKS_WORKERS);
    return nq_sql(
        c,
        "SELECT {bytes:name}, {bytes:queues}, {bytes:version}, {us:beat_at}, {us:now} FROM {workers} "
        "ORDER BY id DESC LIMIT ?",
        &most, 1, checks_queues_worker_row, k, NULL, err);
}

static bool checks_queues_silent(const nq_checks_worker *w)
{
    return w->beat_ago_us > NQ_WORKER_SILENT_US;
}

/* Why the walk came to nothing. */
static int checks_queues_failed(const nq_checks *k, nq_err *err)
{
    if (k->walked != NQ_OK && err)
        *err = k->walk_err;
    return k->walked;
}

NQ_PRIVATE int nq_check_silent(nq_conn *c, nq_checks *k, nq_found *f, nq_err *err)
{
    const nq_checks_worker *first = NULL;
    size_t silent = 0;
    char ago[32];
    (void)c;
    if (k->walked != NQ_OK)
        return checks_queues_failed(k, err);
    for (size_t i = 0; i < k->nworkers; i++)
        if (checks_queues_silent(&k->workers[i])) {
            silent++;
            first = first ? first : &k->workers[i];
        }
    if (!first)
        nq_found_say(f, NQ_CHECK_OK, NULL, "%zu worker%s, none of them silent", k->nworkers,
                     k->nworkers == 1 ? "" : "s");
    else
        nq_found_say(
            f, NQ_CHECK_WARNING,
            "it hangs, its host is gone, or it cannot reach the database; the next live worker takes its "
            "tasks back",
            "%zu of %zu workers %s been silent for more than 15 s: %s for %s", silent, k->nworkers,
            silent == 1 ? "has" : "have", first->name, nq_checks_ago(first->beat_ago_us, ago));
    return NQ_OK;
}

static int64_t checks_queues_version(const char *text)
{
    unsigned v[3] = {0, 0, 0};
    const int n = sscanf(text, "%4u.%4u.%4u", &v[0], &v[1], &v[2]);
    return n == 3 ? (int64_t)v[0] * 100000000 + (int64_t)v[1] * 10000 + v[2] : 0;
}

NQ_PRIVATE int nq_check_versions(nq_conn *c, nq_checks *k, nq_found *f, nq_err *err)
{
    const int64_t ours = checks_queues_version(nq_version());
    const nq_checks_worker *first = NULL;
    size_t old = 0, newer = 0;
    (void)c;
    if (k->walked != NQ_OK)
        return checks_queues_failed(k, err);
    for (size_t i = 0; i < k->nworkers; i++) {
        const int64_t theirs = checks_queues_version(k->workers[i].version);
        newer += theirs > ours;
        if (theirs < ours && ++old == 1)
            first = &k->workers[i];
    }
    if (first)
        nq_found_say(f, NQ_CHECK_WARNING,
                     "deploy this version there: an older one does not heed newer settings",
                     "%zu of %zu workers %s older than %s: %s is of version %s", old, k->nworkers,
                     old == 1 ? "is" : "are", nq_version(), first->name,
                     first->version[0] ? first->version : "(not told)");
    else
        nq_found_say(f, NQ_CHECK_OK, NULL, "no worker is older than %s, %zu newer", nq_version(), newer);
    return NQ_OK;
}

/* ---- Queues ---- */

static bool checks_queues_serves(const nq_checks_worker *w, const char *queue)
{
    char name[NQ_MAX_QUEUE + 4];
    if (!w->queues)
        return true; /* an older version, which says nothing: perhaps it does */
    snprintf(name, sizeof name, ",%s,", queue);
    if (strstr(w->queues, name))
        return true;
    snprintf(name, sizeof name, ",%s//", queue); /* a group of it at least */
    return strstr(w->queues, name);
}

NQ_PRIVATE int nq_check_served(nq_conn *c, nq_checks *k, nq_found *f, nq_err *err)
{
    char name[4 * NQ_MAX_QUEUE + 1];
    const nq_checks_queue *first = NULL;
    size_t bad = 0, live = 0;
    bool due = false;
    (void)c;
    if (k->walked != NQ_OK)
        return checks_queues_failed(k, err);
    for (size_t i = 0; i < k->nworkers; i++)
        live += !checks_queues_silent(&k->workers[i]);
    for (size_t i = 0; i < k->nqueues; i++) {
        const nq_checks_queue *q = &k->queues[i];
        bool served = q->paused;
        for (size_t w = 0; w < k->nworkers && !served; w++)
            served = !checks_queues_silent(&k->workers[w]) && checks_queues_serves(&k->workers[w], q->name);
        if (served)
            continue;
        bad++;
        if (!first || (!due && q->due_us <= k->now_us))
            first = q;
        due = due || q->due_us <= k->now_us;
    }
    if (!first)
        nq_found_say(f, NQ_CHECK_OK, NULL, "%zu queue%s with waiting tasks, each served or paused",
                     k->nqueues, k->nqueues == 1 ? "" : "s");
    else
        nq_found_say(f, due ? NQ_CHECK_ERROR : NQ_CHECK_WARNING,
                     "start a worker with that queue, or move its tasks; nanoq workers shows who serves what",
                     "%zu of %zu queues with waiting tasks %s served by no live worker of %zu: %s%s", bad,
                     k->nqueues, bad == 1 ? "is" : "are", live, checks_queues_shown(first, name),
                     due ? ", where tasks are due" : "");
    checks_queues_cut(k, f);
    return NQ_OK;
}

NQ_PRIVATE int nq_check_overdue(nq_conn *c, nq_checks *k, nq_found *f, nq_err *err)
{
    char name[4 * NQ_MAX_QUEUE + 1];
    const nq_checks_queue *oldest = NULL;
    size_t bad = 0;
    char ago[32];
    (void)c;
    if (k->walked != NQ_OK)
        return checks_queues_failed(k, err);
    for (size_t i = 0; i < k->nqueues; i++) {
        const nq_checks_queue *q = &k->queues[i];
        if (q->due_us == INT64_MAX || nq_us_since(k->now_us, q->due_us) <= CHECKS_OVERDUE_US)
            continue;
        bad++;
        oldest = !oldest || q->due_us < oldest->due_us ? q : oldest;
    }
    if (oldest)
        nq_found_say(f, NQ_CHECK_WARNING, "nanoq why ID says what keeps a task; or run more workers",
                     "tasks of %zu queue%s have been due for more than an hour: of %s for %s", bad,
                     bad == 1 ? "" : "s", checks_queues_shown(oldest, name),
                     oldest->due_us == INT64_MIN
                         ? "an unknown time, which is none that a task may have"
                         : nq_checks_ago(nq_us_since(k->now_us, oldest->due_us), ago));
    else
        nq_found_say(f, NQ_CHECK_OK, NULL, "no task of a queue that is not paused has been due for an hour");
    checks_queues_cut(k, f);
    return NQ_OK;
}

NQ_PRIVATE int nq_check_far(nq_conn *c, nq_checks *k, nq_found *f, nq_err *err)
{
    char name[4 * NQ_MAX_QUEUE + 1];
    const nq_checks_queue *last = NULL;
    size_t bad = 0;
    char at[28];
    (void)c;
    if (k->walked != NQ_OK)
        return checks_queues_failed(k, err);
    for (size_t i = 0; i < k->nqueues; i++) {
        const nq_checks_queue *q = &k->queues[i];
        if (nq_us_since(q->last_us, k->now_us) <= CHECKS_FAR_US)
            continue;
        bad++;
        last = !last || q->last_us > last->last_us ? q : last;
    }
    if (last) {
        nq_format_time(last->last_us, at);
        nq_found_say(
            f, NQ_CHECK_WARNING,
            "was a time given in another unit than microseconds? nanoq list --waiting --newest shows them, "
            "nanoq retry makes one due, nanoq delete drops it",
            "tasks of %zu queue%s are not due within a year: of %s at %s", bad, bad == 1 ? "" : "s",
            checks_queues_shown(last, name), at);
    } else {
        nq_found_say(f, NQ_CHECK_OK, NULL, "no task waits for more than a year");
    }
    checks_queues_cut(k, f);
    return NQ_OK;
}
