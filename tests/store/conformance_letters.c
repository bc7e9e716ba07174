/* SPDX-License-Identifier: MIT */
/* Dead letters: every way of dying leaves one copy, and nothing that is wrong with it keeps a task from
 * dying. */
#include "suites.h"

#define LETTERS_SET(...) (&(nq_queue_settings){.size = sizeof(nq_queue_settings), __VA_ARGS__})

/* "queue type payload headers;" of each letter. */
static char *letters_text(void)
{
    return t_text(t_side(),
                  T_SQLITE
                      ? "SELECT group_concat(queue || ' ' || type || ' ' || CAST(payload AS TEXT) || ' ' || "
                        "headers, ';') FROM (SELECT * FROM nanoq_tasks WHERE queue LIKE 'dead%%' ORDER BY id)"
                      : "SELECT GROUP_CONCAT(queue, ' ', type, ' ', payload, ' ', headers ORDER BY id "
                        "SEPARATOR ';') FROM nanoq_tasks WHERE queue LIKE 'dead%%'");
}

static void letters_are(const char *expected)
{
    char *text = letters_text();
    ck_assert_str_eq(text ? text : "", expected);
    free(text);
}

/* Claim the task of this queue and let it end. */
static void letters_end(nq *q, const char *queue, nq_outcome o)
{
    static uint64_t seq;
    size_t n = 0;
    nq_claimed *c = t_claim_queue(q, queue, NQ_LEASE(9, ++seq), 1, &n);
    ck_assert_uint_eq(n, 1);
    o.id = c->task.id;
    o.lease = c->lease;
    o.queue = seq % 2 ? c->task.queue : NULL;
    nq_outcome *list[] = {&o};
    T_OK(nq_store_finish(nq_store_of(q), list, 1, &t_last));
    ck_assert_int_eq(o.result, NQ_OK);
    ck_assert_int_eq(t_state(q, o.id), o.kind == NQ_OUT_CANCELLED ? NQ_STATE_CANCELLED : NQ_STATE_DEAD);
    t_free_claimed(c);
}

#define LETTERS_DEAD                                                                                         \
    (nq_outcome)                                                                                             \
    {                                                                                                        \
        .kind = NQ_OUT_DEAD, .error = "boom", .error_size = 4                                                \
    }

START_TEST(who_dies_leaves_a_copy)
{
    static const nq_header lang = {"lang", "de"};
    char expected[200];
    nq *q = t_open();
    T_OK(nq_queue_set(q, "mail", LETTERS_SET(.dead_to = "dead//mail"), &t_last));
    const nq_id id = T_ADD(q, .type = "t", .queue = "mail", NQ_BYTES("{}"), .headers = &lang, .nheaders = 1,
                           .expires_us = NQ_HOURS(1), .priority = 7, .max_retries = 3);
    letters_end(q, "mail", LETTERS_DEAD);
    snprintf(expected, sizeof expected, "dead//mail t {} nq-dead: %lld\nlang: de\n", (long long)id);
    letters_are(expected);
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_tasks WHERE unique_key IS NULL AND attempts = 0 AND "
                           "priority = 0 AND max_retries = 10 AND state = 0"),
                     1);
    size_t n = 0;
    nq_claimed *c = t_claim_queue(q, "dead", NQ_LEASE(1, 1), 2, &n);
    ck_assert_uint_eq(n, 1);
    ck_assert_int_eq(c->task.dead_id, id);
    ck_assert_uint_eq(c->task.nheaders, 1);
    ck_assert_int_eq(c->task.expires_at_us, 0);
    t_free_claimed(c);
    nq_close(q);
}
END_TEST

/* Where its type was set apart, the group that it had is a header, and the letter has none. */
START_TEST(a_letter_is_not_of_the_group_of_its_task)
{
    nq *q = t_open();
    t_task letter;
    T_OK(nq_queue_set(q, "mail", LETTERS_SET(.dead_to = "mail"), &t_last));
    const nq_id id = T_ADD(q, .type = "t", .queue = "mail", .group = "7");
    t_sql("UPDATE nanoq_tasks SET queue = 'mail//:t', headers = 'nq-group: 7\nlang: de\n'");
    T_OK(nq_bury_waiting(nq_store_of(q), id, "cannot be claimed", "why", &t_last));
    const nq_id copy = t_sql("SELECT id FROM nanoq_tasks WHERE queue = 'mail'");
    t_sql("UPDATE nanoq_tasks SET queue = 'mail//:t'"); /* as it is when it is set apart in turn */
    T_OK(t_get(q, copy, &letter));
    ck_assert_str_eq(letter.group, "");
    ck_assert_int_eq(letter.info.dead_id, id);
    t_task_free(&letter);
    nq_close(q);
}
END_TEST

