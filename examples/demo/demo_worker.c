/* SPDX-License-Identifier: MIT */
/* demo: a worker process of it; the library's worker with its own handlers. */
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "demo.h"

static bool worker_fast;

/* Pretend to work. False when the attempt was cancelled. */
static bool worker_busy(nq_ctx *ctx, int64_t ms)
{
    struct pollfd fd = {.fd = nq_ctx_fd(ctx), .events = POLLIN};
    return poll(&fd, 1, (int)ms) == 0 && nq_ctx_cause(ctx) == NQ_CAUSE_NONE;
}

static nq_verdict worker_handle(nq_ctx *ctx, const nq_task *task, void *udata)
{
    const struct demo_kind *kind = udata;
    int64_t ms = kind->work_ms / 2 + kind->work_ms * (task->id % 7) / 6;
    bool crash = kind->fate == DEMO_POISON || (kind->fate == DEMO_CRASH && task->crashes == 0);
    if (kind->fate == DEMO_SLOW && task->attempt == 1)
        ms = 60000;
    if (!worker_busy(ctx, worker_fast && ms < 60000 ? ms / 10 : ms)) {
        return nq_fail(ctx, NQ_RETRY, "%s",
                       nq_ctx_cause(ctx) == NQ_CAUSE_TIMEOUT ? "timed out after 1 s" : "stopped");
    }
    if (crash)
        abort();
    if (kind->fate == DEMO_INVALID)
        return nq_fail(ctx, NQ_DISCARD, "line 3: not a number");
    if (kind->fate == DEMO_HOPELESS ||
        (kind->fate == DEMO_FLAKY && task->attempt <= 1 + (unsigned)(task->id % 2)))
        return nq_fail(ctx, NQ_RETRY, "connection refused");
    return NQ_DONE;
}

static int64_t worker_delay(unsigned attempt, const nq_task *task, void *udata)
{
    (void)task;
    (void)udata;
    return NQ_MS(worker_fast ? 150 : 900) * attempt;
}

static bool worker_process(nq *q, const char *queue, bool risky)
{
    nq_err err = {0};
    nq_worker *w = NULL;
    nq_worker_options options = {.size = sizeof options,
                                 .queues = &NQ_QUEUE(.name = queue),
                                 .nqueues = 1,
                                 .concurrency = risky ? 1 : 6,
                                 .batch = risky ? 1 : 12,
                                 .handle_signals = true,
                                 .shutdown_timeout_us = NQ_SECONDS(2),
                                 .lease_us = NQ_SECONDS(3),
                                 .poll_us = NQ_MS(200),
                                 .max_crashes = worker_fast ? 1 : 2,
                                 .keep_done_us = NQ_HOURS(1),
                                 .retry_policy = worker_delay};
    int rc = nq_worker_new(&w, q, &options, &err);
    for (size_t k = 0; k < DEMO_KINDS && rc == NQ_OK; k++) {
        void *kind = (void *)(uintptr_t)&demo_kinds[k]; /* read only */
        rc = nq_worker_handle(w, demo_kinds[k].type, worker_handle, kind, NULL, &err);
    }
    rc = rc == NQ_OK ? nq_worker_run(w, &err) : rc;
    if (rc != NQ_OK) {
        demo_fail(&err);
        _exit(1); /* a handler may be stuck */
    }
    nq_worker_free(w);
    return true;
}

int demo_worker(int argc, char **argv)
{
    struct rlimit none = {0};
    nq *q = NULL;
    const char *url = getenv("NANOQ_DB");
    if (argc != 4 || !url) {
        demo_complain("is started by demo");
        return 1;
    }
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != (pid_t)strtol(argv[0], NULL, 10))
        return 1;
    setrlimit(RLIMIT_CORE, &none); /* it will crash on purpose */
    worker_fast = strcmp(argv[3], "fast") == 0;
    bool good = demo_open(&q, url) && worker_process(q, argv[1], strcmp(argv[2], "risky") == 0);
    nq_close(q);
    return good ? 0 : 1;
}

static nq_verdict worker_discard(nq_ctx *ctx, const nq_task *task, void *udata)
{
    (void)task;
    (void)udata;
    return nq_fail(ctx, NQ_DISCARD, "the demo was stopped");
}

struct worker_sweep {
    struct demo *d;
    nq_worker *w;
    int64_t until;
};

/* The worker takes what dead ones left as soon as the store tells of their death, or when their lease is
 * over. */
static void *worker_sweep_watch(void *udata)
{
    struct worker_sweep *s = udata;
    while (demo_now_us() < s->until && demo_look(s->d) && s->d->now.running + s->d->now.due > 0)
        poll(NULL, 0, 50);
    nq_worker_stop(s->w);
    return NULL;
}

bool demo_sweep(struct demo *d, int64_t limit_us)
{
    nq_err err = {0};
    struct worker_sweep s = {.d = d, .until = demo_now_us() + limit_us};
    nq_queue_options queues[DEMO_QUEUES];
    pthread_t thread;
    for (size_t i = 0; i < DEMO_QUEUES; i++)
        queues[i] = NQ_QUEUE(.name = d->queues[i]);
    const nq_worker_options options = {
        .size = sizeof options, .queues = queues, .nqueues = DEMO_QUEUES, .lease_us = NQ_SECONDS(3)};
    int rc = nq_worker_new(&s.w, d->q, &options, &err);
    rc = rc == NQ_OK ? nq_worker_handle(s.w, NULL, worker_discard, NULL, NULL, &err) : rc;
    if (rc == NQ_OK && pthread_create(&thread, NULL, worker_sweep_watch, &s) == 0) {
        rc = nq_worker_run(s.w, &err);
        pthread_join(thread, NULL);
    }
    nq_worker_free(s.w);
    return rc == NQ_OK || demo_fail(&err);
}
