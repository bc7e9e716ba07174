/* SPDX-License-Identifier: MIT */
/* What the rest of the command stands on: its settings, memory that ends the program when it is not to be
 * had, threads, clocks. */
#include <pthread.h>
#include <pwd.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "cli.h"

struct cli_settings cli;

static void base_no_memory(void)
{
    if (cli.leave)
        cli.leave();
    fputs("nanoq: out of memory\n", stderr);
    _exit(CLI_FAILURE);
}

void *cli_alloc(size_t n)
{
    void *p = calloc(1, n > 0 ? n : 1);
    if (!p)
        base_no_memory();
    return p;
}

void *cli_realloc(void *p, size_t n)
{
    void *bigger = n <= PTRDIFF_MAX ? realloc(p, n > 0 ? n : 1) : NULL;
    if (!bigger)
        base_no_memory();
    return bigger;
}

char *cli_format(const char *fmt, ...)
{
    char *out = NULL;
    va_list args;
    va_start(args, fmt);
    int n = vasprintf(&out, fmt, args);
    va_end(args);
    if (n < 0)
        base_no_memory();
    return out;
}

bool cli_fancy(FILE *stream)
{
    const char *no = getenv("NO_COLOR"), *term = getenv("TERM");
    return isatty(fileno(stream)) && (!no || *no == '\0') && (!term || strcmp(term, "dumb") != 0);
}

int cli_thread(pthread_t *thread, void *(*run)(void *), void *arg)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    const int failed = pthread_create(thread, NULL, run, arg);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return failed;
}

int64_t cli_now_us(int clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

const char *cli_log_level(int level)
{
    static const char *const names[] = {"debug", "info", "warning", "error"};
    return names[level];
}

char *cli_user_path(const char *variable, const char *below_home, const char *name)
{
    const char *base = getenv(variable), *home = getenv("HOME");
    if (base && base[0] == '/')
        return cli_format("%s/%s", base, name);
    const struct passwd *user = home && home[0] == '/' ? NULL : getpwuid(getuid());
    home = user ? user->pw_dir : home;
    return home && home[0] == '/' ? cli_format("%s/%s/%s", home, below_home, name) : NULL;
}
