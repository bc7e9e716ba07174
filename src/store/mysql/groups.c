/* SPDX-License-Identifier: MIT */
/* MySQL and MariaDB: the groups of a queue. */
#include "../groups.h"
#include "mysql_driver.h"

/* Levels of a group: so many of both states there may be at most. */
#define MYSQL_GROUPS_LEVELS ((size_t)2 * (NQ_MAX_PRIORITY - NQ_MIN_PRIORITY + 2))

/* Where many workers claim, most of what a look costs is to find how each row was before claims that are not
 * committed yet; and it finds groups that they have filled. The level holds for the next statement. */
#define MYSQL_GROUPS_DIRTY "SET TRANSACTION ISOLATION LEVEL READ UNCOMMITTED;"

/* Grouping by the first columns of the index makes it jump from one level to the next. The state is no
 * condition: with one the server would read every task. */
static int mysql_groups_ask(nq_mysql_conn *c, const nq_groups_look *look, size_t limit, nq_err *err)
{
    nq_buf b = {0};
    nq_buf_str(&b, "SELECT TIMESTAMPDIFF(MICROSECOND,'1970-01-01',UTC_TIMESTAMP(6));");
    nq_buf_str(&b, look->dirty ? MYSQL_GROUPS_DIRTY : "");
    nq_buf_str(&b, "SELECT queue,state,priority,TIMESTAMPDIFF(MICROSECOND,'1970-01-01',MIN(run_at)) FROM ");
    nq_buf_str(&b, nq_mysql_data_of(c->base.store)->tasks);
    nq_buf_str(&b, " FORCE INDEX (claim) WHERE queue>");
    nq_mysql_hex(&b, "_ascii", look->after.p, look->after.n);
    nq_buf_str(&b, " COLLATE ascii_bin AND queue<");
    nq_mysql_hex(&b, "_ascii", look->to, strlen(look->to));
    nq_buf_fmt(&b, " COLLATE ascii_bin GROUP BY queue,state,priority ORDER BY queue,state,priority LIMIT %zu",
               limit);
    const int rc = nq_mysql_query_buf(c, &b, err);
    nq_buf_free(&b);
    return rc;
}

static void mysql_groups_level(nq_group *g, bool first, const nq_groups_look *look, const MYSQL_ROW row)
{
    const long priority = row[2] ? strtol(row[2], NULL, 10) : 0;
    const int64_t at = row[3] ? strtoll(row[3], NULL, 10) : INT64_MIN;
    if (priority < NQ_MIN_PRIORITY || priority > NQ_MAX_PRIORITY) {
        g->strange = true;
    } else if (first || (g->first_run_at > look->now_us && at < g->first_run_at)) {
        g->priority = (int)priority;
        g->first_run_at = at;
    }
}

/* The groups of these rows. The last one may be cut off; then it is left for the next look, unless it is the
 * only one. */
static void mysql_groups_rows(MYSQL_RES *r, nq_groups_look *look, size_t limit, bool *only)
{
    const bool cut = mysql_num_rows(r) >= limit;
    const size_t before = look->n;
    nq_group *g = NULL;
    MYSQL_ROW row;
    char last[NQ_MAX_QUEUE + 1] = "", whole[NQ_MAX_QUEUE + 1] = "";
    while ((row = mysql_fetch_row(r))) {
        const size_t n = strlen(row[0]) > NQ_MAX_QUEUE ? NQ_MAX_QUEUE : strlen(row[0]);
        look->some = true;
        if (strncmp(row[0], last, sizeof last) != 0) {
            if (look->n == look->most)
                break;
            memcpy(whole, last, sizeof last);
            memcpy(last, row[0], n);
            last[n] = '\0';
            g = NULL;
        }
        if (g && row[1] && row[1][0] == '1')
            g->running = true;
        if (row[1] && row[1][0] == '0') {
            const bool first = !g;
            if (first) {
                g = &look->groups[look->n++];
                *g = (nq_group){.first_run_at = INT64_MAX};
                memcpy(g->queue, last, sizeof last);
            }
            mysql_groups_level(g, first || g->first_run_at == INT64_MAX, look, row);
        }
    }
    *only = cut && !row && !*whole && *last && limit < MYSQL_GROUPS_LEVELS;
    look->end = !cut && !row;
    if (cut && !row && *whole) {
        if (look->n > before && strcmp(look->groups[look->n - 1].queue, last) == 0)
            look->n--;
        memcpy(last, whole, sizeof last);
    }
    if (*last && !*only) {
        nq_buf_clear(&look->after);
        nq_buf_str(&look->after, last);
    }
}

/* One reading of up to so many rows. */
static int mysql_groups_read(nq_mysql_conn *c, nq_groups_look *look, size_t limit, bool *only, nq_err *err)
{
    MYSQL_RES *r = NULL;
    int rc = mysql_groups_ask(c, look, limit, err);
    if (rc == NQ_OK)
        rc = nq_mysql_result(c, &r, err);
    if (rc != NQ_OK)
        return rc;
    const MYSQL_ROW row = r ? mysql_fetch_row(r) : NULL;
    look->now_us = row && row[0] ? strtoll(row[0], NULL, 10) : 0;
    if (r)
        mysql_free_result(r);
    r = NULL;
    if (look->dirty)
        rc = nq_mysql_next(c, err);
    if (rc == NQ_OK)
        rc = nq_mysql_next(c, err);
    if (rc == NQ_OK)
        rc = nq_mysql_result(c, &r, err);
    if (r) {
        mysql_groups_rows(r, look, limit, only);
        mysql_free_result(r);
    }
    return rc;
}

NQ_PRIVATE int nq_mysql_groups(nq_conn *conn, nq_groups_look *look, nq_err *err)
{
    nq_mysql_conn *c = nq_mysql_of(conn);
    size_t limit = 2 * look->most + 1;
    bool only = true;
    int rc = nq_doubts_settle(&c->base, err);
    look->n = 0;
    while (rc == NQ_OK && only) {
        only = false;
        rc = mysql_groups_read(c, look, limit, &only, err);
        if (only) { /* it has more levels than were asked for: again from before it */
            look->n = 0;
            limit = MYSQL_GROUPS_LEVELS;
        }
    }
    if (rc != NQ_OK && look->dirty)
        c->base.broken = true; /* a claim would be the next statement: it counts what is committed */
    return rc != NQ_OK ? rc : look->after.failed ? nq_err_nomem(err) : NQ_OK;
}
