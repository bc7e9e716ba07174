/* SPDX-License-Identifier: MIT */
/* The public calls: open, migrate, enqueue. */
#include "api.h"

#include <stdatomic.h>
#include <unistd.h>

struct nq {
    nq_store *store;
    nq_hints *hints;
    size_t max_payload;
    pid_t pid; /* of the process that opened it */

    /* The lock guards what follows and is never held while a listener is called. A caller of wake() is
     * counted in `waking`; nq_unlisten takes its listener out and waits until nobody is, and as long as it
     * waits (`leaving`) nobody new begins, so a busy producer cannot keep it waiting for ever. */
    pthread_mutex_t lock;
    pthread_cond_t calm;
    nq_listener *listeners;
    unsigned waking, leaving;

    atomic_uint_least64_t enqueued, duplicates; /* by calls that succeeded */
};

/* ---- The handle ---- */

static int queue_options(nq_options *out, const nq_options *theirs, nq_err *err)
{
    int rc = nq_options_copy(out, sizeof *out, theirs, "nq_options", err);

    if (rc != NQ_OK)
        return rc;
    if (out->max_payload == 0)
        out->max_payload = NQ_DEFAULT_MAX_PAYLOAD;
    if (out->connections == 0)
        out->connections = 10;
    if (out->connections < 4)
        return nq_err_set(err, NQ_EINVAL, "nq_options.connections is %u, at least 4 are needed",
                          out->connections);
    return NQ_OK;
}

int nq_open(nq **out, const char *url, const nq_options *opts, nq_err *err)
{
    nq_options options;
    nq *q = NULL;
    int rc;

    if (!out)
        return nq_err_set(err, NQ_EINVAL, "nq_open: out is NULL");
    if ((rc = queue_options(&options, opts, err)) != NQ_OK)
        return rc;
    q = calloc(1, sizeof *q);
    if (!q)
        return nq_err_nomem(err);
    q->pid = getpid();
    q->max_payload = options.max_payload;
    if (pthread_mutex_init(&q->lock, NULL) != 0) {
        free(q);
        return nq_err_nomem(err);
    }
    if (nq_cond_init(&q->calm) != 0) {
        rc = nq_err_nomem(err);
        goto out_lock;
    }
    if ((rc = nq_store_open(&q->store, url, &options, err)) != NQ_OK)
        goto out_calm;
    if ((rc = nq_hints_open(&q->hints, q->store, err)) == NQ_OK) {
        *out = q;
        return NQ_OK;
    }
    nq_store_close(q->store);
out_calm:
    pthread_cond_destroy(&q->calm);
out_lock:
    pthread_mutex_destroy(&q->lock);
    free(q);
    return rc;
}

void nq_close(nq *q)
{
    /* In a child the connections are the parent's: to close them would close them for the parent. */
    if (!q || q->pid != getpid())
        return;
    nq_hints_close(q->hints);
    nq_store_close(q->store);
    pthread_cond_destroy(&q->calm);
    pthread_mutex_destroy(&q->lock);
    free(q);
}

int nq_usable(const nq *q, nq_err *err)
{
    if (!q)
        return nq_err_set(err, NQ_EINVAL, "the nq handle is NULL");
    if (q->pid != getpid())
        return nq_err_set(err, NQ_EFORK, "this nq was opened by process %ld: open a new one after fork",
                          (long)q->pid);
    return NQ_OK;
}

nq_store *nq_store_of(nq *q)
{
    return q->store;
}

/* ---- Listeners ---- */

void nq_listen(nq *q, nq_listener *l)
{
    pthread_mutex_lock(&q->lock);
    l->next = q->listeners;
    q->listeners = l;
    pthread_mutex_unlock(&q->lock);
}

void nq_unlisten(nq *q, nq_listener *l)
{
    pthread_mutex_lock(&q->lock);
    /* l->next stays: a thread that is at l goes on from there, and whatever it meets is still waiting here.
     */
    for (nq_listener **at = &q->listeners; *at; at = &(*at)->next)
        if (*at == l) {
            *at = l->next;
            break;
        }
    q->leaving++;
    while (q->waking > 0)
        pthread_cond_wait(&q->calm, &q->lock);
    if (--q->leaving == 0)
        pthread_cond_broadcast(&q->calm);
    pthread_mutex_unlock(&q->lock);
}

/* What is told to each listener, or asked of it. */
typedef struct queue_word {
    uint64_t queue; /* or NQ_HINT_CANCEL, NQ_HINT_SETTINGS */
    nq_id id;
    bool lend;
    nq_loan *loan; /* the first that was lent: the others are not asked */
} queue_word;

