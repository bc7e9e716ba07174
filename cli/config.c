/* SPDX-License-Identifier: MIT */
/* The configuration: variables of the environment, and lines "key = value" of two files. The library reads
 * none: what a program does is not to depend on whose account it runs in. */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli.h"

#define CONFIG_SYSTEM                         "/etc/nanoq/config"
#define CONFIG_MOST                           65536 /* bytes of a file */
#define CONFIG_FILES                          2

#define CONFIG_ROW(NAME, key, variable, what) {key, variable, what},
const struct cli_config_row cli_config_rows[CLI_CONFIG_COUNT] = {CLI_CONFIG_KEYS(CONFIG_ROW)};

/* What one file said last of a key. */
struct config_value {
    char *value, *from;
};
static struct {
    struct config_value held[CLI_CONFIG_COUNT];
    char *paths[CONFIG_FILES];
    const char *state[CONFIG_FILES]; /* "read", "not there" */
    const char *chosen;              /* --config or NANOQ_CONFIG says which: that name; else NULL */
} config;

static void config_forget(void)
{
    for (size_t i = 0; i < CLI_CONFIG_COUNT; i++) {
        if (config.held[i].value)
            explicit_bzero(config.held[i].value, strlen(config.held[i].value));
        free(config.held[i].value);
        free(config.held[i].from);
    }
    for (size_t i = 0; i < CONFIG_FILES; i++)
        free(config.paths[i]);
    memset(&config, 0, sizeof config);
}

