/* SPDX-License-Identifier: MIT */
/* Databases for the tests, and a plain connection to the one under test. */
#include "harness_db.h"

#include <limits.h>
#include <mysql.h>
#include <sqlite3.h>

#include "nanoq_mysql.h"
#include "nanoq_sqlite.h"

struct t_conn {
    MYSQL *my;
    sqlite3 *lite;
};

static char harness_user[64], harness_password[64], harness_host[128];
static unsigned harness_port;

/* What stands beside the library in a test is an ordinary session, whatever the server makes of others: it
 * may be set up to disturb them, see tests/store/hostile.sql. */
static const char harness_session[] =
    "SET NAMES utf8mb4, SESSION "
    "sql_mode='STRICT_TRANS_TABLES,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION',"
    "SESSION completion_type=0, SESSION autocommit=1, SESSION sql_select_limit=18446744073709551615,"
    "SESSION sql_big_selects=1, SESSION sql_safe_updates=0, SESSION sql_auto_is_null=0, SESSION "
    "unique_checks=1,"
    "SESSION wait_timeout=28800, SESSION net_read_timeout=30, SESSION net_write_timeout=60,"
    "SESSION lock_wait_timeout=86400, SESSION default_storage_engine=InnoDB, SESSION sql_buffer_result=0,"
    "SESSION optimizer_switch='mrr=off,index_condition_pushdown=on'"
    "/*!80013 , SESSION transaction_isolation='REPEATABLE-READ'*/"
    "/*M!100600 , SESSION tx_isolation='REPEATABLE-READ', SESSION tx_read_only=0, SESSION "
    "max_statement_time=0,"
    " SESSION check_constraint_checks=1, SESSION idle_transaction_timeout=0,"
    " SESSION idle_readonly_transaction_timeout=0, SESSION idle_write_transaction_timeout=0,"
    " SESSION tmp_disk_table_size=18446744073709551615*/";

static MYSQL *harness_mysql(const char *database)
{
    unsigned timeout = 20;
    MYSQL *my = mysql_init(NULL);
    if (!my)
        return NULL;
    mysql_options(my, MYSQL_OPT_CONNECT_TIMEOUT, &timeout);
    mysql_options(my, MYSQL_OPT_READ_TIMEOUT, &timeout);
    mysql_options(my, MYSQL_SET_CHARSET_NAME, "utf8mb4");
    if (!mysql_real_connect(my, harness_host, harness_user, harness_password, database, harness_port, NULL,
                            0)) {
        fprintf(stderr, "test server: %s\n", mysql_error(my));
        mysql_close(my);
        return NULL;
    }
    if (mysql_query(my, harness_session)) {
        fprintf(stderr, "test server: %s: %s\n", harness_session, mysql_error(my));
        mysql_close(my);
        return NULL;
    }
    return my;
}

/* In seconds. */
static long harness_uptime(MYSQL *my)
{
    long up = LONG_MAX; /* not known */
    if (mysql_query(my, "SHOW GLOBAL STATUS LIKE 'Uptime'") != 0)
        return up;
    MYSQL_RES *res = mysql_store_result(my);
    MYSQL_ROW row = res ? mysql_fetch_row(res) : NULL;
    if (row && row[1])
        up = strtol(row[1], NULL, 10);
    mysql_free_result(res);
    return up;
}

static bool harness_is_set(MYSQL *my, const char *what)
{
    char sql[160];
    snprintf(sql, sizeof sql, "SHOW VARIABLES WHERE Variable_name = %s", what);
    if (mysql_query(my, sql) != 0)
        return false;
    MYSQL_RES *res = mysql_store_result(my);
    const bool is = res && mysql_num_rows(res) == 1;
    mysql_free_result(res);
    return is;
}

