/* SPDX-License-Identifier: MIT */
/* Verdicts: done, retry, discard, snooze, their messages, unknown types, and the error hook. */
#include <poll.h>
#include <unistd.h>

#include "suites.h"

static nq_verdict verdicts_discard(nq_ctx *ctx, const nq_task *task, void *udata)
{
    (void)udata;
    return nq_fail(ctx, NQ_DISCARD, "no use: %s %u", task->type, task->attempt);
}

static nq_verdict verdicts_retry(nq_ctx *ctx, const nq_task *task, void *udata)
{
    (void)udata;
    return nq_fail(ctx, NQ_RETRY, "try %u", task->attempt);
}

static nq_verdict verdicts_silent(nq_ctx *ctx, const nq_task *task, void *udata)
{
    (void)ctx, (void)task;
    return *(nq_verdict *)udata;
}

static int64_t verdicts_at_once(unsigned attempt, const nq_task *task, void *udata)
{
    (void)attempt, (void)task, (void)udata;
    return 0;
}

START_TEST(done_runs_each_task_once_and_deletes_it)
{
    nq *q = t_open();
    int n = 0;
    for (int i = 0; i < 250; i++)
        T_ADD(q, .type = "t", .unique = NQ_UNIQUE_NONE);
    nq_worker *p = p_new(q, P_OPTIONS(.drain = NQ_DRAIN_DUE), p_count, &n);
    T_OK(nq_worker_run(p, &t_last));
    nq_worker_totals c;
    nq_worker_stats(p, &c, sizeof c);
    nq_worker_free(p);
    ck_assert_int_eq(n, 250);
    ck_assert_uint_eq(c.claimed, 250);
    ck_assert_uint_eq(c.done, 250);
    ck_assert_uint_eq(c.retried + c.dead + c.snoozed + c.released + c.lease_lost + c.running, 0);
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_tasks"), 0);
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_finished"), 0);
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_workers"), 0);
    nq_close(q);
}
END_TEST

START_TEST(done_is_kept_as_long_as_asked)
{
    nq *q = t_open();
    int n = 0;
    nq_id id = T_ADD(q, .type = "t");
    p_run(p_new(q, P_OPTIONS(.drain = NQ_DRAIN_DUE, .keep_done_us = NQ_HOURS(1)), p_count, &n));
    ck_assert_int_eq(t_state(q, id), NQ_STATE_DONE);
    nq_close(q);
}
END_TEST

struct verdicts_seen {
    nq_task task;
    char type[64], queue[64], payload[64];
    int64_t remaining, deadline, now;
    enum nq_cause cause;
};

static nq_verdict verdicts_look(nq_ctx *ctx, const nq_task *task, void *udata)
{
    struct verdicts_seen *s = udata;
    s->task = *task;
    snprintf(s->type, sizeof s->type, "%s", task->type);
    snprintf(s->queue, sizeof s->queue, "%s", task->queue);
    snprintf(s->payload, sizeof s->payload, "%s", (const char *)task->payload);
    s->remaining = nq_ctx_remaining_us(ctx);
    s->deadline = nq_ctx_deadline_us(ctx);
    s->now = t_mono();
    s->cause = nq_ctx_cause(ctx);
    ck_assert_str_eq(nq_ctx_message(ctx), "");
    return NQ_DONE;
}

START_TEST(the_handler_sees_its_task_and_time)
{
    nq *q = t_open();
    struct verdicts_seen s = {0};
    nq_id id = T_ADD(q, .type = "look", NQ_BYTES("pay"), .queue = "eye", .priority = -3, .max_retries = 2,
                     .timeout_us = NQ_SECONDS(90));
    const nq_queue_options queues[] = {NQ_QUEUE(.name = "eye")};
    p_run(p_new(q, P_OPTIONS(.drain = NQ_DRAIN_DUE, .queues = queues, .nqueues = 1), verdicts_look, &s));
    ck_assert_int_eq(s.task.id, id);
    ck_assert_str_eq(s.type, "look");
    ck_assert_str_eq(s.queue, "eye");
    ck_assert_str_eq(s.payload, "pay");
    ck_assert_uint_eq(s.task.payload_size, 3);
    ck_assert_int_eq(s.task.priority, -3);
    ck_assert_uint_eq(s.task.attempt, 1);
    ck_assert_uint_eq(s.task.max_retries, 2);
    ck_assert_uint_eq(s.task.generation, 1);
    ck_assert_int_eq(s.task.timeout_us, NQ_SECONDS(90));
    ck_assert_int_gt(s.remaining, NQ_SECONDS(80));
    ck_assert_int_le(s.remaining, NQ_SECONDS(90));
    ck_assert_int_gt(s.deadline, s.now + NQ_SECONDS(80));
    ck_assert_int_le(s.deadline, s.now + NQ_SECONDS(90));
    ck_assert_int_eq(s.cause, NQ_CAUSE_NONE);
    nq_close(q);
}
END_TEST

