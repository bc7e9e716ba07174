/* SPDX-License-Identifier: MIT */
/* nanoq: use an application's own MySQL or MariaDB connection as the transaction of an enqueue. */
#ifndef NANOQ_MYSQL_H
#define NANOQ_MYSQL_H

/*
 *     nq_enqueue(q, nq_tx_mysql(conn), NQ_TASK(.type = "email", ...), &id, &err);
 *
 * puts the task into the transaction that is open on conn (MYSQL *); it commits or rolls back with it. The
 * library neither commits, rolls back, reconnects nor changes a setting there. What it leaves behind is what
 * any statement leaves: mysql_insert_id, mysql_affected_rows and mysql_error of conn are overwritten. conn
 * must not have an unread result (mysql_use_result) pending.
 *
 * Your session's settings apply; none bends what is added, but with unique_checks=0 InnoDB may take a second
 * task of one unique key, and with autocommit=0 or completion_type=1 a transaction is open all the time: what
 * you enqueue waits for your next COMMIT. docs/session.md has them all.
 *
 * The code below is compiled in your unit, against the client library whose headers you include: libmariadb
 * and libmysqlclient both work, whichever libnanoq itself was built with. Include your client's mysql.h first
 * where it is not found as <mysql.h>.
 */

#include <stdlib.h>
#include <string.h>

#if !defined(MYSQL_ERRMSG_SIZE)
#include <mysql.h>
#endif

#include "nanoq_tx.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Is the transaction gone after this error? 1213 deadlock, 1206 no room for more locks, 1467 one over
 * AUTO_INCREMENT, 1020 snapshot conflict, 3101 one with another member of a group, the rest: no connection.
 * By number: this is compiled in the application's unit, where the library's list of them is not to be had,
 * and each client's own headers lack some of the names. */
static inline bool nq_mysql_lost_(unsigned code)
{
    switch (code) {
    case 1213:
    case 1206:
    case 1467:
    case 1020:
    case 3101:
    case 1053:
    case 1927:
    case 4031:
    case 2006:
    case 2013:
    case 2026:
    case 2027:
    case 2055:
    case 5013:
    case 5014:
        return true;
    default:
        return false;
    }
}

static inline void nq_mysql_copy_(char *out, size_t size, const char *text)
{
    size_t n = strlen(text);
    n = n < size ? n : size - 1;
    memcpy(out, text, n);
    out[n] = '\0';
}

static inline int nq_mysql_failed_(nq_exec_result *res, unsigned code, const char *sqlstate,
                                   const char *message)
{
    memset(res, 0, sizeof *res);
    res->db_code = (int)(code ? code : 2000);
    res->lost = nq_mysql_lost_(code);
    nq_mysql_copy_(res->sqlstate, sizeof res->sqlstate, sqlstate);
    nq_mysql_copy_(res->message, sizeof res->message, message);
    return -1;
}

static inline int nq_mysql_stmt_failed_(nq_exec_result *res, MYSQL_STMT *stmt)
{
    return nq_mysql_failed_(res, mysql_stmt_errno(stmt), mysql_stmt_sqlstate(stmt), mysql_stmt_error(stmt));
}

/* The status that nq_mysql_ended_ compares with: of before sql was prepared. 0: there is nothing to compare,
 * of a SELECT that reads no table. Where autocommit is off MySQL says that a transaction is open when
 * something was only prepared, and such a SELECT takes that back. */
static inline unsigned nq_mysql_before_(const MYSQL *conn, const char *sql)
{
    return strncmp(sql, "SELECT ", 7) != 0 || strstr(sql, " FROM ") ? conn->server_status : 0;
}

/* A statement succeeded on a connection whose status was before: is its transaction still open? Galera may
 * end one for another node's write while a SELECT sends its rows, and answer that all went well
 * (MariaDB 11.8): the next statement would be one by itself, with nothing behind it. No statement of nanoq's
 * that may answer rows, or has parameters, ends a transaction. */
static inline int nq_mysql_ended_(const MYSQL *conn, unsigned before, nq_exec_result *res)
{
    if ((before & SERVER_STATUS_IN_TRANS) == 0 || (conn->server_status & SERVER_STATUS_IN_TRANS) != 0)
        return 0;
    return nq_mysql_failed_(res, 1213, "40001", "the server ended the transaction while a statement ran");
}

static inline int nq_mysql_nomem_(nq_exec_result *res)
{
    return nq_mysql_failed_(res, 2008, "HY001", "out of memory");
}

static inline int nq_mysql_is_int_(const MYSQL_FIELD *field)
{
    switch (field->type) {
    case MYSQL_TYPE_TINY:
    case MYSQL_TYPE_SHORT:
    case MYSQL_TYPE_INT24:
    case MYSQL_TYPE_LONG:
    case MYSQL_TYPE_LONGLONG:
    case MYSQL_TYPE_YEAR:
        return 1;
    case MYSQL_TYPE_DECIMAL:
    case MYSQL_TYPE_NEWDECIMAL: /* SUM of integers */
        return field->decimals == 0;
    default:
        return 0;
    }
}

