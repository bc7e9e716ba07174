/* SPDX-License-Identifier: MIT */
/* Finishing: each outcome, the fence, and delays that saturate. */
#include "suites.h"

enum { FINISH_KINDS = 6, FINISH_KEPT = FINISH_KINDS - 1 }; /* the last is a completion whose record is kept */
static const enum nq_outcome_kind finish_kinds[FINISH_KINDS] = {NQ_OUT_DONE,    NQ_OUT_RETRY, NQ_OUT_SNOOZE,
                                                                NQ_OUT_RELEASE, NQ_OUT_DEAD,  NQ_OUT_DONE};

START_TEST(done_deletes_the_task)
{
    nq *q = t_open();
    nq_id id = T_ADD(q, .type = "t");
    nq_claimed *c = t_claim_one(q, NQ_LEASE(1, 1));
    ck_assert_int_eq(t_finish(q, c, NQ_OUT_DONE, 0, NULL), NQ_OK);
    ck_assert_int_eq(t_state(q, id), -1);
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_finished"), 0);
    t_free_claimed(c);
    nq_close(q);
}
END_TEST

START_TEST(done_is_kept_when_asked)
{
    nq *q = t_open();
    nq_id id = T_ADD(q, .type = "t", NQ_BYTES("p\0q"), .queue = "kept", .priority = 4);
    size_t n = 0;
    nq_claimed *c = t_claim_queue(q, "kept", NQ_LEASE(1, 1), 5, &n);
    nq_outcome o = {.id = id, .lease = c->lease, .kind = NQ_OUT_DONE, .keep = true, .result = 1};
    nq_outcome *list[] = {&o};
    int64_t before = t_now(q);
    T_OK(nq_store_finish(nq_store_of(q), list, 1, &t_last));
    ck_assert_int_eq(o.result, NQ_OK);
    t_task t;
    ck_assert_int_eq(t_get(q, id, &t), NQ_OK);
    ck_assert_int_eq(t.info.state, NQ_STATE_DONE);
    ck_assert_str_eq(t.queue, "kept");
    ck_assert_int_eq(t.info.priority, 4);
    ck_assert_uint_eq(t.info.payload_size, 3);
    ck_assert_int_eq(memcmp(t.payload, "p\0q", 4), 0);
    ck_assert_uint_eq(t.info.attempts, 0);
    ck_assert_uint_eq(t.info.generation, 1);
    ck_assert_int_ge(t.info.finished_at_us, before);
    ck_assert_str_eq(t.info.worker, "");
    t_task_free(&t);
    t_free_claimed(c);
    nq_close(q);
}
END_TEST

START_TEST(retry_consumes_an_attempt_and_keeps_the_error)
{
    nq *q = t_open();
    nq_id id = T_ADD(q, .type = "t");
    nq_claimed *c = t_claim_one(q, NQ_LEASE(1, 1));
    int64_t before = t_now(q);
    ck_assert_int_eq(t_finish(q, c, NQ_OUT_RETRY, NQ_MINUTES(3), "it's \"bad\" \\ {now} \xc3\xa4"), NQ_OK);
    t_free_claimed(c);
    t_task t;
    ck_assert_int_eq(t_get(q, id, &t), NQ_OK);
    ck_assert_int_eq(t.info.state, NQ_STATE_WAITING);
    ck_assert_uint_eq(t.info.attempts, 1);
    ck_assert_uint_eq(t.info.crashes, 0);
    ck_assert_str_eq(t.error, "it's \"bad\" \\ {now} \xc3\xa4");
    ck_assert_int_ge(t.info.run_at_us, before + NQ_MINUTES(3));
    ck_assert_int_le(t.info.run_at_us, t_now(q) + NQ_MINUTES(3));
    ck_assert_int_eq(t.info.claimed_at_us, 0);
    t_task_free(&t);
    T_OK(nq_retry(q, id, &t_last));
    c = t_claim_one(q, NQ_LEASE(1, 2));
    ck_assert_uint_ge(c->task.attempt, 1);
    ck_assert_ptr_nonnull(c->task.last_error);
    t_free_claimed(c);
    nq_close(q);
}
END_TEST

