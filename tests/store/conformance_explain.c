/* SPDX-License-Identifier: MIT */
/* The plans of the hot queries with 10,000 tasks in the table: the claim index, no sorting, no temporary
 * table. */
#include "suites.h"

enum { EXPLAIN_ROWS = 10000 };

static void explain_fill(nq *q)
{
    static nq_task_spec specs[EXPLAIN_ROWS];
    for (int i = 0; i < EXPLAIN_ROWS; i++)
        specs[i] =
            *NQ_TASK(.type = i % 2 ? "a" : "b", .priority = i % 3, .queue = i % 5 ? "default" : "other",
                     .delay_us = i % 7 ? 0 : NQ_HOURS(1), .unique = NQ_UNIQUE_NONE);
    T_OK(nq_enqueue_many(q, NQ_OWN_TX, specs, EXPLAIN_ROWS, NULL, NULL, &t_last));
    size_t n = 0;
    for (uint64_t seq = 1; seq <= 30; seq++)
        t_free_claimed(
            t_claim(q, NQ_LEASE(1, seq), 100, &n)); /* 3,000 running tasks ahead of the waiting ones */
    t_run(t_side(), T_MYSQL ? "ANALYZE TABLE nanoq_tasks" : "ANALYZE");
}

static char *explain_plan(const char *sql)
{
    /* MySQL 9 draws a tree unless told otherwise. */
    const char *explain = T_SQLITE       ? "EXPLAIN QUERY PLAN"
                          : t_is_mariadb ? "EXPLAIN"
                                         : "EXPLAIN FORMAT=TRADITIONAL";
    return t_text(t_side(), "%s %s", explain, sql);
}

static void explain_check(const char *sql)
{
    char *plan = explain_plan(sql);
    ck_assert_ptr_nonnull(plan);
    bool good = strstr(plan, T_MYSQL ? "|claim|" : "nanoq_tasks_claim") ||
                (T_SQLITE && strstr(plan, "INDEX") && strstr(plan, "claim"));
    ck_assert_msg(good, "not by the claim index: %s\n%s", sql, plan);
    ck_assert_msg(!strstr(plan, "filesort") && !strstr(plan, "temporary") && !strstr(plan, "TEMP B-TREE"),
                  "%s\n%s", sql, plan);
    ck_assert_msg(!strstr(plan, "SCAN nanoq_tasks"), "%s\n%s", sql, plan);
    free(plan);
}

START_TEST(the_claim_uses_its_index)
{
    nq *q = t_open();
    explain_fill(q);
    const char *now = T_MYSQL ? "UTC_TIMESTAMP(6)" : "1900000000000000";
    const char *hint = T_MYSQL ? "FORCE INDEX (claim)" : "";
    const char *lock = T_MYSQL ? "FOR UPDATE SKIP LOCKED" : "";
    const char *cursor = T_MYSQL ? "AND run_at >= '2020-01-01'" : "AND run_at >= 5";
    char sql[600];
    for (int with_cursor = 0; with_cursor < 2; with_cursor++) {
        snprintf(sql, sizeof sql,
                 "SELECT id FROM nanoq_tasks %s WHERE queue = 'default' AND state = 0 AND priority = 0 AND "
                 "run_at <= %s %s "
                 "ORDER BY run_at, id LIMIT 100 %s",
                 hint, now, with_cursor ? cursor : "", lock);
        explain_check(sql);
    }
    nq_close(q);
}
END_TEST

START_TEST(the_priorities_in_use_are_a_loose_scan)
{
    nq *q = t_open();
    explain_fill(q);
    const char *sql =
        "SELECT priority, MIN(run_at) FROM nanoq_tasks FORCE INDEX (claim) WHERE queue = 'default' AND "
        "state = 0 GROUP BY queue, state, priority";
    explain_check(sql);
    char *plan = explain_plan(sql);
    ck_assert_msg(strstr(plan, "Using index for group-by"), "%s", plan);
    free(plan);
    nq_close(q);
}
END_TEST

/* What the library really sends, from the server's own log of this test's statements. */
START_TEST(the_claims_the_library_sends_are_planned_well)
{
    nq *q = t_open();
    explain_fill(q);
    t_log_begin();
    size_t n = 0;
    t_free_claimed(t_claim(q, NQ_LEASE(2, 1), 50, &n));
    ck_assert_uint_eq(n, 50);
    char *log = t_log_end("argument LIKE '%FORCE INDEX%' AND argument LIKE '%nanoq_tasks%' AND argument NOT "
                          "LIKE '%?%'");
    int checked = 0;
    char *save = NULL;
    for (char *sql = strtok_r(log, "\n;", &save); sql; sql = strtok_r(NULL, "\n;", &save)) {
        if (strstr(sql, "FORCE INDEX (claim)") && strstr(sql, "SELECT")) {
            explain_check(strstr(sql, "SELECT"));
            checked++;
        }
    }
    ck_assert_int_ge(checked, 2); /* the priorities and a claim */
    free(log);
    nq_close(q);
}
END_TEST

/* Of NanoQ: its OR on claimed_at read every claimed row, 117 ms a claim behind 10,000 running tasks. */
START_TEST(a_claim_behind_many_running_tasks_reads_few_rows)
{
    nq *q = t_open();
    explain_fill(q);
    t_run(t_side(), "UPDATE nanoq_tasks SET state = 1, lease = 5 WHERE id <= %d", EXPLAIN_ROWS - 200);
    size_t n = 0;
    int64_t best = INT64_MAX;
    for (uint64_t seq = 1; seq <= 5; seq++) {
        int64_t start = t_mono();
        t_free_claimed(t_claim(q, NQ_LEASE(3, seq), 5, &n));
        ck_assert_uint_eq(n, 5);
        best = t_mono() - start < best ? t_mono() - start : best;
    }
    ck_assert_int_lt(best, NQ_MS(60) * T_SLOW_FACTOR);
    nq_close(q);
}
END_TEST

Suite *suite_explain(void)
{
    Suite *s = suite_create("explain");
    TCase *c = t_case(s, "explain", 60);
    tcase_add_test(c, the_claim_uses_its_index);
    tcase_add_test(c, a_claim_behind_many_running_tasks_reads_few_rows);
    if (T_MYSQL) {
        tcase_add_test(c, the_priorities_in_use_are_a_loose_scan);
        tcase_add_test(c, the_claims_the_library_sends_are_planned_well);
    }
    return s;
}
