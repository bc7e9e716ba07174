/* SPDX-License-Identifier: MIT */
/* How long tasks that have ended are kept, as the settings of their queue or group say; and the purge, which
 * goes queue by queue then. */
#include "suites.h"

#define R_SET(...) (&(nq_queue_settings){.size = sizeof(nq_queue_settings), __VA_ARGS__})

static nq_settings *retention_read(nq *q)
{
    nq_settings *s = NULL;
    T_OK(nq_settings_read(&s, nq_store_of(q), NULL, &t_last));
    return s;
}

/* A task of a queue that ended in this state so many minutes ago, by plain SQL. */
static nq_id retention_ended(const char *queue, int state, int minutes)
{
    static nq_id id = 1000;
    char at[96];
    if (T_MYSQL)
        snprintf(at, sizeof at, "UTC_TIMESTAMP(6) - INTERVAL %d MINUTE", minutes);
    else
        snprintf(at, sizeof at, "strftime('%%s', 'now') * 1000000 - %d * 60000000", minutes);
    t_sql(
        "INSERT INTO nanoq_finished (id, queue, state, priority, run_at, generation, attempts, crashes, "
        "max_retries, timeout_ms, created_at, finished_at, type, payload) VALUES (%lld, '%s', %d, 0, %s, 1, "
        "0, 0, 1, 1000, %s, %s, 't', 'x')",
        (long long)++id, queue, state, at, at, at);
    return id;
}

/* A whole pass: how many went. */
static uint64_t retention_purge(nq *q, int64_t done_us, int64_t dead_us, size_t limit)
{
    nq_settings *s = retention_read(q);
    nq_purge p = {.settings = s,
                  .keep_done_us = done_us,
                  .keep_dead_us = dead_us,
                  .limit = limit,
                  .scan = {.most_us = NQ_SECONDS(10)}};
    uint64_t n = 0;
    int calls = 0;
    ck_assert(s->keeps);
    do {
        T_OK(nq_store_purge_queues(nq_store_of(q), &p, &t_last));
        ck_assert_uint_le(p.gone, limit);
        ck_assert_int_lt(++calls, 1000);
        n += p.gone;
    } while (p.scan.more || p.left);
    nq_buf_free(&p.scan.queue);
    nq_settings_unref(s);
    return n;
}

static int retention_row(const nq_queue_row *row, void *udata)
{
    int64_t *keep = udata;
    keep[0] = row->keep_done_us;
    keep[1] = row->keep_dead_us;
    return 0;
}

START_TEST(what_is_set_is_shown_and_checked)
{
    nq *q = t_open();
    int64_t keep[2] = {7, 7};
    T_OK(nq_queue_set(q, "mail", R_SET(.keep_done_us = NQ_DAYS(7), .keep_dead_us = NQ_FOREVER), &t_last));
    T_OK(nq_queue_get(q, "mail", retention_row, keep, &t_last));
    ck_assert(keep[0] == NQ_DAYS(7) && keep[1] == NQ_FOREVER);
    ck_assert_int_eq(t_sql("SELECT keep_dead_us FROM nanoq_queues"), -1);
    T_OK(nq_queue_set(q, "mail", R_SET(.keep_done_us = NQ_ZERO), &t_last));
    T_OK(nq_queue_get(q, "mail", retention_row, keep, &t_last));
    ck_assert(keep[0] == NQ_ZERO && keep[1] == 0);
    ck_assert_int_eq(
        t_sql("SELECT COUNT(*) FROM nanoq_queues WHERE keep_done_us = 0 AND keep_dead_us IS NULL"), 1);
    T_OK(nq_queue_set(q, "mail", NULL, &t_last));
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_queues"), 0);
    T_FAILS(nq_queue_set(q, "mail", R_SET(.keep_done_us = -1), &t_last), NQ_EINVAL);
    ck_assert_ptr_nonnull(strstr(t_last.message, "keep_done_us is -1"));
    T_FAILS(nq_queue_set(q, "mail", R_SET(.keep_dead_us = NQ_MAX_DURATION + 1), &t_last), NQ_EINVAL);
    ck_assert_ptr_nonnull(strstr(t_last.message, "keep_dead_us is"));
    nq_close(q);
}
END_TEST

