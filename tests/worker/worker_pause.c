/* SPDX-License-Identifier: MIT */
/* Pausing queues while workers run: what starts, what does not, and who knows. */
#include <signal.h>

#include "suites.h"

#include "../../src/worker/worker.h"

#define P_PAUSE(...) (&(nq_pause_options){.size = sizeof(nq_pause_options), __VA_ARGS__})
#define PAUSE_WAIT   NQ_SECONDS(20 * T_SLOW_FACTOR)

static void pause_add(nq *q, const char *queue, int n)
{
    for (int i = 0; i < n; i++)
        T_ADD(q, .type = "t", .queue = queue, .unique = NQ_UNIQUE_NONE);
}

static const nq_queue_options pause_queues[] = {{.size = sizeof(nq_queue_options), .name = "a"},
                                                {.size = sizeof(nq_queue_options), .name = "b"}};

/* Handlers that note what runs, in memory that processes share; while `closed` they do not end. */
struct pause_seen {
    int ran[2], running, closed, slow;
};

static nq_verdict pause_handle(nq_ctx *ctx, const nq_task *task, void *udata)
{
    struct pause_seen *s = udata;
    __atomic_add_fetch(&s->running, 1, __ATOMIC_SEQ_CST);
    __atomic_add_fetch(&s->ran[task->queue[0] == 'b'], 1, __ATOMIC_SEQ_CST);
    if (s->slow)
        t_pause_ms(2);
    while (p_load(&s->closed) && nq_ctx_cause(ctx) == NQ_CAUSE_NONE)
        t_pause_ms(1);
    __atomic_sub_fetch(&s->running, 1, __ATOMIC_SEQ_CST);
    return NQ_DONE;
}

static nq_worker *pause_worker(nq *q, struct pause_seen *s, unsigned batch)
{
    return p_new(q, P_OPTIONS(.queues = pause_queues, .nqueues = 2, .concurrency = 4, .batch = batch),
                 pause_handle, s);
}

START_TEST(a_paused_queue_starts_nothing_and_the_others_go_on)
{
    nq *q = t_open();
    struct pause_seen *s = p_shared(sizeof *s);
    p_thread t;
    T_OK(nq_pause(q, "a", P_PAUSE(.why = "deploy"), &t_last));
    pause_add(q, "a", 10);
    p_start(&t, pause_worker(q, s, 0));
    pause_add(q, "a", 10);
    pause_add(q, "b", 30);
    T_WAIT(p_load(&s->ran[1]) == 30, 20);
    ck_assert_int_eq(p_load(&s->ran[0]), 0);
    T_OK(nq_pause(q, "a", NULL, &t_last)); /* again: no error, and the reason stays */
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_queues WHERE paused_why = 'deploy'"), 1);
    T_OK(nq_resume(q, "a", NULL, &t_last));
    T_WAIT(p_load(&s->ran[0]) == 20, 20);
    T_OK(nq_resume(q, "a", NULL, &t_last));
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_queues"), 0);
    p_stop(&t);
    nq_close(q);
}
END_TEST

/* Prefetched tasks are given back: after the wait none starts, none runs, and none has lost an attempt. */
static void pause_under_load(const nq_handle_options *how, bool sql)
{
    nq *q = t_open();
    struct pause_seen *s = p_shared(sizeof *s);
    p_thread t;
    nq_worker *p = pause_worker(q, s, 100);
    s->slow = 1;
    if (how) {
        T_OK(nq_worker_handle(p, "t", pause_handle, s, how, &t_last));
        T_OK(nq_worker_fork(p, &t_last));
    }
    pause_add(q, "a", 3000);
    p_start(&t, p);
    T_WAIT(p_load(&s->ran[0]) > 50, 20);
    if (sql) {
        t_sql("INSERT INTO nanoq_queues (name, paused_at) VALUES ('a', %s)",
              T_SQLITE ? "17" : "UTC_TIMESTAMP(6)");
        T_OK(nq_pause(q, "b", P_PAUSE(.wait_us = PAUSE_WAIT), &t_last)); /* so all settings are known */
        T_WAIT(t_sql("SELECT COUNT(*) FROM nanoq_tasks WHERE state = 1") == 0, 20);
    } else {
        T_OK(nq_pause(q, "a", P_PAUSE(.wait_us = PAUSE_WAIT), &t_last));
    }
    const int ran = p_load(&s->ran[0]);
    ck_assert_int_eq(p_load(&s->running), 0);
    ck_assert_int_lt(ran, 3000);
    T_OK(nq_resume(q, "b", NULL, &t_last));
    pause_add(q, "b", 200);
    T_WAIT(p_load(&s->ran[1]) == 200, 20);
    ck_assert_int_eq(p_load(&s->ran[0]), ran);
    T_WAIT(t_sql("SELECT COUNT(*) FROM nanoq_tasks WHERE state = 0 AND attempts = 0") == 3000 - ran, 20);
    if (sql)
        t_sql("UPDATE nanoq_queues SET paused_at = NULL WHERE name = 'a'");
    else
        T_OK(nq_resume(q, "a", NULL, &t_last));
    T_WAIT(p_load(&s->ran[0]) == 3000, 30);
    p_stop(&t);
    nq_close(q);
}

