/* SPDX-License-Identifier: MIT */
/* The duty of firing schedules. */
#include "worker.h"

NQ_PRIVATE int nq_schedules_fire(nq_worker *w, nq_scheduler *state, int64_t *next_us, nq_err *err)
{
    const int rc = nq_store_fire(w->store, state, err);
    if (rc == NQ_OK)
        *next_us = state->wait_us;
    if (rc == NQ_OK && state->n > 0) /* those who serve their queues may be others */
        nq_wake(w->q, state->queues, state->n, 0);
    return rc;
}
