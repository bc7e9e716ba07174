/* SPDX-License-Identifier: MIT */
/* Which database, and opening it: --db, NANOQ_DB, or a file in the user's state directory. */
#include <ctype.h>
#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli.h"
#include "text/text.h"

static void database_log(enum nq_log_level level, const char *message, void *udata)
{
    (void)udata;
    if (level >= NQ_LOG_WARN)
        cli_complain("%s", message);
}

char *cli_sqlite_url(const char *path)
{
    struct text url = {0};
    text_str(&url, "sqlite:");
    for (; *path != '\0'; path++) {
        char escaped[4];
        unsigned char c = (unsigned char)*path;
        if (isalnum(c) || c >= 0x80 || strchr("/._-~ ", c)) {
            text_add(&url, path, 1);
        } else {
            snprintf(escaped, sizeof escaped, "%%%02X", c);
            text_str(&url, escaped);
        }
    }
    return url.p;
}

/* Make every directory of path up to its last slash, private to the user. */
static bool database_directories(char *path)
{
    for (char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        int failed = mkdir(path, 0700) != 0 && errno != EEXIST ? errno : 0;
        if (failed != 0) {
            char buf[128];
            cli_complain("cannot make the directory %s: %s; choose a database with --db or NANOQ_DB", path,
                         strerror_r(failed, buf, sizeof buf));
        }
        *slash = '/';
        if (failed != 0)
            return false;
    }
    return true;
}

static char *database_own_path(void)
{
    return cli_user_path("XDG_STATE_HOME", ".local/state", "nanoq/nanoq.db");
}

char *cli_own_url(void)
{
    char *path = database_own_path();
    char *url = path ? cli_sqlite_url(path) : NULL;
    free(path);
    return url;
}

static char *database_own(void)
{
    char *path = database_own_path();
    if (!path) {
        cli_complain("no home directory is known: choose a database with --db or NANOQ_DB");
        return NULL;
    }
    char *url = database_directories(path) ? cli_sqlite_url(path) : NULL;
    free(path);
    return url;
}

static bool database_has_scheme(const char *url)
{
    size_t n = 0;
    while (isalnum((unsigned char)url[n]) || url[n] == '+' || url[n] == '-')
        n++;
    return n > 0 && url[n] == ':';
}

char *cli_url(int *exit_code, bool *own)
{
    const char *given = cli.db, *from = "--db";
    if (!given) {
        given = cli_configured(CLI_CONFIG_DB, &from);
        if (!given) {
            char *url = database_own();
            *own = true;
            *exit_code = url ? CLI_OK : CLI_FAILURE;
            return url;
        }
    }
    *own = false;
    if (!database_has_scheme(given)) {
        /* What has an @ in it may hold a password. */
        bool show = *given != '\0' && !strchr(given, '@');
        *exit_code =
            cli_usage("%s: no database URL; allowed: sqlite:PATH, mysql://user@host/database; for a SQLite "
                      "file write sqlite:%s",
                      from, show ? given : "PATH");
        return NULL;
    }
    *exit_code = CLI_OK;
    return cli_format("%s", given);
}

static int database_hex(char c)
{
    static const char digits[] = "0123456789abcdef";
    const char *at = c ? strchr(digits, tolower((unsigned char)c)) : NULL;
    return at ? (int)(at - digits) : -1;
}

char *cli_sqlite_file(const char *url)
{
    const char *path = url + strlen("sqlite:");
    if (strncmp(url, "sqlite:", strlen("sqlite:")) != 0 || strncmp(path, "//", 2) == 0)
        return NULL;
    char *file = cli_format("%.*s", (int)strcspn(path, "?"), path), *to = file;
    for (const char *p = file; *p; p++) {
        const bool escape = *p == '%';
        const int high = escape ? database_hex(p[1]) : 0, low = escape && high >= 0 ? database_hex(p[2]) : 0;
        if (high < 0 || low < 0 || (escape && high + low == 0)) {
            free(file);
            return NULL;
        }
        *to++ = escape ? (char)(high * 16 + low) : *p;
        p += escape ? 2 : 0;
    }
    *to = '\0';
    return file;
}

/* Opening would make the file: a mistyped path must not leave an empty database behind. */
static bool database_is_missing(const char *url)
{
    char *file = cli_sqlite_file(url);
    const bool missing = file && access(file, F_OK) != 0 && errno == ENOENT;
    if (missing)
        cli_complain("no such file: %s; to make it, run: nanoq migrate", file);
    free(file);
    return missing;
}

/* What is wrong with a URL that nobody typed just now is told with its place. */
static int database_failed(const nq_err *err)
{
    const char *from = NULL;
    const int exit_code = cli_fail(err);
    if ((err->code == NQ_EURL || err->code == NQ_EINVAL) && !cli.db && cli_configured(CLI_CONFIG_DB, &from))
        cli_complain("that is the database of %s", from);
    return exit_code;
}

int cli_open(nq **out)
{
    return cli_open_logging(out, database_log);
}

int cli_open_logging(nq **out, nq_log_fn log)
{
    int exit_code = CLI_OK;
    bool own = false;
    nq_err err = {0};
    nq_options options = {.size = sizeof options, .log = log};
    char *url = cli_url(&exit_code, &own);
    if (!url)
        return exit_code;
    if (strncmp(url, "sqlite::memory:", 15) == 0) {
        free(url);
        return cli_usage("sqlite::memory: is gone when this command ends; use sqlite:PATH");
    }
    if (!own && !cli.makes_database && database_is_missing(url)) {
        free(url);
        return CLI_FAILURE;
    }
    nq *q = NULL;
    int rc = nq_open(&q, url, &options, &err);
    if (rc == NQ_OK && own)
        rc = nq_migrate(q, &err);
    explicit_bzero(url, strlen(url));
    free(url);
    if (rc != NQ_OK) {
        nq_close(q);
        return database_failed(&err);
    }
    *out = q;
    return CLI_OK;
}

int cli_print_sql(int (*make)(char **sql, const char *url, int64_t arg, nq_err *err), int64_t arg)
{
    char *sql = NULL;
    nq_err err = {0};
    int exit_code = CLI_OK;
    bool own;
    char *url = cli_url(&exit_code, &own);
    if (!url)
        return exit_code;
    if (make(&sql, url, arg, &err) != NQ_OK)
        exit_code = cli_fail(&err);
    else
        fputs(sql, stdout);
    nq_free(sql);
    free(url);
    return exit_code;
}
