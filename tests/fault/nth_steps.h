/* SPDX-License-Identifier: MIT */
/* What scenarios of steps share: the queue that they work on, and how a step that fails is judged. */
#ifndef NQ_TEST_NTH_STEPS_H
#define NQ_TEST_NTH_STEPS_H

#include "nth.h"

struct store_world {
    nth_run *run;
    nq *q;
    nq_store *s;
    t_conn *caller;
    nq_member *member;
    uint64_t seq;
    nq_claimed *held;
    size_t nheld;
    char note[512]; /* what a step that only reads has seen */
};

/* Does the call; may be called again after a failure. */
typedef int (*store_step_fn)(struct store_world *w, nq_err *err);

typedef struct nth_step {
    const char *name;
    store_step_fn fn;
    bool lets_go;  /* of what is held, once it took effect */
    bool doubtful; /* after a failure it may have taken effect all the same; a later call settles that */
} nth_step;
/* At most NTH_NOTES, the last of which closes the queue. */
void nth_steps_run(nth_run *run, const nth_step steps[], size_t n);

nq_id store_id(const struct store_world *w, const char *table, const char *payload);
int store_open(struct store_world *w, nq_err *err);
int store_close(struct store_world *w, nq_err *err);
int store_join(struct store_world *w, nq_err *err);
int store_leave(struct store_world *w, nq_err *err);
/* So many, which must be there, in addition to what is held. */
int store_claim(struct store_world *w, const char *queue, const char *const types[], size_t ntypes,
                size_t want, nq_err *err);
enum { STORE_MOST = 24 };
/* At most STORE_MOST. */
int store_finish(struct store_world *w, nq_outcome outcomes[], size_t n, nq_err *err);

struct store_seen {
    size_t n, bytes;
};
int store_see(const nq_info *info, void *arg);
void store_saw(struct store_world *w, int rc, const struct store_seen *seen); /* where rc is NQ_OK */

/* How a statement or an operation on a file fails: MySQL's, then SQLite's, from INJECT_BUSY on. */
typedef struct nth_way {
    const char *name;
    enum inject_how how;
    bool persistent;
} nth_way;
enum { NTH_STATEMENT_WAYS = 17, NTH_FILE_WAYS = 7 };
extern const nth_way nth_statement_ways[NTH_STATEMENT_WAYS], nth_file_ways[NTH_FILE_WAYS];

#endif
