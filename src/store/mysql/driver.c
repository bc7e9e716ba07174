/* SPDX-License-Identifier: MIT */
/* MySQL and MariaDB: the driver; transactions, locks. */
#include <inttypes.h>
#include <stdio.h>

#include "mysql_driver.h"
#include "steps.h"

/* ---- Small things --------------------------------------------------------------------------- */

static unsigned mysql_db_max_connections(const nq_store *s, unsigned wanted)
{
    (void)s;
    return wanted < 4 ? (wanted ? 4 : 10) : wanted;
}

static int mysql_db_begin(nq_conn *c, nq_err *err)
{
    const int rc = nq_mysql_guard(nq_mysql_of(c), err);
    nq_mysql_of(c)->begin_due = rc == NQ_OK;
    return rc;
}

static int mysql_db_commit(nq_conn *conn, nq_err *err)
{
    nq_mysql_conn *c = nq_mysql_of(conn);
    if (c->begin_due) { /* nothing was sent */
        c->begin_due = false;
        return NQ_OK;
    }
    if (mysql_query(c->my, "COMMIT") == 0)
        return NQ_OK;
    nq_exec_result res;
    nq_mysql_failed_(&res, mysql_errno(c->my), mysql_sqlstate(c->my), mysql_error(c->my));
    const int rc = nq_mysql_commit_failed(c, &res, err);
    /* A refused COMMIT may leave the transaction open, and the next one on this connection would commit it.
     */
    nq_mysql_rollback(conn);
    return rc;
}

/* ---- Locks ---------------------------------------------------------------------------------- */

/* "SELECT f(...)" of integers or NULL (-1), in one row. */
static int mysql_db_row(nq_mysql_conn *c, const nq_buf *b, int out[], size_t n, nq_err *err)
{
    MYSQL_RES *r = NULL;
    int rc = nq_mysql_query_buf(c, b, err);
    if (rc == NQ_OK)
        rc = nq_mysql_result(c, &r, err);
    if (rc != NQ_OK)
        return rc;
    MYSQL_ROW row = r && mysql_num_fields(r) == n ? mysql_fetch_row(r) : NULL;
    for (size_t i = 0; i < n; i++)
        out[i] = row && row[i] ? (int)strtol(row[i], NULL, 10) : -1;
    if (r)
        mysql_free_result(r);
    return NQ_OK;
}

/*
 * The locks of workers have a secret of the tables' in their names: another account of the server, which may
 * take any lock, does not know them. The secret is read along with each call and kept nowhere, so that tables
 * which were made anew under a worker have its own lock seem free to it, and then it condemns nobody.
 */
static void mysql_db_lock_names(const nq_store *s, nq_buf *b)
{
    nq_buf_fmt(b,
               " FROM (SELECT CONCAT('nanoq:',LEFT(SHA2(CONCAT('%s:',COALESCE(MAX(secret),'')),256),32),':') "
               "AS n FROM ",
               nq_mysql_data_of(s)->lock_name);
    if (nq_sql_expand(s, "{schema}) k", b))
        b->failed = true;
}

/* call(the name of the worker's lock, more) */
static int mysql_db_lock(nq_conn *conn, const char *call, uint64_t id, const char *more, int *got,
                         nq_err *err)
{
    nq_buf b = {0};
    nq_buf_fmt(&b, "SELECT %s(CONCAT(n,%" PRIu64 ")%s)", call, id, more);
    mysql_db_lock_names(conn->store, &b);
    const int rc = mysql_db_row(nq_mysql_of(conn), &b, got, 1, err);
    nq_buf_free(&b);
    return rc;
}

/* NOW() and UTC_TIMESTAMP() of the session. */
static int mysql_db_set_clock(nq_conn *conn, int64_t us, nq_err *err)
{
    char sql[64] = "SET timestamp = DEFAULT";
    if (us)
        snprintf(sql, sizeof sql, "SET timestamp = %lld.%06d", (long long)(us / 1000000),
                 (int)(us % 1000000));
    return nq_mysql_query(nq_mysql_of(conn), sql, strlen(sql), err);
}

static int mysql_db_lock_hold(nq_conn *conn, uint64_t id, nq_err *err)
{
    int got = 0;
    if (nq_mysql_of(conn)->nodes)
        return NQ_OK; /* named locks do not exist there; lock_probe says "cannot tell" */
    int rc = nq_mysql_lasting(nq_mysql_of(conn), err);
    if (rc == NQ_OK)
        rc = mysql_db_lock(conn, "GET_LOCK", id, ",0", &got, err);
    if (rc == NQ_OK && got != 1)
        return nq_err_set(err, NQ_ECONFLICT, "another connection holds the lock of worker %" PRIu64, id);
    return rc;
}

