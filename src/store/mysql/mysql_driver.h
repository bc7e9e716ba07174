/* SPDX-License-Identifier: MIT */
/* What the files of the MySQL and MariaDB driver share. Not named mysql.h: that is the client library's. */
#ifndef NQ_STORE_MYSQL_DRIVER_H
#define NQ_STORE_MYSQL_DRIVER_H

#include "../store.h"
#include "errors.h"
#include "nanoq_mysql.h"

enum nq_mysql_tls { NQ_MYSQL_TLS_OFF, NQ_MYSQL_TLS_PREFERRED, NQ_MYSQL_TLS_REQUIRED, NQ_MYSQL_TLS_VERIFY };

/* nq_store.data: read from the URL once, constant afterwards except where a lock is named. */
typedef struct nq_mysql_data {
    enum nq_mysql_tls tls;
    bool tls_unsaid;             /* the URL leaves tls to us */
    const char *socket, *tls_ca; /* the URL's */
    char *password;              /* NULL: in password_file, which is read at each connect */
    const char *password_file;
    unsigned connect_timeout, read_timeout, write_timeout; /* whole seconds */
    char *tasks, *followups;                               /* quoted table names */
    char *workers;
    char *full_tasks, *full_followups; /* with the database, for the caller's connection */
    char *claimed;                     /* NQ_CLAIMED_COLUMNS */
    char lock_name[40];                /* from the first connection on */
    size_t packet;                     /* the server's max_allowed_packet, from the first connection on */
    bool limited;             /* s->max_payload was checked against the server, at the first connection */
    bool returns;             /* the server has DELETE ... RETURNING, since then */
    bool rollback_on_timeout; /* the server's innodb_rollback_on_timeout, since then */
    bool nodes;               /* one of several servers that take writes, since then */
    char *identity;           /* what names the database on this host, since then; NULL: nothing does */
} nq_mysql_data;

/* One task of a call of nq_enqueue_many. */
typedef struct nq_mysql_row {
    const nq_new *task;
    size_t first; /* the row of this call that has the same key, or itself */
    uint8_t key[32];
    nq_id id;
    int result;       /* NQ_OK with id 0: not inserted yet */
    bool uncommitted; /* the live task was seen, but no commit of it */
    bool follow;      /* a task of this spec has to follow the live one, id */
} nq_mysql_row;

/* Is it to be claimed as it is inserted? */
static inline bool nq_mysql_born(const nq_mysql_row *r)
{
    return r->task->birth && r->task->birth->lease;
}

/* One call of nq_enqueue_many under way. */
typedef struct nq_mysql_call {
    nq_store *store;
    nq_tx tx;
    nq_mysql_row *rows;
    size_t n;
    int64_t increment;  /* auto_increment_increment of the connection that inserts */
    bool caller_failed; /* the error is of the caller's connection */
    bool unanswered;    /* an INSERT was sent and the connection lost before its answer */
    unsigned conflicts; /* so often begun anew because of others */
    bool own_tx;        /* in a transaction of ours that has other statements too */
    bool tagged;        /* some of the tasks have tags */
    bool look_first;    /* there are duplicates: look before inserting */
} nq_mysql_call;

/* Some of its rows. */
typedef struct nq_mysql_part {
    nq_mysql_row **rows;
    size_t n;
} nq_mysql_part;

/* "DELETE FROM", of several rows by their keys; it ends with a LIMIT of so many rows. To the planner a scan
 * of a small table is cheaper than several keys, and the scan waits for every row that somebody holds, though
 * it is none of them. With a LIMIT below the rows that the statistics say there are it keeps to the keys; a
 * row that somebody deletes is one less there, so MariaDB is told "safe updates" besides, which keep it to
 * them always, and are no error where there is a LIMIT. To MySQL that is a comment; complete.c has a hint for
 * it. (A DELETE takes no FORCE INDEX.) */
#define NQ_MYSQL_SAFELY        "/*M! SET STATEMENT sql_safe_updates=1 FOR */ "
#define NQ_MYSQL_DELETE_BY_KEY NQ_MYSQL_SAFELY "DELETE FROM"

