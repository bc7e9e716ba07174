/* SPDX-License-Identifier: MIT */
/* Results: there if and only if the attempt ended done, for as long as is said, and of this run of this task.
 */
#include "suites.h"

static uint64_t results_lease(int seq)
{
    return NQ_LEASE(7, seq);
}

struct results_seen {
    int state;
    bool there;
    size_t size;
    char bytes[64];
    int64_t keep_until_us;
};

static int results_info(const nq_info *info, void *udata)
{
    struct results_seen *s = udata;
    *s = (struct results_seen){.state = info->state,
                               .there = info->result,
                               .size = info->result_size,
                               .keep_until_us = info->keep_until_us};
    if (info->result) {
        ck_assert_uint_lt(info->result_size, sizeof s->bytes);
        memcpy(s->bytes, info->result, info->result_size + 1); /* with the NUL */
    }
    return 0;
}

static struct results_seen results_of(nq *q, nq_id id)
{
    struct results_seen s = {0};
    T_OK(nq_get(q, id, results_info, &s, &t_last));
    return s;
}

/* Claim the one task that is due, and end it; the result of the outcome. */
static int results_end(nq *q, int seq, enum nq_outcome_kind kind, const char *output, int64_t keep_us)
{
    nq_claimed *c = t_claim_one(q, results_lease(seq));
    nq_outcome o = {.id = c->task.id, .lease = c->lease, .kind = kind, .keep = keep_us, .keep_us = keep_us};
    nq_outcome *outs[] = {&o};
    o.output = output;
    o.output_size = output ? strlen(output) : 0;
    T_OK(nq_store_finish(nq_store_of(q), outs, 1, &t_last));
    t_free_claimed(c);
    return o.result;
}

#define RESULTS_COUNT "SELECT COUNT(*) FROM nanoq_results"

START_TEST(a_result_comes_with_the_completion_and_the_record)
{
    static const char *const outputs[] = {"{\"ok\":1}", "", NULL};
    nq *q = t_open();
    for (int i = 0; i < 3; i++) {
        const nq_id id = T_ADD(q, .type = "t");
        ck_assert(!results_of(q, id).there);
        const int64_t before = t_now(q);
        ck_assert_int_eq(results_end(q, i + 1, NQ_OUT_DONE, outputs[i], NQ_HOURS(2)), NQ_OK);
        const struct results_seen s = results_of(q, id);
        ck_assert_int_eq(s.state, NQ_STATE_DONE);
        ck_assert(s.there == (i < 2));
        ck_assert_str_eq(s.bytes, outputs[i] ? outputs[i] : "");
        ck_assert_int_ge(s.keep_until_us, before + NQ_HOURS(2));
        ck_assert_int_le(s.keep_until_us, t_now(q) + NQ_HOURS(2));
    }
    nq_close(q);
}
END_TEST

START_TEST(what_does_not_end_done_leaves_none)
{
    static const enum nq_outcome_kind kinds[] = {NQ_OUT_RETRY, NQ_OUT_SNOOZE, NQ_OUT_RELEASE, NQ_OUT_DEAD};
    nq *q = t_open();
    const nq_id id = T_ADD(q, .type = "t");
    for (int i = 0; i < 4; i++)
        ck_assert_int_eq(results_end(q, i + 1, kinds[i], "x", NQ_HOURS(1)), NQ_OK);
    ck_assert_int_eq(t_sql(RESULTS_COUNT), 0);
    ck_assert(!results_of(q, id).there);
    /* Nor does a done outcome of a claim that is not current. */
    T_OK(nq_retry(q, id, &t_last));
    nq_claimed *late = t_claim_one(q, results_lease(10));
    ck_assert_int_eq(t_finish(q, late, NQ_OUT_RELEASE, 0, NULL), NQ_OK);
    nq_outcome o = {.id = id,
                    .lease = late->lease,
                    .kind = NQ_OUT_DONE,
                    .keep = true,
                    .keep_us = NQ_HOURS(1),
                    .output = "late",
                    .output_size = 4};
    nq_outcome *outs[] = {&o};
    T_OK(nq_store_finish(nq_store_of(q), outs, 1, &t_last));
    ck_assert_int_eq(o.result, NQ_ELEASE);
    ck_assert_int_eq(t_sql(RESULTS_COUNT), 0);
    t_free_claimed(late);
    nq_close(q);
}
END_TEST

