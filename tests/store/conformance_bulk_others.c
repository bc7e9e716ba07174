/* SPDX-License-Identifier: MIT */
/* Many tasks at once while others are at some of them: what they hold is passed by, two do each task once,
 * and who is killed leaves whole batches. */
#include "bulk.h"

#include <signal.h>

/* Somebody's transaction has some rows, and adds a key that one of the tasks has. */
START_TEST(what_others_hold_is_passed_by)
{
    if (!T_MYSQL)
        return;
    nq *q = t_open();
    t_conn *other = t_connect();
    bulk_dead("mail", 1, 300, true);
    t_begin(other);
    t_run(other, "SELECT id FROM nanoq_finished WHERE id IN (3, 250) FOR UPDATE");
    t_run(other, "INSERT INTO nanoq_tasks (id, type, payload, unique_key) VALUES (9000, 't', 'y', "
                 "UNHEX(SHA2(17, 256)))");
    const int64_t start = t_mono();
    T_OK(bulk_call(q, B_WHERE(B_QUEUES("mail")), NQ_BULK_RETRY, NULL));
    ck_assert_int_lt(t_mono() - start, NQ_SECONDS(20) * T_SLOW_FACTOR);
    ck_assert_uint_eq(bulk_did.done, 297);
    ck_assert_uint_eq(bulk_did.locked, 2);
    ck_assert_uint_eq(bulk_did.duplicates, 1);
    t_run(other, "ROLLBACK");
    T_OK(bulk_call(q, B_WHERE(B_QUEUES("mail")), NQ_BULK_RETRY, NULL));
    ck_assert_uint_eq(bulk_did.done, 3);
    t_begin(other);
    t_run(other, "SELECT id FROM nanoq_tasks WHERE id = 100 FOR UPDATE");
    if (_i > 0)
        T_OK(bulk_call(q, B_WHERE(B_QUEUES("mail"), .states = NQ_STATE_BIT(NQ_STATE_WAITING)),
                       (enum nq_bulk_action)_i, B_OPTS(.queue = "later", .priority = 3)));
    ck_assert(_i == 0 || (bulk_did.done == 299 && bulk_did.locked == 1));
    t_run(other, "ROLLBACK");
    t_disconnect(other);
    nq_close(q);
}
END_TEST

/* A refused INSERT of plain SQL keeps its lock until its transaction ends, where no look finds it. */
START_TEST(one_key_that_cannot_be_had_keeps_no_others_from_it)
{
    if (!T_MYSQL)
        return;
    nq *q = t_open();
    t_conn *other = t_connect();
    bulk_dead("mail", 1, 100, true);
    t_begin(other);
    t_run(other, "INSERT INTO nanoq_tasks (id, type, payload, unique_key) VALUES (9000, 't', 'y', "
                 "UNHEX(SHA2(17, 256)))");
    t_run(other, "DELETE FROM nanoq_tasks WHERE id = 9000");
    T_OK(bulk_call(q, B_WHERE(B_QUEUES("mail")), NQ_BULK_RETRY, NULL));
    ck_assert_uint_eq(bulk_did.done + bulk_did.locked, 100);
    ck_assert_uint_ge(bulk_did.done, 98);
    t_run(other, "ROLLBACK");
    t_disconnect(other);
    nq_close(q);
}
END_TEST

/* ---- Processes ---- */

static void bulk_process(int fd, void *arg)
{
    nq_bulk_counts counts = {.size = sizeof counts};
    nq *q = NULL;
    (void)arg;
    int rc = nq_open(&q, t_url, NULL, &t_last);
    (void)t_hear(fd, 20); /* go */
    if (rc == NQ_OK)
        rc = nq_bulk(q, B_WHERE(B_QUEUES("mail")), NQ_BULK_RETRY, NULL, &counts, &t_last);
    t_tell(fd, rc == NQ_OK ? (int64_t)counts.done : rc);
    nq_close(q);
    _exit(0);
}

enum { BULK_MANY = 6000 };

START_TEST(two_at_once_do_each_once)
{
    t_child children[2];
    int64_t sum = 0;
    bulk_dead("mail", 1, BULK_MANY, true);
    for (int i = 0; i < 2; i++)
        t_fork(&children[i], bulk_process, NULL);
    for (int i = 0; i < 2; i++)
        t_tell(children[i].fd, 1);
    for (int i = 0; i < 2; i++) {
        const int64_t did = t_hear(children[i].fd, 60 * T_SLOW_FACTOR);
        ck_assert_int_ge(did, 0);
        sum += did;
        t_reap(&children[i]);
    }
    /* both may have passed by what the other had just then */
    nq *q = t_open();
    T_OK(bulk_call(q, B_WHERE(B_QUEUES("mail")), NQ_BULK_RETRY, NULL));
    ck_assert_int_eq(sum + (int64_t)bulk_did.done, BULK_MANY);
    ck_assert_int_eq(BULK_COUNT("tasks", "state = 0"), BULK_MANY);
    ck_assert_int_eq(BULK_COUNT("finished", "id > 0"), 0);
    nq_close(q);
}
END_TEST

START_TEST(whoever_is_killed_leaves_whole_batches)
{
    t_child child;
    bulk_dead("mail", 1, BULK_MANY, true);
    t_fork(&child, bulk_process, NULL);
    t_tell(child.fd, 1);
    T_WAIT(BULK_COUNT("tasks", "id > 0") >= 600, 30);
    t_kill(&child, SIGKILL);
    int64_t n = -1, before = -2; /* the server may be committing the last one yet */
    T_WAIT((before = n, n = BULK_COUNT("tasks", "id > 0"), t_pause_ms(20), n == before), 20);
    ck_assert_int_eq(n % NQ_BULK_BATCH, 0);
    ck_assert_int_eq(BULK_COUNT("finished", "id > 0"), BULK_MANY - n);
    ck_assert_int_eq(BULK_COUNT("tasks", "id > 0 AND id <= (SELECT COUNT(*) FROM nanoq_tasks)"), n);
    nq *q = t_open();
    T_OK(bulk_call(q, B_WHERE(B_QUEUES("mail")), NQ_BULK_RETRY, NULL));
    ck_assert_uint_eq(bulk_did.done, (uint64_t)(BULK_MANY - n));
    nq_close(q);
}
END_TEST

Suite *suite_bulk_others(void)
{
    Suite *s = suite_create("bulk_others");
    TCase *c = t_case(s, "bulk_others", 60);
    tcase_add_loop_test(c, what_others_hold_is_passed_by, 0, 5);
    tcase_add_test(c, one_key_that_cannot_be_had_keeps_no_others_from_it);
    tcase_add_test(c, two_at_once_do_each_once);
    tcase_add_test(c, whoever_is_killed_leaves_whole_batches);
    return s;
}
