/* SPDX-License-Identifier: MIT */
/* demo: messages, memory, the clock, and opening the database. */
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "demo.h"

static volatile sig_atomic_t base_stopped;

void demo_stop(int signal)
{
    (void)signal;
    base_stopped = 1;
}

bool demo_stopped(void)
{
    return base_stopped != 0;
}

void demo_complain(const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    fputs("demo: ", stderr);
    vfprintf(stderr, fmt, args);
    fputc('\n', stderr);
    va_end(args);
}

bool demo_fail(const nq_err *err)
{
    demo_complain("%s", err->message[0] != '\0' ? err->message : nq_strerror(err->code));
    return false;
}

void *demo_alloc(size_t n)
{
    void *p = calloc(1, n);
    if (!p) {
        demo_complain("out of memory");
        exit(1);
    }
    return p;
}

int64_t demo_now_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

bool demo_open(nq **q, const char *url)
{
    nq_err err = {0};
    const nq_options options = {.size = sizeof options}; /* no log: it would write into the picture */
    return nq_open(q, url, &options, &err) == NQ_OK || demo_fail(&err);
}
