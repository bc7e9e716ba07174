/* SPDX-License-Identifier: MIT */
/* A handler that crashes, in a child process: isolated [URL] */
#include <stdio.h>
#include <stdlib.h>

#include "nanoq.h"

static nq_verdict divide(nq_ctx *ctx, const nq_task *task, void *udata)
{
    int *nowhere = udata;
    (void)ctx;
    if (atoi(task->payload) == 0)
        *nowhere = 1; /* SIGSEGV */
    printf("1000 / %s = %d\n", (const char *)task->payload, 1000 / atoi(task->payload));
    return NQ_DONE;
}

static void complain(const nq_task *task, const char *error, bool final, void *udata)
{
    (void)udata;
    printf("task %lld: %.35s%s\n", (long long)task->id, error, final ? ", given up" : "");
}

static int add(nq *q, const char *number, size_t size, nq_err *err)
{
    return nq_enqueue(
        q, NQ_OWN_TX,
        NQ_TASK(.type = "divide", .payload = number, .payload_size = size, .unique = NQ_UNIQUE_NONE), NULL,
        err);
}

int main(int argc, char **argv)
{
    const nq_worker_options opts = {
        .size = sizeof opts, .concurrency = 1, .drain = NQ_DRAIN_DUE, .on_error = complain};
    const nq_handle_options isolated = {
        .size = sizeof isolated, .isolation = NQ_ISOLATION(.kind = NQ_PROCESS), .max_crashes = NQ_ZERO};
    nq *q = NULL;
    nq_worker *w = NULL;
    nq_err err = {0};

    int rc = nq_open(&q, argc > 1 ? argv[1] : "sqlite:isolated.db", NULL, &err);
    if (rc == NQ_OK)
        rc = nq_migrate(q, &err);
    if (rc == NQ_OK)
        rc = nq_worker_new(&w, q, &opts, &err);
    if (rc == NQ_OK)
        rc = nq_worker_handle(w, "divide", divide, NULL, &isolated, &err);
    if (rc == NQ_OK)
        rc = nq_worker_fork(w, &err); /* while this is the only thread */
    if (rc == NQ_OK && (rc = add(q, "7", 1, &err)) == NQ_OK && (rc = add(q, "0", 1, &err)) == NQ_OK)
        rc = add(q, "8", 1, &err);
    if (rc == NQ_OK)
        rc = nq_worker_run(w, &err);
    if (rc != NQ_OK)
        fprintf(stderr, "isolated: %s\n", err.message);
    nq_worker_free(w);
    nq_close(q);
    return rc != NQ_OK;
}
