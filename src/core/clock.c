/* SPDX-License-Identifier: MIT */
/* Clocks, sleeping and timed waits. */
#include "core.h"

#include <errno.h>
#include <time.h>

static int64_t clock_read(clockid_t id)
{
    struct timespec t;

    clock_gettime(id, &t);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static struct timespec clock_spec(int64_t us)
{
    struct timespec t;

    if (us < 0)
        us = 0;
    t.tv_sec = (time_t)(us / 1000000);
    t.tv_nsec = (long)(us % 1000000) * 1000;
    return t;
}

int64_t nq_mono_us(void)
{
    return clock_read(CLOCK_MONOTONIC);
}

int64_t nq_real_us(void)
{
    return clock_read(CLOCK_REALTIME);
}

/* Until a point in time, so that signals do not make it longer. */
void nq_sleep_us(int64_t us)
{
    int64_t now = nq_mono_us();
    struct timespec until;

    if (us <= 0)
        return;
    until = clock_spec(us > INT64_MAX - now ? INT64_MAX : now + us);
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL) == EINTR)
        ;
}

int nq_cond_init(pthread_cond_t *cond)
{
    pthread_condattr_t attr;
    int rc = pthread_condattr_init(&attr);

    if (rc != 0)
        return rc;
    rc = pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    if (rc == 0)
        rc = pthread_cond_init(cond, &attr);
    pthread_condattr_destroy(&attr);
    return rc;
}

bool nq_cond_wait_until(pthread_cond_t *cond, pthread_mutex_t *mutex, int64_t mono_us)
{
    struct timespec until = clock_spec(mono_us);

    return pthread_cond_timedwait(cond, mutex, &until) == 0;
}
