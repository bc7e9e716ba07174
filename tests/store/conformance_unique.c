/* SPDX-License-Identifier: MIT */
/* Unique keys: at most one live task per key, and a duplicate answers with the id of the live one. */
#include "suites.h"

static int unique_add(nq *q, const nq_task_spec *task, nq_id *id)
{
    return nq_enqueue(q, NQ_OWN_TX, task, id, &t_last);
}

START_TEST(a_duplicate_answers_the_live_id)
{
    nq *q = t_open();
    nq_id first = T_ADD(q, .type = "email", NQ_BYTES("{\"to\":1}"));
    nq_id id = 0;
    T_ANSWERS(unique_add(q, NQ_TASK(.type = "email", NQ_BYTES("{\"to\":1}")), &id), NQ_DUPLICATE);
    ck_assert_int_eq(id, first);
    ck_assert(!t_last.transaction_lost);
    /* In another queue, with another schedule, it is the same key. */
    id = 0;
    T_ANSWERS(
        unique_add(q, NQ_TASK(.type = "email", NQ_BYTES("{\"to\":1}"), .queue = "other", .delay_us = 5), &id),
        NQ_DUPLICATE);
    ck_assert_int_eq(id, first);
    ck_assert_int_eq(nq_enqueue(q, NQ_OWN_TX, NQ_TASK(.type = "email", NQ_BYTES("{\"to\":1}")), NULL, NULL),
                     NQ_DUPLICATE);
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_tasks"), 1);
    nq_close(q);
}
END_TEST

START_TEST(type_and_payload_both_count_and_are_length_delimited)
{
    nq *q = t_open();
    T_ADD(q, .type = "a", NQ_BYTES("bc"));
    T_ADD(q, .type = "ab", NQ_BYTES("c"));
    T_ADD(q, .type = "abc");
    T_ADD(q, .type = "a", NQ_BYTES("bc\0"));
    T_ADD(q, .type = "a", NQ_BYTES("\0bc"));
    T_ADD(q, .type = "a", NQ_BYTES("BC"));
    T_ADD(q, .type = "A", NQ_BYTES("bc"));
    T_ADD(q, .type = "a", NQ_BYTES("bc "));
    T_ADD(q, .type = "a ", NQ_BYTES("bc"));
    T_ADD(q, .type = "ä", NQ_BYTES("bc"));
    T_ADD(q, .type = "a", NQ_BYTES("1"));
    T_ADD(q, .type = "a", NQ_BYTES("1.0"));
    nq_close(q);
}
END_TEST

START_TEST(unique_data_stands_in_the_payloads_place)
{
    nq *q = t_open();
    nq_id first = T_ADD(q, .type = "t", NQ_BYTES("one"), .unique = NQ_UNIQUE_DATA, .unique_data = "k\0'",
                        .unique_size = 3);
    nq_id id = 0;
    T_ANSWERS(unique_add(q,
                         NQ_TASK(.type = "t", NQ_BYTES("two"), .unique = NQ_UNIQUE_DATA,
                                 .unique_data = "k\0'", .unique_size = 3),
                         &id),
              NQ_DUPLICATE);
    ck_assert_int_eq(id, first);
    T_ADD(q, .type = "t", NQ_BYTES("two"), .unique = NQ_UNIQUE_DATA, .unique_data = "k\0\"",
          .unique_size = 3);
    T_ADD(q, .type = "t2", NQ_BYTES("two"), .unique = NQ_UNIQUE_DATA, .unique_data = "k\0'",
          .unique_size = 3);
    /* Data equal to a payload is the same key as that payload. */
    nq_id by_data = T_ADD(q, .type = "p", NQ_BYTES("zzz"), .unique = NQ_UNIQUE_DATA, .unique_data = "x",
                          .unique_size = 1);
    T_ANSWERS(unique_add(q, NQ_TASK(.type = "p", NQ_BYTES("x")), &id), NQ_DUPLICATE);
    ck_assert_int_eq(id, by_data);
    /* Numbers in text are text. */
    T_ADD(q, .type = "n", .unique = NQ_UNIQUE_DATA, .unique_data = "1", .unique_size = 1);
    T_ADD(q, .type = "n", NQ_BYTES("p"), .unique = NQ_UNIQUE_DATA, .unique_data = "1.0", .unique_size = 3);
    T_ADD(q, .type = "n", NQ_BYTES("q"));
    nq_close(q);
}
END_TEST

START_TEST(without_uniqueness_any_number_may_live)
{
    nq *q = t_open();
    for (int i = 0; i < 3; i++)
        T_ADD(q, .type = "t", NQ_BYTES("same"), .unique = NQ_UNIQUE_NONE);
    /* Those that are not unique do not bar one that is, nor the other way round. */
    T_ADD(q, .type = "t", NQ_BYTES("same"));
    T_ADD(q, .type = "t", NQ_BYTES("same"), .unique = NQ_UNIQUE_NONE);
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_tasks"), 5);
    nq_close(q);
}
END_TEST

