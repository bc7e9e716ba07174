/* SPDX-License-Identifier: MIT */
/* Why a task does not run: each reason, with no worker running at all; the rows are written by plain SQL. */
#include "suites.h"

/* The database's time and so many seconds, for SQL. */
static const char *why_at(int seconds)
{
    static char text[4][160];
    static unsigned at;
    char *out = text[at++ % 4];
    if (T_SQLITE)
        snprintf(out, sizeof text[0], "((CAST(strftime('%%s','now') AS INTEGER) + (%d)) * 1000000)", seconds);
    else
        snprintf(out, sizeof text[0], "(UTC_TIMESTAMP(6) + INTERVAL (%d) SECOND)", seconds);
    return out;
}

/* "reason name n/most note;" of each. */
static int why_note(const nq_reason *r, void *udata)
{
    char *text = udata;
    const size_t n = strlen(text);
    ck_assert(r->detail[0] != '\0');
    snprintf(text + n, 4096 - n, "%s %s %lld/%lld %s;", r->reason, r->name, (long long)r->n,
             (long long)r->most, r->note);
    return 0;
}

static const char *why_text(nq *q, nq_id id)
{
    static char text[4096];
    text[0] = '\0';
    T_OK(nq_why(q, id, why_note, text, &t_last));
    return text;
}

/* The sentence of the first reason. */
static int why_first(const nq_reason *r, void *udata)
{
    snprintf(udata, 3000, "%s: %s", r->reason, r->detail);
    return 1;
}

static const char *why_detail(nq *q, nq_id id)
{
    static char text[3000];
    T_OK(nq_why(q, id, why_first, text, &t_last));
    return text;
}

/* A worker by its row alone. */
static void why_worker(int id, const char *queues, const char *types, int beat_at)
{
    t_sql("INSERT INTO nanoq_workers (id, name, beat, started_at, beat_at, queues, types, concurrency, "
          "running, "
          "version) VALUES (%d, 'host:%d', 1, %s, %s, %s, %s, 4, 1, '1')",
          id, id, why_at(-60), why_at(beat_at), queues, types);
}

static void why_runs(nq_id id, int worker)
{
    t_sql("UPDATE nanoq_tasks SET state = 1, lease = %lld, claimed_at = %s, attempts = 2 WHERE id = %lld",
          (long long)NQ_LEASE(worker, 1), why_at(-5), (long long)id);
}

START_TEST(nobody_is_there)
{
    nq *q = t_open();
    const nq_id id = T_ADD(q, .type = "a", .queue = "mail");
    ck_assert_str_eq(why_text(q, id), "no-worker  0/0 ;in-line mail 0/0 ;");
    why_worker(3, "'mail'", "NULL", -3600);
    ck_assert_str_eq(why_text(q, id), "no-worker  1/0 ;in-line mail 0/0 ;");
    ck_assert_ptr_nonnull(strstr(why_detail(q, id), "no worker runs: 1 silent, last heard of at 20"));
    nq_close(q);
}
END_TEST

START_TEST(others_are_there)
{
    nq *q = t_open();
    const nq_id id = T_ADD(q, .type = "a", .queue = "mail", .group = "7");
    why_worker(1, "'e-mail,mailer'", "NULL", -1);
    ck_assert_str_eq(why_text(q, id), "not-served mail 1/0 ;in-line mail//7 0/0 ;");
    why_worker(2, "'x,mail'", "'b\na2'", -1);
    ck_assert_str_eq(why_text(q, id), "no-handler a 1/0 ;in-line mail//7 0/0 ;");
    why_worker(3, "'mail//7'", "'b\na'", -1);
    ck_assert_str_eq(why_text(q, id), "in-line mail//7 0/3 ;");
    why_worker(4, "'mail'", "NULL", -1);
    ck_assert_str_eq(why_text(q, id), "in-line mail//7 0/6 ;");
    why_worker(5, "NULL", "NULL", -1); /* of an old version, which says nothing: perhaps it does */
    t_sql("DELETE FROM nanoq_workers WHERE id IN (2, 3, 4)");
    ck_assert_str_eq(why_text(q, id), "in-line mail//7 0/3 ;");
    nq_close(q);
}
END_TEST

