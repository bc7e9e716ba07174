/* SPDX-License-Identifier: MIT */
/* Metrics: of a worker from memory, of the database, of a handle. */
#include <signal.h>

#include "suites.h"

#include "../../src/worker/series.h"

/* The text is kept; it is terminated here. */
static int metrics_keep(const char *text, size_t n, void *udata)
{
    nq_buf_add(udata, text, n);
    return 0;
}

static char *metrics_of(nq *q, unsigned parts)
{
    static nq_buf b;
    nq_buf_clear(&b);
    T_OK(nq_metrics(q, &(nq_metrics_options){.size = sizeof(nq_metrics_options), .parts = parts},
                    metrics_keep, &b, &t_last));
    return b.p;
}

static char *metrics_of_worker(const nq_worker *w)
{
    static nq_buf b;
    nq_buf_clear(&b);
    T_OK(nq_worker_metrics(w, metrics_keep, &b, &t_last));
    return b.p;
}

/* The value of a sample, all up to its space; -1: it is not there. */
static double metrics_value(const char *text, const char *sample)
{
    const size_t n = strlen(sample);
    for (const char *at = text; (at = strstr(at, sample)); at += n)
        if ((at == text || at[-1] == '\n') && at[n] == ' ')
            return strtod(at + n, NULL);
    return -1;
}
#define METRICS_ARE(text, sample, v)                                                                         \
    ck_assert_msg(metrics_value(text, sample) == (v), "%s is not %g in\n%s", sample, (double)(v), text)

static size_t metrics_count(const char *text, const char *part)
{
    size_t n = 0;
    for (const char *at = text; (at = strstr(at, part)); at++)
        n++;
    return n;
}

static nq_verdict metrics_handle(nq_ctx *ctx, const nq_task *task, void *udata)
{
    (void)udata;
    switch (((const char *)task->payload)[0]) {
    case 'r':
        nq_ctx_set_delay(ctx, NQ_HOURS(1));
        return nq_fail(ctx, NQ_RETRY, "again");
    case 'd':
        return nq_fail(ctx, NQ_DISCARD, "of no use");
    case 's':
        nq_ctx_set_delay(ctx, NQ_HOURS(1));
        return NQ_SNOOZE;
    case 'k':
        raise(SIGKILL);
        return NQ_DONE;
    default:
        return NQ_DONE;
    }
}

static void metrics_add(nq *q, const char *type, const char *payload)
{
    T_ADD(q, .type = type, .payload = payload, .payload_size = strlen(payload), .unique = NQ_UNIQUE_NONE);
}

START_TEST(a_worker_counts_attempts_by_queue_type_and_verdict)
{
    nq *q = t_open();
    p_thread t;
    nq_worker *w = p_new(q, P_OPTIONS(.concurrency = 2), metrics_handle, NULL);
    const char *text = metrics_of_worker(w);
    ck_assert_uint_eq(metrics_count(text, "nanoq_attempts_total{"), 0);
    METRICS_ARE(text, "nanoq_handlers_running", 0);
    for (int i = 0; i < 5; i++)
        metrics_add(q, "mail", "ok");
    metrics_add(q, "mail", "r");
    metrics_add(q, "mail", "d");
    metrics_add(q, "a\"b\\c", "s");
    p_start(&t, w);
    T_WAIT(t_sql("SELECT COUNT(*) FROM nanoq_tasks WHERE state = 0") == 2 &&
               t_sql("SELECT COUNT(*) FROM nanoq_tasks WHERE state = 1") == 0 &&
               metrics_value(metrics_of_worker(w), "nanoq_queue_wait_seconds_count{queue=\"default\"}") == 8,
           20);
    text = metrics_of_worker(w);
    METRICS_ARE(text, "nanoq_attempts_total{queue=\"default\",type=\"mail\",verdict=\"done\"}", 5);
    METRICS_ARE(text, "nanoq_attempts_total{queue=\"default\",type=\"mail\",verdict=\"retry\"}", 1);
    METRICS_ARE(text, "nanoq_attempts_total{queue=\"default\",type=\"mail\",verdict=\"dead\"}", 1);
    METRICS_ARE(text, "nanoq_attempts_total{queue=\"default\",type=\"a\\\"b\\\\c\",verdict=\"snooze\"}", 1);
    METRICS_ARE(text, "nanoq_attempt_duration_seconds_count{queue=\"default\",type=\"mail\"}", 7);
    METRICS_ARE(text, "nanoq_attempt_duration_seconds_bucket{queue=\"default\",type=\"mail\",le=\"+Inf\"}",
                7);
    METRICS_ARE(text, "nanoq_crashes_total{type=\"mail\"}", 0);
    METRICS_ARE(text, "nanoq_lease_lost_total", 0);
    ck_assert(metrics_value(text, "nanoq_queue_wait_seconds_sum{queue=\"default\"}") >= 0);
    p_stop(&t);
    nq_close(q);
}
END_TEST

