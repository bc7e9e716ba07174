/* SPDX-License-Identifier: MIT */
/* nanoq demo: run a few hundred tasks through worker processes, watch them, and check the accounts. */
#include "demo.h"

#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define DEMO_WORKERS  4 /* two for the first queue, one for each other */
#define DEMO_LIMIT_US NQ_SECONDS(120)

struct demo_run {
    struct demo d;
    char *url;       /* what the workers open */
    char *directory; /* of the temporary database, or NULL */
    pid_t workers[DEMO_WORKERS];
    unsigned failures; /* of workers, other than the crashes that are part of it */
};

static volatile sig_atomic_t demo_stopped;
extern char **environ;

static void demo_signal(int number)
{
    (void)number;
    demo_stopped = 1;
}

/* ---- workers: processes by exec of ourselves, so that no thread or handle of ours is there */

static char **demo_env(const char *url)
{
    size_t n = 0, kept = 0;
    while (environ[n] != NULL) {
        n++;
    }
    char **env = cli_alloc((n + 2) * sizeof env[0]);
    for (size_t i = 0; i < n; i++) {
        if (strncmp(environ[i], "NANOQ_DB=", 9) != 0) {
            env[kept++] = environ[i];
        }
    }
    env[kept] = cli_format("NANOQ_DB=%s", url);
    return env;
}

static bool demo_spawn(struct demo_run *r, size_t i)
{
    char parent[16], buf[128];
    char name[] = "nanoq", command[] = "demo-worker", risky[] = "risky", plain[] = "plain", fast[] = "fast",
         slow[] = "slow";
    size_t queue = i == 0 ? 0 : i - 1;
    snprintf(parent, sizeof parent, "%d", (int)getpid());
    char *argv[] = {
        name, command, parent, r->d.queues[queue], queue > 0 ? risky : plain, r->d.fast ? fast : slow, NULL};
    char **env = demo_env(r->url);
    int failed = posix_spawn(&r->workers[i], "/proc/self/exe", NULL, NULL, argv, env);
    for (size_t e = 0; env[e] != NULL; e++) {
        if (strncmp(env[e], "NANOQ_DB=", 9) == 0) {
            free(env[e]);
            break;
        }
    }
    free(env);
    if (failed != 0) {
        r->workers[i] = 0;
        cli_complain("cannot start a worker: %s", strerror_r(failed, buf, sizeof buf));
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
            if (WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT) {
                r->d.crashes++;
            } else {
                r->failures++;
            }
            if (r->failures > 3) {
                cli_complain("workers end again and again (status %#x)", (unsigned)status);
                return false;
            }
            if (!demo_spawn(r, i)) {
                return false;
            }
        }
    }
    return true;
}

static void demo_end_workers(struct demo_run *r)
{
    int64_t until = cli_now_us(CLOCK_MONOTONIC) + NQ_SECONDS(10);
    for (size_t i = 0; i < DEMO_WORKERS; i++) {
        if (r->workers[i] != 0) {
            kill(r->workers[i], SIGTERM);
        }
    }
    for (size_t i = 0; i < DEMO_WORKERS; i++) {
        while (r->workers[i] != 0 && waitpid(r->workers[i], NULL, WNOHANG) == 0) {
            if (cli_now_us(CLOCK_MONOTONIC) > until) {
                kill(r->workers[i], SIGKILL);
            }
            poll(NULL, 0, 10);
        }
        r->workers[i] = 0;
    }
}

/* ---- the course of it */

static int demo_watch(struct demo_run *r)
{
    struct demo *d = &r->d;
    int64_t shown = 0;
    for (;;) {
        int code = demo_tend(r) ? demo_look(d) : CLI_FAILURE;
        if (code != CLI_OK) {
            return code;
        }
        int64_t now = cli_now_us(CLOCK_MONOTONIC);
        bool over = d->now.due + d->now.delayed + d->now.running == 0;
        if (over || demo_stopped || now - shown >= (d->fancy ? 100000 : 1000000)) {
            demo_draw(d);
            shown = now;
        }
        if (over) {
            return CLI_OK;
        }
        if (demo_stopped) {
            cli_complain("stopped");
            return CLI_FAILURE;
        }
        if (now - d->started > DEMO_LIMIT_US) {
            cli_complain("not done after 120 s");
            return CLI_FAILURE;
        }
        poll(NULL, 0, 100);
    }
}

