/* SPDX-License-Identifier: MIT */
/* MySQL and MariaDB: what a claim under limits sends. Why so: gates.c. */
#include <inttypes.h>
#include <stdlib.h>

#include "../groups.h"
#include "gates.h"

#ifdef NQ_FAULT_NO_GATE /* of tests/fault only: the gates are no locks, and the fault run has to find that   \
                         */
#define MYSQL_GATES_LOCK ""
#define MYSQL_GATES_PASS ""
#else
#define MYSQL_GATES_LOCK " FOR UPDATE"
#define MYSQL_GATES_PASS " FOR UPDATE SKIP LOCKED"
#endif

/* The ids that this turn brought, in their order: "7,9". */
static void mysql_gates_ids(nq_buf *b, size_t turn, const nq_mysql_batch *batch)
{
    const size_t before = b->n;
    for (const nq_claimed *k = batch->list.head; k; k = k->next)
        if (k->turn == turn)
            nq_buf_fmt(b, "%s%" PRId64, b->n > before ? "," : "", k->task.id);
}

/* Are the rates still where the look saw them? */
static void mysql_gates_same(const nq_claim_args *a, nq_buf *b)
{
    nq_buf_fmt(b, "tat=CASE queue WHEN '' THEN 0");
    for (size_t i = 0; i <= a->nturns; i++) {
        const bool queue = i == a->nturns;
        if ((queue ? a->gate->rate.every_ns : a->turns[i].rate.every_ns) == 0)
            continue;
        nq_buf_str(b, " WHEN ");
        nq_mysql_gates_name(b, queue ? a->gate->queue : a->turns[i].queue);
        nq_buf_fmt(b, " THEN %" PRId64, queue ? a->gate->bucket->tat_ns : a->turns[i].bucket->tat_ns);
    }
    nq_buf_str(b, " ELSE tat END");
}

/* Lock that of the queue, where it has one, and then those of the groups. */
static void mysql_gates_lock(const nq_mysql_conn *c, const nq_claim_args *a, nq_buf *b)
{
    if (nq_mysql_gates_queue(c, a)) {
        nq_buf_fmt(b, "SELECT %s INTO @nanoq_gate FROM ", c->nodes ? "MAX(grants)" : "COUNT(*)");
        nq_mysql_gates_table(c, b);
        nq_buf_str(b, " FORCE INDEX (PRIMARY) WHERE queue=");
        nq_mysql_gates_name(b, a->gate->queue);
        nq_buf_str(b, " AND ");
        mysql_gates_same(a, b);
        nq_buf_str(b, " AND " NQ_MYSQL_GATES_OPEN MYSQL_GATES_LOCK ";");
    }
    nq_buf_str(b, "SELECT GROUP_CONCAT(IF(" NQ_MYSQL_GATES_OPEN " AND ");
    mysql_gates_same(a, b);
    nq_buf_str(b, ",FIELD(queue,");
    nq_mysql_gates_names(c, b, a);
    nq_buf_str(b, "),NULL)) INTO @nanoq_gates FROM ");
    nq_mysql_gates_table(c, b);
    nq_buf_str(b, " FORCE INDEX (PRIMARY) WHERE queue IN (");
    nq_mysql_gates_names(c, b, a);
    nq_buf_str(b, ")" MYSQL_GATES_PASS ";");
}

/* The ids of a claim's candidates in its order, "7,9"; and of each, in lists alike: its place among those of
 * its turn from 1, its gate's place in @nanoq_gates or 0, how many of its group may run or NULL. */
struct mysql_gates_few {
    nq_buf ids, places, gates, mosts;
    bool several; /* of one turn */
};

static void mysql_gates_few(struct mysql_gates_few *few, const nq_mysql_conn *c, const nq_claim_args *a,
                            const nq_claimed *head)
{
    *few = (struct mysql_gates_few){.several = false};
    /* Of each turn its gate's place, and how many of the candidates are its so far. */
    struct {
        size_t gate, places;
    } *const turns = calloc(a->nturns + 1, sizeof *turns);
    few->ids.failed = !turns;
    if (!turns)
        return;
    for (size_t i = 0, gates = 0; i < a->nturns; i++)
        if (nq_mysql_gates_turn(c, &a->turns[i]))
            turns[i].gate = ++gates;
    for (const nq_claimed *k = head; k; k = k->next) {
        if (k->turn == a->nturns)
            continue;
        const nq_turn *t = &a->turns[k->turn];
        const size_t place = ++turns[k->turn].places;
        const char *comma = few->ids.n ? "," : "";
        few->several = few->several || place > 1;
        nq_buf_fmt(&few->ids, "%s%" PRId64, comma, k->task.id);
        nq_buf_fmt(&few->places, "%s%zu", comma, place);
        nq_buf_fmt(&few->gates, "%s%zu", comma, turns[k->turn].gate);
        if (nq_mysql_gates_counts(c, t))
            nq_buf_fmt(&few->mosts, "%s%" PRId64, comma, t->max_running);
        else
            nq_buf_fmt(&few->mosts, "%sNULL", comma);
    }
    free(turns);
    if (few->ids.n == 0) { /* each of them is of no turn */
        nq_buf_str(&few->ids, "NULL");
        nq_buf_str(&few->gates, "NULL");
    }
}

