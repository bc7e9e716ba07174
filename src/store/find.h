/* SPDX-License-Identifier: MIT */
/* Finding tasks: filter.c what a filter says as conditions of SQL, plan.c by which index, find.c a page of
 * them. Both tables, both databases. */
#ifndef NQ_STORE_FIND_H
#define NQ_STORE_FIND_H

#include "store.h"

/* As nq_sql, and the statement is not kept prepared. For reads that are rare, and for those that live by an
 * index which has all that they ask for: MariaDB (seen with 10.11) forgets at later executions of a prepared
 * statement that it has, when another statement read whole rows of the table meanwhile; it goes to each row
 * then, and does not jump over what it need not see. */
NQ_PRIVATE int nq_sql_once(nq_conn *c, const char *template_sql, const nq_val args[], size_t nargs,
                           nq_row_fn row, void *arg, nq_err *err);

/* ---- A statement that is being made, with its values ---- */

typedef struct nq_query {
    nq_buf sql; /* a template */
    nq_val *args;
    size_t n, cap;
} nq_query;
NQ_PRIVATE void nq_query_arg(nq_query *q, nq_val v); /* what it points to must stay until the query has run */
NQ_PRIVATE int nq_query_run(nq_conn *c, const nq_query *q, nq_row_fn row, void *arg, nq_err *err);
NQ_PRIVATE void nq_query_clear(nq_query *q);
NQ_PRIVATE void nq_query_free(nq_query *q);

/* ---- filter.c ---- */

#define NQ_LIVE_STATES (NQ_STATE_BIT(NQ_STATE_WAITING) | NQ_STATE_BIT(NQ_STATE_RUNNING))
#define NQ_ENDED_STATES                                                                                      \
    (NQ_STATE_BIT(NQ_STATE_DONE) | NQ_STATE_BIT(NQ_STATE_DEAD) | NQ_STATE_BIT(NQ_STATE_CANCELLED))

/* A queue of the filter: that name, and the names between from and to if there are such; of these, where
 * there is a line, only what has it among its headers. */
typedef struct nq_where_queue {
    char name[NQ_MAX_QUEUE + 1];
    char from[NQ_MAX_QUEUE + 4], to[NQ_MAX_QUEUE + 4];
    char line[2 * NQ_MAX_TYPE];
} nq_where_queue;

typedef struct nq_where_type {
    char from[NQ_MAX_TYPE + 1];
    bool star;                /* all that begin with it */
    char to[NQ_MAX_TYPE + 2]; /* and what does so is less than this; "": nothing is known to be more */
} nq_where_type;

/* A filter that was checked. Its strings are the caller's. */
typedef struct nq_where {
    nq_filter f;
    unsigned states; /* that can match at all: of f.states and of what its other fields imply */
    nq_where_queue *queues;
    size_t nqueues; /* 0: any queue */
    nq_where_type *types;
    size_t ntypes; /* 0: any type */
    nq_id *ids;    /* in order, each once */
    size_t nids;
    size_t text_size, error_size, worker_size;
    bool workers; /* all whose name begins with these worker_size bytes */
} nq_where;
/* NQ_EINVAL names what is wrong. stars: a trailing one has a meaning. f NULL: every task. */
NQ_PRIVATE int nq_where_init(nq_where *w, const nq_filter *f, bool stars, nq_err *err);
NQ_PRIVATE void nq_where_free(nq_where *w); /* accepts one that is {0} */
/* Append " AND ..." for the rows i of {tasks} (live) or {finished}: all that the filter says, its tags too,
 * but not the first `tags` ones, and not the ids: whoever reads by them names them. */
NQ_PRIVATE void nq_where_add(const nq_where *w, bool live, size_t tags, nq_query *q);
/* Does it say anything beyond queues, states and the time of ending, which the indexes have? */
NQ_PRIVATE bool nq_where_needs_rows(const nq_where *w);

