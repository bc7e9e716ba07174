/* SPDX-License-Identifier: MIT */
/* Stopping: by call, by signal, by an empty queue; what is held is completed or released as it was. */
#include "suites.h"

#include <poll.h>
#include <signal.h>

struct stop_gate {
    sem_t started, go;
    nq_verdict verdict;
    int runs;
    enum nq_cause cause;
};

static void stop_gate_init(struct stop_gate *g)
{
    memset(g, 0, sizeof *g);
    sem_init(&g->started, 0, 0);
    sem_init(&g->go, 0, 0);
}

/* Until told to go on; deaf to cancellation. */
static nq_verdict stop_deaf(nq_ctx *ctx, const nq_task *task, void *udata)
{
    (void)task;
    struct stop_gate *g = udata;
    __atomic_add_fetch(&g->runs, 1, __ATOMIC_SEQ_CST);
    t_post(&g->started);
    t_await(&g->go, 25);
    __atomic_store_n(&g->cause, nq_ctx_cause(ctx), __ATOMIC_SEQ_CST); /* several may be here at once */
    return g->verdict;
}

/* Until cancelled. */
static nq_verdict stop_obedient(nq_ctx *ctx, const nq_task *task, void *udata)
{
    (void)task;
    struct stop_gate *g = udata;
    struct pollfd p = {.fd = nq_ctx_fd(ctx), .events = POLLIN};
    __atomic_add_fetch(&g->runs, 1, __ATOMIC_SEQ_CST);
    t_post(&g->started);
    ck_assert_int_eq(poll(&p, 1, 25000 * T_SLOW_FACTOR), 1);
    __atomic_store_n(&g->cause, nq_ctx_cause(ctx), __ATOMIC_SEQ_CST); /* several may be here at once */
    return g->verdict;
}

START_TEST(a_stop_lets_running_tasks_finish_and_claims_no_more)
{
    nq *q = t_open();
    struct stop_gate g;
    stop_gate_init(&g);
    for (int i = 0; i < 20; i++)
        T_ADD(q, .type = "t", .unique = NQ_UNIQUE_NONE);
    p_thread t;
    p_start(&t, p_new(q, P_OPTIONS(.concurrency = 2, .batch = 5), stop_deaf, &g));
    t_await(&g.started, 20);
    t_await(&g.started, 20);
    nq_worker_stop(t.p);
    /* What was claimed ahead is given back while the two still run. */
    T_WAIT(t_count(q, NQ_STATE_RUNNING) == 2, 10);
    ck_assert_uint_eq(t_count(q, NQ_STATE_WAITING), 18);
    t_post(&g.go);
    t_post(&g.go);
    ck_assert_int_eq(p_join(&t), NQ_OK);
    ck_assert_int_eq(g.runs, 2);
    ck_assert_int_eq(g.cause, NQ_CAUSE_NONE);
    ck_assert_uint_eq(t_count(q, NQ_STATE_WAITING), 18);
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_tasks WHERE attempts <> 0 OR lease <> 0"), 0);
    nq_close(q);
}
END_TEST

static void stop_expect_released(nq *q, nq_id id, const t_task *was)
{
    t_task is;
    ck_assert_int_eq(t_get(q, id, &is), NQ_OK);
    ck_assert_int_eq(is.info.state, NQ_STATE_WAITING);
    ck_assert_uint_eq(is.info.attempts, was->info.attempts);
    ck_assert_uint_eq(is.info.crashes, 0);
    ck_assert_int_eq(is.info.run_at_us, was->info.run_at_us);
    ck_assert_str_eq(is.error, was->error);
    t_task_free(&is);
}

