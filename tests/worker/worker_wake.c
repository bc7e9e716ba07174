/* SPDX-License-Identifier: MIT */
/* Wake-up: polling is made rare, so that only a hint explains a quick start. */
#include "suites.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "../../src/worker/worker.h"

#define WAKE_POLL    NQ_SECONDS(20)
#define WAKE_AT_ONCE 2 /* s */

/* Other processes that enqueue when they are told to, and end. */
struct wake_child {
    const char *option;
    int64_t delay_us;
};

static void wake_enqueue(int fd, void *arg)
{
    const struct wake_child *c = arg;
    for (int64_t n; read(fd, &n, sizeof n) == (ssize_t)sizeof n;) {
        nq *q = NULL;
        nq_id id = 0;
        nq_err err = {0};
        if (nq_open(&q, t_url_with(c->option), NULL, &err) != NQ_OK ||
            nq_enqueue(q, NQ_OWN_TX,
                       NQ_TASK(.type = "t", .payload = &n, .payload_size = sizeof n, .delay_us = c->delay_us),
                       &id, &err) != NQ_OK) {
            fprintf(stderr, "%s\n", err.message);
            _exit(2);
        }
        nq_close(q); /* at once: the hint must have gone out */
        t_tell(fd, id);
    }
}

static bool wake_asleep(nq_worker *p)
{
    pthread_mutex_lock(&p->lock);
    const bool asleep = p->fetcher == NQ_FETCHER_IDLE;
    pthread_mutex_unlock(&p->lock);
    return asleep;
}

static bool wake_bell_hangs(void)
{
    return t_sql("SELECT COUNT(*) FROM %s WHERE db = DATABASE() AND info LIKE 'SELECT SLEEP(%%nanoq bell%%'",
                 t_sessions()) > 0;
}

/* Until it sleeps, and does not look again by itself for a long time. The moment of that look. */
static int64_t wake_settle(nq_worker *p, bool bell)
{
    if (bell)
        T_WAIT(wake_bell_hangs(), 10);
    /* The polls that follow a hanging, or an own write: a slow disk may put them off. */
    for (uint64_t seq = 0, before = 1; seq != before;) {
        pthread_mutex_lock(&p->lock);
        before = p->seq;
        pthread_mutex_unlock(&p->lock);
        t_pause_ms(20);
        pthread_mutex_lock(&p->lock);
        seq = p->seq;
        pthread_mutex_unlock(&p->lock);
    }
    T_WAIT(wake_asleep(p), 10);
    pthread_mutex_lock(&p->lock);
    const int64_t at = t_mono() + WAKE_POLL;
    p->queues[0].next_us = at;
    p->queues[0].pause_us = WAKE_POLL;
    pthread_cond_signal(&p->fetch_cond);
    pthread_mutex_unlock(&p->lock);
    return at;
}

static nq *wake_open(const char *option)
{
    nq *q = NULL;
    T_OK(nq_open(&q, t_url_with(option), NULL, &t_last));
    return q;
}

static nq_worker *wake_start(p_thread *t, nq *q, int *n)
{
    nq_worker *p = p_new(q, P_OPTIONS(.poll_us = WAKE_POLL, .concurrency = 2), p_count, n);
    p_start(t, p);
    return p;
}

/* ---- From another process ---- */

static void wake_across(const char *option, bool bell)
{
    struct wake_child c = {.option = option};
    t_child child;
    p_thread t;
    int n = 0;
    t_fork(&child, wake_enqueue, &c);
    nq *q = wake_open(option);
    nq_worker *p = wake_start(&t, q, &n);
    for (int i = 1; i <= 5; i++) {
        wake_settle(p, bell);
        t_tell(child.fd, i);
        ck_assert_int_gt(t_hear(child.fd, 10), 0);
        T_WAIT(p_load(&n) == i, WAKE_AT_ONCE);
    }
    const int64_t start = t_mono();
    p_stop(&t);
    ck_assert_msg(t_mono() - start < NQ_SECONDS(2) * T_SLOW_FACTOR, "the stop waited for a bell");
    nq_close(q);
    shutdown(child.fd, SHUT_WR);
    ck_assert_int_eq(t_reap(&child), 0);
}

