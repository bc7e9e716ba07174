/* SPDX-License-Identifier: MIT */
/* Fetching: how much is claimed ahead. */
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

Suite *suite_fetch(void)
{
    Suite *s = suite_create("fetch");
    TCase *c = t_case(s, "fetch", 60);
    tcase_add_test(c, two_batches_ahead_of_quick_handlers);
    tcase_add_test(c, what_slow_handlers_keep_waiting_is_given_back);
    return s;
}