START_TEST(tasks_that_have_not_begun_are_given_back)
{
    pause_under_load(NULL, false);
}
END_TEST

START_TEST(tasks_that_were_sent_to_children_are_given_back)
{
    pause_under_load(P_ISOLATED(.nice = 0), false);
}
END_TEST

START_TEST(plain_sql_pauses_and_resumes_while_claims_run)
{
    pause_under_load(NULL, true);
}
END_TEST

static void pause_child(int fd, void *arg)
{
    nq *q = NULL;
    nq_worker *p = NULL;
    if (nq_open(&q, t_url, NULL, NULL) != NQ_OK ||
        nq_worker_new(&p, q, P_OPTIONS(.queues = pause_queues, .nqueues = 2, .concurrency = 4), NULL) !=
            NQ_OK ||
        nq_worker_handle(p, NULL, pause_handle, arg, NULL, NULL) != NQ_OK)
        _exit(1);
    t_tell(fd, 1);
    (void)nq_worker_run(p, NULL);
}

START_TEST(the_wait_is_for_each_process)
{
    struct pause_seen *s = p_shared(sizeof *s);
    t_child children[2];
    for (int i = 0; i < 2; i++)
        t_fork(&children[i], pause_child, s);
    nq *q = t_open();
    for (int i = 0; i < 2; i++)
        t_hear(children[i].fd, 20);
    T_WAIT(t_sql("SELECT COUNT(*) FROM nanoq_workers WHERE settings IS NOT NULL") == 2, 20);
    for (int round = 0; round < 3; round++) {
        pause_add(q, "a", 400);
        T_OK(nq_pause(q, "a", P_PAUSE(.wait_us = PAUSE_WAIT), &t_last));
        const int ran = p_load(&s->ran[0]);
        ck_assert_int_eq(p_load(&s->running), 0);
        pause_add(q, "b", 50);
        T_WAIT(p_load(&s->ran[1]) == 50 * (round + 1), 20);
        ck_assert_int_eq(p_load(&s->ran[0]), ran);
        T_OK(nq_resume(q, "a", P_PAUSE(.wait_us = PAUSE_WAIT), &t_last));
        T_WAIT(p_load(&s->ran[0]) == 400 * (round + 1), 20);
    }
    for (int i = 0; i < 2; i++)
        t_kill(&children[i], SIGKILL);
    nq_close(q);
}
END_TEST

