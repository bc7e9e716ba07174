/* SPDX-License-Identifier: MIT */
/* Tasks that are handed to an idle worker as they are enqueued. */
#include "suites.h"

#include <fcntl.h>
#include <sys/socket.h>

#include "../../src/api/api.h"
#include "../../src/worker/worker.h"

/* Polling is made rare: what starts at once was handed over, or a hint led to it. */
#define LOANS_POLL NQ_SECONDS(20)
#define LOANS_SOON 5 /* s */

static nq_worker *loans_start(p_thread *t, nq *q, unsigned concurrency, int *n)
{
    nq_worker *p = p_new(q, P_OPTIONS(.poll_us = LOANS_POLL, .concurrency = concurrency), p_count, n);
    p_start(t, p);
    return p;
}

/* A loan of this handle's worker, as soon as it is idle. */
static nq_loan *loans_of(nq *q)
{
    nq_loan *loan = NULL;
    T_WAIT((loan = nq_lend(q, nq_hint_queue("default"))), 20);
    return loan;
}

static nq_id loans_insert(nq *q, nq_loan *loan, const char *payload, nq_claimed **claim)
{
    nq_birth birth = {.lease = loan->lease};
    const nq_new task = {.queue = "default",
                         .type = "t",
                         .max_retries = 3,
                         .timeout_ms = 60000,
                         .payload = payload,
                         .payload_size = strlen(payload),
                         .unique = NQ_UNIQUE_NONE,
                         .birth = &birth};
    int result = NQ_OK;
    nq_id id = 0;
    T_OK(nq_store_enqueue(nq_store_of(q), NQ_OWN_TX, &task, 1, &id, &result, &t_last));
    ck_assert(birth.did);
    *claim = nq_claimed_born(&task, loan->lease);
    (*claim)->task.id = id;
    (*claim)->task.created_at_us = (*claim)->task.run_at_us = birth.at_us;
    return id;
}

static void loans_idle(nq *q)
{
    nq_loan *loan = loans_of(q);
    loan->unused(loan, false);
}

static bool loans_stopping(nq_worker *p)
{
    pthread_mutex_lock(&p->lock);
    const bool stopping = p->phase == NQ_PHASE_STOP;
    pthread_mutex_unlock(&p->lock);
    return stopping;
}

static uint64_t loans_member(nq_worker *p)
{
    pthread_mutex_lock(&p->lock);
    const uint64_t member = p->member;
    pthread_mutex_unlock(&p->lock);
    return member;
}

static sem_t loans_begun, loans_go;

static nq_verdict loans_hold(nq_ctx *ctx, const nq_task *task, void *udata)
{
    (void)ctx;
    (void)task;
    (void)udata;
    t_post(&loans_begun);
    t_await(&loans_go, 60);
    return NQ_DONE;
}

START_TEST(an_idle_worker_has_a_task_as_soon_as_it_is_enqueued)
{
    nq *q = t_open();
    p_thread t;
    int handed = 0;
    sem_init(&loans_begun, 0, 0);
    sem_init(&loans_go, 0, 0);
    nq_worker *p = p_new(q, P_OPTIONS(.poll_us = LOANS_POLL, .concurrency = 2), loans_hold, NULL);
    p_start(&t, p);
    for (int i = 1; i <= 20; i++) {
        loans_idle(q);
        const nq_id id = T_ADD(q, .type = "t", .unique = NQ_UNIQUE_NONE);
        handed += t_state(q, id) == NQ_STATE_RUNNING; /* unless it looked at its queue just then */
        t_await(&loans_begun, LOANS_SOON);
        t_post(&loans_go);
        T_WAIT(t_state(q, id) == -1, LOANS_SOON);
    }
    ck_assert_int_ge(handed, 10);
    nq_worker_totals totals;
    nq_worker_stats(p, &totals, sizeof totals);
    ck_assert_uint_eq(totals.claimed, 20);
    T_WAIT((nq_worker_stats(p, &totals, sizeof totals), totals.done == 20), LOANS_SOON);
    p_stop(&t);
    nq_close(q);
}
END_TEST

