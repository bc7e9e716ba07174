/* SPDX-License-Identifier: MIT */
/* The process that the children come from: its making, its work, its end. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "child.h"

#define ZYGOTE_LOOK_MS  1000          /* how often it looks for its parent by itself */
#define ZYGOTE_END_US   NQ_SECONDS(5) /* for what it kills to be gone */
#define ZYGOTE_READY_MS 10000         /* for its own start */

#if defined(__SANITIZE_THREAD__)
#define ZYGOTE_OWN_THREADS 2 /* the sanitizer has one, and makes it safe */
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define ZYGOTE_OWN_THREADS 2
#endif
#endif
#ifndef ZYGOTE_OWN_THREADS
#define ZYGOTE_OWN_THREADS 1
#endif

/* ---- In the zygote ---- */

struct zygote_child {
    pid_t pid;  /* 0: the place is free */
    int report; /* -1: the processor has closed its end */
};

struct zygote {
    nq_proc *proc;
    pid_t parent, self;
    int control, parent_fd, signal_fd;
    size_t n;
    struct zygote_child *children;
    struct pollfd *fds; /* control, parent, signals, reports */
};

/* A stale descriptor of the application's must not come to mean another file, so the numbers stay in use:
 * they lead to /dev/null. Locks and connections of the process are no longer held here then. */
static int zygote_neutralize(int control)
{
    const int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    DIR *dir = opendir("/proc/self/fd");
    const struct dirent *e;
    if (null < 0 || !dir) {
        if (dir)
            closedir(dir);
        return -1;
    }
    while ((e = readdir(dir))) {
        const int fd = atoi(e->d_name);
        if (e->d_name[0] == '.' || fd == STDOUT_FILENO || fd == STDERR_FILENO || fd == control ||
            fd == null || fd == dirfd(dir))
            continue;
        if (dup3(null, fd, fd > STDERR_FILENO ? O_CLOEXEC : 0) < 0)
            return -1;
    }
    closedir(dir);
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
        if (fcntl(fd, F_GETFD) < 0 && dup2(null, fd) < 0)
            return -1;
    if (null > STDERR_FILENO)
        close(null);
    return 0;
}