START_TEST(another_process_by_datagram)
{
    wake_across("hints=local", false);
}
END_TEST

START_TEST(another_process_through_the_server)
{
    if (T_MYSQL)
        wake_across("hints=server", true);
}
END_TEST

START_TEST(another_process_by_all_ways)
{
    wake_across("hints=all", false);
}
END_TEST

/* It is known of at once, and started when it is due. */
START_TEST(a_delayed_task_starts_in_time)
{
    struct wake_child c = {.option = "hints=local", .delay_us = NQ_MS(300)};
    t_child child;
    p_thread t;
    int n = 0;
    t_fork(&child, wake_enqueue, &c);
    nq *q = wake_open(c.option);
    nq_worker *p = wake_start(&t, q, &n);
    wake_settle(p, false);
    const int64_t start = t_mono();
    t_tell(child.fd, 1);
    t_hear(child.fd, 10);
    T_WAIT(p_load(&n) == 1, WAKE_AT_ONCE);
    ck_assert_int_ge(t_mono() - start, NQ_MS(300));
    p_stop(&t);
    nq_close(q);
    t_kill(&child, SIGKILL);
}
END_TEST

extern char **environ;

START_TEST(plain_sql_by_the_sqlite3_shell)
{
    p_thread t;
    int n = 0;
    if (!T_SQLITE)
        return;
    nq *q = wake_open("hints=local");
    nq_worker *p = wake_start(&t, q, &n);
    for (int i = 1; i <= 3; i++) {
        char sql[120];
        pid_t pid;
        int status = 0;
        wake_settle(p, false);
        snprintf(sql, sizeof sql,
                 "PRAGMA busy_timeout=5000; INSERT INTO nanoq_tasks (type, payload) VALUES ('t', %d)", i);
        char *argv[] = {(char *)"sqlite3", (char *)"queue.db", sql, NULL};
        const int rc = posix_spawnp(&pid, "sqlite3", NULL, NULL, argv, environ);
        if (rc == ENOENT) {
            printf("skipped: no sqlite3\n");
            break;
        }
        ck_assert_int_eq(rc, 0);
        ck_assert_int_eq(waitpid(pid, &status, 0), pid);
        ck_assert_int_eq(status, 0);
        T_WAIT(p_load(&n) == i, WAKE_AT_ONCE);
    }
    p_stop(&t);
    nq_close(q);
}
END_TEST

/* ---- From the caller's transaction, from the administrator ---- */

static void wake_hinted(const char *option, bool same_handle)
{
    p_thread t;
    int n = 0;
    nq *q = wake_open(option), *other = same_handle ? q : wake_open(option);
    nq_worker *p = wake_start(&t, q, &n);
    t_conn *c = t_connect();
    wake_settle(p, false);
    t_begin(c);
    T_OK(nq_enqueue(other, t_tx(c), NQ_TASK(.type = "t"), NULL, &t_last));
    t_run(c, "COMMIT");
    if (same_handle) { /* hints=none: nobody knows */
        t_pause_ms(50);
        ck_assert_int_eq(p_load(&n), 0);
    }
    nq_hint(other, NULL);
    T_WAIT(p_load(&n) == 1, WAKE_AT_ONCE);
    p_stop(&t);
    t_disconnect(c);
    if (!same_handle)
        nq_close(other);
    nq_close(q);
}

START_TEST(nq_hint_wakes_the_own_worker)
{
    wake_hinted("hints=none", true);
}
END_TEST

START_TEST(nq_hint_wakes_another_handles)
{
    wake_hinted("hints=local", false);
}
END_TEST

