/* SPDX-License-Identifier: MIT */
/* Isolated handlers: the zygote, its children, and what they and the worker say to each other. */
#ifndef NQ_ISOLATE_H
#define NQ_ISOLATE_H

#include "../../process/process.h"
#include "../worker.h"

/*
 * The zygote is forked while the process has one thread. It forks the children, reaps them, signals them and
 * their process groups, and kills what is left when the worker is gone. It uses no database and runs no
 * code of the user's.
 *
 *   worker -> zygote      nq_spawn with four descriptors: the child's end of the channel, its eventfd of
 *                            cancellation, its standard error, the zygote's end of the report socket
 *   zygote    -> worker   on the report socket of each child: nq_report
 *   worker -> zygote      there too: one byte, the signal for the child's process group
 *   worker <-> child      the channel: frames. A page of memory that both see says which task has begun
 *                            and why the running one should stop.
 *
 * A handler thread that has a task for a child is its supervisor (supervise.h) until the child has nothing to
 * do.
 */

/* ---- frame.c: a stream of these, each followed by `size` bytes. One machine: native byte order. */
enum nq_frame_kind {
    NQ_FRAME_TASK = 1,
    NQ_FRAME_ANSWER,
    NQ_FRAME_PROGRESS,
    NQ_FRAME_HOLD,
    NQ_FRAME_RESULT, /* a piece of it: all come before the answer, the first one may be empty */
    NQ_FRAME_LOG     /* a line */
};

typedef struct nq_frame {
    uint32_t size;
    uint32_t kind;
    uint64_t seq; /* of the task that it is about: 1, 2, ... */
} nq_frame;

#define NQ_FRAME_SAID_MAX 8192 /* size of what a child may say at once */
#define NQ_HEAR_SIZE      (2 * (NQ_FRAME_SAID_MAX + sizeof(nq_frame)))

typedef struct nq_answer {
    nq_verdict verdict;
    int64_t delay_us; /* -1: not set */
    bool completed;
    const char *message; /* into the buffer; not terminated */
    size_t message_size;
} nq_answer;

typedef struct nq_reported {
    int64_t done, total;
    const char *note; /* likewise */
    size_t note_size;
} nq_reported;

NQ_PRIVATE void nq_frame_task(nq_buf *out, const nq_ctx *ctx);
/* The size of a task's frame, about. */
NQ_PRIVATE size_t nq_frame_task_size(const nq_ctx *ctx);
/* The child trusts its worker. The claim points into the body and to headers and tags, which must stay. */
NQ_PRIVATE void nq_frame_read_task(const char *body, nq_claimed *out, nq_header headers[NQ_MAX_HEADERS],
                                   const char *tags[NQ_MAX_TAGS], size_t *handler);
NQ_PRIVATE void nq_frame_answer(nq_buf *out, uint64_t seq, const nq_answer *answer);
NQ_PRIVATE void nq_frame_progress(nq_buf *out, uint64_t seq, const nq_reported *reported);
/* The worker trusts no child: false for what is none. *more: no fault, but not all of it is there yet. */
NQ_PRIVATE bool nq_frame_heard(const char *p, size_t n, nq_frame *head, bool *more);
NQ_PRIVATE bool nq_frame_read_answer(const nq_frame *head, const char *body, nq_answer *out);
NQ_PRIVATE bool nq_frame_read_progress(const nq_frame *head, const char *body, nq_reported *out);
/* All pieces of a result; and whether it is one. */
NQ_PRIVATE void nq_frame_result(nq_buf *out, uint64_t seq, const void *bytes, size_t n);
static inline bool nq_frame_is_result(const nq_frame *head)
{
    return head->kind == NQ_FRAME_RESULT;
}
/* Of nq_ctx_log: a line of at most NQ_MAX_LOG_LINE bytes. */
NQ_PRIVATE void nq_frame_log(nq_buf *out, uint64_t seq, int level, const char *text, size_t n);
NQ_PRIVATE bool nq_frame_read_log(const nq_frame *head, const char *body, int *level, const char **text,
                                  size_t *n);
