/* SPDX-License-Identifier: MIT */
/* Rates over all claimers: how many tasks get a time to start, and which; and holds. */
#include <poll.h>
#include <signal.h>

#include "suites.h"

static nq_settings *rates_settings(nq *q)
{
    nq_settings *s = NULL;
    T_OK(nq_settings_read(&s, nq_store_of(q), NULL, &t_last));
    return s;
}

static nq_claimer *rates_claimer(nq *q, const nq_settings *s)
{
    nq_claimer *c = NULL;
    T_OK(nq_claimer_new(&c, nq_store_of(q), "mail", NULL, 0, &t_last));
    nq_claimer_thorough(c);
    nq_claimer_heed(c, s);
    return c;
}

static void rates_add(nq *q, const char *group, int n)
{
    for (int i = 0; i < n; i++)
        T_ADD(q, .type = "t", .queue = "mail", .group = group, .unique = NQ_UNIQUE_NONE);
}

static void rates_set(nq *q, const char *group, int64_t rate, int64_t rate_us, unsigned burst)
{
    T_OK(nq_queue_set(q, "mail",
                      &(nq_queue_settings){.size = sizeof(nq_queue_settings),
                                           .group = group,
                                           .rate = rate,
                                           .rate_us = rate_us,
                                           .burst = burst},
                      &t_last));
}

/* How far behind its time a start may come. */
static int64_t rates_late_us = NQ_PACE_LATE_US;

/* One claim: how many came, the least and the most time until they start. */
static size_t rates_claim(nq_claimer *c, uint64_t *seq, size_t limit, int64_t *first, int64_t *last)
{
    nq_claimed *list = NULL;
    size_t n = 0;
    int64_t wait = 0, now, soon = 0;
    do { /* on servers the gate is made by the first claim, which says to come again soon */
        now = nq_mono_us();
        T_OK(nq_claimer_claim(c, NQ_LEASE(1, ++*seq), limit, NULL, &list, &n, &wait, &t_last));
        soon = n == 0 && nq_claimer_opens(c) ? nq_claimer_opens(c) - nq_mono_us() : NQ_SECONDS(1);
        nq_sleep_us(soon < NQ_MS(5) ? soon : 0);
    } while (soon < NQ_MS(5));
    ck_assert(n > 0 || wait == 0 || nq_claimer_opens(c) == 0);
    for (const nq_claimed *k = list; k; k = k->next) {
        const int64_t in = k->start_us ? k->start_us - now : 0;
        if (first)
            *first = k == list || in < *first ? in : *first;
        if (last)
            *last = k == list || in > *last ? in : *last;
        ck_assert(!k->start_us || (k->late_us > k->start_us + rates_late_us - NQ_PACE_LATE_US - NQ_MS(20) &&
                                   k->late_us <= k->start_us + rates_late_us));
    }
    t_free_claimed(list);
    return n;
}

#define T_GATES(what) t_sql("SELECT " what " FROM nanoq_gates WHERE queue = 'mail'")

START_TEST(a_rate_is_spent_by_what_starts)
{
    nq *q = t_open();
    uint64_t seq = 0;
    int64_t first = 0, last = 0;
    rates_set(q, NULL, 60, NQ_SECONDS(60), 4);
    rates_add(q, NULL, 3);
    nq_settings *s = rates_settings(q);
    nq_claimer *c = rates_claimer(q, s), *other = rates_claimer(q, s);
    ck_assert_uint_eq(rates_claim(c, &seq, 100, &first, &last), 3);
    ck_assert_int_lt(last, NQ_SECONDS(3)); /* the burst, at once */
    const int64_t tat = T_GATES("tat");
    ck_assert_uint_eq(rates_claim(c, &seq, 100, NULL, NULL), 0); /* nothing is there: nothing is spent */
    ck_assert_int_eq(T_GATES("tat"), tat);
    ck_assert_int_eq(nq_claimer_opens(c), 0);
    rates_add(q, NULL, 3);
    ck_assert_uint_eq(rates_claim(other, &seq, 100, NULL, NULL), 1);
    ck_assert_uint_eq(rates_claim(c, &seq, 100, NULL, NULL), 0);
    const int64_t opens = nq_claimer_opens(c);
    ck_assert_int_gt(opens, nq_mono_us());
    ck_assert_int_le(opens, nq_mono_us() + NQ_SECONDS(1));
    ck_assert_int_eq(T_GATES("tat"), tat + 1000000000);
    /* Until then it is not even asked; settings that change are heeded at once. */
    t_sql("DELETE FROM nanoq_gates");
    ck_assert_uint_eq(rates_claim(c, &seq, 100, NULL, NULL), 0);
    rates_set(q, NULL, 600000, NQ_SECONDS(60), 0);
    nq_settings *now = rates_settings(q);
    nq_claimer_heed(c, now);
    ck_assert_uint_eq(rates_claim(c, &seq, 100, NULL, NULL), 2);
    nq_claimer_free(c);
    nq_claimer_free(other);
    nq_settings_unref(s);
    nq_settings_unref(now);
    nq_close(q);
}
END_TEST

