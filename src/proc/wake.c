/* SPDX-License-Identifier: MIT */
/* Listens for hints from other processes and wakes the fetcher: datagrams, changes of a file, the bell. */
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
/* The bell is hung out so often a second over time, and so often at once. */
#define WAKE_HANGS_PER_S 40
#define WAKE_HANGS_BURST 20
/* With a look that soon the bell needs none of its own. */
#define WAKE_SOON_US NQ_MS(10)

struct nq_wake {
    nq_proc *proc;
    int stop_fd;
    pthread_t listener, ringing;
    bool has_listener, has_bell;
    nq_bell *bell;
    uint64_t *queues; /* of the feeds, and NQ_HINT_CANCEL */

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

/* ---- The bell's thread ---- */

/* With the lock held: wait until the fetcher waits for tasks and the bell may be hung out again. */
static bool wake_bell_wait(nq_proc *p, int64_t from_us)
{
    while (p->phase == NQ_PHASE_RUN) {
        if (nq_mono_us() < from_us) {
            nq_cond_wait_until(&p->bell_cond, &p->lock, from_us);
        } else if (p->asleep) {
            return true;
        } else {
            p->bell_waits = true;
            pthread_cond_wait(&p->bell_cond, &p->lock);
            p->bell_waits = false;
        }
    }
    return false;
}

/* What was committed between the fetcher's last look and the hanging rang nothing: have it look again. */
static void wake_look_again(nq_proc *p)
{
    int64_t next = INT64_MAX;
    pthread_mutex_lock(&p->lock);
    for (size_t i = 0; i < p->nfeeds; i++)
        next = wake_min(next, p->feeds[i].look_us);
    pthread_mutex_unlock(&p->lock);
    if (next > nq_mono_us() + WAKE_SOON_US)
        nq_fetch_wake(p, NQ_HINT_ANY, 0);
}

/* Hang it out once. Answers how long to pause: not at all, or longer and longer when it does not work. */
static int64_t wake_bell_once(struct nq_wake *w, int64_t pause)
{
    nq_proc *p = w->proc;
    bool rung = false;
    nq_err err = {0};
    int rc = nq_bell_hang(w->bell, &err);
    if (rc == NQ_OK) {
        wake_look_again(p);
        rc = nq_bell_wait(w->bell, &rung, &err);
    }
    if (rc == NQ_OK) {
        if (rung) {
            nq_fetch_wake(p, NQ_HINT_ANY, 0);
            nq_steer_look(p);
        }
        return 0;
    }
    pthread_mutex_lock(&p->lock);
    const bool on = p->phase == NQ_PHASE_RUN;
    pthread_mutex_unlock(&p->lock);
    if (on)
        nq_proc_log(p, NQ_LOG_DEBUG, "the bell: %s", err.message);
    return pause == 0 ? NQ_MS(500) : wake_min(pause * 2, NQ_SECONDS(30));
}

static void *wake_bell_main(void *arg)
{
    struct nq_wake *w = arg;
    nq_proc *p = w->proc;
    const int64_t each = NQ_SECONDS(1) / WAKE_HANGS_PER_S;
    int64_t full_us = 0, from_us = 0, pause = 0;
    pthread_mutex_lock(&p->lock);
    while (wake_bell_wait(p, from_us)) {
        pthread_mutex_unlock(&p->lock);
        pause = wake_bell_once(w, pause);
        const int64_t now = nq_mono_us();
        full_us = (full_us > now ? full_us : now) + each;
        from_us = pause ? now + pause : full_us - each * WAKE_HANGS_BURST;
        pthread_mutex_lock(&p->lock);
    }
    pthread_mutex_unlock(&p->lock);
    return NULL;
}

/* ---- Starting and ending ---- */

static void wake_start_bell(struct nq_wake *w)
{
    nq_proc *p = w->proc;
    nq_err err = {0};
    const int rc = nq_bell_new(&w->bell, p->store, w->queues, p->nfeeds + 1, w->fd >= 0, &err);
    if (rc == NQ_OK)
        w->has_bell = nq_thread_start(&w->ringing, wake_bell_main, w, &err) == NQ_OK;
    if (!w->has_bell && rc != NQ_EUNSUPPORTED)
        nq_proc_log(p, NQ_LOG_DEBUG, "the bell: %s", err.message);
}

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
        wake_start_bell(w);
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
    if (w->has_bell)
        nq_bell_interrupt(w->bell);
}

NQ_PRIVATE void nq_wake_free(nq_proc *p)
{
    struct nq_wake *w = p->wake;
    if (!w)
        return;
    p->wake = NULL;
    if (w->has_listener)
        pthread_join(w->listener, NULL);
    if (w->has_bell)
        pthread_join(w->ringing, NULL);
    nq_hints_unlisten(nq_hints_of(p->q), w->fd, w->place);
    if (w->notify >= 0)
        close(w->notify);
    if (w->stop_fd >= 0)
        close(w->stop_fd);
    nq_bell_free(w->bell);
    free(w->file);
    free(w->queues);
    free(w);
}