START_TEST(a_busy_worker_lends_nothing_nor_one_before_whom_a_task_is_due)
{
    nq *q = t_open();
    p_thread t;
    sem_init(&loans_begun, 0, 0);
    sem_init(&loans_go, 0, 0);
    nq_worker *p = p_new(q, P_OPTIONS(.poll_us = LOANS_POLL, .concurrency = 1), loans_hold, NULL);
    p_start(&t, p);
    loans_idle(q);
    /* One loan for one thread. */
    nq_loan *loan = loans_of(q);
    ck_assert_ptr_null(nq_lend(q, nq_hint_queue("default")));
    loan->unused(loan, false);
    ck_assert_ptr_null(nq_lend(q, nq_hint_queue("another")));
    T_ADD(q, .type = "t", .unique = NQ_UNIQUE_NONE);
    t_await(&loans_begun, 20);
    ck_assert_ptr_null(nq_lend(q, nq_hint_queue("default")));
    const nq_id waits = T_ADD(q, .type = "t", .unique = NQ_UNIQUE_NONE);
    ck_assert_int_eq(t_state(q, waits), NQ_STATE_WAITING);
    t_post(&loans_go);
    t_post(&loans_go);
    t_await(&loans_begun, 20);
    T_WAIT(t_state(q, waits) == -1, LOANS_SOON);
    p_stop(&t);
    nq_close(q);
}
END_TEST

START_TEST(delayed_tasks_and_several_at_once_wait_for_a_claim)
{
    nq *q = t_open();
    p_thread t;
    int n = 0;
    loans_start(&t, q, 2, &n);
    loans_idle(q);
    const nq_id later = T_ADD(q, .type = "t", .delay_us = NQ_HOURS(1));
    ck_assert_int_eq(t_state(q, later), NQ_STATE_WAITING);
    loans_idle(q);
    nq_id ids[2];
    T_OK(nq_enqueue_many(q, NQ_OWN_TX, (nq_task_spec[]){*NQ_TASK(.type = "a"), *NQ_TASK(.type = "b")}, 2, ids,
                         NULL, &t_last));
    T_WAIT(p_load(&n) == 2, LOANS_SOON);
    p_stop(&t);
    nq_close(q);
}
END_TEST

START_TEST(what_the_producer_does_not_know_the_worker_finds)
{
    nq *q = t_open();
    p_thread t;
    nq_claimed *claim = NULL;
    int n = 0;
    nq_worker *p = loans_start(&t, q, 2, &n);
    /* It was committed, it was not. */
    nq_loan *loan = loans_of(q), *none = loans_of(q);
    const uint64_t none_lease = none->lease;
    const nq_id id = loans_insert(q, loan, "1", &claim);
    loan->unused(loan, true);
    none->unused(none, true);
    T_WAIT(t_state(q, id) == -1, LOANS_SOON);
    ck_assert_int_eq(p_load(&n), 1);
    pthread_mutex_lock(&p->lock);
    ck_assert_uint_eq(p->ndoubts, 1);
    p->doubts[0].since_us -= NQ_MINUTES(5);
    pthread_mutex_unlock(&p->lock);
    const uint64_t member = NQ_LEASE_WORKER(none_lease);
    /* In the end it enters anew: who comes under that lease is an orphan. */
    T_WAIT(loans_member(p) != member && loans_member(p), 20);
    T_ADD(q, .type = "t");
    T_WAIT(p_load(&n) == 2, LOANS_SOON);
    t_free_claimed(claim);
    p_stop(&t);
    nq_close(q);
}
END_TEST

static void *loans_stop(void *p)
{
    nq_worker_stop(p);
    return NULL;
}

START_TEST(a_stop_waits_for_a_loan_and_gives_the_task_back)
{
    nq *q = t_open();
    p_thread t;
    pthread_t stopper;
    nq_claimed *claim = NULL;
    int n = 0;
    nq_worker *p = loans_start(&t, q, 2, &n);
    nq_loan *loan = loans_of(q);
    const nq_id id = loans_insert(q, loan, "1", &claim);
    t_thread(&stopper, loans_stop, p);
    T_WAIT(loans_stopping(p), 10);
    ck_assert_ptr_null(nq_lend(q, nq_hint_queue("default")));
    ck_assert(loan->born(loan, claim));
    pthread_join(stopper, NULL);
    ck_assert_int_eq(p_join(&t), NQ_OK);
    ck_assert_int_eq(p_load(&n), 0);
    ck_assert_int_eq(t_state(q, id), NQ_STATE_WAITING);
    ck_assert_int_eq(t_sql("SELECT attempts + crashes FROM nanoq_tasks"), 0);
    nq_close(q);
}
END_TEST

