/* SPDX-License-Identifier: MIT */
/* The worker's suite: the same for every store. */
#include "suites.h"

#include <sys/mman.h>

nq_worker *p_new(nq *q, const nq_worker_options *opts, nq_handler_fn handler, void *udata)
{
    nq_worker *p = NULL;
    T_OK(nq_worker_new(&p, q, opts, &t_last));
    if (handler)
        T_OK(nq_worker_handle(p, NULL, handler, udata, NULL, &t_last));
    return p;
}

void p_run(nq_worker *p)
{
    T_OK(nq_worker_run(p, &t_last));
    nq_worker_free(p);
}

static void *proc_thread(void *arg)
{
    p_thread *t = arg;
    t->rc = nq_worker_run(t->p, &t->err);
    return NULL;
}

void p_start(p_thread *t, nq_worker *p)
{
    memset(t, 0, sizeof *t);
    t->p = p;
    t_thread(&t->thread, proc_thread, t);
}

int p_join(p_thread *t)
{
    pthread_join(t->thread, NULL);
    nq_worker_free(t->p);
    return t->rc;
}

void p_stop(p_thread *t)
{
    nq_worker_stop(t->p);
    int rc = p_join(t);
    ck_assert_msg(rc == NQ_OK, "%s: %s", nq_code_name(rc), t->err.message);
}

void *p_shared(size_t size)
{
    void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    ck_assert_ptr_ne(p, MAP_FAILED);
    return p;
}

int64_t p_soon(unsigned attempt, const nq_task *task, void *udata)
{
    (void)attempt, (void)task, (void)udata;
    return NQ_MS(5);
}

nq_verdict p_count(nq_ctx *ctx, const nq_task *task, void *udata)
{
    (void)ctx, (void)task;
    __atomic_add_fetch((int *)udata, 1, __ATOMIC_SEQ_CST);
    return NQ_DONE;
}

int p_load(int *n)
{
    return __atomic_load_n(n, __ATOMIC_SEQ_CST);
}

int main(int argc, char **argv)
{
    Suite *(*const suites[])(void) = {suite_verdicts,
                                      suite_retry,
                                      suite_middleware,
                                      suite_cancel,
                                      suite_stop,
                                      suite_threads,
                                      suite_crash,
                                      suite_followups,
                                      suite_wake,
                                      suite_steer,
                                      suite_complete,
                                      suite_isolation,
                                      suite_isolation_ahead,
                                      suite_isolation_end,
                                      suite_isolation_tx,
                                      suite_hostile,
                                      suite_hostile_random,
                                      suite_queues,
                                      suite_fetch,
                                      suite_groups,
                                      suite_pause,
                                      suite_worker_headers,
                                      suite_loans,
                                      suite_rates,
                                      suite_types,
                                      suite_order,
                                      suite_keys,
                                      suite_worker_results,
                                      suite_worker_logs,
                                      suite_worker_retention,
                                      suite_wait,
                                      suite_many,
                                      suite_metrics};
    return t_main(argc, argv, suites, sizeof suites / sizeof *suites);
}
