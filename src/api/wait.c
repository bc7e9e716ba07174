/* SPDX-License-Identifier: MIT */
/* nq_wait: until tasks have ended. */
#include <poll.h>
#include <stdio.h>
#include <unistd.h>

#include "api.h"

#define WAIT_MIN_US                                                                                          \
    NQ_MS(2) /* between looks that nobody asked for: at first, then twice as long each time                  \
              */
#define WAIT_MAX_US NQ_MS(250)
#define WAIT_GAP_US NQ_MS(1) /* and between those that are asked for: datagrams are anybody's */
#define WAIT_CHUNK  200      /* ids of one statement */
#define WAIT_TOLD   1000     /* of one datagram */

struct wait_state {
    nq *q;
    nq_id *ids; /* those not seen to have ended, ascending; */
    bool *live; /* of the last look */
    size_t n;
    size_t ended, gone; /* how many have; and how many were not there */
    nq_id first_gone;
    nq_info_fn fn;
    void *udata;
    bool stopped; /* by fn */
    /* of nq_get */
    bool is_live;
};

static int wait_compare(const void *a, const void *b)
{
    const nq_id x = *(const nq_id *)a, y = *(const nq_id *)b;
    return (x > y) - (x < y);
}

static bool wait_has(const struct wait_state *w, nq_id id, size_t *at)
{
    const nq_id *found = bsearch(&id, w->ids, w->n, sizeof id, wait_compare);
    if (found)
        *at = (size_t)(found - w->ids);
    return found;
}

/* ---- Looking ---- */

static int wait_live_row(const nq_val cols[], size_t ncols, void *arg)
{
    const struct wait_state *w = arg;
    size_t at;
    (void)ncols;
    if (wait_has(w, cols[0].i, &at))
        w->live[at] = true;
    return 0;
}

/* Which of them live. */
static int wait_look(nq_conn *c, void *arg, nq_err *err)
{
    struct wait_state *w = arg;
    nq_buf sql = {0};
    int rc = NQ_OK;
    memset(w->live, 0, w->n * sizeof *w->live);
    for (size_t i = 0; i < w->n && rc == NQ_OK; i += WAIT_CHUNK) {
        nq_buf_clear(&sql);
        nq_buf_str(&sql, "SELECT id FROM {tasks} {by_id} WHERE id IN (");
        for (size_t k = i; k < w->n && k < i + WAIT_CHUNK; k++)
            nq_sql_list_id(c->store, &sql, w->ids[k]);
        nq_buf_str(&sql, ")");
        rc = sql.failed ? nq_err_nomem(err) : nq_sql(c, sql.p, NULL, 0, wait_live_row, w, NULL, err);
    }
    nq_buf_free(&sql);
    return rc;
}

static int wait_show(const nq_info *info, void *udata)
{
    struct wait_state *w = udata;
    w->is_live = info->state == NQ_STATE_WAITING || info->state == NQ_STATE_RUNNING;
    if (w->is_live)
        return 0; /* somebody retried it between the two looks */
    w->ended++;
    if (w->fn && w->fn(info, w->udata) != 0)
        w->stopped = true;
    return 0;
}

/* Look once. */
static int wait_once(struct wait_state *w, nq_err *err)
{
    size_t left = 0;
    int rc = nq_store_do(nq_store_of(w->q), wait_look, w, err);
    for (size_t i = 0; i < w->n; i++) {
        const nq_id id = w->ids[i];
        if (rc == NQ_OK && !w->live[i] && !w->stopped) {
            w->is_live = false;
            rc = nq_get(w->q, id, wait_show, w, err);
            if (rc == NQ_ENOTFOUND) {
                w->first_gone = w->gone++ > 0 ? w->first_gone : id;
                rc = NQ_OK;
            }
            if (rc == NQ_OK && !w->is_live)
                continue;
        }
        w->ids[left++] = id;
    }
    w->n = left;
    return rc;
}

/* ---- Waiting ---- */

/* Read what came; is one of ours among it? */
static bool wait_heard(const struct wait_state *w, int fd)
{
    nq_id told[WAIT_TOLD];
    nq_hint_from from;
    bool ours = false;
    ssize_t n;
    size_t at;
    for (int i = 0; i < 64 && (n = nq_hints_read(fd, told, sizeof told, &from, NULL)) >= 0; i++)
        for (size_t k = 0; k < (size_t)n / sizeof *told && !ours; k++)
            ours = wait_has(w, told[k], &at);
    return ours;
}

/* Until one of ours is said to have ended, or then. */
static bool wait_sleep(const struct wait_state *w, int fd, int64_t until)
{
    struct pollfd polled = {fd, POLLIN, 0};
    for (;;) {
        const int64_t left = until - nq_mono_us();
        if (left <= 0)
            return false;
        if (poll(&polled, 1, (int)((left + 999) / 1000)) > 0) {
            if (wait_heard(w, fd))
                return true;
            nq_sleep_us(WAIT_GAP_US / 4); /* others' may come without end */
        }
    }
}

