/* SPDX-License-Identifier: MIT */
/* Statements on MySQL and MariaDB that fail. */
#include <mysql.h>
#include <stdatomic.h>
#include <sys/socket.h>

#include "inject.h"

/* The failure that the next look at the error of this handle or statement shows. */
static _Thread_local struct {
    MYSQL *my;
    MYSQL_STMT *stmt;
    unsigned code;
} inject_my;

static int inject_my_socket(MYSQL *my)
{
#ifdef MARIADB_BASE_VERSION
    return (int)mysql_get_socket(my);
#else
    return (int)my->net.fd;
#endif
}

int __real_mysql_real_query(MYSQL *my, const char *sql, unsigned long n);

#define INJECT_MY_LEFT 1000
static unsigned long inject_my_left[INJECT_MY_LEFT];
static atomic_uint inject_my_nleft;

void inject_left(char *out, size_t size)
{
    size_t at = (size_t)snprintf(out, size, "0");
    ck_assert(inject_my_nleft <= INJECT_MY_LEFT);
    for (unsigned i = 0; i < inject_my_nleft && at < size; i++)
        at += (size_t)snprintf(out + at, size - at, ",%lu", inject_my_left[i]);
    ck_assert(at < size);
    inject_my_nleft = 0;
}

static void inject_my_leave(MYSQL *my)
{
    const unsigned n = atomic_fetch_add(&inject_my_nleft, 1);
    if (n < INJECT_MY_LEFT)
        inject_my_left[n] = mysql_thread_id(my);
}

static void inject_my_answer(MYSQL *my, MYSQL_STMT *stmt, unsigned code)
{
    inject_my.my = my;
    inject_my.stmt = stmt;
    inject_my.code = code;
}

static void inject_my_cut(MYSQL *my)
{
    inject_my_leave(my);
    shutdown(inject_my_socket(my), SHUT_RDWR);
}

void __real_mysql_close(MYSQL *my);
void __wrap_mysql_close(MYSQL *my);
void __wrap_mysql_close(MYSQL *my)
{
    if (my)
        inject_my_leave(my);
    __real_mysql_close(my);
}

/* Before a statement: true when it must not be executed; the error is set then. */
static bool inject_my_before(MYSQL *my, MYSQL_STMT *stmt, bool *cut_after)
{
    *cut_after = false;
    inject_my_answer(NULL, NULL, 0);
    if (inject_how() == INJECT_ENDED || !inject_hit(INJECT_STATEMENT))
        return false;
    switch (inject_how()) {
    case INJECT_LOST_BEFORE:
        inject_my_cut(my);
        return false;
    case INJECT_LOST_AFTER:
        *cut_after = true;
        return false;
    case INJECT_DEADLOCK:
        __real_mysql_real_query(my, "ROLLBACK", 8);
        inject_my_answer(my, stmt, 1213);
        return true;
    case INJECT_TIMEOUT:
        inject_my_answer(my, stmt, 1205);
        return true;
    case INJECT_TABLE_FULL:
        inject_my_answer(my, stmt, 1114);
        return true;
    default:
        inject_my_answer(my, stmt, 2008);
        return true;
    }
}

static int inject_my_after(MYSQL *my, MYSQL_STMT *stmt, int rc)
{
    if (rc == 0) {
        inject_my_cut(my);
        inject_my_answer(my, stmt, 2013);
    }
    return 1;
}

/* Define a call that sends something. */
#define INJECT_SENDING(name, params, args, my, stmt)                                                         \
    int __real_##name params;                                                                                \
    int __wrap_##name params;                                                                                \
    int __wrap_##name params                                                                                 \
    {                                                                                                        \
        bool cut;                                                                                            \
        if (inject_my_before(my, stmt, &cut))                                                                \
            return 1;                                                                                        \
        const int rc = __real_##name args;                                                                   \
        return cut ? inject_my_after(my, stmt, rc) : rc;                                                     \
    }

int __wrap_mysql_real_query(MYSQL *my, const char *sql, unsigned long n);
int __wrap_mysql_real_query(MYSQL *my, const char *sql, unsigned long n)
{
    bool cut;
    if (inject_my_before(my, NULL, &cut))
        return 1;
    const int rc = __real_mysql_real_query(my, sql, n);
    return cut ? inject_my_after(my, NULL, rc) : rc;
}

INJECT_SENDING(mysql_query, (MYSQL * my, const char *sql), (my, sql), my, NULL)
INJECT_SENDING(mysql_send_query, (MYSQL * my, const char *sql, unsigned long n), (my, sql, n), my, NULL)
INJECT_SENDING(mysql_stmt_prepare, (MYSQL_STMT * stmt, const char *sql, unsigned long n), (stmt, sql, n),
               stmt->mysql, stmt)
INJECT_SENDING(mysql_stmt_execute, (MYSQL_STMT * stmt), (stmt), stmt->mysql, stmt)

