/* SPDX-License-Identifier: MIT */
/* nanoq: a durable background-task queue in the database the program already has. */
#ifndef NANOQ_H
#define NANOQ_H

/*
 * CONTRACT, stated once; a function's own comment names its exceptions.
 *
 * Results     Negative is failure, a code of enum nq_code; everything else is success: 0 (NQ_OK), or where a
 *             function says so a positive code (NQ_DUPLICATE). Outputs are written only on success.
 * Errors      `err` is the caller's and may be NULL; it is filled on failure and left alone on success.
 * Ownership   The library copies what it is given and keeps no pointer past the call, except handlers,
 *             middleware and their udata, which must live until nq_worker_free. What it hands out through
 *             a `**out` is released by the function of the same family (nq_close, nq_worker_free, ...);
 *             these accept NULL.
 * Structs     What the library writes says its size: nq_worker_totals is given with it, nq_event
 *             begins with it. nq_task and nq_info are the library's, are read through a pointer and
 *             only ever append: never copy one with a sizeof of your own. nq_err keeps its size; its
 *             message has room to spare.
 * Strings     NUL-terminated UTF-8. Payloads and unique data are bytes with a size, and may hold NULs.
 * Times       int64_t microseconds. Points in time are UTC since 1970 by the clock of the database.
 * Defaults    In every options struct zero means the documented default, and `size` comes first and is
 *             sizeof the struct, so that a program built against an older header keeps working.
 *             NQ_ZERO says a real zero: no retry, no crash, no time. Any number, delay or time of an
 *             option may be NQ_ZERO where 0 is among the values that it allows.
 * Callbacks   Types end in _fn; their last argument is the udata that was given with them.
 * Threads     An `nq` may be used by any number of threads at once. An `nq_err` or an `nq_tx` belongs
 *             to one thread at a time.
 * fork        Handles do not survive fork: in the child every call answers NQ_EFORK, nq_close frees
 *             nothing, and the parent goes on unharmed. Open a new handle in the child, of the same
 *             SQLite file too: SQLite itself would go by locks of the parent there, and is kept from it
 *             (a connection of your own from before the fork is still not to be used). With threads a
 *             process forks safely only to exec: of what another thread had locked, in any library, the
 *             child has the lock and nobody who gives it back.
 * Manners     The library never prints, never exits, installs no signal handler unless asked
 *             (nq_worker_options.handle_signals), and every network call has a time limit.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define NQ_VERSION_MAJOR 0
#define NQ_VERSION_MINOR 2
#define NQ_VERSION_PATCH 0

#if defined(__GNUC__)
#define NQ_API               __attribute__((visibility("default")))
#define NQ_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#else
#define NQ_API
#define NQ_PRINTF(fmt, args)
#endif

/* "MAJOR.MINOR.PATCH" of the library that is linked. */
NQ_API const char *nq_version(void);

/* ---- Units -------------------------------------------------------------------------------- */

#define NQ_MS(n)      ((int64_t)(n)*1000)
#define NQ_SECONDS(n) ((int64_t)(n)*1000000)
#define NQ_MINUTES(n) NQ_SECONDS((int64_t)(n)*60)
#define NQ_HOURS(n)   NQ_MINUTES((int64_t)(n)*60)
#define NQ_DAYS(n)    NQ_HOURS((int64_t)(n)*24)

#define NQ_ZERO       (-2147483647 - 1) /* in an option: 0, and not the default */
#define NQ_FOREVER    INT64_MAX         /* in keep_done_us and keep_dead_us */

/* Limits. A delay, timeout or retention is refused above NQ_MAX_DURATION (ten years). */
#define NQ_MAX_DURATION        NQ_DAYS(3650)
#define NQ_MAX_QUEUE           64   /* bytes of a queue name: A-Z a-z 0-9 _ . : / - */
#define NQ_MAX_TYPE            255  /* bytes of a task type: UTF-8 without control characters */
#define NQ_MAX_ERROR           4096 /* bytes kept of a task's last error; longer ones keep their end */
#define NQ_MAX_NOTE            255  /* bytes of a note of progress; longer ones keep their start */
#define NQ_MAX_RETRIES         1000 /* highest max_retries */
#define NQ_MIN_PRIORITY        (-100)
#define NQ_MAX_PRIORITY        100
#define NQ_MAX_HEADERS         64   /* headers of a task, */
#define NQ_MAX_HEADERS_SIZE    4096 /* and bytes of them all, as "name: value" lines; 32 are the library's */
#define NQ_MAX_TAGS            8    /* tags of a task, */
#define NQ_MAX_TAG             64   /* and bytes of one: UTF-8 without control characters and commas */
#define NQ_DEFAULT_MAX_PAYLOAD ((size_t)1 << 20)

/* ---- Errors ------------------------------------------------------------------------------- */

