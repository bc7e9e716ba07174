/* SPDX-License-Identifier: MIT */
/* Loans: claims that an idle worker gives to producers, for tasks that are yet to be enqueued. */
#include <sys/socket.h>

#include "worker.h"

/*
 * The producer inserts the task already claimed, and then hands it over: one commit instead of two, and no
 * look at the queue. What keeps that true to a claim:
 *   - Lent is only while nothing is due, nothing is held back and a thread is free, so nobody is passed over;
 *     what is lent counts as held. And only for queues without settings, so that no limit or pause is either.
 *   - Each loan has a lease of its own. The INSERT takes effect only while this worker is a member, so a
 * producer that was stopped for an hour does not insert a task that nobody will run. If the worker dies after
 * that, the task comes back as any other of its tasks.
 *   - A producer that does not know whether its INSERT took effect says so: then duties look for the task by
 * its lease, for a while; and at last the worker enters anew, so that the lease is one of a worker that is
 * gone.
 */
#define LOANS_LOOK_US   NQ_MS(100)
#define LOANS_SOON_US   NQ_SECONDS(1) /* so long at that distance, then at this one */
#define LOANS_GIVEUP_US NQ_SECONDS(60)
/* An offer holds so long, and is made anew while its producer was heard of lately: a worker that is stopped
 * then draws few tasks. The fetcher is idle for a second at most. */
#define LOANS_OFFER_US  NQ_MS(1500)
#define LOANS_RENEW_US  NQ_MS(700)
#define LOANS_LATELY_US NQ_SECONDS(10)

struct loans_one {
    nq_loan loan; /* first: the producer has a pointer to it */
    nq_worker *worker;
    struct nq_worker_queue *queue;
    nq_ctx *ctx; /* made before, so that nothing can fail when the task is there */
};

static bool loans_born(nq_loan *loan, nq_claimed *claim);
static void loans_unused(nq_loan *loan, bool doubt);

/* With the lock held: is this worker idle, with nothing before a new task? */
static bool loans_idle(const nq_worker *w)
{
    return w->phase == NQ_PHASE_RUN && atomic_load(&w->stops) == 0 && w->fetcher == NQ_FETCHER_IDLE &&
           w->opts.drain == NQ_DRAIN_NEVER && !w->types && w->member && !w->rejoin && w->seq < w->seq_max &&
           !atomic_load(&w->hint) && !w->ready.head && !w->paced.head &&
           nq_worker_busy(w) + w->paused < w->opts.concurrency && w->ndoubts < NQ_LOAN_DOUBTS;
}

/* With the lock held: a queue that may be paused, held, limited or in turns is not lent for. */
static bool loans_plain(const nq_worker *w, const struct nq_worker_queue *queue)
{
    size_t n = 0;
    if (!w->settings || w->settings->nholds > 0 || nq_settings_find(w->settings, queue->name) ||
        queue->held_until_us >
            nq_mono_us()) /* by a handler of ours just now: the settings do not say so yet */
        return false;
    if (!nq_group_may_have(queue->name)) /* of a group, what is set for its queue holds too */
        return w->settings->n == 0;
    (void)nq_settings_groups(w->settings, queue->name, &n);
    return n == 0;
}

static struct nq_worker_queue *loans_hinted(nq_worker *w, uint64_t hint)
{
    for (size_t i = 0; i < w->nqueues; i++)
        if (w->queues[i].hint == hint)
            return &w->queues[i];
    return NULL;
}

/* With the lock held: would a new task of this queue be the next one? */
static bool loans_next(const nq_worker *w, const struct nq_worker_queue *queue)
{
    return queue && queue->wait_us != 0 && nq_queue_room(queue) > 0 && loans_plain(w, queue);
}

/* With the lock held. */
static void loans_count(struct loans_one *l, int n)
{
    nq_worker *w = l->worker;
    atomic_fetch_add(&w->lent, (unsigned)n);
    if (l->queue->asked > 0) /* a limit that is set meanwhile is none of its */
        l->queue->claiming += (unsigned)n;
}

/* With the lock held: it is no loan any more. Whoever waits for that goes on. */
static void loans_back(struct loans_one *l)
{
    nq_worker *w = l->worker;
    loans_count(l, -1);
    if (w->fetcher != NQ_FETCHER_IDLE)
        pthread_cond_signal(&w->fetch_cond);
    if (w->rejoin)
        pthread_cond_signal(&w->duties_cond);
    if (w->phase != NQ_PHASE_RUN)
        nq_worker_wake(w);
}

