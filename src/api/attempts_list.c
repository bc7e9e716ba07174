/* SPDX-License-Identifier: MIT */
/* Showing what is remembered of a task's failed attempts. */
#include "api.h"

#define ATTEMPTS_LIST_WORKER 255 /* bytes of a worker's name */

const char *nq_attempt_outcome_name(int outcome)
{
    static const char *const names[] = {[NQ_ATTEMPT_FAILED] = "failed",
                                        [NQ_ATTEMPT_DEAD] = "dead",
                                        [NQ_ATTEMPT_CRASHED] = "crashed",
                                        [NQ_ATTEMPT_CANCELLED] = "cancelled",
                                        [NQ_ATTEMPT_EXPIRED] = "expired"};
    return outcome > 0 && outcome < (int)(sizeof names / sizeof *names) ? names[outcome] : NULL;
}

struct attempts_list_all {
    nq_id id;
    bool there; /* the task is */
    size_t n;
    struct attempts_list_one {
        nq_attempt_row row;
        char *texts; /* worker and error, each ended by a NUL */
    } all[NQ_MAX_ATTEMPTS_KEPT];
};

static void attempts_list_clear(struct attempts_list_all *l)
{
    for (size_t i = 0; i < l->n; i++)
        free(l->all[i].texts);
    l->n = 0;
    l->there = false;
}

/* What stands in a text column, up to a NUL if somebody wrote one. */
static const char *attempts_list_text(char **at, const nq_val *v, size_t most)
{
    const char *text = *at;
    const size_t n = v->type == NQ_VAL_TEXT || v->type == NQ_VAL_BLOB ? v->n < most ? v->n : most : 0;
    if (n > 0)
        memcpy(*at, v->p, n);
    (*at)[n] = '\0';
    *at += n + 1;
    return text;
}

static int64_t attempts_list_number(const nq_val *v, int64_t most)
{
    return v->type != NQ_VAL_INT || v->i < 0 ? 0 : v->i < most ? v->i : most;
}

/* A row for each attempt; of a task without any one that is all NULL. */
static int attempts_list_row(const nq_val cols[], size_t ncols, void *arg)
{
    struct attempts_list_all *l = arg;
    (void)ncols;
    l->there = true;
    if (cols[0].type == NQ_VAL_NULL || l->n == NQ_MAX_ATTEMPTS_KEPT)
        return 0;
    struct attempts_list_one *one = &l->all[l->n];
    char *at = malloc(ATTEMPTS_LIST_WORKER + NQ_MAX_ERROR + 2);
    if (!at)
        return NQ_ENOMEM;
    l->n++;
    one->texts = at;
    one->row = (nq_attempt_row){.task_id = l->id,
                                .generation = (unsigned)attempts_list_number(&cols[0], UINT32_MAX),
                                .outcome = (int)attempts_list_number(&cols[1], INT32_MAX),
                                .attempt = (unsigned)attempts_list_number(&cols[2], UINT32_MAX),
                                .started_at_us = attempts_list_number(&cols[3], INT64_MAX),
                                .ended_at_us = attempts_list_number(&cols[4], INT64_MAX)};
    one->row.worker = attempts_list_text(&at, &cols[5], ATTEMPTS_LIST_WORKER);
    one->row.error = attempts_list_text(&at, &cols[6], NQ_MAX_ERROR);
    return 0;
}

/* Those of an earlier task with the same id ended before this one was created. */
#define ATTEMPTS_LIST(table)                                                                                 \
    "SELECT a.generation, a.outcome, a.attempt, {us:a.started_at}, {us:a.ended_at}, {bytes:a.worker}, "      \
    "{bytes:a.error} FROM " table " t LEFT JOIN {attempts} a ON a.task_id = t.id AND a.ended_at >= "         \
    "t.created_at WHERE t.id = ? ORDER BY a.generation DESC LIMIT ?"

static int attempts_list_run(nq_conn *c, void *arg, nq_err *err)
{
    struct attempts_list_all *l = arg;
    const nq_val args[] = {nq_int(l->id), nq_int(NQ_MAX_ATTEMPTS_KEPT)};
    int rc = NQ_OK;
    attempts_list_clear(l);
    /* Twice: a task may move from one table to the other between two looks. */
    for (int i = 0; i < 2 && rc == NQ_OK && !l->there; i++) {
        rc = nq_sql(c, ATTEMPTS_LIST("{tasks}"), args, 2, attempts_list_row, l, NULL, err);
        if (rc == NQ_OK && !l->there)
            rc = nq_sql(c, ATTEMPTS_LIST("{finished}"), args, 2, attempts_list_row, l, NULL, err);
    }
    return rc;
}

int nq_attempts(nq *q, nq_id id, nq_attempt_fn fn, void *udata, nq_err *err)
{
    struct attempts_list_all l = {.id = id};
    int rc = nq_usable(q, err);
    if (rc != NQ_OK)
        return rc;
    if (!fn)
        return nq_err_set(err, NQ_EINVAL, "no function to show attempts with was given");
    if ((rc = nq_ready(q, err)) != NQ_OK)
        return rc;
    rc = nq_store_do(nq_store_of(q), attempts_list_run, &l, err);
    if (rc == NQ_ENOMEM)
        nq_err_nomem(err);
    else if (rc == NQ_OK && !l.there)
        rc = nq_absent(id, err);
    for (size_t i = 0; rc == NQ_OK && i < l.n; i++)
        if (fn(&l.all[i].row, udata))
            break;
    attempts_list_clear(&l);
    return rc;
}
