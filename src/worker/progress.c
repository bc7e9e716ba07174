/* SPDX-License-Identifier: MIT */
/* What running attempts report of their progress, and how it comes to be written. */
#include "isolate/isolate.h"

/* The start of a text that fits, without half a character. */
static size_t progress_note(const char *text, size_t n)
{
    if (n <= NQ_MAX_NOTE)
        return n;
    for (n = NQ_MAX_NOTE; n > NQ_MAX_NOTE - 4 && ((unsigned char)text[n] & 0xc0) == 0x80; n--)
        ;
    return n;
}

NQ_PRIVATE void nq_ctx_set_progress(nq_ctx *ctx, int64_t done, int64_t total, const char *note, size_t n)
{
    nq_progress *now = malloc(sizeof *now);
    if (!now)
        return; /* the next one may get through */
    now->of = (nq_attempt){ctx->claim->task.id, ctx->claim->lease};
    now->done = done > 0 ? done : 0;
    now->total = total > 0 ? total : 0;
    now->note_size = progress_note(note, n);
    if (now->note_size)
        memcpy(now->note, note, now->note_size);
    /* Whoever takes one out owns it, so no lock is needed. */
    free(atomic_exchange(&ctx->progress, now));
    if (!atomic_load(&ctx->worker->progressed))
        atomic_store(&ctx->worker->progressed, true);
}

void nq_ctx_progress(nq_ctx *ctx, int64_t done, int64_t total, const char *note)
{
    if (ctx->page)
        nq_child_progress(ctx, done, total, note);
    else
        nq_ctx_set_progress(ctx, done, total, note, note ? strlen(note) : 0);
}

/* What a handler thread's attempts have reported; each runs one at a time. */
struct progress_report {
    nq_progress *latest; /* not written yet; NULL: nothing */
    nq_attempt written;  /* the row that is there; id 0: none */
};

struct nq_reports {
    nq_worker *worker;
    size_t n; /* of threads; and of each array */
    const nq_progress **batch;
    nq_attempt *ended;
    struct progress_report report[];
};

NQ_PRIVATE int nq_reports_new(nq_reports **out, nq_worker *w, nq_err *err)
{
    const size_t n = w->opts.concurrency;
    nq_reports *r = calloc(1, sizeof *r + n * sizeof *r->report);
    if (!r)
        return nq_err_nomem(err);
    r->worker = w;
    r->n = n;
    r->batch = calloc(n, sizeof *r->batch);
    r->ended = calloc(n, sizeof *r->ended);
    if (!r->batch || !r->ended) {
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
        free(r->report[i].latest);
    free(r->batch);
    free(r->ended);
    free(r);
}

/* With the lock held: take out what thread i's attempt has reported. What its attempt before has reported is
 * over: not written, or to be taken outage. */
static void progress_take(nq_reports *r, size_t i, size_t *nended)
{
    struct progress_report *at = &r->report[i];
    nq_ctx *ctx = r->worker->threads[i].ctx;
    nq_progress *latest = ctx ? atomic_exchange(&ctx->progress, NULL) : NULL;
    if (latest || (at->latest && !(ctx && nq_ctx_is(ctx, &at->latest->of)))) {
        free(at->latest);
        at->latest = latest;
    }
    if (at->written.id && !(ctx && nq_ctx_is(ctx, &at->written)))
        r->ended[(*nended)++] = at->written;
}

NQ_PRIVATE int nq_reports_write(nq_reports *r, nq_err *err)
{
    nq_worker *w = r->worker;
    size_t nbatch = 0, nended = 0;
    bool any = atomic_exchange(&w->progressed, false);
    for (size_t i = 0; i < r->n && !any; i++)
        any = r->report[i].latest || r->report[i].written.id;
    if (!any)
        return NQ_OK;
    pthread_mutex_lock(&w->lock);
    for (size_t i = 0; i < r->n; i++)
        progress_take(r, i, &nended);
    pthread_mutex_unlock(&w->lock);
    for (size_t i = 0; i < r->n; i++)
        if (r->report[i].latest)
            r->batch[nbatch++] = r->report[i].latest;
    int rc = nq_store_progress(w->store, r->batch, nbatch, r->ended, nended, err);
    if (rc != NQ_OK)
        return rc;
    for (size_t i = 0, k = 0; i < r->n; i++) {
        struct progress_report *at = &r->report[i];
        if (k < nended && at->written.id == r->ended[k].id && at->written.lease == r->ended[k].lease) {
            at->written.id = 0;
            k++;
        }
        if (!at->latest)
            continue;
        at->written = at->latest->of;
        free(at->latest);
        at->latest = NULL;
    }
    return NQ_OK;
}
