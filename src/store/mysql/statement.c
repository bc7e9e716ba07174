/* SPDX-License-Identifier: MIT */
/* MySQL and MariaDB: running statements, and what their errors mean. */
#include <inttypes.h>
#include <stdio.h>

#include "mysql_driver.h"

/* ---- Errors --------------------------------------------------------------------------------- */

#define MYSQL_SQL_CODE(name, number, code) {number, code},

int nq_mysql_code(unsigned number)
{
    static const struct {
        unsigned number;
        int code;
    } codes[] = {NQ_MYSQL_ERRORS(MYSQL_SQL_CODE)};
    for (size_t i = 0; i < sizeof codes / sizeof *codes; i++)
        if (codes[i].number == number)
            return codes[i].code;
    return NQ_EDB;
}

bool nq_mysql_client_error(unsigned number)
{
    return (number >= 2000 && number < 3000) || (number >= 5000 && number < 6000);
}

bool nq_mysql_unanswered(unsigned number)
{
    switch (number) {
    case NQ_MYSQL_CR_SERVER_GONE: /* could not be sent whole; the others are the client's, before it sends */
    case NQ_MYSQL_CR_OUT_OF_MEMORY:
    case NQ_MYSQL_CR_COMMANDS_OUT_OF_SYNC:
    case NQ_MYSQL_CR_NO_PREPARE_STMT:
    case NQ_MYSQL_CR_PARAMS_NOT_BOUND:
        return false;
    default:
        return nq_mysql_client_error(number); /* a server's own error is an answer */
    }
}

void nq_mysql_scrub(char *text, const char *secret)
{
    const size_t n = secret ? strlen(secret) : 0;
    if (n < 4)
        return;
    for (char *p = text; (p = strstr(p, secret));) {
        memset(p, '*', 3);
        memmove(p + 3, p + n, strlen(p + n) + 1);
        p += 3;
    }
}

int nq_mysql_fail(const nq_store *s, const nq_exec_result *res, nq_err *err)
{
    const unsigned number = (unsigned)res->db_code;
    const int rc = nq_mysql_code(number);
    char text[sizeof res->message], safe[sizeof err->message];
    memcpy(text, res->message, sizeof text);
    text[sizeof text - 1] = '\0';
    nq_mysql_scrub(text, nq_mysql_data_of(s)->password);
    nq_printable(safe, sizeof safe, text, strlen(text));
    nq_err_set(err, rc, "%s%s (error %u)",
               rc == NQ_ENOTMIGRATED ? "the nanoq tables do not exist, run nanoq migrate: "
               : number == NQ_MYSQL_ER_AUTOINC_READ_FAILED ? "no id was to be had, or they are used up: "
                                                           : "",
               safe, number);
    if (err) {
        err->db_code = res->db_code;
        memcpy(err->sqlstate, res->sqlstate, sizeof err->sqlstate);
        err->transaction_lost = res->lost;
    }
    return rc;
}

int nq_mysql_caller_failed(const nq_store *s, nq_exec_result *res, nq_err *err)
{
    /* It ends the statement only, unless the server was told to end the transaction. */
    if (res->db_code == NQ_MYSQL_ER_LOCK_WAIT_TIMEOUT && nq_mysql_data_of(s)->rollback_on_timeout)
        res->lost = true;
    return nq_mysql_fail(s, res, err);
}

/* A Galera node without a quorum answers a read that waits for the others (wsrep_sync_wait) as if it had
 * waited for a lock. It is no conflict: nothing works here until the node is back. */
static bool mysql_sql_without_quorum(nq_mysql_conn *c, nq_exec_result *res)
{
    static const char ask[] = "SHOW STATUS LIKE 'wsrep_ready'";
    MYSQL_RES *r = NULL;
    MYSQL_ROW row;
    if (!c->galera || res->db_code != NQ_MYSQL_ER_LOCK_WAIT_TIMEOUT ||
        mysql_real_query(c->my, ask, sizeof ask - 1) != 0 || !(r = mysql_store_result(c->my)))
        return false;
    row = mysql_fetch_row(r);
    const bool away = row && row[1] && strcasecmp(row[1], "OFF") == 0;
    mysql_free_result(r);
    if (!away)
        return false;
    res->db_code = NQ_MYSQL_ER_UNKNOWN_COM; /* what it answers to other statements */
    snprintf(res->message, sizeof res->message, "WSREP: this node is in no primary component of its cluster");
    return true;
}

