/* SPDX-License-Identifier: MIT */
/* Headers of a task: they go wherever it goes, and no bytes in their column stop a queue. */
#include "suites.h"

#define HEADERS_TRACE "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

static const nq_header headers_two[] = {{"traceparent", HEADERS_TRACE}, {"lang", "d\xc3\xa4"}};
#define HEADERS_TWO .headers = headers_two, .nheaders = 2

static void headers_are_two(const nq_header *all, size_t n)
{
    ck_assert_uint_eq(n, 2);
    for (size_t i = 0; i < n; i++) {
        ck_assert_str_eq(all[i].name, headers_two[i].name);
        ck_assert_str_eq(all[i].value, headers_two[i].value);
    }
}

static int headers_see_two(const nq_info *info, void *udata)
{
    headers_are_two(info->headers, info->nheaders);
    ++*(int *)udata;
    return 0;
}

static int headers_see_none(const nq_info *info, void *udata)
{
    ck_assert_uint_eq(info->nheaders, 0);
    ck_assert_ptr_null(info->headers);
    ++*(int *)udata;
    return 0;
}

static void headers_shown(nq *q, nq_id id)
{
    int got = 0, listed = 0;
    T_OK(nq_get(q, id, headers_see_two, &got, &t_last));
    T_OK(nq_list(q, NULL, headers_see_two, &listed, &t_last));
    ck_assert_int_eq(got, 1);
    ck_assert_int_ge(listed, 1);
}

START_TEST(they_go_wherever_the_task_goes)
{
    nq *q = t_open();
    const nq_id id = T_ADD(q, .type = "t", NQ_BYTES("p"), HEADERS_TWO);
    headers_shown(q, id);
    /* To the handler, after a failed attempt too, */
    for (int i = 0; i < 2; i++) {
        nq_claimed *c = t_claim_one(q, NQ_LEASE(1, i + 1));
        headers_are_two(c->task.headers, c->task.nheaders);
        ck_assert_str_eq(nq_task_header(&c->task, "traceparent"), HEADERS_TRACE);
        ck_assert_ptr_null(nq_task_header(&c->task, "tracestate"));
        ck_assert_str_eq(c->task.payload, "p");
        ck_assert_str_eq(c->task.queue, "default");
        ck_assert_int_eq(t_finish(q, c, i ? NQ_OUT_DEAD : NQ_OUT_RETRY, 0, "why"), NQ_OK);
        t_free_claimed(c);
    }
    /* to the history, and back. */
    ck_assert_int_eq(t_state(q, id), NQ_STATE_DEAD);
    headers_shown(q, id);
    T_OK(nq_retry(q, id, &t_last));
    headers_shown(q, id);
    T_OK(nq_cancel(q, id, &t_last));
    headers_shown(q, id);
    T_OK(nq_retry(q, id, &t_last));
    nq_claimed *c = t_claim_one(q, NQ_LEASE(1, 9));
    headers_are_two(c->task.headers, c->task.nheaders);
    /* And what follows it. */
    nq_id same;
    T_ANSWERS(nq_enqueue(q, NQ_OWN_TX, NQ_TASK(.type = "t", NQ_BYTES("p"), HEADERS_TWO), &same, &t_last),
              NQ_DUPLICATE);
    ck_assert_int_eq(t_finish(q, c, NQ_OUT_DONE, 0, NULL), NQ_OK);
    t_free_claimed(c);
    size_t n = 0;
    bool more = true;
    T_OK(nq_store_promote(nq_store_of(q), 100, &n, &more, &t_last));
    ck_assert_uint_eq(n, 1);
    c = t_claim_one(q, NQ_LEASE(1, 10));
    headers_are_two(c->task.headers, c->task.nheaders);
    t_free_claimed(c);
    nq_close(q);
}
END_TEST

START_TEST(many_with_and_without_are_told_apart)
{
    const bool in_mine = _i;
    nq *q = t_open();
    t_conn *mine = t_connect();
    nq_task_spec tasks[120];
    nq_id ids[120];
    int none = 0, two = 0;
    for (int i = 0; i < 120; i++)
        tasks[i] = i % 3 ? *NQ_TASK(.type = "t", .unique = NQ_UNIQUE_NONE)
                         : *NQ_TASK(.type = "t", .unique = NQ_UNIQUE_NONE, HEADERS_TWO);
    if (in_mine)
        t_begin(mine);
    T_OK(nq_enqueue_many(q, in_mine ? t_tx(mine) : NQ_OWN_TX, tasks, 120, ids, NULL, &t_last));
    if (in_mine)
        t_run(mine, "COMMIT");
    t_disconnect(mine);
    for (int i = 0; i < 120; i++)
        T_OK(nq_get(q, ids[i], i % 3 ? headers_see_none : headers_see_two, i % 3 ? &none : &two, &t_last));
    ck_assert_int_eq(two, 40);
    ck_assert_int_eq(none, 80);
    nq_close(q);
}
END_TEST

