/* SPDX-License-Identifier: MIT */
/* nanoq's benchmark beside the database's own limit. bench/run starts a server and this. */
#include <fnmatch.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench.h"

static const char main_usage[] =
    "usage: nanoq-bench [OPTIONS]\n"
    "  --quick               small amounts of work, two rounds: about a minute or two\n"
    "  --only PATTERN        only rows whose name matches (a shell pattern: 'drain*'); may be repeated\n"
    "  --list                names of the rows\n"
    "  --rounds N            how often each pair is run (5; 2 with --quick)\n"
    "  --scale X             of the amounts of work (1; 0.1 with --quick)\n"
    "  --seconds S           of each run that is limited by time (3; 0.5 with --quick)\n"
    "  --steady-seconds S    of each steady load (30; 4 with --quick)\n"
    "  --huge                a backlog of 5 million, too; and search in 10 million tasks, not 5\n"
    "  --seed N              of the random gaps between tasks\n"
    "  --socket PATH         MariaDB's socket, user root without password; a database nanoq_bench is made "
    "there\n"
    "  --server-pid PID      its process, for its CPU time\n"
    "  --directory DIR       for SQLite files\n"
    "  --out PREFIX          write PREFIX.json and .md\n";

struct main_rows {
    const bench_row *row[64];
    int n;
};

static bool main_wanted(const char *name, char *const only[], int nonly)
{
    for (int i = 0; i < nonly; i++)
        if (!fnmatch(only[i], name, 0))
            return true;
    return nonly == 0;
}

static void main_collect(struct main_rows *rows, const bench *b, char *const only[], int nonly)
{
    const bench_row *const lists[] = {
        bench_rows,      bench_latency_rows, bench_growth_rows, bench_isolated_rows, bench_groups_rows,
        bench_wait_rows, bench_bulk_rows,    bench_search_rows, bench_many_rows,     bench_pages_rows};
    for (size_t k = 0; k < sizeof lists / sizeof *lists; k++)
        for (const bench_row *r = lists[k]; r->name; r++)
            if (main_wanted(r->name, only, nonly) && (!r->mysql || b->mysql_socket[0]))
                rows->row[rows->n++] = r;
}

static void main_sqlite(const bench *b, bench_db *db, const char *name, const char *mode, bool full)
{
    db->name = name;
    db->full = full;
    snprintf(db->file, sizeof db->file, "%s/bench-%s.db", b->directory, mode);
    snprintf(db->url, sizeof db->url, "sqlite:%s?synchronous=%s", db->file, mode);
}

static void main_databases(bench *b)
{
    b->mysql = (bench_db){.name = "MariaDB", .mysql = true, .full = true};
    snprintf(b->mysql.url, sizeof b->mysql.url, "mysql://root@/nanoq_bench?socket=%s", b->mysql_socket);
    main_sqlite(b, &b->sqlite_full, "SQLite FULL", "full", true);
    main_sqlite(b, &b->sqlite_normal, "SQLite NORMAL", "normal", false);
}

static void main_write(const bench *b, const char *out)
{
    char path[512];
    FILE *md;
    snprintf(path, sizeof path, "%s.json", out);
    if (bench_write_json(b, path))
        bench_die("cannot write %s", path);
    snprintf(path, sizeof path, "%s.md", out);
    if (!(md = fopen(path, "we")))
        bench_die("cannot write %s", path);
    bench_print_table(b, md);
    if (fclose(md))
        bench_die("cannot write %s", path);
}

struct main_args {
    char *only[32];
    int nonly;
    const char *out;
    bool list;
};

static void main_defaults(bench *b)
{
    const char *socket = getenv("NANOQ_TEST_MYSQL_SOCKET"), *pid = getenv("NANOQ_TEST_MYSQLD_PID");
    const char *tmp = getenv("TMPDIR");
    snprintf(b->mysql_socket, sizeof b->mysql_socket, "%s", socket ? socket : "");
    b->server_pid = pid ? strtol(pid, NULL, 10) : 0;
    b->directory = tmp && *tmp ? tmp : "/var/tmp";
    b->seed = (unsigned)(bench_ns() & 0xfffffff) | 1;
}

