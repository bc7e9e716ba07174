/* SPDX-License-Identifier: MIT */
/* The workload: its roles, options, notes and payloads. Usage: load ROLE url=URL history=FILE [name=value
 * ...] */
#include "load.h"

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/wait.h>

static char **load_argv;
static int load_fd = -1;
static uint64_t load_seed = 88172645463325252u;
volatile sig_atomic_t load_stop;

void load_on_term(int number)
{
    (void)number;
    load_stop = 1;
}

const char *load_text(const char *name, const char *fallback)
{
    const size_t n = strlen(name);
    for (char **a = load_argv; *a; a++)
        if (strncmp(*a, name, n) == 0 && (*a)[n] == '=')
            return *a + n + 1;
    return fallback;
}

int64_t load_number(const char *name, int64_t fallback)
{
    const char *text = load_text(name, NULL);
    return text ? strtoll(text, NULL, 10) : fallback;
}

static int64_t load_clock(clockid_t id)
{
    struct timespec ts;
    clock_gettime(id, &ts);
    return (int64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

int64_t load_mono(void)
{
    return load_clock(CLOCK_MONOTONIC);
}

void load_sleep(int64_t us)
{
    struct timespec ts = {us / 1000000, (long)(us % 1000000) * 1000};
    if (us > 0)
        nanosleep(&ts, NULL);
}

/* Of the process's main thread, or where order does not matter. */
uint64_t load_random(uint64_t below)
{
    load_seed ^= load_seed << 13;
    load_seed ^= load_seed >> 7;
    load_seed ^= load_seed << 17;
    return below ? load_seed % below : 0;
}

void load_note(const char *kind, const char *fmt, ...)
{
    char line[1024];
    int n = snprintf(line, 200, "%s %ld %lld %lld ", kind, (long)getpid(), (long long)load_mono(),
                     (long long)load_clock(CLOCK_REALTIME));
    va_list args;
    va_start(args, fmt);
    n += vsnprintf(line + n, sizeof line - (size_t)n - 1, fmt, args);
    va_end(args);
    if (n > (int)sizeof line - 2)
        n = (int)sizeof line - 2;
    for (int i = 0; i < n; i++)
        if (line[i] == '\n')
            line[i] = ' ';
    line[n++] = '\n';
    if (write(load_fd, line, (size_t)n) != n) {
        perror("load: history");
        _exit(9);
    }
}

/* ---- Payloads -------------------------------------------------------------------------------- */

static void load_fill(const char *key, unsigned char *p, size_t n)
{
    uint64_t x = 1469598103934665603u;
    for (; *key; key++)
        x = (x ^ (unsigned char)*key) * 1099511628211u;
    for (size_t i = 0; i < n; i++) {
        x = x * 6364136223846793005u + 1442695040888963407u;
        p[i] = (unsigned char)(x >> 56);
    }
}

void *load_payload(const struct load_task *t, size_t *size)
{
    char *p = malloc(160 + t->fill);
    if (!p)
        abort();
    const int n = snprintf(p, 160, "%s %c %d %d %zu\n", t->key, t->mode, t->work_ms, t->delay_ms, t->fill);
    load_fill(t->key, (unsigned char *)p + n, t->fill);
    *size = (size_t)n + t->fill;
    return p;
}

int load_parse(const void *payload, size_t size, struct load_task *t)
{
    const char *line = payload, *end = memchr(line, '\n', size);
    size_t again = 0;
    memset(t, 0, sizeof *t);
    if (!end || sscanf(line, "%79s %c %d %d %zu", t->key, &t->mode, &t->work_ms, &t->delay_ms, &t->fill) != 5)
        return 0;
    void *p = load_payload(t, &again);
    const int same = again == size && memcmp(p, payload, size) == 0;
    free(p);
    return same;
}

void *load_result(const char *key, unsigned gen, size_t *size)
{
    struct load_task t = {.mode = 'R'};
    uint64_t x = gen;
    for (const char *p = key; *p; p++)
        x = (x ^ (unsigned char)*p) * 1099511628211u;
    *size = 0;
    if ((x >> 20) % 4 == 0)
        return NULL;
    snprintf(t.key, sizeof t.key, "%.60s@%u", key, gen);
    t.fill = (size_t)((x >> 24) % ((x >> 44) % 10 ? 100 : 5000));
    return load_payload(&t, size);
}

/* ---- Roles ----------------------------------------------------------------------------------- */

/* What the library logs as a warning or an error is an error that surfaced. */
static void load_log(enum nq_log_level level, const char *message, void *udata)
{
    (void)udata;
    if (strstr(message, "declared dead"))
        load_note("DECLARED", "-");
    if (level >= NQ_LOG_WARN)
        load_note("LOG", "level=%d %.700s", (int)level, message);
}

nq *load_open(void)
{
    const nq_options opts = {.size = sizeof opts, .log = load_log};
    nq_err err;
    nq *q = NULL;
    /* A worker started while the database is away: as a service manager would, try until it answers. */
    const int64_t until = load_mono() + NQ_SECONDS(load_number("patience", 20));
    for (;;) {
        const int rc = nq_open(&q, load_text("url", ""), &opts, &err);
        if (rc == NQ_OK)
            return q;
        if (rc != NQ_EUNAVAILABLE || load_mono() > until) {
            load_note("NOTOPEN", "code=%d db=%d %s", rc, err.db_code, err.message);
            fprintf(stderr, "load: %s\n", err.message);
            exit(8);
        }
        load_sleep(NQ_MS(20));
    }
}

static int load_migrate(void)
{
    nq *q = load_open();
    nq_err err;
    const int rc = nq_migrate(q, &err);
    if (rc != NQ_OK)
        fprintf(stderr, "load: %s\n", err.message);
    nq_close(q);
    return rc ? 1 : 0;
}

/* forked=N: so many children of fork play the role instead. Each opens anew the database that this process
 * had open when it forked them. */
static int load_forked(int (*run)(void))
{
    pid_t children[8];
    const int64_t wanted = load_number("forked", 0);
    const size_t n = wanted < 8 ? (size_t)wanted : 8;
    nq *before = load_open();
    signal(SIGTERM, load_on_term);
    for (size_t i = 0; i < n; i++) {
        load_random(0); /* each does something else */
        if ((children[i] = fork()) == 0) {
            signal(SIGTERM, SIG_DFL);
            prctl(PR_SET_PDEATHSIG, SIGTERM);
            return run();
        }
    }
    nq_close(before);
    while (!load_stop)
        load_sleep(NQ_MS(10));
    for (size_t i = 0; i < n; i++)
        kill(children[i], SIGTERM);
    for (size_t i = 0; i < n; i++)
        waitpid(children[i], NULL, 0);
    return 0;
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        int (*run)(void);
    } roles[] = {{"migrate", load_migrate}, {"produce", load_produce}, {"hold", load_hold},
                 {"work", load_work},       {"wait", load_wait},       {"steer", load_steer},
                 {"fork", load_fork},       {"effect", load_effect}};
    load_argv = argc > 2 ? argv + 2 : argv + argc;
    signal(SIGPIPE, SIG_IGN);
    load_fd = open(load_text("history", "/dev/null"), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    if (load_fd < 0) {
        perror("load: history");
        return 9;
    }
    load_seed ^= (uint64_t)load_number("seed", 1) * 2685821657736338717u;
    load_random(0);
    for (size_t i = 0; argc > 1 && i < sizeof roles / sizeof *roles; i++)
        if (strcmp(argv[1], roles[i].name) == 0)
            return load_number("forked", 0) > 0 ? load_forked(roles[i].run) : roles[i].run();
    fprintf(stderr, "usage: load migrate|produce|hold|work|wait|steer|fork|effect url=URL history=FILE "
                    "[name=value ...]\n");
    return 2;
}
