/* SPDX-License-Identifier: MIT */
/* What every file stands on: the settings, the clock, waking the main thread. */
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "dash.h"

struct dash_settings dash;
static int shared_wake = -1;

int64_t dash_clock_us(void)
{
    return cli_now_us(CLOCK_MONOTONIC);
}

int dash_wakes(void)
{
    if (shared_wake < 0)
        shared_wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return shared_wake;
}

void dash_wake(void)
{
    const uint64_t one = 1;
    const ssize_t n = write(shared_wake, &one, sizeof one); /* a full counter wakes too */
    (void)n;
}
