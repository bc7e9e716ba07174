/* SPDX-License-Identifier: MIT */
/* What workers did, by minute, queue and type: written, merged into hours, summed. */
#include "minutes.h"

/*
 * A row of a minute has its worker's number, so that no worker waits for another; only its own transactions
 * change it. A row of an hour has the number 0. Merging takes the rows of one minute into those of its hour
 * and deletes them, in one transaction, under the lock of a row that always exists: so one merges at a time
 * and nothing is counted twice.
 */
#define MINUTES_US    NQ_MINUTES(1)
#define MINUTES_MERGE NQ_HOURS(48)
#define MINUTES_KEEP  NQ_DAYS(30)
#define MINUTES_SWEEP 10     /* minutes of one call */
#define MINUTES_SUMS  100000 /* most different pairs of queue and type of one reading */
#define MINUTES_COLUMNS                                                                                      \
    "queue, type, done, retried, dead, cancelled, snoozed, wait_us, run_us, wait_hist, run_hist"

/* ---- Counts ---- */

NQ_PRIVATE void nq_counts_add(nq_counts *to, const nq_counts *from)
{
    to->done += from->done;
    to->retried += from->retried;
    to->dead += from->dead;
    to->cancelled += from->cancelled;
    to->snoozed += from->snoozed;
    to->wait_us += from->wait_us;
    to->run_us += from->run_us;
    for (size_t i = 0; i < NQ_BUCKETS; i++) {
        to->wait[i] = from->wait[i] > UINT32_MAX - to->wait[i] ? UINT32_MAX : to->wait[i] + from->wait[i];
        to->run[i] = from->run[i] > UINT32_MAX - to->run[i] ? UINT32_MAX : to->run[i] + from->run[i];
    }
}

/* Four bytes a bucket, the lowest first, without the empty ones at the end; how many bytes. */
static size_t minutes_pack(uint8_t out[4 * NQ_BUCKETS], const uint32_t buckets[NQ_BUCKETS])
{
    size_t n = 0;
    for (size_t i = 0; i < NQ_BUCKETS; i++) {
        for (size_t k = 0; k < 4; k++)
            out[4 * i + k] = (uint8_t)(buckets[i] >> (8 * k));
        n = buckets[i] ? 4 * (i + 1) : n;
    }
    return n;
}

/* Whatever stands there. */
static void minutes_unpack(uint32_t buckets[NQ_BUCKETS], const nq_val *v)
{
    const uint8_t *p = v->p;
    const size_t n = v->type == NQ_VAL_BLOB || v->type == NQ_VAL_TEXT ? v->n : 0;
    for (size_t i = 0; i < NQ_BUCKETS; i++) {
        buckets[i] = 0;
        for (size_t k = 0; k < 4 && 4 * i + k < n; k++)
            buckets[i] |= (uint32_t)p[4 * i + k] << (8 * k);
    }
}

static uint64_t minutes_number(const nq_val *v)
{
    return v->type == NQ_VAL_INT && v->i > 0 ? (uint64_t)v->i : 0;
}

static void minutes_name(char *out, size_t size, const nq_val *v)
{
    const size_t n = v->type == NQ_VAL_TEXT || v->type == NQ_VAL_BLOB ? v->n : 0;
    const size_t fits = n < size ? n : size - 1;
    if (fits > 0)
        memcpy(out, v->p, fits);
    out[fits] = '\0';
}

/* ---- Sums ---- */

struct minutes_sums {
    nq_minute *all;
    size_t n, cap;
    bool by_queue, by_type;
};

/* The sum of this queue and type; what is one too many counts for the last. NULL: no memory. */
static nq_minute *minutes_sum_of(struct minutes_sums *s, const nq_minute *row)
{
    for (size_t i = s->n; i > 0; i--)
        if (strcmp(s->all[i - 1].type, row->type) == 0 && strcmp(s->all[i - 1].queue, row->queue) == 0)
            return &s->all[i - 1];
    if (s->n >= MINUTES_SUMS)
        return &s->all[s->n - 1];
    nq_minute *more = nq_grow(s->all, s->n, &s->cap, sizeof *more);
    if (!more)
        return NULL;
    s->all = more;
    more = &s->all[s->n++];
    *more = *row;
    more->counts = (nq_counts){0};
    return more;
}

