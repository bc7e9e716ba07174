/* SPDX-License-Identifier: MIT */
/* Hints to workers in other processes of this host: datagrams to sockets named after the database. */
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <unistd.h>

#include "api.h"

/* Workers of one database on one host that can be told, one bit each in `own`; a further one is not. */
#define HINTS_PLACES 32
/* One of them will take the task: so many are woken for it, the next ones the next time. */
#define HINTS_TOLD 8
/* How long a place is passed over after nobody was there. */
#define HINTS_EMPTY_US NQ_MS(100)
/* Processes that wait for tasks of one database on one host and are told of their ends; others look. */
#define HINTS_WAITERS 8
/* How long nobody is told after nobody waited, unless somebody says that he begins to. */
#define HINTS_NOBODY_US NQ_MS(500)

struct nq_hints {
    nq_store *store;
    nq_ringer *ringer; /* NULL: none */
    nq_borrower *borrower;
    bool local;
    char name[48];                                  /* without the place */
    atomic_int fd;                                  /* to send from; -1: not made yet */
    atomic_uint own;                                /* places of this handle's workers */
    atomic_int next;                                /* the place to begin with */
    atomic_int_least64_t empty_until[HINTS_PLACES]; /* our clock */
    atomic_int_least64_t nobody_until;              /* nobody waits for tasks; the same */
};

/* "nanoq." and 32 hex digits. Nothing to name: no local hints. */
static int hints_name(nq_hints *h, nq_err *err)
{
    const nq_store *s = h->store;
    nq_buf identity = {0};
    uint8_t hash[32];
    int rc = NQ_OK;
    if (!(s->hints & NQ_HINTS_LOCAL) || !s->driver->identity)
        return NQ_OK;
    s->driver->identity(s, &identity);
    if (identity.failed) {
        rc = nq_err_nomem(err);
    } else if (identity.n) {
        nq_buf_add(&identity, "", 1);
        nq_buf_str(&identity, s->prefix);
        nq_unique_hash(hash, "hints", identity.failed ? "" : identity.p, identity.failed ? 0 : identity.n);
        memcpy(h->name, "nanoq.", 7);
        for (size_t i = 0; i < 16; i++)
            snprintf(h->name + 6 + 2 * i, 3, "%02x", hash[i]);
        h->local = !identity.failed;
    }
    nq_buf_free(&identity);
    return rc;
}

NQ_PRIVATE int nq_hints_open(nq_hints **out, nq_store *s, nq_err *err)
{
    nq_hints *h = calloc(1, sizeof *h);
    int rc;
    if (!h)
        return nq_err_nomem(err);
    h->store = s;
    atomic_init(&h->fd, -1);
    h->borrower = nq_borrower_new();
    rc = h->borrower ? hints_name(h, err) : nq_err_nomem(err);
    if (rc == NQ_OK && (s->hints & NQ_HINTS_SERVER) && s->driver->bell_ring)
        rc = nq_ringer_new(&h->ringer, s, err);
    if (rc != NQ_OK) {
        nq_borrower_free(h->borrower);
        free(h);
        return rc;
    }
    *out = h;
    return NQ_OK;
}

NQ_PRIVATE void nq_hints_close(nq_hints *h)
{
    if (!h)
        return;
    nq_ringer_free(h->ringer);
    nq_borrower_free(h->borrower);
    if (atomic_load(&h->fd) >= 0)
        close(atomic_load(&h->fd));
    free(h);
}

/* ---- Sending ---- */

/* An abstract address: it leaves nothing in the file system and goes with its socket. */
static socklen_t hints_address(const nq_hints *h, const char *who, int place, struct sockaddr_un *at)
{
    memset(at, 0, sizeof *at);
    at->sun_family = AF_UNIX;
    const int n = snprintf(at->sun_path + 1, sizeof at->sun_path - 1, "%s.%s%d", h->name, who, place);
    return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)n);
}

/* Let the kernel give it an address, for answers, and say with each datagram whose it is. */
static void hints_receive(int fd)
{
    const sa_family_t family = AF_UNIX;
    const int on = 1;
    struct sockaddr_un any = {.sun_family = family};
    (void)bind(fd, (const struct sockaddr *)&any, sizeof family);
    (void)setsockopt(fd, SOL_SOCKET, SO_PASSCRED, &on, sizeof on);
}

static int hints_fd(nq_hints *h)
{
    int fd = atomic_load(&h->fd), none = -1;
    if (fd >= 0)
        return fd;
    fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd >= 0)
        hints_receive(fd);
    if (fd >= 0 && !atomic_compare_exchange_strong(&h->fd, &none, fd)) {
        close(fd);
        fd = none; /* another thread's */
    }
    return fd;
}

