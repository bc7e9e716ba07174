/* SPDX-License-Identifier: MIT */
/* The specs of schedules: five fields as cron has them, @hourly and its like, @every. */
#include <stdio.h>

#include "zone.h"

#define CRON_DAY         ((int64_t)86400)
#define CRON_YEARS       40 /* a 29 February of one weekday comes every 28, or 40 over a year such as 2100 */
#define CRON_EVERY_LEAST NQ_MS(100)
#define CRON_LAST        ((int64_t)253402300799) /* 9999-12-31T23:59:59 */
#define CRON_HELP                                                                                            \
    "five fields (minute hour day month weekday), @hourly, @daily, @weekly, @monthly, @yearly or @every 90s"

/* ---- Reading a spec ---- */

struct cron_field {
    const char *name;
    int low, high;
    const char *words; /* three letters for each value from low on */
    const char *help;
};
static const struct cron_field cron_fields[] = {
    {"minute", 0, 59, NULL, "0-59"},
    {"hour", 0, 23, NULL, "0-23"},
    {"day", 1, 31, NULL, "1-31"},
    {"month", 1, 12, "janfebmaraprmayjunjulaugsepoctnovdec", "1-12 or jan-dec"},
    {"weekday", 0, 7, "sunmontuewedthufrisat", "0-7 or sun-sat (0 and 7 are Sunday)"},
};
#define CRON_FIELDS (sizeof cron_fields / sizeof *cron_fields)

static bool cron_blank(char c)
{
    return c == ' ' || c == '\t';
}

