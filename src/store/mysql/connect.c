/* SPDX-License-Identifier: MIT */
/* MySQL and MariaDB: the URL's options, connecting, checking the server. */
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

/* The lock names of two databases, or two prefixes, on one server must differ. */
static void mysql_conn_lock_name(const nq_store *s, char out[40])
{
    uint8_t hash[32];
    nq_unique_hash(hash, s->url.path, s->prefix, strlen(s->prefix));
    memcpy(out, "nanoq:", 7);
    for (size_t i = 0; i < 16; i++)
        snprintf(out + 6 + 2 * i, 3, "%02x", hash[i]);
}

static int mysql_conn_name(const nq_store *s, const char *table, char **name, char **full_name)
{
    nq_buf bare = {0}, full = {0};
    nq_buf_fmt(&bare, "`%s%s`", s->prefix, table);
    nq_buf_str(&full, "`");
    for (const char *p = s->url.path; *p; p++)
        nq_buf_add(&full, *p == '`' ? "``" : p, *p == '`' ? 2 : 1);
    nq_buf_fmt(&full, "`.`%s%s`", s->prefix, table);
    *name = bare.p;
    *full_name = full.p;
    return bare.failed || full.failed ? NQ_ENOMEM : NQ_OK;
}

static int mysql_conn_names(nq_store *s, nq_mysql_data *d)
{
    const int rc = mysql_conn_name(s, "tasks", &d->tasks, &d->full_tasks);
    return rc ? rc : mysql_conn_name(s, "followups", &d->followups, &d->full_followups);
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
    if (pthread_mutex_init(&d->mutex, NULL)) {
        free(d);
        return nq_err_nomem(err);
    }
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
    mysql_conn_lock_name(s, d->lock_name);
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
    while (d->doubts) {
        nq_mysql_doubt *next = d->doubts->next;
        free(d->doubts);
        d->doubts = next;
    }
    if (d->password)
        explicit_bzero(d->password, strlen(d->password));
    free(d->password);
    free(d->tasks);
    free(d->full_tasks);
    free(d->identity);
    free(d->followups);
    free(d->full_followups);
    pthread_mutex_destroy(&d->mutex);
    free(d);
    s->data = NULL;
}

/* ---- Connecting ----------------------------------------------------------------------------- */

int nq_mysql_check_version(const char *version, bool mariadb, nq_err *err)
{
    unsigned v[3] = {0, 0, 0};
    char safe[80];
    nq_printable(safe, sizeof safe, version, strlen(version));
    if (strcasestr(version, "tidb"))
        return nq_err_set(err, NQ_EUNSUPPORTED,
                          "the server is TiDB (%s), which drops FOR UPDATE beside SKIP LOCKED: not supported",
                          safe);
    /* MariaDB 10 and later put "5.5.5-" before their version for old replicas. */
    if (strncmp(version, "5.5.5-", 6) == 0)
        version += 6;
    if (sscanf(version, "%4u.%4u.%4u", &v[0], &v[1], &v[2]) < 2)
        return nq_err_set(err, NQ_EUNSUPPORTED, "cannot read the server's version '%s'", safe);
    const unsigned long number = v[0] * 1000000UL + v[1] * 1000UL + v[2];
    if (mariadb ? number < 10006000 : number < 8000013)
        return nq_err_set(err, NQ_EUNSUPPORTED,
                          "the server is %s %s: nanoq needs MariaDB 10.6 or MySQL 8.0.13",
                          mariadb ? "MariaDB" : "MySQL", safe);
    return NQ_OK;
}

struct mysql_conn_vars {
    char version[128], host[256], port[16], datadir[512];
    bool innodb, mariadb, tidb, log_bin, statement_binlog, snapshot_isolation, rollback_on_timeout;
};

static void mysql_conn_var(nq_mysql_conn *c, struct mysql_conn_vars *v, const char *name, const char *value)
{
    const bool on = strcasecmp(value, "ON") == 0 || strcmp(value, "1") == 0;
    if (strcmp(name, "version") == 0)
        snprintf(v->version, sizeof v->version, "%s", value);
    else if (strcmp(name, "hostname") == 0)
        snprintf(v->host, sizeof v->host, "%s", value);
    else if (strcmp(name, "port") == 0)
        snprintf(v->port, sizeof v->port, "%s", value);
    else if (strcmp(name, "datadir") == 0)
        snprintf(v->datadir, sizeof v->datadir, "%s", value);
    else if (strcmp(name, "idle_transaction_timeout") == 0)
        v->mariadb = true;
    else if (strncmp(name, "tidb_", 5) == 0)
        v->tidb = true;
    else if (strcmp(name, "innodb_snapshot_isolation") == 0)
        v->snapshot_isolation = true;
    else if (strcmp(name, "innodb_rollback_on_timeout") == 0)
        v->rollback_on_timeout = on;
    else if (strcmp(name, "log_bin") == 0)
        v->log_bin = on;
    else if (strcmp(name, "binlog_format") == 0)
        v->statement_binlog = strcasecmp(value, "STATEMENT") == 0;
    else if (strcmp(name, "wsrep_on") == 0)
        c->galera = on;
    else if (strcmp(name, "max_allowed_packet") == 0)
        c->packet = (size_t)strtoull(value, NULL, 10);
    else if (strcmp(name, "connection_id") == 0) /* the protocol has 32 bits of it */
        c->direct = (uint32_t)strtoull(value, NULL, 10) == (uint32_t)mysql_thread_id(c->my);
    else if (strcmp(name, "auto_increment_increment") == 0)
        c->increment = strtoll(value, NULL, 10);
}

