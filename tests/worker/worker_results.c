/* SPDX-License-Identifier: MIT */
/* Results from handlers, in threads and in children: one is there if and only if the attempt ended done. */
#include "suites.h"

#include <signal.h>

struct results_seen {
    int state;
    bool there;
    size_t size;
    char start[32], end;
};

static int results_info(const nq_info *info, void *udata)
{
    struct results_seen *s = udata;
    *s = (struct results_seen){.state = info->state, .there = info->result, .size = info->result_size};
    if (info->result) {
        snprintf(s->start, sizeof s->start, "%.31s", (const char *)info->result);
        s->end = info->result_size ? ((const char *)info->result)[info->result_size - 1] : '\0';
    }
    return 0;
}

static struct results_seen results_of(nq *q, nq_id id)
{
    struct results_seen s = {0};
    T_OK(nq_get(q, id, results_info, &s, &t_last));
    return s;
}

enum { RESULTS_LONG = 300000 };

/* Leaves what its payload says, and ends so. */
static nq_verdict results_handler(nq_ctx *ctx, const nq_task *task, void *udata)
{
    static _Thread_local char bytes[RESULTS_LONG];
    nq_err err = {0};
    const char *how = task->payload;
    (void)udata;
    memset(bytes, 'x', sizeof bytes);
    bytes[sizeof bytes - 1] = 'e';
    if (strcmp(how, "none") == 0)
        return NQ_DONE;
    if (strcmp(how, "long") == 0 || strcmp(how, "too long") == 0) {
        const int rc = nq_ctx_result(ctx, bytes, sizeof bytes, &err);
        return rc == NQ_OK ? NQ_DONE : nq_fail(ctx, NQ_DISCARD, "%s: %s", nq_code_name(rc), err.message);
    }
    if (nq_ctx_result(ctx, "a first one, longer", 19, &err) != NQ_OK ||
        nq_ctx_result(ctx, how, strcmp(how, "empty") == 0 ? 0 : strlen(how), &err) != NQ_OK ||
        nq_ctx_result(ctx, NULL, 1, &err) != NQ_EINVAL)
        return nq_fail(ctx, NQ_DISCARD, "%s", err.message);
    return strcmp(how, "fails") == 0 ? NQ_DISCARD : NQ_DONE;
}

/* A worker that drains; isolated: its handler runs in children, which come before there are threads. */
static nq_worker *results_drainer(nq *q, bool isolated)
{
    nq_worker *p = p_new(q, P_OPTIONS(.concurrency = 2, .drain = NQ_DRAIN_DUE), NULL, NULL);
    T_OK(nq_worker_handle(p, NULL, results_handler, NULL, isolated ? P_ISOLATED(.nice = 0) : NULL, &t_last));
    if (isolated)
        T_OK(nq_worker_fork(p, &t_last));
    return p;
}

/* _i: in a child. */
START_TEST(what_a_handler_leaves_is_there_when_it_answered_done)
{
    static const char *const payloads[] = {"short", "empty", "long", "none", "fails"};
    nq *q = t_open();
    nq_id ids[5];
    nq_worker *p = results_drainer(q, _i);
    for (int i = 0; i < 5; i++)
        ids[i] = T_ADD(q, .type = "t", .payload = payloads[i], .payload_size = strlen(payloads[i]),
                       .keep_us = i == 3 ? NQ_HOURS(1) : 0);
    p_run(p);
    struct results_seen s = results_of(q, ids[0]);
    ck_assert_int_eq(s.state, NQ_STATE_DONE);
    ck_assert_str_eq(s.start, "short");
    s = results_of(q, ids[1]);
    ck_assert(s.there && s.size == 0);
    s = results_of(q, ids[2]);
    ck_assert_uint_eq(s.size, RESULTS_LONG);
    ck_assert_int_eq(s.end, 'e');
    s = results_of(q, ids[3]);
    ck_assert_int_eq(s.state, NQ_STATE_DONE);
    ck_assert(!s.there);
    s = results_of(q, ids[4]);
    ck_assert_int_eq(s.state, NQ_STATE_DEAD);
    ck_assert(!s.there);
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_results"), 4);
    nq_close(q);
}
END_TEST

START_TEST(a_result_above_the_limit_is_refused)
{
    nq *q;
    T_OK(nq_open(&q, t_url, &(nq_options){.size = sizeof(nq_options), .max_payload = 1000}, &t_last));
    nq_worker *p = results_drainer(q, _i);
    const nq_id id = T_ADD(q, .type = "t", NQ_BYTES("too long"));
    p_run(p);
    t_task task;
    ck_assert_int_eq(t_get(q, id, &task), NQ_OK);
    ck_assert_int_eq(task.info.state, NQ_STATE_DEAD);
    ck_assert_str_eq(task.error, "NQ_ETOOBIG: the result is 300000 bytes long, at most 1000 are allowed "
                                 "(max_payload)");
    t_task_free(&task);
    nq_close(q);
}
END_TEST

/* ---- kill -9 ---- */

static nq_verdict results_hang(nq_ctx *ctx, const nq_task *task, void *udata)
{
    nq_err err;
    const int *fd = udata;
    if (nq_ctx_result(ctx, "of the first", 12, &err) != NQ_OK)
        return NQ_DISCARD;
    t_tell(*fd, task->id);
    for (;;)
        pause(); /* until somebody kills us */
}

static void results_worker(int fd, void *arg)
{
    nq *q = t_open();
    nq_err err;
    (void)arg;
    nq_worker_run(p_new(q, P_OPTIONS(.concurrency = 1, .lease_us = P_DYING_LEASE), results_hang, &fd), &err);
}

static nq_verdict results_second(nq_ctx *ctx, const nq_task *task, void *udata)
{
    nq_err err;
    (void)udata;
    return nq_ctx_result(ctx, task->crashes == 1 ? "of the second" : "?", 13, &err) == NQ_OK ? NQ_DONE
                                                                                             : NQ_DISCARD;
}

START_TEST(a_killed_worker_leaves_no_result_and_the_next_attempt_its_own)
{
    t_child child;
    t_fork(&child, results_worker, NULL);
    nq *q = t_open();
    const nq_id id = T_ADD(q, .type = "t");
    ck_assert_int_eq(t_hear(child.fd, 20), id);
    t_kill(&child, SIGKILL);
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_results"), 0);
    p_thread t;
    p_start(&t, p_new(q, P_OPTIONS(.lease_us = P_DYING_LEASE), results_second, NULL));
    T_WAIT(t_state(q, id) == NQ_STATE_DONE, 20);
    p_stop(&t);
    ck_assert_str_eq(results_of(q, id).start, "of the second");
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_attempts WHERE outcome = 3 AND generation = 1"), 1);
    nq_close(q);
}
END_TEST

Suite *suite_worker_results(void)
{
    Suite *s = suite_create("results");
    TCase *c = t_case(s, "results", 60);
    tcase_add_loop_test(c, what_a_handler_leaves_is_there_when_it_answered_done, 0, 2);
    tcase_add_loop_test(c, a_result_above_the_limit_is_refused, 0, 2);
    tcase_add_test(c, a_killed_worker_leaves_no_result_and_the_next_attempt_its_own);
    return s;
}
