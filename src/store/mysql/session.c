/* SPDX-License-Identifier: MIT */
/* MySQL and MariaDB: what a new connection asks the server, and the settings that it gives its session. */
#include <stdio.h>
#include <strings.h>

#include "mysql_driver.h"

int nq_mysql_check_version(const char *version, bool mariadb, nq_err *err)
{
    unsigned v[3] = {0, 0, 0};
    char safe[80];
    nq_printable(safe, sizeof safe, version, strlen(version));
    if (strcasestr(version, "tidb"))
        return nq_err_set(err, NQ_EUNSUPPORTED,
                          "the server is TiDB (%s), which drops FOR UPDATE beside SKIP LOCKED: not supported",
                          safe);
    /* MariaDB 10 and later put "5.5.5-" before their version for old replicas. */
    if (strncmp(version, "5.5.5-", 6) == 0)
        version += 6;
    if (sscanf(version, "%4u.%4u.%4u", &v[0], &v[1], &v[2]) < 2)
        return nq_err_set(err, NQ_EUNSUPPORTED, "cannot read the server's version '%s'", safe);
    const unsigned long number = v[0] * 1000000UL + v[1] * 1000UL + v[2];
    if (mariadb ? number < 10006000 : number < 8000013)
        return nq_err_set(err, NQ_EUNSUPPORTED,
                          "the server is %s %s: nanoq needs MariaDB 10.6 or MySQL 8.0.13",
                          mariadb ? "MariaDB" : "MySQL", safe);
    return NQ_OK;
}

unsigned nq_mysql_wait(const nq_store *s, unsigned most)
{
    const unsigned limit = nq_mysql_data_of(s)->read_timeout;
    return limit > most ? most : limit > 1 ? limit - 1 : 1;
}

/* ---- The session's settings ----------------------------------------------------------------- */

/* As SHOW VARIABLES writes them. Set where the server has the variable, and has it otherwise; docs/session.md
 * says what each would do, and why the others of the server's may stay as they are. */
static const struct {
    const char *name, *value;
} mysql_session_settings[] = {
    {"check_constraint_checks", "ON"},
    {"default_regex_flags", ""},
    {"foreign_key_checks", "ON"},
    {"group_concat_max_len", "1048576"},
    {"idle_readonly_transaction_timeout", "0"},
    {"idle_write_transaction_timeout", "0"},
    {"in_predicate_conversion_threshold", "0"},
    {"innodb_snapshot_isolation", "OFF"},
    {"innodb_strict_mode", "ON"},
    {"max_execution_time", "0"},
    {"max_sort_length", "1024"},
    {"optimizer_max_sel_args", "16000"},
    {"optimizer_max_sel_arg_weight", "32000"},
    {"query_cache_type", "OFF"},
    {"range_optimizer_max_mem_size", "8388608"},
    {"sql_auto_is_null", "OFF"},
    {"sql_buffer_result", "OFF"},
    {"sql_if_exists", "OFF"},
    {"sql_safe_updates", "OFF"},
    {"unique_checks", "ON"},
};
#define MYSQL_SESSION_SETTINGS (sizeof mysql_session_settings / sizeof *mysql_session_settings)

/* Goes ahead of the questions: some of these would cut or end their answers. Each server has all of them. */
static void mysql_session_first(const nq_store *s, nq_buf *b)
{
    nq_buf_str(b, "SET NAMES utf8mb4 COLLATE utf8mb4_general_ci,"
                  "SESSION sql_mode='STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION',SESSION completion_type=0,"
                  "SESSION autocommit=1,SESSION time_zone='+00:00',"
                  "SESSION sql_select_limit=18446744073709551615,SESSION sql_big_selects=1,");
    /* The server waits a little longer for us than we for it. */
    nq_buf_fmt(b, "SESSION net_read_timeout=%u,SESSION net_write_timeout=%u,",
               nq_mysql_data_of(s)->write_timeout + 30, nq_mysql_data_of(s)->read_timeout + 30);
    /* nanoq's own transactions are short. A row that is held for longer is held by somebody's open one, and
     * waiting for it would keep all other outcomes back. */
    nq_buf_fmt(b, "SESSION innodb_lock_wait_timeout=1,SESSION lock_wait_timeout=%u", nq_mysql_wait(s, 20));
    /* MariaDB 11 finds a scan of a small table cheaper than nearly all of its keys, and a scan waits for rows
     * that others hold: 12 of them were enough. So a scan is never cheap. */
    nq_buf_str(b, "/*M!110002 ,SESSION optimizer_scan_setup_cost=100*/");
    nq_buf_str(b,
               "/*M!100600 ,SESSION max_statement_time=0,SESSION tmp_disk_table_size=18446744073709551615*/;"
               "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED,READ WRITE;");
}