struct verdicts_hook {
    int calls, finals;
    char error[64];
    unsigned attempt;
};

static void verdicts_on_error(const nq_task *task, const char *error, bool final, void *udata)
{
    struct verdicts_hook *h = udata;
    h->calls++;
    h->finals += final;
    h->attempt = task->attempt;
    snprintf(h->error, sizeof h->error, "%s", error);
}

START_TEST(discard_is_dead_at_once_with_its_message)
{
    nq *q = t_open();
    struct verdicts_hook hook = {0};
    nq_id id = T_ADD(q, .type = "t");
    p_run(p_new(q, P_OPTIONS(.drain = NQ_DRAIN_DUE, .on_error = verdicts_on_error, .error_udata = &hook),
                verdicts_discard, NULL));
    t_task t;
    ck_assert_int_eq(t_get(q, id, &t), NQ_OK);
    ck_assert_int_eq(t.info.state, NQ_STATE_DEAD);
    ck_assert_str_eq(t.error, "no use: t 1");
    ck_assert_uint_eq(t.info.attempts, 1);
    t_task_free(&t);
    ck_assert_int_eq(hook.calls, 1);
    ck_assert_int_eq(hook.finals, 1);
    ck_assert_str_eq(hook.error, "no use: t 1");
    nq_close(q);
}
END_TEST

struct verdicts_events {
    pthread_mutex_t lock;
    char kinds[3][4]; /* of each generation: where one ends, the next may start before that is told */
    int64_t waited_us, ran_us, delay_us;
    char error[64];
    bool crashed;
};

static void verdicts_on_event(const nq_event *e, void *udata)
{
    struct verdicts_events *v = udata;
    ck_assert_uint_eq(e->size, sizeof *e);
    ck_assert_str_eq(e->task->type, "t");
    pthread_mutex_lock(&v->lock);
    ck_assert_uint_ge(e->task->generation, 1);
    ck_assert_uint_le(e->task->generation, 3);
    char *kinds = v->kinds[e->task->generation - 1];
    ck_assert_uint_lt(strlen(kinds), 3);
    kinds[strlen(kinds)] = " SDRXZCGL"[e->kind];
    if (e->kind == NQ_EVENT_STARTED)
        ck_assert_int_eq(e->ran_us, 0);
    v->waited_us = e->waited_us;
    v->ran_us = e->ran_us;
    v->crashed = e->crashed;
    if (e->kind == NQ_EVENT_RETRIED)
        v->delay_us = e->delay_us;
    snprintf(v->error, sizeof v->error, "%.63s", e->error);
    pthread_mutex_unlock(&v->lock);
}

static nq_verdict verdicts_each(nq_ctx *ctx, const nq_task *task, void *udata)
{
    (void)udata;
    poll(NULL, 0, 20); /* so that there is a time that it ran */
    nq_ctx_set_delay(ctx, 1000);
    return task->generation == 1 ? NQ_SNOOZE : task->attempt == 1 ? nq_fail(ctx, NQ_RETRY, "once") : NQ_DONE;
}

static nq_verdict verdicts_exit(nq_ctx *ctx, const nq_task *task, void *udata)
{
    (void)ctx, (void)task, (void)udata;
    _exit(3);
}

