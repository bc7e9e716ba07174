/* SPDX-License-Identifier: MIT */
/* Opening a store by URL. */
#include <stdio.h>

#include "store.h"

#define STORE_CONNECTIONS     10
#define STORE_MIN_CONNECTIONS 4
#define STORE_MAX_CONNECTIONS 1000

/* ---- Opening ---- */

int nq_store_tx_from(const char *scheme, void *conn, const char *client, nq_tx *out, nq_err *err)
{
    const nq_driver *driver;
    const char *ours;
    int rc = nq_store_driver(&driver, scheme, err);
    if (rc != NQ_OK)
        return rc;
    if (!out || !conn || !client)
        return nq_err_set(err, NQ_EINVAL, "the %s is NULL",
                          !out    ? "place for the transaction"
                          : !conn ? "connection"
                                  : "text that says which client library made the connection");
    const nq_tx tx = driver->tx_from(conn, &ours);
    if (strcmp(ours, client) != 0)
        return nq_err_set(
            err, NQ_EUNSUPPORTED,
            "the connection is of client library '%.80s', this library uses '%.80s': load that one", client,
            ours);
    *out = tx;
    return NQ_OK;
}

/* Every documented option but prefix and hints: for the message that lists a driver's. */
static const char *const store_options[] = {
    "socket",          "password_file", "password_env",  "tls",          "tls_ca",
    "connect_timeout", "read_timeout",  "write_timeout", "busy_timeout", "synchronous"};

static int store_bad_option(const nq_driver *driver, const char *name, nq_err *err)
{
    nq_buf list = {0};
    char shown[64];
    int rc;
    nq_printable(shown, sizeof(shown), name, strlen(name));
    nq_buf_str(&list, "prefix, hints");
    for (size_t i = 0; i < sizeof(store_options) / sizeof *store_options; i++) {
        if (driver->option(store_options[i])) {
            nq_buf_str(&list, ", ");
            nq_buf_str(&list, store_options[i]);
        }
    }
    rc = nq_err_set(err, NQ_EINVAL, "unknown option '%s' in a %s URL; known: %s", shown, driver->scheme,
                    list.failed ? "(out of memory)" : list.p);
    nq_buf_free(&list);
    return rc;
}

static int store_hints(nq_store *s, nq_err *err)
{
    static const char *const names[] = {"none", "local", "server", "all"}; /* as the bits say */
    const char *name = nq_url_option_get(&s->url, "hints", "all");
    for (unsigned i = 0; i < 4; i++)
        if (strcmp(name, names[i]) == 0) {
            s->hints = i;
            return NQ_OK;
        }
    return nq_err_set(err, NQ_EINVAL, "hints must be all, local, server or none");
}

NQ_PRIVATE int nq_store_configure(nq_store *s, const char *url, nq_err *err)
{
    int rc;
    if (!url)
        return nq_err_set(err, NQ_EINVAL, "no database URL was given");
    if ((rc = nq_url_parse(&s->url, url, err)) != NQ_OK)
        return rc;
    if ((rc = nq_store_driver(&s->driver, s->url.scheme, err)) != NQ_OK)
        return rc;
    for (size_t i = 0; i < s->url.noptions; i++) {
        const char *name = s->url.options[i].name;
        if (strcmp(name, "prefix") != 0 && strcmp(name, "hints") != 0 && !s->driver->option(name))
            return store_bad_option(s->driver, name, err);
    }
    const char *prefix = nq_url_option_get(&s->url, "prefix", "nanoq_");
    if ((rc = nq_check_prefix(prefix, err)) != NQ_OK)
        return rc;
    snprintf(s->prefix, sizeof s->prefix, "%s", prefix);
    return store_hints(s, err);
}

NQ_PRIVATE void nq_store_vlog(const nq_store *s, enum nq_log_level level, const char *fmt, va_list ap)
{
    char text[NQ_MAX_LOG];
    if (!s->log)
        return;
    vsnprintf(text, sizeof text, fmt, ap);
    s->log(level, text, s->log_udata);
}

NQ_PRIVATE void nq_store_log(const nq_store *s, enum nq_log_level level, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    nq_store_vlog(s, level, fmt, ap);
    va_end(ap);
}

