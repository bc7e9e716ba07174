/* SPDX-License-Identifier: MIT */
/* Rows as no nanoq would write them: whoever may INSERT or UPDATE, with the CHECKs off, harms no other task.
 */
#include "suites.h"

/* On the side connection: from now on rows may break the CHECKs. */
static void hostile_unchecked(void)
{
    if (T_SQLITE)
        t_sql("PRAGMA ignore_check_constraints = 1");
    else if (t_is_mariadb)
        t_sql("SET check_constraint_checks = 0, sql_mode = ''");
    else
        t_sql("SET sql_mode = ''");
}

/* ---- SQLite: a column holds whatever type it was given ---- */

static const struct hostile_payload {
    const char *sql, *bytes;
} hostile_payloads[] = {
    {"1001", "1001"},
    {"-1.5", "-1.5"},
    {"9223372036854775807", "9223372036854775807"},
    {"'text'", "text"},
    {"x'626c6f62'", "blob"},
    {"'gr\xc3\xb6\xc3\x9f"
     "e'",
     "gr\xc3\xb6\xc3\x9f"
     "e"},
    {"''", ""},
};

static int hostile_seen(const nq_info *info, void *arg)
{
    const char *want = arg;
    ck_assert_uint_eq(info->payload_size, strlen(want));
    ck_assert_mem_eq(info->payload, want, strlen(want));
    return 0;
}

START_TEST(a_payload_of_another_type_is_what_cast_makes_of_it)
{
    const struct hostile_payload *p = &hostile_payloads[_i];
    nq *q = t_open();
    nq_list_options o = {.size = sizeof o};
    nq_claimed *c;
    size_t n = 0;
    if (T_MYSQL) {
        nq_close(q);
        return;
    }
    t_sql("INSERT INTO nanoq_tasks (type, payload) VALUES ('t', %s)", p->sql);
    T_OK(nq_get(q, t_sql("SELECT id FROM nanoq_tasks"), hostile_seen, (void *)p->bytes, &t_last));
    T_OK(nq_list(q, &o, hostile_seen, (void *)p->bytes, &t_last));
    c = t_claim(q, NQ_LEASE(1, 1), 10, &n);
    ck_assert_uint_eq(n, 1);
    ck_assert_uint_eq(c->task.payload_size, strlen(p->bytes));
    ck_assert_mem_eq(c->task.payload, p->bytes, strlen(p->bytes));
    ck_assert_int_eq(t_finish(q, c, NQ_OUT_DEAD, 0, "why"), NQ_OK);
    T_OK(nq_get(q, c->task.id, hostile_seen, (void *)p->bytes, &t_last));
    T_OK(nq_list(q, &o, hostile_seen, (void *)p->bytes, &t_last));
    t_free_claimed(c);
    nq_close(q);
}
END_TEST

/* Numbers as text, times as fractions: read as CAST reads them, by the claim and by list. */
START_TEST(other_columns_of_another_type_are_read_as_cast_reads_them)
{
    nq *q = t_open();
    nq_id id = T_ADD(q, .type = "t");
    t_task t;
    size_t n = 0;
    if (T_MYSQL) {
        nq_close(q);
        return;
    }
    hostile_unchecked();
    t_sql("UPDATE nanoq_tasks SET type = CAST(7 AS BLOB), attempts = x'32', crashes = 1.9, error = 404, "
          "max_retries = CAST('5' AS BLOB), timeout_ms = x'32303030', created_at = 17.5, "
          "generation = 'many', run_at = 1.5, claimed_at = 'never'");
    ck_assert_int_eq(t_get(q, id, &t), NQ_OK);
    ck_assert_str_eq(t.info.type, "7");
    ck_assert_str_eq(t.error, "404");
    ck_assert_uint_eq(t.info.attempts, 2);
    ck_assert_uint_eq(t.info.crashes, 1);
    ck_assert_uint_eq(t.info.max_retries, 5);
    ck_assert_int_eq(t.info.timeout_us, NQ_SECONDS(2));
    ck_assert_int_eq(t.info.created_at_us, 17);
    t_task_free(&t);
    nq_claimed *c = t_claim(q, NQ_LEASE(1, 1), 10, &n);
    ck_assert_uint_eq(n, 1);
    ck_assert_str_eq(c->task.type, "7");
    ck_assert_str_eq(c->task.last_error, "404");
    ck_assert_uint_eq(c->task.attempt, 3);
    ck_assert_uint_eq(c->task.max_retries, 5);
    ck_assert_int_eq(c->task.timeout_us, NQ_SECONDS(2));
    ck_assert_int_eq(t_finish(q, c, NQ_OUT_DONE, 0, NULL), NQ_OK);
    t_free_claimed(c);
    nq_close(q);
}
END_TEST

