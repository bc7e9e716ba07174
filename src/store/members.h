/* SPDX-License-Identifier: MIT */
/* members.c: membership and liveness. There it says how death is told. */
#ifndef NQ_STORE_MEMBERS_H
#define NQ_STORE_MEMBERS_H

#include "store.h"

typedef struct nq_member nq_member;
/* What a worker says of itself, for people and for nq_why. The strings must outlive the member. */
typedef struct nq_member_about {
    const char *queues; /* separated by commas */
    const char *types;  /* separated by line feeds; NULL: any */
    unsigned concurrency;
    uint64_t settings; /* as nq_member_says does */
} nq_member_about;
/* Enter this process as a worker. name: host:pid, for people. about NULL: nothing is said. */
NQ_PRIVATE int nq_member_join(nq_member **out, nq_store *s, const char *name, const nq_member_about *about,
                              nq_err *err);
/* What the next beats say: how many tasks run, and the hash of the settings that are heeded; 0: of none. */
NQ_PRIVATE void nq_member_says(nq_member *m, unsigned running, uint64_t settings);
NQ_PRIVATE uint64_t nq_member_id(const nq_member *m);
/* When it joined, by the database's clock: with the id this is it and no other, ever. */
NQ_PRIVATE int64_t nq_member_since_us(const nq_member *m);
/* Say that we live. NQ_ELEASE: we were declared dead; every lease of this member is lost. */
NQ_PRIVATE int nq_member_beat(nq_member *m, nq_err *err);
/* The same without the member, which another thread has: on a connection made for it, so that what holds up
 * the member's holds up no beat. Any thread. */
NQ_PRIVATE int nq_member_pulse(nq_store *s, uint64_t id, int64_t since_us, nq_err *err);
/* Look at the others, declare the dead ones dead. *died is their number. Call a few times a second. */
NQ_PRIVATE int nq_member_watch(nq_member *m, int64_t lease_us, unsigned *died, nq_err *err);
/* How many of them may be dead, by the last look: look again soon. */
NQ_PRIVATE unsigned nq_member_suspects(const nq_member *m);
/* Leave: the row goes, so does the lock. Tasks must have been finished or released. Frees m. */
NQ_PRIVATE int nq_member_leave(nq_member *m, nq_err *err);
/* Forget without touching the database (after NQ_ELEASE). Accepts NULL. */
NQ_PRIVATE void nq_member_free(nq_member *m);
/* The name of another worker that was there at the last look, or went lately; NULL: not known. It
 * is the member's, until its next look. m may be NULL. */
NQ_PRIVATE const char *nq_member_named(const nq_member *m, uint64_t id);

#endif
