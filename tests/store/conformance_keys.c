/* SPDX-License-Identifier: MIT */
/* Keys that are looked after: until the start, for a window; replaced, debounced, appended to. */
#include "keys.h"

/* ---- Until the start ---- */

START_TEST(until_start_frees_the_key_at_the_claim)
{
    nq *q = t_open();
    const nq_task_spec *spec = KEYED(NQ_BYTES("x"), .until = NQ_UNTIL_START);
    const nq_id first = keys_add(q, NQ_OWN_TX, spec, NQ_OK);
    ck_assert_int_eq(keys_add(q, NQ_OWN_TX, spec, NQ_DUPLICATE), first);
    nq_claimed *c = t_claim_one(q, NQ_LEASE(1, 1));
    ck_assert_uint_eq(c->task.nheaders, 0);
    const nq_id second = keys_add(q, NQ_OWN_TX, spec, NQ_OK);
    ck_assert_int_eq(keys_add(q, NQ_OWN_TX, spec, NQ_DUPLICATE), second);
    ck_assert_int_eq(t_sql(FOLLOWUPS), 0);
    /* Failed, it waits beside the other, and both run. */
    ck_assert_int_eq(t_finish(q, c, NQ_OUT_RETRY, 0, "no"), NQ_OK);
    t_free_claimed(c);
    size_t n = 0;
    c = t_claim(q, NQ_LEASE(1, 2), 5, &n);
    ck_assert_uint_eq(n, 2);
    ck_assert_int_eq(t_finish(q, c->next, NQ_OUT_DONE, 0, NULL), NQ_OK);
    keys_done(q, c);
    nq_close(q);
}
END_TEST

START_TEST(until_start_among_others_and_of_a_hint)
{
    nq *q = t_open();
    T_ADD(q, .type = "t", NQ_BYTES("plain"));
    const nq_task_spec *spec = KEYED(NQ_BYTES("x"), .until = NQ_UNTIL_START);
    keys_add(q, NQ_OWN_TX, spec, NQ_OK);
    T_ADD(q, .type = "t", NQ_BYTES("plain too"));
    size_t n = 0;
    nq_claimed *c = t_claim(q, NQ_LEASE(1, 1), 5, &n);
    ck_assert_uint_eq(n, 3);
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_tasks WHERE unique_key IS NULL"), 1);
    t_free_claimed(c);
    /* A claim of one that is named by a hint frees the key, or leaves the task to one that does. */
    const nq_id id = keys_add(q, NQ_OWN_TX, spec, NQ_OK);
    nq_claimer *claimer;
    int64_t wait;
    T_OK(nq_claimer_new(&claimer, nq_store_of(q), "default", NULL, 0, &t_last));
    nq_claimer_hint(claimer, id);
    for (uint64_t seq = 2; seq < 5 && t_state(q, id) == NQ_STATE_WAITING; seq++) {
        T_OK(nq_claimer_claim(claimer, NQ_LEASE(1, seq), 1, NULL, &c, &n, &wait, &t_last));
        t_free_claimed(c);
    }
    nq_claimer_free(claimer);
    ck_assert_int_eq(t_state(q, id), NQ_STATE_RUNNING);
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_tasks WHERE unique_key IS NULL"), 2);
    nq_close(q);
}
END_TEST

START_TEST(until_start_by_plain_sql_and_nonsense_in_headers)
{
    nq *q = t_open();
    t_sql("INSERT INTO nanoq_tasks (type, payload, headers) VALUES ('t', '1', 'a: b\nnq-unique: start\n')");
    t_sql("INSERT INTO nanoq_tasks (type, payload, headers) VALUES ('t', '2', 'nq-unique: started')");
    t_sql("INSERT INTO nanoq_tasks (type, payload, headers) VALUES ('t', '3', 'nq-unique: replace\n')");
    t_sql("INSERT INTO nanoq_tasks (type, payload, headers, unique_key) VALUES "
          "('t', '4', 'nq-unique: start', NULL)");
    size_t n = 0;
    nq_claimed *c = t_claim(q, NQ_LEASE(1, 1), 9, &n);
    ck_assert_uint_eq(n, 4);
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_tasks WHERE unique_key IS NULL"), 2);
    for (const nq_claimed *at = c; at; at = at->next)
        ck_assert_int_eq(t_finish(q, at, NQ_OUT_DONE, 0, NULL), NQ_OK);
    t_free_claimed(c);
    nq_close(q);
}
END_TEST

/* ---- Windows ---- */

#define WINDOW(text) KEYED(NQ_BYTES(text), .until = NQ_UNTIL_WINDOW, .window_us = NQ_HOURS(1))

static void keys_window_ends(void)
{
    if (T_MYSQL)
        t_sql("UPDATE nanoq_windows SET until_at = UTC_TIMESTAMP(6) - INTERVAL 1 SECOND");
    else
        t_sql("UPDATE nanoq_windows SET until_at = until_at - 3601000000");
}

