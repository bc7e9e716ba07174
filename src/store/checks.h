/* SPDX-License-Identifier: MIT */
/* The checks of nanoq doctor: one row of a table each, in checks.c. */
#ifndef NQ_STORE_CHECKS_H
#define NQ_STORE_CHECKS_H

#include "store.h"

#define NQ_MAX_FOUND 640 /* of a sentence, and its NUL */

/* What a check found. It comes as OK, with nothing to say. */
typedef struct nq_found {
    int level;        /* enum nq_check_level */
    const char *todo; /* a constant; NULL: nothing */
    char text[NQ_MAX_FOUND];
} nq_found;

/* A queue that has waiting tasks, with all its groups. */
typedef struct nq_checks_queue {
    char name[NQ_MAX_QUEUE + 1];
    int64_t due_us; /* when its first task is, or was, due; of groups that are paused: not counted */
    int64_t last_us;
    bool paused;
} nq_checks_queue;

/* A row of {workers}. */
typedef struct nq_checks_worker {
    char name[128], version[33];
    char *queues; /* with a comma at both ends; NULL: it does not say */
    int64_t beat_ago_us;
} nq_checks_worker;

/* One run of them all, and what several look at; {0} begins. Freed with nq_checks_free. */
typedef struct nq_checks {
    /* For tests: names and values that hold in place of what the database, its files or a limit say; ends at
     * NULL. Names are those of the server's variables, and those in nq_checks_said's calls. */
    const char *const *pretend;
    nq_buf vars;                  /* the same, as the driver has read it: each with its NUL */
    struct nq_settings *settings; /* NULL: they cannot be read */
    int64_t now_us;
    nq_checks_queue *queues;
    size_t nqueues, cap_queues, names; /* names: looked at, queues and groups */
    bool cut;                          /* there are more */
    int walked;                        /* NQ_OK; or why neither these nor the workers could be read: */
    nq_err walk_err;
    nq_checks_worker *workers;
    size_t nworkers, cap_workers;
    nq_found found[NQ_CHECKS];
} nq_checks;

/* Make one check on this connection. An answer that is none of NQ_ENOMEM and NQ_EUNAVAILABLE makes it one
 * that could not be seen. */
typedef int (*nq_check_look_fn)(nq_conn *c, nq_checks *k, nq_found *f, nq_err *err);
/* Those that a driver makes by itself; ends at a number 0. */
typedef struct nq_driver_check {
    unsigned number;
    nq_check_look_fn look;
} nq_driver_check;

NQ_PRIVATE int nq_store_checks(nq_store *s, nq_checks *k, nq_err *err);
NQ_PRIVATE void nq_checks_free(nq_checks *k);
NQ_PRIVATE const char *nq_checks_name(unsigned number);

/* ---- found.c -- Say what was found. */
NQ_PLUG_IN void nq_found_say(nq_found *f, int level, const char *todo, const char *fmt, ...) NQ_PRINTF(4, 5);
/* Add a sentence or a part of one, and raise the level to this one. */
NQ_PLUG_IN void nq_found_more(nq_found *f, int level, const char *todo, const char *fmt, ...) NQ_PRINTF(4, 5);
/* What a variable is, or NULL; as a number, or the fallback. */
NQ_PLUG_IN const char *nq_checks_said(const nq_checks *k, const char *name);
NQ_PLUG_IN int64_t nq_checks_number(const nq_checks *k, const char *name, int64_t fallback);
NQ_PLUG_IN bool nq_checks_is(const nq_checks *k, const char *name, const char *value);
/* A nq_row_fn for rows of a name and its value, which go into the nq_checks. */
NQ_PLUG_IN int nq_checks_var_row(const nq_val cols[], size_t ncols, void *arg);
/* A value as one line that fits, up to a NUL that somebody wrote. */
NQ_PLUG_IN void nq_checks_text(char *out, size_t size, const nq_val *v);
/* A number, whatever type the database gives it; and the only number of the only row: a nq_row_fn with an
 * int64_t. */
NQ_PLUG_IN int64_t nq_checks_int(const nq_val *v);
NQ_PLUG_IN int nq_checks_int_row(const nq_val cols[], size_t ncols, void *arg);
/* "3h05m", "12d". */
NQ_PLUG_IN const char *nq_checks_ago(int64_t us, char out[32]);

/* ---- checks_queues.c */
NQ_PRIVATE int nq_checks_walk(nq_conn *c, nq_checks *k, nq_err *err);
NQ_PRIVATE int nq_check_silent(nq_conn *c, nq_checks *k, nq_found *f, nq_err *err);
NQ_PRIVATE int nq_check_versions(nq_conn *c, nq_checks *k, nq_found *f, nq_err *err);
NQ_PRIVATE int nq_check_served(nq_conn *c, nq_checks *k, nq_found *f, nq_err *err);
NQ_PRIVATE int nq_check_overdue(nq_conn *c, nq_checks *k, nq_found *f, nq_err *err);
NQ_PRIVATE int nq_check_far(nq_conn *c, nq_checks *k, nq_found *f, nq_err *err);
/* ---- checks_rows.c */
NQ_PRIVATE int nq_check_followups(nq_conn *c, nq_checks *k, nq_found *f, nq_err *err);
NQ_PRIVATE int nq_check_paused(nq_conn *c, nq_checks *k, nq_found *f, nq_err *err);
NQ_PRIVATE int nq_check_stopped(nq_conn *c, nq_checks *k, nq_found *f, nq_err *err);
NQ_PRIVATE int nq_check_schedules(nq_conn *c, nq_checks *k, nq_found *f, nq_err *err);
NQ_PRIVATE int nq_check_zones(nq_conn *c, nq_checks *k, nq_found *f, nq_err *err);
NQ_PRIVATE int nq_check_retention(nq_conn *c, nq_checks *k, nq_found *f, nq_err *err);

#include "minutes.h" /* the other half of nanoq_health.h */

#endif
