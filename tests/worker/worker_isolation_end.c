/* SPDX-License-Identifier: MIT */
/* Children when something else ends: the attempt, the worker, the process, the zygote. */
#include "suites.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>

/* What children tell the test. */
struct seen {
    pid_t child, grandchild, escaped, zygote;
    int begun, told, ended;
};

static bool is_gone(pid_t pid)
{
    char path[64], line[256], state = 'X';
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    FILE *f = fopen(path, "r");
    if (!f)
        return true;
    if (fgets(line, sizeof line, f) && strrchr(line, ')'))
        state = strrchr(line, ')')[2];
    fclose(f);
    return state == 'Z'; /* as good as: its new parent may be slow */
}

/* ---- Cancellation ---- */

/* Waits for its cancellation, as a handler should. */
static nq_verdict obey(nq_ctx *ctx, const nq_task *task, void *udata)
{
    struct seen *s = udata;
    struct pollfd fd = {nq_ctx_fd(ctx), POLLIN, 0};
    (void)task;
    __atomic_add_fetch(&s->begun, 1, __ATOMIC_SEQ_CST);
    while (poll(&fd, 1, 20000) < 0 && errno == EINTR)
        ;
    __atomic_store_n(&s->told, (int)nq_ctx_cause(ctx), __ATOMIC_SEQ_CST);
    return nq_fail(ctx, NQ_RETRY, "cause %d", (int)nq_ctx_cause(ctx));
}

START_TEST(a_child_is_told_of_its_timeout_and_may_answer)
{
    struct seen *s = p_shared(sizeof *s);
    nq *q = t_open();
    nq_worker *p = p_new(q, P_OPTIONS(.concurrency = 2, .drain = NQ_DRAIN_DUE), NULL, NULL);
    T_OK(nq_worker_handle(p, "t", obey, s, P_ISOLATED(.nice = 1), &t_last));
    T_OK(nq_worker_fork(p, &t_last));
    nq_id id = T_ADD(q, .type = "t", .timeout_us = NQ_SECONDS(1));
    p_run(p);
    ck_assert_int_eq(s->told, NQ_CAUSE_TIMEOUT);
    t_task t;
    ck_assert_int_eq(t_get(q, id, &t), NQ_OK);
    ck_assert_str_eq(t.error, "cause 1");
    ck_assert_uint_eq(t.info.attempts, 1);
    ck_assert_uint_eq(t.info.crashes, 0);
    t_task_free(&t);
    nq_close(q);
}
END_TEST

START_TEST(nq_cancel_reaches_a_child)
{
    struct seen *s = p_shared(sizeof *s);
    nq *q = t_open();
    nq_worker *p = p_new(q, P_OPTIONS(.concurrency = 1), NULL, NULL);
    T_OK(nq_worker_handle(p, "t", obey, s, P_ISOLATED(.nice = 1), &t_last));
    T_OK(nq_worker_fork(p, &t_last));
    nq_id id = T_ADD(q, .type = "t");
    p_thread t;
    p_start(&t, p);
    T_WAIT(p_load(&s->begun) == 1, 10);
    T_OK(nq_cancel(q, id, &t_last));
    T_WAIT(t_state(q, id) == NQ_STATE_CANCELLED, 10);
    ck_assert_int_eq(s->told, NQ_CAUSE_CANCEL);
    p_stop(&t);
    nq_close(q);
}
END_TEST

/* Deaf, with a process of its own in its group and one that left it. */
static nq_verdict deaf(nq_ctx *ctx, const nq_task *task, void *udata)
{
    struct seen *s = udata;
    (void)ctx, (void)task;
    signal(SIGTERM, SIG_IGN);
    __atomic_store_n(&s->child, getpid(), __ATOMIC_SEQ_CST);
    const pid_t pid = fork();
    if (pid == 0) {
        if (fork() == 0) {
            setsid();
            __atomic_store_n(&s->escaped, getpid(), __ATOMIC_SEQ_CST);
        } else {
            __atomic_store_n(&s->grandchild, getpid(), __ATOMIC_SEQ_CST);
        }
        for (;;)
            pause();
    }
    while (__atomic_load_n(&s->grandchild, __ATOMIC_SEQ_CST) == 0 ||
           __atomic_load_n(&s->escaped, __ATOMIC_SEQ_CST) == 0)
        t_pause_ms(1);
    __atomic_add_fetch(&s->begun, 1, __ATOMIC_SEQ_CST);
    for (int i = 0; i < 30000; i++)
        t_pause_ms(1);
    return NQ_DONE;
}