START_TEST(starts_have_their_times)
{
    nq *q = t_open();
    uint64_t seq = 0;
    int64_t first = 0, last = 0;
    rates_set(q, NULL, 1000, NQ_SECONDS(1), 1);
    rates_add(q, NULL, 100);
    nq_settings *s = rates_settings(q);
    nq_claimer *c = rates_claimer(q, s);
    ck_assert_uint_eq(rates_claim(c, &seq, 100, &first, &last), 21);
    ck_assert_int_eq(last - first, NQ_MS(20));
    size_t n = 21;
    const int64_t begun = nq_mono_us();
    while (n < 100) {
        n += rates_claim(c, &seq, 100, NULL, NULL);
        t_pause_ms(1);
    }
    ck_assert_int_ge(nq_mono_us() - begun, NQ_MS(50));
    nq_claimer_free(c);
    nq_settings_unref(s);
    nq_close(q);
}
END_TEST

/* A start that is lost is a long pause there, and the next one is far. */
START_TEST(where_few_start_one_may_be_late)
{
    nq *q = t_open();
    uint64_t seq = 0;
    rates_set(q, NULL, 36, NQ_SECONDS(3600), 2);
    rates_add(q, NULL, 3);
    nq_settings *s = rates_settings(q);
    nq_claimer *c = rates_claimer(q, s);
    rates_late_us = NQ_SECONDS(5); /* a twentieth of 100 s */
    ck_assert_uint_eq(rates_claim(c, &seq, 100, NULL, NULL), 2);
    nq_settings_unref(s);
    /* And what belongs to two rates heeds the stricter one. */
    rates_set(q, NULL, 10, NQ_SECONDS(1), 10);
    rates_set(q, "*", 1, NQ_SECONDS(20), 1);
    rates_add(q, "a", 1);
    s = rates_settings(q);
    nq_claimer_heed(c, s);
    rates_late_us = NQ_PACE_LATE_US;
    ck_assert_uint_ge(rates_claim(c, &seq, 100, NULL, NULL), 1);
    nq_claimer_free(c);
    nq_settings_unref(s);
    nq_close(q);
}
END_TEST

START_TEST(groups_have_rates_of_their_own)
{
    nq *q = t_open();
    uint64_t seq = 0;
    size_t n = 0;
    rates_set(q, "*", 1, NQ_SECONDS(60), 2);
    rates_set(q, "c", 1, NQ_SECONDS(60), 5);
    rates_late_us = NQ_SECONDS(3); /* a twentieth of that */
    rates_add(q, "a", 4);
    rates_add(q, "b", 1);
    rates_add(q, "c", 9);
    rates_add(q, NULL, 4);
    nq_settings *s = rates_settings(q);
    nq_claimer *c = rates_claimer(q, s);
    for (int i = 0; i < 6; i++)
        n += rates_claim(c, &seq, 100, NULL, NULL);
    ck_assert_uint_eq(n, 2 + 1 + 5 + 4);
    ck_assert_int_gt(nq_claimer_opens(c), 0);
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_tasks WHERE state = 1 AND queue = 'mail//c'"), 5);
    /* And all of them together another one: from its burst on. */
    t_sql("UPDATE nanoq_tasks SET state = 0, lease = 0");
    t_sql("DELETE FROM nanoq_gates");
    rates_set(q, NULL, 1, NQ_SECONDS(60), 6);
    nq_settings_unref(s);
    s = rates_settings(q);
    nq_claimer_heed(c, s);
    n = 0;
    for (int i = 0; i < 6; i++)
        n += rates_claim(c, &seq, 100, NULL, NULL);
    ck_assert_uint_eq(n, 6);
    nq_claimer_free(c);
    nq_settings_unref(s);
    nq_close(q);
}
END_TEST

