/* SPDX-License-Identifier: MIT */
/* One long-lived process: its pipes, read and written without ever waiting for one of them alone, and its
 * end. */
#include <errno.h>
#include <poll.h>
#include <time.h>
#include <unistd.h>

#include "stream.h"

#define CHILD_CHUNK ((size_t)16 << 10)
#define CHILD_TURN  ((size_t)64 << 10)  /* most bytes of stderr passed on at once: others wait for us */
#define CHILD_KEPT  ((size_t)256 << 10) /* larger room for a task is given back after it */
#define CHILD_EOF_US                                                                                         \
    NQ_SECONDS(2) /* so long, or the grace if that is less, it may take to see the end of its stdin */

void stream_send(struct stream_child *c)
{
    while (c->process.in >= 0 && c->sent < c->to.n) {
        ssize_t n = write(c->process.in, c->to.p + c->sent, c->to.n - c->sent);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            return;
        if (n < 0) { /* EPIPE: it listens no more; it may still answer */
            spawn_close(&c->process.in);
            return;
        }
        c->sent += (size_t)n;
    }
    c->to.n = c->sent = 0;
    if (c->to.cap > CHILD_KEPT)
        text_free(&c->to);
}

/* A complete line among what was read, its end not counted. */
static enum stream_got child_line(struct stream_child *c, const char **line, size_t *n)
{
    const char *end = c->from.n > c->seen ? memchr(c->from.p + c->seen, '\n', c->from.n - c->seen) : NULL;
    size_t size = end ? (size_t)(end - c->from.p) : c->from.n;
    if (size >= STREAM_LINE)
        return STREAM_TOO_LONG;
    c->seen = size;
    if (!end)
        return STREAM_NOTHING;
    *line = c->from.p;
    *n = size > 0 && c->from.p[size - 1] == '\r' ? size - 1 : size;
    return STREAM_LINE_READ;
}

enum stream_got stream_line(struct stream_child *c, const char **line, size_t *n)
{
    if (c->from.n > c->seen && c->from.p[c->seen] == '\n') { /* the line given out last */
        c->seen++;
        c->from.n -= c->seen;
        memmove(c->from.p, c->from.p + c->seen, c->from.n);
        c->seen = 0;
    }
    for (;;) {
        enum stream_got got = child_line(c, line, n);
        if (got != STREAM_NOTHING)
            return got;
        if (c->process.out < 0)
            return STREAM_END;
        char chunk[CHILD_CHUNK];
        ssize_t size = read(c->process.out, chunk, sizeof chunk);
        if (size > 0)
            text_add(&c->from, chunk, (size_t)size);
        else if (size == 0)
            spawn_close(&c->process.out);
        else if (errno != EINTR)
            return STREAM_NOTHING;
    }
}

void stream_hear(struct stream_child *c, const nq_task *task, struct keep *kept)
{
    char chunk[CHILD_CHUNK];
    for (size_t heard = 0; c->process.err >= 0 && heard < CHILD_TURN && !log_full();) {
        ssize_t n = read(c->process.err, chunk, sizeof chunk);
        if (n > 0) {
            log_output(&c->log, task, chunk, (size_t)n);
            if (kept)
                keep_output(kept, chunk, (size_t)n);
            nq_tail_add(&c->tail, chunk, (size_t)n);
            heard += (size_t)n;
        } else if (n == 0) {
            spawn_close(&c->process.err);
        } else if (errno != EINTR) {
            return;
        }
    }
}

/* What it still says once nobody asks. */
static void child_discard(struct stream_child *c)
{
    char chunk[CHILD_CHUNK];
    ssize_t n = read(c->process.out, chunk, sizeof chunk);
    if (n == 0)
        spawn_close(&c->process.out);
}

bool stream_await(struct stream_child *c, int64_t until_us)
{
    for (;;) {
        int64_t left = until_us - cli_now_us(CLOCK_MONOTONIC);
        const bool full = log_full();
        left = full && left > NQ_MS(100) ? NQ_MS(100) : left;
        struct pollfd fds[] = {{.fd = c->process.control, .events = POLLIN},
                               {.fd = c->process.out, .events = POLLIN},
                               {.fd = full ? -1 : c->process.err, .events = POLLIN}};
        int ready = poll(fds, 3, left <= 0 ? 0 : (int)(left / 1000 > 60000 ? 60000 : left / 1000 + 1));
        if (ready > 0 && fds[1].revents != 0)
            child_discard(c);
        if (ready > 0 && fds[2].revents != 0)
            stream_hear(c, NULL, NULL);
        if (ready > 0 && fds[0].revents != 0)
            return true;
        if (until_us <= cli_now_us(CLOCK_MONOTONIC))
            return false;
    }
}

/* Ask it to end, by the end of its stdin and then by signals; as the calls go on, more and more firmly. */
static int64_t child_asked(const struct spawn_command *command, struct stream_child *c, bool stopped)
{
    if (c->process.in >= 0 && !stopped) {
        spawn_close(&c->process.in);
        return cli_now_us(CLOCK_MONOTONIC) +
               (command->grace_us < CHILD_EOF_US ? command->grace_us : CHILD_EOF_US);
    }
    spawn_close(&c->process.in);
    spawn_stop(command, &c->process);
    return nq_ladder_next(&c->process.ladder);
}

static nq_ending child_reap(struct stream_child *c)
{
    stream_hear(c, NULL, NULL);
    log_output_end(&c->log, NULL);
    return spawn_reap(&c->process);
}

nq_ending stream_retire(const struct spawn_command *command, struct stream_child *c, bool stopped)
{
    int64_t until = child_asked(command, c, stopped);
    while (until != INT64_MAX && !stream_await(c, until))
        until = child_asked(command, c, stopped);
    return child_reap(c);
}

void stream_retire_all(const struct spawn_command *command, struct stream_child *list)
{
    /* In step: many that ignore the end of their stdin take no longer than one. */
    for (bool again = true; again;) {
        again = false;
        for (struct stream_child *c = list; c; c = c->next)
            c->until_us = child_asked(command, c, false);
        for (struct stream_child *c = list; c; c = c->next)
            again = (c->until_us != INT64_MAX && !stream_await(c, c->until_us)) || again;
    }
    while (list) {
        struct stream_child *c = list;
        list = c->next;
        child_reap(c);
        stream_child_free(c);
    }
}

void stream_child_free(struct stream_child *c)
{
    text_free(&c->to);
    text_free(&c->from);
    free(c);
}
