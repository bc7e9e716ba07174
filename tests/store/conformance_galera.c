/* SPDX-License-Identifier: MIT */
/* The ways of servers that are not here, taken on the one that is: completion without DELETE ... RETURNING,
 * as on MySQL, and a statement at a time, as on Galera. `make test-mysql` and `make test-cluster` meet the
 * real ones. */
#include "suites.h"

#include "../../src/store/mysql/mysql_driver.h"

static int galera_mark(nq_conn *c, void *arg, nq_err *err)
{
    (void)err;
    nq_mysql_of(c)->galera = nq_mysql_of(c)->nodes = *(const bool *)arg;
    return NQ_OK;
}

/* Without hints no other thread has a connection: the one that is idle is the next to be used. */
static nq *galera_open(bool galera)
{
    nq *q = NULL;
    T_OK(nq_open(&q, t_url_with("hints=none"), NULL, &t_last));
    nq_store *s = nq_store_of(q);
    nq_mysql_data_of(s)->returns = false;
    nq_mysql_data_of(s)->nodes = galera;
    T_OK(nq_store_do(s, galera_mark, &galera, &t_last));
    return q;
}

START_TEST(completions_are_told_apart_by_counting)
{
    const bool galera = _i % 2, keep = _i / 2 % 2, lost = _i / 4;
    nq_outcome outcomes[9], *list[9];
    size_t n = 0, i = 0;
    nq *q = galera_open(galera);
    for (int k = 0; k < 10; k++)
        T_ADD(q, .type = "t", .unique = NQ_UNIQUE_NONE);
    nq_claimed *c = t_claim(q, NQ_LEASE(1, 1), 6, &n), *c2 = t_claim(q, NQ_LEASE(1, 2), 3, &n);
    for (int two = 0; two < 2; two++)
        for (const nq_claimed *at = two ? c2 : c; at; at = at->next, i++) {
            outcomes[i] = (nq_outcome){
                .id = at->task.id, .lease = at->lease, .kind = NQ_OUT_DONE, .keep = keep, .result = 1};
            list[i] = &outcomes[i];
        }
    ck_assert_uint_eq(i, 9);
    if (lost)
        t_sql("UPDATE nanoq_tasks SET lease = 77 WHERE id IN (%lld, %lld)", (long long)outcomes[2].id,
              (long long)outcomes[7].id);
    T_OK(nq_store_finish(nq_store_of(q), list, 9, &t_last));
    for (i = 0; i < 9; i++)
        ck_assert_int_eq(outcomes[i].result, lost && (i == 2 || i == 7) ? NQ_ELEASE : NQ_OK);
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_tasks"), lost ? 3 : 1);
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_finished"), !keep ? 0 : lost ? 7 : 9);
    t_free_claimed(c);
    t_free_claimed(c2);
    nq_close(q);
}
END_TEST

START_TEST(a_claim_is_looked_up_after_its_commit)
{
    size_t n = 0;
    nq_id ids[3];
    nq *q = galera_open(true);
    for (int k = 0; k < 3; k++)
        ids[k] = T_ADD(q, .type = "t", .unique = NQ_UNIQUE_NONE);
    /* Another node's write: one of them is another's by the time of the look. */
    t_sql("CREATE TRIGGER other BEFORE UPDATE ON nanoq_tasks FOR EACH ROW "
          "SET NEW.lease = IF(NEW.lease <> 0 AND NEW.id = %lld, 77, NEW.lease)",
          (long long)ids[1]);
    nq_claimed *c = t_claim(q, NQ_LEASE(1, 1), 3, &n);
    ck_assert_uint_eq(n, 2);
    for (const nq_claimed *at = c; at; at = at->next)
        ck_assert_int_ne(at->task.id, ids[1]);
    t_free_claimed(c);
    /* None is left of a commit that answered well and had not happened. */
    t_sql("DROP TRIGGER other");
    t_sql("UPDATE nanoq_tasks SET state = 0, lease = 0");
    t_sql("CREATE TRIGGER other BEFORE UPDATE ON nanoq_tasks FOR EACH ROW "
          "SET NEW.lease = OLD.lease, NEW.state = OLD.state, NEW.generation = OLD.generation");
    nq_claimer *claimer;
    int64_t wait_us;
    T_OK(nq_claimer_new(&claimer, nq_store_of(q), "default", NULL, 0, &t_last));
    T_OK(nq_claimer_claim(claimer, NQ_LEASE(1, 2), 3, NULL, &c, &n, &wait_us, &t_last));
    ck_assert_uint_eq(n, 0);
    ck_assert_int_eq(wait_us, 0); /* they are still due */
    t_sql("DROP TRIGGER other");
    T_OK(nq_claimer_claim(claimer, NQ_LEASE(1, 3), 3, NULL, &c, &n, &wait_us, &t_last));
    ck_assert_uint_eq(n, 3);
    t_free_claimed(c);
    nq_claimer_free(claimer);
    nq_close(q);
}
END_TEST

