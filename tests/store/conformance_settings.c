/* SPDX-License-Identifier: MIT */
/* The settings of queues: written by calls and by plain SQL, read as workers heed them, whatever stands
 * there. */
#include "suites.h"

#define S_SET(...) (&(nq_queue_settings){.size = sizeof(nq_queue_settings), __VA_ARGS__})

static nq_settings *settings_read(nq *q, nq_settings *before)
{
    nq_settings *s = NULL;
    T_OK(nq_settings_read(&s, nq_store_of(q), before, &t_last));
    return s;
}

/* "name running rate/rate_us burst weight ordered dead_to paused;" of each row. */
static int settings_note(const nq_queue_row *row, void *udata)
{
    char *text = udata;
    const size_t n = strlen(text);
    snprintf(text + n, 1024 - n, "%s %lld %lld/%lld %u %u %d %s %d %s;", row->name,
             (long long)row->max_running, (long long)row->rate, (long long)row->rate_us, row->burst,
             row->weight, row->ordered, row->dead_to, row->paused, row->paused_why);
    ck_assert(row->changed_at_us > 0);
    return 0;
}

static const char *settings_text(nq *q, const char *queue)
{
    static char text[1024];
    text[0] = '\0';
    T_OK(nq_queue_get(q, queue, settings_note, text, &t_last));
    return text;
}

START_TEST(what_is_set_is_listed_and_replaced_and_taken_away)
{
    nq *q = t_open();
    ck_assert_str_eq(settings_text(q, NULL), "");
    T_OK(nq_queue_set(q, "mail", S_SET(.max_running = 5, .rate = 100, .rate_us = NQ_MINUTES(1), .burst = 7),
                      &t_last));
    T_OK(nq_queue_set(q, "mail", S_SET(.group = "*", .max_running = 1, .ordered = NQ_ORDERED_HALT), &t_last));
    T_OK(nq_queue_set(q, "mail", S_SET(.group = "42", .weight = 3), &t_last));
    T_OK(nq_queue_set(q, "mailer", S_SET(.max_running = 2), &t_last));
    ck_assert_str_eq(settings_text(q, "mail"), "mail 5 100/60000000 7 0 -1  0 ;"
                                               "mail//* 1 0/0 0 0 2  0 ;"
                                               "mail//42 0 0/0 0 3 -1  0 ;");
    T_OK(nq_queue_set(q, "mail", S_SET(.max_running = 6), &t_last));
    T_OK(nq_queue_set(q, "mail//42", NULL, &t_last));
    T_OK(nq_queue_set(q, "mailer", NULL, &t_last));
    T_OK(nq_queue_set(q, "never", NULL, &t_last));
    ck_assert_str_eq(settings_text(q, NULL), "mail 6 0/0 0 0 -1  0 ;mail//* 1 0/0 0 0 2  0 ;");
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_queues"), 2);
    nq_close(q);
}
END_TEST

/* "name left held halted;" of each row. */
static int settings_became(const nq_queue_row *row, void *udata)
{
    char *text = udata;
    const size_t n = strlen(text);
    snprintf(text + n, 4096 - n, "%s %lld %d %lld;", row->name, (long long)row->rate_left,
             row->held_until_us != 0, (long long)row->halted_by);
    return 0;
}

static const char *settings_state(nq *q, const char *queue)
{
    static char text[4096];
    text[0] = '\0';
    T_OK(nq_queue_get(q, queue, settings_became, text, &t_last));
    return text;
}

