/* SPDX-License-Identifier: MIT */
/* The retry policy: the default's figures, one of the caller's, its end, and that nothing comes early. */
#include "suites.h"

static nq_verdict retry_fail(nq_ctx *ctx, const nq_task *task, void *udata)
{
    (void)task, (void)udata;
    return nq_fail(ctx, NQ_RETRY, "no");
}

START_TEST(the_defaults_figures_are_nanoqs)
{
    nq *q = t_open();
    nq_id id = T_ADD(q, .type = "t", .max_retries = 12);
    for (unsigned attempt = 1; attempt <= 11; attempt++) {
        int64_t pure = 5;
        int64_t power = 1;
        for (int i = 0; i < 5; i++)
            power *= attempt;
        pure = NQ_SECONDS(pure + power);
        int64_t before = t_now(q);
        p_run(p_new(q, P_OPTIONS(.drain = NQ_DRAIN_DUE), retry_fail, NULL));
        t_task t;
        ck_assert_int_eq(t_get(q, id, &t), NQ_OK);
        ck_assert_uint_eq(t.info.attempts, attempt);
        ck_assert_int_ge(t.info.run_at_us, before + pure);
        ck_assert_int_le(t.info.run_at_us, t_now(q) + pure + pure / 2);
        t_task_free(&t);
        t_sql("UPDATE nanoq_tasks SET run_at = created_at");
    }
    nq_close(q);
}
END_TEST

struct retry_policy_calls {
    unsigned attempts[8];
    int n;
    int64_t delay;
};

static int64_t retry_policy(unsigned attempt, const nq_task *task, void *udata)
{
    struct retry_policy_calls *c = udata;
    ck_assert_str_eq(task->type, "t");
    if (c->n < 8)
        c->attempts[c->n] = attempt;
    c->n++;
    return c->delay;
}

START_TEST(a_type_has_a_policy_of_its_own)
{
    nq *q = t_open();
    struct retry_policy_calls all = {.delay = -1}, own = {.delay = NQ_MS(1)};
    nq_worker *p = NULL;
    T_ADD(q, .type = "t", .max_retries = 2);
    T_OK(nq_worker_new(
        &p, q, P_OPTIONS(.drain = NQ_DRAIN_ALL, .retry_policy = retry_policy, .retry_udata = &all), &t_last));
    T_OK(nq_worker_handle(p, "t", retry_fail, NULL,
                          P_HANDLE(.retry_policy = retry_policy, .retry_udata = &own), &t_last));
    p_run(p);
    ck_assert_int_eq(own.n, 2);
    ck_assert_int_eq(all.n, 0);
    nq_close(q);
}
END_TEST

START_TEST(a_policy_of_the_callers_is_asked_with_the_attempt)
{
    nq *q = t_open();
    struct retry_policy_calls calls = {.delay = NQ_MS(30)};
    nq_id id = T_ADD(q, .type = "t", .max_retries = 3);
    int64_t start = t_mono();
    p_run(p_new(q, P_OPTIONS(.drain = NQ_DRAIN_ALL, .retry_policy = retry_policy, .retry_udata = &calls),
                retry_fail, NULL));
    ck_assert_int_ge(t_mono() - start, 3 * NQ_MS(30));
    ck_assert_int_ge(calls.n, 3);
    for (int i = 0; i < 3; i++)
        ck_assert_uint_eq(calls.attempts[i], (unsigned)i + 1);
    ck_assert_int_eq(t_state(q, id), NQ_STATE_DEAD);
    nq_close(q);
}
END_TEST

START_TEST(a_negative_delay_means_no_more_retries)
{
    nq *q = t_open();
    struct retry_policy_calls calls = {.delay = -1};
    nq_id id = T_ADD(q, .type = "t");
    p_run(p_new(q, P_OPTIONS(.drain = NQ_DRAIN_DUE, .retry_policy = retry_policy, .retry_udata = &calls),
                retry_fail, NULL));
    ck_assert_int_eq(t_state(q, id), NQ_STATE_DEAD);
    nq_close(q);
}
END_TEST

/* Of NanoQ: the delay overflowed and became negative, so the task ran at once, again and again. */
START_TEST(an_endless_delay_saturates)
{
    nq *q = t_open();
    struct retry_policy_calls calls = {.delay = INT64_MAX};
    nq_id id = T_ADD(q, .type = "t", .max_retries = 1000);
    t_sql("UPDATE nanoq_tasks SET attempts = 97");
    int64_t before = t_now(q);
    p_run(p_new(q, P_OPTIONS(.drain = NQ_DRAIN_DUE, .retry_policy = retry_policy, .retry_udata = &calls),
                retry_fail, NULL));
    t_task t;
    ck_assert_int_eq(t_get(q, id, &t), NQ_OK);
    ck_assert_int_eq(t.info.state, NQ_STATE_WAITING);
    ck_assert_int_ge(t.info.run_at_us, before + NQ_MAX_DURATION);
    ck_assert_int_le(t.info.run_at_us, t_now(q) + NQ_MAX_DURATION);
    t_task_free(&t);
    nq_close(q);
}
END_TEST

