/* SPDX-License-Identifier: MIT */
/* What a driver provides. */
#ifndef NQ_STORE_DRIVER_H
#define NQ_STORE_DRIVER_H

#include "store.h"

/* Where the statements of one enqueue run: our transaction on c, or, c NULL, the caller's. */
typedef struct nq_place {
    nq_store *store;
    nq_conn *c;
    nq_tx tx;
} nq_place;

/* One priority of a queue that has waiting tasks. */
typedef struct nq_level {
    int priority;
    int64_t first_run_at; /* us since 1970; INT64_MIN: a time that is none, which comes before all others */
} nq_level;

/* What levels found. */
typedef struct nq_look {
    nq_level *levels;
    size_t n, max;
    int64_t now_us;
    bool strange; /* there is also a priority, or a time, that no task may have */
} nq_look;

/* Of a claim that failed: the one task that it was to take, which the database refuses. cut: one that did not
 * fail ended at its limit of bytes. */
typedef struct nq_refused {
    bool set, cut;
    nq_id id;
} nq_refused;

typedef struct nq_claim_args {
    const char *queue;
    const struct nq_turn
        *turns; /* not NULL: claim up to so many of each, and not of the queue at one priority */
    size_t nturns;
    const struct nq_gate *gate; /* not NULL: a turn, or the queue with its groups, is limited */
    int priority;
    int64_t from_run_at;      /* the cursor: look at run_at >= this; INT64_MIN: from the head */
    nq_id from_id;            /* and of these at from_run_at itself only ids above this (may be ignored) */
    const char *const *types; /* NULL: any */
    size_t ntypes, scan;      /* scan: look at so many tasks of a turn at most for the types; 0: any number */
    const char *const *groups; /* NULL, or of each type the group that alone is claimed for it, or NULL */
    bool others;               /* any types but these; those in their groups */
    uint64_t lease;
    size_t limit;
    nq_look *look; /* not NULL: read the levels in the same round trip, and claim nothing if they say
                      that a more urgent task, or one before the cursor, is due; drivers with looks */
    nq_piggyback *piggyback; /* not NULL: complete these too; need not be done where nothing is due */
    const char *exchange; /* not NULL: take nothing unless the piggyback ends as many tasks of this queue */
    uint64_t bytes;       /* of all payloads, but one task at least; 0: any */
    bool some;            /* or none: the claim has some already */
    nq_refused *refused;  /* out; may be NULL */
} nq_claim_args;

/* A statement of a step. A step's last one writes its version into {schema}. */
typedef struct nq_statement {
    int version;
    int done_before[4]; /* errors of the database's that say that it was done by a run that stopped later */
    const char *sql;    /* a template */
} nq_statement;

/* What a token of a template becomes; $ is what stands behind its colon. */
typedef struct nq_fragment {
    const char *token, *form;
} nq_fragment;

struct nq_driver {
    const char *scheme; /* "mysql", "sqlite" */
    enum nq_tx_kind tx_kind;
    const nq_fragment *fragments; /* ends at a NULL token */
    char quote;                   /* around names */
    bool full_names;              /* a table's name may have its database before it */
    bool row_locks;    /* rows can be held, or not be committed yet, by others: to wait for, or to pass by */
    bool unsigned_ids; /* an id beyond INT64_MAX is one */
    bool hosts_clock;  /* the database's clock is this host's; a caller's connection has no other */
    const nq_statement *steps; /* src/store/<scheme>/steps, in order; the last one has no sql */
    bool ddl_in_tx;            /* a change of tables can be taken back */
    /* Have new ids come after those of {finished}: a question, whether there is something to do, and after a
     * row of it the statements; ends at NULL. */
    const char *const *ids_behind;
    bool (*option)(const char *name); /* is this a URL option of the driver's? */

    /* Read the URL's options into s->data; no connection yet. close frees s->data. */
    int (*open)(nq_store *s, nq_err *err);
    void (*close)(nq_store *s);
    /* In a child of fork that has one thread: it may open what the program has open. False: no memory. */
    bool (*forked)(void);
    unsigned (*max_connections)(const nq_store *s, unsigned wanted);

    /* Connect, check the server, set up the session; fills s->max_payload's bound where the server has one.
     */
    int (*connect)(nq_store *s, nq_conn **out, nq_err *err);
    void (*disconnect)(nq_conn *c);
    bool (*usable)(nq_conn *c); /* one that was idle: not closed by the server, its files and lock still those
                                   of its name? No wait. */

    /* Have the time of this connection stand at us, or (0) go on. NULL: it asks nq_store_clock. */
    int (*set_clock)(nq_conn *c, int64_t us, nq_err *err);

    /* One statement, ?-parameters bound, `sql` already expanded. Codes: NQ_EDUPLICATE (unique violation),
     * NQ_ECONFLICT (deadlock, lock timeout, busy: the transaction is gone), NQ_EUNAVAILABLE (connection
     * lost; c->broken), NQ_ENOTMIGRATED (no such table), NQ_EDENIED, NQ_EFULL, NQ_ECORRUPT, NQ_EREADONLY,
     * NQ_EDB; or row's own non-zero answer. */
    int (*exec)(nq_conn *c, const char *sql, const nq_val args[], size_t nargs, nq_row_fn row, void *arg,
                nq_exec_result *res, nq_err *err);
    /* Fill err from a failed statement in the caller's transaction; the nq_code. */
    int (*caller_failed)(const nq_store *s, nq_exec_result *res, nq_err *err);
    /* The caller's transaction on conn, which our copy of the client library made; *client: what that copy
     * says of itself. */
    nq_tx (*tx_from)(void *conn, const char **client);
    int (*begin)(nq_conn *c, nq_err *err);  /* READ COMMITTED / BEGIN IMMEDIATE */
    int (*commit)(nq_conn *c, nq_err *err); /* NQ_EUNKNOWN when the connection broke in it */
    void (*rollback)(nq_conn *c);