START_TEST(events_tell_all_that_happens_to_a_task)
{
    nq *q = t_open();
    struct verdicts_events v = {.lock = PTHREAD_MUTEX_INITIALIZER};
    const bool child = _i == 1;
    nq_worker *p = NULL;
    T_OK(nq_worker_new(
        &p, q, P_OPTIONS(.drain = NQ_DRAIN_ALL, .on_event = verdicts_on_event, .event_udata = &v), &t_last));
    T_OK(nq_worker_handle(p, "t", verdicts_each, NULL, child ? P_ISOLATED(.nice = 0) : NULL, &t_last));
    if (child)
        T_OK(nq_worker_fork(p, &t_last));
    T_ADD(q, .type = "t", .delay_us = 1);
    p_run(p);
    ck_assert_str_eq(v.kinds[0], "SZ");
    ck_assert_str_eq(v.kinds[1], "SR");
    ck_assert_str_eq(v.kinds[2], "SD");
    ck_assert_int_ge(v.ran_us, NQ_MS(20));
    ck_assert_int_le(v.ran_us, NQ_SECONDS(20));
    ck_assert_int_le(v.waited_us, NQ_SECONDS(20));
    ck_assert_int_eq(v.delay_us, 1000);
    ck_assert_str_eq(v.error, "");
    nq_close(q);
}
END_TEST

START_TEST(events_tell_of_a_crash)
{
    nq *q = t_open();
    struct verdicts_events v = {.lock = PTHREAD_MUTEX_INITIALIZER};
    nq_worker *p = NULL;
    T_OK(nq_worker_new(
        &p, q, P_OPTIONS(.drain = NQ_DRAIN_ALL, .on_event = verdicts_on_event, .event_udata = &v), &t_last));
    T_OK(nq_worker_handle(p, "t", verdicts_exit, NULL,
                          P_HANDLE(.max_crashes = NQ_ZERO, .isolation = P_PROCESS(.nice = 0)), &t_last));
    T_OK(nq_worker_fork(p, &t_last));
    T_ADD(q, .type = "t");
    p_run(p);
    ck_assert_str_eq(v.kinds[0], "SX");
    ck_assert(v.crashed);
    ck_assert_ptr_nonnull(strstr(v.error, "exit status 3"));
    nq_close(q);
}
END_TEST

START_TEST(retries_end_in_death_and_the_hook_sees_each)
{
    nq *q = t_open();
    struct verdicts_hook hook = {0};
    nq_id id = T_ADD(q, .type = "t", .max_retries = 3);
    p_run(p_new(q,
                P_OPTIONS(.drain = NQ_DRAIN_ALL, .retry_policy = verdicts_at_once,
                          .on_error = verdicts_on_error, .error_udata = &hook),
                verdicts_retry, NULL));
    t_task t;
    ck_assert_int_eq(t_get(q, id, &t), NQ_OK);
    ck_assert_int_eq(t.info.state, NQ_STATE_DEAD);
    ck_assert_uint_eq(t.info.attempts, 4);
    ck_assert_uint_eq(t.info.generation, 4);
    ck_assert_str_eq(t.error, "try 4");
    t_task_free(&t);
    ck_assert_int_eq(hook.calls, 4);
    ck_assert_int_eq(hook.finals, 1);
    ck_assert_uint_eq(hook.attempt, 4);
    nq_close(q);
}
END_TEST

START_TEST(no_retry_means_one_attempt)
{
    nq *q = t_open();
    nq_id id = T_ADD(q, .type = "t", .max_retries = NQ_ZERO);
    p_run(p_new(q, P_OPTIONS(.drain = NQ_DRAIN_DUE), verdicts_retry, NULL));
    ck_assert_int_eq(t_state(q, id), NQ_STATE_DEAD);
    nq_close(q);
}
END_TEST

START_TEST(a_verdict_without_a_message_gets_one)
{
    static nq_verdict verdicts[] = {NQ_RETRY, NQ_DISCARD, (nq_verdict)99};
    nq *q = t_open();
    for (int i = 0; i < 3; i++) {
        nq_id id = T_ADD(q, .type = "t", .max_retries = NQ_ZERO, .unique = NQ_UNIQUE_NONE);
        p_run(p_new(q, P_OPTIONS(.drain = NQ_DRAIN_DUE), verdicts_silent, &verdicts[i]));
        t_task t;
        ck_assert_int_eq(t_get(q, id, &t), NQ_OK);
        ck_assert_int_eq(t.info.state, NQ_STATE_DEAD);
        ck_assert_uint_gt(strlen(t.error), 5);
        t_task_free(&t);
    }
    nq_close(q);
}
END_TEST

