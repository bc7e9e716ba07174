/* SPDX-License-Identifier: MIT */
/* The handle behind nq: what the worker needs of it beside the store. */
#ifndef NQ_API_H
#define NQ_API_H

#include <sys/socket.h>
#include <sys/types.h>
#include <sys/un.h>

#include "../store/store.h"

/* Told after a commit of this handle's that made tasks due (wake), asked to cancel one that runs (look) or
 * changed settings of queues (settings): a hint, called without locks, must be quick. id: of the one task
 * that is due, of the queue of that hint, or 0. */
typedef struct nq_listener {
    struct nq_listener *next;
    void (*wake)(void *arg, uint64_t queue, nq_id id);
    void (*look)(void *arg);
    void (*settings)(void *arg);
    void *arg;
    struct nq_loan *(*lend)(void *arg, uint64_t queue); /* a claim for one new task, or NULL; may be NULL */
} nq_listener;

/*
 * A claim that an idle worker lends for one new task, so that it is born claimed: enqueue and claim are one
 * commit, and the handler starts with it. Whoever has a loan says once what became of it, and it is gone:
 *   born    the task is committed under the loan's lease. It is the worker's now; false: it cannot take it
 * any more, and the task has to be released. unused  nothing was inserted; doubt: or it was, all the same,
 * and the worker has to look for itself. Without locks; quick.
 */
typedef struct nq_loan {
    uint64_t lease;
    bool (*born)(struct nq_loan *loan, nq_claimed *claim);
    void (*unused)(struct nq_loan *loan, bool doubt);
} nq_loan;

/* NQ_EFORK in a child of the process that opened q, NQ_EINVAL for NULL, else NQ_OK. Every public call asks.
 */
NQ_PRIVATE int nq_usable(const nq *q, nq_err *err);
/* And the tables are there, of a version that this library may work with; see nq_store_ready. Every public
 * call that reads or writes tasks asks. */
NQ_PRIVATE int nq_ready(nq *q, nq_err *err);
NQ_PRIVATE nq_store *nq_store_of(nq *q);
NQ_PRIVATE void nq_listen(nq *q, nq_listener *l);
NQ_PRIVATE void nq_unlisten(nq *q, nq_listener *l); /* after it returns wake is not running */

/* Wake whoever may wait for tasks of these queues: the listeners, and workers elsewhere. Without locks.
 * id: of the task, where it is only one; else 0. */
NQ_PRIVATE void nq_wake(nq *q, const uint64_t queues[], size_t n, nq_id id);

/* Have the workers look for requests to cancel. Likewise. */
NQ_PRIVATE void nq_wake_look(nq *q);
/* Have them read the settings of queues. Likewise. */
NQ_PRIVATE void nq_wake_settings(nq *q);

/* A loan of whichever worker has one for that queue; or NULL. */
NQ_PRIVATE nq_loan *nq_lend(nq *q, uint64_t queue);

/*
 * The same between processes of one host and one user, by datagrams. A worker that is idle offers a claim to
 * whom it heard of lately, for a moment (by the clock that all processes have, CLOCK_MONOTONIC). With the
 * offer comes a socket on which to answer: an address may be another's tomorrow, and an answer has a task's
 * content. The producer says BEGIN before its INSERT, so that the worker looks for the task by itself when
 * nothing comes after that; then BORN, with the packed claim behind it, or UNUSED, or DOUBT.
 */
enum nq_loan_says {
    NQ_LOAN_OFFER = 1,
    NQ_LOAN_RECALL,
    NQ_LOAN_BEGIN,
    NQ_LOAN_BORN,
    NQ_LOAN_UNUSED,
    NQ_LOAN_DOUBT
};
typedef struct nq_loan_message {
    uint64_t magic;
    uint64_t says;
    uint64_t queue, lease;
    int64_t until_us; /* NQ_LOAN_OFFER */
} nq_loan_message;
/* Of another version of the columns it is none. */
#define NQ_LOAN_MAGIC (UINT64_C(0x6e616e6f71000000) + UINT64_C(256) * NQ_SCHEMA_VERSION + NQ_AT_COUNT)
/* Most of a payload that is handed over; a larger one is claimed as ever. */
#define NQ_LOAN_BYTES ((size_t)16384)
/* Most of a message. */
#define NQ_LOAN_BORN_BYTES (sizeof(nq_loan_message) + 2 * NQ_LOAN_BYTES)
/* borrow.c: the offers that a handle has got. */
typedef struct nq_borrower nq_borrower;
NQ_PRIVATE nq_borrower *nq_borrower_new(void);    /* NULL: no memory, or no lock */
NQ_PRIVATE void nq_borrower_free(nq_borrower *b); /* accepts NULL */
/* What came on fd, and of it one for that queue, begun; or NULL. */
NQ_PRIVATE nq_loan *nq_borrow(nq_borrower *b, int fd, uint64_t queue);

