/* SPDX-License-Identifier: MIT */
/* What the files of nanoq work share. */
#ifndef WORK_H
#define WORK_H

#include "../cli.h"
#include "spawn.h"

#define WORK_NAMES 64

struct work {
    nq_worker_options options;
    nq_queue_options queues[WORK_NAMES];
    const char *types[WORK_NAMES];
    size_t nqueues, ntypes;
    int verbosity;
    bool json, log_said; /* the log */
    bool streams;        /* --stream */
    bool results;        /* --result: the command's stdout is the task's */
    unsigned max_tasks;
    unsigned many;       /* --many: tasks in a line; 0: each has its own */
    const char *metrics; /* --metrics, or NULL */
    struct spawn_command command;
    struct stream *stream;
    nq_worker *proc;
};

/* ---- work_run.c */
/* Work as the options say until stopped or drained; answers the exit code. */
int work_process(struct work *w, char **argv);
/* ---- work_ended.c */
/* Log how an attempt ended and answer its verdict. error: NULL when done; why it failed. */
nq_verdict work_ended(nq_ctx *ctx, const nq_task *task, nq_verdict verdict, int64_t start_us,
                      const char *error);
/* The error hook: a line when it is known what becomes of an attempt that failed. */
void work_attempt_failed(const nq_task *task, const char *error, bool final, void *udata);

/* The command cannot be started, `failures` times in a row: warn, now and then. */
void work_not_started(const char *why, unsigned failures, int64_t pause_us);

/* ---- work_exec.c: a handler that runs the command for one task. udata: struct work. */
nq_verdict work_exec(nq_ctx *ctx, const nq_task *task, void *udata);

/* ---- supervise.c: signals, the service manager, and the line at the bottom of a terminal. */
/* From here on SIGINT and SIGTERM ask to stop and SIGHUP is only noted. */
bool supervise_signals(void);
unsigned supervise_stops(void); /* signals that asked to stop, so far */
/* Look after the worker, on a thread of its own, until supervise_end. */
void supervise_start(nq_worker *proc, bool drawing);
void supervise_end(void);

/* Our stdout is a pipe that nobody reads any more. Thread-safe. */
bool supervise_unread(void);

/* ---- metrics_http.c: --metrics */
/* Listen on PORT or ADDRESS:PORT; false after a message. */
bool metrics_listen(const char *address);
/* Answer there, where one was listened to, on threads of its own until metrics_end. */
void metrics_start(nq *q, nq_worker *worker);
void metrics_end(void);

/* ---- notify.c: what systemd calls sd_notify. Without NOTIFY_SOCKET in the environment nothing is sent. */
bool notify_wanted(void);
void notify(const char *fmt, ...) NQ_PRINTF(1, 2);
int64_t notify_watchdog_us(void); /* 0: none */

#endif
