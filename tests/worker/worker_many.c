/* SPDX-License-Identifier: MIT */
/* Handlers that take several tasks a call. */
#include "suites.h"

#define MANY_OPTIONS(...) (&(nq_many_options){.size = sizeof(nq_many_options), __VA_ARGS__})

/* What a handler saw, and what it is to do. */
struct many_seen {
    pthread_mutex_t mutex;
    size_t calls, tasks, most;
    bool mixed; /* a call had tasks of several groups */
    int want;   /* wait until this attempt of the call, from 1, has a cause */
    int cause;  /* which it had */
    int deaf;   /* do not end while it is set */
    int early;  /* the cause that its first one had when it was called */
};

static void many_init(struct many_seen *s)
{
    memset(s, 0, sizeof *s);
    pthread_mutex_init(&s->mutex, NULL);
}

static nq_verdict many_verdict_of(nq_ctx *ctx, const nq_task *task)
{
    switch (((const char *)task->payload)[0]) {
    case 'r':
        nq_ctx_set_delay(ctx, NQ_HOURS(1));
        return nq_fail(ctx, NQ_RETRY, "task %lld is to be retried", (long long)task->id);
    case 'd':
        return nq_fail(ctx, NQ_DISCARD, "task %lld is of no use", (long long)task->id);
    case 's':
        nq_ctx_set_delay(ctx, NQ_HOURS(2));
        return NQ_SNOOZE;
    default:
        return NQ_DONE;
    }
}

static void many_handle(nq_ctx *const ctx[], const nq_task *const tasks[], size_t n, nq_verdict verdicts[],
                        void *udata)
{
    struct many_seen *s = udata;
    pthread_mutex_lock(&s->mutex);
    s->calls++;
    s->tasks += n;
    s->most = n > s->most ? n : s->most;
    s->early = s->early ? s->early : (int)nq_ctx_cause(ctx[0]);
    for (size_t i = 1; i < n; i++)
        if (strcmp(tasks[i]->group ? tasks[i]->group : "", tasks[0]->group ? tasks[0]->group : "") != 0)
            s->mixed = true;
    pthread_mutex_unlock(&s->mutex);
    const size_t want = (size_t)p_load(&s->want);
    if (want > 0 && want <= n) {
        while (nq_ctx_cause(ctx[want - 1]) == NQ_CAUSE_NONE)
            t_pause_ms(1);
        __atomic_store_n(&s->cause, (int)nq_ctx_cause(ctx[want - 1]), __ATOMIC_SEQ_CST);
    }
    while (p_load(&s->deaf))
        t_pause_ms(1);
    for (size_t i = 0; i < n; i++)
        if (((const char *)tasks[i]->payload)[0] != 'n')
            verdicts[i] = many_verdict_of(ctx[i], tasks[i]);
}

static nq_worker *many_new(nq *q, const nq_worker_options *opts, const nq_many_options *many,
                           struct many_seen *seen)
{
    nq_worker *p = p_new(q, opts, NULL, NULL);
    T_OK(nq_worker_handle_many(p, NULL, many_handle, seen, many, &t_last));
    return p;
}

static void many_add(nq *q, int n, const char *payload, const char *group, nq_id ids[])
{
    nq_task_spec *specs = calloc((size_t)n, sizeof *specs);
    for (int i = 0; i < n; i++)
        specs[i] = *NQ_TASK(.type = "t", .payload = payload, .payload_size = strlen(payload), .group = group,
                            .unique = NQ_UNIQUE_NONE);
    T_OK(nq_enqueue_many(q, NQ_OWN_TX, specs, (size_t)n, ids, NULL, &t_last));
    free(specs);
}

START_TEST(ready_tasks_come_in_one_call_and_each_has_its_own_verdict)
{
    nq *q = t_open();
    struct many_seen s;
    nq_id retry, dead, snooze, none;
    many_init(&s);
    many_add(q, 300, "x", NULL, NULL);
    many_add(q, 1, "r", NULL, &retry);
    many_add(q, 1, "d", NULL, &dead);
    many_add(q, 1, "s", NULL, &snooze);
    many_add(q, 1, "n", NULL, &none);
    many_add(q, 100, "x", NULL, NULL);
    p_run(many_new(q, P_OPTIONS(.drain = NQ_DRAIN_DUE, .concurrency = 1), MANY_OPTIONS(.max = 50), &s));
    ck_assert_uint_eq(s.tasks, 404);
    ck_assert_uint_eq(s.most, 50); /* from few to as many as may be */
    ck_assert_uint_lt(s.calls, 30);
    t_task t;
    ck_assert_int_eq(t_get(q, retry, &t), NQ_OK);
    ck_assert_int_eq(t.info.state, NQ_STATE_WAITING);
    ck_assert_int_eq((int)t.info.attempts, 1);
    ck_assert_ptr_nonnull(strstr(t.error, "is to be retried"));
    t_task_free(&t);
    ck_assert_int_eq(t_get(q, snooze, &t), NQ_OK);
    ck_assert_int_eq((int)t.info.attempts, 0);
    ck_assert_int_gt(t.info.run_at_us - t_now(q), NQ_HOURS(1));
    t_task_free(&t);
    ck_assert_int_eq(t_get(q, none, &t), NQ_OK);
    ck_assert_str_eq(t.error, "the handler left it without a verdict");
    t_task_free(&t);
    ck_assert_int_eq(t_state(q, dead), NQ_STATE_DEAD);
    ck_assert_uint_eq(t_count(q, NQ_STATE_WAITING), 3);
    nq_close(q);
}
END_TEST

