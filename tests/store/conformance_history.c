/* SPDX-License-Identifier: MIT */
/* What is remembered of a task's attempts: those that did not end well, the newest of them, and no others'.
 */
#include "suites.h"

static uint64_t history_lease(int seq)
{
    return NQ_LEASE(7, seq);
}

struct history_seen {
    size_t n;
    nq_attempt_row all[NQ_MAX_ATTEMPTS_KEPT + 1];
    char worker[64], error[NQ_MAX_ERROR + 1]; /* of the newest */
};

static int history_row(const nq_attempt_row *row, void *udata)
{
    struct history_seen *s = udata;
    ck_assert_uint_lt(s->n, sizeof s->all / sizeof *s->all);
    if (s->n == 0) {
        snprintf(s->worker, sizeof s->worker, "%s", row->worker);
        snprintf(s->error, sizeof s->error, "%s", row->error);
    }
    s->all[s->n++] = *row;
    return 0;
}

static struct history_seen history_of(nq *q, nq_id id)
{
    struct history_seen s = {0};
    T_OK(nq_attempts(q, id, history_row, &s, &t_last));
    return s;
}

/* Claim the one task that is due, end it so; the answer. */
static int history_attempt(nq *q, int seq, enum nq_outcome_kind kind, const char *error)
{
    nq_claimed *c = t_claim_one(q, history_lease(seq));
    const int rc = t_finish(q, c, kind, 0, error);
    t_free_claimed(c);
    return rc;
}

START_TEST(a_success_a_snooze_and_a_release_write_nothing)
{
    nq *q = t_open();
    const nq_id id = T_ADD(q, .type = "t");
    ck_assert_int_eq(history_attempt(q, 1, NQ_OUT_SNOOZE, NULL), NQ_OK);
    ck_assert_int_eq(history_attempt(q, 2, NQ_OUT_RELEASE, NULL), NQ_OK);
    ck_assert_uint_eq(history_of(q, id).n, 0);
    ck_assert_int_eq(history_attempt(q, 3, NQ_OUT_DONE, NULL), NQ_OK);
    T_FAILS(nq_attempts(q, id, history_row, NULL, &t_last), NQ_ENOTFOUND);
    T_FAILS(nq_attempts(q, id, NULL, NULL, &t_last), NQ_EINVAL);
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_attempts"), 0);
    nq_close(q);
}
END_TEST

START_TEST(each_failure_is_told_with_its_error_and_times)
{
    nq *q = t_open();
    const nq_id id = T_ADD(q, .type = "t");
    const int64_t before = t_now(q);
    t_sql("INSERT INTO nanoq_workers (id, name, started_at, beat_at) SELECT 7, 'here:1', created_at, "
          "created_at "
          "FROM nanoq_tasks");
    ck_assert_int_eq(history_attempt(q, 1, NQ_OUT_RETRY, "first"), NQ_OK);
    ck_assert_int_eq(history_attempt(q, 2, NQ_OUT_SNOOZE, NULL), NQ_OK);
    nq_claimed *c = t_claim_one(q, history_lease(3));
    nq_outcome o = {
        .id = id, .lease = c->lease, .kind = NQ_OUT_DEAD, .crashed = true, .error = "last", .error_size = 4};
    nq_outcome *outs[] = {&o};
    T_OK(nq_store_finish(nq_store_of(q), outs, 1, &t_last));
    t_free_claimed(c);
    const struct history_seen s = history_of(q, id);
    ck_assert_uint_eq(s.n, 2);
    ck_assert_str_eq(s.error, "last");
    ck_assert_str_eq(s.worker, "here:1");
    ck_assert_int_eq(s.all[0].outcome, NQ_ATTEMPT_CRASHED);
    ck_assert_uint_eq(s.all[0].attempt, 2);
    ck_assert_uint_eq(s.all[0].generation, 3);
    ck_assert_int_eq(s.all[1].outcome, NQ_ATTEMPT_FAILED);
    ck_assert_uint_eq(s.all[1].attempt, 1);
    ck_assert_uint_eq(s.all[1].generation, 1);
    for (size_t i = 0; i < s.n; i++) {
        ck_assert_int_ge(s.all[i].started_at_us, before);
        ck_assert_int_ge(s.all[i].ended_at_us, s.all[i].started_at_us);
    }
    ck_assert_str_eq(nq_attempt_outcome_name(s.all[0].outcome), "crashed");
    ck_assert_ptr_null(nq_attempt_outcome_name(0));
    nq_close(q);
}
END_TEST

