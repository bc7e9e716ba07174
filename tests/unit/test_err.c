/* SPDX-License-Identifier: MIT */
/* err.c: texts, and messages that are one safe line. */
#include "unit.h"

#include <errno.h>

START_TEST(texts)
{
    ck_assert_str_eq(nq_strerror(NQ_OK), "ok");
    ck_assert_str_eq(nq_strerror(NQ_EURL), "malformed database URL");
    ck_assert_str_eq(nq_code_name(NQ_OK), "NQ_OK");
    ck_assert_str_eq(nq_code_name(NQ_EREADONLY), "NQ_EREADONLY");
    ck_assert_ptr_nonnull(nq_strerror(12345));
    ck_assert_ptr_nonnull(nq_code_name(-12345));
#define NQ_X(name, number, text)                                                                             \
    ck_assert_str_eq(nq_strerror(number), text);                                                             \
    ck_assert_str_eq(nq_code_name(name), #name);
    NQ_CODES(NQ_X)
#undef NQ_X
}
END_TEST

START_TEST(set)
{
    nq_err err;

    memset(&err, 0x55, sizeof err);
    ck_assert_int_eq(nq_err_set(&err, NQ_EINVAL, "task %d: %s", 3, "no"), NQ_EINVAL);
    ck_assert_int_eq(err.code, NQ_EINVAL);
    ck_assert_str_eq(err.message, "task 3: no");
    ck_assert_int_eq(err.db_code, 0);
    ck_assert_str_eq(err.sqlstate, "");
    ck_assert(!err.transaction_lost);
    nq_err_set(&err, NQ_EDB, "again: %s", err.message);
    ck_assert_str_eq(err.message, "again: task 3: no");
    ck_assert_int_eq(nq_err_set(NULL, NQ_EDB, "x"), NQ_EDB);
    ck_assert_int_eq(nq_err_nomem(NULL), NQ_ENOMEM);
    ck_assert_int_eq(nq_err_nomem(&err), NQ_ENOMEM);
    ck_assert_str_eq(err.message, "out of memory");
}
END_TEST

START_TEST(one_line)
{
    char longer[4000];
    nq_err err;

    nq_err_set(&err, NQ_EDB, "a\nb\x1b[31m\x7f");
    ck_assert_str_eq(err.message, "a\\x0ab\\x1b[31m\\x7f");
    memset(longer, 'x', sizeof longer - 1);
    longer[sizeof longer - 1] = '\0';
    nq_err_set(&err, NQ_EDB, "%s", longer);
    ck_assert_uint_eq(strlen(err.message), sizeof err.message - 1);
}
END_TEST

START_TEST(system_errors)
{
    char longer[2000];
    nq_err err;

    ck_assert_int_eq(nq_err_sys(&err, NQ_ESYSTEM, ENOENT, "cannot open '%s'", "f"), NQ_ESYSTEM);
    ck_assert_str_eq(err.message, "cannot open 'f': No such file or directory");
    memset(longer, 'x', sizeof longer - 1);
    longer[sizeof longer - 1] = '\0';
    nq_err_sys(&err, NQ_ESYSTEM, ENOENT, "%s", longer);
    ck_assert_ptr_nonnull(strstr(err.message, "x: No such file or directory"));
    nq_err_sys(&err, NQ_ESYSTEM, 987654, "odd");
    ck_assert_ptr_nonnull(strstr(err.message, "odd: "));
    ck_assert_int_eq(nq_err_sys(NULL, NQ_ESYSTEM, ENOENT, "x"), NQ_ESYSTEM);
}
END_TEST

static void printable(const char *text, size_t n, size_t size, const char *expect)
{
    char out[128];

    memset(out, '#', sizeof out);
    nq_printable(out, size, text, n);
    ck_assert_str_eq(out, expect);
    ck_assert_int_eq(out[size], '#'); /* nothing behind the end */
}

START_TEST(escapes)
{
    char untouched = '#';

    printable("plain \\ text", 12, 64, "plain \\ text");
    printable("", 0, 64, "");
    printable("a\0b", 3, 64, "a\\x00b");
    printable("\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80", 9, 64, "\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80");
    printable("\xc2\x9b", 2, 64, "\\xc2\\x9b");          /* a C1 control */
    printable("\xff\xc0\xaf", 3, 64, "\\xff\\xc0\\xaf"); /* never, overlong */
    printable("\xed\xa0\x80", 3, 64, "\\xed\\xa0\\x80"); /* a surrogate */
    printable("\xe2\x82", 2, 64, "\\xe2\\x82");          /* cut */
    nq_printable(&untouched, 0, "x", 1);
    ck_assert_int_eq(untouched, '#');
}
END_TEST

START_TEST(cuts)
{
    printable("abc", 3, 1, "");
    printable("abc", 3, 3, "ab");
    printable("a\xe2\x82\xac", 4, 4, "a"); /* no half characters */
    printable("a\xe2\x82\xac", 4, 5, "a\xe2\x82\xac");
    printable("a\n", 2, 5, "a"); /* no half escapes */
    printable("a\n", 2, 6, "a\\x0a");
}
END_TEST

UNIT_MAIN("err", texts, set, one_line, system_errors, escapes, cuts)