#define NQ_MYSQL_STMTS         32

typedef struct nq_mysql_stmt {
    MYSQL_STMT *stmt;
    char *sql;
    size_t n;
    uint64_t used;
} nq_mysql_stmt;

typedef struct nq_mysql_conn {
    nq_conn base;
    MYSQL *my;
    bool mariadb;
    bool galera;  /* a node of Galera */
    bool nodes;   /* one of several servers that all take writes: Galera, or a group with several primaries */
    bool guarded; /* see nq_mysql_guard */
    bool direct;  /* the server's id of this session is the one that we were told: no proxy's */
    bool begin_due;    /* START TRANSACTION goes out with the first statement: one round trip less */
    bool sent;         /* the last statement reached the wire: its outcome is unknown if the answer is lost */
    size_t packet;     /* max_allowed_packet */
    int64_t increment; /* auto_increment_increment */
    uint64_t ticket;   /* of nq_fork_leaves, for the socket */
    uint64_t ticks;
    nq_mysql_stmt stmts[NQ_MYSQL_STMTS];
} nq_mysql_conn;

static inline nq_mysql_conn *nq_mysql_of(nq_conn *c)
{
    return (nq_mysql_conn *)(void *)c;
}
static inline nq_mysql_data *nq_mysql_data_of(const nq_store *s)
{
    return (nq_mysql_data *)s->data;
}

/* ---- mysql_conn.c */
NQ_PRIVATE bool nq_mysql_option(const char *name);
NQ_PRIVATE int nq_mysql_open(nq_store *s, nq_err *err);
NQ_PRIVATE void nq_mysql_close(nq_store *s);
NQ_PRIVATE int nq_mysql_connect(nq_store *s, nq_conn **out, nq_err *err);
NQ_PRIVATE void nq_mysql_disconnect(nq_conn *c);
NQ_PRIVATE bool nq_mysql_usable(nq_conn *c);
NQ_PRIVATE int nq_mysql_socket(nq_conn *c);

/* ---- session.c: ask the server what it is, and set up the session; the first time also nq_mysql_data. */
NQ_PRIVATE int nq_mysql_session(nq_mysql_conn *c, nq_err *err);
/* Before the first transaction: a client that is stopped inside of one would hide the rows it locked until
 * the server drops it, so have that done soon. Not at once, it makes each INSERT of a producer 3 % slower. */
NQ_PRIVATE int nq_mysql_guard(nq_mysql_conn *c, nq_err *err);
/* Before a lock is taken that has to outlast a client that is stopped. */
NQ_PRIVATE int nq_mysql_lasting(nq_mysql_conn *c, nq_err *err);
/* Seconds that the server may wait for a lock, so that it answers before the read timeout. */
NQ_PRIVATE unsigned nq_mysql_wait(const nq_store *s, unsigned most);
/* May a server of this VERSION() be used? Tells MariaDB from MySQL. */
NQ_PRIVATE int nq_mysql_check_version(const char *version, bool mariadb, nq_err *err);

/* ---- auth.c */
/* One attempt at connecting. */
typedef struct nq_mysql_login_try {
    const char *password;
    bool tls;          /* ask for it */
    bool demanded;     /* and go on only with it */
    bool private_line; /* TLS, or a unix socket */
    bool wants_tls;    /* the server wanted the password itself, and there was no TLS to put it in */
    int code;          /* NQ_OK, or it was we who refused, and why: */
    char why[200];
    nq_exec_result res; /* else the client library's error */
} nq_mysql_login_try;
/* See to it that mysql_real_connect(my) on this thread gives no secret away; _end after it. False: out of
 * memory. */
NQ_PRIVATE bool nq_mysql_auth_begin(MYSQL *my, nq_mysql_login_try *l);
NQ_PRIVATE void nq_mysql_auth_end(void);

