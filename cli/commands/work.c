/* SPDX-License-Identifier: MIT */
/* nanoq work: what its options say. */
#include <sched.h>

#include "../work/work.h"

#define WORK_LEAST_MEMORY ((uint64_t)16 << 20) /* below that hardly a program starts */

enum {
    WORK_DRAIN = 256,
    WORK_SHUTDOWN,
    WORK_GRACE,
    WORK_CRASHES,
    WORK_LEASE,
    WORK_KEEP_DONE,
    WORK_KEEP_DEAD,
    WORK_MEMORY,
    WORK_CPU,
    WORK_NO_PRIVS,
    WORK_KEEP_PASSWORD,
    WORK_LOG,
    WORK_STREAM,
    WORK_MAX_TASKS,
    WORK_MANY,
    WORK_CLAIM_BYTES,
    WORK_RESULT,
    WORK_KEEP_LOGS,
    WORK_METRICS
};

static bool work_name(const char *what, const char *value, size_t n)
{
    if (n == WORK_NAMES || *value == '\0') {
        cli_complain("--%s: %s", what, *value == '\0' ? "needs a name" : "too many of them");
        return false;
    }
    /* `-q -j4`: a worker on the queue "-j4" would wait there for ever without a word. */
    if (*value == '-') {
        cli_complain("--%s: '%s' looks like an option, not a name", what, value);
        return false;
    }
    return true;
}

static bool work_type(struct work *w, const char *value)
{
    if (!work_name("type", value, w->ntypes)) {
        return false;
    }
    w->types[w->ntypes++] = value;
    return true;
}

/* concurrency=N or weight=N: the n bytes at `at`. */
static bool work_queue_setting(nq_queue_options *queue, const char *at, size_t n)
{
    static const struct {
        const char *name;
        int most;
    } settings[] = {{"concurrency=", 1024}, {"weight=", 1000}};
    unsigned *const values[] = {&queue->concurrency, &queue->weight};
    char what[96 + NQ_MAX_QUEUE], number[32];
    int64_t v = 0;
    for (size_t i = 0; i < sizeof settings / sizeof settings[0]; i++) {
        const size_t skip = strlen(settings[i].name);
        if (strncmp(at, settings[i].name, skip) != 0) {
            continue;
        }
        snprintf(what, sizeof what, "--queue %s: %.*s", queue->name, (int)skip - 1, at);
        snprintf(number, sizeof number, "%.*s", (int)(n - skip < sizeof number ? n - skip : sizeof number),
                 at + skip);
        if (*values[i] != 0) {
            cli_complain("%s is given twice", what);
            return false;
        }
        if (!cli_take_int(what, number, 1, settings[i].most, &v)) {
            return false;
        }
        *values[i] = (unsigned)v;
        return true;
    }
    cli_complain("--queue %s: '%.*s' is none of concurrency=N, weight=N", queue->name, (int)n, at);
    return false;
}

/* NAME[,concurrency=N][,weight=N]: no name has a comma. */
static bool work_queue(struct work *w, const char *value)
{
    nq_queue_options *queue = &w->queues[w->nqueues];
    size_t n = strcspn(value, ",");
    char *name = cli_format("%.*s", (int)n, value); /* kept as long as the worker */
    if (!work_name("queue", name, w->nqueues)) {
        free(name);
        return false;
    }
    w->nqueues++;
    *queue = NQ_QUEUE(.name = name);
    for (const char *at = value + n; *at == ','; at += n) {
        at++;
        n = strcspn(at, ",");
        if (!work_queue_setting(queue, at, n)) {
            return false;
        }
    }
    return true;
}

static bool work_drain(const char *value, nq_worker_options *options)
{
    if (value && strcmp(value, "all") != 0 && strcmp(value, "due") != 0) {
        cli_complain("--drain: '%s' is none of due, all", value);
        return false;
    }
    options->drain = value && strcmp(value, "all") == 0 ? NQ_DRAIN_ALL : NQ_DRAIN_DUE;
    return true;
}

