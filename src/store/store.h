/* SPDX-License-Identifier: MIT */
/* What the worker and the public calls see of a store, and what a driver must provide. */
#ifndef NQ_STORE_H
#define NQ_STORE_H

#include <stdatomic.h>

#include "../core/core.h"
#include "columns.h"
#include "nanoq_admin.h"
#include "nanoq_tx.h"

/*
 * Three layers, each seeing only the one below:
 *   src/api, src/worker         call nq_store_*: transactions, retries of transient faults, pooling
 *   outcomes.c members.c ...    SQL that both databases share, over nq_driver.exec
 *   mysql/, sqlite/             nq_driver: connecting, error mapping, and the few hot statements that differ
 */

#define NQ_SCHEMA_VERSION 12 /* of the last of the steps in src/store/.../steps */

/* What the checks of the tables allow at most; as text for statements, which saturate there. */
#define NQ_MAX_GENERATION "2000000000"
#define NQ_MAX_ATTEMPTS   "30000"

typedef struct nq_store nq_store;
typedef struct nq_conn nq_conn;
typedef struct nq_driver nq_driver;
typedef struct nq_doubt nq_doubt;
struct nq_groups_look; /* groups.h */
struct nq_checks;      /* checks.h */

/* A lease names one committed claim: the worker's id in the high bits, its claim counter in the low 36.
 * It fits a signed 64-bit column, and no two claims ever share one, so it is the fencing token. */
#define NQ_LEASE_SEQ_BITS      36
#define NQ_LEASE_SEQ_MAX       (((uint64_t)1 << NQ_LEASE_SEQ_BITS) - 1)
#define NQ_LEASE(worker, seq)  (((uint64_t)(worker) << NQ_LEASE_SEQ_BITS) | (uint64_t)(seq))
#define NQ_LEASE_WORKER(lease) ((lease) >> NQ_LEASE_SEQ_BITS)

/* ---- Values that cross the layers ---------------------------------------------------------- */

/* A claim that a new task is born with, so that one commit enqueues it and claims it: an idle worker lent it
 * to the producer. It takes effect only while that worker is a member. */
typedef struct nq_birth {
    uint64_t lease; /* 0: none (any more) */
    bool did;       /* out: the task runs under the lease, */
    int64_t at_us;  /* out: created, due and claimed then; 0: it could not be read */
} nq_birth;

/* A task to insert: validated, defaults filled in. Points into the caller's spec. */
typedef struct nq_new {
    NQ_COLUMNS(NQ_SAID_FIELD) /* one for each column that is said */
    const void *payload;
    size_t payload_size;
    int64_t delay_us; /* used when run_at_us is 0 */
    int64_t run_at_us;
    int64_t expires_us; /* from the INSERT on; 0: it does not expire, or its headers say when */
    enum nq_unique unique;
    enum nq_until until;
    enum nq_duplicate duplicate;
    int64_t window_us, max_wait_us; /* of NQ_UNTIL_WINDOW and NQ_DEBOUNCE */
    const void *data;               /* the unique data: the payload or the caller's */
    size_t data_size;
    const char *const *tags; /* in the headers too */
    size_t ntags;
    char name[NQ_MAX_QUEUE + 1]; /* where there is a group: of both, which queue points to */
    nq_birth *birth; /* NULL: it waits; of a single task that is due, in a transaction of our own */
} nq_new;

/* How far a claimed task's payload was read: a large one only when its claim is committed, so that whoever
 * dies of it is known to have had it. */
enum nq_unread {
    NQ_READ = 0,
    NQ_UNREAD,   /* not yet; in the end: it could not be, for reasons that are not the task's */
    NQ_TOO_BIG,  /* above the limit */
    NQ_NO_MEMORY /* there is not enough for it */
};