START_TEST(nq_hint_in_a_child_does_nothing)
{
    nq *q = t_open();
    T_ADD(q, .type = "t");
    int status = -1;
    pid_t pid = fork();
    if (pid == 0) {
        nq_hint(q, "default");
        nq_hint(NULL, NULL);
        nq_close(q);
        _exit(0);
    }
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_int_eq(status, 0);
    nq_close(q);
}
END_TEST

START_TEST(nq_retry_wakes)
{
    p_thread t;
    int n = 0;
    nq *q = wake_open("hints=local"), *other = wake_open("hints=local");
    const nq_id id = T_ADD(other, .type = "t", .delay_us = NQ_HOURS(1));
    nq_worker *p = wake_start(&t, q, &n);
    wake_settle(p, false);
    T_OK(nq_retry(other, id, &t_last));
    T_WAIT(p_load(&n) == 1, WAKE_AT_ONCE);
    p_stop(&t);
    nq_close(other);
    nq_close(q);
}
END_TEST

static nq_verdict wake_wait_cancelled(nq_ctx *ctx, const nq_task *task, void *udata)
{
    (void)task;
    struct pollfd fd = {.fd = nq_ctx_fd(ctx), .events = POLLIN};
    __atomic_add_fetch((int *)udata, 1, __ATOMIC_SEQ_CST);
    poll(&fd, 1, -1);
    return NQ_RETRY;
}

/* What a worker that stops gives back, another takes. */
START_TEST(a_stop_wakes_others)
{
    p_thread stopped, t;
    int running = 0, n = 0;
    nq *q = wake_open("hints=local"), *other = wake_open("hints=local");
    T_ADD(other, .type = "t"); /* q would remember for a while that nobody listened */
    p_start(&stopped, p_new(q, P_OPTIONS(.shutdown_timeout_us = NQ_ZERO), wake_wait_cancelled, &running));
    T_WAIT(p_load(&running) == 1, 10);
    nq_worker *p = wake_start(&t, other, &n);
    wake_settle(p, false);
    p_stop(&stopped);
    T_WAIT(p_load(&n) == 1, WAKE_AT_ONCE);
    p_stop(&t);
    nq_close(other);
    nq_close(q);
}
END_TEST

/* ---- The sockets ---- */

/* Addresses that this process is bound to; answers how many. */
static int wake_addresses(struct sockaddr_un at[], socklen_t size[], int max)
{
    int found = 0;
    for (int fd = 3; fd < 512 && found < max; fd++) {
        size[found] = sizeof at[found];
        if (getsockname(fd, (struct sockaddr *)&at[found], &size[found]) == 0 &&
            at[found].sun_family == AF_UNIX && size[found] > 8 && at[found].sun_path[0] == '\0' &&
            strncmp(at[found].sun_path + 1, "nanoq.", 6) == 0)
            found++;
    }
    return found;
}

/* Each has a lease of its own. */
static uint64_t wake_looks(nq_worker *p)
{
    pthread_mutex_lock(&p->lock);
    const uint64_t looks = p->seq;
    pthread_mutex_unlock(&p->lock);
    return looks;
}

