/* SPDX-License-Identifier: MIT */
/* MySQL: what a producer's long transaction after a refused duplicate must not block, at either isolation
 * level. */
#include "suites.h"

#include <mysql.h>

static const char *const caller_levels[] = {"READ COMMITTED", "REPEATABLE READ", "READ UNCOMMITTED"};

static t_conn *caller_open(int level)
{
    t_conn *mine = t_connect();
    t_run(mine, "SET SESSION TRANSACTION ISOLATION LEVEL %s", caller_levels[level]);
    t_run(mine, "SET SESSION innodb_lock_wait_timeout = 3");
    t_run(mine, "CREATE TABLE IF NOT EXISTS business (x INT PRIMARY KEY) ENGINE=InnoDB");
    t_begin(mine);
    t_run(mine, "INSERT INTO business VALUES (1)");
    return mine;
}

START_TEST(an_open_transaction_after_a_duplicate_blocks_no_completion)
{
    nq *q = t_open();
    T_ADD(q, .type = "t", NQ_BYTES("same"));
    nq_claimed *c = t_claim_one(q, NQ_LEASE(1, 1));
    t_conn *mine = caller_open(_i);
    T_ANSWERS(nq_enqueue(q, t_tx(mine), NQ_TASK(.type = "t", NQ_BYTES("same")), NULL, &t_last), NQ_DUPLICATE);
    int64_t start = t_mono();
    ck_assert_int_eq(t_finish(q, c, NQ_OUT_DONE, 0, NULL), NQ_OK);
    ck_assert_int_lt(t_mono() - start, NQ_MS(1000) * T_SLOW_FACTOR);
    t_free_claimed(c);
    t_run(mine, "COMMIT");
    t_disconnect(mine);
    nq_close(q);
}
END_TEST

START_TEST(an_open_transaction_after_a_duplicate_blocks_no_insert)
{
    nq *q = t_open();
    nq_id first = T_ADD(q, .type = "t", NQ_BYTES("same"));
    t_conn *mine = caller_open(_i);
    nq_task_spec specs[] = {*NQ_TASK(.type = "t", NQ_BYTES("same")), *NQ_TASK(.type = "t", NQ_BYTES("own"))};
    int results[2];
    T_OK(nq_enqueue_many(q, t_tx(mine), specs, 2, NULL, results, &t_last));
    ck_assert_int_eq(results[0], NQ_DUPLICATE);
    ck_assert_int_eq(results[1], NQ_OK);
    /* Many other keys: some would fall into any gap that was locked. */
    t_run(t_side(), "SET SESSION innodb_lock_wait_timeout = 2");
    for (int i = 0; i < 200; i++)
        t_run(t_side(), "INSERT INTO nanoq_tasks (type, payload) VALUES ('t', 'other-%d')", i);
    nq_claimed *c = t_claim_queue(q, "default", NQ_LEASE(1, 1), 1, &(size_t){0});
    ck_assert_int_eq(c->task.id, first);
    ck_assert_int_eq(t_finish(q, c, NQ_OUT_DONE, 0, NULL), NQ_OK);
    t_free_claimed(c);
    /* The duplicate's own key is free again, while that transaction is still open. */
    T_ADD(q, .type = "t", NQ_BYTES("same"));
    t_run(mine, "COMMIT");
    t_disconnect(mine);
    nq_close(q);
}
END_TEST

START_TEST(a_snapshot_older_than_the_live_task_still_learns_its_id)
{
    nq *q = t_open();
    t_conn *mine = caller_open(_i);
    t_run(mine, "SELECT COUNT(*) FROM nanoq_tasks"); /* at REPEATABLE READ the snapshot is taken here */
    nq_id live = T_ADD(q, .type = "t", NQ_BYTES("later"));
    nq_id id = 0;
    T_ANSWERS(nq_enqueue(q, t_tx(mine), NQ_TASK(.type = "t", NQ_BYTES("later")), &id, &t_last), NQ_DUPLICATE);
    ck_assert_int_eq(id, live);
    T_OK(nq_enqueue(q, t_tx(mine), NQ_TASK(.type = "t", NQ_BYTES("mine")), &id, &t_last));
    t_run(mine, "COMMIT");
    ck_assert_int_eq(t_state(q, id), NQ_STATE_WAITING);
    t_disconnect(mine);
    nq_close(q);
}
END_TEST

/* Until somebody waits for a lock, at most 2 s. */
static bool caller_await_lock_wait(t_conn *look)
{
    int64_t until = t_mono() + NQ_SECONDS(2) * T_SLOW_FACTOR;
    while (t_lock_waiter(look) == 0) {
        if (t_mono() >= until)
            return false;
        t_pause_ms(130);
    }
    return true;
}

