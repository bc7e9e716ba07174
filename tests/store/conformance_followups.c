/* SPDX-License-Identifier: MIT */
/* Follow-ups: no update is lost to a duplicate that was refused while its live task may have begun. */
#include "suites.h"

#define FOLLOWUPS "SELECT COUNT(*) FROM nanoq_followups"
#define TASKS     "SELECT COUNT(*) FROM nanoq_tasks"

static size_t followups_promote(nq *q, size_t limit, bool *more)
{
    size_t n = 99;
    bool any = false;
    T_OK(nq_store_promote(nq_store_of(q), limit, &n, &any, &t_last));
    if (more)
        *more = any;
    return n;
}

/* Refused, with this id, by each way to enqueue. */
static void followups_refused(nq *q, nq_tx tx, const nq_task_spec *task, nq_id live)
{
    nq_id id = 0;
    T_ANSWERS(nq_enqueue(q, tx, task, &id, &t_last), NQ_DUPLICATE);
    ck_assert_int_eq(id, live);
}

#define FOLLOWUPS_SAME NQ_TASK(.type = "t", NQ_BYTES("same"))

/* A running task, and a follow-up that waits for it. */
static nq_claimed *followups_running(nq *q)
{
    nq_id live = t_add(q, FOLLOWUPS_SAME);
    nq_claimed *c = t_claim_one(q, NQ_LEASE(1, 1));
    followups_refused(q, NQ_OWN_TX, FOLLOWUPS_SAME, live);
    ck_assert_int_eq(t_sql(FOLLOWUPS), 1);
    return c;
}

static void followups_end(nq *q, nq_claimed *c, enum nq_outcome_kind kind)
{
    ck_assert_int_eq(t_finish(q, c, kind, 0, kind == NQ_OUT_DEAD ? "no" : NULL), NQ_OK);
    t_free_claimed(c);
}

START_TEST(a_duplicate_of_a_running_task_runs_after_it)
{
    static const enum nq_outcome_kind ends[] = {NQ_OUT_DONE, NQ_OUT_DEAD};
    nq *q = t_open();
    nq_id live = T_ADD(q, .type = "t", NQ_BYTES("old"), .unique = NQ_UNIQUE_DATA, .unique_data = "k\0y",
                       .unique_size = 3);
    nq_claimed *c = t_claim_one(q, NQ_LEASE(1, 1));
    const nq_task_spec *spec = NQ_TASK(.type = "t", NQ_BYTES("n\0w"), .queue = "other", .priority = 5,
                                       .max_retries = 3, .timeout_us = NQ_SECONDS(7),
                                       .unique = NQ_UNIQUE_DATA, .unique_data = "k\0y", .unique_size = 3);
    followups_refused(q, NQ_OWN_TX, spec, live);
    ck_assert_int_eq(t_sql("SELECT task_id FROM nanoq_followups"), live);
    ck_assert_uint_eq(followups_promote(q, 10, NULL), 0);
    ck_assert_int_eq(t_sql(FOLLOWUPS), 1);
    followups_end(q, c, ends[_i]);
    ck_assert_uint_eq(followups_promote(q, 10, NULL), 1);
    ck_assert_int_eq(t_sql(FOLLOWUPS), 0);
    nq_id id = t_sql("SELECT id FROM nanoq_tasks");
    ck_assert_int_gt(id, live);
    t_task t;
    ck_assert_int_eq(t_get(q, id, &t), NQ_OK);
    ck_assert_int_eq(t.info.state, NQ_STATE_WAITING);
    ck_assert_str_eq(t.queue, "other");
    ck_assert_uint_eq(t.info.payload_size, 3);
    ck_assert_mem_eq(t.payload, "n\0w", 3);
    ck_assert_int_eq(t.info.priority, 5);
    ck_assert_uint_eq(t.info.max_retries, 3);
    ck_assert_int_eq(t.info.timeout_us, NQ_SECONDS(7));
    ck_assert_int_le(t.info.run_at_us, t_now(q));
    t_task_free(&t);
    followups_refused(q, NQ_OWN_TX, spec, id); /* it has the key */
    ck_assert_int_eq(t_sql(FOLLOWUPS), 0);
    nq_close(q);
}
END_TEST