/* A task that was claimed: one allocation, freed with free(). */
typedef struct nq_claimed {
    struct nq_claimed *next;
    uint64_t lease;
    uint64_t bytes; /* of the payload in its row; but task.payload_size is 0 unless it is NQ_READ */
    size_t turn;    /* by which it came, in a claim under limits */
    enum nq_unread unread;
    bool unkey;                /* the claim frees its unique key */
    int64_t expires_us;        /* our clock (nq_mono_us) when the task expires; 0: never */
    int64_t start_us, late_us; /* with a rate: not started before, and after; 0: at any time */
    const char *group;         /* as it is in the tables: task.group is that of its producer's */
    int64_t keep_us;           /* of its spec */
    int64_t keep_done_us;      /* in a child: what nq_ctx_keep_done answered before it was sent */
    nq_task task;              /* its pointers lead into this allocation */
} nq_claimed;

enum nq_outcome_kind {
    NQ_OUT_DONE,      /* delete, or keep as done */
    NQ_OUT_RETRY,     /* attempts + 1, waiting again after delay_us */
    NQ_OUT_SNOOZE,    /* waiting again after delay_us, nothing consumed */
    NQ_OUT_RELEASE,   /* waiting again as before the claim */
    NQ_OUT_DEAD,      /* attempts + 1, moved to the finished tasks */
    NQ_OUT_CANCELLED, /* as it was, moved to the finished tasks; the request goes */
    NQ_OUT_CONFIRM    /* for nq_store_confirm only */
};

/* What became of a claim. Takes effect only where (id, lease) is still the current claim. */
typedef struct nq_outcome {
    nq_id id;
    uint64_t lease;
    enum nq_outcome_kind kind; /* becomes NQ_OUT_CANCELLED where that was asked for, unless it is DONE */
    bool keep;                 /* NQ_OUT_DONE: keep a record, */
    int64_t keep_us;           /* and not 0: for so long, whoever purges, with a result */
    const void *output;        /* NULL: without one */
    size_t output_size;
    bool crashed; /* NQ_OUT_RETRY, NQ_OUT_DEAD: crashes + 1 too */
    bool expired; /* NQ_OUT_DEAD: nothing was attempted, so no attempt is counted */
    int64_t delay_us;
    const char *error; /* NQ_OUT_RETRY, NQ_OUT_DEAD, NQ_OUT_CANCELLED; NULL: that of the attempt before */
    size_t error_size;
    const char *worker; /* who had it, of a dead one's; NULL: that of the lease */
    bool wary;          /* somebody held its row: do not wait for it */
    const char *queue;  /* or its base; NULL: not told */
    uint64_t letter;    /* out: the hint of the queue that a dead letter went to; NQ_HINT_ANY: none did */
    int64_t generation, attempts, claimed_us; /* out, of one that is told of in the history: its row's */
    int result; /* out: NQ_OK, NQ_ELEASE, or NQ_ECONFLICT: its row is held; again later, with wary */
} nq_outcome;

/* ---- For the worker: nq_store_* ---------------------------------------------------------- */
/* All are thread-safe, retry what is transient a bounded number of times, and reconnect. */

NQ_PRIVATE int nq_store_open(nq_store **out, const char *url, const nq_options *opts, nq_err *err);
NQ_PRIVATE void nq_store_close(nq_store *s);
/* NQ_OK when the tables are there at NQ_SCHEMA_VERSION, or are newer and bear a library as old as this, else
 * NQ_ENOTMIGRATED, NQ_ESCHEMA. */
NQ_PRIVATE int nq_store_check(nq_store *s, nq_err *err);
/* The same, but once it was NQ_OK nothing is asked any more: for calls that have no time to ask each time. */
NQ_PRIVATE int nq_store_ready(nq_store *s, nq_err *err);
NQ_PRIVATE int nq_store_migrate(nq_store *s, nq_err *err);
/* Append the statements of the steps behind version `from`. The store need not be open. */
NQ_PRIVATE int nq_store_migration_sql(const nq_store *s, unsigned from, nq_buf *out);
/* Drop the tables, tasks and all. */
NQ_PRIVATE int nq_store_drop(nq_store *s, nq_err *err);
NQ_PRIVATE int nq_store_enqueue(nq_store *s, nq_tx tx, const nq_new tasks[], size_t n, nq_id ids[],
                                int results[], nq_err *err);
