/* SPDX-License-Identifier: MIT */
/* The processor's side of its children: making, keeping, hearing, ending them. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "child.h"

#define CHILDREN_BORN_MS 10000         /* for the zygote to fork */
#define CHILDREN_EXIT_US NQ_SECONDS(1) /* for a child that is told to end */
#define CHILDREN_DEAD_US NQ_SECONDS(10)
#define CHILDREN_ROUNDS  16 /* of reading, before something else has its turn */

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
    nq_buf_free(&c->in);
    free(c->tail);
    c->tail = NULL;
}

/* ---- Making ---- */

/* What the child gets: channel, cancellation, standard error, and for the zygote its end of the reports. */
static int children_descriptors(nq_child *c, int theirs[NQ_SPAWN_FDS], nq_err *err)
{
    int pair[2];
    for (int i = 0; i < NQ_SPAWN_FDS; i++)
        theirs[i] = -1;
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
    if (recv(c->report, &r, sizeof r, MSG_DONTWAIT) != sizeof r)
        return nq_err_set(err, NQ_ESYSTEM, "no child process: their parent is gone, or out of descriptors");
    if (r.kind != NQ_REPORT_BORN)
        return nq_err_sys(err, NQ_ESYSTEM, r.value, "cannot fork a child process");
    c->pid = r.value;
    return NQ_OK;
}

