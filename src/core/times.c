/* SPDX-License-Identifier: MIT */
/* The times of a schedule that are past. */
#include "zone.h"

#define TIMES_LAST INT64_C(253402300799999999) /* 9999-12-31T23:59:59.999999Z */

NQ_PRIVATE int64_t nq_cron_first(const nq_cron *c, const nq_zone *z, int64_t after_us, int64_t starts_us)
{
    const int64_t from = starts_us > after_us ? starts_us - 1 : after_us;
    if (c->every_us && starts_us > after_us)
        return starts_us;
    const int64_t next = from < 0 || from > TIMES_LAST ? INT64_MAX : nq_cron_after(c, z, from);
    return next > TIMES_LAST ? INT64_MAX : next;
}

/* Of "@every" it is a calculation: there may be millions. */
static size_t times_every(int64_t every, int64_t due, int64_t now, int64_t out[], size_t max, int64_t *next)
{
    const int64_t all = (now - due) / every + 1;
    const size_t n = (uint64_t)all < max ? (size_t)all : max;
    for (size_t i = 0; i < n; i++)
        out[i] = due + (all - (int64_t)(n - i)) * every;
    *next = due + all * every;
    return n;
}

/* The last of those behind `from`, up to now: as a ring, that begins at *first. */
static size_t times_behind(const nq_cron *c, const nq_zone *z, int64_t from, int64_t now, int64_t out[],
                           size_t max, size_t *first)
{
    size_t n = 0;
    for (int64_t t = nq_cron_after(c, z, from); t <= now; t = nq_cron_after(c, z, t))
        out[n++ % max] = t;
    *first = n > max ? n % max : 0;
    return n < max ? n : max;
}

static void times_reverse(int64_t v[], size_t from, size_t to)
{
    for (; from + 1 < to; from++, to--) {
        const int64_t t = v[from];
        v[from] = v[to - 1];
        v[to - 1] = t;
    }
}

NQ_PRIVATE size_t nq_cron_past(const nq_cron *c, const nq_zone *z, int64_t due, int64_t now, int64_t out[],
                               size_t max, int64_t *next)
{
    size_t n = 0, first = 0;
    if (c->every_us) {
        n = times_every(c->every_us, due, now, out, max, next);
        *next = *next > TIMES_LAST ? INT64_MAX : *next;
        return n;
    }
    /* From the end, so that years of minutes cost no more than those that are wanted. */
    for (int64_t back = NQ_HOURS(1);; back *= 2) {
        const bool all = back >= now - due;
        n = times_behind(c, z, all ? due : now - back, now, out, max, &first);
        if (n == max) { /* turn the ring so that its first is at 0 */
            times_reverse(out, 0, first);
            times_reverse(out, first, n);
            times_reverse(out, 0, n);
            break;
        }
        if (all) { /* due itself may be any time: plain SQL may have written it */
            memmove(out + 1, out, n * sizeof *out);
            out[0] = due;
            n++;
            break;
        }
    }
    *next = nq_cron_first(c, z, now, 0);
    return n;
}
