/* SPDX-License-Identifier: MIT */
/* url.c: what is accepted, what is refused, and that no error shows a password. */
#include "unit.h"

static void text_is(const char *got, const char *expect)
{
    if (expect)
        ck_assert_str_eq(got, expect);
    else
        ck_assert_ptr_null(got);
}

static void mysql_is(const char *text, const char *user, const char *password, const char *host,
                     unsigned port, const char *path)
{
    nq_url u;
    nq_err err = {0};

    ck_assert_msg(nq_url_parse(&u, text, &err) == NQ_OK, "%s: %s", text, err.message);
    ck_assert_str_eq(u.scheme, "mysql");
    text_is(u.user, user);
    text_is(u.password, password);
    text_is(u.host, host);
    ck_assert_uint_eq(u.port, port);
    ck_assert_str_eq(u.path, path);
    nq_url_free(&u);
}

START_TEST(mysql)
{
    mysql_is("mysql://u@h/d", "u", NULL, "h", 0, "d");
    mysql_is("mysql://u:p@h:3307/d", "u", "p", "h", 3307, "d");
    mysql_is("mysql://h/d", NULL, NULL, "h", 0, "d");
    mysql_is("mysql://u:@h/d?", "u", "", "h", 0, "d");
    mysql_is("mysql://u@/d?socket=/run/mysqld/mysqld.sock", "u", NULL, NULL, 0, "d");
    mysql_is("mysql:///d?socket=s", NULL, NULL, NULL, 0, "d");
    mysql_is("mysql://u:p@[::1]:3306/d", "u", "p", "::1", 3306, "d");
    mysql_is("mysql://u@[2001:db8::7]/d", "u", NULL, "2001:db8::7", 0, "d");
    mysql_is("mysql://u@[fe80::1%25eth0]:1/d", "u", NULL, "fe80::1%eth0", 1, "d");
    mysql_is("mysql://a%40b:%3a%2F%3F%23%25%0a@db.example.com:65535/%C3%A9", "a@b", ":/?#%\n",
             "db.example.com", 65535, "\xc3\xa9");
    mysql_is("mysql://u:p@ss:w#rd@h/d", "u", "p@ss:w#rd", "h", 0, "d"); /* the last '@' counts */
}
END_TEST

static void sqlite_is(const char *text, const char *path)
{
    nq_url u;
    nq_err err = {0};

    ck_assert_msg(nq_url_parse(&u, text, &err) == NQ_OK, "%s: %s", text, err.message);
    ck_assert_str_eq(u.scheme, "sqlite");
    ck_assert_str_eq(u.path, path);
    ck_assert(!u.user && !u.password && !u.host && u.port == 0);
    nq_url_free(&u);
}

START_TEST(sqlite)
{
    sqlite_is("sqlite:queue.db", "queue.db");
    sqlite_is("sqlite:/var/lib/q.db", "/var/lib/q.db");
    sqlite_is("sqlite:./a b/q.db?busy_timeout=1s", "./a b/q.db");
    sqlite_is("sqlite::memory:", ":memory:");
    sqlite_is("sqlite::memory:?prefix=x_", ":memory:");
    sqlite_is("sqlite:a%3Fb%25%20c", "a?b% c");
    sqlite_is("sqlite:user@host", "user@host");
}
END_TEST

START_TEST(options)
{
    nq_url u;

    ck_assert_int_eq(nq_url_parse(&u, "sqlite:f?synchronous=normal&prefix=a%5Fb&empty=&x=a=b+c", NULL),
                     NQ_OK);
    ck_assert_uint_eq(u.noptions, 4);
    ck_assert_str_eq(nq_url_option_get(&u, "synchronous", "full"), "normal");
    ck_assert_str_eq(nq_url_option_get(&u, "prefix", NULL), "a_b");
    ck_assert_str_eq(nq_url_option_get(&u, "empty", "fallback"), "");
    ck_assert_str_eq(nq_url_option_get(&u, "x", NULL), "a=b+c");
    ck_assert_str_eq(nq_url_option_get(&u, "busy_timeout", "5s"), "5s");
    ck_assert_ptr_null(nq_url_option_get(&u, "socket", NULL));
    nq_url_free(&u);
    ck_assert_uint_eq(u.noptions, 0);
    nq_url_free(&u);
    nq_url_free(NULL);
}
END_TEST

