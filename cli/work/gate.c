/* SPDX-License-Identifier: MIT */
/* A growing pause between starts that fail, so that no task is tried at full speed with a command that is not
 * there. */
#include <poll.h>
#include <time.h>

#include "../cli.h"
#include "spawn.h"

#define GATE_PAUSE_US     NQ_MS(100)
#define GATE_PAUSE_MAX_US NQ_SECONDS(30)

bool gate_wait(struct gate *g, nq_ctx *ctx)
{
    for (;;) {
        pthread_mutex_lock(&g->mutex);
        const int64_t until = g->until_us;
        pthread_mutex_unlock(&g->mutex);
        if (until == 0)
            return true;
        const int64_t left = until - cli_now_us(CLOCK_MONOTONIC);
        if (nq_ctx_cause(ctx) != NQ_CAUSE_NONE)
            return false;
        if (left <= 0)
            return true;
        struct pollfd fd = {.fd = nq_ctx_fd(ctx), .events = POLLIN};
        const int ms = (int)(left / 1000) + 1;
        poll(&fd, 1, fd.fd >= 0 || ms < 100 ? ms : 100);
    }
}

int64_t gate_failed(struct gate *g, unsigned *failures)
{
    pthread_mutex_lock(&g->mutex);
    const int64_t now = cli_now_us(CLOCK_MONOTONIC);
    /* Several that were under way at once are one failure. */
    if (now >= g->until_us) {
        int64_t pause = GATE_PAUSE_US << (g->failures < 10 ? g->failures : 10);
        pause = pause < GATE_PAUSE_MAX_US ? pause : GATE_PAUSE_MAX_US;
        g->failures++;
        g->until_us = now + pause;
    }
    const int64_t left = g->until_us - now;
    if (failures)
        *failures = g->failures;
    pthread_mutex_unlock(&g->mutex);
    return left;
}

unsigned gate_passed(struct gate *g)
{
    pthread_mutex_lock(&g->mutex);
    const unsigned failures = g->failures;
    g->failures = 0;
    g->until_us = 0;
    pthread_mutex_unlock(&g->mutex);
    return failures;
}