/* ---- What the server is --------------------------------------------------------------------- */

struct mysql_session_vars {
    char version[128], host[256], port[16], datadir[512];
    char database[4 * 64 + 1];
    bool innodb, mariadb, tidb, log_bin, statement_binlog, rollback_on_timeout, folds;
    bool group, single_primary, eventual; /* of Group Replication */
    nq_buf differs; /* ",SESSION name=value" for each setting that is not as it should be */
};

static void mysql_session_text(struct mysql_session_vars *v, const char *name, const char *value)
{
    if (strcmp(name, "version") == 0)
        snprintf(v->version, sizeof v->version, "%s", value);
    else if (strcmp(name, "hostname") == 0)
        snprintf(v->host, sizeof v->host, "%s", value);
    else if (strcmp(name, "port") == 0)
        snprintf(v->port, sizeof v->port, "%s", value);
    else if (strcmp(name, "datadir") == 0)
        snprintf(v->datadir, sizeof v->datadir, "%s", value);
    else if (strcmp(name, "nanoq database") == 0)
        snprintf(v->database, sizeof v->database, "%s", value);
    else if (strcmp(name, "nanoq innodb") == 0)
        v->innodb = strcasecmp(value, "YES") == 0 || strcasecmp(value, "DEFAULT") == 0;
}

static void mysql_session_group(struct mysql_session_vars *v, const char *name, const char *value)
{
    if (strcmp(name, "group_name") == 0)
        v->group = *value;
    else if (strcmp(name, "single_primary_mode") == 0)
        v->single_primary = strcasecmp(value, "ON") == 0;
    else /* the others wait for each other more than nanoq needs, but for one that suffices with one primary
          */
        v->eventual =
            strcasecmp(value, "EVENTUAL") == 0 || strcasecmp(value, "BEFORE_ON_PRIMARY_FAILOVER") == 0;
}

static void mysql_session_var(nq_mysql_conn *c, struct mysql_session_vars *v, const char *name,
                              const char *value)
{
    const bool on = strcasecmp(value, "ON") == 0 || strcmp(value, "1") == 0;
    if (strcmp(name, "idle_transaction_timeout") == 0)
        v->mariadb = true;
    else if (strncmp(name, "tidb_", 5) == 0)
        v->tidb = true;
    else if (strcmp(name, "innodb_rollback_on_timeout") == 0)
        v->rollback_on_timeout = on;
    else if (strcmp(name, "log_bin") == 0)
        v->log_bin = on;
    else if (strcmp(name, "binlog_format") == 0)
        v->statement_binlog = strcasecmp(value, "STATEMENT") == 0;
    else if (strcmp(name, "lower_case_table_names") == 0)
        v->folds = strcmp(value, "0") != 0;
    else if (strcmp(name, "wsrep_on") == 0)
        c->galera = on;
    else if (strncmp(name, "group_replication_", 18) == 0)
        mysql_session_group(v, name + 18, value);
    else if (strcmp(name, "max_allowed_packet") == 0)
        c->packet = (size_t)strtoull(value, NULL, 10);
    else if (strcmp(name, "nanoq connection") == 0) /* the protocol has 32 bits of it */
        c->direct = (uint32_t)strtoull(value, NULL, 10) == (uint32_t)mysql_thread_id(c->my);
    else if (strcmp(name, "auto_increment_increment") == 0)
        c->increment = strtoll(value, NULL, 10);
    else
        mysql_session_text(v, name, value);
    for (size_t i = 0; i < MYSQL_SESSION_SETTINGS; i++)
        if (strcmp(name, mysql_session_settings[i].name) == 0 &&
            strcasecmp(value, mysql_session_settings[i].value) != 0)
            nq_buf_fmt(&v->differs, ",SESSION %s=%s", name,
                       *mysql_session_settings[i].value ? mysql_session_settings[i].value : "''");
}

