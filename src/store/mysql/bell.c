/* SPDX-License-Identifier: MIT */
/* MySQL and MariaDB: bells. One hangs out as a sleeping statement, and is rung by killing that statement. */
#include <inttypes.h>
#include <stdio.h>

#include "mysql_driver.h"

/*
 * The statement is SELECT SLEEP(5.0) with a comment behind: nanoq bell DATABASE@HOST:QUEUES, in hex. Who has
 * the same user sees it in the process list and may kill it, without any privilege. Nothing else ever runs on
 * its connection, so that a kill that comes late hits nothing.
 *
 * It is shorter than the 100 bytes of a statement that SHOW PROCESSLIST tells: the whole of everybody's would
 * be megabytes where a program inserts much at once. So the queues are a set that says of a few others too
 * that they are in it (a Bloom filter): who is rung for nothing looks and finds nothing.
 *
 * A proxy may have session ids of its own: what CONNECTION_ID() answers there is not what the process list
 * has, or is another client's tomorrow, and a kill hits whoever has the number. Where the two differ no bell
 * is hung out and none is rung.
 */
#define MYSQL_BELL_MARK  " /* nanoq bell "
#define MYSQL_BELL_END   " */"
#define MYSQL_BELL_MOST  64 /* rung at a time */
#define MYSQL_BELL_WORDS 3  /* of 32 bits, of the set of queues */

struct mysql_bell_set {
    uint32_t words[MYSQL_BELL_WORDS];
};

/* A queue's name is a hash already: three bits of the set by three parts of it. */
static void mysql_bell_put(struct mysql_bell_set *set, uint64_t queue)
{
    if (queue == NQ_HINT_ANY)
        memset(set, 0xff, sizeof *set);
    for (int i = 0; i < 3; i++, queue >>= 21) {
        const unsigned bit = (unsigned)((queue & 0x1fffff) % ((uint64_t)32 * MYSQL_BELL_WORDS));
        set->words[bit / 32] |= (uint32_t)1 << bit % 32;
    }
}

static bool mysql_bell_has(const struct mysql_bell_set *set, uint64_t queue)
{
    struct mysql_bell_set one = {{0}};
    mysql_bell_put(&one, queue);
    for (int i = 0; i < MYSQL_BELL_WORDS && queue != NQ_HINT_ANY; i++)
        if ((set->words[i] & one.words[i]) != one.words[i])
            return false;
    return true;
}

/* Errors that end the statement and leave the connection: killed, or over a limit of its time. */
static bool mysql_bell_ended(unsigned number)
{
    return number == NQ_MYSQL_ER_QUERY_INTERRUPTED || number == NQ_MYSQL_ER_STATEMENT_TIMEOUT ||
           number == NQ_MYSQL_ER_QUERY_TIMEOUT;
}

/* 16 hex digits. */
static const char *mysql_bell_database(const nq_store *s)
{
    return nq_mysql_data_of(s)->lock_name + sizeof "nanoq:" - 1;
}

static int mysql_bell_failed(nq_mysql_conn *c, nq_err *err)
{
    nq_exec_result res;
    nq_mysql_failed_(&res, mysql_errno(c->my), mysql_sqlstate(c->my), mysql_error(c->my));
    return nq_mysql_own_failed(c, &res, err);
}

int nq_mysql_bell_hang(nq_conn *conn, uint64_t host, const uint64_t queues[], size_t n, nq_err *err)
{
    nq_mysql_conn *c = nq_mysql_of(conn);
    const unsigned limit = nq_mysql_data_of(conn->store)->read_timeout;
    struct mysql_bell_set set = {{0}};
    nq_buf b = {0};
    int rc;
    if (!c->direct)
        return nq_err_set(err, NQ_EUNSUPPORTED, "a proxy with session ids of its own is between");
    for (size_t i = 0; i < n; i++)
        mysql_bell_put(&set, queues[i]);
    nq_buf_fmt(&b, "SELECT SLEEP(%s)" MYSQL_BELL_MARK "%.16s@%016" PRIx64 ":",
               limit > 6   ? "5.0"
               : limit > 1 ? "1.0"
                           : "0.5",
               mysql_bell_database(conn->store), host);
    for (int i = 0; i < MYSQL_BELL_WORDS; i++)
        nq_buf_fmt(&b, "%08" PRIx32, set.words[i]);
    nq_buf_str(&b, MYSQL_BELL_END);
    if (b.failed)
        rc = nq_err_nomem(err);
    else
        rc = mysql_send_query(c->my, b.p, (unsigned long)b.n) ? mysql_bell_failed(c, err) : NQ_OK;
    nq_buf_free(&b);
    return rc;
}

