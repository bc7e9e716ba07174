/* SPDX-License-Identifier: MIT */
/* nanoq work --stream: one attempt of a task, given to a child and answered by it, or not. */
#include <poll.h>
#include <time.h>

#include "stream.h"
#include "work.h"

#define EXCHANGE_LINES  64         /* of a child, read in one turn */
#define EXCHANGE_END_US NQ_MS(500) /* the end of stdout may be that of the process, soon */

enum exchange_state {
    EXCHANGE_RUNS,
    EXCHANGE_ANSWERED, /* and the child may go on */
    EXCHANGE_BROKE,    /* it broke the protocol: why says how */
    EXCHANGE_SILENT,   /* it closed its stdout */
    EXCHANGE_ENDED     /* the process ended */
};

struct exchange {
    struct stream_child *child;
    const struct spawn_command *command;
    nq_ctx *ctx;
    const nq_task *task;
    enum exchange_state state;
    enum nq_cause cause; /* why the child was told to stop, if it was */
    size_t size;         /* of the task's line */
    struct stream_answer answer;
    char why[STREAM_WHY];
};

static void exchange_note(struct exchange *x, struct stream_answer *a)
{
    nq_err err;
    if (a->verb == STREAM_HOLD) {
        if (nq_ctx_hold(x->ctx, a->queue ? NQ_SCOPE_QUEUE : NQ_SCOPE_GROUP, a->delay_us, &err) != NQ_OK)
            log_task(&(struct log_event){.level = LOG_WARN, .task = x->task, .took_us = -1, .from = "hold"},
                     "%s", err.message);
    } else if (a->verb == STREAM_PROGRESS) {
        nq_ctx_progress(x->ctx, a->done, a->total, a->text);
    } else {
        log_task(&(struct log_event){.level = a->level, .task = x->task, .took_us = -1, .from = "child"},
                 "%s", a->text);
    }
    stream_answer_free(a);
}

/* Look at one line. */
static void exchange_line(struct exchange *x, const char *line, size_t n)
{
    struct stream_answer a;
    if (!stream_parse(line, n, &a, x->why)) {
        x->state = EXCHANGE_BROKE;
    } else if (a.verb != STREAM_LOG && a.id != x->task->id) {
        snprintf(x->why, sizeof x->why, "it answers for task %lld, and holds task %lld only", (long long)a.id,
                 (long long)x->task->id);
        stream_answer_free(&a);
        x->state = EXCHANGE_BROKE;
    } else if (a.verb == STREAM_HOLD || a.verb == STREAM_PROGRESS || a.verb == STREAM_LOG) {
        exchange_note(x, &a);
    } else {
        x->answer = a;
        x->state = EXCHANGE_ANSWERED;
    }
}

/* Read what it says, but only so much in one turn: one that logs without pause must meet its timeout too.
 * Answers whether there may be more. */
static bool exchange_listen(struct exchange *x)
{
    const char *line;
    size_t n;
    for (unsigned i = 0; i < EXCHANGE_LINES && x->state == EXCHANGE_RUNS; i++) {
        switch (stream_line(x->child, &line, &n)) {
        case STREAM_LINE_READ:
            exchange_line(x, line, n);
            break;
        case STREAM_TOO_LONG:
            snprintf(x->why, sizeof x->why, "a line of more than %zu bytes", STREAM_LINE);
            x->state = EXCHANGE_BROKE;
            break;
        case STREAM_END:
            x->state = EXCHANGE_SILENT;
            break;
        case STREAM_NOTHING:
            return false;
        }
    }
    return x->state == EXCHANGE_RUNS;
}

/* Tell the child to stop, in the protocol and by signals. */
static void exchange_stop(struct exchange *x)
{
    if (x->cause == NQ_CAUSE_NONE) {
        x->cause = nq_ctx_cause(x->ctx);
        if (x->cause == NQ_CAUSE_NONE)
            return;
        stream_cancel(&x->child->to, x->task->id, x->cause);
        stream_send(x->child);
    }
    spawn_stop(x->command, &x->child->process);
}

