/* SPDX-License-Identifier: MIT */
/* How a process ended, in words, with the last that it wrote to stderr. */
#include <signal.h>

#include "../cli.h"
#include "../text/text.h"
#include "spawn.h"

void tail_add(struct tail *t, const char *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        t->bytes[t->n++ % TAIL_SIZE] = p[i];
}

static const char *ending_signal(int number)
{
    static const struct {
        int number;
        const char *name;
    } names[] = {{SIGHUP, "Hangup"},          {SIGINT, "Interrupt"},
                 {SIGQUIT, "Quit"},           {SIGILL, "Illegal instruction"},
                 {SIGTRAP, "Trap"},           {SIGABRT, "Aborted"},
                 {SIGBUS, "Bus error"},       {SIGFPE, "Floating point exception"},
                 {SIGKILL, "Killed"},         {SIGSEGV, "Segmentation fault"},
                 {SIGPIPE, "Broken pipe"},    {SIGALRM, "Alarm clock"},
                 {SIGTERM, "Terminated"},     {SIGXCPU, "CPU time limit exceeded"},
                 {SIGSYS, "Bad system call"}, {SIGXFSZ, "File size limit exceeded"},
                 {SIGUSR1, "User signal 1"},  {SIGUSR2, "User signal 2"}};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (names[i].number == number)
            return names[i].name;
    return "other signal";
}

void ending_status(const struct spawn_end *end, char *out, size_t size)
{
    if (end->exited) {
        snprintf(out, size, "exit status %d", end->status);
        return;
    }
    snprintf(out, size, "killed by signal %d (%s) after %.2g s of CPU, %lld MB", end->status,
             ending_signal(end->status), (double)end->cpu_us / 1e6, (long long)(end->peak_bytes >> 20));
}

void ending_describe(const char *what, const struct tail *t, char out[NQ_MAX_ERROR + 1])
{
    char ring[TAIL_SIZE];
    size_t kept = t->n < TAIL_SIZE ? t->n : TAIL_SIZE;
    for (size_t i = 0; i < kept; i++)
        ring[i] = t->bytes[(t->n - kept + i) % TAIL_SIZE];
    while (kept > 0 && strchr(" \t\r\n", ring[kept - 1]) && ring[kept - 1] != '\0')
        kept--;
    int n = snprintf(out, NQ_MAX_ERROR - 1, "%s", what);
    size_t at = n < 0 ? 0 : n < NQ_MAX_ERROR - 2 ? (size_t)n : NQ_MAX_ERROR - 2, from = 0;
    if (kept == 0)
        return;
    out[at++] = ':';
    out[at++] = ' ';
    if (kept > NQ_MAX_ERROR - at)
        from = kept - (NQ_MAX_ERROR - at);
    while (from > 0 && from < kept && ((unsigned char)ring[from] & 0xC0) == 0x80)
        from++;           /* not in the middle of a character */
    while (from < kept) { /* the database keeps text: other bytes become ? */
        uint32_t c;
        size_t used = text_decode(ring + from, kept - from, &c);
        if (used == 0 || c == 0) {
            out[at++] = '?';
            from++;
            continue;
        }
        memcpy(out + at, ring + from, used);
        at += used;
        from += used;
    }
    out[at] = '\0';
}
