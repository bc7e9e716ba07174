/* SPDX-License-Identifier: MIT */
/* nanoq once: enqueue a task if none was enqueued under that key, be it long done. */
#include "add.h"

enum { ONCE_FOR = 256, ONCE_RAW };

static bool once_option(struct add_request *r, int key, const char *value)
{
    switch (key) {
    case ONCE_FOR:
        return cli_take_duration("--for", value, NQ_MS(1), &r->spec.window_us);
    case ONCE_RAW:
        r->raw = true;
        return true;
    default:
        if (*value == '\0') {
            cli_complain("--queue: needs a name");
            return false;
        }
        r->spec.queue = value;
        return true;
    }
}

static int once_run(int argc, char **argv)
{
    struct add_request r = {.once = true,
                            .spec = {.size = sizeof r.spec,
                                     .unique = NQ_UNIQUE_DATA,
                                     .until = NQ_UNTIL_WINDOW,
                                     .window_us = NQ_MAX_DURATION}};
    struct cli_parse parse;
    const char *value;
    int key;
    cli_parse_start(&parse, &cli_once);
    while ((key = cli_parse_next(&parse, argc, argv, &value)) >= 0)
        if (!once_option(&r, key, value))
            return CLI_USAGE;
    if (key != CLI_PARSE_END)
        return key == CLI_PARSE_HELP ? CLI_OK : CLI_USAGE;
    if (!r.spec.queue)
        r.spec.queue = cli_configured(CLI_CONFIG_QUEUE, NULL);
    if (optind >= argc || *argv[optind] == '\0')
        return cli_usage("needs a key and a task type (see nanoq help once)");
    r.spec.unique_data = argv[optind];
    r.spec.unique_size = strlen(argv[optind]);
    optind++;
    const int exit_code = add_task(&r, argc, argv);
    text_free(&r.input);
    return exit_code;
}

static const struct cli_option once_options[] = {
    {ONCE_FOR, "for", "DURATION", "the key is taken for so long; default 3650d, the longest"},
    {'q', "queue", "QUEUE", "default: default"},
    {ONCE_RAW, "raw", NULL, "take the payload as it is; without, it must be JSON"},
    CLI_OPTION_FORMAT,
    CLI_OPTION_DB,
    CLI_OPTION_END,
};
const struct cli_command cli_once = {
    .name = "once",
    .args = "[OPTION...] KEY [--] TYPE [PAYLOAD|-]",
    .summary = "Enqueue a task unless one was under that key: once a deploy, a day, a release",
    .options = once_options,
    .notes = "Prints the id of the task, or of the one that took the key, which may be done and gone; both "
             "times the exit\n"
             "code is 0, and --format json says which it was. KEY is of this TYPE: another type has keys of "
             "its own. A\n"
             "task that ended as dead has its key too: nanoq retry. To free a key:\n"
             "DELETE FROM nanoq_windows WHERE task_id = ID.\n",
    .run = once_run,
};
