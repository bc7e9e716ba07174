/* SPDX-License-Identifier: MIT */
/* nanoq work's stderr, as text or as JSON lines: lines of its own, what the commands write, and a progress
 * line on a terminal. */
#ifndef LOG_H
#define LOG_H

#include "nanoq.h"
#include "text.h"

enum { LOG_ERROR = -1, LOG_WARN, LOG_INFO, LOG_DEBUG };

/* Verbosity 0, quiet: failures only; 1; 2 verbose. Returns whether a progress line can be shown. */
bool log_start(int verbosity, bool json);
void log_stop(void); /* no progress line any more */
/* Wait until all is written; not for a reader that has stopped reading. */
void log_end(void);
/* So much waits to be written that what commands write should wait in their pipes: do not read it now, look
 * again within 0.1 s. Never for long: see log.c. */
bool log_full(void);
/* One line with the time in front, control bytes escaped; dropped when level is above the verbosity. */
void log_line(int level, const char *fmt, ...) NQ_PRINTF(2, 3);

/* What is said of a task. Members that are NULL or negative are left out. */
struct log_event {
    int level;
    const nq_task *task;
    int64_t took_us;
    const char *from;            /* whose words these are, when not ours */
    const char *verdict, *error; /* for JSON; text has them in the message, where they are wanted */
};
void log_task(const struct log_event *e, const char *fmt, ...) NQ_PRINTF(2, 3);

/* A command's stderr: passed on as it is, or in JSON line by line. One for each process, zeroed at first. */
struct log_output {
    struct text line; /* JSON: what has not ended yet */
};
/* task: what the process runs, or NULL. */
void log_output(struct log_output *o, const nq_task *task, const char *p, size_t n);
void log_output_end(struct log_output *o, const nq_task *task);
/* Redraw the line at the bottom. */
void log_progress(const char *text);

#endif
