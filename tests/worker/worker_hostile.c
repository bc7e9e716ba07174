/* SPDX-License-Identifier: MIT */
/* A row that nothing can claim, or that cannot end as it should, stops no other task. */
#include "suites.h"

/* On the side connection: from now on rows may break the CHECKs. */
static void hostile_unchecked(void)
{
    if (T_SQLITE)
        t_sql("PRAGMA ignore_check_constraints = 1");
    else if (t_is_mariadb)
        t_sql("SET check_constraint_checks = 0, sql_mode = ''");
    else
        t_sql("SET sql_mode = ''");
}

enum hostile_end { HOSTILE_DONE, HOSTILE_DEAD, HOSTILE_STAYS, HOSTILE_GONE };

static const struct hostile_row {
    enum nq_tx_kind kind; /* 0: both */
    bool checked;         /* MySQL, whose CHECKs cannot be switched off, refuses it */
    const char *columns, *values;
    enum hostile_end end;
} hostile_rows[] = {
    /* the counter of claims at its end */
    {NQ_TX_MYSQL, true, "generation", "4294967295", HOSTILE_DONE},
    {NQ_TX_SQLITE, false, "generation", "9223372036854775807", HOSTILE_GONE},
    {NQ_TX_SQLITE, false, "generation", "'many'", HOSTILE_GONE},
    /* what the CHECKs refuse once the claim changes the row */
    {NQ_TX_MYSQL, true, "timeout_ms", "18446744073709551615", HOSTILE_DEAD},
    {NQ_TX_MYSQL, true, "max_retries", "65535", HOSTILE_DEAD},
    {NQ_TX_SQLITE, false, "timeout_ms", "'a day'", HOSTILE_GONE},
    {0, true, "priority", "-128", HOSTILE_DEAD},
    {0, true, "priority", "127", HOSTILE_DEAD},
    {NQ_TX_SQLITE, false, "priority", "1.5", HOSTILE_DEAD},
    {NQ_TX_SQLITE, false, "priority", "'high'", HOSTILE_DEAD},
    {NQ_TX_SQLITE, false, "priority", "x'00'", HOSTILE_DEAD},
    {NQ_TX_SQLITE, false, "priority", "-9223372036854775808", HOSTILE_STAYS},
    /* times that are none */
    {NQ_TX_MYSQL, true, "run_at", "''", HOSTILE_DEAD},
    {NQ_TX_MYSQL, false, "run_at", "'2020-00-00'", HOSTILE_DONE},
    {NQ_TX_MYSQL, true, "created_at", "''", HOSTILE_DEAD},
    {NQ_TX_MYSQL, true, "run_at, priority", "'', -7", HOSTILE_DEAD},
    {NQ_TX_SQLITE, false, "run_at, priority", "'soon', -7", HOSTILE_DEAD},
    {NQ_TX_SQLITE, false, "run_at, priority", "x'00', 7", HOSTILE_DEAD},
    {NQ_TX_SQLITE, false, "run_at", "-1.5", HOSTILE_DONE},
    {NQ_TX_SQLITE, false, "run_at", "-9223372036854775808", HOSTILE_DONE},
    {NQ_TX_SQLITE, false, "run_at", "-1e300", HOSTILE_DEAD},
    {NQ_TX_SQLITE, false, "run_at, priority", "-9e999, -7", HOSTILE_DEAD},
    {NQ_TX_SQLITE, false, "run_at", "9223372036854775807", HOSTILE_STAYS},
    {NQ_TX_SQLITE, false, "created_at", "'yesterday'", HOSTILE_DONE},
    /* tasks of a worker that never was */
    {NQ_TX_MYSQL, true, "state, lease, attempts", "1, 1, 65535", HOSTILE_DEAD},
    {NQ_TX_MYSQL, true, "state, lease, crashes", "1, 1, 65535", HOSTILE_DEAD},
    {NQ_TX_MYSQL, true, "state, lease, timeout_ms", "1, 18446744073709551615, 1", HOSTILE_DEAD},
    {NQ_TX_SQLITE, false, "state, lease, attempts", "1, -1, 9223372036854775807", HOSTILE_DEAD},
    {NQ_TX_SQLITE, false, "state, lease, crashes", "1, 1.5, 1e300", HOSTILE_DEAD},
    {NQ_TX_SQLITE, false, "state, lease, max_retries", "1, 'x', 0", HOSTILE_DEAD},
    {NQ_TX_SQLITE, false, "state, lease, max_retries, queue", "1, 1, 0, 'mail' || char(0)", HOSTILE_DEAD},
    {NQ_TX_SQLITE, false, "state, lease, max_retries, queue", "1, 1, 0, x'6d00'", HOSTILE_DEAD},
    {NQ_TX_SQLITE, false, "state, lease, max_retries, queue", "1, 1, 0, 'a' || hex(zeroblob(100))",
     HOSTILE_DEAD},
    /* queues that nobody works */
    {NQ_TX_SQLITE, false, "queue", "'default' || char(0)", HOSTILE_STAYS},
    {NQ_TX_SQLITE, false, "queue", "CAST('default' AS BLOB)", HOSTILE_STAYS},
    {NQ_TX_SQLITE, false, "queue", "''", HOSTILE_STAYS},
    /* ids that only an unsigned or only a signed number holds */
    {NQ_TX_MYSQL, false, "id", "18446744073709551614", HOSTILE_DEAD},
    {NQ_TX_MYSQL, false, "id, state, lease", "18446744073709551614, 1, 1", HOSTILE_DEAD},
    {NQ_TX_MYSQL, false, "id", "9223372036854775807", HOSTILE_DONE},
    {NQ_TX_SQLITE, false, "id", "-5", HOSTILE_DONE},
    {NQ_TX_SQLITE, false, "id, state, lease, max_retries", "-5, 1, 1, 0", HOSTILE_DEAD},
};

