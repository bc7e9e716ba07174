/* SPDX-License-Identifier: MIT */
/* MySQL and MariaDB: authentication that gives the password away to nobody who only asks for it. */
#include <stdio.h>

#include "mysql_driver.h"

#ifdef MARIADB_BASE_VERSION
#include <mysql/plugin_auth.h>

/*
 * libmariadb takes a server that offers no TLS for one that needs none: it goes on in plain text, sends the
 * answer to the server's challenge and, when asked, the password itself ("dialog" even asks on stdin for
 * more). So nanoq says hello by an authentication plugin of its own. It sends no secret, looks at what has
 * come of the connection, and lets the library go on only where that gives nothing away. The server then
 * names the plugin that it wants, a round trip more for each connection. caching_sha2_password is spoken
 * here, because the library's own takes a key from whoever sends one.
 */

#define MYSQL_AUTH_SHA2    "caching_sha2_password"
#define MYSQL_AUTH_TYPE    2 /* MYSQL_CLIENT_AUTHENTICATION_PLUGIN */
#define MYSQL_AUTH_ODD     "the server's answer to the login makes no sense"
#define MYSQL_AUTH_LONGEST 1024 /* password, for it */

/* As in mysql/client_plugin.h, which cannot be included: it needs a header that is not installed. */
struct mysql_auth_plugin {
    MYSQL_CLIENT_PLUGIN_HEADER
    int (*authenticate_user)(MYSQL_PLUGIN_VIO *vio, MYSQL *my);
    void *later; /* of version 0x0101 */
};

/* These prove that the password is known and do not give it away. */
static const char *const mysql_auth_allowed[] = {"mysql_native_password", "client_ed25519", "parsec"};

static _Thread_local nq_mysql_login_try *mysql_auth_now;
/* Hello, and the plugin for caching_sha2_password. Not of names that another copy of nanoq in this process
 * has; never freed: the library keeps them. */
static struct mysql_auth_plugin *mysql_auth_plugins[2];

static int mysql_auth_refuse(MYSQL *my, nq_mysql_login_try *l, int rc, const char *fmt, ...) NQ_PRINTF(4, 5);
static int mysql_auth_refuse(MYSQL *my, nq_mysql_login_try *l, int rc, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    vsnprintf(l->why, sizeof l->why, fmt, args);
    va_end(args);
    l->code = rc;
    my->net.read_pos[0] = 0; /* 254 there would tell the library to go on with what the server wants */
    return CR_ERROR;
}

/* SHA256(password) XOR SHA256(SHA256(SHA256(password)), challenge) */
static void mysql_auth_scramble(uint8_t out[32], const char *password, const uint8_t challenge[20])
{
    nq_sha256 h;
    uint8_t once[32], twice[32];
    nq_sha256_init(&h);
    nq_sha256_add(&h, password, strlen(password));
    nq_sha256_end(&h, once);
    nq_sha256_init(&h);
    nq_sha256_add(&h, once, sizeof once);
    nq_sha256_end(&h, twice);
    nq_sha256_init(&h);
    nq_sha256_add(&h, twice, sizeof twice);
    nq_sha256_add(&h, challenge, 20);
    nq_sha256_end(&h, out);
    for (size_t i = 0; i < sizeof once; i++)
        out[i] ^= once[i];
    explicit_bzero(once, sizeof once);
}

static int mysql_auth_sha2(MYSQL_PLUGIN_VIO *vio, MYSQL *my)
{
    enum { KNOWN = 3, UNKNOWN = 4, CHALLENGE = 20 };
    nq_mysql_login_try *l = mysql_auth_now;
    uint8_t scramble[32];
    unsigned char *answer;
    if (!l || vio->read_packet(vio, &answer) < CHALLENGE)
        return CR_ERROR;
    if (!*l->password)
        return vio->write_packet(vio, NULL, 0) ? CR_ERROR : CR_OK;
    mysql_auth_scramble(scramble, l->password, answer);
    if (vio->write_packet(vio, scramble, sizeof scramble))
        return CR_ERROR;
    const int n = vio->read_packet(vio, &answer);
    if (n == 1 && *answer == KNOWN)
        return CR_OK;
    if (n != 1 || *answer != UNKNOWN)
        return mysql_errno(my) ? CR_ERROR : mysql_auth_refuse(my, l, NQ_EUNAVAILABLE, MYSQL_AUTH_ODD);
    if (!l->private_line) {
        l->wants_tls = true;
        return mysql_auth_refuse(my, l, NQ_EDENIED,
                                 "the server wants the whole password (" MYSQL_AUTH_SHA2
                                 "), which is sent by TLS or a unix socket only: use tls=required");
    }
    const size_t size = strlen(l->password) + 1;
    if (size > MYSQL_AUTH_LONGEST)
        return mysql_auth_refuse(my, l, NQ_EDENIED, "the password is longer than %d bytes",
                                 MYSQL_AUTH_LONGEST - 1);
    return vio->write_packet(vio, (const unsigned char *)l->password, (uint16_t)size) ? CR_ERROR : CR_OK;
}

