/* SPDX-License-Identifier: MIT */
/* One process per task: start, feed, watch, stop and reap. */
#include "child.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "cli.h"
#include "log.h"

#define CHILD_CLOSE_RANGE_CLOEXEC 4u /* CLOSE_RANGE_CLOEXEC; older headers lack it */
#define CHILD_DRAIN                                                                                          \
    (1u << 20) /* most bytes of stderr read after its end: a grandchild may write for ever                   \
                */

struct child {
    const struct child_command *command;
    struct child_result *out;
    pid_t pid;
    int pidfd, in, err; /* -1: closed */
    const char *payload;
    size_t left;
    int64_t kill_at; /* 0: not told to stop; INT64_MAX: killed */
};

static void child_close(int *fd)
{
    if (*fd >= 0) {
        close(*fd);
        *fd = -1;
    }
}

/* Between fork and exec: async-signal-safe calls only. */
static _Noreturn void child_exec(const struct child_command *c, pid_t parent, int in, int err, int status,
                                 char *const *env)
{
    static const int reset[] = {SIGINT, SIGTERM, SIGHUP, SIGPIPE, SIGQUIT, SIGCHLD};
    sigset_t none;
    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) {
        _exit(127); /* it died before prctl */
    }
    /* Before any dup2: a database's socket that a grandchild kept open would keep the lock of a dead worker.
     */
    syscall(SYS_close_range, 3u, ~0u, CHILD_CLOSE_RANGE_CLOEXEC);
    for (size_t i = 0; i < c->ninherited; i++) {
        fcntl(c->inherited[i], F_SETFD, 0);
    }
    if (dup2(in, STDIN_FILENO) < 0 || dup2(err, STDERR_FILENO) < 0) {
        goto failed;
    }
    for (size_t i = 0; i < sizeof reset / sizeof reset[0]; i++) {
        signal(reset[i], SIG_DFL);
    }
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    execve(c->path, c->argv, env);
    if (errno == ENOEXEC) {
        execve("/bin/sh", c->shell, env);
    }
failed:;
    int why = errno;
    if (write(status, &why, sizeof why) < 0) {
        _exit(126);
    }
    _exit(127);
}

static char **child_env(const struct child_command *c, nq_ctx *ctx, const nq_task *task, char *own[6])
{
    int64_t deadline = cli_now_us(CLOCK_REALTIME) + nq_ctx_remaining_us(ctx);
    char **env = cli_alloc((c->nbase_env + 7) * sizeof env[0]);
    own[0] = cli_format("NANOQ_ID=%" PRId64, task->id);
    own[1] = cli_format("NANOQ_TYPE=%s", task->type);
    own[2] = cli_format("NANOQ_QUEUE=%s", task->queue);
    own[3] = cli_format("NANOQ_ATTEMPT=%u", task->attempt);
    own[4] = cli_format("NANOQ_MAX_RETRIES=%u", task->max_retries);
    own[5] = cli_format("NANOQ_DEADLINE=%" PRId64 ".%06d", deadline / 1000000, (int)(deadline % 1000000));
    memcpy(env, c->base_env, c->nbase_env * sizeof env[0]);
    memcpy(env + c->nbase_env, own, 6 * sizeof env[0]);
    return env;
}

/* fork with every signal blocked: a handler of ours that ran in the child would stop the parent's processor.
 */
static pid_t child_fork(const struct child_command *c, char *const *env, int in, int err, int status)
{
    sigset_t all, before;
    pid_t parent = getpid();
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pid_t pid = fork();
    if (pid == 0) {
        child_exec(c, parent, in, err, status, env);
    }
    int failed = errno;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    errno = failed;
    return pid;
}

static void child_reap(struct child *ch)
{
    siginfo_t info = {0};
    while (waitid(P_PID, (id_t)ch->pid, &info, WEXITED) != 0 && errno == EINTR) {
    }
    ch->out->exited = info.si_code == CLD_EXITED;
    ch->out->status = info.si_status;
}

/* The child's exec answers through a pipe that closes by itself when it succeeds. */
static bool child_started(struct child *ch, int status)
{
    int why = 0;
    ssize_t n;
    while ((n = read(status, &why, sizeof why)) < 0 && errno == EINTR) {
    }
    if (n == 0) {
        ch->pidfd = (int)syscall(SYS_pidfd_open, ch->pid, 0u);
        if (ch->pidfd >= 0) {
            return true;
        }
        why = errno;
        kill(-ch->pid, SIGKILL);
    }
    child_reap(ch);
    ch->out->error = why;
    return false;
}

