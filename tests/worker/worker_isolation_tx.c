/* SPDX-License-Identifier: MIT */
/* Children that use a database: progress, and completion in a transaction of their own connection. */
#include <sqlite3.h>

#include "suites.h"

struct isolation_tx {
    int go;       /* the test has seen the progress */
    int ran, rcs; /* attempts; those whose completion was refused with NQ_ELEASE */
};

/* No assertions: a child's would end the child only. */
static nq_verdict isolation_tx_handler(nq_ctx *ctx, const nq_task *task, void *udata)
{
    struct isolation_tx *x = udata;
    static t_conn *mine; /* lives as long as the child */
    nq_err err = {0};
    const int64_t until = t_mono() + NQ_SECONDS(20) * T_SLOW_FACTOR;
    __atomic_fetch_add(&x->ran, 1, __ATOMIC_SEQ_CST);
    nq_ctx_progress(ctx, 3, 7, "half way");
    while (!p_load(&x->go) && t_mono() < until)
        t_pause_ms(2);
    if (!mine)
        mine = t_connect();
    const bool stolen = strcmp(task->payload, "stolen") == 0;
    if (stolen &&
        t_try(mine, "UPDATE nanoq_tasks SET lease = lease + 1000 WHERE id = %lld", (long long)task->id))
        return nq_fail(ctx, NQ_DISCARD, "cannot take the lease away");
    t_begin(mine);
    if (t_try(mine, "INSERT INTO business VALUES (%lld)", (long long)task->id))
        return nq_fail(ctx, NQ_DISCARD, "cannot insert");
    const int rc = nq_ctx_complete_in(ctx, t_tx(mine), &err);
    if (rc == NQ_ELEASE)
        __atomic_fetch_add(&x->rcs, 1, __ATOMIC_SEQ_CST);
    if (t_try(mine, rc == NQ_OK ? "COMMIT" : "ROLLBACK") || rc != (stolen ? NQ_ELEASE : NQ_OK))
        return nq_fail(ctx, NQ_DISCARD, "completion answered %d: %s", rc, err.message);
    return NQ_DONE;
}

START_TEST(a_child_tells_its_progress_and_completes_in_its_own_transaction)
{
    struct isolation_tx *x = p_shared(sizeof *x);
    t_sql("CREATE TABLE business (task INT PRIMARY KEY)");
    /* By plain SQL: on MySQL a nq starts a thread at its first nq_enqueue, which would forbid the fork. */
    t_sql("INSERT INTO nanoq_tasks (type, payload) VALUES ('t', 'good'), ('t', 'stolen')");
    const nq_id good = t_sql("SELECT MIN(id) FROM nanoq_tasks"),
                stolen = t_sql("SELECT MAX(id) FROM nanoq_tasks");
    nq *q = t_open();
    nq_worker *p = p_new(q, P_OPTIONS(.concurrency = 1), NULL, NULL);
    T_OK(nq_worker_handle(p, "t", isolation_tx_handler, x, P_ISOLATED(.nice = 0), &t_last));
    T_OK(nq_worker_fork(p, &t_last));
    p_thread t;
    p_start(&t, p);
    T_WAIT(t_sql("SELECT COUNT(*) FROM nanoq_progress WHERE done = 3 AND total = 7 AND note = %s",
                 T_SQLITE ? "CAST('half way' AS BLOB)" : "'half way'") > 0,
           20);
    __atomic_store_n(&x->go, 1, __ATOMIC_SEQ_CST);
    T_WAIT(p_load(&x->rcs) == 1, 20);
    T_WAIT(t_state(q, good) == -1, 20);
    p_stop(&t);
    ck_assert_int_eq(p_load(&x->ran), 2);
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM business"), 1); /* the stolen one's effects are undone */
    ck_assert_int_eq(t_sql("SELECT task FROM business"), good);
    ck_assert_int_eq(t_state(q, stolen), NQ_STATE_RUNNING);
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_finished"), 0);
    nq_close(q);
}
END_TEST

/* ---- A SQLite file that the program has open too ---- */

struct isolation_own {
    char path[512];
    int began, go; /* go: the program writes */
    int tried;     /* what the child's write answered then; -1: not yet */
};

static int isolation_own_write(sqlite3 *db, int n)
{
    char sql[80];
    snprintf(sql, sizeof sql, "BEGIN IMMEDIATE; INSERT INTO own VALUES (%d); COMMIT", n);
    return sqlite3_exec(db, sql, NULL, NULL, NULL);
}

