/* SPDX-License-Identifier: MIT */
/* Moving one task by hand: retry, cancel, delete. */
#include "api.h"

/* What keeps it from that, in words. */
static int steer_failed(const nq_moved *t, enum nq_moves_what what, nq_err *err)
{
    static const char *const verbs[] = {"retried", "cancelled", "deleted"};
    if (t->result == NQ_ENOTFOUND)
        return nq_absent(t->id, err);
    if (t->result == NQ_ESTATE)
        return nq_err_set(err, NQ_ESTATE, "task %lld is %s and cannot be %s", (long long)t->id,
                          nq_state_name(t->state), verbs[what]);
    return t->result;
}

static int steer_run(nq *q, nq_id id, enum nq_moves_what what, nq_err *err)
{
    nq_moved one = {.id = id};
    nq_moves m = {.what = what, .all = &one, .n = 1, .patient = true};
    int rc = nq_ready(q, err);
    if (rc == NQ_OK)
        rc = nq_store_move(nq_store_of(q), &m, err);
    if (rc == NQ_EDUPLICATE)
        return nq_err_set(err, rc, "a live task has the unique key of task %lld", (long long)id);
    if (rc == NQ_OK)
        rc = steer_failed(&one, what, err);
    if (rc == NQ_OK && what == NQ_MOVES_CANCEL && one.state == NQ_STATE_RUNNING)
        nq_wake_look(q);
    else if (rc == NQ_OK && what != NQ_MOVES_RETRY)
        nq_hints_ended(nq_hints_of(q), &id, 1);
    return rc;
}

NQ_API int nq_retry(nq *q, nq_id id, nq_err *err)
{
    const uint64_t any = NQ_HINT_ANY;
    int rc = steer_run(q, id, NQ_MOVES_RETRY, err);
    if (rc == NQ_OK)
        nq_wake(q, &any, 1, 0);
    return rc;
}

NQ_API int nq_cancel(nq *q, nq_id id, nq_err *err)
{
    return steer_run(q, id, NQ_MOVES_CANCEL, err);
}

NQ_API int nq_delete(nq *q, nq_id id, nq_err *err)
{
    return steer_run(q, id, NQ_MOVES_DELETE, err);
}
