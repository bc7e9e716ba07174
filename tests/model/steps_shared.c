/* SPDX-License-Identifier: MIT */
/* Steps in the queue with groups: what is paused and limited, and claims of all that may be had. */
#include <inttypes.h>

#include "model.h"

/* ---- Settings ---- */

static void steps_pause(struct steps *s, const char *group, const char *type, bool pause)
{
    const nq_pause_options o = {.size = sizeof o, .group = group, .type = type};
    if (s->q)
        T_OK((pause ? nq_pause : nq_resume)(s->q, model_queues[MODEL_SHARED], &o, &t_last));
}

static void steps_limit(struct steps *s, const char *group, int most)
{
    const nq_queue_settings o = {.size = sizeof o, .group = group, .max_running = most};
    if (s->q)
        T_OK(nq_queue_set(s->q, model_queues[MODEL_SHARED], &o, &t_last));
}

/* No limit is left: types may be paused, or the other way round. */
static void steps_clear(struct steps *s, bool limits)
{
    struct model_settings *set = &s->model.settings;
    for (int i = 0; i < MODEL_TYPES && !limits; i++)
        if (set->type_paused[i])
            steps_pause(s, NULL, model_types[i], set->type_paused[i] = false);
    for (int i = 1; i < MODEL_GROUPS && limits; i++)
        if (set->limit_group[i])
            steps_limit(s, model_groups[i], set->limit_group[i] = 0);
    if (limits && set->limit_each)
        steps_limit(s, "*", set->limit_each = 0);
}

void steps_settings(struct steps *s)
{
    struct model_settings *set = &s->model.settings;
    const int kind = (int)steps_random(s, 6), group = 1 + (int)steps_random(s, MODEL_GROUPS - 1),
              type = (int)steps_random(s, MODEL_TYPES), most = (int)steps_random(s, 4);
    const bool pause = steps_random(s, 3) == 0;
    steps_say(s, "settings %d of group %d, type %d: %d, %d", kind, group, type, pause, most);
    if (kind == 0)
        steps_pause(s, NULL, NULL, set->queue_paused = pause);
    else if (kind == 1)
        steps_pause(s, "*", NULL, set->each_paused = pause);
    else if (kind == 2)
        steps_pause(s, model_groups[group], NULL, set->group_paused[group] = pause);
    else
        steps_clear(s, kind == 3);
    if (kind == 3)
        steps_pause(s, NULL, model_types[type], set->type_paused[type] = pause || most > 0);
    else if (kind == 4)
        steps_limit(s, "*", set->limit_each = most);
    else if (kind == 5)
        steps_limit(s, model_groups[group], set->limit_group[group] = most);
}

/* ---- Claims ---- */

/* All claims of one step: what they brought is looked for in what the model expects. */
struct shared {
    struct model_task *expected[MODEL_TASKS];
    bool got[MODEL_TASKS];
    size_t n, found;
};

static void shared_got(struct steps *s, struct shared *all, const nq_claimed *list, uint64_t lease,
                       int member)
{
    for (const nq_claimed *c = list; c; c = c->next) {
        const struct model_task *is = model_find(&s->model, c->task.id);
        size_t i = 0;
        while (i < all->n && all->expected[i] != is)
            i++;
        STEPS_CHECK(s, i < all->n && !all->got[i], "#%d was claimed, which is not to be had",
                    is ? is->number : 0);
        all->got[i] = true;
        all->found++;
        model_claim(&s->model, all->expected[i], lease, member);
        look_claimed(s, all->expected[i], c);
    }
}

/* Claim until there is nothing more: which groups come first is the store's choice, what comes of each is
 * not.
 */
void steps_shared(struct steps *s)
{
    struct shared all = {.n = model_shared(&s->model, all.expected)};
    const int member = (int)steps_random(s, MODEL_MEMBERS);
    const size_t limit = 1 + steps_random(s, 40);
    const uint64_t first = s->leases;
    nq_settings *settings = NULL;
    int empty = 0; /* a gate that is new is passed from the second claim on */
    steps_say(s, "claim %zu of the groups by %d: %zu, the first #%d", limit, member, all.n,
              all.n > 0 ? all.expected[0]->number : 0);
    s->leases += 2 * MODEL_TASKS; /* more than there are claims: the same in each run */
    if (s->q)
        T_OK(nq_settings_read(&settings, nq_store_of(s->q), NULL, &t_last));
    for (uint64_t lease = first + 1; s->q && empty < 3; lease++) {
        nq_claimed *claimed = NULL;
        size_t n = 0;
        int64_t wait_us = -1;
        STEPS_CHECK(s, lease <= s->leases, "claims never end");
        nq_claimer_heed(s->claimer, settings);
        T_OK(nq_claimer_claim(s->claimer, NQ_LEASE(s->ids[member], lease), limit, NULL, &claimed, &n,
                              &wait_us, &t_last));
        empty = n > 0 || nq_claimer_again(s->claimer) ? 0 : empty + 1;
        shared_got(s, &all, claimed, NQ_LEASE(s->ids[member], lease), member);
        nq_claimed_free(claimed);
    }
    for (size_t i = 0; i < all.n; i++) {
        STEPS_CHECK(s, !s->q || all.got[i], "#%d was not claimed", all.expected[i]->number);
        if (!s->q)
            model_claim(&s->model, all.expected[i], first + 1, member);
        look_task(s, all.expected[i], 0, 0);
    }
    if (s->q) {
        nq_claimer_heed(s->claimer, NULL);
        nq_settings_unref(settings);
    }
}
