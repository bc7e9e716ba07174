/* SPDX-License-Identifier: MIT */
/* MySQL and MariaDB: which tasks a claim may take, by its turns and types. */
#include <inttypes.h>

#include "../groups.h"
#include "mysql_driver.h"

#define MYSQL_CANDIDATES_AT "TIMESTAMP'1970-01-01 00:00:00' + INTERVAL %" PRId64 " MICROSECOND"

/* The cursor is one range of the index: (run_at, id) behind the last one claimed. */
static void mysql_candidates_due(nq_buf *b, const nq_claim_args *a)
{
    nq_buf_str(b, " FORCE INDEX (claim) WHERE queue=");
    nq_mysql_hex(b, "_ascii", a->queue, strlen(a->queue));
    nq_buf_fmt(b, " AND state=0 AND priority=%d AND run_at<=UTC_TIMESTAMP(6)", a->priority);
    if (a->from_run_at < NQ_TIME_FIRST)
        return;
    nq_buf_fmt(b, " AND (run_at>" MYSQL_CANDIDATES_AT, a->from_run_at);
    nq_buf_fmt(b, " OR (run_at=" MYSQL_CANDIDATES_AT " AND id>%" PRId64 "))", a->from_run_at, a->from_id);
}

NQ_PRIVATE nq_claim_args nq_mysql_turn(const nq_claim_args *a, size_t i, size_t *left)
{
    nq_claim_args turn = *a;
    if (a->nturns) {
        const nq_turn *t = &a->turns[i];
        turn.queue = t->queue;
        turn.priority = t->priority;
        turn.from_run_at = t->from_run_at;
        turn.from_id = t->from_id;
        turn.limit = t->most < *left ? t->most : *left;
    }
    *left -= turn.limit;
    return turn;
}

NQ_PRIVATE void nq_mysql_turn_where(nq_buf *b, const nq_claim_args *a, size_t i, const nq_claim_args *turn)
{
    if (a->nturns && a->turns[i].ordered)
        nq_mysql_order_where(&a->turns[i], b);
    else
        mysql_candidates_due(b, turn);
}

/* ---- Ids, read without locks ---- */

/* *ids is the caller's to free, sorted. */
static int mysql_candidates_read(nq_mysql_conn *c, const nq_buf *sql, uint64_t **ids, size_t *n, nq_err *err)
{
    MYSQL_RES *r = NULL;
    MYSQL_ROW row;
    int rc = nq_mysql_query_buf(c, sql, err);
    if (rc == NQ_OK)
        rc = nq_mysql_result(c, &r, err);
    if (rc != NQ_OK || !r)
        return rc;
    const size_t rows = (size_t)mysql_num_rows(r);
    uint64_t *list = calloc(rows ? rows : 1, sizeof *list);
    if (list) {
        size_t k = 0;
        while (k < rows && (row = mysql_fetch_row(r)))
            if (row[0])
                list[k++] = strtoull(row[0], NULL, 10);
        qsort(list, k, sizeof *list, nq_mysql_cmp_u64);
        *ids = list;
        *n = k;
    } else {
        rc = nq_err_nomem(err);
    }
    mysql_free_result(r);
    return rc;
}

NQ_PRIVATE int nq_mysql_candidates(nq_mysql_conn *c, const nq_claim_args *a, size_t skip, uint64_t **ids,
                                   size_t *n, nq_err *err)
{
    nq_buf b = {0};
    size_t left = a->limit;
    for (size_t k = 0; k < (a->nturns ? a->nturns : 1); k++) {
        const nq_claim_args turn = nq_mysql_turn(a, k, &left);
        nq_buf_fmt(&b, a->scan ? "%s(SELECT id FROM (SELECT id,type,run_at FROM %s" : "%s(SELECT id FROM %s",
                   k ? " UNION ALL " : "", nq_mysql_data_of(c->base.store)->tasks);
        nq_mysql_turn_where(&b, a, k, &turn);
        if (a->scan)
            nq_buf_fmt(&b, " ORDER BY run_at,id LIMIT %zu) s WHERE", a->scan);
        nq_buf_fmt(&b, "%s CAST(type AS BINARY)%s IN (", a->scan ? "" : " AND",
                   a->others ? " NOT" : ""); /* see {exact:COLUMN} */
        for (size_t i = 0; i < a->ntypes; i++) {
            const char *type = nq_claim_type(a, turn.queue, i);
            nq_buf_str(&b, i ? "," : "");
            nq_mysql_hex(&b, "_utf8mb4", type, strlen(type));
        }
        nq_buf_fmt(&b, ") ORDER BY run_at,id LIMIT %zu OFFSET %zu)", turn.limit, skip);
    }
    const int rc = mysql_candidates_read(c, &b, ids, n, err);
    nq_buf_free(&b);
    return rc;
}

NQ_PRIVATE bool nq_mysql_takes_firsts(const nq_claim_args *a)
{
    if (a->types || a->nturns < 2)
        return false;
    for (size_t i = 0; i < a->nturns; i++)
        if (a->turns[i].most > 1)
            return false;
    return true;
}

/* The turns as a table g (q, p, h): name, priority, and the task of an ordered one. MySQL has lists of values
 * from 8.0.19 on only; SELECTs cost MariaDB three times as much. */
static void mysql_firsts_turns(const nq_mysql_conn *c, const nq_claim_args *a, nq_buf *b)
{
    for (size_t i = 0; i < a->nturns && i < a->limit; i++) {
        const nq_turn *t = &a->turns[i];
        const char *as = c->mariadb ? "" : " AS q";
        nq_buf_str(b, c->mariadb ? i ? ",(" : "VALUES (" : i ? " UNION ALL SELECT " : "SELECT ");
        nq_mysql_hex(b, "_ascii", t->queue, strlen(t->queue));
        nq_buf_fmt(b, " COLLATE ascii_bin%s,%d%s,%" PRId64 "%s", as, t->priority, *as ? " AS p" : "",
                   t->ordered ? t->bucket->next : 0, *as ? " AS h" : ")");
    }
}

/* The LIMIT keeps the server from merging this with what is around it, where it would look for each twice.
 * ORDER BY has all columns of the index: MySQL does not take those that are another table's for constant, and
 * would sort all tasks of a group. */
NQ_PRIVATE void nq_mysql_firsts(const nq_mysql_conn *c, const nq_claim_args *a, nq_buf *b)
{
    nq_buf_str(b, c->mariadb ? "(WITH g (q,p,h) AS (" : "(");
    if (c->mariadb)
        mysql_firsts_turns(c, a, b);
    nq_buf_fmt(
        b,
        "%sSELECT g.q,COALESCE(NULLIF(CAST(g.h AS UNSIGNED),0),(SELECT t.id FROM %s t FORCE INDEX (claim) "
        "WHERE t.queue=g.q AND t.state=0 AND t.priority=g.p AND t.run_at<=UTC_TIMESTAMP(6) ORDER BY "
        "t.queue,t.state,t.priority,t.run_at,t.id LIMIT 1)) AS id FROM ",
        c->mariadb ? ") " : "", nq_mysql_data_of(c->base.store)->tasks);
    if (!c->mariadb) {
        nq_buf_str(b, "(");
        mysql_firsts_turns(c, a, b);
        nq_buf_str(b, ") ");
    }
    nq_buf_fmt(b, "g LIMIT %zu)", a->limit);
}