static int children_make(nq_proc *p, nq_child *c, const struct nq_route *route, nq_err *err)
{
    const struct nq_zygote *z = p->zygote;
    const uint32_t place = (uint32_t)(c - z->children);
    const nq_spawn spawn = {(uint32_t)route->kind, place};
    int theirs[NQ_SPAWN_FDS];
    memset(c, 0, sizeof *c);
    c->place = place;
    c->kind = route->kind;
    c->limits = &p->routes[route->kind].limits;
    c->channel = c->cancel = c->errors = c->report = -1;
    c->page = (nq_page *)(void *)(z->pages + (size_t)place * NQ_PAGE_SIZE);
    memset((void *)c->page, 0, sizeof *c->page);
    c->born_us = nq_mono_us();
    c->tail = malloc(c->limits->stderr_bytes);
    int rc = c->tail ? children_descriptors(c, theirs, err) : nq_err_nomem(err);
    if (rc == NQ_OK)
        rc = nq_zygote_spawn(z, &spawn, theirs, err);
    for (int i = 0; c->tail && i < NQ_SPAWN_FDS; i++)
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
static bool children_wait(nq_proc *p, nq_child *c, int64_t us)
{
    const int64_t until = nq_mono_us() + us;
    for (;;) {
        nq_child_listen(p, c);
        const int64_t left = until - nq_mono_us();
        if (c->ended || left <= 0)
            return c->ended;
        struct pollfd fds[2] = {{c->report, POLLIN, 0}, {c->errors, POLLIN, 0}};
        (void)poll(fds, 2, (int)(left / 1000) + 1);
    }
}

/* The place is free once it is gone for certain: its page is another child's then. */
static bool children_end(nq_proc *p, nq_child *c)
{
    children_close(&c->channel); /* an idle child ends by itself then */
    if (!c->ended && !children_wait(p, c, CHILDREN_EXIT_US)) {
        nq_child_signal(c, SIGKILL);
        if (!children_wait(p, c, CHILDREN_DEAD_US)) {
            nq_proc_log(p, NQ_LOG_ERROR, "child process %ld cannot be killed: one less can run from now on",
                        (long)c->pid);
            return false;
        }
    }
    children_release(c);
    return true;
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

static nq_child *children_place(const nq_proc *p)
{
    for (unsigned i = 0; i < p->opts.concurrency; i++)
        if (!p->zygote->taken[i])
            return &p->zygote->children[i];
    return NULL;
}

NQ_PRIVATE int nq_child_get(nq_proc *p, const struct nq_route *route, nq_child **out, nq_err *err)
{
    struct nq_zygote *z = p->zygote;
    nq_child *c = NULL;
    bool fresh = false;
    if (atomic_load(&z->lost))
        return nq_err_set(err, NQ_ESYSTEM, "the parent of the child processes died");
    pthread_mutex_lock(&p->lock);
    c = children_idle(z, route->kind, false);
    if (!c && (c = children_place(p))) {
        z->taken[c - z->children] = fresh = true;
    } else if (!c) {
        c = children_idle(z, route->kind, true);
    }
    pthread_mutex_unlock(&p->lock);
    if (!c)
        return nq_err_set(err, NQ_ESYSTEM, "no place for a child process: some cannot be killed");
    if (!fresh) {
        nq_child_listen(p, c);
        if (c->kind == route->kind && !c->ended) {
            *out = c;
            return NQ_OK;
        }
        if (!children_end(p, c))
            return nq_err_set(err, NQ_ESYSTEM, "no place for a child process: some cannot be killed");
    }
    int rc = children_make(p, c, route, err);
    if (rc == NQ_OK) {
        *out = c;
        return NQ_OK;
    }
    pthread_mutex_lock(&p->lock);
    z->taken[c - z->children] = false;
    pthread_mutex_unlock(&p->lock);
    return rc;
}

NQ_PRIVATE void nq_child_put(nq_proc *p, nq_child *c)
{
    struct nq_zygote *z = p->zygote;
    const bool keep = !c->ended && !c->retire && !c->fault && c->begun < c->limits->tasks;
    const bool gone = !keep && children_end(p, c);
    pthread_mutex_lock(&p->lock);
    if (keep) {
        c->next = z->idle;
        z->idle = c;
    } else if (gone) {
        z->taken[c->place] = false;
    }
    pthread_mutex_unlock(&p->lock);
}

NQ_PRIVATE void nq_children_drop(nq_proc *p)
{
    nq_child *c;
    pthread_mutex_lock(&p->lock);
    while ((c = children_idle(p->zygote, 0, true)))
        children_release(c);
    pthread_mutex_unlock(&p->lock);
}

NQ_PRIVATE void nq_children_wake(nq_proc *p)
{
    const uint64_t one = 1;
    for (unsigned i = 0; p->zygote && i < p->opts.concurrency; i++)
        if (p->slots[i].wake_fd >= 0 && write(p->slots[i].wake_fd, &one, sizeof one) < 0)
            return; /* it is readable already: cannot be, the counter is far from full */
}

/* ---- Talking ---- */

NQ_PRIVATE bool nq_child_send(nq_child *c)
{
    while (c->channel >= 0 && c->out_at < c->out.n) {
        const ssize_t n =
            send(c->channel, c->out.p + c->out_at, c->out.n - c->out_at, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return errno == EAGAIN;
        c->out_at += (size_t)n;
    }
    nq_buf_clear(&c->out);
    c->out_at = 0;
    return true;
}

NQ_PRIVATE bool nq_child_receive(nq_child *c)
{
    char bytes[16384];
    if (c->in_at > 0) {
        memmove(c->in.p, c->in.p + c->in_at, c->in.n - c->in_at);
        c->in.n -= c->in_at;
        c->in_at = 0;
    }
    for (int i = 0; i < CHILDREN_ROUNDS && c->channel >= 0; i++) {
        const ssize_t n = recv(c->channel, bytes, sizeof bytes, MSG_DONTWAIT);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 && errno == EAGAIN;
        nq_buf_add(&c->in, bytes, (size_t)n);
        if (c->in.failed)
            return false;
        if ((size_t)n < sizeof bytes)
            return true;
    }
    return c->channel >= 0;
}

/* Keep the last of what it wrote. */
static void children_tail(nq_child *c, const char *bytes, size_t n)
{
    const size_t size = c->limits->stderr_bytes;
    if (n >= size) {
        memcpy(c->tail, bytes + n - size, size);
        c->ntail = size;
        return;
    }
    const size_t keep = c->ntail + n > size ? size - n : c->ntail;
    memmove(c->tail, c->tail + c->ntail - keep, keep);
    memcpy(c->tail + keep, bytes, n);
    c->ntail = keep + n;
}

/* On its way to where it would have gone; whoever does not read there must not hold us up. */
static void children_pass_on(const char *bytes, size_t n)
{
    struct pollfd fd = {STDERR_FILENO, POLLOUT, 0};
    if (poll(&fd, 1, 0) == 1 && (fd.revents & POLLOUT) && write(STDERR_FILENO, bytes, n) < 0)
        return;
}

NQ_PRIVATE void nq_child_listen(nq_proc *p, nq_child *c)
{
    char bytes[4096]; /* PIPE_BUF: what a pipe that is writable takes whole */
    nq_report r;
    for (int i = 0; i < CHILDREN_ROUNDS && c->errors >= 0; i++) {
        const ssize_t n = read(c->errors, bytes, sizeof bytes);
        if (n < 0)
            break;
        if (n == 0) {
            children_close(&c->errors);
            break;
        }
        children_tail(c, bytes, (size_t)n);
        children_pass_on(bytes, (size_t)n);
    }
    if (c->ended)
        return;
    const ssize_t n = recv(c->report, &r, sizeof r, MSG_DONTWAIT);
    if (n == sizeof r && r.kind == NQ_REPORT_ENDED) {
        c->end = r;
        c->ended = true;
        nq_child_listen(p, c); /* what it wrote before */
    } else if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) {
        c->ended = true; /* with the zygote, its parent */
        if (!p->zygote->stopped && !atomic_exchange(&p->zygote->lost, true)) {
            nq_proc_log(p, NQ_LOG_ERROR, "the parent of the child processes (%ld) died: this processor stops",
                        (long)p->zygote->pid);
            nq_proc_stop(p);
        }
    }
}

NQ_PRIVATE void nq_child_signal(const nq_child *c, int number)
{
    const unsigned char byte = (unsigned char)number;
    if (c->report >= 0)
        (void)send(c->report, &byte, 1, MSG_NOSIGNAL | MSG_DONTWAIT);
}

/* ---- Its end, in words ---- */

static const char *children_signal_name(int number)
{
    static const struct {
        int number;
        const char *name;
    } names[] = {{SIGSEGV, "SIGSEGV"}, {SIGABRT, "SIGABRT"}, {SIGBUS, "SIGBUS"},
                 {SIGFPE, "SIGFPE"},   {SIGILL, "SIGILL"},   {SIGKILL, "SIGKILL"},
                 {SIGTERM, "SIGTERM"}, {SIGPIPE, "SIGPIPE"}, {SIGXCPU, "SIGXCPU: CPU time limit"},
                 {SIGXFSZ, "SIGXFSZ"}, {SIGSYS, "SIGSYS"},   {SIGTRAP, "SIGTRAP"}};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (names[i].number == number)
            return names[i].name;
    return "no name";
}

NQ_PRIVATE void nq_child_tell(const nq_child *c, nq_ctx *ctx, int64_t took_us)
{
    const int status = c->end.value;
    nq_buf b = {0};
    if (nq_ctx_cause(ctx) == NQ_CAUSE_TIMEOUT)
        nq_buf_fmt(&b, "timed out after %lld ms: ", (long long)(ctx->claim->task.timeout_us / NQ_MS(1)));
    if (c->fault && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL)
        nq_buf_fmt(&b, "child killed: it %s", c->fault);
    else if (WIFSIGNALED(status))
        nq_buf_fmt(&b, "child killed by signal %d (%s)", WTERMSIG(status),
                   children_signal_name(WTERMSIG(status)));
    else
        nq_buf_fmt(&b, "child exited with status %d and without an answer", WEXITSTATUS(status));
    nq_buf_fmt(&b, " after %.3f s; the child used %.3f s user, %.3f s system, %.1f MiB",
               (double)took_us / 1e6, (double)c->end.user_us / 1e6, (double)c->end.system_us / 1e6,
               (double)c->end.rss_kb / 1024);
    if (c->ntail > 0)
        nq_buf_str(&b, "; last on standard error:\n");
    for (size_t i = 0; i < c->ntail; i++) {
        const char byte = c->tail[i] ? c->tail[i] : ' ';
        nq_buf_add(&b, &byte, 1);
    }
    nq_fail(ctx, NQ_RETRY, "%s", b.failed ? "child died" : b.p);
    nq_buf_free(&b);
}
