/* SPDX-License-Identifier: MIT */
/* Fail the n-th allocation, system call, statement, file operation: the runs and their processes. */
#include "nth.h"

#include <fcntl.h>
#include <signal.h>
#include <sqlite3.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#define NTH_AT_ONCE 4
#define NTH_SECONDS                                                                                          \
    20 /* for one run: less than the time limit of a network call, which no run should wait for */
#define NTH_MISSES                                                                                           \
    3 /* so many runs without a failure end the series: threads do not always make as many calls */

/* LeakSanitizer, where it is linked. */
int __lsan_do_recoverable_leak_check(void) __attribute__((weak));

/* What the runs tell. */
struct nth_shared {
    long hits[NTH_AT_ONCE], counts[NTH_AT_ONCE];
    char wrong[NTH_AT_ONCE][2048]; /* said by nth_fail */
    char notes[NTH_NOTES][NTH_NOTE_SIZE];
};

static struct nth_shared *nth_told;
static int nth_at;             /* the slot of this process */
static char nth_template[600]; /* SQLite: a migrated, empty database */

char *nth_note(size_t k)
{
    return nth_told->notes[k];
}

bool nth_long(void)
{
    const char *value = getenv("NANOQ_FAULT_LONG");
    return value && *value && strcmp(value, "0") != 0;
}

void nth_fail(const nth_run *run, const char *fmt, ...)
{
    char *text = nth_told->wrong[nth_at];
    va_list ap;
    inject_stop();
    va_start(ap, fmt);
    vsnprintf(text, sizeof nth_told->wrong[nth_at], fmt, ap);
    va_end(ap);
    fprintf(stderr, "%s: %s\n", run->about, text);
    fflush(NULL);
    _exit(1);
}

/* ---- A fresh database for each run ---------------------------------------------------------- */