START_TEST(the_wait_ends_when_its_time_is_up)
{
    nq *q = t_open();
    struct pause_seen *s = p_shared(sizeof *s);
    p_thread t;
    s->closed = 1;
    p_start(&t, pause_worker(q, s, 0));
    pause_add(q, "a", 1);
    T_WAIT(p_load(&s->running) == 1, 20);
    T_FAILS(nq_pause(q, "a", P_PAUSE(.wait_us = NQ_MS(300)), &t_last), NQ_ETIMEOUT);
    ck_assert_ptr_nonnull(strstr(t_last.message, "task 1 still runs"));
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_queues WHERE paused_at IS NOT NULL"), 1);
    __atomic_store_n(&s->closed, 0, __ATOMIC_SEQ_CST);
    T_OK(nq_pause(q, "a", P_PAUSE(.wait_us = PAUSE_WAIT), &t_last));
    /* Of a version that has no such columns; nobody is there who would take it for dead. */
    p_stop(&t);
    t_sql("INSERT INTO nanoq_workers (name, started_at, beat_at) VALUES ('elder:1', %s, %s)",
          T_SQLITE ? "1" : "UTC_TIMESTAMP(6)",
          T_SQLITE ? "strftime('%s', 'now') * 1000000" : "UTC_TIMESTAMP(6)");
    T_FAILS(nq_pause(q, "a", P_PAUSE(.wait_us = NQ_MS(50)), &t_last), NQ_ETIMEOUT);
    ck_assert_ptr_nonnull(strstr(t_last.message, "elder:1"));
    ck_assert_ptr_nonnull(strstr(t_last.message, "older version"));
    nq_close(q);
}
END_TEST

START_TEST(bad_pauses_are_refused)
{
    nq *q = t_open();
    char text[300];
    memset(text, 'x', sizeof text);
    text[256] = '\0';
    T_FAILS(nq_pause(q, "a", P_PAUSE(.why = text), &t_last), NQ_EINVAL);
    T_FAILS(nq_pause(q, "a", P_PAUSE(.why = "\x1b[31m"), &t_last), NQ_EINVAL);
    T_FAILS(nq_pause(q, "a", P_PAUSE(.why = "\xff"), &t_last), NQ_EINVAL);
    T_FAILS(nq_pause(q, "a b", NULL, &t_last), NQ_EINVAL);
    T_FAILS(nq_pause(q, NULL, NULL, &t_last), NQ_EINVAL);
    T_FAILS(nq_pause(q, "a", P_PAUSE(.group = "x\ty"), &t_last), NQ_EINVAL);
    T_FAILS(nq_pause(q, "a", P_PAUSE(.wait_us = -1), &t_last), NQ_EINVAL);
    T_FAILS(nq_resume(q, "", NULL, &t_last), NQ_EINVAL);
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_queues"), 0);
    nq_close(q);
}
END_TEST

START_TEST(a_drain_does_not_wait_for_a_paused_queue)
{
    nq *q = t_open();
    struct pause_seen *s = p_shared(sizeof *s);
    T_OK(nq_pause(q, "a", NULL, &t_last));
    pause_add(q, "a", 5);
    pause_add(q, "b", 5);
    p_run(p_new(q, P_OPTIONS(.queues = pause_queues, .nqueues = 2, .drain = NQ_DRAIN_ALL), pause_handle, s));
    ck_assert_int_eq(s->ran[0], 0);
    ck_assert_int_eq(s->ran[1], 5);
    nq_close(q);
}
END_TEST

/* The first one of "a" holds its queue, as after an answer 429. */
static nq_verdict pause_hold(nq_ctx *ctx, const nq_task *task, void *udata)
{
    if (task->queue[0] == 'a' && nq_ctx_hold(ctx, NQ_SCOPE_QUEUE, NQ_HOURS(1), NULL) != NQ_OK)
        return NQ_DISCARD;
    return pause_handle(ctx, task, udata);
}

/* Nothing of it is due until then. */
START_TEST(a_drain_of_what_is_due_does_not_wait_for_a_queue_that_is_held)
{
    nq *q = t_open();
    struct pause_seen *s = p_shared(sizeof *s);
    pause_add(q, "a", 5);
    pause_add(q, "b", 5);
    p_run(p_new(
        q,
        P_OPTIONS(.queues = pause_queues, .nqueues = 2, .concurrency = 1, .batch = 1, .drain = NQ_DRAIN_DUE),
        pause_hold, s));
    ck_assert_int_ge(s->ran[0], 1);
    ck_assert_int_lt(s->ran[0], 5);
    ck_assert_int_eq(s->ran[1], 5);
    pause_add(q, "b", 5); /* and a worker that comes later */
    p_run(p_new(q, P_OPTIONS(.queues = pause_queues, .nqueues = 2, .drain = NQ_DRAIN_DUE), pause_handle, s));
    ck_assert_int_eq(s->ran[1], 10);
    nq_close(q);
}
END_TEST

