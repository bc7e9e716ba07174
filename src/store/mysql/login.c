/* SPDX-License-Identifier: MIT */
/* MySQL and MariaDB: the password, and logging in so that only a server that may have it gets it. */
#include <errno.h>
#include <stdio.h>
#include <strings.h>
#include <sys/stat.h>

#include "mysql_driver.h"

/* ---- The password --------------------------------------------------------------------------- */

/* Who may read it has the password, and who may write it chooses which server is let in: nobody but its owner
 * and, for reading, its group. */
static int mysql_login_check_file(FILE *f, const char *path, bool *regular, nq_err *err)
{
    struct stat st;
    if (fstat(fileno(f), &st) != 0)
        return nq_err_sys(err, NQ_EINVAL, errno, "password_file");
    *regular = S_ISREG(st.st_mode);
    if (st.st_mode & (S_IWGRP | S_IROTH | S_IWOTH))
        return nq_err_set(
            err, NQ_EINVAL, "password_file %.200s may be %s by others (mode %04o): allowed is 0600, or 0640",
            path, st.st_mode & (S_IWGRP | S_IWOTH) ? "written" : "read", (unsigned)st.st_mode & 07777u);
    return NQ_OK;
}

static int mysql_login_read_file(const char *path, char **out, bool *regular, nq_err *err)
{
    char line[1024];
    FILE *f = fopen(path, "re");
    if (!f)
        return nq_err_sys(err, NQ_EINVAL, errno, "password_file");
    int rc = mysql_login_check_file(f, path, regular, err);
    if (rc != NQ_OK)
        goto out;
    if (!fgets(line, sizeof line, f)) {
        rc = ferror(f) ? nq_err_sys(err, NQ_EINVAL, errno, "password_file")
                       : nq_err_set(err, NQ_EINVAL, "password_file is empty");
        goto out;
    }
    line[strcspn(line, "\r\n")] = '\0';
    *out = strdup(line);
    if (!*out)
        rc = nq_err_nomem(err);
out:
    explicit_bzero(line, sizeof line);
    fclose(f);
    return rc;
}

static void mysql_login_wipe(char *password)
{
    if (password)
        explicit_bzero(password, strlen(password));
    free(password);
}

/* The option struct's (the store put it into the URL), the URL's, a file's, the environment's. */
int nq_mysql_password_open(nq_store *s, nq_err *err)
{
    nq_mysql_data *d = nq_mysql_data_of(s);
    const char *file = nq_url_option_get(&s->url, "password_file", NULL);
    const char *env = nq_url_option_get(&s->url, "password_env", NULL);
    const char *value = s->url.password;
    if (!value && file) {
        char *password = NULL;
        bool regular = false;
        const int rc = mysql_login_read_file(file, &password, &regular, err);
        if (rc != NQ_OK)
            return rc;
        /* A pipe can be read but once. */
        if (!regular) {
            d->password = password;
        } else {
            d->password_file = file;
            mysql_login_wipe(password);
        }
        return NQ_OK;
    }
    if (!value) {
        value = getenv(env ? env : "NANOQ_PASSWORD");
        if (!value && env)
            return nq_err_set(err, NQ_EINVAL, "password_env names a variable that is not set");
    }
    d->password = strdup(value ? value : "");
    return d->password ? NQ_OK : nq_err_nomem(err);
}

/* A file may have got a new one since. */
static int mysql_login_password(const nq_store *s, char **out, nq_err *err)
{
    const nq_mysql_data *d = nq_mysql_data_of(s);
    bool regular;
    if (d->password_file)
        return mysql_login_read_file(d->password_file, out, &regular, err);
    *out = strdup(d->password);
    return *out ? NQ_OK : nq_err_nomem(err);
}

/* ---- One attempt ---------------------------------------------------------------------------- */

#ifdef MARIADB_BASE_VERSION

static void mysql_login_secure(MYSQL *my, const nq_mysql_data *d, nq_mysql_login_try *l)
{
    /* Both are set either way: from Connector/C 3.4 on verifying is the default. */
    const char enforce = l->tls, verify = l->tls && d->tls == NQ_MYSQL_TLS_VERIFY;
    const char no = 0;
    mysql_options(my, MYSQL_OPT_SSL_ENFORCE, &enforce);
    mysql_options(my, MYSQL_OPT_SSL_VERIFY_SERVER_CERT, &verify);
    mysql_options(my, MYSQL_OPT_RECONNECT, &no); /* newer libmysqlclients never do, and warn */
}

#else /* libmysqlclient */

