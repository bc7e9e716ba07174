/* SPDX-License-Identifier: MIT */
/* SQLite: claims in doubt, whose commit failed but may have taken effect. */
#include "sqlite_driver.h"

NQ_PRIVATE void nq_sqlite_doubt(nq_sqlite_data *d, uint64_t lease, const nq_claimed_list *list)
{
    d->doubt_ids = malloc((list->n + 1) * sizeof *d->doubt_ids);
    if (!d->doubt_ids)
        return; /* the tasks stay claimed until this worker leaves */
    d->doubt = lease;
    d->ndoubts = 0;
    for (const nq_claimed *k = list->head; k; k = k->next)
        d->doubt_ids[d->ndoubts++] = (uint64_t)k->task.id;
}

/* Before claiming anew, and before a look, which would not see those tasks wait. No more than these: others
 * may run under the same lease, for a claim is a transaction for each priority. */
NQ_PRIVATE int nq_sqlite_settle(nq_sqlite_conn *c, nq_err *err)
{
    nq_sqlite_data *d = c->base.store->data;
    if (!d->doubt_ids)
        return NQ_OK;
    const int rc = nq_tasks_release(&c->base, d->doubt, d->doubt_ids, d->ndoubts, err);
    if (rc != NQ_OK)
        return rc;
    free(d->doubt_ids);
    d->doubt_ids = NULL;
    return NQ_OK;
}