static void mysql_gates_few_free(struct mysql_gates_few *few)
{
    nq_buf_free(&few->ids);
    nq_buf_free(&few->places);
    nq_buf_free(&few->gates);
    nq_buf_free(&few->mosts);
}

/* Of the candidate x. */
static void mysql_gates_of(const struct mysql_gates_few *few, const nq_buf *what, nq_buf *b)
{
    nq_buf_fmt(b, "ELT(FIELD(x.id,%s),%s)", few->ids.p, what->p);
}

/* What the limits of the groups leave. Where there is one of each, how many run is counted for each: to count
 * them for all groups and then to join costs the server more. */
static void mysql_gates_left_of(const nq_mysql_conn *c, const nq_claim_args *a,
                                const struct mysql_gates_few *few, nq_buf *b)
{
    size_t limited = 0;
    while (limited < a->nturns && !nq_mysql_gates_counts(c, &a->turns[limited]))
        limited++;
    if (limited == a->nturns || few->mosts.n == 0)
        return;
    if (few->several) {
        nq_buf_str(b, " AND COALESCE(COALESCE(r.n,0)+");
        mysql_gates_of(few, &few->places, b);
        nq_buf_str(b, "<=");
    } else {
        nq_buf_fmt(b,
                   " AND COALESCE((SELECT COUNT(*) FROM %s r FORCE INDEX (claim) WHERE r.queue=x.queue AND "
                   "r.state=1)<",
                   nq_mysql_data_of(c->base.store)->tasks);
    }
    mysql_gates_of(few, &few->mosts, b);
    nq_buf_str(b, ",1)");
}

/* Of an ordered group its next task, as it is now. */
static void mysql_gates_next(const nq_mysql_conn *c, const nq_claim_args *a, const nq_mysql_batch *batch,
                             nq_buf *b)
{
    size_t n = 0;
    for (const nq_claimed *k = batch->list.head; k; k = k->next) {
        if (k->turn == a->nturns || !a->turns[k->turn].ordered)
            continue;
        nq_buf_fmt(b, "%s WHEN %" PRId64 " THEN %" PRId64 "=", n++ ? "" : " AND CASE x.id", k->task.id,
                   k->task.id);
        nq_mysql_order_next(c, &a->turns[k->turn], b);
    }
    nq_buf_str(b, n ? " ELSE 1 END" : "");
}

/*
 * @nanoq_take becomes the ids that are taken: of each group as many as its limit leaves behind those that
 * run, and of them as many as the limit of the queue leaves. A statement sees what was committed when it
 * began, and what is counted has to have been committed when the gates were locked: so it is one of its own.
 */
NQ_PRIVATE void nq_mysql_gates_text(const nq_mysql_conn *c, const nq_claim_args *a,
                                    const nq_mysql_batch *batch, nq_buf *b)
{
    const bool queue = nq_mysql_gates_queue(c, a);
    struct mysql_gates_few few;
    mysql_gates_few(&few, c, a, batch->list.head);
    b->failed = b->failed || few.ids.failed || few.places.failed || few.gates.failed || few.mosts.failed;
    if (b->failed)
        goto out;
    mysql_gates_lock(c, a, b);
    nq_buf_str(b, queue ? "SELECT COALESCE(SUBSTRING_INDEX(GROUP_CONCAT(x.id ORDER BY FIELD(x.id,"
                        : "SELECT COALESCE(GROUP_CONCAT(x.id)");
    if (queue) /* without its row, or where it is not as it was: nothing */
        nq_buf_fmt(b, "%s)),',',%s", few.ids.p, c->nodes ? "(@nanoq_gate IS NOT NULL)*" : "@nanoq_gate*");
    if (a->gate->max_running) {
        nq_buf_fmt(b, "GREATEST(0,%" PRId64 "-", a->gate->max_running);
        nq_mysql_gates_count_all(c, a->gate, b);
        nq_buf_str(b, "))");
    } else if (queue) {
        nq_buf_fmt(b, "%zu)", batch->list.n);
    }
    nq_buf_fmt(b, ",'') INTO @nanoq_take FROM %s x FORCE INDEX (PRIMARY)",
               nq_mysql_data_of(c->base.store)->tasks);
    if (few.several) {
        nq_buf_str(b, " LEFT JOIN (");
        nq_mysql_gates_counts_of(c, b, a);
        nq_buf_str(b, ") r ON r.queue=x.queue");
    }
    nq_buf_fmt(b, " WHERE x.id IN (%s) AND FIND_IN_SET(", few.ids.p);
    mysql_gates_of(&few, &few.gates, b);
    nq_buf_str(b, ",CONCAT_WS(',','0',@nanoq_gates))");
    mysql_gates_left_of(c, a, &few, b);
    mysql_gates_next(c, a, batch, b);
    nq_buf_str(b, ";SELECT @nanoq_take;");
out:
    mysql_gates_few_free(&few);
}

