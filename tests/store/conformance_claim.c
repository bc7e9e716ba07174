/* SPDX-License-Identifier: MIT */
/* Claiming: order, limits, disjoint sets, the cursor, filters and the time until the next task. */
#include "suites.h"

#include "../../src/store/sqlite/sqlite_driver.h"

static nq_claimer *claim_new(nq *q, const char *queue, const char *const types[], size_t ntypes)
{
    nq_claimer *c = NULL;
    T_OK(nq_claimer_new(&c, nq_store_of(q), queue, types, ntypes, &t_last));
    return c;
}

static nq_claimed *claim_now(nq_claimer *c, uint64_t lease, size_t limit, size_t *n, int64_t *wait_us)
{
    nq_claimed *list = NULL;
    T_OK(nq_claimer_claim(c, lease, limit, NULL, &list, n, wait_us, &t_last));
    size_t count = 0;
    for (const nq_claimed *t = list; t; t = t->next)
        count++;
    ck_assert_uint_eq(count, *n);
    ck_assert_uint_le(count, limit);
    return list;
}

START_TEST(nothing_due_claims_nothing_and_says_how_long)
{
    nq *q = t_open();
    nq_claimer *c = claim_new(q, "default", NULL, 0);
    size_t n = 9;
    int64_t wait = 0;
    ck_assert_ptr_null(claim_now(c, NQ_LEASE(1, 1), 10, &n, &wait));
    ck_assert_int_eq(wait, -1);
    T_ADD(q, .type = "later", .delay_us = NQ_MINUTES(10));
    T_ADD(q, .type = "sooner", .delay_us = NQ_MINUTES(5), .priority = 3);
    T_ADD(q, .type = "other", .delay_us = NQ_MINUTES(1), .queue = "other");
    /* What was claimed or ended is not waited for. */
    T_ADD(q, .type = "now");
    nq_claimed *list = claim_now(c, NQ_LEASE(1, 2), 10, &n, &wait);
    ck_assert_uint_eq(n, 1);
    t_free_claimed(list);
    list = claim_now(c, NQ_LEASE(1, 3), 10, &n, &wait);
    ck_assert_uint_eq(n, 0);
    ck_assert_int_gt(wait, NQ_MINUTES(4));
    ck_assert_int_le(wait, NQ_MINUTES(5));
    nq_claimer_free(c);
    nq_close(q);
}
END_TEST

START_TEST(a_claim_shows_the_task)
{
    nq *q = t_open();
    int64_t before = t_now(q);
    nq_id id = T_ADD(q, .type = "ty\xc3\xbc", NQ_BYTES("a\0b"), .priority = -5, .timeout_us = NQ_SECONDS(7),
                     .max_retries = 4);
    nq_claimed *c = t_claim_one(q, NQ_LEASE(3, 8));
    ck_assert_uint_eq(c->lease, NQ_LEASE(3, 8));
    ck_assert_int_eq(c->task.id, id);
    ck_assert_str_eq(c->task.queue, "default");
    ck_assert_str_eq(c->task.type, "ty\xc3\xbc");
    ck_assert_uint_eq(c->task.payload_size, 3);
    ck_assert_int_eq(memcmp(c->task.payload, "a\0b", 4), 0);
    ck_assert_int_eq(c->task.priority, -5);
    ck_assert_uint_eq(c->task.attempt, 1);
    ck_assert_uint_eq(c->task.max_retries, 4);
    ck_assert_uint_eq(c->task.crashes, 0);
    ck_assert_uint_eq(c->task.generation, 1);
    ck_assert_int_eq(c->task.timeout_us, NQ_SECONDS(7));
    ck_assert_int_ge(c->task.created_at_us, before);
    ck_assert_int_ge(c->task.run_at_us, before);
    ck_assert_ptr_null(c->task.last_error);
    t_task t;
    ck_assert_int_eq(t_get(q, id, &t), NQ_OK);
    ck_assert_int_eq(t.info.state, NQ_STATE_RUNNING);
    ck_assert_int_ge(t.info.claimed_at_us, before);
    ck_assert_uint_eq(t.info.generation, 1);
    t_task_free(&t);
    t_free_claimed(c);
    nq_close(q);
}
END_TEST

