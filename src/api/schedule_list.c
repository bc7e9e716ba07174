/* SPDX-License-Identifier: MIT */
/* Schedules: listed, with what came of their times. */
#include "api.h"

enum schedule_list_at {
    SCHEDULE_AT_NAME,
    SCHEDULE_AT_SPEC,
    SCHEDULE_AT_ZONE,
    SCHEDULE_AT_QUEUE,
    SCHEDULE_AT_TYPE,
    SCHEDULE_AT_WHY,
    SCHEDULE_AT_SOURCE,
    SCHEDULE_AT_ERROR,
    SCHEDULE_AT_PAYLOAD,
    SCHEDULE_AT_HEADERS, /* up to here texts */
    SCHEDULE_AT_SIZE,
    SCHEDULE_AT_PRIORITY,
    SCHEDULE_AT_RETRIES,
    SCHEDULE_AT_TIMEOUT,
    SCHEDULE_AT_JITTER,
    SCHEDULE_AT_MISFIRE,
    SCHEDULE_AT_OVERLAP,
    SCHEDULE_AT_TASK,
    SCHEDULE_AT_NEXT,
    SCHEDULE_AT_LAST,
    SCHEDULE_AT_PAUSED,
    SCHEDULE_AT_STARTS,
    SCHEDULE_AT_ENDS,
    SCHEDULE_AT_CHANGED,
    SCHEDULE_AT_COUNT
};
#define SCHEDULE_LIST                                                                                        \
    "SELECT {bytes:name}, {bytes:spec}, {bytes:zone}, {bytes:queue}, {bytes:type}, {bytes:paused_why}, "     \
    "{bytes:source}, {bytes:error}, SUBSTR({bytes:payload}, 1, 256), {short:headers}, {size:payload}, "      \
    "priority, max_retries, timeout_ms, jitter_us, misfire, overlap, task_id, {us:next_at}, {us:last_at}, "  \
    "{us:paused_at}, {us:starts_at}, {us:ends_at}, {us:changed_at} FROM {schedules}"

struct schedule_listed {
    nq_schedule_row row;
    char text[];
};

struct schedule_rows {
    const char *name;
    struct schedule_listed **all;
    size_t n, cap;
};

static const char *schedule_text(char **at, const nq_val *v)
{
    char *const text = *at;
    memcpy(text, v->n ? v->p : "", v->n);
    text[v->n] = '\0';
    *at += v->n + 1;
    return text;
}

static int64_t schedule_of(const nq_val *v)
{
    return v->type == NQ_VAL_INT ? v->i : 0;
}

static void schedule_list_fill(nq_schedule_row *row, char *at, const nq_val cols[])
{
    const nq_val *headers = &cols[SCHEDULE_AT_HEADERS];
    nq_headers read = {0};
    if (nq_headers_room(headers->p, headers->n)) /* first: there it is aligned */
        at = nq_headers_read(&read, at, headers->p, headers->n);
    const int64_t next = schedule_of(&cols[SCHEDULE_AT_NEXT]);
    *row = (nq_schedule_row){
        .name = schedule_text(&at, &cols[SCHEDULE_AT_NAME]),
        .spec = schedule_text(&at, &cols[SCHEDULE_AT_SPEC]),
        .zone = schedule_text(&at, &cols[SCHEDULE_AT_ZONE]),
        .queue = schedule_text(&at, &cols[SCHEDULE_AT_QUEUE]),
        .type = schedule_text(&at, &cols[SCHEDULE_AT_TYPE]),
        .paused_why = schedule_text(&at, &cols[SCHEDULE_AT_WHY]),
        .source = schedule_text(&at, &cols[SCHEDULE_AT_SOURCE]),
        .error = schedule_text(&at, &cols[SCHEDULE_AT_ERROR]),
        .payload = schedule_text(&at, &cols[SCHEDULE_AT_PAYLOAD]),
        .payload_size = (size_t)schedule_of(&cols[SCHEDULE_AT_SIZE]),
        .headers = read.all,
        .nheaders = read.n,
        .priority = (int)schedule_of(&cols[SCHEDULE_AT_PRIORITY]),
        .max_retries = (unsigned)schedule_of(&cols[SCHEDULE_AT_RETRIES]),
        .timeout_us = nq_us_of_ms(schedule_of(&cols[SCHEDULE_AT_TIMEOUT])),
        .jitter_us = schedule_of(&cols[SCHEDULE_AT_JITTER]),
        .misfire = (int)schedule_of(&cols[SCHEDULE_AT_MISFIRE]),
        .overlap = (int)schedule_of(&cols[SCHEDULE_AT_OVERLAP]),
        .task_id = schedule_of(&cols[SCHEDULE_AT_TASK]),
        .next_at_us = next >= NQ_SCHEDULES_NEVER ? 0 : next,
        .over = next >= NQ_SCHEDULES_NEVER,
        .last_at_us = schedule_of(&cols[SCHEDULE_AT_LAST]),
        .paused = cols[SCHEDULE_AT_PAUSED].type != NQ_VAL_NULL,
        .paused_at_us = schedule_of(&cols[SCHEDULE_AT_PAUSED]),
        .starts_at_us = schedule_of(&cols[SCHEDULE_AT_STARTS]),
        .ends_at_us = schedule_of(&cols[SCHEDULE_AT_ENDS]),
        .changed_at_us = schedule_of(&cols[SCHEDULE_AT_CHANGED]),
    };
    const char *group = nq_group_shown(nq_group_split((char *)(uintptr_t)row->queue), read.group);
    row->group = group ? group : "";
}

