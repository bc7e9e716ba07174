/* SPDX-License-Identifier: MIT */
/* Reads what is known of each queue. */
#include "queue_list.h"

#include "text/text.h"

static struct queue_line *queue_find(struct queue_list *list, const char *name, size_t size)
{
    if (size > NQ_MAX_QUEUE)
        return NULL;
    for (size_t i = 0; i < list->n; i++)
        if (strlen(list->all[i].name) == size && memcmp(list->all[i].name, name, size) == 0)
            return &list->all[i];
    if (list->n == list->cap) {
        list->cap = 2 * list->cap + 16;
        list->all = cli_realloc(list->all, list->cap * sizeof *list->all);
    }
    struct queue_line *one = &list->all[list->n++];
    *one = (struct queue_line){.row = {.ordered = -1, .rate_left = -1}};
    memcpy(one->name, name, size);
    return one;
}

static int queue_stats(const nq_queue_stats *stats, void *udata)
{
    struct queue_line *one = queue_find(udata, stats->queue, strlen(stats->queue));
    if (!one)
        return 0;
    one->due = stats->due;
    one->delayed = stats->delayed;
    one->running = stats->running;
    one->done = stats->done;
    one->dead = stats->dead;
    one->cancelled = stats->cancelled;
    one->oldest_due_us = stats->due ? stats->oldest_due_us : 0;
    one->capped = stats->capped & (NQ_CAPPED_DUE | NQ_CAPPED_DELAYED | NQ_CAPPED_RUNNING);
    return 0;
}

static int queue_settings(const nq_queue_row *row, void *udata)
{
    struct queue_line *one = queue_find(udata, row->name, strlen(row->name));
    if (!one)
        return 0;
    one->row = *row;
    snprintf(one->why, sizeof one->why, "%.*s",
             (int)text_whole(row->paused_why, strnlen(row->paused_why, 255)), row->paused_why);
    snprintf(one->dead_to, sizeof one->dead_to, "%s", row->dead_to);
    snprintf(one->type, sizeof one->type, "%s", row->type);
    return 0;
}

static int queue_worker(const nq_worker_row *row, void *udata)
{
    if (row->beat_ago_us > NQ_WORKER_SILENT_US)
        return 0;
    for (const char *at = row->queues; *at;) {
        const size_t n = strcspn(at, ",");
        struct queue_line *one = n > 0 ? queue_find(udata, at, n) : NULL;
        if (one) {
            one->workers++;
            one->handlers += row->concurrency;
        }
        at += n + (at[n] == ',');
    }
    return 0;
}

static int queue_compare(const void *a, const void *b)
{
    return strcmp(((const struct queue_line *)a)->name, ((const struct queue_line *)b)->name);
}

int queue_list_read(nq *q, struct queue_list *list, nq_err *err)
{
    int rc = nq_stats(q, queue_stats, list, err);
    if (rc == NQ_OK)
        rc = nq_queue_get(q, NULL, queue_settings, list, err);
    if (rc == NQ_OK)
        rc = nq_workers(q, queue_worker, list, err);
    if (list->n > 0)
        qsort(list->all, list->n, sizeof *list->all, queue_compare);
    return rc;
}

void queue_list_free(struct queue_list *list)
{
    free(list->all);
}

const char *const queue_ordered_words[QUEUE_ORDERED] = {"no", "strict", "halt"};

const char *queue_ordered(const nq_queue_row *row)
{
    return row->ordered >= 0 && row->ordered < QUEUE_ORDERED ? queue_ordered_words[row->ordered] : NULL;
}