START_TEST(a_result_is_of_the_last_run)
{
    nq *q = t_open();
    const nq_id id = T_ADD(q, .type = "t");
    ck_assert_int_eq(results_end(q, 1, NQ_OUT_DONE, "first", NQ_HOURS(1)), NQ_OK);
    T_OK(nq_retry(q, id, &t_last));
    ck_assert_int_eq(t_sql(RESULTS_COUNT), 0);
    /* Even where somebody else has it run again, who knows of no results. */
    t_sql("INSERT INTO nanoq_results (task_id, result, made_at, keep_until) SELECT id, 'old', created_at, "
          "created_at FROM nanoq_tasks");
    nq_claimed *c = t_claim_one(q, results_lease(2));
    nq_outcome o = {.id = id, .lease = c->lease, .kind = NQ_OUT_DONE, .keep = true}, *outs[] = {&o};
    T_OK(nq_store_finish(nq_store_of(q), outs, 1, &t_last));
    t_free_claimed(c);
    ck_assert_int_eq(results_of(q, id).state, NQ_STATE_DONE);
    ck_assert(!results_of(q, id).there);
    T_OK(nq_retry(q, id, &t_last));
    ck_assert_int_eq(results_end(q, 3, NQ_OUT_DONE, "second", NQ_HOURS(1)), NQ_OK);
    ck_assert_str_eq(results_of(q, id).bytes, "second");
    T_OK(nq_delete(q, id, &t_last));
    ck_assert_int_eq(t_sql(RESULTS_COUNT), 0);
    nq_close(q);
}
END_TEST

START_TEST(a_batch_keeps_the_results_of_those_that_have_one)
{
    enum { N = 40 };
    nq *q = t_open();
    nq_outcome all[N], *outs[N];
    size_t n = 0;
    for (int i = 0; i < N; i++)
        T_ADD(q, .type = "t", .unique = NQ_UNIQUE_NONE);
    nq_claimed *list = t_claim(q, results_lease(1), N, &n), *c = list;
    ck_assert_uint_eq(n, N);
    for (int i = 0; i < N; i++, c = c->next) {
        const bool with = i % 4 == 0;
        all[i] = (nq_outcome){.id = c->task.id, .lease = c->lease, .kind = NQ_OUT_DONE, .keep = with};
        if (with) {
            all[i].keep_us = NQ_FOREVER;
            all[i].output = "r";
            all[i].output_size = 1;
        }
        outs[i] = &all[i];
    }
    T_OK(nq_store_finish(nq_store_of(q), outs, N, &t_last));
    ck_assert_int_eq(t_sql(RESULTS_COUNT " r JOIN nanoq_finished f ON f.id = r.task_id AND f.state = 2"),
                     N / 4);
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_finished"), N / 4);
    ck_assert_int_gt(results_of(q, all[0].id).keep_until_us, t_now(q) + NQ_DAYS(36500));
    t_free_claimed(list);
    nq_close(q);
}
END_TEST

/* What a worker's options say of done tasks is not for those that say it themselves. */
START_TEST(a_kept_task_is_purged_when_its_own_time_is_over)
{
    nq *q = t_open();
    nq_store *s = nq_store_of(q);
    uint64_t gone = 9;
    size_t n = 9;
    const nq_id longer = T_ADD(q, .type = "t");
    ck_assert_int_eq(results_end(q, 1, NQ_OUT_DONE, "x", NQ_HOURS(5)), NQ_OK);
    const nq_id plain = T_ADD(q, .type = "u");
    nq_claimed *c = t_claim_one(q, results_lease(2));
    nq_outcome o = {.id = plain, .lease = c->lease, .kind = NQ_OUT_DONE, .keep = true}, *outs[] = {&o};
    T_OK(nq_store_finish(s, outs, 1, &t_last));
    t_free_claimed(c);
    const int64_t now = t_now(q);
    T_OK(nq_test_clock(q, now + NQ_HOURS(2), &t_last));
    T_OK(nq_store_purge(s, NQ_HOURS(1), NQ_DAYS(1), 100, &gone, &t_last));
    ck_assert_uint_eq(gone, 1);
    ck_assert_int_eq(t_state(q, plain), -1);
    ck_assert_int_eq(t_state(q, longer), NQ_STATE_DONE);
    T_OK(nq_store_results_sweep(s, 100, &n, &t_last));
    ck_assert_uint_eq(n, 0);
    T_OK(nq_test_clock(q, now + NQ_HOURS(6), &t_last));
    T_OK(nq_store_results_sweep(s, 100, &n, &t_last));
    ck_assert_uint_eq(n, 1);
    ck_assert_int_eq(t_state(q, longer), -1);
    ck_assert_int_eq(t_sql(RESULTS_COUNT), 0);
    /* One whose task was deleted elsewhere goes before its time. */
    t_sql("INSERT INTO nanoq_results (task_id, result, keep_until) SELECT 77, 'x', %s",
          T_SQLITE ? "9000000000000000" : "'2200-01-01'");
    T_OK(nq_store_results_sweep(s, 100, &n, &t_last));
    ck_assert_int_eq(t_sql(RESULTS_COUNT), 0);
    nq_close(q);
}
END_TEST