static void mysql_login_secure(MYSQL *my, const nq_mysql_data *d, nq_mysql_login_try *l)
{
    const unsigned mode = !l->tls                         ? SSL_MODE_DISABLED
                          : d->tls == NQ_MYSQL_TLS_VERIFY ? SSL_MODE_VERIFY_IDENTITY
                          : l->demanded                   ? SSL_MODE_REQUIRED
                                                          : SSL_MODE_PREFERRED;
    /* caching_sha2_password would encrypt the password with the key of whoever sends one. */
    const bool take_key = false;
    mysql_options(my, MYSQL_OPT_SSL_MODE, &mode);
    mysql_options(my, MYSQL_OPT_GET_SERVER_PUBLIC_KEY, &take_key);
}

#endif

static void mysql_login_options(MYSQL *my, const nq_store *s, nq_mysql_login_try *l)
{
    const nq_mysql_data *d = nq_mysql_data_of(s);
    const nq_url *u = &s->url;
    const unsigned off = 0, tcp = MYSQL_PROTOCOL_TCP;
    mysql_options(my, MYSQL_OPT_CONNECT_TIMEOUT, &d->connect_timeout);
    mysql_options(my, MYSQL_OPT_READ_TIMEOUT, &d->read_timeout);
    mysql_options(my, MYSQL_OPT_WRITE_TIMEOUT, &d->write_timeout);
    mysql_options(my, MYSQL_OPT_LOCAL_INFILE, &off);
    mysql_options(my, MYSQL_SET_CHARSET_NAME, "utf8mb4");
    /* "localhost" is a unix socket to the client library, unless a port says otherwise. */
    if (!d->socket && u->host && (u->port || strcasecmp(u->host, "localhost") != 0))
        mysql_options(my, MYSQL_OPT_PROTOCOL, &tcp);
    mysql_login_secure(my, d, l);
    if (l->tls && d->tls_ca)
        mysql_options(my, MYSQL_OPT_SSL_CA, d->tls_ca);
}

/* On failure l holds why. */
static MYSQL *mysql_login_dial(const nq_store *s, nq_mysql_login_try *l)
{
    const nq_mysql_data *d = nq_mysql_data_of(s);
    const nq_url *u = &s->url;
    MYSQL *my = mysql_init(NULL);
    l->code = NQ_OK;
    if (!my || !nq_mysql_auth_begin(my, l)) {
        nq_mysql_nomem_(&l->res);
        if (my)
            mysql_close(my);
        return NULL;
    }
    mysql_login_options(my, s, l);
    if (!mysql_real_connect(my, d->socket ? NULL : u->host, u->user, l->password, u->path,
                            d->socket ? 0 : u->port, d->socket,
                            CLIENT_MULTI_STATEMENTS | CLIENT_FOUND_ROWS)) {
        nq_mysql_failed_(&l->res, mysql_errno(my), mysql_sqlstate(my), mysql_error(my));
        mysql_close(my);
        my = NULL;
    }
    nq_mysql_auth_end();
#ifndef MARIADB_BASE_VERSION
    l->wants_tls = !my && !l->tls && l->res.db_code == NQ_MYSQL_CR_AUTH_PLUGIN;
#endif
    return my;
}

/* ---- Logging in ----------------------------------------------------------------------------- */

static int mysql_login_failed(const nq_store *s, nq_mysql_login_try *l, nq_err *err)
{
    const nq_mysql_data *d = nq_mysql_data_of(s);
    if (l->code == NQ_EUNAVAILABLE && l->demanded)
        return nq_err_set(err, l->code, "%s, and tls=%s demands it", l->why,
                          d->tls == NQ_MYSQL_TLS_VERIFY ? "verify-full" : "required");
    if (l->code != NQ_OK)
        return nq_err_set(err, l->code, "%s", l->why);
    nq_mysql_scrub(l->res.message, l->password);
    return nq_mysql_fail(s, &l->res, err);
}

int nq_mysql_login(const nq_store *s, MYSQL **out, nq_err *err)
{
    const nq_mysql_data *d = nq_mysql_data_of(s);
    nq_mysql_login_try l = {.tls = d->tls != NQ_MYSQL_TLS_OFF, .demanded = d->tls >= NQ_MYSQL_TLS_REQUIRED};
    char *password = NULL;
    int rc = mysql_login_password(s, &password, err);
    if (rc != NQ_OK)
        return rc;
    l.password = password;
    MYSQL *my = mysql_login_dial(s, &l);
    if (!my && d->tls == NQ_MYSQL_TLS_PREFERRED && l.code == NQ_OK &&
        l.res.db_code == NQ_MYSQL_CR_SSL_CONNECTION) {
        l.tls = false;
        my = mysql_login_dial(s, &l);
    }
    /* On this host no TLS is used unless asked for; but a server that has not seen the password since it
     * started wants the whole of it, once, and has TLS for that. */
    if (!my && l.wants_tls && d->tls_unsaid && !l.tls) {
        l.tls = l.demanded = true;
        my = mysql_login_dial(s, &l);
    }
    if (!my)
        rc = mysql_login_failed(s, &l, err);
    mysql_login_wipe(password);
    *out = my;
    return rc;
}
