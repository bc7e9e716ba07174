/* SPDX-License-Identifier: MIT */
/* What the files of nanoq cron share: each of its commands is a cli_command of its own. */
#ifndef CRON_H
#define CRON_H

#include "../cli.h"

/* X(NAME): cron_NAME, in the order of the help. */
#define CRON_COMMANDS(X)   X(add) X(apply) X(import) X(list) X(show) X(pause) X(resume) X(run) X(remove) X(next)
#define CRON_DECLARE(NAME) extern const struct cli_command cron_##NAME;
CRON_COMMANDS(CRON_DECLARE)

/* ---- cron_add.c: "once", "skip", "all"; "skip", "allow", "queue": the place in enum nq_misfire, nq_overlap,
 * or -1. */
extern const char *const cron_misfires[4], *const cron_overlaps[4];
int cron_word(const char *const *words, const char *word);
/* Make the text of words for a message. */
void cron_allowed(const char *const *words, char out[64]);

#endif
