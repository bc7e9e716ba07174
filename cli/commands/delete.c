/* SPDX-License-Identifier: MIT */
/* nanoq delete: remove tasks. */
#include "steer.h"

static int delete_run(int argc, char **argv)
{
    return steer_run(&(struct steer_verb){&cli_delete, nq_delete, "deleted", NQ_BULK_DELETE}, argc, argv);
}

const struct cli_command cli_delete = {
    .name = "delete",
    .args = "ID... | OPTION...",
    .summary = "Delete tasks that do not run",
    .options = steer_options,
    .notes = BULK_NOTES STEER_NOTES ".\n",
    .run = delete_run,
};