/* Workers of an older library compute the hash without them. */
START_TEST(they_are_in_the_hash_where_they_are_set)
{
    nq *q = t_open();
    T_OK(nq_queue_set(q, "mail", R_SET(.max_running = 5), &t_last));
    nq_settings *plain = retention_read(q);
    T_OK(nq_queue_set(q, "mail", R_SET(.max_running = 5, .keep_dead_us = NQ_DAYS(1)), &t_last));
    nq_settings *kept = retention_read(q);
    T_OK(nq_queue_set(q, "mail", R_SET(.max_running = 5), &t_last));
    nq_settings *again = retention_read(q);
    ck_assert_uint_ne(plain->hash, kept->hash);
    ck_assert_uint_eq(plain->hash, again->hash);
    ck_assert(kept->keeps && !plain->keeps && !again->keeps);
    nq_settings_unref(plain);
    nq_settings_unref(kept);
    nq_settings_unref(again);
    nq_close(q);
}
END_TEST

START_TEST(the_nearest_row_says_how_long)
{
    static const struct {
        const char *name;
        int state;
        int64_t keep_us;
    } wanted[] = {
        {"mail", NQ_STATE_DONE, NQ_HOURS(1)},    {"mail", NQ_STATE_DEAD, NQ_HOURS(2)},
        {"mail//1", NQ_STATE_DONE, NQ_HOURS(3)}, {"mail//1", NQ_STATE_CANCELLED, NQ_HOURS(2)},
        {"mail//7", NQ_STATE_DONE, NQ_HOURS(3)}, {"mail//7", NQ_STATE_DEAD, NQ_KEEP_FOREVER},
        {"mail//8", NQ_STATE_DONE, 0},           {"mail//8", NQ_STATE_DEAD, NQ_HOURS(2)},
        {"mailer", NQ_STATE_DONE, 99},           {"sms//8", NQ_STATE_DEAD, 99},
        {"mail//*", NQ_STATE_DONE, NQ_HOURS(3)}, {"", NQ_STATE_DEAD, 99},
    };
    nq *q = t_open();
    T_OK(nq_queue_set(q, "mail", R_SET(.keep_done_us = NQ_HOURS(1), .keep_dead_us = NQ_HOURS(2)), &t_last));
    T_OK(nq_queue_set(q, "mail", R_SET(.group = "*", .keep_done_us = NQ_HOURS(3)), &t_last));
    T_OK(nq_queue_set(q, "mail", R_SET(.group = "7", .keep_dead_us = NQ_FOREVER), &t_last));
    T_OK(nq_queue_set(q, "mail", R_SET(.group = "8", .keep_done_us = NQ_ZERO), &t_last));
    nq_settings *s = retention_read(q);
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++)
        ck_assert_msg(nq_settings_keeps(s, wanted[i].name, wanted[i].state, 99) == wanted[i].keep_us,
                      "%s in state %d: %lld", wanted[i].name, wanted[i].state,
                      (long long)nq_settings_keeps(s, wanted[i].name, wanted[i].state, 99));
    nq_settings_unref(s);
    nq_close(q);
}
END_TEST

/* Rows of plain SQL, on MariaDB and SQLite past the checks. */
START_TEST(what_no_setting_can_have_is_not_heeded)
{
    nq *q = t_open();
    t_conn *c = t_connect();
    t_run(c, T_SQLITE       ? "PRAGMA ignore_check_constraints = 1"
             : t_is_mariadb ? "SET check_constraint_checks = 0"
                            : "SELECT 1");
    static const char *const rows[] = {"('minus', -2, -9223372036854775807)",
                                       "('most', 9223372036854775807, 315360000000001)",
                                       "('forever', -1, -1)", "('none', 0, 0)"};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        (void)t_try(c, "INSERT INTO nanoq_queues (name, keep_done_us, keep_dead_us) VALUES %s", rows[i]);
    if (T_SQLITE)
        t_run(c, "INSERT INTO nanoq_queues (name, keep_done_us, keep_dead_us) VALUES ('texts', 'long', "
                 "x'00')");
    nq_settings *s = retention_read(q);
    static const char *const not_set[] = {"minus", "texts"};
    for (size_t i = 0; i < 2; i++)
        for (int state = NQ_STATE_DONE; state <= NQ_STATE_CANCELLED; state++)
            ck_assert_int_eq(nq_settings_keeps(s, not_set[i], state, 99), 99);
    ck_assert_int_eq(nq_settings_keeps(s, "most", NQ_STATE_DONE, 99), NQ_KEEP_FOREVER);
    ck_assert_int_eq(nq_settings_keeps(s, "most", NQ_STATE_DEAD, 99), NQ_KEEP_FOREVER);
    ck_assert_int_eq(nq_settings_keeps(s, "forever", NQ_STATE_DEAD, 99), NQ_KEEP_FOREVER);
    ck_assert_int_eq(nq_settings_keeps(s, "none", NQ_STATE_DONE, 99), 0);
    nq_settings_unref(s);
    t_disconnect(c);
    nq_close(q);
}
END_TEST

