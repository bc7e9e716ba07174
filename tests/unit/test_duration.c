/* SPDX-License-Identifier: MIT */
/* duration.c: durations as text, there and back. */
#include "unit.h"

static void duration_is(const char *text, int64_t expect)
{
    int64_t us = -1;
    nq_err err = {0};

    ck_assert_msg(nq_parse_duration(text, &us, &err) == NQ_OK, "%s: %s", text, err.message);
    ck_assert_msg(us == expect, "%s: %lld", text, (long long)us);
}

static void duration_fails(const char *text, const char *part)
{
    int64_t us = 42;
    nq_err err = {0};

    ck_assert_msg(nq_parse_duration(text, &us, &err) == NQ_EINVAL, "accepted '%s'", text);
    ck_assert_int_eq(us, 42);
    ck_assert_msg(strstr(err.message, part), "'%s': %s", text, err.message);
}

START_TEST(durations)
{
    duration_is("0", 0);
    duration_is("250ms", 250000);
    duration_is("5s", NQ_SECONDS(5));
    duration_is("5m", NQ_MINUTES(5));
    duration_is("2h", NQ_HOURS(2));
    duration_is("7d", NQ_DAYS(7));
    duration_is("1h30m", NQ_MINUTES(90));
    duration_is("1d2h3m4s5ms", NQ_DAYS(1) + NQ_HOURS(2) + NQ_MINUTES(3) + NQ_SECONDS(4) + NQ_MS(5));
    duration_is("1.5s", 1500000);
    duration_is("1.5", 1500000);
    duration_is("0.000001", 1);
    duration_is("0.5h", NQ_MINUTES(30));
    duration_is("60", NQ_SECONDS(60));
    duration_is("0005s", NQ_SECONDS(5));
    duration_is("3650d", NQ_MAX_DURATION);
    duration_is("3649.999999d", NQ_DAYS(3649) + NQ_DAYS(1) / 1000000 * 999999);
    duration_is("315360000", NQ_MAX_DURATION);
}
END_TEST

START_TEST(bad_durations)
{
    static const char *const junk[] = {"5x",   "s",    "5 s",        " 5s",   "5s ",   "5S",   "1h30",
                                       "1.",   ".5",   "1.s",        "5ss",   "+5s",   "1e3",  "0x5",
                                       "5m1h", "1m1m", "0.0000001s", "5ms5s", "5\n",   "five", "1,5",
                                       "1..5", "nan",  "inf",        "1h-5m", "5s\xff"};

    for (size_t i = 0; i < sizeof junk / sizeof junk[0]; i++)
        duration_fails(junk[i], "allowed are numbers with ms, s, m, h or d");
    duration_fails("", "empty");
    duration_fails(NULL, "empty");
    duration_fails("-5s", "negative");
    duration_fails("-0", "negative");
    duration_fails("3650d1ms", "at most 3650d");
    duration_fails("3651d", "at most 3650d");
    duration_fails("315360001", "at most 3650d");
    duration_fails("9223372036854775807s", "at most 3650d");
    duration_fails("18446744073709551616ms", "at most 3650d");
    duration_fails("99999999999999999999999999999999999999999999d", "at most 3650d");
    ck_assert_int_eq(nq_parse_duration("5x", &(int64_t){0}, NULL), NQ_EINVAL);
}
END_TEST

START_TEST(durations_there_and_back)
{
    uint64_t seed = unit_seed();

    for (int i = 0; i < 20000; i++) {
        int64_t us = (int64_t)(unit_next(&seed) % (uint64_t)(NQ_MAX_DURATION + 1));
        char text[64];
        snprintf(text, sizeof text, "%lld.%06llds", (long long)(us / 1000000), (long long)(us % 1000000));
        duration_is(text, us);
        snprintf(text, sizeof text, "%lldd%lldms", (long long)(us / NQ_DAYS(1)),
                 (long long)(us % NQ_DAYS(1) / 1000));
        duration_is(text, us / 1000 * 1000);
    }
}
END_TEST

UNIT_MAIN("duration", durations, bad_durations, durations_there_and_back)
