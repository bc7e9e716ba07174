/* SPDX-License-Identifier: MIT */
/* Attempts that run: cancelled live, from here and from elsewhere, and what they tell of their progress. */
#include "suites.h"

#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>

#include "../../src/worker/worker.h"

/* A handler that waits to be cancelled, or until it is let go, and answers as it is told. */
struct steer_wait {
    sem_t started, go;
    nq_verdict verdict;
    const char *message;
    bool stubborn; /* heeds no cancellation, only `go` */
    atomic_int runs, cause, hooks;
    _Atomic(int64_t) cancelled_at;
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
    atomic_store(&w->cancelled_at, t_mono());
    atomic_store(&w->cause, (int)nq_ctx_cause(ctx));
    return w->message ? nq_fail(ctx, w->verdict, "%s", w->message) : w->verdict;
}

static void steer_hook(const nq_task *task, const char *error, bool final, void *udata)
{
    struct steer_wait *w = udata;
    (void)task, (void)error, (void) final;
    atomic_fetch_add(&w->hooks, 1);
}

static nq *steer_open(const char *option)
{
    nq *q = NULL;
    T_OK(nq_open(&q, t_url_with(option), NULL, &t_last));
    return q;
}

static uint64_t steer_cancelled(const nq_worker *p)
{
    nq_worker_totals c;
    nq_worker_stats(p, &c, sizeof c);
    ck_assert_uint_eq(c.retried + c.dead + c.snoozed + c.released + c.lease_lost, 0);
    return c.cancelled;
}

/* ---- Cancelling ---- */

static const nq_verdict steer_verdicts[] = {NQ_RETRY, NQ_DISCARD, NQ_SNOOZE};

START_TEST(whatever_it_answers_a_cancelled_task_is_cancelled)
{
    struct steer_wait w;
    p_thread t;
    t_task task;
    nq *q = t_open();
    steer_wait_init(&w, steer_verdicts[_i]);
    w.message = _i == 0 ? "at page 7" : NULL;
    nq_id id = T_ADD(q, .type = "t");
    p_start(&t, p_new(q, P_OPTIONS(.on_error = steer_hook, .error_udata = &w), steer_handler, &w));
    t_await(&w.started, 20);
    const int64_t asked = t_mono();
    T_OK(nq_cancel(q, id, &t_last));
    T_WAIT(t_state(q, id) == NQ_STATE_CANCELLED, 20);
    ck_assert_int_lt(w.cancelled_at - asked, NQ_MS(1000) * T_SLOW_FACTOR);
    ck_assert_int_eq(atomic_load(&w.cause), NQ_CAUSE_CANCEL);
    ck_assert_int_eq(t_get(q, id, &task), NQ_OK);
    ck_assert_uint_eq(task.info.attempts, 0);
    ck_assert_uint_eq(task.info.crashes, 0);
    ck_assert(!task.info.cancelling);
    ck_assert_str_eq(task.error, w.message ? w.message : "");
    t_task_free(&task);
    T_FAILS(nq_cancel(q, id, &t_last), NQ_ESTATE);
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_cancels"), 0);
    T_WAIT(steer_cancelled(t.p) == 1, 20);
    p_stop(&t);
    ck_assert_int_eq(atomic_load(&w.hooks), 0);
    ck_assert_int_eq(atomic_load(&w.runs), 1);
    nq_close(q);
}
END_TEST

START_TEST(one_that_succeeds_all_the_same_is_done)
{
    struct steer_wait w;
    p_thread t;
    nq *q = t_open();
    steer_wait_init(&w, NQ_DONE);
    nq_id id = T_ADD(q, .type = "t");
    p_start(&t,
            p_new(q, P_OPTIONS(.keep_done_us = NQ_FOREVER, .lease_us = NQ_SECONDS(3)), steer_handler, &w));
    t_await(&w.started, 20);
    T_OK(nq_cancel(q, id, &t_last));
    T_WAIT(t_state(q, id) == NQ_STATE_DONE, 20);
    ck_assert_int_eq(atomic_load(&w.cause), NQ_CAUSE_CANCEL);
    /* The request is void now, for good: the same task may be run once more. */
    T_OK(nq_retry(q, id, &t_last));
    t_await(&w.started, 20);
    T_WAIT(t_sql("SELECT COUNT(*) FROM nanoq_cancels") == 0, 20); /* swept at a heartbeat */
    nq_worker_stop(t.p);
    nq_worker_stop(t.p);
    ck_assert_int_eq(p_join(&t), NQ_OK);
    ck_assert_int_eq(atomic_load(&w.cause), NQ_CAUSE_SHUTDOWN);
    ck_assert_int_eq(t_state(q, id), NQ_STATE_DONE);
    nq_close(q);
}
END_TEST

