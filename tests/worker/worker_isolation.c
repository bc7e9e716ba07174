/* SPDX-License-Identifier: MIT */
/* Handlers in child processes: each way to misbehave costs one attempt of one task, and nothing is left. */
#include "suites.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define ISOLATION_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define ISOLATION_SANITIZED 1
#endif
#endif
#ifndef ISOLATION_SANITIZED
#define ISOLATION_SANITIZED 0
#endif

static void isolate(nq_worker *p, const char *type, nq_handler_fn handler, void *udata)
{
    T_OK(nq_worker_handle(p, type, handler, udata, P_ISOLATED(.nice = 0), &t_last));
}

static size_t open_files(void)
{
    size_t n = 0;
    DIR *d = opendir("/proc/self/fd");
    while (readdir(d))
        n++;
    closedir(d);
    return n;
}

static nq_worker *drainer(nq *q, unsigned concurrency)
{
    return p_new(q,
                 P_OPTIONS(.concurrency = concurrency, .drain = NQ_DRAIN_DUE, .cancel_grace_us = NQ_MS(400)),
                 NULL, NULL);
}

static char *error_of(const char *type)
{
    char *error = t_text(t_side(), "SELECT error FROM nanoq_finished WHERE type = '%s'", type);
    ck_assert_msg(error, "no task of type %s failed", type);
    return error;
}

static void says(const char *error, const char *what)
{
    ck_assert_msg(strstr(error, what), "not '%s' in: %s", what, error);
}

/* ---- What works ---- */

static nq_verdict echo(nq_ctx *ctx, const nq_task *task, void *udata)
{
    pid_t *parent = udata;
    if (getpid() == *parent || nq_ctx_cause(ctx) != NQ_CAUSE_NONE || nq_ctx_remaining_us(ctx) <= 0)
        return nq_fail(ctx, NQ_DISCARD, "not as it should be in a child");
    if (strcmp(task->payload, "snooze") == 0) {
        nq_ctx_set_delay(ctx, NQ_HOURS(1));
        return NQ_SNOOZE;
    }
    if (strcmp(task->payload, "retry") == 0) {
        nq_ctx_set_delay(ctx, NQ_HOURS(2));
        return nq_fail(ctx, NQ_RETRY, "attempt %u of %s in %s, %zu", task->attempt, task->type, task->queue,
                       task->payload_size);
    }
    return strcmp(task->payload, "discard") == 0 ? nq_fail(ctx, NQ_DISCARD, "no") : NQ_DONE;
}

START_TEST(verdicts_messages_and_delays_come_back_from_a_child)
{
    pid_t self = getpid();
    nq *q = t_open();
    nq_worker *p = drainer(q, 2);
    isolate(p, "t", echo, &self);
    T_OK(nq_worker_fork(p, &t_last));
    T_ADD(q, .type = "t", NQ_BYTES("done"));
    nq_id snooze = T_ADD(q, .type = "t", NQ_BYTES("snooze"));
    nq_id retry = T_ADD(q, .type = "t", NQ_BYTES("retry"));
    nq_id discard = T_ADD(q, .type = "t", NQ_BYTES("discard"));
    p_run(p);
    t_task t;
    ck_assert_int_eq(t_get(q, snooze, &t), NQ_OK);
    ck_assert_uint_eq(t.info.attempts, 0);
    ck_assert_int_gt(t.info.run_at_us, t_now(q) + NQ_MINUTES(50));
    t_task_free(&t);
    ck_assert_int_eq(t_get(q, retry, &t), NQ_OK);
    ck_assert_str_eq(t.error, "attempt 1 of t in default, 5");
    ck_assert_uint_eq(t.info.crashes, 0);
    ck_assert_int_gt(t.info.run_at_us, t_now(q) + NQ_MINUTES(110));
    t_task_free(&t);
    ck_assert_int_eq(t_get(q, discard, &t), NQ_OK);
    ck_assert_str_eq(t.error, "no");
    t_task_free(&t);
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_tasks"), 2);
    nq_close(q);
}
END_TEST

