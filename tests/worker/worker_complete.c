/* SPDX-License-Identifier: MIT */
/* Handlers that complete their task in a transaction of their own, with their effects, exactly once. */
#include "suites.h"

#include <stdatomic.h>

enum complete_step {
    COMPLETE_COMMIT,
    COMPLETE_ROLLBACK,
    COMPLETE_LEAVE_OPEN, /* the connection is `kept`, with the transaction open */
    COMPLETE_LOSE_LEASE, /* somebody else takes the task meanwhile */
    COMPLETE_TWICE,      /* rolled back once, as after a deadlock, then committed */
    COMPLETE_NOT_AT_ALL  /* the ordinary way */
};

struct complete_plan {
    enum complete_step steps[4]; /* by attempt; the last one for all that follow */
    nq_verdict verdicts[4];
    sem_t began, go;
    bool waits; /* for go, before it completes */
    t_conn *kept;
    atomic_int runs, hooks, lost;
    char error[200];
};

static void complete_init(struct complete_plan *p)
{
    sem_init(&p->began, 0, 0);
    sem_init(&p->go, 0, 0);
}

static void complete_steal(const nq_task *task)
{
    t_conn *c = t_connect();
    t_run(c, "UPDATE nanoq_tasks SET lease = lease + 1000 WHERE id = %lld", (long long)task->id);
    t_disconnect(c);
}

static nq_verdict complete_handler(nq_ctx *ctx, const nq_task *task, void *udata)
{
    struct complete_plan *p = udata;
    nq_err err = {0};
    const int run = atomic_fetch_add(&p->runs, 1), at = run < 3 ? run : 3;
    const enum complete_step step = p->steps[at];
    t_post(&p->began);
    if (p->waits)
        t_await(&p->go, 60);
    nq_ctx_set_delay(ctx, 0);
    if (step == COMPLETE_NOT_AT_ALL)
        return p->verdicts[at];
    if (step == COMPLETE_LOSE_LEASE)
        complete_steal(task);
    t_conn *mine = t_connect();
    for (int i = step == COMPLETE_TWICE ? 0 : 1; i < 2; i++) {
        t_begin(mine);
        t_run(mine, "INSERT INTO business VALUES (%lld, %d)", (long long)task->id, run);
        const int rc = nq_ctx_complete_in(ctx, t_tx(mine), &err);
        if (step == COMPLETE_LOSE_LEASE) {
            ck_assert_int_eq(rc, NQ_ELEASE);
            atomic_fetch_add(&p->lost, 1);
        } else {
            ck_assert_msg(rc == NQ_OK, "%s", err.message);
        }
        if (step == COMPLETE_LEAVE_OPEN) {
            p->kept = mine;
            return p->verdicts[at];
        }
        t_run(mine, step == COMPLETE_COMMIT || (step == COMPLETE_TWICE && i) ? "COMMIT" : "ROLLBACK");
    }
    t_disconnect(mine);
    return p->verdicts[at];
}

static void complete_hook(const nq_task *task, const char *error, bool final, void *udata)
{
    struct complete_plan *p = udata;
    (void)task, (void) final;
    snprintf(p->error, sizeof p->error, "%s", error);
    atomic_fetch_add(&p->hooks, 1);
}

static nq *complete_open(void)
{
    nq *q = t_open();
    t_sql("CREATE TABLE business (task INT, run INT, PRIMARY KEY (task, run))");
    return q;
}

static nq_worker_totals complete_run(nq *q, struct complete_plan *plan, int64_t keep_us)
{
    nq_worker_totals c;
    nq_worker *p = p_new(q,
                         P_OPTIONS(.drain = NQ_DRAIN_DUE, .keep_done_us = keep_us, .on_error = complete_hook,
                                   .error_udata = plan),
                         complete_handler, plan);
    T_OK(nq_worker_run(p, &t_last));
    nq_worker_stats(p, &c, sizeof c);
    nq_worker_free(p);
    return c;
}

