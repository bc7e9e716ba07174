/* SPDX-License-Identifier: MIT */
/* Limits over all claimers: of each group, of one group, of a queue with its groups; and who dies under one.
 */
#include <dlfcn.h>
#include <mysql.h>
#include <signal.h>
#include <sys/wait.h>

#include "suites.h"

static nq_settings *gates_settings(nq *q)
{
    nq_settings *s = NULL;
    T_OK(nq_settings_read(&s, nq_store_of(q), NULL, &t_last));
    return s;
}

static nq_claimer *gates_claimer_of(nq *q, const char *queue, const nq_settings *s, const char *const types[],
                                    size_t ntypes)
{
    nq_claimer *c = NULL;
    T_OK(nq_claimer_new(&c, nq_store_of(q), queue, types, ntypes, &t_last));
    nq_claimer_thorough(c);
    nq_claimer_heed(c, s);
    return c;
}

static nq_claimer *gates_claimer(nq *q, const char *queue, const nq_settings *s)
{
    return gates_claimer_of(q, queue, s, NULL, 0);
}

static void gates_add(nq *q, const char *group, int n)
{
    nq_task_spec specs[60];
    int results[60];
    for (int i = 0; i < n; i++)
        specs[i] = *NQ_TASK(.type = "t", .queue = "mail", .group = group, .unique = NQ_UNIQUE_NONE);
    T_OK(nq_enqueue_many(q, NQ_OWN_TX, specs, (size_t)n, NULL, results, &t_last));
}

static void gates_limit(nq *q, const char *queue, const char *group, int64_t most)
{
    T_OK(nq_queue_set(
        q, queue,
        &(nq_queue_settings){.size = sizeof(nq_queue_settings), .group = group, .max_running = most},
        &t_last));
}

/* How many a claim for `wanted` brings, which ends these (NULL: none). */
static size_t gates_claim(nq_claimer *c, uint64_t lease, nq_claimed *ends, size_t wanted, nq_claimed **list)
{
    nq_outcome outs[8];
    nq_outcome *all[8];
    nq_piggyback p = {.outcomes = all};
    size_t n = 0;
    int64_t wait = 0;
    for (const nq_claimed *k = ends; k; k = k->next, p.n++) {
        outs[p.n] =
            (nq_outcome){.id = k->task.id, .lease = k->lease, .kind = NQ_OUT_DONE, .queue = k->task.queue};
        all[p.n] = &outs[p.n];
    }
    T_OK(nq_claimer_claim(c, lease, wanted, &p, list, &n, &wait, &t_last));
    t_free_claimed(ends);
    return n;
}

/* Claim until nothing more comes; how many came. A new gate is passed from the second claim on. */
static size_t gates_all(nq_claimer *c, uint64_t *seq, size_t limit)
{
    size_t got = 0, n = 1;
    int64_t wait = 0;
    for (int empty = 0; empty < 3; empty = n ? 0 : empty + 1) {
        nq_claimed *list = NULL;
        T_OK(nq_claimer_claim(c, NQ_LEASE(1, ++*seq), limit, NULL, &list, &n, &wait, &t_last));
        got += n;
        t_free_claimed(list);
    }
    return got;
}

static int64_t gates_running(const char *queue)
{
    return t_sql("SELECT COUNT(*) FROM nanoq_tasks WHERE state = 1 AND queue = '%s'", queue);
}

START_TEST(each_group_has_its_limit)
{
    nq *q = t_open();
    uint64_t seq = 0;
    gates_limit(q, "mail", "*", 2);
    gates_limit(q, "mail", "c", 3);
    gates_add(q, "a", 5);
    gates_add(q, "b", 1);
    gates_add(q, "c", 5);
    gates_add(q, NULL, 4);
    nq_settings *s = gates_settings(q);
    nq_claimer *c = gates_claimer(q, "mail", s), *one = gates_claimer(q, "mail//a", s);
    ck_assert_uint_eq(gates_all(c, &seq, 7), 2 + 1 + 3 + 4);
    ck_assert(nq_claimer_throttled(c));
    ck_assert_int_eq(gates_running("mail//a"), 2);
    ck_assert_int_eq(gates_running("mail//c"), 3);
    ck_assert_uint_eq(gates_all(one, &seq, 7), 0);
    t_sql("UPDATE nanoq_tasks SET state = 0 WHERE queue = 'mail//a'");
    ck_assert_uint_eq(gates_all(one, &seq, 7), 2);
    t_sql("DELETE FROM nanoq_tasks WHERE state = 1");
    ck_assert_uint_eq(gates_all(c, &seq, 500), 2 + 2);
    nq_claimer_free(c);
    nq_claimer_free(one);
    nq_settings_unref(s);
    nq_close(q);
}
END_TEST