START_TEST(each_way_of_dying_does)
{
    nq *q = t_open();
    T_OK(nq_queue_set(q, "mail", LETTERS_SET(.dead_to = "dead"), &t_last));
    T_ADD(q, .type = "crashed", .queue = "mail");
    letters_end(q, "mail", (nq_outcome){.kind = NQ_OUT_DEAD, .crashed = true});
    T_ADD(q, .type = "expired", .queue = "mail");
    letters_end(q, "mail", (nq_outcome){.kind = NQ_OUT_DEAD, .expired = true});
    const nq_id id = T_ADD(q, .type = "waiting", .queue = "mail");
    T_OK(nq_bury_waiting(nq_store_of(q), id, "cannot be claimed", "why", &t_last));
    T_ADD(q, .type = "cancelled", .queue = "mail");
    letters_end(q, "mail", (nq_outcome){.kind = NQ_OUT_CANCELLED});
    T_ADD(q, .type = "other", .queue = "other");
    letters_end(q, "other", LETTERS_DEAD);
    t_conn *c = t_side();
    char *types = t_text(c, "SELECT type FROM nanoq_tasks WHERE queue = 'dead' ORDER BY id");
    ck_assert_str_eq(types, "crashed\nexpired\nwaiting");
    free(types);
    nq_close(q);
}
END_TEST

START_TEST(a_retried_task_dies_again_and_a_letter_leaves_none)
{
    nq *q = t_open();
    T_OK(nq_queue_set(q, "mail", LETTERS_SET(.dead_to = "mail"), &t_last));
    const nq_id id = T_ADD(q, .type = "t", .queue = "mail");
    letters_end(q, "mail", LETTERS_DEAD);
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_tasks"), 1);
    letters_end(q, "mail", LETTERS_DEAD); /* the letter, in a circle */
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_tasks"), 0);
    T_OK(nq_retry(q, id, &t_last));
    letters_end(q, "mail", LETTERS_DEAD);
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_tasks"), 1);
    nq_close(q);
}
END_TEST

START_TEST(a_group_may_have_its_own)
{
    nq *q = t_open();
    T_OK(nq_queue_set(q, "mail", LETTERS_SET(.dead_to = "dead"), &t_last));
    T_OK(nq_queue_set(q, "mail", LETTERS_SET(.group = "*", .dead_to = "dead-groups"), &t_last));
    T_OK(nq_queue_set(q, "mail", LETTERS_SET(.group = "42", .dead_to = "dead-42"), &t_last));
    T_OK(nq_queue_set(q, "mail", LETTERS_SET(.group = "43", .weight = 2), &t_last));
    static const char *const groups[] = {NULL, "41", "42", "43"};
    static const char *const to[] = {"dead", "dead-groups", "dead-42", "dead-groups"};
    for (int i = 0; i < 4; i++) {
        T_ADD(q, .type = "t", .queue = "mail", .group = groups[i]);
        letters_end(q, "mail", LETTERS_DEAD);
        ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_tasks WHERE queue = '%s'", to[i]), 1);
        t_sql("DELETE FROM nanoq_tasks");
    }
    nq_close(q);
}
END_TEST