/* Starts a process that leaves its group, and dies. */
static nq_verdict desert(nq_ctx *ctx, const nq_task *task, void *udata)
{
    struct seen *s = udata;
    (void)ctx, (void)task;
    if (fork() == 0) {
        setsid();
        __atomic_store_n(&s->escaped, getpid(), __ATOMIC_SEQ_CST);
        for (;;)
            pause();
    }
    while (__atomic_load_n(&s->escaped, __ATOMIC_SEQ_CST) == 0)
        t_pause_ms(1);
    raise(SIGKILL);
    return NQ_DONE;
}

START_TEST(what_left_the_group_of_a_dead_child_is_gone_before_the_retry)
{
    struct seen *s = p_shared(sizeof *s);
    nq *q = t_open();
    nq_worker *p = p_new(q, P_OPTIONS(.concurrency = 1, .max_crashes = NQ_ZERO), NULL, NULL);
    T_OK(nq_worker_handle(p, "t", desert, s, P_ISOLATED(.nice = 1), &t_last));
    T_OK(nq_worker_fork(p, &t_last));
    nq_id id = T_ADD(q, .type = "t");
    p_thread t;
    p_start(&t, p);
    T_WAIT(t_state(q, id) == NQ_STATE_DEAD, 10);
    ck_assert(is_gone(s->escaped));
    p_stop(&t);
    nq_close(q);
}
END_TEST

START_TEST(a_shutdown_kills_deaf_children_and_releases_their_tasks)
{
    struct seen *s = p_shared(sizeof *s);
    nq *q = t_open();
    nq_worker *p =
        p_new(q, P_OPTIONS(.concurrency = 1, .shutdown_timeout_us = NQ_MS(50), .cancel_grace_us = NQ_MS(200)),
              NULL, NULL);
    T_OK(nq_worker_handle(p, "t", deaf, s, P_ISOLATED(.nice = 1), &t_last));
    T_OK(nq_worker_fork(p, &t_last));
    nq_id id = T_ADD(q, .type = "t");
    p_thread t;
    p_start(&t, p);
    T_WAIT(p_load(&s->begun) == 1, 10);
    p_stop(&t);
    t_task task;
    ck_assert_int_eq(t_get(q, id, &task), NQ_OK);
    ck_assert_int_eq(task.info.state, NQ_STATE_WAITING);
    ck_assert_uint_eq(task.info.attempts, 0);
    ck_assert_uint_eq(task.info.crashes, 0);
    t_task_free(&task);
    ck_assert(is_gone(s->child) && is_gone(s->grandchild) && is_gone(s->escaped));
    nq_close(q);
}
END_TEST

/* ---- The end of the process, and of the zygote ---- */

static nq_verdict wait_for_ever(nq_ctx *ctx, const nq_task *task, void *udata)
{
    ((struct seen *)udata)->zygote = getppid();
    return deaf(ctx, task, udata);
}

static void worker(int fd, void *arg)
{
    nq_err err;
    (void)fd;
    nq *q = t_open();
    nq_worker *p = p_new(q, P_OPTIONS(.concurrency = 1, .lease_us = P_DYING_LEASE), NULL, NULL);
    T_OK(nq_worker_handle(p, "t", wait_for_ever, arg, P_ISOLATED(.nice = 1), &t_last));
    nq_worker_run(p, &err);
}

