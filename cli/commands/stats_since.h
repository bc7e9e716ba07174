/* SPDX-License-Identifier: MIT */
/* nanoq stats --since. */
#ifndef STATS_SINCE_H
#define STATS_SINCE_H

#include "../cli.h"

/* What was done in so long; the exit code. by: enum nq_by. */
int stats_since(nq *q, int64_t ago_us, int by);
/* Of "queue" or "type"; -1 after a message. */
int stats_since_by(const char *text);

#endif