/* A full queue gives no claim anything: that is nobody's turn. */
START_TEST(a_full_queue_keeps_whose_turn_it_is)
{
    nq *q = t_open();
    uint64_t seq = 0;
    char seen[10] = "";
    gates_limit(q, "mail", NULL, 1);
    for (int k = 0; k < 9; k++)
        gates_add(q, (const char[]){(char)('a' + k), '\0'}, 2);
    nq_settings *s = gates_settings(q);
    nq_claimer *c = gates_claimer(q, "mail", s);
    for (size_t k = 0; k < 9; k++) {
        nq_claimed *list = NULL;
        while (gates_claim(c, NQ_LEASE(1, ++seq), NULL, k % 3 ? 100 : 2, &list) == 0) /* the gate is made */
            ;
        ck_assert_ptr_null(strchr(seen, list->task.group[0]));
        seen[k] = list->task.group[0];
        t_free_claimed(list);
        for (int i = 0; i < 4; i++)
            ck_assert_uint_eq(gates_claim(c, NQ_LEASE(1, ++seq), NULL, k % 3 ? 100 : 2, &list), 0);
        t_sql("DELETE FROM nanoq_tasks WHERE state = 1");
    }
    nq_claimer_free(c);
    nq_settings_unref(s);
    nq_close(q);
}
END_TEST

/* Where a gate is a row, a new group has its own from the first claim on that came by, though others brought
 * something. */
START_TEST(a_new_group_waits_for_no_others)
{
    nq *q = t_open();
    uint64_t seq = 0;
    nq_claimed *list = NULL;
    gates_limit(q, "mail", "*", 1);
    gates_add(q, "a", 2);
    nq_settings *s = gates_settings(q);
    nq_claimer *c = gates_claimer(q, "mail", s);
    ck_assert_uint_eq(gates_all(c, &seq, 5), 1);
    t_sql("DELETE FROM nanoq_tasks WHERE state = 1");
    gates_add(q, "b", 1);
    ck_assert_uint_ge(gates_claim(c, NQ_LEASE(1, ++seq), NULL, 5, &list), 1);
    t_free_claimed(list);
    t_sql("UPDATE nanoq_tasks SET state = 0");
    ck_assert_uint_eq(gates_claim(c, NQ_LEASE(1, ++seq), NULL, 5, &list), 2);
    t_free_claimed(list);
    nq_claimer_free(c);
    nq_settings_unref(s);
    nq_close(q);
}
END_TEST

START_TEST(a_queue_has_its_limit)
{
    nq *q = t_open();
    uint64_t seq = 0;
    gates_limit(q, "mail", NULL, 4);
    gates_add(q, NULL, 6);
    nq_settings *s = gates_settings(q);
    nq_claimer *c = gates_claimer(q, "mail", s);
    ck_assert_uint_eq(gates_all(c, &seq, 3), 4);
    t_sql("DELETE FROM nanoq_tasks WHERE state = 1");
    /* And with its groups, whatever their own limits. */
    gates_add(q, "a", 3);
    gates_add(q, "b", 3);
    gates_limit(q, "mail", "b", 1);
    nq_claimer_free(c);
    nq_settings_unref(s);
    s = gates_settings(q);
    c = gates_claimer(q, "mail", s);
    ck_assert_uint_eq(gates_all(c, &seq, 100), 4);
    ck_assert_int_le(gates_running("mail//b"), 1);
    t_sql("DELETE FROM nanoq_tasks WHERE state = 1");
    ck_assert_uint_le(gates_all(c, &seq, 100), 4);
    ck_assert_int_le(t_sql("SELECT COUNT(*) FROM nanoq_tasks WHERE state = 1"), 4);
    nq_claimer_free(c);
    nq_settings_unref(s);
    nq_close(q);
}
END_TEST

