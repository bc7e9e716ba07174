/* SPDX-License-Identifier: MIT */
/* Threads: really parallel, never more than asked, up to 512; no open transaction beside a running handler.
 */
#include "suites.h"

#include <errno.h>

struct threads_gauge {
    int running, most, runs;
    int want;
    pthread_mutex_t mutex;
    pthread_cond_t full;
    bool was_full;
};

/* All of `want` handlers must be here at once before any goes on: proof that they run in parallel. */
static nq_verdict threads_meet(nq_ctx *ctx, const nq_task *task, void *udata)
{
    (void)ctx, (void)task;
    struct threads_gauge *g = udata;
    struct timespec ts;
    clock_gettime(CLOCK_REALTIME, &ts);
    ts.tv_sec += 20 * T_SLOW_FACTOR;
    pthread_mutex_lock(&g->mutex);
    g->runs++;
    if (++g->running > g->most)
        g->most = g->running;
    if (g->running == g->want) {
        g->was_full = true;
        pthread_cond_broadcast(&g->full);
    }
    int rc = 0;
    while (!g->was_full && rc != ETIMEDOUT)
        rc = pthread_cond_timedwait(&g->full, &g->mutex, &ts);
    g->running--;
    pthread_mutex_unlock(&g->mutex);
    return NQ_DONE;
}

static void threads_meet_all(int concurrency, int tasks)
{
    nq *q = t_open();
    struct threads_gauge g = {
        .want = concurrency, .mutex = PTHREAD_MUTEX_INITIALIZER, .full = PTHREAD_COND_INITIALIZER};
    nq_task_spec *specs = calloc((size_t)tasks, sizeof *specs);
    ck_assert_ptr_nonnull(specs);
    for (int i = 0; i < tasks; i++)
        specs[i] = *NQ_TASK(.type = "t", .unique = NQ_UNIQUE_NONE);
    T_OK(nq_enqueue_many(q, NQ_OWN_TX, specs, (size_t)tasks, NULL, NULL, &t_last));
    free(specs);
    p_run(p_new(q, P_OPTIONS(.drain = NQ_DRAIN_DUE, .concurrency = (unsigned)concurrency), threads_meet, &g));
    ck_assert_int_eq(g.runs, tasks);
    ck_assert_int_eq(g.most, concurrency); /* all at once, and never one more */
    nq_close(q);
}

START_TEST(handlers_run_in_parallel_and_never_exceed)
{
    threads_meet_all(8, 60);
}
END_TEST

START_TEST(one_thread_is_one_thread)
{
    threads_meet_all(1, 20);
}
END_TEST

START_TEST(five_hundred_and_twelve_threads)
{
    threads_meet_all(512, 1100);
}
END_TEST

START_TEST(many_queues_and_none_starves)
{
    nq *q = t_open();
    const char *const names[] = {"busy", "a", "b", "c", "d", "e"};
    nq_queue_options queues[6];
    static nq_task_spec specs[3000];
    int n = 0;
    for (int i = 0; i < 3000; i++)
        specs[i] = *NQ_TASK(.type = "busy", .queue = "busy", .unique = NQ_UNIQUE_NONE);
    T_OK(nq_enqueue_many(q, NQ_OWN_TX, specs, 3000, NULL, NULL, &t_last));
    for (int i = 0; i < 6; i++)
        queues[i] = NQ_QUEUE(.name = names[i]);
    for (int i = 1; i < 6; i++)
        T_ADD(q, .type = "rare", .queue = names[i], .unique = NQ_UNIQUE_NONE);
    nq_worker *p =
        p_new(q, P_OPTIONS(.queues = queues, .nqueues = 6, .concurrency = 4, .batch = 20), p_count, &n);
    int rare = 0;
    T_OK(nq_worker_handle(p, "rare", p_count, &rare, NULL, &t_last));
    p_thread t;
    p_start(&t, p);
    T_WAIT(p_load(&rare) == 5, 20);
    int busy = p_load(&n);
    p_stop(&t);
    ck_assert_msg(busy < 2500, "the rare queues came only after %d tasks of the busy one", busy);
    nq_close(q);
}
END_TEST