static nq_verdict measure(nq_ctx *ctx, const nq_task *task, void *udata)
{
    const unsigned char *bytes = task->payload;
    (void)udata;
    for (size_t i = 0; i < task->payload_size; i++)
        if (bytes[i] != (unsigned char)(i * 7 + i / 256))
            return nq_fail(ctx, NQ_DISCARD, "byte %zu is wrong", i);
    return bytes[task->payload_size] == 0 ? NQ_DONE : nq_fail(ctx, NQ_DISCARD, "no NUL behind it");
}

START_TEST(payloads_of_any_size_arrive_byte_for_byte)
{
    static const size_t sizes[] = {0, 1, 100, 65535, 65536, 300000, 1048576};
    unsigned char *bytes = malloc(1048576);
    ck_assert_ptr_nonnull(bytes);
    for (size_t i = 0; i < 1048576; i++)
        bytes[i] = (unsigned char)(i * 7 + i / 256);
    nq *q = t_open();
    nq_worker *p = drainer(q, 2);
    isolate(p, "t", measure, NULL);
    T_OK(nq_worker_fork(p, &t_last));
    for (int k = 0; k < 3; k++)
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
            T_ADD(q, .type = "t", .payload = bytes, .payload_size = sizes[i], .unique = NQ_UNIQUE_NONE);
    p_run(p);
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_tasks"), 0);
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_finished"), 0);
    free(bytes);
    nq_close(q);
}
END_TEST

static nq_verdict stamp(nq_ctx *ctx, const nq_task *task, nq_next *next, void *udata)
{
    char text[64] = "";
    const nq_verdict v = nq_next_run(next, ctx, task);
    snprintf(text, sizeof text, "%s", nq_ctx_message(ctx));
    return nq_fail(ctx, v, "%s%s", text, (const char *)udata);
}

static nq_verdict surroundings(nq_ctx *ctx, const nq_task *task, void *udata)
{
    nq *inherited = udata;
    nq_err err;
    char line[8];
    (void)task;
    if (nq_ctx_queue(ctx))
        return nq_fail(ctx, NQ_DISCARD, "a handle that does not work here");
    const int rc = nq_enqueue(inherited, NQ_OWN_TX, NQ_TASK(.type = "x"), NULL, &err);
    return nq_fail(ctx, NQ_DISCARD, "%s %s %s", nq_code_name(rc), getenv("COLOUR"),
                   fgets(line, sizeof line, stdin) ? "input" : "no input");
}

START_TEST(middleware_environment_and_dead_handles_in_a_child)
{
    static const char *const environment[] = {"COLOUR=green"};
    const nq_middleware layers[] = {{stamp, (void *)(uintptr_t) "b"}};
    nq *q = t_open();
    nq_worker *p = drainer(q, 1);
    T_OK(nq_worker_use(p, stamp, (void *)(uintptr_t) "a", &t_last));
    T_OK(nq_worker_handle(p, "t", surroundings, q,
                          P_HANDLE(.middleware = layers, .nmiddleware = 1,
                                   .isolation = P_PROCESS(.environment = environment, .nenvironment = 1)),
                          &t_last));
    setenv("COLOUR", "red", 1);
    T_OK(nq_worker_fork(p, &t_last));
    T_ADD(q, .type = "t");
    p_run(p);
    char *error = error_of("t");
    ck_assert_str_eq(error, "NQ_EFORK green no inputba");
    free(error);
    nq_close(q);
}
END_TEST

/* NQ_DONE where a child finds neither the password nor leave to write a core. */
static nq_verdict bare(nq_ctx *ctx, const nq_task *task, void *udata)
{
    const char *given = getenv("NANOQ_PASSWORD");
    struct rlimit core;
    (void)task, (void)udata;
    if (getrlimit(RLIMIT_CORE, &core) != 0 || core.rlim_cur != 0)
        return nq_fail(ctx, NQ_DISCARD, "a core");
    return given ? nq_fail(ctx, NQ_DISCARD, "%s", given) : NQ_DONE;
}