START_TEST(a_worker_that_ended_takes_nothing_and_the_lease_is_an_orphans)
{
    nq *q = t_open();
    p_thread t;
    nq_claimed *claim = NULL;
    int n = 0;
    nq_worker *p = p_new(
        q, P_OPTIONS(.poll_us = LOANS_POLL, .shutdown_timeout_us = NQ_MS(1), .cancel_grace_us = NQ_MS(1)),
        p_count, &n);
    p_start(&t, p);
    nq_loan *loan = loans_of(q);
    const nq_id id = loans_insert(q, loan, "1", &claim);
    nq_worker_stop(p);
    p_join(&t);
    ck_assert(!loan->born(loan, claim)); /* the producer's to release */
    ck_assert_int_eq(t_state(q, id), NQ_STATE_RUNNING);
    ck_assert_int_eq(t_finish(q, claim, NQ_OUT_RELEASE, 0, NULL), NQ_OK);
    ck_assert_int_eq(t_state(q, id), NQ_STATE_WAITING);
    t_free_claimed(claim);
    nq_close(q);
}
END_TEST

/* ---- Another handle, as in another process ---- */

static nq *loans_open(const char *option)
{
    nq *q = NULL;
    T_OK(nq_open(&q, t_url_with(option), NULL, &t_last));
    return q;
}

/* A worker that has heard of this producer offers it something. */
static nq_loan *loans_across(nq *producer)
{
    nq_loan *loan = NULL;
    nq_hint(producer, NULL);
    T_WAIT((loan = nq_lend(producer, nq_hint_queue("default"))), 20);
    return loan;
}

START_TEST(across_processes_each_task_runs_once)
{
    nq *q = loans_open("hints=local"), *producer = loans_open("hints=local");
    p_thread t;
    int n = 0;
    loans_start(&t, q, 2, &n);
    loans_idle(q);
    nq_loan *loan = loans_across(producer);
    loan->unused(loan, false);
    for (int i = 1; i <= 50; i++) {
        T_ADD(producer, .type = "t", .unique = NQ_UNIQUE_NONE);
        T_WAIT(p_load(&n) == i, LOANS_SOON);
    }
    T_WAIT(t_count(q, NQ_STATE_RUNNING) == 0, LOANS_SOON);
    p_stop(&t);
    ck_assert_int_eq(p_load(&n), 50);
    nq_close(producer);
    nq_close(q);
}
END_TEST

START_TEST(a_producer_that_says_nothing_more_leaves_a_task_that_is_found)
{
    nq *q = loans_open("hints=local"), *producer = loans_open("hints=local");
    p_thread t;
    nq_claimed *claim = NULL;
    int n = 0;
    loans_start(&t, q, 2, &n);
    loans_idle(q);
    nq_loan *loan = loans_across(producer);
    const nq_id id = loans_insert(producer, loan, "1", &claim);
    T_WAIT(t_state(q, id) == -1, LOANS_SOON);
    ck_assert_int_eq(p_load(&n), 1);
    /* Late, and twice: it runs no more. */
    nq_claimed *copy = NULL;
    nq_buf packed = {0};
    nq_claimed_pack(&packed, claim);
    copy = nq_claimed_unpack(packed.p, packed.n, loan->lease);
    ck_assert(loan->born(loan, copy));
    T_ADD(producer, .type = "last", .unique = NQ_UNIQUE_NONE);
    T_WAIT(p_load(&n) == 2, LOANS_SOON);
    nq_buf_free(&packed);
    t_free_claimed(claim);
    p_stop(&t);
    ck_assert_int_eq(p_load(&n), 2);
    nq_close(producer);
    nq_close(q);
}
END_TEST

START_TEST(a_worker_that_stopped_hands_it_back_to_the_producer)
{
    nq *q = loans_open("hints=local"), *producer = loans_open("hints=local");
    p_thread t;
    nq_claimed *claim = NULL;
    int n = 0;
    loans_start(&t, q, 2, &n);
    loans_idle(q);
    nq_loan *loan = loans_across(producer);
    loans_insert(producer, loan, "1", &claim);
    p_stop(&t);
    ck_assert(!loan->born(loan, claim));
    t_free_claimed(claim);
    /* And nothing is lent by what is gone. */
    const nq_id id = T_ADD(producer, .type = "t", .unique = NQ_UNIQUE_NONE);
    ck_assert_int_eq(t_state(q, id), NQ_STATE_WAITING);
    nq_close(producer);
    nq_close(q);
}
END_TEST

