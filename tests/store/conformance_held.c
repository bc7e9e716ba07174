/* SPDX-License-Identifier: MIT */
/* MySQL: a row that somebody's open transaction holds delays nobody who does not want that very row, in small
 * tables too, where scanning looks cheaper to the server than looking up. */
#include "suites.h"

#define HELD_TASKS 12

/* Who waits for the held row gets an error in the end: so these need no clock. */
static t_conn *held_open(const char *sql)
{
    t_conn *other = t_connect();
    t_begin(other);
    if (sql)
        t_run(other, "%s", sql);
    return other;
}

static void held_end(t_conn *other)
{
    t_run(other, "ROLLBACK");
    t_disconnect(other);
}

/* A row that is deleted and not committed is one less to the server's statistics, and to be waited for all
 * the same. */
#define HELD_OLDEST "DELETE FROM nanoq_tasks ORDER BY id LIMIT 1"

/* Of ids that do not follow each other: those would be one range. */
static nq_claimed *held_running(nq *q)
{
    size_t n = 0;
    for (int i = 0; i < 2 * HELD_TASKS; i++)
        T_ADD(q, .type = "t", .unique = NQ_UNIQUE_NONE);
    t_sql("DELETE FROM nanoq_tasks WHERE id %% 2 = 0");
    nq_claimed *c = t_claim(q, NQ_LEASE(1, 1), HELD_TASKS, &n);
    ck_assert_uint_eq(n, HELD_TASKS);
    return c;
}

/* All of the rest, or every other one. */
static size_t held_outcomes(const nq_claimed *c, bool all, nq_outcome outcomes[], nq_outcome *list[])
{
    size_t n = 0;
    for (int i = 0; c; c = c->next, i++) {
        if (all ? i == 0 : i % 2 == 0)
            continue;
        outcomes[n] = (nq_outcome){.id = c->task.id, .lease = c->lease, .result = 1};
        list[n] = &outcomes[n];
        n++;
    }
    return n;
}

START_TEST(outcomes_do_not_wait_for_a_task_that_is_none_of_theirs)
{
    static const enum nq_outcome_kind kinds[] = {NQ_OUT_DONE,  NQ_OUT_DONE, NQ_OUT_RELEASE,
                                                 NQ_OUT_RETRY, NQ_OUT_DEAD, NQ_OUT_CANCELLED};
    nq *q = t_open();
    nq_claimed *c = held_running(q);
    t_conn *other = held_open(HELD_OLDEST);
    nq_outcome outcomes[HELD_TASKS], *list[HELD_TASKS];
    const int kind = _i / 2 % 6;
    const size_t n = held_outcomes(c, _i < 12, outcomes, list);
    for (size_t i = 0; i < n; i++) {
        outcomes[i].kind = kinds[kind];
        outcomes[i].keep = kind == 1;
        outcomes[i].wary = _i % 2;
    }
    T_OK(nq_store_finish(nq_store_of(q), list, n, &t_last));
    for (size_t i = 0; i < n; i++)
        ck_assert_int_eq(outcomes[i].result, NQ_OK);
    held_end(other);
    t_free_claimed(c);
    nq_close(q);
}
END_TEST

START_TEST(completions_that_a_claim_takes_along_do_not_wait_either)
{
    nq *q = t_open();
    nq_claimed *c = held_running(q), *got = NULL;
    t_conn *other = held_open(HELD_OLDEST);
    nq_outcome outcomes[HELD_TASKS], *list[HELD_TASKS];
    nq_piggyback piggyback = {.outcomes = list, .n = held_outcomes(c, _i, outcomes, list)};
    nq_claimer *claimer;
    size_t n = 0;
    int64_t wait_us;
    T_ADD(q, .type = "t", .unique = NQ_UNIQUE_NONE);
    T_OK(nq_claimer_new(&claimer, nq_store_of(q), "default", NULL, 0, &t_last));
    T_OK(nq_claimer_claim(claimer, NQ_LEASE(1, 2), 1, &piggyback, &got, &n, &wait_us, &t_last));
    ck_assert_uint_eq(n, 1);
    if (nq_store_piggybacks(nq_store_of(q), 1)) {
        ck_assert_int_eq(piggyback.piggybacked, NQ_PIGGYBACKED);
        for (size_t i = 0; i < piggyback.n; i++)
            ck_assert_int_eq(outcomes[i].result, NQ_OK);
    }
    nq_claimer_free(claimer);
    held_end(other);
    t_free_claimed(got);
    t_free_claimed(c);
    nq_close(q);
}
END_TEST

