/* SPDX-License-Identifier: MIT */
/* Death of a worker's process: its tasks run again, a crash is an attempt, and a killer task ends dead. */
#include "suites.h"
#include <poll.h>

#include <signal.h>
#include <sys/wait.h>

struct crash_plan {
    const char *type; /* of the task that is waited for, or kills */
    int fd;
    bool kills;
    unsigned concurrency;
};

static nq_verdict crash_handler(nq_ctx *ctx, const nq_task *task, void *udata)
{
    struct crash_plan *plan = udata;
    (void)ctx;
    if (strcmp(task->type, plan->type) != 0)
        return NQ_DONE;
    t_tell(plan->fd, task->id);
    if (plan->kills)
        kill(getpid(), SIGKILL);
    for (;;)
        pause(); /* until somebody kills us */
}

/* The default lease is long enough to show that a lock told of the death; where there are none it has to run
 * out. */
#define CRASH_OPTIONS(...) P_OPTIONS(.lease_us = P_DYING_LEASE, __VA_ARGS__)

/* Short, and the same for all: those that were claimed beside a killer come back with it, unless something
 * else parts them. */
static int64_t crash_soon(unsigned attempt, const nq_task *task, void *udata)
{
    (void)attempt, (void)task, (void)udata;
    return NQ_MS(20);
}

static void crash_worker(int fd, void *arg)
{
    struct crash_plan *plan = arg;
    plan->fd = fd;
    nq *q = t_open();
    nq_worker *p = p_new(q, CRASH_OPTIONS(.concurrency = plan->concurrency, .retry_policy = crash_soon),
                         crash_handler, plan);
    nq_err err;
    nq_worker_run(p, &err);
}

struct crash_hook {
    int calls, finals;
    char error[200];
};

static void crash_on_error(const nq_task *task, const char *error, bool final, void *udata)
{
    struct crash_hook *h = udata;
    (void)task;
    __atomic_add_fetch(&h->calls, 1, __ATOMIC_SEQ_CST);
    __atomic_add_fetch(&h->finals, final, __ATOMIC_SEQ_CST);
    snprintf(h->error, sizeof h->error, "%s", error);
}

static void crash_fill(int n, const char *type, int max_retries)
{
    nq *q = t_open();
    for (int i = 0; i < n; i++)
        T_ADD(q, .type = type, .unique = NQ_UNIQUE_NONE, .max_retries = max_retries);
    nq_close(q);
}

START_TEST(kill_9_of_a_worker_loses_nothing_and_its_tasks_run_again_soon)
{
    crash_fill(30, "t", 10);
    struct crash_plan plan = {.type = "t", .concurrency = 5};
    t_child child;
    t_fork(&child, crash_worker, &plan);
    for (int i = 0; i < 5; i++)
        t_hear(child.fd, 20);
    t_kill(&child, SIGKILL);
    int64_t start = t_mono();
    nq *q = t_open();
    int n = 0;
    struct crash_hook hook = {0};
    p_thread t;
    p_start(&t,
            p_new(q,
                  CRASH_OPTIONS(.on_error = crash_on_error, .error_udata = &hook, .retry_policy = crash_soon),
                  p_count, &n));
    T_WAIT(t_sql("SELECT COUNT(*) FROM nanoq_tasks") == 0, 30);
    int64_t took = t_mono() - start;
    p_stop(&t);
    ck_assert_int_eq(n, 30);
    ck_assert_int_lt(took, NQ_SECONDS(10) * T_SLOW_FACTOR); /* far below the lease of 30 s */
    ck_assert_int_ge(p_load(&hook.calls), 5);               /* each crash is reported */
    ck_assert_int_eq(hook.finals, 0);
    ck_assert_ptr_nonnull(strstr(hook.error, "died"));
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_finished"), 0);
    nq_close(q);
}
END_TEST

static nq_verdict crash_look(nq_ctx *ctx, const nq_task *task, void *udata)
{
    (void)ctx;
    nq_task *seen = udata;
    *seen = *task;
    ck_assert_ptr_nonnull(task->last_error);
    return NQ_DONE;
}

