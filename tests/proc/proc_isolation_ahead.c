/* SPDX-License-Identifier: MIT */
/* Tasks that were sent to a child before it asked: what becomes of them when the one before them is slow, or
 * ends the child. */
#include "suites.h"

#include <signal.h>

/* What children tell the test. */
struct ahead {
    int told, ended;
};

/* Quick until the word comes, then slow once: those behind it must not wait. */
static nq_verdict slow_once(nq_ctx *ctx, const nq_task *task, void *udata)
{
    struct ahead *s = udata;
    (void)ctx;
    if (strncmp(task->payload, "slow", 4) == 0) {
        __atomic_store_n(&s->told, 1, __ATOMIC_SEQ_CST);
        for (int i = 0; i < 20000 && __atomic_load_n(&s->ended, __ATOMIC_SEQ_CST) < 800; i++)
            t_pause_ms(1);
        return __atomic_load_n(&s->ended, __ATOMIC_SEQ_CST) < 800 ? NQ_RETRY : NQ_DONE;
    }
    __atomic_add_fetch(&s->ended, 1, __ATOMIC_SEQ_CST);
    return NQ_DONE;
}

START_TEST(a_slow_task_does_not_hold_up_those_behind_it)
{
    struct ahead *s = p_shared(sizeof *s);
    nq_task_spec specs[801];
    char payloads[801][16];
    nq *q = t_open();
    nq_proc *p = p_new(q, P_OPTIONS(.concurrency = 2, .drain = NQ_DRAIN_DUE), NULL, NULL);
    T_OK(nq_proc_handle(p, "t", slow_once, s, P_ISOLATED(.nice = 1), &t_last));
    T_OK(nq_proc_fork(p, &t_last));
    for (int i = 0; i < 801; i++) {
        snprintf(payloads[i], sizeof payloads[i], "%s%d", i == 400 ? "slow" : "quick", i);
        specs[i] = *NQ_TASK(.type = "t", .payload = payloads[i], .payload_size = strlen(payloads[i]));
    }
    T_OK(nq_enqueue_many(q, NQ_OWN_TX, specs, 801, NULL, NULL, &t_last));
    p_run(p);
    ck_assert_int_eq(s->ended, 800);                                /* each once */
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_tasks"), 0); /* the slow one saw the others pass */
    nq_close(q);
}
END_TEST

/* Every so many tasks the child is killed from outside: the others run once and lose nothing. */
static nq_verdict fragile(nq_ctx *ctx, const nq_task *task, void *udata)
{
    int *runs = udata;
    (void)ctx;
    const long i = strtol(task->payload, NULL, 10);
    if (__atomic_add_fetch(&runs[i], 1, __ATOMIC_SEQ_CST) == 1 && i % 50 == 7)
        raise(SIGKILL);
    return NQ_DONE;
}

START_TEST(tasks_behind_one_that_kills_its_child_lose_no_attempt)
{
    enum { N = 1000 };
    int *runs = p_shared(N * sizeof *runs);
    static nq_task_spec specs[N];
    static char payloads[N][16];
    nq_proc_counts counts;
    nq *q = t_open();
    nq_proc *p =
        p_new(q, P_OPTIONS(.concurrency = 3, .drain = NQ_DRAIN_ALL, .retry_policy = p_soon), NULL, NULL);
    T_OK(nq_proc_handle(p, "t", fragile, runs, P_ISOLATED(.nice = 1), &t_last));
    T_OK(nq_proc_fork(p, &t_last));
    for (int i = 0; i < N; i++) {
        snprintf(payloads[i], sizeof payloads[i], "%d", i);
        specs[i] = *NQ_TASK(.type = "t", .payload = payloads[i], .payload_size = strlen(payloads[i]));
    }
    T_OK(nq_enqueue_many(q, NQ_OWN_TX, specs, N, NULL, NULL, &t_last));
    T_OK(nq_proc_run(p, &t_last));
    nq_proc_count(p, &counts);
    nq_proc_free(p);
    for (int i = 0; i < N; i++)
        ck_assert_msg(runs[i] == (i % 50 == 7 ? 2 : 1), "task %d ran %d times", i, runs[i]);
    ck_assert_uint_eq(counts.done, N);
    ck_assert_uint_eq(counts.retried, N / 50);
    nq_close(q);
}
END_TEST

Suite *suite_isolation_ahead(void)
{
    Suite *s = suite_create("isolation_ahead");
    TCase *c = t_case(s, "isolation_ahead", 60);
    tcase_add_test(c, a_slow_task_does_not_hold_up_those_behind_it);
    tcase_add_test(c, tasks_behind_one_that_kills_its_child_lose_no_attempt);
    return s;
}
