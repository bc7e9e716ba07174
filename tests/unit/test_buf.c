/* SPDX-License-Identifier: MIT */
/* buf.c: growing, terminating, failing. */
#include "unit.h"

START_TEST(empty)
{
    nq_buf b = {0};

    nq_buf_free(&b);
    nq_buf_free(NULL);
    nq_buf_clear(&b);
    ck_assert_ptr_null(b.p);
    nq_buf_str(&b, "");
    ck_assert_str_eq(b.p, "");
    ck_assert_uint_eq(b.n, 0);
    nq_buf_add(&b, NULL, 0);
    ck_assert_uint_eq(b.n, 0);
    nq_buf_free(&b);
    ck_assert_ptr_null(b.p);
}
END_TEST

START_TEST(appends)
{
    nq_buf b = {0};

    nq_buf_str(&b, "id IN (");
    nq_buf_u64(&b, 0);
    nq_buf_add(&b, ",", 1);
    nq_buf_u64(&b, UINT64_MAX);
    nq_buf_fmt(&b, ") AND x = '%s' %d", "y", -5);
    ck_assert_str_eq(b.p, "id IN (0,18446744073709551615) AND x = 'y' -5");
    ck_assert_uint_eq(b.n, strlen(b.p));
    nq_buf_clear(&b);
    ck_assert_str_eq(b.p, "");
    nq_buf_add(&b, "a\0b", 3);
    ck_assert_mem_eq(b.p, "a\0b\0", 4);
    ck_assert_uint_eq(b.n, 3);
    nq_buf_free(&b);
}
END_TEST

START_TEST(grows)
{
    nq_buf b = {0};
    uint64_t seed = unit_seed();
    char *expect = malloc(1 << 20);
    size_t n = 0;

    while (n < (1 << 20) - 300) {
        char piece[300];
        size_t len = (size_t)(unit_next(&seed) % sizeof piece);
        for (size_t i = 0; i < len; i++)
            piece[i] = (char)('a' + unit_next(&seed) % 26);
        memcpy(expect + n, piece, len);
        if (len > 0 && unit_next(&seed) % 2)
            nq_buf_fmt(&b, "%.*s", (int)len, piece);
        else
            nq_buf_add(&b, piece, len);
        n += len;
        ck_assert_uint_eq(b.n, n);
    }
    ck_assert(!b.failed);
    ck_assert_mem_eq(b.p, expect, n);
    ck_assert_int_eq(b.p[n], 0);
    free(expect);
    nq_buf_free(&b);
}
END_TEST

/* A size that no allocation can have: the buffer stays as it was and says so. */
START_TEST(fails)
{
    nq_buf b = {0};

    nq_buf_str(&b, "kept");
    nq_buf_add(&b, "x", SIZE_MAX - 2);
    ck_assert(b.failed);
    nq_buf_str(&b, "more");
    nq_buf_fmt(&b, "%d", 1);
    nq_buf_u64(&b, 7);
    ck_assert_str_eq(b.p, "kept");
    ck_assert_uint_eq(b.n, 4);
    nq_buf_clear(&b);
    ck_assert(!b.failed);
    nq_buf_str(&b, "new");
    ck_assert_str_eq(b.p, "new");
    nq_buf_free(&b);
}
END_TEST

UNIT_MAIN("buf", empty, appends, grows, fails)
