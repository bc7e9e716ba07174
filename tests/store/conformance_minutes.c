/* SPDX-License-Identifier: MIT */
/* What workers did, by minute: added, merged once, forgotten, summed. */
#include "suites.h"

static nq_minute minutes_one(const char *queue, const char *type, unsigned done, int64_t run_us)
{
    nq_minute m = {0};
    snprintf(m.queue, sizeof m.queue, "%s", queue);
    snprintf(m.type, sizeof m.type, "%s", type);
    m.counts.done = done;
    m.counts.dead = 1;
    for (unsigned i = 0; i < done; i++) {
        m.counts.run[nq_log2_bucket(run_us)]++;
        m.counts.wait[nq_log2_bucket(3)]++;
        m.counts.run_us += (uint64_t)run_us;
        m.counts.wait_us += 3;
    }
    return m;
}

static void minutes_add(nq *q, uint64_t worker, const nq_minute *a, const nq_minute *b)
{
    const nq_minute *rows[] = {a, b};
    int64_t now = 0;
    T_OK(nq_store_minutes_add(nq_store_of(q), worker, rows, b ? 2 : 1, &now, &t_last));
    ck_assert_int_gt(now, NQ_DAYS(365));
}

/* "queue type done/dead n p50 p95;" of each. */
static int minutes_span(const nq_figures *f, void *udata)
{
    *(nq_figures *)udata = *f;
    return 0;
}

static int minutes_note(const nq_figures *f, void *udata)
{
    char *text = udata;
    const size_t n = strlen(text);
    snprintf(text + n, 2000 - n, "%s %s %d/%d %d;", f->queue, f->type, (int)f->done, (int)f->dead,
             (int)f->run.n);
    return 0;
}

static const char *minutes_text(nq *q, int by)
{
    static char text[2000];
    text[0] = '\0';
    T_OK(nq_minutes(
        q, &(nq_minutes_options){.size = sizeof(nq_minutes_options), .since_us = NQ_DAYS(365), .by = by},
        minutes_note, text, &t_last));
    return text;
}

START_TEST(a_bucket_is_a_power_of_two)
{
    ck_assert_uint_eq(nq_log2_bucket(-5), 0);
    ck_assert_uint_eq(nq_log2_bucket(0), 0);
    ck_assert_uint_eq(nq_log2_bucket(1), 0);
    ck_assert_uint_eq(nq_log2_bucket(2), 1);
    ck_assert_uint_eq(nq_log2_bucket(1023), 9);
    ck_assert_uint_eq(nq_log2_bucket(1024), 10);
    ck_assert_uint_eq(nq_log2_bucket(INT64_MAX), NQ_BUCKETS - 1);
}
END_TEST

static int minutes_copy(const nq_figures *f, void *udata)
{
    *(nq_figures *)udata = *f;
    return 0;
}

