/* SPDX-License-Identifier: MIT */
/* Waiting for tasks: until they have ended, with what they left; told of it, and by looks where nobody tells.
 */
#include "suites.h"

struct wait_seen {
    int calls, stop_at;
    nq_id ids[16];
    int states[16];
    char results[16][16];
};

static int wait_info(const nq_info *info, void *udata)
{
    struct wait_seen *s = udata;
    ck_assert_int_lt(s->calls, 16);
    s->ids[s->calls] = info->id;
    s->states[s->calls] = info->state;
    if (info->result)
        snprintf(s->results[s->calls], sizeof s->results[0], "%s", (const char *)info->result);
    s->calls++;
    return s->calls == s->stop_at;
}

static nq_verdict wait_handler(nq_ctx *ctx, const nq_task *task, void *udata)
{
    nq_err err;
    (void)udata;
    if (task->payload_size == 0)
        return NQ_DONE; /* and not kept */
    return nq_ctx_result(ctx, task->payload, task->payload_size, &err) == NQ_OK &&
                   strcmp(task->payload, "dead") != 0
               ? NQ_DONE
               : NQ_DISCARD;
}

struct wait_thread {
    nq *q;
    nq_id ids[8];
    size_t n;
    int wait_for;
    struct wait_seen seen;
    int rc;
    nq_err err;
};

static void *wait_main(void *arg)
{
    struct wait_thread *t = arg;
    t->rc = nq_wait(t->q, t->ids, t->n, t->wait_for, NQ_SECONDS(60), wait_info, &t->seen, &t->err);
    return NULL;
}

START_TEST(what_has_ended_is_told_and_the_rest_is_waited_for)
{
    nq *q = t_open(), *theirs = t_open();
    struct wait_thread t = {.q = theirs, .n = 5};
    pthread_t thread;
    t.ids[0] = T_ADD(q, .type = "t", NQ_BYTES("one"));
    t.ids[1] = T_ADD(q, .type = "t", NQ_BYTES("dead"));
    t.ids[2] = T_ADD(q, .type = "t", NQ_BYTES("two"));
    t.ids[3] = T_ADD(q, .type = "t", NQ_BYTES("cancelled"), .delay_us = NQ_HOURS(1));
    t.ids[4] = t.ids[0];
    T_OK(nq_cancel(q, t.ids[3], &t_last));
    t_thread(&thread, wait_main, &t);
    p_thread p;
    p_start(&p, p_new(q, P_OPTIONS(.concurrency = 2), wait_handler, NULL));
    pthread_join(thread, NULL);
    ck_assert_msg(t.rc == NQ_OK, "%s", t.err.message);
    ck_assert_int_eq(t.seen.calls, 4);
    int done = 0;
    for (int i = 0; i < 4; i++) {
        done += t.seen.states[i] == NQ_STATE_DONE;
        if (t.seen.ids[i] == t.ids[2])
            ck_assert_str_eq(t.seen.results[i], "two");
        if (t.seen.ids[i] == t.ids[1])
            ck_assert_int_eq(t.seen.states[i], NQ_STATE_DEAD);
        if (t.seen.ids[i] == t.ids[3])
            ck_assert_int_eq(t.seen.states[i], NQ_STATE_CANCELLED);
    }
    ck_assert_int_eq(done, 2);
    p_stop(&p);
    nq_close(theirs);
    nq_close(q);
}
END_TEST

START_TEST(one_is_enough_where_any_will_do)
{
    nq *q = t_open();
    struct wait_seen seen = {0};
    const nq_id ids[] = {T_ADD(q, .type = "t", NQ_BYTES("late"), .delay_us = NQ_HOURS(1)),
                         T_ADD(q, .type = "t", NQ_BYTES("now"))};
    p_thread p;
    p_start(&p, p_new(q, P_OPTIONS(.concurrency = 1), wait_handler, NULL));
    T_OK(nq_wait(q, ids, 2, NQ_WAIT_ANY, 0, wait_info, &seen, &t_last));
    ck_assert_int_eq(seen.calls, 1);
    ck_assert_int_eq(seen.ids[0], ids[1]);
    ck_assert_str_eq(seen.results[0], "now");
    T_FAILS(nq_wait(q, ids, 2, NQ_WAIT_ALL, NQ_MS(30), NULL, NULL, &t_last), NQ_ETIMEOUT);
    ck_assert_ptr_nonnull(strstr(t_last.message, "1 task(s) have not ended"));
    p_stop(&p);
    nq_close(q);
}
END_TEST