START_TEST(a_crash_consumes_an_attempt)
{
    crash_fill(1, "t", 10);
    struct crash_plan plan = {.type = "t", .concurrency = 1};
    t_child child;
    t_fork(&child, crash_worker, &plan);
    t_hear(child.fd, 20);
    const pid_t dead = child.pid;
    t_kill(&child, SIGKILL);
    nq *q = t_open();
    nq_task seen = {0};
    p_thread t;
    p_start(&t, p_new(q, CRASH_OPTIONS(.concurrency = 0), crash_look, &seen));
    T_WAIT(t_sql("SELECT COUNT(*) FROM nanoq_tasks") == 0, 30);
    p_stop(&t);
    ck_assert_uint_eq(seen.attempt, 2);
    ck_assert_uint_eq(seen.crashes, 1);
    ck_assert_uint_eq(seen.generation, 2);
    /* It says who died, though its row had gone by then. */
    char *who = t_text(t_side(), "SELECT worker FROM nanoq_attempts WHERE outcome = 3");
    char pid[32];
    snprintf(pid, sizeof pid, ":%d", (int)dead);
    ck_assert_ptr_nonnull(who);
    ck_assert_ptr_nonnull(strstr(who, pid));
    free(who);
    nq_close(q);
}
END_TEST

static nq_verdict crash_discard(nq_ctx *ctx, const nq_task *task, void *udata)
{
    const struct crash_plan *plan = udata;
    (void)ctx;
    if (plan)
        t_tell(plan->fd, task->id);
    return NQ_DISCARD;
}

static void crash_discarder(int fd, void *arg)
{
    struct crash_plan *plan = arg;
    plan->fd = fd;
    nq *q = t_open();
    nq_err err;
    nq_worker_run(p_new(q, CRASH_OPTIONS(.concurrency = 4, .retry_policy = crash_soon), crash_discard, plan),
                  &err);
}

/* Workers are killed while their tasks die. */
START_TEST(each_death_leaves_one_letter_whoever_is_killed)
{
    static const int after[] = {3, 40, 80};
    struct crash_plan plan = {.type = "t"};
    t_child child;
    crash_fill(200, "t", 10);
    t_sql("INSERT INTO nanoq_queues (name, dead_to) VALUES ('default', 'dead')");
    for (size_t i = 0; i < sizeof after / sizeof *after; i++) {
        t_fork(&child, crash_discarder, &plan);
        for (int k = 0; k < after[i]; k++)
            t_hear(child.fd, 20);
        t_kill(&child, SIGKILL);
    }
    nq *q = t_open();
    p_thread t;
    p_start(&t, p_new(q, CRASH_OPTIONS(.retry_policy = crash_soon), crash_discard, NULL));
    T_WAIT(t_sql("SELECT COUNT(*) FROM nanoq_tasks WHERE queue = 'default'") == 0, 30);
    p_stop(&t);
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_finished WHERE state = 3"), 200);
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_tasks WHERE queue = 'dead'"), 200);
    ck_assert_int_eq(t_sql("SELECT COUNT(DISTINCT headers) FROM nanoq_tasks"), 200);
    nq_close(q);
}
END_TEST

/* Of NanoQ: a crash is no attempt there, so a task that kills its worker runs for ever. */
START_TEST(a_task_that_kills_its_worker_is_dead_after_max_crashes)
{
    crash_fill(1, "killer", 10);
    crash_fill(12, "innocent", 10);
    struct crash_plan plan = {.type = "killer", .kills = true, .concurrency = 2};
    t_child child;
    int deaths = 0;
    for (bool dead = false; !dead && deaths < 12; deaths++) {
        t_fork(&child, crash_worker, &plan);
        /* It ends by its own hand, or lives on once the killer is dead. */
        int64_t until = t_mono() + NQ_SECONDS(25) * T_SLOW_FACTOR;
        int status = 0;
        while (waitpid(child.pid, &status, WNOHANG) == 0) {
            ck_assert_int_lt(t_mono(), until);
            dead = t_sql("SELECT COUNT(*) FROM nanoq_finished WHERE type = 'killer' AND state = 3") == 1;
            if (dead)
                break;
            t_pause_ms(10);
        }
        if (dead) {
            T_WAIT(t_sql("SELECT COUNT(*) FROM nanoq_tasks WHERE type = 'innocent'") == 0, 20);
            t_kill(&child, SIGKILL);
        } else {
            close(child.fd);
        }
    }
    ck_assert_int_le(deaths, 6);
    ck_assert_int_eq(t_sql("SELECT crashes FROM nanoq_finished WHERE type = 'killer'"), 4); /* more than 3 */
    ck_assert_int_eq(t_sql("SELECT attempts FROM nanoq_finished WHERE type = 'killer'"), 4);
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_finished WHERE type = 'innocent'"), 0);
    char *error = t_text(t_side(), "SELECT error FROM nanoq_finished WHERE type = 'killer'");
    ck_assert_ptr_nonnull(strstr(error, "worker died"));
    free(error);
}
END_TEST