START_TEST(after_the_shutdown_timeout_tasks_are_cancelled_and_released_as_they_were)
{
    nq *q = t_open();
    struct stop_gate g;
    stop_gate_init(&g);
    g.verdict = NQ_RETRY;
    nq_id id = T_ADD(q, .type = "t");
    t_task was;
    ck_assert_int_eq(t_get(q, id, &was), NQ_OK);
    p_thread t;
    p_start(&t, p_new(q, P_OPTIONS(.shutdown_timeout_us = NQ_MS(200)), stop_obedient, &g));
    t_await(&g.started, 20);
    int64_t start = t_mono();
    nq_worker_stop(t.p);
    ck_assert_int_eq(p_join(&t), NQ_OK);
    ck_assert_int_ge(t_mono() - start, NQ_MS(190));
    ck_assert_int_eq(g.cause, NQ_CAUSE_SHUTDOWN);
    stop_expect_released(q, id, &was);
    t_task_free(&was);
    nq_close(q);
}
END_TEST

START_TEST(a_task_that_finished_after_its_cancellation_stays_done)
{
    nq *q = t_open();
    struct stop_gate g;
    stop_gate_init(&g);
    nq_id id = T_ADD(q, .type = "t");
    p_thread t;
    p_start(&t, p_new(q, P_OPTIONS(.shutdown_timeout_us = NQ_MS(50)), stop_obedient, &g));
    t_await(&g.started, 20);
    nq_worker_stop(t.p);
    ck_assert_int_eq(p_join(&t), NQ_OK);
    ck_assert_int_eq(g.cause, NQ_CAUSE_SHUTDOWN);
    ck_assert_int_eq(t_state(q, id), -1);
    nq_close(q);
}
END_TEST

START_TEST(a_second_stop_skips_the_shutdown_timeout)
{
    nq *q = t_open();
    struct stop_gate g;
    stop_gate_init(&g);
    g.verdict = NQ_RETRY;
    nq_id id = T_ADD(q, .type = "t");
    p_thread t;
    p_start(&t, p_new(q, P_OPTIONS(.shutdown_timeout_us = NQ_HOURS(1)), stop_obedient, &g));
    t_await(&g.started, 20);
    int64_t start = t_mono();
    nq_worker_stop(t.p);
    nq_worker_stop(t.p);
    ck_assert_int_eq(p_join(&t), NQ_OK);
    ck_assert_int_lt(t_mono() - start, NQ_SECONDS(5) * T_SLOW_FACTOR);
    ck_assert_int_eq(t_state(q, id), NQ_STATE_WAITING);
    nq_close(q);
}
END_TEST

START_TEST(handlers_that_ignore_their_cancellation_are_told_as_stuck)
{
    nq *q = t_open();
    struct stop_gate g;
    stop_gate_init(&g);
    nq_id id = T_ADD(q, .type = "t");
    t_task was;
    ck_assert_int_eq(t_get(q, id, &was), NQ_OK);
    p_thread t;
    p_start(&t, p_new(q, P_OPTIONS(.shutdown_timeout_us = NQ_MS(50), .cancel_grace_us = NQ_MS(100)),
                      stop_deaf, &g));
    t_await(&g.started, 20);
    nq_worker_stop(t.p);
    pthread_join(t.thread, NULL);
    ck_assert_int_eq(t.rc, NQ_ESTUCK);
    ck_assert_int_eq(t.err.code, NQ_ESTUCK);
    stop_expect_released(q, id, &was);
    nq_worker_free(t.p); /* keeps what the thread still uses */
    t_post(&g.go);
    /* Its late answer must not reach the task. */
    t_pause_ms(200);
    stop_expect_released(q, id, &was);
    t_task_free(&was);
    _exit(0); /* as the header says: exit the process */
}
END_TEST

static nq_worker *stop_target;

static void stop_in_handler(int sig)
{
    (void)sig;
    nq_worker_stop(stop_target);
}

START_TEST(stop_may_be_called_in_a_signal_handler)
{
    nq *q = t_open();
    int n = 0;
    nq_worker *p = p_new(q, NULL, p_count, &n);
    stop_target = p;
    struct sigaction sa = {.sa_handler = stop_in_handler};
    ck_assert_int_eq(sigaction(SIGUSR1, &sa, NULL), 0);
    T_ADD(q, .type = "t");
    p_thread t;
    p_start(&t, p);
    T_WAIT(p_load(&n) == 1, 20);
    kill(getpid(), SIGUSR1);
    ck_assert_int_eq(p_join(&t), NQ_OK);
    nq_close(q);
}
END_TEST