    /* Insert. tx.ops NULL: own transactions on pooled connections. See nq_enqueue_many for what is due. */
    int (*enqueue)(nq_store *s, nq_tx tx, const nq_new tasks[], size_t n, nq_id ids[], int results[],
                   nq_err *err);
    /* Of one task whose key has to be looked after, see keys.h. key: the values of {keyed:...}, how many, and
     * that of the column; they may point into the room. put: insert, as a follow-up of `follows` unless that
     * is 0; NQ_EDUPLICATE, and the transaction goes on. */
    size_t (*key)(const nq_new *task, uint8_t room[32], nq_val match[2], nq_val *column);
    int (*put)(const nq_place *p, const nq_new *task, nq_id follows, nq_id *id, nq_err *err);
    /* The live task of the key, 0: none, before an INSERT in the caller's transaction that would wait for
     * others'; *own: it is the caller's own. NULL: nobody else's can be there unseen. */
    int (*precheck)(const nq_place *p, const nq_new *task, nq_id *id, bool *own, nq_err *err);
    /* The priorities with waiting tasks, ascending, each with its earliest run_at, and the database's now.
     * Index-only. */
    int (*levels)(nq_conn *c, const char *queue, nq_look *look, nq_err *err);
    int (*groups)(nq_conn *c, struct nq_groups_look *look, nq_err *err); /* index-only */
    bool looks; /* is nq_claim_args.look heeded? Only where a round trip costs something. */
    /* Claim at one priority in one committed transaction; list in (run_at, id) order. */
    int (*claim)(nq_conn *c, const nq_claim_args *args, nq_claimed **out, size_t *n, nq_err *err);
    /* Claim the task from_id, if it is due in that queue and nobody else is at it, with one round trip less;
     * NULL: there is nothing to be gained. */
    int (*claim_id)(nq_conn *c, const nq_claim_args *args, nq_claimed **out, size_t *n, nq_err *err);
    /* Most tasks of a claim on which completions gain by piggybacking; 0: none ever do. */
    size_t (*piggyback_limit)(const nq_store *s);
    /* Claims of up to so many tasks are worth making two at a time, on two connections whose commits the
     * server makes durable together; 0: there is one writer. */
    size_t claim_apart;
    /* Delete the rows of these done outcomes inside the open transaction, fenced, and set each result; in as
     * few statements as the database allows. locked: the transaction has the locks of all the rows, and each
     * is ours; or else it has written nothing yet. */
    int (*delete_done)(nq_conn *c, nq_outcome *const outcomes[], size_t n, bool locked, nq_err *err);
    /* The same in a transaction of its own, where that takes fewer round trips; *did: it was done. NULL:
     * never. */
    int (*complete)(nq_conn *c, nq_outcome *const outcomes[], size_t n, bool *did, nq_err *err);

    /* A lock that dies with this process (GET_LOCK on c, or a file lock): hold worker `id`'s; and is
     * each of these free? free_out[i] is 1 free, 0 held (one held on c too), -1 cannot tell. */
    int (*lock_hold)(nq_conn *c, uint64_t id, nq_err *err);
    void (*lock_drop)(nq_conn *c, uint64_t id);
    int (*lock_probe)(nq_conn *c, const uint64_t ids[], size_t n, int8_t free_out[], nq_err *err);
    /* How long ago at least every lock was dropped, because the server started or the file that carries them
     * was made; NULL: that does not happen. */
    int (*uptime)(nq_conn *c, int64_t *us, nq_err *err);

    /* Checks that are its own, or (number 13) that add to all databases'. And read the variables that they
     * look at; may be NULL. */
    const struct nq_driver_check *checks;
    int (*check_vars)(nq_conn *c, struct nq_checks *k, nq_err *err);

    /* One migration at a time over all processes. */
    int (*migrate_lock)(nq_conn *c, nq_err *err);
    void (*migrate_unlock)(nq_conn *c);

    /* Hints. identity: append bytes that tell this database from others, the same in each process of this
     * host; none when no other process can open it. watched (may be NULL): see nq_store_watched. */
    void (*identity)(const nq_store *s, nq_buf *out);
    char *(*watched)(const nq_store *s);
    /* The descriptor behind a connection; NULL or -1: none. */
    int (*socket)(nq_conn *c);
    /* Bells; NULL where the database has none. Rings those of any of these queues, *rung of them, but none of
     * this host (0: any host's). */
    int (*bell_hang)(nq_conn *c, uint64_t host, const uint64_t queues[], size_t n, nq_err *err);
    int (*bell_wait)(nq_conn *c, bool *rung, nq_err *err);
    int (*bell_ring)(nq_conn *c, uint64_t host, const uint64_t queues[], size_t n, unsigned *rung,
                     nq_err *err);
};

extern NQ_PLUG_IN const nq_driver nq_driver_mysql;
extern NQ_PRIVATE const nq_driver nq_driver_sqlite;

/* ---- drivers.c ---- */

/* The driver of URLs of this scheme. Thread-safe; NQ_EURL: nobody has one, NQ_EUNSUPPORTED: it is not here.
 */
NQ_PRIVATE int nq_store_driver(const nq_driver **out, const char *scheme, nq_err *err);
/* In a child of fork that has one thread, before it opens a database: see nq_driver.forked. */
NQ_PRIVATE bool nq_store_forked(void);

#endif
