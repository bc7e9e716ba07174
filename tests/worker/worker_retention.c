/* SPDX-License-Identifier: MIT */
/* Workers heed how long the settings of a queue say that its tasks are kept. */
#include "suites.h"

#define R_SET(...)    (&(nq_queue_settings){.size = sizeof(nq_queue_settings), __VA_ARGS__})

#define R_ADD(q, ...) T_ADD(q, .unique = NQ_UNIQUE_NONE, __VA_ARGS__)

static nq_verdict retention_handler(nq_ctx *ctx, const nq_task *task, void *udata)
{
    (void)udata;
    if (strcmp(task->type, "fails") == 0)
        return nq_fail(ctx, NQ_DISCARD, "it does");
    nq_err err = {0};
    if (strcmp(task->type, "result") == 0 && nq_ctx_result(ctx, "r", 1, &err) != NQ_OK)
        return nq_fail(ctx, NQ_DISCARD, "%s", err.message);
    return NQ_DONE;
}

static nq_worker *retention_new(nq *q, int64_t keep_done_us, nq_handler_fn fn, bool isolated, int drain)
{
    nq_queue_options queues[] = {NQ_QUEUE(.name = "default"), NQ_QUEUE(.name = "mail")};
    nq_worker *p = p_new(q,
                         P_OPTIONS(.queues = queues, .nqueues = 2, .concurrency = 2, .drain = drain,
                                   .keep_done_us = keep_done_us),
                         NULL, NULL);
    T_OK(nq_worker_handle(p, NULL, fn, NULL, isolated ? P_ISOLATED(.nice = 0) : NULL, &t_last));
    if (isolated)
        T_OK(nq_worker_fork(p, &t_last)); /* before the handle has threads */
    return p;
}

static nq_worker *retention_worker(nq *q, int64_t keep_done_us, bool isolated, int drain)
{
    return retention_new(q, keep_done_us, retention_handler, isolated, drain);
}

/* In threads and in children. */
START_TEST(a_done_task_is_kept_as_its_queue_says)
{
    nq *q = t_open();
    nq_worker *p = retention_worker(q, 0, _i, NQ_DRAIN_DUE);
    T_OK(nq_queue_set(q, "mail", R_SET(.keep_done_us = NQ_DAYS(1)), &t_last));
    T_OK(nq_queue_set(q, "mail//7", R_SET(.keep_done_us = NQ_ZERO), &t_last));
    const nq_id beside = R_ADD(q, .type = "t"), own = R_ADD(q, .type = "t", .queue = "mail"),
                group = R_ADD(q, .type = "t", .queue = "mail", .group = "1"),
                none = R_ADD(q, .type = "t", .queue = "mail", .group = "7"),
                asked = R_ADD(q, .type = "u", .queue = "mail", .group = "7", .keep_us = NQ_HOURS(1)),
                result = R_ADD(q, .type = "result", .queue = "mail", .group = "7");
    p_run(p);
    ck_assert_int_eq(t_state(q, beside), -1);
    ck_assert_int_eq(t_state(q, own), NQ_STATE_DONE);
    ck_assert_int_eq(t_state(q, group), NQ_STATE_DONE);
    ck_assert_int_eq(t_state(q, none), -1);
    ck_assert_int_eq(t_state(q, asked), NQ_STATE_DONE);
    ck_assert_int_eq(t_state(q, result), NQ_STATE_DONE);
    nq_close(q);
}
END_TEST

START_TEST(a_queue_may_keep_none_of_what_its_worker_would)
{
    nq *q = t_open();
    T_OK(nq_queue_set(q, "mail", R_SET(.keep_done_us = NQ_ZERO), &t_last));
    const nq_id beside = R_ADD(q, .type = "t"), own = R_ADD(q, .type = "t", .queue = "mail");
    p_run(retention_worker(q, NQ_FOREVER, false, NQ_DRAIN_DUE));
    ck_assert_int_eq(t_state(q, beside), NQ_STATE_DONE);
    ck_assert_int_eq(t_state(q, own), -1);
    nq_close(q);
}
END_TEST

/* The handler's own transaction, in threads. */
static nq_verdict retention_complete(nq_ctx *ctx, const nq_task *task, void *udata)
{
    nq_err err = {0};
    t_conn *c = t_connect();
    (void)task, (void)udata;
    t_begin(c);
    const int rc = nq_ctx_complete_in(ctx, t_tx(c), &err);
    t_run(c, rc == NQ_OK ? "COMMIT" : "ROLLBACK");
    t_disconnect(c);
    return rc == NQ_OK ? NQ_DONE : nq_fail(ctx, NQ_DISCARD, "%s", err.message);
}