START_TEST(a_window_outlives_its_task)
{
    const bool theirs = _i;
    nq *q = t_open();
    t_conn *mine = t_connect();
    const nq_tx tx = theirs ? t_tx(mine) : NQ_OWN_TX;
    nq_id id = 0, again = 0;
    IN(id = keys_add(q, tx, WINDOW("x"), NQ_OK);
       ck_assert_int_eq(keys_add(q, tx, WINDOW("y"), NQ_DUPLICATE), id));
    nq_claimed *c = t_claim_one(q, NQ_LEASE(1, 1));
    IN(ck_assert_int_eq(keys_add(q, tx, WINDOW("x"), NQ_DUPLICATE), id));
    ck_assert_int_eq(t_sql(FOLLOWUPS), 0);
    keys_done(q, c);
    IN(ck_assert_int_eq(keys_add(q, tx, WINDOW("x"), NQ_DUPLICATE), id));
    ck_assert_int_eq(t_sql(TASKS), 0);
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_windows"), 1);
    keys_window_ends();
    IN(again = keys_add(q, tx, WINDOW("z"), NQ_OK));
    ck_assert_int_eq(t_sql("SELECT task_id FROM nanoq_windows"), again);
    IN(ck_assert_int_eq(keys_add(q, tx, WINDOW("x"), NQ_DUPLICATE), again));
    /* One that is live has its key beyond the window, which is swept. */
    keys_window_ends();
    size_t n = 0;
    T_OK(nq_store_windows_sweep(nq_store_of(q), 100, &n, &t_last));
    ck_assert_uint_eq(n, 1);
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_windows"), 0);
    IN(ck_assert_int_eq(keys_add(q, tx, WINDOW("x"), NQ_DUPLICATE), again));
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_windows"), 0);
    keys_runs(q, "z");
    t_disconnect(mine);
    nq_close(q);
}
END_TEST

START_TEST(a_window_is_rolled_back_with_its_task)
{
    nq *q = t_open();
    t_conn *mine = t_connect();
    t_begin(mine);
    keys_add(q, t_tx(mine), WINDOW("x"), NQ_OK);
    t_run(mine, "ROLLBACK");
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_windows"), 0);
    keys_add(q, NQ_OWN_TX, WINDOW("x"), NQ_OK);
    /* The data say what is the same, and the type. */
    nq_id id;
    T_OK(nq_enqueue(q, NQ_OWN_TX,
                    NQ_TASK(.type = "u", .unique = NQ_UNIQUE_DATA, .unique_data = "k", .unique_size = 1,
                            .until = NQ_UNTIL_WINDOW, .window_us = 1000000),
                    &id, &t_last));
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_windows"), 2);
    t_disconnect(mine);
    nq_close(q);
}
END_TEST

#define KEYS_RACERS 16

struct keys_racer {
    nq *q;
    sem_t *go;
    int answer;
    nq_id id;
    nq_err err;
};

static void *keys_race(void *arg)
{
    struct keys_racer *r = arg;
    t_await(r->go, 20);
    r->answer = nq_enqueue(r->q, NQ_OWN_TX, WINDOW("x"), &r->id, &r->err);
    return NULL;
}

START_TEST(of_racers_for_a_window_one_wins)
{
    nq *q = t_open(), *other = t_open();
    for (int round = 0; round < 5; round++) {
        struct keys_racer racers[KEYS_RACERS];
        pthread_t threads[KEYS_RACERS];
        sem_t go;
        sem_init(&go, 0, 0);
        for (int i = 0; i < KEYS_RACERS; i++) {
            racers[i] = (struct keys_racer){.q = i % 2 ? q : other, .go = &go};
            t_thread(&threads[i], keys_race, &racers[i]);
        }
        for (int i = 0; i < KEYS_RACERS; i++)
            t_post(&go);
        int won = 0;
        nq_id winner = 0;
        for (int i = 0; i < KEYS_RACERS; i++) {
            pthread_join(threads[i], NULL);
            ck_assert_msg(racers[i].answer >= 0, "%s", racers[i].err.message);
            won += racers[i].answer == NQ_OK;
            winner = racers[i].answer == NQ_OK ? racers[i].id : winner;
        }
        ck_assert_int_eq(won, 1);
        for (int i = 0; i < KEYS_RACERS; i++)
            ck_assert_int_eq(racers[i].id, winner);
        ck_assert_int_eq(t_sql("SELECT task_id FROM nanoq_windows"), winner);
        keys_runs(q, "x");
        keys_window_ends();
        sem_destroy(&go);
    }
    nq_close(other);
    nq_close(q);
}
END_TEST

/* ---- Many in a call, and what is refused ---- */

