/* SPDX-License-Identifier: MIT */
/* Strict order in a group: who begins next, whatever became of those before, and whoever died. */
#include <signal.h>

#include "suites.h"

#define ORDER_SET(...) (&(nq_queue_settings){.size = sizeof(nq_queue_settings), __VA_ARGS__})

static uint64_t order_seq;

static nq_id order_add(nq *q, const char *group, const char *type, int priority)
{
    return T_ADD(q, .type = type, .queue = "mail", .group = group, .priority = priority,
                 .unique = NQ_UNIQUE_NONE);
}

/* What a claimer gets that knows nothing yet: of `types`, or NULL: any; at most so many. */
static nq_claimed *order_claim_of(nq *q, const char *queue, const char *const types[], size_t ntypes,
                                  size_t limit, size_t *n)
{
    nq_settings *s = NULL;
    nq_claimer *c = NULL;
    nq_claimed *list = NULL;
    int64_t wait = 0;
    bool soon;
    *n = 0;
    T_OK(nq_settings_read(&s, nq_store_of(q), NULL, &t_last));
    T_OK(nq_claimer_new(&c, nq_store_of(q), queue, types, ntypes, &t_last));
    nq_claimer_thorough(c);
    nq_claimer_heed(c, s);
    do { /* the first claim makes the gate, or moves what is set apart, and says to come again soon */
        T_OK(nq_claimer_claim(c, NQ_LEASE(1, ++order_seq), limit, NULL, &list, n, &wait, &t_last));
        const int64_t opens = nq_claimer_opens(c);
        soon = *n == 0 && (nq_claimer_again(c) || (opens && opens < nq_mono_us() + NQ_MS(5)));
        nq_sleep_us(soon ? NQ_MS(1) : 0);
    } while (soon);
    nq_claimer_free(c);
    nq_settings_unref(s);
    return list;
}

static nq_claimed *order_claim(nq *q)
{
    size_t n = 0;
    nq_claimed *k = order_claim_of(q, "mail", NULL, 0, 10, &n);
    ck_assert_uint_le(n, 1);
    return k;
}

/* The next one is this, and ends so. */
static void order_next(nq *q, nq_id id, enum nq_outcome_kind kind, int64_t delay_us)
{
    nq_claimed *k = order_claim(q);
    ck_assert_ptr_nonnull(k);
    ck_assert_int_eq(k->task.id, id);
    ck_assert_ptr_null(order_claim(q)); /* while it runs */
    ck_assert_int_eq(t_finish(q, k, kind, delay_us, "so"), NQ_OK);
    t_free_claimed(k);
}

static void order_none(nq *q)
{
    ck_assert_ptr_null(order_claim(q));
}

START_TEST(what_has_begun_keeps_its_place)
{
    nq *q = t_open();
    nq_id id[5];
    T_OK(nq_queue_set(q, "mail", ORDER_SET(.group = "*", .ordered = NQ_ORDERED_STRICT), &t_last));
    for (int i = 1; i < 4; i++)
        id[i] = order_add(q, "a", "t", 0);
    order_next(q, id[1], NQ_OUT_RETRY, 0);
    id[4] = order_add(q, "a", "t", -9); /* more urgent, but it has not begun */
    order_next(q, id[1], NQ_OUT_RELEASE, 0);
    order_next(q, id[1], NQ_OUT_SNOOZE, NQ_HOURS(1));
    order_none(q); /* though three others are due */
    T_OK(nq_retry(q, id[1], &t_last));
    order_next(q, id[1], NQ_OUT_DONE, 0);
    order_next(q, id[4], NQ_OUT_RETRY, NQ_HOURS(1));
    order_none(q);
    T_OK(nq_cancel(q, id[4], &t_last));
    order_next(q, id[2], NQ_OUT_DEAD, 0); /* of no matter to the others */
    order_next(q, id[3], NQ_OUT_RETRY, NQ_HOURS(1));
    T_OK(nq_delete(q, id[3], &t_last));
    order_none(q);
    nq_close(q);
}
END_TEST

START_TEST(what_waits_for_a_time_is_not_waited_for)
{
    nq *q = t_open();
    T_OK(nq_queue_set(q, "mail", ORDER_SET(.group = "a", .ordered = NQ_ORDERED_STRICT), &t_last));
    const nq_id later = T_ADD(q, .type = "t", .queue = "mail", .group = "a", .delay_us = NQ_HOURS(1)),
                now = order_add(q, "a", "t", 0);
    order_next(q, now, NQ_OUT_DONE, 0);
    order_none(q);
    T_OK(nq_retry(q, later, &t_last));
    order_next(q, later, NQ_OUT_DONE, 0);
    nq_close(q);
}
END_TEST