bool harness_db_server(const char *url)
{
    char rest[256];
    harness_user[0] = harness_password[0] = '\0';
    if (sscanf(url, "mysql://%63[^:@]:%63[^@]@%255s", harness_user, harness_password, rest) != 3 &&
        sscanf(url, "mysql://%63[^:@]@%255s", harness_user, rest) != 2) {
        fprintf(stderr, "the test server's URL must be mysql://user[:password]@host:port/\n");
        return false;
    }
    if (sscanf(rest, "%127[^:/]:%u", harness_host, &harness_port) != 2) {
        fprintf(stderr, "the test server's URL needs host and port\n");
        return false;
    }
    MYSQL *my = harness_mysql(NULL);
    if (!my)
        return false;
    t_is_mariadb = strstr(mysql_get_server_info(my), "MariaDB");
    t_is_galera = harness_is_set(my, "'wsrep_on' AND Value = 'ON'");
    t_is_cluster =
        t_is_galera || (harness_is_set(my, "'group_replication_group_name' AND Value != ''") &&
                        harness_is_set(my, "'group_replication_single_primary_mode' AND Value = 'OFF'"));
    /* Who last beat in the first seconds of a server cannot be told from one that has yet to come back to it,
     * and is given 10 s: a test that waits for deaths would meet that or not. */
    while (harness_uptime(my) < 3)
        t_pause_ms(50);
    mysql_close(my);
    return true;
}

unsigned t_server_port(void)
{
    return harness_port;
}

const char *t_server_url(const char *userinfo, const char *database)
{
    static char urls[4][512];
    static unsigned turn;
    char *url = urls[turn++ % 4];
    if (userinfo)
        snprintf(url, sizeof urls[0], "mysql://%s@%s:%u/%s", userinfo, harness_host, harness_port, database);
    else
        snprintf(url, sizeof urls[0], "mysql://%s%s%s@%s:%u/%s", harness_user, harness_password[0] ? ":" : "",
                 harness_password, harness_host, harness_port, database);
    return url;
}

void harness_db_create(pid_t owner, char *name, size_t name_size, char *url, size_t url_size)
{
    char sql[160];
    snprintf(name, name_size, "nanoq_t_%d_%d", (int)owner, (int)getpid());
    snprintf(url, url_size, "%s", t_server_url(NULL, name));
    snprintf(sql, sizeof sql, "CREATE DATABASE %s", name);
    MYSQL *my = harness_mysql(NULL);
    ck_assert_msg(my, "no connection");
    if (mysql_query(my, sql) != 0) { /* that of a test which died, and whose pid came again */
        char drop[160];
        snprintf(drop, sizeof drop, "DROP DATABASE IF EXISTS %s", name);
        ck_assert_msg(mysql_query(my, drop) == 0 && mysql_query(my, sql) == 0, "%s: %s", sql,
                      mysql_error(my));
    }
    if (t_is_cluster) /* of the three nodes; see t_ids_in_a_row */
        ck_assert(mysql_query(my, "SET GLOBAL auto_increment_increment = 3") == 0);
    mysql_close(my);
}

void t_ids_in_a_row(void)
{
    if (!t_is_cluster)
        return;
    t_run(t_side(), "SET GLOBAL auto_increment_increment = 1");
    t_run(t_side(), "SET SESSION auto_increment_increment = 1");
}

void harness_db_drop(const char *name)
{
    char sql[160];
    MYSQL *my = harness_mysql(NULL);
    if (!my)
        return;
    /* What still holds a lock on it must not hang the test; the sweep comes later. */
    mysql_query(my, "SET lock_wait_timeout = 3");
    snprintf(sql, sizeof sql, "DROP DATABASE IF EXISTS %s", name);
    mysql_query(my, sql);
    mysql_close(my);
}

void harness_db_sweep(pid_t owner)
{
    char sql[200];
    if (!T_MYSQL)
        return;
    MYSQL *my = harness_mysql(NULL);
    if (!my)
        return;
    snprintf(
        sql, sizeof sql,
        "SELECT schema_name FROM information_schema.schemata WHERE schema_name LIKE 'nanoq\\_t\\_%d\\_%%'",
        (int)owner);
    if (mysql_query(my, sql) == 0) {
        MYSQL_RES *res = mysql_store_result(my);
        for (MYSQL_ROW row; res && (row = mysql_fetch_row(res));)
            harness_db_drop(row[0]);
        mysql_free_result(res);
    }
    mysql_close(my);
}

/* ---- The connection beside ------------------------------------------------------------------ */

/* SQLite's own sleeps up to 100 ms between two tries, and a worker that drains leaves the lock free for less.
 */
static int harness_busy(void *udata, int tries)
{
    (void)udata;
    t_pause_ms(1);
    return tries < 10000 * T_SLOW_FACTOR;
}