static nq_verdict verdicts_long(nq_ctx *ctx, const nq_task *task, void *udata)
{
    (void)task, (void)udata;
    char text[3 * NQ_MAX_ERROR];
    memset(text, 'x', sizeof text - 1);
    memcpy(text, "head", 4);
    memcpy(text + sizeof text - 5, "tail", 5);
    return nq_fail(ctx, NQ_DISCARD, "%s", text);
}

START_TEST(a_long_message_keeps_its_end)
{
    nq *q = t_open();
    nq_id id = T_ADD(q, .type = "t");
    p_run(p_new(q, P_OPTIONS(.drain = NQ_DRAIN_DUE), verdicts_long, NULL));
    t_task t;
    ck_assert_int_eq(t_get(q, id, &t), NQ_OK);
    ck_assert_uint_le(strlen(t.error), NQ_MAX_ERROR);
    ck_assert_uint_ge(strlen(t.error), NQ_MAX_ERROR - 16);
    ck_assert_str_eq(t.error + strlen(t.error) - 4, "tail");
    t_task_free(&t);
    nq_close(q);
}
END_TEST

static nq_verdict verdicts_snooze(nq_ctx *ctx, const nq_task *task, void *udata)
{
    int *runs = udata;
    if (++*runs == 1) {
        nq_ctx_set_delay(ctx, NQ_MS(120));
        return NQ_SNOOZE;
    }
    ck_assert_uint_eq(task->attempt, 1);
    ck_assert_uint_eq(task->generation, 2);
    return NQ_DONE;
}

START_TEST(snooze_comes_back_and_consumes_no_attempt)
{
    nq *q = t_open();
    int runs = 0;
    int64_t start = t_mono();
    nq_id id = T_ADD(q, .type = "t", .max_retries = NQ_ZERO);
    p_run(p_new(q, P_OPTIONS(.drain = NQ_DRAIN_ALL), verdicts_snooze, &runs));
    ck_assert_int_eq(runs, 2);
    ck_assert_int_ge(t_mono() - start, NQ_MS(120));
    ck_assert_int_eq(t_state(q, id), -1);
    nq_close(q);
}
END_TEST

START_TEST(snooze_without_a_delay_is_a_minute)
{
    static nq_verdict snooze = NQ_SNOOZE;
    nq *q = t_open();
    nq_id id = T_ADD(q, .type = "t");
    int64_t before = t_now(q);
    p_run(p_new(q, P_OPTIONS(.drain = NQ_DRAIN_DUE), verdicts_silent, &snooze));
    t_task t;
    ck_assert_int_eq(t_get(q, id, &t), NQ_OK);
    ck_assert_int_eq(t.info.state, NQ_STATE_WAITING);
    ck_assert_int_ge(t.info.run_at_us, before + NQ_SECONDS(60));
    ck_assert_int_lt(t.info.run_at_us, before + NQ_SECONDS(90));
    t_task_free(&t);
    nq_close(q);
}
END_TEST

/* Of NanoQ: a task of an unknown type was deleted. */
START_TEST(an_unknown_type_is_a_failed_attempt_and_dead_in_the_end)
{
    nq *q = t_open();
    int n = 0;
    nq_id id = T_ADD(q, .type = "unknown/\xc3\xa4", .max_retries = 2), known = T_ADD(q, .type = "known");
    nq_worker *p = p_new(q, P_OPTIONS(.drain = NQ_DRAIN_DUE), NULL, NULL);
    T_OK(nq_worker_handle(p, "known", p_count, &n, NULL, &t_last));
    p_run(p);
    ck_assert_int_eq(n, 1);
    ck_assert_int_eq(t_state(q, known), -1);
    t_task t;
    ck_assert_int_eq(t_get(q, id, &t), NQ_OK);
    ck_assert_int_eq(t.info.state, NQ_STATE_WAITING);
    ck_assert_uint_eq(t.info.attempts, 1);
    ck_assert_ptr_nonnull(strstr(t.error, "unknown/\xc3\xa4"));
    ck_assert_int_gt(t.info.run_at_us, t_now(q) + NQ_SECONDS(2)); /* with backoff */
    t_task_free(&t);
    p = p_new(q, P_OPTIONS(.drain = NQ_DRAIN_ALL, .retry_policy = verdicts_at_once), NULL, NULL);
    T_OK(nq_worker_handle(p, "known", p_count, &n, NULL, &t_last));
    t_sql("UPDATE nanoq_tasks SET run_at = created_at");
    p_run(p);
    ck_assert_int_eq(t_state(q, id), NQ_STATE_DEAD);
    nq_close(q);
}
END_TEST