START_TEST(rows_add_up)
{
    nq *q = t_open();
    const nq_minute a = minutes_one("mail", "a", 3, 1000), b = minutes_one("mail", "b", 1, 5000),
                    c = minutes_one("web", "a", 2, 7);
    ck_assert_str_eq(minutes_text(q, NQ_BY_BOTH), "");
    ck_assert_str_eq(minutes_text(q, NQ_BY_NONE), "");
    minutes_add(q, 1, &a, &b);
    minutes_add(q, 1, &a, NULL);
    minutes_add(q, 2, &a, &c);
    ck_assert_str_eq(minutes_text(q, NQ_BY_BOTH), "mail a 9/3 9;mail b 1/1 1;web a 2/1 2;");
    ck_assert_str_eq(minutes_text(q, NQ_BY_QUEUE), "mail  10/4 10;web  2/1 2;");
    ck_assert_str_eq(minutes_text(q, NQ_BY_TYPE), " a 11/4 11; b 1/1 1;");
    ck_assert_str_eq(minutes_text(q, NQ_BY_NONE), "  12/5 12;");
    nq_figures f = {0};
    T_OK(nq_minutes(q, &(nq_minutes_options){.size = sizeof(nq_minutes_options), .by = NQ_BY_QUEUE},
                    minutes_copy, &f, &t_last)); /* the last hour; web comes last */
    ck_assert_int_ge(f.run.p50_us, 4);
    ck_assert_int_le(f.run.p99_us, 8);
    ck_assert_int_eq(f.run.mean_us, 7);
    ck_assert_int_eq(f.wait.mean_us, 3);
    /* So long before now, by the database's clock: a host whose own one is wrong sees the same. */
    nq_figures ago = {0};
    T_OK(nq_minutes(
        q,
        &(nq_minutes_options){.size = sizeof(nq_minutes_options), .since_us = -NQ_HOURS(1), .by = NQ_BY_NONE},
        minutes_span, &ago, &t_last));
    ck_assert_int_ge(ago.until_us - ago.since_us, NQ_HOURS(1));
    ck_assert_int_le(ago.until_us - ago.since_us, NQ_HOURS(1) + NQ_MINUTES(1));
    T_FAILS(nq_minutes(q, NULL, NULL, NULL, &t_last), NQ_EINVAL);
    T_FAILS(nq_minutes(q, &(nq_minutes_options){.size = sizeof(nq_minutes_options), .by = 9}, minutes_note,
                       NULL, &t_last),
            NQ_EINVAL);
    T_FAILS(
        nq_minutes(q, &(nq_minutes_options){.size = sizeof(nq_minutes_options), .since_us = 5, .until_us = 5},
                   minutes_note, NULL, &t_last),
        NQ_EINVAL);
    nq_close(q);
}
END_TEST

/* Put all rows of minutes so many hours back, each to the full minute. */
static void minutes_back(int hours)
{
    if (T_SQLITE)
        t_sql("UPDATE nanoq_minutes SET at = at - %lld WHERE worker > 0", (long long)NQ_HOURS(hours));
    else
        t_sql("UPDATE nanoq_minutes SET at = at - INTERVAL %d HOUR WHERE worker > 0", hours);
}

static void minutes_sweep(nq *q)
{
    size_t n = 1;
    for (int i = 0; i < 100 && n > 0; i++)
        T_OK(nq_store_minutes_sweep(nq_store_of(q), 500, &n, &t_last));
    ck_assert_uint_eq(n, 0);
}

START_TEST(hours_are_made_once)
{
    nq *q = t_open();
    const nq_minute a = minutes_one("mail", "a", 3, 1000), b = minutes_one("mail", "b", 1, 5000);
    minutes_add(q, 1, &a, &b);
    minutes_add(q, 2, &a, NULL);
    minutes_back(47);
    minutes_sweep(q);
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_minutes WHERE worker > 0"), 3);
    minutes_back(3);
    minutes_sweep(q);
    minutes_sweep(q);
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_minutes WHERE worker > 0"), 0);
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_minutes"), 2);
    ck_assert_str_eq(minutes_text(q, NQ_BY_BOTH), "mail a 6/2 6;mail b 1/1 1;");
    minutes_add(q, 1, &a, NULL); /* another minute of the same hour */
    minutes_back(50);
    minutes_sweep(q);
    ck_assert_int_eq(t_sql("SELECT SUM(done) FROM nanoq_minutes"), 10);
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_minutes WHERE worker > 0"), 0);
    t_sql(T_SQLITE ? "UPDATE nanoq_minutes SET at = at - 31 * 86400000000"
                   : "UPDATE nanoq_minutes SET at = at - INTERVAL 31 DAY");
    /* Of a clock that had not been set: it was first for ever, and stopped all behind it. */
    t_sql("INSERT INTO nanoq_minutes (at, worker, queue, type) VALUES (%s, 3, 'q', 't')",
          T_SQLITE ? "0" : "'1970-01-01 00:00:00'");
    minutes_sweep(q);
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_minutes"), 0);
    nq_close(q);
}
END_TEST

