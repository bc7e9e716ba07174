/* SPDX-License-Identifier: MIT */
/*
 * What both keepers of other processes need: the library for the children of isolated handlers
 * (worker/isolate), and nanoq work for its commands (cli/work), which links these files from the static
 * library and sees nothing else of its inside.
 */
#ifndef NQ_PROCESS_H
#define NQ_PROCESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/types.h>

#include "../core/visibility.h"

/* ---- ending.c -- How a process ended, in words. */
typedef struct nq_ending {
    bool exited;        /* else killed by signal `status` */
    int32_t status;     /* of exit, or the signal */
    int64_t cpu_us;     /* what it used, with those of its children that it waited for */
    int64_t peak_bytes; /* resident */
} nq_ending;
#define NQ_ENDING_WORDS 128
/* Of what wait4 answered. Async-signal-safe. */
NQ_PRIVATE nq_ending nq_ending_of(int wait_status, const struct rusage *used);
/* "exit status 3", "killed by signal 11 (SIGSEGV)"; and with its use " after 0.25 s of CPU, 12 MB". */
NQ_PRIVATE void nq_ending_words(const nq_ending *e, bool use, char out[NQ_ENDING_WORDS]);

/* ---- tail.c -- The last of a stream of bytes, in memory of the caller's. */
typedef struct nq_tail {
    char *bytes; /* a ring */
    size_t size; /* of it; 0: nothing is kept */
    size_t n;    /* bytes altogether */
} nq_tail;
NQ_PRIVATE void nq_tail_add(nq_tail *t, const char *p, size_t n);
/* `before`, and if anything was kept ": " and that, as a string in out, cut to `size`: what is cut is the
 * start of what was kept. White space at its end is left out, and what is no text becomes "?", since the
 * database keeps text. */
NQ_PRIVATE void nq_tail_text(const nq_tail *t, const char *before, char *out, size_t size);

/* ---- ladder.c -- SIGTERM, and what follows when that does not help. All times are nq_mono_us(). */
typedef struct nq_ladder { /* {0}: has not begun */
    bool began;
    int64_t term_us, kill_us; /* INT64_MAX: not to be sent any more */
    int64_t again_us;         /* between one SIGKILL and the next */
    unsigned kills;           /* sent */
} nq_ladder;
/* Nothing changes once it has begun. */
NQ_PRIVATE void nq_ladder_begin(nq_ladder *l, int64_t term_us, int64_t kill_us, int64_t again_us);
/* SIGTERM or SIGKILL when it is to be sent now; 0: neither. */
NQ_PRIVATE int nq_ladder_step(nq_ladder *l, int64_t now_us);
/* When the next step is due; INT64_MAX: never. */
NQ_PRIVATE int64_t nq_ladder_next(const nq_ladder *l);

/* ---- packet.c -- What the other process has said last, through a pair of sockets of SOCK_SEQPACKET. */
/* recv, but for EINTR and ECONNRESET. The latter comes once, and before what the other end had sent, when
 * that was closed while something that we had asked was still unread in it: no reason not to hear the rest.
 */
NQ_PRIVATE ssize_t nq_packet_receive(int fd, void *out, size_t size, int flags);

/* ---- rlimit.c -- Limits of processes. Async-signal-safe; -1: errno. */

/* RLIMIT_... as getrlimit wants it: an enum in glibc, an int in musl. */
#ifdef __GLIBC__
typedef unsigned nq_rlimit;
#else
typedef int nq_rlimit;
#endif
/* Lower the soft limit, and the hard one too; what the process is allowed already is never raised. */
NQ_PRIVATE int nq_rlimit_lower(nq_rlimit what, rlim_t value, bool hard);
/* No core, which would hold the tasks' data. The soft limit alone, so that who wants one raises it again. */
NQ_PRIVATE void nq_rlimit_no_core(void);
/* Let a process (0: this one) use so much more of the CPU than it has used by now, to the second and at least
 * so much. The soft limit alone: it is raised before each task, and one that has been lowered for good could
 * not be. */
NQ_PRIVATE int nq_rlimit_cpu(pid_t pid, int64_t us);

/* ---- tree.c -- What a process has started, in whatever process group or session. Async-signal-safe. */
/* Send a signal to all that descend from root, without itself, and to nobody who has got the number of one
 * that ended meanwhile. Answers how many could be signalled. */
NQ_PRIVATE size_t nq_tree_signal(pid_t root, int number);
/* The two halves of it: how many there are; a signal to those that were found and are still there. */
NQ_PRIVATE size_t nq_tree_find(pid_t root);
NQ_PRIVATE size_t nq_tree_send(int number);
/* The children of the calling process, which has one thread; at most `max`. */
NQ_PRIVATE size_t nq_tree_children(pid_t *out, size_t max);

#endif
