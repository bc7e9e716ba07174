/* SPDX-License-Identifier: MIT */
/* SQLite: the checks of nanoq doctor that are its own. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "sqlite_driver.h"

static nq_sqlite_conn *sqlite_checks_conn(nq_conn *c)
{
    return (nq_sqlite_conn *)(void *)c;
}

static const nq_sqlite_data *sqlite_checks_data(const nq_conn *c)
{
    return c->store->data;
}

/* ---- 2: the plan of the claim ---- */

struct sqlite_checks_plan {
    const char *index;
    char text[300];
    bool other; /* something else than a search by that index */
};

static int sqlite_checks_plan_row(const nq_val cols[], size_t ncols, void *arg)
{
    struct sqlite_checks_plan *p = arg;
    char text[300];
    if (ncols < 4)
        return 0;
    nq_checks_text(text, sizeof text, &cols[3]);
    if (strncmp(text, "SEARCH", 6) == 0 && strstr(text, p->index))
        return 0;
    p->other = true;
    snprintf(p->text, sizeof p->text, "%s", text);
    return 0;
}

static int sqlite_checks_claim(nq_conn *c, nq_checks *k, nq_found *f, nq_err *err)
{
    nq_buf index = {0};
    (void)k;
    nq_buf_fmt(&index, "%stasks_claim", c->store->prefix);
    if (index.failed)
        return nq_err_nomem(err);
    struct sqlite_checks_plan plan = {.index = index.p};
    const int rc =
        nq_sql(c,
               "EXPLAIN QUERY PLAN SELECT id FROM {tasks} WHERE queue = 'default' AND state = 0 AND "
               "priority = 0 AND run_at >= 5 AND run_at <= {now} ORDER BY run_at, id LIMIT 100",
               NULL, 0, sqlite_checks_plan_row, &plan, NULL, err);
    if (rc == NQ_OK && plan.other)
        nq_found_say(
            f, NQ_CHECK_ERROR,
            "make the index anew as nanoq migrate --print has it: (queue, state, priority, run_at, id)",
            "a claim does not go by its index alone: %s", plan.text);
    else if (rc == NQ_OK)
        nq_found_say(f, NQ_CHECK_OK, NULL, "a claim goes by its index and does not sort");
    nq_buf_free(&index);
    return rc;
}

/* ---- 3: versions with known faults ---- */

/* https://sqlite.org/wal.html: two connections that write or checkpoint at the same instant. */
static bool sqlite_checks_wal_reset(int64_t version)
{
    return version >= 3007000 && version < 3051003 && !(version >= 3050007 && version < 3051000) &&
           !(version >= 3044006 && version < 3045000);
}

static int sqlite_checks_version(nq_conn *c, nq_checks *k, nq_found *f, nq_err *err)
{
    const int64_t version = nq_checks_number(k, "sqlite_version", sqlite3_libversion_number());
    const int v[3] = {(int)(version / 1000000), (int)(version / 1000 % 1000), (int)(version % 1000)};
    (void)err;
    if (sqlite_checks_wal_reset(version) && !sqlite_checks_data(c)->memory)
        nq_found_say(
            f, NQ_CHECK_WARNING,
            "use SQLite 3.51.3, 3.50.7, 3.44.6 or later, unless your distribution has mended its own",
            "SQLite %d.%d.%d may damage a file in WAL mode when two processes write and checkpoint at the "
            "same instant, which is very rare",
            v[0], v[1], v[2]);
    else
        nq_found_say(f, NQ_CHECK_OK, NULL, "SQLite %d.%d.%d: no fault is known that concerns nanoq", v[0],
                     v[1], v[2]);
    return NQ_OK;
}

/* ---- 5, 6 ---- */

static int sqlite_checks_durable(nq_conn *c, nq_checks *k, nq_found *f, nq_err *err)
{
    int64_t sync = 0;
    (void)k;
    if (sqlite_checks_data(c)->memory) {
        nq_found_say(f, NQ_CHECK_WARNING, "sqlite:PATH for tasks that are to stay",
                     "the database is in memory: it goes with this program");
        return NQ_OK;
    }
    const int rc = nq_sql(c, "PRAGMA synchronous", NULL, 0, nq_checks_int_row, &sync, NULL, err);
    if (rc == NQ_OK && sync < 2)
        nq_found_say(f, NQ_CHECK_WARNING,
                     "synchronous=full in the URL, the default, of every program that opens it",
                     "synchronous is %s: after a power failure the last commits may be missing",
                     sync == 1 ? "normal" : "off");
    else if (rc == NQ_OK)
        nq_found_say(f, NQ_CHECK_OK, NULL, "each commit of this URL is on disk before it is acknowledged");
    return rc;
}

