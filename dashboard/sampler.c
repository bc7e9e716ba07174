/* SPDX-License-Identifier: MIT */
/* One thread that looks at the queues once a second for all browsers, while there are any. */
#include <pthread.h>
#include <time.h>

#include "dash.h"

#define SAMPLER_EVERY NQ_SECONDS(1)
#define SAMPLER_SHARE                                                                                        \
    10 /* a look that takes long comes the more seldom: it has a tenth of the time at most */
#define SAMPLER_DOWN   NQ_SECONDS(5)
#define SAMPLER_DEPTHS 1440 /* minutes that are remembered */

static struct {
    pthread_mutex_t mutex;
    pthread_cond_t change;
    pthread_t thread;
    int viewers;
    bool stop;
    struct sample *newest;
    struct sample_depth depths[SAMPLER_DEPTHS];
} sampler = {.mutex = PTHREAD_MUTEX_INITIALIZER};

void sample_free(struct sample *s)
{
    if (s && atomic_fetch_sub(&s->refs, 1) == 1)
        free(s);
}

static void sampler_publish(const char *event, const struct out *j)
{
    struct text whole = {0};
    text_str(&whole, event);
    text_add(&whole, j->text.p, j->text.n);
    text_str(&whole, "\n\n");
    struct sample *s = cli_alloc(sizeof *s + whole.n);
    atomic_init(&s->refs, 1);
    s->n = whole.n;
    s->made_us = dash_clock_us();
    memcpy(s->text, whole.p, whole.n);
    text_free(&whole);
    pthread_mutex_lock(&sampler.mutex);
    s->number = sampler.newest ? sampler.newest->number + 1 : 1;
    struct sample *old = sampler.newest;
    sampler.newest = s;
    pthread_mutex_unlock(&sampler.mutex);
    sample_free(old);
    dash_wake();
}

struct sample *sampler_newest(uint64_t number)
{
    struct sample *s = NULL;
    pthread_mutex_lock(&sampler.mutex);
    /* What was seen before the last viewer left is no news to the next. */
    if (sampler.newest && sampler.newest->number > number &&
        dash_clock_us() - sampler.newest->made_us < 2 * SAMPLER_DOWN) {
        s = sampler.newest;
        atomic_fetch_add(&s->refs, 1);
    }
    pthread_mutex_unlock(&sampler.mutex);
    return s;
}

/* ---- One look ---- */

struct sampler_queue {
    char name[NQ_MAX_QUEUE + 1];
    uint64_t due, delayed, running, done, dead, cancelled, groups;
    int64_t oldest_due_us;
    bool paused, capped; /* capped: some numbers are at least so large */
};
#define SAMPLER_QUEUES 200 /* those that a sample shows; the sums have all */
struct sampler_look {
    struct sampler_queue queues[SAMPLER_QUEUES];
    size_t n;
    struct sampler_queue sum;
    unsigned workers, running, concurrency;
    uint64_t done, retried, dead;
    double seconds;
};

static int sampler_stats(const nq_queue_stats *s, void *udata)
{
    struct sampler_look *l = udata;
    struct sampler_queue one = {.due = s->due,
                                .delayed = s->delayed,
                                .running = s->running,
                                .done = s->done,
                                .dead = s->dead,
                                .cancelled = s->cancelled,
                                .groups = s->groups,
                                .oldest_due_us = s->due ? s->oldest_due_us : 0};
    snprintf(one.name, sizeof one.name, "%s", s->queue);
    one.capped = s->capped != 0;
    l->sum.capped = l->sum.capped || one.capped;
    l->sum.due += one.due;
    l->sum.delayed += one.delayed;
    l->sum.running += one.running;
    l->sum.done += one.done;
    l->sum.dead += one.dead;
    l->sum.cancelled += one.cancelled;
    if (one.oldest_due_us > l->sum.oldest_due_us)
        l->sum.oldest_due_us = one.oldest_due_us;
    if (l->n < SAMPLER_QUEUES)
        l->queues[l->n++] = one;
    return 0;
}

