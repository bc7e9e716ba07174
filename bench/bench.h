/* SPDX-License-Identifier: MIT */
/* The benchmark's frame: rows that are measured A B A B, and what is written of them. */
#ifndef NQ_BENCH_H
#define NQ_BENCH_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

#include "nanoq.h"

enum { BENCH_MAX_RUNS = 32, BENCH_MAX_FIGURES = 512, BENCH_MAX_NOTES = 24, BENCH_MAX_SLOTS = 16 };

/* The runs of one figure: of nanoq, or of the bare SQL beside it. */
typedef struct bench_figure {
    char row[80];  /* "drain MariaDB, batch 100" */
    char side[40]; /* "nanoq", "bare SQL" */
    char unit[16]; /* "tasks/s", "ms", "us", "MB" */
    double x;      /* place on a curve (backlog, threads); 0 where there is none */
    double run[BENCH_MAX_RUNS];
    int runs;
} bench_figure;

/* A place for tasks. */
typedef struct bench_db {
    const char *name; /* "MariaDB", "SQLite FULL" */
    char url[512];    /* for nq_open */
    char file[256];   /* SQLite */
    bool mysql, full; /* full: synchronous=full */
} bench_db;

typedef struct bench {
    bench_figure figure[BENCH_MAX_FIGURES];
    int figures;
    char note[BENCH_MAX_NOTES][256]; /* machine, versions, settings */
    int notes;
    char mysql_socket[256]; /* "": no MariaDB rows */
    int mysql_port;
    const char *directory; /* for SQLite files */
    bench_db mysql, sqlite_full, sqlite_normal;
    int rounds;     /* how often each A B pair is run */
    double scale;   /* of the amounts of work: 1, smaller for a quick look */
    double seconds; /* of a run that is limited by time */
    double steady_seconds;
    unsigned seed;
    long server_pid; /* of the database server, 0 when unknown */
    bool quick, huge, quiet;
} bench;

/* ---- bench.c: figures */
void bench_add(bench *b, const char *row, const char *side, const char *unit, double x, double value);
double bench_median(const bench_figure *f);
void bench_spread(const bench_figure *f, double *low, double *high);
const bench_figure *bench_find(const bench *b, const char *row, const char *side, double x);
void bench_note(bench *b, const char *fmt, ...) NQ_PRINTF(2, 3);
void bench_progress(const bench *b, const char *fmt, ...) NQ_PRINTF(2, 3);
_Noreturn void bench_die(const char *fmt, ...) NQ_PRINTF(1, 2);

double bench_seconds(void); /* CLOCK_MONOTONIC */
int64_t bench_ns(void);     /* the same */
void bench_sleep(double seconds);
double bench_cpu_of(long pid);                               /* user + system seconds of a process so far */
double bench_percentile(double *values, size_t n, double p); /* sorts values */
size_t bench_amount(const bench *b, double full);            /* scaled amount of work, at least 1 */

void bench_print_table(const bench *b, FILE *out);
int bench_write_json(const bench *b, const char *path);

/* A task of about 100 bytes. tag tells several lots apart. */
int bench_payload(char *out, size_t size, const char *tag, unsigned long long seq);
void bench_spec(nq_task_spec *spec, char payload[160], const char *tag, unsigned long long seq);

/* ---- bench_count.c: what was done, and how fast */

/* Counts tasks; the rate is taken between the first-th and the last-th one. */
typedef struct bench_meter {
    atomic_size_t n;
    size_t first, last;
    _Atomic double first_at, last_at;
} bench_meter;
/* True when it is time to stop. */
bool bench_meter_add(bench_meter *m, size_t n);

typedef struct bench_drain {
    unsigned concurrency, batch;
    unsigned claimers; /* bare SQL on MariaDB */
    bool merged;       /* bare SQL on MariaDB: completion and next claim in one transaction */
    bool narrow;       /* bare SQL: on a table with no column but those that the loop needs */
    size_t limit;      /* stop after so many; 0: drain all, and take the time of the whole run */
} bench_drain;

typedef struct bench_result {
    double rate;       /* tasks/s */
    double client_us;  /* CPU of this process per task */
    double server_us;  /* CPU of the database server per task */
    double statements; /* per task; MariaDB */
    double fsyncs;     /* per task; MariaDB */
    size_t n;
} bench_result;

/* Everything that is counted around a run, taken before and after. */
typedef struct bench_counters {
    double at, client, server, statements, fsyncs;
} bench_counters;
/* One statement by hand. */
void bench_mysql_run(const bench *b, const char *sql);
void bench_sqlite_run(const bench_db *db, const char *sql);
bench_counters bench_count(const bench *b, const bench_db *db);
bench_result bench_result_since(const bench *b, const bench_db *db, const bench_counters *before, size_t n,
                                const bench_meter *m);