/* ---- login.c */
/* Find out where the password is, and whether it can be read. */
NQ_PRIVATE int nq_mysql_password_open(nq_store *s, nq_err *err);
/* Connect and authenticate as the URL says. */
NQ_PRIVATE int nq_mysql_login(const nq_store *s, MYSQL **out, nq_err *err);

/* ---- mysql_sql.c */
/* nq_code of a database's error number. */
NQ_PRIVATE int nq_mysql_code(unsigned number);
/* insert.c: is it for want of ids that there was none (1467)? Deadlocks over them have the same number. */
NQ_PRIVATE bool nq_mysql_ids_used_up(nq_conn *c);
/* Fill err from a failed exec on any connection; the nq_code. */
NQ_PRIVATE int nq_mysql_fail(const nq_store *s, const nq_exec_result *res, nq_err *err);
/* The same on the caller's: is its transaction gone? */
NQ_PRIVATE int nq_mysql_caller_failed(const nq_store *s, nq_exec_result *res, nq_err *err);
/* No password in a text that a person may see, whatever wrote it there. */
NQ_PRIVATE void nq_mysql_scrub(char *text, const char *secret);
/* An error that the client library found, not the server: the connection is good for nothing more. */
NQ_PRIVATE bool nq_mysql_client_error(unsigned number);
/* What to do about a failed statement of our own connection: roll back a conflict, give up a lost connection.
 */
NQ_PRIVATE int nq_mysql_own_failed(nq_mysql_conn *c, nq_exec_result *res, nq_err *err);
/* The same when it was to commit: NQ_EUNKNOWN where the answer is lost. */
NQ_PRIVATE int nq_mysql_commit_failed(nq_mysql_conn *c, nq_exec_result *res, nq_err *err);
/* The answer to a COMMIT was lost: err, which holds the reason, becomes NQ_EUNKNOWN and says so. */
NQ_PRIVATE int nq_mysql_unknown(nq_err *err);
/* The answer is lost, and with it whether the statement took effect. */
NQ_PRIVATE bool nq_mysql_unanswered(unsigned number);

NQ_PRIVATE int nq_mysql_exec(nq_conn *c, const char *sql, const nq_val args[], size_t nargs, nq_row_fn row,
                             void *arg, nq_exec_result *res, nq_err *err);
/* Empty one place of a connection's statement cache. */
NQ_PRIVATE void nq_mysql_forget(nq_mysql_stmt *e);
/* Send text of one or more statements and wait for the first one's answer. After it, for each result,
 * nq_mysql_result; then, while there are more, nq_mysql_next to go to the next statement's. */
NQ_PRIVATE int nq_mysql_query(nq_mysql_conn *c, const char *sql, size_t n, nq_err *err);
NQ_PRIVATE bool nq_mysql_more(const nq_mysql_conn *c);
NQ_PRIVATE int nq_mysql_next(nq_mysql_conn *c, nq_err *err);
/* NULL where the statement has no rows; an error only when there should be some. */
NQ_PRIVATE int nq_mysql_result(nq_mysql_conn *c, MYSQL_RES **out, nq_err *err);
NQ_PRIVATE void nq_mysql_drain(nq_mysql_conn *c);
/* nq_mysql_query with b's text; an allocation that failed while b was filled is reported here. */
NQ_PRIVATE int nq_mysql_query_buf(nq_mysql_conn *c, const nq_buf *b, nq_err *err);
/* One or more statements without rows. */
NQ_PRIVATE int nq_mysql_run(nq_mysql_conn *c, const nq_buf *b, nq_err *err);
NQ_PRIVATE void nq_mysql_rollback(nq_conn *c);

/* Append bytes as _charset X'..': names that were validated, and hashes, in text that is not prepared. */
NQ_PRIVATE void nq_mysql_hex(nq_buf *b, const char *charset, const void *p, size_t n);

/* ---- checks.c */
extern NQ_PRIVATE const nq_driver_check nq_mysql_checks[];
NQ_PRIVATE int nq_mysql_check_vars(nq_conn *c, nq_checks *k, nq_err *err);
/* checks_cluster.c */
NQ_PRIVATE int nq_mysql_check_cluster(nq_conn *c, nq_checks *k, nq_found *f, nq_err *err);