START_TEST(completion_in_the_callers_transaction_has_a_result_too)
{
    static const char *const outputs[] = {"done", "", NULL};
    nq *q = t_open();
    t_conn *mine = t_connect();
    const nq_id id = T_ADD(q, .type = "t");
    nq_claimed *c = t_claim_one(q, results_lease(1));
    nq_outcome o = {.id = id, .lease = c->lease, .keep = true, .keep_us = NQ_HOURS(1)};
    o.output = outputs[_i];
    o.output_size = o.output ? strlen(o.output) : 0;
    t_begin(mine);
    T_OK(nq_complete_kept(nq_store_of(q), t_tx(mine), &o, &t_last));
    t_run(mine, "ROLLBACK");
    ck_assert_int_eq(t_sql(RESULTS_COUNT), 0);
    ck_assert_int_eq(t_state(q, id), NQ_STATE_RUNNING);
    o.lease++;
    t_begin(mine);
    T_FAILS(nq_complete_kept(nq_store_of(q), t_tx(mine), &o, &t_last), NQ_ELEASE);
    t_run(mine, "COMMIT");
    ck_assert_int_eq(t_sql(RESULTS_COUNT), 0);
    o.lease--;
    t_begin(mine);
    T_OK(nq_complete_kept(nq_store_of(q), t_tx(mine), &o, &t_last));
    t_run(mine, "COMMIT");
    const struct results_seen s = results_of(q, id);
    ck_assert(s.there == (_i < 2));
    ck_assert_str_eq(s.bytes, o.output ? o.output : "");
    ck_assert_int_gt(s.keep_until_us, t_now(q));
    t_free_claimed(c);
    t_disconnect(mine);
    nq_close(q);
}
END_TEST

START_TEST(keep_us_is_checked_and_comes_with_the_claim)
{
    nq *q = t_open();
    nq_id id;
    static const int64_t good[] = {NQ_HOURS(3), 1, NQ_MAX_DURATION, NQ_FOREVER};
    T_FAILS(nq_enqueue(q, NQ_OWN_TX, NQ_TASK(.type = "t", .keep_us = -1), &id, &t_last), NQ_EINVAL);
    ck_assert_ptr_nonnull(strstr(t_last.message, "keep_us is -1"));
    T_FAILS(nq_enqueue(q, NQ_OWN_TX, NQ_TASK(.type = "t", .keep_us = NQ_MAX_DURATION + 1), &id, &t_last),
            NQ_EINVAL);
    for (int i = 0; i < 4; i++) {
        T_ADD(q, .type = "t", .keep_us = good[i], .unique = NQ_UNIQUE_NONE);
        nq_claimed *c = t_claim_one(q, results_lease(i + 1));
        ck_assert_int_eq(c->keep_us, good[i]);
        ck_assert_uint_eq(c->task.nheaders, 0);
        ck_assert_int_eq(t_finish(q, c, NQ_OUT_DONE, 0, NULL), NQ_OK);
        t_free_claimed(c);
    }
    nq_close(q);
}
END_TEST

Suite *suite_results(void)
{
    Suite *s = suite_create("results");
    TCase *c = t_case(s, "results", 60);
    tcase_add_test(c, a_result_comes_with_the_completion_and_the_record);
    tcase_add_test(c, what_does_not_end_done_leaves_none);
    tcase_add_test(c, a_result_is_of_the_last_run);
    tcase_add_test(c, a_batch_keeps_the_results_of_those_that_have_one);
    tcase_add_test(c, a_kept_task_is_purged_when_its_own_time_is_over);
    tcase_add_loop_test(c, completion_in_the_callers_transaction_has_a_result_too, 0, 3);
    tcase_add_test(c, keep_us_is_checked_and_comes_with_the_claim);
    return s;
}
