/* SPDX-License-Identifier: MIT */
/* nanoq work beside its worker: signals, systemd's notices and watchdog, the line on a terminal. */
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../text/log.h"
#include "work.h"

#define SUPERVISE_STATUS_US NQ_SECONDS(2)

/* Set by the signal handlers. */
static struct {
    int wake; /* an eventfd */
    bool nohup;
    _Atomic(nq_worker *) proc;
    atomic_uint stops, hups;
    atomic_int_least64_t stop_us; /* monotonic time of the first */
    atomic_bool ended;
} supervise_state = {.wake = -1};

/* Of the thread alone. */
struct supervise {
    nq_worker *proc;
    bool drawing, ready, stopping;
    unsigned stops, hups; /* seen */
    int64_t watchdog_us, fed_us, told_us;
    char status[200]; /* last told */
};
static struct supervise supervise_thread;
static pthread_t supervise_id;
static bool supervise_runs;

static void supervise_wake(void)
{
    const uint64_t one = 1;
    ssize_t n = write(supervise_state.wake, &one, sizeof one);
    (void)n; /* it can only fail when it is readable already */
}

/* A stop is asked for: async-signal-safe. Ctrl-C in a terminal and the SIGTERM of a process manager may be
 * one request that comes twice, so a second one counts after a second. */
static void supervise_stop(void)
{
    const int64_t now = cli_now_us(CLOCK_MONOTONIC);
    int64_t first = 0;
    nq_worker *worker = atomic_load(&supervise_state.proc);
    if (!atomic_compare_exchange_strong(&supervise_state.stop_us, &first, now) && now - first < NQ_SECONDS(1))
        return;
    atomic_fetch_add(&supervise_state.stops, 1);
    if (worker)
        nq_worker_stop(worker);
}

/* Is our stdout a pipe that nobody reads any more? The commands share it, and would die of it. */
bool supervise_unread(void)
{
    struct stat st;
    struct pollfd fd = {.fd = STDOUT_FILENO};
    return fstat(STDOUT_FILENO, &st) == 0 && (S_ISFIFO(st.st_mode) || S_ISSOCK(st.st_mode)) &&
           poll(&fd, 1, 0) > 0 && (fd.revents & (POLLERR | POLLHUP)) != 0;
}

static void supervise_signal(int number, siginfo_t *info, void *context)
{
    int saved = errno;
    (void)context;
    /* From the kernel: the terminal is gone, and with it who could have asked for anything but an end. */
    if (number != SIGHUP || (info->si_code == SI_KERNEL && !supervise_state.nohup))
        supervise_stop();
    else if (info->si_code != SI_KERNEL)
        atomic_fetch_add(&supervise_state.hups, 1);
    supervise_wake();
    errno = saved;
}

bool supervise_signals(void)
{
    static const int numbers[] = {SIGINT, SIGTERM, SIGHUP};
    struct sigaction action = {.sa_sigaction = supervise_signal, .sa_flags = SA_RESTART | SA_SIGINFO}, old;
    char buf[128];
    supervise_state.wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (supervise_state.wake < 0) {
        cli_complain("cannot make an eventfd: %s", strerror_r(errno, buf, sizeof buf));
        return false;
    }
    supervise_state.nohup = sigaction(SIGHUP, NULL, &old) == 0 && old.sa_handler == SIG_IGN;
    sigset_t heard;
    sigemptyset(&heard);
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        sigaction(numbers[i], &action, NULL);
        sigaddset(&heard, numbers[i]);
    }
    sigprocmask(SIG_UNBLOCK, &heard, NULL); /* who started us may have blocked them, and that is inherited */
    return true;
}

unsigned supervise_stops(void)
{
    return atomic_load(&supervise_state.stops);
}

static void supervise_status(const struct supervise *s, char out[200])
{
    nq_worker_totals c;
    nq_worker_stats(s->proc, &c, sizeof c);
    snprintf(out, 200, "%u running, %" PRIu64 " done, %" PRIu64 " to retry, %" PRIu64 " dead%s", c.running,
             c.done, c.retried, c.dead,
             s->stops > 1   ? "; stopping now"
             : s->stops > 0 ? s->drawing ? "; stopping when these are done, once more Ctrl-C stops them"
                                         : "; stopping when these are done"
                            : "");
}

/* What the signals since the last time ask for. */
static void supervise_asked(struct supervise *s)
{
    unsigned hups = atomic_load(&supervise_state.hups), stops = atomic_load(&supervise_state.stops);
    if (hups != s->hups) {
        s->hups = hups;
        log_line(LOG_WARN, "SIGHUP: there is nothing to reload; restart to change the options");
        if (s->ready && !s->stopping) {
            notify("RELOADING=1\nMONOTONIC_USEC=%" PRId64 "\nSTATUS=Nothing to reload",
                   cli_now_us(CLOCK_MONOTONIC));
            notify("READY=1");
            s->told_us = 0;
        }
    }
    if (stops != s->stops) {
        nq_worker_totals c;
        nq_worker_stats(s->proc, &c, sizeof c);
        s->stops = stops;
        log_line(LOG_INFO,
                 stops > 1 ? "stopping %u running tasks now"
                           : "stopping: no more claims, %u running tasks may end",
                 c.running);
        s->told_us = 0;
        if (!s->stopping) {
            s->stopping = true;
            notify("STOPPING=1");
        }
    }
}

