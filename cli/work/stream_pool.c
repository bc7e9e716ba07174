/* SPDX-License-Identifier: MIT */
/* The children of nanoq work --stream: idle ones, new ones, and a pause when they die at once. */
#include <poll.h>
#include <pthread.h>
#include <time.h>
#include <unistd.h>

#include "stream.h"
#include "work.h"

#define POOL_LOOK_MS 500 /* how often idle children are looked at */
#define POOL_LINES   64  /* of an idle child, read in one go */

struct pool_request {
    struct pool_request *next;
    struct stream_child *child;
    int error;
    bool done;
};

/*
 * The thread starts all children, so that one that takes long to start holds up no handler's lock, and looks
 * after idle ones.
 *
 * LOCK: one, stream.mutex, which guards what stands below it. It is not held while a child is started or
 * retired, nor together with a lock of another file but the log's.
 */
struct stream {
    const struct spawn_command *command;
    unsigned max_tasks;
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t asked, done; /* for the thread; for those that wait for it */
    struct stream_child *idle;  /* the last used first: the others may be swapped out */
    struct pool_request *requests;
    bool ending;
    struct gate
        gate; /* starts that failed, and children that ended before they finished a task; its own lock */
};

/* Of an idle child: pass on what it says. False: it has ended, or said what only one with a task may say. */
static bool pool_sound(struct stream_child *c)
{
    struct stream_answer a;
    char why[STREAM_WHY];
    const char *line;
    size_t n;
    enum stream_got got = STREAM_NOTHING;
    struct pollfd fds[] = {{.fd = c->process.control, .events = POLLIN},
                           {.fd = c->process.out, .events = POLLIN},
                           {.fd = c->process.err, .events = POLLIN}};
    /* What stands behind the answer to its last task was read with it. */
    const bool more = c->from.n > c->seen + 1;
    if (poll(fds, 3, 0) <= 0 && !more)
        return true;
    stream_hear(c, NULL, NULL);
    for (unsigned i = 0; i < POOL_LINES && (more || fds[1].revents != 0) &&
                         (got = stream_line(c, &line, &n)) == STREAM_LINE_READ;
         i++) {
        if (!stream_parse(line, n, &a, why)) {
            log_line(LOG_WARN, "child %d broke the protocol while it had no task: %s", (int)c->process.pid,
                     why);
            return false;
        }
        if (a.verb != STREAM_LOG) {
            log_line(LOG_WARN,
                     "child %d broke the protocol: it answers without a task; only log is allowed then",
                     (int)c->process.pid);
            stream_answer_free(&a);
            return false;
        }
        log_task(&(struct log_event){.level = a.level, .took_us = -1, .from = "child"}, "%s", a.text);
        stream_answer_free(&a);
    }
    if (got == STREAM_TOO_LONG) {
        log_line(LOG_WARN, "child %d broke the protocol: it wrote a line of more than %zu bytes",
                 (int)c->process.pid, STREAM_LINE);
    }
    /* A line was read last: there may be more, another time. */
    return (got == STREAM_NOTHING || got == STREAM_LINE_READ) && fds[0].revents == 0;
}

/* Take those that are no good out of the idle. */
static struct stream_child *pool_sift(struct stream *s)
{
    struct stream_child *bad = NULL, **at = &s->idle;
    while (*at) {
        struct stream_child *c = *at;
        if (pool_sound(c)) {
            at = &c->next;
            continue;
        }
        *at = c->next;
        c->next = bad;
        bad = c;
    }
    return bad;
}

static void pool_serve(struct stream *s, struct pool_request *r)
{
    static char version[] = "NANOQ_STREAM=1";
    char *const own[] = {version, NULL};
    struct stream_child *c = cli_alloc(sizeof *c);
    int error = spawn_start(s->command, own, true, &c->process);
    if (error != 0) {
        stream_child_free(c);
        c = NULL;
    }
    pthread_mutex_lock(&s->mutex);
    r->child = c;
    r->error = error;
    r->done = true;
    pthread_cond_broadcast(&s->done);
    pthread_mutex_unlock(&s->mutex);
}

/* It has no task that it could still finish. */
static void pool_drop(struct stream *s, struct stream_child *c)
{
    spawn_kill(&c->process);
    stream_lose(s, c, false, true);
}

static void *pool_main(void *arg)
{
    struct stream *s = arg;
    pthread_mutex_lock(&s->mutex);
    while (!s->ending) {
        struct pool_request *r = s->requests;
        struct stream_child *bad = NULL;
        struct timespec until;
        if (r)
            s->requests = r->next;
        else
            bad = pool_sift(s);
        if (!r && !bad) {
            int64_t us = cli_now_us(CLOCK_MONOTONIC) + NQ_MS(POOL_LOOK_MS);
            until.tv_sec = us / 1000000;
            until.tv_nsec = us % 1000000 * 1000;
            if (s->idle)
                pthread_cond_timedwait(&s->asked, &s->mutex, &until);
            else
                pthread_cond_wait(&s->asked, &s->mutex);
            continue;
        }
        pthread_mutex_unlock(&s->mutex);
        if (r)
            pool_serve(s, r);
        while (bad) {
            struct stream_child *next = bad->next;
            pool_drop(s, bad);
            bad = next;
        }
        pthread_mutex_lock(&s->mutex);
    }
    pthread_mutex_unlock(&s->mutex);
    return NULL;
}