static void mysql_db_lock_drop(nq_conn *conn, uint64_t id)
{
    int got;
    if (!nq_mysql_of(conn)->nodes && !conn->broken)
        mysql_db_lock(conn, "RELEASE_LOCK", id, "", &got, NULL);
}

static int mysql_db_lock_probe(nq_conn *conn, const uint64_t ids[], size_t n, int8_t free_out[], nq_err *err)
{
    nq_buf b = {0};
    int rc = NQ_OK;
    int state[64];
    for (size_t at = 0; rc == NQ_OK && at < n; at += 64) {
        const size_t some = n - at < 64 ? n - at : 64;
        nq_buf_clear(&b);
        nq_buf_str(&b, "SELECT ");
        for (size_t i = 0; i < some; i++)
            nq_buf_fmt(&b, "%sIS_FREE_LOCK(CONCAT(n,%" PRIu64 "))", i ? "," : "", ids[at + i]);
        mysql_db_lock_names(conn->store, &b);
        if (nq_mysql_of(conn)->nodes)
            memset(state, -1, sizeof state);
        else
            rc = mysql_db_row(nq_mysql_of(conn), &b, state, some, err);
        for (size_t i = 0; rc == NQ_OK && i < some; i++)
            free_out[at + i] = (int8_t)state[i];
    }
    nq_buf_free(&b);
    return rc;
}

static int mysql_db_uptime_row(const nq_val cols[], size_t ncols, void *arg)
{
    char text[24];
    snprintf(text, sizeof text, "%.*s", ncols == 2 && cols[1].n < sizeof text ? (int)cols[1].n : 0,
             ncols == 2 && cols[1].p ? (const char *)cols[1].p : "");
    /* The server takes whole seconds from whole seconds: that may be nearly one too many. */
    const long long seconds = strtoll(text, NULL, 10) - 1;
    *(int64_t *)arg = seconds > 0 ? NQ_SECONDS(seconds) : 0;
    return 0;
}

static int mysql_db_uptime(nq_conn *conn, int64_t *us, nq_err *err)
{
    *us = 0;
    return nq_sql(conn, "SHOW GLOBAL STATUS LIKE 'Uptime'", NULL, 0, mysql_db_uptime_row, us, NULL, err);
}

/* Migrations wait for each other, but less long than for an answer. Nothing secret is in this name: there may
 * be no tables yet. */
static int mysql_db_migrations(nq_conn *conn, const char *call, const char *more, int *got, nq_err *err)
{
    nq_buf b = {0};
    nq_buf_fmt(&b, "SELECT %s('%s:migrate'%s)", call, nq_mysql_data_of(conn->store)->lock_name, more);
    const int rc = mysql_db_row(nq_mysql_of(conn), &b, got, 1, err);
    nq_buf_free(&b);
    return rc;
}

/* The statements bear being run twice, as on Galera, which has no named locks. So whoever holds this one, and
 * any account of the server may, keeps nobody from migrating. */
static int mysql_db_migrate_lock(nq_conn *conn, nq_err *err)
{
    const nq_store *s = conn->store;
    char wait[16];
    int got = 0;
    snprintf(wait, sizeof wait, ",%u", nq_mysql_wait(s, 20));
    const int rc = mysql_db_migrations(conn, "GET_LOCK", wait, &got, err);
    if (rc == NQ_OK && got != 1 && !nq_mysql_of(conn)->nodes && s->log)
        s->log(NQ_LOG_WARN, "another connection holds the lock of migrations: going on without",
               s->log_udata);
    return nq_mysql_of(conn)->nodes && !conn->broken ? NQ_OK : rc;
}

static void mysql_db_migrate_unlock(nq_conn *conn)
{
    int got;
    if (!conn->broken)
        mysql_db_migrations(conn, "RELEASE_LOCK", "", &got, NULL);
}

static void mysql_db_identity(const nq_store *s, nq_buf *out)
{
    const char *identity = nq_mysql_data_of(s)->identity;
    if (identity)
        nq_buf_str(out, identity);
}

/* An id that was given counts for AUTO_INCREMENT though its INSERT is rolled back, and never lowers it, as
 * ALTER TABLE might. Ids that nobody but a vandal gives are left out. */