START_TEST(many_at_once_each_in_its_own_way)
{
    const bool theirs = _i;
    nq *q = t_open();
    t_conn *mine = t_connect();
    const nq_tx tx = theirs ? t_tx(mine) : NQ_OWN_TX;
    const nq_id running = T_ADD(q, .type = "t", NQ_BYTES("running"));
    nq_claimed *c = t_claim_one(q, NQ_LEASE(1, 1));
    const nq_id waiting = keys_add(q, NQ_OWN_TX, REPLACING("old"), NQ_OK);
    const nq_task_spec specs[] = {
        *NQ_TASK(.type = "t", NQ_BYTES("plain"), .expires_us = NQ_HOURS(1)),
        *REPLACING("new"),
        *NQ_TASK(.type = "t", NQ_BYTES("running")),
        *NQ_TASK(.type = "t", NQ_BYTES("plain")),
        *NQ_TASK(.type = "t", NQ_BYTES("plain"), .unique = NQ_UNIQUE_NONE),
        *REPLACING("newest"),
        *NQ_TASK(.type = "w", .until = NQ_UNTIL_WINDOW, .window_us = 1),
    };
    static const int expected[] = {NQ_OK, NQ_OK, NQ_DUPLICATE, NQ_DUPLICATE, NQ_OK, NQ_OK, NQ_OK};
    nq_id ids[7];
    int results[7];
    IN(T_OK(nq_enqueue_many(q, tx, specs, 7, ids, results, &t_last)));
    for (int i = 0; i < 7; i++)
        ck_assert_int_eq(results[i], expected[i]);
    ck_assert_int_eq(ids[1], waiting);
    ck_assert_int_eq(ids[2], running);
    ck_assert_int_eq(ids[3], ids[0]);
    ck_assert_int_eq(ids[5], waiting);
    ck_assert_int_eq(t_sql(FOLLOWUPS), 1);
    ck_assert_int_eq(t_sql(TASKS), 5);
    keys_payload(q, waiting, "newest");
    t_free_claimed(c);
    t_disconnect(mine);
    nq_close(q);
}
END_TEST

START_TEST(combinations_that_mean_nothing_are_refused)
{
    nq *q = t_open();
    const struct {
        const nq_task_spec *spec;
        const char *word;
    } bad[] = {
        {KEYED(.until = 3), "until is 3"},
        {KEYED(.duplicate = -1), "duplicate is -1"},
        {KEYED(.until = NQ_UNTIL_WINDOW), "window_us"},
        {KEYED(.until = NQ_UNTIL_WINDOW, .window_us = -1), "window_us"},
        {KEYED(.window_us = 1), "NQ_UNTIL_WINDOW"},
        {KEYED(.until = NQ_UNTIL_WINDOW, .window_us = 1, .duplicate = NQ_REPLACE), "NQ_REFUSE"},
        {KEYED(.duplicate = NQ_DEBOUNCE), "delay_us"},
        {KEYED(.duplicate = NQ_DEBOUNCE, .run_at_us = 5), "delay_us"},
        {KEYED(.duplicate = NQ_DEBOUNCE, .delay_us = 5, .max_wait_us = 4), "below delay_us"},
        {KEYED(.duplicate = NQ_REPLACE, .max_wait_us = 4), "NQ_DEBOUNCE"},
        {NQ_TASK(.type = "t", .duplicate = NQ_APPEND), "NQ_UNIQUE_DATA"},
        {NQ_TASK(.type = "t", .duplicate = NQ_REPLACE, .unique = NQ_UNIQUE_NONE), "NQ_UNIQUE_NONE"},
        {NQ_TASK(.type = "t", .until = NQ_UNTIL_START, .unique = NQ_UNIQUE_NONE), "NQ_UNIQUE_NONE"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        T_FAILS(nq_enqueue(q, NQ_OWN_TX, bad[i].spec, NULL, &t_last), NQ_EINVAL);
        ck_assert_msg(strstr(t_last.message, bad[i].word), "%s", t_last.message);
    }
    t_conn *mine = t_connect();
    if (T_MYSQL) { /* between its statements the row has to stay locked */
        T_FAILS(nq_enqueue(q, t_tx(mine), REPLACING("x"), NULL, &t_last), NQ_EINVAL);
        ck_assert_msg(strstr(t_last.message, "no transaction"), "%s", t_last.message);
    } else {
        keys_add(q, t_tx(mine), REPLACING("x"), NQ_OK);
        keys_add(q, t_tx(mine), REPLACING("y"), NQ_OK);
        keys_runs(q, "y");
    }
    t_disconnect(mine);
    nq_close(q);
}
END_TEST

Suite *suite_keys(void)
{
    Suite *s = suite_create("keys");
    TCase *tc = t_case(s, "start", 20);
    tcase_add_test(tc, until_start_frees_the_key_at_the_claim);
    tcase_add_test(tc, until_start_among_others_and_of_a_hint);
    tcase_add_test(tc, until_start_by_plain_sql_and_nonsense_in_headers);
    tc = t_case(s, "window", 30);
    tcase_add_loop_test(tc, a_window_outlives_its_task, 0, 2);
    tcase_add_test(tc, a_window_is_rolled_back_with_its_task);
    tcase_add_test(tc, of_racers_for_a_window_one_wins);
    tc = t_case(s, "calls", 20);
    tcase_add_loop_test(tc, many_at_once_each_in_its_own_way, 0, 2);
    tcase_add_test(tc, combinations_that_mean_nothing_are_refused);
    return s;
}