static int schedule_list_row(const nq_val cols[], size_t ncols, void *arg)
{
    struct schedule_rows *rows = arg;
    size_t n = nq_headers_room(cols[SCHEDULE_AT_HEADERS].p, cols[SCHEDULE_AT_HEADERS].n);
    (void)ncols;
    for (size_t i = 0; i <= SCHEDULE_AT_PAYLOAD; i++)
        n += cols[i].n + 1;
    struct schedule_listed **more = nq_grow(rows->all, rows->n, &rows->cap, sizeof(struct schedule_listed *));
    if (!more)
        return NQ_ENOMEM;
    rows->all = more;
    struct schedule_listed *const made = malloc(sizeof *made + n);
    if (!made)
        return NQ_ENOMEM;
    schedule_list_fill(&made->row, made->text, cols);
    rows->all[rows->n++] = made;
    return 0;
}

static void schedule_list_free(struct schedule_rows *rows)
{
    for (size_t i = 0; i < rows->n; i++)
        free(rows->all[i]);
    rows->n = 0;
}

static int schedule_list(nq_conn *c, void *arg, nq_err *err)
{
    struct schedule_rows *rows = arg;
    const nq_val name = nq_text(rows->name);
    schedule_list_free(rows);
    return nq_sql(c, rows->name ? SCHEDULE_LIST " WHERE name = ?" : SCHEDULE_LIST " ORDER BY name", &name,
                  rows->name ? 1 : 0, schedule_list_row, rows, NULL, err);
}

static int schedule_list_usable(nq *q, const char *name, bool nobody, nq_err *err)
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
    struct schedule_rows rows = {.name = name};
    int rc = schedule_list_usable(q, name, !fn, err);
    if (rc == NQ_OK)
        rc = nq_store_do(nq_store_of(q), schedule_list, &rows, err);
    if (rc == NQ_OK && name && rows.n == 0)
        rc = nq_err_set(err, NQ_ENOTFOUND, "there is no schedule '%s'", name);
    for (size_t i = 0; rc == NQ_OK && i < rows.n; i++)
        if (fn(&rows.all[i]->row, udata))
            break;
    schedule_list_free(&rows);
    free(rows.all);
    return rc;
}

/* ---- Firings ---- */

#define SCHEDULE_MOST_FIRINGS 1000

struct schedule_firings {
    const char *name;
    size_t n, limit;
    nq_firing all[SCHEDULE_MOST_FIRINGS];
};

static int schedule_firing_row(const nq_val cols[], size_t ncols, void *arg)
{
    struct schedule_firings *f = arg;
    (void)ncols;
    if (f->n < f->limit)
        f->all[f->n++] = (nq_firing){schedule_of(&cols[0]), schedule_of(&cols[1]), schedule_of(&cols[2])};
    return 0;
}

static int schedule_firings(nq_conn *c, void *arg, nq_err *err)
{
    struct schedule_firings *f = arg;
    const nq_val args[] = {nq_text(f->name), nq_int((int64_t)f->limit)};
    f->n = 0;
    return nq_sql(
        c,
        "SELECT {us:due_at}, {us:made_at}, task_id FROM {firings} WHERE name = ? ORDER BY due_at DESC "
        "LIMIT ?",
        args, 2, schedule_firing_row, f, NULL, err);
}

NQ_API int nq_schedule_firings(nq *q, const char *name, unsigned limit, nq_firing_fn fn, void *udata,
                               nq_err *err)
{
    int rc = schedule_list_usable(q, name ? name : "", !fn, err);
    if (rc != NQ_OK)
        return rc;
    struct schedule_firings *const f = malloc(sizeof *f);
    if (!f)
        return nq_err_nomem(err);
    f->name = name;
    f->limit = limit < SCHEDULE_MOST_FIRINGS ? limit : SCHEDULE_MOST_FIRINGS;
    rc = nq_store_do(nq_store_of(q), schedule_firings, f, err);
    for (size_t i = 0; rc == NQ_OK && i < f->n; i++)
        if (fn(&f->all[i], udata))
            break;
    free(f);
    return rc;
}
