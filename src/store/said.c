/* SPDX-License-Identifier: MIT */
/* What is logged of a transaction when that is over. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store.h"

struct nq_line {
    struct nq_line *before;
    enum nq_log_level level;
    char text[];
};

NQ_PRIVATE void nq_conn_log(nq_conn *c, enum nq_log_level level, const char *fmt, ...)
{
    char text[NQ_MAX_LOG];
    va_list ap;
    if (!c->store->log)
        return;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    const size_t size = strlen(text) + 1;
    struct nq_line *line = malloc(sizeof *line + size);
    if (!line) { /* better too early than never */
        c->store->log(level, text, c->store->log_udata);
        return;
    }
    line->before = c->lines;
    line->level = level;
    memcpy(line->text, text, size);
    c->lines = line;
}

NQ_PRIVATE void nq_conn_unsay(nq_conn *c)
{
    while (c->lines) {
        struct nq_line *const line = c->lines;
        c->lines = line->before;
        free(line);
    }
}

NQ_PRIVATE void nq_lines_say(const nq_store *s, struct nq_line *lines)
{
    struct nq_line *first = NULL;
    while (lines) { /* the oldest first */
        struct nq_line *const line = lines;
        lines = line->before;
        line->before = first;
        first = line;
    }
    while (first) {
        struct nq_line *const line = first;
        first = line->before;
        s->log(line->level, line->text, s->log_udata);
        free(line);
    }
}
