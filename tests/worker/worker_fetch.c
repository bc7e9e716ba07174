/* SPDX-License-Identifier: MIT */
/* Fetching: how much is claimed ahead, and two claims at a time where batches are small. */
#include "suites.h"

#include "../../src/worker/worker.h"

/* ---- How much is claimed ahead ---- */

/* With so many handlers that run and so many tasks that wait for one. */
static size_t fetch_wanted(nq_worker *p, unsigned running, size_t ready, uint64_t bytes)
{
    atomic_store(&p->running, running);
    p->ready.n = ready;
    p->ready.bytes = bytes;
    const size_t wanted = nq_fetch_wanted(p);
    atomic_store(&p->running, 0);
    p->ready.n = 0;
    p->ready.bytes = 0;
    return wanted;
}

START_TEST(two_batches_ahead_of_quick_handlers)
{
    nq *q = t_open();
    int n = 0;
    nq_worker *p = p_new(q, P_OPTIONS(.batch = 100, .concurrency = 10), p_count, &n);
    p->avg16_us = 16; /* a microsecond each */
    ck_assert_uint_eq(fetch_wanted(p, 0, 0, 0), 100);
    /* One whole batch is here: the next one is claimed beside it; but not a third. Half of one where the
     * claim records what ended. */
    const size_t ahead = nq_store_piggybacks(p->store, 100) ? 49 : 99;
    ck_assert_uint_ge(fetch_wanted(p, 10, ahead, 0), 50);
    ck_assert_uint_eq(fetch_wanted(p, 10, ahead + 1, 0), 0);
    /* What a claim may still bring counts. */
    p->claiming[1] = 100;
    ck_assert_uint_eq(fetch_wanted(p, 10, 0, 0), 0);
    p->claiming[1] = 0;
    /* Of large payloads few are kept. */
    ck_assert_uint_gt(fetch_wanted(p, 10, 4, p->opts.claim_bytes / 2), 0);
    ck_assert_uint_eq(fetch_wanted(p, 10, 5, p->opts.claim_bytes / 2 + 1), 0);
    ck_assert_uint_gt(fetch_wanted(p, 4, 5, p->opts.claim_bytes), 0); /* a handler is free */
    /* Slow ones are given what they can start. */
    p->avg16_us = 16 * NQ_SECONDS(1);
    ck_assert_uint_eq(fetch_wanted(p, 10, 0, 0), 0);
    ck_assert_uint_eq(fetch_wanted(p, 7, 0, 0), 3);
    nq_worker_free(p);
    p = p_new(q, P_OPTIONS(.batch = 1, .concurrency = 10), p_count, &n);
    p->avg16_us = 16;
    ck_assert_uint_eq(fetch_wanted(p, 9, 0, 0), 1);
    ck_assert_uint_eq(fetch_wanted(p, 10, 0, 0), 0);
    nq_worker_free(p);
    nq_close(q);
}
END_TEST

struct fetch_gate {
    int waiting, open, quick;
};

static nq_verdict fetch_wait_for_gate(nq_ctx *ctx, const nq_task *task, void *udata)
{
    struct fetch_gate *g = udata;
    if (strcmp(task->type, "quick") == 0) {
        __atomic_add_fetch(&g->quick, 1, __ATOMIC_SEQ_CST);
        return NQ_DONE;
    }
    __atomic_add_fetch(&g->waiting, 1, __ATOMIC_SEQ_CST);
    while (!p_load(&g->open) && nq_ctx_cause(ctx) == NQ_CAUSE_NONE)
        t_pause_ms(1);
    return NQ_DONE;
}

static void fetch_add(nq *q, const char *type, const char *queue, size_t n)
{
    nq_task_spec *specs = calloc(n, sizeof *specs);
    ck_assert_ptr_nonnull(specs);
    for (size_t i = 0; i < n; i++)
        specs[i] = *NQ_TASK(.type = type, .queue = queue, .unique = NQ_UNIQUE_NONE);
    T_OK(nq_enqueue_many(q, NQ_OWN_TX, specs, n, NULL, NULL, &t_last));
    free(specs);
}

START_TEST(what_slow_handlers_keep_waiting_is_given_back)
{
    nq *q = t_open();
    struct fetch_gate g = {0};
    nq_worker_totals totals;
    fetch_add(q, "quick", NULL, 300);
    fetch_add(q, "slow", NULL, 300);
    p_thread t;
    p_start(&t, p_new(q, P_OPTIONS(.batch = 50, .concurrency = 2), fetch_wait_for_gate, &g));
    T_WAIT(p_load(&g.quick) == 300 && p_load(&g.waiting) == 2, 20);
    /* Another worker could have them. */
    T_WAIT((nq_worker_stats(t.p, &totals, sizeof totals), totals.released > 0), 20);
    T_WAIT(t_count(q, NQ_STATE_RUNNING) == 2, 10);
    ck_assert_uint_eq(t_count(q, NQ_STATE_WAITING), 298);
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_tasks WHERE attempts <> 0"), 0);
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_tasks WHERE state = 0 AND run_at <> created_at"), 0);
    __atomic_store_n(&g.open, 1, __ATOMIC_SEQ_CST);
    T_WAIT(t_sql("SELECT COUNT(*) FROM nanoq_tasks") == 0, 20);
    p_stop(&t);
    nq_close(q);
}
END_TEST

/* ---- Two claims at a time ---- */

static bool fetch_has_second(const nq_worker *p)
{
    return p->opts.concurrency > 1 && nq_store_claims_apart(p->store, p->opts.batch);
}

