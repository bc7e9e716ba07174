/* SPDX-License-Identifier: MIT */
/* A process: start, limit, stop and reap. Its keeper stands between us and it. */
#include "spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../cli.h"

#define SPAWN_CLOEXEC   4u /* CLOSE_RANGE_CLOEXEC; older headers lack it */

#define SPAWN_FROZEN_US NQ_SECONDS(10) /* a keeper that is silent so long after SIGKILL is killed itself */
#define SPAWN_DYING_MS  5000           /* what was killed may take so long to be gone; as a keeper waits */

struct spawn_pipes {
    int in[2], out[2], err[2], status[2], control[2]; /* the first of control is the keeper's */
};

void spawn_close(int *fd)
{
    if (*fd >= 0) {
        close(*fd);
        *fd = -1;
    }
}

/* Between fork and exec: async-signal-safe calls only. */
static bool spawn_limit(const struct spawn_command *c)
{
    nq_rlimit_no_core();
    if (c->no_new_privs && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        return false;
    if (c->cpu_us > 0) {
        struct rlimit cpu;
        if (nq_rlimit_cpu(0, c->cpu_us) != 0 || getrlimit(RLIMIT_CPU, &cpu) != 0)
            return false;
        /* A second more for who catches SIGXCPU. One that is renewed can only be raised below the hard limit.
         */
        if (!c->cpu_renewed && cpu.rlim_cur < cpu.rlim_max) {
            cpu.rlim_max = cpu.rlim_cur + 1;
            if (setrlimit(RLIMIT_CPU, &cpu) != 0)
                return false;
        }
    }
    return c->memory == 0 || nq_rlimit_lower(RLIMIT_AS, (rlim_t)c->memory, true) == 0;
}

/* As above. */
static _Noreturn void spawn_exec(const struct spawn_command *c, pid_t parent, const struct spawn_pipes *pipes,
                                 char *const *env)
{
    static const int reset[] = {SIGINT, SIGTERM, SIGHUP, SIGPIPE, SIGQUIT, SIGCHLD};
    sigset_t none;
    setsid(); /* no terminal: who reads it fails at once instead of being stopped */
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(127); /* it died before prctl */
    /* Before any dup2: a database's socket that a grandchild kept open would keep the lock of a dead worker.
     */
    syscall(SYS_close_range, 3u, ~0u, SPAWN_CLOEXEC);
    for (size_t i = 0; i < c->ninherited; i++)
        fcntl(c->inherited[i], F_SETFD, 0);
    if (dup2(pipes->in[0], STDIN_FILENO) < 0 || dup2(pipes->err[1], STDERR_FILENO) < 0 ||
        (pipes->out[1] >= 0 && dup2(pipes->out[1], STDOUT_FILENO) < 0))
        goto failed;
    for (size_t i = 0; i < sizeof reset / sizeof reset[0]; i++)
        signal(reset[i], SIG_DFL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    if (!spawn_limit(c) || setrlimit(RLIMIT_NOFILE, &c->files) != 0)
        goto failed;
    execve(c->path, c->argv, env);
    if (errno == ENOEXEC)
        execve("/bin/sh", c->shell, env);
failed:;
    int why = errno;
    if (write(pipes->status[1], &why, sizeof why) < 0)
        _exit(126);
    _exit(127);
}

/*
 * fork, without what the C library does around it. exit_signal 0: only a wait for this very child, or with
 * __WALL, reaps it, so that one for whatever a pid 1 inherits does not (supervise.c). Where clone3 is not to
 * be had (old containers' filters, valgrind) it is fork.
 */
static pid_t spawn_clone(uint64_t exit_signal)
{
    const uint64_t args[8] = {[4] = exit_signal}; /* struct clone_args of the first version */
    const long pid = syscall(SYS_clone3, args, sizeof args);
    if (pid < 0 && (errno == ENOSYS || errno == EPERM)) {
        return fork();
    }
    return (pid_t)pid;
}

/* The keeper's life: start the command, and keep it. Async-signal-safe calls only. */
static _Noreturn void spawn_keep(const struct spawn_command *c, const struct spawn_pipes *pipes,
                                 char *const *env)
{
    const pid_t self = getpid();
    prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
    const pid_t command = spawn_clone(SIGCHLD);
    if (command == 0)
        spawn_exec(c, self, pipes, env);
    if (command < 0) {
        int why = errno;
        ssize_t n = write(pipes->status[1], &why, sizeof why);
        _exit(n < 0 ? 126 : 127);
    }
    keeper_main(pipes->control[0], command, c->cpu_us);
}

/* With every signal blocked: a handler of ours that ran in the child would stop the parent's worker. */
static pid_t spawn_fork(const struct spawn_command *c, const struct spawn_pipes *pipes, char *const *env)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pid_t pid = spawn_clone(0);
    if (pid == 0)
        spawn_keep(c, pipes, env);
    int failed = errno;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    errno = failed;
    return pid;
}

static void spawn_wait(pid_t keeper)
{
    while (waitpid(keeper, NULL, __WALL) < 0 && errno == EINTR) {
    }
}

/* What the keeper says next; kind 0: nothing any more. */
static struct keeper_report spawn_hear(int control)
{
    struct keeper_report said;
    return nq_packet_receive(control, &said, sizeof said, 0) == (ssize_t)sizeof said
               ? said
               : (struct keeper_report){0};
}

/* The command's exec answers through a pipe that closes by itself when it succeeds. */
static int spawn_started(struct spawn_process *p, int status, int control)
{
    int why = 0;
    ssize_t n;
    while ((n = read(status, &why, sizeof why)) < 0 && errno == EINTR) {
    }
    const struct keeper_report born = spawn_hear(control);
    if (n == 0 && born.kind == KEEPER_BORN) {
        p->pid = born.pid;
        return 0;
    }
    return why != 0 ? why : EIO;
}

static void spawn_pipes_close(struct spawn_pipes *pipes, int end)
{
    spawn_close(end == 0 ? &pipes->in[1] : &pipes->in[0]);
    spawn_close(end == 0 ? &pipes->out[0] : &pipes->out[1]);
    spawn_close(end == 0 ? &pipes->err[0] : &pipes->err[1]);
    spawn_close(end == 0 ? &pipes->status[0] : &pipes->status[1]);
    spawn_close(end == 0 ? &pipes->control[1] : &pipes->control[0]);
}

static void spawn_take(struct spawn_process *p, struct spawn_pipes *pipes)
{
    p->in = pipes->in[1];
    p->out = pipes->out[0];
    p->err = pipes->err[0];
    p->control = pipes->control[1];
    pipes->in[1] = pipes->out[0] = pipes->err[0] = pipes->control[1] = -1;
    const int ours[] = {p->in, p->out, p->err};
    for (size_t i = 0; i < sizeof ours / sizeof ours[0]; i++)
        if (ours[i] >= 0)
            fcntl(ours[i], F_SETFL, O_NONBLOCK);
}

int spawn_start(const struct spawn_command *c, char *const own[], bool with_out, struct spawn_process *p)
{
    struct spawn_pipes pipes = {{-1, -1}, {-1, -1}, {-1, -1}, {-1, -1}, {-1, -1}};
    size_t nown = 0;
    int why = 0;
    *p = (struct spawn_process){
        .pid = -1, .keeper = -1, .control = -1, .in = -1, .out = -1, .err = -1, .unread = -1};
    while (own[nown])
        nown++;
    char **env = cli_alloc((c->nbase_env + nown + 1) * sizeof env[0]);
    memcpy(env, c->base_env, c->nbase_env * sizeof env[0]);
    memcpy(env + c->nbase_env, own, nown * sizeof env[0]);
    if (pipe2(pipes.in, O_CLOEXEC) != 0 || pipe2(pipes.err, O_CLOEXEC) != 0 ||
        pipe2(pipes.status, O_CLOEXEC) != 0 || (with_out && pipe2(pipes.out, O_CLOEXEC) != 0) ||
        (with_out && (p->unread = fcntl(pipes.in[0], F_DUPFD_CLOEXEC, 3)) < 0) ||
        socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pipes.control) != 0 ||
        (p->keeper = spawn_fork(c, &pipes, env)) < 0) {
        why = errno;
    } else {
        spawn_pipes_close(&pipes, 1);
        why = spawn_started(p, pipes.status[0], pipes.control[1]);
        if (why == 0) {
            spawn_take(p, &pipes);
        } else {
            spawn_close(&pipes.control[1]); /* the keeper sees that, if it goes on at all */
            spawn_wait(p->keeper);
        }
    }
    if (why != 0)
        spawn_close(&p->unread);
    spawn_pipes_close(&pipes, 0);
    spawn_pipes_close(&pipes, 1);
    free(env);
    return why;
}

