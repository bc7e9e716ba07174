/* SPDX-License-Identifier: MIT */
/* MySQL and MariaDB: the checks of nanoq doctor that are the server's. */
#include <stdio.h>
#include <strings.h>

#include "mysql_driver.h"

/* ---- What the server says of itself ---- */

NQ_PRIVATE int nq_mysql_check_vars(nq_conn *c, nq_checks *k, nq_err *err)
{
    static const char variables[] =
        "SHOW GLOBAL VARIABLES WHERE Variable_name IN ('version','log_bin','binlog_format','sync_binlog',"
        "'innodb_flush_log_at_trx_commit','innodb_doublewrite','innodb_autoinc_lock_mode','wsrep_on',"
        "'group_replication_group_name','group_replication_single_primary_mode',"
        "'wait_timeout','max_connections','max_allowed_packet')";
    static const char status[] =
        "SHOW GLOBAL STATUS WHERE Variable_name IN ('Innodb_history_list_length','Threads_connected',"
        "'wsrep_cluster_status','wsrep_cluster_size','wsrep_ready','wsrep_local_state_comment')";
    const int rc = nq_sql(c, variables, NULL, 0, nq_checks_var_row, k, NULL, err);
    return rc != NQ_OK ? rc : nq_sql(c, status, NULL, 0, nq_checks_var_row, k, NULL, err);
}

/* ---- 2: the plan of the claim ---- */

struct mysql_checks_plan {
    char key[70], extra[200];
};

/* table, ..., key and Extra by their places, which both servers have in the same order. */
static int mysql_checks_plan_row(const nq_val cols[], size_t ncols, void *arg)
{
    struct mysql_checks_plan *p = arg;
    const bool mysql = ncols >= 12; /* it has partitions and filtered too */
    if (ncols < 10)
        return 0;
    nq_checks_text(p->key, sizeof p->key, &cols[mysql ? 6 : 5]);
    nq_checks_text(p->extra, sizeof p->extra, &cols[ncols - 1]);
    return 0;
}

#define MYSQL_CHECKS_CLAIM                                                                                   \
    "SELECT id FROM {tasks} {claim} WHERE queue = 'default' AND state = 0 AND priority = 0 AND run_at >= "   \
    "'2000-01-01' AND run_at <= {now} ORDER BY run_at, id LIMIT 100 {lock_free}"

static int mysql_checks_plan(nq_conn *c, nq_checks *k, nq_found *f, nq_err *err)
{
    static const char todo[] =
        "make the index anew as nanoq migrate --print has it: KEY claim (queue, state, priority, run_at, id)";
    struct mysql_checks_plan plan = {"", ""};
    nq_err why = {0};
    (void)k;
    const int rc = nq_sql(c,
                          nq_mysql_of(c)->mariadb ? "EXPLAIN " MYSQL_CHECKS_CLAIM
                                                  : "EXPLAIN FORMAT=TRADITIONAL " MYSQL_CHECKS_CLAIM,
                          NULL, 0, mysql_checks_plan_row, &plan, NULL, &why);
    if (rc == NQ_EDB && strstr(why.message, "claim")) {
        nq_found_say(f, NQ_CHECK_ERROR, todo, "the claim has no index: %.200s", why.message);
        return NQ_OK;
    }
    if (rc != NQ_OK) {
        if (err)
            *err = why;
        return rc;
    }
    const bool sorts = strstr(plan.extra, "filesort") || strstr(plan.extra, "temporary");
    if (strcmp(plan.key, "claim") != 0 || sorts)
        nq_found_say(f, NQ_CHECK_ERROR, todo, "a claim goes by index %s%s",
                     plan.key[0] ? plan.key : "none, it reads the whole table", sorts ? " and sorts" : "");
    else
        nq_found_say(f, NQ_CHECK_OK, NULL, "a claim goes by its index and does not sort");
    return NQ_OK;
}

/* ---- 3: versions with known faults ---- */

