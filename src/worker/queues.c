/* SPDX-License-Identifier: MIT */
/* The queues that a worker serves: their options, and whose turn it is. */
#include "worker.h"

#define QUEUES_MAX_WEIGHT 1000

/* ---- Options ---- */

static int queues_read_one(nq_worker *w, const nq_queue_options *o, size_t at, nq_err *err)
{
    struct nq_worker_queue *queue = &w->queues[at];
    int rc;
    if (!o->name)
        return nq_err_set(err, NQ_EINVAL, "queues[%zu].name is NULL", at);
    if ((rc = nq_check_queue(o->name, err)) != NQ_OK)
        return rc;
    for (size_t k = 0; k < at; k++)
        if (strcmp(w->queues[k].name, o->name) == 0)
            return nq_err_set(err, NQ_EINVAL, "queue '%s' is named twice", o->name);
    if (o->concurrency > NQ_MAX_CONCURRENCY)
        return nq_err_set(err, NQ_EINVAL,
                          "queue '%s': concurrency is %u; allowed are 1 to %d, and 0 for no limit", o->name,
                          o->concurrency, NQ_MAX_CONCURRENCY);
    if (o->weight > QUEUES_MAX_WEIGHT)
        return nq_err_set(err, NQ_EINVAL, "queue '%s': weight is %u; allowed are 1 to %d", o->name, o->weight,
                          QUEUES_MAX_WEIGHT);
    memcpy(queue->name, o->name, strlen(o->name) + 1);
    queue->hint = nq_hint_queue(queue->name);
    queue->pause_us = NQ_PAUSE_MIN_US;
    queue->concurrency = queue->asked = o->concurrency;
    queue->weight = o->weight > 0 ? o->weight : 1;
    return NQ_OK;
}

/* The array may be of an older or a newer header: the first one's size is its stride. */
NQ_PRIVATE int nq_queues_read(nq_worker *w, nq_err *err)
{
    static const nq_queue_options fallback = {.size = sizeof fallback, .name = "default"};
    const size_t n = w->opts.nqueues > 0 ? w->opts.nqueues : 1;
    const char *at = (const char *)(w->opts.nqueues > 0 ? w->opts.queues : &fallback);
    size_t stride, size;
    if (!at)
        return nq_err_set(err, NQ_EINVAL, "queues is NULL, but nqueues is not 0");
    w->queues = calloc(n, sizeof *w->queues);
    if (!w->queues)
        return nq_err_nomem(err);
    memcpy(&stride, at, sizeof stride);
    for (; w->nqueues < n; w->nqueues++, at += stride) {
        nq_queue_options o;
        memcpy(&size, at, sizeof size);
        if (size != stride)
            return nq_err_set(
                err, NQ_EINVAL,
                "queues[%zu].size is %zu, but that of queues[0] is %zu: set each to sizeof(nq_queue_options)",
                w->nqueues, size, stride);
        int rc = nq_options_copy(&o, sizeof o, at, "nq_queue_options", err);
        if (rc == NQ_OK)
            rc = queues_read_one(w, &o, w->nqueues, err);
        if (rc != NQ_OK)
            return rc;
    }
    w->opts.queues = NULL; /* the caller's; ours are the queues */
    return NQ_OK;
}

/* ---- Turns ---- */

NQ_PRIVATE size_t nq_queue_least(const struct nq_worker_queue *queue, int64_t now)
{
    return now < queue->gather_us ? (queue->concurrency + 1) / 2 : 1;
}

/* Smooth weighted round robin, which is how nginx chooses an upstream
 * (src/http/ngx_http_upstream_round_robin.c): each queue that may be asked earns its weight, the richest has
 * the turn and pays what all of them earned. Weights 3 and 1 give a a b a, not a a a b; equal ones plain
 * turns; and one that waits grows richer until its turn comes, so that none starves. */
NQ_PRIVATE struct nq_worker_queue *nq_queue_turn(nq_worker *w, int64_t now, int64_t *until, bool *limited)
{
    struct nq_worker_queue *best = NULL;
    int64_t earned = 0;
    for (size_t i = 0; i < w->nqueues; i++) {
        struct nq_worker_queue *queue = &w->queues[i];
        if (queue->paused)
            continue;
        const int64_t next = queue->held_until_us > queue->next_us ? queue->held_until_us : queue->next_us;
        if (next > now) {
            *until = next < *until ? next : *until;
        } else if (nq_queue_room(queue) < nq_queue_least(queue, now)) {
            *limited = true;
            if (now < queue->gather_us && queue->gather_us < *until)
                *until = queue->gather_us;
        } else {
            queue->credit += queue->weight;
            earned += queue->weight;
            best = best && best->credit >= queue->credit ? best : queue;
        }
    }
    if (best)
        best->credit -= earned;
    return best;
}
