/* SPDX-License-Identifier: MIT */
/* What the suites of many tasks at once share. */
#ifndef NQ_TEST_STORE_BULK_H
#define NQ_TEST_STORE_BULK_H

#include "suites.h"

#define B_OPTS(...)  (&(nq_bulk_options){.size = sizeof(nq_bulk_options), __VA_ARGS__})
#define B_WHERE(...) (&(nq_filter){.size = sizeof(nq_filter), __VA_ARGS__})
#define B_QUEUES(...)                                                                                        \
    .queues = (const char *const[]){__VA_ARGS__},                                                            \
    .nqueues = sizeof((const char *[]){__VA_ARGS__}) / sizeof(char *)

extern nq_bulk_counts bulk_did; /* of the last call */
int bulk_call(nq *q, const nq_filter *f, enum nq_bulk_action action, const nq_bulk_options *opts);
/* n dead tasks of a queue with ids from `first` on; key: each has a unique key of its own. */
void bulk_dead(const char *queue, int first, int n, bool key);

#define BULK_COUNT(table, where) t_sql("SELECT COUNT(*) FROM nanoq_" table " WHERE " where)

#endif