/* How long to wait for the child, in milliseconds; full: what it writes to stderr is not read meanwhile. */
static int exchange_wait(const struct exchange *x, bool more, bool full)
{
    const bool deaf = nq_ctx_fd(x->ctx) < 0 && x->cause == NQ_CAUSE_NONE;
    const int wait = deaf ? 100 : spawn_stop_wait(&x->child->process);
    if (more)
        return 0;
    return full && (wait < 0 || wait > 100) ? 100 : wait;
}

static void exchange_run(struct exchange *x)
{
    struct stream_child *c = x->child;
    int cancel = nq_ctx_fd(x->ctx);
    bool more = false;
    stream_send(c);
    while (x->state == EXCHANGE_RUNS) {
        const bool full = log_full();
        const int wait = exchange_wait(x, more, full);
        struct pollfd fds[] = {{.fd = c->process.control, .events = POLLIN},
                               {.fd = c->process.out, .events = POLLIN},
                               {.fd = full ? -1 : c->process.err, .events = POLLIN},
                               {.fd = c->to.n > 0 ? c->process.in : -1, .events = POLLOUT},
                               {.fd = x->cause == NQ_CAUSE_NONE ? cancel : -1, .events = POLLIN}};
        if (poll(fds, 5, wait) < 0)
            continue;
        if (fds[2].revents != 0)
            stream_hear(c, x->task);
        if (fds[3].revents != 0)
            stream_send(c);
        if (more || fds[1].revents != 0 || fds[0].revents != 0)
            more = exchange_listen(x);
        if (fds[0].revents != 0 && !more && (x->state == EXCHANGE_RUNS || x->state == EXCHANGE_SILENT))
            x->state = EXCHANGE_ENDED;
        if (x->state == EXCHANGE_RUNS)
            exchange_stop(x);
    }
    stream_hear(c, x->task);
    if (x->state == EXCHANGE_SILENT && x->cause == NQ_CAUSE_NONE &&
        stream_await(c, cli_now_us(CLOCK_MONOTONIC) + EXCHANGE_END_US))
        x->state = EXCHANGE_ENDED;
}

static nq_verdict exchange_answer(struct exchange *x, int64_t start)
{
    static const nq_verdict verdicts[] = {[STREAM_DONE] = NQ_DONE,
                                          [STREAM_RETRY] = NQ_RETRY,
                                          [STREAM_DISCARD] = NQ_DISCARD,
                                          [STREAM_SNOOZE] = NQ_SNOOZE};
    nq_verdict verdict = verdicts[x->answer.verb];
    const char *error = verdict == NQ_DONE ? NULL : x->answer.text;
    nq_err why = {0};
    if (verdict == NQ_DONE && x->answer.text &&
        nq_ctx_result(x->ctx, x->answer.text, x->answer.text_size, &why) != NQ_OK) {
        verdict = NQ_RETRY;
        error = why.message;
    }
    if (x->answer.delay_us >= 0)
        nq_ctx_set_delay(x->ctx, x->answer.delay_us);
    if (!error && (verdict == NQ_RETRY || verdict == NQ_DISCARD)) {
        error = verdict == NQ_RETRY ? "the child answered retry, without an error"
                                    : "the child answered discard, without an error";
    }
    nq_verdict said = work_ended(x->ctx, x->task, verdict, start, error);
    stream_answer_free(&x->answer);
    return said;
}