NQ_PRIVATE nq_loan *nq_worker_lend(void *arg, uint64_t queue)
{
    nq_worker *w = arg;
    struct loans_one l = {.worker = w, .queue = loans_hinted(w, queue)}, *made;
    pthread_mutex_lock(&w->lock);
    const bool lent = loans_idle(w) && loans_next(w, l.queue);
    if (lent) {
        l.loan = (nq_loan){NQ_LEASE(w->member, ++w->seq), loans_born, loans_unused};
        loans_count(&l, 1);
    }
    pthread_mutex_unlock(&w->lock);
    if (!lent)
        return NULL;
    made = malloc(sizeof *made);
    l.ctx = made ? nq_ctx_new(w) : NULL;
    if (l.ctx) {
        atomic_fetch_add(&w->refs, 1);
        *made = l;
        return &made->loan;
    }
    free(made);
    pthread_mutex_lock(&w->lock);
    loans_back(&l);
    pthread_mutex_unlock(&w->lock);
    return NULL;
}

/* With the lock held: is a thread free? */
static bool loans_room(const nq_worker *w, const struct nq_worker_queue *queue)
{
    return nq_worker_busy(w) + w->ready.n + w->paced.n < w->opts.concurrency && nq_queue_room(queue) > 0;
}

/* With the lock held: run it, or give it back. */
static void loans_take(nq_worker *w, nq_ctx *ctx, struct nq_worker_queue *queue, bool room)
{
    const bool run = room && loans_plain(w, queue) && w->phase == NQ_PHASE_RUN &&
                     atomic_load(&w->stops) == 0 && ctx->claim->unread == NQ_READ &&
                     w->member == NQ_LEASE_WORKER(ctx->claim->lease);
    atomic_fetch_add(&w->claimed, 1);
    w->taken++;
    w->wrote_us = ctx->held_us;
    if (run)
        nq_ready_push(w, ctx, queue);
    else
        nq_done_release(w, ctx);
    nq_ready_wake(w);
}

static bool loans_born(nq_loan *loan, nq_claimed *claim)
{
    struct loans_one *l = (struct loans_one *)loan;
    nq_worker *w = l->worker;
    nq_ctx_claimed(l->ctx, claim, nq_mono_us());
    pthread_mutex_lock(&w->lock);
    loans_back(l);
    const bool taken = w->phase <= NQ_PHASE_STOP;
    if (taken)
        loans_take(w, l->ctx, l->queue, true);
    pthread_mutex_unlock(&w->lock);
    if (!taken) {
        l->ctx->claim = NULL; /* the producer's still */
        nq_ctx_unref(l->ctx);
    }
    free(l);
    nq_worker_unref(w);
    return taken;
}

static void loans_unused(nq_loan *loan, bool doubt)
{
    struct loans_one *l = (struct loans_one *)loan;
    nq_worker *w = l->worker;
    pthread_mutex_lock(&w->lock);
    loans_back(l);
    if (doubt && w->ndoubts < NQ_LOAN_DOUBTS)
        w->doubts[w->ndoubts++] = (struct nq_loan_doubt){loan->lease, l->queue, nq_mono_us()};
    else if (doubt)
        w->rejoin = true;
    if (doubt)
        nq_worker_want(w, NQ_WANTED_DOUBTS);
    pthread_mutex_unlock(&w->lock);
    nq_ctx_unref(l->ctx);
    free(l);
    nq_worker_unref(w);
}

/* ---- Doubts ---- */

/* With the lock held: is it one of ours that is in doubt? Then it is so no more. */
static struct nq_worker_queue *loans_settle(nq_worker *w, uint64_t lease)
{
    struct nq_worker_queue *queue = NULL;
    for (size_t i = 0; i < w->ndoubts && !queue; i++)
        if (w->doubts[i].lease == lease) {
            queue = w->doubts[i].queue;
            w->doubts[i] = w->doubts[--w->ndoubts];
        }
    return queue;
}

/* A task that is there: ours, unless the other way to learn of it was faster. */
static bool loans_found(nq_worker *w, nq_ctx *ctx, nq_claimed *claim)
{
    nq_ctx_claimed(ctx, claim, nq_mono_us());
    pthread_mutex_lock(&w->lock);
    struct nq_worker_queue *const queue = loans_settle(w, claim->lease);
    const bool taken = queue && w->phase <= NQ_PHASE_STOP;
    if (taken)
        loans_take(w, ctx, queue, loans_room(w, queue)); /* where it would only wait, another one takes it */
    pthread_mutex_unlock(&w->lock);
    if (!taken)
        nq_ctx_unref(ctx);
    return taken;
}