START_TEST(one_that_was_claimed_ahead_never_begins)
{
    struct steer_wait w;
    p_thread t;
    nq *q = t_open();
    steer_wait_init(&w, NQ_DONE);
    w.stubborn = true;
    nq_id first = T_ADD(q, .type = "a");
    nq_worker *p = p_new(q, P_OPTIONS(.concurrency = 1), steer_handler, &w);
    p_start(&t, p);
    t_await(&w.started, 20);
    nq_id second = T_ADD(q, .type = "b");
    /* As the fetcher does when handlers are fast; one that is held for a second is given back. */
    nq_claimed *claim = NULL;
    size_t n = 0;
    pthread_mutex_lock(&p->lock);
    const uint64_t lease = NQ_LEASE(p->member, p->seq_max);
    pthread_mutex_unlock(&p->lock);
    claim = t_claim(q, lease, 1, &n);
    ck_assert_uint_eq(n, 1);
    nq_ctx *ctx = nq_ctx_new(p);
    nq_ctx_claimed(ctx, claim, nq_mono_us() + NQ_SECONDS(60));
    pthread_mutex_lock(&p->lock);
    nq_task_list_push(&p->ready, ctx);
    pthread_mutex_unlock(&p->lock);
    T_OK(nq_cancel(q, second, &t_last));
    T_WAIT(t_state(q, second) == NQ_STATE_CANCELLED, 20);
    t_post(&w.go);
    T_WAIT(t_state(q, first) == -1, 20);
    p_stop(&t);
    ck_assert_int_eq(atomic_load(&w.runs), 1);
    nq_close(q);
}
END_TEST

/* ---- From elsewhere ---- */

static void steer_cancels(int fd, void *arg)
{
    nq *q = NULL;
    nq_err err = {0};
    int64_t id;
    if (nq_open(&q, t_url_with(arg), NULL, &err) != NQ_OK)
        _exit(3);
    while ((id = t_hear(fd, 60)) > 0)
        t_tell(fd, nq_cancel(q, id, &err));
    nq_close(q);
}

struct steer_way {
    const char *option, *their_option;
    int64_t within_us;
    bool drains;
};

/* A heartbeat is a third of the lease of 3 s. */
static const struct steer_way steer_ways[] = {
    {"hints=all", "hints=all", NQ_MS(300), false},        {"hints=local", "hints=local", NQ_MS(300), false},
    {"hints=all", "hints=all", NQ_MS(300), true},         {"hints=none", "hints=none", NQ_MS(1600), false},
    {"hints=server", "hints=server", NQ_MS(1600), false}, {"hints=all", "hints=none", NQ_MS(1600), false},
};

START_TEST(another_process_cancels)
{
    const struct steer_way *way = &steer_ways[_i];
    struct steer_wait w;
    t_child child;
    p_thread t;
    int64_t best = INT64_MAX;
    t_fork(&child, steer_cancels, (void *)(uintptr_t)way->their_option);
    nq *q = steer_open(way->option);
    steer_wait_init(&w, NQ_RETRY);
    nq_id id = T_ADD(q, .type = "t");
    p_start(&t,
            p_new(q,
                  P_OPTIONS(.lease_us = NQ_SECONDS(3), .drain = way->drains ? NQ_DRAIN_DUE : NQ_DRAIN_NEVER),
                  steer_handler, &w));
    for (int i = 0; i < (way->drains ? 1 : 2); i++) {
        if (i)
            id = T_ADD(q, .type = "t");
        t_await(&w.started, 20);
        const int64_t asked = t_mono();
        t_tell(child.fd, id);
        ck_assert_int_eq(t_hear(child.fd, 20), NQ_OK);
        T_WAIT(atomic_load(&w.cause) == NQ_CAUSE_CANCEL, 20);
        best = w.cancelled_at - asked < best ? w.cancelled_at - asked : best;
        T_WAIT(t_state(q, id) == NQ_STATE_CANCELLED, 20);
        atomic_store(&w.cause, 0);
    }
    ck_assert_msg(best < way->within_us * T_SLOW_FACTOR, "it took %lld us", (long long)best);
    p_stop(&t);
    t_tell(child.fd, 0);
    ck_assert_int_eq(t_reap(&child), 0);
    nq_close(q);
}
END_TEST

