/* SPDX-License-Identifier: MIT */
/* Starting a command with nothing of ours in it but what it should have, and ending it with all that it
 * started. */
#ifndef SPAWN_H
#define SPAWN_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/types.h>

#include "../../src/process/process.h"
#include "nanoq.h"

/* What is the same for every process; made once, before there are threads. */
struct spawn_command {
    char *path; /* the executable, found in PATH */
    char **argv;
    char **shell;    /* argv for /bin/sh, for a script without #! */
    char **base_env; /* ours without NANOQ_ID and so on, and without the database's password, */
    size_t nbase_env;
    char *db;       /* for which NANOQ_DB may be another */
    int *inherited; /* descriptors above 2 that we were started with: the command gets them too */
    size_t ninherited;
    int64_t grace_us; /* between SIGTERM and SIGKILL */
    /* Limits, 0: none. */
    uint64_t memory; /* bytes of address space */
    int64_t cpu_us;
    bool cpu_renewed;    /* the limit counts from spawn_renew_cpu, not from the start */
    bool no_new_privs;   /* set-uid programs give it nothing */
    bool keep_password;  /* in its environment */
    bool keep_logs;      /* its stderr, with the task */
    struct rlimit files; /* of descriptors: as we were started with, before we raised our own */
};

/* Find argv[0] and prepare. False after a message. Call it before a database is open. */
bool spawn_prepare(struct spawn_command *c, char **argv);
void spawn_free(struct spawn_command *c);
/* spawn_env.c: its part of that */
void spawn_environment(struct spawn_command *c);

struct spawn_process {
    pid_t pid;        /* the command's: for people; only the keeper may signal it */
    pid_t keeper;     /* our child: the process between */
    int control;      /* to the keeper; readable when the command has ended and nothing of it is left */
    int in, out, err; /* our ends of its stdin, stdout, stderr, non-blocking; -1: closed */
    int unread;       /* the other end of its stdin, to see how much of it was read; -1: not kept */
    nq_ladder ladder; /* of being told to stop */
};

/*
 * Start the command; own: variables for its environment besides the common ones, NULL-terminated. With_out:
 * its stdout is ours to read, else it shares our stdout. 0 or an errno. Thread-safe.
 */
int spawn_start(const struct spawn_command *c, char *const own[], bool with_out, struct spawn_process *p);
/* Why it could not: "cannot start /srv/run.sh: its interpreter /usr/bin/php: No such file or directory". */
void spawn_why(const struct spawn_command *c, int why, char *out, size_t size);
/* Let it use so much of the CPU from now on as the limit says. */
void spawn_renew_cpu(const struct spawn_command *c, const struct spawn_process *p);
/* Of the last `sent` bytes of its stdin it has read none. Of a process started with_out. */
bool spawn_read_nothing(const struct spawn_process *p, size_t sent);
/* SIGTERM to all that it has started at the first call, SIGKILL when the grace is over by then. Call it again
 * after spawn_stop_wait milliseconds (-1: no need). */
void spawn_stop(const struct spawn_command *c, struct spawn_process *p);
int spawn_stop_wait(const struct spawn_process *p);
/* SIGKILL to all of it. */
void spawn_kill(struct spawn_process *p);
void spawn_close(int *fd);

/* Wait for its end and for that of all that it has started, and close what is open. */
nq_ending spawn_reap(struct spawn_process *p);

/* ---- keeper.c: the process between us and a command */
enum { KEEPER_BORN = 1, KEEPER_ENDED };
enum { KEEPER_RENEW = 0 }; /* what the keeper is asked for, a byte each; the others are signals */
struct keeper_report {     /* what it says, a packet each */
    int32_t kind;
    pid_t pid;        /* KEEPER_BORN */
    nq_ending ending; /* KEEPER_ENDED */
};
/* All signals are blocked; system calls only. */
_Noreturn void keeper_main(int control, pid_t command, int64_t cpu_us);

/* ---- gate.c: a pause between starts that fail, growing from 0.1 s to 30 s. Thread-safe. */
struct gate {
    pthread_mutex_t mutex; /* guards the rest */
    unsigned failures;     /* in a row */
    int64_t until_us;
};
#define GATE_OPEN                                                                                            \
    {                                                                                                        \
        .mutex = PTHREAD_MUTEX_INITIALIZER                                                                   \
    }
/* Wait for the end of the pause. False: the attempt is to stop. */
bool gate_wait(struct gate *g, nq_ctx *ctx);
/* One failed: how long the pause is, in microseconds; *failures (may be NULL): how many in a row by now. */
int64_t gate_failed(struct gate *g, unsigned *failures);
/* One worked. Answers how many had failed before it. */
unsigned gate_passed(struct gate *g);

#endif