/* Plain SQL is refused a duplicate and stays in its transaction: it has a lock on the live task. */
START_TEST(a_row_that_is_held_keeps_no_other_outcome_waiting)
{
    const bool keep = _i % 2, mixed = _i / 2;
    nq *q = t_open();
    nq_id held = T_ADD(q, .type = "t", NQ_BYTES("held"));
    T_ADD(q, .type = "t", NQ_BYTES("free"));
    size_t n = 0;
    nq_claimed *c = t_claim(q, NQ_LEASE(1, 1), 10, &n);
    ck_assert_uint_eq(n, 2);
    t_conn *mine = t_connect();
    t_begin(mine);
    t_run(mine, "INSERT IGNORE INTO nanoq_tasks (type, payload) VALUES ('t', 'held')");
    nq_outcome a = {.id = c->task.id, .lease = c->lease, .kind = NQ_OUT_DONE, .keep = keep};
    nq_outcome b = {.id = c->next->task.id,
                    .lease = c->lease,
                    .keep = keep,
                    .kind = mixed ? NQ_OUT_RELEASE : NQ_OUT_DONE};
    nq_outcome *both[] = {&a, &b}, *one[] = {&a};
    ck_assert_int_eq(a.id, held);
    T_OK(nq_store_finish(nq_store_of(q), both, 2, &t_last)); /* waits once, at most */
    ck_assert_int_eq(a.result, NQ_ECONFLICT);
    ck_assert_int_eq(b.result, NQ_OK);
    a.wary = true;
    int64_t start = t_mono();
    T_OK(nq_store_finish(nq_store_of(q), one, 1, &t_last));
    ck_assert_int_eq(a.result, NQ_ECONFLICT);
    ck_assert_int_lt(t_mono() - start, NQ_SECONDS(1) * T_SLOW_FACTOR);
    t_run(mine, "ROLLBACK");
    T_OK(nq_store_finish(nq_store_of(q), one, 1, &t_last));
    ck_assert_int_eq(a.result, NQ_OK);
    T_OK(nq_store_finish(nq_store_of(q), one, 1, &t_last));
    ck_assert_int_eq(a.result, NQ_ELEASE);
    t_disconnect(mine);
    t_free_claimed(c);
    nq_close(q);
}
END_TEST

/* Error 1020, of MariaDB 11.6.2 and later unless turned off: after it the transaction is gone, and what the
 * caller sends next would commit by itself. */
START_TEST(a_conflict_with_a_snapshot_ends_the_transaction_and_says_so)
{
    nq *q = t_open();
    nq_id id = T_ADD(q, .type = "t");
    t_conn *mine = t_connect();
    if (t_try(mine, "SET SESSION innodb_snapshot_isolation = ON") == 0) {
        t_run(mine, "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ");
        t_begin(mine);
        t_run(mine, "SELECT COUNT(*) FROM nanoq_tasks");
        nq_claimed *c = t_claim_one(q, NQ_LEASE(1, 1));
        T_FAILS(nq_complete_in(nq_store_of(q), t_tx(mine), id, c->lease, false, &t_last), NQ_ECONFLICT);
        ck_assert_int_eq(t_last.db_code, 1020);
        ck_assert(t_last.transaction_lost);
        ck_assert_int_eq(t_state(q, id), NQ_STATE_RUNNING);
        t_run(mine, "ROLLBACK");
        t_begin(mine);
        T_OK(nq_complete_in(nq_store_of(q), t_tx(mine), id, c->lease, false, &t_last));
        t_run(mine, "COMMIT");
        ck_assert_int_eq(t_state(q, id), -1);
        t_free_claimed(c);
    }
    t_disconnect(mine);
    nq_close(q);
}
END_TEST

struct caller_rival {
    t_conn *conn;
    sem_t go;
    const char *end;
};

static void *caller_end_later(void *arg)
{
    struct caller_rival *r = arg;
    t_await(&r->go, 10);
    t_conn *look = t_connect();
    caller_await_lock_wait(look);
    t_disconnect(look);
    t_run(r->conn, "%s", r->end);
    return NULL;
}