START_TEST(effects_and_completion_are_committed_together)
{
    static const enum complete_step steps[] = {COMPLETE_COMMIT, COMPLETE_TWICE};
    struct complete_plan plan = {.steps = {steps[_i % 2]}, .verdicts = {NQ_DONE}};
    const bool keep = _i >= 2;
    complete_init(&plan);
    nq *q = complete_open();
    nq_id id = T_ADD(q, .type = "t");
    nq_worker_totals c = complete_run(q, &plan, keep ? NQ_FOREVER : 0);
    ck_assert_uint_eq(c.done, 1);
    ck_assert_uint_eq(c.claimed, 1);
    ck_assert_uint_eq(c.lease_lost + c.retried, 0);
    ck_assert_int_eq(t_state(q, id), keep ? NQ_STATE_DONE : -1);
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM business"), 1);
    ck_assert_int_eq(atomic_load(&plan.hooks), 0);
    nq_close(q);
}
END_TEST

/* A commit that was not answered, and had taken effect: the handler, which cannot know, asks for a retry. */
START_TEST(a_commit_that_took_effect_is_done_whatever_is_answered)
{
    static const nq_verdict verdicts[] = {NQ_RETRY, NQ_DISCARD, NQ_SNOOZE};
    struct complete_plan plan = {.steps = {COMPLETE_COMMIT}, .verdicts = {verdicts[_i]}};
    complete_init(&plan);
    nq *q = complete_open();
    nq_id id = T_ADD(q, .type = "t");
    nq_worker_totals c = complete_run(q, &plan, 0);
    ck_assert_uint_eq(c.done, 1);
    ck_assert_uint_eq(c.lease_lost + c.retried + c.dead + c.snoozed, 0);
    ck_assert_int_eq(t_state(q, id), -1);
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM business"), 1);
    ck_assert_int_eq(atomic_load(&plan.runs), 1);
    ck_assert_int_eq(atomic_load(&plan.hooks), 0);
    nq_close(q);
}
END_TEST

START_TEST(after_a_rollback_it_is_retried)
{
    static const nq_verdict verdicts[] = {NQ_RETRY, NQ_DONE, NQ_SNOOZE};
    struct complete_plan plan = {.steps = {COMPLETE_ROLLBACK, COMPLETE_COMMIT},
                                 .verdicts = {verdicts[_i], NQ_DONE}};
    complete_init(&plan);
    nq *q = complete_open();
    nq_id id = T_ADD(q, .type = "t");
    nq_worker_totals c = complete_run(q, &plan, 0);
    ck_assert_uint_eq(c.done, 1);
    ck_assert_uint_eq(c.claimed, 2);
    ck_assert_uint_eq(verdicts[_i] == NQ_SNOOZE ? c.snoozed : c.retried, 1);
    ck_assert_int_eq(t_state(q, id), -1);
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM business"), 1);
    ck_assert_int_eq(t_sql("SELECT run FROM business"), 1);
    ck_assert_int_eq(atomic_load(&plan.hooks), verdicts[_i] != NQ_SNOOZE);
    if (verdicts[_i] == NQ_DONE)
        ck_assert_ptr_nonnull(strstr(plan.error, "was not committed"));
    nq_close(q);
}
END_TEST

START_TEST(a_lost_lease_leaves_no_effects)
{
    struct complete_plan plan = {.steps = {COMPLETE_LOSE_LEASE, COMPLETE_COMMIT},
                                 .verdicts = {_i ? NQ_DONE : NQ_RETRY, NQ_DONE}};
    nq_worker_totals c;
    p_thread t;
    complete_init(&plan);
    nq *q = complete_open();
    nq_id id = T_ADD(q, .type = "t");
    p_start(&t, p_new(q, NULL, complete_handler, &plan));
    T_WAIT((nq_worker_stats(t.p, &c, sizeof c), c.lease_lost == 1), 20);
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM business"), 0);
    ck_assert_int_eq(t_state(q, id), NQ_STATE_RUNNING);
    /* The thief gives it back. */
    t_sql("UPDATE nanoq_tasks SET state = 0, lease = 0");
    T_WAIT(t_state(q, id) == -1, 20);
    T_WAIT((nq_worker_stats(t.p, &c, sizeof c), c.done == 1), 20);
    p_stop(&t);
    ck_assert_int_eq(atomic_load(&plan.lost), 1);
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM business"), 1);
    ck_assert_int_eq(t_sql("SELECT run FROM business"), 1);
    nq_close(q);
}
END_TEST

