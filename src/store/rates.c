/* SPDX-License-Identifier: MIT */
/* Rates in a claim: what the rows of the gates leave to be claimed, and when each task starts. */
#include "groups.h"

/*
 * A claim takes tokens of a rate in its own transaction, behind the lock of the gate: so those of a claim
 * that is rolled back were never taken. Each task gets a time to start at, by the database's clock, not
 * before the claim will probably have been made; the worker starts it then, by our clock.
 */
#define RATES_AHEAD_US NQ_MS(2) /* of a first claim, until its tasks are there */
/* What a gate said is asked for again after so long: rows may be changed by hand, holds be taken back. */
#define RATES_LONGEST_US NQ_SECONDS(1)

NQ_PLUG_IN void nq_gate_clock_read(nq_gate_clock *c, int64_t before_us, int64_t now_us, int64_t after_us)
{
    nq_clock_offset(&c->offset_us, &c->known, before_us, now_us, after_us);
    if (c->ahead_us == 0)
        c->ahead_us = RATES_AHEAD_US;
    c->now_us = now_us;
    c->raced = false;
    c->from_us = now_us + c->offset_us;
}

NQ_PRIVATE void nq_gate_clock_made(nq_gate_clock *c)
{
    if (c->from_us == 0)
        return; /* it asked no clock */
    /* One that took very long says little of the next one. */
    const int64_t most = 4 * c->ahead_us + NQ_MS(5), since = nq_mono_us() - c->from_us;
    const int64_t took = since < 0 ? 0 : since > most ? most : since;
    c->ahead_us += took > c->ahead_us ? (took - c->ahead_us) / 2 : (took - c->ahead_us) / 8;
    c->ahead_us = c->ahead_us < NQ_RATE_AHEAD_US ? c->ahead_us : NQ_RATE_AHEAD_US;
}

static int64_t rates_opens(const nq_gate_clock *c, int64_t wait_us)
{
    return c->from_us + (wait_us < RATES_LONGEST_US ? wait_us : RATES_LONGEST_US);
}

NQ_PLUG_IN void nq_bucket_open(nq_bucket *b, const nq_rate *rate, const nq_gate_clock *c, int64_t tat_ns,
                               int64_t not_before_us, size_t *room)
{
    *b = (nq_bucket){.rate = *rate, .tat_ns = tat_ns, .there = true, .at_us = c->now_us + c->ahead_us};
    if (not_before_us > c->now_us) {
        *room = 0;
        b->opens_us = rates_opens(c, nq_us_since(not_before_us, c->now_us));
    } else if (rate->every_ns > 0 && *room > 0) {
        b->tokens = nq_rate_tokens(rate, tat_ns, b->at_us, *room);
        *room = b->tokens.n;
        b->opens_us = b->tokens.n == 0 ? rates_opens(c, b->tokens.wait_us) : 0;
    }
}

NQ_PLUG_IN void nq_bucket_shut(nq_bucket *b, const nq_gate_clock *c, int64_t until_us)
{
    const int64_t in = nq_us_since(until_us, c->now_us);
    b->opens_us = rates_opens(c, in);
    b->shut_us = until_us == INT64_MAX || in > INT64_MAX - c->from_us ? INT64_MAX : c->from_us + in;
}

NQ_PRIVATE int64_t nq_bucket_opens(const nq_bucket *b, const nq_gate_clock *c)
{
    if (b->taken == 0)
        return b->opens_us;
    const nq_tokens next = nq_rate_tokens(&b->rate, nq_bucket_tat(b), b->at_us, SIZE_MAX);
    return next.n > 0 ? 0 : rates_opens(c, next.wait_us);
}

NQ_PRIVATE int64_t nq_bucket_tat(const nq_bucket *b)
{
    return nq_rate_next(&b->rate, &b->tokens, b->taken);
}

/* The time of its next token. */
static int64_t rates_take(nq_bucket *b)
{
    return nq_rate_start(&b->rate, &b->tokens, b->taken++, b->at_us);
}

/* How far behind its time a start may come. In any second at most the rate and a twentieth start, so that
 * nothing may wait for longer than a twentieth of a second where several start in one; and where few do, a
 * twentieth of the time between two of them, for a start that is lost there is a long pause. */
static int64_t rates_late(const nq_rate *rate)
{
    const int64_t us = rate->every_ns / 1000 / 20;
    return us > NQ_PACE_LATE_US ? us : NQ_PACE_LATE_US;
}

NQ_PLUG_IN void nq_gate_assign(const nq_gate *g, const nq_turn turns[], size_t n, nq_claimed *list)
{
    size_t at = 0;
    for (nq_claimed *k = list; k; k = k->next) {
        int64_t late = INT64_MAX, last = 0;
        for (size_t tried = 0; tried < n && !nq_turn_is_of(&turns[at], k); tried++)
            at = (at + 1) % n;
        nq_bucket *const buckets[] = {g->rate.every_ns > 0 ? g->bucket : NULL,
                                      turns[at].rate.every_ns > 0 ? turns[at].bucket : NULL};
        for (size_t i = 0; i < 2; i++)
            if (buckets[i]) {
                const int64_t us = rates_take(buckets[i]);
                const int64_t until = us + rates_late(&buckets[i]->rate);
                late = until < late ? until : late;
                last = us > last ? us : last;
            }
        if (last > 0) {
            k->start_us = last + g->clock->offset_us;
            k->late_us = late + g->clock->offset_us;
        }
    }
}
