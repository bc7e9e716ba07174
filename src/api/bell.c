/* SPDX-License-Identifier: MIT */
/* Hints through the database server: a worker's bell, and the thread that rings the bells of others. */
#include <fcntl.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../store/store.h"

/* Longest list of queues on a bell; a worker of more is rung for any. */
#define BELL_QUEUES 16
/* Rings of one handle: at most one per ms and, over time, so many a second; each costs the server and us
 * about 0.2 ms together. */
#define BELL_RINGS_PER_S 40
#define BELL_RINGS_BURST 20
#define BELL_GAP_US      NQ_MS(1)
/* When no bell hung out, the queue is busy or nobody serves it: ask less and less often. */
#define BELL_NONE_MIN_US NQ_MS(5)
#define BELL_NONE_MAX_US NQ_MS(50)
#define BELL_FAILED_US   NQ_SECONDS(1)
/* A handle that is closed right after an enqueue still rings, if the server answers within this time. */
#define BELL_LINGER_US NQ_MS(200)
/* When a worker of this host was told already: let it have the machine to itself, then ring for others. */
#define BELL_TOLD_US NQ_MS(3)

/* ---- A connection that another thread can break off ---- */

/* Lock rule: `mutex` guards both fields and is held for a system call at most. The descriptor is a duplicate:
 * the client library may close its own at any moment. */
struct bell_line {
    pthread_mutex_t mutex;
    int fd; /* of the connection in use, or -1 */
    bool cut;
};

static void bell_line_set(struct bell_line *l, nq_conn *c)
{
    const nq_driver *d = c ? c->store->driver : NULL;
    const int fd = d && d->socket ? d->socket(c) : -1;
    pthread_mutex_lock(&l->mutex);
    if (l->fd >= 0)
        close(l->fd);
    l->fd = fd >= 0 ? fcntl(fd, F_DUPFD_CLOEXEC, 0) : -1;
    if (l->cut && l->fd >= 0)
        shutdown(l->fd, SHUT_RDWR);
    pthread_mutex_unlock(&l->mutex);
}

static void bell_line_cut(struct bell_line *l)
{
    pthread_mutex_lock(&l->mutex);
    l->cut = true;
    if (l->fd >= 0)
        shutdown(l->fd, SHUT_RDWR);
    pthread_mutex_unlock(&l->mutex);
}

static bool bell_line_is_cut(struct bell_line *l)
{
    pthread_mutex_lock(&l->mutex);
    const bool cut = l->cut;
    pthread_mutex_unlock(&l->mutex);
    return cut;
}

/* ---- A bell ---- */

struct nq_bell {
    nq_store *store;
    nq_conn *conn; /* its own, outside the pool: nothing else ever runs on it */
    struct bell_line line;
    uint64_t host;
    size_t n;
    uint64_t queues[BELL_QUEUES];
};

NQ_PRIVATE int nq_bell_new(nq_bell **out, nq_store *s, const uint64_t queues[], size_t n, bool told,
                           nq_err *err)
{
    if (!(s->hints & NQ_HINTS_SERVER) || !s->driver->bell_hang)
        return nq_err_set(err, NQ_EUNSUPPORTED, "no hints through the server");
    nq_bell *b = calloc(1, sizeof *b);
    if (!b)
        return nq_err_nomem(err);
    if (pthread_mutex_init(&b->line.mutex, NULL)) {
        free(b);
        return nq_err_nomem(err);
    }
    b->line.fd = -1;
    b->store = s;
    b->host = told ? nq_hint_host() : 0;
    b->n = n <= BELL_QUEUES ? n : 1;
    for (size_t i = 0; i < b->n; i++)
        b->queues[i] = n <= BELL_QUEUES ? queues[i] : NQ_HINT_ANY;
    *out = b;
    return NQ_OK;
}

static void bell_hang_up(nq_bell *b)
{
    bell_line_set(&b->line, NULL);
    if (b->conn)
        b->store->driver->disconnect(b->conn);
    b->conn = NULL;
}

NQ_PRIVATE void nq_bell_free(nq_bell *b)
{
    if (!b)
        return;
    bell_hang_up(b);
    pthread_mutex_destroy(&b->line.mutex);
    free(b);
}

