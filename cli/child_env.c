/* SPDX-License-Identifier: MIT */
/* What a command is started with, found out before there are threads, and its end in words. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include "child.h"
#include "cli.h"
#include "text.h"

extern char **environ;

static bool child_runnable(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISREG(st.st_mode) && access(path, X_OK) == 0;
}

/* As execvp would find it, but once and not in every child. */
static char *child_find(const char *name)
{
    char buf[128];
    if (strchr(name, '/') != NULL) {
        if (child_runnable(name)) {
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
        if (*name != '\0' && child_runnable(full)) {
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

static bool child_is_ours(const char *entry)
{
    static const char *const names[] = {"NANOQ_ID=",      "NANOQ_TYPE=",        "NANOQ_QUEUE=",
                                        "NANOQ_ATTEMPT=", "NANOQ_MAX_RETRIES=", "NANOQ_DEADLINE="};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (strncmp(entry, names[i], strlen(names[i])) == 0) {
            return true;
        }
    }
    return false;
}

static void child_inherited(struct child_command *c)
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

bool child_prepare(struct child_command *c, char **argv, int64_t grace_us)
{
    size_t n = 0, argc = 0;
    *c = (struct child_command){.argv = argv, .grace_us = grace_us};
    c->path = child_find(argv[0]);
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
        if (!child_is_ours(environ[i])) {
            c->base_env[c->nbase_env++] = environ[i];
        }
    }
    child_inherited(c);
    return true;
}

void child_free(struct child_command *c)
{
    free(c->path);
    free(c->shell);
    free(c->base_env);
    free(c->inherited);
    *c = (struct child_command){0};
}

static const char *child_signal(int number)
{
    static const struct {
        int number;
        const char *name;
    } names[] = {{SIGHUP, "Hangup"},          {SIGINT, "Interrupt"},
                 {SIGQUIT, "Quit"},           {SIGILL, "Illegal instruction"},
                 {SIGTRAP, "Trap"},           {SIGABRT, "Aborted"},
                 {SIGBUS, "Bus error"},       {SIGFPE, "Floating point exception"},
                 {SIGKILL, "Killed"},         {SIGSEGV, "Segmentation fault"},
                 {SIGPIPE, "Broken pipe"},    {SIGALRM, "Alarm clock"},
                 {SIGTERM, "Terminated"},     {SIGXCPU, "CPU time limit exceeded"},
                 {SIGSYS, "Bad system call"}, {SIGXFSZ, "File size limit exceeded"},
                 {SIGUSR1, "User signal 1"},  {SIGUSR2, "User signal 2"}};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (names[i].number == number) {
            return names[i].name;
        }
    }
    return "other signal";
}

static int child_status(const struct child_result *r, const nq_task *task, char *out, size_t size)
{
    char buf[128];
    if (!r->started) {
        return snprintf(out, size, "cannot start the command: %s", strerror_r(r->error, buf, sizeof buf));
    }
    if (r->cause == NQ_CAUSE_TIMEOUT) {
        return snprintf(out, size, "timed out after %g s%s", (double)task->timeout_us / 1e6,
                        r->killed ? " and had to be killed" : "");
    }
    if (r->cause != NQ_CAUSE_NONE) {
        return snprintf(out, size, "stopped: %s", r->cause == NQ_CAUSE_SHUTDOWN ? "shutdown" : "lease lost");
    }
    if (r->exited) {
        return snprintf(out, size, "exit status %d", r->status);
    }
    return snprintf(out, size, "killed by signal %d (%s)", r->status, child_signal(r->status));
}

void child_describe(const struct child_result *r, const nq_task *task, char out[NQ_MAX_ERROR + 1])
{
    char ring[CHILD_TAIL];
    size_t kept = r->tail_n < CHILD_TAIL ? r->tail_n : CHILD_TAIL;
    for (size_t i = 0; i < kept; i++) {
        ring[i] = r->tail[(r->tail_n - kept + i) % CHILD_TAIL];
    }
    while (kept > 0 && strchr(" \t\r\n", ring[kept - 1]) != NULL && ring[kept - 1] != '\0') {
        kept--;
    }
    int n = child_status(r, task, out, 256);
    size_t at = n > 0 ? (size_t)n : 0, from = 0;
    if (kept == 0) {
        return;
    }
    out[at++] = ':';
    out[at++] = ' ';
    if (kept > NQ_MAX_ERROR - at) {
        from = kept - (NQ_MAX_ERROR - at);
    }
    while (from > 0 && from < kept && ((unsigned char)ring[from] & 0xC0) == 0x80) {
        from++; /* not in the middle of a character */
    }
    while (from < kept) { /* the database keeps text: other bytes become ? */
        uint32_t c;
        size_t used = text_decode(ring + from, kept - from, &c);
        if (used == 0 || c == 0) {
            out[at++] = '?';
            from++;
            continue;
        }
        memcpy(out + at, ring + from, used);
        at += used;
        from += used;
    }
    out[at] = '\0';
}