/* The password of the options takes the place of the URL's own, and of the file or variable it names. */
static int store_password(nq_store *s, const char *password, nq_err *err)
{
    size_t kept = 0;
    char *copy = strdup(password);
    if (!copy)
        return nq_err_nomem(err);
    if (s->url.password)
        explicit_bzero(s->url.password, strlen(s->url.password));
    free(s->url.password);
    s->url.password = copy;
    for (size_t i = 0; i < s->url.noptions; i++) {
        nq_url_option *o = &s->url.options[i];
        if (strcmp(o->name, "password_file") == 0 || strcmp(o->name, "password_env") == 0) {
            free(o->name);
            free(o->value);
        } else {
            s->url.options[kept++] = *o;
        }
    }
    s->url.noptions = kept;
    return NQ_OK;
}

static int store_settings(nq_store *s, const char *url, const nq_options *given, unsigned *connections,
                          nq_err *err)
{
    nq_options opts;
    int rc = nq_options_copy(&opts, sizeof(opts), given, "nq_options", err);
    if (rc != NQ_OK)
        return rc;
    if ((rc = nq_store_configure(s, url, err)) != NQ_OK)
        return rc;
    if (opts.connections &&
        (opts.connections < STORE_MIN_CONNECTIONS || opts.connections > STORE_MAX_CONNECTIONS))
        return nq_err_set(err, NQ_EINVAL, "connections is %u, must be %d to %d", opts.connections,
                          STORE_MIN_CONNECTIONS, STORE_MAX_CONNECTIONS);
    if (opts.password && (rc = store_password(s, opts.password, err)) != NQ_OK)
        return rc;
    *connections = opts.connections ? opts.connections : STORE_CONNECTIONS;
    s->max_payload = opts.max_payload ? opts.max_payload : NQ_DEFAULT_MAX_PAYLOAD;
    s->log = opts.log;
    s->log_udata = opts.log_udata;
    return NQ_OK;
}

NQ_PRIVATE int nq_store_open(nq_store **out, const char *url, const nq_options *opts, nq_err *err)
{
    nq_store *s = calloc(1, sizeof *s);
    nq_conn *first = NULL;
    unsigned connections = STORE_CONNECTIONS;
    int rc;

    if (!s)
        return nq_err_nomem(err);
    if ((rc = store_settings(s, url, opts, &connections, err)) != NQ_OK)
        goto out;
    if ((rc = s->driver->open(s, err)) != NQ_OK)
        goto out;
    if ((rc = nq_pool_open(s, s->driver->max_connections(s, connections), err)) != NQ_OK)
        goto out;
    if ((rc = nq_pool_get(s, &first, err)) != NQ_OK)
        goto out;
    nq_pool_put(first);
    *out = s;
    s = NULL;
out:
    nq_store_close(s);
    return rc;
}

NQ_PRIVATE void nq_store_close(nq_store *s)
{
    if (!s)
        return;
    nq_pool_close(s);
    if (s->driver && s->data)
        s->driver->close(s);
    nq_url_free(&s->url);
    nq_settings_keep(s, NULL);
    for (nq_doubt *next, *d = atomic_load(&s->doubts); d; d = next) {
        next = d->next;
        free(d);
    }
    free(s);
}

NQ_PRIVATE int64_t nq_store_clock(const nq_store *s)
{
    const int64_t set = atomic_load_explicit(&s->clock_us, memory_order_relaxed);
    return set ? set : s->driver->hosts_clock ? nq_real_us() : 0;
}

NQ_PRIVATE void nq_store_set_clock(nq_store *s, int64_t us)
{
    atomic_store(&s->clock_us, us);
}

NQ_PRIVATE size_t nq_store_max_payload(const nq_store *s)
{
    return s->max_payload;
}

/* ---- The clock ---- */

NQ_PRIVATE char *nq_store_watched(const nq_store *s)
{
    return (s->hints & NQ_HINTS_LOCAL) && s->driver->watched ? s->driver->watched(s) : NULL;
}

/* ---- What claims gain by ---- */

/* Two that claim, one that completes, one that is the member, the bell: and one is left for the handlers. */
#define STORE_APART_CONNECTIONS 6

NQ_PRIVATE bool nq_store_piggybacks(const nq_store *s, size_t limit)
{
    return limit <= s->driver->piggyback_limit(s);
}

NQ_PRIVATE bool nq_store_claims_apart(const nq_store *s, size_t limit)
{
    return limit <= s->driver->claim_apart && nq_pool_max(s) >= STORE_APART_CONNECTIONS;
}
