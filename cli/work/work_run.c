/* SPDX-License-Identifier: MIT */
/* nanoq work: a worker around the command. */
#include <inttypes.h>
#include <signal.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "../text/log.h"
#include "stream.h"
#include "work.h"

static nq_verdict work_started(nq_ctx *ctx, const nq_task *task, nq_next *next, void *udata)
{
    const struct log_event e = {.level = LOG_DEBUG, .task = task, .took_us = -1};
    (void)udata;
    log_task(&e, "attempt %u of %u starts", task->attempt, task->max_retries + 1);
    return nq_next_run(next, ctx, task);
}

static void work_log(enum nq_log_level level, const char *message, void *udata)
{
    (void)udata;
    log_line(level >= NQ_LOG_WARN ? LOG_WARN : LOG_DEBUG, "%s", message);
}

static int work_register(struct work *w, nq_err *err)
{
    const nq_handler_fn handler = w->streams ? work_stream : work_exec;
    void *udata = w->streams ? (void *)w->stream : &w->command;
    int rc = nq_worker_use(w->proc, work_started, NULL, err);
    if (rc == NQ_OK && w->ntypes == 0) {
        return nq_worker_handle(w->proc, NULL, handler, udata, NULL, err);
    }
    for (size_t i = 0; i < w->ntypes && rc == NQ_OK; i++) {
        rc = nq_worker_handle(w->proc, w->types[i], handler, udata, NULL, err);
    }
    return rc;
}

static int work_proc_run(struct work *w, nq *q, bool drawing)
{
    nq_err err = {0};
    nq_worker_totals c;
    int rc = nq_worker_new(&w->proc, q, &w->options, &err);
    rc = rc == NQ_OK ? work_register(w, &err) : rc;
    if (rc != NQ_OK) {
        return cli_fail(&err);
    }
    log_line(LOG_INFO, "working on queue %s%s, %u at a time", w->nqueues > 0 ? w->queues[0] : "default",
             w->nqueues > 1 ? " and others" : "", w->options.concurrency);
    supervise_start(w->proc, drawing);
    rc = nq_worker_run(w->proc, &err);
    if (rc != NQ_ESTUCK) {
        stream_free(w->stream);
    }
    supervise_end();
    log_stop();
    nq_worker_stats(w->proc, &c, sizeof c);
    log_line(LOG_INFO,
             "%" PRIu64 " done, %" PRIu64 " to retry, %" PRIu64 " dead, %" PRIu64 " cancelled, %" PRIu64
             " given back",
             c.done, c.retried, c.dead, c.cancelled, c.released);
    int code = rc == NQ_OK ? CLI_OK : cli_fail(&err);
    if (rc == NQ_ESTUCK) {
        fflush(NULL);
        _exit(code);
    }
    return code;
}

static bool work_has_pidfd(void)
{
    long pidfd = syscall(SYS_pidfd_open, getpid(), 0u);
    if (pidfd < 0) {
        cli_complain("this needs pidfd_open, of Linux 5.3");
        return false;
    }
    close((int)pidfd);
    return true;
}

int work_process(struct work *w, char **argv)
{
    nq *q = NULL;
    w->options.on_error = work_attempt_failed;
    signal(SIGPIPE, SIG_IGN);
    signal(SIGCHLD, SIG_DFL);
    bool drawing = log_start(w->verbosity, w->json);
    if (!spawn_prepare(&w->command, argv)) {
        return CLI_USAGE;
    }
    if (!work_has_pidfd() || !guard_start(&w->command) || !supervise_signals()) {
        return CLI_FAILURE;
    }
    int code = cli_open_logging(&q, work_log);
    if (code == CLI_OK && w->streams && (w->stream = stream_new(&w->command, w->max_tasks)) == NULL) {
        nq_close(q);
        code = CLI_FAILURE;
    }
    if (code == CLI_OK) {
        code = work_proc_run(w, q, drawing);
        nq_worker_free(w->proc);
        nq_close(q);
    }
    guard_end(&w->command);
    spawn_free(&w->command);
    return code;
}
