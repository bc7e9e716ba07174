/* SPDX-License-Identifier: MIT */
/* nanoq wait: until tasks have ended, and what they left. */
#include "../cli.h"
#include "../text/table.h"

enum { WAIT_JSON = 256, WAIT_ANY, WAIT_TIMEOUT, WAIT_RAW };

static const struct table_column wait_columns[] = {
    {.name = "id", .right = true},
    {.name = "state"},
    {.name = "attempts", .right = true},
    {.name = "finished_at", .machine = true},
    {.name = "error"},
    {.name = "result", .wide = true},
};

struct wait_seen {
    struct table table;
    bool raw;  /* only the results, byte for byte */
    bool dead; /* one of them has not ended done */
};

static int wait_row(const nq_info *info, void *udata)
{
    struct wait_seen *seen = udata;
    struct table *t = &seen->table;
    const char *state = nq_state_name(info->state);
    seen->dead = seen->dead || info->state != NQ_STATE_DONE;
    if (seen->raw) {
        if (info->result_size > 0)
            fwrite(info->result, 1, info->result_size, stdout);
        return 0;
    }
    table_int(t, info->id);
    table_text(t, state ? state : "?");
    table_int(t, info->attempts);
    table_time(t, info->finished_at_us);
    table_optional(t, info->error);
    table_result(t, info->result, info->result_size);
    table_row(t);
    return 0;
}

static int wait_ids(const char *const texts[], size_t n, nq_id **out)
{
    nq_id *ids = cli_alloc((n + 1) * sizeof ids[0]);
    if (n == 0 || n > NQ_MAX_WAIT) {
        free(ids);
        return n == 0 ? cli_usage("needs a task id, or several")
                      : cli_usage("%zu ids are too many, at most %d are allowed", n, NQ_MAX_WAIT);
    }
    for (size_t i = 0; i < n; i++) {
        if (!cli_take_id(texts[i], &ids[i])) {
            free(ids);
            return CLI_USAGE;
        }
    }
    *out = ids;
    return CLI_OK;
}

static int wait_until(nq *q, const nq_id ids[], size_t n, int wait_for, int64_t timeout_us, bool raw)
{
    struct wait_seen seen = {.raw = raw};
    nq_err err = {0};
    table_start(&seen.table, wait_columns, sizeof wait_columns / sizeof wait_columns[0], false);
    const int rc = nq_wait(q, ids, n, wait_for, timeout_us, wait_row, &seen, &err);
    if (!raw)
        table_finish(&seen.table, rc == NQ_OK);
    fflush(stdout);
    if (rc == NQ_OK)
        return seen.dead ? CLI_NOT_DONE : CLI_OK;
    const int exit_code = cli_fail(&err);
    return rc == NQ_ENOTFOUND && seen.dead ? CLI_NOT_DONE : exit_code;
}

static int wait_run(int argc, char **argv)
{
    struct cli_parse parse;
    const char *value;
    nq *q = NULL;
    nq_id *ids = NULL;
    int64_t timeout_us = 0;
    bool raw = false;
    int key, wait_for = NQ_WAIT_ALL;
    cli_parse_start(&parse, &cli_wait);
    while ((key = cli_parse_next(&parse, argc, argv, &value)) >= 0) {
        if (key == WAIT_TIMEOUT && !cli_take_duration("--timeout", value, 0, &timeout_us))
            return CLI_USAGE;
        if (key == WAIT_TIMEOUT)
            timeout_us = timeout_us > 0 ? timeout_us : NQ_ZERO;
        wait_for = key == WAIT_ANY ? NQ_WAIT_ANY : wait_for;
        raw = raw || key == WAIT_RAW;
        cli.format = key == WAIT_JSON ? CLI_JSON : cli.format;
    }
    if (key != CLI_PARSE_END)
        return key == CLI_PARSE_HELP ? CLI_OK : CLI_USAGE;
    const size_t n = (size_t)(argc - optind);
    int exit_code = wait_ids((const char *const *)argv + optind, n, &ids);
    if (exit_code == CLI_OK)
        exit_code = cli_open(&q);
    if (exit_code == CLI_OK) {
        exit_code = wait_until(q, ids, n, wait_for, timeout_us, raw);
        nq_close(q);
    }
    free(ids);
    return exit_code;
}

static const struct cli_option wait_options[] = {
    {WAIT_ANY, "any", NULL, "until one of them has ended; default: all"},
    {WAIT_TIMEOUT, "timeout", "DURATION", "at most so long; 0: only look; default: for ever"},
    {WAIT_RAW, "raw", NULL, "print the results alone, byte for byte: careful with terminals"},
    {WAIT_JSON, "json", NULL, "the same as --format json"},
    CLI_OPTION_FORMAT,
    CLI_OPTION_DB,
    CLI_OPTION_END};
const struct cli_command cli_wait = {
    .name = "wait",
    .args = "[OPTION...] ID...",
    .summary = "Wait until tasks have ended, and print what they left",
    .options = wait_options,
    .notes = "Exit code 0: they are done; 6: one is dead, cancelled or expired; 7: the time is up; 3: one is "
             "not here:\n"
             "it is done and was not kept (nanoq add --keep), was deleted, or never was.\n",
    .run = wait_run,
};
