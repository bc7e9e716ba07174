/* SPDX-License-Identifier: MIT */
/* Steering: nanoq retry, cancel, delete and migrate. */
#include "../cli.h"
#include "../text/table.h"

struct steer_verb {
    const struct cli_command *command;
    int (*call)(nq *q, nq_id id, nq_err *err);
    const char *result;
};

static int steer_state(const nq_info *info, void *udata)
{
    *(int *)udata = (int)info->state;
    return 0;
}

/* What became of it: a task that runs is cancelled later. */
static const char *steer_result(nq *q, const struct steer_verb *verb, nq_id id)
{
    int state = NQ_STATE_CANCELLED;
    if (verb->call == nq_cancel && nq_get(q, id, steer_state, &state, NULL) == NQ_OK &&
        state == NQ_STATE_RUNNING)
        return "will be cancelled";
    return verb->result;
}

static int steer_all(nq *q, const struct steer_verb *verb, const nq_id *ids, size_t n)
{
    static const struct table_column columns[] = {
        {.name = "id", .right = true}, {.name = "result"}, {.name = "error", .machine = true}};
    struct table table;
    int worst = CLI_OK;
    table_start(&table, columns, 3, false);
    for (size_t i = 0; i < n; i++) {
        nq_err err = {0};
        int rc = verb->call(q, ids[i], &err);
        if (rc == NQ_ENOTMIGRATED || rc == NQ_EUNAVAILABLE) {
            worst = cli_worse(worst, cli_fail(&err));
            break; /* the others would only meet the same */
        }
        if (rc != NQ_OK) {
            const char *why = err.message[0] ? err.message : nq_strerror(rc);
            if (strncmp(why, "task ", 5) == 0) /* the library's own words say which */
                cli_complain("%s", why);
            else
                cli_complain("task %lld: %s", (long long)ids[i], why);
        }
        worst = cli_worse(worst, cli_exit_of(rc));
        table_int(&table, ids[i]);
        table_text(&table, rc == NQ_OK           ? steer_result(q, verb, ids[i])
                           : rc == NQ_ENOTFOUND  ? "not found"
                           : rc == NQ_ESTATE     ? "wrong state"
                           : rc == NQ_EDUPLICATE ? "duplicate"
                                                 : "failed");
        table_text(&table, rc == NQ_OK ? "" : err.message);
        table_row(&table);
    }
    table_finish(&table, worst == CLI_OK);
    return worst;
}

static int steer_run(const struct steer_verb *verb, int argc, char **argv)
{
    struct cli_parse parse;
    const char *value;
    cli_parse_start(&parse, verb->command);
    int key = cli_parse_next(&parse, argc, argv, &value);
    if (key != CLI_PARSE_END)
        return key == CLI_PARSE_HELP ? CLI_OK : CLI_USAGE;
    if (optind >= argc)
        return cli_usage("needs at least one task id");
    size_t n = (size_t)(argc - optind);
    nq_id *ids = cli_alloc(n * sizeof ids[0]);
    nq *q = NULL;
    int exit_code = CLI_OK;
    for (size_t i = 0; i < n; i++) {
        if (!cli_take_id(argv[(size_t)optind + i], &ids[i])) {
            exit_code = CLI_USAGE;
            goto out;
        }
    }
    exit_code = cli_open(&q);
    if (exit_code == CLI_OK)
        exit_code = steer_all(q, verb, ids, n);
out:
    nq_close(q);
    free(ids);
    return exit_code;
}

static int steer_retry(int argc, char **argv)
{
    return steer_run(&(struct steer_verb){&cli_retry, nq_retry, "waiting"}, argc, argv);
}

static int steer_cancel(int argc, char **argv)
{
    return steer_run(&(struct steer_verb){&cli_cancel, nq_cancel, "cancelled"}, argc, argv);
}

static int steer_delete(int argc, char **argv)
{
    return steer_run(&(struct steer_verb){&cli_delete, nq_delete, "deleted"}, argc, argv);
}