struct threads_inside {
    int runs;
};

static nq_verdict threads_enqueue(nq_ctx *ctx, const nq_task *task, void *udata)
{
    struct threads_inside *t = udata;
    __atomic_add_fetch(&t->runs, 1, __ATOMIC_SEQ_CST);
    int depth = atoi(task->payload);
    char payload[16];
    int n = snprintf(payload, sizeof payload, "%d", depth - 1);
    nq_err err;
    for (int i = 0; depth > 0 && i < 2; i++) {
        int rc = nq_enqueue(
            nq_ctx_queue(ctx), NQ_OWN_TX,
            NQ_TASK(.type = "t", .payload = payload, .payload_size = (size_t)n, .unique = NQ_UNIQUE_NONE),
            NULL, &err);
        if (rc != NQ_OK)
            return nq_fail(ctx, NQ_DISCARD, "%s", err.message);
    }
    return NQ_DONE;
}

START_TEST(handlers_may_enqueue)
{
    nq *q = t_open();
    struct threads_inside t = {0};
    T_ADD(q, .type = "t", NQ_BYTES("6"));
    p_run(p_new(q, P_OPTIONS(.drain = NQ_DRAIN_DUE), threads_enqueue, &t));
    ck_assert_int_eq(t.runs, 127); /* a binary tree of depth 6 */
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_tasks"), 0);
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_finished"), 0);
    nq_close(q);
}
END_TEST

static int64_t threads_open_transactions(t_conn *c)
{
    /* As in t_lock_waiter: MySQL cannot always read innodb_trx. */
    return t_run(
        c,
        t_is_mariadb
            ? "SELECT COUNT(*) FROM information_schema.innodb_trx t "
              "JOIN information_schema.processlist p ON p.id = t.trx_mysql_thread_id WHERE p.db = '%s'"
            : "SELECT COUNT(*) FROM performance_schema.events_transactions_current t "
              "JOIN performance_schema.threads p ON p.thread_id = t.thread_id WHERE t.state = 'ACTIVE' "
              "AND p.processlist_db = '%s' AND p.processlist_id <> CONNECTION_ID()",
        t_name);
}

static nq_verdict threads_no_transaction(nq_ctx *ctx, const nq_task *task, void *udata)
{
    (void)task;
    int *bad = udata;
    t_conn *c = t_connect();
    if (T_MYSQL) {
        /* A claim or completion of others may be in progress for a moment: only one that stays counts. The
         * server shows a new picture only to who has not looked for 100 ms. */
        const int64_t until = t_mono() + NQ_SECONDS(3);
        int64_t open;
        while ((open = threads_open_transactions(c)) != 0 && t_mono() < until)
            t_pause_ms(130);
        *bad += open != 0;
    } else {
        t_run(c, "PRAGMA busy_timeout = 3000");
        *bad += t_try(c, "BEGIN EXCLUSIVE") != 0;
        t_try(c, "ROLLBACK");
    }
    t_disconnect(c);
    return nq_ctx_cause(ctx) == NQ_CAUSE_NONE ? NQ_DONE : NQ_RETRY;
}

START_TEST(no_transaction_is_open_while_a_handler_runs)
{
    nq *q = t_open();
    int bad = 0;
    for (int i = 0; i < 10; i++)
        T_ADD(q, .type = "t", .unique = NQ_UNIQUE_NONE);
    p_run(p_new(q, P_OPTIONS(.drain = NQ_DRAIN_DUE, .concurrency = 1), threads_no_transaction, &bad));
    ck_assert_int_eq(bad, 0);
    nq_close(q);
}
END_TEST

START_TEST(two_workers_share_a_queue_and_run_each_task_once)
{
    nq *q = t_open(), *other = t_open();
    static nq_task_spec specs[2000];
    int n = 0, m = 0;
    for (int i = 0; i < 2000; i++)
        specs[i] = *NQ_TASK(.type = "t", .unique = NQ_UNIQUE_NONE);
    T_OK(nq_enqueue_many(q, NQ_OWN_TX, specs, 2000, NULL, NULL, &t_last));
    p_thread a, b;
    p_start(&a, p_new(q, P_OPTIONS(.drain = NQ_DRAIN_DUE), p_count, &n));
    p_start(&b, p_new(other, P_OPTIONS(.drain = NQ_DRAIN_DUE), p_count, &m));
    ck_assert_int_eq(p_join(&a), NQ_OK);
    ck_assert_int_eq(p_join(&b), NQ_OK);
    ck_assert_int_eq(n + m, 2000);
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_tasks"), 0);
    nq_close(q);
    nq_close(other);
}
END_TEST

