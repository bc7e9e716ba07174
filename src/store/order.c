/* SPDX-License-Identifier: MIT */
/* Order in groups, where no claim is: what a dead task halts. */
#include <stdio.h>

#include "settings.h"

/* How an ordered group is claimed is said in the drivers' order.c. */

static int order_ask(nq_conn *c, const char *sql, const nq_val args[], size_t n, bool *found, nq_err *err)
{
    *found = false;
    return nq_sql(c, sql, args, n, nq_row_any, found, NULL, err);
}

NQ_PRIVATE int nq_order_halts(nq_conn *c, bool *some, nq_err *err)
{
    return order_ask(c, "SELECT 1 FROM {queues} WHERE ordered = 2 LIMIT 1", NULL, 0, some, err);
}

NQ_PRIVATE int nq_order_buried(nq_conn *c, const char *queue, nq_id id, nq_err *err)
{
    char each[NQ_MAX_QUEUE + 4];
    const size_t base = nq_queue_base(queue);
    if (!queue[base] || id < 0) /* of no group; or nothing that is ever claimed waits behind it */
        return NQ_OK;
    snprintf(each, sizeof each, "%.*s//*", (int)base, queue);
    const nq_val names[] = {nq_text(queue), nq_text(each)}, args[] = {nq_int(id), nq_text(queue)};
    bool found = false;
    int rc = order_ask(c, "SELECT 1 FROM {queues} WHERE ordered = 2 AND (name = ? OR name = ?) LIMIT 1",
                       names, 2, &found, err);
    if (rc != NQ_OK || !found)
        return rc;
    /* one that has begun and lives, or halts the group already, stays */
    rc = order_ask(c,
                   "SELECT 1 FROM {gates} g WHERE g.queue = ? AND (EXISTS (SELECT 1 FROM {tasks} t WHERE "
                   "t.id = g.head AND t.queue = g.queue) OR EXISTS (SELECT 1 FROM {finished} f WHERE f.id = "
                   "g.head AND f.queue = g.queue AND f.state = 3))",
                   names, 1, &found, err);
    if (rc != NQ_OK || found)
        return rc;
    rc = order_ask(c, "SELECT 1 FROM {gates} WHERE queue = ? {lock}", names, 1, &found, err);
    if (rc != NQ_OK)
        return rc;
    if (found)
        return nq_sql(c, "UPDATE {gates} SET head = ?, grants = grants + 1 WHERE queue = ?", args, 2, NULL,
                      NULL, NULL, err);
    rc = nq_sql(c, "INSERT INTO {gates} (head, queue) VALUES (?, ?)", args, 2, NULL, NULL, NULL, err);
    return rc == NQ_EDUPLICATE ? nq_err_set(err, NQ_ECONFLICT, "the gate was made by another meanwhile") : rc;
}