static void mysql_session_ask(const nq_store *s, nq_buf *b)
{
    mysql_session_first(s, b);
    nq_buf_str(
        b, "SHOW VARIABLES WHERE Variable_name IN ('version','idle_transaction_timeout','tidb_current_ts',"
           "'tidb_txn_mode','innodb_rollback_on_timeout','log_bin','binlog_format','wsrep_on',"
           "'group_replication_group_name','group_replication_single_primary_mode',"
           "'group_replication_consistency',"
           "'lower_case_table_names','max_allowed_packet','auto_increment_increment','hostname','port',"
           "'datadir'");
    for (size_t i = 0; i < MYSQL_SESSION_SETTINGS; i++)
        nq_buf_fmt(b, ",'%s'", mysql_session_settings[i].name);
    nq_buf_str(b, ");SELECT 'nanoq innodb',SUPPORT FROM information_schema.ENGINES WHERE ENGINE='InnoDB';"
                  "SELECT 'nanoq connection',CONNECTION_ID();"
                  "SELECT 'nanoq database',IF(@@lower_case_table_names=0,DATABASE(),LOWER(DATABASE()))");
}

static int mysql_session_read(nq_mysql_conn *c, struct mysql_session_vars *v, nq_err *err)
{
    nq_buf b = {0};
    mysql_session_ask(c->base.store, &b);
    int rc = nq_mysql_query_buf(c, &b, err);
    nq_buf_free(&b);
    while (rc == NQ_OK) {
        MYSQL_RES *r = NULL;
        MYSQL_ROW row;
        rc = nq_mysql_result(c, &r, err);
        if (rc != NQ_OK)
            return rc;
        while (r && (row = mysql_fetch_row(r)))
            if (row[0] && row[1])
                mysql_session_var(c, v, row[0], row[1]);
        if (r)
            mysql_free_result(r);
        if (!nq_mysql_more(c))
            break;
        rc = nq_mysql_next(c, err);
    }
    return rc;
}

/* ---- Names ---------------------------------------------------------------------------------- */

/* The lock names of two databases, or two prefixes, on one server must differ. */
static void mysql_session_lock_name(const nq_store *s, const char *database, char out[40])
{
    uint8_t hash[32];
    nq_unique_hash(hash, database, s->prefix, strlen(s->prefix));
    memcpy(out, "nanoq:", 7);
    for (size_t i = 0; i < 16; i++)
        snprintf(out + 6 + 2 * i, 3, "%02x", hash[i]);
}

/* The same over TCP and a unix socket, whatever name the server has here. Without memory: none. */
static char *mysql_session_identity(const struct mysql_session_vars *v)
{
    nq_buf b = {0};
    nq_buf_fmt(&b, "%s\n%s\n%s\n%s", v->host, v->port, v->datadir, v->database);
    if (b.failed)
        nq_buf_free(&b);
    return b.p;
}

/* Locks and hints are named after what the server calls the database. Where it folds names, "shop" and "Shop"
 * are one, and two prefixes that differ so are one too. */
static void mysql_session_names(nq_store *s, nq_mysql_data *d, const struct mysql_session_vars *v)
{
    for (char *p = s->prefix; v->folds && *p; p++)
        *p = (char)(*p >= 'A' && *p <= 'Z' ? *p - 'A' + 'a' : *p);
    mysql_session_lock_name(s, v->database, d->lock_name);
    if (!d->identity)
        d->identity = mysql_session_identity(v);
}

/* ---- A new connection ----------------------------------------------------------------------- */