#define MYSQL_DB_LAST                                                                                        \
    "SELECT f.id, 'nanoq', '', NULL FROM (SELECT MAX(id) AS id FROM {finished} WHERE id <= "                 \
    "4611686018427387903) f WHERE f.id > (SELECT COALESCE(MAX(t.id), 0) FROM {tasks} t)"
static const char *const mysql_db_ids_behind[] = {
    MYSQL_DB_LAST, "START TRANSACTION", "INSERT INTO {tasks} (id, type, payload, unique_key) " MYSQL_DB_LAST,
    "ROLLBACK", NULL};

/* Grouping by the first column of the index makes it jump from one name to the next. */
#define MYSQL_DB_QUEUES(table)                                                                               \
    "SELECT queue FROM " table " WHERE queue >= ? AND queue < ? GROUP BY queue ORDER BY queue LIMIT ?"

static const nq_fragment mysql_db_fragments[] = {
    {"now", "UTC_TIMESTAMP(6)"},
    {"after", "(UTC_TIMESTAMP(6) + INTERVAL ? MICROSECOND)"},
    /* of a string, '1970-01-01' + INTERVAL would be text */
    {"at", "(TIMESTAMP'1970-01-01 00:00:00' + INTERVAL ? MICROSECOND)"},
    {"us", "TIMESTAMPDIFF(MICROSECOND, '1970-01-01', $)"},
    {"no_moment", "TIMESTAMPDIFF(MICROSECOND, '1970-01-01', $) IS NULL"},
    {"bytes", "$"},
    {"short", "$"}, /* its type has no more */
    {"size", "LENGTH($)"},
    {"exact", "CAST($ AS BINARY)"},
    {"least", "LEAST"},
    {"lock", "FOR UPDATE"},
    {"lock_free", "FOR UPDATE SKIP LOCKED"},
    {"by_id", "FORCE INDEX (PRIMARY)"},
    {"by_key", "FORCE INDEX (unique_key)"},
    {"by_followed", "FORCE INDEX (followed)"},
    /* the index makes it jump from one key to the next */
    {"followed_firsts", "(SELECT MIN(id) AS id FROM {followups} FORCE INDEX (followed) GROUP BY unique_key)"},
    {"claim", "FORCE INDEX (claim)"},
    {"next_queues", "SELECT MAX(queue) FROM (SELECT queue FROM {tasks} {claim} WHERE queue > ? GROUP BY "
                    "queue ORDER BY queue "
                    "LIMIT 64) q"},
    {"running_in",
     "(SELECT queue, state, priority FROM {tasks} {claim} WHERE queue > ? AND queue <= ? GROUP BY "
     "queue, state, priority HAVING state = 1) g STRAIGHT_JOIN {tasks} t {claim} ON "
     "t.queue = g.queue AND t.state = 1 AND t.priority = g.priority"},
    /* a task comes behind a bound time and (twice the time) id; a bound line before the headers */
    {"later_than", "(run_at > {at} OR (run_at = {at} AND id > ?))"},
    {"with_header", "CONCAT(?, COALESCE(headers, ''))"},
    {"delete_by_key", NQ_MYSQL_DELETE_BY_KEY},
    {"at_most", "LIMIT $"},
    {"same_key", "t.unique_key = f.unique_key"},
    {"keyed", "$.unique_key = ?"},
    {"on_taken", "ON DUPLICATE KEY UPDATE"},
    {"given", "VALUES($)"},
    /* A sum, not an exclusive or, which the same change in two rows would leave as it was. Not SHA1, which
     * MySQL 9.6 no longer has. */
    {"settings_print",
     "CAST(COALESCE(SUM(CAST(CONV(LEFT(SHA2(CONCAT_WS('|', name, COALESCE(HEX(type), '-'), "
     "COALESCE(paused_at, '-'), COALESCE(HEX(paused_why), '-'), COALESCE(max_running, '-'), "
     "COALESCE(rate, '-'), COALESCE(rate_us, '-'), COALESCE(burst, '-'), COALESCE(weight, '-'), "
     "COALESCE(ordered, '-'), COALESCE(dead_to, '-'), COALESCE(keep_done_us, '-'), "
     "COALESCE(keep_dead_us, '-')), 256), 10), 16, 10) AS UNSIGNED)), 0) AS SIGNED)"},
    {"strange", "(priority < -100 OR priority > 100)"},
    {"clock", "UTC_TIMESTAMP(6)"},
    {"clock_of", "DATE_FORMAT($, '%Y-%m-%dT%H:%i:%s.%fZ')"},
    {"moment", "(TIMESTAMP'1970-01-01 00:00:00' + INTERVAL $ MICROSECOND)"},
    /* bytes that are no text would be NULL, or an error */
    {"words", "COALESCE(LEFT(CONVERT($ USING utf8mb4), 300), HEX(LEFT($, 100)))"},
    {"base", "CASE WHEN LOCATE('//', $) > 1 THEN SUBSTRING_INDEX($, '//', 1) ELSE $ END"},
    {"regrouped", "CASE WHEN LOCATE('//', $) > 1 THEN CONCAT(?, SUBSTR($, LOCATE('//', $))) ELSE ? END"},
    /* MySQL, to which it is a comment, cannot say so for one statement */
    {"at_once", "/*M! SET STATEMENT innodb_lock_wait_timeout=0 FOR */"},
    {"each", "CONCAT($, '//*')"},
    {"behind", "CONCAT($, '//')"},
    {"beyond", "CONCAT($, '/0')"},
    {"listed", "CAST(CONCAT(',', $, ',') AS BINARY)"},
    {"lines", "CAST(CONCAT('\n', $, '\n') AS BINARY)"},
    {"number", "CAST($ AS SIGNED)"},
    {"raw", "CAST($ AS BINARY)"},
    {"by_rowid", "FORCE INDEX (PRIMARY)"},
    {"by_claim", "FORCE INDEX (claim)"},
    {"by_history", "FORCE INDEX (history)"},
    {"by_retention", "FORCE INDEX (retention)"},
    {"by_type", "FORCE INDEX (by_type)"},
    {"then_join", "STRAIGHT_JOIN"},
    /* NUL: less than all that may follow, padded with spaces or not. In the connection's collation, as what
     * is bound: that of _utf8mb4 X'00' is another one since MariaDB 11.5, and then nothing can be compared.
     */
    {"begins", "($ >= CONCAT(?, '\\0') AND $ < ?)"},
    {"live_queues", MYSQL_DB_QUEUES("{tasks} FORCE INDEX (claim)")},
    {"ended_queues", MYSQL_DB_QUEUES("{finished} FORCE INDEX (history)")},
    {NULL, NULL}};

