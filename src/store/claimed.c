/* SPDX-License-Identifier: MIT */
/* Claimed tasks, from the rows that a claim read. */
#include <limits.h>

#include "store.h"

static char *claimed_put(char **at, const nq_val *v)
{
    char *start = *at;
    if (v->n)
        memcpy(start, v->p, v->n);
    start[v->n] = '\0';
    *at = start + v->n + 1;
    return start;
}

static unsigned claimed_count(const nq_val *v)
{
    return v->i < 0 ? 0 : v->i > INT_MAX ? INT_MAX : (unsigned)v->i;
}

#define CLAIMED_ID(v)                   (v).i
#define CLAIMED_INT(v)                  (int)(v).i
#define CLAIMED_COUNT(v)                claimed_count(&(v))
#define CLAIMED_ATTEMPTS(v)             claimed_count(&(v)) + 1
#define CLAIMED_MS(v)                   nq_us_of_ms((v).i)
#define CLAIMED_TIME(v)                 (v).i
#define CLAIMED_NAME(v)                 claimed_put(&at, &(v))
#define CLAIMED_TEXT(v)                 (v).type == NQ_VAL_NULL ? NULL : claimed_put(&at, &(v))
#define CLAIMED_SIZE(column, kind, ...) NQ_IF_BYTES_##kind(+cols[NQ_AT_##column].n + 1)
#define CLAIMED_SET(column, kind, goes, unsaid, field, ...)                                                  \
    NQ_IF_READ_##kind(made->task.field = CLAIMED_##kind(cols[NQ_AT_##column]);)

NQ_PRIVATE int nq_claimed_add(const nq_val cols[], size_t ncols, void *arg)
{
    nq_claimed_list *list = arg;
    const nq_val *payload = &cols[NQ_AT_PAYLOAD];
    const bool here = payload->type != NQ_VAL_NULL;
    const uint64_t bytes = here ? payload->n : (uint64_t)cols[NQ_AT_SIZE].i;
    const size_t room = here || bytes > list->room ? payload->n : (size_t)bytes;
    (void)ncols;
    if (nq_claimed_full(list, bytes))
        return NQ_ETOOBIG;
    nq_claimed *made = malloc(sizeof(*made) + room + 1 NQ_COLUMNS(CLAIMED_SIZE));
    if (!made)
        return NQ_ENOMEM;
    char *at = (char *)(made + 1);
    *made = (nq_claimed){.lease = (uint64_t)cols[NQ_AT_LEASE].i,
                         .bytes = bytes,
                         .unread = here                 ? NQ_READ
                                   : bytes > list->room ? NQ_TOO_BIG
                                                        : NQ_UNREAD};
    NQ_COLUMNS(CLAIMED_SET)
    made->task.payload =
        claimed_put(&at, payload); /* last: its place is what may be left of the allocation */
    made->task.payload_size = payload->n;
    list->bytes += bytes;
    if (list->tail)
        list->tail->next = made;
    else
        list->head = made;
    list->tail = made;
    list->n++;
    return 0;
}

struct claimed_load {
    nq_claimed *claim;
};

static int claimed_load_row(const nq_val cols[], size_t ncols, void *arg)
{
    struct claimed_load *l = arg;
    nq_claimed *c = l->claim;
    (void)ncols;
    if (cols[0].n > c->bytes)
        return 0; /* somebody changed it */
    char *at = (char *)(uintptr_t)c->task.payload;
    if (cols[0].n)
        memcpy(at, cols[0].p, cols[0].n);
    at[cols[0].n] = '\0';
    c->task.payload_size = cols[0].n;
    c->unread = NQ_READ;
    return 0;
}

static int claimed_load(nq_conn *conn, void *arg, nq_err *err)
{
    const struct claimed_load *l = arg;
    const nq_val args[] = {nq_int(l->claim->task.id), nq_int((int64_t)l->claim->lease)};
    return nq_sql(conn, "SELECT {bytes:payload} FROM {tasks} WHERE id = ? AND lease = ?", args, 2,
                  claimed_load_row, arg, NULL, err);
}

NQ_PRIVATE void nq_claimed_load(nq_store *s, nq_claimed *c, nq_err *err)
{
    struct claimed_load l = {.claim = c};
    if (c->unread == NQ_UNREAD && nq_store_do(s, claimed_load, &l, err) == NQ_ENOMEM)
        c->unread = NQ_NO_MEMORY;
}

NQ_PRIVATE void nq_claimed_free(nq_claimed *list)
{
    while (list) {
        nq_claimed *next = list->next;
        free(list);
        list = next;
    }
}