/* Calls that read: here an answer can only be lost, or the client find no memory for it. */
static bool inject_my_unread(MYSQL *my, MYSQL_STMT *stmt)
{
    inject_my_answer(NULL, NULL, 0);
    const enum inject_how how = inject_how();
    if ((how != INJECT_LOST_BEFORE && how != INJECT_LOST_AFTER && how != INJECT_CLIENT_NOMEM) ||
        !inject_hit(INJECT_STATEMENT))
        return false;
    if (how == INJECT_CLIENT_NOMEM) {
        inject_my_answer(my, stmt, 2008);
        return true;
    }
    inject_my_cut(my);
    inject_my_answer(my, stmt, 2013);
    return true;
}

int __real_mysql_next_result(MYSQL *my);
int __wrap_mysql_next_result(MYSQL *my);
int __wrap_mysql_next_result(MYSQL *my)
{
    return inject_my_unread(my, NULL) ? 1 : __real_mysql_next_result(my);
}

/* Rows of a transaction were read, the last ones that were asked for. */
static void inject_my_end(MYSQL *my)
{
    if (inject_how() == INJECT_ENDED && (my->server_status & SERVER_STATUS_IN_TRANS) != 0 &&
        !mysql_more_results(my) && inject_hit(INJECT_STATEMENT))
        __real_mysql_real_query(my, "ROLLBACK", 8);
}

MYSQL_RES *__real_mysql_store_result(MYSQL *my);
MYSQL_RES *__wrap_mysql_store_result(MYSQL *my);
MYSQL_RES *__wrap_mysql_store_result(MYSQL *my)
{
    if (mysql_field_count(my) == 0)
        return __real_mysql_store_result(my);
    if (inject_my_unread(my, NULL))
        return NULL;
    MYSQL_RES *const r = __real_mysql_store_result(my);
    if (r)
        inject_my_end(my);
    return r;
}

int __real_mysql_stmt_store_result(MYSQL_STMT *stmt);
int __wrap_mysql_stmt_store_result(MYSQL_STMT *stmt);
int __wrap_mysql_stmt_store_result(MYSQL_STMT *stmt)
{
    if (inject_my_unread(stmt->mysql, stmt))
        return 1;
    const int rc = __real_mysql_stmt_store_result(stmt);
    if (rc == 0)
        inject_my_end(stmt->mysql);
    return rc;
}

MYSQL *__real_mysql_real_connect(MYSQL *my, const char *host, const char *user, const char *password,
                                 const char *db, unsigned port, const char *socket, unsigned long flags);
MYSQL *__wrap_mysql_real_connect(MYSQL *my, const char *host, const char *user, const char *password,
                                 const char *db, unsigned port, const char *socket, unsigned long flags);
MYSQL *__wrap_mysql_real_connect(MYSQL *my, const char *host, const char *user, const char *password,
                                 const char *db, unsigned port, const char *socket, unsigned long flags)
{
    inject_my_answer(NULL, NULL, 0);
    if (inject_how() != INJECT_ENDED && inject_hit(INJECT_STATEMENT)) {
        inject_my_answer(my, NULL, inject_how() == INJECT_CLIENT_NOMEM ? 2008 : 2013);
        return NULL;
    }
    return __real_mysql_real_connect(my, host, user, password, db, port, socket, flags);
}

/* ---- What the failure looks like ------------------------------------------------------------ */

unsigned __real_mysql_errno(MYSQL *my);
unsigned __wrap_mysql_errno(MYSQL *my);
unsigned __wrap_mysql_errno(MYSQL *my)
{
    return inject_my.my == my && inject_my.code ? inject_my.code : __real_mysql_errno(my);
}

const char *__real_mysql_error(MYSQL *my);
const char *__wrap_mysql_error(MYSQL *my);
const char *__wrap_mysql_error(MYSQL *my)
{
    return inject_my.my == my && inject_my.code ? "injected" : __real_mysql_error(my);
}

const char *__real_mysql_sqlstate(MYSQL *my);
const char *__wrap_mysql_sqlstate(MYSQL *my);
const char *__wrap_mysql_sqlstate(MYSQL *my)
{
    return inject_my.my == my && inject_my.code ? "HY000" : __real_mysql_sqlstate(my);
}

unsigned __real_mysql_stmt_errno(MYSQL_STMT *stmt);
unsigned __wrap_mysql_stmt_errno(MYSQL_STMT *stmt);
unsigned __wrap_mysql_stmt_errno(MYSQL_STMT *stmt)
{
    return inject_my.stmt == stmt && inject_my.code ? inject_my.code : __real_mysql_stmt_errno(stmt);
}

const char *__real_mysql_stmt_error(MYSQL_STMT *stmt);
const char *__wrap_mysql_stmt_error(MYSQL_STMT *stmt);
const char *__wrap_mysql_stmt_error(MYSQL_STMT *stmt)
{
    return inject_my.stmt == stmt && inject_my.code ? "injected" : __real_mysql_stmt_error(stmt);
}