START_TEST(known_types_only_leaves_the_others_alone)
{
    nq *q = t_open();
    int n = 0;
    nq_id id = T_ADD(q, .type = "unknown"), other = T_ADD(q, .type = "KNOWN");
    T_ADD(q, .type = "known");
    nq_worker *p = p_new(q, P_OPTIONS(.drain = NQ_DRAIN_DUE, .known_types_only = true), NULL, NULL);
    T_OK(nq_worker_handle(p, "known", p_count, &n, NULL, &t_last));
    p_run(p);
    ck_assert_int_eq(n, 1);
    t_task t;
    ck_assert_int_eq(t_get(q, id, &t), NQ_OK);
    ck_assert_int_eq(t.info.state, NQ_STATE_WAITING);
    ck_assert_uint_eq(t.info.generation, 0);
    t_task_free(&t);
    ck_assert_int_eq(t_state(q, other), NQ_STATE_WAITING);
    nq_close(q);
}
END_TEST

START_TEST(a_types_own_handler_comes_before_the_one_for_all)
{
    nq *q = t_open();
    int own = 0, all = 0;
    T_ADD(q, .type = "own");
    T_ADD(q, .type = "a");
    T_ADD(q, .type = "b");
    nq_worker *p = p_new(q, P_OPTIONS(.drain = NQ_DRAIN_DUE), p_count, &all);
    T_OK(nq_worker_handle(p, "own", p_count, &own, NULL, &t_last));
    T_FAILS(nq_worker_handle(p, "own", p_count, &own, NULL, &t_last), NQ_EINVAL);
    T_FAILS(nq_worker_handle(p, NULL, p_count, &own, NULL, &t_last), NQ_EINVAL);
    T_FAILS(nq_worker_handle(p, "", p_count, &own, NULL, &t_last), NQ_EINVAL);
    T_FAILS(nq_worker_handle(p, "null", NULL, NULL, NULL, &t_last), NQ_EINVAL);
    p_run(p);
    ck_assert_int_eq(own, 1);
    ck_assert_int_eq(all, 2);
    nq_close(q);
}
END_TEST

Suite *suite_verdicts(void)
{
    Suite *s = suite_create("verdicts");
    TCase *c = t_case(s, "verdicts", 30);
    tcase_add_test(c, done_runs_each_task_once_and_deletes_it);
    tcase_add_test(c, done_is_kept_as_long_as_asked);
    tcase_add_test(c, the_handler_sees_its_task_and_time);
    tcase_add_test(c, discard_is_dead_at_once_with_its_message);
    tcase_add_test(c, retries_end_in_death_and_the_hook_sees_each);
    tcase_add_loop_test(c, events_tell_all_that_happens_to_a_task, 0, 2);
    tcase_add_test(c, events_tell_of_a_crash);
    tcase_add_test(c, no_retry_means_one_attempt);
    tcase_add_test(c, a_verdict_without_a_message_gets_one);
    tcase_add_test(c, a_long_message_keeps_its_end);
    tcase_add_test(c, snooze_comes_back_and_consumes_no_attempt);
    tcase_add_test(c, snooze_without_a_delay_is_a_minute);
    tcase_add_test(c, an_unknown_type_is_a_failed_attempt_and_dead_in_the_end);
    tcase_add_test(c, known_types_only_leaves_the_others_alone);
    tcase_add_test(c, a_types_own_handler_comes_before_the_one_for_all);
    return s;
}