t_conn *t_connect(void)
{
    t_conn *c = calloc(1, sizeof *c);
    ck_assert_ptr_nonnull(c);
    if (T_MYSQL) {
        c->my = harness_mysql(t_name);
        ck_assert_ptr_nonnull(c->my);
    } else {
        ck_assert_int_eq(sqlite3_open(t_url + strlen("sqlite:"), &c->lite), SQLITE_OK);
        sqlite3_extended_result_codes(c->lite, 1);
        sqlite3_busy_handler(c->lite, harness_busy, NULL);
    }
    return c;
}

void t_disconnect(t_conn *c)
{
    if (!c)
        return;
    if (c->my)
        mysql_close(c->my);
    if (c->lite)
        sqlite3_close_v2(c->lite);
    free(c);
}

nq_tx t_tx(t_conn *c)
{
    return c->my ? nq_tx_mysql(c->my) : nq_tx_sqlite(c->lite);
}

void t_begin(t_conn *c)
{
    t_run(c, T_MYSQL ? "START TRANSACTION" : "BEGIN IMMEDIATE");
}

static void harness_cell(nq_buf *out, const char *p, size_t n, bool null, bool first)
{
    if (!first)
        nq_buf_add(out, "|", 1);
    if (null)
        nq_buf_str(out, "NULL");
    else
        nq_buf_add(out, p, n);
}

static int harness_exec_mysql(MYSQL *my, const char *sql, nq_buf *out, bool *null, char *message, size_t size)
{
    int rc = mysql_query(my, sql) ? (int)mysql_errno(my) : 0;
    MYSQL_RES *res = rc ? NULL : mysql_store_result(my);
    bool any = false;
    for (MYSQL_ROW row; res && (row = mysql_fetch_row(res)); any = true) {
        unsigned long *lengths = mysql_fetch_lengths(res);
        if (any)
            nq_buf_add(out, "\n", 1);
        else
            *null = !row[0] && mysql_num_fields(res) == 1;
        for (unsigned i = 0; i < mysql_num_fields(res); i++)
            harness_cell(out, row[i], lengths[i], !row[i], i == 0);
    }
    mysql_free_result(res);
    if (rc == 0 && mysql_errno(my))
        rc = (int)mysql_errno(my);
    if (!any)
        *null = true;
    snprintf(message, size, "%s", mysql_error(my));
    return rc;
}

static int harness_exec_sqlite(sqlite3 *db, const char *sql, nq_buf *out, bool *null, char *message,
                               size_t size)
{
    sqlite3_stmt *stmt = NULL;
    bool any = false;
    int rc = sqlite3_prepare_v2(db, sql, -1, &stmt, NULL);
    while (rc == SQLITE_OK && (rc = sqlite3_step(stmt)) == SQLITE_ROW) {
        if (any)
            nq_buf_add(out, "\n", 1);
        else
            *null = sqlite3_column_type(stmt, 0) == SQLITE_NULL && sqlite3_column_count(stmt) == 1;
        any = true;
        for (int i = 0; i < sqlite3_column_count(stmt); i++) {
            const char *p = sqlite3_column_blob(stmt, i);
            bool is_null = sqlite3_column_type(stmt, i) == SQLITE_NULL;
            harness_cell(out, p, (size_t)sqlite3_column_bytes(stmt, i), is_null, i == 0);
        }
        rc = SQLITE_OK;
    }
    if (rc == SQLITE_DONE)
        rc = SQLITE_OK;
    snprintf(message, size, "%s", sqlite3_errmsg(db));
    sqlite3_finalize(stmt);
    if (!any)
        *null = true;
    return rc;
}

NQ_PRINTF(2, 0)
static int harness_exec(t_conn *c, const char *fmt, va_list ap, nq_buf *out, bool *null, char message[512])
{
    char *sql = NULL;
    ck_assert_int_ge(vasprintf(&sql, fmt, ap), 0);
    int rc = c->my ? harness_exec_mysql(c->my, sql, out, null, message, 512)
                   : harness_exec_sqlite(c->lite, sql, out, null, message, 512);
    free(sql);
    return rc;
}

int t_try(t_conn *c, const char *fmt, ...)
{
    nq_buf out = {0};
    bool null = false;
    char message[512];
    va_list ap;
    va_start(ap, fmt);
    int rc = harness_exec(c, fmt, ap, &out, &null, message);
    va_end(ap);
    nq_buf_free(&out);
    return rc;
}

