/* SPDX-License-Identifier: MIT */
/* nanoq work --metrics: a listener for GET and HEAD, with one thread, and limits on all that a client has. */
#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdatomic.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../text/log.h"
#include "metrics.h"
#include "work.h"

#define METRICS_CLIENTS    64             /* at once; one more, and the oldest is closed */
#define METRICS_REQUEST_US NQ_SECONDS(5)  /* for all of a request, */
#define METRICS_WAIT_US    NQ_SECONDS(10) /* for the database, */
#define METRICS_ANSWER_US  NQ_SECONDS(10) /* for the answer to be taken, */
#define METRICS_LINGER_US  NQ_SECONDS(1)  /* and for the client to close */
#define METRICS_SILENT_US  NQ_SECONDS(60) /* a worker that is silent longer is not healthy */

/* One request a connection: what is pipelined behind it gets no answer, and is asked again by HTTP's rules.
 */
enum metrics_state { METRICS_FREE, METRICS_READS, METRICS_WAITS, METRICS_WRITES, METRICS_LINGERS };
struct metrics_client {
    int fd;
    enum metrics_state state;
    bool ended; /* it sends no more, and may wait for the answer */
    int64_t since_us, until_us;
    struct metrics_request request;
    char in[METRICS_HEADER];
    size_t nin;
    struct text out;
    size_t written;
};

static struct {
    nq_worker *worker;
    struct metrics_gauges *gauges;
    int listener, wake;
    bool local;
    pthread_t thread;
    atomic_bool ended;
    struct metrics_client clients[METRICS_CLIENTS];
} metrics_http = {.listener = -1, .wake = -1};

static void metrics_close(struct metrics_client *c)
{
    close(c->fd);
    text_free(&c->out);
    c->out = (struct text){0};
    c->state = METRICS_FREE;
}

static void metrics_turn(struct metrics_client *c, enum metrics_state state, int64_t for_us)
{
    c->state = state;
    c->until_us = cli_now_us(CLOCK_MONOTONIC) + for_us;
}

static void metrics_answer(struct metrics_client *c, int status, const char *type, const struct text *body)
{
    text_str(&c->out, "HTTP/1.1 ");
    text_int(&c->out, status);
    text_str(&c->out, " ");
    text_str(&c->out, metrics_status(status));
    text_str(&c->out, "\r\nContent-Type: ");
    text_str(&c->out, type);
    text_str(&c->out, "\r\nContent-Length: ");
    text_int(&c->out, (int64_t)body->n);
    text_str(&c->out,
             "\r\nX-Content-Type-Options: nosniff\r\nCache-Control: no-store\r\nConnection: close\r\n");
    text_str(&c->out, status == 405 ? "Allow: GET, HEAD\r\n\r\n" : "\r\n");
    if (!c->request.head && body->n > 0)
        text_add(&c->out, body->p, body->n);
    metrics_turn(c, METRICS_WRITES, METRICS_ANSWER_US);
}

static void metrics_say(struct metrics_client *c, int status, const char *why)
{
    struct text body = {0};
    text_str(&body, why);
    text_str(&body, "\n");
    metrics_answer(c, status, "text/plain; charset=utf-8", &body);
    text_free(&body);
}

static int metrics_piece(const char *text, size_t n, void *udata)
{
    text_add(udata, text, n);
    return 0;
}

static void metrics_of_worker(struct metrics_client *c)
{
    struct text body = {0};
    if (nq_worker_metrics(metrics_http.worker, metrics_piece, &body, NULL) == NQ_OK)
        metrics_answer(c, 200, NQ_METRICS_CONTENT_TYPE, &body);
    else
        metrics_say(c, 500, "out of memory");
    text_free(&body);
}

static void metrics_of_database(struct metrics_client *c)
{
    struct text body = {0};
    if (!metrics_http.gauges)
        metrics_say(c, 503, "no thread to read the database with");
    else if (metrics_gauges(metrics_http.gauges, c->since_us, &body))
        metrics_answer(c, 200, NQ_METRICS_CONTENT_TYPE, &body);
    else if (c->state != METRICS_WAITS)
        metrics_turn(c, METRICS_WAITS, METRICS_WAIT_US);
    text_free(&body);
}

static void metrics_health(struct metrics_client *c)
{
    const int64_t silence = nq_worker_silence_us(metrics_http.worker);
    if (c->request.path == METRICS_HEALTHY)
        metrics_say(c, silence < METRICS_SILENT_US ? 200 : 503,
                    silence < METRICS_SILENT_US ? "ok"
                                                : "the worker's threads have been silent for a minute");
    else if (supervise_stops() > 0)
        metrics_say(c, 503, "stopping");
    else
        metrics_say(c, silence >= 0 ? 200 : 503, silence >= 0 ? "ok" : "the database was not reached yet");
}

