/* SPDX-License-Identifier: MIT */
/* settings.c: the rows of {queues}, as workers heed them. */
#ifndef NQ_STORE_SETTINGS_H
#define NQ_STORE_SETTINGS_H

#include "store.h"

enum {
    NQ_SETTINGS_ROWS = 10000, /* most that are heeded, the first in order of name */
    NQ_SETTINGS_TYPES = 100   /* most types of a queue that are set apart, likewise */
};

/* One row. What is not set, or is no value that the setting may have, is 0, but for dead_to and type. */
typedef struct nq_setting {
    char name[NQ_MAX_QUEUE + 1];
    char dead_to[NQ_MAX_QUEUE + 1]; /* "": none */
    char *type;                     /* NULL: none; of its nq_settings */
    char *why;                      /* why it is paused; the same */
    bool paused;
    int64_t paused_at_us;
    int64_t max_running;                /* 0: no limit */
    int64_t rate, rate_us;              /* 0: no limit */
    int burst, weight;                  /* 0: the default */
    int ordered;                        /* enum nq_ordered; -1: not set */
    int64_t keep_done_us, keep_dead_us; /* 0: not set; NQ_ZERO, NQ_FOREVER */
    int64_t changed_at_us;
} nq_setting;

#define NQ_PACE_LATE_US NQ_MS(50) /* at least so far behind its time may a start come: rates.c */

/* Nothing of this queue or group starts before, by our clock. */
typedef struct nq_hold {
    char name[NQ_MAX_QUEUE + 1];
    int64_t until_us;
} nq_hold;

/* All rows as they were at one moment; never changed afterwards, so that any thread may read. */
typedef struct nq_settings {
    atomic_uint refs;
    uint64_t hash;  /* of all that workers heed: positive, and equal for the same rows, whoever read them */
    uint64_t print; /* a fingerprint of the table, where the rows are many; 0: none was taken */
    nq_hold *holds; /* in order of name */
    size_t nholds;
    size_t n, ignored; /* rows; and those left out, because their names are none or they are too many */
    size_t misled;     /* rows whose dead_to is no queue's name */
    size_t types;      /* rows that have a type */
    bool keeps;        /* some row says how long tasks that have ended are kept */
    nq_setting rows[]; /* in order of name */
} nq_settings;

/* Read them. before (may be NULL): those that were read last; where nothing has changed since, *out is the
 * same ones with one more reference. */
NQ_PRIVATE int nq_settings_read(nq_settings **out, nq_store *s, nq_settings *before, nq_err *err);
/* nq_store.letters_are: does any row have dead_to? */
enum nq_letters_are { NQ_LETTERS_UNKNOWN, NQ_LETTERS_NONE, NQ_LETTERS_SOME };
/* The store keeps those that were read last, where some row has dead_to: for letters.c. settings NULL: it is
 * being closed. What it keeps, with a reference, or NULL. */
NQ_PRIVATE void nq_settings_keep(nq_store *s, nq_settings *settings);
NQ_PRIVATE nq_settings *nq_settings_kept(nq_store *s);
/* Read them on this connection, to be kept. */
NQ_PRIVATE int nq_settings_read_in(nq_conn *c, nq_err *err);
NQ_PRIVATE void nq_settings_ref(nq_settings *s);
NQ_PRIVATE void nq_settings_unref(nq_settings *s); /* accepts NULL */
/* The row of exactly this name, or NULL. */
NQ_PRIVATE const nq_setting *nq_settings_find(const nq_settings *s, const char *name);
/* What holds for each task of a group by itself: each setting of "mail//42", where it is not set that of
 * group "*". False: none does, or the name has no group. The copy points into s. */
NQ_PRIVATE bool nq_settings_group(const nq_settings *s, const char *name, nq_setting *out);
/* The row by which tasks of this queue or group are paused, or NULL: its own, that of group "*", or that of
 * the queue. */
NQ_PRIVATE const nq_setting *nq_settings_paused(const nq_settings *s, const char *name);
/* Where a dead task of this queue or group leaves its letter: as its group's row says, that of group "*",
 * that of the queue. False: nowhere. */