START_TEST(a_child_has_no_password_and_leaves_no_core)
{
    static const char *const environment[] = {"NANOQ_PASSWORD=own"};
    struct rlimit core;
    ck_assert_int_eq(getrlimit(RLIMIT_CORE, &core), 0);
    core.rlim_cur = core.rlim_max;
    ck_assert_int_eq(setrlimit(RLIMIT_CORE, &core), 0);
    nq *q = t_open();
    setenv("NANOQ_PASSWORD", "s3cret", 1); /* not that of the test's server */
    nq_worker *p = drainer(q, 1);
    T_OK(nq_worker_handle(p, "bare", bare, NULL, P_ISOLATED(0), &t_last));
    T_OK(nq_worker_handle(p, "own", bare, NULL, P_ISOLATED(.environment = environment, .nenvironment = 1),
                          &t_last));
    T_OK(nq_worker_fork(p, &t_last));
    nq_id id = T_ADD(q, .type = "bare");
    T_ADD(q, .type = "own");
    p_run(p);
    ck_assert_int_eq(t_state(q, id), -1);
    char *error = error_of("own");
    ck_assert_str_eq(error, "own");
    free(error);
    nq_close(q);
}
END_TEST

static nq_verdict who(nq_ctx *ctx, const nq_task *task, void *udata)
{
    int *seen = udata; /* [0]: how many; then the pids */
    (void)ctx, (void)task;
    for (int i = 1; i < 64; i++) {
        int none = 0;
        if (__atomic_load_n(&seen[i], __ATOMIC_SEQ_CST) == getpid())
            break;
        if (__atomic_compare_exchange_n(&seen[i], &none, getpid(), false, __ATOMIC_SEQ_CST,
                                        __ATOMIC_SEQ_CST)) {
            __atomic_add_fetch(&seen[0], 1, __ATOMIC_SEQ_CST);
            break;
        }
    }
    return NQ_DONE;
}

START_TEST(children_live_on_between_tasks_and_are_replaced_after_so_many)
{
    int *seen = p_shared(4096);
    nq *q = t_open();
    nq_worker *p = drainer(q, 1);
    T_OK(nq_worker_handle(p, "t", who, seen, P_ISOLATED(.tasks_per_child = 10), &t_last));
    T_OK(nq_worker_fork(p, &t_last));
    for (int i = 0; i < 45; i++)
        T_ADD(q, .type = "t", .unique = NQ_UNIQUE_NONE);
    p_run(p);
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_tasks"), 0);
    ck_assert_int_eq(p_load(seen), 5);
    nq_close(q);
}
END_TEST

/* ---- What misbehaves ---- */

/* What a plain handler may not do to the test: told to the compiler as little as possible. */
static int *volatile isolation_nowhere;

static int deeper(volatile char *above, int n)
{
    volatile char here[4096];
    here[0] = above[0];
    return n == 0 ? 0 : deeper(here, n + 1) + here[0];
}

static nq_verdict write_garbage(void)
{
    char garbage[300];
    memset(garbage, 0xa5, sizeof garbage);
    for (int fd = 3; fd < 256; fd++)
        (void)send(fd, garbage, sizeof garbage, MSG_NOSIGNAL | MSG_DONTWAIT);
    return NQ_DONE;
}

static nq_verdict daemonize(pid_t *grandchild)
{
    const pid_t pid = fork();
    if (pid == 0) {
        setsid();
        signal(SIGTERM, SIG_IGN);
        __atomic_store_n(grandchild, getpid(), __ATOMIC_SEQ_CST);
        for (;;)
            pause();
    }
    while (pid > 0 && __atomic_load_n(grandchild, __ATOMIC_SEQ_CST) == 0)
        t_pause_ms(1);
    abort(); /* the pipe and the channel stay open in the grandchild */
}