START_TEST(a_rivals_uncommitted_task_is_waited_for)
{
    bool commits = _i % 2 == 0;
    nq *q = t_open();
    struct caller_rival rival = {.conn = t_connect(), .end = commits ? "COMMIT" : "ROLLBACK"};
    ck_assert_int_eq(sem_init(&rival.go, 0, 0), 0);
    t_begin(rival.conn);
    nq_id theirs = 0, mine_id = 0;
    T_OK(nq_enqueue(q, t_tx(rival.conn), NQ_TASK(.type = "t", NQ_BYTES("same")), &theirs, &t_last));
    t_conn *mine = caller_open(_i / 2);
    pthread_t thread;
    t_thread(&thread, caller_end_later, &rival);
    t_post(&rival.go);
    int rc = nq_enqueue(q, t_tx(mine), NQ_TASK(.type = "t", NQ_BYTES("same")), &mine_id, &t_last);
    pthread_join(thread, NULL);
    ck_assert_msg(rc == (commits ? NQ_DUPLICATE : NQ_OK), "%s: %s", nq_code_name(rc), t_last.message);
    if (commits)
        ck_assert_int_eq(mine_id, theirs);
    t_run(mine, "COMMIT");
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_tasks"), 1);
    ck_assert_int_eq(t_sql("SELECT id FROM nanoq_tasks"), mine_id);
    sem_destroy(&rival.go);
    t_disconnect(rival.conn);
    t_disconnect(mine);
    nq_close(q);
}
END_TEST

START_TEST(producers_are_not_stopped_by_claims)
{
    /* NanoQ at REPEATABLE READ held gap locks while it claimed: producers met 1205. */
    nq *q = t_open();
    for (int i = 0; i < 50; i++)
        T_ADD(q, .type = "t", .unique = NQ_UNIQUE_NONE);
    t_run(t_side(), "SET SESSION innodb_lock_wait_timeout = 1");
    size_t n = 0;
    nq_claimed *held = t_claim(q, NQ_LEASE(1, 1), 20, &n);
    ck_assert_uint_eq(n, 20);
    for (int i = 0; i < 50; i++)
        t_run(t_side(), "INSERT INTO nanoq_tasks (type, payload, unique_key) VALUES ('t', '', NULL)");
    t_free_claimed(held);
    nq_close(q);
}
END_TEST

static void *caller_bulk(void *arg)
{
    (void)t_try(arg, "INSERT INTO nanoq_tasks (type, payload) SELECT 't', p FROM bulk ORDER BY p");
    return NULL;
}

/* InnoDB rolls the whole transaction back and calls it 1467, after which the server would go on in a new one.
 */
START_TEST(a_deadlock_over_auto_increment_is_a_lost_transaction)
{
    nq *q = t_open();
    if (!t_is_mariadb || t_sql("SELECT @@innodb_autoinc_lock_mode") != 1) {
        nq_close(q);
        return;
    }
    t_sql("CREATE TABLE bulk (p VARCHAR(20)) ENGINE=InnoDB");
    t_sql("INSERT INTO bulk VALUES ('a'),('b'),('c'),('d'),('e'),('f'),('same')");
    t_conn *mine = t_connect(), *other = t_connect();
    t_begin(mine);
    T_OK(nq_enqueue(q, t_tx(mine), NQ_TASK(.type = "t", NQ_BYTES("same")), NULL, &t_last));
    pthread_t thread;
    t_thread(&thread, caller_bulk, other); /* holds the lock on AUTO_INCREMENT, waits for "same" */
    ck_assert(caller_await_lock_wait(t_side()));
    T_FAILS(nq_enqueue(q, t_tx(mine), NQ_TASK(.type = "t", NQ_BYTES("more")), NULL, &t_last), NQ_ECONFLICT);
    ck_assert_int_eq(t_last.db_code, 1467);
    ck_assert(t_last.transaction_lost);
    pthread_join(thread, NULL);
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_tasks"), 7);
    t_run(mine, "ROLLBACK");
    t_disconnect(mine);
    t_disconnect(other);
    nq_close(q);
}
END_TEST

/* A transaction of the caller's, and what happens as soon as it is asked on its connection for a task. */
struct caller_watched {
    struct nq_tx_ops ops;
    nq_tx theirs;
    void (*then)(void *arg);
    void *arg;
};
static struct caller_watched caller_watched;

static int caller_watched_exec(void *conn, const char *sql, const nq_val args[], size_t nargs, nq_row_fn row,
                               void *arg, nq_exec_result *res)
{
    struct caller_watched *w = &caller_watched;
    void (*const then)(void *) = strstr(sql, "WHERE unique_key=?") ? w->then : NULL;
    if (then) {
        w->then = NULL;
        then(w->arg);
    }
    return w->theirs.ops->exec(conn, sql, args, nargs, row, arg, res);
}

static nq_tx caller_watch(t_conn *mine, void (*then)(void *), void *arg)
{
    struct caller_watched *w = &caller_watched;
    w->theirs = t_tx(mine);
    w->ops = *w->theirs.ops;
    w->ops.exec = caller_watched_exec;
    w->then = then;
    w->arg = arg;
    return (nq_tx){.conn = w->theirs.conn, .ops = &w->ops};
}

