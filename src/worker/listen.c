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
#define WAKE_GAP_MIN_US 200
#define WAKE_GAP_MAX_US NQ_MS(5)
#define WAKE_QUIET_US   NQ_MS(100)
/* Those of other users, who need not have any business here: at once while they lead to claims, and else more
 * and more seldom, up to this. What comes sooner is put off, and never holds up those of our own user or of
 * root. */
#define WAKE_STRANGE_MAX_US NQ_SECONDS(1)
/* And reading them takes turns of this distance while one waits already. */
#define WAKE_STRANGE_READ_US NQ_MS(2)
/* A write to the file is seen before its commit is: look soon after it, and again. */
#define WAKE_ECHOES 3
static const int64_t wake_echo_us[WAKE_ECHOES] = {500, 1000, 2500};
#define WAKE_WATCH_MIN_US NQ_MS(1)
#define WAKE_WATCH_MAX_US NQ_MS(5)
/* Writes of our own come with a claim or an outcome. */
#define WAKE_OWN_US NQ_MS(2)
struct nq_wake {
    nq_worker *worker;
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
};

static int64_t wake_min(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* ---- Passing on ---- */

static void wake_pass(struct nq_wake *wake, int64_t now)
{
    nq_worker *w = wake->worker;
    const uint64_t claimed = atomic_load(&w->claimed);
    const bool still = atomic_load(&w->hint); /* it has not looked since the last one: busy */
    if (!still && (claimed != wake->claimed || now > wake->next_us + WAKE_QUIET_US))
        wake->gap_us = WAKE_GAP_MIN_US;
    else
        wake->gap_us = wake_min(wake->gap_us * 2, WAKE_GAP_MAX_US);
    wake->claimed = claimed;
    wake->next_us = now + wake->gap_us;
    if (wake->cancels)
        nq_cancels_wake(w);
    if (wake->pending)
        nq_fetch_wake(w, wake->told_queue, wake->told_id);
    wake->pending = wake->cancels = false;
}

/* ---- Datagrams ---- */

/* A stranger's hint that is due: of anything, for who knows what else was put off. */
static void wake_take_strange(struct nq_wake *wake, int64_t now)
{
    const uint64_t claimed = atomic_load(&wake->worker->claimed);
    if (claimed != wake->strange_claimed || now > wake->strange_us + WAKE_STRANGE_MAX_US)
        wake->strange_gap_us = WAKE_GAP_MIN_US;
    else
        wake->strange_gap_us = wake_min(wake->strange_gap_us * 2, WAKE_STRANGE_MAX_US);
    wake->strange_claimed = claimed;
    wake->strange_us = now + wake->strange_gap_us;
    wake->strange = false;
    wake->pending = wake->cancels = true;
    wake->told_queue = NQ_HINT_ANY;
    wake->told_id = 0;
}

/* Read what came, and note what of it is for us. */
static void wake_read_datagrams(struct nq_wake *wake, int64_t now)
{
    uint64_t hint[3];
    if (wake->strange)
        wake->next_us = now + WAKE_STRANGE_READ_US;
    for (int i = 0; i < 64; i++) {
        bool ours = false, stranger = false;
        const ssize_t n = nq_hints_read(wake->fd, hint, sizeof hint, &stranger);
        if (n < 0)
            break;
        if (n != (ssize_t)sizeof hint[0] && n != 2 * (ssize_t)sizeof hint[0])
            continue;
        for (size_t k = 0; k < wake->worker->nfeeds; k++)
            ours = ours || hint[0] == wake->queues[k] || hint[0] == NQ_HINT_ANY;
        if (stranger) {
            wake->strange = wake->strange || ours || hint[0] == NQ_HINT_CANCEL;
            continue;
        }
        wake->cancels = wake->cancels || hint[0] == NQ_HINT_CANCEL;
        if (ours && !wake->pending) {
            wake->told_queue = hint[0];
            wake->told_id = n > (ssize_t)sizeof hint[0] && hint[1] <= INT64_MAX ? (nq_id)hint[1] : 0;
        }
        wake->pending = wake->pending || ours;
    }
}

/* ---- The file ---- */

/* The file may not be there yet; the directory tells when it comes. */
static void wake_watch_file(struct nq_wake *wake)
{
    wake->file_watch = inotify_add_watch(wake->notify, wake->file, IN_MODIFY);
}

static void wake_watch(struct nq_wake *wake)
{
    wake->dir_watch = wake->file_watch = -1;
    wake->notify_gap_us = WAKE_WATCH_MIN_US;
    wake->file = nq_store_watched(wake->worker->store);
    char *slash = wake->file ? strrchr(wake->file, '/') : NULL;
    if (!slash)
        return;
    wake->base = slash + 1;
    wake->notify = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    if (wake->notify < 0)
        return;
    *slash = '\0';
    wake->dir_watch =
        inotify_add_watch(wake->notify, *wake->file ? wake->file : "/", IN_CREATE | IN_MOVED_TO | IN_ONLYDIR);
    *slash = '/';
    wake_watch_file(wake);
}

/* Read what happened; was the file written? It may be deleted by its last user, and made anew. */
static bool wake_read_events(struct nq_wake *wake)
{
    _Alignas(struct inotify_event) char buf[4096];
    const struct inotify_event *e;
    bool written = false, anew = false;
    ssize_t n = read(wake->notify, buf, sizeof buf);
    for (const char *at = buf; n > 0 && at < buf + n; at += sizeof *e + e->len) {
        e = (const struct inotify_event *)(const void *)at;
        if (e->wd == wake->dir_watch && e->len > 0)
            anew = anew || strcmp(e->name, wake->base) == 0;
        else if (e->wd == wake->file_watch && (e->mask & IN_IGNORED))
            anew = true;
        else if (e->wd == wake->file_watch || (e->mask & IN_Q_OVERFLOW))
            written = true;
    }
    if (anew)
        wake_watch_file(wake);
    return written || anew;
}

/* Somebody wrote: look, unless it was this worker or it has enough to do. */
static void wake_written(struct nq_wake *wake, int64_t now)
{
    nq_worker *w = wake->worker;
    const uint64_t claimed = atomic_load(&w->claimed);
    pthread_mutex_lock(&w->lock);
    const bool own = now - w->wrote_us < WAKE_OWN_US || nq_fetch_wanted(w) == 0;
    pthread_mutex_unlock(&w->lock);
    /* A program that is busy with other tables of the file is no reason to look all the time. */
    if (own)
        wake->notify_gap_us = WAKE_WATCH_MAX_US;
    else if (claimed != wake->claimed || now > wake->notify_us + WAKE_QUIET_US)
        wake->notify_gap_us = WAKE_WATCH_MIN_US;
    else
        wake->notify_gap_us = wake_min(wake->notify_gap_us * 2, WAKE_WATCH_MAX_US);
    wake->notify_us = now + wake->notify_gap_us;
    if (!own && wake->echo_us == INT64_MAX) {
        wake->echo = 0;
        wake->echo_us = now + wake_echo_us[0];
    }
}

static void wake_echo(struct nq_wake *wake, int64_t now)
{
    wake->echo_us = ++wake->echo < WAKE_ECHOES ? now + wake_echo_us[wake->echo] : INT64_MAX;
    nq_fetch_wake(wake->worker, NQ_HINT_ANY, 0);
    nq_cancels_wake(wake->worker); /* what was written may be a request to cancel */
}

/* ---- The listener's thread ---- */

/* Wait for any of them; false at the end. What must not be looked at yet is not waited for. */
static bool wake_poll(struct nq_wake *wake, bool *datagrams, bool *events)
{
    const int64_t now = nq_mono_us();
    const bool waiting = wake->pending || wake->cancels;
    const bool hear = !waiting && now >= wake->next_us, see = now >= wake->notify_us;
    struct pollfd fds[3] = {
        {wake->stop_fd, POLLIN, 0}, {hear ? wake->fd : -1, POLLIN, 0}, {see ? wake->notify : -1, POLLIN, 0}};
    int64_t until = wake->echo_us;
    if (!hear && (waiting || wake->fd >= 0))
        until = wake_min(until, wake->next_us);
    if (!see && wake->notify >= 0)
        until = wake_min(until, wake->notify_us);
    if (wake->strange)
        until = wake_min(until, wake->strange_us);
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
    struct nq_wake *wake = arg;
    bool datagrams = false, events = false;
    while (wake_poll(wake, &datagrams, &events)) {
        const int64_t now = nq_mono_us();
        if (datagrams)
            wake_read_datagrams(wake, now);
        if (events && wake_read_events(wake))
            wake_written(wake, now);
        if (wake->echo_us <= now)
            wake_echo(wake, now);
        if (wake->strange && now >= wake->strange_us)
            wake_take_strange(wake, now);
        if ((wake->pending || wake->cancels) && now >= wake->next_us)
            wake_pass(wake, now);
        datagrams = events = false;
    }
    return NULL;
}

/* ---- Starting and ending ---- */

NQ_PRIVATE void nq_wake_start(nq_worker *w)
{
    struct nq_wake *wake;
    if (!w->store->hints || !(wake = calloc(1, sizeof *wake)))
        return;
    w->wake = wake;
    wake->worker = w;
    wake->fd = wake->notify = -1;
    wake->echo_us = INT64_MAX;
    wake->gap_us = wake->strange_gap_us = WAKE_GAP_MIN_US;
    wake->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    wake->queues = calloc(w->nfeeds + 1, sizeof *wake->queues);
    if (wake->stop_fd < 0 || !wake->queues)
        return;
    for (size_t i = 0; i < w->nfeeds; i++)
        wake->queues[i] = w->feeds[i].hint;
    wake->queues[w->nfeeds] = NQ_HINT_CANCEL;
    wake->fd = nq_hints_listen(nq_hints_of(w->q), &wake->place);
    /* A drain ends with what is there: no new tasks to wait for, only requests to cancel. */
    if (w->opts.drain != NQ_DRAIN_DUE)
        wake_watch(wake);
    if (wake->fd >= 0 || wake->notify >= 0)
        wake->has_listener = nq_thread_start(&wake->listener, wake_listen, wake, NULL) == NQ_OK;
    if (w->opts.drain != NQ_DRAIN_DUE)
        wake->bell = nq_wake_bell_start(w, wake->queues, w->nfeeds + 1, wake->fd >= 0);
    nq_fetch_wake(w, NQ_HINT_ANY, 0); /* for what came before anybody listened */
}

NQ_PRIVATE void nq_wake_stop(nq_worker *w)
{
    const uint64_t one = 1;
    struct nq_wake *wake = w->wake;
    if (!wake)
        return;
    if (wake->has_listener && write(wake->stop_fd, &one, sizeof one) < 0)
        nq_worker_log(w, NQ_LOG_DEBUG, "the listener for hints cannot be told to end");
    nq_wake_bell_stop(wake->bell);
}

NQ_PRIVATE void nq_wake_free(nq_worker *w)
{
    struct nq_wake *wake = w->wake;
    if (!wake)
        return;
    w->wake = NULL;
    if (wake->has_listener)
        pthread_join(wake->listener, NULL);
    nq_wake_bell_free(wake->bell);
    nq_hints_unlisten(nq_hints_of(w->q), wake->fd, wake->place);
    if (wake->notify >= 0)
        close(wake->notify);
    if (wake->stop_fd >= 0)
        close(wake->stop_fd);
    free(wake->file);
    free(wake->queues);
    free(wake);
}
