/* SPDX-License-Identifier: MIT */
/* Steps of producers and workers: enqueue, finish, too late. */
#include <inttypes.h>

#include "model.h"

#define STEPS_MANY 5

static const char *const steps_errors[] = {"no such order", "timeout"};

/* ---- Enqueue ---- */

static struct model_spec steps_spec(struct steps *s)
{
    struct model_spec spec = {.queue = (int)steps_random(s, MODEL_QUEUES),
                              .type = (int)steps_random(s, 3),
                              .payload = (int)steps_random(s, MODEL_WORDS),
                              .priority = (int)steps_random(s, 3) - 1,
                              .hours = steps_random(s, 3) == 0 ? (int)steps_random(s, 4) : 0,
                              .max_retries = (int)steps_random(s, 4),
                              .data = (int)steps_random(s, MODEL_WORDS)};
    spec.group = spec.queue == MODEL_SHARED ? (int)steps_random(s, MODEL_GROUPS) : 0;
    spec.expires = steps_random(s, 6) == 0 ? spec.hours + 1 + (int)steps_random(s, 3) : 0;
    spec.unique = steps_random(s, 4) == 0   ? NQ_UNIQUE_NONE
                  : steps_random(s, 3) == 0 ? NQ_UNIQUE_DATA
                                            : NQ_UNIQUE_PAYLOAD;
    return spec;
}

static nq_task_spec steps_task_spec(const struct model_spec *m)
{
    const struct model_word *payload = &model_words[m->payload], *data = &model_words[m->data];
    return (nq_task_spec){.size = sizeof(nq_task_spec),
                          .type = model_types[m->type],
                          .payload = payload->p,
                          .payload_size = payload->n,
                          .queue = m->queue == 0 ? NULL : model_queues[m->queue],
                          .group = m->group ? model_groups[m->group] : NULL,
                          .priority = m->priority,
                          .delay_us = m->hours * MODEL_HOUR,
                          .expires_us = m->expires * MODEL_HOUR,
                          .max_retries = m->max_retries == 0 ? NQ_ZERO : m->max_retries,
                          .unique = (int)m->unique,
                          .unique_data = m->unique == NQ_UNIQUE_DATA ? data->p : NULL,
                          .unique_size = m->unique == NQ_UNIQUE_DATA ? data->n : 0};
}

struct steps_new {
    struct model_spec specs[STEPS_MANY];
    nq_task_spec real[STEPS_MANY];
    nq_id ids[STEPS_MANY];
    int results[STEPS_MANY];
    size_t n;
};

/* What the store answered, in the model and compared. */
static void steps_enqueued(struct steps *s, struct steps_new *new, bool caller, int64_t from, int64_t to)
{
    s->model.seq++;
    for (size_t i = 0; i < new->n; i++) {
        struct model_task *t = NULL;
        bool repeated = false;
        for (size_t j = 0; j < i; j++)
            repeated = repeated || model_same_key(&new->specs[j], &new->specs[i]);
        const int expected = model_enqueue(&s->model, &new->specs[i], caller, repeated, &t);
        if (!s->q)
            continue;
        STEPS_CHECK(s, new->results[i] == expected, "enqueue %zu answered %s, should be %s", i,
                    nq_code_name(new->results[i]), nq_code_name(expected));
        if (expected == NQ_DUPLICATE) {
            STEPS_CHECK(s, new->ids[i] == t->id, "a duplicate of #%d answered id %" PRId64, t->number,
                        new->ids[i]);
            look_task(s, t, 0, 0);
        } else {
            STEPS_CHECK(s, new->ids[i] > s->newest, "id %" PRId64 " after %" PRId64, new->ids[i], s->newest);
            t->id = s->newest = new->ids[i];
            look_task(s, t, from, to);
        }
    }
}

