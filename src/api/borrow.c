/* SPDX-License-Identifier: MIT */
/* Loans of workers in other processes: the offers that came, and what is said of them. */
#include <errno.h>

#include "api.h"

#define BORROW_OFFERS 8

struct borrow_offer {
    uint64_t queue, lease; /* lease 0: none */
    int64_t until_us;
    struct sockaddr_un at; /* the worker's */
    socklen_t size;
};

struct nq_borrower {
    pthread_mutex_t lock; /* guards the offers; never held in a call that waits */
    struct borrow_offer offers[BORROW_OFFERS];
};

struct borrow_loan {
    nq_loan loan; /* first: whoever has it has a pointer to it */
    struct borrow_offer of;
    int fd;
};

NQ_PRIVATE nq_borrower *nq_borrower_new(void)
{
    nq_borrower *b = calloc(1, sizeof *b);
    if (b && pthread_mutex_init(&b->lock, NULL) != 0) {
        free(b);
        return NULL;
    }
    return b;
}

NQ_PRIVATE void nq_borrower_free(nq_borrower *b)
{
    if (!b)
        return;
    pthread_mutex_destroy(&b->lock);
    free(b);
}

/* ---- Offers ---- */

/* With the lock held: one more, or a newer word of one; in the place of the one that ends first. */
static void borrow_note(nq_borrower *b, const nq_loan_message *m, const nq_hint_from *from)
{
    struct borrow_offer *at = &b->offers[0];
    for (size_t i = 0; i < BORROW_OFFERS; i++) {
        struct borrow_offer *o = &b->offers[i];
        if (o->lease == m->lease) {
            at = o;
            break;
        }
        at = o->lease == 0 || o->until_us < at->until_us ? o : at;
    }
    if (m->says == NQ_LOAN_OFFER)
        *at = (struct borrow_offer){m->queue, m->lease, m->until_us, from->at, from->size};
    else if (m->says == NQ_LOAN_RECALL && at->lease == m->lease)
        *at = (struct borrow_offer){0};
}

/* With the lock held. */
static void borrow_read(nq_borrower *b, int fd)
{
    nq_loan_message m;
    nq_hint_from from;
    ssize_t n;
    while ((n = nq_hints_read(fd, &m, sizeof m, &from)) >= 0)
        if (n == (ssize_t)sizeof m && m.magic == NQ_LOAN_MAGIC && m.lease && !from.stranger)
            borrow_note(b, &m, &from);
}

/* With the lock held. */
static bool borrow_take(nq_borrower *b, uint64_t queue, struct borrow_offer *out)
{
    const int64_t now = nq_mono_us();
    for (size_t i = 0; i < BORROW_OFFERS; i++) {
        struct borrow_offer *o = &b->offers[i];
        if (!o->lease || o->queue != queue)
            continue;
        *out = *o;
        *o = (struct borrow_offer){0};
        if (out->until_us > now)
            return true;
    }
    return false;
}

/* ---- What is said of a loan ---- */

/* 0, or errno. */
static int borrow_say(const struct borrow_loan *l, enum nq_loan_says says, const nq_buf *more)
{
    nq_loan_message m = {NQ_LOAN_MAGIC, says, l->of.queue, l->of.lease, 0};
    struct sockaddr_un to = l->of.at;
    struct iovec iov[2] = {{&m, sizeof m}, {more ? more->p : NULL, more ? more->n : 0}};
    const struct msghdr msg = {
        .msg_name = &to, .msg_namelen = l->of.size, .msg_iov = iov, .msg_iovlen = more ? 2 : 1};
    const int saved = errno;
    const int failed = sendmsg(l->fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 ? errno : 0;
    errno = saved;
    return failed;
}

/* A worker that is there but does not hear it knows that the INSERT began, and looks for itself. */
static bool borrow_born(nq_loan *loan, nq_claimed *claim)
{
    struct borrow_loan *l = (struct borrow_loan *)loan;
    nq_buf packed = {0};
    nq_claimed_pack(&packed, claim);
    const int failed = packed.failed ? ENOBUFS : borrow_say(l, NQ_LOAN_BORN, &packed);
    const bool there = failed == 0 || failed == EAGAIN || failed == ENOBUFS || failed == EMSGSIZE;
    nq_buf_free(&packed);
    free(l);
    if (there)
        free(claim);
    return there;
}

static void borrow_unused(nq_loan *loan, bool doubt)
{
    struct borrow_loan *l = (struct borrow_loan *)loan;
    (void)borrow_say(l, doubt ? NQ_LOAN_DOUBT : NQ_LOAN_UNUSED, NULL);
    free(l);
}

NQ_PRIVATE nq_loan *nq_borrow(nq_borrower *b, int fd, uint64_t queue)
{
    struct borrow_offer of;
    pthread_mutex_lock(&b->lock);
    borrow_read(b, fd);
    const bool got = borrow_take(b, queue, &of);
    pthread_mutex_unlock(&b->lock);
    struct borrow_loan *l = got ? malloc(sizeof *l) : NULL;
    if (!l)
        return NULL;
    *l = (struct borrow_loan){{of.lease, borrow_born, borrow_unused}, of, fd};
    if (borrow_say(l, NQ_LOAN_BEGIN, NULL) == 0)
        return &l->loan;
    free(l); /* it has ended, or is too busy to hear it */
    return NULL;
}