START_TEST(what_is_left_held_and_halted_is_listed)
{
    nq *q = t_open();
    const char *const at = T_SQLITE ? "1" : "'2001-01-01'";
    const char *const now = T_SQLITE ? "strftime('%s','now') * 1000000"
                                     : "TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6))";
    T_OK(nq_queue_set(q, "mail", S_SET(.rate = 60, .rate_us = NQ_HOURS(60), .burst = 9), &t_last));
    T_OK(nq_queue_set(q, "mail",
                      S_SET(.group = "*", .rate = 1, .rate_us = 1, .burst = 1, .ordered = NQ_ORDERED_HALT),
                      &t_last));
    T_OK(nq_queue_set(q, "other", S_SET(.max_running = 1), &t_last));
    ck_assert_str_eq(settings_state(q, NULL), "mail 9 0 0;mail//* -1 0 0;other -1 0 0;");
    t_sql("INSERT INTO nanoq_gates (queue, tat) VALUES ('mail', (%s - 9000000) * 1000)", now);
    ck_assert_str_eq(settings_state(q, "mail"), "mail 1 0 0;mail//* -1 0 0;");
    t_sql("UPDATE nanoq_gates SET tat = (%s + 9000000) * 1000", now);
    ck_assert_str_eq(settings_state(q, "mail"), "mail 0 0 0;mail//* -1 0 0;");
    /* Groups without a row, one that is halted and one that is held, and a queue that is no more held. */
    t_sql("INSERT INTO nanoq_finished (id, queue, state, priority, run_at, generation, attempts, crashes, "
          "max_retries, timeout_ms, created_at, finished_at, type, payload) VALUES (77, 'mail//7', 3, 0, %s, "
          "1, 2, "
          "0, 10, 60000, %s, %s, 'a', ''), (78, 'other//7', 3, 0, %s, 1, 2, 0, 10, 60000, %s, %s, 'a', '')",
          at, at, at, at, at, at);
    t_sql("INSERT INTO nanoq_gates (queue, head) VALUES ('mail//7', 77), ('mail//8', 78), ('other//7', 78)");
    t_sql("INSERT INTO nanoq_gates (queue, not_before) VALUES ('far', %s), ('other', %s)",
          T_SQLITE ? "9000000000000000" : "'2255-01-01'", T_SQLITE ? "1000000" : "'2001-01-01'");
    ck_assert_str_eq(settings_state(q, NULL),
                     "far -1 1 0;mail 0 0 0;mail//* -1 0 0;mail//7 1 0 77;other -1 0 0;");
    T_OK(nq_delete(q, 77, &t_last));
    ck_assert_str_eq(settings_state(q, "mail"), "mail 0 0 0;mail//* -1 0 0;");
    nq_close(q);
}
END_TEST

START_TEST(settings_do_not_change_a_pause)
{
    nq *q = t_open();
    t_sql("INSERT INTO nanoq_queues (name, paused_at, paused_why) VALUES ('mail', %s, 'deploy')",
          T_SQLITE ? "17" : "UTC_TIMESTAMP(6)");
    T_OK(nq_queue_set(q, "mail", S_SET(.max_running = 5), &t_last));
    ck_assert_str_eq(settings_text(q, "mail"), "mail 5 0/0 0 0 -1  1 deploy;");
    T_OK(nq_queue_set(q, "mail", NULL, &t_last));
    ck_assert_str_eq(settings_text(q, "mail"), "mail 0 0/0 0 0 -1  1 deploy;");
    nq_close(q);
}
END_TEST

