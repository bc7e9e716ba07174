/* SPDX-License-Identifier: MIT */
/* nanoq work's stderr, shared by many threads. */
#include "log.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "../cli.h"

#define LOG_OUTPUT_LINE 8192 /* JSON: longer lines of a command come in pieces */

#define LOG_QUEUE       ((size_t)1 << 20) /* most bytes that wait to be written */
#define LOG_STUCK_US    NQ_SECONDS(1) /* nobody has read anything for so long: do not wait for them any more */

/*
 * Whoever reads our stderr may stop reading, and a write to it then waits for ever. So only one thread
 * writes, and all others leave their bytes in a queue: none of those that keep time ever waits for a reader.
 * When the queue is full, lines of ours are dropped and counted; what commands write waits in their pipes
 * (log_full) while the reader is slow, and is dropped too where it has stopped reading.
 */
static struct {
    pthread_mutex_t mutex; /* guards what follows; not held while writing */
    pthread_cond_t queued, written;
    struct text queue;
    bool writing;       /* some bytes are out of the queue and not written yet */
    int64_t written_us; /* when bytes went out last, or began to wait */
    size_t lost;        /* lines, or pieces of a command's output */
    int verbosity;
    bool json;
    bool terminal;
    bool drawn;     /* a progress line stands on the terminal */
    bool open_line; /* a command's output has not ended its line: do not draw into it */
} log_state = {.mutex = PTHREAD_MUTEX_INITIALIZER,
               .queued = PTHREAD_COND_INITIALIZER,
               .written = PTHREAD_COND_INITIALIZER,
               .verbosity = LOG_INFO};

static void log_put(struct text *line);

/* ---- The writer */

static void log_write(const char *p, size_t n)
{
    while (n > 0) {
        ssize_t wrote = write(STDERR_FILENO, p, n);
        if (wrote < 0 && errno == EAGAIN) { /* someone made the shared stderr non-blocking */
            struct pollfd fd = {.fd = STDERR_FILENO, .events = POLLOUT};
            poll(&fd, 1, 1000);
        } else if (wrote < 0 && errno != EINTR) {
            return;
        } else if (wrote > 0) {
            p += wrote;
            n -= (size_t)wrote;
            pthread_mutex_lock(&log_state.mutex);
            log_state.written_us = cli_now_us(CLOCK_MONOTONIC);
            pthread_mutex_unlock(&log_state.mutex);
        }
    }
}

static void *log_main(void *arg)
{
    struct text out = {0};
    (void)arg;
    pthread_mutex_lock(&log_state.mutex);
    for (;;) {
        while (log_state.queue.n == 0 && log_state.lost == 0)
            pthread_cond_wait(&log_state.queued, &log_state.mutex);
        struct text queue = log_state.queue;
        log_state.queue = out;
        log_state.queue.n = 0;
        out = queue;
        if (log_state.lost > 0) {
            char lost[100];
            snprintf(lost, sizeof lost,
                     log_state.json ? "{\"level\":\"warn\",\"message\":\"%zu lines lost\"}\n"
                                    : "%zu lines lost: nobody read them\n",
                     log_state.lost);
            text_str(&out, lost);
            log_state.lost = 0;
        }
        log_state.writing = true;
        pthread_mutex_unlock(&log_state.mutex);
        log_write(out.p, out.n);
        pthread_mutex_lock(&log_state.mutex);
        log_state.writing = false;
        pthread_cond_broadcast(&log_state.written);
    }
    return NULL;
}

/* With the lock held. */
static bool log_waits(void)
{
    return log_state.queue.n > 0 || log_state.writing;
}

/* Likewise. */
static void log_queue(const char *p, size_t n)
{
    if (log_state.queue.n + n > LOG_QUEUE) {
        log_state.lost++;
        return;
    }
    if (!log_waits())
        log_state.written_us = cli_now_us(CLOCK_MONOTONIC);
    text_add(&log_state.queue, p, n);
    pthread_cond_signal(&log_state.queued);
}

bool log_full(void)
{
    pthread_mutex_lock(&log_state.mutex);
    const bool full = log_state.queue.n > LOG_QUEUE / 2 &&
                      cli_now_us(CLOCK_MONOTONIC) - log_state.written_us < LOG_STUCK_US;
    pthread_mutex_unlock(&log_state.mutex);
    return full;
}

void log_end(void)
{
    pthread_mutex_lock(&log_state.mutex);
    while (log_waits() && cli_now_us(CLOCK_MONOTONIC) - log_state.written_us < LOG_STUCK_US) {
        struct timespec until;
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_nsec += 100000000;
        until.tv_sec += until.tv_nsec / 1000000000;
        until.tv_nsec %= 1000000000;
        pthread_cond_timedwait(&log_state.written, &log_state.mutex, &until);
    }
    pthread_mutex_unlock(&log_state.mutex);
}

/* ---- Lines */

/* What cli_complain would print, through the queue. */
static void log_complaint(const char *message)
{
    if (log_state.json) {
        log_line(LOG_ERROR, "%s", message);
        return;
    }
    struct text line = {0};
    text_str(&line, "nanoq ");
    text_str(&line, cli.command ? cli.command : "");
    text_str(&line, ": ");
    text_safe(&line, message, strlen(message));
    log_put(&line);
}

bool log_start(int verbosity, bool json)
{
    pthread_t thread;
    log_state.verbosity = verbosity;
    log_state.json = json;
    log_state.terminal = verbosity > 0 && !json && cli_fancy(stderr);
    const int failed = cli_thread(&thread, log_main, NULL);
    if (failed == 0) {
        pthread_detach(thread);
        cli.complain = log_complaint;
    }
    return log_state.terminal;
}