/* ---- Whatever comes between ---- */

static void steer_dies(int fd, void *arg)
{
    struct steer_wait *w = arg;
    p_thread t;
    steer_wait_init(w, NQ_RETRY);
    w->stubborn = true;
    nq *q = steer_open("hints=none");
    p_start(&t, p_new(q, NULL, steer_handler, w));
    t_await(&w->started, 20);
    t_tell(fd, 1);
    t_await(&w->go, 60);
}

START_TEST(a_reclaimed_task_is_cancelled_and_not_retried)
{
    struct steer_wait theirs, w;
    t_child child;
    t_task task;
    p_thread t;
    nq *q = NULL;
    t_fork(&child, steer_dies, &theirs);
    q = t_open();
    nq_id id = T_ADD(q, .type = "t");
    t_hear(child.fd, 30);
    T_OK(nq_cancel(q, id, &t_last));
    ck_assert_int_eq(t_get(q, id, &task), NQ_OK);
    ck_assert(task.info.cancelling);
    t_task_free(&task);
    t_kill(&child, SIGKILL);
    steer_wait_init(&w, NQ_DONE);
    p_start(&t, p_new(q, P_OPTIONS(.lease_us = P_DYING_LEASE, .on_error = steer_hook, .error_udata = &w),
                      steer_handler, &w));
    T_WAIT(t_state(q, id) == NQ_STATE_CANCELLED, 30);
    p_stop(&t);
    ck_assert_int_eq(t_get(q, id, &task), NQ_OK);
    ck_assert_uint_eq(task.info.attempts, 0);
    ck_assert_ptr_nonnull(strstr(task.error, "worker died"));
    t_task_free(&task);
    ck_assert_int_eq(atomic_load(&w.runs), 0);
    ck_assert_int_eq(atomic_load(&w.hooks), 0);
    nq_close(q);
}
END_TEST

/* The worker never hears of the request: another one's hints do not reach it, and it stops before its next
 * heartbeat. */
START_TEST(a_release_at_a_shutdown_is_a_cancellation)
{
    static struct steer_wait w; /* the handler may outlive this function */
    p_thread t;
    nq *q = steer_open("hints=none"), *other = steer_open("hints=none");
    steer_wait_init(&w, NQ_RETRY);
    w.stubborn = true;
    nq_id id = T_ADD(q, .type = "t");
    p_start(&t, p_new(q, P_OPTIONS(.cancel_grace_us = NQ_SECONDS(1)), steer_handler, &w));
    t_await(&w.started, 20);
    T_OK(nq_cancel(other, id, &t_last));
    nq_worker_stop(t.p);
    nq_worker_stop(t.p);
    if (_i) { /* it ends after all, cancelled by the shutdown; else it is stuck and released by force */
        t_post(&w.go);
        ck_assert_int_eq(p_join(&t), NQ_OK);
    } else {
        ck_assert_int_eq(p_join(&t), NQ_ESTUCK);
    }
    ck_assert_int_eq(t_state(q, id), NQ_STATE_CANCELLED);
    t_post(&w.go);
    nq_close(other);
    nq_close(q);
}
END_TEST

#define STEER_RACES 1000

struct steer_race {
    atomic_int runs[STEER_RACES]; /* of each task */
    atomic_int now;               /* one that runs, + 1 */
};

/* Answers by the task's number, which is its payload, so that each way to end races. */
static nq_verdict steer_race_handler(nq_ctx *ctx, const nq_task *task, void *udata)
{
    static const nq_verdict verdicts[] = {NQ_DONE, NQ_RETRY, NQ_SNOOZE, NQ_DISCARD};
    struct steer_race *r = udata;
    int number;
    memcpy(&number, task->payload, sizeof number);
    atomic_fetch_add(&r->runs[number], 1);
    atomic_store(&r->now, number + 1);
    for (int i = 0; i < 20; i++)
        sched_yield();
    nq_ctx_set_delay(ctx, 0);
    return verdicts[number % 4];
}