static bool config_has_scheme(const char *url)
{
    size_t n = strspn(url, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+-");
    return n > 0 && url[n] == ':';
}

static bool config_jobs(const char *value)
{
    const size_t n = strspn(value, "0123456789");
    const long jobs = n > 0 && n <= 4 && value[n] == '\0' ? strtol(value, NULL, 10) : 0;
    return jobs >= 1 && jobs <= 1024;
}

static bool config_queue(const char *value)
{
    const size_t n = strspn(value, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.:/-");
    return value[n] == '\0' && n >= 1 && n <= NQ_MAX_QUEUE;
}

/* What the value must be, or NULL: it is. No message repeats one of db: it may hold a password. */
static const char *config_wrong(enum cli_config_key key, const char *value)
{
    switch (key) {
    case CLI_CONFIG_DB:
        return config_has_scheme(value) ? NULL : "a URL: sqlite:PATH, mysql://user@host/database";
    case CLI_CONFIG_FORMAT:
        return strcmp(value, "table") == 0 || strcmp(value, "json") == 0 || strcmp(value, "tsv") == 0
                   ? NULL
                   : "table, json or tsv";
    case CLI_CONFIG_QUEUE:
        return config_queue(value) ? NULL : "the name of a queue: 1 to 64 of A-Z a-z 0-9 _ . : / -";
    case CLI_CONFIG_JOBS:
        return config_jobs(value) ? NULL : "a whole number from 1 to 1024";
    default:
        return strcmp(value, "text") == 0 || strcmp(value, "json") == 0 ? NULL : "text or json";
    }
}

/* "mysql://user:password@...": as cli_hide_password sees it. */
static bool config_has_password(const char *url)
{
    char *copy = cli_format("%s", url);
    cli_hide_password(copy);
    const bool has = strcmp(copy, url) != 0;
    free(copy);
    return has;
}

static bool config_unknown(const char *where, const char *key)
{
    const char *names[CLI_CONFIG_COUNT + 1] = {0};
    char all[128];
    size_t n = 0;
    for (size_t i = 0; i < CLI_CONFIG_COUNT; i++) {
        names[i] = cli_config_rows[i].key;
        n += (size_t)snprintf(all + n, sizeof all - n, "%s%s", i > 0 ? ", " : "", names[i]);
    }
    const char *near = cli_nearest(key, names);
    cli_complain("%s: unknown key '%.60s'%s%s. Allowed: %s", where, key, near ? "; did you mean " : "",
                 near ? near : "", all);
    return false;
}

static char *config_trim(char *text)
{
    size_t n;
    while (isspace((unsigned char)*text))
        text++;
    for (n = strlen(text); n > 0 && isspace((unsigned char)text[n - 1]); n--)
        text[n - 1] = '\0';
    return text;
}

/* One "key = value" of a file; where is kept with the value. */
static bool config_line(char *line, const char *path, int number, struct config_value seen[])
{
    char *text = config_trim(line), *equals = strchr(text, '=');
    if (*text == '\0' || *text == '#')
        return true;
    char *where = cli_format("%s:%d", path, number);
    bool good = false;
    int key = CLI_CONFIG_COUNT;
    if (!equals) {
        cli_complain("%s: a line is 'key = value', or begins with #", where);
        goto out;
    }
    *equals = '\0';
    const char *name = config_trim(text), *value = config_trim(equals + 1), *wrong;
    for (key = 0; key < CLI_CONFIG_COUNT && strcmp(name, cli_config_rows[key].key) != 0;)
        key++;
    if (key == CLI_CONFIG_COUNT) {
        good = config_unknown(where, name);
    } else if (seen[key].value) {
        cli_complain("%s: %s is given twice: at %s too", where, name, seen[key].from);
    } else if ((wrong = config_wrong((enum cli_config_key)key, value))) {
        cli_complain("%s: %s must be %s", where, name, wrong);
    } else {
        seen[key] = (struct config_value){cli_format("%s", value), where};
        return true;
    }
out:
    free(where);
    return good;
}

/* As password_file is kept by the library, and as ssh keeps its files: who can write one says where tasks go,
 * and a password that others can read is none. Not a pipe or /dev/null, which are nobody's to keep. */
static bool config_private(const char *path, const struct stat *st, bool password)
{
    const unsigned mode = st->st_mode & 0777u;
    if (!S_ISREG(st->st_mode))
        return true;
    if (!config.chosen && st->st_uid != 0 && st->st_uid != geteuid()) {
        cli_complain("%s: is owned by another user (%u): chown it, or name it by --config", path,
                     (unsigned)st->st_uid);
    } else if ((mode & 0002u) != 0) {
        cli_complain("%s: everybody may write it (mode %04o): chmod o-w it", path, mode);
    } else if (password && (mode & 0027u) != 0) {
        cli_complain("%s: there is a password in it, and others may read or write it (mode %04o): allowed is "
                     "0600, or 0640; better: ?password_file=PATH in the URL",
                     path, mode);
    } else {
        return true;
    }
    return false;
}

/* The whole file with a NUL behind it, to be freed; NULL with *problem 0: it is too long, else an errno. */
static char *config_bytes(int fd, size_t *n, int *problem)
{
    char *bytes = cli_alloc(CONFIG_MOST + 2);
    ssize_t got;
    *n = 0;
    *problem = 0;
    while ((got = read(fd, bytes + *n, CONFIG_MOST + 1 - *n)) != 0) {
        if (got < 0 && errno != EINTR) {
            *problem = errno;
            break;
        }
        *n += got > 0 ? (size_t)got : 0;
    }
    if (*problem == 0 && *n <= CONFIG_MOST)
        return bytes;
    explicit_bzero(bytes, CONFIG_MOST + 2);
    free(bytes);
    return NULL;
}

static bool config_lines(char *bytes, size_t n, const char *path, struct config_value seen[])
{
    int number = 0;
    for (char *line = bytes, *end = bytes + n; line < end;) {
        char *newline = memchr(line, '\n', (size_t)(end - line));
        char *next = newline ? newline + 1 : end;
        number++;
        if (newline)
            *newline = '\0';
        if (memchr(line, '\0', (size_t)((newline ? newline : end) - line))) {
            cli_complain("%s:%d: has a NUL in it: this is no text", path, number);
            return false;
        }
        if (!config_line(line, path, number, seen))
            return false;
        line = next;
    }
    return true;
}

static bool config_failed(const char *path, int problem)
{
    char buf[128];
    if (problem == 0)
        cli_complain("%s: is longer than %d bytes", path, CONFIG_MOST);
    else
        cli_complain("%s%s%s: %s", config.chosen ? config.chosen : "", config.chosen ? ": " : "", path,
                     strerror_r(problem, buf, sizeof buf));
    return false;
}

static bool config_read(size_t which)
{
    struct config_value seen[CLI_CONFIG_COUNT] = {{0}};
    const char *path = config.paths[which];
    struct stat st;
    size_t n = 0;
    int problem = 0;
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0 && !config.chosen && (errno == ENOENT || errno == ENOTDIR)) {
        config.state[which] = "not there";
        return true;
    }
    if (fd < 0 && errno == EACCES && strcmp(path, CONFIG_SYSTEM) == 0) {
        config.state[which] = "not readable"; /* it is for the members of its group */
        return true;
    }
    if (fd < 0)
        return config_failed(path, errno);
    char *bytes = NULL;
    bool good = fstat(fd, &st) == 0 && (!S_ISFIFO(st.st_mode) || fcntl(fd, F_SETFL, 0) == 0);
    if (good)
        bytes = config_bytes(fd, &n, &problem);
    else
        problem = errno;
    close(fd);
    if (!bytes)
        return config_failed(path, problem);
    good = config_lines(bytes, n, path, seen);
    explicit_bzero(bytes, n);
    free(bytes);
    const char *db = seen[CLI_CONFIG_DB].value;
    good = good && config_private(path, &st, db && config_has_password(db));
    for (size_t i = 0; i < CLI_CONFIG_COUNT; i++) {
        if (!seen[i].value)
            continue;
        free(config.held[i].value);
        free(config.held[i].from);
        config.held[i] = seen[i];
    }
    config.state[which] = "read";
    return good;
}

/* $XDG_CONFIG_HOME/nanoq/config, to be freed; NULL: no home directory is known. */
static char *config_users(void)
{
    return cli_user_path("XDG_CONFIG_HOME", ".config", "nanoq/config");
}

static bool config_environment(void)
{
    for (size_t i = 0; i < CLI_CONFIG_COUNT; i++) {
        const char *name = cli_config_rows[i].variable, *value = getenv(name);
        if (!value || *value == '\0')
            continue;
        const char *wrong = i == CLI_CONFIG_DB ? NULL : config_wrong((enum cli_config_key)i, value);
        if (wrong) { /* of the database cli_url says it, which is not asked where --db is given */
            cli_complain("%s: must be %s, not '%s'", name, wrong, value);
            return false;
        }
        free(config.held[i].value);
        free(config.held[i].from);
        config.held[i] = (struct config_value){cli_format("%s", value), cli_format("%s", name)};
    }
    return true;
}

bool cli_config_load(void)
{
    const char *variable = getenv("NANOQ_CONFIG");
    config_forget();
    if (cli.config || (variable && *variable != '\0')) {
        config.chosen = cli.config ? "--config" : "NANOQ_CONFIG";
        config.paths[0] = cli_format("%s", cli.config ? cli.config : variable);
    } else {
        config.paths[0] = cli_format("%s", CONFIG_SYSTEM);
        config.paths[1] = config_users();
    }
    for (size_t i = 0; i < CONFIG_FILES; i++)
        if (config.paths[i] && !config_read(i))
            return false;
    return config_environment();
}

const char *cli_configured(enum cli_config_key key, const char **from)
{
    if (from)
        *from = config.held[key].from;
    return config.held[key].value;
}

const char *cli_config_file(size_t n, const char **from, const char **state)
{
    if (n >= CONFIG_FILES || !config.paths[n])
        return NULL;
    *from = config.chosen ? config.chosen : "default";
    *state = config.state[n] ? config.state[n] : "not read";
    return config.paths[n];
}
