/* SPDX-License-Identifier: MIT */
/* Every call on a queue with one thing failing in it: all of the call takes effect, or nothing does. */
#include <sqlite3.h>

#include "nth.h"

struct store_world {
    nth_run *run;
    nq *q;
    nq_store *s;
    t_conn *caller;
    nq_member *member;
    uint64_t seq;
    nq_claimed *held;
    size_t nheld;
    char note[512]; /* what a step that only reads has seen */
};

/* Does the call; may be called again after a failure. */
typedef int (*store_step_fn)(struct store_world *w, nq_err *err);

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
        "SELECT 'left', result FROM %sresults ORDER BY result"};
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

static nq_id store_id(const struct store_world *w, const char *table, const char *payload)
{
    t_conn *side = t_connect();
    const nq_id id =
        t_run(side, "SELECT id FROM %s%s WHERE CAST(payload AS CHAR)='%s'", w->run->prefix, table, payload);
    t_disconnect(side);
    NTH_CHECK(w->run, id > 0, "there is no task '%s' in %s", payload, table);
    return id;
}

/* ---- Enqueue -------------------------------------------------------------------------------- */

static int store_open(struct store_world *w, nq_err *err)
{
    int rc;
    INJECT(rc, nq_open(&w->q, w->run->url, NULL, err));
    if (rc == NQ_OK)
        w->s = nq_store_of(w->q);
    return rc;
}

static int store_migrate(struct store_world *w, nq_err *err)
{
    int rc;
    INJECT(rc, nq_migrate(w->q, err));
    return rc;
}

static int store_one(struct store_world *w, nq_err *err)
{
    nq_id id = 0;
    int rc;
    INJECT(rc, nq_enqueue(w->q, NQ_OWN_TX, NQ_TASK(.type = "a", NQ_BYTES("one")), &id, err));
    NTH_CHECK(w->run, (id > 0) == (rc >= 0), "%s, but the id is %lld", nq_code_name(rc), (long long)id);
    return rc;
}

static int store_duplicate(struct store_world *w, nq_err *err)
{
    const int rc = store_one(w, err);
    NTH_CHECK(w->run, rc != NQ_OK, "a duplicate was taken");
    return rc == NQ_DUPLICATE ? NQ_OK : rc;
}

#define STORE_MANY 24

static int store_many(struct store_world *w, nq_err *err)
{
    nq_task_spec tasks[STORE_MANY];
    char payloads[STORE_MANY][16];
    nq_id ids[STORE_MANY];
    int results[STORE_MANY], rc;
    for (size_t i = 0; i < STORE_MANY; i++) {
        snprintf(payloads[i], sizeof payloads[i], "many%02zu", i);
        tasks[i] =
            *NQ_TASK(.type = "b", .payload = payloads[i], .payload_size = 6, .priority = i % 8 == 7 ? 5 : 0,
                     .delay_us = i % 8 == 6 ? NQ_HOURS(5) : 0, .max_retries = i == 4 ? NQ_ZERO : 3);
        ids[i] = results[i] = -1;
    }
    snprintf(payloads[2], sizeof payloads[2], "many01"); /* a repetition */
    tasks[3].type = "a";
    snprintf(payloads[3], sizeof payloads[3], "one"); /* a live one's duplicate */
    tasks[3].payload_size = 3;
    tasks[6].headers = &(const nq_header){"lang", "de"};
    tasks[6].nheaders = 1;
    tasks[5].unique = NQ_UNIQUE_DATA;
    tasks[5].unique_data = "key";
    tasks[5].unique_size = 3;
    tasks[8].unique = NQ_UNIQUE_NONE;
    INJECT(rc, nq_enqueue_many(w->q, NQ_OWN_TX, tasks, STORE_MANY, ids, results, err));
    for (size_t i = 0; i < STORE_MANY; i++) {
        const int expected = i == 2 || i == 3 ? NQ_DUPLICATE : NQ_OK;
        NTH_CHECK(w->run, rc ? ids[i] == -1 && results[i] == -1 : ids[i] > 0 && results[i] == expected,
                  "%s: task %zu: id %lld, result %d", nq_code_name(rc), i, (long long)ids[i], results[i]);
    }
    return rc;
}

