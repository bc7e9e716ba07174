/* SPDX-License-Identifier: MIT */
/* MySQL and MariaDB: which task of an ordered group may be claimed. */
#include <inttypes.h>

#include "../groups.h"
#include "mysql_driver.h"

/*
 * The gate of an ordered group names the task that was claimed last, its head. Nothing else of the group is
 * claimed while that one waits or runs, in this group; where a dead one halts the group, nor while it is
 * dead. So the place of a task that has begun is kept by a claim, in the claim's own transaction, and
 * whatever ends the task, or puts it off, need not know of order. Else the first one that is due is claimed,
 * by priority, time and id.
 *
 * Which one that is, is asked twice: by the look, and again behind the lock of the gate, where it has to be
 * the same. A first task whose row somebody has locked keeps the second one from being taken for it.
 */

static void mysql_order_gate(const nq_mysql_conn *c, const char *queue, const char *table, nq_buf *b)
{
    const char *prefix = c->base.store->prefix;
    nq_buf_fmt(b,
               " FROM `%sgates` g FORCE INDEX (PRIMARY) STRAIGHT_JOIN `%s%s` t FORCE INDEX (PRIMARY) ON "
               "t.id=g.head AND t.queue=g.queue WHERE g.queue=",
               prefix, prefix, table);
    nq_mysql_hex(b, "_ascii", queue, strlen(queue));
}

static void mysql_order_halted(const nq_mysql_conn *c, const nq_turn *t, const char *what, nq_buf *b)
{
    if (t->ordered != NQ_ORDERED_HALT)
        return;
    nq_buf_fmt(b, "(SELECT %s", what);
    mysql_order_gate(c, t->queue, "finished", b);
    nq_buf_fmt(b, " AND t.state=%d),", NQ_STATE_DEAD);
}

NQ_PRIVATE void nq_mysql_order_next(const nq_mysql_conn *c, const nq_turn *t, nq_buf *b)
{
    const char *tasks = nq_mysql_data_of(c->base.store)->tasks;
    nq_buf_str(b, "COALESCE((SELECT IF(t.state=0 AND t.run_at<=UTC_TIMESTAMP(6),t.id,0)");
    mysql_order_gate(c, t->queue, "tasks", b);
    nq_buf_str(b, "),");
    mysql_order_halted(c, t, "0", b);
    nq_buf_fmt(b, "(SELECT id FROM %s FORCE INDEX (claim) WHERE queue=", tasks);
    nq_mysql_hex(b, "_ascii", t->queue, strlen(t->queue));
    nq_buf_str(b, " AND state=0 AND run_at<=UTC_TIMESTAMP(6) ORDER BY priority,run_at,id LIMIT 1),0)");
}

NQ_PRIVATE void nq_mysql_order_until(const nq_mysql_conn *c, const nq_turn *t, nq_buf *b)
{
    nq_buf_str(b, "COALESCE((SELECT TIMESTAMPDIFF(MICROSECOND,'1970-01-01',t.run_at)");
    mysql_order_gate(c, t->queue, "tasks", b);
    nq_buf_str(b, " AND t.state=0),");
    mysql_order_halted(c, t, "9223372036854775807", b);
    nq_buf_str(b, "0)");
}

NQ_PRIVATE void nq_mysql_order_where(const nq_turn *t, nq_buf *b)
{
    nq_buf_fmt(
        b, " FORCE INDEX (PRIMARY) WHERE id=%" PRId64 " AND state=0 AND run_at<=UTC_TIMESTAMP(6) AND queue=",
        t->bucket->next);
    nq_mysql_hex(b, "_ascii", t->queue, strlen(t->queue));
}

NQ_PRIVATE bool nq_mysql_order_write(const nq_mysql_conn *c, const nq_claim_args *a, nq_buf *b)
{
    const size_t before = b->n;
    for (size_t i = 0; i < a->nturns; i++) {
        if (!a->turns[i].ordered)
            continue;
        if (b->n == before)
            nq_buf_fmt(b, ";INSERT INTO `%sgates` (queue,head) SELECT q,h FROM (SELECT ",
                       c->base.store->prefix);
        else
            nq_buf_str(b, " UNION ALL SELECT ");
        nq_mysql_hex(b, "_ascii", a->turns[i].queue, strlen(a->turns[i].queue));
        nq_buf_fmt(b, " AS q,%" PRId64 " AS h", a->turns[i].bucket->next);
    }
    if (b->n == before)
        return false;
    /* grants tells who deletes gates that it was used meanwhile */
    nq_buf_str(
        b, ") x WHERE FIND_IN_SET(h,@nanoq_take) ON DUPLICATE KEY UPDATE head=VALUES(head),grants=grants+1");
    return true;
}