START_TEST(kill_9_of_the_process_leaves_no_orphan_and_no_lock)
{
    struct seen *s = p_shared(sizeof *s);
    t_child child;
    int done = 0;
    nq *q = t_open();
    nq_id id = T_ADD(q, .type = "t");
    nq_close(q);
    t_fork(&child, worker, s);
    T_WAIT(p_load(&s->begun) == 1, 20);
    t_kill(&child, SIGKILL);
    const int64_t start = t_mono();
    T_WAIT(is_gone(s->child) && is_gone(s->grandchild) && is_gone(s->escaped) && is_gone(s->zygote), 5);
    q = t_open();
    p_thread t;
    p_start(&t, p_new(q, P_OPTIONS(.lease_us = P_DYING_LEASE), p_count, &done));
    T_WAIT(t_state(q, id) == -1, 20);
    ck_assert_int_lt(t_mono() - start, NQ_SECONDS(10) * T_SLOW_FACTOR); /* far below the lease */
    p_stop(&t);
    ck_assert_int_eq(done, 1);
    nq_close(q);
}
END_TEST

static uint64_t end_released(nq_worker *p)
{
    nq_worker_totals counts;
    nq_worker_stats(p, &counts, sizeof counts);
    return counts.released;
}

START_TEST(a_child_that_cannot_be_made_costs_no_attempt)
{
    struct rlimit all, none;
    int *n = p_shared(sizeof *n);
    nq *q = t_open();
    nq_worker *p = p_new(q, P_OPTIONS(.concurrency = 1), NULL, NULL);
    T_OK(nq_worker_handle(p, "t", p_count, n, P_ISOLATED(.nice = 1), &t_last));
    T_OK(nq_worker_fork(p, &t_last));
    p_thread t;
    p_start(&t, p);
    T_WAIT(nq_worker_silence_us(p) >= 0, 10); /* connected */
    nq_id id = T_ADD(q, .type = "t", .delay_us = NQ_MS(300));
    ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &all), 0);
    none = all;
    none.rlim_cur = 3; /* what is open stays open */
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &none), 0);
    T_WAIT(end_released(p) >= 1, 10);
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &all), 0);
    T_WAIT(t_state(q, id) < 0, 10); /* done, and gone */
    nq_worker_totals counts;
    T_WAIT((nq_worker_stats(p, &counts, sizeof counts), counts.done == 1),
           10); /* counted once it is recorded */
    ck_assert_uint_eq(counts.retried, 0);
    p_stop(&t);
    nq_close(q);
}
END_TEST

START_TEST(a_zygote_that_dies_stops_the_worker_and_costs_no_attempt)
{
    struct seen *s = p_shared(sizeof *s);
    nq *q = t_open();
    nq_worker *p = p_new(q, P_OPTIONS(.concurrency = 2), NULL, NULL);
    T_OK(nq_worker_handle(p, "t", wait_for_ever, s, P_ISOLATED(.nice = 1), &t_last));
    T_OK(nq_worker_fork(p, &t_last));
    nq_id id = T_ADD(q, .type = "t");
    p_thread t;
    p_start(&t, p);
    T_WAIT(p_load(&s->begun) == 1, 10);
    kill(s->zygote, _i ? SIGABRT : SIGKILL); /* sanitizers leave SIGABRT to the program */
    ck_assert_int_eq(p_join(&t), NQ_ESYSTEM);
    const char *how =
        _i ? "died (killed by signal 6 (SIGABRT) after " : "died (killed by signal 9 (SIGKILL) after ";
    ck_assert_ptr_nonnull(strstr(t.err.message, how));
    T_WAIT(is_gone(s->child), 5);
    t_task task;
    ck_assert_int_eq(t_get(q, id, &task), NQ_OK);
    ck_assert_int_eq(task.info.state, NQ_STATE_WAITING);
    ck_assert_uint_eq(task.info.attempts, 0);
    t_task_free(&task);
    kill(s->grandchild, SIGKILL); /* nobody is left to see to these */
    kill(s->escaped, SIGKILL);
    nq_close(q);
}
END_TEST

