/* SPDX-License-Identifier: MIT */
/* nanoq add: enqueue one task; lines of many are in add_lines.c. */
#include "add.h"

#include <errno.h>
#include <unistd.h>

#include "../text/json_input.h"
#include "../text/text.h"

static bool add_when(nq_task_spec *spec, int key, const char *value)
{
    if ((key == 'i' && spec->run_at_us != 0) || (key == 'a' && spec->delay_us != 0)) {
        cli_complain("--in and --at exclude each other");
        return false;
    }
    if (key == 'i')
        return cli_take_duration("--in", value, 0, &spec->delay_us);
    nq_err err = {0};
    if (cli_parse_time(value, &spec->run_at_us, &err) != NQ_OK) {
        cli_complain("--at: %s", err.message);
        return false;
    }
    /* 0 would mean "not set", and what is long past is due now all the same. */
    spec->run_at_us = spec->run_at_us < 1 ? 1 : spec->run_at_us;
    return true;
}

static bool add_unique(nq_task_spec *spec, int key, const char *value)
{
    if (spec->unique != NQ_UNIQUE_PAYLOAD) {
        cli_complain("--unique-key and --no-unique: only one of them, and once");
        return false;
    }
    if (key == 'N') {
        spec->unique = NQ_UNIQUE_NONE;
        return true;
    }
    if (*value == '\0') {
        cli_complain("--unique-key: needs at least one byte");
        return false;
    }
    spec->unique = NQ_UNIQUE_DATA;
    spec->unique_data = value;
    spec->unique_size = strlen(value);
    return true;
}

/* What the name and the value may be, says the library. The name ends where the = was. */
static bool add_header(struct add_request *r, const char *value)
{
    char *equals = strchr(value, '=');
    if (!equals) {
        cli_complain("--header: needs NAME=VALUE, not '%s'", value);
        return false;
    }
    if (r->spec.nheaders == NQ_MAX_HEADERS) {
        cli_complain("--header: at most %d are allowed", NQ_MAX_HEADERS);
        return false;
    }
    *equals = '\0';
    r->headers[r->spec.nheaders++] = (nq_header){value, equals + 1};
    r->spec.headers = r->headers;
    return true;
}

static bool add_tag(struct add_request *r, const char *value)
{
    if (r->spec.ntags == NQ_MAX_TAGS) {
        cli_complain("--tag: at most %d are allowed", NQ_MAX_TAGS);
        return false;
    }
    r->tags[r->spec.ntags++] = value;
    r->spec.tags = r->tags;
    return true;
}

static bool add_key(nq_task_spec *spec, int key, const char *value)
{
    static const char *const names[] = {"replace", "debounce", "append"};
    if (key == ADD_WINDOW)
        return cli_take_duration("--window", value, NQ_MS(1), &spec->window_us);
    if (key == ADD_MAX_WAIT)
        return cli_take_duration("--max-wait", value, NQ_MS(1), &spec->max_wait_us);
    if (key == ADD_UNTIL && !add_until(value, spec)) {
        cli_complain("--until: must be done, start or window, not '%s'", value);
        return false;
    }
    if (key == ADD_UNTIL)
        return true;
    if (spec->duplicate != NQ_REFUSE) {
        cli_complain("--replace, --debounce and --append: only one of them, and once");
        return false;
    }
    return add_duplicate(names[key - ADD_REPLACE], spec);
}

bool add_option(struct add_request *r, int key, const char *value)
{
    int64_t v = 0;
    switch (key) {
    case 'i':
    case 'a':
        return add_when(&r->spec, key, value);
    case 'u':
    case 'N':
        return add_unique(&r->spec, key, value);
    case 'q':
        if (*value == '\0') {
            cli_complain("--queue: needs a name");
            return false;
        }
        r->spec.queue = value;
        return true;
    case 'g':
        r->spec.group = value;
        return true;
    case 'p':
        if (!cli_take_int("--priority", value, NQ_MIN_PRIORITY, NQ_MAX_PRIORITY, &v))
            return false;
        r->spec.priority = (int)v;
        return true;
    case ADD_TIMEOUT:
        return cli_take_duration("--timeout", value, NQ_SECONDS(1), &r->spec.timeout_us);
    case 'r':
        if (!cli_take_int("--max-retries", value, 0, NQ_MAX_RETRIES, &v))
            return false;
        r->spec.max_retries = v == 0 ? NQ_ZERO : (int)v;
        return true;
    case 'e':
        return cli_take_duration("--expires", value, NQ_MS(1), &r->spec.expires_us);
    case ADD_KEEP:
        return cli_take_keep("--keep", value, &r->spec.keep_us);
    case 'H':
        return add_header(r, value);
    case 'T':
        return add_tag(r, value);
    case ADD_RAW:
        r->raw = true;
        return true;
    case ADD_STDIN:
        r->lines = true;
        return true;
    default:
        return add_key(&r->spec, key, value);
    }
}