START_TEST(others_are_before_it)
{
    nq *q = t_open();
    why_worker(1, "'default'", "NULL", -1);
    T_ADD(q, .type = "a", NQ_BYTES("1"));
    const nq_id id = T_ADD(q, .type = "a", NQ_BYTES("2"));
    T_ADD(q, .type = "a", NQ_BYTES("3"));
    T_ADD(q, .type = "a", NQ_BYTES("4"), .priority = -5);
    T_ADD(q, .type = "a", NQ_BYTES("5"), .priority = -5, .delay_us = NQ_MINUTES(5));
    T_ADD(q, .type = "a", NQ_BYTES("6"), .priority = 5);
    T_ADD(q, .type = "a", NQ_BYTES("7"), .queue = "other", .priority = -5);
    ck_assert_str_eq(why_text(q, id), "in-line default 2/3 ;");
    t_sql("UPDATE nanoq_tasks SET run_at = %s", why_at(-10));
    ck_assert_str_eq(why_text(q, id), "in-line default 3/3 ;");
    nq_close(q);
}
END_TEST

START_TEST(it_runs)
{
    nq *q = t_open();
    const nq_id id = T_ADD(q, .type = "a", NQ_BYTES("1"));
    why_worker(7, "'default'", "NULL", -1);
    why_runs(id, 7);
    ck_assert_str_eq(why_text(q, id), "running host:7 3/11 ;");
    ck_assert_ptr_nonnull(strstr(why_detail(q, id), "running: on host:7 since 20"));
    t_sql("INSERT INTO nanoq_cancels (task_id, lease) VALUES (%lld, 5), (%lld, %lld)", (long long)id,
          (long long)id, (long long)NQ_LEASE(7, 1));
    ck_assert_str_eq(why_text(q, id), "running host:7 3/11 ;cancelling  0/0 ;");
    t_conn *c = t_connect();
    t_begin(c);
    T_ANSWERS(nq_enqueue(q, t_tx(c), NQ_TASK(.type = "a", NQ_BYTES("1")), NULL, &t_last), NQ_DUPLICATE);
    t_run(c, "COMMIT");
    t_disconnect(c);
    ck_assert_str_eq(why_text(q, id), "running host:7 3/11 ;cancelling  0/0 ;followed  1/0 ;");
    nq_close(q);
}
END_TEST

START_TEST(its_worker_is_gone)
{
    nq *q = t_open();
    const nq_id id = T_ADD(q, .type = "a");
    why_worker(7, "'default'", "NULL", -60);
    why_runs(id, 7);
    ck_assert_str_eq(why_text(q, id), "orphaned host:7 0/0 ;");
    t_sql("DELETE FROM nanoq_workers");
    ck_assert_str_eq(why_text(q, id), "orphaned  7/0 ;");
    ck_assert_ptr_nonnull(strstr(why_detail(q, id), "number 7, is gone"));
    nq_close(q);
}
END_TEST

START_TEST(its_time_has_not_come)
{
    nq *q = t_open();
    const nq_id later = T_ADD(q, .type = "a", .delay_us = NQ_MINUTES(5));
    const nq_id again = T_ADD(q, .type = "b", .max_retries = 4);
    why_worker(1, "'default'", "NULL", -1);
    t_sql("UPDATE nanoq_tasks SET run_at = %s, attempts = 2, error = 'no route' WHERE id = %lld", why_at(600),
          (long long)again);
    ck_assert_str_eq(why_text(q, later), "later  0/10 ;");
    ck_assert_str_eq(why_text(q, again), "retry  2/4 no route;");
    ck_assert_ptr_nonnull(strstr(why_detail(q, again), ", after 2 failed attempts: no route"));
    nq_close(q);
}
END_TEST

START_TEST(it_has_expired)
{
    nq *q = t_open();
    const nq_id id = T_ADD(q, .type = "a", .expires_us = NQ_MINUTES(5));
    why_worker(1, "'default'", "NULL", -1);
    ck_assert_str_eq(why_text(q, id), "in-line default 0/3 ;");
    t_sql("UPDATE nanoq_tasks SET headers = 'x-nq-expires: 5\nnq-expires: 1000000\nlang: de'");
    ck_assert_str_eq(why_text(q, id), "expired  0/0 ;in-line default 0/3 ;");
    ck_assert_ptr_nonnull(strstr(why_detail(q, id), "expired: at 1970-01-01T00:00:01"));
    nq_close(q);
}
END_TEST