static void main_option(bench *b, struct main_args *a, int c)
{
    switch (c) {
    case 'q':
        b->quick = true;
        break;
    case 'o':
        if (a->nonly < 32)
            a->only[a->nonly++] = optarg;
        break;
    case 'l':
        a->list = true;
        break;
    case 'r':
        b->rounds = atoi(optarg);
        break;
    case 'x':
        b->scale = atof(optarg);
        break;
    case 's':
        b->seconds = atof(optarg);
        break;
    case 'S':
        b->steady_seconds = atof(optarg);
        break;
    case 'H':
        b->huge = true;
        break;
    case 'e':
        b->seed = (unsigned)strtoul(optarg, NULL, 10);
        break;
    case 'k':
        snprintf(b->mysql_socket, sizeof b->mysql_socket, "%s", optarg);
        break;
    case 'p':
        b->server_pid = atol(optarg);
        break;
    case 'd':
        b->directory = optarg;
        break;
    case 'O':
        a->out = optarg;
        break;
    case 'h':
        fputs(main_usage, stdout);
        exit(0);
    default:
        fputs(main_usage, stderr);
        exit(2);
    }
}

static void main_parse(bench *b, struct main_args *a, int argc, char **argv)
{
    static const struct option options[] = {{"quick", 0, 0, 'q'},
                                            {"only", 1, 0, 'o'},
                                            {"list", 0, 0, 'l'},
                                            {"rounds", 1, 0, 'r'},
                                            {"scale", 1, 0, 'x'},
                                            {"seconds", 1, 0, 's'},
                                            {"steady-seconds", 1, 0, 'S'},
                                            {"huge", 0, 0, 'H'},
                                            {"seed", 1, 0, 'e'},
                                            {"socket", 1, 0, 'k'},
                                            {"server-pid", 1, 0, 'p'},
                                            {"directory", 1, 0, 'd'},
                                            {"out", 1, 0, 'O'},
                                            {"help", 0, 0, 'h'},
                                            {0, 0, 0, 0}};
    for (int c; (c = getopt_long(argc, argv, "h", options, NULL)) != -1;)
        main_option(b, a, c);
    if (optind < argc) {
        fputs(main_usage, stderr);
        exit(2);
    }
    b->rounds = b->rounds > 0 ? b->rounds : b->quick ? 2 : 5;
    b->rounds = b->rounds > BENCH_MAX_RUNS ? BENCH_MAX_RUNS : b->rounds;
    b->scale = b->scale > 0 ? b->scale : b->quick ? 0.1 : 1;
    b->seconds = b->seconds > 0 ? b->seconds : b->quick ? 0.5 : 3;
    b->steady_seconds = b->steady_seconds > 0 ? b->steady_seconds : b->quick ? 4 : 30;
}

int main(int argc, char **argv)
{
    static bench b;
    static struct main_rows rows;
    struct main_args a = {.nonly = 0};
    if (argc == 4 && !strcmp(argv[1], "--child"))
        return bench_child_main(atoi(argv[2]), atoi(argv[3]));
    main_defaults(&b);
    main_parse(&b, &a, argc, argv);
    if (a.list) {
        snprintf(b.mysql_socket, sizeof b.mysql_socket, "-");
        main_collect(&rows, &b, a.only, a.nonly);
        for (int i = 0; i < rows.n; i++)
            puts(rows.row[i]->name);
        return 0;
    }
    main_databases(&b);
    main_collect(&rows, &b, a.only, a.nonly);
    bench_machine_notes(&b);
    bench_mysql_notes(&b);
    bench_note(&b, "%d rounds, amounts of work x %g, seed %u", b.rounds, b.scale, b.seed);
    for (int i = 0; i < b.notes; i++)
        bench_progress(&b, "%s", b.note[i]);
    const double start = bench_seconds();
    for (int i = 0; i < rows.n; i++) {
        bench_progress(&b, "[%d/%d] %s, %.0f s so far", i + 1, rows.n, rows.row[i]->name,
                       bench_seconds() - start);
        rows.row[i]->fn(&b);
        if (a.out) /* after each: a run that is broken off leaves what it had */
            main_write(&b, a.out);
    }
    bench_sqlite_reset(&b.sqlite_full);
    bench_sqlite_reset(&b.sqlite_normal);
    bench_print_table(&b, stdout);
    return 0;
}