/* ---- plan.c ---- */

enum nq_access {
    NQ_ACCESS_NONE,
    NQ_ACCESS_ID,
    NQ_ACCESS_CLAIM,
    NQ_ACCESS_HISTORY,
    NQ_ACCESS_RETENTION,
    NQ_ACCESS_TYPE
};

/* Names of queues that are in a table, as far as a filter asks for them. */
typedef struct nq_names {
    char (*all)[NQ_MAX_QUEUE + 1];
    size_t n, cap;
    bool read, many; /* many: there are more than are worth to be named one by one */
    size_t rows;     /* of the last reading, with those whose name can be no queue's, */
    nq_buf last;     /* and the last of these names */
} nq_names;

typedef struct nq_plan {
    const nq_where *where;
    uint64_t look;        /* at most so many tasks without an index; 0: none */
    nq_names names[2];    /* of {finished}, of {tasks} */
    enum nq_access by[2]; /* likewise: how to read it; NONE: nothing leads to what is asked for */
} nq_plan;
/* Look for indexes that lead to at most so many tasks of each table. */
NQ_PRIVATE int nq_plan_make(nq_conn *c, nq_plan *p, nq_err *err);
/* The same of indexes that have all that the filter asks for, whatever they lead to. */
NQ_PRIVATE int nq_plan_cover(nq_conn *c, nq_plan *p, nq_err *err);
/* Is there an index for both? */
NQ_PRIVATE bool nq_plan_good(const nq_plan *p);
/* Append the table, as i, and the conditions for its index. */
NQ_PRIVATE void nq_plan_from(const nq_plan *p, bool live, enum nq_access by, nq_query *q);
NQ_PRIVATE void nq_plan_free(nq_plan *p);
/* Add the names of queues from `from` to before `to` that a table has, in its order, at most so many. */
NQ_PRIVATE int nq_names_read(nq_conn *c, nq_names *names, bool live, nq_val from, const char *to, size_t most,
                             nq_err *err);
NQ_PRIVATE void nq_names_free(nq_names *names);

/* ---- find.c ---- */

/* What is read of the tasks that are found: the columns (with id among them) of table t, and what is joined
 * to it. */
typedef struct nq_find_columns {
    const char *live, *live_joins, *ended;
    size_t id_at; /* the place of the id among the columns */
} nq_find_columns;

/* A page in the order of ids. */
typedef struct nq_find {
    const nq_where *where;
    nq_id above, below; /* ids between these; 0: any */
    bool falling;       /* from the highest down */
    size_t limit;
    uint64_t look;                  /* as nq_list_options.look */
    const nq_find_columns *columns; /* NULL: id, state */
    nq_row_fn row;
    void *arg;
    size_t n;      /* out: rows */
    bool bounded;  /* out: it stopped early, having looked at what comes up to reached */
    nq_id reached; /* out: also the last row's id where the limit was reached */
} nq_find;
/* Each task is seen once, wherever it moves meanwhile. row is called while the connection is busy; begin
 * anew after an error. */
NQ_PRIVATE int nq_find_page(nq_conn *c, nq_find *f, nq_err *err);

/* Count those of the next window of so many tasks of each table behind f->above; *end: its last id; 0: there
 * are no more. */
NQ_PRIVATE int nq_find_count(nq_conn *c, nq_find *f, uint64_t window, uint64_t *n, nq_id *end, nq_err *err);

/* For who changes many: up to limit tasks that match and come after an id (0: from the start) in that order,
 * without locks. *reached: go on after it; *end: there is nothing beyond. */
typedef struct nq_hit {
    nq_id id;
    int state;
} nq_hit;
NQ_PRIVATE int nq_store_find(nq_store *s, const nq_where *w, bool falling, nq_id after, nq_hit hits[],
                             size_t limit, size_t *n, nq_id *reached, bool *end, nq_err *err);

#include "count.h"

#endif