START_TEST(each_queue_and_state_is_purged_by_its_own_time)
{
    nq *q = t_open();
    static const char *const queues[] = {"default", "mail", "mail//1", "mail//7", "sms", "zz"};
    static const int states[] = {NQ_STATE_DONE, NQ_STATE_DEAD, NQ_STATE_CANCELLED};
    t_sql("INSERT INTO nanoq_queues (name, keep_done_us, keep_dead_us) VALUES "
          "('mail', 3600000000, 7200000000), ('mail//7', NULL, -1), ('sms', 0, 0)");
    for (size_t i = 0; i < 6; i++)
        for (size_t k = 0; k < 3; k++)
            for (int n = 0; n < 4; n++)
                retention_ended(queues[i], states[k], 30 + n * 60); /* 0.5, 1.5, 2.5, 3.5 hours ago */
    const uint64_t gone = retention_purge(q, NQ_KEEP_FOREVER, NQ_HOURS(3), 1 + (size_t)_i * 6);
    char *left = t_text(t_side(), "SELECT queue, state, COUNT(*) FROM nanoq_finished GROUP BY queue, state "
                                  "ORDER BY queue, state");
    ck_assert_str_eq(left, "default|2|4\ndefault|3|3\ndefault|4|3\n"
                           "mail|2|1\nmail|3|2\nmail|4|2\n"
                           "mail//1|2|1\nmail//1|3|2\nmail//1|4|2\n"
                           "mail//7|2|1\nmail//7|3|4\nmail//7|4|4\n"
                           "zz|2|4\nzz|3|3\nzz|4|3");
    ck_assert_uint_eq(gone, 72 - 10 - 5 - 5 - 9 - 10);
    ck_assert_uint_eq(retention_purge(q, NQ_KEEP_FOREVER, NQ_HOURS(3), 100), 0);
    free(left);
    nq_close(q);
}
END_TEST

/* A queue that has more than a call may take keeps none of the others waiting. */
START_TEST(a_pass_takes_from_each_queue_in_turn)
{
    nq *q = t_open();
    nq_settings *s;
    T_OK(nq_queue_set(q, "a", R_SET(.keep_dead_us = NQ_HOURS(1)), &t_last));
    for (int i = 0; i < 20; i++)
        retention_ended("a", NQ_STATE_DEAD, 120);
    retention_ended("b", NQ_STATE_DEAD, 120);
    s = retention_read(q);
    nq_purge p = {.settings = s,
                  .keep_done_us = -1,
                  .keep_dead_us = NQ_HOURS(1),
                  .limit = 5,
                  .scan = {.most_us = NQ_SECONDS(10)}};
    T_OK(nq_store_purge_queues(nq_store_of(q), &p, &t_last));
    ck_assert(p.gone == 5 && p.scan.more && p.left);
    T_OK(nq_store_purge_queues(nq_store_of(q), &p, &t_last));
    ck_assert(p.gone == 1 && !p.scan.more && p.left);
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_finished WHERE queue = 'b'"), 0);
    nq_buf_free(&p.scan.queue);
    nq_settings_unref(s);
    nq_close(q);
}
END_TEST

