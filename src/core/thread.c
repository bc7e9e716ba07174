/* SPDX-License-Identifier: MIT */
/* Starting the library's threads; the name of this process. */
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#include "core.h"

NQ_PRIVATE int nq_thread_start(pthread_t *thread, void *(*fn)(void *), void *arg, nq_err *err)
{
    /* The application's signals are for the application's threads. Faults stay deliverable: blocked ones
     * would kill the process past a handler that it (or a sanitizer) has for them. */
    static const int faults[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS, SIGABRT};
    sigset_t block, old;
    sigfillset(&block);
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++)
        sigdelset(&block, faults[i]);
    pthread_sigmask(SIG_SETMASK, &block, &old);
    int rc = pthread_create(thread, NULL, fn, arg);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return rc != NQ_OK ? nq_err_sys(err, NQ_ESYSTEM, rc, "cannot start a thread") : NQ_OK;
}

NQ_PRIVATE void nq_process_name(char out[NQ_PROCESS_NAME])
{
    char host[256];
    if (gethostname(host, sizeof host) != 0)
        snprintf(host, sizeof host, "localhost");
    host[sizeof host - 1] = '\0';
    snprintf(out, NQ_PROCESS_NAME, "%.200s:%ld", host, (long)getpid());
}