/* ---- In the caller's transaction ------------------------------------------------------------ */

static int64_t store_orders(const struct store_world *w)
{
    t_conn *side = t_connect();
    const int64_t n = t_run(side, "SELECT COUNT(*) FROM %sorders", w->run->prefix);
    t_disconnect(side);
    return n;
}

static void store_caller_begin(struct store_world *w)
{
    if (!w->caller)
        w->caller = t_connect();
    t_begin(w->caller);
    t_run(w->caller, "INSERT INTO %sorders VALUES (1)", w->run->prefix);
}

/* The transaction is lost, and nothing of it may stay; or it is not, and all of it can be committed. */
static void store_caller_failed(struct store_world *w, const nq_err *err, bool commit, int64_t before)
{
    if (!err->transaction_lost && commit)
        t_run(w->caller, "COMMIT");
    else
        t_try(w->caller, "ROLLBACK");
    t_disconnect(w->caller);
    w->caller = NULL;
    const int64_t after = store_orders(w);
    NTH_CHECK(w->run, after == before + (!err->transaction_lost && commit),
              "the caller's transaction was %slost, but of its rows there are %lld (%s)",
              err->transaction_lost ? "" : "not ", (long long)(after - before), err->message);
}

static int store_caller_enqueue(struct store_world *w, const nq_task_spec *task, nq_err *err)
{
    const int64_t before = store_orders(w);
    int rc;
    store_caller_begin(w);
    INJECT(rc, nq_enqueue(w->q, t_tx(w->caller), task, NULL, err));
    if (rc < 0)
        store_caller_failed(w, err, true, before);
    else
        t_run(w->caller, "COMMIT");
    return rc;
}

static int store_caller_one(struct store_world *w, nq_err *err)
{
    return store_caller_enqueue(w, NQ_TASK(.type = "c", NQ_BYTES("caller")), err);
}

static int store_caller_duplicate(struct store_world *w, nq_err *err)
{
    const int rc = store_caller_enqueue(w, NQ_TASK(.type = "c", NQ_BYTES("caller")), err);
    NTH_CHECK(w->run, rc != NQ_OK, "a duplicate was taken");
    return rc == NQ_DUPLICATE ? NQ_OK : rc;
}

static int store_caller_many(struct store_world *w, nq_err *err)
{
    const nq_task_spec tasks[] = {*NQ_TASK(.type = "c", NQ_BYTES("first")),
                                  *NQ_TASK(.type = "c", NQ_BYTES("caller")),
                                  *NQ_TASK(.type = "c", NQ_BYTES("second"), .delay_us = NQ_HOURS(1)),
                                  *NQ_TASK(.type = "c", NQ_BYTES("first"))};
    const int64_t before = store_orders(w);
    int rc, results[4];
    store_caller_begin(w);
    INJECT(rc, nq_enqueue_many(w->q, t_tx(w->caller), tasks, 4, NULL, results, err));
    if (rc == NQ_OK) {
        t_run(w->caller, "COMMIT");
        NTH_CHECK(w->run,
                  results[0] == NQ_OK && results[1] == NQ_DUPLICATE && results[2] == NQ_OK &&
                      results[3] == NQ_DUPLICATE,
                  "results %d %d %d %d", results[0], results[1], results[2], results[3]);
    } else {
        store_caller_failed(w, err, false, before);
    }
    return rc;
}

static int store_caller_rollback(struct store_world *w, nq_err *err)
{
    const int64_t before = store_orders(w);
    int rc;
    store_caller_begin(w);
    INJECT(rc, nq_enqueue(w->q, t_tx(w->caller), NQ_TASK(.type = "c", NQ_BYTES("never")), NULL, err));
    store_caller_failed(w, rc ? err : &(nq_err){0}, false, before);
    return rc;
}

