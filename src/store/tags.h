/* SPDX-License-Identifier: MIT */
/* tags.c: the rows of {tags}, by which tasks are found. */
#ifndef NQ_STORE_TAGS_H
#define NQ_STORE_TAGS_H

#include "store.h"

enum { NQ_TAGS_CHUNK = 128 }; /* rows of one statement */

/* Rows on their way into the table. {.place = ...} begins, nq_tags_end writes what is left; both only cost
 * something where there are tags. The tags must stay until then. */
typedef struct nq_tags {
    const nq_place *place;
    nq_val args[2 * NQ_TAGS_CHUNK];
    size_t n;
} nq_tags;
/* The tags of a task that was just inserted. */
NQ_PLUG_IN int nq_tags_put(nq_tags *t, const nq_new *task, nq_id id, nq_err *err);
NQ_PLUG_IN int nq_tags_end(nq_tags *t, nq_err *err);
/* Of one task. */
NQ_PRIVATE int nq_tags_add(const nq_place *p, const nq_new *task, nq_id id, nq_err *err);

/* Has this text of headers tags? */
NQ_PRIVATE bool nq_tags_in(const void *headers, size_t n);
/* The task's headers have changed: delete the rows that it had, make those that its headers ask for. */
NQ_PRIVATE int nq_tags_renew(const nq_place *p, nq_id id, bool had, bool has, nq_err *err);
/* In SQL: 1 where the headers of t have tags. */
#define NQ_TAGGED(t) "CASE WHEN INSTR(COALESCE(" t ".headers, ''), 'nq-tag: ') > 0 THEN 1 ELSE 0 END"

/* Delete up to limit rows of tasks that exist no more. A call looks at some rows only and goes on where the
 * one before ended; *n is the limit where some were found, so that it is called again soon. */
NQ_PRIVATE int nq_store_tags_sweep(nq_store *s, size_t limit, size_t *n, nq_err *err);

#endif
