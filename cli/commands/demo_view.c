/* SPDX-License-Identifier: MIT */
/* nanoq demo: the live picture, and the accounts at the end. */
#include <inttypes.h>
#include <time.h>

#include "demo.h"

#define VIEW_BAR 48

struct view_bar {
    const char *name, *colour;
    uint64_t n;
};

static uint64_t view_refused(const struct demo *d)
{
    uint64_t n = 0;
    for (size_t k = 0; k < DEMO_KINDS; k++) {
        n += d->tally[k].refused;
    }
    return n;
}

static void view_line(const struct demo *d, double seconds)
{
    printf("%5.1f s  due %" PRIu64 ", delayed %" PRIu64 ", running %" PRIu64 ", done %" PRIu64
           ", dead %" PRIu64 ", cancelled %" PRIu64 ", duplicates refused %" PRIu64 ", worker crashes %u\n",
           seconds, d->now.due, d->now.delayed, d->now.running, d->now.done, d->now.dead, d->now.cancelled,
           view_refused(d), d->crashes);
    fflush(stdout);
}

void demo_draw(struct demo *d)
{
    static const char full[] = "################################################";
    const struct view_bar bars[] = {
        {"due", "\033[34m", d->now.due},
        {"delayed", "\033[35m", d->now.delayed},
        {"running", "\033[36m", d->now.running},
        {"done", "\033[32m", d->now.done},
        {"dead", "\033[31m", d->now.dead},
        {"cancelled", "\033[33m", d->now.cancelled},
        {"duplicates", "\033[90m", view_refused(d)},
    };
    size_t n = sizeof bars / sizeof bars[0];
    double seconds = (double)(cli_now_us(CLOCK_MONOTONIC) - d->started) / 1e6;
    uint64_t total = 0;
    if (!d->fancy) {
        view_line(d, seconds);
        return;
    }
    for (size_t i = 0; i < n; i++) {
        total += bars[i].n;
    }
    if (d->drawn) {
        printf("\033[%zuA", n + 1);
    }
    for (size_t i = 0; i < n; i++) {
        uint64_t width = total > 0 ? (bars[i].n * VIEW_BAR + total - 1) / total : 0;
        printf("\033[K  %-10s %s%.*s\033[0m %" PRIu64 "\n", bars[i].name, bars[i].colour, (int)width, full,
               bars[i].n);
    }
    printf("\033[K  %.1f s, 4 worker processes, %u crashed and were replaced\n", seconds, d->crashes);
    fflush(stdout);
    d->drawn = true;
}

static void view_row(const char *name, const struct demo_tally *t, const char *what)
{
    printf("  %-10s %6" PRIu64 " %8" PRIu64 " %6" PRIu64 " %6" PRIu64 " %10" PRIu64 " %9" PRIu64 " %8" PRIu64
           "   %s\n",
           name, t->asked, t->refused, t->done, t->dead, t->cancelled, t->failed, t->crashed, what);
}

void demo_summary(const struct demo *d)
{
    struct demo_tally sum = {0};
    printf("\n  %-10s %6s %8s %6s %6s %10s %9s %8s\n", "TYPE", "ASKED", "REFUSED", "DONE", "DEAD",
           "CANCELLED", "FAILURES", "CRASHES");
    for (size_t k = 0; k < DEMO_KINDS; k++) {
        const struct demo_tally *t = &d->tally[k];
        view_row(demo_kinds[k].type, t, demo_kinds[k].what);
        sum.asked += t->asked;
        sum.refused += t->refused;
        sum.done += t->done;
        sum.dead += t->dead;
        sum.cancelled += t->cancelled;
        sum.failed += t->failed;
        sum.crashed += t->crashed;
    }
    view_row("all", &sum, "");
    bool equal = sum.asked == sum.refused + sum.done + sum.dead + sum.cancelled;
    printf("\n  %" PRIu64 " asked %s %" PRIu64 " refused as duplicates + %" PRIu64 " done + %" PRIu64
           " dead + %" PRIu64 " cancelled\n",
           sum.asked, equal ? "=" : "IS NOT", sum.refused, sum.done, sum.dead, sum.cancelled);
}