/* A queue whose name has a group is paused by itself, by its queue, and with each group. */
START_TEST(a_group_is_paused_with_its_queue)
{
    nq *q = t_open();
    struct pause_seen *s = p_shared(sizeof *s);
    const nq_queue_options queues[] = {NQ_QUEUE(.name = "a//1"), NQ_QUEUE(.name = "b")};
    static const char *const groups[] = {"1", "*", NULL};
    p_thread t;
    p_start(&t, p_new(q, P_OPTIONS(.queues = queues, .nqueues = 2), pause_handle, s));
    for (int i = 0; i < 3; i++) {
        T_OK(nq_pause(q, "a", P_PAUSE(.group = groups[i], .wait_us = PAUSE_WAIT), &t_last));
        pause_add(q, "a//1", 3);
        pause_add(q, "b", 20);
        T_WAIT(p_load(&s->ran[1]) == 20 * (i + 1), 20);
        ck_assert_int_eq(p_load(&s->ran[0]), 3 * i);
        T_OK(nq_resume(q, "a", P_PAUSE(.group = groups[i]), &t_last));
        T_WAIT(p_load(&s->ran[0]) == 3 * (i + 1), 20);
    }
    p_stop(&t);
    nq_close(q);
}
END_TEST

/* It has read the settings and is about to join while the queue is paused by somebody who sees no worker. */
START_TEST(a_worker_that_joins_behind_a_pause_heeds_it)
{
    nq *q = t_open();
    struct pause_seen *s = p_shared(sizeof *s);
    p_thread t;
    pause_add(q, "a", 3);
    pause_add(q, "b", 20);
    t_conn *lock = t_connect();
    t_run(lock, "LOCK TABLES nanoq_workers WRITE");
    p_start(&t, p_new(q, P_OPTIONS(.queues = pause_queues, .nqueues = 2), pause_handle, s));
    T_WAIT(t_sql("SELECT COUNT(*) FROM %s WHERE db = DATABASE() AND state LIKE 'Waiting for table%%' AND "
                 "info LIKE 'INSERT%%nanoq_workers%%'",
                 t_sessions()) == 1,
           15);
    T_OK(nq_pause(q, "a", NULL, &t_last));
    t_disconnect(lock);
    T_WAIT(p_load(&s->ran[1]) == 20, 20);
    ck_assert_int_eq(p_load(&s->ran[0]), 0);
    ck_assert_int_eq(t_sql("SELECT SUM(generation) FROM nanoq_tasks WHERE queue = 'a'"), 0);
    p_stop(&t);
    nq_close(q);
}
END_TEST

/* It goes by what was known when it began, and hangs. */
START_TEST(a_claim_under_way_does_not_know_yet)
{
    nq *q = t_open();
    struct pause_seen *s = p_shared(sizeof *s);
    p_thread t;
    T_OK(nq_pause(q, "b", NULL, &t_last));
    t_conn *hold = t_connect();
    t_run(hold, "CREATE TRIGGER claimed BEFORE UPDATE ON nanoq_tasks FOR EACH ROW "
                "DO GET_LOCK(CONCAT('hold-', DATABASE()), 60), RELEASE_LOCK(CONCAT('hold-', DATABASE()))");
    t_run(hold, "SELECT GET_LOCK(CONCAT('hold-', DATABASE()), 0)");
    pause_add(q, "a", 1);
    p_start(&t, pause_worker(q, s, 0));
    T_WAIT(t_sql("SELECT COUNT(*) FROM %s WHERE db = DATABASE() AND state = 'User lock'", t_sessions()) == 1,
           15);
    T_FAILS(nq_resume(q, "b", P_PAUSE(.wait_us = NQ_MS(1500)), &t_last), NQ_ETIMEOUT);
    ck_assert_ptr_nonnull(strstr(t_last.message, "does not know yet"));
    t_disconnect(hold);
    T_OK(nq_resume(q, "b", P_PAUSE(.wait_us = PAUSE_WAIT), &t_last));
    T_WAIT(p_load(&s->ran[0]) == 1, 20);
    p_stop(&t);
    nq_close(q);
}
END_TEST