static nq_minute *metrics_row(const char *queue, const char *type, int64_t run_us)
{
    static nq_minute m;
    memset(&m, 0, sizeof m);
    snprintf(m.queue, sizeof m.queue, "%s", queue);
    snprintf(m.type, sizeof m.type, "%s", type);
    m.counts.done = 1;
    m.counts.run[nq_log2_bucket(run_us)] = 1;
    m.counts.run_us = (uint64_t)run_us;
    return &m;
}

START_TEST(types_and_queues_beyond_200_are_other)
{
    nq_series_set set = {0};
    uint64_t n = 0, other = 0;
    char type[32], queue[32];
    for (int round = 0; round < 2; round++)
        for (int i = 0; i < 300; i++) {
            snprintf(type, sizeof type, "t%d", i);
            const nq_minute *m = metrics_row("q", type, 5);
            nq_series_add(&set, m->queue, m->type, &m->counts);
        }
    ck_assert_uint_eq(set.n, NQ_METRICS_VALUES + 1);
    for (size_t i = 0; i < set.n; i++) {
        n += set.all[i].verdicts[NQ_SERIES_DONE];
        other += strcmp(set.all[i].type, "other") == 0 ? set.all[i].verdicts[NQ_SERIES_DONE] : 0;
    }
    ck_assert_uint_eq(n, 600);
    ck_assert_uint_eq(other, 200);
    for (int i = 0; i < 5000; i++) {
        snprintf(type, sizeof type, "t%d", i % 7);
        snprintf(queue, sizeof queue, "q%d", i);
        const nq_minute *m = metrics_row(queue, type, 5);
        nq_series_add(&set, m->queue, m->type, &m->counts);
    }
    ck_assert_uint_le(set.n, NQ_SERIES_MAX + 1);
    ck_assert_uint_le(set.nqueues, NQ_METRICS_VALUES + 1);
    n = 0;
    for (size_t i = 0; i < set.n; i++)
        n += set.all[i].verdicts[NQ_SERIES_DONE];
    ck_assert_uint_eq(n, 5600);
    free(set.all);
}
END_TEST

START_TEST(each_duration_is_below_the_bound_of_its_bucket)
{
    for (int64_t us = 1; us < NQ_HOURS(3); us = us * 3 / 2 + 1) {
        nq_series_set set = {0};
        const nq_minute *m = metrics_row("q", "t", us);
        size_t at = 0;
        nq_series_add(&set, m->queue, m->type, &m->counts);
        while (set.all[0].run.counts[at] == 0)
            at++;
        ck_assert(at == NQ_SERIES_BUCKETS - 1 || us < (int64_t)nq_series_bound_us(at));
        ck_assert(at == 0 || us >= (int64_t)nq_series_bound_us(at - 1));
        free(set.all);
    }
}
END_TEST