START_TEST(follow_ups_do_not_wait_for_one_that_a_producer_has_not_committed)
{
    nq *q = t_open();
    char payload[2] = "a";
    size_t n = 0;
    bool more;
    for (int i = 0; i < HELD_TASKS; i++, payload[0]++)
        T_ADD(q, .type = "t", .payload = payload, .payload_size = 1);
    nq_claimed *c = t_claim(q, NQ_LEASE(1, 1), HELD_TASKS, &n);
    ck_assert_uint_eq(n, HELD_TASKS);
    t_conn *other = held_open(NULL);
    for (payload[0] = 'a'; payload[0] < 'a' + HELD_TASKS; payload[0]++)
        T_ANSWERS(nq_enqueue(q, payload[0] == 'a' ? t_tx(other) : NQ_OWN_TX,
                             NQ_TASK(.type = "t", .payload = payload, .payload_size = 1), NULL, &t_last),
                  NQ_DUPLICATE);
    for (const nq_claimed *at = c->next; at; at = at->next)
        ck_assert_int_eq(t_finish(q, at, NQ_OUT_DONE, 0, NULL), NQ_OK);
    T_OK(nq_store_promote(nq_store_of(q), HELD_TASKS, &n, &more, &t_last));
    ck_assert_uint_eq(n, HELD_TASKS - 1);
    held_end(other);
    t_free_claimed(c);
    nq_close(q);
}
END_TEST

START_TEST(the_purge_does_not_wait_for_a_record_that_is_not_committed)
{
    nq *q = t_open();
    uint64_t gone = 0;
    nq_claimed *c = held_running(q);
    for (const nq_claimed *at = c->next; at; at = at->next) {
        nq_outcome o = {.id = at->task.id, .lease = at->lease, .kind = NQ_OUT_DONE, .keep = true},
                   *list[] = {&o};
        T_OK(nq_store_finish(nq_store_of(q), list, 1, &t_last));
        ck_assert_int_eq(o.result, NQ_OK);
    }
    t_conn *other = held_open(NULL);
    T_OK(nq_complete_in(nq_store_of(q), t_tx(other), c->task.id, c->lease, true, &t_last));
    T_OK(nq_store_purge(nq_store_of(q), 0, 0, 100, &gone, &t_last));
    ck_assert_uint_eq(gone, HELD_TASKS - 1);
    held_end(other);
    t_free_claimed(c);
    nq_close(q);
}
END_TEST

START_TEST(what_is_kept_about_attempts_is_deleted_without_waiting_for_others)
{
    const bool cancels = _i;
    nq *q = t_open();
    nq_attempt *asked = NULL;
    size_t n = 0;
    for (int i = 2; i <= HELD_TASKS; i++)
        t_sql(cancels ? "INSERT INTO nanoq_cancels VALUES (%d, 5)"
                      : "INSERT INTO nanoq_progress VALUES (%d, 5, 1, 2, '', UTC_TIMESTAMP(6))",
              i);
    t_conn *other = held_open(cancels ? "INSERT INTO nanoq_cancels VALUES (1, 5)"
                                      : "INSERT INTO nanoq_progress VALUES (1, 5, 1, 2, '', "
                                        "UTC_TIMESTAMP(6))");
    if (cancels)
        T_OK(nq_store_cancels(nq_store_of(q), 1, &asked, &n, &t_last));
    else
        T_OK(nq_store_progress_sweep(nq_store_of(q), 100, &n, &t_last));
    held_end(other);
    ck_assert_int_eq(
        t_sql(cancels ? "SELECT COUNT(*) FROM nanoq_cancels" : "SELECT COUNT(*) FROM nanoq_progress"), 0);
    free(asked);
    nq_close(q);
}
END_TEST

/* To MariaDB a list of numbers of which some are signed and some are not names no keys. */
START_TEST(ids_that_no_task_can_have_are_deleted_with_others)
{
    nq *q = t_open();
    _Atomic int64_t cursor = 0;
    size_t n = 0;
    t_sql("INSERT INTO nanoq_attempts (task_id, generation, outcome, attempt, started_at, ended_at, worker, "
          "error) VALUES "
          "(127, 1, 1, 1, UTC_TIMESTAMP(6), UTC_TIMESTAMP(6), '', ''), (9223372036854775808, 1, 1, 1, "
          "UTC_TIMESTAMP(6), UTC_TIMESTAMP(6), '', '')");
    T_OK(nq_store_sweep_gone(nq_store_of(q), "attempts", &cursor, 100, &n, &t_last));
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_attempts"), 0);
    nq_close(q);
}
END_TEST

Suite *suite_held(void)
{
    Suite *s = suite_create("held");
    if (T_SQLITE)
        return s; /* its one write lock is everybody's */
    TCase *c = t_case(s, "held", 60);
    tcase_add_loop_test(c, outcomes_do_not_wait_for_a_task_that_is_none_of_theirs, 0, 24);
    tcase_add_loop_test(c, completions_that_a_claim_takes_along_do_not_wait_either, 0, 2);
    tcase_add_test(c, follow_ups_do_not_wait_for_one_that_a_producer_has_not_committed);
    tcase_add_test(c, the_purge_does_not_wait_for_a_record_that_is_not_committed);
    tcase_add_loop_test(c, what_is_kept_about_attempts_is_deleted_without_waiting_for_others, 0, 2);
    tcase_add_test(c, ids_that_no_task_can_have_are_deleted_with_others);
    return s;
}