START_TEST(a_running_task_keeps_its_key_until_it_ends)
{
    nq *q = t_open();
    static const enum nq_outcome_kind ends[] = {NQ_OUT_DONE, NQ_OUT_DEAD};
    for (uint64_t i = 0; i < 2; i++) {
        nq_id first = T_ADD(q, .type = "t");
        nq_claimed *c = t_claim_one(q, NQ_LEASE(1, 1 + i));
        nq_id id = 0;
        T_ANSWERS(unique_add(q, NQ_TASK(.type = "t"), &id), NQ_DUPLICATE);
        ck_assert_int_eq(id, first);
        ck_assert_int_eq(t_finish(q, c, ends[i], 0, ends[i] == NQ_OUT_DEAD ? "no" : NULL), NQ_OK);
        t_free_claimed(c);
        nq_id second = T_ADD(q, .type = "t");
        ck_assert_int_gt(second, first);
        T_OK(nq_cancel(q, second, &t_last));
    }
    T_ADD(q, .type = "t"); /* a cancelled one holds no key either */
    nq_close(q);
}
END_TEST

START_TEST(a_retried_snoozed_or_released_task_keeps_its_key)
{
    static const enum nq_outcome_kind kinds[] = {NQ_OUT_RETRY, NQ_OUT_SNOOZE, NQ_OUT_RELEASE};
    nq *q = t_open();
    nq_id first = T_ADD(q, .type = "t");
    for (uint64_t i = 0; i < 3; i++) {
        nq_claimed *c = t_claim_one(q, NQ_LEASE(1, 1 + i));
        ck_assert_int_eq(t_finish(q, c, kinds[i], 0, kinds[i] == NQ_OUT_RETRY ? "e" : NULL), NQ_OK);
        t_free_claimed(c);
        nq_id id = 0;
        T_ANSWERS(unique_add(q, NQ_TASK(.type = "t"), &id), NQ_DUPLICATE);
        ck_assert_int_eq(id, first);
    }
    nq_close(q);
}
END_TEST

START_TEST(repeats_within_one_call_answer_the_first)
{
    nq *q = t_open();
    nq_id live = T_ADD(q, .type = "t", NQ_BYTES("live"));
    nq_task_spec specs[] = {
        *NQ_TASK(.type = "t", NQ_BYTES("1")),
        *NQ_TASK(.type = "t", NQ_BYTES("live")),
        *NQ_TASK(.type = "t", NQ_BYTES("1")),
        *NQ_TASK(.type = "t", NQ_BYTES("2")),
        *NQ_TASK(.type = "t", NQ_BYTES("1"), .unique = NQ_UNIQUE_NONE),
        *NQ_TASK(.type = "t", NQ_BYTES("1")),
        *NQ_TASK(.type = "t", NQ_BYTES("live")),
        *NQ_TASK(.type = "t", NQ_BYTES("9"), .unique = NQ_UNIQUE_DATA, .unique_data = "2", .unique_size = 1),
    };
    nq_id ids[8] = {0};
    int results[8];
    T_OK(nq_enqueue_many(q, NQ_OWN_TX, specs, 8, ids, results, &t_last));
    const int expected[] = {NQ_OK, NQ_DUPLICATE, NQ_DUPLICATE, NQ_OK,
                            NQ_OK, NQ_DUPLICATE, NQ_DUPLICATE, NQ_DUPLICATE};
    for (int i = 0; i < 8; i++)
        ck_assert_msg(results[i] == expected[i], "%d: %d", i, results[i]);
    ck_assert_int_eq(ids[1], live);
    ck_assert_int_eq(ids[6], live);
    ck_assert_int_eq(ids[2], ids[0]);
    ck_assert_int_eq(ids[5], ids[0]);
    ck_assert_int_eq(ids[7], ids[3]);
    ck_assert_int_ne(ids[4], ids[0]);
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_tasks"), 4);
    /* Each new id names the task with its own payload. */
    t_task t;
    ck_assert_int_eq(t_get(q, ids[3], &t), NQ_OK);
    ck_assert_str_eq((char *)t.payload, "2");
    t_task_free(&t);
    nq_close(q);
}
END_TEST

