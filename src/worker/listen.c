/* SPDX-License-Identifier: MIT */
/* Listens for hints from other processes and wakes the fetcher: datagrams, changes of a file. */
#include <errno.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "worker.h"

/* Hints are from anybody: looks that they cause keep this distance, and a growing one while they lead to no
 * claim. */
#define LISTEN_GAP_MIN_US 200
#define LISTEN_GAP_MAX_US NQ_MS(5)
#define LISTEN_QUIET_US   NQ_MS(100)
/* Those of other users, who need not have any business here: at once while they lead to claims, and else more
 * and more seldom, up to this. What comes sooner is put off, and never holds up those of our own user or of
 * root. */
#define LISTEN_STRANGE_MAX_US NQ_SECONDS(1)
/* And reading them takes turns of this distance while one waits already. */
#define LISTEN_STRANGE_READ_US NQ_MS(2)
#define LISTEN_AT_ONCE         64 /* datagrams read in a row */
/* A producer that said that it began has committed by then, or it is slow, or gone. */
#define LISTEN_BEGUN_US NQ_MS(100)
/* A write to the file is seen before its commit is: look soon after it, and again. */
#define LISTEN_ECHOES 3
static const int64_t listen_echo_us[LISTEN_ECHOES] = {500, 1000, 2500};
#define LISTEN_WATCH_MIN_US NQ_MS(1)
#define LISTEN_WATCH_MAX_US NQ_MS(5)
/* Writes of our own come with a claim or an outcome. */
#define LISTEN_OWN_US NQ_MS(2)
struct nq_listening {
    nq_worker *worker;
    int stop_fd;
    pthread_t listener;
    bool has_listener;
    nq_listen_bell *bell; /* may be NULL */
    uint64_t *queues;     /* of the queues, and NQ_HINT_CANCEL */

    /* the listener thread's */
    int fd, index;       /* of the datagrams; -1: none */
    int answers[2];      /* of producers that have a loan: they send on [1]; -1: none */
    int64_t begun_us;    /* when to look whether what was begun is there; INT64_MAX: nothing was */
    uint64_t hint_queue; /* of the first hint that waits, and its task, or 0 */
    nq_id hint_id;
    bool pending;  /* a hint waits for next_us */
    bool cancels;  /* and so does one of requests to cancel, */
    bool settings; /* and of settings that were changed */
    int64_t next_us, gap_us;
    uint64_t claimed; /* at the last hint that was passed on */
    bool strange;     /* a stranger's hint waits for strange_us; the same for theirs: */
    int64_t strange_us, strange_gap_us;
    uint64_t strange_claimed;

    int notify; /* -1: none */
    int dir_watch, file_watch;
    char *file;       /* the watched one */
    const char *base; /* its name without the directory */
    int64_t notify_us, notify_gap_us;
    int64_t echo_us; /* next look; INT64_MAX: none */
    size_t echo;
    _Alignas(uint64_t) char datagram[NQ_LOAN_BORN_BYTES];
};

