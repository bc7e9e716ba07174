/* SPDX-License-Identifier: MIT */
/* The text of headers: what is written is read again, and of any other text only what is a header. */
#include "unit.h"

static char headers_room[NQ_MAX_HEADERS * sizeof(nq_header) + NQ_MAX_HEADERS_SIZE + 1];

static nq_headers headers_of(const char *text)
{
    nq_headers h;
    const size_t n = strlen(text), room = nq_headers_room(text, n);
    ck_assert_uint_le(room, sizeof headers_room);
    const char *end = nq_headers_read(&h, headers_room, text, n);
    ck_assert_uint_eq((size_t)(end - headers_room), room);
    return h;
}

static const char *headers_get(const nq_headers *h, const char *name)
{
    const nq_task task = {.headers = h->all, .nheaders = h->n};
    return nq_task_header(&task, name);
}

START_TEST(what_is_written_is_read)
{
    static const nq_header all[] = {
        {"traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"},
        {"a", ""},
        {"b-2", " spaces  and: colons "},
        {"c", "\xc3\xa4\xf0\x9f\x92\xa5"}};
    nq_buf text = {0};
    ck_assert_int_eq(nq_headers_write(&text, all, 4, NULL), NQ_OK);
    const nq_headers h = headers_of(text.p);
    ck_assert_uint_eq(h.n, 4);
    for (size_t i = 0; i < 4; i++) {
        ck_assert_str_eq(h.all[i].name, all[i].name);
        ck_assert_str_eq(headers_get(&h, all[i].name), all[i].value);
    }
    ck_assert_ptr_null(headers_get(&h, "d"));
    ck_assert_int_eq(h.expires_at_us, 0);
    nq_buf_free(&text);
    ck_assert_int_eq(nq_headers_write(&text, NULL, 0, NULL), NQ_OK);
    ck_assert_ptr_null(text.p);
}
END_TEST

START_TEST(lines_that_are_no_headers_are_passed_over)
{
    static const char *const bad[] = {
        "",        "\n\n",    "a",         ": x",
        "A: x",    "a b: x",  " a: x",     "a : x",
        "a:\tx",   "a: x\r",  "a: \x80",   "a: \xc2\x9f",
        "a: \x7f", "\xff: x", "nq-new: x", "aaaaaaaaaabbbbbbbbbbccccccccccddddddddddX: x"};
    char text[128];
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        nq_headers h = headers_of(bad[i]);
        ck_assert_msg(h.n == 0, "'%s' was taken", bad[i]);
        snprintf(text, sizeof text, "first: 1\n%s\nlast:2", bad[i]);
        h = headers_of(text);
        ck_assert_uint_eq(h.n, 2);
        ck_assert_str_eq(headers_get(&h, "first"), "1");
        ck_assert_str_eq(headers_get(&h, "last"), "2");
    }
    const nq_headers h = headers_of("a: 1\na: 2\n");
    ck_assert_uint_eq(h.n, 1);
    ck_assert_str_eq(headers_get(&h, "a"), "1");
}
END_TEST

START_TEST(what_is_too_long_is_none)
{
    nq_buf text = {0};
    nq_headers h;
    for (int i = 0; i < NQ_MAX_HEADERS + 9; i++)
        nq_buf_fmt(&text, "h%d: %d\n", i, i);
    h = headers_of(text.p);
    ck_assert_uint_eq(h.n, NQ_MAX_HEADERS);
    nq_buf_clear(&text);
    nq_buf_str(&text, "a: ");
    while (text.n < NQ_MAX_HEADERS_SIZE)
        nq_buf_add(&text, "x", 1);
    h = headers_of(text.p);
    ck_assert_uint_eq(h.n, 1);
    nq_buf_add(&text, "x", 1);
    ck_assert_uint_eq(nq_headers_room(text.p, text.n), 0);
    nq_buf_free(&text);
}
END_TEST

START_TEST(a_time_of_expiry)
{
    static const struct {
        const char *text;
        int64_t at;
    } all[] = {{"nq-expires: 1790000000000000", 1790000000000000},
               {"a: b\nnq-expires:7\nnq-expires: 9\n", 7},
               {"nq-expires: ", 0},
               {"nq-expires: -5", 0},
               {"nq-expires: 12x", 0},
               {"nq-expires: 12x\nnq-expires: 5", 0},
               {"nq-expires: 99999999999999999999999", INT64_MAX - 9},
               {"nq-expiresx: 5", 0}};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        const nq_headers h = headers_of(all[i].text);
        ck_assert_int_eq(h.expires_at_us, all[i].at);
        nq_buf rest = {0};
        nq_headers_without_expiry(&rest, all[i].text, strlen(all[i].text));
        ck_assert_int_eq(headers_of(rest.p ? rest.p : "").expires_at_us, 0);
        ck_assert(!rest.p || strstr(rest.p, "a: b") || !strstr(all[i].text, "a: b"));
        nq_buf_free(&rest);
    }
}
END_TEST

static void headers_fail(const nq_header *all, size_t n, int code, const char *why)
{
    nq_buf out = {0};
    nq_err err = {0};
    ck_assert_int_eq(nq_headers_write(&out, all, n, &err), code);
    ck_assert_msg(strstr(err.message, why), "%s", err.message);
    nq_buf_free(&out);
}

START_TEST(what_is_not_allowed_is_refused)
{
    static const char *const names[] = {
        "", "A", "a b", "a\n", "a:", "\xc3\xa4", "aaaaaaaaaabbbbbbbbbbccccccccccddddddddddd"};
    char big[NQ_MAX_HEADERS_SIZE + 2];
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        headers_fail(&(nq_header){names[i], "x"}, 1, NQ_EINVAL, "allowed are 1 to 40 of a-z 0-9 -");
    headers_fail(&(nq_header){"nq-expires", "5"}, 1, NQ_EINVAL, "are the library's");
    headers_fail(&(nq_header){"a", "x\ny"}, 1, NQ_EINVAL, "byte 2 of its value");
    headers_fail(&(nq_header){"a", "\xff"}, 1, NQ_EINVAL, "byte 1 of its value");
    headers_fail(&(nq_header){"a", NULL}, 1, NQ_EINVAL, "the value of header 0 is NULL");
    headers_fail(&(nq_header){NULL, "a"}, 1, NQ_EINVAL, "the name of header 0 is NULL");
    headers_fail((const nq_header[]){{"a", "1"}, {"a", "2"}}, 2, NQ_EINVAL, "header 'a' is given twice");
    headers_fail(NULL, 2, NQ_EINVAL, "headers is NULL but nheaders is 2");
    headers_fail(&(nq_header){"a", "x"}, NQ_MAX_HEADERS + 1, NQ_EINVAL, "at most 64 are allowed");
    memset(big, 'x', sizeof big - 1);
    big[sizeof big - 1] = '\0';
    headers_fail(&(nq_header){"a", big}, 1, NQ_ETOOBIG, "at most 4064");
    big[NQ_MAX_HEADERS_SIZE - 32] = '\0';
    headers_fail(&(nq_header){"a", big}, 1, NQ_ETOOBIG, "at most 4064 are allowed");
}
END_TEST

UNIT_MAIN("headers", what_is_written_is_read, lines_that_are_no_headers_are_passed_over,
          what_is_too_long_is_none, a_time_of_expiry, what_is_not_allowed_is_refused)
