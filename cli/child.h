/* SPDX-License-Identifier: MIT */
/* One process per task: a command run with the payload on its stdin. */
#ifndef CHILD_H
#define CHILD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "nanoq.h"

#define CHILD_TAIL NQ_MAX_ERROR /* bytes kept of the end of its stderr */

/* What is the same for every task; made once, before there are threads. */
struct child_command {
    char *path; /* the executable, found in PATH */
    char **argv;
    char **shell;    /* argv for /bin/sh, for a script without #! */
    char **base_env; /* ours without NANOQ_ID and so on */
    size_t nbase_env;
    int *inherited; /* descriptors above 2 that we were started with: the command gets them too */
    size_t ninherited;
    int64_t grace_us;
};

/* Find argv[0] and prepare. False after a message. Call it before a database is open. */
bool child_prepare(struct child_command *c, char **argv, int64_t grace_us);
void child_free(struct child_command *c);

struct child_result {
    bool started;
    int error;   /* errno of what failed, when not started */
    bool exited; /* else killed by signal `status` */
    int status;
    enum nq_cause cause; /* why it was told to stop, if it was */
    bool killed;         /* it did not stop by itself within the grace */
    char tail[CHILD_TAIL];
    size_t tail_n; /* bytes of stderr altogether; the last CHILD_TAIL are in tail, as a ring */
};

/* Run the command for a task until it has ended and been reaped. Signals: SIGTERM to its process group when
 * the context is cancelled, SIGKILL after the grace. Thread-safe. */
void child_run(const struct child_command *c, nq_ctx *ctx, const nq_task *task, struct child_result *out);

/* The status in words, then the last of stderr as valid UTF-8. */
void child_describe(const struct child_result *r, const nq_task *task, char out[NQ_MAX_ERROR + 1]);

#endif
