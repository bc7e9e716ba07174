/* SPDX-License-Identifier: MIT */
/* The heart thread: beats where the duties are held up. */
#include "worker.h"

/*
 * The duties' thread beats, and does much else, on the connections of the pool and on the member's. One of
 * them that died without a word holds it up for the connection's timeout, 30 seconds unless told otherwise,
 * which is the default lease too: the others would take a worker for dead that runs its tasks. So where the
 * last beat is one and a half intervals old this thread beats, on a connection of its own that it opens for
 * it. What fails here is not told: the duties tell of the same, when they can.
 */
static int64_t heart_late_us(const nq_worker *w)
{
    return w->beat_us + nq_beat_every_us(w) * 3 / 2;
}

/* With the lock held, but for the call. Until when to wait. */
static int64_t heart_beat(nq_worker *w)
{
    const uint64_t id = w->member;
    const int64_t since = w->member_us;
    nq_err err = {0};
    pthread_mutex_unlock(&w->lock);
    const int rc = nq_member_pulse(w->store, id, since, &err);
    if (rc == NQ_ELEASE)
        nq_duties_lost(w, id);
    pthread_mutex_lock(&w->lock);
    if (rc == NQ_OK && w->member == id)
        w->beat_us = nq_mono_us();
    return nq_mono_us() + nq_beat_every_us(w) / 2;
}

NQ_PRIVATE void *nq_heart_main(void *arg)
{
    nq_worker *w = arg;
    int64_t after = 0;
    pthread_mutex_lock(&w->lock);
    while (w->phase != NQ_PHASE_END) {
        const int64_t now = nq_mono_us(), late = heart_late_us(w), until = late > after ? late : after;
        if (!w->member)
            pthread_cond_wait(&w->heart_cond, &w->lock);
        else if (now < until)
            nq_cond_wait_until(&w->heart_cond, &w->lock, until);
        else
            after = heart_beat(w);
    }
    pthread_mutex_unlock(&w->lock);
    return NULL;
}
