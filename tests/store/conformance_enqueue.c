/* SPDX-License-Identifier: MIT */
/* Enqueueing: defaults, ids, schedules, many at once, and payloads byte for byte. */
#include "suites.h"

static void enqueue_expect_payload(nq *q, nq_id id, const void *bytes, size_t n)
{
    t_task t;
    ck_assert_int_eq(t_get(q, id, &t), NQ_OK);
    ck_assert_uint_eq(t.info.payload_size, n);
    ck_assert_int_eq(memcmp(t.payload, bytes, n), 0);
    ck_assert_int_eq(t.payload[n], 0);
    t_task_free(&t);
}

START_TEST(a_task_has_the_documented_defaults)
{
    nq *q = t_open();
    int64_t before = t_now(q);
    nq_id id = T_ADD(q, .type = "email");
    int64_t after = t_now(q);
    t_task t;
    ck_assert_int_eq(t_get(q, id, &t), NQ_OK);
    ck_assert_int_eq(t.info.id, id);
    ck_assert_int_eq(t.info.state, NQ_STATE_WAITING);
    ck_assert_str_eq(t.queue, "default");
    ck_assert_str_eq(t.type, "email");
    ck_assert_uint_eq(t.info.payload_size, 0);
    ck_assert_str_eq(t.error, "");
    ck_assert_str_eq(t.worker, "");
    ck_assert_int_eq(t.info.priority, 0);
    ck_assert_uint_eq(t.info.attempts, 0);
    ck_assert_uint_eq(t.info.crashes, 0);
    ck_assert_uint_eq(t.info.max_retries, 10);
    ck_assert_uint_eq(t.info.generation, 0);
    ck_assert_int_eq(t.info.timeout_us, NQ_SECONDS(60));
    ck_assert_int_ge(t.info.created_at_us, before);
    ck_assert_int_le(t.info.created_at_us, after);
    ck_assert_int_ge(t.info.run_at_us, before);
    ck_assert_int_le(t.info.run_at_us, after);
    ck_assert_int_eq(t.info.claimed_at_us, 0);
    ck_assert_int_eq(t.info.finished_at_us, 0);
    t_task_free(&t);
    nq_close(q);
}
END_TEST

START_TEST(every_field_is_stored)
{
    nq *q = t_open();
    nq_id id = T_ADD(q, .type = "größe/π", NQ_BYTES("{}"), .queue = "a.b:c/d-e_F9", .priority = -100,
                     .timeout_us = NQ_SECONDS(1) + 1, .max_retries = NQ_MAX_RETRIES);
    t_task t;
    ck_assert_int_eq(t_get(q, id, &t), NQ_OK);
    ck_assert_str_eq(t.type, "größe/π");
    ck_assert_str_eq(t.queue, "a.b:c/d-e_F9");
    ck_assert_int_eq(t.info.priority, -100);
    ck_assert_int_eq(t.info.timeout_us, NQ_MS(1001)); /* rounded up to ms */
    ck_assert_uint_eq(t.info.max_retries, NQ_MAX_RETRIES);
    t_task_free(&t);
    id = T_ADD(q, .type = "x", .priority = 100, .max_retries = NQ_ZERO, .timeout_us = NQ_MAX_DURATION);
    ck_assert_int_eq(t_get(q, id, &t), NQ_OK);
    ck_assert_int_eq(t.info.priority, 100);
    ck_assert_uint_eq(t.info.max_retries, 0);
    ck_assert_int_eq(t.info.timeout_us, NQ_MAX_DURATION);
    t_task_free(&t);
    nq_close(q);
}
END_TEST

START_TEST(names_may_be_as_long_as_the_limits)
{
    char type[NQ_MAX_TYPE + 1], queue[NQ_MAX_QUEUE + 1];
    memset(type, 't', NQ_MAX_TYPE);
    memset(queue, 'q', NQ_MAX_QUEUE);
    type[NQ_MAX_TYPE] = queue[NQ_MAX_QUEUE] = '\0';
    nq *q = t_open();
    nq_id id = T_ADD(q, .type = type, .queue = queue);
    t_task t;
    ck_assert_int_eq(t_get(q, id, &t), NQ_OK);
    ck_assert_str_eq(t.type, type);
    ck_assert_str_eq(t.queue, queue);
    t_task_free(&t);
    nq_close(q);
}
END_TEST

