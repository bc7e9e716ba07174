/* SPDX-License-Identifier: MIT */
/* Headers of a task, as its handler sees them: in a thread, and in a child process. */
#include "suites.h"

static nq_verdict headers_look(nq_ctx *ctx, const nq_task *task, void *udata)
{
    int *seen = udata;
    const char *trace = nq_task_header(task, "traceparent"), *last = nq_task_header(task, "z");
    const bool payload = task->payload_size == 2 && strcmp(task->payload, "ok") == 0;
    if (strcmp(task->type, "with") == 0) {
        if (!payload || !trace || strcmp(trace, "00-aa-bb-01") != 0 || !last || *last || task->nheaders != 3)
            return nq_fail(ctx, NQ_DISCARD, "%zu headers", task->nheaders);
    } else if (!payload || task->nheaders || task->headers || trace) {
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
            T_ADD(q, .type = "with", NQ_BYTES("ok"), .unique = NQ_UNIQUE_NONE, .headers = all, .nheaders = 3);
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

Suite *suite_worker_headers(void)
{
    Suite *s = suite_create("headers");
    TCase *c = t_case(s, "headers", 60);
    tcase_add_loop_test(c, a_handler_sees_those_of_its_own_task, 0, 2);
    tcase_add_test(c, a_handler_may_pass_on_what_it_was_given);
    return s;
}
