/* SPDX-License-Identifier: MIT */
/* nanoq work --stream: the attempts of a task, or of several, given to a child and answered by it, or not. */
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

/* One of the tasks that the child holds. */
struct exchange_task {
    nq_ctx *ctx;
    const nq_task *task;
    struct stream_answer answer;
    bool answered;
    enum nq_cause cause; /* why it was told to stop, if it was */
};

struct exchange {
    struct stream_child *child;
    const struct spawn_command *command;
    struct exchange_task *tasks;
    size_t n, left;      /* left: not answered yet */
    const nq_task *task; /* whose the child's log is: the only one's */
    struct keep kept;    /* what it writes to its stderr, likewise */
    bool many;           /* the line is one of several tasks, though there may be one in it */
    enum exchange_state state;
    enum nq_cause cause; /* why the child was told to stop, if it was */
    size_t size;         /* of the line of the tasks */
    char why[STREAM_WHY];
};

/* From LOG_ERROR on. */
static const enum nq_log_level exchange_levels[] = {NQ_LOG_ERROR, NQ_LOG_WARN, NQ_LOG_INFO, NQ_LOG_DEBUG};

/* t: the task that it is about; NULL: a line of the log. */
static void exchange_note(const struct exchange *x, struct exchange_task *t, struct stream_answer *a)
{
    nq_err err;
    if (!t) {
        log_task(&(struct log_event){.level = a->level, .task = x->task, .took_us = -1, .from = "child"},
                 "%s", a->text);
        if (x->kept.ctx)
            nq_ctx_log(x->kept.ctx, exchange_levels[a->level - LOG_ERROR], "%s", a->text);
    } else if (a->verb == STREAM_PROGRESS) {
        nq_ctx_progress(t->ctx, a->done, a->total, a->text);
    } else if (nq_ctx_hold(t->ctx, a->queue ? NQ_SCOPE_QUEUE : NQ_SCOPE_GROUP, a->delay_us, &err) != NQ_OK) {
        log_task(&(struct log_event){.level = LOG_WARN, .task = t->task, .took_us = -1, .from = "hold"}, "%s",
                 err.message);
    }
    stream_answer_free(a);
}

/* The task of this id that has no answer; NULL after why was written. */
static struct exchange_task *exchange_of(struct exchange *x, nq_id id)
{
    size_t i = 0;
    while (i < x->n && x->tasks[i].task->id != id)
        i++;
    if (i < x->n && !x->tasks[i].answered)
        return &x->tasks[i];
    if (i < x->n)
        snprintf(x->why, sizeof x->why, "it answers twice for task %lld", (long long)id);
    else if (x->n == 1)
        snprintf(x->why, sizeof x->why, "it answers for task %lld, and holds task %lld only", (long long)id,
                 (long long)x->tasks->task->id);
    else
        snprintf(x->why, sizeof x->why, "it answers for task %lld, which is none of the %zu that it holds",
                 (long long)id, x->n);
    return NULL;
}

