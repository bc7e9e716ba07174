/* SPDX-License-Identifier: MIT */
/* What is kept about attempts that run: requests to cancel them, progress; and completion by the caller. */
#include "suites.h"

static uint64_t attempts_lease(int worker, int seq)
{
    return NQ_LEASE(worker, seq);
}

/* ---- Requests to cancel ---- */

static const enum nq_outcome_kind attempts_kinds[] = {NQ_OUT_RETRY, NQ_OUT_SNOOZE, NQ_OUT_RELEASE,
                                                      NQ_OUT_DEAD, NQ_OUT_CANCELLED};

START_TEST(whatever_ends_it_a_request_makes_it_cancelled)
{
    nq *q = t_open();
    t_task task;
    nq_id id = T_ADD(q, .type = "t", NQ_BYTES("p")), other = T_ADD(q, .type = "other");
    size_t n = 0;
    nq_claimed *list = t_claim(q, attempts_lease(1, 1), 10, &n);
    ck_assert_uint_eq(n, 2);
    T_OK(nq_cancel(q, id, &t_last));
    ck_assert_int_eq(t_get(q, id, &task), NQ_OK);
    ck_assert_int_eq(task.info.state, NQ_STATE_RUNNING);
    ck_assert(task.info.cancelling);
    t_task_free(&task);
    /* In one batch with another that nobody asked for. */
    nq_outcome a = {
        .id = id, .lease = list->lease, .kind = attempts_kinds[_i], .error = "why", .error_size = 3};
    nq_outcome b = {.id = other, .lease = list->lease, .kind = NQ_OUT_RETRY, .error = "x", .error_size = 1};
    nq_outcome *outs[] = {&b, &a};
    T_OK(nq_store_finish(nq_store_of(q), outs, 2, &t_last));
    ck_assert_int_eq(a.result, NQ_OK);
    ck_assert_int_eq(a.kind, NQ_OUT_CANCELLED);
    ck_assert_int_eq(b.kind, NQ_OUT_RETRY);
    ck_assert_int_eq(t_state(q, other), NQ_STATE_WAITING);
    ck_assert_int_eq(t_get(q, id, &task), NQ_OK);
    ck_assert_int_eq(task.info.state, NQ_STATE_CANCELLED);
    ck_assert_uint_eq(task.info.attempts, 0);
    ck_assert_str_eq(task.error, "why");
    ck_assert_str_eq((char *)task.payload, "p");
    ck_assert(!task.info.cancelling);
    t_task_free(&task);
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_cancels"), 0);
    /* Fenced as ever, and the key is free. */
    T_OK(nq_store_finish(nq_store_of(q), outs, 2, &t_last));
    ck_assert_int_eq(a.result, NQ_ELEASE);
    T_ADD(q, .type = "t", NQ_BYTES("p"));
    t_free_claimed(list);
    nq_close(q);
}
END_TEST

START_TEST(a_success_outweighs_a_request)
{
    nq *q = t_open();
    for (int keep = 0; keep < 2; keep++) {
        nq_id id = T_ADD(q, .type = "t");
        nq_claimed *c = t_claim_one(q, attempts_lease(1, keep + 1));
        T_OK(nq_cancel(q, id, &t_last));
        nq_outcome o = {.id = id, .lease = c->lease, .kind = NQ_OUT_DONE, .keep = keep}, *outs[] = {&o};
        T_OK(nq_store_finish(nq_store_of(q), outs, 1, &t_last));
        ck_assert_int_eq(o.kind, NQ_OUT_DONE);
        ck_assert_int_eq(t_state(q, id), keep ? NQ_STATE_DONE : -1);
        t_free_claimed(c);
    }
    nq_close(q);
}
END_TEST