static void queue_tell(nq_listener *l, queue_word *word)
{
    if (word->lend)
        word->loan = l->lend ? l->lend(l->arg, word->queue) : NULL;
    else if (word->queue == NQ_HINT_CANCEL)
        l->look(l->arg);
    else if (word->queue == NQ_HINT_SETTINGS)
        l->settings(l->arg);
    else
        l->wake(l->arg, word->queue, word->id);
}

/* The lock is not held while a listener is told: it may take locks of its own. */
static void queue_tell_all(nq *q, queue_word *word)
{
    pthread_mutex_lock(&q->lock);
    while (q->leaving > 0)
        pthread_cond_wait(&q->calm, &q->lock);
    q->waking++;
    for (nq_listener *l = q->listeners; l && !word->loan; l = l->next) {
        pthread_mutex_unlock(&q->lock);
        queue_tell(l, word);
        pthread_mutex_lock(&q->lock);
    }
    if (--q->waking == 0)
        pthread_cond_broadcast(&q->calm);
    pthread_mutex_unlock(&q->lock);
}

static void queue_wake(nq *q, uint64_t queue, nq_id id)
{
    queue_tell_all(q, &(queue_word){.queue = queue, .id = id});
}

NQ_PRIVATE nq_loan *nq_lend(nq *q, uint64_t queue)
{
    queue_word word = {.queue = queue, .lend = true};
    queue_tell_all(q, &word);
    return word.loan ? word.loan : nq_hints_borrow(q->hints, queue);
}

NQ_PRIVATE nq_hints *nq_hints_of(nq *q)
{
    return q->hints;
}

NQ_PRIVATE void nq_wake(nq *q, const uint64_t queues[], size_t n, nq_id id)
{
    queue_wake(q, queues[0], id);
    nq_hints_send(q->hints, queues, n, id);
}

NQ_PRIVATE void nq_wake_look(nq *q)
{
    const uint64_t cancel = NQ_HINT_CANCEL;
    queue_wake(q, cancel, 0);
    nq_hints_send(q->hints, &cancel, 1, 0);
}

NQ_PRIVATE void nq_wake_settings(nq *q)
{
    const uint64_t settings = NQ_HINT_SETTINGS;
    queue_wake(q, settings, 0);
    nq_hints_send(q->hints, &settings, 1, 0);
}

void nq_hint(nq *q, const char *queue)
{
    if (nq_usable(q, NULL) != NQ_OK)
        return;
    const uint64_t hint = nq_hint_queue(queue ? queue : "default");
    nq_wake(q, &hint, 1, 0);
}

/* ---- Enqueue ---- */

/* Is it due, or will it be sooner than an idle worker looks? */
static bool queue_is_due(const nq_new *task)
{
    return task->delay_us <= NQ_SECONDS(1) &&
           (task->run_at_us == 0 || task->run_at_us <= nq_real_us() + NQ_SECONDS(1));
}

/* Which queues have new tasks that are due? Returns how many, or 1 and NQ_HINT_ANY for many. */
static size_t queue_due(const nq_new tasks[], size_t n, const int results[], uint64_t queues[NQ_HINT_QUEUES])
{
    const char *last = NULL;
    size_t found = 0, at;
    for (size_t i = 0; i < n; i++) {
        if (results[i] != NQ_OK || (last && strcmp(last, tasks[i].queue) == 0) || !queue_is_due(&tasks[i]))
            continue;
        last = tasks[i].queue;
        const uint64_t hint = nq_hint_queue(last);
        for (at = 0; at < found && queues[at] != hint; at++)
            ;
        if (at == NQ_HINT_QUEUES) {
            queues[0] = NQ_HINT_ANY;
            return 1;
        }
        queues[at] = hint;
        found = at == found ? found + 1 : found;
    }
    return found;
}

static void queue_count(nq *q, const int results[], size_t n)
{
    size_t added = 0;
    for (size_t i = 0; i < n; i++)
        added += results[i] == NQ_OK;
    if (added > 0)
        atomic_fetch_add_explicit(&q->enqueued, added, memory_order_relaxed);
    if (added < n)
        atomic_fetch_add_explicit(&q->duplicates, n - added, memory_order_relaxed);
}

NQ_PRIVATE void nq_queue_counts(const nq *q, uint64_t *enqueued, uint64_t *duplicates)
{
    *enqueued = atomic_load(&q->enqueued);
    *duplicates = atomic_load(&q->duplicates);
}