START_TEST(a_crash_counts_twice_over)
{
    nq *q = t_open();
    nq_id id = T_ADD(q, .type = "t");
    nq_claimed *c = t_claim_one(q, NQ_LEASE(1, 1));
    nq_outcome o = {
        .id = id, .lease = c->lease, .kind = NQ_OUT_RETRY, .crashed = true, .error = "died", .error_size = 4};
    nq_outcome *list[] = {&o};
    T_OK(nq_store_finish(nq_store_of(q), list, 1, &t_last));
    t_free_claimed(c);
    c = t_claim_one(q, NQ_LEASE(1, 2));
    ck_assert_uint_eq(c->task.attempt, 2);
    ck_assert_uint_eq(c->task.crashes, 1);
    ck_assert_str_eq(c->task.last_error, "died");
    o = (nq_outcome){
        .id = id, .lease = c->lease, .kind = NQ_OUT_DEAD, .crashed = true, .error = "again", .error_size = 5};
    T_OK(nq_store_finish(nq_store_of(q), list, 1, &t_last));
    t_free_claimed(c);
    t_task t;
    ck_assert_int_eq(t_get(q, id, &t), NQ_OK);
    ck_assert_int_eq(t.info.state, NQ_STATE_DEAD);
    ck_assert_uint_eq(t.info.attempts, 2);
    ck_assert_uint_eq(t.info.crashes, 2);
    t_task_free(&t);
    nq_close(q);
}
END_TEST

START_TEST(snooze_consumes_nothing)
{
    nq *q = t_open();
    nq_id id = T_ADD(q, .type = "t");
    nq_claimed *c = t_claim_one(q, NQ_LEASE(1, 1));
    int64_t before = t_now(q);
    ck_assert_int_eq(t_finish(q, c, NQ_OUT_SNOOZE, NQ_MINUTES(3), NULL), NQ_OK);
    t_free_claimed(c);
    t_task t;
    ck_assert_int_eq(t_get(q, id, &t), NQ_OK);
    ck_assert_int_eq(t.info.state, NQ_STATE_WAITING);
    ck_assert_uint_eq(t.info.attempts, 0);
    ck_assert_int_ge(t.info.run_at_us, before + NQ_MINUTES(3));
    t_task_free(&t);
    nq_close(q);
}
END_TEST

START_TEST(release_leaves_attempts_and_schedule_as_they_were)
{
    nq *q = t_open();
    nq_id id = T_ADD(q, .type = "t");
    nq_claimed *c = t_claim_one(q, NQ_LEASE(1, 1));
    ck_assert_int_eq(t_finish(q, c, NQ_OUT_RETRY, 0, "first"), NQ_OK);
    t_free_claimed(c);
    t_task was, is;
    ck_assert_int_eq(t_get(q, id, &was), NQ_OK);
    c = t_claim_one(q, NQ_LEASE(1, 2));
    ck_assert_int_eq(t_finish(q, c, NQ_OUT_RELEASE, 0, NULL), NQ_OK);
    t_free_claimed(c);
    ck_assert_int_eq(t_get(q, id, &is), NQ_OK);
    ck_assert_int_eq(is.info.state, NQ_STATE_WAITING);
    ck_assert_int_eq(is.info.run_at_us, was.info.run_at_us);
    ck_assert_uint_eq(is.info.attempts, 1);
    ck_assert_str_eq(is.error, "first");
    ck_assert_int_eq(is.info.priority, was.info.priority);
    t_task_free(&was);
    t_task_free(&is);
    nq_close(q);
}
END_TEST

START_TEST(dead_is_kept_with_its_error)
{
    nq *q = t_open();
    nq_id id = T_ADD(q, .type = "t", NQ_BYTES("pay"));
    nq_claimed *c = t_claim_one(q, NQ_LEASE(1, 1));
    ck_assert_int_eq(t_finish(q, c, NQ_OUT_DEAD, 0, "gone wrong"), NQ_OK);
    t_free_claimed(c);
    t_task t;
    ck_assert_int_eq(t_get(q, id, &t), NQ_OK);
    ck_assert_int_eq(t.info.state, NQ_STATE_DEAD);
    ck_assert_uint_eq(t.info.attempts, 1);
    ck_assert_str_eq(t.error, "gone wrong");
    ck_assert_str_eq((char *)t.payload, "pay");
    ck_assert_int_gt(t.info.finished_at_us, 0);
    t_task_free(&t);
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_tasks"), 0);
    nq_close(q);
}
END_TEST

