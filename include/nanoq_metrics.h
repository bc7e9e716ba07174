/* SPDX-License-Identifier: MIT */
/* nanoq: what a Prometheus scrapes, as text. */
#ifndef NANOQ_METRICS_H
#define NANOQ_METRICS_H

#include "nanoq.h"

#ifdef __cplusplus
extern "C" {
#endif

/*
 * METRICS in Prometheus' text format 0.0.4, with HELP and TYPE: docs/metrics.md has the names. The library
 * has no HTTP server: answer a GET with what these functions write, as NQ_METRICS_CONTENT_TYPE. The texts of
 * nq_metrics and of one worker may follow each other: none has a name that another has.
 *
 * Names of queues and types are of the database: they are escaped, what is no UTF-8 is U+FFFD. Queues and
 * types beyond the first NQ_METRICS_VALUES of each are counted together as "other".
 */
#define NQ_METRICS_VALUES       200
#define NQ_METRICS_CONTENT_TYPE "text/plain; version=0.0.4; charset=utf-8"

/* Called with piece after piece of the text, n bytes, whole lines; non-zero stops, which is no failure. It
 * may call into the same nq. */
typedef int (*nq_metrics_fn)(const char *text, size_t n, void *udata);

enum nq_metrics_part {
    NQ_METRICS_DATABASE = 1, /* gauges of what stands in the database: tasks, queues, workers; it is read */
    NQ_METRICS_HANDLE = 2    /* counters of this handle: what was enqueued by it; nothing is read */
};

typedef struct nq_metrics_options {
    size_t size;
    unsigned parts; /* of enum nq_metrics_part; default: all. A program that only enqueues exposes
                       NQ_METRICS_HANDLE; one program of all the NQ_METRICS_DATABASE, which are the same
                       everywhere */
} nq_metrics_options;

/*
 * Metrics of the database and of this handle. opts may be NULL. When the database cannot be read the text is
 * written all the same, with nanoq_database_up 0, and the answer says why. It reads as nq_stats, nq_workers
 * and nq_queue_get do: once in ten seconds is often enough. Thread-safe. Errors: NQ_EINVAL (fn is NULL, or an
 * option) and NQ_EFORK and NQ_ENOMEM without a text; with it those of nq_stats.
 */
NQ_API int nq_metrics(nq *q, const nq_metrics_options *opts, nq_metrics_fn fn, void *udata, nq_err *err);

/*
 * Metrics of a worker since it was made, from memory: attempts by queue, type and verdict, how long they took
 * and tasks had waited, crashes, handlers that run. Any thread, while it runs too; it asks no database.
 * Errors: NQ_EINVAL (w or fn is NULL), NQ_EFORK, NQ_ENOMEM, all without a text.
 */
NQ_API int nq_worker_metrics(const nq_worker *w, nq_metrics_fn fn, void *udata, nq_err *err);

#ifdef __cplusplus
}
#endif
#endif