static void metrics_asked(struct metrics_client *c)
{
    const int status = metrics_request(c->in, c->nin, metrics_http.local, &c->request);
    if (status == 0)
        return;
    if (status == 404)
        metrics_say(c, status, "there are /metrics, /metrics/database, /healthz and /readyz");
    else if (status != 200)
        metrics_say(c, status, metrics_status(status));
    else if (c->request.path == METRICS_WORKER)
        metrics_of_worker(c);
    else if (c->request.path == METRICS_DATABASE)
        metrics_of_database(c);
    else
        metrics_health(c);
}

/* Something came, or the client has closed the connection, or its half of it, and waits. */
static void metrics_read(struct metrics_client *c)
{
    char drop[4096];
    const bool wanted = c->state == METRICS_READS;
    const ssize_t n = wanted ? recv(c->fd, c->in + c->nin, sizeof c->in - c->nin, MSG_DONTWAIT)
                             : recv(c->fd, drop, sizeof drop, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n == 0 && c->state == METRICS_WAITS && !c->ended) {
        c->ended = true;
    } else if (n <= 0) {
        metrics_close(c);
    } else if (wanted) {
        c->nin += (size_t)n;
        metrics_asked(c);
    }
}

static void metrics_http_write(struct metrics_client *c)
{
    const ssize_t n = send(c->fd, c->out.p + c->written, c->out.n - c->written, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n < 0) {
        metrics_close(c);
        return;
    }
    c->written += (size_t)n;
    if (c->written < c->out.n)
        return;
    /* Closed with something unread the connection is reset, and the answer may be lost with it. */
    shutdown(c->fd, SHUT_WR);
    metrics_turn(c, METRICS_LINGERS, METRICS_LINGER_US);
}

static void metrics_late(struct metrics_client *c)
{
    if (c->state == METRICS_READS && c->nin > 0)
        metrics_say(c, 408, "the request took too long");
    else if (c->state == METRICS_WAITS)
        metrics_say(c, 503, "the database does not answer");
    else
        metrics_close(c);
}

static void metrics_accept(void)
{
    struct metrics_client *c = NULL, *all = metrics_http.clients;
    const int fd = accept4(metrics_http.listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0) {
        if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS)
            poll(NULL, 0, 100); /* the listener stays readable */
        return;
    }
    for (size_t i = 0; i < METRICS_CLIENTS; i++)
        if (!c || all[i].state == METRICS_FREE || (c->state != METRICS_FREE && all[i].since_us < c->since_us))
            c = &all[i];
    if (c->state != METRICS_FREE)
        metrics_close(c);
    memset(c, 0, sizeof *c);
    c->fd = fd;
    c->since_us = cli_now_us(CLOCK_MONOTONIC);
    metrics_turn(c, METRICS_READS, METRICS_REQUEST_US);
}

/* What each waits for; the answer is until when, at most. */
static int64_t metrics_poll_of(struct pollfd fds[METRICS_CLIENTS + 2], int64_t until_us)
{
    for (size_t i = 0; i < METRICS_CLIENTS; i++) {
        const struct metrics_client *c = &metrics_http.clients[i];
        fds[i] = (struct pollfd){.fd = c->state == METRICS_FREE ? -1 : c->fd,
                                 .events = c->state == METRICS_WRITES              ? POLLOUT
                                           : c->state == METRICS_WAITS && c->ended ? 0
                                                                                   : POLLIN};
        if (fds[i].fd >= 0 && c->until_us < until_us)
            until_us = c->until_us;
    }
    fds[METRICS_CLIENTS] = (struct pollfd){.fd = metrics_http.listener, .events = POLLIN};
    fds[METRICS_CLIENTS + 1] = (struct pollfd){.fd = metrics_http.wake, .events = POLLIN};
    return until_us;
}

static void metrics_serve(struct metrics_client *c, bool something, int64_t now)
{
    if (c->state == METRICS_WAITS)
        metrics_of_database(c);
    if (something && c->state == METRICS_WRITES)
        metrics_http_write(c);
    else if (something)
        metrics_read(c);
    if (c->state != METRICS_FREE && c->until_us <= now)
        metrics_late(c);
}

static void *metrics_main(void *arg)
{
    struct pollfd fds[METRICS_CLIENTS + 2];
    (void)arg;
    while (!atomic_load(&metrics_http.ended)) {
        int64_t now = cli_now_us(CLOCK_MONOTONIC);
        const int64_t until = metrics_poll_of(fds, now + NQ_HOURS(1));
        uint64_t count;
        poll(fds, METRICS_CLIENTS + 2, until > now ? (int)((until - now) / 1000 + 1) : 0);
        if (fds[METRICS_CLIENTS + 1].revents != 0) {
            const ssize_t n = read(metrics_http.wake, &count, sizeof count);
            (void)n;
        }
        now = cli_now_us(CLOCK_MONOTONIC);
        for (size_t i = 0; i < METRICS_CLIENTS; i++)
            metrics_serve(&metrics_http.clients[i], fds[i].fd >= 0 && fds[i].revents != 0, now);
        if (fds[METRICS_CLIENTS].revents != 0)
            metrics_accept();
    }
    return NULL;
}