static void fails(const char *text, const char *part)
{
    nq_url u, before;
    nq_err err = {0};

    memset(&u, 0x55, sizeof u);
    memcpy(&before, &u, sizeof u);
    ck_assert_msg(nq_url_parse(&u, text, &err) == NQ_EURL, "accepted %s", text ? text : "NULL");
    ck_assert_msg(strstr(err.message, part), "%s: %s", text ? text : "NULL", err.message);
    ck_assert_mem_eq(&u, &before, sizeof u);
}

START_TEST(malformed)
{
    fails(NULL, "NULL");
    fails("", "not a database URL");
    fails("queue.db", "not a database URL");
    fails("postgres://u@h/d", "unknown scheme 'postgres': allowed are mysql://");
    fails("://h/d", "unknown scheme: allowed are");
    fails("MySQL://u@h/d", "unknown scheme");
    fails("mysql:u@h/d", "'//' is missing");
    fails("mysql:/u@h/d", "'//' is missing");
    fails("mysql://", "names no database");
    fails("mysql://u@h", "names no database");
    fails("mysql://u@h/", "names no database");
    fails("mysql://u@h/?socket=x", "names no database");
    fails("mysql://u@/d", "names no host");
    fails("mysql://u@:3306/d", "no host");
    fails("mysql://u@h:/d", "port");
    fails("mysql://u@h:0/d", "1 to 65535");
    fails("mysql://u@h:65536/d", "1 to 65535");
    fails("mysql://u@h:4294967297/d", "1 to 65535");
    fails("mysql://u@h:-1/d", "1 to 65535");
    fails("mysql://u@h:33x/d", "1 to 65535");
    fails("mysql://u@::1/d", "brackets");
    fails("mysql://u@[::1/d", "[IPv6 address]");
    fails("mysql://u@[::1]x/d", "[IPv6 address]");
    fails("mysql://u@[host]/d", "[IPv6 address]");
    fails("mysql://u@[::1]:/d", "port");
    fails("mysql://u@h h/d", "no host name");
    fails("mysql://u@h%2Fx/d", "no host name");
    fails("mysql://u@h/a/b", "%2F");
    fails("mysql://u%4@h/d", "two hex digits");
    fails("mysql://u%@h/d", "two hex digits");
    fails("mysql://u%zz@h/d", "two hex digits");
    fails("mysql://u@h/d%00", "%00");
    fails("mysql://u@h/d\n", "control character");
    fails("sqlite:", "names no file");
    fails("sqlite:?prefix=x", "names no file");
    fails("sqlite:///var/q.db", "'//' is not allowed");
    fails("sqlite:a%00b", "%00");
    fails("sqlite:f?prefix", "option 1");
    fails("sqlite:f?=x", "option 1");
    fails("sqlite:f?a=1&", "option 2");
    fails("sqlite:f?a=1&&b=2", "option 2");
    fails("sqlite:f?a=1&b=2&a=3", "option 'a' is given twice");
    fails("sqlite:f?a=%f", "two hex digits");
}
END_TEST