static bool work_log_format(const char *value, bool *json)
{
    *json = strcmp(value, "json") == 0;
    if (!*json && strcmp(value, "text") != 0) {
        cli_complain("--log: '%s' is none of text, json", value);
        return false;
    }
    return true;
}

/* Options of the command rather than of the worker. */
static bool work_command_option(struct work *w, int key, const char *value)
{
    int64_t v = 0;
    switch (key) {
    case WORK_MEMORY:
        return cli_take_size("--memory", value, WORK_LEAST_MEMORY, &w->command.memory);
    case WORK_CPU:
        return cli_take_duration("--cpu", value, NQ_SECONDS(1), &w->command.cpu_us);
    case WORK_NO_PRIVS:
        w->command.no_new_privs = true;
        return true;
    case WORK_KEEP_PASSWORD:
        w->command.keep_password = true;
        return true;
    case WORK_STREAM:
        w->streams = w->command.cpu_renewed = true;
        return true;
    case WORK_KEEP_LOGS:
        w->command.keep_logs = true;
        return true;
    case WORK_RESULT:
        w->results = true;
        return true;
    case WORK_METRICS:
        w->metrics = value;
        return true;
    case WORK_MAX_TASKS:
        if (!cli_take_int("--max-tasks", value, 1, 1000000000, &v))
            return false;
        w->max_tasks = (unsigned)v;
        return true;
    case WORK_MANY:
        if (!cli_take_int("--many", value, 1, NQ_MAX_MANY, &v))
            return false;
        w->many = (unsigned)v;
        return true;
    case WORK_LOG:
        w->log_said = true;
        return work_log_format(value, &w->json);
    default:
        w->verbosity = key == 'Q' ? 0 : 2;
        return true;
    }
}

static bool work_option(struct work *w, int key, const char *value)
{
    nq_worker_options *o = &w->options;
    int64_t v = 0;
    uint64_t size = 0;
    switch (key) {
    case 'j':
        if (!cli_take_int("-j", value, 1, 1024, &v))
            return false;
        o->concurrency = (unsigned)v;
        return true;
    case 't':
        return work_type(w, value);
    case 'q':
        return work_queue(w, value);
    case WORK_DRAIN:
        return work_drain(value, o);
    case WORK_CLAIM_BYTES:
        if (!cli_take_size("--claim-bytes", value, 1, &size)) {
            return false;
        }
        o->claim_bytes = (size_t)size;
        return true;
    case WORK_SHUTDOWN:
        if (!cli_take_duration("--shutdown-timeout", value, 0, &v))
            return false;
        o->shutdown_timeout_us = v > 0 ? v : NQ_ZERO;
        return true;
    case WORK_GRACE:
        return cli_take_duration("--grace", value, 0, &w->command.grace_us);
    case WORK_CRASHES:
        if (!cli_take_int("--max-crashes", value, 0, 1000, &v))
            return false;
        o->max_crashes = v > 0 ? (int)v : NQ_ZERO;
        return true;
    case WORK_LEASE:
        return cli_take_duration("--lease", value, NQ_SECONDS(3), &o->lease_us);
    case WORK_KEEP_DONE:
        return cli_take_keep("--keep-done", value, &o->keep_done_us);
    case WORK_KEEP_DEAD:
        if (!cli_take_keep("--keep-dead", value, &v))
            return false;
        o->keep_dead_us = v != 0 ? v : NQ_ZERO;
        return true;
    default:
        return work_command_option(w, key, value);
    }
}

static unsigned work_cores(void)
{
    cpu_set_t set;
    int n = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 0;
    return n > 0 && n <= 1024 ? (unsigned)n : 1;
}

