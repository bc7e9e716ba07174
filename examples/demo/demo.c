/* SPDX-License-Identifier: MIT */
/* demo [--fast] [--db URL]: run a few hundred tasks through worker processes, watch them, and check the
 * accounts.
 */
#include "demo.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define DEMO_WORKERS  4 /* two for the first queue, one for each other */
#define DEMO_LIMIT_US NQ_SECONDS(120)

struct demo_run {
    struct demo d;
    char url[1024];      /* what the workers open */
    char directory[256]; /* of the temporary database, or "" */
    pid_t workers[DEMO_WORKERS];
    unsigned failures; /* of workers, other than the crashes that are part of it */
};

extern char **environ;

/* ---- workers: processes by exec of ourselves, so that no thread or handle of ours is there */

/* The address of the database may hold a password: in the environment nobody else sees it. */
static char **demo_env(const char *variable)
{
    size_t n = 0, kept = 0;
    while (environ[n])
        n++;
    char **env = demo_alloc((n + 2) * sizeof env[0]);
    for (size_t i = 0; i < n; i++)
        if (strncmp(environ[i], "NANOQ_DB=", 9) != 0)
            env[kept++] = environ[i];
    env[kept] = (char *)(uintptr_t)variable; /* posix_spawn does not change it */
    return env;
}

static bool demo_spawn(struct demo_run *r, size_t i)
{
    char parent[16], buf[128], variable[sizeof r->url + 16];
    char name[] = "demo", command[] = "--worker", risky[] = "risky", plain[] = "plain", fast[] = "fast",
         slow[] = "slow";
    size_t queue = i == 0 ? 0 : i - 1;
    snprintf(parent, sizeof parent, "%d", (int)getpid());
    snprintf(variable, sizeof variable, "NANOQ_DB=%s", r->url);
    char *argv[] = {
        name, command, parent, r->d.queues[queue], queue > 0 ? risky : plain, r->d.fast ? fast : slow, NULL};
    char **env = demo_env(variable);
    int failed = posix_spawn(&r->workers[i], "/proc/self/exe", NULL, NULL, argv, env);
    explicit_bzero(variable, sizeof variable);
    free(env);
    if (failed != 0) {
        r->workers[i] = 0;
        demo_complain("cannot start a worker: %s", strerror_r(failed, buf, sizeof buf));
    }
    return failed == 0;
}

/* Replace workers that ended. */
static bool demo_tend(struct demo_run *r)
{
    for (size_t i = 0; i < DEMO_WORKERS; i++) {
        int status;
        if (r->workers[i] != 0 && waitpid(r->workers[i], &status, WNOHANG) == r->workers[i]) {
            r->workers[i] = 0;
            if (WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT)
                r->d.crashes++;
            else
                r->failures++;
            if (r->failures > 3) {
                demo_complain("workers end again and again (status %#x)", (unsigned)status);
                return false;
            }
            if (!demo_spawn(r, i))
                return false;
        }
    }
    return true;
}

static void demo_end_workers(struct demo_run *r)
{
    int64_t until = demo_now_us() + NQ_SECONDS(10);
    for (size_t i = 0; i < DEMO_WORKERS; i++)
        if (r->workers[i] != 0)
            kill(r->workers[i], SIGTERM);
    for (size_t i = 0; i < DEMO_WORKERS; i++) {
        while (r->workers[i] != 0 && waitpid(r->workers[i], NULL, WNOHANG) == 0) {
            if (demo_now_us() > until)
                kill(r->workers[i], SIGKILL);
            poll(NULL, 0, 10);
        }
        r->workers[i] = 0;
    }
}

/* ---- the course of it */

static bool demo_watch(struct demo_run *r)
{
    struct demo *d = &r->d;
    int64_t shown = 0;
    for (;;) {
        if (!demo_tend(r) || !demo_look(d))
            return false;
        int64_t now = demo_now_us();
        bool over = d->now.due + d->now.delayed + d->now.running == 0;
        if (over || demo_stopped() || now - shown >= (d->live ? 100000 : 1000000)) {
            demo_draw(d);
            shown = now;
        }
        if (demo_stopped()) {
            demo_complain("stopped");
            return false;
        }
        if (over)
            return true;
        if (now - d->started > DEMO_LIMIT_US) {
            demo_complain("not done after 120 s");
            return false;
        }
        poll(NULL, 0, 100);
    }
}

static bool demo_course(struct demo_run *r)
{
    struct demo *d = &r->d;
    bool good = demo_enqueue(d);
    for (size_t i = 0; i < DEMO_WORKERS && good; i++)
        good = demo_spawn(r, i);
    good = good && demo_watch(r);
    demo_end_workers(r);
    if (!good || !demo_count(d))
        return false;
    demo_summary(d);
    good = demo_adds_up(d);
    if (good)
        puts("  it adds up: every task ended as planned");
    return good && fflush(stdout) == 0;
}

/* ---- the database */

