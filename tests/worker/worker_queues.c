/* SPDX-License-Identifier: MIT */
/* Several queues of one worker: their limits, in threads and in children, and their share of the turns. */
#include "suites.h"

#include "../../src/worker/worker.h"

/* How many tasks of each queue run, in memory that children share. */
struct queues_gauge {
    pthread_mutex_t mutex;
    pthread_cond_t moved;
    int running[2], most[2], runs[2];
    int want; /* all of them wait for so many at once */
    bool met;
};

static struct queues_gauge *queues_gauge_new(int want)
{
    struct queues_gauge *g = p_shared(sizeof *g);
    pthread_mutexattr_t mutex;
    pthread_condattr_t cond;
    pthread_mutexattr_init(&mutex);
    pthread_mutexattr_setpshared(&mutex, PTHREAD_PROCESS_SHARED);
    pthread_mutex_init(&g->mutex, &mutex);
    pthread_condattr_init(&cond);
    pthread_condattr_setpshared(&cond, PTHREAD_PROCESS_SHARED);
    pthread_cond_init(&g->moved, &cond);
    g->want = want;
    return g;
}

static nq_verdict queues_meet(nq_ctx *ctx, const nq_task *task, void *udata)
{
    struct queues_gauge *g = udata;
    const int of = strcmp(task->queue, "few") == 0 ? 0 : 1;
    struct timespec until;
    (void)ctx;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += 20 * T_SLOW_FACTOR;
    pthread_mutex_lock(&g->mutex);
    g->runs[of]++;
    if (++g->running[of] > g->most[of])
        g->most[of] = g->running[of];
    if (g->running[0] + g->running[1] == g->want) {
        g->met = true;
        pthread_cond_broadcast(&g->moved);
    }
    for (int rc = 0; !g->met && rc == 0;)
        rc = pthread_cond_timedwait(&g->moved, &g->mutex, &until);
    g->running[of]--;
    pthread_mutex_unlock(&g->mutex);
    return NQ_DONE;
}

static void queues_add(nq *q, const char *queue, int n)
{
    for (int i = 0; i < n; i++)
        T_ADD(q, .type = "t", .queue = queue, .unique = NQ_UNIQUE_NONE);
}

/* 2 of the limited queue and 6 of the other must run at once, and never 3 of the first. */
static void queues_limited(const nq_handle_options *how)
{
    nq *q = t_open();
    struct queues_gauge *g = queues_gauge_new(8);
    const nq_queue_options queues[] = {NQ_QUEUE(.name = "few", .concurrency = 2), NQ_QUEUE(.name = "many")};
    nq_worker *p = p_new(
        q, P_OPTIONS(.queues = queues, .nqueues = 2, .concurrency = 8, .drain = NQ_DRAIN_DUE), NULL, NULL);
    T_OK(nq_worker_handle(p, "t", queues_meet, g, how, &t_last));
    if (how)
        T_OK(nq_worker_fork(p, &t_last));
    queues_add(q, "few", 40);
    queues_add(q, "many", 40);
    p_run(p);
    ck_assert(g->met);
    ck_assert_int_eq(g->most[0], 2);
    ck_assert_int_ge(g->most[1], 6);
    ck_assert_int_eq(g->runs[0], 40);
    ck_assert_int_eq(g->runs[1], 40);
    nq_close(q);
}

START_TEST(a_queue_keeps_to_its_limit_and_leaves_the_other_threads_to_others)
{
    queues_limited(NULL);
}
END_TEST

START_TEST(a_queue_keeps_to_its_limit_in_children)
{
    queues_limited(P_ISOLATED(.nice = 0));
}
END_TEST

/* ---- What is at its limit ---- */

struct queues_door {
    int waiting, runs;
    int open;
};

static nq_verdict queues_wait(nq_ctx *ctx, const nq_task *task, void *udata)
{
    struct queues_door *d = udata;
    (void)task;
    __atomic_add_fetch(&d->waiting, 1, __ATOMIC_SEQ_CST);
    while (!p_load(&d->open) && nq_ctx_cause(ctx) == NQ_CAUSE_NONE)
        t_pause_ms(1);
    __atomic_add_fetch(&d->runs, 1, __ATOMIC_SEQ_CST);
    return NQ_DONE;
}

/* With a poll interval that is longer than the test: it is not the clock that brings the tasks. */
static nq_worker *queues_patient(nq *q, unsigned limit, nq_handler_fn handler, void *udata)
{
    const nq_queue_options queues[] = {NQ_QUEUE(.name = "few", .concurrency = limit),
                                       NQ_QUEUE(.name = "many")};
    return p_new(q,
                 P_OPTIONS(.queues = queues, .nqueues = 2, .concurrency = 8,
                           .poll_us = NQ_SECONDS(60 * T_SLOW_FACTOR)),
                 handler, udata);
}

