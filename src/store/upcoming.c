/* SPDX-License-Identifier: MIT */
/* When the next task is due that a claimer with a filter by type would take. */
#include <stdio.h>

#include "groups.h"

/*
 * What claimers look at in the index knows no types, so with a filter it does not say when to come again:
 * read on to the first task of the wanted types.
 */

static int upcoming_row(const nq_val cols[], size_t ncols, void *arg)
{
    nq_upcoming *u = arg;
    (void)ncols;
    if (cols[0].i < u->run_at)
        u->run_at = cols[0].i;
    u->now_us = cols[1].i;
    return 0;
}

/* A statement that is being made, and its values. */
struct upcoming_sql {
    nq_buf text;
    nq_val *args;
    size_t n;
};

static void upcoming_begin(const nq_upcoming *u, struct upcoming_sql *sql, const char *where)
{
    nq_buf_clear(&sql->text);
    nq_buf_fmt(&sql->text, "SELECT {us:run_at}, {us:now} FROM {tasks} {claim} WHERE %s AND {exact:type} IN (",
               where);
    for (size_t i = 0; i < u->ntypes; i++) {
        nq_buf_str(&sql->text, i ? ",?" : "?");
        sql->args[sql->n++] = nq_text(u->types[i]);
    }
    nq_buf_str(&sql->text, ")");
}

static int upcoming_run(nq_conn *c, nq_upcoming *u, struct upcoming_sql *sql, nq_err *err)
{
    nq_buf_str(&sql->text, " ORDER BY run_at, id LIMIT 1");
    return sql->text.failed ? nq_err_nomem(err)
                            : nq_sql(c, sql->text.p, sql->args, sql->n, upcoming_row, u, NULL, err);
}

/* What waits behind the head of an ordered group is not due while that one is not; nor is it in a halted one.
 */
static void upcoming_ordered(struct upcoming_sql *sql, const nq_setting *rows, size_t n)
{
    int ordered = NQ_ORDERED_NO;
    for (size_t i = 0; i < n; i++)
        ordered = rows[i].ordered > ordered ? rows[i].ordered : ordered;
    if (ordered > NQ_ORDERED_NO)
        nq_buf_str(&sql->text,
                   " AND NOT EXISTS (SELECT 1 FROM {gates} g CROSS JOIN {tasks} h ON h.id = g.head "
                   "AND h.queue = g.queue WHERE g.queue = {tasks}.queue AND h.id <> {tasks}.id AND "
                   "h.state = 0 AND h.run_at > {now})");
    if (ordered == NQ_ORDERED_HALT)
        nq_buf_str(&sql->text,
                   " AND NOT EXISTS (SELECT 1 FROM {gates} g CROSS JOIN {finished} f ON f.id = g.head "
                   "AND f.queue = g.queue WHERE g.queue = {tasks}.queue AND f.state = 3)");
}

/* Of all groups but those that are paused by themselves. */
static int upcoming_groups(nq_conn *c, nq_upcoming *u, struct upcoming_sql *sql, const nq_setting *rows,
                           size_t n, nq_err *err)
{
    char from[NQ_MAX_QUEUE + 3], to[NQ_MAX_QUEUE + 3];
    size_t paused = 0;
    snprintf(from, sizeof from, "%s//", u->queue);
    snprintf(to, sizeof to, "%s/0", u->queue); /* the next byte after '/' */
    sql->n = 0;
    sql->args[sql->n++] = nq_text(from);
    sql->args[sql->n++] = nq_text(to);
    upcoming_begin(u, sql, "queue > ? AND queue < ? AND state = 0");
    for (size_t i = 0; i < n; i++) {
        if (!rows[i].paused)
            continue;
        nq_buf_str(&sql->text, paused++ ? ",?" : " AND queue NOT IN (?");
        sql->args[sql->n++] = nq_text(rows[i].name);
    }
    nq_buf_str(&sql->text, paused ? ")" : "");
    upcoming_ordered(sql, rows, n);
    return upcoming_run(c, u, sql, err);
}

static int upcoming_look(nq_conn *c, void *arg, nq_err *err)
{
    nq_upcoming *u = arg;
    size_t n = 0;
    const nq_setting *rows = u->settings ? nq_settings_groups(u->settings, u->queue, &n) : NULL;
    const nq_setting *each = u->settings ? nq_settings_group_each(u->settings, u->queue) : NULL;
    struct upcoming_sql sql = {.args = calloc(u->ntypes + n + 2, sizeof *sql.args)};
    int rc = sql.args ? NQ_OK : nq_err_nomem(err);
    u->run_at = INT64_MAX;
    for (size_t i = 0; i < u->npriorities && rc == NQ_OK; i++) {
        sql.n = 0;
        sql.args[sql.n++] = nq_text(u->queue);
        sql.args[sql.n++] = nq_int(u->priorities[i]);
        upcoming_begin(u, &sql, "queue = ? AND state = 0 AND priority = ?");
        rc = upcoming_run(c, u, &sql, err);
    }
    if (rc == NQ_OK && u->groups && !(each && each->paused))
        rc = upcoming_groups(c, u, &sql, rows, n, err);
    nq_buf_free(&sql.text);
    free(sql.args);
    return rc;
}

NQ_PRIVATE int nq_upcoming_look(nq_store *s, nq_upcoming *u, nq_err *err)
{
    return nq_store_do(s, upcoming_look, u, err);
}