START_TEST(types_are_filtered_under_a_limit)
{
    static const char *const types[] = {"t"};
    nq *q = t_open();
    uint64_t seq = 0;
    gates_limit(q, "mail", "*", 2);
    gates_limit(q, "mail", NULL, 3);
    gates_add(q, "a", 4);
    gates_add(q, "b", 4);
    T_ADD(q, .type = "other", .queue = "mail", .group = "c");
    /* The last one came due first. */
    t_sql("UPDATE nanoq_tasks SET run_at = %s WHERE queue = 'mail//a' AND id = 4",
          T_SQLITE ? "10000000000000" : "'2020-01-01'");
    nq_settings *s = gates_settings(q);
    nq_claimer *c = gates_claimer_of(q, "mail", s, types, 1);
    ck_assert_uint_eq(gates_all(c, &seq, 8), 3);
    ck_assert_int_le(gates_running("mail//a"), 2);
    ck_assert_int_le(gates_running("mail//b"), 2);
    ck_assert_int_eq(t_sql("SELECT state FROM nanoq_tasks WHERE id = 4"), 1);
    ck_assert_int_eq(gates_running("mail//c"), 0);
    nq_claimer_free(c);
    nq_settings_unref(s);
    nq_close(q);
}
END_TEST

START_TEST(weights_share_a_claim)
{
    nq *q = t_open();
    nq_claimed *list = NULL;
    T_OK(nq_queue_set(q, "mail",
                      &(nq_queue_settings){.size = sizeof(nq_queue_settings), .group = "a", .weight = 3},
                      &t_last));
    gates_add(q, "a", 20);
    gates_add(q, "b", 20);
    nq_settings *s = gates_settings(q);
    nq_claimer *c = gates_claimer(q, "mail", s);
    ck_assert_uint_eq(gates_claim(c, NQ_LEASE(1, 1), NULL, 8, &list), 8);
    ck_assert_int_eq(gates_running("mail//a"), 6);
    t_free_claimed(list);
    nq_claimer_free(c);
    nq_settings_unref(s);
    nq_close(q);
}
END_TEST

START_TEST(gates_of_groups_without_tasks_go)
{
    nq *q = t_open();
    size_t n = 0;
    uint64_t seq = 0;
    gates_limit(q, "mail", "*", 1);
    gates_add(q, "a", 1);
    gates_add(q, "b", 1);
    nq_settings *s = gates_settings(q);
    nq_claimer *c = gates_claimer(q, "mail", s);
    ck_assert_uint_eq(gates_all(c, &seq, 5), 2);
    t_sql("DELETE FROM nanoq_gates"); /* SQLite makes none */
    t_sql("INSERT INTO nanoq_gates (queue) VALUES ('mail'), ('mail//a'), ('mail//b'), ('mail//c')");
    t_sql("INSERT INTO nanoq_gates (queue, not_before) VALUES ('mail//d', %s)",
          T_SQLITE ? "9e15" : "'9999-12-31'");
    t_sql("DELETE FROM nanoq_tasks WHERE queue = 'mail//a'");
    T_OK(nq_store_gates_sweep(nq_store_of(q), 100, &n, &t_last));
    ck_assert_uint_eq(n, 2);
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_gates WHERE queue IN ('mail//a', 'mail//c')"), 0);
    t_sql("UPDATE nanoq_tasks SET state = 0, lease = 0");
    ck_assert_uint_eq(gates_all(c, &seq, 5), 1);
    nq_claimer_free(c);
    nq_settings_unref(s);
    nq_close(q);
}
END_TEST

/* ---- Places that are handed on ---- */

