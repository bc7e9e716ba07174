/* SPDX-License-Identifier: MIT */
/* The calendar, time zones and the specs of schedules: all in seconds since 1970, no global state. */
#ifndef NQ_CORE_ZONE_H
#define NQ_CORE_ZONE_H

#include <sys/stat.h>

#include "core.h"

/* ---- duration.c -- The Gregorian calendar, for any year. */
static inline int64_t nq_floor_div(int64_t a, int64_t b)
{
    return a / b - (a % b < 0);
}
/* 0: Sunday. */
static inline int nq_weekday(int64_t days)
{
    return (int)((days % 7 + 11) % 7);
}
NQ_PRIVATE int64_t nq_days_from_civil(int64_t year, int64_t month, int64_t day);
NQ_PRIVATE void nq_civil_from_days(int64_t days, int64_t *year, int *month, int *day);

/* ---- zone.c */

struct nq_zone_rule {
    enum { NQ_ZONE_DAY, NQ_ZONE_JULIAN, NQ_ZONE_WEEKDAY } kind;
    int month, week, day;
    int32_t at; /* seconds of that day, local */
};
/* {0} is UTC. */
typedef struct nq_zone {
    size_t n;
    struct nq_zone_change {
        int64_t utc;
        int32_t offset; /* holds from then on */
    } * at;
    int32_t first;                  /* the offset before at[0] */
    bool has_rule, has_dst;         /* what holds behind the last of them: */
    int32_t std, dst;               /* its offsets, */
    struct nq_zone_rule start, end; /* and when dst does */
} nq_zone;
/* Read the zone of this name, from TZDIR or the system's directory; NULL, "" and "UTC" need no file.
 * NQ_EINVAL: there is none of this name, or it cannot be used; NQ_ESYSTEM: the system has none at all. Free
 * it with nq_zone_free. */
NQ_PRIVATE int nq_zone_load(nq_zone *z, const char *name, nq_err *err);
/* The same of the bytes of a file, which may be any. */
NQ_PRIVATE int nq_zone_parse(nq_zone *z, const void *bytes, size_t n, nq_err *err);
NQ_PRIVATE void nq_zone_free(nq_zone *z);
/* When its file was changed, in microseconds; 0: it has none. */
NQ_PRIVATE int64_t nq_zone_changed(const char *name);
/* How far local time is ahead of UTC. */
NQ_PRIVATE int32_t nq_zone_offset(const nq_zone *z, int64_t utc);
/* The first instant with this local time; where there is none, the first one behind the gap. */
NQ_PRIVATE int64_t nq_zone_utc(const nq_zone *z, int64_t local);

/* ---- cron.c */

#define NQ_MAX_SPEC 255 /* bytes of a spec */
typedef struct nq_cron {
    int64_t every_us; /* "@every": nothing else holds; else 0 */
    uint64_t minutes;
    uint32_t hours, days, months, weekdays;
    bool any_day, any_weekday; /* began with a star: both must fit then, else either */
    bool elapsed;              /* every hour: runs by elapsed time */
} nq_cron;
NQ_PRIVATE int nq_cron_parse(nq_cron *c, const char *spec, nq_err *err);
/* The first time after that; INT64_MAX: none in 40 years. Both from 0 to the year 9999, in microseconds. */
NQ_PRIVATE int64_t nq_cron_after(const nq_cron *c, const nq_zone *z, int64_t after_us);

/* ---- times.c */

/* The first time after that which is not before starts_us; "@every" begins there. INT64_MAX: none up to 9999.
 */
NQ_PRIVATE int64_t nq_cron_first(const nq_cron *c, const nq_zone *z, int64_t after_us, int64_t starts_us);
/* The times from due, which counts as one, up to now: of more than max the last ones, in their order.
 * *next: the first after now; INT64_MAX: none. due <= now, max > 0. */
NQ_PRIVATE size_t nq_cron_past(const nq_cron *c, const nq_zone *z, int64_t due, int64_t now, int64_t out[],
                               size_t max, int64_t *next);

#endif
