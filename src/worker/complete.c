/* SPDX-License-Identifier: MIT */
/* Records outcomes in batches. */
#include "worker.h"

/* How soon to ask again for what a transaction that is still open decides. */
#define COMPLETER_LATER_US NQ_MS(100)

/* The batch that is being recorded. It stays together until it is: after NQ_EUNKNOWN only the very same
 * batch tells whether it took effect. */
struct completer {
    nq_worker *worker;
    size_t n;
    size_t nouts; /* to be recorded; the rest of the batch was, by the handlers */
    size_t limit; /* of the next batch; shrinks to find an outcome that the database refuses */
    bool asked;   /* the database knows which are the rest */
    bool unknown; /* an earlier try may have taken effect */
    struct nq_outage outage;
    nq_task_list later; /* an open transaction, the handler's own or another, decides: asked again */
    int64_t later_us;   /* then */
    nq_ctx *batch[NQ_FINISH_MAX];
    nq_outcome *outs[NQ_FINISH_MAX];
};

/* After NQ_EUNKNOWN: all lost means that the first try committed. */
static bool complete_did_commit(const struct completer *c)
{
    if (!c->unknown)
        return false;
    for (size_t i = 0; i < c->nouts; i++)
        if (c->outs[i]->result == NQ_OK || c->outs[i]->result == NQ_ECONFLICT)
            return false;
    return true;
}

static void complete_count(nq_worker *w, const nq_ctx *ctx, bool ours)
{
    if (ctx->orphan)
        return; /* another worker claimed it: our figures would not add up */
    if (!ours) {
        atomic_fetch_add(&w->lease_lost, 1);
        return;
    }
    switch (ctx->out.kind) {
    case NQ_OUT_DONE:
    case NQ_OUT_CONFIRM:
        atomic_fetch_add(&w->done, 1);
        break;
    case NQ_OUT_RETRY:
        atomic_fetch_add(&w->retried, 1);
        break;
    case NQ_OUT_SNOOZE:
        atomic_fetch_add(&w->snoozed, 1);
        break;
    case NQ_OUT_RELEASE:
        atomic_fetch_add(&w->released, 1);
        break;
    case NQ_OUT_DEAD:
        atomic_fetch_add(&w->dead, 1);
        break;
    case NQ_OUT_CANCELLED:
        atomic_fetch_add(&w->cancelled, 1);
        break;
    }
}

/* Those that their handlers completed themselves: which of them need not be recorded, by the answer of the
 * database, and which may be so later. */
static int complete_confirm(struct completer *c, nq_err *err)
{
    size_t n = 0, kept = 0;
    for (size_t i = 0; i < c->n; i++)
        if (c->batch[i]->out.kind == NQ_OUT_CONFIRM)
            c->outs[n++] = &c->batch[i]->out;
    int rc = n ? nq_store_confirm(c->worker->store, c->outs, n, err) : NQ_OK;
    if (rc != NQ_OK)
        return rc;
    c->nouts = 0;
    for (size_t i = 0; i < c->n; i++) {
        nq_ctx *ctx = c->batch[i];
        if (ctx->out.kind == NQ_OUT_CONFIRM && ctx->out.result == NQ_ECONFLICT) {
            nq_task_list_push(&c->later, ctx);
            c->later_us = nq_mono_us() + COMPLETER_LATER_US;
            continue;
        }
        if (ctx->out.kind == NQ_OUT_CONFIRM && ctx->out.result == NQ_ESTATE)
            nq_dispatch_uncommitted(ctx, &ctx->out);
        if (ctx->out.kind != NQ_OUT_CONFIRM) {
            ctx->out.queue = ctx->claim->task.queue;
            c->outs[c->nouts++] = &ctx->out;
        }
        c->batch[kept++] = ctx;
    }
    c->n = kept;
    c->asked = true;
    return NQ_OK;
}

/* The batch is in other hands now. */
static void complete_empty(struct completer *c)
{
    c->n = c->nouts = 0;
    c->asked = c->unknown = false;
}

