/* SPDX-License-Identifier: MIT */
/* Headers of a task, as its handler sees them: in a thread, and in a child process. */
#include "suites.h"

static nq_verdict headers_look(nq_ctx *ctx, const nq_task *task, void *udata)
{
    int *seen = udata;
    const char *trace = nq_task_header(task, "traceparent"), *last = nq_task_header(task, "z");
    const bool payload = task->payload_size == 2 && strcmp(task->payload, "ok") == 0;
    if (strcmp(task->type, "with") == 0) {
        if (!payload || !trace || strcmp(trace, "00-aa-bb-01") != 0 || !last || *last ||
            task->nheaders != 3 || task->ntags != 2 || strcmp(task->tags[1], "b") != 0)
            return nq_fail(ctx, NQ_DISCARD, "%zu headers", task->nheaders);
    } else if (!payload || task->nheaders || task->headers || trace || task->ntags) {
        return nq_fail(ctx, NQ_DISCARD, "headers of another task");
    }
    __atomic_add_fetch(seen, 1, __ATOMIC_SEQ_CST);
    return NQ_DONE;
}

START_TEST(a_handler_sees_those_of_its_own_task)
{
    static const nq_header all[] = {{"traceparent", "00-aa-bb-01"}, {"lang", "de"}, {"z", ""}};
    int *seen = p_shared(sizeof *seen);
    nq *q = t_open();
    nq_worker *p = p_new(q, P_OPTIONS(.concurrency = 2, .drain = NQ_DRAIN_DUE), NULL, NULL);
    T_OK(nq_worker_handle(p, NULL, headers_look, seen, _i ? P_ISOLATED(.nice = 0) : NULL, &t_last));
    if (_i)
        T_OK(nq_worker_fork(p, &t_last));
    for (int i = 0; i < 60; i++)
        if (i % 3)
            T_ADD(q, .type = "without", NQ_BYTES("ok"), .unique = NQ_UNIQUE_NONE);
        else
            T_ADD(q, .type = "with", NQ_BYTES("ok"), .unique = NQ_UNIQUE_NONE, .headers = all, .nheaders = 3,
                  .tags = (const char *const[]){"a", "b"}, .ntags = 2);
    p_run(p);
    ck_assert_int_eq(*seen, 60);
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_finished"), 0);
    nq_close(q);
}
END_TEST

static nq_verdict headers_pass_on(nq_ctx *ctx, const nq_task *task, void *udata)
{
    nq_err err = {0};
    (void)udata;
    if (strcmp(task->type, "next") == 0)
        return nq_task_header(task, "traceparent") ? NQ_DONE : NQ_DISCARD;
    if (nq_enqueue(nq_ctx_queue(ctx), NQ_OWN_TX,
                   NQ_TASK(.type = "next", .headers = task->headers, .nheaders = task->nheaders), NULL,
                   &err) != NQ_OK)
        return nq_fail(ctx, NQ_DISCARD, "%s", err.message);
    return NQ_DONE;
}

START_TEST(a_handler_may_pass_on_what_it_was_given)
{
    nq *q = t_open();
    nq_worker *p = p_new(q, P_OPTIONS(.drain = NQ_DRAIN_DUE), headers_pass_on, NULL);
    t_sql(
        "INSERT INTO nanoq_tasks (type, headers) VALUES ('first', 'nq-flow: 3\ntraceparent: x\nno header')");
    p_run(p);
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_tasks"), 0);
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_finished"), 0);
    nq_close(q);
}
END_TEST

/* ---- Not later than ---- */

struct headers_events {
    int started, dead, done, errors;
};

static void headers_event(const nq_event *e, void *udata)
{
    struct headers_events *s = udata;
    int *const n = e->kind == NQ_EVENT_STARTED ? &s->started : e->kind == NQ_EVENT_DEAD ? &s->dead : &s->done;
    __atomic_add_fetch(n, 1, __ATOMIC_SEQ_CST);
    if (e->kind == NQ_EVENT_DEAD)
        ck_assert(strncmp(e->error, "expired", 7) == 0 && e->waited_us == 0 && e->ran_us == 0 && !e->crashed);
}