/* Insert, and wake who waits for it. */
static int queue_insert(nq *q, nq_tx tx, nq_new tasks[], size_t n, nq_id ids[], int results[], nq_err *err)
{
    uint64_t queues[NQ_HINT_QUEUES];
    bool handed = false;
    nq_loan *const loan =
        n == 1 && !tx.ops && nq_loan_fits(tasks) ? nq_lend(q, nq_hint_queue(tasks->queue)) : NULL;
    int rc = loan ? nq_loan_enqueue(q->store, loan, tasks, ids, results, &handed, err)
                  : nq_store_enqueue(q->store, tx, tasks, n, ids, results, err);

    if (rc == NQ_OK)
        queue_count(q, results, n);
    if (rc != NQ_OK || tx.ops || handed)
        return rc;
    const size_t due = queue_due(tasks, n, results, queues);
    if (due > 0)
        nq_wake(q, queues, due, n == 1 ? ids[0] : 0);
    return NQ_OK;
}

NQ_PRIVATE int nq_spec_of(const nq *q, const void *spec, nq_new *out, nq_err *err)
{
    int rc = nq_spec_check(spec, q->max_payload, nq_store_max_payload(q->store), out, err);
    const int64_t now = rc == NQ_OK && out->expires_us ? nq_store_clock(q->store) : 0;
    if (now && (rc = nq_spec_expire(out, now, err)) != NQ_OK)
        nq_spec_free(out, 1);
    return rc;
}

int nq_enqueue(nq *q, nq_tx tx, const nq_task_spec *task, nq_id *id, nq_err *err)
{
    nq_new new_task;
    nq_id new_id = 0;
    int result = NQ_OK, rc = nq_usable(q, err);

    if (rc != NQ_OK)
        return rc;
    if (!task)
        return nq_err_set(err, NQ_EINVAL, "the task is NULL");
    if ((rc = nq_tx_check(q->store, tx, err)) != NQ_OK)
        return rc;
    if ((rc = nq_spec_of(q, task, &new_task, err)) != NQ_OK)
        return rc;
    rc = queue_insert(q, tx, &new_task, 1, &new_id, &result, err);
    nq_spec_free(&new_task, 1);
    if (rc != NQ_OK)
        return rc;
    if (id)
        *id = new_id;
    return result;
}

/* tasks[] may be of an older or a newer header: tasks[0].size is its stride. */
static int queue_specs(const nq *q, const nq_task_spec tasks[], size_t n, nq_new out[], nq_err *err)
{
    const char *at = (const char *)tasks;
    size_t stride, size;
    nq_err why;

    memcpy(&stride, at, sizeof(stride));
    for (size_t i = 0; i < n; i++, at += stride) {
        int rc;
        memcpy(&size, at, sizeof(size));
        if (size != stride)
            return nq_err_set(err, NQ_EINVAL,
                              "task %zu: size is %zu, but task 0 has %zu: set each to "
                              "sizeof(nq_task_spec)",
                              i, size, stride);
        rc = nq_spec_of(q, at, &out[i], &why);
        if (rc != NQ_OK)
            return nq_err_set(err, rc, "task %zu: %s", i, why.message);
    }
    return NQ_OK;
}

int nq_enqueue_many(nq *q, nq_tx tx, const nq_task_spec tasks[], size_t n, nq_id ids[], int results[],
                    nq_err *err)
{
    nq_new *new_tasks = NULL;
    nq_id *new_ids = NULL;
    int *new_results = NULL;
    int rc = nq_usable(q, err);

    if (rc != NQ_OK || (rc = nq_tx_check(q->store, tx, err)) != NQ_OK || n == 0)
        return rc;
    if (!tasks)
        return nq_err_set(err, NQ_EINVAL, "tasks is NULL but n is %zu", n);
    if (n > SIZE_MAX / sizeof *new_tasks)
        return nq_err_nomem(err);
    /* Outputs are written on success only, so the store writes to arrays of our own. */
    new_tasks = calloc(n, sizeof *new_tasks);
    new_ids = calloc(n, sizeof *new_ids);
    new_results = calloc(n, sizeof *new_results);
    if (!new_tasks || !new_ids || !new_results) {
        rc = nq_err_nomem(err);
        goto out;
    }
    if ((rc = queue_specs(q, tasks, n, new_tasks, err)) != NQ_OK ||
        (rc = queue_insert(q, tx, new_tasks, n, new_ids, new_results, err)) != NQ_OK)
        goto out;
    if (ids)
        memcpy(ids, new_ids, n * sizeof *ids);
    if (results)
        memcpy(results, new_results, n * sizeof *results);
out:
    nq_spec_free(new_tasks, new_tasks ? n : 0);
    free(new_tasks);
    free(new_ids);
    free(new_results);
    return rc;
}

void nq_free(void *memory)
{
    free(memory);
}