static int sqlite_checks_journal(nq_conn *c, nq_checks *k, nq_found *f, nq_err *err)
{
    const int rc = nq_sql(c, "SELECT 'journal_mode', journal_mode FROM pragma_journal_mode", NULL, 0,
                          nq_checks_var_row, k, NULL, err);
    const char *mode = nq_checks_said(k, "journal_mode");
    if (rc != NQ_OK)
        return rc;
    if (sqlite_checks_data(c)->memory || (mode && strcmp(mode, "wal") == 0))
        nq_found_say(f, NQ_CHECK_OK, NULL, "journal_mode is %s", mode ? mode : "memory");
    else
        nq_found_say(
            f, NQ_CHECK_WARNING,
            "put the file on a local file system that has shared memory; nanoq sets WAL when it opens it",
            "journal_mode is %.20s, not wal: slower, and readers and writers wait for each other",
            mode ? mode : "unknown");
    return NQ_OK;
}

/* ---- 7: is the file whole? ---- */

#define SQLITE_CHECKS_LOOK_US NQ_MS(80)

/* Interrupts what a connection does when the time is up. A progress handler would not be asked: SQLite goes
 * through all trees of the file in one step. */
struct sqlite_checks_timer {
    pthread_mutex_t lock;
    pthread_cond_t cond;
    sqlite3 *db;
    int64_t until_us;
    bool over;    /* it has ended by itself */
    bool stopped; /* or was interrupted */
};

static void *sqlite_checks_time(void *arg)
{
    struct sqlite_checks_timer *t = arg;
    pthread_mutex_lock(&t->lock);
    while (!t->over && nq_cond_wait_until(&t->cond, &t->lock, t->until_us))
        ;
    t->stopped = !t->over;
    if (t->stopped)
        sqlite3_interrupt(t->db);
    pthread_mutex_unlock(&t->lock);
    return NULL;
}

/* The first fault, if any. It also tells of rows that break a CHECK, of any table of the file: no damage. */
static int sqlite_checks_fault_row(const nq_val cols[], size_t ncols, void *arg)
{
    char *text = arg;
    (void)ncols;
    if (text[0] == '\0')
        nq_checks_text(text, 300, &cols[0]);
    if (strncmp(text, "CHECK constraint failed in ", 27) == 0 || strncmp(text, "NULL value in ", 14) == 0)
        text[0] = '\0';
    return 0;
}

/* quick_check reads the whole file: it is stopped after a while, and what it has seen until then counts. */
static int sqlite_checks_integrity(nq_conn *c, nq_checks *k, nq_found *f, nq_err *err)
{
    struct sqlite_checks_timer t = {
        .lock = PTHREAD_MUTEX_INITIALIZER,
        .db = sqlite_checks_conn(c)->db,
        .until_us = nq_mono_us() + nq_checks_number(k, "nanoq integrity", SQLITE_CHECKS_LOOK_US)};
    char text[300] = "";
    nq_err why = {0};
    pthread_t thread;
    if (nq_cond_init(&t.cond))
        return nq_err_nomem(err);
    int rc = nq_thread_start(&thread, sqlite_checks_time, &t, &why);
    if (rc == NQ_OK) {
        rc = nq_sql(c, "PRAGMA quick_check(1000)", NULL, 0, sqlite_checks_fault_row, text, NULL, &why);
        pthread_mutex_lock(&t.lock);
        t.over = true;
        pthread_cond_signal(&t.cond);
        pthread_mutex_unlock(&t.lock);
        pthread_join(thread, NULL);
    }
    pthread_cond_destroy(&t.cond);
    pthread_mutex_destroy(&t.lock);
    const bool stopped = rc != NQ_ECORRUPT && t.stopped;
    if (stopped && strstr(text, "never used")) /* no fault where trees were left out */
        text[0] = '\0';
    if (rc == NQ_ECORRUPT || (text[0] && strcmp(text, "ok") != 0))
        nq_found_say(
            f, NQ_CHECK_ERROR,
            "stop all programs, copy the file with its -wal, then sqlite3 FILE .recover into a new one",
            "the file is damaged: %.250s", text[0] ? text : why.message);
    else if (stopped)
        nq_found_say(
            f, NQ_CHECK_OK, NULL,
            "no fault in what could be read in 80 ms; sqlite3 FILE 'PRAGMA quick_check' reads it all");
    else if (rc == NQ_OK)
        nq_found_say(f, NQ_CHECK_OK, NULL, "quick_check found no fault");
    else if (err)
        *err = why;
    return rc == NQ_ECORRUPT || stopped ? NQ_OK : rc;
}

/* ---- 8: where the file lies ---- */

/* Magic numbers of statfs(2): file systems whose locks or shared memory do not reach other hosts. */
static const struct sqlite_checks_network {
    uint32_t magic;
    const char *name;
} sqlite_checks_networks[] = {
    {0x6969, "NFS"},        {0xff534d42, "CIFS"}, {0xfe534d42, "SMB"},      {0x517b, "SMB"},
    {0x01021997, "9p"},     {0x00c36400, "Ceph"}, {0x5346414f, "AFS"},      {0x6b414653, "AFS"},
    {0x0bd00bd0, "Lustre"}, {0x47504653, "GPFS"}, {0x20030528, "OrangeFS"}, {0x19830326, "BeeGFS"},
    {0x61756673, "aufs"},   {0x65735546, "FUSE"}, {0x7461636f, "OCFS2"},    {0x01161970, "GFS2"},
};