START_TEST(a_task_out_of_attempts_is_dead_at_its_first_crash)
{
    crash_fill(1, "t", NQ_ZERO);
    struct crash_plan plan = {.type = "t", .concurrency = 1};
    t_child child;
    t_fork(&child, crash_worker, &plan);
    nq_id id = t_hear(child.fd, 20);
    t_kill(&child, SIGKILL);
    nq *q = t_open();
    int n = 0;
    struct crash_hook hook = {0};
    p_thread t;
    p_start(&t, p_new(q, CRASH_OPTIONS(.on_error = crash_on_error, .error_udata = &hook), p_count, &n));
    T_WAIT(t_state(q, id) == NQ_STATE_DEAD, 30);
    T_WAIT(p_load(&hook.finals) == 1, 10);
    p_stop(&t);
    ck_assert_int_eq(n, 0);
    nq_close(q);
}
END_TEST

/* DESIGN's worst case: a worker that is stopped past its lease, replaced, and then wakes. */
START_TEST(a_stopped_worker_that_wakes_changes_nothing)
{
    crash_fill(1, "t", 10);
    nq *setup = t_open();
    t_sql("UPDATE nanoq_tasks SET timeout_ms = 3600000");
    nq_close(setup);
    struct crash_plan plan = {.type = "t", .concurrency = 1};
    t_child child;
    t_fork(&child, crash_worker, &plan);
    nq_id id = t_hear(child.fd, 20);
    t_stop(&child);
    nq *q = t_open();
    int n = 0;
    p_thread t;
    p_start(&t, p_new(q, P_OPTIONS(.lease_us = NQ_SECONDS(3)), p_count, &n));
    T_WAIT(p_load(&n) == 1, 30);
    T_WAIT(t_state(q, id) == -1, 10);
    int64_t members = t_sql("SELECT MAX(id) FROM nanoq_workers");
    kill(child.pid, SIGCONT);
    /* It learns of its death at its next beat and joins anew; the task stays done. */
    T_WAIT(t_sql("SELECT MAX(id) FROM nanoq_workers") > members, 25);
    ck_assert_int_eq(t_state(q, id), -1);
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_finished"), 0);
    t_kill(&child, SIGKILL);
    p_stop(&t);
    ck_assert_int_eq(n, 1);
    nq_close(q);
}
END_TEST

START_TEST(orphans_of_long_ago_are_found_at_the_start)
{
    nq *q = t_open();
    nq_id id = T_ADD(q, .type = "t");
    t_free_claimed(t_claim_one(q, NQ_LEASE(999, 5))); /* a worker that has no row */
    nq_task seen = {0};
    p_thread t;
    p_start(&t, p_new(q, CRASH_OPTIONS(.concurrency = 0), crash_look, &seen));
    T_WAIT(t_state(q, id) == -1, 15);
    p_stop(&t);
    ck_assert_uint_eq(seen.crashes, 1);
    nq_close(q);
}
END_TEST

/* How many were told of. */
static void crash_heard(enum nq_log_level level, const char *message, void *udata)
{
    (void)level;
    if (strstr(message, "of a dead worker found"))
        __atomic_add_fetch((int *)udata, (int)strtol(message, NULL, 10), __ATOMIC_SEQ_CST);
}

/* Several workers find the same ones, again and again while somebody holds them: whoever ends them says so.
 */
