/* SPDX-License-Identifier: MIT */
/* The suites of the worker program, and a worker that runs in a thread. */
#ifndef NQ_TEST_PROC_SUITES_H
#define NQ_TEST_PROC_SUITES_H

#include "../harness.h"

Suite *suite_verdicts(void);
Suite *suite_retry(void);
Suite *suite_middleware(void);
Suite *suite_cancel(void);
Suite *suite_stop(void);
Suite *suite_threads(void);
Suite *suite_crash(void);
Suite *suite_followups(void);
Suite *suite_wake(void);
Suite *suite_isolation(void);
Suite *suite_isolation_ahead(void);
Suite *suite_isolation_end(void);
Suite *suite_isolation_tx(void);
Suite *suite_steer(void);
Suite *suite_complete(void);
Suite *suite_worker_headers(void);
Suite *suite_hostile(void);
Suite *suite_hostile_random(void);
Suite *suite_queues(void);
Suite *suite_fetch(void);
Suite *suite_groups(void);
Suite *suite_pause(void);
Suite *suite_types(void);
Suite *suite_loans(void);
Suite *suite_rates(void);
Suite *suite_order(void);
Suite *suite_keys(void);
Suite *suite_worker_results(void);
Suite *suite_worker_logs(void);
Suite *suite_worker_retention(void);
Suite *suite_wait(void);
Suite *suite_many(void);
Suite *suite_metrics(void);

#define P_OPTIONS(...) (&(nq_worker_options){.size = sizeof(nq_worker_options), __VA_ARGS__})
/* The lease of a worker that the test kills: short where nothing else tells of the death. */
#define P_DYING_LEASE (t_is_cluster ? NQ_SECONDS(3) : 0)

/* A worker with one handler for every type; more may be registered before p_run or p_start. */
nq_worker *p_new(nq *q, const nq_worker_options *opts, nq_handler_fn handler, void *udata);
/* Run it here until it returns by itself (drain), assert NQ_OK, free it. */
void p_run(nq_worker *p);

typedef struct p_thread {
    nq_worker *p;
    pthread_t thread;
    int rc;
    nq_err err;
} p_thread;
void p_start(p_thread *t, nq_worker *p);
int p_join(p_thread *t);  /* wait for its end; frees the worker; its result */
void p_stop(p_thread *t); /* stop, join, assert NQ_OK */

/* Options of a handler that runs in child processes, and memory, all zero, that these share with the test. */
#define P_HANDLE(...)   (&(nq_handle_options){.size = sizeof(nq_handle_options), __VA_ARGS__})
#define P_PROCESS(...)  NQ_ISOLATION(.kind = NQ_PROCESS, __VA_ARGS__)
#define P_ISOLATED(...) P_HANDLE(.isolation = P_PROCESS(__VA_ARGS__))
void *p_shared(size_t size);

/* A retry policy: 5 ms. */
int64_t p_soon(unsigned attempt, const nq_task *task, void *udata);

/* A handler that counts: atomically adds 1 to the int behind udata. */
nq_verdict p_count(nq_ctx *ctx, const nq_task *task, void *udata);
int p_load(int *n);

#endif