/* What is left of a burst is in the gate: without it the next tasks would have all of it again. */
START_TEST(a_gate_stays_until_the_burst_is_there_again)
{
    nq *q = t_open();
    uint64_t seq = 0;
    size_t n = 0;
    rates_set(q, "*", 1, NQ_SECONDS(1), 10);
    rates_add(q, "a", 30);
    nq_settings *s = rates_settings(q);
    nq_claimer *c = rates_claimer(q, s);
    ck_assert_uint_eq(rates_claim(c, &seq, 100, NULL, NULL), 10);
    nq_claimer_free(c);
    t_sql("DELETE FROM nanoq_tasks");
    t_sql("UPDATE nanoq_gates SET tat = tat - 3000000000"); /* 3 s go by */
    T_OK(nq_store_gates_sweep(nq_store_of(q), 100, &n, &t_last));
    ck_assert_uint_eq(n, 0);
    rates_add(q, "a", 30);
    c = rates_claimer(q, s);
    const size_t again = rates_claim(c, &seq, 100, NULL, NULL);
    ck_assert_uint_ge(again, 3);
    ck_assert_uint_lt(again, 10);
    t_sql("DELETE FROM nanoq_tasks");
    t_sql("UPDATE nanoq_gates SET tat = tat - 20000000000");
    T_OK(nq_store_gates_sweep(nq_store_of(q), 100, &n, &t_last));
    ck_assert_uint_eq(n, 1);
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_gates WHERE queue LIKE '%%//%%'"), 0);
    nq_claimer_free(c);
    nq_settings_unref(s);
    nq_close(q);
}
END_TEST

/* A token at a time: the next group has the next one. */
START_TEST(the_rate_of_a_queue_is_shared_in_turns)
{
    nq *q = t_open();
    uint64_t seq = 0;
    rates_set(q, NULL, 100, NQ_SECONDS(1), 1);
    for (int k = 0; k < 8; k++) {
        char group[4];
        snprintf(group, sizeof group, "g%d", k);
        rates_add(q, group, 20);
    }
    rates_add(q, NULL, 20);
    nq_settings *s = rates_settings(q);
    nq_claimer *c = rates_claimer(q, s);
    for (size_t n = 0; n < 27; t_pause_ms(1))
        n += rates_claim(c, &seq, 100, NULL, NULL);
    ck_assert_int_ge(t_sql("SELECT MIN(n) FROM (SELECT COUNT(*) AS n FROM nanoq_tasks WHERE state = 0 GROUP "
                           "BY queue) x"),
                     15);
    ck_assert_int_le(t_sql("SELECT MAX(n) FROM (SELECT COUNT(*) AS n FROM nanoq_tasks WHERE state = 0 GROUP "
                           "BY queue) x"),
                     18);
    nq_claimer_free(c);
    nq_settings_unref(s);
    nq_close(q);
}
END_TEST

/* Whatever stands in the rows, claims go on: by a rate that is one, or none. */
START_TEST(rows_of_plain_sql)
{
    static const char *const tats[] = {"9223372036854775807", "-9223372036854775807", "-1", "1"};
    nq *q = t_open();
    uint64_t seq = 0;
    t_sql("INSERT INTO nanoq_queues (name, rate, rate_us, burst) VALUES ('mail', 4294967, 1000, 3)");
    rates_add(q, NULL, 40);
    nq_settings *s = rates_settings(q);
    nq_claimer *c = rates_claimer(q, s);
    for (size_t i = 0; i < sizeof tats / sizeof *tats; i++) {
        t_sql("DELETE FROM nanoq_gates");
        t_sql("INSERT INTO nanoq_gates (queue, tat, not_before) VALUES ('mail', %s, %s)", tats[i],
              T_SQLITE ? "-5" : "'1000-01-01'");
        ck_assert_uint_eq(rates_claim(c, &seq, 3, NULL, NULL), 3);
    }
    if (T_SQLITE) {
        t_sql("UPDATE nanoq_gates SET tat = 'x', not_before = 'y'");
        ck_assert_uint_eq(rates_claim(c, &seq, 3, NULL, NULL), 3);
        t_sql("UPDATE nanoq_gates SET tat = 1e300, not_before = -1e300");
        ck_assert_uint_eq(rates_claim(c, &seq, 3, NULL, NULL), 3);
    }
    t_sql("INSERT INTO nanoq_gates (queue, not_before) VALUES ('', %s)",
          T_SQLITE ? "4000000000000000" : "'9999-01-01'"); /* held, and no queue's */
    nq_settings_unref(rates_settings(q));
    nq_claimer_free(c);
    nq_settings_unref(s);
    nq_close(q);
}
END_TEST