/* X(name, number, text). Numbers are never reused. */
#define NQ_CODES(X)                                                                                          \
    X(NQ_DUPLICATE, 1, "a live task has the same unique key: nothing was added")                             \
    X(NQ_EINVAL, -1, "invalid argument")                                                                     \
    X(NQ_ENOMEM, -2, "out of memory")                                                                        \
    X(NQ_EURL, -3, "malformed database URL")                                                                 \
    X(NQ_ETOOBIG, -4, "over a size limit")                                                                   \
    X(NQ_EDUPLICATE, -5, "a live task has the same unique key")                                              \
    X(NQ_ENOTFOUND, -6, "no such task")                                                                      \
    X(NQ_ESTATE, -7, "not possible in the task's state")                                                     \
    X(NQ_ELEASE, -8, "lease lost: the task belongs to another claim or is gone")                             \
    X(NQ_EUNAVAILABLE, -9, "database unavailable")                                                           \
    X(NQ_EUNKNOWN, -10, "connection lost during commit: the outcome is unknown")                             \
    X(NQ_EDENIED, -11, "permission denied by the database")                                                  \
    X(NQ_ENODB, -12, "no such database")                                                                     \
    X(NQ_ENOTMIGRATED, -13, "the nanoq tables do not exist: run nanoq migrate")                              \
    X(NQ_ESCHEMA, -14, "the nanoq tables are of another version than this library")                          \
    X(NQ_EUNSUPPORTED, -15, "unsupported database server, version or feature")                               \
    X(NQ_ECONFLICT, -16, "deadlock, lock timeout or busy: the transaction was given up")                     \
    X(NQ_EFULL, -17, "disk or table full")                                                                   \
    X(NQ_ECORRUPT, -18, "database corrupt")                                                                  \
    X(NQ_EDB, -19, "database error")                                                                         \
    X(NQ_EFORK, -20, "handle used after fork")                                                               \
    X(NQ_ESTUCK, -21, "handlers ignored their cancellation and still run")                                   \
    X(NQ_ESYSTEM, -22, "operating system error")                                                             \
    X(NQ_EREADONLY, -23, "database is read-only")                                                            \
    X(NQ_ETHREADS, -24, "the process has threads already: it cannot fork safely")                            \
    X(NQ_ETIMEOUT, -25, "the time is up")

enum nq_code {
    NQ_OK = 0,
#define NQ_X(name, number, text) name = number,
    NQ_CODES(NQ_X)
#undef NQ_X
};

/* What went wrong. Initialise with {0} or leave it to the failing call; holds no resources. */
typedef struct nq_err {
    int code;              /* enum nq_code */
    int db_code;           /* the database's own number (MySQL errno, SQLite extended code) or 0 */
    char sqlstate[6];      /* MySQL's SQLSTATE or "" */
    bool transaction_lost; /* a caller's transaction was rolled back by the database: begin anew */
    char message[512];     /* one line that says what was wrong and what is allowed; no secrets */
} nq_err;

/* The fixed text / the name ("NQ_EURL") of a code; never NULL. Thread-safe. */
NQ_API const char *nq_strerror(int code);
NQ_API const char *nq_code_name(int code);

/* ---- Opening ------------------------------------------------------------------------------ */

typedef struct nq nq;
typedef int64_t nq_id; /* of a task: positive, unique for the life of the table */

enum nq_log_level { NQ_LOG_DEBUG, NQ_LOG_INFO, NQ_LOG_WARN, NQ_LOG_ERROR };
/* Called from any thread, never with a lock held that the callee could need. */
typedef void (*nq_log_fn)(enum nq_log_level level, const char *message, void *udata);

typedef struct nq_options {
    size_t size;
    const char *password; /* MySQL: overrides the URL's; see below */
    size_t max_payload;   /* bytes; default NQ_DEFAULT_MAX_PAYLOAD */
    unsigned connections; /* most connections open at once, MySQL; default 10, at least 4 */
    nq_log_fn log;        /* default none */
    void *log_udata;
} nq_options;

/*
 * Open a queue. Connects once to check the server, so a bad URL, password or server fails here.
 *
 *   mysql://user[:password]@host[:port]/database[?option=value&...]
 *   mysql://user@/database?socket=/run/mysqld/mysqld.sock
 *   sqlite:path      sqlite:/absolute/path      sqlite::memory: (this handle only; lost at nq_close)
 *
 * Parts are percent-decoded. Options of both:
 *   prefix=nanoq_            of the table names: ^[A-Za-z_][A-Za-z0-9_]{0,47}$
 *   hints=all|local|server|none   how workers are woken when a task is committed; default all. local:
 *                            between processes of one host (datagram sockets; SQLite: also a watch on its
 *                            files); server: between hosts, through MySQL or MariaDB (an idle worker
 *                            sleeps in a statement on a connection of its own, which the enqueuer kills).
 *                            Handles of one process always tell their own workers. A hint may be lost,
 *                            and then the task waits for the next look (nq_worker_options.poll_us)
 * Options of mysql:
 *   socket=PATH              unix socket instead of host and port
 *   password_file=PATH       first line is the password; read at each connect, so that it may change. Refused
 *                            when others than its owner may write it, or than its group read it
 *   password_env=NAME        environment variable that holds the password (default NANOQ_PASSWORD if set)
 *   tls=off|preferred|required|verify-full    default: required, but off on loopback and unix sockets
 *   tls_ca=PATH              CA certificates for verify-full
 *   connect_timeout=5s  read_timeout=30s  write_timeout=30s      per network call
 * Options of sqlite:
 *   busy_timeout=5s          how long to wait for another process's write
 *   synchronous=full|normal  default full: a commit survives a power cut
 *
 * Errors: NQ_EURL, NQ_EINVAL (an option), NQ_EUNAVAILABLE, NQ_EDENIED, NQ_ENODB, NQ_EUNSUPPORTED (TiDB,
 * MySQL < 8.0.13, MariaDB < 10.6, no working SKIP LOCKED, SQLite < 3.35 or not UTF-8), NQ_ENOMEM.
 * Tables need not exist yet: see nq_migrate.
 */
