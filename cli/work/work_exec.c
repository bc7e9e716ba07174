/* SPDX-License-Identifier: MIT */
/* nanoq work: one process per task, the payload on its stdin, the verdict in its exit status. */
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <time.h>
#include <unistd.h>

#include "../text/log.h"
#include "../text/text.h"
#include "keep.h"
#include "work.h"

enum { EXEC_DISCARD_STATUS = 65 }; /* EX_DATAERR of sysexits.h. Whatever is not 0 otherwise: retry. */
#define EXEC_DRAIN                                                                                           \
    (1u << 20) /* most bytes of stderr read after its end: what could not be killed may write for ever */

static struct gate exec_gate = GATE_OPEN; /* of all handler threads */

struct exec {
    const struct spawn_command *command;
    bool results; /* its stdout is the result */
    struct text result;
    bool too_long; /* no more of it is kept */
    const nq_task *task;
    struct spawn_process process;
    const char *payload;
    size_t left;
    enum nq_cause cause; /* why it was told to stop, if it was */
    nq_tail tail;
    char last[NQ_MAX_ERROR]; /* of its stderr */
    struct log_output log;
    struct keep kept;
};

static int exec_start(struct exec *x, nq_ctx *ctx)
{
    const nq_task *task = x->task;
    int64_t deadline = cli_now_us(CLOCK_REALTIME) + nq_ctx_remaining_us(ctx);
    const char *const parent = nq_task_header(task, "traceparent"),
                      *state = nq_task_header(task, "tracestate");
    char *own[13] = {0};
    size_t n = 7;
    own[0] = cli_format("NANOQ_ID=%" PRId64, task->id);
    own[1] = cli_format("NANOQ_TYPE=%s", task->type);
    own[2] = cli_format("NANOQ_QUEUE=%s", task->queue);
    own[3] = cli_format("NANOQ_ATTEMPT=%u", task->attempt);
    own[4] = cli_format("NANOQ_MAX_RETRIES=%u", task->max_retries);
    own[5] = cli_format("NANOQ_DEADLINE=%" PRId64 ".%06d", deadline / 1000000, (int)(deadline % 1000000));
    own[6] = cli_format("NANOQ_GROUP=%s", task->group ? task->group : "");
    if (task->dead_id)
        own[n++] = cli_format("NANOQ_DEAD_ID=%" PRId64, task->dead_id);
    if (task->schedule) {
        own[n++] = cli_format("NANOQ_SCHEDULE=%s", task->schedule);
        own[n++] = cli_format("NANOQ_DUE_AT=%" PRId64 ".%06d", task->due_at_us / 1000000,
                              (int)(task->due_at_us % 1000000));
    }
    if (parent)
        own[n++] = cli_format("TRACEPARENT=%s", parent);
    if (parent && state)
        own[n++] = cli_format("TRACESTATE=%s", state);
    int why = spawn_start(x->command, own, x->results, &x->process);
    spawn_close(&x->process.unread);
    for (size_t i = 0; i < n; i++)
        free(own[i]);
    return why;
}

static void exec_feed(struct exec *x)
{
    while (x->process.in >= 0 && x->left > 0) {
        ssize_t n = write(x->process.in, x->payload, x->left);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            return;
        if (n < 0) /* EPIPE: it does not want to know */
            break;
        x->payload += n;
        x->left -= (size_t)n;
    }
    spawn_close(&x->process.in);
}

/* Pass stderr on and keep its end. Returns bytes read, 0 when there is nothing now. */
static size_t exec_listen(struct exec *x)
{
    char chunk[4096];
    ssize_t n = x->process.err >= 0 ? read(x->process.err, chunk, sizeof chunk) : -1;
    if (n < 0 && (x->process.err < 0 || errno == EAGAIN || errno == EINTR))
        return 0;
    if (n <= 0) {
        spawn_close(&x->process.err);
        return 0;
    }
    log_output(&x->log, x->task, chunk, (size_t)n);
    keep_output(&x->kept, chunk, (size_t)n);
    nq_tail_add(&x->tail, chunk, (size_t)n);
    return (size_t)n;
}

/* Read what it writes to its stdout; what is too long is read all the same, so that it need not wait. Returns
 * bytes read, 0 when there is nothing now. */
static size_t exec_read(struct exec *x)
{
    char chunk[16384];
    ssize_t n = x->process.out >= 0 ? read(x->process.out, chunk, sizeof chunk) : -1;
    if (n < 0 && (x->process.out < 0 || errno == EAGAIN || errno == EINTR))
        return 0;
    if (n <= 0) {
        spawn_close(&x->process.out);
        return 0;
    }
    x->too_long = x->too_long || x->result.n + (size_t)n > NQ_DEFAULT_MAX_PAYLOAD;
    if (!x->too_long)
        text_add(&x->result, chunk, (size_t)n);
    return (size_t)n;
}

