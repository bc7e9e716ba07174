/* SPDX-License-Identifier: MIT */
/* Groups of which nothing may start for a while: rates, holds, and the head that an ordered group waits for.
 */
#include "groups_state.h"

static struct nq_group_closed *groups_closed(const nq_groups *g, uint64_t name)
{
    return &g->rates->closed[name % GROUPS_CLOSED];
}

static void groups_opens(nq_groups *g, int64_t us)
{
    if (us > 0 && (g->opens_us == 0 || us < g->opens_us))
        g->opens_us = us;
}

/* The task that an ordered group waits for is due then: so the others are; those of a halted one never. */
static void groups_shut(nq_groups *g, int64_t shut_us)
{
    const int64_t wait = shut_us - nq_mono_us();
    if (shut_us != INT64_MAX && (g->wait_us < 0 || wait < g->wait_us))
        g->wait_us = wait < 0 ? 0 : wait;
}

/* Is it known that nothing of this group may start now? */
NQ_PRIVATE bool nq_groups_is_closed(nq_groups *g, const char *queue)
{
    if (!g->rates)
        return false;
    const uint64_t name = nq_fnv1a(queue);
    const struct nq_group_closed *c = groups_closed(g, name);
    if (c->name != name || c->opens_us <= nq_mono_us())
        return false;
    groups_opens(g, c->opens_us);
    groups_shut(g, c->shut_us);
    return true;
}

NQ_PRIVATE bool nq_groups_is_held(nq_groups *g, const char *queue)
{
    const int64_t held = g->settings ? nq_settings_held(g->settings, queue) : 0;
    if (held <= nq_mono_us())
        return false;
    groups_opens(g, held);
    return true;
}

/* Places for what the gates will say. */
NQ_PRIVATE int nq_groups_buckets(nq_groups *g, nq_err *err)
{
    if (!g->gated)
        return NQ_OK;
    if (!g->rates && !(g->rates = calloc(1, sizeof *g->rates)))
        return nq_err_nomem(err);
    g->gate.bucket = &g->rates->all;
    g->gate.clock = &g->rates->clock;
    g->rates->all = (nq_bucket){0};
    for (size_t i = 0; i < g->nturns; i++) {
        g->turns[i].bucket = &g->rates->each[i];
        g->rates->each[i] = (nq_bucket){0};
    }
    return NQ_OK;
}

/* What the gates said. */
NQ_PRIVATE void nq_groups_heard(nq_groups *g)
{
    const nq_gate_clock *clock = &g->rates->clock;
    if (clock->raced) /* soon, but not in step with them */
        groups_opens(g, nq_mono_us() + NQ_MS(1) + (int64_t)nq_random(NQ_MS(2)));
    g->closed_us = nq_bucket_opens(&g->rates->all, clock);
    groups_opens(g, g->closed_us);
    for (size_t i = 0; i < g->nturns; i++) {
        const int64_t opens = nq_bucket_opens(&g->rates->each[i], clock);
        groups_shut(g, g->rates->each[i].shut_us);
        if (opens == 0)
            continue;
        const uint64_t name = nq_fnv1a(g->turns[i].queue);
        *groups_closed(g, name) = (struct nq_group_closed){name, opens, g->rates->each[i].shut_us};
        groups_opens(g, opens);
    }
}
