/* SPDX-License-Identifier: MIT */
/* Handlers, as they are registered and called. A part of worker.h. */
#ifndef NQ_WORKER_HANDLER_H
#define NQ_WORKER_HANDLER_H

struct nq_next {
    const nq_worker *worker;
    const struct nq_handler_entry *handler;
    size_t depth; /* middleware entered so far */
};

/* What a child may use, and how it is run. */
typedef struct nq_limits {
    size_t memory;
    unsigned cpu_seconds, files, processes, tasks, stderr_bytes;
    int nice;
    char **environment;
    size_t nenvironment;
} nq_limits;

/* A handler and its own middleware. type NULL: of every other type. */
struct nq_handler_entry {
    char *type;
    nq_handler_fn fn;
    void *udata;
    nq_middleware *middleware;
    size_t nmiddleware;
    unsigned max_crashes;
    nq_retry_fn retry_policy; /* NULL: the default */
    void *retry_udata;
    bool isolated;
    nq_limits limits;
    size_t kind;     /* isolated: the first handler with the same limits; they share children */
    nq_many_fn many; /* several tasks a call; then fn is NULL, and there is no middleware */
    size_t most;     /* so many */
    int64_t wait_us; /* wait so long for them */
    bool by_group;   /* of one queue and group */
};

/* What a thread's call of a handler of several tasks is given: arrays with room for the most of any handler.
 */
struct nq_many {
    size_t n; /* attempts that run in it, but for what nq_handler_thread.ctx says of the first; 0: none */
    nq_ctx **ctx;
    const nq_task **tasks;
    nq_verdict *verdicts;
    nq_outcome *outs;
    bool gathers; /* it waits for more, so others may add to it */
};

/* ---- registry.c */
NQ_PRIVATE int nq_worker_may_register(const nq_worker *w, nq_err *err);
NQ_PRIVATE struct nq_handler_entry *nq_handler_find(const nq_worker *w, const char *type);

#endif