/* ---- Both stores ---- */

struct hostile_shown {
    int n;
};

static int hostile_show(const nq_info *info, void *arg)
{
    struct hostile_shown *s = arg;
    if (s->n++ == 0) {
        ck_assert_int_eq(info->progress_done, 7);
        ck_assert_int_gt(info->claimed_at_us, 0);
    } else {
        ck_assert_int_eq(info->progress_done, 0);
        ck_assert_int_eq(info->progress_total, 0);
        ck_assert_int_eq(info->progress_at_us, 0);
        ck_assert_int_eq(info->claimed_at_us, 0);
        ck_assert_str_eq(info->progress_note, "");
    }
    return 0;
}

START_TEST(a_row_without_a_value_shows_none_of_the_row_before)
{
    nq *q = t_open();
    struct hostile_shown shown = {0};
    nq_list_options o = {.size = sizeof o};
    T_ADD(q, .type = "t", NQ_BYTES("1"));
    nq_claimed *c = t_claim_one(q, NQ_LEASE(1, 1));
    nq_progress told = {.of = {c->task.id, c->lease}, .done = 7, .total = 9, .note = "note", .note_size = 4};
    const nq_progress *all[] = {&told};
    T_OK(nq_store_progress(nq_store_of(q), all, 1, NULL, 0, &t_last));
    T_ADD(q, .type = "t", NQ_BYTES("2"));
    T_OK(nq_list(q, &o, hostile_show, &shown, &t_last));
    ck_assert_int_eq(shown.n, 2);
    t_free_claimed(c);
    nq_close(q);
}
END_TEST

START_TEST(a_timeout_beyond_all_bounds_is_cut_to_the_longest)
{
    nq *q = t_open();
    nq_id id = T_ADD(q, .type = "t");
    t_task t;
    if (T_MYSQL && !t_is_mariadb) {
        nq_close(q);
        return; /* MySQL's CHECKs cannot be switched off */
    }
    hostile_unchecked();
    t_sql("UPDATE nanoq_tasks SET timeout_ms = 9223372036854775807");
    ck_assert_int_eq(t_get(q, id, &t), NQ_OK);
    ck_assert_int_eq(t.info.timeout_us, NQ_MAX_DURATION);
    t_task_free(&t);
    if (T_SQLITE) { /* MariaDB's CHECK refuses the UPDATE of the claim */
        nq_claimed *c = t_claim_one(q, NQ_LEASE(1, 1));
        ck_assert_int_eq(c->task.timeout_us, NQ_MAX_DURATION);
        t_free_claimed(c);
    }
    nq_close(q);
}
END_TEST

