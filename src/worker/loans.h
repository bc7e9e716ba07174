/* SPDX-License-Identifier: MIT */
/* loans.c: claims for tasks that are yet to be enqueued. */
#ifndef NQ_WORKER_LOANS_H
#define NQ_WORKER_LOANS_H

#include "worker.h"

/* nq_listener.lend */
NQ_PRIVATE nq_loan *nq_worker_lend(void *worker, uint64_t queue);
/* Those of other processes: the socket from which they are offered, and that on which is answered; -1: none
 * any more. */
NQ_PRIVATE void nq_loans_open(nq_worker *w, int fd, int answers);
/* A producer with this address has enqueued something of the queue. */
NQ_PRIVATE void nq_loans_borrower(nq_worker *w, uint64_t queue, const nq_hint_from *from);
/* A nq_loan_message, perhaps, of our own user's. True: an INSERT begins. */
NQ_PRIVATE bool nq_loans_heard(nq_worker *w, const char *message, size_t n);
/* Some that began should be there by now. */
NQ_PRIVATE void nq_loans_check(nq_worker *w);
/* With the lock held: offer claims, or take the offers back, as this worker has room. */
NQ_PRIVATE void nq_loans_offer(nq_worker *w);
NQ_PRIVATE void nq_loans_recall(nq_worker *w);
/* Take the tasks of loans in doubt that are there. *next_us: how soon to look again; as it was: no need. */
NQ_PRIVATE int nq_loans_look(nq_worker *w, int64_t *next_us, nq_err *err);

#endif
