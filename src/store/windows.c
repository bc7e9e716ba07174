/* SPDX-License-Identifier: MIT */
/* Windows: unique keys that stay taken for a time, whatever becomes of the task that took them. */
#include "store.h"

/*
 * A row for each window, by the hash of type and data on both stores. Only tasks with a window look here. Of
 * several that open one at once the row decides: its key lets one in, and the others see whose it is.
 */

static int windows_id(const nq_val cols[], size_t ncols, void *arg)
{
    (void)ncols;
    *(nq_id *)arg = cols[0].i;
    return 0;
}

/* A caller's connection has no clock of SQLite's; but there this host's is the database's. */
#define WINDOWS_LOOK(now) "SELECT task_id FROM {full:windows} WHERE unique_key = ? AND until_at > " now

static int windows_look(const nq_place *p, const uint8_t key[32], nq_id *id, nq_err *err)
{
    const nq_val args[] = {nq_blob(key, 32), nq_int(nq_store_clock(p->store))};
    return p->store->driver->hosts_clock
               ? nq_place_sql(p, WINDOWS_LOOK("?"), args, 2, windows_id, id, err)
               : nq_place_sql(p, WINDOWS_LOOK("{now}"), args, 1, windows_id, id, err);
}

struct windows_look {
    const uint8_t *key;
    nq_id id;
};

static int windows_look_ours(nq_conn *c, void *arg, nq_err *err)
{
    struct windows_look *l = arg;
    l->id = 0;
    return windows_look(&(nq_place){c->store, c, NQ_OWN_TX}, l->key, &l->id, err);
}

/* In the caller's transaction on a server: on a connection of ours, which sees what is committed by now, not
 * what was when that transaction began. */
NQ_PRIVATE int nq_window_look(const nq_place *p, const uint8_t key[32], nq_id *id, nq_err *err)
{
    struct windows_look l = {key, 0};
    *id = 0;
    if (p->c || !p->store->driver->row_locks)
        return windows_look(p, key, id, err);
    const int rc = nq_store_do(p->store, windows_look_ours, &l, err);
    if (rc != NQ_OK && err)
        err->transaction_lost = false; /* that was a transaction of ours */
    *id = l.id;
    return rc;
}

#define WINDOWS_OPEN(until, now)                                                                             \
    "INSERT INTO {full:windows} (unique_key, task_id, until_at) VALUES (?, ?, " until                        \
    ") {on_taken:unique_key} task_id = CASE WHEN {full:windows}.until_at <= " now                            \
    " THEN {given:task_id} ELSE {full:windows}.task_id END, until_at = CASE WHEN {full:windows}.until_at "   \
    "<= " now " THEN {given:until_at} ELSE {full:windows}.until_at END"

NQ_PRIVATE int nq_window_open(const nq_place *p, const uint8_t key[32], nq_id id, int64_t window_us,
                              nq_id *taker, nq_err *err)
{
    const int64_t now = nq_store_clock(p->store);
    const nq_val us = nq_int(p->store->driver->hosts_clock ? now + window_us : window_us);
    const nq_val args[] = {nq_blob(key, 32), nq_int(id), us, nq_int(now), nq_int(now)};
    *taker = 0;
    int rc = p->store->driver->hosts_clock
                 ? nq_place_sql(p, WINDOWS_OPEN("?", "?"), args, 5, NULL, NULL, err)
                 : nq_place_sql(p, WINDOWS_OPEN("{after}", "{now}"), args, 3, NULL, NULL, err);
    if (rc == NQ_OK)
        rc = nq_place_sql(p, "SELECT task_id FROM {full:windows} WHERE unique_key = ? {lock}", args, 1,
                          windows_id, taker, err);
    return rc;
}

/* ---- Those that have ended ---- */

struct windows_sweep {
    nq_buf keys; /* each as its type, its size and its bytes */
    size_t n, limit;
};

struct windows_key {
    int64_t type, n;
};

static int windows_sweep_row(const nq_val cols[], size_t ncols, void *arg)
{
    struct windows_sweep *w = arg;
    const struct windows_key key = {cols[0].type, (int64_t)cols[0].n};
    (void)ncols;
    nq_buf_add(&w->keys, &key, sizeof key);
    if (cols[0].n)
        nq_buf_add(&w->keys, cols[0].p, cols[0].n);
    w->n++;
    return w->keys.failed ? NQ_ENOMEM : 0;
}

/* One by its key: a DELETE by the time would lock windows that are being opened. */
static int windows_sweep(nq_conn *c, void *arg, nq_err *err)
{
    struct windows_sweep *w = arg;
    const nq_val limit = nq_int((int64_t)w->limit);
    nq_buf_clear(&w->keys);
    w->n = 0;
    int rc = nq_sql(c, "SELECT unique_key FROM {windows} WHERE until_at < {now} ORDER BY until_at LIMIT ?",
                    &limit, 1, windows_sweep_row, w, NULL, err);
    for (size_t i = 0, at = 0; i < w->n && rc == NQ_OK; i++) {
        struct windows_key key;
        memcpy(&key, w->keys.p + at, sizeof key);
        at += sizeof key;
        const nq_val one = {(int)key.type, 0, w->keys.p + at, (size_t)key.n};
        at += (size_t)key.n;
        rc = nq_sql(c, "DELETE FROM {windows} WHERE unique_key = ? AND until_at < {now}", &one, 1, NULL, NULL,
                    NULL, err);
    }
    return rc;
}

NQ_PRIVATE int nq_store_windows_sweep(nq_store *s, size_t limit, size_t *n, nq_err *err)
{
    struct windows_sweep w = {.limit = limit};
    const int rc = nq_store_do(s, windows_sweep, &w, err);
    if (rc == NQ_OK)
        *n = w.n;
    nq_buf_free(&w.keys);
    return rc;
}