START_TEST(plain_sql_reads_and_writes_them)
{
    nq *q = t_open();
    T_ADD(q, .type = "t", HEADERS_TWO);
    char *text = t_text(t_side(), "SELECT headers FROM nanoq_tasks");
    ck_assert_str_eq(text, "traceparent: " HEADERS_TRACE "\nlang: d\xc3\xa4\n");
    free(text);
    t_sql("DELETE FROM nanoq_tasks");
    t_sql("INSERT INTO nanoq_tasks (type, headers) VALUES ('t', 'traceparent: x')");
    nq_claimed *c = t_claim_one(q, NQ_LEASE(1, 1));
    ck_assert_str_eq(nq_task_header(&c->task, "traceparent"), "x");
    t_free_claimed(c);
    nq_close(q);
}
END_TEST

START_TEST(bad_ones_are_refused_before_anything_is_sent)
{
    nq *q = t_open();
    const nq_header ours = {"nq-expires", "1"}, line = {"a", "x\ny: z"};
    nq_task_spec many[2] = {*NQ_TASK(.type = "t", HEADERS_TWO), *NQ_TASK(.type = "t", .headers = &line)};
    T_FAILS(nq_enqueue(q, NQ_OWN_TX, NQ_TASK(.type = "t", .headers = &ours, .nheaders = 1), NULL, &t_last),
            NQ_EINVAL);
    ck_assert_ptr_nonnull(strstr(t_last.message, "names that begin with nq- are the library's"));
    many[1].nheaders = 1;
    T_FAILS(nq_enqueue_many(q, NQ_OWN_TX, many, 2, NULL, NULL, &t_last), NQ_EINVAL);
    ck_assert_str_eq(t_last.message,
                     "task 1: header 'a': byte 2 of its value is a control character or not UTF-8");
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_tasks"), 0);
    nq_close(q);
}
END_TEST

/* Bytes that are no text of headers; but the task runs, and what of them is a header is one. */
static const char *const headers_hostile[] = {
    "''",
    "X'00'",
    "X'FF00FE0A80'",
    "'no header at all'",
    "'\n\n\n: \n:'",
    "X'613A2000623A0A6C616E673A2078'", /* a NUL in a line, and behind it lang */
    "'nq-expires: soon\nnq-expires: -1'",
    "1e300",
    "'nq-flow: 99\nnq-unheard-of: 1'"};

START_TEST(no_bytes_in_the_column_stop_a_queue)
{
    enum { N = sizeof headers_hostile / sizeof *headers_hostile };
    nq *q = t_open();
    size_t n = 0, langs = 0, nids = 0;
    nq_id ids[2 * N];
    int listed = 0;
    for (int i = 0; i < N; i++) {
        t_sql("INSERT INTO nanoq_tasks (type, payload, headers) VALUES ('t', '%d', %s)", i,
              headers_hostile[i]);
        T_ADD(q, .type = "good", .payload = &i, .payload_size = sizeof i);
    }
    if (T_SQLITE) /* which has no bound of its own */
        t_sql("UPDATE nanoq_tasks SET headers = zeroblob(3000000) WHERE headers = 'no header at all'");
    nq_claimed *list = t_claim(q, NQ_LEASE(1, 1), 100, &n);
    ck_assert_uint_eq(n, 2 * N);
    for (nq_claimed *c = list; c; c = c->next) {
        langs += nq_task_header(&c->task, "lang") ? 1 : 0;
        ck_assert_uint_le(c->task.nheaders, 1);
        ck_assert_int_eq(t_finish(q, c, NQ_OUT_DEAD, 0, "why"), NQ_OK);
        ids[nids++] = c->task.id;
    }
    t_free_claimed(list);
    ck_assert_uint_eq(langs, 1);
    for (size_t i = 0; i < nids; i++) {
        t_task task;
        ck_assert_int_eq(t_get(q, ids[i], &task), NQ_OK);
        ck_assert_int_eq(task.info.state, NQ_STATE_DEAD);
        listed++;
        t_task_free(&task);
        T_OK(nq_retry(q, ids[i], &t_last));
    }
    ck_assert_int_eq(listed, 2 * N);
    nq_close(q);
}
END_TEST

/* ---- Not later than ---- */