START_TEST(a_place_is_handed_on)
{
    nq *q = t_open();
    nq_claimed *list = NULL;
    size_t n = 0;
    if (!nq_store_piggybacks(nq_store_of(q), 1)) {
        nq_close(q);
        return;
    }
    gates_limit(q, "mail", NULL, 3);
    gates_add(q, NULL, 20);
    nq_settings *s = gates_settings(q);
    nq_claimer *c = gates_claimer(q, "mail", s);
    const int64_t until = t_mono() + NQ_MS(250); /* from then on it counts again */
    for (int i = 0; i < 2 && n == 0; i++)        /* the first one makes the gate */
        n = gates_claim(c, NQ_LEASE(1, 1), NULL, 5, &list);
    ck_assert_uint_eq(n, 3);
    ck_assert(nq_claimer_last(c)->counted && nq_claimer_throttled(c));
    t_sql("DELETE FROM nanoq_gates"); /* what needs it now brings nothing on a server */
    n = gates_claim(c, NQ_LEASE(1, 2), list, 5, &list);
    if (t_mono() < until) {
        ck_assert_uint_eq(n, 3);
        ck_assert_int_eq(gates_running("mail"), 3);
        /* Another has one of them: its place is not ours. */
        t_sql("UPDATE nanoq_tasks SET lease = 5 WHERE id = %lld", (long long)list->task.id);
        n = gates_claim(c, NQ_LEASE(1, 3), list, 5, &list);
        ck_assert_msg((n == 0 && gates_running("mail") == 1) || t_mono() >= until, "%zu claimed", n);
    }
    t_free_claimed(list);
    nq_claimer_free(c);
    nq_settings_unref(s);
    nq_close(q);
}
END_TEST

START_TEST(a_lower_limit_is_reached)
{
    nq *q = t_open();
    nq_claimed *list = NULL;
    size_t n = 0;
    gates_limit(q, "mail", NULL, 6);
    gates_add(q, NULL, 60);
    nq_settings *s = gates_settings(q);
    nq_claimer *c = gates_claimer(q, "mail", s), *other = gates_claimer(q, "mail", s);
    uint64_t seq = 100;
    for (int i = 0; i < 2 && n == 0; i++)
        n = gates_claim(c, NQ_LEASE(1, 1), NULL, 3, &list);
    ck_assert_uint_eq(gates_all(other, &seq, 3), 3);
    gates_limit(q, "mail", NULL, 4);
    nq_settings *low = gates_settings(q);
    nq_claimer_heed(c, low);
    n = gates_claim(c, NQ_LEASE(1, 2), list, 3, &list);
    ck_assert_uint_le(n, 1);
    t_free_claimed(list);
    nq_claimer_free(c);
    nq_claimer_free(other);
    nq_settings_unref(low);
    nq_settings_unref(s);
    nq_close(q);
}
END_TEST

/* ---- Several processes, some of which die ---- */

struct gates_run {
    bool heed;    /* the limits; else the check must fail */
    int worker;   /* the leases' */
    int most, of; /* of a group, of all */
};

/* Claim, look whether too much runs, give back, for ever. Tells 1 when it saw too much. */
static void gates_process(int fd, void *arg)
{
    const struct gates_run *r = arg;
    nq *q = t_open();
    t_conn *side = t_connect();
    nq_settings *s = gates_settings(q);
    nq_claimer *c = gates_claimer(q, "mail", r->heed ? s : NULL);
    for (uint64_t seq = 1; seq < 100000; seq++) {
        nq_claimed *list = NULL;
        size_t n = 0;
        int64_t wait = 0;
        T_OK(nq_claimer_claim(c, NQ_LEASE(r->worker, seq), 6, NULL, &list, &n, &wait, &t_last));
        if (t_run(side,
                  "SELECT COUNT(*) FROM (SELECT queue FROM nanoq_tasks WHERE state = 1 GROUP BY queue "
                  "HAVING COUNT(*) > %d) x",
                  r->most) > 0 ||
            t_run(side, "SELECT COUNT(*) FROM nanoq_tasks WHERE state = 1") > r->of)
            t_tell(fd, 1);
        for (const nq_claimed *t = list; t; t = t->next)
            t_finish(q, t, NQ_OUT_RELEASE, 0, NULL);
        t_free_claimed(list);
        if (n > 0)
            t_tell(fd, 0);
    }
}

