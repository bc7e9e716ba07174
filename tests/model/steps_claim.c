/* SPDX-License-Identifier: MIT */
/* Steps that claim from the queues without groups: one has settings, the other none. */
#include <inttypes.h>

#include "model.h"

#define CLAIM_LEASES 64 /* more than there are claims in a step */

bool steps_claimed(nq_claimer *c, uint64_t lease, size_t limit, nq_piggyback *piggyback, nq_claimed **out,
                   size_t *n)
{
    int64_t wait_us = -1;
    T_OK(nq_claimer_claim(c, lease, limit, piggyback, out, n, &wait_us, &t_last));
    const int64_t in = nq_claimer_opens(c) - nq_mono_us();
    const bool soon = in > 0 && in < NQ_MS(50); /* a gate was made, say */
    if (*n > 0 || (!soon && !nq_claimer_again(c)))
        return false;
    nq_sleep_us(soon ? in : 0);
    return true;
}

struct claim {
    int queue, member;
    size_t limit, got; /* so many of these should come: */
    struct model_task *due[MODEL_TASKS];
    struct model_task *ended; /* its completion piggybacks; NULL */
    nq_outcome done;
    uint64_t lease; /* the next one */
    nq_claimer *claimer;
    const nq_settings *settings;
};

/* The completion first: it may make room. */
static void claim_expect(struct steps *s, struct claim *c)
{
    const struct model_task *e = c->ended;
    c->done = (nq_outcome){.kind = NQ_OUT_DONE, .result = 1};
    if (e) {
        c->done.id = e->id;
        c->done.lease = e->lease;
        c->done.queue = model_queues[e->spec.queue];
        model_finish(&s->model, c->ended, &c->done, NULL);
    }
    const size_t n = model_due(&s->model, c->queue, c->due);
    c->got = n < c->limit ? n : c->limit;
    if (c->queue == MODEL_LIMITED)
        c->got = model_limited(&s->model, c->got);
}

/* One claim, and the completion where it did not take that along. */
static bool claim_once(struct steps *s, struct claim *c, size_t limit, nq_claimed **list, size_t *n)
{
    nq_outcome *outs[] = {&c->done};
    nq_piggyback piggyback = {.outcomes = outs, .n = 1};
    const bool ends = c->done.id != 0;
    const bool again = steps_claimed(c->claimer, NQ_LEASE(s->ids[c->member], c->lease), limit,
                                     ends ? &piggyback : NULL, list, n);
    if (ends && piggyback.piggybacked == NQ_PIGGYBACKED_NO)
        T_OK(nq_store_finish(nq_store_of(s->q), outs, 1, &t_last));
    STEPS_CHECK(s, !ends || c->done.result == NQ_OK, "a completion that piggybacked answered %s",
                nq_code_name(c->done.result));
    c->done.id = 0;
    return again || ends; /* what a limit lets through may be known only now */
}

/* Until nothing more comes, where a limit may have several claims bring it. */
static void claim_real(struct steps *s, struct claim *c, bool limited)
{
    size_t is = 0;
    const uint64_t last = c->lease + CLAIM_LEASES / 2;
    for (int empty = 0; empty < (limited ? 2 : 1) && is < c->limit; c->lease++) {
        nq_claimed *list = NULL;
        size_t n = 0;
        STEPS_CHECK(s, c->lease < last, "claims never end");
        const bool again = claim_once(s, c, c->limit - is, &list, &n);
        for (const nq_claimed *k = list; k; k = k->next, is++) {
            STEPS_CHECK(s, is < c->got, "claimed more than %zu", c->got);
            model_claim(&s->model, c->due[is], NQ_LEASE(s->ids[c->member], c->lease), c->member);
            look_claimed(s, c->due[is], k);
            look_expiry(s, c->due[is], k);
            look_task(s, c->due[is], 0, 0);
        }
        nq_claimed_free(list);
        empty = limited && (n > 0 || again) ? 0 : empty + 1;
    }
    STEPS_CHECK(s, is == c->got, "claimed %zu, should be %zu", is, c->got);
}

bool steps_asks(struct steps *s, int queue, const nq_settings *settings)
{
    const int place = queue == MODEL_LIMITED ? MODEL_MAIL : 0;
    const char *name = model_queues[queue];
    const bool shut = (queue == MODEL_LIMITED || queue == MODEL_SHARED) && model_shut(&s->model, place);
    const bool is =
        settings && (nq_settings_paused(settings, name) || nq_settings_held(settings, name) > nq_mono_us());
    STEPS_CHECK(s, shut == is, "queue %s is %spaused or held", name, is ? "" : "not ");
    return !shut;
}

static void claim_take(struct steps *s, struct claim *c, bool limited)
{
    nq_outcome *outs[] = {&c->done};
    if (s->q && (steps_asks(s, c->queue, c->settings) || limited)) {
        claim_real(s, c, limited);
    } else if (s->q && c->ended) {
        T_OK(nq_store_finish(nq_store_of(s->q), outs, 1, &t_last));
        STEPS_CHECK(s, c->done.result == NQ_OK, "a completion answered %s", nq_code_name(c->done.result));
    }
    for (size_t i = 0; i < c->got && !s->q; i++)
        model_claim(&s->model, c->due[i], NQ_LEASE(s->ids[c->member], c->lease), c->member);
    if (c->ended)
        look_task(s, c->ended, 0, 0);
}

/* Claim, perhaps with a completion that piggybacks; under a limit once more, so that the claim may take the
 * place of what it ends. */
void steps_claim(struct steps *s)
{
    struct claim c = {.ended = steps_random(s, 4) == 0 ? steps_task(s, NQ_STATE_RUNNING) : NULL,
                      .queue = (int)steps_random(s, 2),
                      .member = (int)steps_random(s, MODEL_MEMBERS),
                      .limit = 1 + steps_random(s, 4)};
    const struct model_row *row = &s->model.rows[MODEL_MAIL];
    const bool set = c.queue == MODEL_LIMITED, limited = set && (row->limit || row->hours);
    const bool twice = limited && steps_random(s, 2);
    const int ended = c.ended ? c.ended->number : 0;
    nq_settings *settings = NULL;
    c.lease = s->leases + 1;
    s->leases += CLAIM_LEASES;
    claim_expect(s, &c);
    steps_say(s, "claim %zu of queue %d by %d: %zu, the first #%d, with the end of #%d%s", c.limit, c.queue,
              c.member, c.got, c.got > 0 ? c.due[0]->number : 0, ended, twice ? ", and again" : "");
    if (s->q) {
        T_OK(nq_claimer_new(&c.claimer, nq_store_of(s->q), model_queues[c.queue], NULL, 0, &t_last));
        T_OK(nq_settings_read(&settings, nq_store_of(s->q), NULL, &t_last));
        if (set)
            nq_claimer_heed(c.claimer, c.settings = settings);
    }
    claim_take(s, &c, limited);
    if (twice && c.got > 0) {
        c.ended = c.due[0];
        claim_expect(s, &c);
        claim_take(s, &c, limited);
    }
    nq_claimer_free(c.claimer);
    nq_settings_unref(settings);
}
