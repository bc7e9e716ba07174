/* SPDX-License-Identifier: MIT */
/* A growing byte string, a growing array. */
#include "core.h"

#include <stdio.h>

/* Room for n more bytes and a NUL. */
static bool buf_room(nq_buf *b, size_t n)
{
    size_t cap;
    char *p;

    if (b->failed)
        return false;
    if (n < b->cap - b->n) /* n <= cap at all times, and cap 0 leaves no room for the NUL */
        return true;
    if (n > SIZE_MAX / 2 - b->n - 1) {
        b->failed = true;
        return false;
    }
    cap = b->cap ? b->cap * 2 : 64;
    if (cap < b->n + n + 1)
        cap = b->n + n + 1;
    p = realloc(b->p, cap);
    if (!p) {
        b->failed = true;
        return false;
    }
    b->p = p;
    b->cap = cap;
    return true;
}

void nq_buf_add(nq_buf *b, const void *p, size_t n)
{
    if (!buf_room(b, n))
        return;
    if (n > 0)
        memcpy(b->p + b->n, p, n);
    b->n += n;
    b->p[b->n] = '\0';
}

void nq_buf_str(nq_buf *b, const char *s)
{
    nq_buf_add(b, s, strlen(s));
}

void nq_buf_fmt(nq_buf *b, const char *fmt, ...)
{
    va_list ap, again;
    int n;

    va_start(ap, fmt);
    va_copy(again, ap);
    n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    if (n < 0)
        b->failed = true;
    else if (buf_room(b, (size_t)n)) {
        vsnprintf(b->p + b->n, (size_t)n + 1, fmt, again);
        b->n += (size_t)n;
    }
    va_end(again);
}

void nq_buf_u64(nq_buf *b, uint64_t v)
{
    char digits[20];
    size_t at = sizeof(digits);

    do {
        digits[--at] = (char)('0' + v % 10);
        v /= 10;
    } while (v > 0);
    nq_buf_add(b, digits + at, sizeof(digits) - at);
}

void nq_buf_clear(nq_buf *b)
{
    b->n = 0;
    b->failed = false;
    if (b->p)
        b->p[0] = '\0';
}

void nq_buf_free(nq_buf *b)
{
    if (!b)
        return;
    free(b->p);
    memset(b, 0, sizeof *b);
}

NQ_PRIVATE void *nq_grow(void *array, size_t n, size_t *cap, size_t size)
{
    if (n < *cap)
        return array;
    const size_t more = *cap ? 2 * *cap : 16;
    void *grown = realloc(array, more * size);
    if (grown)
        *cap = more;
    return grown;
}
