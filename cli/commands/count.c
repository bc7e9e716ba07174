/* SPDX-License-Identifier: MIT */
/* nanoq count: how many tasks there are that are meant. */
#include "../text/table.h"
#include "filter.h"

enum { COUNT_EXACT = 256, COUNT_LOOK, COUNT_JSON };

struct count_request {
    struct filter filter;
    nq_count_options options;
};

/* For people who wait. */
static int count_progress(const nq_counted *so_far, void *udata)
{
    (void)udata;
    fprintf(stderr, "\r%llu, %lld %% of the ids ", (unsigned long long)so_far->n,
            (long long)(so_far->last > 0 ? 100.0 * (double)so_far->reached / (double)so_far->last : 100));
    return 0;
}

static void count_show(const nq_counted *k)
{
    static const struct table_column columns[] = {{.name = "count", .right = true},
                                                  {.name = "more"},
                                                  {.name = "bounded"},
                                                  {.name = "reached", .right = true}};
    struct table t;
    if (cli.format == CLI_TABLE) {
        printf("%llu%s\n", (unsigned long long)k->n, k->more ? "+" : "");
    } else {
        table_start(&t, columns, sizeof columns / sizeof columns[0], cli.format == CLI_JSON);
        table_int(&t, (int64_t)k->n);
        table_bool(&t, k->more);
        table_bool(&t, k->bounded);
        if (k->bounded)
            table_int(&t, k->reached);
        else
            table_none(&t);
        table_row(&t);
        table_finish(&t, true);
    }
    fflush(stdout);
    if (k->bounded)
        cli_complain("so many among the newest tasks, down to id %lld: no index leads to such tasks. --look "
                     "N looks at more, "
                     "--exact at all",
                     (long long)k->reached);
}

static bool count_option(struct count_request *r, int key, char *value)
{
    int64_t look;
    if (filter_is(key))
        return filter_take(&r->filter, key, value);
    if (key == COUNT_LOOK) {
        if (!cli_take_int("--look", value, 1, 1000000000, &look))
            return false;
        r->options.look = (uint64_t)look;
    } else if (key == COUNT_EXACT) {
        r->options.exact = true;
    } else {
        cli.format = CLI_JSON;
    }
    return true;
}

static int count_run(int argc, char **argv)
{
    struct count_request r = {.options = {.size = sizeof r.options}};
    struct cli_parse parse;
    const char *value;
    int key;
    cli_parse_start(&parse, &cli_count);
    while ((key = cli_parse_next(&parse, argc, argv, &value)) >= 0)
        if (!count_option(&r, key, optarg))
            return CLI_USAGE;
    if (key != CLI_PARSE_END)
        return key == CLI_PARSE_HELP ? CLI_OK : CLI_USAGE;
    if (optind < argc)
        return cli_usage("takes no argument '%s'", argv[optind]);
    if (!filter_end(&r.filter))
        return CLI_USAGE;
    nq *q = NULL;
    const int exit_code = cli_open(&q);
    if (exit_code != CLI_OK)
        return exit_code;
    nq_counted k = {.size = sizeof k};
    nq_err err = {0};
    const bool shown = r.options.exact && cli_fancy(stderr);
    r.options.progress = shown ? count_progress : NULL;
    const int rc = nq_count(q, &r.filter.f, &r.options, &k, &err);
    if (shown)
        fputs("\r\033[K", stderr);
    if (rc == NQ_OK)
        count_show(&k);
    nq_close(q);
    return rc == NQ_OK ? CLI_OK : cli_fail(&err);
}

static const struct cli_option count_options[] = {
    FILTER_OPTIONS,
    {COUNT_EXACT, "exact", NULL, "count to the end, however many: seconds for millions"},
    {COUNT_LOOK, "look", "N", "where no index leads to such tasks, look at N of them; default 100000"},
    {COUNT_JSON, "json", NULL, "the same as --format json"},
    CLI_OPTION_FORMAT,
    CLI_OPTION_DB,
    CLI_OPTION_END,
};
const struct cli_command cli_count = {
    .name = "count",
    .args = "[OPTION...]",
    .summary = "Count tasks",
    .options = count_options,
    .notes = FILTER_NOTES "Counting stops at 10000, and says 10000+ then (JSON: more).\n",
    .run = count_run,
};
