/* SPDX-License-Identifier: MIT */
/* Every call on a queue with one thing failing in it: all of the call takes effect, or nothing does. */
#include "nth_steps.h"

/* ---- Enqueue -------------------------------------------------------------------------------- */

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

#define STORE_MANY STORE_MOST

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

static int store_finish_alone(struct store_world *w, nq_err *err)
{
    nq_outcome o = {.id = w->held->task.id, .lease = w->held->lease, .kind = NQ_OUT_DONE};
    return store_finish(w, &o, 1, err);
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

static int store_see_stats(const nq_queue_stats *s, void *arg)
{
    struct store_seen *seen = arg;
    seen->n++;
    seen->bytes +=
        s->due + 100 * s->delayed + 10000 * s->running + 1000000 * (s->done + s->dead + s->cancelled);
    return 0;
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
    const nq_task_spec tasks[] = {
        *NQ_TASK(.type = "d", NQ_BYTES("cancelled")),
        *NQ_TASK(.type = "d", NQ_BYTES("done"), .priority = 5), /* a transaction of its own */
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

static const nth_step store_steps[] = {
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
static void store_scenario(nth_run *run)
{
    nth_steps_run(run, store_steps, sizeof store_steps / sizeof *store_steps);
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

START_TEST(store_statements)
{
    const enum inject_how how = nth_statement_ways[_i].how;
    if ((how >= INJECT_BUSY) != T_SQLITE)
        return;
    store_run(nth_statement_ways[_i].name, INJECT_STATEMENT, how, nth_statement_ways[_i].persistent,
              nth_statement_ways[_i].persistent ? 12 : 30);
}
END_TEST

START_TEST(store_files)
{
    if (T_SQLITE)
        store_run(nth_file_ways[_i].name, INJECT_FILE, nth_file_ways[_i].how, nth_file_ways[_i].persistent,
                  40);
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
    tcase_add_loop_test(c, store_statements, 0, NTH_STATEMENT_WAYS);
    c = t_case(s, "files", seconds);
    tcase_add_loop_test(c, store_files, 0, NTH_FILE_WAYS);
    return s;
}