START_TEST(a_duplicate_of_a_waiting_task_needs_nothing)
{
    nq *q = t_open();
    nq_id live = t_add(q, FOLLOWUPS_SAME);
    followups_refused(q, NQ_OWN_TX, FOLLOWUPS_SAME, live);
    ck_assert_int_eq(t_sql(FOLLOWUPS), 0);
    ck_assert_uint_eq(followups_promote(q, 10, NULL), 0);
    nq_close(q);
}
END_TEST

START_TEST(many_at_once_follow_each_running_task_once)
{
    nq *q = t_open();
    nq_id waiting = T_ADD(q, .type = "t", NQ_BYTES("waiting"), .delay_us = NQ_HOURS(1));
    nq_id running[2] = {T_ADD(q, .type = "t", NQ_BYTES("1")), T_ADD(q, .type = "t", NQ_BYTES("2"))};
    size_t n = 0;
    nq_claimed *c = t_claim(q, NQ_LEASE(1, 1), 5, &n);
    ck_assert_uint_eq(n, 2);
    const nq_task_spec specs[] = {
        *NQ_TASK(.type = "t", NQ_BYTES("1")),
        *NQ_TASK(.type = "t", NQ_BYTES("waiting")),
        *NQ_TASK(.type = "t", NQ_BYTES("new")),
        *NQ_TASK(.type = "t", NQ_BYTES("2")),
        *NQ_TASK(.type = "t", NQ_BYTES("1")),
        *NQ_TASK(.type = "t", NQ_BYTES("2"), .unique = NQ_UNIQUE_NONE),
    };
    nq_id ids[6];
    int results[6];
    T_OK(nq_enqueue_many(q, NQ_OWN_TX, specs, 6, ids, results, &t_last));
    ck_assert_int_eq(ids[0], running[0]);
    ck_assert_int_eq(ids[1], waiting);
    ck_assert_int_eq(ids[3], running[1]);
    ck_assert_int_eq(ids[4], running[0]);
    ck_assert_int_eq(results[2], NQ_OK);
    ck_assert_int_eq(results[5], NQ_OK);
    ck_assert_int_eq(t_sql(FOLLOWUPS), 2);
    /* Asked again there is nothing to add: the first ones stand for these too. */
    T_OK(nq_enqueue_many(q, NQ_OWN_TX, specs, 5, NULL, NULL, &t_last));
    ck_assert_int_eq(t_sql(FOLLOWUPS), 2);
    for (nq_claimed *at = c; at; at = at->next)
        ck_assert_int_eq(t_finish(q, at, NQ_OUT_DONE, 0, NULL), NQ_OK);
    t_free_claimed(c);
    ck_assert_uint_eq(followups_promote(q, 10, NULL), 2);
    ck_assert_int_eq(t_sql(FOLLOWUPS), 0);
    nq_close(q);
}
END_TEST

START_TEST(in_the_callers_transaction_it_is_committed_or_not_with_it)
{
    const bool commits = _i;
    nq *q = t_open();
    nq_id live = t_add(q, FOLLOWUPS_SAME);
    nq_claimed *c = t_claim_one(q, NQ_LEASE(1, 1));
    t_conn *mine = t_connect();
    t_begin(mine);
    followups_refused(q, t_tx(mine), FOLLOWUPS_SAME, live);
    nq_task_spec specs[] = {*FOLLOWUPS_SAME, *NQ_TASK(.type = "t", NQ_BYTES("new"))};
    nq_id ids[2];
    T_OK(nq_enqueue_many(q, t_tx(mine), specs, 2, ids, NULL, &t_last));
    ck_assert_int_eq(ids[0], live);
    t_run(mine, commits ? "COMMIT" : "ROLLBACK");
    t_disconnect(mine);
    ck_assert_uint_eq(followups_promote(q, 10, NULL), 0);
    followups_end(q, c, NQ_OUT_DONE);
    ck_assert_uint_eq(followups_promote(q, 10, NULL), commits);
    ck_assert_int_eq(t_sql(FOLLOWUPS), 0);
    ck_assert_int_eq(t_sql(TASKS), commits ? 2 : 0);
    nq_close(q);
}
END_TEST