/* How often too much ran, while 3 processes claim, and one after the other is stopped or killed. */
static int gates_race(bool heed)
{
    struct gates_run runs[3];
    t_child children[3];
    int above = 0;
    nq *q = t_open();
    gates_limit(q, "mail", "*", 1);
    gates_limit(q, "mail", NULL, 5);
    for (int k = 0; k < 8; k++) {
        char group[4];
        snprintf(group, sizeof group, "g%d", k);
        gates_add(q, group, 60);
    }
    nq_close(q);
    for (int i = 0; i < 3; i++) {
        runs[i] = (struct gates_run){heed, 10 + i, 1, 5};
        t_fork(&children[i], gates_process, &runs[i]);
    }
    for (int round = 0; round < (T_SQLITE ? 2 : 6); round++) { /* one writer at a time is slow at this */
        const int i = round % 3;
        for (int k = 0; k < 4; k++)
            above += (int)t_hear(children[(i + k) % 3].fd, 30) != 0;
        if (round % 2) {
            kill(children[i].pid, SIGSTOP);
            t_pause_ms(50); /* all may wait for it: it has the queue's gate, or is the one writer of SQLite */
            kill(children[i].pid, SIGCONT);
            continue;
        }
        t_kill(&children[i], SIGKILL);
        T_WAIT(t_try(t_side(),
                     "UPDATE nanoq_tasks SET state = 0, lease = 0 WHERE state = 1 AND (lease >> 36) = %d",
                     runs[i].worker) == 0, /* it may meet the others' claims in a deadlock */
               20);
        runs[i].worker += 3;
        t_fork(&children[i], gates_process, &runs[i]);
    }
    for (int i = 0; i < 3; i++)
        t_kill(&children[i], SIGKILL);
    return above;
}

START_TEST(limits_hold_whoever_dies)
{
    ck_assert_int_eq(gates_race(true), 0);
}
END_TEST

START_TEST(the_check_sees_limits_that_are_not_heeded)
{
    ck_assert_int_gt(gates_race(false), 0);
}
END_TEST

/* ---- A process that is stopped in the midst of a claim ---- */

static int gates_stop_after; /* so many more queries; 0: never */

/* The one that the library calls. */
int STDCALL mysql_real_query(MYSQL *my, const char *sql, unsigned long n)
{
    int (*real)(MYSQL *, const char *, unsigned long);
    void *p = dlsym(RTLD_NEXT, "mysql_real_query");
    memcpy(&real, &p, sizeof real);
    const int rc = real(my, sql, n);
    if (gates_stop_after > 0 && --gates_stop_after == 0)
        raise(SIGSTOP);
    return rc;
}

static void gates_stopping(int fd, void *arg)
{
    nq *q = t_open();
    nq_settings *s = gates_settings(q);
    nq_claimer *c = gates_claimer(q, "mail", s);
    nq_claimed *list = NULL;
    gates_stop_after = *(const int *)arg;
    t_tell(fd, (int64_t)gates_claim(c, NQ_LEASE(9, 1), NULL, 2, &list));
    t_free_claimed(list);
    nq_claimer_free(c);
    nq_settings_unref(s);
    nq_close(q);
}

/* What another process still gets, at once; *seq: of its leases. */
static size_t gates_others(uint64_t *seq)
{
    nq *q = t_open();
    nq_settings *s = gates_settings(q);
    nq_claimer *c = gates_claimer(q, "mail", s);
    const int64_t start = t_mono();
    const size_t n = gates_all(c, seq, 3);
    ck_assert_int_lt(t_mono() - start, NQ_MS(500) * T_SLOW_FACTOR);
    ck_assert_int_le(t_sql("SELECT COUNT(*) FROM nanoq_tasks WHERE state = 1"), 3);
    nq_claimer_free(c);
    nq_settings_unref(s);
    nq_close(q);
    return n;
}