START_TEST(a_cancelled_and_an_expired_one_say_so)
{
    nq *q = t_open();
    const nq_id cancelled = T_ADD(q, .type = "t");
    nq_claimed *c = t_claim_one(q, history_lease(1));
    T_OK(nq_cancel(q, cancelled, &t_last));
    ck_assert_int_eq(t_finish(q, c, NQ_OUT_RELEASE, 0, NULL), NQ_OK); /* alone: nothing in its batch failed */
    t_free_claimed(c);
    struct history_seen s = history_of(q, cancelled);
    ck_assert_uint_eq(s.n, 1);
    ck_assert_int_eq(s.all[0].outcome, NQ_ATTEMPT_CANCELLED);
    ck_assert_uint_eq(s.all[0].generation, 1);
    ck_assert_str_eq(s.error, "");
    const nq_id expired = T_ADD(q, .type = "u");
    c = t_claim_one(q, history_lease(2));
    nq_outcome o = {
        .id = expired, .lease = c->lease, .kind = NQ_OUT_DEAD, .expired = true, .error = "expired"};
    o.error_size = strlen(o.error);
    nq_outcome *outs[] = {&o};
    T_OK(nq_store_finish(nq_store_of(q), outs, 1, &t_last));
    t_free_claimed(c);
    s = history_of(q, expired);
    ck_assert_uint_eq(s.n, 1);
    ck_assert_int_eq(s.all[0].outcome, NQ_ATTEMPT_EXPIRED);
    ck_assert_uint_eq(s.all[0].attempt, 0);
    ck_assert_int_eq(s.all[0].started_at_us, 0);
    nq_close(q);
}
END_TEST

START_TEST(only_the_outcome_that_takes_effect_is_told)
{
    nq *q = t_open();
    const nq_id id = T_ADD(q, .type = "t");
    nq_claimed *late = t_claim_one(q, history_lease(1));
    ck_assert_int_eq(t_finish(q, late, NQ_OUT_RELEASE, 0, NULL), NQ_OK);
    nq_claimed *now = t_claim_one(q, history_lease(2));
    ck_assert_int_eq(t_finish(q, late, NQ_OUT_RETRY, 0, "too late"), NQ_ELEASE);
    ck_assert_uint_eq(history_of(q, id).n, 0);
    ck_assert_int_eq(t_finish(q, now, NQ_OUT_RETRY, 0, "in time"), NQ_OK);
    ck_assert_int_eq(t_finish(q, now, NQ_OUT_RETRY, 0, "again"), NQ_ELEASE);
    const struct history_seen s = history_of(q, id);
    ck_assert_uint_eq(s.n, 1);
    ck_assert_str_eq(s.error, "in time");
    t_free_claimed(late);
    t_free_claimed(now);
    nq_close(q);
}
END_TEST

START_TEST(the_newest_twenty_stay_each_with_four_kilobytes)
{
    enum { N = 27 };
    nq *q = t_open();
    const nq_id id = T_ADD(q, .type = "t", .max_retries = 100), other = id + 1;
    char error[2 * NQ_MAX_ERROR];
    memset(error, 'x', sizeof error);
    error[sizeof error - 1] = '\0';
    memcpy(error + sizeof error - 4, "end", 3);
    t_sql("INSERT INTO nanoq_attempts (task_id, generation, outcome, attempt) VALUES (%lld, 1, 1, 1)",
          (long long)other);
    for (int i = 1; i <= N; i++)
        ck_assert_int_eq(history_attempt(q, i, NQ_OUT_RETRY, error), NQ_OK);
    const struct history_seen s = history_of(q, id);
    ck_assert_uint_eq(s.n, NQ_MAX_ATTEMPTS_KEPT);
    for (size_t i = 0; i < s.n; i++)
        ck_assert_uint_eq(s.all[i].generation, N - i);
    ck_assert_uint_eq(strlen(s.error), NQ_MAX_ERROR);
    ck_assert_str_eq(s.error + NQ_MAX_ERROR - 3, "end");
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_attempts WHERE task_id = %lld", (long long)id),
                     NQ_MAX_ATTEMPTS_KEPT);
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_attempts"), NQ_MAX_ATTEMPTS_KEPT + 1);
    nq_close(q);
}
END_TEST

/* More than one statement has, and successes between them. */
START_TEST(a_batch_tells_of_each_that_failed)
{
    enum { N = 130 };
    nq *q = t_open();
    nq_outcome all[N], *outs[N];
    size_t n = 0;
    for (int i = 0; i < N; i++)
        T_ADD(q, .type = "t", .unique = NQ_UNIQUE_NONE);
    nq_claimed *list = t_claim(q, history_lease(1), N, &n), *c = list;
    ck_assert_uint_eq(n, N);
    for (int i = 0; i < N; i++, c = c->next) {
        all[i] = (nq_outcome){.id = c->task.id,
                              .lease = c->lease,
                              .kind = i % 10 == 0 ? NQ_OUT_DONE : NQ_OUT_RETRY,
                              .keep = i % 20 == 0};
        if (i % 2)
            all[i].error = "odd", all[i].error_size = 3;
        outs[i] = &all[i];
    }
    T_OK(nq_store_finish(nq_store_of(q), outs, N, &t_last));
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_attempts"), N - N / 10);
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_attempts a JOIN nanoq_tasks t ON t.id = a.task_id "
                           "WHERE LENGTH(a.error) = 3 AND a.generation = t.generation AND t.attempts = 1"),
                     N / 2);
    t_free_claimed(list);
    nq_close(q);
}
END_TEST

