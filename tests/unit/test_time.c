/* SPDX-License-Identifier: MIT */
/* cli/text/time.c and nq_format_time: points in time as text, there and back. */
#include "unit.h"

#include <time.h>

#include "../../cli/cli.h"

#define LAST_US ((int64_t)253402300799999999)

static void time_is(const char *text, int64_t expect)
{
    int64_t us = -1;
    nq_err err = {0};

    ck_assert_msg(cli_parse_time(text, &us, &err) == NQ_OK, "%s: %s", text, err.message);
    ck_assert_msg(us == expect, "%s: %lld", text, (long long)us);
}

static void time_fails(const char *text, const char *part)
{
    int64_t us = 42;
    nq_err err = {0};

    ck_assert_msg(cli_parse_time(text, &us, &err) == NQ_EINVAL, "accepted '%s'", text);
    ck_assert_int_eq(us, 42);
    ck_assert_msg(strstr(err.message, part), "'%s': %s", text, err.message);
}

START_TEST(times)
{
    const int64_t noon = NQ_SECONDS(1769860800);

    time_is("2026-01-31T12:00:00Z", noon);
    time_is("2026-01-31 12:00:00", noon);
    time_is("2026-01-31 12:00", noon);
    time_is("2026-01-31T14:00+02:00", noon);
    time_is("2026-01-31T12:00Z", noon);
    time_is("2026-01-31T12:00:00", noon);
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

    for (size_t i = 0; i < sizeof junk / sizeof junk[0]; i++)
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
        strftime(day, sizeof day, "%Y-%m-%dT%H:%M:%S", &tm);
        snprintf(expect, sizeof expect, "%s.%06lldZ", day, (long long)(us % 1000000));
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
        ck_assert_int_eq(cli_parse_time(text, &us, NULL), NQ_OK);
        ck_assert_int_eq(us, NQ_DAYS(day));
        memcpy(before, text, sizeof before);
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

UNIT_MAIN("time", times, bad_times, times_there_and_back, every_day, format_clamps, no_time_zone)