static void spawn_ask(const struct spawn_process *p, unsigned char what)
{
    while (send(p->control, &what, sizeof what, MSG_NOSIGNAL) < 0 && errno == EINTR) {
    }
    /* EPIPE: it has ended by itself */
}

void spawn_renew_cpu(const struct spawn_command *c, const struct spawn_process *p)
{
    if (c->cpu_us > 0)
        spawn_ask(p, KEEPER_RENEW);
}

bool spawn_read_nothing(const struct spawn_process *p, size_t sent)
{
    int left = 0;
    return p->unread >= 0 && ioctl(p->unread, FIONREAD, &left) == 0 && (size_t)left >= sent;
}

void spawn_stop(const struct spawn_command *c, struct spawn_process *p)
{
    const int64_t now = cli_now_us(CLOCK_MONOTONIC);
    nq_ladder_begin(&p->ladder, now, now + c->grace_us, SPAWN_FROZEN_US);
    const int number = nq_ladder_step(&p->ladder, now);
    if (number == SIGKILL && p->ladder.kills > 1) { /* the command goes with it: PR_SET_PDEATHSIG */
        kill(p->keeper, SIGKILL);
        p->ladder.kill_us = INT64_MAX;
        return;
    }
    if (number != 0)
        spawn_ask(p, (unsigned char)number);
}

