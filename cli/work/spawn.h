/* SPDX-License-Identifier: MIT */
/* Starting a command with nothing of ours in it but what it should have, and ending it with all that it
 * started. */
#ifndef SPAWN_H
#define SPAWN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

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
    bool cpu_renewed;   /* the limit counts from spawn_renew_cpu, not from the start */
    bool no_new_privs;  /* set-uid programs give it nothing */
    bool keep_password; /* in its environment */
    int guard;          /* of guard_start */
};

/* Find argv[0] and prepare. False after a message. Call it before a database is open. */
bool spawn_prepare(struct spawn_command *c, char **argv);
void spawn_free(struct spawn_command *c);
/* spawn_env.c: its part of that */
void spawn_environment(struct spawn_command *c);

struct spawn_process {
    pid_t pid;        /* of the process group too */
    int pidfd;        /* readable when it has ended */
    int in, out, err; /* our ends of its stdin, stdout, stderr, non-blocking; -1: closed */
    int64_t kill_at;  /* 0: not told to stop; INT64_MAX: killed */
    bool killed;      /* it did not stop by itself within the grace */
};

/*
 * Start the command; own: variables for its environment besides the common ones, NULL-terminated. With_out:
 * its stdout is ours to read, else it shares our stdout. 0 or an errno. Thread-safe. When the THREAD that
 * called it ends, the process is killed (PR_SET_PDEATHSIG): call it from one that outlives the process.
 */
int spawn_start(const struct spawn_command *c, char *const own[], bool with_out, struct spawn_process *p);
/* Let it use so much of the CPU from now on as the limit says. */
void spawn_renew_cpu(const struct spawn_command *c, const struct spawn_process *p);
/* SIGTERM to its process group at the first call, SIGKILL when the grace is over by then. Call it again after
 * spawn_stop_wait milliseconds (-1: no need). */
void spawn_stop(const struct spawn_command *c, struct spawn_process *p);
int spawn_stop_wait(const struct spawn_process *p);
/* SIGKILL to what is there of its process group. Not after spawn_reap. */
void spawn_kill(struct spawn_process *p);
void spawn_close(int *fd);

/* How a process ended. */
struct spawn_end {
    bool exited; /* else killed by signal `status` */
    int status;
    int64_t cpu_us; /* what it used, with those of its children that it waited for */
    int64_t peak_bytes;
};
/* Wait for its end, and close what is open. */
struct spawn_end spawn_reap(const struct spawn_command *c, struct spawn_process *p);

/* ---- guard.c */
/* A process that outlives this one for a moment, to kill the process groups of its children: PR_SET_PDEATHSIG
 * reaches a child, and not what the child started. Call it while there is one thread. False after a message.
 */
bool guard_start(struct spawn_command *c);
void guard_end(struct spawn_command *c);
/* Tell it of a process group, before anything runs in it; and that it is none of ours any more: negative. */
void guard_tell(int guard, pid_t group);

/* ---- ending.c -- Ends in words. */
#define TAIL_SIZE NQ_MAX_ERROR
struct tail { /* of a stream of bytes: the last TAIL_SIZE, as a ring */
    char bytes[TAIL_SIZE];
    size_t n; /* bytes altogether */
};
void tail_add(struct tail *t, const char *p, size_t n);
/* "exit status 3", "killed by signal 11 (Segmentation fault) after 0.2 s of CPU, 12 MB". */
void ending_status(const struct spawn_end *end, char *out, size_t size);
/* what: ": ": the tail as valid UTF-8; what is cut off is cut from the tail's start. */
void ending_describe(const char *what, const struct tail *t, char out[NQ_MAX_ERROR + 1]);

#endif
