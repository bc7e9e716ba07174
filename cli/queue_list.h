/* SPDX-License-Identifier: MIT */
/* All that is known of each queue: what waits, what is set, who serves it; for `nanoq queues` and the
 * dashboard. */
#ifndef QUEUE_LIST_H
#define QUEUE_LIST_H

#include "cli.h"

/* A queue, or a group or type of one, which is named for itself where it has settings or tasks. */
struct queue_line {
    char name[NQ_MAX_QUEUE + 1];
    uint64_t due, delayed, running, done, dead, cancelled;
    int64_t oldest_due_us; /* 0: none is due */
    unsigned capped;       /* NQ_CAPPED_... of due, delayed, running */
    unsigned workers, handlers;
    nq_queue_row row; /* its strings are unset, see below */
    char why[256], dead_to[NQ_MAX_QUEUE + 1], type[256];
};

struct queue_list {
    struct queue_line *all; /* by name */
    size_t n, cap;
};

/* To be freed, also after an error. */
int queue_list_read(nq *q, struct queue_list *list, nq_err *err);
void queue_list_free(struct queue_list *list);

/* By enum nq_ordered: "no", "strict", "halt". */
enum { QUEUE_ORDERED = 3 };
extern const char *const queue_ordered_words[QUEUE_ORDERED];
/* That of the row; NULL where it is not set. */
const char *queue_ordered(const nq_queue_row *row);

#endif