/* Workers of the queues that dead letters went to may be told. */
static void complete_post(nq_worker *w, nq_ctx *const batch[], size_t n)
{
    uint64_t queues[NQ_HINT_QUEUES];
    size_t some = 0;
    for (size_t i = 0; i < n && some < NQ_HINT_QUEUES; i++) {
        const nq_outcome *out = &batch[i]->out;
        if (out->kind == NQ_OUT_DEAD && out->result == NQ_OK && out->letter != NQ_HINT_ANY &&
            (some == 0 || queues[some - 1] != out->letter))
            queues[some++] = out->letter;
    }
    if (some)
        nq_wake(w->q, queues, some, 0);
}

/* Whoever waits for their ends is told. */
static void complete_tell(nq_worker *w, nq_ctx *const batch[], size_t n, bool committed, int64_t now)
{
    nq_id ids[NQ_FINISH_MAX];
    size_t some = 0;
    if (!nq_hints_waits(nq_hints_of(w->q), now))
        return;
    for (size_t i = 0; i < n; i++) {
        const nq_outcome *out = &batch[i]->out;
        const bool ended = out->kind == NQ_OUT_DONE || out->kind == NQ_OUT_CONFIRM ||
                           out->kind == NQ_OUT_DEAD || out->kind == NQ_OUT_CANCELLED;
        if (ended && (out->result == NQ_OK || batch[i]->unknown || committed))
            ids[some++] = out->id;
    }
    nq_hints_ended(nq_hints_of(w->q), ids, some);
}

NQ_PRIVATE void nq_recorded(nq_worker *w, nq_ctx *const batch[], size_t n, bool committed)
{
    int64_t now = nq_mono_us(), due = INT64_MAX;
    size_t orphans = 0, reclaimed = 0, lost = 0, released = 0;

    complete_tell(w, batch, n, committed, now); /* first: they wait for it */
    nq_tally_count(w->tally, batch, n, committed);

    for (size_t i = 0; i < n; i++) {
        const nq_ctx *ctx = batch[i];
        const nq_outcome *out = &ctx->out;
        bool ours = out->result == NQ_OK || ctx->unknown || (committed && out->kind != NQ_OUT_CONFIRM);
        complete_count(w, ctx, ours);
        orphans += ctx->orphan;
        reclaimed += ctx->orphan && ours;
        lost += !ours && !ctx->orphan;
        nq_event_ended(batch[i], ours);
        if (!ours)
            continue;
        if (out->kind == NQ_OUT_DONE && !out->keep)
            nq_lines_forget(w, ctx);
        released += out->kind == NQ_OUT_RELEASE;
        if ((out->kind == NQ_OUT_RETRY || out->kind == NQ_OUT_SNOOZE) && now + out->delay_us < due)
            due = now + out->delay_us;
    }
    if (reclaimed)
        nq_worker_log(w, NQ_LOG_WARN, "%zu task(s) of a dead worker found", reclaimed);
    if (lost)
        nq_worker_log(w, NQ_LOG_WARN, "lease lost: %zu outcome(s) had no effect", lost);

    complete_post(w, batch, n);
    for (size_t i = 0; i < n; i++)
        nq_ctx_unref(batch[i]);
    pthread_mutex_lock(&w->lock);
    w->unrecorded -= n;
    w->recorded += n;
    w->orphans -= orphans;
    w->outrun = orphans ? reclaimed == 0 : w->outrun;
    w->wrote_us = now;
    for (size_t i = 0; i < w->nqueues; i++)
        if (w->queues[i].throttled) { /* one runs less */
            w->queues[i].throttled = false;
            w->queues[i].next_us = now;
            pthread_cond_signal(&w->fetch_cond);
        }
    bool last = nq_worker_held(w) == 0;
    /* What comes due later than the longest sleep is found by polling. */
    bool soon = due <= now + w->opts.poll_us && due < w->due_us;
    if (soon)
        w->due_us = due;
    if (soon || (last && w->opts.drain != NQ_DRAIN_NEVER) ||
        (w->fetcher == NQ_FETCHER_FULL && nq_fetch_wanted(w) > 0))
        pthread_cond_signal(&w->fetch_cond);
    if (last && w->rejoin)
        pthread_cond_signal(&w->duties_cond);
    const bool leaving = w->phase != NQ_PHASE_RUN;
    pthread_mutex_unlock(&w->lock);
    if (released && leaving) { /* others may have them now */
        const uint64_t any = NQ_HINT_ANY;
        nq_wake(w->q, &any, 1, 0);
    }
}