static int steer_generation(const nq_info *info, void *udata)
{
    *(unsigned *)udata = info->generation;
    return 0;
}

/* What a task was at when its cancellation was acknowledged, and whether it was. */
struct steer_raced {
    nq_id id;
    bool asked;
    unsigned generation; /* 0: gone already */
};

static void steer_race_check(nq *q, const struct steer_raced *t, int number, int runs)
{
    const int kind = number % 4, state = t_state(q, t->id);
    unsigned generation = 0;
    if (!t->asked)
        ck_assert_int_eq(state, kind == 0 ? NQ_STATE_DONE : NQ_STATE_DEAD);
    else
        ck_assert_msg(state == NQ_STATE_CANCELLED || (kind == 0 && state == NQ_STATE_DONE), "kind %d is %s",
                      kind, nq_state_name(state));
    T_OK(nq_get(q, t->id, steer_generation, &generation, &t_last));
    ck_assert_int_le(runs, (int)generation);
    if (t->asked)
        ck_assert_uint_eq(generation, t->generation); /* not claimed again */
}

/* Each task is in the end what it may be, and none was claimed after its cancellation was acknowledged. Those
 * that fail or snooze go round and round until they are cancelled. */
START_TEST(cancelling_races_with_every_end)
{
    enum { N = STEER_RACES };
    static struct steer_race r;
    static struct steer_raced raced[N];
    static int numbers[N];
    nq_task_spec *specs = calloc(N, sizeof *specs);
    nq_id *ids = calloc(N, sizeof *ids);
    nq_worker_totals c;
    p_thread t;
    uint64_t seed = t_seed();
    nq *q = t_open(), *other = t_open();
    for (int i = 0; i < N; i++) {
        numbers[i] = i;
        specs[i] = *NQ_TASK(.type = "t", .payload = &numbers[i], .payload_size = sizeof numbers[i],
                            .unique = NQ_UNIQUE_NONE, .max_retries = 1000);
    }
    T_OK(nq_enqueue_many(q, NQ_OWN_TX, specs, N, ids, NULL, &t_last));
    nq_worker *p =
        p_new(q, P_OPTIONS(.keep_done_us = NQ_FOREVER, .concurrency = 4, .batch = 8), steer_race_handler, &r);
    p_start(&t, p);
    for (int next = 0; next < N;) {
        /* Mostly one that has just begun. */
        int i = t_rand(&seed) % 4 ? atomic_exchange(&r.now, 0) - 1 : next;
        if (t_rand(&seed) % 2 == 0)
            nq_sleep_us((int64_t)(t_rand(&seed) % 500));
        if (i < 0 || raced[i].id)
            i = next;
        while (next < N && (raced[next].id || next == i))
            next++;
        if (raced[i].id)
            continue;
        const int rc = nq_cancel(other, ids[i], &t_last);
        ck_assert_msg(rc == NQ_OK || rc == NQ_ESTATE, "%s: %s", nq_code_name(rc), t_last.message);
        raced[i] = (struct steer_raced){.id = ids[i], .asked = rc == NQ_OK};
        T_OK(nq_get(other, ids[i], steer_generation, &raced[i].generation, &t_last));
    }
    T_WAIT(t_sql("SELECT COUNT(*) FROM nanoq_tasks") == 0, 30);
    T_WAIT((nq_worker_stats(p, &c, sizeof c),
            c.claimed == c.done + c.retried + c.snoozed + c.dead + c.released + c.cancelled),
           20);
    printf("%llu of %d cancelled while they ran\n", (unsigned long long)c.cancelled, N);
    ck_assert_uint_eq(c.lease_lost, 0);
    p_stop(&t);
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_finished"), N);
    for (int i = 0; i < N; i++)
        steer_race_check(q, &raced[i], i, atomic_load(&r.runs[i]));
    free(ids);
    free(specs);
    nq_close(other);
    nq_close(q);
}
END_TEST

/* ---- Progress ---- */

struct steer_tell {
    sem_t told, next;
};

static const char steer_long[] = "\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4";

