/* SPDX-License-Identifier: MIT */
/* nanoq bench: how fast is a database of the user's, in tables of its own that are dropped afterwards. */
#include "bench.h"

#include <ctype.h>
#include <time.h>
#include <unistd.h>

#include "../text/log.h"
#include "../text/table.h"

/* ---- the URL: its tables get a prefix of their own */

/* The value of an option of the URL, as it is written there, and its length; NULL: it is not there. */
static const char *bench_option(const char *url, const char *name, size_t *n)
{
    const char *at = strchr(url, '?');
    while (at) {
        at++;
        if (strncmp(at, name, strlen(name)) == 0 && at[strlen(name)] == '=') {
            at += strlen(name) + 1;
            *n = strcspn(at, "&");
            return at;
        }
        at = strchr(at, '&');
    }
    return NULL;
}

/* The kind, and what of its durability the URL tells; a server keeps that to itself. */
static void bench_database(struct bench *b, const char *url)
{
    size_t n = 0;
    if (strncmp(url, "mysql:", 6) == 0) {
        snprintf(b->database, sizeof b->database, "mysql (durability: the server's)");
        return;
    }
    const char *value = bench_option(url, "synchronous", &n);
    bool plain = value && n > 0 && n < 16;
    for (size_t i = 0; plain && i < n; i++)
        plain = isalpha((unsigned char)value[i]) != 0;
    snprintf(b->database, sizeof b->database, "sqlite (synchronous=%.*s)", plain ? (int)n : 4,
             plain ? value : "full");
}

/* Our URL, to be freed; NULL after a message, with *exit_code set. prefix: what it is kept apart by. */
static char *bench_url(struct bench *b, char prefix[49], int *exit_code)
{
    size_t n;
    bool own = false;
    char *url = cli_url(exit_code, &own);
    if (!url)
        return NULL;
    char *ours = NULL;
    if (bench_option(url, "prefix", &n)) {
        *exit_code =
            cli_usage("the URL has an option prefix, and bench uses a prefix of its own: leave it out");
    } else {
        /* The time beside the pid: in containers of two hosts pids are alike. */
        snprintf(prefix, 49, "nanoq_bench_%d_%08x_", (int)getpid(), (unsigned)cli_now_us(CLOCK_REALTIME));
        const char *options = strchr(url, '?');
        const char *join = !options ? "?" : options[1] == '\0' ? "" : "&";
        ours = cli_format("%s%sprefix=%s", url, join, prefix);
        bench_database(b, url);
    }
    explicit_bzero(url, strlen(url));
    free(url);
    return ours;
}

/* ---- the rows */

enum { BENCH_ONE, BENCH_EIGHT, BENCH_MANY, BENCH_DRAIN, BENCH_P50, BENCH_P99, BENCH_ROWS };

static const struct bench_row {
    const char *name, *work, *unit;
} bench_rows[BENCH_ROWS] = {
    [BENCH_ONE] = {"enqueue_1", "enqueue, one commit each, 1 thread", "tasks/s"},
    [BENCH_EIGHT] = {"enqueue_8", "enqueue, one commit each, 8 threads", "tasks/s"},
    [BENCH_MANY] = {"enqueue_100", "enqueue, 100 in a call, 1 thread", "tasks/s"},
    [BENCH_DRAIN] = {"drain", "drain, no-op handler, concurrency 10", "tasks/s"},
    [BENCH_P50] = {"pick_up_p50", "pick-up when idle, same process, p50", "us"},
    [BENCH_P99] = {"pick_up_p99", "pick-up when idle, same process, p99", "us"},
};

static int bench_measure(struct bench *b, int64_t figures[BENCH_ROWS])
{
    /* The pick-up comes first, while nothing has been deleted that the database still has to clean up. */
    int exit_code = bench_pick_up(b, "pick-up when idle", &figures[BENCH_P50], &figures[BENCH_P99]);
    if (exit_code == CLI_OK && !bench_stopped())
        exit_code = bench_enqueue(b, bench_rows[BENCH_ONE].work, 1, 1, &figures[BENCH_ONE]);
    if (exit_code == CLI_OK && !bench_stopped())
        exit_code = bench_enqueue(b, bench_rows[BENCH_EIGHT].work, 8, 1, &figures[BENCH_EIGHT]);
    if (exit_code == CLI_OK && !bench_stopped())
        exit_code = bench_enqueue(b, bench_rows[BENCH_MANY].work, 1, 100, &figures[BENCH_MANY]);
    if (exit_code == CLI_OK && !bench_stopped())
        exit_code = bench_drain(b, bench_rows[BENCH_DRAIN].work, &figures[BENCH_DRAIN]);
    return exit_code;
}