/* Alive: none of the worker's threads has been silent for as long as the watchdog allows. A database that
 * is away is no reason: they go on trying. */
static void supervise_feed(struct supervise *s, int64_t now)
{
    if (s->watchdog_us > 0 && now - s->fed_us >= s->watchdog_us / 2) {
        int64_t silence = nq_worker_silence_us(s->proc);
        s->fed_us = now;
        if (silence < s->watchdog_us) {
            notify("WATCHDOG=1");
        } else {
            log_line(LOG_ERROR,
                     "the worker has been silent for %.1f s: not telling the watchdog that it lives",
                     (double)silence / 1e6);
        }
    }
}

static void supervise_tell(struct supervise *s, int64_t now)
{
    char status[200];
    if (!s->ready && nq_worker_silence_us(s->proc) >= 0) {
        s->ready = true;
        s->told_us = 0;
        notify("READY=1");
    }
    supervise_status(s, status);
    if (s->drawing)
        log_progress(status);
    if (s->ready && (s->told_us == 0 || now - s->told_us >= SUPERVISE_STATUS_US) &&
        strcmp(status, s->status) != 0) {
        memcpy(s->status, status, sizeof status);
        s->told_us = now;
        notify("STATUS=%s", status);
    }
}

/* As pid 1 of a container we inherit whoever loses its parent, and must reap it. Our own children, the
 * keepers, are not met here: they are waited for by __WALL only (spawn.c). */
static void supervise_inherit(void)
{
    while (getpid() == 1 && waitpid(-1, NULL, WNOHANG) > 0)
        ;
}

static int supervise_pause(const struct supervise *s)
{
    int64_t us = s->drawing ? NQ_MS(250) : notify_wanted() ? SUPERVISE_STATUS_US : -1;
    if (notify_wanted() && !s->ready)
        us = NQ_MS(50);
    if (s->watchdog_us > 0 && (us < 0 || us > s->watchdog_us / 4))
        us = s->watchdog_us / 4;
    if (getpid() == 1 && (us < 0 || us > NQ_SECONDS(1)))
        us = NQ_SECONDS(1);
    return us < 0 ? -1 : (int)(us / 1000 + 1);
}

static void *supervise_main(void *arg)
{
    struct supervise *s = arg;
    struct pollfd fds[] = {{.fd = supervise_state.wake, .events = POLLIN}, {.fd = STDOUT_FILENO}};
    uint64_t count;
    s->watchdog_us = notify_watchdog_us();
    while (!atomic_load(&supervise_state.ended)) {
        int64_t now = cli_now_us(CLOCK_MONOTONIC);
        if (fds[1].fd >= 0 && supervise_unread()) {
            log_line(LOG_WARN, "nobody reads standard output any more: stopping");
            supervise_stop();
        }
        if (fds[1].fd >= 0 && fds[1].revents != 0)
            fds[1].fd = -1; /* said once; a terminal that went away sends SIGHUP */
        supervise_inherit();
        supervise_asked(s);
        supervise_tell(s, now);
        supervise_feed(s, now);
        if (poll(fds, 2, supervise_pause(s)) > 0 && fds[0].revents != 0) {
            ssize_t n = read(fds[0].fd, &count, sizeof count);
            (void)n;
        }
    }
    supervise_tell(s, cli_now_us(CLOCK_MONOTONIC)); /* a short drain: ready it was */
    if (!s->stopping)
        notify("STOPPING=1");
    return NULL;
}

void supervise_start(nq_worker *proc, bool drawing)
{
    char buf[128];
    supervise_thread.proc = proc;
    supervise_thread.drawing = drawing;
    atomic_store(&supervise_state.proc, proc);
    if (supervise_stops() > 0) /* before there was a worker that could have been told */
        nq_worker_stop(proc);
    const int failed = cli_thread(&supervise_id, supervise_main, &supervise_thread);
    supervise_runs = failed == 0;
    if (failed != 0) {
        log_line(LOG_WARN, "cannot start a thread: %s; the service manager is told nothing",
                 strerror_r(failed, buf, sizeof buf));
    }
}

void supervise_end(void)
{
    atomic_store(&supervise_state.proc, NULL);
    if (supervise_runs) {
        atomic_store(&supervise_state.ended, true);
        supervise_wake();
        pthread_join(supervise_id, NULL);
    }
}
