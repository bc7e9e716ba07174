/* SPDX-License-Identifier: MIT */
/* nanoq: look at tasks and steer them: list, show, retry, cancel, delete, count. */
#ifndef NANOQ_ADMIN_H
#define NANOQ_ADMIN_H

#include "nanoq.h"
#include "nanoq_health.h"

#ifdef __cplusplus
extern "C" {
#endif

/* docs/states.md has the diagram. The numbers are those of the state columns. */
enum nq_state {
    NQ_STATE_WAITING = 0,  /* due now or later, or to be retried */
    NQ_STATE_RUNNING = 1,  /* claimed by a worker */
    NQ_STATE_DONE = 2,     /* kept only where keep_done says so */
    NQ_STATE_DEAD = 3,     /* out of attempts, discarded, crashed too often, or expired */
    NQ_STATE_CANCELLED = 4 /* by nq_cancel */
};

/* "waiting", "running", ...; NULL for an unknown number. */
NQ_API const char *nq_state_name(int state);
/* The state of a name, or NQ_EINVAL. */
NQ_API int nq_state_from_name(const char *name);

/* One task as stored. Strings are never NULL; a time that is not set is 0. */
typedef struct nq_info {
    nq_id id;
    int state; /* enum nq_state */
    const char *queue;
    const char *type;
    const void *payload; /* followed by a NUL that is not counted; nq_list: its first 256 bytes */
    size_t payload_size; /* the whole size, also in nq_list */
    const char *error;   /* the last attempt's, or "" */
    const char *worker;  /* of a running task: the worker's name, host:pid; else "" */
    int priority;
    unsigned attempts; /* failed ones so far */
    unsigned crashes;
    unsigned max_retries;
    unsigned generation;
    int64_t timeout_us, created_at_us, run_at_us, claimed_at_us, finished_at_us;
    bool cancelling; /* it runs, and nq_cancel was called */
    /* What the running attempt told by nq_ctx_progress, a second ago perhaps; progress_at_us 0: nothing. */
    int64_t progress_done, progress_total, progress_at_us;
    const char *progress_note; /* bytes of the handler's: NOT safe for a terminal as it is */
    const char *group;         /* within the queue, or "" */
    const nq_header *headers;  /* of its producer's */
    size_t nheaders;
    int64_t expires_at_us; /* no attempt begins later; 0: any time */
    nq_id dead_id;         /* it is the dead letter of that task; 0: it is none */
    const char *schedule;  /* it comes of this schedule, or "" */
    int64_t due_at_us;     /* for this time; 0: it has none */
    /* nq_get and nq_wait: what a done task left (nq_ctx_result), followed by a NUL that is not counted; NULL:
     * nothing. And until when the task is kept for that, or by keep_us of its spec; 0: no longer than others
     */
    const void *result;
    size_t result_size;
    int64_t keep_until_us;
    const char *const *tags;
    size_t ntags;
} nq_info;

/* Called per task, in the thread that called nq_list or nq_get; the pointers are valid until it returns;
 * non-zero stops the listing, which is no failure. It may call into the same nq: what is shown was copied,
 * and no connection is held. */
typedef int (*nq_info_fn)(const nq_info *info, void *udata);

enum nq_order { NQ_OLDEST_FIRST = 0, NQ_NEWEST_FIRST }; /* by id: in the order of their being added */

/* nq_list_options.states: NQ_STATE_BIT(NQ_STATE_DEAD) | NQ_STATE_BIT(NQ_STATE_CANCELLED) */
#define NQ_STATE_BIT(state) (1u << (state))
#define NQ_MAX_LIST_NAMES   100 /* most queues, and most types, of one nq_list */

typedef struct nq_list_options {
    size_t size;
    const char *const *queues; /* tasks of any of these queues and their groups, or of these groups
                                  (mail//42); default: of every queue */
    size_t nqueues;            /* at most NQ_MAX_LIST_NAMES */
    const char *const *types;  /* and of any of these types, compared byte for byte; default: of every type */
    size_t ntypes;             /* at most NQ_MAX_LIST_NAMES */
    unsigned states;           /* and in one of these states, a NQ_STATE_BIT for each; default: in any */
    int order;                 /* enum nq_order; default NQ_OLDEST_FIRST */
    nq_id after;               /* only what comes after this id in that order; default: from the start */
    nq_id before;              /* only what comes before it; without `after` those nearest to it */
    unsigned limit;            /* most tasks of the call; default 100, at most 10000 */
    const char *group; /* only of this group of each of the queues: any text, as of a task; default all */
    const struct nq_filter *filter; /* nanoq_search.h, instead of queues, types, states and group */
    struct nq_bounds *bounds;       /* out: whether the answer is whole; its size is set; default: not told */
    uint64_t look; /* at most so many tasks where no index leads to them; default NQ_DEFAULT_LOOK */
} nq_list_options;

/*
 * List tasks in order of their ids. opts may be NULL: the oldest 100.
 *
 * Pages: the next one is what comes `after` the last id of this one, the one before is what comes `before`
 * its first id, both in the same order. Ids never change and a task with the id need not be there any more,
 * so tasks that are added or deleted meanwhile shift no page and no task is shown twice; one that ends keeps
 * its id and its place.
 *
 * Outside any transaction of the caller's: each task is seen once, as it was at one moment of the call, but
 * may be otherwise when fn sees it. They are copied first, so that fn may call into q; a task takes up to 6
 * KiB for that. Payloads are cut to 256 bytes. What stands in the database is shown as it is, and other
 * programs wrote it: make it safe for a terminal.
 *
 * Cost: a page reads little more than itself where what is asked for is frequent or an index leads to it. For
 * the rest it looks at opts->look tasks from where it begins, may answer fewer than the limit then, and says
 * so in opts->bounds.
 *
 * Thread-safe. Errors, all before fn is called: NQ_EINVAL (fn is NULL, or an option), NQ_ENOTMIGRATED,
 * NQ_ESCHEMA, NQ_ENOMEM, NQ_EFORK, those of a connection.
 */
NQ_API int nq_list(nq *q, const nq_list_options *opts, nq_info_fn fn, void *udata, nq_err *err);

/* Show one task with its whole payload: fn is called once. Thread-safe. Errors, all before fn is called:
 * NQ_ENOTFOUND, NQ_EINVAL (fn is NULL), and as for nq_list. */
NQ_API int nq_get(nq *q, nq_id id, nq_info_fn fn, void *udata, nq_err *err);

/* Run it now: a dead, cancelled or done task goes back to waiting, attempts and crashes from zero; one that
 * waits becomes due. Whoever retries by hand wants it run: it expires no more. NQ_ENOTFOUND; NQ_ESTATE when
 * running; NQ_EDUPLICATE when a live task has its key. */
NQ_API int nq_retry(nq *q, nq_id id, nq_err *err);
/*
 * Cancel a task. One that waits is taken out of the queue and kept as cancelled. For one that runs the
 * request is recorded, and its handler told (NQ_CAUSE_CANCEL): at once on this host where hints work, else at
 * the next heartbeat of its worker, which is at most 5 s away. It never runs again: when the attempt ends,
 * in whatever way (failed, snoozed, released, its worker died), the task is kept as cancelled; unless the
 * handler answers NQ_DONE, then it is done. A cancelled attempt counts as no failure. Asking again is no
 * error. NQ_ENOTFOUND; NQ_ESTATE when it has ended. A task that was to follow it (see nq_enqueue) still
 * comes.
 */
NQ_API int nq_cancel(nq *q, nq_id id, nq_err *err);
/* Delete a task that does not run. NQ_ENOTFOUND; NQ_ESTATE when it runs. Follows as for nq_cancel. */
NQ_API int nq_delete(nq *q, nq_id id, nq_err *err);

/* The tasks of one queue. The library's, like nq_info: later versions append. */
typedef struct nq_queue_stats {
    const char *queue;
    uint64_t due, delayed, running, done, dead, cancelled; /* due + delayed = waiting */
    int64_t oldest_due_us; /* how long the longest due task has been due; 0 when none is */
    uint64_t groups;       /* that have some of these tasks; they are counted with their queue's */
    unsigned capped; /* NQ_CAPPED_... of the numbers that are at least so large: counting stopped there */
} nq_queue_stats;
enum {
    NQ_CAPPED_DUE = 1,
    NQ_CAPPED_DELAYED = 2,
    NQ_CAPPED_RUNNING = 4,
    NQ_CAPPED_DONE = 8,
    NQ_CAPPED_DEAD = 16,
    NQ_CAPPED_CANCELLED = 32,
    NQ_CAPPED_GROUPS = 64
};
/* Called per queue; the pointers are valid until it returns; non-zero stops, which is no failure. It may call
 * into the same nq. */
typedef int (*nq_stats_fn)(const nq_queue_stats *stats, void *udata);

/*
 * Counts of every queue that has a task, waiting or kept, in order of name. Each is whole up to 10,000 (where
 * there are more than two queues up to 20,000 by their number, but 1,000 at least) and capped there, so that
 * the cost does not grow with the backlog and the history; all the groups of a queue together count to that
 * in each of the two tables. oldest_due_us is that of the tasks that were counted where groups are capped.
 * nq_stats_exact counts all. Thread-safe. Errors, all before fn is called: as for nq_list.
 */
NQ_API int nq_stats(nq *q, nq_stats_fn fn, void *udata, nq_err *err);
/* nq_stats with every count whole: it reads an index of every task there is. */
NQ_API int nq_stats_exact(nq *q, nq_stats_fn fn, void *udata, nq_err *err);

/*
 * SETTINGS OF QUEUES, for all workers of all hosts, kept in the database. A queue may have groups, "mail//42"
 * is group 42 of queue "mail"; settings are of a queue and all its groups together, of each group by itself,
 * or of one group. Workers read them twice a second, and at once when they are changed by a call on the same
 * host. Plain SQL may write them too: docs/schema.md.
 */
enum nq_ordered {
    NQ_ORDERED_NO = 0,
    NQ_ORDERED_STRICT, /* one task of a group at a time, in order; one that has begun keeps its place */
    NQ_ORDERED_HALT    /* and a dead one stops its group until it is retried or deleted */
};

/* Limits, rates, weights and order: docs/limits.md. */
typedef struct nq_queue_settings {
    size_t size;
    const char *group;     /* of this group; "*": of each group by itself; default: of the queue as a whole */
    int64_t max_running;   /* so many run at once at most, over all hosts; default: any number */
    int64_t rate, rate_us; /* at most rate starts in rate_us, over all hosts; default: no limit */
    unsigned burst;        /* how many may start at once after a quiet time; default: those of 50 ms */
    unsigned weight;       /* of a group: tasks in its turn; default 1, at most 1000 */
    int ordered;           /* of a group or a type: enum nq_ordered; not with max_running > 1; default no */
    const char *dead_to;   /* a task that ends dead leaves a copy in this queue; default: none */
    const char *type;      /* of the tasks of this type, in the queue and all its groups; not with group */
    /* How long done tasks are kept, and dead and cancelled ones, whatever their worker's options say;
     * NQ_ZERO: not at all, and until the next look; NQ_FOREVER; default: as long as the worker says. Of a
     * group's the nearest holds: its own, that of group "*", that of the queue. */
    int64_t keep_done_us, keep_dead_us;
} nq_queue_settings;

/* Replace the settings of a queue or group; whether it is paused is left alone. settings NULL: it has none.
 * Thread-safe. NQ_EINVAL, NQ_EREADONLY, NQ_ENOTMIGRATED, NQ_ESCHEMA, those of a connection. */
NQ_API int nq_queue_set(nq *q, const char *queue, const nq_queue_settings *settings, nq_err *err);

/* One row of settings, as workers heed it: a value that a setting cannot have counts as not set. The
 * library's, like nq_info. Strings are never NULL. */
typedef struct nq_queue_row {
    const char *name;  /* "mail", "mail//42", "mail//" and a star */
    const char *queue; /* "mail" */
    const char *group; /* "", "42", "*" */
    const char *type;  /* or "" */
    bool paused;
    int64_t paused_at_us;   /* 0: not known */
    const char *paused_why; /* written by anybody: NOT safe for a terminal as it is */
    int64_t max_running, rate, rate_us;
    unsigned burst, weight; /* 0: not set */
    int ordered;            /* -1: not set */
    const char *dead_to;    /* or "" */
    int64_t changed_at_us;
    int64_t rate_left;     /* starts that the rate leaves just now; -1: it has none, or is of each group */
    int64_t held_until_us; /* by a handler: nothing of it starts before; 0: it is not held */
    nq_id halted_by;       /* the dead task that stops this group, which is in order; 0: none does */
    int64_t keep_done_us, keep_dead_us; /* 0: not set; NQ_ZERO, NQ_FOREVER */
} nq_queue_row;
typedef int (*nq_queue_row_fn)(const nq_queue_row *row, void *udata);
/* The settings of a queue and its groups, or (queue NULL) of all, in order of name, and what became of them:
 * a queue or group that is held or halted has a row also where it has no settings itself. fn as for nq_list.
 * Thread-safe. Errors as for nq_list. */
NQ_API int nq_queue_get(nq *q, const char *queue, nq_queue_row_fn fn, void *udata, nq_err *err);

typedef struct nq_pause_options {
    size_t size;
    const char *group; /* as in nq_queue_settings */
    const char *why; /* for people: UTF-8 without control characters, at most 255 bytes; default: as it was */
    int64_t wait_us; /* wait until every worker knows, and (nq_pause) no task of it runs, at most so long;
                        default: not at all */
    const char *type; /* only tasks of this type, in the queue and all its groups; not with group */
} nq_pause_options;

/*
 * Pause a queue, all its groups with it, one of them, or the tasks of one type: no task of it starts any
 * more, on any host, as soon as the workers know: at once on this one, elsewhere within a second. What runs
 * goes on, what was claimed and has not begun is given back, and tasks can be added. It stays so until
 * nq_resume, whatever ends or starts meanwhile. Pausing again is no error. opts may be NULL.
 *
 * NQ_ETIMEOUT: it is paused, but wait_us were over before; the message says what was waited for. A worker of
 * a version before this knows nothing of pauses: nq_worker_row.version is "" then. Thread-safe. Other errors
 * as for nq_queue_set.
 */
NQ_API int nq_pause(nq *q, const char *queue, const nq_pause_options *opts, nq_err *err);
/* The opposite. Resuming what is not paused is no error. */
NQ_API int nq_resume(nq *q, const char *queue, const nq_pause_options *opts, nq_err *err);

/* A worker by its own words. One that died is here until another worker notices, some seconds later; where
 * there is no other it stays: one whose beat is older than NQ_WORKER_SILENT_US is not counted as alive
 * anywhere. The library's, like nq_info. Strings are never NULL, and NOT safe for a terminal as they are. */
#define NQ_WORKER_SILENT_US 15000000 /* three beats */
typedef struct nq_worker_row {
    uint64_t id;
    const char *name;              /* host:pid */
    const char *queues;            /* separated by commas */
    const char *types;             /* separated by line feeds; "": any */
    const char *version;           /* of its library; "": of one that heeds no settings of queues */
    unsigned concurrency, running; /* running: as of its last beat */
    bool knows;                    /* it has read the settings of queues as they are */
    int64_t started_at_us, beat_at_us, beat_ago_us;
} nq_worker_row;
typedef int (*nq_worker_row_fn)(const nq_worker_row *row, void *udata);
/* The workers, in order of id; fn as for nq_list. Thread-safe. Errors as for nq_list. */
NQ_API int nq_workers(nq *q, nq_worker_row_fn fn, void *udata, nq_err *err);

/*
 * WHY A TASK DOES NOT RUN, or where it does, or how it ended.
 *
 * reason      name              n, most                              at               note
 * running     the worker        this attempt, attempts at most       since            -
 * orphaned    the worker or ""  -, or the worker's number            last heard of    -
 * cancelling  -                 -                                    -                -
 * followed    -                 follow-ups that wait for its end     the first        -
 * expired     -                 -                                    then             -
 * later       -                 0, retries at most                   until            -
 * retry       -                 failed attempts, retries at most     until            the last error
 * paused      the queue, group  -                                    since            why
 * held        the queue, group  -                                    until            -
 * halted      the group         the dead task                        its end          its error
 * order       the group         the task that has begun              when it is due   "running", "waiting"
 * limited     the queue, group  tasks that run, and may at most      -                which, "7,9"
 * rate        the queue, group  starts, in so many microseconds      until            -
 * no-worker   -                 rows of workers that are silent      last heard of    -
 * not-served  the queue         workers that live                    -                -
 * no-handler  the type          workers that serve its queue         -                -
 * in-line     the queue, group  tasks before it, free handlers       due since        -
 * done, dead, cancelled         failed attempts, attempts at most    since            the last error
 */
typedef struct nq_reason {
    const char *reason; /* one of these words; later versions have more */
    const char *name;   /* "": none; NOT safe for a terminal as it is, no more than note and detail */
    int64_t n, most;    /* 0: none */
    int64_t at_us;      /* 0: none */
    const char *note;   /* its first 300 characters */
    const char *detail; /* all of this in an English sentence */
} nq_reason;
typedef int (*nq_reason_fn)(const nq_reason *reason, void *udata);
/*
 * Say why task id does not run: each reason that holds, the weightiest first; fn as for nq_list. A task that
 * nothing keeps is "in-line". It asks the database alone, by one statement, so that no worker need run; what
 * a worker knows only by itself (its own `concurrency` of a queue) it cannot tell. Thread-safe. Errors as for
 * nq_get.
 */
NQ_API int nq_why(nq *q, nq_id id, nq_reason_fn fn, void *udata, nq_err *err);
/* That statement, for a database of this URL's kind and prefix, to be run by any program; it changes nothing.
 * *sql is freed with nq_free. Needs no connection. */
NQ_API int nq_why_sql(char **sql, const char *url, nq_id id, nq_err *err);

/* The SQL that nq_migrate would run on tables of schema version `from`, 0: on an empty database, of this
 * URL's kind and prefix. *sql is freed with nq_free. Needs no connection. NQ_EINVAL: there is no such
 * version. */
NQ_API int nq_migration_sql(char **sql, const char *url, unsigned from, nq_err *err);
NQ_API void nq_free(void *memory);

/*
 * DESTRUCTIVE: drop this handle's tables (those of its URL's prefix, no others) with every task in them, done
 * ones and dead ones too. Nothing is asked and nothing is refused: not when tasks wait, not when workers
 * run, which from then on fail with NQ_ENOTMIGRATED. On MySQL and MariaDB it commits by itself, table by
 * table, and needs the privilege DROP; after a failure call it again. Tables that are not there are no error.
 */
NQ_API int nq_drop_tables(nq *q, nq_err *err);

/* "250ms", "5s", "5m", "2h", "7d", "1h30m", "1.5s"; a bare number is seconds. 0..NQ_MAX_DURATION.
 * NQ_EINVAL says what was wrong and what is allowed. Thread-safe. */
NQ_API int nq_parse_duration(const char *text, int64_t *us, nq_err *err);
/*
 * For tests of programs that wait for hours: the time of this handle and of its connections stands at us,
 * microseconds since 1970, from now on; 0: it goes by the database's clock again. What becomes due, expires,
 * or comes of a schedule then does so by that time. Other handles, other processes, connections of the
 * caller's, and what a worker measures by itself (timeouts, leases, pauses between looks) have their own. A
 * server may know no time after 2037: then the calls that follow say so. Thread-safe. NQ_EINVAL: a time
 * before 2001 or after 9999.
 */
NQ_API int nq_test_clock(nq *q, int64_t us, nq_err *err);
/* "2026-01-31T12:00:00.000000Z" into out. */
NQ_API void nq_format_time(int64_t us, char out[28]);

#ifdef __cplusplus
}
#endif

#include "nanoq_bulk.h" /* which needs the one before */
#include "nanoq_logs.h"
#include "nanoq_results.h"
#include "nanoq_schedules.h"
#include "nanoq_search.h"

#endif
