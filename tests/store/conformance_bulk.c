/* SPDX-License-Identifier: MIT */
/* Many tasks at once: each action in each state, what is passed by, limits, and that nobody else is
 * disturbed.
 */
#include "bulk.h"

nq_bulk_counts bulk_did;

int bulk_call(nq *q, const nq_filter *f, enum nq_bulk_action action, const nq_bulk_options *opts)
{
    bulk_did = (nq_bulk_counts){.size = sizeof bulk_did};
    return nq_bulk(q, f, action, opts, &bulk_did, &t_last);
}

void bulk_dead(const char *queue, int first, int n, bool key)
{
    static const char digits[] =
        "(SELECT 0 AS d UNION ALL SELECT 1 UNION ALL SELECT 2 UNION ALL SELECT 3 UNION "
        "ALL SELECT 4 UNION ALL SELECT 5 UNION ALL SELECT 6 UNION ALL SELECT 7 UNION ALL "
        "SELECT 8 UNION ALL SELECT 9)";
    const char *now = T_MYSQL ? "UTC_TIMESTAMP(6)" : "strftime('%s', 'now') * 1000000";
    t_sql("INSERT INTO nanoq_finished (id, queue, state, priority, run_at, generation, attempts, crashes, "
          "max_retries, timeout_ms, created_at, finished_at, type, payload, unique_key, error) "
          "SELECT %d + n, '%s', 3, 0, %s, 1, 3, 1, 1, 1000, %s, %s, 't', 'x', %s, 'HTTP 502' FROM "
          "(SELECT a.d + 10 * b.d + 100 * c.d + 1000 * e.d AS n FROM %s a CROSS JOIN %s b CROSS JOIN %s c "
          "CROSS "
          "JOIN %s e) g WHERE n < %d",
          first, queue, now, now, now,
          !key      ? "NULL"
          : T_MYSQL ? "UNHEX(SHA2(n, 256))"
                    : "CAST('key' || n AS BLOB)",
          digits, digits, digits, digits, n);
}

/* A task in each state, of queue "mail". */
static void bulk_each(nq *q, nq_id ids[5])
{
    size_t n = 0;
    for (int i = 0; i < 5; i++)
        ids[i] = T_ADD(q, .type = "t", .queue = "mail", .unique = NQ_UNIQUE_NONE, .priority = -i);
    nq_claimed *list = NULL;
    for (int i = NQ_STATE_RUNNING; i <= NQ_STATE_DEAD; i++) { /* the more urgent ones first */
        t_sql("UPDATE nanoq_tasks SET priority = -50 WHERE id = %lld", (long long)ids[i]);
        list = t_claim_queue(q, "mail", NQ_LEASE(1, (uint64_t)i), 1, &n);
        ck_assert_uint_eq(n, 1);
        ck_assert_int_eq(list->task.id, ids[i]);
        nq_outcome o = {.id = ids[i],
                        .lease = list->lease,
                        .kind = i == NQ_STATE_DONE ? NQ_OUT_DONE : NQ_OUT_DEAD,
                        .keep = true,
                        .error = "x",
                        .error_size = 1},
                   *out = &o;
        if (i > NQ_STATE_RUNNING)
            T_OK(nq_store_finish(nq_store_of(q), &out, 1, &t_last));
        t_free_claimed(list);
    }
    T_OK(nq_cancel(q, ids[NQ_STATE_CANCELLED], &t_last));
}

enum { BULK_GONE = -1, BULK_NO = -9 };

/* What becomes of a task by an action, by its state. */
static const int bulk_becomes[][5] = {
    [NQ_BULK_RETRY] = {NQ_STATE_WAITING, BULK_NO, NQ_STATE_WAITING, NQ_STATE_WAITING, NQ_STATE_WAITING},
    [NQ_BULK_CANCEL] = {NQ_STATE_CANCELLED, NQ_STATE_RUNNING, BULK_NO, BULK_NO, BULK_NO},
    [NQ_BULK_DELETE] = {BULK_GONE, BULK_NO, BULK_GONE, BULK_GONE, BULK_GONE},
    [NQ_BULK_MOVE] = {NQ_STATE_WAITING, BULK_NO, BULK_NO, BULK_NO, BULK_NO},
    [NQ_BULK_PRIORITY] = {NQ_STATE_WAITING, BULK_NO, BULK_NO, BULK_NO, BULK_NO}};