NQ_PRIVATE int nq_bell_hang(nq_bell *b, nq_err *err)
{
    const nq_driver *d = b->store->driver;
    int rc = NQ_OK;
    if (b->conn && (b->conn->broken || !d->usable(b->conn)))
        bell_hang_up(b);
    if (bell_line_is_cut(&b->line))
        return nq_err_set(err, NQ_EUNAVAILABLE, "stopped");
    if (!b->conn) {
        if ((rc = d->connect(b->store, &b->conn, err)) != NQ_OK)
            return rc;
        bell_line_set(&b->line, b->conn);
    }
    if ((rc = d->bell_hang(b->conn, b->host, b->queues, b->n, err)) != NQ_OK)
        bell_hang_up(b);
    return rc;
}

NQ_PRIVATE int nq_bell_wait(nq_bell *b, bool *rung, nq_err *err)
{
    const int rc = b->store->driver->bell_wait(b->conn, rung, err);
    if (rc != NQ_OK)
        bell_hang_up(b);
    return rc;
}

NQ_PRIVATE void nq_bell_interrupt(nq_bell *b)
{
    bell_line_cut(&b->line);
}

/* ---- Ringing ---- */

/* Lock rule: `mutex` guards what is below it and is never held while the database is talked to; the line's
 * own mutex may be taken under it. */
struct nq_ringer {
    nq_store *store;
    uint64_t host; /* whose bells need no ringing; 0: none's */
    struct bell_line line;
    pthread_mutex_t mutex;
    pthread_cond_t cond;
    pthread_t thread;
    bool started, stop, ended;
    bool idle;       /* the thread waits to be told */
    int64_t from_us; /* not before */
    size_t n;        /* what to ring for */
    uint64_t queues[NQ_HINT_QUEUES];
};

/* When the thread may ring next; its own. */
struct bell_pace {
    int64_t next_us, none_us;
    int64_t full_us; /* when all of the burst is to be had again */
};

struct bell_ring {
    nq_ringer *ringer;
    const uint64_t *queues;
    size_t n;
    unsigned rung;
};

static int bell_ring_run(nq_conn *c, void *arg, nq_err *err)
{
    struct bell_ring *a = arg;
    bell_line_set(&a->ringer->line, c);
    const int rc = c->store->driver->bell_ring(c, a->ringer->host, a->queues, a->n, &a->rung, err);
    bell_line_set(&a->ringer->line, NULL);
    return rc;
}

/* On one of the pool's connections: one is at hand just after an enqueue, so that even a program which
 * enqueues and ends rings in time. No second try: a hint that is late is none. */
static int bell_ring_once(nq_ringer *r, const uint64_t queues[], size_t n, unsigned *rung)
{
    struct bell_ring a = {r, queues, n, 0};
    nq_conn *c = NULL;
    nq_err err = {0};
    int rc = nq_pool_get(r->store, &c, &err);
    if (rc == NQ_OK)
        rc = bell_ring_run(c, &a, &err);
    nq_pool_put(c);
    if (rc != NQ_OK && r->store->log && !bell_line_is_cut(&r->line)) {
        char text[600];
        snprintf(text, sizeof(text), "ringing: %s", err.message);
        r->store->log(NQ_LOG_DEBUG, text, r->store->log_udata);
    }
    *rung = a.rung;
    return rc;
}

static void bell_pace_set(struct bell_pace *p, int rc, unsigned rung)
{
    const int64_t now = nq_mono_us(), each = NQ_SECONDS(1) / BELL_RINGS_PER_S;
    if (rc != NQ_OK) {
        p->next_us = now + BELL_FAILED_US;
    } else if (rung == 0) {
        p->next_us = now + p->none_us;
        p->none_us = p->none_us * 2 < BELL_NONE_MAX_US ? p->none_us * 2 : BELL_NONE_MAX_US;
    } else {
        p->none_us = BELL_NONE_MIN_US;
        p->full_us = (p->full_us > now ? p->full_us : now) + each;
        p->next_us = p->full_us - each * BELL_RINGS_BURST;
        if (p->next_us < now + BELL_GAP_US)
            p->next_us = now + BELL_GAP_US;
    }
}

