/* SPDX-License-Identifier: MIT */
/* Loans of workers in other processes: the offers that came, and what is said of them. */
#include <errno.h>
#include <unistd.h>

#include "api.h"

#define BORROW_OFFERS 8

struct borrow_offer {
    uint64_t queue, lease; /* lease 0: none */
    int64_t until_us;
    int fd; /* to answer on */
};

struct nq_borrower {
    pthread_mutex_t lock; /* guards the offers; never held in a call that waits */
    struct borrow_offer offers[BORROW_OFFERS];
};

struct borrow_loan {
    nq_loan loan; /* first: whoever has it has a pointer to it */
    struct borrow_offer of;
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

static void borrow_drop(struct borrow_offer *o)
{
    if (o->lease)
        close(o->fd);
    *o = (struct borrow_offer){0};
}

NQ_PRIVATE void nq_borrower_free(nq_borrower *b)
{
    if (!b)
        return;
    for (size_t i = 0; i < BORROW_OFFERS; i++)
        borrow_drop(&b->offers[i]);
    pthread_mutex_destroy(&b->lock);
    free(b);
}

/* ---- Offers ---- */

/* With the lock held: one more, or a newer word of one; in the place of the one that ends first. True: fd was
 * kept. */
static bool borrow_note(nq_borrower *b, const nq_loan_message *m, int fd)
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
    if (m->says == NQ_LOAN_OFFER && fd >= 0) {
        borrow_drop(at);
        *at = (struct borrow_offer){m->queue, m->lease, m->until_us, fd};
        return true;
    }
    if (m->says == NQ_LOAN_RECALL && at->lease == m->lease)
        borrow_drop(at);
    return false;
}

#define BORROW_AT_ONCE 64 /* whoever sends more, may be anybody of this host: the call that reads goes on */

/* With the lock held. */
static void borrow_read(nq_borrower *b, int fd)
{
    nq_loan_message m;
    nq_hint_from from;
    int passed;
    ssize_t n;
    for (int i = 0; i < BORROW_AT_ONCE && (n = nq_hints_read(fd, &m, sizeof m, &from, &passed)) >= 0; i++) {
        const bool heard = n == (ssize_t)sizeof m && m.magic == NQ_LOAN_MAGIC && m.lease && !from.stranger;
        if (!(heard && borrow_note(b, &m, passed)) && passed >= 0)
            close(passed);
    }
}

/* With the lock held. */
static bool borrow_take(nq_borrower *b, uint64_t queue, struct borrow_offer *out)
{
    const int64_t now = nq_mono_us();
    for (size_t i = 0; i < BORROW_OFFERS; i++) {
        struct borrow_offer *o = &b->offers[i];
        if (!o->lease || o->queue != queue)
            continue;
        if (o->until_us > now) {
            *out = *o;
            *o = (struct borrow_offer){0};
            return true;
        }
        borrow_drop(o);
    }
    return false;
}

/* ---- What is said of a loan ---- */

/* 0, or errno. */
static int borrow_say(const struct borrow_loan *l, enum nq_loan_says says, const nq_buf *more)
{
    nq_loan_message m = {NQ_LOAN_MAGIC, says, l->of.queue, l->of.lease, 0};
    struct iovec iov[2] = {{&m, sizeof m}, {more ? more->p : NULL, more ? more->n : 0}};
    const struct msghdr msg = {.msg_iov = iov, .msg_iovlen = more ? 2 : 1};
    const int saved = errno;
    const int failed = sendmsg(l->of.fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 ? errno : 0;
    errno = saved;
    return failed;
}

static void borrow_end(struct borrow_loan *l)
{
    borrow_drop(&l->of);
    free(l);
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
    borrow_end(l);
    if (there)
        free(claim);
    return there;
}

static void borrow_unused(nq_loan *loan, bool doubt)
{
    struct borrow_loan *l = (struct borrow_loan *)loan;
    (void)borrow_say(l, doubt ? NQ_LOAN_DOUBT : NQ_LOAN_UNUSED, NULL);
    borrow_end(l);
}

NQ_PRIVATE nq_loan *nq_borrow(nq_borrower *b, int fd, uint64_t queue)
{
    struct borrow_offer of;
    pthread_mutex_lock(&b->lock);
    borrow_read(b, fd);
    const bool got = borrow_take(b, queue, &of);
    pthread_mutex_unlock(&b->lock);
    if (!got)
        return NULL;
    struct borrow_loan *l = malloc(sizeof *l);
    if (!l) {
        borrow_drop(&of);
        return NULL;
    }
    *l = (struct borrow_loan){{of.lease, borrow_born, borrow_unused}, of};
    if (borrow_say(l, NQ_LOAN_BEGIN, NULL) == 0)
        return &l->loan;
    borrow_end(l); /* it has ended, or is too busy to hear it */
    return NULL;
}
