/* SPDX-License-Identifier: MIT */
/* nanoq bench: the measurements. */
#include "bench.h"

#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <time.h>

#include "../text/log.h"

#define ROWS_THREADS     8
#define ROWS_AT_A_TIME   100
#define ROWS_CONCURRENCY 10
#define ROWS_SAMPLES     100
#define ROWS_TICK_MS     20 /* between two looks at how far it is */
/* A worker waits for a database that is away; we do not. */
#define ROWS_PATIENCE_US NQ_SECONDS(30)

static atomic_bool rows_signalled; /* lock-free, so a signal handler may */

static void rows_signal(int number)
{
    (void)number;
    atomic_store(&rows_signalled, true);
}

void bench_stop_on_signals(void)
{
    const struct sigaction action = {.sa_handler = rows_signal, .sa_flags = SA_RESTART};
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGHUP, &action, NULL);
    signal(SIGPIPE, SIG_IGN);
}

bool bench_stopped(void)
{
    return atomic_load(&rows_signalled);
}

static void rows_progress(const char *what, uint64_t done, int64_t since)
{
    static int64_t drawn; /* only the main thread draws */
    char line[160];
    int64_t now = cli_now_us(CLOCK_MONOTONIC);
    if (now - drawn < 100000)
        return;
    drawn = now;
    snprintf(line, sizeof line, "%s: %" PRIu64 " tasks, %.1f s", what, done, (double)(now - since) / 1e6);
    log_progress(line);
}

/* ---- enqueueing */

struct rows_enqueue {
    struct bench *b;
    unsigned at_a_time;
    int64_t until;
    atomic_int_least64_t asked, added; /* tasks: begun, committed */
    atomic_uint running;
    atomic_bool failed;
    pthread_mutex_t mutex; /* guards what follows */
    int64_t ended;         /* when the last one was committed */
    nq_err err;            /* of the first thread that failed */
};

static int rows_add(struct rows_enqueue *e, int64_t first, nq_err *err)
{
    const struct bench *b = e->b;
    nq_task_spec specs[ROWS_AT_A_TIME];
    int64_t keys[ROWS_AT_A_TIME];
    for (unsigned i = 0; i < e->at_a_time; i++) {
        keys[i] = first + i; /* so payloads of no bytes are unique tasks too, as a program's are */
        specs[i] = (nq_task_spec){.size = sizeof specs[i],
                                  .type = e->at_a_time > 1 ? "bench.many" : "bench.one",
                                  .payload = b->payload,
                                  .payload_size = b->payload_size,
                                  .queue = "bench",
                                  .unique = NQ_UNIQUE_DATA,
                                  .unique_data = &keys[i],
                                  .unique_size = sizeof keys[i]};
    }
    return e->at_a_time == 1 ? nq_enqueue(b->q, NQ_OWN_TX, specs, NULL, err)
                             : nq_enqueue_many(b->q, NQ_OWN_TX, specs, e->at_a_time, NULL, NULL, err);
}

static void *rows_enqueuer(void *arg)
{
    static atomic_int_least64_t keys; /* no two tasks of this process have the same */
    struct rows_enqueue *e = arg;
    const int64_t n = e->at_a_time;
    nq_err err = {0};
    int rc = NQ_OK;
    /* Each adds once at least, so that a database slower than the time that there is has a figure too. */
    for (bool over = false; !over && !bench_stopped() && !atomic_load(&e->failed);
         over = cli_now_us(CLOCK_MONOTONIC) >= e->until) {
        if (atomic_fetch_add(&e->asked, n) >= e->b->tasks && e->b->tasks > 0)
            break;
        rc = rows_add(e, atomic_fetch_add(&keys, n), &err);
        if (rc < 0)
            break;
        atomic_fetch_add(&e->added, n);
    }
    pthread_mutex_lock(&e->mutex);
    int64_t now = cli_now_us(CLOCK_MONOTONIC);
    e->ended = now > e->ended ? now : e->ended;
    if (rc < 0 && !atomic_exchange(&e->failed, true))
        e->err = err;
    pthread_mutex_unlock(&e->mutex);
    atomic_fetch_sub(&e->running, 1);
    return NULL;
}

static int rows_no_thread(void)
{
    cli_complain("cannot start a thread");
    return CLI_FAILURE;
}

