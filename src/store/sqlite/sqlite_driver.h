/* SPDX-License-Identifier: MIT */
/* What the files of the SQLite driver share. */
#ifndef NQ_STORE_SQLITE_H
#define NQ_STORE_SQLITE_H

#include "../store.h"
#include "nanoq_sqlite.h"

/* Statements that a connection prepares once; the others go through its cache. */
enum nq_sqlite_hot {
    NQ_SQLITE_BEGIN,
    NQ_SQLITE_COMMIT,
    NQ_SQLITE_INSERT,
    NQ_SQLITE_BORN,
    NQ_SQLITE_FIND,
    NQ_SQLITE_FOLLOW,
    NQ_SQLITE_LEVEL,
    NQ_SQLITE_GROUP,
    NQ_SQLITE_DUE,
    NQ_SQLITE_GATE,
    NQ_SQLITE_RUNNING,
    NQ_SQLITE_MARK,
    NQ_SQLITE_MARK_RUN,
    NQ_SQLITE_DELETE,
    NQ_SQLITE_DELETE_RUN,
    NQ_SQLITE_HOT
};

#define NQ_SQLITE_CACHE 64

typedef struct nq_sqlite_cached {
    uint64_t hash, used;
    sqlite3_stmt *stmt; /* NULL: free, or taken out to be run */
} nq_sqlite_cached;

typedef struct nq_sqlite_conn {
    nq_conn base;
    sqlite3 *db;
    int64_t busy_since;
    int lock_fd;          /* this connection's own open file description of the lock file, or -1 */
    uint64_t lock_ticket; /* of nq_fork_leaves, for lock_fd */
    uint64_t lock_id;     /* whose lock is held through it, or 0 */
    uint64_t tick;
    sqlite3_stmt *hot[NQ_SQLITE_HOT];
    nq_sqlite_cached cache[NQ_SQLITE_CACHE];
} nq_sqlite_conn;

/* nq_store.data */
typedef struct nq_sqlite_data {
    char *file;      /* absolute, so that a chdir changes nothing; or the URI of the memory database */
    sqlite3 *anchor; /* keeps the memory database while no other connection is open */
    int64_t busy_us;
    bool memory, normal;
    bool made; /* the file was there once: it is not made again in the place of one that is gone */
} nq_sqlite_data;

NQ_PRIVATE int nq_sqlite_open(nq_store *s, nq_err *err);
NQ_PRIVATE void nq_sqlite_close(nq_store *s);
NQ_PRIVATE int nq_sqlite_connect(nq_store *s, nq_conn **out, nq_err *err);
NQ_PRIVATE void nq_sqlite_disconnect(nq_conn *conn);
/* forked.c. Before a file's first connection is opened, so that children of fork may open their own:
 * NQ_ENOMEM. */
NQ_PRIVATE int nq_sqlite_may_fork(nq_err *err);
NQ_PRIVATE bool nq_sqlite_forked(void);
NQ_PRIVATE bool nq_sqlite_usable(nq_conn *conn);
NQ_PRIVATE nq_tx nq_sqlite_tx_from(void *conn, const char **client);
NQ_PRIVATE void nq_sqlite_identity(const nq_store *s, nq_buf *out);
NQ_PRIVATE char *nq_sqlite_watched(const nq_store *s);
NQ_PRIVATE int nq_sqlite_exec(nq_conn *conn, const char *sql, const nq_val args[], size_t nargs,
                              nq_row_fn row, void *arg, nq_exec_result *res, nq_err *err);
NQ_PRIVATE int nq_sqlite_begin(nq_conn *conn, nq_err *err);
NQ_PRIVATE int nq_sqlite_commit(nq_conn *conn, nq_err *err);
NQ_PRIVATE void nq_sqlite_rollback(nq_conn *conn);
NQ_PRIVATE int nq_sqlite_enqueue(nq_store *s, nq_tx tx, const nq_new tasks[], size_t n, nq_id ids[],
                                 int results[], nq_err *err);
