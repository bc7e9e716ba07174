/* SPDX-License-Identifier: MIT */
/* The workers that are alive, by what they say of themselves: other programs may write those rows too. */
#include "api.h"

#define WORKERS_MAX_NAME 255
#define WORKERS_MAX_LIST 65535 /* bytes of a list of queues or types */

struct workers_one {
    nq_worker_row row;
    char *texts; /* name, queues, types, version, each ended by a NUL */
};

struct workers_all {
    struct workers_one *all;
    size_t n, cap;
    uint64_t hash;
};

static void workers_free(struct workers_all *a)
{
    for (size_t i = 0; i < a->n; i++)
        free(a->all[i].texts);
    free(a->all);
    *a = (struct workers_all){.hash = a->hash};
}

/* Up to a NUL, if somebody wrote one. */
static const char *workers_text(char **at, const nq_val *v, size_t most)
{
    const char *text = *at;
    size_t n = v->type == NQ_VAL_TEXT || v->type == NQ_VAL_BLOB ? v->n : 0;
    n = n < most ? n : most;
    if (n > 0)
        memcpy(*at, v->p, n);
    (*at)[n] = '\0';
    *at += n + 1;
    return text;
}

static int64_t workers_number(const nq_val *v, int64_t most)
{
    return v->type != NQ_VAL_INT || v->i < 0 ? 0 : v->i < most ? v->i : most;
}

static int workers_row(const nq_val cols[], size_t ncols, void *arg)
{
    struct workers_all *a = arg;
    struct workers_one *more = nq_grow(a->all, a->n, &a->cap, sizeof *more);
    (void)ncols;
    if (!more)
        return NQ_ENOMEM;
    a->all = more;
    char *at = malloc(2 * ((size_t)WORKERS_MAX_NAME + 1) +
                      (cols[2].n < WORKERS_MAX_LIST ? cols[2].n : WORKERS_MAX_LIST) +
                      (cols[3].n < WORKERS_MAX_LIST ? cols[3].n : WORKERS_MAX_LIST) + 2);
    if (!at)
        return NQ_ENOMEM;
    struct workers_one *one = &a->all[a->n++];
    one->texts = at;
    one->row = (nq_worker_row){.id = (uint64_t)cols[0].i,
                               .concurrency = (unsigned)workers_number(&cols[5], UINT32_MAX),
                               .running = (unsigned)workers_number(&cols[6], UINT32_MAX),
                               .knows = cols[7].type == NQ_VAL_INT && (uint64_t)cols[7].i == a->hash,
                               .started_at_us = workers_number(&cols[8], INT64_MAX),
                               .beat_at_us = workers_number(&cols[9], INT64_MAX),
                               .beat_ago_us = workers_number(&cols[10], INT64_MAX)};
    one->row.name = workers_text(&at, &cols[1], WORKERS_MAX_NAME);
    one->row.queues = workers_text(&at, &cols[2], WORKERS_MAX_LIST);
    one->row.types = workers_text(&at, &cols[3], WORKERS_MAX_LIST);
    one->row.version = workers_text(&at, &cols[4], WORKERS_MAX_NAME);
    return 0;
}

static int workers_run(nq_conn *c, void *arg, nq_err *err)
{
    workers_free(arg); /* it may be the second try */
    return nq_sql(
        c,
        "SELECT id, {bytes:name}, {bytes:queues}, {bytes:types}, {bytes:version}, concurrency, running, "
        "settings, {us:started_at}, {us:beat_at}, {us:now} - {us:beat_at} FROM {workers} ORDER BY id",
        NULL, 0, workers_row, arg, NULL, err);
}

NQ_API int nq_workers(nq *q, nq_worker_row_fn fn, void *udata, nq_err *err)
{
    struct workers_all a = {0};
    nq_settings *s = NULL;
    int rc = nq_usable(q, err);
    if (rc != NQ_OK)
        return rc;
    if (!fn)
        return nq_err_set(err, NQ_EINVAL, "no function to show workers with was given");
    if ((rc = nq_ready(q, err)) != NQ_OK || (rc = nq_settings_read(&s, nq_store_of(q), NULL, err)) != NQ_OK)
        return rc;
    a.hash = s->hash;
    nq_settings_unref(s);
    rc = nq_store_do(nq_store_of(q), workers_run, &a, err);
    for (size_t i = 0; rc == NQ_OK && i < a.n; i++)
        if (fn(&a.all[i].row, udata))
            break;
    workers_free(&a);
    return rc;
}
