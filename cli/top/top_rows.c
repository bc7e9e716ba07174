/* SPDX-License-Identifier: MIT */
/* Which rows nanoq top shows, in which order, and how wide. */
#include <strings.h>

#include "top.h"

static bool top_matches(const struct top_row *row, size_t ncolumns, const char *filter)
{
    for (size_t i = 0; i < ncolumns; i++)
        if (row->cells[i].p && strcasestr(row->cells[i].p, filter))
            return true;
    return !*filter;
}

struct top_order {
    size_t column;
    bool right, reverse;
};

static int top_compare(const void *a, const void *b, void *arg)
{
    const struct top_row *x = *(const struct top_row *const *)a, *y = *(const struct top_row *const *)b;
    const struct top_order *o = arg;
    int order = o->right ? (x->values[o->column] < y->values[o->column]) -
                               (x->values[o->column] > y->values[o->column])
                         : strcmp(x->cells[o->column].p ? x->cells[o->column].p : "",
                                  y->cells[o->column].p ? y->cells[o->column].p : "");
    if (order == 0) /* rows do not change their places from one reading to the next */
        return x < y ? -1 : x > y;
    return o->reverse ? -order : order;
}

size_t top_arrange(const struct top_rows *rows, const struct top_shape *shape, const char *filter,
                   size_t column, bool reverse, const struct top_row *shown[])
{
    struct top_order order = {column, shape->columns[column].right, reverse};
    size_t n = 0;
    for (size_t i = 0; i < rows->n; i++)
        if (top_matches(&rows->all[i], shape->ncolumns, filter))
            shown[n++] = &rows->all[i];
    if (n > 1)
        qsort_r(shown, n, sizeof shown[0], top_compare, &order);
    return n;
}

void top_widths(const struct top_shape *shape, size_t width, size_t out[TOP_COLUMNS])
{
    enum { LEAST = 8 }; /* of the column that gets what is left */
    for (int most = 9;; most--) {
        size_t sum = 0, flexible = 0, nflexible = 0;
        for (size_t i = 0; i < shape->ncolumns; i++) {
            const struct top_column *c = &shape->columns[i];
            out[i] = c->last > most ? 0 : c->width ? c->width : LEAST;
            sum += out[i] ? out[i] + (sum > 0) : 0;
            nflexible += out[i] && !c->width;
        }
        if (sum > width && most > 0)
            continue;
        flexible = width > sum ? width - sum : 0;
        for (size_t i = 0; i < shape->ncolumns; i++) {
            if (!out[i] || shape->columns[i].width)
                continue;
            const size_t share = flexible / nflexible--;
            out[i] += share;
            flexible -= share;
        }
        return;
    }
}