static int headers_expiry(const nq_info *info, void *udata)
{
    *(int64_t *)udata = info->expires_at_us;
    return 0;
}

static int64_t headers_expires_at(nq *q, nq_id id)
{
    int64_t at = -1;
    T_OK(nq_get(q, id, headers_expiry, &at, &t_last));
    return at;
}

START_TEST(the_time_of_expiry_is_the_databases)
{
    const bool in_mine = _i;
    nq *q = t_open();
    t_conn *mine = t_connect();
    const nq_tx tx = in_mine ? t_tx(mine) : NQ_OWN_TX;
    nq_id ids[4] = {0};
    const int64_t before = t_now(q);
    nq_task_spec many[3] = {*NQ_TASK(.type = "b", HEADERS_TWO, .expires_us = NQ_HOURS(1)),
                            *NQ_TASK(.type = "c"), *NQ_TASK(.type = "d", HEADERS_TWO)};
    if (in_mine)
        t_begin(mine);
    T_OK(nq_enqueue(q, tx, NQ_TASK(.type = "a", .expires_us = NQ_MINUTES(5)), &ids[3], &t_last));
    T_OK(nq_enqueue_many(q, tx, many, 3, ids, NULL, &t_last));
    if (in_mine)
        t_run(mine, "COMMIT");
    t_disconnect(mine);
    const int64_t after = t_now(q), a = headers_expires_at(q, ids[3]), b = headers_expires_at(q, ids[0]);
    ck_assert(a >= before + NQ_MINUTES(5) && a <= after + NQ_MINUTES(5));
    ck_assert(b >= before + NQ_HOURS(1) && b <= after + NQ_HOURS(1));
    ck_assert_int_eq(headers_expires_at(q, ids[1]), 0);
    ck_assert_int_eq(headers_expires_at(q, ids[2]), 0);
    int seen = 0;
    T_OK(nq_get(q, ids[3], headers_see_none, &seen, &t_last));
    T_OK(nq_get(q, ids[0], headers_see_two, &seen, &t_last));
    T_OK(nq_get(q, ids[1], headers_see_none, &seen, &t_last));
    T_OK(nq_get(q, ids[2], headers_see_two, &seen, &t_last));
    nq_close(q);
}
END_TEST

START_TEST(a_claim_says_when_its_tasks_expire_by_our_clock)
{
    nq *q = t_open();
    size_t n = 0;
    T_ADD(q, .type = "never");
    T_ADD(q, .type = "later", .expires_us = NQ_HOURS(1));
    t_sql("INSERT INTO nanoq_tasks (type, headers) VALUES ('long ago', 'nq-expires: 5')");
    t_sql("INSERT INTO nanoq_tasks (type, headers) VALUES ('end', 'nq-expires: 9223372036854775807')");
    nq_claimed *list = t_claim(q, NQ_LEASE(1, 1), 10, &n);
    ck_assert_uint_eq(n, 4);
    for (nq_claimed *c = list; c; c = c->next) {
        const int64_t left = c->expires_us - nq_mono_us();
        if (strcmp(c->task.type, "never") == 0)
            ck_assert_int_eq(c->expires_us, 0);
        else if (strcmp(c->task.type, "later") == 0)
            ck_assert(left > NQ_MINUTES(58) && left <= NQ_HOURS(1) + NQ_SECONDS(5));
        else if (strcmp(c->task.type, "end") == 0)
            ck_assert(c->expires_us > nq_mono_us() + NQ_DAYS(3650));
        else
            ck_assert(c->expires_us > 0 && left < 0);
    }
    t_free_claimed(list);
    nq_close(q);
}
END_TEST

START_TEST(an_expired_one_ends_dead_without_an_attempt)
{
    nq *q = t_open();
    t_task task;
    const nq_id id = T_ADD(q, .type = "t", HEADERS_TWO, .expires_us = NQ_SECONDS(1));
    nq_claimed *c = t_claim_one(q, NQ_LEASE(1, 1));
    nq_outcome o = {.id = id,
                    .lease = c->lease,
                    .kind = NQ_OUT_DEAD,
                    .expired = true,
                    .error = "expired",
                    .error_size = 7},
               *outs[] = {&o};
    T_OK(nq_store_finish(nq_store_of(q), outs, 1, &t_last));
    ck_assert_int_eq(o.result, NQ_OK);
    t_free_claimed(c);
    ck_assert_int_eq(t_get(q, id, &task), NQ_OK);
    ck_assert_int_eq(task.info.state, NQ_STATE_DEAD);
    ck_assert_uint_eq(task.info.attempts, 0);
    ck_assert_uint_eq(task.info.crashes, 0);
    ck_assert_str_eq(task.error, "expired");
    t_task_free(&task);
    ck_assert_int_gt(headers_expires_at(q, id), 0);
    /* By hand it is run all the same, and keeps its other headers. */
    T_OK(nq_retry(q, id, &t_last));
    ck_assert_int_eq(headers_expires_at(q, id), 0);
    headers_shown(q, id);
    nq_close(q);
}
END_TEST

