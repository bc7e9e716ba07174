/* SPDX-License-Identifier: MIT */
/* Makes the n-th allocation, system call, statement or file operation of the library fail. */
#ifndef NQ_TEST_INJECT_H
#define NQ_TEST_INJECT_H

#include "../harness.h"

/*
 * The program is linked with --wrap (meson.build), so that these calls of the library, and of nobody below
 * it, pass through here. Only calls made while the injection is armed are counted; a test arms it around each
 * call into the library, so its own calls are left alone.
 */
enum inject_kind {
    INJECT_NONE,
    INJECT_ALLOC,     /* malloc, strdup, ... answer NULL */
    INJECT_SYSTEM,    /* pthread_create, eventfd, ... fail */
    INJECT_STATEMENT, /* a call of the client library of the database; how, says enum inject_how */
    INJECT_FILE       /* an operation of SQLite's on its files */
};

enum inject_how {
    INJECT_LOST_BEFORE,  /* MySQL: the connection is cut, nothing was executed */
    INJECT_LOST_AFTER,   /* the statement was executed, its answer is lost */
    INJECT_DEADLOCK,     /* the server ended the transaction: 1213 */
    INJECT_TIMEOUT,      /* the server gave up the statement: 1205 */
    INJECT_TABLE_FULL,   /* the server gave up the statement: 1114 */
    INJECT_CLIENT_NOMEM, /* the client library found no memory: 2008 */
    INJECT_ENDED,        /* a SELECT answered, and the server has ended the transaction without a word */
    INJECT_BUSY,         /* SQLite: SQLITE_BUSY */
    INJECT_FULL,         /* SQLITE_FULL; the transaction is still open */
    INJECT_FULL_LOST,    /* SQLITE_FULL, and SQLite rolled the transaction back */
    INJECT_IOERR_LOST,
    INJECT_NOMEM,
    INJECT_CORRUPT,
    INJECT_FILE_ERROR, /* the file: EIO */
    INJECT_FILE_FULL,  /* no room: writes fail */
    INJECT_FILE_SYNC,  /* what was written cannot be made durable */
    INJECT_FILE_TORN   /* half of it is written, then EIO */
};

typedef struct inject_plan {
    enum inject_kind kind;
    enum inject_how how;
    long at;         /* the first call that fails, from 1; 0: none, they are only counted */
    bool persistent; /* and all after it too */
} inject_plan;

void inject_set(const inject_plan *plan); /* and count from 0 */
void inject_arm(void);
void inject_disarm(void);
bool inject_pause(bool pause); /* this thread is in the test's own code; whether it was before */
void inject_stop(void);        /* from here on nothing fails */
long inject_count(void);
long inject_hits(void); /* how many calls failed */
/* Shall this call fail? Counts it. */
bool inject_hit(enum inject_kind kind);
/* Has something failed, and could more fail in this thread? */
bool inject_failing(void);
enum inject_how inject_how(void);

/* Memory that went through the wrapped functions and was not freed since inject_set. */
size_t inject_live(void);
/* The addresses of the calls that got it, for addr2line, to stderr. */
void inject_print_live(void);

/* Put a layer of ours over SQLite's own access to files; every file that is opened afterwards goes through
 * it. */
void inject_vfs(void);
void inject_vfs_end(void);

/* The library's call, with the injection armed. */
#define INJECT(rc, call)                                                                                     \
    do {                                                                                                     \
        inject_arm();                                                                                        \
        (rc) = (call);                                                                                       \
        inject_disarm();                                                                                     \
    } while (0)

#endif
