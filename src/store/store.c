/* SPDX-License-Identifier: MIT */
/* Opening a store by URL; transactions that are tried again. */
#include <stdio.h>

#include "store.h"

#define STORE_CONNECTIONS     10
#define STORE_MIN_CONNECTIONS 4
#define STORE_MAX_CONNECTIONS 1000
#define STORE_LOST_TRIES      3              /* with a connection that broke */
#define STORE_TRY_US          NQ_SECONDS(10) /* no new try when this much time went by */
#define STORE_LOST_US         NQ_MS(500)     /* or this much, and the connection broke: that was a time-out */
#define STORE_PAUSE_US        NQ_MS(1)       /* before the second try; doubles */
#define STORE_MAX_PAUSE_US    NQ_MS(50)      /* on hot keys many tries help, long pauses do not */

/* ---- Opening ---- */

static const nq_driver *store_driver(const char *scheme)
{
    static const nq_driver *const drivers[] = {
#ifdef NQ_WITH_MYSQL
        &nq_driver_mysql,
#endif
#ifdef NQ_WITH_SQLITE
        &nq_driver_sqlite,
#endif
        NULL};
    for (const nq_driver *const *d = drivers; *d; d++) {
        if (strcmp((*d)->scheme, scheme) == 0)
            return *d;
    }
    return NULL;
}

/* Every documented option but prefix and hints: for the message that lists a driver's. */
static const char *const store_options[] = {
    "socket",          "password_file", "password_env",  "tls",          "tls_ca",
    "connect_timeout", "read_timeout",  "write_timeout", "busy_timeout", "synchronous"};

static int store_bad_option(const nq_driver *driver, const char *name, nq_err *err)
{
    nq_buf list = {0};
    char shown[64];
    int code;
    nq_printable(shown, sizeof(shown), name, strlen(name));
    nq_buf_str(&list, "prefix, hints");
    for (size_t i = 0; i < sizeof(store_options) / sizeof(*store_options); i++) {
        if (driver->option(store_options[i])) {
            nq_buf_str(&list, ", ");
            nq_buf_str(&list, store_options[i]);
        }
    }
    code = nq_err_set(err, NQ_EINVAL, "unknown option '%s' in a %s URL; known: %s", shown, driver->scheme,
                      list.failed ? "(out of memory)" : list.p);
    nq_buf_free(&list);
    return code;
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
    int code;
    if (!url)
        return nq_err_set(err, NQ_EINVAL, "no database URL was given");
    if ((code = nq_url_parse(&s->url, url, err)))
        return code;
    if (!(s->driver = store_driver(s->url.scheme)))
        return nq_err_set(err,
                          strcmp(s->url.scheme, "mysql") == 0 || strcmp(s->url.scheme, "sqlite") == 0
                              ? NQ_EUNSUPPORTED
                              : NQ_EURL,
                          "this library has no driver for %.20s: URLs", s->url.scheme);
    for (size_t i = 0; i < s->url.noptions; i++) {
        const char *name = s->url.options[i].name;
        if (strcmp(name, "prefix") != 0 && strcmp(name, "hints") != 0 && !s->driver->option(name))
            return store_bad_option(s->driver, name, err);
    }
    const char *prefix = nq_url_option_get(&s->url, "prefix", "nanoq_");
    if ((code = nq_check_prefix(prefix, err)))
        return code;
    snprintf(s->prefix, sizeof(s->prefix), "%s", prefix);
    return store_hints(s, err);
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
    int code = nq_options_copy(&opts, sizeof(opts), given, "nq_options", err);
    if (code)
        return code;
    if ((code = nq_store_configure(s, url, err)))
        return code;
    if (opts.connections &&
        (opts.connections < STORE_MIN_CONNECTIONS || opts.connections > STORE_MAX_CONNECTIONS))
        return nq_err_set(err, NQ_EINVAL, "connections is %u, must be %d to %d", opts.connections,
                          STORE_MIN_CONNECTIONS, STORE_MAX_CONNECTIONS);
    if (opts.password && (code = store_password(s, opts.password, err)))
        return code;
    *connections = opts.connections ? opts.connections : STORE_CONNECTIONS;
    s->max_payload = opts.max_payload ? opts.max_payload : NQ_DEFAULT_MAX_PAYLOAD;
    s->log = opts.log;
    s->log_udata = opts.log_udata;
    return NQ_OK;
}

