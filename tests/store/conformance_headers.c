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
    size_t n = 0, langs = 0;
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
    }
    t_free_claimed(list);
    ck_assert_uint_eq(langs, 1);
    for (int i = 1; i <= 2 * N; i++) {
        t_task task;
        ck_assert_int_eq(t_get(q, i, &task), NQ_OK);
        ck_assert_int_eq(task.info.state, NQ_STATE_DEAD);
        listed++;
        t_task_free(&task);
        T_OK(nq_retry(q, i, &t_last));
    }
    ck_assert_int_eq(listed, 2 * N);
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
    return s;
}
