/* SPDX-License-Identifier: MIT */
/* Duplicates that replace, debounce or append. */
#include "keys.h"

/* ---- Replace ---- */

START_TEST(a_waiting_task_is_replaced)
{
    const bool theirs = _i;
    nq *q = t_open();
    t_conn *mine = t_connect();
    const nq_tx tx = theirs ? t_tx(mine) : NQ_OWN_TX;
    const nq_header lang = {"lang", "de"};
    const nq_task_spec *spec =
        KEYED(NQ_BYTES("n\0w"), .duplicate = NQ_REPLACE, .queue = "other", .priority = 5, .max_retries = 3,
              .timeout_us = NQ_SECONDS(7), .headers = &lang, .nheaders = 1, .expires_us = NQ_HOURS(1));
    nq_id id = 0;
    IN(id = keys_add(q, tx, KEYED(NQ_BYTES("old"), .delay_us = NQ_HOURS(1)), NQ_OK));
    t_sql("UPDATE nanoq_tasks SET attempts = 3");
    IN(ck_assert_int_eq(keys_add(q, tx, spec, NQ_OK), id));
    ck_assert_int_eq(t_sql(TASKS), 1);
    ck_assert_int_eq(t_sql(FOLLOWUPS), 0);
    t_task t;
    ck_assert_int_eq(t_get(q, id, &t), NQ_OK);
    ck_assert_str_eq(t.queue, "other");
    ck_assert_uint_eq(t.info.payload_size, 3);
    ck_assert_mem_eq(t.payload, "n\0w", 3);
    ck_assert_int_eq(t.info.priority, 5);
    ck_assert_uint_eq(t.info.max_retries, 3);
    ck_assert_uint_eq(t.info.attempts, 0);
    ck_assert_int_eq(t.info.timeout_us, NQ_SECONDS(7));
    ck_assert_int_le(t.info.run_at_us, t_now(q));
    ck_assert_int_gt(t.info.expires_at_us, t_now(q) + NQ_SECONDS(3500));
    t_task_free(&t);
    /* Nothing in it at all, and twice in one transaction. */
    IN(ck_assert_int_eq(keys_add(q, tx, REPLACING("again"), NQ_OK), id);
       ck_assert_int_eq(keys_add(q, tx, REPLACING(""), NQ_OK), id));
    keys_runs(q, "");
    t_disconnect(mine);
    nq_close(q);
}
END_TEST

START_TEST(what_was_rolled_back_has_replaced_nothing)
{
    nq *q = t_open();
    t_conn *mine = t_connect();
    const nq_id id = keys_add(q, NQ_OWN_TX, REPLACING("1"), NQ_OK);
    t_begin(mine);
    ck_assert_int_eq(keys_add(q, t_tx(mine), REPLACING("2"), NQ_OK), id);
    t_run(mine, "ROLLBACK");
    keys_payload(q, id, "1");
    nq_claimed *c = t_claim_one(q, NQ_LEASE(1, 1));
    t_begin(mine);
    ck_assert_int_eq(keys_add(q, t_tx(mine), REPLACING("3"), NQ_OK), id);
    t_run(mine, "ROLLBACK");
    keys_done(q, c);
    ck_assert_uint_eq(keys_promote(q), 0);
    ck_assert_int_eq(t_sql(TASKS), 0);
    /* All of it, of a call that fails in its midst. */
    nq_task_spec specs[] = {*REPLACING("4"), *REPLACING("5")};
    specs[1].type = "";
    T_FAILS(nq_enqueue_many(q, NQ_OWN_TX, specs, 2, NULL, NULL, &t_last), NQ_EINVAL);
    ck_assert_int_eq(t_sql(TASKS), 0);
    t_disconnect(mine);
    nq_close(q);
}
END_TEST