/* Named in docs/doctor.md, with what each of them does. */
static const struct mysql_checks_fault {
    bool mariadb;
    const char *from, *to; /* both have it */
    int level;
    const char *what, *todo;
} mysql_checks_faults[] = {
    {false, "8.0.29", "8.0.29", NQ_CHECK_ERROR,
     "tables to which a column was added instantly, as nanoq migrate does, may be damaged by a crash",
     "upgrade to 8.0.30 or later"},
    {false, "8.0.38", "8.0.38", NQ_CHECK_WARNING, "a server with more than 8,000 tables may not start again",
     "upgrade to 8.0.39 or later"},
    {false, "8.4.1", "8.4.1", NQ_CHECK_WARNING, "a server with more than 8,000 tables may not start again",
     "upgrade to 8.4.2 or later"},
    {false, "9.0.0", "9.0.0", NQ_CHECK_WARNING, "a server with more than 8,000 tables may not start again",
     "upgrade to 9.0.1 or later"},
    {true, "10.6.9", "10.6.9", NQ_CHECK_ERROR, "crash recovery may fail (MDEV-29374, MDEV-29383)",
     "upgrade to 10.6.10 or later"},
    {true, "10.7.5", "10.7.5", NQ_CHECK_ERROR, "crash recovery may fail (MDEV-29374, MDEV-29383)",
     "upgrade to 10.7.6 or later"},
    {true, "10.8.4", "10.8.4", NQ_CHECK_ERROR, "crash recovery may fail (MDEV-29374, MDEV-29383)",
     "upgrade to 10.8.5 or later"},
    {true, "10.9.2", "10.9.2", NQ_CHECK_ERROR, "crash recovery may fail (MDEV-29374, MDEV-29383)",
     "upgrade to 10.9.3 or later"},
};

static unsigned long mysql_checks_version(const char *text)
{
    unsigned v[3] = {0, 0, 0};
    text += strncmp(text, "5.5.5-", 6) == 0 ? 6 : 0;
    return sscanf(text, "%4u.%4u.%4u", &v[0], &v[1], &v[2]) < 2 ? 0 : v[0] * 1000000UL + v[1] * 1000UL + v[2];
}

static int mysql_checks_faulty(nq_conn *c, nq_checks *k, nq_found *f, nq_err *err)
{
    const char *version = nq_checks_said(k, "version");
    (void)err;
    if (!version) {
        nq_found_say(f, NQ_CHECK_UNKNOWN, NULL, "the server does not tell its version");
        return NQ_OK;
    }
    const bool mariadb = nq_mysql_of(c)->mariadb && !nq_checks_is(k, "nanoq kind", "MySQL");
    const char *kind = mariadb ? "MariaDB" : "MySQL";
    const unsigned long number = mysql_checks_version(version);
    nq_found_say(f, NQ_CHECK_OK, NULL, "%s %.60s: no fault is known that concerns nanoq", kind, version);
    for (size_t i = 0; i < sizeof mysql_checks_faults / sizeof *mysql_checks_faults; i++) {
        const struct mysql_checks_fault *known = &mysql_checks_faults[i];
        if (known->mariadb == mariadb && number >= mysql_checks_version(known->from) &&
            number <= mysql_checks_version(known->to))
            nq_found_say(f, known->level, known->todo, "%s %.60s: %s", kind, version, known->what);
    }
    return NQ_OK;
}

/* ---- 5, 6: what survives a crash, and what a replica gets ---- */

static int mysql_checks_durable(nq_conn *c, nq_checks *k, nq_found *f, nq_err *err)
{
    const int64_t flush = nq_checks_number(k, "innodb_flush_log_at_trx_commit", 1);
    const int64_t sync = nq_checks_number(k, "sync_binlog", 1);
    (void)c;
    (void)err;
    if (flush != 1 && flush != 3) /* MariaDB's 3 syncs at each commit too, as it did before 10.0 */
        nq_found_more(
            f, NQ_CHECK_WARNING, "innodb_flush_log_at_trx_commit = 1",
            "innodb_flush_log_at_trx_commit is %lld: the last second of tasks and outcomes is lost when %s "
            "dies",
            (long long)flush, flush == 2 ? "its host" : "the server");
    if (nq_checks_is(k, "log_bin", "ON") && sync != 1)
        nq_found_more(f, NQ_CHECK_WARNING, "sync_binlog = 1",
                      "sync_binlog is %lld: after a crash of its host replicas may lack what the server has",
                      (long long)sync);
    if (nq_checks_is(k, "innodb_doublewrite", "OFF"))
        nq_found_more(f, NQ_CHECK_WARNING,
                      "innodb_doublewrite = ON, unless the file system writes pages whole",
                      "innodb_doublewrite is OFF: a crash while a page is written may damage it");
    if (f->text[0] == '\0')
        nq_found_say(f, NQ_CHECK_OK, NULL, "each commit is on disk before it is acknowledged");
    return NQ_OK;
}