/* Look at one line. */
static void exchange_line(struct exchange *x, const char *line, size_t n)
{
    struct stream_answer a;
    struct exchange_task *t = NULL;
    if (!stream_parse(line, n, &a, x->why)) {
        x->state = EXCHANGE_BROKE;
    } else if (a.verb != STREAM_LOG && !(t = exchange_of(x, a.id))) {
        stream_answer_free(&a);
        x->state = EXCHANGE_BROKE;
    } else if (a.verb == STREAM_HOLD || a.verb == STREAM_PROGRESS || a.verb == STREAM_LOG) {
        exchange_note(x, t, &a);
    } else {
        t->answer = a;
        t->answered = true;
        if (--x->left == 0)
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

/* Tell the child to stop, in the protocol and by signals, once one of its tasks must. */
static void exchange_stop(struct exchange *x)
{
    for (size_t i = 0; i < x->n; i++) {
        struct exchange_task *t = &x->tasks[i];
        if (t->answered || t->cause != NQ_CAUSE_NONE || (t->cause = nq_ctx_cause(t->ctx)) == NQ_CAUSE_NONE)
            continue;
        stream_cancel(&x->child->to, t->task->id, t->cause);
        stream_send(x->child);
        x->cause = x->cause == NQ_CAUSE_NONE ? t->cause : x->cause;
    }
    if (x->cause != NQ_CAUSE_NONE)
        spawn_stop(x->command, &x->child->process);
}

/* How long to wait for the child, in milliseconds; full: what it writes to stderr is not read meanwhile. */
static int exchange_wait(const struct exchange *x, int cancel, bool more, bool full)
{
    const bool deaf = cancel < 0 && x->cause == NQ_CAUSE_NONE;
    const int wait = deaf ? 100 : spawn_stop_wait(&x->child->process);
    if (more)
        return 0;
    return full && (wait < 0 || wait > 100) ? 100 : wait;
}

static void exchange_run(struct exchange *x)
{
    struct stream_child *c = x->child;
    /* Of several tasks each would cost a descriptor: they are looked at now and then. */
    const int cancel = x->many ? -1 : nq_ctx_fd(x->tasks->ctx);
    bool more = false;
    stream_send(c);
    while (x->state == EXCHANGE_RUNS) {
        const bool full = log_full();
        const int wait = exchange_wait(x, cancel, more, full);
        struct pollfd fds[] = {{.fd = c->process.control, .events = POLLIN},
                               {.fd = c->process.out, .events = POLLIN},
                               {.fd = full ? -1 : c->process.err, .events = POLLIN},
                               {.fd = c->to.n > 0 ? c->process.in : -1, .events = POLLOUT},
                               {.fd = x->cause == NQ_CAUSE_NONE ? cancel : -1, .events = POLLIN}};
        if (poll(fds, 5, wait) < 0)
            continue;
        if (fds[2].revents != 0)
            stream_hear(c, x->task, &x->kept);
        if (fds[3].revents != 0)
            stream_send(c);
        if (more || fds[1].revents != 0 || fds[0].revents != 0)
            more = exchange_listen(x);
        if (fds[0].revents != 0 && !more && (x->state == EXCHANGE_RUNS || x->state == EXCHANGE_SILENT))
            x->state = EXCHANGE_ENDED;
        if (x->state == EXCHANGE_RUNS)
            exchange_stop(x);
    }
    stream_hear(c, x->task, &x->kept);
    if (x->state == EXCHANGE_SILENT && x->cause == NQ_CAUSE_NONE &&
        stream_await(c, cli_now_us(CLOCK_MONOTONIC) + EXCHANGE_END_US))
        x->state = EXCHANGE_ENDED;
}

static nq_verdict exchange_answer(struct exchange_task *t, int64_t start)
{
    static const nq_verdict verdicts[] = {[STREAM_DONE] = NQ_DONE,
                                          [STREAM_RETRY] = NQ_RETRY,
                                          [STREAM_DISCARD] = NQ_DISCARD,
                                          [STREAM_SNOOZE] = NQ_SNOOZE};
    nq_verdict verdict = verdicts[t->answer.verb];
    const char *error = verdict == NQ_DONE ? NULL : t->answer.text;
    nq_err why = {0};
    if (verdict == NQ_DONE && t->answer.text &&
        nq_ctx_result(t->ctx, t->answer.text, t->answer.text_size, &why) != NQ_OK) {
        verdict = NQ_RETRY;
        error = why.message;
    }
    if (t->answer.delay_us >= 0)
        nq_ctx_set_delay(t->ctx, t->answer.delay_us);
    if (!error && (verdict == NQ_RETRY || verdict == NQ_DISCARD)) {
        error = verdict == NQ_RETRY ? "the child answered retry, without an error"
                                    : "the child answered discard, without an error";
    }
    nq_verdict said = work_ended(t->ctx, t->task, verdict, start, error);
    stream_answer_free(&t->answer);
    return said;
}

/* No fault of the task's: it goes back as it was. */
static nq_verdict exchange_return(const struct exchange_task *t, int64_t delay, int64_t start)
{
    nq_ctx_set_delay(t->ctx, nq_ctx_cause(t->ctx) == NQ_CAUSE_NONE ? delay : 0);
    return work_ended(t->ctx, t->task, NQ_SNOOZE, start, NULL);
}

/* What there is to say of an attempt that got no answer; end: of its child. */
static void exchange_failure(const struct exchange *x, const struct exchange_task *t, const nq_ending *end,
                             bool killed, char *what, size_t size)
{
    const char *held = x->n > 1 ? "tasks" : "the task";
    char how[NQ_ENDING_WORDS];
    nq_ending_words(end, true, how);
    if (t->cause == NQ_CAUSE_TIMEOUT) {
        snprintf(what, size, "timed out after %g s%s", (double)t->task->timeout_us / 1e6,
                 killed ? " and had to be killed" : "");
    } else if (t->cause != NQ_CAUSE_NONE) {
        snprintf(what, size, "%s", t->cause == NQ_CAUSE_CANCEL ? "cancelled while it ran" : "stopped");
    } else if (x->state == EXCHANGE_BROKE) {
        snprintf(what, size, "the child broke the protocol: %s", x->why);
    } else if (x->state == EXCHANGE_SILENT) {
        snprintf(what, size, "the child closed its stdout while it held %s", held);
    } else {
        snprintf(what, size, "the child ended while it held %s: %s", held, how);
    }
}

static void exchange_begin(struct exchange *x)
{
    struct stream_child *c = x->child;
    c->tail = (nq_tail){.bytes = c->last, .size = sizeof c->last};
    c->to.n = c->sent = 0;
    spawn_renew_cpu(x->command, &c->process);
    if (x->many)
        stream_tasks_begin(&c->to);
    for (size_t i = 0; i < x->n; i++) {
        const int64_t deadline = cli_now_us(CLOCK_REALTIME) + nq_ctx_remaining_us(x->tasks[i].ctx);
        if (x->many)
            stream_tasks_add(&c->to, x->tasks[i].task, deadline, i == 0);
        else
            stream_task(&c->to, x->tasks[i].task, deadline);
    }
    if (x->many)
        stream_tasks_end(&c->to);
    x->size = c->to.n;
}

/* A child that had finished tasks and ends by itself before it reads the next line (after so many requests,
 * or so much memory) costs the tasks of that line nothing: another child gets them. The child is then gone.
 */
static bool exchange_unread(struct exchange *x, struct stream *s)
{
    const struct stream_child *c = x->child;
    if ((x->state != EXCHANGE_ENDED && x->state != EXCHANGE_SILENT) || x->cause != NQ_CAUSE_NONE ||
        c->tasks == 0 || !spawn_read_nothing(&c->process, c->to.n == 0 ? x->size : c->sent))
        return false;
    stream_lose(s, x->child, false, x->state != EXCHANGE_ENDED);
    return true;
}

/* The child has gone, or must: those without an answer fail, but for those that were stopped with others. */
static void exchange_lost(struct exchange *x, struct stream *s, nq_verdict verdicts[], int64_t start)
{
    char what[STREAM_WHY + 100], message[NQ_MAX_ERROR + 1], last[NQ_MAX_ERROR];
    struct stream_child *c = x->child;
    nq_tail tail = c->tail; /* not what it says from now on */
    tail.bytes = memcpy(last, c->last, sizeof last);
    const bool killed = c->process.ladder.kills > 0;
    if (x->state == EXCHANGE_BROKE) {
        log_task(&(struct log_event){.level = LOG_ERROR, .task = x->task, .took_us = -1},
                 "child %d broke the protocol: %s; it is replaced", (int)c->process.pid, x->why);
    }
    const bool blame = x->cause == NQ_CAUSE_NONE && c->tasks == 0;
    const nq_ending end = stream_lose(s, c, blame, x->state != EXCHANGE_ENDED);
    for (size_t i = 0; i < x->n; i++) {
        struct exchange_task *t = &x->tasks[i];
        if (t->answered) {
            verdicts[i] = exchange_answer(t, start);
        } else if (x->cause != NQ_CAUSE_NONE && x->state != EXCHANGE_BROKE && t->cause == NQ_CAUSE_NONE &&
                   (t->cause = nq_ctx_cause(t->ctx)) == NQ_CAUSE_NONE) {
            verdicts[i] = exchange_return(t, 0, start);
        } else {
            exchange_failure(x, t, &end, killed, what, sizeof what);
            nq_tail_text(&tail, what, message, sizeof message);
            verdicts[i] = work_ended(t->ctx, t->task, NQ_RETRY, start, message);
        }
    }
}

static void exchange_tasks(struct exchange *x, struct stream *s, nq_verdict verdicts[])
{
    const int64_t start = cli_now_us(CLOCK_MONOTONIC);
    x->command = stream_command(s);
    x->left = x->n;
    x->kept.ctx = x->command->keep_logs && x->task ? x->tasks->ctx : NULL;
    do {
        x->child = stream_take(s, x->tasks->ctx, x->why);
        for (size_t i = 0; !x->child && i < x->n; i++)
            verdicts[i] = exchange_return(&x->tasks[i], NQ_MS(100), start);
        if (!x->child)
            return;
        x->state = EXCHANGE_RUNS;
        exchange_begin(x);
        exchange_run(x);
        log_output_end(&x->child->log, x->task);
        keep_end(&x->kept);
    } while (x->left == x->n && exchange_unread(x, s));
    if (x->state != EXCHANGE_ANSWERED || x->cause != NQ_CAUSE_NONE) {
        exchange_lost(x, s, verdicts, start);
        return;
    }
    stream_give(s, x->child, (unsigned)x->n);
    for (size_t i = 0; i < x->n; i++)
        verdicts[i] = exchange_answer(&x->tasks[i], start);
}

nq_verdict work_stream(nq_ctx *ctx, const nq_task *task, void *udata)
{
    struct exchange_task one = {.ctx = ctx, .task = task};
    struct exchange x = {.tasks = &one, .n = 1, .task = task};
    nq_verdict verdict = NQ_RETRY;
    exchange_tasks(&x, udata, &verdict);
    return verdict;
}

void work_stream_many(nq_ctx *const ctx[], const nq_task *const tasks[], size_t n, nq_verdict verdicts[],
                      void *udata)
{
    struct exchange_task *all = cli_alloc(n * sizeof *all);
    struct exchange x = {.tasks = all, .n = n, .many = true};
    for (size_t i = 0; i < n; i++)
        all[i] = (struct exchange_task){.ctx = ctx[i], .task = tasks[i]};
    exchange_tasks(&x, udata, verdicts);
    free(all);
}
