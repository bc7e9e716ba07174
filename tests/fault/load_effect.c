/* SPDX-License-Identifier: MIT */
/* A worker whose handlers run in children: each has an effect and completes its task in one transaction of
 * its own, and some enqueue another task in it, by a handle of the child's. */
#include "load.h"

#include <errno.h>
#include <poll.h>

/* The first time: at some tasks the child dies before its COMMIT, at others behind it. */
static void effect_die(const nq_task *task, nq_id when)
{
    if (task->crashes == 0 && task->id % 20 == when)
        kill(getpid(), SIGKILL);
}

/* late=1: at some tasks the first attempt has a time limit that it does not keep. One answers then, one is
 * gone at about the time of the signals, and one is deaf. */
static nq_verdict effect_late(nq_ctx *ctx, const nq_task *task)
{
    struct pollfd fd = {nq_ctx_fd(ctx), POLLIN, 0};
    signal(SIGTERM, SIG_IGN);
    while (poll(&fd, 1, -1) < 0 && errno == EINTR)
        ;
    if (task->id % 3 == 0)
        return nq_fail(ctx, NQ_RETRY, "late");
    usleep((useconds_t)(task->id % 3 == 1 ? task->id * 7 % 80 * 1000 : 60000000));
    _exit(0);
}

static int effect_more(struct load_tx *tx, const nq_task *task, nq_err *err)
{
    static nq *q; /* lives as long as the child */
    char payload[32];
    const int rc = q ? NQ_OK : nq_open(&q, load_text("url", ""), NULL, err);
    const int n = snprintf(payload, sizeof payload, "%lld", (long long)task->id);
    return rc ? rc
              : nq_enqueue(q, load_tx_handle(tx),
                           NQ_TASK(.type = "more", .payload = payload, .payload_size = (size_t)n), NULL, err);
}

static int effect_run(nq_ctx *ctx, struct load_tx *tx, const nq_task *task, nq_err *err)
{
    char sql[120];
    const int first = strcmp(task->type, "more") != 0;
    int rc = load_tx_run(tx, "BEGIN");
    snprintf(sql, sizeof sql, "INSERT INTO effects VALUES (%lld, %.20s)", (long long)task->id,
             first ? "NULL" : (const char *)task->payload);
    rc = rc ? rc : load_tx_run(tx, sql);
    if (rc == 0 && first && task->id % 3 == 0)
        rc = effect_more(tx, task, err);
    rc = rc ? rc : nq_ctx_complete_in(ctx, load_tx_handle(tx), err);
    effect_die(task, 3);
    return rc ? rc : load_tx_run(tx, "COMMIT");
}

static nq_verdict effect_handler(nq_ctx *ctx, const nq_task *task, void *udata)
{
    static struct load_tx *tx; /* lives as long as the child */
    nq_err err = {0};
    (void)udata;
    if (load_number("late", 0) && strcmp(task->type, "t") == 0 && task->attempt == 1 && task->id % 10 == 5)
        return effect_late(ctx, task);
    if (!tx && !(tx = load_tx_open()))
        return nq_fail(ctx, NQ_RETRY, "cannot open the database");
    const int rc = effect_run(ctx, tx, task, &err);
    effect_die(task, 7);
    if (rc == 0)
        return NQ_DONE;
    load_tx_run(tx, "ROLLBACK");
    if (load_tx_lost(tx)) {
        load_tx_close(tx);
        tx = NULL;
    }
    return nq_fail(ctx, NQ_RETRY, "%d %s", rc, err.message);
}

static int64_t effect_policy(unsigned attempt, const nq_task *task, void *udata)
{
    (void)attempt, (void)task, (void)udata;
    return NQ_MS(20);
}

int load_effect(void)
{
    nq *q = load_open();
    nq_err err = {0};
    nq_worker *w = NULL;
    const nq_worker_options opts = {.size = sizeof opts,
                                    .concurrency = (unsigned)load_number("concurrency", 4),
                                    .max_crashes = 1000,
                                    .cancel_grace_us = NQ_MS(60),
                                    .keep_dead_us = NQ_FOREVER,
                                    .retry_policy = effect_policy,
                                    .handle_signals = true};
    int rc = nq_worker_new(&w, q, &opts, &err);
    const nq_handle_options handle = {.size = sizeof handle, .isolation = NQ_ISOLATION(.kind = NQ_PROCESS)};
    if (rc == NQ_OK)
        rc = nq_worker_handle(w, NULL, effect_handler, NULL, &handle, &err);
    if (rc == NQ_OK)
        rc = nq_worker_run(w, &err);
    if (rc != NQ_OK)
        load_note("EXIT", "role=effect code=%d %.200s", rc, err.message);
    nq_worker_free(w);
    nq_close(q);
    return rc == NQ_OK ? 0 : 1;
}