static void headers_error(const nq_task *task, const char *error, bool final, void *udata)
{
    (void)task, (void)error, (void) final;
    __atomic_add_fetch(&((struct headers_events *)udata)->errors, 1, __ATOMIC_SEQ_CST);
}

START_TEST(an_expired_task_does_not_start)
{
    int *ran = p_shared(sizeof *ran);
    struct headers_events s = {0};
    nq *q = t_open();
    nq_worker *p = p_new(q,
                         P_OPTIONS(.drain = NQ_DRAIN_DUE, .on_event = headers_event, .event_udata = &s,
                                   .on_error = headers_error, .error_udata = &s),
                         NULL, NULL);
    T_OK(nq_worker_handle(p, NULL, p_count, ran, _i ? P_ISOLATED(.nice = 0) : NULL, &t_last));
    if (_i)
        T_OK(nq_worker_fork(p, &t_last));
    for (int i = 0; i < 3; i++) {
        t_sql("INSERT INTO nanoq_tasks (type, payload, headers) VALUES ('late', '%d', 'nq-expires: %d')", i,
              i + 1);
        T_ADD(q, .type = "good", .payload = &i, .payload_size = sizeof i, .expires_us = NQ_HOURS(1));
    }
    t_sql("INSERT INTO nanoq_tasks (type, headers, attempts, error) VALUES ('again', 'nq-expires: 7', 2, "
          "'no')");
    p_run(p);
    ck_assert_int_eq(*ran, 3);
    ck_assert_int_eq(s.started, 3);
    ck_assert_int_eq(s.done, 3);
    ck_assert_int_eq(s.dead, 4);
    ck_assert_int_eq(s.errors, 4);
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_finished WHERE state = 3 AND type = 'late' AND "
                           "attempts = 0 AND crashes = 0 AND CAST(error AS CHAR) = 'expired'"),
                     3);
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_finished WHERE type = 'again' AND attempts = 2 AND "
                           "CAST(error AS CHAR) = 'expired; the attempt before: no'"),
                     1);
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_tasks"), 0);
    nq_close(q);
}
END_TEST

struct headers_slow {
    sem_t started, go;
    int ran;
};

static nq_verdict headers_wait(nq_ctx *ctx, const nq_task *task, void *udata)
{
    struct headers_slow *s = udata;
    (void)ctx;
    if (strcmp(task->type, "first") == 0) {
        t_post(&s->started);
        t_await(&s->go, 20);
    } else {
        __atomic_add_fetch(&s->ran, 1, __ATOMIC_SEQ_CST);
    }
    return NQ_DONE;
}

/* Claimed in one batch with the one before it, in time, it expires while it waits for the only handler. */
START_TEST(one_that_expires_while_it_waits_for_a_handler_does_not_start)
{
    struct headers_slow s = {0};
    nq *q = t_open();
    p_thread t;
    ck_assert_int_eq(sem_init(&s.started, 0, 0) | sem_init(&s.go, 0, 0), 0);
    T_ADD(q, .type = "first");
    const nq_id id = T_ADD(q, .type = "second", .expires_us = NQ_MS(700) * T_SLOW_FACTOR);
    p_start(&t, p_new(q, P_OPTIONS(.concurrency = 1), headers_wait, &s));
    t_await(&s.started, 10);
    const int64_t until = t_mono() + NQ_MS(800) * T_SLOW_FACTOR;
    T_WAIT(t_mono() > until, 30);
    t_post(&s.go);
    T_WAIT(t_state(q, id) == NQ_STATE_DEAD, 10);
    p_stop(&t);
    ck_assert_int_eq(s.ran, 0);
    ck_assert_int_eq(t_sql("SELECT attempts FROM nanoq_finished WHERE CAST(error AS CHAR) = 'expired'"), 0);
    nq_close(q);
}
END_TEST

Suite *suite_worker_headers(void)
{
    Suite *s = suite_create("headers");
    TCase *c = t_case(s, "headers", 60);
    tcase_add_loop_test(c, a_handler_sees_those_of_its_own_task, 0, 2);
    tcase_add_test(c, a_handler_may_pass_on_what_it_was_given);
    tcase_add_loop_test(c, an_expired_task_does_not_start, 0, 2);
    tcase_add_test(c, one_that_expires_while_it_waits_for_a_handler_does_not_start);
    return s;
}
