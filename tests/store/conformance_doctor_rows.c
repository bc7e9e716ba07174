/* SPDX-License-Identifier: MIT */
/* The checks of nanoq doctor of what stands in the tables: each finds its fault, planted by plain SQL. */
#include "doctor.h"

static const char *doctor_at(int seconds)
{
    static char text[4][160];
    static unsigned at;
    char *out = text[at++ % 4];
    if (T_SQLITE)
        snprintf(out, sizeof text[0], "((CAST(strftime('%%s','now') AS INTEGER) + (%d)) * 1000000)", seconds);
    else
        snprintf(out, sizeof text[0], "(UTC_TIMESTAMP(6) + INTERVAL (%d) SECOND)", seconds);
    return out;
}

static void doctor_worker(int id, const char *queues, int beat_at, const char *version)
{
    t_sql("INSERT INTO nanoq_workers (id, name, beat, started_at, beat_at, queues, concurrency, running, "
          "version) "
          "VALUES (%d, 'host:%d', 1, %s, %s, %s, 4, 1, %s)",
          id, id, doctor_at(-60), doctor_at(beat_at), queues, version);
}

/* This library's own version, as SQL. */
static const char *doctor_version(void)
{
    static char text[32];
    snprintf(text, sizeof text, "'%s'", nq_version());
    return text;
}

START_TEST(workers_that_are_silent_or_old)
{
    nq *q = t_open();
    doctor_worker(1, "'mail'", -2, doctor_version());
    DOCTOR_IS(q, 14, NQ_CHECK_OK);
    ck_assert_int_eq(doctor_all[15].level, NQ_CHECK_OK); /* nor is a newer one a fault: '1' below */
    doctor_worker(2, "'mail'", -7200, doctor_version());
    DOCTOR_IS(q, 14, NQ_CHECK_WARNING);
    DOCTOR_SAYS(14, "1 of 2 workers has been silent for more than 15 s: host:2 for 2h00m");
    doctor_worker(3, "'mail'", -2, "'0.0.9'");
    DOCTOR_IS(q, 15, NQ_CHECK_WARNING);
    DOCTOR_SAYS(15, "host:3 is of version 0.0.9");
    t_sql("UPDATE nanoq_workers SET version = NULL WHERE id = 3");
    DOCTOR_IS(q, 15, NQ_CHECK_WARNING);
    nq_close(q);
}
END_TEST

START_TEST(queues_that_nobody_serves)
{
    nq *q = t_open();
    T_ADD(q, .type = "a", .queue = "mail", .group = "7");
    DOCTOR_IS(q, 16, NQ_CHECK_ERROR);
    DOCTOR_SAYS(
        16, "1 of 1 queues with waiting tasks is served by no live worker of 0: mail, where tasks are due");
    doctor_worker(1, "'mailer,e-mail'", -2, "'1'");
    DOCTOR_IS(q, 16, NQ_CHECK_ERROR);
    t_sql("UPDATE nanoq_tasks SET run_at = %s", doctor_at(3600));
    DOCTOR_IS(q, 16, NQ_CHECK_WARNING);
    doctor_worker(2, "'x,mail'", -2, "'1'");
    DOCTOR_IS(q, 16, NQ_CHECK_OK);
    t_sql("UPDATE nanoq_workers SET beat_at = %s", doctor_at(-60));
    DOCTOR_IS(q, 16, NQ_CHECK_WARNING);
    T_OK(nq_pause(q, "mail", NULL, &t_last));
    DOCTOR_IS(q, 16, NQ_CHECK_OK);
    nq_close(q);
}
END_TEST

START_TEST(tasks_that_are_late_or_far_away)
{
    nq *q = t_open();
    doctor_worker(1, "'mail,mail-x,b'", -2, "'1'");
    T_ADD(q, .type = "a", .queue = "mail", .group = "7");
    T_ADD(q, .type = "b", .queue = "mail-x");
    T_ADD(q, .type = "c", .queue = "mail", .priority = 5);
    DOCTOR_IS(q, 17, NQ_CHECK_OK);
    ck_assert_int_eq(doctor_all[19].level, NQ_CHECK_OK);
    t_sql("UPDATE nanoq_tasks SET run_at = %s WHERE type = 'a'", doctor_at(-7200));
    DOCTOR_IS(q, 17, NQ_CHECK_WARNING);
    DOCTOR_SAYS(17, "of mail for 2h00m");
    t_sql("UPDATE nanoq_tasks SET run_at = %s WHERE type <> 'a'", doctor_at(-4000));
    DOCTOR_IS(q, 17, NQ_CHECK_WARNING);
    DOCTOR_SAYS(17, "of 2 queues");
    T_OK(nq_pause(q, "mail", NULL, &t_last));
    T_OK(nq_pause(q, "mail-x", NULL, &t_last));
    DOCTOR_IS(q, 17, NQ_CHECK_OK);
    t_sql("UPDATE nanoq_tasks SET run_at = %s WHERE type = 'c'", doctor_at(400 * 86400));
    DOCTOR_IS(q, 19, NQ_CHECK_WARNING);
    DOCTOR_SAYS(19, "of mail at 20");
    nq_close(q);
}
END_TEST

