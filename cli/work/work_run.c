/* SPDX-License-Identifier: MIT */
/* nanoq work: a worker around the command. */
#include <inttypes.h>
#include <signal.h>
#include <sys/resource.h>
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

static int work_register_type(struct work *w, const char *type, nq_err *err)
{
    if (w->many)
        return nq_worker_handle_many(w->proc, type, work_stream_many, w->stream,
                                     &(nq_many_options){.size = sizeof(nq_many_options), .max = w->many},
                                     err);
    return nq_worker_handle(w->proc, type, w->streams ? work_stream : work_exec,
                            w->streams ? (void *)w->stream : w, NULL, err);
}

static int work_register(struct work *w, nq_err *err)
{
    int rc = nq_worker_use(w->proc, work_started, NULL, err);
    if (rc == NQ_OK && w->ntypes == 0)
        return work_register_type(w, NULL, err);
    for (size_t i = 0; i < w->ntypes && rc == NQ_OK; i++)
        rc = work_register_type(w, w->types[i], err);
    return rc;
}

static int work_proc_run(struct work *w, nq *q, bool drawing)
{
    nq_err err = {0};
    nq_worker_totals c;
    int rc = nq_worker_new(&w->proc, q, &w->options, &err);
    rc = rc == NQ_OK ? work_register(w, &err) : rc;
    if (rc != NQ_OK)
        return cli_fail(&err);
    log_line(LOG_INFO, "working on queue %s%s, %u at a time", w->nqueues > 0 ? w->queues[0].name : "default",
             w->nqueues > 1 ? " and others" : "", w->options.concurrency);
    metrics_start(q, w->proc);
    supervise_start(w->proc, drawing);
    rc = nq_worker_run(w->proc, &err);
    if (rc != NQ_ESTUCK)
        stream_free(w->stream);
    metrics_end();
    supervise_end();
    log_stop();
    nq_worker_stats(w->proc, &c, sizeof c);
    log_line(LOG_INFO,
             "%" PRIu64 " done, %" PRIu64 " to retry, %" PRIu64 " dead, %" PRIu64 " cancelled, %" PRIu64
             " given back",
             c.done, c.retried, c.dead, c.cancelled, c.released);
    int exit_code = rc == NQ_OK ? CLI_OK : cli_fail(&err);
    if (exit_code == CLI_OK && w->options.drain != NQ_DRAIN_NEVER && c.dead > 0)
        exit_code = CLI_DEAD;
    if (rc == NQ_ESTUCK) {
        log_end();
        fflush(NULL);
        _exit(exit_code);
    }
    return exit_code;
}

/* A command takes five descriptors of ours while it runs, and the usual 1,024 are soon used up: ask for as
 * many as we may have. The commands get what we were started with. */
static bool work_descriptors(struct spawn_command *c)
{
    if (getrlimit(RLIMIT_NOFILE, &c->files) != 0) {
        cli_complain("cannot read the limit of descriptors");
        return false;
    }
    const struct rlimit all = {.rlim_cur = c->files.rlim_max, .rlim_max = c->files.rlim_max};
    setrlimit(RLIMIT_NOFILE, &all); /* where it fails there are fewer, and tasks wait for them */
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
        log_end();
        return CLI_USAGE;
    }
    if (!work_descriptors(&w->command) || !supervise_signals() ||
        (w->metrics && !metrics_listen(w->metrics))) {
        log_end();
        return CLI_FAILURE;
    }
    int exit_code = cli_open_logging(&q, work_log);
    if (exit_code == CLI_OK && w->streams && !(w->stream = stream_new(&w->command, w->max_tasks))) {
        nq_close(q);
        exit_code = CLI_FAILURE;
    }
    if (exit_code == CLI_OK) {
        exit_code = work_proc_run(w, q, drawing);
        nq_worker_free(w->proc);
        nq_close(q);
    }
    spawn_free(&w->command);
    log_end();
    return exit_code;
}
