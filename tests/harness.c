/* SPDX-License-Identifier: MIT */
/* The test programs' frame: main, fixtures, directories, databases, processes. */
#include "harness.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <time.h>

#include "harness_db.h"

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define HARNESS_SANITIZED 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define HARNESS_SANITIZED 1
#endif
#ifndef HARNESS_SANITIZED
#define HARNESS_SANITIZED 0
#endif

enum nq_tx_kind t_kind;
bool t_is_mariadb;
bool t_is_galera, t_is_cluster;
char t_dir[256];
char t_url[512];
char t_name[64];
const char *t_program;
nq_err t_last;

static char harness_root[200]; /* the program's directory; each test gets one in it */
static pid_t harness_main;
static t_conn *harness_side;

int t_slow_factor(void)
{
    const char *slow = getenv("NANOQ_TEST_SLOW"); /* under valgrind */
    return slow ? atoi(slow) : HARNESS_SANITIZED ? 4 : 1;
}

/* ---- main ----------------------------------------------------------------------------------- */

static int harness_unlink(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st, (void)type, (void)ftw;
    (void)remove(path);
    return 0;
}

static int harness_choose(const char *store)
{
    const char *variable = NULL;
    if (strcmp(store, "sqlite") == 0) {
        t_kind = NQ_TX_SQLITE;
        return 0;
    }
    if (strcmp(store, "mariadb") == 0)
        variable = "NANOQ_TEST_MYSQL";
    else if (strcmp(store, "mysql8") == 0)
        variable = "NANOQ_TEST_MYSQL8";
    else
        return 2;
    t_kind = NQ_TX_MYSQL;
    const char *url = getenv(variable);
    if (!url || !*url) {
        printf("skipped: %s is not set\n", variable);
        return 77;
    }
    return harness_db_server(url) ? 0 : 1;
}

/* Memory, where with-server found enough of it; but tests run programs there, which some mounts refuse. */
static const char *harness_where(void)
{
    const char *data = getenv("NANOQ_TEST_DATA"), *tmp = getenv("TMPDIR");
    struct statvfs fs;
    if (data && statvfs(data, &fs) == 0 && !(fs.f_flag & ST_NOEXEC))
        return data;
    return tmp && *tmp ? tmp : "/tmp";
}

int t_main(int argc, char **argv, Suite *(*const suites[])(void), size_t nsuites)
{
    static char program[PATH_MAX];
    t_program = realpath("/proc/self/exe", program) ? program : argv[0];
    unsigned part = 1, parts = 1;
    const bool usable = argc == 2 || (argc == 3 && sscanf(argv[2], "%u/%u", &part, &parts) == 2 &&
                                      part >= 1 && part <= parts && parts <= nsuites);
    int chosen = usable ? harness_choose(argv[1]) : 2;
    if (chosen == 2)
        fprintf(stderr, "usage: %s sqlite|mariadb|mysql8 [PART/PARTS]\n", argv[0]);
    if (chosen != 0)
        return chosen;
    if (HARNESS_SANITIZED && !getenv("CK_TIMEOUT_MULTIPLIER"))
        setenv("CK_TIMEOUT_MULTIPLIER", "4", 1);
    signal(SIGPIPE, SIG_IGN);
    snprintf(harness_root, sizeof harness_root, "%s/nanoq-test-XXXXXX", harness_where());
    if (!mkdtemp(harness_root)) {
        perror(harness_root);
        return 1;
    }
    harness_main = getpid();
    SRunner *runner = srunner_create(suites[part - 1]());
    for (size_t i = part - 1 + parts; i < nsuites; i += parts)
        srunner_add_suite(runner, suites[i]());
    srunner_set_fork_status(runner, CK_FORK);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    harness_db_sweep(harness_main);
    nftw(harness_root, harness_unlink, 16, FTW_DEPTH | FTW_PHYS);
    return failed == 0 ? 0 : 1;
}

/* ---- Fixtures: they run in the test's own process ------------------------------------------- */

static void harness_setup_empty(void)
{
    /* In a long run a pid comes again. */
    snprintf(t_dir, sizeof t_dir, "%s/%d-XXXXXX", harness_root, (int)getpid());
    ck_assert_msg(mkdtemp(t_dir) && chdir(t_dir) == 0, "%s: %s", t_dir, strerror(errno));
    /* Nothing of the developer's may reach a test. */
    unsetenv("NANOQ_PASSWORD");
    unsetenv("NANOQ_DB");
    if (T_MYSQL)
        harness_db_create(harness_main, t_name, sizeof t_name, t_url, sizeof t_url);
    else
        snprintf(t_url, sizeof t_url, "sqlite:%s/queue.db", t_dir);
}

static void harness_setup(void)
{
    harness_setup_empty();
    nq *q = t_open();
    T_OK(nq_migrate(q, &t_last));
    nq_close(q);
}

static void harness_teardown(void)
{
    t_disconnect(harness_side);
    harness_side = NULL;
    if (T_MYSQL)
        harness_db_drop(t_name);
}

