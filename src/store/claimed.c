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

NQ_PLUG_IN void nq_claimed_free(nq_claimed *list)
{
    while (list) {
        nq_claimed *next = list->next;
        free(list);
        list = next;
    }
}

/* ---- Claimed at birth ---- */

#define CLAIMED_BORN(column, kind, goes, unsaid, ...)                                                        \
    NQ_IF_SAID_##goes(cols[NQ_AT_##column] = NQ_VALUE_##kind(t->column);)

NQ_PRIVATE nq_claimed *nq_claimed_born(const nq_new *t, uint64_t lease)
{
    nq_val cols[NQ_AT_COUNT] = {0};
    nq_claimed_list list = {0};
    cols[NQ_AT_SIZE] = nq_int((int64_t)t->payload_size);
    cols[NQ_AT_PAYLOAD] = nq_blob(t->payload, t->payload_size);
    cols[NQ_AT_generation] = nq_int(1);
    NQ_COLUMNS(CLAIMED_BORN)
    return nq_claimed_read(&list, cols, lease) == 0 ? list.head : NULL;
}

/* Each column as its type, a number or a size, and what has a size. */
struct claimed_packed {
    int64_t type, n;
};

static void claimed_pack_one(nq_buf *out, const nq_val *v)
{
    const bool bytes = v->type == NQ_VAL_TEXT || v->type == NQ_VAL_BLOB;
    const struct claimed_packed head = {(int64_t)v->type, bytes ? (int64_t)v->n : v->i};
    nq_buf_add(out, &head, sizeof head);
    if (bytes && v->n)
        nq_buf_add(out, v->p, v->n);
}

#define CLAIMED_VALUE_ID(v)       nq_int(v)
#define CLAIMED_VALUE_INT(v)      nq_int(v)
#define CLAIMED_VALUE_COUNT(v)    nq_int(v)
#define CLAIMED_VALUE_ATTEMPTS(v) nq_int((int64_t)(v)-1)
#define CLAIMED_VALUE_MS(v)       nq_int((v) / 1000)
#define CLAIMED_VALUE_TIME(v)     nq_int(v)
#define CLAIMED_VALUE_NAME(v)     nq_text(v)
#define CLAIMED_VALUE_TEXT(v)     ((v) ? nq_text(v) : nq_null())
#define CLAIMED_VALUE_HEADERS(v)  nq_blob(headers.p, headers.n)
#define CLAIMED_PACKED(column, kind, goes, unsaid, field, ...)                                               \
    NQ_IF_READ_##kind(cols[NQ_AT_##column] = CLAIMED_VALUE_##kind(c->task.field);)

NQ_PRIVATE void nq_claimed_pack(nq_buf *out, const nq_claimed *c)
{
    nq_val cols[NQ_AT_COUNT] = {0};
    nq_buf headers = {0};
    if (nq_headers_write(&headers, c->task.headers, c->task.nheaders, NULL) != NQ_OK ||
        (c->keep_us && nq_headers_keep(&headers, c->keep_us, NULL) != NQ_OK))
        out->failed = true;
    cols[NQ_AT_PAYLOAD] = nq_blob(c->task.payload, c->task.payload_size);
    NQ_COLUMNS(CLAIMED_PACKED)
    for (size_t i = 0; i < NQ_AT_COUNT; i++)
        claimed_pack_one(out, &cols[i]);
    nq_buf_free(&headers);
}

static bool claimed_unpack_one(const char **at, size_t *left, nq_val *v)
{
    struct claimed_packed head;
    if (*left < sizeof head)
        return false;
    memcpy(&head, *at, sizeof head);
    *at += sizeof head;
    *left -= sizeof head;
    *v = (nq_val){(int)head.type, head.n, NULL, 0};
    if (head.type != NQ_VAL_TEXT && head.type != NQ_VAL_BLOB)
        return head.type == NQ_VAL_INT || head.type == NQ_VAL_NULL;
    if (head.n < 0 || (uint64_t)head.n > *left)
        return false;
    *v = nq_blob(*at, (size_t)head.n);
    *at += head.n;
    *left -= (size_t)head.n;
    return true;
}

NQ_PRIVATE nq_claimed *nq_claimed_unpack(const void *bytes, size_t n, uint64_t lease)
{
    const char *at = bytes;
    nq_val cols[NQ_AT_COUNT];
    nq_claimed_list list = {0};
    for (size_t i = 0; i < NQ_AT_COUNT; i++)
        if (!claimed_unpack_one(&at, &n, &cols[i]))
            return NULL;
    if (n > 0 || cols[NQ_AT_PAYLOAD].type != NQ_VAL_BLOB)
        return NULL;
    cols[NQ_AT_SIZE] = nq_int((int64_t)cols[NQ_AT_PAYLOAD].n);
    return nq_claimed_read(&list, cols, lease) == 0 ? list.head : NULL;
}

struct claimed_by {
    const char *queue;
    uint64_t lease;
    nq_claimed_list list;
};

static int claimed_by(nq_conn *conn, void *arg, nq_err *err)
{
    struct claimed_by *by = arg;
    const nq_val args[] = {nq_text(by->queue), nq_int((int64_t)by->lease)};
    nq_claimed_free(by->list.head);
    by->list = (nq_claimed_list){0};
    return nq_sql(conn,
                  "SELECT " NQ_CLAIMED_COLUMNS ", t.lease FROM {tasks} t {claim} WHERE t.queue = ? AND "
                  "t.state = 1 AND t.lease = ? LIMIT 1",
                  args, 2, nq_claimed_add, &by->list, NULL, err);
}

NQ_PRIVATE int nq_store_claimed(nq_store *s, const char *queue, uint64_t lease, nq_claimed **out, nq_err *err)
{
    struct claimed_by by = {.queue = queue, .lease = lease};
    const int rc = nq_store_do(s, claimed_by, &by, err);
    if (rc != NQ_OK) {
        nq_claimed_free(by.list.head);
        return rc;
    }
    *out = by.list.head;
    return NQ_OK;
}
