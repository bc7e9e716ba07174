/* SPDX-License-Identifier: MIT */
/* nanoq cron import: the lines of crontabs as those of nanoq cron apply, for people to look at first. */
#include <errno.h>

#include "../text/text.h"
#include "cron.h"

/* What is being read. */
struct import {
    const char *file, *type;
    bool system; /* there is a user before the command */
    unsigned long line;
    char zone[65]; /* of CRON_TZ */
    unsigned taken, left;
};

enum { IMPORT_SYSTEM = 256, IMPORT_TYPE };

static void import_left(struct import *m, const char *why, const char *what)
{
    m->left++;
    cli_complain("%s, line %lu: not taken over: %s%s%.60s%s", m->file, m->line, why, what[0] ? " '" : "",
                 what, what[0] ? "'" : "");
}

static char *import_blank(char *p)
{
    return p + strspn(p, " \t");
}

/* Cut a word off; what is behind it. */
static char *import_word(char *p)
{
    char *end = p + strcspn(p, " \t");
    if (*end)
        *end++ = '\0';
    return import_blank(end);
}

/* NAME=value, as cron has it: not when it begins as a spec does. */
static bool import_setting(struct import *m, char *p)
{
    char *equals = strchr(p, '=');
    const size_t n = strspn(p, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_0123456789");
    if (!equals || n == 0 || import_blank(p + n) != equals || (p[0] >= '0' && p[0] <= '9'))
        return false;
    char *value = import_blank(equals + 1);
    size_t size = strlen(value);
    if (size >= 2 && (value[0] == '"' || value[0] == '\'') && value[size - 1] == value[0]) {
        value[size - 1] = '\0';
        value++;
    }
    p[n] = '\0';
    if (strcmp(p, "CRON_TZ") != 0)
        import_left(m, "the worker's environment is its own:", p);
    else if (strlen(value) < sizeof m->zone)
        snprintf(m->zone, sizeof m->zone, "%s", value);
    return true;
}

/* An unescaped % begins what cron gives to the command as its input. False: there is one. */
static bool import_percent(char *command)
{
    char *to = command;
    for (const char *p = command; *p; p++) {
        if (*p == '%')
            return false;
        if (p[0] == '\\' && p[1] == '%')
            p++;
        *to++ = *p;
    }
    *to = '\0';
    return true;
}

static void import_print(const struct import *m, const char *spec, const char *command)
{
    const char *base = strrchr(m->file, '/');
    struct text out = {0};
    char name[101];
    size_t n = 0;
    for (const char *p = base ? base + 1 : m->file; *p && n < 80; p++)
        name[n++] =
            strchr("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-", *p) ? *p : '_';
    snprintf(name + n, sizeof name - n, ":%lu", m->line);
    text_str(&out, "{\"name\": ");
    text_json(&out, name, strlen(name));
    text_str(&out, ", \"spec\": ");
    text_json(&out, spec, strlen(spec));
    if (m->zone[0]) {
        text_str(&out, ", \"zone\": ");
        text_json(&out, m->zone, strlen(m->zone));
    }
    text_str(&out, ", \"type\": ");
    text_json(&out, m->type, strlen(m->type));
    text_str(&out, ", \"payload_text\": ");
    text_json(&out, command, strlen(command));
    text_str(&out, "}\n");
    fwrite(out.p, 1, out.n, stdout);
    text_free(&out);
}

static void import_line(struct import *m, char *p)
{
    char spec[256];
    nq_err err = {0};
    int64_t next;
    size_t n = 0;
    p = import_blank(p);
    if (*p == '\0' || *p == '#' || import_setting(m, p))
        return;
    for (int i = 0; i < (*p == '@' && n == 0 ? 1 : 5) && *p && n < sizeof spec; i++) {
        char *word = p;
        const bool at = word[0] == '@';
        p = import_word(p);
        n += (size_t)snprintf(spec + n, sizeof spec - n, "%s%s", i > 0 ? " " : "", word);
        if (at)
            break;
    }
    if (n >= sizeof spec || nq_cron_next(spec, m->zone[0] ? m->zone : NULL, 0, &next, &err) != NQ_OK) {
        import_left(m, err.message[0] ? err.message : "the times are too long", "");
        return;
    }
    if (m->system) {
        char *user = p;
        p = import_word(p);
        if (*p && strcmp(user, "root") != 0)
            cli_complain("%s, line %lu: the worker runs it as its own user, cron did as '%.32s'", m->file,
                         m->line, user);
    }
    if (*p == '\0') {
        import_left(m, "there is no command", "");
    } else if (!text_is_utf8(p, strlen(p))) { /* a payload of JSON would hold another one */
        import_left(m, "the command is no UTF-8", "");
    } else if (!import_percent(p)) {
        import_left(m, "a % in the command gives it input:", p);
    } else {
        m->taken++;
        import_print(m, spec, p);
    }
}

static int import_file(struct import *m)
{
    struct text room = {0};
    FILE *in = cli_open_input(m->file, &room);
    char *text = NULL;
    size_t size = 0;
    ssize_t n;
    if (!in) {
        text_free(&room);
        return CLI_FAILURE;
    }
    if (strcmp(m->file, "-") == 0)
        m->file = "crontab";
    m->line = 0;
    m->zone[0] = '\0';
    while ((n = getline(&text, &size, in)) >= 0) {
        m->line++;
        while (n > 0 && strchr(" \t\r\n", text[n - 1]))
            text[--n] = '\0';
        if (strlen(text) == (size_t)n)
            import_line(m, text);
        else
            import_left(m, "there is a NUL in it", "");
    }
    const bool failed = ferror(in);
    free(text);
    fclose(in);
    text_free(&room);
    if (failed)
        cli_complain("cannot read %s", m->file);
    return failed ? CLI_FAILURE : CLI_OK;
}

static int import_run(int argc, char **argv)
{
    struct import m = {.type = "cron"};
    struct cli_parse parse;
    const char *value;
    bool forced = false;
    int key, exit_code = CLI_OK;
    cli_parse_start(&parse, &cron_import);
    while ((key = cli_parse_next(&parse, argc, argv, &value)) >= 0) {
        if (key == IMPORT_TYPE)
            m.type = value;
        forced = forced || key == IMPORT_SYSTEM;
    }
    if (key != CLI_PARSE_END)
        return key == CLI_PARSE_HELP ? CLI_OK : CLI_USAGE;
    if (optind >= argc)
        return cli_usage("needs a crontab, or - for stdin: crontab -l | nanoq cron import -");
    for (int i = optind; i < argc; i++) {
        m.file = argv[i];
        m.system = forced || strcmp(m.file, "/etc/crontab") == 0 || strncmp(m.file, "/etc/cron.d/", 12) == 0;
        exit_code = cli_worse(exit_code, import_file(&m));
    }
    if (m.left > 0)
        cli_complain("%u taken over, %u not", m.taken, m.left);
    return cli_worse(exit_code, m.left > 0 ? CLI_FAILURE : CLI_OK);
}

static const struct cli_option import_options[] = {
    {IMPORT_SYSTEM, "system", NULL,
     "there is a user before each command, as in /etc/crontab and /etc/cron.d, where it is the default"},
    {IMPORT_TYPE, "type", "T", "of the tasks; default cron"},
    CLI_OPTION_END};
const struct cli_command cron_import = {
    .name = "cron import",
    .args = "[OPTION...] FILE|-...",
    .summary = "Print crontabs as lines for cron apply, and name what cannot be taken over",
    .options = import_options,
    .notes = "crontab -l | nanoq cron import - | nanoq cron apply --source crontab -\n"
             "The payload is the command: nanoq work --type cron -- sh runs it. Exit code 1: something was "
             "not taken "
             "over.\n",
    .run = import_run,
};