START_TEST(each_action_in_each_state)
{
    const enum nq_bulk_action action = (enum nq_bulk_action)(_i / 5);
    const int state = _i % 5, becomes = bulk_becomes[action][state];
    nq *q = t_open();
    nq_id ids[5];
    bulk_each(q, ids);
    const nq_filter *f = B_WHERE(B_QUEUES("mail"), .states = NQ_STATE_BIT(state));
    const nq_bulk_options *o = B_OPTS(.queue = action == NQ_BULK_MOVE ? "slow" : NULL, .priority = 7);
    if (becomes == BULK_NO) {
        T_FAILS(bulk_call(q, f, action, o), NQ_EINVAL);
        ck_assert_ptr_nonnull(strstr(t_last.message, "cannot be"));
        ck_assert_uint_eq(bulk_did.found, 0);
    } else {
        T_OK(bulk_call(q, f, action, o));
        ck_assert_uint_eq(bulk_did.found, 1);
        ck_assert_uint_eq(bulk_did.done, 1);
        ck_assert_uint_eq(bulk_did.asked, action == NQ_BULK_CANCEL && state == NQ_STATE_RUNNING);
    }
    for (int i = 0; i < 5; i++)
        ck_assert_int_eq(t_state(q, ids[i]), i == state && becomes != BULK_NO ? becomes : i);
    const int64_t moved = BULK_COUNT("tasks", "queue = 'slow'"), urgent = BULK_COUNT("tasks", "priority = 7"),
                  asked = BULK_COUNT("cancels", "task_id > 0");
    ck_assert_int_eq(moved, action == NQ_BULK_MOVE && becomes != BULK_NO);
    ck_assert_int_eq(urgent, action == NQ_BULK_PRIORITY && becomes != BULK_NO);
    ck_assert_int_eq(asked, action == NQ_BULK_CANCEL && state == NQ_STATE_RUNNING);
    nq_close(q);
}
END_TEST

/* Where the filter names no states the usual ones are meant; where it names more, the others are counted. */
START_TEST(states_that_are_not_named_or_too_many)
{
    static const struct {
        enum nq_bulk_action action;
        unsigned found, skipped; /* of queue mail; of all five states */
    } wanted[] = {{NQ_BULK_RETRY, 1, 1},
                  {NQ_BULK_CANCEL, 2, 3},
                  {NQ_BULK_DELETE, 3, 1},
                  {NQ_BULK_MOVE, 1, 4},
                  {NQ_BULK_PRIORITY, 1, 4}};
    nq *q = t_open();
    nq_id ids[5];
    bulk_each(q, ids);
    for (size_t i = 0; i < 5; i++) {
        const nq_bulk_options *dry = B_OPTS(.dry_run = true, .queue = "slow", .priority = 1);
        T_OK(bulk_call(q, B_WHERE(B_QUEUES("mail")), wanted[i].action, dry));
        ck_assert_uint_eq(bulk_did.found, wanted[i].found);
        ck_assert_uint_eq(bulk_did.done, wanted[i].found);
        T_OK(bulk_call(q, B_WHERE(B_QUEUES("mail"), .states = 31), wanted[i].action, dry));
        ck_assert_uint_eq(bulk_did.found, 5);
        ck_assert_uint_eq(bulk_did.state, wanted[i].skipped);
    }
    T_OK(bulk_call(q, B_WHERE(B_QUEUES("mail"), .states = 31), NQ_BULK_DELETE, NULL));
    ck_assert(bulk_did.done == 4 && bulk_did.state == 1);
    ck_assert_int_eq(t_state(q, ids[NQ_STATE_RUNNING]), NQ_STATE_RUNNING);
    nq_close(q);
}
END_TEST

