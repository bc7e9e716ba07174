/* SPDX-License-Identifier: MIT */
/* Durations and points in time as text. */
#include "zone.h"

#define DURATION_DAY_US   ((int64_t)86400 * 1000000)
#define DURATION_MAX_TIME ((int64_t)253402300799999999) /* 9999-12-31T23:59:59.999999Z */
#define DURATION_HELP     "allowed are numbers with ms, s, m, h or d (250ms, 5s, 1.5h, 1h30m), or plain seconds"

static bool duration_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* ---- Durations ---- */

/* "1.5": whole 1, millionths 500000. A whole beyond any duration stays at NQ_MAX_DURATION + 1. NULL: no
 * number. */
static const char *duration_number(const char *p, int64_t *whole, int64_t *millionths)
{
    int64_t scale = 100000;

    *whole = *millionths = 0;
    if (!duration_digit(*p))
        return NULL;
    for (; duration_digit(*p); p++)
        *whole = *whole > NQ_MAX_DURATION / 10 ? NQ_MAX_DURATION + 1 : *whole * 10 + (*p - '0');
    if (*p != '.')
        return p;
    p++;
    if (!duration_digit(*p))
        return NULL;
    for (; duration_digit(*p); p++) {
        if (scale == 0)
            return NULL; /* a seventh decimal */
        *millionths += (*p - '0') * scale;
        scale /= 10;
    }
    return p;
}

static const char *duration_unit(const char *p, int64_t *us)
{
    if (p[0] == 'm' && p[1] == 's') {
        *us = NQ_MS(1);
        return p + 2;
    }
    switch (*p) {
    case 's':
        *us = NQ_SECONDS(1);
        break;
    case 'm':
        *us = NQ_MINUTES(1);
        break;
    case 'h':
        *us = NQ_HOURS(1);
        break;
    case 'd':
        *us = NQ_DAYS(1);
        break;
    default:
        return NULL;
    }
    return p + 1;
}

int nq_parse_duration(const char *text, int64_t *us, nq_err *err)
{
    int64_t total = 0, whole, millionths, unit, unit_before = INT64_MAX;
    const char *p = text;

    if (!text || !*text)
        return nq_err_set(err, NQ_EINVAL, "the duration is empty: " DURATION_HELP);
    if (*text == '-')
        return nq_err_set(err, NQ_EINVAL, "duration '%.40s': it must not be negative", text);
    while (*p) {
        p = duration_number(p, &whole, &millionths);
        if (p && !*p && unit_before == INT64_MAX)
            unit = NQ_SECONDS(1); /* the whole text is one number */
        else if (!p || !(p = duration_unit(p, &unit)) || unit >= unit_before)
            return nq_err_set(err, NQ_EINVAL, "duration '%.40s': " DURATION_HELP, text);
        unit_before = unit;
        if (whole > NQ_MAX_DURATION / unit ||
            (total += whole * unit + millionths * unit / 1000000) > NQ_MAX_DURATION)
            return nq_err_set(err, NQ_EINVAL, "duration '%.40s': at most 3650d are allowed", text);
    }
    *us = total;
    return NQ_OK;
}

/* ---- Points in time: the Gregorian calendar by arithmetic, as libc's would ask for the time zone ---- */

/* Howard Hinnant's days_from_civil and civil_from_days. */
NQ_PRIVATE int64_t nq_days_from_civil(int64_t year, int64_t month, int64_t day)
{
    const int64_t y = month <= 2 ? year - 1 : year;
    const int64_t era = nq_floor_div(y, 400), of_era = y - era * 400;
    const int64_t of_year = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1;
    return era * 146097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719468;
}

NQ_PRIVATE void nq_civil_from_days(int64_t days, int64_t *year, int *month, int *day)
{
    const int64_t era = nq_floor_div(days + 719468, 146097), of_era = days + 719468 - era * 146097;
    const int64_t y = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
    const int64_t of_year = of_era - (365 * y + y / 4 - y / 100), m = (5 * of_year + 2) / 153;
    *day = (int)(of_year - (153 * m + 2) / 5 + 1);
    *month = (int)(m < 10 ? m + 3 : m - 9);
    *year = y + era * 400 + (*month <= 2);
}

static void duration_put(char *out, int64_t value, int digits)
{
    for (int i = digits - 1; i >= 0; i--, value /= 10)
        out[i] = (char)('0' + value % 10);
}

void nq_format_time(int64_t us, char out[28])
{
    int64_t year;
    int month, day;

    us = us < 0 ? 0 : us > DURATION_MAX_TIME ? DURATION_MAX_TIME : us;
    const int64_t rest = us % DURATION_DAY_US;
    nq_civil_from_days(us / DURATION_DAY_US, &year, &month, &day);
    memcpy(out, "0000-00-00T00:00:00.000000Z", 28);
    duration_put(out, year, 4);
    duration_put(out + 5, month, 2);
    duration_put(out + 8, day, 2);
    duration_put(out + 11, rest / NQ_HOURS(1), 2);
    duration_put(out + 14, rest / NQ_MINUTES(1) % 60, 2);
    duration_put(out + 17, rest / NQ_SECONDS(1) % 60, 2);
    duration_put(out + 20, rest % 1000000, 6);
}
