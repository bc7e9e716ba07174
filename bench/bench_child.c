/* SPDX-License-Identifier: MIT */
/* Workers and producers, in processes of their own or in this one. */
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench.h"

/* ---- Shared memory, inherited as a descriptor */

bench_shared *bench_shared_new(size_t ncells)
{
    const size_t bytes = sizeof(bench_shared) + ncells * sizeof(bench_cell);
    const int fd = memfd_create("nanoq-bench", 0);
    if (fd < 0 || ftruncate(fd, (off_t)bytes))
        bench_die("no shared memory");
    bench_shared *s = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (s == MAP_FAILED)
        bench_die("no shared memory");
    s->fd = fd;
    s->bytes = bytes;
    s->ncells = ncells;
    return s;
}

void bench_shared_free(bench_shared *s)
{
    close(s->fd);
    munmap(s, s->bytes);
}

/* ---- The parent's side */

static void child_reap(bench_shared *s, int slot, int options)
{
    int status;
    const pid_t pid = s->slot[slot].pid;
    if (pid <= 0 || waitpid(pid, &status, options) != pid)
        return;
    s->slot[slot].pid = 0;
    if (atomic_load(&s->slot[slot].failed))
        bench_die("child: %s", s->slot[slot].error);
    if (!WIFEXITED(status) || WEXITSTATUS(status))
        bench_die("a child ended with status %d", status);
}

void bench_child_start(bench_shared *s, int slot)
{
    bench_slot *me = &s->slot[slot];
    char fd[16], number[16];
    snprintf(fd, sizeof fd, "%d", s->fd);
    snprintf(number, sizeof number, "%d", slot);
    const pid_t pid = fork(); /* not at once into *me: the child shares it */
    if (pid < 0)
        bench_die("cannot fork");
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        execl("/proc/self/exe", "nanoq-bench", "--child", fd, number, (char *)NULL);
        _exit(127);
    }
    me->pid = pid;
    while (!atomic_load(&me->ready)) {
        child_reap(s, slot, WNOHANG);
        if (!me->pid)
            bench_die("a child ended at once");
        bench_sleep(0.001);
    }
}

void bench_child_wait(bench_shared *s, int slot)
{
    child_reap(s, slot, 0);
}

void bench_child_stop(bench_shared *s, int slot)
{
    if (s->slot[slot].pid > 0)
        kill(s->slot[slot].pid, SIGTERM);
    bench_child_wait(s, slot);
}

/* ---- The work itself */

static void child_failed(bench_slot *me, const nq_err *err)
{
    snprintf(me->error, sizeof me->error, "%s", err->message);
    atomic_store(&me->failed, true);
}

static void child_memory(bench_slot *me)
{
    char line[256];
    FILE *f = fopen("/proc/self/status", "re");
    while (f && fgets(line, sizeof line, f)) {
        double kb;
        if (sscanf(line, "VmHWM: %lf", &kb) == 1)
            me->hwm_mb = kb / 1024;
        if (sscanf(line, "VmRSS: %lf", &kb) == 1)
            me->rss_mb = kb / 1024;
    }
    if (f)
        fclose(f);
}

struct child_work {
    bench_shared *shared;
    bench_slot *slot;
};

static nq_verdict child_handle(nq_ctx *ctx, const nq_task *task, void *arg)
{
    const struct child_work *w = arg;
    const int64_t now = bench_ns();
    (void)ctx;
    if (w->shared->ncells) {
        const size_t seq = strtoull(task->payload, NULL, 10);
        if (seq < w->shared->ncells)
            atomic_store(&w->shared->cell[seq].start, now);
    }
    atomic_fetch_add(&w->slot->done, 1);
    return NQ_DONE;
}

void bench_work(bench_shared *s, int slot, nq *q)
{
    bench_slot *me = &s->slot[slot];
    struct child_work w = {s, me};
    nq_worker *p = NULL;
    nq_err err = {0};
    const nq_queue_options queues[] = {NQ_QUEUE(.name = me->queue)};
    nq_worker_options opts = {.size = sizeof opts,
                              .queues = me->queue[0] ? queues : NULL,
                              .nqueues = me->queue[0] ? 1 : 0,
                              .concurrency = me->concurrency,
                              .batch = me->batch,
                              .drain = me->drain,
                              .handle_signals = true};
    atomic_store(&me->ready, true);
    while (!atomic_load(&s->go))
        bench_sleep(0.0005);
    if (nq_worker_new(&p, q, &opts, &err) || nq_worker_handle(p, NULL, child_handle, &w, NULL, &err) ||
        nq_worker_run(p, &err))
        child_failed(me, &err);
    child_memory(me);
    nq_worker_free(p);
    atomic_store(&me->ended, true);
}

/* ---- Producing */

static unsigned child_random(unsigned *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 17;
    *state ^= *state << 5;
    return *state;
}

