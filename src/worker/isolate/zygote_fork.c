/* SPDX-License-Identifier: MIT */
/* The worker's side of the zygote: forking it, asking it for children, ending it. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "isolate.h"

#define FORK_READY_MS 10000 /* for the zygote's start */

#if defined(__SANITIZE_THREAD__)
#define FORK_OWN_THREADS 2 /* the sanitizer has one, and makes it safe */
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define FORK_OWN_THREADS 2
#endif
#endif
#ifndef FORK_OWN_THREADS
#define FORK_OWN_THREADS 1
#endif

static int fork_allowed(nq_err *err)
{
    struct stat st;
    if (stat("/proc/self/task", &st) != 0)
        return nq_err_sys(err, NQ_ESYSTEM, errno, "cannot count this process's threads without /proc");
    if (st.st_nlink - 2 <= FORK_OWN_THREADS)
        return NQ_OK;
    return nq_err_set(
        err, NQ_ETHREADS,
        "NQ_PROCESS handlers need a fork, which is not safe with %lu threads: call nq_worker_fork "
        "before the process starts threads (a nq on MySQL starts one at its first nq_enqueue)",
        (unsigned long)st.st_nlink - 2);
}

/* Handlers with the same limits share children. */
static size_t fork_kinds(nq_worker *w)
{
    size_t isolated = 0;
    for (size_t i = 0; i < w->nhandlers; i++) {
        struct nq_handler_entry *r = &w->handlers[i];
        isolated += r->isolated;
        for (r->kind = 0; r->kind < i; r->kind++)
            if (w->handlers[r->kind].isolated && nq_limits_same(&w->handlers[r->kind].limits, &r->limits))
                break;
    }
    return isolated;
}

static int fork_memory(nq_worker *w, nq_err *err)
{
    struct nq_zygote *z = calloc(1, sizeof *z);
    const size_t n = w->opts.concurrency;
    if (!z)
        return nq_err_nomem(err);
    z->control = -1;
    z->children = calloc(n, sizeof *z->children);
    z->pages = mmap(NULL, n * NQ_PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    z->taken = calloc(n, sizeof *z->taken);
    if (!z->children || !z->taken || z->pages == MAP_FAILED) {
        if (z->pages != MAP_FAILED)
            munmap(z->pages, n * NQ_PAGE_SIZE);
        free(z->children);
        free(z->taken);
        free(z);
        return nq_err_nomem(err);
    }
    w->zygote = z;
    return NQ_OK;
}

/* Wait for the zygote to say that it is ready. */
static int fork_ready(int control, nq_err *err)
{
    struct pollfd fd = {control, POLLIN, 0};
    int32_t ready = 0;
    if (poll(&fd, 1, FORK_READY_MS) == 1 && recv(control, &ready, sizeof ready, 0) == sizeof ready)
        return ready == 0 ? NQ_OK
                          : nq_err_sys(err, NQ_ESYSTEM, ready, "cannot prepare the parent of the children");
    return nq_err_set(err, NQ_ESYSTEM, "the parent of the children did not start");
}

static int fork_zygote(nq_worker *w, nq_err *err)
{
    struct nq_zygote *z = w->zygote;
    const pid_t self = getpid();
    sigset_t all, old;
    int ends[2], high[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0)
        return nq_err_sys(err, NQ_ESYSTEM, errno, "cannot make a socket");
    for (int i = 0; i < 2; i++) { /* out of the way of the standard ones, which may be closed */
        high[i] = fcntl(ends[i], F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
        close(ends[i]);
    }
    z->control = high[0];
    fflush(NULL); /* or both would print what is in the buffers */
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, &old); /* none is ever delivered to the zygote */
    z->pid = -1;
    if (high[0] >= 0 && high[1] >= 0)
        z->pid = fork();
    const int failure = errno;
    if (z->pid == 0)
        nq_zygote_main(w, high[1], self);
    sigprocmask(SIG_SETMASK, &old, NULL);
    if (high[1] >= 0)
        close(high[1]);
    if (z->pid < 0)
        return nq_err_sys(err, NQ_ESYSTEM, failure, "cannot fork the parent of the children");
    return fork_ready(z->control, err);
}

NQ_PRIVATE int nq_zygote_start(nq_worker *w, nq_err *err)
{
    int rc;
    if (fork_kinds(w) == 0)
        return nq_err_set(err, NQ_EINVAL, "no handler is NQ_PROCESS");
    if ((rc = fork_allowed(err)) != NQ_OK)
        return rc;
    if ((rc = fork_memory(w, err)) == NQ_OK && (rc = fork_zygote(w, err)) != NQ_OK) {
        nq_zygote_stop(w);
        nq_zygote_free(w);
    }
    return rc;
}

int nq_worker_fork(nq_worker *w, nq_err *err)
{
    int rc = nq_worker_may_register(w, err);
    return rc != NQ_OK ? rc : nq_zygote_start(w, err);
}

NQ_PRIVATE void nq_zygote_stop(nq_worker *w)
{
    struct nq_zygote *z = w->zygote;
    if (!z || z->stopped)
        return;
    z->stopped = true;
    nq_children_drop(w);
    if (z->pid <= 0)
        return;
    const nq_spawn over = {UINT32_MAX, 0};
    (void)send(z->control, &over, sizeof over, MSG_NOSIGNAL);
    shutdown(z->control, SHUT_RDWR);
    const int64_t until = nq_mono_us() + NQ_ZYGOTE_END_US * 2;
    struct rusage used;
    int status = 0;
    pid_t got; /* -1: the application waits for whatever child there is, and got it */
    for (int64_t pause = 100; (got = wait4(z->pid, &status, WNOHANG, &used)) == 0 && nq_mono_us() < until;) {
        nq_sleep_us(pause);
        pause = pause < 5000 ? pause * 2 : pause;
    }
    if (got == 0) {
        kill(z->pid, SIGKILL);
        waitpid(z->pid, NULL, 0);
    }
    if ((z->ended = got > 0))
        z->ending = nq_ending_of(status, &used);
}

NQ_PRIVATE void nq_zygote_free(nq_worker *w)
{
    struct nq_zygote *z = w->zygote;
    if (!z)
        return;
    if (z->control >= 0)
        close(z->control);
    munmap(z->pages, (size_t)w->opts.concurrency * NQ_PAGE_SIZE);
    free(z->children);
    free(z->taken);
    free(z);
    w->zygote = NULL;
}
