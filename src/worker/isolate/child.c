/* SPDX-License-Identifier: MIT */
/* The process in which isolated handlers run: takes tasks from its channel, answers each. */
#include "isolate.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#if defined(__GLIBC__)
#include <execinfo.h>
#define CHILD_BACKTRACE 32 /* frames */
#endif

#define CHILD_READ      65536
#define CHILD_ALT_STACK 65536
#define CHILD_BROKEN    70 /* exit status: it cannot talk to its worker any more */

/* The one of this process. Handlers may use threads, so what is said goes under the lock. */
static struct {
    int channel;
    pthread_mutex_t lock;
    pid_t pid;    /* a copy that a handler forked has another */
    uint64_t seq; /* of the running task */
    bool talking; /* a task is running */
} child_self = {.channel = -1, .lock = PTHREAD_MUTEX_INITIALIZER};

/* ---- Crashing ---- */

static void child_on_fault(int number, siginfo_t *info, void *context)
{
    (void)info, (void)context;
#ifdef CHILD_BACKTRACE
    void *frames[CHILD_BACKTRACE];
    const int n = backtrace(frames, CHILD_BACKTRACE);
    backtrace_symbols_fd(frames, n, STDERR_FILENO);
#endif
    raise(number); /* the default action is back: it ends the process once this returns */
}

/* A handler that the application or a sanitizer has for faults knows better. They are heard in the zygote
 * too, which blocks all signals: a fault that is blocked ends a process without a word. */
static void child_catch_faults(void)
{
    static const int faults[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT};
    struct sigaction old, sa;
    sigset_t heard;
    stack_t stack = {.ss_size = CHILD_ALT_STACK};
    memset(&sa, 0, sizeof sa);
    sa.sa_sigaction = child_on_fault;
    sa.sa_flags = SA_SIGINFO | SA_ONSTACK | (int)SA_RESETHAND;
    sigemptyset(&sa.sa_mask);
    stack.ss_sp = mmap(NULL, CHILD_ALT_STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (stack.ss_sp == MAP_FAILED)
        return;
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++)
        if (sigaction(faults[i], NULL, &old) == 0 && !(old.sa_flags & SA_SIGINFO) &&
            old.sa_handler == SIG_DFL && sigaltstack(&stack, NULL) == 0)
            sigaction(faults[i], &sa, NULL);
    sigemptyset(&heard);
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++)
        sigaddset(&heard, faults[i]);
    sigprocmask(SIG_UNBLOCK, &heard, NULL);
#ifdef CHILD_BACKTRACE
    void *frames[1];
    backtrace(frames, 1); /* loads what it needs, so that it allocates nothing later */
#endif
}

/* Handlers for signals are the application's, in its process. */
static void child_reset_signals(void)
{
    static const int kept[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT};
    for (int s = 1; s < NSIG; s++) {
        struct sigaction sa;
        bool keep = false;
        for (size_t i = 0; i < sizeof kept / sizeof *kept; i++)
            keep = keep || s == kept[i];
        if (keep || sigaction(s, NULL, &sa) != 0)
            continue;
        if (!(sa.sa_flags & SA_SIGINFO) && (sa.sa_handler == SIG_DFL || sa.sa_handler == SIG_IGN))
            continue;
        memset(&sa, 0, sizeof sa);
        sa.sa_handler = SIG_DFL;
        sigaction(s, &sa, NULL);
    }
}

NQ_PRIVATE void nq_child_prepare(void)
{
    child_reset_signals();
    child_catch_faults();
}

/* ---- Talking ---- */

static void child_say(const nq_buf *b)
{
    size_t at = 0;
    bool broken = b->failed;
    while (at < b->n && !broken) {
        const ssize_t n = send(child_self.channel, b->p + at, b->n - at, MSG_NOSIGNAL);
        if (n >= 0)
            at += (size_t)n;
        else
            broken = errno != EINTR;
    }
    if (broken)
        _exit(CHILD_BROKEN);
}

/* While it runs; and let go of it. */
static void child_tell(const nq_ctx *ctx, nq_buf *b)
{
    pthread_mutex_lock(&child_self.lock);
    if (child_self.talking && child_self.seq == ctx->seq && !b->failed)
        child_say(b);
    pthread_mutex_unlock(&child_self.lock);
    nq_buf_free(b);
}

NQ_PRIVATE void nq_child_progress(nq_ctx *ctx, int64_t done, int64_t total, const char *note)
{
    nq_buf b = {0};
    nq_reported reported = {done, total, note, note ? strnlen(note, NQ_MAX_NOTE + 1) : 0};
    nq_frame_progress(&b, ctx->seq, &reported);
    child_tell(ctx, &b);
}

NQ_PRIVATE void nq_child_log(nq_ctx *ctx, int level, const char *text, size_t n)
{
    nq_buf b = {0};
    nq_frame_log(&b, ctx->seq, level, text, n);
    child_tell(ctx, &b);
}

