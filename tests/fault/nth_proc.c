/* SPDX-License-Identifier: MIT */
/* A worker with one thing failing in it: every task ends as it should, and none runs twice unasked. */
#include <pthread.h>
#include <stdatomic.h>

#include "nth.h"

#define PROC_OK     12 /* tasks 0..11 are done at once */
#define PROC_AGAIN  14 /* up to here: fail once */
#define PROC_SNOOZE 16 /* snooze once */
#define PROC_IN     18 /* complete in a transaction of the handler's */
#define PROC_DEAD   20 /* are discarded */
#define PROC_TASKS  21 /* one that has no handler */

/* How long all calls fail, where they all do. */
#define PROC_TROUBLE_MS 300

struct proc_world {
    nth_run *run;
    nq *q;
    nq_worker *p;
    atomic_uint begun[PROC_TASKS];
    atomic_uint errors;
};

/* ---- Handlers ------------------------------------------------------------------------------- */

/* Effects and completion in one transaction; whatever fails, the attempt does. */
static nq_verdict proc_complete_in(struct proc_world *w, nq_ctx *ctx)
{
    nq_err err = {0};
    int rc;
    t_conn *c = t_connect();
    t_begin(c);
    t_run(c, "INSERT INTO %sorders VALUES (1)", w->run->prefix);
    inject_pause(false);
    rc = nq_ctx_complete_in(ctx, t_tx(c), &err);
    inject_pause(true);
    const bool committed = rc == NQ_OK && t_try(c, "COMMIT") == 0;
    if (!committed)
        t_try(c, "ROLLBACK");
    t_disconnect(c);
    return committed ? NQ_DONE : NQ_RETRY;
}

static nq_verdict proc_verdict(struct proc_world *w, nq_ctx *ctx, unsigned i, unsigned begun)
{
    if (i < PROC_OK)
        return NQ_DONE;
    if (i < PROC_AGAIN)
        return begun == 1 ? nq_fail(ctx, NQ_RETRY, "once") : NQ_DONE;
    if (i < PROC_SNOOZE)
        return begun == 1 ? NQ_SNOOZE : NQ_DONE;
    return i < PROC_IN ? proc_complete_in(w, ctx) : nq_fail(ctx, NQ_DISCARD, "never");
}

static nq_verdict proc_handle(nq_ctx *ctx, const nq_task *task, void *arg)
{
    struct proc_world *w = arg;
    inject_pause(true);
    const unsigned i = (unsigned)strtoul(task->payload, NULL, 10);
    const unsigned begun = atomic_fetch_add(&w->begun[i], 1) + 1;
    inject_pause(false);
    nq_ctx_fd(ctx);
    nq_ctx_progress(ctx, 1, 2, "half way");
    nq_ctx_set_delay(ctx, NQ_MS(1));
    inject_pause(true);
    const nq_verdict verdict = proc_verdict(w, ctx, i, begun);
    inject_pause(false);
    return verdict;
}

static nq_verdict proc_layer(nq_ctx *ctx, const nq_task *task, nq_next *next, void *arg)
{
    (void)arg;
    return nq_next_run(next, ctx, task);
}

static void proc_error(const nq_task *task, const char *error, bool final, void *arg)
{
    struct proc_world *w = arg;
    (void)task, (void) final;
    atomic_fetch_add(&w->errors, error ? 1 : 0);
}

/* ---- The scenario --------------------------------------------------------------------------- */

static int64_t proc_soon(unsigned attempt, const nq_task *task, void *arg)
{
    (void)attempt, (void)task, (void)arg;
    return NQ_MS(1);
}

static void proc_enqueue(struct proc_world *w, unsigned count)
{
    nq_err err = {0};
    for (unsigned i = 0; i < count; i++) {
        char payload[8];
        const int n = snprintf(payload, sizeof payload, "%u", i);
        const int rc =
            nq_enqueue(w->q, NQ_OWN_TX,
                       NQ_TASK(.type = i < PROC_DEAD ? "known" : "unknown", .payload = payload,
                               .payload_size = (size_t)n, .max_retries = i < PROC_DEAD ? 10 : NQ_ZERO),
                       NULL, &err);
        NTH_CHECK(w->run, rc == NQ_OK, "enqueue: %s", err.message);
    }
}

/* Make a worker and run it until nothing is left to do. */
static int proc_once(struct proc_world *w, nq_err *err)
{
    static const nq_middleware layer = {proc_layer, NULL};
    const nq_worker_options opts = {.size = sizeof opts,
                                    .concurrency = 3,
                                    .batch = 8,
                                    .drain = NQ_DRAIN_ALL,
                                    .retry_policy = proc_soon,
                                    .on_error = proc_error,
                                    .error_udata = w,
                                    .poll_us = NQ_MS(50),
                                    .lease_us = NQ_SECONDS(3)};
    const nq_handle_options handle = {.size = sizeof handle, .middleware = &layer, .nmiddleware = 1};
    int rc = nq_worker_new(&w->p, w->q, &opts, err);
    if (rc == NQ_OK)
        rc = nq_worker_use(w->p, proc_layer, NULL, err);
    if (rc == NQ_OK)
        rc = nq_worker_handle(w->p, "known", proc_handle, w, &handle, err);
    if (rc == NQ_OK)
        rc = nq_worker_run(w->p, err);
    nq_worker_free(w->p);
    w->p = NULL;
    return rc;
}

