/* SPDX-License-Identifier: MIT */
/* The connections of one store, shared by its threads. */
#include "store.h"

/* How long to wait for another thread of this process to give a connection back. */
#define POOL_WAIT_US NQ_SECONDS(30)

/* Lock rule: `mutex` guards every field; it is never held while the database is talked to. */
struct nq_pool {
    pthread_mutex_t mutex;
    pthread_cond_t cond; /* a connection came back, or may be opened */
    nq_conn *idle;       /* the last used first: the others may be closed by the server in peace */
    unsigned open, max;
};

NQ_PRIVATE int nq_pool_open(nq_store *s, unsigned max, nq_err *err)
{
    struct nq_pool *p = calloc(1, sizeof *p);
    int rc;
    if (!p)
        return nq_err_nomem(err);
    p->max = max ? max : 1;
    if ((rc = pthread_mutex_init(&p->mutex, NULL)) != NQ_OK) {
        free(p);
        return nq_err_sys(err, NQ_ESYSTEM, rc, "mutex");
    }
    if (nq_cond_init(&p->cond)) {
        pthread_mutex_destroy(&p->mutex);
        free(p);
        return nq_err_set(err, NQ_ESYSTEM, "cannot make a condition variable");
    }
    s->pool = p;
    return NQ_OK;
}

NQ_PRIVATE unsigned nq_pool_max(const nq_store *s)
{
    return s->pool->max;
}

NQ_PRIVATE void nq_pool_close(nq_store *s)
{
    struct nq_pool *p = s->pool;
    if (!p)
        return;
    s->pool = NULL;
    while (p->idle) {
        nq_conn *c = p->idle;
        p->idle = c->next;
        s->driver->disconnect(c);
    }
    pthread_cond_destroy(&p->cond);
    pthread_mutex_destroy(&p->mutex);
    free(p);
}

/* One connection less: another may be opened in its place. */
static void pool_forget(struct nq_pool *p)
{
    pthread_mutex_lock(&p->mutex);
    p->open--;
    pthread_cond_signal(&p->cond);
    pthread_mutex_unlock(&p->mutex);
}

/* An idle connection into *out, or NULL there and the right to open one. False when neither came in time. */
static bool pool_take(struct nq_pool *p, nq_conn **out)
{
    const int64_t until = nq_mono_us() + POOL_WAIT_US;
    bool ok = true;
    pthread_mutex_lock(&p->mutex);
    while (!p->idle && p->open >= p->max && ok)
        ok = nq_cond_wait_until(&p->cond, &p->mutex, until) || p->idle || p->open < p->max;
    *out = NULL;
    if (p->idle) {
        *out = p->idle;
        p->idle = (*out)->next;
        (*out)->next = NULL;
    } else if (ok) {
        p->open++;
    }
    pthread_mutex_unlock(&p->mutex);
    return ok;
}

/* A connection of ours has the time that was set, or goes on by its own. */
static int pool_clock(nq_store *s, nq_conn *c, nq_err *err)
{
    const int64_t us = atomic_load_explicit(&s->clock_us, memory_order_relaxed);
    int rc = NQ_OK;
    if (us == c->clock_us)
        return NQ_OK;
    if (s->driver->set_clock)
        rc = s->driver->set_clock(c, us, err);
    c->clock_us = us;
    c->broken = c->broken || rc != NQ_OK;
    if (rc != NQ_OK)
        nq_pool_put(c);
    return rc;
}

static int pool_get(nq_store *s, nq_conn **out, nq_err *err)
{
    nq_conn *c;
    int rc;
    for (;;) {
        if (!pool_take(s->pool, &c))
            return nq_err_set(err, NQ_EUNAVAILABLE, "all %u connections stayed in use for %d s", s->pool->max,
                              (int)(POOL_WAIT_US / NQ_SECONDS(1)));
        if (!c)
            break;
        if (s->driver->usable(c)) {
            *out = c;
            return NQ_OK;
        }
        s->driver->disconnect(c);
        pool_forget(s->pool);
    }
    if ((rc = s->driver->connect(s, &c, err)) != NQ_OK) {
        pool_forget(s->pool);
        return rc;
    }
    *out = c;
    return NQ_OK;
}

NQ_PRIVATE int nq_pool_get(nq_store *s, nq_conn **out, nq_err *err)
{
    const int rc = pool_get(s, out, err);
    return rc == NQ_OK ? pool_clock(s, *out, err) : rc;
}

NQ_PRIVATE void nq_pool_put(nq_conn *c)
{
    if (!c)
        return;
    nq_store *s = c->store;
    struct nq_pool *p = s->pool;
    struct nq_line *const lines = c->lines;
    c->lines = NULL;
    if (c->broken) {
        s->driver->disconnect(c);
        pool_forget(p);
    } else {
        pthread_mutex_lock(&p->mutex);
        c->next = p->idle;
        p->idle = c;
        pthread_cond_signal(&p->cond);
        pthread_mutex_unlock(&p->mutex);
    }
    nq_lines_say(s, lines);
}
