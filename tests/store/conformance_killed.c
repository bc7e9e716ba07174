/* SPDX-License-Identifier: MIT */
/* An administrator kills statements: what a server answers then is not always what it did. */
#include "suites.h"

enum { KILLED_ROUNDS = 2000, KILLED_MOST = 16 };

/* One KILL QUERY a round for each of these sessions, at any moment of it. */
static struct {
    pthread_t thread;
    sem_t begin, end;
    int64_t own; /* the killer's session */
    bool stop;
    long ids[KILLED_MOST];
    int n;
    int64_t within_us;
} killed;

static void *killed_killer(void *arg)
{
    t_conn *c = t_connect();
    uint64_t seed = t_seed();
    (void)arg;
    killed.own = t_run(c, "SELECT CONNECTION_ID()");
    t_post(&killed.end);
    for (;;) {
        t_await(&killed.begin, 60);
        if (killed.stop)
            break;
        nq_sleep_us((int64_t)(t_rand(&seed) % (uint64_t)killed.within_us));
        const int first = (int)(t_rand(&seed) % KILLED_MOST);
        for (int i = 0; i < killed.n; i++)
            t_try(c, "KILL QUERY %ld", killed.ids[(first + i) % killed.n]);
        t_post(&killed.end);
    }
    t_disconnect(c);
    return NULL;
}

static void killed_begin(int64_t within_us)
{
    killed.within_us = within_us;
    sem_init(&killed.begin, 0, 0);
    sem_init(&killed.end, 0, 0);
    t_thread(&killed.thread, killed_killer, NULL);
    t_await(&killed.end, 60);
}

/* All of the library's sessions are aimed at. */
static void killed_round_begin(void)
{
    char *text = t_text(t_side(), "SELECT id FROM %s WHERE db = '%s' AND id NOT IN (CONNECTION_ID(), %lld)",
                        t_sessions(), t_name, (long long)killed.own);
    killed.n = 0;
    for (const char *id = text ? strtok(text, "\n") : NULL; id && killed.n < KILLED_MOST;
         id = strtok(NULL, "\n"))
        killed.ids[killed.n++] = strtol(id, NULL, 10);
    free(text);
    t_post(&killed.begin);
}

static void killed_round_end(void)
{
    t_await(&killed.end, 60);
}

static void killed_stop(void)
{
    killed.stop = true;
    t_post(&killed.begin);
    pthread_join(killed.thread, NULL);
}

/* After a call whose statement may have been killed: its transaction is gone, or its connection. */
static bool killed_was(int rc)
{
    ck_assert_msg(rc == NQ_OK || rc == NQ_ECONFLICT || rc == NQ_EUNKNOWN || rc == NQ_EUNAVAILABLE, "%d: %s",
                  rc, t_last.message);
    return rc != NQ_OK;
}

/* One that was lost with its transaction is replaced. */
static void killed_renew(nq *q, nq_conn **c)
{
    if (!(*c)->broken)
        return;
    nq_pool_put(*c);
    T_OK(nq_pool_get(nq_store_of(q), c, &t_last));
}

static int killed_write(const nq_driver *d, nq_conn *c, int how, nq_outcome *o)
{
    static const char *const sql[] = {"DELETE FROM {tasks} WHERE id = ?",
                                      "{delete_by_key} {tasks} WHERE id IN (?) {at_most:1}",
                                      "UPDATE {tasks} SET lease = 0 WHERE id = ?"};
    const nq_val id = nq_int(o->id);
    nq_exec_result res = {0};
    if (how > 2)
        return d->delete_done(c, &o, 1, false, &t_last);
    const int rc = nq_sql(c, sql[how], &id, 1, NULL, NULL, &res, &t_last);
    o->result = res.affected == 1 ? NQ_OK : NQ_ELEASE;
    return rc;
}

/* MariaDB's answer may be that there was no such row. */
START_TEST(a_write_that_is_said_to_be_done_is)
{
    nq *q = t_open();
    const nq_driver *d = nq_store_of(q)->driver;
    T_ADD(q, .type = "t");
    nq_claimed *task = t_claim_one(q, NQ_LEASE(1, 1));
    nq_outcome o = {.id = task->task.id, .lease = NQ_LEASE(1, 1), .kind = NQ_OUT_DONE, .queue = "default"};
    nq_conn *c;
    T_OK(nq_pool_get(nq_store_of(q), &c, &t_last));
    killed_begin(400);
    for (int i = 0; i < KILLED_ROUNDS; i++) {
        T_OK(d->begin(c, &t_last));
        /* It is begun with its first statement, which is not to be the one that is killed. */
        T_OK(nq_sql(c, "DO 0", NULL, 0, NULL, NULL, NULL, &t_last));
        killed_round_begin();
        const int rc = killed_write(d, c, _i, &o);
        killed_round_end();
        if (!killed_was(rc))
            ck_assert_int_eq(o.result, NQ_OK);
        d->rollback(c);
        killed_renew(q, &c);
    }
    killed_stop();
    nq_pool_put(c);
    t_free_claimed(task);
    nq_close(q);
}
END_TEST