START_TEST(a_completion_in_the_callers_transaction_names_its_database)
{
    if (T_SQLITE)
        return;
    nq *q = t_open();
    T_ADD(q, .type = "t", NQ_BYTES("1"));
    T_ADD(q, .type = "t", NQ_BYTES("2"));
    size_t n = 0;
    nq_claimed *c = t_claim(q, NQ_LEASE(1, 1), 2, &n);
    t_conn *other = t_connect();
    t_run(other, "USE information_schema");
    for (int keep = 0; keep < 2; keep++) {
        const nq_claimed *one = keep ? c->next : c;
        t_begin(other);
        T_OK(nq_complete_in(nq_store_of(q), t_tx(other), one->task.id, one->lease, keep, &t_last));
        t_run(other, "COMMIT");
    }
    ck_assert_uint_eq(t_count(q, NQ_STATE_RUNNING), 0);
    ck_assert_uint_eq(t_count(q, NQ_STATE_DONE), 1);
    t_disconnect(other);
    t_free_claimed(c);
    nq_close(q);
}
END_TEST

/* utf8mb4_bin pads with spaces when it compares. */
static int hostile_count(const nq_info *info, void *arg)
{
    ck_assert_str_eq(info->type, "mail");
    ++*(int *)arg;
    return 0;
}

START_TEST(a_space_behind_a_type_makes_it_another_one)
{
    nq *q = t_open();
    static const char *const types[] = {"mail"};
    nq_list_options o = {.size = sizeof o, .types = types, .ntypes = 1};
    nq_claimer *claimer = NULL;
    nq_claimed *list = NULL;
    int64_t wait_us = 0;
    size_t n = 0;
    int shown = 0;
    nq_id spaced = T_ADD(q, .type = "mail ");
    T_OK(nq_claimer_new(&claimer, nq_store_of(q), "default", types, 1, &t_last));
    T_OK(nq_claimer_claim(claimer, NQ_LEASE(1, 1), 10, NULL, &list, &n, &wait_us, &t_last));
    ck_assert_uint_eq(n, 0);
    ck_assert_int_eq(wait_us, -1);
    nq_id plain = T_ADD(q, .type = "mail");
    T_OK(nq_list(q, &o, hostile_count, &shown, &t_last));
    ck_assert_int_eq(shown, 1);
    T_OK(nq_claimer_claim(claimer, NQ_LEASE(1, 2), 10, NULL, &list, &n, &wait_us, &t_last));
    ck_assert_uint_eq(n, 1);
    ck_assert_int_eq(list->task.id, plain);
    ck_assert_int_eq(t_state(q, spaced), NQ_STATE_WAITING);
    t_free_claimed(list);
    nq_claimer_free(claimer);
    nq_close(q);
}
END_TEST

/* The difference is beyond any number: it was below zero once. */
static int hostile_oldest(const nq_queue_stats *stats, void *arg)
{
    ck_assert_int_gt(stats->oldest_due_us, 0);
    ++*(int *)arg;
    return 0;
}

START_TEST(a_time_before_all_times_is_due_for_as_long_as_can_be)
{
    int shown = 0;
    if (T_MYSQL)
        return;
    nq *q = t_open();
    hostile_unchecked();
    t_sql("INSERT INTO nanoq_tasks (type, run_at) VALUES ('t', -9223372036854775808)");
    t_sql("INSERT INTO nanoq_tasks (type, run_at, queue) VALUES ('u', 1, '')");
    T_OK(nq_stats(q, hostile_oldest, &shown, &t_last));
    ck_assert_int_eq(shown, 2);
    nq_close(q);
}
END_TEST

/* ---- Ids that begin again: the table of the live ones was emptied, or the history comes from elsewhere ----
 */

static void hostile_log(enum nq_log_level level, const char *message, void *udata)
{
    (void)level;
    *(int *)udata += strstr(message, "the history had a task ") ? 1 : 0;
}

/* As if the task's id had been another one's, which died. */
static void hostile_history(nq_id id)
{
    t_sql("INSERT INTO nanoq_finished (id, queue, state, priority, run_at, generation, attempts, crashes, "
          "max_retries, timeout_ms, created_at, finished_at, type, unique_key, payload, error) "
          "SELECT id, queue, 3, priority, run_at, generation, attempts, crashes, max_retries, timeout_ms, "
          "created_at, run_at, 'old', unique_key, payload, 'old' FROM nanoq_tasks WHERE id = %lld",
          (long long)id);
}