static void zygote_report(const struct zygote_child *c, enum nq_report_kind kind, int value,
                          const struct rusage *used)
{
    nq_report r;
    memset(&r, 0, sizeof r);
    r.kind = (int32_t)kind;
    r.value = value;
    if (used) {
        r.user_us = (int64_t)used->ru_utime.tv_sec * 1000000 + used->ru_utime.tv_usec;
        r.system_us = (int64_t)used->ru_stime.tv_sec * 1000000 + used->ru_stime.tv_usec;
        r.rss_kb = used->ru_maxrss;
    }
    if (c->report >= 0)
        (void)send(c->report, &r, sizeof r, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static void zygote_forget(struct zygote_child *c)
{
    if (c->report >= 0)
        close(c->report);
    c->report = -1;
    c->pid = 0;
}

/* A child ended: what it leaves of its group goes too, and while it is not reaped its number is no other's.
 */
static void zygote_reap(struct zygote *z)
{
    siginfo_t info;
    memset(&info, 0, sizeof info);
    while (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid != 0) {
        struct zygote_child *c = NULL;
        struct rusage used;
        int status = 0;
        for (size_t i = 0; i < z->n && !c; i++)
            c = z->children[i].pid == info.si_pid ? &z->children[i] : NULL;
        if (c)
            kill(-c->pid, SIGKILL);
        memset(&used, 0, sizeof used);
        if (wait4(info.si_pid, &status, 0, &used) == info.si_pid && c) {
            zygote_report(c, NQ_REPORT_ENDED, status, &used);
            zygote_forget(c);
        }
        memset(&info, 0, sizeof info);
    }
}

_Noreturn static void zygote_become_child(struct zygote *z, const nq_spawn *spawn, const int fds[])
{
    nq_proc *p = z->proc;
    char *pages = p->zygote->pages, *own = pages + (size_t)spawn->place * NQ_PAGE_SIZE;
    sigset_t none;
    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGKILL); /* the zygote has one thread, which stays */
    if (getppid() != z->self)
        _exit(1);
    for (size_t i = 0; i < z->n; i++)
        if (z->children[i].report >= 0)
            close(z->children[i].report);
    close(z->control);
    close(z->signal_fd);
    if (z->parent_fd >= 0)
        close(z->parent_fd);
    close(fds[3]);
    dup2(fds[2], STDERR_FILENO);
    close(fds[2]);
    /* The other children's pages are none of its business. */
    if (own > pages)
        munmap(pages, (size_t)(own - pages));
    if (spawn->place + 1 < z->n)
        munmap(own + NQ_PAGE_SIZE, (z->n - spawn->place - 1) * NQ_PAGE_SIZE);
    prctl(PR_SET_NAME, "nanoq-child");
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    nq_child_main(p, &p->routes[spawn->kind].limits, (nq_page *)(void *)own, fds[0], fds[1]);
}

static void zygote_spawn(struct zygote *z, const nq_spawn *spawn, const int fds[])
{
    struct zygote_child *c = spawn->place < z->n ? &z->children[spawn->place] : NULL;
    const pid_t pid = c && c->pid == 0 && spawn->kind < z->proc->nroutes ? fork() : (errno = EINVAL, -1);
    const int failure = errno;
    if (pid == 0)
        zygote_become_child(z, spawn, fds);
    for (int i = 0; i < 3; i++)
        close(fds[i]);
    if (pid < 0) {
        const struct zygote_child none = {0, fds[3]};
        zygote_report(&none, NQ_REPORT_UNBORN, failure, NULL);
        close(fds[3]);
        return;
    }
    setpgid(pid, pid); /* here too, so that it is done before any signal is sent */
    *c = (struct zygote_child){pid, fds[3]};
    zygote_report(c, NQ_REPORT_BORN, (int)pid, NULL);
}

/* A request of the processor's; false: it is over. */
static bool zygote_request(struct zygote *z)
{
    union {
        char space[CMSG_SPACE(sizeof(int) * NQ_SPAWN_FDS)];
        struct cmsghdr align;
    } control;
    nq_spawn spawn;
    int fds[NQ_SPAWN_FDS];
    struct iovec iov = {&spawn, sizeof spawn};
    struct msghdr msg = {
        .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    const ssize_t n = recvmsg(z->control, &msg, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
    if (n < 0)
        return errno == EINTR || errno == EAGAIN;
    if (n != sizeof spawn || spawn.kind == UINT32_MAX)
        return false;
    const struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
    const size_t got = c && c->cmsg_type == SCM_RIGHTS ? (c->cmsg_len - CMSG_LEN(0)) / sizeof *fds : 0;
    memcpy(fds, got ? CMSG_DATA(c) : (const void *)fds, got * sizeof *fds);
    for (size_t i = 0; got < NQ_SPAWN_FDS && i < got; i++)
        close(fds[i]); /* no room for all of them: the report socket tells by its end */
    if (got < NQ_SPAWN_FDS)
        return true;
    zygote_spawn(z, &spawn, fds);
    return true;
}

/* Its group, and itself: it may have gone to another group. Not reaped yet, its number is no other's. */
static void zygote_kill(const struct zygote_child *c, int number)
{
    if (kill(-c->pid, number) != 0 || number == SIGKILL)
        kill(c->pid, number);
}

/* The processor wants a signal sent, or (its end is closed) the child gone. */
static void zygote_signal(struct zygote_child *c)
{
    unsigned char number;
    const ssize_t n = recv(c->report, &number, 1, MSG_DONTWAIT);
    if (n == 1) {
        zygote_kill(c, number);
    } else if (n == 0 || errno != EAGAIN) {
        zygote_kill(c, SIGKILL);
        close(c->report);
        c->report = -1;
    }
}

/* Wait for something to do, and do it; false at the end. */
static bool zygote_turn(struct zygote *z)
{
    z->fds[0] = (struct pollfd){z->control, POLLIN, 0};
    z->fds[1] = (struct pollfd){z->parent_fd, POLLIN, 0};
    z->fds[2] = (struct pollfd){z->signal_fd, POLLIN, 0};
    for (size_t i = 0; i < z->n; i++)
        z->fds[3 + i] = (struct pollfd){z->children[i].pid ? z->children[i].report : -1, POLLIN, 0};
    const int n = poll(z->fds, 3 + z->n, ZYGOTE_LOOK_MS);
    if (n < 0)
        return errno == EINTR;
    if (z->fds[1].revents || getppid() != z->parent)
        return false;
    /* Signals first: their children are not reaped yet. */
    for (size_t i = 0; i < z->n; i++)
        if (z->fds[3 + i].revents && z->children[i].report >= 0)
            zygote_signal(&z->children[i]);
    if (z->fds[2].revents) {
        struct signalfd_siginfo info;
        while (read(z->signal_fd, &info, sizeof info) == sizeof info)
            ;
        zygote_reap(z);
    }
    return !z->fds[0].revents || zygote_request(z);
}

/* Kill whatever is a child of ours, those too that left their group and lost their parent. */
static void zygote_kill_children(void)
{
    FILE *f = fopen("/proc/thread-self/children", "re");
    long pid;
    while (f && fscanf(f, "%ld", &pid) == 1)
        kill((pid_t)pid, SIGKILL);
    if (f)
        fclose(f);
}

static void zygote_end(struct zygote *z)
{
    const int64_t until = nq_mono_us() + ZYGOTE_END_US;
    for (size_t i = 0; i < z->n; i++)
        if (z->children[i].pid)
            kill(-z->children[i].pid, SIGKILL);
    while (nq_mono_us() < until) {
        zygote_kill_children();
        zygote_reap(z);
        if (waitpid(-1, NULL, WNOHANG) < 0 && errno == ECHILD)
            break;
        nq_sleep_us(1000);
    }
}

static bool zygote_prepare(struct zygote *z)
{
    sigset_t children;
    setpgid(0, 0);
    z->self = getpid();
    z->n = z->proc->opts.concurrency;
    z->children = calloc(z->n, sizeof *z->children);
    z->fds = calloc(z->n + 3, sizeof *z->fds);
    sigemptyset(&children);
    sigaddset(&children, SIGCHLD);
    if (!z->children || !z->fds || zygote_neutralize(z->control) != 0)
        return false;
    for (size_t i = 0; i < z->n; i++)
        z->children[i].report = -1;
    z->parent_fd = (int)syscall(SYS_pidfd_open, z->parent, 0); /* older kernels: it looks now and then */
    if (z->parent_fd >= 0)
        fcntl(z->parent_fd, F_SETFD, FD_CLOEXEC);
    nq_child_prepare();
    signal(SIGCHLD, SIG_DFL);
    z->signal_fd = signalfd(-1, &children, SFD_CLOEXEC | SFD_NONBLOCK);
    prctl(PR_SET_NAME, "nanoq-zygote");
    return z->signal_fd >= 0 && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
           prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0;
}

_Noreturn static void zygote_main(nq_proc *p, int control, pid_t parent)
{
    struct zygote z = {.proc = p, .parent = parent, .control = control};
    errno = 0;
    int32_t ready = zygote_prepare(&z) ? 0 : errno ? errno : ENOMEM;
    if (send(control, &ready, sizeof ready, MSG_NOSIGNAL) != sizeof ready || ready != 0)
        _exit(1);
    while (zygote_turn(&z))
        ;
    zygote_end(&z);
    _exit(0);
}

/* ---- In the processor ---- */

static int zygote_may_fork(nq_err *err)
{
    struct stat st;
    if (stat("/proc/self/task", &st) != 0)
        return nq_err_sys(err, NQ_ESYSTEM, errno, "cannot count this process's threads without /proc");
    if (st.st_nlink - 2 <= ZYGOTE_OWN_THREADS)
        return NQ_OK;
    return nq_err_set(
        err, NQ_ETHREADS,
        "NQ_PROCESS handlers need a fork, which is not safe with %lu threads: call nq_proc_fork "
        "before the process starts threads (a nq on MySQL starts one at its first nq_enqueue)",
        (unsigned long)st.st_nlink - 2);
}

/* Routes with the same limits share children. */
static size_t zygote_kinds(nq_proc *p)
{
    size_t isolated = 0;
    for (size_t i = 0; i < p->nroutes; i++) {
        struct nq_route *r = &p->routes[i];
        isolated += r->isolated;
        for (r->kind = 0; r->kind < i; r->kind++)
            if (p->routes[r->kind].isolated && nq_limits_same(&p->routes[r->kind].limits, &r->limits))
                break;
    }
    return isolated;
}

static int zygote_memory(nq_proc *p, nq_err *err)
{
    struct nq_zygote *z = calloc(1, sizeof *z);
    const size_t n = p->opts.concurrency;
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
    p->zygote = z;
    return NQ_OK;
}

/* Wait for the zygote to say that it is ready. */
static int zygote_ready(int control, nq_err *err)
{
    struct pollfd fd = {control, POLLIN, 0};
    int32_t ready = 0;
    if (poll(&fd, 1, ZYGOTE_READY_MS) == 1 && recv(control, &ready, sizeof ready, 0) == sizeof ready)
        return ready == 0 ? NQ_OK
                          : nq_err_sys(err, NQ_ESYSTEM, ready, "cannot prepare the parent of the children");
    return nq_err_set(err, NQ_ESYSTEM, "the parent of the children did not start");
}

static int zygote_fork(nq_proc *p, nq_err *err)
{
    struct nq_zygote *z = p->zygote;
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
    z->pid = high[0] >= 0 && high[1] >= 0 ? fork() : -1;
    const int failure = errno;
    if (z->pid == 0)
        zygote_main(p, high[1], self);
    sigprocmask(SIG_SETMASK, &old, NULL);
    if (high[1] >= 0)
        close(high[1]);
    if (z->pid < 0)
        return nq_err_sys(err, NQ_ESYSTEM, failure, "cannot fork the parent of the children");
    return zygote_ready(z->control, err);
}

NQ_PRIVATE int nq_zygote_start(nq_proc *p, nq_err *err)
{
    int rc;
    if (zygote_kinds(p) == 0)
        return nq_err_set(err, NQ_EINVAL, "no handler is NQ_PROCESS");
    if ((rc = zygote_may_fork(err)) != NQ_OK)
        return rc;
    if ((rc = zygote_memory(p, err)) == NQ_OK && (rc = zygote_fork(p, err)) != NQ_OK) {
        nq_zygote_stop(p);
        nq_zygote_free(p);
    }
    return rc;
}

int nq_proc_fork(nq_proc *p, nq_err *err)
{
    int rc = nq_proc_may_register(p, err);
    return rc != NQ_OK ? rc : nq_zygote_start(p, err);
}

NQ_PRIVATE int nq_zygote_spawn(const struct nq_zygote *z, const nq_spawn *spawn, const int fds[NQ_SPAWN_FDS],
                               nq_err *err)
{
    union {
        char space[CMSG_SPACE(sizeof(int) * NQ_SPAWN_FDS)];
        struct cmsghdr align;
    } control;
    nq_spawn copy = *spawn;
    struct iovec iov = {&copy, sizeof copy};
    struct msghdr msg = {
        .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    ssize_t n;
    memset(&control, 0, sizeof control);
    struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(sizeof(int) * NQ_SPAWN_FDS);
    memcpy(CMSG_DATA(c), fds, sizeof(int) * NQ_SPAWN_FDS);
    do
        n = sendmsg(z->control, &msg, MSG_NOSIGNAL);
    while (n < 0 && errno == EINTR);
    return n < 0 ? nq_err_sys(err, NQ_ESYSTEM, errno, "cannot ask for a child process") : NQ_OK;
}

NQ_PRIVATE void nq_zygote_stop(nq_proc *p)
{
    struct nq_zygote *z = p->zygote;
    if (!z || z->stopped)
        return;
    z->stopped = true;
    nq_children_drop(p);
    if (z->pid <= 0)
        return;
    const nq_spawn over = {UINT32_MAX, 0};
    (void)send(z->control, &over, sizeof over, MSG_NOSIGNAL);
    shutdown(z->control, SHUT_RDWR);
    const int64_t until = nq_mono_us() + ZYGOTE_END_US * 2;
    pid_t got; /* -1: the application waits for whatever child there is, and got it */
    for (int64_t pause = 100; (got = waitpid(z->pid, NULL, WNOHANG)) == 0 && nq_mono_us() < until;) {
        nq_sleep_us(pause);
        pause = pause < 5000 ? pause * 2 : pause;
    }
    if (got == 0) {
        kill(z->pid, SIGKILL);
        waitpid(z->pid, NULL, 0);
    }
}

NQ_PRIVATE void nq_zygote_free(nq_proc *p)
{
    struct nq_zygote *z = p->zygote;
    if (!z)
        return;
    if (z->control >= 0)
        close(z->control);
    munmap(z->pages, (size_t)p->opts.concurrency * NQ_PAGE_SIZE);
    free(z->children);
    free(z->taken);
    free(z);
    p->zygote = NULL;
}