START_TEST(order_is_priority_then_run_at_then_id)
{
    nq *q = t_open();
    const int64_t base = t_now(q) - NQ_HOURS(1);
    static const struct {
        int priority;
        int64_t at;
    } given[] = {{5, 1}, {0, 3}, {0, 1}, {-7, 9}, {0, 2}, {5, 0}, {0, 1}, {100, 0}, {-100, 5}};
    static const int order[] = {8, 3, 2, 6, 4, 1, 5, 0, 7};
    nq_id ids[9];
    for (int i = 0; i < 9; i++)
        ids[i] = T_ADD(q, .type = "t", .priority = given[i].priority,
                       .run_at_us = base + NQ_SECONDS(given[i].at), .unique = NQ_UNIQUE_NONE);
    size_t n = 0;
    nq_claimed *list = t_claim(q, NQ_LEASE(1, 1), 4, &n); /* a limit in the middle of a priority */
    ck_assert_uint_eq(n, 4);
    int i = 0;
    for (const nq_claimed *c = list; c; c = c->next)
        ck_assert_int_eq(c->task.id, ids[order[i++]]);
    t_free_claimed(list);
    list = t_claim(q, NQ_LEASE(1, 2), 100, &n);
    ck_assert_uint_eq(n, 5);
    for (const nq_claimed *c = list; c; c = c->next)
        ck_assert_int_eq(c->task.id, ids[order[i++]]);
    t_free_claimed(list);
    nq_close(q);
}
END_TEST

START_TEST(queues_are_apart)
{
    nq *q = t_open();
    T_ADD(q, .type = "t", .queue = "a", .unique = NQ_UNIQUE_NONE);
    T_ADD(q, .type = "t", .queue = "A", .unique = NQ_UNIQUE_NONE);
    T_ADD(q, .type = "t", .queue = "a.", .unique = NQ_UNIQUE_NONE);
    size_t n = 0;
    nq_claimed *list = t_claim_queue(q, "a", NQ_LEASE(1, 1), 10, &n);
    ck_assert_uint_eq(n, 1);
    ck_assert_str_eq(list->task.queue, "a");
    t_free_claimed(list);
    t_free_claimed(t_claim_queue(q, "default", NQ_LEASE(1, 2), 10, &n));
    ck_assert_uint_eq(n, 0);
    nq_close(q);
}
END_TEST

START_TEST(a_type_filter_claims_only_its_types)
{
    nq *q = t_open();
    const char *const types[] = {"a", "it's", "\xc3\xa9"};
    for (int i = 0; i < 30; i++)
        T_ADD(q, .type = i % 3 == 0 ? "a" : i % 3 == 1 ? "it's" : "B", .unique = NQ_UNIQUE_NONE);
    T_ADD(q, .type = "A");
    T_ADD(q, .type = "\xc3\xa9");
    nq_claimer *c = claim_new(q, "default", types, 3);
    size_t n = 0, total = 0;
    int64_t wait = 0;
    for (uint64_t seq = 1; seq < 10; seq++) {
        nq_claimed *list = claim_now(c, NQ_LEASE(1, seq), 7, &n, &wait);
        for (const nq_claimed *t = list; t; t = t->next)
            ck_assert(!strcmp(t->task.type, "a") || !strcmp(t->task.type, "it's") ||
                      !strcmp(t->task.type, "\xc3\xa9"));
        total += n;
        t_free_claimed(list);
    }
    ck_assert_uint_eq(total, 21);
    nq_claimer_free(c);
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_tasks WHERE state = 0"), 11);
    nq_close(q);
}
END_TEST

