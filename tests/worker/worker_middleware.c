/* SPDX-License-Identifier: MIT */
/* Middleware: global around per-handler, the first registered outermost; it may answer in the handler's
 * place. */
#include "suites.h"

static char middleware_trace[256];

static nq_verdict middleware_mark(nq_ctx *ctx, const nq_task *task, nq_next *next, void *udata)
{
    strcat(middleware_trace, udata);
    nq_verdict v = nq_next_run(next, ctx, task);
    strcat(middleware_trace, udata);
    return v;
}

static nq_verdict middleware_handler(nq_ctx *ctx, const nq_task *task, void *udata)
{
    (void)ctx, (void)task;
    strcat(middleware_trace, udata);
    return NQ_DONE;
}

static nq_verdict middleware_bar(nq_ctx *ctx, const nq_task *task, nq_next *next, void *udata)
{
    (void)task, (void)next, (void)udata;
    return nq_fail(ctx, NQ_DISCARD, "barred");
}

static nq_verdict middleware_mend(nq_ctx *ctx, const nq_task *task, nq_next *next, void *udata)
{
    (void)udata;
    nq_verdict v = nq_next_run(next, ctx, task);
    ck_assert_int_eq(v, NQ_DISCARD);
    ck_assert_str_eq(nq_ctx_message(ctx), "barred");
    return NQ_DONE;
}

START_TEST(the_first_registered_is_outermost)
{
    nq *q = t_open();
    T_ADD(q, .type = "a");
    static char one[] = "1", two[] = "2", three[] = "3", four[] = "4", h[] = "H";
    const nq_middleware layers[] = {{middleware_mark, three}, {middleware_mark, four}};
    nq_handle_options options = {.size = sizeof options, .middleware = layers, .nmiddleware = 2};
    nq_worker *p = p_new(q, P_OPTIONS(.drain = NQ_DRAIN_DUE), NULL, NULL);
    T_OK(nq_worker_use(p, middleware_mark, one, &t_last));
    T_OK(nq_worker_handle(p, "a", middleware_handler, h, &options, &t_last));
    T_OK(nq_worker_use(p, middleware_mark, two, &t_last)); /* also around handlers registered before */
    T_FAILS(nq_worker_use(p, NULL, NULL, &t_last), NQ_EINVAL);
    p_run(p);
    ck_assert_str_eq(middleware_trace, "1234H4321");
    nq_close(q);
}
END_TEST

START_TEST(a_handlers_own_middleware_is_its_own)
{
    nq *q = t_open();
    T_ADD(q, .type = "a");
    T_ADD(q, .type = "b");
    static char one[] = "1", two[] = "2", a[] = "A", b[] = "B";
    const nq_middleware layers[] = {{middleware_mark, two}};
    nq_handle_options options = {.size = sizeof options, .middleware = layers, .nmiddleware = 1};
    nq_worker *p = p_new(q, P_OPTIONS(.drain = NQ_DRAIN_DUE, .concurrency = 1), NULL, NULL);
    T_OK(nq_worker_use(p, middleware_mark, one, &t_last));
    T_OK(nq_worker_handle(p, "a", middleware_handler, a, &options, &t_last));
    T_OK(nq_worker_handle(p, "b", middleware_handler, b, NULL, &t_last));
    p_run(p);
    ck_assert_str_eq(middleware_trace, "12A211B1");
    nq_close(q);
}
END_TEST

START_TEST(middleware_may_answer_in_the_handlers_place)
{
    nq *q = t_open();
    int n = 0;
    nq_id id = T_ADD(q, .type = "a");
    nq_worker *p = p_new(q, P_OPTIONS(.drain = NQ_DRAIN_DUE), p_count, &n);
    T_OK(nq_worker_use(p, middleware_bar, NULL, &t_last));
    p_run(p);
    ck_assert_int_eq(n, 0);
    t_task t;
    ck_assert_int_eq(t_get(q, id, &t), NQ_OK);
    ck_assert_int_eq(t.info.state, NQ_STATE_DEAD);
    ck_assert_str_eq(t.error, "barred");
    t_task_free(&t);
    nq_close(q);
}
END_TEST

START_TEST(middleware_may_change_the_verdict)
{
    nq *q = t_open();
    int n = 0;
    nq_id id = T_ADD(q, .type = "a");
    nq_worker *p = p_new(q, P_OPTIONS(.drain = NQ_DRAIN_DUE), p_count, &n);
    T_OK(nq_worker_use(p, middleware_mend, NULL, &t_last));
    T_OK(nq_worker_use(p, middleware_bar, NULL, &t_last));
    p_run(p);
    ck_assert_int_eq(n, 0);
    ck_assert_int_eq(t_state(q, id), -1);
    nq_close(q);
}
END_TEST

Suite *suite_middleware(void)
{
    Suite *s = suite_create("middleware");
    TCase *c = t_case(s, "middleware", 30);
    tcase_add_test(c, the_first_registered_is_outermost);
    tcase_add_test(c, a_handlers_own_middleware_is_its_own);
    tcase_add_test(c, middleware_may_answer_in_the_handlers_place);
    tcase_add_test(c, middleware_may_change_the_verdict);
    return s;
}
