/* SPDX-License-Identifier: MIT */
/* What passes between a child and the worker, and how the child ended, in words. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "isolate.h"

#define CHANNEL_ROUNDS 16 /* of reading, before something else has its turn */

/* ---- Its channel ---- */

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
    if (c->in_at > 0) {
        memmove(c->in, c->in + c->in_at, c->nin - c->in_at);
        c->nin -= c->in_at;
        c->in_at = 0;
    }
    while (c->channel >= 0 && c->nin < NQ_HEAR_SIZE) {
        const size_t room = NQ_HEAR_SIZE - c->nin;
        const ssize_t n = recv(c->channel, c->in + c->nin, room, MSG_DONTWAIT);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 && errno == EAGAIN;
        c->nin += (size_t)n;
        if ((size_t)n < room)
            return true;
    }
    return c->channel >= 0;
}

/* ---- Its standard error, and the reports of the zygote ---- */

/* Keep the last of what it wrote. */
static void channel_tail(nq_child *c, const char *bytes, size_t n)
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

/* On its way to where it would have gone. Whoever does not read there must not hold us up: the thread that is
 * here also ends what has timed out. To make the descriptor non-blocking would be to do so for every process
 * that shares it. Answers how much was written. */
static size_t channel_pass_on(char *bytes, size_t n)
{
    const struct iovec iov = {bytes, n};
    struct pollfd fd = {STDERR_FILENO, POLLOUT, 0};
    ssize_t written = pwritev2(STDERR_FILENO, &iov, 1, -1, RWF_NOWAIT);
    if (written < 0 && errno != EAGAIN && errno != EPIPE && poll(&fd, 1, 0) == 1 && (fd.revents & POLLOUT))
        written =
            write(STDERR_FILENO, bytes, n); /* a file or an older kernel: it takes all, or does so soon */
    return written > 0 ? (size_t)written : 0;
}

NQ_PRIVATE void nq_child_listen(nq_worker *w, nq_child *c)
{
    char bytes[4096]; /* PIPE_BUF: what a pipe that is writable takes whole */
    nq_report r;
    for (int i = 0; i < CHANNEL_ROUNDS && c->errors >= 0; i++) {
        const ssize_t n = read(c->errors, bytes, sizeof bytes);
        if (n < 0)
            break;
        if (n == 0) {
            close(c->errors);
            c->errors = -1;
            break;
        }
        channel_tail(c, bytes, (size_t)n);
        c->dropped += (size_t)n - channel_pass_on(bytes, (size_t)n);
    }
    if (c->ended)
        return;
    const ssize_t n = recv(c->report, &r, sizeof r, MSG_DONTWAIT);
    if (n == sizeof r && r.kind == NQ_REPORT_ENDED) {
        c->end = r;
        c->ended = true;
        nq_child_listen(w, c); /* what it wrote before */
    } else if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) {
        c->ended = true; /* with the zygote, its parent */
        if (!w->zygote->stopped && !atomic_exchange(&w->zygote->lost, true)) {
            nq_worker_log(w, NQ_LOG_ERROR, "the parent of the child processes (%ld) died: this worker stops",
                          (long)w->zygote->pid);
            nq_worker_stop(w);
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

static const char *channel_signal_name(int number)
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

NQ_PRIVATE void nq_child_describe(const nq_child *c, nq_ctx *ctx, int64_t took_us)
{
    const int status = c->end.value;
    nq_buf b = {0};
    if (nq_ctx_cause(ctx) == NQ_CAUSE_TIMEOUT)
        nq_buf_fmt(&b, "timed out after %lld ms: ", (long long)(ctx->claim->task.timeout_us / NQ_MS(1)));
    if (c->fault && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL)
        nq_buf_fmt(&b, "child killed: it %s", c->fault);
    else if (WIFSIGNALED(status))
        nq_buf_fmt(&b, "child killed by signal %d (%s)", WTERMSIG(status),
                   channel_signal_name(WTERMSIG(status)));
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
