/* SPDX-License-Identifier: MIT */
/* Rates while workers run: when tasks start, in threads and in children, and what comes too late. */
#include <signal.h>

#include "suites.h"

#include "../../src/worker/worker.h"

#define RATES_MAX 4000

/* In memory that processes share: when each attempt began. While `closed` they do not end. */
struct rates_seen {
    int n, closed, running;
    int64_t at[RATES_MAX];
};

static nq_verdict rates_handle(nq_ctx *ctx, const nq_task *task, void *udata)
{
    struct rates_seen *s = udata;
    const int64_t now = nq_mono_us();
    (void)task;
    const int i = __atomic_fetch_add(&s->n, 1, __ATOMIC_SEQ_CST);
    if (i < RATES_MAX)
        s->at[i] = now;
    __atomic_add_fetch(&s->running, 1, __ATOMIC_SEQ_CST);
    while (p_load(&s->closed) && nq_ctx_cause(ctx) == NQ_CAUSE_NONE)
        t_pause_ms(1);
    __atomic_sub_fetch(&s->running, 1, __ATOMIC_SEQ_CST);
    return NQ_DONE;
}

static void rates_add(nq *q, int n)
{
    enum { EACH = 100 };
    nq_task_spec specs[EACH];
    nq_id ids[EACH];
    int results[EACH];
    for (int i = 0; i < EACH; i++)
        specs[i] = *NQ_TASK(.type = "t", .queue = "mail", .unique = NQ_UNIQUE_NONE);
    for (; n > 0; n -= EACH)
        T_OK(nq_enqueue_many(q, NQ_OWN_TX, specs, EACH, ids, results, &t_last));
}

static void rates_set(nq *q, int64_t rate, unsigned burst)
{
    T_OK(nq_queue_set(
        q, "mail",
        &(nq_queue_settings){
            .size = sizeof(nq_queue_settings), .rate = rate, .rate_us = NQ_SECONDS(1), .burst = burst},
        &t_last));
}

static const nq_queue_options rates_queue = {.size = sizeof(nq_queue_options), .name = "mail"};

static nq_worker *rates_worker(nq *q, struct rates_seen *s, unsigned concurrency)
{
    return p_new(q, P_OPTIONS(.queues = &rates_queue, .nqueues = 1, .concurrency = concurrency), rates_handle,
                 s);
}

