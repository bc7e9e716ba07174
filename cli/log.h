/* SPDX-License-Identifier: MIT */
/* nanoq work's stderr: lines of its own, what the commands write, and a progress line on a terminal. */
#ifndef LOG_H
#define LOG_H

#include "nanoq.h"

/* 0 quiet: failures only; 1; 2 verbose. Returns whether a progress line can be shown. */
bool log_start(int verbosity);
void log_stop(void);
/* One line with the time in front, control bytes escaped; dropped when level is above the verbosity. */
void log_line(int level, const char *fmt, ...) NQ_PRINTF(2, 3);
/* Bytes as they are: a command's stderr. */
void log_raw(const char *p, size_t n);
/* Redraw the line at the bottom. */
void log_progress(const char *text);

#endif