/* The column that was fetched, as a value. */
static inline void nq_mysql_column_(const MYSQL_FIELD *field, const MYSQL_BIND *bind, nq_val *v)
{
    if (bind->is_null_value) {
        v->type = NQ_VAL_NULL;
        v->i = 0; /* the buffer of a number, which still holds that of the row before */
        v->p = NULL;
        v->n = 0;
    } else if (nq_mysql_is_int_(field)) {
        v->type = NQ_VAL_INT;
    } else {
        v->type = field->charsetnr == 63 ? NQ_VAL_BLOB : NQ_VAL_TEXT;
        v->p = bind->buffer;
        v->n = (size_t)bind->length_value;
    }
}

/* Hand the rows of an executed and stored statement to row. */
static inline int nq_mysql_rows_(MYSQL_STMT *stmt, MYSQL_RES *meta, nq_row_fn row, void *arg,
                                 nq_exec_result *res)
{
    const unsigned n = mysql_num_fields(meta);
    const MYSQL_FIELD *fields = mysql_fetch_fields(meta);
    size_t bytes = 1, at = 0;
    int rc = 0;
    for (unsigned i = 0; i < n; i++)
        bytes += nq_mysql_is_int_(&fields[i]) ? 0 : (size_t)fields[i].max_length;
    MYSQL_BIND *bind = (MYSQL_BIND *)calloc((size_t)n + 1, sizeof *bind);
    nq_val *vals = (nq_val *)calloc((size_t)n + 1, sizeof *vals);
    char *text = (char *)malloc(bytes);
    if (!bind || !vals || !text) {
        rc = nq_mysql_nomem_(res);
        goto out;
    }
    for (unsigned i = 0; i < n; i++) {
        /* These members of the bind itself have the type that this client wants: my_bool here, bool there. */
        bind[i].is_null = &bind[i].is_null_value;
        bind[i].length = &bind[i].length_value;
        if (nq_mysql_is_int_(&fields[i])) {
            bind[i].buffer_type = MYSQL_TYPE_LONGLONG;
            bind[i].is_unsigned = (fields[i].flags & UNSIGNED_FLAG) != 0;
            bind[i].buffer = &vals[i].i;
        } else {
            bind[i].buffer_type = MYSQL_TYPE_BLOB;
            bind[i].buffer = text + at;
            bind[i].buffer_length = fields[i].max_length;
            at += (size_t)fields[i].max_length;
        }
    }
    if (mysql_stmt_bind_result(stmt, bind)) {
        rc = nq_mysql_stmt_failed_(res, stmt);
        goto out;
    }
    while (rc == 0) {
        const int got = mysql_stmt_fetch(stmt);
        if (got == MYSQL_NO_DATA)
            break;
        if (got == 1) {
            rc = nq_mysql_stmt_failed_(res, stmt);
            break;
        }
        for (unsigned i = 0; i < n; i++)
            nq_mysql_column_(&fields[i], &bind[i], &vals[i]);
        rc = row(vals, n, arg);
    }
    /* The statement may be run again: libmysqlclient then writes through the pointers that it was given. */
    memset(bind, 0, n * sizeof *bind);
    for (unsigned i = 0; i < n; i++)
        bind[i].buffer_type = MYSQL_TYPE_NULL;
    mysql_stmt_bind_result(stmt, bind);
out:
    free(bind);
    free(vals);
    free(text);
    return rc;
}

/* What a parameter is bound to is only read, but MYSQL_BIND is for results too. */
static inline void *nq_mysql_unsaid_const_(const void *p)
{
    return (void *)(uintptr_t)p;
}

/* What a statement that was executed answers. before: nq_mysql_before_. */
static inline int nq_mysql_answer_(const MYSQL *conn, unsigned before, MYSQL_STMT *stmt, nq_row_fn row,
                                   void *arg, nq_exec_result *res)
{
    const bool rows = mysql_stmt_field_count(stmt) != 0;
    int rc = 0;
    if (rows && mysql_stmt_store_result(stmt))
        return nq_mysql_stmt_failed_(res, stmt);
    if (nq_mysql_ended_(conn, before, res))
        return -1;
    if (rows && row) {
        MYSQL_RES *const meta = mysql_stmt_result_metadata(stmt);
        if (!meta)
            return nq_mysql_nomem_(res);
        rc = nq_mysql_rows_(stmt, meta, row, arg, res);
        mysql_free_result(meta);
    }
    if (rc == 0) {
        memset(res, 0, sizeof *res);
        res->affected = (uint64_t)mysql_stmt_affected_rows(stmt);
        res->insert_id = (int64_t)mysql_stmt_insert_id(stmt);
    }
    return rc;
}