static bool child_start(struct child *ch, nq_ctx *ctx, const nq_task *task)
{
    int in[2] = {-1, -1}, err[2] = {-1, -1}, status[2] = {-1, -1};
    char *own[6] = {0}, **env = NULL;
    bool started = false;
    if (pipe2(in, O_CLOEXEC) != 0 || pipe2(err, O_CLOEXEC) != 0 || pipe2(status, O_CLOEXEC) != 0) {
        ch->out->error = errno;
        goto out;
    }
    env = child_env(ch->command, ctx, task, own);
    ch->pid = child_fork(ch->command, env, in[0], err[1], status[1]);
    if (ch->pid < 0) {
        ch->out->error = errno;
        goto out;
    }
    child_close(&in[0]);
    child_close(&err[1]);
    child_close(&status[1]);
    started = child_started(ch, status[0]);
    if (started) {
        fcntl(in[1], F_SETFL, O_NONBLOCK);
        fcntl(err[0], F_SETFL, O_NONBLOCK);
        ch->in = in[1];
        ch->err = err[0];
        in[1] = err[0] = -1;
    }
out:
    for (int i = 0; i < 2; i++) {
        child_close(&in[i]);
        child_close(&err[i]);
        child_close(&status[i]);
    }
    for (size_t i = 0; i < 6; i++) {
        free(own[i]);
    }
    free(env);
    return started;
}

static void child_feed(struct child *ch)
{
    while (ch->in >= 0 && ch->left > 0) {
        ssize_t n = write(ch->in, ch->payload, ch->left);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0 && errno == EAGAIN) {
            return;
        }
        if (n < 0) { /* EPIPE: it does not want to know */
            ch->left = 0;
            break;
        }
        ch->payload += n;
        ch->left -= (size_t)n;
    }
    child_close(&ch->in);
}

/* Pass stderr on and keep its end. Returns bytes read, 0 when there is nothing now. */
static size_t child_listen(struct child *ch)
{
    char chunk[4096];
    ssize_t n = ch->err >= 0 ? read(ch->err, chunk, sizeof chunk) : -1;
    if (n < 0 && (ch->err < 0 || errno == EAGAIN || errno == EINTR)) {
        return 0;
    }
    if (n <= 0) {
        child_close(&ch->err);
        return 0;
    }
    log_raw(chunk, (size_t)n);
    for (ssize_t i = 0; i < n; i++) {
        ch->out->tail[ch->out->tail_n++ % CHILD_TAIL] = chunk[i];
    }
    return (size_t)n;
}

static void child_stop(struct child *ch, nq_ctx *ctx)
{
    int64_t now = cli_now_us(CLOCK_MONOTONIC);
    enum nq_cause cause = nq_ctx_cause(ctx);
    if (ch->kill_at == 0 && cause != NQ_CAUSE_NONE) {
        ch->out->cause = cause;
        kill(-ch->pid, SIGTERM);
        kill(-ch->pid, SIGCONT); /* a stopped one could not hear it */
        ch->kill_at = now + ch->command->grace_us;
    }
    if (ch->kill_at != 0 && ch->kill_at != INT64_MAX && now >= ch->kill_at) {
        ch->out->killed = true;
        kill(-ch->pid, SIGKILL);
        ch->kill_at = INT64_MAX;
    }
}

static void child_watch(struct child *ch, nq_ctx *ctx)
{
    int cancel = nq_ctx_fd(ctx);
    for (;;) {
        int wait = cancel < 0 && ch->kill_at == 0 ? 100 : -1;
        if (ch->kill_at != 0 && ch->kill_at != INT64_MAX) {
            int64_t left = ch->kill_at - cli_now_us(CLOCK_MONOTONIC);
            wait = left <= 0 ? 0 : (int)(left / 1000 > 60000 ? 60000 : left / 1000 + 1);
        }
        struct pollfd fds[] = {{.fd = ch->pidfd, .events = POLLIN},
                               {.fd = ch->err, .events = POLLIN},
                               {.fd = ch->in, .events = POLLOUT},
                               {.fd = ch->kill_at == 0 ? cancel : -1, .events = POLLIN}};
        if (poll(fds, 4, wait) < 0) {
            continue;
        }
        if (fds[1].revents != 0) {
            child_listen(ch);
        }
        if (fds[2].revents != 0) {
            child_feed(ch);
        }
        if (fds[0].revents != 0) {
            return;
        }
        child_stop(ch, ctx);
    }
}

void child_run(const struct child_command *c, nq_ctx *ctx, const nq_task *task, struct child_result *out)
{
    struct child ch = {.command = c,
                       .out = out,
                       .pidfd = -1,
                       .in = -1,
                       .err = -1,
                       .payload = task->payload,
                       .left = task->payload_size};
    out->started = out->exited = out->killed = false;
    out->error = out->status = 0;
    out->cause = NQ_CAUSE_NONE;
    out->tail_n = 0;
    if (!child_start(&ch, ctx, task)) {
        return;
    }
    out->started = true;
    child_feed(&ch);
    child_watch(&ch, ctx);
    if (ch.kill_at != 0) {
        kill(-ch.pid, SIGKILL); /* what it left behind; not yet reaped, so the group is still its own */
    }
    child_reap(&ch);
    for (size_t drained = 0, n; drained < CHILD_DRAIN && (n = child_listen(&ch)) > 0;) {
        drained += n;
    }
    child_close(&ch.in);
    child_close(&ch.err);
    child_close(&ch.pidfd);
}
