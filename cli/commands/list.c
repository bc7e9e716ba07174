/* SPDX-License-Identifier: MIT */
/* nanoq list: tasks in order of their ids, a page at a time. */
#include "filter.h"
#include "look.h"

#define LIST_HEAD    256 /* bytes of a payload that nq_list hands out */
#define LIST_PAGE    1000
#define LIST_DEFAULT 100
#define LIST_AT_ONCE 10000 /* most tasks of one nq_list */

struct list_request {
    nq_list_options options;
    struct filter filter;
    nq_bounds bounds;
    int64_t limit; /* 0: not said */
    bool running;
    bool ordered; /* --newest or --oldest was said */
};

struct list_shown {
    struct table table;
    nq_id first, last;
    int64_t total;
};

static int list_row(const nq_info *info, void *udata)
{
    struct list_shown *shown = udata;
    shown->first = shown->total == 0 ? info->id : shown->first;
    shown->last = info->id;
    shown->total++;
    look_task(&shown->table, info, info->payload_size < LIST_HEAD ? info->payload_size : LIST_HEAD);
    return 0;
}

/* Show these columns in the table and no others. */
static void list_choose(struct table_column columns[LOOK_COLUMNS], const char *const *names)
{
    memcpy(columns, look_columns, sizeof look_columns);
    for (size_t i = 0; i < LOOK_COLUMNS; i++) {
        columns[i].machine = true;
        for (const char *const *name = names; *name && columns[i].machine; name++)
            columns[i].machine = strcmp(*name, columns[i].name) != 0;
    }
}

static int list_found(const nq_info *info, void *udata)
{
    (void)info;
    *(bool *)udata = true;
    return 1;
}

/* Who did not say how many learns that there are more, and how to see them. Not in the output: that may be
 * read by a program. */
static void list_tell_more(nq *q, nq_list_options *options, const struct list_shown *shown)
{
    const bool back = options->before != 0 && options->after == 0;
    const bool newest = options->order == NQ_NEWEST_FIRST;
    bool more = false;
    nq_id *cursor = back ? &options->before : &options->after;
    *cursor = back ? shown->first : shown->last;
    options->limit = 1;
    if (nq_list(q, options, list_found, &more, NULL) != NQ_OK || !more)
        return;
    fflush(stdout);
    cli_complain(
        "there are more than these %d tasks: --%s %lld for the %s ones, --limit N for more at once, --%s for "
        "the other end",
        LIST_DEFAULT, back ? "before" : "after", (long long)*cursor, back ? "previous" : "next",
        newest ? "oldest" : "newest");
}

/* Not every task was looked at. */
static void list_tell_bounds(const struct list_request *r, bool back)
{
    fflush(stdout);
    cli_complain(
        "this is not all: no index leads to such tasks, so it looked at %llu of them, up to id %lld. --%s "
        "%lld goes on there, --look N looks at more at once",
        (unsigned long long)(r->options.look ? r->options.look : NQ_DEFAULT_LOOK),
        (long long)r->bounds.reached, back ? "before" : "after", (long long)r->bounds.reached);
}

static int list_all(nq *q, struct list_request *r)
{
    static const char *const of_running[] = {"id",         "state",  "queue",    "type",    "attempts",
                                             "claimed_at", "worker", "progress", "payload", NULL};
    nq_list_options *options = &r->options;
    const int64_t limit = r->limit > 0 ? r->limit : LIST_DEFAULT;
    /* What is nearest to --before comes from one call: page by page it would come the wrong way round. */
    const bool back = options->before != 0 && options->after == 0;
    struct table_column columns[LOOK_COLUMNS];
    struct list_shown shown = {0};
    nq_err err = {0};
    int rc = NQ_OK;
    if (r->running)
        list_choose(columns, of_running);
    table_start(&shown.table, r->running ? columns : look_columns, LOOK_COLUMNS, false);
    while (rc == NQ_OK && shown.total < limit) {
        const int64_t before = shown.total, left = limit - before;
        options->limit = (unsigned)(left < LIST_PAGE || back ? left : LIST_PAGE);
        rc = nq_list(q, options, list_row, &shown, &err);
        if (back || shown.total - before < options->limit)
            break;
        options->after = shown.last;
    }
    table_finish(&shown.table, rc == NQ_OK);
    if (rc != NQ_OK)
        return cli_fail(&err);
    if (r->bounds.bounded)
        list_tell_bounds(r, back);
    else if (r->limit == 0 && shown.total == limit)
        list_tell_more(q, options, &shown);
    return CLI_OK;
}