static int mysql_session_fits(const nq_mysql_conn *c, const struct mysql_session_vars *v, nq_err *err)
{
    const int rc = nq_mysql_check_version(v->tidb ? "TiDB" : v->version, c->mariadb, err);
    if (rc != NQ_OK)
        return rc;
    if (!v->innodb)
        return nq_err_set(err, NQ_EUNSUPPORTED, "the server has no InnoDB");
    if (v->log_bin && v->statement_binlog)
        return nq_err_set(err, NQ_EUNSUPPORTED,
                          "the server's binlog_format is STATEMENT: nanoq needs ROW or MIXED");
    if (c->packet < 65536)
        return nq_err_set(err, NQ_EUNSUPPORTED, "the server's max_allowed_packet is below 64 KiB");
    return NQ_OK;
}

/* The first connection is made while the store is opened, by one thread; later ones only read these. */
static void mysql_session_once(nq_store *s, const nq_mysql_conn *c, const struct mysql_session_vars *v)
{
    nq_mysql_data *d = nq_mysql_data_of(s);
    if (d->limited)
        return;
    if (s->max_payload > c->packet - 16384)
        s->max_payload = c->packet - 16384;
    d->packet = c->packet;
    d->rollback_on_timeout = v->rollback_on_timeout;
    /* On Galera a completion takes a transaction of its own: see mysql_complete_apart. */
    d->returns = c->mariadb && !c->nodes;
    d->nodes = c->nodes;
    mysql_session_names(s, d, v);
    d->limited = true;
}

/* A session may sleep long: the one that holds a worker's lock has to outlast a worker that is stopped, so
 * that the lease decides and not the server's patience. On MySQL that is the session of nq_mysql_lasting
 * alone: there is no other limit for a transaction whose client was stopped, see nq_mysql_guard. */
#define MYSQL_SESSION_LASTS 604800

static int mysql_session_set(nq_mysql_conn *c, const struct mysql_session_vars *v, nq_err *err)
{
    nq_buf b = {0};
    nq_buf_fmt(&b,
               "SET SESSION wait_timeout=%u,SESSION optimizer_switch='mrr=off,index_condition_pushdown=on'",
               c->mariadb ? MYSQL_SESSION_LASTS : 60);
    nq_buf_add(&b, v->differs.p, v->differs.n);
    /* What another node has committed is seen here: is it claimed, is it gone, did a lost commit take effect?
     */
    if (c->galera)
        nq_buf_str(&b, ",SESSION wsrep_sync_wait=1,SESSION wsrep_dirty_reads=OFF");
    else if (c->nodes && v->eventual)
        nq_buf_str(&b, ",SESSION group_replication_consistency='BEFORE'");
    else if (v->group && v->eventual) /* a new primary answers once it has what the one before committed */
        nq_buf_str(&b, ",SESSION group_replication_consistency='BEFORE_ON_PRIMARY_FAILOVER'");
    const int rc = v->differs.failed ? nq_err_nomem(err) : nq_mysql_run(c, &b, err);
    nq_buf_free(&b);
    return rc;
}

int nq_mysql_lasting(nq_mysql_conn *c, nq_err *err)
{
    nq_buf b = {0};
    if (c->mariadb)
        return NQ_OK;
    nq_buf_fmt(&b, "SET SESSION wait_timeout=%u", MYSQL_SESSION_LASTS);
    const int rc = nq_mysql_run(c, &b, err);
    nq_buf_free(&b);
    return rc;
}
int nq_mysql_guard(nq_mysql_conn *c, nq_err *err)
{
    static const char sql[] = "SET SESSION idle_transaction_timeout=30";
    if (c->guarded || !c->mariadb)
        return NQ_OK;
    const int rc = nq_mysql_query(c, sql, sizeof sql - 1, err);
    c->guarded = rc == NQ_OK;
    return rc;
}

int nq_mysql_session(nq_mysql_conn *c, nq_err *err)
{
    struct mysql_session_vars v;
    memset(&v, 0, sizeof v);
    c->increment = 1;
    int rc = mysql_session_read(c, &v, err);
    c->mariadb = v.mariadb || strcasestr(v.version, "mariadb");
    c->nodes = c->galera || (v.group && !v.single_primary);
    if (rc == NQ_OK)
        rc = mysql_session_fits(c, &v, err);
    if (rc == NQ_OK) {
        mysql_session_once(c->base.store, c, &v);
        rc = mysql_session_set(c, &v, err);
    }
    nq_buf_free(&v.differs);
    return rc;
}