static char cron_lower(char c)
{
    return (char)(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
}

static const char *cron_number(const char *p, int *out)
{
    int n = 0;
    const char *start = p;
    for (; *p >= '0' && *p <= '9' && p - start < 4; p++)
        n = n * 10 + (*p - '0');
    *out = n;
    return p > start ? p : NULL;
}

/* A number or a name; NULL: it is none of this field. */
static const char *cron_value(const struct cron_field *f, const char *p, int *out)
{
    if (*p >= '0' && *p <= '9') {
        p = cron_number(p, out);
        return p && *out >= f->low && *out <= f->high ? p : NULL;
    }
    for (int i = 0; f->words && f->words[(ptrdiff_t)3 * i]; i++) {
        const char *word = f->words + (ptrdiff_t)3 * i;
        if (cron_lower(p[0]) == word[0] && cron_lower(p[1]) == word[1] && cron_lower(p[2]) == word[2]) {
            *out = i + f->low;
            return p + 3;
        }
    }
    return NULL;
}

/* One of the list: a star, a value or a range, and perhaps a step; NULL: it is none. */
static const char *cron_item(const struct cron_field *f, const char *p, uint64_t *mask)
{
    int from = f->low, to = f->high, step = 1;
    bool one = false;
    if (*p == '*') {
        p++;
    } else {
        p = cron_value(f, p, &from);
        to = from;
        one = p && *p != '-';
        if (p && *p == '-' && (p = cron_value(f, p + 1, &to)) && to == 0 && from > 0 && f->high == 7)
            to = 7; /* fri-sun */
    }
    if (p && *p == '/') {
        p = cron_number(p + 1, &step);
        if (one)
            to = f->high; /* 5/15: from 5 on */
    }
    if (!p || to < from || step < 1)
        return NULL;
    for (int i = from; i <= to; i += step)
        *mask |= (uint64_t)1 << i;
    return p;
}

static int cron_bad(const char *spec, nq_err *err, const char *what)
{
    char shown[NQ_MAX_SPEC + 1];
    nq_printable(shown, 100, spec, strnlen(spec, NQ_MAX_SPEC));
    return nq_err_set(err, NQ_EINVAL, "schedule '%s': %s", shown, what);
}

static int cron_field_read(const char *spec, const struct cron_field *f, const char **at, uint64_t *mask,
                           nq_err *err)
{
    char what[200], shown[48];
    const char *p = *at;
    *mask = 0;
    for (;;) {
        p = cron_item(f, p, mask);
        if (!p || *p != ',')
            break;
        p++;
    }
    if (p && (cron_blank(*p) || *p == '\0')) {
        *at = p + strspn(p, " \t");
        return NQ_OK;
    }
    nq_printable(shown, sizeof shown, *at, strcspn(*at, " \t"));
    if (**at == '\0')
        snprintf(what, sizeof what, "the %s is missing; allowed are " CRON_HELP, f->name);
    else
        snprintf(what, sizeof what,
                 "the %s is '%s'; allowed are *, %s, ranges, lists and steps: *, 1-5, 0,30, */10", f->name,
                 shown, f->help);
    return cron_bad(spec, err, what);
}

static int cron_every(nq_cron *c, const char *spec, const char *text, nq_err *err)
{
    nq_err why = {0};
    int64_t us = 0;
    if (nq_parse_duration(text, &us, &why) != NQ_OK)
        return cron_bad(spec, err, why.message);
    if (us < CRON_EVERY_LEAST)
        return cron_bad(spec, err, "@every is of 100ms at least");
    c->every_us = us;
    return NQ_OK;
}

/* "@hourly" as the five fields that it stands for. */
static int cron_word(nq_cron *c, const char *spec, const char *word, const char **fields, nq_err *err)
{
    static const char *const words[][2] = {
        {"@yearly", "0 0 1 1 *"}, {"@annually", "0 0 1 1 *"}, {"@monthly", "0 0 1 * *"},
        {"@weekly", "0 0 * * 0"}, {"@daily", "0 0 * * *"},    {"@midnight", "0 0 * * *"},
        {"@hourly", "0 * * * *"},
    };
    const size_t n = strcspn(word, " \t"), behind = n + strspn(word + n, " \t");
    if (n == 6 && strncmp(word, "@every", 6) == 0)
        return cron_every(c, spec, word + behind, err);
    if (n == 7 && strncmp(word, "@reboot", 7) == 0)
        return cron_bad(spec, err, "@reboot is no time: add a task where the machine starts");
    for (size_t i = 0; i < sizeof words / sizeof *words && word[behind] == '\0'; i++)
        if (strlen(words[i][0]) == n && strncmp(word, words[i][0], n) == 0) {
            *fields = words[i][1];
            return NQ_OK;
        }
    return cron_bad(spec, err, "allowed are " CRON_HELP);
}

NQ_PRIVATE int nq_cron_parse(nq_cron *c, const char *spec, nq_err *err)
{
    uint64_t mask[CRON_FIELDS] = {0};
    bool star[CRON_FIELDS] = {0};
    nq_cron out = {0};
    if (!spec || !*spec)
        return nq_err_set(err, NQ_EINVAL, "the schedule is empty; allowed are " CRON_HELP);
    if (strnlen(spec, NQ_MAX_SPEC + 1) > NQ_MAX_SPEC)
        return cron_bad(spec, err, "it has more than 255 bytes");
    const char *p = spec + strspn(spec, " \t");
    int rc = *p == '@' ? cron_word(&out, spec, p, &p, err) : NQ_OK;
    for (size_t i = 0; i < CRON_FIELDS && rc == NQ_OK && !out.every_us; i++) {
        star[i] = *p == '*';
        rc = cron_field_read(spec, &cron_fields[i], &p, &mask[i], err);
    }
    if (rc != NQ_OK)
        return rc;
    if (!out.every_us) {
        if (*p != '\0')
            return cron_bad(spec, err,
                            "there is something behind the five fields (seconds and years have none)");
        out.minutes = mask[0];
        out.hours = (uint32_t)mask[1];
        out.days = (uint32_t)mask[2];
        out.months = (uint32_t)mask[3];
        out.weekdays = (uint32_t)((mask[4] | mask[4] >> 7) & 0x7f);
        out.any_day = star[2];
        out.any_weekday = star[4];
        out.elapsed = out.hours == 0xffffff;
    }
    *c = out;
    return NQ_OK;
}

/* ---- When it comes ---- */

static bool cron_day_fits(const nq_cron *c, int64_t days)
{
    int64_t year;
    int month, day;
    nq_civil_from_days(days, &year, &month, &day);
    if (!(c->months >> month & 1))
        return false;
    const bool of_month = c->days >> day & 1, of_week = c->weekdays >> nq_weekday(days) & 1;
    return c->any_day || c->any_weekday ? of_month && of_week : of_month || of_week;
}

/* Every hour: the minutes of local time as they come, those of a repeated hour twice. */
static int64_t cron_by_elapsed(const nq_cron *c, const nq_zone *z, int64_t after, int64_t end)
{
    for (int64_t t = after + 1; t < end;) {
        const int64_t local = t + nq_zone_offset(z, t), days = nq_floor_div(local, CRON_DAY);
        const int64_t second = local - days * CRON_DAY;
        if (!cron_day_fits(c, days)) {
            const int64_t next = nq_zone_utc(z, (days + 1) * CRON_DAY);
            t = next > t ? next : t + 60;
        } else if (second % 60 != 0) {
            t += 60 - second % 60;
        } else if (c->minutes >> (second / 60 % 60) & 1) {
            return t;
        } else {
            t += 60;
        }
    }
    return INT64_MAX;
}

/* Of some hours: the times of the wall's clock, each once. */
static int64_t cron_by_clock(const nq_cron *c, const nq_zone *z, int64_t after, int64_t end)
{
    for (int64_t day = nq_floor_div(after + nq_zone_offset(z, after), CRON_DAY) - 1; day * CRON_DAY < end;
         day++) {
        if (!cron_day_fits(c, day))
            continue;
        for (int minute = 0; minute < 24 * 60; minute++) {
            if (!(c->hours >> (minute / 60) & 1) || !(c->minutes >> (minute % 60) & 1))
                continue;
            const int64_t t = nq_zone_utc(z, day * CRON_DAY + (int64_t)minute * 60);
            if (t > after)
                return t;
        }
    }
    return INT64_MAX;
}

NQ_PRIVATE int64_t nq_cron_after(const nq_cron *c, const nq_zone *z, int64_t after_us)
{
    if (c->every_us)
        return after_us + c->every_us;
    const int64_t after = nq_floor_div(after_us, 1000000), end = after + CRON_DAY * 366 * CRON_YEARS;
    const int64_t t = c->elapsed ? cron_by_elapsed(c, z, after, end) : cron_by_clock(c, z, after, end);
    return t == INT64_MAX ? t : t * 1000000;
}

NQ_API int nq_cron_next(const char *spec, const char *zone, int64_t after_us, int64_t *next_us, nq_err *err)
{
    nq_cron c = {0}; /* gcc at -O3 does not see that the calls fill them */
    nq_zone z = {0};
    if (after_us < 0 || after_us / 1000000 > CRON_LAST)
        return nq_err_set(err, NQ_EINVAL, "after_us is %lld; allowed are times from 1970 to 9999",
                          (long long)after_us);
    if (!next_us)
        return nq_err_set(err, NQ_EINVAL, "next_us is NULL");
    int rc = nq_cron_parse(&c, spec, err);
    if (rc != NQ_OK || (rc = nq_zone_load(&z, zone, err)) != NQ_OK)
        return rc;
    const int64_t next = nq_cron_after(&c, &z, after_us);
    nq_zone_free(&z);
    if (next == INT64_MAX)
        return cron_bad(spec, err, "it never comes");
    *next_us = next;
    return NQ_OK;
}
