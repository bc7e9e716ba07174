/* SPDX-License-Identifier: MIT */
/* Statements on MySQL and MariaDB that fail. */
#include <mysql.h>
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

static void inject_my_answer(MYSQL *my, MYSQL_STMT *stmt, unsigned code)
{
    inject_my.my = my;
    inject_my.stmt = stmt;
    inject_my.code = code;
}

static void inject_my_cut(MYSQL *my)
{
    shutdown(inject_my_socket(my), SHUT_RDWR);
}

/* The server may still be at what a connection sent that was cut, or have the locks of one that was closed in
 * the middle of a transaction: until it is through, the tables change, and claims pass rows by. What a test
 * expects of them is there when this returns. */
static void inject_my_ended(unsigned long id)
{
    const bool was = inject_pause(true);
    const int64_t until = t_mono() + NQ_SECONDS(10);
    t_conn *side = t_connect();
    while (t_run(side, "SELECT COUNT(*) FROM %s WHERE id=%lu", t_sessions(), id) > 0) {
        ck_assert_msg(t_mono() < until, "the server does not end the connection %lu", id);
        t_pause_ms(1);
    }
    t_disconnect(side);
    inject_pause(was);
}

void __real_mysql_close(MYSQL *my);
void __wrap_mysql_close(MYSQL *my);
void __wrap_mysql_close(MYSQL *my)
{
    const unsigned long id = my && inject_failing() ? mysql_thread_id(my) : 0;
    __real_mysql_close(my);
    if (id)
        inject_my_ended(id);
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
