/* SPDX-License-Identifier: MIT */
/* Enqueueing inside the caller's open transaction: both stores. */
#include "suites.h"

START_TEST(a_commit_makes_it_visible_and_not_before)
{
    nq *q = t_open();
    t_conn *mine = t_connect();
    t_run(mine, "CREATE TABLE business (x INT PRIMARY KEY)");
    t_begin(mine);
    t_run(mine, "INSERT INTO business VALUES (1)");
    nq_id id = 0;
    T_OK(nq_enqueue(q, t_tx(mine), NQ_TASK(.type = "t", NQ_BYTES("p\0q"), .delay_us = NQ_HOURS(1)), &id,
                    &t_last));
    ck_assert_int_gt(id, 0);
    ck_assert_int_eq(t_state(q, id), -1);
    t_run(mine, "COMMIT");
    ck_assert_int_eq(t_state(q, id), NQ_STATE_WAITING);
    t_task t;
    ck_assert_int_eq(t_get(q, id, &t), NQ_OK);
    ck_assert_uint_eq(t.info.payload_size, 3);
    ck_assert_int_eq(memcmp(t.payload, "p\0q", 4), 0);
    ck_assert_int_ge(t.info.run_at_us, t_now(q) + NQ_MINUTES(55));
    t_task_free(&t);
    t_disconnect(mine);
    nq_close(q);
}
END_TEST

START_TEST(a_rollback_leaves_nothing)
{
    nq *q = t_open();
    t_conn *mine = t_connect();
    t_begin(mine);
    nq_id id = 0;
    T_OK(nq_enqueue(q, t_tx(mine), NQ_TASK(.type = "t"), &id, &t_last));
    t_run(mine, "ROLLBACK");
    ck_assert_int_eq(t_state(q, id), -1);
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_tasks"), 0);
    nq_id again = T_ADD(q, .type = "t"); /* the key is free again */
    ck_assert_int_gt(again, 0);
    t_disconnect(mine);
    nq_close(q);
}
END_TEST

START_TEST(the_callers_transaction_is_left_open)
{
    nq *q = t_open();
    t_conn *mine = t_connect();
    t_run(mine, "CREATE TABLE business (x INT PRIMARY KEY)");
    t_begin(mine);
    nq_task_spec two[] = {*NQ_TASK(.type = "a"), *NQ_TASK(.type = "b")};
    nq_id ids[2];
    int results[2];
    T_OK(nq_enqueue_many(q, t_tx(mine), two, 2, ids, results, &t_last));
    ck_assert_int_eq(results[0], NQ_OK);
    ck_assert_int_eq(results[1], NQ_OK);
    ck_assert_int_ne(ids[0], ids[1]);
    t_run(mine, "INSERT INTO business VALUES (1)");
    t_run(mine, "ROLLBACK");
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM business"), 0);
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_tasks"), 0);
    t_disconnect(mine);
    nq_close(q);
}
END_TEST

START_TEST(a_duplicate_leaves_the_transaction_usable)
{
    nq *q = t_open();
    nq_id live = T_ADD(q, .type = "t");
    t_conn *mine = t_connect();
    t_run(mine, "CREATE TABLE business (x INT PRIMARY KEY)");
    t_begin(mine);
    t_run(mine, "INSERT INTO business VALUES (1)");
    nq_id id = 0;
    T_ANSWERS(nq_enqueue(q, t_tx(mine), NQ_TASK(.type = "t"), &id, &t_last), NQ_DUPLICATE);
    ck_assert_int_eq(id, live);
    ck_assert(!t_last.transaction_lost);
    t_run(mine, "INSERT INTO business VALUES (2)");
    nq_id other = 0;
    T_OK(nq_enqueue(q, t_tx(mine), NQ_TASK(.type = "u"), &other, &t_last));
    t_run(mine, "COMMIT");
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM business"), 2);
    ck_assert_int_eq(t_state(q, other), NQ_STATE_WAITING);
    t_disconnect(mine);
    nq_close(q);
}
END_TEST

START_TEST(a_duplicate_of_the_same_transaction_is_told_too)
{
    nq *q = t_open();
    t_conn *mine = t_connect();
    t_begin(mine);
    nq_id first = 0, second = 0;
    T_OK(nq_enqueue(q, t_tx(mine), NQ_TASK(.type = "t", NQ_BYTES("x")), &first, &t_last));
    T_ANSWERS(nq_enqueue(q, t_tx(mine), NQ_TASK(.type = "t", NQ_BYTES("x")), &second, &t_last), NQ_DUPLICATE);
    ck_assert_int_eq(second, first);
    nq_task_spec specs[] = {*NQ_TASK(.type = "t", NQ_BYTES("x")), *NQ_TASK(.type = "t", NQ_BYTES("y")),
                            *NQ_TASK(.type = "t", NQ_BYTES("y"))};
    nq_id ids[3] = {0};
    int results[3];
    T_OK(nq_enqueue_many(q, t_tx(mine), specs, 3, ids, results, &t_last));
    ck_assert_int_eq(results[0], NQ_DUPLICATE);
    ck_assert_int_eq(ids[0], first);
    ck_assert_int_eq(results[1], NQ_OK);
    ck_assert_int_eq(results[2], NQ_DUPLICATE);
    ck_assert_int_eq(ids[2], ids[1]);
    t_run(mine, "COMMIT");
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_tasks"), 2);
    t_disconnect(mine);
    nq_close(q);
}
END_TEST