/* ---- Holds ---- */

START_TEST(a_hold_is_of_the_claim_that_makes_it)
{
    nq *q = t_open();
    uint64_t seq = 0;
    nq_claimed *list = NULL;
    size_t n = 0;
    int64_t wait = 0;
    rates_add(q, "a", 2);
    rates_add(q, "b", 2);
    nq_claimer *c = rates_claimer(q, NULL);
    T_OK(nq_claimer_claim(c, NQ_LEASE(1, ++seq), 1, NULL, &list, &n, &wait, &t_last));
    ck_assert_uint_eq(n, 1);
    nq_store *s = nq_store_of(q);
    char name[NQ_MAX_QUEUE + 1], other[NQ_MAX_QUEUE + 1];
    snprintf(name, sizeof name, "mail//%s", list->task.group);
    snprintf(other, sizeof other, "mail//%s", list->task.group[0] == 'a' ? "b" : "a");
    ck_assert_int_eq(nq_store_hold(s, name, list->task.id, list->lease + 1, NQ_SECONDS(9), &t_last),
                     NQ_ELEASE);
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_gates"), 0);
    T_OK(nq_store_hold(s, name, list->task.id, list->lease, NQ_SECONDS(60), &t_last));
    T_OK(nq_store_hold(s, name, list->task.id, list->lease, NQ_SECONDS(1),
                       &t_last)); /* the longer one stays */
    T_OK(nq_store_hold(s, name, list->task.id, list->lease, NQ_MAX_DURATION, &t_last));
    nq_settings *held = rates_settings(q);
    ck_assert_int_gt(nq_settings_held(held, name), nq_mono_us() + NQ_SECONDS(3600));
    ck_assert_int_eq(nq_settings_held(held, other), 0);
    ck_assert_int_eq(nq_settings_held(held, "mail"), 0);
    /* Claims of the others go on. */
    nq_claimer_heed(c, held);
    ck_assert_uint_eq(rates_claim(c, &seq, 100, NULL, NULL), 2);
    ck_assert_uint_eq(rates_claim(c, &seq, 100, NULL, NULL), 0);
    ck_assert_int_gt(nq_claimer_opens(c), nq_mono_us());
    T_OK(nq_store_hold(s, "mail", list->task.id, list->lease, NQ_SECONDS(60), &t_last));
    nq_settings *all = rates_settings(q);
    ck_assert_int_gt(nq_settings_held(all, other), nq_mono_us());
    ck_assert_uint_eq(all->hash, held->hash); /* who waits for everybody to know settings does not mind */
    t_sql("UPDATE nanoq_gates SET not_before = %s", T_SQLITE ? "5" : "'1000-01-01'");
    nq_settings *none = rates_settings(q);
    ck_assert_uint_eq(none->nholds, 0);
    nq_claimer_heed(c, none);
    ck_assert_uint_eq(rates_claim(c, &seq, 100, NULL, NULL), 1);
    t_free_claimed(list);
    nq_claimer_free(c);
    nq_settings_unref(held);
    nq_settings_unref(all);
    nq_settings_unref(none);
    nq_close(q);
}
END_TEST

/* Behind the lock of the gate, whatever the claimer has read of holds. */
START_TEST(a_rated_queue_that_is_held_gives_nothing)
{
    nq *q = t_open();
    uint64_t seq = 0;
    rates_set(q, NULL, 1000, NQ_SECONDS(1), 1);
    rates_add(q, NULL, 5);
    nq_settings *s = rates_settings(q);
    nq_claimer *c = rates_claimer(q, s);
    t_sql("INSERT INTO nanoq_gates (queue, not_before) VALUES ('mail', %s)",
          T_SQLITE ? "9e15" : "'9999-12-31'");
    ck_assert_uint_eq(rates_claim(c, &seq, 100, NULL, NULL), 0);
    ck_assert_int_gt(nq_claimer_opens(c), nq_mono_us() + NQ_MS(500));
    nq_claimer_free(c);
    c = rates_claimer(q, s);
    t_sql("UPDATE nanoq_gates SET not_before = NULL");
    ck_assert_uint_eq(rates_claim(c, &seq, 100, NULL, NULL), 5);
    nq_claimer_free(c);
    nq_settings_unref(s);
    nq_close(q);
}
END_TEST