void steps_enqueue(struct steps *s, bool caller)
{
    struct steps_new new = {.n = steps_random(s, 3) == 0 ? 1 + steps_random(s, STEPS_MANY) : 1};
    const bool commit = !caller || steps_random(s, 3) > 0;
    for (size_t i = 0; i < new.n; i++) {
        new.specs[i] = steps_spec(s);
        new.real[i] = steps_task_spec(&new.specs[i]);
    }
    steps_say(s, "enqueue %zu%s, the first: queue %d type %d payload %d in %d h unique %d/%d", new.n,
              caller ? commit ? " in a transaction" : ", rolled back" : "", new.specs[0].queue,
              new.specs[0].type, new.specs[0].payload, new.specs[0].hours, (int)new.specs[0].unique,
              new.specs[0].data);
    if (s->model.n + new.n > MODEL_FULL + STEPS_MANY || s->model.nfollowups + new.n > MODEL_FOLLOWUPS)
        return;
    const int64_t from = steps_now(s);
    if (s->q) {
        if (caller)
            t_begin(s->caller);
        const nq_tx tx = caller ? t_tx(s->caller) : NQ_OWN_TX;
        if (new.n == 1)
            new.results[0] = nq_enqueue(s->q, tx, new.real, new.ids, &t_last);
        else
            T_OK(nq_enqueue_many(s->q, tx, new.real, new.n, new.ids, new.results, &t_last));
        if (caller)
            t_run(s->caller, commit ? "COMMIT" : "ROLLBACK");
    }
    if (commit)
        steps_enqueued(s, &new, caller, from, steps_now(s));
}

/* ---- Finish ---- */

/* An outcome for a running task that somebody holds. */
static nq_outcome steps_outcome(struct steps *s, const struct model_task *t, const char **error)
{
    static const enum nq_outcome_kind kinds[] = {NQ_OUT_DONE,  NQ_OUT_DONE,   NQ_OUT_DONE,    NQ_OUT_RETRY,
                                                 NQ_OUT_RETRY, NQ_OUT_SNOOZE, NQ_OUT_RELEASE, NQ_OUT_DEAD};
    nq_outcome o = {.id = t->id, .lease = t->lease, .kind = kinds[steps_random(s, 8)], .result = 1};
    o.queue = t->number % 2 ? model_queues[t->spec.queue] : NULL;
    o.keep = o.kind == NQ_OUT_DONE && steps_random(s, 3) == 0;
    o.delay_us =
        o.kind == NQ_OUT_RETRY || o.kind == NQ_OUT_SNOOZE ? (int64_t)steps_random(s, 3) * MODEL_HOUR : 0;
    *error = steps_random(s, 4) > 0 ? steps_errors[steps_random(s, 2)] : NULL;
    if (o.kind == NQ_OUT_RETRY && t->attempts + 1 > (unsigned)t->spec.max_retries) {
        o.kind = NQ_OUT_DEAD;
        o.delay_us = 0;
    }
    if (t->late) { /* as a worker ends what has expired */
        *error = "expired";
        o = (nq_outcome){.id = t->id,
                         .lease = t->lease,
                         .kind = NQ_OUT_DEAD,
                         .expired = true,
                         .result = 1,
                         .queue = o.queue};
    }
    o.error = *error;
    o.error_size = *error ? strlen(*error) : 0;
    return o;
}

bool steps_moves(const struct model_task *t, const nq_outcome *o)
{
    return t->state == NQ_STATE_WAITING && o->kind != NQ_OUT_RELEASE;
}

static int steps_by_id(const void *a, const void *b)
{
    const nq_outcome *x = a, *y = b;
    return (x->id > y->id) - (x->id < y->id);
}

static const enum nq_outcome_kind steps_kinds[] = {NQ_OUT_DONE, NQ_OUT_RETRY, NQ_OUT_SNOOZE, NQ_OUT_RELEASE,
                                                   NQ_OUT_DEAD};

/* Outcomes of earlier claims of the same tasks: whoever lost one may stand in a call with who has it now. */
static size_t steps_earlier(struct steps *s, const nq_outcome outs[], size_t n, nq_outcome earlier[])
{
    const size_t nlost = s->model.nlost < MODEL_STALE ? s->model.nlost : MODEL_STALE;
    size_t found = 0;
    for (size_t i = 0; i < nlost && found < STEPS_MANY; i++)
        for (size_t j = 0; j < n && found < STEPS_MANY; j++)
            if (s->model.lost[i].id == outs[j].id)
                earlier[found++] = (nq_outcome){.id = outs[j].id,
                                                .lease = s->model.lost[i].lease,
                                                .kind = steps_kinds[steps_random(s, 5)],
                                                .result = 1};
    return steps_random(s, 2) ? found : 0;
}