static void stop_before(int sig)
{
    (void)sig;
}

START_TEST(signals_stop_it_when_asked_and_the_old_handlers_come_back)
{
    static const int signals[] = {SIGTERM, SIGINT};
    nq *q = t_open();
    for (int i = 0; i < 2; i++) {
        struct sigaction before = {.sa_handler = stop_before}, after;
        ck_assert_int_eq(sigaction(signals[i], &before, NULL), 0);
        int n = 0;
        T_ADD(q, .type = "t");
        p_thread t;
        p_start(&t, p_new(q, P_OPTIONS(.handle_signals = true), p_count, &n));
        T_WAIT(p_load(&n) == 1, 20);
        kill(getpid(), signals[i]);
        ck_assert_int_eq(p_join(&t), NQ_OK);
        ck_assert_int_eq(sigaction(signals[i], NULL, &after), 0);
        ck_assert(after.sa_handler == stop_before);
    }
    nq_close(q);
}
END_TEST

START_TEST(without_being_asked_no_signal_handler_is_touched)
{
    nq *q = t_open();
    int n = 0;
    T_ADD(q, .type = "t");
    struct sigaction before[32], now;
    for (int sig = 1; sig < 32; sig++)
        sigaction(sig, NULL, &before[sig]);
    p_thread t;
    p_start(&t, p_new(q, NULL, p_count, &n));
    T_WAIT(p_load(&n) == 1, 20);
    for (int sig = 1; sig < 32; sig++)
        if (sigaction(sig, NULL, &now) == 0)
            ck_assert_msg(now.sa_handler == before[sig].sa_handler, "signal %d", sig);
    p_stop(&t);
    nq_close(q);
}
END_TEST

START_TEST(drain_due_leaves_what_is_delayed)
{
    nq *q = t_open();
    int n = 0;
    T_ADD(q, .type = "now");
    nq_id later = T_ADD(q, .type = "later", .delay_us = NQ_HOURS(1));
    p_run(p_new(q, P_OPTIONS(.drain = NQ_DRAIN_DUE), p_count, &n));
    ck_assert_int_eq(n, 1);
    ck_assert_int_eq(t_state(q, later), NQ_STATE_WAITING);
    p_run(p_new(q, P_OPTIONS(.drain = NQ_DRAIN_DUE), p_count, &n)); /* an empty one returns at once */
    ck_assert_int_eq(n, 1);
    nq_close(q);
}
END_TEST

START_TEST(drain_all_waits_for_what_is_delayed)
{
    nq *q = t_open();
    int n = 0;
    int64_t start = t_mono();
    T_ADD(q, .type = "now");
    T_ADD(q, .type = "later", .delay_us = NQ_MS(700));
    p_run(p_new(q, P_OPTIONS(.drain = NQ_DRAIN_ALL), p_count, &n));
    ck_assert_int_eq(n, 2);
    ck_assert_int_ge(t_mono() - start, NQ_MS(700));
    ck_assert_int_lt(t_mono() - start, NQ_SECONDS(6) * T_SLOW_FACTOR); /* and sleeps exactly until then */
    nq_close(q);
}
END_TEST

START_TEST(a_stop_before_the_run_and_one_of_an_idle_worker)
{
    nq *q = t_open();
    int n = 0;
    nq_id id = T_ADD(q, .type = "t");
    nq_worker *p = p_new(q, NULL, p_count, &n);
    nq_worker_stop(p);
    T_OK(nq_worker_run(p, &t_last));
    T_FAILS(nq_worker_run(p, &t_last), NQ_EINVAL); /* once only */
    nq_worker_free(p);
    ck_assert_int_eq(t_state(q, id), NQ_STATE_WAITING);
    T_OK(nq_delete(q, id, &t_last));
    p_thread t;
    p_start(&t, p_new(q, NULL, p_count, &n));
    T_WAIT(t_sql("SELECT COUNT(*) FROM nanoq_workers") == 1, 10);
    int64_t start = t_mono();
    p_stop(&t);
    ck_assert_int_lt(t_mono() - start, NQ_SECONDS(3) * T_SLOW_FACTOR);
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_workers"), 0);
    nq_worker_free(NULL);
    nq_worker_stop(NULL);
    nq_close(q);
}
END_TEST