/* Run a prepared statement of conn's. before: nq_mysql_before_. text_type is what NQ_VAL_TEXT is sent as. */
static inline int nq_mysql_run_(const MYSQL *conn, unsigned before, MYSQL_STMT *stmt,
                                enum enum_field_types text_type, const nq_val args[], size_t nargs,
                                nq_row_fn row, void *arg, nq_exec_result *res)
{
    int rc;
    MYSQL_BIND *bind = NULL;
    if (mysql_stmt_param_count(stmt) != nargs)
        return nq_mysql_failed_(res, 2031, "HY000", "wrong number of parameters");
    if (nargs) {
        bind = (MYSQL_BIND *)calloc(nargs, sizeof *bind);
        if (!bind)
            return nq_mysql_nomem_(res);
        for (size_t i = 0; i < nargs; i++) {
            switch (args[i].type) {
            case NQ_VAL_INT:
                bind[i].buffer_type = MYSQL_TYPE_LONGLONG;
                bind[i].buffer = nq_mysql_unsaid_const_(&args[i].i);
                break;
            case NQ_VAL_TEXT:
            case NQ_VAL_BLOB:
                bind[i].buffer_type = args[i].type == NQ_VAL_TEXT ? text_type : MYSQL_TYPE_BLOB;
                bind[i].buffer = nq_mysql_unsaid_const_(args[i].n ? args[i].p : &args[i].i);
                bind[i].buffer_length = (unsigned long)args[i].n;
                break;
            default:
                bind[i].buffer_type = MYSQL_TYPE_NULL;
                break;
            }
        }
    }
    if ((bind && mysql_stmt_bind_param(stmt, bind)) || mysql_stmt_execute(stmt))
        rc = nq_mysql_stmt_failed_(res, stmt);
    else
        rc = nq_mysql_answer_(conn, before, stmt, row, arg, res);
    free(bind);
    return rc;
}

/* A prepared statement of conn's, or NULL with res filled. */
static inline MYSQL_STMT *nq_mysql_prepare_(MYSQL *conn, const char *sql, size_t n, nq_exec_result *res)
{
    const char yes = 1; /* my_bool or bool: one byte in both clients */
    MYSQL_STMT *stmt = mysql_stmt_init(conn);
    if (!stmt) {
        nq_mysql_nomem_(res);
        return NULL;
    }
    if (mysql_stmt_attr_set(stmt, STMT_ATTR_UPDATE_MAX_LENGTH, &yes) ||
        mysql_stmt_prepare(stmt, sql, (unsigned long)n)) {
        nq_mysql_stmt_failed_(res, stmt);
        mysql_stmt_close(stmt);
        return NULL;
    }
    return stmt;
}

/* A DELETE that MariaDB was told to end (KILL QUERY), and on 11.8 an UPDATE, may answer that there was no
 * such row. One that found none runs again, whoever ended it: that changes nothing else. */
static inline bool nq_mysql_found_none_(int rc, const char *sql, const nq_exec_result *res)
{
    const char *const comment = strncmp(sql, "/*", 2) ? NULL : strstr(sql, "*/ ");
    const char *const verb = comment ? comment + 3 : sql;
    return rc == 0 && res->affected == 0 &&
           (strncmp(verb, "DELETE ", 7) == 0 || strncmp(verb, "UPDATE ", 7) == 0);
}

static inline int nq_mysql_exec_(void *conn, const char *sql, const nq_val args[], size_t nargs,
                                 nq_row_fn row, void *arg, nq_exec_result *res)
{
    const unsigned before = nq_mysql_before_((const MYSQL *)conn, sql);
    MYSQL_STMT *stmt = nq_mysql_prepare_((MYSQL *)conn, sql, strlen(sql), res);
    if (!stmt)
        return -1;
    /* Text goes as bytes: the application's connection may be set to latin1, and ours is UTF-8 already. */
    int rc = nq_mysql_run_((const MYSQL *)conn, before, stmt, MYSQL_TYPE_BLOB, args, nargs, row, arg, res);
    if (nq_mysql_found_none_(rc, sql, res))
        rc = nq_mysql_run_((const MYSQL *)conn, before, stmt, MYSQL_TYPE_BLOB, args, nargs, row, arg, res);
    mysql_stmt_close(stmt);
    return rc;
}

static inline bool nq_mysql_in_tx_(void *conn)
{
    const unsigned status = ((MYSQL *)conn)->server_status;
    return (status & SERVER_STATUS_IN_TRANS) != 0 || (status & SERVER_STATUS_AUTOCOMMIT) == 0;
}

/* The transaction that is open on conn, for nq_enqueue, nq_ctx_complete_in and their like. Holds no
 * resources.
 */
static inline nq_tx nq_tx_mysql(MYSQL *conn)
{
    static const struct nq_tx_ops ops = {sizeof(struct nq_tx_ops), NQ_TX_MYSQL, nq_mysql_exec_,
                                         nq_mysql_in_tx_};
    nq_tx tx;
    tx.conn = conn;
    tx.ops = &ops;
    return tx;
}

#ifdef __cplusplus
}
#endif
#endif
