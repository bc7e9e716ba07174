/* SPDX-License-Identifier: MIT */
/* nanoq retry: run tasks now. */
#include "steer.h"

static int retry_run(int argc, char **argv)
{
    return steer_run(&(struct steer_verb){&cli_retry, nq_retry, "waiting", NQ_BULK_RETRY}, argc, argv);
}

const struct cli_command cli_retry = {
    .name = "retry",
    .args = "ID... | OPTION...",
    .summary = "Run tasks now: dead, cancelled and done ones go back to waiting, waiting ones become due",
    .options = steer_options,
    .notes = BULK_NOTES STEER_NOTES ".\n",
    .run = retry_run,
};