static void nth_copy(const char *from, const char *to)
{
    char buffer[65536];
    ssize_t n;
    int in = open(from, O_RDONLY | O_CLOEXEC), out = open(to, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    bool good = true;
    while ((n = read(in, buffer, sizeof buffer)) > 0)
        good = good && write(out, buffer, (size_t)n) == n;
    close(in);
    close(out);
    ck_assert_msg(n == 0 && good, "cannot copy %s", from);
}

static void nth_database(nth_run *run, int slot, const char *options)
{
    static const char *const beside[] = {"", "-wal", "-shm", "-journal", "-nanoq-lock"};
    static const char *const tables[] = {"tasks",    "finished", "followups", "workers", "orders",  "windows",
                                         "attempts", "results",  "tags",      "logs",    "minutes", "queues"};
    if (T_SQLITE) {
        char file[400];
        for (size_t i = 0; i < sizeof beside / sizeof *beside; i++) {
            snprintf(file, sizeof file, "%s/run%d.db%s", t_dir, slot, beside[i]);
            unlink(file);
        }
        snprintf(file, sizeof file, "%s/run%d.db", t_dir, slot);
        nth_copy(nth_template, file);
        snprintf(t_url, sizeof t_url, "sqlite:%s", file);
        snprintf(run->prefix, sizeof run->prefix, "nanoq_");
    } else {
        snprintf(run->prefix, sizeof run->prefix, "r%d_", slot);
    }
    t_conn *side = t_connect();
    for (size_t i = 0; T_MYSQL && i < sizeof tables / sizeof *tables; i++)
        t_run(side, "DELETE FROM %s%s", run->prefix, tables[i]);
    t_disconnect(side);
    snprintf(run->url, sizeof run->url, "%s?prefix=%s%s%s", t_url, run->prefix, *options ? "&" : "", options);
}

/* ---- One run -------------------------------------------------------------------------------- */

static void nth_child(const nth_case *c, long n, int slot)
{
    nth_run run = {.plan = {c->kind, c->how, n, c->persistent}};
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    alarm((unsigned)(NTH_SECONDS * t_slow_factor()));
    snprintf(run.about, sizeof run.about, "%s, n=%ld", c->name, n);
    if (c->kind == INJECT_FILE)
        inject_vfs();
    nth_database(&run, slot, c->options);
    inject_set(&run.plan);
    c->scenario(&run);
    inject_stop();
    if (inject_live() != 0) {
        inject_print_live();
        nth_fail(&run, "%zu allocations were not freed", inject_live());
    }
    NTH_CHECK(&run, sqlite3_memory_used() == 0, "%lld bytes of SQLite's were not freed",
              (long long)sqlite3_memory_used());
    if (__lsan_do_recoverable_leak_check)
        NTH_CHECK(&run, __lsan_do_recoverable_leak_check() == 0, "LeakSanitizer found leaks");
    nth_told->hits[slot] = inject_hits();
    nth_told->counts[slot] = inject_count();
    fflush(NULL);
    _exit(0);
}

struct nth_slot {
    pid_t pid;
    long n;
};

static void nth_start(const nth_case *c, struct nth_slot *slots, int at, long n)
{
    nth_told->hits[at] = nth_told->counts[at] = 0;
    nth_told->wrong[at][0] = '\0';
    nth_at = at;
    fflush(NULL);
    slots[at].n = n;
    slots[at].pid = fork();
    ck_assert_int_ge(slots[at].pid, 0);
    if (slots[at].pid == 0)
        nth_child(c, n, at);
}

/* Wait for one of the runs: which. */
static int nth_wait(const nth_case *c, struct nth_slot *slots)
{
    for (;;) {
        for (int i = 0; i < NTH_AT_ONCE; i++) {
            int status;
            if (slots[i].pid <= 0 || waitpid(slots[i].pid, &status, WNOHANG) != slots[i].pid)
                continue;
            slots[i].pid = 0;
            if (WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM)
                ck_abort_msg("%s, n=%ld: took longer than %d s", c->name, slots[i].n, NTH_SECONDS);
            ck_assert_msg(!WIFSIGNALED(status), "%s, n=%ld: signal %d", c->name, slots[i].n,
                          WTERMSIG(status));
            ck_assert_msg(WEXITSTATUS(status) == 0, "%s, n=%ld: status %d: %s", c->name, slots[i].n,
                          WEXITSTATUS(status), nth_told->wrong[i]);
            return i;
        }
        t_pause_ms(1);
    }
}

static int nth_free_slot(const struct nth_slot *slots)
{
    for (int i = 0; i < NTH_AT_ONCE; i++)
        if (slots[i].pid <= 0)
            return i;
    return -1;
}

/* ---- All of them ---------------------------------------------------------------------------- */

/* Empty, migrated databases for the runs to start from. */
static void nth_prepare(void)
{
    nth_told = mmap(NULL, sizeof *nth_told, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    ck_assert(nth_told != MAP_FAILED);
    if (T_SQLITE) {
        snprintf(nth_template, sizeof nth_template, "%s", t_url + strlen("sqlite:"));
        t_conn *c = t_connect();
        t_run(c, "CREATE TABLE nanoq_orders (id INTEGER)");
        t_disconnect(c);
        return;
    }
    for (int i = 0; i < NTH_AT_ONCE; i++) {
        char option[32];
        nq *q = NULL;
        snprintf(option, sizeof option, "prefix=r%d_", i);
        T_OK(nq_open(&q, t_url_with(option), NULL, &t_last));
        T_OK(nq_migrate(q, &t_last));
        nq_close(q);
        t_conn *c = t_connect();
        t_run(c, "CREATE TABLE IF NOT EXISTS r%d_orders (id INTEGER) ENGINE=InnoDB", i);
        t_disconnect(c);
    }
}

/* One pass over every step-th call, from a random one of the first: how many runs met their failure. Up to
 * NTH_AT_ONCE run at once, and the pass ends when NTH_MISSES in a row met none. */
static long nth_pass(const nth_case *c, long step, uint64_t *seed)
{
    struct nth_slot slots[NTH_AT_ONCE] = {{0, 0}};
    long n = 1 + (long)(t_rand(seed) % (uint64_t)step), runs = 0, failures = 0, misses = 0, running = 0;
    while (misses < NTH_MISSES || running > 0) {
        int at;
        while (misses < NTH_MISSES && (at = nth_free_slot(slots)) >= 0) {
            nth_start(c, slots, at, n);
            n += step;
            running++;
        }
        at = nth_wait(c, slots);
        running--;
        runs++;
        failures += nth_told->hits[at] > 0;
        misses = nth_told->hits[at] > 0 ? misses : misses + 1;
    }
    printf("%s: every %ld: %ld runs, %ld of them with a failure\n", c->name, step, runs, failures);
    return failures;
}

void nth_all(const nth_case *c, long few)
{
    struct nth_slot slots[NTH_AT_ONCE] = {{0, 0}};
    uint64_t seed = t_seed();
    nth_prepare();
    nth_start(c, slots, 0, 0); /* 0: nothing fails, and that must work too */
    nth_wait(c, slots);
    const long total = nth_told->counts[0];
    ck_assert_int_eq(nth_told->hits[0], 0);
    ck_assert_msg(total > 0, "%s: nothing was counted", c->name);
    const char *only = getenv("NANOQ_FAULT_N");
    if (only && *only) {
        nth_start(c, slots, 0, strtol(only, NULL, 10));
        nth_wait(c, slots);
        return;
    }
    /* Looking for leaks in each run is most of the time under ASan; the plain build takes three times as
     * many. */
    if (t_slow_factor() > 1)
        few = (few + 2) / 3;
    const bool sample = !nth_long() && total > few;
    long step = sample ? (total + few - 1) / few : 1;
    printf("%s: %ld calls\n", c->name, total);
    long failures = nth_pass(c, step, &seed);
    /* A worker does not make the same number of calls each time: where the count was taken in a slow run (it
     * looks again while it waits), the steps are too long for the others. Then once more, with shorter ones.
     */
    while (sample && failures * 3 < few && step > 1) {
        step = (step + 1) / 2;
        failures = nth_pass(c, step, &seed);
    }
    ck_assert_msg(sample ? failures * 3 >= few : failures * 10 >= total * 7, "%s: only %ld failures", c->name,
                  failures);
    munmap(nth_told, sizeof *nth_told);
}

int main(int argc, char **argv)
{
    Suite *(*const suites[])(void) = {suite_store, suite_memory, suite_proc};
    return t_main(argc, argv, suites, sizeof suites / sizeof *suites);
}