/* The database's clock, where it is this host's, or was set; else 0. */
NQ_PRIVATE int64_t nq_store_clock(const nq_store *s);
/* The time stands at us from now on, on each connection; 0: it goes by the clock again. */
NQ_PRIVATE void nq_store_set_clock(nq_store *s, int64_t us);
/* How much a payload may have so that one statement fits the server's packet. */
NQ_PRIVATE size_t nq_store_max_payload(const nq_store *s);

/* -- Claiming. A claimer is one thread's view of one queue: priorities in use and the scan cursor. -- */

typedef struct nq_claimer nq_claimer;
/* types NULL: any type. The strings must outlive the claimer. */
NQ_PRIVATE int nq_claimer_new(nq_claimer **out, nq_store *s, const char *queue, const char *const types[],
                              size_t ntypes, nq_err *err);
NQ_PRIVATE void nq_claimer_free(nq_claimer *c);
/* The payloads of one claim have up to so many bytes, but it is one task at least. */
#define NQ_DEFAULT_CLAIM_BYTES ((size_t)8 << 20)
NQ_PRIVATE void nq_claimer_bytes(nq_claimer *c, size_t bytes);
/* A task was just committed, it is said, perhaps this one (0: not known): the next claim may try to save
 * round trips. */
NQ_PRIVATE void nq_claimer_hint(nq_claimer *c, nq_id id);
/* Settings for the claims from now on; NULL: there are none. They must stay until others are given. */
struct nq_settings;
NQ_PRIVATE void nq_claimer_heed(nq_claimer *c, const struct nq_settings *settings);
/* Plain completions (NQ_OUT_DONE, not kept) that piggyback on a claim's transaction: one commit less. */
enum nq_piggybacked {
    NQ_PIGGYBACKED_NO = 0, /* nothing took effect: finish them otherwise */
    NQ_PIGGYBACKED,        /* each result is set */
    NQ_PIGGYBACKED_UNKNOWN /* all or none took effect; as after NQ_EUNKNOWN of nq_store_finish */
};
typedef struct nq_piggyback {
    nq_outcome *const *outcomes;
    size_t n;
    enum nq_piggybacked piggybacked; /* out, whatever the claim itself answers */
} nq_piggyback;
/* Of the answer to the COMMIT that they share. */
static inline enum nq_piggybacked nq_piggybacked_of(int rc)
{
    return rc == NQ_OK ? NQ_PIGGYBACKED : rc == NQ_EUNKNOWN ? NQ_PIGGYBACKED_UNKNOWN : NQ_PIGGYBACKED_NO;
}
/* Does a claim of so many gain by them? */
NQ_PRIVATE bool nq_store_piggybacks(const nq_store *s, size_t limit);
/* Are two claims of so many faster than one? Only where there are connections for both. */
NQ_PRIVATE bool nq_store_claims_apart(const nq_store *s, size_t limit);
/*
 * Claim up to limit due tasks in order of (priority, run_at, id) under the given lease, in one committed
 * transaction each priority. *out is their list (NULL when none is due), *n their number. When *n is 0,
 * *wait_us says how long until the next waiting task is due, -1 when none waits; 0 when others hold what
 * is due. After a batch it is 0: look again. A lease value is used for one call only. After an error nothing
 * is held; a claim whose commit was lost is looked up and either returned or known not to have happened.
 * piggyback may be NULL.
 */
NQ_PRIVATE int nq_claimer_claim(nq_claimer *c, uint64_t lease, size_t limit, nq_piggyback *piggyback,
                                nq_claimed **out, size_t *n, int64_t *wait_us, nq_err *err);
NQ_PRIVATE void nq_claimer_thorough(nq_claimer *c); /* look for groups whenever nothing is found */

/* Apply outcomes in one transaction; outcomes[i]->result is set on NQ_OK. On an error none took effect,
 * or (NQ_EUNKNOWN) all or none did; calling again is safe: what did take effect answers NQ_ELEASE. */
NQ_PRIVATE int nq_store_finish(nq_store *s, nq_outcome *const outcomes[], size_t n, nq_err *err);

/* For a driver, on its own connection and in a transaction of it: release those of these tasks that are still
 * under the lease. One that is to be cancelled ends so. Calling again is safe. */