/* Of NanoQ: an idle worker picked a task up after 913 ms at the median. */
START_TEST(a_task_enqueued_here_starts_long_before_the_next_poll)
{
    nq *q = t_open();
    int n = 0;
    p_thread t;
    p_start(&t, p_new(q, P_OPTIONS(.poll_us = NQ_SECONDS(20)), p_count, &n));
    T_WAIT(t_sql("SELECT COUNT(*) FROM nanoq_workers") == 1, 10);
    t_pause_ms(300); /* let it become idle; were it not, the test would only be easier */
    for (int i = 0; i < 5; i++) {
        int64_t start = t_mono();
        T_ADD(q, .type = "t");
        T_WAIT(p_load(&n) == i + 1, 10);
        ck_assert_int_lt(t_mono() - start, NQ_SECONDS(2) * T_SLOW_FACTOR);
        T_WAIT(t_sql("SELECT COUNT(*) FROM nanoq_tasks") == 0, 10);
    }
    p_stop(&t);
    nq_close(q);
}
END_TEST

START_TEST(silence_tells_a_thread_that_hangs_in_a_call)
{
    nq *q = t_open();
    int n = 0;
    p_thread t;
    nq_worker *p = p_new(q, P_OPTIONS(.lease_us = NQ_SECONDS(3)), p_count, &n);
    ck_assert_int_lt(nq_worker_silence_us(p), 0); /* it does not run yet */
    p_start(&t, p);
    T_WAIT(nq_worker_silence_us(p) >= 0, 10);
    t_conn *c = t_connect();
    t_run(c, T_MYSQL ? "LOCK TABLES nanoq_workers WRITE" : "BEGIN IMMEDIATE");
    T_WAIT(nq_worker_silence_us(p) > NQ_SECONDS(2), 20); /* it beats every second */
    t_run(c, T_MYSQL ? "UNLOCK TABLES" : "ROLLBACK");
    T_WAIT(nq_worker_silence_us(p) < NQ_MS(1500), 20);
    t_disconnect(c);
    p_stop(&t);
    nq_close(q);
}
END_TEST

START_TEST(a_database_that_goes_away_is_waited_for)
{
    nq *q = t_open();
    int n = 0;
    p_thread t;
    p_start(&t, p_new(q, NULL, p_count, &n));
    for (int round = 0; round < 4; round++) {
        T_ADD(q, .type = "t", .unique = NQ_UNIQUE_NONE);
        T_WAIT(p_load(&n) == round + 1, 20);
        t_kill_sessions();
    }
    T_WAIT(t_sql("SELECT COUNT(*) FROM nanoq_tasks") == 0, 20);
    p_stop(&t);
    nq_close(q);
}
END_TEST

Suite *suite_threads(void)
{
    Suite *s = suite_create("threads");
    TCase *c = t_case(s, "threads", 60);
    tcase_add_test(c, handlers_run_in_parallel_and_never_exceed);
    tcase_add_test(c, one_thread_is_one_thread);
    tcase_add_test(c, five_hundred_and_twelve_threads);
    tcase_add_test(c, many_queues_and_none_starves);
    tcase_add_test(c, handlers_may_enqueue);
    tcase_add_test(c, no_transaction_is_open_while_a_handler_runs);
    tcase_add_test(c, two_workers_share_a_queue_and_run_each_task_once);
    tcase_add_test(c, a_task_enqueued_here_starts_long_before_the_next_poll);
    tcase_add_test(c, silence_tells_a_thread_that_hangs_in_a_call);
    if (T_MYSQL)
        tcase_add_test(c, a_database_that_goes_away_is_waited_for);
    return s;
}
