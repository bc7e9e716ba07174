/* SPDX-License-Identifier: MIT */
/* The figures as a picture: bars against bare SQL, and curves. Readable on light and on dark pages. */
#include <math.h>
#include <string.h>

#include "bench.h"

enum {
    SVG_WIDTH = 960,
    SVG_LEFT = 380,
    SVG_RIGHT = 30,
    SVG_CURVE_LEFT = 80,
    SVG_PLOT = 260,
    SVG_LEGEND = 230
};

/* No variables: not every viewer knows them, and black is what it draws instead. */
static const char svg_style[] =
    "<style>\n"
    "text { font: 13px system-ui, sans-serif; fill: #1f2328; }\n"
    ".title { font-size: 16px; font-weight: 600; } .soft { fill: #656d76; font-size: 12px; }\n"
    ".end { text-anchor: end; } .middle { text-anchor: middle; } .paper { fill: #ffffff; }\n"
    ".grid { stroke: #d8dee4; stroke-width: 1; } .axis { stroke: #656d76; stroke-width: 1; }\n"
    ".line { fill: none; stroke-width: 2; } .whisker { stroke-width: 1; }\n"
    ".s0 { stroke: #0550ae; } .f0 { fill: #0550ae; } .s1 { stroke: #bc4c00; } .f1 { fill: #bc4c00; }\n"
    "@media (prefers-color-scheme: dark) { text { fill: #e6edf3; } .soft { fill: #9198a1; }\n"
    "  .paper { fill: #0d1117; } .grid { stroke: #3d444d; } .axis { stroke: #9198a1; }\n"
    "  .s0 { stroke: #58a6ff; } .f0 { fill: #58a6ff; } .s1 { stroke: #f0883e; } .f1 { fill: #f0883e; } }\n"
    "</style>\n";

static const char *const svg_dash[] = {"", "6 4", "", "6 4"};
static const int svg_color[] = {0, 0, 1, 1};

static void svg_text(FILE *o, double x, double y, const char *class, const char *text)
{
    fprintf(o, "<text x=\"%.1f\" y=\"%.1f\" class=\"%s\">", x, y, class);
    for (; *text; text++) {
        if (*text == '<' || *text == '&')
            fputs(*text == '<' ? "&lt;" : "&amp;", o);
        else
            fputc(*text, o);
    }
    fputs("</text>\n", o);
}

static void svg_line(FILE *o, double x1, double y1, double x2, double y2, const char *class)
{
    fprintf(o, "<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" class=\"%s\"/>\n", x1, y1, x2, y2,
            class);
}

/* 950, 1.2k, 63k, 1M */
static void svg_number(char out[16], double v)
{
    const char *unit = v >= 1e6 ? "M" : v >= 1e3 ? "k" : "";
    const double small = v >= 1e6 ? v / 1e6 : v >= 1e3 ? v / 1e3 : v;
    snprintf(out, 16, small < 10 && small != floor(small) ? "%.1f%s" : "%.0f%s", small, unit);
}

/* ---- Bars: nanoq's rate in percent of bare SQL's */

static const bench_figure *svg_bar(const bench *b, int i, double *bare)
{
    const bench_figure *f = &b->figure[i];
    if (strcmp(f->side, "nanoq") != 0 || strcmp(f->unit, "tasks/s") != 0 || strstr(f->row, "by backlog") ||
        strstr(f->row, "by processes") || strstr(f->row, "by handler"))
        return NULL;
    const bench_figure *other = bench_find(b, f->row, "bare SQL", f->x);
    if (!other)
        return NULL;
    *bare = bench_median(other);
    return f;
}