static int loans_look(nq_worker *w, const struct nq_loan_doubt *doubt, nq_err *err)
{
    nq_claimed *claim = NULL;
    nq_ctx *const ctx = nq_ctx_new(w);
    const int rc =
        ctx ? nq_store_claimed(w->store, doubt->queue->name, doubt->lease, &claim, err) : nq_err_nomem(err);
    if (claim) {
        nq_claimed_load(w->store, claim, NULL);
        loans_found(w, ctx, claim);
        return NQ_OK;
    }
    nq_ctx_unref(ctx);
    if (rc != NQ_OK || nq_mono_us() - doubt->since_us < LOANS_GIVEUP_US)
        return rc;
    pthread_mutex_lock(&w->lock);
    if (loans_settle(w, doubt->lease) && w->member == NQ_LEASE_WORKER(doubt->lease))
        w->rejoin = true;
    pthread_cond_signal(&w->fetch_cond);
    pthread_mutex_unlock(&w->lock);
    return NQ_OK;
}

NQ_PRIVATE int nq_loans_look(nq_worker *w, int64_t *next_us, nq_err *err)
{
    struct nq_loan_doubt doubts[NQ_LOAN_DOUBTS];
    int rc = NQ_OK;
    pthread_mutex_lock(&w->lock);
    const size_t n = w->ndoubts;
    memcpy(doubts, w->doubts, n * sizeof *doubts);
    pthread_mutex_unlock(&w->lock);
    for (size_t i = 0; i < n && rc == NQ_OK; i++) {
        const int64_t age = nq_mono_us() - doubts[i].since_us;
        const int64_t again = age < LOANS_SOON_US ? LOANS_LOOK_US : LOANS_SOON_US;
        *next_us = again < *next_us ? again : *next_us;
        if (age >= LOANS_LOOK_US)
            rc = loans_look(w, &doubts[i], err);
    }
    return rc;
}

NQ_PRIVATE void nq_loans_check(nq_worker *w)
{
    pthread_mutex_lock(&w->lock);
    if (w->ndoubts > 0)
        nq_worker_want(w, NQ_WANTED_DOUBTS);
    pthread_mutex_unlock(&w->lock);
}

/* ---- Producers in other processes ---- */

