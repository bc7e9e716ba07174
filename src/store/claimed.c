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

NQ_PRIVATE int nq_claimed_add(const nq_val cols[], size_t ncols, void *arg)
{
    nq_claimed_list *list = arg;
    const bool here = cols[4].type != NQ_VAL_NULL;
    const uint64_t bytes = here ? cols[4].n : (uint64_t)cols[14].i;
    const size_t room = here || bytes > list->room ? cols[4].n : (size_t)bytes;
    (void)ncols;
    if (nq_claimed_full(list, bytes))
        return NQ_ETOOBIG;
    nq_claimed *made = malloc(sizeof(*made) + cols[2].n + cols[3].n + room + cols[5].n + 4);
    if (!made)
        return NQ_ENOMEM;
    char *at = (char *)(made + 1);
    made->next = NULL;
    made->lease = (uint64_t)cols[1].i;
    made->bytes = bytes;
    made->unread = here ? NQ_READ : bytes > list->room ? NQ_TOO_BIG : NQ_UNREAD;
    made->task = (nq_task){
        .id = cols[0].i,
        .queue = claimed_put(&at, &cols[2]),
        .type = claimed_put(&at, &cols[3]),
        .last_error = cols[5].type == NQ_VAL_NULL ? NULL : claimed_put(&at, &cols[5]),
        .priority = (int)cols[6].i,
        .attempt = claimed_count(&cols[7]) + 1,
        .crashes = claimed_count(&cols[8]),
        .max_retries = claimed_count(&cols[9]),
        .generation = claimed_count(&cols[10]),
        .timeout_us = nq_us_of_ms(cols[11].i),
        .created_at_us = cols[12].i,
        .run_at_us = cols[13].i,
    };
    made->task.payload =
        claimed_put(&at, &cols[4]); /* last: its place is what may be left of the allocation */
    made->task.payload_size = cols[4].n;
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
