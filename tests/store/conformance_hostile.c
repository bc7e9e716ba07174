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
    tcase_add_test(c, a_space_behind_a_type_makes_it_another_one);
    tcase_add_test(c, a_completion_in_the_callers_transaction_names_its_database);
    return s;
}