NQ_PLUG_IN int nq_tasks_release(nq_conn *c, uint64_t lease, const uint64_t ids[], size_t n, nq_err *err);

/* -- tx.c, complete_in.c: completion in the caller's transaction. -- */

/* NQ_EINVAL where this is no handle that the store can work with; NQ_OWN_TX is one. */
NQ_PRIVATE int nq_tx_check(const nq_store *s, nq_tx tx, nq_err *err);
/* store.c: the caller's transaction on conn, of this kind of URL, for bindings; see nq_tx_from_mysql. */
NQ_PRIVATE int nq_store_tx_from(const char *scheme, void *conn, const char *client, nq_tx *out, nq_err *err);

/* Complete the claim in the open transaction of the caller's. Of s only what the URL says is looked at, never
 * a connection: it works in a child of fork too. NQ_ELEASE: not the current claim; see nq_ctx_complete_in. */
NQ_PRIVATE int nq_complete_in(const nq_store *s, nq_tx tx, nq_id id, uint64_t lease, bool keep, nq_err *err);
/* The same with what else is kept of it. */
NQ_PRIVATE int nq_complete_kept(const nq_store *s, nq_tx tx, const nq_outcome *o, nq_err *err);
/* Did it take effect? Each result: NQ_OK, the task is gone, so it did; NQ_ESTATE, the claim is still current
 * and its row free, so it did not; NQ_ELEASE, the task is another's; NQ_ECONFLICT, that transaction may still
 * be open: ask again later. Waits for no lock (SQLite: for the file's). */
NQ_PRIVATE int nq_store_confirm(nq_store *s, nq_outcome *const outcomes[], size_t n, nq_err *err);

/* -- attempts.c: what is kept about attempts that run: requests to cancel them, their progress. -- */

typedef struct nq_attempt {
    nq_id id;
    uint64_t lease;
} nq_attempt;
/* The running attempts of a worker that are to be cancelled; *out is to be freed. Requests whose attempt
 * has ended, whosever it was, are deleted. One cheap statement when there are none. */
NQ_PRIVATE int nq_store_cancels(nq_store *s, uint64_t worker, nq_attempt **out, size_t *n, nq_err *err);

typedef struct nq_progress {
    nq_attempt of;
    int64_t done, total;
    size_t note_size;
    char note[NQ_MAX_NOTE];
} nq_progress;
/* Write some, delete those of attempts that have ended. */
NQ_PRIVATE int nq_store_progress(nq_store *s, const nq_progress *const told[], size_t n,
                                 const nq_attempt ended[], size_t nended, nq_err *err);
/* Delete up to limit rows of progress whose attempt has ended and whose worker did not do so. */
NQ_PRIVATE int nq_store_progress_sweep(nq_store *s, size_t limit, size_t *n, nq_err *err);
/* gates.c: the same for gates of groups without tasks. */
NQ_PRIVATE int nq_store_gates_sweep(nq_store *s, size_t limit, size_t *n, nq_err *err);

/* -- claimed.c -- */

/* Claimed tasks being collected; {0} is empty. nq_claimed_add is a nq_row_fn with this as its
 * arg, for rows of NQ_CLAIMED_COLUMNS. */
typedef struct nq_claimed_list {
    nq_claimed *head, *tail;
    size_t n;
    size_t room;    /* make room for payloads up to this size that are left out; 0: for none */
    uint64_t bytes; /* of all payloads */
    uint64_t most;  /* add no task beyond these: NQ_ETOOBIG; 0: any; but one at least, */
    bool some;      /* unless the claim has some already */
} nq_claimed_list;
/* Is there no place in the batch for one more payload of this size? */
static inline bool nq_claimed_full(const nq_claimed_list *l, uint64_t bytes)
{
    return (l->n > 0 || l->some) && l->most && (l->bytes > l->most || bytes > l->most - l->bytes);
}
NQ_PRIVATE int nq_claimed_add(const nq_val cols[], size_t ncols, void *arg);
NQ_PLUG_IN void nq_claimed_free(nq_claimed *list);
/* Set by our clock when they expire. now_us: the database's clock; 0: ask for it, but only where one of them
 * does. */
