/* SPDX-License-Identifier: MIT */
/* The guard: a small process that kills what the worker's commands have started, when the worker was killed.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../cli.h"
#include "spawn.h"

#define GUARD_GROUPS 4096 /* more than 1024 jobs and those that are being replaced */

static pid_t guard_pid = -1;

static void guard_note(pid_t groups[GUARD_GROUPS], size_t *n, pid_t said)
{
    if (said > 0 && *n < GUARD_GROUPS) {
        groups[(*n)++] = said;
        return;
    }
    for (size_t i = 0; i < *n; i++) {
        if (groups[i] == -said) {
            groups[i] = groups[--*n];
            return;
        }
    }
}

static _Noreturn void guard_main(int in)
{
    static pid_t groups[GUARD_GROUPS];
    pid_t said[64];
    size_t n = 0;
    ssize_t got;
    sigset_t all;
    sigfillset(&all); /* what stops the worker, or its whole terminal, is not for us */
    sigprocmask(SIG_SETMASK, &all, NULL);
    setsid();
    prctl(PR_SET_NAME, "nanoq-guard");
    /* Nobody shall wait for an end of file that we hold back. */
    int null = open("/dev/null", O_RDWR);
    for (int fd = 0; fd <= 2; fd++) {
        dup2(null, fd);
    }
    if (in != 3) {
        dup2(in, 3);
    }
    syscall(SYS_close_range, 4u, ~0u, 0u);
    /* Each message is written at once, so what is read is whole ones. */
    while ((got = read(3, said, sizeof said)) > 0 || (got < 0 && errno == EINTR)) {
        for (ssize_t i = 0; i < got / (ssize_t)sizeof said[0]; i++) {
            guard_note(groups, &n, said[i]);
        }
    }
    for (size_t i = 0; i < n; i++) {
        kill(-groups[i], SIGKILL);
    }
    _exit(0);
}

bool guard_start(struct spawn_command *c)
{
    int fds[2];
    char buf[128];
    /* A socket for MSG_NOSIGNAL: a blocked SIGPIPE would stay pending, and kill the command once it is its
     * own master. */
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) != 0 || (guard_pid = fork()) < 0) {
        cli_complain("cannot start the guard process: %s", strerror_r(errno, buf, sizeof buf));
        return false;
    }
    if (guard_pid == 0) {
        close(fds[1]);
        guard_main(fds[0]);
    }
    close(fds[0]);
    c->guard = fds[1];
    return true;
}

void guard_end(struct spawn_command *c)
{
    close(c->guard);
    while (waitpid(guard_pid, NULL, 0) < 0 && errno == EINTR) {
    }
}

void guard_tell(int guard, pid_t group)
{
    while (send(guard, &group, sizeof group, MSG_NOSIGNAL) < 0 && errno == EINTR) {
    }
    /* EPIPE: somebody killed the guard; then a kill of the worker may leave something behind. */
}
