/* SPDX-License-Identifier: MIT */
/* Steps that claim from the queue with groups all that may be had. */
#include <inttypes.h>

#include "model.h"

#define SHARED_LEASES (4 * (uint64_t)MODEL_TASKS) /* more than there are claims in a step */

/* All claims of one step: what they brought is looked for in what the model expects. */
struct shared {
    struct model_task *expected[MODEL_TASKS];
    bool got[MODEL_TASKS];
    size_t n, limit;
    int member;
    uint64_t lease, last; /* the next one; more than there are to be */
};

static void shared_got(struct steps *s, struct shared *all, const nq_claimed *list)
{
    for (const nq_claimed *c = list; c; c = c->next) {
        const struct model_task *is = model_find(&s->model, c->task.id);
        size_t i = 0;
        while (i < all->n && all->expected[i] != is)
            i++;
        STEPS_CHECK(s, i < all->n && !all->got[i], "#%d was claimed, which is not to be had",
                    is ? is->number : 0);
        all->got[i] = true;
        const bool rated = s->model.rows[0].hours || model_row(&s->model, model_place(is)).hours;
        STEPS_CHECK(s, (c->start_us != 0) == rated, "#%d starts at a time of its own, or not", is->number);
        model_shared_began(&s->model, is);
        model_claim(&s->model, all->expected[i], NQ_LEASE(s->ids[all->member], all->lease), all->member);
        look_claimed(s, all->expected[i], c);
        look_expiry(s, all->expected[i], c);
    }
}

/* Claim until there is nothing more: which groups come first is the store's choice, what comes of each is
 * not. */
static void shared_claim(struct steps *s, struct shared *all)
{
    nq_settings *settings = NULL;
    T_OK(nq_settings_read(&settings, nq_store_of(s->q), NULL, &t_last));
    nq_claimer_heed(s->claimer, settings);
    const bool asks = steps_asks(s, MODEL_SHARED, settings);
    for (int empty = 0; asks && empty < 2; all->lease++) {
        nq_claimed *claimed = NULL;
        size_t n = 0;
        STEPS_CHECK(s, all->lease < all->last, "claims never end");
        const bool again = steps_claimed(s->claimer, NQ_LEASE(s->ids[all->member], all->lease), all->limit,
                                         NULL, &claimed, &n);
        empty = n > 0 || again ? 0 : empty + 1;
        shared_got(s, all, claimed);
        nq_claimed_free(claimed);
    }
    nq_claimer_heed(s->claimer, NULL);
    nq_settings_unref(settings);
}

/* Tasks of types that are limited are set apart before any of them is claimed: else those that are met first
 * would go before more urgent ones of other groups, and the model would have to know whom the store meets. */
static void shared_set_apart(struct steps *s, struct shared *all)
{
    bool some = false;
    for (int i = 0; i < MODEL_TYPES; i++) {
        const struct model_row *row = &s->model.rows[MODEL_GROUPS + i];
        if (!row->paused && (row->limit || row->hours || row->ordered))
            steps_pause_type(s, i, some = true);
    }
    if (!some)
        return;
    shared_claim(s, all);
    for (int i = 0; i < MODEL_TYPES; i++)
        if (!s->model.rows[MODEL_GROUPS + i].paused)
            steps_pause_type(s, i, false);
}

/* Where some stay behind, which ones is the store's choice: the model alone takes the same. */
static void shared_chosen(struct steps *s, struct shared *all, size_t room)
{
    if (s->q && room < all->n)
        nq_buf_add(s->chosen, (const char *)all->got, all->n);
    for (size_t i = 0; i < all->n && !s->q; i++)
        all->got[i] = room == all->n || s->chosen->p[s->chosen_at++] != 0;
    if (!s->q)
        STEPS_CHECK(s, s->chosen_at <= s->chosen->n, "the model alone takes other steps");
}

void steps_shared(struct steps *s)
{
    struct shared all = {.n = model_shared(&s->model, all.expected)};
    const size_t room = model_shared_room(&s->model, all.n); /* which of them is the store's choice */
    all.member = (int)steps_random(s, MODEL_MEMBERS);
    all.limit = 1 + steps_random(s, 40);
    all.lease = s->leases + 1;
    s->leases += SHARED_LEASES; /* the same in each run */
    all.last = s->leases;
    steps_say(s, "claim %zu of the groups by %d: %zu of %zu, the first #%d", all.limit, all.member, room,
              all.n, all.n > 0 ? all.expected[0]->number : 0);
    for (int i = MODEL_GROUPS; i < MODEL_PLACES;
         i++) /* what came back where it has looked it may meet later */
        s->changed = s->changed || s->model.rows[i].paused || s->model.rows[i].limit ||
                     s->model.rows[i].hours || s->model.rows[i].ordered;
    if (s->q && s->changed) { /* it looks again a second later, or is another one */
        nq_claimer_free(s->claimer);
        T_OK(nq_claimer_new(&s->claimer, nq_store_of(s->q), model_queues[MODEL_SHARED], NULL, 0, &t_last));
        nq_claimer_thorough(s->claimer); /* groups may be new at any time */
    }
    s->changed = false;
    int places[MODEL_TASKS];
    for (size_t i = 0; i < all.n; i++)
        places[i] = model_place(all.expected[i]);
    if (s->q) {
        shared_set_apart(s, &all);
        shared_claim(s, &all);
    }
    shared_chosen(s, &all, room);
    size_t began = 0;
    for (size_t i = 0; i < all.n; i++) {
        if (!s->q && all.got[i]) {
            model_shared_began(&s->model, all.expected[i]);
            model_claim(&s->model, all.expected[i], all.lease, all.member);
        }
        began += all.got[i];
        STEPS_CHECK(s, i == 0 || !all.got[i] || all.got[i - 1] || places[i - 1] != places[i],
                    "#%d was claimed before the first of its group", all.expected[i]->number);
        look_task(s, all.expected[i], 0, 0);
    }
    STEPS_CHECK(s, began == room, "%zu were claimed, not %zu", began, room);
}