/* The temporary one: a SQLite file in a directory of its own. */
static bool demo_directory(struct demo_run *r)
{
    char buf[128];
    const char *base = getenv("TMPDIR");
    int n = snprintf(r->directory, sizeof r->directory, "%s/nanoq-demo-XXXXXX",
                     base && base[0] == '/' ? base : "/tmp");
    if (n < 0 || (size_t)n >= sizeof r->directory || !mkdtemp(r->directory)) {
        demo_complain("cannot make a directory %s: %s", r->directory, strerror_r(errno, buf, sizeof buf));
        r->directory[0] = '\0';
        return false;
    }
    size_t at = (size_t)snprintf(r->url, sizeof r->url, "sqlite:");
    for (const char *p = r->directory; *p; p++) { /* some characters mean something in a URL */
        bool plain = isalnum((unsigned char)*p) || strchr("/._-", *p);
        at += (size_t)snprintf(r->url + at, sizeof r->url - at, plain ? "%c" : "%%%02X", (unsigned char)*p);
    }
    snprintf(r->url + at, sizeof r->url - at, "/demo.db");
    printf("database: %s/demo.db (removed at the end)\n", r->directory);
    return true;
}

static void demo_remove(const char *directory)
{
    DIR *dir = opendir(directory);
    const struct dirent *entry;
    while (dir && (entry = readdir(dir)))
        if (strncmp(entry->d_name, "demo.db", 7) == 0)
            unlinkat(dirfd(dir), entry->d_name, 0);
    if (dir)
        closedir(dir);
    rmdir(directory);
}

static bool demo_prepare(struct demo_run *r)
{
    nq_err err = {0};
    if (!r->url[0] && !demo_directory(r))
        return false;
    if (!demo_open(&r->d.q, r->url))
        return false;
    return !r->directory[0] || nq_migrate(r->d.q, &err) == NQ_OK || demo_fail(&err);
}

/* Nothing of the demo stays in a database that is not its own, however it ended. */
static bool demo_tidy(struct demo *d)
{
    size_t left;
    if (!demo_delete(d, &left))
        return false;
    if (left == 0)
        return true;
    bool swept = demo_sweep(d, NQ_SECONDS(10));
    if (swept && demo_delete(d, &left) && left > 0) {
        demo_complain("%zu tasks are left in the queues %s*", left, d->queues[0]);
        swept = false;
    }
    return swept;
}

static void demo_signals(void)
{
    const struct sigaction action = {.sa_handler = demo_stop};
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGHUP, &action, NULL);
    signal(SIGPIPE, SIG_IGN); /* demo_draw sees that nobody reads */
}

static bool demo_all(struct demo_run *r)
{
    static const char *const ends[DEMO_QUEUES] = {"", ".crash", ".poison"};
    struct demo *d = &r->d;
    const char *term = getenv("TERM"), *no_color = getenv("NO_COLOR");
    struct timespec now;
    demo_signals();
    clock_gettime(CLOCK_REALTIME, &now);
    d->started = demo_now_us();
    d->live = isatty(STDOUT_FILENO) && (!term || strcmp(term, "dumb") != 0);
    d->colour = !no_color || !*no_color;
    for (size_t i = 0; i < DEMO_QUEUES; i++) {
        snprintf(d->queues[i], sizeof d->queues[i], "demo.%d.%llx%s", (int)getpid(),
                 (unsigned long long)now.tv_sec * 1000000 + (unsigned long long)now.tv_nsec / 1000, ends[i]);
    }
    bool good = demo_prepare(r) && demo_course(r);
    if (d->q && !r->directory[0])
        good = demo_tidy(d) && good;
    nq_close(d->q);
    if (r->directory[0])
        demo_remove(r->directory);
    explicit_bzero(r->url, sizeof r->url);
    return good;
}

static int demo_usage(FILE *out)
{
    fputs("usage: demo [--fast] [--db URL]\n\n"
          "  --fast      shorter tasks and delays\n"
          "  --db URL    run it there (migrated already); default: a temporary SQLite file\n\n"
          "It uses queues of its own and removes what it made. Exit status 1 when the accounts do not add "
          "up.\n",
          out);
    return out == stdout ? 0 : 2;
}

int main(int argc, char **argv)
{
    static struct demo_run r;
    if (argc > 1 && strcmp(argv[1], "--worker") == 0)
        return demo_worker(argc - 2, argv + 2);
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--fast") == 0) {
            r.d.fast = true;
        } else if (strcmp(argv[i], "--db") == 0 && i + 1 < argc && strlen(argv[i + 1]) < sizeof r.url) {
            snprintf(r.url, sizeof r.url, "%s", argv[++i]);
            memset(argv[i], 'x', strlen(argv[i])); /* it may hold a password, and ps shows argv */
        } else {
            return demo_usage(strcmp(argv[i], "--help") == 0 ? stdout : stderr);
        }
    }
    return demo_all(&r) ? 0 : 1;
}
