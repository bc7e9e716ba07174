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
    nq_worker *p = p_new(q, P_OPTIONS(.concurrency = 2, .drain = NQ_DRAIN_DUE), NULL, NULL);
    T_OK(nq_worker_handle(p, "t", slow_once, s, P_ISOLATED(.nice = 1), &t_last));
    T_OK(nq_worker_fork(p, &t_last));
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
    nq_worker_totals counts;
    nq *q = t_open();
    nq_worker *p =
        p_new(q, P_OPTIONS(.concurrency = 3, .drain = NQ_DRAIN_ALL, .retry_policy = p_soon), NULL, NULL);
    T_OK(nq_worker_handle(p, "t", fragile, runs, P_ISOLATED(.nice = 1), &t_last));
    T_OK(nq_worker_fork(p, &t_last));
    for (int i = 0; i < N; i++) {
        snprintf(payloads[i], sizeof payloads[i], "%d", i);
        specs[i] = *NQ_TASK(.type = "t", .payload = payloads[i], .payload_size = strlen(payloads[i]));
    }
    T_OK(nq_enqueue_many(q, NQ_OWN_TX, specs, N, NULL, NULL, &t_last));
    T_OK(nq_worker_run(p, &t_last));
    nq_worker_stats(p, &counts, sizeof counts);
    nq_worker_free(p);
    for (int i = 0; i < N; i++)
        ck_assert_msg(runs[i] == (i % 50 == 7 ? 2 : 1), "task %d ran %d times", i, runs[i]);
    ck_assert_uint_eq(counts.done, N);
    ck_assert_uint_eq(counts.retried, N / 50);
    nq_close(q);
}
END_TEST

/* ---- What was answered before the child died ---- */

#define AHEAD_ROUNDS 60
#define AHEAD_WARM   150 /* quick ones, after which more than one is sent to a child at once */

/* In each round "first" fails, and "second" behind it is done. While the thread that drives the child asks
 * the policy about the first one, the child dies and a third task comes: the answer of the second is still to
 * be read when the third is written to a child that is gone. */
struct dying {
    pid_t child;
    int second, runs; /* of the second: in this round, in all */
    nq *q;            /* of the test's process */
    nq_worker *p;
};

static nq_verdict dying(nq_ctx *ctx, const nq_task *task, void *udata)
{
    struct dying *d = udata;
    (void)ctx;
    if (strcmp(task->payload, "first") == 0 && task->attempt == 1) {
        __atomic_store_n(&d->child, getpid(), __ATOMIC_SEQ_CST);
        return NQ_RETRY;
    }
    if (strcmp(task->payload, "second") == 0) {
        __atomic_add_fetch(&d->runs, 1, __ATOMIC_SEQ_CST);
        __atomic_store_n(&d->second, 1, __ATOMIC_SEQ_CST);
    }
    return NQ_DONE;
}

/* Sleeps, as it does when it has answered all it had; or is gone. */
static bool is_idle(pid_t pid)
{
    char path[64], line[256], state = 'S';
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    FILE *f = fopen(path, "r");
    if (f && fgets(line, sizeof line, f) && strrchr(line, ')'))
        state = strrchr(line, ')')[2];
    if (f)
        fclose(f);
    return state == 'S';
}

static int64_t die_meanwhile(unsigned attempt, const nq_task *task, void *udata)
{
    struct dying *d = udata;
    const int64_t until = t_mono() + NQ_MS(20);
    nq_worker_totals before, now;
    (void)attempt, (void)task;
    while (!p_load(&d->second) || !is_idle(d->child))
        if (t_mono() > until)
            return NQ_MS(5); /* it was not sent along, or has no worker: not in this round */
    kill(d->child, SIGKILL);
    nq_worker_stats(d->p, &before, sizeof before);
    if (nq_enqueue(d->q, NQ_OWN_TX, NQ_TASK(.type = "t", .payload = "third", .payload_size = 5), NULL, NULL))
        return NQ_MS(5);
    do
        nq_worker_stats(d->p, &now, sizeof now);
    while (now.claimed == before.claimed && t_mono() < until);
    while (kill(d->child, 0) == 0 && t_mono() < until)
        ;
    return NQ_MS(5);
}

START_TEST(what_a_child_answered_before_it_died_counts)
{
    struct dying *d = p_shared(sizeof *d);
    nq_task_spec warm[AHEAD_WARM], pair[2] = {*NQ_TASK(.type = "t", .payload = "first", .payload_size = 5),
                                              *NQ_TASK(.type = "t", .payload = "second", .payload_size = 6)};
    nq *q = d->q = t_open();
    nq_worker *p = d->p =
        p_new(q, P_OPTIONS(.concurrency = 1, .retry_policy = die_meanwhile, .retry_udata = d), NULL, NULL);
    nq_worker_totals counts;
    p_thread t;
    int warmed = 0;
    T_OK(nq_worker_handle(p, "t", dying, d, P_ISOLATED(.nice = 0), &t_last));
    T_OK(nq_worker_handle(p, "warm", p_count, &warmed, NULL, &t_last));
    T_OK(nq_worker_fork(p, &t_last));
    p_start(&t, p);
    for (int i = 0; i < AHEAD_WARM; i++)
        warm[i] = *NQ_TASK(.type = "warm", .unique = NQ_UNIQUE_NONE);
    for (int round = 1; round <= AHEAD_ROUNDS; round++) {
        T_OK(nq_enqueue_many(q, NQ_OWN_TX, warm, AHEAD_WARM, NULL, NULL, &t_last));
        T_WAIT(t_sql("SELECT COUNT(*) FROM nanoq_tasks") == 0, 10);
        __atomic_store_n(&d->second, 0, __ATOMIC_SEQ_CST);
        T_OK(nq_enqueue_many(q, NQ_OWN_TX, pair, 2, NULL, NULL, &t_last));
        T_WAIT(t_sql("SELECT COUNT(*) FROM nanoq_tasks") == 0, 10);
        ck_assert_int_eq(p_load(&d->runs), round);
    }
    nq_worker_stats(p, &counts, sizeof counts);
    ck_assert_uint_eq(counts.retried, AHEAD_ROUNDS);
    p_stop(&t);
    nq_close(q);
}
END_TEST

Suite *suite_isolation_ahead(void)
{
    Suite *s = suite_create("isolation_ahead");
    TCase *c = t_case(s, "isolation_ahead", 60);
    tcase_add_test(c, a_slow_task_does_not_hold_up_those_behind_it);
    tcase_add_test(c, tasks_behind_one_that_kills_its_child_lose_no_attempt);
    tcase_add_test(c, what_a_child_answered_before_it_died_counts);
    return s;
}
