/* SPDX-License-Identifier: MIT */
/* Schedules: listed, with what came of their times. */
#include "api.h"

enum schedules_list_at {
    SCHEDULES_AT_NAME,
    SCHEDULES_AT_SPEC,
    SCHEDULES_AT_ZONE,
    SCHEDULES_AT_QUEUE,
    SCHEDULES_AT_TYPE,
    SCHEDULES_AT_WHY,
    SCHEDULES_AT_SOURCE,
    SCHEDULES_AT_ERROR,
    SCHEDULES_AT_PAYLOAD,
    SCHEDULES_AT_HEADERS, /* up to here texts */
    SCHEDULES_AT_SIZE,
    SCHEDULES_AT_PRIORITY,
    SCHEDULES_AT_RETRIES,
    SCHEDULES_AT_TIMEOUT,
    SCHEDULES_AT_JITTER,
    SCHEDULES_AT_MISFIRE,
    SCHEDULES_AT_OVERLAP,
    SCHEDULES_AT_TASK,
    SCHEDULES_AT_NEXT,
    SCHEDULES_AT_LAST,
    SCHEDULES_AT_PAUSED,
    SCHEDULES_AT_STARTS,
    SCHEDULES_AT_ENDS,
    SCHEDULES_AT_CHANGED,
    SCHEDULES_AT_COUNT
};
#define SCHEDULES_LIST                                                                                       \
    "SELECT {bytes:name}, {bytes:spec}, {bytes:zone}, {bytes:queue}, {bytes:type}, {bytes:paused_why}, "     \
    "{bytes:source}, {bytes:error}, SUBSTR({bytes:payload}, 1, 256), {short:headers}, {size:payload}, "      \
    "priority, max_retries, timeout_ms, jitter_us, misfire, overlap, task_id, {us:next_at}, {us:last_at}, "  \
    "{us:paused_at}, {us:starts_at}, {us:ends_at}, {us:changed_at} FROM {schedules}"

struct schedules_listed {
    nq_schedule_row row;
    char text[];
};

struct schedules_rows {
    const char *name;
    struct schedules_listed **all;
    size_t n, cap;
};

static const char *schedules_text(char **at, const nq_val *v)
{
    char *const text = *at;
    memcpy(text, v->n ? v->p : "", v->n);
    text[v->n] = '\0';
    *at += v->n + 1;
    return text;
}

static int64_t schedules_of(const nq_val *v)
{
    return v->type == NQ_VAL_INT ? v->i : 0;
}

static void schedules_list_fill(nq_schedule_row *row, char *at, const nq_val cols[])
{
    const nq_val *headers = &cols[SCHEDULES_AT_HEADERS];
    nq_headers read = {0};
    if (nq_headers_room(headers->p, headers->n)) /* first: there it is aligned */
        at = nq_headers_read(&read, at, headers->p, headers->n);
    const int64_t next = schedules_of(&cols[SCHEDULES_AT_NEXT]);
    *row = (nq_schedule_row){
        .name = schedules_text(&at, &cols[SCHEDULES_AT_NAME]),
        .spec = schedules_text(&at, &cols[SCHEDULES_AT_SPEC]),
        .zone = schedules_text(&at, &cols[SCHEDULES_AT_ZONE]),
        .queue = schedules_text(&at, &cols[SCHEDULES_AT_QUEUE]),
        .type = schedules_text(&at, &cols[SCHEDULES_AT_TYPE]),
        .paused_why = schedules_text(&at, &cols[SCHEDULES_AT_WHY]),
        .source = schedules_text(&at, &cols[SCHEDULES_AT_SOURCE]),
        .error = schedules_text(&at, &cols[SCHEDULES_AT_ERROR]),
        .payload = schedules_text(&at, &cols[SCHEDULES_AT_PAYLOAD]),
        .payload_size = (size_t)schedules_of(&cols[SCHEDULES_AT_SIZE]),
        .headers = read.all,
        .nheaders = read.n,
        .priority = (int)schedules_of(&cols[SCHEDULES_AT_PRIORITY]),
        .max_retries = (unsigned)schedules_of(&cols[SCHEDULES_AT_RETRIES]),
        .timeout_us = nq_us_of_ms(schedules_of(&cols[SCHEDULES_AT_TIMEOUT])),
        .jitter_us = schedules_of(&cols[SCHEDULES_AT_JITTER]),
        .misfire = (int)schedules_of(&cols[SCHEDULES_AT_MISFIRE]),
        .overlap = (int)schedules_of(&cols[SCHEDULES_AT_OVERLAP]),
        .task_id = schedules_of(&cols[SCHEDULES_AT_TASK]),
        .next_at_us = next >= NQ_SCHEDULES_NEVER ? 0 : next,
        .over = next >= NQ_SCHEDULES_NEVER,
        .last_at_us = schedules_of(&cols[SCHEDULES_AT_LAST]),
        .paused = cols[SCHEDULES_AT_PAUSED].type != NQ_VAL_NULL,
        .paused_at_us = schedules_of(&cols[SCHEDULES_AT_PAUSED]),
        .starts_at_us = schedules_of(&cols[SCHEDULES_AT_STARTS]),
        .ends_at_us = schedules_of(&cols[SCHEDULES_AT_ENDS]),
        .changed_at_us = schedules_of(&cols[SCHEDULES_AT_CHANGED]),
    };
    const char *group = nq_group_shown(nq_group_split((char *)(uintptr_t)row->queue), read.group);
    row->group = group ? group : "";
}