START_TEST(a_request_is_for_one_claim_only)
{
    nq *q = t_open();
    nq_attempt *asked = NULL;
    size_t n = 9;
    nq_id id = T_ADD(q, .type = "t"), id2 = T_ADD(q, .type = "u");
    nq_claimed *c = t_claim(q, attempts_lease(7, 1), 10, &n);
    ck_assert_uint_eq(n, 2);
    T_OK(nq_cancel(q, id, &t_last));
    T_OK(nq_store_cancels(nq_store_of(q), 8, &asked, &n, &t_last)); /* another's: not told, not swept */
    ck_assert_uint_eq(n, 0);
    free(asked);
    T_OK(nq_store_cancels(nq_store_of(q), 7, &asked, &n, &t_last));
    ck_assert_uint_eq(n, 1);
    ck_assert_int_eq(asked[0].id, id);
    ck_assert(asked[0].lease == attempts_lease(7, 1));
    free(asked);
    /* As if its worker were of a version that knows no requests: released, claimed anew. */
    t_sql("UPDATE nanoq_tasks SET state = 0, lease = 0 WHERE id = %lld", (long long)id);
    nq_claimed *again = t_claim_one(q, attempts_lease(7, 2));
    ck_assert_int_eq(again->task.id, id);
    T_OK(nq_cancel(q, id2, &t_last));
    T_OK(nq_store_cancels(nq_store_of(q), 8, &asked, &n, &t_last)); /* the old one is swept by anybody */
    free(asked);
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_cancels"), 1);
    ck_assert_int_eq(t_finish(q, again, NQ_OUT_RELEASE, 0, NULL), NQ_OK);
    ck_assert_int_eq(t_state(q, id), NQ_STATE_WAITING);
    T_OK(nq_store_cancels(nq_store_of(q), 7, &asked, &n, &t_last));
    ck_assert_uint_eq(n, 1);
    ck_assert_int_eq(asked[0].id, id2);
    free(asked);
    t_free_claimed(again);
    t_free_claimed(c);
    nq_close(q);
}
END_TEST

START_TEST(many_requests_are_swept)
{
    enum { N = 250 };
    nq *q = t_open();
    nq_attempt *asked = NULL;
    size_t n = 0;
    for (int i = 1; i <= N; i++)
        t_sql("INSERT INTO nanoq_cancels (task_id, lease) VALUES (%d, %d)", i, i);
    T_OK(nq_store_cancels(nq_store_of(q), 7, &asked, &n, &t_last));
    ck_assert_uint_eq(n, 0);
    free(asked);
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_cancels"), 0);
    nq_close(q);
}
END_TEST

/* ---- Progress ---- */

static nq_progress attempts_told(nq_id id, uint64_t lease, int64_t done, const char *note)
{
    nq_progress p = {.of = {id, lease}, .done = done, .total = 1000, .note_size = strlen(note)};
    memcpy(p.note, note, p.note_size);
    return p;
}

static int attempts_done(const nq_info *info, void *udata)
{
    *(int64_t *)udata = info->progress_at_us ? info->progress_done : -1;
    return 0;
}

static int64_t attempts_progress_of(nq *q, nq_id id)
{
    int64_t done = -2;
    T_OK(nq_get(q, id, attempts_done, &done, &t_last));
    return done;
}