NQ_PRIVATE int nq_child_hold(nq_ctx *ctx, int scope, int64_t us, nq_err *err)
{
    nq_page *page = (nq_page *)(uintptr_t)ctx->page;
    nq_buf b = {0};
    nq_frame_hold(&b, ctx->seq, scope, us);
    if (b.failed)
        return nq_err_nomem(err);
    if (getpid() != child_self.pid)
        return nq_err_set(err, NQ_EFORK, "a handler's own child cannot hold its queue");
    atomic_store(&page->held, 0);
    child_tell(ctx, &b);
    /* A round trip of the worker's to its database. It ends this process if it cannot end that. */
    uint64_t word;
    while ((word = atomic_load(&page->held)) >> 8 != ctx->seq) {
        nq_sleep_us(NQ_MS(1));
        if (nq_ctx_remaining_us(ctx) == 0)
            return nq_err_set(err, NQ_ETIMEOUT, "the worker has not answered in the attempt's time");
    }
    const int rc = -(int)(word & 0xff);
    return rc == NQ_OK ? NQ_OK : nq_err_set(err, rc, "%s; the worker's log says more", nq_strerror(rc));
}

/* Read until a whole frame is there at in->w + at. The end of the channel is the end of the process. */
static nq_frame child_hear(nq_buf *in, size_t *at)
{
    static char bytes[CHILD_READ];
    nq_frame head;
    for (;;) {
        const size_t have = in->n - *at;
        if (have >= sizeof head) {
            memcpy(&head, in->p + *at, sizeof head);
            if (have - sizeof head >= head.size)
                return head;
        }
        if (*at > 0) {
            memmove(in->p, in->p + *at, have);
            in->n = have;
            *at = 0;
        }
        const ssize_t n = recv(child_self.channel, bytes, sizeof bytes, 0);
        if (n == 0)
            _exit(0);
        if (n < 0 && errno != EINTR)
            _exit(CHILD_BROKEN);
        if (n > 0)
            nq_buf_add(in, bytes, (size_t)n);
        if (in->failed)
            _exit(CHILD_BROKEN);
    }
}

/* ---- Working ---- */

static void child_answer(nq_ctx *ctx, nq_verdict verdict, nq_buf *out)
{
    if (getpid() != child_self.pid)
        _exit(CHILD_BROKEN); /* a handler forked, and returned twice */
    const nq_answer answer = {verdict, ctx->delay_us, ctx->completed, ctx->message,
                              ctx->message ? strlen(ctx->message) : 0};
    fflush(NULL); /* what it printed should not wait for the end of the process, which is no exit() */
    nq_buf_clear(out);
    if (ctx->has_result && verdict == NQ_DONE)
        nq_frame_result(out, ctx->seq, ctx->result.p, ctx->result.n);
    nq_frame_answer(out, ctx->seq, &answer);
    pthread_mutex_lock(&child_self.lock);
    child_self.talking = false;
    child_say(out);
    pthread_mutex_unlock(&child_self.lock);
}

static void child_run(nq_ctx *ctx, const nq_limits *l, const nq_frame *head, const char *body, nq_buf *out)
{
    nq_worker *w = ctx->worker;
    uint64_t stale;
    size_t handler;
    nq_header headers[NQ_MAX_HEADERS]; /* until the handler has answered, as are the */
    const char *tags[NQ_MAX_TAGS];
    nq_frame_read_task(body, ctx->claim, headers, tags, &handler);
    ctx->seq = head->seq;
    ctx->handler = &w->handlers[handler];
    ctx->deadline_us = nq_mono_us() + nq_timeout_of(&ctx->claim->task);
    ctx->delay_us = -1;
    ctx->completed = false;
    if (read(atomic_load(&ctx->fd), &stale, sizeof stale) < 0)
        stale = 0; /* nothing was there, as it should be */
    nq_limits_task(l);
    pthread_mutex_lock(&child_self.lock);
    child_self.seq = head->seq;
    child_self.talking = true;
    pthread_mutex_unlock(&child_self.lock);
    child_answer(ctx, nq_dispatch_run(ctx), out);
    free(ctx->message);
    ctx->message = NULL;
    nq_buf_free(&ctx->result);
    ctx->has_result = false;
}

_Noreturn NQ_PRIVATE void nq_child_main(nq_worker *w, const nq_limits *l, nq_page *page, int channel,
                                        int cancel)
{
    nq_buf in = {0}, out = {0};
    size_t at = 0;
    nq_claimed claim;
    nq_ctx *ctx = nq_ctx_new(w);
    if (!ctx || nq_limits_apply(l) != 0) {
        fprintf(stderr, "a limit of this handler cannot be set: %s\n", strerror(errno));
        _exit(CHILD_BROKEN);
    }
    child_self.channel = channel;
    child_self.pid = getpid();
    ctx->claim = &claim;
    ctx->page = page;
    atomic_store(&ctx->fd, cancel);
    for (;;) {
        const nq_frame head = child_hear(&in, &at);
        if (nq_page_move(page, head.seq, NQ_BEGUN_YES))
            child_run(ctx, l, &head, in.p + at + sizeof head, &out);
        at += sizeof head + head.size;
    }
}