START_TEST(follow_ups_that_are_old)
{
    nq *q = t_open();
    const nq_id id = T_ADD(q, .type = "a");
    size_t n;
    t_free_claimed(t_claim(q, NQ_LEASE(1, 1), 1, &n));
    T_ANSWERS(nq_enqueue(q, NQ_OWN_TX, NQ_TASK(.type = "a"), NULL, &t_last), NQ_DUPLICATE);
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_followups WHERE task_id = %lld", (long long)id), 1);
    DOCTOR_IS(q, 18, NQ_CHECK_OK);
    t_sql("UPDATE nanoq_followups SET created_at = %s", doctor_at(-90000));
    DOCTOR_IS(q, 18, NQ_CHECK_WARNING);
    DOCTOR_SAYS(18, "1 follow-up, the first since 25h00m");
    nq_close(q);
}
END_TEST

START_TEST(queues_that_stand)
{
    nq *q = t_open();
    T_OK(nq_pause(q, "mail", NULL, &t_last));
    DOCTOR_IS(q, 20, NQ_CHECK_OK);
    t_sql("UPDATE nanoq_queues SET paused_at = %s", doctor_at(-3 * 86400));
    DOCTOR_IS(q, 20, NQ_CHECK_WARNING);
    DOCTOR_SAYS(20, "mail for 3 d");
    ck_assert_int_eq(doctor_all[21].level, NQ_CHECK_OK);
    t_sql("INSERT INTO nanoq_gates (queue, not_before) VALUES ('api', %s)", doctor_at(3 * 86400));
    DOCTOR_IS(q, 21, NQ_CHECK_WARNING);
    DOCTOR_SAYS(21, "api for ");
    t_sql("DELETE FROM nanoq_gates");
    T_OK(nq_queue_set(
        q, "orders",
        &(nq_queue_settings){.size = sizeof(nq_queue_settings), .group = "*", .ordered = NQ_ORDERED_HALT},
        &t_last));
    t_sql("INSERT INTO nanoq_finished (id, queue, state, priority, run_at, generation, attempts, crashes, "
          "max_retries, timeout_ms, created_at, finished_at, type, payload) VALUES (7, 'orders//1', 3, 0, "
          "%s, 1, 1, "
          "0, 10, 60000, %s, %s, 'a', '')",
          doctor_at(-9), doctor_at(-9), doctor_at(-2 * 86400));
    t_sql("INSERT INTO nanoq_gates (queue, head) VALUES ('orders//1', 7)");
    DOCTOR_IS(q, 21, NQ_CHECK_WARNING);
    DOCTOR_SAYS(21, "orders//1 for ");
    t_sql("UPDATE nanoq_finished SET finished_at = %s", doctor_at(-60));
    DOCTOR_IS(q, 21, NQ_CHECK_OK);
    nq_close(q);
}
END_TEST

START_TEST(schedules_that_do_not_come)
{
    nq *q = t_open();
    DOCTOR_IS(q, 22, NQ_CHECK_OK);
    t_sql("INSERT INTO nanoq_schedules (name, spec, type, next_at) VALUES ('r', '@daily', 'a', %s)",
          doctor_at(-3600));
    DOCTOR_IS(q, 22, NQ_CHECK_WARNING);
    DOCTOR_SAYS(22, "r was due 1h00m ago");
    t_sql("UPDATE nanoq_schedules SET error = %s",
          T_MYSQL ? "CONCAT('bad', CHAR(27), '[2J')" : "'bad' || char(27)");
    DOCTOR_IS(q, 22, NQ_CHECK_ERROR);
    ck_assert_ptr_null(strchr(doctor_texts[22], 27)); /* what stands in the database is no terminal's */
    DOCTOR_SAYS(22, "r: bad\\x1b");
    DOCTOR_IS(q, 23, NQ_CHECK_OK);
    t_sql("UPDATE nanoq_schedules SET zone = 'Mars/Base'");
    DOCTOR_IS(q, 23, NQ_CHECK_ERROR);
    DOCTOR_SAYS(23, "Mars/Base");
    t_sql("UPDATE nanoq_schedules SET zone = 'Europe/Berlin'");
    setenv("TZDIR", "/nonexistent", 1);
    DOCTOR_IS(q, 23, NQ_CHECK_ERROR);
    ck_assert_ptr_nonnull(strstr(doctor_all[23].todo, "tzdata"));
    nq_close(q);
}
END_TEST