START_TEST(many_in_the_callers_transaction)
{
    enum { N = 1300 };
    static nq_task_spec specs[N];
    static char payloads[N][8];
    static nq_id ids[N];
    static int results[N];
    nq *q = t_open();
    for (int i = 0; i < N; i++) {
        int len = snprintf(payloads[i], sizeof payloads[i], "%d", i);
        specs[i] = *NQ_TASK(.type = "t", .payload = payloads[i], .payload_size = (size_t)len);
    }
    nq_id live = t_add(q, &specs[700]);
    t_conn *mine = t_connect();
    t_begin(mine);
    T_OK(nq_enqueue_many(q, t_tx(mine), specs, N, ids, results, &t_last));
    t_run(mine, "COMMIT");
    for (int i = 0; i < N; i++) {
        ck_assert_int_eq(results[i], i == 700 ? NQ_DUPLICATE : NQ_OK);
        if (i % 111 == 0 || i == 700) {
            t_task t;
            ck_assert_int_eq(t_get(q, ids[i], &t), NQ_OK);
            ck_assert_str_eq((char *)t.payload, payloads[i]);
            t_task_free(&t);
        }
    }
    ck_assert_int_eq(ids[700], live);
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_tasks"), N);
    t_disconnect(mine);
    nq_close(q);
}
END_TEST

START_TEST(a_bad_task_is_refused_and_the_transaction_lives)
{
    nq *q = t_open();
    t_conn *mine = t_connect();
    t_begin(mine);
    T_FAILS(nq_enqueue(q, t_tx(mine), NQ_TASK(.type = ""), NULL, &t_last), NQ_EINVAL);
    ck_assert(!t_last.transaction_lost);
    T_OK(nq_enqueue(q, t_tx(mine), NQ_TASK(.type = "t"), NULL, &t_last));
    t_run(mine, "COMMIT");
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_tasks"), 1);
    t_disconnect(mine);
    nq_close(q);
}
END_TEST

START_TEST(without_a_transaction_the_insert_stands_by_itself)
{
    nq *q = t_open();
    t_conn *mine = t_connect();
    nq_id id = 0;
    T_OK(nq_enqueue(q, t_tx(mine), NQ_TASK(.type = "t"), &id, &t_last)); /* autocommit */
    ck_assert_int_eq(t_state(q, id), NQ_STATE_WAITING);
    t_disconnect(mine);
    nq_close(q);
}
END_TEST

static int caller_tx_never(void *conn, const char *sql, const nq_val args[], size_t nargs, nq_row_fn row,
                           void *arg, nq_exec_result *res)
{
    (void)conn, (void)sql, (void)args, (void)nargs, (void)row, (void)arg, (void)res;
    ck_abort_msg("a statement was sent on a handle of another kind");
    return -1;
}

static bool caller_tx_closed(void *conn)
{
    (void)conn;
    return false;
}

START_TEST(a_handle_of_the_other_kind_is_refused)
{
    int dummy = 0;
    const struct nq_tx_ops ops = {sizeof ops, T_MYSQL ? NQ_TX_SQLITE : NQ_TX_MYSQL, caller_tx_never,
                                  caller_tx_closed};
    nq_tx tx = {&dummy, &ops};
    nq *q = t_open();
    T_FAILS(nq_enqueue(q, tx, NQ_TASK(.type = "t"), NULL, &t_last), NQ_EINVAL);
    nq_tx none = {NULL, &ops};
    T_FAILS(nq_enqueue(q, none, NQ_TASK(.type = "t"), NULL, &t_last), NQ_EINVAL);
    nq_close(q);
}
END_TEST

START_TEST(a_broken_connection_of_the_callers_is_an_error_and_nothing_more)
{
    nq *q = t_open();
    t_conn *mine = t_connect();
    int64_t thread = t_run(mine, "SELECT CONNECTION_ID()");
    t_begin(mine);
    t_run(t_side(), "KILL %lld", (long long)thread);
    T_FAILS(nq_enqueue(q, t_tx(mine), NQ_TASK(.type = "t"), NULL, &t_last), NQ_EUNAVAILABLE);
    ck_assert(t_last.transaction_lost);
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_tasks"), 0);
    T_ADD(q, .type = "t");
    t_disconnect(mine);
    nq_close(q);
}
END_TEST

Suite *suite_caller_tx(void)
{
    Suite *s = suite_create("caller_tx");
    TCase *c = t_case(s, "caller_tx", 30);
    tcase_add_test(c, a_commit_makes_it_visible_and_not_before);
    tcase_add_test(c, a_rollback_leaves_nothing);
    tcase_add_test(c, the_callers_transaction_is_left_open);
    tcase_add_test(c, a_duplicate_leaves_the_transaction_usable);
    tcase_add_test(c, a_duplicate_of_the_same_transaction_is_told_too);
    tcase_add_test(c, many_in_the_callers_transaction);
    tcase_add_test(c, a_bad_task_is_refused_and_the_transaction_lives);
    tcase_add_test(c, without_a_transaction_the_insert_stands_by_itself);
    tcase_add_test(c, a_handle_of_the_other_kind_is_refused);
    if (T_MYSQL)
        tcase_add_test(c, a_broken_connection_of_the_callers_is_an_error_and_nothing_more);
    return s;
}
