/* SPDX-License-Identifier: MIT */
/* Stopping a worker: by a call, and by SIGINT and SIGTERM where it was asked to handle them. */
#include <errno.h>
#include <signal.h>
#include <unistd.h>

#include "worker.h"

NQ_PRIVATE void nq_worker_wake(nq_worker *w)
{
    const uint64_t one = 1;
    int saved = errno;
    ssize_t n = write(w->wake_fd, &one, sizeof one);
    (void)n; /* it can only fail when it is readable already */
    errno = saved;
}

void nq_worker_stop(nq_worker *w)
{
    if (!w || w->pid != getpid())
        return;
    atomic_fetch_add(&w->stops, 1);
    nq_worker_wake(w);
}

/* ---- Signals: of one worker of a process */

static const int stop_signals[2] = {SIGINT, SIGTERM};
static struct sigaction stop_old[2];
static _Atomic(nq_worker *) stop_signalled;
static atomic_uint stop_in_signal;

static void stop_on_signal(int number)
{
    (void)number;
    atomic_fetch_add(&stop_in_signal, 1);
    nq_worker_stop(atomic_load(&stop_signalled));
    atomic_fetch_sub(&stop_in_signal, 1);
}

NQ_PRIVATE int nq_signals_take(nq_worker *w, nq_err *err)
{
    nq_worker *nobody = NULL;
    struct sigaction sa;
    if (!w->opts.handle_signals)
        return NQ_OK;
    if (!atomic_compare_exchange_strong(&stop_signalled, &nobody, w))
        return nq_err_set(err, NQ_EINVAL, "handle_signals: another worker of this process has them already");
    memset(&sa, 0, sizeof sa);
    sa.sa_handler = stop_on_signal;
    sa.sa_flags = SA_RESTART;
    sigemptyset(&sa.sa_mask);
    for (int i = 0; i < 2; i++)
        sigaction(stop_signals[i], &sa, &stop_old[i]);
    return NQ_OK;
}

NQ_PRIVATE void nq_signals_give_back(nq_worker *w)
{
    if (atomic_load(&stop_signalled) != w)
        return;
    for (int i = 0; i < 2; i++)
        sigaction(stop_signals[i], &stop_old[i], NULL);
    atomic_store(&stop_signalled, NULL);
    /* A handler on another thread may have read the pointer before: let it end, the worker goes next. */
    while (atomic_load(&stop_in_signal) > 0)
        nq_sleep_us(100);
}
