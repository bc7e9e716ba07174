/* SPDX-License-Identifier: MIT */
/* A process: start, limit, stop and reap. */
#include "spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../cli.h"

#define SPAWN_CLOEXEC 4u /* CLOSE_RANGE_CLOEXEC; older headers lack it */

struct spawn_pipes {
    int in[2], out[2], err[2], status[2];
};

void spawn_close(int *fd)
{
    if (*fd >= 0) {
        close(*fd);
        *fd = -1;
    }
}

static rlim_t spawn_seconds(int64_t us)
{
    return (rlim_t)((us + 999999) / 1000000);
}

/* Between fork and exec: async-signal-safe calls only. */
static bool spawn_limit(const struct spawn_command *c)
{
    /* A core holds the task's data. The hard limit stays: who wants one raises the other (ulimit -c). */
    struct rlimit core;
    if (getrlimit(RLIMIT_CORE, &core) == 0) {
        core.rlim_cur = 0;
        setrlimit(RLIMIT_CORE, &core);
    }
    if (c->no_new_privs && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) {
        return false;
    }
    if (c->cpu_us > 0) {
        /* A second more for who catches SIGXCPU. One that is renewed can only be raised below the hard limit.
         */
        struct rlimit cpu;
        if (getrlimit(RLIMIT_CPU, &cpu) != 0) {
            return false;
        }
        rlim_t most = spawn_seconds(c->cpu_us);
        cpu.rlim_cur = most < cpu.rlim_max ? most : cpu.rlim_max;
        cpu.rlim_max = !c->cpu_renewed && most + 1 < cpu.rlim_max ? most + 1 : cpu.rlim_max;
        if (setrlimit(RLIMIT_CPU, &cpu) != 0) {
            return false;
        }
    }
    if (c->memory > 0) {
        struct rlimit memory = {.rlim_cur = (rlim_t)c->memory, .rlim_max = (rlim_t)c->memory};
        return setrlimit(RLIMIT_AS, &memory) == 0;
    }
    return true;
}

/* As above. */
static _Noreturn void spawn_exec(const struct spawn_command *c, pid_t parent, const struct spawn_pipes *pipes,
                                 char *const *env)
{
    static const int reset[] = {SIGINT, SIGTERM, SIGHUP, SIGPIPE, SIGQUIT, SIGCHLD};
    sigset_t none;
    setpgid(0, 0);
    guard_tell(c->guard, getpid());
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) {
        _exit(127); /* it died before prctl */
    }
    /* Before any dup2: a database's socket that a grandchild kept open would keep the lock of a dead worker.
     */
    syscall(SYS_close_range, 3u, ~0u, SPAWN_CLOEXEC);
    for (size_t i = 0; i < c->ninherited; i++) {
        fcntl(c->inherited[i], F_SETFD, 0);
    }
    if (dup2(pipes->in[0], STDIN_FILENO) < 0 || dup2(pipes->err[1], STDERR_FILENO) < 0 ||
        (pipes->out[1] >= 0 && dup2(pipes->out[1], STDOUT_FILENO) < 0)) {
        goto failed;
    }
    for (size_t i = 0; i < sizeof reset / sizeof reset[0]; i++) {
        signal(reset[i], SIG_DFL);
    }
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    if (!spawn_limit(c)) {
        goto failed;
    }
    execve(c->path, c->argv, env);
    if (errno == ENOEXEC) {
        execve("/bin/sh", c->shell, env);
    }
failed:;
    int why = errno;
    if (write(pipes->status[1], &why, sizeof why) < 0) {
        _exit(126);
    }
    _exit(127);
}

/* fork with every signal blocked: a handler of ours that ran in the child would stop the parent's worker.
 */
static pid_t spawn_fork(const struct spawn_command *c, const struct spawn_pipes *pipes, char *const *env)
{
    sigset_t all, before;
    pid_t parent = getpid();
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pid_t pid = fork();
    if (pid == 0) {
        spawn_exec(c, parent, pipes, env);
    }
    int failed = errno;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    errno = failed;
    return pid;
}

static pid_t spawn_wait(const struct spawn_command *c, pid_t pid, int *status, struct rusage *usage)
{
    guard_tell(c->guard, -pid); /* before the number is free for others */
    while (wait4(pid, status, 0, usage) < 0 && errno == EINTR) {
    }
    return pid;
}

/* The child's exec answers through a pipe that closes by itself when it succeeds. */
static int spawn_started(const struct spawn_command *c, struct spawn_process *p, int status)
{
    int why = 0, ended;
    ssize_t n;
    struct rusage usage;
    while ((n = read(status, &why, sizeof why)) < 0 && errno == EINTR) {
    }
    if (n == 0) {
        p->pidfd = (int)syscall(SYS_pidfd_open, p->pid, 0u);
        if (p->pidfd >= 0) {
            return 0;
        }
        why = errno;
        kill(-p->pid, SIGKILL);
    }
    spawn_wait(c, p->pid, &ended, &usage);
    return why != 0 ? why : EIO;
}

