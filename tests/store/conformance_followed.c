/* SPDX-License-Identifier: MIT */
/* A claim takes the follow-ups of its tasks along: the run that begins sees what they are about. */
#include "suites.h"

#include "../../src/store/sqlite/sqlite_driver.h"

#define FOLLOWUPS "SELECT COUNT(*) FROM nanoq_followups"
#define TASKS     "SELECT COUNT(*) FROM nanoq_tasks"

/* The same key, and nothing else in common. */
#define FOLLOWED_OLD NQ_TASK(.type = "t", NQ_BYTES("old"), .unique = NQ_UNIQUE_DATA, NQ_DATA("key"))
#define FOLLOWED_NEW                                                                                         \
    NQ_TASK(.type = "t", NQ_BYTES("new"), .queue = "other", .priority = 9, .delay_us = NQ_HOURS(1),          \
            .unique = NQ_UNIQUE_DATA, NQ_DATA("key"))
#define NQ_DATA(text) .unique_data = (text), .unique_size = sizeof(text) - 1

static void followed_refused(nq *q, nq_tx tx, const nq_task_spec *spec, nq_id live)
{
    nq_id id = 0;
    T_ANSWERS(nq_enqueue(q, tx, spec, &id, &t_last), NQ_DUPLICATE);
    ck_assert_int_eq(id, live);
}

static size_t followed_promote(nq *q)
{
    size_t n = 99;
    bool more;
    T_OK(nq_store_promote(nq_store_of(q), 100, &n, &more, &t_last));
    return n;
}

/* It is done: so many follow-ups become tasks then, and so many tasks there are. */
static void followed_done(nq *q, nq_claimed *c, size_t made, int tasks)
{
    ck_assert_int_eq(t_finish(q, c, NQ_OUT_DONE, 0, NULL), NQ_OK);
    ck_assert_uint_eq(followed_promote(q), made);
    ck_assert_int_eq(t_sql(TASKS), tasks);
}

/* Claim it as a worker may: any type, one type, told its id, told that something is there. */
enum { FOLLOWED_ANY, FOLLOWED_TYPED, FOLLOWED_TOLD, FOLLOWED_GUESSED, FOLLOWED_WAYS };

static nq_claimed *followed_claim(nq *q, int way, nq_id id, uint64_t lease, size_t *n)
{
    static const char *const types[] = {"t"};
    nq_claimer *c;
    nq_claimed *list = NULL;
    int64_t wait;
    T_OK(nq_claimer_new(&c, nq_store_of(q), "default", way == FOLLOWED_TYPED ? types : NULL, 1, &t_last));
    if (way >= FOLLOWED_TOLD)
        nq_claimer_hint(c, way == FOLLOWED_TOLD ? id : 0);
    T_OK(nq_claimer_claim(c, lease, 10, NULL, &list, n, &wait, &t_last));
    nq_claimer_free(c);
    return list;
}

/* A waiting task with a follow-up: it ran when the duplicate came, and was released. */
static nq_id followed_waiting(nq *q, size_t *n)
{
    nq_id id = 0;
    T_OK(nq_enqueue(q, NQ_OWN_TX, FOLLOWED_OLD, &id, &t_last));
    nq_claimed *c = followed_claim(q, FOLLOWED_ANY, 0, NQ_LEASE(1, 1), n);
    ck_assert_uint_eq(*n, 1);
    followed_refused(q, NQ_OWN_TX, FOLLOWED_NEW, id);
    ck_assert_int_eq(t_finish(q, c, NQ_OUT_RELEASE, 0, NULL), NQ_OK);
    t_free_claimed(c);
    ck_assert_int_eq(t_sql(FOLLOWUPS), 1);
    return id;
}

START_TEST(those_of_a_claimed_task_go)
{
    size_t n = 0;
    nq *q = t_open();
    T_ADD(q, .type = "t", NQ_BYTES("runs"), .queue = "else");
    const nq_id id = followed_waiting(q, &n);
    /* Another task runs, its follow-up stays. */
    nq_claimer *other;
    nq_claimed *runs = NULL;
    int64_t wait;
    T_OK(nq_claimer_new(&other, nq_store_of(q), "else", NULL, 0, &t_last));
    T_OK(nq_claimer_claim(other, NQ_LEASE(1, 2), 1, NULL, &runs, &n, &wait, &t_last));
    nq_claimer_free(other);
    followed_refused(q, NQ_OWN_TX, NQ_TASK(.type = "t", NQ_BYTES("runs")), runs->task.id);
    const nq_id kept = t_sql("SELECT MAX(id) FROM nanoq_followups");
    T_ADD(q, .type = "t", NQ_BYTES("beside"));
    nq_claimed *c = followed_claim(q, _i, id, NQ_LEASE(1, 3), &n);
    size_t all = n;
    if (n < 2) { /* told one id, it may have taken only that */
        nq_claimed *rest = followed_claim(q, FOLLOWED_ANY, 0, NQ_LEASE(1, 4), &n);
        all += n;
        t_free_claimed(rest);
    }
    ck_assert_uint_eq(all, 2);
    ck_assert_int_eq(c->task.id, id);
    ck_assert_mem_eq(c->task.payload, "old", 3);
    ck_assert_int_eq(t_sql(FOLLOWUPS), 1);
    ck_assert_int_eq(t_sql("SELECT id FROM nanoq_followups"), kept);
    followed_done(q, c, 0, 2);
    t_free_claimed(c);
    t_free_claimed(runs);
    nq_close(q);
}
END_TEST