NQ_PRIVATE void nq_mysql_gates_grant(const nq_mysql_conn *c, const nq_claim_args *a, nq_buf *b)
{
    if (!a->gate || !c->nodes)
        return;
    nq_buf_str(b, " STRAIGHT_JOIN ");
    nq_mysql_gates_table(c, b);
    nq_buf_str(b, " g FORCE INDEX (PRIMARY) ON g.grants=@nanoq_gate AND g.queue=");
    nq_mysql_gates_name(b, a->gate->queue);
}

/* One row of what is written: the name, where the rate was, a start in so long, and how many were taken. */
static void mysql_gates_used(nq_buf *b, size_t n, const char *name, const nq_bucket *bucket)
{
    nq_buf_str(b, n > 0 ? " UNION ALL SELECT " : "SELECT ");
    nq_mysql_gates_name(b, name);
    nq_buf_fmt(b, " AS q,%" PRId64 " AS f,%" PRId64 " AS t,", bucket->tokens.first_ns, bucket->rate.every_ns);
}

NQ_PRIVATE int nq_mysql_gates_write(const nq_mysql_conn *c, const nq_claim_args *a,
                                    const nq_mysql_batch *batch, nq_buf *b)
{
    nq_buf rows = {0}, ids = {0};
    size_t n = 0;
    if (a->gate->rate.every_ns > 0) {
        mysql_gates_used(&rows, n++, a->gate->queue, a->gate->bucket);
        nq_buf_str(&rows,
                   "IF(@nanoq_take='',0,LENGTH(@nanoq_take)-LENGTH(REPLACE(@nanoq_take,',',''))+1) AS n");
    }
    for (size_t i = 0; i < a->nturns; i++) {
        nq_buf_clear(&ids);
        mysql_gates_ids(&ids, i, batch);
        if (a->turns[i].rate.every_ns == 0 || ids.n == 0)
            continue;
        mysql_gates_used(&rows, n++, a->turns[i].queue, a->turns[i].bucket);
        nq_buf_str(&rows, "0");
        char *rest = NULL;
        for (char *id = ids.failed ? NULL : strtok_r(ids.p, ",", &rest); id; id = strtok_r(NULL, ",", &rest))
            nq_buf_fmt(&rows, "+(FIND_IN_SET(%s,@nanoq_take)>0)", id);
        nq_buf_str(&rows, " AS n");
    }
    b->failed = b->failed || rows.failed || ids.failed;
    /* Only rows that are locked: an UPDATE would wait for those of others, to see that it need not. */
    if (n > 0 && !b->failed) {
        nq_buf_str(b, ";INSERT INTO ");
        nq_mysql_gates_table(c, b);
        nq_buf_fmt(b, " (queue,tat) SELECT q,f+t*n FROM (%s) x WHERE n>0 ON DUPLICATE KEY UPDATE tat=IF(",
                   rows.p);
        mysql_gates_same(a, b);
        nq_buf_str(b, ",VALUES(tat),tat)");
    }
    nq_buf_free(&rows);
    nq_buf_free(&ids);
    return (n > 0) + nq_mysql_order_write(c, a, b);
}

/* The answers to the above, up to that of the UPDATE. */
NQ_PRIVATE bool nq_mysql_gates_read(nq_mysql_conn *c, const nq_claim_args *a, uint64_t **ids, size_t *n)
{
    for (int i = nq_mysql_gates_queue(c, a) ? 3 : 2; i > 0; i--)
        if (mysql_next_result(c->my) != 0)
            return false;
    MYSQL_RES *r = mysql_store_result(c->my);
    if (!r)
        return false;
    const MYSQL_ROW row = mysql_fetch_row(r);
    char *at = row && row[0] ? row[0] : NULL;
    const size_t most = *n;
    *n = 0;
    *ids = calloc(most, sizeof **ids); /* without memory *n stays 0, and what was taken is looked up */
    while (*ids && at && *at && *n < most) {
        (*ids)[(*n)++] = strtoull(at, &at, 10);
        at += *at == ',';
    }
    mysql_free_result(r);
    if (*ids)
        qsort(*ids, *n, sizeof **ids, nq_mysql_cmp_u64);
    return mysql_next_result(c->my) == 0;
}