START_TEST(never_everything_unasked)
{
    nq *q = t_open();
    nq_id ids[5];
    bulk_each(q, ids);
    const nq_filter *const empty[] = {NULL, B_WHERE(.states = 0), B_WHERE(.states = 31)};
    for (size_t i = 0; i < 3; i++) {
        T_FAILS(bulk_call(q, empty[i], NQ_BULK_DELETE, NULL), NQ_EINVAL);
        ck_assert_ptr_nonnull(strstr(t_last.message, "every task"));
        T_FAILS(bulk_call(q, empty[i], NQ_BULK_DELETE, B_OPTS(.dry_run = true)), NQ_EINVAL);
    }
    T_FAILS(bulk_call(q, empty[0], (enum nq_bulk_action)5, B_OPTS(.all = true)), NQ_EINVAL);
    T_FAILS(bulk_call(q, empty[0], NQ_BULK_MOVE, B_OPTS(.all = true)), NQ_EINVAL);
    T_FAILS(bulk_call(q, empty[0], NQ_BULK_MOVE, B_OPTS(.all = true, .queue = "a b")), NQ_EINVAL);
    T_FAILS(bulk_call(q, empty[0], NQ_BULK_PRIORITY, B_OPTS(.all = true, .priority = 101)), NQ_EINVAL);
    ck_assert_ptr_nonnull(strstr(t_last.message, "priority is 101"));
    for (int i = 0; i < 5; i++)
        ck_assert_int_eq(t_state(q, ids[i]), i);
    T_OK(bulk_call(q, NULL, NQ_BULK_DELETE, B_OPTS(.all = true)));
    ck_assert_uint_eq(bulk_did.done, 3);
    nq_close(q);
}
END_TEST

static int bulk_progress(const nq_bulk_counts *c, void *udata)
{
    uint64_t *calls = udata;
    calls[0]++;
    calls[1] = c->done;
    return calls[2] && calls[0] == calls[2];
}

/* More than a page of them. */
START_TEST(whole_batches_until_a_limit_or_a_word)
{
    nq *q = t_open();
    uint64_t calls[3] = {0};
    bulk_dead("mail", 1, 2450, true);
    char *before =
        t_text(t_side(), "SELECT SUM(id), COUNT(*), MIN(error), MAX(attempts) FROM nanoq_finished");
    T_OK(bulk_call(q, B_WHERE(.error = "HTTP 502"), NQ_BULK_RETRY, B_OPTS(.dry_run = true)));
    ck_assert_uint_eq(bulk_did.done, 2450);
    char *after = t_text(t_side(), "SELECT SUM(id), COUNT(*), MIN(error), MAX(attempts) FROM nanoq_finished");
    ck_assert_str_eq(before, after);
    free(before);
    free(after);
    T_OK(bulk_call(q, B_WHERE(.error = "HTTP 502"), NQ_BULK_RETRY, B_OPTS(.dry_run = true, .limit = 1234)));
    ck_assert(bulk_did.done == 1234 && bulk_did.stopped);
    T_OK(bulk_call(q, B_WHERE(.error = "HTTP 502"), NQ_BULK_RETRY,
                   B_OPTS(.limit = 450, .progress = bulk_progress, .udata = calls)));
    ck_assert(bulk_did.done == 450 && bulk_did.found == 450 && bulk_did.stopped);
    ck_assert_int_eq(bulk_did.reached, 450);
    ck_assert_int_eq(bulk_did.last, 2450);
    ck_assert_uint_eq(calls[0], 3);
    ck_assert_uint_eq(calls[1], 450);
    ck_assert_int_eq(BULK_COUNT("tasks", "id <= 450 AND state = 0"), 450);
    calls[0] = 0;
    calls[2] = 2; /* it says stop */
    T_OK(bulk_call(q, B_WHERE(.error = "HTTP 502", .states = NQ_STATE_BIT(NQ_STATE_DEAD)), NQ_BULK_DELETE,
                   B_OPTS(.progress = bulk_progress, .udata = calls)));
    ck_assert(bulk_did.done == 400 && bulk_did.stopped);
    T_OK(bulk_call(q, B_WHERE(B_QUEUES("mail")), NQ_BULK_RETRY, NULL));
    ck_assert(bulk_did.done == 1600 && !bulk_did.stopped && bulk_did.reached == 2450);
    ck_assert_int_eq(BULK_COUNT("tasks", "attempts = 0 AND crashes = 0"), 2050);
    ck_assert_int_eq(BULK_COUNT("finished", "id > 0"), 0);
    T_OK(bulk_call(q, B_WHERE(B_QUEUES("mail")), NQ_BULK_RETRY, NULL));
    ck_assert_uint_eq(bulk_did.found, 0);
    nq_close(q);
}
END_TEST

/* No more than so many, at any time since the start. */
struct bulk_rate {
    int64_t start_us;
    unsigned per_second;
    uint64_t before;
};

static int bulk_at_rate(const nq_bulk_counts *c, void *udata)
{
    struct bulk_rate *r = udata;
    const int64_t took = t_mono() - r->start_us;
    /* what was done before this batch had its time */
    ck_assert_int_ge(took * r->per_second, (int64_t)r->before * 1000000);
    ck_assert_uint_le(c->done - r->before, r->per_second / 5);
    r->before = c->done;
    return 0;
}

