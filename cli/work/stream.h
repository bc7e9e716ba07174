/* SPDX-License-Identifier: MIT */
/* nanoq work --stream: long-lived processes that take task after task, a JSON object a line. docs/stream.md
 * has the protocol. */
#ifndef STREAM_H
#define STREAM_H

#include "../cli.h"
#include "../text/log.h"
#include "../text/text.h"
#include "keep.h"
#include "spawn.h"

#define STREAM_VERSION 1
#define STREAM_LINE    ((size_t)64 << 10) /* longest line of a child, its end included */
#define STREAM_WHY     400

/* ---- stream_protocol.c: knows nothing of processes. */
enum stream_verb {
    STREAM_DONE,
    STREAM_RETRY,
    STREAM_DISCARD,
    STREAM_SNOOZE,
    STREAM_HOLD,
    STREAM_PROGRESS,
    STREAM_LOG
};
struct stream_answer {
    enum stream_verb verb;
    nq_id id;            /* 0 for STREAM_LOG */
    int64_t delay_us;    /* retry, snooze, hold; -1: not given */
    bool queue;          /* hold: all of the queue, not the task's group */
    int64_t done, total; /* progress; total 0: not known */
    int level;           /* log: LOG_... */
    char *text;          /* error, note, log line, or of done the result as it is written, JSON; valid UTF-8;
                            NULL: not given */
    size_t text_size;    /* of a result */
};
/* Read one line, without its end. Any bytes may be in it. False: why says, in printable text, what is wrong
 * and what is allowed; *a is then as it was. True: free the answer. */
bool stream_parse(const char *line, size_t n, struct stream_answer *a, char why[STREAM_WHY]);
void stream_answer_free(struct stream_answer *a);
/* Add the line that gives a task to a child. deadline_us: UTC. */
void stream_task(struct text *out, const nq_task *task, int64_t deadline_us);
/* The line that gives it several. */
void stream_tasks_begin(struct text *out);
void stream_tasks_add(struct text *out, const nq_task *task, int64_t deadline_us, bool first);
void stream_tasks_end(struct text *out);
void stream_cancel(struct text *out, nq_id id, enum nq_cause cause);

/* ---- stream_child.c: one process and its pipes. Of one thread at a time. */
struct stream_child {
    struct stream_child *next; /* in the list of the idle */
    struct spawn_process process;
    unsigned tasks;   /* finished */
    struct text to;   /* for its stdin */
    size_t sent;      /* of that */
    struct text from; /* of its stdout, not looked at yet */
    size_t seen;      /* of that, known to hold no end of line */
    nq_tail tail;     /* of its stderr since the task began */
    char last[NQ_MAX_ERROR];
    struct log_output log;
    int64_t until_us; /* of stream_retire_all */
};
enum stream_got { STREAM_NOTHING, STREAM_LINE_READ, STREAM_TOO_LONG, STREAM_END };
/* Write what it takes now of `to`. */
void stream_send(struct stream_child *c);
/* The next line of its stdout, which stays valid until the next call. NOTHING: none is complete; END: closed.
 */
enum stream_got stream_line(struct stream_child *c, const char **line, size_t *n);
/* Pass on what is in its stderr now. */
void stream_hear(struct stream_child *c, const nq_task *task, struct keep *kept); /* NULL: keep nothing */
/* Wait until it has ended, at most until then (monotonic), reading what it writes. */
bool stream_await(struct stream_child *c, int64_t until_us);
/* Close its stdin, so that it may end by itself; where it does not, SIGTERM, then SIGKILL. Then reap it, with
 * all that it left in its process group. stopped: it was told to stop already. */
nq_ending stream_retire(const struct spawn_command *command, struct stream_child *c, bool stopped);
/* The same with a list of them, all at a time; and free them. */
void stream_retire_all(const struct spawn_command *command, struct stream_child *list);
void stream_child_free(struct stream_child *c);

/* ---- stream_pool.c: the children. Thread-safe. */
struct stream;
/* command must live until stream_free. max_tasks 0: no limit. NULL after a message. */
struct stream *stream_new(const struct spawn_command *command, unsigned max_tasks);
/* An idle child, or a new one; NULL when there is none, which is no fault of the task. When children die at
 * once, or cannot be started, a growing pause comes before the next one, which the attempt's cancellation
 * ends.
 */
struct stream_child *stream_take(struct stream *s, nq_ctx *ctx, char why[STREAM_WHY]);
/* Give it back after n tasks that it finished. */
void stream_give(struct stream *s, struct stream_child *c, unsigned n);
/* Give up one that ended, or must. stopped: it was told to stop already. */
nq_ending stream_lose(struct stream *s, struct stream_child *c, bool blame, bool stopped);
const struct spawn_command *stream_command(const struct stream *s);
/* End all of them. Nothing else may be running. Accepts NULL. */
void stream_free(struct stream *s);

/* ---- work_stream.c: handlers that give the task, or several in one line, to a child. udata: struct stream.
 */
nq_verdict work_stream(nq_ctx *ctx, const nq_task *task, void *udata);
void work_stream_many(nq_ctx *const ctx[], const nq_task *const tasks[], size_t n, nq_verdict verdicts[],
                      void *udata);

#endif
