/* SPDX-License-Identifier: MIT */
/* The last that a process wrote. */
#include <stdio.h>
#include <string.h>

#include "../core/core.h"
#include "process.h"

NQ_PRIVATE void nq_tail_add(nq_tail *t, const char *p, size_t n)
{
    const size_t skip = n > t->size ? n - t->size : 0;
    t->n += skip;
    for (size_t at = skip; at < n;) { /* up to the ring's end, then from its start */
        const size_t to = t->n % t->size, room = t->size - to, part = n - at < room ? n - at : room;
        memcpy(t->bytes + to, p + at, part);
        t->n += part;
        at += part;
    }
}

static char tail_at(const nq_tail *t, size_t i)
{
    return t->bytes[i % t->size];
}

static bool tail_is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

NQ_PRIVATE void nq_tail_text(const nq_tail *t, const char *before, char *out, size_t size)
{
    const int n = snprintf(out, size, "%s", before);
    size_t at = n < 0 ? 0 : (size_t)n < size ? (size_t)n : size - 1;
    size_t from = t->n > t->size ? t->n - t->size : 0, end = t->n;
    while (end > from && tail_is_space(tail_at(t, end - 1)))
        end--;
    if (end == from || size - at < 4)
        return;
    out[at++] = ':';
    out[at++] = ' ';
    const size_t room = size - at - 1;
    const bool cut = from > 0 || end - from > room;
    from = end - from > room ? end - room : from;
    while (cut && from < end && ((unsigned char)tail_at(t, from) & 0xc0) == 0x80)
        from++; /* not from the middle of a character on */
    while (from < end) {
        char character[4];
        size_t have = 0;
        uint32_t code;
        while (have < sizeof character && from + have < end) {
            character[have] = tail_at(t, from + have);
            have++;
        }
        const size_t used = nq_utf8(character, have, &code);
        if (used == 0 || code == 0)
            character[0] = '?';
        memcpy(out + at, character, used ? used : 1);
        at += used ? used : 1;
        from += used ? used : 1;
    }
    out[at] = '\0';
}