static int mysql_checks_binlog(nq_conn *c, nq_checks *k, nq_found *f, nq_err *err)
{
    const char *format = nq_checks_said(k, "binlog_format");
    (void)c;
    (void)err;
    if (!nq_checks_is(k, "log_bin", "ON"))
        nq_found_say(f, NQ_CHECK_OK, NULL, "there is no binary log");
    else if (format && strcasecmp(format, "STATEMENT") == 0)
        nq_found_say(
            f, NQ_CHECK_ERROR, "binlog_format = ROW",
            "binlog_format is STATEMENT: which rows a claim locks is not repeatable, and new connections of "
            "nanoq are refused");
    else
        nq_found_say(f, NQ_CHECK_OK, NULL, "binlog_format is %.20s", format ? format : "ROW");
    return NQ_OK;
}

/* ---- 10, 11: old transactions and what they leave ---- */

#define MYSQL_CHECKS_HISTORY 1000000

static int mysql_checks_history(nq_conn *c, nq_checks *k, nq_found *f, nq_err *err)
{
    int64_t n = nq_checks_number(k, "Innodb_history_list_length", -1);
    if (n < 0) { /* MySQL tells it only there, to who has PROCESS */
        const int rc = nq_sql(
            c, "SELECT COUNT FROM information_schema.INNODB_METRICS WHERE NAME = 'trx_rseg_history_len'",
            NULL, 0, nq_checks_int_row, &n, NULL, err);
        if (rc != NQ_OK)
            return rc;
    }
    if (n < 0)
        nq_found_say(f, NQ_CHECK_UNKNOWN, NULL, "the server does not count it");
    else if (n > nq_checks_number(k, "nanoq history", MYSQL_CHECKS_HISTORY))
        nq_found_say(
            f, NQ_CHECK_WARNING, "end the oldest transaction: see check 11",
            "the history list has %lld entries, which each claim may have to pass: some transaction is old, "
            "or purge is behind",
            (long long)n);
    else
        nq_found_say(f, NQ_CHECK_OK, NULL, "the history list has %lld entries", (long long)n);
    return NQ_OK;
}

struct mysql_checks_trx {
    int64_t n, oldest_s, thread, rows;
};

static int mysql_checks_trx_row(const nq_val cols[], size_t ncols, void *arg)
{
    struct mysql_checks_trx *t = arg;
    (void)ncols;
    if (t->n++ > 0)
        return 0;
    t->thread = nq_checks_int(&cols[0]);
    t->oldest_s = nq_checks_int(&cols[1]);
    t->rows = nq_checks_int(&cols[2]);
    return 0;
}

/* The server shows its start by its own time zone. */
static int mysql_checks_transactions(nq_conn *c, nq_checks *k, nq_found *f, nq_err *err)
{
    struct mysql_checks_trx t = {0};
    const nq_val arg = nq_int(nq_checks_number(k, "nanoq transaction", 60));
    char ago[32];
    const int rc =
        nq_sql(c,
               "SELECT x.id, x.age, x.locked FROM (SELECT trx_mysql_thread_id AS id, TIMESTAMPDIFF(SECOND, "
               "CONVERT_TZ(trx_started, 'SYSTEM', '+00:00'), UTC_TIMESTAMP()) AS age, trx_rows_locked AS "
               "locked FROM "
               "information_schema.INNODB_TRX) x WHERE x.id <> CONNECTION_ID() AND x.age >= ? ORDER BY x.age "
               "DESC LIMIT "
               "1000",
               &arg, 1, mysql_checks_trx_row, &t, NULL, err);
    if (rc != NQ_OK)
        return rc;
    if (t.n > 0)
        nq_found_say(
            f, NQ_CHECK_WARNING,
            "SHOW PROCESSLIST says whose it is: have the program commit, or KILL the connection",
            "%lld transaction%s open for more than a minute: connection %lld for %s, with %lld rows locked",
            (long long)t.n, t.n == 1 ? "" : "s", (long long)t.thread,
            nq_checks_ago(NQ_SECONDS(t.oldest_s), ago), (long long)t.rows);
    else
        nq_found_say(f, NQ_CHECK_OK, NULL, "no transaction is older than a minute");
    return NQ_OK;
}

/* ---- 12, 13 ---- */