START_TEST(completion_in_the_handlers_transaction_heeds_it_too)
{
    nq *q = t_open();
    nq_worker *p = retention_new(q, 0, retention_complete, _i, NQ_DRAIN_DUE);
    T_OK(nq_queue_set(q, "mail", R_SET(.keep_done_us = NQ_DAYS(1)), &t_last));
    const nq_id beside = R_ADD(q, .type = "t"), own = R_ADD(q, .type = "t", .queue = "mail", .group = "1");
    p_run(p);
    ck_assert_int_eq(t_state(q, beside), -1);
    ck_assert_int_eq(t_state(q, own), NQ_STATE_DONE);
    nq_close(q);
}
END_TEST

/* Set by plain SQL, and changed, while a worker runs; its purge goes by what is set. */
START_TEST(it_may_change_while_workers_run)
{
    nq *q = t_open();
    p_thread t;
    p_start(&t, retention_worker(q, 0, false, NQ_DRAIN_NEVER));
    T_WAIT(t_sql("SELECT COUNT(*) FROM nanoq_workers") == 1, 10);
    const nq_id before = R_ADD(q, .type = "t", .queue = "mail");
    T_WAIT(t_state(q, before) == -1, 10);
    t_sql("INSERT INTO nanoq_queues (name, keep_done_us) VALUES ('mail', -1)");
    nq_id kept = 0;
    for (int i = 0; i < 2000 && kept == 0; i++) { /* until the worker has read it */
        const nq_id id = R_ADD(q, .type = "t", .queue = "mail");
        T_WAIT(t_state(q, id) == -1 || t_state(q, id) == NQ_STATE_DONE, 10);
        kept = t_state(q, id) == NQ_STATE_DONE ? id : 0;
        t_pause_ms(2);
    }
    ck_assert_int_gt(kept, 0);
    T_OK(nq_queue_set(q, "mail", NULL, &t_last)); /* told at once on this host */
    for (int i = 0; i < 2000 && kept > 0; i++) {
        const nq_id id = R_ADD(q, .type = "t", .queue = "mail");
        T_WAIT(t_state(q, id) == -1 || t_state(q, id) == NQ_STATE_DONE, 10);
        kept = t_state(q, id) == NQ_STATE_DONE ? id : 0;
        t_pause_ms(2);
    }
    ck_assert_int_eq(kept, 0);
    p_stop(&t);
    nq_close(q);
}
END_TEST

/* The first purge of a worker comes with its joining. */
START_TEST(workers_purge_as_the_queues_say)
{
    nq *q = t_open();
    p_thread t;
    nq_id ids[4];
    T_OK(nq_queue_set(q, "mail", R_SET(.keep_dead_us = NQ_ZERO), &t_last));
    T_OK(nq_queue_set(q, "mail//7", R_SET(.keep_dead_us = NQ_FOREVER), &t_last));
    ids[0] = R_ADD(q, .type = "fails");
    ids[1] = R_ADD(q, .type = "fails", .queue = "mail");
    ids[2] = R_ADD(q, .type = "fails", .queue = "mail", .group = "7");
    ids[3] = R_ADD(q, .type = "t", .queue = "mail", .delay_us = NQ_HOURS(1));
    T_OK(nq_cancel(q, ids[3], &t_last));
    p_run(retention_worker(q, 0, false, NQ_DRAIN_DUE));
    p_start(&t, retention_worker(q, 0, false, NQ_DRAIN_NEVER));
    T_WAIT(t_state(q, ids[1]) == -1 && t_state(q, ids[3]) == -1, 20);
    ck_assert_int_eq(t_state(q, ids[0]), NQ_STATE_DEAD);
    ck_assert_int_eq(t_state(q, ids[2]), NQ_STATE_DEAD);
    p_stop(&t);
    nq_close(q);
}
END_TEST

Suite *suite_worker_retention(void)
{
    Suite *s = suite_create("worker_retention");
    TCase *c = t_case(s, "worker_retention", 60);
    tcase_add_loop_test(c, a_done_task_is_kept_as_its_queue_says, 0, 2);
    tcase_add_test(c, a_queue_may_keep_none_of_what_its_worker_would);
    tcase_add_loop_test(c, completion_in_the_handlers_transaction_heeds_it_too, 0, 2);
    tcase_add_test(c, it_may_change_while_workers_run);
    tcase_add_test(c, workers_purge_as_the_queues_say);
    return s;
}
