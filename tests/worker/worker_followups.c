/* SPDX-License-Identifier: MIT */
/* Follow-ups in a worker: a duplicate that comes while its task runs makes it run again, with the new
 * data. */
#include "suites.h"

struct followups_seen {
    nq *q;
    sem_t started, go;
    int runs;
    int64_t read[8]; /* what each run found in the business table */
};

static nq_verdict followups_read(nq_ctx *ctx, const nq_task *task, void *udata)
{
    struct followups_seen *s = udata;
    t_conn *mine = t_connect();
    (void)ctx, (void)task;
    int run = p_load(&s->runs);
    s->read[run] = t_run(mine, "SELECT x FROM business");
    t_disconnect(mine);
    t_post(&s->started);
    if (run == 0)
        t_await(&s->go, 20);
    __atomic_add_fetch(&s->runs, 1, __ATOMIC_SEQ_CST);
    return NQ_DONE;
}

START_TEST(an_update_while_the_task_runs_is_not_lost)
{
    const bool in_mine = _i;
    struct followups_seen s = {.q = t_open()};
    p_thread t;
    ck_assert_int_eq(sem_init(&s.started, 0, 0) | sem_init(&s.go, 0, 0), 0);
    t_sql("CREATE TABLE business (x INTEGER PRIMARY KEY)");
    t_sql("INSERT INTO business VALUES (1)");
    nq_id first = T_ADD(s.q, .type = "sync", NQ_BYTES("7"));
    p_start(&t, p_new(s.q, NULL, followups_read, &s));
    t_await(&s.started, 10);
    /* The run has read 1. Change it, and ask for a run as ever. */
    t_conn *mine = t_connect();
    nq_id id = 0;
    if (in_mine)
        t_begin(mine);
    t_run(mine, "UPDATE business SET x = 2");
    T_ANSWERS(nq_enqueue(s.q, in_mine ? t_tx(mine) : NQ_OWN_TX, NQ_TASK(.type = "sync", NQ_BYTES("7")), &id,
                         &t_last),
              NQ_DUPLICATE);
    ck_assert_int_eq(id, first);
    if (in_mine)
        t_run(mine, "COMMIT");
    t_disconnect(mine);
    t_post(&s.go);
    t_await(&s.started, 10);
    T_WAIT(p_load(&s.runs) == 2, 10);
    p_stop(&t);
    ck_assert_int_eq(s.read[0], 1);
    ck_assert_int_eq(s.read[1], 2);
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_tasks"), 0);
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_followups"), 0);
    sem_destroy(&s.started);
    sem_destroy(&s.go);
    nq_close(s.q);
}
END_TEST

/* It waited when the duplicate was committed: its one run begins after that and sees what it is about. The
 * worker starts later, with a handle of its own, or is busy with something else meanwhile. */
START_TEST(a_duplicate_of_a_waiting_task_makes_it_run_once)
{
    const bool busy = _i;
    struct followups_seen s = {.q = t_open()};
    nq *other = t_open();
    p_thread t;
    ck_assert_int_eq(sem_init(&s.started, 0, 0) | sem_init(&s.go, 0, 0), 0);
    t_sql("CREATE TABLE business (x INTEGER PRIMARY KEY)");
    t_sql("INSERT INTO business VALUES (1)");
    if (busy) {
        T_ADD(s.q, .type = "sync", NQ_BYTES("before"));
        p_start(&t, p_new(s.q, P_OPTIONS(.concurrency = 1), followups_read, &s));
        t_await(&s.started, 10);
    }
    nq_id first = T_ADD(s.q, .type = "sync", NQ_BYTES("7")), id = 0;
    t_conn *mine = t_connect();
    t_begin(mine);
    t_run(mine, "UPDATE business SET x = 2");
    T_ANSWERS(nq_enqueue(s.q, t_tx(mine), NQ_TASK(.type = "sync", NQ_BYTES("7")), &id, &t_last),
              NQ_DUPLICATE);
    ck_assert_int_eq(id, first);
    t_run(mine, "COMMIT");
    t_disconnect(mine);
    t_post(&s.go);
    if (busy) {
        t_await(&s.started, 10);
        T_WAIT(t_sql("SELECT COUNT(*) FROM nanoq_tasks") == 0, 10);
        p_stop(&t);
    }
    /* Whatever is left runs now. */
    p_run(p_new(other, P_OPTIONS(.drain = NQ_DRAIN_ALL), followups_read, &s));
    ck_assert_int_eq(s.runs, busy ? 2 : 1);
    ck_assert_int_eq(s.read[s.runs - 1], 2);
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_tasks"), 0);
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_followups"), 0);
    sem_destroy(&s.started);
    sem_destroy(&s.go);
    nq_close(other);
    nq_close(s.q);
}
END_TEST

