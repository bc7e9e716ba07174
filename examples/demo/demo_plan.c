/* SPDX-License-Identifier: MIT */
/* demo: which tasks there are, and what the database says became of them. */
#include "demo.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const struct demo_kind demo_kinds[DEMO_KINDS] = {
    {"thumbnail", DEMO_GOOD, 120, 15, 60, 0, "ordinary work; repeats are refused"},
    {"email", DEMO_GOOD, 80, 10, 30, 0, "the same"},
    {"report", DEMO_GOOD, 40, 0, 40, 7000, "delayed"},
    {"webhook", DEMO_FLAKY, 30, 5, 20, 0, "fails once or twice, is retried"},
    {"import", DEMO_INVALID, 5, 0, 10, 0, "bad data: discarded"},
    {"fax", DEMO_HOPELESS, 4, 0, 10, 0, "fails until out of attempts"},
    {"backup", DEMO_SLOW, 1, 0, 10, 0, "times out once (1 s)"},
    {"plugin", DEMO_CRASH, 1, 0, 10, 0, "aborts its process once"},
    {"poison", DEMO_POISON, 1, 0, 10, 0, "aborts its process each time"},
    {"newsletter", DEMO_RECALLED, 5, 0, 10, 0, "delayed an hour, cancelled"},
};

#define DEMO_MOST 200 /* tasks of a kind, with repeats */

struct demo_batch {
    char payload[DEMO_MOST][128];
    nq_task_spec specs[DEMO_MOST];
    nq_id ids[DEMO_MOST];
    int results[DEMO_MOST];
};

static void demo_spec(const struct demo *d, const struct demo_kind *kind, unsigned i, struct demo_batch *b)
{
    size_t queue = kind->fate == DEMO_CRASH ? 1 : kind->fate == DEMO_POISON ? 2 : 0;
    int n = snprintf(b->payload[i], sizeof b->payload[i], "{\"demo\": \"%s\", \"n\": %u}", d->queues[0],
                     i % kind->fresh);
    nq_task_spec *s = &b->specs[i];
    *s = (nq_task_spec){.size = sizeof *s,
                        .type = kind->type,
                        .payload = b->payload[i],
                        .payload_size = (size_t)n,
                        .queue = d->queues[queue]};
    if (kind->spread_ms > 0) {
        int64_t spread = d->fast ? kind->spread_ms / 7 : kind->spread_ms;
        s->delay_us = NQ_MS(spread * (i + 1) / kind->fresh);
    }
    if (kind->fate == DEMO_HOPELESS)
        s->max_retries = 2;
    else if (kind->fate == DEMO_SLOW)
        s->timeout_us = NQ_SECONDS(1);
    else if (kind->fate == DEMO_RECALLED)
        s->delay_us = NQ_HOURS(1);
}

bool demo_enqueue(struct demo *d)
{
    struct demo_batch *b = demo_alloc(sizeof *b);
    nq_err err = {0};
    bool good = true;
    for (size_t k = 0; k < DEMO_KINDS && good; k++) {
        const struct demo_kind *kind = &demo_kinds[k];
        unsigned n = kind->fresh + kind->repeats;
        for (unsigned i = 0; i < n; i++)
            demo_spec(d, kind, i, b);
        if (nq_enqueue_many(d->q, NQ_OWN_TX, b->specs, n, b->ids, b->results, &err) < 0) {
            good = demo_fail(&err);
            break;
        }
        d->tally[k].asked += n;
        for (unsigned i = 0; i < n && good; i++) {
            d->tally[k].refused += b->results[i] == NQ_DUPLICATE;
            if (kind->fate == DEMO_RECALLED && nq_cancel(d->q, b->ids[i], &err) != NQ_OK)
                good = demo_fail(&err);
        }
    }
    free(b);
    return good;
}

static int demo_look_row(const nq_queue_stats *stats, void *udata)
{
    struct demo *d = udata;
    if (strncmp(stats->queue, d->queues[0], strlen(d->queues[0])) ==
        0) { /* the others' names begin with it */
        d->now.due += stats->due;
        d->now.delayed += stats->delayed;
        d->now.running += stats->running;
        d->now.done += stats->done;
        d->now.dead += stats->dead;
        d->now.cancelled += stats->cancelled;
    }
    return 0;
}

