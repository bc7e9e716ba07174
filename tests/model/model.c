/* SPDX-License-Identifier: MIT */
/* The model: tasks and follow-ups in arrays, moves as docs/states.md has them. Nothing of src/ is used. */
#include "model.h"

static bool model_is_live(const struct model_task *t)
{
    return t->state == NQ_STATE_WAITING || t->state == NQ_STATE_RUNNING;
}

static int model_key(const struct model_spec *s) /* -1: none; the key is over type and bytes */
{
    return s->unique == NQ_UNIQUE_NONE
               ? -1
               : s->type * MODEL_WORDS + (s->unique == NQ_UNIQUE_DATA ? s->data : s->payload);
}

struct model_task *model_find(struct model *m, nq_id id)
{
    for (size_t i = 0; i < m->n; i++)
        if (m->tasks[i].id == id && m->tasks[i].state != MODEL_GONE)
            return &m->tasks[i];
    return NULL;
}

struct model_task *model_live(struct model *m, const struct model_spec *spec)
{
    const int key = model_key(spec);
    for (size_t i = 0; i < m->n && key >= 0; i++)
        if (model_is_live(&m->tasks[i]) && model_key(&m->tasks[i].spec) == key)
            return &m->tasks[i];
    return NULL;
}

size_t model_count(const struct model *m, int state)
{
    size_t n = 0;
    for (size_t i = 0; i < m->n; i++)
        n += m->tasks[i].state == state;
    return n;
}

void model_due_in(struct model *m, struct model_task *t, int64_t hours)
{
    t->due_hour = m->hour + hours;
    t->due_seq = ++m->seq;
}

struct model_task *model_add(struct model *m, const struct model_spec *spec)
{
    if (m->n == MODEL_TASKS)
        return NULL;
    struct model_task *t = &m->tasks[m->n++];
    *t = (struct model_task){.number = ++m->numbers, .spec = *spec, .error = "", .member = -1};
    t->id = t->number;
    t->due_hour = m->hour + spec->hours;
    t->due_seq = m->seq;
    t->expires_hour = spec->expires ? m->hour + spec->expires : 0;
    return t;
}

static bool model_followed(const struct model *m, const struct model_spec *spec)
{
    for (size_t i = 0; i < m->nfollowups; i++)
        if (model_key(&m->followups[i].spec) == model_key(spec))
            return true;
    return false;
}

bool model_same_key(const struct model_spec *a, const struct model_spec *b)
{
    return model_key(a) >= 0 && model_key(a) == model_key(b);
}

int model_enqueue(struct model *m, const struct model_spec *spec, bool caller, bool repeated,
                  struct model_task **out)
{
    struct model_task *live = model_live(m, spec);
    if (!live) {
        *out = model_add(m, spec);
        return NQ_OK;
    }
    *out = live;
    const bool follow =
        caller && m->eager ? !repeated : live->state == NQ_STATE_RUNNING && !model_followed(m, spec);
    if (follow && m->nfollowups < MODEL_FOLLOWUPS) {
        m->followups[m->nfollowups++] =
            (struct model_followup){.spec = *spec,
                                    .due_hour = m->hour + spec->hours,
                                    .due_seq = m->seq,
                                    .expires_hour = spec->expires ? m->hour + spec->expires : 0};
    }
    return NQ_DUPLICATE;
}

static int model_order(const void *a, const void *b)
{
    const struct model_task *x = *(struct model_task *const *)a, *y = *(struct model_task *const *)b;
    if (x->spec.priority != y->spec.priority)
        return x->spec.priority < y->spec.priority ? -1 : 1;
    if (x->due_hour != y->due_hour)
        return x->due_hour < y->due_hour ? -1 : 1;
    return x->due_seq != y->due_seq ? (x->due_seq < y->due_seq ? -1 : 1) : x->number - y->number;
}

size_t model_due(struct model *m, int queue, struct model_task *out[])
{
    size_t n = 0;
    for (size_t i = 0; i < m->n; i++) {
        struct model_task *t = &m->tasks[i];
        if (t->state == NQ_STATE_WAITING && t->spec.queue == queue && t->due_hour <= m->hour)
            out[n++] = t;
    }
    qsort(out, n, sizeof *out, model_order);
    return n;
}

/* ---- Claims and outcomes ---- */

void model_claim(struct model *m, struct model_task *t, uint64_t lease, int member)
{
    size_t kept = 0; /* the run begins after what its follow-ups are about, so it stands for them */
    for (size_t i = 0; i < m->nfollowups; i++)
        if (!model_same_key(&m->followups[i].spec, &t->spec))
            m->followups[kept++] = m->followups[i];
    m->nfollowups = kept;
    t->state = NQ_STATE_RUNNING;
    t->generation++;
    t->lease = lease;
    t->member = member;
    t->late = t->expires_hour != 0 && t->expires_hour <= m->hour;
}

