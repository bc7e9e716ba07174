/* SPDX-License-Identifier: MIT */
/* demo: the live picture, and the accounts at the end. */
#include <inttypes.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "demo.h"

#define VIEW_BAR  48
#define VIEW_LEFT 20 /* of a line with a bar: what stands beside it */

struct view_bar {
    const char *name, *colour;
    uint64_t n;
};

/* Columns of the terminal; where there is none, as many as anything needs. */
static int view_columns(void)
{
    struct winsize size;
    return ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 200;
}

static uint64_t view_refused(const struct demo *d)
{
    uint64_t n = 0;
    for (size_t k = 0; k < DEMO_KINDS; k++)
        n += d->tally[k].refused;
    return n;
}

static void view_line(const struct demo *d, double seconds)
{
    printf("%5.1f s  due %" PRIu64 ", delayed %" PRIu64 ", running %" PRIu64 ", done %" PRIu64
           ", dead %" PRIu64 ", cancelled %" PRIu64 ", duplicates refused %" PRIu64 ", worker crashes %u\n",
           seconds, d->now.due, d->now.delayed, d->now.running, d->now.done, d->now.dead, d->now.cancelled,
           view_refused(d), d->crashes);
}

static void view_bars(struct demo *d, double seconds)
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
    const size_t n = sizeof bars / sizeof bars[0];
    const int columns = view_columns();
    const int room = columns - VIEW_LEFT;
    const uint64_t most = room >= VIEW_BAR ? VIEW_BAR : room > 0 ? (uint64_t)room : 1;
    uint64_t total = 0;
    char status[100];
    for (size_t i = 0; i < n; i++)
        total += bars[i].n;
    if (d->drawn)
        printf("\033[%zuA", n + 1);
    for (size_t i = 0; i < n; i++) {
        uint64_t width = total > 0 ? (bars[i].n * most + total - 1) / total : 0;
        printf("\033[K  %-10s %s%.*s%s %" PRIu64 "\n", bars[i].name, d->colour ? bars[i].colour : "",
               (int)width, full, d->colour ? "\033[0m" : "", bars[i].n);
    }
    snprintf(status, sizeof status, "  %.1f s, 4 worker processes, %u crashed and were replaced", seconds,
             d->crashes);
    printf("\033[K%.*s\n", columns - 1, status); /* a line that wrapped would spoil the next picture */
    d->drawn = true;
}

void demo_draw(struct demo *d)
{
    const double seconds = (double)(demo_now_us() - d->started) / 1e6;
    if (d->live)
        view_bars(d, seconds);
    else
        view_line(d, seconds);
    if (fflush(stdout) != 0)
        demo_stop(0); /* nobody reads it any more */
}

/* Widths of the columns of figures, and their names: on a narrow terminal short ones. */
struct view_table {
    int width[7];
    const char *name[7];
    bool what;
};
static const struct view_table view_wide = {
    {6, 8, 6, 6, 10, 9, 8}, {"ASKED", "REFUSED", "DONE", "DEAD", "CANCELLED", "FAILURES", "CRASHES"}, true};
static const struct view_table view_narrow = {
    {5, 5, 5, 5, 5, 5, 5}, {"ASKED", "REF'D", "DONE", "DEAD", "CANC", "FAIL", "CRASH"}, false};

static void view_row(const struct view_table *v, const char *name, const struct demo_tally *t,
                     const char *what)
{
    const uint64_t cells[] = {t->asked, t->refused, t->done, t->dead, t->cancelled, t->failed, t->crashed};
    printf("  %-10s", name);
    for (size_t i = 0; i < sizeof cells / sizeof cells[0]; i++)
        printf(" %*" PRIu64, v->width[i], cells[i]);
    printf(v->what && *what ? "   %s\n" : "\n", what);
}

void demo_summary(const struct demo *d)
{
    struct demo_tally sum = {0};
    const int columns = view_columns();
    struct view_table v = columns < 76 ? view_narrow : view_wide;
    v.what = columns >= 112;
    printf("\n  %-10s", "TYPE");
    for (size_t i = 0; i < 7; i++)
        printf(" %*s", v.width[i], v.name[i]);
    putchar('\n');
    for (size_t k = 0; k < DEMO_KINDS; k++) {
        const struct demo_tally *t = &d->tally[k];
        view_row(&v, demo_kinds[k].type, t, demo_kinds[k].what);
        sum.asked += t->asked;
        sum.refused += t->refused;
        sum.done += t->done;
        sum.dead += t->dead;
        sum.cancelled += t->cancelled;
        sum.failed += t->failed;
        sum.crashed += t->crashed;
    }
    view_row(&v, "all", &sum, "");
    bool equal = sum.asked == sum.refused + sum.done + sum.dead + sum.cancelled;
    printf("\n  %" PRIu64 " asked %s %" PRIu64 " refused as duplicates%s+ %" PRIu64 " done + %" PRIu64
           " dead + %" PRIu64 " cancelled\n",
           sum.asked, equal ? "=" : "IS NOT", sum.refused, columns < 80 ? "\n    " : " ", sum.done, sum.dead,
           sum.cancelled);
}