START_TEST(a_rate_is_kept)
{
    nq *q = t_open();
    bulk_dead("mail", 1, 120, false);
    struct bulk_rate r = {t_mono(), 200, 0};
    T_OK(bulk_call(q, B_WHERE(B_QUEUES("mail")), NQ_BULK_RETRY,
                   B_OPTS(.per_second = 200, .progress = bulk_at_rate, .udata = &r)));
    ck_assert_uint_eq(bulk_did.done, 120);
    nq_close(q);
}
END_TEST

/* Of several with one key the first is retried, and none where a live task has it. */
START_TEST(keys_that_are_taken_are_counted)
{
    nq *q = t_open();
    bulk_dead("mail", 1, 500, true);
    bulk_dead("mail", 1001, 30, true); /* the keys of the first ones again */
    t_sql("INSERT INTO nanoq_tasks (id, type, payload, unique_key) SELECT 9000 + id, 't', 'y', unique_key "
          "FROM nanoq_finished "
          "WHERE id IN (5, 77, 401)");
    T_OK(bulk_call(q, B_WHERE(B_QUEUES("mail")), NQ_BULK_RETRY, NULL));
    ck_assert_uint_eq(bulk_did.done, 497);
    ck_assert_uint_eq(bulk_did.duplicates, 33);
    ck_assert_uint_eq(bulk_did.found, 530);
    ck_assert_int_eq(BULK_COUNT("finished", "id IN (5, 77, 401)"), 3);
    ck_assert_int_eq(BULK_COUNT("finished", "id > 1000"), 30);
    nq_close(q);
}
END_TEST

START_TEST(of_one_batch_the_first_with_a_key_is_retried)
{
    nq *q = t_open();
    bulk_dead("mail", 1, 150, true);
    t_sql("UPDATE nanoq_finished SET unique_key = %s", T_MYSQL ? "UNHEX(SHA2('one', 256))" : "x'11'");
    T_OK(bulk_call(q, B_WHERE(B_QUEUES("mail")), NQ_BULK_RETRY, NULL));
    ck_assert(bulk_did.done == 1 && bulk_did.duplicates == 149);
    ck_assert_int_eq(t_sql("SELECT id FROM nanoq_tasks"), 1);
    nq_close(q);
}
END_TEST

/* Behind the page that was read tasks change, and new ones come. */
static int bulk_meddle(const nq_bulk_counts *c, void *udata)
{
    (void)udata;
    if (c->done > NQ_BULK_BATCH)
        return 0;
    t_sql("UPDATE nanoq_finished SET error = 'other' WHERE id = 300");
    t_sql("DELETE FROM nanoq_finished WHERE id = 301");
    t_sql("UPDATE nanoq_finished SET queue = 'post' WHERE id = 302");
    t_sql("UPDATE nanoq_finished SET state = 4 WHERE id = 303");
    bulk_dead("mail", 5000, 10, false);
    return 0;
}

START_TEST(what_changes_meanwhile_is_left_alone_and_what_comes_too)
{
    nq *q = t_open();
    bulk_dead("mail", 1, 400, false);
    T_OK(bulk_call(q, B_WHERE(B_QUEUES("mail"), .error = "HTTP"), NQ_BULK_RETRY,
                   B_OPTS(.progress = bulk_meddle)));
    ck_assert_uint_eq(bulk_did.done, 396);
    ck_assert_uint_eq(bulk_did.changed, 4);
    ck_assert_int_eq(bulk_did.last, 400);
    ck_assert_int_eq(BULK_COUNT("finished", "id >= 5000"), 10);
    nq_close(q);
}
END_TEST