START_TEST(a_cancelled_task_that_was_completed_is_done)
{
    struct complete_plan plan = {.steps = {COMPLETE_COMMIT}, .verdicts = {NQ_RETRY}, .waits = true};
    nq_worker_totals c;
    p_thread t;
    complete_init(&plan);
    nq *q = complete_open();
    nq_id id = T_ADD(q, .type = "t");
    p_start(&t, p_new(q, P_OPTIONS(.keep_done_us = NQ_FOREVER), complete_handler, &plan));
    t_await(&plan.began, 20);
    T_OK(nq_cancel(q, id, &t_last));
    t_post(&plan.go);
    T_WAIT((nq_worker_stats(t.p, &c, sizeof c), c.done == 1), 20);
    ck_assert_int_eq(t_state(q, id), NQ_STATE_DONE);
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM business"), 1);
    p_stop(&t);
    nq_close(q);
}
END_TEST

START_TEST(a_cancelled_task_whose_completion_was_rolled_back_is_cancelled)
{
    struct complete_plan plan = {
        .steps = {COMPLETE_ROLLBACK}, .verdicts = {_i ? NQ_DONE : NQ_RETRY}, .waits = true};
    p_thread t;
    complete_init(&plan);
    nq *q = complete_open();
    nq_id id = T_ADD(q, .type = "t");
    p_start(&t,
            p_new(q, P_OPTIONS(.on_error = complete_hook, .error_udata = &plan), complete_handler, &plan));
    t_await(&plan.began, 20);
    T_OK(nq_cancel(q, id, &t_last));
    t_post(&plan.go);
    T_WAIT(t_state(q, id) == NQ_STATE_CANCELLED, 20);
    p_stop(&t);
    ck_assert_int_eq(atomic_load(&plan.hooks), 0);
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM business"), 0);
    nq_close(q);
}
END_TEST

/* Its row is locked, and that must cost nobody else. */
START_TEST(a_transaction_left_open_delays_its_own_task_only)
{
    struct complete_plan plan = {
        .steps = {COMPLETE_LEAVE_OPEN, COMPLETE_NOT_AT_ALL, COMPLETE_NOT_AT_ALL, COMPLETE_NOT_AT_ALL},
        .verdicts = {_i ? NQ_RETRY : NQ_DONE, NQ_DONE, NQ_DONE, NQ_DONE}};
    const bool commits = _i < 2;
    nq_worker_totals c;
    p_thread t;
    if (T_SQLITE)
        return; /* its one write lock is everybody's */
    complete_init(&plan);
    nq *q = complete_open();
    nq_id id = T_ADD(q, .type = "t");
    p_start(&t, p_new(q, NULL, complete_handler, &plan));
    t_await(&plan.began, 20);
    T_WAIT((nq_worker_stats(t.p, &c, sizeof c), c.running == 0), 20);
    const int64_t start = t_mono();
    for (int i = 0; i < 50; i++)
        T_ADD(q, .type = "other", .unique = NQ_UNIQUE_NONE);
    T_WAIT((nq_worker_stats(t.p, &c, sizeof c), c.done == 50), 20);
    ck_assert_int_lt(t_mono() - start, NQ_SECONDS(5) * T_SLOW_FACTOR);
    ck_assert_int_eq(t_state(q, id), NQ_STATE_RUNNING);
    t_run(plan.kept, commits ? "COMMIT" : "ROLLBACK");
    T_WAIT(t_state(q, id) == -1, 20);
    T_WAIT((nq_worker_stats(t.p, &c, sizeof c), c.done == 51), 20);
    ck_assert_uint_eq(c.retried, commits ? 0 : 1);
    ck_assert_uint_eq(c.lease_lost, 0);
    p_stop(&t);
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM business"), commits ? 1 : 0);
    t_disconnect(plan.kept);
    nq_close(q);
}
END_TEST