static void hostile_expect(const struct hostile_row *row)
{
    const int64_t live = t_sql("SELECT COUNT(*) FROM nanoq_tasks WHERE type = 'odd'");
    const int64_t dead = t_sql("SELECT COUNT(*) FROM nanoq_finished WHERE type = 'odd' AND state = 3 "
                               "AND LENGTH(error) > 10");
    const int64_t done = t_sql("SELECT COUNT(*) FROM nanoq_finished WHERE type = 'odd' AND state = 2");
    ck_assert_int_eq(live, row->end == HOSTILE_STAYS);
    if (row->end != HOSTILE_GONE) {
        ck_assert_int_eq(dead, row->end == HOSTILE_DEAD);
        ck_assert_int_eq(done, row->end == HOSTILE_DONE);
    } else {
        ck_assert_int_eq(dead + done, 1);
    }
}

START_TEST(one_row_keeps_no_other_task_from_running)
{
    const struct hostile_row *row = &hostile_rows[_i];
    if ((row->kind && row->kind != t_kind) || (row->checked && T_MYSQL && !t_is_mariadb))
        return;
    nq *q = t_open();
    int ran = 0;
    for (int i = 0; i < 20; i++)
        T_ADD(q, .type = "good", .payload = &i, .payload_size = sizeof i, .priority = i % 3 - 1);
    hostile_unchecked();
    t_sql("INSERT INTO nanoq_tasks (type, payload, %s) VALUES ('odd', 'poison', %s)", row->columns,
          row->values);
    for (int i = 20; i < 40 && !strstr(row->columns, "id"); i++)
        T_ADD(q, .type = "good", .payload = &i, .payload_size = sizeof i, .priority = i % 3 - 1);
    const int64_t good = t_sql("SELECT COUNT(*) FROM nanoq_tasks WHERE type = 'good'");
    p_run(p_new(q, P_OPTIONS(.drain = NQ_DRAIN_DUE, .concurrency = 3, .keep_done_us = NQ_HOURS(1)), p_count,
                &ran));
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_finished WHERE type = 'good' AND state = 2"), good);
    ck_assert_int_eq(p_load(&ran), (int)good + (int)t_sql("SELECT COUNT(*) FROM nanoq_finished WHERE type "
                                                          "= 'odd' AND state = 2"));
    hostile_expect(row);
    nq_close(q);
}
END_TEST

/* What cannot go back to waiting is dead, whatever it was to wait for. */
static nq_verdict hostile_fail(nq_ctx *ctx, const nq_task *task, void *udata)
{
    (void)udata;
    if (strcmp(task->type, "odd") == 0)
        return nq_fail(ctx, NQ_RETRY, "the handler's own reason");
    return NQ_DONE;
}

START_TEST(an_outcome_that_is_refused_ends_the_task)
{
    nq *q = t_open();
    hostile_unchecked();
    if (T_MYSQL) { /* or the claim would be refused already */
        t_sql("ALTER TABLE nanoq_tasks DROP CONSTRAINT nanoq_tasks_ranges");
        t_sql("INSERT INTO nanoq_tasks (type, attempts, max_retries) VALUES ('odd', 65535, 1000)");
    } else {
        t_sql("INSERT INTO nanoq_tasks (type, attempts, max_retries) VALUES ('odd', 1e300, 1000)");
    }
    t_sql("UPDATE nanoq_tasks SET crashes = 1");
    for (int i = 0; i < 20; i++)
        T_ADD(q, .type = "good", .payload = &i, .payload_size = sizeof i);
    if (T_MYSQL) /* the counter is at its end, though attempts are left */
        t_sql("ALTER TABLE nanoq_tasks MODIFY max_retries INT UNSIGNED NOT NULL DEFAULT 10, ALGORITHM=COPY");
    p_run(p_new(q, P_OPTIONS(.drain = NQ_DRAIN_ALL), hostile_fail, NULL));
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_tasks"), 0);
    ck_assert_int_eq(
        t_sql("SELECT COUNT(*) FROM nanoq_finished WHERE state = 3 AND type = 'odd' AND CAST(error AS CHAR) "
              "LIKE 'the handler%%'"),
        1);
    nq_close(q);
}
END_TEST