static void log_clear(void)
{
    if (log_state.drawn) {
        log_queue("\r\033[K", 4);
        log_state.drawn = false;
    }
}

void log_stop(void)
{
    pthread_mutex_lock(&log_state.mutex);
    log_clear();
    log_state.terminal = false;
    pthread_mutex_unlock(&log_state.mutex);
}

/* Write a whole line of ours, and free it. */
static void log_put(struct text *line)
{
    text_str(line, "\n");
    pthread_mutex_lock(&log_state.mutex);
    log_clear();
    if (log_state.open_line) {
        log_queue("\n", 1);
        log_state.open_line = false;
    }
    log_queue(line->p, line->n);
    pthread_mutex_unlock(&log_state.mutex);
    text_free(line);
}

static void log_time(struct text *t)
{
    char when[28];
    nq_format_time(cli_now_us(CLOCK_REALTIME), when);
    text_add(t, when, strnlen(when, 23)); /* milliseconds do */
    text_str(t, "Z");
}

static void log_member(struct text *t, const char *name, const char *value)
{
    if (value) {
        text_str(t, ",\"");
        text_str(t, name);
        text_str(t, "\":");
        text_json(t, value, strlen(value));
    }
}

static void log_json(struct text *t, const struct log_event *e, const char *message, size_t n)
{
    static const char *const levels[] = {"error", "warn", "info", "debug"};
    text_str(t, "{\"time\":\"");
    log_time(t);
    text_str(t, "\"");
    log_member(t, "level", levels[e->level - LOG_ERROR]);
    log_member(t, "from", e->from);
    if (e->task) {
        text_str(t, ",\"task\":");
        text_int(t, e->task->id);
        log_member(t, "type", e->task->type);
        log_member(t, "queue", e->task->queue);
        if (e->task->group)
            log_member(t, "group", e->task->group);
        const char *trace = nq_task_header(e->task, "traceparent");
        if (trace)
            log_member(t, "traceparent", trace);
        text_str(t, ",\"attempt\":");
        text_int(t, e->task->attempt);
    }
    if (e->took_us >= 0) {
        char seconds[32];
        snprintf(seconds, sizeof seconds, ",\"duration\":%.6f", (double)e->took_us / 1e6);
        text_str(t, seconds);
    }
    log_member(t, "verdict", e->verdict);
    log_member(t, "error", e->error);
    text_str(t, ",\"message\":");
    text_json(t, message, n);
    text_str(t, "}");
}

static void log_event(const struct log_event *e, const char *fmt, va_list args) NQ_PRINTF(2, 0);

static void log_event(const struct log_event *e, const char *fmt, va_list args)
{
    char *message = NULL;
    struct text line = {0};
    if (e->level > log_state.verbosity)
        return;
    int n = vasprintf(&message, fmt, args);
    if (n < 0)
        return;
    if (log_state.json) {
        log_json(&line, e, message, (size_t)n);
    } else {
        log_time(&line);
        text_str(&line, " ");
        if (e->task) {
            text_str(&line, "task ");
            text_int(&line, e->task->id);
            text_str(&line, " ");
            text_safe(&line, e->task->type, strlen(e->task->type));
            text_str(&line, ": ");
        }
        text_safe(&line, message, (size_t)n);
    }
    log_put(&line);
    free(message);
}

void log_line(int level, const char *fmt, ...)
{
    const struct log_event e = {.level = level, .took_us = -1};
    va_list args;
    va_start(args, fmt);
    log_event(&e, fmt, args);
    va_end(args);
}

void log_task(const struct log_event *e, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    log_event(e, fmt, args);
    va_end(args);
}

void log_output_end(struct log_output *o, const nq_task *task)
{
    const struct log_event e = {.level = LOG_INFO, .task = task, .took_us = -1, .from = "stderr"};
    struct text line = {0};
    if (o->line.n > 0) {
        log_json(&line, &e, o->line.p, o->line.n);
        log_put(&line);
    }
    text_free(&o->line);
}

void log_output(struct log_output *o, const nq_task *task, const char *p, size_t n)
{
    if (!log_state.json) {
        pthread_mutex_lock(&log_state.mutex);
        log_clear();
        log_queue(p, n);
        log_state.open_line = n > 0 && p[n - 1] != '\n';
        pthread_mutex_unlock(&log_state.mutex);
        return;
    }
    while (n > 0) {
        const char *end = memchr(p, '\n', n);
        size_t part = end ? (size_t)(end - p) : n;
        part = part < LOG_OUTPUT_LINE - o->line.n ? part : LOG_OUTPUT_LINE - o->line.n;
        text_add(&o->line, p, part);
        p += part;
        n -= part;
        bool ended = n > 0 && *p == '\n';
        if (ended || o->line.n == LOG_OUTPUT_LINE)
            log_output_end(o, task);
        p += ended;
        n -= ended;
    }
}

void log_progress(const char *text)
{
    pthread_mutex_lock(&log_state.mutex);
    if (log_state.terminal && !log_state.open_line && !log_waits()) {
        struct winsize size;
        const bool known = ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 1;
        const size_t n = strlen(text), width = known ? (size_t)size.ws_col - 1 : 79;
        log_queue("\r\033[K", 4);
        log_queue(text,
                  n < width ? n : width); /* plain ASCII; one that wraps could not be taken away again */
        log_state.drawn = true;
    }
    pthread_mutex_unlock(&log_state.mutex);
}