START_TEST(a_shutdown_does_not_wait_for_a_transaction_left_open)
{
    struct complete_plan plan = {.steps = {COMPLETE_LEAVE_OPEN}, .verdicts = {NQ_DONE}};
    nq_worker_totals c;
    p_thread t;
    complete_init(&plan);
    nq_close(complete_open());
    nq *q = NULL; /* SQLite: everybody waits for the lock, as long as the busy timeout says, in all they do */
    T_OK(nq_open(&q, T_SQLITE ? t_url_with("busy_timeout=200ms") : t_url, NULL, &t_last));
    nq_id id = T_ADD(q, .type = "t");
    p_start(&t, p_new(q, P_OPTIONS(.cancel_grace_us = NQ_SECONDS(1)), complete_handler, &plan));
    t_await(&plan.began, 20);
    T_WAIT((nq_worker_stats(t.p, &c, sizeof c), c.running == 0), 20);
    const int64_t start = t_mono();
    nq_worker_stop(t.p);
    ck_assert_int_eq(p_join(&t), NQ_ECONFLICT);
    ck_assert_int_lt(t_mono() - start, NQ_SECONDS(20) * T_SLOW_FACTOR);
    t_run(plan.kept, "COMMIT");
    ck_assert_int_eq(t_state(q, id), -1);
    t_disconnect(plan.kept);
    nq_close(q);
}
END_TEST

/* A follow-up of the key comes after a completion by the handler as after any other. */
START_TEST(a_follow_up_comes_after_it)
{
    struct complete_plan plan = {
        .steps = {COMPLETE_COMMIT, COMPLETE_COMMIT, COMPLETE_COMMIT, COMPLETE_COMMIT}, .waits = true};
    p_thread t;
    nq_worker_totals c;
    complete_init(&plan);
    nq *q = complete_open();
    T_ADD(q, .type = "t");
    p_start(&t, p_new(q, NULL, complete_handler, &plan));
    t_await(&plan.began, 20);
    T_ANSWERS(nq_enqueue(q, NQ_OWN_TX, NQ_TASK(.type = "t"), NULL, &t_last), NQ_DUPLICATE);
    t_post(&plan.go);
    t_post(&plan.go);
    T_WAIT((nq_worker_stats(t.p, &c, sizeof c), c.done == 2), 20);
    p_stop(&t);
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM business"), 2);
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_tasks"), 0);
    nq_close(q);
}
END_TEST

Suite *suite_complete(void)
{
    Suite *s = suite_create("complete");
    TCase *c = t_case(s, "complete", 90);
    tcase_add_loop_test(c, effects_and_completion_are_committed_together, 0, 4);
    tcase_add_loop_test(c, a_commit_that_took_effect_is_done_whatever_is_answered, 0, 3);
    tcase_add_loop_test(c, after_a_rollback_it_is_retried, 0, 3);
    tcase_add_loop_test(c, a_lost_lease_leaves_no_effects, 0, 2);
    tcase_add_test(c, a_cancelled_task_that_was_completed_is_done);
    tcase_add_loop_test(c, a_cancelled_task_whose_completion_was_rolled_back_is_cancelled, 0, 2);
    tcase_add_loop_test(c, a_transaction_left_open_delays_its_own_task_only, 0, 3);
    tcase_add_test(c, a_shutdown_does_not_wait_for_a_transaction_left_open);
    tcase_add_test(c, a_follow_up_comes_after_it);
    return s;
}
