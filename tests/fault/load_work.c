/* SPDX-License-Identifier: MIT */
/* A worker that notes each start and end; and a host that forks beside an open nanoq. */
#include "load.h"

#include <poll.h>
#include <pthread.h>
#include <sys/wait.h>

#define WORK_MANY 10

static void work_do(nq_ctx *ctx, int ms)
{
    struct pollfd p = {.fd = nq_ctx_fd(ctx), .events = POLLIN};
    if (load_number("stubborn", 0))
        load_sleep(NQ_MS(ms));
    else
        poll(&p, 1, ms);
}

static nq_verdict work_verdict(nq_ctx *ctx, const nq_task *task, const struct load_task *t, char *name)
{
    const int first = task->attempt == 1 + task->crashes && task->generation == 1 + task->crashes;
    *name = 'd';
    if (nq_ctx_cause(ctx) == NQ_CAUSE_SHUTDOWN) {
        *name = 'c';
        return nq_fail(ctx, NQ_RETRY, "cut short");
    }
    if (t->mode == 'x') {
        *name = 'x';
        return nq_fail(ctx, NQ_DISCARD, "discarded");
    }
    if ((t->mode == 'r' || t->mode == 's') && first) {
        nq_ctx_set_delay(ctx, NQ_MS(t->delay_ms));
        *name = t->mode;
        return t->mode == 'r' ? nq_fail(ctx, NQ_RETRY, "fails once") : NQ_SNOOZE;
    }
    return NQ_DONE;
}

/* With results=1, before the verdict is known: what an attempt that fails leaves must not be there. 1: it
 * left one. */
static int work_leave(nq_ctx *ctx, const nq_task *task, const struct load_task *t)
{
    size_t size = 0;
    nq_err err;
    void *result = load_number("results", 0) ? load_result(t->key, task->generation, &size) : NULL;
    const int left = result && nq_ctx_result(ctx, result, size, &err) == NQ_OK;
    free(result);
    return left;
}

/* Read the task, and note that it starts; is it as it was enqueued? */
static int work_start(const nq_task *task, struct load_task *t)
{
    const int good = load_parse(task->payload, task->payload_size, t);
    load_note("START", "id=%lld gen=%u attempt=%u crashes=%u good=%d key=%s", (long long)task->id,
              task->generation, task->attempt, task->crashes, good, good ? t->key : "-");
    return good;
}

static void work_die(const struct load_task *t)
{
    if (t->mode != 'k')
        return;
    load_note("KILL", "pid=%ld", (long)getpid());
    kill(getpid(), SIGKILL);
}

static nq_verdict work_end(nq_ctx *ctx, const nq_task *task, const struct load_task *t, int good)
{
    char name;
    const int left = good ? work_leave(ctx, task, t) : 0;
    const nq_verdict verdict = work_verdict(ctx, task, t, &name);
    load_note("END", "id=%lld gen=%u verdict=%c delay=%d cause=%d result=%d key=%s", (long long)task->id,
              task->generation, name, name == 'r' || name == 's' ? t->delay_ms * 1000 : 0,
              (int)nq_ctx_cause(ctx), left, good ? t->key : "-");
    return verdict;
}

static nq_verdict work_handler(nq_ctx *ctx, const nq_task *task, void *udata)
{
    struct load_task t;
    const int good = work_start(task, &t);
    (void)udata;
    if (good)
        work_die(&t);
    work_do(ctx, good ? t.work_ms + (int)load_number("more_ms", 0) : 0);
    return work_end(ctx, task, &t, good);
}

/* many=1: up to 10 a call, each of which works as long as the longest. */
static void work_many(nq_ctx *const ctx[], const nq_task *const tasks[], size_t n, nq_verdict verdicts[],
                      void *udata)
{
    struct load_task t[WORK_MANY];
    int good[WORK_MANY], ms = 0;
    (void)udata;
    for (size_t i = 0; i < n; i++) {
        good[i] = work_start(tasks[i], &t[i]);
        ms = good[i] && t[i].work_ms > ms ? t[i].work_ms : ms;
    }
    for (size_t i = 0; i < n; i++)
        if (good[i])
            work_die(&t[i]);
    work_do(ctx[0], ms);
    for (size_t i = 0; i < n; i++)
        verdicts[i] = work_end(ctx[i], tasks[i], &t[i], good[i]);
}

/* Short, so that a run ends; spread, so that those which died together come back apart. */
static int64_t work_policy(unsigned attempt, const nq_task *task, void *udata)
{
    (void)udata;
    return NQ_MS(20 + (task->id * 7919 + (nq_id)attempt * 31) % 80);
}