static nq_verdict steer_teller(nq_ctx *ctx, const nq_task *task, void *udata)
{
    struct steer_tell *s = udata;
    char note[400] = "";
    if (task->attempt > 1)
        return NQ_DONE;
    for (int64_t i = 0; i < 100000; i++)
        nq_ctx_progress(ctx, i, 100000, "counting");
    nq_ctx_progress(ctx, 40, 100, "a \x1b[31m note");
    t_post(&s->told);
    t_await(&s->next, 60);
    for (int i = 0; i < 20; i++)
        strcat(note, steer_long); /* characters of two bytes, 320 */
    nq_ctx_progress(ctx, -5, 0, note);
    t_post(&s->told);
    t_await(&s->next, 60);
    nq_ctx_set_delay(ctx, NQ_HOURS(1));
    return NQ_RETRY;
}

struct steer_seen {
    int64_t done, total, at;
    char note[NQ_MAX_NOTE + 1];
};

static int steer_see(const nq_info *info, void *udata)
{
    struct steer_seen *s = udata;
    s->done = info->progress_done;
    s->total = info->progress_total;
    s->at = info->progress_at_us;
    snprintf(s->note, sizeof s->note, "%s", info->progress_note);
    return 0;
}

static struct steer_seen steer_look(nq *q, nq_id id)
{
    struct steer_seen s = {0};
    T_OK(nq_get(q, id, steer_see, &s, &t_last));
    return s;
}

START_TEST(progress_is_seen_while_it_runs_and_gone_after)
{
    struct steer_tell s;
    struct steer_seen seen;
    p_thread t;
    nq *q = t_open();
    sem_init(&s.told, 0, 0);
    sem_init(&s.next, 0, 0);
    nq_id id = T_ADD(q, .type = "t", .timeout_us = NQ_MINUTES(5));
    const int64_t before = t_now(q);
    p_start(&t, p_new(q, P_OPTIONS(.concurrency = 2), steer_teller, &s));
    t_await(&s.told, 30);
    T_WAIT((seen = steer_look(q, id), seen.done == 40), 20);
    ck_assert_int_eq(seen.total, 100);
    ck_assert_str_eq(seen.note, "a \x1b[31m note");
    ck_assert_int_ge(seen.at, before);
    T_OK(nq_list(
        q, &(nq_list_options){.size = sizeof(nq_list_options), .states = NQ_STATE_BIT(NQ_STATE_RUNNING)},
        steer_see, &seen, &t_last));
    ck_assert_int_eq(seen.done, 40);
    ck_assert_int_le(t_sql("SELECT COUNT(*) FROM nanoq_progress"), 1);
    t_post(&s.next);
    t_await(&s.told, 30);
    T_WAIT((seen = steer_look(q, id), seen.total == 0), 20);
    ck_assert_int_eq(seen.done, 0);
    ck_assert_uint_eq(strlen(seen.note), NQ_MAX_NOTE - 1); /* no half character */
    t_post(&s.next);
    T_WAIT(t_state(q, id) == NQ_STATE_WAITING, 20);
    seen = steer_look(q, id); /* at once, whether its row is there or not */
    ck_assert_int_eq(seen.at, 0);
    ck_assert_str_eq(seen.note, "");
    T_WAIT(t_sql("SELECT COUNT(*) FROM nanoq_progress") == 0, 20);
    p_stop(&t);
    nq_close(q);
}
END_TEST

Suite *suite_steer(void)
{
    Suite *s = suite_create("steer");
    TCase *c = t_case(s, "cancel", 60);
    tcase_add_loop_test(c, whatever_it_answers_a_cancelled_task_is_cancelled, 0, 3);
    tcase_add_test(c, one_that_succeeds_all_the_same_is_done);
    tcase_add_test(c, one_that_was_claimed_ahead_never_begins);
    tcase_add_loop_test(c, another_process_cancels, 0, (int)(sizeof steer_ways / sizeof *steer_ways));
    tcase_add_test(c, a_reclaimed_task_is_cancelled_and_not_retried);
    tcase_add_loop_test(c, a_release_at_a_shutdown_is_a_cancellation, 0, 2);
    tcase_add_test(c, cancelling_races_with_every_end);
    c = t_case(s, "progress", 60);
    tcase_add_test(c, progress_is_seen_while_it_runs_and_gone_after);
    return s;
}