START_TEST(names_that_are_none_are_refused_or_ignored)
{
    nq *q = t_open();
    static const char *const bad[] = {
        "", "a b", "mail//*", "\x1b[0m",
        "0123456789012345678901234567890123456789012345678901234567890123456789"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        T_FAILS(nq_queue_set(q, "mail", LETTERS_SET(.dead_to = bad[i]), &t_last), NQ_EINVAL);
    t_conn *c = t_connect();
    t_run(c, T_SQLITE       ? "PRAGMA ignore_check_constraints = 1"
             : t_is_mariadb ? "SET check_constraint_checks = 0"
                            : "SELECT 1");
    if (t_try(c, "INSERT INTO nanoq_queues (name, dead_to) VALUES ('mail', 'a b')") == 0) {
        nq_settings *s = NULL;
        T_OK(nq_settings_read(&s, nq_store_of(q), NULL, &t_last));
        ck_assert_uint_eq(s->misled, 1);
        nq_settings_unref(s);
    }
    T_ADD(q, .type = "t", .queue = "mail");
    letters_end(q, "mail", LETTERS_DEAD);
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_tasks"), 0);
    t_disconnect(c);
    nq_close(q);
}
END_TEST

/* Headers that no nanoq writes: as many lines as there is room for, none of another letter. */
START_TEST(hostile_headers_are_copied_as_far_as_they_fit)
{
    nq *q = t_open();
    T_OK(nq_queue_set(q, "mail", LETTERS_SET(.dead_to = "dead"), &t_last));
    t_sql("INSERT INTO nanoq_tasks (queue, type, headers) VALUES ('mail', 'a', %s)",
          T_SQLITE ? "'a: b' || char(10) || 'nq-dead: zzz'" : "CONCAT('a: b', CHAR(10), 'nq-dead: zzz')");
    letters_end(q, "mail", LETTERS_DEAD);
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_tasks"), 0);
    t_sql("INSERT INTO nanoq_tasks (queue, type, headers) VALUES ('mail', 'b', %s)",
          T_SQLITE ? "x'613a20620a' || replace(hex(zeroblob(2045)), '00', 'xx')"
                   : "CONCAT('a: b', CHAR(10), REPEAT('x', 4090))");
    letters_end(q, "mail", LETTERS_DEAD);
    char *text = letters_text();
    ck_assert_msg(text && strstr(text, "\na: b\n") && strlen(text) < 60, "%s", text ? text : "none");
    free(text);
    t_sql("DELETE FROM nanoq_tasks");
    t_sql("INSERT INTO nanoq_tasks (queue, type, headers) VALUES ('mail', 'c', %s)",
          T_SQLITE ? "x'ff00fe'" : "_binary X'ff00fe'");
    letters_end(q, "mail", LETTERS_DEAD);
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_tasks WHERE queue = 'dead'"), 1);
    nq_close(q);
}
END_TEST

/* What the database refuses is told to the log; the task is dead all the same. */
static int letters_warned;

static void letters_log(enum nq_log_level level, const char *message, void *udata)
{
    (void)udata;
    if (level == NQ_LOG_WARN && strstr(message, "no copy of it goes to queue 'dead'"))
        letters_warned++;
}

START_TEST(a_letter_that_is_refused_keeps_nobody_from_dying)
{
    const nq_options with_log = {.size = sizeof with_log, .log = letters_log};
    nq *q = NULL;
    T_OK(nq_open(&q, t_url, &with_log, &t_last));
    T_OK(nq_queue_set(q, "mail", LETTERS_SET(.dead_to = "dead"), &t_last));
    T_ADD(q, .type = "t", .queue = "mail");
    if (T_SQLITE)
        t_sql("CREATE TRIGGER refuse BEFORE INSERT ON nanoq_tasks WHEN NEW.queue = 'dead' BEGIN SELECT "
              "RAISE(ABORT, 'no'); END");
    else
        t_sql("ALTER TABLE nanoq_tasks ADD CONSTRAINT refuse CHECK (queue <> 'dead')");
    letters_end(q, "mail", LETTERS_DEAD);
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_tasks"), 0);
    ck_assert_int_eq(letters_warned, 1);
    nq_close(q);
}
END_TEST

Suite *suite_letters(void)
{
    Suite *s = suite_create("letters");
    TCase *c = t_case(s, "letters", 30);
    tcase_add_test(c, who_dies_leaves_a_copy);
    tcase_add_test(c, a_letter_is_not_of_the_group_of_its_task);
    tcase_add_test(c, each_way_of_dying_does);
    tcase_add_test(c, a_retried_task_dies_again_and_a_letter_leaves_none);
    tcase_add_test(c, a_group_may_have_its_own);
    tcase_add_test(c, names_that_are_none_are_refused_or_ignored);
    tcase_add_test(c, hostile_headers_are_copied_as_far_as_they_fit);
    tcase_add_test(c, a_letter_that_is_refused_keeps_nobody_from_dying);
    return s;
}