/* ---- bench_nanoq.c: nanoq's side */
nq *bench_open(const bench_db *db);
void bench_fresh(const bench *b, const bench_db *db); /* empty tables */
/* n distinct tasks of about 100 bytes. tag tells several lots apart. */
void bench_preload(const bench_db *db, size_t n, const char *tag, int64_t delay_us);
/* n tasks, most of them ended, instead of what was there; made by SQL (bench_history.c). */
void bench_history(const bench *b, const bench_db *db, size_t n);
bench_result bench_nanoq_drain(const bench *b, const bench_db *db, const bench_drain *d);
double bench_nanoq_enqueue(const bench *b, const bench_db *db, unsigned producers, unsigned chunk);

/* ---- bench_mysql.c, bench_sqlite.c: the same by hand */
void bench_mysql_reset(const bench *b);
void bench_mysql_notes(bench *b); /* bench_server.c, as are: */
void bench_machine_notes(bench *b);
double bench_mysql_status(const bench *b, const char *name);
/* The tasks of nanoq's table once more, in one that only claims and deletes: what nanoq's columns cost. */
void bench_mysql_narrow(const bench *b);
bench_result bench_mysql_drain(const bench *b, const bench_drain *d);
double bench_mysql_enqueue(const bench *b, unsigned producers, unsigned chunk);
/* n tasks of groups of which each may run one: tasks/s. apart: each claimer has groups of its own, so that
 * none is in another's way. bench_mysql_groups.c. */
double bench_mysql_groups(const bench *b, unsigned claimers, unsigned batch, bool apart, size_t n);
/* A snapshot that stays open until it is given back. */
void *bench_mysql_snapshot(const bench *b);
void bench_mysql_release(void *snapshot);
/* n tasks in the hands of a worker that is kept alive until it is given back. */
void *bench_mysql_running(const bench *b, size_t n);
void bench_mysql_running_end(const bench *b, void *running, size_t n);

void bench_sqlite_reset(const bench_db *db);
void bench_sqlite_narrow(const bench_db *db);
bench_result bench_sqlite_drain(const bench *b, const bench_db *db, const bench_drain *d);
double bench_sqlite_enqueue(const bench *b, const bench_db *db, unsigned chunk);

/* ---- bench_child.c: workers and producers in processes of their own */
enum bench_role { BENCH_WORK, BENCH_PRODUCE };

typedef struct bench_slot {
    /* what to do */
    int role;
    char url[512];
    char queue[16]; /* of a worker; "": the default */
    unsigned concurrency, batch;
    int drain;     /* enum nq_drain of a worker */
    unsigned seed; /* a producer with gaps between its tasks */
    int gap_min_us, gap_max_us;
    double rate;  /* a producer without: tasks/s, 0: as many as are handled */
    size_t count; /* tasks of a producer; no more than cells */
    /* what became of it */
    pid_t pid;
    atomic_bool ready, ended, failed;
    char error[512];
    atomic_size_t done; /* sent or handled */
    double rss_mb, hwm_mb;
} bench_slot;

/* One task, in CLOCK_MONOTONIC nanoseconds: the call, its return (the commit), the start of its handler. */
typedef struct bench_cell {
    _Atomic int64_t call, commit, start;
} bench_cell;

typedef struct bench_shared {
    int fd;
    size_t bytes, ncells;
    atomic_bool go, stop;
    bench_slot slot[BENCH_MAX_SLOTS];
    bench_cell cell[];
} bench_shared;

bench_shared *bench_shared_new(size_t ncells);
void bench_shared_free(bench_shared *s);
void bench_child_start(bench_shared *s, int slot); /* waits until it is ready */
void bench_child_wait(bench_shared *s, int slot);  /* until it ended; dies when it failed */
void bench_child_stop(bench_shared *s, int slot);  /* a worker: SIGTERM, then as above */
int bench_child_main(int fd, int slot);            /* in the child */
/* So many workers drain n tasks: tasks/s, from the word go until the last one has ended. */
double bench_children(const bench_db *db, int processes, const bench_drain *drain, size_t n);
/* The same as a child within this process, on q. */
void bench_work(bench_shared *s, int slot, nq *q);
void bench_produce(bench_shared *s, int slot, nq *q);

/* ---- The rows */
typedef void (*bench_row_fn)(bench *b);
typedef struct bench_row {
    const char *name;
    bench_row_fn fn;
    bool mysql; /* needs MariaDB */
} bench_row;
extern const bench_row bench_rows[], bench_latency_rows[], bench_growth_rows[], bench_isolated_rows[],
    bench_groups_rows[], bench_wait_rows[], bench_bulk_rows[], bench_search_rows[], bench_many_rows[],
    bench_pages_rows[]; /* end with a NULL name */

#endif
