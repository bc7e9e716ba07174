/* SPDX-License-Identifier: MIT */
/* nanoq cron: finds its own commands. */
#include "cron.h"

#define CRON_ROW(NAME) &cron_##NAME,
static const struct cli_command *const cron_commands[] = {CRON_COMMANDS(CRON_ROW) NULL};
#define CRON_COUNT (sizeof cron_commands / sizeof cron_commands[0] - 1)
#define CRON_BARE  (sizeof "cron" /* and the space */)

static void cron_help(void)
{
    printf("usage: nanoq cron COMMAND [OPTION...] [ARG...]\n\n%s.\n\n", cli_cron.summary);
    for (size_t i = 0; i < CRON_COUNT; i++)
        printf("  %-9s %s\n", cron_commands[i]->name + CRON_BARE, cron_commands[i]->summary);
    puts("\nnanoq cron COMMAND --help says more.");
}

static int cron_find(int argc, char **argv)
{
    const char *names[CRON_COUNT + 1] = {0};
    char all[256];
    size_t n = 0;
    const char *word = argc > 1 ? argv[1] : "";
    if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0) {
        cron_help();
        return CLI_OK;
    }
    all[0] = '\0';
    for (size_t i = 0; i < CRON_COUNT; i++) {
        names[i] = cron_commands[i]->name + CRON_BARE;
        n += (size_t)snprintf(all + n, sizeof all - n, "%s%s", i > 0 ? ", " : "", names[i]);
        if (strcmp(word, names[i]) == 0) {
            cli.command = cron_commands[i]->name;
            return cron_commands[i]->run(argc - 1, argv + 1);
        }
    }
    if (argc < 2)
        return cli_usage("needs a command: %s", all);
    const char *near = cli_nearest(word, names);
    return cli_usage("unknown command '%s'%s%s. Allowed: %s", word, near ? "; did you mean " : "",
                     near ? near : "", all);
}

static const struct cli_option cron_options[] = {CLI_OPTION_END};
const struct cli_command cli_cron = {
    .name = "cron",
    .args = "COMMAND [OPTION...] [ARG...]",
    .summary = "Schedules: nanoq cron --help",
    .options = cron_options,
    .run = cron_find,
    .stops_at_first = true,
    .commands = cron_commands,
};
