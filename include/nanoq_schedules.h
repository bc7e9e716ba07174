/* SPDX-License-Identifier: MIT */
/* nanoq: schedules, tasks that come again and again. A part of nanoq_admin.h, which includes it. */
#ifndef NANOQ_SCHEDULES_H
#define NANOQ_SCHEDULES_H

#include "nanoq_admin.h"

#ifdef __cplusplus
extern "C" {
#endif

/*
 * SCHEDULES: tasks that come again and again, from rows of the database. Every worker fires them, whichever
 * comes first; no worker is the leader, and each time of a schedule comes once whoever dies. Plain SQL may
 * write them too. docs/schedules.md says what specs there are and what holds when the clocks change.
 */

/* What becomes of times that were missed, because no worker ran. */
enum nq_misfire {
    NQ_MISFIRE_ONCE = 0, /* the last one comes, late; the others do not */
    NQ_MISFIRE_SKIP,     /* none: a time comes up to a minute late, or not at all */
    NQ_MISFIRE_ALL       /* each, the oldest first; of more than 1000 the last 1000 */
};
/* What becomes of a time at which the task before has not ended. */
enum nq_overlap {
    NQ_OVERLAP_SKIP = 0, /* it is left out */
    NQ_OVERLAP_ALLOW,    /* it comes all the same */
    NQ_OVERLAP_QUEUE     /* it comes, within a second, when the task has ended; of several: as misfire says */
};

typedef struct nq_schedule {
    size_t size;
    const char *name;         /* 1 to 100 bytes of A-Z a-z 0-9 _ . : / - */
    const char *spec;         /* as of nq_cron_next */
    const char *zone;         /* likewise; default UTC */
    const nq_task_spec *task; /* what comes. It may have no delay_us, run_at_us, expires_us and no unique but
                                 the default: it has no unique key at all */
    int misfire;              /* enum nq_misfire; default NQ_MISFIRE_ONCE */
    int overlap;              /* enum nq_overlap; default NQ_OVERLAP_SKIP */
    int64_t jitter_us;        /* the task runs up to so much later, at random; default 0, at most a day */
    int64_t starts_at_us; /* no time before this one comes; "@every" begins with it; default: from now on */
    int64_t ends_at_us;   /* nor one behind this; default: for ever */
    const char *source;   /* who declares it: see nq_schedule_apply; 1 to 100 bytes; default: nobody */
} nq_schedule;

/*
 * Create a schedule, or replace the one of this name: by own or by the caller's transaction (nanoq_tx.h).
 * When it comes next stays as it is where spec, zone, start and end do; else it counts from now. A pause and
 * the last task stay; an error goes. All is copied. Thread-safe. NQ_EINVAL says what is wrong and what is
 * allowed; NQ_ESYSTEM: this host has no time zones; NQ_ETOOBIG; those of nq_enqueue.
 */
NQ_API int nq_schedule_set(nq *q, nq_tx tx, const nq_schedule *schedule, nq_err *err);
/*
 * Declare all schedules of a source, so that a deploy says what there is: each of all[] is set as by
 * nq_schedule_set (its own `source` is not looked at), those of this source that are not among them are
 * removed, all in one transaction. n 0: none is left. NQ_EINVAL too where one of these names is of another
 * source.
 */
NQ_API int nq_schedule_apply(nq *q, const nq_schedule all[], size_t n, const char *source, nq_err *err);
/* It comes no more; its tasks stay. What is known of its firings goes. NQ_ENOTFOUND. */
NQ_API int nq_schedule_remove(nq *q, const char *name, nq_err *err);
/* It does not come until it is resumed; times in between are not missed: it goes on with the first one after
 * that. why: for people, may be NULL; as of nq_pause_options. Again is no error. NQ_ENOTFOUND. */
NQ_API int nq_schedule_pause(nq *q, const char *name, const char *why, nq_err *err);
NQ_API int nq_schedule_resume(nq *q, const char *name, nq_err *err);
/* Have it come now, out of its turn, paused or not. *id (may be NULL): the task; NQ_EDUPLICATE: the one
 * before, which has not ended, where they are not to overlap. NQ_ENOTFOUND. */
NQ_API int nq_schedule_run(nq *q, const char *name, nq_id *id, nq_err *err);

/* A schedule as stored. The library's, like nq_info. Strings are never NULL; what plain SQL wrote is NOT safe
 * for a terminal as it is. A time that is not set is 0. */
typedef struct nq_schedule_row {
    const char *name, *spec, *zone, *queue, *group, *type;
    const void *payload; /* its first 256 bytes, as in nq_list, and a NUL that is not counted */
    size_t payload_size; /* the whole size */
    const nq_header *headers;
    size_t nheaders;
    int priority;
    unsigned max_retries;
    int64_t timeout_us, jitter_us;
    int misfire, overlap; /* the enums above */
    int64_t next_at_us;   /* 0: it is new, or over */
    int64_t last_at_us;   /* the last time of it that came */
    nq_id task_id;        /* the last task; 0: none yet */
    bool over;            /* it comes no more: it has ended, or its spec has no more times */
    bool paused;
    int64_t paused_at_us, starts_at_us, ends_at_us, changed_at_us;
    const char *paused_why, *source;
    const char *error; /* it is stopped until nq_schedule_set, or plain SQL, mends it; or "" */
} nq_schedule_row;
typedef int (*nq_schedule_row_fn)(const nq_schedule_row *row, void *udata);
/* All schedules, or (name not NULL) that one, in order of name; fn as for nq_list. Thread-safe. Errors as for
 * nq_list; NQ_ENOTFOUND: there is none of that name. */
NQ_API int nq_schedule_list(nq *q, const char *name, nq_schedule_row_fn fn, void *udata, nq_err *err);

/* One time of a schedule that came. task_id 0: no task was made, as the one before had not ended. */
typedef struct nq_firing {
    int64_t due_at_us, made_at_us;
    nq_id task_id;
} nq_firing;
typedef int (*nq_firing_fn)(const nq_firing *firing, void *udata);
/* The last `limit` (at most 1000) of them, the newest first. About as many are kept, for 30 days. */
NQ_API int nq_schedule_firings(nq *q, const char *name, unsigned limit, nq_firing_fn fn, void *udata,
                               nq_err *err);

/*
 * The first time of a schedule after a point in time (docs/schedules.md). spec: five fields as cron has them,
 * "@hourly" and its like, or "@every 90s", which counts from after_us. zone: a name of the system's time zone
 * database (Europe/Berlin), by its files at TZDIR or /usr/share/zoneinfo, whatever TZ says; NULL: UTC.
 *
 * A time that a change of the clocks leaves out comes once, right behind the gap; one that exists twice comes
 * at its first. A schedule of every hour goes by elapsed time, so it comes in both.
 *
 * Needs no database. Thread-safe. NQ_EINVAL: the message says what is wrong with spec or zone and what is
 * allowed, or that it never comes; NQ_ESYSTEM: the system has no zone files; NQ_ENOMEM.
 */
NQ_API int nq_cron_next(const char *spec, const char *zone, int64_t after_us, int64_t *next_us, nq_err *err);

#ifdef __cplusplus
}
#endif
#endif