NQ_PRIVATE int nq_store_open(nq_store **out, const char *url, const nq_options *opts, nq_err *err)
{
    nq_store *s = calloc(1, sizeof(*s));
    nq_conn *first = NULL;
    unsigned connections = STORE_CONNECTIONS;
    int code;

    if (!s)
        return nq_err_nomem(err);
    if ((code = store_settings(s, url, opts, &connections, err)))
        goto out;
    if ((code = s->driver->open(s, err)))
        goto out;
    if ((code = nq_pool_open(s, s->driver->max_connections(s, connections), err)))
        goto out;
    if ((code = nq_pool_get(s, &first, err)))
        goto out;
    nq_pool_put(first);
    *out = s;
    s = NULL;
out:
    nq_store_close(s);
    return code;
}

NQ_PRIVATE void nq_store_close(nq_store *s)
{
    if (!s)
        return;
    nq_pool_close(s);
    if (s->driver && s->data)
        s->driver->close(s);
    nq_url_free(&s->url);
    free(s);
}

NQ_PRIVATE size_t nq_store_max_payload(const nq_store *s)
{
    return s->max_payload;
}

NQ_PRIVATE int nq_store_enqueue(nq_store *s, nq_tx tx, const nq_new tasks[], size_t n, nq_id ids[],
                                int results[], nq_err *err)
{
    return n ? s->driver->enqueue(s, tx, tasks, n, ids, results, err) : NQ_OK;
}

/* ---- Trying again ---- */

/* One try on a pooled connection. *again: may it be tried again? */
static int store_try(nq_store *s, nq_tx_fn fn, void *arg, bool tx, bool *again, nq_err *err)
{
    nq_conn *c;
    int code = nq_pool_get(s, &c, err);
    *again = false; /* a database that cannot be reached is the caller's to wait for */
    if (code)
        return code;
    if (tx && (code = s->driver->begin(c, err)))
        goto out;
    code = fn(c, arg, err);
    if (tx && !code)
        code = s->driver->commit(c, err);
    else if (tx && !c->broken)
        s->driver->rollback(c);
out:
    *again = code == NQ_ECONFLICT || code == NQ_EUNAVAILABLE;
    nq_pool_put(c);
    return code;
}

static int store_tries(nq_store *s, nq_tx_fn fn, void *arg, bool tx, nq_err *err)
{
    const int64_t start = nq_mono_us();
    int64_t pause = STORE_PAUSE_US;
    unsigned lost = 0;
    nq_err why = {0};
    int code = NQ_OK;
    for (unsigned i = 0; i < NQ_TX_TRIES; i++) {
        bool again;
        code = store_try(s, fn, arg, tx, &again, &why);
        const int64_t took = nq_mono_us() - start;
        if (!again || took > STORE_TRY_US)
            break;
        if (code == NQ_EUNAVAILABLE && (++lost >= STORE_LOST_TRIES || took > STORE_LOST_US))
            break;
        if (i + 1 < NQ_TX_TRIES)
            nq_sleep_us(pause / 2 + (int64_t)nq_random((uint64_t)pause));
        pause = pause * 2 < STORE_MAX_PAUSE_US ? pause * 2 : STORE_MAX_PAUSE_US;
    }
    if (code && err)
        *err = why;
    return code;
}

NQ_PRIVATE int nq_store_tx(nq_store *s, nq_tx_fn fn, void *arg, nq_err *err)
{
    return store_tries(s, fn, arg, true, err);
}

NQ_PRIVATE int nq_store_do(nq_store *s, nq_tx_fn fn, void *arg, nq_err *err)
{
    return store_tries(s, fn, arg, false, err);
}

/* ---- The clock ---- */

static int store_now_row(const nq_val cols[], size_t ncols, void *arg)
{
    (void)ncols;
    *(int64_t *)arg = cols[0].i;
    return 0;
}

static int store_now(nq_conn *c, void *arg, nq_err *err)
{
    return nq_sql(c, "SELECT {us:now}", NULL, 0, store_now_row, arg, NULL, err);
}

NQ_PRIVATE int nq_store_now(nq_store *s, int64_t *us, nq_err *err)
{
    int64_t now = 0;
    int code = nq_store_do(s, store_now, &now, err);
    if (!code)
        *us = now;
    return code;
}
