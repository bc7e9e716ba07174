/* SPDX-License-Identifier: MIT */
/* What every test program stands on: a process, directory, time limit and fresh database for each test. */
#ifndef NQ_TEST_HARNESS_H
#define NQ_TEST_HARNESS_H

#include <check.h>
#include <semaphore.h>
#include <stdio.h>
#include <sys/types.h>
#include <unistd.h>

#include "../src/api/api.h"
#include "../src/store/store.h"
#include "nanoq.h"
#include "nanoq_admin.h"

/*
 * A program is run as `PROGRAM sqlite|mariadb|mysql8`. The servers come from NANOQ_TEST_MYSQL and
 * NANOQ_TEST_MYSQL8 (mysql://root@127.0.0.1:PORT/); without its variable the program says so and exits with
 * 77, which Meson reports as skipped. libcheck's CK_RUN_CASE and CK_RUN_SUITE choose among the tests, and a
 * second argument such as 1/2 every second suite from the first on.
 */
int t_main(int argc, char **argv, Suite *(*const suites[])(void), size_t nsuites);

/* A case whose tests find a migrated / an empty database at t_url. The limit is multiplied under sanitizers.
 */
TCase *t_case(Suite *s, const char *name, double seconds);
TCase *t_case_empty(Suite *s, const char *name, double seconds);
#define T_SLOW_FACTOR t_slow_factor() /* 1, or more under a sanitizer */
int t_slow_factor(void);

extern enum nq_tx_kind t_kind; /* the store under test */
extern bool t_is_mariadb;      /* the server, once a test runs */
extern bool t_is_galera;
extern bool t_is_cluster; /* each node takes writes: Galera, or a group of several primaries. There are no
                           * named locks then, so only the lease tells of deaths */
extern char t_dir[256];   /* the test's own directory, also its working directory */
extern char t_url[512];   /* the test's own database */
extern char t_name[64];   /* its name on the server; MySQL only */
#define T_MYSQL  (t_kind == NQ_TX_MYSQL)
#define T_SQLITE (t_kind == NQ_TX_SQLITE)
extern const char *t_program; /* argv[0], absolute */

/* "t_url with option=value"; a static buffer per call site is enough for a test: four of them rotate. */
const char *t_url_with(const char *option);
/* The server's URL for another user or database: "mysql://USER@host:port/DB". */
const char *t_server_url(const char *userinfo, const char *database);
unsigned t_server_port(void);

/* 0, or NANOQ_SEED; printed, so that a failure can be repeated. */
uint64_t t_seed(void);
uint64_t t_rand(uint64_t *seed);

/* ---- A connection beside the library's: plain SQL, and the caller's transactions ------------ */
typedef struct t_conn t_conn;
t_conn *t_connect(void);
void t_disconnect(t_conn *c);
nq_tx t_tx(t_conn *c);
/* Run one statement; 0 or the database's error number. A table of the test's own has a primary key: Group
 * Replication writes to no other. */
int t_try(t_conn *c, const char *fmt, ...) NQ_PRINTF(2, 3);
/* Run one that must succeed; the first column of its first row as a number (0 when there is none). */
int64_t t_run(t_conn *c, const char *fmt, ...) NQ_PRINTF(2, 3);
/* The same as text, to be freed; NULL for a NULL or no row. Columns are joined with '|', rows with '\n'. */
char *t_text(t_conn *c, const char *fmt, ...) NQ_PRINTF(2, 3);
/* On the test's own side connection, for the test's main thread. */
#define t_sql(...) t_run(t_side(), __VA_ARGS__)
t_conn *t_side(void);
/* 1, 2, 3, for the rest of the test, on t_side and what is opened from now on: on a cluster ids go by the
 * number of nodes. */
void t_ids_in_a_row(void);
void t_begin(t_conn *c);
/* What a FROM on a server names for its sessions: p, with columns id, db, state and info. */
const char *t_sessions(void);
/* KILL all others on this test's database; returns how many there were. */
int t_kill_sessions(void);
/* One of this test's connections that waits for a row's lock, on a server, or 0; its picture is as old as
 * 100 ms, so pause longer between two looks. */
int64_t t_lock_waiter(t_conn *c);
/* What this test's own connections send to a server, from its log: one line each, of those that are so, to be
 * freed. The log is of all databases there, so others' statements are in it, but not in the text. */
void t_log_begin(void);
char *t_log_end(const char *where);

