/* SPDX-License-Identifier: MIT */
/* Parsing of database URLs. */
#include "core.h"

/*
 * No error text here quotes the URL beyond its scheme and the names of its options. A password that holds
 * an unescaped '/', '?' or '@' shifts everything behind it, so any part may be a piece of the password.
 */

#define URL_FORMS "mysql://user@host:port/database or sqlite:path"
#define URL_ESCAPE                                                                                           \
    "in a user name or password '/', '?', ':', '@' and '%%' must be written %%2F %%3F %%3A %%40 %%25"

struct url_part {
    const char *p;
    size_t n;
};

static struct url_part url_span(const char *from, const char *to)
{
    struct url_part part = {from, (size_t)(to - from)};
    return part;
}

/* Where c is first in [from, to), or to. */
static const char *url_find(const char *from, const char *to, char c)
{
    const char *at = from < to ? memchr(from, c, (size_t)(to - from)) : NULL;
    return at ? at : to;
}

static int url_hex(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

/* The byte that %XY at p stands for, or -1. */
static int url_escape(const char *p, size_t n)
{
    int high = n >= 3 ? url_hex(p[1]) : -1;
    int low = high >= 0 ? url_hex(p[2]) : -1;

    return low >= 0 ? high * 16 + low : -1;
}

static void url_wipe(char *text)
{
    if (text)
        explicit_bzero(text, strlen(text));
    free(text);
}

static int url_decode(char **out, struct url_part part, const char *what, nq_err *err)
{
    char *text = calloc(1, part.n + 1);
    size_t n = 0;

    if (!text)
        return nq_err_nomem(err);
    for (size_t i = 0; i < part.n; i++) {
        int c = (unsigned char)part.p[i];
        if (c == '%') {
            c = url_escape(part.p + i, part.n - i);
            i += 2;
        }
        if (c <= 0) {
            url_wipe(text);
            return c < 0 ? nq_err_set(err, NQ_EURL,
                                      "in the %s: '%%' must be followed by two hex digits (%%25 is a '%%')",
                                      what)
                         : nq_err_set(err, NQ_EURL, "in the %s: %%00 is not allowed", what);
        }
        text[n++] = (char)c;
    }
    *out = text;
    return NQ_OK;
}

/* Small letters and _, as schemes and option names are written: safe to show. */
static bool url_plain(struct url_part part)
{
    if (part.n == 0 || part.n > 32)
        return false;
    for (size_t i = 0; i < part.n; i++)
        if (!(part.p[i] >= 'a' && part.p[i] <= 'z') && part.p[i] != '_')
            return false;
    return true;
}

static int url_option(nq_url *u, struct url_part part, nq_err *err)
{
    const char *end = part.p + part.n, *equals = url_find(part.p, end, '=');
    struct url_part name = url_span(part.p, equals);
    nq_url_option *o = &u->options[u->noptions];
    int rc;

    if (equals == end || !url_plain(name))
        return nq_err_set(err, NQ_EURL,
                          "option %zu of the URL is not of the form name=value with a name of a-z and _",
                          u->noptions + 1);
    if ((rc = url_decode(&o->name, name, "name of an option", err)) != NQ_OK)
        return rc;
    u->noptions++; /* from here on nq_url_free frees it */
    for (size_t i = 0; i + 1 < u->noptions; i++)
        if (strcmp(u->options[i].name, o->name) == 0)
            return nq_err_set(err, NQ_EURL, "option '%s' is given twice: once is allowed", o->name);
    return url_decode(&o->value, url_span(equals + 1, end), o->name, err);
}

/* name=value&name=value */
static int url_options(nq_url *u, const char *p, const char *end, nq_err *err)
{
    size_t count = 1;
    int rc = NQ_OK;

    if (p == end)
        return NQ_OK;
    for (const char *at = p; at < end; at++)
        count += *at == '&';
    u->options = calloc(count, sizeof *u->options);
    if (!u->options)
        return nq_err_nomem(err);
    while (rc == NQ_OK) {
        const char *stop = url_find(p, end, '&');
        rc = url_option(u, url_span(p, stop), err);
        if (stop == end)
            break;
        p = stop + 1;
    }
    return rc;
}

static int url_port(nq_url *u, struct url_part part, nq_err *err)
{
    unsigned port = 0;

    for (size_t i = 0; i < part.n; i++) {
        if (part.p[i] < '0' || part.p[i] > '9' || part.n > 5) {
            port = 0;
            break;
        }
        port = port * 10 + (unsigned)(part.p[i] - '0');
    }
    if (port < 1 || port > 65535)
        return nq_err_set(err, NQ_EURL, "the port is not a number from 1 to 65535; " URL_ESCAPE);
    u->port = port;
    return NQ_OK;
}

/* host, host:port, [v6], [v6]:port */
static int url_host(nq_url *u, const char *p, const char *end, nq_err *err)
{
    const char *colon;
    int rc;

    if (p < end && *p == '[') {
        const char *close = url_find(p, end, ']');
        if (close == end || (close + 1 < end && close[1] != ':') || url_find(p, close, ':') == close)
            return nq_err_set(err, NQ_EURL,
                              "the host is not of the form [IPv6 address] or [IPv6 address]:port");
        rc = url_decode(&u->host, url_span(p + 1, close), "host", err);
        colon = close + 1;
    } else {
        colon = url_find(p, end, ':');
        if (colon < end && url_find(colon + 1, end, ':') < end)
            return nq_err_set(err, NQ_EURL,
                              "the host holds several ':': an IPv6 address goes in brackets, "
                              "mysql://user@[::1]:3306/database; " URL_ESCAPE);
        rc = colon > p ? url_decode(&u->host, url_span(p, colon), "host", err) : NQ_OK;
    }
    if (rc != NQ_OK)
        return rc;
    for (const char *c = u->host; c && *c; c++)
        if ((unsigned char)*c <= ' ' || *c == 0x7f || strchr("/\\\"'<>`{}|^", *c))
            return nq_err_set(err, NQ_EURL, "the host holds a character that no host name has; " URL_ESCAPE);
    if (colon == end)
        return NQ_OK;
    if (!u->host)
        return nq_err_set(err, NQ_EURL, "the URL has a port but no host");
    return url_port(u, url_span(colon + 1, end), err);
}

/* user, user:password */
static int url_userinfo(nq_url *u, const char *p, const char *end, nq_err *err)
{
    const char *colon = url_find(p, end, ':');
    int rc = colon > p ? url_decode(&u->user, url_span(p, colon), "user name", err) : NQ_OK;

    if (rc == NQ_OK && colon < end)
        rc = url_decode(&u->password, url_span(colon + 1, end), "password", err);
    return rc;
}

/* //user:password@host:port/database, up to the '?' of the options */
static int url_mysql(nq_url *u, const char *p, const char *end, const char *query_end, nq_err *err)
{
    const char *slash, *at;
    int rc;

    if (end - p < 2 || p[0] != '/' || p[1] != '/')
        return nq_err_set(err, NQ_EURL,
                          "'//' is missing behind mysql: expected mysql://user@host:port/database");
    p += 2;
    slash = url_find(p, end, '/');
    at = slash;
    while (at > p && at[-1] != '@')
        at--;
    /* A '@' behind the host, and none before: the password held a '/' or a '?'. */
    if (url_find(slash, end, '@') < end || (at == p && url_find(slash, query_end, '@') < query_end))
        return nq_err_set(err, NQ_EURL, "a '@' stands behind the host and must be written %%40; " URL_ESCAPE);
    if (at > p && (rc = url_userinfo(u, p, at - 1, err)) != NQ_OK)
        return rc;
    if ((rc = url_host(u, at, slash, err)) != NQ_OK)
        return rc;
    if (slash == end || slash + 1 == end)
        return nq_err_set(err, NQ_EURL,
                          "the URL names no database: expected mysql://user@host:port/database");
    if (url_find(slash + 1, end, '/') < end)
        return nq_err_set(err, NQ_EURL, "a '/' in the database name must be written %%2F; " URL_ESCAPE);
    return url_decode(&u->path, url_span(slash + 1, end), "database name", err);
}

static int url_sqlite(nq_url *u, const char *p, const char *end, nq_err *err)
{
    if (p == end)
        return nq_err_set(err, NQ_EURL,
                          "the URL names no file: expected sqlite:path, sqlite:/absolute/path or "
                          "sqlite::memory:");
    if (end - p >= 2 && p[0] == '/' && p[1] == '/')
        return nq_err_set(err, NQ_EURL,
                          "'//' is not allowed behind sqlite: expected sqlite:path or "
                          "sqlite:/absolute/path");
    return url_decode(&u->path, url_span(p, end), "path", err);
}

static int url_scheme(nq_url *u, struct url_part part, nq_err *err)
{
    u->scheme = strndup(part.p, part.n);
    if (!u->scheme)
        return nq_err_nomem(err);
    if (strcmp(u->scheme, "mysql") == 0 || strcmp(u->scheme, "sqlite") == 0)
        return NQ_OK;
    if (url_plain(part))
        return nq_err_set(err, NQ_EURL, "unknown scheme '%s': allowed are " URL_FORMS, u->scheme);
    return nq_err_set(err, NQ_EURL, "unknown scheme: allowed are " URL_FORMS);
}

static int url_parse(nq_url *u, const char *text, nq_err *err)
{
    const char *end = text + strlen(text), *colon, *query;
    int rc;

    for (const char *p = text; p < end; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7f)
            return nq_err_set(err, NQ_EURL, "byte %zu of the URL is a control character: write it as %%%02X",
                              (size_t)(p - text) + 1, (unsigned)*p);
    colon = url_find(text, end, ':');
    if (colon == end)
        return nq_err_set(err, NQ_EURL, "not a database URL: expected " URL_FORMS);
    if ((rc = url_scheme(u, url_span(text, colon), err)) != NQ_OK)
        return rc;
    query = url_find(colon, end, '?');
    if (strcmp(u->scheme, "mysql") == 0)
        rc = url_mysql(u, colon + 1, query, end, err);
    else
        rc = url_sqlite(u, colon + 1, query, err);
    if (rc == NQ_OK && query < end)
        rc = url_options(u, query + 1, end, err);
    if (rc == NQ_OK && strcmp(u->scheme, "mysql") == 0 && !u->host && !nq_url_option_get(u, "socket", NULL))
        rc = nq_err_set(err, NQ_EURL,
                        "the URL names no host: expected mysql://user@host:port/database, or "
                        "mysql://user@/database?socket=PATH");
    return rc;
}

int nq_url_parse(nq_url *out, const char *text, nq_err *err)
{
    nq_url u = {0};
    int rc;

    if (!text)
        return nq_err_set(err, NQ_EURL, "the URL is NULL: expected " URL_FORMS);
    rc = url_parse(&u, text, err);
    if (rc == NQ_OK)
        *out = u;
    else
        nq_url_free(&u);
    return rc;
}

void nq_url_free(nq_url *u)
{
    if (!u)
        return;
    url_wipe(u->scheme);
    url_wipe(u->user);
    url_wipe(u->password);
    url_wipe(u->host);
    url_wipe(u->path);
    for (size_t i = 0; i < u->noptions; i++) {
        url_wipe(u->options[i].name);
        url_wipe(u->options[i].value);
    }
    free(u->options);
    memset(u, 0, sizeof *u);
}

const char *nq_url_option_get(const nq_url *u, const char *name, const char *fallback)
{
    for (size_t i = 0; i < u->noptions; i++)
        if (strcmp(u->options[i].name, name) == 0)
            return u->options[i].value;
    return fallback;
}