/* In the caller's transaction, committed before the claim: it runs once, whatever the store. */
START_TEST(a_committed_duplicate_of_a_waiting_task_runs_nothing_twice)
{
    nq *q = t_open();
    nq_id id = 0;
    size_t n = 0;
    T_OK(nq_enqueue(q, NQ_OWN_TX, FOLLOWED_OLD, &id, &t_last));
    t_conn *mine = t_connect();
    t_begin(mine);
    for (int i = 0; i < 3; i++)
        followed_refused(q, t_tx(mine), FOLLOWED_NEW, id);
    t_run(mine, "COMMIT");
    nq_claimed *c = followed_claim(q, _i, id, NQ_LEASE(1, 1), &n);
    ck_assert_uint_eq(n, 1);
    ck_assert_int_eq(t_sql(FOLLOWUPS), 0);
    /* What comes now runs again. */
    t_begin(mine);
    followed_refused(q, t_tx(mine), FOLLOWED_OLD, id);
    t_run(mine, "COMMIT");
    ck_assert_int_eq(t_sql(FOLLOWUPS), 1);
    followed_done(q, c, 1, 1);
    t_disconnect(mine);
    t_free_claimed(c);
    nq_close(q);
}
END_TEST

/* Who has none does not ask for them with each claim. */
START_TEST(only_where_some_were_seen_are_they_looked_for)
{
    nq *q = t_open();
    ck_assert(nq_store_followed(nq_store_of(q))); /* nobody knows yet */
    ck_assert_uint_eq(followed_promote(q), 0);
    ck_assert(!nq_store_followed(nq_store_of(q)));
    size_t n = 0;
    followed_waiting(q, &n);
    ck_assert(nq_store_followed(nq_store_of(q)));
    nq_close(q);
    q = t_open();
    nq_claimed *c = followed_claim(q, FOLLOWED_ANY, 0, NQ_LEASE(1, 2), &n);
    followed_refused(q, NQ_OWN_TX, FOLLOWED_OLD, c->task.id);
    nq *another = t_open();
    ck_assert_uint_eq(followed_promote(another), 0);
    ck_assert(nq_store_followed(nq_store_of(another))); /* that of a running task stays, and is seen */
    nq_close(another);
    t_free_claimed(c);
    nq_close(q);
}
END_TEST

/* ---- What very many cost ---- */

static int followed_steps(void *arg)
{
    ++*(int64_t *)arg;
    return 0;
}

struct followed_count {
    int64_t *steps; /* NULL: no more */
};

static int followed_counted(nq_conn *c, void *arg, nq_err *err)
{
    const struct followed_count *count = arg;
    (void)err;
    sqlite3_progress_handler(((nq_sqlite_conn *)(void *)c)->db, count->steps ? 1 : 0, followed_steps,
                             count->steps);
    return NQ_OK;
}

/* Rows that were read: by the whole server, or steps of SQLite's machine, a dozen for each. */
static int64_t followed_read(nq *q, size_t limit)
{
    static const char rows[] = "SELECT SUM(VARIABLE_VALUE) FROM %s WHERE VARIABLE_NAME LIKE 'Handler_read%%'";
    int64_t steps = 0;
    size_t n = 0;
    bool more = false;
    const char *from = t_is_mariadb ? "information_schema.GLOBAL_STATUS" : "performance_schema.global_status";
    struct followed_count count = {&steps};
    if (T_SQLITE)
        T_OK(nq_store_do(nq_store_of(q), followed_counted, &count, &t_last));
    else
        steps = t_sql(rows, from);
    T_OK(nq_store_promote(nq_store_of(q), limit, &n, &more, &t_last));
    ck_assert_uint_eq(n, 0);
    ck_assert(more);
    if (T_SQLITE) {
        count.steps = NULL;
        T_OK(nq_store_do(nq_store_of(q), followed_counted, &count, &t_last));
        return steps / 12;
    }
    return t_sql(rows, from) - steps;
}

