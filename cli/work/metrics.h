/* SPDX-License-Identifier: MIT */
/* nanoq work --metrics: what its files share. */
#ifndef METRICS_H
#define METRICS_H

#include "../cli.h"
#include "../text/text.h"

#include "nanoq_metrics.h"

/* ---- metrics_request.c: pure */
#define METRICS_HEADER 8192 /* bytes of a request, most */
enum metrics_path { METRICS_NONE, METRICS_WORKER, METRICS_DATABASE, METRICS_HEALTHY, METRICS_READY };
struct metrics_request {
    enum metrics_path path;
    bool head; /* HEAD: no body is wanted */
};
/* Read a request of the n bytes at p. 0: there is more of it to come; else the HTTP status that it is to be
 * answered with: 200, or what is wrong with it. local: this host alone is listened to, so a name that is not
 * this host's is none of ours (a page in a browser that had its name led here). */
int metrics_request(const char *p, size_t n, bool local, struct metrics_request *out);
/* The text of a status. */
const char *metrics_status(int status);

/* ---- metrics_gauges.c: what the database says, read by a thread of its own, since it may not answer */
struct metrics_gauges;
/* Writes to the eventfd `wake` when there is something new. NULL: no thread. */
struct metrics_gauges *metrics_gauges_start(nq *q, int wake);
void metrics_gauges_end(struct metrics_gauges *g); /* accepts NULL; waits for a reading under way */
/* Append what was read, and answer so, when that is new enough for who asked at since_us (monotonic); else
 * have it read. */
bool metrics_gauges(struct metrics_gauges *g, int64_t since_us, struct text *out);

#endif
