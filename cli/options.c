/* SPDX-License-Identifier: MIT */
/* Options of the commands: parsing, help, and values. */
#include <ctype.h>
#include <errno.h>

#include "cli.h"
#include "text/text.h"

#define OPTIONS_WORD 32

void cli_parse_start(struct cli_parse *p, const struct cli_command *command)
{
    *p = (struct cli_parse){.command = command};
    size_t n = 0, s = 0;
    if (command->stops_at_first)
        p->shorts[s++] = '+';
    p->shorts[s++] = ':';
    for (const struct cli_option *o = command->options; o->name; o++) {
        int has = !o->arg ? no_argument : o->arg[0] == '[' ? optional_argument : required_argument;
        p->longs[n++] = (struct option){o->name, has, NULL, o->key};
        if (o->key < 256) {
            p->shorts[s++] = (char)o->key;
            if (has == required_argument)
                p->shorts[s++] = ':';
        }
    }
    optind = 0; /* glibc: start afresh */
    opterr = 0;
}

static const char *options_name(const struct cli_parse *p, int key)
{
    for (const struct cli_option *o = p->command->options; o->name; o++)
        if (o->key == key)
            return o->name;
    return NULL;
}

static void options_unknown(const struct cli_parse *p, const char *word)
{
    const char *names[sizeof p->longs / sizeof p->longs[0] + 1] = {0};
    struct text allowed = {0};
    char bare[64];
    for (size_t i = 0; p->command->options[i].name; i++) {
        names[i] = p->command->options[i].name;
        text_str(&allowed, i > 0 ? ", --" : "--");
        text_str(&allowed, names[i]);
    }
    const char *start = word + strspn(word, "-");
    size_t n = strcspn(start, "=");
    n = n < sizeof bare ? n : sizeof bare - 1;
    memcpy(bare, start, n);
    bare[n] = '\0';
    const char *near = strncmp(word, "--", 2) == 0 ? cli_nearest(bare, names) : NULL;
    size_t shown = strncmp(word, "--", 2) == 0 ? strcspn(word, "=") : strlen(word); /* no values: secrets */
    if (near) {
        cli_complain("unknown option '%.*s'; did you mean --%s? Allowed: %s", (int)shown, word, near,
                     allowed.p);
    } else {
        cli_complain("unknown option '%.*s'. Allowed: %s", (int)shown, word, allowed.p);
    }
    text_free(&allowed);
}

static int options_bad(const struct cli_parse *p, int got, char **argv)
{
    const char *name = options_name(p, optopt);
    if (got == ':') {
        cli_complain("option --%s needs a value", name ? name : "?");
    } else if (optopt != 0 && name) {
        cli_complain("option --%s takes no value", name);
    } else if (optopt != 0) {
        char letter[3] = {'-', (char)optopt, '\0'};
        options_unknown(p, letter);
    } else {
        options_unknown(p, argv[optind - 1]);
    }
    return CLI_PARSE_BAD;
}

static bool options_format(const char *what, const char *value)
{
    static const char *const names[] = {[CLI_TABLE] = "table", [CLI_JSON] = "json", [CLI_TSV] = "tsv"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (strcmp(value, names[i]) == 0) {
            cli.format = (enum cli_format)i;
            return true;
        }
    }
    cli_complain("%s: '%s' is none of table, json, tsv", what, value);
    return false;
}

static int options_help(const struct cli_parse *p, const char *how)
{
    if (how && strcmp(how, "json") != 0) {
        cli_complain("--help: '%s' is not json", how);
        return CLI_PARSE_BAD;
    }
    if (how)
        cli_describe(p->command, stdout);
    else
        cli_help_of(p->command);
    return CLI_PARSE_HELP;
}

/* The command line is read: what it left open, the configuration says. */
static int options_end(const struct cli_parse *p)
{
    const char *from, *format;
    if (!cli_config_load())
        return CLI_PARSE_BAD;
    format = cli_configured(CLI_CONFIG_FORMAT, &from);
    /* A command without --format has one way to print. Not the default: --json said so. */
    if (!format || cli.format_said || cli.format != CLI_TABLE || !options_name(p, CLI_KEY_FORMAT))
        return CLI_PARSE_END;
    return options_format(from, format) ? CLI_PARSE_END : CLI_PARSE_BAD;
}

int cli_parse_next(struct cli_parse *p, int argc, char **argv, const char **value)
{
    for (;;) {
        int key = getopt_long(argc, argv, p->shorts, p->longs, NULL);
        *value = optarg;
        if (key == -1)
            return options_end(p);
        if (key == '?' || key == ':')
            return options_bad(p, key, argv);
        if (key == 'h')
            return options_help(p, optarg);
        if (key == CLI_KEY_DB) {
            cli.db = optarg;
        } else if (key == CLI_KEY_CONFIG) {
            cli.config = optarg;
        } else if (key == CLI_KEY_FORMAT) {
            if (!options_format("--format", optarg))
                return CLI_PARSE_BAD;
            cli.format_said = true;
        } else {
            return key;
        }
    }
}