/* Of nq_ctx_hold. */
NQ_PRIVATE void nq_frame_hold(nq_buf *out, uint64_t seq, int scope, int64_t us);
NQ_PRIVATE bool nq_frame_read_hold(const nq_frame *head, const char *body, int *scope, int64_t *us);

/* ---- The page that worker and child share */
#define NQ_PIPELINE_MAX 64 /* tasks sent to a child and not answered */

enum nq_begun { NQ_BEGUN_NOT = 0, NQ_BEGUN_YES = 1, NQ_BEGUN_NEVER = 2 };

/* Each word carries the seq it is about, so that one is never taken for another's. A task is begun by the
 * child and taken back by the worker with a compare-and-swap of NQ_BEGUN_NOT: only one of them has it. */
typedef struct nq_page {
    atomic_uint_least64_t cause; /* seq << 8 | enum nq_cause */
    atomic_uint_least64_t held;  /* the answer to nq_ctx_hold: seq << 8 | -code */
    atomic_uint_least64_t begun[NQ_PIPELINE_MAX];
} nq_page;

static inline uint64_t nq_page_word(uint64_t seq, enum nq_begun begun)
{
    return seq << 2 | (uint64_t)begun;
}
static inline bool nq_page_move(nq_page *page, uint64_t seq, enum nq_begun to)
{
    uint64_t was = nq_page_word(seq, NQ_BEGUN_NOT);
    return atomic_compare_exchange_strong(&page->begun[seq % NQ_PIPELINE_MAX], &was, nq_page_word(seq, to));
}
static inline bool nq_page_began(const nq_page *page, uint64_t seq)
{
    return atomic_load(&page->begun[seq % NQ_PIPELINE_MAX]) == nq_page_word(seq, NQ_BEGUN_YES);
}

/* ---- zygote.c */
#define NQ_PAGE_SIZE 65536 /* of a child in the shared memory: whole pages on every machine */
#define NQ_SPAWN_FDS 4

typedef struct nq_spawn {
    uint32_t kind;  /* of limits: a handler; UINT32_MAX: kill all, and end */
    uint32_t index; /* of the page */
} nq_spawn;

enum nq_report_kind { NQ_REPORT_BORN = 1, NQ_REPORT_UNBORN, NQ_REPORT_ENDED };

typedef struct nq_report {
    int32_t kind;
    int32_t value;    /* pid, errno */
    nq_ending ending; /* NQ_REPORT_ENDED */
} nq_report;

typedef struct nq_child nq_child;

struct nq_zygote {
    pid_t pid;
    int control; /* sends nq_spawn; any thread */
    char *pages; /* opts.concurrency of NQ_PAGE_SIZE */
    bool stopped;
    bool ended; /* once it is stopped: how it ended is known, since nobody else had waited for it */
    nq_ending ending;
    atomic_bool lost;
    atomic_bool failing; /* the last child could not be made */
    /* with the worker's lock */
    nq_child *children; /* opts.concurrency places, each its supervisor's */
    bool *taken;        /* and which of them are */
    nq_child *idle;
    nq_child *stuck; /* have been killed, and are not gone: in a call to a disk that does not answer, say */
};

#define NQ_ZYGOTE_END_US NQ_SECONDS(5) /* for what it kills to be gone */

/* Its whole life, from the fork on. */
_Noreturn NQ_PRIVATE void nq_zygote_main(nq_worker *w, int control, pid_t parent);

/* ---- zygote_fork.c: the worker's side of it */
NQ_PRIVATE int nq_zygote_start(nq_worker *w, nq_err *err);
/* Kill all children and the zygote; accepts a worker without one. Before the memory goes. */
NQ_PRIVATE void nq_zygote_stop(nq_worker *w);
NQ_PRIVATE void nq_zygote_free(nq_worker *w);