START_TEST(of_the_transactions_own_task_there_is_none)
{
    nq *q = t_open();
    t_conn *mine = t_connect();
    t_begin(mine);
    nq_id id = 0;
    T_OK(nq_enqueue(q, t_tx(mine), FOLLOWUPS_SAME, &id, &t_last));
    followups_refused(q, t_tx(mine), FOLLOWUPS_SAME, id);
    nq_task_spec specs[] = {*FOLLOWUPS_SAME, *NQ_TASK(.type = "t", NQ_BYTES("new"))};
    T_OK(nq_enqueue_many(q, t_tx(mine), specs, 2, NULL, NULL, &t_last));
    t_run(mine, "COMMIT");
    ck_assert_int_eq(t_sql(FOLLOWUPS), 0);
    ck_assert_int_eq(t_sql(TASKS), 2);
    t_disconnect(mine);
    nq_close(q);
}
END_TEST

START_TEST(it_is_dropped_where_its_task_waits_again)
{
    nq *q = t_open();
    followups_end(q, followups_running(q), NQ_OUT_RELEASE);
    ck_assert_uint_eq(followups_promote(q, 10, NULL), 0);
    ck_assert_int_eq(t_sql(FOLLOWUPS), 0);
    ck_assert_int_eq(t_sql(TASKS), 1);
    nq_close(q);
}
END_TEST

START_TEST(it_stays_when_its_task_is_cancelled_or_deleted)
{
    nq *q = t_open();
    nq_claimed *c = followups_running(q);
    nq_id live = c->task.id;
    followups_end(q, c, NQ_OUT_RELEASE);
    T_OK(_i ? nq_cancel(q, live, &t_last) : nq_delete(q, live, &t_last));
    ck_assert_uint_eq(followups_promote(q, 10, NULL), 1);
    ck_assert_int_gt(t_sql("SELECT id FROM nanoq_tasks"), live);
    nq_close(q);
}
END_TEST

/* Twice as many, `times` times; the second and later ones are of the same key. */
static void followups_double(int times)
{
    static const char columns[] =
        "task_id, queue, priority, run_at, max_retries, timeout_ms, created_at, type, "
        "payload, unique_key";
    for (int i = 0; i < times; i++)
        t_sql("INSERT INTO nanoq_followups (%s) SELECT %s FROM nanoq_followups", columns, columns);
}

START_TEST(several_of_a_key_become_one_task)
{
    nq *q = t_open();
    nq_claimed *c = followups_running(q);
    followups_double(6);
    bool more = false;
    followups_end(q, c, NQ_OUT_DONE);
    const size_t limit = _i ? 3 : 1000;
    size_t made = 0;
    do
        made += followups_promote(q, limit, &more);
    while (more);
    ck_assert_uint_eq(made, 1);
    ck_assert_int_eq(t_sql(FOLLOWUPS), 0);
    ck_assert_int_eq(t_sql(TASKS), 1);
    nq_close(q);
}
END_TEST

START_TEST(of_several_that_wait_only_the_first_stays)
{
    nq *q = t_open();
    nq_claimed *c = followups_running(q);
    const int64_t first = t_sql("SELECT id FROM nanoq_followups");
    bool more = false;
    followups_double(6);
    for (int i = 0; i < 7; i++) {
        ck_assert_uint_eq(followups_promote(q, 10, &more), 0);
        ck_assert(more == (i < 6));
    }
    ck_assert_int_eq(t_sql("SELECT SUM(id) FROM nanoq_followups"), first);
    followups_end(q, c, NQ_OUT_DONE);
    ck_assert_uint_eq(followups_promote(q, 10, NULL), 1);
    ck_assert_int_eq(t_sql(FOLLOWUPS), 0);
    nq_close(q);
}
END_TEST

/* Another promoter may just now find that the first one is not needed, for a reason that is older than the
 * others. */
