/* SPDX-License-Identifier: MIT */
/* The HTTP server: requests from their first byte to their last, and the loop of the main thread. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "../cli/work/work.h"
#include "dash.h"

#define HTTP_API     "/api/v1/"
#define HTTP_METRICS "/metrics" /* where a Prometheus looks for it */

static struct {
    struct MHD_Daemon *daemon;
    struct dash_conn *connections;
    unsigned running; /* requests in the pool */
    bool ran;         /* there were some since memory was given back */
} http;

static enum MHD_Result http_refuse(struct dash_request *r, unsigned status, const char *code,
                                   const char *message)
{
    api_fail(r, status, code, "%s", message);
    return answer(r);
}

/* ---- Requests ---- */

static enum MHD_Result http_param(void *udata, enum MHD_ValueKind kind, const char *name, size_t name_size,
                                  const char *value, size_t size)
{
    struct dash_request *r = udata;
    (void)kind;
    if (r->nparams == DASH_PARAMS || strlen(name) != name_size || (value && strlen(value) != size)) {
        r->nparams = DASH_PARAMS + 1;
        return MHD_NO;
    }
    r->params[r->nparams].name = cli_format("%s", name);
    r->params[r->nparams++].value = cli_format("%s", value ? value : "");
    return MHD_YES;
}

static void http_free(struct dash_request *r)
{
    for (size_t i = 0; i < r->nparams && i < DASH_PARAMS; i++) {
        free(r->params[i].name);
        free(r->params[i].value);
    }
    if (r->body_text.p)
        explicit_bzero(r->body_text.p, r->body_text.cap); /* it may be a token */
    text_free(&r->body_text);
    json_decref(r->body);
    out_free(&r->out);
    free(r->path);
    free(r);
}

static enum MHD_Result http_params(struct dash_request *r)
{
    MHD_get_connection_values_n(r->connection, MHD_GET_ARGUMENT_KIND, http_param, r);
    if (r->nparams <= DASH_PARAMS)
        return MHD_YES;
    for (size_t i = 0; i < DASH_PARAMS; i++) {
        free(r->params[i].name);
        free(r->params[i].value);
    }
    r->nparams = 0;
    return http_refuse(r, 400, "EINVAL", "at most 64 parameters, none with a zero byte, are allowed");
}

/* The head of a request has come. What is refused here is refused before its body is read. */
static enum MHD_Result http_begin(struct dash_request *r, const char *url, const char *method)
{
    const size_t api = strlen(HTTP_API);
    unsigned status = 404;
    bool found = true;
    const char *length = MHD_lookup_connection_value(r->connection, MHD_HEADER_KIND, "Content-Length");
    if (!access_host(r->connection))
        return http_refuse(r, 421, "EHOST", "this host name is not served: nanoq dashboard --host NAME");
    if (length && (strlen(length) > 6 || atol(length) > DASH_BODY))
        return http_refuse(r, 413, "ETOOBIG", "a body has at most 64 KiB");
    const bool metrics = strcmp(url, HTTP_METRICS) == 0;
    if (!metrics && strncmp(url, HTTP_API, api) != 0) {
        if (strcmp(method, "GET") != 0 && strcmp(method, "HEAD") != 0)
            return http_refuse(r, 405, "EMETHOD", "pages are read with GET");
        const enum MHD_Result queued = assets_answer(r, url, &found);
        return found ? queued : http_refuse(r, 404, "ENOTFOUND", "there is no such page");
    }
    r->path = cli_format("%s", metrics ? "metrics" : url + api);
    r->route = routes_find(method, r->path, &r->id, &status);
    if (!r->route && status == 405)
        return http_refuse(r, 405, "EMETHOD", "this address is not for that method");
    if (!r->route)
        return http_refuse(r, 404, "ENOTFOUND", "there is no such address: docs/api.md");
    if (!access_who(r) || (r->route->method[0] == 'P' && !access_change(r)))
        return answer(r);
    return MHD_YES;
}

