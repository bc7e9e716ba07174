/* SPDX-License-Identifier: MIT */
/* The scripted work that bench/counts counts instructions and statements of: counts URL enqueue|drain N
 * [PER_CALL SIZE] */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "nanoq.h"

#define COUNTS_PER_CALL 100

static void counts_check(int rc, const char *what, const nq_err *err)
{
    if (rc == NQ_OK)
        return;
    fprintf(stderr, "counts: %s: %s\n", what, err->message);
    exit(1);
}

/* n tasks of `size` bytes that all differ, per_call in a call. */
static void counts_enqueue(nq *q, size_t n, size_t per_call, size_t size)
{
    static nq_id ids[COUNTS_PER_CALL];
    static int results[COUNTS_PER_CALL];
    nq_task_spec tasks[COUNTS_PER_CALL];
    char *const payloads = calloc(per_call, size);
    nq_err err = {0};
    if (!payloads)
        exit(1);
    memset(payloads, 'x', per_call * size);
    for (size_t done = 0; done < n; done += per_call) {
        for (size_t i = 0; i < per_call; i++) {
            char number[17];
            snprintf(number, sizeof number, "%016zx", done + i);
            memcpy(payloads + i * size, number, size < 16 ? size : 16);
            tasks[i] = (nq_task_spec){
                .size = sizeof *tasks, .type = "email", .payload = payloads + i * size, .payload_size = size};
        }
        const int rc = per_call == 1 ? nq_enqueue(q, NQ_OWN_TX, tasks, NULL, &err)
                                     : nq_enqueue_many(q, NQ_OWN_TX, tasks, per_call, ids, results, &err);
        counts_check(rc, "enqueueing", &err);
    }
    free(payloads);
}

static nq_verdict counts_handle(nq_ctx *ctx, const nq_task *task, void *udata)
{
    (void)ctx;
    (void)task;
    (void)udata;
    return NQ_DONE;
}

static void counts_drain(nq *q)
{
    nq_worker *w = NULL;
    nq_err err = {0};
    const nq_worker_options opts = {.size = sizeof opts, .concurrency = 1, .drain = NQ_DRAIN_DUE};
    counts_check(nq_worker_new(&w, q, &opts, &err), "making a worker", &err);
    counts_check(nq_worker_handle(w, "email", counts_handle, NULL, NULL, &err), "setting the handler", &err);
    counts_check(nq_worker_run(w, &err), "working", &err);
    nq_worker_free(w);
}

int main(int argc, char **argv)
{
    nq *q = NULL;
    nq_err err = {0};
    const size_t n = argc > 3 ? (size_t)atol(argv[3]) : 0, per_call = argc > 4 ? (size_t)atol(argv[4]) : 1;
    const size_t size = argc > 5 ? (size_t)atol(argv[5]) : 100;
    if (argc < 3 || per_call < 1 || per_call > COUNTS_PER_CALL || n % per_call || size < 16) {
        fputs("usage: counts URL migrate | URL drain | URL enqueue N [PER_CALL SIZE]\n", stderr);
        return 64;
    }
    counts_check(nq_open(&q, argv[1], NULL, &err), "opening", &err);
    if (strcmp(argv[2], "migrate") == 0)
        counts_check(nq_migrate(q, &err), "migrating", &err);
    else if (strcmp(argv[2], "drain") == 0)
        counts_drain(q);
    else
        counts_enqueue(q, n, per_call, size);
    nq_close(q);
    return 0;
}