NQ_PRIVATE void nq_claimed_expiry(nq_store *s, int64_t now_us, nq_claimed *list);
/* A task as claimed at its birth: all but its id and its times. NULL: no memory. */
NQ_PRIVATE nq_claimed *nq_claimed_born(const nq_new *task, uint64_t lease);
/* A claim whose payload was read, as bytes for another process of this host; and back: NULL: they are none.
 */
NQ_PRIVATE void nq_claimed_pack(nq_buf *out, const nq_claimed *c);
NQ_PRIVATE nq_claimed *nq_claimed_unpack(const void *bytes, size_t n, uint64_t lease);
/* The task that runs in this queue under a lease, which was for one only; *out NULL: there is none. */
NQ_PRIVATE int nq_store_claimed(nq_store *s, const char *queue, uint64_t lease, nq_claimed **out,
                                nq_err *err);
/* Read the payload of a claim that is committed. */
NQ_PRIVATE void nq_claimed_load(nq_store *s, nq_claimed *c, nq_err *err);

/* -- doubts.c: claims whose COMMIT may have taken effect. Thread-safe. -- */

/* No more than the tasks of that claim are given back: others may run under the same lease. */
struct nq_doubt {
    nq_doubt *next;
    uint64_t lease;
    size_t n;
    uint64_t ids[];
};
/* Remember such a claim: the next one gives back what it may have taken. No memory: its tasks stay claimed
 * until this worker leaves. */
NQ_PLUG_IN void nq_doubts_add(nq_store *s, uint64_t lease, const uint64_t ids[], size_t n);
NQ_PRIVATE void nq_doubts_add_claimed(nq_store *s, uint64_t lease, const nq_claimed_list *list);
/* Give back what they may have taken. Due before each claim and before each look, which would not see those
 * tasks wait. */
NQ_PLUG_IN int nq_doubts_settle(nq_conn *c, nq_err *err);

/* -- bury.c: tasks that the database refuses to claim or to end because of their own values. -- */

/* Is it a row's own fault? Of the answer to a statement that changes tasks. */
static inline bool nq_row_refused(int rc)
{
    return rc == NQ_EINVAL || rc == NQ_ETOOBIG;
}
/* Move a task to {finished}, of values within bounds. It has effect while it is in the state from, a running
 * one under the lease. */
typedef struct nq_grave {
    nq_id id;
    uint64_t lease;
    int from, state;
    bool failed, crashed; /* an attempt more, a crash more */
    const char *error;
    size_t error_size;
    bool did; /* out */
} nq_grave;
/* In the open transaction; and in one of its own, logged. */
NQ_PRIVATE int nq_bury(nq_conn *c, nq_grave *g, nq_err *err);
NQ_PRIVATE int nq_store_bury(nq_store *s, nq_grave *g, nq_err *err);
/* A waiting task becomes dead, its error is "what: why". */
NQ_PRIVATE int nq_bury_waiting(nq_store *s, nq_id id, const char *what, const char *why, nq_err *err);
/* A follow-up becomes a dead task, in the open transaction; deleting it is left to the caller. */
NQ_PRIVATE int nq_bury_followup(nq_conn *c, nq_id id, const char *error, nq_err *err);
/* letters.c: in the open transaction that has just buried a task as dead: leave its letter, if its settings
 * say so. queue: the task's, or its base; NULL: not known. *hint as nq_outcome.letter. */
NQ_PRIVATE int nq_letter_send(nq_conn *c, nq_id id, const char *queue, uint64_t *hint, nq_err *err);
/* Ids may have begun again: delete the record of an earlier task with this id. */
NQ_PRIVATE int nq_replace_record(nq_conn *c, nq_id id, nq_err *err);
/*
 * How far a pass over the queues has come, so that many of them keep nobody from other work for long: a call
 * goes on where the one before stopped. {0} with a most_us begins; after it free queue.
 */
typedef struct nq_scan {
    int64_t most_us;                   /* of a call; one queue at least is looked at */
    bool more;                         /* out: the pass is not at its end */
    nq_buf queue;                      /* the one looked at last, */
    int type;                          /* of this type: SQLite has queues of any, text before bytes */
    uint64_t stray_from, stray_before; /* nq_store_orphans; equal: none */
} nq_scan;