START_TEST(many_with_a_duplicate_in_every_chunk)
{
    enum { N = 1200 };
    static nq_task_spec specs[N];
    static char payloads[N][8];
    static nq_id ids[N], live[N];
    static int results[N];
    nq *q = t_open();
    for (int i = 0; i < N; i++) {
        int len = snprintf(payloads[i], sizeof payloads[i], "%d", i);
        specs[i] = *NQ_TASK(.type = "t", .payload = payloads[i], .payload_size = (size_t)len);
        if (i % 97 == 0)
            live[i] = t_add(q, &specs[i]);
    }
    T_OK(nq_enqueue_many(q, NQ_OWN_TX, specs, N, ids, results, &t_last));
    for (int i = 0; i < N; i++) {
        ck_assert_int_eq(results[i], i % 97 == 0 ? NQ_DUPLICATE : NQ_OK);
        if (live[i])
            ck_assert_int_eq(ids[i], live[i]);
        char *payload = i % 50 == 0 ? t_text(t_side(), "SELECT payload FROM nanoq_tasks WHERE id = %lld",
                                             (long long)ids[i])
                                    : NULL;
        if (payload)
            ck_assert_str_eq(payload, payloads[i]);
        free(payload);
    }
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_tasks"), N);
    nq_close(q);
}
END_TEST

struct unique_race {
    nq *q;
    nq_id winner, seen;
    int wins;
};

static void *unique_racer(void *arg)
{
    struct unique_race *r = arg;
    nq_err err;
    int rc = nq_enqueue(r->q, NQ_OWN_TX, NQ_TASK(.type = "race", NQ_BYTES("same")), &r->seen, &err);
    ck_assert_msg(rc >= 0, "%s", err.message);
    r->wins = rc == NQ_OK;
    return NULL;
}

START_TEST(of_sixteen_racers_exactly_one_wins)
{
    nq *q = t_open();
    for (int round = 0; round < 5; round++) {
        struct unique_race racers[16];
        pthread_t threads[16];
        for (int i = 0; i < 16; i++) {
            racers[i] = (struct unique_race){.q = q};
            t_thread(&threads[i], unique_racer, &racers[i]);
        }
        int wins = 0;
        for (int i = 0; i < 16; i++) {
            pthread_join(threads[i], NULL);
            wins += racers[i].wins;
        }
        ck_assert_int_eq(wins, 1);
        ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_tasks"), 1);
        nq_id live = t_sql("SELECT id FROM nanoq_tasks");
        for (int i = 0; i < 16; i++)
            ck_assert_int_eq(racers[i].seen, live);
        T_OK(nq_delete(q, live, &t_last));
    }
    nq_close(q);
}
END_TEST

static void *unique_batch_racer(void *arg)
{
    struct unique_race *r = arg;
    nq_task_spec specs[60];
    char payloads[60][8];
    int results[60];
    nq_err err;
    uint64_t seed = (uint64_t)r->seen * 7919 + 13;
    for (int i = 0; i < 60; i++) { /* in an order of its own: the classic way to deadlock */
        int len = snprintf(payloads[i], sizeof payloads[i], "%d", (int)(t_rand(&seed) % 50));
        specs[i] = *NQ_TASK(.type = "b", .payload = payloads[i], .payload_size = (size_t)len);
    }
    int rc = nq_enqueue_many(r->q, NQ_OWN_TX, specs, 60, NULL, results, &err);
    ck_assert_msg(rc == NQ_OK, "%s", err.message);
    for (int i = 0; i < 60; i++)
        r->wins += results[i] == NQ_OK;
    return NULL;
}

START_TEST(racing_batches_leave_one_live_task_per_key)
{
    nq *q = t_open();
    struct unique_race racers[8];
    pthread_t threads[8];
    int wins = 0;
    for (int i = 0; i < 8; i++) {
        racers[i] = (struct unique_race){.q = q, .seen = i + 1};
        t_thread(&threads[i], unique_batch_racer, &racers[i]);
    }
    for (int i = 0; i < 8; i++) {
        pthread_join(threads[i], NULL);
        wins += racers[i].wins;
    }
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_tasks"), wins);
    ck_assert_int_eq(t_sql("SELECT COUNT(DISTINCT payload) FROM nanoq_tasks"), wins);
    nq_close(q);
}
END_TEST

Suite *suite_unique(void)
{
    Suite *s = suite_create("unique");
    TCase *c = t_case(s, "unique", 30);
    tcase_add_test(c, a_duplicate_answers_the_live_id);
    tcase_add_test(c, type_and_payload_both_count_and_are_length_delimited);
    tcase_add_test(c, unique_data_stands_in_the_payloads_place);
    tcase_add_test(c, without_uniqueness_any_number_may_live);
    tcase_add_test(c, a_running_task_keeps_its_key_until_it_ends);
    tcase_add_test(c, a_retried_snoozed_or_released_task_keeps_its_key);
    tcase_add_test(c, repeats_within_one_call_answer_the_first);
    tcase_add_test(c, many_with_a_duplicate_in_every_chunk);
    tcase_add_test(c, of_sixteen_racers_exactly_one_wins);
    tcase_add_test(c, racing_batches_leave_one_live_task_per_key);
    return s;
}