START_TEST(retried_by_hand_it_expires_no_more)
{
    static const char *const texts[][2] = {{"nq-expires: 5", NULL},
                                           {"a: 1\nnq-expires: 5\nb: 2", "a: 1\nb: 2"},
                                           {"nq-expires: soon\nnq-expires: 6\nno header\n", "no header\n"},
                                           {"a: 1", "a: 1"}};
    nq *q = t_open();
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        t_sql("INSERT INTO nanoq_tasks (type, headers) VALUES ('t', '%s')", texts[i][0]);
        const nq_id id = t_sql("SELECT id FROM nanoq_tasks");
        T_OK(nq_retry(q, id, &t_last)); /* it waits */
        char *now = t_text(t_side(), "SELECT headers FROM nanoq_tasks");
        ck_assert(texts[i][1] ? now && strcmp(now, texts[i][1]) == 0 : !now);
        free(now);
        T_OK(nq_delete(q, id, &t_last));
    }
    nq_close(q);
}
END_TEST

START_TEST(a_bad_expiry_is_refused)
{
    nq *q = t_open();
    T_FAILS(nq_enqueue(q, NQ_OWN_TX, NQ_TASK(.type = "t", .expires_us = -1), NULL, &t_last), NQ_EINVAL);
    T_FAILS(nq_enqueue(q, NQ_OWN_TX, NQ_TASK(.type = "t", .expires_us = NQ_MAX_DURATION + 1), NULL, &t_last),
            NQ_EINVAL);
    T_FAILS(nq_enqueue(q, NQ_OWN_TX,
                       NQ_TASK(.type = "t", .expires_us = NQ_MINUTES(1), .delay_us = NQ_MINUTES(1)), NULL,
                       &t_last),
            NQ_EINVAL);
    ck_assert_ptr_nonnull(strstr(t_last.message, "it must be above delay_us"));
    nq_close(q);
}
END_TEST

START_TEST(headers_that_leave_no_room_for_those_of_the_schedule)
{
    static char value[NQ_MAX_HEADERS_SIZE];
    nq *q = t_open();
    const nq_header header = {"h", value};
    const nq_task_spec task = {.size = sizeof task, .type = "t", .headers = &header, .nheaders = 1};
    const nq_schedule s = {.size = sizeof s, .name = "name", .spec = "@every 1s", .task = &task};
    memset(value, 'x', NQ_MAX_HEADERS_SIZE - 40 - strlen("h: \n"));
    T_OK(nq_schedule_set(q, NQ_OWN_TX, &s, &t_last));
    T_OK(nq_schedule_run(q, "name", NULL, &t_last));
    nq_claimed *c = t_claim_one(q, NQ_LEASE(1, 1));
    ck_assert_uint_eq(c->task.nheaders, 1);
    ck_assert_str_eq(c->task.schedule, "name");
    t_free_claimed(c);
    strcat(value, "x");
    T_FAILS(nq_schedule_set(q, NQ_OWN_TX, &s, &t_last), NQ_ETOOBIG);
    ck_assert_ptr_nonnull(strstr(t_last.message, "at most 4056 are allowed"));
    nq_close(q);
}
END_TEST

Suite *suite_headers(void)
{
    Suite *s = suite_create("headers");
    TCase *c = t_case(s, "headers", 60);
    tcase_add_test(c, they_go_wherever_the_task_goes);
    tcase_add_loop_test(c, many_with_and_without_are_told_apart, 0, 2);
    tcase_add_test(c, plain_sql_reads_and_writes_them);
    tcase_add_test(c, bad_ones_are_refused_before_anything_is_sent);
    tcase_add_test(c, no_bytes_in_the_column_stop_a_queue);
    tcase_add_loop_test(c, the_time_of_expiry_is_the_databases, 0, 2);
    tcase_add_test(c, a_claim_says_when_its_tasks_expire_by_our_clock);
    tcase_add_test(c, an_expired_one_ends_dead_without_an_attempt);
    tcase_add_test(c, retried_by_hand_it_expires_no_more);
    tcase_add_test(c, a_bad_expiry_is_refused);
    tcase_add_test(c, headers_that_leave_no_room_for_those_of_the_schedule);
    return s;
}