enum hostile_way {
    HOSTILE_KEPT_DONE,
    HOSTILE_DIED,
    HOSTILE_CANCELLED_RUNNING,
    HOSTILE_CANCELLED_WAITING,
    HOSTILE_BURIED,
    HOSTILE_BURIED_FOLLOWUP,
    HOSTILE_COMPLETED_IN,
    HOSTILE_WAYS
};

static void hostile_complete_in(nq *q, const nq_claimed *c)
{
    t_conn *other = t_connect();
    for (int commit = 0; commit < 2; commit++) {
        t_begin(other);
        T_OK(nq_complete_in(nq_store_of(q), t_tx(other), c->task.id, c->lease, true, &t_last));
        t_run(other, commit ? "COMMIT" : "ROLLBACK");
        ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_finished WHERE type = 'old'"), !commit);
    }
    t_disconnect(other);
}

/* The id of its task is not known before it is buried: all of the next ones are in the history. */
static void hostile_bury_followup(nq *q)
{
    size_t made = 0;
    bool more = false;
    hostile_unchecked();
    t_sql(
        "INSERT INTO nanoq_followups (task_id, queue, priority, run_at, max_retries, timeout_ms, created_at, "
        "type, payload, unique_key) SELECT id, queue, priority, run_at, 2000, timeout_ms, created_at, 'new', "
        "'p', %s FROM nanoq_tasks",
        T_MYSQL ? "REPEAT('k', 32)" : "'k'");
    for (int i = 1; i < 4; i++)
        t_sql(
            "INSERT INTO nanoq_finished (id, queue, state, priority, run_at, generation, attempts, crashes, "
            "max_retries, timeout_ms, created_at, finished_at, type, payload) SELECT id + %d, queue, 3, "
            "priority, run_at, 0, 0, 0, 0, 1000, created_at, run_at, 'old', '' FROM nanoq_tasks",
            i);
    t_sql("DELETE FROM nanoq_tasks");
    T_OK(nq_store_promote(nq_store_of(q), 10, &made, &more, &t_last));
    ck_assert_uint_eq(made, 0);
    t_sql("DELETE FROM nanoq_finished WHERE type = 'old'"); /* all but the one whose place was taken */
}

static void hostile_end(nq *q, enum hostile_way way, nq_id id)
{
    nq_claimed *c;
    switch (way) {
    case HOSTILE_CANCELLED_WAITING:
        T_OK(nq_cancel(q, id, &t_last));
        return;
    case HOSTILE_BURIED:
        T_OK(nq_bury_waiting(nq_store_of(q), id, "cannot be claimed", "why", &t_last));
        return;
    case HOSTILE_BURIED_FOLLOWUP:
        hostile_bury_followup(q);
        return;
    default:
        break;
    }
    c = t_claim_one(q, NQ_LEASE(1, 1));
    if (way == HOSTILE_CANCELLED_RUNNING)
        T_OK(nq_cancel(q, id, &t_last));
    if (way == HOSTILE_COMPLETED_IN) {
        hostile_complete_in(q, c);
    } else {
        nq_outcome one = {.id = id,
                          .lease = c->lease,
                          .kind = way == HOSTILE_KEPT_DONE ? NQ_OUT_DONE
                                  : way == HOSTILE_DIED    ? NQ_OUT_DEAD
                                                           : NQ_OUT_RETRY,
                          .keep = true};
        nq_outcome *const all[] = {&one};
        T_OK(nq_store_finish(nq_store_of(q), all, 1, &t_last));
        ck_assert_int_eq(one.result, NQ_OK);
    }
    t_free_claimed(c);
}

/* Whatever way it ends: its record takes the place of the other one, which is said once, by id. Of a
 * transaction of the caller's, which may be rolled back, nothing is said. */
