/* SPDX-License-Identifier: MIT */
/* Claims in doubt: their COMMIT had no answer, or an error, and may have taken effect. */
#include "store.h"

/* The list is only ever taken whole, so that exchanging its head is enough. */
static void doubts_push(nq_store *s, nq_doubt *d)
{
    d->next = atomic_load(&s->doubts);
    while (!atomic_compare_exchange_weak(&s->doubts, &d->next, d))
        ;
}

static nq_doubt *doubts_new(uint64_t lease, size_t n)
{
    nq_doubt *d = malloc(sizeof *d + n * sizeof d->ids[0]);
    if (d)
        *d = (nq_doubt){.lease = lease, .n = n};
    return d;
}

void nq_doubts_add(nq_store *s, uint64_t lease, const uint64_t ids[], size_t n)
{
    nq_doubt *d = doubts_new(lease, n);
    if (!d)
        return;
    memcpy(d->ids, ids, n * sizeof *ids);
    doubts_push(s, d);
}

NQ_PRIVATE void nq_doubts_add_claimed(nq_store *s, uint64_t lease, const nq_claimed_list *list)
{
    nq_doubt *d = doubts_new(lease, list->n);
    if (!d)
        return;
    d->n = 0;
    for (const nq_claimed *k = list->head; k; k = k->next)
        d->ids[d->n++] = (uint64_t)k->task.id;
    doubts_push(s, d);
}

int nq_doubts_settle(nq_conn *c, nq_err *err)
{
    nq_store *s = c->store;
    nq_doubt *d = atomic_load(&s->doubts) ? atomic_exchange(&s->doubts, NULL) : NULL, *next;
    int rc = NQ_OK;
    while (d && (rc = nq_tasks_release(c, d->lease, d->ids, d->n, err)) == NQ_OK) {
        next = d->next;
        free(d);
        d = next;
    }
    for (; d; d = next) {
        next = d->next;
        doubts_push(s, d);
    }
    return rc;
}