/* ---- options */

static bool list_order(struct list_request *r, int order)
{
    if (r->ordered && r->options.order != order) {
        cli_complain("--newest and --oldest exclude each other");
        return false;
    }
    r->ordered = true;
    r->options.order = order;
    return true;
}

enum { LIST_AFTER = 256, LIST_BEFORE, LIST_NEWEST, LIST_OLDEST, LIST_LOOK, LIST_JSON, LIST_RUNNING };

static bool list_option(struct list_request *r, int key, char *value)
{
    int64_t look;
    if (filter_is(key))
        return filter_take(&r->filter, key, value);
    switch (key) {
    case LIST_RUNNING:
        r->running = true;
        r->filter.f.states |= NQ_STATE_BIT(NQ_STATE_RUNNING);
        return true;
    case 'n':
        return cli_take_int("--limit", value, 1, 1000000000, &r->limit);
    case LIST_NEWEST:
        return list_order(r, NQ_NEWEST_FIRST);
    case LIST_OLDEST:
        return list_order(r, NQ_OLDEST_FIRST);
    case LIST_BEFORE:
        return cli_take_int("--before", value, 0, INT64_MAX, &r->options.before);
    case LIST_LOOK:
        if (!cli_take_int("--look", value, 1, 1000000000, &look))
            return false;
        r->options.look = (uint64_t)look;
        return true;
    case LIST_JSON:
        cli.format = CLI_JSON;
        return true;
    default:
        return cli_take_int("--after", value, 0, INT64_MAX, &r->options.after);
    }
}

static int list_run(int argc, char **argv)
{
    struct list_request r = {.options = {.size = sizeof r.options}, .bounds = {.size = sizeof r.bounds}};
    struct cli_parse parse;
    const char *value;
    int key;
    cli_parse_start(&parse, &cli_list);
    while ((key = cli_parse_next(&parse, argc, argv, &value)) >= 0) {
        if (!list_option(&r, key, optarg))
            return CLI_USAGE;
    }
    if (key != CLI_PARSE_END)
        return key == CLI_PARSE_HELP ? CLI_OK : CLI_USAGE;
    if (optind < argc)
        return cli_usage("takes no argument '%s'; one task is shown by: nanoq show ID", argv[optind]);
    if (!filter_end(&r.filter))
        return CLI_USAGE;
    if (r.options.before != 0 && r.options.after == 0 && r.limit > LIST_AT_ONCE) {
        return cli_usage("--before shows at most %d tasks: --limit %lld is too many", LIST_AT_ONCE,
                         (long long)r.limit);
    }
    r.options.filter = &r.filter.f;
    r.options.bounds = &r.bounds;
    nq *q = NULL;
    int exit_code = cli_open(&q);
    if (exit_code == CLI_OK) {
        exit_code = list_all(q, &r);
        nq_close(q);
    }
    return exit_code;
}

static const struct cli_option list_options[] = {
    FILTER_OPTIONS,
    {LIST_RUNNING, "running", NULL, "only running ones, with their workers and progress"},
    {LIST_OLDEST, "oldest", NULL, "from the lowest id up; the default"},
    {LIST_NEWEST, "newest", NULL, "from the highest id down"},
    {'n', "limit", "N", "at most N tasks; default 100, and a word on stderr when there are more"},
    {LIST_AFTER, "after", "ID", "the next page: what comes after this id, the last one of a page"},
    {LIST_BEFORE, "before", "ID", "the page before: what comes before this id, the first one of a page"},
    {LIST_LOOK, "look", "N", "where no index leads to such tasks, look at N of them; default 100000"},
    {LIST_JSON, "json", NULL, "the same as --format json"},
    CLI_OPTION_FORMAT,
    CLI_OPTION_DB,
    CLI_OPTION_END,
};
const struct cli_command cli_list = {
    .name = "list",
    .args = "[OPTION...]",
    .summary = "List tasks in order of id",
    .options = list_options,
    .notes = FILTER_NOTES
    "Payloads are cut to 256 bytes here; `nanoq show ID` has all of one. JSON is one array; a "
    "payload that\n"
    "is not UTF-8 is base64, see payload_encoding. TSV has a line of names first and writes tab, "
    "newline\n"
    "and backslash as \\t, \\n and \\\\. --after and --before go with the order: with --newest, "
    "what comes after "
    "an\n"
    "id is older. A page stays what it is while tasks are added and deleted.\n",
    .run = list_run,
};