static void exec_watch(struct exec *x, nq_ctx *ctx)
{
    int cancel = nq_ctx_fd(ctx);
    for (;;) {
        int wait = cancel < 0 && x->cause == NQ_CAUSE_NONE ? 100 : spawn_stop_wait(&x->process);
        const bool full = log_full(); /* then what it writes waits in its pipe */
        wait = full && (wait < 0 || wait > 100) ? 100 : wait;
        struct pollfd fds[] = {{.fd = x->process.control, .events = POLLIN},
                               {.fd = full ? -1 : x->process.err, .events = POLLIN},
                               {.fd = x->process.in, .events = POLLOUT},
                               {.fd = x->process.out, .events = POLLIN},
                               {.fd = x->cause == NQ_CAUSE_NONE ? cancel : -1, .events = POLLIN}};
        if (poll(fds, 5, wait) < 0)
            continue;
        if (fds[1].revents != 0)
            exec_listen(x);
        if (fds[2].revents != 0)
            exec_feed(x);
        if (fds[3].revents != 0)
            exec_read(x);
        if (fds[0].revents != 0)
            return;
        if (x->cause == NQ_CAUSE_NONE)
            x->cause = nq_ctx_cause(ctx);
        if (x->cause != NQ_CAUSE_NONE)
            spawn_stop(x->command, &x->process);
    }
}

static nq_verdict exec_done(const struct exec *x, nq_ctx *ctx, int64_t start)
{
    nq_err err = {0};
    if (x->results && x->too_long)
        snprintf(err.message, sizeof err.message, "its result is too long: more than %zu bytes on its stdout",
                 NQ_DEFAULT_MAX_PAYLOAD);
    else if (!x->results || nq_ctx_result(ctx, x->result.p, x->result.n, &err) == NQ_OK)
        return work_ended(ctx, x->task, NQ_DONE, start, NULL);
    return work_ended(ctx, x->task, NQ_RETRY, start, err.message);
}

static nq_verdict exec_verdict(struct exec *x, const nq_ending *end, nq_ctx *ctx, int64_t start)
{
    char what[NQ_ENDING_WORDS], message[NQ_MAX_ERROR + 1];
    if (x->cause == NQ_CAUSE_NONE && end->exited && end->status == 0)
        return exec_done(x, ctx, start);
    bool discard = x->cause == NQ_CAUSE_NONE && end->exited && end->status == EXEC_DISCARD_STATUS;
    if (x->cause == NQ_CAUSE_NONE && !discard && !x->results && supervise_unread()) {
        /* It failed because nobody reads our stdout, which is its own too; the worker is about to stop. */
        nq_ctx_set_delay(ctx, NQ_SECONDS(1));
        return work_ended(ctx, x->task, NQ_SNOOZE, start, NULL);
    }
    nq_ending_words(end, !end->exited, what);
    if (x->cause == NQ_CAUSE_TIMEOUT) {
        snprintf(what, sizeof what, "timed out after %g s%s", (double)x->task->timeout_us / 1e6,
                 x->process.ladder.kills > 0 ? " and had to be killed" : "");
    } else if (x->cause != NQ_CAUSE_NONE) {
        snprintf(what, sizeof what, "%s", x->cause == NQ_CAUSE_CANCEL ? "cancelled while it ran" : "stopped");
    }
    nq_tail_text(&x->tail, what, message, sizeof message);
    return work_ended(ctx, x->task, discard ? NQ_DISCARD : NQ_RETRY, start, message);
}

/* It could not be started. Unless that is this task's own fault it costs no attempt: somebody will repair the
 * command, or descriptors and memory will be free again. */
static nq_verdict exec_not_started(struct exec *x, nq_ctx *ctx, int why, int64_t start)
{
    char message[400];
    unsigned failures;
    spawn_why(x->command, why, message, sizeof message);
    if (why == E2BIG)
        return work_ended(ctx, x->task, NQ_RETRY, start, message);
    const int64_t pause = gate_failed(&exec_gate, &failures);
    work_not_started(message, failures, pause);
    nq_ctx_set_delay(ctx, pause);
    return work_ended(ctx, x->task, NQ_SNOOZE, start, NULL);
}

nq_verdict work_exec(nq_ctx *ctx, const nq_task *task, void *udata)
{
    const struct work *work = udata;
    struct exec x = {.command = &work->command,
                     .results = work->results,
                     .task = task,
                     .payload = task->payload,
                     .left = task->payload_size,
                     .cause = NQ_CAUSE_NONE,
                     .kept = {.ctx = work->command.keep_logs ? ctx : NULL}};
    x.tail = (nq_tail){.bytes = x.last, .size = sizeof x.last};
    int64_t start = cli_now_us(CLOCK_MONOTONIC);
    if (!gate_wait(&exec_gate, ctx)) {
        nq_ctx_set_delay(ctx, 0);
        return work_ended(ctx, task, NQ_SNOOZE, start, NULL);
    }
    int why = exec_start(&x, ctx);
    if (why != 0)
        return exec_not_started(&x, ctx, why, start);
    if (gate_passed(&exec_gate) > 0)
        log_line(LOG_INFO, "the command starts again");
    exec_feed(&x);
    exec_watch(&x, ctx);
    for (size_t drained = 0, n; drained < EXEC_DRAIN && (n = exec_listen(&x)) > 0;)
        drained += n;
    while (!x.too_long && exec_read(&x) > 0)
        ;
    log_output_end(&x.log, task);
    keep_end(&x.kept);
    const nq_ending end = spawn_reap(&x.process);
    const nq_verdict verdict = exec_verdict(&x, &end, ctx, start);
    text_free(&x.result);
    return verdict;
}