void cli_help_of(const struct cli_command *command)
{
    printf("usage: nanoq %s %s\n\n%s.\n\n", command->name, command->args, command->summary);
    for (const struct cli_option *o = command->options; o->name; o++) {
        char left[64];
        bool optional = o->arg && o->arg[0] == '[';
        snprintf(left, sizeof left, "%c%c%s--%s%s%s", o->key < 256 ? '-' : ' ', o->key < 256 ? o->key : ' ',
                 o->key < 256 ? ", " : "  ", o->name, o->arg && !optional ? " " : "", o->arg ? o->arg : "");
        printf("  %-28s %s\n", left, o->help);
    }
    if (command->notes)
        printf("\n%s", command->notes);
}

bool cli_take_int(const char *what, const char *text, int64_t low, int64_t high, int64_t *out)
{
    char *end = NULL;
    errno = 0;
    long long v = strtoll(text, &end, 10);
    if (*text == '\0' || isspace((unsigned char)*text) || *text == '+' || *end != '\0' || errno != 0 ||
        v < low || v > high) {
        cli_complain("%s: '%s' is not a whole number from %lld to %lld", what, text, (long long)low,
                     (long long)high);
        return false;
    }
    *out = v;
    return true;
}

bool cli_take_duration(const char *what, const char *text, int64_t low, int64_t *out)
{
    nq_err err = {0};
    int64_t v;
    if (nq_parse_duration(text, &v, &err) != NQ_OK) {
        cli_complain("%s: %s", what, err.message);
        return false;
    }
    if (v < low) {
        cli_complain("%s: '%s' is less than %g s", what, text, (double)low / 1e6);
        return false;
    }
    *out = v;
    return true;
}

int cli_parse_rate_time(const char *text, int64_t *us, nq_err *err)
{
    char *one = cli_format("%s%s", text[0] != '\0' && strchr("smhd", text[0]) ? "1" : "", text);
    const int rc = nq_parse_duration(one, us, err);
    free(one);
    return rc;
}

bool cli_take_moment(const char *option, const char *value, int64_t *us)
{
    nq_err err = {0};
    int64_t ago = 0;
    const bool date = strchr(value, '-') || value[0] == '@' || strchr(value, ':');
    const int rc = date ? cli_parse_time(value, us, &err) : nq_parse_duration(value, &ago, &err);
    if (rc != NQ_OK) {
        cli_complain("%s: %s", option, err.message);
        return false;
    }
    if (!date)
        *us = cli_now_us(CLOCK_REALTIME) - ago;
    if (*us <= 0) {
        cli_complain("%s: '%s' is before 1970", option, value);
        return false;
    }
    return true;
}

bool cli_take_size(const char *what, const char *text, uint64_t low, uint64_t *out)
{
    static const char units[] = "KMGT";
    char *end = NULL;
    errno = 0;
    unsigned long long v = isdigit((unsigned char)*text) ? strtoull(text, &end, 10) : 0;
    const char *unit = end && *end != '\0' ? strchr(units, toupper((unsigned char)*end)) : NULL;
    unsigned shift = unit ? 10 * (unsigned)(unit - units + 1) : 0;
    if (!end || errno != 0 || end[unit ? 1 : 0] != '\0' || v > UINT64_MAX >> shift ||
        v << shift > INT64_MAX) {
        cli_complain("%s: '%s' is not a size: a whole number of bytes, or one with K, M, G or T: 512M", what,
                     text);
        return false;
    }
    if (v << shift < low) {
        const bool whole = low >= 1u << 20;
        cli_complain("%s: '%s' is less than %llu%s", what, text,
                     (unsigned long long)(whole ? low >> 20 : low), whole ? "M" : "");
        return false;
    }
    *out = v << shift;
    return true;
}

bool cli_take_keep(const char *what, const char *text, int64_t *out)
{
    if (strcmp(text, "forever") == 0) {
        *out = NQ_FOREVER;
        return true;
    }
    return cli_take_duration(what, text, 0, out);
}

bool cli_take_id(const char *text, nq_id *out)
{
    bool digits = *text != '\0' && strspn(text, "0123456789") == strlen(text);
    errno = 0;
    long long v = digits ? strtoll(text, NULL, 10) : 0;
    if (!digits || errno != 0 || v <= 0) {
        cli_complain("'%s' is not a task id: a whole number from 1", text);
        return false;
    }
    *out = v;
    return true;
}
