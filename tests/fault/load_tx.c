/* SPDX-License-Identifier: MIT */
/* The workload's own database connection: a producer's transactions. */
#include <mysql.h>
#include <sqlite3.h>

#include "load.h"
#include "nanoq_mysql.h"
#include "nanoq_sqlite.h"

struct load_tx {
    MYSQL *my;
    sqlite3 *lite;
    int lost;
};

static MYSQL *load_tx_mysql(const char *url)
{
    char user[64], host[64], database[65];
    unsigned port = 0;
    const unsigned limit = (unsigned)load_number("tx_timeout", 5);
    if (sscanf(url, "mysql://%63[^@]@%63[^:]:%u/%64[^?]", user, host, &port, database) != 4)
        return NULL;
    MYSQL *my = mysql_init(NULL);
    if (!my)
        return NULL;
    mysql_options(my, MYSQL_OPT_CONNECT_TIMEOUT, &limit);
    mysql_options(my, MYSQL_OPT_READ_TIMEOUT, &limit);
    mysql_options(my, MYSQL_OPT_WRITE_TIMEOUT, &limit);
    if (mysql_real_connect(my, host, user, "", database, port, NULL, 0))
        return my;
    mysql_close(my);
    return NULL;
}

struct load_tx *load_tx_open(void)
{
    const char *url = load_text("url", "");
    struct load_tx *tx = calloc(1, sizeof *tx);
    if (!tx)
        return NULL;
    if (strncmp(url, "sqlite:", 7) == 0) {
        char path[512];
        snprintf(path, sizeof path, "%.*s", (int)strcspn(url + 7, "?"), url + 7);
        if (sqlite3_open(path, &tx->lite) == SQLITE_OK) {
            sqlite3_busy_timeout(tx->lite, 5000);
            sqlite3_exec(tx->lite, "PRAGMA synchronous=FULL", NULL, NULL, NULL);
            return tx;
        }
        sqlite3_close(tx->lite);
    } else if ((tx->my = load_tx_mysql(url))) {
        return tx;
    }
    free(tx);
    return NULL;
}

void load_tx_close(struct load_tx *tx)
{
    if (!tx)
        return;
    if (tx->my)
        mysql_close(tx->my);
    sqlite3_close(tx->lite);
    free(tx);
}

int load_tx_run(struct load_tx *tx, const char *sql)
{
    if (tx->lite) {
        const char *begin = strcmp(sql, "BEGIN") == 0 ? "BEGIN IMMEDIATE" : sql;
        return sqlite3_exec(tx->lite, begin, NULL, NULL, NULL);
    }
    if (mysql_query(tx->my, sql) == 0)
        return 0;
    const unsigned code = mysql_errno(tx->my);
    tx->lost = code == 2006 || code == 2013 || code == 1053 || code == 1927 || code == 4031;
    return (int)code;
}

int load_tx_lost(const struct load_tx *tx)
{
    return tx->lost;
}

nq_tx load_tx_handle(struct load_tx *tx)
{
    return tx->my ? nq_tx_mysql(tx->my) : nq_tx_sqlite(tx->lite);
}