static double svg_bars(const bench *b, FILE *o, double y)
{
    const double width = SVG_WIDTH - SVG_LEFT - SVG_RIGHT - 120, top = 150;
    int n = 0;
    double bare, begin = y + 50;
    for (int i = 0; i < b->figures; i++)
        n += svg_bar(b, i, &bare) != NULL;
    if (!n)
        return y;
    svg_text(o, 20, y + 20, "title",
             "Rate beside bare SQL on the same tables (100 % = bare SQL in the same run)");
    for (int percent = 0; percent <= (int)top; percent += 25) {
        char text[16];
        const double x = SVG_LEFT + width * percent / top;
        snprintf(text, sizeof text, "%d %%", percent);
        svg_line(o, x, begin - 4, x, begin + 22 * n, percent == 100 ? "axis" : "grid");
        svg_text(o, x, begin - 10, "soft middle", text);
    }
    for (int i = 0, k = 0; i < b->figures; i++) {
        const bench_figure *f = svg_bar(b, i, &bare);
        char text[112], own[16], other[16];
        if (!f)
            continue;
        const double at = begin + 22 * k++, percent = 100 * bench_median(f) / bare;
        const double length = width * (percent < top ? percent : top) / top;
        if (f->x > 0)
            snprintf(text, sizeof text, "%s: %.0f", f->row, f->x);
        else
            snprintf(text, sizeof text, "%s", f->row);
        svg_text(o, SVG_LEFT - 10, at + 15, "end", text);
        fprintf(o, "<rect x=\"%d\" y=\"%.1f\" width=\"%.1f\" height=\"15\" class=\"f%d\"/>\n", SVG_LEFT,
                at + 3, length, strstr(f->row, "SQLite") ? 1 : 0);
        svg_number(own, bench_median(f));
        svg_number(other, bare);
        snprintf(text, sizeof text, "%.0f %%: %s/s of %s/s", percent, own, other);
        svg_text(o, SVG_LEFT + length + 6, at + 15, "soft", text);
    }
    return begin + 22 * n + 40;
}

/* ---- Curves */

struct svg_series {
    const char *row, *side, *name;
};

struct svg_panel {
    const char *title, *x_label;
    struct svg_series series[4];
};

static const struct svg_panel svg_panels[] = {
    {"Drain rate as the backlog grows",
     "tasks waiting at the start (log scale)",
     {{"drain MariaDB, by backlog", "nanoq", "MariaDB, nanoq"},
      {"drain MariaDB, by backlog", "bare SQL", "MariaDB, bare SQL"},
      {"drain SQLite FULL, by backlog", "nanoq", "SQLite FULL, nanoq"},
      {"drain SQLite FULL, by backlog", "bare SQL", "SQLite FULL, bare SQL"}}},
    {"Enqueue, one commit each",
     "producers (log scale)",
     {{"enqueue MariaDB, one commit each, by producers", "nanoq", "MariaDB, nanoq"},
      {"enqueue MariaDB, one commit each, by producers", "bare SQL", "MariaDB, bare SQL"},
      {NULL, NULL, NULL},
      {NULL, NULL, NULL}}},
    {"Drain rate by handler threads",
     "handler threads of one process (log scale)",
     {{"drain MariaDB, by handler threads", "nanoq", "MariaDB, nanoq"},
      {NULL, NULL, NULL},
      {"drain SQLite FULL, by handler threads", "nanoq", "SQLite FULL, nanoq"},
      {NULL, NULL, NULL}}},
    {"Drain rate by processes",
     "worker processes (bare SQL: claiming connections; log scale)",
     {{"drain MariaDB, by processes", "nanoq", "MariaDB, nanoq"},
      {"drain MariaDB, by processes", "bare SQL", "MariaDB, bare SQL"},
      {"drain SQLite FULL, by processes", "nanoq", "SQLite FULL, nanoq"},
      {NULL, NULL, NULL}}},
};

struct svg_range {
    double x_low, x_high, y_high;
    double left, top, width;
    int points;
};

static bool svg_in(const bench_figure *f, const struct svg_series *s)
{
    return s->row && !strcmp(f->row, s->row) && !strcmp(f->side, s->side) && f->x > 0;
}

static double svg_x(const struct svg_range *r, double x)
{
    return r->left + r->width * log(x / r->x_low) / log(r->x_high / r->x_low);
}

static double svg_y(const struct svg_range *r, double y)
{
    return r->top + SVG_PLOT - SVG_PLOT * y / r->y_high;
}

static struct svg_range svg_measure(const bench *b, const struct svg_panel *p)
{
    struct svg_range r = {.x_low = INFINITY, .x_high = 0, .y_high = 0};
    for (int i = 0; i < b->figures; i++) {
        const bench_figure *f = &b->figure[i];
        double low, high;
        for (int k = 0; k < 4; k++) {
            if (!svg_in(f, &p->series[k]))
                continue;
            bench_spread(f, &low, &high);
            r.points++;
            r.x_low = fmin(r.x_low, f->x);
            r.x_high = fmax(r.x_high, f->x);
            r.y_high = fmax(r.y_high, high);
        }
    }
    if (r.points && r.x_low == r.x_high)
        r.x_low /= 2, r.x_high *= 2;
    return r;
}