static nq_verdict misbehave(nq_ctx *ctx, const nq_task *task, void *udata)
{
    const char *how = task->payload;
    volatile char top = 1;
    (void)ctx;
    if (strcmp(how, "null") == 0)
        *isolation_nowhere = 1;
    if (strcmp(how, "abort") == 0) {
        fprintf(stderr, "about to give up\n");
        abort();
    }
    if (strcmp(how, "overflow") == 0)
        return deeper(&top, 1) ? NQ_DONE : NQ_RETRY;
    if (strcmp(how, "loop") == 0) {
        signal(SIGTERM, SIG_IGN);
        for (;;)
            pause();
    }
    if (strcmp(how, "wander") == 0) { /* out of the group that signals go to */
        setpgid(0, getppid());
        for (;;)
            pause();
    }
    if (strcmp(how, "memory") == 0) {
        char *big = malloc((size_t)2 << 30);
        if (!big) {
            fprintf(stderr, "no memory\n");
            abort();
        }
        free(big);
        return NQ_DONE;
    }
    if (strcmp(how, "cpu") == 0)
        for (;;)
            top++;
    if (strcmp(how, "close") == 0)
        for (int fd = 0; fd < 256; fd++)
            close(fd);
    if (strcmp(how, "garbage") == 0)
        return write_garbage();
    if (strcmp(how, "daemon") == 0)
        return daemonize(udata);
    if (strcmp(how, "exit") == 0)
        exit(0);
    if (strcmp(how, "twice") == 0 && fork() >= 0) {
        t_pause_ms(20);
        return NQ_DONE; /* both */
    }
    return NQ_DONE;
}

static nq_verdict healthy(nq_ctx *ctx, const nq_task *task, void *udata)
{
    (void)ctx, (void)task;
    __atomic_add_fetch((int *)udata, 1, __ATOMIC_SEQ_CST);
    return NQ_DONE;
}

static bool is_gone(pid_t pid)
{
    return kill(pid, 0) != 0 && errno == ESRCH;
}

static void add_healthy(nq *q, size_t n)
{
    nq_task_spec *specs = calloc(n, sizeof *specs);
    ck_assert_ptr_nonnull(specs);
    for (size_t i = 0; i < n; i++)
        specs[i] = *NQ_TASK(.type = "healthy", .unique = NQ_UNIQUE_NONE);
    T_OK(nq_enqueue_many(q, NQ_OWN_TX, specs, n, NULL, NULL, &t_last));
    free(specs);
}

static const struct {
    const char *how, *says;
} misdeeds[] = {{"null", "signal 11 (SIGSEGV)"},
                {"abort", "about to give up"},
                {"overflow", "signal 11 (SIGSEGV)"},
                {"loop", "timed out after 1000 ms: child killed by signal 9"},
                {"wander", "timed out after 1000 ms: child killed by signal"},
                {"memory", "no memory"},
                {"cpu", "SIGXCPU"},
                {"close", "exit status 70"},
                {"garbage", "its channel"},
                {"daemon", "signal 6 (SIGABRT)"},
                {"exit", "child gave no answer: exit status 0"}};

static bool misdeed_times_out(const char *how)
{
    return strcmp(how, "loop") == 0 || strcmp(how, "wander") == 0;
}

static bool misdeed_possible(const char *how)
{
    /* Under a sanitizer faults are reported and end otherwise, and its shadow memory is beyond any limit. */
    return !ISOLATION_SANITIZED || (strcmp(how, "memory") != 0 && strcmp(how, "null") != 0 &&
                                    strcmp(how, "overflow") != 0 && strcmp(how, "daemon") != 0);
}