START_TEST(a_delayed_task_is_not_early_by_the_databases_clock)
{
    nq *q = t_open();
    nq_claimer *c = claim_new(q, "default", NULL, 0);
    for (uint64_t round = 0; round < 3; round++) {
        nq_id id = T_ADD(q, .type = "t", .delay_us = NQ_MS(150), .unique = NQ_UNIQUE_NONE);
        t_task t;
        ck_assert_int_eq(t_get(q, id, &t), NQ_OK);
        size_t n = 0;
        int64_t wait = 0;
        int64_t limit = t_mono() + NQ_SECONDS(10);
        nq_claimed *list = NULL;
        for (uint64_t seq = 1; !list && t_mono() < limit; seq++) {
            list = claim_now(c, NQ_LEASE(1 + round, seq), 5, &n, &wait);
            if (!list)
                ck_assert_int_le(wait, NQ_MS(150)); /* and no longer than what is left */
        }
        ck_assert_ptr_nonnull(list);
        ck_assert_int_ge(t_now(q), t.info.run_at_us);
        t_task claimed;
        ck_assert_int_eq(t_get(q, id, &claimed), NQ_OK);
        ck_assert_int_ge(claimed.info.claimed_at_us, claimed.info.run_at_us);
        t_task_free(&claimed);
        t_task_free(&t);
        t_free_claimed(list);
    }
    nq_claimer_free(c);
    nq_close(q);
}
END_TEST

START_TEST(the_cursor_does_not_miss_an_earlier_task_that_comes_late)
{
    nq *q = t_open();
    const int64_t base = t_now(q) - NQ_HOURS(1);
    for (int i = 0; i < 60; i++)
        T_ADD(q, .type = "t", .run_at_us = base + NQ_SECONDS(i), .unique = NQ_UNIQUE_NONE);
    nq_claimer *c = claim_new(q, "default", NULL, 0);
    size_t n = 0;
    int64_t wait = 0;
    t_free_claimed(claim_now(c, NQ_LEASE(1, 1), 20, &n, &wait)); /* the cursor stands in the middle now */
    ck_assert_uint_eq(n, 20);
    nq_id late = T_ADD(q, .type = "late", .run_at_us = base - NQ_HOURS(1));
    bool found = false;
    uint64_t seq = 2;
    for (; !found && seq < 100; seq++) {
        nq_claimed *list = claim_now(c, NQ_LEASE(1, seq), 20, &n, &wait);
        for (const nq_claimed *t = list; t; t = t->next)
            found = found || t->task.id == late;
        if (n < 20)
            ck_assert_msg(found || n == 0, "a short batch that missed a due task");
        t_free_claimed(list);
    }
    ck_assert(found);
    ck_assert_uint_le(seq, 6); /* 60 rows in twenties, and one restart at the head */
    nq_claimer_free(c);
    nq_close(q);
}
END_TEST

START_TEST(a_released_task_is_found_again_behind_the_cursor)
{
    nq *q = t_open();
    for (int i = 0; i < 10; i++)
        T_ADD(q, .type = "t", .unique = NQ_UNIQUE_NONE);
    nq_claimer *c = claim_new(q, "default", NULL, 0);
    size_t n = 0;
    int64_t wait = 0;
    nq_claimed *list = claim_now(c, NQ_LEASE(1, 1), 10, &n, &wait);
    ck_assert_uint_eq(n, 10);
    ck_assert_int_eq(t_finish(q, list, NQ_OUT_RELEASE, 0, NULL), NQ_OK);
    nq_id id = list->task.id;
    t_free_claimed(list);
    list = claim_now(c, NQ_LEASE(1, 2), 10, &n, &wait);
    ck_assert_uint_eq(n, 1);
    ck_assert_int_eq(list->task.id, id);
    ck_assert_uint_eq(list->task.generation, 2);
    ck_assert_uint_eq(list->task.attempt, 1);
    t_free_claimed(list);
    nq_claimer_free(c);
    nq_close(q);
}
END_TEST

enum { CLAIM_TASKS = 1500, CLAIM_THREADS = 6 };
struct claim_thread {
    nq *q;
    uint64_t worker;
    nq_id *mine;
    size_t n;
};

static void *claim_all(void *arg)
{
    struct claim_thread *t = arg;
    nq_err err;
    nq_claimer *c = NULL;
    int idle = 0;
    ck_assert_int_eq(nq_claimer_new(&c, nq_store_of(t->q), "default", NULL, 0, &err), NQ_OK);
    for (uint64_t seq = 1; idle < 3; seq++) {
        nq_claimed *list = NULL;
        size_t n = 0;
        int64_t wait;
        int rc = nq_claimer_claim(c, NQ_LEASE(t->worker, seq), 1 + seq % 23, NULL, &list, &n, &wait, &err);
        ck_assert_msg(rc == NQ_OK, "%s", err.message);
        idle = n == 0 ? idle + 1 : 0;
        for (const nq_claimed *one = list; one; one = one->next)
            t->mine[t->n++] = one->task.id;
        t_free_claimed(list);
    }
    nq_claimer_free(c);
    return NULL;
}

