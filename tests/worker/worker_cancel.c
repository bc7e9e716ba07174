/* SPDX-License-Identifier: MIT */
/* Cancellation reaches a handler: timeout, shutdown, lease lost; by flag, cause and descriptor. */
#include "suites.h"

#include <poll.h>

struct cancel_seen {
    sem_t started;
    enum nq_cause cause;
    bool readable;
    int64_t took, remaining;
    nq_verdict verdict;
    int runs;
};

/* Wait on the descriptor as a handler with its own event loop would. */
static nq_verdict cancel_wait(nq_ctx *ctx, const nq_task *task, void *udata)
{
    (void)task;
    struct cancel_seen *s = udata;
    int64_t start = t_mono();
    struct pollfd p = {.fd = nq_ctx_fd(ctx), .events = POLLIN};
    ck_assert_int_ge(p.fd, 0);
    ck_assert_int_eq(nq_ctx_fd(ctx), p.fd);
    ck_assert_int_eq(poll(&p, 1, 0), 0);
    s->runs++;
    t_post(&s->started);
    s->readable = poll(&p, 1, 25000) == 1;
    s->took = t_mono() - start;
    s->cause = nq_ctx_cause(ctx);
    s->remaining = nq_ctx_remaining_us(ctx);
    ck_assert_int_eq(poll(&p, 1, 0), 1); /* and it stays readable */
    return s->verdict;
}

static void cancel_on_error(const nq_task *task, const char *error, bool final, void *udata)
{
    (void)task, (void) final;
    snprintf(udata, 128, "%s", error);
}

START_TEST(a_timeout_cancels_the_context_and_fails_the_attempt)
{
    nq *q = t_open();
    char error[128] = "";
    struct cancel_seen s = {.verdict = NQ_RETRY};
    sem_init(&s.started, 0, 0);
    nq_id id = T_ADD(q, .type = "t", .timeout_us = NQ_SECONDS(1));
    p_run(p_new(q, P_OPTIONS(.drain = NQ_DRAIN_DUE, .on_error = cancel_on_error, .error_udata = error),
                cancel_wait, &s));
    ck_assert(s.readable);
    ck_assert_int_eq(s.cause, NQ_CAUSE_TIMEOUT);
    ck_assert_int_ge(s.took, NQ_MS(950));
    ck_assert_int_lt(s.took, NQ_SECONDS(4) * T_SLOW_FACTOR);
    ck_assert_int_eq(s.remaining, 0);
    t_task t;
    ck_assert_int_eq(t_get(q, id, &t), NQ_OK);
    ck_assert_int_eq(t.info.state, NQ_STATE_WAITING);
    ck_assert_uint_eq(t.info.attempts, 1);
    ck_assert_ptr_nonnull(strstr(t.error, "timed out"));
    ck_assert_str_eq(error, t.error);
    t_task_free(&t);
    nq_close(q);
}
END_TEST

START_TEST(a_handler_that_finished_all_the_same_is_done)
{
    nq *q = t_open();
    struct cancel_seen s = {.verdict = NQ_DONE};
    sem_init(&s.started, 0, 0);
    nq_id id = T_ADD(q, .type = "t", .timeout_us = NQ_SECONDS(1));
    p_run(p_new(q, P_OPTIONS(.drain = NQ_DRAIN_DUE), cancel_wait, &s));
    ck_assert_int_eq(s.cause, NQ_CAUSE_TIMEOUT);
    ck_assert_int_eq(t_state(q, id), -1);
    nq_close(q);
}
END_TEST