NQ_API int nq_open(nq **out, const char *url, const nq_options *opts, nq_err *err);

/* Close. No other call may be running; every nq_worker of it must have been freed. Accepts NULL. */
NQ_API void nq_close(nq *q);

/*
 * Create or upgrade the tables. Idempotent, and safe from several processes at once.
 * Errors: NQ_ESCHEMA (tables newer than the library), NQ_EDENIED, those of a connection.
 */
NQ_API int nq_migrate(nq *q, nq_err *err);

/* ---- Transactions ------------------------------------------------------------------------- */

/*
 * Where a call takes place: NQ_OWN_TX, a transaction of its own, committed when the call returns; or
 * the caller's open transaction, from nq_tx_mysql(conn) in nanoq_mysql.h or nq_tx_sqlite(db) in
 * nanoq_sqlite.h. The caller's connection must be on the database that the queue was opened on.
 */
struct nq_tx_ops;
typedef struct nq_tx {
    void *conn;
    const struct nq_tx_ops *ops;
} nq_tx;

static inline nq_tx nq_own_tx(void)
{
    nq_tx tx;
    tx.conn = NULL;
    tx.ops = NULL;
    return tx;
}
#define NQ_OWN_TX nq_own_tx()

/*
 * For bindings to other languages, which cannot compile those headers: *out is the transaction that is open
 * on conn, a MYSQL * or sqlite3 *, as nq_tx_mysql and nq_tx_sqlite answer it (a zeroed nq_tx is NQ_OWN_TX).
 * It holds no resources and is valid as long as conn. In C and C++ take those: here conn is used by the
 * client library that this library is linked with, so it must be that very one that made it, loaded once in
 * the process. `client` is what the copy that made conn answers to mysql_get_client_info() or
 * sqlite3_sourceid(), and is compared: libmariadb and libmysqlclient differ in ABI, and a process with two
 * copies of SQLite loses its locks on a file.
 *
 * Any thread; conn is not touched. Errors: NQ_EUNSUPPORTED (another client library, or this library was built
 * without that database), NQ_EINVAL (NULL). What is wrong with the transaction itself says the call that it
 * is given to.
 */
NQ_API int nq_tx_from_mysql(nq_tx *out, void *conn, const char *client, nq_err *err);
NQ_API int nq_tx_from_sqlite(nq_tx *out, void *db, const char *client, nq_err *err);

/* ---- Enqueue ------------------------------------------------------------------------------ */

/* What nq_enqueue refuses as a duplicate; it tells there what follows a live task that may have begun. */
enum nq_unique {
    NQ_UNIQUE_PAYLOAD = 0, /* at most one live task with this type and payload (the default) */
    NQ_UNIQUE_DATA,        /* at most one live task with this type and unique_data */
    NQ_UNIQUE_NONE         /* any number */
};

/* How long a task has its key: while it is live (the default); until its first claim; or while it is live,
 * and for window_us from its enqueue on, whatever becomes of it. docs/unique.md */
enum nq_until { NQ_UNTIL_DONE = 0, NQ_UNTIL_START, NQ_UNTIL_WINDOW };

/* A task whose key a waiting one has: is refused (the default); replaces it, all of its spec; the same, and
 * puts its start off by delay_us; or is appended to its payload, behind a line feed. A running one is never
 * changed: what was to change it follows it. */
enum nq_duplicate { NQ_REFUSE = 0, NQ_REPLACE, NQ_DEBOUNCE, NQ_APPEND };

/* Text that goes with a task beside its payload: of a trace, a tenant, a language. It is not part of the
 * unique key. name: 1 to 40 of a-z 0-9 -; those that begin with nq- are the library's. value: UTF-8 without
 * control characters. */
typedef struct nq_header {
    const char *name;
    const char *value;
} nq_header;