static void model_end(struct model *m, struct model_task *t, int state)
{
    t->state = state;
    t->ended_hour = m->hour;
}

void model_finish(struct model *m, struct model_task *t, const nq_outcome *o, const char *error)
{
    m->lost[m->nlost++ % MODEL_STALE] = (struct model_lost){t->id, t->lease, t->number};
    const bool cancelled = t->cancelling && o->kind != NQ_OUT_DONE;
    const bool failed = !cancelled && (o->kind == NQ_OUT_RETRY || o->kind == NQ_OUT_DEAD);
    if (error && (failed || cancelled))
        t->error = error;
    t->attempts += failed && !o->expired;
    t->crashes += failed && o->crashed;
    t->cancelling = false;
    t->lease = 0;
    t->member = -1;
    if (cancelled) {
        model_end(m, t, NQ_STATE_CANCELLED);
    } else if (o->kind == NQ_OUT_DONE) {
        model_end(m, t, o->keep ? NQ_STATE_DONE : MODEL_GONE);
    } else if (o->kind == NQ_OUT_DEAD) {
        model_end(m, t, NQ_STATE_DEAD);
        model_died(m, t, true);
    } else {
        t->state = NQ_STATE_WAITING;
        if (o->kind != NQ_OUT_RELEASE)
            model_due_in(m, t, o->delay_us / MODEL_HOUR);
    }
}

int model_retry(struct model *m, struct model_task *t)
{
    if (!t)
        return NQ_ENOTFOUND;
    if (t->state == NQ_STATE_RUNNING)
        return NQ_ESTATE;
    if (t->state == NQ_STATE_WAITING) {
        t->expires_hour = 0; /* who retries by hand wants it run */
        if (t->due_hour > m->hour)
            model_due_in(m, t, 0);
        return NQ_OK;
    }
    if (model_live(m, &t->spec))
        return NQ_EDUPLICATE;
    t->state = NQ_STATE_WAITING;
    t->attempts = t->crashes = 0;
    t->expires_hour = 0;
    model_due_in(m, t, 0);
    return NQ_OK;
}

int model_cancel(struct model *m, struct model_task *t)
{
    if (!t)
        return NQ_ENOTFOUND;
    if (!model_is_live(t))
        return NQ_ESTATE;
    if (t->state == NQ_STATE_RUNNING)
        t->cancelling = true;
    else
        model_end(m, t, NQ_STATE_CANCELLED);
    return NQ_OK;
}

int model_delete(struct model *m, struct model_task *t)
{
    (void)m;
    if (!t)
        return NQ_ENOTFOUND;
    if (t->state == NQ_STATE_RUNNING)
        return NQ_ESTATE;
    t->state = MODEL_GONE;
    return NQ_OK;
}

void model_bury(struct model *m, struct model_task *t, const char *error)
{
    t->error = error;
    model_end(m, t, NQ_STATE_DEAD);
    model_died(m, t, false);
}

size_t model_promote(struct model *m, struct model_task *made[])
{
    size_t n = 0, kept = 0;
    for (size_t i = 0; i < m->nfollowups; i++) {
        struct model_followup *f = &m->followups[i];
        const struct model_task *live = model_live(m, &f->spec);
        struct model_task *t = !live ? model_add(m, &f->spec) : NULL;
        if (t) {
            made[n++] = t;
            t->expires_hour = f->expires_hour;
            model_due_in(m, t, 0);
            if (f->due_hour > m->hour) { /* its own time is still to come */
                t->due_hour = f->due_hour;
                t->due_seq = f->due_seq;
            }
        } else if (live && live->state == NQ_STATE_RUNNING) {
            size_t first = 0; /* stands for all of its key */
            while (first < kept && model_key(&m->followups[first].spec) != model_key(&f->spec))
                first++;
            m->followups[first] = first == kept ? *f : m->followups[first];
            kept += first == kept;
        }
    }
    m->nfollowups = kept;
    return n;
}

size_t model_purge(struct model *m, int64_t done_hours, int64_t dead_hours)
{
    size_t n = 0;
    for (size_t i = 0; i < m->n; i++) {
        struct model_task *t = &m->tasks[i];
        const bool done = t->state == NQ_STATE_DONE;
        if ((done || t->state == NQ_STATE_DEAD || t->state == NQ_STATE_CANCELLED) &&
            m->hour - t->ended_hour >= (done ? done_hours : dead_hours) && !model_keeps(m, t)) {
            t->state = MODEL_GONE;
            n++;
        }
    }
    return n;
}

void model_sweep(struct model *m)
{
    size_t kept = 0;
    for (size_t i = 0; i < m->n; i++)
        if (m->tasks[i].state != MODEL_GONE)
            m->tasks[kept++] = m->tasks[i];
    m->n = kept;
}