/* More pairs than a writing of the minutes tells apart: metrics tell them apart all the same. */
START_TEST(a_worker_tells_a_hundred_types_apart)
{
    nq *q = t_open();
    char type[32];
    for (int i = 0; i < 100; i++) {
        snprintf(type, sizeof type, "type%d", i);
        metrics_add(q, type, "ok");
    }
    p_thread t;
    nq_worker *w = p_new(q, P_OPTIONS(.concurrency = 4), metrics_handle, NULL);
    p_start(&t, w);
    T_WAIT(metrics_value(metrics_of_worker(w), "nanoq_queue_wait_seconds_count{queue=\"default\"}") == 100,
           20);
    const char *text = metrics_of_worker(w);
    ck_assert_uint_eq(metrics_count(text, "verdict=\"done\"} 1\n"), 100);
    ck_assert_ptr_null(strstr(text, "\"other\""));
    p_stop(&t);
    nq_close(q);
}
END_TEST

START_TEST(a_crash_is_counted_by_type)
{
    nq *q = t_open();
    nq_worker *w = p_new(q, P_OPTIONS(.concurrency = 1, .retry_policy = p_soon), NULL, NULL);
    p_thread t;
    T_OK(nq_worker_handle(w, NULL, metrics_handle, NULL, P_ISOLATED(.nice = 0), &t_last));
    T_OK(nq_worker_fork(w, &t_last));
    metrics_add(q, "killer", "k");
    metrics_add(q, "mail", "ok");
    p_start(&t, w);
    T_WAIT(metrics_value(metrics_of_worker(w), "nanoq_crashes_total{type=\"killer\"}") == 4 &&
               metrics_value(metrics_of_worker(w),
                             "nanoq_attempts_total{queue=\"default\",type=\"killer\",verdict=\"dead\"}") == 1,
           20);
    METRICS_ARE(metrics_of_worker(w), "nanoq_crashes_total{type=\"mail\"}", 0);
    p_stop(&t);
    nq_close(q);
}
END_TEST

START_TEST(the_database_has_gauges)
{
    nq *q = t_open();
    p_thread t;
    const nq_queue_options mail = {.size = sizeof mail, .name = "mail"};
    int ran = 0;
    metrics_add(q, "a", "ok");
    T_ADD(q, .type = "a", .queue = "mail", .group = "7");
    T_ADD(q, .type = "a", .queue = "mail", .delay_us = NQ_HOURS(1), .payload = "x", .payload_size = 1);
    T_OK(nq_pause(q, "mail", NULL, &t_last));
    const char *text = metrics_of(q, 0);
    METRICS_ARE(text, "nanoq_database_up", 1);
    METRICS_ARE(text, "nanoq_tasks{queue=\"default\",state=\"due\"}", 1);
    METRICS_ARE(text, "nanoq_tasks{queue=\"mail\",state=\"due\"}", 1);
    METRICS_ARE(text, "nanoq_tasks{queue=\"mail\",state=\"delayed\"}", 1);
    METRICS_ARE(text, "nanoq_tasks_capped{queue=\"mail\",state=\"due\"}", 0);
    METRICS_ARE(text, "nanoq_queue_paused{queue=\"mail\"}", 1);
    METRICS_ARE(text, "nanoq_queue_paused{queue=\"default\"}", 0);
    METRICS_ARE(text, "nanoq_workers{queue=\"mail\"}", 0);
    METRICS_ARE(text, "nanoq_followups", 0);
    ck_assert(metrics_value(text, "nanoq_queue_oldest_due_seconds{queue=\"mail\"}") > 0);
    ck_assert(metrics_value(text, "nanoq_scrape_duration_seconds") > 0);
    METRICS_ARE(text, "nanoq_enqueued_total", 3);
    p_start(&t, p_new(q, P_OPTIONS(.queues = &mail, .nqueues = 1), p_count, &ran));
    T_WAIT(metrics_value(metrics_of(q, NQ_METRICS_DATABASE), "nanoq_workers{queue=\"mail\"}") == 1, 20);
    p_stop(&t);
    nq_close(q);
}
END_TEST

