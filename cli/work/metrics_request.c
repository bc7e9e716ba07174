/* SPDX-License-Identifier: MIT */
/* What a scraper asks: the smallest part of HTTP/1.1 that answers GET and HEAD. */
#include <ctype.h>
#include <strings.h>

#include "metrics.h"

struct metrics_piece {
    const char *p;
    size_t n;
};

static bool metrics_is(struct metrics_piece a, const char *text)
{
    return a.n == strlen(text) && memcmp(a.p, text, a.n) == 0;
}

/* Up to the first `end`, which is left out of both; all of it where there is none. */
static struct metrics_piece metrics_until(struct metrics_piece *rest, char end)
{
    const char *at = memchr(rest->p, end, rest->n);
    const struct metrics_piece first = {rest->p, at ? (size_t)(at - rest->p) : rest->n};
    const size_t skip = at ? first.n + 1 : first.n;
    rest->p += skip;
    rest->n -= skip;
    return first;
}

/* How long the request is, up to and with its empty line; 0: that has not come. */
static size_t metrics_length(const char *p, size_t n)
{
    for (size_t i = 0; i + 1 < n; i++)
        if (p[i] == '\n' && (p[i + 1] == '\n' || (i + 2 < n && p[i + 1] == '\r' && p[i + 2] == '\n')))
            return p[i + 1] == '\n' ? i + 2 : i + 3;
    return 0;
}

static struct metrics_piece metrics_line(struct metrics_piece *rest)
{
    struct metrics_piece line = metrics_until(rest, '\n');
    line.n -= line.n > 0 && line.p[line.n - 1] == '\r';
    return line;
}

/* A name of this host that needs no asking: localhost, or an address. */
static bool metrics_host_is_ours(struct metrics_piece host)
{
    while (host.n > 0 && (*host.p == ' ' || *host.p == '\t')) {
        host.p++;
        host.n--;
    }
    if (host.n > 0 && *host.p == '[')
        return true;
    host = metrics_until(&host, ':');
    bool address = host.n > 0;
    for (size_t i = 0; i < host.n; i++)
        address = address && (isdigit((unsigned char)host.p[i]) || host.p[i] == '.');
    return address || (host.n == strlen("localhost") && strncasecmp(host.p, "localhost", host.n) == 0);
}

static int metrics_headers(struct metrics_piece rest, bool needs_host, bool local)
{
    unsigned hosts = 0;
    while (rest.n > 0) {
        struct metrics_piece value = metrics_line(&rest);
        if (value.n == 0)
            break;
        if (!memchr(value.p, ':', value.n) || *value.p == ' ' || *value.p == '\t' ||
            memchr(value.p, '\0', value.n))
            return 400;
        const struct metrics_piece name = metrics_until(&value, ':');
        if (name.n == 0 || name.p[name.n - 1] == ' ')
            return 400;
        if (name.n != 4 || strncasecmp(name.p, "host", 4) != 0)
            continue;
        hosts++;
        if (local && !metrics_host_is_ours(value))
            return 421;
    }
    return hosts > 1 || (hosts == 0 && needs_host) ? 400 : 200;
}

static enum metrics_path metrics_path(struct metrics_piece target)
{
    static const struct {
        const char *path;
        enum metrics_path is;
    } paths[] = {{"/metrics", METRICS_WORKER},
                 {"/metrics/database", METRICS_DATABASE},
                 {"/healthz", METRICS_HEALTHY},
                 {"/readyz", METRICS_READY}};
    if (target.n > 7 && memcmp(target.p, "http://", 7) == 0) { /* as to a proxy */
        const char *slash = memchr(target.p + 7, '/', target.n - 7);
        target = slash ? (struct metrics_piece){slash, target.n - (size_t)(slash - target.p)}
                       : (struct metrics_piece){"/", 1};
    }
    const struct metrics_piece path = metrics_until(&target, '?');
    for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++)
        if (metrics_is(path, paths[i].path))
            return paths[i].is;
    return METRICS_NONE;
}

int metrics_request(const char *p, size_t n, bool local, struct metrics_request *out)
{
    /* An empty line before the request is a habit of old clients. */
    while (n > 0 && (*p == '\r' || *p == '\n')) {
        p++;
        n--;
    }
    const size_t length = metrics_length(p, n);
    if (length == 0)
        return n >= METRICS_HEADER ? 431 : 0;
    struct metrics_piece rest = {p, length};
    struct metrics_piece line = metrics_line(&rest);
    const struct metrics_piece method = metrics_until(&line, ' '), target = metrics_until(&line, ' ');
    const bool old = metrics_is(line, "HTTP/1.0");
    *out = (struct metrics_request){.head = metrics_is(method, "HEAD"), .path = metrics_path(target)};
    if (method.n == 0 || target.n == 0 || line.n < 5 || memcmp(line.p, "HTTP/", 5) != 0)
        return 400;
    if (!old && !metrics_is(line, "HTTP/1.1"))
        return 505;
    const int status = metrics_headers(rest, !old, local);
    if (status != 200)
        return status;
    if (!out->head && !metrics_is(method, "GET"))
        return 405;
    return out->path == METRICS_NONE ? 404 : 200;
}

const char *metrics_status(int status)
{
    switch (status) {
    case 200:
        return "OK";
    case 400:
        return "Bad Request";
    case 404:
        return "Not Found";
    case 405:
        return "Method Not Allowed";
    case 408:
        return "Request Timeout";
    case 421:
        return "Misdirected Request";
    case 431:
        return "Request Header Fields Too Large";
    case 503:
        return "Service Unavailable";
    case 505:
        return "HTTP Version Not Supported";
    default:
        return "Internal Server Error";
    }
}