START_TEST(a_call_waits_for_more_and_no_longer_than_it_must)
{
    nq *q = t_open();
    struct many_seen s;
    many_init(&s);
    p_thread t;
    p_start(&t,
            many_new(q, P_OPTIONS(.concurrency = 4), MANY_OPTIONS(.max = 10, .wait_us = NQ_SECONDS(1)), &s));
    /* On a busy machine the others may come too late for a call. */
    for (size_t i = 1; i <= 20 && s.most < 10; i++) {
        many_add(q, 1, "x", NULL, NULL);
        many_add(q, 9, "x", NULL, NULL);
        size_t tasks = 0;
        T_WAIT(
            (pthread_mutex_lock(&s.mutex), tasks = s.tasks, pthread_mutex_unlock(&s.mutex), tasks == 10 * i),
            30);
    }
    p_stop(&t);
    ck_assert_uint_eq(s.most, 10);
    nq_close(q);
}
END_TEST

START_TEST(a_call_has_tasks_of_one_group_where_that_is_asked_for)
{
    nq *q = t_open();
    struct many_seen s;
    many_init(&s);
    for (int i = 0; i < 30; i++) {
        char group[16];
        snprintf(group, sizeof group, "g%d", i % 3);
        many_add(q, 5, "x", group, NULL);
    }
    p_run(
        many_new(q, P_OPTIONS(.drain = NQ_DRAIN_DUE, .concurrency = 2), MANY_OPTIONS(.by_group = true), &s));
    ck_assert_uint_eq(s.tasks, 150);
    ck_assert(!s.mixed);
    ck_assert_uint_gt(s.most, 1);
    nq_close(q);
}
END_TEST

/* Five tasks in one call: a single thread has found many before. */
static void many_five(nq *q, const nq_many_options *many, struct many_seen *s, p_thread *t, nq_id ids[5],
                      int64_t timeout_us)
{
    nq_task_spec specs[5];
    for (int i = 0; i < 5; i++)
        specs[i] = *NQ_TASK(.type = "t", .payload = "x", .payload_size = 1, .unique = NQ_UNIQUE_NONE,
                            .timeout_us = i == 2 ? timeout_us : 0);
    T_OK(nq_enqueue_many(q, NQ_OWN_TX, specs, 5, ids, NULL, &t_last));
    s->want = 3;
    p_start(t, many_new(q,
                        P_OPTIONS(.concurrency = 1, .shutdown_timeout_us = NQ_MS(50),
                                  .cancel_grace_us = NQ_MS(100 * T_SLOW_FACTOR), .keep_done_us = NQ_FOREVER),
                        many, s));
    T_WAIT(t_sql("SELECT COUNT(*) FROM nanoq_tasks WHERE state = 1") == 5, 20);
}

START_TEST(each_task_of_a_call_is_cancelled_by_itself)
{
    nq *q = t_open();
    struct many_seen s;
    nq_id ids[5];
    p_thread t;
    many_init(&s);
    many_five(q, MANY_OPTIONS(.max = 5, .wait_us = NQ_SECONDS(1)), &s, &t, ids, 0);
    T_OK(nq_cancel(q, ids[2], &t_last));
    T_WAIT(t_count(q, NQ_STATE_DONE) == 5, 20); /* it answers done, cancelled or not */
    ck_assert_int_eq(p_load(&s.cause), NQ_CAUSE_CANCEL);
    p_stop(&t);
    nq_close(q);
}
END_TEST

START_TEST(each_task_of_a_call_has_its_own_timeout)
{
    nq *q = t_open();
    struct many_seen s;
    nq_id ids[5];
    p_thread t;
    many_init(&s);
    many_five(q, MANY_OPTIONS(.max = 5, .wait_us = NQ_SECONDS(1)), &s, &t, ids, NQ_SECONDS(1));
    T_WAIT(t_count(q, NQ_STATE_DONE) == 5, 20);
    ck_assert_int_eq(p_load(&s.cause), NQ_CAUSE_TIMEOUT);
    p_stop(&t);
    nq_close(q);
}
END_TEST