START_TEST(of_a_running_task_the_newest_follows)
{
    const bool theirs = _i;
    nq *q = t_open();
    t_conn *mine = t_connect();
    const nq_tx tx = theirs ? t_tx(mine) : NQ_OWN_TX;
    nq_id id = 0;
    IN(id = keys_add(q, tx, REPLACING("1"), NQ_OK));
    nq_claimed *c = t_claim_one(q, NQ_LEASE(1, 1));
    IN(ck_assert_int_eq(keys_add(q, tx, REPLACING("2"), NQ_OK), id));
    IN(ck_assert_int_eq(keys_add(q, tx, REPLACING("3"), NQ_OK), id);
       ck_assert_int_eq(keys_add(q, tx, REPLACING("4"), NQ_OK), id));
    ck_assert_int_eq(keys_add(q, NQ_OWN_TX, KEYED(NQ_BYTES("plain")), NQ_DUPLICATE), id);
    IN(ck_assert_int_eq(keys_add(q, tx, REPLACING("5"), NQ_OK), id));
    keys_payload(q, id, "1");
    ck_assert_uint_eq(keys_promote(q), 0);
    ck_assert_int_eq(t_sql(FOLLOWUPS), 1); /* those that it replaces are gone */
    keys_done(q, c);
    ck_assert_uint_eq(keys_promote(q), 1);
    ck_assert_int_eq(t_sql(FOLLOWUPS), 0);
    keys_runs(q, "5");
    ck_assert_uint_eq(keys_promote(q), 0);
    t_disconnect(mine);
    nq_close(q);
}
END_TEST

START_TEST(a_task_that_waits_again_is_replaced_by_what_followed)
{
    nq *q = t_open();
    const nq_id id = keys_add(q, NQ_OWN_TX, REPLACING("1"), NQ_OK);
    nq_claimed *c = t_claim_one(q, NQ_LEASE(1, 1));
    keys_add(q, NQ_OWN_TX, REPLACING("2"), NQ_OK);
    keys_add(q, NQ_OWN_TX, REPLACING("3"), NQ_OK);
    ck_assert_int_eq(t_finish(q, c, NQ_OUT_RETRY, NQ_HOURS(1), "no"), NQ_OK);
    t_free_claimed(c);
    ck_assert_uint_eq(keys_promote(q), 1);
    ck_assert_int_eq(t_sql(FOLLOWUPS), 0);
    keys_payload(q, id, "3");
    /* It is due, and has all its attempts. */
    c = t_claim_one(q, NQ_LEASE(1, 2));
    ck_assert_uint_eq(c->task.attempt, 1);
    keys_add(q, NQ_OWN_TX, REPLACING("4"), NQ_OK);
    ck_assert_int_eq(t_finish(q, c, NQ_OUT_RETRY, 0, "no"), NQ_OK);
    t_free_claimed(c);
    /* A claim does not take it along, as it does other follow-ups: that run has the old version. */
    c = t_claim_one(q, NQ_LEASE(1, 3));
    ck_assert_str_eq(c->task.payload, "3");
    ck_assert_int_eq(t_sql(FOLLOWUPS), 1);
    /* A newer one that meets it waiting counts, not what followed before. */
    ck_assert_int_eq(t_finish(q, c, NQ_OUT_RETRY, 0, "no"), NQ_OK);
    t_free_claimed(c);
    ck_assert_int_eq(keys_add(q, NQ_OWN_TX, REPLACING("5"), NQ_OK), id);
    ck_assert_int_eq(t_sql(FOLLOWUPS), 0);
    keys_runs(q, "5");
    ck_assert_uint_eq(keys_promote(q), 0);
    nq_close(q);
}
END_TEST

START_TEST(where_none_lives_what_followed_is_older)
{
    const bool theirs = _i;
    nq *q = t_open();
    t_conn *mine = t_connect();
    const nq_tx tx = theirs ? t_tx(mine) : NQ_OWN_TX;
    keys_add(q, NQ_OWN_TX, REPLACING("1"), NQ_OK);
    nq_claimed *c = t_claim_one(q, NQ_LEASE(1, 1));
    keys_add(q, NQ_OWN_TX, REPLACING("2"), NQ_OK);
    keys_done(q, c);
    IN(keys_add(q, tx, REPLACING("3"), NQ_OK));
    ck_assert_int_eq(t_sql(FOLLOWUPS), 0);
    ck_assert_uint_eq(keys_promote(q), 0);
    keys_runs(q, "3");
    t_disconnect(mine);
    nq_close(q);
}
END_TEST

