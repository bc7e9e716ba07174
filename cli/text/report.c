/* SPDX-License-Identifier: MIT */
/* Messages and exit codes. */
#include <stdarg.h>

#include "../cli.h"
#include "text.h"

void cli_hide_password(char *text)
{
    for (char *url = strstr(text, "://"); url; url = strstr(url + 3, "://")) {
        char *colon = url + 3 + strcspn(url + 3, ":/@ ");
        char *at = *colon == ':' ? strrchr(colon, '@') : NULL;
        if (at)
            memset(colon + 1, 'x', (size_t)(at - colon - 1));
    }
}

static void report_line(const char *fmt, va_list args) __attribute__((format(printf, 1, 0)));

static void report_line(const char *fmt, va_list args)
{
    char *message = NULL;
    struct text line = {0};
    int n = vasprintf(&message, fmt, args);
    if (n >= 0)
        cli_hide_password(message); /* a URL may stand where something else should */
    if (n >= 0 && cli.complain) {
        cli.complain(message);
        free(message);
        return;
    }
    text_str(&line, "nanoq");
    if (cli.command) {
        text_str(&line, " ");
        text_str(&line, cli.command);
    }
    text_str(&line, ": ");
    if (n >= 0) {
        text_safe(&line, message, (size_t)n);
        free(message);
    }
    text_str(&line, "\n");
    fwrite(line.p, 1, line.n, stderr);
    text_free(&line);
}

void cli_complain(const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    report_line(fmt, args);
    va_end(args);
}

int cli_usage(const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    report_line(fmt, args);
    va_end(args);
    return CLI_USAGE;
}

int cli_exit_of(int code)
{
    switch (code) {
    case NQ_OK:
        return CLI_OK;
    case NQ_EINVAL:
    case NQ_EURL:
    case NQ_ETOOBIG:
        return CLI_USAGE;
    case NQ_ENOTFOUND:
        return CLI_NOT_FOUND;
    case NQ_EDUPLICATE:
        return CLI_DUPLICATE;
    case NQ_ETIMEOUT:
        return CLI_TIMEOUT;
    case NQ_EUNAVAILABLE:
        return CLI_UNAVAILABLE;
    case NQ_EDENIED:
    case NQ_EREADONLY:
        return CLI_DENIED;
    default:
        return CLI_FAILURE;
    }
}

int cli_fail(const nq_err *err)
{
    if (err->code == NQ_ENOTMIGRATED)
        cli_complain("the nanoq tables do not exist in this database; run: nanoq migrate");
    else
        cli_complain("%s", err->message[0] != '\0' ? err->message : nq_strerror(err->code));
    return cli_exit_of(err->code);
}

int cli_worse(int a, int b)
{
    static const int order[] = {CLI_OK,    CLI_TIMEOUT, CLI_DUPLICATE, CLI_NOT_FOUND,
                                CLI_USAGE, CLI_FAILURE, CLI_DENIED,    CLI_UNAVAILABLE};
    int worst = a;
    for (size_t i = 0; i < sizeof order / sizeof order[0]; i++)
        if (order[i] == a || order[i] == b)
            worst = order[i];
    return worst;
}