/* What the command line left open and the configuration says. */
static bool work_configured(struct work *w)
{
    const char *from, *queue = cli_configured(CLI_CONFIG_QUEUE, NULL),
                      *jobs = cli_configured(CLI_CONFIG_JOBS, &from),
                      *log = cli_configured(CLI_CONFIG_LOG, NULL);
    int64_t v = 0;
    if (jobs && w->options.concurrency == 0) {
        if (!cli_take_int(from, jobs, 1, 1024, &v))
            return false;
        w->options.concurrency = (unsigned)v;
    }
    if (log && !w->log_said)
        w->json = strcmp(log, "json") == 0;
    return !queue || w->nqueues > 0 || work_queue(w, queue);
}

static int work_start(struct work *w, char **argv)
{
    nq_worker_options *o = &w->options;
    o->concurrency = o->concurrency > 0 ? o->concurrency : work_cores();
    /* A claim for the processes that can start now: what is claimed early waits here while others are idle.
     * With
     * --stream a task may take microseconds, and the library sees to it that what it prefetches starts at
     * once. */
    o->batch = w->streams ? 0 : o->concurrency < 100 ? o->concurrency : 100;
    o->queues = w->nqueues > 0 ? w->queues : NULL;
    o->nqueues = w->nqueues;
    o->known_types_only = w->ntypes > 0;
    o->cancel_grace_us = w->command.grace_us + NQ_SECONDS(2);
    return work_process(w, argv);
}

static int work_run(int argc, char **argv)
{
    static struct work w; /* static: its handler may be stuck in a thread when this returns */
    struct cli_parse parse;
    const char *value;
    int key;
    w.options.size = sizeof w.options;
    w.command.grace_us = NQ_SECONDS(5);
    w.verbosity = 1;
    cli_parse_start(&parse, &cli_work);
    while ((key = cli_parse_next(&parse, argc, argv, &value)) >= 0)
        if (!work_option(&w, key, value))
            return CLI_USAGE;
    if (key != CLI_PARSE_END)
        return key == CLI_PARSE_HELP ? CLI_OK : CLI_USAGE;
    if (optind >= argc)
        return cli_usage("needs a command: nanoq work [OPTION...] -- CMD [ARG...]");
    if (w.max_tasks > 0 && !w.streams)
        return cli_usage("--max-tasks belongs to --stream: without it each task has a process of its own");
    if (w.many > 0 && !w.streams)
        return cli_usage("--many belongs to --stream: without it each task has a process of its own");
    if (w.results && w.streams)
        return cli_usage(
            "--result is for a command of its own: with --stream answer {\"done\": ID, \"result\": ...}");
    if (!work_configured(&w))
        return CLI_USAGE;
    return work_start(&w, argv + optind);
}