START_TEST(what_no_producer_says_is_heard_and_does_nothing)
{
    nq *q = loans_open("hints=local"), *producer = loans_open("hints=local");
    p_thread t;
    uint64_t seed = t_seed();
    int n = 0;
    nq_worker *p = loans_start(&t, q, 2, &n);
    loans_idle(q);
    const uint64_t member = loans_member(p);
    for (int i = 0; i < 3000; i++) {
        char bytes[256];
        nq_loan_message m = {NQ_LOAN_MAGIC, t_rand(&seed) % 8, p->queues[0].hint, t_rand(&seed) >> 1, 0};
        if (i % 3 == 0)
            m.lease = NQ_LEASE(member, t_rand(&seed) % 40);
        for (size_t k = 0; k < sizeof bytes; k++)
            bytes[k] = (char)t_rand(&seed);
        memcpy(bytes, &m, sizeof m);
        nq_loans_heard(p, bytes, sizeof m + t_rand(&seed) % (sizeof bytes - sizeof m));
    }
    nq_hint(producer, NULL);
    T_ADD(producer, .type = "t");
    T_WAIT(p_load(&n) == 1, 20);
    p_stop(&t);
    ck_assert_int_eq(p_load(&n), 1);
    nq_close(producer);
    nq_close(q);
}
END_TEST

/* From a handler that holds it on, though the settings are not read yet. */
START_TEST(a_queue_that_is_held_lends_nothing)
{
    nq *q = t_open();
    p_thread t;
    int n = 0;
    nq_worker *p = loans_start(&t, q, 2, &n);
    loans_idle(q);
    pthread_mutex_lock(&p->lock);
    p->queues[0].held_until_us = nq_mono_us() + NQ_HOURS(1);
    nq_loan *loan = NULL;
    pthread_mutex_unlock(&p->lock);
    loan = nq_lend(q, nq_hint_queue("default"));
    ck_assert_ptr_null(loan);
    p_stop(&t);
    nq_close(q);
}
END_TEST

static int loans_free_fd(void)
{
    const int fd = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 0);
    ck_assert_int_ge(fd, 0);
    close(fd);
    return fd;
}

/* Anybody of this host may send them, and the kernel has made them ours. */
START_TEST(descriptors_that_nobody_expects_are_closed)
{
    int ends[2], passed = -1;
    char hint[8];
    nq_hint_from from;
    const int yes = 1;
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, ends), 0);
    ck_assert_int_eq(setsockopt(ends[1], SOL_SOCKET, SO_PASSCRED, &yes, sizeof yes), 0);
    const int first = loans_free_fd();
    for (int n = 1; n <= 3; n++)
        for (int expected = 0; expected < 2; expected++) {
            union {
                char space[CMSG_SPACE(3 * sizeof(int))];
                struct cmsghdr align;
            } control = {{0}};
            struct iovec iov = {(char[]){"hi"}, 2};
            struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control};
            msg.msg_controllen = CMSG_SPACE((size_t)n * sizeof(int));
            control.align.cmsg_level = SOL_SOCKET;
            control.align.cmsg_type = SCM_RIGHTS;
            control.align.cmsg_len = CMSG_LEN((size_t)n * sizeof(int));
            for (int i = 0; i < n; i++)
                memcpy(CMSG_DATA(&control.align) + (size_t)i * sizeof(int), &ends[0], sizeof(int));
            ck_assert_int_eq(sendmsg(ends[0], &msg, 0), 2);
            ck_assert_int_eq(nq_hints_read(ends[1], hint, sizeof hint, &from, expected ? &passed : NULL), 2);
            ck_assert_int_eq(passed >= 0, expected && n == 1);
            if (passed >= 0)
                close(passed);
            passed = -1;
            ck_assert_int_eq(loans_free_fd(), first);
        }
    close(ends[0]);
    close(ends[1]);
}
END_TEST

Suite *suite_loans(void)
{
    Suite *s = suite_create("loans");
    TCase *c = t_case(s, "in one process", 60);
    tcase_add_test(c, an_idle_worker_has_a_task_as_soon_as_it_is_enqueued);
    tcase_add_test(c, a_busy_worker_lends_nothing_nor_one_before_whom_a_task_is_due);
    tcase_add_test(c, delayed_tasks_and_several_at_once_wait_for_a_claim);
    tcase_add_test(c, what_the_producer_does_not_know_the_worker_finds);
    tcase_add_test(c, a_stop_waits_for_a_loan_and_gives_the_task_back);
    tcase_add_test(c, a_worker_that_ended_takes_nothing_and_the_lease_is_an_orphans);
    tcase_add_test(c, a_queue_that_is_held_lends_nothing);
    c = t_case(s, "across processes", 60);
    tcase_add_test(c, descriptors_that_nobody_expects_are_closed);
    tcase_add_test(c, across_processes_each_task_runs_once);
    tcase_add_test(c, a_producer_that_says_nothing_more_leaves_a_task_that_is_found);
    tcase_add_test(c, a_worker_that_stopped_hands_it_back_to_the_producer);
    tcase_add_test(c, what_no_producer_says_is_heard_and_does_nothing);
    return s;
}