START_TEST(bad_settings_are_refused)
{
    nq *q = t_open();
    static const nq_queue_settings bad[] = {
        {.size = sizeof bad[0], .max_running = -1},
        {.size = sizeof bad[0], .max_running = NQ_SECONDS(10000)},
        {.size = sizeof bad[0], .rate = 5},
        {.size = sizeof bad[0], .rate_us = 5},
        {.size = sizeof bad[0], .rate = -5, .rate_us = 5},
        {.size = sizeof bad[0], .rate = 5, .rate_us = NQ_MAX_DURATION + 1},
        {.size = sizeof bad[0], .burst = 5},
        {.size = sizeof bad[0], .rate = 1, .rate_us = 1, .burst = 1000001},
        {.size = sizeof bad[0], .weight = 1001},
        {.size = sizeof bad[0], .ordered = 3},
        {.size = sizeof bad[0], .ordered = -1},
        {.size = sizeof bad[0], .ordered = NQ_ORDERED_STRICT}, /* of no group */
        {.size = sizeof bad[0], .ordered = NQ_ORDERED_STRICT, .group = "*", .max_running = 2},
        {.size = sizeof bad[0], .group = ""},
        {.size = sizeof bad[0], .group = ":*"},
        {.size = sizeof bad[0], .group = ".a b"},
        {.size = sizeof bad[0], .group = "\x1b[0m"},
        {.size = 0},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        T_FAILS(nq_queue_set(q, "mail", &bad[i], &t_last), NQ_EINVAL);
    T_FAILS(nq_queue_set(q, "", NULL, &t_last), NQ_EINVAL);
    T_FAILS(nq_queue_set(q, NULL, NULL, &t_last), NQ_EINVAL);
    T_FAILS(nq_queue_set(q, "mail//1", S_SET(.group = "2"), &t_last), NQ_EINVAL);
    T_FAILS(nq_queue_set(q, "mail//", NULL, &t_last), NQ_EINVAL);
    T_FAILS(nq_queue_get(q, NULL, NULL, NULL, &t_last), NQ_EINVAL);
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_queues"), 0);
    nq_close(q);
}
END_TEST

START_TEST(what_holds_for_a_group_is_found)
{
    nq *q = t_open();
    nq_setting one;
    size_t n = 0;
    T_OK(nq_queue_set(q, "mail", S_SET(.max_running = 9), &t_last));
    T_OK(nq_queue_set(q, "mail", S_SET(.group = "*", .max_running = 1, .weight = 2), &t_last));
    T_OK(nq_queue_set(q, "mail", S_SET(.group = "42", .max_running = 3), &t_last));
    T_OK(nq_queue_set(q, "a//b", S_SET(.max_running = 4), &t_last));
    t_sql("INSERT INTO nanoq_queues (name, type, paused_at) VALUES ('mail//:pdf', 'pdf', %s)",
          T_SQLITE ? "17" : "UTC_TIMESTAMP(6)");
    nq_settings *s = settings_read(q, NULL);
    ck_assert_uint_eq(s->n, 5);
    ck_assert_int_eq(nq_settings_find(s, "mail")->max_running, 9);
    ck_assert_ptr_null(nq_settings_find(s, "mai"));
    ck_assert(!nq_settings_group(s, "mail", &one));
    ck_assert(!nq_settings_group(s, "other//1", &one));
    ck_assert(nq_settings_group(s, "mail//42", &one));
    ck_assert_int_eq(one.max_running, 3);
    ck_assert_int_eq(one.weight, 2);
    ck_assert(nq_settings_group(s, "mail//43", &one));
    ck_assert_int_eq(one.max_running, 1);
    ck_assert_ptr_nonnull(nq_settings_groups(s, "mail", &n));
    ck_assert_uint_eq(n, 3);
    ck_assert_ptr_null(nq_settings_groups(s, "mai", &n));
    ck_assert_str_eq(nq_settings_type(s, "mail", "pdf")->name, "mail//:pdf");
    ck_assert_ptr_null(nq_settings_type(s, "mail", "doc"));
    ck_assert_ptr_null(nq_settings_paused(s, "mail"));
    ck_assert_ptr_null(nq_settings_paused(s, "mail//42"));
    ck_assert_ptr_nonnull(nq_settings_paused(s, "mail//:pdf"));
    nq_settings_unref(s);
    t_sql("UPDATE nanoq_queues SET paused_at = %s WHERE name = 'mail'", T_SQLITE ? "17" : "UTC_TIMESTAMP(6)");
    s = settings_read(q, NULL);
    ck_assert_str_eq(nq_settings_paused(s, "mail")->name, "mail");
    ck_assert_str_eq(nq_settings_paused(s, "mail//42")->name, "mail");
    ck_assert_str_eq(nq_settings_paused(s, "mail//43")->name, "mail");
    ck_assert_ptr_null(nq_settings_paused(s, "mailer"));
    nq_settings_unref(s);
    nq_close(q);
}
END_TEST

START_TEST(the_hash_tells_what_workers_heed)
{
    nq *q = t_open();
    nq_settings *a = settings_read(q, NULL), *b;
    T_OK(nq_queue_set(q, "mail", S_SET(.max_running = 9), &t_last));
    b = settings_read(q, a);
    ck_assert(a->hash != b->hash && a->hash > 0 && b->hash > 0 && b->hash <= INT64_MAX);
    nq_settings_unref(a);
    a = settings_read(q, b);
    ck_assert(a->hash == b->hash);
    nq_settings_unref(a);
    nq_settings_unref(b);
    nq_close(q);
}
END_TEST

/* Values that no check would let pass. The good row among them is heeded. */
START_TEST(rows_that_no_nanoq_writes_are_ignored_or_bounded)
{
    nq *q = t_open();
    t_conn *c = t_connect();
    t_run(c, T_SQLITE       ? "PRAGMA ignore_check_constraints = 1"
             : t_is_mariadb ? "SET check_constraint_checks = 0, sql_mode = ''"
                            : "SET sql_mode = ''");
    t_run(c, "INSERT INTO nanoq_queues (name, max_running) VALUES ('good', 3)");
    static const char *const rows[] = {
        "('', 1, NULL, NULL, NULL, NULL, NULL, NULL)",
        "('a b', 1, NULL, NULL, NULL, NULL, NULL, NULL)",
        "('a//*b', 1, NULL, NULL, NULL, NULL, NULL, NULL)",
        "('*', 1, NULL, NULL, NULL, NULL, NULL, NULL)",
        "('zero', 0, 0, 0, 0, 0, 9, '')",
        "('minus', -1, -1, -1, -1, -1, -1, 'a b')",
        "('half', NULL, 5, NULL, NULL, NULL, NULL, NULL)",
        "('most', 4294967295, 4294967295, 9223372036854775807, 4294967295, 65535, 255, '*')",
    };
    int bad = 0;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        bad += t_try(c,
                     "INSERT INTO nanoq_queues (name, max_running, rate, rate_us, burst, weight, ordered, "
                     "dead_to) "
                     "VALUES %s",
                     rows[i]) != 0;
    if (T_SQLITE) {
        t_run(
            c,
            "INSERT INTO nanoq_queues (name, max_running, rate, rate_us, paused_at, type, paused_why) VALUES "
            "(x'ff00', 1, 1, 1, 1, 'x', 'y'), (17, 1, 1, 1, 1, 'x', 'y'), (x'6d61696c', 1, 1, 1, 1, 'x', "
            "'y'), "
            "('texts', 'many', 1.5, x'00', 'yes', x'610062', 1e9)");
        t_run(c, "INSERT INTO nanoq_queues (name, max_running) VALUES (printf('%%.100c', 'n'), 1)");
    }
    nq_settings *s = settings_read(q, NULL);
    ck_assert_int_eq(nq_settings_find(s, "good")->max_running, 3);
    ck_assert(bad < 8 || (!T_SQLITE && !t_is_mariadb));
    const nq_setting *zero = nq_settings_find(s, "zero"), *most = nq_settings_find(s, "most");
    if (zero) {
        ck_assert(!zero->paused && zero->max_running == 0 && zero->rate == 0 && zero->rate_us == 0);
        ck_assert(zero->burst == 0 && zero->weight == 0 && zero->ordered == -1 && !zero->dead_to[0]);
    }
    if (most) {
        ck_assert(most->max_running == INT32_MAX && most->rate == INT32_MAX);
        ck_assert(most->rate_us == NQ_MAX_DURATION && most->burst == 1000000 && most->weight == 1000);
        ck_assert(most->ordered == -1 && !most->dead_to[0]);
    }
    for (size_t i = 0; i < s->n; i++) {
        ck_assert(nq_setting_named(s->rows[i].name, strlen(s->rows[i].name)));
        ck_assert((s->rows[i].rate == 0) == (s->rows[i].rate_us == 0));
    }
    if (T_SQLITE || t_is_mariadb)
        ck_assert_uint_ge(s->ignored, 4);
    if (T_SQLITE) {
        const nq_setting *texts = nq_settings_find(s, "texts");
        ck_assert_ptr_null(nq_settings_find(s, "mail"));
        ck_assert(texts->paused && texts->max_running == 0 && !texts->type);
    }
    nq_settings_unref(s);
    t_disconnect(c);
    nq_close(q);
}
END_TEST

/* Beyond 500 rows a fingerprint says whether they must be read again: also when two rows change alike. */
START_TEST(many_rows_are_read_when_they_have_changed)
{
    nq *q = t_open();
    t_run(t_side(),
          T_SQLITE ? "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 800) "
                     "INSERT INTO nanoq_queues (name, weight) SELECT printf('mail//%%d', 1000 + i), 2 FROM n"
                   : "INSERT INTO nanoq_queues (name, weight) SELECT CONCAT('mail//', 1000 + i), 2 FROM "
                     "(WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 800) "
                     "SELECT i FROM n) n");
    nq_settings *a = settings_read(q, NULL), *b = settings_read(q, a), *c = settings_read(q, b);
    ck_assert_uint_eq(b->n, 800);
    if (!T_SQLITE)
        ck_assert_ptr_eq(b, c);
    ck_assert(b->hash == a->hash && c->hash == a->hash);
    t_sql("UPDATE nanoq_queues SET paused_at = %s WHERE name IN ('mail//1001', 'mail//1002')",
          T_SQLITE ? "17" : "UTC_TIMESTAMP(6)");
    nq_settings_unref(a);
    a = settings_read(q, c);
    ck_assert_ptr_ne(a, c);
    ck_assert_ptr_nonnull(nq_settings_paused(a, "mail//1002"));
    nq_settings_unref(a);
    nq_settings_unref(b);
    nq_settings_unref(c);
    nq_close(q);
}
END_TEST

Suite *suite_settings(void)
{
    Suite *s = suite_create("settings");
    TCase *c = t_case(s, "settings", 30);
    tcase_add_test(c, what_is_set_is_listed_and_replaced_and_taken_away);
    tcase_add_test(c, what_is_left_held_and_halted_is_listed);
    tcase_add_test(c, settings_do_not_change_a_pause);
    tcase_add_test(c, bad_settings_are_refused);
    tcase_add_test(c, what_holds_for_a_group_is_found);
    tcase_add_test(c, the_hash_tells_what_workers_heed);
    tcase_add_test(c, rows_that_no_nanoq_writes_are_ignored_or_bounded);
    tcase_add_test(c, many_rows_are_read_when_they_have_changed);
    return s;
}