/* ---- Claim and finish ----------------------------------------------------------------------- */

static int store_join(struct store_world *w, nq_err *err)
{
    int rc;
    INJECT(rc, nq_member_join(&w->member, w->s, "test:1", NULL, err));
    return rc;
}

static int store_beat(struct store_world *w, nq_err *err)
{
    int rc;
    INJECT(rc, nq_member_beat(w->member, err));
    return rc;
}

static int store_watch(struct store_world *w, nq_err *err)
{
    unsigned died = 0;
    int rc;
    INJECT(rc, nq_member_watch(w->member, NQ_SECONDS(30), &died, err));
    NTH_CHECK(w->run, died == 0, "%u workers were declared dead", died);
    return rc;
}

/* All of one priority of a queue; a claim may find that one whose commit was lost did not happen, and one
 * that lacks memory for all takes some: then the rest is claimed after it. */
static int store_claim(struct store_world *w, const char *queue, const char *const types[], size_t ntypes,
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

static int store_claim_any(struct store_world *w, nq_err *err)
{
    return store_claim(w, "default", NULL, 0, 12, err);
}

static int store_claim_typed(struct store_world *w, nq_err *err)
{
    static const char *const types[] = {"c", "nothing"};
    return store_claim(w, "default", types, 2, 2, err);
}

/* In a queue where nothing else waits: whoever looks whether something does must find it again. */
static int store_enqueue_alone(struct store_world *w, nq_err *err)
{
    int rc;
    INJECT(rc,
           nq_enqueue(w->q, NQ_OWN_TX, NQ_TASK(.type = "d", .queue = "alone", NQ_BYTES("alone")), NULL, err));
    return rc;
}

static int store_claim_alone(struct store_world *w, nq_err *err)
{
    return store_claim(w, "alone", NULL, 0, 1, err);
}

/* What the transaction of a lost connection still holds is asked for again. */
static int store_finish(struct store_world *w, nq_outcome outcomes[], size_t n, nq_err *err)
{
    nq_outcome *list[STORE_MANY];
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

static int store_finish_alone(struct store_world *w, nq_err *err)
{
    nq_outcome o = {.id = w->held->task.id, .lease = w->held->lease, .kind = NQ_OUT_DONE};
    return store_finish(w, &o, 1, err);
}

static void store_let_go(struct store_world *w)
{
    nq_claimed_free(w->held);
    w->held = NULL;
    w->nheld = 0;
}

static int store_finish_mixed(struct store_world *w, nq_err *err)
{
    static char error[NQ_MAX_ERROR + 100];
    nq_outcome outcomes[STORE_MANY] = {{0}};
    size_t n = 0;
    memset(error, 'e', sizeof error);
    for (const nq_claimed *c = w->held; c && n < STORE_MANY; c = c->next, n++) {
        nq_outcome *o = &outcomes[n];
        *o = (nq_outcome){.id = c->task.id, .lease = c->lease, .kind = NQ_OUT_DONE, .result = 1};
        if (n == 5)
            o->keep = true;
        if (n == 6)
            *o = (nq_outcome){.id = c->task.id,
                              .lease = c->lease,
                              .kind = NQ_OUT_RETRY,
                              .delay_us = NQ_HOURS(2),
                              .error = "failed",
                              .error_size = 6};
        if (n == 7)
            *o = (nq_outcome){
                .id = c->task.id, .lease = c->lease, .kind = NQ_OUT_SNOOZE, .delay_us = NQ_HOURS(3)};
        if (n == 8)
            o->kind = NQ_OUT_RELEASE;
        if (n == 9)
            *o = (nq_outcome){.id = c->task.id,
                              .lease = c->lease,
                              .kind = NQ_OUT_DEAD,
                              .error = error,
                              .error_size = sizeof error};
    }
    return store_finish(w, outcomes, n, err);
}

/* Those of a member that is gone: found, and retried as crashes. */
static int store_orphans(struct store_world *w, nq_err *err)
{
    nq_claimed *list = NULL;
    size_t n = 0;
    int rc;
    t_conn *side = t_connect();
    t_run(side, "DELETE FROM %sworkers", w->run->prefix);
    t_disconnect(side);
    INJECT(rc, nq_store_orphans(w->s, NULL, 100, &list, &n, err));
    NTH_CHECK(w->run, rc ? !list : n == 2, "found %zu orphans", n);
    nq_outcome outcomes[4] = {{0}};
    size_t i = 0;
    for (const nq_claimed *c = list; c; c = c->next, i++)
        outcomes[i] = (nq_outcome){.id = c->task.id,
                                   .lease = c->lease,
                                   .kind = NQ_OUT_RETRY,
                                   .crashed = true,
                                   .delay_us = NQ_HOURS(1)};
    if (rc == NQ_OK)
        rc = store_finish(w, outcomes, n, err);
    nq_claimed_free(list);
    return rc;
}

static int store_leave(struct store_world *w, nq_err *err)
{
    nq_member *m = w->member;
    int rc;
    w->member = NULL;
    if (!m)
        return NQ_OK; /* the failed call freed it */
    INJECT(rc, nq_member_leave(m, err));
    return rc;
}

/* ---- Follow-ups, upkeep --------------------------------------------------------------------- */

static int store_follow(struct store_world *w, nq_err *err)
{
    int rc = store_one(w, err);
    NTH_CHECK(w->run, rc != NQ_OK, "a duplicate of a running task was taken");
    return rc == NQ_DUPLICATE ? NQ_OK : rc;
}

static int store_promote(struct store_world *w, nq_err *err)
{
    size_t n = 0;
    bool more = true;
    int rc = NQ_OK;
    for (int tries = 0; rc == NQ_OK && more && tries < 3; tries++)
        INJECT(rc, nq_store_promote(w->s, 100, &n, &more, err));
    return rc;
}

static int store_purge(struct store_world *w, nq_err *err)
{
    uint64_t n = 0;
    int rc;
    INJECT(rc, nq_store_purge(w->s, 0, NQ_DAYS(7), 100, &n, err));
    return rc;
}

/* ---- Looking and steering ------------------------------------------------------------------- */

struct store_seen {
    size_t n, bytes;
};

static int store_see(const nq_info *info, void *arg)
{
    struct store_seen *seen = arg;
    seen->n++;
    seen->bytes += info->payload_size + strlen(info->type) + strlen(info->error);
    return 0;
}

static int store_see_stats(const nq_queue_stats *s, void *arg)
{
    struct store_seen *seen = arg;
    seen->n++;
    seen->bytes +=
        s->due + 100 * s->delayed + 10000 * s->running + 1000000 * (s->done + s->dead + s->cancelled);
    return 0;
}

static void store_saw(struct store_world *w, int rc, const struct store_seen *seen)
{
    if (rc == NQ_OK)
        snprintf(w->note, sizeof w->note, "saw %zu, %zu\n", seen->n, seen->bytes);
}

static int store_list(struct store_world *w, nq_err *err)
{
    struct store_seen seen = {0, 0};
    int rc;
    INJECT(rc, nq_list(w->q, NULL, store_see, &seen, err));
    store_saw(w, rc, &seen);
    return rc;
}

static int store_get(struct store_world *w, nq_err *err)
{
    struct store_seen seen = {0, 0};
    const nq_id id = store_id(w, "tasks", "caller");
    int rc;
    INJECT(rc, nq_get(w->q, id, store_see, &seen, err));
    store_saw(w, rc, &seen);
    return rc;
}

static int store_stats(struct store_world *w, nq_err *err)
{
    struct store_seen seen = {0, 0};
    int rc;
    INJECT(rc, nq_stats(w->q, store_see_stats, &seen, err));
    store_saw(w, rc, &seen);
    return rc;
}

static int store_cancel(struct store_world *w, nq_err *err)
{
    const nq_id id = store_id(w, "tasks", "second");
    int rc;
    INJECT(rc, nq_cancel(w->q, id, err));
    return rc;
}

static int store_retry(struct store_world *w, nq_err *err)
{
    const nq_id id = store_id(w, "finished", "second");
    int rc;
    INJECT(rc, nq_retry(w->q, id, err));
    return rc;
}

static int store_delete(struct store_world *w, nq_err *err)
{
    const nq_id id = store_id(w, "tasks", "second");
    int rc;
    INJECT(rc, nq_delete(w->q, id, err));
    return rc;
}

/* ---- Attempts that run ---------------------------------------------------------------------- */

static int store_add_three(struct store_world *w, nq_err *err)
{
    const nq_task_spec tasks[] = {*NQ_TASK(.type = "d", NQ_BYTES("cancelled")),
                                  *NQ_TASK(.type = "d", NQ_BYTES("done")),
                                  *NQ_TASK(.type = "d", NQ_BYTES("neither"))};
    int rc;
    INJECT(rc, nq_enqueue_many(w->q, NQ_OWN_TX, tasks, 3, NULL, NULL, err));
    return rc;
}

static int store_claim_three(struct store_world *w, nq_err *err)
{
    static const char *const types[] = {"d"};
    return store_claim(w, "default", types, 1, 3, err);
}

static const nq_claimed *store_held(const struct store_world *w, const char *payload)
{
    const nq_claimed *c = w->held;
    while (c && strcmp(c->task.payload, payload) != 0)
        c = c->next;
    NTH_CHECK(w->run, c, "'%s' is not held", payload);
    return c;
}

static int store_ask(struct store_world *w, nq_err *err)
{
    const nq_id id = store_held(w, "cancelled")->task.id;
    int rc;
    INJECT(rc, nq_cancel(w->q, id, err));
    return rc;
}

static int store_asked(struct store_world *w, nq_err *err)
{
    const nq_claimed *c = store_held(w, "cancelled");
    nq_attempt *list = NULL;
    size_t n = 0;
    int rc;
    INJECT(rc, nq_store_cancels(w->s, NQ_LEASE_WORKER(c->lease), &list, &n, err));
    NTH_CHECK(w->run, rc ? !list && !n : n == 1 && list->id == c->task.id, "%zu requests", n);
    free(list);
    return rc;
}

static int store_tell(struct store_world *w, nq_err *err)
{
    nq_progress told[3];
    const nq_progress *list[3];
    const nq_attempt ended = {1, 1};
    size_t n = 0;
    int rc;
    for (const nq_claimed *c = w->held; c; c = c->next, n++) {
        told[n] = (nq_progress){.of = {c->task.id, c->lease}, .done = (int64_t)n, .total = 3};
        list[n] = &told[n];
    }
    INJECT(rc, nq_store_progress(w->s, list, n, &ended, 1, err));
    return rc;
}

static int store_complete_in(struct store_world *w, nq_err *err)
{
    const nq_claimed *c = store_held(w, "done");
    const int64_t before = store_orders(w);
    int rc;
    store_caller_begin(w);
    INJECT(rc, nq_complete_in(w->s, t_tx(w->caller), c->task.id, c->lease, true, err));
    if (rc == NQ_OK)
        t_run(w->caller, "COMMIT");
    else
        store_caller_failed(w, err, false, before);
    return rc;
}

static int store_confirm(struct store_world *w, nq_err *err)
{
    const nq_claimed *done = store_held(w, "done"), *neither = store_held(w, "neither");
    nq_outcome a = {.id = done->task.id, .lease = done->lease, .kind = NQ_OUT_CONFIRM};
    nq_outcome b = {.id = neither->task.id, .lease = neither->lease, .kind = NQ_OUT_CONFIRM},
               *list[] = {&a, &b};
    int rc;
    INJECT(rc, nq_store_confirm(w->s, list, 2, err));
    NTH_CHECK(w->run, rc || (a.result == NQ_OK && b.result == NQ_ESTATE), "confirmed: %s, %s",
              nq_code_name(a.result), nq_code_name(b.result));
    return rc;
}

static int store_finish_asked(struct store_world *w, nq_err *err)
{
    const nq_claimed *cancelled = store_held(w, "cancelled"), *neither = store_held(w, "neither");
    nq_outcome outcomes[] = {
        {.id = cancelled->task.id,
         .lease = cancelled->lease,
         .kind = NQ_OUT_RETRY,
         .error = "x",
         .error_size = 1},
        {.id = neither->task.id, .lease = neither->lease, .kind = NQ_OUT_SNOOZE, .delay_us = NQ_HOURS(1)}};
    return store_finish(w, outcomes, 2, err);
}

static int store_sweep(struct store_world *w, nq_err *err)
{
    size_t n = 0;
    int rc;
    INJECT(rc, nq_store_progress_sweep(w->s, 100, &n, err));
    if (rc == NQ_OK)
        INJECT(rc, nq_store_gates_sweep(w->s, 100, &n, err));
    return rc;
}

static int store_migration_sql(struct store_world *w, nq_err *err)
{
    char *sql = NULL;
    int rc;
    INJECT(rc, nq_migration_sql(&sql, w->run->url, 0, err));
    if (rc == NQ_OK)
        snprintf(w->note, sizeof w->note, "%zu bytes of SQL\n", strlen(sql));
    nq_free(sql);
    return rc;
}

static int store_close(struct store_world *w, nq_err *err)
{
    (void)err;
    inject_arm();
    nq_close(w->q);
    inject_disarm();
    w->q = NULL;
    return NQ_OK;
}

#define STORE_KEYED(name, ...)                                                                               \
    NQ_TASK(.type = name, NQ_BYTES("k"), .queue = "keys", .unique = NQ_UNIQUE_DATA, .unique_data = "k",      \
            .unique_size = 1, __VA_ARGS__)
static int store_keys(struct store_world *w, nq_err *err)
{
    const nq_task_spec tasks[] = {*STORE_KEYED("replaced", .duplicate = NQ_REPLACE),
                                  *STORE_KEYED("appended", .duplicate = NQ_APPEND),
                                  *STORE_KEYED("window", .until = NQ_UNTIL_WINDOW, .window_us = NQ_HOURS(1))};
    int rc;
    INJECT(rc, nq_enqueue_many(w->q, NQ_OWN_TX, tasks, 3, NULL, NULL, err));
    return rc;
}

static int store_keys_claim(struct store_world *w, nq_err *err)
{
    return store_claim(w, "keys", NULL, 0, 3, err);
}

/* ---- The scenario --------------------------------------------------------------------------- */

static const struct {
    const char *name;
    store_step_fn fn;
    bool lets_go;  /* of what is held, once it took effect */
    bool doubtful; /* after a failure it may have taken effect all the same; a later call settles that */
} store_steps[] = {
    {"open", store_open, false, false},
    {"migrate", store_migrate, false, false},
    {"enqueue", store_one, false, false},
    {"enqueue a duplicate", store_duplicate, false, false},
    {"enqueue many", store_many, false, false},
    {"enqueue in the caller's transaction", store_caller_one, false, false},
    {"a duplicate in the caller's transaction", store_caller_duplicate, false, false},
    {"many in the caller's transaction", store_caller_many, false, false},
    {"roll back the caller's transaction", store_caller_rollback, false, false},
    {"join", store_join, false, false},
    {"claim", store_claim_any, false, true},
    {"enqueue a duplicate of a running task", store_follow, false, false},
    {"beat", store_beat, false, false},
    {"watch", store_watch, false, false},
    {"list", store_list, false, false},
    {"show", store_get, false, false},
    {"stats", store_stats, false, false},
    {"finish", store_finish_mixed, true, false},
    {"promote", store_promote, false, false},
    {"cancel", store_cancel, false, false},
    {"retry", store_retry, false, false},
    {"delete", store_delete, false, false},
    {"enqueue three", store_add_three, false, false},
    {"claim three", store_claim_three, false, true},
    {"ask to cancel", store_ask, false, false},
    {"look for requests", store_asked, false, false},
    {"progress", store_tell, false, false},
    {"complete in the caller's transaction", store_complete_in, false, false},
    {"confirm", store_confirm, false, false},
    {"finish what was asked for", store_finish_asked, true, false},
    {"sweep progress", store_sweep, false, true},
    {"enqueue alone", store_enqueue_alone, false, false},
    {"claim alone", store_claim_alone, false, true},
    {"finish alone", store_finish_alone, true, false},
    {"tasks with keys", store_keys, false, false},
    {"change them", store_keys, false, false},
    {"claim them", store_keys_claim, false, true},
    {"leave what follows them", store_keys, false, false},
    {"finish them", store_finish_mixed, true, false},
    {"promote what followed", store_promote, false, true},
    {"claim by type", store_claim_typed, true, true},
    {"orphans", store_orphans, false, false},
    {"leave", store_leave, false, false},
    {"purge", store_purge, false, true},
    {"migration's SQL", store_migration_sql, false, false},
    {"close", store_close, false, false},
};
#define STORE_STEPS (sizeof store_steps / sizeof *store_steps)

static void store_now(struct store_world *w, char *out)
{
    const size_t n = strlen(w->note);
    memcpy(out, w->note, n + 1);
    store_snapshot(w->run, out + n, NTH_NOTE_SIZE - n);
}

/* The server may still be at what a connection sent that was cut: until it is through, the tables change. */
static void store_settled(const struct store_world *w)
{
    char cut[8000];
    const int64_t until = t_mono() + NQ_SECONDS(10);
    inject_cut(cut, sizeof cut);
    if (!T_MYSQL || strcmp(cut, "0") == 0)
        return;
    t_conn *side = t_connect();
    while (t_run(side, "SELECT COUNT(*) FROM information_schema.processlist WHERE id IN (%s)", cut) > 0) {
        NTH_CHECK(w->run, t_mono() < until, "the server does not end the connections %s", cut);
        t_pause_ms(1);
    }
    t_disconnect(side);
}

/* A step failed: either nothing happened, and then it works now; or all of it did, and the error said that
 * this may be. */
static void store_failed(struct store_world *w, size_t k, int rc, const nq_err *err)
{
    static char now[NTH_NOTE_SIZE];
    const char *name = store_steps[k].name;
    const char *before = k ? nth_note(k - 1) : "";
    const bool maybe = rc == NQ_EUNKNOWN || store_steps[k].doubtful;
    nq_err again = {0};
    inject_stop();
    store_settled(w);
    NTH_CHECK(w->run, err->code == rc && err->message[0], "%s: %s, but err has %d '%s'", name,
              nq_code_name(rc), err->code, err->message);
    w->note[0] = '\0';
    store_now(w, now);
    /* The step before may have left a note of what it saw. */
    if (strncmp(before, "saw ", 4) == 0)
        before = strchr(before, '\n') + 1;
    if (k == 0 || strcmp(now, before) == 0 || store_steps[k].doubtful) {
        const int second = store_steps[k].fn(w, &again);
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

static void store_scenario(nth_run *run)
{
    struct store_world w = {.run = run};
    const bool reference = run->plan.at == 0;
    static char now[NTH_NOTE_SIZE];
    for (size_t k = 0; k < STORE_STEPS; k++) {
        nq_err err = {0};
        w.note[0] = '\0';
        const int rc = store_steps[k].fn(&w, &err);
        if (reference) {
            NTH_CHECK(run, rc == NQ_OK, "%s: %s: %s", store_steps[k].name, nq_code_name(rc), err.message);
            store_now(&w, nth_note(k));
        } else if (rc != NQ_OK) {
            store_failed(&w, k, rc, &err);
        } else if (w.note[0] || k + 1 == STORE_STEPS) {
            store_now(&w, now);
            NTH_CHECK(run, strcmp(now, nth_note(k)) == 0, "after %s expected\n%sbut now\n%s",
                      store_steps[k].name, nth_note(k), now);
        }
        if (store_steps[k].lets_go)
            store_let_go(&w);
    }
    t_disconnect(w.caller);
}

/* ---- The tests ------------------------------------------------------------------------------ */

static void store_run(const char *name, enum inject_kind kind, enum inject_how how, bool persistent, long few)
{
    const nth_case c = {name, kind, how, persistent, "hints=none", store_scenario};
    nth_all(&c, few);
}

START_TEST(store_allocations)
{
    store_run("one allocation", INJECT_ALLOC, 0, false, 120);
}
END_TEST

START_TEST(store_allocations_all)
{
    store_run("all allocations from the n-th on", INJECT_ALLOC, 0, true, 50);
}
END_TEST

START_TEST(store_system)
{
    store_run("one system call", INJECT_SYSTEM, 0, false, 100);
}
END_TEST

static const struct {
    const char *name;
    enum inject_how how;
    bool persistent;
} store_statement_ways[] = {
    {"connection lost before the statement", INJECT_LOST_BEFORE, false},
    {"connection lost after the statement", INJECT_LOST_AFTER, false},
    {"connection lost before each statement", INJECT_LOST_BEFORE, true},
    {"connection lost after each statement", INJECT_LOST_AFTER, true},
    {"deadlock", INJECT_DEADLOCK, false},
    {"lock wait timeout", INJECT_TIMEOUT, false},
    {"table full", INJECT_TABLE_FULL, false},
    {"table full for ever", INJECT_TABLE_FULL, true},
    {"no memory in the client", INJECT_CLIENT_NOMEM, false},
    {"busy", INJECT_BUSY, false},
    {"full", INJECT_FULL, false},
    {"full for ever", INJECT_FULL, true},
    {"full, rolled back", INJECT_FULL_LOST, false},
    {"I/O error, rolled back", INJECT_IOERR_LOST, false},
    {"no memory in SQLite", INJECT_NOMEM, false},
    {"corrupt", INJECT_CORRUPT, false},
};

START_TEST(store_statements)
{
    const enum inject_how how = store_statement_ways[_i].how;
    if ((how >= INJECT_BUSY) != T_SQLITE)
        return;
    store_run(store_statement_ways[_i].name, INJECT_STATEMENT, how, store_statement_ways[_i].persistent,
              store_statement_ways[_i].persistent ? 12 : 30);
}
END_TEST

static const struct {
    const char *name;
    enum inject_how how;
    bool persistent;
} store_file_ways[] = {
    {"one file error", INJECT_FILE_ERROR, false}, {"file errors for ever", INJECT_FILE_ERROR, true},
    {"no room once", INJECT_FILE_FULL, false},    {"no room for ever", INJECT_FILE_FULL, true},
    {"one sync", INJECT_FILE_SYNC, false},        {"no sync any more", INJECT_FILE_SYNC, true},
    {"one torn write", INJECT_FILE_TORN, false},
};

START_TEST(store_files)
{
    if (T_SQLITE)
        store_run(store_file_ways[_i].name, INJECT_FILE, store_file_ways[_i].how,
                  store_file_ways[_i].persistent, 40);
}
END_TEST

Suite *suite_store(void)
{
    Suite *s = suite_create("nth store");
    const double seconds = nth_long() ? 3000 : 60;
    TCase *c = t_case(s, "allocations", seconds);
    tcase_add_test(c, store_allocations);
    tcase_add_test(c, store_allocations_all);
    tcase_add_test(c, store_system);
    c = t_case(s, "statements", seconds);
    tcase_add_loop_test(c, store_statements, 0,
                        (int)(sizeof store_statement_ways / sizeof *store_statement_ways));
    c = t_case(s, "files", seconds);
    tcase_add_loop_test(c, store_files, 0, (int)(sizeof store_file_ways / sizeof *store_file_ways));
    return s;
}