static int64_t listen_min(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* ---- Passing on ---- */

static void listen_pass(struct nq_listening *l, int64_t now)
{
    nq_worker *w = l->worker;
    const uint64_t claimed = atomic_load(&w->claimed);
    const bool still = atomic_load(&w->hint); /* it has not looked since the last one: busy */
    if (!still && (claimed != l->claimed || now > l->next_us + LISTEN_QUIET_US))
        l->gap_us = LISTEN_GAP_MIN_US;
    else
        l->gap_us = listen_min(l->gap_us * 2, LISTEN_GAP_MAX_US);
    l->claimed = claimed;
    l->next_us = now + l->gap_us;
    if (l->cancels)
        nq_cancels_wake(w);
    if (l->settings)
        nq_settings_wake(w);
    if (l->pending)
        nq_fetch_wake(w, l->hint_queue, l->hint_id);
    l->pending = l->cancels = l->settings = false;
}

/* ---- Datagrams ---- */

/* A stranger's hint that is due: of anything, for who knows what else was put off. */
static void listen_take_strange(struct nq_listening *l, int64_t now)
{
    const uint64_t claimed = atomic_load(&l->worker->claimed);
    if (claimed != l->strange_claimed || now > l->strange_us + LISTEN_STRANGE_MAX_US)
        l->strange_gap_us = LISTEN_GAP_MIN_US;
    else
        l->strange_gap_us = listen_min(l->strange_gap_us * 2, LISTEN_STRANGE_MAX_US);
    l->strange_claimed = claimed;
    l->strange_us = now + l->strange_gap_us;
    l->strange = false;
    l->pending = l->cancels = l->settings = true;
    l->hint_queue = NQ_HINT_ANY;
    l->hint_id = 0;
}

/* Read what came, and note what of it is for us. */
static void listen_read_datagrams(struct nq_listening *l, int64_t now)
{
    if (l->strange)
        l->next_us = now + LISTEN_STRANGE_READ_US;
    for (int i = 0; i < LISTEN_AT_ONCE; i++) {
        uint64_t hint[2] = {0};
        nq_hint_from from;
        bool ours = false;
        const ssize_t n = nq_hints_read(l->fd, l->datagram, sizeof l->datagram, &from, NULL);
        if (n < 0)
            break;
        if (n != (ssize_t)sizeof hint[0] && n != (ssize_t)sizeof hint)
            continue;
        memcpy(hint, l->datagram, (size_t)n);
        for (size_t k = 0; k < l->worker->nqueues; k++)
            ours = ours || hint[0] == l->queues[k] || hint[0] == NQ_HINT_ANY;
        if (hint[0] == NQ_HINT_WAITER)
            nq_hints_waited(nq_hints_of(l->worker->q));
        if (ours && !from.stranger)
            nq_loans_borrower(l->worker, hint[0], &from);
        if (from.stranger) {
            l->strange = l->strange || ours || hint[0] >= NQ_HINT_SETTINGS;
            continue;
        }
        l->cancels = l->cancels || hint[0] == NQ_HINT_CANCEL;
        l->settings = l->settings || hint[0] == NQ_HINT_SETTINGS;
        if (ours && !l->pending) {
            l->hint_queue = hint[0];
            l->hint_id = n > (ssize_t)sizeof hint[0] && hint[1] <= INT64_MAX ? (nq_id)hint[1] : 0;
        }
        l->pending = l->pending || ours;
    }
}

/* No more loans to other processes. Who is in the middle of one is told by the socket, or its task is found.
 */
static void listen_lend_no_more(struct nq_listening *l)
{
    nq_loans_open(l->worker, -1, -1);
    for (int i = 0; i < 2; i++) {
        if (l->answers[i] >= 0)
            close(l->answers[i]);
        l->answers[i] = -1;
    }
}

/* Read what producers say of their loans. A stranger has got one only by the address of a producer that is
 * gone, and could keep us reading. */
static void listen_read_answers(struct nq_listening *l, int64_t now)
{
    for (int i = 0; i < LISTEN_AT_ONCE; i++) {
        nq_hint_from from;
        const ssize_t n = nq_hints_read(l->answers[0], l->datagram, sizeof l->datagram, &from, NULL);
        if (n < 0)
            break;
        if (from.stranger) {
            listen_lend_no_more(l);
            break;
        }
        if (n >= (ssize_t)sizeof(nq_loan_message) && nq_loans_heard(l->worker, l->datagram, (size_t)n))
            l->begun_us = now + LISTEN_BEGUN_US;
    }
}

/* ---- The file ---- */

/* The file may not be there yet; the directory tells when it comes. */
static void listen_watch_file(struct nq_listening *l)
{
    l->file_watch = inotify_add_watch(l->notify, l->file, IN_MODIFY);
}

static void listen_watch(struct nq_listening *l)
{
    l->dir_watch = l->file_watch = -1;
    l->notify_gap_us = LISTEN_WATCH_MIN_US;
    l->file = nq_store_watched(l->worker->store);
    char *slash = l->file ? strrchr(l->file, '/') : NULL;
    if (!slash)
        return;
    l->base = slash + 1;
    l->notify = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    if (l->notify < 0)
        return;
    *slash = '\0';
    l->dir_watch =
        inotify_add_watch(l->notify, *l->file ? l->file : "/", IN_CREATE | IN_MOVED_TO | IN_ONLYDIR);
    *slash = '/';
    listen_watch_file(l);
}

/* Read what happened; was the file written? It may be deleted by its last user, and made anew. */
static bool listen_read_events(struct nq_listening *l)
{
    _Alignas(struct inotify_event) char buf[4096];
    const struct inotify_event *e;
    bool written = false, anew = false;
    ssize_t n = read(l->notify, buf, sizeof buf);
    for (const char *at = buf; n > 0 && at < buf + n; at += sizeof *e + e->len) {
        e = (const struct inotify_event *)(const void *)at;
        if (e->wd == l->dir_watch && e->len > 0)
            anew = anew || strcmp(e->name, l->base) == 0;
        else if (e->wd == l->file_watch && (e->mask & IN_IGNORED))
            anew = true;
        else if (e->wd == l->file_watch || (e->mask & IN_Q_OVERFLOW))
            written = true;
    }
    if (anew)
        listen_watch_file(l);
    return written || anew;
}

/* Somebody wrote: look, unless it was this worker or it has enough to do. */
static void listen_written(struct nq_listening *l, int64_t now)
{
    nq_worker *w = l->worker;
    const uint64_t claimed = atomic_load(&w->claimed);
    pthread_mutex_lock(&w->lock);
    const bool own = now - w->wrote_us < LISTEN_OWN_US || nq_fetch_wanted(w) == 0;
    pthread_mutex_unlock(&w->lock);
    /* A program that is busy with other tables of the file is no reason to look all the time. */
    if (own)
        l->notify_gap_us = LISTEN_WATCH_MAX_US;
    else if (claimed != l->claimed || now > l->notify_us + LISTEN_QUIET_US)
        l->notify_gap_us = LISTEN_WATCH_MIN_US;
    else
        l->notify_gap_us = listen_min(l->notify_gap_us * 2, LISTEN_WATCH_MAX_US);
    l->notify_us = now + l->notify_gap_us;
    if (!own && l->echo_us == INT64_MAX) {
        l->echo = 0;
        l->echo_us = now + listen_echo_us[0];
    }
}

static void listen_echo(struct nq_listening *l, int64_t now)
{
    l->echo_us = ++l->echo < LISTEN_ECHOES ? now + listen_echo_us[l->echo] : INT64_MAX;
    nq_fetch_wake(l->worker, NQ_HINT_ANY, 0);
    nq_cancels_wake(l->worker); /* what was written may be a request to cancel */
}

/* ---- The listener's thread ---- */

/* Wait for any of them; false at the end. What must not be looked at yet is not waited for. */
static bool listen_poll(struct nq_listening *l, bool *datagrams, bool *events, bool *answers)
{
    const int64_t now = nq_mono_us();
    const bool waiting = l->pending || l->cancels || l->settings;
    const bool hear = !waiting && now >= l->next_us, see = now >= l->notify_us;
    struct pollfd fds[4] = {{l->stop_fd, POLLIN, 0},
                            {hear ? l->fd : -1, POLLIN, 0},
                            {see ? l->notify : -1, POLLIN, 0},
                            {l->answers[0], POLLIN, 0}};
    int64_t until = l->echo_us;
    if (!hear && (waiting || l->fd >= 0))
        until = listen_min(until, l->next_us);
    if (!see && l->notify >= 0)
        until = listen_min(until, l->notify_us);
    if (l->strange)
        until = listen_min(until, l->strange_us);
    until = listen_min(until, l->begun_us);
    const int64_t left = until > now ? until - now : 0;
    const struct timespec ts = {(time_t)(left / 1000000), (long)(left % 1000000) * 1000};
    if (ppoll(fds, 4, until == INT64_MAX ? NULL : &ts, NULL) < 0)
        return errno == EINTR;
    *datagrams = fds[1].revents != 0;
    *events = fds[2].revents != 0;
    *answers = fds[3].revents != 0;
    return fds[0].revents == 0;
}

static void *listen_main(void *arg)
{
    struct nq_listening *l = arg;
    bool datagrams = false, events = false, answers = false;
    while (listen_poll(l, &datagrams, &events, &answers)) {
        const int64_t now = nq_mono_us();
        if (answers)
            listen_read_answers(l, now);
        if (datagrams)
            listen_read_datagrams(l, now);
        if (events && listen_read_events(l))
            listen_written(l, now);
        if (l->echo_us <= now)
            listen_echo(l, now);
        if (l->strange && now >= l->strange_us)
            listen_take_strange(l, now);
        if ((l->pending || l->cancels || l->settings) && now >= l->next_us)
            listen_pass(l, now);
        if (now >= l->begun_us) {
            nq_loans_check(l->worker);
            l->begun_us = INT64_MAX;
        }
        datagrams = events = answers = false;
    }
    /* No answer comes any more; of those that did some may hand tasks over. */
    if (l->answers[0] >= 0 && shutdown(l->answers[0], SHUT_RD) == 0)
        listen_read_answers(l, nq_mono_us());
    return NULL;
}

/* ---- Starting and ending ---- */

/* Have producers of other processes answer on a socket of their own: what they get is one end of it. */
static void listen_lend(struct nq_listening *l)
{
    const int on = 1;
    if (socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, l->answers) != 0) {
        l->answers[0] = l->answers[1] = -1;
        return;
    }
    (void)setsockopt(l->answers[0], SOL_SOCKET, SO_PASSCRED, &on, sizeof on);
    nq_loans_open(l->worker, l->fd, l->answers[1]);
}

