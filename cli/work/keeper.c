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

#define KEEPER_PROCESSES 32768         /* of the whole machine, looked at; more are not found */
#define KEEPER_END_US    NQ_SECONDS(5) /* how long what is killed may take to be gone */
#define KEEPER_NOT_OURS  NQ_SECONDS(1) /* the same where nothing of it may be killed: set-uid programs */

static struct keeper_process {
    pid_t pid, parent;
    bool ours;
} keeper_processes[KEEPER_PROCESSES];

/* The parent of a process, or 0. */
static pid_t keeper_parent(pid_t pid)
{
    char path[32] = "/proc/", digits[12], text[512];
    size_t at_path = 6, ndigits = 0;
    for (pid_t left = pid; left > 0; left /= 10)
        digits[ndigits++] = (char)('0' + left % 10);
    while (ndigits > 0)
        path[at_path++] = digits[--ndigits];
    memcpy(path + at_path, "/stat", 6);
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    const ssize_t n = fd >= 0 ? read(fd, text, sizeof text - 1) : -1;
    if (fd >= 0)
        close(fd);
    if (n <= 0)
        return 0;
    text[n] = '\0';
    /* pid (name) state parent ...: the name may hold anything, also a parenthesis. */
    const char *at = strrchr(text, ')');
    return at && strlen(at) > 4 ? (pid_t)strtol(at + 4, NULL, 10) : 0;
}

/* List all processes, without malloc. */
static size_t keeper_list(void)
{
    struct entry { /* linux_dirent64 */
        uint64_t ino;
        int64_t off;
        unsigned short size;
        unsigned char type;
        char name[];
    };
    _Alignas(struct entry) char chunk[8192];
    const int fd = open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    size_t n = 0;
    long got;
    while (fd >= 0 && (got = syscall(SYS_getdents64, fd, chunk, sizeof chunk)) > 0) {
        for (long at = 0; at < got;) {
            const struct entry *e = (const struct entry *)(const void *)(chunk + at);
            const pid_t pid = e->name[0] >= '1' && e->name[0] <= '9' ? (pid_t)strtol(e->name, NULL, 10) : 0;
            at += e->size;
            if (pid > 0 && n < KEEPER_PROCESSES)
                keeper_processes[n++] = (struct keeper_process){pid, keeper_parent(pid), false};
        }
    }
    if (fd >= 0)
        close(fd);
    return n;
}

/* Send a signal to all that descend from us. Answers how many could be signalled. */
static size_t keeper_all(int number)
{
    const pid_t self = getpid();
    const size_t n = keeper_list();
    size_t reached = 0;
    for (bool grew = true; grew;) {
        grew = false;
        for (size_t i = 0; i < n; i++) {
            struct keeper_process *p = &keeper_processes[i];
            bool ours = p->parent == self;
            for (size_t k = 0; k < n && !ours && !p->ours; k++)
                ours = keeper_processes[k].ours && keeper_processes[k].pid == p->parent;
            grew = grew || (ours && !p->ours);
            p->ours = p->ours || ours;
        }
    }
    for (size_t i = 0; i < n; i++)
        reached += keeper_processes[i].ours && kill(keeper_processes[i].pid, number) == 0;
    return reached;
}

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
        *end = (struct keeper_report){
            .kind = KEEPER_ENDED,
            .exited = WIFEXITED(status),
            .value = WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status),
            .cpu_us = (int64_t)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000000 +
                      usage.ru_utime.tv_usec + usage.ru_stime.tv_usec,
            .peak_bytes = (int64_t)usage.ru_maxrss * 1024,
        };
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
        const int64_t limit = keeper_all(SIGKILL) > 0 ? KEEPER_END_US : KEEPER_NOT_OURS;
        nanosleep(&pause, NULL);
        if (cli_now_us(CLOCK_MONOTONIC) - start > limit)
            return;
    }
}

rlim_t keeper_seconds(int64_t us)
{
    return (rlim_t)((us + 999999) / 1000000);
}

/* Let the command use so much of the CPU from now on as its limit says. */
static void keeper_renew(pid_t command, int64_t cpu_us)
{
    clockid_t clock;
    struct timespec used;
    struct rlimit cpu;
    if (cpu_us == 0 || clock_getcpuclockid(command, &clock) != 0 || clock_gettime(clock, &used) != 0 ||
        prlimit(command, RLIMIT_CPU, NULL, &cpu) != 0)
        return; /* it has ended, and that is seen elsewhere */
    const rlim_t most = keeper_seconds(cpu_us + (int64_t)used.tv_sec * 1000000 + used.tv_nsec / 1000);
    cpu.rlim_cur = most < cpu.rlim_max ? most : cpu.rlim_max;
    prlimit(command, RLIMIT_CPU, &cpu, NULL);
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
        keeper_renew(command, cpu_us);
        return true;
    }
    kill(-command, what); /* at once, and those that came since /proc was read */
    keeper_all(what);
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
    const struct keeper_report born = {.kind = KEEPER_BORN, .value = (int32_t)command};
    struct keeper_report end = {.kind = KEEPER_ENDED, .value = SIGKILL};
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
