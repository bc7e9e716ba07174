/* SPDX-License-Identifier: MIT */
/* Many outcomes in one call, each with its own answer; and the retention of what ended. */
#include "suites.h"

START_TEST(mixed_batches_answer_each_by_itself)
{
    enum { N = 240 };
    static nq_task_spec specs[N];
    static nq_outcome outcomes[N];
    static nq_outcome *list[N];
    static nq_id ids[N];
    nq *q = t_open();
    for (int i = 0; i < N; i++)
        specs[i] = *NQ_TASK(.type = "t", .unique = NQ_UNIQUE_NONE);
    T_OK(nq_enqueue_many(q, NQ_OWN_TX, specs, N, ids, NULL, &t_last));
    size_t n = 0, i = 0;
    nq_claimed *claimed = t_claim(q, NQ_LEASE(1, 1), N, &n);
    ck_assert_uint_eq(n, N);
    for (const nq_claimed *c = claimed; c; c = c->next, i++) {
        bool stale = i % 11 == 3;
        outcomes[i] = (nq_outcome){.id = c->task.id,
                                   .lease = stale ? c->lease + 1 : c->lease,
                                   .kind = (enum nq_outcome_kind)(i % 5),
                                   .keep = i % 10 == 0,
                                   .delay_us = NQ_SECONDS(100),
                                   .error = "mixed",
                                   .error_size = 5,
                                   .result = 1};
        list[i] = &outcomes[i];
    }
    uint64_t seed = t_seed();
    for (i = N - 1; i > 0; i--) { /* in no order of ids */
        size_t j = t_rand(&seed) % (i + 1);
        nq_outcome *swap = list[i];
        list[i] = list[j];
        list[j] = swap;
    }
    T_OK(nq_store_finish(nq_store_of(q), list, N, &t_last));
    for (i = 0; i < N; i++) {
        bool stale = i % 11 == 3;
        ck_assert_int_eq(outcomes[i].result, stale ? NQ_ELEASE : NQ_OK);
        static const int states[] = {-1, NQ_STATE_WAITING, NQ_STATE_WAITING, NQ_STATE_WAITING, NQ_STATE_DEAD};
        int state = stale ? NQ_STATE_RUNNING : outcomes[i].keep && i % 5 == 0 ? NQ_STATE_DONE : states[i % 5];
        t_task t;
        int rc = t_get(q, outcomes[i].id, &t);
        ck_assert_int_eq(rc == NQ_OK ? (int)t.info.state : -1, state);
        if (rc == NQ_OK && !stale)
            ck_assert_uint_eq(t.info.attempts, i % 5 == 1 || i % 5 == 4 ? 1 : 0);
        t_task_free(&t);
    }
    t_free_claimed(claimed);
    nq_close(q);
}
END_TEST

START_TEST(a_big_batch_of_done_goes_in_one_call)
{
    enum { N = 3000 };
    static nq_task_spec specs[N];
    static nq_outcome outcomes[N];
    static nq_outcome *list[N];
    nq *q = t_open();
    for (int i = 0; i < N; i++)
        specs[i] = *NQ_TASK(.type = "t", .unique = NQ_UNIQUE_NONE);
    T_OK(nq_enqueue_many(q, NQ_OWN_TX, specs, N, NULL, NULL, &t_last));
    size_t n = 0, total = 0;
    nq_claimed *claims[16] = {0};
    for (uint64_t seq = 1; total < N; seq++) { /* several claims, so several leases in one batch */
        ck_assert_uint_lt(seq, 16);
        claims[seq] = t_claim(q, NQ_LEASE(1, seq), 400, &n);
        ck_assert_uint_gt(n, 0);
        for (const nq_claimed *c = claims[seq]; c; c = c->next, total++) {
            outcomes[total] =
                (nq_outcome){.id = c->task.id, .lease = c->lease, .kind = NQ_OUT_DONE, .result = 1};
            list[N - 1 - total] = &outcomes[total];
        }
    }
    T_OK(nq_store_finish(nq_store_of(q), list, N, &t_last));
    for (size_t i = 0; i < N; i++)
        ck_assert_int_eq(outcomes[i].result, NQ_OK);
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_tasks"), 0);
    for (size_t i = 0; i < 16; i++)
        t_free_claimed(claims[i]);
    T_OK(nq_store_finish(nq_store_of(q), NULL, 0, &t_last));
    nq_close(q);
}
END_TEST

START_TEST(purge_takes_what_is_past_its_retention_only)
{
    nq *q = t_open();
    nq_id ids[4];
    for (int i = 0; i < 4; i++)
        ids[i] = T_ADD(q, .type = "t", .unique = NQ_UNIQUE_NONE);
    size_t n = 0;
    nq_claimed *list = t_claim(q, NQ_LEASE(1, 1), 3, &n);
    ck_assert_uint_eq(n, 3);
    nq_outcome keep = {.id = list->task.id, .lease = list->lease, .kind = NQ_OUT_DONE, .keep = true};
    nq_outcome dead = {
        .id = list->next->task.id, .lease = list->lease, .kind = NQ_OUT_DEAD, .error = "x", .error_size = 1};
    nq_outcome *both[] = {&keep, &dead};
    T_OK(nq_store_finish(nq_store_of(q), both, 2, &t_last));
    T_OK(nq_cancel(q, ids[3], &t_last));
    uint64_t gone = 9;
    nq_store *s = nq_store_of(q);
    T_OK(nq_store_purge(s, -1, -1, 100, &gone, &t_last));
    ck_assert_uint_eq(gone, 0);
    T_OK(nq_store_purge(s, NQ_HOURS(1), NQ_HOURS(1), 100, &gone, &t_last));
    ck_assert_uint_eq(gone, 0);
    t_sql("UPDATE nanoq_finished SET finished_at = %s",
          T_MYSQL ? "finished_at - INTERVAL 2 HOUR" : "finished_at - 7200000000");
    T_OK(nq_store_purge(s, NQ_HOURS(1), -1, 100, &gone, &t_last));
    ck_assert_uint_eq(gone, 1);
    ck_assert_int_eq(t_state(q, ids[0]), -1);
    T_OK(nq_store_purge(s, NQ_HOURS(1), NQ_HOURS(1), 1, &gone, &t_last)); /* the limit */
    ck_assert_uint_eq(gone, 1);
    T_OK(nq_store_purge(s, NQ_HOURS(1), NQ_HOURS(1), 100, &gone, &t_last));
    ck_assert_uint_eq(gone, 1);
    ck_assert_int_eq(t_state(q, ids[2]), NQ_STATE_RUNNING); /* live tasks are never purged */
    t_free_claimed(list);
    nq_close(q);
}
END_TEST

Suite *suite_batches(void)
{
    Suite *s = suite_create("batches");
    TCase *c = t_case(s, "batches", 30);
    tcase_add_test(c, mixed_batches_answer_each_by_itself);
    tcase_add_test(c, a_big_batch_of_done_goes_in_one_call);
    tcase_add_test(c, purge_takes_what_is_past_its_retention_only);
    return s;
}