static int add_check_payload(const struct add_request *r)
{
    char message[256];
    int line, column;
    if (r->spec.payload_size > ADD_MAX_PAYLOAD) {
        return cli_usage(
            "the payload is over the limit of %zu bytes; store it elsewhere and enqueue where it is",
            ADD_MAX_PAYLOAD);
    }
    if (r->raw || !r->spec.payload)
        return CLI_OK;
    if (r->spec.payload_size == 0)
        return cli_usage("an empty payload is no JSON: leave it out, or use --raw");
    json_t *root = json_input(r->spec.payload, r->spec.payload_size, message, &line, &column);
    if (!root) {
        return cli_usage("the payload is not valid JSON: line %d, column %d: %s; --raw takes any bytes", line,
                         column, message);
    }
    json_decref(root);
    return CLI_OK;
}

static int add_one(const struct add_request *r)
{
    nq_err err = {0};
    nq_id id = 0;
    nq *q = NULL;
    int exit_code = cli_open(&q);
    if (exit_code != CLI_OK)
        return exit_code;
    int rc = nq_enqueue(q, NQ_OWN_TX, &r->spec, &id, &err);
    nq_close(q);
    if (rc < 0)
        return cli_fail(&err);
    if (cli.format == CLI_JSON)
        printf("{\"id\": %lld, \"duplicate\": %s}\n", (long long)id, rc == NQ_OK ? "false" : "true");
    else
        printf("%lld\n", (long long)id);
    if (rc == NQ_DUPLICATE && !r->once) {
        cli_complain("duplicate: task %lld %s the same unique key", (long long)id,
                     r->spec.until == NQ_UNTIL_WINDOW ? "has taken" : "is live with");
        return CLI_DUPLICATE;
    }
    return CLI_OK;
}

int add_payload(struct add_request *r, int argc, char **argv)
{
    int n = argc - optind;
    if (n < 1)
        return cli_usage("needs a task type (see nanoq help %s)", cli.command);
    if (n > 2) {
        return cli_usage("'%s' is one argument too many: quote the payload, or give - and send it to stdin",
                         argv[optind + 2]);
    }
    r->spec.type = argv[optind];
    if (n == 2 && strcmp(argv[optind + 1], "-") == 0) {
        int exit_code = cli_read_stdin(&r->input, ADD_MAX_PAYLOAD);
        if (exit_code != CLI_OK)
            return exit_code;
        r->spec.payload = r->input.p ? r->input.p : "";
        r->spec.payload_size = r->input.n;
    } else if (n == 2) {
        r->spec.payload = argv[optind + 1];
        r->spec.payload_size = strlen(argv[optind + 1]);
    }
    return add_check_payload(r);
}

int add_task(struct add_request *r, int argc, char **argv)
{
    const int exit_code = add_payload(r, argc, argv);
    return exit_code == CLI_OK ? add_one(r) : exit_code;
}

static int add_run(int argc, char **argv)
{
    struct add_request r = {.spec = {.size = sizeof r.spec}};
    struct cli_parse parse;
    const char *value;
    int key;
    cli_parse_start(&parse, &cli_add);
    while ((key = cli_parse_next(&parse, argc, argv, &value)) >= 0)
        if (!add_option(&r, key, value))
            return CLI_USAGE;
    if (key != CLI_PARSE_END)
        return key == CLI_PARSE_HELP ? CLI_OK : CLI_USAGE;
    if (!r.spec.queue)
        r.spec.queue = cli_configured(CLI_CONFIG_QUEUE, NULL);
    int exit_code;
    char why[220];
    if (!r.lines && !add_key_good(&r.spec, "--", why, sizeof why)) {
        exit_code = cli_usage("%s", why);
    } else if (!r.lines) {
        exit_code = add_task(&r, argc, argv);
    } else if (optind < argc || r.raw || r.spec.unique == NQ_UNIQUE_DATA) {
        exit_code =
            cli_usage("--stdin takes type, payload and unique key from the lines: no arguments, --raw or "
                      "--unique-key beside it");
    } else {
        exit_code = add_lines(&r.spec);
    }
    text_free(&r.input);
    return exit_code;
}