/* A write of another member's ended our transaction in its COMMIT: MySQL may tell that as an error of its
 * engine's, by the engine's number for a deadlock. */
static void mysql_sql_ended_in_commit(nq_exec_result *res)
{
    if (res->db_code == NQ_MYSQL_ER_ERROR_DURING_COMMIT && strstr(res->message, " 149 "))
        res->db_code = NQ_MYSQL_ER_LOCK_DEADLOCK;
}

/* A conflict ends the transaction by an explicit ROLLBACK, whatever the server made of it, so that the state
 * is known; a lost connection is not used again. Nor is one to a server that takes no writes: it may have
 * been the primary, and its name or proxy leads to another by now. */
int nq_mysql_own_failed(nq_mysql_conn *c, nq_exec_result *res, nq_err *err)
{
    mysql_sql_ended_in_commit(res);
    const bool away = mysql_sql_without_quorum(c, res);
    const int rc = nq_mysql_code((unsigned)res->db_code);
    if (rc == NQ_ECONFLICT) {
        res->lost = true;
        nq_mysql_rollback(&c->base);
    } else if (away || rc == NQ_EREADONLY || nq_mysql_lost_((unsigned)res->db_code) ||
               nq_mysql_client_error((unsigned)res->db_code)) {
        res->lost = true;
        c->base.broken = true;
    }
    return nq_mysql_fail(c->base.store, res, err);
}

int nq_mysql_unknown(nq_err *err)
{
    nq_err was;
    if (!err)
        return NQ_EUNKNOWN;
    was = *err;
    nq_err_set(err, NQ_EUNKNOWN,
               "the connection broke during the commit, it may or may not have taken effect: %s",
               was.message);
    err->db_code = was.db_code;
    memcpy(err->sqlstate, was.sqlstate, sizeof err->sqlstate);
    err->transaction_lost = was.transaction_lost;
    return NQ_EUNKNOWN;
}

int nq_mysql_commit_failed(nq_mysql_conn *c, nq_exec_result *res, nq_err *err)
{
    const unsigned number = (unsigned)res->db_code;
    if (!nq_mysql_unanswered(number) && number != NQ_MYSQL_ER_SERVER_SHUTDOWN &&
        number != NQ_MYSQL_ER_CONNECTION_KILLED)
        return nq_mysql_own_failed(c, res, err);
    c->base.broken = true;
    nq_mysql_fail(c->base.store, res, err);
    return nq_mysql_unknown(err);
}

static int mysql_sql_failed_here(nq_mysql_conn *c, nq_err *err)
{
    nq_exec_result res;
    nq_mysql_failed_(&res, mysql_errno(c->my), mysql_sqlstate(c->my), mysql_error(c->my));
    return nq_mysql_own_failed(c, &res, err);
}

/* ---- Text statements ------------------------------------------------------------------------ */

int nq_mysql_query(nq_mysql_conn *c, const char *sql, size_t n, nq_err *err)
{
    c->sent = true;
    return mysql_real_query(c->my, sql, (unsigned long)n) ? mysql_sql_failed_here(c, err) : NQ_OK;
}

bool nq_mysql_more(const nq_mysql_conn *c)
{
    return mysql_more_results(c->my);
}

int nq_mysql_next(nq_mysql_conn *c, nq_err *err)
{
    const int rc = mysql_next_result(c->my);
    if (rc < 0) {
        c->base.broken = true;
        return nq_err_set(err, NQ_EDB, "the server answered fewer statements than it was sent");
    }
    return rc == 0 ? NQ_OK : mysql_sql_failed_here(c, err);
}

int nq_mysql_result(nq_mysql_conn *c, MYSQL_RES **out, nq_err *err)
{
    const unsigned before = c->my->server_status;
    nq_exec_result res;
    MYSQL_RES *r = mysql_store_result(c->my);
    if (!r && mysql_field_count(c->my))
        return mysql_sql_failed_here(c, err);
    if (r && nq_mysql_ended_(c->my, before, &res)) {
        mysql_free_result(r);
        return nq_mysql_own_failed(c, &res, err);
    }
    *out = r;
    return NQ_OK;
}