/* Running tasks whose worker is no longer a member: up to limit, as claimed tasks under the dead lease,
 * so that the caller decides (retry, dead) and finishes them. scan NULL: of all queues at once. With them
 * come strays, with a lease from scan->stray_from to below .stray_before, though that worker is one. */
NQ_PRIVATE int nq_store_orphans(nq_store *s, nq_scan *scan, size_t limit, nq_claimed **out, size_t *n,
                                nq_err *err);

/*
 * followups.c: make tasks of the follow-ups whose live task has ended, up to limit of them, oldest first;
 * drop those whose live task waits and so will see what they are about, and up to limit of those that have an
 * earlier one of their key. *n: tasks made. *more: there may be more to do now: the limit was reached, or
 * somebody else is at some of them.
 */
NQ_PRIVATE int nq_store_promote(nq_store *s, size_t limit, size_t *n, bool *more, nq_err *err);
/* May there be follow-ups? A claim takes those of its tasks along, but only then does it look for them. */
NQ_PLUG_IN bool nq_store_followed(const nq_store *s);
/* There were some just now, or none. */
NQ_PLUG_IN void nq_store_followed_saw(nq_store *s, bool some);
/* For a driver, in the transaction of a claim: delete the follow-ups of these tasks. */
NQ_PRIVATE int nq_followups_claimed(nq_conn *c, const nq_claimed *list, nq_err *err);

/* ---- For the shared SQL: connections, statements ------------------------------------------- */

enum nq_hints_kind {
    NQ_HINTS_LOCAL = 1, /* between processes of one host */
    NQ_HINTS_SERVER = 2 /* through the database server */
};

struct nq_store {
    const nq_driver *driver;
    nq_url url;
    char prefix[49]; /* 48 and a NUL */
    size_t max_payload;
    nq_log_fn log;
    void *log_udata;
    struct nq_pool *pool;
    void *data;                  /* the driver's own */
    unsigned hints;              /* enum nq_hints_kind, of the URL's option hints */
    atomic_bool checked;         /* see nq_store_ready */
    _Atomic int64_t followed_us; /* there may be follow-ups, by our clock until then; 0: nobody looked yet */
    _Atomic int64_t clock_us;    /* nq_test_clock; 0: the database's own */
    _Atomic int letters_are;     /* enum nq_letters_are */
    struct nq_settings *letters; /* see letters.c */
    _Atomic(nq_doubt *) doubts;  /* see doubts.c */
    _Atomic int64_t swept_attempts, swept_results, swept_logs, tags_swept; /* sweeps: up to this task's id */
};

/* Drivers embed this as the first member of their connection. Used by one thread at a time. */
struct nq_conn {
    nq_store *store;
    nq_conn *next; /* in the pool */
    int64_t clock_us;
    int64_t wait_us;       /* SQLite: for another writer at most; 0: as the URL says */
    bool broken, once;     /* to be closed, not pooled; see nq_sql_once */
    struct nq_line *lines; /* said.h */
};

/* store.c */
NQ_PRIVATE void nq_store_log(const nq_store *s, enum nq_log_level level, const char *fmt, ...)
    NQ_PRINTF(3, 4);
NQ_PRIVATE void nq_store_vlog(const nq_store *s, enum nq_log_level level, const char *fmt, va_list ap)
    NQ_PRINTF(3, 0);
/* Read the URL into s->url, s->driver and s->prefix; nothing is connected. */
NQ_PRIVATE int nq_store_configure(nq_store *s, const char *url, nq_err *err);

/* pool.c: take a connection (it waits up to 30 s), give it back. A thread holds one: SQLite has no more. */
NQ_PRIVATE int nq_pool_open(nq_store *s, unsigned max, nq_err *err);
NQ_PRIVATE unsigned nq_pool_max(const nq_store *s); /* connections */
NQ_PRIVATE void nq_pool_close(nq_store *s);         /* all must have been given back */
NQ_PRIVATE int nq_pool_get(nq_store *s, nq_conn **out, nq_err *err);
NQ_PRIVATE void nq_pool_put(nq_conn *c);

