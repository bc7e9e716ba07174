/* SPDX-License-Identifier: MIT */
/* What a command is started with, found out before there are threads. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../cli.h"
#include "spawn.h"

static bool spawn_runnable(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISREG(st.st_mode) && access(path, X_OK) == 0;
}

/* As execvp would find it, but once and not in every child. */
static char *spawn_find(const char *name)
{
    char buf[128];
    if (strchr(name, '/')) {
        if (spawn_runnable(name))
            return cli_format("%s", name);
        struct stat st;
        int failed = stat(name, &st) != 0 ? errno : S_ISDIR(st.st_mode) ? EISDIR : EACCES;
        cli_complain("cannot run %s: %s", name, strerror_r(failed, buf, sizeof buf));
        return NULL;
    }
    const char *path = getenv("PATH");
    path = path ? path : "/usr/local/bin:/usr/bin:/bin";
    for (;;) {
        size_t n = strcspn(path, ":");
        char *full = n > 0 ? cli_format("%.*s/%s", (int)n, path, name) : cli_format("./%s", name);
        if (*name != '\0' && spawn_runnable(full))
            return full;
        free(full);
        if (path[n] == '\0') {
            cli_complain("command not found: %s", name);
            return NULL;
        }
        path += n + 1;
    }
}

static void spawn_inherited(struct spawn_command *c)
{
    DIR *dir = opendir("/proc/self/fd");
    const struct dirent *entry;
    while (dir && (entry = readdir(dir))) {
        int fd = atoi(entry->d_name);
        int flags = fd > 2 && fd != dirfd(dir) ? fcntl(fd, F_GETFD) : -1;
        if (flags >= 0 && (flags & FD_CLOEXEC) == 0) {
            c->inherited = cli_realloc(c->inherited, (c->ninherited + 1) * sizeof c->inherited[0]);
            c->inherited[c->ninherited++] = fd;
        }
    }
    if (dir)
        closedir(dir);
}

/* The interpreter that a script names in its first line, or "". */
static void spawn_interpreter(const char *path, char *out, size_t size)
{
    char line[128] = "";
    out[0] = '\0';
    FILE *f = fopen(path, "re");
    if (f && fgets(line, sizeof line, f) && strncmp(line, "#!", 2) == 0) {
        const char *name = line + 2 + strspn(line + 2, " \t");
        snprintf(out, size, "%.*s", (int)strcspn(name, " \t\r\n"), name);
    }
    if (f)
        fclose(f);
}

void spawn_why(const struct spawn_command *c, int why, char *out, size_t size)
{
    char buf[128], interpreter[128];
    spawn_interpreter(c->path, interpreter, sizeof interpreter);
    const bool its = (why == ENOENT || why == EACCES) && interpreter[0] && access(c->path, X_OK) == 0;
    snprintf(out, size, "cannot start %s: %s%s%s%s", c->path, its ? "its interpreter " : "",
             its ? interpreter : "", its ? ": " : "", strerror_r(why, buf, sizeof buf));
}

bool spawn_prepare(struct spawn_command *c, char **argv)
{
    size_t argc = 0;
    c->argv = argv;
    c->path = spawn_find(argv[0]);
    if (!c->path)
        return false;
    while (argv[argc])
        argc++;
    c->shell = cli_alloc((argc + 2) * sizeof c->shell[0]);
    static char shell[] = "/bin/sh";
    c->shell[0] = shell;
    c->shell[1] = c->path;
    memcpy(c->shell + 2, argv + 1, argc * sizeof argv[0]); /* the NULL too */
    spawn_environment(c);
    spawn_inherited(c);
    return true;
}

void spawn_free(struct spawn_command *c)
{
    free(c->path);
    free(c->shell);
    free(c->base_env);
    free(c->db);
    free(c->inherited);
    *c = (struct spawn_command){0};
}