START_TEST(ids_grow_and_are_never_used_again)
{
    nq *q = t_open();
    nq_id last = 0;
    for (int i = 0; i < 5; i++) {
        nq_id id = T_ADD(q, .type = "x", .unique = NQ_UNIQUE_NONE);
        ck_assert_int_gt(id, last);
        last = id;
    }
    T_OK(nq_delete(q, last, &t_last));
    ck_assert_int_gt(T_ADD(q, .type = "x", .unique = NQ_UNIQUE_NONE), last);
    nq_close(q);
}
END_TEST

START_TEST(delay_and_run_at_are_on_the_databases_clock)
{
    nq *q = t_open();
    int64_t before = t_now(q);
    nq_id later = T_ADD(q, .type = "later", .delay_us = NQ_HOURS(2));
    int64_t after = t_now(q);
    t_task t;
    ck_assert_int_eq(t_get(q, later, &t), NQ_OK);
    ck_assert_int_ge(t.info.run_at_us, before + NQ_HOURS(2));
    ck_assert_int_le(t.info.run_at_us, after + NQ_HOURS(2));
    t_task_free(&t);

    const int64_t when[] = {1, 1700000000123456, before + NQ_DAYS(300) + 7, 4102444799999999};
    for (size_t i = 0; i < sizeof when / sizeof *when; i++) {
        nq_id id = T_ADD(q, .type = "at", .run_at_us = when[i], .unique = NQ_UNIQUE_NONE);
        ck_assert_int_eq(t_get(q, id, &t), NQ_OK);
        /* A SQLite table takes no time before that, which is one in seconds or milliseconds. */
        ck_assert_int_eq(t.info.run_at_us,
                         T_SQLITE && when[i] < NQ_SECONDS(10000000) ? NQ_SECONDS(10000000) : when[i]);
        t_task_free(&t);
    }
    nq_id far = T_ADD(q, .type = "far", .delay_us = NQ_MAX_DURATION);
    ck_assert_int_eq(t_get(q, far, &t), NQ_OK);
    ck_assert_int_ge(t.info.run_at_us, before + NQ_MAX_DURATION);
    t_task_free(&t);
    nq_close(q);
}
END_TEST

START_TEST(payloads_come_back_byte_for_byte)
{
    nq *q = t_open();
    unsigned char all[512];
    for (size_t i = 0; i < sizeof all; i++)
        all[i] = (unsigned char)(i % 256);
    enqueue_expect_payload(q, T_ADD(q, .type = "all", .payload = all, .payload_size = sizeof all), all,
                           sizeof all);
    static const char *const awkward[] = {
        "",     "\0x",  "a\0b", "\\",        "'\"`;--", "%s%n", "{\"b\":1,\"a\":2}", "\xff\xfe\xed\xa0\x80",
        "\r\n", "\x1a", "NULL", "  spaces ", "\\0\\n",  "?",    "{tasks}{now}"};
    static const size_t sizes[] = {0, 2, 3, 1, 6, 4, 13, 5, 2, 1, 4, 9, 4, 1, 12};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        nq_id id = T_ADD(q, .type = "awkward", .payload = awkward[i], .payload_size = sizes[i]);
        enqueue_expect_payload(q, id, awkward[i], sizes[i]);
    }
    nq_close(q);
}
END_TEST

/* A node of a cluster that comes or goes changes the step between ids, in open sessions too. */
START_TEST(ids_are_told_right_when_their_step_changes)
{
    static const char *const keys[] = {"a", "b", "c", "d"};
    nq *q = t_open();
    T_ADD(q, .type = "before");
    t_run(t_side(), "SET GLOBAL auto_increment_increment = 7");
    nq_task_spec specs[4];
    nq_id ids[4];
    for (int i = 0; i < 4; i++)
        specs[i] = *NQ_TASK(.type = "t", .payload = keys[i], .payload_size = 1);
    T_OK(nq_enqueue_many(q, NQ_OWN_TX, specs, 4, ids, NULL, &t_last));
    for (int i = 0; i < 4; i++)
        ck_assert_int_eq(t_sql("SELECT id FROM nanoq_tasks WHERE payload = '%s'", keys[i]), ids[i]);
    t_run(t_side(), "SET GLOBAL auto_increment_increment = 3"); /* of the three nodes */
    nq_close(q);
}
END_TEST

