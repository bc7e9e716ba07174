/* SPDX-License-Identifier: MIT */
/* Tables with many tasks in them, as of an application that keeps what ended. */
#include "bench.h"

enum { HISTORY_CHUNK = 200000 };

/* Made by SQL: live ones are the newest fifth, of ten queues; one in 500 of these runs. Of the
 * ended ones one in 20 is dead, one in 50 cancelled. A tag has one in 1000, a rare type and a rare text one
 * in 100,000. Worker 1 has what runs. */

static const char history_columns[] =
    "id, queue, state, priority, run_at, generation, attempts, crashes, max_retries, "
    "timeout_ms, created_at, type, payload, unique_key, error";

static void history_values(char *out, size_t size, bool mysql, bool live, const char *rows)
{
    const char *queue = mysql ? "CONCAT('q', n % 10)" : "'q' || (n % 10)";
    const char *at =
        mysql ? "TIMESTAMP'2026-01-01 00:00:00' + INTERVAL n SECOND" : "1767225600000000 + n * 1000000";
    const char *type = mysql ? "CASE WHEN n % 100000 = 7 THEN 'rare' ELSE CONCAT('type.', n % 20) END"
                             : "CASE WHEN n % 100000 = 7 THEN 'rare' ELSE 'type.' || (n % 20) END";
    const char *payload =
        mysql ? "CONCAT('{\"customer\":', n % 1000, ',\"text\":\"', CASE WHEN n % 100000 = 9 THEN "
                "'needle' ELSE 'hay' END, RPAD('', 60, 'x'), '\"}')"
              : "CAST('{\"customer\":' || (n % 1000) || ',\"text\":\"' || CASE WHEN n % 100000 = 9 THEN "
                "'needle' ELSE 'hay' END || printf('%.60c', 'x') || '\"}' AS BLOB)";
    snprintf(
        out, size,
        "INSERT INTO %s (%s%s) SELECT n, %s, %s, 0, %s, 1, %s, 0, 10, 60000, %s, %s, %s, NULL, %s, %s FROM "
        "%s",
        live ? "nanoq_tasks" : "nanoq_finished", history_columns, live ? ", lease" : ", finished_at", queue,
        live ? "CASE WHEN n % 500 = 3 THEN 1 ELSE 0 END"
             : "CASE WHEN n % 20 = 1 THEN 3 WHEN n % 50 = 2 THEN 4 ELSE 2 END",
        at, live ? "0" : "CASE WHEN n % 20 = 1 THEN 1 ELSE 0 END", at, type, payload,
        live ? "NULL"
             : "CASE WHEN n % 20 = 1 THEN CASE WHEN n % 40000 = 1 THEN 'HTTP 502' ELSE 'HTTP 404' END END",
        live ? "CASE WHEN n % 500 = 3 THEN 68719476737 ELSE 0 END" : at, rows);
}

static void history_do(const bench *b, const bench_db *db, const char *sql)
{
    if (db->mysql)
        bench_mysql_run(b, sql);
    else
        bench_sqlite_run(db, sql);
}

void bench_history(const bench *b, const bench_db *db, size_t n)
{
    static char sql[4096], rows[512];
    bench_fresh(b, db);
    if (db->mysql) {
        history_do(b, db, "CREATE TABLE bench_n (k INT PRIMARY KEY)");
        history_do(b, db, "INSERT INTO bench_n VALUES (0),(1),(2),(3),(4),(5),(6),(7),(8),(9)");
        history_do(
            b, db,
            "INSERT INTO bench_n SELECT a.k + 10 * b.k + 100 * c.k FROM bench_n a, bench_n b, bench_n c "
            "WHERE a.k + 10 * b.k + 100 * c.k > 9");
    }
    for (size_t at = 0; at < n; at += HISTORY_CHUNK) {
        const size_t chunk = n - at < HISTORY_CHUNK ? n - at : HISTORY_CHUNK;
        if (db->mysql)
            snprintf(rows, sizeof rows,
                     "(SELECT a.k * 1000 + b.k + %zu AS n FROM bench_n a, bench_n b WHERE a.k * 1000 + b.k < "
                     "%zu) r ORDER BY n",
                     at + 1, chunk);
        else
            snprintf(rows, sizeof rows,
                     "(WITH RECURSIVE r (n) AS (SELECT %zu UNION ALL SELECT n + 1 FROM r LIMIT %zu) SELECT n "
                     "FROM r)",
                     at + 1, chunk);
        history_values(sql, sizeof sql, db->mysql, at >= n / 5 * 4, rows);
        history_do(b, db, sql);
        snprintf(sql, sizeof sql,
                 db->mysql
                     ? "INSERT INTO nanoq_tags SELECT CONCAT('customer:', n %% 1000), n FROM %s"
                     : "INSERT INTO nanoq_tags SELECT CAST('customer:' || (n %% 1000) AS BLOB), n FROM %s",
                 rows);
        history_do(b, db, sql);
        if (at % 1000000 == 0)
            bench_progress(b, "%s: %zu rows", db->name, at + chunk);
    }
    history_do(b, db,
               db->mysql
                   ? "INSERT INTO nanoq_workers (id, name) VALUES (1, 'bench:1')"
                   : "INSERT INTO nanoq_workers (id, name, started_at, beat_at) VALUES (1, 'bench:1', 1, 1)");
    history_do(b, db,
               db->mysql ? "ANALYZE TABLE nanoq_tasks, nanoq_finished, nanoq_tags"
                         : "PRAGMA wal_checkpoint(TRUNCATE)");
}
