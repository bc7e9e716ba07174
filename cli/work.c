/* SPDX-License-Identifier: MIT */
/* nanoq work: claim tasks and run a command for each. */
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "child.h"
#include "cli.h"
#include "log.h"
#include "table.h"

enum { WORK_RETRY_STATUS = 75, WORK_DISCARD_STATUS = 65 }; /* EX_TEMPFAIL, EX_DATAERR of sysexits.h */
#define WORK_NAMES 64

struct work {
    nq_proc_options options;
    const char *queues[WORK_NAMES], *types[WORK_NAMES];
    size_t nqueues, ntypes;
    int64_t grace_us;
    int verbosity;
    struct child_command command;
    pthread_mutex_t mutex; /* guards ended */
    pthread_cond_t cond;
    bool ended;
    nq_proc *proc;
};

/* For the signal handler. */
static nq_proc *volatile work_proc;
static volatile sig_atomic_t work_signals;

static void work_signal(int number)
{
    int saved = errno;
    (void)number;
    work_signals = work_signals + 1;
    if (work_proc != NULL) {
        nq_proc_stop(work_proc);
    }
    errno = saved;
}

/* ---- running */

static nq_verdict work_handle(nq_ctx *ctx, const nq_task *task, void *udata)
{
    struct work *w = udata;
    struct child_result result;
    char message[NQ_MAX_ERROR + 1], took[32];
    int64_t start = cli_now_us(CLOCK_MONOTONIC);
    log_line(2, "task %" PRId64 " %s: attempt %u of %u starts", task->id, task->type, task->attempt,
             task->max_retries + 1);
    child_run(&w->command, ctx, task, &result);
    table_short_duration(cli_now_us(CLOCK_MONOTONIC) - start, took);
    if (result.started && result.cause == NQ_CAUSE_NONE && result.exited && result.status == 0) {
        log_line(1, "task %" PRId64 " %s: done in %s", task->id, task->type, took);
        return NQ_DONE;
    }
    if (result.cause == NQ_CAUSE_SHUTDOWN || result.cause == NQ_CAUSE_LEASE_LOST) {
        log_line(0, "task %" PRId64 " %s: stopped after %s, %s", task->id, task->type, took,
                 result.cause == NQ_CAUSE_SHUTDOWN ? "given back (shutdown)"
                                                   : "it belongs to another worker now");
    }
    child_describe(&result, task, message);
    bool discard = result.started && result.cause == NQ_CAUSE_NONE && result.exited &&
                   result.status == WORK_DISCARD_STATUS;
    return nq_fail(ctx, discard ? NQ_DISCARD : NQ_RETRY, "%s", message);
}

static void work_error(const nq_task *task, const char *error, bool final, void *udata)
{
    (void)udata;
    size_t n = strcspn(error, "\n");
    log_line(0, "task %" PRId64 " %s: attempt %u of %u failed, %s: %.*s", task->id, task->type, task->attempt,
             task->max_retries + 1, final ? "now dead" : "will be retried", (int)(n < 200 ? n : 200), error);
}

static void work_log(void *udata, enum nq_log_level level, const char *message)
{
    (void)udata;
    log_line(level >= NQ_LOG_WARN ? 0 : 2, "%s", message);
}

static void *work_progress(void *arg)
{
    struct work *w = arg;
    pthread_mutex_lock(&w->mutex);
    while (!w->ended) {
        char line[200];
        nq_proc_counts c;
        struct timespec until;
        pthread_mutex_unlock(&w->mutex);
        nq_proc_count(w->proc, &c);
        snprintf(line, sizeof line, "%u running, %" PRIu64 " done, %" PRIu64 " to retry, %" PRIu64 " dead%s",
                 c.running, c.done, c.retried, c.dead,
                 work_signals == 0  ? ""
                 : work_signals > 1 ? "; stopping now"
                                    : "; stopping when these are done, once more Ctrl-C stops them");
        log_progress(line);
        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_nsec += 250000000;
        until.tv_sec += until.tv_nsec / 1000000000;
        until.tv_nsec %= 1000000000;
        pthread_mutex_lock(&w->mutex);
        if (!w->ended) {
            pthread_cond_timedwait(&w->cond, &w->mutex, &until);
        }
    }
    pthread_mutex_unlock(&w->mutex);
    return NULL;
}

static void work_signals_set(void (*handler)(int))
{
    static const int numbers[] = {SIGINT, SIGTERM, SIGHUP};
    struct sigaction action = {.sa_handler = handler, .sa_flags = SA_RESTART}, old;
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        /* nohup means it */
        if (numbers[i] != SIGHUP || (sigaction(SIGHUP, NULL, &old) == 0 && old.sa_handler != SIG_IGN)) {
            sigaction(numbers[i], &action, NULL);
        }
    }
}