/* handover.c: nq_store_enqueue of one task in a transaction of our own. The loan is settled.
 * *handed: the task is with a worker already. */
NQ_PRIVATE int nq_loan_enqueue(nq_store *s, nq_loan *loan, nq_new *task, nq_id *id, int *result, bool *handed,
                               nq_err *err);
/* May it be handed to a worker, by what is known of it alone? */
NQ_PRIVATE bool nq_loan_fits(const nq_new *task);

/* hints.c: tell other processes. Hints may be lost: whoever waits for one looks by itself now and then. */
typedef struct nq_hints nq_hints;
NQ_PRIVATE int nq_hints_open(nq_hints **out, nq_store *s, nq_err *err);
NQ_PRIVATE void nq_hints_close(nq_hints *h); /* accepts NULL */
NQ_PRIVATE void nq_hints_send(nq_hints *h, const uint64_t queues[], size_t n, nq_id id);
NQ_PRIVATE nq_hints *nq_hints_of(nq *q);
/* A loan of a worker in another process; or NULL. */
NQ_PRIVATE nq_loan *nq_hints_borrow(nq_hints *h, uint64_t queue);
/* A non-blocking socket on which hints of other handles' come, and its place; -1: none to be had. A hint is a
 * datagram from anybody on this host: 8 bytes, a queue, and perhaps 8 more, the id of the task. What has more
 * is a nq_loan_message. */
NQ_PRIVATE int nq_hints_listen(nq_hints *h, int *place);
/* Whose a datagram was. */
typedef struct nq_hint_from {
    struct sockaddr_un at;
    socklen_t size; /* of at; no more than its family: it has no address */
    bool stranger;  /* a user who is neither ours nor root */
} nq_hint_from;
/* Read one, as recv does. passed: out, a descriptor that came with it and is the caller's, or -1; NULL: none
 * is taken. */
NQ_PRIVATE ssize_t nq_hints_read(int fd, void *hint, size_t size, nq_hint_from *from, int *passed);
NQ_PRIVATE void nq_hints_unlisten(nq_hints *h, int fd, int place);

/* For nq_wait: a non-blocking socket on which the ids of tasks come that have ended, an array in a datagram,
 * from anybody on this host; the workers of the host are told that somebody waits. -1: none to be had. */
NQ_PRIVATE int nq_hints_wait(nq_hints *h);
/* Somebody began to wait, and is to be told. */
NQ_PRIVATE void nq_hints_waited(nq_hints *h);
/* May anybody wait? For who would have to make the list first. */
NQ_PRIVATE bool nq_hints_waits(const nq_hints *h, int64_t now);
/* Tell who waits, after the commit. Where nobody does it is a look at a clock, and every 500 ms a little
 * more.
 */
NQ_PRIVATE void nq_hints_ended(nq_hints *h, const nq_id ids[], size_t n);

/* queue.c: tasks that calls of this handle added, and that they did not, for a live one has the key. */
NQ_PRIVATE void nq_queue_counts(const nq *q, uint64_t *enqueued, uint64_t *duplicates);

/* list.c: NQ_ENOTFOUND, and which task. */
NQ_PRIVATE int nq_absent(nq_id id, nq_err *err);

/* settings.c: the name of the row of a queue, or of a group of it, NULL: of none. */
NQ_PRIVATE int nq_settings_name(char name[NQ_MAX_QUEUE + 1], const char *queue, const char *group,
                                const char *type, nq_err *err);
/* NQ_EINVAL: its queue has settings of more types than are heeded. In the transaction that wrote the row. */
NQ_PRIVATE int nq_settings_few_types(nq_conn *c, const char *name, nq_err *err);
/* Delete the row if it says nothing. */
NQ_PRIVATE int nq_settings_tidy(nq_conn *c, const char *name, nq_err *err);
/* Update the row of a name, the last argument; or insert it, with the same arguments in the same order. */
NQ_PRIVATE int nq_settings_upsert(nq_conn *c, const char *update, const char *insert, const nq_val args[],
                                  size_t n, nq_err *err);

/* spec.c: check one spec, of whatever header's size, and fill in the defaults. Payloads have at most
 * `allowed` bytes by the options and `possible` by the database. */
NQ_PRIVATE int nq_spec_check(const void *spec, size_t allowed, size_t possible, nq_new *out, nq_err *err);
/* queue.c: the same for this handle. */
NQ_PRIVATE int nq_spec_of(const nq *q, const void *spec, nq_new *out, nq_err *err);
/* Write the time at which it expires into its headers, by a clock that is the database's. */
NQ_PRIVATE int nq_spec_expire(nq_new *task, int64_t now_us, nq_err *err);
/* Free what checked ones hold, or zeroed ones. */
NQ_PRIVATE void nq_spec_free(nq_new tasks[], size_t n);

#endif