/* Of a worker that serves the queue with all its groups. */
START_TEST(a_paused_group_leaves_the_others_of_its_queue_to_run)
{
    nq *q = t_open();
    struct pause_seen *s = p_shared(sizeof *s);
    p_thread t;
    T_OK(nq_pause(q, "a", P_PAUSE(.group = "1"), &t_last));
    pause_add(q, "a//1", 30);
    p_start(&t, p_new(q, P_OPTIONS(.queues = pause_queues, .nqueues = 2), pause_handle, s));
    pause_add(q, "a", 20);
    pause_add(q, "a//2", 20);
    T_WAIT(p_load(&s->ran[0]) == 40, 30);
    ck_assert_int_eq(p_load(&s->ran[0]), 40);
    ck_assert_int_eq(t_sql("SELECT SUM(generation) FROM nanoq_tasks WHERE queue = 'a//1'"), 0);
    T_OK(nq_resume(q, "a", P_PAUSE(.group = "1"), &t_last));
    T_WAIT(p_load(&s->ran[0]) == 70, 30);
    p_stop(&t);
    nq_close(q);
}
END_TEST

/* ---- What workers say ---- */

static int pause_note_worker(const nq_worker_row *row, void *udata)
{
    char *text = udata;
    const size_t n = strlen(text);
    snprintf(text + n, 1000 - n, "%s %s %u %u %d %s;", row->queues, row->types, row->concurrency,
             row->running, row->knows, row->version);
    return 0;
}

START_TEST(workers_say_what_they_serve)
{
    nq *q = t_open();
    struct pause_seen *s = p_shared(sizeof *s);
    p_thread t;
    char text[1000] = "", wanted[200];
    nq_worker *p = p_new(q,
                         P_OPTIONS(.queues = pause_queues, .nqueues = 2, .concurrency = 4,
                                   .known_types_only = true, .lease_us = NQ_SECONDS(3)),
                         NULL, NULL);
    T_OK(nq_worker_handle(p, "t", pause_handle, s, NULL, &t_last));
    T_OK(nq_worker_handle(p, "u", pause_handle, s, NULL, &t_last));
    s->closed = 1;
    p_start(&t, p);
    pause_add(q, "a", 3);
    T_WAIT(t_sql("SELECT COUNT(*) FROM nanoq_workers WHERE running = 3") == 1, 20);
    T_OK(nq_workers(q, pause_note_worker, text, &t_last));
    snprintf(wanted, sizeof wanted, "a,b t\nu 4 3 1 %s;", nq_version());
    ck_assert_str_eq(text, wanted);
    __atomic_store_n(&s->closed, 0, __ATOMIC_SEQ_CST);
    p_stop(&t);
    T_FAILS(nq_workers(q, NULL, NULL, &t_last), NQ_EINVAL);
    nq_close(q);
}
END_TEST

Suite *suite_pause(void)
{
    Suite *s = suite_create("pause");
    TCase *c = t_case(s, "pause", 60);
    tcase_add_test(c, a_paused_queue_starts_nothing_and_the_others_go_on);
    tcase_add_test(c, tasks_that_have_not_begun_are_given_back);
    tcase_add_test(c, tasks_that_were_sent_to_children_are_given_back);
    tcase_add_test(c, plain_sql_pauses_and_resumes_while_claims_run);
    tcase_add_test(c, the_wait_is_for_each_process);
    tcase_add_test(c, the_wait_ends_when_its_time_is_up);
    tcase_add_test(c, bad_pauses_are_refused);
    tcase_add_test(c, a_drain_does_not_wait_for_a_paused_queue);
    tcase_add_test(c, a_drain_of_what_is_due_does_not_wait_for_a_queue_that_is_held);
    if (T_MYSQL)
        tcase_add_test(c, a_worker_that_joins_behind_a_pause_heeds_it);
    if (T_MYSQL && !t_is_cluster) /* it has no named locks */
        tcase_add_test(c, a_claim_under_way_does_not_know_yet);
    tcase_add_test(c, a_group_is_paused_with_its_queue);
    tcase_add_test(c, a_paused_group_leaves_the_others_of_its_queue_to_run);
    tcase_add_test(c, workers_say_what_they_serve);
    return s;
}