/* The server has named what it wants to be spoken: let the library go on with it, or not. */
static int mysql_auth_choose(MYSQL *my, nq_mysql_login_try *l)
{
    char *name = (char *)my->net.read_pos + 1; /* the library ends each packet with a NUL */
    const char *use = NULL;
    char safe[64];
    for (size_t i = 0; i < sizeof mysql_auth_allowed / sizeof *mysql_auth_allowed; i++)
        if (strcmp(name, mysql_auth_allowed[i]) == 0)
            use = mysql_auth_allowed[i];
    if (strcmp(name, MYSQL_AUTH_SHA2) == 0) {
        use = mysql_auth_plugins[1]->name; /* as long as the other: what follows it stays where it is */
        memcpy(name, use, sizeof MYSQL_AUTH_SHA2);
    }
    if (use) {
        mysql_options(my, MARIADB_OPT_RESTRICTED_AUTH, use);
        return CR_ERROR; /* with 254 before the name: go on with that one */
    }
    nq_printable(safe, sizeof safe, name, strnlen(name, sizeof safe));
    return mysql_auth_refuse(my, l, NQ_EDENIED,
                             "the server asks for the password by '%s': allowed are mysql_native_password, "
                             "client_ed25519, parsec and " MYSQL_AUTH_SHA2,
                             safe);
}

/* Reading sends the hello, after TLS where both sides can do it. */
static int mysql_auth_hello(MYSQL_PLUGIN_VIO *vio, MYSQL *my)
{
    nq_mysql_login_try *l = mysql_auth_now;
    MYSQL_PLUGIN_VIO_INFO line;
    unsigned char *answer;
    if (!l)
        return CR_ERROR;
    const bool read = vio->read_packet(vio, &answer) >= 0, tls = mysql_get_ssl_cipher(my);
    if (!read && mysql_errno(my))
        return CR_ERROR;
    if (l->demanded && !tls)
        return mysql_auth_refuse(my, l, NQ_EUNAVAILABLE, "the server offers no TLS");
    if (!read && my->net.read_pos[0] == 254) {
        vio->info(vio, &line);
        l->private_line = tls || line.protocol == MYSQL_VIO_SOCKET;
        return mysql_auth_choose(my, l);
    }
    if (read && my->net.read_pos[0] == 0) /* it needs no password, or no more than who is at the socket */
        return CR_OK_HANDSHAKE_COMPLETE;
    return mysql_auth_refuse(my, l, NQ_EUNAVAILABLE, MYSQL_AUTH_ODD);
}

static struct mysql_auth_plugin *mysql_auth_make(const char *what,
                                                 int (*run)(MYSQL_PLUGIN_VIO *vio, MYSQL *my))
{
    char name[sizeof MYSQL_AUTH_SHA2];
    struct mysql_auth_plugin *p = calloc(1, sizeof *p);
    if (!p)
        return NULL;
    snprintf(name, sizeof name, "nanoq_%s_%09llx", what,
             (unsigned long long)nq_random(((uint64_t)1 << 36) - 1));
    p->type = MYSQL_AUTH_TYPE;
    p->interface_version = 0x0100;
    p->name = strdup(name);
    p->author = p->desc = p->license = "";
    p->authenticate_user = run;
    return p;
}

static void mysql_auth_make_both(void)
{
    mysql_auth_plugins[0] = mysql_auth_make("hello", mysql_auth_hello);
    mysql_auth_plugins[1] = mysql_auth_make("sha2", mysql_auth_sha2);
}

/* Until our plugin has allowed another it is the only one. Where it is missing, nothing is sent. */
NQ_PRIVATE bool nq_mysql_auth_begin(MYSQL *my, nq_mysql_login_try *l)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, mysql_auth_make_both);
    for (size_t i = 0; i < 2; i++) {
        struct mysql_auth_plugin *p = mysql_auth_plugins[i];
        if (!p || !p->name)
            return false;
        /* The application may have ended the library meanwhile, which forgets its plugins. */
        if (!mysql_client_find_plugin(my, p->name, MYSQL_AUTH_TYPE))
            mysql_client_register_plugin(my, (struct st_mysql_client_plugin *)(void *)p);
    }
    mysql_options(my, MYSQL_DEFAULT_AUTH, mysql_auth_plugins[0]->name);
    mysql_options(my, MARIADB_OPT_RESTRICTED_AUTH, mysql_auth_plugins[0]->name);
    mysql_auth_now = l;
    return true;
}

NQ_PRIVATE void nq_mysql_auth_end(void)
{
    mysql_auth_now = NULL;
}

#else /* libmysqlclient sends nothing before the TLS that was demanded, and encrypts or refuses the rest */

NQ_PRIVATE bool nq_mysql_auth_begin(MYSQL *my, nq_mysql_login_try *l)
{
    const bool no = false; /* whatever LIBMYSQL_ENABLE_CLEARTEXT_PLUGIN says */
    (void)l;
    mysql_options(my, MYSQL_ENABLE_CLEARTEXT_PLUGIN, &no);
    return true;
}

NQ_PRIVATE void nq_mysql_auth_end(void)
{
}

#endif
