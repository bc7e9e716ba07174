/* SPDX-License-Identifier: MIT */
/* Children that use a database: progress, and completion in a transaction of their own connection. */
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

Suite *suite_isolation_tx(void)
{
    Suite *s = suite_create("isolation_tx");
    TCase *c = t_case(s, "isolation_tx", 60);
    tcase_add_test(c, a_child_tells_its_progress_and_completes_in_its_own_transaction);
    return s;
}