START_TEST(what_a_queue_may_not_run_stays_in_the_database)
{
    nq *q = t_open();
    struct queues_door door = {0};
    int other = 0;
    queues_add(q, "few", 20);
    nq_worker *p = queues_patient(q, 3, queues_wait, &door);
    T_OK(nq_worker_handle(p, "other", p_count, &other, NULL, &t_last));
    p_thread t;
    p_start(&t, p);
    T_WAIT(p_load(&door.waiting) == 3, 10);
    /* A task of the other queue is run meanwhile, and as soon as it is there. */
    for (int i = 1; i <= 5; i++) {
        T_ADD(q, .type = "other", .queue = "many", .unique = NQ_UNIQUE_NONE);
        T_WAIT(p_load(&other) == i, 10);
    }
    ck_assert_int_eq(p_load(&door.waiting), 3);
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_tasks WHERE queue = 'few' AND state = 1"), 3);
    __atomic_store_n(&door.open, 1, __ATOMIC_SEQ_CST);
    /* Each end makes room, and that is noticed at once. */
    T_WAIT(p_load(&door.runs) == 20, 20);
    p_stop(&t);
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_tasks"), 0);
    nq_close(q);
}
END_TEST

static nq_verdict queues_end(nq_ctx *ctx, const nq_task *task, void *udata)
{
    int *runs = udata;
    const int n = __atomic_add_fetch(runs, 1, __ATOMIC_SEQ_CST);
    nq_ctx_set_delay(ctx, 0);
    if (task->attempt == 1 && n % 3 == 0)
        return nq_fail(ctx, NQ_RETRY, "once more");
    return n % 5 == 0 ? nq_fail(ctx, NQ_DISCARD, "no") : NQ_DONE;
}

START_TEST(however_an_attempt_ends_there_is_room_again)
{
    nq *q = t_open();
    int runs = 0;
    queues_add(q, "few", 60);
    nq_worker *p = queues_patient(q, 2, queues_end, &runs);
    p_thread t;
    p_start(&t, p);
    T_WAIT(t_sql("SELECT COUNT(*) FROM nanoq_tasks") == 0, 20);
    pthread_mutex_lock(&p->lock);
    ck_assert_uint_eq(p->queues[0].in_hand, 0);
    pthread_mutex_unlock(&p->lock);
    ck_assert_int_ge(p_load(&runs), 60);
    p_stop(&t);
    nq_close(q);
}
END_TEST

START_TEST(a_stop_gives_back_what_a_limited_queue_holds)
{
    nq *q = t_open();
    struct queues_door door = {0};
    queues_add(q, "few", 10);
    nq_worker *p = queues_patient(q, 1, queues_wait, &door);
    p_thread t;
    p_start(&t, p);
    T_WAIT(p_load(&door.waiting) == 1, 10);
    nq_worker_stop(p);
    nq_worker_stop(p); /* skips the timeout: the running one is cancelled */
    ck_assert_int_eq(p_join(&t), NQ_OK);
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_tasks WHERE state = 0"), 10 - p_load(&door.runs));
    nq_close(q);
}
END_TEST

/* ---- Turns ---- */

struct queues_order {
    int n;
    char of[400];
};

static nq_verdict queues_note(nq_ctx *ctx, const nq_task *task, void *udata)
{
    struct queues_order *o = udata;
    (void)ctx;
    if (o->n < (int)sizeof o->of)
        o->of[o->n] = task->queue[0];
    o->n++;
    return NQ_DONE;
}

/* One at a time, so that each claim is one task and their order is that of the turns. */
static void queues_turns(const nq_queue_options queues[], size_t n, struct queues_order *order)
{
    nq *q = t_open();
    for (size_t i = 0; i < n; i++)
        queues_add(q, queues[i].name, 60);
    p_run(p_new(
        q, P_OPTIONS(.queues = queues, .nqueues = n, .concurrency = 1, .batch = 1, .drain = NQ_DRAIN_DUE),
        queues_note, order));
    ck_assert_int_eq(order->n, 60 * (int)n);
    nq_close(q);
}

static int queues_count(const struct queues_order *order, int n, char of)
{
    int count = 0;
    for (int i = 0; i < n; i++)
        count += order->of[i] == of;
    return count;
}

