/* SPDX-License-Identifier: MIT */
/* The thread that waits for the bell: for hints that come through the database's server. */
#include "proc.h"

/* The bell is hung out so often a second over time, and so often at once. */
#define WAKE_BELL_HANGS_PER_S 40
#define WAKE_BELL_HANGS_BURST 20
/* With a look that soon the bell needs none of its own. */
#define WAKE_BELL_SOON_US NQ_MS(10)

struct nq_wake_bell {
    nq_proc *proc;
    nq_bell *bell;
    pthread_t thread;
};

/* With the lock held: wait until the fetcher waits for tasks and the bell may be hung out again. */
static bool wake_bell_wait(nq_proc *p, int64_t from_us)
{
    while (p->phase == NQ_PHASE_RUN) {
        if (nq_mono_us() < from_us) {
            nq_cond_wait_until(&p->bell_cond, &p->lock, from_us);
        } else if (p->asleep) {
            return true;
        } else {
            p->bell_waits = true;
            pthread_cond_wait(&p->bell_cond, &p->lock);
            p->bell_waits = false;
        }
    }
    return false;
}

/* What was committed between the fetcher's last look and the hanging rang nothing: have it look again. */
static void wake_bell_look_again(nq_proc *p)
{
    int64_t next = INT64_MAX;
    pthread_mutex_lock(&p->lock);
    for (size_t i = 0; i < p->nfeeds; i++)
        next = p->feeds[i].look_us < next ? p->feeds[i].look_us : next;
    pthread_mutex_unlock(&p->lock);
    if (next > nq_mono_us() + WAKE_BELL_SOON_US)
        nq_fetch_wake(p, NQ_HINT_ANY, 0);
}

/* Hang it out once. Answers how long to pause: not at all, or longer and longer when it does not work. */
static int64_t wake_bell_once(nq_wake_bell *b, int64_t pause)
{
    nq_proc *p = b->proc;
    bool rung = false;
    nq_err err = {0};
    int rc = nq_bell_hang(b->bell, &err);
    if (rc == NQ_OK) {
        wake_bell_look_again(p);
        rc = nq_bell_wait(b->bell, &rung, &err);
    }
    if (rc == NQ_OK) {
        if (rung) {
            nq_fetch_wake(p, NQ_HINT_ANY, 0);
            nq_steer_look(p);
        }
        return 0;
    }
    pthread_mutex_lock(&p->lock);
    const bool on = p->phase == NQ_PHASE_RUN;
    pthread_mutex_unlock(&p->lock);
    if (on)
        nq_proc_log(p, NQ_LOG_DEBUG, "the bell: %s", err.message);
    if (pause == 0)
        return NQ_MS(500);
    return pause < NQ_SECONDS(15) ? pause * 2 : NQ_SECONDS(30);
}

static void *wake_bell_main(void *arg)
{
    nq_wake_bell *b = arg;
    nq_proc *p = b->proc;
    const int64_t each = NQ_SECONDS(1) / WAKE_BELL_HANGS_PER_S;
    int64_t full_us = 0, from_us = 0, pause = 0;
    pthread_mutex_lock(&p->lock);
    while (wake_bell_wait(p, from_us)) {
        pthread_mutex_unlock(&p->lock);
        pause = wake_bell_once(b, pause);
        const int64_t now = nq_mono_us();
        full_us = (full_us > now ? full_us : now) + each;
        from_us = pause ? now + pause : full_us - each * WAKE_BELL_HANGS_BURST;
        pthread_mutex_lock(&p->lock);
    }
    pthread_mutex_unlock(&p->lock);
    return NULL;
}

NQ_PRIVATE nq_wake_bell *nq_wake_bell_start(nq_proc *p, const uint64_t queues[], size_t n, bool told)
{
    nq_err err = {0};
    nq_wake_bell *b = calloc(1, sizeof *b);
    if (!b)
        return NULL;
    b->proc = p;
    int rc = nq_bell_new(&b->bell, p->store, queues, n, told, &err);
    if (rc == NQ_OK && (rc = nq_thread_start(&b->thread, wake_bell_main, b, &err)) == NQ_OK)
        return b;
    if (rc != NQ_EUNSUPPORTED)
        nq_proc_log(p, NQ_LOG_DEBUG, "the bell: %s", err.message);
    nq_bell_free(b->bell);
    free(b);
    return NULL;
}

NQ_PRIVATE void nq_wake_bell_stop(nq_wake_bell *b)
{
    if (b)
        nq_bell_interrupt(b->bell);
}

NQ_PRIVATE void nq_wake_bell_free(nq_wake_bell *b)
{
    if (!b)
        return;
    pthread_join(b->thread, NULL);
    nq_bell_free(b->bell);
    free(b);
}