START_TEST(a_followup_that_cannot_become_a_task_stops_neither_the_others_nor_a_drain)
{
    nq *q = t_open();
    int ran = 0;
    hostile_unchecked();
    if (T_MYSQL && !t_is_mariadb) /* where no session can do without checks */
        t_sql("ALTER TABLE nanoq_followups DROP CHECK nanoq_followups_ranges");
    for (int i = 0; i < 3; i++)
        t_sql("INSERT INTO nanoq_followups (task_id, queue, priority, run_at, max_retries, timeout_ms, "
              "created_at, type, payload, unique_key) VALUES (7, 'default', 0, %s, %d, 60000, %s, '%s', "
              "'payload %d', %s('%064d'))",
              T_MYSQL ? "UTC_TIMESTAMP(6)" : "1", i == 1 ? 2000 : 3, T_MYSQL ? "UTC_TIMESTAMP(6)" : "1",
              i == 1 ? "odd" : "good", i, T_MYSQL ? "UNHEX" : "", i);
    p_run(p_new(q, P_OPTIONS(.drain = NQ_DRAIN_ALL), p_count, &ran));
    ck_assert_int_eq(p_load(&ran), 2);
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_followups"), 0);
    ck_assert_int_eq(
        t_sql(
            "SELECT COUNT(*) FROM nanoq_finished WHERE state = 3 AND type = 'odd' AND CAST(payload AS CHAR) "
            "= 'payload 1' AND LENGTH(error) > 10"),
        1);
    nq_close(q);
}
END_TEST

/* Ids begin again: the table of the live ones was emptied, or the history comes from elsewhere. */
static nq_verdict hostile_by_type(nq_ctx *ctx, const nq_task *task, void *udata)
{
    (void)udata;
    if (strcmp(task->type, "dead") == 0)
        return nq_fail(ctx, NQ_DISCARD, "new");
    return NQ_DONE;
}

START_TEST(a_task_that_ends_under_an_id_of_the_history_takes_its_place)
{
    nq *q = t_open();
    for (int i = 0; i < 300; i++)
        T_ADD(q, .type = i % 2 ? "dead" : "done", .payload = &i, .payload_size = sizeof i,
              .unique = NQ_UNIQUE_NONE);
    nq_id cancelled = T_ADD(q, .type = "cancelled", .delay_us = NQ_HOURS(1));
    t_sql("INSERT INTO nanoq_finished (id, queue, state, priority, run_at, generation, attempts, crashes, "
          "max_retries, timeout_ms, created_at, finished_at, type, unique_key, payload, error) "
          "SELECT id, queue, 3, priority, run_at, generation, attempts, crashes, max_retries, timeout_ms, "
          "created_at, run_at, 'old', unique_key, payload, 'old' FROM nanoq_tasks");
    T_OK(nq_cancel(q, cancelled, &t_last));
    p_run(p_new(q, P_OPTIONS(.drain = NQ_DRAIN_ALL, .keep_done_us = NQ_HOURS(1), .keep_dead_us = NQ_FOREVER),
                hostile_by_type, NULL));
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_finished WHERE type = 'old'"), 0);
    ck_assert_uint_eq(t_count(q, NQ_STATE_DONE), 150);
    ck_assert_uint_eq(t_count(q, NQ_STATE_DEAD), 150);
    ck_assert_uint_eq(t_count(q, NQ_STATE_CANCELLED), 1);
    nq_close(q);
}
END_TEST

/* ---- Payloads that are too large, one or all together ---- */