/* A claimer that saw until when the head waits claims it then, and not a second later or so. */
START_TEST(the_group_opens_when_its_task_is_due_again)
{
    nq *q = t_open();
    nq_settings *s = NULL;
    nq_claimer *c = NULL;
    nq_claimed *k = NULL;
    size_t n = 0;
    int64_t wait = 0, opens = 0;
    T_OK(nq_queue_set(q, "mail", ORDER_SET(.group = "a", .ordered = NQ_ORDERED_STRICT), &t_last));
    const nq_id id = order_add(q, "a", "t", 0);
    order_add(q, "a", "t", 0);
    order_next(q, id, NQ_OUT_RETRY, NQ_MS(300));
    T_OK(nq_settings_read(&s, nq_store_of(q), NULL, &t_last));
    T_OK(nq_claimer_new(&c, nq_store_of(q), "mail", NULL, 0, &t_last));
    nq_claimer_thorough(c);
    nq_claimer_heed(c, s);
    for (int i = 0; !k && i < 1000; i++) {
        T_OK(nq_claimer_claim(c, NQ_LEASE(1, ++order_seq), 9, NULL, &k, &n, &wait, &t_last));
        ck_assert(k || (wait >= 0 && wait < NQ_MS(310)));
        opens = nq_claimer_opens(c);
        ck_assert(k || (opens > 0 && opens < nq_mono_us() + NQ_MS(310)));
        nq_sleep_us(k ? 0 : NQ_MS(10));
    }
    ck_assert_int_eq(k->task.id, id);
    t_free_claimed(k);
    nq_claimer_free(c);
    nq_settings_unref(s);
    nq_close(q);
}
END_TEST

START_TEST(a_dead_task_halts_its_group)
{
    nq *q = t_open();
    uint64_t gone = 0;
    size_t n = 0;
    T_OK(nq_queue_set(q, "mail", ORDER_SET(.group = "*", .ordered = NQ_ORDERED_HALT), &t_last));
    const nq_id a = order_add(q, "a", "t", 0), b = order_add(q, "a", "t", 0), c = order_add(q, "a", "t", 0),
                d = order_add(q, "a", "t", 0);
    order_next(q, a, NQ_OUT_DEAD, 0);
    order_none(q);
    /* Neither its retention nor the sweep of idle gates lets the others go. */
    t_sql("UPDATE nanoq_finished SET finished_at = %s", T_SQLITE ? "1000000" : "'2001-01-01'");
    T_OK(nq_store_purge(nq_store_of(q), 0, 0, 100, &gone, &t_last));
    ck_assert_uint_eq(gone, 0);
    T_OK(nq_store_gates_sweep(nq_store_of(q), 100, &n, &t_last));
    order_none(q);
    T_OK(nq_retry(q, a, &t_last));
    order_next(q, a, NQ_OUT_DEAD, 0);
    T_OK(nq_retry(q, a, &t_last));
    T_OK(nq_cancel(q, a, &t_last));
    order_next(q, b, NQ_OUT_DEAD, 0);
    order_none(q);
    T_OK(nq_delete(q, b, &t_last));
    order_next(q, c, NQ_OUT_DEAD, 0);
    order_none(q);
    T_OK(nq_queue_set(q, "mail", ORDER_SET(.group = "*", .ordered = NQ_ORDERED_STRICT), &t_last));
    order_next(q, d, NQ_OUT_DONE, 0);
    T_OK(nq_store_purge(nq_store_of(q), 0, 0, 100, &gone, &t_last));
    ck_assert_uint_eq(gone, 2); /* a, cancelled, and c */
    nq_close(q);
}
END_TEST

