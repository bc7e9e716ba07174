/* SPDX-License-Identifier: MIT */
/* validate.c: names, UTF-8, and options structs of other versions. */
#include "unit.h"

static nq_err why;

static void fill(char *out, size_t n)
{
    memset(out, 'a', n);
    out[n] = '\0';
}

START_TEST(queues)
{
    char name[80];

    ck_assert_int_eq(nq_check_queue("default", NULL), NQ_OK);
    ck_assert_int_eq(nq_check_queue("AZaz09_.:/-", NULL), NQ_OK);
    fill(name, NQ_MAX_QUEUE);
    ck_assert_int_eq(nq_check_queue(name, NULL), NQ_OK);
    fill(name, NQ_MAX_QUEUE + 1);
    ck_assert_int_eq(nq_check_queue(name, &why), NQ_EINVAL);
    ck_assert_str_eq(why.message, "the queue name is 65 bytes long, at most 64 are allowed");
    ck_assert_int_eq(nq_check_queue("", &why), NQ_EINVAL);
    ck_assert_ptr_nonnull(strstr(why.message, "empty"));
    ck_assert_int_eq(nq_check_queue(NULL, &why), NQ_EINVAL);
    for (int c = 1; c < 256; c++) {
        char one[2] = {(char)c, '\0'};
        bool good =
            c < 128 && strchr("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.:/-", c);
        ck_assert_int_eq(nq_check_queue(one, NULL), good ? NQ_OK : NQ_EINVAL);
    }
    nq_check_queue("a b", &why);
    ck_assert_ptr_nonnull(strstr(why.message, "byte 2 "));
}
END_TEST

START_TEST(types)
{
    static const char *const bad[] = {"a\nb",     "\x7f",         "\xc2\x80",         "\xff",         "a\xc3",
                                      "\xc0\xaf", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xe0\x9f\xbf", "\x80"};
    char type[300];

    ck_assert_int_eq(nq_check_type("email", NULL), NQ_OK);
    ck_assert_int_eq(nq_check_type("recalculate stock (\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80)", NULL), NQ_OK);
    fill(type, NQ_MAX_TYPE);
    ck_assert_int_eq(nq_check_type(type, NULL), NQ_OK);
    fill(type, NQ_MAX_TYPE + 1);
    ck_assert_int_eq(nq_check_type(type, &why), NQ_EINVAL);
    ck_assert_str_eq(why.message, "type is 256 bytes long, at most 255 are allowed");
    ck_assert_int_eq(nq_check_type("", &why), NQ_EINVAL);
    ck_assert_ptr_nonnull(strstr(why.message, "empty"));
    ck_assert_int_eq(nq_check_type(NULL, &why), NQ_EINVAL);
    ck_assert_ptr_nonnull(strstr(why.message, "missing"));
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        ck_assert_int_eq(nq_check_type(bad[i], &why), NQ_EINVAL);
}
END_TEST

START_TEST(prefixes)
{
    char prefix[64];

    ck_assert_int_eq(nq_check_prefix("nanoq_", NULL), NQ_OK);
    ck_assert_int_eq(nq_check_prefix("_", NULL), NQ_OK);
    fill(prefix, 48);
    ck_assert_int_eq(nq_check_prefix(prefix, NULL), NQ_OK);
    fill(prefix, 49);
    ck_assert_int_eq(nq_check_prefix(prefix, &why), NQ_EINVAL);
    ck_assert_ptr_nonnull(strstr(why.message, "1 to 48"));
    ck_assert_int_eq(nq_check_prefix("", NULL), NQ_EINVAL);
    ck_assert_int_eq(nq_check_prefix(NULL, NULL), NQ_EINVAL);
    ck_assert_int_eq(nq_check_prefix("1a", NULL), NQ_EINVAL);
    ck_assert_int_eq(nq_check_prefix("a-b", NULL), NQ_EINVAL);
    ck_assert_int_eq(nq_check_prefix("a`; DROP TABLE x", NULL), NQ_EINVAL);
}
END_TEST

/* Every code point encoded by hand is read back; every other two bytes are refused. */
START_TEST(utf8)
{
    for (uint32_t cp = 1; cp < 0x110000; cp++) {
        char p[4];
        size_t n;
        uint32_t got = 0;
        if (cp < 0x80) {
            p[0] = (char)cp, n = 1;
        } else if (cp < 0x800) {
            p[0] = (char)(0xc0 | cp >> 6), p[1] = (char)(0x80 | (cp & 63)), n = 2;
        } else if (cp < 0x10000) {
            p[0] = (char)(0xe0 | cp >> 12), p[1] = (char)(0x80 | (cp >> 6 & 63)), n = 3;
            p[2] = (char)(0x80 | (cp & 63));
        } else {
            p[0] = (char)(0xf0 | cp >> 18), p[1] = (char)(0x80 | (cp >> 12 & 63)), n = 4;
            p[2] = (char)(0x80 | (cp >> 6 & 63)), p[3] = (char)(0x80 | (cp & 63));
        }
        if (nq_utf8(p, n, &got) != (cp >= 0xd800 && cp < 0xe000 ? 0 : n) || (got && got != cp))
            ck_abort_msg("U+%04x", (unsigned)cp);
        if (n > 1 && nq_utf8(p, n - 1, &got) != 0)
            ck_abort_msg("U+%04x cut", (unsigned)cp);
    }
    ck_assert_uint_eq(nq_utf8("", 0, &(uint32_t){0}), 0);
}
END_TEST

struct old_options {
    size_t size;
    int a;
};
struct new_options {
    size_t size;
    int a;
    int b;
    const char *c;
};
struct newer_options {
    struct new_options now;
    int64_t later;
};

START_TEST(options)
{
    struct new_options out = {0};
    struct old_options old = {sizeof old, 5};
    struct newer_options newer = {{sizeof newer, 1, 2, "three"}, 0};

    memset(&out, 0x55, sizeof out);
    ck_assert_int_eq(nq_options_copy(&out, sizeof out, NULL, "x_options", NULL), NQ_OK);
    ck_assert(out.size == sizeof out && out.a == 0 && out.b == 0 && !out.c);
    old.size = offsetof(struct old_options, a) + sizeof(int);
    memset(&out, 0x55, sizeof out);
    ck_assert_int_eq(nq_options_copy(&out, sizeof out, &old, "x_options", NULL), NQ_OK);
    ck_assert(out.size == sizeof out && out.a == 5 && out.b == 0 && !out.c);
    ck_assert_int_eq(nq_options_copy(&out, sizeof out, &newer, "x_options", NULL), NQ_OK);
    ck_assert(out.size == sizeof out && out.a == 1 && out.b == 2 && strcmp(out.c, "three") == 0);
    newer.later = 1;
    ck_assert_int_eq(nq_options_copy(&out, sizeof out, &newer, "x_options", &why), NQ_EINVAL);
    ck_assert_ptr_nonnull(strstr(why.message, "does not know"));
    old.size = 0;
    ck_assert_int_eq(nq_options_copy(&out, sizeof out, &old, "x_options", &why), NQ_EINVAL);
    ck_assert_str_eq(why.message, "x_options.size is 0: set it to sizeof(x_options)");
    old.size = (size_t)-1;
    ck_assert_int_eq(nq_options_copy(&out, sizeof out, &old, "x_options", &why), NQ_EINVAL);
    ck_assert_ptr_nonnull(strstr(why.message, "set it to sizeof"));
    ck_assert_int_eq(out.a, 1);
}
END_TEST

UNIT_MAIN("validate", queues, types, prefixes, utf8, options)