/* What others need stays: a done task that says itself how long, a dead one that halts its group. */
START_TEST(what_is_kept_for_others_stays)
{
    nq *q = t_open();
    T_OK(nq_queue_set(q, "mail", R_SET(.keep_done_us = NQ_HOURS(1), .keep_dead_us = NQ_HOURS(1)), &t_last));
    T_OK(nq_queue_set(q, "mail", R_SET(.group = "*", .ordered = NQ_ORDERED_HALT), &t_last));
    const nq_id waited = retention_ended("mail", NQ_STATE_DONE, 120),
                plain = retention_ended("mail", NQ_STATE_DONE, 120),
                halts = retention_ended("mail//1", NQ_STATE_DEAD, 120),
                other = retention_ended("mail//1", NQ_STATE_DEAD, 120);
    t_sql("INSERT INTO nanoq_results (task_id, result, keep_until) VALUES (%lld, 'x', %s)", (long long)waited,
          T_SQLITE ? "9000000000000000" : "'2200-01-01'");
    t_sql("INSERT INTO nanoq_gates (queue, head) VALUES ('mail//1', %lld)", (long long)halts);
    ck_assert_uint_eq(retention_purge(q, -1, -1, 100), 2);
    ck_assert_int_eq(t_state(q, waited), NQ_STATE_DONE);
    ck_assert_int_eq(t_state(q, halts), NQ_STATE_DEAD);
    ck_assert_int_eq(t_state(q, plain), -1);
    ck_assert_int_eq(t_state(q, other), -1);
    nq_close(q);
}
END_TEST

/* Names that no queue has, and of other types, are walked over and end the pass. */
START_TEST(a_pass_over_strange_names_ends)
{
    nq *q = t_open();
    T_OK(nq_queue_set(q, "a", R_SET(.keep_dead_us = NQ_HOURS(1)), &t_last));
    retention_ended("a", NQ_STATE_DEAD, 120);
    const nq_id strange = retention_ended("b", NQ_STATE_DEAD, 120),
                bytes = retention_ended("c", NQ_STATE_DEAD, 120);
    if (T_SQLITE) {
        t_conn *c = t_connect();
        t_run(c, "PRAGMA ignore_check_constraints = 1");
        t_run(c, "UPDATE nanoq_finished SET queue = 'b' || char(0) || '%s' WHERE id = %lld",
              "very long: 0123456789012345678901234567890123456789012345678901234567890123456789012345678901",
              (long long)strange);
        t_run(c, "UPDATE nanoq_finished SET queue = x'61ff00' WHERE id = %lld", (long long)bytes);
        t_disconnect(c);
    }
    ck_assert_uint_eq(retention_purge(q, -1, NQ_HOURS(1), 100), 3);
    nq_close(q);
}
END_TEST

/* Whoever may INSERT, also into a table that has no settings. It is first in order, and what is behind it
 * goes all the same, with it. */
START_TEST(an_end_that_is_no_time_keeps_none_from_going)
{
    nq *q = t_open();
    t_conn *c = t_connect();
    uint64_t gone = 0;
    t_run(c, T_MYSQL ? "SET SESSION sql_mode = ''" : "PRAGMA ignore_check_constraints = 1");
    for (int state = NQ_STATE_DONE; state <= NQ_STATE_CANCELLED; state++) {
        for (int i = 0; i < 3; i++)
            retention_ended("a", state, 120);
        t_run(c, "UPDATE nanoq_finished SET finished_at = %s WHERE id = %lld",
              T_SQLITE ? "1500000000000000.5" : "'2020-00-00'", (long long)retention_ended("a", state, 120));
        retention_ended("a", state, 30);
    }
    if (_i == 0) {
        T_OK(nq_store_purge(nq_store_of(q), NQ_HOURS(1), NQ_HOURS(1), 100, &gone, &t_last));
    } else {
        T_OK(nq_queue_set(q, "b", R_SET(.keep_dead_us = NQ_HOURS(1)), &t_last));
        gone = retention_purge(q, NQ_HOURS(1), NQ_HOURS(1), 2); /* the odd one alone, or with one more */
    }
    ck_assert_uint_eq(gone, 12);
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_finished"), 3);
    t_disconnect(c);
    nq_close(q);
}
END_TEST

Suite *suite_retention(void)
{
    Suite *s = suite_create("retention");
    TCase *c = t_case(s, "retention", 60);
    tcase_add_test(c, what_is_set_is_shown_and_checked);
    tcase_add_test(c, they_are_in_the_hash_where_they_are_set);
    tcase_add_test(c, the_nearest_row_says_how_long);
    tcase_add_test(c, what_no_setting_can_have_is_not_heeded);
    tcase_add_loop_test(c, each_queue_and_state_is_purged_by_its_own_time, 0, 3);
    tcase_add_test(c, a_pass_takes_from_each_queue_in_turn);
    tcase_add_test(c, what_is_kept_for_others_stays);
    tcase_add_test(c, a_pass_over_strange_names_ends);
    tcase_add_loop_test(c, an_end_that_is_no_time_keeps_none_from_going, 0, 2);
    return s;
}