static void spawn_pipes_close(struct spawn_pipes *pipes, int end)
{
    spawn_close(end == 0 ? &pipes->in[1] : &pipes->in[0]);
    spawn_close(end == 0 ? &pipes->out[0] : &pipes->out[1]);
    spawn_close(end == 0 ? &pipes->err[0] : &pipes->err[1]);
    spawn_close(end == 0 ? &pipes->status[0] : &pipes->status[1]);
}

static void spawn_take(struct spawn_process *p, struct spawn_pipes *pipes)
{
    p->in = pipes->in[1];
    p->out = pipes->out[0];
    p->err = pipes->err[0];
    pipes->in[1] = pipes->out[0] = pipes->err[0] = -1;
    const int ours[] = {p->in, p->out, p->err};
    for (size_t i = 0; i < sizeof ours / sizeof ours[0]; i++) {
        if (ours[i] >= 0) {
            fcntl(ours[i], F_SETFL, O_NONBLOCK);
        }
    }
}

int spawn_start(const struct spawn_command *c, char *const own[], bool with_out, struct spawn_process *p)
{
    struct spawn_pipes pipes = {{-1, -1}, {-1, -1}, {-1, -1}, {-1, -1}};
    size_t nown = 0;
    int why = 0;
    *p = (struct spawn_process){.pid = -1, .pidfd = -1, .in = -1, .out = -1, .err = -1};
    while (own[nown] != NULL) {
        nown++;
    }
    char **env = cli_alloc((c->nbase_env + nown + 1) * sizeof env[0]);
    memcpy(env, c->base_env, c->nbase_env * sizeof env[0]);
    memcpy(env + c->nbase_env, own, nown * sizeof env[0]);
    if (pipe2(pipes.in, O_CLOEXEC) != 0 || pipe2(pipes.err, O_CLOEXEC) != 0 ||
        pipe2(pipes.status, O_CLOEXEC) != 0 || (with_out && pipe2(pipes.out, O_CLOEXEC) != 0) ||
        (p->pid = spawn_fork(c, &pipes, env)) < 0) {
        why = errno;
    } else {
        spawn_pipes_close(&pipes, 1);
        why = spawn_started(c, p, pipes.status[0]);
        if (why == 0) {
            spawn_take(p, &pipes);
        }
    }
    spawn_pipes_close(&pipes, 0);
    spawn_pipes_close(&pipes, 1);
    free(env);
    return why;
}

void spawn_renew_cpu(const struct spawn_command *c, const struct spawn_process *p)
{
    clockid_t clock;
    struct timespec used;
    struct rlimit cpu;
    if (c->cpu_us == 0 || clock_getcpuclockid(p->pid, &clock) != 0 || clock_gettime(clock, &used) != 0 ||
        prlimit(p->pid, RLIMIT_CPU, NULL, &cpu) != 0) {
        return; /* it has ended, and that is seen elsewhere */
    }
    rlim_t most = spawn_seconds(c->cpu_us + (int64_t)used.tv_sec * 1000000 + used.tv_nsec / 1000);
    cpu.rlim_cur = most < cpu.rlim_max ? most : cpu.rlim_max;
    prlimit(p->pid, RLIMIT_CPU, &cpu, NULL);
}

void spawn_stop(const struct spawn_command *c, struct spawn_process *p)
{
    int64_t now = cli_now_us(CLOCK_MONOTONIC);
    if (p->kill_at == 0) {
        kill(-p->pid, SIGTERM);
        kill(-p->pid, SIGCONT); /* a stopped one could not hear it */
        p->kill_at = now + c->grace_us;
    }
    if (p->kill_at != INT64_MAX && now >= p->kill_at) {
        p->killed = true;
        spawn_kill(p);
    }
}

void spawn_kill(struct spawn_process *p)
{
    kill(-p->pid, SIGKILL);
    p->kill_at = INT64_MAX;
}

int spawn_stop_wait(const struct spawn_process *p)
{
    if (p->kill_at == 0 || p->kill_at == INT64_MAX) {
        return -1;
    }
    int64_t left = p->kill_at - cli_now_us(CLOCK_MONOTONIC);
    return left <= 0 ? 0 : (int)(left / 1000 > 60000 ? 60000 : left / 1000 + 1);
}

struct spawn_end spawn_reap(const struct spawn_command *c, struct spawn_process *p)
{
    struct rusage usage = {0};
    int status = 0;
    spawn_wait(c, p->pid, &status, &usage);
    spawn_close(&p->in);
    spawn_close(&p->out);
    spawn_close(&p->err);
    spawn_close(&p->pidfd);
    return (struct spawn_end){
        .exited = WIFEXITED(status),
        .status = WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status),
        .cpu_us = (int64_t)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000000 +
                  usage.ru_utime.tv_usec + usage.ru_stime.tv_usec,
        .peak_bytes = (int64_t)usage.ru_maxrss * 1024,
    };
}
