/* SPDX-License-Identifier: MIT */
/* The settings of queues as this worker knows them: read by its duties, looked at by all its threads. */
#include <stdio.h>
#include <unistd.h>

#include "worker.h"

/* With the lock held: until when nothing of it starts. */
static int64_t settings_held(const nq_worker *w, const char *name)
{
    int64_t until = nq_settings_held(w->settings, name);
    const size_t base = nq_queue_base(name);
    for (size_t i = 0; i < NQ_OWN_HOLDS; i++) {
        const nq_hold *h = &w->held[i];
        if (h->until_us > until &&
            (strcmp(h->name, name) == 0 || (strlen(h->name) == base && strncmp(h->name, name, base) == 0)))
            until = h->until_us;
    }
    return until;
}

NQ_PRIVATE bool nq_task_paused(const nq_worker *w, const nq_ctx *ctx)
{
    const nq_task *task = &ctx->claim->task;
    char name[2 * NQ_MAX_QUEUE + 4];
    if (!w->settings || (!nq_settings_some(w->settings) && !w->held[0].until_us))
        return false;
    /* by its type: one that was claimed before */
    const nq_setting *type =
        w->settings->types > 0 ? nq_settings_type(w->settings, task->queue, task->type) : NULL;
    if (type && type->paused)
        return true;
    const char *group = ctx->claim->group;
    snprintf(name, sizeof name, "%s%s%s", task->queue, group ? "//" : "", group ? group : "");
    return nq_settings_paused(w->settings, name) || settings_held(w, name) > nq_mono_us();
}

/* With the lock held: tasks that have not begun are given back. Those that were sent to a child are called
 * back by the thread that waits for it. */
static void settings_release(nq_worker *w)
{
    const uint64_t one = 1;
    nq_task_list *const lists[] = {&w->ready, &w->paced};
    for (size_t i = 0; i < 2; i++) {
        nq_task_list all = *lists[i];
        nq_task_list_init(lists[i]);
        for (nq_ctx *ctx; (ctx = nq_task_list_pop(&all));)
            if (nq_task_paused(w, ctx))
                nq_done_release(w, ctx);
            else
                nq_task_list_push(lists[i], ctx);
    }
    for (unsigned i = 0; i < w->opts.concurrency; i++)
        if (w->threads[i].pipelined.n > 0 && write(w->threads[i].wake_fd, &one, sizeof one) < 0)
            continue; /* it is readable already */
}

/* Is a limit set for it, for all hosts? */
static bool settings_limit(const nq_settings *s, const char *name)
{
    nq_setting group;
    size_t n = 0;
    const nq_setting *row = nq_settings_find(s, name), *groups = nq_settings_groups(s, name, &n);
    bool limited = (row && row->max_running) || (nq_settings_group(s, name, &group) && group.max_running);
    for (size_t i = 0; i < n && !limited; i++)
        limited = groups[i].max_running;
    return limited;
}

/* With the lock held: heed them. */
static void settings_apply(nq_worker *w)
{
    const int64_t now = nq_mono_us();
    for (size_t i = 0; i < w->nqueues; i++) {
        struct nq_worker_queue *queue = &w->queues[i];
        const bool was = queue->paused;
        queue->paused = nq_settings_paused(w->settings, queue->name);
        queue->held_until_us = settings_held(w, queue->name);
        /* What is claimed counts as running, on all hosts: so nothing is claimed that no thread is free for.
         */
        queue->concurrency =
            queue->asked || !settings_limit(w->settings, queue->name) ? queue->asked : w->opts.concurrency;
        if (was && !queue->paused) {
            queue->next_us = now;
            queue->pause_us = NQ_PAUSE_MIN_US;
            queue->quiet = 0;
        }
    }
    settings_release(w);
    nq_loans_recall(w);
    /* The first reading is what the fetchers wait for. */
    pthread_cond_signal(&w->fetch_cond);
    nq_second_wake(w);
}

NQ_PRIVATE void nq_worker_held_by(nq_worker *w, const char *name, int64_t until_us)
{
    pthread_mutex_lock(&w->lock);
    nq_hold *at = &w->held[0]; /* the first place is never free again: it says that there were some */
    for (size_t i = 0; i < NQ_OWN_HOLDS; i++)
        if (strcmp(w->held[i].name, name) == 0) {
            at = &w->held[i];
            break;
        } else if (w->held[i].until_us < at->until_us) {
            at = &w->held[i];
        }
    if (strcmp(at->name, name) != 0 || at->until_us < until_us)
        at->until_us = until_us;
    snprintf(at->name, sizeof at->name, "%s", name);
    if (w->settings)
        settings_apply(w);
    pthread_mutex_unlock(&w->lock);
}

NQ_PRIVATE int nq_worker_read_settings(nq_worker *w, nq_err *err)
{
    /* Only this thread changes it. */
    nq_settings *const before = w->settings;
    nq_settings *now = NULL;
    const int rc = nq_settings_read(&now, w->store, before, err);
    if (rc != NQ_OK)
        return rc;
    if (now->ignored > w->ignored_told)
        nq_worker_log(
            w, NQ_LOG_WARN,
            "%zu rows of settings of queues are not heeded: their names are no queue's, or there are "
            "more than %d",
            now->ignored, NQ_SETTINGS_ROWS);
    if (now->misled > w->misled_told)
        nq_worker_log(
            w, NQ_LOG_WARN,
            "dead_to in %zu rows of settings of queues is no queue's name: tasks that die there leave no "
            "copy",
            now->misled);
    w->ignored_told = now->ignored > w->ignored_told ? now->ignored : w->ignored_told;
    w->misled_told = now->misled > w->misled_told ? now->misled : w->misled_told;
    pthread_mutex_lock(&w->lock);
    w->settings = now;
    atomic_store(&w->keeps, now->keeps);
    if (!before || before->hash != now->hash || before->nholds > 0 || now->nholds > 0)
        settings_apply(w);
    pthread_mutex_unlock(&w->lock);
    nq_settings_unref(before);
    return NQ_OK;
}

NQ_PRIVATE void nq_settings_wake(void *arg)
{
    nq_worker *w = arg;
    pthread_mutex_lock(&w->lock);
    nq_worker_want(w, NQ_WANTED_SETTINGS);
    pthread_mutex_unlock(&w->lock);
}