typedef struct nq_task_spec {
    size_t size;
    const char *type;    /* required */
    const void *payload; /* may be NULL when payload_size is 0 */
    size_t payload_size;
    const char *queue;       /* default "default" */
    int priority;            /* NQ_MIN_PRIORITY..NQ_MAX_PRIORITY, lower runs first; default 0. Each
                                priority in use costs a claim one index probe: use few. */
    int64_t delay_us;        /* run no earlier than now + this; default 0 */
    int64_t run_at_us;       /* or no earlier than this point in time; not both */
    int64_t timeout_us;      /* of one attempt; default 60 s, at least 1 s; rounded up to ms */
    int max_retries;         /* default 10; NQ_ZERO forbids; at most NQ_MAX_RETRIES */
    int unique;              /* enum nq_unique */
    const void *unique_data; /* for NQ_UNIQUE_DATA; at least one byte */
    size_t unique_size;
    /* Within the queue: a tenant, a customer, whatever its tasks are to have fair turns with; printable text
     * of up to 255 bytes, default none. docs/queues.md */
    const char *group;
    const nq_header *headers; /* each name once; what a handler was given may be passed on as it is */
    size_t nheaders;          /* at most NQ_MAX_HEADERS */
    int64_t expires_us;       /* no attempt begins later than now + this: then it ends dead, its error
                                 "expired", no attempt counted; default: any time. docs/headers.md */
    int until, duplicate;     /* enum nq_until, nq_duplicate; NQ_APPEND takes NQ_UNIQUE_DATA only */
    int64_t window_us;        /* for NQ_UNTIL_WINDOW, which takes NQ_REFUSE only */
    int64_t max_wait_us;      /* for NQ_DEBOUNCE, which takes a delay_us: no later than this after the
                                 waiting task was added; default 10 delays */
    int64_t keep_us;          /* when it is done it is kept so long, with its result, whatever keep_done_us
                                 of its worker says; or NQ_FOREVER. Default: as that says, one that leaves a
                                 result an hour at least. docs/results.md */
    const char *const *tags;  /* words to find the task by, among all others; a repeated one counts once. None
                                 begins or ends with a space. docs/headers.md */
    size_t ntags;             /* at most NQ_MAX_TAGS */
} nq_task_spec;

/* NQ_TASK(.type = "email", .payload = p, .payload_size = n): a task for one call (C only). */
#define NQ_TASK(...) (&(nq_task_spec){.size = sizeof(nq_task_spec), __VA_ARGS__})
/* NQ_BYTES("literal"): a payload and its size, for use inside NQ_TASK. */
#define NQ_BYTES(literal) .payload = "" literal, .payload_size = sizeof(literal) - 1

/*
 * Add a task. *id (may be NULL) is its id.
 *
 * NQ_DUPLICATE, which is no failure: a live task (waiting or running) has the same key; *id is that task's
 * id, and a caller's transaction stays usable and holds no lock on it. If that task may already have started,
 * a task with your spec follows when it ends: so after each enqueue that is committed, duplicate or not, a
 * run begins that sees what was committed with it. Several duplicates of one key make one such task, with the
 * first's spec. NQ_REPLACE and its like answer NQ_OK with the live task's id; what is too long to be appended
 * is refused. NQ_EUNKNOWN (NQ_OWN_TX only): the connection broke during COMMIT, or the disk did. Enqueue
 * again with the same unique key: NQ_DUPLICATE then means that it was there (and, if it has started, that it
 * runs once more). Others: NQ_EINVAL, NQ_ETOOBIG (checked before anything is sent), NQ_ENOTMIGRATED, those of
 * a connection. After an error with err->transaction_lost the caller's transaction is gone.
 */
NQ_API int nq_enqueue(nq *q, nq_tx tx, const nq_task_spec *task, nq_id *id, nq_err *err);

/*
 * Add n tasks with few statements, all in one transaction. results[i] (may be NULL) is NQ_OK or
 * NQ_DUPLICATE (also for a repetition within the call), and ids[i] (may be NULL) the id of the new or the
 * live task; both are written when the call answers NQ_OK. Duplicates do not fail the call, and are followed
 * as with nq_enqueue; any other fault does, and then nothing is enqueued (NQ_OWN_TX) or the caller should
 * roll back. What is wrong with tasks[i] itself is told as "task i: ...".
 */
NQ_API int nq_enqueue_many(nq *q, nq_tx tx, const nq_task_spec tasks[], size_t n, nq_id ids[], int results[],
                           nq_err *err);

/*
 * Wake the workers of a queue (NULL: "default"). Call it after committing a transaction of your own in
 * which tasks were enqueued: nq_enqueue cannot know when that is, and without the hint the tasks wait for the
 * next look of a worker. With NQ_OWN_TX nothing need be called. Never waits for anything; a hint that gets
 * lost is harmless; in a child of fork it does nothing.
 */
NQ_API void nq_hint(nq *q, const char *queue);

/* ---- Running tasks ------------------------------------------------------------------------ */

typedef struct nq_worker nq_worker;
typedef struct nq_ctx nq_ctx;
typedef struct nq_next nq_next;

/* What a handler is given; valid until it returns. */
typedef struct nq_task {
    nq_id id;
    const char *queue;
    const char *type;
    const void *payload; /* followed by a NUL that is not counted */
    size_t payload_size;
    int priority;
    unsigned attempt; /* 1 for the first */
    unsigned max_retries;
    unsigned crashes;    /* earlier attempts that ended with the death of their process */
    unsigned generation; /* how often the task was claimed, this time included */
    int64_t timeout_us;
    int64_t created_at_us;
    int64_t run_at_us;
    const char *last_error; /* of the attempt before, or NULL */
    const char *group;      /* within the queue, or NULL */
    const nq_header *headers;
    size_t nheaders;
    int64_t expires_at_us; /* no attempt begins later; 0: any time */
    nq_id dead_id; /* it is the dead letter of that task (dead_to of nq_queue_settings); 0: it is none */
    const char *schedule; /* it comes of this schedule (nq_schedule_set); NULL: of none */
    int64_t due_at_us;    /* for this time, however late it begins; 0: it has none */
    const char *const *tags;
    size_t ntags;
} nq_task;