static nq_worker *work_new(nq *q, nq_err *err)
{
    static char names[16][16];
    static nq_queue_options queues[16];
    const size_t nqueues = (size_t)load_number("queues", 1);
    nq_worker *p = NULL;
    for (size_t i = 0; i < nqueues && i < 16; i++) {
        snprintf(names[i], sizeof names[i], "q%zu", i);
        queues[i] = NQ_QUEUE(.name = names[i]);
    }
    const nq_worker_options opts = {.size = sizeof opts,
                                    .queues = nqueues > 1 ? queues : NULL,
                                    .nqueues = nqueues > 1 ? nqueues : 0,
                                    .concurrency = (unsigned)load_number("concurrency", 8),
                                    .batch = (unsigned)load_number("batch", 0),
                                    .lease_us = NQ_MS(load_number("lease_ms", 5000)),
                                    .max_crashes = (int)load_number("max_crashes", 3),
                                    .shutdown_timeout_us = NQ_MS(load_number("shutdown_ms", 1000)),
                                    .cancel_grace_us = NQ_MS(load_number("grace_ms", 1000)),
                                    .keep_done_us = load_number("keep", 1) ? NQ_FOREVER : 0,
                                    .keep_dead_us = NQ_FOREVER,
                                    .retry_policy = work_policy,
                                    .handle_signals = true};
    const nq_many_options many = {.size = sizeof many, .max = WORK_MANY};
    int rc = nq_worker_new(&p, q, &opts, err);
    if (rc == NQ_OK)
        rc = load_number("many", 0) ? nq_worker_handle_many(p, NULL, work_many, NULL, &many, err)
                                    : nq_worker_handle(p, NULL, work_handler, NULL, NULL, err);
    if (rc != NQ_OK) {
        load_note("NOTOPEN", "code=%d %s", rc, err->message);
        exit(8);
    }
    return p;
}

int load_work(void)
{
    nq *q = load_open();
    nq_err err = {0};
    nq_worker *p = work_new(q, &err);
    nq_worker_totals n;
    load_note("WORKER", "lease_us=%lld", (long long)NQ_MS(load_number("lease_ms", 5000)));
    const int rc = nq_worker_run(p, &err);
    nq_worker_stats(p, &n, sizeof n);
    load_note("EXIT", "role=work code=%d claimed=%llu done=%llu released=%llu lost=%llu %.200s", rc,
              (unsigned long long)n.claimed, (unsigned long long)n.done, (unsigned long long)n.released,
              (unsigned long long)n.lease_lost, rc ? err.message : "");
    nq_worker_free(p);
    if (rc != NQ_ESTUCK)
        nq_close(q);
    return rc == NQ_OK ? 0 : rc == NQ_ESTUCK ? 3 : 1;
}

/* ---- fork ------------------------------------------------------------------------------------ */

/* In the child: all is refused in words, and nothing of the parent's is touched. */
static int fork_child(nq *q, nq_worker *p)
{
    nq_err err = {0};
    nq_id id = 0;
    if (nq_enqueue(q, NQ_OWN_TX, NQ_TASK(.type = "fault", NQ_BYTES("child")), &id, &err) != NQ_EFORK)
        return 1;
    if (!strstr(err.message, "fork") || nq_migrate(q, &err) != NQ_EFORK)
        return 2;
    nq_hint(q, NULL);
    nq_worker_stop(p);
    nq_close(q);
    return 0;
}

struct fork_run {
    nq_worker *proc;
    int rc;
};

static void *fork_run(void *arg)
{
    struct fork_run *r = arg;
    nq_err err = {0};
    r->rc = nq_worker_run(r->proc, &err);
    return NULL;
}

/* Forks again and again while this process enqueues and runs tasks. */
int load_fork(void)
{
    nq *q = load_open();
    nq_err err = {0};
    struct fork_run run = {work_new(q, &err), -1};
    pthread_t thread;
    const int64_t count = load_number("count", 100);
    int64_t refused = 0, added = 0;
    if (pthread_create(&thread, NULL, fork_run, &run) != 0)
        return 9;
    for (int64_t i = 0; i < count; i++) {
        struct load_task t = {.mode = 'd', .fill = 100};
        size_t size = 0;
        int status = 0;
        nq_id id = 0;
        snprintf(t.key, sizeof t.key, "f%ld-%lld", (long)getpid(), (long long)i);
        void *payload = load_payload(&t, &size);
        load_note("INVOKE", "key=%s op=own delay=0", t.key);
        const int rc = nq_enqueue(
            q, NQ_OWN_TX, NQ_TASK(.type = "fault", .payload = payload, .payload_size = size), &id, &err);
        load_note(rc ? "FAIL" : "OK", "key=%s id=%lld code=%d db=0", t.key, (long long)id, rc);
        added += rc == NQ_OK;
        free(payload);
        const pid_t child = fork();
        if (child == 0)
            _exit(fork_child(q, run.proc));
        if (child > 0 && waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0)
            refused++;
    }
    load_sleep(NQ_MS(500));
    nq_worker_stop(run.proc);
    pthread_join(thread, NULL);
    load_note("FORKED", "count=%lld refused=%lld added=%lld code=%d", (long long)count, (long long)refused,
              (long long)added, run.rc);
    nq_worker_free(run.proc);
    nq_close(q);
    return refused == count && added == count && run.rc == NQ_OK ? 0 : 1;
}
