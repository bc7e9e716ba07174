/* SPDX-License-Identifier: MIT */
/* SQLite: the groups of a queue. */
#include "../groups.h"
#include "sqlite_driver.h"

/* Behind all states and priorities, whatever their types: the next row is the next group's. */
#define SQLITE_GROUPS_LAST "\xff\xff\xff\xff\xff\xff\xff\xff"

/* Where in the index to look on: behind this state and priority of the group `after`. */
struct sqlite_groups_at {
    int priority;
    bool next_group;
};

/* Bind and step; true where there is a row. */
static int sqlite_groups_step(sqlite3_stmt *stmt, const nq_groups_look *look, struct sqlite_groups_at at)
{
    const int n = (int)look->after.n;
    if (sqlite3_bind_text(stmt, 1, look->after.p, n, SQLITE_STATIC) ||
        sqlite3_bind_text(stmt, 4, look->to, -1, SQLITE_STATIC))
        return SQLITE_ERROR;
    if (at.next_group ? sqlite3_bind_blob(stmt, 2, SQLITE_GROUPS_LAST, 8, SQLITE_STATIC) ||
                            sqlite3_bind_blob(stmt, 3, SQLITE_GROUPS_LAST, 8, SQLITE_STATIC)
                      : sqlite3_bind_int(stmt, 2, 0) || sqlite3_bind_int(stmt, 3, at.priority))
        return SQLITE_ERROR;
    return sqlite3_step(stmt);
}

/* A name that no queue may have is no group: it may be of any length, and is passed by. */
static bool sqlite_groups_named(sqlite3_stmt *stmt, nq_group *g)
{
    const int n = sqlite3_column_bytes(stmt, 0);
    const char *name = (const char *)sqlite3_column_text(stmt, 0);
    if (!name || n > NQ_MAX_QUEUE || strlen(name) != (size_t)n)
        return false;
    *g = (nq_group){.first_run_at = INT64_MAX};
    memcpy(g->queue, name, (size_t)n + 1);
    return true;
}

/* A row of a group that waits; false: there is nothing more to see of it. */
static bool sqlite_groups_level(sqlite3_stmt *stmt, nq_group *g, int64_t now, int *priority)
{
    const int type = sqlite3_column_type(stmt, 2), time = sqlite3_column_type(stmt, 3);
    const int64_t level = sqlite3_column_int64(stmt, 2), at = sqlite3_column_int64(stmt, 3);
    if (type != SQLITE_INTEGER || level < NQ_MIN_PRIORITY || level > NQ_MAX_PRIORITY ||
        (time != SQLITE_INTEGER && time != SQLITE_FLOAT)) {
        g->strange = true;
        *priority = NQ_MIN_PRIORITY - 1;
        return type == SQLITE_INTEGER && level < NQ_MIN_PRIORITY;
    }
    *priority = (int)level;
    if (at < g->first_run_at) {
        g->priority = (int)level;
        g->first_run_at = at == INT64_MIN || time == SQLITE_INTEGER ? at : at - 1;
    }
    return g->first_run_at > now;
}

/* Look at the row that the statement stands at. */
static void sqlite_groups_row(sqlite3_stmt *stmt, nq_groups_look *look, nq_group **group,
                              struct sqlite_groups_at *at)
{
    const bool same = sqlite3_column_bytes(stmt, 0) == (int)look->after.n && !at->next_group &&
                      memcmp(sqlite3_column_text(stmt, 0), look->after.p, look->after.n) == 0;
    look->some = true;
    at->next_group = true;
    if (!same) {
        if (look->n == look->most) {
            look->end = false;
            return;
        }
        *group = NULL;
        nq_buf_clear(&look->after);
        nq_buf_add(&look->after, sqlite3_column_text(stmt, 0), (size_t)sqlite3_column_bytes(stmt, 0));
    }
    if (sqlite3_column_type(stmt, 1) != SQLITE_INTEGER || sqlite3_column_int64(stmt, 1) != 0)
        return;
    if (!*group) {
        if (!sqlite_groups_named(stmt, &look->groups[look->n]))
            return;
        *group = &look->groups[look->n++];
    }
    at->next_group = !sqlite_groups_level(stmt, *group, look->now_us, &at->priority);
}

/* One seek for each group whose first task is due, and one for each priority where it is not. */
NQ_PRIVATE int nq_sqlite_groups(nq_conn *conn, nq_groups_look *look, nq_err *err)
{
    nq_sqlite_conn *c = (nq_sqlite_conn *)conn;
    struct sqlite_groups_at at = {0, true};
    nq_group *group = NULL;
    sqlite3_stmt *stmt;
    int step = SQLITE_ROW;
    int rc = nq_doubts_settle(&c->base, err);
    look->n = 0;
    look->end = true;
    look->now_us = nq_store_clock(c->base.store);
    if (rc == NQ_OK)
        rc = nq_sqlite_hot_get(c, NQ_SQLITE_GROUP,
                               "SELECT queue, state, priority, run_at FROM {tasks}"
                               " WHERE (queue, state, priority) > (?, ?, ?) AND queue < ?"
                               " ORDER BY queue, state, priority, run_at LIMIT 1",
                               &stmt, err);
    if (rc != NQ_OK)
        return rc;
    while (rc == NQ_OK && step == SQLITE_ROW && look->end) {
        if ((step = sqlite_groups_step(stmt, look, at)) == SQLITE_ROW)
            sqlite_groups_row(stmt, look, &group, &at);
        else if (step != SQLITE_DONE)
            rc = nq_sqlite_conn_error(c, err);
        sqlite3_reset(stmt);
        if (rc == NQ_OK && look->after.failed)
            rc = nq_err_nomem(err);
    }
    sqlite3_clear_bindings(stmt);
    return rc;
}