static const struct cli_option steer_options[] = {CLI_OPTION_FORMAT, CLI_OPTION_DB, CLI_OPTION_END};
static const char steer_notes[] =
    "With several ids it goes on after a failure and exits with the worst code: 3 not "
    "found, 1 wrong state.\n";
static const char steer_cancel_notes[] =
    "\"will be cancelled\": it runs. Its worker is told, at once on the same host and at its next heartbeat "
    "(5 s "
    "at most)\n"
    "elsewhere, and it never runs again; but if it succeeds all the same, it is done.\n"
    "With several ids it goes on after a failure and exits with the worst code: 3 not found, 1 wrong state "
    "(it has\n"
    "ended).\n";
const struct cli_command cli_retry = {
    .name = "retry",
    .args = "[OPTION...] ID...",
    .summary = "Run tasks now: dead, cancelled and done ones go back to waiting, waiting ones become due",
    .options = steer_options,
    .notes = steer_notes,
    .run = steer_retry,
};
const struct cli_command cli_cancel = {
    .name = "cancel",
    .args = "[OPTION...] ID...",
    .summary = "Cancel tasks: waiting ones at once, running ones when their handlers end; they are kept",
    .options = steer_options,
    .notes = steer_cancel_notes,
    .run = steer_cancel,
};
const struct cli_command cli_delete = {
    .name = "delete",
    .args = "[OPTION...] ID...",
    .summary = "Delete tasks that do not run",
    .options = steer_options,
    .notes = steer_notes,
    .run = steer_delete,
};

/* ---- migrate */

static int steer_print(unsigned from)
{
    char *sql = NULL;
    nq_err err = {0};
    int exit_code = CLI_OK;
    bool own;
    char *url = cli_url(&exit_code, &own);
    if (!url)
        return exit_code;
    if (nq_migration_sql(&sql, url, from, &err) != NQ_OK)
        exit_code = cli_fail(&err);
    else
        fputs(sql, stdout);
    nq_free(sql);
    free(url);
    return exit_code;
}

static int steer_migrate(int argc, char **argv)
{
    struct cli_parse parse;
    const char *value;
    nq_err err = {0};
    bool print = false;
    int64_t from = -1;
    int key;
    cli_parse_start(&parse, &cli_migrate);
    while ((key = cli_parse_next(&parse, argc, argv, &value)) >= 0)
        if (key == 256)
            print = true;
        else if (!cli_take_int("--from", value, 0, INT32_MAX, &from))
            return CLI_USAGE;
    if (key != CLI_PARSE_END)
        return key == CLI_PARSE_HELP ? CLI_OK : CLI_USAGE;
    if (optind < argc)
        return cli_usage("takes no argument '%s'", argv[optind]);
    if (from >= 0 && !print)
        return cli_usage("--from goes with --print: migrating finds out by itself what is there");
    if (print)
        return steer_print(from < 0 ? 0 : (unsigned)from);
    nq *q = NULL;
    cli.makes_database = true;
    int exit_code = cli_open(&q);
    if (exit_code == CLI_OK) {
        exit_code = nq_migrate(q, &err) == NQ_OK ? CLI_OK : cli_fail(&err);
        nq_close(q);
    }
    if (exit_code == CLI_OK)
        puts("the tables are up to date");
    return exit_code;
}

static const struct cli_option steer_migrate_options[] = {
    {256, "print", NULL, "print the SQL instead, for people who keep their own migrations"},
    {257, "from", "N", "print what comes after schema version N only (default 0: all)"},
    CLI_OPTION_DB,
    CLI_OPTION_END,
};
const struct cli_command cli_migrate = {
    .name = "migrate",
    .args = "[--print [--from N]] [--db URL]",
    .summary = "Create or upgrade the tables; safe to repeat, and from several processes at once",
    .options = steer_migrate_options,
    .run = steer_migrate,
};