/* Whoever may INSERT: they are first in order, and what is behind them goes all the same. */
START_TEST(times_that_are_none_stop_nothing)
{
    nq *q = t_open();
    const nq_minute a = minutes_one("mail", "a", 3, 1000);
    t_conn *c = t_connect();
    if (T_MYSQL)
        t_run(c, "SET SESSION sql_mode = ''");
    minutes_add(q, 1, &a, NULL);
    minutes_back(50);
    for (int worker = 0; worker < 2; worker++)
        t_run(c, "INSERT INTO nanoq_minutes (at, worker, queue, type) VALUES (%s, %d, 'q', 't')",
              T_SQLITE ? "1500000000000000.5" : "'2020-00-00'", worker);
    minutes_sweep(q);
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_minutes WHERE worker > 0"), 0);
    ck_assert_str_eq(minutes_text(q, NQ_BY_BOTH), "mail a 3/1 3;");
    for (int worker = 0; worker < 2; worker++)
        t_run(c, "INSERT INTO nanoq_minutes (at, worker, queue, type) VALUES (%s, %d, 'q', 't')",
              T_SQLITE ? "1500000000000000.5" : "'2020-00-00'", worker);
    t_sql(T_SQLITE ? "UPDATE nanoq_minutes SET at = at - 31 * 86400000000 WHERE queue = 'mail'"
                   : "UPDATE nanoq_minutes SET at = at - INTERVAL 31 DAY WHERE queue = 'mail'");
    minutes_sweep(q);
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_minutes"), 0);
    t_disconnect(c);
    nq_close(q);
}
END_TEST

static void *minutes_sweeper(void *arg)
{
    size_t n = 1;
    while (n > 0)
        if (nq_store_minutes_sweep(nq_store_of(arg), 500, &n, NULL) != NQ_OK)
            return arg;
    return NULL;
}

/* Four at once, over twenty minutes of three workers. */
START_TEST(whoever_merges_nothing_is_counted_twice)
{
    nq *q = t_open();
    const nq_minute a = minutes_one("mail", "a", 1, 1000);
    minutes_add(q, 1, &a, NULL);
    minutes_back(60);
    for (int i = 1; i < 20; i++)
        for (int w = 1; w <= 3; w++)
            t_sql(T_SQLITE ? "INSERT INTO nanoq_minutes (at, worker, queue, type, done) SELECT MAX(at) - %d "
                             "* 60000000, "
                             "%d, 'mail', 'a', 5 FROM nanoq_minutes WHERE done = 1"
                           : "INSERT INTO nanoq_minutes (at, worker, queue, type, done) SELECT MAX(at) - "
                             "INTERVAL %d "
                             "MINUTE, %d, 'mail', 'a', 5 FROM nanoq_minutes WHERE done = 1",
                  i, w);
    pthread_t threads[4];
    for (size_t i = 0; i < 4; i++)
        t_thread(&threads[i], minutes_sweeper, q);
    for (size_t i = 0; i < 4; i++) {
        void *answer = NULL;
        pthread_join(threads[i], &answer);
        ck_assert_ptr_null(answer);
    }
    minutes_sweep(q); /* one that was passed by while another one merged */
    ck_assert_int_eq(t_sql("SELECT SUM(done) FROM nanoq_minutes"), 1 + 19 * 3 * 5);
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_minutes WHERE worker > 0"), 0);
    nq_close(q);
}
END_TEST

/* Each test has one outcome of each kind, and more types than are told apart. */
static nq_verdict minutes_handler(nq_ctx *ctx, const nq_task *task, void *udata)
{
    (void)udata;
    if (strcmp(task->type, "retried") == 0)
        return nq_fail(ctx, NQ_RETRY, "not now");
    if (strcmp(task->type, "dead") == 0)
        return nq_fail(ctx, NQ_DISCARD, "never");
    return NQ_DONE;
}

