/* SPDX-License-Identifier: MIT */
/* Threads that call the database for requests, so that the main thread never waits for it. */
#include <pthread.h>

#include "dash.h"

static struct {
    pthread_mutex_t mutex;
    pthread_cond_t some;
    struct dash_request *first, *last, *done; /* waiting, in order; done, in any */
    pthread_t threads[DASH_THREADS];
    unsigned nthreads, busy;
    bool stop;
    void (*run)(struct dash_request *r);
} pool = {.mutex = PTHREAD_MUTEX_INITIALIZER, .some = PTHREAD_COND_INITIALIZER};

static void *pool_run(void *arg)
{
    (void)arg;
    pthread_mutex_lock(&pool.mutex);
    for (;;) {
        while (!pool.first && !pool.stop)
            pthread_cond_wait(&pool.some, &pool.mutex);
        struct dash_request *r = pool.first;
        if (!r)
            break;
        pool.first = r->next;
        pool.busy++;
        pthread_mutex_unlock(&pool.mutex);
        pool.run(r);
        pthread_mutex_lock(&pool.mutex);
        pool.busy--;
        r->next = pool.done;
        pool.done = r;
        dash_wake();
    }
    pthread_mutex_unlock(&pool.mutex);
    return NULL;
}

bool pool_start(void (*run)(struct dash_request *r))
{
    pool.run = run;
    for (; pool.nthreads < DASH_THREADS; pool.nthreads++) {
        if (cli_thread(&pool.threads[pool.nthreads], pool_run, NULL) != 0) {
            cli_complain("cannot start a thread");
            return false;
        }
    }
    return true;
}

void pool_submit(struct dash_request *r)
{
    pthread_mutex_lock(&pool.mutex);
    r->next = NULL;
    if (pool.first)
        pool.last->next = r;
    else
        pool.first = r;
    pool.last = r;
    pthread_cond_signal(&pool.some);
    pthread_mutex_unlock(&pool.mutex);
}

struct dash_request *pool_take(void)
{
    pthread_mutex_lock(&pool.mutex);
    struct dash_request *r = pool.done;
    if (r)
        pool.done = r->next;
    pthread_mutex_unlock(&pool.mutex);
    return r;
}

bool pool_stop(void)
{
    pthread_mutex_lock(&pool.mutex);
    pool.stop = true;
    pthread_cond_broadcast(&pool.some);
    const bool idle = pool.busy == 0 && !pool.first;
    pthread_mutex_unlock(&pool.mutex);
    for (; idle && pool.nthreads > 0; pool.nthreads--)
        pthread_join(pool.threads[pool.nthreads - 1], NULL);
    return idle;
}