static bool loans_say(const nq_worker *w, const struct nq_loan_borrower *b, enum nq_loan_says says)
{
    nq_loan_message m = {NQ_LOAN_MAGIC, says, b->queue->hint, b->lease, b->until_us};
    union {
        char space[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } control = {0};
    struct sockaddr_un at = b->from.at;
    struct iovec iov = {&m, sizeof m};
    struct msghdr msg = {.msg_name = &at, .msg_namelen = b->from.size, .msg_iov = &iov, .msg_iovlen = 1};
    if (says == NQ_LOAN_OFFER) {
        msg.msg_control = &control;
        msg.msg_controllen = sizeof control;
        struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
        *c = (struct cmsghdr){
            .cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
        memcpy(CMSG_DATA(c), &w->answer_fd, sizeof w->answer_fd);
    }
    return sendmsg(w->loan_fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL) == (ssize_t)sizeof m;
}

NQ_PRIVATE void nq_loans_open(nq_worker *w, int fd, int answers)
{
    pthread_mutex_lock(&w->lock);
    if (fd < 0)
        nq_loans_recall(w);
    w->loan_fd = fd;
    w->answer_fd = answers;
    w->nborrowers = 0;
    pthread_mutex_unlock(&w->lock);
}

/* With the lock held: how many may begin to insert at any time. */
static size_t loans_offered(const nq_worker *w, int64_t now)
{
    size_t n = 0;
    for (size_t i = 0; i < w->nborrowers; i++)
        n += w->borrowers[i].lease && w->borrowers[i].until_us > now;
    return n;
}

static void loans_forget(nq_worker *w, struct nq_loan_borrower *b)
{
    *b = w->borrowers[--w->nborrowers];
}

NQ_PRIVATE void nq_loans_recall(nq_worker *w)
{
    const int64_t now = nq_mono_us();
    for (size_t i = 0; i < w->nborrowers; i++) {
        struct nq_loan_borrower *b = &w->borrowers[i];
        if (b->lease && b->until_us > now)
            (void)loans_say(w, b, NQ_LOAN_RECALL);
        b->lease = 0;
    }
}

/* With the lock held: offer this one something, or renew it; false: it is gone. */
static bool loans_offer(nq_worker *w, struct nq_loan_borrower *b, int64_t now)
{
    if (now - b->heard_us > LOANS_LATELY_US)
        return false;
    if (!loans_next(w, b->queue) || (b->lease && b->until_us - now > LOANS_RENEW_US))
        return true;
    if (!b->lease && nq_worker_busy(w) + w->paused + loans_offered(w, now) >= w->opts.concurrency)
        return true;
    b->lease = b->lease ? b->lease : NQ_LEASE(w->member, ++w->seq);
    b->until_us = now + LOANS_OFFER_US;
    return loans_say(w, b, NQ_LOAN_OFFER);
}

NQ_PRIVATE void nq_loans_offer(nq_worker *w)
{
    const int64_t now = nq_mono_us();
    for (size_t i = w->nborrowers; i > 0 && loans_idle(w); i--)
        if (!loans_offer(w, &w->borrowers[i - 1], now))
            loans_forget(w, &w->borrowers[i - 1]);
}

/* With the lock held: the one that was heard of longest ago gives way to a new one. */
static struct nq_loan_borrower *loans_place(nq_worker *w, const nq_hint_from *from)
{
    struct nq_loan_borrower *oldest = &w->borrowers[0];
    for (size_t i = 0; i < w->nborrowers; i++) {
        struct nq_loan_borrower *b = &w->borrowers[i];
        if (b->from.size == from->size && memcmp(&b->from.at, &from->at, from->size) == 0)
            return b;
        oldest = b->heard_us < oldest->heard_us ? b : oldest;
    }
    if (w->nborrowers < NQ_LOAN_BORROWERS)
        oldest = &w->borrowers[w->nborrowers++];
    else if (oldest->lease)
        (void)loans_say(w, oldest, NQ_LOAN_RECALL);
    *oldest = (struct nq_loan_borrower){.from = *from};
    return oldest;
}

NQ_PRIVATE void nq_loans_borrower(nq_worker *w, uint64_t queue, const nq_hint_from *from)
{
    struct nq_worker_queue *const ours = loans_hinted(w, queue);
    if (!ours || from->size <= sizeof(sa_family_t))
        return;
    pthread_mutex_lock(&w->lock);
    if (w->loan_fd >= 0) {
        struct nq_loan_borrower *b = loans_place(w, from);
        if (b->queue && b->queue != ours && b->lease)
            (void)loans_say(w, b, NQ_LOAN_RECALL);
        b->lease = b->queue == ours ? b->lease : 0;
        b->queue = ours;
        b->heard_us = nq_mono_us();
    }
    pthread_mutex_unlock(&w->lock);
}

/* With the lock held: the producer inserts from now on. */
static bool loans_begin(nq_worker *w, const nq_loan_message *m)
{
    const int64_t now = nq_mono_us();
    struct nq_worker_queue *const queue = loans_hinted(w, m->queue);
    for (size_t i = 0; i < w->nborrowers; i++)
        if (w->borrowers[i].lease == m->lease) {
            w->borrowers[i].lease = 0;
            w->borrowers[i].heard_us = now;
        }
    w->wrote_us = now;
    if (!queue || NQ_LEASE_WORKER(m->lease) != w->member || (m->lease & NQ_LEASE_SEQ_MAX) > w->seq)
        return false; /* whoever finds it gives it back */
    if (w->ndoubts < NQ_LOAN_DOUBTS)
        w->doubts[w->ndoubts++] = (struct nq_loan_doubt){m->lease, queue, now};
    else
        w->rejoin = true;
    return true;
}

static void loans_handed(nq_worker *w, const nq_loan_message *m, const char *packed, size_t n)
{
    nq_claimed *const claim = nq_claimed_unpack(packed, n, m->lease);
    nq_ctx *const ctx = claim ? nq_ctx_new(w) : NULL;
    if (ctx)
        loans_found(w, ctx, claim);
    else
        free(claim); /* it is in doubt still, and will be found */
}

NQ_PRIVATE bool nq_loans_heard(nq_worker *w, const char *message, size_t n)
{
    nq_loan_message m;
    bool begun = false;
    memcpy(&m, message, sizeof m);
    if (m.magic != NQ_LOAN_MAGIC || !m.lease)
        return false;
    if (m.says == NQ_LOAN_BORN)
        loans_handed(w, &m, message + sizeof m, n - sizeof m);
    pthread_mutex_lock(&w->lock);
    if (m.says == NQ_LOAN_BEGIN)
        begun = loans_begin(w, &m);
    else if (m.says == NQ_LOAN_UNUSED)
        (void)loans_settle(w, m.lease);
    if (m.says != NQ_LOAN_BEGIN && w->nborrowers > 0)
        nq_loans_offer(w);
    pthread_mutex_unlock(&w->lock);
    if (m.says == NQ_LOAN_DOUBT)
        nq_loans_check(w);
    return begun;
}
