/* SPDX-License-Identifier: MIT */
/* Points in time as people write them. The Gregorian calendar by arithmetic, as libc's would ask for the time
 * zone. */
#include <stdarg.h>

#include "../cli.h"
#include "text.h"

#define TIME_DAY_US   ((int64_t)86400 * 1000000)
#define TIME_MAX_TIME ((int64_t)253402300799999999) /* 9999-12-31T23:59:59.999999Z */
#define TIME_FORMS                                                                                           \
    "allowed are 2026-01-31T12:00:00Z, 2026-01-31 12:00, 2026-01-31T12:00:00.5+02:00, 2026-01-31, "          \
    "@1769860800"

static int time_fault(nq_err *err, int code, const char *fmt, ...) NQ_PRINTF(3, 4);

static int time_fault(nq_err *err, int code, const char *fmt, ...)
{
    char message[256];
    struct text safe = {0};
    va_list args;
    if (!err)
        return code;
    va_start(args, fmt);
    int n = vsnprintf(message, sizeof message, fmt, args);
    va_end(args);
    text_safe(&safe, message, n > 0 ? strlen(message) : 0); /* there may be any bytes in what people wrote */
    err->code = code;
    snprintf(err->message, sizeof err->message, "%s", safe.p ? safe.p : "");
    text_free(&safe);
    return code;
}

static bool time_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* Days since 1970-01-01 (Howard Hinnant's days_from_civil). */
static int64_t time_days(int64_t year, int64_t month, int64_t day)
{
    int64_t y = month <= 2 ? year - 1 : year;
    int64_t era = y / 400, of_era = y % 400;
    int64_t of_year = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1;

    return era * 146097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719468;
}

static int64_t time_month_days(int64_t year, int64_t month)
{
    static const int8_t days[12] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    bool leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);

    return days[month - 1] + (month == 2 && leap ? 1 : 0);
}

/* Exactly `digits` digits with a value of low..high, then the character `then` (0: whatever follows). */
static bool time_field(const char **p, int digits, int64_t low, int64_t high, char then, int64_t *out)
{
    *out = 0;
    for (int i = 0; i < digits; i++, (*p)++) {
        if (!time_digit(**p))
            return false;
        *out = *out * 10 + (**p - '0');
    }
    if (*out < low || *out > high)
        return false;
    if (!then)
        return true;
    return *(*p)++ == then;
}

/* ".5": at most nine digits are read, those beyond microseconds dropped. */
static bool time_fraction(const char **p, int64_t *us)
{
    int64_t scale = 100000;
    int digits = 0;

    *us = 0;
    if (**p != '.')
        return true;
    for ((*p)++; time_digit(**p); (*p)++, digits++) {
        *us += (**p - '0') * scale;
        scale /= 10;
    }
    return digits >= 1 && digits <= 9;
}

/* "Z", "+02:00", "-05:30" or nothing, up to the end of the text. */
static bool time_zone(const char **p, int64_t *offset_us)
{
    int64_t hours, minutes;
    char sign = **p;

    *offset_us = 0;
    if (sign == 'Z')
        (*p)++;
    if (sign == '+' || sign == '-') {
        (*p)++;
        if (!time_field(p, 2, 0, 23, ':', &hours) || !time_field(p, 2, 0, 59, 0, &minutes))
            return false;
        *offset_us = (NQ_HOURS(hours) + NQ_MINUTES(minutes)) * (sign == '-' ? -1 : 1);
    }
    return **p == '\0';
}

/* YYYY-MM-DD[THH:MM[:SS[.f]][zone]]; may lie outside the range by its offset. */
static bool time_calendar(const char *p, int64_t *us)
{
    int64_t year, month, day, hour, minute, second = 0, fraction = 0, offset;

    if (!time_field(&p, 4, 1970, 9999, '-', &year) || !time_field(&p, 2, 1, 12, '-', &month) ||
        !time_field(&p, 2, 1, time_month_days(year, month), 0, &day))
        return false;
    *us = time_days(year, month, day) * TIME_DAY_US;
    if (*p == '\0')
        return true;
    if (*p != 'T' && *p != ' ')
        return false;
    p++;
    if (!time_field(&p, 2, 0, 23, ':', &hour) || !time_field(&p, 2, 0, 59, 0, &minute))
        return false;
    if (*p == ':') {
        p++;
        if (!time_field(&p, 2, 0, 59, 0, &second) || !time_fraction(&p, &fraction))
            return false;
    }
    if (!time_zone(&p, &offset))
        return false;
    *us += NQ_HOURS(hour) + NQ_MINUTES(minute) + NQ_SECONDS(second) + fraction - offset;
    return true;
}

/* "@SECONDS" */
static bool time_epoch(const char *p, int64_t *us)
{
    int64_t seconds = 0;

    if (!time_digit(*p))
        return false;
    for (; time_digit(*p); p++)
        if (seconds <= TIME_MAX_TIME / 1000000)
            seconds = seconds * 10 + (*p - '0');
    *us = seconds > TIME_MAX_TIME / 1000000 ? INT64_MAX : NQ_SECONDS(seconds);
    return *p == '\0';
}

int cli_parse_time(const char *text, int64_t *us, nq_err *err)
{
    int64_t at = 0;
    bool good;

    if (!text || !*text)
        return time_fault(err, NQ_EINVAL, "the time is empty: " TIME_FORMS);
    good = *text == '@' ? time_epoch(text + 1, &at) : time_calendar(text, &at);
    if (!good)
        return time_fault(err, NQ_EINVAL, "time '%.40s': " TIME_FORMS, text);
    if (at < 0 || at > TIME_MAX_TIME)
        return time_fault(err, NQ_EINVAL, "time '%.40s': allowed are the years 1970 to 9999 (UTC)", text);
    *us = at;
    return NQ_OK;
}