static int schedules_list_row(const nq_val cols[], size_t ncols, void *arg)
{
    struct schedules_rows *rows = arg;
    size_t n = nq_headers_room(cols[SCHEDULES_AT_HEADERS].p, cols[SCHEDULES_AT_HEADERS].n);
    (void)ncols;
    for (size_t i = 0; i <= SCHEDULES_AT_PAYLOAD; i++)
        n += cols[i].n + 1;
    struct schedules_listed **more =
        nq_grow(rows->all, rows->n, &rows->cap, sizeof(struct schedules_listed *));
    if (!more)
        return NQ_ENOMEM;
    rows->all = more;
    struct schedules_listed *const made = malloc(sizeof *made + n);
    if (!made)
        return NQ_ENOMEM;
    schedules_list_fill(&made->row, made->text, cols);
    rows->all[rows->n++] = made;
    return 0;
}

static void schedules_list_free(struct schedules_rows *rows)
{
    for (size_t i = 0; i < rows->n; i++)
        free(rows->all[i]);
    rows->n = 0;
}

static int schedules_list(nq_conn *c, void *arg, nq_err *err)
{
    struct schedules_rows *rows = arg;
    const nq_val name = nq_text(rows->name);
    schedules_list_free(rows);
    return nq_sql(c, rows->name ? SCHEDULES_LIST " WHERE name = ?" : SCHEDULES_LIST " ORDER BY name", &name,
                  rows->name ? 1 : 0, schedules_list_row, rows, NULL, err);
}

static int schedules_list_usable(nq *q, const char *name, bool nobody, nq_err *err)
{
    const int rc = nq_usable(q, err);
    if (rc != NQ_OK)
        return rc;
    if (nobody)
        return nq_err_set(err, NQ_EINVAL, "no function to show the schedules with was given");
    if (name && !nq_schedule_named(name))
        return nq_err_set(err, NQ_ENOTFOUND, "there is no schedule of that name: it is none");
    return nq_ready(q, err);
}

NQ_API int nq_schedule_list(nq *q, const char *name, nq_schedule_row_fn fn, void *udata, nq_err *err)
{
    struct schedules_rows rows = {.name = name};
    int rc = schedules_list_usable(q, name, !fn, err);
    if (rc == NQ_OK)
        rc = nq_store_do(nq_store_of(q), schedules_list, &rows, err);
    if (rc == NQ_OK && name && rows.n == 0)
        rc = nq_err_set(err, NQ_ENOTFOUND, "there is no schedule '%s'", name);
    for (size_t i = 0; rc == NQ_OK && i < rows.n; i++)
        if (fn(&rows.all[i]->row, udata))
            break;
    schedules_list_free(&rows);
    free(rows.all);
    return rc;
}

/* ---- Firings ---- */

#define SCHEDULES_MOST_FIRINGS 1000

struct schedules_firings {
    const char *name;
    size_t n, limit;
    nq_firing all[SCHEDULES_MOST_FIRINGS];
};

static int schedules_firing_row(const nq_val cols[], size_t ncols, void *arg)
{
    struct schedules_firings *f = arg;
    (void)ncols;
    if (f->n < f->limit)
        f->all[f->n++] = (nq_firing){schedules_of(&cols[0]), schedules_of(&cols[1]), schedules_of(&cols[2])};
    return 0;
}

static int schedules_firings(nq_conn *c, void *arg, nq_err *err)
{
    struct schedules_firings *f = arg;
    const nq_val args[] = {nq_text(f->name), nq_int((int64_t)f->limit)};
    f->n = 0;
    return nq_sql(
        c,
        "SELECT {us:due_at}, {us:made_at}, task_id FROM {firings} WHERE name = ? ORDER BY due_at DESC "
        "LIMIT ?",
        args, 2, schedules_firing_row, f, NULL, err);
}

NQ_API int nq_schedule_firings(nq *q, const char *name, unsigned limit, nq_firing_fn fn, void *udata,
                               nq_err *err)
{
    int rc = schedules_list_usable(q, name ? name : "", !fn, err);
    if (rc != NQ_OK)
        return rc;
    struct schedules_firings *const f = malloc(sizeof *f);
    if (!f)
        return nq_err_nomem(err);
    f->name = name;
    f->limit = limit < SCHEDULES_MOST_FIRINGS ? limit : SCHEDULES_MOST_FIRINGS;
    rc = nq_store_do(nq_store_of(q), schedules_firings, f, err);
    for (size_t i = 0; rc == NQ_OK && i < f->n; i++)
        if (fn(&f->all[i], udata))
            break;
    free(f);
    return rc;
}