START_TEST(bad_options_are_refused)
{
    nq *q = t_open();
    nq_worker *p = NULL;
    const nq_queue_options bad_queue[] = {NQ_QUEUE(.name = "no spaces")},
                           null_queue[] = {NQ_QUEUE(.name = NULL)},
                           twice[] = {NQ_QUEUE(.name = "a"), NQ_QUEUE(.name = "a")};
    const nq_worker_options bad[] = {
        {.size = sizeof *bad, .concurrency = 1025},
        {.size = sizeof *bad, .queues = bad_queue, .nqueues = 1},
        {.size = sizeof *bad, .queues = null_queue, .nqueues = 1},
        {.size = sizeof *bad, .nqueues = 1},
        {.size = sizeof *bad, .shutdown_timeout_us = -1},
        {.size = sizeof *bad, .cancel_grace_us = -1},
        {.size = sizeof *bad, .lease_us = NQ_SECONDS(3) - 1},
        {.size = sizeof *bad, .lease_us = INT64_MAX},
        {.size = sizeof *bad, .poll_us = -1},
        {.size = sizeof *bad, .keep_done_us = -1},
        {.size = sizeof *bad, .keep_dead_us = INT64_MAX - 1},
        {.size = sizeof *bad, .max_crashes = -1},
        {.size = sizeof *bad, .lease_us = NQ_ZERO},
        {.size = sizeof *bad, .poll_us = NQ_ZERO},
        {.size = sizeof *bad, .drain = (enum nq_drain)7},
        {.size = 0},
    };
    (void)twice;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        memset(&t_last, 0, sizeof t_last);
        int rc = nq_worker_new(&p, q, &bad[i], &t_last);
        ck_assert_msg(rc == NQ_EINVAL, "%zu: %s", i, nq_code_name(rc));
        ck_assert_uint_gt(strlen(t_last.message), 8);
        ck_assert_ptr_null(p);
    }
    T_FAILS(nq_worker_new(&p, NULL, NULL, &t_last), NQ_EINVAL);
    nq_close(q);
}
END_TEST

START_TEST(a_queue_without_tables_is_told_at_the_start)
{
    nq *q = t_open();
    int n = 0;
    nq_worker *p = p_new(q, NULL, p_count, &n);
    T_FAILS(nq_worker_run(p, &t_last), NQ_ENOTMIGRATED);
    nq_worker_free(p);
    nq_close(q);
}
END_TEST

Suite *suite_stop(void)
{
    Suite *s = suite_create("stop");
    TCase *c = t_case(s, "stop", 40);
    tcase_add_test(c, a_stop_lets_running_tasks_finish_and_claims_no_more);
    tcase_add_test(c, after_the_shutdown_timeout_tasks_are_cancelled_and_released_as_they_were);
    tcase_add_test(c, a_task_that_finished_after_its_cancellation_stays_done);
    tcase_add_test(c, a_second_stop_skips_the_shutdown_timeout);
    tcase_add_test(c, handlers_that_ignore_their_cancellation_are_told_as_stuck);
    tcase_add_test(c, stop_may_be_called_in_a_signal_handler);
    tcase_add_test(c, signals_stop_it_when_asked_and_the_old_handlers_come_back);
    tcase_add_test(c, without_being_asked_no_signal_handler_is_touched);
    tcase_add_test(c, drain_due_leaves_what_is_delayed);
    tcase_add_test(c, drain_all_waits_for_what_is_delayed);
    tcase_add_test(c, a_stop_before_the_run_and_one_of_an_idle_worker);
    tcase_add_test(c, bad_options_are_refused);
    tcase_add_test(t_case_empty(s, "stop_empty", 20), a_queue_without_tables_is_told_at_the_start);
    return s;
}