int bench_enqueue(struct bench *b, const char *what, unsigned threads, unsigned at_a_time, int64_t *rate)
{
    pthread_t thread[ROWS_THREADS];
    unsigned started = 0;
    int64_t begun = cli_now_us(CLOCK_MONOTONIC);
    struct rows_enqueue e = {.b = b, .at_a_time = at_a_time, .until = begun + b->limit_us};
    pthread_mutex_init(&e.mutex, NULL);
    for (; started < threads && started < ROWS_THREADS; started++) {
        atomic_fetch_add(&e.running, 1);
        if (pthread_create(&thread[started], NULL, rows_enqueuer, &e) != 0) {
            atomic_fetch_sub(&e.running, 1);
            atomic_store(&e.failed, true);
            break;
        }
    }
    while (atomic_load(&e.running) > 0) {
        rows_progress(what, (uint64_t)atomic_load(&e.added), begun);
        poll(NULL, 0, ROWS_TICK_MS);
    }
    for (unsigned i = 0; i < started; i++)
        pthread_join(thread[i], NULL);
    pthread_mutex_destroy(&e.mutex);
    if (atomic_load(&e.failed))
        return e.err.code != NQ_OK ? cli_fail(&e.err) : rows_no_thread();
    int64_t took = e.ended - begun;
    *rate = atomic_load(&e.added) * 1000000 / (took > 0 ? took : 1);
    return CLI_OK;
}

/* ---- a worker in a thread of its own */

struct rows_process {
    nq_worker *proc;
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t moved;
    /* Guarded by the mutex: */
    bool ended;
    int64_t handled; /* when the latest handler started */
    int64_t ended_at;
    int rc;
    nq_err err;
};

static nq_verdict rows_no_op(nq_ctx *ctx, const nq_task *task, void *udata)
{
    (void)ctx;
    (void)task;
    atomic_int_least64_t *began = udata;
    int64_t none = 0;
    if (atomic_load_explicit(began, memory_order_relaxed) == 0)
        atomic_compare_exchange_strong(began, &none, cli_now_us(CLOCK_MONOTONIC));
    return NQ_DONE;
}

static nq_verdict rows_note(nq_ctx *ctx, const nq_task *task, void *udata)
{
    struct rows_process *p = udata;
    int64_t now = cli_now_us(CLOCK_MONOTONIC);
    (void)ctx;
    (void)task;
    pthread_mutex_lock(&p->mutex);
    p->handled = now;
    pthread_cond_signal(&p->moved);
    pthread_mutex_unlock(&p->mutex);
    return NQ_DONE;
}

static void *rows_worker(void *arg)
{
    struct rows_process *p = arg;
    nq_err err = {0};
    const int rc = nq_worker_run(p->proc, &err);
    pthread_mutex_lock(&p->mutex);
    p->rc = rc;
    p->err = err;
    p->ended_at = cli_now_us(CLOCK_MONOTONIC);
    p->ended = true;
    pthread_cond_signal(&p->moved);
    pthread_mutex_unlock(&p->mutex);
    return NULL;
}

static int rows_start(struct rows_process *p, nq *q, const char *queue, enum nq_drain drain,
                      nq_handler_fn handler, void *udata)
{
    pthread_condattr_t clock;
    nq_err err = {0};
    const nq_worker_options options = {.size = sizeof options,
                                       .queues = &NQ_QUEUE(.name = queue),
                                       .nqueues = 1,
                                       .concurrency = ROWS_CONCURRENCY,
                                       .drain = (int)drain};
    int rc = nq_worker_new(&p->proc, q, &options, &err);
    rc = rc == NQ_OK ? nq_worker_handle(p->proc, NULL, handler, udata, NULL, &err) : rc;
    if (rc != NQ_OK) {
        nq_worker_free(p->proc);
        return cli_fail(&err);
    }
    pthread_mutex_init(&p->mutex, NULL);
    pthread_condattr_init(&clock);
    pthread_condattr_setclock(&clock, CLOCK_MONOTONIC);
    pthread_cond_init(&p->moved, &clock);
    pthread_condattr_destroy(&clock);
    if (pthread_create(&p->thread, NULL, rows_worker, p) == 0)
        return CLI_OK;
    pthread_cond_destroy(&p->moved);
    pthread_mutex_destroy(&p->mutex);
    nq_worker_free(p->proc);
    return rows_no_thread();
}

/* Wait, not longer than a tick, for the end or (since) a handler other than that one. True: it came.
 */
static bool rows_wait(struct rows_process *p, const int64_t *since)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += ROWS_TICK_MS * 1000000L;
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    pthread_mutex_lock(&p->mutex);
    if (!p->ended && (!since || p->handled == *since))
        pthread_cond_timedwait(&p->moved, &p->mutex, &until);
    bool came = p->ended || (since && p->handled != *since);
    pthread_mutex_unlock(&p->mutex);
    return came;
}

