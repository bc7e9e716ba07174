/* SPDX-License-Identifier: MIT */
/* A program that uses the public headers as their comments show: it must compile without a warning. */
#include <nanoq.h>
#include <nanoq_admin.h>
#include <stdio.h>

static nq_verdict consumer_email(nq_ctx *ctx, const nq_task *task, void *udata)
{
    (void)udata;
    if (task->payload_size == 0)
        return nq_fail(ctx, NQ_DISCARD, "task %lld has no payload", (long long)task->id);
    return nq_ctx_cause(ctx) == NQ_CAUSE_NONE ? NQ_DONE : NQ_RETRY;
}

static nq_verdict consumer_layer(nq_ctx *ctx, const nq_task *task, nq_next *next, void *udata)
{
    (void)udata;
    return nq_next_run(next, ctx, task);
}

int main(void)
{
    nq *q = NULL;
    nq_worker *p = NULL;
    nq_id id = 0;
    nq_err err = {0};
    const char text[] = "{\"to\":2}";
    if (nq_open(&q, "sqlite::memory:", &(nq_options){.size = sizeof(nq_options), .max_payload = 100}, &err) !=
            NQ_OK ||
        nq_migrate(q, &err) != NQ_OK ||
        nq_enqueue(q, NQ_OWN_TX, NQ_TASK(.type = "email", NQ_BYTES("{\"to\":1}")), &id, &err) != NQ_OK ||
        nq_enqueue(q, NQ_OWN_TX, NQ_TASK(.type = "email", .payload = text, .payload_size = sizeof text - 1),
                   NULL, &err) != NQ_OK ||
        nq_worker_new(&p, q, &(nq_worker_options){.size = sizeof(nq_worker_options), .drain = NQ_DRAIN_DUE},
                      &err) != NQ_OK ||
        nq_worker_use(p, consumer_layer, NULL, &err) != NQ_OK ||
        nq_worker_handle(p, "email", consumer_email, NULL, NULL, &err) != NQ_OK ||
        nq_worker_run(p, &err) != NQ_OK)
        fprintf(stderr, "%s: %s\n", nq_code_name(err.code), err.message);
    nq_worker_free(p);
    nq_close(q);
    return err.code == NQ_OK ? 0 : 1;
}
