/* SPDX-License-Identifier: MIT */
/* The gauges of the database, for nanoq work --metrics. */
#include <unistd.h>

#include "metrics.h"

#define METRICS_FRESH_US NQ_SECONDS(1) /* read no more often, however often it is asked */

struct metrics_gauges {
    nq *q;
    int wake;
    pthread_t thread;
    pthread_mutex_t lock; /* of what follows */
    pthread_cond_t cond;
    bool wanted, ended;
    struct text text;
    int64_t begun_us; /* when the reading of text began; 0: there is none */
};

static int metrics_gauges_piece(const char *text, size_t n, void *udata)
{
    text_add(udata, text, n);
    return 0;
}

/* With the lock held, but for the reading. */
static void metrics_gauges_read(struct metrics_gauges *g)
{
    struct text text = {0};
    const uint64_t one = 1;
    const int64_t now = cli_now_us(CLOCK_MONOTONIC);
    g->wanted = false;
    pthread_mutex_unlock(&g->lock);
    /* What is wrong the text says: nanoq_database_up 0. */
    nq_metrics(g->q, &(nq_metrics_options){.size = sizeof(nq_metrics_options), .parts = NQ_METRICS_DATABASE},
               metrics_gauges_piece, &text, NULL);
    pthread_mutex_lock(&g->lock);
    text_free(&g->text);
    g->text = text;
    g->begun_us = now;
    const ssize_t n = write(g->wake, &one, sizeof one);
    (void)n; /* it can only fail when it is readable already */
}

static void *metrics_gauges_main(void *arg)
{
    struct metrics_gauges *g = arg;
    pthread_mutex_lock(&g->lock);
    while (!g->ended)
        if (g->wanted)
            metrics_gauges_read(g);
        else
            pthread_cond_wait(&g->cond, &g->lock);
    pthread_mutex_unlock(&g->lock);
    return NULL;
}

static void metrics_gauges_free(struct metrics_gauges *g)
{
    pthread_cond_destroy(&g->cond);
    pthread_mutex_destroy(&g->lock);
    text_free(&g->text);
    free(g);
}

struct metrics_gauges *metrics_gauges_start(nq *q, int wake)
{
    struct metrics_gauges *g = cli_alloc(sizeof *g);
    g->q = q;
    g->wake = wake;
    pthread_mutex_init(&g->lock, NULL);
    pthread_cond_init(&g->cond, NULL);
    if (cli_thread(&g->thread, metrics_gauges_main, g) == 0)
        return g;
    metrics_gauges_free(g);
    return NULL;
}

void metrics_gauges_end(struct metrics_gauges *g)
{
    if (!g)
        return;
    pthread_mutex_lock(&g->lock);
    g->ended = true;
    pthread_cond_signal(&g->cond);
    pthread_mutex_unlock(&g->lock);
    pthread_join(g->thread, NULL);
    metrics_gauges_free(g);
}

bool metrics_gauges(struct metrics_gauges *g, int64_t since_us, struct text *out)
{
    pthread_mutex_lock(&g->lock);
    const bool fresh = g->begun_us > 0 && g->text.n > 0 && g->begun_us >= since_us - METRICS_FRESH_US;
    if (fresh) {
        text_add(out, g->text.p, g->text.n);
    } else {
        g->wanted = true;
        pthread_cond_signal(&g->cond);
    }
    pthread_mutex_unlock(&g->lock);
    return fresh;
}