/* How long until a task is due: for a drain, which would not end else. Of any type, and of one. */
START_TEST(what_a_shut_group_says_of_its_next_task)
{
    static const char *const types[] = {"t"};
    nq *q = t_open();
    T_OK(nq_queue_set(q, "mail", ORDER_SET(.group = "*", .ordered = NQ_ORDERED_HALT), &t_last));
    const nq_id a = order_add(q, "a", "t", 0);
    order_add(q, "a", "t", 0);
    order_next(q, a, NQ_OUT_RETRY, NQ_HOURS(1));
    for (int i = 0; i < 4; i++) {
        nq_settings *s = NULL;
        nq_claimer *c = NULL;
        nq_claimed *k = NULL;
        size_t n = 0;
        int64_t wait = 0;
        T_OK(nq_settings_read(&s, nq_store_of(q), NULL, &t_last));
        T_OK(nq_claimer_new(&c, nq_store_of(q), "mail", i % 2 ? types : NULL, 1, &t_last));
        nq_claimer_thorough(c);
        nq_claimer_heed(c, s);
        for (int again = 0; again < 2; again++) {
            T_OK(nq_claimer_claim(c, NQ_LEASE(1, ++order_seq), 9, NULL, &k, &n, &wait, &t_last));
            ck_assert_uint_eq(n, 0);
            if (i < 2)
                ck_assert_int_gt(wait, NQ_MINUTES(50));
            else
                ck_assert_int_lt(wait, 0);
        }
        nq_claimer_free(c);
        nq_settings_unref(s);
        if (i != 1)
            continue;
        T_OK(nq_retry(q, a, &t_last));
        order_next(q, a, NQ_OUT_DEAD, 0);
    }
    nq_close(q);
}
END_TEST

START_TEST(a_halted_group_without_tasks_stays_halted)
{
    nq *q = t_open();
    size_t n = 0;
    T_OK(nq_queue_set(q, "mail", ORDER_SET(.group = "*", .ordered = NQ_ORDERED_HALT), &t_last));
    const nq_id a = order_add(q, "a", "t", 0);
    order_next(q, a, NQ_OUT_DEAD, 0);
    T_OK(nq_store_gates_sweep(nq_store_of(q), 100, &n, &t_last));
    ck_assert_uint_eq(n, 0);
    const nq_id b = order_add(q, "a", "t", 0);
    order_none(q);
    T_OK(nq_delete(q, a, &t_last));
    order_next(q, b, NQ_OUT_DONE, 0);
    T_OK(nq_store_gates_sweep(nq_store_of(q), 100, &n, &t_last));
    ck_assert_uint_eq(n, 1);
    nq_close(q);
}
END_TEST

START_TEST(one_that_cannot_be_claimed_halts_too)
{
    nq *q = t_open();
    T_OK(nq_queue_set(q, "mail", ORDER_SET(.group = "*", .ordered = NQ_ORDERED_HALT), &t_last));
    const nq_id a = order_add(q, "a", "t", 0), b = order_add(q, "a", "t", 0), c = order_add(q, "a", "t", 0);
    T_OK(nq_bury_waiting(nq_store_of(q), a, "cannot be claimed", "a test", &t_last));
    order_none(q);
    T_OK(nq_bury_waiting(nq_store_of(q), c, "cannot be claimed", "a test", &t_last));
    T_OK(nq_delete(q, a, &t_last)); /* the first of them was what halted it */
    order_next(q, b, NQ_OUT_DONE, 0);
    nq_close(q);
}
END_TEST

START_TEST(only_the_first_type_counts)
{
    static const char *const first[] = {"x"}, *const second[] = {"y"};
    nq *q = t_open();
    size_t n = 0;
    T_OK(nq_queue_set(q, "mail", ORDER_SET(.group = "*", .ordered = NQ_ORDERED_STRICT), &t_last));
    const nq_id a = order_add(q, "a", "x", 0);
    order_add(q, "a", "y", 0);
    ck_assert_ptr_null(order_claim_of(q, "mail", second, 1, 9, &n));
    ck_assert_ptr_null(order_claim_of(q, "mail//a", second, 1, 9, &n));
    nq_claimed *k = order_claim_of(q, "mail//a", first, 1, 9, &n);
    ck_assert_uint_eq(n, 1);
    ck_assert_int_eq(k->task.id, a);
    t_free_claimed(k);
    nq_close(q);
}
END_TEST