/* ---- Shorthands over the library; all of them assert success -------------------------------- */
nq *t_open(void);
void t_open_fails(const char *url, int code); /* with a message of one line that gives no secret away */
nq_id t_add(nq *q, const nq_task_spec *task);
#define T_ADD(q, ...) t_add(q, NQ_TASK(__VA_ARGS__))
/* A claimer of its own for "default" and one claim; freed with t_free_claimed. */
nq_claimed *t_claim(nq *q, uint64_t lease, size_t limit, size_t *n);
nq_claimed *t_claim_queue(nq *q, const char *queue, uint64_t lease, size_t limit, size_t *n);
nq_claimed *t_claim_one(nq *q, uint64_t lease); /* exactly one is due */
void t_free_claimed(nq_claimed *list);
/* One outcome for a claim; answers its result. */
int t_finish(nq *q, const nq_claimed *c, enum nq_outcome_kind kind, int64_t delay_us, const char *error);

typedef struct t_task { /* a copy of an nq_info */
    nq_info info;
    char queue[80], group[256], type[256], error[NQ_MAX_ERROR + 1], worker[128];
    unsigned char *payload; /* whole; freed with t_task_free */
} t_task;
/* NQ_OK or NQ_ENOTFOUND. */
int t_get(nq *q, nq_id id, t_task *out);
void t_task_free(t_task *t);
int t_state(nq *q, nq_id id); /* -1: no such task */
uint64_t t_count(nq *q, int state);
int64_t t_now(nq *q);

/* ---- Waiting, threads, processes ------------------------------------------------------------ */
int64_t t_mono(void);
void t_pause_ms(int ms); /* between two looks only; never to let another thread get somewhere */
/* Look again and again until the condition holds; fails the test after so many seconds. */
#define T_WAIT(cond, seconds)                                                                                \
    do {                                                                                                     \
        int64_t t_until = t_mono() + NQ_SECONDS(seconds) * T_SLOW_FACTOR;                                    \
        while (!(cond)) {                                                                                    \
            ck_assert_msg(t_mono() < t_until, "waited too long for: %s", #cond);                             \
            t_pause_ms(2);                                                                                   \
        }                                                                                                    \
    } while (0)
#define T_OK(call)                                                                                           \
    do {                                                                                                     \
        int t_rc = (call);                                                                                   \
        ck_assert_msg(t_rc == NQ_OK, "%s: %s: %s", #call, nq_code_name(t_rc), t_last.message);               \
    } while (0)
/* The call succeeds with this positive code. */
#define T_ANSWERS(call, expected)                                                                            \
    do {                                                                                                     \
        int t_rc = (call);                                                                                   \
        ck_assert_msg(t_rc == (expected), "%s: %s, not %s: %s", #call, nq_code_name(t_rc), #expected,        \
                      t_last.message);                                                                       \
    } while (0)
/* The call fails with this code, and t_last says why in words. */
#define T_FAILS(call, expected)                                                                              \
    do {                                                                                                     \
        memset(&t_last, 0, sizeof t_last);                                                                   \
        int t_rc = (call);                                                                                   \
        ck_assert_msg(t_rc == (expected), "%s: %s, not %s: %s", #call, nq_code_name(t_rc), #expected,        \
                      t_last.message);                                                                       \
        ck_assert_int_eq(t_last.code, expected);                                                             \
        ck_assert_msg(t_last.message[0] != '\0', "%s: no message", #call);                                   \
    } while (0)
extern nq_err t_last; /* pass &t_last to calls of the main thread */

void t_post(sem_t *s);
void t_await(sem_t *s, double seconds); /* fails the test when it takes longer */
bool t_await_try(sem_t *s, double seconds);
void t_thread(pthread_t *t, void *(*fn)(void *), void *arg);

/* A child process; before the test has threads or handles. It gets one end of a socket pair. */
typedef struct t_child {
    pid_t pid;
    int fd; /* the parent's end */
} t_child;
void t_fork(t_child *c, void (*fn)(int fd, void *arg), void *arg);
void t_tell(int fd, int64_t value);
int64_t t_hear(int fd, double seconds); /* fails when nothing or the end comes */
void t_kill(t_child *c, int sig);       /* and wait; sig 0: only wait. */
int t_reap(t_child *c);                 /* wait; the status */
/* SIGSTOP, at a moment when it holds no lock of the database for which all others would wait: SQLite's one
 * write lock, rows of tasks and workers on a server. */
void t_stop(const t_child *c);

#endif
