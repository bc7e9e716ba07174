/* SPDX-License-Identifier: MIT */
/* Figures: collecting them, medians, table and JSON. */
#include "bench.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

void bench_add(bench *b, const char *row, const char *side, const char *unit, double x, double value)
{
    bench_figure *f = NULL;
    for (int i = 0; i < b->figures && !f; i++)
        if (!strcmp(b->figure[i].row, row) && !strcmp(b->figure[i].side, side) && b->figure[i].x == x)
            f = &b->figure[i];
    if (!f) {
        if (b->figures == BENCH_MAX_FIGURES)
            bench_die("more than %d figures", BENCH_MAX_FIGURES);
        f = &b->figure[b->figures++];
        snprintf(f->row, sizeof f->row, "%s", row);
        snprintf(f->side, sizeof f->side, "%s", side);
        snprintf(f->unit, sizeof f->unit, "%s", unit);
        f->x = x;
    }
    if (f->runs < BENCH_MAX_RUNS)
        f->run[f->runs++] = value;
    char place[32] = "";
    if (x > 0)
        snprintf(place, sizeof place, " [%.0f]", x);
    bench_progress(b, "    %s%s | %s: %.4g %s", row, place, side, value, unit);
}

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double bench_percentile(double *values, size_t n, double p)
{
    if (!n)
        return NAN;
    qsort(values, n, sizeof *values, compare_doubles);
    double place = p * (double)(n - 1);
    size_t low = (size_t)place;
    if (low + 1 >= n)
        return values[n - 1];
    return values[low] + (place - (double)low) * (values[low + 1] - values[low]);
}

double bench_median(const bench_figure *f)
{
    double copy[BENCH_MAX_RUNS];
    memcpy(copy, f->run, sizeof copy);
    return bench_percentile(copy, (size_t)f->runs, 0.5);
}

const bench_figure *bench_find(const bench *b, const char *row, const char *side, double x)
{
    for (int i = 0; i < b->figures; i++)
        if (!strcmp(b->figure[i].row, row) && !strcmp(b->figure[i].side, side) && b->figure[i].x == x)
            return &b->figure[i];
    return NULL;
}

void bench_note(bench *b, const char *fmt, ...)
{
    if (b->notes == BENCH_MAX_NOTES)
        return;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(b->note[b->notes++], sizeof b->note[0], fmt, ap);
    va_end(ap);
}

void bench_progress(const bench *b, const char *fmt, ...)
{
    if (b->quiet)
        return;
    va_list ap;
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fputc('\n', stderr);
}

void bench_die(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    fputs("bench: ", stderr);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fputc('\n', stderr);
    exit(1);
}

int64_t bench_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

double bench_seconds(void)
{
    return (double)bench_ns() / 1e9;
}

void bench_sleep(double seconds)
{
    struct timespec t = {.tv_sec = (time_t)seconds};
    t.tv_nsec = (long)((seconds - (double)t.tv_sec) * 1e9);
    while (seconds > 0 && nanosleep(&t, &t) && errno == EINTR)
        ;
}

/* By its CPU clock: /proc counts in hundredths of a second only. */
double bench_cpu_of(long pid)
{
    clockid_t clock;
    struct timespec t;
    if (pid <= 0 || clock_getcpuclockid((pid_t)pid, &clock) || clock_gettime(clock, &t))
        return NAN;
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

size_t bench_amount(const bench *b, double full)
{
    double n = full * b->scale;
    return n < 1 ? 1 : (size_t)n;
}

void bench_spread(const bench_figure *f, double *low, double *high)
{
    *low = *high = f->run[0];
    for (int i = 1; i < f->runs; i++) {
        *low = f->run[i] < *low ? f->run[i] : *low;
        *high = f->run[i] > *high ? f->run[i] : *high;
    }
}

void bench_print_table(const bench *b, FILE *out)
{
    for (int i = 0; i < b->notes; i++)
        fprintf(out, "- %s\n", b->note[i]);
    fprintf(out, "\n| work | side | median | min | max | runs | of bare SQL |\n");
    fprintf(out, "| --- | --- | ---: | ---: | ---: | ---: | ---: |\n");
    for (int i = 0; i < b->figures; i++) {
        const bench_figure *f = &b->figure[i];
        double low, high, median = bench_median(f);
        bench_spread(f, &low, &high);
        const bench_figure *bare = bench_find(b, f->row, "bare SQL", f->x);
        char ratio[24] = "";
        if (bare && bare != f && strstr(f->unit, "/s"))
            snprintf(ratio, sizeof ratio, "%.0f %%", 100 * median / bench_median(bare));
        char place[32] = "";
        if (f->x > 0)
            snprintf(place, sizeof place, " [%.0f]", f->x);
        int digits = median >= 100 ? 0 : median >= 10 ? 1 : 3;
        fprintf(out, "| %s%s | %s | %.*f %s | %.*f | %.*f | %d | %s |\n", f->row, place, f->side, digits,
                median, f->unit, digits, low, digits, high, f->runs, ratio);
    }
}

int bench_write_json(const bench *b, const char *path)
{
    FILE *out = fopen(path, "we");
    if (!out)
        return -1;
    fprintf(out, "{\"nanoq\": \"%s\",\n \"notes\": [\n", nq_version());
    for (int i = 0; i < b->notes; i++) {
        fprintf(out, "  \"");
        for (const char *p = b->note[i]; *p; p++)
            fprintf(out, *p == '"' || *p == '\\' ? "\\%c" : "%c", *p);
        fprintf(out, "\"%s\n", i + 1 < b->notes ? "," : "");
    }
    fprintf(out, " ],\n \"figures\": [\n");
    for (int i = 0; i < b->figures; i++) {
        const bench_figure *f = &b->figure[i];
        fprintf(out,
                "  {\"work\": \"%s\", \"side\": \"%s\", \"unit\": \"%s\", \"x\": %g, \"median\": %.6g, "
                "\"runs\": [",
                f->row, f->side, f->unit, f->x, bench_median(f));
        for (int r = 0; r < f->runs; r++)
            fprintf(out, "%s%.6g", r ? ", " : "", f->run[r]);
        fprintf(out, "]}%s\n", i + 1 < b->figures ? "," : "");
    }
    fprintf(out, " ]}\n");
    return fclose(out);
}

/* ---- What the tasks are */

/* The number comes first, so that a handler finds it. */
int bench_payload(char *out, size_t size, const char *tag, unsigned long long seq)
{
    return snprintf(
        out, size,
        "%011llu {\"%s\":\"customer-%llu@example.org\",\"order\":%llu,\"sum\":\"19.90\",\"items\":[1,2,3]}",
        seq, tag, seq * 2654435761ULL % 1000000007ULL, seq + 700000000);
}

void bench_spec(nq_task_spec *spec, char payload[160], const char *tag, unsigned long long seq)
{
    *spec = (nq_task_spec){.size = sizeof *spec, .type = "bench", .payload = payload};
    spec->payload_size = (size_t)bench_payload(payload, 160, tag, seq);
}