START_TEST(it_is_paused)
{
    nq *q = t_open();
    const nq_id one = T_ADD(q, .type = "a", .queue = "mail", .group = "7");
    const nq_id two = T_ADD(q, .type = "a", .queue = "mail", NQ_BYTES("2"));
    why_worker(1, "'mail'", "NULL", -1);
    T_OK(nq_pause(q, "mail", &(nq_pause_options){.size = sizeof(nq_pause_options), .group = "*"}, &t_last));
    ck_assert_str_eq(why_text(q, one), "paused mail//* 0/0 ;in-line mail//7 0/3 ;");
    ck_assert_str_eq(why_text(q, two), "in-line mail 0/3 ;");
    T_OK(nq_pause(q, "mail//7", NULL, &t_last));
    T_OK(nq_resume(q, "mail", &(nq_pause_options){.size = sizeof(nq_pause_options), .group = "*"}, &t_last));
    ck_assert_str_eq(why_text(q, one), "paused mail//7 0/0 ;in-line mail//7 0/3 ;");
    T_OK(nq_resume(q, "mail//7", NULL, &t_last));
    T_OK(
        nq_pause(q, "mail", &(nq_pause_options){.size = sizeof(nq_pause_options), .why = "deploy"}, &t_last));
    ck_assert_str_eq(why_text(q, one), "paused mail 0/0 deploy;in-line mail//7 0/3 ;");
    ck_assert_str_eq(why_text(q, two), "paused mail 0/0 deploy;in-line mail 0/3 ;");
    ck_assert_ptr_nonnull(strstr(why_detail(q, two), "paused: mail since 20"));
    nq_close(q);
}
END_TEST

START_TEST(as_many_run_as_may)
{
    nq *q = t_open();
    const nq_id one = T_ADD(q, .type = "a", .queue = "mail", .group = "7", NQ_BYTES("1"));
    const nq_id two = T_ADD(q, .type = "a", .queue = "mail", .group = "7", NQ_BYTES("2"));
    const nq_id three = T_ADD(q, .type = "a", .queue = "mail", NQ_BYTES("3"));
    T_ADD(q, .type = "a", .queue = "mailer", NQ_BYTES("4"));
    char expected[100];
    why_worker(1, "'mail'", "NULL", -1);
    t_sql("INSERT INTO nanoq_queues (name, max_running) VALUES ('mail', 2), ('mail//*', 1)");
    ck_assert_str_eq(why_text(q, two), "in-line mail//7 1/3 ;");
    why_runs(one, 1);
    snprintf(expected, sizeof expected, "limited mail//7 1/1 %lld;in-line mail//7 0/3 ;", (long long)one);
    ck_assert_str_eq(why_text(q, two), expected);
    ck_assert_ptr_nonnull(strstr(why_detail(q, two), "limited: 1 of at most 1 run in mail//7: tasks "));
    ck_assert_str_eq(why_text(q, three), "in-line mail 0/3 ;");
    t_sql("INSERT INTO nanoq_queues (name, max_running) VALUES ('mail//7', 2)");
    ck_assert_str_eq(why_text(q, two), "in-line mail//7 0/3 ;");
    t_sql("UPDATE nanoq_queues SET max_running = 1 WHERE name = 'mail'");
    snprintf(expected, sizeof expected, "limited mail 1/1 %lld;in-line mail 0/3 ;", (long long)one);
    ck_assert_str_eq(why_text(q, three), expected);
    nq_close(q);
}
END_TEST

START_TEST(a_handler_holds_it)
{
    nq *q = t_open();
    const nq_id one = T_ADD(q, .type = "a", .queue = "mail", .group = "7", NQ_BYTES("1"));
    const nq_id two = T_ADD(q, .type = "a", .queue = "mail", NQ_BYTES("2"));
    why_worker(1, "'mail'", "NULL", -1);
    t_sql("INSERT INTO nanoq_gates (queue, not_before) VALUES ('mail//7', %s), ('mail', %s)", why_at(60),
          why_at(-60));
    ck_assert_str_eq(why_text(q, one), "held mail//7 0/0 ;in-line mail//7 0/3 ;");
    ck_assert_ptr_nonnull(
        strstr(why_detail(q, one), "held: a handler has mail//7 held: nothing of it starts until 20"));
    ck_assert_str_eq(why_text(q, two), "in-line mail 0/3 ;");
    t_sql("UPDATE nanoq_gates SET not_before = %s WHERE queue = 'mail'", why_at(60));
    t_sql("DELETE FROM nanoq_gates WHERE queue <> 'mail'");
    ck_assert_str_eq(why_text(q, one), "held mail 0/0 ;in-line mail//7 0/3 ;");
    nq_close(q);
}
END_TEST