START_TEST(replaced_until_start_runs_beside_the_old_one)
{
    nq *q = t_open();
    const nq_task_spec *spec = KEYED(NQ_BYTES("1"), .until = NQ_UNTIL_START, .duplicate = NQ_REPLACE);
    const nq_id id = keys_add(q, NQ_OWN_TX, spec, NQ_OK);
    ck_assert_int_eq(keys_add(q, NQ_OWN_TX, spec, NQ_OK), id);
    nq_claimed *c = t_claim_one(q, NQ_LEASE(1, 1));
    ck_assert_int_gt(keys_add(q, NQ_OWN_TX, spec, NQ_OK), id);
    keys_runs(q, "1");
    keys_done(q, c);
    ck_assert_int_eq(t_sql(FOLLOWUPS), 0);
    nq_close(q);
}
END_TEST

START_TEST(very_many_that_follow_one_are_few_soon)
{
    nq *q = t_open();
    keys_add(q, NQ_OWN_TX, REPLACING("1"), NQ_OK);
    nq_claimed *c = t_claim_one(q, NQ_LEASE(1, 1));
    keys_add(q, NQ_OWN_TX, REPLACING("2"), NQ_OK);
    const char *columns =
        "task_id, queue, priority, max_retries, timeout_ms, run_at, created_at, type, payload, "
        "unique_key, headers";
    for (int i = 0; i < 10; i++)
        t_sql("INSERT INTO nanoq_followups (%s) SELECT %s FROM nanoq_followups", columns, columns);
    keys_add(q, NQ_OWN_TX, REPLACING("last"), NQ_OK);
    if (_i) {
        keys_promote(q);
        ck_assert_int_eq(t_sql(FOLLOWUPS), 1);
    }
    keys_done(q, c);
    ck_assert_uint_eq(keys_promote(q), 1);
    ck_assert_int_eq(t_sql(FOLLOWUPS), 0);
    keys_runs(q, "last");
    nq_close(q);
}
END_TEST

START_TEST(a_follow_up_that_is_no_task_stops_no_other)
{
    nq *q = t_open();
    keys_add(q, NQ_OWN_TX, REPLACING("1"), NQ_OK);
    nq_claimed *c = t_claim_one(q, NQ_LEASE(1, 1));
    keys_add(q, NQ_OWN_TX, REPLACING("2"), NQ_OK);
    if (T_MYSQL && !t_is_mariadb) { /* its sessions cannot do without checks */
        t_free_claimed(c);
        nq_close(q);
        return;
    }
    if (T_MYSQL)
        t_sql("SET SESSION check_constraint_checks = 0");
    else
        t_sql("PRAGMA ignore_check_constraints = 1");
    t_sql("UPDATE nanoq_followups SET queue = 'not a queue'");
    keys_done(q, c);
    keys_promote(q);
    ck_assert_int_eq(t_sql(FOLLOWUPS), 0);
    ck_assert_int_eq(t_sql(TASKS), 0);
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_finished WHERE state = 3"), 1);
    nq_close(q);
}
END_TEST

/* ---- Debounce ---- */