START_TEST(random_payloads_come_back_through_a_claim)
{
    uint64_t seed = t_seed();
    nq *q = t_open();
    enum { N = 40 };
    static unsigned char bytes[N][3000];
    static nq_task_spec specs[N];
    size_t sizes[N];
    nq_id ids[N];
    for (size_t i = 0; i < N; i++) {
        sizes[i] = t_rand(&seed) % sizeof bytes[i];
        for (size_t j = 0; j < sizes[i]; j++)
            bytes[i][j] = (unsigned char)t_rand(&seed);
        specs[i] =
            *NQ_TASK(.type = "r", .payload = bytes[i], .payload_size = sizes[i], .unique = NQ_UNIQUE_NONE);
    }
    T_OK(nq_enqueue_many(q, NQ_OWN_TX, specs, N, ids, NULL, &t_last));
    size_t n = 0;
    nq_claimed *list = t_claim(q, NQ_LEASE(1, 1), N, &n);
    ck_assert_uint_eq(n, N);
    for (const nq_claimed *c = list; c; c = c->next) {
        size_t i = 0; /* not by counting: on a cluster there are gaps between the ids */
        while (i < N && ids[i] != c->task.id)
            i++;
        ck_assert_uint_lt(i, N);
        ck_assert_uint_eq(c->task.payload_size, sizes[i]);
        ck_assert_int_eq(memcmp(c->task.payload, bytes[i], sizes[i]), 0);
        ck_assert_int_eq(((const char *)c->task.payload)[sizes[i]], 0);
    }
    t_free_claimed(list);
    nq_close(q);
}
END_TEST

START_TEST(a_payload_of_the_limit_passes_and_one_byte_more_is_refused)
{
    nq *q = t_open();
    size_t n = NQ_DEFAULT_MAX_PAYLOAD;
    unsigned char *big = malloc(n + 1);
    ck_assert_ptr_nonnull(big);
    uint64_t seed = 42;
    for (size_t i = 0; i <= n; i++)
        big[i] = (unsigned char)t_rand(&seed);
    nq_id id = T_ADD(q, .type = "big", .payload = big, .payload_size = n);
    enqueue_expect_payload(q, id, big, n);
    T_FAILS(
        nq_enqueue(q, NQ_OWN_TX, NQ_TASK(.type = "big", .payload = big, .payload_size = n + 1), &id, &t_last),
        NQ_ETOOBIG);
    size_t got = 0;
    nq_claimed *c = t_claim(q, NQ_LEASE(1, 1), 1, &got);
    ck_assert_uint_eq(c->task.payload_size, n);
    ck_assert_int_eq(memcmp(c->task.payload, big, n), 0);
    t_free_claimed(c);
    free(big);
    nq_close(q);
}
END_TEST

START_TEST(many_get_consecutive_results_and_ids)
{
    nq *q = t_open();
    enum { N = 2345 };
    static nq_task_spec specs[N];
    static char payloads[N][16];
    static nq_id ids[N];
    static int results[N];
    for (int i = 0; i < N; i++) {
        int len = snprintf(payloads[i], sizeof payloads[i], "%d", i);
        specs[i] = *NQ_TASK(.type = "n", .payload = payloads[i], .payload_size = (size_t)len);
        results[i] = 99;
    }
    T_OK(nq_enqueue_many(q, NQ_OWN_TX, specs, N, ids, results, &t_last));
    for (int i = 0; i < N; i++) {
        ck_assert_int_eq(results[i], NQ_OK);
        if (i)
            ck_assert_int_gt(ids[i], ids[i - 1]);
    }
    for (int i = 0; i < N; i += 371)
        enqueue_expect_payload(q, ids[i], payloads[i], strlen(payloads[i]));
    ck_assert_uint_eq(t_count(q, NQ_STATE_WAITING), N);
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_tasks"), N);
    nq_close(q);
}
END_TEST

START_TEST(many_of_none_is_fine_and_many_with_big_payloads_are_split)
{
    nq *q = t_open();
    T_OK(nq_enqueue_many(q, NQ_OWN_TX, NULL, 0, NULL, NULL, &t_last));
    enum { N = 24 };
    nq_task_spec specs[N];
    char *big = calloc(1, 1 << 20);
    ck_assert_ptr_nonnull(big);
    for (int i = 0; i < N; i++)
        specs[i] =
            *NQ_TASK(.type = "big", .payload = big, .payload_size = (1 << 20), .unique = NQ_UNIQUE_NONE);
    nq_id ids[N];
    T_OK(nq_enqueue_many(q, NQ_OWN_TX, specs, N, ids, NULL, &t_last));
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_tasks WHERE LENGTH(payload) = 1048576"), N);
    free(big);
    nq_close(q);
}
END_TEST

