/* SPDX-License-Identifier: MIT */
/* A worker of a queue serves its groups: it is woken for them, and its drain waits for them. */
#include "suites.h"

struct groups_runs {
    _Atomic int big, small, of_group, left;
    _Atomic int64_t small_done_us;
};

static nq_verdict groups_run(nq_ctx *ctx, const nq_task *task, void *udata)
{
    struct groups_runs *r = udata;
    (void)ctx;
    ck_assert_str_eq(task->queue, "mail");
    r->of_group += (task->group ? 1 : 0);
    if (task->group && strcmp(task->group, "big") == 0)
        r->big++;
    else if (++r->small == r->left)
        r->small_done_us = t_mono();
    return NQ_DONE;
}

static void groups_many(nq *q, const char *group, size_t n)
{
    nq_task_spec *specs = calloc(n, sizeof *specs);
    for (size_t i = 0; i < n; i++)
        specs[i] = (nq_task_spec){
            .size = sizeof *specs, .type = "t", .queue = "mail", .group = group, .unique = NQ_UNIQUE_NONE};
    T_OK(nq_enqueue_many(q, NQ_OWN_TX, specs, n, NULL, NULL, &t_last));
    free(specs);
}

/* 100 tenants with 20 tasks each behind one with very many: they need not wait until that one is done. */
START_TEST(small_groups_do_not_wait_for_a_big_one)
{
    nq *q = t_open();
    struct groups_runs r = {.left = 2000};
    const int big = 14000;
    groups_many(q, "big", (size_t)big);
    for (int k = 0; k < 100; k++) {
        char group[12];
        snprintf(group, sizeof group, "small%d", k);
        groups_many(q, group, 20);
    }
    const nq_queue_options queue = NQ_QUEUE(.name = "mail");
    const int64_t begun = t_mono();
    p_run(p_new(q, P_OPTIONS(.queues = &queue, .nqueues = 1, .drain = NQ_DRAIN_DUE), groups_run, &r));
    const int64_t all = t_mono() - begun, small = r.small_done_us - begun;
    printf("2,000 tasks of 100 groups done after %d ms, all with %d of one after %d ms\n",
           (int)(small / 1000), big, (int)(all / 1000));
    ck_assert_int_eq(r.big, big);
    ck_assert_int_eq(r.small, 2000);
    ck_assert_int_eq(r.of_group, big + 2000);
    ck_assert_int_lt(small, all * 2 / 3);
    nq_close(q);
}
END_TEST

/* An idle worker that has seen no group yet hears of the first one. */
START_TEST(a_task_of_a_group_wakes_a_worker)
{
    nq *q = t_open();
    struct groups_runs r = {.left = 3};
    const nq_queue_options queue = NQ_QUEUE(.name = "mail");
    p_thread t;
    p_start(&t,
            p_new(q, P_OPTIONS(.queues = &queue, .nqueues = 1, .poll_us = NQ_SECONDS(60)), groups_run, &r));
    for (int i = 1; i <= 3; i++) {
        groups_many(q, "small", 1);
        T_WAIT(r.small == i, 10);
    }
    p_stop(&t);
    nq_close(q);
}
END_TEST

static nq_verdict groups_again(nq_ctx *ctx, const nq_task *task, void *udata)
{
    struct groups_runs *r = udata;
    r->small++;
    ck_assert_str_eq(task->group, "g");
    return task->attempt < 3 ? nq_fail(ctx, NQ_RETRY, "again") : NQ_DONE;
}

START_TEST(a_drain_waits_for_retries_of_groups)
{
    nq *q = t_open();
    struct groups_runs r = {0};
    const nq_queue_options queue = NQ_QUEUE(.name = "mail");
    nq_worker *p = p_new(q, P_OPTIONS(.queues = &queue, .nqueues = 1, .drain = NQ_DRAIN_ALL), NULL, NULL);
    T_OK(nq_worker_handle(p, "t", groups_again, &r, P_HANDLE(.retry_policy = p_soon), &t_last));
    groups_many(q, "g", 2);
    p_run(p);
    ck_assert_int_eq(r.small, 6);
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_tasks"), 0);
    nq_close(q);
}
END_TEST

static nq_verdict groups_in_child(nq_ctx *ctx, const nq_task *task, void *udata)
{
    (void)udata;
    const bool good = strcmp(task->queue, "mail") == 0 && task->group && strcmp(task->group, "42") == 0;
    return good ? NQ_DONE
                : nq_fail(ctx, NQ_DISCARD, "%s, %s", task->queue, task->group ? task->group : "none");
}

START_TEST(a_child_is_told_the_group)
{
    nq *q = t_open();
    const nq_queue_options queue = NQ_QUEUE(.name = "mail");
    nq_worker *p = p_new(q, P_OPTIONS(.queues = &queue, .nqueues = 1, .drain = NQ_DRAIN_DUE), NULL, NULL);
    T_OK(nq_worker_handle(p, "t", groups_in_child, NULL, P_ISOLATED(), &t_last));
    T_OK(nq_worker_fork(p, &t_last));
    groups_many(q, "42", 3);
    p_run(p);
    ck_assert_uint_eq(t_count(q, NQ_STATE_DEAD), 0);
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_tasks"), 0);
    nq_close(q);
}
END_TEST

