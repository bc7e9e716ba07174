/* SPDX-License-Identifier: MIT */
/* The options by which commands say which tasks they mean. */
#ifndef CLI_FILTER_H
#define CLI_FILTER_H

#include "../cli.h"

struct filter {
    nq_filter f; /* filter_end makes it whole */
    const char *queues[NQ_MAX_LIST_NAMES], *groups[NQ_MAX_LIST_NAMES], *types[NQ_MAX_LIST_NAMES];
    const char *tags[NQ_MAX_TAGS];
    nq_id ids[NQ_MAX_FILTER_IDS];
    bool said; /* some option was given */
    bool by;   /* --by was */
};

enum {
    FILTER_STATE = 's',
    FILTER_QUEUE = 'q',
    FILTER_TYPE = 't',
    FILTER_GROUP = 600,
    FILTER_TAG,
    FILTER_ERROR,
    FILTER_TEXT,
    FILTER_SINCE,
    FILTER_UNTIL,
    FILTER_BY,
    FILTER_WORKER,
    FILTER_ID
};
/* For the table of a command's options. */
#define FILTER_OPTIONS                                                                                       \
    {FILTER_STATE, "state", "STATE[,...]", "only waiting, running, done, dead or cancelled tasks"},          \
        {FILTER_QUEUE, "queue", "QUEUE[,...]",                                                               \
         "only of these queues; 'ma*': all that begin so; may be repeated"},                                 \
        {FILTER_GROUP, "group", "G", "only of this group of the queues; may be repeated"},                   \
        {FILTER_TYPE, "type", "TYPE", "only of this type; 'mail.*': all that begin so; may be repeated"},    \
        {FILTER_TAG, "tag", "TAG", "only with this tag; may be repeated: with all of them"},                 \
        {FILTER_ERROR, "error", "TEXT", "only those whose last error has this in it"},                       \
        {FILTER_TEXT, "text", "TEXT", "only those whose payload or headers have this in them"},              \
        {FILTER_SINCE, "since", "TIME", "only from this time on: 2026-01-31T12:00:00Z, or so long ago: 2h"}, \
        {FILTER_UNTIL, "until", "TIME", "only before this time"},                                            \
        {FILTER_BY, "by", "created|run_at|finished", "which time --since and --until are about"},            \
        {FILTER_WORKER, "worker", "NAME", "only running ones of this worker, host:pid; 'web-1:*'"},          \
    {                                                                                                        \
        FILTER_ID, "id", "ID[,...]", "only these tasks; may be repeated"                                     \
    }
#define FILTER_NOTES                                                                                         \
    "A task is meant if all the options hold for it. Texts are compared byte for byte. docs/search.md\n"

/* Take an option of the table; false, after a message: it is bad. The value must stay. */
bool filter_take(struct filter *r, int key, char *value);
/* Is the key one of the table's? */
bool filter_is(int key);
/* All were taken; false, after a message: they do not go together. */
bool filter_end(struct filter *r);

#endif