/* ---- mysql_bell.c */
NQ_PRIVATE int nq_mysql_bell_hang(nq_conn *c, uint64_t host, const uint64_t queues[], size_t n, nq_err *err);
NQ_PRIVATE int nq_mysql_bell_wait(nq_conn *c, bool *rung, nq_err *err);
NQ_PRIVATE int nq_mysql_bell_ring(nq_conn *c, uint64_t host, const uint64_t queues[], size_t n,
                                  unsigned *rung, nq_err *err);

/* ---- levels.c: the levels of a queue: the statements, and their results up to the last of the query. */
NQ_PRIVATE void nq_mysql_levels_text(const nq_store *s, const char *queue, nq_buf *b);
NQ_PRIVATE int nq_mysql_levels_read(nq_mysql_conn *c, nq_look *look, nq_err *err);
NQ_PRIVATE int nq_mysql_levels(nq_conn *conn, const char *queue, nq_look *look, nq_err *err);

/* ---- doubt.c: claims in doubt, whose COMMIT was not answered */
/*
 * Which of these ids carry the lease? Waits, by locking, for the lost connection's transaction to end: that
 * one still holds the rows until the server noticed that its client is gone. have: n places; result sorted.
 */
NQ_PRIVATE int nq_mysql_doubt_look_up(nq_mysql_conn *c, uint64_t lease, const uint64_t *ids, size_t n,
                                      uint64_t *have, size_t *found, nq_err *err);

/* ---- followed.c -- The follow-ups that a claim takes along. The question whether a task has any, behind
 * head; of a row of `of`. */
NQ_PRIVATE void nq_mysql_followed(const nq_mysql_data *d, const char *head, const char *of, nq_buf *b);
/* In the claim's transaction: lock those that are committed of these n tasks, ids with commas between, and
 * append the ";DELETE" that goes behind the claim's UPDATE; nothing when there are none. */
NQ_PRIVATE int nq_mysql_followed_lock(nq_mysql_conn *c, const nq_claim_args *a, const nq_buf *tasks, size_t n,
                                      nq_buf *gone, nq_err *err);
/* ---- batch.c -- What a claim selected. */
typedef struct nq_mysql_batch {
    nq_claimed_list list;
    uint64_t *ids;   /* once all is read, sorted */
    nq_buf followed; /* the ids of those that have follow-ups, so many */
    size_t nfollowed;
    bool cut; /* at the limit of bytes: rows were left */
} nq_mysql_batch;
NQ_PRIVATE void nq_mysql_batch_free(nq_mysql_batch *batch);
/* Add rows to it; payloads have up to `most` bytes. changed: they were read after the claim had changed them.
 */
NQ_PRIVATE int nq_mysql_batch_read(nq_mysql_batch *batch, const nq_claim_args *a, size_t most, bool changed,
                                   MYSQL_RES *r);
NQ_PRIVATE void nq_mysql_batch_sort(nq_mysql_batch *batch);
/* Keep only the tasks with these ids, sorted. */
NQ_PRIVATE void nq_mysql_batch_keep(nq_mysql_batch *batch, const uint64_t *have, size_t n);

/* ---- named.c */
NQ_PRIVATE int nq_mysql_claim_id(nq_conn *c, const nq_claim_args *a, nq_claimed **out, size_t *n,
                                 nq_err *err);

/* ---- groups.c */
NQ_PRIVATE int nq_mysql_groups(nq_conn *c, struct nq_groups_look *look, nq_err *err);

/* ---- claim.c */
NQ_PRIVATE int nq_mysql_claim(nq_conn *c, const nq_claim_args *a, nq_claimed **out, size_t *n, nq_err *err);
NQ_PRIVATE int nq_mysql_cmp_u64(const void *a, const void *b);
/* Append a condition on sorted ids: BETWEEN for each run without a gap, which costs the server half of an IN
 * list, and IN for the loners. */
NQ_PRIVATE void nq_mysql_where_ids(nq_buf *b, const uint64_t *ids, size_t n);