START_TEST(while_the_first_is_held_the_others_stay)
{
    nq *q = t_open();
    nq_claimed *c = followups_running(q);
    followups_double(3);
    t_conn *other = t_connect();
    t_begin(other);
    t_run(other, "SELECT id FROM nanoq_followups ORDER BY id LIMIT 1 FOR UPDATE");
    bool more = true;
    ck_assert_uint_eq(followups_promote(q, 100, &more), 0);
    ck_assert(!more);
    ck_assert_int_eq(t_sql(FOLLOWUPS), 8);
    t_run(other, "ROLLBACK");
    ck_assert_uint_eq(followups_promote(q, 100, NULL), 0);
    ck_assert_int_eq(t_sql(FOLLOWUPS), 1);
    t_disconnect(other);
    t_free_claimed(c);
    nq_close(q);
}
END_TEST

START_TEST(those_that_wait_do_not_hold_up_those_behind)
{
    nq *q = t_open();
    nq_claimed *c = followups_running(q);
    followups_double(4);
    T_ADD(q, .type = "t", NQ_BYTES("quick"));
    nq_claimed *quick = t_claim_one(q, NQ_LEASE(1, 2));
    followups_refused(q, NQ_OWN_TX, NQ_TASK(.type = "t", NQ_BYTES("quick")), quick->task.id);
    followups_end(q, quick, NQ_OUT_DONE);
    ck_assert_uint_eq(followups_promote(q, 2, NULL), 1);
    ck_assert_int_eq(t_sql(FOLLOWUPS), 14); /* and two of the sixteen are gone */
    t_free_claimed(c);
    nq_close(q);
}
END_TEST

START_TEST(its_schedule_is_kept)
{
    nq *q = t_open();
    nq_id live = t_add(q, FOLLOWUPS_SAME);
    nq_claimed *c = t_claim_one(q, NQ_LEASE(1, 1));
    int64_t before = t_now(q), at = before + NQ_HOURS(5);
    if (_i)
        followups_refused(q, NQ_OWN_TX, NQ_TASK(.type = "t", NQ_BYTES("same"), .run_at_us = at), live);
    else
        followups_refused(q, NQ_OWN_TX, NQ_TASK(.type = "t", NQ_BYTES("same"), .delay_us = NQ_HOURS(5)),
                          live);
    int64_t after = t_now(q);
    followups_end(q, c, NQ_OUT_DONE);
    ck_assert_uint_eq(followups_promote(q, 10, NULL), 1);
    t_task t;
    ck_assert_int_eq(t_get(q, t_sql("SELECT id FROM nanoq_tasks"), &t), NQ_OK);
    ck_assert_int_ge(t.info.run_at_us, at - 1000); /* SQLite's stock clock has milliseconds */
    ck_assert_int_le(t.info.run_at_us, after + NQ_HOURS(5) + 1000);
    ck_assert_int_le(t.info.created_at_us, after + 1000);
    t_task_free(&t);
    nq_close(q);
}
END_TEST

enum { FOLLOWUPS_KEYS = 150, FOLLOWUPS_PROMOTERS = 4 };

static void *followups_promoter(void *arg)
{
    nq *q = arg;
    nq_err err;
    size_t made = 0, n = 0;
    bool more = true;
    while (more) {
        int rc = nq_store_promote(nq_store_of(q), 20, &n, &more, &err);
        ck_assert_msg(rc == NQ_OK, "%s", err.message);
        made += n;
    }
    return (void *)made;
}