static const char *sqlite_checks_system(const char *file, char hex[32])
{
    struct statfs fs;
    if (statfs(file, &fs) != 0)
        return NULL;
    for (size_t i = 0; i < sizeof sqlite_checks_networks / sizeof *sqlite_checks_networks; i++)
        if ((uint32_t)fs.f_type == sqlite_checks_networks[i].magic)
            return sqlite_checks_networks[i].name;
    snprintf(hex, 32, "of kind 0x%lx", (unsigned long)(uint32_t)fs.f_type);
    return hex;
}

static bool sqlite_checks_known(const char *name)
{
    for (size_t i = 0; i < sizeof sqlite_checks_networks / sizeof *sqlite_checks_networks; i++)
        if (strcmp(name, sqlite_checks_networks[i].name) == 0)
            return true;
    return false;
}

static int sqlite_checks_place(nq_conn *c, nq_checks *k, nq_found *f, nq_err *err)
{
    const nq_sqlite_data *d = sqlite_checks_data(c);
    const char *system = nq_checks_said(k, "file_system");
    char hex[32];
    struct statfs fs;
    (void)err;
    if (d->memory) {
        nq_found_say(f, NQ_CHECK_NOT_APPLICABLE, NULL, "the database is in memory");
        return NQ_OK;
    }
    system = system ? system : sqlite_checks_system(d->file, hex);
    if (!system) {
        nq_found_say(f, NQ_CHECK_UNKNOWN, NULL, "the file system cannot be asked");
        return NQ_OK;
    }
    if (sqlite_checks_known(system))
        nq_found_say(f, strcmp(system, "FUSE") == 0 ? NQ_CHECK_WARNING : NQ_CHECK_ERROR,
                     "keep it on a local file system; for several hosts use MySQL or MariaDB",
                     "the file is on %s: WAL works between processes of one host only, and locks may not",
                     system);
    else
        nq_found_say(f, NQ_CHECK_OK, NULL, "the file is on a local file system");
    const int64_t room = nq_checks_number(
        k, "room",
        statfs(d->file, &fs) == 0 && fs.f_bsize > 0 ? (int64_t)fs.f_bavail * (int64_t)fs.f_bsize : INT64_MAX);
    if (room < (64 << 20))
        nq_found_more(f, NQ_CHECK_ERROR, "make room: without it no task can be added or recorded",
                      "it has %lld MiB left", (long long)(room >> 20));
    return NQ_OK;
}

/* ---- 10: what readers keep in the WAL ---- */

#define SQLITE_CHECKS_WAL ((int64_t)256 << 20)

static int sqlite_checks_wal(nq_conn *c, nq_checks *k, nq_found *f, nq_err *err)
{
    char *name = c->store->driver->watched(c->store);
    struct stat st;
    (void)err;
    const int64_t size = name && stat(name, &st) == 0 ? (int64_t)st.st_size : 0;
    free(name);
    if (size > nq_checks_number(k, "nanoq wal", SQLITE_CHECKS_WAL))
        nq_found_say(
            f, NQ_CHECK_WARNING,
            "end the program that has read for long (a sqlite3 shell, a backup); then sqlite3 FILE 'PRAGMA "
            "wal_checkpoint(TRUNCATE)'",
            "the -wal file has %lld MiB: some reader keeps it from being begun anew, or one did",
            (long long)(size >> 20));
    else
        nq_found_say(f, NQ_CHECK_OK, NULL, "the -wal file has %.1f MiB", (double)size / 1048576);
    return NQ_OK;
}

/* ---- 13: may this account be a worker? ---- */

static int sqlite_checks_lock(nq_conn *c, nq_checks *k, nq_found *f, nq_err *err)
{
    nq_buf path = {0};
    struct stat st;
    int number = 0;
    (void)k;
    if (sqlite_checks_data(c)->memory)
        return NQ_OK;
    nq_sqlite_lock_path(sqlite_checks_conn(c), &path);
    if (path.failed) {
        nq_buf_free(&path);
        return nq_err_nomem(err);
    }
    if (lstat(path.p, &st) != 0)
        number = 0; /* a worker makes it */
    else if (!S_ISREG(st.st_mode))
        number = EINVAL;
    else if (faccessat(AT_FDCWD, path.p, R_OK | W_OK, AT_EACCESS) != 0)
        number = errno;
    if (number)
        nq_found_more(
            f, NQ_CHECK_ERROR, "give it to the account that owns the database, with its permissions",
            "no worker of this account can join, it cannot open %.200s: %s", path.p, strerror(number));
    nq_buf_free(&path);
    return NQ_OK;
}

NQ_PRIVATE const nq_driver_check nq_sqlite_checks[] = {
    {2, sqlite_checks_claim},   {3, sqlite_checks_version},   {5, sqlite_checks_durable},
    {6, sqlite_checks_journal}, {7, sqlite_checks_integrity}, {8, sqlite_checks_place},
    {10, sqlite_checks_wal},    {13, sqlite_checks_lock},     {0, NULL}};
