/* SPDX-License-Identifier: MIT */
/* What this worker did since it was written last, by queue and type; written every 10 s. */
#include "series.h"
#include "worker.h"

/*
 * Counted once for each batch of outcomes that is recorded, under a lock that only the writing takes besides:
 * the rows are exchanged for empty ones, and no lock is held over the database's answer. Who runs nothing
 * writes nothing. For metrics they are added up as they are exchanged, so that these cost an attempt nothing;
 * only what is counted as TALLY_OTHER is added at once, under its own names.
 */
#define TALLY_PAIRS 64 /* of queue and type; what is one more counts for TALLY_OTHER of both */
#define TALLY_OTHER "(other)"

struct tally_half {
    nq_minute *rows[TALLY_PAIRS + 1];
    size_t n;
};

struct nq_tally {
    pthread_mutex_t lock; /* of now, totals and offset_us */
    struct tally_half now;
    nq_series_set totals;      /* since the worker was made, without `now` */
    struct tally_half writing; /* of the duties' thread */
    int64_t offset_us;         /* the database's clock before this host's */
};

NQ_PRIVATE int nq_tally_new(nq_tally **out, nq_err *err)
{
    nq_tally *t = calloc(1, sizeof *t);
    if (!t || pthread_mutex_init(&t->lock, NULL) != 0) {
        free(t);
        return nq_err_nomem(err);
    }
    *out = t;
    return NQ_OK;
}

static void tally_drop(struct tally_half *h)
{
    for (size_t i = 0; i < h->n; i++)
        free(h->rows[i]);
    h->n = 0;
}

NQ_PRIVATE void nq_tally_free(nq_tally *t)
{
    if (!t)
        return;
    tally_drop(&t->now);
    tally_drop(&t->writing);
    free(t->totals.all);
    pthread_mutex_destroy(&t->lock);
    free(t);
}

/* Without the spaces at its end, which a server takes for none. */
static size_t tally_type(const char *type)
{
    size_t n = strlen(type);
    while (n > 1 && type[n - 1] == ' ')
        n--;
    return n < sizeof((nq_minute *)0)->type ? n : sizeof((nq_minute *)0)->type - 1;
}

/* NULL: no memory; then it is not counted. */
static nq_minute *tally_of(struct tally_half *h, const char *queue, const char *type)
{
    const size_t n = tally_type(type);
    for (size_t i = 0; i < h->n; i++) {
        nq_minute *m = h->rows[i];
        if (memcmp(m->type, type, n) != 0 || m->type[n] || strcmp(m->queue, queue) != 0)
            continue;
        if (i > 0) { /* the next one is likely to be of the same */
            h->rows[i] = h->rows[0];
            h->rows[0] = m;
        }
        return m;
    }
    if (h->n >= TALLY_PAIRS && strcmp(queue, TALLY_OTHER) != 0)
        return tally_of(h, TALLY_OTHER, TALLY_OTHER);
    nq_minute *m = h->n <= TALLY_PAIRS ? calloc(1, sizeof *m) : NULL;
    if (!m)
        return NULL;
    memcpy(m->type, type, n);
    memcpy(m->queue, queue, strnlen(queue, NQ_MAX_QUEUE));
    h->rows[h->n++] = m;
    return m;
}

static void tally_time(uint32_t buckets[NQ_BUCKETS], uint64_t *sum, int64_t us)
{
    us = us < 0 ? 0 : us;
    buckets[nq_log2_bucket(us)]++;
    *sum += (uint64_t)us;
}

