/* SPDX-License-Identifier: MIT */
/* nanoq work's stderr, shared by many threads. */
#include "log.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <time.h>
#include <unistd.h>

#include "cli.h"
#include "text.h"

static struct {
    pthread_mutex_t mutex; /* guards what follows, and stderr; held while writing, so that lines stay whole */
    int verbosity;
    bool terminal;
    bool drawn;     /* a progress line stands on the terminal */
    bool open_line; /* a command's output has not ended its line: do not draw into it */
} log_state = {.mutex = PTHREAD_MUTEX_INITIALIZER, .verbosity = 1};

bool log_start(int verbosity)
{
    log_state.verbosity = verbosity;
    log_state.terminal = verbosity > 0 && cli_fancy(stderr);
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

void log_line(int level, const char *fmt, ...)
{
    char when[28];
    char *message = NULL;
    va_list args;
    if (level > log_state.verbosity) {
        return;
    }
    va_start(args, fmt);
    int n = vasprintf(&message, fmt, args);
    va_end(args);
    if (n < 0) {
        return;
    }
    struct text line = {0};
    nq_format_time(cli_now_us(CLOCK_REALTIME), when);
    text_add(&line, when, strnlen(when, 23)); /* milliseconds do */
    text_str(&line, "Z ");
    text_safe(&line, message, (size_t)n);
    text_str(&line, "\n");
    pthread_mutex_lock(&log_state.mutex);
    log_clear();
    if (log_state.open_line) {
        log_write("\n", 1);
        log_state.open_line = false;
    }
    log_write(line.p, line.n);
    pthread_mutex_unlock(&log_state.mutex);
    text_free(&line);
    free(message);
}

void log_raw(const char *p, size_t n)
{
    pthread_mutex_lock(&log_state.mutex);
    log_clear();
    log_write(p, n);
    log_state.open_line = n > 0 && p[n - 1] != '\n';
    pthread_mutex_unlock(&log_state.mutex);
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