/* Of NanoQ: a stopped worker that wakes after its lease overwrites its successor. Here nothing changes. */
START_TEST(a_stale_lease_changes_nothing)
{
    nq *q = t_open();
    nq_id id = T_ADD(q, .type = "t");
    nq_claimed *old = t_claim_one(q, NQ_LEASE(1, 1));
    ck_assert_int_eq(t_finish(q, old, NQ_OUT_RELEASE, 0, NULL), NQ_OK);
    nq_claimed *now = t_claim_one(q, NQ_LEASE(2, 1));
    ck_assert_int_eq(now->task.id, id);
    const char *row = "SELECT * FROM nanoq_tasks";
    char *before = t_text(t_side(), "%s", row);
    for (size_t i = 0; i < FINISH_KINDS; i++) {
        nq_outcome o = {.id = id,
                        .lease = old->lease,
                        .kind = finish_kinds[i],
                        .keep = i == FINISH_KEPT,
                        .delay_us = 5,
                        .error = "stale",
                        .error_size = 5,
                        .result = 1};
        nq_outcome *list[] = {&o};
        T_OK(nq_store_finish(nq_store_of(q), list, 1, &t_last));
        ck_assert_int_eq(o.result, NQ_ELEASE);
        char *after = t_text(t_side(), "%s", row);
        ck_assert_str_eq(before, after);
        free(after);
    }
    free(before);
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_finished"), 0);
    ck_assert_int_eq(t_finish(q, now, NQ_OUT_DONE, 0, NULL), NQ_OK);
    /* And a second answer of the same claim, or one for a task that never was. */
    ck_assert_int_eq(t_finish(q, now, NQ_OUT_DONE, 0, NULL), NQ_ELEASE);
    now->task.id = 987654321;
    ck_assert_int_eq(t_finish(q, now, NQ_OUT_RETRY, 0, "x"), NQ_ELEASE);
    t_free_claimed(old);
    t_free_claimed(now);
    nq_close(q);
}
END_TEST

/* A busy worker's tasks end under many leases, and one that was lost meanwhile may be claimed again by it:
 * then the same task stands in the list twice, and only the claim that holds it ends it. */
START_TEST(tasks_of_many_leases_end_at_once)
{
    enum { CLAIMS = 40, EACH = 3, LOST = 7 };
    nq *q = t_open();
    nq_outcome outcomes[CLAIMS * EACH + 1];
    nq_outcome *list[CLAIMS * EACH + 1];
    size_t n = 0;
    for (int i = 0; i < CLAIMS * EACH; i++)
        T_ADD(q, .type = "t", .unique = NQ_UNIQUE_NONE);
    for (uint64_t seq = 1; seq <= CLAIMS; seq++) {
        size_t claimed = 0;
        nq_claimed *all = t_claim(q, NQ_LEASE(1, seq), EACH, &claimed);
        ck_assert_uint_eq(claimed, EACH);
        for (const nq_claimed *c = all; c; c = c->next, n++)
            outcomes[n] = (nq_outcome){.id = c->task.id, .lease = c->lease, .kind = NQ_OUT_DONE, .result = 1};
        t_free_claimed(all);
    }
    /* One comes back, and the same worker claims it once more; another one is gone. */
    t_sql("UPDATE nanoq_tasks SET lease = %lld WHERE id = %lld", (long long)NQ_LEASE(1, CLAIMS + 1),
          (long long)outcomes[LOST].id);
    t_sql("DELETE FROM nanoq_tasks WHERE id = %lld", (long long)outcomes[LOST + 1].id);
    outcomes[n++] = (nq_outcome){
        .id = outcomes[LOST].id, .lease = NQ_LEASE(1, CLAIMS + 1), .kind = NQ_OUT_DONE, .result = 1};
    for (size_t i = 0; i < n; i++)
        list[i] = &outcomes[(i * 37) % n];
    T_OK(nq_store_finish(nq_store_of(q), list, n, &t_last));
    for (size_t i = 0; i < n; i++)
        ck_assert_msg(outcomes[i].result == (i == LOST || i == LOST + 1 ? NQ_ELEASE : NQ_OK), "%zu: %s", i,
                      nq_code_name(outcomes[i].result));
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_tasks"), 0);
    nq_close(q);
}
END_TEST