static void bench_print(const struct bench *b, const int64_t figures[BENCH_ROWS])
{
    static const struct table_column columns[] = {
        {.name = "name", .machine = true},         {.name = "work"},
        {.name = "figure", .right = true},         {.name = "unit"},
        {.name = "payload_size", .machine = true}, {.name = "database", .machine = true},
    };
    struct table t;
    if (cli.format == CLI_TABLE)
        printf("%s, payloads of %zu bytes\n\n", b->database, b->payload_size);
    table_start(&t, columns, sizeof columns / sizeof columns[0], false);
    for (size_t i = 0; i < BENCH_ROWS; i++) {
        table_text(&t, bench_rows[i].name);
        table_text(&t, bench_rows[i].work);
        table_int(&t, figures[i]);
        table_text(&t, bench_rows[i].unit);
        table_int(&t, (int64_t)b->payload_size);
        table_text(&t, b->database);
        table_row(&t);
    }
    table_finish(&t, true);
}

/* ---- the course of it */

/* From nq_migrate on there may be tables, whatever becomes of the rest. */
static int bench_tables(struct bench *b, const char *prefix)
{
    int64_t figures[BENCH_ROWS] = {0};
    nq_err err = {0};
    int exit_code = nq_migrate(b->q, &err) == NQ_OK ? CLI_OK : cli_fail(&err);
    if (exit_code == CLI_OK && !bench_stopped()) {
        log_start(1, false);
        exit_code = bench_measure(b, figures);
        log_progress("removing the tables");
    }
    int rc = nq_drop_tables(b->q, &err);
    log_stop();
    if (rc != NQ_OK) {
        exit_code = cli_worse(exit_code, cli_fail(&err));
        cli_complain("the tables %s* may be left: drop them", prefix);
    }
    if (bench_stopped()) {
        cli_complain("stopped");
        exit_code = cli_worse(exit_code, CLI_FAILURE);
    }
    log_end(); /* before the figures, which go to stdout */
    if (!bench_stopped() && exit_code == CLI_OK)
        bench_print(b, figures);
    return exit_code;
}

static int bench_all(struct bench *b)
{
    char prefix[49];
    int exit_code = CLI_OK;
    char *url = bench_url(b, prefix, &exit_code);
    if (!url)
        return exit_code;
    bench_stop_on_signals();
    b->payload = cli_alloc(b->payload_size);
    memset(b->payload, 'x', b->payload_size);
    cli.db = url;
    cli.makes_database = true;
    exit_code = cli_open(&b->q);
    cli.db = NULL;
    explicit_bzero(url, strlen(url));
    free(url);
    if (exit_code == CLI_OK) {
        exit_code = bench_tables(b, prefix);
        nq_close(b->q);
    }
    free(b->payload);
    return exit_code;
}

enum { BENCH_SECONDS = 256, BENCH_TASKS, BENCH_PAYLOAD };

static int bench_run(int argc, char **argv)
{
    struct bench b = {.limit_us = NQ_SECONDS(2)};
    struct cli_parse parse;
    const char *value;
    int64_t size = 100;
    int key;
    cli_parse_start(&parse, &cli_bench);
    while ((key = cli_parse_next(&parse, argc, argv, &value)) >= 0) {
        bool good = key == BENCH_SECONDS ? cli_take_duration("--seconds", value, NQ_MS(10), &b.limit_us)
                    : key == BENCH_TASKS
                        ? cli_take_int("--tasks", value, 1, 1000000000, &b.tasks)
                        : cli_take_int("--payload", value, 0, (int64_t)NQ_DEFAULT_MAX_PAYLOAD, &size);
        if (!good)
            return CLI_USAGE;
    }
    if (key != CLI_PARSE_END)
        return key == CLI_PARSE_HELP ? CLI_OK : CLI_USAGE;
    if (optind < argc)
        return cli_usage("takes no argument '%s'", argv[optind]);
    b.payload_size = (size_t)size;
    return bench_all(&b);
}

static const struct cli_option bench_options[] = {
    {BENCH_SECONDS, "seconds", "N", "each row lasts about so long; 2"},
    {BENCH_TASKS, "tasks", "N", "a row ends after about N tasks too; default: no limit"},
    {BENCH_PAYLOAD, "payload", "BYTES", "size of a payload; 100"},
    CLI_OPTION_DB,
    CLI_OPTION_FORMAT,
    CLI_OPTION_END,
};
const struct cli_command cli_bench = {
    .name = "bench",
    .args = "[OPTION...]",
    .summary = "Measure how fast a database is as a queue",
    .options = bench_options,
    .notes =
        "It makes tables of its own (nanoq_bench_PID_...), needs the privileges CREATE and DROP for that, "
        "and\n"
        "drops them at the end, after an error, and after Ctrl-C; kill -9 leaves them. A SQLite file stays "
        "as\n"
        "large as it grew. A URL with the option prefix is refused. What else the database does meanwhile "
        "slows\n"
        "the figures, and is slowed itself.\n\n"
        "drain runs what the enqueueing rows left. Pick-up is from the commit of a task, in an idle queue, "
        "to "
        "the\n"
        "start of its handler; about 100 tasks.\n",
    .run = bench_run,
};