static int demo_course(struct demo_run *r)
{
    struct demo *d = &r->d;
    int code = demo_enqueue(d);
    for (size_t i = 0; i < DEMO_WORKERS && code == CLI_OK; i++) {
        code = demo_spawn(r, i) ? CLI_OK : CLI_FAILURE;
    }
    code = code == CLI_OK ? demo_watch(r) : code;
    demo_end_workers(r);
    if (code == CLI_OK) {
        code = demo_count(d);
    }
    if (code == CLI_OK) {
        demo_summary(d);
        if (demo_adds_up(d)) {
            puts("  it adds up: every task ended as planned");
        } else {
            code = CLI_FAILURE;
        }
    }
    return code;
}

/* ---- the temporary database */

static bool demo_directory(struct demo_run *r)
{
    char buf[128];
    const char *base = getenv("TMPDIR");
    r->directory = cli_format("%s/nanoq-demo-XXXXXX", base != NULL && base[0] == '/' ? base : "/tmp");
    if (mkdtemp(r->directory) == NULL) {
        cli_complain("cannot make a directory %s: %s", r->directory, strerror_r(errno, buf, sizeof buf));
        free(r->directory);
        r->directory = NULL;
        return false;
    }
    char *path = cli_format("%s/demo.db", r->directory);
    r->url = cli_sqlite_url(path);
    printf("database: %s (removed at the end)\n", path);
    free(path);
    return true;
}

static void demo_remove(const char *directory)
{
    DIR *dir = opendir(directory);
    const struct dirent *entry;
    while (dir != NULL && (entry = readdir(dir)) != NULL) {
        if (strncmp(entry->d_name, "demo.db", 7) == 0) {
            unlinkat(dirfd(dir), entry->d_name, 0);
        }
    }
    if (dir != NULL) {
        closedir(dir);
    }
    rmdir(directory);
}

static int demo_prepare(struct demo_run *r)
{
    int code = CLI_OK;
    bool own = false;
    if (cli.db != NULL) {
        r->url = cli_url(&code, &own);
    } else {
        code = demo_directory(r) ? CLI_OK : CLI_FAILURE;
        cli.db = r->url;
    }
    cli.makes_database = true;
    code = code == CLI_OK ? cli_open(&r->d.q) : code;
    if (code == CLI_OK && r->directory != NULL) {
        nq_err err = {0};
        code = nq_migrate(r->d.q, &err) == NQ_OK ? CLI_OK : cli_fail(&err);
    }
    return code;
}

static int demo_all(struct demo_run *r)
{
    struct demo *d = &r->d;
    struct sigaction action = {.sa_handler = demo_signal};
    int code;
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGHUP, &action, NULL);
    d->started = cli_now_us(CLOCK_MONOTONIC);
    d->fancy = cli_fancy(stdout);
    long long name = cli_now_us(CLOCK_REALTIME);
    for (size_t i = 0; i < DEMO_QUEUES; i++) {
        static const char *const ends[DEMO_QUEUES] = {"", ".crash", ".poison"};
        snprintf(d->queues[i], sizeof d->queues[i], "demo.%d.%llx%s", (int)getpid(), (unsigned long long)name,
                 ends[i]);
    }
    code = demo_prepare(r);
    if (code == CLI_OK) {
        code = demo_course(r);
    }
    if (d->q != NULL && r->directory == NULL) {
        code = cli_worse(code, demo_delete(d));
    }
    nq_close(d->q);
    if (r->directory != NULL) {
        demo_remove(r->directory);
    }
    if (r->url != NULL) {
        explicit_bzero(r->url, strlen(r->url));
    }
    free(r->url);
    free(r->directory);
    return code;
}

static int demo_run(int argc, char **argv)
{
    struct demo_run r = {0};
    struct cli_parse parse;
    const char *value;
    int key;
    cli_parse_start(&parse, &cli_demo);
    while ((key = cli_parse_next(&parse, argc, argv, &value)) >= 0) {
        r.d.fast = true;
    }
    if (key != CLI_PARSE_END) {
        return key == CLI_PARSE_HELP ? CLI_OK : CLI_USAGE;
    }
    if (optind < argc) {
        return cli_usage("takes no argument '%s'", argv[optind]);
    }
    return demo_all(&r);
}

static const struct cli_option demo_options[] = {
    {256, "fast", NULL, "shorter tasks and delays"},
    {CLI_KEY_DB, "db", "URL", "run it there (migrated already); default: a temporary SQLite file"},
    CLI_OPTION_END,
};
const struct cli_command cli_demo = {
    .name = "demo",
    .args = "[--fast] [--db URL]",
    .summary = "Watch a few hundred tasks being run, retried, timed out and crashed",
    .options = demo_options,
    .notes =
        "It uses queues of its own and removes what it made. Exit code 1 when the accounts do not add up.\n",
    .run = demo_run,
};
