/* SPDX-License-Identifier: MIT */
/* moves.c: moving tasks by hand: retrying, cancelling, deleting them, to another queue or priority. */
#ifndef NQ_STORE_MOVES_H
#define NQ_STORE_MOVES_H

#include "find.h"

enum nq_moves_what {
    NQ_MOVES_RETRY,
    NQ_MOVES_CANCEL,
    NQ_MOVES_DELETE,
    NQ_MOVES_QUEUE,   /* waiting ones to another queue; a group is kept, unless the new name has one itself */
    NQ_MOVES_PRIORITY /* of waiting ones */
};

typedef struct nq_moved {
    nq_id id;
    int state;  /* out: in which it was found; -1: nowhere */
    int result; /* out: NQ_OK, a running one that is to be cancelled is asked for then; NQ_ENOTFOUND,
                   NQ_ESTATE; NQ_EDUPLICATE; NQ_ETOOBIG: its group does not fit behind the new queue;
                   NQ_ECONFLICT: somebody has it locked; NQ_EINVAL: the database refuses it */
} nq_moved;

typedef struct nq_moves {
    enum nq_moves_what what;
    nq_moved *all; /* in order of id, each id once */
    size_t n;
    const nq_where
        *where;   /* of them only those that match are meant, the others are NQ_ENOTFOUND; NULL: all */
    bool patient; /* wait for who has some locked, and fail where the database does */
    const char *queue;
    int priority;
} nq_moves;

/* In one transaction or, where some of them are in others' hands, in several; NQ_OK: all have their result,
 * and what is to be done is done and committed. Without patience it waits for nobody. */
NQ_PRIVATE int nq_store_move(nq_store *s, nq_moves *m, nq_err *err);

#endif