START_TEST(debounce_puts_the_start_off_but_not_for_ever)
{
    const bool theirs = _i;
    nq *q = t_open();
    t_conn *mine = t_connect();
    const nq_tx tx = theirs ? t_tx(mine) : NQ_OWN_TX;
    const nq_task_spec *spec = KEYED(NQ_BYTES("x"), .duplicate = NQ_DEBOUNCE, .delay_us = NQ_SECONDS(60));
    nq_id id = 0;
    t_task t;
    IN(id = keys_add(q, tx, spec, NQ_OK));
    for (int minutes = 0; minutes < 15; minutes += 7) {
        if (T_MYSQL)
            t_sql("UPDATE nanoq_tasks SET created_at = UTC_TIMESTAMP(6) - INTERVAL %d MINUTE", minutes);
        else
            t_sql("UPDATE nanoq_tasks SET created_at = %lld",
                  (long long)(t_now(q) - minutes * NQ_SECONDS(60)));
        IN(ck_assert_int_eq(keys_add(q, tx, spec, NQ_OK), id));
        ck_assert_int_eq(t_get(q, id, &t), NQ_OK);
        const int64_t wait = t.info.run_at_us - t_now(q);
        if (minutes <= 7) /* each by its delay, */
            ck_assert(wait > NQ_SECONDS(30) && wait <= NQ_SECONDS(60));
        else /* up to ten of them */
            ck_assert_int_lt(wait, 0);
        t_task_free(&t);
    }
    /* Behind a running one it follows with its delay. */
    nq_claimed *c = t_claim_one(q, NQ_LEASE(1, 1));
    IN(ck_assert_int_eq(keys_add(q, tx, spec, NQ_OK), id));
    keys_done(q, c);
    ck_assert_uint_eq(keys_promote(q), 1);
    id = t_sql("SELECT id FROM nanoq_tasks");
    ck_assert_int_eq(t_get(q, id, &t), NQ_OK);
    ck_assert_int_gt(t.info.run_at_us, t_now(q) + NQ_SECONDS(30));
    t_task_free(&t);
    t_disconnect(mine);
    nq_close(q);
}
END_TEST

/* ---- Append ---- */

START_TEST(what_is_appended_is_in_one_payload)
{
    const bool theirs = _i;
    nq *q = t_open();
    t_conn *mine = t_connect();
    const nq_tx tx = theirs ? t_tx(mine) : NQ_OWN_TX;
    nq_id id = 0;
    IN(id = keys_add(q, tx, APPENDING("a"), NQ_OK);
       ck_assert_int_eq(keys_add(q, tx, APPENDING("b"), NQ_OK), id));
    IN(ck_assert_int_eq(keys_add(q, tx, APPENDING(""), NQ_OK), id));
    nq_claimed *c = t_claim_one(q, NQ_LEASE(1, 1));
    ck_assert_str_eq(c->task.payload, "a\nb\n");
    IN(ck_assert_int_eq(keys_add(q, tx, APPENDING("c"), NQ_OK), id));
    IN(ck_assert_int_eq(keys_add(q, tx, APPENDING("d"), NQ_OK), id));
    ck_assert_uint_eq(keys_promote(q), 0);
    ck_assert_int_eq(t_sql(FOLLOWUPS), 2);
    keys_done(q, c);
    ck_assert_uint_eq(keys_promote(q), 1);
    ck_assert_int_eq(t_sql(FOLLOWUPS), 0);
    /* To one that waits again too, and after what replaced it. */
    c = t_claim_one(q, NQ_LEASE(1, 2));
    ck_assert_str_eq(c->task.payload, "c\nd");
    keys_add(q, NQ_OWN_TX, APPENDING("e"), NQ_OK);
    ck_assert_int_eq(t_finish(q, c, NQ_OUT_RETRY, 0, "no"), NQ_OK);
    t_free_claimed(c);
    ck_assert_uint_eq(keys_promote(q), 1);
    c = t_claim_one(q, NQ_LEASE(1, 3));
    ck_assert_str_eq(c->task.payload, "c\nd\ne");
    keys_add(q, NQ_OWN_TX, APPENDING("lost"), NQ_OK);
    keys_add(q, NQ_OWN_TX, REPLACING("f"), NQ_OK);
    keys_add(q, NQ_OWN_TX, APPENDING("g"), NQ_OK);
    keys_done(q, c);
    keys_promote(q);
    keys_runs(q, "f\ng");
    t_disconnect(mine);
    nq_close(q);
}
END_TEST