static void svg_axes(FILE *o, const struct svg_range *r, const struct svg_panel *p, double step)
{
    char text[16];
    const int lines = (int)(r->y_high * 1.0001 / step);
    for (int line = 0; line <= lines; line++) {
        const double v = line * step;
        svg_line(o, r->left, svg_y(r, v), r->left + r->width, svg_y(r, v), v > 0 ? "grid" : "axis");
        svg_number(text, v);
        svg_text(o, r->left - 8, svg_y(r, v) + 4, "soft end", text);
    }
    svg_line(o, r->left, r->top, r->left, r->top + SVG_PLOT, "axis");
    svg_text(o, r->left + r->width / 2, r->top + SVG_PLOT + 38, "soft middle", p->x_label);
    fprintf(
        o,
        "<text class=\"soft middle\" transform=\"translate(22 %.1f) rotate(-90)\">tasks per second</text>\n",
        r->top + SVG_PLOT / 2.0);
}

/* One curve; a thin line through each point spans its runs. */
static void svg_curve(const bench *b, FILE *o, const struct svg_range *r, const struct svg_series *s, int k)
{
    double last_x = 0, last_y = 0, low, high;
    char text[16];
    for (double after = 0;;) {
        const bench_figure *next = NULL;
        for (int i = 0; i < b->figures; i++)
            if (svg_in(&b->figure[i], s) && b->figure[i].x > after && (!next || b->figure[i].x < next->x))
                next = &b->figure[i];
        if (!next)
            break;
        const double x = svg_x(r, next->x), y = svg_y(r, bench_median(next));
        bench_spread(next, &low, &high);
        if (last_x > 0)
            fprintf(o,
                    "<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" class=\"line s%d\""
                    " stroke-dasharray=\"%s\"/>\n",
                    last_x, last_y, x, y, svg_color[k], svg_dash[k]);
        fprintf(o, "<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" class=\"whisker s%d\"/>\n", x,
                svg_y(r, low), x, svg_y(r, high), svg_color[k]);
        fprintf(o, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"3.5\" class=\"f%d\"/>\n", x, y, svg_color[k]);
        svg_number(text, next->x);
        svg_text(o, x, r->top + SVG_PLOT + 18, "soft middle", text);
        last_x = x;
        last_y = y;
        after = next->x;
    }
}

static double svg_draw_panel(const bench *b, FILE *o, const struct svg_panel *p, double y)
{
    struct svg_range r = svg_measure(b, p);
    if (!r.points)
        return y;
    const double magnitude = pow(10, floor(log10(r.y_high)));
    const double step = r.y_high / magnitude > 5   ? magnitude
                        : r.y_high / magnitude > 2 ? magnitude / 2
                                                   : magnitude / 5;
    r.y_high = ceil(r.y_high / step) * step;
    r.left = SVG_CURVE_LEFT;
    r.top = y + 40;
    r.width = SVG_WIDTH - SVG_CURVE_LEFT - SVG_LEGEND;
    svg_text(o, 20, y + 20, "title", p->title);
    svg_axes(o, &r, p, step);
    for (int k = 0, line = 0; k < 4; k++) {
        if (!p->series[k].row || !svg_measure(b, &(struct svg_panel){.series = {p->series[k]}}).points)
            continue;
        const double at = r.top + 10 + 22 * line++, x = r.left + r.width + 24;
        svg_curve(b, o, &r, &p->series[k], k);
        fprintf(o,
                "<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" class=\"line s%d\""
                " stroke-dasharray=\"%s\"/>\n",
                x, at, x + 28, at, svg_color[k], svg_dash[k]);
        svg_text(o, x + 36, at + 4, "", p->series[k].name);
    }
    return r.top + SVG_PLOT + 80;
}

int bench_write_svg(const bench *b, const char *path)
{
    FILE *out = fopen(path, "we"), *body = tmpfile();
    char block[4096];
    size_t n;
    double y = 20;
    if (!out || !body)
        goto out;
    y = svg_bars(b, body, y);
    for (size_t i = 0; i < sizeof svg_panels / sizeof *svg_panels; i++)
        y = svg_draw_panel(b, body, &svg_panels[i], y);
    for (int i = 0; i < b->notes; i++, y += 18)
        svg_text(body, 20, y, "soft", b->note[i]);
    rewind(body);
    fprintf(out,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %.0f\" width=\"%d\" height=\"%.0f\" "
            "role=\"img\">\n"
            "<title>nanoq: measured rates</title>\n%s"
            "<rect width=\"100%%\" height=\"100%%\" class=\"paper\"/>\n",
            SVG_WIDTH, y + 10, SVG_WIDTH, y + 10, svg_style);
    while ((n = fread(block, 1, sizeof block, body)) > 0)
        fwrite(block, 1, n, out);
    fputs("</svg>\n", out);
out:
    if (body)
        fclose(body);
    return out ? fclose(out) : -1;
}