static int rows_end(struct rows_process *p)
{
    nq_worker_stop(p->proc);
    pthread_join(p->thread, NULL);
    pthread_cond_destroy(&p->moved);
    pthread_mutex_destroy(&p->mutex);
    nq_worker_free(p->proc);
    return p->rc == NQ_OK ? CLI_OK : cli_fail(&p->err);
}

static int rows_impatient(void)
{
    cli_complain("no task got through within 30 s");
    return CLI_FAILURE;
}

/* ---- draining */

int bench_drain(struct bench *b, const char *what, int64_t *rate)
{
    struct rows_process p = {0};
    atomic_int_least64_t began = 0;
    nq_worker_totals c = {0};
    int64_t begun = cli_now_us(CLOCK_MONOTONIC), now = begun;
    int exit_code = rows_start(&p, b->q, "bench", NQ_DRAIN_DUE, rows_no_op, &began);
    if (exit_code != CLI_OK)
        return exit_code;
    while (!rows_wait(&p, NULL)) {
        nq_worker_stats(p.proc, &c, sizeof c); /* what was recorded as done, not only handled */
        now = cli_now_us(CLOCK_MONOTONIC);
        int64_t first = atomic_load(&began); /* not the start: connecting is no part of the rate */
        /* A database slower than the time that there is has a figure too. */
        if (bench_stopped() || (c.done > 0 && now - first >= b->limit_us) ||
            (c.done == 0 && now - begun >= ROWS_PATIENCE_US))
            break;
        rows_progress(what, c.done, begun);
    }
    pthread_mutex_lock(&p.mutex);
    if (p.ended) {
        nq_worker_stats(p.proc, &c, sizeof c);
        now = p.ended_at;
    }
    pthread_mutex_unlock(&p.mutex);
    exit_code = rows_end(&p);
    if (exit_code == CLI_OK && c.done == 0 && !bench_stopped())
        return rows_impatient();
    int64_t took = now - atomic_load(&began);
    *rate = (int64_t)c.done * 1000000 / (took > 0 ? took : 1);
    return exit_code;
}

/* ---- pick-up */

static int rows_compare(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

/* One task, from the commit on; negative: an exit code after a message. */
static int64_t rows_sample(struct bench *b, struct rows_process *p)
{
    nq_err err = {0};
    pthread_mutex_lock(&p->mutex);
    const int64_t before = p->handled;
    pthread_mutex_unlock(&p->mutex);
    if (nq_enqueue(b->q, NQ_OWN_TX,
                   NQ_TASK(.type = "bench.pick-up", .payload = b->payload, .payload_size = b->payload_size,
                           .queue = "bench.pick-up", .unique = NQ_UNIQUE_NONE),
                   NULL, &err) != NQ_OK)
        return -cli_fail(&err);
    int64_t committed = cli_now_us(CLOCK_MONOTONIC);
    while (!rows_wait(p, &before)) {
        if (bench_stopped())
            return 0;
        if (cli_now_us(CLOCK_MONOTONIC) - committed > ROWS_PATIENCE_US)
            return -rows_impatient();
    }
    pthread_mutex_lock(&p->mutex);
    int64_t took = p->handled - committed; /* the handler may begin before nq_enqueue has returned */
    pthread_mutex_unlock(&p->mutex);
    return took > 0 ? took : 0;
}

int bench_pick_up(struct bench *b, const char *what, int64_t *p50, int64_t *p99)
{
    int64_t samples[ROWS_SAMPLES], pause = b->limit_us / ROWS_SAMPLES / 1000;
    const size_t wanted = b->tasks > 0 && b->tasks < ROWS_SAMPLES ? (size_t)b->tasks : ROWS_SAMPLES;
    struct rows_process p = {0};
    size_t n = 0;
    int64_t begun = cli_now_us(CLOCK_MONOTONIC);
    int exit_code = rows_start(&p, b->q, "bench.pick-up", NQ_DRAIN_NEVER, rows_note, &p);
    if (exit_code != CLI_OK)
        return exit_code;
    int64_t sample = rows_sample(b, &p); /* the first one waits for the worker to start */
    while (sample >= 0 && n < wanted && !bench_stopped()) {
        rows_progress(what, n, begun);
        poll(NULL, 0, (int)(pause < 1 ? 1 : pause > 50 ? 50 : pause)); /* so that it is idle again */
        sample = rows_sample(b, &p);
        samples[n++] = sample;
    }
    exit_code = rows_end(&p);
    if (sample < 0)
        return exit_code != CLI_OK ? exit_code : (int)-sample;
    if (n > 0) {
        qsort(samples, n, sizeof samples[0], rows_compare);
        *p50 = samples[n / 2];
        *p99 = samples[(n * 99 + 99) / 100 - 1];
    }
    return exit_code;
}