static int mysql_conn_read_vars(nq_mysql_conn *c, struct mysql_conn_vars *v, nq_err *err)
{
    static const char sql[] =
        "SHOW VARIABLES WHERE Variable_name IN ('version','idle_transaction_timeout','tidb_current_ts',"
        "'tidb_txn_mode','innodb_snapshot_isolation','innodb_rollback_on_timeout','log_bin','binlog_format','"
        "wsrep_on',"
        "'max_allowed_packet','auto_increment_increment','hostname','port','datadir');"
        "SELECT 'innodb', SUPPORT FROM information_schema.ENGINES WHERE ENGINE = 'InnoDB';"
        "SELECT 'connection_id', CONNECTION_ID()";
    int rc = nq_mysql_query(c, sql, sizeof sql - 1, err);
    while (rc == NQ_OK) {
        MYSQL_RES *r = NULL;
        MYSQL_ROW row;
        rc = nq_mysql_result(c, &r, err);
        if (rc != NQ_OK)
            return rc;
        while (r && (row = mysql_fetch_row(r)) != NULL) {
            if (row[0] && row[1] && strcmp(row[0], "innodb") == 0)
                v->innodb = strcasecmp(row[1], "YES") == 0 || strcasecmp(row[1], "DEFAULT") == 0;
            else if (row[0] && row[1])
                mysql_conn_var(c, v, row[0], row[1]);
        }
        if (r)
            mysql_free_result(r);
        rc = nq_mysql_next(c, err);
        if (rc != 1)
            return rc;
        rc = NQ_OK;
    }
    return rc;
}

unsigned nq_mysql_wait(const nq_store *s, unsigned most)
{
    const unsigned limit = nq_mysql_data_of(s)->read_timeout;
    return limit > most ? most : limit > 1 ? limit - 1 : 1;
}

/* The session's settings do not depend on what the server's are. */
static int mysql_conn_session(nq_mysql_conn *c, const struct mysql_conn_vars *v, nq_err *err)
{
    nq_buf b = {0};
    nq_buf_str(&b, "SET SESSION sql_mode='STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION', SESSION autocommit=1, "
                   "SESSION time_zone='+00:00'");
    /* nanoq's own transactions are short. A row that is held for longer is held by somebody's open one, and
     * waiting for it would keep all other outcomes back. */
    nq_buf_fmt(&b, ", SESSION innodb_lock_wait_timeout=1, SESSION lock_wait_timeout=%u",
               nq_mysql_wait(c->base.store, 20));
    if (!c->mariadb)
        nq_buf_str(&b, ", SESSION wait_timeout=60"); /* see nq_mysql_guard */
    if (v->snapshot_isolation)
        nq_buf_str(&b, ", SESSION innodb_snapshot_isolation=OFF");
    /* What another node has committed is seen here: is it claimed, is it gone, did a lost commit take effect?
     */
    if (c->galera)
        nq_buf_str(&b, ", SESSION wsrep_sync_wait=1");
    nq_buf_str(&b, "; SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED");
    const int rc = nq_mysql_run(c, &b, err);
    nq_buf_free(&b);
    return rc;
}

int nq_mysql_guard(nq_mysql_conn *c, nq_err *err)
{
    static const char sql[] = "SET SESSION idle_transaction_timeout=30";
    if (c->guarded || !c->mariadb)
        return NQ_OK;
    const int rc = nq_mysql_query(c, sql, sizeof sql - 1, err);
    c->guarded = rc == NQ_OK;
    return rc;
}

/* The same over TCP and a unix socket, whatever name the server has here. Without memory: none. */
static char *mysql_conn_identity(const nq_store *s, const struct mysql_conn_vars *v)
{
    nq_buf b = {0};
    nq_buf_fmt(&b, "%s\n%s\n%s\n%s", v->host, v->port, v->datadir, s->url.path);
    if (b.failed)
        nq_buf_free(&b);
    return b.p;
}

static int mysql_conn_check(nq_mysql_conn *c, nq_err *err)
{
    nq_store *s = c->base.store;
    nq_mysql_data *d = nq_mysql_data_of(s);
    struct mysql_conn_vars v;
    memset(&v, 0, sizeof v);
    c->increment = 1;
    int rc = mysql_conn_read_vars(c, &v, err);
    if (rc != NQ_OK)
        return rc;
    c->mariadb = v.mariadb || strcasestr(v.version, "mariadb");
    rc = nq_mysql_check_version(v.tidb ? "TiDB" : v.version, c->mariadb, err);
    if (rc != NQ_OK)
        return rc;
    if (!v.innodb)
        return nq_err_set(err, NQ_EUNSUPPORTED, "the server has no InnoDB");
    if (v.log_bin && v.statement_binlog)
        return nq_err_set(err, NQ_EUNSUPPORTED,
                          "the server's binlog_format is STATEMENT: nanoq needs ROW or MIXED");
    if (c->packet < 65536)
        return nq_err_set(err, NQ_EUNSUPPORTED, "the server's max_allowed_packet is below 64 KiB");
    /* The first connection is made while the store is opened, by one thread; later ones only read these. */
    if (!d->limited) {
        if (s->max_payload > c->packet - 16384)
            s->max_payload = c->packet - 16384;
        d->packet = c->packet;
        d->rollback_on_timeout = v.rollback_on_timeout;
        /* On Galera a completion takes a transaction of its own: see mysql_complete_apart. */
        d->returns = c->mariadb && !c->galera;
        d->galera = c->galera;
        if (!d->identity)
            d->identity = mysql_conn_identity(s, &v);
        d->limited = true;
    }
    return mysql_conn_session(c, &v, err);
}

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
    rc = mysql_conn_check(c, err);
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