/* All of the request is here. */
static enum MHD_Result http_ready(struct dash_request *r)
{
    if (r->too_big)
        return http_refuse(r, 413, "ETOOBIG", "a body has at most 64 KiB");
    const enum MHD_Result params = http_params(r);
    if (r->nparams == 0 && r->out.text.n == 0 && r->status)
        return params; /* it was refused */
    if (r->route->method[0] == 'P') {
        json_error_t error;
        r->body = r->body_text.n > 0
                      ? json_loadb(r->body_text.p, r->body_text.n, JSON_REJECT_DUPLICATES, &error)
                      : json_object();
        if (!json_is_object(r->body))
            return http_refuse(r, 400, "EINVAL", "the body must be a JSON object, each name once, in UTF-8");
    }
    if (r->route->run == api_events)
        return stream_answer(r);
    r->done = true;
    if (r->route->here) {
        routes_run(r);
        return answer(r);
    }
    r->running = true;
    r->conn->state = DASH_RUNNING;
    http.running++;
    MHD_suspend_connection(r->connection);
    pool_submit(r);
    return MHD_YES;
}

static enum MHD_Result http_request(void *udata, struct MHD_Connection *connection, const char *url,
                                    const char *method, const char *version, const char *data, size_t *n,
                                    void **request)
{
    struct dash_request *r = *request;
    (void)udata;
    (void)version;
    if (!r) {
        const union MHD_ConnectionInfo *info =
            MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
        if (!info || !info->socket_context)
            return MHD_NO;
        r = cli_alloc(sizeof *r);
        r->connection = connection;
        r->conn = info->socket_context;
        *request = r;
        return http_begin(r, url, method);
    }
    if (*n > 0) {
        r->too_big = r->too_big || r->body_text.n + *n > DASH_BODY;
        if (!r->too_big)
            text_add(&r->body_text, data, *n);
        *n = 0;
        return MHD_YES;
    }
    return r->done ? answer(r) : http_ready(r);
}

static void http_completed(void *udata, struct MHD_Connection *connection, void **request,
                           enum MHD_RequestTerminationCode how)
{
    struct dash_request *r = *request;
    (void)udata;
    (void)connection;
    (void)how;
    if (!r)
        return;
    r->conn->state = DASH_READING;
    r->conn->since_us = dash_clock_us();
    http_free(r);
    *request = NULL;
}

/* ---- Connections ---- */

static void http_connection(void *udata, struct MHD_Connection *connection, void **context,
                            enum MHD_ConnectionNotificationCode what)
{
    (void)udata;
    if (what == MHD_CONNECTION_NOTIFY_STARTED) {
        struct dash_conn *c = cli_alloc(sizeof *c);
        const union MHD_ConnectionInfo *info =
            MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
        c->fd = info ? info->connect_fd : -1;
        c->since_us = dash_clock_us();
        c->next = http.connections;
        c->at = &http.connections;
        if (c->next)
            c->next->at = &c->next;
        http.connections = c;
        *context = c;
        return;
    }
    struct dash_conn *c = *context;
    if (!c)
        return;
    *c->at = c->next;
    if (c->next)
        c->next->at = c->at;
    free(c);
    *context = NULL;
}

/* MHD's own limit begins anew with each byte: one who sends a byte now and then would stay for ever. */
static void http_sweep(void)
{
    const int64_t now = dash_clock_us();
    for (const struct dash_conn *c = http.connections; c; c = c->next) {
        const int64_t most = NQ_SECONDS(c->state == DASH_READING ? DASH_READ_S : DASH_ANSWER_S);
        if (c->state != DASH_RUNNING && c->state != DASH_STREAMING && now - c->since_us > most)
            shutdown(c->fd, SHUT_RDWR);
    }
}

/* ---- The loop ---- */