START_TEST(weights_share_the_turns)
{
    struct queues_order order = {0};
    const nq_queue_options queues[] = {NQ_QUEUE(.name = "a", .weight = 5), NQ_QUEUE(.name = "b"),
                                       NQ_QUEUE(.name = "c", .weight = 2)};
    queues_turns(queues, 3, &order);
    /* While all have work. What was enqueued is there before the worker starts, but a poll may come short. */
    ck_assert_int_ge(queues_count(&order, 80, 'a'), 48);
    ck_assert_int_le(queues_count(&order, 80, 'a'), 52);
    ck_assert_int_ge(queues_count(&order, 80, 'b'), 9);
    ck_assert_int_le(queues_count(&order, 80, 'b'), 11);
    /* And evenly: b has not to wait for the end of a row of them. */
    for (int i = 0; i + 10 <= 80; i++)
        ck_assert_int_ge(queues_count(&order, i + 10, 'b'), queues_count(&order, i, 'b') + 1);
}
END_TEST

START_TEST(without_weights_they_take_turns)
{
    struct queues_order order = {0};
    const nq_queue_options queues[] = {NQ_QUEUE(.name = "a"), NQ_QUEUE(.name = "b"), NQ_QUEUE(.name = "c")};
    queues_turns(queues, 3, &order);
    for (char of = 'a'; of <= 'c'; of++) {
        ck_assert_int_ge(queues_count(&order, 90, of), 28);
        ck_assert_int_le(queues_count(&order, 90, of), 32);
    }
}
END_TEST

/* ---- Options ---- */

static void queues_refused(const nq_queue_options queues[], size_t n, const char *why)
{
    nq *q = t_open();
    nq_worker *p = NULL;
    nq_err err = {0};
    ck_assert_int_eq(nq_worker_new(&p, q, P_OPTIONS(.queues = queues, .nqueues = n), &err), NQ_EINVAL);
    ck_assert_msg(strstr(err.message, why), "not '%s' in: %s", why, err.message);
    ck_assert_ptr_null(p);
    nq_close(q);
}

START_TEST(bad_options_of_queues_are_named)
{
    const nq_queue_options no_size[] = {{.name = "a"}};
    const nq_queue_options sizes[] = {NQ_QUEUE(.name = "a"),
                                      {.size = sizeof(nq_queue_options) - 1, .name = "b"}};
    queues_refused(NULL, 1, "queues is NULL");
    queues_refused(&NQ_QUEUE(.weight = 1), 1, "queues[0].name is NULL");
    queues_refused(&NQ_QUEUE(.name = "a b"), 1, "'a b'");
    queues_refused(&NQ_QUEUE(.name = "a", .concurrency = 1025), 1,
                   "queue 'a': concurrency is 1025; allowed are 1 to");
    queues_refused(&NQ_QUEUE(.name = "a", .weight = 1001), 1,
                   "queue 'a': weight is 1001; allowed are 1 to 1000");
    queues_refused(no_size, 1, "nq_queue_options.size is 0");
    queues_refused(sizes, 2, "queues[1].size");
    const nq_queue_options twice[] = {NQ_QUEUE(.name = "a"), NQ_QUEUE(.name = "a", .weight = 2)};
    queues_refused(twice, 2, "queue 'a' is named twice");
}
END_TEST

START_TEST(an_array_of_a_newer_header_is_read)
{
    nq *q = t_open();
    struct {
        nq_queue_options known;
        uint64_t more;
    } queues[2] = {{NQ_QUEUE(.name = "few"), 0}, {NQ_QUEUE(.name = "many"), 0}};
    int runs = 0;
    queues[0].known.size = queues[1].known.size = sizeof queues[0];
    queues_add(q, "few", 3);
    queues_add(q, "many", 3);
    p_run(
        p_new(q, P_OPTIONS(.queues = &queues[0].known, .nqueues = 2, .drain = NQ_DRAIN_DUE), p_count, &runs));
    ck_assert_int_eq(p_load(&runs), 6);
    nq_close(q);
}
END_TEST

Suite *suite_queues(void)
{
    Suite *s = suite_create("queues");
    TCase *c = t_case(s, "queues", 60);
    tcase_add_test(c, a_queue_keeps_to_its_limit_and_leaves_the_other_threads_to_others);
    tcase_add_test(c, a_queue_keeps_to_its_limit_in_children);
    tcase_add_test(c, what_a_queue_may_not_run_stays_in_the_database);
    tcase_add_test(c, however_an_attempt_ends_there_is_room_again);
    tcase_add_test(c, a_stop_gives_back_what_a_limited_queue_holds);
    tcase_add_test(c, weights_share_the_turns);
    tcase_add_test(c, without_weights_they_take_turns);
    tcase_add_test(c, bad_options_of_queues_are_named);
    tcase_add_test(c, an_array_of_a_newer_header_is_read);
    return s;
}