/* A look walks over none of those that another one stands for. */
START_TEST(very_many_of_a_running_task_cost_a_look_little)
{
    static const char columns[] =
        "task_id, queue, priority, run_at, max_retries, timeout_ms, created_at, type, payload, unique_key";
    size_t n = 0;
    nq *q = t_open();
    followed_waiting(q, &n);
    for (int i = 0; i < 14; i++)
        t_sql("INSERT INTO nanoq_followups (%s) SELECT %s FROM nanoq_followups", columns, columns);
    t_sql("UPDATE nanoq_tasks SET state = 1, lease = 7");
    /* What others do on the server meanwhile is counted too: the least of some looks is this one's. */
    int64_t read = INT64_MAX;
    int looks = 0;
    while (read >= 8000 && looks < 20) {
        const int64_t now = followed_read(q, 10);
        read = now < read ? now : read;
        looks++;
    }
    ck_assert_msg(read < 8000, "%lld rows were read", (long long)read);
    ck_assert_int_eq(t_sql(FOLLOWUPS), (1 << 14) - 10 * looks);
    nq_close(q);
}
END_TEST

/* ---- Beside open transactions: only a server lets others write meanwhile ---- */

START_TEST(those_that_are_held_stay_and_nobody_waits)
{
    nq *q = t_open();
    nq_id id = 0;
    size_t n = 0;
    T_OK(nq_enqueue(q, NQ_OWN_TX, FOLLOWED_OLD, &id, &t_last));
    t_conn *first = t_connect(), *open = t_connect(), *promoter = t_connect();
    for (int i = 0; i < 2; i++) {
        t_begin(first);
        followed_refused(q, t_tx(first), FOLLOWED_NEW, id);
        t_run(first, "COMMIT");
    }
    t_begin(open);
    followed_refused(q, t_tx(open), FOLLOWED_NEW, id);
    t_begin(promoter);
    const nq_id held =
        t_run(promoter, "SELECT id FROM nanoq_followups ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED");
    const int64_t start = t_mono();
    nq_claimed *c = followed_claim(q, _i, id, NQ_LEASE(1, 1), &n);
    ck_assert_uint_eq(n, 1);
    ck_assert_int_lt(t_mono() - start, NQ_MS(1000) * T_SLOW_FACTOR);
    ck_assert_int_eq(t_sql(FOLLOWUPS), 1);
    ck_assert_int_eq(t_sql("SELECT id FROM nanoq_followups"), held);
    t_run(promoter, "ROLLBACK");
    t_run(open, "COMMIT"); /* after the claim: it has to run again */
    ck_assert_int_eq(t_sql(FOLLOWUPS), 2);
    followed_done(q, c, 1, 1);
    t_free_claimed(c);
    t_disconnect(promoter);
    t_disconnect(open);
    t_disconnect(first);
    nq_close(q);
}
END_TEST

/* A claim that did not take its task must leave the follow-ups, even where the server runs the DELETE in a
 * transaction of its own. */
START_TEST(without_its_lease_a_claim_takes_none)
{
    nq *q = t_open();
    size_t n = 0;
    followed_waiting(q, &n);
    t_sql("CREATE TRIGGER other BEFORE UPDATE ON nanoq_tasks FOR EACH ROW "
          "SET NEW.lease = IF(NEW.lease <> 0, 77, 0)");
    nq_claimed *c = followed_claim(q, FOLLOWED_ANY, 0, NQ_LEASE(1, 9), &n);
    t_sql("DROP TRIGGER other");
    ck_assert_int_eq(t_sql(FOLLOWUPS), 1);
    t_free_claimed(c);
    nq_close(q);
}
END_TEST

Suite *suite_followed(void)
{
    Suite *s = suite_create("followed");
    TCase *c = t_case(s, "followed", 30);
    tcase_add_loop_test(c, those_of_a_claimed_task_go, 0, FOLLOWED_WAYS);
    tcase_add_loop_test(c, a_committed_duplicate_of_a_waiting_task_runs_nothing_twice, 0, FOLLOWED_WAYS);
    tcase_add_test(c, very_many_of_a_running_task_cost_a_look_little);
    tcase_add_test(c, only_where_some_were_seen_are_they_looked_for);
    if (T_SQLITE)
        return s;
    tcase_add_loop_test(c, those_that_are_held_stay_and_nobody_waits, 0, FOLLOWED_WAYS);
    tcase_add_test(c, without_its_lease_a_claim_takes_none);
    return s;
}