START_TEST(promoters_at_once_make_each_task_once)
{
    static nq_task_spec specs[FOLLOWUPS_KEYS];
    static char payloads[FOLLOWUPS_KEYS][8];
    nq *q[FOLLOWUPS_PROMOTERS];
    pthread_t threads[FOLLOWUPS_PROMOTERS];
    for (int i = 0; i < FOLLOWUPS_PROMOTERS; i++)
        q[i] = t_open();
    for (int i = 0; i < FOLLOWUPS_KEYS; i++) {
        int len = snprintf(payloads[i], sizeof payloads[i], "%d", i);
        specs[i] = *NQ_TASK(.type = "t", .payload = payloads[i], .payload_size = (size_t)len);
    }
    T_OK(nq_enqueue_many(q[0], NQ_OWN_TX, specs, FOLLOWUPS_KEYS, NULL, NULL, &t_last));
    size_t n = 0;
    nq_claimed *c = t_claim(q[0], NQ_LEASE(1, 1), FOLLOWUPS_KEYS, &n);
    ck_assert_uint_eq(n, FOLLOWUPS_KEYS);
    T_OK(nq_enqueue_many(q[0], NQ_OWN_TX, specs, FOLLOWUPS_KEYS, NULL, NULL, &t_last));
    followups_double(1);
    for (nq_claimed *at = c; at; at = at->next)
        ck_assert_int_eq(t_finish(q[0], at, NQ_OUT_DONE, 0, NULL), NQ_OK);
    t_free_claimed(c);
    for (int i = 0; i < FOLLOWUPS_PROMOTERS; i++)
        t_thread(&threads[i], followups_promoter, q[i]);
    size_t made = 0;
    for (int i = 0; i < FOLLOWUPS_PROMOTERS; i++) {
        void *one;
        pthread_join(threads[i], &one);
        made += (size_t)one;
        nq_close(q[i]);
    }
    ck_assert_uint_eq(made, FOLLOWUPS_KEYS);
    ck_assert_int_eq(t_sql(TASKS), FOLLOWUPS_KEYS);
    ck_assert_int_eq(t_sql(FOLLOWUPS), 0);
}
END_TEST

/* ---- Beside open transactions: only a server lets others write meanwhile ---- */

static t_conn *followups_open(int level)
{
    static const char *const levels[] = {"READ COMMITTED", "REPEATABLE READ"};
    t_conn *mine = t_connect();
    t_run(mine, "SET SESSION TRANSACTION ISOLATION LEVEL %s", levels[level]);
    t_run(mine, "SET SESSION innodb_lock_wait_timeout = 3");
    t_begin(mine);
    return mine;
}

START_TEST(a_waiting_task_that_is_claimed_before_the_commit_is_followed)
{
    nq *q = t_open();
    nq_id live = t_add(q, FOLLOWUPS_SAME);
    t_conn *mine = followups_open(_i);
    t_run(mine, "SELECT COUNT(*) FROM nanoq_tasks");
    followups_refused(q, t_tx(mine), FOLLOWUPS_SAME, live);
    /* It is claimed, and reads old data; its completion waits for nobody, nor does a promoter. */
    nq_claimed *c = t_claim_one(q, NQ_LEASE(1, 1));
    int64_t start = t_mono();
    followups_end(q, c, NQ_OUT_DONE);
    ck_assert_uint_eq(followups_promote(q, 10, NULL), 0);
    ck_assert_int_lt(t_mono() - start, NQ_MS(1000) * T_SLOW_FACTOR);
    t_run(mine, "COMMIT");
    ck_assert_uint_eq(followups_promote(q, 10, NULL), 1);
    ck_assert_int_gt(t_sql("SELECT id FROM nanoq_tasks"), live);
    t_disconnect(mine);
    nq_close(q);
}
END_TEST

START_TEST(a_waiting_task_that_still_waits_at_the_commit_is_enough)
{
    nq *q = t_open();
    nq_id live = t_add(q, FOLLOWUPS_SAME);
    t_conn *mine = followups_open(_i);
    followups_refused(q, t_tx(mine), FOLLOWUPS_SAME, live);
    followups_refused(q, t_tx(mine), FOLLOWUPS_SAME, live);
    t_run(mine, "COMMIT");
    ck_assert_uint_eq(followups_promote(q, 10, NULL), 0);
    ck_assert_int_eq(t_sql(FOLLOWUPS), 0);
    ck_assert_int_eq(t_sql(TASKS), 1);
    t_disconnect(mine);
    nq_close(q);
}
END_TEST

START_TEST(other_producers_go_on_beside_an_open_one)
{
    nq *q = t_open();
    nq_claimed *c = followups_running(q);
    t_conn *mine = followups_open(_i);
    followups_refused(q, t_tx(mine), FOLLOWUPS_SAME, c->task.id);
    t_conn *other = followups_open(_i);
    followups_refused(q, t_tx(other), FOLLOWUPS_SAME, c->task.id);
    t_run(other, "ROLLBACK");
    followups_end(q, c, NQ_OUT_DONE);
    ck_assert_uint_eq(followups_promote(q, 10, NULL), 1);
    c = t_claim_one(q, NQ_LEASE(1, 2));
    followups_refused(q, NQ_OWN_TX, FOLLOWUPS_SAME, c->task.id);
    t_run(mine, "COMMIT");
    ck_assert_int_eq(t_sql(FOLLOWUPS), 2);
    followups_end(q, c, NQ_OUT_DONE);
    ck_assert_uint_eq(followups_promote(q, 10, NULL), 1);
    ck_assert_int_eq(t_sql(FOLLOWUPS), 0);
    t_disconnect(other);
    t_disconnect(mine);
    nq_close(q);
}
END_TEST

