/* SPDX-License-Identifier: MIT */
/* SQLite: what its errors mean, running statements, transactions. */
#include "sqlite_driver.h"

/* ---- Errors ---- */

static int sqlite_sql_code(int db_code, const char *message)
{
    switch (db_code & 0xff) {
    case SQLITE_CONSTRAINT:
        if (db_code == SQLITE_CONSTRAINT_UNIQUE || db_code == SQLITE_CONSTRAINT_PRIMARYKEY)
            return NQ_EDUPLICATE;
        return NQ_EINVAL;
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
    case SQLITE_PROTOCOL:
    case SQLITE_SCHEMA:
    case SQLITE_INTERRUPT:
        return NQ_ECONFLICT;
    case SQLITE_NOMEM:
        return NQ_ENOMEM;
    case SQLITE_TOOBIG:
        return NQ_ETOOBIG;
    case SQLITE_FULL:
        return NQ_EFULL;
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
        return NQ_ECORRUPT;
    case SQLITE_READONLY:
        return NQ_EREADONLY;
    case SQLITE_CANTOPEN:
    case SQLITE_PERM:
    case SQLITE_AUTH:
        return NQ_EDENIED;
    case SQLITE_ERROR:
        return strncmp(message, "no such table", 13) == 0 ? NQ_ENOTMIGRATED : NQ_EDB;
    default:
        return NQ_EDB;
    }
}

NQ_PRIVATE int nq_sqlite_error(const nq_exec_result *res, nq_err *err)
{
    const int rc = sqlite_sql_code(res->db_code, res->message);
    if (rc == NQ_ECONFLICT)
        nq_err_set(err, rc, "another process is writing: %s", res->message);
    else if (rc == NQ_ENOTMIGRATED)
        nq_err_set(err, rc, "the nanoq tables do not exist, run nanoq migrate: %s", res->message);
    else
        nq_err_set(err, rc, "SQLite: %s%s", res->message,
                   res->db_code == SQLITE_READONLY_DIRECTORY ? ": its directory cannot be written" : "");
    if (err)
        err->db_code = res->db_code;
    return rc;
}

NQ_PRIVATE int nq_sqlite_caller_failed(const nq_store *s, nq_exec_result *res, nq_err *err)
{
    const int rc = nq_sqlite_error(res, err);
    (void)s;
    if (err)
        err->transaction_lost = res->lost;
    return rc;
}

/* After these the handle's own state may be wrong: a fresh one looks at the file anew. */
static bool sqlite_sql_breaks(int db_code)
{
    const int base = db_code & 0xff;
    return base == SQLITE_IOERR || base == SQLITE_CORRUPT || base == SQLITE_NOTADB ||
           base == SQLITE_CANTOPEN || base == SQLITE_READONLY || base == SQLITE_MISUSE;
}

NQ_PRIVATE int nq_sqlite_conn_failed(nq_sqlite_conn *c, const nq_exec_result *res, nq_err *err)
{
    if (sqlite_sql_breaks(res->db_code))
        c->base.broken = true;
    return nq_sqlite_error(res, err);
}

NQ_PRIVATE int nq_sqlite_conn_error(nq_sqlite_conn *c, nq_err *err)
{
    nq_exec_result res;
    nq_sqlite_failed(c->db, 0, &res);
    return nq_sqlite_conn_failed(c, &res, err);
}

/* ---- Statements ---- */

static int sqlite_sql_prepare(nq_sqlite_conn *c, const char *sql, sqlite3_stmt **out, nq_err *err)
{
    if (sqlite3_prepare_v3(c->db, sql, -1, SQLITE_PREPARE_PERSISTENT, out, NULL) != SQLITE_OK)
        return nq_sqlite_conn_error(c, err);
    return *out ? NQ_OK : nq_err_set(err, NQ_EINVAL, "empty statement");
}

NQ_PRIVATE int nq_sqlite_hot_get(nq_sqlite_conn *c, enum nq_sqlite_hot which, const char *template_sql,
                                 sqlite3_stmt **out, nq_err *err)
{
    if (!c->hot[which]) {
        nq_buf b = {0};
        int rc = nq_sql_expand(c->base.store, template_sql, &b);
        if (rc != NQ_OK || b.failed)
            rc = nq_err_nomem(err);
        else
            rc = sqlite_sql_prepare(c, b.p, &c->hot[which], err);
        nq_buf_free(&b);
        if (rc != NQ_OK)
            return rc;
    }
    *out = c->hot[which];
    return NQ_OK;
}

