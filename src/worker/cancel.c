/* SPDX-License-Identifier: MIT */
/* What concerns attempts that run: requests to cancel them, and what they tell of their progress. */
#include "worker.h"

/* ---- Requests to cancel ---- */

NQ_PRIVATE void nq_steer_look(void *arg)
{
    nq_worker *w = arg;
    pthread_mutex_lock(&w->lock);
    if (nq_worker_held(w) > 0 && !w->look) {
        w->look = true;
        pthread_cond_signal(&w->live_cond);
    }
    pthread_mutex_unlock(&w->lock);
}

static bool steer_is(const nq_ctx *ctx, const nq_attempt *a)
{
    return ctx->claim->task.id == a->id && ctx->claim->lease == a->lease;
}

static bool steer_asked(const nq_ctx *ctx, const nq_attempt list[], size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (steer_is(ctx, &list[i]))
            return true;
    return false;
}

/* With the lock held: those that have not begun never will. */
static void steer_ready(nq_worker *w, const nq_attempt list[], size_t n)
{
    nq_jobs all = w->ready;
    if (!all.head)
        return;
    nq_jobs_init(&w->ready);
    for (nq_ctx *ctx = all.head, *next; ctx; ctx = next) {
        next = ctx->next;
        if (steer_asked(ctx, list, n)) {
            ctx->out.kind = NQ_OUT_CANCELLED;
            nq_done_push(w, ctx);
        } else {
            nq_jobs_push(&w->ready, ctx);
        }
    }
}

NQ_PRIVATE int nq_steer_cancels(nq_worker *w, nq_err *err)
{
    nq_attempt *list = NULL;
    size_t n = 0;
    pthread_mutex_lock(&w->lock);
    const uint64_t member = w->member;
    pthread_mutex_unlock(&w->lock);
    int rc = nq_store_cancels(w->store, member, &list, &n, err);
    if (rc != NQ_OK || n == 0)
        return rc;
    pthread_mutex_lock(&w->lock);
    steer_ready(w, list, n);
    for (unsigned i = 0; i < w->opts.concurrency; i++) {
        if (w->slots[i].ctx && steer_asked(w->slots[i].ctx, list, n))
            nq_ctx_cancel(w->slots[i].ctx, NQ_CAUSE_CANCEL);
        for (nq_ctx *ctx = w->slots[i].ahead.head; ctx; ctx = ctx->next)
            if (steer_asked(ctx, list, n))
                nq_ctx_cancel(ctx, NQ_CAUSE_CANCEL);
    }
    pthread_mutex_unlock(&w->lock);
    free(list);
    return NQ_OK;
}

/* ---- Progress ---- */

/* What a handler thread's attempts have told; each runs one at a time. */
struct steer_report {
    nq_progress *news;  /* not written yet; NULL: nothing */
    nq_attempt written; /* the row that is there; id 0: none */
};

struct nq_reports {
    nq_worker *worker;
    size_t n; /* of slots; and of each array */
    const nq_progress **told;
    nq_attempt *ended;
    struct steer_report report[];
};

NQ_PRIVATE int nq_reports_new(nq_reports **out, nq_worker *w, nq_err *err)
{
    const size_t n = w->opts.concurrency;
    nq_reports *r = calloc(1, sizeof *r + n * sizeof *r->report);
    if (!r)
        return nq_err_nomem(err);
    r->worker = w;
    r->n = n;
    r->told = calloc(n, sizeof *r->told);
    r->ended = calloc(n, sizeof *r->ended);
    if (!r->told || !r->ended) {
        nq_reports_free(r);
        return nq_err_nomem(err);
    }
    *out = r;
    return NQ_OK;
}

NQ_PRIVATE void nq_reports_free(nq_reports *r)
{
    if (!r)
        return;
    for (size_t i = 0; i < r->n; i++)
        free(r->report[i].news);
    free(r->told);
    free(r->ended);
    free(r);
}

/* With the lock held: take out what slot i's attempt has told. What its attempt before has told is over: not
 * written, or to be taken away. */
static void steer_take(nq_reports *r, size_t i, size_t *nended)
{
    struct steer_report *at = &r->report[i];
    nq_ctx *ctx = r->worker->slots[i].ctx;
    nq_progress *news = ctx ? atomic_exchange(&ctx->progress, NULL) : NULL;
    if (news || (at->news && !(ctx && steer_is(ctx, &at->news->of)))) {
        free(at->news);
        at->news = news;
    }
    if (at->written.id && !(ctx && steer_is(ctx, &at->written)))
        r->ended[(*nended)++] = at->written;
}

NQ_PRIVATE int nq_reports_write(nq_reports *r, nq_err *err)
{
    nq_worker *w = r->worker;
    size_t ntold = 0, nended = 0;
    bool any = atomic_exchange(&w->told, false);
    for (size_t i = 0; i < r->n && !any; i++)
        any = r->report[i].news || r->report[i].written.id;
    if (!any)
        return NQ_OK;
    pthread_mutex_lock(&w->lock);
    for (size_t i = 0; i < r->n; i++)
        steer_take(r, i, &nended);
    pthread_mutex_unlock(&w->lock);
    for (size_t i = 0; i < r->n; i++)
        if (r->report[i].news)
            r->told[ntold++] = r->report[i].news;
    int rc = nq_store_progress(w->store, r->told, ntold, r->ended, nended, err);
    if (rc != NQ_OK)
        return rc;
    for (size_t i = 0, k = 0; i < r->n; i++) {
        struct steer_report *at = &r->report[i];
        if (k < nended && at->written.id == r->ended[k].id && at->written.lease == r->ended[k].lease) {
            at->written.id = 0;
            k++;
        }
        if (!at->news)
            continue;
        at->written = at->news->of;
        free(at->news);
        at->news = NULL;
    }
    return NQ_OK;
}