/* Stops the zygote, and ends once the worker has asked that for SIGTERM and for SIGKILL. */
static nq_verdict freeze(nq_ctx *ctx, const nq_task *task, void *udata)
{
    struct seen *s = udata;
    struct pollfd fd = {nq_ctx_fd(ctx), POLLIN, 0};
    if (strcmp(task->type, "next") == 0)
        return NQ_DONE;
    __atomic_store_n(&s->child, getpid(), __ATOMIC_SEQ_CST);
    __atomic_store_n(&s->zygote, getppid(), __ATOMIC_SEQ_CST);
    kill(getppid(), SIGSTOP);
    while (poll(&fd, 1, 20000) < 0 && errno == EINTR)
        ;
    t_pause_ms(300); /* five times the grace */
    _exit(3);
}

START_TEST(a_zygote_that_was_behind_stops_nothing)
{
    struct seen *s = p_shared(sizeof *s);
    nq *q = t_open();
    nq_worker *p = p_new(q, P_OPTIONS(.concurrency = 1, .cancel_grace_us = NQ_MS(60)), NULL, NULL);
    T_OK(nq_worker_handle(p, "t", freeze, s, P_ISOLATED(.nice = 1), &t_last));
    T_OK(nq_worker_handle(p, "next", freeze, s, P_ISOLATED(.nice = 1), &t_last));
    T_OK(nq_worker_fork(p, &t_last));
    const nq_id id = T_ADD(q, .type = "t", .timeout_us = NQ_SECONDS(1));
    p_thread t;
    p_start(&t, p);
    T_WAIT(p_load(&s->zygote) != 0, 10);
    T_WAIT(is_gone(s->child), 10);
    kill(s->zygote, SIGCONT);
    const nq_id next = T_ADD(q, .type = "next");
    T_WAIT(t_state(q, next) < 0, 10); /* done, and gone */
    p_stop(&t);
    t_task task;
    ck_assert_int_eq(t_get(q, id, &task), NQ_OK);
    ck_assert_int_eq(task.info.state, NQ_STATE_WAITING);
    ck_assert_uint_eq(task.info.attempts, 1);
    ck_assert_msg(strncmp(task.error, "timed out after 1000 ms: child ", 31) == 0, "%s", task.error);
    t_task_free(&task);
    nq_close(q);
}
END_TEST

static nq_verdict stop_zygote(nq_ctx *ctx, const nq_task *task, void *udata)
{
    struct seen *s = udata;
    (void)ctx, (void)task;
    if (__atomic_add_fetch(&s->begun, 1, __ATOMIC_SEQ_CST) == 1) {
        __atomic_store_n(&s->zygote, getppid(), __ATOMIC_SEQ_CST);
        kill(getppid(), SIGSTOP);
    }
    return NQ_DONE;
}

static void end_heard(enum nq_log_level level, const char *message, void *udata)
{
    (void)level;
    if (strstr(message, "cannot be killed"))
        __atomic_add_fetch(&((struct seen *)udata)->told, 1, __ATOMIC_SEQ_CST);
}

/* As far as the worker can tell, while nobody reports its end. */
START_TEST(a_child_that_is_gone_late_leaves_its_place)
{
    struct seen *s = p_shared(sizeof *s);
    nq *q = NULL;
    T_OK(nq_open(&q, t_url, &(nq_options){.size = sizeof(nq_options), .log = end_heard, .log_udata = s},
                 &t_last));
    nq_worker *p = p_new(q, P_OPTIONS(.concurrency = 1), NULL, NULL);
    T_OK(nq_worker_handle(p, "t", stop_zygote, s, P_ISOLATED(.tasks_per_child = 1), &t_last));
    T_OK(nq_worker_fork(p, &t_last));
    T_ADD(q, .type = "t");
    p_thread t;
    p_start(&t, p);
    T_WAIT(p_load(&s->told) == 1, 20);
    kill(s->zygote, SIGCONT);
    const nq_id next = T_ADD(q, .type = "t", NQ_BYTES("next"));
    T_WAIT(t_state(q, next) < 0, 20); /* done, and gone */
    p_stop(&t);
    ck_assert_int_eq(s->begun, 2);
    nq_close(q);
}
END_TEST

/* ---- What is refused ---- */

static void *idle_thread(void *arg)
{
    t_await(arg, 30);
    return NULL;
}

