/* SPDX-License-Identifier: MIT */
/* The worker's children: making, keeping, ending them. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "isolate.h"

#define CHILDREN_BORN_MS 10000         /* for the zygote to fork */
#define CHILDREN_EXIT_US NQ_SECONDS(1) /* for a child that is told to end */
#define CHILDREN_DEAD_US NQ_SECONDS(2) /* and for one that was killed, before we go on without it */

static void children_close(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

static void children_release(nq_child *c)
{
    children_close(&c->channel);
    children_close(&c->cancel);
    children_close(&c->errors);
    children_close(&c->report);
    nq_buf_free(&c->out);
    free(c->in);
    free(c->tail.bytes);
    c->in = c->tail.bytes = NULL;
}

/* ---- Making ---- */

/* What the child gets: channel, cancellation, standard error, and for the zygote its end of the reports. */
static int children_descriptors(nq_child *c, int theirs[NQ_SPAWN_FDS], nq_err *err)
{
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0) {
        c->channel = pair[0];
        theirs[0] = pair[1];
        if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) == 0) {
            c->report = pair[0];
            theirs[3] = pair[1];
            if (pipe2(pair, O_CLOEXEC) == 0) {
                c->errors = pair[0];
                theirs[2] = pair[1];
                c->cancel = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
                theirs[1] = c->cancel;
            }
        }
    }
    if (c->cancel >= 0 && fcntl(c->errors, F_SETFL, O_NONBLOCK) == 0)
        return NQ_OK;
    return nq_err_sys(err, NQ_ESYSTEM, errno, "no descriptors for a child process");
}

/* Wait until it is born. */
static int children_born(nq_child *c, nq_err *err)
{
    struct pollfd fd = {c->report, POLLIN, 0};
    nq_report r;
    if (poll(&fd, 1, CHILDREN_BORN_MS) != 1)
        return nq_err_set(err, NQ_ESYSTEM, "no child process in %d s", CHILDREN_BORN_MS / 1000);
    if (nq_packet_receive(c->report, &r, sizeof r, MSG_DONTWAIT) != sizeof r)
        return nq_err_set(err, NQ_ESYSTEM, "no child process: their parent is gone, or out of descriptors");
    if (r.kind != NQ_REPORT_BORN)
        return nq_err_sys(err, NQ_ESYSTEM, r.value, "cannot fork a child process");
    c->pid = r.value;
    return NQ_OK;
}

static int children_make(nq_worker *w, nq_child *c, const struct nq_handler_entry *handler, nq_err *err)
{
    const struct nq_zygote *z = w->zygote;
    const uint32_t index = (uint32_t)(c - z->children);
    const nq_spawn spawn = {(uint32_t)handler->kind, index};
    int theirs[NQ_SPAWN_FDS] = {-1, -1, -1, -1};
    memset(c, 0, sizeof *c);
    c->index = index;
    c->kind = handler->kind;
    c->limits = &w->handlers[handler->kind].limits;
    c->channel = c->cancel = c->errors = c->report = -1;
    c->page = (nq_page *)(void *)(z->pages + (size_t)index * NQ_PAGE_SIZE);
    memset((void *)c->page, 0, sizeof *c->page);
    c->tail =
        (nq_tail){.bytes = malloc((size_t)c->limits->stderr_bytes + 1), .size = c->limits->stderr_bytes};
    c->in = malloc(NQ_HEAR_SIZE); /* all of it now: later there is an answer to lose */
    int rc = c->tail.bytes && c->in ? children_descriptors(c, theirs, err) : nq_err_nomem(err);
    if (rc == NQ_OK)
        rc = nq_zygote_spawn(z, &spawn, theirs, err);
    for (int i = 0; i < NQ_SPAWN_FDS; i++)
        if (i != 1)
            children_close(&theirs[i]);
    if (rc == NQ_OK)
        rc = children_born(c, err);
    if (rc != NQ_OK)
        children_release(c);
    return rc;
}

/* ---- Ending ---- */

/* Wait for its end; false when the time is up. */
static bool children_wait(nq_worker *w, nq_child *c, int64_t us)
{
    const int64_t until = nq_mono_us() + us;
    for (;;) {
        nq_child_listen(w, c);
        const int64_t left = until - nq_mono_us();
        if (c->ended || left <= 0)
            return c->ended;
        struct pollfd fds[2] = {{c->report, POLLIN, 0}, {c->errors, POLLIN, 0}};
        (void)poll(fds, 2, (int)(left / 1000) + 1);
    }
}

/* It keeps its place. */
static void children_stuck(nq_worker *w, nq_child *c)
{
    pthread_mutex_lock(&w->lock);
    c->next = w->zygote->stuck;
    w->zygote->stuck = c;
    pthread_mutex_unlock(&w->lock);
}

/* The place is free once it is gone for certain: its page is another child's then. */
static bool children_end(nq_worker *w, nq_child *c)
{
    children_close(&c->channel); /* an idle child ends by itself then */
    if (!c->ended && !children_wait(w, c, CHILDREN_EXIT_US)) {
        nq_child_signal(c, SIGKILL);
        if (!children_wait(w, c, CHILDREN_DEAD_US)) {
            nq_worker_log(w, NQ_LOG_ERROR,
                          "child process %ld cannot be killed: one less can run until it is gone",
                          (long)c->pid);
            children_stuck(w, c);
            return false;
        }
    }
    if (c->dropped > 0)
        nq_worker_log(
            w, NQ_LOG_WARN,
            "%zu bytes that child process %ld wrote to standard error were dropped: nobody reads ours",
            c->dropped, (long)c->pid);
    children_release(c);
    return true;
}