START_TEST(a_worker_writes_what_it_did)
{
    nq *q = t_open();
    nq_worker *w = NULL;
    T_ADD(q, .type = "fine", .group = "7");
    T_ADD(q, .type = "fine", NQ_BYTES("2"));
    T_ADD(q, .type = "retried");
    T_ADD(q, .type = "dead");
    T_OK(nq_worker_new(&w, q, &(nq_worker_options){.size = sizeof(nq_worker_options), .drain = NQ_DRAIN_DUE},
                       &t_last));
    T_OK(nq_worker_handle(w, NULL, minutes_handler, NULL, NULL, &t_last));
    T_OK(nq_worker_run(w, &t_last));
    nq_worker_free(w);
    ck_assert_str_eq(minutes_text(q, NQ_BY_BOTH),
                     "default dead 0/1 1;default fine 2/0 2;default retried 0/0 1;");
    ck_assert_int_eq(t_sql("SELECT SUM(retried) FROM nanoq_minutes"), 1);
    nq_close(q);
}
END_TEST

START_TEST(too_many_types_are_others)
{
    nq *q = t_open();
    nq_worker *w = NULL;
    for (int i = 0; i < 80; i++) {
        char type[16];
        snprintf(type, sizeof type, "t%d", i);
        T_ADD(q, .type = type);
    }
    T_OK(nq_worker_new(&w, q, &(nq_worker_options){.size = sizeof(nq_worker_options), .drain = NQ_DRAIN_DUE},
                       &t_last));
    T_OK(nq_worker_handle(w, NULL, minutes_handler, NULL, NULL, &t_last));
    T_OK(nq_worker_run(w, &t_last));
    nq_worker_free(w);
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_minutes"), 65);
    ck_assert_int_eq(t_sql("SELECT SUM(done) FROM nanoq_minutes"), 80);
    ck_assert_int_eq(t_sql("SELECT done FROM nanoq_minutes WHERE type = '(other)'"), 16);
    nq_close(q);
}
END_TEST

/* A worker that did nothing writes nothing. */
START_TEST(idleness_leaves_no_row)
{
    nq *q = t_open();
    nq_worker *w = NULL;
    T_OK(nq_worker_new(&w, q, &(nq_worker_options){.size = sizeof(nq_worker_options), .drain = NQ_DRAIN_DUE},
                       &t_last));
    T_OK(nq_worker_handle(w, NULL, minutes_handler, NULL, NULL, &t_last));
    T_OK(nq_worker_run(w, &t_last));
    nq_worker_free(w);
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_minutes"), 0);
    nq_close(q);
}
END_TEST

/* Whatever stands in the rows. */
START_TEST(hostile_rows_are_read)
{
    nq *q = t_open();
    t_sql("INSERT INTO nanoq_minutes (at, worker, queue, type, done, wait_hist, run_hist) VALUES (%s, 1, "
          "'q', 'a', 7, "
          "%s, %s)",
          T_SQLITE ? "(CAST(strftime('%s','now') AS INTEGER) / 60 * 60000000)" : "UTC_TIMESTAMP()",
          T_SQLITE ? "x'ffffffffff'" : "0xffffffffff", T_SQLITE ? "zeroblob(250)" : "REPEAT(CHAR(255), 250)");
    ck_assert_ptr_nonnull(strstr(minutes_text(q, NQ_BY_BOTH), "q a 7/0"));
    nq_close(q);
}
END_TEST

Suite *suite_minutes(void)
{
    Suite *s = suite_create("minutes");
    TCase *c = t_case(s, "minutes", 30);
    tcase_add_test(c, a_bucket_is_a_power_of_two);
    tcase_add_test(c, rows_add_up);
    tcase_add_test(c, hours_are_made_once);
    tcase_add_test(c, times_that_are_none_stop_nothing);
    tcase_add_test(c, whoever_merges_nothing_is_counted_twice);
    tcase_add_test(c, a_worker_writes_what_it_did);
    tcase_add_test(c, too_many_types_are_others);
    tcase_add_test(c, idleness_leaves_no_row);
    tcase_add_test(c, hostile_rows_are_read);
    return s;
}
