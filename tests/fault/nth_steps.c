/* SPDX-License-Identifier: MIT */
/* Steps on a queue, one of which has something failing in it: all of it takes effect, or nothing does. */
#include "nth_steps.h"

/* ---- What the tables say -------------------------------------------------------------------- */

/* Everything but ids and times. */
static void store_snapshot(const nth_run *run, char *out, size_t size)
{
    static const char *const parts[] = {
        "SELECT 'task', type, payload, queue, state, priority, attempts, crashes, max_retries, timeout_ms, "
        "lease <> 0, unique_key IS NULL, headers, LENGTH(error), SUBSTR(error, 1, 20) FROM "
        "%stasks ORDER BY type, payload, "
        "state",
        "SELECT 'ended', type, payload, queue, state, priority, attempts, crashes, max_retries, timeout_ms, "
        "error "
        "FROM %sfinished ORDER BY type, payload, state",
        "SELECT 'follow', type, payload, queue FROM %sfollowups ORDER BY type, payload",
        "SELECT 'asked', COUNT(*) FROM %scancels",
        "SELECT 'told', done, total FROM %sprogress ORDER BY done",
        "SELECT 'failed', outcome, attempt, SUBSTR(error, 1, 20) FROM %sattempts ORDER BY 2, 3, error",
        "SELECT 'left', result FROM %sresults ORDER BY result",
        "SELECT 'tag', tag, COUNT(*) FROM %stags GROUP BY tag ORDER BY tag",
        "SELECT 'line', generation, seq, level, line FROM %slogs ORDER BY 2, 3",
        "SELECT 'min', worker > 0, queue, type, SUM(done) FROM %sminutes GROUP BY 2, 3, 4 ORDER BY 2, 3, 4",
        "SELECT 'set', name FROM %squeues ORDER BY name"};
    t_conn *side = t_connect();
    size_t at = 0;
    out[0] = '\0';
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
        char *text = t_text(side, parts[i], run->prefix);
#pragma GCC diagnostic pop
        at += (size_t)snprintf(out + at, size - at, "%s\n", text ? text : "");
        free(text);
        ck_assert_uint_lt(at, size);
    }
    char *health = T_SQLITE ? t_text(side, "PRAGMA integrity_check") : NULL;
    NTH_CHECK(run, T_MYSQL || (health && strcmp(health, "ok") == 0), "integrity check: %s", health);
    free(health);
    t_disconnect(side);
}

nq_id store_id(const struct store_world *w, const char *table, const char *payload)
{
    t_conn *side = t_connect();
    const nq_id id =
        t_run(side, "SELECT id FROM %s%s WHERE CAST(payload AS CHAR)='%s'", w->run->prefix, table, payload);
    t_disconnect(side);
    NTH_CHECK(w->run, id > 0, "there is no task '%s' in %s", payload, table);
    return id;
}

/* ---- Steps of all scenarios ----------------------------------------------------------------- */

int store_open(struct store_world *w, nq_err *err)
{
    int rc;
    INJECT(rc, nq_open(&w->q, w->run->url, NULL, err));
    if (rc == NQ_OK)
        w->s = nq_store_of(w->q);
    return rc;
}

int store_close(struct store_world *w, nq_err *err)
{
    (void)err;
    inject_arm();
    nq_close(w->q);
    inject_disarm();
    w->q = NULL;
    return NQ_OK;
}

int store_join(struct store_world *w, nq_err *err)
{
    int rc;
    INJECT(rc, nq_member_join(&w->member, w->s, "test:1", NULL, err));
    return rc;
}

int store_leave(struct store_world *w, nq_err *err)
{
    nq_member *m = w->member;
    int rc;
    w->member = NULL;
    if (!m)
        return NQ_OK; /* the failed call freed it */
    INJECT(rc, nq_member_leave(m, err));
    return rc;
}

/* All of one priority of a queue; a claim may find that one whose commit was lost did not happen, and one
 * that lacks memory for all takes some: then the rest is claimed after it. */
int store_claim(struct store_world *w, const char *queue, const char *const types[], size_t ntypes,
                size_t want, nq_err *err)
{
    nq_claimer *claimer = NULL;
    nq_claimed **tail = &w->held;
    int64_t wait_us = 0;
    int rc;
    while (*tail)
        tail = &(*tail)->next;
    INJECT(rc, nq_claimer_new(&claimer, w->s, queue, types, ntypes, err));
    for (int empty = 0; rc == NQ_OK && w->nheld < want && empty < 3;) {
        nq_claimed *got = NULL;
        size_t n = 0;
        INJECT(rc, nq_claimer_claim(claimer, NQ_LEASE(nq_member_id(w->member), ++w->seq), want - w->nheld,
                                    NULL, &got, &n, &wait_us, err));
        *tail = got;
        while (*tail)
            tail = &(*tail)->next;
        w->nheld += n;
        empty += n == 0;
    }
    nq_claimer_free(claimer);
    NTH_CHECK(w->run, rc != NQ_OK || w->nheld == want, "claimed %zu tasks of %zu", w->nheld, want);
    return rc;
}

/* What the transaction of a lost connection still holds is asked for again. */
int store_finish(struct store_world *w, nq_outcome outcomes[], size_t n, nq_err *err)
{
    nq_outcome *list[STORE_MOST];
    size_t left = n;
    int rc = NQ_OK;
    for (size_t i = 0; i < n; i++)
        list[i] = &outcomes[i];
    for (int tries = 0; rc == NQ_OK && left > 0 && tries < 1000; tries++) {
        const size_t asked = left;
        if (tries)
            t_pause_ms(2);
        INJECT(rc, nq_store_finish(w->s, list, asked, err));
        left = 0;
        for (size_t i = 0; i < asked; i++)
            if (list[i]->result == NQ_ECONFLICT)
                list[left++] = list[i];
    }
    for (size_t i = 0; rc == NQ_OK && i < n; i++)
        NTH_CHECK(w->run, outcomes[i].result == NQ_OK, "outcome %zu: %s", i,
                  nq_code_name(outcomes[i].result));
    return rc;
}