START_TEST(an_orphan_that_somebody_holds_is_told_of_once)
{
    int told = 0;
    nq *q = NULL;
    T_OK(nq_open(&q, t_url, &(nq_options){.size = sizeof(nq_options), .log = crash_heard, .log_udata = &told},
                 &t_last));
    const nq_id held = T_ADD(q, .type = "t", NQ_BYTES("held")), other = T_ADD(q, .type = "t");
    size_t n = 0;
    t_free_claimed(t_claim(q, NQ_LEASE(999, 5), 2, &n));
    ck_assert_uint_eq(n, 2);
    t_conn *holder = t_connect();
    t_begin(holder);
    t_run(holder, "SELECT id FROM nanoq_tasks WHERE id = %lld FOR UPDATE", (long long)held);
    nq_task seen = {0};
    p_thread t;
    p_start(&t, p_new(q, CRASH_OPTIONS(.concurrency = 0), crash_look, &seen));
    T_WAIT(t_state(q, other) == -1, 15);
    ck_assert_int_eq(__atomic_load_n(&told, __ATOMIC_SEQ_CST), 1);
    t_run(holder, "COMMIT");
    T_WAIT(t_state(q, held) == -1, 15);
    p_stop(&t);
    ck_assert_int_eq(told, 2);
    t_disconnect(holder);
    nq_close(q);
}
END_TEST

struct crash_back {
    sem_t started, go;
    int runs;
};

static nq_verdict crash_back_handler(nq_ctx *ctx, const nq_task *task, void *udata)
{
    struct crash_back *b = udata;
    (void)ctx;
    if (strcmp(task->type, "long") == 0) {
        t_post(&b->started);
        t_await(&b->go, 50);
    }
    __atomic_add_fetch(&b->runs, 1, __ATOMIC_SEQ_CST);
    return NQ_DONE;
}

/* A restore brought back a running task whose worker lives on, and has done it since. Nobody took it. */
START_TEST(a_task_that_the_database_has_back_runs_again)
{
    nq *q = t_open();
    struct crash_back b = {.runs = 0};
    p_thread t;
    sem_init(&b.started, 0, 0);
    sem_init(&b.go, 0, 0);
    T_ADD(q, .type = "long");
    p_start(&t, p_new(q, P_OPTIONS(.lease_us = NQ_SECONDS(3)), crash_back_handler, &b));
    t_await(&b.started, 20);
    const long long lease = t_sql("SELECT lease FROM nanoq_tasks"),
                    worker = t_sql("SELECT id FROM nanoq_workers");
    const nq_id back = T_ADD(q, .type = "t");
    T_WAIT(t_state(q, back) == -1, 20);
    t_sql("INSERT INTO nanoq_tasks (id, type, state, lease, generation) VALUES (%lld, 't', 1, %lld, 1)",
          (long long)back, lease - 1);
    for (int k = 0; k < 120; k++) /* more than are looked at at a time, and an orphan behind them */
        t_sql("INSERT INTO nanoq_tasks (type, payload, state, lease, generation) VALUES ('t', '%d', 1, %lld, "
              "1)",
              k, lease - 1);
    t_sql("INSERT INTO nanoq_tasks (type, queue, payload, state, lease, generation) VALUES ('t', 'zebra', "
          "'z', 1, 77, 1)");
    T_WAIT(t_sql("SELECT COUNT(*) FROM nanoq_tasks WHERE queue = 'zebra' AND state = 1") == 0, 30);
    /* What it holds is finished under the lease that it has. */
    T_WAIT(t_sql("SELECT MAX(beat) FROM nanoq_workers") > 8, 30); /* by the second: some passes */
    ck_assert_int_eq(t_sql("SELECT id FROM nanoq_workers"), worker);
    t_post(&b.go);
    T_WAIT(p_load(&b.runs) == 123, 30);
    T_WAIT(t_sql("SELECT COUNT(*) FROM nanoq_tasks WHERE queue <> 'zebra'") == 0, 20);
    ck_assert_int_gt(t_sql("SELECT id FROM nanoq_workers"), worker);
    nq_worker_totals c = {0};
    nq_worker_stats(t.p, &c, sizeof c);
    ck_assert_uint_eq(c.lease_lost, 0);
    p_stop(&t);
    nq_close(q);
}
END_TEST