static TCase *harness_case(Suite *s, const char *name, double seconds, void (*setup)(void))
{
    TCase *c = tcase_create(name);
    tcase_add_checked_fixture(c, setup, harness_teardown);
    tcase_set_timeout(c, seconds);
    suite_add_tcase(s, c);
    return c;
}

TCase *t_case(Suite *s, const char *name, double seconds)
{
    return harness_case(s, name, seconds, harness_setup);
}

TCase *t_case_empty(Suite *s, const char *name, double seconds)
{
    return harness_case(s, name, seconds, harness_setup_empty);
}

t_conn *t_side(void)
{
    if (!harness_side)
        harness_side = t_connect();
    return harness_side;
}

const char *t_url_with(const char *option)
{
    static char urls[4][768];
    static unsigned turn;
    char *url = urls[turn++ % 4];
    snprintf(url, sizeof urls[0], "%s%c%s", t_url, strchr(t_url, '?') ? '&' : '?', option);
    return url;
}

uint64_t t_seed(void)
{
    const char *given = getenv("NANOQ_SEED");
    uint64_t seed =
        given && *given ? strtoull(given, NULL, 0) : (uint64_t)t_mono() ^ (uint64_t)getpid() << 40;
    fprintf(stderr, "NANOQ_SEED=%llu\n", (unsigned long long)seed);
    return seed | 1;
}

uint64_t t_rand(uint64_t *seed)
{
    uint64_t x = *seed; /* xorshift64* */
    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    *seed = x;
    return x * 2685821657736338717u;
}

/* ---- Waiting, threads ----------------------------------------------------------------------- */

int64_t t_mono(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

void t_pause_ms(int ms)
{
    struct timespec ts = {ms / 1000, (long)(ms % 1000) * 1000000};
    nanosleep(&ts, NULL);
}

void t_post(sem_t *s)
{
    ck_assert_int_eq(sem_post(s), 0);
}

bool t_await_try(sem_t *s, double seconds)
{
    struct timespec ts;
    clock_gettime(CLOCK_REALTIME, &ts);
    int64_t ns = ts.tv_nsec + (int64_t)(seconds * t_slow_factor() * 1e9);
    ts.tv_sec += ns / 1000000000;
    ts.tv_nsec = (long)(ns % 1000000000);
    while (sem_timedwait(s, &ts) != 0)
        if (errno != EINTR)
            return false;
    return true;
}

void t_await(sem_t *s, double seconds)
{
    ck_assert_msg(t_await_try(s, seconds), "an expected event did not come");
}

void t_thread(pthread_t *t, void *(*fn)(void *), void *arg)
{
    ck_assert_int_eq(pthread_create(t, NULL, fn, arg), 0);
}

/* ---- Child processes ------------------------------------------------------------------------ */

void t_fork(t_child *c, void (*fn)(int fd, void *arg), void *arg)
{
    int ends[2];
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    pid_t parent = getpid();
    c->pid = fork();
    ck_assert_int_ge(c->pid, 0);
    if (c->pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent)
            _exit(1);
        close(ends[0]);
        fn(ends[1], arg);
        _exit(0);
    }
    close(ends[1]);
    c->fd = ends[0];
}

void t_tell(int fd, int64_t value)
{
    if (write(fd, &value, sizeof value) != (ssize_t)sizeof value)
        _exit(3);
}

/** No assertion: libcheck reports the last one, and that of the other process says why. */
static _Noreturn void other_is_gone(void)
{
    fputs("the other process is gone\n", stderr);
    _exit(1);
}

int64_t t_hear(int fd, double seconds)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    int64_t value = 0;
    ck_assert_msg(poll(&p, 1, (int)(seconds * 1000) * t_slow_factor()) == 1, "the other process is silent");
    if (read(fd, &value, sizeof value) != (ssize_t)sizeof value)
        other_is_gone();
    return value;
}

int t_reap(t_child *c)
{
    int status = 0;
    while (waitpid(c->pid, &status, 0) < 0)
        ck_assert_int_eq(errno, EINTR);
    close(c->fd);
    c->pid = -1;
    c->fd = -1;
    return status;
}

void t_kill(t_child *c, int sig)
{
    if (sig)
        kill(c->pid, sig);
    t_reap(c);
}

void t_stop(const t_child *c)
{
    const int64_t until = t_mono() + NQ_SECONDS(20) * T_SLOW_FACTOR;
    for (int tries = 1;; tries++) {
        int status = 0;
        ck_assert_int_eq(kill(c->pid, SIGSTOP), 0);
        ck_assert_int_eq(waitpid(c->pid, &status, WUNTRACED), c->pid);
        if (!WIFSTOPPED(status))
            other_is_gone();
        if (harness_db_writable())
            return;
        ck_assert_msg(t_mono() < until, "stopped %d times, each time it held a lock", tries);
        ck_assert_int_eq(kill(c->pid, SIGCONT), 0);
        t_pause_ms(1 + tries % 10); /* no rhythm of its own may meet that of the process */
    }
}

/* ---- Shorthands over the library ------------------------------------------------------------ */

nq *t_open(void)
{
    nq *q = NULL;
    T_OK(nq_open(&q, t_url, NULL, &t_last));
    return q;
}