/* ---- take.c -- Take the batch, whose rows are locked, and end the transaction. On an error nothing is held,
 * or what may be is remembered. */
NQ_PRIVATE int nq_mysql_claim_take(nq_mysql_conn *c, const nq_claim_args *a, nq_mysql_batch *batch,
                                   nq_err *err);
/* Say what became of what piggybacks; and of which task alone it comes that nothing can be claimed. */
NQ_PRIVATE void nq_mysql_claim_piggybacked(const nq_claim_args *a, enum nq_piggybacked piggybacked);
NQ_PRIVATE void nq_mysql_claim_refused(const nq_claim_args *a, const nq_mysql_batch *batch, int rc);

/* ---- candidates.c -- What the i-th turn claims; what it is itself, where there are no turns. *left: of the
 * claim's limit. */
NQ_PRIVATE nq_claim_args nq_mysql_turn(const nq_claim_args *a, size_t i, size_t *left);
/* Append what selects its tasks; of an ordered group the only one that may be claimed. */
NQ_PRIVATE void nq_mysql_turn_where(nq_buf *b, const nq_claim_args *a, size_t i, const nq_claim_args *turn);
/* Ids of due tasks of the wanted types, but for the first `skip`, read without locks; the caller's to free,
 * sorted. */
NQ_PRIVATE int nq_mysql_candidates(nq_mysql_conn *c, const nq_claim_args *a, size_t skip, uint64_t **ids,
                                   size_t *n, nq_err *err);
/* Are there several turns, each of one task of any type? Append a table of them, (q, id): the first due task
 * of each, or NULL. */
NQ_PRIVATE bool nq_mysql_takes_firsts(const nq_claim_args *a);
NQ_PRIVATE void nq_mysql_firsts(const nq_mysql_conn *c, const nq_claim_args *a, nq_buf *b);

/* ---- enqueue.c */
NQ_PRIVATE int nq_mysql_enqueue(nq_store *s, nq_tx tx, const nq_new tasks[], size_t n, nq_id ids[],
                                int results[], nq_err *err);

/* One task: see nq_driver.key, .put and .precheck. */
NQ_PRIVATE size_t nq_mysql_key(const nq_new *task, uint8_t room[32], nq_val match[2], nq_val *column);
NQ_PRIVATE int nq_mysql_put(const nq_place *p, const nq_new *task, nq_id follows, nq_id *id, nq_err *err);
NQ_PRIVATE int nq_mysql_precheck_one(const nq_place *p, const nq_new *task, nq_id *id, bool *own,
                                     nq_err *err);

/* ---- lookup.c -- Live tasks by key. */
/* Is it still to be answered? */
NQ_PRIVATE bool nq_mysql_pending(const nq_mysql_row *r);
/* Answer the pending rows whose key a committed task has; on c, or on a connection of the pool (NULL). */
NQ_PRIVATE int nq_mysql_lookup(const nq_mysql_call *call, nq_mysql_part part, nq_conn *c, nq_err *err);
/* Before an INSERT on the caller's connection: answer the rows whose key is live already. */
NQ_PRIVATE int nq_mysql_precheck(nq_mysql_call *call, nq_mysql_part part, nq_err *err);
/* A statement on the caller's connection failed. */
NQ_PRIVATE int nq_mysql_call_failed(nq_mysql_call *call, nq_exec_result *res, nq_err *err);

/* ---- insert.c -- The text of one INSERT of these rows, as tasks or follow-ups, and *n values to bind,
 * which point into the rows and are the caller's to free. NULL: out of memory. theirs: on the caller's
 * connection. */
NQ_PRIVATE nq_val *nq_mysql_insert(nq_buf *sql, const nq_mysql_data *d, bool theirs, bool follow,
                                   nq_mysql_row *const rows[], size_t nrows, size_t *n);

/* ---- mysql_complete.c -- Plain completions, sorted by lease and id. */
typedef struct nq_mysql_done {
    nq_outcome **list;
    uint64_t *ids;
    size_t n;
    bool begun; /* in the transaction that is open */
} nq_mysql_done;
NQ_PRIVATE bool nq_mysql_done_new(nq_mysql_done *d, nq_outcome *const outcomes[],
                                  size_t n); /* or no memory */
