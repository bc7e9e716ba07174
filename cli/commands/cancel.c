/* SPDX-License-Identifier: MIT */
/* nanoq cancel: let tasks not run, or run no more. */
#include "steer.h"

static int cancel_run(int argc, char **argv)
{
    return steer_run(&(struct steer_verb){&cli_cancel, nq_cancel, "cancelled", NQ_BULK_CANCEL}, argc, argv);
}

const struct cli_command cli_cancel = {
    .name = "cancel",
    .args = "ID... | OPTION...",
    .summary = "Cancel tasks: waiting ones at once, running ones when their handlers end; they are kept",
    .options = steer_options,
    .notes = BULK_NOTES
    "\"will be cancelled\": it runs. Its worker is told, at once on the same host and at its next "
    "heartbeat (5 s at\n"
    "most) elsewhere, and it never runs again; but if its handler succeeds all the same, it is done. A\n"
    "command of nanoq work that was told to stop has not, whatever its exit status.\n" STEER_NOTES
    "\n(it has ended).\n",
    .run = cancel_run,
};