static int work_register(struct work *w, nq_err *err)
{
    int rc = NQ_OK;
    if (w->ntypes == 0) {
        return nq_proc_handle(w->proc, NULL, work_handle, w, NULL, err);
    }
    for (size_t i = 0; i < w->ntypes && rc == NQ_OK; i++) {
        rc = nq_proc_handle(w->proc, w->types[i], work_handle, w, NULL, err);
    }
    return rc;
}

static int work_process(struct work *w, nq *q)
{
    nq_err err = {0};
    pthread_t progress;
    pthread_condattr_t clock;
    sigset_t all, before;
    bool drawing = false;
    int rc = nq_proc_new(&w->proc, q, &w->options, &err);
    rc = rc == NQ_OK ? work_register(w, &err) : rc;
    if (rc != NQ_OK) {
        return cli_fail(&err);
    }
    pthread_mutex_init(&w->mutex, NULL);
    pthread_condattr_init(&clock);
    pthread_condattr_setclock(&clock, CLOCK_MONOTONIC);
    pthread_cond_init(&w->cond, &clock);
    pthread_condattr_destroy(&clock);
    work_proc = w->proc;
    work_signals_set(work_signal);
    if (log_start(w->verbosity)) {
        sigfillset(&all); /* signals are for this thread */
        pthread_sigmask(SIG_SETMASK, &all, &before);
        drawing = pthread_create(&progress, NULL, work_progress, w) == 0;
        pthread_sigmask(SIG_SETMASK, &before, NULL);
    }
    log_line(1, "working on queue %s%s, %u at a time", w->nqueues > 0 ? w->queues[0] : "default",
             w->nqueues > 1 ? " and others" : "", w->options.concurrency);
    rc = nq_proc_run(w->proc, &err);
    if (drawing) {
        pthread_mutex_lock(&w->mutex);
        w->ended = true;
        pthread_cond_signal(&w->cond);
        pthread_mutex_unlock(&w->mutex);
        pthread_join(progress, NULL);
    }
    log_stop();
    work_signals_set(SIG_DFL);
    work_proc = NULL;
    nq_proc_counts c;
    nq_proc_count(w->proc, &c);
    log_line(1, "%" PRIu64 " done, %" PRIu64 " to retry, %" PRIu64 " dead, %" PRIu64 " given back", c.done,
             c.retried, c.dead, c.released);
    int code = rc == NQ_OK ? CLI_OK : cli_fail(&err);
    if (rc == NQ_ESTUCK) {
        fflush(NULL);
        _exit(code);
    }
    return code;
}

/* ---- options */

enum {
    WORK_DRAIN = 256,
    WORK_SHUTDOWN,
    WORK_GRACE,
    WORK_CRASHES,
    WORK_LEASE,
    WORK_KEEP_DONE,
    WORK_KEEP_DEAD
};

static bool work_name(const char *what, const char *value, const char **names, size_t *n)
{
    if (*n == WORK_NAMES || *value == '\0') {
        cli_complain("--%s: %s", what, *value == '\0' ? "needs a name" : "too many of them");
        return false;
    }
    /* `-q -j4`: a worker on the queue "-j4" would wait there for ever without a word. */
    if (*value == '-') {
        cli_complain("--%s: '%s' looks like an option, not a name", what, value);
        return false;
    }
    names[(*n)++] = value;
    return true;
}

static bool work_drain(const char *value, nq_proc_options *options)
{
    if (value != NULL && strcmp(value, "all") != 0 && strcmp(value, "due") != 0) {
        cli_complain("--drain: '%s' is none of due, all", value);
        return false;
    }
    options->drain = value != NULL && strcmp(value, "all") == 0 ? NQ_DRAIN_ALL : NQ_DRAIN_DUE;
    return true;
}

static bool work_option(struct work *w, int key, const char *value)
{
    nq_proc_options *o = &w->options;
    int64_t v = 0;
    switch (key) {
    case 'j':
        if (!cli_take_int("-j", value, 1, 1024, &v)) {
            return false;
        }
        o->concurrency = (unsigned)v;
        return true;
    case 't':
        return work_name("type", value, w->types, &w->ntypes);
    case 'q':
        return work_name("queue", value, w->queues, &w->nqueues);
    case WORK_DRAIN:
        return work_drain(value, o);
    case WORK_SHUTDOWN:
        if (!cli_take_duration("--shutdown-timeout", value, 0, &v)) {
            return false;
        }
        o->shutdown_timeout_us = v > 0 ? v : 1; /* 0 would mean the default */
        return true;
    case WORK_GRACE:
        return cli_take_duration("--grace", value, 0, &w->grace_us);
    case WORK_CRASHES:
        if (!cli_take_int("--max-crashes", value, 1, 1000, &v)) {
            return false;
        }
        o->max_crashes = (unsigned)v;
        return true;
    case WORK_LEASE:
        return cli_take_duration("--lease", value, NQ_SECONDS(3), &o->lease_us);
    case WORK_KEEP_DONE:
        return cli_take_keep("--keep-done", value, &o->keep_done_us);
    case WORK_KEEP_DEAD:
        if (!cli_take_keep("--keep-dead", value, &v)) {
            return false;
        }
        o->keep_dead_us = v != 0 ? v : 1;
        return true;
    default:
        w->verbosity = key == 'Q' ? 0 : 2;
        return true;
    }
}

