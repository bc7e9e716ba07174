/* SPDX-License-Identifier: MIT */
/* A client whose clock is wrong by a day: nothing runs earlier or later, for all times are the server's. */
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>

#include "../harness.h"

static int64_t clock_wrong_s; /* what this program takes for the time is wrong by so much */

/* In the place of libc's, for the library too. CLOCK_MONOTONIC stays right: timeouts are measured by it. */
int clock_gettime(clockid_t id, struct timespec *ts)
{
    long rc = syscall(SYS_clock_gettime, id, ts);
    if (rc == 0 && id == CLOCK_REALTIME)
        ts->tv_sec += clock_wrong_s;
    return (int)rc;
}

time_t time(time_t *out)
{
    struct timespec ts;
    clock_gettime(CLOCK_REALTIME, &ts);
    if (out)
        *out = ts.tv_sec;
    return ts.tv_sec;
}

int gettimeofday(struct timeval *restrict tv, void *restrict zone)
{
    struct timespec ts;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &ts);
    tv->tv_sec = ts.tv_sec;
    tv->tv_usec = ts.tv_nsec / 1000;
    return 0;
}

static const int64_t clock_offsets[] = {86400, -86400};

static nq_verdict clock_not_early(nq_ctx *ctx, const nq_task *task, void *udata)
{
    nq *q = ((void **)udata)[0];
    const int64_t now = t_now(q);
    if (now < task->run_at_us)
        return nq_fail(ctx, NQ_DISCARD, "early by %lld us", (long long)(task->run_at_us - now));
    nq_ctx_set_delay(ctx, NQ_MS(200));
    return task->attempt == 1 ? NQ_RETRY : NQ_DONE;
}

/* Of NanoQ: there the client's clock was compared with the server's. */
START_TEST(a_wrong_client_clock_changes_nothing)
{
    int64_t right = (int64_t)time(NULL);
    clock_wrong_s = clock_offsets[_i];
    ck_assert_int_ge(llabs((int64_t)time(NULL) - right), 86000);
    nq *q = t_open();
    void *udata[] = {q};
    nq_id id = T_ADD(q, .type = "now");
    T_ADD(q, .type = "later", .delay_us = NQ_MS(400));
    nq_id tomorrow = T_ADD(q, .type = "tomorrow", .delay_us = NQ_HOURS(1));
    t_task t;
    ck_assert_int_eq(t_get(q, id, &t), NQ_OK);
    ck_assert_int_le(llabs(t.info.created_at_us / 1000000 - right), 30);
    t_task_free(&t);
    T_OK(nq_cancel(q, tomorrow, &t_last)); /* else the drain would wait for it */
    nq_worker *p = NULL;
    int64_t start = t_mono();
    T_OK(nq_worker_new(&p, q, &(nq_worker_options){.size = sizeof(nq_worker_options), .drain = NQ_DRAIN_ALL},
                       &t_last));
    T_OK(nq_worker_handle(p, NULL, clock_not_early, udata, NULL, &t_last));
    T_OK(nq_worker_run(p, &t_last));
    nq_worker_free(p);
    ck_assert_int_ge(t_mono() - start, NQ_MS(300));
    ck_assert_int_lt(t_mono() - start, NQ_SECONDS(10) * T_SLOW_FACTOR);
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_tasks"), 0);
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_finished WHERE state <> 4"), 0);
    nq_close(q);
}
END_TEST

static Suite *suite_clock(void)
{
    Suite *s = suite_create("clock");
    tcase_add_loop_test(t_case(s, "clock", 40), a_wrong_client_clock_changes_nothing, 0, 2);
    return s;
}

int main(int argc, char **argv)
{
    Suite *(*const suites[])(void) = {suite_clock};
    return t_main(argc, argv, suites, 1);
}
