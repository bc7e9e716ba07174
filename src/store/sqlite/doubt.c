/* SPDX-License-Identifier: MIT */
/* SQLite: claims in doubt, whose commit failed but may have taken effect. */
#include <stdio.h>

#include "sqlite_driver.h"

NQ_PRIVATE void nq_sqlite_doubt(nq_sqlite_data *d, const nq_claim_args *args)
{
    d->doubt = args->lease;
    snprintf(d->doubt_queue, sizeof d->doubt_queue, "%s", args->queue);
}

/* Give back what a claim in doubt may have taken: before claiming anew, and before a look, which would not
 * see those tasks wait. */
NQ_PRIVATE int nq_sqlite_settle(nq_sqlite_conn *c, nq_err *err)
{
    nq_sqlite_data *d = c->base.store->data;
    const nq_val args[] = {nq_text(d->doubt_queue), nq_text(d->doubt_queue), nq_text(d->doubt_queue),
                           nq_int((int64_t)d->doubt)};
    int rc = NQ_OK;
    if (d->doubt)
        rc = nq_sql(
            &c->base,
            "UPDATE {tasks} SET state = 0, lease = 0"
            " WHERE (queue = ? OR (queue > ? || '//' AND queue < ? || '/0')) AND state = 1 AND lease = ?",
            args, 4, NULL, NULL, NULL, err);
    if (rc == NQ_OK)
        d->doubt = 0;
    return rc;
}