/* The value of a header, or NULL: the task has none of this name. Valid as long as the task. Thread-safe. */
NQ_API const char *nq_task_header(const nq_task *task, const char *name);

typedef enum nq_verdict {
    NQ_DONE = 0, /* finished */
    NQ_RETRY,    /* failed: again after the retry policy's delay, dead when out of attempts */
    NQ_DISCARD,  /* failed for good: dead at once, whatever attempts are left ("skip retry") */
    NQ_SNOOZE    /* not now: again after nq_ctx_set_delay's delay (default 60 s), no attempt consumed */
} nq_verdict;

typedef nq_verdict (*nq_handler_fn)(nq_ctx *ctx, const nq_task *task, void *udata);
/* Middleware calls nq_next_run to go on, or does not, and answers in the handler's place. */
typedef nq_verdict (*nq_middleware_fn)(nq_ctx *ctx, const nq_task *task, nq_next *next, void *udata);
NQ_API nq_verdict nq_next_run(nq_next *next, nq_ctx *ctx, const nq_task *task);

/* -- The context: of one attempt, for the thread that runs it. -- */

/* The queue handle that the worker was made with, so that a handler can enqueue. NULL in a child process
 * (NQ_PROCESS): handles do not survive fork, open one there. */
NQ_API nq *nq_ctx_queue(const nq_ctx *ctx);

enum nq_cause {
    NQ_CAUSE_NONE = 0,
    NQ_CAUSE_TIMEOUT,    /* the task's timeout passed */
    NQ_CAUSE_SHUTDOWN,   /* the worker's shutdown timeout passed: the task will be released */
    NQ_CAUSE_LEASE_LOST, /* the task is another's now: what this attempt does has no effect here */
    NQ_CAUSE_CANCEL      /* nq_cancel: whatever is answered but NQ_DONE, the task ends as cancelled */
};

/* Why the attempt should stop, or NQ_CAUSE_NONE. Cheap; callable from any thread. */
NQ_API enum nq_cause nq_ctx_cause(const nq_ctx *ctx);
/* Becomes readable when the attempt is cancelled; for poll only: do not read or close it. Made at the
 * first call; -1 when no descriptor is to be had. */
NQ_API int nq_ctx_fd(nq_ctx *ctx);
/* The moment the attempt times out, in microseconds of CLOCK_MONOTONIC. */
NQ_API int64_t nq_ctx_deadline_us(const nq_ctx *ctx);
/* Microseconds left until then; 0 when it passed. */
NQ_API int64_t nq_ctx_remaining_us(const nq_ctx *ctx);
/* Delay for a NQ_RETRY or NQ_SNOOZE verdict in place of the policy's; clamped to 0..NQ_MAX_DURATION. */
NQ_API void nq_ctx_set_delay(nq_ctx *ctx, int64_t delay_us);
/* Record a message with a verdict and return the verdict: `return nq_fail(ctx, NQ_RETRY, "...");`.
 * Cut to its last NQ_MAX_ERROR bytes. */
NQ_API nq_verdict nq_fail(nq_ctx *ctx, nq_verdict verdict, const char *fmt, ...) NQ_PRINTF(3, 4);
NQ_API const char *nq_ctx_message(const nq_ctx *ctx); /* what nq_fail recorded, or "" */

/*
 * Tell how far the attempt has got, for people: `nanoq show`, nq_info. done of total, in units of your own;
 * total 0: not known; below 0 is 0. note (may be NULL) is text, of which NQ_MAX_NOTE bytes are kept. Cheap:
 * it is kept in memory, and the worker writes the latest one about once a second. Nothing is promised: it
 * may be late or lost, and it is gone when the attempt ends. Callable from any thread until the handler
 * returns.
 */
NQ_API void nq_ctx_progress(nq_ctx *ctx, int64_t done, int64_t total, const char *note);

/*
 * Nobody starts a task of this queue or group for so long: after an answer like 429 or 503, with the time
 * that it said. Longer holds stay; 0 holds nothing. Workers on this host heed it at once, others within a
 * second; what runs already runs on, so let the task itself wait by NQ_SNOOZE or NQ_RETRY. It is written at
 * once, in a transaction of its own, and only while the task is still this attempt's. From the handler's
 * thread; in a child process (NQ_PROCESS) its worker writes it. Errors: NQ_EINVAL, NQ_ELEASE, NQ_EFORK (in a
 * child that the handler forked), those of a connection.
 */
enum nq_scope {
    NQ_SCOPE_GROUP = 0, /* the task's group; without one its queue */
    NQ_SCOPE_QUEUE      /* its queue, with all groups */
};
NQ_API int nq_ctx_hold(nq_ctx *ctx, int scope, int64_t us, nq_err *err);