START_TEST(what_should_have_been_deleted)
{
    nq *q = t_open();
    for (int state = 2; state <= 4; state++)
        t_sql(
            "INSERT INTO nanoq_finished (id, queue, state, priority, run_at, generation, attempts, crashes, "
            "max_retries, timeout_ms, created_at, finished_at, type, payload) VALUES (%d, 'q', %d, 0, %s, 1, "
            "1, 0, "
            "10, 60000, %s, %s, 'a', '')",
            state, state, doctor_at(-9), doctor_at(-9), doctor_at(-6 * 86400));
    DOCTOR_IS(q, 24, NQ_CHECK_OK);
    t_sql("UPDATE nanoq_finished SET finished_at = %s WHERE state = 3", doctor_at(-9 * 86400));
    DOCTOR_IS(q, 24, NQ_CHECK_WARNING);
    DOCTOR_SAYS(24, "the oldest dead task ended 9 d ago, and is to be kept for 7 d");
    t_sql("INSERT INTO nanoq_queues (name, keep_dead_us, keep_done_us) VALUES ('q', -1, 86400000000)");
    DOCTOR_IS(q, 24, NQ_CHECK_WARNING);
    DOCTOR_SAYS(24, "the oldest done task ended 6 d ago, and is to be kept for 24h00m");
    t_sql("INSERT INTO nanoq_results (task_id, result, made_at, keep_until) VALUES (2, 'x', %s, %s)",
          doctor_at(-60), doctor_at(3600));
    DOCTOR_IS(q, 24, NQ_CHECK_OK);
    t_sql("UPDATE nanoq_results SET keep_until = %s", doctor_at(-60));
    DOCTOR_IS(q, 24, NQ_CHECK_WARNING);
    t_sql("DELETE FROM nanoq_finished WHERE state = 2");
    DOCTOR_IS(q, 24, NQ_CHECK_OK);
    for (int i = 0; i < 6; i++)
        t_sql("INSERT INTO nanoq_cancels (task_id, lease) SELECT %d + a.n * 10 + b.n, 1 FROM (SELECT 0 AS n "
              "UNION "
              "SELECT 1 UNION SELECT 2 UNION SELECT 3 UNION SELECT 4 UNION SELECT 5 UNION SELECT 6 UNION "
              "SELECT 7 "
              "UNION SELECT 8 UNION SELECT 9) a, (SELECT 0 AS n UNION SELECT 1 UNION SELECT 2 UNION SELECT 3 "
              "UNION "
              "SELECT 4 UNION SELECT 5 UNION SELECT 6 UNION SELECT 7 UNION SELECT 8 UNION SELECT 9) b",
              1000 + i * 100);
    DOCTOR_IS(q, 24, NQ_CHECK_WARNING);
    DOCTOR_SAYS(24, "600 of the first 1000 rows of nanoq_cancels");
    nq_close(q);
}
END_TEST

/* What nobody but a vandal writes must not make it run on or die. */
START_TEST(hostile_rows)
{
    nq *q = t_open();
    if (T_SQLITE)
        t_sql("PRAGMA ignore_check_constraints = ON");
    else if (t_is_mariadb)
        t_sql("SET check_constraint_checks = 0");
    const char *queue = T_SQLITE ? "'a' || char(27) || char(0) || 'b'" : "CONCAT('a', CHAR(27), 'b')";
    t_try(t_side(), "INSERT INTO nanoq_tasks (queue, type, run_at, unique_key) VALUES (%s, 'a', %s, NULL)",
          queue, T_SQLITE ? "'never'" : "'1971-01-01'");
    t_try(t_side(), "INSERT INTO nanoq_tasks (queue, type, unique_key) VALUES ('z', 'a', NULL)");
    t_try(t_side(),
          "INSERT INTO nanoq_workers (name, queues, version, beat_at, started_at) VALUES (%s, %s, %s, %s, "
          "%s)",
          queue, queue, "'99999999999999999999.x'", T_SQLITE ? "'x'" : doctor_at(0), doctor_at(0));
    T_OK(nq_doctor(q, doctor_note, NULL, &t_last));
    for (unsigned i = 1; i <= NQ_CHECKS; i++)
        ck_assert_msg(!strchr(doctor_texts[i], 27), "check %u: %s", i, doctor_texts[i]);
    nq_close(q);
}
END_TEST

Suite *suite_doctor_rows(void)
{
    Suite *s = suite_create("doctor_rows");
    TCase *c = t_case(s, "doctor_rows", 30);
    tcase_add_test(c, workers_that_are_silent_or_old);
    tcase_add_test(c, queues_that_nobody_serves);
    tcase_add_test(c, tasks_that_are_late_or_far_away);
    tcase_add_test(c, follow_ups_that_are_old);
    tcase_add_test(c, queues_that_stand);
    tcase_add_test(c, schedules_that_do_not_come);
    tcase_add_test(c, what_should_have_been_deleted);
    tcase_add_test(c, hostile_rows);
    return s;
}