void nq_mysql_drain(nq_mysql_conn *c)
{
    do {
        MYSQL_RES *r = mysql_store_result(c->my);
        if (r)
            mysql_free_result(r);
    } while (mysql_next_result(c->my) == 0);
}

int nq_mysql_query_buf(nq_mysql_conn *c, const nq_buf *b, nq_err *err)
{
    return b->failed ? nq_err_nomem(err) : nq_mysql_query(c, b->p, b->n, err);
}

int nq_mysql_run(nq_mysql_conn *c, const nq_buf *b, nq_err *err)
{
    int rc = nq_mysql_query_buf(c, b, err);
    while (rc == NQ_OK) {
        MYSQL_RES *r = NULL;
        rc = nq_mysql_result(c, &r, err);
        if (r)
            mysql_free_result(r);
        if (rc != NQ_OK || !nq_mysql_more(c))
            break;
        rc = nq_mysql_next(c, err);
    }
    return rc;
}

void nq_mysql_rollback(nq_conn *c)
{
    const bool begun = !nq_mysql_of(c)->begin_due;
    nq_mysql_of(c)->begin_due = false;
    if (begun && !c->broken && mysql_query(nq_mysql_of(c)->my, "ROLLBACK"))
        c->broken = true;
}

void nq_mysql_hex(nq_buf *b, const char *charset, const void *p, size_t n)
{
    static const char digits[] = "0123456789abcdef";
    const unsigned char *bytes = p;
    nq_buf_fmt(b, "%s X'", charset);
    for (size_t i = 0; i < n; i++) {
        const char pair[2] = {digits[bytes[i] >> 4], digits[bytes[i] & 15]};
        nq_buf_add(b, pair, 2);
    }
    nq_buf_str(b, "'");
}

/* ---- Prepared statements -------------------------------------------------------------------- */

void nq_mysql_forget(nq_mysql_stmt *e)
{
    if (e->stmt)
        mysql_stmt_close(e->stmt);
    free(e->sql);
    memset(e, 0, sizeof *e);
}

/* The cached statement of this text, prepared now if need be; NULL with res filled. */
static nq_mysql_stmt *mysql_sql_prepare(nq_mysql_conn *c, const char *sql, nq_exec_result *res)
{
    const size_t n = strlen(sql);
    nq_mysql_stmt *oldest = &c->stmts[0];
    c->ticks++;
    for (size_t i = 0; i < NQ_MYSQL_STMTS; i++) {
        nq_mysql_stmt *e = &c->stmts[i];
        if (e->stmt && e->n == n && memcmp(e->sql, sql, n) == 0) {
            e->used = c->ticks;
            return e;
        }
        if (e->used < oldest->used)
            oldest = e;
    }
    nq_mysql_forget(oldest);
    char *copy = strdup(sql);
    if (!copy) {
        nq_mysql_nomem_(res);
        return NULL;
    }
    MYSQL_STMT *stmt = nq_mysql_prepare_(c->my, sql, n, res);
    if (!stmt) {
        free(copy);
        return NULL;
    }
    *oldest = (nq_mysql_stmt){stmt, copy, n, c->ticks};
    return oldest;
}

/* Statements without parameters or rows (DDL, SET, BEGIN) are not worth a place in the cache. */
static int mysql_sql_exec_text(nq_mysql_conn *c, const char *sql, nq_exec_result *res)
{
    c->sent = true;
    if (mysql_real_query(c->my, sql, (unsigned long)strlen(sql)))
        return nq_mysql_failed_(res, mysql_errno(c->my), mysql_sqlstate(c->my), mysql_error(c->my));
    memset(res, 0, sizeof *res);
    if (mysql_field_count(c->my) != 0) {
        /* MySQL answers the names of the columns first, and may say only then that it refuses the rows. */
        MYSQL_RES *rows = mysql_store_result(c->my);
        if (!rows)
            return nq_mysql_failed_(res, mysql_errno(c->my), mysql_sqlstate(c->my), mysql_error(c->my));
        mysql_free_result(rows);
    } else {
        res->affected = (uint64_t)mysql_affected_rows(c->my);
        res->insert_id = (int64_t)mysql_insert_id(c->my);
    }
    nq_mysql_drain(c);
    return 0;
}