static void tally_add(nq_counts *c, const nq_tally *t, const nq_ctx *ctx, int64_t now, int64_t to_real)
{
    const int64_t begun = atomic_load(&ctx->begun_us), ended = atomic_load(&ctx->ended_us);
    switch (ctx->out.kind) {
    case NQ_OUT_DONE:
    case NQ_OUT_CONFIRM:
        c->done++;
        break;
    case NQ_OUT_RETRY:
        c->retried++;
        break;
    case NQ_OUT_DEAD:
        c->dead++;
        break;
    case NQ_OUT_CANCELLED:
        c->cancelled++;
        break;
    case NQ_OUT_SNOOZE:
        c->snoozed++;
        break;
    case NQ_OUT_RELEASE:
        return;
    }
    c->crashed += ctx->out.crashed;
    if (!begun) /* it never ran here */
        return;
    tally_time(c->wait, &c->wait_us, nq_us_since(begun + to_real + t->offset_us, ctx->claim->task.run_at_us));
    tally_time(c->run, &c->run_us, (ended ? ended : now) - begun);
}

static bool tally_is_other(const nq_minute *m)
{
    return strcmp(m->queue, TALLY_OTHER) == 0;
}

static void tally_count(nq_tally *t, const nq_ctx *ctx, int64_t now, int64_t to_real)
{
    const nq_task *task = &ctx->claim->task;
    nq_minute *m = tally_of(&t->now, task->queue, task->type);
    if (!m)
        return;
    tally_add(&m->counts, t, ctx, now, to_real);
    if (tally_is_other(m)) {
        nq_counts one = {0};
        tally_add(&one, t, ctx, now, to_real);
        nq_series_add(&t->totals, task->queue, task->type, &one);
    }
}

/* With the lock held. */
static void tally_sum(const struct tally_half *h, nq_series_set *to)
{
    for (size_t i = 0; i < h->n; i++)
        if (!tally_is_other(h->rows[i]))
            nq_series_add(to, h->rows[i]->queue, h->rows[i]->type, &h->rows[i]->counts);
}

NQ_PRIVATE bool nq_tally_series(nq_tally *t, nq_series_set *out)
{
    bool ok = true;
    *out = (nq_series_set){0};
    pthread_mutex_lock(&t->lock);
    if (t->totals.n > 0) {
        *out = t->totals;
        out->all = malloc(out->cap * sizeof *out->all);
        ok = out->all;
        if (ok)
            memcpy(out->all, t->totals.all, out->n * sizeof *out->all);
    }
    if (ok)
        tally_sum(&t->now, out);
    pthread_mutex_unlock(&t->lock);
    return ok;
}

NQ_PRIVATE void nq_tally_count(nq_tally *t, nq_ctx *const batch[], size_t n, bool committed)
{
    const int64_t now = nq_mono_us(), to_real = nq_real_us() - now;
    pthread_mutex_lock(&t->lock);
    for (size_t i = 0; i < n; i++) {
        const nq_outcome *out = &batch[i]->out;
        if (out->kind != NQ_OUT_RELEASE &&
            (out->result == NQ_OK || batch[i]->unknown || (committed && out->kind != NQ_OUT_CONFIRM)))
            tally_count(t, batch[i], now, to_real);
    }
    pthread_mutex_unlock(&t->lock);
}

NQ_PRIVATE int nq_tally_write(nq_worker *w, uint64_t worker, nq_err *err)
{
    nq_tally *t = w->tally;
    int64_t theirs = 0;
    pthread_mutex_lock(&t->lock);
    if (t->writing.n == 0) { /* else that failed, and goes first */
        tally_sum(&t->now, &t->totals);
        t->writing = t->now;
        t->now.n = 0;
    }
    pthread_mutex_unlock(&t->lock);
    if (t->writing.n == 0)
        return NQ_OK;
    const int64_t before = nq_real_us();
    const int rc = nq_store_minutes_add(w->store, worker, (const nq_minute *const *)t->writing.rows,
                                        t->writing.n, &theirs, err);
    const int64_t after = nq_real_us();
    pthread_mutex_lock(&t->lock);
    if (theirs > 0)
        t->offset_us = theirs < before ? theirs - before : theirs > after ? theirs - after : 0;
    pthread_mutex_unlock(&t->lock);
    /* Of an unknown outcome: rather lost than counted twice. */
    if (rc == NQ_OK || rc == NQ_EUNKNOWN)
        tally_drop(&t->writing);
    return rc == NQ_EUNKNOWN ? NQ_OK : rc;
}