struct stream *stream_new(const struct spawn_command *command, unsigned max_tasks)
{
    struct stream *s = cli_alloc(sizeof *s);
    pthread_condattr_t clock;
    char buf[128];
    s->command = command;
    s->max_tasks = max_tasks;
    pthread_mutex_init(&s->mutex, NULL);
    pthread_mutex_init(&s->gate.mutex, NULL);
    pthread_condattr_init(&clock);
    pthread_condattr_setclock(&clock, CLOCK_MONOTONIC);
    pthread_cond_init(&s->asked, &clock);
    pthread_cond_init(&s->done, &clock);
    pthread_condattr_destroy(&clock);
    const int failed = cli_thread(&s->thread, pool_main, s);
    if (failed != 0) {
        cli_complain("cannot start a thread: %s", strerror_r(failed, buf, sizeof buf));
        free(s);
        return NULL;
    }
    return s;
}

const struct spawn_command *stream_command(const struct stream *s)
{
    return s->command;
}

static void pool_failed(struct stream *s, const char *how)
{
    unsigned failures;
    const int64_t pause = gate_failed(&s->gate, &failures);
    if (failures > 1)
        log_line(LOG_WARN,
                 "%u children in a row ended before they finished a task (the last: %s); the next one starts "
                 "in %.1f s",
                 failures, how, (double)pause / 1e6);
}

/* With the lock held, which is let go meanwhile. */
static struct stream_child *pool_start(struct stream *s, char why[STREAM_WHY])
{
    unsigned failures;
    struct pool_request r = {0}, **at = &s->requests;
    while (*at)
        at = &(*at)->next;
    *at = &r;
    pthread_cond_signal(&s->asked);
    while (!r.done)
        pthread_cond_wait(&s->done, &s->mutex);
    if (!r.child) {
        spawn_why(s->command, r.error, why, STREAM_WHY);
        const int64_t pause = gate_failed(&s->gate, &failures);
        work_not_started(why, failures, pause);
    }
    return r.child;
}

struct stream_child *stream_take(struct stream *s, nq_ctx *ctx, char why[STREAM_WHY])
{
    pthread_mutex_lock(&s->mutex);
    for (;;) {
        struct stream_child *c = s->idle;
        if (c) {
            s->idle = c->next;
            if (!pool_sound(c)) {
                pthread_mutex_unlock(&s->mutex);
                pool_drop(s, c);
                pthread_mutex_lock(&s->mutex);
                continue;
            }
        } else {
            pthread_mutex_unlock(&s->mutex);
            if (!gate_wait(&s->gate, ctx))
                return NULL;
            pthread_mutex_lock(&s->mutex);
            if (s->idle)
                continue;
            c = pool_start(s, why);
        }
        pthread_mutex_unlock(&s->mutex);
        return c;
    }
}

void stream_give(struct stream *s, struct stream_child *c, unsigned n)
{
    c->tasks += n;
    gate_passed(&s->gate);
    pthread_mutex_lock(&s->mutex);
    bool keep = s->max_tasks == 0 || c->tasks < s->max_tasks;
    if (keep) {
        c->next = s->idle;
        s->idle = c;
        if (!c->next)
            pthread_cond_signal(&s->asked); /* the thread looks from time to time again */
    }
    pthread_mutex_unlock(&s->mutex);
    if (!keep)
        stream_lose(s, c, false, false);
}

nq_ending stream_lose(struct stream *s, struct stream_child *c, bool blame, bool stopped)
{
    char how[NQ_ENDING_WORDS];
    const nq_ending end = stream_retire(s->command, c, stopped);
    nq_ending_words(&end, false, how);
    log_line(LOG_DEBUG, "child %d ended after %u tasks: %s", (int)c->process.pid, c->tasks, how);
    if (blame)
        pool_failed(s, how);
    stream_child_free(c);
    return end;
}

void stream_free(struct stream *s)
{
    if (!s)
        return;
    pthread_mutex_lock(&s->mutex);
    struct stream_child *left = s->idle;
    s->idle = NULL;
    pthread_mutex_unlock(&s->mutex);
    stream_retire_all(s->command, left);
    pthread_mutex_lock(&s->mutex);
    s->ending = true;
    pthread_cond_signal(&s->asked);
    pthread_mutex_unlock(&s->mutex);
    pthread_join(s->thread, NULL);
    pthread_mutex_destroy(&s->mutex);
    pthread_mutex_destroy(&s->gate.mutex);
    pthread_cond_destroy(&s->asked);
    pthread_cond_destroy(&s->done);
    free(s);
}