/* Wherever a password with bytes that should have been escaped breaks a URL, its text is not shown. */
START_TEST(passwords_stay_secret)
{
    static const char *const texts[] = {"mysql://u:SECRET@h:x/d",
                                        "mysql://u:SEC%zzRET@h/d",
                                        "mysql://u:SECRET/x@h/d",
                                        "mysql://u:x/SECRET@h/d",
                                        "mysql://u:12/SECRET@h/d",
                                        "mysql://u:SECRET?x@h/d",
                                        "mysql://u:x?SECRET@h/d",
                                        "mysql://u:x?a=SECRET@h/d",
                                        "mysql://u:1/d?SECRET@h/d",
                                        "mysql://u:x:SECRET@[h/d",
                                        "mysql://u:SECRET@/d",
                                        "mysql://u:SECRET",
                                        "mysql://u:@SECRET/SECRET@h/d",
                                        "mysql://u:SECRET@h/d?SECRET",
                                        "mysql://u:SECRET@h/d?a=1&a=2",
                                        "mysql:u:SECRET@h/d",
                                        "mysql://u:SECRET@h",
                                        "mysql://u:SECRET@h/d\x01",
                                        "mysql://SECRET/d?x@h/d",
                                        "mysql://u:p@SECRET/x@h/d",
                                        "mysql://u:1?SECRET=1&SECRET=2@h/d",
                                        "u:SECRET@h/d",
                                        "sqlite://u:SECRET@h/d",
                                        "mysql://u:p@x?SECRET@h/d",
                                        "mysql://u:SEC RET SECRET/d",
                                        "sqlite:f?password=SECRET&password=SECRET"};
    nq_url u;

    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        nq_err err = {0};
        ck_assert_msg(nq_url_parse(&u, texts[i], &err) == NQ_EURL, "accepted %s", texts[i]);
        ck_assert_msg(!strstr(err.message, "SECRET"), "%s: %s", texts[i], err.message);
    }
}
END_TEST

static void escape(char *out, const char *text, uint64_t *seed)
{
    for (; *text; text++) {
        bool plain = (*text >= 'a' && *text <= 'z') || (*text >= '0' && *text <= '9');
        if (plain && unit_next(seed) % 8)
            out += sprintf(out, "%c", *text);
        else
            out += sprintf(out, unit_next(seed) % 2 ? "%%%02x" : "%%%02X", (unsigned)(unsigned char)*text);
    }
    *out = '\0';
}

static void random_text(char *out, size_t max, uint64_t *seed)
{
    size_t n = 1 + (size_t)(unit_next(seed) % max);

    for (size_t i = 0; i < n; i++)
        out[i] = (char)(1 + unit_next(seed) % 255);
    out[n] = '\0';
}

START_TEST(there_and_back)
{
    uint64_t seed = unit_seed();

    for (int i = 0; i < 5000; i++) {
        char user[17], password[33], path[33], value[33], e[4][100], text[600];
        unsigned port = 1 + (unsigned)(unit_next(&seed) % 65535);
        nq_url u;
        random_text(user, 16, &seed);
        random_text(password, 32, &seed);
        random_text(path, 32, &seed);
        random_text(value, 32, &seed);
        escape(e[0], user, &seed);
        escape(e[1], password, &seed);
        escape(e[2], path, &seed);
        escape(e[3], value, &seed);
        snprintf(text, sizeof text, "mysql://%s:%s@h:%u/%s?name=%s&tls=off", e[0], e[1], port, e[2], e[3]);
        mysql_is(text, user, password, "h", port, path);
        ck_assert_int_eq(nq_url_parse(&u, text, NULL), NQ_OK);
        ck_assert_str_eq(nq_url_option_get(&u, "name", NULL), value);
        nq_url_free(&u);
        snprintf(text, sizeof text, "sqlite:%s", e[2]);
        sqlite_is(text, path);
    }
}
END_TEST

/* Any bytes at all: an answer, no more. The sanitizers watch. */
START_TEST(noise)
{
    static const char bytes[] = "mysqlite:/?#@[]%&=:.0129af-_ \xc3\x01";
    uint64_t seed = unit_seed();

    for (int i = 0; i < 100000; i++) {
        char text[64];
        size_t n = (size_t)(unit_next(&seed) % 40), at = 0;
        nq_url u;
        if (unit_next(&seed) % 4)
            at = (size_t)snprintf(text, sizeof text, "%s", unit_next(&seed) % 2 ? "mysql://" : "sqlite:");
        for (size_t k = 0; k < n && at < sizeof text - 1; k++)
            text[at++] = bytes[unit_next(&seed) % (sizeof bytes - 1)];
        text[at] = '\0';
        if (nq_url_parse(&u, text, NULL) == NQ_OK)
            nq_url_free(&u);
    }
}
END_TEST

UNIT_MAIN("url", mysql, sqlite, options, malformed, passwords_stay_secret, there_and_back, noise)
