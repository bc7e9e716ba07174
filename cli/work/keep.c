/* SPDX-License-Identifier: MIT */
/* Lines of a command's stderr for the log of its task. */
#include "keep.h"

#include <string.h>

#include "nanoq_logs.h"

static void keep_line(struct keep *k)
{
    nq_ctx_log_bytes(k->ctx, NQ_LOG_INFO, k->line.p, k->line.n);
    k->line.n = 0;
}

void keep_output(struct keep *k, const char *p, size_t n)
{
    while (k->ctx && n > 0) {
        const char *end = memchr(p, '\n', n);
        const size_t part = end ? (size_t)(end - p) : n;
        /* One byte more than is kept: the library cuts it, and says so. */
        const size_t room = k->line.n > NQ_MAX_LOG_LINE ? 0 : NQ_MAX_LOG_LINE + 1 - k->line.n;
        text_add(&k->line, p, part < room ? part : room);
        p += part;
        n -= part;
        if (end) {
            p++;
            n--;
            keep_line(k);
        }
    }
}

void keep_end(struct keep *k)
{
    if (k->line.n > 0)
        keep_line(k);
    text_free(&k->line);
}