bool harness_db_writable(void)
{
    static const char *const mysql[] = {"SET SESSION innodb_lock_wait_timeout = 1", "START TRANSACTION",
                                        "SELECT id FROM nanoq_tasks FOR UPDATE",
                                        "SELECT id FROM nanoq_workers FOR UPDATE", "ROLLBACK"};
    static const char *const sqlite[] = {"PRAGMA busy_timeout = 300", "BEGIN IMMEDIATE", "ROLLBACK"};
    t_conn *c = t_connect();
    int rc = 0;
    for (size_t i = 0;
         rc == 0 && i < (T_MYSQL ? sizeof mysql / sizeof *mysql : sizeof sqlite / sizeof *sqlite); i++)
        rc = t_try(c, "%s", T_MYSQL ? mysql[i] : sqlite[i]);
    t_disconnect(c);
    return rc == 0;
}

int64_t t_run(t_conn *c, const char *fmt, ...)
{
    nq_buf out = {0};
    bool null = false;
    char message[512];
    va_list ap;
    va_start(ap, fmt);
    int rc = harness_exec(c, fmt, ap, &out, &null, message);
    va_end(ap);
    ck_assert_msg(rc == 0, "%s: %s", fmt, message);
    int64_t value = out.p ? strtoll(out.p, NULL, 10) : 0;
    nq_buf_free(&out);
    return value;
}

char *t_text(t_conn *c, const char *fmt, ...)
{
    nq_buf out = {0};
    bool null = false;
    char message[512];
    va_list ap;
    va_start(ap, fmt);
    int rc = harness_exec(c, fmt, ap, &out, &null, message);
    va_end(ap);
    ck_assert_msg(rc == 0, "%s: %s", fmt, message);
    if (null) {
        nq_buf_free(&out);
        return NULL;
    }
    return out.p ? out.p : strdup("");
}

const char *t_sessions(void)
{
    /* MySQL cannot read its processlist while a statement there holds bytes that are no UTF-8. */
    return t_is_mariadb ? "information_schema.processlist p"
                        : "(SELECT processlist_id AS id, processlist_db AS db, processlist_state AS state, "
                          "processlist_info AS info FROM performance_schema.threads "
                          "WHERE processlist_id IS NOT NULL) p";
}

int t_kill_sessions(void)
{
    int n = 0;
    char *save = NULL, *ids = t_text(t_side(), "SELECT id FROM %s WHERE db = '%s' AND id <> CONNECTION_ID()",
                                     t_sessions(), t_name);
    for (char *id = ids ? strtok_r(ids, "\n", &save) : NULL; id; id = strtok_r(NULL, "\n", &save), n++)
        t_try(t_side(), "KILL %s", id);
    free(ids);
    return n;
}

int64_t t_lock_waiter(t_conn *c)
{
    /* MySQL cannot read innodb_trx while a statement there holds bytes that are no UTF-8, as a key does. */
    return t_run(c, "%s",
                 t_is_mariadb
                     ? "SELECT COALESCE(MAX(p.id), 0) FROM information_schema.innodb_trx t "
                       "JOIN information_schema.processlist p ON p.id = t.trx_mysql_thread_id "
                       "WHERE t.trx_state = 'LOCK WAIT' AND p.db = DATABASE()"
                     : "SELECT COALESCE(MAX(t.processlist_id), 0) FROM performance_schema.data_lock_waits w "
                       "JOIN performance_schema.threads t ON t.thread_id = w.requesting_thread_id "
                       "WHERE t.processlist_db = DATABASE()");
}

void t_log_begin(void)
{
    t_run(t_side(), "SET GLOBAL log_output = 'TABLE'");
    t_run(t_side(), "TRUNCATE TABLE mysql.general_log");
    t_run(t_side(), "SET GLOBAL general_log = 1");
}

char *t_log_end(const char *where)
{
    t_run(t_side(), "SET GLOBAL general_log = 0");
    char *log =
        t_text(t_side(),
               "SELECT REPLACE(argument, '\n', ' ') FROM mysql.general_log WHERE thread_id IN (SELECT "
               "id FROM %s WHERE db = '%s') AND thread_id <> CONNECTION_ID() AND %s",
               t_sessions(), t_name, where);
    ck_assert_msg(log, "nothing in the server's log");
    return log;
}