START_TEST(one_bad_task_among_many_enqueues_nothing)
{
    nq *q = t_open();
    nq_task_spec specs[] = {*NQ_TASK(.type = "a"), *NQ_TASK(.type = "b", .queue = "no spaces"),
                            *NQ_TASK(.type = "c")};
    nq_id ids[3] = {7, 7, 7};
    int results[3] = {7, 7, 7};
    T_FAILS(nq_enqueue_many(q, NQ_OWN_TX, specs, 3, ids, results, &t_last), NQ_EINVAL);
    for (int i = 0; i < 3; i++) {
        ck_assert_int_eq(ids[i], 7);
        ck_assert_int_eq(results[i], 7);
    }
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_tasks"), 0);
    nq_close(q);
}
END_TEST

static void *enqueue_worker(void *arg)
{
    nq *q = arg;
    for (int i = 0; i < 25; i++) {
        nq_err err;
        int rc = nq_enqueue(q, NQ_OWN_TX, NQ_TASK(.type = "t", .unique = NQ_UNIQUE_NONE), NULL, &err);
        ck_assert_msg(rc == NQ_OK, "%s", err.message);
    }
    return NULL;
}

START_TEST(one_handle_serves_many_threads)
{
    nq *q = t_open();
    pthread_t threads[24];
    for (int i = 0; i < 24; i++)
        t_thread(&threads[i], enqueue_worker, q);
    for (int i = 0; i < 24; i++)
        pthread_join(threads[i], NULL);
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_tasks"), 24 * 25);
    nq_close(q);
}
END_TEST

/* Somebody gave one of the last ids. */
START_TEST(ids_that_are_used_up_are_told)
{
    static const char *const last[] = {"9223372036854775807", "18446744073709551614", "18446744073709551615",
                                       "4611686018427387903"};
    nq *q = t_open();
    nq_id ids[2];
    const nq_task_spec specs[] = {*NQ_TASK(.type = "t", NQ_BYTES("b")), *NQ_TASK(.type = "t", NQ_BYTES("c"))};
    t_sql("INSERT INTO nanoq_tasks (id, type, payload) VALUES (%s, 't', 'x')", last[T_SQLITE ? 3 : _i]);
    T_FAILS(nq_enqueue(q, NQ_OWN_TX, NQ_TASK(.type = "t", NQ_BYTES("a")), ids, &t_last), NQ_EFULL);
    ck_assert_ptr_nonnull(strstr(t_last.message, "used up"));
    T_FAILS(nq_enqueue_many(q, NQ_OWN_TX, specs, 2, ids, NULL, &t_last), NQ_EFULL);
    nq_close(q);
}
END_TEST

Suite *suite_enqueue(void)
{
    Suite *s = suite_create("enqueue");
    TCase *c = t_case(s, "enqueue", 30);
    tcase_add_test(c, a_task_has_the_documented_defaults);
    tcase_add_test(c, every_field_is_stored);
    tcase_add_test(c, names_may_be_as_long_as_the_limits);
    tcase_add_test(c, ids_grow_and_are_never_used_again);
    tcase_add_test(c, delay_and_run_at_are_on_the_databases_clock);
    tcase_add_test(c, payloads_come_back_byte_for_byte);
    tcase_add_test(c, random_payloads_come_back_through_a_claim);
    if (t_is_cluster)
        tcase_add_test(c, ids_are_told_right_when_their_step_changes);
    tcase_add_test(c, a_payload_of_the_limit_passes_and_one_byte_more_is_refused);
    tcase_add_test(c, many_get_consecutive_results_and_ids);
    tcase_add_test(c, many_of_none_is_fine_and_many_with_big_payloads_are_split);
    tcase_add_test(c, one_bad_task_among_many_enqueues_nothing);
    tcase_add_test(c, one_handle_serves_many_threads);
    tcase_add_loop_test(c, ids_that_are_used_up_are_told, 0, T_SQLITE ? 1 : 3);
    return s;
}