START_TEST(progress_counts_under_its_lease_only)
{
    nq *q = t_open();
    nq_store *s = nq_store_of(q);
    size_t n = 0;
    nq_id id = T_ADD(q, .type = "t");
    nq_claimed *c = t_claim_one(q, attempts_lease(1, 1));
    ck_assert_int_eq(attempts_progress_of(q, id), -1);
    nq_progress first = attempts_told(id, attempts_lease(1, 1), 5, "a"), *list[250];
    list[0] = &first;
    T_OK(nq_store_progress(s, (const nq_progress *const *)list, 1, NULL, 0, &t_last));
    first.done = 6;
    T_OK(nq_store_progress(s, (const nq_progress *const *)list, 1, NULL, 0, &t_last));
    ck_assert_int_eq(attempts_progress_of(q, id), 6);
    T_OK(nq_store_progress_sweep(s, 10, &n, &t_last));
    ck_assert_uint_eq(n, 0);
    /* The lease is lost; the loser may go on telling, and nobody hears. */
    ck_assert_int_eq(t_finish(q, c, NQ_OUT_RELEASE, 0, NULL), NQ_OK);
    ck_assert_int_eq(attempts_progress_of(q, id), -1);
    nq_claimed *again = t_claim_one(q, attempts_lease(2, 1));
    nq_progress theirs = attempts_told(id, attempts_lease(2, 1), 70, "b");
    list[0] = &theirs;
    T_OK(nq_store_progress(s, (const nq_progress *const *)list, 1, NULL, 0, &t_last));
    list[0] = &first;
    first.done = 7;
    T_OK(nq_store_progress(s, (const nq_progress *const *)list, 1, NULL, 0, &t_last));
    ck_assert_int_eq(attempts_progress_of(q, id), 70);
    T_OK(nq_store_progress_sweep(s, 10, &n, &t_last));
    ck_assert_uint_eq(n, 1);
    ck_assert_int_eq(attempts_progress_of(q, id), 70);
    nq_attempt ended = {id, attempts_lease(2, 1)};
    T_OK(nq_store_progress(s, NULL, 0, &ended, 1, &t_last));
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_progress"), 0);
    /* Many at once, and swept by parts. */
    static nq_progress many[250];
    for (int i = 0; i < 250; i++) {
        many[i] = attempts_told(1000 + i, attempts_lease(3, 1), i, "");
        list[i] = &many[i];
    }
    T_OK(nq_store_progress(s, (const nq_progress *const *)list, 250, NULL, 0, &t_last));
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_progress WHERE done = task_id - 1000"), 250);
    T_OK(nq_store_progress_sweep(s, 150, &n, &t_last));
    ck_assert_uint_eq(n, 150);
    T_OK(nq_store_progress_sweep(s, 150, &n, &t_last));
    ck_assert_uint_eq(n, 100);
    t_free_claimed(c);
    t_free_claimed(again);
    nq_close(q);
}
END_TEST

/* ---- Completion in the caller's transaction ---- */

START_TEST(completion_commits_and_rolls_back_with_the_caller)
{
    nq *q = t_open();
    const nq_store *s = nq_store_of(q);
    t_conn *mine = t_connect();
    const bool keep = _i;
    t_run(mine, "CREATE TABLE business (x INT PRIMARY KEY)");
    nq_id id = T_ADD(q, .type = "t", NQ_BYTES("p"));
    nq_claimed *c = t_claim_one(q, attempts_lease(1, 1));
    t_begin(mine);
    t_run(mine, "INSERT INTO business VALUES (1)");
    T_OK(nq_complete_in(s, t_tx(mine), id, c->lease, keep, &t_last));
    T_FAILS(nq_complete_in(s, t_tx(mine), id, c->lease, keep, &t_last), NQ_ELEASE); /* it is gone, here */
    ck_assert(!t_last.transaction_lost);
    t_run(mine, "ROLLBACK");
    ck_assert_int_eq(t_state(q, id), NQ_STATE_RUNNING);
    t_begin(mine);
    t_run(mine, "INSERT INTO business VALUES (2)");
    T_OK(nq_complete_in(s, t_tx(mine), id, c->lease, keep, &t_last));
    t_run(mine, "COMMIT");
    ck_assert_int_eq(t_state(q, id), keep ? NQ_STATE_DONE : -1);
    ck_assert_int_eq(t_sql("SELECT SUM(x) FROM business"), 2);
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_finished"), keep);
    ck_assert_int_eq(t_finish(q, c, NQ_OUT_RETRY, 0, "x"), NQ_ELEASE);
    t_free_claimed(c);
    t_disconnect(mine);
    nq_close(q);
}
END_TEST