START_TEST(each_misdeed_costs_one_attempt_of_one_task)
{
    const size_t n = sizeof misdeeds / sizeof *misdeeds;
    size_t expected = 0;
    pid_t *grandchild = p_shared(sizeof *grandchild);
    int *count = p_shared(sizeof *count);
    t_sql("SELECT COUNT(*) FROM nanoq_tasks"); /* the test's own connection */
    const size_t files = open_files();
    nq *q = t_open();
    nq_worker *p = drainer(q, 4);
    isolate(p, "healthy", healthy, count);
    T_OK(nq_worker_handle(p, NULL, misbehave, grandchild,
                          P_ISOLATED(.memory = ISOLATION_SANITIZED ? 0 : (size_t)512 << 20, .cpu_seconds = 1),
                          &t_last));
    T_OK(nq_worker_fork(p, &t_last));
    for (size_t i = 0; i < n; i++) {
        if (!misdeed_possible(misdeeds[i].how))
            continue;
        expected++;
        T_ADD(q, .type = misdeeds[i].how, .payload = misdeeds[i].how, .payload_size = strlen(misdeeds[i].how),
              .max_retries = NQ_ZERO,
              .timeout_us = misdeed_times_out(misdeeds[i].how) ? NQ_SECONDS(1) : NQ_SECONDS(30));
        add_healthy(q, 50);
    }
    add_healthy(q, 1000 - expected * 50);
    nq_worker_totals counts;
    T_OK(nq_worker_run(p, &t_last));
    nq_worker_stats(p, &counts, sizeof counts);
    nq_worker_free(p);
    ck_assert_int_eq(p_load(count), 1000);
    ck_assert_uint_eq(counts.done, 1000);
    ck_assert_uint_eq(counts.dead, expected);
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_tasks"), 0);
    for (size_t i = 0; i < n; i++) {
        if (!misdeed_possible(misdeeds[i].how))
            continue;
        char *error = error_of(misdeeds[i].how);
        says(error, misdeeds[i].says);
        free(error);
        ck_assert_int_eq(t_sql("SELECT attempts FROM nanoq_finished WHERE type = '%s'", misdeeds[i].how), 1);
        ck_assert_int_eq(t_sql("SELECT crashes FROM nanoq_finished WHERE type = '%s'", misdeeds[i].how),
                         !misdeed_times_out(misdeeds[i].how));
    }
    ck_assert_int_eq(waitpid(-1, NULL, WNOHANG), -1); /* no zombie */
    ck_assert_int_eq(errno, ECHILD);
    if (*grandchild)
        T_WAIT(is_gone(*grandchild), 5);
    nq_close(q); /* and its pool */
    /* SQLite keeps those of its two connections while another one of this process has the file open. */
    ck_assert_uint_eq(open_files(), files + (T_SQLITE ? 2 : 0));
}
END_TEST

static nq_verdict crasher(nq_ctx *ctx, const nq_task *task, void *udata)
{
    (void)ctx, (void)task, (void)udata;
    _exit(3);
}

START_TEST(crashes_are_counted_apart_and_more_than_allowed_are_final)
{
    nq *q = t_open();
    nq_worker *p =
        p_new(q, P_OPTIONS(.concurrency = 2, .drain = NQ_DRAIN_ALL, .retry_policy = p_soon, .max_crashes = 2),
              NULL, NULL);
    isolate(p, "some", crasher, NULL);
    T_OK(nq_worker_handle(p, "one", crasher, NULL,
                          P_HANDLE(.max_crashes = 1, .isolation = P_PROCESS(.nice = 0)), &t_last));
    T_OK(nq_worker_handle(p, "none", crasher, NULL,
                          P_HANDLE(.max_crashes = NQ_ZERO, .isolation = P_PROCESS(.stderr_bytes = NQ_ZERO)),
                          &t_last));
    T_OK(nq_worker_fork(p, &t_last));
    T_ADD(q, .type = "some");
    T_ADD(q, .type = "one");
    T_ADD(q, .type = "none");
    p_run(p);
    ck_assert_int_eq(t_sql("SELECT crashes FROM nanoq_finished WHERE type = 'some'"), 3);
    ck_assert_int_eq(t_sql("SELECT crashes FROM nanoq_finished WHERE type = 'one'"), 2);
    ck_assert_int_eq(t_sql("SELECT crashes FROM nanoq_finished WHERE type = 'none'"), 1);
    char *error = error_of("none");
    says(error, "exit status 3");
    free(error);
    nq_close(q);
}
END_TEST

