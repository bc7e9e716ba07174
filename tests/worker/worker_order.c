/* SPDX-License-Identifier: MIT */
/* Strict order in groups while several workers run, and handlers fail now and then. */
#include <stdio.h>

#include "suites.h"

enum { ORDER_GROUPS = 6, ORDER_TASKS = 12 };

/* Of each group: how many have ended, and how many attempts run. */
struct order_seen {
    _Atomic int ended[ORDER_GROUPS], running[ORDER_GROUPS], wrong, attempts, halted;
    int halt; /* the place of a task that dies, once; -1: none */
};

/* The payload says the place of a task in its group. */
static nq_verdict order_handle(nq_ctx *ctx, const nq_task *task, void *udata)
{
    struct order_seen *s = udata;
    const int group = task->group[0] - 'a', place = atoi(task->payload);
    s->attempts++;
    s->wrong += s->running[group]++ != 0 || s->ended[group] != place;
    const uint64_t what = nq_random(5);
    t_pause_ms((int)nq_random(2));
    s->running[group]--;
    if (place == s->halt && task->attempt == 1 && task->generation == 1) {
        s->halted++;
        return nq_fail(ctx, NQ_DISCARD, "this one stops its group");
    }
    if (what == 0)
        return nq_fail(ctx, NQ_RETRY, "again");
    if (what == 1) {
        nq_ctx_set_delay(ctx, NQ_MS(1));
        return NQ_SNOOZE;
    }
    s->ended[group]++;
    return NQ_DONE;
}

static void order_add(nq *q)
{
    for (int group = 0; group < ORDER_GROUPS; group++)
        for (int i = 0; i < ORDER_TASKS; i++) {
            const char name[2] = {(char)('a' + group), '\0'};
            char payload[12];
            snprintf(payload, sizeof payload, "%d", i);
            T_ADD(q, .type = "t", .queue = "mail", .group = name, .payload = payload,
                  .payload_size = strlen(payload), .max_retries = 100, .unique = NQ_UNIQUE_NONE);
        }
}

static void order_set(nq *q, int ordered)
{
    T_OK(nq_queue_set(
        q, "mail", &(nq_queue_settings){.size = sizeof(nq_queue_settings), .group = "*", .ordered = ordered},
        &t_last));
}

static const nq_queue_options order_queue = {.size = sizeof(nq_queue_options), .name = "mail"};

static void order_start(nq *q, struct order_seen *s, p_thread t[2])
{
    for (int i = 0; i < 2; i++)
        p_start(&t[i], p_new(q,
                             P_OPTIONS(.queues = &order_queue, .nqueues = 1, .concurrency = 4,
                                       .retry_policy = p_soon),
                             order_handle, s));
}

static bool order_all(const struct order_seen *s, int n)
{
    for (int i = 0; i < ORDER_GROUPS; i++)
        if (s->ended[i] != n)
            return false;
    return true;
}

START_TEST(two_workers_keep_the_order)
{
    nq *q = t_open();
    struct order_seen s = {.halt = -1};
    p_thread t[2];
    order_set(q, NQ_ORDERED_STRICT);
    order_add(q);
    order_start(q, &s, t);
    T_WAIT(order_all(&s, ORDER_TASKS), 60);
    p_stop(&t[0]);
    p_stop(&t[1]);
    ck_assert_int_eq(s.wrong, 0);
    ck_assert_int_gt(s.attempts, ORDER_GROUPS * ORDER_TASKS);
    nq_close(q);
}
END_TEST

static int order_retry(const nq_info *info, void *udata)
{
    return nq_retry(udata, info->id, NULL) != NQ_OK;
}

START_TEST(a_dead_task_stops_its_group_until_it_is_retried)
{
    enum { AT = 2 };
    nq *q = t_open();
    struct order_seen s = {.halt = AT};
    p_thread t[2];
    order_set(q, NQ_ORDERED_HALT);
    order_add(q);
    order_start(q, &s, t);
    T_WAIT(s.halted == ORDER_GROUPS && t_sql("SELECT COUNT(*) FROM nanoq_finished") == ORDER_GROUPS, 60);
    ck_assert(order_all(&s, AT));
    T_OK(nq_list(q,
                 &(nq_list_options){.size = sizeof(nq_list_options), .states = NQ_STATE_BIT(NQ_STATE_DEAD)},
                 order_retry, q, &t_last));
    T_WAIT(order_all(&s, ORDER_TASKS), 60);
    p_stop(&t[0]);
    p_stop(&t[1]);
    ck_assert_int_eq(s.wrong, 0);
    ck_assert_int_eq(s.halted, ORDER_GROUPS);
    nq_close(q);
}
END_TEST

/* It is not waited for what cannot be claimed. */
START_TEST(a_drain_ends_beside_a_halted_group)
{
    nq *q = t_open();
    struct order_seen s = {.halt = 0};
    order_set(q, NQ_ORDERED_HALT);
    order_add(q);
    p_run(p_new(
        q, P_OPTIONS(.queues = &order_queue, .nqueues = 1, .drain = NQ_DRAIN_ALL, .retry_policy = p_soon),
        order_handle, &s));
    ck_assert_int_eq(s.halted, ORDER_GROUPS);
    ck_assert_int_eq(s.attempts, ORDER_GROUPS);
    nq_close(q);
}
END_TEST

Suite *suite_order(void)
{
    Suite *s = suite_create("order");
    TCase *tc = t_case(s, "order", 60);
    tcase_add_test(tc, two_workers_keep_the_order);
    tcase_add_test(tc, a_dead_task_stops_its_group_until_it_is_retried);
    tcase_add_test(tc, a_drain_ends_beside_a_halted_group);
    return s;
}
