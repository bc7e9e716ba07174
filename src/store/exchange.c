/* SPDX-License-Identifier: MIT */
/* Under a limit: a claim that takes the places of tasks that end in its own transaction. */
#include "groups.h"

/*
 * A claim under a limit counts what runs, behind the lock of a gate. A transaction that ends k tasks of a
 * queue and claims no more than k of it needs neither: whoever counts sees all of it or nothing, and the same
 * number. So a busy worker hands each place on for the price of a claim without a limit.
 *
 * What really ended is known when the completions have been made: a lease may have been lost, and its place
 * with it. Then the claim takes nothing, and the next one counts.
 *
 * Not on Galera, where a node has been seen to end a transaction between two statements and to run the next
 * one as one of its own: the claim without the completions.
 *
 * It would never make fewer run, so a limit that was lowered would not be reached. So only a worker exchanges
 * that has counted under the settings it knows, just now, and found room; and the next claim that has nothing
 * to exchange counts again.
 */
#define EXCHANGE_US NQ_MS(250) /* for so long after it has counted */

/* How many of these are of the queue, or of a group of it; recorded: and have ended. */
static size_t exchange_count(const nq_piggyback *p, const char *queue, bool recorded)
{
    size_t n = 0;
    for (size_t i = 0; p && i < p->n; i++) {
        const nq_outcome *out = p->outcomes[i];
        n += out->queue && strcmp(out->queue, queue) == 0 && (!recorded || out->result == NQ_OK);
    }
    return n;
}

NQ_PLUG_IN bool nq_claim_may(const nq_claim_args *a)
{
    return !a->exchange || exchange_count(a->piggyback, a->exchange, true) >= a->limit;
}

NQ_PRIVATE void nq_exchange_counted(nq_exchange *e, const nq_settings *settings, size_t room, size_t wanted)
{
    e->full = room < wanted;
    e->settings = settings->hash;
    e->until_us = room > 0 ? nq_mono_us() + EXCHANGE_US : 0;
}

NQ_PRIVATE size_t nq_exchange_most(const nq_exchange *e, const nq_settings *settings, const nq_piggyback *p,
                                   const char *queue)
{
    if (!settings || e->settings != settings->hash || e->until_us <= nq_mono_us())
        return 0;
    return exchange_count(p, queue, false);
}