void spawn_kill(struct spawn_process *p)
{
    spawn_ask(p, SIGKILL);
    nq_ladder_begin(&p->ladder, INT64_MAX, cli_now_us(CLOCK_MONOTONIC) + SPAWN_FROZEN_US, SPAWN_FROZEN_US);
    p->ladder.kills = 1;
}

int spawn_stop_wait(const struct spawn_process *p)
{
    const int64_t next = nq_ladder_next(&p->ladder);
    if (next == INT64_MAX)
        return -1;
    const int64_t left = next - cli_now_us(CLOCK_MONOTONIC);
    return left <= 0 ? 0 : (int)(left / 1000 > 60000 ? 60000 : left / 1000 + 1);
}

/* The kernel killed the command with its keeper. It gives back its memory before it is gone, and no retry
 * shall run beside it. */
static void spawn_wait_command(pid_t command)
{
    struct pollfd fd = {.fd = (int)syscall(SYS_pidfd_open, command, 0), .events = POLLIN};
    if (fd.fd < 0)
        return; /* it is gone, or the kernel is too old to say */
    while (poll(&fd, 1, SPAWN_DYING_MS) < 0 && errno == EINTR) {
    }
    close(fd.fd);
}

nq_ending spawn_reap(struct spawn_process *p)
{
    struct pollfd fd = {.fd = p->control, .events = POLLIN};
    if (poll(&fd, 1, (int)(SPAWN_FROZEN_US / 1000)) == 0)
        kill(p->keeper, SIGKILL);
    const struct keeper_report end = spawn_hear(p->control);
    spawn_wait(p->keeper);
    spawn_close(&p->in);
    spawn_close(&p->out);
    spawn_close(&p->err);
    spawn_close(&p->unread);
    spawn_close(&p->control);
    if (end.kind == KEEPER_ENDED)
        return end.ending;
    spawn_wait_command(p->pid); /* somebody killed the keeper, and so the command */
    return (nq_ending){.status = SIGKILL};
}