static void *proc_end_trouble(void *arg)
{
    (void)arg;
    t_pause_ms(PROC_TROUBLE_MS);
    inject_stop();
    return NULL;
}

static void proc_check(struct proc_world *w, bool clean)
{
    t_conn *side = t_connect();
    const char *prefix = w->run->prefix;
    char *left =
        t_text(side, "SELECT id, state, lease, attempts, crashes, run_at, payload FROM %stasks", prefix);
    const int64_t live = t_run(side, "SELECT COUNT(*) FROM %stasks", prefix);
    const int64_t ended = t_run(side, "SELECT COUNT(*) FROM %sfinished", prefix);
    const int64_t dead = t_run(side, "SELECT COUNT(*) FROM %sfinished WHERE state=3", prefix);
    const int64_t orders = t_run(side, "SELECT COUNT(*) FROM %sorders", prefix);
    t_disconnect(side);
    NTH_CHECK(w->run, live == 0, "%s: %lld tasks are left: %s", clean ? "at the end of the run" : "later",
              (long long)live, left);
    NTH_CHECK(w->run, ended == dead && dead == PROC_TASKS - PROC_IN, "%lld are dead, %lld ended",
              (long long)dead, (long long)ended);
    NTH_CHECK(w->run, orders == PROC_IN - PROC_SNOOZE, "%lld effects of %d tasks", (long long)orders,
              PROC_IN - PROC_SNOOZE);
    free(left);
    for (unsigned i = 0; i < PROC_DEAD; i++) {
        const unsigned n = atomic_load(&w->begun[i]), most = i >= PROC_OK && i < PROC_SNOOZE ? 2 : 1;
        NTH_CHECK(w->run, n >= 1, "task %u did not run", i);
        NTH_CHECK(w->run, !clean || n <= most || (i >= PROC_SNOOZE && i < PROC_IN), "task %u ran %u times", i,
                  n);
    }
}

static void proc_scenario(nth_run *run)
{
    struct proc_world w = {.run = run};
    nq_err err = {0};
    pthread_t friend;
    int rc = nq_open(&w.q, run->url, NULL, &err);
    NTH_CHECK(run, rc == NQ_OK, "open: %s", err.message);
    proc_enqueue(&w, PROC_TASKS);
    if (run->plan.persistent && run->plan.at > 0)
        t_thread(&friend, proc_end_trouble, NULL);
    INJECT(rc, proc_once(&w, &err));
    if (run->plan.persistent && run->plan.at > 0)
        pthread_join(friend, NULL);
    const long hits = inject_hits();
    inject_stop();
    NTH_CHECK(run, rc == NQ_OK || (hits > 0 && err.code == rc && err.message[0]), "run: %s (%d): %s",
              nq_code_name(rc), err.code, err.message);
    const bool clean = rc == NQ_OK;
    if (clean)
        proc_check(&w, true); /* it came through by itself */
    rc = proc_once(&w, &err);
    NTH_CHECK(run, rc == NQ_OK, "a second worker: %s", err.message);
    proc_check(&w, clean);
    nq_close(w.q);
}

/* ---- In children ---------------------------------------------------------------------------- */

#define PROC_CHILDREN 8

static nq_verdict proc_in_child(nq_ctx *ctx, const nq_task *task, void *arg)
{
    (void)ctx, (void)task, (void)arg;
    return NQ_DONE;
}