/*
 * Complete the task in the transaction that is open on a connection of the handler's own (nq_tx_mysql,
 * nq_tx_sqlite), so that its effects and its completion are committed together, or neither. Fenced: NQ_ELEASE
 * when the task is another's by now or is gone; roll back then. Call it last, commit, and answer:
 *
 *   NQ_DONE   when the COMMIT succeeded. If it shows that it did not (the task is still here), the attempt
 *             failed, and is retried.
 *   NQ_RETRY  when it failed, or was not answered: if it took effect after all, the task is done, else it is
 *             retried. Any other verdict is likewise heeded only where the transaction was not committed.
 *
 * Do not answer with the transaction still open: the task's row stays locked (SQLite: the whole file), and
 * what becomes of the task is decided when the lock goes. May be called again in another transaction after a
 * rollback. From the handler's thread. Errors: NQ_ELEASE; NQ_EINVAL (no transaction is open, or it is of
 * another kind of database); those of a connection. After an error with err->transaction_lost nothing more
 * may be sent in it; after any other, roll back.
 */
NQ_API int nq_ctx_complete_in(nq_ctx *ctx, nq_tx tx, nq_err *err);

/*
 * Leave a result: bytes, for whoever waits for the task (nq_wait) or looks at it (nq_get). It is written with
 * the completion, and there if and only if that took effect: the handler answers NQ_DONE, or calls
 * nq_ctx_complete_in after this and commits. The last call counts; n may be 0. The task is then kept as done:
 * keep_us of its spec, by default an hour, or as long as keep_done_us says if that is longer. From the
 * handler's thread. NQ_EINVAL; NQ_ETOOBIG: above max_payload (nothing is left, not even what an earlier call
 * said; the verdict stays the handler's to give); NQ_ENOMEM.
 */
NQ_API int nq_ctx_result(nq_ctx *ctx, const void *bytes, size_t n, nq_err *err);

/* -- The worker -- */

/* Delay before the next attempt, in microseconds; negative means "no more retries". attempt: the number
 * of the attempt that failed, from 1. Called from any thread. */
typedef int64_t (*nq_retry_fn)(unsigned attempt, const nq_task *task, void *udata);

/* The default: 5 s + attempt^5 s, plus a uniform 0..50 % of it, never above NQ_MAX_DURATION. The figures
 * are NanoQ's: about 7 s, 50 s, 5 min, 20 min, 50 min, 2 h, 4 h, 9 h, 16 h, 27 h. Thread-safe. */
NQ_API int64_t nq_default_retry_delay(unsigned attempt);

/* Called after a failed attempt was recorded: error is the message, final says that the task is dead. Also
 * for crashes found when a dead worker's tasks are reclaimed, and for tasks that expired, which nobody
 * attempted. Called from library threads; be brief. */
typedef void (*nq_error_fn)(const nq_task *task, const char *error, bool final, void *udata);

enum nq_event_kind {
    NQ_EVENT_STARTED = 1, /* its handler is about to run */
    NQ_EVENT_DONE,
    NQ_EVENT_RETRIED,
    NQ_EVENT_DEAD, /* also: it expired */
    NQ_EVENT_SNOOZED,
    NQ_EVENT_CANCELLED,
    NQ_EVENT_RELEASED,  /* given back as it was: a stop, or it was not begun */
    NQ_EVENT_LEASE_LOST /* another worker has it, or it is gone: what was done here had no effect */
};

/* What happened to a task; valid until the callback returns. */
typedef struct nq_event {
    size_t size; /* of the library's struct: later versions append */
    int kind;    /* enum nq_event_kind */
    int cause;   /* enum nq_cause: why it was cut short, or NQ_CAUSE_NONE */
    const nq_task *task;
    const char *error; /* RETRIED, DEAD, CANCELLED: the attempt's; else "" */
    bool crashed;      /* RETRIED, DEAD: its process died, this one's child or another worker */
    int64_t
        waited_us;    /* from its due time until it started, by this host's clock; 0: it did not start here */
    int64_t ran_us;   /* 0 in STARTED, and for what did not start here */
    int64_t delay_us; /* RETRIED, SNOOZED: until it is due again */
} nq_event;

/* All but STARTED are told once they are recorded in the database. Called from any of the library's threads,
 * several at once; be brief: STARTED holds up its handler, the others what is recorded next. For a task in a
 * child process STARTED may come late, but before its end. Where it runs again at once, the next STARTED may
 * come before the end of the run before is told: `generation` tells them apart. */
typedef void (*nq_event_fn)(const nq_event *event, void *udata);

enum nq_drain {
    NQ_DRAIN_NEVER = 0,
    NQ_DRAIN_DUE, /* return once no task is due, nor follows one that ended, and none runs here; delayed
                     ones stay for later */
    NQ_DRAIN_ALL  /* wait for delayed tasks and retries too, however far off */
};

/*
 * A queue that a worker serves. docs/queues.md has examples.
 *
 * concurrency: more of its tasks than this are never claimed, so none waits here for its turn while another
 * worker is free; nor is any prefetched. It holds in this worker: n workers may run n times as many.
 * weight: of every so many claims as the weights of all queues with work add up to, it has as many as its
 * own.
 */