static nq_verdict retry_own_delay(nq_ctx *ctx, const nq_task *task, void *udata)
{
    (void)task;
    nq_ctx_set_delay(ctx, *(int64_t *)udata);
    return NQ_RETRY;
}

START_TEST(the_handlers_own_delay_goes_before_the_policys_and_is_clamped)
{
    static const int64_t asked[] = {NQ_HOURS(3), INT64_MAX, INT64_MIN};
    static const int64_t expected[] = {NQ_HOURS(3), NQ_MAX_DURATION, 0};
    nq *q = t_open();
    for (int i = 0; i < 3; i++) {
        int64_t delay = asked[i];
        /* A delay of 0 would be due again at once: one attempt only. */
        nq_id id = T_ADD(q, .type = "t", .max_retries = i == 2 ? 1 : 10, .unique = NQ_UNIQUE_NONE);
        int64_t before = t_now(q);
        p_run(p_new(q, P_OPTIONS(.drain = NQ_DRAIN_DUE), retry_own_delay, &delay));
        t_task t;
        ck_assert_int_eq(t_get(q, id, &t), NQ_OK);
        if (i == 2) {
            ck_assert_int_eq(t.info.state, NQ_STATE_DEAD);
            ck_assert_uint_eq(t.info.attempts, 2);
        } else {
            ck_assert_int_ge(t.info.run_at_us, before + expected[i]);
            ck_assert_int_le(t.info.run_at_us, t_now(q) + expected[i]);
        }
        t_task_free(&t);
    }
    nq_close(q);
}
END_TEST

struct retry_early {
    nq *q;
    int64_t due[64];
    int64_t base;
    int runs;
};

static nq_verdict retry_not_early(nq_ctx *ctx, const nq_task *task, void *udata)
{
    struct retry_early *e = udata;
    const int64_t now = t_now(e->q);
    ck_assert_msg(now >= task->run_at_us, "early by %lld us", (long long)(task->run_at_us - now));
    __atomic_add_fetch(&e->runs, 1, __ATOMIC_SEQ_CST);
    if (task->attempt == 3)
        return NQ_DONE;
    nq_ctx_set_delay(ctx, NQ_MS(20 + (int64_t)(task->id % 7) * 11));
    return NQ_RETRY;
}

START_TEST(no_task_and_no_retry_comes_early)
{
    nq *q = t_open();
    struct retry_early e = {.q = q};
    for (int i = 0; i < 40; i++)
        T_ADD(q, .type = "t", .delay_us = NQ_MS(i * 13), .unique = NQ_UNIQUE_NONE);
    p_run(p_new(q, P_OPTIONS(.drain = NQ_DRAIN_ALL, .concurrency = 4), retry_not_early, &e));
    ck_assert_int_eq(e.runs, 120);
    nq_close(q);
}
END_TEST

/* Of NanoQ: a handler that itself answered "cancelled" span, 856 runs in a second. */
START_TEST(a_handler_that_always_asks_again_does_not_spin)
{
    nq *q = t_open();
    nq_id id = T_ADD(q, .type = "t");
    nq_worker *p = p_new(q, P_OPTIONS(.drain = NQ_DRAIN_NEVER), retry_fail, NULL);
    p_thread t;
    p_start(&t, p);
    t_task info;
    T_WAIT(t_get(q, id, &info) == NQ_OK && (t_task_free(&info), info.info.attempts == 1), 10);
    t_pause_ms(1000); /* time in which it would spin */
    p_stop(&t);
    ck_assert_int_eq(t_get(q, id, &info), NQ_OK);
    ck_assert_uint_eq(info.info.generation, 1);
    t_task_free(&info);
    nq_close(q);
}
END_TEST

Suite *suite_retry(void)
{
    Suite *s = suite_create("retry");
    TCase *c = t_case(s, "retry", 30);
    tcase_add_test(c, the_defaults_figures_are_nanoqs);
    tcase_add_test(c, a_policy_of_the_callers_is_asked_with_the_attempt);
    tcase_add_test(c, a_type_has_a_policy_of_its_own);
    tcase_add_test(c, a_negative_delay_means_no_more_retries);
    tcase_add_test(c, an_endless_delay_saturates);
    tcase_add_test(c, the_handlers_own_delay_goes_before_the_policys_and_is_clamped);
    tcase_add_test(c, no_task_and_no_retry_comes_early);
    tcase_add_test(c, a_handler_that_always_asks_again_does_not_spin);
    return s;
}