int nq_mysql_bell_wait(nq_conn *conn, bool *rung, nq_err *err)
{
    nq_mysql_conn *c = nq_mysql_of(conn);
    MYSQL_RES *r = NULL;
    MYSQL_ROW row;
    bool killed = false;
    int rc = NQ_OK;
    if (mysql_read_query_result(c->my) || !(r = mysql_store_result(c->my))) {
        killed = mysql_errno(c->my) == NQ_MYSQL_ER_QUERY_INTERRUPTED;
        if (!mysql_bell_ended(mysql_errno(c->my)))
            rc = mysql_bell_failed(c, err);
    } else if ((row = mysql_fetch_row(r))) {
        killed = row[0] && row[0][0] == '1'; /* MySQL: SLEEP answers 1 when it is killed */
    } else if (mysql_errno(c->my)) {
        killed = mysql_errno(c->my) == NQ_MYSQL_ER_QUERY_INTERRUPTED;
    }
    if (r)
        mysql_free_result(r);
    if (rc == NQ_OK)
        *rung = killed;
    return rc;
}

/* ---- Ringing -------------------------------------------------------------------------------- */

static bool mysql_bell_skip(const char **at, const char *text)
{
    const size_t n = strlen(text);
    const bool there = strncmp(*at, text, n) == 0;
    *at += there ? n : 0;
    return there;
}

static bool mysql_bell_hex(const char **at, size_t digits, uint64_t *out)
{
    char text[17];
    if (strspn(*at, "0123456789abcdef") < digits)
        return false;
    snprintf(text, sizeof text, "%.*s", (int)digits, *at);
    *out = strtoull(text, NULL, 16);
    *at += digits;
    return true;
}

/* Is this the statement of a bell that one of these queues rings? Every byte of it is ours, or it is not. */
static bool mysql_bell_rings(const char *info, const char *database, uint64_t host, const uint64_t queues[],
                             size_t n)
{
    struct mysql_bell_set set;
    uint64_t its_host, word;
    bool rings = false;
    if (!mysql_bell_skip(&info, "SELECT SLEEP("))
        return false;
    info += strspn(info, "0123456789.");
    if (!mysql_bell_skip(&info, ")" MYSQL_BELL_MARK) || strncmp(info, database, 16) != 0)
        return false;
    info += 16;
    if (!mysql_bell_skip(&info, "@") || !mysql_bell_hex(&info, 16, &its_host) ||
        !mysql_bell_skip(&info, ":") || (host && its_host == host))
        return false;
    for (int i = 0; i < MYSQL_BELL_WORDS; i++) {
        if (!mysql_bell_hex(&info, 8, &word))
            return false;
        set.words[i] = (uint32_t)word;
    }
    for (size_t i = 0; i < n; i++)
        rings = rings || mysql_bell_has(&set, queues[i]);
    return rings && strcmp(info, MYSQL_BELL_END) == 0;
}

/* The connections whose bells are to be rung. An ordinary user sees its own in this list, and that is enough.
 * Not from information_schema: there a temporary table is made of it, at ten times the cost. */
static int mysql_bell_find(nq_mysql_conn *c, uint64_t host, const uint64_t queues[], size_t n, uint64_t ids[],
                           size_t *found, nq_err *err)
{
    const char *database = mysql_bell_database(c->base.store);
    MYSQL_RES *r = NULL;
    MYSQL_ROW row;
    int rc = nq_mysql_query(c, "SHOW PROCESSLIST", 16, err);
    if (rc == NQ_OK)
        rc = nq_mysql_result(c, &r, err);
    *found = 0;
    while (r && mysql_num_fields(r) >= 8 && *found < MYSQL_BELL_MOST && (row = mysql_fetch_row(r)))
        if (row[0] && row[7] && mysql_bell_rings(row[7], database, host, queues, n))
            ids[(*found)++] = strtoull(row[0], NULL, 10);
    if (r)
        mysql_free_result(r);
    return rc;
}

int nq_mysql_bell_ring(nq_conn *conn, uint64_t host, const uint64_t queues[], size_t n, unsigned *rung,
                       nq_err *err)
{
    nq_mysql_conn *c = nq_mysql_of(conn);
    uint64_t ids[MYSQL_BELL_MOST];
    size_t found = 0;
    if (!c->direct)
        return NQ_OK;
    int rc = mysql_bell_find(c, host, queues, n, ids, &found, err);
    for (size_t i = 0; rc == NQ_OK && i < found; i++) {
        char sql[64];
        snprintf(sql, sizeof sql, "KILL QUERY %" PRIu64, ids[i]);
        if (mysql_query(c->my, sql) == 0)
            ++*rung;
        else if (nq_mysql_lost_(mysql_errno(c->my)) || nq_mysql_client_error(mysql_errno(c->my)))
            rc = mysql_bell_failed(c, err); /* else it is gone already */
    }
    return rc;
}