/* Nothing fails in the children, so no attempt may: what fails in their worker costs none. */
static void proc_children(nth_run *run)
{
    struct proc_world w = {.run = run};
    const nq_worker_options opts = {.size = sizeof opts,
                                    .concurrency = 2,
                                    .drain = NQ_DRAIN_ALL,
                                    .on_error = proc_error,
                                    .error_udata = &w,
                                    .poll_us = NQ_MS(20)};
    const nq_handle_options isolated = {.size = sizeof isolated,
                                        .isolation = NQ_ISOLATION(.kind = NQ_PROCESS, .tasks_per_child = 1)};
    nq_err err = {0};
    NTH_CHECK(run, nq_open(&w.q, run->url, NULL, &err) == NQ_OK, "open: %s", err.message);
    int rc = nq_worker_new(&w.p, w.q, &opts, &err);
    if (rc == NQ_OK)
        rc = nq_worker_handle(w.p, "known", proc_in_child, NULL, &isolated, &err);
    if (rc == NQ_OK)
        rc = nq_worker_fork(w.p, &err);
    NTH_CHECK(run, rc == NQ_OK, "prepare: %s", err.message);
    proc_enqueue(&w, PROC_CHILDREN);
    INJECT(rc, nq_worker_run(w.p, &err));
    const long hits = inject_hits();
    inject_stop();
    nq_worker_free(w.p);
    NTH_CHECK(run, rc == NQ_OK || (hits > 0 && err.code == rc && err.message[0]), "run: %s (%d): %s",
              nq_code_name(rc), err.code, err.message);
    t_conn *side = t_connect();
    const int64_t live = t_run(side, "SELECT COUNT(*) FROM %stasks", run->prefix);
    const int64_t tried = t_run(side, "SELECT SUM(attempts + crashes) FROM %stasks", run->prefix);
    t_disconnect(side);
    NTH_CHECK(run, rc != NQ_OK || live == 0, "%lld tasks are left", (long long)live);
    NTH_CHECK(run, atomic_load(&w.errors) == 0 && tried == 0, "%u attempts failed, %lld counted",
              atomic_load(&w.errors), (long long)tried);
    nq_close(w.q);
}

/* ---- The tests ------------------------------------------------------------------------------ */

/* Without hints through the server: a bell outlives its worker by seconds there, and some hundred runs
 * would use up the connections. */
static void proc_all(const char *name, enum inject_kind kind, enum inject_how how, bool persistent, long few)
{
    const nth_case c = {name, kind, how, persistent, "hints=local", proc_scenario};
    nth_all(&c, few);
}

START_TEST(proc_allocations)
{
    proc_all("a worker, one allocation", INJECT_ALLOC, 0, false, 24);
}
END_TEST

START_TEST(proc_allocations_all)
{
    proc_all("a worker, allocations for a while", INJECT_ALLOC, 0, true, 8);
}
END_TEST

START_TEST(proc_allocations_children)
{
    const nth_case c = {"children, one allocation", INJECT_ALLOC, 0, false, "hints=local", proc_children};
    nth_all(&c, 24);
}
END_TEST

START_TEST(proc_system)
{
    proc_all("a worker, one system call", INJECT_SYSTEM, 0, false, 16);
}
END_TEST

START_TEST(proc_system_all)
{
    proc_all("a worker, system calls for a while", INJECT_SYSTEM, 0, true, 6);
}
END_TEST

static const struct {
    const char *name;
    enum inject_kind kind;
    enum inject_how how;
    bool persistent;
} proc_ways[] = {
    {"a worker, connection lost before a statement", INJECT_STATEMENT, INJECT_LOST_BEFORE, false},
    {"a worker, connection lost after a statement", INJECT_STATEMENT, INJECT_LOST_AFTER, false},
    {"a worker, connections lost for a while", INJECT_STATEMENT, INJECT_LOST_AFTER, true},
    {"a worker, deadlock", INJECT_STATEMENT, INJECT_DEADLOCK, false},
    {"a worker, deadlocks for a while", INJECT_STATEMENT, INJECT_DEADLOCK, true},
    {"a worker, no memory in the client", INJECT_STATEMENT, INJECT_CLIENT_NOMEM, false},
    {"a worker, transaction ended without a word", INJECT_STATEMENT, INJECT_ENDED, false},
    {"a worker, busy", INJECT_STATEMENT, INJECT_BUSY, false},
    {"a worker, busy for a while", INJECT_STATEMENT, INJECT_BUSY, true},
    {"a worker, I/O error, rolled back", INJECT_STATEMENT, INJECT_IOERR_LOST, false},
    {"a worker, one file error", INJECT_FILE, INJECT_FILE_ERROR, false},
    {"a worker, file errors for a while", INJECT_FILE, INJECT_FILE_ERROR, true},
    {"a worker, one sync", INJECT_FILE, INJECT_FILE_SYNC, false},
    {"a worker, no room for a while", INJECT_FILE, INJECT_FILE_FULL, true},
};

START_TEST(proc_statements)
{
    if ((proc_ways[_i].how >= INJECT_BUSY) == T_SQLITE)
        proc_all(proc_ways[_i].name, proc_ways[_i].kind, proc_ways[_i].how, proc_ways[_i].persistent,
                 proc_ways[_i].persistent ? 5 : 10);
}
END_TEST

Suite *suite_proc(void)
{
    Suite *s = suite_create("nth proc");
    const double seconds = nth_long() ? 3000 : 60;
    TCase *c = t_case(s, "worker", seconds);
    tcase_add_test(c, proc_allocations);
    tcase_add_test(c, proc_allocations_all);
    tcase_add_test(c, proc_allocations_children);
    tcase_add_test(c, proc_system);
    tcase_add_test(c, proc_system_all);
    tcase_add_loop_test(c, proc_statements, 0, (int)(sizeof proc_ways / sizeof *proc_ways));
    return s;
}
