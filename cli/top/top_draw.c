/* SPDX-License-Identifier: MIT */
/* The screen of nanoq top. */
#include <curses.h>

#include "../text/table.h"
#include "top.h"

#define TOP_OTHERS   3  /* rows of a panel that is not in focus, */
#define TOP_LEAST    16 /* on a screen with at least so many lines; on others there is the focused one alone */
#define TOP_SELECTED A_REVERSE
#define TOP_ALARM    (COLOR_PAIR(1) | A_BOLD)
#define TOP_HEADING  (COLOR_PAIR(2) | A_BOLD)

/* Text that is safe, from column x on, in so many columns. */
static void top_text(int y, int x, const char *p, size_t n, size_t width, bool right)
{
    const size_t fits = text_cut(p, n, width);
    const size_t wide = text_width(p, fits);
    if (fits < n && width > 1) { /* a sign that there is more */
        const size_t less = text_cut(p, n, width - 1);
        mvaddnstr(y, x, p, (int)less);
        addstr("~");
        return;
    }
    mvaddnstr(y, right && wide < width ? x + (int)(width - wide) : x, p, (int)fits);
}

static void top_line(int y, const char *text)
{
    top_text(y, 0, text, strlen(text), (size_t)COLS, false);
}

static void top_filled(int y, attr_t attributes)
{
    mvchgat(y, 0, -1, attributes & ~(attr_t)A_COLOR, (short)PAIR_NUMBER(attributes), NULL);
}

/* The first column's head is the panel's title; a star marks the column that it is in order of. */
static void top_head(int y, const struct top_shape *shape, const size_t widths[], const char *title,
                     size_t sort, bool focused)
{
    char head[80];
    size_t x = 0;
    for (size_t i = 0; i < shape->ncolumns; i++) {
        if (!widths[i])
            continue;
        snprintf(head, sizeof head, "%s%s", i == sort && focused ? "*" : "",
                 i == 0 ? title : shape->columns[i].name);
        top_text(y, (int)x, head, strlen(head), widths[i], i > 0 && shape->columns[i].right);
        x += widths[i] + 1;
    }
    top_filled(y, focused ? TOP_HEADING | A_UNDERLINE : A_UNDERLINE);
}

static void top_panel_draw(const struct top_screen *s, enum top_panel p, int y, size_t lines)
{
    const struct top_shape *shape = &top_shapes[p];
    const struct top_rows *rows = &s->view->panels[p];
    const struct top_row **shown = cli_alloc((rows->n + 1) * sizeof *shown);
    const bool focused = p == s->focus;
    char title[64];
    size_t widths[TOP_COLUMNS];
    const size_t n = top_arrange(rows, shape, s->filter, s->sort[p], s->reverse[p], shown);
    const size_t cursor = n > 0 && s->cursor[p] >= n ? n - 1 : s->cursor[p];
    const size_t first = lines > 0 && cursor >= lines ? cursor - lines + 1 : 0;
    top_widths(shape, (size_t)COLS, widths);
    snprintf(title, sizeof title, n < rows->n ? "%s %zu/%zu" : "%s %zu", shape->title, n, rows->n);
    top_head(y, shape, widths, title, s->sort[p], focused);
    for (size_t i = 0; i < lines && first + i < n; i++) {
        const struct top_row *row = shown[first + i];
        int x = 0;
        y++;
        for (size_t c = 0; c < shape->ncolumns; c++) {
            if (!widths[c])
                continue;
            if (row->cells[c].p)
                top_text(y, x, row->cells[c].p, row->cells[c].n, widths[c], shape->columns[c].right);
            x += (int)widths[c] + 1;
        }
        const attr_t look =
            (focused && first + i == cursor ? TOP_SELECTED : A_NORMAL) | (row->alarm ? TOP_ALARM : 0);
        if (look != A_NORMAL)
            top_filled(y, look);
    }
    free(shown);
}