/* One task: see nq_driver.key and .put. */
NQ_PRIVATE size_t nq_sqlite_key(const nq_new *task, uint8_t room[32], nq_val match[2], nq_val *column);
NQ_PRIVATE int nq_sqlite_put(const nq_place *p, const nq_new *task, nq_id follows, nq_id *id, nq_err *err);
NQ_PRIVATE int nq_sqlite_lock_hold(nq_conn *conn, uint64_t id, nq_err *err);
/* Append the name of the file of the locks. */
NQ_PRIVATE void nq_sqlite_lock_path(const nq_sqlite_conn *c, nq_buf *path);
NQ_PRIVATE bool nq_sqlite_lock_strayed(const nq_sqlite_conn *c);
NQ_PRIVATE int nq_sqlite_uptime(nq_conn *conn, int64_t *us, nq_err *err);
NQ_PRIVATE void nq_sqlite_lock_drop(nq_conn *conn, uint64_t id);
NQ_PRIVATE int nq_sqlite_lock_probe(nq_conn *conn, const uint64_t ids[], size_t n, int8_t free_out[],
                                    nq_err *err);
/* gates.c: bring room down to what the limits of the queue, then of a turn, leave, in the transaction of the
 * claim; and give the tasks the times that their rates have for them, and write how far those are used. */
NQ_PRIVATE int nq_sqlite_gate(nq_sqlite_conn *c, const nq_claim_args *a, size_t *room, nq_err *err);
NQ_PRIVATE int nq_sqlite_room(nq_sqlite_conn *c, const struct nq_gate *gate, const struct nq_turn *turn,
                              size_t *room, nq_err *err);
NQ_PRIVATE int nq_sqlite_gates_write(nq_sqlite_conn *c, const nq_claim_args *a, nq_claimed *list,
                                     nq_err *err);
/* order.c: claim the one task of an ordered group that may be, if any; and write that it was. */
NQ_PRIVATE int nq_sqlite_order(nq_sqlite_conn *c, const nq_claim_args *a, const struct nq_turn *turn,
                               int64_t now, nq_claimed_list *list, bool *cut, nq_err *err);
NQ_PRIVATE int nq_sqlite_order_write(nq_sqlite_conn *c, const struct nq_turn *turn, nq_err *err);
/* checks.c */
extern NQ_PRIVATE const nq_driver_check nq_sqlite_checks[];
NQ_PRIVATE int nq_sqlite_groups(nq_conn *conn, struct nq_groups_look *look, nq_err *err);

/* Fill err from what the database said and answer the code. */
NQ_PRIVATE int nq_sqlite_error(const nq_exec_result *res, nq_err *err);
NQ_PRIVATE int nq_sqlite_caller_failed(const nq_store *s, nq_exec_result *res, nq_err *err);
/* The same on an own connection, which it may mark broken; _error: for the last failure on it. */
NQ_PRIVATE int nq_sqlite_conn_failed(nq_sqlite_conn *c, const nq_exec_result *res, nq_err *err);
NQ_PRIVATE int nq_sqlite_conn_error(nq_sqlite_conn *c, nq_err *err);
/* The connection's statement `which`, prepared from the template at the first use. */
NQ_PRIVATE int nq_sqlite_hot_get(nq_sqlite_conn *c, enum nq_sqlite_hot which, const char *template_sql,
                                 sqlite3_stmt **out, nq_err *err);
/* Take the statement with this text out of the cache, or prepare it; give it back when it was reset. */
NQ_PRIVATE int nq_sqlite_take(nq_sqlite_conn *c, const char *sql, sqlite3_stmt **out, nq_err *err);
NQ_PRIVATE void nq_sqlite_give(nq_sqlite_conn *c, sqlite3_stmt *stmt);

/* A claim with a filter by type that looks at some tasks first: see nq_claim_args.scan. */
#define NQ_SQLITE_SCAN_HEAD                                                                                  \
    "SELECT " NQ_CLAIMED_COLUMNS " FROM {tasks} t WHERE id IN (SELECT id FROM (SELECT id, type FROM "        \
    "{tasks} WHERE queue = ? AND state = 0 AND priority = ? AND (run_at, id) > (?, ?) AND run_at <= ? "      \
    "ORDER BY run_at, id LIMIT ?) WHERE type"
#define NQ_SQLITE_SCAN_TAIL " LIMIT ?) ORDER BY run_at, id"

/* fragments.c */
extern NQ_PRIVATE const nq_fragment nq_sqlite_fragments[];

#endif
