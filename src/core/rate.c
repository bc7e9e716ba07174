/* SPDX-License-Identifier: MIT */
/* Rates: at what times how many tasks may start. */
#include "core.h"

/*
 * GCRA, the generic cell rate algorithm of ATM (I.371), in its form of virtual scheduling. All that is kept
 * is the theoretical time of the next start, `tat`. Starts have times of their own, one interval apart; one
 * may be taken when it is at most burst - 1 intervals before the present, so that a quiet time gives a burst,
 * and a horizon ahead of it, so that one claim brings what starts one by one in the next moments.
 *
 * What starts between two times is at most what has its time between them, one burst before included: rate
 * times window, and the burst. That holds whatever the order in which claims take their tokens.
 */

/* The latest present, of the year 2223: ten years behind it an int64_t of nanoseconds holds still. */
#define RATE_MAX_US INT64_C(8000000000000000)
/* A rate without a burst of its own lets start at once what it would in this time. */
#define RATE_BURST_NS INT64_C(50000000)

NQ_PRIVATE nq_rate nq_rate_of(int64_t rate, int64_t rate_us, int64_t burst)
{
    nq_rate r = {0, 1};
    if (rate < 1 || rate_us < 1)
        return r;
    if (rate_us > NQ_MAX_DURATION)
        rate_us = NQ_MAX_DURATION;
    /* rounded up: rather too slow by a part of a nanosecond than too fast */
    r.every_ns = rate_us * 1000 / rate + (rate_us * 1000 % rate != 0);
    r.burst = burst > 0 ? burst : RATE_BURST_NS / r.every_ns;
    r.burst = r.burst < 1 ? 1 : r.burst > NQ_RATE_MAX_BURST ? NQ_RATE_MAX_BURST : r.burst;
    return r;
}

static int64_t rate_ns(int64_t us)
{
    return (us < 0 ? 0 : us > RATE_MAX_US ? RATE_MAX_US : us) * 1000;
}

/* What the quiet time before gives: the earliest time that a start may have now. */
static int64_t rate_floor(const nq_rate *r, int64_t now)
{
    return (r->burst - 1) > now / r->every_ns ? 0 : now - (r->burst - 1) * r->every_ns;
}

/* No claim under this rate leaves a later one. One that is there all the same is of a slower rate before, of
 * a clock that was set back, or of whoever writes to the table: it would hold the queue, perhaps for ever. */
static bool rate_is_strange(const nq_rate *r, int64_t tat, int64_t now)
{
    return tat > now + r->every_ns + NQ_RATE_AHEAD_US * 1000 + NQ_RATE_HORIZON_US * 1000;
}

NQ_PRIVATE nq_tokens nq_rate_tokens(const nq_rate *r, int64_t tat_ns, int64_t now_us, size_t most)
{
    const int64_t now = rate_ns(now_us), horizon = NQ_RATE_HORIZON_US * 1000, earliest = rate_floor(r, now);
    const int64_t tat = rate_is_strange(r, tat_ns, now) ? now : tat_ns;
    nq_tokens t = {.first_ns = tat > earliest ? tat : earliest};
    const uint64_t asked = most;
    const int64_t most_ns = asked < INT64_MAX ? (int64_t)asked : INT64_MAX;
    const int64_t there = now + horizon < t.first_ns ? 0 : (now + horizon - t.first_ns) / r->every_ns + 1;
    /* A few at a time are not worth a claim, but what could start now is not kept waiting. */
    int64_t worth = horizon / 2 / r->every_ns;
    worth = worth > most_ns ? most_ns : worth;
    worth = worth < 1 ? 1 : worth;
    if (there >= worth || (there > 0 && t.first_ns <= now)) {
        t.n = (size_t)(there < most_ns ? there : most_ns);
        return t;
    }
    t.wait_us = (t.first_ns + (worth - 1) * r->every_ns - horizon - now) / 1000 + 1;
    return t;
}

NQ_PRIVATE int64_t nq_rate_start(const nq_rate *r, const nq_tokens *t, size_t i, int64_t now_us)
{
    const int64_t at = (t->first_ns + (int64_t)i * r->every_ns) / 1000;
    return at > now_us ? at : now_us;
}

NQ_PRIVATE int64_t nq_rate_next(const nq_rate *r, const nq_tokens *t, size_t taken)
{
    return t->first_ns + (int64_t)taken * r->every_ns;
}

NQ_PRIVATE int64_t nq_rate_left(const nq_rate *r, int64_t tat_ns, int64_t now_us)
{
    const int64_t now = rate_ns(now_us), earliest = rate_floor(r, now);
    const int64_t tat = rate_is_strange(r, tat_ns, now) ? now : tat_ns > earliest ? tat_ns : earliest;
    return tat > now ? 0 : (now - tat) / r->every_ns + 1;
}

NQ_PRIVATE void nq_clock_offset(int64_t *offset_us, bool *known, int64_t before_us, int64_t theirs_us,
                                int64_t after_us)
{
    const int64_t least = before_us - theirs_us, most = after_us - theirs_us;
    if (!*known || *offset_us > most)
        *offset_us = most;
    else if (*offset_us < least)
        *offset_us = least;
    *known = true;
}