bool demo_look(struct demo *d)
{
    nq_err err = {0};
    d->now = (nq_queue_stats){0};
    return nq_stats_exact(d->q, demo_look_row, d, &err) == NQ_OK || demo_fail(&err);
}

/* ---- page by page through the demo's tasks */

struct demo_page {
    struct demo *d;
    nq_id ids[500];
    size_t n;
};

static int demo_count_row(const nq_info *info, void *udata)
{
    struct demo_page *page = udata;
    page->ids[page->n++] = info->id;
    for (size_t k = 0; k < DEMO_KINDS; k++) {
        struct demo_tally *t = &page->d->tally[k];
        if (strcmp(info->type, demo_kinds[k].type) == 0) {
            t->done += info->state == NQ_STATE_DONE;
            t->dead += info->state == NQ_STATE_DEAD;
            t->cancelled += info->state == NQ_STATE_CANCELLED;
            t->live += info->state == NQ_STATE_WAITING || info->state == NQ_STATE_RUNNING;
            t->failed += info->attempts - info->crashes;
            t->crashed += info->crashes;
        }
    }
    return 0;
}

/* left: NULL, or delete them, and count there what cannot be. */
static bool demo_pages(struct demo *d, size_t *left)
{
    struct demo_page *page = demo_alloc(sizeof *page);
    nq_err err = {0};
    int rc = NQ_OK;
    for (size_t i = 0; i < DEMO_QUEUES && rc == NQ_OK; i++) {
        const char *queue = d->queues[i];
        nq_list_options options = {.size = sizeof options, .queues = &queue, .nqueues = 1, .limit = 500};
        do {
            *page = (struct demo_page){.d = d};
            rc = nq_list(d->q, &options, demo_count_row, page, &err);
            for (size_t n = 0; left && rc == NQ_OK && n < page->n; n++)
                *left += nq_delete(d->q, page->ids[n], NULL) == NQ_ESTATE;
            options.after = page->n > 0 ? page->ids[page->n - 1] : 0;
        } while (rc == NQ_OK && page->n == options.limit);
    }
    free(page);
    return rc == NQ_OK || demo_fail(&err);
}

bool demo_count(struct demo *d)
{
    return demo_pages(d, NULL);
}

bool demo_delete(struct demo *d, size_t *left)
{
    *left = 0;
    return demo_pages(d, left);
}

static bool demo_kind_adds_up(const struct demo_kind *kind, const struct demo_tally *t)
{
    bool dies = kind->fate == DEMO_INVALID || kind->fate == DEMO_HOPELESS || kind->fate == DEMO_POISON;
    uint64_t dead = dies ? kind->fresh : 0, cancelled = kind->fate == DEMO_RECALLED ? kind->fresh : 0;
    bool sums = t->asked == t->refused + t->done + t->dead + t->cancelled && t->live == 0;
    bool planned = t->refused == kind->repeats && t->dead == dead && t->cancelled == cancelled;
    bool crashed = kind->fate != DEMO_CRASH && kind->fate != DEMO_POISON ? true : t->crashed > 0;
    if (!sums || !planned || !crashed) {
        demo_complain(
            "%s: asked for %llu, refused %llu (planned %u), done %llu, dead %llu (planned %llu), cancelled "
            "%llu (planned %llu), live %llu, crashes %llu",
            kind->type, (unsigned long long)t->asked, (unsigned long long)t->refused, kind->repeats,
            (unsigned long long)t->done, (unsigned long long)t->dead, (unsigned long long)dead,
            (unsigned long long)t->cancelled, (unsigned long long)cancelled, (unsigned long long)t->live,
            (unsigned long long)t->crashed);
    }
    return sums && planned && crashed;
}

bool demo_adds_up(const struct demo *d)
{
    bool good = true;
    for (size_t k = 0; k < DEMO_KINDS; k++)
        good = demo_kind_adds_up(&demo_kinds[k], &d->tally[k]) && good;
    return good;
}