static int64_t killed_priority(const nq_val *id)
{
    return t_sql("SELECT priority FROM nanoq_tasks WHERE id = %lld", (long long)id->i);
}

/* What has had this answer is tried again. */
START_TEST(a_commit_that_is_said_to_have_failed_did)
{
    nq *q = t_open();
    const nq_driver *d = nq_store_of(q)->driver;
    const nq_val id = nq_int(T_ADD(q, .type = "t"));
    nq_conn *c;
    T_OK(nq_pool_get(nq_store_of(q), &c, &t_last));
    killed_begin(400);
    for (int i = 0; i < KILLED_ROUNDS; i++) {
        const nq_val args[] = {nq_int(i % 100 + 1), id};
        T_OK(d->begin(c, &t_last));
        killed_round_begin();
        int rc =
            nq_sql(c, "UPDATE {tasks} SET priority = ? WHERE id = ?", args, 2, NULL, NULL, NULL, &t_last);
        if (rc == NQ_OK)
            rc = d->commit(c, &t_last);
        killed_round_end();
        if (!killed_was(rc))
            ck_assert_int_eq(killed_priority(&id), args[0].i);
        else if (rc == NQ_ECONFLICT)
            ck_assert_int_ne(killed_priority(&id), args[0].i);
        d->rollback(c);
        killed_renew(q, &c);
    }
    killed_stop();
    nq_pool_put(c);
    nq_close(q);
}
END_TEST

/* What a worker holds it knows, and what it recorded is recorded. */
static void killed_work(nq *q, nq_claimer *claimer, uint64_t lease)
{
    enum { N = 5 };
    static const enum nq_outcome_kind kinds[] = {NQ_OUT_DEAD, NQ_OUT_RETRY, NQ_OUT_DONE};
    nq_outcome outs[N], *all[N];
    nq_claimed *list = NULL;
    size_t n = 0;
    int64_t wait_us;
    killed_round_begin();
    int rc = nq_claimer_claim(claimer, lease, N, NULL, &list, &n, &wait_us, &t_last);
    killed_round_end();
    if (!killed_was(rc))
        ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_tasks WHERE state = 1 AND lease = %llu",
                               (unsigned long long)lease),
                         (int64_t)n);
    n = 0;
    for (const nq_claimed *c = list; c; c = c->next, n++) {
        outs[n] = (nq_outcome){.id = c->task.id, .lease = lease, .queue = "default"};
        outs[n].kind = n % 2 == 0 ? NQ_OUT_DONE : kinds[lease % 3];
        all[n] = &outs[n];
    }
    killed_round_begin();
    rc = n ? nq_store_finish(nq_store_of(q), all, n, &t_last) : NQ_OK;
    killed_round_end();
    for (size_t i = 0; !killed_was(rc) && i < n; i++) {
        ck_assert_int_eq(outs[i].result, NQ_OK);
        ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_tasks WHERE id = %lld AND (state = 1 OR %d)",
                               (long long)outs[i].id, outs[i].kind != NQ_OUT_RETRY),
                         0);
    }
    t_free_claimed(list);
}

START_TEST(what_is_claimed_and_recorded_is_known)
{
    nq *q = NULL;
    nq_claimer *claimer = NULL;
    T_OK(nq_open(&q, t_url_with("read_timeout=1s"), NULL, &t_last)); /* MariaDB: see tests/fault, sessions */
    T_OK(nq_claimer_new(&claimer, nq_store_of(q), "default", NULL, 0, &t_last));
    killed_begin(150);
    for (int i = 1; i < KILLED_ROUNDS / 2; i++) {
        t_sql("DELETE FROM nanoq_tasks");
        t_sql("INSERT INTO nanoq_tasks (type) VALUES ('a'), ('b'), ('c'), ('d'), ('e')");
        killed_work(q, claimer, NQ_LEASE(1, (uint64_t)i));
    }
    killed_stop();
    nq_claimer_free(claimer);
    nq_close(q);
}
END_TEST

Suite *suite_killed(void)
{
    Suite *s = suite_create("killed");
    if (T_SQLITE || t_is_galera)
        return s; /* nobody can; a node of Galera may not outlive it: docs/reliability.md */
    TCase *c = t_case(s, "killed", 60);
    tcase_add_loop_test(c, a_write_that_is_said_to_be_done_is, 0, 4);
    tcase_add_test(c, a_commit_that_is_said_to_have_failed_did);
    tcase_add_test(c, what_is_claimed_and_recorded_is_known);
    return s;
}
