/* SPDX-License-Identifier: MIT */
/* The reader of a claimed row. Inline: on a server a claim makes values of the text of a row, and then those
 * never go through memory. */
#ifndef NQ_STORE_CLAIMED_H
#define NQ_STORE_CLAIMED_H

#include <limits.h>

#include "store.h"

static inline char *nq_claimed_put(char **at, const nq_val *v)
{
    char *start = *at;
    if (v->n)
        memcpy(start, v->p, v->n);
    start[v->n] = '\0';
    *at = start + v->n + 1;
    return start;
}

static inline unsigned nq_claimed_count(const nq_val *v)
{
    return v->i < 0 ? 0 : v->i > INT_MAX ? INT_MAX : (unsigned)v->i;
}

#define NQ_CLAIMED_ID(v)                   (v).i
#define NQ_CLAIMED_INT(v)                  (int)(v).i
#define NQ_CLAIMED_COUNT(v)                nq_claimed_count(&(v))
#define NQ_CLAIMED_ATTEMPTS(v)             nq_claimed_count(&(v)) + 1
#define NQ_CLAIMED_MS(v)                   nq_us_of_ms((v).i)
#define NQ_CLAIMED_TIME(v)                 (v).i
#define NQ_CLAIMED_NAME(v)                 nq_claimed_put(&at, &(v))
#define NQ_CLAIMED_TEXT(v)                 (v).type == NQ_VAL_NULL ? NULL : nq_claimed_put(&at, &(v))
#define NQ_CLAIMED_HEADERS(v)              NULL /* in their own way */
#define NQ_CLAIMED_ROOM(column, kind, ...) NQ_IF_BYTES_##kind(+cols[NQ_AT_##column].n + 1)
#define NQ_CLAIMED_SET(column, kind, goes, unsaid, field, ...)                                               \
    NQ_IF_READ_##kind(.field = NQ_CLAIMED_##kind(cols[NQ_AT_##column]), )

/* NQ_ETOOBIG: there is no place for it in the batch; NQ_ENOMEM. */
static inline int nq_claimed_read(nq_claimed_list *list, const nq_val cols[NQ_AT_COUNT], uint64_t lease)
{
    const nq_val *payload = &cols[NQ_AT_PAYLOAD];
    const bool here = payload->type != NQ_VAL_NULL;
    const uint64_t bytes = here ? payload->n : (uint64_t)cols[NQ_AT_SIZE].i;
    const size_t room = here || bytes > list->room ? payload->n : (size_t)bytes;
    const nq_val *text = &cols[NQ_AT_headers];
    const size_t headers = text->n ? nq_headers_room(text->p, text->n) : 0;
    if (nq_claimed_full(list, bytes))
        return NQ_ETOOBIG;
    nq_claimed *made = malloc(sizeof *made + headers + room + 1 NQ_COLUMNS(NQ_CLAIMED_ROOM));
    if (!made)
        return NQ_ENOMEM;
    nq_headers read = {0};
    char *at = (char *)(made + 1);
    if (headers) /* first: there it is aligned */
        at = nq_headers_read(&read, at, text->p, text->n);
    made->next = NULL;
    made->lease = lease;
    made->bytes = bytes;
    made->unread = here ? NQ_READ : bytes > list->room ? NQ_TOO_BIG : NQ_UNREAD;
    made->task = (nq_task){NQ_COLUMNS(NQ_CLAIMED_SET).payload_size = payload->n};
    made->group = nq_group_split((char *)(uintptr_t)made->task.queue);
    made->task.group = nq_group_shown(made->group, read.group);
    made->task.headers = read.all;
    made->task.nheaders = read.n;
    made->task.expires_at_us = read.expires_at_us;
    made->task.dead_id = read.dead_id;
    made->unkey = read.until_start;
    made->task.schedule = read.schedule;
    made->task.due_at_us = read.due_at_us;
    made->keep_us = read.keep_us;
    made->task.tags = read.tags;
    made->task.ntags = read.ntags;
    made->expires_us = made->start_us = made->late_us = 0;
    made->task.payload =
        nq_claimed_put(&at, payload); /* last: its place is what may be left of the allocation */
    list->bytes += bytes;
    if (list->tail)
        list->tail->next = made;
    else
        list->head = made;
    list->tail = made;
    list->n++;
    return 0;
}

#endif
