/* SPDX-License-Identifier: MIT */
/* keep.c: --keep-logs: what a command writes to its stderr, line by line, for the log of its task. */
#ifndef KEEP_H
#define KEEP_H

#include "../text/text.h"

/* Of one attempt. ctx NULL: nothing is kept. */
struct keep {
    nq_ctx *ctx;
    struct text line; /* what has not ended yet */
};
void keep_output(struct keep *k, const char *p, size_t n);
void keep_end(struct keep *k); /* and free it */

#endif
