/* SPDX-License-Identifier: MIT */
/* nanoq dashboard: run nanoq-dashboard, a program of its own, where it is installed. */
#include <errno.h>
#include <unistd.h>

#include "../cli.h"

#define DASHBOARD_PROGRAM "nanoq-dashboard"

/* Beside this program, where there is one; else as PATH finds it. */
static char *dashboard_path(void)
{
    char self[4096];
    const ssize_t n = readlink("/proc/self/exe", self, sizeof self);
    const char *slash = n > 0 && (size_t)n < sizeof self ? memrchr(self, '/', (size_t)n) : NULL;
    char *path = slash ? cli_format("%.*s/" DASHBOARD_PROGRAM, (int)(slash - self), self) : NULL;
    if (path && access(path, X_OK) == 0)
        return path;
    free(path);
    return cli_format("%s", DASHBOARD_PROGRAM);
}

static int dashboard_run(int argc, char **argv)
{
    char **args = cli_alloc(((size_t)argc + 3) * sizeof args[0]);
    char option[] = "--config", *path = dashboard_path(), buf[128];
    int n = 0;
    args[n++] = path;
    if (cli.config) { /* from before the command */
        args[n++] = option;
        args[n++] = (char *)(uintptr_t)cli.config;
    }
    for (int i = 1; i < argc; i++) {
        /* A URL may hold a password, which ps shall not show: it goes by the environment. */
        if (strcmp(argv[i], "--db") == 0 && i + 1 < argc)
            cli.db = argv[++i];
        else if (strncmp(argv[i], "--db=", 5) == 0)
            cli.db = argv[i] + 5;
        else
            args[n++] = argv[i];
    }
    if (cli.db && setenv("NANOQ_DB", cli.db, 1) != 0) {
        cli_complain("out of memory");
    } else {
        execvp(path, args);
        if (errno == ENOENT)
            cli_complain(DASHBOARD_PROGRAM
                         " is not installed: it is a package of its own, and is built where "
                         "libmicrohttpd and npm are to be had: docs/dashboard.md");
        else
            cli_complain("cannot run %s: %s", path, strerror_r(errno, buf, sizeof buf));
    }
    free(path);
    free(args);
    return CLI_FAILURE;
}

static const struct cli_option dashboard_options[] = {CLI_OPTION_DB, CLI_OPTION_END};
const struct cli_command cli_dashboard = {
    .name = "dashboard",
    .args = "[OPTION...]",
    .summary = "Serve pages that show and steer all this: nanoq-dashboard, where it is installed",
    .options = dashboard_options,
    .notes = "All options are those of nanoq-dashboard: nanoq dashboard --help\n",
    .run = dashboard_run,
};
