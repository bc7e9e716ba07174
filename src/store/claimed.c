/* SPDX-License-Identifier: MIT */
/* Claimed tasks, from the rows that a claim read. */
#include "claimed.h"

NQ_PRIVATE int nq_claimed_add(const nq_val cols[], size_t ncols, void *arg)
{
    return nq_claimed_read(arg, cols, ncols > NQ_AT_COUNT ? (uint64_t)cols[NQ_AT_COUNT].i : 0);
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

static int claimed_clock_row(const nq_val cols[], size_t ncols, void *arg)
{
    (void)ncols;
    *(int64_t *)arg = cols[0].i;
    return 0;
}

static int claimed_clock_ask(nq_conn *conn, void *arg, nq_err *err)
{
    return nq_sql(conn, "SELECT {us:now}", NULL, 0, claimed_clock_row, arg, NULL, err);
}

/* The database's clock. Where it cannot be asked, tasks are held already and must begin or end: by ours. */
static int64_t claimed_clock(nq_store *s)
{
    int64_t now = nq_store_clock(s);
    if (now == 0)
        nq_store_do(s, claimed_clock_ask, &now, NULL);
    return now ? now : nq_real_us();
}

NQ_PRIVATE void nq_claimed_expiry(nq_store *s, int64_t now_us, nq_claimed *list)
{
    const int64_t mono = nq_mono_us();
    for (; list; list = list->next) {
        if (!list->task.expires_at_us)
            continue;
        now_us = now_us ? now_us : claimed_clock(s);
        const int64_t left = nq_us_since(list->task.expires_at_us, now_us);
        list->expires_us = left > INT64_MAX - mono ? INT64_MAX : left < 1 - mono ? 1 : mono + left;
    }
}

NQ_PRIVATE void nq_claimed_free(nq_claimed *list)
{
    while (list) {
        nq_claimed *next = list->next;
        free(list);
        list = next;
    }
}
