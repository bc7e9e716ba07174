/* SPDX-License-Identifier: MIT */
/* Enqueue one task and run it: hello [URL] */
#include <stdio.h>

#include "nanoq.h"

static nq_verdict greet(nq_ctx *ctx, const nq_task *task, void *udata)
{
    (void)udata;
    if (task->payload_size == 0)
        return nq_fail(ctx, NQ_DISCARD, "nobody to greet");
    printf("hello, %s (attempt %u)\n", (const char *)task->payload, task->attempt);
    return NQ_DONE;
}

int main(int argc, char **argv)
{
    const char *url = argc > 1 ? argv[1] : "sqlite:hello.db";
    nq *q = NULL;
    nq_worker *w = NULL;
    nq_err err = {0};

    int rc = nq_open(&q, url, NULL, &err);
    if (rc == NQ_OK)
        rc = nq_migrate(q, &err);
    if (rc == NQ_OK)
        rc = nq_enqueue(q, NQ_OWN_TX, NQ_TASK(.type = "greet", NQ_BYTES("world")), NULL, &err);
    if (rc >= 0) /* NQ_DUPLICATE: the same greeting waits already: run that one */
        rc = nq_worker_new(
            &w, q, &(nq_worker_options){.size = sizeof(nq_worker_options), .drain = NQ_DRAIN_DUE}, &err);
    if (rc == NQ_OK)
        rc = nq_worker_handle(w, "greet", greet, NULL, NULL, &err);
    if (rc == NQ_OK)
        rc = nq_worker_run(w, &err);
    if (rc != NQ_OK)
        fprintf(stderr, "hello: %s\n", err.message);
    nq_worker_free(w);
    nq_close(q);
    return rc != NQ_OK;
}
