/* SPDX-License-Identifier: MIT */
/* The database server: its settings, and conditions that make its work harder. */
#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "bench_mysql.h"

void bench_mysql_notes(bench *b)
{
    static const char *const names[] = {"innodb_flush_log_at_trx_commit",
                                        "sync_binlog",
                                        "log_bin",
                                        "innodb_doublewrite",
                                        "innodb_flush_method",
                                        "innodb_buffer_pool_size",
                                        "innodb_log_file_size",
                                        "innodb_purge_threads",
                                        "performance_schema"};
    char line[256], value[64], sql[128];
    size_t at;
    if (!b->mysql_socket[0])
        return;
    MYSQL *my = bench_mysql_connect(b, NULL);
    bench_mysql_ask(my, "SELECT VERSION()", value, sizeof value);
    bench_note(b, "server %s, client library %s, unix socket", value, mysql_get_client_info());
    at = (size_t)snprintf(line, sizeof line, "server settings:");
    for (size_t i = 0; i < sizeof names / sizeof *names && at < sizeof line; i++) {
        snprintf(sql, sizeof sql, "SHOW GLOBAL VARIABLES LIKE '%s'", names[i]);
        bench_mysql_ask(my, sql, value, sizeof value);
        at += (size_t)snprintf(line + at, sizeof line - at, " %s=%s", names[i], value);
    }
    bench_note(b, "%s", line);
    mysql_close(my);
}

/* ---- A snapshot held open */

void *bench_mysql_snapshot(const bench *b)
{
    MYSQL *my = bench_mysql_connect(b, "nanoq_bench");
    char value[64];
    bench_mysql_do(my, "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ");
    bench_mysql_do(my, "START TRANSACTION WITH CONSISTENT SNAPSHOT");
    bench_mysql_ask(my, "SELECT COUNT(*) FROM nanoq_workers", value, sizeof value);
    return my;
}

void bench_mysql_release(void *snapshot)
{
    bench_mysql_do(snapshot, "ROLLBACK");
    mysql_close(snapshot);
}

/* ---- Running tasks: in the hands of a worker that lives, and works for another queue */

void *bench_mysql_running(const bench *b, size_t n)
{
    bench_shared *s = bench_shared_new(0);
    MYSQL *my = bench_mysql_connect(b, "nanoq_bench");
    char sql[512], id[32] = "";
    s->slot[0] = (bench_slot){.role = BENCH_WORK, .concurrency = 1, .batch = 1, .drain = NQ_DRAIN_NEVER};
    snprintf(s->slot[0].url, sizeof s->slot[0].url, "%s", b->mysql.url);
    snprintf(s->slot[0].queue, sizeof s->slot[0].queue, "elsewhere");
    bench_child_start(s, 0);
    atomic_store(&s->go, true);
    for (int i = 0; !id[0]; i++) {
        if (i == 1000)
            bench_die("a worker did not join");
        bench_sleep(0.01);
        bench_mysql_ask(my, "SELECT MAX(id) FROM nanoq_workers", id, sizeof id);
    }
    snprintf(sql, sizeof sql,
             "INSERT INTO nanoq_tasks (type,payload,state,lease,claimed_at,generation,run_at)"
             " SELECT 'bench', CONCAT('running ', seq), 1, %llu, UTC_TIMESTAMP(6), 1,"
             " UTC_TIMESTAMP(6) - INTERVAL 1 HOUR FROM seq_1_to_%zu",
             strtoull(id, NULL, 10) << 36 | 1, n);
    bench_mysql_do(my, sql);
    mysql_close(my);
    return s;
}

void bench_mysql_running_end(const bench *b, void *running, size_t n)
{
    char left[32];
    MYSQL *my = bench_mysql_connect(b, "nanoq_bench");
    bench_mysql_ask(my, "SELECT COUNT(*) FROM nanoq_tasks WHERE state=1", left, sizeof left);
    mysql_close(my);
    bench_child_stop(running, 0);
    bench_shared_free(running);
    if (strtoul(left, NULL, 10) != n)
        bench_die("%s tasks run after the drain beside %zu running ones", left, n);
}

/* ---- The machine */

void bench_machine_notes(bench *b)
{
    struct utsname u;
    char line[256], cpu[128] = "", os[128] = "";
    FILE *f = fopen("/proc/cpuinfo", "re");
    while (f && fgets(line, sizeof line, f))
        if (sscanf(line, "model name : %127[^\n]", cpu) == 1)
            break;
    if (f)
        fclose(f);
    f = fopen("/etc/os-release", "re");
    while (f && fgets(line, sizeof line, f))
        if (sscanf(line, "PRETTY_NAME=\"%127[^\"]", os) == 1)
            break;
    if (f)
        fclose(f);
    uname(&u);
    bench_note(b, "%ld x %s, %.0f GB memory", sysconf(_SC_NPROCESSORS_ONLN), cpu[0] ? cpu : u.machine,
               (double)sysconf(_SC_PHYS_PAGES) * (double)sysconf(_SC_PAGESIZE) / (1 << 30));
    bench_note(b, "%s, %s %s", os[0] ? os : "unknown system", u.sysname, u.release);
    bench_note(b, "nanoq %s, SQLite %s (WAL)", nq_version(), sqlite3_libversion());
}
