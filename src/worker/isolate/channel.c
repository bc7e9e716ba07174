/* SPDX-License-Identifier: MIT */
/* What passes between a child and the worker, and how the child ended, in words. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "isolate.h"

#ifndef RWF_NOWAIT
#define RWF_NOWAIT 8 /* of the kernel */
#endif

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

/* On its way to where it would have gone. Whoever does not read there must not hold us up: the thread that is
 * here also ends what has timed out. To make the descriptor non-blocking would be to do so for every process
 * that shares it. Answers how much was written. */
static size_t channel_pass_on(char *bytes, size_t n)
{
    const struct iovec iov = {bytes, n};
    struct pollfd fd = {STDERR_FILENO, POLLOUT, 0};
    /* The call itself: musl has had no function for it until 1.2.5. */
    ssize_t written = syscall(SYS_pwritev2, STDERR_FILENO, &iov, 1L, -1L, -1L, (long)RWF_NOWAIT);
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
        nq_tail_add(&c->tail, bytes, (size_t)n);
        c->dropped += (size_t)n - channel_pass_on(bytes, (size_t)n);
    }
    if (c->ended)
        return;
    const ssize_t n = nq_packet_receive(c->report, &r, sizeof r, MSG_DONTWAIT);
    if (n == sizeof r && r.kind == NQ_REPORT_ENDED) {
        c->end = r;
        c->ended = true;
        nq_child_listen(w, c); /* what it wrote before */
    } else if (n == 0 || (n < 0 && errno != EAGAIN)) {
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

NQ_PRIVATE void nq_child_describe(const nq_child *c, nq_ctx *ctx)
{
    const nq_ending *end = &c->end.ending;
    char how[NQ_ENDING_WORDS], what[NQ_ENDING_WORDS + 128], late[64] = "", message[NQ_MAX_ERROR + 1];
    nq_ending_words(end, true, how);
    if (nq_ctx_cause(ctx) == NQ_CAUSE_TIMEOUT)
        snprintf(late, sizeof late,
                 "timed out after %lld ms: ", (long long)(ctx->claim->task.timeout_us / NQ_MS(1)));
    if (c->fault && !end->exited && end->status == SIGKILL)
        snprintf(what, sizeof what, "%schild killed: it %s", late, c->fault);
    else
        snprintf(what, sizeof what, "%schild %s%s", late, end->exited ? "gave no answer: " : "", how);
    nq_tail_text(&c->tail, what, message, sizeof message);
    nq_fail(ctx, NQ_RETRY, "%s", message);
}