START_TEST(a_rate_is_spent)
{
    nq *q = t_open();
    const nq_id one = T_ADD(q, .type = "a", .queue = "mail", .group = "7", NQ_BYTES("1"));
    const nq_id two = T_ADD(q, .type = "a", .queue = "mail", NQ_BYTES("2"));
    const char *const now = T_SQLITE ? "strftime('%s','now') * 1000000"
                                     : "TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6))";
    why_worker(1, "'mail'", "NULL", -1);
    t_sql("INSERT INTO nanoq_queues (name, rate, rate_us) VALUES ('mail', 1, 60000000), ('mail//*', 2, "
          "90000000)");
    t_sql("INSERT INTO nanoq_gates (queue, tat) VALUES ('mail', 0), ('mail//7', 0)");
    ck_assert_str_eq(why_text(q, one), "in-line mail//7 0/3 ;");
    t_sql("UPDATE nanoq_gates SET tat = (%s + 30000000) * 1000", now);
    ck_assert_str_eq(why_text(q, one),
                     "rate mail//7 2/90000000 ;rate mail 1/60000000 ;in-line mail//7 0/3 ;");
    ck_assert_ptr_nonnull(
        strstr(why_detail(q, two), "rate: 1 of mail may start in 60 s, and the next one may at 20"));
    ck_assert_str_eq(why_text(q, two), "rate mail 1/60000000 ;in-line mail 0/3 ;");
    t_sql("INSERT INTO nanoq_queues (name, rate, rate_us) VALUES ('mail//7', 3, 90000000)");
    ck_assert_str_eq(why_text(q, one),
                     "rate mail//7 3/90000000 ;rate mail 1/60000000 ;in-line mail//7 0/3 ;");
    /* one that no claim leaves there */
    t_sql("UPDATE nanoq_gates SET tat = (%s + 7000000000) * 1000", now);
    ck_assert_str_eq(why_text(q, one), "in-line mail//7 0/3 ;");
    nq_close(q);
}
END_TEST

START_TEST(another_of_its_group_is_before_it)
{
    nq *q = t_open();
    const nq_id one = T_ADD(q, .type = "a", .queue = "mail", .group = "7", NQ_BYTES("1"));
    const nq_id two = T_ADD(q, .type = "a", .queue = "mail", .group = "7", NQ_BYTES("2"));
    char expected[200];
    why_worker(1, "'mail'", "NULL", -1);
    t_sql("INSERT INTO nanoq_queues (name, ordered) VALUES ('mail//*', 1)");
    t_sql("INSERT INTO nanoq_gates (queue, head) VALUES ('mail//7', %lld)", (long long)one);
    ck_assert_str_eq(why_text(q, one), "in-line mail//7 0/3 ;");
    snprintf(expected, sizeof expected, "order mail//7 %lld/0 waiting;in-line mail//7 1/3 ;", (long long)one);
    ck_assert_str_eq(why_text(q, two), expected);
    ck_assert_ptr_nonnull(strstr(why_detail(q, two), "has begun before it and is due again at 20"));
    why_runs(one, 1);
    snprintf(expected, sizeof expected, "order mail//7 %lld/0 running;in-line mail//7 0/3 ;", (long long)one);
    ck_assert_str_eq(why_text(q, two), expected);
    ck_assert_ptr_nonnull(strstr(why_detail(q, two), "has begun before it and runs"));
    /* its group's own row says no; then the task dies, which is of no matter unless it halts the group */
    t_sql("INSERT INTO nanoq_queues (name, ordered) VALUES ('mail//7', 0)");
    ck_assert_str_eq(why_text(q, two), "in-line mail//7 0/3 ;");
    t_sql("UPDATE nanoq_queues SET ordered = 1");
    nq_outcome dead = {
        .id = one, .lease = NQ_LEASE(1, 1), .kind = NQ_OUT_DEAD, .error = "boom", .error_size = 4};
    nq_outcome *const list[] = {&dead};
    T_OK(nq_store_finish(nq_store_of(q), list, 1, &t_last));
    ck_assert_str_eq(why_text(q, two), "in-line mail//7 0/3 ;");
    t_sql("UPDATE nanoq_queues SET ordered = 2");
    snprintf(expected, sizeof expected, "halted mail//7 %lld/0 boom;in-line mail//7 0/3 ;", (long long)one);
    ck_assert_str_eq(why_text(q, two), expected);
    snprintf(expected, sizeof expected, "halted: task %lld of mail//7 died at 20", (long long)one);
    ck_assert_ptr_nonnull(strstr(why_detail(q, two), expected));
    nq_close(q);
}
END_TEST