START_TEST(what_is_not_here_is_said_to_be_so)
{
    nq *q = t_open();
    struct wait_seen seen = {0};
    const nq_id ids[] = {T_ADD(q, .type = "t", NQ_BYTES("x")), T_ADD(q, .type = "gone"), 4711};
    T_FAILS(nq_wait(q, ids, 2, NQ_WAIT_ALL, NQ_ZERO, NULL, NULL, &t_last), NQ_ETIMEOUT);
    T_FAILS(nq_wait(q, ids + 2, 1, NQ_WAIT_ANY, 0, NULL, NULL, &t_last), NQ_ENOTFOUND);
    ck_assert_str_eq(t_last.message, "there is no task 4711");
    p_thread p;
    p_start(&p, p_new(q, P_OPTIONS(.concurrency = 1), wait_handler, NULL));
    T_FAILS(nq_wait(q, ids, 3, NQ_WAIT_ALL, 0, wait_info, &seen, &t_last), NQ_ENOTFOUND);
    ck_assert_ptr_nonnull(strstr(t_last.message, "nor 1 others"));
    ck_assert_int_eq(seen.calls, 1);
    ck_assert_int_eq(seen.ids[0], ids[0]);
    p_stop(&p);
    T_FAILS(nq_wait(q, NULL, 1, 0, 0, NULL, NULL, &t_last), NQ_EINVAL);
    T_FAILS(nq_wait(q, ids, 0, 0, 0, NULL, NULL, &t_last), NQ_EINVAL);
    T_FAILS(nq_wait(q, ids, 1, 2, 0, NULL, NULL, &t_last), NQ_EINVAL);
    T_FAILS(nq_wait(q, ids, 1, 0, -1, NULL, NULL, &t_last), NQ_EINVAL);
    nq_close(q);
}
END_TEST

START_TEST(fn_may_stop_it)
{
    nq *q = t_open();
    struct wait_seen seen = {.stop_at = 2};
    nq_id ids[4];
    for (int i = 0; i < 4; i++) {
        ids[i] = T_ADD(q, .type = "t", .unique = NQ_UNIQUE_NONE);
        if (i < 3)
            T_OK(nq_cancel(q, ids[i], &t_last));
    }
    T_OK(nq_wait(q, ids, 4, NQ_WAIT_ALL, 0, wait_info, &seen, &t_last));
    ck_assert_int_eq(seen.calls, 2);
    nq_close(q);
}
END_TEST

/* Looks alone, where hints are off; and more ids than one statement has. */
START_TEST(nobody_need_tell)
{
    enum { N = 450 };
    static nq_id ids[N];
    nq *q;
    T_OK(nq_open(&q, t_url_with("hints=none"), NULL, &t_last));
    for (int i = 0; i < N; i++)
        ids[i] = T_ADD(q, .type = "t", .unique = NQ_UNIQUE_NONE, .keep_us = NQ_HOURS(1));
    p_thread p;
    p_start(&p, p_new(q, P_OPTIONS(.concurrency = 2), wait_handler, NULL));
    T_OK(nq_wait(q, ids, N, NQ_WAIT_ALL, NQ_SECONDS(60), NULL, NULL, &t_last));
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_finished WHERE state = 2"), N);
    p_stop(&p);
    nq_close(q);
}
END_TEST

/* A server that restarts breaks all connections. */
START_TEST(connections_that_break_meanwhile_are_made_anew)
{
    nq *q = t_open(), *theirs = t_open();
    struct wait_thread t = {.q = theirs, .n = 1};
    pthread_t thread;
    if (!T_MYSQL) {
        nq_close(theirs);
        nq_close(q);
        return;
    }
    t.ids[0] = T_ADD(q, .type = "t", NQ_BYTES("one"));
    /* Whoever does not know the tables yet is told that the server is away instead of waiting for it. */
    T_FAILS(nq_wait(theirs, t.ids, 1, 0, NQ_ZERO, NULL, NULL, &t_last), NQ_ETIMEOUT);
    t_thread(&thread, wait_main, &t);
    for (int i = 0; i < 20; i++) {
        const int64_t id =
            t_sql("SELECT MIN(id) FROM %s WHERE db = '%s' AND id <> CONNECTION_ID()", t_sessions(), t_name);
        if (id > 0)
            t_try(t_side(), "KILL %lld", (long long)id);
        t_pause_ms(5);
    }
    p_thread p;
    p_start(&p, p_new(q, P_OPTIONS(.concurrency = 1), wait_handler, NULL));
    pthread_join(thread, NULL);
    ck_assert_msg(t.rc == NQ_OK, "%s", t.err.message);
    ck_assert_str_eq(t.seen.results[0], "one");
    p_stop(&p);
    nq_close(theirs);
    nq_close(q);
}
END_TEST

Suite *suite_wait(void)
{
    Suite *s = suite_create("wait");
    TCase *c = t_case(s, "wait", 90);
    tcase_add_test(c, what_has_ended_is_told_and_the_rest_is_waited_for);
    tcase_add_test(c, one_is_enough_where_any_will_do);
    tcase_add_test(c, what_is_not_here_is_said_to_be_so);
    tcase_add_test(c, fn_may_stop_it);
    tcase_add_test(c, nobody_need_tell);
    tcase_add_test(c, connections_that_break_meanwhile_are_made_anew);
    return s;
}