/* Did it fail for a reason of its own? One that was killed while it was opened may stay broken, with the
 * triggers of its tables, as long as it is kept. */
static bool mysql_sql_odd(const nq_exec_result *res)
{
    const int rc = res->db_code ? nq_mysql_code((unsigned)res->db_code) : NQ_OK;
    return rc != NQ_OK && rc != NQ_ECONFLICT && rc != NQ_EDUPLICATE;
}

/* A statement that the server forgot, or that a change of the table outdated: once more. */
static int mysql_sql_exec_prepared(nq_mysql_conn *c, const char *sql, const nq_val args[], size_t nargs,
                                   nq_row_fn row, void *arg, nq_exec_result *res)
{
    int rc = -1;
    for (int tries = 0; tries < 2; tries++) {
        const unsigned before = nq_mysql_before_(c->my, sql);
        memset(res, 0, sizeof *res);
        c->sent = false;
        nq_mysql_stmt *e = mysql_sql_prepare(c, sql, res);
        if (!e)
            break;
        c->sent = true;
        rc = nq_mysql_run_(c->my, before, e->stmt, MYSQL_TYPE_STRING, args, nargs, row, arg, res);
        mysql_stmt_free_result(e->stmt);
        const bool stale =
            res->db_code == NQ_MYSQL_ER_UNKNOWN_STMT_HANDLER || res->db_code == NQ_MYSQL_ER_NEED_REPREPARE;
        /* MariaDB's client waits for more of rows that ended in an error when their statement runs again,
         * until the read timeout: a deadlock's second try would. */
        const bool unread = res->db_code != 0 && mysql_stmt_field_count(e->stmt) != 0;
        if (stale || unread || mysql_sql_odd(res) || c->base.once)
            nq_mysql_forget(e);
        if (!stale)
            break;
    }
    return rc;
}

static int mysql_sql_exec(nq_mysql_conn *c, const char *sql, const nq_val args[], size_t nargs, nq_row_fn row,
                          void *arg, nq_exec_result *res)
{
    return row || nargs > 0 ? mysql_sql_exec_prepared(c, sql, args, nargs, row, arg, res)
                            : mysql_sql_exec_text(c, sql, res);
}

int nq_mysql_exec(nq_conn *conn, const char *sql, const nq_val args[], size_t nargs, nq_row_fn row, void *arg,
                  nq_exec_result *out, nq_err *err)
{
    nq_mysql_conn *c = nq_mysql_of(conn);
    nq_exec_result res;
    int rc;
    memset(&res, 0, sizeof res);
    c->sent = false;
    if (c->begin_due) {
        c->begin_due = false;
        if ((rc = nq_mysql_query(c, "START TRANSACTION", 17, err)) != NQ_OK)
            return rc;
    }
    rc = mysql_sql_exec(c, sql, args, nargs, row, arg, &res);
    if (nq_mysql_found_none_(rc, sql, &res))
        rc = mysql_sql_exec(c, sql, args, nargs, row, arg, &res);
    if (res.db_code != 0)
        rc = nq_mysql_own_failed(c, &res, err);
    if (out)
        *out = res;
    return rc;
}

int nq_mysql_cmp_u64(const void *a, const void *b)
{
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

void nq_mysql_where_ids(nq_buf *b, const uint64_t *ids, size_t n)
{
    const char *sep = "";
    size_t loners = 0;
    for (size_t i = 0, end; i < n; i = end) {
        for (end = i + 1; end < n && ids[end] == ids[end - 1] + 1;)
            end++;
        if (end - i < 3) {
            loners += end - i;
            continue;
        }
        nq_buf_fmt(b, "%sid BETWEEN %" PRIu64 " AND %" PRIu64, sep, ids[i], ids[end - 1]);
        sep = " OR ";
    }
    if (!loners)
        return;
    nq_buf_fmt(b, "%sid IN (", sep);
    sep = "";
    for (size_t i = 0, end; i < n; i = end) {
        for (end = i + 1; end < n && ids[end] == ids[end - 1] + 1;)
            end++;
        for (size_t k = i; end - i < 3 && k < end; k++, sep = ",") {
            nq_buf_str(b, sep);
            nq_buf_u64(b, ids[k]);
        }
    }
    nq_buf_str(b, ")");
}