START_TEST(a_lost_lease_cancels_the_handler_and_nothing_it_says_counts)
{
    nq *q = t_open();
    struct cancel_seen s = {.verdict = NQ_DONE};
    sem_init(&s.started, 0, 0);
    nq_id id = T_ADD(q, .type = "t");
    p_thread t;
    p_start(&t, p_new(q, P_OPTIONS(.lease_us = NQ_SECONDS(3)), cancel_wait, &s));
    t_await(&s.started, 20);
    /* Somebody else declares this worker dead and takes the task. */
    nq *other = t_open();
    nq_member *thief = NULL;
    T_OK(nq_member_join(&thief, nq_store_of(other), "thief", NULL, &t_last));
    t_sql("UPDATE nanoq_tasks SET lease = %llu, generation = generation + 1",
          (unsigned long long)NQ_LEASE(nq_member_id(thief), 1));
    t_sql("DELETE FROM nanoq_workers WHERE id <> %llu", (unsigned long long)nq_member_id(thief));
    nq_worker_totals c = {0};
    T_WAIT((nq_worker_stats(t.p, &c, sizeof c), c.lease_lost == 1), 15);
    ck_assert_uint_eq(c.done, 0);
    ck_assert_int_eq(s.cause, NQ_CAUSE_LEASE_LOST);
    /* The thief never beats, so in its turn it is declared dead, and the task runs here again. */
    t_await(&s.started, 20);
    t_task info;
    ck_assert_int_eq(t_get(q, id, &info), NQ_OK);
    ck_assert_uint_eq(info.info.crashes, 1);
    t_task_free(&info);
    nq_worker_stop(t.p);
    nq_worker_stop(t.p);
    ck_assert_int_eq(p_join(&t), NQ_OK);
    nq_member_free(thief);
    nq_close(other);
    nq_close(q);
}
END_TEST

START_TEST(a_fenced_answer_is_counted_as_lost)
{
    nq *q = t_open();
    struct cancel_seen s = {.verdict = NQ_DONE};
    sem_init(&s.started, 0, 0);
    nq_id id = T_ADD(q, .type = "t", .timeout_us = NQ_SECONDS(1));
    p_thread t;
    p_start(&t, p_new(q, P_OPTIONS(.batch = 1), cancel_wait, &s));
    t_await(&s.started, 20);
    int64_t lease = t_sql("SELECT lease FROM nanoq_tasks");
    t_sql("UPDATE nanoq_tasks SET lease = lease + 1");
    nq_worker_totals c = {0};
    T_WAIT((nq_worker_stats(t.p, &c, sizeof c), c.lease_lost == 1), 15);
    ck_assert_int_eq(t_sql("SELECT lease FROM nanoq_tasks"),
                     lease + 1); /* its successor's row is untouched */
    ck_assert_int_eq(t_state(q, id), NQ_STATE_RUNNING);
    p_stop(&t);
    nq_close(q);
}
END_TEST

/* Of NanoQ: a stopped worker overwrote its successor; and a worker that lives must never lose a task to the
 * clock. */
START_TEST(a_long_task_keeps_its_lease_while_its_worker_lives)
{
    nq *q = t_open(), *other = t_open();
    struct cancel_seen s = {.verdict = NQ_DONE};
    int stolen = 0;
    sem_init(&s.started, 0, 0);
    T_ADD(q, .type = "t", .timeout_us = NQ_SECONDS(7));
    p_thread a, b;
    p_start(&a, p_new(q, P_OPTIONS(.lease_us = NQ_SECONDS(3)), cancel_wait, &s));
    t_await(&s.started, 20);
    p_start(&b, p_new(other, P_OPTIONS(.lease_us = NQ_SECONDS(3)), p_count, &stolen));
    nq_worker_totals c = {0};
    T_WAIT((nq_worker_stats(a.p, &c, sizeof c), c.done == 1), 15);
    ck_assert_int_eq(s.cause, NQ_CAUSE_TIMEOUT);
    ck_assert_int_eq(s.runs, 1);
    p_stop(&a);
    p_stop(&b);
    ck_assert_int_eq(stolen, 0);
    nq_close(q);
    nq_close(other);
}
END_TEST

/* ---- Duties that are held up: here by a log that takes its time, elsewhere by a connection that died ----
 */

struct cancel_held {
    sem_t held, go;
};

static void cancel_hold_duties(enum nq_log_level level, const char *message, void *udata)
{
    struct cancel_held *h = udata;
    (void)level;
    if (!strstr(message, "settings of queues are not heeded"))
        return;
    t_post(&h->held);
    t_await(&h->go, 35);
}

