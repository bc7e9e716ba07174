/* SPDX-License-Identifier: MIT */
/* Reading what a command is given on stdin, or in a file. */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "cli.h"
#include "text/text.h"

int cli_read_stdin(struct text *out, size_t most)
{
    char chunk[65536], why[128];
    struct pollfd fd = {.fd = STDIN_FILENO, .events = POLLIN};
    while (out->n <= most) {
        ssize_t n = poll(&fd, 1, -1) < 0 ? -1 : read(STDIN_FILENO, chunk, sizeof chunk);
        if (n == 0)
            return CLI_OK;
        /* Somebody may have made it non-blocking, and others may read of it too. */
        if (n < 0 && errno != EINTR && errno != EAGAIN) {
            cli_complain("cannot read stdin: %s", strerror_r(errno, why, sizeof why));
            return CLI_FAILURE;
        }
        text_add(out, chunk, n > 0 ? (size_t)n : 0);
    }
    return CLI_OK;
}

FILE *cli_open_input(const char *name, struct text *room)
{
    static char nothing[] = "\n"; /* fmemopen takes no less */
    char why[128];
    FILE *in;
    if (strcmp(name, "-") != 0) {
        in = fopen(name, "re");
    } else {
        if (cli_read_stdin(room, SIZE_MAX - 1) != CLI_OK)
            return NULL;
        in = room->n > 0 ? fmemopen(room->p, room->n, "r") : fmemopen(nothing, 1, "r");
    }
    if (!in)
        cli_complain("cannot read %s: %s", name, strerror_r(errno, why, sizeof why));
    return in;
}
