/* SPDX-License-Identifier: MIT */
/* What the files of nanoq cron share: each of its commands is a cli_command of its own. */
#ifndef CRON_H
#define CRON_H

#include "../cli.h"

/* X(NAME): cron_NAME, in the order of the help. */
#define CRON_COMMANDS(X)   X(next)
#define CRON_DECLARE(NAME) extern const struct cli_command cron_##NAME;
CRON_COMMANDS(CRON_DECLARE)

#endif