/* Tasks one by one, with random gaps. */
static int child_gaps(bench_shared *s, bench_slot *me, nq *q, nq_err *err)
{
    unsigned state = me->seed ? me->seed : 1;
    for (size_t i = 0; i < me->count; i++) {
        char payload[160];
        nq_task_spec spec;
        const unsigned span = (unsigned)(me->gap_max_us - me->gap_min_us + 1);
        bench_sleep((me->gap_min_us + (int)(child_random(&state) % span)) / 1e6);
        bench_spec(&spec, payload, "gap", i);
        atomic_store(&s->cell[i].call, bench_ns());
        const int rc = nq_enqueue(q, NQ_OWN_TX, &spec, NULL, err);
        if (rc != NQ_OK)
            return rc;
        atomic_store(&s->cell[i].commit, bench_ns());
        atomic_fetch_add(&me->done, 1);
    }
    return NQ_OK;
}

enum { CHILD_CHUNK = 500, CHILD_AHEAD = 20000 };

/* Send cells from..from+n in one call. */
static int child_send(bench_shared *s, nq *q, size_t from, size_t n, nq_err *err)
{
    static char payload[CHILD_CHUNK][160];
    static nq_task_spec spec[CHILD_CHUNK];
    const int64_t call = bench_ns();
    for (size_t i = 0; i < n; i++) {
        bench_spec(&spec[i], payload[i], "steady", from + i);
        atomic_store(&s->cell[from + i].call, call);
    }
    const int rc = nq_enqueue_many(q, NQ_OWN_TX, spec, n, NULL, NULL, err);
    if (rc == NQ_OK) {
        const int64_t commit = bench_ns();
        for (size_t i = 0; i < n; i++)
            atomic_store(&s->cell[from + i].commit, commit);
    }
    return rc;
}

/* By the clock, whatever became of the tasks before; or, with no rate, as many as workers keep up with. */
static int child_flow(bench_shared *s, bench_slot *me, nq *q, nq_err *err)
{
    const double start = bench_seconds();
    size_t sent = 0;
    while (sent < me->count && !atomic_load(&s->stop)) {
        size_t due = me->count;
        if (me->rate > 0) {
            const double wanted = (bench_seconds() - start) * me->rate;
            due = wanted < (double)me->count ? (size_t)wanted : me->count;
        } else {
            size_t handled = 0;
            for (int i = 0; i < BENCH_MAX_SLOTS; i++)
                handled += s->slot[i].role == BENCH_WORK ? atomic_load(&s->slot[i].done) : 0;
            due = handled + CHILD_AHEAD < due ? handled + CHILD_AHEAD : due;
        }
        size_t n = due > sent ? due - sent : 0;
        n = n > CHILD_CHUNK ? CHILD_CHUNK : n;
        if (n < CHILD_CHUNK && me->rate <= 0 && sent + n < me->count)
            n = 0;
        if (n) {
            const int rc = child_send(s, q, sent, n, err);
            if (rc != NQ_OK)
                return rc;
            sent += n;
            atomic_store(&me->done, sent);
        }
        if (n < CHILD_CHUNK)
            bench_sleep(0.002);
    }
    return NQ_OK;
}

void bench_produce(bench_shared *s, int slot, nq *q)
{
    bench_slot *me = &s->slot[slot];
    nq_err err = {0};
    atomic_store(&me->ready, true);
    while (!atomic_load(&s->go))
        bench_sleep(0.0005);
    if ((me->gap_max_us ? child_gaps(s, me, q, &err) : child_flow(s, me, q, &err)) != NQ_OK)
        child_failed(me, &err);
    atomic_store(&me->ended, true);
}

int bench_child_main(int fd, int slot)
{
    struct stat st;
    nq *q = NULL;
    nq_err err = {0};
    if (fstat(fd, &st))
        return 2;
    bench_shared *s = mmap(NULL, (size_t)st.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (s == MAP_FAILED || slot < 0 || slot >= BENCH_MAX_SLOTS)
        return 2;
    if (nq_open(&q, s->slot[slot].url, NULL, &err))
        child_failed(&s->slot[slot], &err);
    else if (s->slot[slot].role == BENCH_WORK)
        bench_work(s, slot, q);
    else
        bench_produce(s, slot, q);
    nq_close(q);
    return atomic_load(&s->slot[slot].failed) ? 1 : 0;
}

/* ---- Several at once */

double bench_children(const bench_db *db, int processes, const bench_drain *drain, size_t n)
{
    size_t done = 0;
    bench_shared *s = bench_shared_new(0);
    for (int i = 0; i < processes; i++) {
        bench_slot *w = &s->slot[i];
        w->role = BENCH_WORK;
        w->concurrency = drain->concurrency;
        w->batch = drain->batch;
        w->drain = NQ_DRAIN_DUE;
        snprintf(w->url, sizeof w->url, "%s", db->url);
        bench_child_start(s, i);
    }
    const double start = bench_seconds();
    double end = start;
    atomic_store(&s->go, true);
    /* The last task's end, not that of the processes: a drained one looks twice. */
    while (done < n && bench_seconds() < start + 300) {
        bench_sleep(0.0005);
        done = 0;
        for (int i = 0; i < processes; i++)
            done += atomic_load(&s->slot[i].done);
        end = bench_seconds();
    }
    for (int i = 0; i < processes; i++)
        bench_child_wait(s, i);
    bench_shared_free(s);
    if (done != n)
        bench_die("%d processes on %s: %zu of %zu tasks were handled", processes, db->name, done, n);
    return (double)n / (end - start);
}
