/* SPDX-License-Identifier: MIT */
/* Statements on SQLite that fail. */
#include <sqlite3.h>

#include "inject.h"

/* The failure that the next look at the error of this handle shows. */
static _Thread_local struct {
    sqlite3 *db;
    int code;
} inject_lite;

/* Shall this call fail? Then SQLite is left as such a failure leaves it. */
static int inject_lite_hit(sqlite3 *db, bool writes)
{
    inject_lite.db = NULL;
    /* Only what writes makes SQLite roll back. */
    if (!writes && (inject_how() == INJECT_FULL_LOST || inject_how() == INJECT_IOERR_LOST))
        return SQLITE_OK;
    if (!inject_hit(INJECT_STATEMENT))
        return SQLITE_OK;
    inject_lite.db = db;
    switch (inject_how()) {
    case INJECT_BUSY:
        return inject_lite.code = SQLITE_BUSY;
    case INJECT_FULL:
        return inject_lite.code = SQLITE_FULL;
    case INJECT_FULL_LOST:
        sqlite3_exec(db, "ROLLBACK", NULL, NULL, NULL);
        return inject_lite.code = SQLITE_FULL;
    case INJECT_IOERR_LOST:
        sqlite3_exec(db, "ROLLBACK", NULL, NULL, NULL);
        return inject_lite.code = SQLITE_IOERR_WRITE;
    case INJECT_CORRUPT:
        return inject_lite.code = SQLITE_CORRUPT;
    default:
        return inject_lite.code = SQLITE_NOMEM;
    }
}

int __real_sqlite3_step(sqlite3_stmt *stmt);
int __wrap_sqlite3_step(sqlite3_stmt *stmt);
int __wrap_sqlite3_step(sqlite3_stmt *stmt)
{
    const int rc = inject_lite_hit(sqlite3_db_handle(stmt), !sqlite3_stmt_readonly(stmt));
    return rc ? rc : __real_sqlite3_step(stmt);
}

int __real_sqlite3_prepare_v2(sqlite3 *db, const char *sql, int n, sqlite3_stmt **out, const char **tail);
int __wrap_sqlite3_prepare_v2(sqlite3 *db, const char *sql, int n, sqlite3_stmt **out, const char **tail);
int __wrap_sqlite3_prepare_v2(sqlite3 *db, const char *sql, int n, sqlite3_stmt **out, const char **tail)
{
    const int rc = inject_lite_hit(db, false);
    *out = NULL;
    return rc ? rc : __real_sqlite3_prepare_v2(db, sql, n, out, tail);
}

int __real_sqlite3_prepare_v3(sqlite3 *db, const char *sql, int n, unsigned flags, sqlite3_stmt **out,
                              const char **tail);
int __wrap_sqlite3_prepare_v3(sqlite3 *db, const char *sql, int n, unsigned flags, sqlite3_stmt **out,
                              const char **tail);
int __wrap_sqlite3_prepare_v3(sqlite3 *db, const char *sql, int n, unsigned flags, sqlite3_stmt **out,
                              const char **tail)
{
    const int rc = inject_lite_hit(db, false);
    *out = NULL;
    return rc ? rc : __real_sqlite3_prepare_v3(db, sql, n, flags, out, tail);
}

int __real_sqlite3_bind_text(sqlite3_stmt *stmt, int at, const char *p, int n, void (*destroy)(void *));
int __wrap_sqlite3_bind_text(sqlite3_stmt *stmt, int at, const char *p, int n, void (*destroy)(void *));
int __wrap_sqlite3_bind_text(sqlite3_stmt *stmt, int at, const char *p, int n, void (*destroy)(void *))
{
    const int rc = inject_how() == INJECT_NOMEM ? inject_lite_hit(sqlite3_db_handle(stmt), false) : SQLITE_OK;
    return rc ? rc : __real_sqlite3_bind_text(stmt, at, p, n, destroy);
}

int __real_sqlite3_bind_text64(sqlite3_stmt *stmt, int at, const char *p, sqlite3_uint64 n,
                               void (*destroy)(void *), unsigned char encoding);
int __wrap_sqlite3_bind_text64(sqlite3_stmt *stmt, int at, const char *p, sqlite3_uint64 n,
                               void (*destroy)(void *), unsigned char encoding);
int __wrap_sqlite3_bind_text64(sqlite3_stmt *stmt, int at, const char *p, sqlite3_uint64 n,
                               void (*destroy)(void *), unsigned char encoding)
{
    const int rc = inject_how() == INJECT_NOMEM ? inject_lite_hit(sqlite3_db_handle(stmt), false) : SQLITE_OK;
    return rc ? rc : __real_sqlite3_bind_text64(stmt, at, p, n, destroy, encoding);
}

int __real_sqlite3_open_v2(const char *path, sqlite3 **out, int flags, const char *vfs);
int __wrap_sqlite3_open_v2(const char *path, sqlite3 **out, int flags, const char *vfs);
int __wrap_sqlite3_open_v2(const char *path, sqlite3 **out, int flags, const char *vfs)
{
    const int rc = __real_sqlite3_open_v2(path, out, flags, vfs);
    const int failure = rc == SQLITE_OK ? inject_lite_hit(*out, false) : SQLITE_OK;
    return failure ? failure : rc;
}

int __real_sqlite3_extended_errcode(sqlite3 *db);
int __wrap_sqlite3_extended_errcode(sqlite3 *db);
int __wrap_sqlite3_extended_errcode(sqlite3 *db)
{
    return db && inject_lite.db == db ? inject_lite.code : __real_sqlite3_extended_errcode(db);
}

const char *__real_sqlite3_errmsg(sqlite3 *db);
const char *__wrap_sqlite3_errmsg(sqlite3 *db);
const char *__wrap_sqlite3_errmsg(sqlite3 *db)
{
    return db && inject_lite.db == db ? "injected" : __real_sqlite3_errmsg(db);
}