/* Tasks of a type in an order of their own; and one that is set apart leaves that of its group. */
START_TEST(types_that_are_set_apart)
{
    nq *q = t_open();
    T_OK(nq_queue_set(q, "mail", ORDER_SET(.type = "pdf", .ordered = NQ_ORDERED_HALT), &t_last));
    const nq_id a = order_add(q, "a", "pdf", 0), b = order_add(q, "b", "pdf", 0),
                c = order_add(q, NULL, "pdf", 0);
    order_next(q, a, NQ_OUT_RETRY, 0);
    order_next(q, a, NQ_OUT_DONE, 0);
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_tasks WHERE queue = 'mail//:pdf'"), 2);
    order_next(q, b, NQ_OUT_DEAD, 0);
    order_none(q);
    T_OK(nq_delete(q, b, &t_last));
    order_next(q, c, NQ_OUT_DONE, 0);
    T_OK(nq_queue_set(q, "mail", ORDER_SET(.type = "pdf"), &t_last));

    T_OK(nq_queue_set(q, "mail", ORDER_SET(.group = "a", .ordered = NQ_ORDERED_STRICT), &t_last));
    const nq_id d = order_add(q, "a", "pdf", 5), e = order_add(q, "a", "t", 9);
    order_next(q, d, NQ_OUT_RETRY, 0); /* it keeps its place, */
    const nq_id f = order_add(q, "a", "t", -5);
    order_next(q, d, NQ_OUT_RETRY, 0);
    T_OK(nq_pause(q, "mail", &(nq_pause_options){.size = sizeof(nq_pause_options), .type = "pdf"}, &t_last));
    order_next(q, f, NQ_OUT_DONE, 0); /* until its type is paused, though it was the last one in the look */
    order_next(q, e, NQ_OUT_DONE, 0);
    order_none(q);
    nq_close(q);
}
END_TEST

START_TEST(plain_sql_and_bad_rows)
{
    t_ids_in_a_row();
    nq *q = t_open();
    t_sql("INSERT INTO nanoq_queues (name, max_running, ordered) VALUES ('mail//*', 5, 1)");
    t_sql("INSERT INTO nanoq_tasks (queue, type, payload) VALUES ('mail//7', 't', '1')");
    t_sql("INSERT INTO nanoq_tasks (queue, type, payload) VALUES ('mail//7', 't', '2')");
    order_next(q, 1, NQ_OUT_RETRY, 0);
    /* What anybody may have written: a head that is none, or another group's, is none. */
    t_sql("UPDATE nanoq_gates SET head = 999");
    order_next(q, 2, NQ_OUT_RETRY, 0);
    t_sql("UPDATE nanoq_tasks SET queue = 'mail//8' WHERE id = 2");
    size_t n = 0;
    t_sql("DELETE FROM nanoq_gates WHERE queue = 'mail//8'");
    t_sql("INSERT INTO nanoq_gates (queue) VALUES ('mail//8')");
    nq_claimed *both = order_claim_of(q, "mail", NULL, 0, 9, &n);
    ck_assert_uint_eq(n, 2);
    t_free_claimed(both);
    nq_close(q);
}
END_TEST

/* A first task whose row somebody has locked keeps the others from being taken for it. */
START_TEST(a_locked_row_is_not_passed_by)
{
    nq *q = t_open();
    t_conn *side = t_connect();
    T_OK(nq_queue_set(q, "mail", ORDER_SET(.group = "*", .ordered = NQ_ORDERED_STRICT), &t_last));
    const nq_id a = order_add(q, "a", "t", 0), b = order_add(q, "a", "t", 0);
    order_next(q, a, NQ_OUT_RELEASE, 0);
    t_sql("UPDATE nanoq_gates SET head = NULL");
    if (!T_SQLITE) {
        t_run(side, "START TRANSACTION");
        t_run(side, "SELECT id FROM nanoq_tasks WHERE id = %lld FOR UPDATE", (long long)a);
        order_none(q);
        t_run(side, "ROLLBACK");
    }
    order_next(q, a, NQ_OUT_DONE, 0);
    order_next(q, b, NQ_OUT_DONE, 0);
    t_disconnect(side);
    nq_close(q);
}
END_TEST

/* ---- Several processes, some of which die ---- */

struct order_run {
    bool heed;  /* the order; else the check must fail */
    int worker; /* the leases' */
};

/* Claim, and end what came in one way or another, for ever. Tells 1 when one before it is still there. */
static void order_process(int fd, void *arg)
{
    static const enum nq_outcome_kind kinds[] = {NQ_OUT_DONE, NQ_OUT_RETRY, NQ_OUT_SNOOZE, NQ_OUT_RELEASE,
                                                 NQ_OUT_DEAD, NQ_OUT_DONE,  NQ_OUT_RETRY};
    const struct order_run *r = arg;
    nq *q = t_open();
    t_conn *side = t_connect();
    nq_settings *s = NULL;
    nq_claimer *c = NULL;
    T_OK(nq_settings_read(&s, nq_store_of(q), NULL, &t_last));
    T_OK(nq_claimer_new(&c, nq_store_of(q), "mail", NULL, 0, &t_last));
    nq_claimer_heed(c, r->heed ? s : NULL);
    for (uint64_t seq = 1; seq < 100000; seq++) {
        nq_claimed *list = NULL;
        size_t n = 0;
        int64_t wait = 0;
        T_OK(nq_claimer_claim(c, NQ_LEASE(r->worker, seq), 4, NULL, &list, &n, &wait, &t_last));
        for (const nq_claimed *t = list; t; t = t->next) {
            if (t_run(side, "SELECT COUNT(*) FROM nanoq_tasks WHERE queue = 'mail//%s' AND id < %lld",
                      t->group, (long long)t->task.id) > 0)
                t_tell(fd, 1);
            const enum nq_outcome_kind kind = kinds[nq_random(sizeof kinds / sizeof *kinds - 1)];
            const bool ends = kind == NQ_OUT_DONE || kind == NQ_OUT_DEAD;
            if (ends) /* they never run out; before the end, as nobody else adds to the group then */
                order_add(q, t->group, "t", 0);
            t_finish(q, t, kind, (int64_t)nq_random(NQ_MS(3)), "so");
        }
        t_free_claimed(list);
        if (n > 0)
            t_tell(fd, 0);
    }
}