START_TEST(a_record_takes_the_place_of_another_one_under_its_id)
{
    const enum hostile_way way = (enum hostile_way)_i;
    nq *q = NULL;
    int said = 0;
    if (T_MYSQL && !t_is_mariadb && way == HOSTILE_BURIED_FOLLOWUP)
        return; /* MySQL's CHECKs cannot be switched off */
    T_OK(nq_open(&q, t_url, &(nq_options){.size = sizeof(nq_options), .log = hostile_log, .log_udata = &said},
                 &t_last));
    const nq_id id = T_ADD(q, .type = "new");
    if (way != HOSTILE_BURIED_FOLLOWUP)
        hostile_history(id);
    hostile_end(q, way, id);
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_tasks"), 0);
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_finished"), 1);
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_finished WHERE type = 'new'"), 1);
    ck_assert_int_eq(said, way == HOSTILE_COMPLETED_IN ? 0 : 1);
    nq_close(q);
}
END_TEST

/* A batch has some, and others. */
START_TEST(outcomes_beside_such_a_one_are_recorded_with_it)
{
    enum { TASKS = 60, OLD = TASKS / 5, GONE = TASKS / 3 };
    nq *q = NULL;
    int said = 0;
    size_t n = 0;
    nq_outcome all[TASKS] = {{0}};
    nq_outcome *list[TASKS];
    T_OK(nq_open(&q, t_url, &(nq_options){.size = sizeof(nq_options), .log = hostile_log, .log_udata = &said},
                 &t_last));
    for (int i = 0; i < TASKS; i++) {
        const nq_id id = T_ADD(q, .type = "new", .payload = &i, .payload_size = sizeof i);
        if (i % 5 == 0)
            hostile_history(id);
    }
    nq_claimed *claimed = t_claim(q, NQ_LEASE(1, 1), TASKS, &n);
    ck_assert_uint_eq(n, TASKS);
    n = 0;
    for (const nq_claimed *c = claimed; c; c = c->next, n++) {
        all[n] = (nq_outcome){.id = c->task.id,
                              .lease = c->lease,
                              .kind = n % 3 ? NQ_OUT_DONE : NQ_OUT_DEAD,
                              .keep = n % 3 == 1};
        list[n] = &all[n];
    }
    T_OK(nq_store_finish(nq_store_of(q), list, TASKS, &t_last)); /* one call, one transaction */
    for (n = 0; n < TASKS; n++)
        ck_assert_int_eq(all[n].result, NQ_OK);
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_tasks"), 0);
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_finished WHERE type = 'new'"), TASKS - GONE);
    /* 0, 5, 10, ...: every third of them leaves no record */
    ck_assert_int_eq(said, OLD - OLD / 3);
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_finished WHERE type = 'old'"), OLD / 3);
    t_free_claimed(claimed);
    nq_close(q);
}
END_TEST

/* A server orders names as if they had spaces behind them: this one is before the queue that begins like it.
 * Queues are gone through 64 at a time. */
START_TEST(a_name_before_the_one_that_begins_it_ends_no_scan)
{
    if (T_MYSQL && !t_is_mariadb)
        return; /* it has its checks always */
    nq *q = t_open();
    nq_claimed *orphans = NULL;
    nq_scan scan = {.type = NQ_VAL_TEXT};
    size_t n = 0, found = 0;
    hostile_unchecked();
    for (int i = 0; i < 63; i++)
        T_ADD(q, .type = "t", .unique = NQ_UNIQUE_NONE,
              .queue = (char[]){'a', (char)('0' + i / 10), (char)('0' + i % 10), '\0'});
    t_sql(T_SQLITE
              ? "INSERT INTO nanoq_tasks (queue, type) VALUES (CAST(x'64656661756c7401' AS TEXT), 'before')"
              : "INSERT INTO nanoq_tasks (queue, type) VALUES (x'64656661756c7401', 'before')");
    t_sql("INSERT INTO nanoq_tasks (queue, type, state, lease) VALUES ('default', 'lost', 1, 77)");
    do {
        T_OK(nq_store_orphans(nq_store_of(q), &scan, 100, &orphans, &n, &t_last));
        found += n;
        t_free_claimed(orphans);
    } while (scan.more);
    nq_buf_free(&scan.queue);
    ck_assert_uint_eq(found, 1);
    nq_close(q);
}
END_TEST