START_TEST(a_handler_that_forks_and_returns_twice_answers_once)
{
    int *count = p_shared(sizeof *count);
    nq *q = t_open();
    nq_worker *p = drainer(q, 1);
    isolate(p, "twice", misbehave, NULL);
    isolate(p, "healthy", healthy, count);
    T_OK(nq_worker_fork(p, &t_last));
    T_ADD(q, .type = "twice", NQ_BYTES("twice"));
    add_healthy(q, 50);
    p_run(p);
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_tasks"), 0);
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_finished"), 0);
    ck_assert_int_eq(p_load(count), 50);
    nq_close(q);
}
END_TEST

static nq_verdict bomb(nq_ctx *ctx, const nq_task *task, void *udata)
{
    (void)ctx, (void)task, (void)udata;
    signal(SIGTERM, SIG_IGN);
    while (getpid() > 0)
        if (fork() < 0)
            t_pause_ms(1);
    return NQ_DONE;
}

/* Root is above RLIMIT_NPROC, so the whole test runs as somebody else. */
START_TEST(a_fork_bomb_under_a_limit_is_killed_whole)
{
    const uid_t somebody = 20000 + (uid_t)getpid() % 40000;
    int *count = p_shared(sizeof *count);
    if (T_SQLITE && getuid() == 0) {
        char path[400];
        snprintf(path, sizeof path, "%s/..", t_dir);
        ck_assert_int_eq(chmod(path, 0711), 0);
        ck_assert_int_eq(chown(t_dir, somebody, somebody), 0);
        for (const char *const *f = (const char *const[]){"queue.db", "queue.db-wal", "queue.db-shm", NULL};
             *f; f++)
            ck_assert(chown(*f, somebody, somebody) == 0 || errno == ENOENT);
    }
    if (getuid() == 0)
        ck_assert(setgid(somebody) == 0 && setuid(somebody) == 0);
    nq *q = t_open();
    nq_worker *p = drainer(q, 2);
    T_OK(nq_worker_handle(p, "bomb", bomb, NULL, P_ISOLATED(.processes = 60), &t_last));
    T_OK(nq_worker_handle(p, "healthy", healthy, count, P_ISOLATED(.nice = 0), &t_last));
    T_OK(nq_worker_fork(p, &t_last));
    T_ADD(q, .type = "bomb", .max_retries = NQ_ZERO, .timeout_us = NQ_SECONDS(1));
    add_healthy(q, 1000);
    p_run(p);
    ck_assert_int_eq(p_load(count), 1000);
    char *error = error_of("bomb");
    says(error, "timed out");
    free(error);
    kill(-1, 0); /* all of this user but us: none is left */
    const int64_t until = t_mono() + NQ_SECONDS(5);
    size_t left = 2;
    while (left > 1 && t_mono() < until) {
        DIR *d = opendir("/proc");
        const struct dirent *e;
        left = 0;
        while ((e = readdir(d))) {
            struct stat st;
            char path[300];
            snprintf(path, sizeof path, "/proc/%s", e->d_name);
            left +=
                e->d_name[0] > '0' && e->d_name[0] <= '9' && stat(path, &st) == 0 && st.st_uid == somebody;
        }
        closedir(d);
    }
    ck_assert_uint_eq(left, 1);
    nq_close(q);
}
END_TEST

Suite *suite_isolation(void)
{
    Suite *s = suite_create("isolation");
    TCase *c = t_case(s, "isolation", 60);
    tcase_add_test(c, verdicts_messages_and_delays_come_back_from_a_child);
    tcase_add_test(c, payloads_of_any_size_arrive_byte_for_byte);
    tcase_add_test(c, middleware_environment_and_dead_handles_in_a_child);
    tcase_add_test(c, a_child_has_no_password_and_leaves_no_core);
    tcase_add_test(c, children_live_on_between_tasks_and_are_replaced_after_so_many);
    tcase_add_test(c, each_misdeed_costs_one_attempt_of_one_task);
    tcase_add_test(c, crashes_are_counted_apart_and_more_than_allowed_are_final);
    tcase_add_test(c, a_handler_that_forks_and_returns_twice_answers_once);
    if (T_SQLITE)
        tcase_add_test(c, a_fork_bomb_under_a_limit_is_killed_whole);
    return s;
}