static void store_let_go(struct store_world *w)
{
    nq_claimed_free(w->held);
    w->held = NULL;
    w->nheld = 0;
}

int store_see(const nq_info *info, void *arg)
{
    struct store_seen *seen = arg;
    seen->n++;
    seen->bytes += info->payload_size + strlen(info->type) + strlen(info->error);
    return 0;
}

void store_saw(struct store_world *w, int rc, const struct store_seen *seen)
{
    if (rc == NQ_OK)
        snprintf(w->note, sizeof w->note, "saw %zu, %zu\n", seen->n, seen->bytes);
}

/* ---- A scenario ----------------------------------------------------------------------------- */

static void store_now(struct store_world *w, char *out)
{
    const size_t n = strlen(w->note);
    memcpy(out, w->note, n + 1);
    store_snapshot(w->run, out + n, NTH_NOTE_SIZE - n);
}

/* A step failed: either nothing happened, and then it works now; or all of it did, and the error said that
 * this may be. */
static void store_failed(struct store_world *w, const nth_step steps[], size_t k, int rc, const nq_err *err)
{
    static char now[NTH_NOTE_SIZE];
    const char *name = steps[k].name;
    const char *before = k ? nth_note(k - 1) : "";
    const bool maybe = rc == NQ_EUNKNOWN || steps[k].doubtful;
    nq_err again = {0};
    inject_stop();
    NTH_CHECK(w->run, err->code == rc && err->message[0], "%s: %s, but err has %d '%s'", name,
              nq_code_name(rc), err->code, err->message);
    w->note[0] = '\0';
    store_now(w, now);
    /* The step before may have left a note of what it saw. */
    if (strncmp(before, "saw ", 4) == 0)
        before = strchr(before, '\n') + 1;
    if (k == 0 || strcmp(now, before) == 0 || steps[k].doubtful) {
        const int second = steps[k].fn(w, &again);
        NTH_CHECK(w->run, second == NQ_OK, "%s failed (%s: %s), and again: %s: %s", name, nq_code_name(rc),
                  err->message, nq_code_name(second), again.message);
        store_now(w, now);
    } else {
        NTH_CHECK(w->run, maybe, "%s answered %s (%s), but changed\n%sto\n%s", name, nq_code_name(rc),
                  err->message, before, now);
    }
    NTH_CHECK(w->run, strcmp(now, nth_note(k)) == 0,
              "%s failed (%s: %s), then worked; expected\n%sbut now\n%s", name, nq_code_name(rc),
              err->message, nth_note(k), now);
}

void nth_steps_run(nth_run *run, const nth_step steps[], size_t n)
{
    struct store_world w = {.run = run};
    const bool reference = run->plan.at == 0;
    static char now[NTH_NOTE_SIZE];
    for (size_t k = 0; k < n; k++) {
        nq_err err = {0};
        w.note[0] = '\0';
        const int rc = steps[k].fn(&w, &err);
        if (reference) {
            NTH_CHECK(run, rc == NQ_OK, "%s: %s: %s", steps[k].name, nq_code_name(rc), err.message);
            store_now(&w, nth_note(k));
        } else if (rc != NQ_OK) {
            store_failed(&w, steps, k, rc, &err);
        } else if (w.note[0] || k + 1 == n) {
            store_now(&w, now);
            NTH_CHECK(run, strcmp(now, nth_note(k)) == 0, "after %s expected\n%sbut now\n%s", steps[k].name,
                      nth_note(k), now);
        }
        if (steps[k].lets_go)
            store_let_go(&w);
    }
    t_disconnect(w.caller);
}

/* ---- Ways to fail --------------------------------------------------------------------------- */

const nth_way nth_statement_ways[NTH_STATEMENT_WAYS] = {
    {"connection lost before the statement", INJECT_LOST_BEFORE, false},
    {"connection lost after the statement", INJECT_LOST_AFTER, false},
    {"connection lost before each statement", INJECT_LOST_BEFORE, true},
    {"connection lost after each statement", INJECT_LOST_AFTER, true},
    {"deadlock", INJECT_DEADLOCK, false},
    {"lock wait timeout", INJECT_TIMEOUT, false},
    {"table full", INJECT_TABLE_FULL, false},
    {"table full for ever", INJECT_TABLE_FULL, true},
    {"no memory in the client", INJECT_CLIENT_NOMEM, false},
    {"ended without a word", INJECT_ENDED, false},
    {"busy", INJECT_BUSY, false},
    {"full", INJECT_FULL, false},
    {"full for ever", INJECT_FULL, true},
    {"full, rolled back", INJECT_FULL_LOST, false},
    {"I/O error, rolled back", INJECT_IOERR_LOST, false},
    {"no memory in SQLite", INJECT_NOMEM, false},
    {"corrupt", INJECT_CORRUPT, false},
};

const nth_way nth_file_ways[NTH_FILE_WAYS] = {
    {"one file error", INJECT_FILE_ERROR, false}, {"file errors for ever", INJECT_FILE_ERROR, true},
    {"no room once", INJECT_FILE_FULL, false},    {"no room for ever", INJECT_FILE_FULL, true},
    {"one sync", INJECT_FILE_SYNC, false},        {"no sync any more", INJECT_FILE_SYNC, true},
    {"one torn write", INJECT_FILE_TORN, false},
};