/* It came after what follows: the follow-up's payload took its place. */
START_TEST(what_is_appended_to_one_that_ran_comes_after_what_follows_it)
{
    nq *q = t_open();
    const nq_id id = keys_add(q, NQ_OWN_TX, KEYED(NQ_BYTES("one")), NQ_OK);
    nq_claimed *c = t_claim_one(q, NQ_LEASE(1, 1));
    keys_add(q, NQ_OWN_TX, REPLACING("R"), NQ_OK);
    ck_assert_int_eq(t_finish(q, c, NQ_OUT_RELEASE, 0, NULL), NQ_OK);
    t_free_claimed(c);
    ck_assert_int_eq(keys_add(q, NQ_OWN_TX, APPENDING("2"), NQ_OK), id);
    keys_promote(q);
    keys_runs(q, "R\n2");
    ck_assert_int_eq(t_sql(FOLLOWUPS), 0);
    nq_close(q);
}
END_TEST

/* Its id and its time were answered for; the follow-up's payload and time took their place. */
START_TEST(another_task_that_waits_is_not_replaced_by_what_followed_an_earlier_one)
{
    nq *q = t_open();
    for (int append = 0; append <= 1; append++) {
        keys_add(q, NQ_OWN_TX, KEYED(NQ_BYTES("one")), NQ_OK);
        nq_claimed *c = t_claim_one(q, NQ_LEASE(1, (uint64_t)append + 1));
        keys_add(q, NQ_OWN_TX, REPLACING("R"), NQ_OK);
        keys_done(q, c);
        keys_add(q, NQ_OWN_TX, append ? APPENDING("newer") : KEYED(NQ_BYTES("newer")), NQ_OK);
        keys_promote(q);
        keys_runs(q, "newer");
        keys_promote(q);
        keys_runs(q, "R");
        ck_assert_int_eq(t_sql(FOLLOWUPS), 0);
    }
    nq_close(q);
}
END_TEST

/* What followed before it became a task, which the version then waited for, however late that was due. */
START_TEST(a_version_takes_the_place_of_what_followed_before_it)
{
    nq *q = t_open();
    keys_add(q, NQ_OWN_TX, KEYED(NQ_BYTES("one")), NQ_OK);
    nq_claimed *c = t_claim_one(q, NQ_LEASE(1, 1));
    keys_add(q, NQ_OWN_TX, KEYED(NQ_BYTES("late"), .delay_us = NQ_HOURS(1)), NQ_DUPLICATE);
    keys_add(q, NQ_OWN_TX, REPLACING("R"), NQ_OK);
    ck_assert_uint_eq(keys_promote(q), 0);
    ck_assert_int_eq(t_sql(FOLLOWUPS), 2);
    keys_done(q, c);
    ck_assert_uint_eq(keys_promote(q), 1);
    ck_assert_int_eq(t_sql(FOLLOWUPS), 0);
    keys_runs(q, "R");
    ck_assert_int_eq(t_sql(TASKS), 0);
    nq_close(q);
}
END_TEST

#define RENEW_OTHER(letter, ...)                                                                             \
    NQ_TASK(.type = "t", .unique = NQ_UNIQUE_DATA, .unique_data = letter, .unique_size = 1, __VA_ARGS__)

START_TEST(versions_that_have_to_stay_hide_no_others)
{
    static const char *const letters[] = {"a", "b", "c"};
    nq *q = t_open();
    size_t n = 0, made = 0;
    bool more = true;
    for (size_t i = 0; i < 3; i++) {
        keys_add(q, NQ_OWN_TX, RENEW_OTHER(letters[i], NQ_BYTES("1")), NQ_OK);
        nq_claimed *c = t_claim_one(q, NQ_LEASE(1, i + 1));
        keys_add(q, NQ_OWN_TX, RENEW_OTHER(letters[i], NQ_BYTES("R"), .duplicate = NQ_REPLACE), NQ_OK);
        keys_done(q, c);
        if (i < 2) /* its version waits behind this one */
            keys_add(q, NQ_OWN_TX, RENEW_OTHER(letters[i], NQ_BYTES("2"), .delay_us = NQ_HOURS(1)), NQ_OK);
    }
    for (int i = 0; i < 3 && more; i++) {
        T_OK(nq_store_promote(nq_store_of(q), 2, &n, &more, &t_last));
        made += n;
    }
    ck_assert(!more);
    ck_assert_uint_eq(made, 1);
    keys_runs(q, "R");
    ck_assert_int_eq(t_sql(FOLLOWUPS), 2);
    nq_close(q);
}
END_TEST

