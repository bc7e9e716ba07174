/* SPDX-License-Identifier: MIT */
/* The thread that waits for the bell: for hints that come through the database's server. */
#include "worker.h"

/* The bell is hung out so often a second over time, and so often at once. */
#define LISTEN_BELL_HANGS_PER_S 40
#define LISTEN_BELL_HANGS_BURST 20
/* With a look that soon the bell needs none of its own. */
#define LISTEN_BELL_SOON_US NQ_MS(10)

struct nq_listen_bell {
    nq_worker *worker;
    nq_bell *bell;
    pthread_t thread;
};

/* With the lock held: wait until the fetcher waits for tasks and the bell may be hung out again. */
static bool listen_bell_wait(nq_worker *w, int64_t from_us)
{
    while (w->phase == NQ_PHASE_RUN) {
        if (nq_mono_us() < from_us) {
            nq_cond_wait_until(&w->bell_cond, &w->lock, from_us);
        } else if (w->fetcher == NQ_FETCHER_IDLE) {
            return true;
        } else {
            w->bell_waits = true;
            pthread_cond_wait(&w->bell_cond, &w->lock);
            w->bell_waits = false;
        }
    }
    return false;
}

/* What was committed between the fetcher's last look and the hanging rang nothing: have it look again. */
static void listen_bell_look_again(nq_worker *w)
{
    int64_t next = INT64_MAX;
    pthread_mutex_lock(&w->lock);
    for (size_t i = 0; i < w->nqueues; i++)
        if (w->queues[i].next_us < next && !w->queues[i].paused && nq_queue_room(&w->queues[i]) > 0)
            next = w->queues[i].next_us;
    pthread_mutex_unlock(&w->lock);
    if (next > nq_mono_us() + LISTEN_BELL_SOON_US)
        nq_fetch_wake(w, NQ_HINT_ANY, 0);
}

/* Hang it out once. Answers how long to pause: not at all, longer and longer when it does not work, or (-1)
 * for ever, where none can be had. */
static int64_t listen_bell_once(nq_listen_bell *b, int64_t pause)
{
    nq_worker *w = b->worker;
    bool rung = false;
    nq_err err = {0};
    int rc = nq_bell_hang(b->bell, &err);
    if (rc == NQ_OK) {
        listen_bell_look_again(w);
        rc = nq_bell_wait(b->bell, &rung, &err);
    }
    if (rc == NQ_OK) {
        if (rung) {
            nq_fetch_wake(w, NQ_HINT_ANY, 0);
            nq_cancels_wake(w);
        }
        return 0;
    }
    pthread_mutex_lock(&w->lock);
    const bool on = w->phase == NQ_PHASE_RUN;
    pthread_mutex_unlock(&w->lock);
    if (on)
        nq_worker_log(w, NQ_LOG_DEBUG, "the bell: %s", err.message);
    if (rc == NQ_EUNSUPPORTED)
        return -1;
    if (pause == 0)
        return NQ_MS(500);
    return pause < NQ_SECONDS(15) ? pause * 2 : NQ_SECONDS(30);
}

static void *listen_bell_main(void *arg)
{
    nq_listen_bell *b = arg;
    nq_worker *w = b->worker;
    const int64_t each = NQ_SECONDS(1) / LISTEN_BELL_HANGS_PER_S;
    int64_t full_us = 0, from_us = 0, pause = 0;
    pthread_mutex_lock(&w->lock);
    while (pause >= 0 && listen_bell_wait(w, from_us)) {
        pthread_mutex_unlock(&w->lock);
        pause = listen_bell_once(b, pause);
        const int64_t now = nq_mono_us();
        full_us = (full_us > now ? full_us : now) + each;
        from_us = pause ? now + pause : full_us - each * LISTEN_BELL_HANGS_BURST;
        pthread_mutex_lock(&w->lock);
    }
    pthread_mutex_unlock(&w->lock);
    return NULL;
}

NQ_PRIVATE nq_listen_bell *nq_listen_bell_start(nq_worker *w, const uint64_t queues[], size_t n, bool local)
{
    nq_err err = {0};
    nq_listen_bell *b = calloc(1, sizeof *b);
    if (!b)
        return NULL;
    b->worker = w;
    int rc = nq_bell_new(&b->bell, w->store, queues, n, local, &err);
    if (rc == NQ_OK && (rc = nq_thread_start(&b->thread, listen_bell_main, b, &err)) == NQ_OK)
        return b;
    if (rc != NQ_EUNSUPPORTED)
        nq_worker_log(w, NQ_LOG_DEBUG, "the bell: %s", err.message);
    nq_bell_free(b->bell);
    free(b);
    return NULL;
}

NQ_PRIVATE void nq_listen_bell_stop(nq_listen_bell *b)
{
    if (b)
        nq_bell_interrupt(b->bell);
}

NQ_PRIVATE void nq_listen_bell_free(nq_listen_bell *b)
{
    if (!b)
        return;
    pthread_join(b->thread, NULL);
    nq_bell_free(b->bell);
    free(b);
}