struct crash_slow {
    sem_t started, go, held, on; /* go: of the first task; on: of its outcome */
    int runs;
};

static nq_verdict crash_slow_handler(nq_ctx *ctx, const nq_task *task, void *udata)
{
    struct crash_slow *s = udata;
    if (strcmp(task->type, "t") != 0)
        t_post(&s->started);
    if (strcmp(task->type, "first") == 0)
        t_await(&s->go, 50);
    struct pollfd end = {.fd = nq_ctx_fd(ctx), .events = POLLIN};
    if (strcmp(task->type, "long") == 0)
        poll(&end, 1, 100000);
    __atomic_add_fetch(&s->runs, 1, __ATOMIC_SEQ_CST);
    return NQ_DONE;
}

static void crash_hold_outcome(enum nq_log_level level, const char *message, void *udata)
{
    struct crash_slow *s = udata;
    if (level != NQ_LOG_WARN || !strstr(message, "recording outcomes: "))
        return;
    t_post(&s->held);
    t_await(&s->on, 50);
}

/* An outcome that takes long to be recorded is no task that came back: claims go on beside a long task. */
START_TEST(an_outcome_that_takes_long_stops_no_claims)
{
    nq *q = NULL;
    struct crash_slow s = {.runs = 0};
    const nq_options opts = {.size = sizeof opts, .log = crash_hold_outcome, .log_udata = &s};
    p_thread t;
    sem_init(&s.started, 0, 0);
    sem_init(&s.go, 0, 0);
    sem_init(&s.held, 0, 0);
    sem_init(&s.on, 0, 0);
    T_OK(nq_open(&q, t_url, &opts, &t_last));
    T_ADD(q, .type = "first");
    p_start(&t, p_new(q, P_OPTIONS(.lease_us = NQ_SECONDS(3)), crash_slow_handler, &s));
    t_await(&s.started, 20);
    T_ADD(q, .type = "long");
    t_await(&s.started, 20);
    t_sql(T_SQLITE ? "CREATE TRIGGER no BEFORE DELETE ON nanoq_tasks BEGIN SELECT RAISE(ABORT, 'no'); END"
                   : "CREATE TRIGGER no BEFORE DELETE ON nanoq_tasks FOR EACH ROW SIGNAL SQLSTATE '45000'");
    t_post(&s.go);
    t_await(&s.held, 20);
    const long long beat = t_sql("SELECT MAX(beat) FROM nanoq_workers");
    T_WAIT(t_sql("SELECT MAX(beat) FROM nanoq_workers") > beat + 9, 30); /* by the second: some passes */
    t_sql("DROP TRIGGER no");
    t_post(&s.on);
    T_ADD(q, .type = "t");
    T_WAIT(p_load(&s.runs) == 2, 20);
    T_WAIT(t_sql("SELECT COUNT(*) FROM nanoq_tasks") == 1, 20);
    nq_worker_stop(t.p);
    nq_worker_stop(t.p);
    p_stop(&t);
    nq_close(q);
}
END_TEST

Suite *suite_crash(void)
{
    Suite *s = suite_create("crash");
    TCase *c = t_case(s, "crash", 60);
    tcase_add_test(c, kill_9_of_a_worker_loses_nothing_and_its_tasks_run_again_soon);
    tcase_add_test(c, each_death_leaves_one_letter_whoever_is_killed);
    tcase_add_test(c, a_crash_consumes_an_attempt);
    tcase_add_test(c, a_task_that_kills_its_worker_is_dead_after_max_crashes);
    tcase_add_test(c, a_task_out_of_attempts_is_dead_at_its_first_crash);
    tcase_add_test(c, orphans_of_long_ago_are_found_at_the_start);
    if (!T_SQLITE)
        tcase_add_test(c, an_orphan_that_somebody_holds_is_told_of_once);
    tcase_add_test(c, a_task_that_the_database_has_back_runs_again);
    tcase_add_test(c, an_outcome_that_takes_long_stops_no_claims);
    c = t_case(s, "stopped", 60);
    tcase_add_test(c, a_stopped_worker_that_wakes_changes_nothing);
    return s;
}