typedef struct nq_queue_options {
    size_t size;
    const char *name;
    unsigned concurrency; /* most of its tasks that run here at once, at most 1024; default: the threads are
                             the limit */
    unsigned weight;      /* its share of the turns, at most 1000; default 1 */
} nq_queue_options;
/* NQ_QUEUE(.name = "mail", .concurrency = 2): an element of the array (C only). */
#define NQ_QUEUE(...) ((nq_queue_options){.size = sizeof(nq_queue_options), __VA_ARGS__})

typedef struct nq_worker_options {
    size_t size;
    const nq_queue_options *queues; /* default: "default" alone. Served in turn, none starves */
    size_t nqueues;
    unsigned concurrency;  /* handler threads; default 10, at most 1024 */
    unsigned batch;        /* most tasks of one claim; default 500; 1 also means no
                              prefetch. Slow handlers are never given more than they
                              can start: prefetch is what they finish in 20 ms, at
                              most two batches; and what waits a second is given back */
    bool known_types_only; /* claim only types that have a handler; default: claim all, and a
                              type without one is a failed attempt */
    int drain;             /* enum nq_drain: return by itself when there is nothing left; default: go on */
    bool handle_signals;   /* SIGINT and SIGTERM stop it while nq_worker_run runs */
    int64_t shutdown_timeout_us; /* after a stop, how long running tasks may go on; default 30 s */
    int64_t cancel_grace_us;     /* and after their cancellation; default 5 s */
    int64_t lease_us;            /* silent this long: dead; default 30 s, at least 3 s */
    int64_t poll_us;             /* longest sleep between looks at an idle queue; default 1 s */
    int max_crashes;             /* a task that crashed more often is dead; default 3; NQ_ZERO: the
                                    first crash is final */
    int64_t keep_done_us;        /* completed tasks are kept this long, or NQ_FOREVER; default NQ_ZERO:
                                    deleted at once; what is set for a queue (nq_queue_set) goes before */
    int64_t keep_dead_us;        /* dead and cancelled tasks; default 7 days; NQ_ZERO: deleted at the next
                                    look; NQ_FOREVER */
    nq_retry_fn retry_policy;
    void *retry_udata;
    nq_error_fn on_error;
    void *error_udata;
    size_t claim_bytes;   /* a claim ends when its payloads have this many bytes, but takes one task
                             at least; nor is any prefetched beside half as many; default 8 MiB */
    nq_event_fn on_event; /* of every task, not only those that fail; default none, and no cost */
    void *event_udata;
} nq_worker_options;

typedef struct nq_middleware { /* one middleware */
    nq_middleware_fn fn;
    void *udata;
} nq_middleware;

enum nq_isolation {
    NQ_THREAD = 0, /* in a thread of this process: a crash of the handler takes the process with it */
    NQ_PROCESS /* in a child process: what the handler does to its process costs one attempt of one task */
};

/*
 * How a handler is kept apart: .isolation = NQ_ISOLATION(.kind = NQ_PROCESS, .memory = 64 << 20) (C only).
 * What follows kind is for NQ_PROCESS, and of each child. Handlers with the same limits share children.
 */
typedef struct nq_isolation_options {
    size_t size;
    int kind;                 /* enum nq_isolation; default NQ_THREAD */
    size_t memory;            /* bytes of address space that it may add; default: no limit */
    unsigned cpu_seconds;     /* of CPU time for one task; default: no limit */
    unsigned files;           /* descriptors that it may add; default: no limit */
    unsigned processes;       /* RLIMIT_NPROC: all of its user's together, no matter to root; default: none */
    unsigned tasks_per_child; /* after so many it is replaced; default 10000 */
    int stderr_bytes;         /* of the last it wrote there, kept in a crash's error; default 2000, at most
                                 3000; NQ_ZERO: none */
    int nice;                 /* 0 to 19, added to the process's own */
    const char *const *environment; /* "NAME=value": in place of or beside this process's; copied */
    size_t nenvironment;
} nq_isolation_options;
#define NQ_ISOLATION(...) (&(nq_isolation_options){.size = sizeof(nq_isolation_options), __VA_ARGS__})

typedef struct nq_handle_options {
    size_t size;
    const nq_middleware *middleware; /* around this handler, inside the global ones; first is outermost */
    size_t nmiddleware;
    int max_crashes;          /* of this type's tasks, as in nq_worker_options; default: those */
    nq_retry_fn retry_policy; /* of this type's tasks; default: the worker's */
    void *retry_udata;
    const nq_isolation_options *isolation; /* default: in a thread of this process */
} nq_handle_options;

/* Make a worker; nothing runs yet. opts may be NULL. Errors: NQ_EINVAL, NQ_ENOMEM. */
NQ_API int nq_worker_new(nq_worker **out, nq *q, const nq_worker_options *opts, nq_err *err);
/* Register the handler of a type; type NULL: of every type without one of its own. Before nq_worker_run
 * and nq_worker_fork only. A second one for the same type is NQ_EINVAL. opts may be NULL. */
NQ_API int nq_worker_handle(nq_worker *w, const char *type, nq_handler_fn handler, void *udata,
                            const nq_handle_options *opts, nq_err *err);

