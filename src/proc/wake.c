/* SPDX-License-Identifier: MIT */
/* Listens for hints from other processes and wakes the fetcher: datagrams, changes of a file. */
#include <errno.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "proc.h"

/* Hints are from anybody: looks that they cause keep this distance, and a growing one while they lead to no
 * claim. */
#define WAKE_GAP_MIN_US 200
#define WAKE_GAP_MAX_US NQ_MS(5)
#define WAKE_QUIET_US   NQ_MS(100)
/* A write to the file is seen before its commit is: look soon after it, and again. */
#define WAKE_ECHOES 3
static const int64_t wake_echo_us[WAKE_ECHOES] = {500, 1000, 2500};
#define WAKE_WATCH_MIN_US NQ_MS(1)
#define WAKE_WATCH_MAX_US NQ_MS(5)
/* Writes of our own come with a claim or an outcome. */
#define WAKE_OWN_US NQ_MS(2)
struct nq_wake {
    nq_proc *proc;
    int stop_fd;
    pthread_t listener;
    bool has_listener;
    nq_wake_bell *bell; /* may be NULL */
    uint64_t *queues;   /* of the feeds, and NQ_HINT_CANCEL */

    /* the listener thread's */
    int fd, place;       /* of the datagrams; -1: none */
    uint64_t told_queue; /* of the first hint that waits, and its task, or 0 */
    nq_id told_id;
    bool pending; /* a hint waits for next_us */
    bool cancels; /* and so does one of requests to cancel */
    int64_t next_us, gap_us;
    uint64_t claimed; /* at the last hint that was passed on */

    int notify; /* -1: none */
    int dir_watch, file_watch;
    char *file;       /* the watched one */
    const char *base; /* its name without the directory */
    int64_t notify_us, notify_gap_us;
    int64_t echo_us; /* next look; INT64_MAX: none */
    size_t echo;
};