static void top_title(const struct top_screen *s)
{
    char out[128], took[32];
    const struct top_view *v = s->view;
    size_t workers = 0;
    for (size_t i = 0; v && i < v->panels[TOP_WORKERS].n; i++)
        workers += !v->panels[TOP_WORKERS].all[i].alarm; /* the others are dead */
    if (v) {
        table_short_duration(v->took_us, took);
        snprintf(out, sizeof out, "nanoq top  %zu queues  %zu running  %zu workers  read in %s",
                 v->panels[TOP_QUEUES].n, v->panels[TOP_TASKS].n, workers, took);
    } else {
        snprintf(out, sizeof out, "nanoq top  reading");
    }
    attron(A_BOLD);
    top_line(0, out);
    attroff(A_BOLD);
}

static void top_foot(const struct top_screen *s)
{
    char out[640], away[32];
    attr_t look = A_NORMAL;
    if (s->question) {
        snprintf(out, sizeof out, "%s y/n", s->question);
        look = TOP_ALARM;
    } else if (s->typing) {
        snprintf(out, sizeof out, "filter: %s_", s->filter);
    } else if (*s->error) {
        table_short_duration(s->away_us, away);
        snprintf(out, sizeof out, "no answer of the database for %s: %s", away, s->error);
        look = TOP_ALARM;
    } else if (*s->said) {
        snprintf(out, sizeof out, "%s", s->said);
        look = A_BOLD;
    } else if (*s->filter) {
        snprintf(out, sizeof out, "filter: %s   Esc: none", s->filter);
    } else {
        snprintf(out, sizeof out, "?help q quit Tab panel /filter s sort p pause c cancel r retry w why");
    }
    top_line(LINES - 1, out);
    if (look != A_NORMAL)
        top_filled(LINES - 1, look);
}

static void top_page_draw(const struct top_screen *s)
{
    size_t line = 0;
    int y = 0;
    for (const char *at = s->page; *at && y < LINES - 1;) {
        const size_t n = strcspn(at, "\n");
        size_t done = 0;
        do { /* long ones go on in the next line */
            const size_t fits = text_cut(at + done, n - done, (size_t)COLS);
            if (line++ >= s->page_top && y < LINES - 1)
                mvaddnstr(y++, 0, at + done, (int)fits);
            done += fits > 0 ? fits : n - done;
        } while (done < n);
        at += at[n] ? n + 1 : n;
    }
    top_line(LINES - 1, "any key: back");
    top_filled(LINES - 1, A_BOLD);
}

void top_draw(const struct top_screen *s)
{
    erase();
    if (s->page) {
        top_page_draw(s);
        refresh();
        return;
    }
    const bool alone = LINES < TOP_LEAST;
    int y = 1;
    size_t left = LINES > 3 ? (size_t)LINES - 3 : 0, needed[TOP_PANELS];
    top_title(s);
    for (size_t p = 0; p < TOP_PANELS; p++) {
        const size_t n = s->view ? s->view->panels[p].n : 0;
        needed[p] = p == s->focus || alone ? 0 : n < TOP_OTHERS ? n : TOP_OTHERS;
        if (p != s->focus && !alone)
            left -= needed[p] + 1;
    }
    for (size_t p = 0; s->view && p < TOP_PANELS; p++) {
        if (alone && p != s->focus)
            continue;
        const size_t lines = p == s->focus ? left : needed[p];
        top_panel_draw(s, (enum top_panel)p, y, lines);
        y += (int)lines + 1;
    }
    top_foot(s);
    refresh();
}

static const struct top_row *top_at(const struct top_screen *s, size_t *count)
{
    const struct top_row *found = NULL;
    *count = 0;
    if (!s->view)
        return NULL;
    const struct top_rows *rows = &s->view->panels[s->focus];
    const struct top_row **shown = cli_alloc((rows->n + 1) * sizeof *shown);
    const size_t n =
        top_arrange(rows, &top_shapes[s->focus], s->filter, s->sort[s->focus], s->reverse[s->focus], shown);
    if (n > 0)
        found = shown[s->cursor[s->focus] < n ? s->cursor[s->focus] : n - 1];
    *count = n;
    free(shown);
    return found;
}

const struct top_row *top_current(const struct top_screen *s)
{
    size_t n;
    return top_at(s, &n);
}

size_t top_count(const struct top_screen *s)
{
    size_t n;
    top_at(s, &n);
    return n;
}