/* A worker finds a dead one's task that others end before it, and claims it then: both outcomes may stand in
 * one list, and the claim that holds the task ends it, whichever of the leases is larger. A worker that was
 * taken for dead and joined anew finds its own claim, while the handler's answer waits to be recorded: that
 * counts. */
START_TEST(of_two_outcomes_of_a_task_the_current_one_counts)
{
    enum { TASKS = 5 };
    static const uint64_t others[] = {NQ_LEASE(2, 3), NQ_LEASE(9, 3), NQ_LEASE(5, 1)};
    const enum nq_outcome_kind kind = finish_kinds[_i / 6];
    const uint64_t other = others[_i % 3], current = NQ_LEASE(5, 1);
    nq *q = t_open();
    nq_outcome outcomes[2 * TASKS];
    nq_outcome *list[2 * TASKS];
    size_t n = 0, claimed = 0;
    for (int i = 0; i < TASKS; i++)
        T_ADD(q, .type = "t", .unique = NQ_UNIQUE_NONE);
    nq_claimed *all = t_claim(q, current, TASKS, &claimed);
    ck_assert_uint_eq(claimed, TASKS);
    for (const nq_claimed *c = all; c; c = c->next) {
        outcomes[n++] = (nq_outcome){.id = c->task.id, .lease = current, .kind = kind, .result = 1};
        outcomes[n - 1].keep = _i / 6 == FINISH_KEPT;
        outcomes[n++] = (nq_outcome){
            .id = c->task.id, .lease = other, .kind = NQ_OUT_RETRY, .crashed = true, .result = 1};
    }
    t_free_claimed(all);
    for (size_t i = 0; i < n; i++) {
        outcomes[i].wary = _i % 6 >= 3;
        list[i] = &outcomes[(i * 7) % n];
    }
    T_OK(nq_store_finish(nq_store_of(q), list, n, &t_last));
    for (size_t i = 0; i < n; i++)
        ck_assert_msg(outcomes[i].result == (i % 2 ? NQ_ELEASE : NQ_OK), "%zu: %s", i,
                      nq_code_name(outcomes[i].result));
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_tasks WHERE state = 1 OR crashes > 0"), 0);
    nq_close(q);
}
END_TEST

/* Of NanoQ: backoff overflowed at 97 retries and the delay became negative. */
START_TEST(the_longest_delay_and_the_most_attempts_do_not_overflow)
{
    nq *q = t_open();
    nq_id id = T_ADD(q, .type = "t", .max_retries = NQ_MAX_RETRIES);
    t_sql("UPDATE nanoq_tasks SET attempts = 999");
    nq_claimed *c = t_claim_one(q, NQ_LEASE(1, 1));
    ck_assert_uint_eq(c->task.attempt, 1000);
    int64_t before = t_now(q);
    ck_assert_int_eq(t_finish(q, c, NQ_OUT_RETRY, NQ_MAX_DURATION, "far"), NQ_OK);
    t_free_claimed(c);
    t_task t;
    ck_assert_int_eq(t_get(q, id, &t), NQ_OK);
    ck_assert_int_ge(t.info.run_at_us, before + NQ_MAX_DURATION);
    ck_assert_int_le(t.info.run_at_us, t_now(q) + NQ_MAX_DURATION);
    ck_assert_uint_eq(t.info.attempts, 1000);
    t_task_free(&t);
    for (unsigned attempt = 0; attempt < 3000; attempt++) {
        int64_t delay = nq_default_retry_delay(attempt);
        ck_assert_int_ge(delay, NQ_SECONDS(5));
        ck_assert_int_le(delay, NQ_MAX_DURATION);
    }
    ck_assert_int_le(nq_default_retry_delay(4294967295U), NQ_MAX_DURATION);
    nq_close(q);
}
END_TEST

