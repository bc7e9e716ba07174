/* SPDX-License-Identifier: MIT */
/* Rows: the dashboard with many tasks in the tables: what a view's requests take, one after the other, and
 * the memory with 64 browsers that listen. */
#include <netinet/in.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench.h"

enum { PAGES_RUNS = 15, PAGES_STREAMS = 64, PAGES_PORT = 18093 };

struct pages_view {
    const char *name;
    const char *requests[4]; /* what the view's script asks for */
};

static const struct pages_view pages_views[] = {
    {"overview", {"overview?window=15m", "tasks?state=dead&order=newest&limit=6"}},
    {"overview, 24 h", {"overview?window=24h", "tasks?state=dead&order=newest&limit=6"}},
    {"tasks", {"tasks?limit=50", "tasks/count"}},
    {"tasks, dead of a queue", {"tasks?limit=50&state=dead&queue=q1", "tasks/count?state=dead&queue=q1"}},
    {"tasks, running", {"tasks?limit=50&state=running", "tasks/count?state=running"}},
    {"tasks, text", {"tasks?limit=50&text=needle"}}, /* not counted where the page gave up */
    {"tasks, deep page", {"tasks?limit=50&after=3000000", "tasks/count"}},
    {"task, done", {"tasks/1000", "tasks/1000/why", "tasks/1000/logs"}},
    {"queues", {"queues"}},
    {"workers", {"workers"}},
    {"types", {"types?window=1h"}},
    {"schedules", {"schedules"}},
};
/* The doctor looks at more than a view does, and only when it is asked to. */
static const struct pages_view pages_doctor = {"doctor", {"doctor"}};

static char pages_program[512]; /* beside the directory of this one */

static void pages_find(void)
{
    ssize_t n = readlink("/proc/self/exe", pages_program, sizeof pages_program - 32);
    for (int k = 0; k < 2 && n > 0; k++)
        while (n > 0 && pages_program[--n] != '/')
            ;
    if (n <= 0)
        bench_die("cannot find the directory of this program");
    snprintf(pages_program + n, sizeof pages_program - (size_t)n, "/nanoq-dashboard");
}

static int pages_connect(void)
{
    const struct sockaddr_in to = {
        .sin_family = AF_INET, .sin_port = htons(PAGES_PORT), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        bench_die("no socket");
    if (connect(fd, (const struct sockaddr *)&to, sizeof to)) {
        close(fd);
        return -1;
    }
    return fd;
}

static int pages_ask(const char *what)
{
    char text[256];
    const int n = snprintf(text, sizeof text,
                           "GET /api/v1/%s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nConnection: close\r\n\r\n", what,
                           PAGES_PORT);
    const int fd = pages_connect();
    if (fd < 0 || write(fd, text, (size_t)n) != n)
        bench_die("the dashboard does not answer");
    return fd;
}

/* The whole answer, on a connection of its own. */
static void pages_get(const char *what)
{
    char buf[16384], status[16] = "";
    const int fd = pages_ask(what);
    size_t have = 0;
    ssize_t n;
    while ((n = read(fd, buf, sizeof buf)) > 0) {
        for (ssize_t i = 0; i < n && have < 12; i++)
            status[have++] = buf[i];
    }
    close(fd);
    if (strcmp(status, "HTTP/1.1 200") != 0)
        bench_die("%s: %s", what, status);
}

static pid_t pages_start(const bench_db *db)
{
    char listen[32];
    snprintf(listen, sizeof listen, "127.0.0.1:%d", PAGES_PORT);
    const pid_t pid = fork();
    if (pid < 0)
        bench_die("cannot fork");
    if (pid == 0) {
        if (!freopen("/dev/null", "we", stderr))
            _exit(127);
        execl(pages_program, "nanoq-dashboard", "--db", db->url, "--listen", listen, (char *)NULL);
        _exit(127);
    }
    for (int i = 0; i < 500; i++) {
        const int fd = pages_connect();
        if (fd >= 0) {
            close(fd);
            return pid;
        }
        if (waitpid(pid, NULL, WNOHANG) == pid)
            break;
        bench_sleep(0.02);
    }
    bench_die("%s cannot be started; is it built?", pages_program);
}

static void pages_time(bench *b, const bench_db *db, const struct pages_view *view)
{
    char row[80];
    snprintf(row, sizeof row, "pages %s, %s", db->name, view->name);
    for (int i = 0; i < PAGES_RUNS; i++) {
        const double start = bench_seconds();
        for (size_t k = 0; k < 4 && view->requests[k]; k++)
            pages_get(view->requests[k]);
        if (i > 0) /* the first one reads what is not in memory yet */
            bench_add(b, row, "dashboard", "ms", 0, (bench_seconds() - start) * 1e3);
    }
}

static double pages_rss(pid_t pid)
{
    char path[64], line[256];
    double kb = 0;
    snprintf(path, sizeof path, "/proc/%ld/status", (long)pid);
    FILE *f = fopen(path, "re");
    while (f && fgets(line, sizeof line, f))
        if (strncmp(line, "VmRSS:", 6) == 0)
            kb = strtod(line + 6, NULL);
    if (f)
        fclose(f);
    return kb / 1024;
}

static void pages_streams(bench *b, const bench_db *db, pid_t pid)
{
    int fd[PAGES_STREAMS];
    char row[80], buf[4096];
    for (int i = 0; i < PAGES_STREAMS; i++)
        fd[i] = pages_ask("events");
    for (int i = 0; i < PAGES_STREAMS; i++)
        if (read(fd[i], buf, sizeof buf) <= 0)
            bench_die("a stream ended");
    bench_sleep(3); /* a few samples */
    snprintf(row, sizeof row, "pages %s, memory with %d streams", db->name, PAGES_STREAMS);
    bench_add(b, row, "dashboard", "MB", 0, pages_rss(pid));
    for (int i = 0; i < PAGES_STREAMS; i++)
        close(fd[i]);
}

static void pages_row(bench *b, const bench_db *db)
{
    pages_find();
    bench_history(b, db, bench_amount(b, b->huge ? 10e6 : 5e6));
    const pid_t pid = pages_start(db);
    for (size_t i = 0; i < sizeof pages_views / sizeof pages_views[0]; i++)
        pages_time(b, db, &pages_views[i]);
    pages_time(b, db, &pages_doctor);
    pages_streams(b, db, pid);
    kill(pid, SIGTERM);
    waitpid(pid, NULL, 0);
}

static void pages_mysql(bench *b)
{
    pages_row(b, &b->mysql);
}

static void pages_sqlite(bench *b)
{
    pages_row(b, &b->sqlite_normal);
}

const bench_row bench_pages_rows[] = {
    {"pages-mariadb", pages_mysql, true}, {"pages-sqlite", pages_sqlite, false}, {NULL, NULL, false}};