void t_open_fails(const char *url, int code)
{
    nq *q = (nq *)&t_last;
    memset(&t_last, 0, sizeof t_last);
    int rc = nq_open(&q, url, NULL, &t_last);
    ck_assert_msg(rc == code, "%s: %s, not %s: %s", url, nq_code_name(rc), nq_code_name(code),
                  t_last.message);
    ck_assert_int_eq(t_last.code, rc);
    ck_assert_uint_gt(strlen(t_last.message), 8);
    ck_assert_ptr_null(strchr(t_last.message, '\n'));
    ck_assert_ptr_null(strstr(t_last.message, "s3cret"));
    ck_assert_ptr_eq(q, &t_last);
    ck_assert_int_eq(nq_open(&q, url, NULL, NULL), code);
}

nq_id t_add(nq *q, const nq_task_spec *task)
{
    nq_id id = 0;
    T_OK(nq_enqueue(q, NQ_OWN_TX, task, &id, &t_last));
    ck_assert_int_gt(id, 0);
    return id;
}

nq_claimed *t_claim_queue(nq *q, const char *queue, uint64_t lease, size_t limit, size_t *n)
{
    nq_claimer *claimer = NULL;
    nq_claimed *list = NULL;
    int64_t wait_us;
    T_OK(nq_claimer_new(&claimer, nq_store_of(q), queue, NULL, 0, &t_last));
    T_OK(nq_claimer_claim(claimer, lease, limit, NULL, &list, n, &wait_us, &t_last));
    nq_claimer_free(claimer);
    return list;
}

nq_claimed *t_claim(nq *q, uint64_t lease, size_t limit, size_t *n)
{
    return t_claim_queue(q, "default", lease, limit, n);
}

nq_claimed *t_claim_one(nq *q, uint64_t lease)
{
    size_t n = 0;
    nq_claimed *list = t_claim(q, lease, 2, &n);
    ck_assert_uint_eq(n, 1);
    ck_assert_ptr_null(list->next);
    return list;
}

void t_free_claimed(nq_claimed *list)
{
    nq_claimed_free(list);
}

int t_finish(nq *q, const nq_claimed *c, enum nq_outcome_kind kind, int64_t delay_us, const char *error)
{
    nq_outcome o = {.id = c->task.id,
                    .lease = c->lease,
                    .kind = kind,
                    .delay_us = delay_us,
                    .error = error,
                    .error_size = error ? strlen(error) : 0,
                    .result = 1};
    nq_outcome *list[] = {&o};
    T_OK(nq_store_finish(nq_store_of(q), list, 1, &t_last));
    return o.result;
}

static int harness_copy_info(const nq_info *info, void *arg)
{
    t_task *t = arg;
    t->info = *info;
    snprintf(t->queue, sizeof t->queue, "%s", info->queue);
    snprintf(t->group, sizeof t->group, "%s", info->group);
    snprintf(t->type, sizeof t->type, "%s", info->type);
    snprintf(t->error, sizeof t->error, "%s", info->error);
    snprintf(t->worker, sizeof t->worker, "%s", info->worker);
    t->payload = malloc(info->payload_size + 1);
    if (t->payload)
        memcpy(t->payload, info->payload, info->payload_size + 1);
    t->info.queue = t->queue;
    t->info.type = t->type;
    t->info.error = t->error;
    t->info.worker = t->worker;
    t->info.payload = t->payload;
    return 0;
}

int t_get(nq *q, nq_id id, t_task *out)
{
    memset(out, 0, sizeof *out);
    int rc = nq_get(q, id, harness_copy_info, out, &t_last);
    ck_assert_msg(rc == NQ_OK || rc == NQ_ENOTFOUND, "nq_get: %s", t_last.message);
    return rc;
}

void t_task_free(t_task *t)
{
    free(t->payload);
    t->payload = NULL;
}

int t_state(nq *q, nq_id id)
{
    t_task t;
    if (t_get(q, id, &t) != NQ_OK)
        return -1;
    t_task_free(&t);
    return (int)t.info.state;
}

struct harness_counting {
    int state;
    uint64_t n;
};

static int harness_count(const nq_queue_stats *s, void *arg)
{
    struct harness_counting *c = arg;
    const uint64_t by_state[] = {s->due + s->delayed, s->running, s->done, s->dead, s->cancelled};
    c->n += by_state[c->state];
    return 0;
}

uint64_t t_count(nq *q, int state)
{
    struct harness_counting c = {state, 0};
    T_OK(nq_stats_exact(q, harness_count, &c, &t_last));
    return c.n;
}

static int harness_now_row(const nq_val cols[], size_t ncols, void *arg)
{
    (void)ncols;
    *(int64_t *)arg = cols[0].i;
    return 0;
}

static int harness_now(nq_conn *c, void *arg, nq_err *err)
{
    return nq_sql(c, "SELECT {us:now}", NULL, 0, harness_now_row, arg, NULL, err);
}

int64_t t_now(nq *q)
{
    int64_t us = 0;
    nq_err err; /* handlers ask too */
    ck_assert_int_eq(nq_store_do(nq_store_of(q), harness_now, &us, &err), NQ_OK);
    return us;
}