static int claim_compare(const void *a, const void *b)
{
    nq_id x = *(const nq_id *)a, y = *(const nq_id *)b;
    return (x > y) - (x < y);
}

START_TEST(claimers_at_once_get_disjoint_sets_and_leave_nothing)
{
    nq *q = t_open(), *other = t_open();
    static nq_task_spec specs[CLAIM_TASKS];
    static nq_id ids[CLAIM_THREADS][CLAIM_TASKS], all[CLAIM_TASKS * 2];
    for (int i = 0; i < CLAIM_TASKS; i++)
        specs[i] = *NQ_TASK(.type = "t", .priority = i % 3, .unique = NQ_UNIQUE_NONE);
    T_OK(nq_enqueue_many(q, NQ_OWN_TX, specs, CLAIM_TASKS, NULL, NULL, &t_last));
    struct claim_thread threads[CLAIM_THREADS];
    pthread_t handles[CLAIM_THREADS];
    size_t total = 0;
    for (int i = 0; i < CLAIM_THREADS; i++) {
        threads[i] = (struct claim_thread){i % 2 ? q : other, (uint64_t)i + 1, ids[i], 0};
        t_thread(&handles[i], claim_all, &threads[i]);
    }
    for (int i = 0; i < CLAIM_THREADS; i++) {
        pthread_join(handles[i], NULL);
        ck_assert_uint_le(total + threads[i].n, CLAIM_TASKS);
        memcpy(all + total, ids[i], threads[i].n * sizeof *all);
        total += threads[i].n;
    }
    ck_assert_uint_eq(total, CLAIM_TASKS);
    qsort(all, total, sizeof *all, claim_compare);
    for (size_t i = 1; i < total; i++)
        ck_assert_int_ne(all[i], all[i - 1]);
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_tasks WHERE generation <> 1 OR state <> 1"), 0);
    nq_close(q);
    nq_close(other);
}
END_TEST

START_TEST(generation_counts_claims_and_is_never_reset)
{
    nq *q = t_open();
    nq_id id = T_ADD(q, .type = "t");
    static const enum nq_outcome_kind kinds[] = {NQ_OUT_RETRY, NQ_OUT_SNOOZE, NQ_OUT_RELEASE, NQ_OUT_DEAD};
    for (uint64_t i = 0; i < 4; i++) {
        nq_claimed *c = t_claim_one(q, NQ_LEASE(1, i + 1));
        ck_assert_uint_eq(c->task.generation, i + 1);
        ck_assert_int_eq(t_finish(q, c, kinds[i], 0, "e"), NQ_OK);
        t_free_claimed(c);
    }
    T_OK(nq_retry(q, id, &t_last));
    nq_claimed *c = t_claim_one(q, NQ_LEASE(1, 9));
    ck_assert_uint_eq(c->task.generation, 5);
    ck_assert_uint_eq(c->task.attempt, 1);
    t_free_claimed(c);
    nq_close(q);
}
END_TEST