static const struct cli_option work_options[] = {
    {'j', "jobs", "N", "run N at a time; default: number of cores"},
    {'t', "type", "TYPE", "claim only this type; may be repeated"},
    {'q', "queue", "QUEUE", "serve this queue; may be repeated; default: default. See below"},
    {WORK_DRAIN, "drain", "[=all]", "end when nothing is due; all: wait for delayed ones and retries too"},
    {WORK_SHUTDOWN, "shutdown-timeout", "DURATION", "after SIGTERM, how long running tasks may go on; 30s"},
    {WORK_GRACE, "grace", "DURATION", "between SIGTERM and SIGKILL of a task; 5s"},
    {WORK_CRASHES, "max-crashes", "N", "a task that was there at more worker deaths is dead; 3"},
    {WORK_LEASE, "lease", "DURATION", "a worker silent this long is dead; 30s, at least 3s"},
    {WORK_KEEP_DONE, "keep-done", "DURATION",
     "keep completed tasks this long, or forever; default: not at all"},
    {WORK_KEEP_DEAD, "keep-dead", "DURATION", "keep dead and cancelled ones this long, or forever; 7d"},
    {WORK_CLAIM_BYTES, "claim-bytes", "SIZE",
     "a claim ends at so many bytes of payloads, but takes one task at least; 8M"},
    {WORK_STREAM, "stream", NULL, "CMD stays and takes task after task: a line of JSON in, a line out"},
    {WORK_MAX_TASKS, "max-tasks", "N", "with --stream: a new CMD after so many tasks; default: no limit"},
    {WORK_MANY, "many", "N", "with --stream: up to N tasks in a line, {\"tasks\":[...]}; at most 1000"},
    {WORK_RESULT, "result", NULL,
     "what CMD writes to its stdout is the task's result, for nanoq wait and show"},
    {WORK_KEEP_LOGS, "keep-logs", NULL,
     "keep CMD's stderr, and the log of a stream, with the task: nanoq logs"},
    {WORK_MEMORY, "memory", "SIZE", "address space of the command, 512M or 2G; default: as ours"},
    {WORK_CPU, "cpu", "DURATION", "CPU time of a task, in whole seconds; default: no limit"},
    {WORK_NO_PRIVS, "no-new-privs", NULL, "set-uid and set-gid programs (sudo, sendmail) give it nothing"},
    {WORK_KEEP_PASSWORD, "keep-password", NULL, "leave the database's password in CMD's environment"},
    {WORK_METRICS, "metrics", "ADDR:PORT", "answer scrapes of Prometheus there; docs/metrics.md"},
    {WORK_LOG, "log", "text|json", "how the log is written; json: an object a line; default text"},
    {'Q', "quiet", NULL, "report failures only"},
    {'v', "verbose", NULL, "report starts and what the library notes, too"},
    CLI_OPTION_DB,
    CLI_OPTION_END,
};
const struct cli_command cli_work = {
    .name = "work",
    .args = "[OPTION...] -- CMD [ARG...]",
    .summary = "Run CMD once per task, the payload on its stdin; or, with --stream, for task after task",
    .options = work_options,
    .notes =
        "CMD finds NANOQ_ID, NANOQ_TYPE, NANOQ_QUEUE, NANOQ_GROUP, NANOQ_ATTEMPT (from 1), "
        "NANOQ_MAX_RETRIES\n"
        "and NANOQ_DEADLINE (seconds since 1970, with a fraction) in its environment, and of the task's "
        "headers\n"
        "TRACEPARENT and TRACESTATE, besides what nanoq itself was started with, except the database's "
        "password\n"
        "(NANOQ_PASSWORD, the variable that password_env names, what stands in NANOQ_DB).\n\n"
        "Exit status 0: done; 75: retry; 65: dead at once; others, and signals: retry, after a delay "
        "that grows,\n"
        "dead when out of attempts. The last 4 KB of its stderr are kept as the error. At its timeout a "
        "task's\n"
        "process group gets SIGTERM, and SIGKILL after the grace.\n\n"
        "--stream: CMD reads a task a line, {\"nanoq\":1,\"id\":7,\"type\":\"email\",...,\"payload\":...}, "
        "and answers each\n"
        "with a line: {\"done\": 7}, {\"retry\": 7, \"delay\": \"5m\", \"error\": \"...\"}, {\"discard\": 7, "
        "\"error\": \"...\"} or\n"
        "{\"snooze\": 7, \"delay\": 60}; before it, {\"progress\": 7, \"count\": 3, \"total\": 10} and "
        "{\"log\": \"...\"}.\n"
        "-j N runs N of it. The whole protocol: docs/stream.md.\n\n"
        "QUEUE is a name, and perhaps limits: mail,concurrency=2 runs at most 2 of its tasks at once in this "
        "worker,\n"
        "mail,weight=3 gives it 3 turns where others have 1. docs/queues.md.\n\n"
        "SIGTERM or Ctrl-C: nothing new is claimed, running tasks may end; a second one stops them now. "
        "What was\n"
        "stopped goes back to the queue as it was.\n",
    .run = work_run,
    .stops_at_first = true,
};