/* ---- Several processes, and plain SQL ---- */

#define RATES_RATE  400
#define RATES_BURST 10

/* Claim for ever, tell when each task starts. */
static void rates_process(int fd, void *arg)
{
    const int *id = arg;
    nq *q = t_open();
    nq_settings *s = NULL;
    nq_claimer *c = rates_claimer(q, NULL);
    for (uint64_t seq = 1; seq < 1000000; seq++) {
        nq_claimed *list = NULL;
        size_t n = 0;
        int64_t wait = 0;
        if (seq % 16 == 1) {
            nq_settings *now = rates_settings(q);
            nq_claimer_heed(c, now);
            nq_settings_unref(s);
            s = now;
        }
        T_OK(nq_claimer_claim(c, NQ_LEASE(*id, seq), 30, NULL, &list, &n, &wait, &t_last));
        for (const nq_claimed *k = list; k; k = k->next)
            t_tell(fd, k->start_us);
        t_free_claimed(list);
        if (n == 0)
            nq_sleep_us(NQ_MS(2));
    }
}

static int rates_compare(const void *a, const void *b)
{
    const int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

/* Most in any window of so long. */
static int rates_most(int64_t starts[], size_t n, int64_t us)
{
    int most = 0;
    qsort(starts, n, sizeof *starts, rates_compare);
    for (size_t i = 0, k = 0; i < n; i++) {
        while (starts[i] - starts[k] >= us)
            k++;
        most = (int)(i - k + 1) > most ? (int)(i - k + 1) : most;
    }
    return most;
}

START_TEST(any_window_over_all_processes)
{
    static int64_t starts[4000];
    static const int ids[] = {10, 11, 12, 13};
    t_child children[4];
    size_t n = 0;
    nq *q = t_open();
    /* Plain SQL sets it while they claim: before it nothing has a time. */
    t_sql("INSERT INTO nanoq_queues (name, rate, rate_us, burst) VALUES ('mail', %d, 1000000, %d)",
          RATES_RATE, RATES_BURST);
    for (int i = 0; i < 12; i++)
        rates_add(q, NULL, 50);
    const int64_t begun = nq_mono_us();
    for (int i = 0; i < 4; i++)
        t_fork(&children[i], rates_process, (void *)(uintptr_t)&ids[i]);
    while (n < 560) {
        struct pollfd fds[4];
        for (int i = 0; i < 4; i++)
            fds[i] = (struct pollfd){children[i].fd, POLLIN, 0};
        ck_assert_int_gt(poll(fds, 4, 20000), 0);
        for (int i = 0; i < 4; i++)
            if (fds[i].revents)
                starts[n++] = t_hear(children[i].fd, 20);
        if (n == 200)
            t_sql("UPDATE nanoq_queues SET burst = %d", RATES_BURST - 1);
    }
    for (int i = 0; i < 4; i++)
        t_kill(&children[i], SIGKILL);
    qsort(starts, n, sizeof *starts, rates_compare);
    ck_assert_int_gt(starts[0], begun); /* each had a time */
    ck_assert_int_le(rates_most(starts, n, NQ_SECONDS(1)), RATES_RATE + RATES_BURST + 1);
    ck_assert_int_le(rates_most(starts, n, NQ_MS(100)), RATES_RATE / 10 + RATES_BURST + 1);
    nq_close(q);
}
END_TEST

Suite *suite_rates(void)
{
    Suite *s = suite_create("rates");
    TCase *tc = t_case(s, "rates", 20);
    tcase_add_test(tc, a_rate_is_spent_by_what_starts);
    tcase_add_test(tc, starts_have_their_times);
    tcase_add_test(tc, where_few_start_one_may_be_late);
    tcase_add_test(tc, groups_have_rates_of_their_own);
    tcase_add_test(tc, a_gate_stays_until_the_burst_is_there_again);
    tcase_add_test(tc, the_rate_of_a_queue_is_shared_in_turns);
    tcase_add_test(tc, rows_of_plain_sql);
    tcase_add_test(tc, a_hold_is_of_the_claim_that_makes_it);
    tcase_add_test(tc, a_rated_queue_that_is_held_gives_nothing);
    tc = t_case(s, "processes", 60);
    tcase_add_test(tc, any_window_over_all_processes);
    return s;
}
