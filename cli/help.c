/* SPDX-License-Identifier: MIT */
/* nanoq help TOPIC: the pages of docs/topics, which are compiled in, with the tables that they name. */
#include "help.h"

#include "text/text.h"
#include "topics.h"

#define HELP_EXIT(NAME, number, meaning) {number, meaning},
static const struct {
    int number;
    const char *meaning;
} help_codes[] = {CLI_EXITS(HELP_EXIT)};
#define HELP_CODES (sizeof help_codes / sizeof help_codes[0])

static void help_add_exits(struct text *out)
{
    char line[128];
    for (size_t i = 0; i < HELP_CODES; i++) {
        snprintf(line, sizeof line, "    %-4d %s\n", help_codes[i].number, help_codes[i].meaning);
        text_str(out, line);
    }
}

static void help_add_keys(struct text *out)
{
    char line[160];
    for (size_t i = 0; i < CLI_CONFIG_COUNT; i++) {
        snprintf(line, sizeof line, "    %-7s %-20s %s\n", cli_config_rows[i].key,
                 cli_config_rows[i].variable, cli_config_rows[i].what);
        text_str(out, line);
    }
}

/* The page, with a table for each line that names one. */
static void help_page(struct text *out, const char *page)
{
    for (const char *line = page, *next; *line != '\0'; line = next) {
        const size_t n = strcspn(line, "\n");
        next = line + n + (line[n] == '\n' ? 1 : 0);
        if (n == strlen("{{exits}}") && strncmp(line, "{{exits}}", n) == 0)
            help_add_exits(out);
        else if (n == strlen("{{config}}") && strncmp(line, "{{config}}", n) == 0)
            help_add_keys(out);
        else
            text_add(out, line, (size_t)(next - line));
    }
}

void help_topics(void)
{
    for (size_t i = 0; help_pages[i].name; i++)
        printf("  %-11s %s\n", help_pages[i].name, help_pages[i].title);
}

void help_exits(void)
{
    struct text out = {0};
    help_add_exits(&out);
    fwrite(out.p, 1, out.n, stdout);
    text_free(&out);
}

bool help_topic(const char *name)
{
    struct text out = {0};
    size_t i = 0;
    while (help_pages[i].name && strcmp(help_pages[i].name, name) != 0)
        i++;
    if (!help_pages[i].name)
        return false;
    help_page(&out, help_pages[i].text);
    printf("%s\n", help_pages[i].title);
    for (size_t at = 0; at < out.n; at++)
        if (out.p[at] != '`') /* of Markdown, which the pages are written in */
            putchar(out.p[at]);
    text_free(&out);
    return true;
}

void help_no_topic(const char *name)
{
    const char *names[sizeof help_pages / sizeof help_pages[0]] = {0};
    struct text all = {0};
    for (size_t i = 0; help_pages[i].name; i++) {
        names[i] = help_pages[i].name;
        text_str(&all, i > 0 ? ", " : "");
        text_str(&all, names[i]);
    }
    const char *near = cli_nearest(name, names);
    cli_complain("nor is it a topic%s%s. Allowed: %s", near ? "; did you mean " : "", near ? near : "",
                 all.p);
    text_free(&all);
}

static void help_json_topics(void)
{
    for (size_t i = 0; help_pages[i].name; i++) {
        struct text page = {0}, out = {0};
        help_page(&page, help_pages[i].text);
        text_str(&out, i == 0 ? "{\"name\": " : ",\n{\"name\": ");
        text_json(&out, help_pages[i].name, strlen(help_pages[i].name));
        text_str(&out, ", \"title\": ");
        text_json(&out, help_pages[i].title, strlen(help_pages[i].title));
        text_str(&out, ", \"text\": ");
        text_json(&out, page.p, page.n);
        text_str(&out, "}");
        fwrite(out.p, 1, out.n, stdout);
        text_free(&page);
        text_free(&out);
    }
}

void help_json(const struct cli_command *const commands[], size_t n)
{
    printf("{\"version\": \"%s\", \"commands\": [\n", nq_version());
    for (size_t i = 0; i < n; i++) {
        cli_describe(commands[i], stdout);
        fputs(i + 1 < n ? "," : "", stdout);
    }
    fputs("], \"topics\": [\n", stdout);
    help_json_topics();
    fputs("], \"exits\": [\n", stdout);
    for (size_t i = 0; i < HELP_CODES; i++)
        printf("%s{\"code\": %d, \"meaning\": \"%s\"}", i > 0 ? ",\n" : "", help_codes[i].number,
               help_codes[i].meaning);
    fputs("]}\n", stdout);
}