/* ---- limits.c */
NQ_PRIVATE int nq_limits_read(nq_limits *out, const nq_isolation_options *o, nq_err *err);
NQ_PRIVATE void nq_limits_free(nq_limits *l);
NQ_PRIVATE bool nq_limits_same(const nq_limits *a, const nq_limits *b);
/* In the child, before its first task; then before each. -1: errno. */
NQ_PRIVATE int nq_limits_apply(const nq_limits *l);
NQ_PRIVATE void nq_limits_task(const nq_limits *l);
/* In the parent of the children: no core, and no password of the database's in the environment. */
NQ_PRIVATE void nq_limits_private(const nq_store *s);

/* ---- child.c: the child's process */
NQ_PRIVATE void nq_child_prepare(void); /* in the zygote: once for all children */
_Noreturn NQ_PRIVATE void nq_child_main(nq_worker *w, const nq_limits *l, nq_page *page, int channel,
                                        int cancel);
/* nq_ctx_hold in a child: its worker does it, and says by the page what became of it. */
NQ_PRIVATE int nq_child_hold(nq_ctx *ctx, int scope, int64_t us, nq_err *err);
/* nq_ctx_log and nq_ctx_progress in a child. */
NQ_PRIVATE void nq_child_log(nq_ctx *ctx, int level, const char *text, size_t n);
NQ_PRIVATE void nq_child_progress(nq_ctx *ctx, int64_t done, int64_t total, const char *note);

/* ---- children.c: the worker's side of a child; of one supervisor at a time */
struct nq_child {
    nq_child *next; /* idle, or stuck */
    size_t kind;
    const nq_limits *limits;
    nq_page *page;
    uint32_t index;
    int channel, cancel, errors, report; /* -1: closed */
    pid_t pid;
    bool ended;        /* `end` tells how; or it went with the zygote */
    nq_report end;     /* NQ_REPORT_ENDED */
    bool retire;       /* no more tasks */
    uint64_t seq;      /* of the last task sent */
    unsigned begun;    /* how many were, as far as is known */
    const char *fault; /* why it was killed by us; NULL: it was not, or for the context's cause */
    nq_buf out;
    size_t out_at;     /* sent */
    char *in;          /* NQ_HEAR_SIZE; what it said */
    size_t nin, in_at; /* how much, and how much of it was read */
    nq_tail tail;      /* of its standard error */
    size_t dropped;    /* bytes of it that our own standard error did not take */
};

/* Send descriptors that the zygote takes over; the caller closes its own. */
NQ_PRIVATE int nq_zygote_spawn(const struct nq_zygote *z, const nq_spawn *spawn, const int fds[NQ_SPAWN_FDS],
                               nq_err *err);
/* A child for a task of this handler: an idle one, or a new one. */
NQ_PRIVATE int nq_child_get(nq_worker *w, const struct nq_handler_entry *handler, nq_child **out,
                            nq_err *err);
/* Done with it for now: kept for later, or ended. */
NQ_PRIVATE void nq_child_put(nq_worker *w, nq_child *c);
/* Forget the idle ones, which the zygote has killed or will. */
NQ_PRIVATE void nq_children_drop(nq_worker *w);
/* With the lock held: look up, all supervisors. */
NQ_PRIVATE void nq_children_wake(nq_worker *w);

/* ---- channel.c */
/* Send what waits to be sent; read what came, as far as there is room. False: the channel is closed. */
NQ_PRIVATE bool nq_child_send(nq_child *c);
NQ_PRIVATE bool nq_child_receive(nq_child *c);
/* Read its standard error and reports. */
NQ_PRIVATE void nq_child_listen(nq_worker *w, nq_child *c);
NQ_PRIVATE void nq_child_signal(const nq_child *c, int number);
/* How it ended, as the message of the attempt. */
NQ_PRIVATE void nq_child_describe(const nq_child *c, nq_ctx *ctx);

/* ---- supervise.c: run thread->ctx, and more like it, in a child. Without the lock. */
NQ_PRIVATE void nq_supervise(struct nq_handler_thread *thread);

#endif