NQ_PRIVATE void nq_mysql_done_free(nq_mysql_done *d);
/* Append a ";DELETE ..." of all of them; read its result, and set each outcome's, where the server has
 * RETURNING. first: it has come already; else it is the next. */
NQ_PRIVATE void nq_mysql_done_text(const nq_mysql_done *d, const nq_store *s, nq_buf *b);
NQ_PRIVATE int nq_mysql_done_read(const nq_mysql_done *d, nq_mysql_conn *c, bool first, nq_err *err);
NQ_PRIVATE size_t nq_mysql_piggyback_limit(const nq_store *s);
NQ_PRIVATE int nq_mysql_delete_done(nq_conn *conn, nq_outcome *const outcomes[], size_t n, bool locked,
                                    nq_err *err);
NQ_PRIVATE int nq_mysql_complete(nq_conn *conn, nq_outcome *const outcomes[], size_t n, bool *did,
                                 nq_err *err);

/* ---- gates.c -- How many the limits leave of each turn, and of all together. */
typedef struct nq_mysql_rooms {
    size_t *room; /* a place for each turn */
    size_t all;
    nq_buf missing; /* gates that have no row yet, of which nothing is left */
} nq_mysql_rooms;
/* Look, under no lock. Where something piggybacks, in the transaction of the claim, which it begins: what
 * ends with the claim makes room for it. */
NQ_PRIVATE int nq_mysql_gates_look(nq_mysql_conn *c, const nq_claim_args *a, nq_mysql_done *done,
                                   nq_mysql_rooms *rooms, nq_err *err);
/* Make the rows that are missing, in no transaction. */
NQ_PRIVATE int nq_mysql_gates_make(nq_mysql_conn *c, const nq_mysql_rooms *rooms, nq_err *err);
/* Append what locks the gates and decides which tasks of the batch are taken: the UPDATE behind it is to
 * change those in @nanoq_take. */
NQ_PRIVATE void nq_mysql_gates_text(const nq_mysql_conn *c, const nq_claim_args *a,
                                    const nq_mysql_batch *batch, nq_buf *b);
/* Append to the UPDATE's tables the gate that it has to write on Galera. */
NQ_PRIVATE void nq_mysql_gates_grant(const nq_mysql_conn *c, const nq_claim_args *a, nq_buf *b);
/* Append the ";INSERT" that writes how far rates are used; how many there are. */
NQ_PRIVATE int nq_mysql_gates_write(const nq_mysql_conn *c, const nq_claim_args *a,
                                    const nq_mysql_batch *batch, nq_buf *b);
/* Read the answer: their ids, sorted and to be freed, at most *n; then the UPDATE's answer is the current
 * one. False: the client library has an error. */
NQ_PRIVATE bool nq_mysql_gates_read(nq_mysql_conn *c, const nq_claim_args *a, uint64_t **ids, size_t *n);
/* Is there a row of each group's gate, and is it open? */
NQ_PRIVATE int nq_mysql_gates_open(nq_mysql_conn *c, const nq_claim_args *a, bool *all, nq_err *err);

/* ---- order.c -- Append expressions: which task of an ordered group may be claimed, 0: none; until when none
 * may, 0: that is not known. */
NQ_PRIVATE void nq_mysql_order_next(const nq_mysql_conn *c, const struct nq_turn *t, nq_buf *b);
NQ_PRIVATE void nq_mysql_order_until(const nq_mysql_conn *c, const struct nq_turn *t, nq_buf *b);
/* And what selects that task, and the ";INSERT" that writes what was claimed; false: nothing is ordered. */
NQ_PRIVATE void nq_mysql_order_where(const struct nq_turn *t, nq_buf *b);
NQ_PRIVATE bool nq_mysql_order_write(const nq_mysql_conn *c, const nq_claim_args *a, nq_buf *b);

#endif