/* Finish some that are held (by anybody: the lease is what counts), and some whose lease was lost. */
void steps_finish(struct steps *s)
{
    nq_outcome outs[STEPS_MANY + 1], earlier[STEPS_MANY], *list[2 * STEPS_MANY + 1];
    const char *errors[STEPS_MANY + 1] = {NULL};
    size_t n = 0, want = steps_random(s, 3) > 0 ? 1 : 1 + steps_random(s, STEPS_MANY);
    for (size_t i = 0; i < want; i++) {
        const struct model_task *t = steps_task(s, NQ_STATE_RUNNING);
        bool twice = !t;
        for (size_t j = 0; j < n && !twice; j++)
            twice = outs[j].id == t->id;
        if (!twice) {
            outs[n] = steps_outcome(s, t, &errors[n]);
            n++;
        }
    }
    const int64_t from = steps_now(s);
    qsort(outs, n, sizeof *outs, steps_by_id); /* the order in which a store takes them */
    const size_t stale = steps_earlier(s, outs, n, earlier), front = steps_random(s, 2) ? stale : 0;
    for (size_t i = 0; i < stale; i++)
        list[front ? i : n + i] = &earlier[i];
    for (size_t i = 0; i < n; i++)
        list[front + i] = &outs[i];
    steps_say(s, "finish %zu and %zu that are lost, the first: #%d kind %d", n, stale,
              n > 0 ? model_find(&s->model, outs[0].id)->number : 0, n > 0 ? (int)outs[0].kind : 0);
    if (n == 0 || s->model.n + n > MODEL_TASKS)
        return;
    nq_outcome said[STEPS_MANY + 1];
    memcpy(said, outs, sizeof said);
    if (s->q)
        T_OK(nq_store_finish(nq_store_of(s->q), list, n + stale, &t_last));
    const int64_t to = steps_now(s);
    for (size_t i = 0; s->q && i < stale; i++)
        STEPS_CHECK(s, earlier[i].result == NQ_ELEASE, "finishing under an earlier lease answered %s",
                    nq_code_name(earlier[i].result));
    for (size_t i = 0; i < n; i++) {
        struct model_task *t = model_find(&s->model, said[i].id);
        model_finish(&s->model, t, &said[i], said[i].error);
        STEPS_CHECK(s, !s->q || outs[i].result == NQ_OK, "finishing #%d answered %s", t->number,
                    nq_code_name(outs[i].result));
        look_task(s, t, steps_moves(t, &said[i]) ? from : 0, to);
    }
    steps_letters(s, from);
}

/* A worker that wakes up with a lease that is not the current one. */
void steps_stale(struct steps *s)
{
    const size_t n = s->model.nlost < MODEL_STALE ? s->model.nlost : MODEL_STALE;
    if (n == 0) {
        steps_say(s, "stale: none");
        return;
    }
    const struct model_lost *lost = &s->model.lost[steps_random(s, n)];
    nq_outcome o = {.id = lost->id,
                    .lease = lost->lease,
                    .kind = steps_kinds[steps_random(s, 5)],
                    .result = 1},
               *list[] = {&o};
    steps_say(s, "stale #%d kind %d", lost->number, (int)o.kind);
    if (!s->q)
        return;
    T_OK(nq_store_finish(nq_store_of(s->q), list, 1, &t_last));
    STEPS_CHECK(s, o.result == NQ_ELEASE, "finishing #%d under a lost lease answered %s", lost->number,
                nq_code_name(o.result));
    struct model_task *t = model_find(&s->model, lost->id);
    if (t)
        look_task(s, t, 0, 0);
}

/* Complete in the caller's transaction, committed or not, under the current lease or a lost one. */
void steps_complete_in(struct steps *s)
{
    struct model_task *t = steps_task(s, NQ_STATE_RUNNING);
    const bool keep = steps_random(s, 2), commit = steps_random(s, 3) > 0, ours = steps_random(s, 4) > 0;
    steps_say(s, "complete in #%d%s%s", t ? t->number : 0, commit ? "" : ", rolled back",
              ours ? "" : ", not ours");
    if (!t)
        return;
    if (s->q) {
        t_begin(s->caller);
        const int rc = nq_complete_in(nq_store_of(s->q), t_tx(s->caller), t->id,
                                      ours ? t->lease : t->lease + 1, keep, &t_last);
        STEPS_CHECK(s, rc == (ours ? NQ_OK : NQ_ELEASE), "completing #%d answered %s", t->number,
                    nq_code_name(rc));
        t_run(s->caller, commit ? "COMMIT" : "ROLLBACK");
    }
    const nq_outcome o = {.kind = NQ_OUT_DONE, .keep = keep};
    if (commit && ours)
        model_finish(&s->model, t, &o, NULL);
    look_task(s, t, 0, 0);
}
