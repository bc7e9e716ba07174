/* SPDX-License-Identifier: MIT */
/* Commands that change all the tasks that their options mean. */
#ifndef CLI_BULK_H
#define CLI_BULK_H

#include "filter.h"

struct bulk {
    struct filter filter;
    nq_bulk_options options;
    enum nq_bulk_action action;
};

enum { BULK_ALL = 700, BULK_DRY, BULK_LIMIT, BULK_RATE, BULK_FROM, BULK_TO, BULK_JSON };
#define BULK_OPTIONS                                                                                         \
    {BULK_DRY, "dry-run", NULL, "change nothing: say how many it would be"},                                 \
        {BULK_LIMIT, "limit", "N", "stop when N are done"},                                                  \
        {BULK_RATE, "rate", "N/s", "no more than N a second"},                                               \
        {BULK_ALL, "all", NULL, "there is no filter, and every task is meant"},                              \
    {                                                                                                        \
        BULK_JSON, "json", NULL, "the same as --format json"                                                 \
    }
#define BULK_NOTES                                                                                           \
    "With options that say which tasks, it does so in batches of 200 and prints one line; exits with 1 "     \
    "where "                                                                                                 \
    "some\nof them were passed by: locked, with the key of a live task, refused. docs/bulk.md\n"

/* As filter_take, of the options of both tables. *mine: it is one of these. */
bool bulk_take(struct bulk *b, int key, char *value);
/* Do it, and print what was done; answers the exit code. */
int bulk_run(struct bulk *b);

#endif
