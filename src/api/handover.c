/* SPDX-License-Identifier: MIT */
/* Handing a task to an idle worker as it is enqueued: the producer's side of a loan. */
#include "api.h"

NQ_PRIVATE bool nq_loan_fits(const nq_new *task)
{
    return task->until == NQ_UNTIL_DONE && task->duplicate == NQ_REFUSE && task->delay_us == 0 &&
           task->run_at_us == 0 && task->expires_us == 0 && task->ntags == 0 &&
           task->payload_size <= NQ_LOAN_BYTES && !strstr(task->queue, "//");
}

/* The worker cannot run it any more: it waits, as if it had never been claimed. */
static void handover_release(nq_store *s, const nq_claimed *claim)
{
    nq_outcome out = {.id = claim->task.id, .lease = claim->lease, .kind = NQ_OUT_RELEASE};
    nq_outcome *const outs[] = {&out};
    nq_err err;
    if (nq_store_finish(s, outs, 1, &err) != NQ_OK)
        nq_store_log(s, NQ_LOG_WARN, "releasing task %lld, whose worker ended: %s", (long long)out.id,
                     err.message);
}

/* The task is committed as the worker's; false: it waits. */
static bool handover_born(nq_store *s, nq_loan *loan, nq_claimed *claim, const nq_birth *birth, nq_id id)
{
    claim->task.id = id;
    claim->task.created_at_us = claim->task.run_at_us = birth->at_us;
    if (loan->born(loan, claim))
        return true;
    handover_release(s, claim);
    free(claim);
    return false;
}

NQ_PRIVATE int nq_loan_enqueue(nq_store *s, nq_loan *loan, nq_new *task, nq_id *id, int *result, bool *handed,
                               nq_err *err)
{
    nq_claimed *const claim = nq_claimed_born(task, loan->lease);
    nq_birth birth = {.lease = claim ? loan->lease : 0};

    if (claim)
        task->birth = &birth;
    const int rc = nq_store_enqueue(s, NQ_OWN_TX, task, 1, id, result, err);
    task->birth = NULL;
    const bool born = rc == NQ_OK && birth.did;
    if (born && birth.at_us) {
        *handed = handover_born(s, loan, claim, &birth, *id);
        return rc;
    }
    free(claim);
    loan->unused(loan, born || (claim && rc == NQ_EUNKNOWN));
    *handed = born;
    return rc;
}
