/* SPDX-License-Identifier: MIT */
/* nanoq work: what is logged of an attempt that ended. */
#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

#include "../text/log.h"
#include "../text/table.h"
#include "work.h"

/* Attempts that failed and are not yet recorded: how long they took, for the line that is written then. The
 * library holds fewer outcomes than that. */
#define ENDED_FAILED 4096
static struct {
    pthread_mutex_t mutex; /* guards the rest */
    struct {
        nq_id id;
        unsigned generation;
        int64_t took_us;
    } ring[ENDED_FAILED];
    size_t n; /* altogether */
} ended_failed = {.mutex = PTHREAD_MUTEX_INITIALIZER};

static void ended_failed_put(const nq_task *task, int64_t took_us)
{
    pthread_mutex_lock(&ended_failed.mutex);
    size_t at = ended_failed.n++ % ENDED_FAILED;
    ended_failed.ring[at].id = task->id;
    ended_failed.ring[at].generation = task->generation;
    ended_failed.ring[at].took_us = took_us;
    pthread_mutex_unlock(&ended_failed.mutex);
}

/* -1: it did not run here. */
static int64_t ended_failed_take(const nq_task *task)
{
    int64_t took = -1;
    pthread_mutex_lock(&ended_failed.mutex);
    for (size_t i = ended_failed.n; took < 0 && i > 0 && ended_failed.n - i < ENDED_FAILED; i--) {
        size_t at = (i - 1) % ENDED_FAILED;
        if (ended_failed.ring[at].id == task->id && ended_failed.ring[at].generation == task->generation)
            took = ended_failed.ring[at].took_us;
    }
    pthread_mutex_unlock(&ended_failed.mutex);
    return took;
}

nq_verdict work_ended(nq_ctx *ctx, const nq_task *task, nq_verdict verdict, int64_t start_us,
                      const char *error)
{
    static const char *const names[] = {"done", "retry", "discard", "snooze"};
    struct log_event e = {.level = LOG_INFO,
                          .task = task,
                          .took_us = cli_now_us(CLOCK_MONOTONIC) - start_us,
                          .verdict = names[verdict]};
    enum nq_cause cause = nq_ctx_cause(ctx);
    char took[32];
    table_short_duration(e.took_us, took);
    if (cause == NQ_CAUSE_CANCEL && verdict != NQ_DONE) {
        e.level = LOG_WARN;
        e.verdict = "cancelled";
        log_task(&e, "cancelled after %s", took);
    } else if (verdict == NQ_DONE || verdict == NQ_SNOOZE) {
        log_task(&e, verdict == NQ_DONE ? "done in %s" : "snoozed after %s", took);
    } else if (cause == NQ_CAUSE_SHUTDOWN || cause == NQ_CAUSE_LEASE_LOST) {
        e.level = LOG_WARN;
        e.verdict = cause == NQ_CAUSE_SHUTDOWN ? "released" : "lease lost";
        log_task(&e, "stopped after %s, %s", took,
                 cause == NQ_CAUSE_SHUTDOWN ? "given back (shutdown)" : "it belongs to another worker now");
    } else if (cause == NQ_CAUSE_CANCEL) {
        e.verdict = "cancelled";
        log_task(&e, "cancelled after %s", took);
    } else {
        ended_failed_put(task, e.took_us); /* and a line when it is known what becomes of it */
    }
    return error ? nq_fail(ctx, verdict, "%s", error) : verdict;
}

void work_attempt_failed(const nq_task *task, const char *error, bool final, void *udata)
{
    const struct log_event e = {.level = LOG_WARN,
                                .task = task,
                                .took_us = ended_failed_take(task),
                                .verdict = final ? "dead" : "retry",
                                .error = error};
    size_t n = strcspn(error, "\n");
    (void)udata;
    if (e.took_us < 0 && task->expires_at_us != 0 && strncmp(error, "expired", strlen("expired")) == 0) {
        log_task(&e, "not started, now dead: %.*s", (int)(n < 200 ? n : 200), error);
        return;
    }
    log_task(&e, "attempt %u of %u failed, %s: %.*s", task->attempt, task->max_retries + 1,
             final ? "now dead" : "will be retried", (int)(n < 200 ? n : 200), error);
}

void work_not_started(const char *why, unsigned failures, int64_t pause_us)
{
    static atomic_uint warned; /* the count at the last warning: one for each that is twice as many */
    unsigned before = atomic_load(&warned);
    if (failures < before)
        atomic_compare_exchange_strong(&warned, &before, 0);
    before = atomic_load(&warned);
    if ((before == 0 || failures >= before * 2) && atomic_compare_exchange_strong(&warned, &before, failures))
        log_line(LOG_WARN, "%s; tasks are given back, the next try is in %.1f s", why,
                 (double)pause_us / 1e6);
}