struct groups_limits {
    _Atomic int running[5], all, runs;
    _Atomic int era;                  /* what began in an earlier one, may be late to say how many ran */
    _Atomic int most[2], most_all[2]; /* of each era */
};

static nq_verdict groups_limited(nq_ctx *ctx, const nq_task *task, void *udata)
{
    struct groups_limits *l = udata;
    const int at = task->group[0] - '0', era = l->era;
    const int now = ++l->running[at], all = ++l->all;
    (void)ctx;
    if (now > l->most[era])
        l->most[era] = now;
    if (all > l->most_all[era])
        l->most_all[era] = all;
    l->runs++;
    t_pause_ms(1);
    --l->all;
    --l->running[at];
    return NQ_DONE;
}

static void groups_limit(nq *q, const char *group, int64_t most)
{
    T_OK(nq_queue_set(
        q, "mail",
        &(nq_queue_settings){.size = sizeof(nq_queue_settings), .group = group, .max_running = most},
        &t_last));
}

/* Limits hold over the workers of all processes, here of two handles, and each end makes room at once. */
START_TEST(limits_hold_over_workers)
{
    nq *q[2] = {t_open(), t_open()};
    struct groups_limits l = {0};
    const nq_queue_options queue = NQ_QUEUE(.name = "mail");
    p_thread t[2];
    groups_limit(q[0], "*", 2);
    groups_limit(q[0], "4", 1);
    groups_limit(q[0], NULL, 5);
    for (int i = 0; i < 5; i++)
        groups_many(q[0], (char[]){(char)('0' + i), '\0'}, 30);
    const int64_t begun = t_mono();
    for (int i = 0; i < 2; i++)
        p_start(&t[i], p_new(q[i], P_OPTIONS(.queues = &queue, .nqueues = 1, .drain = NQ_DRAIN_DUE),
                             groups_limited, &l));
    for (int i = 0; i < 2; i++)
        ck_assert_int_eq(p_join(&t[i]), NQ_OK);
    printf("150 tasks at 5 at once took %d ms\n", (int)((t_mono() - begun) / 1000));
    ck_assert_int_eq(l.runs, 150);
    ck_assert_int_le(l.most[0], 2);
    ck_assert_int_le(l.most_all[0], 5);
    nq_close(q[0]);
    nq_close(q[1]);
}
END_TEST

/* The row is written by plain SQL while claims run, and heeded from when the workers know it. */
START_TEST(plain_sql_limits_while_claims_run)
{
    nq *q = t_open();
    struct groups_limits l = {0};
    const nq_queue_options queue = NQ_QUEUE(.name = "mail");
    p_thread t;
    groups_many(q, "0", 300);
    groups_many(q, "1", 300);
    p_start(&t, p_new(q, P_OPTIONS(.queues = &queue, .nqueues = 1, .concurrency = 8), groups_limited, &l));
    T_WAIT(l.most_all[0] > 2, 20);
    t_sql("INSERT INTO nanoq_queues (name, max_running) VALUES ('mail//*', 1)");
    T_OK(nq_resume(q, "another", /* waits until all settings are known */
                   &(nq_pause_options){.size = sizeof(nq_pause_options), .wait_us = NQ_SECONDS(20)},
                   &t_last));
    T_WAIT(t_sql("SELECT COALESCE(MAX(n), 0) FROM (SELECT COUNT(*) n FROM nanoq_tasks WHERE state = 1 "
                 "GROUP BY queue) x") <= 1,
           20); /* claimed before */
    l.era = 1;
    const int ran = l.runs;
    groups_many(q, "0", 30); /* a quick worker has run all of the first ones by now */
    groups_many(q, "1", 30);
    T_WAIT(l.runs >= ran + 40, 20);
    ck_assert_int_le(l.most[1], 1);
    ck_assert_int_le(l.most_all[1], 2);
    t_sql("DELETE FROM nanoq_queues");
    T_WAIT(l.runs == 660, 20);
    p_stop(&t);
    nq_close(q);
}
END_TEST

Suite *suite_groups(void)
{
    Suite *s = suite_create("groups");
    TCase *tc = t_case(s, "groups", 60);
    tcase_add_test(tc, small_groups_do_not_wait_for_a_big_one);
    tcase_add_test(tc, a_task_of_a_group_wakes_a_worker);
    tcase_add_test(tc, a_drain_waits_for_retries_of_groups);
    tcase_add_test(tc, a_child_is_told_the_group);
    tcase_add_test(tc, limits_hold_over_workers);
    tcase_add_test(tc, plain_sql_limits_while_claims_run);
    return s;
}