static int sampler_paused(const nq_queue_row *row, void *udata)
{
    struct sampler_look *l = udata;
    for (size_t i = 0; i < l->n && row->paused && !row->type[0]; i++)
        if (strcmp(l->queues[i].name, row->name) == 0)
            l->queues[i].paused = true;
    return 0;
}

static int sampler_worker(const nq_worker_row *row, void *udata)
{
    struct sampler_look *l = udata;
    if (row->beat_ago_us > NQ_WORKER_SILENT_US)
        return 0;
    l->workers++;
    l->running += row->running;
    l->concurrency += row->concurrency;
    return 0;
}

static int sampler_minute(const nq_figures *f, void *udata)
{
    struct sampler_look *l = udata;
    l->done += f->done;
    l->retried += f->retried;
    l->dead += f->dead;
    l->seconds = (double)(f->until_us - f->since_us) / 1e6;
    return 0;
}

static void sampler_counts(struct out *j, const struct sampler_queue *q)
{
    out_int(out_key(j, "due"), (int64_t)q->due);
    out_int(out_key(j, "delayed"), (int64_t)q->delayed);
    out_int(out_key(j, "running"), (int64_t)q->running);
    out_int(out_key(j, "done"), (int64_t)q->done);
    out_int(out_key(j, "dead"), (int64_t)q->dead);
    out_int(out_key(j, "cancelled"), (int64_t)q->cancelled);
    if (q->due > 0)
        out_duration(out_key(j, "oldest_due"), q->oldest_due_us);
    else
        out_null(out_key(j, "oldest_due"));
}

static void sampler_write(struct out *j, const struct sampler_look *l)
{
    out_time(out_key(j, "now"), cli_now_us(CLOCK_REALTIME));
    out_bool(out_key(j, "up"), true);
    out_open(out_key(j, "totals"), '{');
    sampler_counts(j, &l->sum);
    out_close(j, '}');
    out_open(out_key(j, "queues"), '[');
    for (size_t i = 0; i < l->n; i++) {
        out_open(j, '{');
        out_str(out_key(j, "queue"), l->queues[i].name);
        sampler_counts(j, &l->queues[i]);
        out_int(out_key(j, "groups"), (int64_t)l->queues[i].groups);
        out_bool(out_key(j, "paused"), l->queues[i].paused);
        out_bool(out_key(j, "capped"), l->queues[i].capped);
        out_close(j, '}');
    }
    out_close(j, ']');
    out_open(out_key(j, "workers"), '{');
    out_int(out_key(j, "n"), l->workers);
    out_int(out_key(j, "running"), l->running);
    out_int(out_key(j, "concurrency"), l->concurrency);
    out_close(j, '}');
    const double seconds = l->seconds > 0 ? l->seconds : 1;
    out_open(out_key(j, "rates"), '{');
    out_real(out_key(j, "done"), (double)l->done / seconds);
    out_real(out_key(j, "retried"), (double)l->retried / seconds);
    out_real(out_key(j, "dead"), (double)l->dead / seconds);
    out_close(j, '}');
    out_bool(out_key(j, "capped"), l->sum.capped);
}

static void sampler_remember(const struct sampler_look *l)
{
    const int64_t minute = cli_now_us(CLOCK_REALTIME) / NQ_MINUTES(1);
    pthread_mutex_lock(&sampler.mutex);
    sampler.depths[minute % SAMPLER_DEPTHS] = (struct sample_depth){.minute = minute,
                                                                    .due = (int64_t)l->sum.due,
                                                                    .running = (int64_t)l->sum.running,
                                                                    .oldest_due_us = l->sum.oldest_due_us};
    pthread_mutex_unlock(&sampler.mutex);
}

bool sampler_depth(int64_t at_us, int64_t step_us, struct sample_depth *out)
{
    bool found = false;
    pthread_mutex_lock(&sampler.mutex);
    /* By a host's clock that stands at 1970 the database's times may be before that. */
    const int64_t first = at_us > 0 ? at_us / NQ_MINUTES(1) : 0;
    for (int64_t m = (at_us + step_us - 1) / NQ_MINUTES(1); m >= first && !found; m--) {
        *out = sampler.depths[m % SAMPLER_DEPTHS];
        found = out->minute == m;
    }
    pthread_mutex_unlock(&sampler.mutex);
    return found;
}