NQ_PRIVATE int nq_sqlite_take(nq_sqlite_conn *c, const char *sql, sqlite3_stmt **out, nq_err *err)
{
    const uint64_t hash = nq_fnv1a(sql);
    for (nq_sqlite_cached *e = c->cache; e < c->cache + NQ_SQLITE_CACHE; e++) {
        if (e->hash == hash && e->stmt && strcmp(sqlite3_sql(e->stmt), sql) == 0) {
            *out = e->stmt;
            e->stmt = NULL;
            e->used = 0; /* the place to give it back to */
            return NQ_OK;
        }
    }
    return sqlite_sql_prepare(c, sql, out, err);
}

NQ_PRIVATE void nq_sqlite_give(nq_sqlite_conn *c, sqlite3_stmt *stmt)
{
    nq_sqlite_cached *oldest = c->cache;
    for (nq_sqlite_cached *e = c->cache; e < c->cache + NQ_SQLITE_CACHE; e++)
        if (e->used < oldest->used)
            oldest = e;
    sqlite3_finalize(oldest->stmt);
    oldest->stmt = stmt;
    oldest->hash = nq_fnv1a(sqlite3_sql(stmt));
    oldest->used = ++c->tick;
}

NQ_PRIVATE int nq_sqlite_exec(nq_conn *conn, const char *sql, const nq_val args[], size_t nargs,
                              nq_row_fn row, void *arg, nq_exec_result *res, nq_err *err)
{
    nq_sqlite_conn *c = (nq_sqlite_conn *)conn;
    nq_exec_result own;
    sqlite3_stmt *stmt = NULL;
    int rc;

    if (!res)
        res = &own;
    memset(res, 0, sizeof *res);
    if ((rc = nq_sqlite_take(c, sql, &stmt, err)) != NQ_OK)
        return rc;
    rc = nq_sqlite_run(c->db, stmt, args, nargs, row, arg, res);
    nq_sqlite_give(c, stmt);
    if (rc == -1 && res->db_code)
        rc = nq_sqlite_conn_failed(c, res, err);
    return rc;
}

/* ---- Transactions ---- */

static int sqlite_sql_control(nq_sqlite_conn *c, enum nq_sqlite_hot which, const char *sql, nq_err *err)
{
    sqlite3_stmt *stmt;
    int rc = nq_sqlite_hot_get(c, which, sql, &stmt, err);
    if (rc == NQ_OK && sqlite3_step(stmt) != SQLITE_DONE)
        rc = nq_sqlite_conn_error(c, err);
    sqlite3_reset(c->hot[which]);
    return rc;
}

/* IMMEDIATE: a deferred transaction that reads first can meet SQLITE_BUSY_SNAPSHOT, which no waiting cures.
 */
NQ_PRIVATE int nq_sqlite_begin(nq_conn *conn, nq_err *err)
{
    return sqlite_sql_control((nq_sqlite_conn *)conn, NQ_SQLITE_BEGIN, "BEGIN IMMEDIATE", err);
}

/* These may come after the last page was written. SQLite then forgets the transaction, but whoever opens the
 * file next, after a crash or even a close, may find it whole in the WAL, and it counts. */
static bool sqlite_sql_unknown(int db_code)
{
    return (db_code & 0xff) == SQLITE_IOERR || (db_code & 0xff) == SQLITE_NOMEM;
}

NQ_PRIVATE int nq_sqlite_commit(nq_conn *conn, nq_err *err)
{
    nq_sqlite_conn *c = (nq_sqlite_conn *)conn;
    nq_err why = {0};
    int rc = sqlite_sql_control(c, NQ_SQLITE_COMMIT, "COMMIT", &why);
    if (rc == NQ_OK)
        return NQ_OK;
    nq_sqlite_rollback(conn); /* a failed COMMIT may leave the transaction open; nothing may stay half-done */
    if (sqlite_sql_unknown(why.db_code)) {
        conn->broken = true;
        rc = nq_err_set(err, NQ_EUNKNOWN, "the commit failed, it may or may not have taken effect: %.300s",
                        why.message);
        if (err)
            err->db_code = why.db_code;
    } else if (err) {
        *err = why;
    }
    return rc;
}

NQ_PRIVATE void nq_sqlite_rollback(nq_conn *conn)
{
    nq_sqlite_conn *c = (nq_sqlite_conn *)conn;
    if (!sqlite3_get_autocommit(c->db))
        sqlite3_exec(c->db, "ROLLBACK", NULL, NULL, NULL);
    if (!sqlite3_get_autocommit(c->db))
        conn->broken = true; /* closing it rolls back */
}