START_TEST(a_long_error_is_kept_whole_up_to_the_limit)
{
    char error[NQ_MAX_ERROR + 1];
    memset(error, 'e', NQ_MAX_ERROR);
    error[NQ_MAX_ERROR] = '\0';
    nq *q = t_open();
    nq_id id = T_ADD(q, .type = "t");
    nq_claimed *c = t_claim_one(q, NQ_LEASE(1, 1));
    ck_assert_int_eq(t_finish(q, c, NQ_OUT_DEAD, 0, error), NQ_OK);
    t_task t;
    ck_assert_int_eq(t_get(q, id, &t), NQ_OK);
    ck_assert_str_eq(t.error, error);
    t_task_free(&t);
    t_free_claimed(c);
    nq_close(q);
}
END_TEST

/* Behind a write a savepoint goes to MySQL's binary log, where a KILL QUERY that meets it ends the replicas:
 * see mysql/complete.c. One of the plain completions is late, so that the others are deleted twice. */
START_TEST(a_savepoint_stands_before_all_writes)
{
    enum { N = 5 };
    static const struct {
        enum nq_outcome_kind kind;
        bool keep;
        int late;
    } ends[N] = {{NQ_OUT_RETRY, false, 0},
                 {NQ_OUT_DONE, true, 0},
                 {NQ_OUT_DONE, false, 0},
                 {NQ_OUT_DONE, false, 1},
                 {NQ_OUT_DEAD, false, 0}};
    nq *q = t_open();
    nq_outcome outs[N], *all[N];
    size_t n = 0;
    for (int i = 0; i < N; i++)
        T_ADD(q, .type = "t", .unique = NQ_UNIQUE_NONE);
    nq_claimed *list = t_claim(q, NQ_LEASE(1, 1), N, &n);
    ck_assert_uint_eq(n, N);
    n = 0;
    for (const nq_claimed *c = list; c; c = c->next, n++) {
        outs[n] =
            (nq_outcome){.id = c->task.id, .lease = c->lease + (uint64_t)ends[n].late, .queue = "default"};
        outs[n].kind = ends[n].kind;
        outs[n].keep = ends[n].keep;
        all[n] = &outs[n];
    }
    if (T_MYSQL)
        t_log_begin();
    T_OK(nq_store_finish(nq_store_of(q), all, n, &t_last));
    for (size_t i = 0; i < N; i++)
        ck_assert_int_eq(outs[i].result, ends[i].late ? NQ_ELEASE : NQ_OK);
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_tasks"), 2);
    if (T_MYSQL) {
        char *log = t_log_end("argument REGEXP '^(SAVEPOINT|INSERT|UPDATE|DELETE|SET STATEMENT)'");
        const char *savepoint = strstr(log, "SAVEPOINT nanoq");
        ck_assert_msg(t_is_mariadb ? !savepoint : savepoint == log, "%s", log);
        ck_assert_msg(!savepoint || !strstr(savepoint + 1, "\nSAVEPOINT"), "%s", log);
        free(log);
    }
    t_free_claimed(list);
    nq_close(q);
}
END_TEST

Suite *suite_finish(void)
{
    Suite *s = suite_create("finish");
    TCase *c = t_case(s, "finish", 30);
    tcase_add_test(c, done_deletes_the_task);
    tcase_add_test(c, done_is_kept_when_asked);
    tcase_add_test(c, retry_consumes_an_attempt_and_keeps_the_error);
    tcase_add_test(c, a_crash_counts_twice_over);
    tcase_add_test(c, snooze_consumes_nothing);
    tcase_add_test(c, release_leaves_attempts_and_schedule_as_they_were);
    tcase_add_test(c, dead_is_kept_with_its_error);
    tcase_add_test(c, a_stale_lease_changes_nothing);
    tcase_add_test(c, tasks_of_many_leases_end_at_once);
    tcase_add_loop_test(c, of_two_outcomes_of_a_task_the_current_one_counts, 0, 6 * FINISH_KINDS);
    tcase_add_test(c, the_longest_delay_and_the_most_attempts_do_not_overflow);
    tcase_add_test(c, a_long_error_is_kept_whole_up_to_the_limit);
    tcase_add_test(c, a_savepoint_stands_before_all_writes);
    return s;
}