START_TEST(completion_is_fenced)
{
    nq *q = t_open();
    const nq_store *s = nq_store_of(q);
    t_conn *mine = t_connect();
    const bool keep = _i;
    nq_id id = T_ADD(q, .type = "t");
    nq_claimed *c = t_claim_one(q, attempts_lease(1, 1));
    ck_assert_int_eq(t_finish(q, c, NQ_OUT_RELEASE, 0, NULL), NQ_OK);
    t_begin(mine);
    T_FAILS(nq_complete_in(s, t_tx(mine), id, c->lease, keep, &t_last), NQ_ELEASE);
    t_run(mine, "ROLLBACK");
    nq_claimed *again = t_claim_one(q, attempts_lease(2, 1));
    t_begin(mine);
    T_FAILS(nq_complete_in(s, t_tx(mine), id, c->lease, keep, &t_last), NQ_ELEASE);
    t_run(mine, "COMMIT"); /* even so nothing was changed */
    ck_assert_int_eq(t_state(q, id), NQ_STATE_RUNNING);
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_finished"), 0);
    t_free_claimed(c);
    t_free_claimed(again);
    t_disconnect(mine);
    nq_close(q);
}
END_TEST

START_TEST(completion_needs_an_open_transaction)
{
    nq *q = t_open();
    const nq_store *s = nq_store_of(q);
    t_conn *mine = t_connect();
    nq_id id = T_ADD(q, .type = "t");
    nq_claimed *c = t_claim_one(q, attempts_lease(1, 1));
    T_FAILS(nq_complete_in(s, t_tx(mine), id, c->lease, false, &t_last), NQ_EINVAL);
    ck_assert_ptr_nonnull(strstr(t_last.message, "no transaction is open"));
    T_FAILS(nq_complete_in(s, NQ_OWN_TX, id, c->lease, false, &t_last), NQ_EINVAL);
    t_begin(mine);
    t_run(mine, "COMMIT");
    T_FAILS(nq_complete_in(s, t_tx(mine), id, c->lease, false, &t_last), NQ_EINVAL);
    ck_assert_int_eq(t_state(q, id), NQ_STATE_RUNNING);
    if (T_MYSQL) { /* without autocommit one begins by itself */
        t_run(mine, "SET autocommit = 0");
        T_OK(nq_complete_in(s, t_tx(mine), id, c->lease, true, &t_last));
        t_run(mine, "ROLLBACK");
        ck_assert_int_eq(t_state(q, id), NQ_STATE_RUNNING);
    }
    t_free_claimed(c);
    t_disconnect(mine);
    nq_close(q);
}
END_TEST

START_TEST(completion_passes_the_databases_errors_on)
{
    nq *q = t_open();
    t_conn *mine = t_connect();
    t_begin(mine);
    t_run(t_side(), "SELECT 1");
    t_run(mine, "COMMIT");
    t_sql("DROP TABLE nanoq_tasks");
    t_begin(mine);
    T_FAILS(nq_complete_in(nq_store_of(q), t_tx(mine), 1, 1, false, &t_last), NQ_ENOTMIGRATED);
    t_run(mine, "ROLLBACK");
    t_disconnect(mine);
    nq_close(q);
}
END_TEST

/* Of the parent's store nothing is touched but what its URL says. */
static void attempts_complete(int fd, void *arg)
{
    const nq_store *s = arg;
    nq_err err = {0};
    t_conn *mine = t_connect();
    const nq_id id = t_hear(fd, 20);
    const uint64_t lease = (uint64_t)t_hear(fd, 20);
    t_begin(mine);
    t_run(mine, "INSERT INTO business VALUES (1)");
    const int rc = nq_complete_in(s, t_tx(mine), id, lease, true, &err);
    t_run(mine, "COMMIT");
    t_disconnect(mine);
    t_tell(fd, rc);
    _exit(0);
}

START_TEST(completion_works_in_a_child_process)
{
    t_child child;
    nq *q = t_open();
    t_sql("CREATE TABLE business (x INT PRIMARY KEY)");
    t_fork(&child, attempts_complete, nq_store_of(q));
    nq_id id = T_ADD(q, .type = "t");
    nq_claimed *c = t_claim_one(q, attempts_lease(1, 1));
    t_tell(child.fd, id);
    t_tell(child.fd, (int64_t)c->lease);
    ck_assert_int_eq(t_hear(child.fd, 20), NQ_OK);
    ck_assert_int_eq(t_reap(&child), 0);
    ck_assert_int_eq(t_state(q, id), NQ_STATE_DONE);
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM business"), 1);
    t_free_claimed(c);
    nq_close(q);
}
END_TEST