START_TEST(a_promoter_waits_for_no_producer)
{
    const bool commits = _i % 2;
    nq *q = t_open();
    followups_end(q, followups_running(q), NQ_OUT_DONE);
    /* The key is free, and another producer takes it, but does not commit. */
    t_conn *mine = followups_open(_i / 2);
    T_OK(nq_enqueue(q, t_tx(mine), FOLLOWUPS_SAME, NULL, &t_last));
    int64_t start = t_mono();
    bool more = true;
    ck_assert_uint_eq(followups_promote(q, 10, &more), 0);
    ck_assert(!more);
    ck_assert_int_lt(t_mono() - start, NQ_MS(1000) * T_SLOW_FACTOR);
    ck_assert_int_eq(t_sql(FOLLOWUPS), 1);
    t_run(mine, commits ? "COMMIT" : "ROLLBACK");
    ck_assert_uint_eq(followups_promote(q, 10, NULL), !commits);
    ck_assert_int_eq(t_sql(FOLLOWUPS), 0);
    ck_assert_int_eq(t_sql(TASKS), 1);
    t_disconnect(mine);
    nq_close(q);
}
END_TEST

START_TEST(what_another_promoter_has_is_said_to_be_more)
{
    nq *q = t_open();
    followups_end(q, followups_running(q), NQ_OUT_DONE);
    t_conn *other = t_connect();
    t_begin(other);
    t_run(other, "SELECT id FROM nanoq_followups FOR UPDATE");
    bool more = false;
    ck_assert_uint_eq(followups_promote(q, 10, &more), 0);
    ck_assert(more);
    t_run(other, "ROLLBACK");
    ck_assert_uint_eq(followups_promote(q, 10, &more), 1);
    ck_assert(!more);
    t_disconnect(other);
    nq_close(q);
}
END_TEST

Suite *suite_followups(void)
{
    Suite *s = suite_create("followups");
    TCase *c = t_case(s, "followups", 30);
    tcase_add_loop_test(c, a_duplicate_of_a_running_task_runs_after_it, 0, 2);
    tcase_add_test(c, a_duplicate_of_a_waiting_task_needs_nothing);
    tcase_add_test(c, many_at_once_follow_each_running_task_once);
    tcase_add_loop_test(c, in_the_callers_transaction_it_is_committed_or_not_with_it, 0, 2);
    tcase_add_test(c, of_the_transactions_own_task_there_is_none);
    tcase_add_test(c, it_is_dropped_where_its_task_waits_again);
    tcase_add_loop_test(c, it_stays_when_its_task_is_cancelled_or_deleted, 0, 2);
    tcase_add_test(c, of_several_that_wait_only_the_first_stays);
    if (T_MYSQL)
        tcase_add_test(c, while_the_first_is_held_the_others_stay);
    tcase_add_loop_test(c, several_of_a_key_become_one_task, 0, 2);
    tcase_add_test(c, those_that_wait_do_not_hold_up_those_behind);
    tcase_add_loop_test(c, its_schedule_is_kept, 0, 2);
    tcase_add_test(c, promoters_at_once_make_each_task_once);
    if (T_SQLITE)
        return s;
    tcase_add_loop_test(c, a_waiting_task_that_is_claimed_before_the_commit_is_followed, 0, 2);
    tcase_add_loop_test(c, a_waiting_task_that_still_waits_at_the_commit_is_enough, 0, 2);
    tcase_add_loop_test(c, other_producers_go_on_beside_an_open_one, 0, 2);
    tcase_add_loop_test(c, a_promoter_waits_for_no_producer, 0, 4);
    tcase_add_test(c, what_another_promoter_has_is_said_to_be_more);
    return s;
}