START_TEST(a_group_goes_along_where_it_fits)
{
    nq *q = t_open();
    char long_name[NQ_MAX_QUEUE + 1];
    memset(long_name, 'q', 40);
    long_name[40] = '\0';
    const nq_id plain = T_ADD(q, .type = "a", .queue = "mail"),
                group = T_ADD(q, .type = "b", .queue = "mail", .group = "42"),
                text = T_ADD(q, .type = "c", .queue = "mail",
                             .group = "Smith & sons, of a street with a long name");
    t_task t;
    T_OK(bulk_call(q, B_WHERE(B_QUEUES("mail")), NQ_BULK_MOVE, B_OPTS(.queue = "slow")));
    ck_assert_uint_eq(bulk_did.done, 3);
    ck_assert_int_eq(BULK_COUNT("tasks", "queue = 'slow//42'"), 1);
    T_OK(t_get(q, text, &t));
    ck_assert_str_eq(t.queue, "slow");
    ck_assert_str_eq(t.group, "Smith & sons, of a street with a long name");
    t_task_free(&t);
    T_OK(bulk_call(q, B_WHERE(B_QUEUES("slow")), NQ_BULK_MOVE, B_OPTS(.queue = long_name)));
    ck_assert_uint_eq(bulk_did.done, 2);
    ck_assert_uint_eq(bulk_did.refused, 1); /* 40 bytes and those of a name that stands for a text */
    T_OK(bulk_call(q, B_WHERE(B_QUEUES("slow", long_name)), NQ_BULK_MOVE, B_OPTS(.queue = "one//7")));
    ck_assert_int_eq(BULK_COUNT("tasks", "queue = 'one//7'"), 3);
    ck_assert_int_eq(t_state(q, plain), NQ_STATE_WAITING);
    ck_assert_int_eq(t_state(q, group), NQ_STATE_WAITING);
    nq_close(q);
}
END_TEST

/* As one by one: what a task leaves in other tables, and what it says. */
START_TEST(what_belongs_to_a_task_goes_with_it)
{
    nq *q = t_open();
    size_t n = 0;
    for (int i = 0; i < 3; i++)
        T_ADD(q, .type = "t", .unique = NQ_UNIQUE_NONE, .expires_us = NQ_HOURS(1),
              .tags = (const char *const[]){"x"}, .ntags = 1, .headers = (nq_header[]){{"lang", "de"}},
              .nheaders = 1);
    nq_claimed *list = t_claim(q, NQ_LEASE(1, 1), 3, &n);
    nq_outcome o[2] = {{.id = list->task.id,
                        .lease = list->lease,
                        .kind = NQ_OUT_DONE,
                        .keep = true,
                        .keep_us = NQ_HOURS(1),
                        .output = "r",
                        .output_size = 1},
                       {.id = list->next->task.id,
                        .lease = list->lease,
                        .kind = NQ_OUT_DEAD,
                        .error = "x",
                        .error_size = 1}},
               *outs[] = {&o[0], &o[1]};
    T_OK(nq_store_finish(nq_store_of(q), outs, 2, &t_last));
    t_free_claimed(list);
    ck_assert_int_eq(BULK_COUNT("results", "task_id > 0"), 1);
    const nq_filter *f = B_WHERE(.tags = (const char *const[]){"x"}, .ntags = 1, .states = 31);
    T_OK(bulk_call(q, f, NQ_BULK_RETRY, NULL));
    ck_assert(bulk_did.done == 2 && bulk_did.state == 1);
    ck_assert_int_eq(BULK_COUNT("results", "task_id > 0"), 0);
    ck_assert_int_eq(BULK_COUNT("attempts", "task_id > 0"), 1);
    ck_assert_int_eq(
        BULK_COUNT("tasks",
                   "state = 0 AND headers LIKE '%%lang: de%%' AND headers NOT LIKE '%%nq-expires%%'"),
        2);
    ck_assert_int_eq(BULK_COUNT("tasks", "state = 1 AND headers LIKE '%%nq-expires%%'"), 1);
    nq_close(q);
}
END_TEST

/* A row that the tasks' table refuses, past the checks of its own. */
START_TEST(one_that_the_database_refuses_stops_no_others)
{
    nq *q = t_open();
    t_conn *c = t_connect();
    bulk_dead("mail", 1, 60, false);
    t_run(c, T_SQLITE       ? "PRAGMA ignore_check_constraints = 1"
             : t_is_mariadb ? "SET check_constraint_checks = 0"
                            : "SELECT 1");
    if (t_try(c, "UPDATE nanoq_finished SET priority = 101 WHERE id IN (7, 50)") == 0) {
        T_OK(bulk_call(q, B_WHERE(B_QUEUES("mail")), NQ_BULK_RETRY, NULL));
        ck_assert_uint_eq(bulk_did.done, 58);
        ck_assert_uint_eq(bulk_did.refused, 2);
    }
    t_disconnect(c);
    nq_close(q);
}
END_TEST