/* Those whose rows somebody holds are recorded later; of a dead worker's, somebody finds them again. */
static void complete_put_off(struct completer *c)
{
    size_t kept = 0, held = 0;
    for (size_t i = 0; i < c->nouts; i++)
        held += c->outs[i]->result == NQ_ECONFLICT;
    for (size_t i = 0; i < c->n; i++) {
        nq_ctx *ctx = c->batch[i];
        if (ctx->out.result != NQ_ECONFLICT || ctx->orphan) {
            c->batch[kept++] = ctx;
            continue;
        }
        ctx->out.wary = true;
        ctx->unknown =
            ctx->unknown || (c->unknown && held == c->nouts); /* it may be our first try that holds */
        nq_task_list_push(&c->later, ctx);
        c->later_us = nq_mono_us() + COMPLETER_LATER_US;
    }
    c->n = kept;
}

/* Is it an outcome that is to blame, rather than the state that the database is in? */
static bool complete_refused(int rc)
{
    return rc == NQ_EDB || rc == NQ_EINVAL || rc == NQ_ETOOBIG || rc == NQ_EDUPLICATE;
}

/* After a failure: sleep and answer whether to go on. At the end only for so long. */
static bool complete_pause(struct completer *c, const nq_err *err)
{
    nq_worker *w = c->worker;
    const bool halve = c->n > 1 && complete_refused(err->code);
    int64_t pause = halve ? 0 : nq_outage_failed(w, &c->outage, "recording outcomes", err);
    int64_t until = nq_mono_us() + pause;

    pthread_mutex_lock(&w->lock);
    if (complete_refused(err->code)) {
        /* Halve down to the one that is refused, and put that behind the others. */
        for (size_t i = 0; i < c->n; i++)
            nq_task_list_push(&w->ended, c->batch[i]);
        c->limit = c->n > 1 ? c->n / 2 : 1;
        complete_empty(c);
    }
    bool on = true;
    for (;;) {
        if (w->phase == NQ_PHASE_RECORD) {
            on = nq_mono_us() < w->give_up_us;
            if (until > w->give_up_us)
                until = w->give_up_us;
        }
        if (!on || !nq_cond_wait_until(&w->done_cond, &w->lock, until))
            break;
    }
    if (!on)
        w->lost_err = *err;
    pthread_mutex_unlock(&w->lock);
    return on;
}

/* With the lock held: wait until there is something to do, or nothing any more, or no time for it. */
static bool complete_wait(struct completer *c)
{
    nq_worker *w = c->worker;
    while (!w->ended.head && (w->phase < NQ_PHASE_RECORD || c->later.n > 0)) {
        const int64_t now = nq_mono_us();
        if (c->later.n > 0 && w->phase == NQ_PHASE_RECORD && now >= w->give_up_us)
            return false;
        if (c->later.n > 0 && now >= c->later_us)
            break;
        w->completer_idle = true;
        nq_cond_wait_until(&w->done_cond, &w->lock, c->later.n > 0 ? c->later_us : now + NQ_SECONDS(3600));
        w->completer_idle = false;
    }
    return true;
}

