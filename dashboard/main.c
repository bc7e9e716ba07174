/* SPDX-License-Identifier: MIT */
/* nanoq-dashboard: its options, and starting it. */
#include <locale.h>
#include <signal.h>
#include <unistd.h>

#include "../cli/text/log.h"
#include "dash.h"

enum {
    MAIN_LISTEN = 256,
    MAIN_TOKENS,
    MAIN_READ_ONLY,
    MAIN_HOST,
    MAIN_MASK,
    MAIN_HEADER,
    MAIN_FROM,
    MAIN_ADMIN,
    MAIN_VERSION
};

static const struct cli_option main_options[] = {
    {MAIN_LISTEN, "listen", "ADDRESS", "a port, or a numeric address with one; default 127.0.0.1:8080"},
    {MAIN_TOKENS, "token-file", "FILE",
     "lines 'admin TOKEN NAME' and 'viewer TOKEN NAME'; only its owner may read it"},
    {MAIN_READ_ONLY, "read-only", NULL, "nobody changes anything"},
    {MAIN_HOST, "host", "NAME", "a host name that browsers call it by; may be repeated"},
    {MAIN_MASK, "mask", "KEY,...",
     "show no values of these keys: in JSON payloads, results, errors; and headers"},
    {MAIN_HEADER, "trust-header", "NAME", "a proxy says in this header who asks, who is a viewer then;"},
    {MAIN_FROM, "trust-from", "CIDR,...", "where it comes from one of these addresses"},
    {MAIN_ADMIN, "trust-admin", "USER,...", "and these may change something; *: all"},
    {MAIN_VERSION, "version", NULL, "show the version"},
    CLI_OPTION_DB,
    CLI_OPTION_END,
};
static const struct cli_command main_command = {
    .name = "dashboard",
    .args = "[OPTION...]",
    .summary = "Serve pages that show and steer queues, tasks, workers and schedules",
    .options = main_options,
    .notes = "Anything but a loopback address needs --token-file, or --trust-header and --trust-from. On "
             "loopback, without\n"
             "them, whoever can log in to this host may change everything. docs/dashboard.md\n",
};

static bool main_option(int key, const char *value)
{
    switch (key) {
    case MAIN_LISTEN:
        dash.listen = value;
        return true;
    case MAIN_TOKENS:
        dash.token_file = value;
        return true;
    case MAIN_READ_ONLY:
        dash.read_only = true;
        return true;
    case MAIN_HOST:
        if (dash.nhosts == sizeof dash.hosts / sizeof dash.hosts[0])
            return cli_usage("--host may be given %zu times", dash.nhosts) == CLI_OK;
        dash.hosts[dash.nhosts++] = value;
        return true;
    case MAIN_MASK:
        return mask_start(value);
    case MAIN_HEADER:
        dash.trust_header = value;
        return true;
    case MAIN_FROM:
        dash.trust_from = value;
        return true;
    default:
        dash.trust_admin = value;
        return true;
    }
}

/* "mysql://app:secret@db/app?password_file=x": "mysql://app@db/app" */
static char *main_database(const char *url)
{
    char *shown = cli_format("%.*s", (int)strcspn(url, "?"), url);
    char *user = strstr(shown, "://"), *at = user ? strrchr(shown, '@') : NULL;
    char *colon = at ? memchr(user + 3, ':', (size_t)(at - user - 3)) : NULL;
    if (colon)
        memmove(colon, at, strlen(at) + 1);
    return shown;
}

/* Whoever may reach it is to be known. */
static bool main_safe(bool loopback, const char *told)
{
    if (loopback || !access_open())
        return true;
    cli_usage("%s can be reached from other hosts: give --token-file, or --trust-header and --trust-from",
              told);
    return false;
}

static int main_serve(void)
{
    char told[80], *host = NULL;
    bool loopback = false, own = false;
    int exit_code = CLI_OK;
    if (!access_start())
        return CLI_USAGE;
    char *url = cli_url(&exit_code, &own);
    if (!url)
        return exit_code;
    dash.database = main_database(url);
    explicit_bzero(url, strlen(url));
    free(url);
    const int listening = net_listen(dash.listen, told, &loopback);
    if (listening < 0)
        return CLI_USAGE;
    /* What it is listening on is a name of its own, but for those that stand for every address. */
    host = cli_format("%.*s", (int)(strrchr(told, ':') - told), told);
    if (strcmp(host, "0.0.0.0") != 0 && strcmp(host, "[::]") != 0 &&
        dash.nhosts < sizeof dash.hosts / sizeof dash.hosts[0])
        dash.hosts[dash.nhosts++] = host;
    if (!main_safe(loopback, told))
        exit_code = CLI_USAGE;
    else
        exit_code = cli_open(&dash.q);
    if (exit_code == CLI_OK) {
        exit_code = http_run(listening, told);
        nq_close(dash.q);
    } else {
        close(listening);
    }
    free(host);
    free(dash.database);
    return exit_code;
}

static char **main_private(int argc, char **argv)
{
    char **copy = cli_alloc(((size_t)argc + 1) * sizeof copy[0]);
    for (int i = 0; i < argc; i++) {
        copy[i] = cli_format("%s", argv[i]);
        cli_hide_password(argv[i]);
    }
    return copy;
}

int main(int argc, char **argv)
{
    struct cli_parse parse;
    const char *value;
    int key;
    bool good = true;
    memory_start();
    char **copy = main_private(argc, argv);
    setlocale(LC_CTYPE, "C.UTF-8");
    signal(SIGPIPE, SIG_IGN);
    cli.command = main_command.name;
    dash.listen = "127.0.0.1:8080";
    cli_parse_start(&parse, &main_command);
    while (good && (key = cli_parse_next(&parse, argc, copy, &value)) >= 0 && key != MAIN_VERSION)
        good = main_option(key, value);
    int exit_code = CLI_OK;
    if (!good || key == CLI_PARSE_BAD)
        exit_code = CLI_USAGE;
    else if (key == MAIN_VERSION)
        printf("nanoq-dashboard %s\n", nq_version());
    else if (key == CLI_PARSE_END && optind < argc)
        exit_code = cli_usage("takes no argument '%s'", copy[optind]);
    else if (key == CLI_PARSE_END)
        exit_code = main_serve();
    for (int i = 0; i < argc; i++)
        free(copy[i]);
    free(copy);
    return exit_code;
}