/* ThreadSanitizer keeps threads of its own from the first one on. */
#if defined(__SANITIZE_THREAD__)
#define END_KEEPS_THREADS 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define END_KEEPS_THREADS 1
#endif
#endif
#ifndef END_KEEPS_THREADS
#define END_KEEPS_THREADS 0
#endif

START_TEST(a_process_with_threads_cannot_fork_the_zygote)
{
    sem_t stop;
    pthread_t thread;
    int n = 0;
    nq *q = t_open();
    nq_worker *p = p_new(q, NULL, NULL, NULL);
    T_OK(nq_worker_handle(p, "t", p_count, &n, P_ISOLATED(.nice = 1), &t_last));
    sem_init(&stop, 0, 0);
    t_thread(&thread, idle_thread, &stop);
    T_FAILS(nq_worker_fork(p, &t_last), NQ_ETHREADS);
    T_FAILS(nq_worker_run(p, &t_last), NQ_ETHREADS);
    t_post(&stop);
    pthread_join(thread, NULL);
    int rc = END_KEEPS_THREADS ? NQ_OK : NQ_ETHREADS; /* the kernel may still count it for a moment */
    T_WAIT(END_KEEPS_THREADS || (rc = nq_worker_fork(p, &t_last)) != NQ_ETHREADS, 5);
    ck_assert_msg(rc == NQ_OK, "%s", t_last.message);
    if (!END_KEEPS_THREADS) {
        T_FAILS(nq_worker_fork(p, &t_last), NQ_EINVAL);
        T_FAILS(nq_worker_handle(p, "u", p_count, &n, NULL, &t_last), NQ_EINVAL);
    }
    nq_worker_free(p);
    ck_assert_int_eq(waitpid(-1, NULL, WNOHANG), -1);
    p = p_new(q, NULL, p_count, &n);
    T_FAILS(nq_worker_fork(p, &t_last), NQ_EINVAL); /* nothing is isolated */
    static const char *const bad[] = {"=x"};
    T_FAILS(nq_worker_handle(p, "a", p_count, &n, P_ISOLATED(.environment = bad, .nenvironment = 1), &t_last),
            NQ_EINVAL);
    T_FAILS(nq_worker_handle(p, "a", p_count, &n, P_ISOLATED(.nice = -1), &t_last), NQ_EINVAL);
    T_FAILS(nq_worker_handle(p, "a", p_count, &n, P_ISOLATED(.stderr_bytes = 4000), &t_last), NQ_EINVAL);
    T_FAILS(nq_worker_handle(p, "a", p_count, &n, P_ISOLATED(.stderr_bytes = -1), &t_last), NQ_EINVAL);
    T_FAILS(nq_worker_handle(p, "a", p_count, &n, P_HANDLE(.max_crashes = -1), &t_last), NQ_EINVAL);
    nq_handle_options threaded = {.size = sizeof threaded, .isolation = NQ_ISOLATION(.memory = 1 << 20)};
    T_FAILS(nq_worker_handle(p, "a", p_count, &n, &threaded, &t_last), NQ_EINVAL);
    nq_worker_free(p);
    nq_close(q);
}
END_TEST

Suite *suite_isolation_end(void)
{
    Suite *s = suite_create("isolation_end");
    TCase *c = t_case(s, "isolation_end", 60);
    tcase_add_test(c, a_child_is_told_of_its_timeout_and_may_answer);
    tcase_add_test(c, nq_cancel_reaches_a_child);
    tcase_add_test(c, what_left_the_group_of_a_dead_child_is_gone_before_the_retry);
    tcase_add_test(c, a_shutdown_kills_deaf_children_and_releases_their_tasks);
    tcase_add_test(c, kill_9_of_the_process_leaves_no_orphan_and_no_lock);
    tcase_add_test(c, a_child_that_cannot_be_made_costs_no_attempt);
    tcase_add_loop_test(c, a_zygote_that_dies_stops_the_worker_and_costs_no_attempt, 0, 2);
    tcase_add_test(c, a_zygote_that_was_behind_stops_nothing);
    tcase_add_test(c, a_child_that_is_gone_late_leaves_its_place);
    tcase_add_test(c, a_process_with_threads_cannot_fork_the_zygote);
    return s;
}