/* ADDR:PORT, [ADDR]:PORT or PORT, of which host and port become the two parts. */
static bool metrics_split(const char *text, char host[64], char port[8])
{
    const char *colon = strrchr(text, ':');
    const char *from = text;
    size_t n = colon ? (size_t)(colon - text) : 0;
    if (n > 2 && text[0] == '[' && text[n - 1] == ']') {
        from = text + 1;
        n -= 2;
    } else if (memchr(text, ':', n)) {
        return false; /* of IPv6, without the brackets */
    }
    const char *number = colon ? colon + 1 : text;
    if (n >= 64 || strlen(number) >= 8 || *number == '\0' || strspn(number, "0123456789") != strlen(number) ||
        atoi(number) > 65535)
        return false;
    snprintf(host, 64, "%.*s", (int)n, from);
    if (n == 0 || strcmp(host, "localhost") == 0)
        snprintf(host, 64, "127.0.0.1");
    snprintf(port, 8, "%s", number);
    return true;
}

static bool metrics_is_loopback(const struct sockaddr *a)
{
    if (a->sa_family == AF_INET6)
        return IN6_IS_ADDR_LOOPBACK(&((const struct sockaddr_in6 *)(const void *)a)->sin6_addr);
    return ntohl(((const struct sockaddr_in *)(const void *)a)->sin_addr.s_addr) >> 24 == 127;
}

bool metrics_listen(const char *address)
{
    const struct addrinfo hints = {.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE,
                                   .ai_socktype = SOCK_STREAM};
    struct addrinfo *found = NULL;
    char host[64], port[8], buf[128];
    const int on = 1;
    if (!metrics_split(address, host, port) || getaddrinfo(host, port, &hints, &found) != 0) {
        cli_complain("--metrics: '%s' is no PORT, ADDRESS:PORT or [ADDRESS]:PORT; an address is of numbers",
                     address);
        return false;
    }
    const int fd = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    metrics_http.local = metrics_is_loopback(found->ai_addr);
    if (fd >= 0)
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    const bool ok = fd >= 0 && bind(fd, found->ai_addr, found->ai_addrlen) == 0 && listen(fd, 64) == 0;
    if (!ok)
        cli_complain("--metrics: cannot listen on %s: %s", address, strerror_r(errno, buf, sizeof buf));
    freeaddrinfo(found);
    if (!ok && fd >= 0)
        close(fd);
    metrics_http.listener = ok ? fd : -1;
    return ok;
}

void metrics_start(nq *q, nq_worker *worker)
{
    struct sockaddr_storage at;
    socklen_t size = sizeof at;
    char host[64] = "", port[8] = "", buf[128];
    if (metrics_http.listener < 0)
        return;
    metrics_http.worker = worker;
    metrics_http.wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    metrics_http.gauges = metrics_gauges_start(q, metrics_http.wake);
    const int failed = cli_thread(&metrics_http.thread, metrics_main, NULL);
    if (failed != 0) {
        log_line(LOG_WARN, "cannot start a thread: %s; there are no metrics",
                 strerror_r(failed, buf, sizeof buf));
        metrics_gauges_end(metrics_http.gauges);
        close(metrics_http.listener);
        metrics_http.listener = -1;
        return;
    }
    getsockname(metrics_http.listener, (struct sockaddr *)&at, &size);
    getnameinfo((struct sockaddr *)&at, size, host, sizeof host, port, sizeof port,
                NI_NUMERICHOST | NI_NUMERICSERV);
    log_line(LOG_INFO,
             strchr(host, ':') ? "metrics at http://[%s]:%s/metrics" : "metrics at http://%s:%s/metrics",
             host, port);
}

void metrics_end(void)
{
    const uint64_t one = 1;
    if (metrics_http.listener < 0)
        return;
    atomic_store(&metrics_http.ended, true);
    const ssize_t n = write(metrics_http.wake, &one, sizeof one);
    (void)n;
    pthread_join(metrics_http.thread, NULL);
    metrics_gauges_end(metrics_http.gauges);
    for (size_t i = 0; i < METRICS_CLIENTS; i++)
        if (metrics_http.clients[i].state != METRICS_FREE)
            metrics_close(&metrics_http.clients[i]);
    close(metrics_http.listener);
    close(metrics_http.wake);
}