static int mysql_checks_connections(nq_conn *c, nq_checks *k, nq_found *f, nq_err *err)
{
    const int64_t wait = nq_checks_number(k, "wait_timeout", 28800);
    const int64_t used = nq_checks_number(k, "Threads_connected", 0);
    const int64_t most = nq_checks_number(k, "max_connections", 0);
    const int64_t packet = nq_checks_number(k, "max_allowed_packet", 16 << 20);
    (void)c;
    (void)err;
    if (most > 0 && used * 10 >= most * 9)
        nq_found_more(f, NQ_CHECK_WARNING, "raise max_connections, or have programs keep fewer",
                      "%lld of at most %lld connections are in use", (long long)used, (long long)most);
    if (wait > 28800)
        nq_found_more(
            f, NQ_CHECK_WARNING, "wait_timeout = 28800 or less; nanoq sets it for itself",
            "wait_timeout is %lld s: a producer that hangs in its transaction holds its locks for so long",
            (long long)wait);
    if (wait < 60)
        nq_found_more(f, NQ_CHECK_WARNING, "wait_timeout = 60 or more; nanoq sets it for itself",
                      "wait_timeout is %lld s: programs lose connections that were idle for so long",
                      (long long)wait);
    if (packet < (int64_t)NQ_DEFAULT_MAX_PAYLOAD + 16384)
        nq_found_more(f, NQ_CHECK_WARNING, "max_allowed_packet = 16M",
                      "max_allowed_packet is %lld: payloads of 1 MiB are refused", (long long)packet);
    if (f->text[0] == '\0')
        nq_found_say(f, NQ_CHECK_OK, NULL, "%lld of at most %lld connections, wait_timeout %lld s",
                     (long long)used, (long long)most, (long long)wait);
    return NQ_OK;
}

#define MYSQL_CHECKS_ACCOUNT                                                                                 \
    "CONCAT('''', SUBSTRING_INDEX(CURRENT_USER(), '@', 1), '''@''', SUBSTRING_INDEX(CURRENT_USER(), '@', "   \
    "-1), '''')"
#define MYSQL_CHECKS_DDL                                                                                     \
    "PRIVILEGE_TYPE IN ('CREATE', 'ALTER', 'DROP', 'INDEX') AND GRANTEE = " MYSQL_CHECKS_ACCOUNT

/* What it has not, and need not have: only said. A role's privileges do not show. */
static int mysql_checks_privileges(nq_conn *c, nq_checks *k, nq_found *f, nq_err *err)
{
    int64_t n = 0;
    nq_err why = {0};
    (void)k;
    int rc = nq_sql(
        c,
        "SELECT COUNT(DISTINCT p) FROM (SELECT PRIVILEGE_TYPE AS p FROM "
        "information_schema.USER_PRIVILEGES WHERE " MYSQL_CHECKS_DDL " UNION SELECT PRIVILEGE_TYPE FROM "
        "information_schema.SCHEMA_PRIVILEGES WHERE " MYSQL_CHECKS_DDL " AND DATABASE() LIKE TABLE_SCHEMA) x",
        NULL, 0, nq_checks_int_row, &n, NULL, &why);
    if (rc == NQ_EUNAVAILABLE || rc == NQ_ENOMEM)
        return nq_err_set(err, rc, "%s", why.message);
    if (rc == NQ_OK && n < 4)
        nq_found_more(f, NQ_CHECK_OK, NULL, "nanoq migrate needs CREATE, ALTER, DROP and INDEX besides");
    rc = nq_sql(c, "SELECT 1 FROM information_schema.INNODB_TRX LIMIT 1", NULL, 0, NULL, NULL, NULL, &why);
    if (rc == NQ_EDENIED)
        nq_found_more(f, NQ_CHECK_OK, NULL, "without PROCESS it cannot see check %s",
                      nq_mysql_of(c)->mariadb ? "11" : "10 and 11");
    return rc == NQ_EUNAVAILABLE || rc == NQ_ENOMEM ? nq_err_set(err, rc, "%s", why.message) : NQ_OK;
}

NQ_PRIVATE const nq_driver_check nq_mysql_checks[] = {
    {2, mysql_checks_plan},          {3, mysql_checks_faulty},
    {5, mysql_checks_durable},       {6, mysql_checks_binlog},
    {9, nq_mysql_check_cluster},     {10, mysql_checks_history},
    {11, mysql_checks_transactions}, {12, mysql_checks_connections},
    {13, mysql_checks_privileges},   {0, NULL}};