/* Asks for a run of itself in its first three runs. */
static nq_verdict followups_again(nq_ctx *ctx, const nq_task *task, void *udata)
{
    struct followups_seen *s = udata;
    (void)ctx;
    if (__atomic_add_fetch(&s->runs, 1, __ATOMIC_SEQ_CST) > 3)
        return NQ_DONE;
    int rc = NQ_OK;
    for (int i = 0; i < 3; i++)
        rc = nq_enqueue(
            s->q, NQ_OWN_TX,
            NQ_TASK(.type = task->type, .payload = task->payload, .payload_size = task->payload_size), NULL,
            NULL);
    ck_assert_int_eq(rc, NQ_DUPLICATE);
    return NQ_DONE;
}

START_TEST(a_drain_waits_for_the_follow_ups_of_what_it_ran)
{
    static const enum nq_drain drains[] = {NQ_DRAIN_DUE, NQ_DRAIN_ALL};
    struct followups_seen s = {.q = t_open()};
    T_ADD(s.q, .type = "t");
    p_run(p_new(s.q, P_OPTIONS(.drain = (int)drains[_i]), followups_again, &s));
    ck_assert_int_eq(s.runs, 4);
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_tasks"), 0);
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_followups"), 0);
    nq_close(s.q);
}
END_TEST

START_TEST(a_drain_finds_follow_ups_that_were_left)
{
    static const enum nq_drain drains[] = {NQ_DRAIN_DUE, NQ_DRAIN_ALL};
    nq *q = t_open();
    int runs = 0;
    nq_id live = T_ADD(q, .type = "t");
    nq_claimed *c = t_claim_one(q, NQ_LEASE(1, 1));
    T_ANSWERS(nq_enqueue(q, NQ_OWN_TX, NQ_TASK(.type = "t", .delay_us = NQ_MS(1)), &live, &t_last),
              NQ_DUPLICATE);
    ck_assert_int_eq(t_finish(q, c, NQ_OUT_DONE, 0, NULL), NQ_OK);
    t_free_claimed(c);
    nq_close(q); /* and nobody runs for a while */
    q = t_open();
    p_run(p_new(q, P_OPTIONS(.drain = (int)drains[_i]), p_count, &runs));
    ck_assert_int_eq(runs, 1);
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_followups"), 0);
    nq_close(q);
}
END_TEST

START_TEST(two_drains_at_once_leave_none)
{
    enum { N = 40 };
    struct followups_seen s = {.q = t_open()};
    nq *q[2] = {t_open(), t_open()};
    int runs = 0;
    nq_task_spec specs[N];
    char payloads[N][8];
    for (int i = 0; i < N; i++) {
        int len = snprintf(payloads[i], sizeof payloads[i], "%d", i);
        specs[i] = *NQ_TASK(.type = "t", .payload = payloads[i], .payload_size = (size_t)len);
    }
    T_OK(nq_enqueue_many(s.q, NQ_OWN_TX, specs, N, NULL, NULL, &t_last));
    size_t n = 0;
    nq_claimed *c = t_claim(s.q, NQ_LEASE(1, 1), N, &n);
    ck_assert_uint_eq(n, N);
    T_OK(nq_enqueue_many(s.q, NQ_OWN_TX, specs, N, NULL, NULL, &t_last));
    for (nq_claimed *at = c; at; at = at->next)
        ck_assert_int_eq(t_finish(s.q, at, NQ_OUT_DONE, 0, NULL), NQ_OK);
    t_free_claimed(c);
    p_thread t[2];
    for (int i = 0; i < 2; i++)
        p_start(&t[i], p_new(q[i], P_OPTIONS(.drain = NQ_DRAIN_DUE), p_count, &runs));
    for (int i = 0; i < 2; i++)
        ck_assert_int_eq(p_join(&t[i]), NQ_OK);
    ck_assert_int_eq(runs, N);
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_followups"), 0);
    nq_close(q[0]);
    nq_close(q[1]);
    nq_close(s.q);
}
END_TEST

Suite *suite_followups(void)
{
    Suite *s = suite_create("followups");
    TCase *c = t_case(s, "followups", 30);
    tcase_add_loop_test(c, an_update_while_the_task_runs_is_not_lost, 0, 2);
    tcase_add_loop_test(c, a_duplicate_of_a_waiting_task_makes_it_run_once, 0, 2);
    tcase_add_loop_test(c, a_drain_waits_for_the_follow_ups_of_what_it_ran, 0, 2);
    tcase_add_loop_test(c, a_drain_finds_follow_ups_that_were_left, 0, 2);
    tcase_add_test(c, two_drains_at_once_leave_none);
    return s;
}
