/* SPDX-License-Identifier: MIT */
/* Live cancellation and progress of attempts that run. */
#include "suites.h"

#include <poll.h>
#include <stdatomic.h>

/* A handler that waits to be cancelled, or for so long, and answers as it is told. */
struct steer_wait {
    sem_t started, go;
    nq_verdict verdict;
    const char *message;
    bool stubborn; /* goes on until `go` */
    atomic_int runs;
    _Atomic(int64_t) cancelled_at;
    atomic_int cause;
};

static void steer_wait_init(struct steer_wait *w, nq_verdict verdict)
{
    memset(w, 0, sizeof *w);
    w->verdict = verdict;
    sem_init(&w->started, 0, 0);
    sem_init(&w->go, 0, 0);
}

static nq_verdict steer_handler(nq_ctx *ctx, const nq_task *task, void *udata)
{
    struct steer_wait *w = udata;
    struct pollfd fd = {.fd = nq_ctx_fd(ctx), .events = POLLIN};
    (void)task;
    atomic_fetch_add(&w->runs, 1);
    t_post(&w->started);
    if (w->stubborn)
        t_await(&w->go, 60);
    else
        poll(&fd, 1, 50000);
    w->cancelled_at = t_mono();
    atomic_store(&w->cause, (int)nq_ctx_cause(ctx));
    return w->message ? nq_fail(ctx, w->verdict, "%s", w->message) : w->verdict;
}

static void steer_hook(const nq_task *task, const char *error, bool final, void *udata)
{
    (void)task, (void)error, (void) final;
    atomic_fetch_add((atomic_int *)udata, 1);
}

static const nq_verdict steer_verdicts[] = {NQ_RETRY, NQ_DISCARD, NQ_SNOOZE};

START_TEST(a_running_task_is_cancelled_at_once)
{
    struct steer_wait w;
    atomic_int hooks = 0;
    p_thread t;
    t_task task;
    nq *q = t_open();
    steer_wait_init(&w, steer_verdicts[_i]);
    w.message = _i == 0 ? "at page 7" : NULL;
    nq_id id = T_ADD(q, .type = "t");
    p_start(&t, p_new(q, P_OPTIONS(.on_error = steer_hook, .error_udata = &hooks), steer_handler, &w));
    t_await(&w.started, 20);
    const int64_t asked = t_mono();
    T_OK(nq_cancel(q, id, &t_last));
    T_WAIT(t_state(q, id) == NQ_STATE_CANCELLED, 20);
    ck_assert_int_lt(w.cancelled_at - asked, NQ_MS(1000) * T_SLOW_FACTOR);
    ck_assert_int_eq(atomic_load(&w.cause), NQ_CAUSE_CANCEL);
    ck_assert_int_eq(t_get(q, id, &task), NQ_OK);
    ck_assert_uint_eq(task.info.attempts, 0);
    ck_assert_uint_eq(task.info.crashes, 0);
    ck_assert_str_eq(task.error, w.message ? w.message : "");
    t_task_free(&task);
    T_FAILS(nq_cancel(q, id, &t_last), NQ_ESTATE);
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_cancels"), 0);
    nq_proc_counts c;
    T_WAIT((nq_proc_count(t.p, &c), c.cancelled == 1), 20);
    ck_assert_uint_eq(c.retried + c.dead + c.snoozed + c.released + c.done + c.lease_lost, 0);
    p_stop(&t);
    ck_assert_int_eq(atomic_load(&hooks), 0);
    ck_assert_int_eq(atomic_load(&w.runs), 1);
    nq_close(q);
}
END_TEST

Suite *suite_steer(void)
{
    Suite *s = suite_create("steer");
    TCase *c = t_case(s, "cancel", 60);
    tcase_add_loop_test(c, a_running_task_is_cancelled_at_once, 0, 3);
    return s;
}
