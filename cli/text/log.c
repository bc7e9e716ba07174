/* SPDX-License-Identifier: MIT */
/* nanoq work's stderr, shared by many threads. */
#include "log.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <time.h>
#include <unistd.h>

#include "../cli.h"

#define LOG_OUTPUT_LINE 8192 /* JSON: longer lines of a command come in pieces */

static struct {
    pthread_mutex_t mutex; /* guards what follows, and stderr; held while writing, so that lines stay whole */
    int verbosity;
    bool json;
    bool terminal;
    bool drawn;     /* a progress line stands on the terminal */
    bool open_line; /* a command's output has not ended its line: do not draw into it */
} log_state = {.mutex = PTHREAD_MUTEX_INITIALIZER, .verbosity = LOG_INFO};

/* What cli_complain would print, for people who parse the log. */
static void log_complaint(const char *message)
{
    log_line(LOG_ERROR, "%s", message);
}

bool log_start(int verbosity, bool json)
{
    log_state.verbosity = verbosity;
    log_state.json = json;
    log_state.terminal = verbosity > 0 && !json && cli_fancy(stderr);
    cli.complain = json ? log_complaint : NULL;
    return log_state.terminal;
}

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
        }
    }
}

static void log_clear(void)
{
    if (log_state.drawn) {
        log_write("\r\033[K", 4);
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
        log_write("\n", 1);
        log_state.open_line = false;
    }
    log_write(line->p, line->n);
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
    if (value != NULL) {
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
    if (e->task != NULL) {
        text_str(t, ",\"task\":");
        text_int(t, e->task->id);
        log_member(t, "type", e->task->type);
        log_member(t, "queue", e->task->queue);
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
    if (e->level > log_state.verbosity) {
        return;
    }
    int n = vasprintf(&message, fmt, args);
    if (n < 0) {
        return;
    }
    if (log_state.json) {
        log_json(&line, e, message, (size_t)n);
    } else {
        log_time(&line);
        text_str(&line, " ");
        if (e->task != NULL) {
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
        log_write(p, n);
        log_state.open_line = n > 0 && p[n - 1] != '\n';
        pthread_mutex_unlock(&log_state.mutex);
        return;
    }
    while (n > 0) {
        const char *end = memchr(p, '\n', n);
        size_t part = end != NULL ? (size_t)(end - p) : n;
        part = part < LOG_OUTPUT_LINE - o->line.n ? part : LOG_OUTPUT_LINE - o->line.n;
        text_add(&o->line, p, part);
        p += part;
        n -= part;
        bool ended = n > 0 && *p == '\n';
        if (ended || o->line.n == LOG_OUTPUT_LINE) {
            log_output_end(o, task);
        }
        p += ended;
        n -= ended;
    }
}

void log_progress(const char *text)
{
    pthread_mutex_lock(&log_state.mutex);
    if (log_state.terminal && !log_state.open_line) {
        log_write("\r\033[K", 4);
        log_write(text, strlen(text));
        log_state.drawn = true;
    }
    pthread_mutex_unlock(&log_state.mutex);
}