/* How often one began before its time, while 3 processes claim, and one after the other is stopped or killed.
 */
static int order_race(bool heed)
{
    struct order_run runs[3];
    t_child children[3];
    int before = 0;
    nq *q = t_open();
    T_OK(nq_queue_set(q, "mail", ORDER_SET(.group = "*", .ordered = NQ_ORDERED_STRICT), &t_last));
    for (int k = 0; k < 8; k++) {
        char group[4];
        nq_task_spec specs[60];
        int results[60];
        snprintf(group, sizeof group, "g%d", k);
        for (int i = 0; i < 60; i++)
            specs[i] = *NQ_TASK(.type = "t", .queue = "mail", .group = group, .unique = NQ_UNIQUE_NONE);
        T_OK(nq_enqueue_many(q, NQ_OWN_TX, specs, 60, NULL, results, &t_last));
    }
    nq_close(q);
    for (int i = 0; i < 3; i++) {
        runs[i] = (struct order_run){heed, 10 + i};
        t_fork(&children[i], order_process, &runs[i]);
    }
    for (int round = 0; round < (T_SQLITE ? 3 : 6); round++) {
        const int i = round % 3;
        for (int k = 0; k < 6; k++)
            before += (int)t_hear(children[(i + k) % 3].fd, 30) != 0;
        if (round % 2) {
            kill(children[i].pid, SIGSTOP);
            if (T_SQLITE) /* it may be the one writer, for whom all wait */
                t_pause_ms(50);
            for (int k = 0; k < 3 && !T_SQLITE; k++)
                before += (int)t_hear(children[(i + 1) % 3].fd, 30) != 0;
            kill(children[i].pid, SIGCONT);
            continue;
        }
        t_kill(&children[i], SIGKILL);
        T_WAIT(t_try(t_side(),
                     "UPDATE nanoq_tasks SET state = 0, lease = 0 WHERE state = 1 AND (lease >> 36) = %d",
                     runs[i].worker) == 0, /* it may meet the others' claims in a deadlock */
               20);
        runs[i].worker += 3;
        t_fork(&children[i], order_process, &runs[i]);
    }
    for (int i = 0; i < 3; i++)
        t_kill(&children[i], SIGKILL);
    return before;
}

START_TEST(order_holds_whoever_dies)
{
    ck_assert_int_eq(order_race(true), 0);
}
END_TEST

START_TEST(the_check_sees_an_order_that_is_not_heeded)
{
    ck_assert_int_gt(order_race(false), 0);
}
END_TEST

Suite *suite_order(void)
{
    Suite *s = suite_create("order");
    TCase *tc = t_case(s, "order", 20);
    tcase_add_test(tc, what_has_begun_keeps_its_place);
    tcase_add_test(tc, what_waits_for_a_time_is_not_waited_for);
    tcase_add_test(tc, the_group_opens_when_its_task_is_due_again);
    tcase_add_test(tc, a_dead_task_halts_its_group);
    tcase_add_test(tc, what_a_shut_group_says_of_its_next_task);
    tcase_add_test(tc, a_halted_group_without_tasks_stays_halted);
    tcase_add_test(tc, one_that_cannot_be_claimed_halts_too);
    tcase_add_test(tc, only_the_first_type_counts);
    tcase_add_test(tc, types_that_are_set_apart);
    tcase_add_test(tc, plain_sql_and_bad_rows);
    tcase_add_test(tc, a_locked_row_is_not_passed_by);
    tc = t_case(s, "processes", 60);
    tcase_add_test(tc, order_holds_whoever_dies);
    tcase_add_test(tc, the_check_sees_an_order_that_is_not_heeded);
    return s;
}
