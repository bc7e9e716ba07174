/* SPDX-License-Identifier: MIT */
/* nanoq: how the library runs a statement on a connection of the application's. */
#ifndef NANOQ_TX_H
#define NANOQ_TX_H

/*
 * Applications include nanoq_mysql.h or nanoq_sqlite.h instead. Those compile the functions behind this
 * table in the application's own unit, against the application's own client library: libmariadb and
 * libmysqlclient differ in ABI, and a program may carry a SQLite of its own, so libnanoq itself never
 * touches a MYSQL* or sqlite3* that it did not open.
 */

#include "nanoq.h"

#ifdef __cplusplus
extern "C" {
#endif

enum nq_val_type { NQ_VAL_NULL = 0, NQ_VAL_INT, NQ_VAL_TEXT, NQ_VAL_BLOB };

/* A bound parameter or a column of a result. */
typedef struct nq_val {
    int type;      /* enum nq_val_type */
    int64_t i;     /* NQ_VAL_INT */
    const void *p; /* NQ_VAL_TEXT, NQ_VAL_BLOB; not NUL-terminated; of a column not NULL, also where n is 0 */
    size_t n;
} nq_val;

/* Called per row; cols are valid until it returns. Non-zero stops and is returned by exec. */
typedef int (*nq_row_fn)(const nq_val cols[], size_t ncols, void *arg);

typedef struct nq_exec_result {
    uint64_t affected; /* rows changed */
    int64_t insert_id; /* of the first row inserted (MySQL), of the last (SQLite) */
    int db_code;       /* 0, or the database's error number (MySQL errno, SQLite extended code) */
    bool lost;         /* the transaction no longer exists, or the connection does not */
    char sqlstate[6];
    char message[384]; /* the database's own text */
} nq_exec_result;

enum nq_tx_kind { NQ_TX_MYSQL = 1, NQ_TX_SQLITE = 2 };

struct nq_tx_ops {
    size_t size;
    int kind; /* enum nq_tx_kind */
    /* Run one statement with bound parameters. Returns 0, row's non-zero answer, or -1 with res filled. */
    int (*exec)(void *conn, const char *sql, const nq_val args[], size_t nargs, nq_row_fn row, void *arg,
                nq_exec_result *res);
    /* Is a transaction open, or will the next statement begin one that stays open? */
    bool (*in_tx)(void *conn);
};

#ifdef __cplusplus
}
#endif
#endif