static bool http_start(int listening)
{
    const struct MHD_OptionItem options[] = {{MHD_OPTION_LISTEN_SOCKET, listening, NULL},
                                             {MHD_OPTION_CONNECTION_LIMIT, DASH_CONNECTIONS, NULL},
                                             {MHD_OPTION_CONNECTION_MEMORY_LIMIT, DASH_MEMORY, NULL},
                                             {MHD_OPTION_CONNECTION_TIMEOUT, DASH_READ_S, NULL},
                                             {MHD_OPTION_STRICT_FOR_CLIENT, 1, NULL},
                                             {MHD_OPTION_SIGPIPE_HANDLED_BY_APP, 1, NULL},
                                             {MHD_OPTION_END, 0, NULL}};
    http.daemon =
        dash_wakes() < 0
            ? NULL
            : MHD_start_daemon(MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME, 0, NULL, NULL, http_request, NULL,
                               MHD_OPTION_ARRAY, options, MHD_OPTION_NOTIFY_COMPLETED, http_completed, NULL,
                               MHD_OPTION_NOTIFY_CONNECTION, http_connection, NULL, MHD_OPTION_END);
    if (!http.daemon)
        cli_complain("cannot start the HTTP server");
    return http.daemon;
}

/* Give the answers of the pool to their connections. */
static void http_resume(void)
{
    uint64_t n;
    const ssize_t got = read(dash_wakes(), &n, sizeof n);
    (void)got;
    for (struct dash_request *r = pool_take(); r; r = pool_take()) {
        http.running--;
        http.ran = true;
        r->running = false;
        MHD_resume_connection(r->connection);
    }
}

/* Until a signal comes. */
static void http_loop(int signals)
{
    const union MHD_DaemonInfo *info = MHD_get_daemon_info(http.daemon, MHD_DAEMON_INFO_EPOLL_FD);
    struct pollfd fds[3] = {{.fd = info ? info->epoll_fd : -1, .events = POLLIN},
                            {.fd = dash_wakes(), .events = POLLIN},
                            {.fd = signals, .events = POLLIN}};
    int64_t swept = 0;
    for (;;) {
        MHD_UNSIGNED_LONG_LONG wait = 1000;
        if (MHD_get_timeout(http.daemon, &wait) != MHD_YES || wait > 1000)
            wait = 1000;
        if (poll(fds, 3, (int)wait) < 0 && errno != EINTR)
            return;
        if (fds[2].revents)
            return;
        http_resume();
        stream_tick();
        MHD_run(http.daemon);
        if (dash_clock_us() - swept > NQ_SECONDS(1)) {
            swept = dash_clock_us();
            http_sweep();
            if (http.ran && http.running == 0)
                memory_idle();
            http.ran = http.ran && http.running > 0;
        }
    }
}

/* What runs in the database is waited for a little; then the process ends with it. */
static bool http_stop(void)
{
    const int64_t until = dash_clock_us() + NQ_SECONDS(5);
    const MHD_socket listening = MHD_quiesce_daemon(http.daemon);
    if (listening >= 0)
        close(listening);
    stream_stop();
    while (http.running > 0 && dash_clock_us() < until) {
        struct pollfd fd = {.fd = dash_wakes(), .events = POLLIN};
        poll(&fd, 1, 100);
        http_resume();
        MHD_run(http.daemon);
    }
    if (http.running > 0 || !pool_stop())
        return false;
    for (int i = 0; i < 10; i++)
        MHD_run(http.daemon); /* the last answers */
    MHD_stop_daemon(http.daemon);
    return true;
}

int http_run(int listening, const char *told)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigprocmask(SIG_BLOCK, &set, NULL);
    const int signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (signals < 0 || !http_start(listening) || !pool_start(routes_run) || !sampler_start())
        return CLI_FAILURE;
    cli_complain("listening on http://%s/", told);
    memory_started();
    notify("READY=1\nSTATUS=listening on %s", told);
    http_loop(signals);
    notify("STOPPING=1");
    const bool clean = http_stop();
    close(signals);
    if (!clean || !sampler_stop() || !bulk_end())
        _exit(CLI_OK); /* a thread waits for a database that is away */
    return CLI_OK;
}
