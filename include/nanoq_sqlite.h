/* SPDX-License-Identifier: MIT */
/* nanoq: a transaction handle from a sqlite3* of the application's own. */
#ifndef NANOQ_SQLITE_H
#define NANOQ_SQLITE_H

/*
 *   sqlite3_exec(db, "BEGIN IMMEDIATE", NULL, NULL, NULL);
 *   ... business statements ...
 *   nq_enqueue(q, nq_tx_sqlite(db), NQ_TASK(.type = "email", NQ_BYTES("{}")), &id, &err);
 *   sqlite3_exec(db, "COMMIT", NULL, NULL, NULL);
 *
 * The functions are compiled in the application's unit, against the SQLite that the application links.
 *
 * The handle must be open on the file that the queue was opened on, and belongs to one thread at a time.
 * Begin with BEGIN IMMEDIATE: a deferred transaction that has read already may be refused the write lock
 * (SQLITE_BUSY_SNAPSHOT, answered as NQ_ECONFLICT) whatever its busy timeout says.
 * Outside a transaction the task is committed when nq_enqueue returns; so are all of nq_enqueue_many,
 * which in either case adds all or none: it works in a savepoint.
 * As any INSERT does, it changes the handle's sqlite3_changes() and sqlite3_last_insert_rowid().
 * NQ_DUPLICATE leaves the transaction usable. SQLite has one write lock for the whole file: it is held
 * from the enqueue on, duplicate or not, until the application commits or rolls back.
 */

#include <sqlite3.h>
#include <stdio.h>

#include "nanoq_tx.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The most columns of a row that a nq_row_fn is shown. */
#define NQ_SQLITE_MAX_COLUMNS 32

/* Bind args from the first parameter on, without a copy: they must outlive the statement's next reset. */
static inline int nq_sqlite_bind(sqlite3_stmt *stmt, const nq_val args[], size_t nargs)
{
    size_t i;
    for (i = 0; i < nargs; i++) {
        const nq_val *v = &args[i];
        const int at = (int)i + 1;
        const char *p = v->p ? (const char *)v->p : ""; /* a NULL pointer would be bound as NULL */
        int rc;
        if (v->type == NQ_VAL_INT)
            rc = sqlite3_bind_int64(stmt, at, v->i);
        else if (v->type == NQ_VAL_TEXT)
            rc = sqlite3_bind_text64(stmt, at, p, v->n, SQLITE_STATIC, SQLITE_UTF8);
        else if (v->type == NQ_VAL_BLOB)
            rc = sqlite3_bind_blob64(stmt, at, p, v->n, SQLITE_STATIC);
        else
            rc = sqlite3_bind_null(stmt, at);
        if (rc != SQLITE_OK)
            return rc;
    }
    return SQLITE_OK;
}

/* The current row's columns; valid until the next step. Answers their number. A column holds whatever type
 * its writer chose, so i is what CAST gives of a text or bytes; who wants bytes selects CAST(x AS BLOB). */
static inline size_t nq_sqlite_row(sqlite3_stmt *stmt, nq_val cols[NQ_SQLITE_MAX_COLUMNS])
{
    const int n = sqlite3_data_count(stmt);
    int i;
    for (i = 0; i < n && i < NQ_SQLITE_MAX_COLUMNS; i++) {
        nq_val *v = &cols[i];
        const int type = sqlite3_column_type(stmt, i);
        v->i = type == SQLITE_NULL ? 0 : sqlite3_column_int64(stmt, i);
        v->p = NULL;
        v->n = 0;
        if (type == SQLITE_NULL) {
            v->type = NQ_VAL_NULL;
        } else if (type == SQLITE_INTEGER || type == SQLITE_FLOAT) {
            v->type = NQ_VAL_INT;
        } else {
            v->type = type == SQLITE_TEXT ? NQ_VAL_TEXT : NQ_VAL_BLOB;
            v->p = sqlite3_column_blob(stmt, i); /* of a text too: allocates no terminator, cannot fail */
            v->n = (size_t)sqlite3_column_bytes(stmt, i);
            if (!v->p) /* of an empty one */
                v->p = "";
        }
    }
    return (size_t)i;
}

/* Note what the database says of its last failure. was_open: a transaction was open before it. */
static inline int nq_sqlite_failed(sqlite3 *db, int was_open, nq_exec_result *res)
{
    res->db_code = sqlite3_extended_errcode(db);
    res->lost = was_open && sqlite3_get_autocommit(db);
    snprintf(res->message, sizeof res->message, "%s", sqlite3_errmsg(db));
    return -1;
}

/* Run a prepared statement from bind to reset: 0, row's non-zero answer, or -1 with res filled. */
static inline int nq_sqlite_run(sqlite3 *db, sqlite3_stmt *stmt, const nq_val args[], size_t nargs,
                                nq_row_fn row, void *arg, nq_exec_result *res)
{
    const int was_open = !sqlite3_get_autocommit(db);
    const int before = sqlite3_total_changes(db);
    nq_val cols[NQ_SQLITE_MAX_COLUMNS];
    int rc, answer = 0;

    res->db_code = 0;
    res->lost = false;
    res->sqlstate[0] = res->message[0] = '\0';
    rc = nq_sqlite_bind(stmt, args, nargs);
    if (rc == SQLITE_OK) {
        while ((rc = sqlite3_step(stmt)) == SQLITE_ROW)
            if (row && (answer = row(cols, nq_sqlite_row(stmt, cols), arg)) != 0)
                break;
    }
    if (rc != SQLITE_DONE && rc != SQLITE_ROW)
        answer = nq_sqlite_failed(db, was_open, res);
    res->affected = (unsigned)sqlite3_total_changes(db) - (unsigned)before;
    res->insert_id = sqlite3_last_insert_rowid(db);
    sqlite3_reset(stmt);
    sqlite3_clear_bindings(stmt);
    return answer;
}

/* nq_tx_ops.exec over a sqlite3*. */
static inline int nq_sqlite_exec_on(void *conn, const char *sql, const nq_val args[], size_t nargs,
                                    nq_row_fn row, void *arg, nq_exec_result *res)
{
    sqlite3 *db = (sqlite3 *)conn;
    sqlite3_stmt *stmt = NULL;
    int answer;
    if (sqlite3_prepare_v2(db, sql, -1, &stmt, NULL) != SQLITE_OK) {
        res->affected = 0;
        res->insert_id = 0;
        res->sqlstate[0] = '\0';
        return nq_sqlite_failed(db, !sqlite3_get_autocommit(db), res);
    }
    answer = nq_sqlite_run(db, stmt, args, nargs, row, arg, res);
    sqlite3_finalize(stmt);
    return answer;
}

static inline bool nq_sqlite_in_tx(void *conn)
{
    return !sqlite3_get_autocommit((sqlite3 *)conn);
}

/* The handle for nq_enqueue and its like: db's open transaction, or one of db's own. Valid as long as db. */
static inline nq_tx nq_tx_sqlite(sqlite3 *db)
{
    static const struct nq_tx_ops ops = {sizeof(struct nq_tx_ops), NQ_TX_SQLITE, nq_sqlite_exec_on,
                                         nq_sqlite_in_tx};
    nq_tx tx;
    tx.conn = db;
    tx.ops = &ops;
    return tx;
}

#ifdef __cplusplus
}
#endif
#endif