/* A worker that runs a task, and whose duties wait in the log. */
static nq *cancel_start_held(p_thread *t, struct cancel_held *h, struct cancel_seen *s)
{
    nq *q = NULL;
    sem_init(&h->held, 0, 0);
    sem_init(&h->go, 0, 0);
    sem_init(&s->started, 0, 0);
    T_OK(nq_open(&q, t_url,
                 &(nq_options){.size = sizeof(nq_options), .log = cancel_hold_duties, .log_udata = h},
                 &t_last));
    T_ADD(q, .type = "t");
    p_start(t, p_new(q, P_OPTIONS(.lease_us = NQ_SECONDS(3)), cancel_wait, s));
    t_await(&s->started, 20);
    t_sql("INSERT INTO nanoq_queues (name) VALUES ('a//*b')");
    t_await(&h->held, 20);
    return q;
}

/* 30 seconds, the time that a dead connection takes to be noticed, are the default lease too: others took
 * such a worker for dead, and ran its tasks beside it. */
START_TEST(a_worker_whose_duties_are_held_up_lives)
{
    struct cancel_held h;
    struct cancel_seen s = {.verdict = NQ_DONE};
    int stolen = 0;
    p_thread a, b;
    nq *q = cancel_start_held(&a, &h, &s), *other = t_open();
    const int64_t id = t_sql("SELECT id FROM nanoq_workers");
    p_start(&b, p_new(other, P_OPTIONS(.lease_us = NQ_SECONDS(3)), p_count, &stolen));
    /* Each time later than the beat should have been: longer than the lease in all. */
    for (int beats = 0; beats < 4; beats++) {
        const int64_t beat = t_sql("SELECT beat FROM nanoq_workers WHERE id = %lld", (long long)id);
        T_WAIT(t_sql("SELECT COUNT(*) FROM nanoq_workers WHERE id = %lld AND beat <> %lld", (long long)id,
                     (long long)beat) == 1,
               20);
    }
    t_post(&h.go);
    /* The member's own beat: the lock tells of its death again. */
    T_WAIT(t_sql("SELECT COUNT(*) FROM nanoq_workers WHERE id = %lld AND beat < %lld", (long long)id,
                 1LL << 62) == 1,
           20);
    p_stop(&b);
    ck_assert_int_eq(stolen, 0);
    ck_assert_int_eq(s.runs, 1);
    nq_worker_stop(a.p);
    p_stop(&a);
    ck_assert_int_eq(s.cause, NQ_CAUSE_SHUTDOWN);
    nq_close(q);
    nq_close(other);
}
END_TEST

START_TEST(a_worker_hears_that_it_is_dead_though_its_duties_are_held_up)
{
    struct cancel_held h;
    struct cancel_seen s = {.verdict = NQ_DONE};
    p_thread t;
    nq *q = cancel_start_held(&t, &h, &s);
    t_sql("DELETE FROM nanoq_workers");
    nq_worker_totals c = {0};
    T_WAIT((nq_worker_stats(t.p, &c, sizeof c), c.running == 0), 20);
    ck_assert_int_eq(s.cause, NQ_CAUSE_LEASE_LOST);
    t_post(&h.go);
    T_WAIT(t_sql("SELECT COUNT(*) FROM nanoq_workers") == 1, 20); /* it joins anew */
    nq_worker_stop(t.p);
    p_stop(&t);
    nq_close(q);
}
END_TEST

Suite *suite_cancel(void)
{
    Suite *s = suite_create("cancel");
    TCase *c = t_case(s, "cancel", 40);
    tcase_add_test(c, a_timeout_cancels_the_context_and_fails_the_attempt);
    tcase_add_test(c, a_handler_that_finished_all_the_same_is_done);
    tcase_add_test(c, a_lost_lease_cancels_the_handler_and_nothing_it_says_counts);
    tcase_add_test(c, a_fenced_answer_is_counted_as_lost);
    tcase_add_test(c, a_long_task_keeps_its_lease_while_its_worker_lives);
    tcase_add_test(c, a_worker_whose_duties_are_held_up_lives);
    tcase_add_test(c, a_worker_hears_that_it_is_dead_though_its_duties_are_held_up);
    return s;
}