NQ_PRIVATE void nq_listening_start(nq_worker *w)
{
    struct nq_listening *l;
    if (!w->store->hints || !(l = calloc(1, sizeof *l)))
        return;
    w->listening = l;
    l->worker = w;
    l->fd = l->notify = l->answers[0] = l->answers[1] = -1;
    l->echo_us = l->begun_us = INT64_MAX;
    l->gap_us = l->strange_gap_us = LISTEN_GAP_MIN_US;
    l->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    l->queues = calloc(w->nqueues + 1, sizeof *l->queues);
    if (l->stop_fd < 0 || !l->queues)
        return;
    for (size_t i = 0; i < w->nqueues; i++)
        l->queues[i] = w->queues[i].hint;
    l->queues[w->nqueues] = NQ_HINT_CANCEL;
    l->fd = nq_hints_listen(nq_hints_of(w->q), &l->index);
    if (l->fd >= 0)
        listen_lend(l);
    /* A drain ends with what is there: no new tasks to wait for, only requests to cancel. */
    if (w->opts.drain != NQ_DRAIN_DUE)
        listen_watch(l);
    if (l->fd >= 0 || l->notify >= 0)
        l->has_listener = nq_thread_start(&l->listener, listen_main, l, NULL) == NQ_OK;
    if (w->opts.drain != NQ_DRAIN_DUE)
        l->bell = nq_listen_bell_start(w, l->queues, w->nqueues + 1, l->fd >= 0);
    nq_fetch_wake(w, NQ_HINT_ANY, 0); /* for what came before anybody listened */
}

NQ_PRIVATE void nq_listening_stop(nq_worker *w)
{
    const uint64_t one = 1;
    struct nq_listening *l = w->listening;
    if (!l)
        return;
    nq_loans_open(w, -1, -1);
    nq_listen_bell_stop(l->bell);
    if (!l->has_listener)
        return;
    if (write(l->stop_fd, &one, sizeof one) < 0)
        nq_worker_log(w, NQ_LOG_DEBUG, "the listener for hints cannot be told to end");
    pthread_join(l->listener, NULL);
    l->has_listener = false;
}

NQ_PRIVATE void nq_listening_free(nq_worker *w)
{
    struct nq_listening *l = w->listening;
    if (!l)
        return;
    w->listening = NULL;
    nq_listen_bell_free(l->bell);
    nq_hints_unlisten(nq_hints_of(w->q), l->fd, l->index);
    listen_lend_no_more(l);
    if (l->notify >= 0)
        close(l->notify);
    if (l->stop_fd >= 0)
        close(l->stop_fd);
    free(l->file);
    free(l->queues);
    free(l);
}