START_TEST(it_has_ended)
{
    nq *q = t_open();
    static const char *const reasons[] = {"done", "dead", "cancelled"};
    char expected[64];
    for (int state = NQ_STATE_DONE; state <= NQ_STATE_CANCELLED; state++) {
        t_sql(
            "INSERT INTO nanoq_finished (id, queue, state, priority, run_at, generation, attempts, crashes, "
            "max_retries, timeout_ms, created_at, finished_at, type, payload, error) VALUES (%d, 'mail', %d, "
            "0, "
            "%s, 1, 2, 0, 10, 60000, %s, %s, 'a', '', 'boom')",
            state, state, why_at(-9), why_at(-9), why_at(-1));
        snprintf(expected, sizeof expected, "%s  2/11 boom;", reasons[state - NQ_STATE_DONE]);
        ck_assert_str_eq(why_text(q, state), expected);
    }
    T_FAILS(nq_why(q, 77, why_note, NULL, &t_last), NQ_ENOTFOUND);
    T_FAILS(nq_why(q, 0, why_note, NULL, &t_last), NQ_ENOTFOUND);
    T_FAILS(nq_why(q, -1, why_note, NULL, &t_last), NQ_ENOTFOUND);
    T_FAILS(nq_why(q, 2, NULL, NULL, &t_last), NQ_EINVAL);
    nq_close(q);
}
END_TEST

/* What is no text, and what is very long. */
START_TEST(bytes_of_others_are_shown_as_words)
{
    nq *q = t_open();
    const nq_id id = T_ADD(q, .type = "a", .max_retries = 4);
    t_sql("UPDATE nanoq_tasks SET run_at = %s, attempts = 1, error = %s", why_at(600),
          T_SQLITE ? "x'ff00c3a4'" : "_binary X'ff00c3a4'");
    ck_assert(strncmp(why_text(q, id), "retry  1/4 ", 11) == 0);
    t_sql("UPDATE nanoq_tasks SET error = %s",
          T_SQLITE ? "replace(hex(zeroblob(2000)), '00', char(228))" : "REPEAT('\xc3\xa4', 2000)");
    const char *text = why_text(q, id);
    ck_assert_uint_eq(strspn(text + 11, "\xc3\xa4"), 600);
    if (T_SQLITE) {
        t_sql("UPDATE nanoq_tasks SET headers = x'0a6e712d657870697265733aff', run_at = 10000000000000, "
              "error = 17");
        ck_assert_ptr_nonnull(strstr(why_text(q, id), "in-line"));
    }
    nq_close(q);
}
END_TEST

/* The statement as it is printed, by another connection. */
START_TEST(anybody_can_run_the_statement)
{
    nq *q = t_open();
    const nq_id id = T_ADD(q, .type = "a");
    char *sql = NULL;
    T_OK(nq_why_sql(&sql, t_url, id, &t_last));
    const char *end = strstr(sql, ";\n");
    ck_assert(end && end[2] == '\0');
    char *text = t_text(t_side(), "%.*s", (int)(end - sql), sql);
    ck_assert_msg(strncmp(text, "no-worker|", 10) == 0 && strstr(text, "\nin-line|default|0|0|20"), "%s",
                  text);
    free(text);
    nq_free(sql);
    T_OK(nq_why_sql(&sql, t_url, 9, &t_last));
    text = t_text(t_side(), "%.*s", (int)(strstr(sql, ";\n") - sql), sql);
    ck_assert_msg(strncmp(text, "not-here|", 9) == 0, "%s", text);
    free(text);
    nq_free(sql);
    T_FAILS(nq_why_sql(NULL, t_url, id, &t_last), NQ_EINVAL);
    T_FAILS(nq_why_sql(&sql, "nosuch:x", id, &t_last), NQ_EURL);
    nq_close(q);
}
END_TEST

Suite *suite_why(void)
{
    Suite *s = suite_create("why");
    TCase *c = t_case(s, "why", 30);
    tcase_add_test(c, nobody_is_there);
    tcase_add_test(c, others_are_there);
    tcase_add_test(c, others_are_before_it);
    tcase_add_test(c, it_runs);
    tcase_add_test(c, its_worker_is_gone);
    tcase_add_test(c, its_time_has_not_come);
    tcase_add_test(c, it_has_expired);
    tcase_add_test(c, it_is_paused);
    tcase_add_test(c, as_many_run_as_may);
    tcase_add_test(c, a_handler_holds_it);
    tcase_add_test(c, a_rate_is_spent);
    tcase_add_test(c, another_of_its_group_is_before_it);
    tcase_add_test(c, it_has_ended);
    tcase_add_test(c, bytes_of_others_are_shown_as_words);
    tcase_add_test(c, anybody_can_run_the_statement);
    return s;
}