static unsigned work_cores(void)
{
    cpu_set_t set;
    int n = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 0;
    return n > 0 && n <= 1024 ? (unsigned)n : 1;
}

static int work_start(struct work *w, char **argv)
{
    nq_proc_options *o = &w->options;
    nq *q = NULL;
    o->concurrency = o->concurrency > 0 ? o->concurrency : work_cores();
    /* A claim for the processes that can start now: what is claimed early waits here while others are idle.
     */
    o->batch = o->concurrency < 100 ? o->concurrency : 100;
    o->queues = w->nqueues > 0 ? w->queues : NULL;
    o->nqueues = w->nqueues;
    o->known_types_only = w->ntypes > 0;
    o->cancel_grace_us = w->grace_us + NQ_SECONDS(2);
    o->on_error = work_error;
    signal(SIGPIPE, SIG_IGN);
    signal(SIGCHLD, SIG_DFL);
    log_start(w->verbosity);
    long pidfd = syscall(SYS_pidfd_open, getpid(), 0u);
    if (pidfd < 0) {
        cli_complain("this needs pidfd_open, of Linux 5.3");
        return CLI_FAILURE;
    }
    close((int)pidfd);
    if (!child_prepare(&w->command, argv, w->grace_us)) {
        return CLI_USAGE;
    }
    int code = cli_open_logging(&q, work_log);
    if (code == CLI_OK) {
        code = work_process(w, q);
        nq_proc_free(w->proc);
        nq_close(q);
    }
    child_free(&w->command);
    return code;
}

static int work_run(int argc, char **argv)
{
    static struct work w; /* static: its handler may be stuck in a thread when this returns */
    struct cli_parse parse;
    const char *value;
    int key;
    w.options.size = sizeof w.options;
    w.grace_us = NQ_SECONDS(5);
    w.verbosity = 1;
    cli_parse_start(&parse, &cli_work);
    while ((key = cli_parse_next(&parse, argc, argv, &value)) >= 0) {
        if (!work_option(&w, key, value)) {
            return CLI_USAGE;
        }
    }
    if (key != CLI_PARSE_END) {
        return key == CLI_PARSE_HELP ? CLI_OK : CLI_USAGE;
    }
    if (optind >= argc) {
        return cli_usage("needs a command: nanoq work [OPTION...] -- CMD [ARG...]");
    }
    return work_start(&w, argv + optind);
}

static const struct cli_option work_options[] = {
    {'j', "jobs", "N", "run N at a time; default: number of cores"},
    {'t', "type", "TYPE", "claim only this type; may be repeated"},
    {'q', "queue", "QUEUE", "serve this queue; may be repeated; default: default"},
    {WORK_DRAIN, "drain", "[=all]", "end when nothing is due; all: wait for delayed ones and retries too"},
    {WORK_SHUTDOWN, "shutdown-timeout", "DURATION", "after SIGTERM, how long running tasks may go on; 30s"},
    {WORK_GRACE, "grace", "DURATION", "between SIGTERM and SIGKILL of a task; 5s"},
    {WORK_CRASHES, "max-crashes", "N", "a task that was there at more worker deaths is dead; 3"},
    {WORK_LEASE, "lease", "DURATION", "a worker silent this long is dead; 30s, at least 3s"},
    {WORK_KEEP_DONE, "keep-done", "DURATION",
     "keep completed tasks this long, or forever; default: not at all"},
    {WORK_KEEP_DEAD, "keep-dead", "DURATION", "keep dead and cancelled ones this long, or forever; 7d"},
    {'Q', "quiet", NULL, "report failures only"},
    {'v', "verbose", NULL, "report starts and what the library notes, too"},
    CLI_OPTION_DB,
    CLI_OPTION_END,
};
const struct cli_command cli_work = {
    .name = "work",
    .args = "[OPTION...] -- CMD [ARG...]",
    .summary = "Run CMD once per task, the payload on its stdin",
    .options = work_options,
    .notes = "CMD finds NANOQ_ID, NANOQ_TYPE, NANOQ_QUEUE, NANOQ_ATTEMPT (from 1), NANOQ_MAX_RETRIES and "
             "NANOQ_DEADLINE\n"
             "(seconds since 1970, with a fraction) in its environment, besides what nanoq itself was "
             "started with.\n\n"
             "Exit status 0: done; 75: retry; 65: dead at once; others, and signals: retry, after a delay "
             "that grows,\n"
             "dead when out of attempts. The last 4 KB of its stderr are kept as the error. At its timeout a "
             "task's\n"
             "process group gets SIGTERM, and SIGKILL after the grace.\n\n"
             "SIGTERM or Ctrl-C: nothing new is claimed, running tasks may end; a second one stops them now. "
             "What was\n"
             "stopped goes back to the queue as it was.\n",
    .run = work_run,
    .stops_at_first = true,
};