/* Of ids all are found that there are, once each, and what cannot be is counted. */
START_TEST(by_ids)
{
    static const struct {
        enum nq_bulk_action action;
        unsigned done, state;
    } wanted[] = {{NQ_BULK_MOVE, 1, 4},
                  {NQ_BULK_PRIORITY, 1, 4},
                  {NQ_BULK_RETRY, 4, 1},
                  {NQ_BULK_CANCEL, 5, 0},
                  {NQ_BULK_DELETE, 4, 1}};
    nq *q = t_open();
    nq_id ids[8];
    bulk_each(q, ids);
    ids[5] = ids[0];
    ids[6] = 99;
    const nq_id other = ids[7] = T_ADD(q, .type = "t", .queue = "other");
    for (size_t i = 0; i < 5; i++) {
        const nq_filter *f = B_WHERE(.ids = ids, .nids = 7);
        T_OK(bulk_call(q, f, wanted[i].action, B_OPTS(.dry_run = true, .queue = "slow", .priority = 7)));
        ck_assert(bulk_did.done == wanted[i].done && bulk_did.state == wanted[i].state);
        T_OK(bulk_call(q, f, wanted[i].action, B_OPTS(.queue = "slow", .priority = 7)));
        ck_assert_uint_eq(bulk_did.found, 5);
        ck_assert_uint_eq(bulk_did.done, wanted[i].done);
        ck_assert_uint_eq(bulk_did.state, wanted[i].state);
        if (wanted[i].action == NQ_BULK_MOVE)
            ck_assert_int_eq(BULK_COUNT("tasks", "queue = 'slow'"), 1);
    }
    ck_assert_int_eq(BULK_COUNT("tasks", "id > 0"), 2);
    ck_assert_int_eq(t_state(q, ids[NQ_STATE_RUNNING]), NQ_STATE_RUNNING);
    ck_assert_int_eq(t_state(q, other), NQ_STATE_WAITING);
    /* With what else is said: both hold. */
    T_OK(bulk_call(q, B_WHERE(.ids = ids, .nids = 8, B_QUEUES("other")), NQ_BULK_CANCEL, NULL));
    ck_assert(bulk_did.found == 1 && bulk_did.done == 1);
    ck_assert_int_eq(t_state(q, other), NQ_STATE_CANCELLED);
    nq_close(q);
}
END_TEST

/* Any INSERT may give one: it came as a negative id behind all others, and bulk began anew, for ever, or left
 * good ones out. */
START_TEST(ids_beyond_those_of_tasks_stop_no_others)
{
    nq *q = t_open();
    nq_id ids[3];
    for (size_t i = 0; i < 3; i++)
        ids[i] = T_ADD(q, .type = "t", .unique = NQ_UNIQUE_NONE);
    t_sql("INSERT INTO nanoq_tasks (id, type, payload) VALUES (18446744073709551000, 'far', 'a'), "
          "(9223372036854775900, 'far', 'b')");
    T_OK(bulk_call(q, B_WHERE(B_QUEUES("default")), NQ_BULK_CANCEL, B_OPTS(.dry_run = true)));
    ck_assert(bulk_did.found == 3 && bulk_did.done == 3);
    T_OK(bulk_call(q, B_WHERE(B_QUEUES("default")), NQ_BULK_CANCEL, NULL));
    ck_assert(bulk_did.found == 3 && bulk_did.done == 3);
    for (size_t i = 0; i < 3; i++)
        ck_assert_int_eq(t_state(q, ids[i]), NQ_STATE_CANCELLED);
    nq_close(q);
}
END_TEST

Suite *suite_bulk(void)
{
    Suite *s = suite_create("bulk");
    TCase *c = t_case(s, "bulk", 60);
    tcase_add_loop_test(c, each_action_in_each_state, 0, 25);
    tcase_add_test(c, states_that_are_not_named_or_too_many);
    tcase_add_test(c, never_everything_unasked);
    tcase_add_test(c, whole_batches_until_a_limit_or_a_word);
    tcase_add_test(c, a_rate_is_kept);
    tcase_add_test(c, keys_that_are_taken_are_counted);
    tcase_add_test(c, of_one_batch_the_first_with_a_key_is_retried);
    tcase_add_test(c, what_changes_meanwhile_is_left_alone_and_what_comes_too);
    tcase_add_test(c, a_group_goes_along_where_it_fits);
    tcase_add_test(c, what_belongs_to_a_task_goes_with_it);
    tcase_add_test(c, one_that_the_database_refuses_stops_no_others);
    tcase_add_test(c, by_ids);
    if (T_MYSQL)
        tcase_add_test(c, ids_beyond_those_of_tasks_stop_no_others);
    return s;
}