START_TEST(a_task_that_is_buried_is_told_of)
{
    nq *q = t_open();
    const nq_id id = T_ADD(q, .type = "t");
    nq_claimed *c = t_claim_one(q, history_lease(1));
    nq_grave g = {.id = id,
                  .lease = c->lease,
                  .from = NQ_STATE_RUNNING,
                  .state = NQ_STATE_DEAD,
                  .failed = true,
                  .crashed = true,
                  .error = "worker died",
                  .error_size = 11};
    T_OK(nq_store_bury(nq_store_of(q), &g, &t_last));
    ck_assert(g.did);
    const struct history_seen s = history_of(q, id);
    ck_assert_uint_eq(s.n, 1);
    ck_assert_int_eq(s.all[0].outcome, NQ_ATTEMPT_CRASHED);
    ck_assert_uint_eq(s.all[0].attempt, 1);
    ck_assert_str_eq(s.error, "worker died");
    /* And of a waiting one that the database refuses to claim. */
    const nq_id strange = T_ADD(q, .type = "u");
    T_OK(nq_bury_waiting(nq_store_of(q), strange, "cannot be claimed", "why", &t_last));
    const struct history_seen w = history_of(q, strange);
    ck_assert_uint_eq(w.n, 1);
    ck_assert_int_eq(w.all[0].outcome, NQ_ATTEMPT_DEAD);
    ck_assert_uint_eq(w.all[0].attempt, 0);
    ck_assert_str_eq(w.error, "cannot be claimed: why");
    t_free_claimed(c);
    nq_close(q);
}
END_TEST

/* An earlier task had this id: what is told of it is not told of this one, and goes with its record. */
START_TEST(ids_that_begin_again_bring_no_old_attempts)
{
    nq *q = t_open();
    const nq_id id = T_ADD(q, .type = "t");
    ck_assert_int_eq(history_attempt(q, 1, NQ_OUT_RETRY, "old 1"), NQ_OK);
    ck_assert_int_eq(history_attempt(q, 2, NQ_OUT_DEAD, "old 2"), NQ_OK);
    ck_assert_uint_eq(history_of(q, id).n, 2);
    /* SQLite's clock of plain SQL has milliseconds: what ended in the same one could be the new task's. */
    const int64_t ended = t_now(q);
    T_WAIT(t_now(q) - ended > NQ_MS(2), 20);
    t_sql("INSERT INTO nanoq_tasks (id, type) VALUES (%lld, 't')", (long long)id);
    ck_assert_uint_eq(history_of(q, id).n, 0);
    ck_assert_int_eq(history_attempt(q, 3, NQ_OUT_DEAD, "new"), NQ_OK);
    const struct history_seen s = history_of(q, id);
    ck_assert_uint_eq(s.n, 1);
    ck_assert_str_eq(s.error, "new");
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_attempts"), 1);
    nq_close(q);
}
END_TEST

START_TEST(rows_of_tasks_that_are_gone_are_swept)
{
    nq *q = t_open();
    size_t n = 0;
    const nq_id lives = T_ADD(q, .type = "t"), kept = T_ADD(q, .type = "u", .delay_us = NQ_HOURS(1));
    T_OK(nq_cancel(q, kept, &t_last));
    for (int i = 0; i < 30; i++)
        for (int k = 1; k <= 2; k++)
            t_sql(
                "INSERT INTO nanoq_attempts (task_id, generation, outcome, attempt) VALUES (%lld, %d, 1, 1)",
                (long long)(i == 0   ? lives
                            : i == 1 ? kept
                                     : kept + i),
                k);
    /* Two looks that are cut short, then one that finds the end, then from the start again. */
    static const size_t found[] = {10, 10, 8, 0};
    for (size_t i = 0; i < 4; i++) {
        T_OK(nq_store_history_sweep(nq_store_of(q), 10, &n, &t_last));
        ck_assert_uint_eq(n, found[i]);
    }
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_attempts"), 4);
    /* A look has an end where nothing is to be deleted, and goes on behind it. */
    T_OK(nq_delete(q, kept, &t_last));
    T_OK(nq_store_history_sweep(nq_store_of(q), 1, &n, &t_last));
    ck_assert_uint_eq(n, 1);
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_attempts WHERE task_id = %lld", (long long)lives), 2);
    nq_close(q);
}
END_TEST

Suite *suite_history(void)
{
    Suite *s = suite_create("history");
    TCase *c = t_case(s, "history", 60);
    tcase_add_test(c, a_success_a_snooze_and_a_release_write_nothing);
    tcase_add_test(c, each_failure_is_told_with_its_error_and_times);
    tcase_add_test(c, a_cancelled_and_an_expired_one_say_so);
    tcase_add_test(c, only_the_outcome_that_takes_effect_is_told);
    tcase_add_test(c, the_newest_twenty_stay_each_with_four_kilobytes);
    tcase_add_test(c, a_batch_tells_of_each_that_failed);
    tcase_add_test(c, a_task_that_is_buried_is_told_of);
    tcase_add_test(c, ids_that_begin_again_bring_no_old_attempts);
    tcase_add_test(c, rows_of_tasks_that_are_gone_are_swept);
    return s;
}