static int rates_compare(const void *a, const void *b)
{
    const int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

/* Most starts in any second. */
static int rates_most(struct rates_seen *s)
{
    const int n = s->n < RATES_MAX ? s->n : RATES_MAX;
    int most = 0;
    qsort(s->at, (size_t)n, sizeof s->at[0], rates_compare);
    for (int i = 0, k = 0; i < n; i++) {
        while (s->at[i] - s->at[k] >= NQ_SECONDS(1))
            k++;
        most = i - k + 1 > most ? i - k + 1 : most;
    }
    return most;
}

static void rates_process(int fd, void *arg)
{
    nq *q = NULL;
    nq_worker *p = NULL;
    if (nq_open(&q, t_url, NULL, NULL) != NQ_OK ||
        nq_worker_new(&p, q, P_OPTIONS(.queues = &rates_queue, .nqueues = 1, .concurrency = 4), NULL) !=
            NQ_OK ||
        nq_worker_handle(p, NULL, rates_handle, arg, NULL, NULL) != NQ_OK)
        _exit(1);
    t_tell(fd, 1);
    (void)nq_worker_run(p, NULL);
}

START_TEST(four_processes_keep_a_rate)
{
    enum { RATE = 300, BURST = 20 };
    struct rates_seen *s = p_shared(sizeof *s);
    t_child children[4];
    nq *q = t_open();
    rates_set(q, RATE, BURST);
    rates_add(q, 700);
    nq_close(q); /* a process with threads that is forked may not start any under TSan */
    const int64_t begun = nq_mono_us();
    for (int i = 0; i < 4; i++)
        t_fork(&children[i], rates_process, s);
    T_WAIT(p_load(&s->n) >= 450, 60);
    const int64_t took = nq_mono_us() - begun;
    for (int i = 0; i < 4; i++)
        t_kill(&children[i], SIGKILL);
    ck_assert_int_ge(took, NQ_SECONDS(1));
    ck_assert_int_le(rates_most(s), RATE + RATE / 20 + BURST + 1);
}
END_TEST

static void rates_of_one(const nq_handle_options *how)
{
    enum { RATE = 150, BURST = 5 };
    struct rates_seen *s = p_shared(sizeof *s);
    nq *q = t_open();
    p_thread t;
    nq_worker *p = rates_worker(q, s, 4);
    if (how) {
        T_OK(nq_worker_handle(p, "t", rates_handle, s, how, &t_last));
        T_OK(nq_worker_fork(p, &t_last));
    }
    rates_set(q, RATE, BURST);
    rates_add(q, 200);
    p_start(&t, p);
    T_WAIT(p_load(&s->n) == 200, 60);
    T_WAIT(t_sql("SELECT COUNT(*) FROM nanoq_tasks") == 0, 20);
    p_stop(&t);
    ck_assert_int_le(rates_most(s), RATE + RATE / 20 + BURST + 1);
    nq_close(q);
}

START_TEST(threads_start_at_their_times)
{
    rates_of_one(NULL);
}
END_TEST

START_TEST(children_start_at_their_times)
{
    rates_of_one(P_ISOLATED(.nice = 0));
}
END_TEST

/* Fast handlers have tasks claimed ahead; then one is slow, and what waits for its thread loses its time. */
START_TEST(what_is_late_is_given_back)
{
    struct rates_seen *s = p_shared(sizeof *s);
    nq *q = t_open();
    p_thread t;
    rates_set(q, 2000, 100);
    rates_add(q, 1500);
    p_start(&t, rates_worker(q, s, 1));
    T_WAIT(p_load(&s->n) > 300, 60);
    __atomic_store_n(&s->closed, 1, __ATOMIC_SEQ_CST);
    T_WAIT(p_load(&s->running) == 1, 20);
    T_WAIT(t_sql("SELECT COUNT(*) FROM nanoq_tasks WHERE state = 1") == 1, 20);
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_tasks WHERE attempts > 0"), 0);
    __atomic_store_n(&s->closed, 0, __ATOMIC_SEQ_CST);
    T_WAIT(p_load(&s->n) == 1500, 60);
    p_stop(&t);
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_tasks"), 0);
    nq_close(q);
}
END_TEST

/* It ends with the last task, not before the rate lets it start. */
START_TEST(a_drain_waits_for_the_rate)
{
    struct rates_seen *s = p_shared(sizeof *s);
    nq *q = t_open();
    rates_set(q, 10, 1);
    for (int i = 0; i < 5; i++)
        T_ADD(q, .type = "t", .queue = "mail", .unique = NQ_UNIQUE_NONE);
    const int64_t begun = nq_mono_us();
    p_run(p_new(q, P_OPTIONS(.queues = &rates_queue, .nqueues = 1, .drain = NQ_DRAIN_DUE), rates_handle, s));
    ck_assert_int_eq(s->n, 5);
    ck_assert_int_ge(nq_mono_us() - begun, NQ_MS(400));
    nq_close(q);
}
END_TEST

/* ---- Holds ---- */

#define RATES_HELD_US NQ_MS(400)

struct rates_held {
    int first, n, rc, bad; /* the one that holds; others that began; early ones */
    int64_t until_us;
};

/* The first attempt meets a server that has enough, and holds the rest; of group "b" nothing is held. */
static nq_verdict rates_hold(nq_ctx *ctx, const nq_task *task, void *udata)
{
    struct rates_held *s = udata;
    const bool group = task->group && task->group[0] == 'b';
    if (!group && __atomic_exchange_n(&s->first, 1, __ATOMIC_SEQ_CST) == 0) {
        const int64_t until = nq_mono_us() + RATES_HELD_US;
        nq_err err;
        ck_assert_int_eq(nq_ctx_hold(ctx, 7, 0, &err), NQ_EINVAL);
        ck_assert_int_eq(nq_ctx_hold(ctx, NQ_SCOPE_QUEUE, -1, &err), NQ_EINVAL);
        __atomic_store_n(&s->rc, nq_ctx_hold(ctx, NQ_SCOPE_GROUP, RATES_HELD_US, &err), __ATOMIC_SEQ_CST);
        __atomic_store_n(&s->until_us, until, __ATOMIC_SEQ_CST);
        nq_ctx_set_delay(ctx, 0);
        return NQ_SNOOZE;
    }
    if (!group && nq_mono_us() < __atomic_load_n(&s->until_us, __ATOMIC_SEQ_CST))
        __atomic_add_fetch(&s->bad, 1, __ATOMIC_SEQ_CST);
    __atomic_add_fetch(&s->n, 1, __ATOMIC_SEQ_CST);
    return NQ_DONE;
}

static void rates_held(const nq_handle_options *how, const char *group)
{
    struct rates_held *s = p_shared(sizeof *s);
    nq *q = t_open();
    p_thread t;
    nq_worker *p = p_new(q, P_OPTIONS(.queues = &rates_queue, .nqueues = 1, .concurrency = 1), rates_hold, s);
    if (how) {
        T_OK(nq_worker_handle(p, "t", rates_hold, s, how, &t_last));
        T_OK(nq_worker_fork(p, &t_last));
    }
    for (int i = 0; i < 20; i++)
        T_ADD(q, .type = "t", .queue = "mail", .group = group, .unique = NQ_UNIQUE_NONE);
    p_start(&t, p);
    T_WAIT(t_sql("SELECT COUNT(*) FROM nanoq_gates WHERE not_before IS NOT NULL") == 1, 20);
    if (group) { /* the other group goes on */
        T_ADD(q, .type = "t", .queue = "mail", .group = "b", .unique = NQ_UNIQUE_NONE);
        T_WAIT(t_sql("SELECT COUNT(*) FROM nanoq_tasks WHERE queue = 'mail//b'") == 0, 20);
    }
    T_WAIT(p_load(&s->n) == 20 + (group ? 1 : 0), 60);
    p_stop(&t);
    ck_assert_int_eq(s->rc, NQ_OK);
    ck_assert_int_eq(s->bad, 0);
    ck_assert_int_ge(nq_mono_us(), s->until_us);
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_gates WHERE queue = '%s'", group ? "mail//a" : "mail"),
                     1);
    nq_close(q);
}

START_TEST(a_handler_holds_its_queue)
{
    rates_held(NULL, NULL);
}
END_TEST

START_TEST(a_handler_holds_its_group_only)
{
    rates_held(NULL, "a");
}
END_TEST

START_TEST(a_child_holds_its_queue)
{
    rates_held(P_ISOLATED(.nice = 0), NULL);
}
END_TEST

Suite *suite_rates(void)
{
    Suite *s = suite_create("rates");
    TCase *tc = t_case(s, "rates", 60);
    tcase_add_test(tc, four_processes_keep_a_rate);
    tcase_add_test(tc, threads_start_at_their_times);
    tcase_add_test(tc, children_start_at_their_times);
    tcase_add_test(tc, what_is_late_is_given_back);
    tcase_add_test(tc, a_drain_waits_for_the_rate);
    tcase_add_test(tc, a_handler_holds_its_queue);
    tcase_add_test(tc, a_handler_holds_its_group_only);
    tcase_add_test(tc, a_child_holds_its_queue);
    return s;
}