START_TEST(garbage_does_no_harm)
{
    static const size_t sizes[] = {0, 1, 7, 8, 9, 16, 5000};
    struct sockaddr_un at[2];
    socklen_t size[2];
    char junk[5000];
    p_thread t;
    int n = 0;
    memset(junk, 0x5a, sizeof junk);
    nq *q = wake_open("hints=local"), *other = wake_open("hints=local");
    nq_worker *p = wake_start(&t, q, &n);
    T_WAIT(wake_addresses(at, size, 2) == 1, 10);
    const int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    /* A write of the duties' may have it poll just then: not each time. */
    bool polled = true;
    for (int tries = 0; polled && tries < 5; tries++) {
        const int64_t look = wake_settle(p, false);
        for (int i = 0; i < 700; i++)
            sendto(fd, junk, sizes[i % 7], MSG_DONTWAIT, (struct sockaddr *)&at[0], size[0]);
        t_pause_ms(20);
        pthread_mutex_lock(&p->lock);
        polled = p->queues[0].next_us != look;
        pthread_mutex_unlock(&p->lock);
    }
    ck_assert(!polled);
    /* Rightly made, in masses: every look finds nothing, and they become rare. */
    const uint64_t hint = nq_hint_queue("default");
    const uint64_t before = wake_looks(p);
    const int64_t until = t_mono() + NQ_MS(300);
    while (t_mono() < until)
        sendto(fd, &hint, sizeof hint, MSG_DONTWAIT, (struct sockaddr *)&at[0], size[0]);
    const uint64_t looks = wake_looks(p) - before;
    ck_assert_msg(looks < 200, "%llu looks", (unsigned long long)looks);
    close(fd);
    T_ADD(other, .type = "t");
    T_WAIT(p_load(&n) == 1, WAKE_AT_ONCE);
    p_stop(&t);
    nq_close(other);
    nq_close(q);
}
END_TEST

/* Sends hints without pause, as another user, until it is killed. */
static void wake_strange(int fd, void *arg)
{
    struct sockaddr_un at[2];
    socklen_t size[2];
    const uint64_t hint = nq_hint_queue("default");
    (void)arg;
    if (setuid(65534) != 0 || wake_addresses(at, size, 2) != 1)
        _exit(2);
    const int out = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    t_tell(fd, 1);
    for (;;)
        sendto(out, &hint, sizeof hint, 0, (struct sockaddr *)&at[0], size[0]);
}

/* A user who has nothing to do with us can make us look, but not often, nor keep those from it who have. */
START_TEST(hints_of_other_users)
{
    struct sockaddr_un at[2];
    socklen_t size[2];
    p_thread t;
    int n = 0;
    nq *q = wake_open("hints=local"), *other = wake_open("hints=local");
    nq_worker *p = wake_start(&t, q, &n);
    T_WAIT(wake_addresses(at, size, 2) == 1, 10);
    wake_settle(p, false);
    const uint64_t before = wake_looks(p);
    t_child child;
    t_fork(&child, wake_strange, NULL);
    ck_assert_int_eq(t_hear(child.fd, 10), 1);
    t_pause_ms(700);
    const uint64_t looks = wake_looks(p) - before; /* some 40, most of them at first */
    ck_assert_msg(looks < 80, "%llu looks", (unsigned long long)looks);
    T_ADD(other, .type = "t");
    T_WAIT(p_load(&n) == 1, WAKE_AT_ONCE);
    t_kill(&child, SIGKILL);
    p_stop(&t);
    nq_close(other);
    nq_close(q);
}
END_TEST

/* Listeners as workers have them. */
static void wake_places(nq *const q[], int fd[], int place[], int n)
{
    for (int i = 0; i < n; i++)
        fd[i] = nq_hints_listen(nq_hints_of(q[i]), &place[i]);
}

/* How many datagrams wait. */
static int wake_heard(int fd, uint64_t queue)
{
    uint64_t hint[2];
    int n = 0;
    while (recv(fd, hint, sizeof hint, MSG_DONTWAIT) == (ssize_t)sizeof hint)
        n += hint[0] == queue;
    return n;
}