START_TEST(a_named_task_is_claimed_if_it_is_due_and_free)
{
    nq *q = t_open();
    nq_claimer *c;
    size_t n = 0;
    int64_t wait = 0;
    nq_claimed *list = NULL;
    T_OK(nq_claimer_new(&c, nq_store_of(q), "default", NULL, 0, &t_last));
    const nq_id first = T_ADD(q, .type = "t", NQ_BYTES("1")), second = T_ADD(q, .type = "t", NQ_BYTES("2"));
    const nq_id later = T_ADD(q, .type = "t", NQ_BYTES("3"), .delay_us = NQ_HOURS(1));
    const nq_id other = T_ADD(q, .type = "t", NQ_BYTES("4"), .queue = "other");
    /* In the hands of a rival that does not go on: not waited for. */
    if (T_MYSQL) {
        t_begin(t_side());
        t_sql("SELECT id FROM nanoq_tasks WHERE id = %lld FOR UPDATE", (long long)first);
        nq_claimer_hint(c, first);
        T_OK(nq_claimer_claim(c, NQ_LEASE(1, 1), 1, NULL, &list, &n, &wait, &t_last));
        ck_assert_uint_eq(n, 1);
        ck_assert_int_eq(list->task.id, second);
        t_sql("ROLLBACK");
        nq_claimer_hint(c, first);
        t_free_claimed(list);
        T_OK(nq_claimer_claim(c, NQ_LEASE(1, 2), 1, NULL, &list, &n, &wait, &t_last));
    } else {
        nq_claimer_hint(c, first); /* it changes nothing there */
        T_OK(nq_claimer_claim(c, NQ_LEASE(1, 2), 2, NULL, &list, &n, &wait, &t_last));
    }
    ck_assert_int_eq(list->task.id, first);
    ck_assert_uint_eq(list->task.generation, 1);
    ck_assert_uint_eq(list->task.attempt, 1);
    ck_assert_uint_eq(list->lease, NQ_LEASE(1, 2));
    ck_assert_mem_eq(list->task.payload, "1", 2);
    t_free_claimed(list);
    const nq_id not [] = {first, later, other, 99999};
    for (size_t i = 0; i < 4; i++) {
        nq_claimer_hint(c, not [i]);
        T_OK(nq_claimer_claim(c, NQ_LEASE(1, 3 + i), 1, NULL, &list, &n, &wait, &t_last));
        ck_assert_uint_eq(n, 0);
        ck_assert_int_gt(wait, NQ_MINUTES(59));
    }
    nq_claimer_free(c);
    nq_close(q);
}
END_TEST

/* On SQLite a claim is a transaction for each priority, all of them under one lease: the commit of the second
 * one failed, and the tasks of the first one run. On a server the COMMIT had no answer and could not be
 * looked up. */
START_TEST(a_claim_in_doubt_gives_back_its_own_tasks_only)
{
    nq *q = t_open();
    const nq_id runs = T_ADD(q, .type = "runs"), waits = T_ADD(q, .type = "waits", .priority = 5),
                cancelled = T_ADD(q, .type = "cancelled", .priority = 5);
    size_t n = 0;
    nq_claimed *all = t_claim(q, NQ_LEASE(1, 1), 10, &n);
    ck_assert_uint_eq(n, 3);
    ck_assert_int_eq(all->task.id, runs);
    T_OK(nq_cancel(q, cancelled, &t_last));
    nq_doubts_add_claimed(nq_store_of(q), NQ_LEASE(1, 1), &(nq_claimed_list){.head = all->next, .n = 2});
    nq_claimed *again = t_claim(q, NQ_LEASE(1, 2), 10, &n);
    ck_assert_uint_eq(n, 1);
    ck_assert_int_eq(again->task.id, waits);
    ck_assert_int_eq(t_state(q, cancelled), NQ_STATE_CANCELLED);
    ck_assert_int_eq(t_finish(q, all, NQ_OUT_DONE, 0, NULL), NQ_OK);
    t_free_claimed(again);
    t_free_claimed(all);
    nq_close(q);
}
END_TEST

Suite *suite_claim(void)
{
    Suite *s = suite_create("claim");
    TCase *c = t_case(s, "claim", 30);
    tcase_add_test(c, a_named_task_is_claimed_if_it_is_due_and_free);
    tcase_add_test(c, nothing_due_claims_nothing_and_says_how_long);
    tcase_add_test(c, a_claim_shows_the_task);
    tcase_add_test(c, order_is_priority_then_run_at_then_id);
    tcase_add_test(c, queues_are_apart);
    tcase_add_test(c, a_type_filter_claims_only_its_types);
    tcase_add_test(c, a_delayed_task_is_not_early_by_the_databases_clock);
    tcase_add_test(c, the_cursor_does_not_miss_an_earlier_task_that_comes_late);
    tcase_add_test(c, a_released_task_is_found_again_behind_the_cursor);
    tcase_add_test(c, claimers_at_once_get_disjoint_sets_and_leave_nothing);
    tcase_add_test(c, generation_counts_claims_and_is_never_reset);
    tcase_add_test(c, a_claim_in_doubt_gives_back_its_own_tasks_only);
    return s;
}
