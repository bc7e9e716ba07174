/* SPDX-License-Identifier: MIT */
/* The process that the children come from: forks them, reaps and signals them, and ends with its worker.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "isolate.h"

#define ZYGOTE_CLEAR_MS 200  /* for what a child leaves to be gone */
#define ZYGOTE_LOOKED   4096 /* children at most, in one look */
#define ZYGOTE_LOOK_MS  1000 /* how often it looks for its parent by itself */

struct zygote_child {
    pid_t pid;  /* 0: the place is free */
    int report; /* -1: the worker has closed its end */
};

struct zygote {
    nq_worker *worker;
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

static void zygote_report(const struct zygote_child *c, const nq_report *r)
{
    if (c->report >= 0)
        (void)send(c->report, r, sizeof *r, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static void zygote_forget(struct zygote_child *c)
{
    if (c->report >= 0)
        close(c->report);
    c->report = -1;
    c->pid = 0;
}

static struct zygote_child *zygote_find(struct zygote *z, pid_t pid)
{
    for (size_t i = 0; i < z->n; i++)
        if (z->children[i].pid == pid)
            return &z->children[i];
    return NULL;
}

/* Kill and reap what dead children left behind, also what had left their group. A living child is the reaper
 * of what it starts, so whatever else is a child of ours here has no living one. Answers how many there were.
 */
static size_t zygote_leftovers(struct zygote *z)
{
    pid_t pids[ZYGOTE_LOOKED];
    const size_t n = nq_tree_children(pids, ZYGOTE_LOOKED);
    size_t found = 0;
    for (size_t i = 0; i < n; i++) {
        if (zygote_find(z, pids[i]))
            continue;
        found++;
        kill(pids[i], SIGKILL);
        waitpid(pids[i], NULL, WNOHANG);
    }
    return found;
}

/* So that a retry does not run beside them. What they started comes to us when they are gone. One that cannot
 * die at once does not hold up the other children: its end comes with a signal, and so does the next look. */
static void zygote_clear(struct zygote *z)
{
    for (int tries = 0; zygote_leftovers(z) > 0 && tries < ZYGOTE_CLEAR_MS; tries++)
        nq_sleep_us(1000);
}

/* A child ended: what it leaves goes too, before that is reported. While it is not reaped its number is no
 * other's. */
static void zygote_reap(struct zygote *z)
{
    siginfo_t info;
    memset(&info, 0, sizeof info);
    while (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid != 0) {
        struct zygote_child *c = zygote_find(z, info.si_pid);
        struct rusage used;
        int status = 0;
        if (c) {
            kill(-c->pid, SIGKILL);
            zygote_clear(z);
        }
        memset(&used, 0, sizeof used);
        if (wait4(info.si_pid, &status, 0, &used) == info.si_pid && c) {
            zygote_report(c, &(nq_report){.kind = NQ_REPORT_ENDED, .ending = nq_ending_of(status, &used)});
            zygote_forget(c);
        }
        memset(&info, 0, sizeof info);
    }
    zygote_leftovers(z);
}

_Noreturn static void zygote_become_child(struct zygote *z, const nq_spawn *spawn, const int fds[])
{
    nq_worker *w = z->worker;
    char *pages = w->zygote->pages, *own = pages + (size_t)spawn->index * NQ_PAGE_SIZE;
    sigset_t none;
    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGKILL);          /* the zygote has one thread, which stays */
    prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); /* zygote_leftovers relies on it */
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
    if (spawn->index + 1 < z->n)
        munmap(own + NQ_PAGE_SIZE, (z->n - spawn->index - 1) * NQ_PAGE_SIZE);
    prctl(PR_SET_NAME, "nanoq-child");
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    nq_child_main(w, &w->handlers[spawn->kind].limits, (nq_page *)(void *)own, fds[0], fds[1]);
}

static void zygote_spawn(struct zygote *z, const nq_spawn *spawn, const int fds[])
{
    struct zygote_child *c = spawn->index < z->n ? &z->children[spawn->index] : NULL;
    pid_t pid = -1;
    errno = EINVAL;
    if (c && c->pid == 0 && spawn->kind < z->worker->nhandlers)
        pid = fork();
    const int failure = errno;
    if (pid == 0)
        zygote_become_child(z, spawn, fds);
    for (int i = 0; i < 3; i++)
        close(fds[i]);
    if (pid < 0) {
        const struct zygote_child none = {0, fds[3]};
        zygote_report(&none, &(nq_report){.kind = NQ_REPORT_UNBORN, .value = failure});
        close(fds[3]);
        return;
    }
    setpgid(pid, pid); /* here too, so that it is done before any signal is sent */
    *c = (struct zygote_child){pid, fds[3]};
    zygote_report(c, &(nq_report){.kind = NQ_REPORT_BORN, .value = (int32_t)pid});
}

/* A request of the worker's; false: it is over. */
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

/* What it has started, in whatever group, and itself. Not reaped yet, its number is no other's. */
static void zygote_kill(const struct zygote_child *c, int number)
{
    if (number == SIGKILL)
        kill(-c->pid, number); /* at once; those that fork on are found when it is reaped */
    nq_tree_signal(c->pid, number);
    kill(c->pid, number);
}

/* The worker wants a signal sent, or (its end is closed) the child gone. */
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

static void zygote_end(struct zygote *z)
{
    const int64_t until = nq_mono_us() + NQ_ZYGOTE_END_US;
    for (size_t i = 0; i < z->n; i++)
        if (z->children[i].pid)
            kill(-z->children[i].pid, SIGKILL);
    while (nq_mono_us() < until) {
        (void)nq_tree_signal(z->self, SIGKILL);
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
    z->n = z->worker->opts.concurrency;
    z->children = calloc(z->n, sizeof *z->children);
    z->fds = calloc(z->n + 3, sizeof *z->fds);
    sigemptyset(&children);
    sigaddset(&children, SIGCHLD);
    if (!z->children || !z->fds || !nq_store_forked() || zygote_neutralize(z->control) != 0)
        return false;
    for (size_t i = 0; i < z->n; i++)
        z->children[i].report = -1;
    z->parent_fd = (int)syscall(SYS_pidfd_open, z->parent, 0); /* older kernels: it looks now and then */
    if (z->parent_fd >= 0)
        fcntl(z->parent_fd, F_SETFD, FD_CLOEXEC);
    nq_child_prepare();
    nq_limits_private(z->worker->store);
    signal(SIGCHLD, SIG_DFL);
    z->signal_fd = signalfd(-1, &children, SFD_CLOEXEC | SFD_NONBLOCK);
    prctl(PR_SET_NAME, "nanoq-zygote");
    return z->signal_fd >= 0 && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
           prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0;
}

_Noreturn NQ_PRIVATE void nq_zygote_main(nq_worker *w, int control, pid_t parent)
{
    struct zygote z = {.worker = w, .parent = parent, .control = control};
    errno = 0;
    int32_t ready = zygote_prepare(&z) ? 0 : errno ? errno : ENOMEM;
    if (send(control, &ready, sizeof ready, MSG_NOSIGNAL) != sizeof ready || ready != 0)
        _exit(1);
    while (zygote_turn(&z))
        ;
    zygote_end(&z);
    _exit(0);
}
