/* SPDX-License-Identifier: MIT */
/* A command's table of options as JSON: manual pages and completions are made from it. */
#include "cli.h"
#include "text/text.h"

static void describe_member(struct text *out, const char *name, const char *value)
{
    text_json(out, name, strlen(name));
    text_str(out, ": ");
    if (value)
        text_json(out, value, strlen(value));
    else
        text_str(out, "null");
}

static void describe_options(struct text *out, const struct cli_option *options)
{
    text_str(out, ", \"options\": [");
    for (const struct cli_option *o = options; o->name; o++) {
        const char letter[2] = {(char)o->key, '\0'};
        text_str(out, o == options ? "{" : ", {");
        describe_member(out, "name", o->name);
        text_str(out, ", ");
        describe_member(out, "letter", o->key < 256 ? letter : NULL);
        text_str(out, ", ");
        describe_member(out, "arg", o->arg);
        text_str(out, ", ");
        describe_member(out, "help", o->help);
        text_str(out, "}");
    }
    text_str(out, "]");
}

static void describe_object(struct text *out, const struct cli_command *command)
{
    text_str(out, "{");
    describe_member(out, "name", command->name);
    text_str(out, ", ");
    describe_member(out, "args", command->args);
    text_str(out, ", ");
    describe_member(out, "summary", command->summary);
    text_str(out, ", ");
    describe_member(out, "notes", command->notes);
    describe_options(out, command->options);
}

void cli_describe(const struct cli_command *command, FILE *to)
{
    struct text out = {0};
    describe_object(&out, command);
    text_str(&out, ", \"commands\": [");
    for (size_t i = 0; command->commands && command->commands[i]; i++) {
        text_str(&out, i == 0 ? "\n" : ",\n");
        describe_object(&out, command->commands[i]);
        text_str(&out, "}");
    }
    text_str(&out, "]}\n");
    fwrite(out.p, 1, out.n, to);
    text_free(&out);
}
