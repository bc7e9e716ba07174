/* SPDX-License-Identifier: MIT */
/* The thread of nanoq top that talks to the database. */
#include <errno.h>
#include <time.h>
#include <unistd.h>

#include "top.h"

#define TOP_SHARE  5 /* of its time it reads at most one part in so many */
#define TOP_END_MS 300

struct top_reader {
    nq *q;
    int wake;
    int64_t every_us;
    pthread_t thread;
    pthread_mutex_t lock; /* of what follows; not held while the database is asked */
    pthread_cond_t cond;
    bool ended, asked;
    bool busy; /* asked for, or begun */
    enum top_verb verb;
    nq_id id;
    char queue[NQ_MAX_QUEUE + 1];
    struct top_news news;
};

static int top_reason(const nq_reason *reason, void *udata)
{
    text_safe(udata, reason->reason, strlen(reason->reason));
    text_str(udata, ": ");
    text_safe(udata, reason->detail, strlen(reason->detail));
    text_str(udata, "\n");
    return 0;
}

/* Without the lock. */
static void top_do(struct top_reader *r, enum top_verb verb, nq_id id, const char *queue, char said[512],
                   struct text *page)
{
    nq_err err = {0};
    char line[560];
    struct text safe = {0};
    int rc = NQ_OK;
    const char *done = "";
    switch (verb) {
    case TOP_PAUSE:
        rc = nq_pause(r->q, queue, NULL, &err);
        done = "paused";
        break;
    case TOP_RESUME:
        rc = nq_resume(r->q, queue, NULL, &err);
        done = "resumed";
        break;
    case TOP_CANCEL:
        rc = nq_cancel(r->q, id, &err);
        done = "cancelled, or told to stop";
        break;
    case TOP_RETRY:
        rc = nq_retry(r->q, id, &err);
        done = "waits to be run again";
        break;
    case TOP_WHY:
        rc = nq_why(r->q, id, top_reason, page, &err);
        break;
    }
    if (rc < 0)
        snprintf(line, sizeof line, "%s", err.message);
    else if (*queue)
        snprintf(line, sizeof line, "queue %s: %s", queue, done);
    else
        snprintf(line, sizeof line, "task %lld: %s", (long long)id, done);
    text_safe(&safe, line, strlen(line));
    snprintf(said, 512, "%s", safe.p);
    text_free(&safe);
}

static void top_notify(const struct top_reader *r)
{
    const ssize_t n = write(r->wake, "n", 1);
    (void)n; /* a full pipe is readable already */
}

/* With the lock held, but for the call. */
static void top_act(struct top_reader *r)
{
    const enum top_verb verb = r->verb;
    const nq_id id = r->id;
    char queue[NQ_MAX_QUEUE + 1], said[512] = "";
    struct text page = {0};
    memcpy(queue, r->queue, sizeof queue);
    r->asked = false;
    pthread_mutex_unlock(&r->lock);
    top_do(r, verb, id, queue, said, &page);
    pthread_mutex_lock(&r->lock);
    if (page.n > 0) {
        text_free(&r->news.page);
        r->news.page = page;
    } else {
        memcpy(r->news.said, said, sizeof said);
    }
    r->busy = false;
}

/* Likewise. How long to wait before the next reading. */
static int64_t top_look(struct top_reader *r)
{
    struct top_view *view = cli_alloc(sizeof *view);
    struct text safe = {0};
    nq_err err = {0};
    pthread_mutex_unlock(&r->lock);
    const int rc = top_read(r->q, view, &err);
    const int64_t took = view->took_us;
    pthread_mutex_lock(&r->lock);
    if (rc == NQ_OK) {
        top_view_free(r->news.view);
        r->news.view = view;
        r->news.error[0] = '\0';
    } else {
        top_view_free(view);
        if (!r->news.error[0])
            r->news.error_us = cli_now_us(CLOCK_MONOTONIC);
        text_safe(&safe, err.message, strlen(err.message));
        snprintf(r->news.error, sizeof r->news.error, "%s", safe.n > 0 ? safe.p : nq_strerror(rc));
        text_free(&safe);
    }
    return took * TOP_SHARE > r->every_us ? took * TOP_SHARE : r->every_us;
}

static void *top_reader_main(void *arg)
{
    struct top_reader *r = arg;
    int64_t next = 0;
    pthread_mutex_lock(&r->lock);
    while (!r->ended) {
        const int64_t now = cli_now_us(CLOCK_MONOTONIC);
        if (r->asked) {
            top_act(r);
            next = 0; /* what became of it is to be seen */
        } else if (next <= now) {
            next = now + top_look(r);
        } else {
            const struct timespec until = {.tv_sec = next / 1000000, .tv_nsec = next % 1000000 * 1000};
            pthread_cond_timedwait(&r->cond, &r->lock, &until);
            continue;
        }
        top_notify(r);
    }
    pthread_mutex_unlock(&r->lock);
    return NULL;
}

static void top_reader_free(struct top_reader *r)
{
    pthread_cond_destroy(&r->cond);
    pthread_mutex_destroy(&r->lock);
    top_view_free(r->news.view);
    text_free(&r->news.page);
    free(r);
}

struct top_reader *top_reader_start(nq *q, int wake, int64_t every_us)
{
    struct top_reader *r = cli_alloc(sizeof *r);
    pthread_condattr_t monotonic;
    r->q = q;
    r->wake = wake;
    r->every_us = every_us;
    pthread_mutex_init(&r->lock, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&r->cond, &monotonic);
    pthread_condattr_destroy(&monotonic);
    if (cli_thread(&r->thread, top_reader_main, r) == 0)
        return r;
    top_reader_free(r);
    return NULL;
}

bool top_reader_end(struct top_reader *r)
{
    const int64_t end = cli_now_us(CLOCK_REALTIME) + NQ_MS(TOP_END_MS);
    const struct timespec until = {.tv_sec = end / 1000000, .tv_nsec = end % 1000000 * 1000};
    pthread_mutex_lock(&r->lock);
    r->ended = true;
    pthread_cond_signal(&r->cond);
    pthread_mutex_unlock(&r->lock);
    if (pthread_timedjoin_np(r->thread, NULL, &until) != 0)
        return false;
    top_reader_free(r);
    return true;
}

bool top_reader_do(struct top_reader *r, enum top_verb verb, nq_id id, const char *queue)
{
    pthread_mutex_lock(&r->lock);
    const bool free_now = !r->busy;
    if (free_now) {
        r->verb = verb;
        r->id = id;
        snprintf(r->queue, sizeof r->queue, "%s", queue);
        r->asked = r->busy = true;
        pthread_cond_signal(&r->cond);
    }
    pthread_mutex_unlock(&r->lock);
    return free_now;
}

void top_reader_news(struct top_reader *r, struct top_news *out)
{
    pthread_mutex_lock(&r->lock);
    *out = r->news;
    r->news.view = NULL;
    r->news.page = (struct text){0};
    r->news.said[0] = '\0';
    pthread_mutex_unlock(&r->lock);
}