START_TEST(a_second_fetcher_where_it_pays)
{
    nq *q = t_open();
    int n = 0;
    static const struct {
        unsigned batch, concurrency;
        bool second;
    } cases[] = {{1, 10, true}, {10, 2, true}, {11, 10, false}, {1, 1, false}, {0, 10, false}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        nq_worker *p =
            p_new(q, P_OPTIONS(.batch = cases[i].batch, .concurrency = cases[i].concurrency), p_count, &n);
        ck_assert_int_eq(fetch_has_second(p), cases[i].second && nq_store_of(q)->driver->row_locks);
        nq_worker_free(p);
    }
    nq_close(q);
}
END_TEST

struct fetch_limit {
    int running, most, runs[2];
};

static nq_verdict fetch_count_running(nq_ctx *ctx, const nq_task *task, void *udata)
{
    struct fetch_limit *l = udata;
    const bool few = strcmp(task->queue, "few") == 0;
    (void)ctx;
    const int running = few ? __atomic_add_fetch(&l->running, 1, __ATOMIC_SEQ_CST) : 0;
    for (int most = p_load(&l->most); running > most;)
        if (__atomic_compare_exchange_n(&l->most, &most, running, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
            break;
    sched_yield();
    if (few)
        __atomic_sub_fetch(&l->running, 1, __ATOMIC_SEQ_CST);
    __atomic_add_fetch(&l->runs[few], 1, __ATOMIC_SEQ_CST);
    return NQ_DONE;
}

/* The claims under way count in a queue's limit; a drain waits for them. */
static void fetch_drain(unsigned batch, unsigned limit)
{
    nq *q = t_open();
    struct fetch_limit l = {0};
    const nq_queue_options queues[] = {NQ_QUEUE(.name = "few", .concurrency = limit),
                                       NQ_QUEUE(.name = "many", .weight = 3)};
    fetch_add(q, "t", "few", 150);
    fetch_add(q, "t", "many", 350);
    nq_worker *p = p_new(
        q, P_OPTIONS(.queues = queues, .nqueues = 2, .batch = batch, .drain = NQ_DRAIN_DUE, .concurrency = 8),
        fetch_count_running, &l);
    p_run(p);
    ck_assert_int_eq(l.runs[true], 150);
    ck_assert_int_eq(l.runs[false], 350);
    ck_assert_int_le(l.most, (int)limit);
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_tasks"), 0);
    nq_close(q);
}

START_TEST(side_by_side_claims_keep_to_limits_and_a_drain_waits_for_them)
{
    fetch_drain(1, 2);
    fetch_drain(3, 5);
}
END_TEST

static nq_verdict fetch_enqueue_two(nq_ctx *ctx, const nq_task *task, void *udata)
{
    const int depth = atoi(task->payload);
    char payload[16];
    const int n = snprintf(payload, sizeof payload, "%d", depth - 1);
    for (int i = 0; depth > 0 && i < 2; i++)
        T_OK(nq_enqueue(
            nq_ctx_queue(ctx), NQ_OWN_TX,
            NQ_TASK(.type = "t", .payload = payload, .payload_size = (size_t)n, .unique = NQ_UNIQUE_NONE),
            NULL, &t_last));
    __atomic_add_fetch((int *)udata, 1, __ATOMIC_SEQ_CST);
    return NQ_DONE;
}

START_TEST(a_drain_side_by_side_ends_after_what_its_handlers_enqueued)
{
    nq *q = t_open();
    int runs = 0;
    T_ADD(q, .type = "t", NQ_BYTES("7"));
    p_run(p_new(q, P_OPTIONS(.drain = NQ_DRAIN_DUE, .batch = 1, .concurrency = 4), fetch_enqueue_two, &runs));
    ck_assert_int_eq(runs, 255);
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_tasks"), 0);
    nq_close(q);
}
END_TEST

START_TEST(a_stop_amid_claims_gives_everything_back)
{
    static const unsigned batches[] = {1, 2, 10, 500};
    nq *q = t_open();
    for (size_t i = 0; i < sizeof batches / sizeof *batches; i++) {
        int runs = 0;
        t_sql("DELETE FROM nanoq_tasks");
        fetch_add(q, "t", NULL, 1500);
        p_thread t;
        p_start(&t, p_new(q, P_OPTIONS(.batch = batches[i]), p_count, &runs));
        T_WAIT(p_load(&runs) >= 100, 20);
        p_stop(&t);
        ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_tasks"), 1500 - runs);
        ck_assert_int_eq(
            t_sql("SELECT COUNT(*) FROM nanoq_tasks WHERE state <> 0 OR attempts <> 0 OR lease <> 0"), 0);
    }
    nq_close(q);
}
END_TEST

START_TEST(leases_that_are_used_up_begin_anew)
{
    nq *q = t_open();
    int runs = 0;
    fetch_add(q, "t", NULL, 100);
    nq_worker *p = p_new(q, P_OPTIONS(.drain = NQ_DRAIN_DUE, .batch = 1), p_count, &runs);
    p->seq_max = 30;
    p_run(p);
    ck_assert_int_eq(runs, 100);
    nq_close(q);
}
END_TEST

Suite *suite_fetch(void)
{
    Suite *s = suite_create("fetch");
    TCase *c = t_case(s, "fetch", 60);
    tcase_add_test(c, two_batches_ahead_of_quick_handlers);
    tcase_add_test(c, what_slow_handlers_keep_waiting_is_given_back);
    tcase_add_test(c, a_second_fetcher_where_it_pays);
    tcase_add_test(c, side_by_side_claims_keep_to_limits_and_a_drain_waits_for_them);
    tcase_add_test(c, a_drain_side_by_side_ends_after_what_its_handlers_enqueued);
    tcase_add_test(c, a_stop_amid_claims_gives_everything_back);
    tcase_add_test(c, leases_that_are_used_up_begin_anew);
    return s;
}