struct caller_running {
    nq *q;
    nq_claimed *c;
};

static void caller_done(void *arg)
{
    const struct caller_running *r = arg;
    ck_assert_int_eq(t_finish(r->q, r->c, NQ_OUT_DONE, 0, NULL), NQ_OK);
}

/* Its completion is committed after the first look and before the second one; the caller's snapshot is older.
 * To say that it is a duplicate would lose what the caller has changed. */
START_TEST(a_task_that_ends_while_it_is_looked_at_is_no_duplicate)
{
    nq *q = t_open();
    const nq_id live = T_ADD(q, .type = "t", NQ_BYTES("live"));
    struct caller_running r = {q, t_claim_one(q, NQ_LEASE(1, 1))};
    const nq_task_spec specs[] = {*NQ_TASK(.type = "t", NQ_BYTES("own")),
                                  *NQ_TASK(.type = "t", NQ_BYTES("live"))};
    nq_id ids[2], own = 0;
    int results[2];
    t_conn *mine = caller_open(_i);
    ck_assert_int_eq(t_run(mine, "SELECT COUNT(*) FROM nanoq_tasks"), 1);
    T_OK(nq_enqueue(q, t_tx(mine), &specs[0], &own, &t_last));
    T_OK(nq_enqueue_many(q, caller_watch(mine, caller_done, &r), specs, 2, ids, results, &t_last));
    ck_assert_msg(!caller_watched.then, "nothing was asked");
    ck_assert_int_eq(results[0], NQ_DUPLICATE);
    ck_assert_int_eq(ids[0], own);
    ck_assert_int_eq(results[1], NQ_OK);
    ck_assert(ids[1] > live);
    t_run(mine, "COMMIT");
    ck_assert_int_eq(t_state(q, ids[1]), NQ_STATE_WAITING);
    t_free_claimed(r.c);
    t_disconnect(mine);
    nq_close(q);
}
END_TEST

/* With autocommit off MySQL says that a transaction is open where a statement was only prepared, and the next
 * SELECT that reads no table takes that back: no transaction has ended. */
START_TEST(what_a_caller_has_only_prepared_has_begun_no_transaction)
{
    static const char *const prepared[] = {"SELECT COUNT(*) FROM nanoq_tasks",
                                           "INSERT INTO nanoq_tasks (type) VALUES ('prepared')"};
    const nq_task_spec specs[] = {*NQ_TASK(.type = "t", NQ_BYTES("a")), *NQ_TASK(.type = "t", NQ_BYTES("b"))};
    nq *q = t_open();
    t_conn *mine = t_connect();
    t_run(mine, "SET SESSION autocommit = 0");
    MYSQL_STMT *stmt = mysql_stmt_init(t_tx(mine).conn);
    ck_assert_ptr_nonnull(stmt);
    ck_assert_int_eq(mysql_stmt_prepare(stmt, prepared[_i], strlen(prepared[_i])), 0);
    T_OK(nq_enqueue_many(q, t_tx(mine), specs, 2, NULL, NULL, &t_last));
    T_OK(nq_enqueue(q, t_tx(mine), NQ_TASK(.type = "t", NQ_BYTES("c")), NULL, &t_last));
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_tasks"), 0);
    t_run(mine, "COMMIT");
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_tasks"), 3);
    mysql_stmt_close(stmt);
    t_disconnect(mine);
    nq_close(q);
}
END_TEST

Suite *suite_caller_tx_mysql(void)
{
    Suite *s = suite_create("caller_tx_mysql");
    if (T_SQLITE)
        return s;
    TCase *c = t_case(s, "caller_tx_mysql", 30);
    tcase_add_loop_test(c, an_open_transaction_after_a_duplicate_blocks_no_completion, 0, 2);
    tcase_add_loop_test(c, an_open_transaction_after_a_duplicate_blocks_no_insert, 0, 2);
    tcase_add_loop_test(c, a_snapshot_older_than_the_live_task_still_learns_its_id, 0, 2);
    tcase_add_test(c, a_conflict_with_a_snapshot_ends_the_transaction_and_says_so);
    tcase_add_loop_test(c, a_rivals_uncommitted_task_is_waited_for, 0, 6);
    tcase_add_loop_test(c, a_task_that_ends_while_it_is_looked_at_is_no_duplicate, 0, 3);
    tcase_add_loop_test(c, what_a_caller_has_only_prepared_has_begun_no_transaction, 0, 2);
    tcase_add_test(c, producers_are_not_stopped_by_claims);
    tcase_add_loop_test(c, a_row_that_is_held_keeps_no_other_outcome_waiting, 0, 4);
    tcase_add_test(c, a_deadlock_over_auto_increment_is_a_lost_transaction);
    return s;
}
