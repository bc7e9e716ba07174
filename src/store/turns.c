/* SPDX-License-Identifier: MIT */
/* The turns of one claim: their shares of it, and which one a task is of. */
#include "groups.h"

NQ_PRIVATE void nq_turns_share(nq_turn turns[], size_t n, size_t wanted)
{
    size_t left = wanted, weights = 0;
    for (size_t i = 0; i < n; i++)
        weights += (size_t)turns[i].weight;
    for (size_t i = 0; i < n; i++) {
        const size_t weight = (size_t)turns[i].weight, others = n - 1 - i;
        const size_t share = (left * weight + weights - 1) / weights;
        turns[i].most = share > left - others ? left - others : share;
        if (turns[i].max_running > 0 && turns[i].most > (uint64_t)turns[i].max_running)
            turns[i].most = (size_t)turns[i].max_running;
        left -= turns[i].most;
        weights -= weight;
    }
}

NQ_PRIVATE bool nq_turn_is_of(const nq_turn *t, const nq_claimed *k)
{
    const char *name = t->queue;
    const size_t n = strlen(k->task.queue);
    if (strncmp(name, k->task.queue, n) != 0)
        return false;
    if (!k->group)
        return name[n] == '\0';
    return strncmp(name + n, "//", 2) == 0 && strcmp(name + n + 2, k->group) == 0;
}
