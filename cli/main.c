/* SPDX-License-Identifier: MIT */
/* nanoq: the command. Dispatch, help, and hiding passwords from the process list. */
#include <errno.h>
#include <fcntl.h>
#include <locale.h>
#include <unistd.h>

#include "cli.h"
#include "help.h"

#define MAIN_ROW(NAME) &cli_##NAME,
static const struct cli_command *const main_commands[] = {CLI_COMMANDS(MAIN_ROW)};
#define MAIN_COMMANDS (sizeof main_commands / sizeof main_commands[0])

#define MAIN_NAMES    320 /* room for all their names */

/* Work on a copy of argv, and overwrite the passwords of URLs in the original: ps shows that one. */
static char **main_private(int argc, char **argv)
{
    char **copy = cli_alloc(((size_t)argc + 1) * sizeof copy[0]);
    for (int i = 0; i < argc; i++) {
        copy[i] = cli_format("%s", argv[i]);
        cli_hide_password(argv[i]);
    }
    return copy;
}

/* A descriptor 0, 1 or 2 that is closed would be given to the database, and then printed to. */
static void main_descriptors(void)
{
    int fd;
    do {
        fd = open("/dev/null", O_RDWR);
    } while (fd >= 0 && fd <= 2);
    if (fd > 2)
        close(fd);
}

static int main_help(void)
{
    puts("nanoq: a durable task queue in a database\n\n"
         "usage: nanoq COMMAND [OPTION...] [ARG...]\n");
    for (size_t i = 0; i < MAIN_COMMANDS; i++)
        printf("  %-9s %s\n", main_commands[i]->name, main_commands[i]->summary);
    puts(
        "  help      Show this, or the help of a command or topic: nanoq help add\n"
        "  version   Show the version\n\n"
        "The database is, in this order: --db URL, the environment's NANOQ_DB, the configuration (nanoq "
        "config), or\n"
        "a SQLite file of the user's, $XDG_STATE_HOME/nanoq/nanoq.db or ~/.local/state/nanoq/nanoq.db, which "
        "is made\n"
        "when it is needed. Others are prepared once by: nanoq migrate\n\n"
        "  sqlite:PATH    mysql://user@host/database    mysql://user@/database?socket=PATH\n\n"
        "Topics, each shown by nanoq help TOPIC:\n");
    help_topics();
    puts("\nExit codes:\n");
    help_exits();
    return CLI_OK;
}

/* "add, work, ..., help, version". */
static void main_names(char out[MAIN_NAMES])
{
    size_t n = 0;
    out[0] = '\0';
    for (size_t i = 0; i < MAIN_COMMANDS && n < MAIN_NAMES; i++)
        n += (size_t)snprintf(out + n, MAIN_NAMES - n, "%s, ", main_commands[i]->name);
    if (n < MAIN_NAMES)
        snprintf(out + n, MAIN_NAMES - n, "help, version");
}

static const struct cli_command *main_find(const char *name)
{
    const char *names[MAIN_COMMANDS + 3] = {"help", "version"};
    size_t n = 2;
    for (size_t i = 0; i < MAIN_COMMANDS; i++) {
        if (strcmp(name, main_commands[i]->name) == 0)
            return main_commands[i];
        names[n++] = main_commands[i]->name;
    }
    const char *near = cli_nearest(name, names);
    char all[MAIN_NAMES];
    main_names(all);
    cli_complain("unknown command '%s'%s%s. Allowed: %s", name, near ? "; did you mean " : "",
                 near ? near : "", all);
    return NULL;
}

/* nanoq help WORD [WORD]: of a command, of one of a command's own, a topic; --json: all there is. */
static int main_help_of(int argc, char **argv)
{
    if (strcmp(argv[0], "--json") == 0) {
        help_json(main_commands, MAIN_COMMANDS);
        return CLI_OK;
    }
    if (strcmp(argv[0], "help") == 0) {
        puts("usage: nanoq help [COMMAND | TOPIC]\n       nanoq help --json\n\nShow what there is, the "
             "options of a command, or a topic; --json: all of it, for programs.");
        return CLI_OK;
    }
    if (strcmp(argv[0], "version") == 0) {
        puts("usage: nanoq version\n\nShow the version.");
        return CLI_OK;
    }
    if (strcmp(argv[0], cli_config.name) == 0) { /* the one word that is both */
        cli_help_of(&cli_config);
        putchar('\n');
    }
    if (help_topic(argv[0]))
        return CLI_OK;
    const struct cli_command *command = main_find(argv[0]);
    if (!command) {
        help_no_topic(argv[0]);
        return CLI_USAGE;
    }
    for (size_t i = 0; argc > 1 && command->commands && command->commands[i]; i++)
        if (strcmp(command->commands[i]->name + strlen(command->name) + 1, argv[1]) == 0)
            command = command->commands[i];
    cli_help_of(command);
    return CLI_OK;
}

static int main_version(void)
{
    printf("nanoq %s\n", nq_version());
    return CLI_OK;
}

static int main_dispatch(int argc, char **argv)
{
    int i = 1;
    while (i < argc && argv[i][0] == '-') {
        if (strcmp(argv[i], "--db") == 0 && i + 1 < argc) {
            cli.db = argv[i + 1];
            i += 2;
        } else if (strncmp(argv[i], "--db=", 5) == 0) {
            cli.db = argv[i++] + 5;
        } else if (strcmp(argv[i], "--config") == 0 && i + 1 < argc) {
            cli.config = argv[i + 1];
            i += 2;
        } else if (strncmp(argv[i], "--config=", 9) == 0) {
            cli.config = argv[i++] + 9;
        } else if (strcmp(argv[i], "--version") == 0 || strcmp(argv[i], "-V") == 0) {
            return main_version();
        } else if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            return main_help();
        } else {
            return cli_usage(
                "unknown option '%.*s' before the command. Allowed: --config, --db, --help, --version",
                (int)strcspn(argv[i], "="), argv[i]);
        }
    }
    if (i >= argc) {
        char all[MAIN_NAMES];
        main_names(all);
        return cli_usage("needs a command: %s", all);
    }
    if (strcmp(argv[i], "version") == 0)
        return main_version();
    bool help = strcmp(argv[i], "help") == 0;
    if (help && i + 1 >= argc)
        return main_help();
    if (help)
        return main_help_of(argc - i - 1, argv + i + 1);
    const struct cli_command *command = main_find(argv[i]);
    if (!command)
        return CLI_USAGE;
    cli.command = command->name;
    return command->run(argc - i, argv + i);
}

/* Of a command that ended so, whose output cannot be written. */
static int main_unwritten(int exit_code)
{
    if (!cli.unwritten)
        return cli_worse(exit_code, CLI_FAILURE);
    return exit_code == CLI_FAILURE ? cli.unwritten : cli_worse(exit_code, cli.unwritten);
}

int main(int argc, char **argv)
{
    main_descriptors();
    argv = main_private(argc, argv);
    setlocale(LC_CTYPE, "C.UTF-8"); /* widths of characters, whatever the user's locale */
    int exit_code = main_dispatch(argc, argv);
    if (fflush(stdout) != 0 || ferror(stdout)) {
        char buf[128];
        cli_complain("cannot write the output: %s", strerror_r(errno, buf, sizeof buf));
        exit_code = main_unwritten(exit_code);
    }
    for (int i = 0; i < argc; i++)
        free(argv[i]);
    free(argv);
    return exit_code;
}
