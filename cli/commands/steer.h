/* SPDX-License-Identifier: MIT */
/* What the commands that change tasks by their ids share. */
#ifndef STEER_H
#define STEER_H

#include "bulk.h"

#define STEER_NOTES                                                                                          \
    "With several ids it goes on after a failure and exits with the worst code: 3 not found, 1 wrong state"

struct steer_verb {
    const struct cli_command *command;
    int (*call)(nq *q, nq_id id, nq_err *err);
    const char *result; /* what became of a task */
    enum nq_bulk_action action;
};

/* Parse the command line, do it to each id, or to the tasks that options mean, print what became of each;
 * answers the exit code. */
int steer_run(const struct steer_verb *verb, int argc, char **argv);
extern const struct cli_option steer_options[];

#endif