/* Of those that could not be killed some may be gone by now; true: a place is free. */
static bool children_look_again(nq_worker *w)
{
    struct nq_zygote *z = w->zygote;
    bool free = false;
    pthread_mutex_lock(&w->lock);
    nq_child *c = z->stuck;
    z->stuck = NULL;
    pthread_mutex_unlock(&w->lock);
    for (nq_child *next; c; c = next) {
        next = c->next;
        nq_child_listen(w, c);
        if (!c->ended) {
            children_stuck(w, c);
            continue;
        }
        nq_worker_log(w, NQ_LOG_INFO, "child process %ld is gone at last", (long)c->pid);
        children_release(c);
        pthread_mutex_lock(&w->lock);
        z->taken[c->index] = false;
        pthread_mutex_unlock(&w->lock);
        free = true;
    }
    return free;
}

/* ---- The idle ones ---- */

/* With the lock held: take an idle one out, of this kind or of any. */
static nq_child *children_idle(struct nq_zygote *z, size_t kind, bool any)
{
    for (nq_child **at = &z->idle; *at; at = &(*at)->next)
        if (any || (*at)->kind == kind) {
            nq_child *c = *at;
            *at = c->next;
            return c;
        }
    return NULL;
}

static nq_child *children_vacant(const nq_worker *w)
{
    for (unsigned i = 0; i < w->opts.concurrency; i++)
        if (!w->zygote->taken[i])
            return &w->zygote->children[i];
    return NULL;
}

/* One of this kind, or a place for one: a free one, or that of an idle child of another kind. */
static nq_child *children_take(nq_worker *w, size_t kind, bool *fresh)
{
    struct nq_zygote *z = w->zygote;
    pthread_mutex_lock(&w->lock);
    nq_child *c = children_idle(z, kind, false);
    if (!c && (c = children_vacant(w)))
        z->taken[c - z->children] = *fresh = true;
    else if (!c)
        c = children_idle(z, kind, true);
    pthread_mutex_unlock(&w->lock);
    return c;
}

NQ_PRIVATE int nq_child_get(nq_worker *w, const struct nq_handler_entry *handler, nq_child **out, nq_err *err)
{
    struct nq_zygote *z = w->zygote;
    bool fresh = false;
    if (atomic_load(&z->lost))
        return nq_err_set(err, NQ_ESYSTEM, "the parent of the child processes died");
    nq_child *c = children_take(w, handler->kind, &fresh);
    if (!c && children_look_again(w))
        c = children_take(w, handler->kind, &fresh);
    if (!c)
        return nq_err_set(err, NQ_ESYSTEM, "no room for a child process: some cannot be killed");
    if (!fresh) {
        nq_child_listen(w, c);
        if (c->kind == handler->kind && !c->ended) {
            *out = c;
            return NQ_OK;
        }
        if (!children_end(w, c))
            return nq_err_set(err, NQ_ESYSTEM, "no room for a child process: some cannot be killed");
    }
    int rc = children_make(w, c, handler, err);
    if (rc == NQ_OK) {
        if (atomic_load(&z->failing) && atomic_exchange(&z->failing, false))
            nq_worker_log(w, NQ_LOG_INFO, "child processes can be made again");
        *out = c;
        return NQ_OK;
    }
    if (!atomic_load(&z->lost) && !atomic_exchange(&z->failing, true))
        nq_worker_log(w, NQ_LOG_WARN, "tasks are released until child processes can be made again: %s",
                      err->message);
    pthread_mutex_lock(&w->lock);
    z->taken[c - z->children] = false;
    pthread_mutex_unlock(&w->lock);
    return rc;
}

NQ_PRIVATE void nq_child_put(nq_worker *w, nq_child *c)
{
    struct nq_zygote *z = w->zygote;
    const bool keep = !c->ended && !c->retire && !c->fault && c->begun < c->limits->tasks;
    const bool gone = !keep && children_end(w, c);
    pthread_mutex_lock(&w->lock);
    if (keep) {
        c->next = z->idle;
        z->idle = c;
    } else if (gone) {
        z->taken[c->index] = false;
    }
    pthread_mutex_unlock(&w->lock);
}

NQ_PRIVATE void nq_children_drop(nq_worker *w)
{
    nq_child *c;
    pthread_mutex_lock(&w->lock);
    while ((c = children_idle(w->zygote, 0, true)))
        children_release(c);
    for (; (c = w->zygote->stuck); w->zygote->stuck = c->next)
        children_release(c);
    pthread_mutex_unlock(&w->lock);
}

NQ_PRIVATE void nq_children_wake(nq_worker *w)
{
    const uint64_t one = 1;
    for (unsigned i = 0; w->zygote && i < w->opts.concurrency; i++)
        if (w->threads[i].wake_fd >= 0 && write(w->threads[i].wake_fd, &one, sizeof one) < 0)
            return; /* it is readable already: cannot be, the counter is far from full */
}

NQ_PRIVATE int nq_zygote_spawn(const struct nq_zygote *z, const nq_spawn *spawn, const int fds[NQ_SPAWN_FDS],
                               nq_err *err)
{
    union {
        char space[CMSG_SPACE(sizeof(int) * NQ_SPAWN_FDS)];
        struct cmsghdr align;
    } control;
    nq_spawn copy = *spawn;
    struct iovec iov = {&copy, sizeof copy};
    struct msghdr msg = {
        .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    ssize_t n;
    memset(&control, 0, sizeof control);
    struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(sizeof(int) * NQ_SPAWN_FDS);
    memcpy(CMSG_DATA(c), fds, sizeof(int) * NQ_SPAWN_FDS);
    do
        n = sendmsg(z->control, &msg, MSG_NOSIGNAL);
    while (n < 0 && errno == EINTR);
    return n < 0 ? nq_err_sys(err, NQ_ESYSTEM, errno, "cannot ask for a child process") : NQ_OK;
}