static nq_tx mysql_db_tx_from(void *conn, const char **client)
{
    *client = mysql_get_client_info();
    return nq_tx_mysql(conn);
}

NQ_PLUG_IN const nq_driver nq_driver_mysql = {
    .scheme = "mysql",
    .tx_kind = NQ_TX_MYSQL,
    .fragments = mysql_db_fragments,
    .quote = '`',
    .full_names = true,
    .row_locks = true,
    .unsigned_ids = true,
    .steps = nq_steps_mysql,
    .ids_behind = mysql_db_ids_behind,
    .option = nq_mysql_option,
    .open = nq_mysql_open,
    .close = nq_mysql_close,
    .max_connections = mysql_db_max_connections,
    .connect = nq_mysql_connect,
    .disconnect = nq_mysql_disconnect,
    .usable = nq_mysql_usable,
    .exec = nq_mysql_exec,
    .caller_failed = nq_mysql_caller_failed,
    .tx_from = mysql_db_tx_from,
    .set_clock = mysql_db_set_clock,
    .begin = mysql_db_begin,
    .commit = mysql_db_commit,
    .rollback = nq_mysql_rollback,
    .enqueue = nq_mysql_enqueue,
    .key = nq_mysql_key,
    .put = nq_mysql_put,
    .precheck = nq_mysql_precheck_one,
    .levels = nq_mysql_levels,
    .groups = nq_mysql_groups,
    .looks = true,
    .claim = nq_mysql_claim,
    .claim_id = nq_mysql_claim_id,
    .piggyback_limit = nq_mysql_piggyback_limit,
    .claim_apart = 10, /* measured: docs/performance.md */
    .delete_done = nq_mysql_delete_done,
    .complete = nq_mysql_complete,
    .lock_hold = mysql_db_lock_hold,
    .lock_drop = mysql_db_lock_drop,
    .lock_probe = mysql_db_lock_probe,
    .uptime = mysql_db_uptime,
    .checks = nq_mysql_checks,
    .check_vars = nq_mysql_check_vars,
    .migrate_lock = mysql_db_migrate_lock,
    .migrate_unlock = mysql_db_migrate_unlock,
    .identity = mysql_db_identity,
    .socket = nq_mysql_socket,
    .bell_hang = nq_mysql_bell_hang,
    .bell_wait = nq_mysql_bell_wait,
    .bell_ring = nq_mysql_bell_ring,
};
