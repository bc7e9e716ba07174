/* SPDX-License-Identifier: MIT */
/* Holds: a handler says that nothing of its queue or group is to start for a while. */
#include "settings.h"

/*
 * A hold is the time not_before of a gate. Claims under a limit see it behind the lock of the gate. All
 * others learn of it with the settings, twice a second and at once on the same host: one look into an index
 * that is empty where nobody holds anything.
 */
#define HOLDS_MAX "1000" /* so many are heeded, those that last longest */

/* ---- Writing ---- */

struct holds_write {
    const char *name;
    nq_id id;
    uint64_t lease;
    int64_t us;
};

static int holds_write(nq_conn *c, void *arg, nq_err *err)
{
    const struct holds_write *w = arg;
    const nq_val task[] = {nq_int(w->id), nq_int((int64_t)w->lease)}, name = nq_text(w->name);
    const nq_val longer[] = {nq_int(w->us), nq_int(w->us), nq_text(w->name)},
                 first[] = {nq_text(w->name), nq_int(w->us)};
    bool ours = false, there = false;
    int rc = nq_sql(c, "SELECT 1 FROM {tasks} {by_id} WHERE id = ? AND state = 1 AND lease = ?", task, 2,
                    nq_row_any, &ours, NULL, err);
    if (rc == NQ_OK && !ours)
        return nq_err_set(err, NQ_ELEASE, "the task is another's by now, or gone: it holds nothing");
    if (rc == NQ_OK)
        rc = nq_sql(c, "SELECT 1 FROM {gates} WHERE queue = ? {lock}", &name, 1, nq_row_any, &there, NULL,
                    err);
    if (rc != NQ_OK)
        return rc;
    if (there) /* a longer one stays */
        return nq_sql(
            c,
            "UPDATE {gates} SET not_before = CASE WHEN not_before > {after} THEN not_before ELSE {after} "
            "END WHERE queue = ?",
            longer, 3, NULL, NULL, NULL, err);
    rc = nq_sql(c, "INSERT INTO {gates} (queue, not_before) VALUES (?, {after})", first, 2, NULL, NULL, NULL,
                err);
    return rc == NQ_EDUPLICATE ? nq_err_set(err, NQ_ECONFLICT, "the gate was made by another meanwhile") : rc;
}

NQ_PRIVATE int nq_store_hold(nq_store *s, const char *name, nq_id id, uint64_t lease, int64_t us, nq_err *err)
{
    struct holds_write w = {name, id, lease, us};
    return nq_store_tx(s, holds_write, &w, err);
}

/* ---- Reading ---- */

struct holds_reading {
    nq_settings *s;
    size_t cap;
};

static int holds_row(const nq_val cols[], size_t ncols, void *arg)
{
    struct holds_reading *r = arg;
    nq_settings *s = r->s;
    (void)ncols;
    const nq_val *name = &cols[0];
    if (name->type != NQ_VAL_TEXT || name->n > NQ_MAX_QUEUE || memchr(name->p, '\0', name->n) ||
        cols[1].type != NQ_VAL_INT)
        return 0;
    nq_hold *more = nq_grow(s->holds, s->nholds, &r->cap, sizeof *more);
    if (!more)
        return NQ_ENOMEM;
    s->holds = more;
    nq_hold *to = &s->holds[s->nholds++];
    memset(to, 0, sizeof *to);
    memcpy(to->name, name->p, name->n);
    const int64_t left = nq_us_since(cols[1].i, cols[2].i);
    to->until_us = nq_mono_us() + (left < 0 ? 0 : left < NQ_MAX_DURATION ? left : NQ_MAX_DURATION);
    return 0;
}

static int holds_compare(const void *a, const void *b)
{
    return strcmp(((const nq_hold *)a)->name, ((const nq_hold *)b)->name);
}

NQ_PRIVATE int nq_holds_read(nq_conn *c, nq_settings *s, nq_err *err)
{
    struct holds_reading r = {.s = s};
    free(s->holds);
    s->holds = NULL;
    s->nholds = 0;
    const int rc =
        nq_sql(c,
               "SELECT queue, {us:not_before}, {us:now} FROM {gates} WHERE not_before > {now} ORDER BY "
               "not_before DESC LIMIT " HOLDS_MAX,
               NULL, 0, holds_row, &r, NULL, err);
    if (rc == NQ_OK && s->nholds > 1)
        qsort(s->holds, s->nholds, sizeof *s->holds, holds_compare);
    return rc;
}

static int64_t holds_find(const nq_settings *s, const char *name, size_t n)
{
    nq_hold key;
    if (n > NQ_MAX_QUEUE)
        return 0;
    memcpy(key.name, name, n);
    key.name[n] = '\0';
    const nq_hold *h = bsearch(&key, s->holds, s->nholds, sizeof *h, holds_compare);
    return h ? h->until_us : 0;
}

NQ_PRIVATE int64_t nq_settings_held(const nq_settings *s, const char *name)
{
    if (s->nholds == 0)
        return 0;
    const size_t base = nq_queue_base(name), n = strlen(name);
    const int64_t own = holds_find(s, name, n), all = base < n ? holds_find(s, name, base) : 0;
    return own > all ? own : all;
}