/*
 * A handler of several tasks a call, where a hundred rows in one INSERT cost little more than one. ctx[i] is
 * the attempt of tasks[i]; for each of the n it writes verdicts[i] and may call what a handler may: messages,
 * delays and completions are each task's own (nq_ctx_progress: the first one's only). A task that is left
 * without a verdict failed. Each has its own timeout, all from the start of the call. One thread runs a call.
 */
typedef void (*nq_many_fn)(nq_ctx *const ctx[], const nq_task *const tasks[], size_t n, nq_verdict verdicts[],
                           void *udata);
#define NQ_MAX_MANY 1000
typedef struct nq_many_options {
    size_t size;
    unsigned max;    /* tasks of a call; default 100, at most NQ_MAX_MANY. It also takes fewer: */
    int64_t wait_us; /* so long, at most a second, it waits for more; default: it takes what is there */
    bool by_group;   /* a call has tasks of one queue and group only; default: of any */
    int max_crashes; /* these as in nq_handle_options */
    nq_retry_fn retry_policy;
    void *retry_udata;
} nq_many_options;
/* As nq_worker_handle, but it runs in a thread of this process, and no middleware is run around it. */
NQ_API int nq_worker_handle_many(nq_worker *w, const char *type, nq_many_fn handler, void *udata,
                                 const nq_many_options *opts, nq_err *err);
/* Register middleware around every handler of single tasks; first registered is outermost. Before
 * nq_worker_run and nq_worker_fork only. */
NQ_API int nq_worker_use(nq_worker *w, nq_middleware_fn middleware, void *udata, nq_err *err);

/*
 * Fork the process from which the children of NQ_PROCESS handlers come. nq_worker_run does it by itself; call
 * it where the process will have threads by then, as soon as everything is registered. It must be the only
 * thread of the process: NQ_ETHREADS otherwise (a nq on MySQL has a thread of its own from its first
 * nq_enqueue or nq_hint on). Flushes stdio's output streams first.
 *
 * Handlers and their middleware run in the children, on copies of what was in memory when this was called.
 * Children have the standard output and error (which is read on its way, for the error of a crash) of this
 * process and its environment, without the database's password (NANOQ_PASSWORD and what password_env names;
 * `environment` of nq_handle_options may give them one), and nothing on their standard input. They leave no
 * core unless they raise RLIMIT_CORE. Every other descriptor of this process
 * leads to /dev/null there, and every handle of this library answers NQ_EFORK: open what a handler needs in
 * the handler. They and all that they start end with the worker, however that ends. docs/isolation.md
 * tells all.
 *
 * Errors: NQ_ETHREADS, NQ_ESYSTEM, NQ_ENOMEM, NQ_EINVAL (no handler is NQ_PROCESS; called twice).
 */
NQ_API int nq_worker_fork(nq_worker *w, nq_err *err);

/*
 * Claim and run tasks until stopped: by nq_worker_stop, by a signal (handle_signals) or, with drain, by an
 * empty queue. Blocks. On a stop: nothing more is claimed, tasks not yet started are given back at once,
 * running ones get shutdown_timeout, then their contexts are cancelled (NQ_CAUSE_SHUTDOWN) and after
 * cancel_grace what still runs is released, attempts and schedule as they were.
 * A database that is away is waited for, at the start too (NQ_ENOTMIGRATED, NQ_ESCHEMA, NQ_EDENIED at the
 * start are answered instead).
 * NQ_ESTUCK: some handlers ignored their cancellation; their tasks were released, their threads still
 * run: exit the process. An NQ_PROCESS handler is killed instead. Those of nq_worker_fork come at the start;
 * NQ_ESYSTEM at the end when the process that it forked died. May be called once for a worker.
 */
NQ_API int nq_worker_run(nq_worker *w, nq_err *err);

/* Ask nq_worker_run to stop; a second call also skips shutdown_timeout. Any thread, and async-signal-safe. */
NQ_API void nq_worker_stop(nq_worker *w);

/* What a worker has done since it started. Later versions append fields. */
typedef struct nq_worker_totals {
    uint64_t claimed, done, retried, dead, snoozed, released, lease_lost;
    unsigned running; /* handlers in progress */
    uint64_t cancelled;
} nq_worker_totals;
/* What w has done so far. size is sizeof *out: what this library does not know of it is zeroed. While it runs
 * too, from any thread. */
NQ_API void nq_worker_stats(const nq_worker *w, nq_worker_totals *out, size_t size);

/* For a watchdog: how long the worker's own threads (not its handlers) have shown no sign of life, the
 * most silent of them; microseconds. Up to 5 s is usual; a database call may take up to its time limits;
 * while the database is away they go on trying, and that is a sign. Negative before nq_worker_run has reached
 * the database for the first time. Any thread, never blocks. */
NQ_API int64_t nq_worker_silence_us(const nq_worker *w);

/* Free. nq_worker_run must have returned (after NQ_ESTUCK what its threads still use is kept). NULL is fine.
 */
NQ_API void nq_worker_free(nq_worker *w);

#ifdef __cplusplus
}
#endif
#endif
