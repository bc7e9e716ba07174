/* SPDX-License-Identifier: MIT */
/* nanoq demo-worker: a worker process of the demo, started by it; the library's worker with its own
 * handlers. */
#include <poll.h>
#include <signal.h>
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
    if (kind->fate == DEMO_SLOW && task->attempt == 1) {
        ms = 60000;
    }
    if (!worker_busy(ctx, worker_fast && ms < 60000 ? ms / 10 : ms)) {
        return nq_fail(ctx, NQ_RETRY, "%s",
                       nq_ctx_cause(ctx) == NQ_CAUSE_TIMEOUT ? "timed out after 1 s" : "stopped");
    }
    if (crash) {
        abort();
    }
    if (kind->fate == DEMO_INVALID) {
        return nq_fail(ctx, NQ_DISCARD, "line 3: not a number");
    }
    if (kind->fate == DEMO_HOPELESS ||
        (kind->fate == DEMO_FLAKY && task->attempt <= 1 + (unsigned)(task->id % 2))) {
        return nq_fail(ctx, NQ_RETRY, "connection refused");
    }
    return NQ_DONE;
}

static int64_t worker_delay(unsigned attempt, const nq_task *task, void *udata)
{
    (void)task;
    (void)udata;
    return NQ_MS(worker_fast ? 150 : 900) * attempt;
}

static int worker_process(nq *q, const char *queue, bool risky)
{
    nq_err err = {0};
    nq_worker *w = NULL;
    nq_worker_options options = {.size = sizeof options,
                                 .queues = &queue,
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
        cli_fail(&err);
        _exit(CLI_FAILURE);
    }
    nq_worker_free(w);
    return CLI_OK;
}

/* Arguments: the parent's pid, queue, "risky" or "plain", "fast" or "slow". The database comes in NANOQ_DB.
 */
static int worker_run(int argc, char **argv)
{
    struct rlimit none = {0};
    nq *q = NULL;
    int64_t parent;
    if (argc != 5 || !cli_take_int("parent", argv[1], 1, INT32_MAX, &parent)) {
        return cli_usage("is started by nanoq demo");
    }
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != (pid_t)parent) {
        return CLI_FAILURE;
    }
    setrlimit(RLIMIT_CORE, &none); /* it will crash on purpose */
    worker_fast = strcmp(argv[4], "fast") == 0;
    int code = cli_open_logging(&q, NULL); /* it would write into the picture */
    if (code == CLI_OK) {
        code = worker_process(q, argv[2], strcmp(argv[3], "risky") == 0);
        nq_close(q);
    }
    return code;
}

static const struct cli_option worker_options[] = {CLI_OPTION_END};
const struct cli_command cli_demo_worker = {
    .name = "demo-worker",
    .args = "PARENT QUEUE KIND SPEED",
    .summary = "A worker of the demo",
    .options = worker_options,
    .run = worker_run,
    .hidden = true,
};