/* Fill the batch; false when nothing is left and nothing will come, or (*given_up) no time for it. */
static bool complete_take(struct completer *c, bool *given_up)
{
    nq_worker *w = c->worker;
    pthread_mutex_lock(&w->lock);
    if (c->later.n == 0)
        w->batch_us = 0;
    *given_up = !complete_wait(c);
    if (*given_up)
        nq_err_set(
            &w->lost_err, NQ_ECONFLICT,
            "a transaction that is still open holds the tasks, perhaps a handler's nq_ctx_complete_in");
    while (!*given_up && c->later.n > 0 && nq_mono_us() >= c->later_us)
        nq_task_list_push(&w->ended, nq_task_list_pop(&c->later));
    while (!*given_up && c->n < c->limit && w->ended.head) {
        c->batch[c->n] = nq_task_list_pop(&w->ended);
        c->n++;
    }
    if (c->n > 0 && w->batch_us == 0)
        w->batch_us = nq_mono_us();
    pthread_mutex_unlock(&w->lock);
    return c->n > 0;
}

/* Given up: what is still unrecorded is dropped here, and comes back when the lease ends. */
static void complete_drop(struct completer *c)
{
    nq_worker *w = c->worker;
    pthread_mutex_lock(&w->lock);
    for (size_t i = 0; i < c->n; i++)
        nq_task_list_push(&w->ended, c->batch[i]);
    nq_ctx *ctx;
    while ((ctx = nq_task_list_pop(&c->later)))
        nq_task_list_push(&w->ended, ctx);
    w->lost = w->unrecorded;
    while ((ctx = nq_task_list_pop(&w->ended))) {
        w->lost -= ctx->orphan;
        nq_ctx_unref(ctx);
    }
    w->unrecorded = w->orphans = 0;
    pthread_mutex_unlock(&w->lock);
}

/* Record the batch. */
static int complete_record(struct completer *c, nq_err *err)
{
    int rc = c->asked ? NQ_OK : complete_confirm(c, err);
    if (rc != NQ_OK || c->nouts == 0)
        return rc;
    rc = nq_store_finish(c->worker->store, c->outs, c->nouts, err);
    c->unknown = c->unknown || rc == NQ_EUNKNOWN;
    return rc;
}

NQ_PRIVATE void *nq_completer_main(void *arg)
{
    struct completer c = {.worker = arg, .limit = NQ_FINISH_MAX};
    nq_err err = {0};
    bool given_up = false;
    nq_task_list_init(&c.later);
    for (;;) {
        if (c.n == 0 && !complete_take(&c, &given_up))
            break;
        atomic_store(&c.worker->recording_us, nq_mono_us());
        int rc = complete_record(&c, &err);
        atomic_store(&c.worker->recording_us, 0);
        if (rc == NQ_OK) {
            nq_outage_ended(c.worker, &c.outage, "recording outcomes");
            const bool committed = complete_did_commit(&c);
            complete_put_off(&c);
            nq_recorded(c.worker, c.batch, c.n, committed);
            complete_empty(&c);
            c.limit = c.limit >= NQ_FINISH_MAX / 2 ? NQ_FINISH_MAX : c.limit * 2;
            continue;
        }
        if (!complete_pause(&c, &err)) {
            given_up = true;
            break;
        }
    }
    if (given_up)
        complete_drop(&c);
    return NULL;
}

NQ_PRIVATE void nq_piggybacks_claimed(nq_worker *w, nq_piggybacks *a, enum nq_piggybacked piggybacked)
{
    if (a->n == 0)
        return;
    if (piggybacked == NQ_PIGGYBACKED) {
        nq_recorded(w, a->ctx, a->n, false);
        return;
    }
    pthread_mutex_lock(&w->lock);
    for (size_t i = 0; i < a->n; i++) {
        a->ctx[i]->unknown = piggybacked == NQ_PIGGYBACKED_UNKNOWN;
        nq_task_list_push(&w->ended, a->ctx[i]);
    }
    nq_piggyback_end(w);
    pthread_mutex_unlock(&w->lock);
}
