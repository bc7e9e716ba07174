/* SPDX-License-Identifier: MIT */
/* How a process ended, in words. */
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>

#include "process.h"

NQ_PRIVATE nq_ending nq_ending_of(int wait_status, const struct rusage *used)
{
    return (nq_ending){
        .exited = WIFEXITED(wait_status),
        .status = WIFEXITED(wait_status) ? WEXITSTATUS(wait_status) : WTERMSIG(wait_status),
        .cpu_us = ((int64_t)used->ru_utime.tv_sec + used->ru_stime.tv_sec) * 1000000 +
                  used->ru_utime.tv_usec + used->ru_stime.tv_usec,
        .peak_bytes = (int64_t)used->ru_maxrss * 1024,
    };
}

/* By the name that programmers know. sigabbrev_np would do, but musl and older glibc lack it. */
static const char *ending_signal(int number)
{
    static const struct {
        int number;
        const char *name;
    } names[] = {{SIGHUP, "SIGHUP"},   {SIGINT, "SIGINT"},   {SIGQUIT, "SIGQUIT"},
                 {SIGILL, "SIGILL"},   {SIGTRAP, "SIGTRAP"}, {SIGABRT, "SIGABRT"},
                 {SIGBUS, "SIGBUS"},   {SIGFPE, "SIGFPE"},   {SIGKILL, "SIGKILL"},
                 {SIGSEGV, "SIGSEGV"}, {SIGPIPE, "SIGPIPE"}, {SIGALRM, "SIGALRM"},
                 {SIGTERM, "SIGTERM"}, {SIGSYS, "SIGSYS"},   {SIGXCPU, "SIGXCPU: CPU time limit"},
                 {SIGUSR1, "SIGUSR1"}, {SIGUSR2, "SIGUSR2"}, {SIGXFSZ, "SIGXFSZ: file size limit"}};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (names[i].number == number)
            return names[i].name;
    return "no name";
}

NQ_PRIVATE void nq_ending_words(const nq_ending *e, bool use, char out[NQ_ENDING_WORDS])
{
    const double cpu = (double)e->cpu_us / 1e6;
    char how[64], used[64] = "";
    if (e->exited)
        snprintf(how, sizeof how, "exit status %d", (int)e->status);
    else
        snprintf(how, sizeof how, "killed by signal %d (%s)", (int)e->status, ending_signal(e->status));
    if (use)
        snprintf(used, sizeof used, " after %.*f s of CPU, %lld MB", cpu < 10 ? 2 : 0, cpu,
                 (long long)((e->peak_bytes + 500000) / 1000000));
    snprintf(out, NQ_ENDING_WORDS, "%s%s", how, used);
}