/* There the claim writes the gate of the queue, which is that of all its groups. */
START_TEST(limits_are_those_of_a_cluster)
{
    nq *q = galera_open(true);
    nq_settings *s = NULL;
    nq_claimer *c;
    size_t n = 0, got = 0;
    int64_t wait_us;
    t_sql("INSERT INTO nanoq_queues (name, max_running) VALUES ('mail', 5), ('mail//*', 2)");
    for (int k = 0; k < 12; k++)
        T_ADD(q, .type = "t", .queue = "mail", .group = (char[]){(char)('a' + k % 4), '\0'},
              .unique = NQ_UNIQUE_NONE);
    T_OK(nq_settings_read(&s, nq_store_of(q), NULL, &t_last));
    T_OK(nq_claimer_new(&c, nq_store_of(q), "mail", NULL, 0, &t_last));
    nq_claimer_thorough(c);
    nq_claimer_heed(c, s);
    for (uint64_t seq = 1; seq < 5; seq++, got += n) {
        nq_claimed *list = NULL;
        T_OK(nq_claimer_claim(c, NQ_LEASE(1, seq), 12, NULL, &list, &n, &wait_us, &t_last));
        t_free_claimed(list);
    }
    ck_assert_uint_eq(got, 5);
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM (SELECT queue FROM nanoq_tasks WHERE state = 1 "
                           "GROUP BY queue HAVING COUNT(*) > 2) x"),
                     0);
    ck_assert_int_ge(t_sql("SELECT grants FROM nanoq_gates WHERE queue = 'mail'"), 1);
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_gates"), 1);
    nq_claimer_free(c);
    nq_settings_unref(s);
    nq_close(q);
}
END_TEST

static int galera_commit_failed(nq_conn *c, void *arg, nq_err *err)
{
    nq_exec_result res = {.db_code = NQ_MYSQL_ER_ERROR_DURING_COMMIT};
    snprintf(res.message, sizeof res.message, "%s", (const char *)arg);
    return nq_mysql_own_failed(nq_mysql_of(c), &res, err);
}

/* So that it is tried again: Group Replication answers so to a COMMIT that another member's write ended. */
START_TEST(a_commit_that_lost_to_another_is_a_conflict)
{
    char lost[] = "Got error 149 - 'Lock deadlock; Retry transaction' during COMMIT";
    char full[] = "Got error 135 - 'No more room in record file' during COMMIT";
    nq *q = galera_open(true);
    T_FAILS(nq_store_do(nq_store_of(q), galera_commit_failed, lost, &t_last), NQ_ECONFLICT);
    T_FAILS(nq_store_do(nq_store_of(q), galera_commit_failed, full, &t_last), NQ_EDB);
    nq_close(q);
}
END_TEST

Suite *suite_galera(void)
{
    Suite *s = suite_create("galera");
    if (T_SQLITE)
        return s;
    TCase *c = t_case(s, "galera", 30);
    tcase_add_loop_test(c, completions_are_told_apart_by_counting, 0, 8);
    tcase_add_test(c, a_claim_is_looked_up_after_its_commit);
    tcase_add_test(c, limits_are_those_of_a_cluster);
    tcase_add_test(c, a_commit_that_lost_to_another_is_a_conflict);
    return s;
}