/* False when nobody is there. A full socket has hints enough. */
static bool hints_tell(const nq_hints *h, int fd, int place, const uint64_t queues[], size_t n, nq_id id)
{
    struct sockaddr_un at;
    const socklen_t size = hints_address(h, "", place, &at);
    for (size_t i = 0; i < n; i++) {
        const uint64_t hint[2] = {queues[i], (uint64_t)id};
        if (sendto(fd, hint, sizeof(hint), MSG_DONTWAIT | MSG_NOSIGNAL, (const struct sockaddr *)&at, size) <
                0 &&
            errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR)
            return false;
    }
    return true;
}

/* True when somebody was told. */
static bool hints_local(nq_hints *h, const uint64_t queues[], size_t n, nq_id id)
{
    const unsigned own = atomic_load(&h->own);
    const int64_t now = nq_mono_us();
    const int first = atomic_load(&h->next), most = queues[0] >= NQ_HINT_WAITER ? HINTS_PLACES : HINTS_TOLD;
    int told = 0, next = 0, fd = -1;
    for (int i = 0; i < HINTS_PLACES && told < most; i++) {
        const int place = (first + i) % HINTS_PLACES;
        if ((own & 1u << place) || atomic_load(&h->empty_until[place]) > now)
            continue;
        if (fd < 0 && (fd = hints_fd(h)) < 0)
            break;
        if (hints_tell(h, fd, place, queues, n, id))
            told++;
        else
            atomic_store(&h->empty_until[place], now + HINTS_EMPTY_US);
        next = told == HINTS_TOLD ? (place + 1) % HINTS_PLACES : 0;
    }
    atomic_store(&h->next, next); /* the first places, which are taken first, unless there are many */
    return told > 0 || own != 0;
}

NQ_PRIVATE void nq_hints_send(nq_hints *h, const uint64_t queues[], size_t n, nq_id id)
{
    const int saved = errno;
    const bool told = h->local && hints_local(h, queues, n, id);
    if (h->ringer && queues[0] != NQ_HINT_SETTINGS && /* which every worker reads by itself soon */
        queues[0] != NQ_HINT_WAITER)
        nq_ringer_ring(h->ringer, queues, n, told);
    errno = saved;
}

NQ_PRIVATE nq_loan *nq_hints_borrow(nq_hints *h, uint64_t queue)
{
    const int fd = atomic_load(&h->fd);
    return fd < 0 ? NULL : nq_borrow(h->borrower, fd, queue);
}

/* ---- Receiving ---- */

/* A socket at the first free one of so many addresses; -1: none to be had. */
static int hints_bind(const nq_hints *h, const char *who, int most, int *place)
{
    struct sockaddr_un at;
    if (!h->local)
        return -1;
    const int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    const int on = 1; /* the kernel says with each datagram whose it is */
    (void)setsockopt(fd, SOL_SOCKET, SO_PASSCRED, &on, sizeof on);
    for (*place = 0; *place < most; ++*place) {
        const socklen_t size = hints_address(h, who, *place, &at);
        if (bind(fd, (const struct sockaddr *)&at, size) == 0)
            return fd;
    }
    close(fd);
    return -1;
}

NQ_PRIVATE int nq_hints_listen(nq_hints *h, int *place)
{
    const int fd = hints_bind(h, "", HINTS_PLACES, place);
    if (fd >= 0) /* our own workers are told without a detour */
        atomic_fetch_or(&h->own, 1u << *place);
    return fd;
}

NQ_PRIVATE void nq_hints_unlisten(nq_hints *h, int fd, int place)
{
    if (fd < 0)
        return;
    atomic_fetch_and(&h->own, ~(1u << place));
    close(fd);
}

/* ---- Whoever waits for the end of tasks ---- */

NQ_PRIVATE int nq_hints_wait(nq_hints *h)
{
    const uint64_t hint = NQ_HINT_WAITER;
    int place;
    const int fd = hints_bind(h, "w", HINTS_WAITERS, &place);
    if (fd < 0)
        return -1;
    nq_hints_waited(h);
    nq_hints_send(h, &hint, 1, 0);
    return fd;
}

NQ_PRIVATE void nq_hints_waited(nq_hints *h)
{
    atomic_store(&h->nobody_until, 0);
}

NQ_PRIVATE bool nq_hints_waits(const nq_hints *h, int64_t now)
{
    return h->local && atomic_load(&h->nobody_until) <= now;
}

NQ_PRIVATE void nq_hints_ended(nq_hints *h, const nq_id ids[], size_t n)
{
    const int64_t now = nq_mono_us();
    const int saved = errno;
    bool told = false;
    int fd;
    if (n == 0 || !nq_hints_waits(h, now) || (fd = hints_fd(h)) < 0)
        return;
    for (int i = 0; i < HINTS_WAITERS; i++) {
        struct sockaddr_un at;
        const socklen_t size = hints_address(h, "w", i, &at);
        told = sendto(fd, ids, n * sizeof *ids, MSG_DONTWAIT | MSG_NOSIGNAL, (const struct sockaddr *)&at,
                      size) >= 0 ||
               errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR || told;
    }
    if (!told)
        atomic_store(&h->nobody_until, now + HINTS_NOBODY_US);
    errno = saved;
}