/* What there is to say of an attempt that got no answer; end: of its child. */
static void exchange_failure(const struct exchange *x, const nq_ending *end, bool killed, char *what,
                             size_t size)
{
    char how[NQ_ENDING_WORDS];
    nq_ending_words(end, true, how);
    if (x->cause == NQ_CAUSE_TIMEOUT) {
        snprintf(what, size, "timed out after %g s%s", (double)x->task->timeout_us / 1e6,
                 killed ? " and had to be killed" : "");
    } else if (x->cause != NQ_CAUSE_NONE) {
        snprintf(what, size, "%s", x->cause == NQ_CAUSE_CANCEL ? "cancelled while it ran" : "stopped");
    } else if (x->state == EXCHANGE_BROKE) {
        snprintf(what, size, "the child broke the protocol: %s", x->why);
    } else if (x->state == EXCHANGE_SILENT) {
        snprintf(what, size, "the child closed its stdout while it held the task");
    } else {
        snprintf(what, size, "the child ended while it held the task: %s", how);
    }
}

static void exchange_begin(struct exchange *x)
{
    struct stream_child *c = x->child;
    c->tail = (nq_tail){.bytes = c->last, .size = sizeof c->last};
    c->to.n = c->sent = 0;
    spawn_renew_cpu(x->command, &c->process);
    stream_task(&c->to, x->task, cli_now_us(CLOCK_REALTIME) + nq_ctx_remaining_us(x->ctx));
    x->size = c->to.n;
}

/* A child that had finished tasks and ends by itself before it reads the next one (after so many requests, or
 * so much memory) costs that one nothing: another child gets it. The child is then gone. */
static bool exchange_unread(struct exchange *x, struct stream *s)
{
    const struct stream_child *c = x->child;
    if ((x->state != EXCHANGE_ENDED && x->state != EXCHANGE_SILENT) || x->cause != NQ_CAUSE_NONE ||
        c->tasks == 0 || !spawn_read_nothing(&c->process, c->to.n == 0 ? x->size : c->sent))
        return false;
    stream_lose(s, x->child, false, x->state != EXCHANGE_ENDED);
    return true;
}

nq_verdict work_stream(nq_ctx *ctx, const nq_task *task, void *udata)
{
    struct stream *s = udata;
    struct exchange x = {.command = stream_command(s), .ctx = ctx, .task = task};
    char what[STREAM_WHY + 100], message[NQ_MAX_ERROR + 1];
    int64_t start = cli_now_us(CLOCK_MONOTONIC);
    do {
        x.child = stream_take(s, ctx, x.why);
        if (!x.child) { /* no fault of the task's: it goes back as it was */
            nq_ctx_set_delay(ctx, nq_ctx_cause(ctx) == NQ_CAUSE_NONE ? NQ_MS(100) : 0);
            return work_ended(ctx, task, NQ_SNOOZE, start, NULL);
        }
        x.state = EXCHANGE_RUNS;
        exchange_begin(&x);
        exchange_run(&x);
        log_output_end(&x.child->log, task);
    } while (exchange_unread(&x, s));
    struct stream_child *c = x.child;
    if (x.state == EXCHANGE_ANSWERED && x.cause == NQ_CAUSE_NONE) {
        stream_give(s, c);
        return exchange_answer(&x, start);
    }
    char last[NQ_MAX_ERROR];
    nq_tail tail = c->tail; /* not what it says from now on */
    tail.bytes = memcpy(last, c->last, sizeof last);
    bool killed = c->process.ladder.kills > 0;
    if (x.state == EXCHANGE_BROKE) {
        log_task(&(struct log_event){.level = LOG_ERROR, .task = task, .took_us = -1},
                 "child %d broke the protocol: %s; it is replaced", (int)c->process.pid, x.why);
    }
    bool blame = x.cause == NQ_CAUSE_NONE && c->tasks == 0;
    const nq_ending end = stream_lose(s, c, blame, x.state != EXCHANGE_ENDED);
    if (x.state == EXCHANGE_ANSWERED)
        return exchange_answer(&x, start);
    exchange_failure(&x, &end, killed, what, sizeof what);
    nq_tail_text(&tail, what, message, sizeof message);
    return work_ended(ctx, task, NQ_RETRY, start, message);
}
