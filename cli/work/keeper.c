/* SPDX-License-Identifier: MIT */
/* The keeper: a small process between the worker and one command, which sees to it that nothing of the
 * command is left when it has ended, was stopped, or when the worker is gone. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../cli.h"
#include "spawn.h"

/*
 * It is the command's parent and a subreaper: whatever the command starts, in whatever process group or
 * session, becomes the keeper's child when its own parent ends, so the keeper can find it and end it. A
 * process group alone is not enough: timeout(1) makes one of its own, and setsid leaves it.
 *
 * It was forked from a process with threads and never calls exec, so it may use system calls only: no malloc,
 * no stdio, no opendir.
 */

#define KEEPER_END_US   NQ_SECONDS(5) /* how long what is killed may take to be gone */
#define KEEPER_NOT_OURS NQ_SECONDS(1) /* the same where nothing of it may be killed: set-uid programs */

/* Collect the dead. True: the command is among them. */
static bool keeper_collect(pid_t command, struct keeper_report *end, bool *none)
{
    struct rusage usage;
    int status;
    bool ended = false;
    pid_t pid;
    while ((pid = wait4(-1, &status, WNOHANG | __WALL, &usage)) > 0) {
        if (pid != command)
            continue;
        ended = true;
        *end = (struct keeper_report){.kind = KEEPER_ENDED, .ending = nq_ending_of(status, &usage)};
    }
    *none = pid < 0 && errno == ECHILD;
    return ended;
}

/* End what is left; what forks on is found in the next round. */
static void keeper_sweep(void)
{
    const struct timespec pause = {.tv_nsec = 5000000};
    const int64_t start = cli_now_us(CLOCK_MONOTONIC);
    struct keeper_report ignored;
    bool none = false;
    for (;;) {
        keeper_collect(0, &ignored, &none);
        if (none)
            return;
        const int64_t limit = nq_tree_signal(getpid(), SIGKILL) > 0 ? KEEPER_END_US : KEEPER_NOT_OURS;
        nanosleep(&pause, NULL);
        if (cli_now_us(CLOCK_MONOTONIC) - start > limit)
            return;
    }
}

/* What the worker asks for. False: it is gone. */
static bool keeper_asked(int control, pid_t command, int64_t cpu_us)
{
    unsigned char what;
    const ssize_t n = recv(control, &what, sizeof what, 0);
    if (n < 0)
        return errno == EINTR || errno == EAGAIN;
    if (n == 0)
        return false;
    if (what == KEEPER_RENEW) {
        if (cpu_us > 0)
            (void)nq_rlimit_cpu(command, cpu_us); /* -1: it has ended, and that is seen elsewhere */
        return true;
    }
    kill(-command, what); /* at once, and those that came since /proc was read */
    nq_tree_signal(getpid(), what);
    kill(-command, SIGCONT); /* a stopped one could not hear it */
    return true;
}

/* Hold nothing open but the socket: nobody shall wait for an end of file because of us. */
static int keeper_close(int control)
{
    const int null = open("/dev/null", O_RDWR);
    if (control <= 2 || null < 0)
        return control;
    for (int fd = 0; fd <= 2; fd++)
        dup2(null, fd);
    if (control != 3)
        dup2(control, 3);
    syscall(SYS_close_range, 4u, ~0u, 0u);
    return 3;
}

_Noreturn void keeper_main(int control, pid_t command, int64_t cpu_us)
{
    const struct keeper_report born = {.kind = KEEPER_BORN, .pid = command};
    struct keeper_report end = {.kind = KEEPER_ENDED, .ending.status = SIGKILL};
    sigset_t child;
    bool none = false;
    prctl(PR_SET_NAME, "nanoq-keeper");
    control = keeper_close(control);
    sigemptyset(&child);
    sigaddset(&child, SIGCHLD);
    const int died = signalfd(-1, &child, SFD_CLOEXEC | SFD_NONBLOCK);
    send(control, &born, sizeof born, MSG_NOSIGNAL);
    for (;;) {
        struct pollfd fds[] = {{.fd = control, .events = POLLIN}, {.fd = died, .events = POLLIN}};
        struct signalfd_siginfo info;
        if (keeper_collect(command, &end, &none) || none)
            break;
        poll(fds, 2, died < 0 ? 20 : -1);
        while (died >= 0 && read(died, &info, sizeof info) > 0)
            ;
        if (fds[0].revents != 0 && !keeper_asked(control, command, cpu_us))
            break;
    }
    keeper_sweep();
    send(control, &end, sizeof end, MSG_NOSIGNAL);
    _exit(0);
}