/* With the lock held: until there is something to ring for and it is time to; false at the end. */
static bool bell_ring_wait(nq_ringer *r, struct bell_pace *p)
{
    for (;;) {
        if (r->n == 0) {
            if (r->stop)
                return false;
            r->idle = true;
            pthread_cond_wait(&r->cond, &r->mutex);
            r->idle = false;
            if (nq_mono_us() > p->next_us + BELL_NONE_MAX_US)
                p->none_us = BELL_NONE_MIN_US; /* it was quiet for a while */
            continue;
        }
        const int64_t from = r->from_us > p->next_us ? r->from_us : p->next_us;
        if (r->stop || nq_mono_us() >= from)
            return !bell_line_is_cut(&r->line);
        nq_cond_wait_until(&r->cond, &r->mutex, from);
    }
}

static void *bell_ring_main(void *arg)
{
    nq_ringer *r = arg;
    struct bell_pace pace = {.none_us = BELL_NONE_MIN_US};
    pthread_mutex_lock(&r->mutex);
    while (bell_ring_wait(r, &pace)) {
        uint64_t queues[NQ_HINT_QUEUES];
        const size_t n = r->n;
        unsigned rung = 0;
        memcpy(queues, r->queues, n * sizeof *queues);
        r->n = 0;
        pthread_mutex_unlock(&r->mutex);
        const int rc = bell_ring_once(r, queues, n, &rung);
        bell_pace_set(&pace, rc, rung);
        pthread_mutex_lock(&r->mutex);
    }
    r->ended = true;
    pthread_cond_broadcast(&r->cond);
    pthread_mutex_unlock(&r->mutex);
    return NULL;
}

NQ_PRIVATE int nq_ringer_new(nq_ringer **out, nq_store *s, nq_err *err)
{
    nq_ringer *r = calloc(1, sizeof *r);
    if (!r)
        return nq_err_nomem(err);
    r->store = s;
    r->host = s->hints & NQ_HINTS_LOCAL ? nq_hint_host() : 0;
    r->line.fd = -1;
    if (pthread_mutex_init(&r->line.mutex, NULL))
        goto out;
    if (pthread_mutex_init(&r->mutex, NULL))
        goto out_line;
    if (nq_cond_init(&r->cond) == 0) {
        *out = r;
        return NQ_OK;
    }
    pthread_mutex_destroy(&r->mutex);
out_line:
    pthread_mutex_destroy(&r->line.mutex);
out:
    free(r);
    return nq_err_nomem(err);
}

NQ_PRIVATE void nq_ringer_free(nq_ringer *r)
{
    if (!r)
        return;
    pthread_mutex_lock(&r->mutex);
    r->stop = true;
    pthread_cond_broadcast(&r->cond);
    const int64_t until = nq_mono_us() + BELL_LINGER_US;
    while (r->started && !r->ended && nq_cond_wait_until(&r->cond, &r->mutex, until))
        ;
    pthread_mutex_unlock(&r->mutex);
    bell_line_cut(&r->line);
    if (r->started)
        pthread_join(r->thread, NULL);
    pthread_cond_destroy(&r->cond);
    pthread_mutex_destroy(&r->mutex);
    pthread_mutex_destroy(&r->line.mutex);
    free(r);
}

NQ_PRIVATE void nq_ringer_ring(nq_ringer *r, const uint64_t queues[], size_t n, bool told)
{
    pthread_mutex_lock(&r->mutex);
    const int64_t from_us = told ? nq_mono_us() + BELL_TOLD_US : 0;
    if (r->n == 0 || from_us < r->from_us)
        r->from_us = from_us;
    for (size_t i = 0; i < n; i++) {
        size_t at = 0;
        while (at < r->n && r->queues[at] != queues[i])
            at++;
        if (at == NQ_HINT_QUEUES) { /* no room: for all of them */
            r->queues[0] = NQ_HINT_ANY;
            r->n = 1;
        } else if (at == r->n) {
            r->queues[r->n++] = queues[i];
        }
    }
    if (!r->started && !r->stop)
        r->started = nq_thread_start(&r->thread, bell_ring_main, r, NULL) == NQ_OK;
    else if (r->idle)
        pthread_cond_signal(&r->cond);
    pthread_mutex_unlock(&r->mutex);
}