/*
 * template.c: expand a template into out. Tokens:
 *   {tasks} ...  the quoted names of NQ_TABLES
 *   {full:tasks} ...  the same with their database
 *   {prefix}     the bare prefix
 * and the driver's fragments:
 *   {now}        the database's time, as stored
 *   {after}      that time plus a bound number of microseconds
 *   {at}         a bound number of microseconds since 1970, as stored
 *   {us:COLUMN}  a stored time as microseconds since 1970; {us:now} the database's time so
 *   {no_moment:COLUMN}  a stored time is none, by plain SQL: '2020-00-00', or no integer in SQLite
 *   {bytes:COLUMN}  a column as bytes, whatever its writer made of it; LENGTH and SUBSTR count them
 *   {size:COLUMN}   the number of its bytes
 *   {short:COLUMN}  the bytes of a column that is mostly NULL; of more than 4096 only that there are more
 *   {exact:COLUMN}  a text to compare: the server pads with spaces, so that "mail " would be "mail"
 *   {least}      the function that answers the smaller of two
 *   {lock}       FOR UPDATE, where the database needs it
 *   {lock_free}  FOR UPDATE SKIP LOCKED, likewise
 *   {followed_firsts}  a table of the id of the first follow-up of each key
 *   {regrouped:COLUMN}  a queue's name with another base, bound twice: with a group, and without one
 *   {at_once}    before an INSERT: it fails where it would wait for a lock
 *   {by_id} {by_key} {by_followed} {claim}  after a table: the index to use
 *   {next_queues} {running_in} {later_than} {with_header}  mysql/driver.c says what they are
 *   {delete_by_key} ... {at_most:N}  DELETE FROM, of N rows by their keys, and its end
 *   {settings_print}  a number that changes when rows of {queues} do; 0: there is none
 *   {strange}    a task that waits has a priority or a time that no claim ever looks at
 *   {same_key}   a task t and a follow-up f have the same unique key
 *   {keyed:X}    a task or follow-up X has the unique key that is bound: nq_driver.key
 *   {on_taken:COLUMN}  behind an INSERT: what to SET where a row has this key; {given:COLUMN} is its value
 */
NQ_PLUG_IN int nq_sql_expand(const nq_store *s, const char *template_sql, nq_buf *out);
/* Append an id: plain SQL may have given one that only an unsigned or only a signed number holds. As one of a
 * list: with a comma, but behind the ( that opens it. */
NQ_PRIVATE void nq_sql_id(const nq_store *s, nq_buf *sql, nq_id id);
NQ_PRIVATE void nq_sql_list_id(const nq_store *s, nq_buf *sql, nq_id id);

/* Expand and run one statement on c. NQ_EDUPLICATE for a unique violation; see nq_driver.exec. A row function
 * may answer NQ_ENOMEM and leave err alone. */
NQ_PLUG_IN int nq_sql(nq_conn *c, const char *template_sql, const nq_val args[], size_t nargs, nq_row_fn row,
                      void *arg, nq_exec_result *res, nq_err *err);
/* A nq_row_fn: there is a row; arg is a bool. */
NQ_PRIVATE int nq_row_any(const nq_val cols[], size_t ncols, void *arg);
static inline nq_val nq_int(int64_t i)
{
    return (nq_val){NQ_VAL_INT, i, NULL, 0};
}
static inline nq_val nq_text(const char *p)
{
    return (nq_val){NQ_VAL_TEXT, 0, p, p ? strlen(p) : 0};
}
static inline nq_val nq_blob(const void *p, size_t n)
{
    return (nq_val){NQ_VAL_BLOB, 0, p, n};
}
static inline nq_val nq_null(void)
{
    return (nq_val){NQ_VAL_NULL, 0, NULL, 0};
}

#include "bell.h"
#include "checks.h"
#include "driver.h" /* parts of this header, as are */
#include "find.h"
#include "history.h"
#include "keys.h"
#include "logs.h"
#include "members.h"
#include "moves.h"
#include "results.h"
#include "said.h"
#include "schedules.h"
#include "settings.h"
#include "tags.h"
#include "tries.h"
#include "why.h"

#endif