START_TEST(a_new_version_has_not_crashed)
{
    nq *q = t_open();
    const nq_id id = keys_add(q, NQ_OWN_TX, KEYED(NQ_BYTES("one")), NQ_OK);
    for (int follows = 0; follows <= 1; follows++) {
        if (follows)
            t_sql("UPDATE nanoq_tasks SET state = 1");
        t_sql("UPDATE nanoq_tasks SET crashes = 3");
        keys_add(q, NQ_OWN_TX, REPLACING("R"), NQ_OK);
        t_sql("UPDATE nanoq_tasks SET state = 0");
        keys_promote(q);
        ck_assert_int_eq(t_sql("SELECT crashes FROM nanoq_tasks WHERE id = %lld", (long long)id), 0);
    }
    nq_close(q);
}
END_TEST

START_TEST(append_keeps_to_the_limit)
{
    nq *q = NULL;
    T_OK(nq_open(&q, t_url, &(nq_options){.size = sizeof(nq_options), .max_payload = 10}, &t_last));
    const nq_id id = keys_add(q, NQ_OWN_TX, APPENDING("12345"), NQ_OK);
    ck_assert_int_eq(keys_add(q, NQ_OWN_TX, APPENDING("78901"), NQ_DUPLICATE), id);
    ck_assert_int_eq(keys_add(q, NQ_OWN_TX, APPENDING("7890"), NQ_OK), id);
    nq_claimed *c = t_claim_one(q, NQ_LEASE(1, 1));
    ck_assert_str_eq(c->task.payload, "12345\n7890");
    /* What was accepted while it ran is kept: what does not fit is a task after that. */
    keys_add(q, NQ_OWN_TX, APPENDING("12345"), NQ_OK);
    keys_add(q, NQ_OWN_TX, APPENDING("67890"), NQ_OK);
    keys_add(q, NQ_OWN_TX, APPENDING("1"), NQ_OK);
    keys_done(q, c);
    keys_promote(q);
    keys_runs(q, "12345");
    keys_promote(q);
    keys_runs(q, "67890\n1");
    ck_assert_int_eq(t_sql(FOLLOWUPS), 0);
    nq_close(q);
}
END_TEST

Suite *suite_renew(void)
{
    Suite *s = suite_create("renew");
    TCase *tc = t_case(s, "replace", 20);
    tcase_add_loop_test(tc, a_waiting_task_is_replaced, 0, 2);
    tcase_add_test(tc, what_was_rolled_back_has_replaced_nothing);
    tcase_add_loop_test(tc, of_a_running_task_the_newest_follows, 0, 2);
    tcase_add_test(tc, a_task_that_waits_again_is_replaced_by_what_followed);
    tcase_add_loop_test(tc, where_none_lives_what_followed_is_older, 0, 2);
    tcase_add_test(tc, replaced_until_start_runs_beside_the_old_one);
    tcase_add_loop_test(tc, very_many_that_follow_one_are_few_soon, 0, 2);
    tcase_add_test(tc, a_follow_up_that_is_no_task_stops_no_other);
    tcase_add_loop_test(tc, debounce_puts_the_start_off_but_not_for_ever, 0, 2);
    tcase_add_loop_test(tc, what_is_appended_is_in_one_payload, 0, 2);
    tcase_add_test(tc, what_is_appended_to_one_that_ran_comes_after_what_follows_it);
    tcase_add_test(tc, another_task_that_waits_is_not_replaced_by_what_followed_an_earlier_one);
    tcase_add_test(tc, a_version_takes_the_place_of_what_followed_before_it);
    tcase_add_test(tc, versions_that_have_to_stay_hide_no_others);
    tcase_add_test(tc, a_new_version_has_not_crashed);
    tcase_add_test(tc, append_keeps_to_the_limit);
    return s;
}