/* Wherever in a claim: a gate that it held would be held until the server drops the session. */
START_TEST(a_stopped_claimer_keeps_nobody_waiting)
{
    bool ended = false;
    int stop = 0;
    for (uint64_t seq = 1; !ended; stop++) {
        t_child child = {.pid = 0};
        int status = 0;
        if (T_SQLITE)
            return;
        if (stop > 0) {
            t_sql("UPDATE nanoq_tasks SET state = 0, lease = 0 WHERE state = 1");
            t_fork(&child, gates_stopping, &stop);
            ck_assert_int_eq(waitpid(child.pid, &status, WUNTRACED), child.pid);
            ended = !WIFSTOPPED(status);
        }
        nq *q = t_open();
        gates_limit(q, "mail", NULL, 3);
        gates_limit(q, "mail", "*", 1);
        for (char group[] = "a"; stop == 0 && group[0] <= 'c'; group[0]++)
            gates_add(q, group, 4);
        nq_close(q);
        ck_assert_uint_ge(gates_others(&seq), 1); /* the first time the gates are made */
        if (ended)
            ck_assert_int_eq(t_hear(child.fd, 10), 2);
        else if (stop > 0)
            t_kill(&child, SIGKILL);
    }
    ck_assert_int_gt(stop, 3);
}
END_TEST

/* In the midst of handing two places on, of three; another process has the third. */
static void gates_stopping_exchange(int fd, void *arg)
{
    nq *q = t_open();
    nq_settings *s = gates_settings(q);
    nq_claimer *c = gates_claimer(q, "mail", s);
    nq_claimed *list = NULL;
    ck_assert_uint_eq(gates_claim(c, NQ_LEASE(9, 1), NULL, 2, &list), 2);
    gates_stop_after = *(const int *)arg;
    t_tell(fd, (int64_t)gates_claim(c, NQ_LEASE(9, 2), list, 2, &list));
    t_free_claimed(list);
    nq_claimer_free(c);
    nq_settings_unref(s);
    nq_close(q);
}

START_TEST(a_stopped_exchange_keeps_nobody_waiting)
{
    bool ended = false;
    uint64_t seq = 0;
    nq *q = t_open();
    const bool can = !T_SQLITE && nq_store_piggybacks(nq_store_of(q), 1);
    gates_limit(q, "mail", NULL, 3);
    gates_add(q, NULL, 60);
    nq_close(q);
    if (can) /* it makes the gate */
        ck_assert_uint_eq(gates_others(&seq), 3);
    for (int stop = 1; can && !ended; stop++) {
        t_child child;
        int status = 0;
        t_sql("UPDATE nanoq_tasks SET state = 0, lease = 0 WHERE state = 1");
        t_fork(&child, gates_stopping_exchange, &stop);
        ck_assert_int_eq(waitpid(child.pid, &status, WUNTRACED), child.pid);
        ended = !WIFSTOPPED(status);
        ck_assert_uint_eq(gates_others(&seq), 1);
        ck_assert_int_eq(gates_running("mail"), 3);
        if (ended) {
            ck_assert_int_eq(t_hear(child.fd, 10), 2);
            ck_assert_int_gt(stop, 2); /* it was stopped behind each of its packets */
        } else {
            t_kill(&child, SIGKILL);
        }
    }
}
END_TEST

Suite *suite_gates(void)
{
    Suite *s = suite_create("gates");
    TCase *tc = t_case(s, "gates", 20);
    tcase_add_test(tc, each_group_has_its_limit);
    tcase_add_test(tc, a_queue_has_its_limit);
    tcase_add_test(tc, a_full_queue_keeps_whose_turn_it_is);
    tcase_add_test(tc, a_new_group_waits_for_no_others);
    tcase_add_test(tc, types_are_filtered_under_a_limit);
    tcase_add_test(tc, weights_share_a_claim);
    tcase_add_test(tc, gates_of_groups_without_tasks_go);
    tcase_add_test(tc, a_place_is_handed_on);
    tcase_add_test(tc, a_lower_limit_is_reached);
    tc = t_case(s, "processes", 60);
    tcase_add_test(tc, limits_hold_whoever_dies);
    tcase_add_test(tc, the_check_sees_limits_that_are_not_heeded);
    tcase_add_test(tc, a_stopped_claimer_keeps_nobody_waiting);
    tcase_add_test(tc, a_stopped_exchange_keeps_nobody_waiting);
    return s;
}
