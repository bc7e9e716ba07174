/* SPDX-License-Identifier: MIT */
/* What a command is started with, found out before there are threads. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../cli.h"
#include "spawn.h"

extern char **environ;

static bool spawn_runnable(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISREG(st.st_mode) && access(path, X_OK) == 0;
}

/* As execvp would find it, but once and not in every child. */
static char *spawn_find(const char *name)
{
    char buf[128];
    if (strchr(name, '/') != NULL) {
        if (spawn_runnable(name)) {
            return cli_format("%s", name);
        }
        struct stat st;
        int failed = stat(name, &st) != 0 ? errno : S_ISDIR(st.st_mode) ? EISDIR : EACCES;
        cli_complain("cannot run %s: %s", name, strerror_r(failed, buf, sizeof buf));
        return NULL;
    }
    const char *path = getenv("PATH");
    path = path != NULL ? path : "/usr/local/bin:/usr/bin:/bin";
    for (;;) {
        size_t n = strcspn(path, ":");
        char *full = n > 0 ? cli_format("%.*s/%s", (int)n, path, name) : cli_format("./%s", name);
        if (*name != '\0' && spawn_runnable(full)) {
            return full;
        }
        free(full);
        if (path[n] == '\0') {
            cli_complain("command not found: %s", name);
            return NULL;
        }
        path += n + 1;
    }
}

static bool spawn_is_ours(const char *entry)
{
    static const char *const names[] = {"NANOQ_ID=", "NANOQ_TYPE=", "NANOQ_QUEUE=", "NANOQ_ATTEMPT=",
                                        "NANOQ_MAX_RETRIES=", "NANOQ_DEADLINE=", "NANOQ_STREAM=",
                                        /* systemd's, for us alone */
                                        "NOTIFY_SOCKET=", "WATCHDOG_USEC=", "WATCHDOG_PID="};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (strncmp(entry, names[i], strlen(names[i])) == 0) {
            return true;
        }
    }
    return false;
}

static void spawn_inherited(struct spawn_command *c)
{
    DIR *dir = opendir("/proc/self/fd");
    const struct dirent *entry;
    while (dir != NULL && (entry = readdir(dir)) != NULL) {
        int fd = atoi(entry->d_name);
        int flags = fd > 2 && fd != dirfd(dir) ? fcntl(fd, F_GETFD) : -1;
        if (flags >= 0 && (flags & FD_CLOEXEC) == 0) {
            c->inherited = cli_realloc(c->inherited, (c->ninherited + 1) * sizeof c->inherited[0]);
            c->inherited[c->ninherited++] = fd;
        }
    }
    if (dir != NULL) {
        closedir(dir);
    }
}

bool spawn_prepare(struct spawn_command *c, char **argv)
{
    size_t n = 0, argc = 0;
    c->argv = argv;
    c->path = spawn_find(argv[0]);
    if (c->path == NULL) {
        return false;
    }
    while (argv[argc] != NULL) {
        argc++;
    }
    c->shell = cli_alloc((argc + 2) * sizeof c->shell[0]);
    static char shell[] = "/bin/sh";
    c->shell[0] = shell;
    c->shell[1] = c->path;
    memcpy(c->shell + 2, argv + 1, argc * sizeof argv[0]); /* the NULL too */
    while (environ[n] != NULL) {
        n++;
    }
    c->base_env = cli_alloc((n + 1) * sizeof c->base_env[0]);
    for (size_t i = 0; i < n; i++) {
        if (!spawn_is_ours(environ[i])) {
            c->base_env[c->nbase_env++] = environ[i];
        }
    }
    spawn_inherited(c);
    return true;
}

void spawn_free(struct spawn_command *c)
{
    free(c->path);
    free(c->shell);
    free(c->base_env);
    free(c->inherited);
    *c = (struct spawn_command){0};
}
