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

START_TEST(defaults_are_the_same_alone_and_beside_others)
{
    /* Alone, the columns may be left out of the INSERT; beside the second one they are named. */
    nq_task_spec specs[] = {*NQ_TASK(.type = "t", NQ_BYTES("b")),
                            *NQ_TASK(.type = "t", NQ_BYTES("c"), .queue = "other", .priority = 5,
                                     .max_retries = NQ_ZERO, .timeout_us = NQ_SECONDS(7),
                                     .run_at_us = NQ_SECONDS(100000000)),
                            *NQ_TASK(.type = "t", NQ_BYTES("d"), .delay_us = NQ_HOURS(1))};
    nq_id ids[3];
    nq *q = t_open();
    const nq_id alone = T_ADD(q, .type = "t", NQ_BYTES("a"));
    const nq_id delayed = T_ADD(q, .type = "t", NQ_BYTES("e"), .delay_us = NQ_HOURS(1));
    T_OK(nq_enqueue_many(q, NQ_OWN_TX, specs, 3, ids, NULL, &t_last));
    const int64_t now = t_now(q);
    const struct {
        nq_id id;
        const char *queue;
        int priority;
        unsigned retries;
        int64_t timeout_us, run_at_us;
    } want[] = {{alone, "default", 0, 10, NQ_SECONDS(60), now},
                {ids[0], "default", 0, 10, NQ_SECONDS(60), now},
                {delayed, "default", 0, 10, NQ_SECONDS(60), now + NQ_HOURS(1)},
                {ids[2], "default", 0, 10, NQ_SECONDS(60), now + NQ_HOURS(1)},
                {ids[1], "other", 5, 0, NQ_SECONDS(7), NQ_SECONDS(100000000)}};
    for (size_t i = 0; i < 5; i++) {
        t_task t;
        T_OK(t_get(q, want[i].id, &t));
        ck_assert_str_eq(t.info.queue, want[i].queue);
        ck_assert_int_eq(t.info.priority, want[i].priority);
        ck_assert_uint_eq(t.info.max_retries, want[i].retries);
        ck_assert_int_eq(t.info.timeout_us, want[i].timeout_us);
        ck_assert_int_le(t.info.run_at_us, want[i].run_at_us);
        ck_assert_int_ge(t.info.run_at_us, want[i].run_at_us - NQ_SECONDS(10) * T_SLOW_FACTOR);
        t_task_free(&t);
    }
    nq_close(q);
}
END_TEST

/* ---- What piggybacks on a claim ---- */

struct batches_piggyback {
    nq *q;
    nq_claimer *claimer;
    nq_claimed *held;
    nq_outcome outcomes[5];
    nq_outcome *list[5];
    nq_piggyback piggyback;
};

/* Five tasks that run and have ended; the lease of the third was lost. More of them wait. */
static void batches_piggyback_new(struct batches_piggyback *b, int waiting)
{
    size_t n = 0, i = 0;
    memset(b, 0, sizeof *b);
    b->q = t_open();
    for (int k = 0; k < 5 + waiting; k++)
        T_ADD(b->q, .type = "t", .unique = NQ_UNIQUE_NONE);
    T_OK(nq_claimer_new(&b->claimer, nq_store_of(b->q), "default", NULL, 0, &t_last));
    b->held = t_claim(b->q, NQ_LEASE(1, 1), 5, &n);
    ck_assert_uint_eq(n, 5);
    for (const nq_claimed *c = b->held; c; c = c->next, i++) {
        b->outcomes[i] = (nq_outcome){.id = c->task.id, .lease = c->lease + (i == 2), .result = 1};
        b->list[i] = &b->outcomes[i];
    }
    b->piggyback = (nq_piggyback){.outcomes = b->list, .n = 5};
}

static void batches_piggyback_free(struct batches_piggyback *b)
{
    t_free_claimed(b->held);
    nq_claimer_free(b->claimer);
    nq_close(b->q);
}

/* They ended with the claim; or nothing was, and they still run. */
static void batches_piggybacked(struct batches_piggyback *b)
{
    for (int i = 0; i < 5; i++) {
        if (b->piggyback.piggybacked == NQ_PIGGYBACKED)
            ck_assert_int_eq(b->outcomes[i].result, i == 2 ? NQ_ELEASE : NQ_OK);
        ck_assert_int_eq(t_state(b->q, b->outcomes[i].id),
                         b->piggyback.piggybacked == NQ_PIGGYBACKED && i != 2 ? -1 : NQ_STATE_RUNNING);
    }
}

START_TEST(completions_piggyback_on_a_claim)
{
    struct batches_piggyback b;
    nq_claimed *list = NULL;
    size_t n = 0;
    int64_t wait = 0;
    batches_piggyback_new(&b, 3);
    T_OK(nq_claimer_claim(b.claimer, NQ_LEASE(1, 2), 2, &b.piggyback, &list, &n, &wait, &t_last));
    ck_assert_uint_eq(n, 2);
    ck_assert_int_eq(b.piggyback.piggybacked,
                     nq_store_piggybacks(nq_store_of(b.q), 2) ? NQ_PIGGYBACKED : NQ_PIGGYBACKED_NO);
    batches_piggybacked(&b);
    t_free_claimed(list);
    batches_piggyback_free(&b);
}
END_TEST

START_TEST(completions_are_not_lost_when_nothing_is_due)
{
    struct batches_piggyback b;
    nq_claimed *list = NULL;
    size_t n = 9;
    int64_t wait = 0;
    batches_piggyback_new(&b, 0);
    T_OK(nq_claimer_claim(b.claimer, NQ_LEASE(1, 2), 2, &b.piggyback, &list, &n, &wait, &t_last));
    ck_assert_uint_eq(n, 0);
    ck_assert_int_ne(b.piggyback.piggybacked, NQ_PIGGYBACKED_UNKNOWN);
    batches_piggybacked(&b);
    batches_piggyback_free(&b);
}
END_TEST

Suite *suite_batches(void)
{
    Suite *s = suite_create("batches");
    TCase *c = t_case(s, "batches", 30);
    tcase_add_test(c, mixed_batches_answer_each_by_itself);
    tcase_add_test(c, a_big_batch_of_done_goes_in_one_call);
    tcase_add_test(c, defaults_are_the_same_alone_and_beside_others);
    tcase_add_test(c, completions_piggyback_on_a_claim);
    tcase_add_test(c, completions_are_not_lost_when_nothing_is_due);
    tcase_add_test(c, purge_takes_what_is_past_its_retention_only);
    return s;
}
