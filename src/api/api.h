/* SPDX-License-Identifier: MIT */
/* The handle behind nq: what the worker needs of it beside the store. */
#ifndef NQ_API_H
#define NQ_API_H

#include <sys/types.h>

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
} nq_listener;

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

/* hints.c: tell other processes. Hints may be lost: whoever waits for one looks by itself now and then. */
typedef struct nq_hints nq_hints;
NQ_PRIVATE int nq_hints_open(nq_hints **out, nq_store *s, nq_err *err);
NQ_PRIVATE void nq_hints_close(nq_hints *h); /* accepts NULL */
NQ_PRIVATE void nq_hints_send(nq_hints *h, const uint64_t queues[], size_t n, nq_id id);
NQ_PRIVATE nq_hints *nq_hints_of(nq *q);
/* A non-blocking socket on which hints of other handles' come, and its place; -1: none to be had. A hint is a
 * datagram from anybody on this host: 8 bytes, a queue, and perhaps 8 more, the id of the task. */
NQ_PRIVATE int nq_hints_listen(nq_hints *h, int *place);
/* Read one, as recv does. *stranger: it came from a user who is neither ours nor root. */
NQ_PRIVATE ssize_t nq_hints_read(int fd, void *hint, size_t size, bool *stranger);
NQ_PRIVATE void nq_hints_unlisten(nq_hints *h, int fd, int place);

/* list.c: NQ_ENOTFOUND, and which task. */
NQ_PRIVATE int nq_absent(nq_id id, nq_err *err);

/* settings.c: the name of the row of a queue, or of a group of it, NULL: of none. */
NQ_PRIVATE int nq_settings_name(char name[NQ_MAX_QUEUE + 1], const char *queue, const char *group,
                                nq_err *err);
/* Delete the row if it says nothing. */
NQ_PRIVATE int nq_settings_tidy(nq_conn *c, const char *name, nq_err *err);
/* Update the row of a name, the last argument; or insert it, with the same arguments in the same order. */
NQ_PRIVATE int nq_settings_upsert(nq_conn *c, const char *update, const char *insert, const nq_val args[],
                                  size_t n, nq_err *err);

/* spec.c: check one spec, of whatever header's size, and fill in the defaults. Payloads have at most
 * `allowed` bytes by the options and `possible` by the database. */
NQ_PRIVATE int nq_spec_check(const void *spec, size_t allowed, size_t possible, nq_new *out, nq_err *err);
/* Write the time at which it expires into its headers, by a clock that is the database's. */
NQ_PRIVATE int nq_spec_expire(nq_new *task, int64_t now_us, nq_err *err);
/* Free what checked ones hold, or zeroed ones. */
NQ_PRIVATE void nq_spec_free(nq_new tasks[], size_t n);

#endif
