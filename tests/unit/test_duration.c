/* SPDX-License-Identifier: MIT */
/* duration.c: durations and points in time as text, there and back. */
#include "unit.h"

#include <time.h>

#define LAST_US ((int64_t)253402300799999999)

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
    ck_assert_msg(strstr(err.message, part) != NULL, "'%s': %s", text, err.message);
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

    for (size_t i = 0; i < sizeof(junk) / sizeof(junk[0]); i++)
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
        snprintf(text, sizeof(text), "%lld.%06llds", (long long)(us / 1000000), (long long)(us % 1000000));
        duration_is(text, us);
        snprintf(text, sizeof(text), "%lldd%lldms", (long long)(us / NQ_DAYS(1)),
                 (long long)(us % NQ_DAYS(1) / 1000));
        duration_is(text, us / 1000 * 1000);
    }
}
END_TEST

static void time_is(const char *text, int64_t expect)
{
    int64_t us = -1;
    nq_err err = {0};

    ck_assert_msg(nq_parse_time(text, &us, &err) == NQ_OK, "%s: %s", text, err.message);
    ck_assert_msg(us == expect, "%s: %lld", text, (long long)us);
}

static void time_fails(const char *text, const char *part)
{
    int64_t us = 42;
    nq_err err = {0};

    ck_assert_msg(nq_parse_time(text, &us, &err) == NQ_EINVAL, "accepted '%s'", text);
    ck_assert_int_eq(us, 42);
    ck_assert_msg(strstr(err.message, part) != NULL, "'%s': %s", text, err.message);
}

START_TEST(times)
{
    const int64_t noon = NQ_SECONDS(1769860800);

    time_is("2026-01-31T12:00:00Z", noon);
    time_is("2026-01-31 12:00:00", noon);
    time_is("2026-01-31T12:00:00", noon);
    time_is("2026-01-31 12:00", noon);
    time_is("2026-01-31T14:00+02:00", noon);
    time_is("2026-01-31T12:00Z", noon);
    time_is("2026-01-31T14:00:00+02:00", noon);
    time_is("2026-01-31T06:30:00-05:30", noon);
    time_is("2026-01-31T12:00:00.5Z", noon + 500000);
    time_is("2026-01-31T12:00:00.000001", noon + 1);
    time_is("2026-01-31T12:00:00.123456789+00:00", noon + 123456);
    time_is("2026-01-31", noon - NQ_HOURS(12));
    time_is("@1769860800", noon);
    time_is("@0", 0);
    time_is("@253402300799", LAST_US - 999999);
    time_is("1970-01-01", 0);
    time_is("1970-01-01T01:00:00+01:00", 0);
    time_is("9999-12-31T23:59:59.999999Z", LAST_US);
    time_is("2000-02-29", NQ_SECONDS(951782400));
    time_is("2024-02-29", NQ_SECONDS(1709164800));
}
END_TEST

START_TEST(bad_times)
{
    static const char *const junk[] = {"now",
                                       "2026",
                                       "2026-01",
                                       "2026-1-31",
                                       "2026-13-01",
                                       "2026-00-01",
                                       "2026-01-00",
                                       "2026-01-32",
                                       "2026-04-31",
                                       "2026-02-29",
                                       "2100-02-29",
                                       "1900-01-01",
                                       "1969-12-31",
                                       "20260131",
                                       "2026/01/31",
                                       "@",
                                       "@-1",
                                       "@1.5",
                                       "@12x",
                                       " 2026-01-31",
                                       "2026-01-31 ",
                                       "2026-01-31T",
                                       "2026-01-31T12",
                                       "2026-01-31T12",
                                       "2026-01-31t12:00:00Z",
                                       "2026-01-31T12:00:00z",
                                       "2026-01-31T24:00:00Z",
                                       "2026-01-31T12:60:00Z",
                                       "2026-01-31T12:00:60Z",
                                       "2026-01-31T12:00:00.Z",
                                       "2026-01-31T12:00:00.1234567890Z",
                                       "2026-01-31T12:00:00+2",
                                       "2026-01-31T12:00:00+02",
                                       "2026-01-31T12:00:00+0200",
                                       "2026-01-31T12:00:00+24:00",
                                       "2026-01-31T12:00:00+02:60",
                                       "2026-01-31T12:00:00Z+02:00",
                                       "2026-01-31T12:00:00ZZ",
                                       "2026-01-31T12:00:00,5Z",
                                       "2026-01-31Z",
                                       "2026-01-31T-1:00:00Z",
                                       "10000-01-01",
                                       "2026-01-31T12:00:00\xff"};

    for (size_t i = 0; i < sizeof(junk) / sizeof(junk[0]); i++)
        time_fails(junk[i], "allowed are 2026-01-31T12:00:00Z");
    time_fails("", "empty");
    time_fails(NULL, "empty");
    time_fails("1970-01-01T00:59:59+01:00", "years 1970 to 9999");
    time_fails("9999-12-31T23:59:59-00:01", "years 1970 to 9999");
    time_fails("@253402300800", "years 1970 to 9999");
    time_fails("@99999999999999999999999999999999", "years 1970 to 9999");
}
END_TEST

/* Against the C library, and from text to number and back. */
START_TEST(times_there_and_back)
{
    uint64_t seed = unit_seed();

    for (int i = 0; i < 50000; i++) {
        int64_t us = (int64_t)(unit_next(&seed) % (uint64_t)(LAST_US + 1));
        time_t seconds = (time_t)(us / 1000000);
        char text[28], expect[64], day[32];
        struct tm tm;
        nq_format_time(us, text);
        gmtime_r(&seconds, &tm);
        strftime(day, sizeof(day), "%Y-%m-%dT%H:%M:%S", &tm);
        snprintf(expect, sizeof(expect), "%s.%06lldZ", day, (long long)(us % 1000000));
        ck_assert_str_eq(text, expect);
        time_is(text, us);
    }
}
END_TEST

/* Every day of eight centuries follows the day before. */
START_TEST(every_day)
{
    char text[28], before[28] = "";

    for (int64_t day = 0; day < 292194; day++) {
        int64_t us = -1;
        nq_format_time(NQ_DAYS(day), text);
        ck_assert_int_gt(strcmp(text, before), 0);
        ck_assert_int_eq(nq_parse_time(text, &us, NULL), NQ_OK);
        ck_assert_int_eq(us, NQ_DAYS(day));
        memcpy(before, text, sizeof(before));
    }
}
END_TEST

START_TEST(format_clamps)
{
    char text[28];

    nq_format_time(-1, text);
    ck_assert_str_eq(text, "1970-01-01T00:00:00.000000Z");
    nq_format_time(INT64_MIN, text);
    ck_assert_str_eq(text, "1970-01-01T00:00:00.000000Z");
    nq_format_time(INT64_MAX, text);
    ck_assert_str_eq(text, "9999-12-31T23:59:59.999999Z");
}
END_TEST

/* The local time zone has no say. */
START_TEST(no_time_zone)
{
    static const char *const zones[] = {"America/New_York", "Asia/Kolkata", "XYZ-11", "UTC"};

    for (size_t i = 0; i < 4; i++) {
        setenv("TZ", zones[i], 1);
        tzset();
        time_is("2026-03-29T02:30:00", NQ_SECONDS(1774751400));
        time_is("2026-07-01", NQ_SECONDS(1782864000));
    }
}
END_TEST

UNIT_MAIN("duration", durations, bad_durations, durations_there_and_back, times, bad_times,
          times_there_and_back, every_day, format_clamps, no_time_zone)
