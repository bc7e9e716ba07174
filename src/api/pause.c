/* SPDX-License-Identifier: MIT */
/* Pausing and resuming queues, and waiting until every worker knows. */
#include <stdio.h>

#include "api.h"

#define PAUSE_LOOK_MIN_US NQ_MS(20)
#define PAUSE_LOOK_MAX_US NQ_MS(250)
/* A worker whose lock is free and that was silent for so long is taken for dead; no beat is as far apart. */
#define PAUSE_DEAD_US NQ_SECONDS(11)

struct pause_write {
    const char *name, *why;
    const char *type; /* of whose tasks it is the group; NULL: of none */
    bool pause;
};

/* Since when it is paused, and why unless it is said anew, stay as they are. */
static int pause_write(nq_conn *c, void *arg, nq_err *err)
{
    const struct pause_write *p = arg;
    const nq_val args[] = {p->why ? nq_text(p->why) : nq_null(), p->type ? nq_text(p->type) : nq_null(),
                           nq_text(p->name)};
    if (p->pause) {
        const int did = nq_settings_upsert(
            c,
            "UPDATE {queues} SET paused_why = COALESCE(?, paused_why), type = COALESCE(?, type), "
            "paused_at = COALESCE(paused_at, {now}), changed_at = {now} WHERE name = ?",
            "INSERT INTO {queues} (paused_why, type, name, paused_at, changed_at) VALUES (?, ?, ?, {now}, "
            "{now})",
            args, 3, err);
        return did == NQ_OK && p->type ? nq_settings_few_types(c, p->name, err) : did;
    }
    const int rc = nq_sql(c,
                          "UPDATE {queues} SET paused_at = NULL, paused_why = NULL, changed_at = {now} "
                          "WHERE name = ? AND paused_at IS NOT NULL",
                          &args[2], 1, NULL, NULL, NULL, err);
    return rc == NQ_OK ? nq_settings_tidy(c, p->name, err) : rc;
}

/* ---- Waiting ---- */

struct pause_look {
    const char *name; /* of whose tasks none may run; of the queue, where there is a type */
    const char *type; /* only tasks of this one; NULL: any */
    bool running;     /* wait for its tasks too */
    uint64_t hash;
    /* What is still waited for: a worker, */
    uint64_t stale[64];
    int64_t quiet[64];
    size_t nstale;
    char worker[80];
    bool old;   /* which is of a version that heeds no settings */
    nq_id task; /* or a task; 0: none */
};

static int pause_worker_row(const nq_val cols[], size_t ncols, void *arg)
{
    struct pause_look *l = arg;
    (void)ncols;
    if (cols[2].type == NQ_VAL_INT && (uint64_t)cols[2].i == l->hash)
        return 0;
    if (l->nstale < sizeof l->stale / sizeof *l->stale) {
        l->stale[l->nstale] = (uint64_t)cols[0].i;
        l->quiet[l->nstale++] = cols[4].type == NQ_VAL_INT ? cols[4].i : INT64_MAX;
    }
    nq_printable(l->worker, sizeof l->worker, cols[1].n ? cols[1].p : "", cols[1].n);
    l->old = cols[3].type == NQ_VAL_NULL;
    return 0;
}

static int pause_task_row(const nq_val cols[], size_t ncols, void *arg)
{
    (void)ncols;
    ((struct pause_look *)arg)->task = cols[0].i;
    return 0;
}

/* Those that died, and whose rows nobody has taken away yet, need not know. */
static int pause_living(nq_conn *c, struct pause_look *l, nq_err *err)
{
    int8_t free_out[64];
    size_t dead = 0;
    const int rc = l->nstale ? c->store->driver->lock_probe(c, l->stale, l->nstale, free_out, err) : NQ_OK;
    for (size_t i = 0; rc == NQ_OK && i < l->nstale; i++)
        dead += free_out[i] == 1 && l->quiet[i] >= PAUSE_DEAD_US;
    if (dead == l->nstale && dead < sizeof l->stale / sizeof *l->stale)
        l->nstale = 0;
    return rc;
}