NQ_PRIVATE bool nq_settings_dead_to(const nq_settings *s, const char *name, char to[NQ_MAX_QUEUE + 1]);
/* Until when, by our clock, nothing of a queue or group starts, as it or its queue is held; a time that is
 * past: it may. */
NQ_PRIVATE int64_t nq_settings_held(const nq_settings *s, const char *name);
/* Is anything set, or held? */
static inline bool nq_settings_some(const nq_settings *s)
{
    return s->n > 0 || s->nholds > 0;
}
/* gates.c: what the gates say of queues and groups that have settings, are held, or may be halted. */
typedef struct nq_gate_row {
    char name[NQ_MAX_QUEUE + 1];
    int64_t tat_ns, held_until_us, now_us; /* by the database's clock; held_until_us 0: it is not held */
    nq_id dead;                            /* the task that began last, where it is dead; 0 */
} nq_gate_row;
typedef struct nq_gate_rows {
    nq_gate_row *all; /* in order of name; to be freed */
    size_t n, cap;
} nq_gate_rows;
NQ_PRIVATE int nq_store_gates(nq_gate_rows *out, nq_store *s, nq_err *err);
/* holds.c: of the task that runs under this lease: hold the queue or group of this name from now on for so
 * long; NQ_ELEASE. And read those that last. */
NQ_PRIVATE int nq_store_hold(nq_store *s, const char *name, nq_id id, uint64_t lease, int64_t us,
                             nq_err *err);
NQ_PRIVATE int nq_holds_read(nq_conn *c, nq_settings *s, nq_err *err);
/* order.c: does a dead task halt any group? And this one died without having begun: it may halt its group. */
NQ_PRIVATE int nq_order_halts(nq_conn *c, bool *some, nq_err *err);
NQ_PRIVATE int nq_order_buried(nq_conn *c, const char *queue, nq_id id, nq_err *err);
/* The rows by which tasks of a type are set apart from a queue and its groups: those of "mail//:..." with a
 * type and something that holds for it. At most so many; the queue may be one of the groups. */
NQ_PRIVATE size_t nq_settings_types(const nq_settings *s, const char *queue, const nq_setting *rows[],
                                    size_t most);
/* That of this type, or NULL. */
NQ_PRIVATE const nq_setting *nq_settings_type(const nq_settings *s, const char *queue, const char *type);
/* The row of each group of a queue, "mail//" and a star, or NULL. */
NQ_PRIVATE const nq_setting *nq_settings_group_each(const nq_settings *s, const char *queue);
/* The first of the rows of the groups of a queue, and how many there are. */
NQ_PRIVATE const nq_setting *nq_settings_groups(const nq_settings *s, const char *queue, size_t *n);
/* Bytes of the queue in a name that may have a group. */
static inline size_t nq_queue_base(const char *name)
{
    const char *group = strstr(name, "//");
    return group && group != name ? (size_t)(group - name) : strlen(name);
}
/* A claimer heeds them until the next call (NULL: none). */
NQ_PRIVATE void nq_claimer_heed(nq_claimer *c, const nq_settings *settings);
/* What is to be known of its last claim. */
typedef struct nq_claimer_left {
    bool throttled;   /* what it left is limited */
    bool counted;     /* how many tasks run matters: each that ends makes room, best in the next claim's
                         transaction */
    bool again;       /* tasks were set apart: there may be more, look again at once */
    int64_t opens_us; /* when, by our clock, a rate or a hold lets it claim something again that is due; 0:
                         nothing is held up by one */
} nq_claimer_left;
NQ_PRIVATE const nq_claimer_left *nq_claimer_last(const nq_claimer *c);
static inline bool nq_claimer_throttled(const nq_claimer *c)
{
    return nq_claimer_last(c)->throttled;
}
static inline bool nq_claimer_again(const nq_claimer *c)
{
    return nq_claimer_last(c)->again;
}
static inline int64_t nq_claimer_opens(const nq_claimer *c)
{
    return nq_claimer_last(c)->opens_us;
}
/* May a row of {queues} have this name? */
NQ_PRIVATE bool nq_setting_named(const char *name, size_t n);

#include "retention.h" /* a part of this header */

#endif
