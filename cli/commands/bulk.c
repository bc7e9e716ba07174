/* SPDX-License-Identifier: MIT */
/* Changing all the tasks that options mean: what nanoq retry, cancel, delete, move and priority share. */
#include "bulk.h"

#include "../text/table.h"

/* "50/s", or "50". */
static bool bulk_rate(const char *value, unsigned *out)
{
    char number[24];
    int64_t n;
    size_t size = strlen(value);
    if (size > 2 && strcmp(value + size - 2, "/s") == 0)
        size -= 2;
    if (size >= sizeof number) {
        cli_complain("--rate must be a number a second, such as 50/s, not '%s'", value);
        return false;
    }
    snprintf(number, sizeof number, "%.*s", (int)size, value);
    if (!cli_take_int("--rate", number, 1, 1000000, &n))
        return false;
    *out = (unsigned)n;
    return true;
}

bool bulk_take(struct bulk *b, int key, char *value)
{
    int64_t n;
    if (filter_is(key))
        return filter_take(&b->filter, key, value);
    switch (key) {
    case BULK_FROM:
        return filter_take(&b->filter, FILTER_QUEUE, value);
    case BULK_TO:
        b->options.queue = value;
        return true;
    case BULK_ALL:
        b->options.all = true;
        return true;
    case BULK_DRY:
        b->options.dry_run = true;
        return true;
    case BULK_RATE:
        return bulk_rate(value, &b->options.per_second);
    case BULK_LIMIT:
        if (!cli_take_int("--limit", value, 1, INT64_MAX, &n))
            return false;
        b->options.limit = (uint64_t)n;
        return true;
    default:
        cli.format = CLI_JSON;
        return true;
    }
}

static int bulk_progress(const nq_bulk_counts *c, void *udata)
{
    (void)udata;
    fprintf(stderr, "\r%llu of %llu done, at id %lld of %lld\x1b[K", (unsigned long long)c->done,
            (unsigned long long)c->found, (long long)c->reached, (long long)c->last);
    return 0;
}

static void bulk_show(const nq_bulk_counts *c, bool dry)
{
    static const struct table_column columns[] = {{.name = "found", .right = true},
                                                  {.name = "done", .right = true},
                                                  {.name = "asked", .right = true},
                                                  {.name = "changed", .right = true},
                                                  {.name = "wrong_state", .right = true},
                                                  {.name = "duplicate", .right = true},
                                                  {.name = "locked", .right = true},
                                                  {.name = "refused", .right = true},
                                                  {.name = "stopped"},
                                                  {.name = "dry_run"}};
    const uint64_t numbers[] = {c->found, c->done,       c->asked,  c->changed,
                                c->state, c->duplicates, c->locked, c->refused};
    struct table table;
    table_start(&table, columns, sizeof columns / sizeof *columns, false);
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        table_int(&table, (int64_t)numbers[i]);
    table_bool(&table, c->stopped);
    table_bool(&table, dry);
    table_row(&table);
    table_finish(&table, true);
}

int bulk_run(struct bulk *b)
{
    const bool shows = cli_fancy(stderr);
    nq_bulk_counts counts = {.size = sizeof counts};
    nq_err err = {0};
    nq *q = NULL;
    if (!filter_end(&b->filter))
        return CLI_USAGE;
    b->options.size = sizeof b->options;
    if (shows)
        b->options.progress = bulk_progress;
    int exit_code = cli_open(&q);
    if (exit_code != CLI_OK)
        return exit_code;
    const int rc = nq_bulk(q, &b->filter.f, b->action, &b->options, &counts, &err);
    if (shows)
        fputs("\r\x1b[K", stderr);
    if (rc == NQ_OK || counts.found > 0)
        bulk_show(&counts, b->options.dry_run);
    if (rc == NQ_EINVAL && strstr(err.message, "means every task"))
        exit_code = cli_usage("needs ids, or options that say which tasks; --all if every task is meant");
    else if (rc != NQ_OK)
        exit_code = cli_fail(&err);
    else if (counts.state + counts.duplicates + counts.locked + counts.refused > 0)
        exit_code = CLI_FAILURE;
    nq_close(q);
    return exit_code;
}