START_TEST(a_claim_ends_at_its_limit_of_bytes)
{
    enum { SIZE = 100000, TASKS = 40 };
    nq *q = t_open();
    nq_claimer *claimer = NULL;
    char *payload = malloc(SIZE);
    size_t total = 0, n = 0;
    nq_id ids[TASKS];
    int64_t wait_us = 0;
    ck_assert_ptr_nonnull(payload);
    for (int i = 0; i < TASKS; i++) {
        memset(payload, 'a' + i % 26, SIZE);
        ids[i] = T_ADD(q, .type = "t", .payload = payload, .payload_size = SIZE, .priority = i % 2,
                       .unique = NQ_UNIQUE_NONE);
    }
    T_OK(nq_claimer_new(&claimer, nq_store_of(q), "default", NULL, 0, &t_last));
    nq_claimer_bytes(claimer, 5 * SIZE + 1);
    for (uint64_t seq = 1; total < TASKS; seq++) {
        nq_claimed *list = NULL;
        T_OK(nq_claimer_claim(claimer, NQ_LEASE(1, seq), 500, NULL, &list, &n, &wait_us, &t_last));
        ck_assert_uint_ge(n, 1);
        ck_assert_uint_le(n, 5);
        for (const nq_claimed *c = list; c; c = c->next) {
            ck_assert_int_eq(c->unread, NQ_READ);
            ck_assert_uint_eq(c->task.payload_size, SIZE);
            const char *p = c->task.payload;
            ck_assert_mem_eq(p, p + 1, SIZE - 1);
            int i = 0;
            while (i < TASKS && ids[i] != c->task.id)
                i++;
            ck_assert_int_eq(p[0], 'a' + i % 26);
        }
        total += n;
        t_free_claimed(list);
    }
    ck_assert_uint_eq(total, TASKS);
    nq_claimer_bytes(claimer, 1); /* one at least */
    T_ADD(q, .type = "t", .payload = payload, .payload_size = SIZE);
    nq_claimed *one = NULL;
    T_OK(nq_claimer_claim(claimer, NQ_LEASE(2, 1), 500, NULL, &one, &n, &wait_us, &t_last));
    ck_assert_uint_eq(n, 1);
    t_free_claimed(one);
    nq_claimer_free(claimer);
    free(payload);
    nq_close(q);
}
END_TEST

START_TEST(a_payload_above_the_limit_is_not_handed_out)
{
    nq *q = NULL;
    int ran = 0;
    T_OK(nq_open(&q, t_url, &(nq_options){.size = sizeof(nq_options), .max_payload = 20000}, &t_last));
    T_ADD(q, .type = "good", NQ_BYTES("1"));
    t_sql("INSERT INTO nanoq_tasks (type, payload) VALUES ('odd', %s)",
          T_MYSQL ? "REPEAT('x', 20001)" : "hex(zeroblob(10001))");
    t_sql("INSERT INTO nanoq_tasks (type, payload) VALUES ('good', %s)",
          T_MYSQL ? "REPEAT('x', 20000)" : "hex(zeroblob(10000))");
    p_run(p_new(q, P_OPTIONS(.drain = NQ_DRAIN_DUE), p_count, &ran));
    ck_assert_int_eq(p_load(&ran), 2);
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_tasks"), 0);
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_finished WHERE state = 3 AND type = 'odd' AND "
                           "LENGTH(payload) > 20000 AND CAST(error AS CHAR) LIKE '%%2000%%at most 20000%%'"),
                     1);
    nq_close(q);
}
END_TEST

/* A large payload is read when the claim is committed: whoever dies of it had the task, and it is a crash. */
START_TEST(a_payload_that_is_not_read_leaves_the_task_claimed)
{
    enum { SIZE = 100000 };
    nq *q = t_open();
    char *payload = calloc(1, SIZE);
    ck_assert_ptr_nonnull(payload);
    T_ADD(q, .type = "t", .payload = payload, .payload_size = SIZE);
    nq_claimed *c = t_claim_one(q, NQ_LEASE(77, 1));
    nq_claimed *orphans = NULL;
    size_t n = 0;
    T_OK(nq_store_orphans(nq_store_of(q), NULL, 10, &orphans, &n, &t_last));
    ck_assert_uint_eq(n, 1);
    ck_assert_uint_eq(orphans->task.payload_size, 0); /* or the reclaiming worker would die of it too */
    ck_assert_int_eq(t_finish(q, orphans, NQ_OUT_DONE, 0, NULL), NQ_OK);
    t_free_claimed(orphans);
    t_free_claimed(c);
    free(payload);
    nq_close(q);
}
END_TEST

Suite *suite_hostile(void)
{
    Suite *s = suite_create("hostile");
    TCase *c = t_case(s, "hostile_rows", 30);
    tcase_add_loop_test(c, one_row_keeps_no_other_task_from_running, 0,
                        (int)(sizeof hostile_rows / sizeof *hostile_rows));
    c = t_case(s, "hostile_ends", 30);
    tcase_add_test(c, an_outcome_that_is_refused_ends_the_task);
    tcase_add_test(c, a_followup_that_cannot_become_a_task_stops_neither_the_others_nor_a_drain);
    tcase_add_test(c, a_task_that_ends_under_an_id_of_the_history_takes_its_place);
    c = t_case(s, "hostile_sizes", 30);
    tcase_add_test(c, a_claim_ends_at_its_limit_of_bytes);
    tcase_add_test(c, a_payload_above_the_limit_is_not_handed_out);
    tcase_add_test(c, a_payload_that_is_not_read_leaves_the_task_claimed);
    return s;
}