static const struct cli_option add_options[] = {
    {'i', "in", "DURATION", "run no earlier than in 250ms, 5s, 5m, 2h, 7d, 1h30m; a bare number is seconds"},
    {'a', "at", "TIME", "run no earlier than 2026-01-31T12:00:00Z (UTC without a zone) or @1769860800"},
    {'q', "queue", "QUEUE", "default: default"},
    {'g', "group", "GROUP", "within the queue: a tenant, a customer; groups have turns. docs/queues.md"},
    {'p', "priority", "N", "-100 to 100, lower runs first; default 0"},
    {ADD_TIMEOUT, "timeout", "DURATION", "of one attempt; default 60s, at least 1s"},
    {'r', "max-retries", "N", "0 to 1000; default 10"},
    {'u', "unique-key", "DATA", "one live task per type and DATA, instead of per type and payload"},
    {'N', "no-unique", NULL, "any number of equal tasks"},
    {ADD_UNTIL, "until", "done|start|window", "until when the key is taken; default done"},
    {ADD_WINDOW, "window", "DURATION", "with --until window: from now on, whatever becomes of the task"},
    {ADD_REPLACE, "replace", NULL, "a waiting task of the key takes over all that is said here"},
    {ADD_DEBOUNCE, "debounce", NULL, "the same, and runs --in from now; docs/unique.md"},
    {ADD_MAX_WAIT, "max-wait", "DURATION",
     "with --debounce: no later than this after the first; default 10 times --in"},
    {ADD_APPEND, "append", NULL,
     "a waiting task of the --unique-key takes the payload to the end of its own"},
    {'e', "expires", "DURATION", "start no attempt later than this after now; then it ends as dead"},
    {ADD_KEEP, "keep", "DURATION", "keep it so long when it is done, with its result, or forever"},
    {'H', "header", "NAME=VALUE", "text beside the payload, like traceparent=00-...; may be repeated"},
    {'T', "tag", "TAG", "a word to find it by; may be repeated"},
    {ADD_RAW, "raw", NULL, "take the payload as it is; without, it must be JSON"},
    {ADD_STDIN, "stdin", NULL, "enqueue many: one JSON object a line, see below"},
    CLI_OPTION_FORMAT,
    CLI_OPTION_DB,
    CLI_OPTION_END,
};
const struct cli_command cli_add = {
    .name = "add",
    .args = "[OPTION...] TYPE [PAYLOAD|-]\n       nanoq add --stdin [OPTION...]",
    .summary = "Enqueue a task and print its id",
    .options = add_options,
    .notes =
        "PAYLOAD is stored byte for byte; - reads it from stdin; without one it is empty. When a live "
        "task has the\n"
        "same unique key, its id is printed and the exit code is 4: nothing was added.\n\n"
        "--stdin: lines like {\"type\": \"email\", \"payload\": {\"to\": 1}, \"queue\": \"mail\", "
        "\"group\": \"42\",\n"
        "\"priority\": 0, \"in\": \"5m\", \"timeout\": \"30s\", \"max_retries\": 3, \"unique_key\": \"a\",\n"
        "\"expires\": \"1h\", \"headers\": {\"lang\": \"de\"}}; only type is required; also \"keep\", "
        "\"tags\", "
        "an array,\n"
        "\"until\", \"window\", \"duplicate\" (refuse, replace, debounce, append) and \"max_wait\". payload "
        "is any\n"
        "JSON value, kept as it is written; payload_text is a string whose text becomes the payload.\n"
        "\"at\" for a point in time, \"unique\": false for --no-unique; numbers in in, at, timeout and "
        "expires\n"
        "are seconds. Options say what holds for lines that do not say.\n"
        "The lines are enqueued in chunks "
        "(500, or what came in 0.2 s), an "
        "id is\n"
        "printed for each, duplicates included. A chunk with a bad line is not enqueued at all, and ends "
        "it.\n"
        "Exit code 4: all lines were taken, and at least one was a duplicate; --format json says which. A "
        "member\n"
        "that is named twice is refused, within a payload it is not looked at.\n",
    .run = add_run,
};