START_TEST(a_handle_counts_what_it_enqueues)
{
    nq *q = t_open();
    nq_id id;
    const nq_task_spec specs[] = {*NQ_TASK(.type = "b"), *NQ_TASK(.type = "b"), *NQ_TASK(.type = "c")};
    T_ADD(q, .type = "a");
    ck_assert_int_eq(nq_enqueue(q, NQ_OWN_TX, NQ_TASK(.type = "a"), &id, NULL), NQ_DUPLICATE);
    ck_assert_int_lt(nq_enqueue(q, NQ_OWN_TX, NQ_TASK(.type = ""), &id, NULL), 0);
    T_OK(nq_enqueue_many(q, NQ_OWN_TX, specs, 3, NULL, NULL, &t_last));
    const char *text = metrics_of(q, NQ_METRICS_HANDLE);
    METRICS_ARE(text, "nanoq_enqueued_total", 3);
    METRICS_ARE(text, "nanoq_duplicates_total", 2);
    ck_assert_ptr_null(strstr(text, "nanoq_database_up"));
    nq_close(q);
}
END_TEST

START_TEST(a_database_that_cannot_be_read_is_said_in_the_text)
{
    nq *q = t_open();
    nq_buf b = {0};
    nq_err err = {0};
    t_sql("DROP TABLE nanoq_finished");
    ck_assert_int_lt(nq_metrics(q, NULL, metrics_keep, &b, &err), 0);
    ck_assert_str_ne(err.message, "");
    METRICS_ARE(b.p, "nanoq_database_up", 0);
    METRICS_ARE(b.p, "nanoq_enqueued_total", 0);
    ck_assert_ptr_null(strstr(b.p, "nanoq_tasks"));
    ck_assert_int_eq(nq_metrics(q, NULL, NULL, NULL, &err), NQ_EINVAL);
    ck_assert_int_eq(nq_metrics(q, &(nq_metrics_options){.size = sizeof(nq_metrics_options), .parts = 4},
                                metrics_keep, &b, &err),
                     NQ_EINVAL);
    ck_assert_ptr_nonnull(strstr(err.message, "parts is 0x4"));
    ck_assert_int_eq(nq_worker_metrics(NULL, metrics_keep, &b, &err), NQ_EINVAL);
    nq_buf_free(&b);
    nq_close(q);
}
END_TEST

START_TEST(labels_are_escaped_and_valid)
{
    nq_buf b = {0};
    const nq_label labels[] = {{"queue", "a\nb\x01\x7f\xc2\x85"}, {"type", "\xff\"\\\xc3\xa4\xed\xa0\x80"}};
    nq_sample_us(&b, "m", labels, 2, 1500000);
    nq_sample_us(&b, "m", NULL, 0, 7);
    nq_sample_us(&b, "m", NULL, 0, 0);
    ck_assert_str_eq(
        b.p, "m{queue=\"a\\nb\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\",type=\"\xef\xbf\xbd\\\"\\\\\xc3\xa4"
             "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\"} 1.5\nm 0.000007\nm 0\n");
    nq_buf_free(&b);
}
END_TEST

Suite *suite_metrics(void)
{
    Suite *s = suite_create("metrics");
    TCase *c = t_case(s, "metrics", 60);
    tcase_add_test(c, a_worker_counts_attempts_by_queue_type_and_verdict);
    tcase_add_test(c, a_worker_tells_a_hundred_types_apart);
    tcase_add_test(c, types_and_queues_beyond_200_are_other);
    tcase_add_test(c, each_duration_is_below_the_bound_of_its_bucket);
    tcase_add_test(c, a_crash_is_counted_by_type);
    tcase_add_test(c, the_database_has_gauges);
    tcase_add_test(c, a_handle_counts_what_it_enqueues);
    tcase_add_test(c, a_database_that_cannot_be_read_is_said_in_the_text);
    tcase_add_test(c, labels_are_escaped_and_valid);
    return s;
}