static int64_t wake_min(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* ---- Passing on ---- */

static void wake_pass(struct nq_wake *w, int64_t now)
{
    nq_proc *p = w->proc;
    const uint64_t claimed = atomic_load(&p->claimed);
    const bool still = atomic_load(&p->hint); /* it has not looked since the last one: busy */
    if (!still && (claimed != w->claimed || now > w->next_us + WAKE_QUIET_US))
        w->gap_us = WAKE_GAP_MIN_US;
    else
        w->gap_us = wake_min(w->gap_us * 2, WAKE_GAP_MAX_US);
    w->claimed = claimed;
    w->next_us = now + w->gap_us;
    if (w->cancels)
        nq_steer_look(p);
    if (w->pending)
        nq_fetch_wake(p, w->told_queue, w->told_id);
    w->pending = w->cancels = false;
}

/* ---- Datagrams ---- */

/* Read what came, and note what of it is for us. */
static void wake_read_datagrams(struct nq_wake *w)
{
    uint64_t hint[3];
    for (int i = 0; i < 64; i++) {
        const ssize_t n = recv(w->fd, hint, sizeof hint, MSG_DONTWAIT);
        bool ours = false;
        if (n < 0)
            break;
        if (n != (ssize_t)sizeof hint[0] && n != 2 * (ssize_t)sizeof hint[0])
            continue;
        w->cancels = w->cancels || hint[0] == NQ_HINT_CANCEL;
        for (size_t k = 0; k < w->proc->nfeeds; k++)
            ours = ours || hint[0] == w->queues[k] || hint[0] == NQ_HINT_ANY;
        if (ours && !w->pending) {
            w->told_queue = hint[0];
            w->told_id = n > (ssize_t)sizeof hint[0] && hint[1] <= INT64_MAX ? (nq_id)hint[1] : 0;
        }
        w->pending = w->pending || ours;
    }
}

/* ---- The file ---- */

/* The file may not be there yet; the directory tells when it comes. */
static void wake_watch_file(struct nq_wake *w)
{
    w->file_watch = inotify_add_watch(w->notify, w->file, IN_MODIFY);
}

static void wake_watch(struct nq_wake *w)
{
    w->dir_watch = w->file_watch = -1;
    w->notify_gap_us = WAKE_WATCH_MIN_US;
    w->file = nq_store_watched(w->proc->store);
    char *slash = w->file ? strrchr(w->file, '/') : NULL;
    if (!slash)
        return;
    w->base = slash + 1;
    w->notify = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    if (w->notify < 0)
        return;
    *slash = '\0';
    w->dir_watch =
        inotify_add_watch(w->notify, *w->file ? w->file : "/", IN_CREATE | IN_MOVED_TO | IN_ONLYDIR);
    *slash = '/';
    wake_watch_file(w);
}

/* Read what happened; was the file written? It may be deleted by its last user, and made anew. */
static bool wake_read_events(struct nq_wake *w)
{
    _Alignas(struct inotify_event) char buf[4096];
    const struct inotify_event *e;
    bool written = false, anew = false;
    ssize_t n = read(w->notify, buf, sizeof buf);
    for (const char *at = buf; n > 0 && at < buf + n; at += sizeof *e + e->len) {
        e = (const struct inotify_event *)(const void *)at;
        if (e->wd == w->dir_watch && e->len > 0)
            anew = anew || strcmp(e->name, w->base) == 0;
        else if (e->wd == w->file_watch && (e->mask & IN_IGNORED))
            anew = true;
        else if (e->wd == w->file_watch || (e->mask & IN_Q_OVERFLOW))
            written = true;
    }
    if (anew)
        wake_watch_file(w);
    return written || anew;
}

/* Somebody wrote: look, unless it was this processor or it has enough to do. */
static void wake_written(struct nq_wake *w, int64_t now)
{
    nq_proc *p = w->proc;
    const uint64_t claimed = atomic_load(&p->claimed);
    pthread_mutex_lock(&p->lock);
    const bool own = now - p->wrote_us < WAKE_OWN_US || nq_fetch_wanted(p) == 0;
    pthread_mutex_unlock(&p->lock);
    /* A program that is busy with other tables of the file is no reason to look all the time. */
    if (own)
        w->notify_gap_us = WAKE_WATCH_MAX_US;
    else if (claimed != w->claimed || now > w->notify_us + WAKE_QUIET_US)
        w->notify_gap_us = WAKE_WATCH_MIN_US;
    else
        w->notify_gap_us = wake_min(w->notify_gap_us * 2, WAKE_WATCH_MAX_US);
    w->notify_us = now + w->notify_gap_us;
    if (!own && w->echo_us == INT64_MAX) {
        w->echo = 0;
        w->echo_us = now + wake_echo_us[0];
    }
}

static void wake_echo(struct nq_wake *w, int64_t now)
{
    w->echo_us = ++w->echo < WAKE_ECHOES ? now + wake_echo_us[w->echo] : INT64_MAX;
    nq_fetch_wake(w->proc, NQ_HINT_ANY, 0);
    nq_steer_look(w->proc); /* what was written may be a request to cancel */
}

/* ---- The listener's thread ---- */

/* Wait for any of them; false at the end. What must not be looked at yet is not waited for. */
static bool wake_poll(struct nq_wake *w, bool *datagrams, bool *events)
{
    const int64_t now = nq_mono_us();
    const bool waiting = w->pending || w->cancels;
    const bool hear = !waiting && now >= w->next_us, see = now >= w->notify_us;
    struct pollfd fds[3] = {
        {w->stop_fd, POLLIN, 0}, {hear ? w->fd : -1, POLLIN, 0}, {see ? w->notify : -1, POLLIN, 0}};
    int64_t until = w->echo_us;
    if (!hear && (waiting || w->fd >= 0))
        until = wake_min(until, w->next_us);
    if (!see && w->notify >= 0)
        until = wake_min(until, w->notify_us);
    const int64_t left = until > now ? until - now : 0;
    const struct timespec ts = {(time_t)(left / 1000000), (long)(left % 1000000) * 1000};
    if (ppoll(fds, 3, until == INT64_MAX ? NULL : &ts, NULL) < 0)
        return errno == EINTR;
    *datagrams = fds[1].revents != 0;
    *events = fds[2].revents != 0;
    return fds[0].revents == 0;
}

static void *wake_listen(void *arg)
{
    struct nq_wake *w = arg;
    bool datagrams = false, events = false;
    while (wake_poll(w, &datagrams, &events)) {
        const int64_t now = nq_mono_us();
        if (datagrams)
            wake_read_datagrams(w);
        if (events && wake_read_events(w))
            wake_written(w, now);
        if (w->echo_us <= now)
            wake_echo(w, now);
        if ((w->pending || w->cancels) && now >= w->next_us)
            wake_pass(w, now);
        datagrams = events = false;
    }
    return NULL;
}

/* ---- Starting and ending ---- */

NQ_PRIVATE void nq_wake_start(nq_proc *p)
{
    struct nq_wake *w;
    if (!p->store->hints || !(w = calloc(1, sizeof *w)))
        return;
    p->wake = w;
    w->proc = p;
    w->fd = w->notify = -1;
    w->echo_us = INT64_MAX;
    w->gap_us = WAKE_GAP_MIN_US;
    w->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    w->queues = calloc(p->nfeeds + 1, sizeof *w->queues);
    if (w->stop_fd < 0 || !w->queues)
        return;
    for (size_t i = 0; i < p->nfeeds; i++)
        w->queues[i] = p->feeds[i].hint;
    w->queues[p->nfeeds] = NQ_HINT_CANCEL;
    w->fd = nq_hints_listen(nq_hints_of(p->q), &w->place);
    /* A drain ends with what is there: no new tasks to wait for, only requests to cancel. */
    if (p->opts.drain != NQ_DRAIN_DUE)
        wake_watch(w);
    if (w->fd >= 0 || w->notify >= 0)
        w->has_listener = nq_thread_start(&w->listener, wake_listen, w, NULL) == NQ_OK;
    if (p->opts.drain != NQ_DRAIN_DUE)
        w->bell = nq_wake_bell_start(p, w->queues, p->nfeeds + 1, w->fd >= 0);
    nq_fetch_wake(p, NQ_HINT_ANY, 0); /* for what came before anybody listened */
}

NQ_PRIVATE void nq_wake_stop(nq_proc *p)
{
    const uint64_t one = 1;
    struct nq_wake *w = p->wake;
    if (!w)
        return;
    if (w->has_listener && write(w->stop_fd, &one, sizeof one) < 0)
        nq_proc_log(p, NQ_LOG_DEBUG, "the listener for hints cannot be told to end");
    nq_wake_bell_stop(w->bell);
}

NQ_PRIVATE void nq_wake_free(nq_proc *p)
{
    struct nq_wake *w = p->wake;
    if (!w)
        return;
    p->wake = NULL;
    if (w->has_listener)
        pthread_join(w->listener, NULL);
    nq_wake_bell_free(w->bell);
    nq_hints_unlisten(nq_hints_of(p->q), w->fd, w->place);
    if (w->notify >= 0)
        close(w->notify);
    if (w->stop_fd >= 0)
        close(w->stop_fd);
    free(w->file);
    free(w->queues);
    free(w);
}