START_TEST(all_tasks_of_a_call_that_ignores_the_stop_are_given_back)
{
    nq *q = t_open();
    struct many_seen s;
    nq_id ids[5];
    p_thread t;
    many_init(&s);
    s.deaf = 1;
    many_five(q, MANY_OPTIONS(.max = 5, .wait_us = NQ_SECONDS(1)), &s, &t, ids, 0);
    T_WAIT((pthread_mutex_lock(&s.mutex), pthread_mutex_unlock(&s.mutex), s.calls > 0), 20);
    nq_worker_stop(t.p);
    pthread_join(t.thread, NULL);
    ck_assert_int_eq(t.rc, NQ_ESTUCK);
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_tasks WHERE state = 0 AND attempts = 0"), 5);
    nq_worker_free(t.p);
    __atomic_store_n(&s.deaf, 0, __ATOMIC_SEQ_CST);
    t_pause_ms(200); /* its late answer must not reach them */
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_tasks WHERE state = 0 AND attempts = 0"), 5);
    _exit(0);
}
END_TEST

START_TEST(what_expires_while_a_call_waits_is_not_in_it)
{
    nq *q = t_open();
    struct many_seen s;
    many_init(&s);
    const nq_id late = T_ADD(q, .type = "t", .payload = "x", .payload_size = 1, .expires_us = NQ_MS(300));
    const nq_id good = T_ADD(q, .type = "u", .payload = "x", .payload_size = 1);
    p_run(many_new(q, P_OPTIONS(.drain = NQ_DRAIN_DUE, .keep_done_us = NQ_FOREVER),
                   MANY_OPTIONS(.wait_us = NQ_SECONDS(1)), &s));
    ck_assert_uint_eq(s.tasks, 1);
    ck_assert_int_eq(t_state(q, late), NQ_STATE_DEAD);
    ck_assert_int_eq(t_state(q, good), NQ_STATE_DONE);
    nq_close(q);
}
END_TEST

/* Their time starts anew when the handler is called: though a call may wait as long as the shortest timeout
 * is. */
START_TEST(no_task_of_a_call_times_out_before_it)
{
    nq *q = t_open();
    struct many_seen s;
    many_init(&s);
    T_ADD(q, .type = "t", .payload = "x", .payload_size = 1, .timeout_us = NQ_SECONDS(1));
    p_run(many_new(q, P_OPTIONS(.drain = NQ_DRAIN_DUE), MANY_OPTIONS(.wait_us = NQ_SECONDS(1)), &s));
    ck_assert_uint_eq(s.tasks, 1);
    ck_assert_int_eq(s.early, NQ_CAUSE_NONE);
    nq_close(q);
}
END_TEST

START_TEST(bad_options_are_refused)
{
    nq *q = t_open();
    struct many_seen s;
    many_init(&s);
    nq_worker *p = p_new(q, NULL, NULL, NULL);
    T_FAILS(nq_worker_handle_many(p, "t", NULL, NULL, NULL, &t_last), NQ_EINVAL);
    T_FAILS(nq_worker_handle_many(p, "t", many_handle, &s, MANY_OPTIONS(.max = 1001), &t_last), NQ_EINVAL);
    ck_assert_str_eq(t_last.message, "max is 1001 tasks a call; allowed are 1 to 1000");
    T_FAILS(nq_worker_handle_many(p, "t", many_handle, &s, MANY_OPTIONS(.wait_us = NQ_SECONDS(2)), &t_last),
            NQ_EINVAL);
    T_FAILS(nq_worker_handle_many(p, "t", many_handle, &s, MANY_OPTIONS(.wait_us = -1), &t_last), NQ_EINVAL);
    T_OK(nq_worker_handle_many(p, "t", many_handle, &s, NULL, &t_last));
    T_FAILS(nq_worker_handle(p, "t", p_count, &s, NULL, &t_last), NQ_EINVAL);
    nq_worker_free(p);
    nq_close(q);
}
END_TEST

Suite *suite_many(void)
{
    Suite *s = suite_create("many");
    TCase *tc = t_case(s, "many", 60);
    tcase_add_test(tc, ready_tasks_come_in_one_call_and_each_has_its_own_verdict);
    tcase_add_test(tc, a_call_waits_for_more_and_no_longer_than_it_must);
    tcase_add_test(tc, a_call_has_tasks_of_one_group_where_that_is_asked_for);
    tcase_add_test(tc, each_task_of_a_call_is_cancelled_by_itself);
    tcase_add_test(tc, each_task_of_a_call_has_its_own_timeout);
    tcase_add_test(tc, all_tasks_of_a_call_that_ignores_the_stop_are_given_back);
    tcase_add_test(tc, what_expires_while_a_call_waits_is_not_in_it);
    tcase_add_test(tc, no_task_of_a_call_times_out_before_it);
    tcase_add_test(tc, bad_options_are_refused);
    return s;
}