/* ---- Did it take effect? ---- */

START_TEST(confirming_tells_what_became_of_it)
{
    enum { N = 4 };
    nq *q = t_open();
    nq_store *s = nq_store_of(q);
    t_conn *mine = t_connect();
    nq_outcome o[N], *outs[N];
    size_t n = 0;
    for (int i = 0; i < N; i++)
        T_ADD(q, .type = "t", .unique = NQ_UNIQUE_NONE);
    nq_claimed *list = t_claim(q, attempts_lease(1, 1), 10, &n), *c = list;
    ck_assert_uint_eq(n, N);
    for (int i = 0; i < N; i++, c = c->next) {
        o[i] = (nq_outcome){.id = c->task.id, .lease = c->lease, .kind = NQ_OUT_CONFIRM};
        outs[i] = &o[i];
    }
    t_begin(mine); /* 0: committed; 1: rolled back; 2: another's; 3: still open */
    T_OK(nq_complete_in(s, t_tx(mine), o[0].id, o[0].lease, false, &t_last));
    t_run(mine, "COMMIT");
    t_begin(mine);
    T_OK(nq_complete_in(s, t_tx(mine), o[1].id, o[1].lease, false, &t_last));
    t_run(mine, "ROLLBACK");
    t_sql("UPDATE nanoq_tasks SET lease = lease + 1 WHERE id = %lld", (long long)o[2].id);
    if (T_MYSQL) {
        t_begin(mine);
        T_OK(nq_complete_in(s, t_tx(mine), o[3].id, o[3].lease, true, &t_last));
    }
    const int64_t start = t_mono();
    T_OK(nq_store_confirm(s, outs, T_MYSQL ? 4 : 3, &t_last));
    ck_assert_int_lt(t_mono() - start, NQ_SECONDS(1) * T_SLOW_FACTOR); /* no lock was waited for */
    ck_assert_int_eq(o[0].result, NQ_OK);
    ck_assert_int_eq(o[1].result, NQ_ESTATE);
    ck_assert_int_eq(o[2].result, NQ_ELEASE);
    if (T_MYSQL) {
        ck_assert_int_eq(o[3].result, NQ_ECONFLICT);
        t_run(mine, "COMMIT");
        T_OK(nq_store_confirm(s, outs, 4, &t_last));
        ck_assert_int_eq(o[3].result, NQ_OK);
        ck_assert_int_eq(o[1].result, NQ_ESTATE);
    }
    t_free_claimed(list);
    t_disconnect(mine);
    nq_close(q);
}
END_TEST

Suite *suite_attempts(void)
{
    Suite *s = suite_create("attempts");
    TCase *c = t_case(s, "cancel", 60);
    tcase_add_loop_test(c, whatever_ends_it_a_request_makes_it_cancelled, 0,
                        (int)(sizeof attempts_kinds / sizeof *attempts_kinds));
    tcase_add_test(c, a_success_outweighs_a_request);
    tcase_add_test(c, a_request_is_for_one_claim_only);
    tcase_add_test(c, many_requests_are_swept);
    c = t_case(s, "progress", 60);
    tcase_add_test(c, progress_counts_under_its_lease_only);
    c = t_case(s, "complete", 60);
    tcase_add_loop_test(c, completion_commits_and_rolls_back_with_the_caller, 0, 2);
    tcase_add_loop_test(c, completion_is_fenced, 0, 2);
    tcase_add_test(c, completion_needs_an_open_transaction);
    tcase_add_test(c, completion_passes_the_databases_errors_on);
    tcase_add_test(c, completion_works_in_a_child_process);
    tcase_add_test(c, confirming_tells_what_became_of_it);
    return s;
}