int sample_read(struct out *j, nq_err *err)
{
    struct sampler_look *l = cli_alloc(sizeof *l);
    const nq_minutes_options minute = {.size = sizeof minute, .since_us = -NQ_MINUTES(1), .by = NQ_BY_QUEUE};
    int rc = nq_stats(dash.q, sampler_stats, l, err);
    if (rc == NQ_OK)
        rc = nq_queue_get(dash.q, NULL, sampler_paused, l, err);
    if (rc == NQ_OK)
        rc = nq_workers(dash.q, sampler_worker, l, err);
    if (rc == NQ_OK)
        rc = nq_minutes(dash.q, &minute, sampler_minute, l, err);
    if (rc == NQ_OK) {
        sampler_remember(l);
        sampler_write(j, l);
    }
    free(l);
    return rc;
}

/* ---- The thread ---- */

static void sampler_down(const nq_err *err, int64_t since_us)
{
    struct out j = {0};
    out_open(&j, '{');
    out_str(out_key(&j, "error"), err->message[0] ? err->message : nq_strerror(err->code));
    out_time(out_key(&j, "since"), since_us);
    out_close(&j, '}');
    sampler_publish("event: down\ndata: ", &j);
    out_free(&j);
}

/* How long to wait after a look that took so long. */
static int64_t sampler_pause(int64_t took_us)
{
    const int64_t wait = took_us * (SAMPLER_SHARE - 1);
    return wait + took_us > SAMPLER_EVERY ? wait : SAMPLER_EVERY - took_us;
}

static void sampler_wait(int64_t us)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    const int64_t ns = until.tv_nsec + us % 1000000 * 1000;
    until.tv_sec += us / 1000000 + ns / 1000000000;
    until.tv_nsec = ns % 1000000000;
    int timed = 0;
    while (!sampler.stop && timed == 0)
        timed = pthread_cond_timedwait(&sampler.change, &sampler.mutex, &until);
}

static void *sampler_run(void *arg)
{
    int64_t since = 0, told = 0;
    (void)arg;
    pthread_mutex_lock(&sampler.mutex);
    for (;;) {
        while (sampler.viewers == 0 && !sampler.stop)
            pthread_cond_wait(&sampler.change, &sampler.mutex);
        if (sampler.stop)
            break;
        pthread_mutex_unlock(&sampler.mutex);
        struct out j = {0};
        nq_err err = {0};
        const int64_t began = dash_clock_us();
        out_open(&j, '{');
        if (sample_read(&j, &err) == NQ_OK) {
            out_close(&j, '}');
            sampler_publish("event: sample\ndata: ", &j);
            since = told = 0;
        } else {
            since = since ? since : cli_now_us(CLOCK_REALTIME);
            if (told == 0 || dash_clock_us() - told >= SAMPLER_DOWN) {
                told = dash_clock_us();
                sampler_down(&err, since);
            }
        }
        out_free(&j);
        const int64_t took = dash_clock_us() - began;
        pthread_mutex_lock(&sampler.mutex);
        sampler_wait(since ? SAMPLER_EVERY : sampler_pause(took));
    }
    pthread_mutex_unlock(&sampler.mutex);
    return NULL;
}

bool sampler_start(void)
{
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&sampler.change, &attr);
    pthread_condattr_destroy(&attr);
    if (cli_thread(&sampler.thread, sampler_run, NULL) == 0)
        return true;
    cli_complain("cannot start a thread");
    return false;
}

void sampler_viewers(int change)
{
    pthread_mutex_lock(&sampler.mutex);
    sampler.viewers += change;
    pthread_cond_signal(&sampler.change);
    pthread_mutex_unlock(&sampler.mutex);
}

bool sampler_stop(void)
{
    struct timespec until;
    pthread_mutex_lock(&sampler.mutex);
    sampler.stop = true;
    pthread_cond_signal(&sampler.change);
    pthread_mutex_unlock(&sampler.mutex);
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += 5;
    if (pthread_timedjoin_np(sampler.thread, NULL, &until) != 0)
        return false;
    sample_free(sampler.newest);
    return true;
}