/* A nq_row_fn, of MINUTES_COLUMNS. */
static int minutes_sum_row(const nq_val cols[], size_t ncols, void *arg)
{
    struct minutes_sums *s = arg;
    nq_minute row = {0};
    nq_counts *c = &row.counts;
    uint64_t *const numbers[] = {&c->done,    &c->retried, &c->dead,  &c->cancelled,
                                 &c->snoozed, &c->wait_us, &c->run_us};
    (void)ncols;
    if (s->by_queue)
        minutes_name(row.queue, sizeof row.queue, &cols[0]);
    if (s->by_type)
        minutes_name(row.type, sizeof row.type, &cols[1]);
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        *numbers[i] = minutes_number(&cols[2 + i]);
    minutes_unpack(c->wait, &cols[9]);
    minutes_unpack(c->run, &cols[10]);
    nq_minute *sum = minutes_sum_of(s, &row);
    if (!sum)
        return NQ_ENOMEM;
    nq_counts_add(&sum->counts, c);
    return 0;
}

static int minutes_now_row(const nq_val cols[], size_t ncols, void *arg)
{
    (void)ncols;
    *(int64_t *)arg = cols[0].type == NQ_VAL_INT ? cols[0].i : 0;
    return 0;
}

static int minutes_write(nq_conn *c, int64_t at_us, uint64_t worker, const nq_minute *m, nq_err *err)
{
    uint8_t wait[4 * NQ_BUCKETS], run[4 * NQ_BUCKETS];
    const nq_counts *n = &m->counts;
    const nq_val args[] = {nq_int(at_us),
                           nq_int((int64_t)worker),
                           nq_text(m->queue),
                           nq_text(m->type),
                           nq_int((int64_t)n->done),
                           nq_int((int64_t)n->retried),
                           nq_int((int64_t)n->dead),
                           nq_int((int64_t)n->cancelled),
                           nq_int((int64_t)n->snoozed),
                           nq_int((int64_t)n->wait_us),
                           nq_int((int64_t)n->run_us),
                           nq_blob(wait, minutes_pack(wait, n->wait)),
                           nq_blob(run, minutes_pack(run, n->run))};
    return nq_sql(c,
                  "REPLACE INTO {minutes} (at, worker, " MINUTES_COLUMNS
                  ") VALUES ({at}, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                  args, sizeof args / sizeof *args, NULL, NULL, NULL, err);
}

/* ---- Adding ---- */

struct minutes_add {
    uint64_t worker;
    const nq_minute *const *rows;
    size_t n;
    int64_t now_us;
};

static int minutes_add(nq_conn *c, void *arg, nq_err *err)
{
    struct minutes_add *a = arg;
    struct minutes_sums sums = {.by_queue = true, .by_type = true};
    int rc = nq_sql(c, "SELECT {us:now}", NULL, 0, minutes_now_row, &a->now_us, NULL, err);
    const int64_t at = a->now_us - a->now_us % MINUTES_US;
    const nq_val key[] = {nq_int(at), nq_int((int64_t)a->worker)};
    if (rc == NQ_OK) /* what the last times of this minute have written */
        rc = nq_sql(c, "SELECT " MINUTES_COLUMNS " FROM {minutes} WHERE at = {at} AND worker = ?", key, 2,
                    minutes_sum_row, &sums, NULL, err);
    for (size_t i = 0; i < a->n && rc == NQ_OK; i++) {
        nq_minute *sum = minutes_sum_of(&sums, a->rows[i]);
        if (!sum)
            rc = nq_err_nomem(err);
        else
            nq_counts_add(&sum->counts, &a->rows[i]->counts);
        if (rc == NQ_OK)
            rc = minutes_write(c, at, a->worker, sum, err);
    }
    free(sums.all);
    return rc;
}

NQ_PRIVATE int nq_store_minutes_add(nq_store *s, uint64_t worker, const nq_minute *const rows[], size_t n,
                                    int64_t *now_us, nq_err *err)
{
    struct minutes_add a = {.worker = worker, .rows = rows, .n = n};
    const int rc = nq_store_tx(s, minutes_add, &a, err);
    *now_us = a.now_us;
    return rc;
}

/* ---- Merging, deleting ---- */

struct minutes_sweep {
    bool some; /* there was a minute to merge */
};

static int minutes_merge(nq_conn *c, void *arg, nq_err *err)
{
    struct minutes_sweep *w = arg;
    struct minutes_sums sums = {.by_queue = true, .by_type = true};
    const nq_val old = nq_int(-MINUTES_MERGE);
    bool locked = false;
    int64_t at = 0;
    w->some = false;
    int rc = nq_sql(c, "SELECT version FROM {schema} WHERE version = 1 {lock_free}", NULL, 0, nq_row_any,
                    &locked, NULL, err);
    if (rc == NQ_OK && locked)
        rc = nq_sql(c,
                    "SELECT {us:at} FROM {minutes} WHERE at < {after} AND worker > 0 AND NOT {no_moment:at} "
                    "ORDER BY at LIMIT 1",
                    &old, 1, minutes_now_row, &at, NULL, err);
    if (rc != NQ_OK || at <= 0)
        return rc;
    w->some = true;
    const int64_t hour = at - at % NQ_HOURS(1);
    const nq_val minute_at = nq_int(at), hour_at = nq_int(hour);
    rc = nq_sql(c, "SELECT " MINUTES_COLUMNS " FROM {minutes} WHERE at = {at} AND worker > 0", &minute_at, 1,
                minutes_sum_row, &sums, NULL, err);
    const size_t n = sums.n;
    if (rc == NQ_OK)
        rc = nq_sql(c, "SELECT " MINUTES_COLUMNS " FROM {minutes} WHERE at = {at} AND worker = 0", &hour_at,
                    1, minutes_sum_row, &sums, NULL, err);
    if (rc == NQ_OK)
        rc = nq_sql(c, "DELETE FROM {minutes} WHERE at = {at} AND worker > 0", &minute_at, 1, NULL, NULL,
                    NULL, err);
    for (size_t i = 0; i < n && rc == NQ_OK; i++)
        rc = minutes_write(c, hour, 0, &sums.all[i], err);
    free(sums.all);
    return rc;
}

/* *at: the minute that went; -1: those whose time is none, which would be first for ever; 0: none is old. */
static int minutes_forget(nq_conn *c, void *arg, nq_err *err)
{
    int64_t *at = arg;
    const nq_val keep = nq_int(-MINUTES_KEEP), none = nq_int(NQ_DAYS(1));
    *at = 0;
    /* Of a clock that had not been set, or by hand: 0 and below are none here. */
    int rc = nq_sql(c, "DELETE FROM {minutes} WHERE at < {at}", &none, 1, NULL, NULL, NULL, err);
    if (rc == NQ_OK)
        rc = nq_sql(
            c,
            "SELECT CASE WHEN {no_moment:at} THEN -1 ELSE {us:at} END FROM {minutes} WHERE at < {after} "
            "ORDER BY at LIMIT 1",
            &keep, 1, minutes_now_row, at, NULL, err);
    const nq_val first = nq_int(*at);
    if (rc == NQ_OK && *at > 0)
        rc = nq_sql(c, "DELETE FROM {minutes} WHERE at = {at}", &first, 1, NULL, NULL, NULL, err);
    else if (rc == NQ_OK && *at < 0)
        rc = nq_sql(c, "DELETE FROM {minutes} WHERE at < {after} AND {no_moment:at}", &keep, 1, NULL, NULL,
                    NULL, err);
    return rc;
}

/* A few at a time: whoever sweeps has other duties. */
NQ_PRIVATE int nq_store_minutes_sweep(nq_store *s, size_t limit, size_t *n, nq_err *err)
{
    int64_t at = 1;
    struct minutes_sweep w = {true};
    int rc = NQ_OK;
    for (size_t i = 0; i < MINUTES_SWEEP && (at != 0 || w.some) && rc == NQ_OK; i++)
        rc = at != 0 ? nq_store_do(s, minutes_forget, &at, err) : nq_store_tx(s, minutes_merge, &w, err);
    *n = at != 0 || w.some ? limit : 0;
    return rc;
}

/* ---- Reading ---- */

struct minutes_read {
    int64_t since_us, until_us;
    struct minutes_sums sums;
};

static int minutes_read(nq_conn *c, void *arg, nq_err *err)
{
    struct minutes_read *r = arg;
    const nq_val range[] = {nq_int(r->since_us), nq_int(r->until_us)};
    r->sums.n = 0; /* it may be the second try */
    return nq_sql(c, "SELECT " MINUTES_COLUMNS " FROM {minutes} WHERE at >= {at} AND at < {at}", range, 2,
                  minutes_sum_row, &r->sums, NULL, err);
}

NQ_PRIVATE int nq_store_minutes_read(nq_store *s, int64_t since_us, int64_t until_us, bool by_queue,
                                     bool by_type, nq_minute **out, size_t *n, nq_err *err)
{
    struct minutes_read r = {since_us, until_us, {.by_queue = by_queue, .by_type = by_type}};
    const int rc = nq_store_do(s, minutes_read, &r, err);
    if (rc != NQ_OK) {
        free(r.sums.all);
        return rc;
    }
    *out = r.sums.all;
    *n = r.sums.n;
    return NQ_OK;
}