static int pause_look(nq_conn *c, void *arg, nq_err *err)
{
    struct pause_look *l = arg;
    char first[NQ_MAX_QUEUE + 4], last[NQ_MAX_QUEUE + 4];
    const size_t base = nq_queue_base(l->name);
    const bool whole = l->name[base] == '\0', each = strcmp(l->name + base, "//*") == 0;
    l->nstale = 0;
    l->task = 0;
    int rc = nq_sql(c,
                    "SELECT id, {bytes:name}, settings, version, {us:now} - {us:beat_at} FROM {workers} "
                    "ORDER BY id",
                    NULL, 0, pause_worker_row, l, NULL, err);
    if (rc == NQ_OK)
        rc = pause_living(c, l, err);
    if (rc != NQ_OK || !l->running)
        return rc;
    const nq_val name[] = {nq_text(l->name), nq_text(l->type ? l->type : "")};
    const size_t typed = l->type ? 1 : 0;
    if (!each)
        rc = nq_sql(c,
                    typed
                        ? "SELECT id FROM {tasks} {claim} WHERE queue = ? AND state = 1 AND {exact:type} = ? "
                          "LIMIT 1"
                        : "SELECT id FROM {tasks} {claim} WHERE queue = ? AND state = 1 LIMIT 1",
                    name, 1 + typed, pause_task_row, l, NULL, err);
    if (rc != NQ_OK || l->task || (!whole && !each))
        return rc;
    /* Its groups: all that begins with "mail//". */
    snprintf(first, sizeof first, "%.*s//", (int)base, l->name);
    snprintf(last, sizeof last, "%.*s/0", (int)base, l->name);
    const nq_val range[] = {nq_text(first), nq_text(last), name[1]};
    return nq_sql(c,
                  typed
                      ? "SELECT id FROM {tasks} {claim} WHERE queue > ? AND queue < ? AND state = 1 AND "
                        "{exact:type} = ? LIMIT 1"
                      : "SELECT id FROM {tasks} {claim} WHERE queue > ? AND queue < ? AND state = 1 LIMIT 1",
                  range, 2 + typed, pause_task_row, l, NULL, err);
}

static int pause_timeout(const struct pause_look *l, nq_err *err)
{
    if (l->nstale > 0)
        return nq_err_set(err, NQ_ETIMEOUT, "worker %s does not know yet%s", l->worker,
                          l->old ? ": it is of an older version, which heeds no settings of queues" : "");
    return nq_err_set(err, NQ_ETIMEOUT, "task %lld still runs", (long long)l->task);
}

/* Until every worker has read the settings as they are, and nothing of the queue runs. */
static int pause_wait(nq *q, const char *name, const char *type, bool running, int64_t wait_us, nq_err *err)
{
    const int64_t until = nq_mono_us() + wait_us;
    struct pause_look l = {.name = name, .type = type, .running = running};
    int64_t pause = PAUSE_LOOK_MIN_US;
    for (;;) {
        nq_settings *s = NULL;
        int rc = nq_settings_read(&s, nq_store_of(q), NULL, err);
        if (rc != NQ_OK)
            return rc;
        l.hash = s->hash;
        nq_settings_unref(s);
        if ((rc = nq_store_do(nq_store_of(q), pause_look, &l, err)) != NQ_OK)
            return rc;
        if (l.nstale == 0 && l.task == 0)
            return NQ_OK;
        const int64_t left = until - nq_mono_us();
        if (left <= 0)
            return pause_timeout(&l, err);
        nq_sleep_us(left < pause ? left : pause);
        pause = pause * 3 / 2 < PAUSE_LOOK_MAX_US ? pause * 3 / 2 : PAUSE_LOOK_MAX_US;
    }
}

/* ---- The calls ---- */

static int pause_run(nq *q, const char *queue, bool pause, const nq_pause_options *opts, nq_err *err)
{
    char name[NQ_MAX_QUEUE + 1];
    nq_pause_options o;
    int rc = nq_usable(q, err);
    if (rc != NQ_OK || (rc = nq_options_copy(&o, sizeof o, opts, "nq_pause_options", err)) != NQ_OK ||
        (rc = nq_settings_name(name, queue, o.group, o.type, err)) != NQ_OK)
        return rc;
    o.wait_us = nq_option(o.wait_us, 0);
    if (o.wait_us < 0 || o.wait_us > NQ_MAX_DURATION)
        return nq_err_set(err, NQ_EINVAL, "wait_us is %lld; allowed are 0 to ten years",
                          (long long)o.wait_us);
    if (o.why && ((rc = nq_check_words("why", o.why, NQ_MAX_WHY, err)) != NQ_OK))
        return rc;
    struct pause_write w = {.name = name, .why = o.why, .type = o.type, .pause = pause};
    if ((rc = nq_ready(q, err)) != NQ_OK || (rc = nq_store_tx(nq_store_of(q), pause_write, &w, err)) != NQ_OK)
        return rc;
    nq_wake_settings(q);
    return o.wait_us ? pause_wait(q, o.type ? queue : name, o.type, pause, o.wait_us, err) : NQ_OK;
}

NQ_API int nq_pause(nq *q, const char *queue, const nq_pause_options *opts, nq_err *err)
{
    return pause_run(q, queue, true, opts, err);
}

NQ_API int nq_resume(nq *q, const char *queue, const nq_pause_options *opts, nq_err *err)
{
    return pause_run(q, queue, false, opts, err);
}
