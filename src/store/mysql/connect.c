/* SPDX-License-Identifier: MIT */
/* MySQL and MariaDB: the URL's options, connecting. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <strings.h>
#include <sys/socket.h>

#include "mysql_driver.h"

/* ---- The URL -------------------------------------------------------------------------------- */

bool nq_mysql_option(const char *name)
{
    static const char *const names[] = {"socket",          "password_file", "password_env",  "tls", "tls_ca",
                                        "connect_timeout", "read_timeout",  "write_timeout", NULL};
    for (size_t i = 0; names[i]; i++)
        if (strcmp(names[i], name) == 0)
            return true;
    return false;
}

/* A duration as whole seconds, at least one: 0 would mean "none" to the client library. */
static int mysql_conn_seconds(const nq_url *u, const char *name, const char *fallback, unsigned *out,
                              nq_err *err)
{
    int64_t us;
    const int rc = nq_parse_duration(nq_url_option_get(u, name, fallback), &us, err);
    if (rc != NQ_OK)
        return rc;
    if (us <= 0 || us > NQ_DAYS(1))
        return nq_err_set(err, NQ_EINVAL, "%s must be above 0 and at most 24h", name);
    *out = (unsigned)((us + 999999) / 1000000);
    return NQ_OK;
}

static bool mysql_conn_loopback(const char *host)
{
    struct in_addr v4;
    struct in6_addr v6;
    if (!host || strcasecmp(host, "localhost") == 0)
        return true;
    if (inet_pton(AF_INET, host, &v4) == 1)
        return (ntohl(v4.s_addr) >> 24) == 127;
    return inet_pton(AF_INET6, host, &v6) == 1 && IN6_IS_ADDR_LOOPBACK(&v6);
}

static int mysql_conn_read_tls(const nq_url *u, nq_mysql_data *d, nq_err *err)
{
    static const char *const names[] = {"off", "preferred", "required", "verify-full"};
    const bool local = nq_url_option_get(u, "socket", NULL) || mysql_conn_loopback(u->host);
    const char *name = nq_url_option_get(u, "tls", local ? "off" : "required");
    d->tls_unsaid = !nq_url_option_get(u, "tls", NULL);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(name, names[i]) == 0) {
            d->tls = (enum nq_mysql_tls)i;
            return NQ_OK;
        }
    return nq_err_set(err, NQ_EINVAL, "tls must be off, preferred, required or verify-full");
}

/* What statements are made of, expanded once. */
static int mysql_conn_names(nq_store *s, nq_mysql_data *d)
{
    const struct {
        char **out;
        const char *text;
    } all[] = {{&d->tasks, "{tasks}"},
               {&d->full_tasks, "{full:tasks}"},
               {&d->followups, "{followups}"},
               {&d->workers, "{workers}"},
               {&d->full_followups, "{full:followups}"},
               {&d->claimed, NQ_CLAIMED_COLUMNS}};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        nq_buf b = {0};
        const int rc = nq_sql_expand(s, all[i].text, &b);
        *all[i].out = b.p;
        if (rc != NQ_OK)
            return rc;
    }
    return NQ_OK;
}

static void mysql_conn_init_library(void)
{
    mysql_library_init(0, NULL, NULL);
}

int nq_mysql_open(nq_store *s, nq_err *err)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    const nq_url *u = &s->url;
    int rc;
    if (!u->path || !*u->path)
        return nq_err_set(err, NQ_EURL, "the URL names no database: mysql://user@host/DATABASE");
    if (strlen(u->path) > 64)
        return nq_err_set(err, NQ_EURL, "the name of the database is longer than 64 bytes");
    nq_mysql_data *d = calloc(1, sizeof *d);
    if (!d)
        return nq_err_nomem(err);
    s->data = d;
    d->socket = nq_url_option_get(u, "socket", NULL);
    d->tls_ca = nq_url_option_get(u, "tls_ca", NULL);
    if ((rc = mysql_conn_read_tls(u, d, err)) != NQ_OK ||
        (rc = mysql_conn_seconds(u, "connect_timeout", "5s", &d->connect_timeout, err)) != NQ_OK ||
        (rc = mysql_conn_seconds(u, "read_timeout", "30s", &d->read_timeout, err)) != NQ_OK ||
        (rc = mysql_conn_seconds(u, "write_timeout", "30s", &d->write_timeout, err)) != NQ_OK ||
        (rc = nq_mysql_password_open(s, err)) != NQ_OK)
        goto out;
    rc = mysql_conn_names(s, d);
    if (rc != NQ_OK) {
        nq_err_nomem(err);
        goto out;
    }
    pthread_once(&once, mysql_conn_init_library);
out:
    if (rc != NQ_OK)
        nq_mysql_close(s);
    return rc;
}

void nq_mysql_close(nq_store *s)
{
    nq_mysql_data *d = nq_mysql_data_of(s);
    if (!d)
        return;
    if (d->password)
        explicit_bzero(d->password, strlen(d->password));
    free(d->password);
    free(d->tasks);
    free(d->full_tasks);
    free(d->identity);
    free(d->followups);
    free(d->workers);
    free(d->full_followups);
    free(d->claimed);
    free(d);
    s->data = NULL;
}

/* ---- Connecting ----------------------------------------------------------------------------- */

int nq_mysql_socket(nq_conn *conn)
{
    const nq_mysql_conn *c = nq_mysql_of(conn);
#ifdef MARIADB_BASE_VERSION
    return (int)mysql_get_socket(c->my);
#else
    return c->my->net.vio ? (int)c->my->net.fd : -1;
#endif
}

int nq_mysql_connect(nq_store *s, nq_conn **out, nq_err *err)
{
    nq_mysql_conn *c = calloc(1, sizeof *c);
    if (!c)
        return nq_err_nomem(err);
    c->base.store = s;
    int rc = nq_mysql_login(s, &c->my, err);
    if (rc != NQ_OK)
        goto out;
    fcntl(nq_mysql_socket(&c->base), F_SETFD, FD_CLOEXEC);
    c->ticket = nq_fork_leaves(nq_mysql_socket(&c->base));
    rc = c->ticket ? nq_mysql_session(c, err) : nq_err_nomem(err);
out:
    if (rc != NQ_OK)
        nq_mysql_disconnect(&c->base);
    else
        *out = &c->base;
    return rc;
}

void nq_mysql_disconnect(nq_conn *conn)
{
    nq_mysql_conn *c = nq_mysql_of(conn);
    /* Closing a statement reads what is left of an answer, which may never come: not on a broken connection.
     */
    if (c->my && conn->broken)
        shutdown(nq_mysql_socket(conn), SHUT_RDWR);
    for (size_t i = 0; i < NQ_MYSQL_STMTS; i++)
        nq_mysql_forget(&c->stmts[i]);
    nq_fork_forgets(c->ticket);
    if (c->my)
        mysql_close(c->my);
    free(c);
}

bool nq_mysql_usable(nq_conn *conn)
{
    /* A server that hangs up says so, or just closes; in an idle connection nothing else is ever readable. */
    struct pollfd p = {nq_mysql_socket(conn), POLLIN, 0};
    return !conn->broken && poll(&p, 1, 0) == 0;
}