static int isolation_own_sum(const char *path)
{
    sqlite3 *db;
    sqlite3_stmt *sum;
    ck_assert_int_eq(sqlite3_open(path, &db), SQLITE_OK);
    ck_assert_int_eq(sqlite3_prepare_v2(db, "SELECT SUM(n) FROM own", -1, &sum, NULL), SQLITE_OK);
    ck_assert_int_eq(sqlite3_step(sum), SQLITE_ROW);
    const int answer = sqlite3_column_int(sum, 0);
    sqlite3_finalize(sum);
    sqlite3_close(db);
    return answer;
}

static nq_verdict isolation_own_handler(nq_ctx *ctx, const nq_task *task, void *udata)
{
    struct isolation_own *own = udata;
    const int64_t until = t_mono() + NQ_SECONDS(20) * T_SLOW_FACTOR;
    sqlite3 *db;
    (void)task;
    __atomic_store_n(&own->began, 1, __ATOMIC_SEQ_CST);
    while (!p_load(&own->go) && t_mono() < until)
        t_pause_ms(2);
    int rc = sqlite3_open(own->path, &db);
    if (rc == SQLITE_OK)
        __atomic_store_n(&own->tried, isolation_own_write(db, 2), __ATOMIC_SEQ_CST);
    sqlite3_busy_timeout(db, 20000);
    if (rc == SQLITE_OK)
        rc = isolation_own_write(db, 3);
    sqlite3_close(db);
    return rc == SQLITE_OK ? NQ_DONE : nq_fail(ctx, NQ_DISCARD, "it answered %d", rc);
}

/* A file of the program's that nanoq never sees, and the queue's own. What SQLite in the program knew of its
 * locks was known in the child too, where none of them was held: it wrote beside the program, and what one of
 * the two had committed was gone. */
START_TEST(a_child_does_not_write_beside_the_program)
{
    struct isolation_own *own = p_shared(sizeof *own);
    t_sql("INSERT INTO nanoq_tasks (type) VALUES ('t')");
    nq *q = t_open();
    sqlite3 *db;
    snprintf(own->path, sizeof own->path, "%s", _i ? t_url + strlen("sqlite:") : "own.db");
    own->tried = -1;
    ck_assert_int_eq(sqlite3_open(own->path, &db), SQLITE_OK);
    sqlite3_busy_timeout(db, 20000);
    ck_assert_int_eq(
        sqlite3_exec(db, "PRAGMA journal_mode = WAL; CREATE TABLE own (n INT)", NULL, NULL, NULL), SQLITE_OK);
    nq_worker *p = p_new(q, P_OPTIONS(.concurrency = 1), NULL, NULL);
    T_OK(nq_worker_handle(p, "t", isolation_own_handler, own, P_ISOLATED(.nice = 0), &t_last));
    T_OK(nq_worker_fork(p, &t_last));
    p_thread t;
    p_start(&t, p);
    T_WAIT(p_load(&own->began), 20);
    ck_assert_int_eq(sqlite3_exec(db, "BEGIN IMMEDIATE; INSERT INTO own VALUES (1)", NULL, NULL, NULL),
                     SQLITE_OK);
    __atomic_store_n(&own->go, 1, __ATOMIC_SEQ_CST);
    T_WAIT(p_load(&own->tried) >= 0, 20);
    ck_assert_int_eq(sqlite3_exec(db, "COMMIT", NULL, NULL, NULL), SQLITE_OK);
    ck_assert_int_eq(sqlite3_close(db), SQLITE_OK);
    ck_assert_int_eq(p_load(&own->tried), SQLITE_BUSY);
    T_WAIT(t_sql("SELECT COUNT(*) FROM nanoq_tasks") == 0, 20);
    p_stop(&t);
    nq_close(q);
    ck_assert_int_eq(isolation_own_sum(own->path), 1 + 3);
}
END_TEST

Suite *suite_isolation_tx(void)
{
    Suite *s = suite_create("isolation_tx");
    TCase *c = t_case(s, "isolation_tx", 60);
    tcase_add_test(c, a_child_tells_its_progress_and_completes_in_its_own_transaction);
    tcase_add_loop_test(c, a_child_does_not_write_beside_the_program, 0, T_SQLITE ? 2 : 1);
    return s;
}