static int hostile_depth(const nq_queue_stats *s, void *udata)
{
    *(uint64_t *)udata += strcmp(s->queue, "zebra") == 0 ? s->due : 0;
    return 0;
}

/* Full pages of names that come before those that begin them, or are too long: the first was read for ever,
 * the second ended the list. */
START_TEST(names_that_are_none_hide_no_queue)
{
    if (T_MYSQL && !t_is_mariadb)
        return; /* as above */
    nq *q = t_open();
    uint64_t due = 0;
    nq_checks k = {.pretend = (const char *const[]){"nanoq walk", "60000000", NULL}}; /* us: see them all */
    hostile_unchecked();
    for (int i = 1; i < 64; i++)
        t_sql(T_SQLITE ? "INSERT INTO nanoq_tasks (queue, type, payload) "
                         "VALUES ('a' || replace(printf('%%.*c', %d, 'x'), 'x', char(1)), 't', %d)"
                       : "INSERT INTO nanoq_tasks (queue, type, payload) "
                         "VALUES (CONCAT('a', REPEAT(CHAR(1), %d)), 't', %d)",
              i, i);
    if (T_SQLITE)
        t_sql("INSERT INTO nanoq_tasks (queue, type) VALUES (printf('%%.90c', 'b'), 't')");
    T_ADD(q, .type = "t", .queue = "a", .unique = NQ_UNIQUE_NONE);
    T_ADD(q, .type = "t", .queue = "zebra", .unique = NQ_UNIQUE_NONE);
    T_OK(nq_stats(q, hostile_depth, &due, &t_last));
    ck_assert_uint_eq(due, 1);
    T_OK(nq_store_checks(nq_store_of(q), &k, &t_last));
    ck_assert_int_ne(k.found[15].level, NQ_CHECK_OK); /* nobody serves them */
    ck_assert(k.nqueues > 0 && strcmp(k.queues[k.nqueues - 1].name, "zebra") == 0);
    nq_checks_free(&k);
    nq_close(q);
}
END_TEST

Suite *suite_hostile(void)
{
    Suite *s = suite_create("hostile");
    TCase *c = t_case(s, "hostile_types", 20);
    tcase_add_loop_test(c, a_payload_of_another_type_is_what_cast_makes_of_it, 0,
                        (int)(sizeof hostile_payloads / sizeof *hostile_payloads));
    tcase_add_test(c, other_columns_of_another_type_are_read_as_cast_reads_them);
    c = t_case(s, "hostile_shown", 20);
    tcase_add_test(c, a_row_without_a_value_shows_none_of_the_row_before);
    tcase_add_test(c, a_timeout_beyond_all_bounds_is_cut_to_the_longest);
    tcase_add_test(c, a_time_before_all_times_is_due_for_as_long_as_can_be);
    tcase_add_test(c, a_space_behind_a_type_makes_it_another_one);
    tcase_add_test(c, a_completion_in_the_callers_transaction_names_its_database);
    tcase_add_test(c, a_name_before_the_one_that_begins_it_ends_no_scan);
    tcase_add_test(c, names_that_are_none_hide_no_queue);
    c = t_case(s, "hostile_history", 20);
    tcase_add_loop_test(c, a_record_takes_the_place_of_another_one_under_its_id, 0, HOSTILE_WAYS);
    tcase_add_test(c, outcomes_beside_such_a_one_are_recorded_with_it);
    return s;
}