START_TEST(of_many_workers_some_in_turn_are_told_of_tasks_and_all_of_requests_to_cancel)
{
    enum { MANY = 12, TOLD = 8 };
    nq *q[MANY], *other = wake_open("hints=local");
    int fd[MANY], place[MANY], heard, once = 0, twice = 0;
    for (int i = 0; i < MANY; i++)
        q[i] = wake_open("hints=local");
    wake_places(q, fd, place, MANY);
    nq_hint(other, NULL);
    nq_hint(other, NULL);
    for (int i = 0; i < MANY; i++) {
        heard = wake_heard(fd[i], nq_hint_queue("default"));
        once += heard == 1;
        twice += heard == 2;
    }
    ck_assert_int_eq(once + twice, MANY);
    ck_assert_int_eq(once + 2 * twice, 2 * TOLD);
    nq_wake_look(other);
    for (int i = 0; i < MANY; i++)
        ck_assert_int_eq(wake_heard(fd[i], NQ_HINT_CANCEL), 1);
    for (int i = 0; i < MANY; i++) {
        nq_hints_unlisten(nq_hints_of(q[i]), fd[i], place[i]);
        nq_close(q[i]);
    }
    nq_close(other);
}
END_TEST

START_TEST(more_workers_than_places)
{
    enum { PLACES = 32, MANY = PLACES + 1 };
    struct sockaddr_un at[2];
    socklen_t size[2];
    nq *q = wake_open("hints=local"), *other = wake_open("hints=local"), *all[MANY];
    int fd[MANY], place[MANY], n = 0;
    p_thread t;
    for (int i = 0; i < MANY; i++)
        all[i] = other;
    wake_places(all, fd, place, MANY);
    ck_assert_int_eq(fd[PLACES], -1);
    /* A worker without a place works all the same; */
    nq_worker *p = wake_start(&t, q, &n);
    wake_settle(p, false);
    nq_hint(q, NULL);
    p_stop(&t);
    for (int i = 0; i < PLACES; i++)
        nq_hints_unlisten(nq_hints_of(other), fd[i], place[i]);
    ck_assert_int_eq(wake_addresses(at, size, 2), 0);
    wake_start(&t, q, &n); /* and a place that was given up is free again. */
    T_WAIT(wake_addresses(at, size, 2) == 1, 10);
    ck_assert_int_eq(((const char *)&at[0])[size[0] - 1], '0');
    T_ADD(other, .type = "t");
    T_WAIT(p_load(&n) == 1, WAKE_AT_ONCE);
    p_stop(&t);
    nq_close(q);
    nq_close(other);
}
END_TEST

START_TEST(the_option)
{
    struct sockaddr_un at[2];
    socklen_t size[2];
    p_thread t;
    nq *q = NULL;
    int n = 0;
    T_FAILS(nq_open(&q, t_url_with("hints=some"), NULL, &t_last), NQ_EINVAL);
    q = wake_open("hints=none");
    nq_worker *p = wake_start(&t, q, &n);
    wake_settle(p, false);
    ck_assert_int_eq(wake_addresses(at, size, 2), 0);
    if (T_MYSQL)
        ck_assert(!wake_bell_hangs());
    p_stop(&t);
    nq_close(q);
}
END_TEST

Suite *suite_wake(void)
{
    Suite *s = suite_create("wake");
    TCase *c = t_case(s, "other processes", 60);
    tcase_add_test(c, another_process_by_datagram);
    tcase_add_test(c, another_process_through_the_server);
    tcase_add_test(c, another_process_by_all_ways);
    tcase_add_test(c, a_delayed_task_starts_in_time);
    tcase_add_test(c, plain_sql_by_the_sqlite3_shell);
    c = t_case(s, "nq_hint", 60);
    tcase_add_test(c, nq_hint_wakes_the_own_worker);
    tcase_add_test(c, nq_hint_wakes_another_handles);
    tcase_add_test(c, nq_hint_in_a_child_does_nothing);
    tcase_add_test(c, nq_retry_wakes);
    tcase_add_test(c, a_stop_wakes_others);
    c = t_case(s, "sockets", 60);
    tcase_add_test(c, garbage_does_no_harm);
    tcase_add_loop_test(c, hints_of_other_users, 0, geteuid() == 0);
    tcase_add_test(c, of_many_workers_some_in_turn_are_told_of_tasks_and_all_of_requests_to_cancel);
    tcase_add_test(c, more_workers_than_places);
    tcase_add_test(c, the_option);
    return s;
}