/* It may be there again soon. */
static bool wait_away(int rc)
{
    return rc == NQ_EUNAVAILABLE || rc == NQ_ECONFLICT || rc == NQ_EUNKNOWN;
}

static bool wait_over(const struct wait_state *w, int wait_for)
{
    return w->stopped || w->n == 0 || (wait_for == NQ_WAIT_ANY && w->ended + w->gone > 0);
}

static int wait_result(const struct wait_state *w, int wait_for, nq_err *err)
{
    if (w->gone == 0 || w->stopped || (wait_for == NQ_WAIT_ANY && w->ended > 0))
        return NQ_OK;
    if (w->gone == 1)
        return nq_absent(w->first_gone, err);
    return nq_err_set(err, NQ_ENOTFOUND, "there is no task %lld, nor %zu others of them",
                      (long long)w->first_gone, w->gone - 1);
}

static int wait_until(struct wait_state *w, int wait_for, int fd, int64_t until, nq_err *err)
{
    int64_t gap = WAIT_MIN_US;
    nq_err why = {0};
    for (;;) {
        const int64_t began = nq_mono_us();
        const int rc = wait_once(w, &why);
        if (rc != NQ_OK && !wait_away(rc)) {
            if (err)
                *err = why;
            return rc;
        }
        if (wait_over(w, wait_for))
            return wait_result(w, wait_for, err);
        int64_t now = nq_mono_us();
        if (now >= until)
            return nq_err_set(err, NQ_ETIMEOUT, "the time is up: %zu task(s) have not ended%s%.300s", w->n,
                              rc != NQ_OK ? "; " : "", rc != NQ_OK ? why.message : "");
        const int64_t next = now + gap < until ? now + gap : until;
        if (wait_sleep(w, fd, next)) {
            gap = WAIT_MIN_US;
            now = nq_mono_us();
            if (now - began < WAIT_GAP_US)
                nq_sleep_us(WAIT_GAP_US - (now - began));
        } else {
            gap = gap * 2 < WAIT_MAX_US ? gap * 2 : WAIT_MAX_US;
        }
    }
}

/* In order, each once. */
static int wait_take(struct wait_state *w, const nq_id ids[], size_t n, nq_err *err)
{
    w->ids = malloc(n * sizeof *w->ids);
    w->live = malloc(n * sizeof *w->live);
    if (!w->ids || !w->live)
        return nq_err_nomem(err);
    memcpy(w->ids, ids, n * sizeof *w->ids);
    qsort(w->ids, n, sizeof *w->ids, wait_compare);
    for (size_t i = 0; i < n; i++)
        if (w->n == 0 || w->ids[w->n - 1] != w->ids[i])
            w->ids[w->n++] = w->ids[i];
    return NQ_OK;
}

int nq_wait(nq *q, const nq_id ids[], size_t n, int wait_for, int64_t timeout_us, nq_info_fn fn, void *udata,
            nq_err *err)
{
    struct wait_state w = {.q = q, .fn = fn, .udata = udata};
    int rc = nq_usable(q, err);
    if (rc != NQ_OK)
        return rc;
    if (!ids || n == 0 || n > NQ_MAX_WAIT)
        return nq_err_set(err, NQ_EINVAL, "%zu ids are given, allowed are 1 to %d", ids ? n : 0, NQ_MAX_WAIT);
    if (wait_for != NQ_WAIT_ALL && wait_for != NQ_WAIT_ANY)
        return nq_err_set(err, NQ_EINVAL, "wait_for is %d, must be NQ_WAIT_ALL or NQ_WAIT_ANY", wait_for);
    if (timeout_us < 0 && timeout_us != NQ_ZERO)
        return nq_err_set(err, NQ_EINVAL, "timeout_us is %lld, allowed are 0 (for ever), NQ_ZERO and more",
                          (long long)timeout_us);
    if ((rc = nq_ready(q, err)) != NQ_OK)
        return rc;
    const int64_t start = nq_mono_us(), most = timeout_us == NQ_ZERO ? 0 : timeout_us;
    const int64_t until = timeout_us == 0 || most > INT64_MAX - start ? INT64_MAX : start + most;
    rc = wait_take(&w, ids, n, err);
    const int fd = rc == NQ_OK && most + (timeout_us == 0) > 0 ? nq_hints_wait(nq_hints_of(q)) : -1;
    if (rc == NQ_OK)
        rc = wait_until(&w, wait_for, fd, until, err);
    if (fd >= 0)
        close(fd);
    free(w.ids);
    free(w.live);
    return rc;
}
